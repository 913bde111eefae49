"""Parameters of an equation as text that tells it from every other, and is the same in two traces of one program."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop._jax_versions import closed, inner

__all__ = ["label_of"]

IRRELEVANT = {"sharding", "out_sharding", "accuracy"}


def label_of(params: Mapping[str, Any]) -> str:
    """Every parameter by its value: arrays and programs by what is in them, functions by which object they are. Where a
    program is among them its name says nothing."""
    irrelevant = {*IRRELEVANT, "name"} if any(map(_is_program, params.values())) else IRRELEVANT
    return " ".join(f"{key}={_text(value)}" for key, value in sorted(params.items()) if key not in irrelevant)


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _text(value: Any) -> str:
    if _is_program(value):
        return _program(closed(value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(_text(item) for item in value)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if hasattr(value, "callback_func"):  # of a callback: the user's function, whose wrapper is made in every trace
        return f"{type(value).__name__} {id(value.callback_func)} {value.in_tree}"
    if callable(value):
        return f"{getattr(value, '__name__', '')} {id(value)}"
    text = str(value)
    return f"{type(value).__name__} {id(value)}" if " at 0x" in text else text


def _array(value: Any) -> str:
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def _program(program: Any) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program.jaxpr))
    parts = [text, *(_array(const) for const in program.consts)]
    for eqn in program.jaxpr.eqns:
        parts += [_text(np.asarray(v.val)) for v in eqn.invars if hasattr(v, "val")]
        parts += [_program(body) for body in inner(eqn)]
        parts += [_text(value) for value in eqn.params.values() if callable(value)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
