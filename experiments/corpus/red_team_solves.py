"""Pairs against solutions by an LU factorization: its pivots matter to nothing but a solution.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import lu_factor, lu_solve
from jax.scipy.linalg import solve_triangular as triangular

from corpus.red_team import Case, differ, drawn, equal

__all__ = ["solves"]

A3, B3, X3 = drawn(3, 3, seed=5), drawn(3, 3, seed=6), drawn(3, seed=7)
SWAPPED = np.array([[0.1, 2.0, 0.3], [3.0, 0.2, 0.5], [0.4, 0.1, 2.0]])  # LAPACK exchanges rows of it
OTHER = np.array([[0.2, 0.1, 4.0], [0.3, 3.0, 0.5], [2.0, 0.1, 0.4]])
RIGHT = np.array([1.0, -2.0, 0.5])


def permutation(a: Any) -> Any:
    """The rows of a matrix in the order in which LAPACK takes them."""
    _, pivots = lu_factor(a)
    order = jnp.arange(3)
    for k in range(3):
        order = order.at[k].set(order[pivots[k]]).at[pivots[k]].set(order[k])
    return order


def by_steps(packed: Any, order: Any, b: Any) -> Any:
    below = triangular(packed, b[order], lower=True, unit_diagonal=True)
    return triangular(packed, below, lower=False)


def solves() -> Iterator[Case]:
    at, both = (SWAPPED, RIGHT), (SWAPPED, OTHER, RIGHT)
    yield differ("solve_rows_of_b", lambda a, b: b[permutation(a)], lambda a, b: b + 0 * a[0], A3, X3, at=at)
    yield differ("solve_weighted_rows", lambda a, b: jnp.arange(3.0) * b[permutation(a)],
                 lambda a, b: jnp.arange(3.0) * b + 0 * a[0], A3, X3, at=at)  # fmt: skip
    yield differ("solve_half_way", lambda a, b: triangular(lu_factor(a)[0], b, lower=True, unit_diagonal=True),
                 lambda a, b: b + 0 * a[0], A3, X3, at=at)  # fmt: skip
    yield differ("solve_without_rows", lambda a, b: by_steps(lu_factor(a)[0], jnp.arange(3), b),
                 lambda a, b: jnp.linalg.solve(a, b), A3, X3, at=at)  # fmt: skip
    yield differ("solve_with_rows_of_another", lambda a, c, b: by_steps(lu_factor(a)[0], permutation(c), b),
                 lambda a, c, b: jnp.linalg.solve(a, b), A3, B3, X3, at=both)  # fmt: skip
    yield differ("solve_with_factors_of_another", lambda a, c, b: lu_solve((lu_factor(c)[0], lu_factor(a)[1]), b),
                 lambda a, c, b: jnp.linalg.solve(c, b), A3, B3, X3, at=both)  # fmt: skip
    yield differ("solve_transposed", lambda a, b: lu_solve(lu_factor(a), b, trans=1),
                 lambda a, b: jnp.linalg.solve(a, b), A3, X3, at=at)  # fmt: skip
    yield differ("solve_first_pivot", lambda a, b: jnp.where(lu_factor(a)[1][0] == 0, 1.0, 2.0) * b,
                 lambda a, b: b + 0 * a[0], A3, X3, at=at)  # fmt: skip
    yield differ("solve_sign_of_rows", lambda a, b: jnp.linalg.det(a) / jnp.prod(jnp.diag(lu_factor(a)[0])) * b,
                 lambda a, b: b + 0 * a[0], A3, X3, at=at)  # fmt: skip
    yield differ("solve_largest_factor", lambda a, b: jnp.tril(lu_factor(a)[0], -1).sum() * b,
                 lambda a, b: (a[1, 0] + a[2, 0]) / a[0, 0] * b, A3, X3, at=at)  # fmt: skip
    yield differ("solve_rows_twice", lambda a, b: by_steps(lu_factor(a)[0], permutation(a)[permutation(a)], b),
                 lambda a, b: jnp.linalg.solve(a, b), A3, X3,
                 at=(np.array([[0.1, 0.2, 3.0], [3.0, 0.1, 0.2], [0.3, 2.0, 0.1]]), RIGHT))  # fmt: skip
    yield equal("solve_both_ways", lambda a, b: jnp.linalg.solve(a, b), lambda a, b: lu_solve(lu_factor(a), b), A3, X3)
    yield equal("solve_by_transposing", lambda a, b: jnp.linalg.solve(a.T, b),
                lambda a, b: lu_solve(lu_factor(a), b, trans=1), A3, X3)  # fmt: skip
    yield equal("solve_by_the_inverse", lambda a, b: jnp.linalg.inv(a) @ b, lambda a, b: jnp.linalg.solve(a, b), A3, X3)
    yield equal("solve_of_a_product", lambda a, c, b: jnp.linalg.solve(a @ c, b),
                lambda a, c, b: jnp.linalg.solve(c, jnp.linalg.solve(a, b)), A3, B3, X3)  # fmt: skip
