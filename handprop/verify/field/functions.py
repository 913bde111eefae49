"""Transcendental functions as random functions that keep the relations people use.

Sources: random interpretation, Gulwani and Necula (POPL 2004). What is kept:
``e^(a+b) = e^a e^b``, ``e^-a = 1/e^a``, ``e^log x = x``; logistic, tanh, sinh, cosh, softplus through that one e;
``log 1/x = -log x`` and ``log sum_i t_i = log t_j - log(t_j / sum_i t_i)`` for any j, which is the shift invariance of
logsumexp; ``sqrt(x)^2 = x`` and, on squares, ``sqrt(x y) = sqrt(x) sqrt(y)``; cube roots; ``(cos + i sin)(a + b)``.
Every other function is uninterpreted: equal arguments give equal values.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from handprop.verify.field.algebra import Run, digest, finite
from handprop.verify.field.arithmetic import Elements
from handprop.verify.field.degrees import VARIABLE, Bound, Degree, Whole
from handprop.verify.field.values import Value, terms_of

__all__ = ["ODD", "UNARY", "cbrt", "log", "pow_value", "sqrt", "uninterpreted"]

Unary = Callable[[Run, Value], Value]


def plain(v: Value) -> Value:
    return v._replace(terms=(), log=(), rest=None, log_of=None)


def one_plus(run: Run, a: Value, sign: int = 1) -> Value:
    return run.add(run.number(1, a.shape), a, sign)


def exp(run: Run, a: Value) -> Value:
    return run.exp(a)


def log(run: Run, a: Value) -> Value:
    """``log(e^(sum of terms) rest) = sum of terms + log rest``."""
    finite(a, "a logarithm")
    if a.log and a.rest is not None:
        return run.add(_sum_of(run, a.log, a.shape), _log_of_rest(run, a.rest))
    exponentials = _exponentials(a)
    return _pivoted(run, a, exponentials) if exponentials else _log_of_rest(run, a)


def _sum_of(run: Run, terms, shape) -> Value:
    x = Elements(np.zeros(shape, np.int64))
    degree = Bound()
    for c, atom in terms:
        x = run.field.add(x, run.field.scale(atom.x, run.field.ratio(c.numerator, c.denominator)))
        degree = degree + atom.degree * Bound.of(c)
    return Value(x, degree, terms=tuple(terms))


def _log_of_rest(run: Run, a: Value) -> Value:
    """The oracle, odd under ``x -> 1/x``; 0 at 1."""
    inverse = run.field.inv(a.x, run.constant("1/0"))
    flipped = a.x.re > inverse.re
    low = Elements(np.where(flipped, inverse.re, a.x.re), None if a.x.im is None else
                   np.where(flipped, inverse.imaginary(), a.x.im))  # fmt: skip
    run.asked(a)
    value = run.oracle("log", low).re
    value = np.where((low.re == 1) & (low.imaginary() == 0), 0, value)
    value = np.where((low.re == 2) & (low.imaginary() == 0), run.log_of_2(), value)
    value = np.where(flipped, (run.field.p - value) % run.field.p, value)
    return Value(Elements(value), VARIABLE, log_of=plain(a))


def _exponentials(a: Value) -> list[Value]:
    """The terms of a sum of exponentials (and ones), [] where it is none."""
    terms = [v for c, v in a.terms if c == 1]
    if len(terms) != len(a.terms) or len(terms) < 2 or not any(v.log for v in terms):
        return []
    if not all(v.log or (v.known is not None and (v.known == 1).all()) for v in terms):
        return []
    return terms


def _pivoted(run: Run, a: Value, terms: list[Value]) -> Value:
    """``log sum = log t_j - log(t_j / sum)`` with the j that the shares themselves choose."""
    inverse = run.field.inv(a.x, run.constant("1/0"))
    shares = [run.field.mul(v.x, inverse) for v in terms]
    ranks = np.stack([run.oracle("pivot", share).re for share in shares])
    pivot = np.argmin(ranks, 0)
    x = Elements(np.zeros(a.shape, np.int64))
    degree = Bound()
    for j, (term, share) in enumerate(zip(terms, shares, strict=True)):
        log_of_term = log(run, term._replace(terms=())) if term.log else run.number(0, a.shape)
        log_of_share = _log_of_rest(run, Value(share, term.degree * a.degree.inverse(a.x.size, digest(a.x))))
        candidate = run.field.sub(log_of_term.x, log_of_share.x)
        x = choose(pivot == j, candidate, x)
        degree = degree + log_of_term.degree + log_of_share.degree
    return Value(x, degree, log_of=plain(a))


def choose(where: np.ndarray, a: Elements, b: Elements) -> Elements:
    re = np.where(where, a.re, b.re)
    return Elements(re, None if a.im is None and b.im is None else np.where(where, a.imaginary(), b.imaginary()))


def logistic(run: Run, a: Value) -> Value:
    return run.inv(one_plus(run, run.exp(run.neg(a))))


def tanh(run: Run, a: Value) -> Value:
    doubled = run.exp(run.mul(run.number(2, a.shape), a))
    return run.div(run.add(doubled, run.number(1, a.shape), -1), one_plus(run, doubled))


def sinh(run: Run, a: Value) -> Value:
    e = run.exp(a)
    return run.mul(run.add(e, run.inv(e), -1), run.number(Fraction(1, 2), a.shape))


def cosh(run: Run, a: Value) -> Value:
    e = run.exp(a)
    return run.mul(run.add(e, run.inv(e)), run.number(Fraction(1, 2), a.shape))


def _log_of_2(run: Run, shape) -> Value:
    return Value(
        Elements(np.full(shape, run.log_of_2(), np.int64)), VARIABLE.power(2), known=np.full(shape, np.log(2.0))
    )


def sqrt(run: Run, a: Value) -> Value:
    """The root in GF(p^2). A root of what is not in GF(p) is uninterpreted."""
    finite(a, "a root")
    if a.log and a.rest is not None and a.rest.known is not None and (a.rest.known == 1).all():
        return run.exp_of_terms(tuple((c / 2, v) for c, v in a.log), a.shape)
    known = None
    if a.known is not None:
        with np.errstate(all="ignore"):
            known = np.asarray(np.sqrt(a.known))
    if a.x.im is not None and a.x.im.any():
        return uninterpreted(run, "sqrt", a)
    run.rooted(Elements(a.x.re), known=a.known is not None, degree=a.degree)
    return Value(run.field.sqrt(a.x.re), a.degree, known, positive=True)


def cbrt(run: Run, a: Value) -> Value:
    """p is 2 modulo 3: every element has one cube root, a^((2p - 1)/3)."""
    if a.x.im is not None:
        return uninterpreted(run, "cbrt", a)
    run.rooted(a.x, known=a.known is not None, square=False)
    return Value(run.field.power(a.x, (2 * run.field.p - 1) // 3), a.degree)


def _turn(run: Run, a: Value) -> Elements:
    """``cos a + i sin a`` on the unit circle of GF(p^2): products for sums, the conjugate for the negative."""
    turn = Elements(np.ones(a.shape, np.int64), np.zeros(a.shape, np.int64))
    for c, atom in terms_of(a):
        quarters = c * 4
        x = run.field.scale(atom.x, run.field.ratio(1, quarters.denominator))
        flipped, canonical = run.canonical(x)
        run.asked(atom)
        across, up = run.oracle("turn x", canonical).re, run.oracle("turn y", canonical).re
        up = np.where(run.field.is_zero(x), 0, np.where(flipped, (run.field.p - up) % run.field.p, up))
        point = Elements(across, up)
        base = run.field.mul(point, run.field.inv(Elements(across, (run.field.p - up) % run.field.p), 1))
        turn = run.field.mul(turn, run.field.power(base, quarters.numerator))
    return turn


def _turn_degree(a: Value) -> Bound:
    n = sum(2 * abs((c * 4).numerator) for c, _ in terms_of(a))
    size = n * a.x.size
    return Bound(Degree(n, n, n, n), Whole(size, size, 0, {("turn", digest(a.x)): (1, size, size)}))


def sin(run: Run, a: Value) -> Value:
    finite(a, "a sine")
    return Value(Elements(_turn(run, a).imaginary()), _turn_degree(a))


def cos(run: Run, a: Value) -> Value:
    finite(a, "a cosine")
    return Value(Elements(_turn(run, a).re), _turn_degree(a))


def pow_value(run: Run, a: Value, b: Value) -> Value:
    """``a^b``: exact for multiples of 1/2 and 1/3 that are known, else ``e^(b log a)``."""
    exponent = _exponent(b)
    if exponent is not None and exponent.denominator in (1, 2, 3) and abs(exponent) <= 64:
        root = {1: lambda run, v: v, 2: sqrt, 3: cbrt}[exponent.denominator](run, a)
        return run.power(root, exponent.numerator)
    return run.exp(run.mul(b, log(run, a)))


def _exponent(b: Value) -> Fraction | None:
    if b.known is None or b.known.size == 0 or not (b.known == b.known.flat[0]).all():
        return None
    return Fraction(float(b.known.flat[0])).limit_denominator(1 << 20)


ODD = {"erf", "erf_inv", "asin", "atan", "asinh", "atanh", "bessel_i1e", "round", "tan"}


def uninterpreted(run: Run, name: str, *arguments: Value) -> Value:
    """A random function of its arguments, entry by entry; odd where the function is."""
    for a in arguments:
        finite(a, name)
    run.asked(*arguments)
    run.uninterpreted.add(name)
    xs = [a.x for a in arguments]
    if name not in ODD:
        return Value(run.oracle(name, *xs), VARIABLE)
    flipped, canonical = run.canonical(xs[0])
    value = run.oracle(name, canonical).re
    value = np.where(run.field.is_zero(canonical), 0, value)
    return Value(Elements(np.where(flipped, (run.field.p - value) % run.field.p, value)), VARIABLE)


def _expm1(run: Run, a: Value) -> Value:
    return run.add(run.exp(a), run.number(1, a.shape), -1)


def _square(run: Run, a: Value) -> Value:
    return run.power(a, 2)


UNARY: dict[str, Unary] = {
    "exp": exp,
    "exp2": lambda run, a: run.exp(run.mul(a, _log_of_2(run, a.shape))),
    "log": log,
    "log2": lambda run, a: run.div(log(run, a), _log_of_2(run, a.shape)),
    "log1p": lambda run, a: log(run, one_plus(run, a)),
    "expm1": _expm1,
    "logistic": logistic,
    "tanh": tanh,
    "sinh": sinh,
    "cosh": cosh,
    "sqrt": sqrt,
    "rsqrt": lambda run, a: run.inv(sqrt(run, a)),
    "cbrt": cbrt,
    "sin": sin,
    "cos": cos,
    "tan": lambda run, a: run.div(sin(run, a), cos(run, a)),
    "square": _square,
    "neg": lambda run, a: run.neg(a),
    "one_minus_square": lambda run, a: one_plus(run, _square(run, a), -1),
    "erfc": lambda run, a: one_plus(run, uninterpreted(run, "erf", a), -1),
    "stop_gradient": lambda run, a: a,
    "copy": lambda run, a: a,
    "copy_p": lambda run, a: a,
    "reduce_precision": lambda run, a: a,
    "optimization_barrier": lambda run, a: a,
    "real": lambda run, a: a,
}
