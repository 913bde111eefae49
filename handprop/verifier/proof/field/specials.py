"""Infinities and NaN in primitives that act entry by entry.

An entry with a non-finite operand is decided by the real operation. It is tried with the non-finite operand and, in
place of every operand that is an unknown number, with small and large numbers of both signs. A result that is the same
in all trials is taken, and so is one that always equals an operand or its negative. Any other result becomes a label
of everything it was made from, which is equal only to a result that is made in the same way.
"""

import itertools
from collections.abc import Callable
from fractions import Fraction
from functools import reduce

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.functions import choose
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import (
    INFINITY,
    NAN,
    OPAQUE,
    Everywhere,
    Term,
    Value,
    everywhere,
    is_nonnegative,
    is_positive,
    moved,
    plain,
    positive_entries,
)

__all__ = ["are_special", "beside_infinity", "patched", "without_specials"]

TRIED = np.array([-2.5, -0.3, 0.3, 2.5])
MAX_TRIED = 1 << 16
Reference = Callable[..., np.ndarray]


def are_special(values: list) -> bool:
    """Whether some operand has an entry that is not finite."""
    return any(isinstance(v, Value) and v.special is not None and bool(v.special.any()) for v in values)


def without_specials(v: Value) -> Value:
    """The value with zeros in place of infinities and NaN, also in its relations."""
    if v.special is None:
        return v
    if not v.special.any():
        return v._replace(special=None)
    gone = v.special != 0

    def cleared(part: np.ndarray) -> np.ndarray:
        return np.where(gone, np.zeros((), part.dtype), part)

    return moved(v._replace(special=None), cleared)


def patched(run: Run, name: str, reference: Reference, operands: list[Value], result: "Value | np.ndarray",
            ) -> "Value | np.ndarray":  # fmt: skip
    """``result``, computed from the operands :func:`without_specials`, with the entries that non-finite operands
    decide."""
    shape = result.shape
    operands = [moved(plain(v), lambda part: np.broadcast_to(part, shape).reshape(-1)) for v in operands]
    flat = result.reshape(-1) if isinstance(result, np.ndarray) else moved(result, lambda part: part.reshape(-1))
    out = _patched(run, name, reference, operands, flat)
    return out.reshape(shape) if isinstance(out, np.ndarray) else moved(out, lambda part: part.reshape(shape))


def beside_infinity(compare: np.ufunc, a: Value, b: Value) -> np.ndarray | None:
    """The comparison, if one operand is the same infinity everywhere and the other is finite; else None."""
    sides = [0 if v.special is None else int(v.special.flat[0]) if v.special.size else NAN for v in (a, b)]
    uniform = all(v.special is None or (v.special == side).all() for v, side in zip((a, b), sides, strict=True))
    if not uniform or sorted(map(abs, sides)) != [0, INFINITY]:
        return None
    return np.full(np.broadcast_shapes(a.shape, b.shape), bool(compare(*sides)))


def _patched(run: Run, name: str, reference: Reference, operands: list[Value], result: "Value | np.ndarray",
             ) -> "Value | np.ndarray":  # fmt: skip
    where = np.zeros(result.shape, bool)
    for v in operands:
        where |= ~v.finite
    places = np.nonzero(where)
    if places[0].size > MAX_TRIED:
        raise Unsupported("an array with many non-finite entries")
    entries = [moved(v, lambda part: np.asarray(part[places])) for v in operands]
    tried = _tried(run, entries)
    with np.errstate(all="ignore"):
        outcomes = np.asarray(reference(*tried))
    if outcomes.dtype == bool:
        return _patched_truth(result, places, entries, outcomes)
    return _patched_value(run, name, result, places, entries, tried, outcomes)


def _tried(run: Run, entries: list[Value]) -> list[np.ndarray]:
    """For each operand, the numbers that stand for it, as (entries, combinations)."""
    columns = [_stand_ins(run, v) for v in entries]
    combinations = list(itertools.product(*(range(c.shape[1]) for c in columns)))
    return [np.stack([c[:, choice[j]] for choice in combinations], 1) for j, c in enumerate(columns)]


def _stand_ins(run: Run, v: Value) -> np.ndarray:
    """The numbers that stand for one operand, as (entries, trials)."""
    special = np.zeros(v.shape, np.int8) if v.special is None else v.special
    signs = np.where(special > 0, np.inf, -np.inf)
    fixed = np.where((special == NAN) | (special == OPAQUE), np.nan, signs)
    number = np.where(run.field.is_zero(v.x), 0.0, np.nan) if v.known is None else v.known
    unknown = (special == 0) & np.isnan(number)
    fixed = np.where(special == 0, number, fixed)
    if not unknown.any():
        return fixed[:, None]
    tried = np.abs(TRIED) if is_nonnegative(v) else TRIED
    if not is_positive(v) and v.kind is not Kind.RATIONAL:  # it may be zero on a set that matters
        tried = np.append(tried, 0.0)
    return np.where(unknown[:, None], tried, fixed[:, None])


def _patched_truth(result: "Value | np.ndarray", places: tuple, entries: list[Value], outcomes: np.ndarray):
    if any((v.special == OPAQUE).any() for v in entries if v.special is not None):
        raise Unsupported("a truth value of non-finite numbers")
    if (outcomes != outcomes[:, :1]).any():
        raise Unsupported("a truth value that an infinity does not decide")
    truth = outcomes[:, 0]
    if isinstance(result, np.ndarray):
        result = result.copy()
        result[places] = truth
        return result
    return plain(result)._replace(x=_put(result.x, places, Elements(truth.astype(np.int64))))


def _patched_value(run: Run, name: str, result: "Value | np.ndarray", places: tuple, entries: list[Value],
                   tried: list[np.ndarray], outcomes: np.ndarray) -> Value:  # fmt: skip
    result = result if isinstance(result, Value) else run.embed(result)
    opaque = np.zeros(outcomes.shape[0], bool)
    for v in entries:
        opaque |= (v.special if v.special is not None else np.zeros(v.shape, np.int8)) == OPAQUE
    x, special, done = _constant_results(run, outcomes, opaque)
    least = min(result.everywhere, _everywhere_of_numbers(outcomes[done]))
    for v, numbers in zip(entries, tried, strict=True):
        for element, sign in ((v.x, 1.0), (run.field.neg(v.x), -1.0)):
            with np.errstate(invalid="ignore"):
                here = ~done & ~opaque & v.finite & (outcomes == sign * numbers).all(1)
            if here.any():
                least = min(least, everywhere(without_specials(v)), Everywhere.ANALYTIC if sign < 0 else least)
            x, done = choose(here, element, x), done | here
    run.asked(*entries)
    label = run.oracle(f"{name} of what is not finite", *_labels(entries))
    x, special = choose(done, x, label), np.where(done, special, OPAQUE).astype(np.int8)
    whole = np.zeros(result.shape, np.int8) if result.special is None else result.special.copy()
    whole[places] = special
    known = None
    if result.known is not None and not (special == OPAQUE).any():
        known = result.known.copy()
        known[places] = outcomes[:, 0]
    where = np.zeros(result.shape, bool)
    where[places] = True
    with np.errstate(invalid="ignore"):
        below, none = (bool((outcomes < 0).any()), bool((outcomes == 0).any()))
    kind = max(v.kind for v in entries) if where.all() else result.kind
    x = _put(result.x, places, x)
    sure = positive_entries(result).copy()
    with np.errstate(invalid="ignore"):
        sure[places] = (outcomes > 0).all(1)
    return result._replace(
        sure=sure, degree=reduce(Bound.worst, (v.degree for v in entries), result.degree.worst(VARIABLE)),
        x=x, special=whole if whole.any() else None, known=known, kind=kind, everywhere=least,
        nonnegative=is_nonnegative(result) and not below, positive=result.positive and not below and not none,
        power_of=None, factors=None, scaled=None, square_of=None, **_relations(result, where, x),
    )  # fmt: skip


def _everywhere_of_numbers(numbers: np.ndarray) -> Everywhere:
    """What entries that are these numbers are at every point. Infinities are not counted while they stand there."""
    finite_numbers = numbers[np.isfinite(numbers)]
    if (finite_numbers > 0).all():
        return Everywhere.POSITIVE
    return Everywhere.NONNEGATIVE if (finite_numbers >= 0).all() else Everywhere.ANALYTIC


def _relations(result: Value, where: np.ndarray, x: Elements) -> dict:
    """The result's relations as a sum and as a multiple of an exponential, in which new entries are terms and
    factors."""

    def elsewhere(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        gone = ((c, moved(v, lambda part: np.where(where, np.zeros((), part.dtype), part))) for c, v in terms)
        bare = ((c, Value(v.x, v.degree, v.known, kind=v.kind, error=v.error, constant=v.constant)) for c, v in gone)
        return tuple((c, v) for c, v in bare if v.x.re.any() or v.x.im is not None)

    if not result.terms and not result.log:
        return {"log_of": None}
    new = Value(x.move(lambda part: np.where(where, part, 0)), result.degree, kind=result.kind)
    terms = (*elsewhere(result.terms), *([(Fraction(1), new)] if new.x.re.any() else []))
    rest = result.rest
    if rest is not None:
        rest = Value(choose(where, x, rest.x), rest.degree.worst(result.degree), kind=max(rest.kind, result.kind))
    return {"terms": terms if len(terms) > 1 else (), "log": elsewhere(result.log), "rest": rest, "log_of": None}


def _constant_results(run: Run, outcomes: np.ndarray, opaque: np.ndarray) -> tuple[Elements, np.ndarray, np.ndarray]:
    """Elements and specials of the entries whose outcome is always the same infinity, NaN or small integer."""
    first = outcomes[:, 0]
    with np.errstate(invalid="ignore"):
        same = (outcomes == first[:, None]).all(1) | np.isnan(outcomes).all(1)
        whole = np.isfinite(first) & (first == np.round(first)) & (np.abs(first) < 2**20)
    finite = np.isfinite(first)
    special = np.where(np.isnan(first), NAN, np.where(finite, 0, np.sign(first))).astype(np.int8)
    done = same & ~opaque & (whole | ~finite)
    x = run.field.of(np.where(done & finite, first, 0.0).astype(np.int64))
    return x, np.where(done, special, 0).astype(np.int8), done


def _labels(entries: list[Value]) -> list[Elements]:
    """The elements of each operand, and the codes of its non-finite entries."""
    parts = []
    for v in entries:
        special = np.zeros(v.shape, np.int64) if v.special is None else v.special.astype(np.int64) + 2
        parts += [v.x, Elements(special)]
    return parts


def _put(x: Elements, places: tuple, new: Elements) -> Elements:
    re = x.re.copy()
    re[places] = new.re
    if x.im is None and new.im is None:
        return Elements(re)
    im = x.imaginary().copy()
    im[places] = new.imaginary()
    return Elements(re, im)
