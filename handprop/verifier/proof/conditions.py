"""The assumptions of a proof, checked at the given input.

Where the argument of log, sqrt and the like is not known to be in the function's domain, the proof assumes that it is.
If the assumption holds at the user's own input, the report states it in its first line. If it does not, another proof
is tried in which it is decided.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handprop.verifier.problem import Problem
from handprop.verifier.programs import frames, jaxprs
from handprop.verifier.programs.primitives import Trait, has, row
from handprop.verifier.proof.field.arithmetic import Field
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run

__all__ = ["as_given", "described", "holds"]

SMALL = 8
SOME_PRIME = 2**31 - 1


class _Outside(Exception):
    """An assumption does not hold."""


class _InFloats(Run):
    """A run in which every value is concrete, in the program's own arithmetic."""

    def embed(self, array: np.ndarray, read: bool = True) -> Any:
        if self.equation is not None and self.equation.primitive.name == "iota":  # its rule counts in integers
            return array.astype(self.equation.outvars[0].aval.dtype)
        return array


def holds(programs: Sequence[Any], inputs: Sequence[Any], assumed: Mapping[int, tuple[Any, str]]) -> bool:
    """Whether every function that was assumed to be defined is defined when both programs run on the given input.

    Equations are recognized by primitive and source line, because proofs also run over batched versions of the
    programs.
    """
    places = {_place(equation) for equation, _ in assumed.values()}
    names = {name for name, _ in places}

    def is_assumed(eqn: Any) -> bool:
        name = eqn.primitive.name
        return (has(eqn, Trait.OF_POSITIVE) and name != "pow") or (name in names and _place(eqn) in places)

    def observed(eqn: Any, operands: list[Any], step: Any) -> list[Any]:
        outputs = step(eqn, operands)
        if is_assumed(eqn) and not _in_domain(eqn.primitive.name, operands, outputs):
            raise _Outside
        return outputs

    run = _InFloats(Field(SOME_PRIME), 0, observer=observed)
    given = [x if jaxprs.is_key(x) else np.asarray(x) for x in inputs]
    try:
        with np.errstate(all="ignore"):
            for program in programs:
                evaluate(run, program, list(given))
    except (_Outside, Unsupported):
        return False
    return True


def _place(equation: Any) -> tuple[str, tuple[str, int] | None]:
    found = frames.user_frames(equation)
    return equation.primitive.name, (found[0].file, found[0].line) if found else None


def _in_domain(name: str, operands: Sequence[Any], outputs: Sequence[Any]) -> bool:
    if (domain := row(name).domain) is not None:
        return bool(np.all(domain(*(np.asarray(x) for x in operands))))
    taken, made = ([np.isfinite(np.asarray(x, np.float64)) for x in xs] for xs in (operands, outputs))
    if len({x.shape for x in (*taken, *made)}) == 1:  # entry by entry
        return bool((np.all(made, axis=0) | ~np.all(taken, axis=0)).all())
    return all(x.all() for x in (*taken, *made))


def described(equation: Any, what: str) -> str:
    """The assumption with the line of the user's code that it is made for."""
    found = frames.user_frames(equation)
    if not found:
        return what
    return f"{what} ({found[0].file.rsplit('/', 1)[-1]}:{found[0].line})"


def as_given(problem: Problem) -> tuple[str, ...]:
    """The arguments that the proof covers only at their given values: integers, booleans, keys."""
    given = zip(problem.in_paths, problem.inputs, _used(problem), strict=True)
    kept = ((path, x) for path, x, used in given if used and not jaxprs.is_float(x.dtype))
    return tuple(f"{path} {_value(x)}, as given" for path, x in kept)


def _used(problem: Problem) -> list[bool]:
    used = [False] * len(problem.inputs)
    for f in (problem.candidate, problem.reference):
        program = jaxprs.trace(f, problem.inputs)
        met = {id(v) for eqn in program.jaxpr.eqns for v in eqn.invars} | {id(v) for v in program.jaxpr.outvars}
        used = [u or id(v) in met for u, v in zip(used, program.jaxpr.invars, strict=True)]
    return used


def _value(x: Any) -> str:
    if jaxprs.is_key(x):
        return "is the key it is"
    array = np.asarray(x)
    if array.size > SMALL:
        return "holds the numbers it does"
    return f"is {array.tolist()}" if array.ndim == 0 else f"holds {array.ravel().tolist()}"
