"""Finite differences in float64: a second opinion that does not trust autodiff.

Along a random direction, the gradient is compared with the slope of the function's own values, as far as that slope can
be measured (:mod:`handprop.verifier.checks.slopes`). Where the slopes to the left and to the right differ there is a
kink, and this check says nothing: :mod:`handprop.verifier.checks.kinks` decides what is right there.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.checks.differences import Meaning, failed, meaning_of
from handprop.verifier.checks.evaluators import Evaluator, evaluators
from handprop.verifier.checks.kinks import refused_by_values
from handprop.verifier.checks.sampling import compared, failure, sample
from handprop.verifier.checks.slopes import central, values_along
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.report.values import Check, Outcome

__all__ = ["finite_differences", "slope_along"]

MAX_DIRECTIONS = 6
SHARED = "by the function's own values: autodiff has it too, so a rule inside the function is wrong"
WITHOUT = "this check needs the differentiated function, and none was given"
WITHIN = "a gradient compared in all directions within a domain is not the slope of the function there"
SOLVED = "the values are those of a solver, which ends before it reaches the solution"
TRUSTED = 1e-4  # an estimate with a larger relative error says nothing


class Slope(NamedTuple):
    """The slope along one direction: the estimate and its error, and the slopes by hand and by the reference."""

    estimate: float
    error: float
    candidate: float
    reference: float

    def agrees(self, slope: float, accuracy: float) -> bool:
        return abs(slope - self.estimate) <= self.error + accuracy * abs(self.estimate)


def finite_differences(problem: Problem, options: Options) -> Check:
    """Check that the hand-written gradient agrees with the function's own values along random directions."""
    start = time.monotonic()

    def check(outcome: Outcome, summary: str, **evidence: Any) -> Check:
        return Check("finite_differences", outcome, summary, evidence, seconds=time.monotonic() - start)

    evaluator = next(evaluators(problem), None)
    if problem.primal is None or not problem.wrt or evaluator is None:
        return check(Outcome.SKIPPED, WITHIN if problem.domains else WITHOUT)
    if problem.to_prove is not None:
        return check(Outcome.SKIPPED, SOLVED)
    slopes, told, off = [], [], []
    for each in evaluators(problem):  # the gradient has to be the slope in one of them
        slopes = _slopes(problem, each, options)
        told = [s for s in slopes if np.isfinite(s.estimate) and s.error <= TRUSTED * abs(s.estimate) + 1e-12]
        off = [s for s in told if not s.agrees(s.candidate, options.accuracy)]
        if not off:
            break
    if not told:
        return check(Outcome.UNDECIDED, "the function is not smooth enough here for finite differences")
    error = max(s.error / max(abs(s.estimate), 1e-300) for s in told)
    evidence = {"directions": len(slopes), "usable_directions": len(told), "relative_error": float(f"{error:.2e}")}
    if not off:
        summary = f"the gradient is the slope along {len(told)} of {len(slopes)} directions, to {error:.0e}"
        return check(Outcome.HOLDS, summary, **evidence)
    if all(s.agrees(s.reference, options.accuracy) for s in off):
        point = compared(evaluator, sample(problem, options, 0), 0, measured=True)
        difference = meaning_of(problem, [evaluator], [point], options)
        if difference is not None and difference.kind is Meaning.WRONG:
            return failed(
                "finite_differences", problem, difference, "and measured slopes agree with the reference", start
            )
        if difference is not None and difference.kind is Meaning.CONSTANTS:
            return check(Outcome.HOLDS, "the gradient is the slope except for the rounding of constants", **evidence)
        if difference is not None:
            return check(Outcome.UNDECIDED, f"at the given input {difference.said}", **evidence)
    point = compared(evaluator, sample(problem, options, 0), 0)
    if not problem.stops and (worst := refused_by_values(problem, evaluator, point, options)) is not None:
        return failure("finite_differences", problem, evaluator, point, worst, SHARED, time.monotonic() - start)
    slope = off[0]
    summary = (f"the slope is {slope.estimate:.6g}, but {slope.candidate:.6g} by hand and {slope.reference:.6g} by "
               "autodiff: the function contains a stop_gradient or another rule, or it has a kink there")  # fmt: skip
    return check(Outcome.NOTES, summary, **evidence)


def _slopes(problem: Problem, evaluator: Evaluator, options: Options) -> list[Slope]:
    inputs = sample(problem, options, 0)
    got, want = evaluator.clean(inputs)
    places = [i for i, gradient in enumerate(problem.gradients) if gradient]
    found = []
    for d, group in enumerate(_groups(len(places))):
        if d and options.seconds_left < 0:
            break
        rng = options.rng(Stream.FINITE_DIFFERENCES, d)
        along = {j: rng.normal(size=inputs[problem.wrt[j]].shape) for j in group}
        directions = [(places[j], problem.wrt[j], v) for j, v in along.items()]
        found.append(slope_along(problem, evaluator, inputs, (got, want), directions))
    return found


def slope_along(problem: Problem, evaluator: Evaluator, inputs: Sequence[Any], outputs: tuple[Any, Any],
                directions: Sequence[tuple[int, int, np.ndarray]]) -> Slope:  # fmt: skip
    """Return the slope at the inputs, where both programs return ``outputs``, along ``(output, input, direction)``."""
    weights = [np.asarray(inputs[i]) for i in problem.cotangents]
    candidate, reference = (sum(float(np.sum(program[k] * v)) for k, _, v in directions) for program in outputs)
    values = values_along(problem, inputs, {i: v for _, i, v in directions}, traced_at=evaluator.traced_at or None)
    estimate, error = central(values, weights)
    return Slope(estimate, error, candidate, reference)


def _groups(count: int) -> list[list[int]]:
    """Return each gradient by itself or, where there are many, groups of them."""
    return [list(range(d, count, MAX_DIRECTIONS)) for d in range(min(count, MAX_DIRECTIONS))]
