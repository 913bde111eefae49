"""Pairs against what a proof claims of numbers that came through functions, truths and infinities.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with. They attack relations that hold
over the reals and that a theory of random functions does not know: two ways of writing one number are taken for two
numbers, which are then divided by one another, compared without a tie, or multiplied by an infinity.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import handprop
from corpus.red_team import (
    DOWN,
    FIVE,
    INF,
    ON20,
    UP,
    W3,
    X3,
    X5,
    X20,
    Y3,
    Y5,
    Case,
    Function,
    differ,
    drawn,
    equal,
    extended,
    judged,
    number,
    product,
    relu,
)
from corpus.rule import with_vjp

__all__ = ["relations"]

P3, Q3, Z3, X40 = jnp.abs(X3) + 0.1, jnp.abs(Y3) + 0.1, drawn(3, seed=2), drawn(40)


# fmt: off
def relations() -> Iterator[Case]:
    """Identities that are not known, maxima that seem to cancel, zeros that meet infinities, roots of numbers whose
    signs are not kept, decisions that no input is in, masks by index, arguments differentiated in part."""

    def unequal(a: Function, b: Function) -> Function:
        """x where a and b differ, 0 where they are equal; ``b(x) = a(x)``: 0 everywhere."""
        return lambda x: jnp.where(a(x) > b(x), x, jnp.where(b(x) > a(x), x, 0.0))

    def same(x: Any) -> Any:
        return x * 1.0

    # An identity that is not known, beside a number: by itself, behind a decision, in each of several.
    def nothing(x: Any) -> Any:
        return jnp.exp(x / 3) ** 3 - jnp.exp(x)

    exact = (np.zeros(3, np.float32),)  # where rounding leaves it zero
    yield differ("beside_zero_equal", lambda x: jnp.where(nothing(x) == 0, 5.0, x), same, X3, at=exact)
    yield differ("beside_zero_by_a_sum", lambda x: jnp.where(jnp.exp(x / 3) ** 3 - jnp.exp(x) + 2 == 2, 5.0, x), same,
                 X3, at=exact)
    yield differ("beside_zero_greater_or_equal", lambda x: jnp.where(nothing(x) >= 0, 5.0, x),
                 lambda x: jnp.where(nothing(x) > 0, 5.0, x), X3, at=exact)
    yield differ("beside_zero_behind_a_decision",
                 lambda x: jnp.where(jnp.where(x > -9, nothing(x), 1.0) == 0, 5.0, x), same, X3, at=exact)
    yield differ("beside_zero_sign", lambda x: jnp.sign(nothing(x)) ** 2 * x, same, X3, at=exact)
    yield differ("beside_zero_largest", lambda x, y: jnp.where(jnp.maximum(nothing(x), 0.0) == 0, y, x),
                 lambda x, y: jnp.where(nothing(x) > 0, x * 1.0, jnp.where(nothing(x) < 0, y, x)), X3, Y3,
                 at=(*exact, UP))
    # A number in disguise: a decision on it is one for all points, however many a run stands for.
    def disguised(x: Any) -> Any:
        return 2 * jax.nn.sigmoid(2 * x) - jnp.tanh(x)

    for size in (2, 4, 6, 9, 11):
        a, b = drawn(size), drawn(size, seed=3)
        yield differ(f"disguised_one_of_{size}", lambda x: relu(disguised(x)) * relu(x), lambda x: 0.0 * x, a,
                     at=(jnp.ones(size),))
        yield differ(f"disguised_one_below_zero_of_{size}", lambda x: jnp.minimum(disguised(x), 0.0) * relu(x), relu, a,
                     at=(jnp.ones(size),))
        yield differ(f"disguised_one_beside_{size}", lambda x, y: relu(disguised(y)), lambda x, y: 0.0 * y, a, b[0],
                     at=(a, UP[0]))
        yield differ(f"disguised_one_where_decided_of_{size}",
                     lambda x, y: relu(jnp.where(x > 0, disguised(x), y)) * relu(x), lambda x, y: 0.0 * x, a, b,
                     at=(jnp.ones(size), b))
        yield differ(f"disguised_one_between_functions_of_{size}",
                     lambda x, y: jnp.where(jnp.exp(x) > jnp.expm1(x), x, y).sum(), lambda x, y: y.sum(), a, b,
                     at=(jnp.ones(size), -jnp.ones(size)))
    yield differ("disguised_ones_sorted", lambda x: jnp.sort(jnp.stack([x + 2 - x, x + 1 - x, x + 3 - x]), 0)[0] * x,
                 lambda x: 3 * x, X3, at=(UP,))
    yield differ("disguised_ones_largest", lambda x: jnp.max(jnp.stack([x + 2 - x, x + 1 - x, x + 3 - x]), 0) * relu(x),
                 relu, X3, at=(UP,))
    for name, one, value in (
        ("cosine", lambda x: jnp.cos(jnp.pi * x / x), -1.0),
        ("exponential", lambda x: jnp.exp(np.log(2.0) * x / x), 2.0),
        ("sigmoid", lambda x: jax.nn.sigmoid(x + 1 - x - 1), 0.5),
    ):
        yield differ(f"disguised_{name}", lambda x, one=one, value=value: jnp.where(one(x) == value, x, 2 * x),
                     lambda x: 2 * x, X3, at=(UP,))
    yield equal("beside_zero_apart", lambda x: jnp.where(nothing(x) - x * jnp.exp(x) > 0, 5.0, x),
                lambda x: jnp.where(nothing(x) - x * jnp.exp(x) <= 0, x, 5.0), X3)

    # Two ways of writing one number. The points are those where rounding leaves both the same.
    special = jax.scipy.special
    ways: dict[str, tuple[Function, Function, np.ndarray]] = {
        "log_of_square": (lambda x: jnp.log(x * x), lambda x: 2 * jnp.log(x), np.array([0.5, 1.5, 1.75])),
        "log_of_triple": (lambda x: jnp.log(3 * x), lambda x: jnp.log(x) + jnp.log(3.0), np.array([1.25, 1.5, 3])),
        "log_base_two": (lambda x: jnp.log2(x * x * x), lambda x: 3 * jnp.log2(x), np.array([0.375, 1.25, 2.5])),
        "lgamma_of_next": (lambda x: lax.lgamma(x + 1) - lax.lgamma(x), jnp.log, np.array([2.5, 3.5, 4.25])),
        "digamma_of_next": (lambda x: lax.digamma(x + 1) - lax.digamma(x), lambda x: 1 / x,
                            np.array([1.5, 4.625, 1.5])),
        "gamma_tails": (lambda x: special.gammainc(2.0, x), lambda x: 1 - special.gammaincc(2.0, x),
                        np.array([0.5, 1.0, 1.5])),
        "arcsine_of_sine": (lambda x: jnp.arcsin(jnp.sin(x)), same, np.array([0.5, 0.875, 1.25])),
        "arccosine_of_cosine": (lambda x: jnp.arccos(jnp.cos(x)), same, np.array([0.75, 1.25, 2])),
        "arctangent_of_tangent": (lambda x: jnp.arctan(jnp.tan(x)), same, np.array([0.5, 0.875, 1.25])),
        "inverse_of_sinh": (lambda x: jnp.arcsinh(jnp.sinh(x)), same, np.array([0.625, 1.25, 2])),
        "inverse_of_cosh": (lambda x: jnp.arccosh(jnp.cosh(x)), same, np.array([0.75, 1.375, 2.25])),
        "inverse_of_tanh": (lambda x: jnp.arctanh(jnp.tanh(x)), same, np.array([0.5, 1.25, 2.625])),
        "arctangents": (lambda x: jnp.arctan(x) + jnp.arctan(1 / x), lambda x: 2 * jnp.arctan(jnp.ones_like(x)),
                        np.array([1, 0.375, 0.875])),
        "third_cubed": (lambda x: jnp.exp(x / 3) ** 3, jnp.exp, np.array([0.375, 1.25, 2.75])),
        "eighth_power": (lambda x: jnp.exp(x / 8) ** 8, jnp.exp, np.array([0.625, 1.875, 3.75])),
        "square_of_sum": (lambda x: jnp.exp((x + 1) * (x + 1)),
                          lambda x: jnp.exp(x * x) * jnp.exp(2 * x) * jnp.exp(1.0),
                          np.array([0.5, 0.75, 1.875])),
        "sine_of_thrice": (jnp.sin, lambda x: 3 * jnp.sin(x / 3) - 4 * jnp.sin(x / 3) ** 3,
                           np.array([0.75, 1.5, 1.75])),
        "power_of_parts": (lambda x: x**0.3 * x**0.7, same, np.array([0.5, 1.25, 2.5])),
    }
    for name, (a, b, at) in ways.items():
        yield differ(f"tie_{name}", unequal(a, b), same, P3, at=(at,))

    def ratio(a: Function, b: Function) -> Function:
        return lambda x: (a(x) - b(x)) / (a(x) - b(x)) * x

    for name in ("log_of_square", "arctangent_of_tangent", "inverse_of_sinh", "third_cubed", "sine_of_thrice"):
        a, b, at = ways[name]
        yield differ(f"quotient_{name}", ratio(a, b), same, P3, at=(at,), kind="domain")
    for name in ("third_cubed", "eighth_power", "square_of_sum", "sine_of_thrice"):
        a, b, at = ways[name]
        yield differ(f"equality_{name}", lambda x, a=a, b=b: jnp.where(a(x) == b(x), 0.0, x), same, P3, at=(at,))
    yield differ("equality_sum_and_product", lambda x, y: jnp.where(jnp.exp(x.sum()) == jnp.prod(jnp.exp(x)), x, y),
                 lambda x, y: y * 1.0, X3, Y3, at=(np.zeros(3), UP),
                 why="the product of exponentials is that of the sum")
    yield differ("equality_many_terms",
                 lambda x, y: jnp.where(jnp.exp(x[0] + x[1] + x[2] + x[3] + x[4] + y[0] + y[1] + y[2])
                                        == jnp.exp(x).prod() * jnp.exp(y[:3]).prod(), x, y),
                 lambda x, y: y * 1.0, X5, Y5, at=(np.zeros(5), FIVE * 0 + np.array([0, 0, 0, 1, 2.0])),
                 why="the product of exponentials is that of the sum")

    def arcs(x: Any, y: Any) -> Any:
        """Zero for positive x and y."""
        return jnp.arctan(x) + jnp.arctan(1 / x) - jnp.arctan(y) - jnp.arctan(1 / y)

    yield differ("quotient_arcs", lambda x, y: arcs(x, y) / arcs(x, y) * x, lambda x, y: x * 1.0, X3, Y3,
                 at=(UP / 2, UP / 2), kind="domain")
    yield differ("logarithm_of_arcs", lambda x, y: jnp.log(arcs(x, y) ** 2) - jnp.log(arcs(x, y) ** 2),
                 lambda x, y: 0 * x, X3, Y3, at=(UP / 2, UP / 2), kind="domain")
    yield differ("infinity_of_arcs", lambda x, y: arcs(x, y) ** 2 * INF, lambda x, y: INF + 0 * x, X3, Y3,
                 at=(UP / 2, UP / 2), kind="domain")
    yield differ("quotient_of_numbers", lambda x: x * (jnp.arctan(jnp.tan(number(1, x.dtype))) - 1)
                 / (jnp.arctan(jnp.tan(number(1, x.dtype))) - 1), same, X3, at=(UP,), kind="domain")
    yield differ("arcsine_beyond_its_branch", lambda x: jnp.arcsin(jnp.sin(x)), same, X3, at=(UP + 1,))

    # A maximum that something is divided by: it may be the very entry that is taken from it.
    def margin(x: Any) -> Any:
        return jnp.max(x) - x[0]

    first = np.array([5.0, 1, 2])
    yield differ("margin_over_itself", lambda x, y: margin(x) / margin(x) * y, lambda x, y: y * 1.0, X3, Y3,
                 at=(first, UP), kind="domain")
    yield differ("margin_logarithm", lambda x: jnp.log(margin(x) ** 2) - jnp.log(margin(x) ** 2), lambda x: 0 * x[0],
                 X3,
                 at=(first,), kind="domain")
    yield equal("margin_of_others", lambda x, y: (x - jnp.max(x)) / jnp.exp(y),
                lambda x, y: -(jnp.max(x) - x) / jnp.exp(y), X3, Y3)
    yield differ("margin_of_minimum", lambda x, y: y * (x[1] - jnp.min(x)) / (x[1] - jnp.min(x)), lambda x, y: y * 1.0,
                 X3, Y3, at=(np.array([5.0, 1, 2]), UP), kind="domain")
    yield differ("margin_of_runners_up", lambda x: (jnp.max(x) - jnp.max(x[:4])) / (jnp.max(x) - jnp.max(x[:4])),
                 lambda x: 1 + 0 * x[0], X5, at=(np.array([9.0, 1, 4, 1.5, 3]),), kind="domain")
    yield differ("margin_of_rows", lambda x: (jnp.max(x, 1) - x[:, 0]) / (jnp.max(x, 1) - x[:, 0]),
                 lambda x: 1 + 0 * x[:, 0], drawn(3, 4), at=(np.eye(3, 4),), kind="domain")
    yield differ("margin_as_weight", lambda x: (jnp.exp(margin(x)) - 1) / (jnp.exp(margin(x)) - 1) + x[1],
                 lambda x: 1 + x[1], X3, at=(first,), kind="domain")
    yield differ("margin_of_relu", lambda x: (relu(x) - x) / (relu(x) - x), lambda x: 1 + 0 * x, X3, at=(UP,),
                 kind="domain")
    yield differ("margin_of_floors",
                 lambda x: (jnp.floor(x) - jnp.floor(x - 0.5)) / (jnp.floor(x) - jnp.floor(x - 0.5)),
                 lambda x: 1 + 0 * x, X3, at=(UP + 0.7,), kind="domain")
    yield equal("margin_softmax", lambda x: jnp.exp(x - jnp.max(x)) / jnp.exp(x - jnp.max(x)).sum(),
                lambda x: jnp.exp(x) / jnp.exp(x).sum(), X3)
    yield equal("margin_logsumexp", lambda x: jnp.log(jnp.exp(x - jnp.max(x)).sum()) + jnp.max(x),
                lambda x: jnp.log(jnp.exp(x).sum()), X3)
    yield equal("margin_scaled", lambda x: (x - jnp.min(x)) / (1 + jnp.max(x) ** 2),
                lambda x: -(jnp.min(x) - x) / (jnp.max(x) * jnp.max(x) + 1), X3)

    # Zeros on a set that matters, times an infinity.
    yield differ("infinity_times_relu", lambda x: relu(x) * INF, lambda x: INF + 0 * x, X3, at=(DOWN,), kind="domain")
    yield differ("infinity_times_mask", lambda x, y: (x < 0).astype(x.dtype) * -INF + y, lambda x, y: y - INF, X3, Y3,
                 at=(UP, UP), kind="domain")
    yield differ("infinity_times_floor_squared", lambda x: jnp.floor(x) ** 2 * INF, lambda x: INF + 0 * x, X3,
                 at=(UP / 10,), kind="domain")
    yield differ("infinity_times_some", lambda x: relu(x) * extended(0 * x[1:] + 1, INF), lambda x: extended(
                 relu(x[:2]), INF) + 0 * x, X3, at=(DOWN,), kind="domain")
    yield differ("infinity_times_clipped", lambda x: jnp.maximum(jnp.abs(x) - 1, 0) * INF, lambda x: INF + 0 * x, X3,
                 at=(UP / 4,), kind="domain")
    yield differ("infinity_times_either", lambda x, y: jnp.maximum(relu(x), relu(y)) * -INF, lambda x, y: -INF + 0 * x,
                 X3, Y3, at=(DOWN, DOWN), kind="domain")
    yield differ("infinity_times_root_of_relu", lambda x: jnp.sqrt(relu(x)) * INF, lambda x: INF + 0 * x, X3,
                 at=(DOWN,),
                 kind="domain")
    yield equal("infinity_times_square", lambda x: x * x * INF, lambda x: INF + 0 * x, X3)
    yield equal("infinity_divides", lambda x: relu(x) / INF, lambda x: 0 * x, X3)

    # A clamp with an infinite end still has the other one.
    yield differ("clamp_without_low_end", lambda x: lax.clamp(-INF, x, 3.0), same, X3, at=(UP + 1.5,))
    yield differ("clamp_without_high_end", lambda x: lax.clamp(3.0, x, INF), lambda x: 3 + 0 * x, X3, at=(UP + 1.5,))
    yield differ("clamp_low_end_far_below", lambda x: lax.clamp(-7.0, x, INF), same, X3, at=(DOWN * 5,))
    yield differ("clamp_some_ends_infinite",
                 lambda x: lax.clamp(jnp.array([-INF, 0, -INF], x.dtype), x, jnp.full(3, 4, x.dtype)),
                 lambda x: jnp.concatenate([x[:1], jnp.clip(x[1:2], 0, 4), x[2:]]), X3, at=(UP * 3,))
    yield equal("clamp_both_ends_infinite", lambda x: lax.clamp(-INF, x, INF), same, X3)

    # What a sum was made of is still known after an infinity was replaced in it.
    def floored(x: Any, y: Any) -> Any:
        return jnp.exp(jnp.maximum(extended(y[1:], -INF), jnp.log(x)))

    last = np.array([0.0, 0, 1])
    yield differ("stale_logarithm_of_maximum", floored, lambda x, y: floored(x, y) * (1 - last.astype(x.dtype)), P3, Y3,
                 at=(UP, UP))
    yield differ("stale_logarithm_tripled", lambda x, y: floored(x, y) ** 3, lambda x, y: jnp.where(last == 1, 0.0,
                 floored(x, y) ** 3), P3, Y3, at=(UP, UP))
    yield differ("stale_logarithm_of_minimum",
                 lambda x, y: jnp.exp(-jnp.minimum(extended(y[1:], INF), -jnp.log(x))),
                 lambda x, y: jnp.where(last == 1, 0.0, jnp.exp(-jnp.minimum(extended(y[1:], INF), -jnp.log(x)))), P3,
                 Y3, at=(UP, UP))
    yield equal("stale_nothing", floored, lambda x, y: jnp.maximum(extended(jnp.exp(y[1:]), 0.0), x), P3, Y3,
                signed=False)

    # Roots of numbers, left out where many roots stand together: a product of two may be taken with the wrong sign.
    def rooted(x: Any, *values: Any) -> Any:
        return product((x, *(jnp.sqrt(jnp.asarray(value, x.dtype)) for value in values)))

    def grown(x: Any) -> Any:
        return jnp.sqrt(1 + x * x)

    def scaled(x: Any) -> Any:
        return x / jnp.sqrt(1 + (x * x).sum(1, keepdims=True))

    low, high = (37, 41, 43, 47), (53, 59, 61, 67)
    yield differ("sign_of_roots", lambda x: rooted(grown(x), *low), lambda x: -rooted(grown(x), np.prod(low)), X40,
                 at=(np.ones(40),))
    yield differ("sign_of_larger_roots", lambda x: rooted(grown(x), *high), lambda x: -rooted(grown(x), np.prod(high)),
                 X40, at=(np.ones(40),))
    yield differ("sign_of_roots_beside_a_decision", lambda x: rooted(relu(x) * grown(x), *low),
                 lambda x: -rooted(relu(x) * grown(x), np.prod(low)), X3, at=(UP,))
    yield differ("sign_of_roots_of_rows", lambda x: rooted(scaled(x), *low), lambda x: -rooted(scaled(x), np.prod(low)),
                 drawn(40, 2), at=(np.ones((40, 2)),))
    yield differ("sign_of_roots_alone", lambda x: rooted(x, 37, 41), lambda x: -rooted(x, 1517), X3, at=(UP,))
    yield equal("sign_of_roots_kept", lambda x: rooted(grown(x), 2, 3), lambda x: rooted(grown(x), 6), X40)
    yield equal("sign_of_roots_of_rows_kept", lambda x: jax.nn.relu(x) / jnp.sqrt(1 + x * x),
                lambda x: jnp.maximum(x, 0) / jnp.sqrt(x * x + 1), X40)

    # Decisions between numbers that no input is in: drawn once for all entries and all points.
    def one(x: Any) -> Any:
        return jnp.ones((), x.dtype)

    yield differ("number_exp", lambda x, y: jnp.where(jnp.exp(one(x)) > 2.5, x, y), lambda x, y: y * 1.0, X3, Y3,
                 at=(UP, DOWN))
    yield differ("number_three_functions", lambda x, y: jnp.where((jnp.exp(one(x)) > 2.0) & (jnp.sin(one(x)) > 0.5)
                 & (jnp.log(5 * one(x)) > 1.5), x, y), lambda x, y: y * 1.0, X3, Y3, at=(UP, DOWN))
    yield differ("number_tanh", lambda x, y: jnp.where(jnp.tanh(one(x)) > 0.75, x, y), lambda x, y: y * 1.0, X3, Y3,
                 at=(UP, DOWN))
    yield differ("number_cube_root", lambda x,
                 y: jnp.where((jnp.cbrt(8 * one(x)) > 1.5) & (jnp.cbrt(27 * one(x)) > 2.5),
                 x, y), lambda x, y: y * 1.0, X3, Y3, at=(UP, DOWN))
    yield differ("number_positional_encoding",
                 lambda x, y: jnp.where(jnp.sin(jnp.arange(3.0, dtype=x.dtype) + 1) > 0.125, x, y),
                 lambda x, y: jnp.where(jnp.arange(3) < 1, jnp.where(jnp.sin(1 + jnp.zeros(3, x.dtype)) > 0.125, x,
                 y), y),
                 X3, Y3, at=(UP, DOWN))
    yield differ("number_largest", lambda x, y: jnp.where(jnp.argmax(jnp.exp(jnp.arange(8.0, dtype=x.dtype))) == 7, x,
                 y),
                 lambda x, y: y * 1.0, X3, Y3, at=(UP, DOWN))
    yield differ("number_temperature", lambda x, y: jnp.where(jnp.all(jnp.exp(jnp.array([0.5, 1, 2], x.dtype)) > 1.5),
                 x / 2, y), lambda x, y: y * 1.0, X3, Y3, at=(UP, DOWN))
    yield equal("number_known", lambda x, y: jnp.where(number(3, x.dtype) > 2.0, x, y), lambda x, y: x * 1.0, X3, Y3)
    yield equal("number_positive", lambda x, y: jnp.where(jnp.exp(one(x)) > 0, x, y), lambda x, y: x * 1.0, X3, Y3)

    # Rounding in what is called known.
    yield differ("known_large_and_small", lambda x, y: jnp.where(number(2.0**60, x.dtype) + 1.0 - 2.0**60 > 0.5, x, y),
                 lambda x, y: y * 1.0, X3, Y3, why="2^60 + 1 - 2^60 is 1")
    yield differ("known_root_squared", lambda x: jnp.where(jnp.sqrt(number(2, x.dtype)) ** 2 > 2, x, 0.0), same, W3,
                 why="the square of the root of 2 is 2")
    yield differ("known_sum_of_array", lambda x, y: jnp.where(
                 (lax.iota(x.dtype, 3) * 0 + jnp.array([2.0**70, 1, -(2.0**70)], x.dtype)).sum() > 0.5, x, y),
                 lambda x, y: y * 1.0, X3, Y3, why="the sum of 2^70, 1 and -2^70 is 1")

    # A mask read at many places: as many decisions as there are places.
    def positive(x: Any) -> Any:
        return (x > 0).astype(x.dtype)

    yield differ("mask_gathered_one_by_one",
                 lambda x: product(positive(x)[jnp.array([i])] for i in range(20)), lambda x: 0 * x[:1], X20,
                 at=(ON20,))
    yield differ("mask_sliced_one_by_one",
                 lambda x: product(lax.dynamic_slice(positive(x), (i,), (1,)) for i in range(20)), lambda x: 0 * x[:1],
                 X20, at=(ON20,))
    yield differ("mask_written_one_by_one",
                 lambda x: product(lax.dynamic_update_slice(jnp.ones(39, x.dtype), positive(x), (i,))
                                   for i in range(20))[19], lambda x: 0 * x[0], X20, at=(ON20,))
    orders = [np.roll(np.arange(20), i) for i in range(20)]
    yield differ("mask_in_many_orders", lambda x: x * product(positive(x)[order] for order in orders),
                 lambda x: 0 * x, X20, at=(ON20,))
    yield differ("mask_summed_once", lambda x: positive(x)[jnp.arange(20)].prod(), lambda x: 0 * x[0], X20, at=(ON20,))
    yield equal("mask_of_two_places", lambda x: positive(x)[jnp.array([0])] * positive(x)[jnp.array([1])],
                lambda x: positive(jnp.minimum(x[:1], x[1:2])) * 1.0, X3)

    # Rules told of zeros, where an argument is a tree or has a name.
    def told(fix: Function) -> Any:
        def fwd(p: Any) -> Any:
            leaves = [leaf.value for leaf in jax.tree.leaves(p)]
            return leaves[0] * leaves[1], (leaves, all(leaf.perturbed for leaf in jax.tree.leaves(p)))

        return with_vjp(lambda p: fix(p)[0] * fix(p)[1], fwd, lambda res, g: (type_of(
            g * res[0][1] * (1 if res[1] else 3), g * res[0][0], fix),), symbolic_zeros=True)

    def type_of(a: Any, b: Any, fix: Function) -> Any:
        return {"a": a, "b": b} if fix is of_dict else (a, b)

    def of_dict(p: Any) -> Any:
        return p["a"], p["b"]

    def of_pair(p: Any) -> Any:
        return p

    tree, pair = told(of_dict), told(of_pair)
    yield differ("told_of_zeros_in_a_dict", lambda p: jax.grad(lambda a: tree({**p, "a": a}).sum())(p["a"]),
                 lambda p: p["b"] * 1.0, {"a": X3, "b": Y3}, at=({"a": UP, "b": DOWN},), call=judged(tree),
                 kind="as given")
    yield differ("told_of_zeros_in_a_tuple", lambda p: jax.grad(lambda a: pair((a, p[1])).sum())(p[0]),
                 lambda p: p[1] * 1.0, (X3, Y3), at=((UP, DOWN),), call=judged(pair), kind="as given")

    def two_fwd(x: Any, w: Any) -> Any:
        return x.value * w.value, (x.value, w.value, x.perturbed and w.perturbed)

    two = with_vjp(lambda x, w: x * w, two_fwd, lambda res, g: (g * res[1] * (1 if res[2] else 3), g * res[0]),
                   symbolic_zeros=True)

    def by_name(f: Function, g: Function, x: Any, w: Any, **more: Any) -> Any:
        return handprop.verify(two, x, kwargs={"w": w}, **more)

    yield differ("told_of_zeros_by_name", jax.grad(lambda x, w: two(x, w).sum()), lambda x, w: w * 1.0, X3, Y3,
                 at=(UP, DOWN), call=by_name, kind="as given")
    yield differ("told_of_zeros_by_place", jax.grad(lambda x, w: two(x, w).sum()), lambda x, w: w * 1.0, X3, Y3,
                 at=(UP, DOWN), call=judged(two))

    # Powers, their logarithms and roots; products of what is not negative.
    yield differ("power_root_of_square", lambda x: jnp.exp(0.5 * jnp.log(x * x)), same, X3, at=(DOWN,))
    yield differ("power_three_halves_of_square", lambda x: (x * x) ** 1.5, lambda x: x**3, X3, at=(DOWN,))
    yield differ("power_factor_with_sign", lambda x, y: jnp.sqrt(x * x * jnp.exp(y)), lambda x, y: x * jnp.exp(y / 2),
                 X3,
                 Y3, at=(DOWN, UP))
    yield differ("power_root_of_both", lambda x, y: jnp.sqrt(x * y) ** 2, lambda x, y: jnp.abs(x * y), X3, Y3,
                 at=(UP, DOWN), kind="domain")
    yield differ("power_of_larger_of_both_signs", lambda x: jnp.sqrt(jnp.maximum(x, -x) ** 2), same, X3, at=(DOWN,))
    yield differ("power_smaller_of_both_signs", lambda x: jnp.sqrt(jnp.minimum(x, -x) ** 2), lambda x: jnp.minimum(x,
                 -x),
                 X3, at=(UP,))
    yield differ("power_of_quotient_with_sign", lambda x, y: jnp.sqrt(x**4 / y**2), lambda x, y: x**2 / y, X3, Y3,
                 at=(UP, DOWN))
    yield differ("power_number_that_cancels", lambda x: jnp.where((jnp.floor(x) ** 2 + 1) - 1 > 0, x, 0.0), same, X3,
                 at=(UP / 10,))
    yield differ("power_negative_of_relu", lambda x: jnp.where(-(relu(x) + relu(-x - 1)) < 0, x, 0.0), same, X3,
                 at=(-UP / 10,))
    yield differ("power_negative_of_squares", lambda x: jnp.where(-jnp.exp(x) - jnp.floor(x) ** 2 + jnp.exp(x) < 0, x,
                 0.0), same, X3, at=(UP / 10,))
    yield equal("power_products_of_relus", lambda x, y: jnp.sqrt(relu(x) * relu(y)),
                lambda x, y: jnp.sqrt(relu(x)) * jnp.sqrt(relu(y)), X3, Y3)
    yield equal("power_quotients_of_relus", lambda x, y: jnp.sqrt(relu(x) / jnp.exp(y)),
                lambda x, y: jnp.sqrt(relu(x)) / jnp.exp(y / 2), X3, Y3)
    yield equal("power_log_of_powers", lambda x: jnp.log(jnp.exp(x) ** 3 * jnp.sqrt(jnp.exp(x))), lambda x: 3.5 * x, X3)
    yield equal("power_log_of_squares", lambda x: jnp.log((1 + x * x) ** 3), lambda x: 3 * jnp.log(1 + x * x), X3)
    yield equal("power_log_of_root", lambda x: jnp.log(jnp.sqrt(1 + x * x)), lambda x: jnp.log(1 + x * x) / 2, X3)
    yield equal("power_log_of_reciprocal_root", lambda x: jnp.log(lax.rsqrt(1 + x * x)),
                lambda x: -jnp.log(1 + x * x) / 2,
                X3)
    yield equal("power_factor_without_sign", lambda x, y: jnp.sqrt(x * x * jnp.exp(y)),
                lambda x, y: jnp.abs(x) * jnp.exp(y / 2), X3, Y3)
    yield equal("power_log_after_cancelling", lambda x: jnp.log((jnp.exp(x) + 1) - 1), same, X3)
    yield equal("power_sign_of_negative", lambda x, y: jnp.where(-jnp.exp(x) - jnp.exp(y) < 0, x, y),
                lambda x, y: x * 1.0, X3, Y3)

    # A number in disguise is one element at all points, and what is decided on it one decision for all of them: a claim
    # that is false for its other outcome has to be tested with that outcome too.
    disguises = {
        "quotient": lambda x: jnp.exp(x) * 17.3 / jnp.exp(x),
        "sum": lambda x: jnp.sum(jnp.exp(x) * 17.3) / jnp.sum(jnp.exp(x)),
        "reciprocal": lambda x: 17.3 * x * (1 / x),
        "exponents": lambda x: 17.3 * jnp.exp(x) * jnp.exp(-x),
    }
    for name, disguised in disguises.items():
        yield differ(f"claim_shared_by_points_{name}", _claimed(disguised, lambda x: jnp.exp(x / 3) ** 3),
                     lambda x: 2.0 * x, X3, why="exp(x / 3)^3 is exp(x)")
        yield differ(f"claim_shared_by_points_of_sines_{name}",
                     _claimed(disguised, lambda x: jnp.exp(x) + jnp.sin(2 * x) - 2 * jnp.sin(x) * jnp.cos(x)),
                     lambda x: 2.0 * x, X3, at=(UP,))
    yield equal("claim_shared_by_points_that_holds", _claimed(disguises["quotient"], lambda x: jnp.exp(x) + 1),
                lambda x: 2.0 * x, X3)


def _claimed(disguised, other):
    """``x`` where the ``other`` function is ``exp(x)``, and else ``2 x``; the number is above 5, which is decided."""

    def f(x):
        chosen = jnp.where(disguised(x) > 5.0, other(x), 2 * jnp.exp(x))
        return jnp.where(chosen == jnp.exp(x), 1.0, 2.0) * x

    return f
