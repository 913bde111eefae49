"""Orders are permutations, the same for the same key, and none is favoured."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop.training import shuffle
from handprop.training.shuffle import permutation

uncompiled = permutation.__wrapped__  # what is compiled already does not see what a test replaces


def scrambled(x: int, words: list[int]) -> int:
    """In Python's integers."""
    for word in words:
        x ^= word
        x = (x ^ x >> 16) * shuffle.FIRST % 2**32
        x = (x ^ x >> 15) * shuffle.SECOND % 2**32
        x ^= x >> 16
    return x


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 1797, 60_000])
def test_is_the_order_of_the_scrambled_places(n):
    key = jax.random.key(n)
    words = jax.random.bits(key, (shuffle.ROUNDS,), jnp.uint32).tolist()
    order = permutation(key, n)
    assert order.dtype == jnp.int32
    assert order.tolist() == sorted(range(n), key=lambda x: scrambled(x, words))


def test_unscrambling_is_the_inverse():
    x = jax.random.bits(jax.random.key(0), (10_000,), jnp.uint32)
    words = jax.random.bits(jax.random.key(1), (shuffle.ROUNDS,), jnp.uint32)
    np.testing.assert_array_equal(shuffle._unscramble(shuffle._scramble(x, words), words), x)


def orders(n: int, count: int) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: uncompiled(key, n)))(keys))


def chi_squared(counts: np.ndarray, expected: np.ndarray | float) -> float:
    """In standard deviations from its mean, which is the number of counts less one."""
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def neighbours(n: int, count: int) -> float:
    """How far from even are the differences, bit by bit, of examples that follow each other."""
    drawn = orders(n, count)
    pairs = np.arange(n)[:, None] ^ np.arange(n)
    every = np.bincount(pairs[~np.eye(n, dtype=bool)])
    found = np.bincount((drawn[:, 1:] ^ drawn[:, :-1]).ravel(), minlength=every.size)
    return chi_squared(found[every > 0], every[every > 0] / (n * (n - 1)) * found.sum())


def test_every_order_is_as_likely():
    counts = collections.Counter(map(tuple, orders(4, 24_000).tolist()))
    assert len(counts) == 24
    assert chi_squared(np.array(list(counts.values())), 1000.0) < 5


@pytest.mark.parametrize("n", [64, 100])
def test_every_example_comes_as_often_to_every_place(n):
    drawn = orders(n, 20_000)
    counts = np.stack([np.bincount(places, minlength=n) for places in drawn.T])
    assert chi_squared(counts, len(drawn) / n) < 5


@pytest.mark.parametrize("n", [64, 100, 1797])
def test_no_example_prefers_its_neighbour(n):
    assert neighbours(n, 2_000_000 // n) < 5


def test_one_round_of_scrambling_would_not_do(monkeypatch):
    monkeypatch.setattr(shuffle, "ROUNDS", 1)
    assert neighbours(64, 30_000) > 10
