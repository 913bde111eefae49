"""Sums, products, quotients and integer powers: exact over the field, with facts about their values over the reals."""

import functools
from fractions import Fraction

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.degrees import VARIABLE
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.numbers import Numbers
from handprop.verifier.proof.field.values import (
    INFINITY,
    MAX_TERMS,
    NAN,
    OPAQUE,
    Everywhere,
    Term,
    Value,
    everywhere,
    is_negative,
    is_nonnegative,
    is_positive,
    moved,
    plain,
    terms_of,
    where_positive,
)

__all__ = ["Algebra", "power_of", "spread"]
MAX_FACTORS = 16  # the most factors that a product keeps


class Algebra(Numbers):
    """Arithmetic of values."""

    def add(self, a: Value, b: Value, sign: int = 1) -> Value:
        x = self.field.add(a.x, b.x) if sign > 0 else self.field.sub(a.x, b.x)
        shape = x.shape
        if sign > 0 and a.known is not None:
            a, b = b, a
        if _is_nothing(b) and a.known is None and a.shape == shape:
            return a._replace(degree=a.degree + b.degree, kind=max(a.kind, b.kind))
        terms = ()
        if a.known is None or b.known is None:
            terms = self._joined(spread(terms_of(a), shape), spread(terms_of(b), shape), sign)
            if len(terms) == 1 and terms[0][1].shape == shape:
                c, atom = terms[0]
                only = atom if c == 1 else self.mul(self.number(c, shape), atom)
                return only._replace(degree=a.degree + b.degree, kind=max(a.kind, b.kind))
        known = None
        if a.known is not None and b.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known + sign * b.known)
        b_is_positive, b_is_nonnegative = (is_positive(b), is_nonnegative(b)) if sign > 0 else (is_negative(b),) * 2
        nonnegative = is_nonnegative(a) and b_is_nonnegative
        positive = nonnegative and (is_positive(a) or b_is_positive)
        everywhere_is = everywhere(a, b)
        if everywhere_is is Everywhere.NONNEGATIVE:  # one positive term makes the sum positive
            everywhere_is = max(everywhere(a), everywhere(b))
        if sign < 0:
            everywhere_is = min(everywhere_is, Everywhere.ANALYTIC)
        return Value(x, a.degree + b.degree, known, terms, kind=max(a.kind, b.kind), positive=positive,
                     nonnegative=nonnegative, error=a.error + b.error, most=a.most + b.most,
                     everywhere=everywhere_is)  # fmt: skip

    def _joined(self, a: tuple[Term, ...], b: tuple[Term, ...], sign: int) -> tuple[Term, ...]:
        """The terms of the sum, each atom once, without terms that are zero everywhere and numbers that cancel; () if
        there would be too many."""
        both = (*a, *((sign * c, v) for c, v in b))
        terms = _collected([(c, v) for c, v in both if v.x.re.any() or v.x.im is not None])
        numbers = [(c, v) for c, v in terms if v.known is not None]
        if len(numbers) > 1 and len(numbers) < len(terms) and self._cancel(numbers):
            terms = [(c, v) for c, v in terms if v.known is None]
        return tuple(terms) if 1 <= len(terms) <= MAX_TERMS else ()

    def _cancel(self, numbers: list[Term]) -> bool:
        scaled = [self.field.scale(v.x, self.field.ratio(c.numerator, c.denominator)) for c, v in numbers]
        total = functools.reduce(self.field.add, scaled)
        return bool(self.field.is_zero(total).all())

    def neg(self, a: Value) -> Value:
        terms = tuple((-c, v) for c, v in terms_of(a))
        known = None if a.known is None else -a.known
        special = None if a.special is None else np.where(np.abs(a.special) == INFINITY, -a.special, a.special)
        about = None if a.about is None else (-a.about[1], -a.about[0])
        return Value(self.field.neg(a.x), a.degree, known, terms, special=special, kind=a.kind, error=a.error,
                     most=a.most, about=about, everywhere=min(everywhere(a), Everywhere.ANALYTIC))  # fmt: skip

    def mul(self, a: Value, b: Value) -> Value:
        x = self.field.mul(a.x, b.x)
        known, error = None, 0.0
        if a.known is not None and b.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known * b.known)
            error = a.error * _largest(b) + b.error * _largest(a)
        nonnegative, square = is_nonnegative(a) and is_nonnegative(b), _is_same_array(a.x, b.x)
        product = Value(x, a.degree * b.degree, known, kind=max(a.kind, b.kind), nonnegative=nonnegative,
                        positive=is_positive(a) and is_positive(b), error=error, most=a.most * b.most,
                        everywhere=_everywhere_of_power(a, True) if square else everywhere(a, b))  # fmt: skip
        if known is not None:
            return product
        if not nonnegative and square:
            product = product._replace(nonnegative=True, positive=self.is_nonzero(a))
        product = product._replace(power_of=_joint_power(a, b, 1), factors=_factors(a, b, 1),
                                   scaled=self._scaled(a, b, x.shape, square),
                                   square_of=a if square else None)  # fmt: skip
        return product._replace(terms=self._distributed(a, b, x.shape), **self._log_of_product(a, b, 1, x.shape))

    def _scaled(self, a: Value, b: Value, shape: tuple[int, ...], square: bool) -> tuple[Value, Value] | None:
        """The product as a multiple of one of its factors, or of the square of what both are a multiple of."""
        if square and a.known is None:
            return None if a.scaled is None else self._square_of_multiple(*a.scaled)
        if (number := self._one_positive_number(b)) is not None:
            a, b = b, a
        elif (number := self._one_positive_number(a)) is None:
            return None
        if b.scaled is not None:
            number, b = self.mul(number, b.scaled[0]), b.scaled[1]
        return number, b if b.shape == shape else _broadcast(b, shape)

    def _square_of_multiple(self, number: Value, base: Value) -> tuple[Value, Value]:
        return self.mul(number, number)._replace(square_of=number), self.power(base, 2)

    def _half_power(self, a: Value, exponent: int) -> Value:
        return a if exponent == 2 else self.power(a, exponent // 2)

    def _one_positive_number(self, a: Value) -> Value | None:
        """The positive number that all entries are, without axes; None if there is none."""
        if a.known is None or a.special is not None or not a.x.size or not is_positive(a):
            return None
        if a.shape and not all((part == part.flat[0]).all() for part in (a.known, a.x.re, a.x.imaginary())):
            return None
        return plain(moved(a, lambda part: np.asarray(part.flat[0])))

    def is_nonzero(self, a: Value) -> bool:
        """Whether no entry is zero over the reals, except on a set of measure zero. False if that is not known."""
        if is_positive(a):
            return True
        return a.kind is Kind.RATIONAL and a.known is None and not self.field.is_zero(a.x).any()

    def _distributed(self, a: Value, b: Value, shape: tuple[int, ...]) -> tuple[Term, ...]:
        if (b.terms and not a.terms) or (not a.terms and _small_number(a) is not None):
            a, b = b, a
        if b.terms and len(b.terms) > 1:
            return ()
        scalar = _small_number(b)
        if scalar is not None:
            return tuple((c * scalar, v) for c, v in spread(terms_of(a), shape))
        if len(a.terms) < 2:
            return ()
        plain = b._replace(terms=(), log=(), rest=None)
        return tuple((c, self.mul(v._replace(log=(), rest=None, log_of=None), plain)._replace(terms=()))
                     for c, v in a.terms)  # fmt: skip

    def _log_of_product(self, a: Value, b: Value, sign: int, shape: tuple[int, ...]) -> dict:
        if not (a.log or b.log):
            return {}
        log = self._joined(spread(a.log, shape), spread(b.log, shape), sign)
        if not log:
            return {}
        left, right = (v.rest or v._replace(log=(), rest=None) if v.log else v for v in (a, b))
        rest = self.field.mul(left.x, right.x if sign > 0 else self.field.inv(right.x))
        degree = left.degree * (right.degree if sign > 0 else right.degree.inverse(right.x.size, digest(right.x)))
        return {"log": log, "rest": Value(rest, degree, kind=max(left.kind, right.kind))}

    def inv(self, a: Value) -> Value:
        return self.div(self.number(1, a.shape), a)

    def div(self, a: Value, b: Value) -> Value:
        """``a / b``. Where b is zero, it is NaN if a is zero too, else an infinity of unknown sign."""
        self.check_not_zero(b, "a quotient by what may be zero", "what is divided by is not zero")
        zero = self.field.is_zero(b.x)
        inverse, known, error = self.field.inv(b.x, 1), None, 0.0
        if b.known is not None and a.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known / b.known)
            error = _error_of_quotient(a, b, known)
        with np.errstate(all="ignore"):
            numbers = None if b.known is None else np.asarray(1.0 / b.known)
        unsure = 0.0 if numbers is None else _error_of_quotient(self.number(1), b, numbers)
        below = Value(inverse, b.degree.inverse(b.x.size, digest(b.x)), numbers, kind=b.kind, positive=b.positive,
                      error=unsure, everywhere=where_positive(b, Everywhere.POSITIVE))  # fmt: skip
        quotient = self.mul(a, below)._replace(
            known=known, error=error, most=np.inf, positive=is_positive(a) and is_positive(b),
            nonnegative=is_nonnegative(a) and is_nonnegative(b),
        )  # fmt: skip
        if known is None:
            quotient = quotient._replace(**self._log_of_product(a, b, -1, quotient.shape),
                                         power_of=_joint_power(a, b, -1), factors=_factors(a, b, -1))  # fmt: skip
        return self._divided_by_zero(a, quotient, zero) if zero.any() else quotient

    def _divided_by_zero(self, a: Value, quotient: Value, zero: np.ndarray) -> Value:
        zero, both = np.broadcast_arrays(zero, zero & self.field.is_zero(a.x))
        zero, both = (np.broadcast_to(where, quotient.shape) for where in (zero, both))
        special = np.where(both, NAN, np.where(zero, OPAQUE, 0)).astype(np.int8)
        known = None if (special == OPAQUE).any() else quotient.known
        # Which infinity it is depends on the sign of the zero. The field does not follow that sign, and XLA does not
        # always keep it for known numbers. So the label is shared with nothing else, not even with the same quotient.
        label = self.oracle(f"1/0, number {self.calls}", quotient.x).re
        x = Elements(np.where(special == OPAQUE, label, np.where(zero, 0, quotient.x.re)), quotient.x.im)
        return Value(x, quotient.degree.worst(VARIABLE), known, special=special, kind=quotient.kind)

    def power(self, a: Value, exponent: int) -> Value:
        if exponent < 0:
            return self.inv(self.power(a, -exponent))
        known = None
        if a.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known ** float(exponent))
        error = abs(exponent) * a.error * max(_largest(a), 1.0) ** max(exponent - 1, 0) if a.error else 0.0
        even = exponent % 2 == 0
        powered = Value(self.field.power(a.x, exponent), a.degree.power(exponent), known, kind=a.kind, error=error,
                        positive=exponent == 0 or is_positive(a) or (even and self.is_nonzero(a)),
                        nonnegative=even or is_nonnegative(a), everywhere=_everywhere_of_power(a, even),
                        power_of=power_of(a, exponent) if exponent > 1 and known is None else None,
                        square_of=self._half_power(a, exponent) if even and exponent and known is None else None,
                        scaled=self._scaled(a, a, a.shape, True) if exponent == 2 else None)  # fmt: skip
        if not a.log or a.rest is None:
            return powered
        log = tuple((c * exponent, v) for c, v in a.log)
        return powered._replace(log=log, rest=self.power(a.rest._replace(log=(), rest=None), exponent))


def _is_nothing(a: Value) -> bool:
    return a.known is not None and a.special is None and a.x.im is None and not a.x.re.any()


def _everywhere_of_power(a: Value, even: bool) -> Everywhere:
    """What a power with a nonnegative integer exponent is at every point."""
    return max(everywhere(a), Everywhere.NONNEGATIVE) if even and everywhere(a) else everywhere(a)


def _collected(terms: list[Term]) -> list[Term]:
    """The same sum, with one coefficient for each distinct unknown."""
    collected: list[Term] = []
    for c, v in terms:
        for i, (other, w) in enumerate(collected):
            if v.known is None and w.known is None and _is_same_array(v.x, w.x):
                collected[i] = (other + c, w)
                break
        else:
            collected.append((c, v))
    return [(c, v) for c, v in collected if c]


def _is_same_array(x: Elements, y: Elements) -> bool:
    if x.im is None and y.im is None:
        return x.re is y.re or np.array_equal(x.re, y.re)
    return np.array_equal(x.re, y.re) and np.array_equal(x.imaginary(), y.imaginary())


def power_of(a: Value, exponent: Fraction | int) -> tuple[Fraction, Value] | None:
    """The exponent and base of ``a^exponent`` as a power, if the base is positive."""
    if not is_positive(a) or a.known is not None:
        return None
    own, base = a.power_of or (Fraction(1), a)
    return own * exponent, base


def _factors(a: Value, b: Value, exponent: int) -> tuple[Value, Value, int] | None:
    """The two factors of a product or quotient whose square root is that of their square roots. Both must be
    nonnegative, and neither may be a known number."""
    if a.shape != b.shape or a.known is not None or b.known is not None:
        return None
    if not (is_nonnegative(a) and is_nonnegative(b)):
        return None
    if _how_many(a) + _how_many(b) > MAX_FACTORS:  # each factor is moved whenever the product is
        a, b = a._replace(factors=None), b._replace(factors=None)
    return a, b, exponent


def _how_many(a: Value) -> int:
    return 1 if a.factors is None else sum(map(_how_many, a.factors[:2]))


def _joint_power(a: Value, b: Value, exponent: int) -> tuple[Fraction, Value] | None:
    """``a b^exponent`` as a power of the base that both are powers of; None if there is none."""
    other = power_of(b, exponent)
    if a.known is not None and (a.known == 1).all() and a.shape == b.shape:
        return other if b.power_of is not None else None  # the oracle of log knows inverses
    if other is None:
        return None
    own = power_of(a, 1)
    if own is None or own[1].shape != other[1].shape or digest(own[1].x) != digest(other[1].x):
        return None
    total = own[0] + other[0]
    return (total, own[1]) if total else None


def _largest(a: Value) -> float:
    """The largest magnitude of known numbers."""
    if a.known is None:
        return np.inf
    numbers = np.abs(a.known[np.isfinite(a.known)])
    return float(numbers.max(initial=0.0))


def _error_of_quotient(a: Value, b: Value, quotient: np.ndarray) -> float:
    if not a.error and not b.error:
        return 0.0
    least = float(np.abs(b.known).min(initial=np.inf))  # pyright: ignore[reportArgumentType, reportCallIssue]
    if least <= 2 * b.error:
        return np.inf
    return 2 * (a.error + b.error * float(np.abs(quotient).max(initial=0.0))) / least


def spread(terms: tuple[Term, ...], shape: tuple[int, ...]) -> tuple[Term, ...]:
    """The terms, broadcast to the shape of the sum."""
    return tuple((c, v if v.shape == shape else _broadcast(v, shape)) for c, v in terms)


def _broadcast(v: Value, shape: tuple[int, ...]) -> Value:
    return moved(v, lambda part: np.broadcast_to(part, shape))


def _small_number(b: Value) -> Fraction | None:
    """The number that all entries of b are, if it is a small dyadic one, so that coefficients stay short."""
    if b.known is None or b.known.size == 0:
        return None
    first = b.known.flat[0]
    if not np.isfinite(first) or abs(first) > 16 or (first * 16) % 1 or not (b.known == first).all():
        return None
    return Fraction(float(first))
