"""Rules for triangular systems, LU and Cholesky factorizations, and how pivots are decided."""

from typing import Any

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements, Field
from handprop.verifier.proof.field.errors import NotUnderstood
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.pivots import factored
from handprop.verifier.proof.field.powers import sqrt
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value, check_input
from handprop.verifier.proof.field.values import Value, finite, moved

__all__ = ["cholesky", "lu", "triangular_solve"]


def triangular_solve(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Solve exactly, by substitution over the last two axes."""
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a system of equations")
    finite(b, "a system of equations")
    if not b.x.size:
        return [b]
    matrix = moved(a, lambda part: np.swapaxes(part, -1, -2)) if params["transpose_a"] else a
    lower = params["lower"] != bool(params["transpose_a"])
    if not params["left_side"]:
        matrix, lower = moved(matrix, lambda part: np.swapaxes(part, -1, -2)), not lower
        b = moved(b, lambda part: np.swapaxes(part, -1, -2))
    run.check_not_zero(a, "a system of equations that may be singular", "a system of equations is regular")
    n = matrix.shape[-1]
    x = _substituted(run, matrix.x, b.x, range(n) if lower else range(n - 1, -1, -1), params["unit_diagonal"])
    degree = b.degree.summed(n) * a.degree.grown(n, a.x.size, digest(a.x))
    out = Value(x, degree, kind=max(a.kind, b.kind))
    return [out if params["left_side"] else moved(out, lambda part: np.swapaxes(part, -1, -2))]


def _substituted(run: Run, matrix: Elements, b: Elements, order, unit: bool) -> Elements:
    f, rows, done = run.field, {}, []
    for i in order:
        row = b.move(lambda part, i=i: part[..., i, :])
        run.worked(0)
        for j in done:
            entry = matrix.move(lambda part, i=i, j=j: part[..., i, j, None])
            row = f.sub(row, f.mul(entry, rows[j]))
        if not unit:
            row = f.mul(row, _inverse_pivot(run, matrix.move(lambda part, i=i: part[..., i, i, None])))
        rows[i] = row
        done.append(i)
    return f.concatenate([rows[i].move(lambda part: part[..., None, :]) for i in range(len(done))], -2)


def _inverse_pivot(run: Run, pivot: Elements) -> Elements:
    if run.field.is_zero(pivot).any():
        raise NotUnderstood("a zero pivot")
    return run.field.inv(pivot)


def lu(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Any]:
    """``P A = L U``. Where decisions are drawn, the row of each pivot is one: all rows with a nonzero entry are
    equally likely; elsewhere the pivots are left open."""
    a = as_value(run, inputs[0])
    finite(a, "a factorization")
    run.check_not_zero(a, "a factorization of a matrix that may be singular", "a matrix that is factorized is regular")
    if not run.branching:
        return list(factored(a))
    check_input(a)
    f, (n, m), batch = run.field, a.shape[-2:], a.shape[:-2]
    run.asked(a)
    seed = _word_of_each(run, a)
    x, permutation, pivots = a.x, np.broadcast_to(np.arange(n), (*batch, n)).copy(), []
    for k in range(min(n, m)):
        run.worked(0)
        pivots.append(_drawn_pivot(run, x, k, seed))
        order = _exchanged(n, k, pivots[-1])
        x = x.move(lambda part, order=order: np.take_along_axis(part, order[..., None], -2))
        permutation = np.take_along_axis(permutation, order, -1)
        x = _eliminated(f, x, k)
    degree = a.degree.grown(n + 1, a.x.size, digest(a.x))
    swaps = np.stack(pivots, -1) if pivots else np.zeros((*batch, 0))
    return [Value(x, degree, kind=a.kind), swaps.astype(np.int32), permutation.astype(np.int32)]


def _word_of_each(run: Run, a: Value) -> Elements:
    """A random number for each matrix of a batch; only equal matrices have the same."""
    rows = a.x.move(lambda part: part.reshape(*a.shape[:-2], -1))
    places = Elements(np.broadcast_to(np.arange(rows.shape[-1]), rows.shape))
    return run.field.sum(run.oracle("matrix", rows, places), (-1,))


def _drawn_pivot(run: Run, x: Elements, k: int, seed: Elements) -> np.ndarray:
    """The row that moves to place k: one of the rows from k on whose entry in column k is not zero."""
    column = x.move(lambda part: part[..., k:, k])
    places = Elements(np.broadcast_to(np.arange(column.shape[-1]), column.shape))
    rank = run.oracle(f"pivot {k}", Elements(np.broadcast_to(seed.re[..., None], column.shape)), places).re
    zero = run.field.is_zero(column)
    if zero.all(-1).any():
        raise NotUnderstood("a singular matrix")
    run.unknown_comparisons += int(zero[..., 0].size)
    return run.decide(k + np.argmax(np.where(zero, -1, rank), -1), rank)


def _exchanged(n: int, k: int, pivot: np.ndarray) -> np.ndarray:
    """The order of n rows after row k and the pivot's row are exchanged."""
    order = np.broadcast_to(np.arange(n), (*pivot.shape, n)).copy()
    np.put_along_axis(order, pivot[..., None], k, -1)
    order[..., k] = pivot
    return order


def _eliminated(f: Field, x: Elements, k: int) -> Elements:
    """Subtract multiples of row k from the rows below it, and keep the factors in column k."""
    pivot = x.move(lambda part: part[..., k : k + 1, k : k + 1])
    below = x.move(lambda part: part[..., k + 1 :, k : k + 1])
    if not below.size:
        return x
    factor = f.mul(below, f.inv(pivot))
    right = x.move(lambda part: part[..., k : k + 1, k + 1 :])
    rest = f.sub(x.move(lambda part: part[..., k + 1 :, k + 1 :]), f.mul(factor, right))
    left = x.move(lambda part: part[..., k + 1 :, :k])
    lower = f.concatenate([left, factor, rest], -1)
    return f.concatenate([x.move(lambda part: part[..., : k + 1, :]), lower], -2)


def cholesky(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Factorize by the lower triangle, column by column: exact if every pivot has a root in GF(p) or GF(p)(i)."""
    a = as_value(run, inputs[0])
    finite(a, "a factorization")
    run.assume("the matrix given to cholesky is positive definite")
    if run.decides_domains:
        raise NotUnderstood("cholesky, which is not defined everywhere")
    f, n = run.field, a.shape[-1]
    if not a.x.size:
        return [a]
    lower = np.tril(np.ones((n, n), bool))
    rest = a.x.move(lambda part: np.where(lower, part, np.swapaxes(part, -1, -2)))
    columns = []
    for j in range(n):
        run.worked(0)
        pivot = rest.move(lambda part: part[..., 0, 0])
        real = Elements(pivot.re) if pivot.im is not None and not pivot.im.any() else pivot
        root = sqrt(run, Value(real, a.degree, nonnegative=True)).x
        scale = _inverse_pivot(run, root).move(lambda part: part[..., None])
        below = f.mul(rest.move(lambda part: part[..., 1:, 0]), scale)
        zeros = Elements(np.zeros((*a.shape[:-2], j), np.int64))
        columns.append(f.concatenate([zeros, root.move(lambda part: part[..., None]), below], -1))
        left, right = below.move(lambda part: part[..., :, None]), below.move(lambda part: part[..., None, :])
        rest = f.sub(rest.move(lambda part: part[..., 1:, 1:]), f.mul(left, right))
    packed = f.concatenate([column.move(lambda part: part[..., None]) for column in columns], -1)
    return [Value(packed, a.degree.grown(n + 1, a.x.size, digest(a.x)), kind=max(a.kind, Kind.RELATED))]
