"""A program as a graph of terms, in which equal terms are one.

Calls are inlined, and what is computed twice from the same terms stands once, however the program came to compute it
again. So the value of a function and what its derivative computes anew from the arguments are the same terms, and one
of them can be replaced wherever it is used.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from handprop._compat import inner, programs_of
from handprop.verifier.programs.jaxprs import is_key
from handprop.verifier.programs.running import bind
from handprop.verifier.programs.walk import Shallow

__all__ = ["Term", "Way", "evaluated", "graph_of", "source_of", "terms_before"]

ABBREVIATED = "..."  # in the text of an array that is not written in full
UNLIKE = itertools.count()
SAME_ENTRIES = ("reshape", "squeeze", "broadcast_in_dim", "transpose", "copy", "copy_p", "convert_element_type",
                "optimization_barrier")  # fmt: skip


class Term(NamedTuple):
    """Output ``place`` of an equation of these operands; without an equation, an input or a constant.

    Terms with the same ``digest`` are equal.
    """

    digest: str
    eqn: Any = None
    operands: tuple["Term", ...] = ()
    place: int = 0
    constant: Any = None


class _Terms(Shallow):
    """The interpretation whose values are terms. Loops and branches stay whole."""

    def constant(self, const: Any) -> Term:
        key = ("key", id(const)) if is_key(const) else (const.dtype, const.shape, np.asarray(const).tobytes())
        return Term(_digest(*key), constant=const)

    def primitive(self, eqn: Any, operands: list[Term]) -> list[Term]:
        digest = _digest(eqn.primitive.name, *_params(eqn), *(term.digest for term in operands))
        return [Term(f"{digest} {i}", eqn, tuple(operands), i) for i in range(len(eqn.outvars))]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _params(eqn: Any) -> Iterator[Any]:
    """What equations have in common that do the same with equal operands: programs inside them count by what they
    compute. An equation of which this is not known is like no other."""
    texts = [(name, value.tobytes() if hasattr(value, "tobytes") else str(value))
             for name, value in sorted(eqn.params.items()) if not programs_of(value)]  # fmt: skip
    if eqn.effects or any(isinstance(text, str) and ABBREVIATED in text for _, text in texts):
        yield next(UNLIKE)
    yield from texts
    for program in inner(eqn):
        yield tuple(term.digest for term in graph_of(program)[1])


def graph_of(program: Any) -> tuple[list[Term], list[Term]]:
    """The inputs and the outputs of a closed jaxpr, as terms; the inputs of all programs have the same names."""
    inputs = [Term(f"input {i}") for i in range(len(program.jaxpr.invars))]
    return inputs, _Terms().evaluate(program, inputs)


def terms_before(wanted: Iterable[Term], known: Set[str]) -> Iterator[Term]:
    """Yield every term that the wanted ones are computed from, once, down to those that are known."""
    met, left = set(known), list(wanted)
    while left:
        term = left.pop()
        if term.digest not in met:
            met.add(term.digest)
            left += term.operands
            yield term


def source_of(term: Term, x: Any) -> tuple[Term, Any]:
    """The term whose entries this one only rearranges, and its value where this one's value is ``x``."""
    while term.eqn is not None and term.eqn.primitive.name in SAME_ENTRIES:
        before, after = term.eqn.invars[0].aval, term.eqn.outvars[0].aval
        if math.prod(before.shape) != math.prod(after.shape) or before.dtype != after.dtype:
            break
        if "permutation" in term.eqn.params:
            x = jnp.transpose(x, np.argsort(term.eqn.params["permutation"]).tolist())
        term, x = term.operands[0], jnp.reshape(x, before.shape)
    return term, x


Way = tuple[Sequence[Term], Callable[[list[Any]], Any]]
"""Another way to compute a term: from which terms, and how from their values."""


def evaluated(wanted: Sequence[Term], known: Mapping[str, Any],
              another: Callable[[Term], Way | None] = lambda term: None) -> list[Any]:  # fmt: skip
    """The values of the wanted terms, from the values that are known by a term's digest.

    ``another(term)``: another way to compute a term than its equation; None where there is none. No function calls
    itself here, as programs are longer than Python's stack.
    """
    values, left = dict(known), list(wanted)
    while left:
        term = left[-1]
        if term.digest in values:
            left.pop()
        elif term.eqn is None:
            values[term.digest] = term.constant
        else:
            operands, compute = another(term) or _as_written(term)
            lacking = [operand for operand in operands if operand.digest not in values]
            left += lacking
            if not lacking:
                values[term.digest] = compute([values[operand.digest] for operand in operands])
    return [values[term.digest] for term in wanted]


def _as_written(term: Term) -> Way:
    return term.operands, lambda values: bind(term.eqn, values)[term.place]
