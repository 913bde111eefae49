"""Pairs of programs that a verifier might wrongly prove equal, wrongly refute, or choke on.

Each case is two JAX functions of the same arguments and the truth about them: "different" or "equal" over the real
numbers, or in JAX's own semantics where the reals say nothing (integers that wrap, indices out of bounds, state). The
truth comes from elsewhere than the verifier. For a pair that differs there is ``at``, a point where the two return
other values in float64 (with ``own`` in the dtypes of the point itself), or ``why``, a reason by mathematics where no
float shows it. A pair that is equal agrees at points drawn from its domain. ``experiments/red_team.py`` checks that and
has the verifier judge each pair.

Kinds of difference: "finite", where two finite numbers differ on a set that matters; "infinite", where one of the two
is an infinity; "domain", where one is NaN and the other is not; "rounding", where only a cast tells them apart;
"as given", where they differ for another integer, boolean or key argument than the one that was given.

Each section attacks one idea of a proof over a finite field: what decides a value there that its label leaves out,
and where the real operation differs from the field's on a set of positive measure.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import io_callback
from jax.ref import addupdate, freeze, swap
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from corpus.rule import with_vjp

__all__ = ["Case", "cases", "sections"]

Function = Callable[..., Any]


CONDITIONAL = ("domain", "as given", "rounding")  # kinds of pairs of which a proof may be true under a condition
MISSED = {"rule_static_exponent"}  # proved, though they differ: by a number in a closure, of which no condition speaks
REFUSED = {"entry_plain_function"}  # what the entry takes with a TypeError: a function that holds no rule


class Case(NamedTuple):
    """One pair. ``call`` judges it in place of ``handprop.equivalent`` and takes the same arguments; ``low`` and
    ``high`` bound the sizes of the points at which equal pairs are compared, which are of both signs if ``signed``."""

    name: str
    f: Function
    g: Function
    args: tuple
    truth: str
    at: tuple | None = None
    why: str = ""
    kind: str = "finite"
    own: bool = False
    call: Function | None = None
    low: float = 0.2
    high: float = 2.0
    signed: bool = True


def differ(name: str, f: Function, g: Function, *args: Any, **more: Any) -> Case:
    """Two functions that are not one."""
    case = Case(name, f, g, args, "different", **more)
    if case.at is None and not case.why:
        raise ValueError(f"{name}: give a point where they differ, or say why they do")
    return case


def equal(name: str, f: Function, g: Function, *args: Any, **more: Any) -> Case:
    """One function written in two ways."""
    return Case(name, f, g, args, "equal", **more)


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def wide(*shape: int, seed: int = 0) -> np.ndarray:
    """A float64 argument."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def single(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def number(value: Any, dtype: Any) -> Any:
    """A number of the program's text that tracing does not fold."""
    return lax.iota(dtype, 1)[0] + jnp.asarray(value, dtype)


def extended(x: Any, *values: float) -> Any:
    """``x`` with these numbers behind its last entry."""
    return jnp.concatenate([x, jnp.array(values, x.dtype)])


def total(parts: Any) -> Any:
    return reduce(lambda a, b: a + b, parts)


def product(parts: Any) -> Any:
    return reduce(lambda a, b: a * b, parts)


def zero(*xs: Any) -> Any:
    """A zero of the dtype of the arguments."""
    return total(0.0 * x.sum() for x in xs)


relu = jax.nn.relu
INF = np.inf
X3, Y3, X5, Y5, A3, B3 = drawn(3), drawn(3, seed=1), drawn(5), drawn(5, seed=1), drawn(3, 3), drawn(3, 2, seed=1)
W3, V3 = wide(3), wide(3, seed=1)
UP, DOWN = np.array([1.0, 2, 3]), np.array([-1.0, -2, -3])
FIVE = np.array([3.0, 1, 4, 1.5, 9])
X20, ON20 = drawn(20), np.ones(20)
X11, Y11, ON11 = drawn(11), drawn(11, seed=1), np.ones(11)
MATRIX = np.array([[1.0, 2, 3], [4, 5, 7], [9, 8, 6]])
RIGHT = np.array([[1.0, 2], [3, 5], [7, 11]])


# The cases are a table, as dense as its lines allow.
# fmt: off
def conditions() -> Iterator[Case]:
    """Conditions on what is a number on a set that matters: relu, clip, floor and masks; >= where > is meant."""
    yield differ("cond_relu_at_least_zero", lambda x: jnp.where(relu(x) >= 0, x, 0.0),
                 lambda x: jnp.where(relu(x) > 0, x, 0.0), X3, at=(DOWN,))
    yield differ("cond_relu_gradient_by_output", lambda x, g: g * (relu(x) >= 0), lambda x, g: g * (relu(x) > 0), X3,
                 Y3, at=(DOWN, UP))
    yield differ("cond_relu6_gradient_by_output",
                 lambda x, g: g * ((jnp.clip(x, 0, 6) >= 0) & (jnp.clip(x, 0, 6) <= 6)),
                 lambda x, g: g * ((jnp.clip(x, 0, 6) > 0) & (jnp.clip(x, 0, 6) < 6)), X3, Y3, at=(DOWN, UP))
    yield differ("cond_pool_mask_strict", lambda x: jnp.where(x >= jnp.max(x), x, 0.0),
                 lambda x: jnp.where(x > jnp.max(x), x, 0.0), X5, at=(FIVE,))
    yield differ("cond_maxout_mask", lambda x, y: jnp.where(jnp.maximum(x, y) <= x, x, 0.0),
                 lambda x, y: jnp.where(jnp.maximum(x, y) < x, x, 0.0), X3, Y3, at=(UP, DOWN))
    yield differ("cond_running_record", lambda x: jnp.where(x >= lax.cummax(x), 1.0, 0.0) * x,
                 lambda x: jnp.where(x > lax.cummax(x), 1.0, 0.0) * x, X5, at=(FIVE,))
    yield differ("cond_clip_at_bound", lambda x: jnp.where(jnp.clip(x, -1, 1) >= 1, 0.0, x),
                 lambda x: jnp.where(jnp.clip(x, -1, 1) > 1, 0.0, x), X3, at=(UP + 1,))
    yield differ("cond_sign_of_relu", lambda x: jnp.sign(relu(x)), lambda x: jnp.where(relu(x) > 0, 1.0, -1.0), X3,
                 at=(DOWN,))

    def shrunk(x: Any) -> Any:
        return jnp.sign(x) * relu(jnp.abs(x) - 1)

    yield differ("cond_sign_of_soft_threshold", lambda x: jnp.sign(shrunk(x)),
                 lambda x: jnp.where(shrunk(x) > 0, 1.0, -1.0), X3, at=(UP / 4,))
    yield differ("cond_lasso_subgradient", lambda x, g: g + jnp.sign(shrunk(x)),
                 lambda x, g: g + jnp.where(shrunk(x) < 0, -1.0, 1.0), X3, Y3, at=(UP / 4, UP))
    yield differ("cond_floor_at_least_one", lambda x: jnp.where(jnp.floor(x) >= 1, x, 0.0),
                 lambda x: jnp.where(jnp.floor(x) > 1, x, 0.0), X3, at=(UP * 0.5 + 0.9,))
    yield differ("cond_round_at_most_zero", lambda x: jnp.where(jnp.round(x) <= 0, 0.0, x),
                 lambda x: jnp.where(jnp.round(x) < 0, 0.0, x), X3, at=(UP / 10,))
    yield differ("cond_ceil_not_below", lambda x, y: jnp.where(jnp.ceil(x) >= jnp.ceil(y), x, y),
                 lambda x, y: jnp.where(jnp.ceil(x) > jnp.ceil(y), x, y), X3, Y3, at=(UP + 0.2, UP + 0.6))
    yield differ("cond_floor_parity", lambda x: jnp.where(jnp.mod(jnp.floor(x), 2.0) == 0, x, -x), lambda x: -x, X3,
                 at=(UP * 2 + 0.5,))
    yield differ("cond_round_is_one", lambda x: jnp.where(jnp.round(x) == 1, 0.0, x), lambda x: x * 1.0, X3,
                 at=(UP * 0.4 + 0.5,))
    yield differ("cond_dead_zone", lambda x: jnp.where(jnp.trunc(x) == 0, 0.0, x), lambda x: x * 1.0, X3,
                 at=(UP * 0.2,))
    yield differ("cond_floor_as_truth", lambda x: jnp.where(jnp.floor(x).astype(bool), x, 5.0), lambda x: x * 1.0, X3,
                 at=(UP * 0.2,))
    yield differ("cond_not_relu", lambda x: jnp.where(jnp.logical_not(relu(x)), 5.0, x), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("cond_and_of_floats", lambda x, y: jnp.where(jnp.logical_and(relu(x), relu(y)), x, 5.0),
                 lambda x, y: x * 1.0, X3, Y3, at=(UP, DOWN))
    yield differ("cond_mask_product_is_one", lambda x, y: jnp.where((x > 0) * (y > 0) * 1.0 == 1, x, y),
                 lambda x, y: y * 1.0, X3, Y3, at=(UP, UP + 1))
    yield differ("cond_none_active", lambda x: jnp.where((x > 0).sum() == 0, 7.0, x.sum()), lambda x: x.sum(), X3,
                 at=(DOWN,))
    yield differ("cond_share_is_one", lambda x: jnp.where(jnp.mean(x > 0) == 1, 0.0, x), lambda x: x * 1.0, X3,
                 at=(UP,))
    yield differ("cond_hinge_loss_gone", lambda x: jnp.where(relu(1 - x).sum() == 0, 0.0, 1.0) * x, lambda x: x * 1.0,
                 X3, at=(UP + 1,))
    yield differ("cond_abs_minus_itself", lambda x: jnp.where(jnp.abs(x) - x == 0, x, 0.0), lambda x: 0 * x, X3,
                 at=(UP,))
    yield differ("cond_max_minus_left", lambda x, y: jnp.where(jnp.maximum(x, y) - x == 0, x, y), lambda x, y: y * 1.0,
                 X3, Y3, at=(UP, DOWN))
    yield differ("cond_relus_never_both", lambda x: jnp.where(relu(x) * relu(-x) == 0, x, 5.0), lambda x: 5.0 + 0 * x,
                 X3, at=(UP,))
    yield differ("cond_min_as_truth", lambda x: jnp.where(jnp.minimum(x, 0.0) != 0, x, 5.0), lambda x: x * 1.0, X3,
                 at=(UP,))
    yield differ("cond_heaviside_of_relu", lambda x: jnp.heaviside(relu(x), 0.5) * 4,
                 lambda x: jnp.where(relu(x) > 0, 4.0, 0.0), X3, at=(DOWN,))
    yield differ("cond_clipped_entries_counted",
                 lambda x: jnp.count_nonzero(x - jnp.clip(x, -1, 1)).astype(x.dtype) * x, lambda x: 3.0 * x, X3,
                 at=(UP / 10,))
    yield differ("cond_signs_agree", lambda x, y: jnp.where(jnp.sign(x) * jnp.sign(y) == 1, x, y), lambda x, y: y * 1.0,
                 X3, Y3, at=(UP, UP + 1))
    yield differ("cond_pairs_in_one_bin",
                 lambda x: (jnp.floor(x)[:, None] == jnp.floor(x)[None, :]).sum().astype(x.dtype) * x,
                 lambda x: 3.0 * x, X3, at=(UP / 10,))
    yield differ("cond_lgamma_of_one", lambda x: jnp.where(lax.lgamma(number(1, x.dtype)) == 0, x, 5.0),
                 lambda x: 5.0 + 0 * x, X3, at=(UP,))
    yield differ("cond_level_of_a_tree", lambda x: jnp.where(jnp.floor(jnp.log2(number(9, x.dtype))) == 3, x, 5.0),
                 lambda x: 5.0 + 0 * x, X3, at=(UP,))
    yield differ("cond_branch_on_zero_sum", lambda x: lax.cond(relu(x).sum() == 0, lambda v: v * 0, lambda v: v, x),
                 lambda x: x * 1.0, X3, at=(DOWN,))
    yield differ("cond_padding_by_output", lambda x: jnp.where(relu(x) * 2 == 0, -1e3, relu(x)), relu, X3, at=(DOWN,))
    yield differ("cond_largest_gap", lambda x: jnp.where(jnp.max(relu(x)) == 0, 5.0, x), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("cond_remainder_of_floor", lambda x: jnp.where(lax.rem(jnp.floor(x), 3 + 0 * x) > 0, x, 0.0),
                 lambda x: jnp.where(lax.rem(jnp.floor(x), 3 + 0 * x) >= 0, x, 0.0), X3, at=(UP * 3 + 0.5,))
    yield equal("cond_mask_by_input", lambda x: x * (x > 0), lambda x: jnp.where(relu(x) > 0, x, 0.0), X3)
    yield equal("cond_two_halves", lambda x: relu(x) - relu(-x), lambda x: x * 1.0, X3)
    yield equal("cond_abs_by_mask", lambda x: x * (2.0 * (x > 0) - 1), jnp.abs, X3)
    yield equal("cond_exclusive_or", lambda x, y: jnp.where((x > 0) ^ (y > 0), x, y),
                lambda x, y: jnp.where(jnp.where(x > 0, ~(y > 0), y > 0), x, y), X3, Y3)
    yield equal("cond_min_from_max", jnp.minimum, lambda x, y: x + y - jnp.maximum(x, y), X3, Y3)
    yield equal("cond_clip_by_relus", lambda x: jnp.clip(x, -1, 1), lambda x: relu(x + 1) - relu(x - 1) - 1, X3)
    yield equal("cond_pool_mean_of_ties", lambda x: jnp.where(x == jnp.max(x), x, 0.0).sum() / (x == jnp.max(x)).sum(),
                jnp.max, X5)
    yield equal("cond_huber", lambda x: jnp.where(jnp.abs(x) < 1, x * x / 2, jnp.abs(x) - 0.5),
                lambda x: jnp.minimum(jnp.abs(x), 1) * (jnp.abs(x) - jnp.minimum(jnp.abs(x), 1) / 2), X3)


def positivity() -> Iterator[Case]:
    """What is called positive by how it is made, and is zero, negative or NaN on a set that matters."""
    yield differ("pos_square_of_nothing", lambda x: jnp.where(jnp.square(x - lax.stop_gradient(x)) > 0, 7.0, x),
                 lambda x: 7.0 + 0 * x, X3, at=(UP,))
    yield differ("pos_square_of_floor", lambda x: jnp.where(jnp.floor(x) ** 2 > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(UP / 10,))
    yield differ("pos_square_of_round", lambda x: jnp.where(jnp.square(jnp.round(x)) > 0, x, 7.0), lambda x: x * 1.0,
                 X3, at=(UP / 10,))
    yield differ("pos_clip_residual", lambda x: jnp.where((x - jnp.clip(x, -1, 1)) ** 2 > 0, x, 7.0), lambda x: x * 1.0,
                 X3, at=(UP / 10,))
    yield differ("pos_residual_norm", lambda x: jnp.where(jnp.linalg.norm(x - jnp.clip(x, -1, 1)) > 0, x, 7.0),
                 lambda x: x * 1.0, X3, at=(UP / 10,))
    yield differ("pos_masked_squares", lambda x, y: jnp.where(jnp.sum(jnp.where(y > 0, x, 0.0) ** 2) > 0, x, 7.0),
                 lambda x, y: x * 1.0, X3, Y3, at=(UP, DOWN))
    yield differ("pos_distance_from_largest", lambda x: jnp.where((x - jnp.max(x)) ** 2 > 0, x, 0.0), lambda x: x * 1.0,
                 X5, at=(FIVE,))
    yield differ("pos_distance_from_record", lambda x: jnp.where((x - lax.cummax(x)) ** 2 > 0, x, 0.0),
                 lambda x: x * 1.0, X5, at=(FIVE,))
    yield differ("pos_power_four_of_relu", lambda x: jnp.where(relu(x) ** 4 > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("pos_product_of_squares", lambda x, y: jnp.where(relu(x) ** 2 * y**2 > 0, x, 7.0),
                 lambda x, y: x * 1.0, X3, Y3, at=(DOWN, UP))
    yield differ("pos_sign_plus_one", lambda x: jnp.where((jnp.sign(x) + 1) ** 2 > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("pos_variance_of_signs", lambda x: jnp.where(jnp.var(jnp.sign(x)) > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(UP,))
    yield differ("pos_variance_of_twins", lambda x: jnp.where(jnp.var(jnp.stack([x, x]), 0) > 0, x, 7.0),
                 lambda x: x * 1.0, X3, at=(UP,))
    yield differ("pos_gaps_of_relus", lambda x: jnp.where(jnp.diff(jnp.sort(relu(x))) ** 2 > 0, 1.0, 0.0) * x.sum(),
                 lambda x: jnp.ones(2, x.dtype) * x.sum(), X3, at=(np.array([-1.0, -2, 5]),))
    yield differ("pos_exp_log", lambda x: jnp.where(jnp.exp(jnp.log(x)) > 0, x, 7.0), lambda x: x * 1.0, X3, at=(DOWN,))
    yield differ("pos_exp_3_log", lambda x: jnp.where(jnp.exp(3 * jnp.log(x)) > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("pos_power_65", lambda x: jnp.where(x**65.0 > 0, x, 7.0), lambda x: x * 1.0, X3, at=(DOWN / 4,))
    yield differ("pos_alternating_signs", lambda x: jnp.where(number(-1, x.dtype) ** jnp.arange(3) > 0, x, 7.0),
                 lambda x: x * 1.0, X3, at=(UP,))
    yield differ("pos_power_of_own_size", lambda x, y: jnp.where(x ** jnp.floor(y) > 0, x, 7.0), lambda x, y: x * 1.0,
                 X3, Y3, at=(DOWN, np.array([1.5, 3.5, 5.5])))
    yield differ("pos_rsqrt", lambda x: jnp.where(lax.rsqrt(x) > 0, x, 7.0), lambda x: x * 1.0, X3, at=(DOWN,))
    yield differ("pos_three_halves", lambda x: jnp.where(x**1.5 > 0, x, 7.0), lambda x: x * 1.0, X3, at=(DOWN,))
    yield differ("pos_minus_half", lambda x: jnp.where(x**-0.5 > 0, x, 7.0), lambda x: x * 1.0, X3, at=(DOWN,))
    yield differ("pos_root_above_minus_one", lambda x: jnp.where(jnp.sqrt(x) > -1, x, 7.0), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("pos_root_of_difference", lambda x, y: jnp.where(jnp.sqrt(x - y) + jnp.sqrt(y - x) > 0, 7.0, x),
                 lambda x, y: 7.0 + 0 * x, X3, Y3, at=(UP, DOWN))
    yield differ("pos_batch_of_masks", lambda x: jnp.where(((x > 0) * 1.0 - 1) ** 2 > 0, x, 7.0), lambda x: x * 1.0, X3,
                 at=(UP,))
    yield differ("pos_clip_by_norm",
                 lambda x: relu(x) / jnp.where(jnp.sum(relu(x) ** 2) > 0, jnp.sum(relu(x) ** 2), 1.0),
                 lambda x: relu(x) / jnp.sum(relu(x) ** 2), X3, at=(DOWN,), kind="domain")
    yield differ("pos_safe_norm_gradient", lambda x: jnp.where(jnp.sum(relu(x) ** 2) > 0, relu(x).sum(), 9.0),
                 lambda x: relu(x).sum(), X3, at=(DOWN,))
    yield equal("pos_square_sum", lambda x, y: jnp.where(x * x + y * y >= 0, x, 7.0), lambda x, y: x * 1.0, X3, Y3)
    yield equal("pos_exp", lambda x: jnp.where(jnp.exp(x) + 1 > 0, x, 7.0), lambda x: x * 1.0, X3)
    yield equal("pos_variance", lambda x: jnp.where(jnp.var(x) + 1e-6 > 0, x, 7.0), lambda x: x * 1.0, X5)
    yield equal("pos_softplus_of_square", lambda x: jnp.where(jnp.log1p(jnp.exp(x * x)) > 0, x, 7.0), lambda x: x * 1.0,
                X3)
    yield equal("pos_norm_ratio", lambda x: jnp.abs(x) / jnp.sqrt(x * x), lambda x: jnp.sqrt(x * x) / jnp.abs(x), X3)


def infinities() -> Iterator[Case]:
    """Infinities, NaN, masks of large negative numbers that are read as infinities, rows masked throughout."""
    keep = np.array([True, True, False, True, False])
    yield differ("inf_bias_doubled", lambda x: x + -1e9, lambda x: x + -2e9, X3, at=(UP,))
    yield differ("inf_fill_ten_times", lambda x: jnp.where(keep, x, -1e9), lambda x: jnp.where(keep, x, -1e10), X5,
                 at=(FIVE,))
    yield differ("inf_factor_doubled", lambda x: x * -1e9, lambda x: x * -4e9, X3, at=(UP,))
    yield differ("inf_divided_by", lambda x: x * 1e9 / -1e9, lambda x: 0 * x, X3, at=(UP,))
    yield differ("inf_floor_by_max", lambda x: jnp.maximum(x, -1e9), lambda x: x * 1.0, X3, at=(UP * -1e10,))
    yield differ("inf_wide_clip", lambda x: jnp.clip(x, -1e9, 1e9), lambda x: jnp.minimum(x, 1e9), X3, at=(UP * -1e10,))
    yield differ("inf_compared_with_large", lambda x: jnp.where(x > -1e9, x, 0.0), lambda x: x * 1.0, X3,
                 at=(UP * -1e10,))
    yield differ("inf_where_by_sign", lambda x: jnp.where(x > 0, -1e9, x), lambda x: jnp.where(x > 0, -3e9, x), X3,
                 at=(UP,))
    yield differ("inf_there_and_back", lambda x: (x + -1e9) + 1e9, lambda x: (2 * x + -1e9) + 1e9, X3, at=(UP,))
    yield differ("inf_bias_on_every_score", lambda x: jax.nn.softmax(x + -1e9), lambda x: jax.nn.softmax(2 * x + -1e9),
                 X3, at=(UP,))
    yield differ("inf_penalty", lambda x: jnp.where(x > 0, 0.0, -1e9) * x, lambda x: jnp.where(x > 0, 0.0, -5e9) * x,
                 X3, at=(DOWN,))
    yield differ("inf_pool_of_biased", lambda x: jnp.max(x + jnp.where(keep, 0.0, -1e9)) + (x + -1e9)[2],
                 lambda x: jnp.max(x + jnp.where(keep, 0.0, -1e9)) + (x + -3e9)[2], X5, at=(FIVE,))
    yield differ("inf_in_a_sort", lambda x: jnp.sort(extended(x, INF))[1:3], lambda x: jnp.sort(extended(x, -INF))[1:3],
                 X3, at=(UP,))
    yield differ("inf_in_a_median", lambda x: jnp.median(extended(x, INF, INF)),
                 lambda x: jnp.median(extended(x, -INF, -INF)), X5, at=(FIVE,))
    yield differ("inf_max_other_sign", lambda x: jnp.max(extended(x, -INF)), lambda x: jnp.max(extended(x, INF)), X3,
                 at=(UP,), kind="infinite")
    yield differ("inf_min_other_sign", lambda x: jnp.min(extended(x, -INF)), lambda x: jnp.min(extended(x, INF)), X3,
                 at=(UP,), kind="infinite")
    yield differ("inf_erf", lambda x: lax.erf(extended(x, INF)), lambda x: lax.erf(extended(x, -INF)), X3, at=(UP,))
    yield differ("inf_atan", lambda x: jnp.arctan(extended(x, INF)), lambda x: jnp.arctan(extended(x, -INF)), X3,
                 at=(UP,))
    yield differ("inf_tanh", lambda x: jnp.tanh(extended(x, INF)), lambda x: jnp.tanh(extended(x, -INF)), X3, at=(UP,))
    yield differ("inf_running_sum", lambda x: jnp.cumsum(extended(x, INF)), lambda x: jnp.cumsum(extended(x, -INF)), X3,
                 at=(UP,), kind="infinite")
    yield differ("inf_running_product", lambda x: lax.cumprod(extended(x, INF)),
                 lambda x: lax.cumprod(extended(x, -INF)), X3, at=(UP,), kind="infinite")
    yield differ("inf_window_sum",
                 lambda x: lax.reduce_window(extended(x, INF), np.zeros((), x.dtype), lax.add, (2,), (1,), "VALID"),
                 lambda x: lax.reduce_window(extended(x, -INF), np.zeros((), x.dtype), lax.add, (2,), (1,), "VALID"),
                 X3, at=(UP,), kind="infinite")
    yield differ("inf_scattered", lambda x: x.at[jnp.array([0, 1])].add(jnp.array([INF, 1.0], x.dtype)),
                 lambda x: x.at[jnp.array([0, 1])].add(jnp.array([-INF, 1.0], x.dtype)), X3, at=(UP,), kind="infinite")
    yield differ("inf_product_of_all", lambda x: jnp.prod(extended(x, INF, 0.5)), lambda x: 0 * x.sum(), X3, at=(UP,),
                 kind="infinite")
    yield differ("inf_triangle", lambda b: lax.linalg.triangular_solve(jnp.array([[INF, 0], [1, 1]], b.dtype), b,
                 left_side=True, lower=True), lambda b: b / jnp.zeros_like(b), B3[:2], at=(RIGHT[:2],), kind="infinite")
    yield differ("inf_convolved", lambda x: jnp.convolve(x, jnp.array([INF, 1.0], x.dtype)),
                 lambda x: jnp.convolve(x, jnp.array([-INF, 1.0], x.dtype)), X3, at=(UP,), kind="infinite")
    yield differ("inf_reciprocal_of_minus_zero", lambda x: x + 1 / (number(0, x.dtype) * 1),
                 lambda x: x + 1 / (-number(0, x.dtype)), X3, at=(UP,), kind="infinite")
    yield differ("inf_is_counted", lambda x: jnp.where(jnp.isinf(1 / relu(x)), 0.0, x), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("inf_log_of_relu", lambda x: jnp.where(jnp.log(relu(x)) == -INF, 9.0, x), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("inf_zero_times", lambda x: x + number(0, x.dtype) * number(INF, x.dtype), lambda x: x * 1.0, X3,
                 at=(UP,), kind="domain")
    yield differ("nan_times_zero", lambda x: x + 0.0 * number(np.nan, x.dtype), lambda x: x * 1.0, X3, at=(UP,),
                 kind="domain")
    yield differ("nan_minus_itself", lambda x: x + (number(np.nan, x.dtype) - number(np.nan, x.dtype)),
                 lambda x: x * 1.0, X3, at=(UP,), kind="domain")
    yield differ("nan_over_itself", lambda x: x * (number(np.nan, x.dtype) / number(np.nan, x.dtype)),
                 lambda x: x * 1.0, X3, at=(UP,), kind="domain")
    yield differ("nan_is_found", lambda x: jnp.where(jnp.isnan(extended(x, np.nan)), 0.0, 1.0) * x.sum(),
                 lambda x: jnp.ones(4, x.dtype) * x.sum(), X3, at=(UP,))
    yield differ("nan_is_finite", lambda x: jnp.where(jnp.isfinite(extended(x, np.nan)), 1.0, 0.0) * x.sum(),
                 lambda x: jnp.ones(4, x.dtype) * x.sum(), X3, at=(UP,))
    yield differ("nan_replaced", lambda x: jnp.nan_to_num(extended(x, np.nan)), lambda x: extended(x, np.nan), X3,
                 at=(UP,), kind="domain")
    yield differ("nan_left_out_of_a_sum", lambda x: jnp.nansum(extended(x, np.nan)),
                 lambda x: jnp.sum(extended(x, np.nan)), X3, at=(UP,), kind="domain")
    yield differ("nan_in_a_max", lambda x: x + jnp.maximum(number(np.nan, x.dtype), 1.0), lambda x: x + 1.0, X3,
                 at=(UP,), kind="domain")
    yield differ("nan_from_zero_over_zero", lambda x: jnp.nan_to_num(relu(x) / relu(x)), lambda x: jnp.ones_like(x), X3,
                 at=(DOWN,))
    yield differ("nan_from_a_root", lambda x: jnp.where(jnp.isnan(jnp.sqrt(x)), 9.0, x), lambda x: x * 1.0, X3,
                 at=(DOWN,))
    yield differ("nan_mean_of_logs", lambda x: jnp.nanmean(jnp.exp(jnp.log(x))), lambda x: x.mean(), X3,
                 at=(np.array([1.0, -2, 3]),))
    yield differ("nan_is_not_below", lambda x: jnp.where(~(jnp.log(x) > 0), x, 0.0),
                 lambda x: jnp.where(jnp.log(x) <= 0, x, 0.0), X3, at=(DOWN,))
    yield differ("nan_fmax", lambda x, y: jnp.fmax(jnp.sqrt(x), y), lambda x, y: jnp.maximum(jnp.sqrt(x), y), X3, Y3,
                 at=(DOWN, UP), kind="domain")
    yield differ("nan_min_by_where", lambda x, y: jnp.where(jnp.sqrt(x) < y, jnp.sqrt(x), y),
                 lambda x, y: jnp.minimum(jnp.sqrt(x), y), X3, Y3, at=(DOWN, UP), kind="domain")
    yield equal("inf_masked_softmax", lambda x: jax.nn.softmax(jnp.where(keep, x, -INF)),
                lambda x: jnp.where(keep, jnp.exp(x), 0.0) / jnp.sum(jnp.where(keep, jnp.exp(x), 0.0)), X5)
    yield equal("inf_masked_max", lambda x: jnp.max(jnp.where(keep, x, -INF)),
                lambda x: jnp.max(x[np.array([0, 1, 3])]), X5)
    yield equal("inf_masked_sum_of_exp", lambda x: jnp.exp(jnp.where(keep, x, -INF)).sum(),
                lambda x: (keep * jnp.exp(x)).sum(), X5)
    yield equal("inf_causal_rows", lambda x: jnp.exp(jnp.where(np.tri(3, dtype=bool), x, -INF)),
                lambda x: np.tri(3) * jnp.exp(x), A3)
    yield equal("inf_two_fills", lambda x: jax.nn.softmax(jnp.where(keep, x, -1e30)),
                lambda x: jax.nn.softmax(jnp.where(keep, x, -1e35)), X5)
    yield equal("inf_clip_open_above", lambda x: jnp.clip(x, -1, INF), lambda x: jnp.maximum(x, -1), X3)


def integers() -> Iterator[Case]:
    """Integers that wrap, truncate and saturate, also as sums of truths; unsigned ones; arithmetic of booleans."""
    i8, i16, i32, u8, u16, u32 = jnp.int8, jnp.int16, jnp.int32, jnp.uint8, jnp.uint16, jnp.uint32
    x200, on200 = drawn(200), np.ones(200)
    yield differ("int_count_in_int8", lambda x: jnp.sum((x > 0).astype(i8), dtype=i8).astype(x.dtype) * x.sum(),
                 lambda x: (x > 0).sum().astype(x.dtype) * x.sum(), x200, at=(on200,))
    yield differ("int_count_cast_to_int8", lambda x: (x > 0).sum().astype(i8).astype(x.dtype) * x.sum(),
                 lambda x: (x > 0).sum().astype(x.dtype) * x.sum(), x200, at=(on200,))
    yield differ("int_rank_in_uint8", lambda x: jnp.cumsum((x > 0).astype(u8) * u8(3), dtype=u8).astype(x.dtype),
                 lambda x: jnp.cumsum(3.0 * (x > 0)).astype(x.dtype), x200, at=(on200,))
    yield differ("int_weights_in_uint8", lambda x: jnp.sum((x > 0).astype(u8) * u8(16), dtype=u8).astype(x.dtype),
                 lambda x: 16.0 * jnp.sum((x > 0).astype(x.dtype)), X20, at=(ON20,))
    yield differ("int_u8_less_one", lambda x: ((x > 0).astype(u8) - u8(1)).astype(x.dtype),
                 lambda x: (x > 0) - 1.0 + 0 * x, X3, at=(DOWN,))
    yield differ("int_u16_squared", lambda x: (jnp.where(x > 0, u16(300), u16(2)) ** 2).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 90000.0, 4.0), X3, at=(UP,))
    yield differ("int_i16_product",
                 lambda x, y: (jnp.where(x > 0, i16(300), i16(1)) * jnp.where(y > 0, i16(300), i16(1))).astype(x.dtype),
                 lambda x, y: jnp.where(x > 0, 300.0, 1.0) * jnp.where(y > 0, 300.0, 1.0), X3, Y3, at=(UP, UP))
    yield differ("int_i32_sum", lambda x: jnp.sum(jnp.where(x > 0, i32(2**30), i32(1)), dtype=i32).astype(x.dtype),
                 lambda x: jnp.sum(jnp.where(x > 0, 2.0**30, 1.0)), X3, at=(UP,))
    yield differ("int_i8_negated_least", lambda x: (-jnp.where(x > 0, i8(-128), i8(1))).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 128.0, -1.0), X3, at=(UP,))
    yield differ("int_i16_product_of_all",
                 lambda x: jnp.prod(jnp.where(x > 0, i16(100), i16(1)), dtype=i16).astype(x.dtype),
                 lambda x: jnp.prod(jnp.where(x > 0, 100.0, 1.0)), X3, at=(UP,))
    yield differ("int_i8_matrix", lambda x: lax.dot((x > 0).astype(i8), jnp.full((3, 2), 90, i8)).astype(x.dtype),
                 lambda x: (x > 0).astype(x.dtype) @ jnp.full((3, 2), 90, x.dtype), A3, at=(np.abs(MATRIX),))
    yield differ("int_u8_clipped_late",
                 lambda x: jnp.clip(jnp.where(x > 0, u8(200), u8(10)) + u8(100), 0, 255).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 255.0, 110.0), X3, at=(UP,))
    yield differ("int_u8_mean_of_two",
                 lambda x: ((jnp.where(x > 0, u8(250), u8(0)) + u8(250)) // u8(2)).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 250.0, 125.0), X3, at=(UP,))
    yield differ("int_sign_of_unsigned", lambda x: jnp.sign((x > 0).astype(u8) - u8(1)).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 0.0, -1.0), X3, at=(DOWN,))
    yield differ("int_abs_of_unsigned", lambda x: jnp.abs(-(x > 0).astype(u32)).astype(x.dtype),
                 lambda x: (x > 0) * 1.0 + 0 * x, X3, at=(UP,))
    yield differ("int_divided_toward_zero",
                 lambda x: lax.div(jnp.where(x > 0, i32(7), i32(-7)), i32(2)).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 3.5, -3.5), X3, at=(UP,))
    yield differ("int_floor_divided", lambda x: lax.div(jnp.where(x > 0, i32(7), i32(-7)), i32(2)).astype(x.dtype),
                 lambda x: (jnp.where(x > 0, i32(7), i32(-7)) // 2).astype(x.dtype), X3, at=(DOWN,))
    yield differ("int_ratio_of_masks",
                 lambda x, y: lax.div((x > 0).astype(i32), 1 + (y > 0).astype(i32)).astype(x.dtype),
                 lambda x, y: (x > 0) / (1.0 + (y > 0)), X3, Y3, at=(UP, UP))
    yield differ("int_remainder_sign", lambda x: lax.rem(jnp.where(x > 0, i32(4), i32(-4)), i32(3)).astype(x.dtype),
                 lambda x: jnp.mod(jnp.where(x > 0, i32(4), i32(-4)), 3).astype(x.dtype), X3, at=(DOWN,))
    yield differ("int_mean_truncated", lambda x: jnp.mean((x > 0).astype(i32), dtype=i32).astype(x.dtype) + x.sum(),
                 lambda x: jnp.mean((x > 0).astype(x.dtype)) + x.sum(), X3, at=(np.array([1.0, 2, -3]),))
    yield differ("int_uint64_top_bit", lambda x: jnp.where(x > 0, np.uint64(2**63), np.uint64(1)).astype(np.float64),
                 lambda x: jnp.where(x > 0, -(2.0**63), 1.0), W3, at=(UP,))
    yield differ("int_truths_added", lambda x, y: ((x > 0) + (y > 0)).astype(x.dtype),
                 lambda x, y: 1.0 * (x > 0) + 1.0 * (y > 0), X3, Y3, at=(UP, UP))
    yield differ("int_truths_summed_as_truths", lambda x: jnp.sum(x > 0, dtype=bool).astype(x.dtype),
                 lambda x: jnp.sum(x > 0).astype(x.dtype), X3, at=(UP,))
    yield differ("int_complement", lambda x: (~(x > 0).astype(i32)).astype(x.dtype), lambda x: 1.0 - (x > 0) + 0 * x,
                 X3, at=(UP,))
    yield differ("int_shifted_out", lambda x: (jnp.where(x > 0, u8(130), u8(1)) << u8(1)).astype(x.dtype),
                 lambda x: jnp.where(x > 0, 260.0, 2.0), X3, at=(UP,))
    yield differ("int_difference_of_ranks",
                 lambda x: (jnp.argsort(x).astype(u32) - jnp.argsort(-x).astype(u32)).astype(x.dtype),
                 lambda x: jnp.argsort(x).astype(x.dtype) - jnp.argsort(-x).astype(x.dtype), X3, at=(UP,))
    yield differ("int_positions_multiplied", lambda x: (jnp.argmax(x).astype(u8) * u8(100)).astype(x.dtype),
                 lambda x: 100.0 * jnp.argmax(x).astype(x.dtype), X5, at=(FIVE,))
    yield differ("int_argument_as_slot", lambda x, i: x.at[i].add(1.0), lambda x, i: x.at[0].add(1.0), X3, i32(0),
                 at=(UP, np.int32(2)), kind="as given")
    yield differ("int_argument_as_turns", lambda x, n: lax.fori_loop(0, n, lambda i, v: 2 * v, x), lambda x, n: 8 * x,
                 X3, i32(3), at=(UP, np.int32(5)), kind="as given")
    yield differ("int_argument_as_exponent", lambda x, n: lax.pow(x, n), lambda x, n: x * x, X3, i32(2),
                 at=(UP, np.int32(3)), kind="as given")
    yield differ("int_mask_as_given", lambda x, m: jnp.where(m, x, 0.0),
                 lambda x, m: x * np.array([1.0, 0, 1], np.float32), X3, np.array([True, False, True]),
                 at=(UP, np.array([True, True, True])), kind="as given")
    yield differ("int_labels_as_given", lambda x, y: -jax.nn.log_softmax(x)[jnp.arange(3), y].sum(),
                 lambda x, y: -jax.nn.log_softmax(x)[np.arange(3), np.array([2, 0, 1])].sum(), A3, np.array([2, 0, 1]),
                 at=(MATRIX, np.array([0, 0, 0])), kind="as given")
    yield differ("int_key_as_given", lambda x, k: x * jax.random.bernoulli(k, 0.5, x.shape),
                 lambda x, k: x * jax.random.bernoulli(jax.random.key(3), 0.5, x.shape), drawn(32), jax.random.key(3),
                 at=(np.ones(32), jax.random.key(4)), kind="as given")
    yield equal("int_wrap_back", lambda x: ((x > 0).astype(u8) - u8(1) + u8(1)).astype(x.dtype),
                lambda x: (x > 0) * 1.0 + 0 * x, X3)
    yield equal("int_parity_of_count", lambda x: 1 - 2.0 * ((x > 0).sum() % 2).astype(x.dtype) + zero(x),
                lambda x: product([1 - 2.0 * (x[i] > 0) for i in range(5)]) + zero(x), X5)
    yield equal("int_count_halved_by_shift", lambda x: (((x > 0).sum() * 2) >> 1).astype(x.dtype),
                lambda x: jnp.sum(1.0 * (x > 0)) + zero(x), X5)
    yield equal("int_bits_of_truths", lambda x, y: ((x > 0).astype(i32) & (y > 0).astype(i32)).astype(x.dtype),
                lambda x, y: 1.0 * (x > 0) * (y > 0), X3, Y3)
    yield equal("int_one_hot_of_argument", lambda x, i: x[i], lambda x, i: jnp.sum(x * (jnp.arange(3) == i)), X3,
                i32(1))
    yield equal("int_u8_pixels", lambda x, p: x * (p.astype(x.dtype) / 255 - 0.5),
                lambda x, p: x * (2.0 * p.astype(x.dtype) - 255) / 510, X3, np.array([0, 100, 255], np.uint8))


def decisions() -> Iterator[Case]:
    """Rare patterns of truths: more decisions than a count of them sees, so that too few of their patterns are met."""
    n = X11.shape[0]
    i32, u32 = jnp.int32, jnp.uint32

    def count(x: Any, dtype: Any = u32) -> Any:
        """How many are positive; an unsigned index is taken as it is, a signed one may be from the end."""
        return (x > 0).astype(dtype).sum(dtype=dtype)

    def automaton(x: Any) -> Any:
        state, table = jnp.ones((), u32), jnp.array([0, 0, 0, 1], u32)
        for i in range(20):
            state = table[2 * state + (x[i] > 0).astype(u32)]
        return state.astype(x.dtype) * x.sum()

    def tree(x: Any) -> Any:
        node = jnp.zeros((), u32)
        for i in range(14):
            node = 2 * node + (x[(3 * i) % 20] > 0).astype(u32)
        return jnp.asarray(np.eye(1 << 14)[-1], x.dtype)[node] * x.sum()

    def backpointers(x: Any) -> Any:
        state, hops, table = jnp.ones((), u32), jnp.argmax(x, -1).astype(u32), jnp.array([0, 0, 0, 0, 0, 1], u32)
        for step in range(12):
            state = table[3 * state + hops[step]]
        return state.astype(x.dtype) * x.sum()

    def packed(x: Any) -> Any:
        index = ((x[:14] > 0).astype(u32) * (2 ** np.arange(14)).astype(np.uint32)).sum(dtype=u32)
        return jnp.asarray(np.eye(1 << 14)[-1], x.dtype)[index] * x.sum()

    def with_own_negative(x: Any) -> Any:
        return product([(x[i] > -x[i]) * (x[i] > 0) * 1.0 for i in range(n)]) * x.sum()

    def two_scans(x: Any) -> Any:
        first, second = (lax.scan(lambda c, _: (0.9 * c, None), x, None, length=turns)[0] for turns in (70, 80))
        return product([(first[i] > 0) * (second[i] > 0) * 1.0 for i in range(8)]) * x.sum()

    def largest_and_least(x: Any) -> Any:
        hit = (jnp.argmax(x, -1) == 0) & (jnp.argmax(-x, -1) == 1)
        return product([hit[i] for i in range(3)]).astype(x.dtype) * x.sum()

    def order_and_top(x: Any) -> Any:
        whole = (jnp.argsort(x) * jnp.arange(8)).sum() == (np.arange(8) ** 2).sum()
        return whole * (lax.top_k(x, 1)[1][0] == 7) * x.sum()

    def positions(x: Any) -> Any:
        index = (jnp.argmax(x, -1).astype(u32) * (16 ** np.arange(3)).astype(np.uint32)).sum(dtype=u32)
        return jnp.asarray(np.arange(16**3) == 16**3 - 1, x.dtype)[index] * x.sum()

    last16 = np.where(np.arange(16) == 15, 2.0, 1.0)[None] * np.ones((3, 1))
    extremes = np.tile(np.array([9.0, -9, 1, 2, 3, 4, 5, 6]), (3, 1))
    hops_at = np.tile(np.array([0.0, 0, 9]), (12, 1))
    yield differ("rare_automaton", automaton, zero, X20, at=(ON20,))
    yield differ("rare_decision_tree", tree, zero, X20, at=(ON20,))
    yield differ("rare_backpointers", backpointers, zero, drawn(12, 3), at=(hops_at,))
    yield differ("rare_packed_bits", packed, zero, X20, at=(ON20,))
    yield differ("rare_more_than_own_negative", with_own_negative, zero, X11, at=(ON11,))
    yield differ("rare_scans_of_other_lengths", two_scans, zero, X11, at=(ON11,))
    yield differ("rare_largest_and_least", largest_and_least, zero, drawn(3, 8), at=(extremes,))
    yield differ("rare_order_and_top", order_and_top, zero, drawn(8), at=(np.arange(8.0),))
    yield differ("rare_positions_as_index", positions, zero, drawn(3, 16), at=(last16,))
    yield differ("rare_scatter_set", lambda x: jnp.zeros(21, x.dtype).at[count(x)].set(1.0)[20] * x.sum(), zero, X20,
                 at=(ON20,))
    yield differ("rare_update_slice",
                 lambda x: lax.dynamic_update_slice(jnp.zeros(21, x.dtype), x[:1], (count(x),))[20] * x.sum(), zero,
                 X20, at=(ON20,))
    yield differ("rare_roll", lambda x: jnp.roll(jnp.asarray(np.eye(21)[0], x.dtype), count(x))[20] * x.sum(), zero,
                 X20, at=(ON20,))
    yield differ("rare_take_clipped", lambda x, y: jnp.take(y, count(x), mode="clip"),
                 lambda x, y: jnp.take(y[:20], count(x), mode="clip"), X20, drawn(21), at=(ON20, np.arange(21.0)))
    yield differ("rare_along_axis", lambda x: jnp.take_along_axis(jnp.asarray(np.eye(21)[20:], x.dtype), count(x)[None,
                 None], 1)[0, 0] * x.sum(), zero, X20, at=(ON20,))
    yield differ("rare_bits_of_count", lambda x: ((count(x[:16]) & 16) / 16).astype(x.dtype) * x.sum(), zero, X20,
                 at=(ON20,))
    yield differ("rare_count_wraps",
                 lambda x: (jnp.sum((x > 0).astype(jnp.uint8) * jnp.uint8(12), dtype=jnp.uint8)).astype(x.dtype),
                 lambda x: 12.0 * (x > 0).sum().astype(x.dtype), drawn(22), at=(np.ones(22),))
    yield differ("rare_share_cast",
                 lambda x: ((x > 0).astype(x.dtype).sum() / 20).astype(i32).astype(x.dtype) * x.sum(), zero, X20,
                 at=(ON20,))
    yield differ("rare_share_as_slot", lambda x, y: y[((x > 0).astype(x.dtype).sum() / 20).astype(u32)],
                 lambda x, y: y[0] * 1.0, X20, drawn(2), at=(ON20, np.array([1.0, 5])))
    yield differ("rare_hinge_as_truth",
                 lambda x: jnp.where(jnp.maximum(count(x, i32) - 19, 0).astype(bool), x.sum(), 0.0), zero, X20,
                 at=(ON20,))
    yield differ("rare_table_of_table", lambda x: jnp.asarray(np.eye(3)[2], x.dtype)[jnp.asarray(np.arange(21) // 10,
                 u32)[count(x)]] * x.sum(), zero, X20, at=(ON20,))
    yield differ("rare_row_of_matrix",
                 lambda x: (jnp.asarray(np.eye(21), x.dtype)[count(x)] * np.eye(21)[20]).sum() * x.sum(), zero, X20,
                 at=(ON20,))
    yield differ("rare_segment", lambda x: jax.ops.segment_sum(x, jnp.zeros(20, u32) + count(x), 21)[20], zero, X20,
                 at=(ON20,))
    yield differ("rare_mode_drop", lambda x: x.sum() * 1.0 + jnp.zeros(20, x.dtype).at[count(x)].add(1.0).sum(),
                 lambda x: x.sum() + 1.0, X20, at=(ON20,))
    yield differ("rare_fill", lambda x, y: jnp.take(y, count(x), mode="fill", fill_value=-5.0),
                 lambda x, y: jnp.take(y, count(x), mode="clip"), X20, drawn(20, seed=3), at=(ON20, np.arange(20.0)))
    yield differ("rare_all_by_min", lambda x: jnp.where(jnp.min(x) > 0, x.sum(), 0.0), zero, X20, at=(ON20,))
    yield differ("rare_band", lambda x: jnp.where((x > 1) & (x < 1.001), 0.0, x), lambda x: x * 1.0, X3,
                 at=(np.full(3, 1.0005),))
    yield differ("rare_sorted_gap", lambda x: jnp.where(jnp.sort(x)[0] > 0, x.sum(), 0.0), zero, drawn(8),
                 at=(np.ones(8) + np.arange(8),))
    yield differ("rare_selected_of_many", lambda x: jnp.select([x[i] <= 0 for i in range(16)], [zero(x)] * 16, x.sum()),
                 zero, X20, at=(ON20,))
    yield differ("rare_median_of_many", lambda x: jnp.where(jnp.median(x) > jnp.mean(x), x, 0.0), lambda x: 0 * x, X5,
                 at=(np.array([0.0, 0.1, 5, 6, 7]),))
    yield differ("rare_clamp_between_others",
                 lambda x, y: product([(jnp.clip(x[i], -jnp.abs(y[i]), jnp.abs(y[i])) - x[i]) for i in range(n)]),
                 lambda x, y: zero(x, y), X11, Y11, at=(3 * ON11, ON11))
    yield equal("rare_majority", lambda x: jnp.where(count(x, i32) >= 3, 1.0, -1.0) * x.sum(),
                lambda x: jnp.where((x > 0).astype(x.dtype).mean() > 0.5, 1.0, -1.0) * x.sum(), X5)
    yield equal("rare_count_by_index", lambda x: jnp.arange(6.0).astype(x.dtype)[count(x)],
                lambda x: count(x) + zero(x), X5)
    yield equal("rare_two_of_three", lambda x, y: jnp.maximum(jnp.minimum(x, y), jnp.minimum(jnp.maximum(x, y), 0)),
                lambda x, y: jnp.minimum(jnp.maximum(x, y), jnp.maximum(jnp.minimum(x, y), 0)), X3, Y3)
    yield equal("rare_sorting_network", lambda x: jnp.stack([jnp.minimum(x[0], x[1]), jnp.maximum(x[0], x[1])]),
                lambda x: jnp.sort(x), drawn(2))
    yield equal("rare_mux_by_product", lambda x, y: jnp.where(x > 0, jnp.where(y > 0, x, y), x * y),
                lambda x, y: (x > 0) * ((y > 0) * x + (1.0 - (y > 0)) * y) + (1.0 - (x > 0)) * x * y, X3, Y3)
    yield equal("rare_argmax_as_index", lambda x, y: y[jnp.argmax(x)],
                lambda x, y: (jax.nn.one_hot(jnp.argmax(x), 5, dtype=y.dtype) * y).sum(), X5, Y5)


def state() -> Iterator[Case]:
    """References that are written to, callbacks that count, functions that change while they are traced."""

    def added(factor: float) -> Function:
        def f(x: Any) -> Any:
            ref = jax.new_ref(x * 0)
            addupdate(ref, ..., factor * x)
            return ref[...] * 1.0

        return f

    def swapped(late: bool) -> Function:
        def f(x: Any, y: Any) -> Any:
            ref = jax.new_ref(x)
            old = swap(ref, ..., y)
            return ref[...] * 1.0 if late else old * 1.0

        return f

    def frozen(factor: float) -> Function:
        def f(x: Any) -> Any:
            ref = jax.new_ref(x)
            ref[0] = factor * x[1]
            return freeze(ref) * 1.0

        return f

    def scanned(factor: float) -> Function:
        def f(x: Any) -> Any:
            ref = jax.new_ref(jnp.zeros((), x.dtype))

            def body(carry: Any, v: Any) -> Any:
                ref[...] = ref[...] + factor * v
                return carry, None

            lax.scan(body, 0, x)
            return ref[...] * 1.0

        return f

    def slot(read: int) -> Function:
        def f(x: Any, i: Any) -> Any:
            ref = jax.new_ref(x)
            ref[i] = 9.0 + 0 * x[0]
            return ref[read] * 1.0

        return f

    def inner(factor: float) -> Function:
        @jax.jit
        def write(ref: Any, x: Any) -> None:
            ref[...] = factor * x

        def f(x: Any) -> Any:
            ref = jax.new_ref(x)
            write(ref, x)
            return ref[...] * 1.0

        return f

    def chosen(factor: float) -> Function:
        def f(x: Any) -> Any:
            ref = jax.new_ref(x)

            def write() -> None:
                ref[...] = factor * x

            lax.cond(x[0] > 0, write, lambda: None)
            return ref[...] * 1.0

        return f

    def early(first: bool) -> Function:
        def f(x: Any) -> Any:
            ref = jax.new_ref(x)
            before = ref[...]
            ref[...] = 5 * x
            return (before if first else ref[...]) * 1.0

        return f

    def hosted(factor: float) -> Function:
        return lambda x: jax.pure_callback(lambda v: np.asarray(v) * np.asarray(factor, v.dtype), jax.typeof(x), x)

    def hosted_io(factor: float, ordered: bool) -> Function:
        return lambda x: io_callback(lambda v: np.asarray(v) * np.asarray(factor, v.dtype), jax.typeof(x), x,
                                     ordered=ordered)

    def counting() -> Function:
        calls = itertools.count(1)
        return lambda x: io_callback(lambda v: np.asarray(v) * np.asarray(next(calls), v.dtype), jax.typeof(x), x)

    def batched(factor: float) -> Function:
        host = partial(np.multiply, np.float32(factor))
        return jax.vmap(lambda v: jax.pure_callback(host, jax.typeof(v), v, vmap_method="expand_dims"))

    counter, tick = counting(), itertools.count(1)
    yield differ("ref_add_update", added(1.0), added(3.0), X3, at=(UP,))
    yield differ("ref_swap_returns_old", swapped(False), swapped(True), X3, Y3, at=(UP, DOWN))
    yield differ("ref_frozen", frozen(1.0), frozen(2.0), X3, at=(UP,))
    yield differ("ref_sum_in_scan", scanned(1.0), scanned(-1.0), X3, at=(UP,))
    yield differ("ref_slot_of_index", slot(0), slot(2), X3, jnp.int32(0), at=(UP, np.int32(0)))
    yield differ("ref_written_in_a_call", inner(2.0), inner(5.0), X3, at=(UP,))
    yield differ("ref_written_in_a_branch", chosen(2.0), chosen(5.0), X3, at=(UP,))
    yield differ("ref_read_before_or_after", early(True), early(False), X3, at=(UP,))
    yield differ("ref_against_its_start", added(2.0), lambda x: 0 * x, X3, at=(UP,))
    yield differ("callback_other_factor", hosted(2.0), hosted(3.0), X3, at=(single(UP),), own=True)
    yield differ("callback_other_function", lambda x: jax.pure_callback(np.sin, jax.typeof(x), x),
                 lambda x: jax.pure_callback(np.cos, jax.typeof(x), x), X3, at=(single(UP),), own=True)
    yield differ("callback_io_ordered", hosted_io(2.0, True), hosted_io(3.0, True), X3, at=(single(UP),), own=True)
    yield differ("callback_io_unordered", hosted_io(2.0, False), hosted_io(3.0, False), X3, at=(single(UP),), own=True)
    yield differ("callback_batched", batched(2.0), batched(3.0), X3, at=(single(UP),), own=True)
    yield differ("callback_inside_jit", jax.jit(hosted(2.0)), jax.jit(hosted(4.0)), X3, at=(single(UP),), own=True)
    yield differ("callback_that_counts", counter, counter, X3, at=(single(UP),), own=True)
    yield differ("state_ticks_while_traced", lambda x: x * next(tick), lambda x: x * -next(tick), X3, at=(UP,))
    yield differ("random_without_a_key", lambda x: x + lax.rng_uniform(np.zeros((), x.dtype), np.ones((), x.dtype),
                 (3,)) - lax.rng_uniform(np.zeros((), x.dtype), np.ones((), x.dtype), (3,)), lambda x: x * 1.0, X3,
                 at=(single(UP),), own=True)
    yield equal("ref_as_a_variable", added(2.0), lambda x: x + x, X3)
    yield equal("ref_loop_sum", scanned(1.0), lambda x: x.sum(), X3)
    yield equal("callback_itself", hosted(2.0), hosted(2.0), X3, own=True)
    yield equal("state_named_call", lambda x: jax.named_call(lambda v: v * 2, name="twice")(x), lambda x: x + x, X3)
    yield equal("state_debug", lambda x: (jax.debug.callback(lambda v: None, x), 2 * x)[1], lambda x: x + x, X3)


def labels() -> Iterator[Case]:
    """What is left uninterpreted, and what its label leaves out: functions, fills, shapes, constants, sizes of axes."""
    here = np.array([0, 9, 2])

    def sharded(body: Function, size: int = 4, spec: Any = None) -> Function:
        mesh = AbstractMesh((size,), ("i",), axis_types=(AxisType.Auto,))
        spec = PartitionSpec() if spec is None else spec
        return jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

    def pairs(x: Any) -> Any:
        return lax.reduce_window(x, np.zeros((), x.dtype), lambda a, b: a + 2 * b, (1, 2), (1, 1), "VALID")

    def named(body: Function) -> Function:
        return jax.vmap(body, axis_name="i")

    rows = PartitionSpec("i")
    psum, pmean = (lambda v: lax.psum(v, "i")), (lambda v: lax.pmean(v, "i"))
    yield differ("label_gather_fill", lambda x: jnp.take(x, here, mode="fill", fill_value=0.0),
                 lambda x: jnp.take(x, here, mode="fill", fill_value=7.0), X3, at=(UP,))
    yield differ("label_gather_fill_of_at", lambda x: x.at[here].get(mode="fill", fill_value=1.0),
                 lambda x: x.at[here].get(mode="fill", fill_value=2.0), X3, at=(UP,))
    yield differ("label_gather_fill_rows", lambda a: a.at[here].get(mode="fill", fill_value=-1.0).sum(0),
                 lambda a: a.at[here].get(mode="fill", fill_value=1.0).sum(0), A3, at=(MATRIX,))
    yield differ("label_scatter_update", lambda x: x.at[1].apply(jnp.tanh), lambda x: x.at[1].apply(jnp.exp), X3,
                 at=(UP,))
    yield differ("label_scatter_update_is_zero", lambda x: x.at[1].apply(jnp.square), lambda x: x.at[1].set(0.0), X3,
                 at=(UP,))
    yield differ("label_scatter_closure", lambda x: x.at[:2].apply(lambda v: v * 3 + 1),
                 lambda x: x.at[:2].apply(lambda v: v * 4 - 1), X3, at=(UP,))
    yield differ("label_reduction_function",
                 lambda x: lax.reduce(x, np.zeros((), x.dtype), lambda a, b: a + 2 * b, (0,)),
                 lambda x: lax.reduce(x, np.zeros((), x.dtype), lambda a, b: 2 * a + b, (0,)), X3, at=(UP,))
    yield differ("label_reduction_digits",
                 lambda x: lax.reduce(x, np.zeros(()), lambda a, b: a + 3.00000000001 * b, (0,)),
                 lambda x: lax.reduce(x, np.zeros(()), lambda a, b: a + 3.00000000002 * b, (0,)), W3, at=(UP,))
    yield differ("label_eigenvalues_reshaped",
                 lambda x: jnp.linalg.eigvalsh(x.reshape(1, 4, 4), symmetrize_input=False).ravel(),
                 lambda x: jnp.linalg.eigvalsh(x.reshape(4, 2, 2), symmetrize_input=False).ravel()[:4], drawn(16),
                 at=(np.arange(16.0) ** 1.5,))
    yield differ("label_qr_reshaped", lambda x: jnp.abs(jnp.linalg.qr(x.reshape(3, 2), mode="r").ravel()[:2]),
                 lambda x: jnp.abs(jnp.linalg.qr(x.reshape(2, 3), mode="r").ravel()[:2]), drawn(6),
                 at=(np.arange(1.0, 7),))
    yield differ("label_singular_values_of_batches",
                 lambda x: jnp.linalg.svd(x.reshape(2, 2, 3), compute_uv=False).ravel(),
                 lambda x: jnp.linalg.svd(x.reshape(2, 3, 2), compute_uv=False).ravel(), drawn(12),
                 at=(np.arange(1.0, 13) ** 2,))
    yield differ("label_reduction_reshaped",
                 lambda x: lax.reduce(x.reshape(2, 3), np.zeros((), x.dtype), lambda a, b: a + 2 * b, (1,)),
                 lambda x: lax.reduce(x.reshape(3, 2), np.zeros((), x.dtype), lambda a, b: a + 2 * b, (1,))[:2],
                 drawn(6), at=(np.arange(1.0, 7),))
    yield differ("label_window_reshaped", lambda x: pairs(x.reshape(2, 4)).ravel()[:4],
                 lambda x: pairs(x.reshape(4, 2)).ravel(), drawn(8), at=(np.arange(1.0, 9),))
    yield differ("label_sort_by_two_keys_reshaped",
                 lambda x: lax.sort([x.reshape(2, 3), jnp.floor(x).reshape(2, 3)], dimension=1, num_keys=2)[0].ravel(),
                 lambda x: lax.sort([x.reshape(3, 2), jnp.floor(x).reshape(3, 2)], dimension=1, num_keys=2)[0].ravel(),
                 drawn(6), at=(np.array([6.0, 5, 4, 3, 2, 1]),))
    yield differ("label_scatter_max_mode", lambda x: x.at[np.array([7])].max(9.0, mode="clip"),
                 lambda x: x.at[np.array([7])].max(9.0, mode="drop"), X3, at=(UP,))
    yield differ("label_rounding_method",
                 lambda x: lax.round(jnp.floor(x) + 0.5, lax.RoundingMethod.AWAY_FROM_ZERO) + x,
                 lambda x: lax.round(jnp.floor(x) + 0.5, lax.RoundingMethod.TO_NEAREST_EVEN) + x, X3,
                 at=(UP * 2 + 0.3,))
    yield differ("label_axis_size", sharded(lambda v: lax.psum(v, "i"), 4), sharded(lambda v: lax.psum(v, "i"), 2),
                 drawn(4), why="a sum over four equal shards is twice that over two")
    yield differ("label_axis_size_after_jit", jax.jit(sharded(lambda v: v * lax.psum(v, "i"), 4)),
                 jax.jit(sharded(lambda v: v * psum(v), 8)), drawn(4),
                 why="a sum over eight equal shards is twice that over four")
    yield differ("label_shard_body", sharded(lambda v: v * 1.00000000001, 4, rows),
                 sharded(lambda v: v * 1.00000000002, 4, rows), wide(4), why="the factors differ in the eleventh digit")
    yield differ("label_shard_sum_or_mean", sharded(psum, 4, rows), sharded(pmean, 4, rows), drawn(4),
                 why="a sum is four times the mean")
    yield differ("label_shard_permutation",
                 sharded(lambda v: lax.ppermute(v, "i", [(k, (k + 1) % 4) for k in range(4)]), 4, rows),
                 sharded(lambda v: lax.ppermute(v, "i", [(k, (k - 1) % 4) for k in range(4)]), 4, rows), drawn(4),
                 why="the shards move the other way")
    yield differ("label_named_sum_or_mean", named(psum), named(pmean), X3, at=(UP,))
    yield differ("label_named_index", named(lambda v: v * lax.axis_index("i")),
                 named(lambda v: v * (2 - lax.axis_index("i"))), X3, at=(UP,))
    yield differ("label_named_permutation", named(lambda v: lax.ppermute(v, "i", [(0, 1), (1, 2), (2, 0)])),
                 named(lambda v: lax.ppermute(v, "i", [(1, 0), (2, 1), (0, 2)])), X3, at=(UP,))
    yield differ("label_fourier_norm", lambda x: jnp.fft.irfft(jnp.fft.rfft(x, norm="ortho")),
                 lambda x: jnp.fft.irfft(jnp.fft.rfft(x)), drawn(4), at=(np.arange(4.0),))
    yield equal("label_fourier_round_trip", lambda x: jnp.fft.irfft(jnp.fft.rfft(x)), lambda x: x * 1.0, drawn(4))
    yield equal("label_reduction_is_a_sum", lambda x: lax.reduce(x, np.zeros((), x.dtype), lax.add, (0,)),
                lambda x: x.sum(), X5)
    yield equal("label_named_norm", named(lambda v: v / lax.psum(jnp.abs(v), "i")), lambda x: x / jnp.abs(x).sum(), X3)
    yield equal("label_erf_odd", lambda x: lax.erf(-x), lambda x: -lax.erf(x), X3)
    yield equal("label_same_eigenvalues", lambda a: jnp.linalg.eigvalsh(a + a.T) * 2,
                lambda a: jnp.linalg.eigvalsh(a.T + a) + jnp.linalg.eigvalsh(a + a.T), A3)
    yield equal("label_shards_alike", sharded(lambda v: v * 2, 4, rows), sharded(lambda v: v + v, 4, rows), drawn(4),
                why="v * 2 is v + v")


def numbers() -> Iterator[Case]:
    """Exponents and literals near simple ones, known numbers that rounding decides on, its conventions."""
    a3, at = np.abs(W3), (UP * 1e9,)
    f16 = jnp.float16
    away, even = lax.RoundingMethod.AWAY_FROM_ZERO, lax.RoundingMethod.TO_NEAREST_EVEN

    def turns(start: float, step: float, end: float) -> Function:
        """Doubles once a step, in the dtype of the argument."""
        def f(x: Any) -> Any:
            first = number(start, x.dtype)
            return lax.while_loop(lambda s: s[0] < end, lambda s: (s[0] + step, 2 * s[1]), (first, x))[1]

        return f

    def epsilon(x: Any) -> Any:
        one = number(1, x.dtype)
        return x * lax.while_loop(lambda e: one + e > one, lambda e: e / 2, one)

    yield differ("num_cube_root_and_a_bit", lambda x: x**0.3333334, jnp.cbrt, a3, at=at)
    yield differ("num_two_thirds_and_a_bit", lambda x: x**0.6666668, lambda x: jnp.cbrt(x) ** 2, a3, at=at)
    yield differ("num_power_one_and_a_bit", lambda x: x**1.0000003, lambda x: x * 1.0, a3, at=at)
    yield differ("num_power_almost_nothing", lambda x: x**0.0000004, lambda x: jnp.ones_like(x), a3, at=at)
    yield differ("num_reciprocal_and_a_bit", lambda x: x**-1.0000003, lambda x: 1 / x, a3, at=at)
    yield differ("num_root_less_a_bit", lambda x: x**0.4999998, jnp.sqrt, a3, at=at)
    yield differ("num_fifth_power_and_a_bit", lambda x: x**4.9999998, lambda x: x**5, a3, at=at)
    yield differ("num_array_of_exponents", lambda x: x ** jnp.full(3, 2.0000004, x.dtype), jnp.square, a3, at=at)
    yield differ("num_third_in_float32", lambda x: x ** number(1 / 3, jnp.float32).astype(x.dtype), jnp.cbrt, a3, at=at)
    yield differ("num_tenth_in_float32", lambda x: x * number(0.1, jnp.float32).astype(x.dtype), lambda x: x * 0.1, W3,
                 at=(UP,))
    yield differ("num_pi_in_float32", lambda x: x * number(np.pi, jnp.float32).astype(x.dtype), lambda x: x * np.pi, W3,
                 at=(UP,))
    yield differ("num_third_in_bfloat16", lambda x: x * number(0.3, jnp.bfloat16).astype(x.dtype), lambda x: x * 0.3,
                 X3, at=(single(UP),), own=True)
    yield differ("num_tenth_in_float16", lambda x: x * number(0.1, f16).astype(x.dtype), lambda x: x * 0.1, X3,
                 at=(single(UP),), own=True)
    yield differ("num_one_and_an_ulp", lambda x: x * 1.0000000000000002 - x, lambda x: 0 * x, W3, at=(UP,))
    yield differ("num_three_less_an_ulp", lambda x: x * 2.9999999999999996 - 3 * x, lambda x: 0 * x, W3, at=(UP,))
    yield differ("num_three_tenths", lambda x: jnp.where(number(0.1, x.dtype) * 3 == number(0.3, x.dtype), x, -x),
                 lambda x: x * 1.0, W3, at=(UP,))
    yield differ("num_cents", lambda x: x * (number(4.35, x.dtype) * 100).astype(jnp.int32).astype(x.dtype),
                 lambda x: x * 434.0, X3, at=(single(UP),), own=True)
    yield differ("num_ten_steps_of_three_tenths", turns(0, 0.3, 3.0), lambda x: x * 2**10, X3, at=(single(UP),),
                 own=True)
    yield differ("num_machine_epsilon", epsilon, lambda x: x * 2.0**-53, X3, at=(single(UP),), own=True)
    yield differ("num_lost_one_in_float16", lambda x: jnp.where(number(2048, f16) + f16(1) > f16(2048), x, -x),
                 lambda x: x * 1.0, X3, at=(UP,))
    yield differ("num_lost_one_in_bfloat16",
                 lambda x: x * (number(256, jnp.bfloat16) + 1 - number(256, jnp.bfloat16)).astype(x.dtype),
                 lambda x: x * 1.0, X3, at=(UP,), kind="rounding")
    yield differ("num_overflow_in_float16",
                 lambda x: x * jnp.where(number(60000, f16) * 2 - number(60000, f16) > f16(65504), 1.0, 2.0),
                 lambda x: x * 2.0, X3, at=(UP,))
    yield differ("num_integer_beyond_float32",
                 lambda x: x * (number(16777216, jnp.float32) + 1).astype(jnp.int32).astype(x.dtype),
                 lambda x: x * 16777217.0, W3, at=(UP,))
    yield differ("num_iota_in_bfloat16", lambda x: x * (lax.iota(jnp.bfloat16, 300)[299]).astype(x.dtype),
                 lambda x: x * 299.0, X3, at=(UP,), kind="rounding")
    yield differ("num_round_away_from_half", lambda x: x * lax.round(number(4.5, x.dtype), away), lambda x: x * 4.0, X3,
                 at=(UP,))
    yield differ("num_round_of_halved_floor", lambda x: lax.round(jnp.floor(x) / 2, away) + x,
                 lambda x: lax.round(jnp.floor(x) / 2, even) + x, X3, at=(np.array([1.5, 5.5, 9.5]),))
    yield differ("num_remainder_of_known", lambda x: x * lax.rem(number(-7, x.dtype), number(3, x.dtype)),
                 lambda x: x * jnp.mod(number(-7, x.dtype), 3), X3, at=(UP,))
    yield differ("num_top_of_known_ties", lambda x: x[lax.top_k(jnp.array([2.0, 5, 5], x.dtype), 1)[1]],
                 lambda x: x[2:], X3, at=(UP,))
    yield differ("num_top_of_tied_relus", lambda x, y: y[lax.top_k(relu(x), 1)[1]],
                 lambda x, y: y[jnp.argsort(relu(x))[::-1][:1]], X3, Y3, at=(DOWN, UP))
    yield differ("num_top_of_tied_floors", lambda x, y: y[lax.top_k(jnp.floor(x), 2)[1]],
                 lambda x, y: y[jnp.argsort(jnp.floor(x))[::-1][:2]], X3, Y3, at=(UP / 10, UP))
    yield differ("num_first_of_tied_floors", lambda x, y: y[jnp.argmax(jnp.floor(x))],
                 lambda x, y: y[4 - jnp.argmax(jnp.floor(x)[::-1])], X5, Y5, at=(FIVE / 10, FIVE))
    yield differ("num_least_of_tied_rounds", lambda x, y: y[jnp.argmin(jnp.round(x))],
                 lambda x, y: y[::-1][jnp.argmin(jnp.round(x)[::-1])], X5, Y5, at=(FIVE / 100, FIVE))
    yield differ("num_order_of_tied_floors", lambda x, y: y[jnp.argsort(jnp.floor(x))],
                 lambda x, y: y[jnp.argsort(-jnp.floor(x))[::-1]], X3, Y3, at=(UP / 10, UP))
    yield differ("num_tie_of_two", lambda x, y: y[jnp.argmax(jnp.floor(x))],
                 lambda x, y: y[1 - jnp.argmax(jnp.floor(x)[::-1])], drawn(2), drawn(2, seed=1),
                 at=(UP[:2] / 10, UP[:2]))
    yield differ("num_natural_log_of_ten", lambda x: jnp.log10(x), lambda x: jnp.log(x) / 2.302585, a3, at=at)
    yield differ("num_threshold_next_to_one", lambda x: jnp.where(x > 1.0000000000000002, x, 0.0),
                 lambda x: jnp.where(x > 1, x, 0.0), W3, why="they differ on (1, 1 + 2^-52]")
    yield differ("num_threshold_lost_in_a_sum", lambda x: jnp.where(x + 1e10 > 1e-7, x, 1.0),
                 lambda x: jnp.where(x > -1e10, x, 1.0), W3, why="they differ on (-1e10, -1e10 + 1e-7]")
    yield equal("num_gaussian_factor", lambda x: jnp.exp(-x * x / 2) / np.sqrt(2 * np.pi),
                lambda x: jnp.exp(-(x**2) * 0.5) * np.sqrt(0.5 / np.pi), X3)
    yield equal("num_bits_per_nat", lambda x: jnp.log2(x), lambda x: jnp.log(x) / np.log(2), a3, signed=False)
    yield equal("num_power_by_roots", lambda x: x**2.5, lambda x: x * x * jnp.sqrt(x), a3, signed=False)
    yield equal("num_power_minus_three_halves", lambda x: x**-1.5, lambda x: lax.rsqrt(x) ** 3, a3, signed=False)
    yield equal("num_ratio_of_decimals", lambda x: 0.3 * x / 0.1, lambda x: 3 * x, W3)
    yield equal("num_ema", lambda x, y: 0.9 * x + 0.1 * y, lambda x, y: x + 0.1 * (y - x), W3, V3)
    yield equal("num_round_of_known", lambda x: x * jnp.round(number(3.5, x.dtype)), lambda x: x * 4.0, X3)
    yield equal("num_python_modulo", lambda x: x * jnp.mod(number(-7, x.dtype), 3), lambda x: x * 2.0, X3)
    yield equal("num_pow_of_two", lambda x: 2.0**x, lambda x: jnp.exp(x * np.log(2.0)), W3)


def factorizations() -> Iterator[Case]:
    """What pivots, triangles and signs decide in factorizations of matrices."""
    lu, solve = lax.linalg.lu, lax.linalg.triangular_solve

    def without_rows(a: Any, b: Any) -> Any:
        packed = lu(a)[0]
        return solve(packed, solve(packed, b, left_side=True, lower=True, unit_diagonal=True), left_side=True)

    def with_rows(a: Any, b: Any) -> Any:
        packed, _, order = lu(a)
        return solve(packed, solve(packed, b[order], left_side=True, lower=True, unit_diagonal=True), left_side=True)

    def gram(a: Any) -> Any:
        return a @ a.T + jnp.eye(3, dtype=a.dtype)

    tall, indefinite = drawn(4, 3), np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])
    yield differ("fact_solve_without_rows", without_rows, jnp.linalg.solve, A3, B3, at=(MATRIX, RIGHT))
    yield differ("fact_product_of_pivots", lambda a: jnp.prod(jnp.diag(lu(a)[0])), jnp.linalg.det, A3, at=(MATRIX,))
    yield differ("fact_log_of_pivots", lambda a: jnp.log(jnp.diag(lu(a)[0])[0]), lambda a: jnp.log(a[0, 0]), A3,
                 at=(MATRIX,))
    yield differ("fact_multipliers", lambda a: lu(a)[0][1, 0], lambda a: a[1, 0] / a[0, 0], A3, at=(MATRIX,))
    yield differ("fact_last_pivot", lambda a: lu(a)[0][-1, -1], lambda a: jnp.linalg.det(a) / jnp.linalg.det(a[:2, :2]),
                 A3, at=(MATRIX,))
    yield differ("fact_largest_multiplier", lambda a: jnp.abs(lu(a)[0][2, 0]), lambda a: jnp.abs(a[2, 0] / a[0, 0]), A3,
                 at=(MATRIX,))
    yield differ("fact_pivots_as_index", lambda a, x: x[lu(a)[1]], lambda a, x: x * 1.0, A3, X3, at=(MATRIX, UP))
    yield differ("fact_first_exchange", lambda a: lu(a)[1][0].astype(a.dtype) * a[0, 0], lambda a: 0 * a[0, 0], A3,
                 at=(MATRIX,))
    yield differ("fact_tall_rows", lambda a: lu(a)[0][0], lambda a: a[0] * 1.0, tall,
                 at=(np.arange(12.0).reshape(4, 3) ** 2,))
    yield differ("fact_batch_of_rows", lambda a: lu(a)[0][:, 0, 0], lambda a: a[:, 0, 0] * 1.0, drawn(2, 3, 3),
                 at=(np.stack([MATRIX, MATRIX]),))
    yield differ("fact_root_of_indefinite", lambda a: jnp.where(jnp.isnan(jnp.linalg.cholesky(a)[1, 1]), 9.0, 1.0),
                 lambda a: 1.0 + 0 * a[0, 0], A3, at=(indefinite,))
    yield differ("fact_first_root", lambda a: jnp.linalg.cholesky(a)[0, 0] ** 2, lambda a: a[0, 0] * 1.0, A3,
                 at=(indefinite,), kind="domain")
    yield differ("fact_root_back", lambda a: (lambda c: c @ c.T)(jnp.linalg.cholesky(a + a.T)), lambda a: a + a.T, A3,
                 at=(indefinite,), kind="domain")
    yield differ("fact_upper_or_lower_root", lambda a: jnp.linalg.cholesky(gram(a)),
                 lambda a: jnp.linalg.cholesky(gram(a), upper=True), A3, at=(MATRIX,))
    yield differ("fact_root_of_reversed", lambda a: jnp.linalg.cholesky(gram(a)),
                 lambda a: jnp.linalg.cholesky(gram(a)[::-1, ::-1])[::-1, ::-1], A3, at=(MATRIX,))
    yield differ("fact_sign_of_r", lambda a: jnp.linalg.qr(a)[1][0, 0], lambda a: jnp.linalg.norm(a[:, 0]), A3,
                 at=(MATRIX,))
    yield differ("fact_sign_of_vectors", lambda a: jnp.linalg.eigh(a + a.T)[1][:, 0],
                 lambda a: -jnp.linalg.eigh(a + a.T)[1][:, 0], A3, at=(MATRIX,))
    yield differ("fact_solver_not_a_solver",
                 lambda a, b: lax.custom_linear_solve(partial(jnp.matmul, a), b, lambda mv, c: mv(c), symmetric=True),
                 lambda a, b: jnp.linalg.solve(a, b), A3, X3, at=(MATRIX, UP))
    yield equal("fact_solve_with_rows", with_rows, jnp.linalg.solve, A3 + 3 * jnp.eye(3), B3)
    yield equal("fact_two_by_two", jnp.linalg.inv, lambda a: jnp.array([[a[1, 1], -a[0, 1]], [-a[1, 0], a[0, 0]]]) /
                (a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]), drawn(2, 2) + 2 * jnp.eye(2))
    yield equal("fact_det_of_product", lambda a: jnp.linalg.det(a @ a), lambda a: jnp.linalg.det(a) ** 2,
                A3 + 3 * jnp.eye(3))
    yield equal("fact_cho_solve", lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(gram(a)), b),
                lambda a, b: jnp.linalg.solve(gram(a), b), A3, B3)
    yield equal("fact_adjugate", lambda a: jnp.linalg.det(a) * jnp.linalg.inv(a).T, jax.grad(jnp.linalg.det),
                A3 + 3 * jnp.eye(3))
    yield equal("fact_whitening", lambda a, x: jnp.sum(jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(gram(a)),
                x, lower=True) ** 2), lambda a, x: x @ jnp.linalg.solve(gram(a), x), A3, X3)
    yield equal("fact_cross_by_determinants", lambda x, y: jnp.cross(x, y), lambda x, y: jnp.stack([x[1] * y[2] - x[2] *
                y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]), X3, Y3)
    yield equal("fact_rank_one_update", lambda a, x: jnp.linalg.inv(a + jnp.outer(x, x)),
                lambda a, x: (lambda i: i - jnp.outer(i @ x, x @ i) / (1 + x @ i @ x))(jnp.linalg.inv(a)),
                A3 + 4 * jnp.eye(3), X3)


def domains() -> Iterator[Case]:
    """Functions that are not defined everywhere: one of the two is NaN on a set of positive measure."""

    def nan(name: str, f: Function, g: Function, *args: Any, at: tuple) -> Case:
        return differ(f"domain_{name}", f, g, *args, at=at, kind="domain")

    yield nan("never_defined", lambda x: jnp.sqrt(-1 - x * x) ** 2, lambda x: -1 - x * x, X3, at=(UP,))
    yield nan("log_of_minus_square", lambda x: jnp.exp(jnp.log(-x * x)), lambda x: -x * x, X3, at=(UP,))
    yield nan("log_minus_itself", lambda x: jnp.log(x) - jnp.log(x), lambda x: 0 * x, X3, at=(DOWN,))
    yield nan("root_times_zero", lambda x: x + 0 * jnp.sqrt(x), lambda x: x * 1.0, X3, at=(DOWN,))
    yield nan("acos_minus_itself", lambda x: jnp.arccos(x) - jnp.arccos(x) + x, lambda x: x * 1.0, X3, at=(UP + 1,))
    yield nan("log1p_of_expm1", lambda x: jnp.expm1(jnp.log1p(x)), lambda x: x * 1.0, X3, at=(DOWN * 2,))
    yield nan("cube_root_by_power", lambda x: x ** (1 / 3), jnp.cbrt, W3, at=(DOWN,))
    yield nan("two_thirds_by_power", lambda x: x ** (2 / 3), lambda x: jnp.cbrt(x) ** 2, W3, at=(DOWN,))
    yield nan("square_by_exp", lambda x: jnp.exp2(2 * jnp.log2(x)), jnp.square, X3, at=(DOWN,))
    yield nan("softmax_of_logs", lambda x: jnp.exp(jnp.log(x) - jax.nn.logsumexp(jnp.log(x))), lambda x: x / x.sum(),
              X3, at=(np.array([1.0, -1, 2]),))
    yield nan("geometric_mean", lambda x: jnp.exp(jnp.log(x).sum()), jnp.prod, X3, at=(np.array([1.0, -1, -2]),))
    yield nan("entropy_of_relu", lambda x: relu(x) * jnp.log(relu(x)),
              lambda x: jnp.where(x > 0, x * jnp.log(jnp.abs(x)), 0.0), X3, at=(DOWN,))
    yield nan("relu_over_itself", lambda x: relu(x) / relu(x) * relu(x), relu, X3, at=(DOWN,))
    yield nan("masked_mean", lambda x, y: (x * (y > 0)).sum() / (y > 0).sum() * (y > 0).sum(),
              lambda x, y: (x * (y > 0)).sum(), X3, Y3, at=(UP, DOWN))
    yield nan("unit_vector_of_relus",
              lambda x: relu(x) / jnp.sqrt(jnp.sum(relu(x) ** 2)) * jnp.sqrt(jnp.sum(relu(x) ** 2)), relu, X3,
              at=(DOWN,))
    yield nan("floor_over_itself", lambda x: x * jnp.floor(x) / jnp.floor(x), lambda x: x * 1.0, X3, at=(UP / 10,))
    yield nan("residual_over_itself", lambda x: (x - jnp.clip(x, -1, 1)) / (x - jnp.clip(x, -1, 1)) * x,
              lambda x: x * 1.0, X3, at=(UP / 10,))
    yield nan("gap_of_twins", lambda x: x * (jnp.maximum(x, 0) - x) / (jnp.maximum(x, 0) - x), lambda x: x * 1.0, X3,
              at=(UP,))
    yield nan("root_of_relu_derivative", jax.grad(lambda x: (jnp.sqrt(x * (x > 0)) ** 2).sum()),
              lambda x: (x > 0) * 1.0 + 0 * x, X3, at=(DOWN,))
    yield nan("where_after_the_fact", jax.grad(lambda x: jnp.where(x > 0, x * jnp.log(x), 0.0).sum()),
              lambda x: jnp.where(x > 0, 1 + jnp.log(x), 0.0), X3, at=(DOWN,))
    yield nan("norm_of_nothing", jax.grad(lambda x: jnp.sqrt(((x * (x > 0)) ** 2).sum())),
              lambda x: relu(x) / jnp.maximum(jnp.linalg.norm(relu(x)), 1e-30), X3, at=(DOWN,))
    yield nan("variance_of_signs", lambda x: jnp.sign(x) * jnp.var(jnp.sign(x)) / jnp.var(jnp.sign(x)), jnp.sign, X3,
              at=(UP,))
    yield differ("domain_poles_cancel", lambda x: relu(x) * (1 / relu(x)) + x, lambda x: 1 + x, X3, at=(DOWN,),
                 kind="domain")
    yield differ("domain_infinite_log", lambda x: jnp.log(relu(x)) - jnp.log(2 * relu(x)) + jnp.log(2 * relu(x)),
                 lambda x: jnp.log(relu(x)), X3, at=(DOWN,), kind="domain")
    yield equal("domain_safe_divide", lambda x: jnp.where(x > 0, x / jnp.where(x > 0, x, 1.0), 0.0),
                lambda x: (x > 0) * 1.0 + 0 * x, X3)
    yield equal("domain_safe_log", lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), 0.0),
                lambda x: jnp.log(jnp.where(x > 0, x, 1.0)), X3)
    yield equal("domain_guarded_mean", lambda x, y: (x * (y > 0)).sum() / jnp.maximum((y > 0).sum(), 1),
                lambda x, y: jnp.where(y > 0, x, 0.0).sum() / jnp.where((y > 0).any(), (y > 0).sum(), 1), X3, Y3)
    yield equal("domain_abs_by_root", lambda x: jnp.sqrt(x * x), jnp.abs, X3)
    yield equal("domain_asinh", lambda x: jnp.log(x + jnp.sqrt(x * x + 1)), jnp.arcsinh, X3)
    yield equal("domain_cube_root_cubed", lambda x: jnp.cbrt(x) ** 3, lambda x: x * 1.0, X3)
    yield equal("domain_root_of_exp", lambda x: jnp.sqrt(jnp.exp(x)), lambda x: jnp.exp(x / 2), X3)
    yield equal("domain_power_of_positive", lambda x, y: x**y, lambda x, y: jnp.exp(y * jnp.log(x)), jnp.abs(X3), Y3)


def control_flow() -> Iterator[Case]:
    """Branches, loops and scans: indices that are clamped, ends that rounding decides, nested loops."""
    i32 = jnp.int32

    def counted(step: float, end: float, dtype: Any) -> Function:
        """As many times x as steps are taken from 0 to the end, in this dtype."""
        def f(x: Any) -> Any:
            start = (number(0, dtype), 0 * x)
            last, more = jnp.asarray(end, dtype), jnp.asarray(step, dtype)
            return lax.while_loop(lambda s: s[0] < last, lambda s: (s[0] + more, s[1] + x), start)[1]

        return f

    def halved(x: Any) -> Any:
        """Halves until all are below one."""
        return lax.while_loop(lambda v: (jnp.abs(v) > 1).any(), lambda v: v / 2, x)

    def stopped(late: bool) -> Function:
        def step(carry: Any, v: Any) -> Any:
            done, s = carry
            now = done | (v > 0)
            return (now, jnp.where(done if late else now, s, s + v)), None

        return lambda x: lax.scan(step, (jnp.array(False), 0 * x[0]), x)[0][1]

    def both(x: Any, y: Any) -> Any:
        index = (x[0] > 0).astype(i32) + (y[0] > 0).astype(i32)
        return lax.switch(index, [lambda v: v, lambda v: 2 * v], x)

    yield differ("flow_steps_in_float32", counted(0.3, 3.0, jnp.float32), lambda x: 10 * x, X3, at=(UP,))
    yield differ("flow_steps_in_bfloat16", counted(0.01, 1.0, jnp.bfloat16), lambda x: 100 * x, X3, at=(UP,))
    yield differ("flow_steps_in_float16", counted(0.001, 1.0, jnp.float16), lambda x: 1000 * x, X3, at=(UP,))
    yield differ("flow_switch_of_two_clamped", both, lambda x, y: jnp.where((x[0] > 0) ^ (y[0] > 0), 2 * x, x), X3, Y3,
                 at=(UP, UP))
    yield differ("flow_branch_on_relu", lambda x: lax.cond(relu(x[0]) >= 0, lambda v: v, lambda v: 3 * v, x),
                 lambda x: lax.cond(relu(x[0]) > 0, lambda v: v, lambda v: 3 * v, x), X3, at=(DOWN,))
    yield differ("flow_branch_on_floor", lambda x: lax.cond(jnp.floor(x[0]) != 0, lambda v: v, lambda v: 3 * v, x),
                 lambda x: x * 1.0, X3, at=(UP / 10,))
    yield differ("flow_branch_on_square",
                 lambda x: lax.cond(((x - jnp.max(x)) ** 2)[2] > 0, lambda v: v, lambda v: 3 * v, x), lambda x: x * 1.0,
                 X3, at=(UP,))
    yield differ("flow_scan_with_zero_gate",
                 lambda x: lax.scan(lambda c, v: (jnp.where(relu(v) == 0, 9.0, c + v), c), 0 * x[0], x)[0],
                 lambda x: x.sum(), X3, at=(DOWN,))
    yield differ("flow_scan_with_sign_gate",
                 lambda x: lax.scan(lambda c, v: (c + jnp.sign(relu(v)), None), 0 * x[0], x)[0],
                 lambda x: lax.scan(lambda c, v: (c + jnp.where(relu(v) > 0, 1.0, -1.0), None), 0 * x[0], x)[0], X3,
                 at=(DOWN,))
    yield differ("flow_nested_scan_bias", lambda a: lax.scan(lambda c, r: (lax.scan(lambda d, v: (d + (v + -1e9), None),
                 c, r)[0], None), 0 * a[0, 0], a)[0], lambda a: lax.scan(lambda c, r: (lax.scan(lambda d, v: (d + (v +
                 -2e9), None), c, r)[0], None), 0 * a[0, 0], a)[0], A3, at=(MATRIX,))
    yield differ("flow_one_turn_more", lambda x: lax.fori_loop(0, 100, lambda i, v: v * 1.0000001, x),
                 lambda x: lax.fori_loop(0, 101, lambda i, v: v * 1.0000001, x), W3, at=(UP,))
    yield differ("flow_loop_until_small", halved, lambda x: x / 2, X3, at=(UP * 8,))
    yield differ("flow_stops_before_or_after", stopped(True), stopped(False), X5, at=(FIVE,))
    yield differ("flow_not_associative", lambda x: lax.associative_scan(jnp.subtract, x),
                 lambda x: lax.scan(lambda c, v: (c - v, c - v), 0 * x[0], x)[1], X5, at=(FIVE,))
    yield equal("flow_horner",
                lambda x: lax.scan(lambda c, v: (c * x + v, None), 0 * x, jnp.arange(1.0, 6).astype(x.dtype))[0],
                lambda x: x**4 + 2 * x**3 + 3 * x**2 + 4 * x + 5, X3)
    yield equal("flow_segments", lambda x: lax.scan(lambda c, r: lax.scan(lambda d, v: (0.5 * d + v, d), c, r), 0 *
                x[0], x.reshape(2, 3))[1].ravel(), lambda x: lax.scan(lambda c, v: (0.5 * c + v, c), 0 * x[0], x)[1],
                drawn(6))
    yield equal("flow_linear_recurrence",
                lambda a, x: lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (a, x))[1],
                lambda a, x: lax.scan(lambda c, v: (v[0] * c + v[1],) * 2, 0 * x[0], (a, x))[1], X5, Y5)
    yield equal("flow_swapped_carry", lambda x, y: lax.fori_loop(0, 6, lambda i, s: (s[1], s[0]), (x, y))[0],
                lambda x, y: x * 1.0, X3, Y3)
    yield equal("flow_power_by_squaring", lambda x: lax.while_loop(lambda s: s[0] > 0, lambda s: (s[0] // 2,
                jnp.where(s[0] % 2 == 1, s[1] * s[2], s[1]), s[2] * s[2]), (jnp.array(13), jnp.ones_like(x), x))[1],
                lambda x: x**13, X3)
    yield equal("flow_branch_as_choice", lambda x: lax.cond(x[0] > x[1], lambda v: v[::-1], lambda v: v, x),
                lambda x: jnp.where(x[0] > x[1], x[::-1], x), X3)
    yield equal("flow_map", lambda a: lax.map(lambda r: r / r.sum(), jnp.abs(a)),
                lambda a: jnp.abs(a) / jnp.abs(a).sum(1, keepdims=True), A3)
    yield equal("flow_platform", lambda x: lax.platform_dependent(x, cpu=lambda v: v + v, default=lambda v: 2 * v),
                lambda x: 2 * x, X3)


def judged(rule: Any, **more: Any) -> Function:
    """``handprop.verify`` of this rule in place of ``equivalent``."""
    def call(f: Function, g: Function, *args: Any, skip: Any = ()) -> Any:
        import handprop

        return handprop.verify(rule, *args, skip=skip, **more)

    return call


def judged_gradient(hand: Function, loss: Function, **more: Any) -> Function:
    """``handprop.verify_gradient`` in place of ``equivalent``."""
    def call(f: Function, g: Function, *args: Any, skip: Any = ()) -> Any:
        import handprop

        return handprop.verify_gradient(hand, loss, *args, skip=skip, **more)

    return call


def pulled(f: Function) -> Function:
    """The gradients of the sum of f, by all arguments."""
    return lambda *xs: jax.grad(lambda *ys: f(*ys).sum(), tuple(range(len(xs))))(*xs)


def rules() -> Iterator[Case]:
    """Custom rules: primals other than their fwd, symbolic zeros, static arguments; learners' gradients."""

    def vjp_case(name: str, primal: Function, bwd: Function, *args: Any, at: tuple | None = None,
                 residual: Function | None = None, **more: Any) -> Case:
        """A rule whose backward pass sees what ``residual`` keeps, the arguments themselves by default."""
        rule = with_vjp(primal, lambda *xs: (primal(*xs), residual(*xs) if residual else xs), bwd)
        made: Any = equal if at is None else partial(differ, at=at)
        return made(f"rule_{name}", pulled(rule), pulled(primal), *args, call=judged(rule), **more)

    def clip(x: Any) -> Any:
        return jnp.clip(x, -1, 1)

    yield vjp_case("relu_by_output", relu, lambda y, g: (g * (y >= 0),), X3, at=(DOWN,), residual=relu)
    yield vjp_case("clip_by_output", clip, lambda y, g: (g * ((y >= -1) & (y <= 1)),), X3, at=(UP + 1,), residual=clip)
    yield vjp_case("gate_by_activity", lambda x, v: v * (relu(x) > 0), lambda res, g: (0 * g, g * (relu(res[0]) >= 0)),
                   X3, Y3, at=(DOWN, UP))
    yield vjp_case("gate_by_largest", lambda x, v: jnp.where(x >= jnp.max(x), v, 0.0),
                   lambda res, g: (0 * g, g * (res[0] > jnp.max(res[0]))), X5, Y5, at=(FIVE, FIVE))
    yield vjp_case("gate_by_level", lambda x, v: jnp.where(jnp.floor(x) > 0, v, 0.0),
                   lambda res, g: (0 * g, g * (jnp.floor(res[0]) >= 0)), X3, Y3, at=(UP / 10, UP))
    yield vjp_case("maximum_on_both_sides", jnp.maximum, lambda res, g: (g * (res[2] <= res[0]), g * (res[2] < res[1])),
                   X3, Y3, at=(DOWN, UP), residual=lambda x, y: (x, y, jnp.maximum(x, y)))
    yield vjp_case("soft_threshold_by_output", lambda x: jnp.sign(x) * relu(jnp.abs(x) - 1),
                   lambda y, g: (g * jnp.sign(y) ** 2,), X3, residual=lambda x: jnp.sign(x) * relu(jnp.abs(x) - 1))
    yield vjp_case("identity_where_not_zero", lambda x: x * 1.0, lambda res, g: (g * (relu(res[0]) != 0),), X3,
                   at=(DOWN,))
    yield vjp_case("exp_that_is_positive", jnp.exp, lambda res, g: (g * jnp.where(res[0] ** 2 * (res[0] > 0) ** 2 >= 0,
                   jnp.exp(res[0]), 0.0) * jnp.where(jnp.square(jnp.floor(res[0])) > 0, 1.0, 2.0),), X3, at=(UP / 10,))
    yield vjp_case("dead_unit_restart", lambda x: x.sum(),
                   lambda res, g: (jnp.where(relu(res[0]).sum() == 0, 5 * g, g) + 0 * res[0],), X3, at=(DOWN,))
    yield vjp_case("masked_by_large_number", lambda x: x + -1e9, lambda res, g: (g * 1.0,), X3)
    yield vjp_case("scores_of_large_bias", lambda x: x * -1e9, lambda res, g: (g * -3e9,), X3, at=(UP,))
    yield vjp_case("cube_root_as_power", lambda x: jnp.cbrt(x), lambda res, g: (g / 3 * res[0] ** (-2 / 3),), W3,
                   at=(DOWN,), kind="domain")
    yield vjp_case("sum_without_shape", lambda x, b: x + b, lambda res, g: (g, g.mean(0)), A3, X3, at=(MATRIX, UP))
    yield vjp_case("pivots_forgotten", lambda a: jnp.log(jnp.abs(jnp.linalg.det(a))),
                   lambda res, g: (g * lax.linalg.triangular_solve(lax.linalg.lu(res[0])[0],
                   lax.linalg.triangular_solve(lax.linalg.lu(res[0])[0], jnp.eye(3, dtype=res[0].dtype), left_side=True,
                   lower=True, unit_diagonal=True), left_side=True).T,), A3, at=(MATRIX,))
    yield vjp_case("relu_by_nonzero_output", relu, lambda y, g: (g * (y != 0),), X3, residual=relu)
    yield vjp_case("root_by_output", jnp.sqrt, lambda y, g: (g / (2 * y),), jnp.abs(X3), residual=jnp.sqrt,
                   signed=False)
    yield vjp_case("tanh_by_output", jnp.tanh, lambda y, g: (g * (1 - y) * (1 + y),), X3, residual=jnp.tanh)
    yield vjp_case("abs_by_ratio", jnp.abs, lambda res, g: (g * res[0] / jnp.where(res[0] == 0, 1.0, jnp.abs(res[0])),),
                   X3)
    yield vjp_case("norm_by_output", lambda x: jnp.sqrt((x * x).sum()),
                   lambda res, g: (g * res[0] / jnp.sqrt((res[0] ** 2).sum()),), X3)
    yield vjp_case("softmax_by_output", lambda x: jax.nn.softmax(x), lambda y, g: (y * (g - (g * y).sum()),), X3,
                   residual=jax.nn.softmax)
    yield vjp_case("determinant", jnp.linalg.det,
                   lambda res, g: (g * jnp.linalg.det(res[0]) * jnp.linalg.inv(res[0]).T,), A3 + 3 * jnp.eye(3))

    fwd_only = with_vjp(lambda x: x * x + 5, lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    yield differ("rule_primal_beside_reference", fwd_only, jnp.square, X3, at=(UP,),
                 call=judged(fwd_only, reference=jnp.square))
    index_wrong = with_vjp(lambda x: (x * 2, jnp.argmax(x)), lambda x: ((x * 2, jnp.argmin(x)), None),
                           lambda _, g: (2 * g[0],))
    yield differ("rule_integer_output_of_fwd", lambda x: jax.vjp(index_wrong, x)[0][1] * x.sum(),
                 lambda x: jnp.argmax(x) * x.sum(), X5, at=(FIVE,), call=judged(index_wrong))
    also_index = with_vjp(lambda x: (x * 2, jnp.argmin(x)), lambda x: ((x * 2, jnp.argmax(x)), None),
                           lambda _, g: (2 * g[0],))
    yield differ("rule_integer_output_beside_reference", lambda x: also_index(x)[1] * x.sum(),
                 lambda x: jnp.argmax(x) * x.sum(), X5, at=(FIVE,),
                 call=judged(also_index, reference=lambda x: (x * 2, jnp.argmax(x))))

    @jax.custom_jvp
    def shifted(x: Any) -> Any:
        return jnp.sin(x) + 1

    shifted.defjvp(lambda p, t: (jnp.sin(p[0]), jnp.cos(p[0]) * t[0]))
    yield differ("rule_jvp_primal_beside_reference", shifted, jnp.sin, X3, at=(UP,),
                 call=judged(shifted, reference=jnp.sin))

    def symbolic_fwd(x: Any, y: Any) -> Any:
        return x.value * y.value, (x.value, y.value, y.perturbed)

    symbolic = with_vjp(lambda x, y: x * y, symbolic_fwd,
                        lambda res, g: (g * res[1] * (1 if res[2] else 7), g * res[0]),
                        symbolic_zeros=True)
    yield differ("rule_symbolic_zero", jax.grad(lambda x, y: symbolic(x, y).sum()), lambda x, y: y * 1.0, X3, Y3,
                 at=(UP, UP), call=judged(symbolic, argnums=(0, 1)))

    @jax.custom_jvp
    def jvp_symbolic(x: Any, y: Any) -> Any:
        return x * y

    def jvp_rule(primals: Any, tangents: Any) -> Any:
        (x, y), (dx, dy) = primals, tangents
        if type(dy).__name__ == "SymbolicZero":
            return x * y, 7 * y * dx
        if type(dx).__name__ == "SymbolicZero":
            return x * y, x * dy
        return x * y, y * dx + x * dy

    jvp_symbolic.defjvp(jvp_rule, symbolic_zeros=True)
    yield differ("rule_jvp_symbolic_zero", jax.grad(lambda x, y: jvp_symbolic(x, y).sum()), lambda x, y: y * 1.0, X3,
                 Y3, at=(UP, UP), call=judged(jvp_symbolic))

    powered = jax.custom_vjp(lambda x, n: x**n, nondiff_argnums=(1,))
    powered.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (2 * x ** (n - 1) * g,))
    yield differ("rule_static_exponent", lambda x, n: jax.grad(lambda v: powered(v, 3).sum())(x) if n == 3 else 2 * x,
                 lambda x, n: n * x ** (n - 1), X3, 2, at=(UP, 3), kind="as given",
                 call=lambda f, g, x, n, skip=(): judged(lambda v: powered(v, n))(f, g, x, skip=skip))
    placed = with_vjp(lambda x, i: x[i], lambda x, i: (x[i], x), lambda x, g: (jnp.zeros_like(x).at[0].set(g), None))
    yield differ("rule_slot_as_given", lambda x, i: jax.grad(placed)(x, i), lambda x, i: jax.grad(lambda v: v[i])(x),
                 X3, jnp.int32(0), at=(UP, np.int32(2)), kind="as given", call=judged(placed))
    flat = with_vjp(jnp.sin, lambda x: (jnp.sin(x), lax.stop_gradient(jnp.cos(x))), lambda c, g: (g * c,))
    yield differ("rule_second_derivative_lost", pulled(lambda x: jax.grad(lambda v: flat(v).sum())(x)),
                 pulled(lambda x: jnp.cos(x)), X3, at=(UP,), call=judged(flat, order=2))
    batched = jax.custom_batching.custom_vmap(lambda v: 2 * v)
    batched.def_vmap(lambda size, is_batched, v: (3 * v, True))
    yield differ("rule_of_vmap", jax.vmap(batched), lambda x: 2 * x, X3, at=(UP,))
    inside = with_vjp(lambda x: x * x, lambda x: (x * x, x), lambda x, g: (g * x,))
    yield differ("rule_inside_jit_and_scan",
                 jax.grad(lambda x: lax.scan(lambda c, v: (c + jax.jit(inside)(v), None), 0 * x[0], x)[0]),
                 lambda x: 2 * x, X3, at=(UP,))
    text = """
import jax
halved = jax.custom_vjp(lambda x: x * x)
halved.defvjp(lambda x: (x * x, x), lambda x, g: (g * x,))
"""
    space: dict[str, Any] = {}
    exec(compile(text, "/project/jax/nn/own_layers.py", "exec"), space)
    own = space["halved"]
    yield differ("rule_in_a_folder_named_as_jaxs", pulled(own), lambda x: (2 * x,), X3, at=(UP,),
                 call=judged(lambda x: own(x) * 1.0))

    def mlp_loss(w: Any, x: Any) -> Any:
        return (relu(x @ w) ** 2).sum() / 2 + relu(x @ w).sum()

    def mlp_gradient(w: Any, x: Any) -> Any:
        h = relu(x @ w)
        return x.T @ ((h + 1) * (h >= 0))

    yield differ("gradient_of_relu_layer", mlp_gradient, jax.grad(mlp_loss), A3, A3 * 2,
                 at=(-np.abs(MATRIX), np.abs(MATRIX)), call=judged_gradient(mlp_gradient, mlp_loss))

    def hinge(w: Any, x: Any, y: Any) -> Any:
        return jnp.where(relu(1 - y * (x @ w)) > 0, 1 - y * (x @ w), 0.0).sum()

    def hinge_gradient(w: Any, x: Any, y: Any) -> Any:
        active = relu(1 - y * (x @ w)) >= 0
        return -(x.T @ (y * active))

    yield differ("gradient_of_hinge", hinge_gradient, jax.grad(hinge), X3, A3, Y3, at=(UP, MATRIX, UP),
                 call=judged_gradient(hinge_gradient, hinge))

    def pooled(x: Any, w: Any) -> Any:
        return (jnp.max(x.reshape(-1, 2), 1) * w).sum()

    def pooled_gradient(x: Any, w: Any) -> Any:
        pairs = x.reshape(-1, 2)
        return (jnp.where(pairs > jnp.max(pairs, 1, keepdims=True), 1.0, 0.0) * w[:, None]).ravel()

    yield differ("gradient_of_pooling", pooled_gradient, jax.grad(pooled), drawn(6), Y3, at=(np.arange(6.0), UP),
                 call=judged_gradient(pooled_gradient, pooled))

    def dice(x: Any, y: Any) -> Any:
        return -2 * (x * y).sum() / (x.sum() + y.sum())

    yield equal("gradient_of_dice",
                lambda x, y: -2 * (y * (x.sum() + y.sum()) - (x * y).sum()) / (x.sum() + y.sum()) ** 2, jax.grad(dice),
                jnp.abs(X3), jnp.abs(Y3), signed=False)

    def twice_largest(x: Any) -> Any:
        return jnp.max(jnp.concatenate([x, x]))

    def one_hot(x: Any) -> Any:
        return jax.nn.one_hot(jnp.argmax(x), 5, dtype=x.dtype)

    yield equal("gradient_of_tied_max", one_hot, jax.grad(twice_largest), X5,
                call=judged_gradient(one_hot, twice_largest))

    def ordered(x: Any) -> Any:
        return (jnp.sort(x) * np.array([1.0, 3.0], np.float32)).sum()

    def by_rank(x: Any) -> Any:
        return jnp.where(x > x[::-1], 3.0, 1.0) + 0 * x

    yield equal("gradient_of_pairs_sorted", by_rank, jax.grad(ordered), drawn(2),
                call=judged_gradient(by_rank, ordered))


def entries() -> Iterator[Case]:
    """What is not compared: integers and booleans that are returned, defaults, arguments of other kinds."""
    yield differ("entry_index_returned", lambda x: (x * 2, jnp.argmax(x)), lambda x: (x + x, jnp.argmin(x)), X5,
                 at=(FIVE,))
    yield differ("entry_mask_returned", lambda x: {"x": x * 2, "mask": x > 0}, lambda x: {"x": x + x, "mask": x > 2},
                 X3, at=(UP,))
    yield differ("entry_count_returned", lambda x: (x * 2, (x > 0).sum()), lambda x: (x + x, (x < 0).sum()), X3,
                 at=(UP,))
    yield differ("entry_step_returned", lambda x, i: (x * 2, i + 1), lambda x, i: (x + x, i + 2), X3, jnp.int32(0),
                 at=(UP, np.int32(0)))
    yield differ("entry_python_number_returned", lambda x: (x * 2, 3), lambda x: (x + x, 4), X3, at=(UP,))
    yield differ("entry_order_returned", lambda x: (x * 2, jnp.argsort(x)), lambda x: (x + x, jnp.argsort(-x)), X3,
                 at=(UP,))
    yield differ("entry_image_returned", lambda x: (x * 2, jnp.full(3, 200, jnp.uint8)),
                 lambda x: (x + x, jnp.full(3, 100, jnp.uint8)), X3, at=(UP,))
    yield differ("entry_truth_returned", lambda x: (x * 2, jnp.all(x > 0)), lambda x: (x + x, jnp.any(x > 0)), X3,
                 at=(np.array([1.0, -1, 1]),))
    yield differ("entry_key_returned", lambda x, k: (x * 2, jax.random.split(k)[0]),
                 lambda x, k: (x + x, jax.random.split(k)[1]), X3, jax.random.key(0),
                 why="both halves of a split are other keys")
    yield differ("entry_default_argument", lambda x, c=2.0: x * c, lambda x, c=3.0: x * c, X3, at=(UP,))
    yield differ("entry_number_argument", lambda x, c: x * c, lambda x, c: x * 2.0, X3, 2.0, at=(UP, np.array(3.0)))
    yield differ("entry_flag_as_given", lambda x, flag: jnp.where(flag, x, 2 * x), lambda x, flag: x * 1.0, X3, True,
                 at=(UP, np.array(False)), kind="as given")
    yield differ("entry_tree_order", lambda t: t["b"] - t["a"], lambda t: jax.tree.leaves(t)[0] - jax.tree.leaves(t)[1],
                 {"b": X3, "a": Y3}, at=({"b": UP, "a": DOWN},))
    yield differ("entry_only_integers", lambda x: (x > 0).sum(), lambda x: (x < 0).sum(), X3, at=(UP,))
    yield differ("entry_gradient_of_other_argument", lambda w, b: jax.grad(lambda v: ((w * v) ** 2).sum())(b),
                 jax.grad(lambda w, b: ((w * b) ** 2).sum()), X3, Y3, at=(UP, UP + 1),
                 call=judged_gradient(lambda w, b: 2 * w * w * b, lambda w, b: ((w * b) ** 2).sum()))
    yield equal("entry_empty", lambda x: jnp.concatenate([x, x]) * 2, lambda x: jnp.concatenate([x + x, x + x]),
                jnp.zeros((0, 3)))
    yield equal("entry_dictionary", lambda t: {"s": t["a"] + t["b"]}, lambda t: {"s": t["b"] + t["a"]},
                {"a": X3, "b": Y3})
    yield equal("entry_none_within", lambda t: (t[0] * 2, None), lambda t: (t[0] + t[0], None), (X3, None))
    yield equal("entry_plain_function", lambda x: jnp.sin(x) * x, lambda x: x * jnp.sin(x), X3,
                call=judged(lambda x: jnp.sin(x) * x))
    yield equal("entry_four_axes", lambda x: jnp.einsum("abcd->dcba", x), lambda x: x.transpose(3, 2, 1, 0),
                drawn(2, 1, 3, 2))
    yield equal("entry_same_index_returned", lambda x: (x * 2, jnp.argmax(x)), lambda x: (x + x, jnp.argmin(-x)), X5)
    yield equal("entry_half_precision", lambda x: x * 2, lambda x: x + x, drawn(3, dtype=jnp.float16), own=True)


def sizes() -> Iterator[Case]:
    """High degrees, long sums and one wrong entry among many."""
    many, xs = 100_001, drawn(100_001)
    ones, square, img = np.ones(many), wide(120, 120), wide(1, 1, 40, 40)
    kernel = wide(1, 1, 3, 3, seed=2)

    def convolved(x: Any, k: Any) -> Any:
        return lax.conv_general_dilated(x, k, (1, 1), "SAME")

    yield differ("size_last_entry", lambda x: x.at[-1].multiply(1 + 1e-7), lambda x: x * 1.0, wide(many), at=(ones,))
    yield differ("size_two_entries_swapped", lambda x: x.at[np.array([7, 99_990])].set(x[np.array([99_990, 7])]),
                 lambda x: x * 1.0, xs, at=(np.arange(many) * 1.0,))
    yield differ("size_one_of_a_product", lambda a: (a @ a).at[119, 0].add(1e-6 * a[0, 0]), lambda a: a @ a, square,
                 at=(np.ones((120, 120)),))
    yield differ("size_one_pixel", lambda x, k: convolved(x, k),
                 lambda x, k: convolved(x.at[0, 0, 39, 39].multiply(0.999), k), img, kernel,
                 at=(np.ones((1, 1, 40, 40)), np.ones((1, 1, 3, 3))))
    yield differ("size_last_turn_of_a_scan", lambda x: lax.scan(lambda c, v: (c + v, None), 0 * x[0], x)[0],
                 lambda x: lax.scan(lambda c, v: (c + v, None), 0 * x[0], x[:-1])[0] + 1.0001 * x[-1], wide(600),
                 at=(np.ones(600),))
    yield differ("size_rare_among_many", lambda x: jnp.where((x > 4.0) & (x < 4.001) & (jnp.floor(x) >= 4), 0.0, x),
                 lambda x: x * 1.0, xs, at=(np.full(many, 4.0005),))
    yield differ("size_strict_among_many", lambda x: jnp.where(jnp.floor(x) >= 3, 0.0, x),
                 lambda x: jnp.where(jnp.floor(x) > 3, 0.0, x), xs, at=(np.full(many, 3.5),))
    yield differ("size_sixty_squarings", lambda x: lax.fori_loop(0, 60, lambda i, v: v * v, x),
                 lambda x: lax.fori_loop(0, 60, lambda i, v: v * v, x) * 1.0000001, W3, at=(np.ones(3),))
    yield differ("size_of_a_power", lambda x: x ** (2**31), lambda x: x ** (2**31 - 1), W3, at=(np.full(3, 1 + 1e-8),))
    yield differ("size_series_cut", lambda x: total(x**k / float(np.prod(np.arange(1, k + 1.0))) for k in range(30)),
                 jnp.exp, W3, why="a polynomial is not the exponential")
    yield differ("size_tiny_factor", lambda x: x * (1 + 1e-14), lambda x: x * 1.0, W3, why="1 + 1e-14 is not 1")
    yield differ("size_tiny_addend", lambda x: x + 1e-300, lambda x: x * 1.0, W3, at=(np.zeros(3),))
    yield differ("size_many_roots", lambda x: jnp.prod(jnp.sqrt(x)) * 1.0, lambda x: jnp.sqrt(jnp.prod(x)),
                 jnp.abs(wide(36)), at=(np.where(np.arange(36) < 2, -1.0, 1.0),), kind="domain")
    yield equal("size_geometric_series", lambda x: total(x**k for k in range(40)) * (1 - x), lambda x: 1 - x**40, W3,
                high=0.9)
    yield equal("size_telescoping", lambda x: (1 / (x[:-1] * x[1:]) * (x[1:] - x[:-1])).sum(),
                lambda x: 1 / x[0] - 1 / x[-1], np.abs(wide(30)) + 0.5, signed=False)
    yield equal("size_binomial", lambda x: (1 + x) ** 24,
                lambda x: reduce(lambda c, _: c + c * x, range(24), jnp.ones_like(x)), W3)
    yield equal("size_long_dot", lambda x, y: x @ y, lambda x, y: (y * x).sum(), drawn(600_000), drawn(600_000, seed=1),
                low=0.5, high=1.0, signed=False)
    yield equal("size_nested_sines", lambda x: lax.fori_loop(0, 200, lambda i, v: jnp.sin(v), x),
                lambda x: lax.fori_loop(0, 100, lambda i, v: jnp.sin(jnp.sin(v)), x), W3)
    yield equal("size_solve", lambda a, b: jnp.linalg.solve(a, b), lambda a, b: jnp.linalg.inv(a) @ b,
                wide(60, 60) + 20 * np.eye(60), wide(60, 1))
    yield equal("size_all_of_many", lambda x: x * x * jnp.sign(x), lambda x: x * jnp.abs(x), wide(many))
    yield equal("size_blocks", lambda a: a @ a, lambda a: jnp.concatenate([a[:60] @ a, a[60:] @ a]), square)


def casts() -> Iterator[Case]:
    """Casts and reduced precision, which over the reals are nothing."""
    third = (single([1 / 3, 2 / 3, 1e-3]),)
    f16, b16 = jnp.float16, jnp.bfloat16

    def rounded(name: str, f: Function, g: Function = lambda x: x * 1.0, at: tuple = third) -> Case:
        return differ(f"cast_{name}", f, g, X3, at=at, own=True, kind="rounding")

    yield rounded("bfloat16", lambda x: x.astype(b16).astype(x.dtype))
    yield rounded("float16", lambda x: x.astype(f16).astype(x.dtype))
    yield rounded("float8", lambda x: x.astype(jnp.float8_e5m2).astype(x.dtype))
    yield rounded("reduced", lambda x: lax.reduce_precision(x, 8, 7))
    yield rounded("reduced_twice", lambda x: lax.reduce_precision(lax.reduce_precision(x, 8, 12), 8, 7),
                  lambda x: lax.reduce_precision(x, 8, 7),
                  at=(single([1 + 2**-8 + 2**-14, 1 + 2**-8 + 2**-15, 1 - 2**-9 + 2**-16]),))
    yield rounded("overflow", lambda x: x.astype(f16).astype(x.dtype), at=(single([1e6, 1e7, 1e8]),))
    yield rounded("underflow", lambda x: x.astype(f16).astype(x.dtype), at=(single([1e-9, 1e-10, 1e-11]),))
    yield rounded("sum_in_bfloat16", lambda x: jnp.sum(x.astype(b16), dtype=b16).astype(x.dtype), lambda x: x.sum())
    yield rounded("product_in_bfloat16", lambda x: jnp.dot(x.astype(b16), x.astype(b16)).astype(x.dtype),
                  lambda x: x @ x)
    yield rounded("residual_in_float16", lambda x: jnp.tanh(x).astype(f16).astype(x.dtype) ** 2,
                  lambda x: jnp.tanh(x) ** 2)
    yield rounded("compensation", lambda x: x - x.astype(b16).astype(x.dtype), lambda x: 0 * x)
    yield rounded("threshold", lambda x: jnp.where(x.astype(b16).astype(x.dtype) > x, 1.0, 0.0) + x, lambda x: x * 1.0)
    yield differ("cast_float32_of_float64", lambda x: x.astype(np.float32).astype(x.dtype), lambda x: x * 1.0, W3,
                 at=(UP / 3,), kind="rounding")
    yield differ("cast_truth_of_relu", lambda x: relu(x).astype(bool).astype(x.dtype), lambda x: jnp.ones_like(x), X3,
                 at=(DOWN,))
    yield differ("cast_truth_of_floor", lambda x: jnp.floor(x).astype(bool).astype(x.dtype), lambda x: jnp.ones_like(x),
                 X3, at=(UP / 10,))
    yield differ("cast_bits",
                 lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int32) + 1, jnp.float32),
                 lambda x: x * 1.0, X3, at=(single(UP),), own=True)
    yield differ("cast_to_integer_and_back", lambda x: x.astype(jnp.int32).astype(x.dtype), lambda x: jnp.floor(x), X3,
                 at=(DOWN * 1.3,))
    yield equal("cast_up_and_down", lambda x: x.astype(np.float64).astype(np.float32) * 2, lambda x: x + x, X3,
                own=True)
    yield equal("cast_truth_as_number", lambda x: (x > 0).astype(jnp.int32).astype(x.dtype),
                lambda x: jnp.where(x > 0, 1.0, 0.0) + 0 * x, X3)
    yield equal("cast_truncation_is_signed_floor", lambda x: jnp.trunc(x),
                lambda x: jnp.sign(x) * jnp.floor(jnp.abs(x)), X3)


SECTIONS: tuple[Callable[[], Iterator[Case]], ...] = (
    conditions, positivity, infinities, integers, decisions, state, labels, numbers, factorizations, domains,
    control_flow, rules, entries, sizes, casts,
)  # fmt: skip


def sections() -> dict[str, tuple[Case, ...]]:
    """All cases by section, those of the files that are written with the helpers above among them."""
    from corpus.red_team_counts import counts, not_finite
    from corpus.red_team_drawn import counted, drawn_alike, named, stood_in, undefined, widened
    from corpus.red_team_infinities import infinite, masks_carried, windows
    from corpus.red_team_parts import complex_parts, orthogonal, sized
    from corpus.red_team_relations import relations
    from corpus.red_team_roots import folded, roots_of_multiples, tied_maxima
    from corpus.red_team_solves import solves
    from corpus.red_team_types import analytic, bases, choices, dtypes, moves, types

    written = (*SECTIONS, relations, counts, not_finite, types, choices, moves, dtypes, bases, analytic, drawn_alike,
               counted, undefined, named, stood_in, widened, infinite, windows, masks_carried, solves, complex_parts,
               sized, orthogonal, folded, roots_of_multiples, tied_maxima)  # fmt: skip
    return {section.__name__: tuple(section()) for section in written}


def cases() -> dict[str, Case]:
    """All cases by name."""
    every = [case for section in sections().values() for case in section]
    named = {case.name: case for case in every}
    if len(named) < len(every):
        raise ValueError("two cases have one name")
    return named
