"""Text for the parameters of an equation: different for different equations, equal in two traces of one program."""

import enum
import hashlib
import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

from handprop._compat import closed, equations, inner

__all__ = ["label_of", "own_labels"]

IRRELEVANT = {"sharding", "out_sharding", "accuracy"}
NAMED = {"shard_map", "pallas_call", "while", "scan", "cond", "custom_jvp_call", "custom_vjp_call", "jit", "pjit"}
SPELLED = ("builtins", "jax", "jaxlib", "numpy", "ml_dtypes")  # modules whose objects are identified by their text
COUNT = itertools.count()


def label_of(params: Mapping[str, Any], primitive: Any = None) -> str:
    """The parameters as text: arrays and programs by their contents, functions by their identity.

    Parameters of JAX's own primitives that do not change a value are left out, and so is the name of a program. For a
    ``primitive`` of the user's none is left out, because any of them may change a value.
    """
    irrelevant = IRRELEVANT if primitive is None or _is_of_jax(primitive) else set()
    if irrelevant and any(map(_is_program, params.values())):
        irrelevant = {*irrelevant, "name"}
    return " ".join(f"{key}={_text(value)}" for key, value in sorted(params.items()) if key not in irrelevant)


def own_labels(program: Any) -> list[str]:
    """The labels of all equations with a primitive of the user's own, whose printed text may be ambiguous."""
    return [label_of(eqn.params, eqn.primitive) for eqn in equations(program) if not _is_of_jax(eqn.primitive)]


def _is_of_jax(primitive: Any) -> bool:
    known = getattr(primitives, f"{primitive.name.replace('-', '_')}_p", None)
    return primitive is known or primitive.name in NAMED


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
    if hasattr(value, "callback_func"):  # a callback: the user's function, as its wrapper is made anew in every trace
        return f"{type(value).__name__} {id(value.callback_func)} {value.in_tree}"
    if callable(value):
        return f"{getattr(value, '__name__', '')} {id(value)}"
    text = str(value)
    if " at 0x" in text:
        return f"{type(value).__name__} {id(value)}"
    if isinstance(value, enum.Enum) or type(value).__module__.split(".")[0] in SPELLED:
        return text
    return f"{type(value).__name__} {_serial(value)} {text}"


def _serial(value: Any) -> int:
    """A number shared by all equal objects, because the text of a user's object may not identify it."""
    try:
        return _counted(value)
    except TypeError:  # unhashable
        return id(value)


@lru_cache(4096)
def _counted(value: Any) -> int:
    return next(COUNT)


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
        parts += [] if _is_of_jax(eqn.primitive) else [label_of(eqn.params, eqn.primitive)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
