"""Pairs against what a proof counts and what it takes for a finite number.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with. A product of many truths is zero
unless all of them hold: where its decisions are counted as fewer than they are, a few runs seem to be enough. Claims
are only made where rare decisions meet. Functions, sums and casts return what is not finite.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.red_team import DOWN, INF, UP, X3, Y3, Case, Function, differ, drawn, number, product, relu

__all__ = ["counts", "not_finite"]

S, T = jnp.float32(0.7), jnp.float32(0.3)


def positive(x: Any) -> Any:
    return (x > 0).astype(x.dtype)


def signs(n: int) -> np.ndarray:
    return np.where(np.arange(n) % 3 == 0, 1.0, -1.0)


def alternating(x: Any) -> Any:
    """Of each entry whether it has the sign of its place, so that no input of one sign shows the product."""
    return positive(x * jnp.asarray(signs(x.shape[0]), x.dtype))


def nothing(x: Any) -> Any:
    return jnp.exp(x / 3) ** 3 - jnp.exp(x)


def folded(x: Any, ways: Sequence[bool]) -> Any:
    """A weighted sum by scans inside scans, each forwards or reversed."""
    if not ways:
        return x
    rest = ways[1:]
    return lax.scan(lambda c, row: (0.5 * c + folded(row, rest), None), jnp.zeros((), x.dtype), x, reverse=ways[0])[0]


def chosen(x: Any, i: Any) -> Any:
    """``x[i]`` by branches."""
    branches: list[Callable] = [lambda v, j=j: v[j] for j in range(x.shape[0])]
    return lax.switch(i, branches, x)


def by_two_keys(x: Any) -> Any:
    return lax.sort((x[:, None], (2 * x)[:, None]), dimension=1, num_keys=2)[0][:, 0]


def zero(x: Any) -> Any:
    return 0.0 * x


def counts() -> Iterator[Case]:
    """Decisions that one name stands for, ties of maxima, claims that few decisions meet."""
    x18, at18 = drawn(18), (signs(18),)
    yield differ(
        "count_split", lambda x: x[:1] * product(jnp.split(alternating(x), 18)), lambda x: zero(x[:1]), x18, at=at18
    )
    yield differ(
        "count_unstack", lambda x: x[0] * product(jnp.unstack(alternating(x))), lambda x: zero(x[0]), x18, at=at18
    )
    yield differ(
        "count_split_of_signs",
        lambda x: x[:1] * product(jnp.split(jnp.sign(x) + 1, 18)),
        lambda x: zero(x[:1]),
        x18,
        at=(np.ones(18),),
    )
    ways = list(itertools.product([False, True], repeat=4))
    yield differ(
        "count_reversed_scans",
        lambda x: x.sum() * product(positive(folded(x, way)) for way in ways),
        lambda x: zero(x.sum()),
        drawn(2, 2, 2, 2),
        at=(np.ones((2, 2, 2, 2)),),
    )
    yield differ(
        "count_branches_of_a_known_index",
        lambda x: x * product(positive(chosen(x, lax.iota(jnp.int32, 1)[0] + i)) for i in range(18)),
        zero,
        x18,
        at=(np.ones(18),),
    )
    yield differ(
        "count_branches_in_a_scan",
        lambda x: (
            x
            * lax.scan(
                lambda c, i: (c * (chosen(x * jnp.asarray(signs(18), x.dtype), i) > 0), None),
                jnp.ones((), x.dtype),
                jnp.arange(18),
            )[0]
        ),
        zero,
        x18,
        at=at18,
    )
    yield differ(
        "count_top_k_of_an_axis",
        lambda x: x[0] * (lax.top_k(x, 1, axis=0)[1][0] == 321).astype(x.dtype),
        lambda x: zero(x[0]),
        drawn(500, 2),
        at=((1 + np.eye(500)[321])[:, None] * np.ones(2),),
    )

    def half(i: int, dtype: Any) -> Any:
        return lax.bitcast_convert_type(number(1.0 + i, dtype), jnp.float16)[0].astype(dtype)

    def root(i: int, dtype: Any) -> Any:
        return jnp.sqrt(lax.iota(dtype, 3) * 0 + jnp.array([-1, 0, i + 1], dtype))[2]

    for name, threshold in (("halves", half), ("roots", root)):
        yield differ(
            f"count_thresholds_of_{name}",
            lambda x, t=threshold: x * product((x > t(i, x.dtype)).astype(x.dtype) for i in range(18)),
            zero,
            S,
            why="all thresholds are numbers, and x may be beyond them",
        )

    def beside_first(m: Any, v: Any) -> Any:
        return product(m - v[i] for i in range(1, v.shape[0]))

    falling = np.linspace(1.5, 0, 12)
    yield differ(
        "count_ties_of_a_running_maximum",
        lambda x: beside_first(lax.cummax(jnp.sin(x))[-1], jnp.sin(x)),
        lambda x: zero(x[0]),
        drawn(12),
        at=(falling,),
    )
    yield differ(
        "count_ties_of_running_floors",
        lambda x: beside_first(lax.cummax(jnp.floor(x))[-1], jnp.floor(x)),
        lambda x: zero(x[0]),
        drawn(12),
        at=(np.linspace(20, 2, 12),),
    )
    yield differ(
        "count_ties_of_a_window",
        lambda x: beside_first(lax.reduce_window(jnp.sin(x), -jnp.inf, lax.max, (12,), (1,), "VALID")[0], jnp.sin(x)),
        lambda x: zero(x[0]),
        drawn(12),
        at=(falling,),
    )
    yield differ(
        "count_ties_of_two",
        lambda x: jnp.prod(jnp.max(jnp.sin(x), 1) - jnp.sin(x)[:, 0]),
        lambda x: zero(x[0, 0]),
        drawn(12, 2),
        at=(np.stack([np.zeros(12), np.ones(12)], 1),),
    )
    yield differ(
        "count_mapped_logarithms",
        lambda x: x * jnp.prod(positive(lax.map(lambda r: jnp.log(r * r), x))),
        zero,
        drawn(11),
        at=(2 * np.ones(11),),
    )
    yield differ(
        "count_mapped_sines_and_cosines",
        lambda x: x * jnp.prod((lax.map(jnp.sin, x) > lax.map(jnp.cos, x)).astype(x.dtype)),
        zero,
        drawn(11),
        at=(np.full(11, 1.5),),
    )
    half20 = (np.full(20, 0.5),)
    yield differ(
        "count_mapped_floors",
        lambda x: relu(x) * jnp.prod((lax.map(jnp.floor, x) == 0).astype(x.dtype)),
        zero,
        drawn(20),
        at=half20,
    )
    yield differ(
        "count_mapped_identity",
        lambda x: (
            relu(x)
            * jnp.prod((lax.map(lambda r: jnp.arctan(jnp.tan(r)), x) == lax.map(lambda r: r * 1.0, x)).astype(x.dtype))
        ),
        zero,
        drawn(20),
        why="arctan(tan x) is x between -pi/2 and pi/2",
    )
    yield differ(
        "count_sorted_by_two_keys", lambda x: x * jnp.prod(positive(by_two_keys(x))), zero, drawn(11), at=(np.ones(11),)
    )
    yield differ(
        "count_equal_to_sorted",
        lambda x: relu(x) * jnp.prod((by_two_keys(x) == x).astype(x.dtype)),
        zero,
        drawn(20),
        at=(np.ones(20),),
    )

    def dilated(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1,), (1,), "VALID", base_dilation=(2,))[::2]

    yield differ(
        "count_equal_to_a_dilated_window",
        lambda x: relu(x) * jnp.prod((dilated(x) == x).astype(x.dtype)),
        zero,
        drawn(20),
        at=(np.ones(20),),
    )

    def rare(x: Any, y: Any) -> Any:
        return jnp.where(jnp.all(y > 0), nothing(x), 1.0)

    yield differ(
        "claim_of_few_decisions",
        lambda x, y: jnp.where(rare(x, y) == 0, 5.0, x),
        lambda x, y: x * 1.0,
        S,
        drawn(12),
        at=(np.float64(0), np.ones(12)),
    )
    yield differ(
        "claim_of_a_product",
        lambda x, y: jnp.where(jnp.prod(positive(y)) * nothing(x) == 0, x, 5.0),
        lambda x, y: jnp.where(jnp.all(y > 0), 5.0, x),
        S,
        drawn(11),
        at=(np.float64(0), np.ones(11)),
    )

    def out_of_range_and_back(x: Any) -> Any:
        for factor in (*[2.0**-120] * 10, *[2.0**120] * 10):
            x = x * factor
        return x

    yield differ(
        "claim_beyond_the_range",
        lambda x: jnp.where(out_of_range_and_back(jnp.exp(x / 3) ** 3 * jnp.exp(-x)) == 1, 5.0, x),
        lambda x: x * 1.0,
        S,
        why="over the reals it is 1 everywhere",
    )
    yield differ(
        "threshold_of_a_sum_that_rounds",
        lambda x, y: jnp.where(x > (number(2.0**60, x.dtype) + 1 - 2.0**60) * 1000, x, y),
        lambda x, y: jnp.where(x > 0, x, y),
        X3,
        Y3,
        why="over the reals the threshold is 1000",
    )
    yield differ(
        "threshold_of_a_reading",
        lambda x, y: jnp.where(x > (number(0.1, x.dtype) * 10 - 1) * 1e8, x, y) * (number(1 / 3, x.dtype) * 3),
        lambda x, y: jnp.where(x > np.float32(1.4901161), x, y),
        X3,
        Y3,
        why="0.1 read as a tenth makes the threshold 0",
    )


def not_finite() -> Iterator[Case]:
    """What is not finite, through functions and sums that take it for a number; casts to a smaller range."""
    known = np.array([-1.0, 0.0, 1.0], np.float32)

    def first(x: Any, y: Any) -> Any:
        return x * 1.0

    def own(x: Any) -> Any:
        return x * 1.0

    yield differ(
        "infinite_log_of_numbers",
        lambda x, y: jnp.where(jnp.isfinite(jnp.log(known)), x, y),
        first,
        X3,
        Y3,
        at=(UP, DOWN),
    )
    yield differ(
        "infinite_root_of_numbers", lambda x: jnp.sqrt(known) - jnp.sqrt(known) + x, own, X3, at=(UP,), kind="domain"
    )

    def called(x: Any) -> Any:
        return jax.pure_callback(
            lambda v: np.log(np.abs(np.asarray(v)) - 1.5), jax.ShapeDtypeStruct(x.shape, x.dtype), x
        )

    yield differ(
        "infinite_callback", lambda x, y: jnp.where(jnp.isfinite(called(x)), x, y), first, X3, Y3, at=(UP, DOWN)
    )

    def beyond(x: Any) -> Any:
        return jnp.concatenate([x * x, jnp.array([INF], x.dtype)])

    sums: dict[str, Function] = {
        "cumsum": lambda v: jnp.cumsum(v[::-1]),
        "cumprod": lambda v: jnp.cumprod(v[::-1]),
        "prod": jnp.prod,
        "dot": lambda v: v @ jnp.ones_like(v),
        "sort": lambda v: jnp.sort(v)[-1:],
        "window": lambda v: lax.reduce_window(v, 0.0, lax.add, (2,), (1,), "VALID")[-1:],
        "convolve": lambda v: jnp.convolve(v, jnp.ones(2, v.dtype))[-1:],
        "scatter": lambda v: jnp.zeros(4, v.dtype).at[np.zeros(4, int)].add(v)[:1],
        "cummax": lambda v: lax.cummax(v[::-1]),
        "cumlogsumexp": lambda v: lax.cumlogsumexp(v[::-1]),
    }
    for name, f in sums.items():
        yield differ(
            f"infinite_{name}",
            lambda x, y, f=f: jnp.where(jnp.all(jnp.isfinite(f(beyond(x)))), x, y),
            first,
            X3,
            Y3,
            at=(UP, DOWN),
        )
        yield differ(
            f"infinite_difference_of_{name}",
            lambda x, f=f: (f(beyond(x)) - f(beyond(x))).sum() + x,
            own,
            X3,
            at=(UP,),
            kind="domain",
        )
    yield differ(
        "infinite_scatter_max",
        lambda x, y: jnp.where(jnp.isfinite(x.at[np.arange(3)].max(jnp.full(3, INF, x.dtype))), x, y),
        first,
        X3,
        Y3,
        at=(UP, DOWN),
    )
    yield differ(
        "nan_of_nextafter",
        lambda x, y: jnp.where(jnp.isfinite(lax.nextafter(x, jnp.full(3, np.nan, x.dtype))), x, y),
        first,
        X3,
        Y3,
        at=(UP, DOWN),
    )
    yield differ(
        "nan_of_remainder",
        lambda x, y: jnp.where(jnp.isfinite(lax.rem(x, relu(y))), x, 5.0),
        first,
        X3,
        Y3,
        at=(UP, DOWN),
    )
    yield differ(
        "nan_of_remainders",
        lambda x, y: lax.rem(x, relu(y)) - lax.rem(x, relu(y)),
        lambda x, y: zero(x),
        X3,
        Y3,
        at=(UP, DOWN),
        kind="domain",
    )
    yield differ(
        "infinite_digamma",
        lambda x: lax.digamma(relu(x)) - lax.digamma(relu(x)) + x,
        own,
        X3,
        at=(DOWN,),
        kind="domain",
    )

    def solved(a: Any, b: Any) -> Any:
        return lax.linalg.triangular_solve(a[None, None], b[None, None], left_side=True, lower=True)[0, 0]

    def solved_by_lu(a: Any, b: Any) -> Any:
        matrix = jnp.stack([jnp.stack([a, 0 * a]), jnp.stack([0 * a, 0 * a + 1])])
        return jnp.linalg.solve(matrix, jnp.stack([b, b])[:, None])[0, 0]

    for way, solve in (("triangular", solved), ("lu", solved_by_lu)):
        for name, pivot, at in (("floor", jnp.floor, 0.5), ("nothing", nothing, 0.0)):
            yield differ(
                f"singular_{way}_{name}",
                lambda x, y, f=solve, g=pivot: f(g(x), g(x) * y),
                lambda x, y: y * 1.0,
                S,
                T,
                at=(np.float64(at), np.float64(2)),
                kind="domain",
            )
    yield differ(
        "singular_triangular_relu",
        lambda x, y: solved(relu(x), relu(x) * y),
        lambda x, y: y * 1.0,
        S,
        T,
        at=(np.float64(-1), np.float64(2)),
        kind="domain",
    )

    yield differ(
        "range_of_few_exponents",
        lambda x: lax.reduce_precision(x, 2, 23),
        own,
        X3,
        at=(np.array([10.0, 20, 30], np.float32),),
        own=True,
        kind="rounding",
    )
    yield differ(
        "range_of_half",
        lambda x: x.astype(jnp.float16).astype(jnp.bfloat16),
        own,
        X3.astype(jnp.bfloat16),
        at=(np.array([1e6, 1, 1], jnp.bfloat16),),
        own=True,
        kind="rounding",
    )
    yield differ(
        "range_of_float8",
        lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float8_e5m2),
        own,
        X3.astype(jnp.float8_e5m2),
        at=(np.array([1e4, 1, 1], jnp.float8_e5m2),),
        own=True,
        kind="rounding",
    )
