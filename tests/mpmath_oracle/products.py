"""Products, convolutions and linear algebra, each by its definition."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from mpmath_oracle import scalars
from mpmath_oracle.movement import padded
from mpmath_oracle.values import as_floats, is_float, made

__all__ = ["RULES"]


def dot_general(step: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    (x_sum, y_sum), (x_batch, y_batch) = step.params["dimension_numbers"]
    left, right = as_matrices(x, x_batch, x_sum), as_matrices(y, y_batch, y_sum)
    shape, dtype = step.out[0].shape, step.out[0].dtype
    if is_float(dtype):
        left, right = (m if m.dtype == object else as_floats(m) for m in (left, right))
        return made((mpmath.fdot(a, b) for l, r in zip(left, right, strict=True) for a in l for b in r), shape)
    return np.einsum("nik,njk->nij", left.astype(dtype), right.astype(dtype)).reshape(shape)


def as_matrices(x: np.ndarray, batch: Any, summed: Any) -> np.ndarray:
    """Batch, what is left, what is summed: one axis each."""
    free = [axis for axis in range(x.ndim) if axis not in (*batch, *summed)]
    sizes = [int(np.prod([x.shape[axis] for axis in axes], dtype=int)) for axes in (batch, free, summed)]
    return np.transpose(x, [*batch, *free, *summed]).reshape(sizes)


def conv_general_dilated(step: Any, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every product that reaches an entry, summed."""
    params, numbers = step.params, step.params["dimension_numbers"]
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    x, kernel = np.transpose(x, numbers.lhs_spec), np.transpose(kernel, numbers.rhs_spec)
    wide = [(low, high, gap - 1) for (low, high), gap in zip(params["padding"], params["lhs_dilation"], strict=True)]
    x = padded(x, mpf(0), [(0, 0, 0), (0, 0, 0), *wide])
    shape = tuple(np.array(step.out[0].shape)[list(numbers.out_spec)])
    features, rows = kernel.shape[0], x.shape[0] // batches

    def entry(place: tuple[int, ...]) -> mpf:
        n, o, *where = place
        first = o // (features // groups) * kernel.shape[1]
        row = n + o // (features // batches) * rows if batches > 1 else n
        pairs = []
        for channel, *tap in np.ndindex(*kernel.shape[1:]):
            at = [w * s + t * d for w, s, t, d in
                  zip(where, params["window_strides"], tap, params["rhs_dilation"], strict=True)]  # fmt: skip
            pairs.append((x[(row, first + channel, *at)], kernel[(o, channel, *tap)]))
        return mpmath.fdot(pairs)

    out = made((entry(place) for place in np.ndindex(*shape)), shape)
    return np.transpose(out, np.argsort(numbers.out_spec))


# Linear algebra


def matrices(f: Callable[..., Any], *arrays: np.ndarray) -> list[Any]:
    """``f`` of the matrices on the last two axes, for every place of those before."""
    return [f(*(x[place] for x in arrays)) for place in np.ndindex(*arrays[0].shape[:-2])]


def joined(parts: list[np.ndarray], batch: tuple[int, ...]) -> np.ndarray:
    return np.stack(parts).reshape(*batch, *parts[0].shape) if parts else np.empty((*batch, 0), object)


def triangular_solve(step: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    params = step.params

    def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = np.tril(a) if params["lower"] else np.triu(a)
        lower = params["lower"]
        if params["transpose_a"]:
            a, lower = a.T, not lower
        if not params["left_side"]:
            return substituted(a.T, b.T, not lower, params["unit_diagonal"]).T
        return substituted(a, b, lower, params["unit_diagonal"])

    return joined(matrices(solve, a, b), a.shape[:-2])


def substituted(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> np.ndarray:
    """x with a x = b, row by row from the end that has one unknown."""
    size, x = len(a), b.copy()
    for i in range(size) if lower else reversed(range(size)):
        known = range(i) if lower else range(i + 1, size)
        for column in range(b.shape[1]):
            rest = b[i, column] - mpmath.fdot([(a[i, k], x[k, column]) for k in known])
            x[i, column] = rest if unit else scalars.divide(rest, a[i, i])
    return x


def lu(step: Any, x: np.ndarray) -> list[np.ndarray]:
    """With partial pivoting: both factors in one matrix, the row each was exchanged with, and their order."""
    parts, batch = matrices(factored, x), x.shape[:-2]
    packed, pivots, order = (joined([part[i] for part in parts], batch) for i in range(3))
    return [packed, pivots.astype(np.int32), order.astype(np.int32)]


def factored(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, order = a.copy(), np.arange(len(a))
    pivots = np.arange(min(a.shape))
    for k in range(min(a.shape)):
        pivot = k + int(np.argmax([abs(entry) for entry in a[k:, k]]))
        pivots[k] = pivot
        a[[k, pivot]], order[[k, pivot]] = a[[pivot, k]], order[[pivot, k]]
        for i in range(k + 1, len(a)):
            a[i, k] = scalars.divide(a[i, k], a[k, k])
            for j in range(k + 1, a.shape[1]):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]
    return a, pivots, order


def lu_pivots_to_permutation(step: Any, pivots: np.ndarray) -> np.ndarray:
    size = step.params["permutation_size"]
    out = np.empty((*pivots.shape[:-1], size), step.out[0].dtype)
    for place in np.ndindex(*pivots.shape[:-1]):
        order = np.arange(size)
        for k, pivot in enumerate(pivots[place]):
            order[[k, pivot]] = order[[pivot, k]]
        out[place] = order
    return out


def cholesky(step: Any, x: np.ndarray) -> np.ndarray:
    """The lower factor; JAX makes the matrix symmetric before it asks. NaN where it is not positive definite."""
    return joined(matrices(lower_factor, x), x.shape[:-2])


def lower_factor(a: np.ndarray) -> np.ndarray:
    out = np.full(a.shape, mpf(0), object)
    for i in range(len(a)):
        for j in range(i + 1):
            rest = a[i, j] - mpmath.fdot([(out[i, k], out[j, k]) for k in range(j)])
            out[i, j] = scalars.divide(rest, out[j, j]) if i > j else scalars.FUNCTIONS["sqrt"](rest)
    if any(scalars.is_nan(entry) or entry == 0 for entry in np.diag(out)):
        out[np.tril_indices(len(a))] = mpf("nan")
    return out


def custom_linear_solve(step: Any, *values: np.ndarray) -> list[np.ndarray]:
    """What the equation's own ``solve`` computes."""
    counts = step.params["const_lengths"]
    start, total = counts.matvec + counts.vecmat, sum(counts)
    solve = step.closed(step.params["jaxprs"].solve)
    return step.walk(solve, [*values[start : start + counts.solve], *values[total:]])


RULES: dict[str, Callable[..., Any]] = {
    "dot_general": dot_general,
    "conv_general_dilated": conv_general_dilated,
    "triangular_solve": triangular_solve,
    "lu": lu,
    "lu_pivots_to_permutation": lu_pivots_to_permutation,
    "cholesky": cholesky,
    "custom_linear_solve": custom_linear_solve,
}
