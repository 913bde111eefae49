"""Arrays over the field: elements, and how they were computed.

In addition to its elements, a :class:`Value` keeps the three relations by which correct programs are written in
different ways: how it is a sum (so that its exp is a product), how it is a multiple of an exponential (so that its log
is a sum), and what it is the logarithm of. Operations that only move entries act on all of these.

It also keeps facts about the real numbers it stands for. A fact is recorded only if a rule proves it.
"""

import enum
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.degrees import Bound
from handprop.verifier.proof.field.errors import Unsupported

__all__ = [
    "INFINITY",
    "NAN",
    "OPAQUE",
    "Everywhere",
    "Term",
    "Value",
    "everywhere",
    "finite",
    "is_negative",
    "is_nonnegative",
    "is_number",
    "is_positive",
    "moved",
    "of_positive",
    "plain",
    "positive_entries",
    "terms_of",
    "where_positive",
]

MAX_TERMS = 6
# Codes in ``special``, in addition to 0 for a finite number and -1 for minus infinity.
INFINITY, NAN, OPAQUE = 1, 2, 3


class Everywhere(enum.IntEnum):
    """What an expression is at every point of the inputs' space, with the decisions as they are: analytic, then also
    nonnegative, then also positive."""

    UNKNOWN = 0
    ANALYTIC = 1
    NONNEGATIVE = 2
    POSITIVE = 3


class Value(NamedTuple):
    """An array over the field.

    ``known``: the real numbers it stands for if they do not depend on the inputs, each with an error of at most
    ``error``. ``terms``: value = sum of coefficient times atom, () for an atom. ``log`` and ``rest``: value =
    exp(sum of log's terms) rest. ``log_of``: value = log(log_of). ``power_of``: an exponent, and the positive value of
    which this is that power. ``factors``: two nonnegative values whose product (1) or quotient (-1) this is.
    ``scaled``: a positive number, without axes, and the value of which this is that multiple. ``square_of``: the value
    whose square this is.
    ``special``: for each entry, whether it is a finite number (0), an infinity (+1, -1), NaN (2), or not finite with
    nothing more known (3: its element is a label); None if all are finite. The element of an infinity or NaN is 0.
    ``kind``: see the table of primitives. ``positive``, ``nonnegative``: over the reals, almost everywhere. ``sure``:
    which entries are positive, if only some are known to be. ``constant``: no input enters it. ``most``: the largest
    magnitude, for integers. ``everywhere``: what its expression is at every point of the inputs' space, also where
    other decisions would be made. ``about``: for a constant that is not known, an interval for each entry. ``mask``:
    whether its infinities are numbers that stand for minus infinity, as the program's author is assumed to have meant
    them.
    """

    x: Elements
    degree: Bound = Bound()
    known: np.ndarray | None = None
    terms: "tuple[Term, ...]" = ()
    log: "tuple[Term, ...]" = ()
    rest: "Value | None" = None
    log_of: "Value | None" = None
    special: np.ndarray | None = None
    kind: Kind = Kind.RATIONAL
    positive: bool = False
    nonnegative: bool = False
    error: float = 0.0
    most: float = np.inf
    mask: bool = False
    power_of: "tuple[Fraction, Value] | None" = None
    factors: "tuple[Value, Value, int] | None" = None
    scaled: "tuple[Value, Value] | None" = None
    square_of: "Value | None" = None
    constant: bool = False
    sure: np.ndarray | None = None
    everywhere: Everywhere = Everywhere.UNKNOWN
    about: "Interval | None" = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def finite(self) -> np.ndarray:
        """Which entries are finite numbers."""
        return np.ones(self.shape, bool) if self.special is None else self.special == 0


Term: TypeAlias = tuple[Fraction, Value]
Interval: TypeAlias = tuple[np.ndarray, np.ndarray]


def interval(value: Value) -> Interval | None:
    """An interval for each entry of a number that is finite, from what is known of it."""
    if value.special is not None:
        return None
    if value.known is not None and np.isfinite(value.error):
        return value.known - value.error, value.known + value.error
    return value.about


def order_of(a: Value, b: Value) -> np.ndarray | None:
    """The sign of ``a - b`` for two numbers, from their intervals; None if these overlap or are not known."""
    of_a, of_b = interval(a), interval(b)
    if of_a is None or of_b is None:
        return None
    same = (of_a[0] == of_a[1]) & (of_b[0] == of_b[1]) & (of_a[0] == of_b[0])
    greater, less = of_a[0] > of_b[1], of_a[1] < of_b[0]
    return np.asarray(greater.astype(int) - less) if (greater | less | same).all() else None


def terms_of(value: Value) -> tuple[Term, ...]:
    """The value as a sum of atoms. An atom is its own only term."""
    return value.terms or ((Fraction(1), value),)


def plain(v: Value) -> Value:
    """The value without its relations to others."""
    return v._replace(terms=(), log=(), rest=None, log_of=None, power_of=None, factors=None, scaled=None,
                      square_of=None)  # fmt: skip


def moved(value: Value, move: Callable[[np.ndarray], np.ndarray]) -> Value:
    """The value with its entries moved, copied or dropped by ``move``, and its relations and facts too.

    A value that others are related to in several ways is moved once: there are exponentially many ways to it.
    """
    done: dict[int, Value] = {}

    def each(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple((c, once(atom)) for c, atom in terms)

    def maybe(v: Value | None) -> Value | None:
        return None if v is None else once(v)

    def once(v: Value) -> Value:
        if id(v) not in done:
            done[id(v)] = v._replace(
                x=v.x.move(move),
                known=None if v.known is None else move(v.known),
                terms=each(v.terms),
                log=each(v.log),
                rest=maybe(v.rest),
                log_of=maybe(v.log_of),
                special=None if v.special is None else move(v.special),
                sure=None if v.sure is None else move(v.sure),
                about=None if v.about is None else (move(v.about[0]), move(v.about[1])),
                power_of=None if v.power_of is None else (v.power_of[0], once(v.power_of[1])),
                factors=None if v.factors is None else (once(v.factors[0]), once(v.factors[1]), v.factors[2]),
                scaled=None if v.scaled is None else (v.scaled[0], once(v.scaled[1])),
                square_of=maybe(v.square_of),
            )
        return done[id(v)]

    return once(value)


def _least(value: Value) -> np.ndarray:
    """The least that each entry may be."""
    if value.known is not None:
        return value.known - value.error
    return np.asarray(-np.inf) if value.about is None else value.about[0]


def _most(value: Value) -> np.ndarray:
    if value.known is not None:
        return value.known + value.error
    return np.asarray(np.inf) if value.about is None else value.about[1]


def is_positive(value: Value) -> bool:
    """Whether every finite entry is positive over the reals, except on a set of measure zero."""
    return value.positive or bool((_least(value) > 0).all())


def everywhere(*values: Value) -> Everywhere:
    """What all of them are at every point."""
    return min(map(_everywhere, values))


def _everywhere(value: Value) -> Everywhere:
    if value.special is not None:
        return Everywhere.UNKNOWN
    if value.known is None:
        return value.everywhere
    sign = Everywhere.NONNEGATIVE if is_nonnegative(value) else Everywhere.ANALYTIC
    return Everywhere.POSITIVE if is_positive(value) else sign


def where_positive(value: Value, then: Everywhere) -> Everywhere:
    """What a function that is analytic for positive numbers is of it: ``then`` if it is positive at every point."""
    return then if everywhere(value) is Everywhere.POSITIVE else Everywhere.UNKNOWN


def of_positive(value: Value) -> Kind:
    """The kind of a function of it that is analytic for positive numbers, such as a logarithm."""
    return max(value.kind, Kind.ANALYTIC if everywhere(value) is Everywhere.POSITIVE else Kind.RELATED)


def positive_entries(value: Value) -> np.ndarray:
    """Which finite entries are known to be positive, almost everywhere."""
    if value.known is not None or value.about is not None:
        return _least(value) > 0
    return value.sure if value.sure is not None else np.full(value.shape, value.positive)


def is_number(value: Value) -> bool:
    """Whether no input enters it; its value need not be known."""
    return value.constant or value.known is not None


def is_negative(value: Value) -> bool:
    """Whether every finite entry is negative over the reals, except on a set of measure zero."""
    if value.known is not None or value.about is not None:
        return bool((_most(value) < 0).all())
    below = all(c < 0 and is_nonnegative(atom) for c, atom in value.terms)
    return below and any(is_positive(atom) for _, atom in value.terms)


def is_nonnegative(value: Value) -> bool:
    """Whether every finite entry is zero or positive over the reals."""
    if value.nonnegative or value.positive:
        return True
    return bool((_least(value) >= 0).all())


def finite(a: Value, where: str) -> None:
    if a.special is not None and a.special.any():
        raise Unsupported(f"non-finite numbers in {where}")
