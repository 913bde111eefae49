"""Draw random orders of the examples quickly.

Sorting random numbers gives a random order. On CPUs, XLA sorts plain integers several times faster than pairs of a
number and its index, and drawing JAX's random bits takes as long as sorting. So this module does not draw a number for
each index. It applies a bijection of 32-bit integers, keyed by a few drawn words: the indices are scrambled, sorted and
unscrambled again, which gives the order. A bijection has no ties, and the sort moves nothing but the integers.

A round of scrambling is an exclusive or with its key, followed by a mixing step of multiplications and shifts. Its
constants were found by search, so that flipping a bit of the argument flips each bit of the result with probability
near 1/2 (Wellons, Prospecting for Hash Functions, 2018, "lowbias32").
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["permutation"]

Array = jax.Array

ROUNDS = 3  # 96 bits of key; from 2 rounds on, the tests see no preferred orders
FIRST, SECOND = 0x7FEB352D, 0x846CA68B


@partial(jax.jit, static_argnums=1)
def permutation(key: Array, n: int) -> Array:
    """Return the numbers 0 .. n - 1 in random order, (n,) int32.

    >>> permutation(jax.random.key(0), 10).sort().tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    words = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    scrambled = _scramble(jnp.arange(n, dtype=jnp.uint32), words)
    return _unscramble(lax.sort(scrambled, is_stable=False), words).astype(jnp.int32)


def _scramble(x: Array, words: Array) -> Array:
    for i in range(ROUNDS):
        x = x ^ words[i]
        x = (x ^ x >> 16) * jnp.uint32(FIRST)
        x = (x ^ x >> 15) * jnp.uint32(SECOND)
        x = x ^ x >> 16
    return x


def _unscramble(x: Array, words: Array) -> Array:
    """Invert :func:`_scramble`. An odd factor has an inverse modulo 2^32, and shifts are undone by shifts."""
    for i in reversed(range(ROUNDS)):
        x = x ^ x >> 16
        x = x * jnp.uint32(pow(SECOND, -1, 2**32))
        x = (x ^ x >> 15 ^ x >> 30) * jnp.uint32(pow(FIRST, -1, 2**32))
        x = x ^ x >> 16 ^ words[i]
    return x
