"""Save parameters and a dictionary in one NPZ file that plain NumPy can open.

The member ``handprop`` is JSON: the format's version, each layer's dtypes, and ``meta``. The other members are the
arrays ``params[l].W`` and ``params[l].b``. Dtypes that NumPy does not know, such as bfloat16, are stored as unsigned
integers with the same bits. Nothing is pickled, and files are written atomically.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from handprop._files import write_atomic
from handprop.nn.mlp import Layer

__all__ = ["CheckpointError", "load", "save"]

VERSION = 1
_HEADER = "handprop"
_NATIVE = ("float16", "float32", "float64")

Path = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A file cannot be saved or loaded. The message is one sentence with the file, the field, and what to do."""


def _fail(path: Path, fault: str, cause: BaseException | None = None) -> NoReturn:
    raise CheckpointError(f"{path} {fault}.") from cause


# Bits: convert any float dtype to one that NumPy can write, and back


def _to_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype.name in _NATIVE:
        return array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(array).view(f"<u{array.dtype.itemsize}")


def _from_bits(path: Path, field: str, stored: np.ndarray, name: Any) -> np.ndarray:
    """Return ``stored`` as the float dtype ``name``."""
    try:
        dtype = jnp.dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        _fail(path, f"{_HEADER}.layers names the dtype {name!r} for {field}, not a floating one; save it again")
    native = dtype.name in _NATIVE
    expected = np.dtype(dtype.name if native else f"u{dtype.itemsize}")
    if stored.dtype.newbyteorder("=") != expected:
        _fail(path, f"{field} is stored as {stored.dtype}, but its header says {dtype.name}; save it again")
    stored = stored.astype(expected, copy=False)
    return stored if native else stored.view(dtype)


# Shapes


def _check_chain(path: Path, params: Sequence[Layer]) -> None:
    """Check that ``W`` is (I, O), ``b`` is (O,) or None, and that each layer's I is the previous layer's O."""
    if not params:
        _fail(path, "has no layers; save at least one")
    for l, (W, b) in enumerate(params):
        if W.ndim != 2 or 0 in W.shape:
            stack = " (handprop.unstack_equal_layers converts a stack)" if W.ndim == 3 else ""
            _fail(path, f"params[{l}].W has shape {W.shape}; save weights of shape (I, O), both at least 1{stack}")
        if l and W.shape[0] != params[l - 1].W.shape[1]:
            before = params[l - 1].W.shape
            _fail(
                path,
                f"params[{l}].W has shape {W.shape}, but params[{l - 1}].W has {before}; "
                f"give params[{l}].W {before[1]} inputs",
            )
        if b is not None and b.shape != W.shape[1:]:
            _fail(path, f"params[{l}].b has shape {b.shape}, but params[{l}].W needs {W.shape[1:]}; correct b")


def _fields(params: Sequence[Layer]) -> Iterator[tuple[str, Any]]:
    for l, (W, b) in enumerate(params):
        yield f"params[{l}].W", W
        if b is not None:
            yield f"params[{l}].b", b


# Saving


def _as_layer(path: Path, l: int, layer: Any) -> Layer:
    """Return the layer with NumPy arrays."""
    if not (hasattr(layer, "W") and hasattr(layer, "b")):
        _fail(path, f"cannot hold params[{l}] of type {type(layer).__name__}; give handprop.Layer(W, b)")
    arrays: list[Any] = [None if leaf is None else np.asarray(leaf) for leaf in (layer.W, layer.b)]
    return Layer(*arrays)


def _header(path: Path, params: Sequence[Layer], meta: dict[str, Any]) -> np.ndarray:
    layers = [{"W": W.dtype.name, "b": None if b is None else b.dtype.name} for W, b in params]
    try:
        if not isinstance(meta, dict):
            raise TypeError(f"meta is {type(meta).__name__}")
        return np.array(json.dumps({"version": VERSION, "layers": layers, "meta": meta}))
    except (TypeError, ValueError) as error:
        _fail(path, "cannot hold this meta; give a dict of JSON values, such as strings and numbers", error)


def _write_whole(path: Path, members: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **members)  # pyright: ignore[reportArgumentType]
    try:
        write_atomic(path, content.getvalue())
    except OSError as error:
        _fail(path, f"cannot be written ({error.strerror}); choose a file in a folder you can write to", error)


def save(path: Path, params: Sequence[Layer], meta: dict[str, Any]) -> None:
    """Write ``params`` and ``meta`` (any JSON values) to ``path``, atomically.

    Loading restores the bits of every float dtype. A failed save leaves the file at ``path`` unchanged.
    Raises CheckpointError.
    """
    layers = tuple(_as_layer(path, l, layer) for l, layer in enumerate(params))
    _check_chain(path, layers)
    for field, array in _fields(layers):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            _fail(path, f"cannot hold {field} of dtype {array.dtype}; give a floating dtype")
    members = {_HEADER: _header(path, layers, meta)}
    members |= {field: _to_bits(array) for field, array in _fields(layers)}
    _write_whole(path, members)


# Loading


def _members(path: Path) -> dict[str, np.ndarray]:
    """Return every array of the file by name."""
    field = "archive"
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                _fail(path, "is not a handprop checkpoint, or is truncated; give a file that handprop saved")
            file.seek(0)  # is_zipfile leaves it near the end
            members = {}
            with np.load(file, allow_pickle=False) as archive:
                for field in archive.files:
                    members[field] = archive[field]
            return members
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        _fail(path, "does not exist; check the path", error)
    except IsADirectoryError as error:
        _fail(path, "is a folder; give the path of a file", error)
    except PermissionError as error:
        _fail(path, "cannot be opened (Permission denied); check its permissions", error)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        _fail(path, f"{field} is damaged; save it again", error)


def _read_header(path: Path, members: dict[str, np.ndarray]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the layers' dtypes and ``meta``."""
    if _HEADER not in members:
        _fail(path, f"has no member {_HEADER!r}; give a file that handprop saved")
    try:
        header = json.loads(str(members[_HEADER]))
    except ValueError as error:
        _fail(path, f"{_HEADER} is not JSON; save it again", error)
    version = header.get("version") if isinstance(header, dict) else None
    if version != VERSION:
        _fail(path, f"{_HEADER}.version is {version}, not {VERSION}; save it again with this handprop")
    layers, meta = header.get("layers"), header.get("meta")
    if not isinstance(layers, list) or not all(isinstance(l, dict) and l.keys() == {"W", "b"} for l in layers):
        _fail(path, f"{_HEADER}.layers is not a list of W and b; save it again")
    if not isinstance(meta, dict):
        _fail(path, f"{_HEADER}.meta is not an object; save it again")
    return layers, meta


def load(path: Path) -> tuple[tuple[Layer, ...], dict[str, Any]]:
    """Return ``(params, meta)`` as saved. The arrays are NumPy arrays, so that float64 needs no x64 mode.

    Raises CheckpointError.
    """
    members = _members(path)
    dtypes, meta = _read_header(path, members)

    def array(field: str, dtype: Any) -> Any:
        if not isinstance(members.get(field), np.ndarray):
            _fail(path, f"has no member {field!r}; save it again")
        return _from_bits(path, field, members.pop(field), dtype)

    params = tuple(
        Layer(
            array(f"params[{l}].W", layer["W"]),
            None if layer["b"] is None else array(f"params[{l}].b", layer["b"]),
        )
        for l, layer in enumerate(dtypes)
    )
    extra = sorted(members.keys() - {_HEADER})
    if extra:
        _fail(path, f"has a member {extra[0]!r} that {_HEADER}.layers does not list; save it again")
    _check_chain(path, params)
    return params, meta
