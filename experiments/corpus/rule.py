"""What an entry of the corpus is, and how its arguments are drawn."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Draw", "Rule", "with_vjp"]

SIZE = 23  # elements of the largest argument, about


def with_vjp(primal: Callable, forward: Callable, backward: Callable, **more: Any) -> Any:
    """A new function with this rule for reverse mode; ``more`` is for ``defvjp``."""
    rule = jax.custom_vjp(primal)
    rule.defvjp(forward, backward, **more)
    return rule


class Draw(NamedTuple):
    """Arguments of one dtype; ``size`` is about the number of elements of the largest one."""

    rng: np.random.Generator
    dtype: Any
    size: int

    def normal(self, *shape: int, scale: float = 1.0) -> jax.Array:
        return jnp.asarray(scale * self.rng.normal(size=shape), self.dtype)

    def positive(self, *shape: int) -> jax.Array:
        """Between 0.1 and 0.9: probabilities too."""
        return jnp.asarray(self.rng.uniform(0.1, 0.9, size=shape), self.dtype)

    def signs(self, *shape: int) -> jax.Array:
        return jnp.asarray(self.rng.choice([-1.0, 1.0], size=shape), self.dtype)

    def integers(self, below: int, *shape: int) -> jax.Array:
        return jnp.asarray(self.rng.integers(below, size=shape), jnp.int32)

    def rows(self, others: int, least: int) -> int:
        """How many rows of ``others`` entries make the size, ``least`` at least."""
        return max(least, self.size // others)

    def wide(self, shape: tuple[int, ...]) -> jax.Array:
        """Normal entries of scale 1 with a fifth of them eight times as large: both saturated sides are met."""
        far = np.where(self.rng.uniform(size=shape) < 0.2, 8.0, 1.0)
        return jnp.asarray(self.rng.normal(size=shape) * far, self.dtype)


class Rule(NamedTuple):
    """``function`` holds the rule (``custom_vjp`` or ``custom_jvp``), or is a plain gradient function of ``loss``.

    ``draw(Draw)`` makes its arguments; ``dtypes`` are those it runs in; ``argnums`` are those of a plain gradient.
    """

    name: str
    function: Callable
    draw: Callable[[Draw], tuple]
    loss: Callable | None = None
    argnums: int | tuple[int, ...] = 0
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float64")

    def make_args(self, size: int = SIZE, dtype: str = "float32", key: int = 0) -> tuple:
        """Arguments of about ``size`` elements; float64 under ``jax.enable_x64`` only."""
        seed = [*self.name.encode(), key]
        return self.draw(Draw(np.random.default_rng(seed), jnp.dtype(dtype), size))


def elementwise(draw: Draw) -> tuple[jax.Array]:
    """One vector of both signs, saturated on both sides."""
    return (draw.wide((draw.size,)),)


def pair(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.wide((draw.size,)), draw.normal(draw.size)


def side(size: int, least: int) -> int:
    """The side of a square of about ``size`` entries."""
    return max(least, math.isqrt(size))
