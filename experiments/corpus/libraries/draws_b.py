"""Arguments that more than one library's calls are drawn from: seeded, small, and inside the domains."""

import jax.numpy as jnp
import numpy as np

from corpus.libraries.draws import one_hot

__all__ = ["draw", "floats", "logits", "one_hot", "positive_definite", "simplex", "tfp", "uniform"]


def draw(seed: int, *shape: int) -> jnp.ndarray:
    """Return normal draws, in the precision that is set."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def logits(seed: int, *shape: int) -> jnp.ndarray:
    """Return normal draws of twice the usual size."""
    return 2 * draw(seed, *shape)


def uniform(seed: int, low: float, high: float, *shape: int) -> jnp.ndarray:
    """Return uniform draws between the bounds."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, size=shape))


def floats(*values: float) -> jnp.ndarray:
    """Return the values as a vector, in the precision that is set."""
    return jnp.asarray(np.asarray(values, dtype=np.float64))


def simplex(seed: int, *shape: int) -> jnp.ndarray:
    """Return positive draws whose last axis sums to one."""
    weights = np.random.default_rng(seed).uniform(0.3, 1.0, size=shape)
    return jnp.asarray(weights / weights.sum(-1, keepdims=True))


def positive_definite(seed: int, *shape: int) -> jnp.ndarray:
    """Return symmetric matrices with eigenvalues between about one and four; the last two sizes are equal."""
    root = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(np.eye(shape[-1]) + root @ np.swapaxes(root, -1, -2) / shape[-1])


def tfp():
    """Import tensorflow-probability for jax, whose 0.25 release reads a table that jax has since moved."""
    import jax

    if not hasattr(jax.interpreters.xla, "pytype_aval_mappings"):
        jax.interpreters.xla.pytype_aval_mappings = jax.core.pytype_aval_mappings
    import tensorflow_probability.substrates.jax as module

    return module
