"""Pairs against what a type does with a number, what a base may be, and where a fact holds.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with. A negative integer wraps in an
unsigned type, a product of truth values is an "or", a complex number has an imaginary part; the base of a power may be
zero or negative; a sum of no terms is zero; one-hot rows are no part of measure of those that sum to 1; and a primitive
of the user's own may share its name with another.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

import handprop
from corpus.red_team import DOWN, UP, X3, Y3, Case, differ, equal, relu, single

__all__ = ["analytic", "bases", "choices", "dtypes", "moves", "types"]

F32 = jnp.float32
NOTHING = np.zeros((0,), np.float32)
SQUARE = np.ones((3, 3), np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)


def own_primitive(name: str, f: Callable) -> Primitive:
    """A primitive as a user defines one."""
    primitive = Primitive(name)
    primitive.def_impl(f)
    primitive.def_abstract_eval(lambda a, **params: a)
    mlir.register_lowering(primitive, mlir.lower_fun(f, multiple_results=False))
    return primitive


TWICE, THRICE = own_primitive("scaled", lambda x: x * 2), own_primitive("scaled", lambda x: x * 3)
NOT_EXP = own_primitive("exp", lambda x: x * 3)
NAMED = own_primitive("named", lambda x, name: x * (2 if name == "two" else 3))


def one_hot(f: Any, g: Any, *args: Any, **more: Any) -> Any:
    return handprop.equivalent(f, g, *args, domain={"y": handprop.domains.one_hot()}, **more)


def minus_one(x: Any, dtype: Any) -> Any:
    return jnp.where(x > 0, -1, 1).astype(dtype).astype(F32)


def counted_in(x: Any, dtype: Any, most: int) -> Any:
    return x + ((x > 0).astype(jnp.int32) * most).astype(dtype).astype(F32)


def taken(x: Any, fill: float) -> Any:
    return jnp.take(x, jnp.array([9]), mode="fill", fill_value=fill)


SIDES = np.where(np.arange(24) % 3 == 1, -1.0, 1.0).astype(np.float32)  # an orthant in which no edge case lies


def in_one_orthant(x: Any) -> Any:
    """1 in one orthant of 2^24, 0 elsewhere."""
    truths = (x * SIDES > 0.5).astype(jnp.int32)
    product = jnp.int32(1)
    for i in range(24):
        product = product * truths[i]
    return product


def selected(which: Callable, x: Any, a: Any, b: Any) -> Any:
    return lax.select_n(jnp.broadcast_to(which(x), a.shape), a, b)


def switched(which: Callable, x: Any, a: Any, b: Any) -> Any:
    return lax.switch(which(x), [lambda a, b: a, lambda a, b: b], a, b)


def between(which: Callable, x: Any, a: Any, b: Any) -> Any:
    return a + which(x).astype(a.dtype) * (b - a)


def choices() -> Iterator[Case]:
    """A choice by an integer: one beyond the last case takes that, one below 0 the first."""
    for name, which in (("beyond", lambda x: 2 * in_one_orthant(x)), ("below", lambda x: -in_one_orthant(x))):
        for form in (selected, switched):
            yield differ(f"choice_{form.__name__}_{name}", partial(form, which), partial(between, which), SIDES, X3, Y3,
                         at=(SIDES, UP, DOWN))  # fmt: skip
    yield equal("choice_selected", lambda x, a, b: selected(lambda x: (x > 0).astype(jnp.int32), x, a, b),
                lambda x, a, b: between(lambda x: x > 0, x, a, b), X3, X3, Y3)  # fmt: skip


TWICE_AT = jnp.array([0, 1, 1])


def moves() -> Iterator[Case]:
    """Entries that are repeated, and taken away where they were added."""
    yield differ("move_tiled", lambda x: jnp.tile(x, 2), lambda x: jnp.repeat(x, 2), X3, at=(np.arange(3.0),))
    yield differ("move_taken_away", lambda x: x.at[TWICE_AT].subtract(relu(x)), lambda x: x.at[TWICE_AT].add(relu(x)),
                 X3, at=(UP,))  # fmt: skip
    yield differ("move_taken_away_once", lambda x: x.at[TWICE_AT].subtract(x), lambda x: x - x * (jnp.arange(3) < 2),
                 X3, at=(UP,))  # fmt: skip
    yield equal("move_taken_away_twice", lambda x: x.at[TWICE_AT].subtract(relu(x)),
                lambda x: x - jnp.array([relu(x[0]), relu(x[1]) + relu(x[2]), 0 * x[0]]), X3)  # fmt: skip
    yield equal(
        "move_tiled_rows", lambda x: jnp.tile(x, (2, 2)), lambda x: jnp.stack([jnp.concatenate([x, x])] * 2), X3
    )


def types() -> Iterator[Case]:
    """Casts, products of truth values, complex numbers, numbers that a type rounds, names of primitives."""
    for dtype in (jnp.uint8, jnp.uint32):
        yield differ(f"type_minus_one_to_{dtype.__name__}", partial(minus_one, dtype=dtype),
                     lambda x: jnp.where(x > 0, -1.0, 1.0), X3, at=(UP,))  # fmt: skip
    yield differ("type_small_to_unsigned",
                 lambda x: jnp.where(x > 0, 100, -3).astype(jnp.int8).astype(jnp.uint16) * F32(1),
                 lambda x: jnp.where(x > 0, 100.0, -3.0), X3, at=(DOWN,))  # fmt: skip
    yield differ("type_truth_less_one", lambda x: ((x > 0).astype(jnp.int32) - 1).astype(jnp.uint32).astype(F32),
                 lambda x: (x > 0).astype(F32) - 1, X3, at=(DOWN,))  # fmt: skip
    yield differ("type_product_of_truths", lambda x: jnp.dot(x > 0, jnp.ones(3, bool)).astype(F32),
                 lambda x: jnp.sum((x > 0).astype(F32)), X3, at=(UP,))  # fmt: skip
    yield differ("type_matrix_of_truths", lambda x: jnp.einsum("i,ij->j", x > 0, jnp.tri(3, dtype=bool)).astype(F32),
                 lambda x: (x > 0).astype(F32) @ jnp.tri(3, dtype=F32), X3, at=(UP,))  # fmt: skip
    yield differ("type_convolution_of_truths",
                 lambda x: lax.conv((x > 0)[None, None], jnp.ones((1, 1, 2), bool), (1,), "VALID").astype(F32),
                 lambda x: lax.conv((x > 0).astype(F32)[None, None], jnp.ones((1, 1, 2), F32), (1,), "VALID"),
                 X3, at=(UP,))  # fmt: skip
    yield equal("type_counted_truths", lambda x: lax.dot(x > 0, x > 0, preferred_element_type=jnp.int32).astype(F32),
                lambda x: jnp.sum((x > 0).astype(F32)), X3)  # fmt: skip
    yield differ("type_complex_chosen",
                 lambda x: jnp.abs(jnp.where(x > 0, jnp.complex64(3 + 4j), jnp.complex64(3 - 7j))),
                 lambda x: 3 + 0 * x, X3, at=(UP,))  # fmt: skip
    yield differ("type_complex_times_truth", lambda x: jnp.real((x > 0).astype(jnp.complex64) * (2 + 3j) * (2 + 3j)),
                 lambda x: 4 * (x > 0).astype(F32), X3, at=(UP,))  # fmt: skip
    yield differ("type_complex_summed",
                 lambda x: jnp.real(jnp.dot((x > 0).astype(jnp.complex64), jnp.array([1j, 2j, 3j])) * 1j),
                 lambda x: 0 * x[0], X3, at=(UP,))  # fmt: skip
    yield differ("type_fill_rounds", lambda x: taken(x, 16777217.0) - 16777216, lambda x: 1 + 0 * x[:1], X3,
                 at=(X3,), own=True)  # fmt: skip
    yield differ("type_fill_beyond", lambda x: x[:1] * jnp.where(jnp.isfinite(taken(x, 1e39)), 2.0, 1.0),
                 lambda x: 2 * x[:1], X3, at=(X3,), own=True)  # fmt: skip
    for dtype, most in ((jnp.float8_e4m3fn, 1000), (jnp.float16, 100_000)):
        yield differ(f"type_counted_in_{dtype.__name__}", partial(counted_in, dtype=dtype, most=most),
                     lambda x, most=most: x + jnp.where(x > 0, float(most), 0.0), X3,
                     why="the type has no such number")  # fmt: skip
    small = jnp.full(3, 30.0, jnp.float8_e4m3fn)
    yield differ("type_product_beyond_float8", lambda x: x.astype(F32) * (small * small).astype(F32),
                 lambda x: 900 * x.astype(F32), jnp.asarray(X3, jnp.float8_e4m3fn),
                 why="900 is no number in eight bits")  # fmt: skip
    yield differ("type_primitives_of_one_name", TWICE.bind, THRICE.bind, X3, at=(UP,))
    yield differ("type_primitive_named_exp", NOT_EXP.bind, jnp.exp, X3, at=(UP,))
    yield differ("type_parameter_called_name", partial(NAMED.bind, name="two"), partial(NAMED.bind, name="three"), X3,
                 at=(UP,))  # fmt: skip


def drawn(x: Any) -> Any:
    """Other numbers where 64-bit types are on."""
    return jax.random.uniform(jax.random.key(0), x.shape) < 0.5


def dtypes() -> Iterator[Case]:
    """Functions that ask for their dtype, and masks that float64 decides by rounding."""
    yield differ("dtype_branch", lambda x: x * (2 if x.dtype == jnp.float32 else 1), lambda x: x, X3,
                 at=(single(UP),), own=True)  # fmt: skip
    yield differ("dtype_epsilon", lambda x: jnp.where(jnp.finfo(x.dtype).eps > 1e-10, 5.0, x), lambda x: x, X3,
                 at=(single(UP),), own=True)  # fmt: skip
    yield differ("dtype_default", lambda x: x * jnp.arange(3).dtype.itemsize, lambda x: 8 * x, X3,
                 why="an integer takes four bytes unless 64-bit types are on")  # fmt: skip
    yield differ("dtype_window", lambda x: jnp.where((x > 3.1) & (x < 3.2), 0.0, x), lambda x: x, X3,
                 at=(np.full(3, 3.15),))  # fmt: skip
    yield equal("dtype_drawn", lambda x: jnp.where(drawn(x), x + x, 0.0), lambda x: jnp.where(drawn(x), 2 * x, 0.0), X3)
    yield equal("dtype_epsilon_beside", lambda x: x / (x * x + jnp.finfo(x.dtype).eps) * x,
                lambda x: x * x / (jnp.finfo(x.dtype).eps + x**2), X3)  # fmt: skip


def bases() -> Iterator[Case]:
    """Powers of what may vanish or be negative, sums of nothing, rows that are one-hot."""
    yield differ("base_relu", lambda x, y: relu(x) ** y * relu(x) ** -y, lambda x, y: 1 + 0 * x, X3, Y3, at=(DOWN, UP),
                 kind="domain")  # fmt: skip
    yield differ("base_relu_divided", lambda x, y: relu(x) ** y / relu(x) ** y, lambda x, y: 1 + 0 * x, X3, Y3,
                 at=(DOWN, UP), kind="domain")  # fmt: skip
    yield differ("base_relu_compared", lambda x: jnp.where(relu(x) ** 1.7 > 0, x, 2 * x), lambda x: x, X3, at=(DOWN,))
    yield differ("base_relu_adds", lambda x, a, b: relu(x) ** (a + b), lambda x, a, b: relu(x) ** a * relu(x) ** b,
                 X3, Y3, Y3, at=(DOWN, 2 * UP, DOWN), kind="domain")  # fmt: skip
    yield differ("base_negative", lambda x: jnp.power(-2.0, x) * jnp.power(-2.0, -x), lambda x: 1 + 0 * x, X3,
                 at=(UP / 3,), kind="domain")  # fmt: skip
    yield differ("base_negative_compared", lambda x: jnp.where(jnp.power(-2.0, x) > 0, x, 2 * x), lambda x: x, X3,
                 at=(UP / 3,))  # fmt: skip
    yield differ("base_nothing_squared", lambda x, a: jnp.where(jnp.dot(a, a) > 0, x, 2 * x), lambda x, a: x, X3,
                 NOTHING, at=(UP, NOTHING))  # fmt: skip
    yield differ("base_rows_of_nothing", lambda x, a: jnp.where(jnp.einsum("ij,ij->i", a, a) > 0, x, 2 * x),
                 lambda x, a: x, X3, np.zeros((3, 0), np.float32), at=(UP, np.zeros((3, 0))))  # fmt: skip
    yield differ("base_one_hot_is_zero", lambda x, y: jnp.where(y == 0, 5 * x, x), lambda x, y: x, SQUARE, ONE_HOT,
                 at=(SQUARE, ONE_HOT), call=one_hot)  # fmt: skip
    yield differ("base_one_hot_divided", lambda x, y: x * y / y, lambda x, y: x, SQUARE, ONE_HOT, at=(SQUARE, ONE_HOT),
                 call=one_hot, kind="domain")  # fmt: skip


def analytic() -> Iterator[Case]:
    """What is analytic at every point, and what only where a decision has it so; roots that are related."""

    def rooted(x: Any) -> Any:
        return jnp.sqrt(relu(x * x - 1) + 1)

    def plain(x: Any) -> Any:  # positive, which the rules show of the second form alone
        return jnp.log(jnp.exp(x) + jnp.exp(x * x))

    def stable(x: Any) -> Any:
        return jnp.logaddexp(x, x * x)

    yield differ("analytic_root_of_relu", lambda x: jnp.where(rooted(x) == x, 5.0, x), lambda x: x, X3, at=(2 + UP,))
    yield differ("analytic_log_of_exponentials", lambda x: jnp.where(
        3 * jnp.log(jnp.exp(x / 3) + jnp.exp(x / 3)) - 3 * jnp.log(2.0) == jnp.log(jnp.exp(x / 3) ** 3), 5.0, x),
        lambda x: x, X3, at=(np.zeros(3),))  # fmt: skip
    yield differ("analytic_related_roots", lambda x, y: jnp.sqrt(x * x) * jnp.sqrt(y * y), lambda x, y: x * y, X3, Y3,
                 at=(UP, DOWN))  # fmt: skip
    yield differ("analytic_roots_of_products", lambda x: jnp.sqrt(x * x * (x + 1) ** 2) * jnp.sqrt((x + 1) ** 2),
                 lambda x: x * (x + 1) ** 2, X3, at=(DOWN,))  # fmt: skip
    yield equal("analytic_root_of_square", lambda x: jnp.sqrt((jnp.exp(x) * (1 + x * x)) ** 2),
                lambda x: jnp.exp(x) * (1 + x * x), X3)  # fmt: skip
    yield equal("analytic_softplus_largest", lambda x: jnp.maximum(jax.nn.softplus(x), -jax.nn.softplus(-x)),
                lambda x: jax.nn.softplus(x), X3)  # fmt: skip
    yield equal("analytic_log_of_exp_of_log", lambda x: jnp.log(jnp.exp(jnp.log1p(jnp.exp(x)))),
                lambda x: jax.nn.softplus(x), X3)  # fmt: skip
    yield equal("analytic_larger_of_both", lambda x: jnp.maximum(x, -x), lambda x: jnp.abs(x), X3)
    yield equal("analytic_clipped_probability",
                lambda x: jnp.maximum(jax.nn.sigmoid(x), jnp.minimum(jax.nn.sigmoid(x), 1.0)),
                lambda x: jax.nn.sigmoid(x), X3)  # fmt: skip
    yield equal("analytic_order_of_tangents", lambda x: x[jnp.argmax(jnp.tanh(x))],
                lambda x: x[jnp.argmax(jnp.tanh(2 * x / 2))], X3)  # fmt: skip
    yield equal("found_positive_later", lambda x: jnp.abs(plain(x)), lambda x: jnp.abs(stable(x)), X3)
    yield equal("found_positive_before", lambda x: jnp.abs(stable(x)), lambda x: jnp.abs(plain(x)), X3)
    yield equal("found_positive_of_its_negative", lambda x: relu(-stable(x)), lambda x: relu(-plain(x)), X3)
    yield differ("found_positive_beside_one", lambda x: jnp.where((stable(x) > 0) & (plain(x) > 1), 5.0, x),
                 lambda x: x, X3, at=(3 * UP,))  # fmt: skip
    yield differ("found_beside_infinity", lambda x: jnp.where(
        (jnp.where(x == x, -jnp.inf, -jnp.exp(x)) < jnp.floor(x * x)) & (jnp.floor(x * x) == 0), 5.0, x),
        lambda x: x, X3, at=(UP / 9,))  # fmt: skip
