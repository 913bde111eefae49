"""Check the inputs of a network when it is traced. Each error names the path, both sides and the remedy."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = ["check_examples", "check_labels", "check_name", "check_reduction", "check_sizes", "check_targets"]


def check_name(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{what}={name!r} is not known; choose one of {', '.join(known)}.")


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(sizes)
    if len(sizes) < 2 or any(not isinstance(s, (int, np.integer)) or isinstance(s, bool) or s < 1 for s in sizes):
        raise ValueError(
            f"sizes={sizes} is not valid; give at least two whole numbers of at least 1, the number of inputs first."
        )
    return tuple(int(s) for s in sizes)


def _check_array(path: str, array: Any, shape: tuple[int, ...], dtype: Any, want: str) -> None:
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise TypeError(f"{path} is {type(array).__name__}, not an array; expected shape {shape}, {want}.")
    if array.shape != shape:
        raise ValueError(f"{path} has shape {array.shape}, but {want} needs {shape}.")
    if array.dtype != dtype:
        raise TypeError(
            f"{path} has dtype {array.dtype}, but params[0].W has {jnp.dtype(dtype)}; "
            f"cast one of them with .astype so that both agree."
        )


def _layout(sizes: tuple[int, ...], params: Any, run: tuple[int, int]) -> tuple[list[tuple[int, ...]], str]:
    """Return the expected shape of each entry's ``W`` and a description of the layout, or raise an error.

    If the layers of ``run`` come as a stack, they are one entry.
    """
    (first, last), layers = run, list(pairwise(sizes))
    stack: list[tuple[int, ...]] = [*layers[:first], (last - first, *layers[first]), *layers[last:]]
    count = len(params) if isinstance(params, tuple | list) else None
    if count == len(layers):
        return [*layers], f"sizes {sizes}"
    if last > first and count == len(stack):
        return stack, f"sizes {sizes} with params[{first}:{last}] stacked"
    for l, layer in enumerate(params if count and last == first else ()):
        if getattr(getattr(layer, "W", None), "ndim", 0) == 3:
            raise ValueError(
                f"params[{l}].W of shape {layer.W.shape} is a stack of layers, which only apply, loss and "
                f"value_and_grad of form='scan' accept; give handprop.unstack_equal_layers(params)."
            )
    found = type(params).__name__ if count is None else f"{count} layers"
    also = f", or of {len(stack)} with params[{first}:{last}] stacked" if last > first else ""
    raise ValueError(f"params is {found}, but sizes {sizes} need a tuple of {len(layers)} Layer(W, b){also}.")


def _check_params(sizes: tuple[int, ...], bias: bool, params: Any, run: tuple[int, int]) -> Any:
    """Check the parameters and return their dtype."""
    shapes, want = _layout(sizes, params, run)
    dtype: Any = getattr(getattr(params[0], "W", None), "dtype", None)
    for l, (layer, shape) in enumerate(zip(params, shapes, strict=True)):
        if not (hasattr(layer, "W") and hasattr(layer, "b")):
            raise TypeError(f"params[{l}] is {type(layer).__name__}; expected handprop.Layer(W, b).")
        _check_array(f"params[{l}].W", layer.W, shape, dtype, want)
        if bias != (layer.b is not None):
            have, need = ("None", "an array") if bias else ("an array", "None")
            raise ValueError(f"params[{l}].b is {have}, but a network with bias={bias} needs {need}.")
        if layer.b is not None:
            _check_array(f"params[{l}].b", layer.b, (*shape[:-2], shape[-1]), dtype, want)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"params[0].W has dtype {dtype}; a network needs a floating dtype, such as float32.")
    return dtype


def check_examples(sizes: tuple[int, ...], bias: bool, params: Any, x: Any, run: tuple[int, int] = (0, 0)) -> jax.Array:
    """Return ``x`` (N, I) as an array after checking it and the parameters.

    The layers of ``run`` may come as a stack.
    """
    dtype = _check_params(sizes, bias, params, run)
    x = jnp.asarray(x)
    if x.ndim != 2 or x.shape[1] != sizes[0]:
        hint = " (one example is x[None])" if x.ndim == 1 else ""
        raise ValueError(
            f"x has shape {x.shape}, but params[0].W of shape {params[0].W.shape} needs (N, {sizes[0]}){hint}."
        )
    if x.dtype != dtype:
        raise TypeError(
            f"x has dtype {x.dtype}, but params[0].W has {jnp.dtype(dtype)}; "
            f"use x.astype({jnp.dtype(dtype).name!r}) or init(key, dtype=...)."
        )
    return x


def check_reduction(x: jax.Array, mean: bool) -> None:
    if mean and x.shape[0] == 0:
        raise ValueError("x has no examples (shape (0, I)), and a mean over none is not defined; use reduction='sum'.")


def check_targets(outputs: int, x: jax.Array, y: Any, labels: bool) -> jax.Array:
    """Return ``y`` (N, O) in the dtype of ``x`` after checking it. Integer labels (N,) become one-hot rows."""
    y = jnp.asarray(y)
    if labels and jnp.issubdtype(y.dtype, jnp.integer):
        return _one_hot(outputs, x, y)
    expected = (x.shape[0], outputs)
    if y.shape != expected:
        also = f", or integer labels of shape ({x.shape[0]},)" if labels else ""
        raise ValueError(
            f"y has shape {y.shape}, but x of shape {x.shape} and {outputs} outputs need {expected}{also}."
        )
    if y.dtype != x.dtype:
        raise TypeError(f"y has dtype {y.dtype}, but x has {x.dtype}; use y.astype({x.dtype.name!r}).")
    return y


def _one_hot(classes: int, x: jax.Array, labels: jax.Array) -> jax.Array:
    if labels.shape != (x.shape[0],):
        raise ValueError(
            f"y has shape {labels.shape}, but x of shape {x.shape} needs integer labels of shape ({x.shape[0]},)."
        )
    if not isinstance(labels, Tracer):
        check_labels(classes, labels)
    # While tracing, a label out of range cannot be seen. Its row is NaN so that it does not train silently.
    known = (labels >= 0) & (labels < classes)
    rows = jax.nn.one_hot(labels, classes, dtype=x.dtype)
    return jnp.where(known[:, None], rows, jnp.array(jnp.nan, x.dtype))


def check_labels(classes: int, labels: Any) -> None:
    """Raise an error if concrete labels are out of range."""
    if labels.size:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"y holds labels from {low} to {high}, but {classes} outputs take labels 0 to {classes - 1}."
            )
