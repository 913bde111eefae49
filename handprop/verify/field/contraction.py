"""One rule a primitive that sums, multiplies or selects along axes: products of matrices, convolutions, reductions,
running sums, small linear algebra."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify.field.algebra import NeedsBranches, Run, Unsupported, digest, finite
from handprop.verify.field.arithmetic import Elements
from handprop.verify.field.degrees import VARIABLE, Bound
from handprop.verify.field.elementwise import Rule
from handprop.verify.field.functions import log, sqrt
from handprop.verify.field.layout import joined, move, ranks
from handprop.verify.field.truth import Thing, as_value, greater, maximum, minimum
from handprop.verify.field.values import Value, moved

__all__ = ["CONTRACTION"]


def _dot_general(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a product of matrices")
    finite(b, "a product of matrices")
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    key = ("dot", str(params["dimension_numbers"]), a.shape, b.shape, digest(a.x), digest(b.x))
    if key in run.memo:
        return [run.memo[key]]
    left, free_a = _as_matrices(a.x, batch_a, contract_a, last=True)
    right, free_b = _as_matrices(b.x, batch_b, contract_b, last=False)
    terms = left.shape[-1]
    product = run.field.bilinear(left, right, np.matmul, terms)
    batch = tuple(a.shape[axis] for axis in batch_a)
    shape = (*batch, *free_a, *free_b)
    run.memo[key] = Value(product.move(lambda part: part.reshape(shape)), (a.degree * b.degree).summed(terms))
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
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a convolution")
    finite(b, "a convolution")
    terms = b.x.size // b.shape[params["dimension_numbers"].rhs_spec[0]]
    params = {**params, "preferred_element_type": np.dtype(np.float64), "precision": jax.lax.Precision.HIGHEST}

    def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(eqn.primitive.bind(jnp.asarray(left), jnp.asarray(right), **params))

    return [Value(run.field.bilinear(a.x, b.x, product, terms), (a.degree * b.degree).summed(terms))]


def _reduce_sum(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    (thing,) = inputs
    if isinstance(thing, np.ndarray):
        return [np.asarray(thing.sum(tuple(params["axes"]), dtype=thing.dtype))]
    return [run.sum(thing, tuple(params["axes"]))]


def _reduce_prod(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    value = as_value(run, inputs[0])
    for axis in sorted(params["axes"], reverse=True):
        count = value.shape[axis]
        value = Value(run.field.prod(value.x, axis), value.degree.power(count))
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
    """Which entry of the last axis is the largest, in the branching reading."""
    if value.known is not None:
        return np.argmax(value.known, -1)
    if not run.branching:
        raise NeedsBranches("the largest of unknown numbers")
    run.coins += value.x.size
    if value.shape[-1] == 2:
        first, second = (moved(value, lambda part, i=i: part[..., i]) for i in (0, 1))
        return np.asarray(greater(run, second, first)).astype(np.int64)
    rank = ranks(run, value._replace(infinite=None), -1)
    if value.infinite is not None:
        rank = np.where(value.infinite != 0, value.infinite.astype(np.int64) << 60, rank)
    return run.decide(np.argmax(rank, -1))


def _reduce_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        (thing,) = inputs
        axes = tuple(params["axes"])
        if isinstance(thing, np.ndarray):
            return [np.asarray(thing.max(axes) if largest else thing.min(axes))]
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
    """Polynomial reading: an unknown symmetric function of the entries' distances from their mean, added to it."""
    count = value.shape[-1]
    if value.infinite is not None:
        value = moved(value, lambda part: part)._replace(
            x=value.x.move(lambda part: np.where(value.infinite == 0, part, 0)), infinite=None
        )
    mean = run.field.scale(run.field.sum(value.x, (len(value.shape) - 1,)), run.field.ratio(1, count))
    centred = run.field.sub(value.x, mean.move(lambda part: part[..., None]))
    run.asked(value)
    entries = run.oracle("entry", centred if largest else run.field.neg(centred))
    beyond = run.oracle("extremum", run.field.sum(entries, (len(value.shape) - 1,)))
    x = run.field.add(mean, beyond) if largest else run.field.sub(mean, beyond)
    return Value(x, value.degree.summed(count) * Bound.of(Fraction(1, count)) + VARIABLE)


def _arg_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        value = _flattened(as_value(run, inputs[0]), tuple(params["axes"]))
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
        steps = [moved(value, lambda part, i=i: np.take(part, [i], axis)) for i in range(value.shape[axis])]
        for i in range(1, len(steps)):
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
    return [Value(run.field.linear(thing.x, f), thing.degree.summed(max(thing.shape[axis], 1)), known)]


def _log_add_exp(run: Run, a: Value, b: Value) -> Value:
    return log(run, run.add(run.exp(a), run.exp(b)))


def _linear_window(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """reduce_window_sum: linear with coefficients 0 and 1."""
    value = as_value(run, inputs[0])
    finite(value, "a window's sum")
    terms = int(np.prod(params["window_dimensions"]))

    def f(part: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(eqn.primitive.bind(jnp.asarray(part), **params))

    return [Value(run.field.linear(value.x, f), value.degree.summed(terms))]


def _windows(shape, params) -> np.ndarray:
    """(*out, window): for every window the positions it holds, -1 in the padding."""
    positions = np.arange(int(np.prod(shape))).reshape(shape)
    if any(d != 1 for d in params.get("base_dilation") or ()):
        raise Unsupported("a window over a dilated array")
    positions = np.pad(positions, params["padding"], constant_values=-1)
    dimensions, strides = params["window_dimensions"], params["window_strides"]
    dilation = params.get("window_dilation") or (1,) * len(dimensions)
    spans = tuple((d - 1) * s + 1 for d, s in zip(dimensions, dilation, strict=True))
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
            other = moved(pool, lambda part, k=k: part[windows[..., k]])
            best = as_value(run, (maximum if largest else minimum)(run, best, other))
        return [best]

    return rule


def _triangular_solve(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Exact forward substitution over the last two axes."""
    a, b = (as_value(run, thing) for thing in inputs)
    matrix = moved(a, lambda part: np.swapaxes(part, -1, -2)) if params["transpose_a"] else a
    lower = params["lower"] != bool(params["transpose_a"])
    if not params["left_side"]:
        matrix, lower = moved(matrix, lambda part: np.swapaxes(part, -1, -2)), not lower
        b = moved(b, lambda part: np.swapaxes(part, -1, -2))
    n = matrix.shape[-1]
    x = _substituted(run, matrix.x, b.x, range(n) if lower else range(n - 1, -1, -1), params["unit_diagonal"])
    degree = b.degree.summed(n) * a.degree.grown(n, a.x.size, digest(a.x))
    out = Value(x, degree)
    return [out if params["left_side"] else moved(out, lambda part: np.swapaxes(part, -1, -2))]


def _substituted(run: Run, matrix: Elements, b: Elements, order, unit: bool) -> Elements:
    f, rows, done = run.field, {}, []
    for i in order:
        row = b.move(lambda part, i=i: part[..., i, :])
        for j in done:
            entry = matrix.move(lambda part, i=i, j=j: part[..., i, j, None])
            row = f.sub(row, f.mul(entry, rows[j]))
        if not unit:
            row = f.mul(row, f.inv(matrix.move(lambda part, i=i: part[..., i, i, None]), run.constant("1/0")))
        rows[i] = row
        done.append(i)
    return f.concatenate([rows[i].move(lambda part: part[..., None, :]) for i in range(len(done))], -2)


def _lu(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Elimination without exchanges: one order that pivoting may choose; what is solved does not depend on it."""
    a = as_value(run, inputs[0])
    f, n, m = run.field, a.shape[-2], a.shape[-1]
    run.assumptions.add("lu: read without exchange of rows")
    rows = [a.x.move(lambda part, i=i: part[..., i, :]) for i in range(n)]
    for k in range(min(n, m)):
        pivot = f.inv(rows[k].move(lambda part, k=k: part[..., k, None]), run.constant("1/0"))
        for i in range(k + 1, n):
            ratio = f.mul(rows[i].move(lambda part, k=k: part[..., k, None]), pivot)
            rest = f.sub(rows[i].move(lambda part, k=k: part[..., k + 1 :]),
                         f.mul(ratio, rows[k].move(lambda part, k=k: part[..., k + 1 :])))  # fmt: skip
            rows[i] = f.concatenate([rows[i].move(lambda part, k=k: part[..., :k]), ratio, rest], -1)
    packed = f.concatenate([row.move(lambda part: part[..., None, :]) for row in rows], -2)
    batch = a.shape[:-2]
    pivots = np.broadcast_to(np.arange(min(n, m), dtype=np.int32), (*batch, min(n, m)))
    permutation = np.broadcast_to(np.arange(n, dtype=np.int32), (*batch, n))
    return [Value(packed, a.degree.grown(n + 1, a.x.size, digest(a.x))), pivots, permutation]


def _cholesky(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Exact while every pivot has its root in GF(p) or GF(p)(i) and the rest follows."""
    a = as_value(run, inputs[0])
    f, n = run.field, a.shape[-1]
    zero = Elements(np.zeros(a.shape[:-2], np.int64))
    low = [[zero] * n for _ in range(n)]
    for j in range(n):
        for i in range(j, n):
            rest = a.x.move(lambda part, i=i, j=j: part[..., i, j])
            for k in range(j):
                rest = f.sub(rest, f.mul(low[i][k], low[j][k]))
            if i == j:
                re = Elements(rest.re) if rest.im is not None and not rest.im.any() else rest
                low[j][j] = sqrt(run, Value(re, a.degree)).x
            else:
                low[i][j] = f.mul(rest, f.inv(low[j][j], run.constant("1/0")))
    rows = [f.concatenate([entry.move(lambda part: part[..., None]) for entry in row], -1) for row in low]
    packed = f.concatenate([row.move(lambda part: part[..., None, :]) for row in rows], -2)
    return [Value(packed, a.degree.grown(n + 1, a.x.size, digest(a.x)))]


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
