"""Random decisions: the place of an unknown among the thresholds, the numbers that unknowns are compared with.

Every unknown u, together with -u, gets a random place among the thresholds, and all intervals between them are equally
likely. ``handprop.verifier.proof.decision_bits`` bounds the number of such decisions that an entry rests on, and so how
often programs that differ are seen to differ. An unknown that is a number in disguise, such as ``x + 1 - x``, has the
place of that number: as it is the same at all points, a random place would be one decision for all of them.
"""

import math
from fractions import Fraction

import numpy as np

from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.hashing import mix
from handprop.verifier.proof.field.record import among
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import Value

__all__ = ["NUMBERS", "coin", "found_apart", "known_greater", "placed"]

MAX_BITS = 500  # of a divisor that becomes a float
NUMBERS = [n / d for d in (1, 2) for n in range(1, 9)]  # recognized in addition to the thresholds


def placed(run: Run, a: Value, b: Value) -> np.ndarray:
    """``a > b``, decided by the place of the unknown part of ``a - b`` among the thresholds."""
    assert run.thresholds is not None
    (x, left), (y, right) = _unknown_part(run, a), _unknown_part(run, b)
    unknown, beyond = _primitive_part(run, a, b, run.field.sub(x, y), _exact_sum(right, -left))
    flipped, canonical = run.canonical(unknown)
    number = np.where(flipped, -1, 1) * _numbers_of(run, canonical)
    decided = np.isnan(number)
    run.compared.update(np.unique(beyond[decided]).tolist())
    run.unknown_comparisons += int(decided.sum())
    run.argument = run.argument.worst(a.degree + b.degree)
    count = len(run.thresholds)
    place = run.oracle("place", canonical).re % (count + 1)
    place = np.where(flipped, count - place, place)
    above = place > np.searchsorted(run.thresholds, beyond)
    return run.decide(np.where(decided, above, number > beyond), np.where(decided, _words(canonical), -1))


def coin(run: Run, name: str, x: Elements, sure: np.ndarray) -> np.ndarray:
    """A random truth value for each entry, the same for x and -x. It is False for numbers, for elements found to be
    zero almost nowhere, and where ``sure``."""
    _, canonical = run.canonical(x)
    sure = sure | ~np.isnan(_numbers_of(run, canonical))
    if run.nonzero_words:
        sure |= among(_words(canonical), np.concatenate(run.nonzero_words))
    run.unknown_comparisons += int((~sure).sum())
    return run.decide(~sure & (run.oracle(name, canonical).re % 2 == 1), np.where(sure, -1, _words(canonical)))


def _words(x: Elements) -> np.ndarray:
    """A nonnegative integer for each element, different for different elements."""
    return x.re if x.im is None else (mix(x.re, x.im) >> np.uint64(1)).astype(np.int64)


def found_apart(run: Run, x: Elements) -> None:
    """Note that these elements are zero almost nowhere, however they are computed elsewhere."""
    run.nonzero_words.append(_words(run.canonical(x)[1]).reshape(-1))


def _numbers_of(run: Run, x: Elements) -> np.ndarray:
    """The number that each element is, if it is 0 or a recognized number, else NaN. Each is given as it stands."""
    if "numbers" not in run.memo:
        numbers = sorted({float(n) for n in (0.0, *NUMBERS, *(run.thresholds or ())) if n >= 0})
        elements = np.array([run.field.ratio(*n.as_integer_ratio()) for n in numbers])
        signs = np.where(elements > run.field.p // 2, -1.0, 1.0)
        elements = np.minimum(elements, (run.field.p - elements) % run.field.p)
        order = np.argsort(elements)
        run.memo["numbers"] = elements[order], (signs * numbers)[order]
    elements, numbers = run.memo["numbers"]
    at = np.minimum(np.searchsorted(elements, x.re), len(elements) - 1)
    found = elements[at] == x.re
    return np.where(found & (x.imaginary() == 0), numbers[at], np.nan)


def known_greater(a: Value, b: Value) -> np.ndarray:
    """``a > b`` of known numbers.

    Raises:
        Unsupported: rounding may decide it, in the reading of a number or in the program's own dtype.
    """
    assert a.known is not None and b.known is not None
    error = a.error + b.error
    if error:
        with np.errstate(all="ignore"):
            close = np.abs(a.known - b.known) <= error
        if close.any():
            raise Unsupported("a comparison of known numbers that rounding may decide")
    return np.asarray(a.known > b.known)


def _unknown_part(run: Run, v: Value) -> tuple[Elements, np.ndarray | float]:
    """The parts of ``v = unknown + number``."""
    if v.known is not None:
        _check_exact(v)
        finite_part = np.where(np.isfinite(v.known), v.known, 0.0)
        return Elements(np.zeros(v.shape, np.int64)), finite_part
    x, number = v.x, 0.0
    for c, atom in v.terms:
        if atom.known is not None:
            x = run.field.sub(x, run.field.scale(atom.x, run.field.ratio(c.numerator, c.denominator)))
            _check_exact(atom)
            number = _exact_sum(number, float(c) * atom.known)
    return x, number


def _primitive_part(run: Run, a: Value, b: Value, unknown: Elements, beyond: np.ndarray
                    ) -> tuple[Elements, np.ndarray]:  # fmt: skip
    """The unknown and the number it is compared with, both divided by the common factor of the unknown's coefficients.
    ``2 x > 1`` where ``x > 1/2``, so the two comparisons share one decision."""
    coefficients = [c for c, atom in run.add(a, b, -1).terms if atom.known is None]
    shared = Fraction(math.gcd(*(c.numerator for c in coefficients)), math.lcm(*(c.denominator for c in coefficients)))
    beyond = np.broadcast_to(beyond, unknown.shape)
    parts = shared.numerator, shared.denominator
    exactly = all(n & (n - 1) == 0 for n in parts)  # by a power of 2
    if shared in (0, 1) or max(parts).bit_length() > MAX_BITS or (beyond.any() and not exactly):
        return unknown, beyond
    return run.field.scale(unknown, run.field.ratio(shared.denominator, shared.numerator)), beyond / float(shared)


def _check_exact(v: Value) -> None:
    """Check that the number is known exactly enough to be distinguished from others."""
    assert v.known is not None
    if v.error and (np.abs(v.known) * 2.0**-10 < v.error).any():
        raise Unsupported("a comparison with a number that rounding may decide")


def _exact_sum(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """The sum of floats if it is exact, by Knuth's error-free sum, because thresholds are distinguished exactly."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    total = a + b
    part = total - a
    if ((a - (total - part)) + (b - part)).any():
        raise Unsupported("a comparison with a sum of numbers that rounding changes")
    return total
