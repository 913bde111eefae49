"""Bounds on the polynomials that a value stands for, as the Schwartz–Zippel lemma needs them.

Every value is ``2^-shift N / M``, where N and M are polynomials with integer coefficients in everything that is drawn
at random: inputs and oracle values. Two numbers are bounded, the degree and log2 of the sum of the coefficients'
magnitudes ("bits"). Under a product these sums at most multiply, and under a sum they at most add, so all bounds follow
from the operations alone.

All bounds are floats, which become infinite where an integer would grow without end.

There are two accounts, each far better than the other for some programs. Either every entry has a denominator of its
own, and sums multiply denominators (:class:`Degree`), or the whole array has one denominator, known by its factors
(:class:`Whole`).
"""

import math
from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

__all__ = ["VARIABLE", "Bound", "Degree", "Whole"]

MAX_FACTORS = 256


class Degree(NamedTuple):
    """For each entry: the degrees of numerator and denominator, the bits of both, and the shift."""

    numerator: float = 0.0
    denominator: float = 0.0
    bits: float = 0.0
    denominator_bits: float = 0.0
    shift: float = 0.0

    def shifted(self, shift: float) -> "Degree":
        return self._replace(bits=self.bits + shift - self.shift, shift=shift)

    def worst(self, other: "Degree") -> "Degree":
        """The bound for a function that is one or the other."""
        shift = max(self.shift, other.shift)
        return Degree(*map(max, self.shifted(shift), other.shifted(shift)))

    def __add__(self, other: object) -> "Degree":
        """The bound for the sum of two such functions."""
        if not isinstance(other, Degree):
            return NotImplemented
        shift = max(self.shift, other.shift)
        a, b = self.shifted(shift), other.shifted(shift)
        return Degree(
            max(a.numerator + b.denominator, b.numerator + a.denominator),
            a.denominator + b.denominator,
            max(a.bits + b.denominator_bits, b.bits + a.denominator_bits) + 1,
            a.denominator_bits + b.denominator_bits,
            shift,
        )

    def __mul__(self, other: object) -> "Degree":
        if not isinstance(other, Degree):
            return NotImplemented
        return Degree(*(x + y for x, y in zip(self, other, strict=True)))

    def summed(self, count: int) -> "Degree":
        """The bound for a sum of ``count`` such functions, each with its own denominator."""
        n = max(count, 1)
        return Degree(
            self.numerator + (n - 1) * self.denominator,
            n * self.denominator,
            self.bits + (n - 1) * self.denominator_bits + math.log2(n),
            n * self.denominator_bits,
            self.shift,
        )

    def power(self, exponent: int) -> "Degree":
        return Degree(*(exponent * x for x in self))

    def inverse(self) -> "Degree":
        return Degree(self.denominator, self.numerator, self.denominator_bits + self.shift, self.bits)

    def grown(self, factor: int) -> "Degree":
        """The bound for a determinant or a solution with ``factor`` rows: sums of products of that many such
        functions."""
        size, bits = (
            factor * (self.numerator + self.denominator),
            factor * (self.bits + self.denominator_bits + self.shift + factor),
        )
        return Degree(size, size, bits, bits)


class Whole(NamedTuple):
    """For all entries over one denominator ``M``, the product of ``factors``: exponent, degree and bits by name."""

    numerator: float = 0.0
    bits: float = 0.0
    shift: float = 0.0
    factors: Mapping[Any, tuple[float, float, float]] = {}

    def lifted(self, other: "Whole") -> "Whole":
        """This bound over the least common denominator of both, at the larger shift."""
        shift = max(self.shift, other.shift)
        numerator, bits, factors = self.numerator, self.bits + shift - self.shift, dict(self.factors)
        for name, (exponent, degree, size) in other.factors.items():
            lacking = exponent - factors.get(name, (0,))[0]
            if lacking > 0:
                numerator, bits = numerator + lacking * degree, bits + lacking * size
                factors[name] = (exponent, degree, size)
        return Whole(numerator, bits, shift, factors) if len(factors) <= MAX_FACTORS else UNBOUNDED

    def worst(self, other: "Whole") -> "Whole":
        a, b = self.lifted(other), other.lifted(self)
        return a._replace(numerator=max(a.numerator, b.numerator), bits=max(a.bits, b.bits))

    def __add__(self, other: object) -> "Whole":
        if not isinstance(other, Whole):
            return NotImplemented
        worst = self.worst(other)
        return worst._replace(bits=worst.bits + 1)

    def __mul__(self, other: object) -> "Whole":
        if not isinstance(other, Whole):
            return NotImplemented
        factors = dict(self.factors)
        for name, (exponent, degree, size) in other.factors.items():
            factors[name] = (exponent + factors.get(name, (0,))[0], degree, size)
        return Whole(self.numerator + other.numerator, self.bits + other.bits, self.shift + other.shift, factors)

    def summed(self, count: int) -> "Whole":
        return self._replace(bits=self.bits + math.log2(max(count, 1)))

    def power(self, exponent: int) -> "Whole":
        factors = {name: (exponent * e, *sizes) for name, (e, *sizes) in self.factors.items()} if exponent else {}
        return Whole(exponent * self.numerator, exponent * self.bits, exponent * self.shift, factors)  # pyright: ignore

    def denominator(self) -> tuple[float, float]:
        """Degree and bits of M."""
        return tuple(math.fsum(e * x for e, *sizes in self.factors.values() for x in [sizes[i]]) for i in (0, 1))  # pyright: ignore

    def inverse(self, count: int, name: Hashable) -> "Whole":
        """``M / N_i`` for each of ``count`` entries, over the product of all N_i, which becomes the factor ``name``."""
        degree, bits = self.denominator()
        n, others = max(count, 1), max(count, 1) - 1
        numerator, size = degree + others * self.numerator, bits + self.shift + others * self.bits
        return Whole(numerator, size, 0.0, {name: (1.0, n * self.numerator, n * self.bits)})

    def grown(self, factor: int, count: int, name: Hashable) -> "Whole":
        degree, size = self.denominator()
        d, b = factor * (self.numerator + degree) * count, factor * (self.bits + self.shift + size + factor) * count
        return Whole(d, b, 0.0, {name: (1.0, d, b)})


UNBOUNDED = Whole(math.inf, math.inf)


class Bound(NamedTuple):
    """Both accounts for one array. A ``name`` identifies an array; it is the array's digest."""

    entry: Degree = Degree()
    whole: Whole = Whole()

    @staticmethod
    def number(bits: float, shift: float = 0) -> "Bound":
        return Bound(Degree(bits=bits, shift=shift), Whole(bits=bits, shift=shift))

    @staticmethod
    def of(ratio: Fraction) -> "Bound":
        numerator, denominator = math.log2(max(abs(ratio.numerator), 1)), math.log2(ratio.denominator)
        factors = {("number", ratio.denominator): (1.0, 0.0, denominator)} if denominator else {}
        return Bound(Degree(0.0, 0.0, numerator, denominator), Whole(0.0, numerator, 0.0, factors))

    def worst(self, other: "Bound") -> "Bound":
        return Bound(self.entry.worst(other.entry), self.whole.worst(other.whole))

    def __add__(self, other: object) -> "Bound":
        if not isinstance(other, Bound):
            return NotImplemented
        return Bound(self.entry + other.entry, self.whole + other.whole)

    def __mul__(self, other: object) -> "Bound":
        if not isinstance(other, Bound):
            return NotImplemented
        return Bound(self.entry * other.entry, self.whole * other.whole)

    def summed(self, count: int) -> "Bound":
        return Bound(self.entry.summed(count), self.whole.summed(count))

    def power(self, exponent: int) -> "Bound":
        """The bound for a power with a nonnegative exponent."""
        return Bound(self.entry.power(exponent), self.whole.power(exponent))

    def inverse(self, count: int, name: Hashable) -> "Bound":
        return Bound(self.entry.inverse(), self.whole.inverse(count, name))

    def grown(self, factor: int, count: int, name: Hashable) -> "Bound":
        return Bound(self.entry.grown(factor), self.whole.grown(factor, count, name))

    @property
    def numerator(self) -> float:
        return min(self.entry.numerator, self.whole.numerator)

    @property
    def bits(self) -> float:
        return min(self.entry.bits, self.whole.bits)


VARIABLE = Bound(Degree(1.0), Whole(1.0))
"""The bound for an element that is drawn at random."""
