"""What is right at one point: where a function has a kink there, or autodiff's own answer is wrong.

At x the gradient of a function that is smooth almost everywhere is any element of the convex hull of its gradients'
limits there (Clarke 1975). Limits are taken of the reference: at ``x + r v`` and ``x + r v / 4``, r = 2^-20, for
random v and along the disputed coordinates. ``4 / 3`` of the step between both extrapolates to r = 0, and four times
that step is what is allowed for the error, which a second derivative makes.

- One limit along all directions: the function is smooth at x, and the one slope is right. Where it is autodiff's, the
  rule is wrong; where autodiff is elsewhere, as in a smooth function written with a maximum, autodiff is.
- Several: a kink. An entry outside its limits' range is wrong, and so are entries that are each inside and together are
  not: ``<g, v>`` has to lie between the slopes to either side along v, or, where the function is not convex, between
  the limits' own ``<., v>``, those that other signs of v show included. (1, 1, 1, 1) is no subgradient of a maximum of
  four. Entries that both programs agree on count too.
- None, where the limits do not settle: nothing is said.

Where the function's own values jump its gradients' limits say nothing, and each entry is held against the slopes of
the values along its coordinate alone.

What refutes at a kink is confirmed by the function's own values (:mod:`handprop.verify.slopes`), which trust no
derivative.
"""

import dataclasses
import enum
import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.executables import array
from handprop.verify.options import Options
from handprop.verify.points import Evaluator, Point, beyond, compared, is_defined, largest, worst_at
from handprop.verify.render import apart
from handprop.verify.report import Worst
from handprop.verify.slopes import STEPS, Sides, central, sides, values_along
from handprop.verify.subject import Subject

__all__ = ["Kind", "Ruling", "agreed_and_wrong", "refused_by_values", "ruling", "ruling_of_a_value"]

RADIUS = 2.0**-20
ASIDE = 2.0**-7  # of the inputs' size
RANDOM = 4
OWN_STILL = 3  # directions along which a disputed entry hardly moves beside the others
SETTLED = 0.2  # of the limits' size: where they vary by a fifth of it a slope is not known to be finite
MOST_DISPUTED = 4
MOST_JOINT = 16
STILL = 0.9  # of a change that is left at a quarter of the step, where the function jumps
MOST_REFUSED = 32
PLAINLY = 8  # times the slope's error by which an answer is off
LOOSE = 1e-3  # of their size: what directions that are taken one by one cannot tell
Direction = dict[int, np.ndarray]


class Kind(enum.Enum):
    """What a difference at a point means."""

    WRONG = "the rule is wrong"
    KINK = "another subgradient"
    JUMP = "another value at a jump"
    RANGE = "out of float64's range"
    EQUALITY = "an equality that rounding decides"
    CONSTANTS = "rounded constants"
    UNCONVERGED = "an iteration that has not converged"
    AUTODIFF = "autodiff is wrong"
    UNKNOWN = "cannot be told"


class Ruling(NamedTuple):
    """``said`` of the point; ``worst`` the entry that is wrong; ``everywhere``: both programs differ near it too;
    ``no_subgradient``: entries are wrong that are right one by one, or autodiff is no nearer to being right."""

    kind: Kind
    said: str = ""
    worst: Worst | None = None
    everywhere: bool = False
    no_subgradient: bool = False


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


def ruling(subject: Subject, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Ruling:
    """What the difference at this point means, whose worst entry is given."""
    output = subject.out_paths.index(worst.path)
    random = _directions(subject, point, options)
    found = _limits(evaluator, point, random)
    disputed = list(_disputed(subject, point))
    if all(_entry_off(found, k, worst, output) for k in range(len(random))):
        return _by_values(subject, point, worst, disputed) or Ruling(Kind.WRONG, "", worst, True)
    if not subject.gradients[output] or not disputed:
        own = _alike(subject, point, output, worst)
        return _at_a_value(_with_own(subject, evaluator, point, found, own, options), output, worst)
    if _values_jump(subject, point, random):
        return _along_each_alone(subject, point, disputed)
    found = _with_own(subject, evaluator, point, found, disputed, options)
    kinds = {entry: _kind_of(found, entry, point) for entry in disputed}
    for n, entry in enumerate(e for e in disputed if kinds[e] in (Kind.WRONG, None)):
        if entry not in disputed[:MOST_DISPUTED]:
            if n < MOST_REFUSED:
                found = _with_own(subject, evaluator, point, found, [entry], options)
            kinds[entry] = _kind_of(found, entry, point) if n < MOST_REFUSED else Kind.UNKNOWN
        if kinds[entry] not in (Kind.WRONG, None):
            continue
        slopes = _refusing(subject, point, entry)
        if kinds[entry] is Kind.WRONG or slopes is not None:
            return _wrong_there(worst_at(subject, point, entry.output, entry.at), slopes)
        kinds[entry] = Kind.UNKNOWN
    if Kind.KINK in kinds.values():
        kinky = [entry for entry, kind in kinds.items() if kind is Kind.KINK]
        kinky += _beside(subject, point, found, kinds)
        return _together(subject, evaluator, point, found, kinky, options)
    if Kind.UNKNOWN in kinds.values():
        return Ruling(Kind.UNKNOWN, f"what {worst.path} is there cannot be told")
    first = disputed[0]
    slope, want = float(found.tends[first.output][(0, *first.at)]), float(point.want[first.output][first.at])
    return Ruling(Kind.AUTODIFF, _of_autodiff(subject, first, want, slope))


def _wrong_there(worst: Worst, slopes: Sides | None) -> Ruling:
    """At a kink both programs may have an answer that the function's values exclude; the nearer one is no mistake of
    the rule alone."""
    if slopes is None or not 0 < slopes.beyond(worst.got) <= slopes.beyond(worst.want) < np.inf:
        return Ruling(Kind.WRONG, "", worst)
    return Ruling(Kind.WRONG, _no_subgradient(slopes, worst.got), worst, no_subgradient=True)


def _disputed(subject: Subject, point: Point) -> Iterator[Entry]:
    """Entries of gradients that are beyond their bound, the furthest first, where they belong to an input."""
    off = [(times[index], Entry(k, tuple(map(int, index)), i))
           for k, i in subject.owners
           for times in [beyond(point.got[k], point.want[k], point.bound[k])]
           for index in map(tuple, np.argwhere(times))] if is_defined(subject, point) else []  # fmt: skip
    yield from (entry for _, entry in sorted(off, key=lambda pair: -pair[0]))


def _alike(subject: Subject, point: Point, output: int, worst: Worst) -> list[Entry]:
    """The entry of a value as one of a gradient by each input of its shape, which it may be without saying so."""
    return [Entry(output, worst.index, i) for i in subject.wrt or subject.moving
            if point.inputs[i].shape == point.want[output].shape]  # fmt: skip


def _drawn(subject: Subject, point: Point, options: Options, *stream: int) -> Direction:
    rng = options.rng(8, *stream)
    return {i: np.asarray(rng.normal(size=point.inputs[i].shape)) for i in subject.wrt or subject.moving}


def _of_one_sign(drawn: Direction) -> list[Direction]:
    return [{i: np.asarray(sign * np.abs(v)) for i, v in drawn.items()} for sign in (1.0, -1.0)]


def _directions(subject: Subject, point: Point, options: Options) -> list[Direction]:
    """Random ones, two of them with entries of one sign."""
    drawn = [_drawn(subject, point, options, n) for n in range(RANDOM + 1)]
    return [*drawn[:RANDOM], *_of_one_sign(drawn[RANDOM])]


def _own_directions(subject: Subject, point: Point, disputed: Sequence[Entry], options: Options) -> list[Direction]:
    """For each of the most disputed coordinates: along it, with a little of a random one beside, and others that leave
    it where it is, two of them with entries of one sign."""
    found = []
    for n, entry in enumerate(disputed[:MOST_DISPUTED]):
        for sign in (1.0, -1.0):
            along = {i: np.asarray(2.0**-10 * v) for i, v in _drawn(subject, point, options, RANDOM + n).items()}
            along[entry.source][entry.at] = sign
            found.append(along)
        drawn = [_drawn(subject, point, options, RANDOM + n, k) for k in range(OWN_STILL + 1)]
        still = [*drawn[:OWN_STILL], *_of_one_sign(drawn[OWN_STILL])]
        for along in still:
            along[entry.source][entry.at] *= 2.0**-10
        found += still
    return found


def _size(inputs: Sequence[Any], places: Sequence[int]) -> float:
    """The largest of the entries, 1 where all are zero: what a step is measured in."""
    return max((largest(inputs[i]) for i in places), default=0.0) or 1.0


def _moved(inputs: Sequence[Any], along: Direction, h: float) -> tuple[Any, ...]:
    with jax.enable_x64(True):
        parts = [array(np.asarray(inputs[i]) + h * v) for i, v in along.items()]
    return tuple(jaxprs.with_replaced(inputs, list(along), parts))


def _limits(evaluator: Evaluator, point: Point, directions: Sequence[Direction]) -> Limits:
    columns: list[tuple[list[np.ndarray], ...]] = []
    with np.errstate(all="ignore"):
        for along in directions:
            radius = RADIUS * _size(point.inputs, list(along))
            far = evaluator.clean(_moved(point.inputs, along, radius))[1]
            got, near = evaluator.clean(_moved(point.inputs, along, radius / 4))
            steps = [a - b for a, b in zip(near, far, strict=True)]
            tends = [a + s / 3 for a, s in zip(near, steps, strict=True)]
            slack = [4 * np.abs(s) + 4 * evaluator.eta * np.abs(a) for a, s in zip(near, steps, strict=True)]
            columns.append((tends, slack, got, near))
    return Limits(*([np.stack([np.asarray(x) for x in rows]) for rows in zip(*part, strict=True)]
                    for part in zip(*columns, strict=True)))  # fmt: skip


def _with_own(subject: Subject, evaluator: Evaluator, point: Point, found: Limits, disputed: Sequence[Entry],
              options: Options) -> Limits:  # fmt: skip
    """These limits, and those along the entries' own directions."""
    own = _own_directions(subject, point, disputed, options)
    if not own:
        return found
    more = _limits(evaluator, point, own)
    return Limits(*([np.concatenate(pair) for pair in zip(*parts, strict=True)]
                    for parts in zip(found, more, strict=True)))  # fmt: skip


def _entry_off(found: Limits, k: int, worst: Worst, output: int) -> bool:
    """Whether the programs differ a step away as much as at the point: then it is no matter of this point alone."""
    got, want = (float(x[output][k][worst.index]) for x in (found.got, found.want))
    if not np.isfinite(worst.got):
        return bool(np.isfinite(want) and not np.isfinite(got))
    return abs(got - want) > abs(worst.got - worst.want) / 2


def ruling_of_a_value(subject: Subject, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Ruling:
    """What it means that two values differ at this point, no gradients."""
    found = _limits(evaluator, point, _directions(subject, point, options))
    return _at_a_value(found, subject.out_paths.index(worst.path), worst)


def _at_a_value(found: Limits, output: int, worst: Worst) -> Ruling:
    """Two values differ here and not near: wrong where the reference is continuous, else a jump."""
    tends, near = (x[output][(slice(None), *worst.index)] for x in (found.tends, found.want))
    gap = abs(worst.got - worst.want)
    with np.errstate(all="ignore"):
        close = np.isfinite(tends) & (np.abs(tends - worst.want) < (gap / 4 if np.isfinite(gap) else np.inf))
        still = close if np.isfinite(worst.want) else near == worst.want
    if still.all():
        return Ruling(Kind.WRONG, "", worst)
    return Ruling(Kind.JUMP, f"the reference jumps there: {worst.path} by hand has another of its values")


def _kind_of(found: Limits, entry: Entry, point: Point) -> Kind | None:
    """What the limits say of one entry; None: wrong, if the function's values say so too.

    The function counts as smooth where its whole gradient to this input is: a median of equal entries has a slope of 0
    along each coordinate, and a kink all the same.
    """
    leaf, at = found.tends[entry.output], (slice(None), *entry.at)
    tends, slack = leaf[at], found.slack[entry.output][at]
    got, want = float(point.got[entry.output][entry.at]), float(point.want[entry.output][entry.at])
    low, high = float(tends.min()), float(tends.max())
    room = float(slack.max() + point.bound[entry.output][entry.at])
    size = max(abs(low), abs(high), abs(want))
    gap = abs(got - want) if np.isfinite(got) else SETTLED * (size + 0.1)
    if not np.isfinite([low, high, room]).all() or not room <= gap / 4:
        return Kind.UNKNOWN
    if (leaf.max(axis=0) - leaf.min(axis=0)).max() < gap / 4:
        if abs(want - low) < gap / 4 + room:
            return Kind.WRONG
        return Kind.AUTODIFF if abs(got - low) < gap / 4 + room else None
    return Kind.KINK if low - room <= got <= high + room or _is_selection(leaf, point.got[entry.output], room) else None


def _is_selection(leaf: np.ndarray, got: np.ndarray, room: float) -> bool:
    """Whether the entries are those of some limit in another order, as where one of many ties is selected."""
    flat = np.sort(leaf.reshape(len(leaf), -1), axis=1)
    return bool((np.abs(flat - np.sort(got.ravel())).max(axis=1) <= room).any())


def _by_values(subject: Subject, point: Point, worst: Worst, disputed: Sequence[Entry]) -> Ruling | None:
    """What the function's values say: that autodiff is wrong, where their slope is the rule's answer and not
    autodiff's; and nothing of a function that solves by a derivative that somebody wrote, where its values have no
    slope."""
    here = [e for e in disputed if (subject.out_paths[e.output], e.at) == (worst.path, worst.index)]
    if not here:
        return None
    of_autodiff = _of_autodiff(subject, here[0], worst.want, worst.got)
    if not subject.solves:
        return Ruling(Kind.AUTODIFF, of_autodiff) if _is_more_precise(subject, point, here[0], worst) else None
    slopes = _sides_along(subject, point, {here[0]: 1.0})
    if slopes is None:
        return Ruling(Kind.UNKNOWN, f"what {worst.path} is there cannot be told")
    if not slopes.allow(worst.got, LOOSE * abs(worst.got)) or slopes.allow(worst.want, LOOSE * abs(worst.want)):
        return None
    return Ruling(Kind.AUTODIFF, of_autodiff)


def _is_more_precise(subject: Subject, point: Point, entry: Entry, worst: Worst) -> bool:
    """Whether a small difference is autodiff's, as where the derivative of a special function that JAX ships is an
    approximation: the slope of the function's values tells both answers apart, and is the rule's."""
    if subject.primal is None or subject.stops or not abs(worst.got - worst.want) <= LOOSE * abs(worst.want):
        return False
    along = np.zeros(point.inputs[entry.source].shape)
    along[entry.at] = 1.0
    size = _size(point.inputs, [entry.source])
    cotangents = [np.asarray(point.inputs[i]) for i in subject.cotangents]
    slope, error = central(values_along(subject, point.inputs, {entry.source: along}, size), cotangents)
    slope, error = slope / size, error / size
    return bool(abs(worst.got - slope) <= error < abs(worst.want - slope) / PLAINLY)


def refused_by_values(subject: Subject, evaluator: Evaluator, point: Point, options: Options) -> Worst | None:
    """The first entry of a gradient by hand that the function's own values refuse, with their slope as what belongs
    there; they do so a step away too, as at a kink a slope along one coordinate does not tell."""
    entries = (Entry(k, tuple(map(int, at)), i) for k, i in subject.owners
               for at in np.ndindex(point.got[k].shape) if np.isfinite(point.got[k][at]))  # fmt: skip
    near = [compared(evaluator, _moved(point.inputs, along, ASIDE * _size(point.inputs, list(along))), 0)
            for along in _directions(subject, point, options)[:2]]  # fmt: skip
    for entry in itertools.islice(entries, MOST_REFUSED):
        slopes = _refusing(subject, point, entry)
        if slopes is not None and all(_refusing(subject, other, entry) is not None for other in near):
            worst = worst_at(subject, point, entry.output, entry.at)
            return dataclasses.replace(worst, want=(slopes.left + slopes.right) / 2, ulps=None, bound=None)
    return None


def _refusing(subject: Subject, point: Point, entry: Entry) -> Sides | None:
    """The slopes of the function's values along the entry's coordinate, where they exclude the rule's answer."""
    slopes = _sides_along(subject, point, {entry: 1.0})
    got = float(point.got[entry.output][entry.at])
    if slopes is None or (np.isfinite(got)
                          and slopes.allow(got, LOOSE * max(abs(slopes.left), abs(slopes.right)))):  # fmt: skip
        return None
    return slopes


def _sides_along(subject: Subject, point: Point, weights: dict[Entry, float]) -> Sides | None:
    """One-sided slopes along weighed coordinates, None where they cannot be told."""
    if subject.primal is None:
        return None
    along = {e.source: np.zeros(point.inputs[e.source].shape) for e in weights}
    for entry, weight in weights.items():
        along[entry.source][entry.at] = weight
    size = _size(point.inputs, list(along))
    cotangents = [np.asarray(point.inputs[i]) for i in subject.cotangents]
    found = sides(values_along(subject, point.inputs, along, size), cotangents, size)
    told = np.isfinite(found).all() and found.error <= 1e-2 * max(abs(found.left), abs(found.right)) + 1e-9
    return found if told else None


def _values_jump(subject: Subject, point: Point, directions: Sequence[Direction]) -> bool:
    """Whether the function's own values jump at the point along one of the directions."""
    if subject.primal is None:
        return False
    here = values_along(subject, point.inputs, {})(0.0)
    with np.errstate(all="ignore"):
        for along in directions:
            values = values_along(subject, point.inputs, along, _size(point.inputs, list(along)))
            near, far = values(STEPS[-1]), values(STEPS[-2])
            for a, b, c in zip(here, near, far, strict=True):
                change, before = np.abs(b - a), np.abs(c - a)
                if (np.isfinite(change) & (change > STILL * before) & (change > LOOSE * np.abs(a) + 1e-9)).any():
                    return True
    return False


def _along_each_alone(subject: Subject, point: Point, disputed: Sequence[Entry]) -> Ruling:
    """Where the function jumps what its gradients tend to says nothing: each entry is the slope along its coordinate,
    the others being held."""
    for entry in disputed:
        if _refusing(subject, point, entry) is not None:
            return Ruling(Kind.WRONG, "", worst_at(subject, point, entry.output, entry.at))
    return Ruling(Kind.UNKNOWN, "the function jumps there, and what its gradient is cannot be told")


def _beside(subject: Subject, point: Point, found: Limits, kinds: Container[Entry]) -> Iterator[Entry]:
    """Entries of which nothing is disputed, and whose limits differ all the same."""
    for k, i in subject.owners:
        apart = np.ptp(found.tends[k], axis=0) > found.slack[k].max(axis=0) + LOOSE * np.abs(found.tends[k]).max(axis=0)
        entries = (Entry(k, tuple(map(int, at)), i) for at in np.argwhere(apart & np.isfinite(point.got[k])))
        yield from (entry for entry in entries if entry not in kinds)


def _together(subject: Subject, evaluator: Evaluator, point: Point, limits: Limits, entries: Sequence[Entry],
              options: Options) -> Ruling:  # fmt: skip
    """Whether entries that are right one by one are so together, the disputed ones first."""
    kinky = entries[:MOST_JOINT]
    g = np.array([float(point.got[e.output][e.at]) for e in kinky])
    want = np.array([float(point.want[e.output][e.at]) for e in kinky])
    rng = options.rng(9)
    tried = [np.sign(g - want), np.sign(g), np.ones(len(kinky)), *(rng.normal(size=(2, len(kinky))))]
    for v in tried if len(kinky) > 1 else []:
        slopes = _sides_along(subject, point, dict(zip(kinky, v, strict=True)))
        slack = LOOSE * float(np.abs(g * v).sum())
        if slopes is None or slopes.allow(float(g @ v), slack):
            continue
        low, high = _extremes(evaluator, point, limits, kinky, v)
        if not low - slack <= g @ v <= high + slack:
            first = kinky[int(np.argmax(np.abs(g - want)))]
            return Ruling(Kind.WRONG, _no_subgradient(slopes, float(g @ v)),
                          worst_at(subject, point, first.output, first.at), no_subgradient=True)  # fmt: skip
    paths = ", ".join(dict.fromkeys(subject.out_paths[e.output] for e in kinky))
    return Ruling(Kind.KINK, f"the function has a kink: {paths} by hand is another subgradient than autodiff's")


def _no_subgradient(slopes: Sides, slope: float) -> str:
    low, high = sorted((slopes.left, slopes.right))
    return (f"along one direction it has the slope {slope:.6g}, the function's values have "
            + (f"{low:.6g}" if high - low <= 2 * slopes.error else f"{low:.6g} to {high:.6g}"))  # fmt: skip


def _extremes(evaluator: Evaluator, point: Point, limits: Limits, kinky: Sequence[Entry],
              v: np.ndarray) -> tuple[float, float]:  # fmt: skip
    """The least and the most that ``<., v>`` of the reference's limits is found to be, of those that are known and of
    others: from ``x + v`` and ``x - v`` on, signs of single entries are turned as long as that gains."""

    def slope(u: np.ndarray) -> float:
        along = {e.source: np.zeros(point.inputs[e.source].shape) for e in kinky}
        for entry, part in zip(kinky, u, strict=True):
            along[entry.source][entry.at] = part
        radius = RADIUS * _size(point.inputs, list(along))
        want = evaluator.clean(_moved(point.inputs, along, radius / 4))[1]
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


def _of_autodiff(subject: Subject, entry: Entry, want: float, slope: float) -> str:
    by_autodiff, of_values = apart(want, slope)
    return (f"autodiff is wrong: {subject.out_paths[entry.output]}{list(entry.at)} is {by_autodiff} by autodiff, the "
            f"slope of the function's values is {of_values}")  # fmt: skip


def agreed_and_wrong(subject: Subject, evaluator: Evaluator, point: Point,
                     options: Options) -> tuple[str, Worst] | None:  # fmt: skip
    """Where both programs agree on a gradient that the smooth function does not have: what is wrong of autodiff's, and
    the entry, with the limit in the place of the reference's answer."""
    if subject.primal is None or not subject.owners or not is_defined(subject, point):
        return None
    if (lost := _lost_together(subject, point, options)) is not None:
        return lost
    found = _limits(evaluator, point, _directions(subject, point, options))
    for k, source in subject.owners:
        limit = found.tends[k][0]
        with np.errstate(all="ignore"):
            room = found.slack[k].max(axis=0) + point.bound[k] + 1e-6 * np.abs(limit)
            calm = np.ptp(found.tends[k], axis=0) <= room
            gap = np.minimum(np.abs(point.want[k] - limit), np.abs(point.got[k] - limit))
            off = (gap > 8 * room + LOOSE * np.abs(limit)) & np.isfinite(gap)
        if not calm.all() or not off.any() or not _is_smooth(subject, point, found, options):
            continue
        entry = Entry(k, tuple(map(int, np.argwhere(off)[0])), source)
        worst = worst_at(subject, point, k, entry.at)
        said = _of_autodiff(subject, entry, float(point.want[k][entry.at]), float(limit[entry.at]))
        return said, dataclasses.replace(worst, want=float(limit[entry.at]), ulps=None, bound=None)
    return None


def _lost_together(subject: Subject, point: Point, options: Options) -> tuple[str, Worst] | None:
    """An entry that is no number in either gradient where the function's values have one slope to both sides, and jump
    along no direction."""
    entries = (Entry(k, tuple(map(int, at)), i) for k, i in subject.owners
               for at in np.argwhere(~np.isfinite(point.got[k]) & ~np.isfinite(point.want[k])))  # fmt: skip
    for entry in itertools.islice(entries, MOST_DISPUTED):
        slopes = _sides_along(subject, point, {entry: 1.0})
        if slopes is not None and abs(slopes.left - slopes.right) <= 2 * slopes.error + LOOSE * abs(slopes.left):
            if _values_jump(subject, point, _directions(subject, point, options)):
                return None
            worst = worst_at(subject, point, entry.output, entry.at)
            said = _of_autodiff(subject, entry, worst.want, slopes.left)
            return said, dataclasses.replace(worst, want=slopes.left, ulps=None, bound=None)
    return None


def _is_smooth(subject: Subject, point: Point, found: Limits, options: Options) -> bool:
    """Whether the function's values have, along random directions, the slopes that the limits say, to both sides."""
    cotangents = [np.asarray(point.inputs[i]) for i in subject.cotangents]
    size = _size(point.inputs, subject.wrt)
    for n in range(RANDOM):
        along = {i: options.rng(11, n).normal(size=point.inputs[i].shape) for i in subject.wrt}
        expected = sum(float(np.sum(found.tends[k][0] * along[i])) for k, i in subject.owners)
        slopes = sides(values_along(subject, point.inputs, along, size), cotangents, size)
        off = max(abs(slopes.left - expected), abs(slopes.right - expected))
        if not off <= slopes.error + LOOSE * abs(expected) + 1e-9:
            return False
        if not slopes.error <= 1e-2 * abs(expected) + 1e-6:
            return False
    return True
