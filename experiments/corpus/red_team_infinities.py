"""Pairs against infinities and NaN in functions that the proof has no rule for, in windows that reach beyond an array,
and against numbers that stand for minus infinity where loops and branches carry them.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import erf, i0e

from corpus.red_team import DOWN, UP, X3, Case, differ, equal, relu, single

__all__ = ["infinite", "masks_carried", "windows"]

MASK = np.array([True, False, True])
SIDES = np.array([-1.0, 2.0, 3.0])
NOBODY = np.zeros((3, 0), np.float32)


def of_positive(x: Any, other: float = jnp.nan) -> Any:
    return jnp.where(x > 0, x, other)


def zero(x: Any, *rest: Any) -> Any:
    return 0 * x


def infinite() -> Iterator[Case]:
    """What erf, asinh and their like make of NaN and of an infinity."""
    written = {
        "erf": lambda x: erf(of_positive(x)),
        "bessel": lambda x: i0e(of_positive(x)),
        "asinh_of_quotient": lambda x: jnp.arcsinh(1 / relu(x)),
        "asinh_of_infinity": lambda x: jnp.arcsinh(of_positive(x, jnp.inf)),
        "acos_of_infinity": lambda x: jnp.arccos(of_positive(0 * x, jnp.inf) + of_positive(x, jnp.inf)),
        "atan2_of_root": lambda x: jnp.arctan2(jnp.sqrt(x), 1 + x * x),
    }
    for name, f in written.items():
        yield differ(f"infinite_{name}", lambda x, f=f: 0 * f(x), zero, X3, at=(DOWN,), kind="domain")
    yield differ("infinite_asked_for", lambda x: jnp.where(jnp.isinf(jnp.arcsinh(jnp.log(relu(x)))), 1.0, 0.0), zero,
                 X3, at=(DOWN,))  # fmt: skip
    yield differ("infinite_nan_of_atan", lambda x: jnp.where(jnp.isnan(jnp.arctan(jnp.sqrt(x))), 0.0, 1.0),
                 lambda x: jnp.ones_like(x), X3, at=(DOWN,))  # fmt: skip
    yield differ("infinite_sum_without_nan", lambda x: jnp.nansum(erf(jnp.log(x))), lambda x: jnp.sum(erf(jnp.log(x))),
                 X3, at=(SIDES,), kind="domain")  # fmt: skip
    yield differ("infinite_is_itself", lambda x: jnp.where(erf(of_positive(x)) == erf(of_positive(x)), 1.0, 0.0),
                 lambda x: jnp.ones_like(x), X3, at=(DOWN,))  # fmt: skip

    def less_itself(x: Any) -> Any:
        return jnp.arcsinh(jnp.log(relu(x))) - jnp.arcsinh(jnp.log(relu(x)))

    yield differ("infinite_less_itself", lambda x: jnp.exp(less_itself(x)), lambda x: jnp.ones_like(x), X3,
                 at=(DOWN,), kind="domain")  # fmt: skip
    segments = np.array([0, 1, 1])
    yield differ("infinite_empty_segment", lambda x: 0 * jax.ops.segment_max(x, segments, num_segments=4),
                 lambda x: jnp.zeros(4), X3, at=(UP,), kind="domain")  # fmt: skip
    yield equal("infinite_error_function", lambda x: erf(jnp.where(MASK, x, jnp.inf)),
                lambda x: jnp.where(MASK, erf(x), 1.0), X3)  # fmt: skip


def windows() -> Iterator[Case]:
    """The largest number of nothing, as in the holes of an array that is stretched, and in its padding."""

    def stretched(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1,), (1,), "VALID", base_dilation=(2,))

    def shifted(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1,), (1,), ((-1, 2),))

    yield differ("window_stretched", lambda x: 0 * stretched(x), lambda x: jnp.zeros(5), X3, at=(UP,),
                 kind="domain")  # fmt: skip
    yield differ("window_stretched_less_itself", lambda x: stretched(x) - stretched(x), lambda x: jnp.zeros(5), X3,
                 at=(UP,), kind="domain")  # fmt: skip
    yield differ("window_stretched_and_more", lambda x: jnp.where(stretched(x) == stretched(x) + 1, 1.0, 0.0),
                 lambda x: jnp.zeros(5), X3, at=(UP,))  # fmt: skip
    yield differ("window_shifted", lambda x: 0 * shifted(x), lambda x: jnp.zeros(4), X3, at=(UP,), kind="domain")
    yield differ("window_largest_of_nothing", lambda x: x + 0 * jnp.max(NOBODY, axis=1, initial=-jnp.inf), lambda x: x,
                 X3, at=(UP,), kind="domain")  # fmt: skip


def masks_carried() -> Iterator[Case]:
    """-1e9 is minus infinity to an exponential, and to nothing that makes it small before."""

    def looped(x: Any) -> Any:
        return lax.scan(lambda c, a: (c, jnp.where(a[1], a[0], -1e9)), 0.0, (x, MASK))[1]

    def mapped(x: Any) -> Any:
        return lax.map(lambda a: jnp.where(a[1], a[0], -1e9), (x, MASK))

    def branched(x: Any) -> Any:
        return lax.cond(x.sum() > 0, lambda: jnp.where(MASK, x, -1e9), lambda: jnp.where(MASK, 2 * x, -1e9))

    def kept(x: Any) -> Any:
        return jnp.where(MASK, jnp.exp(x * 1e-9), 0.0)

    yield differ("carried_by_scan", lambda x: jnp.exp(looped(x) * 1e-9), kept, X3, at=(UP,))
    yield differ("carried_by_map", lambda x: jnp.exp(mapped(x) * 1e-9), kept, X3, at=(UP,))
    yield differ("carried_by_branches", lambda x: jnp.exp(branched(x) * 1e-9),
                 lambda x: kept(jnp.where(x.sum() > 0, x, 2 * x)), X3, at=(UP,))  # fmt: skip
    yield differ("carried_to_a_sum", lambda x: jnp.exp(jnp.sum(looped(x)) / 1e9), lambda x: 0 * jnp.sum(x), X3,
                 at=(UP,))  # fmt: skip
    yield differ("carried_and_taken_back", lambda x: jnp.exp(jnp.where(MASK, x, jnp.where(MASK, x, -1e9) + 1e9)),
                 lambda x: jnp.where(MASK, jnp.exp(x), 0.0), X3, at=(UP,))  # fmt: skip
    for name, f in (("scan", looped), ("map", mapped)):
        yield equal(f"carried_by_{name}_to_a_softmax", lambda x, f=f: jax.nn.softmax(f(x)),
                    lambda x: jax.nn.softmax(jnp.where(MASK, x, -1e9)), single([0.3, -0.7, 1.1]))  # fmt: skip
