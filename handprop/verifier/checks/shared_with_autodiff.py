"""Mistakes that both programs make: gradients on which they agree, and which the function's values contradict."""

import dataclasses
import itertools

import numpy as np

from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.kinks import LOOSE, of_autodiff, sides_along, values_jump
from handprop.verifier.checks.limits import (
    MAX_DISPUTED,
    RANDOM,
    Entry,
    Limits,
    input_scale,
    limits_along,
    random_directions,
)
from handprop.verifier.checks.sampling import Point, is_defined, worst_at
from handprop.verifier.checks.slopes import sides, values_along
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.report.values import Worst

__all__ = ["agreed_and_wrong"]


def agreed_and_wrong(problem: Problem, evaluator: Evaluator, point: Point,
                     options: Options) -> tuple[str, Worst] | None:  # fmt: skip
    """Find a gradient on which both programs agree but which the smooth function does not have.

    Returns what is wrong with autodiff's, and the entry, with the limit in place of the reference's answer.
    """
    if problem.primal is None or not problem.owners or not is_defined(problem, point):
        return None
    if (lost := _lost_together(problem, point, options)) is not None:
        return lost
    found = limits_along(evaluator, point, random_directions(problem, point, options))
    for k, source in problem.owners:
        limit = found.tends[k][0]
        with np.errstate(all="ignore"):
            room = found.slack[k].max(axis=0) + point.bound[k] + 1e-6 * np.abs(limit)
            calm = np.ptp(found.tends[k], axis=0) <= room
            gap = np.minimum(np.abs(point.want[k] - limit), np.abs(point.got[k] - limit))
            off = (gap > 8 * room + LOOSE * np.abs(limit)) & np.isfinite(gap)
        if not calm.all() or not off.any() or not _is_smooth(problem, point, found, options):
            continue
        entry = Entry(k, tuple(map(int, np.argwhere(off)[0])), source)
        worst = worst_at(problem, point, k, entry.at)
        said = of_autodiff(problem, entry, float(point.want[k][entry.at]), float(limit[entry.at]))
        return said, dataclasses.replace(worst, want=float(limit[entry.at]), ulps=None, bound=None)
    return None


def _lost_together(problem: Problem, point: Point, options: Options) -> tuple[str, Worst] | None:
    """Find an entry that is not finite in either gradient although the function is smooth there.

    The function's values must have one slope to both sides, and jump along no direction.
    """
    entries = (Entry(k, tuple(map(int, at)), i) for k, i in problem.owners
               for at in np.argwhere(~np.isfinite(point.got[k]) & ~np.isfinite(point.want[k])))  # fmt: skip
    for entry in itertools.islice(entries, MAX_DISPUTED):
        slopes = sides_along(problem, point, {entry: 1.0})
        if slopes is not None and abs(slopes.left - slopes.right) <= 2 * slopes.error + LOOSE * abs(slopes.left):
            if values_jump(problem, point, random_directions(problem, point, options)):
                return None
            worst = worst_at(problem, point, entry.output, entry.at)
            said = of_autodiff(problem, entry, worst.want, slopes.left)
            return said, dataclasses.replace(worst, want=slopes.left, ulps=None, bound=None)
    return None


def _is_smooth(problem: Problem, point: Point, found: Limits, options: Options) -> bool:
    """Whether the function's values have the slopes that the limits say, along random directions and to both sides."""
    cotangents = [np.asarray(point.inputs[i]) for i in problem.cotangents]
    size = input_scale(point.inputs, problem.wrt)
    for n in range(RANDOM):
        along = {i: options.rng(Stream.SHARED_WITH_AUTODIFF, n).normal(size=point.inputs[i].shape) for i in problem.wrt}
        expected = sum(float(np.sum(found.tends[k][0] * along[i])) for k, i in problem.owners)
        slopes = sides(values_along(problem, point.inputs, along, size), cotangents, size)
        off = max(abs(slopes.left - expected), abs(slopes.right - expected))
        if not off <= slopes.error + LOOSE * abs(expected) + 1e-9:
            return False
        if not slopes.error <= 1e-2 * abs(expected) + 1e-6:
            return False
    return True
