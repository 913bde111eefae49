"""Bounds on how large integers become, before they wrap around."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from handprop.verifier.programs.jaxprs import is_key
from handprop.verifier.programs.primitives import Decisions, row

__all__ = ["largest_of_constant", "largest_of_result", "largest_of_type"]

SAME_NUMBERS = (Decisions.SELECTED, Decisions.CONVERTED, Decisions.BROADCAST, Decisions.RESHAPED, Decisions.TRANSPOSED,
                Decisions.SQUEEZED, Decisions.MOVED)  # fmt: skip
GROWING = (Decisions.LINEAR, Decisions.PRODUCT, Decisions.SUMMED)


def largest_of_type(aval: Any) -> float:
    """The largest magnitude of an integer of this type; infinite for floats and keys."""
    dtype = aval.dtype
    if dtype == np.bool_:
        return 1.0
    return float(jnp.iinfo(dtype).max) if jnp.issubdtype(dtype, jnp.integer) else math.inf


def largest_of_constant(const: Any) -> float:
    array = None if is_key(const) else np.asarray(const)
    if array is None or not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)):
        return math.inf
    return float(np.abs(array.astype(np.float64)).max(initial=0.0))


def largest_of_result(eqn: Any, sizes: Sequence[float]) -> float:
    """A bound on the magnitude of an integer result before it wraps around, from those of the operands."""
    name, decisions = eqn.primitive.name, row(eqn.primitive.name).decisions
    out = eqn.outvars[0].aval
    if not jnp.issubdtype(out.dtype, jnp.integer):
        return largest_of_type(out)
    unsigned = jnp.issubdtype(out.dtype, jnp.unsignedinteger)
    if name == "iota":
        return float(out.shape[eqn.params["dimension"]])
    if name in ("add", "sub", "neg") and not (unsigned and name != "add"):
        return sum(sizes)
    if name == "mul":
        return math.prod(sizes)
    if name in ("reduce_sum", "cumsum", "dot_general"):
        count = math.prod(eqn.invars[0].aval.shape)
        return math.prod(sizes) * max(count, 1) if all(sizes) else 0.0
    if decisions in SAME_NUMBERS:
        return max(sizes[1:] if name == "select_n" else sizes)
    return math.inf if decisions in GROWING and len(sizes) else largest_of_type(out)
