"""Transcendental functions as random functions that satisfy the commonly used identities.

Source: random interpretation, Gulwani and Necula (POPL 2004). These identities hold: ``e^(a+b) = e^a e^b``,
``e^-a = 1/e^a``, ``e^log x = x``; logistic, tanh, sinh, cosh and softplus in terms of the same e; ``log 1/x = -log x``
and ``log sum_i t_i = log t_j - log(t_j / sum_i t_i)`` for any j, which is the shift invariance of logsumexp;
``sqrt(x)^2 = x`` and, on squares, ``sqrt(x y) = sqrt(x) sqrt(y)``; cube roots; ``(cos + i sin)(a + b)``. Every other
function is uninterpreted: equal arguments give equal values.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from handprop.verifier.programs.primitives import Kind, Trait, least_kind, named
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.decisions import placed
from handprop.verifier.proof.field.degrees import VARIABLE, Bound, Degree, Whole
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import (
    INFINITY,
    NAN,
    Everywhere,
    Value,
    everywhere,
    finite,
    is_nonnegative,
    is_positive,
    of_positive,
    plain,
    positive_entries,
    terms_of,
    where_positive,
)

__all__ = ["UNARY", "chosen", "defined", "log", "log_of", "uninterpreted", "with_special"]

Unary = Callable[[Run, Value], Value]


def defined(run: Run, a: Value, what: str) -> np.ndarray | None:
    """Where ``a``, the argument of a function of positive numbers, is negative; None if nowhere.

    If a is not known to be nonnegative, it is assumed to be or, in a run that decides domains, this is decided.
    """
    if is_nonnegative(a):
        return None
    if a.known is not None:
        if (np.abs(a.known) <= a.error).any():
            raise Unsupported(f"the condition that {what}, for a known number too close to zero")
        return a.known < 0
    if not run.decides_domains or not run.branching:
        if run.may_vanish(a):
            raise NeedsBranches(f"the condition that {what}, for a value that may be negative")
        run.assume(what)
        return None
    return ~placed(run, a, run.number(0, a.shape)) & ~run.field.is_zero(a.x)


def one_plus(run: Run, a: Value, sign: int = 1) -> Value:
    return run.add(run.number(1, a.shape), a, sign)


def exp(run: Run, a: Value) -> Value:
    return run.exp(a)


def log(run: Run, a: Value) -> Value:
    """``log(e^(sum of terms) rest) = sum of terms + log rest``."""
    if run.may_vanish(a) or is_nonnegative(a) or run.decides_domains:
        run.check_not_zero(a, "a logarithm of a value that may be zero", "the argument of log is positive")
    negative = defined(run, a, "the argument of log is positive")
    result = log_of(run, a)._replace(kind=of_positive(a), everywhere=where_positive(a, Everywhere.ANALYTIC))
    zero = run.field.is_zero(a.x)
    if negative is None and not zero.any():
        return result
    special = np.where(zero, -INFINITY, 0 if negative is None else np.where(negative, NAN, 0)).astype(np.int8)
    return result._replace(special=special, x=result.x.move(lambda part: np.where(special == 0, part, 0)))


def _log1p(run: Run, a: Value) -> Value:
    result = log(run, one_plus(run, a))
    finite = result.special is None
    above = everywhere(a) if everywhere(a) >= Everywhere.NONNEGATIVE else result.everywhere
    return result._replace(positive=finite and is_positive(a), nonnegative=finite and is_nonnegative(a),
                           everywhere=above)  # fmt: skip


def log_of(run: Run, a: Value) -> Value:
    if a.log and a.rest is not None:
        return run.add(_sum_of(run, a.log, a.shape), _log_of_rest(run, a.rest))
    if a.power_of is not None:
        exponent, base = a.power_of
        return run.mul(run.number(exponent, a.shape), log_of(run, base))
    exponentials = _exponentials(a)
    return _pivoted(run, a, exponentials) if exponentials else _log_of_rest(run, a)


def _sum_of(run: Run, terms, shape) -> Value:
    x = Elements(np.zeros(shape, np.int64))
    degree = Bound()
    for c, atom in terms:
        x = run.field.add(x, run.field.scale(atom.x, run.field.ratio(c.numerator, c.denominator)))
        degree = degree + atom.degree * Bound.of(c)
    return Value(x, degree, terms=tuple(terms), kind=max((v.kind for _, v in terms), default=Kind.ANALYTIC))


def _log_of_rest(run: Run, a: Value) -> Value:
    """The oracle of log: odd under ``x -> 1/x``, and 0 at 1."""
    inverse = run.field.inv(a.x)
    flipped = a.x.re > inverse.re
    low = Elements(np.where(flipped, inverse.re, a.x.re), None if a.x.im is None else
                   np.where(flipped, inverse.imaginary(), a.x.im))  # fmt: skip
    run.asked(a)
    value = run.oracle("log", low).re
    value = np.where((low.re == 1) & (low.imaginary() == 0), 0, value)
    value = np.where((low.re == 2) & (low.imaginary() == 0), run.log_of_2(), value)
    value = np.where(flipped, (run.field.p - value) % run.field.p, value)
    return Value(Elements(value), VARIABLE, log_of=plain(a), kind=max(a.kind, Kind.RELATED))


def _exponentials(a: Value) -> list[Value]:
    """The terms of a sum of exponentials (and ones); [] if it is not such a sum."""
    terms = [v for c, v in a.terms if c == 1]
    if len(terms) != len(a.terms) or len(terms) < 2 or not any(v.log for v in terms):
        return []
    if not all(v.log or (v.known is not None and (v.known == 1).all()) for v in terms):
        return []
    return terms


def _pivoted(run: Run, a: Value, terms: list[Value]) -> Value:
    """``log sum = log t_j - log(t_j / sum)``, where j is chosen by a hash of the shares ``t_j / sum``."""
    inverse = run.field.inv(a.x)
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
    return Value(x, degree, log_of=plain(a)._replace(terms=a.terms), kind=max(a.kind, Kind.RELATED))


def choose(where: np.ndarray, a: Elements, b: Elements) -> Elements:
    re = np.where(where, a.re, b.re)
    return Elements(re, None if a.im is None and b.im is None else np.where(where, a.imaginary(), b.imaginary()))


def chosen(where: np.ndarray, a: Value, b: Value) -> Value:
    """``a`` where the mask is true and ``b`` elsewhere, without their relations to other values."""
    known = None if a.known is None or b.known is None else np.where(where, a.known, b.known)
    special = None
    if a.special is not None or b.special is not None:
        special = np.where(where, *(np.zeros(where.shape, np.int8) if v.special is None else v.special for v in (a, b)))
    return Value(
        choose(where, a.x, b.x), a.degree.worst(b.degree), known, special=special, kind=max(a.kind, b.kind),
        positive=is_positive(a) and is_positive(b), nonnegative=is_nonnegative(a) and is_nonnegative(b),
        sure=np.where(where, positive_entries(a), positive_entries(b)), error=max(a.error, b.error),
        most=max(a.most, b.most), everywhere=everywhere(a, b),
    )  # fmt: skip


def with_special(result: Value, source: Value) -> Value:
    """The result with the infinities and NaN of its source."""
    if source.special is None:
        return result
    own = np.zeros(result.shape, np.int8) if result.special is None else result.special
    special = np.where(source.special != 0, source.special, own)
    return result._replace(special=special, x=result.x.move(lambda part: np.where(source.special != 0, 0, part)))


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
        Elements(np.full(shape, run.log_of_2(), np.int64)), VARIABLE.power(2), known=np.full(shape, np.log(2.0)),
        error=2.0**-50,
    )  # fmt: skip


def _turn(run: Run, a: Value) -> Elements:
    """``cos a + i sin a`` on the unit circle of GF(p^2): sums become products, negatives become conjugates."""
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
    return Bound(Degree(n, n, n, n), Whole(size, size, 0, {("turn", digest(a.x)): (1.0, size, size)}))


def sin(run: Run, a: Value) -> Value:
    return Value(Elements(_turn(run, a).imaginary()), _turn_degree(a), kind=a.kind.of_analytic,
                 everywhere=min(everywhere(a), Everywhere.ANALYTIC))  # fmt: skip


def cos(run: Run, a: Value) -> Value:
    return Value(Elements(_turn(run, a).re), _turn_degree(a), kind=a.kind.of_analytic,
                 everywhere=min(everywhere(a), Everywhere.ANALYTIC))  # fmt: skip


def uninterpreted(run: Run, name: str, *arguments: Value) -> Value:
    """A random function of its arguments, entry by entry; it is odd if the function is odd."""
    primitive = name.split(" ")[0]
    for a in arguments:
        finite(a, name)
    if primitive in named(Trait.PARTIAL):
        run.assume(f"the argument of {name} lies where it is defined")
        if run.decides_domains:
            raise NotUnderstood(f"{name}, which is not defined everywhere")
    run.asked(*arguments)
    run.uninterpreted.add(name)
    kind = max(least_kind(primitive), *(a.kind for a in arguments))
    xs = [a.x for a in arguments]
    oracle = run.loose_oracle if least_kind(primitive) is Kind.PIECEWISE else run.oracle
    if primitive not in named(Trait.ODD):
        return Value(oracle(name, *xs), VARIABLE, kind=kind)
    flipped, canonical = run.canonical(xs[0])
    value = oracle(name, canonical).re
    value = np.where(run.field.is_zero(canonical), 0, value)
    return Value(Elements(np.where(flipped, (run.field.p - value) % run.field.p, value)), VARIABLE, kind=kind)


def _expm1(run: Run, a: Value) -> Value:
    return run.add(run.exp(a), run.number(1, a.shape), -1)


def _square(run: Run, a: Value) -> Value:
    return run.power(a, 2)


UNARY: dict[str, Unary] = {
    "exp": exp,
    "exp2": lambda run, a: run.exp(run.mul(a, _log_of_2(run, a.shape))),
    "log": log,
    "log2": lambda run, a: with_special(run.div(natural := log(run, a), _log_of_2(run, a.shape)), natural),
    "log1p": _log1p,
    "expm1": _expm1,
    "logistic": logistic,
    "tanh": tanh,
    "sinh": sinh,
    "cosh": cosh,
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
    "real": lambda run, a: a,
}
