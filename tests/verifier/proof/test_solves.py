"""Proofs in which pivots and many truth values are not decided one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop

QUICK = all_but("structure", "proof")


def solving(backward):
    @jax.custom_vjp
    def solve(a, b):
        return jnp.linalg.solve(a, b)

    def forward(a, b):
        x = jnp.linalg.solve(a, b)
        return x, (a, x)

    solve.defvjp(forward, lambda saved, g: backward(*saved, g))
    return solve


def right_way(a, x, g):
    v = jnp.linalg.solve(a.T, g)
    return -jnp.outer(v, x), v


def wrong_way(a, x, g):
    v = jnp.linalg.solve(a.T, g)
    return -jnp.outer(x, v), v


@pytest.mark.parametrize("n", [2, 12])
def test_pivots_do_not_matter_to_a_solution(n):
    """Decided one by one, the pivots of twelve rows would take 479 million points."""
    a, b = np.random.default_rng(n).normal(size=(n, n)).astype(np.float32), np.ones(n, np.float32)
    assert handprop.verify(solving(right_way), a, b, skip=QUICK).verdict is handprop.Verdict.PROVED
    assert handprop.verify(solving(wrong_way), a, b, skip=QUICK).verdict is not handprop.Verdict.PROVED


ANY = [
    (lambda x: jnp.where(jnp.any(x > 0.5), x, 2 * x), lambda x: jnp.where(jnp.all(x <= 0.5), 2 * x, x), True),
    (lambda x: jnp.where(jnp.all(x > 0.5), x, 2 * x), lambda x: jnp.where(jnp.any(~(x > 0.5)), 2 * x, x), True),
    (lambda x: jnp.where(jnp.any(x > 0.5), x, 2 * x), lambda x: jnp.where(jnp.all(x > 0.5), x, 2 * x), False),
    (lambda x: jnp.where(jnp.any(x > 0.5), x, 2 * x), lambda x: jnp.where(jnp.any(x[1:] > 0.5), x, 2 * x), False),
]


@pytest.mark.parametrize(("f", "g", "same"), ANY)
def test_all_and_any_of_many_truth_values_are_products(f, g, same):
    report = handprop.equivalent(f, g, np.linspace(-1, 1, 40, dtype=np.float32), skip=QUICK)
    assert (report.verdict is handprop.Verdict.PROVED) is same
