"""Largest and smallest entries along axes and in windows, and their indices."""

from fractions import Fraction
from typing import Any

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.elementwise import Rule
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.layout import joined, ranks
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.specials import are_special, patched, without_specials
from handprop.verifier.proof.field.truth import Thing, as_value, check_input, greater, maximum, minimum, never_tie
from handprop.verifier.proof.field.values import INFINITY, NAN, OPAQUE, Value, interval, is_nonnegative, moved

__all__ = ["arg_extremum", "reduce_extremum", "window_extremum"]


def _flattened(thing: Value, axes: tuple[int, ...]) -> Value:
    """The value with the reduced axes merged into one last axis."""
    kept = [axis for axis in range(len(thing.shape)) if axis not in axes]
    shape = (*(thing.shape[axis] for axis in kept), -1)
    return moved(thing, lambda part: part.transpose(*kept, *axes).reshape(shape))


def _largest(run: Run, value: Value) -> np.ndarray:
    """The index of the largest entry along the last axis, in the branching reading; NaN counts as the largest."""
    if value.known is not None:
        if value.error:
            raise Unsupported("the largest of known numbers whose order rounding may decide")
        return np.argmax(value.known, -1)
    if value.special is not None and (value.special == OPAQUE).any():
        raise NotUnderstood("the largest of non-finite numbers")
    if not run.branching:
        raise NeedsBranches("the largest of unknown numbers")
    if value.shape[-1] == 2 and value.special is None:
        first, second = (moved(value, lambda part, i=i: part[..., i]) for i in (0, 1))
        return np.asarray(greater(run, second, first)).astype(np.int64)
    if (bounds := interval(value)) is not None:
        largest = np.argmax(bounds[0], -1)
        least = np.take_along_axis(bounds[0], largest[..., None], -1)
        if ((bounds[1] >= least).sum(-1) == 1).all():
            return largest
    check_input(value)
    run.unknown_comparisons += value.x.size
    rank = ranks(run, value._replace(special=None), -1, value.finite)
    decided_on = np.where(value.finite, np.abs(rank) - 1, -1)
    if value.special is not None:
        extreme = np.where(value.special == NAN, 2, value.special).astype(np.int64)
        rank = np.where(value.special != 0, extreme << 60, rank)
    return run.decide(np.argmax(rank, -1), decided_on)


def reduce_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        (thing,) = inputs
        axes = tuple(params["axes"])
        if isinstance(thing, np.ndarray):
            return [np.asarray(thing.max(axes) if largest else thing.min(axes))]
        if not thing.x.size:
            raise Unsupported("the largest entry of an empty array")
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
    """The extremum in the polynomial reading: the mean of the finite entries plus an unknown symmetric function of
    their distances from it.

    An infinity on the side of the extremum is the result; those on the other side do not count.
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
    return Value(x, degree, special=special, kind=Kind.PIECEWISE, positive=value.positive,
                 nonnegative=is_nonnegative(value))  # fmt: skip


def _special_extremum(value: Value, largest: bool) -> np.ndarray | None:
    if value.special is None:
        return None
    if (value.special == OPAQUE).any():
        raise NeedsBranches("the largest of non-finite numbers")
    side = INFINITY if largest else -INFINITY
    nan, found = ((value.special == code).any(-1) for code in (NAN, side))
    none = (value.special == -side).all(-1)
    special = np.where(nan, NAN, np.where(found, side, np.where(none, -side, 0))).astype(np.int8)
    return special if special.any() else None


def arg_extremum(largest: bool) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        value = _flattened(as_value(run, inputs[0]), tuple(params["axes"]))
        if value.known is None and not never_tie(run, value, -1):
            raise NotUnderstood("the index of the largest of numbers that may be equal")
        index = _largest(run, value if largest else run.neg(value))
        return [index.astype(params["index_dtype"])]

    return rule


def _windows(shape, params) -> np.ndarray:
    """(*out, window): the positions in every window, -1 in the padding."""
    positions = np.arange(int(np.prod(shape))).reshape(shape)
    if any(d != 1 for d in params.get("base_dilation") or ()):
        raise Unsupported("a window over a dilated array")
    if any(before < 0 or after < 0 for before, after in params["padding"]):
        raise Unsupported("a window over part of an array")
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


def window_extremum(largest: bool) -> Rule:
    """A rule that compares the entries of a window one after another, in their order."""

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
    """The larger or smaller of two values that may be infinite."""
    extremum, reference = (maximum, np.maximum) if largest else (minimum, np.minimum)
    result = extremum(run, without_specials(a), without_specials(b))
    return patched(run, "max" if largest else "min", reference, [a, b], result) if are_special([a, b]) else result
