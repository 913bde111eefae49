"""Gradients of functions that draw random numbers: estimates whose mean is right, though no single one is.

The score function of the noise and implicit reparameterisation give such gradients. The mean over many keys is compared
with differences of the mean of the values, up to the standard errors of both.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, own_width
from handprop.verifier.programs import jaxprs, running
from handprop.verifier.repair.shapes import Asked

__all__ = ["right_on_average"]

KEYS, MOST, DIRECTIONS, STEP = 1024, 16, 6, 0.1  # keys at once, how often, and the directions that are tried
ENOUGH = 2  # directions in which both are known well
MAX_ENTRIES = 1 << 26
ERRORS = 4.0  # standard errors that both may be apart
CLEAR, BIAS = 0.12, 0.01  # of the mean: the most that the standard errors may be, and what the step may add
LEAST = 3.0  # seconds
RANDOM = ("random_wrap", "random_seed")
SAID = ("an estimate: its mean over the random draws is the derivative of the mean of the values (to {:.2g} %, as far "
        "as was tried), as for score functions and implicit reparameterisation")  # fmt: skip
OverKeys = Callable[..., Sequence[Any]]


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
        gradients, values = map(_over_keys, programs)
        return {asked.k: said for asked in wrong if (said := _compared(problem, asked, gradients, values, options))}


def _over_keys(program: Any) -> OverKeys:
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
    return lambda salts, *inputs: run(salts, inputs)


def _compared(problem: Problem, asked: Asked, gradients: OverKeys, values: OverKeys, options: Options) -> str:
    """What the gradient is, if its mean is right in the directions in which it is known well; "" if it is not."""
    rng, off = options.rng(Stream.INTENT, 3), list[float]()
    for _ in range(DIRECTIONS):
        hand, slope = np.zeros(0), np.zeros(0)
        sampled = _samples(problem, asked, gradients, values, rng)
        for _ in range(MOST):
            if options.seconds_left < 0:
                return ""
            hand, slope = map(np.append, (hand, slope), sampled())
            error = ERRORS * math.hypot(*(x.std() / math.sqrt(len(x)) for x in (hand, slope)))
            if error <= CLEAR * abs(slope.mean()):
                break
        else:
            continue
        size = abs(slope.mean())
        if not abs(hand.mean() - slope.mean()) <= error + BIAS * size:
            return ""
        off.append(error / size + BIAS)
        if len(off) == ENOUGH:
            return SAID.format(100 * max(off))
    return ""


def _samples(problem: Problem, asked: Asked, gradients: OverKeys, values: OverKeys,
             rng: np.random.Generator) -> Callable[[], tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """A function that draws keys, and returns the gradient's part in one direction and the slope of the values."""
    x = np.asarray(problem.inputs[asked.owner], np.float64)
    cotangents = [np.asarray(problem.inputs[j], np.float64) for j in problem.cotangents]
    with jax.enable_x64(True):
        wide = tuple(map(jaxprs.widened, problem.inputs))
    sign = np.sign(asked.points[0].at(wide)[1][asked.k])  # so that the entries' parts do not cancel
    sign = np.where(np.isfinite(sign) & (sign != 0), sign, rng.choice([-1.0, 1.0], x.shape))
    along = np.where(x == 0, 1.0, np.abs(x)) * sign * rng.uniform(0.0, 1.0, x.shape)

    def at(shift: float) -> list[Any]:
        given = [jnp.asarray(c, problem.inputs[j].dtype) for j, c in zip(problem.cotangents, cotangents, strict=True)]
        moved = jnp.asarray(x + shift * along, problem.inputs[asked.owner].dtype)
        return jaxprs.with_replaced(problem.inputs, (*problem.cotangents, asked.owner), (*given, moved))

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        salts = rng.integers(0, 1 << 31, (KEYS, 2)).astype(np.uint32)

        def weighed(shift: float) -> np.ndarray:
            found = zip(values(salts, *at(shift)), cotangents, strict=True)
            return sum((_summed(v, c) for v, c in found), np.zeros(KEYS))

        near, far = ((weighed(h) - weighed(-h)) / (2 * h) for h in (STEP / 2, STEP))
        return _summed(gradients(salts, *at(0.0))[asked.k], along), (4 * near - far) / 3

    return drawn


def _summed(samples: Any, weights: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, np.float64)
    return (samples * weights).reshape(len(samples), -1).sum(1)
