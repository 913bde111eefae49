"""Gradients of functions that draw random numbers: estimates whose mean is right, though no single one is.

The score function of the noise and implicit reparameterisation give such gradients. The mean over many keys is compared
with differences of the mean of the values, up to the standard errors of both.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, Program, own_width
from handprop.verifier.programs import jaxprs, running
from handprop.verifier.repair.shapes import Asked

__all__ = ["right_on_average"]

KEYS, DIRECTIONS, STEP = 8192, 3, 0.1
MAX_ENTRIES = 1 << 26
ERRORS = 4.0  # standard errors that both may be apart
CLEAR, BIAS = 0.15, 0.01  # of the mean: the most that the standard errors may be, and what the step may add
LEAST = 3.0  # seconds
RANDOM = ("random_wrap", "random_seed")
SAID = ("an estimate: its mean over the random draws is the derivative of the mean of the values (to {:.1g} %, by "
        "{} draws), as for score functions and implicit reparameterisation")  # fmt: skip


class Mean(NamedTuple):
    """A mean over keys, and its standard error."""

    mean: float
    error: float


def right_on_average(problem: Problem, wrong: Sequence[Asked], options: Options) -> dict[int, str]:
    """Return what those wrong gradients are whose mean over the keys is the derivative of the values' mean."""
    if problem.primal is None or problem.domains or options.seconds_left < LEAST or not wrong:
        return {}
    programs = [jaxprs.trace(f, problem.inputs) for f in (problem.candidate, problem.primal)]
    names = {eqn.primitive.name for program in programs for eqn in jaxprs.equations(program)}
    draws = any(name.startswith(("random_", "threefry")) for name in names)
    largest = max((math.prod(getattr(v.aval, "shape", ())) for p in programs for e in jaxprs.equations(p)
                   for v in e.outvars), default=1)  # fmt: skip
    if not draws or largest * KEYS > MAX_ENTRIES:
        return {}
    with own_width(problem.inputs):
        salts = options.rng(Stream.INTENT, 3).integers(0, 1 << 31, (KEYS, 2)).astype(np.uint32)
        gradients, values = (_over_keys(program, salts) for program in programs)
        return {asked.k: said for asked in wrong if (said := _compared(problem, asked, gradients, values, options))}


def _over_keys(program: Any, salts: np.ndarray) -> Program:
    """The program's outputs for as many keys as there are salts: each changes every key that the program makes or is
    given."""

    def salted(salt: Any, inputs: Sequence[Any]) -> list[Any]:
        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            if eqn.primitive.name in RANDOM:
                changed = values[0] ^ (salt if eqn.primitive.name == "random_wrap" else salt[0]).astype(values[0].dtype)
                return running.bind(eqn, [changed, *values[1:]])
            return running.bind(eqn, values)

        given = [jax.random.fold_in(x, salt[0]) if jaxprs.is_key(x) else x for x in inputs]
        return running.run(program, given, leaf)

    run = jax.jit(jax.vmap(salted, (0, None)))
    return lambda *inputs: run(salts, inputs)


def _compared(problem: Problem, asked: Asked, gradients: Program, values: Program, options: Options) -> str:
    """What the gradient is, if its mean is right in some directions; "" if it is not, or not known well enough."""
    rng, off = options.rng(Stream.INTENT, 4), []
    for _ in range(DIRECTIONS):
        if options.seconds_left < 0:
            return ""
        hand, slope = _means(problem, asked, gradients, values, rng)
        allowed = ERRORS * math.hypot(hand.error, slope.error)
        size = abs(slope.mean)
        if not (allowed <= CLEAR * size and abs(hand.mean - slope.mean) <= allowed + BIAS * size):
            return ""
        off.append((allowed + BIAS * size) / size)
    return SAID.format(100 * max(off), KEYS)


def _means(problem: Problem, asked: Asked, gradients: Program, values: Program,
           rng: np.random.Generator) -> tuple[Mean, Mean]:  # fmt: skip
    """The mean of the gradient's part in a direction, and that of the differences of the values."""
    x = np.asarray(problem.inputs[asked.owner], np.float64)
    size = np.where(x == 0, 1.0, np.abs(x))
    along = size * rng.choice([0.5, 1.0], x.shape)  # of one sign, as parts of other signs may cancel
    cotangents = [np.abs(rng.normal(size=np.shape(problem.inputs[j]))) for j in problem.cotangents]

    def at(shift: float) -> list[Any]:
        given = [jnp.asarray(c, problem.inputs[j].dtype) for j, c in zip(problem.cotangents, cotangents, strict=True)]
        moved = jnp.asarray(x + shift * along, problem.inputs[asked.owner].dtype)
        return jaxprs.with_replaced(problem.inputs, (*problem.cotangents, asked.owner), (*given, moved))

    def weighed(shift: float) -> np.ndarray:
        return sum((_summed(v, c) for v, c in zip(values(*at(shift)), cotangents, strict=True)), np.zeros(KEYS))

    near, far = ((weighed(h) - weighed(-h)) / (2 * h) for h in (STEP / 2, STEP))
    hand = _summed(gradients(*at(0.0))[asked.k], along)
    return _mean(hand), _mean((4 * near - far) / 3)


def _summed(samples: Any, weights: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, np.float64)
    return (samples * weights).reshape(len(samples), -1).sum(1)


def _mean(samples: np.ndarray) -> Mean:
    return Mean(float(samples.mean()), float(samples.std() / math.sqrt(len(samples))))
