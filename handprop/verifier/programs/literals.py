"""Numbers in a program's text as exact numbers.

A float is a dyadic number. Read as its author meant it, it is the simplest rational that rounds to it, or such a
rational times the square root of a rational, times a power of pi or of log 2. A reading is accepted only if a random
float would rarely have one (with probability 2^-8 for fractions, and 1/8 for short decimals), and each reading is
listed.
"""

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import ml_dtypes
import numpy as np

__all__ = ["MASKED", "MAX_READ", "ExactNumber", "read", "simplest_between", "stands_for"]

SPARE_BITS = 8
MAX_READ = 64  # an array with more distinct numbers than this is data
# A number this low stands for minus infinity; masks write such numbers into scores.
MASKED = -1e9
PI, LOG2 = np.pi, float(np.log(2.0))
# Both to 50 digits: an interval of half an ulp of a float64 is far wider.
EXACT_PI = Fraction("3.1415926535897932384626433832795028841971693993751")
EXACT_LOG2 = Fraction("0.69314718055994530941723212145817656807550013436026")
# (power of sqrt(pi), power of log 2, their square as a number)
SQUARED_CONSTANTS = (
    (0, 0, Fraction(1)),
    (2, 0, EXACT_PI**2),
    (1, 0, EXACT_PI),
    (-1, 0, 1 / EXACT_PI),
    (-2, 0, EXACT_PI**-2),
    (0, 1, EXACT_LOG2**2),
    (0, -1, EXACT_LOG2**-2),
)


class ExactNumber(NamedTuple):
    """``ratio * sqrt(root) * sqrt(pi)^half_pis * log(2)^log2s``."""

    ratio: Fraction
    root: Fraction = Fraction(1)
    half_pis: int = 0
    log2s: int = 0

    def to_float(self) -> float:
        """The nearest float64, up to a few rounding errors."""
        return float(self.ratio) * float(self.root) ** 0.5 * PI ** (self.half_pis / 2) * LOG2**self.log2s

    def __str__(self) -> str:
        factors = [str(self.ratio)] if self.ratio != 1 or self[1:] == ExactNumber(Fraction(1))[1:] else []
        factors += [f"sqrt({self.root})"] if self.root != 1 else []
        factors += [f"pi^({Fraction(self.half_pis, 2)})"] if self.half_pis else []
        factors += [f"log(2)^{self.log2s}"] if self.log2s else []
        return " ".join(factors)


def simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """The fraction with the smallest denominator in [low, high], for 0 < low <= high (Stern–Brocot descent)."""
    floor = low.numerator // low.denominator
    if floor == low:
        return Fraction(floor)
    if floor < high.numerator // high.denominator:
        return Fraction(floor + 1)
    return floor + 1 / simplest_between(1 / (high - floor), 1 / (low - floor))


def stands_for(number: float, dtype: str) -> bool:
    """Whether the number may be read as a number other than its dyadic value."""
    return (np.isfinite(number) and number <= MASKED) or read(number, dtype) is not None


@cache
def read(number: float, dtype: str) -> ExactNumber | None:
    """The simplest reading of a float of that dtype other than its dyadic value; None if there is none."""
    if number < 0:
        positive = read(-number, dtype)
        return None if positive is None else positive._replace(ratio=-positive.ratio)
    if number == 0 or not np.isfinite(number):
        return None
    bits = ml_dtypes.finfo(dtype).nmant + 1
    exact = Fraction(number)
    if _length(exact) <= bits // 2:
        return None
    half = Fraction(2) ** (int(np.frexp(number)[1]) - bits - 1)
    low, high = exact - half, exact + half
    rational = simplest_between(low, high)
    if _length(rational) <= bits - SPARE_BITS:
        return ExactNumber(rational)
    return _decimal(number, low, high, bits) or _irrational(low, high, bits)


def _decimal(number: float, low: Fraction, high: Fraction, bits: int) -> ExactNumber | None:
    """The shortest decimal in the interval, if it has fewer digits than the dtype resolves."""
    for digits in range(1, int(bits * 0.30103)):
        decimal = Fraction(f"{number:.{digits - 1}e}")
        if low <= decimal <= high:
            return ExactNumber(decimal)
    return None


def _irrational(low: Fraction, high: Fraction, bits: int) -> ExactNumber | None:
    for half_pis, log2s, squared in SQUARED_CONSTANTS:
        square = simplest_between(low * low / squared, high * high / squared)
        if _length(square) > bits - SPARE_BITS:
            continue
        root = _root(square)
        if root is not None:
            return ExactNumber(Fraction(*root), Fraction(1), half_pis, log2s)
        if not log2s:
            return ExactNumber(Fraction(1), square, half_pis, log2s)
    return None


def _root(square: Fraction) -> tuple[int, int] | None:
    over, under = round(square.numerator**0.5), round(square.denominator**0.5)
    return (over, under) if Fraction(over, under) ** 2 == square else None


def _length(number: Fraction) -> int:
    """The number of bits it takes to write the fraction."""
    return number.numerator.bit_length() + number.denominator.bit_length()
