"""Convert plain values to JSON and back without losing a bit: numbers, text, sequences, mappings and arrays.

JSON has no arrays, tuples, complex or non-finite numbers. Tuples become lists. Each of the others becomes an object
with one key that begins with ``$``. Reading never executes anything.
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["Values", "dump", "freeze", "load", "pack", "unpack"]

LARGEST_TEXT = 2**30
DTYPES = {
    np.dtype(t).name: np.dtype(t)
    for t in (
        *(getattr(np, f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *(np.bool_, np.float16, np.float32, np.float64, np.complex64, np.complex128),
        *(t for t in vars(ml_dtypes).values() if isinstance(t, type) and issubclass(t, np.generic)),
    )
}
"""The dtypes that an array may have: those of NumPy that JAX supports, and those of ml_dtypes."""


class Values(Mapping[str, Any]):
    """An immutable mapping from names to values that :func:`freeze` has converted."""

    __slots__ = ("_named",)

    def __init__(self, named: Mapping[str, Any] | None = None):
        self._named = {str(name): freeze(value) for name, value in (named or {}).items()}

    def __getitem__(self, name: str) -> Any:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __repr__(self) -> str:
        return repr(self._named)


def freeze(value: Any) -> Any:
    """Return ``value`` as None, bool, int, float, complex, str, tuple, :class:`Values` or a read-only array.

    NumPy scalars become Python scalars, which is exact for float32 and bfloat16 too.

    Raises:
        TypeError: a report cannot hold such a value.
    """
    if value is None or type(value) in (bool, int, float, complex, str):
        return value
    if isinstance(value, np.generic):
        return _scalar(value)
    if isinstance(value, Mapping):
        return Values(value)
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if hasattr(value, "__array__"):
        return _array(value)
    kind: Any = next((plain for plain in (int, float, complex, str) if isinstance(value, plain)), None)
    if kind is not None:  # a subclass, such as an IntEnum
        return kind(value)
    raise TypeError(f"a report cannot hold a {type(value).__name__}: {value!r}")


def _scalar(value: np.generic) -> Any:
    plain = value.item()
    return float(plain) if isinstance(plain, np.generic) else plain


def _array(value: Any) -> np.ndarray:
    array = np.array(value)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"a report cannot hold an array of dtype {array.dtype}")
    array.setflags(write=False)
    return array


def pack(value: Any) -> Any:
    """Convert a value that :func:`freeze` returned to one that ``json`` can write."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        text = base64.b64encode(content).decode("ascii")
        return {"$array": {"dtype": value.dtype.name, "shape": list(value.shape), "base64": text}}
    if isinstance(value, Mapping):
        packed = {name: pack(item) for name, item in value.items()}
        return {"$map": packed} if any(name.startswith("$") for name in packed) else packed
    if isinstance(value, tuple):
        return [pack(item) for item in value]
    if isinstance(value, complex):
        return {"$complex": [pack(value.real), pack(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def unpack(packed: Any) -> Any:
    """Return the value that :func:`pack` was given. Raises ValueError if ``packed`` cannot have come from there."""
    if isinstance(packed, list):
        return tuple(unpack(item) for item in packed)
    if not isinstance(packed, dict):
        return packed
    tag = next(iter(packed), "")
    if not tag.startswith("$"):
        return Values({name: unpack(item) for name, item in packed.items()})
    if len(packed) != 1 or tag not in _UNPACK:
        raise ValueError(f"an object has the unknown key {tag!r}")
    return _UNPACK[tag](packed[tag])


def _unpack_map(content: Any) -> Values:
    if not isinstance(content, dict):
        raise ValueError("a $map must hold an object")
    return Values({name: unpack(item) for name, item in content.items()})


def _unpack_float(content: Any) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"{content!r} is not a valid $float")
    return float(content)


def _unpack_complex(content: Any) -> complex:
    parts = unpack(content)
    if not (isinstance(parts, tuple) and len(parts) == 2 and all(isinstance(part, float) for part in parts)):
        raise ValueError(f"{content!r} is not a valid $complex")
    return complex(*parts)


def _unpack_array(content: Any) -> np.ndarray:
    if not isinstance(content, dict) or set(content) != {"dtype", "shape", "base64"}:
        raise ValueError("an array must have dtype, shape and base64, and nothing else")
    name, shape, text = content["dtype"], content["shape"], content["base64"]
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError(f"an array has the unknown dtype {name!r}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"an array has the invalid shape {shape!r}")
    if not isinstance(text, str):
        raise ValueError("an array's base64 must be text")
    data, dtype = base64.b64decode(text, validate=True), DTYPES[name]
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of {name}{shape} cannot have {len(data)} bytes")
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    array.setflags(write=False)
    return array


_UNPACK = {"$map": _unpack_map, "$float": _unpack_float, "$complex": _unpack_complex, "$array": _unpack_array}


def dump(packed: Any) -> str:
    return json.dumps(packed, indent=2, allow_nan=False)


def load(text: str) -> Any:
    """Parse ``text`` as JSON. Raises ValueError, also if it is too long or nested too deeply."""
    if not isinstance(text, str):
        raise ValueError(f"it is of type {type(text).__name__}, not text")
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"it has {len(text):,} characters, more than the limit of {LARGEST_TEXT:,}")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
