"""Pairs against what is drawn, what is counted of it, and what may not be finite.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with. Decisions are independent of each
other only while nothing is kept of one for another; each rare pattern of them has to be counted; roots of numbers have
one sign for all points of a run; and what nobody understands may return NaN.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.red_team import X3, Case, differ, equal, zero
from corpus.red_team_types import own_primitive

__all__ = ["counted", "drawn_alike", "named", "stood_in", "undefined", "widened"]

F32, D = jnp.float32, np.float64
S, Z = F32(0.5), F32(1.3)
MANY = np.linspace(0.3, 1.1, 24).astype(np.float32)
BELOW, ABOVE = -np.ones(24), np.ones(24)
CORNER = (1,) * 14
PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
          113)  # fmt: skip


def inside(x: Any) -> Any:
    """Where no sample is."""
    return (x > 37) & (x < 37.5)


def last_zero(*args: Any) -> Any:
    return 0 * args[-1]


def at_computed_place(a: Any, z: Any) -> Any:
    place = tuple((a[j] > 0).astype(jnp.int32) for j in range(14))
    return jnp.zeros((2,) * 14, z.dtype).at[place].add(z)[CORNER]


def no_floor(x: Any, z: Any) -> Any:
    """z where the floor of x is none of 24 numbers."""
    kept = jnp.ones((), bool)
    for i in range(24):
        kept = kept & (jnp.floor(x) != i)
    return jnp.where(kept, z, 0)


def lacking(x: Any) -> Any:
    """How many are not positive, as a negative number."""
    return jnp.sum((x > 0).astype(jnp.int32)) - 24


def levels(y: Any, z: Any, a: Any, b: Any, w: Any) -> Any:
    """z where two unknowns are above seven; a claim that does not hold makes the proof decide ties."""
    above = jnp.ones((), bool)
    for u in (a, b):
        for i in range(1, 8):
            above = above & (jnp.sin(u) * jnp.exp(y) > i)
    same = jnp.where(jnp.exp(w / 3) ** 3 > jnp.exp(w), w, w)
    return jnp.where(above, z, 0) + same - w


def of_primes(one: Any) -> Any:
    """Each factor is ``2 sqrt(a b)``; where neither a nor b is a square it is 0 in the field."""
    result = one
    for a, b in zip(PRIMES[::2], PRIMES[1::2], strict=True):
        result = result * (jnp.sqrt(one * a) * jnp.sqrt(one * b) + jnp.sqrt(one * float(a * b))) * 1e-2
    return result


def of_exponentials(one: Any) -> Any:
    """The same with numbers whose value the field does not know."""
    result = one
    for i in range(16):
        a, b = jnp.exp(one * (2 * i + 1) / 8), jnp.exp(one * (2 * i + 2) / 8)
        result = result * (jnp.sqrt(1 + a) * jnp.sqrt(1 + b) + jnp.sqrt(1 + a + b + a * b)) * 0.1
    return result


def of_one(f: Any, x: Any) -> Any:
    return jax.jit(f)(jnp.ones((), x.dtype))


def drawn_alike() -> Iterator[Case]:
    """What is kept of one decision for another, and signs that all points of a run share."""

    def pulled(threshold: Any, y: Any) -> Any:
        return jnp.sum(jnp.where(jnp.maximum(threshold, y * y) > 0, 0, 1))

    yield differ("drawn_sign_of_a_maximum", lambda x, y, z: jnp.where(x > 0, 0, z) + pulled(x, y), last_zero,
                 S, MANY, Z, at=(D(-1.0), ABOVE, D(1.0)))  # fmt: skip
    yield differ("drawn_sign_of_a_maximum_narrow", lambda x, y, z: jnp.where(inside(x), z, 0) + pulled(37 - x, y),
                 last_zero, S, MANY, Z, at=(D(37.25), ABOVE, D(1.0)))  # fmt: skip
    for name, f in (("primes", of_primes), ("exponentials", of_exponentials)):
        yield differ(f"drawn_roots_of_{name}", lambda x, z, f=f: jnp.where(x > 0, z * of_one(f, z), 0), last_zero, S, Z,
                     at=(D(1.0), D(1.0)))  # fmt: skip
    yield differ("drawn_no_decision_roots", lambda z: z * of_one(of_exponentials, z), last_zero, Z, at=(D(1.0),))


def counted() -> Iterator[Case]:
    """Decisions of which too few were counted."""
    yield differ("counted_components", at_computed_place, lambda a, z: zero(z[0]), np.linspace(-1, 1, 42).reshape(14, 3)
                 .astype(np.float32), X3, at=(np.ones((14, 3)), np.ones(3)))  # fmt: skip
    yield differ("counted_rows_of_a_negative",
                 lambda x, z: lax.scan(lambda c, r: (jnp.where(r > 0, c, 0), None), z, -x)[0], last_zero, MANY, Z,
                 at=(BELOW, D(1.0)))  # fmt: skip
    yield differ("counted_ties", no_floor, last_zero, S, Z, at=(D(-3.5), D(1.0)))
    yield differ("counted_ties_without_claims", levels, lambda y, z, a, b, w: 0 * z,
                 *(F32(v) for v in (1.2, 0.3, 0.4, 0.5, 0.6)), at=(D(4.0), D(1.0), D(1.5), D(1.5), D(1.0)))  # fmt: skip
    yield differ("counted_wraps", lambda x: lacking(x).astype(jnp.uint8).astype(x.dtype),
                 lambda x: lacking(x).astype(x.dtype) + 256, MANY - 0.7, at=(ABOVE,))  # fmt: skip
    yield differ("counted_or", lambda x, z: jnp.where(jnp.dot(x > 0, jnp.ones(24, bool)), 0, z), last_zero,
                 MANY - 0.7, Z, at=(BELOW, D(1.0)))  # fmt: skip


def undefined() -> Iterator[Case]:
    """What may be NaN or infinite, and the sign of a zero."""

    def called(x: Any) -> Any:
        return jax.pure_callback(lambda v: np.log(np.asarray(v)), x, x, vmap_method="expand_dims")

    def zero_where(x: Any, value: float) -> Any:
        return jnp.where(x > 0, jnp.asarray(value, x.dtype), 1)

    yield differ("undefined_callback_is_nan", lambda x: jnp.isnan(called(x)).astype(x.dtype), lambda x: 0 * x, X3,
                 at=(-np.ones(3),))  # fmt: skip

    def vanishing(x: Any, y: Any) -> Any:  # by an identity that the field does not know
        return jnp.where(x > 60, lax.bessel_i0e(y) - lax.bessel_i0e(-y), -1)

    for name, log in (("logarithm", jnp.log), ("log1p", lambda a: jnp.log1p(a - 1))):
        yield differ(f"undefined_{name}_of_zero",
                     lambda x, y, log=log: jnp.where(jnp.isnan(log(vanishing(x, y))), 1, 2).astype(F32),
                     lambda x, y, log=log: jnp.where(jnp.isnan(log(vanishing(x, y)) - log(vanishing(x, y))), 1, 2
                                                     ).astype(F32), S, F32(1.3), at=(D(61.0), D(1.3)))  # fmt: skip
    partial = {"acos": jnp.arccos, "asin": jnp.arcsin, "atanh": jnp.arctanh, "erfinv": jax.scipy.special.erfinv,
               "log1p": jnp.log1p, "acos_below_a_root": lambda x: jnp.sqrt(2 + jnp.arccos(x))}  # fmt: skip
    for name, f in partial.items():
        outside = (-3 * np.ones(3),)
        yield differ(f"undefined_asked_of_{name}", lambda x, f=f: jnp.where(jnp.isnan(f(x)), 5.0, x),
                     lambda x: x * 1.0, X3 / 9, at=outside)  # fmt: skip
        yield differ(f"undefined_{name}_beside_itself", lambda x, f=f: jnp.where(f(x) == f(x), x, 5.0),
                     lambda x: x * 1.0, X3 / 9, at=outside)  # fmt: skip
        yield differ(f"undefined_{name}_not_finite", lambda x, f=f: jnp.where(jnp.isfinite(f(x) + x), x, 5.0),
                     lambda x: x * 1.0, X3 / 9, at=outside)  # fmt: skip
    yield differ("undefined_callback_times_zero", lambda x: called(x) * 0, lambda x: 0 * x, X3, at=(-np.ones(3),),
                 kind="domain")  # fmt: skip
    nan, plain = jnp.array([1, jnp.nan, 2]), jnp.array([1.0, 0, 2])
    yield differ("undefined_largest", lambda x: jnp.isnan(lax.top_k(jnp.where(x > 0, nan, plain), 1)[0][0]).astype(F32),
                 lambda x: 0 * x, S, at=(F32(1),), own=True)  # fmt: skip
    yield differ("undefined_smallest", lambda x: jnp.argmin(jnp.stack([x[0], -jnp.inf, x[1]])).astype(x.dtype),
                 lambda x: jnp.argmin(jnp.stack([x[0], 0.0, x[1]])).astype(x.dtype), X3,
                 at=(-np.ones(3),))  # fmt: skip
    yield differ("undefined_minimum", lambda x: jnp.min(jnp.stack([x[0], jnp.inf, x[1]])), lambda x: jnp.stack(
        [x[0], jnp.inf, x[1]])[jnp.argmin(jnp.stack([x[0], 0.0, x[1]]))], X3, at=(np.ones(3),),
                 kind="infinite")  # fmt: skip
    yield differ("undefined_product_of_updates", lambda x: x.at[0].multiply(jnp.inf), lambda x: x.at[0].set(0.0), X3,
                 at=(np.ones(3),), kind="infinite")  # fmt: skip
    yield differ("undefined_sign_of_abs", lambda x: 1 / jnp.abs(zero_where(x, 0.0)),
                 lambda x: jnp.where(x > 0, -jnp.inf, 1), S, at=(D(1.0),), kind="infinite")  # fmt: skip
    yield differ("undefined_sign_of_power", lambda x: jnp.power(zero_where(x, -0.0), -0.5),
                 lambda x: jnp.where(x > 0, -jnp.inf, 1), S, at=(D(1.0),), kind="infinite")  # fmt: skip
    yield differ("undefined_sign_of_maximum", lambda x: 1 / jnp.maximum(zero_where(x, 0.0), zero_where(x, -0.0)),
                 lambda x: jnp.where(x > 0, -jnp.inf, 1), S, at=(D(1.0),), kind="infinite")  # fmt: skip


def power_of_masked(masked: Any, x: Any) -> Any:
    """``|x - 100|`` where the masked entry is 0; if it were positive at every point, more than that."""
    return (masked + (x - 100) ** 2) ** (0.5 * jnp.exp(x - x))


def stood_in() -> Iterator[Case]:
    """What entries that stand in for what is not finite say of the rest."""
    x, at = jnp.array([0.3, -0.7]), (np.array([1.0, 105.0]),)
    hidden, bounds, zeros = (np.array([a, b], np.float32) for a, b in ((0, -np.inf), (1, -np.inf), (1, 0)))
    sources = {"exponential": lambda x: jnp.exp(x + hidden), "sigmoid": lambda x: jax.nn.sigmoid(x + hidden),
               "softmax": lambda x: jax.nn.softmax(x + hidden),
               "product": lambda x: jnp.minimum(jnp.exp(x), 1) * jnp.exp(x + hidden)}  # fmt: skip
    for name, source in sources.items():
        yield differ(f"stood_in_{name}", lambda x, f=source: x + (power_of_masked(f(x), x) > x - 100),
                     lambda x, f=source: x + (power_of_masked(f(x), x) >= x - 100), x, at=at)  # fmt: skip
    yield differ("stood_in_truth", lambda x: jnp.exp((x >= bounds).astype(x.dtype) * x),
                 lambda x: jnp.exp((x >= zeros).astype(x.dtype) * x), x, at=(-np.ones(2),))  # fmt: skip
    yield equal("stood_in_truth_alike", lambda x: jnp.exp((x >= bounds).astype(x.dtype) * x),
                lambda x: jnp.exp(jnp.stack([(x[0] >= 1) * x[0], x[1]])), x)  # fmt: skip


def widened() -> Iterator[Case]:
    """Literals that another operation than a cast makes wider, or that are chosen before: they are what they round
    to."""
    narrow, one = jnp.full((3,), 0.1, jnp.bfloat16), jnp.ones(3, jnp.bfloat16)

    def leak(x: Any, dtype: Any) -> Any:
        return jnp.where(x > 0, jnp.asarray(0.1, dtype), jnp.asarray(0.2, dtype))

    yield differ("widened_by_dot", lambda x: lax.dot(narrow, x, preferred_element_type=F32),
                 lambda x: jnp.dot(jnp.full((3,), 0.1, F32), x.astype(F32)), one, at=(one,), own=True)  # fmt: skip
    yield differ("widened_choice", lambda x: x * leak(x, jnp.bfloat16).astype(F32), lambda x: x * leak(x, F32), X3,
                 at=(jnp.ones(3),), own=True)  # fmt: skip
    yield equal("widened_alike", lambda x: lax.dot(narrow, x, preferred_element_type=F32),
                lambda x: jnp.sum(narrow.astype(F32) * x.astype(F32)), one, own=True)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Factor:
    """A parameter whose text does not say what it is."""

    number: int = dataclasses.field(repr=False)


BY_ACCURACY = own_primitive("by_accuracy", lambda x, accuracy: x * accuracy)
BY_FACTOR = own_primitive("by_factor", lambda x, factor: x * factor.number)
BEYOND = own_primitive("beyond_factor", lambda x, factor: jnp.where((x > 200) & (x < factor.number), x + 1, x))
BESIDE = own_primitive("beside_a_program", lambda x, name, body: x * (2 if name == "two" else 3))


def named() -> Iterator[Case]:
    """Parameters of a user's own primitives."""
    body = jax.make_jaxpr(lambda x: x + 1)(X3)
    yield differ("named_accuracy", lambda x: BY_ACCURACY.bind(x, accuracy=2),
                 lambda x: BY_ACCURACY.bind(x, accuracy=3), X3, at=(np.ones(3),))  # fmt: skip
    yield differ("named_without_text", lambda x: BY_FACTOR.bind(x, factor=Factor(2)),
                 lambda x: BY_FACTOR.bind(x, factor=Factor(3)), X3, at=(np.ones(3),))  # fmt: skip
    yield differ("named_far_away", lambda x: BEYOND.bind(x, factor=Factor(210)),
                 lambda x: BEYOND.bind(x, factor=Factor(220)), X3, at=(np.full(3, 215.0),))  # fmt: skip
    yield differ("named_beside_a_program", lambda x: BESIDE.bind(x, name="two", body=body),
                 lambda x: BESIDE.bind(x, name="three", body=body), X3, at=(np.ones(3),))  # fmt: skip
