"""What a program's arrays become over the field: elements, and how they came about.

A :class:`Value` keeps beside its elements the three relations through which right programs are written differently:
how it is a sum (so that exp of it is a product), how it is a multiple of an exponential (so that log of it is a sum),
and what it is the logarithm of. Whatever only moves entries acts on all of them.

Degrees are upper bounds, numerator and denominator, of the value as a rational function of everything drawn at
random: inputs and oracle values. They carry the Schwartz–Zippel bound.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from handprop.verify.field.arithmetic import Elements

__all__ = ["Degree", "Term", "Value", "is_positive", "moved", "terms_of"]

MOST_TERMS = 6


class Degree(NamedTuple):
    """Degrees of numerator and denominator."""

    over: int = 0
    under: int = 0

    def __add__(self, other: object) -> "Degree":
        """Of the sum of two rational functions."""
        if not isinstance(other, Degree):
            return NotImplemented
        if not (self.under or other.under):
            return Degree(max(self.over, other.over))
        return Degree(max(self.over + other.under, other.over + self.under), self.under + other.under)

    def __mul__(self, other: object) -> "Degree":
        if not isinstance(other, Degree):
            return NotImplemented
        return Degree(self.over + other.over, self.under + other.under)

    def summed(self, count: int) -> "Degree":
        """Of a sum of ``count`` such functions with denominators of their own."""
        count = max(count, 1)
        return Degree(self.over + (count - 1) * self.under, count * self.under)

    def power(self, exponent: int) -> "Degree":
        n = abs(exponent)
        return Degree(n * self.over, n * self.under) if exponent >= 0 else Degree(n * self.under, n * self.over)


class Value(NamedTuple):
    """An array over the field.

    ``known``: the real numbers it stands for where they do not depend on the inputs. ``terms``: value = sum of
    coefficient times atom, () for an atom. ``log`` and ``rest``: value = exp(sum of log's terms) rest.
    ``log_of``: value = log(log_of). ``infinite``: +1 or -1 where the entry is an infinity, whose element means nothing.
    ``positive``: positive over the reals almost everywhere, by how it is made.
    """

    x: Elements
    degree: Degree = Degree()
    known: np.ndarray | None = None
    terms: "tuple[Term, ...]" = ()
    log: "tuple[Term, ...]" = ()
    rest: "Value | None" = None
    log_of: "Value | None" = None
    infinite: np.ndarray | None = None
    positive: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape


Term: TypeAlias = tuple[Fraction, Value]


def terms_of(value: Value) -> tuple[Term, ...]:
    """The value as a sum of atoms; an atom is its own only term."""
    return value.terms or ((Fraction(1), value),)


def moved(value: Value, move: Callable[[np.ndarray], np.ndarray]) -> Value:
    """The value with its entries moved, copied or dropped by ``move``, its relations with it."""

    def each(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple((c, moved(atom, move)) for c, atom in terms)

    def maybe(v: Value | None) -> Value | None:
        return None if v is None else moved(v, move)

    return Value(
        value.x.move(move),
        value.degree,
        None if value.known is None else move(value.known),
        each(value.terms),
        each(value.log),
        maybe(value.rest),
        maybe(value.log_of),
        None if value.infinite is None else move(value.infinite),
        value.positive,
    )


def is_positive(value: Value) -> bool:
    """Whether every entry is positive over the reals, except on a set of measure zero."""
    return value.positive or (value.known is not None and bool((value.known > 0).all()))
