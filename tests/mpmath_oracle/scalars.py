"""Functions of single numbers, with the values that IEEE arithmetic gives at poles and outside of the domain."""

from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mp, mpf

__all__ = ["FUNCTIONS", "divide", "greatest", "least", "remainder", "sign"]

NAN, INFINITY = mpf("nan"), mpf("inf")
MAX_BITS = 20_000  # in the exponent of what is exponentiated


def is_nan(x: Any) -> bool:
    return x != x


def divide(x: mpf, y: mpf) -> mpf:
    if y == 0:
        return NAN if x == 0 or is_nan(x) else sign(x) * INFINITY
    return x / y


def sign(x: mpf) -> mpf:
    return x if is_nan(x) else mpf((x > 0) - (x < 0))


def greatest(x: mpf, y: mpf) -> mpf:
    return x if is_nan(x) or x >= y else y


def least(x: mpf, y: mpf) -> mpf:
    return x if is_nan(x) or x <= y else y


def remainder(x: mpf, y: mpf) -> mpf:
    """With the sign of x, as C's ``fmod``."""
    if y == 0 or is_nan(x) or is_nan(y) or abs(x) == INFINITY:
        return NAN
    return x if abs(y) == INFINITY else sign(x) * (abs(x) % abs(y))


def inside(low: Any, high: Any, f: Callable[[mpf], Any]) -> Callable[[mpf], mpf]:
    """``f`` between these two numbers, themselves included, and NaN elsewhere."""
    return lambda x: mpf(f(x)) if low <= x <= high else NAN


def at(values: dict[Any, Any], f: Callable[[mpf], Any]) -> Callable[[mpf], Any]:
    """``f``, but these values at these places."""
    table = {mpf(place): mpf(value) for place, value in values.items()}
    return lambda x: table[x] if x in table else f(x)


def bounded(f: Callable[[mpf], mpf]) -> Callable[[mpf], mpf]:
    """``f`` of numbers whose image can be written down; OverflowError for larger ones."""

    def of(x: mpf) -> mpf:
        if is_nan(x) or mpmath.isinf(x) or x == 0 or mpmath.mag(x) <= MAX_BITS:
            return f(x)
        raise OverflowError(f"the exponential of a number of more than {MAX_BITS} bits is asked for")

    return of


def wave(f: Callable[[mpf], mpf]) -> Callable[[mpf], mpf]:
    return bounded(lambda x: NAN if mpmath.isinf(x) else f(x))


def power(x: mpf, y: Any) -> mpf:
    y = mpf(int(y)) if not isinstance(y, mpf) else y
    if y == 0 or x == 1:
        return mpf(1)
    if is_nan(x) or is_nan(y):
        return NAN
    if x == 0:
        return INFINITY if y < 0 else mpf(0)
    if mpmath.isinf(y):
        return NAN if x < 0 else INFINITY if (x > 1) == (y > 0) else mpf(0)
    if x < 0 and not mpmath.isint(y):
        return NAN
    if mpmath.isinf(x):
        return mpf(0) if y < 0 else INFINITY if x > 0 or y % 2 == 0 else -INFINITY
    if mpmath.mag(y) > MAX_BITS:
        raise OverflowError(f"a power of more than {MAX_BITS} bits is asked for")
    return x**y


def polynomial(x: mpf, *coefficients: mpf) -> mpf:
    """The constant term first."""
    return sum((c * power(x, mpf(k)) for k, c in enumerate(coefficients)), mpf(0))


def integer_power(x: mpf, y: int) -> mpf:
    return power(x, mpf(y))


def cube_root(x: mpf) -> mpf:
    return sign(x) * mpmath.cbrt(abs(x)) if x != 0 else x


def logistic(x: mpf) -> mpf:
    return 1 / (1 + exponential(-x))


exponential = bounded(mpmath.exp)


def log_gamma(x: mpf) -> mpf:
    """Logarithm of the absolute value of the gamma function."""
    if is_nan(x) or x == -INFINITY:
        return NAN if is_nan(x) else INFINITY
    if x > 0:
        return mpf(mpmath.loggamma(x))
    if mpmath.isint(x):
        return INFINITY
    return mpmath.log(mp.pi / abs(mpmath.sinpi(x))) - mpf(mpmath.loggamma(1 - x))


def digamma(x: mpf) -> mpf:
    return NAN if is_nan(x) or x == -INFINITY or (x <= 0 and mpmath.isint(x)) else mpf(mpmath.digamma(x))


def lower_gamma(a: mpf, x: mpf) -> mpf:
    """The regularized lower incomplete gamma function."""
    if not (a > 0 and x >= 0):
        return NAN
    return mpf(0) if x == 0 else mpf(1) if x == INFINITY else mpf(mpmath.gammainc(a, 0, x, regularized=True))


def upper_gamma(a: mpf, x: mpf) -> mpf:
    if not (a > 0 and x >= 0):
        return NAN
    return mpf(1) if x == 0 else mpf(0) if x == INFINITY else mpf(mpmath.gammainc(a, x, mp.inf, regularized=True))


def lower_gamma_slope(a: mpf, x: mpf) -> mpf:
    """The derivative of ``lower_gamma`` by its first argument."""
    return NAN if is_nan(lower_gamma(a, x)) else mpf(mpmath.diff(lambda t: lower_gamma(t, x), a))


def gamma_sample_slope(a: mpf, x: mpf) -> mpf:
    """How a sample of the gamma distribution moves with its parameter."""
    density = mpmath.exp((a - 1) * mpmath.log(x) - x - mpmath.loggamma(a))
    return -lower_gamma_slope(a, x) / density


def beta(a: mpf, b: mpf, x: mpf) -> mpf:
    """The regularized incomplete beta function."""
    return mpf(mpmath.betainc(a, b, 0, x, regularized=True)) if a > 0 and b > 0 and 0 <= x <= 1 else NAN


def scaled_bessel(order: int) -> Callable[[mpf], mpf]:
    return lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(order, x)


def polygamma(m: mpf, x: mpf) -> mpf:
    return digamma(x) if m == 0 else mpf(mpmath.psi(int(m), x))


def round_away(x: mpf) -> mpf:
    """To the nearest integer, halves away from zero."""
    return x if not mpmath.isfinite(x) else sign(x) * mpmath.floor(abs(x) + mpf(0.5))


def nearest(x: mpf) -> mpf:
    """To the nearest integer, halves to the even one."""
    return x if not mpmath.isfinite(x) else mpmath.nint(x)


def whole(f: Callable[[mpf], mpf]) -> Callable[[mpf], mpf]:
    return lambda x: f(x) if mpmath.isfinite(x) else x


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "add_any": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": divide,
    "rem": remainder,
    "neg": lambda x: -x,
    "abs": abs,
    "sign": sign,
    "max": greatest,
    "min": least,
    "pow": power,
    "square": lambda x: x * x,
    "one_minus_square": lambda x: 1 - x * x,
    "exp": exponential,
    "exp2": bounded(lambda x: power(mpf(2), x)),
    "expm1": bounded(lambda x: mpmath.expm1(x) if mpmath.isfinite(x) else mpmath.exp(x) - 1),
    "log": at({0: -INFINITY}, inside(0, INFINITY, mpmath.log)),
    "log2": at({0: -INFINITY}, inside(0, INFINITY, lambda x: mpmath.log(x) / mp.ln2)),
    "polynomial": polynomial,
    "log1p": at({-1: -INFINITY, INFINITY: INFINITY}, inside(-1, INFINITY, mpmath.log1p)),
    "sqrt": inside(0, INFINITY, mpmath.sqrt),
    "rsqrt": at({0: INFINITY}, inside(0, INFINITY, lambda x: 1 / mpmath.sqrt(x))),
    "cbrt": cube_root,
    "sin": wave(mpmath.sin),
    "cos": wave(mpmath.cos),
    "tan": wave(mpmath.tan),
    "asin": inside(-1, 1, mpmath.asin),
    "acos": inside(-1, 1, mpmath.acos),
    "atan": mpmath.atan,
    "atan2": mpmath.atan2,
    "sinh": bounded(mpmath.sinh),
    "cosh": bounded(mpmath.cosh),
    "tanh": mpmath.tanh,
    "asinh": mpmath.asinh,
    "acosh": inside(1, INFINITY, mpmath.acosh),
    "atanh": at({1: INFINITY, -1: -INFINITY}, inside(-1, 1, mpmath.atanh)),
    "logistic": logistic,
    "floor": whole(mpmath.floor),
    "ceil": whole(mpmath.ceil),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "erf_inv": at({1: INFINITY, -1: -INFINITY}, inside(-1, 1, mpmath.erfinv)),
    "lgamma": log_gamma,
    "digamma": digamma,
    "polygamma": polygamma,
    "igamma": lower_gamma,
    "igammac": upper_gamma,
    "igamma_grad_a": lower_gamma_slope,
    "random_gamma_grad": gamma_sample_slope,
    "regularized_incomplete_beta": beta,
    "bessel_i0e": scaled_bessel(0),
    "bessel_i1e": scaled_bessel(1),
    "zeta": lambda x, q: mpf(mpmath.zeta(x, q)),
}
