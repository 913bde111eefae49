"""Whether a program is a polynomial in an argument, with coefficients that are any functions of the others.

A proof holds for almost all values of an argument's domain. Where two programs are polynomials in it, what holds
almost everywhere on a plane holds at each of its points: so one-hot rows, which are no part of measure among the rows
that sum to 1, are proved with these.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend import core

from handprop.verifier.programs.jaxprs import called, equations, inner, is_float, numbers
from handprop.verifier.programs.walk import bound

__all__ = ["is_polynomial_in"]

SUMS_AND_MOVES = {
    "add", "sub", "add_any", "neg", "reduce_sum", "cumsum", "reduce_window_sum", "broadcast_in_dim", "reshape",
    "transpose", "squeeze", "expand_dims", "rev", "tile", "name", "sharding_constraint", "slice", "split",
    "concatenate", "stack", "unstack", "pad", "copy", "copy_p", "stop_gradient", "optimization_barrier", "mul",
    "dot_general", "conv_general_dilated", "square", "integer_pow", "reduce_prod",
}  # fmt: skip
# Which operands may hold the argument; it decides nothing through the others.
OPERANDS = {"div": (0,), "gather": (0,), "dynamic_slice": (0,), "dynamic_update_slice": (0, 1), "scatter-add": (0, 2),
            "scatter_add": (0, 2), "scatter-sub": (0, 2), "scatter_sub": (0, 2)}  # fmt: skip


def is_polynomial_in(program: Any, places: set[int]) -> bool:
    """Whether all outputs are polynomials in the inputs at these places together.

    Their coefficients have to be finite: ``y inf`` is infinite for almost all y, and NaN where y is 0.
    """
    if any(not np.isfinite(number).all() for number in _numbers(program) if is_float(number.dtype)):
        return False
    return _walk(program, [i in places for i, _ in enumerate(program.jaxpr.invars)]) is not None


def _numbers(program: Any) -> Iterator[np.ndarray]:
    """Constants and literals, and what equations make of these alone."""
    yield from numbers(program)
    for eqn in equations(program):
        if eqn.invars and all(isinstance(atom, core.Literal) for atom in eqn.invars) and not inner(eqn):
            yield from (np.asarray(out) for out in bound(eqn, [np.asarray(v.val, v.aval.dtype) for v in eqn.invars]))


def _walk(program: Any, holds: list[bool]) -> list[bool] | None:
    """Which outputs hold the argument; None where something else than a polynomial is made of it."""
    jaxpr = program.jaxpr
    inside = {var for var, held in zip(jaxpr.invars, holds, strict=True) if held}
    for eqn in jaxpr.eqns:
        held = [isinstance(atom, core.Var) and atom in inside for atom in eqn.invars]
        if not any(held):
            continue
        body = called(eqn)
        outs = _walk(body, held) if body is not None else [True] * len(eqn.outvars) if _keeps(eqn, held) else None
        if outs is None:
            return None
        inside |= {var for var, out in zip(eqn.outvars, outs, strict=True) if out}
    return [isinstance(atom, core.Var) and atom in inside for atom in jaxpr.outvars]


def _keeps(eqn: Any, held: list[bool]) -> bool:
    name = eqn.primitive.name
    holding = [v for v, h in zip(eqn.invars, held, strict=True) if h]
    if not all(is_float(v.aval.dtype) for v in (*holding, *eqn.outvars)):
        return False
    if name == "integer_pow":
        return eqn.params["y"] >= 0
    if name == "select_n":
        return not held[0]
    if name in OPERANDS:
        return not any(h for i, h in enumerate(held) if i not in OPERANDS[name])
    return name in SUMS_AND_MOVES or name == "convert_element_type"
