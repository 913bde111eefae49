"""Systems of linear equations inside programs, solved by elimination, and unknowns that equations are linear in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.arguments import is_inexact
from handprop.verifier.problem import own_width
from handprop.verifier.programs import jaxprs

__all__ = ["FEW", "Unknowns", "eliminable", "linear_root"]

FEW = 24  # entries of a system that is solved by elimination
AFFINE = 1e-4
Residuals = Callable[[Sequence[Any], Sequence[Any]], Any]


def linear_root(f: Callable, elsewhere: Any, zeros: list[Any], is_diagonal: bool = False) -> Any:
    """The s with ``f(s) = 0`` for a linear f plus a constant. ``zeros`` gets what is zero, at the point ``elsewhere``,
    if f is that; ``is_diagonal``: entry i of f depends on entry i of s alone."""
    origin = jnp.zeros_like(elsewhere)
    constant, along = jax.linearize(f, origin)
    if is_diagonal:
        slopes = along(jnp.ones_like(origin))
        zeros.append(f(elsewhere) - constant - slopes * elsewhere)
        return -constant / slopes
    matrix = jnp.stack([along(axis) for axis in jnp.eye(elsewhere.size, dtype=elsewhere.dtype)], axis=1)
    zeros.append(f(elsewhere) - constant - matrix @ elsewhere)
    return -_solution(matrix, constant)


def _solution(matrix: Any, right: Any) -> Any:
    """Gauss-Jordan elimination without pivots, after a fixed change of basis that leaves no pivot zero by structure."""
    n, rng = len(right), np.random.default_rng(1)
    rows, columns = (jnp.asarray(rng.integers(-9, 10, (n, n)) + 20 * np.eye(n), matrix.dtype) for _ in range(2))
    matrix, right = rows @ matrix @ columns, rows @ right
    for k in range(n):
        factors = jnp.where(np.arange(n) == k, 0, matrix[:, k] / matrix[k, k])
        matrix, right = matrix - jnp.outer(factors, matrix[k]), right - factors * right[k]
    return columns @ (right / jnp.diagonal(matrix))


class Unknowns(NamedTuple):
    """Entries of one of the arguments and values, in which the equations are linear."""

    place: int
    entries: tuple[int, ...]
    is_diagonal: bool


def eliminable(residuals: Residuals, leaves: Sequence[Any], values: Sequence[Any]) -> Iterator[Unknowns]:
    """Yield unknowns that the equations ``residuals(values, leaves) = 0`` seem to determine, at the given numbers."""
    rng, whole = np.random.default_rng(2), [*leaves, *values]
    size = sum(v.size for v in values)
    for place in range(len(whole)):
        if not is_inexact(whole[place]) or whole[place].size < size:
            continue
        slopes = _slopes(residuals, whole, len(leaves), place)
        other = np.asarray(whole[place]) * rng.uniform(0.9, 1.1, whole[place].shape)
        moved = jaxprs.with_replaced(whole, [place], [other.astype(whole[place].dtype)])
        again = _slopes(residuals, moved, len(leaves), place)
        if not np.allclose(slopes, again, rtol=AFFINE, atol=AFFINE * np.abs(slopes).max(initial=0.0)):
            continue
        off = slopes - np.diag(np.diagonal(slopes)) if slopes.shape[1] == size else slopes
        if not off.any() and np.diagonal(slopes).all():
            yield Unknowns(place, tuple(range(size)), True)
        elif size <= FEW and np.linalg.matrix_rank(slopes) == size:
            yield Unknowns(place, tuple(_independent(slopes)), False)


def _slopes(residuals: Residuals, whole: Sequence[Any], count: int, place: int) -> np.ndarray:
    def at(x: Any) -> Any:
        moved = jaxprs.with_replaced(whole, [place], [x])
        return residuals(moved[count:], moved[:count])

    with own_width(whole):
        slopes = jax.jit(jax.jacfwd(at))(jnp.asarray(whole[place]))
    return np.asarray(slopes, np.float64).reshape(len(slopes), -1)


def _independent(slopes: np.ndarray) -> list[int]:
    """Columns that are linearly independent, chosen greedily by what is left of each."""
    left, found = slopes.copy(), []
    for _ in range(len(slopes)):
        found.append(int(np.argmax(np.linalg.norm(left, axis=0))))
        axis = left[:, found[-1]] / np.linalg.norm(left[:, found[-1]])
        left = left - np.outer(axis, axis @ left)
    return sorted(found)
