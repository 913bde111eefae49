"""Orders are permutations, the same for the same key, and none is favoured."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop import shuffling
from handprop.shuffling import permutation

uncompiled = permutation.__wrapped__  # what is compiled already does not see what a test replaces


def by_stable_argsort(key, n: int) -> np.ndarray:
    """The same draws, by another route: NumPy's stable sort of the random bits alone."""
    w = max(n - 1, 1).bit_length()
    order = np.arange(n)
    for round_key in jax.random.split(key, max(1, math.ceil(3 * math.log2(n) / (32 - w)))):
        random = np.asarray(jax.random.bits(round_key, (n,), jnp.uint32)) >> w
        order = order[np.argsort(random, kind="stable")]
    return order


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 1797, 60_000, 300_000])
def test_is_the_stable_sort_of_its_draws(n):
    order = permutation(jax.random.key(n), n)
    assert order.dtype == jnp.int32
    assert sorted(order.tolist()) == list(range(n))
    np.testing.assert_array_equal(order, by_stable_argsort(jax.random.key(n), n))


def test_more_than_fit_beside_chance_are_left_to_jax(monkeypatch):
    monkeypatch.setattr(shuffling, "MOST_PLACE_BITS", 4)
    key = jax.random.key(0)
    np.testing.assert_array_equal(uncompiled(key, 17), jax.random.permutation(key, jnp.arange(17, dtype=jnp.int32)))
    assert uncompiled(key, 16).tolist() == by_stable_argsort(key, 16).tolist()


def test_every_order_is_as_likely():
    keys = jax.random.split(jax.random.key(0), 24_000)
    counts = collections.Counter(map(tuple, np.asarray(jax.vmap(lambda key: permutation(key, 4))(keys)).tolist()))
    assert len(counts) == 24
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi_squared < 60  # of 23 degrees of freedom: once in 30,000


@pytest.mark.parametrize("n", [256, 257, 1797, 60_000])
def test_that_two_are_tied_every_time_is_unlikely(n, monkeypatch):
    places, drawn = shuffling._places, []
    monkeypatch.setattr(shuffling, "_places", lambda key, n, w: drawn.append(32 - w) or places(key, n, w))
    uncompiled(jax.random.key(0), n)
    assert n**2 / 2 * 0.5 ** sum(drawn) <= 1 / (2 * n)
