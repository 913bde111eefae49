"""Slopes of a function's own values along a direction, one-sided and two-sided, each with its error.

Along v the values f, weighted by the cotangent c, change by ``phi(h) = sum c f(x + h v)``. The difference quotient of
``phi`` between -h and h is the slope plus ``O(h^2)``, and the one between 0 and h is the slope to the right plus
``O(h)``. The step is quartered seven times, so that Richardson's ``(16 D(h/4) - D(h)) / 15`` and
``(4 D(h/4) - D(h)) / 3`` remove the first term of the error. The spread of neighbors measures what is left of it
(Ridders 1982), and ``64 eps S / h`` adds what rounding does to a difference of terms of size S.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.evaluators import Traced, in_float64, is_own
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.executables import array

__all__ = ["STEPS", "Sides", "central", "quotients", "sides", "values_along"]

STEPS = [2.0**-k for k in range(6, 22, 2)]
Values = Callable[[float], list[np.ndarray]]


class Sides(NamedTuple):
    """The slopes to the left and to the right, and the larger of their errors."""

    left: float
    right: float
    error: float

    def allow(self, slope: float, slack: float = 0.0) -> bool:
        """Whether a slope lies between the two, up to their error and ``slack``."""
        room = self.error + slack
        return min(self.left, self.right) - room <= slope <= max(self.left, self.right) + room

    def beyond(self, slope: float) -> float:
        """Return how far a slope lies outside the range between the two."""
        return max(min(self.left, self.right) - slope, slope - max(self.left, self.right), 0.0)


def values_along(problem: Problem, inputs: Sequence[jax.Array], along: dict[int, np.ndarray],
                 size: float = 1.0, traced_at: Sequence[Any] | None = None) -> Values:  # fmt: skip
    """Return the function's values at ``inputs + h size v`` as a function of h.

    ``along`` holds v by the number of the input. ``traced_at`` are the inputs at which the function is traced, by
    default ``inputs`` themselves.
    """
    assert problem.primal is not None
    own = is_own(problem)
    traceable = inputs if problem.shared.evaluators.get(Traced.WIDE, True) else problem.inputs
    traced_at = problem.inputs if own else traceable if traced_at is None else traced_at
    key = own, *(str(x.dtype) for x in traced_at)
    if key not in problem.shared.values:
        problem.shared.values[key] = in_float64(problem.primal, traced_at, problem.compiling, own)
    run = problem.shared.values[key]

    def at(h: float) -> list[np.ndarray]:
        with jax.enable_x64(True):
            moved = [array(np.asarray(inputs[i]) + h * size * v) for i, v in along.items()]
            return run(tuple(jaxprs.with_replaced(inputs, list(along), moved)))

    return at


def _weighed(ahead: list[np.ndarray], behind: list[np.ndarray], weights: list[np.ndarray]) -> tuple[float, float]:
    """Return the change of ``sum c f``, and the size of the terms of that sum."""
    pairs = [(a - b, np.abs(a) + np.abs(b)) for a, b in zip(ahead, behind, strict=True)]
    scaled = list(zip(weights or [np.ones(())] * len(pairs), pairs, strict=True))
    change = sum(float(np.sum(c * d)) for c, (d, _) in scaled)
    return change, sum(float(np.sum(np.abs(c) * s)) for c, (_, s) in scaled)


def _best(quotients: list[float], noise: list[float], order: int) -> tuple[float, float]:
    """Return the extrapolated slope with the smallest error of all steps, and that error."""
    f = 4.0**order
    better = [(f * b - a) / (f - 1) for a, b in itertools.pairwise(quotients)]
    errors = [10 * abs(b - a) + n for a, b, n in zip(better[:-1], better[1:], noise[2:], strict=True)]
    if not np.isfinite(errors).any():
        return np.nan, np.inf
    best = int(np.nanargmin(np.where(np.isfinite(errors), errors, np.inf)))
    return better[best + 1], float(errors[best])


def central(values: Values, weights: list[np.ndarray]) -> tuple[float, float]:
    """Return the two-sided slope and its error, which is infinite where the slopes to either side stay apart."""
    with np.errstate(all="ignore"):
        here, quotients, noise, jumps = values(0.0), [], [], []
        for h in STEPS:
            ahead, behind = values(h), values(-h)
            change, size = _weighed(ahead, behind, weights)
            quotients.append(change / (2 * h))
            noise.append(64 * 2.0**-52 * size / h)
            jumps.append(abs(_weighed(ahead, here, weights)[0] - _weighed(here, behind, weights)[0]) / h)
        smooth = jumps[-3] <= max(0.3 * jumps[0], 8 * noise[-3])
        slope, error = _best(quotients, noise, 2)
    return slope, error if smooth else np.inf


def sides(values: Values, weights: list[np.ndarray], size: float = 1.0) -> Sides:
    """Return the slopes to either side, per unit of the direction; ``values`` moves by ``size`` times that unit."""
    (left, e), (right, f) = (_best(*quotients(values, weights, sign, size), 1) for sign in (-1.0, 1.0))
    return Sides(left, right, max(e, f))


def quotients(values: Values, weights: list[np.ndarray], sign: float, size: float) -> tuple[list[float], list[float]]:
    """Return the difference quotients to one side, per unit of the direction, and what rounding does to each."""
    with np.errstate(all="ignore"):
        here = values(0.0)
        found = [(_weighed(values(sign * h), here, weights), h * size) for h in STEPS]
        return ([sign * change / h for (change, _), h in found],
                [64 * 2.0**-52 * terms / h for (_, terms), h in found])  # fmt: skip
