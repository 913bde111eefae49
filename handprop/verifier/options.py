"""The options that every check sees."""

import enum
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Options", "Stream", "seed_of"]


@enum.unique
class Stream(enum.IntEnum):
    """What random numbers are drawn for: each has numbers of its own."""

    ARGUMENTS = 1
    SECOND_ORDER = 2
    PROOF = 3
    SAMPLES = 4
    FINITE_DIFFERENCES = 5
    TRANSFORMATIONS = 6
    EDGE_CASES = 7
    LIMITS = 8
    KINKS = 9
    NEARBY = 10
    SHARED_WITH_AUTODIFF = 11
    CONVERGENCE = 12
    COMPARISONS = 13
    AGREEMENT = 14
    DOMAINS = 15
    INTERPRETATIONS = 16
    MISSING_TERMS = 17
    SYMMETRY = 18
    INTENT = 19
    SECOND_OPINION = 20


class Options(NamedTuple):
    """The options of one report.

    ``seed`` decides every random draw. ``deadline`` is a ``time.monotonic()`` moment, and ``budget`` is the number of
    seconds from the start to it. ``skip`` names the checks to omit. ``bits`` is the least k for which a proof may be
    reported, where its chance of being false is at most 2^-k. ``accuracy`` is the relative error allowed for a rule
    that is approximate on purpose. ``proofs`` is the number of proofs that one statement may rest on.
    """

    seed: tuple[int, ...] = (0,)
    deadline: float = float("inf")
    skip: frozenset[str] = frozenset()
    order: int = 1
    bits: int = 40
    accuracy: float = 0.0
    budget: float = float("inf")
    proofs: int = 1

    def rng(self, stream: Stream, *number: int) -> np.random.Generator:
        """Return a separate generator for every stream, so that no check's draws depend on which checks ran."""
        return np.random.default_rng([*self.seed, stream, *number])

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


def seed_of(key: jax.Array | int | None) -> tuple[int, ...]:
    """Return the seed that a key stands for: a typed or legacy key, an integer, or None for 0."""
    if key is None:
        return (0,)
    if isinstance(key, int):
        return (key,)
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return tuple(int(word) for word in np.asarray(data).ravel())
