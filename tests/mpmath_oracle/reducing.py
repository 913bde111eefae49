"""Reductions, running reductions, windows and sorting."""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mpmath
import numpy as np

from mpmath_oracle import scalars
from mpmath_oracle.values import each, made

__all__ = ["RULES", "summed", "window_places"]


def summed(entries: Sequence[Any]) -> Any:
    """Rounded once, at the end."""
    return mpmath.fsum(entries)


def product(entries: Sequence[Any]) -> Any:
    return functools.reduce(operator.mul, entries, mpmath.mpf(1))


def folded(f: Callable[[Any, Any], Any]) -> Callable[[Sequence[Any]], Any]:
    return lambda entries: functools.reduce(f, entries)


INFINITY = mpmath.mpf("inf")
OF_FLOATS = {
    "sum": summed,
    "prod": product,
    "max": lambda entries: functools.reduce(scalars.greatest, entries, -INFINITY),
    "min": lambda entries: functools.reduce(scalars.least, entries, INFINITY),
}
OF_INTEGERS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


def rows(x: np.ndarray, axes: Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
    """The shape that is left, and a row of entries for each of its places."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    length = int(np.prod([x.shape[axis] for axis in axes], dtype=int))
    return shape, np.transpose(x, [*kept, *axes]).reshape(int(np.prod(shape, dtype=int)), length)


def reduction(name: str) -> Callable[..., np.ndarray]:
    """The rule of ``reduce_<name>``."""

    def rule(step: Any, x: np.ndarray) -> np.ndarray:
        shape, lines = rows(x, step.params["axes"])
        if x.dtype == object:
            return made((OF_FLOATS[name](list(line)) for line in lines), shape)
        return np.asarray(OF_INTEGERS[name](lines, axis=1)).astype(x.dtype).reshape(shape)

    return rule


def extreme(better: Callable[[Any, Any], bool]) -> Callable[..., np.ndarray]:
    """The rule of argmax or argmin: the first of the best, or the first NaN."""

    def first(line: Sequence[Any]) -> int:
        best = 0
        for place, entry in enumerate(line):
            if scalars.is_nan(line[best]):
                break
            if better(entry, line[best]) or scalars.is_nan(entry):
                best = place
        return best

    def rule(step: Any, x: np.ndarray) -> np.ndarray:
        shape, lines = rows(x, step.params["axes"])
        return np.array([first(line) for line in lines], step.params["index_dtype"]).reshape(shape)

    return rule


def log_add(x: Any, y: Any) -> Any:
    top = scalars.greatest(x, y)
    return top if mpmath.isinf(top) else top + mpmath.log(mpmath.exp(x - top) + mpmath.exp(y - top))


RUNNING: dict[str, tuple[Any, Any]] = {
    "cumsum": (operator.add, operator.add),
    "cumprod": (operator.mul, operator.mul),
    "cummax": (scalars.greatest, np.maximum),
    "cummin": (scalars.least, np.minimum),
    "cumlogsumexp": (log_add, None),
}


def running(name: str) -> Callable[..., np.ndarray]:
    def rule(step: Any, x: np.ndarray) -> np.ndarray:
        axis, turned = step.params["axis"], step.params["reverse"]
        lines = list(np.moveaxis(np.flip(x, axis) if turned else x, axis, 0))
        f = RUNNING[name][x.dtype != object]
        for i in range(1, len(lines)):
            pair = lines[i - 1], lines[i]
            lines[i] = each(f, *pair) if x.dtype == object else np.asarray(f(*pair), x.dtype)
        out = np.moveaxis(np.stack(lines), 0, axis) if lines else x
        return np.flip(out, axis) if turned else out

    return rule


def general(step: Any, *operands: np.ndarray) -> list[np.ndarray]:
    """``lax.reduce``: the equation's own program folds the entries, initial values first."""
    count = len(operands) // 2
    arrays, starts = operands[:count], operands[count:]
    shape, _ = rows(arrays[0], step.params["dimensions"])
    lines = [rows(x, step.params["dimensions"])[1] for x in arrays]
    folds = [_fold(step, starts, [list(each_line[i]) for each_line in lines]) for i in range(len(lines[0]))]
    return [
        np.array([fold[k] for fold in folds], dtype=x.dtype).reshape(shape)
        if x.dtype != object else made((fold[k][()] for fold in folds), shape)
        for k, x in enumerate(arrays)
    ]  # fmt: skip


def _fold(step: Any, state: Sequence[np.ndarray], columns: list[list[Any]]) -> Sequence[Any]:
    for entries in zip(*columns, strict=True):
        own = [np.asarray(entry, old.dtype) for entry, old in zip(entries, state, strict=True)]
        state = step.walk(step.program("jaxpr"), [*state, *own])
    return state


# Windows


def window_places(
    params: Any, shape: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...] | None]]]:
    """Every place of the output, and the places of the input in its window: None where that is padding."""
    rank = len(shape)
    window, strides, padding = (params[key] for key in ("window_dimensions", "window_strides", "padding"))
    inside, between = (params.get(key) or (1,) * rank for key in ("window_dilation", "base_dilation"))
    sizes = []
    for axis in range(rank):
        low, high = padding[axis]
        whole = (max(shape[axis] - 1, 0) * between[axis] + 1 if shape[axis] else 0) + low + high
        sizes.append(max((whole - (window[axis] - 1) * inside[axis] - 1) // strides[axis] + 1, 0))
    for place in np.ndindex(*sizes):
        found: list[tuple[int, ...] | None] = []
        for offset in np.ndindex(*window):
            raw = [place[a] * strides[a] + offset[a] * inside[a] - padding[a][0] for a in range(rank)]
            taken = all(r >= 0 and r % b == 0 and r // b < s for r, b, s in zip(raw, between, shape, strict=True))
            found.append(tuple(r // b for r, b in zip(raw, between, strict=True)) if taken else None)
        yield place, found


def windowed(name: str) -> Callable[..., np.ndarray]:
    """The rule of ``reduce_window_<name>``."""

    def rule(step: Any, x: np.ndarray) -> np.ndarray:
        out = np.empty(step.out[0].shape, x.dtype)
        fold = OF_FLOATS[name] if x.dtype == object else OF_INTEGERS[name]
        for place, places in window_places(step.params, x.shape):
            out[place] = fold([x[p] for p in places if p is not None])
        return out

    return rule


def general_window(step: Any, *operands: np.ndarray) -> list[np.ndarray]:
    count = len(operands) // 2
    arrays, starts = operands[:count], operands[count:]
    out = [np.empty(aval.shape, x.dtype) for aval, x in zip(step.out, arrays, strict=True)]
    for place, places in window_places(step.params, arrays[0].shape):
        columns = [[start[()] if p is None else x[p] for p in places] for x, start in zip(arrays, starts, strict=True)]
        for array, entry in zip(out, _fold(step, starts, columns), strict=True):
            array[place] = entry[()]
    return out


def chosen(step: Any, x: np.ndarray, places: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """The first of the window's best entries; ``ge`` chooses the largest, ``le`` the smallest."""
    better = {"ge": operator.gt, "gt": operator.gt, "le": operator.lt, "lt": operator.lt}[
        step.params["select_prim"].name
    ]
    best = None
    for place in places:
        if place is not None and (best is None or better(x[place], x[best])):
            best = place
    return best


def select_and_scatter_add(step: Any, source: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.full(x.shape, mpmath.mpf(0), object)
    for place, places in window_places(step.params, x.shape):
        best = chosen(step, x, places)
        if best is not None:
            out[best] = out[best] + source[place]
    return out


def select_and_gather_add(step: Any, tangents: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.empty(step.out[0].shape, object)
    for place, places in window_places(step.params, x.shape):
        best = chosen(step, x, places)
        out[place] = mpmath.mpf(0) if best is None else tangents[best]
    return out


# Sorting


def rank_of(entry: Any) -> tuple[bool, Any]:
    """NaN behind all else."""
    return (True, 0) if scalars.is_nan(entry) else (False, entry)


def sort(step: Any, *operands: np.ndarray) -> list[np.ndarray]:
    axis, keys = step.params["dimension"], step.params["num_keys"]
    moved = [np.moveaxis(x, axis, -1) for x in operands]
    out = [np.empty(x.shape, x.dtype) for x in moved]
    for place in np.ndindex(*moved[0].shape[:-1]):
        lines = [x[place] for x in moved]
        order = sorted(range(len(lines[0])), key=lambda i, lines=lines: [rank_of(line[i]) for line in lines[:keys]])
        for array, line in zip(out, lines, strict=True):
            array[place] = line[order]
    return [np.moveaxis(x, -1, axis) for x in out]


def top_k(step: Any, x: np.ndarray) -> list[np.ndarray]:
    """The largest entries, the first of equal ones first, NaN before all else, and where they stand."""
    axis, k = step.params.get("axis", x.ndim - 1), step.params["k"]
    moved = np.moveaxis(x, axis, -1)
    shape = (*moved.shape[:-1], k)
    found, where = np.empty(shape, x.dtype), np.empty(shape, step.out[1].dtype)
    for place in np.ndindex(*moved.shape[:-1]):
        line = moved[place]
        order = sorted(range(len(line)), key=lambda i, line=line: (not scalars.is_nan(line[i]), -line[i]))[:k]
        found[place], where[place] = line[order], order
    return [np.moveaxis(found, -1, axis), np.moveaxis(where, -1, axis)]


RULES: dict[str, Callable[..., Any]] = {
    **{f"reduce_{name}": reduction(name) for name in OF_INTEGERS},
    **{name: running(name) for name in RUNNING},
    **{f"reduce_window_{name}": windowed(name) for name in OF_FLOATS},
    "argmax": extreme(operator.gt),
    "argmin": extreme(operator.lt),
    "reduce": general,
    "reduce_window": general_window,
    "select_and_scatter_add": select_and_scatter_add,
    "select_and_gather_add": select_and_gather_add,
    "sort": sort,
    "top_k": top_k,
}
