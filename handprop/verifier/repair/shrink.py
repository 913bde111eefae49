"""Shrink a problem to small shapes, where evaluating an edit takes milliseconds: a mistake seldom needs 784 inputs.

Equal sizes stay equal, different sizes stay different, and small sizes do not change. A fix found at small shapes is
then proved at the shapes that were asked about.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs

__all__ = ["shrunk"]

LARGE, KEPT = 1 << 14, 4
PRIMES = (5, 7, 11, 13, 17, 19, 23, 29)


def shrunk(problem: Problem) -> Problem | None:
    """Return the problem at small shapes, or None if its inputs are small or the programs run at no other shapes."""
    if sum(int(np.size(x)) for x in problem.inputs) <= LARGE:
        return None
    sizes = sorted({n for x in problem.inputs for n in np.shape(x) if n > KEPT})
    if len(sizes) > len(PRIMES):
        return None
    small = {n: min(n, prime) for n, prime in zip(sizes, PRIMES, strict=False)}
    if len(set(small.values())) < len(small):
        return None
    inputs = tuple(_cut(x, small) for x in problem.inputs)
    try:
        shapes = [_shapes(program, inputs) for program in (problem.candidate, problem.reference)]
    except Exception as error:  # a size is a literal in the code, or is tied to another size
        noted(error)
        return None
    return problem._replace(inputs=inputs, shared=Shared()) if shapes[0] == shapes[1] else None


def _cut(x: Any, small: dict[int, int]) -> Any:
    if jaxprs.is_key(x):
        return x
    cut = jnp.asarray(x)[tuple(slice(small.get(n, n)) for n in np.shape(x))]
    least = min(small.values())
    return cut if jaxprs.is_float(cut.dtype) or cut.dtype == bool else cut % least  # indices stay within every axis


def _shapes(program: Any, inputs: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(aval.shape) for aval in jaxprs.trace(program, inputs).out_avals]
