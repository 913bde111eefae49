"""Whole loops as one native kernel of XLA:CPU.

XLA:CPU runs a computation kernel by kernel, about fifty nanoseconds apart, which is most of the time of a small
network's step. A call that is marked ``xla_cpu_small_call`` is compiled into one kernel instead, including its loops.
XLA itself marks loops whose iteration touches less than a kilobyte and has no matrix product. :func:`call` also marks
larger loops, and loops with more carries (those of momentum or Adam), as long as they consist of operations that a
kernel can hold. ``--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=...`` in ``XLA_FLAGS``, set
before JAX starts, moves XLA's own limit; the mark needs no flag.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from handprop import _compat

__all__ = ["call", "fits"]

MAX_ENTRIES = 2**22  # of all equations together; beyond this, a second core matters more than the kernels' start
MAX_SUMMED = 4095  # by one reduction; XLA gives larger ones to a library, which a kernel cannot call

ELEMENTWISE = {
    "abs", "add", "add_any", "and", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "div", "eq",
    "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic",
    "lt", "max", "min", "mul", "ne", "neg", "not", "one_minus_square", "or", "pow", "rem", "round", "rsqrt", "select_n",
    "sign", "sin", "sqrt", "square", "stop_gradient", "sub", "tanh", "xor",
}  # fmt: skip
LAYOUT = {"broadcast_in_dim", "concatenate", "dynamic_slice", "dynamic_update_slice", "iota", "reshape", "rev", "slice",
          "squeeze", "transpose"}  # fmt: skip
REDUCTIONS = {"reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_sum"}
CALLS = {"closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "scan", "while"}
KNOWN = ELEMENTWISE | LAYOUT | REDUCTIONS


def fits(program: Any) -> bool:
    """Whether a program runs on a CPU, has only operations that one kernel can hold, and is small enough to gain."""
    equations = list(_compat.equations(program))
    plain = [eqn for eqn in equations if eqn.primitive.name not in CALLS]
    summed = max((_entries(eqn) for eqn in plain if eqn.primitive.name in REDUCTIONS), default=0)
    small = summed <= MAX_SUMMED and sum(map(_entries, plain)) <= MAX_ENTRIES
    known = {eqn.primitive.name for eqn in plain} <= KNOWN and not any(map(_empty, equations))
    return known and small and jax.default_backend() == "cpu"


def _entries(eqn: Any) -> int:
    """Return the number of entries of the largest array that an equation reads or writes."""
    return max(map(_size, (*eqn.invars, *eqn.outvars)))


def _empty(eqn: Any) -> bool:
    """Whether an equation has an empty array or a loop of length 0, on which XLA's kernel compiler crashes."""
    if eqn.primitive.name in CALLS:
        return eqn.params.get("length") == 0
    return not all(map(_size, (*eqn.invars, *eqn.outvars)))


def _size(var: Any) -> int:
    return math.prod(getattr(var.aval, "shape", ()))


def call(f: Callable, *args: Any) -> Any:
    """Return ``f(*args)``, compiled as one kernel if it :func:`fits`.

    >>> import jax.numpy as jnp
    >>> halved = jax.jit(lambda x: call(lambda x: jax.lax.fori_loop(0, 10, lambda i, x: x / 2, x), x))
    >>> float(halved(jnp.float32(1024.0)))
    1.0
    """
    jitted = jax.jit(f)
    result = jitted(*args)
    if not fits(jitted.trace(*args).jaxpr):
        return result
    given = {id(leaf) for leaf in jax.tree.leaves(args)}  # an argument that passes through is not a result of the call
    return jax.tree.map(lambda leaf: leaf if id(leaf) in given else _compat.one_kernel(leaf), result)
