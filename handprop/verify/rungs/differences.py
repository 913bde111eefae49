"""Finite differences in float64: the second opinion that does not trust autodiff.

Along a random direction the gradient is held to the slope of the function's own values, as far as that can be told
(:mod:`handprop.verify.slopes`). Where the slopes to the left and to the right differ there is a kink, and nothing is
said here: :mod:`handprop.verify.kinks` looks at what is right there.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from handprop.verify.disputes import Kind, failed, settled
from handprop.verify.kinks import refused_by_values
from handprop.verify.options import Options
from handprop.verify.points import Evaluator, compared, evaluators, failure, sample
from handprop.verify.report import Check, Outcome
from handprop.verify.slopes import central, values_along
from handprop.verify.subject import Subject

__all__ = ["differences"]

MOST_DIRECTIONS = 6
SHARED = "by the function's own values: autodiff shares it, and a rule that stands in the function is wrong"
WITHOUT = "this check needs the function that is differentiated, and none was given"
WITHIN = "a gradient that is compared in all directions, within a domain, is no slope of the function there"
TRUSTED = 1e-4  # of its own size: an estimate with a larger error says nothing


class Slope(NamedTuple):
    """Along one direction: the estimate and its error, by hand and by the reference."""

    estimate: float
    error: float
    hand: float
    reference: float

    def agrees(self, slope: float, accuracy: float) -> bool:
        return abs(slope - self.estimate) <= self.error + accuracy * abs(self.estimate)


def differences(subject: Subject, options: Options) -> Check:
    """Whether the hand gradient along random directions is what the function's own values say."""
    start = time.monotonic()

    def check(outcome: Outcome, shows: str, **evidence: Any) -> Check:
        return Check("differences", outcome, shows, evidence, seconds=time.monotonic() - start)

    evaluator = next(evaluators(subject), None)
    if subject.primal is None or not subject.wrt or evaluator is None:
        return check(Outcome.SKIPPED, WITHIN if subject.domains else WITHOUT)
    slopes, told, off = [], [], []
    for reading in evaluators(subject):  # in one of which the gradient has to be the slope
        slopes = _slopes(subject, reading, options)
        told = [s for s in slopes if np.isfinite(s.estimate) and s.error <= TRUSTED * abs(s.estimate) + 1e-12]
        off = [s for s in told if not s.agrees(s.hand, options.accuracy)]
        if not off:
            break
    if not told:
        return check(Outcome.UNDECIDED, "the function is not smooth enough here for differences to tell")
    error = max(s.error / max(abs(s.estimate), 1e-300) for s in told)
    evidence = {"directions": len(slopes), "told": len(told), "relative_error": float(f"{error:.2e}")}
    if not off:
        shows = f"the gradient is the slope along {len(told)} of {len(slopes)} directions, to {error:.0e}"
        return check(Outcome.HOLDS, shows, **evidence)
    if all(s.agrees(s.reference, options.accuracy) for s in off):
        point = compared(evaluator, sample(subject, options, 0), 0, measured=True)
        dispute = settled(subject, [evaluator], [point], options)
        if dispute is not None and dispute.kind is Kind.WRONG:
            return failed("differences", subject, dispute, "and differences agree with the reference", start)
        if dispute is not None and dispute.kind is Kind.CONSTANTS:
            return check(Outcome.HOLDS, "the gradient is the slope but for the rounding of constants", **evidence)
        if dispute is not None:
            return check(Outcome.UNDECIDED, f"at the given input {dispute.said}", **evidence)
    point = compared(evaluator, sample(subject, options, 0), 0)
    if not subject.stops and (worst := refused_by_values(subject, evaluator, point, options)) is not None:
        return failure("differences", subject, evaluator, point, worst, SHARED, time.monotonic() - start)
    shows = (f"the slope is {off[0].estimate:.6g}, {off[0].hand:.6g} by hand and {off[0].reference:.6g} by autodiff: "
             "a stop_gradient or another rule stands in the function itself, or it has a kink there")  # fmt: skip
    return check(Outcome.NOTES, shows, **evidence)


def _slopes(subject: Subject, evaluator: Evaluator, options: Options) -> list[Slope]:
    inputs = sample(subject, options, 0)
    got, want = evaluator.clean(inputs)
    places = [i for i, gradient in enumerate(subject.gradients) if gradient]
    weights = [np.asarray(inputs[i]) for i in subject.cotangents]
    found = []
    for d, group in enumerate(_groups(len(places))):
        if d and options.seconds_left < 0:
            break
        rng = options.rng(5, d)
        along = {j: rng.normal(size=inputs[subject.wrt[j]].shape) for j in group}
        hand, reference = (sum(float(np.sum(outputs[places[j]] * v)) for j, v in along.items())
                           for outputs in (got, want))  # fmt: skip
        values = values_along(subject, inputs, {subject.wrt[j]: v for j, v in along.items()},
                              traced_at=evaluator.traced_at or None)  # fmt: skip
        estimate, error = central(values, weights)
        found.append(Slope(estimate, error, hand, reference))
    return found


def _groups(count: int) -> list[list[int]]:
    """Each gradient by itself, or, where there are many, a few of them together."""
    return [list(range(d, count, MOST_DIRECTIONS)) for d in range(min(count, MOST_DIRECTIONS))]
