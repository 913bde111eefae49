"""Pairs against what a proof takes numbers in the text for, against roots of multiples and squares, and against maxima
of values that may be equal.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from corpus.red_team import DOWN, UP, W3, X3, X5, Y3, Case, differ, drawn, equal, relu

__all__ = ["folded", "roots_of_multiples", "tied_maxima"]

COUNT = np.array(3, np.int32)
P3, P5 = np.abs(X3) + 0.1, np.abs(X5) + 0.1
SHIFTS = {"few_ulps": 1.9e-9, "many_ulps": 3e-7}


# fmt: off
def folded() -> Iterator[Case]:
    """Literals close to a number that the other program computes, and further from it than rounding explains."""

    def counted(x: Any, decay: float = 0.999) -> Any:
        return x / (1 - decay ** jnp.asarray(COUNT))

    def rate(x: Any) -> Any:
        count = jnp.asarray(COUNT)
        return 0.1 * x * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)

    yield equal("folded_correction", counted, lambda x: x / (1 - 0.999**3), X3)
    yield equal("folded_correction_wide", counted, lambda x: x / (1 - 0.999**3), W3)
    yield equal("folded_rate", rate, lambda x: 0.1 * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3) * x, X3)
    yield equal("folded_rate_wide", rate, lambda x: 0.1 * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3) * x, W3)
    for name, shift in SHIFTS.items():
        yield differ(f"folded_correction_off_by_{name}", counted, lambda x, c=1 - 0.999**3 + shift: x / c, X3, at=(UP,))
        yield differ(f"folded_rate_off_by_{name}", rate,
                     lambda x, c=0.1 * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3) + 10 * shift: c * x, X3, at=(UP,))
    for power in (30, 36, 39):
        yield differ(f"folded_correction_wide_off_by_2_{power}", counted,
                     lambda x, c=(1 - 0.999**3) * (1 + 2.0**-power): x / c, W3, at=(UP,))
        yield differ(f"folded_rate_wide_off_by_2_{power}", rate,
                     lambda x, c=0.1 * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3) * (1 - 2.0**-power): c * x, W3, at=(UP,))
    yield differ("folded_by_another_count", counted, lambda x: x / (1 - 0.999**4), X3, at=(UP,))
    yield differ("folded_by_a_close_decay", counted, lambda x: x / (1 - 0.999001**3), X3, at=(UP,))
    yield differ("folded_root_for_number", rate, lambda x: 0.1 * (1 - 0.999**3) / (1 - 0.9**3) * x, X3, at=(UP,))
    yield differ("folded_with_the_other_sign", counted, lambda x: x / (0.999**3 - 1), X3, at=(UP,))
    yield differ("folded_two_alike", lambda x: counted(x) - counted(x, 0.9989999), lambda x: 0.0 * x, X3, at=(UP,))


def roots_of_multiples() -> Iterator[Case]:
    """Roots of multiples and squares whose sign is not kept, in one entry and in the product of several."""

    def by_root(x: Any) -> Any:
        return jnp.sqrt(x * x)

    ways = {
        "square": by_root, "power": lambda x: (x**2) ** 0.5, "half": lambda x: jnp.sqrt(x**2 * 0.25) * 2,
        "tenth": lambda x: jnp.sqrt(x * x / 10) * jnp.sqrt(10.0), "reciprocal": lambda x: x * x / jnp.sqrt(x * x),
        "inverse": lambda x: x * x * (1 / jnp.sqrt(x * x)), "fourth": lambda x: jnp.sqrt(jnp.sqrt(x**4)),
        "multiple": lambda x: jnp.sqrt((0.3 * x) ** 2) / 0.3, "sum": lambda x: jnp.sqrt(x * x + 0.0),
    }  # fmt: skip
    for name, way in ways.items():
        if name not in ("reciprocal", "inverse"):  # which are NaN at 0
            yield equal(f"root_of_{name}", way, jnp.abs, X3)
        yield differ(f"root_of_{name}_without_sign", way, lambda x: x * 1.0, X3, at=(DOWN,))
        yield differ(f"root_of_{name}_of_negatives", way, lambda x: -x, X3, at=(UP,))
        yield differ(f"root_of_{name}_on_one_side", lambda x, way=way: (way(x) - x) * relu(-x), lambda x: 0.0 * x, X3,
                     at=(DOWN,))
    for size in (3, 6, 9):
        # Nonzero for one choice of signs in 2^size.
        yield differ(f"root_signs_of_{size}", lambda x: jnp.prod(by_root(x) - x), lambda x: 0.0 * x[0], drawn(size),
                     at=(-jnp.ones(size),))
        yield differ(f"root_signs_decided_of_{size}",
                     lambda x: jnp.prod(by_root(0.3 * x) - 0.3 * x) / jnp.maximum(x[0] * x[0], 1e-9 * relu(x[1])),
                     lambda x: 0.0 * x[0], drawn(size), at=(-jnp.ones(size),))
        yield differ(f"root_signs_of_scaled_{size}", lambda x: jnp.prod(jnp.sqrt(x**2 * 0.1) - x * jnp.sqrt(0.1)),
                     lambda x: 0.0 * x[0], drawn(size), at=(-jnp.ones(size),))
    # The sign that a run decides is not that of the real root at the point where claims are tested.
    near = np.array([-0.078125, -0.25 + 0.046875, -0.75])

    def apart(x: Any) -> Any:
        a, b = jnp.sqrt(4 * x * x) * jnp.exp(x / 3) ** 3, -2 * x * jnp.exp(x)
        return jnp.where(a > b, x, jnp.where(b > a, x, 0.0))

    yield differ("root_claimed_apart", apart, lambda x: x * 1.0, X3, at=(near,))
    # Numbers that are no squares modulo half of the primes.
    for a, b in ((37.0, 41.0), (1999.0, 2003.0), (37.0, 37.0), (37.0, 37.0 * 43.0 * 43.0)):
        def rooted(c: float, x: Any) -> Any:
            return jnp.sqrt(jnp.full_like(x, c))

        yield equal(f"root_of_{a:.0f}_times_{b:.0f}", lambda x, a=a, b=b, r=rooted: r(a, x) * r(b, x) * x,
                    lambda x, c=a * b, r=rooted: r(c, x) * x, X3)
        yield differ(f"root_of_{a:.0f}_times_{b:.0f}_negative", lambda x, a=a, b=b, r=rooted: r(a, x) * r(b, x) * x,
                     lambda x, c=a * b, r=rooted: -r(c, x) * x, X3, at=(UP,))
        yield differ(f"root_of_{a:.0f}_over_{b:.0f}_negative", lambda x, a=a, b=b, r=rooted: r(a, x) / r(b, x) * x,
                     lambda x, c=a / b, r=rooted: -r(c, x) * x, X3, at=(UP,))

    def number(x: Any, c: float) -> Any:
        return jnp.full_like(x, c)

    for name, squared, root in (
        ("number", lambda x: number(x, 1369.0), lambda x: 37.0),
        ("quotient", lambda x: number(x, 1369.0) / 1681.0, lambda x: 37.0 / 41.0),
        ("irrational", lambda x: 3 + 2 * jnp.sqrt(number(x, 2.0)), lambda x: 1 + jnp.sqrt(number(x, 2.0))),
        ("product", lambda x: number(x, 37.0) * 1849.0, lambda x: 43.0 * jnp.sqrt(number(x, 37.0))),
    ):
        yield differ(f"root_of_squared_{name}", lambda x, s=squared: jnp.sqrt(s(x)) * x, lambda x, r=root: -r(x) * x,
                     X3, at=(UP,))
        if name in ("number", "quotient"):
            yield equal(f"root_of_square_of_{name}", lambda x, s=squared: jnp.sqrt(s(x)) * x,
                        lambda x, r=root: r(x) * x, X3)
    yield equal("root_of_quotient_by_number", lambda x: jnp.sqrt(x / 37), lambda x: jnp.sqrt(x) / jnp.sqrt(37.0), P5,
                signed=False)
    yield equal("root_of_mean", lambda x: jnp.sqrt(jnp.mean(x * x)), lambda x: jnp.sqrt(jnp.sum(x * x) * 0.2), X5)
    yield equal("root_of_sum_of_multiples", lambda x: jnp.sqrt(jnp.sum((0.3 * x) ** 2)),
                lambda x: 0.3 * jnp.sqrt(jnp.sum(x * x)), X5)
    yield differ("root_of_negative_multiple", lambda x: jnp.sqrt(-37 * x), lambda x: jnp.sqrt(37.0) * jnp.sqrt(x), P3,
                 at=(UP,), kind="domain")
    yield differ("root_of_other_multiple", lambda x: jnp.sqrt(37 * x), lambda x: 6.08 * jnp.sqrt(x), P3, at=(UP,))
    yield differ("root_of_part_of_a_sum", lambda x: jnp.sqrt(jnp.sum(37 * x)), lambda x: jnp.sum(jnp.sqrt(37 * x)), P3,
                 at=(UP,))


def tied_maxima() -> Iterator[Case]:
    """Maxima of values that are equal on a set that matters."""

    def both(x: Any, y: Any) -> tuple[Any, Any]:
        return relu(x), relu(y)

    def by_maximum(x: Any, y: Any) -> Any:
        a, b = both(x, y)
        largest = jnp.maximum(a, b)
        return jnp.where(largest == a, jnp.where(largest == b, 5.0, x), y)

    def by_comparison(x: Any, y: Any) -> Any:
        a, b = both(x, y)
        return jnp.where(a > b, x, y)

    yield differ("tied_maximum_equal_to_both", by_maximum, by_comparison, X3, Y3, at=(DOWN, DOWN))
    yield differ("tied_maximum_not_above", lambda x, y: jnp.where(jnp.maximum(*both(x, y)) > relu(y), x, y),
                 lambda x, y: jnp.where(relu(x) >= relu(y), x, y), X3, Y3, at=(DOWN, DOWN * 2))
    yield differ("tied_minimum_not_below", lambda x, y: jnp.where(jnp.minimum(*both(x, y)) < relu(y), x, y),
                 lambda x, y: jnp.where(relu(x) <= relu(y), x, y), X3, Y3, at=(DOWN, DOWN * 2))
    yield differ("tied_maximum_less_minimum",
                 lambda x, y: jnp.where(jnp.maximum(*both(x, y)) - jnp.minimum(*both(x, y)) == 0, 5.0, x),
                 lambda x, y: x + 0 * y, X3, Y3, at=(DOWN, DOWN))
    yield equal("tied_maximum_turned", lambda x, y: jnp.maximum(*both(x, y)),
                lambda x, y: jnp.maximum(*both(x, y)[::-1]), X3, Y3)
    yield equal("tied_maximum_of_sizes", lambda x, y: jnp.maximum(0.9 * jnp.abs(x), jnp.abs(y)),
                lambda x, y: jnp.maximum(jnp.abs(y), 0.9 * jnp.abs(x)), X3, Y3)
