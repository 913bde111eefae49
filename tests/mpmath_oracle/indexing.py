"""Gathers and scatters by their definitions, one index after the other."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from mpmath import mpf

from mpmath_oracle import scalars
from mpmath_oracle.values import is_float

__all__ = ["RULES"]


def mode_of(step: Any) -> str:
    """CLIP, FILL_OR_DROP or PROMISE_IN_BOUNDS."""
    mode = step.params["mode"]
    return getattr(mode, "name", str(mode)).rpartition(".")[2]


def without(rank: int, *left_out: Any) -> list[int]:
    """The axes that are in none of these lists."""
    gone = {int(axis) for axes in left_out for axis in axes}
    return [axis for axis in range(rank) if axis not in gone]


def placed(start: list[int], window: tuple[int, ...], shape: tuple[int, ...], mode: str) -> list[int] | None:
    """Where a window begins, moved to fit where the mode is to clip; None where it lies outside and is left out."""
    last = [whole - size for whole, size in zip(shape, window, strict=True)]
    if mode == "CLIP":
        return [min(max(i, 0), end) for i, end in zip(start, last, strict=True)]
    return start if all(0 <= i <= end for i, end in zip(start, last, strict=True)) else None


def start_of(
    rank: int, indices: np.ndarray, batch: tuple[int, ...], index_map: Any, own: Any, theirs: Any
) -> list[int]:
    """The first index that one row of indices asks for, batched axes at their own place."""
    start = [0] * rank
    for axis, value in zip(index_map, indices[batch], strict=True):
        start[int(axis)] = int(value)
    for axis, other in zip(own, theirs, strict=True):
        start[int(axis)] = batch[int(other)]
    return start


def fill_of(step: Any) -> Any:
    """What stands for an entry from outside."""
    value, dtype = step.params["fill_value"], step.out[0].dtype
    if is_float(dtype):
        return mpf("nan" if value is None else value)
    if value is not None:
        return value
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


def gather(step: Any, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    numbers, sizes, mode = step.params["dimension_numbers"], step.params["slice_sizes"], mode_of(step)
    out = np.empty(step.out[0].shape, x.dtype)
    outside = fill_of(step)
    batch_axes = without(out.ndim, numbers.offset_dims)
    window_axes = without(x.ndim, numbers.collapsed_slice_dims, numbers.operand_batching_dims)
    for place in np.ndindex(*out.shape):
        batch = tuple(place[axis] for axis in batch_axes)
        start = start_of(x.ndim, indices, batch, numbers.start_index_map, numbers.operand_batching_dims,
                         numbers.start_indices_batching_dims)  # fmt: skip
        begin = placed(start, sizes, x.shape, mode)
        if begin is not None:
            for axis, offset in zip(window_axes, numbers.offset_dims, strict=True):
                begin[axis] += place[offset]
        out[place] = outside if begin is None else x[tuple(begin)]
    return out


def scattered(step: Any, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> Iterator[tuple[Any, Any]]:
    """Every place of the operand that is written to, with the update for it."""
    numbers, mode = step.params["dimension_numbers"], mode_of(step)
    batch_axes = without(updates.ndim, numbers.update_window_dims)
    window_axes = without(x.ndim, numbers.inserted_window_dims, numbers.operand_batching_dims)
    window = [1] * x.ndim
    for axis, update_axis in zip(window_axes, numbers.update_window_dims, strict=True):
        window[axis] = updates.shape[update_axis]
    for place in np.ndindex(*updates.shape):
        batch = tuple(place[axis] for axis in batch_axes)
        start = start_of(x.ndim, indices, batch, numbers.scatter_dims_to_operand_dims, numbers.operand_batching_dims,
                         numbers.scatter_indices_batching_dims)  # fmt: skip
        begin = placed(start, tuple(window), x.shape, mode)
        if begin is not None:
            for axis, update_axis in zip(window_axes, numbers.update_window_dims, strict=True):
                begin[axis] += place[update_axis]
            yield tuple(begin), updates[place]


def scatter(combine: Callable[[Any, Any], Any]) -> Callable[..., np.ndarray]:
    """The rule of a scatter that joins what stands there and the update in this way."""

    def rule(step: Any, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        out = np.array(x)
        for place, update in scattered(step, x, indices, updates):
            out[place] = combine(out[place], update)
        return out

    return rule


SCATTERS = {
    "scatter": scatter(lambda old, new: new),
    "scatter-add": scatter(lambda old, new: old + new),
    "scatter-sub": scatter(lambda old, new: old - new),
    "scatter-mul": scatter(lambda old, new: old * new),
    "scatter-min": scatter(scalars.least),
    "scatter-max": scatter(scalars.greatest),
}
RULES: dict[str, Callable[..., Any]] = {
    "gather": gather,
    **SCATTERS,
    **{name.replace("-", "_"): rule for name, rule in SCATTERS.items()},
}
