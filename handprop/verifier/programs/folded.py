"""Numbers in a program's text that Python computed before the program was traced.

``1 - 0.999**3`` in a closure is one number in the traced program, 0.002997001 in float32 and a number with rounding
errors in float64. Another program that keeps its count in an array computes the same number step by step. Such a
literal is read as the number that one of the two programs computes from its own numbers, or as a product of up to three
of these, each to the power of 1, -1, 1/2 or -1/2: people fold ``rate * sqrt(1 - b2**t) / (1 - b1**t)``.

A float is the same for all numbers that round to it, and Python rounds at each step. So the literal must lie within
half a unit in its last place of the exact number, plus a bound on the errors of the steps in float64. It is read so
only if a random number would rarely be explained in this way (with probability 2^-8, from the number of products of a
similar size), and by one number only, which is no float itself: what is beside 3 is not 3. Numbers that are further
apart than rounding explains stay different numbers. A number with a simple reading of its own
(:mod:`~handprop.verifier.programs.literals`) keeps that.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.programs import literals
from handprop.verifier.programs.executables import applied
from handprop.verifier.programs.jaxprs import is_float, is_key, numbers
from handprop.verifier.programs.literals import ExactNumber
from handprop.verifier.programs.walk import Walk, taken

__all__ = ["Folded", "folded_numbers"]

Folded = Mapping[tuple[str, float], ExactNumber]
"""For each dtype and positive number, the number that it is read as."""

MAX_FACTORS, MAX_NUMBERS = 3, 24  # of a product, and that products are made of
MAX_LITERALS = 64
MAX_TURNS = 64  # iterations of a scan
MAX_SIZE = 64  # of an array of integers that is followed
MAX_LENGTH = 1 << 13  # bits of a number
ROUNDING, MOST_ERROR = 2.0**-53, 2.0**-24
SPARE = 2.0**-literals.SPARE_BITS
EXPONENTS = (Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-1, 2))
SAME_VALUE = {
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice", "copy", "copy_p", "stop_gradient",
    "optimization_barrier", "name", "device_put", "reduce_precision",
}  # fmt: skip


class _Number(NamedTuple):
    """An exact number, and a bound on the relative error with which float64 computes it as the program does."""

    exact: ExactNumber
    error: float = ROUNDING


def folded_numbers(programs: Sequence[Any]) -> Folded:
    """Return the literals of the programs that have no reading of their own, with the numbers that explain them."""
    wanted = sorted({key for program in programs for key in _unexplained(program)})
    if not wanted or len(wanted) > MAX_LITERALS:
        return {}
    met: dict[ExactNumber, float] = {}
    for program in programs:
        try:
            _Numbers(met).evaluate(program, [None] * len(program.jaxpr.invars))
        except Exception as error:  # whatever a primitive raises on integers: the numbers met so far are used
            noted(error, "the numbers that a program computes")
    if len(met) > MAX_NUMBERS:
        met = dict(sorted(met.items(), key=lambda item: _length(item[0]))[:MAX_NUMBERS])
    products = _Products(met)
    found = {(dtype, number): products.explaining(number, dtype) for dtype, number in wanted}
    return {key: exact for key, exact in found.items() if exact is not None}


def _unexplained(program: Any) -> Iterator[tuple[str, float]]:
    for held in numbers(program):
        if not is_float(held.dtype) or not held.size or not (held == held.flat[0]).all():
            continue
        number, dtype = abs(float(held.flat[0])), str(held.dtype)
        if np.isfinite(number) and number and not _is_plain(number, dtype):
            yield dtype, number


def _is_plain(number: float, dtype: str) -> bool:
    """Whether the number is a fraction as it stands: a whole number, one with few bits, or a simple one that rounds to
    it."""
    bits, reading = ml_dtypes.finfo(dtype).nmant + 1, literals.read(number, dtype)
    if reading is not None:
        return reading == ExactNumber(reading.ratio)
    return _length(ExactNumber(Fraction(number))) <= bits // 2 or (number < 2.0**bits and number.is_integer())


class _Numbers(Walk):
    """The numbers that a program computes from its literals and from integers that are known, each of them the same in
    all entries of its array. What depends on an input, and everything else, is None."""

    def __init__(self, met: dict[ExactNumber, float]):
        self.met = met

    def constant(self, const: Any) -> Any:
        if is_key(const):
            return None
        array = np.asarray(const)
        if not is_float(array.dtype):
            return array if array.size <= MAX_SIZE else None
        if not array.size or not (array == array.flat[0]).all() or not np.isfinite(float(array.flat[0])):
            return None
        number = float(array.flat[0])
        if number and not _is_plain(abs(number), str(array.dtype)):
            return None
        reading = literals.read(number, str(array.dtype)) or ExactNumber(Fraction(number))
        return self._kept(_Number(reading))

    def primitive(self, eqn: Any, operands: list[Any]) -> list[Any]:
        if len(eqn.outvars) == 1 and not any(x is None for x in operands):
            result = self._result(eqn, operands)
            return [self._kept(result) if isinstance(result, _Number) else result]
        return [None] * len(eqn.outvars)

    def cond(self, eqn: Any, branches: Sequence[Any], which: Any, operands: list[Any]) -> list[Any]:
        if isinstance(which, np.ndarray) and which.size == 1:
            return self.evaluate(taken(branches, which), operands)
        return [None] * len(eqn.outvars)

    def scan(self, eqn: Any, body: Any, operands: list[Any], most: int | None = None) -> list[Any]:
        if eqn.params["length"] > MAX_TURNS:
            return [None] * len(eqn.outvars)
        return super().scan(eqn, body, operands, most)

    def entry(self, x: Any, i: int) -> Any:
        return x[i] if isinstance(x, np.ndarray) else x

    def stacked(self, eqn: Any, rows: list[list[Any]]) -> list[Any]:
        return [None] * (len(rows[0]) if rows else len(eqn.outvars) - eqn.params["num_carry"])

    def kernel(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return [None] * len(eqn.outvars)

    def linear_solve(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return [None] * len(eqn.outvars)

    def _kept(self, number: _Number) -> _Number | None:
        exact, error = number
        if _length(exact) > MAX_LENGTH:
            return None
        size = exact._replace(ratio=abs(exact.ratio))
        if size.ratio and size != ExactNumber(Fraction(1)) and error <= MOST_ERROR:
            self.met[size] = min(error, self.met.get(size, math.inf))
        return number

    def _result(self, eqn: Any, operands: list[Any]) -> Any:
        name = eqn.primitive.name
        if all(isinstance(x, np.ndarray) for x in operands):
            return _of_integers(eqn, operands)
        if name in SAME_VALUE or (name == "convert_element_type" and is_float(eqn.params["new_dtype"])):
            return operands[0]
        if name == "select_n" and isinstance(operands[0], np.ndarray) and operands[0].size == 1:
            return taken(operands[1:], operands[0])
        given = [x for x in (_of_integer(x) if isinstance(x, np.ndarray) else x for x in operands) if x is not None]
        if len(given) < len(operands):
            return None
        if name == "integer_pow":
            return _power(given[0], Fraction(eqn.params["y"]))
        return ARITHMETIC[name](*given) if name in ARITHMETIC else None


def _of_integers(eqn: Any, operands: list[np.ndarray]) -> Any:
    """The result of an equation on known integers, as a number if it is a float."""
    if any(v.aval.size > MAX_SIZE for v in eqn.outvars):
        return None
    with jax.enable_x64(True):
        out = applied(eqn.primitive.bind, *operands, **eqn.primitive.get_bind_params(eqn.params))
    array = np.asarray(out[0] if eqn.primitive.multiple_results else out)
    if not is_float(array.dtype):
        return array
    return _of_integer(operands[0]) if eqn.primitive.name == "convert_element_type" else None


def _of_integer(array: np.ndarray) -> _Number | None:
    if not array.size or not (array == array.flat[0]).all():
        return None
    return _Number(ExactNumber(Fraction(int(array.flat[0]))), 0.0)


def _product(a: _Number, b: _Number) -> _Number:
    return _Number(_times(a.exact, b.exact), a.error + b.error + ROUNDING)


def _quotient(a: _Number, b: _Number) -> _Number | None:
    below = _power(b, Fraction(-1))
    return None if below is None else _product(a, below)


def _sum(a: _Number, b: _Number, sign: int = 1) -> _Number | None:
    """The sum of two rational numbers; what cancels leaves the error of the operands."""
    x, y = a.exact, b.exact
    if x != ExactNumber(x.ratio) or y != ExactNumber(y.ratio):
        return None
    total = x.ratio + sign * y.ratio
    if not total:
        return _Number(ExactNumber(total), 0.0)
    error = (abs(x.ratio) * Fraction(a.error) + abs(y.ratio) * Fraction(b.error)) / abs(total)
    return _Number(ExactNumber(total), float(error) + ROUNDING)


def _power(a: _Number, exponent: Fraction) -> _Number | None:
    """A power with an integer exponent, or half of one for a positive rational number."""
    exact, doubled = a.exact, int(2 * exponent)
    if not exact.ratio or exponent.denominator > 2 or abs(doubled) * _length(exact) > 2 * MAX_LENGTH:
        return None
    error = abs(float(exponent)) * a.error + 2 * ROUNDING
    if exponent.denominator == 1:
        n = exponent.numerator
        return _Number(_times(ExactNumber(exact.ratio**n), *([_root_of(exact.root)] if n % 2 else []),
                              ExactNumber(exact.root ** (n // 2 if n % 2 == 0 else (n - 1) // 2))), error)  # fmt: skip
    if exact.root != 1 or exact.ratio < 0:
        return None
    return _Number(_root_of(exact.ratio**doubled), error)


def _general_power(a: _Number, b: _Number) -> _Number | None:
    return _power(a, b.exact.ratio) if b.exact == ExactNumber(b.exact.ratio) else None


def _root_of(square: Fraction) -> ExactNumber:
    root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    return ExactNumber(root) if root * root == square else ExactNumber(Fraction(1), square)


def _times(*exact: ExactNumber) -> ExactNumber:
    ratio, square = Fraction(1), Fraction(1)
    for one in exact:
        ratio, square = ratio * one.ratio, square * one.root
    root = _root_of(square)
    return ExactNumber(ratio * root.ratio, root.root)


def _length(exact: ExactNumber) -> int:
    return sum(part.bit_length() for x in (exact.ratio, exact.root) for part in x.as_integer_ratio())


ARITHMETIC = {
    "mul": _product,
    "div": _quotient,
    "add": _sum,
    "add_any": _sum,
    "sub": lambda a, b: _sum(a, b, -1),
    "neg": lambda a: a._replace(exact=a.exact._replace(ratio=-a.exact.ratio)),
    "abs": lambda a: a._replace(exact=a.exact._replace(ratio=abs(a.exact.ratio))),
    "square": lambda a: _power(a, Fraction(2)),
    "sqrt": lambda a: _power(a, Fraction(1, 2)),
    "rsqrt": lambda a: _power(a, Fraction(-1, 2)),
    "pow": _general_power,
}


class _Products:
    """The products of up to ``MAX_FACTORS`` numbers, each to a power of :data:`EXPONENTS`."""

    def __init__(self, met: Mapping[ExactNumber, float]):
        powers = [(i, _power(_Number(exact, error), exponent)) for i, (exact, error) in enumerate(met.items())
                  for exponent in EXPONENTS]  # fmt: skip
        self.factors = [(i, power) for i, power in powers if power is not None]
        self.of = np.array([i for i, _ in self.factors], np.int64)
        self.logs = np.array([_log(power.exact) for _, power in self.factors])

    def explaining(self, number: float, dtype: str) -> ExactNumber | None:
        """The number that the literal stands for, made of as few factors as possible; None if there is none, or more
        than one."""
        bits = ml_dtypes.finfo(dtype).nmant + 1
        half = Fraction(2) ** (int(np.frexp(number)[1]) - bits - 1)
        for count in range(1, MAX_FACTORS + 1):
            chosen, similar = self._near(math.log(number), float(half / Fraction(number)) + MOST_ERROR, count)
            found: dict[ExactNumber, float] = {}
            for indices in chosen:
                factors = [self.factors[i][1] for i in indices]
                exact, error = _times(*(f.exact for f in factors)), sum(f.error + 2 * ROUNDING for f in factors)
                apart = half + Fraction(number) * Fraction(error)
                if error <= MOST_ERROR and not _is_float(exact, dtype) and _is_within(exact, Fraction(number), apart):
                    found[exact] = max(error, found.get(exact, 0.0))
            if found:
                width = 2 * (float(half / Fraction(number)) + max(found.values()))
                return next(iter(found)) if len(found) == 1 and similar * width <= SPARE else None
        return None

    def _near(self, log: float, width: float, count: int) -> tuple[np.ndarray, int]:
        """The products of so many factors whose logarithm is this one up to ``width``, and how many are within a factor
        of two."""
        indices = np.arange(len(self.factors))[:, None]
        sums = self.logs.copy()
        for _ in range(count - 1):
            left, right = np.nonzero(self.of[indices[:, -1]][:, None] < self.of[None, :])
            indices, sums = np.concatenate([indices[left], right[:, None]], axis=1), sums[left] + self.logs[right]
        apart = np.abs(sums - log)
        return indices[apart <= 2 * width], int((apart <= math.log(2)).sum())


def _log(exact: ExactNumber) -> float:
    parts = (math.log(n) - math.log(d) for n, d in (exact.ratio.as_integer_ratio(), exact.root.as_integer_ratio()))
    return next(parts) + next(parts) / 2


def _is_float(exact: ExactNumber, dtype: str) -> bool:
    """Whether the number is a float of the dtype; 3 less an ulp, for example, is then another number."""
    if exact.root != 1:
        return False
    with np.errstate(over="ignore"):
        nearest = float(np.asarray(float(exact.ratio), ml_dtypes.finfo(dtype).dtype))
    return np.isfinite(nearest) and Fraction(nearest) == exact.ratio


def _is_within(exact: ExactNumber, number: Fraction, distance: Fraction) -> bool:
    square = exact.ratio**2 * exact.root
    return max(number - distance, Fraction(0)) ** 2 <= square <= (number + distance) ** 2
