"""Orders of examples, drawn fast.

A random order is what sorting random numbers leaves. On CPUs XLA sorts plain integers several times faster than pairs
of a number and what goes with it, and draws JAX's random bits as slowly as it sorts. So the numbers are no draws but a
bijection of 32-bit integers, keyed by a few words that are drawn: each place is scrambled, the scrambled places are
sorted, and unscrambled they are the order. A bijection has no ties, and nothing is carried along.

A round of scrambling is an exclusive or with its key and a mixing step of multiplications and shifts, with constants
found by search to change every bit of the result with probability near 1/2 for each bit of its argument (Wellons,
Prospecting for Hash Functions, 2018, "lowbias32").
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["permutation"]

Array = jax.Array

ROUNDS = 3  # 96 bits of key; the tests see no favourites from 2 on
FIRST, SECOND = 0x7FEB352D, 0x846CA68B


@partial(jax.jit, static_argnums=1)
def permutation(key: Array, n: int) -> Array:
    """The numbers 0 .. n - 1 in random order, (n,) int32.

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
    """The inverse, last step first: an odd factor has an inverse modulo 2^32, a shift is undone by shifts."""
    for i in reversed(range(ROUNDS)):
        x = x ^ x >> 16
        x = x * jnp.uint32(pow(SECOND, -1, 2**32))
        x = (x ^ x >> 15 ^ x >> 30) * jnp.uint32(pow(FIRST, -1, 2**32))
        x = x ^ x >> 16 ^ words[i]
    return x
