"""Arrays of numbers of arbitrary precision, and what turns other arrays into them."""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import mpf

__all__ = ["as_floats", "constant", "each", "exact", "is_float", "is_key", "made", "pointwise"]


def is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_key(x: Any) -> bool:
    """Whether it is an array of random keys, which NumPy cannot hold."""
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jax.dtypes.extended))


def made(entries: Iterable[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An object array of this shape with these entries in C order."""
    out = np.empty(shape, object)
    for place, entry in zip(np.ndindex(*shape), entries, strict=True):
        out[place] = entry
    return out


def exact(number: Any) -> mpf:
    """The number itself where it is a float or an integer, at the precision in force where it is a fraction."""
    if isinstance(number, Fraction):
        return mpf(number.numerator) / number.denominator
    return mpf(number)


def as_floats(x: Any) -> np.ndarray:
    """An array of ``mpf`` from one of any kind of numbers."""
    array = np.asarray(x)
    if array.dtype == object:
        return made((exact(entry) for entry in array.ravel()), array.shape)
    if array.dtype.kind in "iub":
        return made((mpf(int(entry)) for entry in array.ravel()), array.shape)
    return made((mpf(float(entry)) for entry in array.ravel()), array.shape)


def constant(x: Any, readings: Mapping[float, Any], dtype: Any = None) -> Any:
    """A literal or constant of the program, floats as the numbers that they are read as."""
    if is_key(x):
        return x
    array = np.asarray(x, dtype)
    if not is_float(array.dtype):
        return array
    return made((exact(readings.get(float(entry), float(entry))) for entry in array.ravel()), array.shape)


def each(f: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """``f`` of every entry, as an object array."""
    return np.asarray(np.frompyfunc(f, len(arrays), 1)(*arrays), object)


def pointwise(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The rule of a primitive that works on each entry by itself."""
    return lambda step, *arrays: each(f, *arrays)
