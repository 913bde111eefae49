"""What is known about the decisions that a value rests on: see :mod:`handprop.verifier.proof.decision_bits`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from handprop.verifier.programs.primitives import Kind

__all__ = ["UNBOUNDED", "Axes", "Fact", "Label", "decided", "elementwise", "is_float", "over", "own", "relabelled",
           "spread_out", "text_of"]  # fmt: skip

# What decides, and for each axis of the array along which of the decisions' own axes it runs: None where all entries
# along it share one decision.
Axes: TypeAlias = "tuple[int | None, ...]"
Label: TypeAlias = "tuple[Any, Axes]"


class Fact(NamedTuple):
    """``name``: equal for values computed alike. ``known``: no input is in it. ``bits``: of decisions in one term.
    ``support``: all decisions an entry depends on, with their bits. ``kind`` as the field has it; ``most``: of
    integers, the largest size. ``opposite``: the name of what this is the negative of."""

    name: int
    known: bool = False
    bits: float = 0.0
    support: "dict[Label, float]" = {}  # noqa: RUF012 (never changed)
    kind: Kind = Kind.RATIONAL
    most: float = math.inf
    opposite: int | None = None

    @property
    def weight(self) -> float:
        return math.fsum(self.support.values())

    def capped(self) -> "Fact":
        return self if self.bits == math.inf else self._replace(bits=min(self.bits, self.weight))

    def nonlinear(self) -> "Fact":
        return self._replace(bits=self.weight if self.bits else 0.0)


UNBOUNDED = Fact(0, bits=math.inf)


def is_float(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.floating))


def decided(eqn: Any, fact: Fact, support: "dict[Label, float]", label: Label, bits: float) -> Fact:
    """A decision more, beside all that the operand rests on; none where known integers are ordered."""
    support = {**support, label: bits} if is_float(eqn.invars[0].aval) else support
    return fact._replace(support=support, bits=math.fsum(support.values()))


def over(fact: Fact, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool = False) -> "dict[Label, float]":
    """The decisions of all entries along the axes together; ``keep``: the axes remain, each entry resting on all."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        over = tuple(i for i in axes if along[i] is not None)
        kept = tuple(None if i in axes else x for i, x in enumerate(along) if keep or i not in axes)
        label = ((base, "over", along, over) if over else base, kept)
        support[label] = support.get(label, 0.0) + weight * math.prod(shape[i] for i in over)
    return support


def text_of(params: dict) -> str:
    """Parameters as text; what has none is told apart by what it is."""
    return " ".join(f"{k}={id(v) if callable(v) else v}" for k, v in sorted(params.items()))


def elementwise(eqn: Any, facts: list[Fact], shapes: list, bits: float) -> Fact:
    rank = len(eqn.outvars[0].aval.shape)
    support: dict[Label, float] = {}
    for fact, shape in zip(facts, shapes, strict=True):
        for (base, along), weight in fact.support.items():
            support[base, along if len(shape) == rank else (None,) * rank] = weight
    return facts[0]._replace(bits=bits, support=support)


def own(base: Any, eqn: Any) -> Label:
    """Decisions of this equation, one an entry."""
    return base, tuple(range(len(eqn.outvars[0].aval.shape)))


def relabelled(fact: Fact, place: Callable[[Axes], Axes], mark: Any = None) -> Fact:
    """The same decisions along other axes; with ``mark``, other ones where they differ along the first axis."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        other = (base, along[0], mark) if mark is not None and along and along[0] is not None else base
        label = (other, place(along))
        support[label] = support.get(label, 0.0) + weight
    return fact._replace(support=support)


def spread_out(eqn: Any, facts: list[Fact]) -> Fact:
    """Sums over places: as many decisions as there are entries."""
    fact = facts[-1] if len(facts) > 1 else facts[0]
    size = math.prod(eqn.invars[0].aval.shape)
    label = own((eqn.primitive.name, fact.name, text_of(eqn.params)), eqn)
    weight = size * math.fsum(f.weight for f in facts)
    return fact._replace(support={label: weight} if weight else {})
