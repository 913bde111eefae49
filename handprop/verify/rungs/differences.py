"""Finite differences in float64: the second opinion that does not trust autodiff.

Along a direction v the function's own values, weighed with the cotangent c, change by
``D(h) = sum c (f(x + h v) - f(x - h v)) / 2h = <gradient, v> + O(h^2)``. Steps are quartered seven times; Richardson's
``(16 D(h/4) - D(h)) / 15`` removes the h^2 term, and the spread of neighbours is the estimate's error (Ridders 1982).
``eps S / h`` adds what rounding does to a difference of terms of size S. Where the slopes to the left and to the
right do not come together as h shrinks there is a kink, and nothing is said.
"""

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.points import Evaluator, compared, evaluators, failure, in_float64, sample, worst_entry
from handprop.verify.report import Check, Outcome
from handprop.verify.subject import Subject

__all__ = ["differences"]

STEPS = [2.0**-k for k in range(6, 22, 2)]
MOST_DIRECTIONS = 6
TRUSTED = 1e-4  # of its own size: an estimate with a larger error says nothing


class Slope(NamedTuple):
    """Along one direction: the estimate and its error, by hand and by the reference."""

    estimate: float
    error: float
    hand: float
    reference: float

    def agrees(self, slope: float) -> bool:
        return abs(slope - self.estimate) <= self.error


def differences(subject: Subject, options: Options) -> Check:
    """Whether the hand gradient along random directions is what the function's own values say."""
    start = time.monotonic()

    def check(outcome: Outcome, shows: str, **evidence: Any) -> Check:
        return Check("differences", outcome, shows, evidence, seconds=time.monotonic() - start)

    evaluator = next(evaluators(subject), None)
    if subject.primal is None or not subject.wrt or evaluator is None:
        return check(Outcome.SKIPPED, "there is no function here whose gradient this is")
    slopes = _slopes(subject, evaluator, options)
    told = [s for s in slopes if np.isfinite(s.estimate) and s.error <= TRUSTED * abs(s.estimate) + 1e-12]
    if not told:
        return check(Outcome.UNDECIDED, "the function is not smooth enough here for differences to tell")
    error = max(s.error / max(abs(s.estimate), 1e-300) for s in told)
    evidence = {"directions": len(slopes), "told": len(told), "relative_error": float(f"{error:.2e}")}
    off = [s for s in told if not s.agrees(s.hand)]
    if not off:
        shows = f"the gradient is the slope along {len(told)} of {len(slopes)} directions, to {error:.0e}"
        return check(Outcome.HOLDS, shows, **evidence)
    if all(s.agrees(s.reference) for s in off):
        point = compared(evaluator, sample(subject, options, 0), 0, measured=True)
        worst = worst_entry(subject, point)
        if worst is not None:
            where = "and differences agree with the reference"
            return failure("differences", subject, evaluator, point, worst, where, time.monotonic() - start)
    shows = (f"the slope is {off[0].estimate:.6g}, {off[0].hand:.6g} by hand and {off[0].reference:.6g} by autodiff: "
             "a stop_gradient or another rule stands in the function itself")  # fmt: skip
    return check(Outcome.NOTES, shows, **evidence)


def _slopes(subject: Subject, evaluator: Evaluator, options: Options) -> list[Slope]:
    inputs = sample(subject, options, 0)
    got, want = evaluator.clean(inputs)
    places = [i for i, gradient in enumerate(subject.gradients) if gradient]
    weights = [np.asarray(inputs[i]) for i in subject.cotangents]
    assert subject.primal is not None
    values = in_float64(subject.primal, inputs, subject.inputs)
    found = []
    for d, group in enumerate(_groups(len(places))):
        if d and options.seconds_left < 0:
            break
        rng = options.rng(5, d)
        along = {j: rng.normal(size=inputs[subject.wrt[j]].shape) for j in group}
        hand, reference = (sum(float(np.sum(outputs[places[j]] * v)) for j, v in along.items())
                           for outputs in (got, want))  # fmt: skip
        estimate, error = _slope(lambda h, along=along: values(_shifted(subject, inputs, along, h)), weights)
        found.append(Slope(estimate, error, hand, reference))
    return found


def _groups(count: int) -> list[list[int]]:
    """Each gradient by itself, or, where there are many, a few of them together."""
    return [list(range(d, count, MOST_DIRECTIONS)) for d in range(min(count, MOST_DIRECTIONS))]


def _shifted(subject: Subject, inputs: Sequence[Any], along: dict[int, np.ndarray], h: float) -> tuple[Any, ...]:
    places = [subject.wrt[j] for j in along]
    with jax.enable_x64(True):
        moved = [jnp.asarray(np.asarray(inputs[i]) + h * v) for i, v in zip(places, along.values(), strict=True)]
    return tuple(jaxprs.with_replaced(inputs, places, moved))


def _slope(values: Any, weights: list[np.ndarray]) -> tuple[float, float]:
    """The slope of ``sum c f`` at 0 and the estimate's error; infinite at a kink."""

    def weighed(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[float, float]:
        pairs = [(a - b, np.abs(a) + np.abs(b)) for a, b in zip(left, right, strict=True)]
        scaled = zip(weights or [np.ones(())] * len(pairs), pairs, strict=True)
        terms = [(np.sum(c * d), np.sum(np.abs(c) * s)) for c, (d, s) in scaled]
        return float(sum(t for t, _ in terms)), float(sum(s for _, s in terms))

    with np.errstate(all="ignore"):
        here, central, noise, jumps = values(0.0), [], [], []
        for h in STEPS:
            ahead, behind = values(h), values(-h)
            change, size = weighed(ahead, behind)
            central.append(change / (2 * h))
            noise.append(64 * 2.0**-52 * size / h)
            jumps.append(abs(weighed(ahead, here)[0] - weighed(here, behind)[0]) / h)
        smooth = jumps[-3] <= max(0.3 * jumps[0], 8 * noise[-3])
        better = [(16 * b - a) / 15 for a, b in itertools.pairwise(central)]
        errors = [10 * abs(b - a) + n for a, b, n in zip(better[:-1], better[1:], noise[2:], strict=True)]
        best = int(np.nanargmin(np.where(np.isfinite(errors), errors, np.inf)))
    return better[best + 1], float(errors[best]) if smooth else np.inf
