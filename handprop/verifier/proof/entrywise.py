"""Whether a program computes the same function of each entry."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core

from handprop.verifier.programs.jaxprs import called_program, is_float
from handprop.verifier.programs.primitives import Acts, row

__all__ = ["like_entries"]


def like_entries(programs: Sequence[Any], inputs: Sequence[Any]) -> int:
    """The number of entries that are the same function, each of its own entries of the inputs, else 1."""
    atoms = [_read(program.jaxpr) for program in programs]
    read = [[v in met for v in program.jaxpr.invars] for program, met in zip(programs, atoms, strict=True)]
    inputs = [x for x, *is_read in zip(inputs, *read, strict=True) if any(is_read)]
    shapes = {tuple(x.shape) for x in inputs}
    entrywise = all(is_float(x.dtype) for x in inputs) and all(_is_entrywise(program) for program in programs)
    return math.prod(shapes.pop()) if entrywise and len(shapes) == 1 else 1


def _read(jaxpr: Any) -> set[Any]:
    atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    return {atom for atom in atoms if isinstance(atom, core.Var)}


def _is_entrywise(program: Any) -> bool:
    def is_same(eqn: Any) -> bool:
        if (inside := called_program(eqn)) is not None:
            return _is_entrywise(inside)
        if eqn.primitive.name == "broadcast_in_dim":  # integers would be broadcast to all entries
            return not eqn.invars[0].aval.shape and is_float(eqn.invars[0].aval.dtype)
        return row(eqn.primitive.name).acts is Acts.ENTRYWISE

    return all(np.ndim(c) == 0 for c in program.consts) and all(is_same(eqn) for eqn in program.jaxpr.eqns)
