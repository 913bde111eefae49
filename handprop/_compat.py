"""Everything that depends on the version of JAX."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax import lax
from jax._src import config, source_info_util
from jax._src.config import trace_context
from jax._src.core import trace_state_clean
from jax._src.interpreters import mlir
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend import core

__all__ = ["closed", "compiled_from", "equations", "inner", "interpreted_kernel", "is_mutable", "one_kernel",
           "programs_of", "root_rule", "source_info_util", "times_one_minus_square", "trace_context",
           "trace_state_clean", "whole_tracebacks"]  # fmt: skip


def times_one_minus_square(da: jax.Array, a: jax.Array) -> jax.Array:
    """Return ``da * (1 - a^2)`` in the order in which this version's derivative rule of tanh computes it.

    jax 0.10 factors it as ``t + t a`` with ``t = da (1 - a)``. Newer versions have a primitive for ``1 - a^2``.
    """
    if hasattr(lax, "one_minus_square"):
        return da * lax.one_minus_square(a)  # pyright: ignore[reportAttributeAccessIssue]
    t = da * (1 - a)
    return t + t * a


def closed(jaxpr: Any) -> Any:
    """Return a ClosedJaxpr. Parameters of equations hold closed jaxprs until jax 0.11, then plain ones."""
    if hasattr(jaxpr, "jaxpr") and hasattr(jaxpr, "consts"):
        return jaxpr
    if jaxpr.constvars:  # its constants are held elsewhere, and become arguments
        jaxpr = jaxpr.replace(constvars=(), invars=[*jaxpr.constvars, *jaxpr.invars])
    return core.ClosedJaxpr(jaxpr, ())


def compiled_from(primitive: Any) -> Any:
    """Return the JAX function that a primitive is compiled from on the CPU, None if it is compiled in another way."""
    for table in (mlir._platform_specific_lowerings.get("cpu", {}), mlir._lowerings):
        rule = getattr(table.get(primitive), "rule", None)
        code = getattr(rule, "__code__", None)
        if code is not None and code.co_filename == mlir.__file__ and "fun" in code.co_freevars:
            held = dict(zip(code.co_freevars, getattr(rule, "__closure__", None) or (), strict=True))
            return held["fun"].cell_contents
    return None


def programs_of(param: Any) -> list[Any]:
    """Return every program in a parameter of an equation."""
    items = param if isinstance(param, tuple | list) else (param,)
    return [closed(item) for item in items if hasattr(item, "eqns") or hasattr(item, "jaxpr")]


def inner(eqn: Any) -> list[Any]:
    """Return every program inside an equation."""
    return [program for param in eqn.params.values() for program in programs_of(param)]


def equations(program: Any) -> Iterator[Any]:
    """Yield every equation, with those of inner programs after the equation that contains them."""
    for eqn in program.jaxpr.eqns:
        yield eqn
        for body in inner(eqn):
            yield from equations(body)


def is_mutable(aval: Any) -> bool:
    """Whether a type is that of a mutable array, as from ``jax.new_ref``."""
    return hasattr(aval, "inner_aval")


def interpreted_kernel(*operands: Any, **params: Any) -> Any:
    """Compute what a ``pallas_call`` with these parameters computes, in its interpret mode."""
    from jax._src.pallas.hlo_interpreter import pallas_call_hlo_interpret

    return pallas_call_hlo_interpret(*operands, **params)


def one_kernel(result: Any) -> Any:
    """Return a result of a jitted call, and mark the call so that XLA:CPU compiles it into one kernel.

    XLA itself marks small loops in the same way. Other backends, and versions that do not know the mark, ignore it.
    """
    return set_xla_metadata(result, xla_cpu_small_call="true", inlineable="false")


def root_rule() -> Any:
    """Return the rule in which ``jax.lax.custom_root`` wraps the derivative that its user wrote.

    None in jax 0.12, where it is a primitive.
    """
    from jax._src.lax.control_flow import solves

    return getattr(solves, "_custom_root", None)


def whole_tracebacks() -> AbstractContextManager[None]:
    """Leave JAX's own frames in the tracebacks of errors, in this thread and within this context."""
    return config.traceback_filtering("off")
