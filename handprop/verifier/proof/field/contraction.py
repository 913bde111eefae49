"""Rules for primitives that sum, multiply or select along axes: matrix products, convolutions, reductions, cumulative
sums and small linear algebra."""

from typing import Any

import jax
import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.elementwise import Rule
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.extrema import arg_extremum, reduce_extremum, window_extremum
from handprop.verifier.proof.field.factorizations import cholesky, lu, triangular_solve
from handprop.verifier.proof.field.functions import log
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.layout import bind, joined, move
from handprop.verifier.proof.field.orthogonal import geqrf, householder_product, ormqr, qr
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value, logical_not, maximum, minimum
from handprop.verifier.proof.field.values import (
    Everywhere,
    Value,
    everywhere,
    finite,
    is_nonnegative,
    is_positive,
    moved,
)

__all__ = ["CONTRACTION"]

MAX_TERMS_SUMMED = 1 << 19  # sums of fewer products of limbs are exact in float64


def _check_numbers(eqn: Any) -> None:
    if eqn.outvars[0].aval.dtype == np.bool_:  # its sums are logical ors
        raise NeedsBranches("a product of arrays of truth values")


def _dot_general(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    _check_numbers(eqn)
    a, b = (as_value(run, thing) for thing in inputs)
    finite(a, "a matrix product")
    finite(b, "a matrix product")
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    key = ("dot", str(params["dimension_numbers"]), a.shape, b.shape, digest(a.x), digest(b.x))
    if key in run.memo:
        return [run.memo[key]._replace(kind=max(a.kind, b.kind))]
    left, free_a = _as_matrices(a.x, batch_a, contract_a, last=True)
    right, free_b = _as_matrices(b.x, batch_b, contract_b, last=False)
    terms = left.shape[-1]
    if terms >= MAX_TERMS_SUMMED:
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
    """The entries as (batch, free, contracted) or (batch, contracted, free), and the free sizes."""
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


def _all(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Whether all are true. In the polynomial reading that is the product of the truth values."""
    (truths,) = inputs
    if eqn.invars[0].aval.dtype != np.bool_:
        raise NotUnderstood("a reduction of the bits of integers")
    if isinstance(truths, np.ndarray):
        return [np.asarray(np.all(truths, axis=tuple(params["axes"])))]
    (product,) = _reduce_prod(run, inputs, params, eqn)
    return [as_value(run, product)._replace(kind=Kind.PIECEWISE, nonnegative=True, most=1)]


def _any(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    (none,) = _all(run, [logical_not(run, inputs[0])], params, eqn)
    return [logical_not(run, none)]


def _cumulative(combine) -> Rule:
    """A rule for a cumulative operation along one axis, entry after entry."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        axis = params["axis"]
        thing = inputs[0]
        if params["reverse"]:
            thing = move(thing, lambda part: np.flip(part, axis))
        value = as_value(run, thing)
        finite(value, "a cumulative operation")
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
    finite(thing, "a cumulative sum")
    known = None if thing.known is None else f(thing.known)
    count = max(thing.shape[axis], 1)
    return [Value(run.field.linear(thing.x, f), thing.degree.summed(count), known, kind=thing.kind,
                  nonnegative=is_nonnegative(thing), positive=is_positive(thing), error=thing.error * count,
                  everywhere=everywhere(thing),
                  most=thing.most * count)]  # fmt: skip


def _log_add_exp(run: Run, a: Value, b: Value) -> Value:
    return log(run, run.add(run.exp(a), run.exp(b)))


def _linear_window(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """reduce_window_sum, which is linear with coefficients 0 and 1."""
    value = as_value(run, inputs[0])
    finite(value, "the sum of a window")
    terms = int(np.prod(params["window_dimensions"]))

    def f(part: np.ndarray) -> np.ndarray:
        return bind(eqn.primitive, part, **params)

    return [Value(run.field.linear(value.x, f), value.degree.summed(terms), kind=value.kind,
                  nonnegative=is_nonnegative(value))]  # fmt: skip


CONTRACTION: dict[str, Rule] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reduce_sum": _reduce_sum,
    "reduce_prod": _reduce_prod,
    "reduce_and": _all,
    "reduce_or": _any,
    "reduce_max": reduce_extremum(True),
    "reduce_min": reduce_extremum(False),
    "argmax": arg_extremum(True),
    "argmin": arg_extremum(False),
    "cumsum": _cumsum,
    "cumprod": _cumulative(lambda run, a, b: run.mul(a, b)),
    "cummax": _cumulative(maximum),
    "cummin": _cumulative(minimum),
    "cumlogsumexp": _cumulative(_log_add_exp),
    "reduce_window_sum": _linear_window,
    "reduce_window_max": window_extremum(True),
    "reduce_window_min": window_extremum(False),
    "triangular_solve": triangular_solve,
    "lu": lu,
    "cholesky": cholesky,
    "geqrf": geqrf,
    "householder_product": householder_product,
    "ormqr": ormqr,
    "qr": qr,
}
