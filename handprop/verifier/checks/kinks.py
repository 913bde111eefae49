"""What is right at one point, where a function may have a kink or autodiff's own answer may be wrong.

At x the gradient of a function that is smooth almost everywhere is any element of the convex hull of its gradients'
limits there (Clarke 1975). The limits are those of the reference, taken at ``x + r v`` and ``x + r v / 4`` with
r = 2^-20, for random v and along the disputed coordinates. ``4 / 3`` of the step from the one to the other extrapolates
to r = 0, and four times that step is allowed for the error, which a second derivative causes.

- One limit along all directions: the function is smooth at x, and this slope is right. If autodiff has it, the rule is
  wrong; if autodiff does not, as in a smooth function that is written with a maximum, autodiff is wrong.
- Several limits: a kink. An entry outside the range of its limits is wrong, and so are entries that are each inside but
  together are not: ``<g, v>`` must lie between the slopes to either side along v or, where the function is not convex,
  between the limits' own ``<., v>``, including those that other signs of v show. (1, 1, 1, 1) is not a subgradient of a
  maximum of four. Entries on which both programs agree count too.
- No limit, because the values do not settle: nothing is decided.

Where the function's own values jump, the limits of its gradients say nothing, and each entry is compared only with the
slopes of the values along its own coordinate.

Whatever refutes at a kink is confirmed by the function's own values (:mod:`handprop.verifier.checks.slopes`), which
rest on no derivative.
"""

import dataclasses
import enum
import itertools
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from handprop.verifier.checks.convergence import tolerated
from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.limits import (
    MAX_DISPUTED,
    RADIUS,
    Direction,
    Entry,
    Limits,
    alike,
    disputed_entries,
    entry_off,
    input_scale,
    limits_along,
    moved_along,
    random_directions,
    with_own,
)
from handprop.verifier.checks.sampling import Point, compared, worst_at
from handprop.verifier.checks.slopes import STEPS, Sides, central, sides, values_along
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.report.text import apart
from handprop.verifier.report.values import Worst

__all__ = [
    "LOOSE",
    "Meaning",
    "of_autodiff",
    "refused_by_values",
    "ruling",
    "ruling_of_a_value",
    "sides_along",
    "values_jump",
]

ASIDE = 2.0**-7  # relative to the inputs' size
SETTLED = 0.2  # relative to the limits' size: where they vary by more, a slope is not known to be finite
MAX_JOINT = 16
STILL = 0.9  # share of a change that remains at a quarter of the step where the function jumps
MAX_REFUSED = 32
PLAINLY = 8  # times the slope's error: an answer that differs by more is wrong
CLOSE = 1e-3  # the smallest argument is this much smaller than the largest
LOOSE = 1e-3  # relative difference that directions taken one by one cannot resolve


class Meaning(enum.Enum):
    """What a difference at a point means."""

    WRONG = "the rule is wrong"
    KINK = "another subgradient"
    JUMP = "another value at a jump"
    RANGE = "out of float64's range"
    EQUALITY = "an equality that rounding decides"
    CONSTANTS = "rounded constants"
    UNCONVERGED = "an iteration that has not converged"
    AUTODIFF = "autodiff is wrong"
    UNDEFINED = "no value"
    UNKNOWN = "cannot be told"


class Ruling(NamedTuple):
    """What a point means: ``said`` is the finding, ``worst`` is the wrong entry.

    ``everywhere``: both programs differ near the point too. ``no_subgradient``: the wrong entries are right one by one,
    or autodiff is no nearer to being right.
    """

    kind: Meaning
    said: str = ""
    worst: Worst | None = None
    everywhere: bool = False
    no_subgradient: bool = False


def ruling(problem: Problem, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Ruling:
    """Decide what the difference at this point means; ``worst`` is its worst entry."""
    output = problem.out_paths.index(worst.path)
    random = random_directions(problem, point, options)
    found = limits_along(evaluator, point, random)
    disputed = list(disputed_entries(problem, point))
    if all(entry_off(found, k, worst, output) for k in range(len(random))):
        return _by_values(problem, point, worst, disputed) or Ruling(Meaning.WRONG, "", worst, True)
    if not problem.gradients[output] or not disputed:
        own = alike(problem, point, output, worst)
        return _at_a_value(with_own(problem, evaluator, point, found, own, options), output, worst)
    if values_jump(problem, point, random):
        return _along_each_alone(problem, point, disputed)
    found = with_own(problem, evaluator, point, found, disputed, options)
    kinds = {entry: _kind_of(found, entry, point) for entry in disputed}
    for n, entry in enumerate(e for e in disputed if kinds[e] in (Meaning.WRONG, None)):
        if entry not in disputed[:MAX_DISPUTED]:
            if n < MAX_REFUSED:
                found = with_own(problem, evaluator, point, found, [entry], options)
            kinds[entry] = _kind_of(found, entry, point) if n < MAX_REFUSED else Meaning.UNKNOWN
        if kinds[entry] not in (Meaning.WRONG, None):
            continue
        slopes = _refusing(problem, point, entry)
        if kinds[entry] is Meaning.WRONG or slopes is not None:
            return _wrong_there(worst_at(problem, point, entry.output, entry.at), slopes)
        kinds[entry] = Meaning.UNKNOWN
    for entry in [entry for entry, kind in kinds.items() if kind is Meaning.UNKNOWN][:MAX_REFUSED]:
        if _is_refused_closely(problem, point, entry):
            return Ruling(Meaning.WRONG, "", worst_at(problem, point, entry.output, entry.at))
    if Meaning.KINK in kinds.values():
        kinky = [entry for entry, kind in kinds.items() if kind is Meaning.KINK]
        kinky += _beside(problem, point, found, kinds)
        return _together(problem, evaluator, point, found, kinky, options)
    if Meaning.UNKNOWN in kinds.values():
        return Ruling(Meaning.UNKNOWN, f"{worst.path} cannot be decided there")
    first = disputed[0]
    slope, want = float(found.tends[first.output][(0, *first.at)]), float(point.want[first.output][first.at])
    return Ruling(Meaning.AUTODIFF, of_autodiff(problem, first, want, slope))


def _wrong_there(worst: Worst, slopes: Sides | None) -> Ruling:
    """Rule an entry at a kink wrong.

    Both programs may have an answer that the function's values exclude; if the rule's is the nearer one, the mistake is
    not the rule's alone.
    """
    if slopes is None or not 0 < slopes.beyond(worst.got) <= slopes.beyond(worst.want) < np.inf:
        return Ruling(Meaning.WRONG, "", worst)
    return Ruling(Meaning.WRONG, _no_subgradient(slopes, worst.got), worst, no_subgradient=True)


def ruling_of_a_value(problem: Problem, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Ruling:
    """Decide what it means that two values, not gradients, differ at this point."""
    found = limits_along(evaluator, point, random_directions(problem, point, options))
    return _at_a_value(found, problem.out_paths.index(worst.path), worst)


def _at_a_value(found: Limits, output: int, worst: Worst) -> Ruling:
    """Rule on two values that differ here but not nearby: wrong where the reference is continuous, else a jump."""
    tends, near = (x[output][(slice(None), *worst.index)] for x in (found.tends, found.want))
    gap = abs(worst.got - worst.want)
    with np.errstate(all="ignore"):
        close = np.isfinite(tends) & (np.abs(tends - worst.want) < (gap / 4 if np.isfinite(gap) else np.inf))
        still = close if np.isfinite(worst.want) else near == worst.want
    if still.all():
        return Ruling(Meaning.WRONG, "", worst)
    return Ruling(Meaning.JUMP, f"the reference jumps there, and {worst.path} by hand is another of its values")


def _kind_of(found: Limits, entry: Entry, point: Point) -> Meaning | None:
    """Return what the limits say about one entry; None means wrong if the function's values say so too.

    The function counts as smooth only where its whole gradient with respect to this input is: a median of equal entries
    has a slope of 0 along each coordinate, and still a kink.
    """
    leaf, at = found.tends[entry.output], (slice(None), *entry.at)
    tends, slack = leaf[at], found.slack[entry.output][at]
    got, want = float(point.got[entry.output][entry.at]), float(point.want[entry.output][entry.at])
    low, high = float(tends.min()), float(tends.max())
    room = float(slack.max() + point.bound[entry.output][entry.at])
    size = max(abs(low), abs(high), abs(want))
    gap = abs(got - want) if np.isfinite(got) else SETTLED * (size + 0.1)
    if not np.isfinite([low, high, room]).all() or not room <= gap / 4:
        return Meaning.UNKNOWN
    if (leaf.max(axis=0) - leaf.min(axis=0)).max() < gap / 4:
        if abs(want - low) < gap / 4 + room:
            return Meaning.WRONG
        return Meaning.AUTODIFF if abs(got - low) < gap / 4 + room else None
    return (
        Meaning.KINK if low - room <= got <= high + room or _is_selection(leaf, point.got[entry.output], room) else None
    )


def _is_selection(leaf: np.ndarray, got: np.ndarray, room: float) -> bool:
    """Whether the entries are those of some limit in another order, as where one of many ties is selected."""
    flat = np.sort(leaf.reshape(len(leaf), -1), axis=1)
    return bool((np.abs(flat - np.sort(got.ravel())).max(axis=1) <= room).any())


def _by_values(problem: Problem, point: Point, worst: Worst, disputed: Sequence[Entry]) -> Ruling | None:
    """Decide by the function's values.

    Autodiff is wrong where their slope is the rule's answer and not autodiff's. Where the function contains a solver
    whose derivative somebody wrote by hand and its values have no slope, nothing is decided.
    """
    here = [e for e in disputed if (problem.out_paths[e.output], e.at) == (worst.path, worst.index)]
    if not here:
        return None
    wrong = of_autodiff(problem, here[0], worst.want, worst.got)
    if not problem.solves:
        return Ruling(Meaning.AUTODIFF, wrong) if _is_more_precise(problem, point, here[0], worst) else None
    slopes = sides_along(problem, point, {here[0]: 1.0})
    if slopes is None:
        return Ruling(Meaning.UNKNOWN, f"{worst.path} cannot be decided there")
    if not slopes.allow(worst.got, LOOSE * abs(worst.got)) or slopes.allow(worst.want, LOOSE * abs(worst.want)):
        return None
    return Ruling(Meaning.AUTODIFF, wrong)


def _is_more_precise(problem: Problem, point: Point, entry: Entry, worst: Worst) -> bool:
    """Whether a small difference is autodiff's error, as where JAX approximates the derivative of a special function.

    The slope of the function's values then tells the two answers apart, and it is the rule's.
    """
    if problem.primal is None or problem.stops or not abs(worst.got - worst.want) <= LOOSE * abs(worst.want):
        return False
    along = np.zeros(point.inputs[entry.source].shape)
    along[entry.at] = 1.0
    size = input_scale(point.inputs, [entry.source])
    cotangents = [np.asarray(point.inputs[i]) for i in problem.cotangents]
    slope, error = central(values_along(problem, point.inputs, {entry.source: along}, size), cotangents)
    slope, error = slope / size, error / size
    return bool(abs(worst.got - slope) <= error < abs(worst.want - slope) / PLAINLY)


def refused_by_values(problem: Problem, evaluator: Evaluator, point: Point, options: Options) -> Worst | None:
    """Return the first entry of a hand-written gradient that the function's own values exclude.

    Their slope takes the place of the reference's answer. They must exclude the entry a step away too, because at a
    kink a slope along one coordinate decides nothing.
    """
    entries = (Entry(k, tuple(map(int, at)), i) for k, i in problem.owners
               for at in np.ndindex(point.got[k].shape) if np.isfinite(point.got[k][at]))  # fmt: skip
    near = [compared(evaluator, moved_along(point.inputs, along, ASIDE * input_scale(point.inputs, list(along))), 0)
            for along in random_directions(problem, point, options)[:2]]  # fmt: skip
    least = tolerated(problem, point)
    for entry in itertools.islice(entries, MAX_REFUSED):
        slopes = _refusing(problem, point, entry)
        if slopes is not None and abs(float(point.got[entry.output][entry.at]) - slopes.left) <= least:
            continue
        if slopes is not None and all(_refusing(problem, other, entry) is not None for other in near):
            worst = worst_at(problem, point, entry.output, entry.at)
            return dataclasses.replace(worst, want=(slopes.left + slopes.right) / 2, ulps=None, bound=None)
    return None


def _is_refused_closely(problem: Problem, point: Point, entry: Entry) -> bool:
    """Whether the function's values have the reference's slope and not the rule's, at steps as small as the smallest
    argument: beside a pole, steps of the size of the largest one lead past it."""
    sizes = np.concatenate([np.abs(np.asarray(point.inputs[i])).ravel() for i in problem.wrt])
    least = float(sizes[sizes > 0].min(initial=np.inf))
    if not least < CLOSE * input_scale(point.inputs, problem.wrt):
        return False
    slopes = sides_along(problem, point, {entry: 1.0}, least)
    got, want = (float(x[entry.output][entry.at]) for x in (point.got, point.want))
    return slopes is not None and (
        slopes.allow(want, LOOSE * abs(want)) and not slopes.allow(got, LOOSE * max(abs(want), abs(got)))
    )


def _refusing(problem: Problem, point: Point, entry: Entry) -> Sides | None:
    """Return the slopes of the function's values along the entry's coordinate if they exclude the rule's answer."""
    slopes = sides_along(problem, point, {entry: 1.0})
    got = float(point.got[entry.output][entry.at])
    if slopes is None or (np.isfinite(got)
                          and slopes.allow(got, LOOSE * max(abs(slopes.left), abs(slopes.right)))):  # fmt: skip
        return None
    return slopes


def sides_along(problem: Problem, point: Point, weights: dict[Entry, float], size: float = 0.0) -> Sides | None:
    """Return the one-sided slopes along weighted coordinates, or None if they cannot be measured.

    Steps are measured in ``size``, by default that of the largest argument that moves.
    """
    if problem.primal is None:
        return None
    along = {e.source: np.zeros(point.inputs[e.source].shape) for e in weights}
    for entry, weight in weights.items():
        along[entry.source][entry.at] = weight
    size = size or input_scale(point.inputs, list(along))
    cotangents = [np.asarray(point.inputs[i]) for i in problem.cotangents]
    found = sides(values_along(problem, point.inputs, along, size), cotangents, size)
    told = np.isfinite(found).all() and found.error <= 1e-2 * max(abs(found.left), abs(found.right)) + 1e-9
    return found if told else None


def values_jump(problem: Problem, point: Point, directions: Sequence[Direction]) -> bool:
    """Whether the function's own values jump at the point along one of the directions."""
    if problem.primal is None:
        return False
    here = values_along(problem, point.inputs, {})(0.0)
    with np.errstate(all="ignore"):
        for along in directions:
            values = values_along(problem, point.inputs, along, input_scale(point.inputs, list(along)))
            near, far = values(STEPS[-1]), values(STEPS[-2])
            for a, b, c in zip(here, near, far, strict=True):
                change, before = np.abs(b - a), np.abs(c - a)
                if (np.isfinite(change) & (change > STILL * before) & (change > LOOSE * np.abs(a) + 1e-9)).any():
                    return True
    return False


def _along_each_alone(problem: Problem, point: Point, disputed: Sequence[Entry]) -> Ruling:
    """Decide where the function jumps, so that the limits of its gradients say nothing.

    Each entry is compared with the slope along its own coordinate, with the others fixed.
    """
    for entry in disputed:
        if _refusing(problem, point, entry) is not None or _is_refused_closely(problem, point, entry):
            return Ruling(Meaning.WRONG, "", worst_at(problem, point, entry.output, entry.at))
    return Ruling(Meaning.UNKNOWN, "the function jumps there, so its gradient cannot be decided")


def _beside(problem: Problem, point: Point, found: Limits, kinds: Container[Entry]) -> Iterator[Entry]:
    """Yield the undisputed entries whose limits differ all the same."""
    for k, i in problem.owners:
        apart = np.ptp(found.tends[k], axis=0) > found.slack[k].max(axis=0) + LOOSE * np.abs(found.tends[k]).max(axis=0)
        entries = (Entry(k, tuple(map(int, at)), i) for at in np.argwhere(apart & np.isfinite(point.got[k])))
        yield from (entry for entry in entries if entry not in kinds)


def _together(problem: Problem, evaluator: Evaluator, point: Point, limits: Limits, entries: Sequence[Entry],
              options: Options) -> Ruling:  # fmt: skip
    """Decide whether entries that are right one by one are right together; disputed ones come first."""
    kinky = entries[:MAX_JOINT]
    g = np.array([float(point.got[e.output][e.at]) for e in kinky])
    want = np.array([float(point.want[e.output][e.at]) for e in kinky])
    rng = options.rng(Stream.KINKS)
    tried = [np.sign(g - want), np.sign(g), np.ones(len(kinky)), *(rng.normal(size=(2, len(kinky))))]
    for v in tried if len(kinky) > 1 else []:
        slopes = sides_along(problem, point, dict(zip(kinky, v, strict=True)))
        slack = LOOSE * float(np.abs(g * v).sum())
        if slopes is None or slopes.allow(float(g @ v), slack):
            continue
        low, high = _extremes(evaluator, point, limits, kinky, v)
        if not low - slack <= g @ v <= high + slack:
            first = kinky[int(np.argmax(np.abs(g - want)))]
            return Ruling(Meaning.WRONG, _no_subgradient(slopes, float(g @ v)),
                          worst_at(problem, point, first.output, first.at), no_subgradient=True)  # fmt: skip
    paths = ", ".join(dict.fromkeys(problem.out_paths[e.output] for e in kinky))
    return Ruling(Meaning.KINK, f"the function has a kink: {paths} by hand is a different subgradient from autodiff's")


def _no_subgradient(slopes: Sides, slope: float) -> str:
    low, high = sorted((slopes.left, slopes.right))
    return (f"along one direction it has the slope {slope:.6g}, but the function's values have "
            + (f"{low:.6g}" if high - low <= 2 * slopes.error else f"{low:.6g} to {high:.6g}"))  # fmt: skip


def _extremes(evaluator: Evaluator, point: Point, limits: Limits, kinky: Sequence[Entry],
              v: np.ndarray) -> tuple[float, float]:  # fmt: skip
    """Return the least and the greatest ``<., v>`` that is found among the reference's limits.

    Those that are known count. Others are found from ``x + v`` and ``x - v``: the signs of single entries are flipped
    as long as that improves the extreme.
    """

    def slope(u: np.ndarray) -> float:
        along = {e.source: np.zeros(point.inputs[e.source].shape) for e in kinky}
        for entry, part in zip(kinky, u, strict=True):
            along[entry.source][entry.at] = part
        radius = RADIUS * input_scale(point.inputs, list(along))
        want = evaluator.clean(moved_along(point.inputs, along, radius / 4))[1]
        return float(sum(want[e.output][e.at] * part for e, part in zip(kinky, v, strict=True)))

    known = sum(limits.tends[e.output][(slice(None), *e.at)] * part for e, part in zip(kinky, v, strict=True))
    found = [*np.asarray(known)[np.isfinite(known)]]
    for sign in (-1.0, 1.0):
        best = sign * slope(sign * v), sign * v
        for n in range(len(kinky)):
            turned = np.where(np.arange(len(kinky)) == n, -best[1], best[1])
            if (now := sign * slope(turned)) > best[0]:
                best = now, turned
        found.append(sign * best[0])
    return min(found), max(found)


def of_autodiff(problem: Problem, entry: Entry, want: float, slope: float) -> str:
    by_autodiff, of_values = apart(want, slope)
    return (f"autodiff is wrong: {problem.out_paths[entry.output]}{list(entry.at)} is {by_autodiff} by autodiff, but "
            f"the slope of the function's values is {of_values}")  # fmt: skip
