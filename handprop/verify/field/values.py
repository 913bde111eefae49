"""What a program's arrays become over the field: elements, and how they came about.

A :class:`Value` keeps beside its elements the three relations through which right programs are written differently:
how it is a sum (so that exp of it is a product), how it is a multiple of an exponential (so that log of it is a sum),
and what it is the logarithm of. Whatever only moves entries acts on all of them.

Every value is ``2^-shift N / M`` with polynomials N and M of integer coefficients in everything drawn at random: inputs
and oracle values. A :class:`Degree` bounds how large N and M are; it carries the Schwartz–Zippel bound.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from handprop.verify.field.arithmetic import Elements

__all__ = ["VARIABLE", "Degree", "Term", "Value", "is_positive", "moved", "terms_of"]

MOST_TERMS = 6


class Degree(NamedTuple):
    """Bounds for ``2^-shift N / M``: degrees of N and M, and log2 of the sums of their coefficients' sizes.

    Those sums are at most multiplied by a product and added by a sum, so both bounds follow from the operations alone.
    """

    over: float = 0
    under: float = 0
    bits: float = 0
    under_bits: float = 0
    shift: float = 0

    @staticmethod
    def of(ratio: Fraction) -> "Degree":
        """Of a number."""
        return Degree(0, 0, math.log2(max(abs(ratio.numerator), 1)), math.log2(ratio.denominator))

    def shifted(self, shift: float) -> "Degree":
        return self._replace(bits=self.bits + shift - self.shift, shift=shift)

    def worst(self, other: "Degree") -> "Degree":
        """Of a function that is one or the other."""
        shift = max(self.shift, other.shift)
        return Degree(*map(max, self.shifted(shift), other.shifted(shift)))

    def __add__(self, other: object) -> "Degree":
        """Of the sum of two such functions."""
        if not isinstance(other, Degree):
            return NotImplemented
        shift = max(self.shift, other.shift)
        a, b = self.shifted(shift), other.shifted(shift)
        return Degree(
            max(a.over + b.under, b.over + a.under),
            a.under + b.under,
            max(a.bits + b.under_bits, b.bits + a.under_bits) + 1,
            a.under_bits + b.under_bits,
            shift,
        )

    def __mul__(self, other: object) -> "Degree":
        if not isinstance(other, Degree):
            return NotImplemented
        return Degree(*(x + y for x, y in zip(self, other, strict=True)))

    def summed(self, count: int) -> "Degree":
        """Of a sum of ``count`` such functions with denominators of their own."""
        n = max(count, 1)
        return Degree(
            self.over + (n - 1) * self.under,
            n * self.under,
            self.bits + (n - 1) * self.under_bits + math.log2(n),
            n * self.under_bits,
            self.shift,
        )

    def power(self, exponent: int) -> "Degree":
        n, d = abs(exponent), self if exponent >= 0 else self.inverse()
        return Degree(*(n * x for x in d))

    def inverse(self) -> "Degree":
        return Degree(self.under, self.over, self.under_bits + self.shift, self.bits)

    def grown(self, factor: int) -> "Degree":
        """Of a determinant or a solution of that many rows, a root's norm: products of that many such functions."""
        size, bits = factor * (self.over + self.under), factor * (self.bits + self.under_bits + self.shift + factor)
        return Degree(size, size, bits, bits)

    @property
    def size(self) -> float:
        return self.over + self.under


VARIABLE = Degree(1)
"""Of what is drawn at random."""


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
