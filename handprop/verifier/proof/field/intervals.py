"""Intervals that contain the numbers that no input enters, such as ``exp(0.3) - 1``, so that comparisons of them are
decided.

The element of such a number says nothing about its size. Its interval follows from those of the operands: a primitive
that is monotone in each operand takes its extremes at the ends, a sine is Lipschitz. Each end is computed in float64 by
the primitive itself and moved outward by far more than it may be off. Intervals that overlap decide nothing.
"""

import itertools
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np

from handprop.verifier.programs.jaxprs import is_float
from handprop.verifier.programs.primitives import Acts, row
from handprop.verifier.proof.field.layout import bind
from handprop.verifier.proof.field.values import Interval, Value, interval

__all__ = ["enclosed"]

LOST = 2.0**-40  # relative error of an end, of functions near zero absolute
TINY = 1e-290  # what is below may be computed as zero
# Monotone in each operand where that is in the domain. Of the first, float64 keeps the relative precision.
LINEAR = {"add", "add_any", "sub", "neg", "max", "min"}
RELATIVE = LINEAR | {"exp", "exp2", "sqrt", "rsqrt", "cbrt", "mul"}
MONOTONE = RELATIVE | {"expm1", "log", "log1p", "tanh", "logistic", "erf", "atan", "asinh", "sinh"}
POSITIVE = {"log": 0.0, "rsqrt": 0.0, "sqrt": 0.0, "log1p": -1.0}  # the operand is above
SUMS = {"reduce_sum", "cumsum"}
EXTREMES = {"reduce_max", "reduce_min", "cummax", "cummin"}
LIPSCHITZ = {"sin", "cos"}
ORDERED = {"sort", "top_k", "iota"}


def enclosed(eqn: Any, inputs: Sequence[Any], shape: tuple[int, ...]) -> Interval | None:
    """An interval for each entry of the only result of an equation; None if the operands have none, or the rule of the
    primitive is not known."""
    name = eqn.primitive.name
    rule = RULES.get(name)
    if rule is None and row(name).acts is Acts.MOVES and name not in ORDERED and not name.startswith("scatter"):
        rule = _at_the_ends
    if any(isinstance(t, Value) is not is_float(v.aval.dtype) for t, v in zip(inputs, eqn.invars, strict=True)):
        return None
    bounds = [interval(t) if isinstance(t, Value) else (t, t) for t in inputs]
    parts = [bound for bound in bounds if bound is not None]
    if rule is None or len(eqn.outvars) != 1 or len(parts) < len(bounds):
        return None
    with np.errstate(all="ignore"):
        found = rule(eqn, parts)
    if found is None or not all(np.isfinite(end).all() for end in found):
        return None
    low, high = (np.broadcast_to(np.asarray(end, np.float64), shape) for end in found)
    return low, high


def _run(eqn: Any, operands: Sequence[Any]) -> np.ndarray:
    wide = {key: np.float64 for key in ("preferred_element_type",) if eqn.params.get(key) is not None}
    return np.asarray(bind(eqn.primitive, *operands, **{**eqn.params, **wide}))


def _hull(ends: Sequence[np.ndarray], lost: np.ndarray | float) -> Interval:
    return np.minimum.reduce(ends) - lost, np.maximum.reduce(ends) + lost


def _at_the_ends(eqn: Any, parts: Sequence[Interval]) -> Interval:
    """Of a primitive that moves entries or takes the largest: it is monotone in all of them together, and exact."""
    return _run(eqn, [low for low, _ in parts]), _run(eqn, [high for _, high in parts])


def _monotone(eqn: Any, parts: Sequence[Interval]) -> Interval | None:
    name = eqn.primitive.name
    if name in POSITIVE and not (parts[0][0] > POSITIVE[name]).all():
        return None
    shape = np.broadcast_shapes(*(np.shape(low) for low, _ in parts))
    corners = itertools.product(*([np.broadcast_to(end, shape) for end in part] for part in parts))
    ends = [_run(eqn, corner) for corner in corners]
    size = np.maximum.reduce([np.abs(end) for end in ends])
    if name in LINEAR:
        return _hull(ends, LOST * size)
    if name == "mul":
        return _hull(ends, np.where(reduce(operator.or_, map(_is_zero, parts)), 0.0, LOST * size + TINY))
    return _hull(ends, LOST * (size if name in RELATIVE else size + 1.0) + TINY)


def _is_zero(part: Interval) -> np.ndarray:
    return (part[0] == 0) & (part[1] == 0)


def _quotient(eqn: Any, parts: Sequence[Interval]) -> Interval | None:
    low, high = parts[1]
    return _monotone(eqn, parts) if ((low > 0) | (high < 0)).all() else None


def _power(eqn: Any, parts: Sequence[Interval]) -> Interval | None:
    return _monotone(eqn, parts) if (parts[0][0] > 0).all() else None


def _of_size(eqn: Any, parts: Sequence[Interval]) -> Interval:
    """An absolute value, or an integer power: monotone on each side of zero."""
    ((low, high),) = parts
    crosses = (low <= 0) & (high >= 0)
    ends = [_run(eqn, [low]), _run(eqn, [high])]
    if crosses.any():
        ends.append(np.where(crosses, _run(eqn, [np.zeros_like(low)]), ends[0]))
    size = np.maximum.reduce([np.abs(end) for end in ends])
    return _hull(ends, np.where(_is_zero(parts[0]), 0.0, LOST * size + TINY))


def _integer_power(eqn: Any, parts: Sequence[Interval]) -> Interval | None:
    low, high = parts[0]
    return _of_size(eqn, parts) if eqn.params["y"] > 0 or ((low > 0) | (high < 0)).all() else None


def _sum(eqn: Any, parts: Sequence[Interval]) -> Interval:
    ((low, high),) = parts
    lost = LOST * _run(eqn, [np.maximum(np.abs(low), np.abs(high))])
    return _run(eqn, [low]) - lost, _run(eqn, [high]) + lost


def _lipschitz(eqn: Any, parts: Sequence[Interval]) -> Interval:
    ((low, high),) = parts
    middle, radius = (low + high) / 2, (high - low) / 2 + LOST * (1 + np.abs(low))
    value = _run(eqn, [middle])
    return np.maximum(value - radius, -1.0), np.minimum(value + radius, 1.0)


def _product(eqn: Any, parts: Sequence[Interval]) -> Interval:
    """A matrix product."""
    (a, a_off), (b, b_off) = (((low + high) / 2, (high - low) / 2) for low, high in parts)
    value, all_sizes = _run(eqn, [a, b]), [np.abs(a) + a_off, np.abs(b) + b_off]
    off = _run(eqn, [all_sizes[0], b_off]) + _run(eqn, [a_off, all_sizes[1]]) + LOST * _run(eqn, all_sizes)
    off = off + TINY * _run(eqn, [np.asarray(size > 0, float) for size in all_sizes])
    return value - off, value + off


def _tangent(eqn: Any, parts: Sequence[Interval]) -> Interval | None:
    ((low, high),) = parts
    return _monotone(eqn, parts) if (low > -1.5).all() and (high < 1.5).all() else None


def _chosen(eqn: Any, parts: Sequence[Interval]) -> Interval:
    (which, _), *cases = parts
    low, high = (_run(eqn, [which, *ends]) for ends in zip(*cases, strict=True))
    return low, high


def _converted(eqn: Any, parts: Sequence[Interval]) -> Interval:
    ((low, high),) = parts
    lost = float(ml_dtypes.finfo(eqn.params["new_dtype"]).eps) * np.maximum(np.abs(low), np.abs(high))
    return low - lost, high + lost


Rule = Callable[[Any, Sequence[Interval]], Interval | None]
RULES: dict[str, Rule] = {
    **dict.fromkeys(MONOTONE, _monotone),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(EXTREMES, _at_the_ends),
    **dict.fromkeys(LIPSCHITZ, _lipschitz),
    "div": _quotient,
    "pow": _power,
    "abs": _of_size,
    "square": _of_size,
    "integer_pow": _integer_power,
    "tan": _tangent,
    "dot_general": _product,
    "select_n": _chosen,
    "convert_element_type": _converted,
}
