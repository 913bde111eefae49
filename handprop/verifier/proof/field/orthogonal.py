"""Rules for QR factorizations, by the reflections that LAPACK makes of a matrix's columns.

For a column ``(alpha, x)`` of what is left of the matrix, ``beta = -sign(alpha) |(alpha, x)|``, ``v = x / (alpha -
beta)`` and ``tau = (beta - alpha) / beta``; the reflection ``I - tau (1, v)(1, v)^T`` turns the column into ``(beta,
0)``. A root is taken and a sign is decided for each column, so the results are these functions of the entries wherever
no column depends on those before it. A column without x is not reflected.
"""

from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood
from handprop.verifier.proof.field.layout import joined
from handprop.verifier.proof.field.powers import sqrt
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value, greater
from handprop.verifier.proof.field.values import Value, finite, moved

__all__ = ["geqrf", "householder_product", "ormqr", "qr"]


class Reflection(NamedTuple):
    """``I - tau w w^T`` on the rows from ``first`` on, with ``w = (1, v)``; both have a last axis for the columns."""

    first: int
    w: Value
    tau: Value


def geqrf(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """R in the upper triangle, v below it, and all tau."""
    x, reflections = _triangular(run, as_value(run, inputs[0]))
    columns = [moved(x, lambda part, j=j: part[..., :, j : j + 1]) for j in range(x.shape[-1])]
    for j, reflection in enumerate(reflections):
        above = moved(columns[j], lambda part, j=j: part[..., : j + 1, :])
        below = moved(reflection.w, lambda part: part[..., 1:, :])
        columns[j] = _value(joined(run, [above, below], -2))
    taus = [moved(reflection.tau, lambda part: part[..., 0]) for reflection in reflections]
    return [joined(run, list(columns), -1), joined(run, list(taus), -1)]


def householder_product(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Q, with as many columns as the packed matrix has."""
    a, taus = (as_value(run, thing) for thing in inputs)
    m, n = a.shape[-2:]
    return [_reflected(run, _identity(run, a, m, n), _unpacked(run, a, taus)[::-1])]


def ormqr(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Q C, its transpose times C, or either from the right."""
    a, taus, c = (as_value(run, thing) for thing in inputs)
    reflections = _unpacked(run, a, taus)
    if params["left"]:
        return [_reflected(run, c, reflections if params["transpose"] else reflections[::-1])]
    order = reflections[::-1] if params["transpose"] else reflections
    return [_transposed(_reflected(run, _transposed(c), order))]


def qr(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Q and R."""
    if params.get("pivoting"):
        raise NotUnderstood("a QR factorization with pivots")
    a = as_value(run, inputs[0])
    m, n = a.shape[-2:]
    x, reflections = _triangular(run, a)
    size = m if params["full_matrices"] else min(m, n)
    q = _reflected(run, _identity(run, a, m, size), reflections[::-1])
    return [q, moved(x, lambda part: part[..., :size, :])]


def _triangular(run: Run, x: Value) -> tuple[Value, list[Reflection]]:
    """R, with zeros below it, and the reflections that make it, the first first."""
    finite(x, "a factorization")
    if not run.branching:
        raise NeedsBranches("the signs of a QR factorization")
    reflections, kind = [], x.kind
    for j in range(min(x.shape[-2:])):
        run.worked(0)
        reflection, beta = _of_column(run, x, j, kind)
        reflections.append(reflection)
        x = _with_column(run, _reflected(run, x, [reflection]), j, beta)
    return x, reflections


def _of_column(run: Run, x: Value, j: int, kind: Kind) -> tuple[Reflection, Value]:
    """The reflection that turns column j into a multiple of a unit vector, and that multiple. ``kind``: the kind of the
    factorized matrix."""
    alpha = moved(x, lambda part: part[..., j : j + 1, j : j + 1])
    below = moved(x, lambda part: part[..., j + 1 :, j : j + 1])
    one, zero = run.number(1, alpha.shape), run.number(0, alpha.shape)
    if not below.x.size:
        return Reflection(j, one, zero), alpha
    if run.field.is_zero(below.x).all(-2).any():
        raise NotUnderstood("a QR factorization of a matrix with zeros below its diagonal")
    # An algebraic function that is not zero everywhere is zero almost nowhere, as a rational one is.
    squares = run.add(run.power(alpha, 2), _summed(run, run.power(below, 2)))._replace(kind=kind)
    run.check_not_zero(squares, "a QR factorization of columns that may be zero", "no column is zero")
    norm = sqrt(run, squares._replace(positive=True))
    negative = greater(run, zero, alpha._replace(kind=kind))
    if not isinstance(negative, np.ndarray):
        raise NeedsBranches("the sign of a QR factorization")
    sign = run.embed(np.where(negative, -1.0, 1.0))
    beyond = run.add(run.mul(sign, alpha)._replace(nonnegative=True), norm)  # |alpha - beta|
    v = run.mul(sign, run.div(below, beyond))
    tau, beta = run.div(beyond, norm), run.neg(run.mul(sign, norm))
    return Reflection(j, _value(joined(run, [one, v], -2)), tau), beta


def _with_column(run: Run, x: Value, j: int, beta: Value) -> Value:
    """The matrix whose column j is ``(.., beta, 0)``, which its reflection is by an identity of roots."""
    above = moved(x, lambda part: part[..., :j, j : j + 1])
    zeros = run.number(0, moved(x, lambda part: part[..., j + 1 :, j : j + 1]).shape)
    column = joined(run, [above, beta, zeros], -2)
    left, right = (moved(x, lambda part, s=s: part[..., s]) for s in (slice(None, j), slice(j + 1, None)))
    return _value(joined(run, [left, column, right], -1))


def _unpacked(run: Run, a: Value, taus: Value) -> list[Reflection]:
    """The reflections that :func:`geqrf` packs."""
    made = []
    for j in range(taus.shape[-1]):
        v = moved(a, lambda part, j=j: part[..., j + 1 :, j : j + 1])
        tau = moved(taus, lambda part, j=j: part[..., j : j + 1, None])
        made.append(Reflection(j, _value(joined(run, [run.number(1, tau.shape), v], -2)), tau))
    return made


def _reflected(run: Run, x: Value, reflections: list[Reflection]) -> Value:
    """The matrix after these reflections of its rows, the first first."""
    for first, w, tau in reflections:
        kept, rows = (moved(x, lambda part, s=s: part[..., s, :]) for s in (slice(None, first), slice(first, None)))
        along = _summed(run, run.mul(w, rows))
        x = _value(joined(run, [kept, run.add(rows, run.mul(run.mul(w, tau), along), -1)], -2))
    return x


def _summed(run: Run, x: Value) -> Value:
    """The sum over the rows, as one row."""
    return moved(run.sum(x, (len(x.shape) - 2,)), lambda part: part[..., None, :])


def _identity(run: Run, like: Value, rows: int, columns: int) -> Value:
    return run.embed(np.broadcast_to(np.eye(rows, columns), (*like.shape[:-2], rows, columns)))


def _transposed(x: Value) -> Value:
    return moved(x, lambda part: np.swapaxes(part, -1, -2))


def _value(thing: Thing) -> Value:
    assert isinstance(thing, Value)
    return thing
