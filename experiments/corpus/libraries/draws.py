"""Seeded arguments, and names looked up only when a call is made."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["complex_normal", "definite", "named", "normal", "one_hot", "probabilities", "uniform"]


def named(path: str) -> Any:
    """Return what a dotted path names: its longest importable prefix, then attributes."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


def normal(seed: int, shape: Sequence[int], scale: float = 1.0, shift: float = 0.0) -> jax.Array:
    """Return normal numbers of the float type in force."""
    return jnp.asarray(shift + scale * np.random.default_rng(seed).standard_normal(tuple(shape)))


def uniform(seed: int, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> jax.Array:
    """Return uniform numbers between two bounds."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, tuple(shape)))


def complex_normal(seed: int, shape: Sequence[int]) -> jax.Array:
    """Return complex normal numbers."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(tuple(shape)) + 1j * rng.standard_normal(tuple(shape)))


def probabilities(seed: int, shape: Sequence[int]) -> jax.Array:
    """Return rows of positive numbers that sum to one."""
    drawn = np.random.default_rng(seed).uniform(0.2, 1.0, tuple(shape))
    return jnp.asarray(drawn / drawn.sum(axis=-1, keepdims=True))


def one_hot(labels: Sequence[int], classes: int) -> jax.Array:
    """Return one-hot rows of floats."""
    return jnp.asarray(np.eye(classes)[list(labels)])


def definite(seed: int, size: int) -> jax.Array:
    """Return a symmetric positive definite matrix that is well conditioned."""
    drawn = np.random.default_rng(seed).standard_normal((size, size))
    return jnp.asarray(drawn @ drawn.T / size + np.eye(size))
