"""Points where both programs differ, and what a check makes of each: a failure, or a finding beside the verdict."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.convergence import has_not_converged, is_remainder
from handprop.verifier.checks.equalities import decided_by_rounding
from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.kinks import Meaning, ruling
from handprop.verifier.checks.overflow import overflow, said_of
from handprop.verifier.checks.sampling import Point, compared, failure, is_off, worst_entry
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs, literals, widen
from handprop.verifier.programs.constants import explain
from handprop.verifier.programs.executables import array
from handprop.verifier.report.values import Check, Worst

__all__ = ["Difference", "Meaning", "failed", "meaning_of"]


EQUALITY = "{} by hand differs from the reference, because rounding decides whether two numbers are equal there"
UNDEFINED = "the function has no value there"
LOWEST = 1e100
UNCONVERGED = (
    "{} differs from autodiff's, but the function's own iteration has not converged there: one more step changes it"
)

MASKED = (
    "{} by hand differs from the reference: numbers are so low there that a mask no longer stands for minus infinity"
)


class Difference(NamedTuple):
    """A point and what it means: ``said`` is the finding, ``worst`` is what refutes if the rule is wrong."""

    kind: Meaning
    said: str
    evaluator: Evaluator
    point: Point
    worst: Worst
    everywhere: bool = False
    no_subgradient: bool = False


def meaning_of(
    problem: Problem, found: Sequence[Evaluator], points: Sequence[Point], options: Options
) -> Difference | None:
    """Decide what it means that the programs differ in every trace, each at its point; None if they agree in one."""
    worsts = [worst_entry(problem, point) for point in points]
    if any(worst is None for worst in worsts):
        return None
    evaluator, point, worst = found[0], points[0], worsts[0]
    assert worst is not None
    if (without := _without_undefined(problem, evaluator, point)) is not None:
        if (still := worst_entry(problem, without)) is None:
            return Difference(Meaning.UNDEFINED, UNDEFINED, evaluator, point, worst)
        point, worst = without, still
    if _by_constants(evaluator, point):
        return Difference(Meaning.CONSTANTS, _said_of_constants(point, worst), evaluator, point, worst)
    if decided_by_rounding(evaluator, point):
        return Difference(Meaning.EQUALITY, EQUALITY.format(worst.path), evaluator, point, worst)
    leaves = overflow(problem, evaluator, point, worst, options)
    if leaves is not None:
        return Difference(Meaning.RANGE, said_of(leaves, worst), evaluator, point, worst)
    if problem.shared.proved and _by_masks(evaluator, point):
        return Difference(Meaning.RANGE, MASKED.format(worst.path), evaluator, point, worst)
    said = ruling(problem, evaluator, point, worst, options)
    if said.kind is Meaning.WRONG and _by_iterations(problem, point, worst, options):
        return Difference(Meaning.UNCONVERGED, UNCONVERGED.format(worst.path), evaluator, point, worst)
    return Difference(said.kind, said.said, evaluator, point, said.worst or worst, said.everywhere, said.no_subgradient)


def _without_undefined(problem: Problem, evaluator: Evaluator, point: Point) -> Point | None:
    """The point with cotangents of 0 for the values that are NaN by the reference, None if all are numbers.

    A function has no derivative where it has no value, and two programs may return any numbers for it.
    """
    floats = [k for k, out in enumerate(evaluator.programs[1].out_avals)
              if jaxprs.is_float(out.dtype) and not problem.gradients[k]]  # fmt: skip
    weights = [point.inputs[i] for i in problem.cotangents]
    undefined = [np.isnan(point.want[k]) for k in floats[: len(weights)]]
    if not any(x.any() for x in undefined):
        return None
    with jax.enable_x64(True):
        held = [array(np.where(x, 0.0, w)) for x, w in zip(undefined, weights, strict=True)]
    return compared(evaluator, tuple(jaxprs.with_replaced(point.inputs, problem.cotangents, held)), 0)


def _by_iterations(problem: Problem, point: Point, worst: Worst, options: Options) -> bool:
    try:
        return has_not_converged(problem, point, options) or is_remainder(problem, point, worst)
    except Exception as error:  # a function that JAX does not differentiate, or that raises in another iteration
        noted(error, "the search for an iteration's end")
        return False


def _by_masks(evaluator: Evaluator, point: Point) -> bool:
    """Whether the programs agree once their masks are lower than all other numbers, as the proof reads them."""

    def lower(const: Any) -> Any:
        written = jaxprs.as_written(const)
        if not jaxprs.is_float(written.dtype):
            return written
        return np.where(np.isfinite(written) & (written <= literals.MASKED), -LOWEST, written)

    held = (x for program in evaluator.programs for x in jaxprs.numbers(program) if jaxprs.is_float(x.dtype))
    if not any(((x <= literals.MASKED) & np.isfinite(x)).any() for x in held):
        return False
    inputs = tuple(evaluator.arguments(point.inputs))
    with jax.enable_x64(True):
        got, want = ([np.asarray(x, np.float64) for x in widen.widen(program, lower)(inputs, None, None)]
                     for program in evaluator.programs)  # fmt: skip
    return not is_off(got, want, point.bound)


def _by_constants(evaluator: Evaluator, point: Point) -> bool:
    """Whether the rounding of the programs' constants explains the whole difference."""
    if point.raised or not all((np.isfinite(g) | ~np.isfinite(w)).all()
                               for g, w in zip(point.got, point.want, strict=True)):  # fmt: skip
        return False
    moved = evaluator.shifted(point.inputs)
    return len(moved) > 1 and explain(moved[0], moved[1:], point.bound)


def _said_of_constants(point: Point, worst: Worst) -> str:
    size = abs(worst.got - worst.want) / max(abs(worst.got), abs(worst.want))
    return (f"{worst.path} by hand and by the reference have a relative difference of {size:.0e}, which "
            "the rounding of the programs' constants to their dtype explains")  # fmt: skip


def failed(name: str, problem: Problem, difference: Difference, where: str, start: float) -> Check:
    """Return the check that fails at such a point.

    A proof that claims the opposite for inputs on all sides of the point is recorded as a contradiction.
    """
    evidence: dict[str, Any] = {}
    problem.shared.everywhere = difference.everywhere and bool(np.isfinite(difference.worst.got))
    finite = all(np.isfinite(x).all() for x in difference.point.inputs if jaxprs.is_float(x.dtype))
    if difference.everywhere and finite and problem.shared.proved and not problem.shared.conditional:
        said = f"the proof and the check {name!r} contradict each other {where}: one of them is wrong"
        evidence["internal"] = (said,)
    where = f"{where}; {difference.said}" if difference.said else where
    seconds = time.monotonic() - start
    return failure(name, problem, difference.evaluator, difference.point, difference.worst, where, seconds, **evidence)
