"""Primitives that move entries, by NumPy."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["VIEWS", "as_dtype"]


def _slice(x: np.ndarray, params: dict) -> np.ndarray:
    strides = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def _reshape(x: np.ndarray, params: dict) -> np.ndarray:
    return np.reshape(np.transpose(x, params.get("dimensions") or range(x.ndim)), params["new_sizes"])


VIEWS: dict[str, Callable[[np.ndarray, dict], np.ndarray]] = {
    "reshape": _reshape,
    "rev": lambda x, params: np.flip(x, params["dimensions"]),
    "slice": _slice,
    "squeeze": lambda x, params: np.squeeze(x, tuple(params["dimensions"])),
    "transpose": lambda x, params: np.transpose(x, params["permutation"]),
}
"""Those with ``Trait.VIEW``, as functions of an array and the equation's parameters."""


def as_dtype(number: Any, dtype: Any) -> Any:
    """The number rounded to that dtype, in a type that represents the result."""
    with np.errstate(all="ignore"):
        rounded = np.asarray(number).astype(dtype)
    return float(rounded) if jnp.issubdtype(dtype, jnp.floating) else rounded[()]
