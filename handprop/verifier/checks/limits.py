"""Limits of both programs' outputs at a point, along directions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.sampling import Point, beyond, is_defined, largest
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.executables import array
from handprop.verifier.report.values import Worst

__all__ = [
    "MAX_DISPUTED",
    "RADIUS",
    "RANDOM",
    "Direction",
    "Entry",
    "Limits",
    "alike",
    "disputed_entries",
    "entry_off",
    "input_scale",
    "limits_along",
    "moved_along",
    "random_directions",
    "with_own",
]

RADIUS = 2.0**-20
RANDOM = 4
OWN_STILL = 3  # directions along which a disputed entry hardly moves compared with the others
MAX_DISPUTED = 4

Direction = dict[int, np.ndarray]


class Limits(NamedTuple):
    """Limits by output, with the directions along a first axis.

    ``tends`` is what the reference tends to, and ``slack`` is how far off that may be. ``got`` and ``want`` are what
    the hand program and the reference return at the nearer of the two points.
    """

    tends: list[np.ndarray]
    slack: list[np.ndarray]
    got: list[np.ndarray]
    want: list[np.ndarray]


class Entry(NamedTuple):
    """An entry of a gradient: ``at`` is its index in this output and in the input ``source`` that it belongs to."""

    output: int
    at: tuple[int, ...]
    source: int


def disputed_entries(problem: Problem, point: Point) -> Iterator[Entry]:
    """Yield the entries of gradients that are beyond their bound, worst first, where they belong to an input."""
    off = [(times[index], Entry(k, tuple(map(int, index)), i))
           for k, i in problem.owners
           for times in [beyond(point.got[k], point.want[k], point.bound[k])]
           for index in map(tuple, np.argwhere(times))] if is_defined(problem, point) else []  # fmt: skip
    yield from (entry for _, entry in sorted(off, key=lambda pair: -pair[0]))


def alike(problem: Problem, point: Point, output: int, worst: Worst) -> list[Entry]:
    """Return the entry of a value as that of a gradient for each input of its shape, since it may be one."""
    return [Entry(output, worst.index, i) for i in problem.wrt or problem.moving
            if point.inputs[i].shape == point.want[output].shape]  # fmt: skip


def _drawn(problem: Problem, point: Point, options: Options, *number: int) -> Direction:
    rng = options.rng(Stream.LIMITS, *number)
    return {i: np.asarray(rng.normal(size=point.inputs[i].shape)) for i in problem.wrt or problem.moving}


def _of_one_sign(drawn: Direction) -> list[Direction]:
    return [{i: np.asarray(sign * np.abs(v)) for i, v in drawn.items()} for sign in (1.0, -1.0)]


def random_directions(problem: Problem, point: Point, options: Options) -> list[Direction]:
    """Return random directions, two of them with entries of one sign."""
    drawn = [_drawn(problem, point, options, n) for n in range(RANDOM + 1)]
    return [*drawn[:RANDOM], *_of_one_sign(drawn[RANDOM])]


def _own_directions(problem: Problem, point: Point, disputed: Sequence[Entry], options: Options) -> list[Direction]:
    """Return directions for each of the most disputed coordinates.

    Two lead along it, with a small random part; the others leave it almost where it is, two of them with entries of one
    sign.
    """
    found = []
    for n, entry in enumerate(disputed[:MAX_DISPUTED]):
        for sign in (1.0, -1.0):
            along = {i: np.asarray(2.0**-10 * v) for i, v in _drawn(problem, point, options, RANDOM + n).items()}
            along[entry.source][entry.at] = sign
            found.append(along)
        drawn = [_drawn(problem, point, options, RANDOM + n, k) for k in range(OWN_STILL + 1)]
        still = [*drawn[:OWN_STILL], *_of_one_sign(drawn[OWN_STILL])]
        for along in still:
            along[entry.source][entry.at] *= 2.0**-10
        found += still
    return found


def input_scale(inputs: Sequence[Any], places: Sequence[int]) -> float:
    """Return the size of the largest entry, or 1 if all are zero; steps are measured in it."""
    return max((largest(inputs[i]) for i in places), default=0.0) or 1.0


def moved_along(inputs: Sequence[Any], along: Direction, h: float) -> tuple[Any, ...]:
    with jax.enable_x64(True):
        parts = [array(np.asarray(inputs[i]) + h * v) for i, v in along.items()]
    return tuple(jaxprs.with_replaced(inputs, list(along), parts))


def limits_along(evaluator: Evaluator, point: Point, directions: Sequence[Direction]) -> Limits:
    columns: list[tuple[list[np.ndarray], ...]] = []
    with np.errstate(all="ignore"):
        for along in directions:
            radius = RADIUS * input_scale(point.inputs, list(along))
            far = evaluator.clean(moved_along(point.inputs, along, radius))[1]
            got, near = evaluator.clean(moved_along(point.inputs, along, radius / 4))
            steps = [a - b for a, b in zip(near, far, strict=True)]
            tends = [a + s / 3 for a, s in zip(near, steps, strict=True)]
            slack = [4 * np.abs(s) + 4 * evaluator.eta * np.abs(a) for a, s in zip(near, steps, strict=True)]
            columns.append((tends, slack, got, near))
    return Limits(*([np.stack([np.asarray(x) for x in rows]) for rows in zip(*part, strict=True)]
                    for part in zip(*columns, strict=True)))  # fmt: skip


def with_own(problem: Problem, evaluator: Evaluator, point: Point, found: Limits, disputed: Sequence[Entry],
              options: Options) -> Limits:  # fmt: skip
    """Return these limits and those along the entries' own directions."""
    own = _own_directions(problem, point, disputed, options)
    if not own:
        return found
    more = limits_along(evaluator, point, own)
    return Limits(*([np.concatenate(pair) for pair in zip(*parts, strict=True)]
                    for parts in zip(found, more, strict=True)))  # fmt: skip


def entry_off(found: Limits, k: int, worst: Worst, output: int) -> bool:
    """Whether the programs differ a step away as much as at the point, so that the point is not special."""
    got, want = (float(x[output][k][worst.index]) for x in (found.got, found.want))
    if not np.isfinite(worst.got):
        return bool(np.isfinite(want) and not np.isfinite(got))
    return abs(got - want) > abs(worst.got - worst.want) / 2
