"""Limits of both programs' outputs at a point, along directions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.sampling import Point, beyond, is_defined, largest
from handprop.verifier.options import Options
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
OWN_STILL = 3  # directions along which a disputed entry hardly moves beside the others
MAX_DISPUTED = 4

Direction = dict[int, np.ndarray]


class Limits(NamedTuple):
    """By output, with the directions along a first axis: what the reference tends to, how far off that may be, and what
    the hand program is at the nearer of both points beside what the reference is there."""

    tends: list[np.ndarray]
    slack: list[np.ndarray]
    got: list[np.ndarray]
    want: list[np.ndarray]


class Entry(NamedTuple):
    """An entry of the gradient, ``at`` an index of an output by number, and of the input that it belongs to."""

    output: int
    at: tuple[int, ...]
    source: int


def disputed_entries(problem: Problem, point: Point) -> Iterator[Entry]:
    """Entries of gradients that are beyond their bound, the furthest first, where they belong to an input."""
    off = [(times[index], Entry(k, tuple(map(int, index)), i))
           for k, i in problem.owners
           for times in [beyond(point.got[k], point.want[k], point.bound[k])]
           for index in map(tuple, np.argwhere(times))] if is_defined(problem, point) else []  # fmt: skip
    yield from (entry for _, entry in sorted(off, key=lambda pair: -pair[0]))


def alike(problem: Problem, point: Point, output: int, worst: Worst) -> list[Entry]:
    """The entry of a value as one of a gradient by each input of its shape, which it may be without saying so."""
    return [Entry(output, worst.index, i) for i in problem.wrt or problem.moving
            if point.inputs[i].shape == point.want[output].shape]  # fmt: skip


def _drawn(problem: Problem, point: Point, options: Options, *stream: int) -> Direction:
    rng = options.rng(8, *stream)
    return {i: np.asarray(rng.normal(size=point.inputs[i].shape)) for i in problem.wrt or problem.moving}


def _of_one_sign(drawn: Direction) -> list[Direction]:
    return [{i: np.asarray(sign * np.abs(v)) for i, v in drawn.items()} for sign in (1.0, -1.0)]


def random_directions(problem: Problem, point: Point, options: Options) -> list[Direction]:
    """Random ones, two of them with entries of one sign."""
    drawn = [_drawn(problem, point, options, n) for n in range(RANDOM + 1)]
    return [*drawn[:RANDOM], *_of_one_sign(drawn[RANDOM])]


def _own_directions(problem: Problem, point: Point, disputed: Sequence[Entry], options: Options) -> list[Direction]:
    """For each of the most disputed coordinates: along it, with a little of a random one beside, and others that leave
    it where it is, two of them with entries of one sign."""
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
    """The largest of the entries, 1 where all are zero: what a step is measured in."""
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
    """These limits, and those along the entries' own directions."""
    own = _own_directions(problem, point, disputed, options)
    if not own:
        return found
    more = limits_along(evaluator, point, own)
    return Limits(*([np.concatenate(pair) for pair in zip(*parts, strict=True)]
                    for parts in zip(found, more, strict=True)))  # fmt: skip


def entry_off(found: Limits, k: int, worst: Worst, output: int) -> bool:
    """Whether the programs differ a step away as much as at the point: then it is no matter of this point alone."""
    got, want = (float(x[output][k][worst.index]) for x in (found.got, found.want))
    if not np.isfinite(worst.got):
        return bool(np.isfinite(want) and not np.isfinite(got))
    return abs(got - want) > abs(worst.got - worst.want) / 2
