"""Rules of primitives that move entries and change none, but for gathers and scatters."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpmath import mpf

from mpmath_oracle.elementwise import converted
from mpmath_oracle.values import is_float

__all__ = ["RULES", "padded", "starts_of"]


def broadcast_in_dim(step: Any, x: np.ndarray, *sizes: Any) -> np.ndarray:
    shape, axes = step.out[0].shape, step.params["broadcast_dimensions"]
    kept = [1] * len(shape)
    for axis, size in zip(axes, x.shape, strict=True):
        kept[axis] = size
    return np.broadcast_to(x.reshape(kept), shape)


def iota(step: Any, *sizes: Any) -> np.ndarray:
    shape, axis = step.params["shape"], step.params["dimension"]
    line = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return converted(np.broadcast_to(line, shape), step.params["dtype"])


def empty(step: Any) -> np.ndarray:
    """What a branch that is not taken leaves for the backward pass: NaN, as nothing may read it."""
    shape, dtype = step.out[0].shape, step.out[0].dtype
    return np.full(shape, mpf("nan"), object) if is_float(dtype) else np.zeros(shape, dtype)


def sliced(step: Any, x: np.ndarray) -> np.ndarray:
    starts, limits, strides = (step.params[key] for key in ("start_indices", "limit_indices", "strides"))
    return x[tuple(slice(*ends) for ends in zip(starts, limits, strides or [1] * x.ndim, strict=True))]


def starts_of(indices: Sequence[Any], sizes: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Where a dynamic slice begins: it is moved until it fits."""
    return [min(max(int(i), 0), whole - size) for i, size, whole in zip(indices, sizes, shape, strict=True)]


def dynamic_slice(step: Any, x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    sizes = step.params["slice_sizes"]
    starts = starts_of(indices[: x.ndim], sizes, x.shape)
    return x[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]


def dynamic_update_slice(step: Any, x: np.ndarray, update: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    out, starts = x.copy(), starts_of(indices, update.shape, x.shape)
    out[tuple(slice(start, start + size) for start, size in zip(starts, update.shape, strict=True))] = update
    return out


def padded(x: np.ndarray, value: Any, config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """``lax.pad``: so many entries before, after and between; negative ones cut."""
    for axis, (low, high, between) in enumerate(config):
        size = x.shape[axis]
        shape = list(x.shape)
        shape[axis] = max(size + (size - 1) * between, 0) + max(low, 0) + max(high, 0)
        out = np.full(shape, value, x.dtype)
        if size:
            place = [slice(None)] * x.ndim
            place[axis] = slice(max(low, 0), max(low, 0) + (size - 1) * (between + 1) + 1, between + 1)
            out[tuple(place)] = x
        cut = [slice(None)] * x.ndim
        cut[axis] = slice(max(-low, 0), shape[axis] - max(-high, 0))
        x = out[tuple(cut)]
    return x


def pad(step: Any, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    return padded(x, value[()], step.params["padding_config"])


def split(step: Any, x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.cumsum(step.params["sizes"])[:-1], step.params["axis"])


def unstack(step: Any, x: np.ndarray) -> list[np.ndarray]:
    lines = np.moveaxis(x, step.params["axis"], 0)
    return [np.asarray(lines[i], x.dtype) for i in range(len(lines))]


def reshape(step: Any, x: np.ndarray, *sizes: Any) -> np.ndarray:
    """Entries are read in the order of these axes."""
    order = step.params["dimensions"]
    return (x if order is None else np.transpose(x, order)).reshape(step.out[0].shape)


def reshaped(step: Any, x: np.ndarray, *sizes: Any) -> np.ndarray:
    """Any primitive that keeps the entries in their order."""
    return x.reshape(step.out[0].shape)


def tile(step: Any, x: np.ndarray) -> np.ndarray:
    return np.tile(x, step.params["reps"])


RULES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": broadcast_in_dim,
    "iota": iota,
    "empty": empty,
    "empty2": empty,
    "slice": sliced,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "pad": pad,
    "split": split,
    "unstack": unstack,
    "reshape": reshape,
    "squeeze": reshaped,
    "expand_dims": reshaped,
    "tile": tile,
    "transpose": lambda step, x: np.transpose(x, step.params["permutation"]),
    "rev": lambda step, x: np.flip(x, step.params["dimensions"]),
    "concatenate": lambda step, *parts: np.concatenate(parts, step.params["dimension"]),
    "stack": lambda step, *parts: np.stack(parts, step.params["axis"]),
}
