"""Both programs at many points at once."""

import math

import jax
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.evaluation import Pair, evaluated

__all__ = ["MAX_RUNS", "at_many_points", "batched", "largest_array"]

MAX_RUNS = 4096
MAX_ENTRIES = 1 << 18
MAX_LEFT = 16  # if more than this many batches would be needed, points are not batched


def at_many_points(problem: Problem, pair: Pair, bits: float) -> Pair:
    """Both programs batched over many points; unchanged if they cannot be batched or too many points are needed."""
    wanted = math.ceil(min(21 * math.log(2) * 2.0**bits / pair.entries, MAX_RUNS * 16))
    batch = min(wanted, MAX_ENTRIES // largest_array(pair))
    names = {eqn.primitive.name for p in (pair.reference, pair.candidate) for eqn in jaxprs.equations(p)}
    if batch < 2 or wanted > MAX_LEFT * batch or "custom_vmap_call" in names:
        return pair
    try:
        wide = batched(problem, pair, batch)
        evaluated(wide, np.random.default_rng(0))
    except Exception as error:  # JAX cannot batch it, or the field cannot interpret the batch: run point by point
        noted(error, "the proof at many points")
        return pair
    return wide


def largest_array(pair: Pair) -> int:
    """The number of entries of the largest array that an equation makes."""
    sizes = (
        math.prod(v.aval.shape)
        for p in (pair.reference, pair.candidate)
        for e in jaxprs.equations(p)
        for v in e.outvars
    )
    return max(sizes, default=1) or 1


def batched(problem: Problem, pair: Pair, batch: int) -> Pair:
    """Both programs, batched over this many points by ``vmap``."""
    axes = jaxprs.batch_axes(problem.inputs)
    inputs = tuple(x if axis is None else np.broadcast_to(x, (batch, *x.shape))
                   for x, axis in zip(problem.inputs, axes, strict=True))  # fmt: skip
    reference, candidate = (jaxprs.trace(jax.vmap(f, axes, axis_size=batch), inputs)
                       for f in (problem.reference, problem.candidate))  # fmt: skip
    return pair._replace(reference=reference, candidate=candidate, inputs=inputs, batch=batch, sample=None)
