"""Smooth functions whose slope stands in for that of a step, which is zero almost everywhere.

Spiking networks and quantised ones use such slopes. Each is a function of ``a (x - b)``, where a and b are numbers of
the rule, and is known up to a factor.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.repair.shapes import CLOSE, Asked, Constant, Run, Shape, renamed

__all__ = ["soft_steps"]

MAX_SHIFTS, MOST = 6, 4000


class Soft(NamedTuple):
    """A smooth function of ``u``, as text, and its slope."""

    text: str
    slope: Callable[[Any], Any]


# Neftci et al., Surrogate gradient learning in spiking neural networks (2019), and the straight-through estimators.
SOFT = (
    Soft("jax.nn.sigmoid({u})", lambda u: jax.nn.sigmoid(u) * (1 - jax.nn.sigmoid(u))),
    Soft("jnp.tanh({u})", lambda u: 1 - jnp.tanh(u) ** 2),
    Soft("jnp.arctan({u})", lambda u: 1 / (1 + u * u)),
    Soft("jax.nn.soft_sign({u})", lambda u: 1 / (1 + abs(u)) ** 2),
    Soft("jax.scipy.special.erf({u})", lambda u: 2 / math.sqrt(math.pi) * jnp.exp(-u * u)),
    Soft("jnp.clip({u}, -1, 1)", lambda u: jnp.where(abs(u) <= 1, 1.0, 0.0)),
    Soft("(lambda u: u - u * abs(u) / 2)(jnp.clip({u}, -1, 1))", lambda u: jnp.maximum(0.0, 1 - abs(u))),
)
ONE, ZERO = Constant("1", lambda inputs: 1.0), Constant("0", lambda inputs: 0.0)


def soft_steps(asked: Asked, cotangent: int) -> Iterator[Shape]:
    """Yield the cotangent times the slope of a smooth function, for each that fits the numbers."""
    if np.shape(asked.given) != np.shape(asked.points[0].got[asked.k]):
        return
    seen = [_slopes(asked, p, cotangent) for p in asked.points]
    x, slope = (np.concatenate([pair[i] for pair in seen]) for i in (0, 1))
    if not slope.size or not np.isfinite(slope).all() or np.ptp(slope) <= CLOSE * abs(slope).max():
        return
    counts = [np.size(pair[0]) for pair in seen]

    def spread(c: Constant) -> np.ndarray:
        """The number at every entry, as it may be an argument, which varies."""
        return np.repeat([float(np.asarray(c.value(p.inputs))) for p in asked.points], counts)

    shifts = [ZERO, *asked.numbers[:MAX_SHIFTS], *map(_negative, asked.numbers[:MAX_SHIFTS])]
    tried = itertools.product(SOFT, itertools.chain([ONE], *map(_scales, asked.numbers)), shifts)
    for soft, a, b in itertools.islice(tried, MOST):
        scale = spread(a)
        with np.errstate(all="ignore"):
            own = np.asarray(soft.slope(scale * (x - spread(b))), np.float64)
        for whole in (True, False):  # with the scale as the chain rule has it, and without
            if (ratio := _constant(slope, own * scale if whole else own)) is not None:
                yield _shape(asked, cotangent, soft, a, b, whole, ratio)
                break


def _slopes(asked: Asked, p: Any, cotangent: int) -> tuple[np.ndarray, np.ndarray]:
    """The argument's entries, and by what the cotangent is multiplied there."""
    x, c, got = (np.ravel(np.asarray(v, np.float64)) for v in (p.inputs[asked.owner], p.inputs[cotangent],
                                                               p.got[asked.k]))  # fmt: skip
    return x[c != 0], got[c != 0] / c[c != 0]


def _scales(c: Constant) -> list[Constant]:
    """What a number that occurs in a slope may say about the scale of its argument."""
    made = [("{}", lambda v: v), ("1 / {}", lambda v: 1 / v)]
    if not c.is_argument:
        made += [("{} ** 0.5", lambda v: v**0.5), ("{} ** -0.5", lambda v: v**-0.5),
                 ("jnp.pi / 2 * {}", lambda v: math.pi / 2 * v), ("2 ** -0.5 / {}", lambda v: 2**-0.5 / v)]  # fmt: skip
    return [
        Constant(text.format(c.text), lambda inputs, f=f: f(c.value(inputs)), c.is_argument)
        for text, f in made
    ]


def _negative(c: Constant) -> Constant:
    return Constant(f"-{c.text}", lambda inputs: -c.value(inputs), c.is_argument)


def _constant(slope: np.ndarray, own: np.ndarray) -> float | None:
    """The number that the slope is a multiple by, None if it is none; entries where both vanish say nothing."""
    kept = abs(own) > CLOSE * abs(own).max(initial=0.0)
    if not np.isfinite(own).all() or kept.sum() < 4 or np.any(abs(slope[~kept]) > CLOSE * abs(slope).max()):
        return None
    ratio = slope[kept] / own[kept]
    return float(f"{ratio[0]:.7g}") if np.allclose(ratio, ratio[0], rtol=CLOSE) and ratio[0] else None


def _shape(asked: Asked, cotangent: int, soft: Soft, a: Constant, b: Constant, whole: bool, ratio: float) -> Shape:
    moved = "x" if b is ZERO else f"(x - {b.stopped})" if not b.text.startswith("-") else f"(x + {b.text[1:]})"
    u = moved.strip("()") if a is ONE else f"{a.stopped if a.text.isidentifier() else f'({a.text})'} * {moved}"
    factors = [] if math.isclose(ratio, 1, rel_tol=CLOSE) else [f"{ratio:g}"]
    factors += [] if whole else [f"1 / ({a.text})"]
    function = " * ".join((*factors, soft.text.format(u=u)))

    def program(inputs: Any, outputs: Any, run: Run) -> Any:
        scale = a.value(inputs)
        slope = ratio * (scale if whole else 1.0) * soft.slope(scale * (inputs[asked.owner] - b.value(inputs)))
        return inputs[cotangent] * slope

    said = f"the cotangent times the slope of {renamed(function, 'x', asked.path)}, as surrogate gradients are"
    return Shape(said, program, "cotangent", function=function)
