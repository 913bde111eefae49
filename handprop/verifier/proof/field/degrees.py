"""Bounds on the polynomials that a value stands for, as the Schwartz–Zippel lemma needs them.

Every value is ``2^-shift N / M``, where N and M are polynomials with integer coefficients in everything that is drawn
at random: inputs and oracle values. Two numbers are bounded, the degree and log2 of the sum of the coefficients'
magnitudes ("bits"). Under a product these sums at most multiply, and under a sum they at most add, so all bounds follow
from the operations alone.

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
    """For each entry: the degrees of N and M, their bits, and the shift."""

    over: float = 0
    under: float = 0
    bits: float = 0
    under_bits: float = 0
    shift: float = 0

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
        """The bound for a sum of ``count`` such functions, each with its own denominator."""
        n = max(count, 1)
        return Degree(
            self.over + (n - 1) * self.under,
            n * self.under,
            self.bits + (n - 1) * self.under_bits + math.log2(n),
            n * self.under_bits,
            self.shift,
        )

    def power(self, exponent: int) -> "Degree":
        return Degree(*(exponent * x for x in self))

    def inverse(self) -> "Degree":
        return Degree(self.under, self.over, self.under_bits + self.shift, self.bits)

    def grown(self, factor: int) -> "Degree":
        """The bound for a determinant or a solution with ``factor`` rows: sums of products of that many such
        functions."""
        size, bits = factor * (self.over + self.under), factor * (self.bits + self.under_bits + self.shift + factor)
        return Degree(size, size, bits, bits)


class Whole(NamedTuple):
    """For all entries over one denominator ``M``, the product of ``factors``: exponent, degree and bits by name."""

    over: float = 0
    bits: float = 0
    shift: float = 0
    factors: Mapping[Any, tuple[int, float, float]] = {}

    def lifted(self, other: "Whole") -> "Whole":
        """This bound over the least common denominator of both, at the larger shift."""
        shift = max(self.shift, other.shift)
        over, bits, factors = self.over, self.bits + shift - self.shift, dict(self.factors)
        for name, (exponent, degree, size) in other.factors.items():
            lacking = exponent - factors.get(name, (0,))[0]
            if lacking > 0:
                over, bits = over + lacking * degree, bits + lacking * size
                factors[name] = (exponent, degree, size)
        return Whole(over, bits, shift, factors) if len(factors) <= MAX_FACTORS else UNBOUNDED

    def worst(self, other: "Whole") -> "Whole":
        a, b = self.lifted(other), other.lifted(self)
        return a._replace(over=max(a.over, b.over), bits=max(a.bits, b.bits))

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
        return Whole(self.over + other.over, self.bits + other.bits, self.shift + other.shift, factors)

    def summed(self, count: int) -> "Whole":
        return self._replace(bits=self.bits + math.log2(max(count, 1)))

    def power(self, exponent: int) -> "Whole":
        factors = {name: (exponent * e, *sizes) for name, (e, *sizes) in self.factors.items()} if exponent else {}
        return Whole(exponent * self.over, exponent * self.bits, exponent * self.shift, factors)  # pyright: ignore

    def denominator(self) -> tuple[float, float]:
        """Degree and bits of M."""
        return tuple(math.fsum(e * x for e, *sizes in self.factors.values() for x in [sizes[i]]) for i in (0, 1))  # pyright: ignore

    def inverse(self, count: int, name: Hashable) -> "Whole":
        """``M / N_i`` for each of ``count`` entries, over the product of all N_i, which becomes the factor ``name``."""
        degree, bits = self.denominator()
        n, others = max(count, 1), max(count, 1) - 1
        over, size = degree + others * self.over, bits + self.shift + others * self.bits
        return Whole(over, size, 0, {name: (1, n * self.over, n * self.bits)})

    def grown(self, factor: int, count: int, name: Hashable) -> "Whole":
        degree, size = self.denominator()
        d, b = factor * (self.over + degree) * count, factor * (self.bits + self.shift + size + factor) * count
        return Whole(d, b, 0, {name: (1, d, b)})


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
        over, under = math.log2(max(abs(ratio.numerator), 1)), math.log2(ratio.denominator)
        factors = {("number", ratio.denominator): (1, 0.0, under)} if under else {}
        return Bound(Degree(0, 0, over, under), Whole(0, over, 0, factors))

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
    def over(self) -> float:
        return min(self.entry.over, self.whole.over)

    @property
    def bits(self) -> float:
        return min(self.entry.bits, self.whole.bits)


VARIABLE = Bound(Degree(1), Whole(1))
"""The bound for an element that is drawn at random."""
