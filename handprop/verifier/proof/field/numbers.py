"""Known numbers as elements of the field: dyadic numbers exactly, literals as they are read."""

import functools
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from handprop.verifier.programs import literals
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.degrees import Bound, Degree, Whole
from handprop.verifier.proof.field.errors import NotUnderstood
from handprop.verifier.proof.field.record import Record, is_made_of_squares
from handprop.verifier.proof.field.values import NAN, Value, plain

__all__ = ["Numbers"]
# A power of pi or log 2 is a power of a random square.
CONSTANT = Bound(Degree(4, 4), Whole(8, 0, 0, {"constant": (1.0, 8.0, 0.0)}))


class Numbers(Record):
    """Conversion of known numbers to elements of the field."""

    def number(self, ratio: Fraction | int, shape: tuple[int, ...] = ()) -> Value:
        ratio = Fraction(ratio)
        residue = self.field.ratio(ratio.numerator, ratio.denominator)
        x = Elements(np.full(shape, residue, np.int64))
        return Value(x, Bound.of(ratio), np.full(shape, float(ratio)))

    def embed(self, array: np.ndarray, read: bool = True) -> Value:
        """Known numbers as a value: integers and booleans as they are, floats as this run reads them."""
        if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
            known = array.astype(np.float64)
            most = float(np.abs(known).max(initial=0.0))
            return Value(self.field.of(array), _size_of(known), known, most=most)
        if np.iscomplexobj(array):
            if np.imag(array).any():
                raise NotUnderstood("a complex number")
            array = np.real(array)
        known = array.astype(np.float64)
        masks = np.isfinite(known) & (known <= literals.MASKED) & (self.rational and read)
        self.masks |= {f"{number:.9g} stands for minus infinity" for number in np.unique(known[masks])}
        known = np.where(masks, -np.inf, known)
        finite_entries = np.isfinite(known)
        numbers = np.where(finite_entries, known, 0.0)
        x, degree, error = self._dyadic(numbers), _size_of(numbers), 0.0
        if self.rational and read:
            x, degree, error = self._as_read(x, degree, numbers, str(array.dtype))
        if finite_entries.all():
            return Value(x, degree, known, error=error)
        special = np.where(np.isnan(known), NAN, np.where(finite_entries, 0, np.sign(known))).astype(np.int8)
        return Value(x, degree, known, special=special, error=error, mask=bool(masks.any()))

    def as_rounded(self, a: Value, dtype: Any) -> Value:
        """The operand of an equation that makes that dtype wider, with literals as the numbers that they were rounded
        to."""
        if not (readings := self.read.get(str(dtype))):
            return a
        if a.known is not None and a.error and np.isfinite(a.error):
            rounded = a.known.astype(dtype).astype(np.float64)
            if (rounded == a.known).all():
                return self.embed(rounded, read=False)._replace(mask=a.mask)
        re, im = a.x.re, a.x.imaginary()
        for number, value in readings.items():
            for literal, element in ((number, value), (-number, self.field.neg(value))):
                here = (a.x.re == element.re) & (a.x.imaginary() == element.imaginary())
                re, im = np.where(here, self._dyadic(np.asarray(literal)).re, re), np.where(here, 0, im)
        if (re == a.x.re).all() and (im == a.x.imaginary()).all():
            return a
        degree = functools.reduce(Bound.worst, (_size_of(np.asarray(n)) for n in readings), a.degree)
        return plain(a)._replace(x=Elements(re, im if im.any() else None), degree=degree)

    def is_exactly(self, a: Value, numbers: np.ndarray) -> bool:
        """Whether the finite entries are exactly these numbers."""
        real = a.x.im is None or not a.x.im.any()
        return real and bool(((self._dyadic(numbers).re == a.x.re) | ~a.finite).all())

    def _dyadic(self, known: np.ndarray) -> Elements:
        fraction, exponent = np.frexp(known)
        mantissa = np.asarray(fraction * 2.0**53).astype(np.int64) % self.field.p
        exponents = np.unique(exponent - 53)
        powers = np.array([pow(2, int(e), self.field.p) for e in exponents], np.int64)
        two = powers[np.searchsorted(exponents, exponent - 53)]
        return self.field.mul(Elements(np.asarray(mantissa)), Elements(np.asarray(two)))

    def _as_read(self, x: Elements, degree: Bound, known: np.ndarray, dtype: str) -> tuple[Elements, Bound, float]:
        distinct, error = np.unique(known), 0.0
        if distinct.size > literals.MAX_READ:
            return x, degree, error
        for number in distinct:
            reading = self._read_as(float(number), dtype)
            if reading is None:
                continue
            self.readings.add(f"{dtype} {float(number):.9g} as {reading}")
            value, here = self._reading(reading), known == number
            self.read.setdefault(dtype, {})[float(number)] = value
            im = None if value.im is None and x.im is None else np.where(here, value.imaginary(), x.imaginary())
            x = Elements(np.where(here, value.re, x.re), im)
            drawn = CONSTANT if reading.half_pis or reading.log2s else Bound()
            degree = degree.worst(Bound.of(reading.ratio) * Bound.of(reading.root) * drawn)
            rounded = abs(float(number)) * float(ml_dtypes.finfo(dtype).eps)
            error = max(error, rounded, 2 * abs(float(number) - reading.to_float()))
        return x, degree, error

    def _read_as(self, number: float, dtype: str) -> literals.ExactNumber | None:
        """The number that a literal is read as; None if it is the number that it is."""
        folded = self.folded.get((dtype, abs(number)))
        if folded is None:
            return literals.read(number, dtype)
        return folded if number > 0 else folded._replace(ratio=-folded.ratio)

    def _reading(self, reading: literals.ExactNumber) -> Elements:
        f = self.field
        value = f.of(f.ratio(reading.ratio.numerator, reading.ratio.denominator))
        root = np.asarray(f.ratio(reading.root.numerator, reading.root.denominator), np.int64)
        if not is_made_of_squares(reading.root):
            self.rooted_numbers(np.array([float(reading.root)]), root.reshape(1))
        value = f.mul(value, f.sqrt(root))
        value = f.mul(value, f.power(Elements(np.asarray(self.root_of_pi())), reading.half_pis))
        return f.mul(value, f.power(Elements(np.asarray(self.log_of_2())), reading.log2s))

    def root_of_pi(self) -> int:
        """The root of pi. It is a square, as positive numbers are, so that it is the root that the field gives to
        pi."""
        return pow(self.constant("sqrt(pi)"), 2, self.field.p)

    def log_of_2(self) -> int:
        return pow(self.constant("log(2)"), 2, self.field.p)


def _size_of(known: np.ndarray) -> Bound:
    """The bound for dyadic numbers: how many bits they have before the binary point, and how many after it."""
    fraction, exponent = np.frexp(known[known != 0])
    if not fraction.size:
        return Bound()
    mantissa = (np.abs(fraction) * 2.0**53).astype(np.int64)
    last = exponent - 53 + np.frexp((mantissa & -mantissa).astype(np.float64))[1] - 1
    shift = max(0, -int(last.min()))
    return Bound.number(max(int(exponent.max()), 0) + shift, shift)
