"""One rule a primitive that sums, multiplies or selects along axes: products of matrices, convolutions, reductions,
running sums, small linear algebra."""

from fractions import Fraction
from typing import Any

import jax
import numpy as np

from handprop.verify.field.algebra import NeedsBranches, NotUnderstood, Run, Unsupported, digest, finite
from handprop.verify.field.arithmetic import Elements, Field
from handprop.verify.field.degrees import VARIABLE, Bound
from handprop.verify.field.elementwise import Rule
from handprop.verify.field.functions import log, sqrt
from handprop.verify.field.layout import bind, joined, move, ranks
from handprop.verify.field.specials import are_special, patched, without_specials
from handprop.verify.field.truth import Thing, as_value, check_input, greater, maximum, minimum, never_tie
from handprop.verify.field.values import (
    INFINITY,
    NAN,
    OPAQUE,
    Everywhere,
    Kind,
    Value,
    everywhere,
    is_nonnegative,
    is_positive,
    moved,
)

__all__ = ["CONTRACTION"]

MOST_TERMS_SUMMED = 1 << 19  # up to here sums of limbs are exact in float64


def _check_numbers(eqn: Any) -> None:
    if eqn.outvars[0].aval.dtype == np.bool_:  # its sums are ors
        raise NeedsBranches("a product of arrays of truth values")


def _dot_general(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    _check_numbers(eqn)
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a product of matrices")
    finite(b, "a product of matrices")
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    key = ("dot", str(params["dimension_numbers"]), a.shape, b.shape, digest(a.x), digest(b.x))
    if key in run.memo:
        return [run.memo[key]._replace(kind=max(a.kind, b.kind))]
    left, free_a = _as_matrices(a.x, batch_a, contract_a, last=True)
    right, free_b = _as_matrices(b.x, batch_b, contract_b, last=False)
    terms = left.shape[-1]
    if terms >= MOST_TERMS_SUMMED:
        raise Unsupported(f"a sum of {terms} products")
    product = run.field.bilinear(left, right, np.matmul, terms)
    batch = tuple(a.shape[axis] for axis in batch_a)
    shape = (*batch, *free_a, *free_b)
    alike = contract_a == contract_b and batch_a == batch_b and not free_a and not free_b
    square = alike and terms > 0 and digest(a.x) == digest(b.x)
    folded = product.move(lambda part: part.reshape(shape))
    product = Value(folded, (a.degree * b.degree).summed(terms), kind=max(a.kind, b.kind), nonnegative=square,
                    everywhere=everywhere(a, b) if terms else Everywhere.UNKNOWN)  # fmt: skip
    run.memo[key] = product._replace(positive=square and run.is_nonzero(a))
    return [run.memo[key]]


def _as_matrices(x: Elements, batch, contract, last: bool) -> tuple[Elements, tuple[int, ...]]:
    """(batch, free, contracted) or (batch, contracted, free), and the free sizes."""
    free = [axis for axis in range(len(x.shape)) if axis not in (*batch, *contract)]
    order = (*batch, *free, *contract) if last else (*batch, *contract, *free)

    def size(axes) -> int:
        return int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))

    rows, columns = (size(free), size(contract)) if last else (size(contract), size(free))
    matrices = x.move(lambda part: np.ascontiguousarray(part.transpose(order).reshape(size(batch), rows, columns)))
    return matrices, tuple(x.shape[axis] for axis in free)


def _convolution(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    _check_numbers(eqn)
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a convolution")
    finite(b, "a convolution")
    terms = b.x.size // b.shape[params["dimension_numbers"].rhs_spec[0]]
    params = {**params, "preferred_element_type": np.dtype(np.float64), "precision": jax.lax.Precision.HIGHEST}

    def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return bind(eqn.primitive, left, right, **params)

    convolved = run.field.bilinear(a.x, b.x, product, terms)
    return [Value(convolved, (a.degree * b.degree).summed(terms), kind=max(a.kind, b.kind))]


def _reduce_sum(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    (thing,) = inputs
    if isinstance(thing, np.ndarray):
        return [np.asarray(thing.sum(tuple(params["axes"]), dtype=thing.dtype))]
    return [run.sum(thing, tuple(params["axes"]))]


def _reduce_prod(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    value = as_value(run, inputs[0])
    finite(value, "a product")
    for axis in sorted(params["axes"], reverse=True):
        count = value.shape[axis]
        value = Value(run.field.prod(value.x, axis), value.degree.power(count), kind=value.kind,
                      positive=is_positive(value), nonnegative=is_nonnegative(value),
                      everywhere=everywhere(value))  # fmt: skip
    return [value]


def _reduce_logical(f) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        if isinstance(inputs[0], Value):
            raise NeedsBranches("a reduction of truth values")
        return [np.asarray(f(inputs[0], axis=tuple(params["axes"])))]

    return rule


def _flattened(thing: Value, axes: tuple[int, ...]) -> Value:
    """The axes that are reduced as one last axis."""
    kept = [axis for axis in range(len(thing.shape)) if axis not in axes]
    shape = (*(thing.shape[axis] for axis in kept), -1)
    return moved(thing, lambda part: part.transpose(*kept, *axes).reshape(shape))


def _largest(run: Run, value: Value) -> np.ndarray:
    """Which entry of the last axis is the largest, in the branching reading; NaN first."""
    if value.known is not None:
        if value.error:
            raise Unsupported("the largest of known numbers that rounding may decide")
        return np.argmax(value.known, -1)
    if value.special is not None and (value.special == OPAQUE).any():
        raise NotUnderstood("the largest of what is not finite")
    if not run.branching:
        raise NeedsBranches("the largest of unknown numbers")
    if value.shape[-1] == 2 and value.special is None:
        first, second = (moved(value, lambda part, i=i: part[..., i]) for i in (0, 1))
        return np.asarray(greater(run, second, first)).astype(np.int64)
    check_input(value)
    run.coins += value.x.size
    rank = ranks(run, value._replace(special=None), -1, value.finite)
    decided_on = np.where(value.finite, np.abs(rank) - 1, -1)
    if value.special is not None:
        extreme = np.where(value.special == NAN, 2, value.special).astype(np.int64)
        rank = np.where(value.special != 0, extreme << 60, rank)
    return run.decide(np.argmax(rank, -1), decided_on)


def _reduce_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        (thing,) = inputs
        axes = tuple(params["axes"])
        if isinstance(thing, np.ndarray):
            return [np.asarray(thing.max(axes) if largest else thing.min(axes))]
        if not thing.x.size:
            raise Unsupported("the largest of nothing")
        value = _flattened(thing, axes)
        return [_extremum(run, value, largest)]

    return rule


def _extremum(run: Run, value: Value, largest: bool) -> Value:
    if value.shape[-1] == 1:
        return moved(value, lambda part: part[..., 0])
    if not run.branching and value.known is None:
        return _some_extremum(run, value, largest)
    index = _largest(run, value if largest else run.neg(value))[..., None]
    return moved(value, lambda part: np.take_along_axis(part, index, -1)[..., 0])


def _some_extremum(run: Run, value: Value, largest: bool) -> Value:
    """Polynomial reading: an unknown symmetric function of the finite entries' distances from their mean, added to it.

    Infinities: those on the side that is asked for are the result, the others do not count.
    """
    counted, axis = value.finite, len(value.shape) - 1
    special = _special_extremum(value, largest)
    counts = counted.sum(-1)
    reciprocal = run.field.inv(run.field.of(counts), 0)
    mean = run.field.mul(run.field.sum(value.x, (axis,)), reciprocal)
    centred = run.field.sub(value.x, mean.move(lambda part: part[..., None]))
    run.asked(value)
    entries = run.loose_oracle("entry", centred if largest else run.field.neg(centred))
    entries = entries.move(lambda part: np.where(counted, part, 0))
    beyond = run.loose_oracle("extremum", run.field.sum(entries, (axis,)), run.field.of(counts))
    beyond = beyond.move(lambda part: np.where(counts > 1, part, 0))
    x = run.field.add(mean, beyond) if largest else run.field.sub(mean, beyond)
    if special is not None:
        x = x.move(lambda part: np.where(special == 0, part, 0))
    degree = value.degree.summed(value.shape[-1]) * Bound.of(Fraction(1, max(value.shape[-1], 1))) + VARIABLE
    return Value(x, degree, special=special, kind=Kind.LOOSE, positive=value.positive,
                 nonnegative=is_nonnegative(value))  # fmt: skip


def _special_extremum(value: Value, largest: bool) -> np.ndarray | None:
    if value.special is None:
        return None
    if (value.special == OPAQUE).any():
        raise NeedsBranches("the largest of what is not finite")
    side = INFINITY if largest else -INFINITY
    nan, found = ((value.special == code).any(-1) for code in (NAN, side))
    none = (value.special == -side).all(-1)
    special = np.where(nan, NAN, np.where(found, side, np.where(none, -side, 0))).astype(np.int8)
    return special if special.any() else None


def _arg_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        value = _flattened(as_value(run, inputs[0]), tuple(params["axes"]))
        if value.known is None and not never_tie(run, value, -1):
            raise NotUnderstood("the largest of what may be equal")
        index = _largest(run, value if largest else run.neg(value))
        return [index.astype(params["index_dtype"])]

    return rule


def _cumulative(combine) -> Rule:
    """A running combination along one axis, entry after entry."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        axis = params["axis"]
        thing = inputs[0]
        if params["reverse"]:
            thing = move(thing, lambda part: np.flip(part, axis))
        value = as_value(run, thing)
        finite(value, "a running combination")
        steps = [moved(value, lambda part, i=i: np.take(part, [i], axis)) for i in range(value.shape[axis])]
        for i in range(1, len(steps)):
            run.worked(steps[i].x.size)
            steps[i] = as_value(run, combine(run, steps[i - 1], steps[i]))
        if not steps:
            return [thing]
        out = joined(run, list(steps), axis)
        return [move(out, lambda part: np.flip(part, axis)) if params["reverse"] else out]

    return rule


def _cumsum(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    (thing,) = inputs
    axis = params["axis"]

    def f(part: np.ndarray) -> np.ndarray:
        part = np.flip(part, axis) if params["reverse"] else part
        total = np.cumsum(part, axis, dtype=part.dtype)
        return np.flip(total, axis) if params["reverse"] else total

    if isinstance(thing, np.ndarray):
        return [f(thing)]
    finite(thing, "a running sum")
    known = None if thing.known is None else f(thing.known)
    count = max(thing.shape[axis], 1)
    return [Value(run.field.linear(thing.x, f), thing.degree.summed(count), known, kind=thing.kind,
                  nonnegative=is_nonnegative(thing), positive=is_positive(thing), error=thing.error * count,
                  everywhere=everywhere(thing),
                  most=thing.most * count)]  # fmt: skip


def _log_add_exp(run: Run, a: Value, b: Value) -> Value:
    return log(run, run.add(run.exp(a), run.exp(b)))


def _linear_window(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """reduce_window_sum: linear with coefficients 0 and 1."""
    value = as_value(run, inputs[0])
    finite(value, "a window's sum")
    terms = int(np.prod(params["window_dimensions"]))

    def f(part: np.ndarray) -> np.ndarray:
        return bind(eqn.primitive, part, **params)

    return [Value(run.field.linear(value.x, f), value.degree.summed(terms), kind=value.kind,
                  nonnegative=is_nonnegative(value))]  # fmt: skip


def _windows(shape, params) -> np.ndarray:
    """(*out, window): for every window the positions it holds, -1 in the padding."""
    positions = np.arange(int(np.prod(shape))).reshape(shape)
    if any(d != 1 for d in params.get("base_dilation") or ()):
        raise Unsupported("a window over a dilated array")
    if any(before < 0 or after < 0 for before, after in params["padding"]):
        raise Unsupported("a window over a part of an array")
    positions = np.pad(positions, params["padding"], constant_values=-1)
    dimensions, strides = params["window_dimensions"], params["window_strides"]
    dilation = params.get("window_dilation") or (1,) * len(dimensions)
    spans = tuple((d - 1) * s + 1 for d, s in zip(dimensions, dilation, strict=True))
    if any(span > size for span, size in zip(spans, positions.shape, strict=True)):
        raise Unsupported("a window that is larger than its array")
    view = np.lib.stride_tricks.sliding_window_view(positions, spans)
    view = view[tuple(slice(None, None, s) for s in strides)]
    view = view[(..., *(slice(None, None, s) for s in dilation))]
    return view.reshape(*view.shape[: len(dimensions)], -1)


def _window_extremum(largest: bool) -> Rule:
    """The entries of a window compared one after another, as they stand."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        value = as_value(run, inputs[0])
        windows = _windows(value.shape, params)
        bottom = run.embed(np.array([-np.inf if largest else np.inf]))
        pool = as_value(run, joined(run, [moved(value, lambda part: part.reshape(-1)), bottom], 0))
        best = moved(pool, lambda part: part[windows[..., 0]])
        for k in range(1, windows.shape[-1]):
            run.worked(best.x.size)
            other = moved(pool, lambda part, k=k: part[windows[..., k]])
            best = as_value(run, _further(run, best, other, largest))
        return [best]

    return rule


def _further(run: Run, a: Value, b: Value, largest: bool) -> Thing:
    """The larger, or smaller, of two values that may be infinite."""
    extremum, reference = (maximum, np.maximum) if largest else (minimum, np.minimum)
    result = extremum(run, without_specials(a), without_specials(b))
    return patched(run, "max" if largest else "min", reference, [a, b], result) if are_special([a, b]) else result


def _triangular_solve(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Exact forward substitution over the last two axes."""
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
        raise NotUnderstood("a pivot that is zero")
    return run.field.inv(pivot)


def _lu(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """``P A = L U``. Which row each pivot is in is a decision: all rows whose entry is not zero are equally likely."""
    a = as_value(run, inputs[0])
    finite(a, "a factorization")
    run.check_not_zero(a, "a factorization of what may be singular", "a matrix that is factorized is regular")
    if not run.branching:
        raise NeedsBranches("the pivots of lu")
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
    """For each matrix of a batch a random number that only the same matrix has."""
    rows = a.x.move(lambda part: part.reshape(*a.shape[:-2], -1))
    places = Elements(np.broadcast_to(np.arange(rows.shape[-1]), rows.shape))
    return run.field.sum(run.oracle("matrix", rows, places), (-1,))


def _drawn_pivot(run: Run, x: Elements, k: int, seed: Elements) -> np.ndarray:
    """The row that comes to place k, of those from k on whose entry in column k is not zero."""
    column = x.move(lambda part: part[..., k:, k])
    places = Elements(np.broadcast_to(np.arange(column.shape[-1]), column.shape))
    rank = run.oracle(f"pivot {k}", Elements(np.broadcast_to(seed.re[..., None], column.shape)), places).re
    zero = run.field.is_zero(column)
    if zero.all(-1).any():
        raise NotUnderstood("a matrix that is singular")
    run.coins += int(zero[..., 0].size)
    return run.decide(k + np.argmax(np.where(zero, -1, rank), -1), rank)


def _exchanged(n: int, k: int, pivot: np.ndarray) -> np.ndarray:
    """The order of n rows in which row k and the pivot's have changed places."""
    order = np.broadcast_to(np.arange(n), (*pivot.shape, n)).copy()
    np.put_along_axis(order, pivot[..., None], k, -1)
    order[..., k] = pivot
    return order


def _eliminated(f: Field, x: Elements, k: int) -> Elements:
    """With multiples of row k taken from the rows below it, the factors kept in column k."""
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


def _cholesky(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Of the lower triangle, column after column: exact while every pivot has its root in GF(p) or GF(p)(i)."""
    a = as_value(run, inputs[0])
    finite(a, "a factorization")
    run.assume("the matrix given to cholesky is positive definite")
    if run.decided:
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


CONTRACTION: dict[str, Rule] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reduce_sum": _reduce_sum,
    "reduce_prod": _reduce_prod,
    "reduce_and": _reduce_logical(np.all),
    "reduce_or": _reduce_logical(np.any),
    "reduce_max": _reduce_extremum(True),
    "reduce_min": _reduce_extremum(False),
    "argmax": _arg_extremum(True),
    "argmin": _arg_extremum(False),
    "cumsum": _cumsum,
    "cumprod": _cumulative(lambda run, a, b: run.mul(a, b)),
    "cummax": _cumulative(maximum),
    "cummin": _cumulative(minimum),
    "cumlogsumexp": _cumulative(_log_add_exp),
    "reduce_window_sum": _linear_window,
    "reduce_window_max": _window_extremum(True),
    "reduce_window_min": _window_extremum(False),
    "triangular_solve": _triangular_solve,
    "lu": _lu,
    "cholesky": _cholesky,
}
