"""Smooth functions whose slope stands in for that of a step, which is zero almost everywhere.

Spiking networks and quantised ones use such slopes. Each is a function of ``a (x - b)``, where a and b are numbers of
the rule, and is known up to a factor.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.repair.shapes import CLOSE, Asked, Constant, Run, Shape, at_cotangent, input_at, renamed

__all__ = ["slopes_of_its_own", "soft_steps"]

MAX_SHIFTS, MOST, MAX_DENOMINATOR = 6, 4000, 64


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


def slopes_of_its_own(asked: Asked) -> Iterator[Shape]:
    """Yield what is linear in the cotangent, in place of the slopes of a function that is constant almost everywhere.

    This says less than what the slopes are.
    """
    if not asked.is_flat:
        return
    for j in asked.cotangents:
        handed_on, slope = input_at(j), at_cotangent(asked.problem, asked.k, 1.0)
        yield Shape("the cotangent times a slope of its own, where the function itself has none",
                    lambda *at, handed_on=handed_on, slope=slope: handed_on(*at) * slope(*at))  # fmt: skip

    def added(inputs: Sequence[Any], outputs: Sequence[Any], run: Run) -> Any:
        given = [inputs[j] for j in asked.problem.cotangents]
        parts = [jnp.cos(jnp.arange(c.size)).reshape(c.shape).astype(c.dtype) for c in given]
        one, other = (run([c / 3 + sign * part for c, part in zip(given, parts, strict=True)])[0][asked.k]
                      for sign in (1, -1))  # fmt: skip
        return 1.5 * (one + other)

    yield Shape("linear in the cotangent with slopes of its own, where the function itself has none, as smoothed "
                "gradients are", added)  # fmt: skip


def soft_steps(asked: Asked) -> Iterator[Shape]:
    """Yield the cotangent times the slope of a smooth function, for each that fits the numbers, where the function
    itself is constant almost everywhere."""
    for j in asked.cotangents if asked.is_flat else ():
        yield from _soft_steps(asked, j)


def _soft_steps(asked: Asked, cotangent: int) -> Iterator[Shape]:
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
    if c.is_argument:
        inverse = Constant(f"1 / {c.stopped}", lambda inputs: 1 / c.value(inputs))
        return [Constant(c.stopped, c.value), inverse]
    number = float(c.value(()))
    made = (number, 1 / number, number**0.5, number**-0.5, math.pi / 2 * number, 2**-0.5 / number)
    return [Constant(text, lambda inputs, v=v: v) for text, v in map(_written, made)]


def _negative(c: Constant) -> Constant:
    return Constant(f"-{c.stopped}", lambda inputs: -c.value(inputs))


def _written(number: float) -> tuple[str, float]:
    """The number as a small fraction, of pi or its root if it is one of those, else in digits; and what that is."""
    for unit, value in (("", 1.0), ("jnp.pi", math.pi), ("jnp.pi**0.5", math.pi**0.5),
                        ("jnp.pi**-1", 1 / math.pi), ("jnp.pi**-0.5", math.pi**-0.5)):  # fmt: skip
        found = Fraction(number / value).limit_denominator(MAX_DENOMINATOR)
        if math.isclose(found * value, number, rel_tol=CLOSE):
            digits = f"{float(found):.9g}"
            text = digits if Fraction(digits) == found else f"{found.numerator} / {found.denominator}"
            return " * ".join(filter(None, (text if found != 1 or not unit else "", unit))), float(found) * value
    return f"{number:.9g}", number


def _constant(slope: np.ndarray, own: np.ndarray) -> float | None:
    """The number that the slope is a multiple by, None if it is none; entries where both vanish say nothing."""
    kept = abs(own) > CLOSE * abs(own).max(initial=0.0)
    if not np.isfinite(own).all() or kept.sum() < 4 or np.any(abs(slope[~kept]) > CLOSE * abs(slope).max()):
        return None
    ratio = slope[kept] / own[kept]
    return float(np.mean(ratio)) if np.allclose(ratio, ratio[0], rtol=CLOSE) and ratio[0] else None


def _shape(asked: Asked, cotangent: int, soft: Soft, a: Constant, b: Constant, whole: bool, ratio: float) -> Shape:
    moved = "x" if b is ZERO else f"x + {b.stopped[1:]}" if b.text.startswith("-") else f"x - {b.stopped}"
    u = moved if a is ONE else f"{a.stopped} * {moved if b is ZERO else f'({moved})'}"
    factors = [] if math.isclose(ratio, 1, rel_tol=CLOSE) else [_written(ratio)[0]]
    factors += [] if whole else [f"1 / {a.stopped}" if " " not in a.stopped else f"1 / ({a.stopped})"]
    function = " * ".join((*factors, soft.text.format(u=u)))

    def program(inputs: Any, outputs: Any, run: Run) -> Any:
        scale = a.value(inputs)
        slope = ratio * (scale if whole else 1.0) * soft.slope(scale * (inputs[asked.owner] - b.value(inputs)))
        return inputs[cotangent] * slope

    said = f"the cotangent times the slope of {renamed(function, 'x', asked.path)}, as surrogate gradients are"
    return Shape(said, program, "cotangent", function=function)
