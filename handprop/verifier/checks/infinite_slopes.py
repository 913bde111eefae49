"""Points at which the function has an infinite slope, as the square root has at 0, and the rule returns a number.

There is no derivative there, so a number in its place is what somebody meant and not what the function has. The
function's values decide: for steps h that are quartered, the slope ``(f(x + h) - f(x)) / h`` of ``x^p`` grows by
``4^(1 - p)``, without end.
"""

import numpy as np

from handprop.verifier.checks.limits import MAX_DISPUTED, Entry, input_scale
from handprop.verifier.checks.sampling import Point, is_defined, worst_at
from handprop.verifier.checks.slopes import quotients, values_along
from handprop.verifier.problem import Problem
from handprop.verifier.report.values import Worst

__all__ = ["INFINITE", "infinite_slope"]

INFINITE = "the slope of the function's values grows without end there"
GROWS = 1.1  # at least, from one step to the next: that of x^0.93
JUMPS = 3.5  # at most: at a jump it is 4
MUCH = 4.0  # from the first step to the last


def infinite_slope(problem: Problem, point: Point) -> Worst | None:
    """Return an entry of the gradient that is a number by hand where the function's slope is infinite, if any is."""
    if problem.primal is None or problem.stops or not is_defined(problem, point):
        return None
    entries = [Entry(k, tuple(map(int, at)), i) for k, i in problem.owners
               for at in np.argwhere(np.isfinite(point.got[k]) & ~np.isfinite(point.want[k]))]  # fmt: skip
    for entry in entries[:MAX_DISPUTED]:
        if any(_grows(_slopes(problem, point, entry, sign)) for sign in (1.0, -1.0)):
            return worst_at(problem, point, entry.output, entry.at)
    return None


def _slopes(problem: Problem, point: Point, entry: Entry, sign: float) -> np.ndarray:
    """The slopes to one side along the entry's coordinate, for smaller and smaller steps."""
    along = np.zeros(point.inputs[entry.source].shape)
    along[entry.at] = 1.0
    size = input_scale(point.inputs, [entry.source])
    cotangents = [np.asarray(point.inputs[i]) for i in problem.cotangents]
    values = values_along(problem, point.inputs, {entry.source: along}, size)
    return np.abs(quotients(values, cotangents, sign, size)[0])


def _grows(slopes: np.ndarray) -> bool:
    if not np.isfinite(slopes).all() or not slopes.all():
        return False
    growth = slopes[1:] / slopes[:-1]
    return bool((growth >= GROWS).all() and growth[-1] <= JUMPS and slopes[-1] > MUCH * slopes[0])
