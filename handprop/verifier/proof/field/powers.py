"""Roots and powers.

A positive number comes out of a root: ``sqrt(c x) = sqrt(c) sqrt(x)``, where x is at least 0 exactly where ``c x`` is.
So ``sqrt(v / c)`` and ``sqrt(v) / sqrt(c)`` are one expression. The root of a square is the absolute value,
``sqrt(x x) = |x|``, which rests on a truth value as ``abs`` does. Equal elements have equal roots, however they were
computed: the root of the first way is kept.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.errors import NotUnderstood
from handprop.verifier.proof.field.functions import chosen, defined, log_of, uninterpreted, with_special
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import absolute, as_value
from handprop.verifier.proof.field.values import (
    NAN,
    Everywhere,
    Value,
    everywhere,
    is_nonnegative,
    is_positive,
    moved,
    of_positive,
    where_positive,
)

__all__ = ["ROOTS", "pow_value", "sqrt"]

MAX_EXPONENTS, MAX_POWER = 8, 1 << 20


def sqrt(run: Run, a: Value) -> Value:
    """The root in GF(p^2). The root of an element outside GF(p) is uninterpreted."""
    negative = defined(run, a, "the argument of sqrt is not negative")
    root = _root_of(run, a)
    kind = Kind.PIECEWISE if root.kind is Kind.PIECEWISE else of_positive(a)
    facts = {"kind": kind, "positive": is_positive(a), "nonnegative": True,
             "everywhere": where_positive(a, Everywhere.POSITIVE)}  # fmt: skip
    if negative is None or not negative.any():
        return root._replace(**facts)
    special = np.where(negative, NAN, 0).astype(np.int8)
    return root._replace(**facts, special=special, x=root.x.move(lambda part: np.where(negative, 0, part)))


def _root_of(run: Run, a: Value) -> Value:
    if a.power_of is not None and a.power_of[0].numerator % 2 == 0:
        return run.power(a.power_of[1], a.power_of[0].numerator // 2)
    if a.log and a.rest is not None and a.special is None:
        half = run.exp_of_terms(tuple((c / 2, v) for c, v in a.log), a.shape)
        is_one = a.rest.known is not None and (a.rest.known == 1).all()
        return half if is_one else run.mul(half, _root_of(run, a.rest))
    if a.known is not None:
        return a.square_of or run.root(a)
    flat = moved(a, lambda part: part.reshape(-1))
    key = ("square root", digest(flat.x))
    if key not in run.memo:
        before = run.signed
        run.memo[key] = _new_root(run, flat), run.signed > before
    root, signed = run.memo[key]
    run.signed += signed
    return moved(root, lambda part: part.reshape(a.shape))


def _new_root(run: Run, a: Value) -> Value:
    if a.scaled is not None:
        return run.mul(*(_root_of(run, v) for v in a.scaled))
    if a.square_of is not None and a.special is None and a.square_of.special is None:
        return _size(run, a.square_of)
    if a.factors is not None:
        left, right = (_root_of(run, v) for v in a.factors[:2])
        return run.mul(left, right) if a.factors[2] > 0 else run.div(left, right)
    if a.x.im is not None and a.x.im.any():
        return uninterpreted(run, "sqrt", a)
    return run.root(a)


def _size(run: Run, a: Value) -> Value:
    """``sqrt(a^2)``. Where comparisons are decided, the primitive whose rule this is decides the sign."""
    if a.scaled is not None:
        number, base = a.scaled
        return run.mul(number, _size(run, base))
    run.signed += 1
    if run.branching and run.equation is not None:
        run.kinds[run.equation.primitive.name] = Kind.PIECEWISE
    return as_value(run, absolute(run, a))


def cbrt(run: Run, a: Value) -> Value:
    """The cube root. As p is 2 modulo 3, every element has exactly one, ``a^((2p - 1)/3)``."""
    if a.x.im is not None:
        return uninterpreted(run, "cbrt", a)
    run.rooted(a, square=False)
    root = run.field.power(a.x, (2 * run.field.p - 1) // 3)
    return Value(root, a.degree, kind=max(a.kind, Kind.RELATED), nonnegative=is_nonnegative(a), positive=is_positive(a))


def pow_value(run: Run, a: Value, b: Value) -> Value:
    """``a^b``: exact if b is a known multiple of 1/2 or 1/3, else ``e^(b log a)`` for positive a."""
    exponents = None if b.known is None else np.unique(b.known)
    if exponents is None or exponents.size > MAX_EXPONENTS or not exponents.size:
        return _general_power(run, a, b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = (moved(v, lambda part: np.broadcast_to(part, shape)) for v in (a, b))
    result = None
    for exponent in exponents:
        here = b.known == exponent
        powered = _known_power(run, a, b, here)
        result = powered if result is None else chosen(here, powered, result)
    assert result is not None
    return result


def _general_power(run: Run, a: Value, b: Value) -> Value:
    if not is_positive(a):
        if run.may_vanish(a) or is_nonnegative(a):
            run.check_not_zero(a, "a power of a value that may be zero", "the base of a power is positive")
        _refuse_negative(defined(run, a, "the base of a power is positive"))
        if run.decides_domains or run.field.is_zero(a.x).any():
            raise NotUnderstood("a power of a value that may be negative or zero")
    known = where_positive(a, Everywhere.POSITIVE) if everywhere(b) else Everywhere.UNKNOWN
    return run.exp(run.mul(b, log_of(run, a)))._replace(kind=max(b.kind, of_positive(a)), everywhere=known)


def _refuse_negative(negative: np.ndarray | None) -> None:
    if negative is not None and negative.any():
        raise NotUnderstood("a power of a negative value")


def _known_power(run: Run, a: Value, b: Value, here: np.ndarray) -> Value:
    """``a^b`` for the one known number that ``b`` is ``here``."""
    exponent = _exponent(run, b, here)
    if exponent is None:
        return _general_power(run, a, b)
    if exponent.denominator == 1:
        return run.power(a, exponent.numerator)
    if exponent.denominator == 2:
        return with_special(run.power(root := sqrt(run, a), exponent.numerator), root)
    if not is_nonnegative(a):
        _refuse_negative(defined(run, a, "the base of a power is not negative"))
        if run.decides_domains:
            raise NotUnderstood("a power of a value that may be negative")
    return run.power(cbrt(run, a), exponent.numerator)


def _exponent(run: Run, b: Value, here: np.ndarray) -> Fraction | None:
    """The simple fraction that the exponent equals exactly, as this run reads it; None if there is none."""
    residues, numbers = b.x.re[here], b.known[here]  # pyright: ignore[reportOptionalSubscript]
    if b.x.im is not None and b.x.im[here].any():
        return None
    for denominator in (1, 2, 3):
        numerator = round(float(numbers[0]) * denominator)
        if (
            abs(numerator) <= (MAX_POWER if denominator == 1 else 64)
            and (residues == run.field.ratio(numerator, denominator)).all()
        ):
            return Fraction(numerator, denominator)
    return None


ROOTS: dict[str, Callable[[Run, Value], Value]] = {
    "sqrt": sqrt,
    "rsqrt": lambda run, a: with_special(run.inv(root := sqrt(run, a)), root),
    "cbrt": cbrt,
}
