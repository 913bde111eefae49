"""Primitives that others than JAX define, by the JAX program of their implementation.

A library that needs a derivative, a transpose or a batching rule of its own often defines a primitive. Its
implementation is a function of JAX operations: what the primitive computes without compilation, or what it is compiled
from. Its derivative is written by hand, as a custom rule is. Walking through the implementation makes the primitive's
values known.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
from jax import dtypes

from handprop._compat import closed, compiled_from
from handprop.verifier.internal import noted
from handprop.verifier.programs.frames import JAX

__all__ = ["implementation", "is_foreign"]

MOST = 512
_KEPT: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # by the equation's identity; the equation is kept too


def is_foreign(primitive: Any) -> bool:
    """Whether somebody else than JAX defined what the primitive computes."""
    return _function_of(primitive) is not None


def _function_of(primitive: Any) -> Callable | None:
    """The function that somebody else than JAX wrote for the primitive."""
    for f in (getattr(primitive, "impl", None), compiled_from(primitive)):
        code = getattr(_innermost(f), "__code__", None)
        if code is not None and not code.co_filename.startswith(JAX):
            return f
    return None


def implementation(eqn: Any) -> Any:
    """The program of a primitive that is not JAX's, for the types of this equation; None for any other primitive, and
    where JAX cannot trace the implementation."""
    if not is_foreign(eqn.primitive):
        return None
    if id(eqn) not in _KEPT:
        _KEPT[id(eqn)] = eqn, _traced(eqn)
        if len(_KEPT) > MOST:
            _KEPT.popitem(last=False)
    return _KEPT[id(eqn)][1]


def _traced(eqn: Any) -> Any:
    params = eqn.primitive.get_bind_params(eqn.params)
    types = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    function = functools.partial(_function_of(eqn.primitive), **params)  # pyright: ignore[reportArgumentType]
    try:
        with jax.enable_x64(any(dtypes.itemsize_bits(t.dtype) == 64 for t in types)):  # pyright: ignore
            program = jax.make_jaxpr(function)(*types[: len(eqn.invars)])
    except Exception as error:  # whatever the implementation raises, for example where it needs numbers
        noted(error, "the implementation of a primitive")
        return None
    program = closed(program)
    same = [(t.shape, t.dtype) for t in program.out_avals] == [(t.shape, t.dtype) for t in types[len(eqn.invars) :]]
    return program if same else None


def _innermost(f: Any) -> Callable | None:
    """The function that partials and decorators were made from."""
    while isinstance(f, functools.partial) or hasattr(f, "__wrapped__"):
        f = f.func if isinstance(f, functools.partial) else f.__wrapped__
    return f
