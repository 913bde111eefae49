"""Orders of patterns, drawn fast.

A random order is what sorting random numbers leaves. On CPUs XLA sorts plain integers several times faster than pairs
of a number and what goes with it, so here the number and the place it stands at share one 32-bit integer: the w
lowest bits hold the place, n <= 2^w, the others are random. Numbers that are equal by chance leave their places in
order, so it is done again, on the order reached, until the chance that any two were tied every time is at most
1/(2n): ``(32 - w) rounds >= 3 log2 n``.
"""

import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["permutation"]

Array = jax.Array

MOST_PLACE_BITS = 22  # more leave too few for chance


@partial(jax.jit, static_argnums=1)
def permutation(key: Array, n: int) -> Array:
    """The numbers 0 .. n - 1 in random order, (n,) int32.

    >>> permutation(jax.random.key(0), 10).sort().tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    w = max(n - 1, 1).bit_length()
    if w > MOST_PLACE_BITS:
        return jax.random.permutation(key, jnp.arange(n, dtype=jnp.int32))
    rounds = max(1, math.ceil(3 * math.log2(max(n, 1)) / (32 - w)))
    draws = [_places(round_key, n, w) for round_key in jax.random.split(key, rounds)]
    return reduce(lambda order, places: order.at[places].get(mode="promise_in_bounds"), draws).astype(jnp.int32)


def _places(key: Array, n: int, w: int) -> Array:
    """0 .. n - 1 as sorting n random numbers of 32 - w bits moves them."""
    low = jnp.uint32(2**w - 1)
    numbers = jax.random.bits(key, (n,), jnp.uint32) & ~low | jnp.arange(n, dtype=jnp.uint32)
    return lax.sort(numbers, is_stable=False) & low
