"""Rules that are wrong where a comparison seldom holds: in a shell, in an obstacle, below a clamp."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop as v
from handprop.verifier.checks.flipped_comparisons import flipped
from handprop.verifier.from_functions import of_pair
from handprop.verifier.options import Options
from handprop.verifier.verdict import fresh

X = np.random.default_rng(7).normal(size=(4, 2)).astype(np.float32)
CENTRE = np.full((1, 2), 6.0, np.float32)


def shell(x):
    r2 = (x * x).sum(-1)
    return jnp.where((r2 > 64) & (r2 < 100), jnp.sin(r2), 0.0).sum()


def shell_by_hand(factor):
    def hand(x):
        r2 = (x * x).sum(-1, keepdims=True)
        return jnp.where((r2 > 64) & (r2 < 100), factor * x * jnp.cos(r2), 0.0)

    return hand


def obstacle(x, centre):
    d2 = ((x - centre) ** 2).sum(-1)
    return jnp.where(d2 < 1, (1 - d2) ** 2, 0.0).sum()


def obstacle_by_hand(factor):
    def hand(x, centre):
        d2 = ((x - centre) ** 2).sum(-1, keepdims=True)
        return jnp.where(d2 < 1, factor * (1 - d2), 0.0) * (x - centre)

    return hand


def triangle(u, w):
    return jnp.where((u >= 0) & (w >= 0) & (u + w <= 1), u * w, 0.0)


def triangle_by_hand(inside: Callable):
    return lambda u, w: jnp.where((u >= 0) & (w >= 0) & inside(u, w), w, 0.0)


def normalized(x):
    return (jnp.sin(x) * x / jnp.maximum(jnp.sqrt((x * x).sum(-1, keepdims=True)), 1e-6)).sum()


def normalized_by_hand(clamped):
    def hand(x):
        norm = jnp.sqrt((x * x).sum(-1, keepdims=True))
        n = jnp.maximum(norm, 1e-6)
        along = jnp.where(norm > 1e-6, 1.0, clamped) * x * (jnp.sin(x) * x).sum(-1, keepdims=True) / n**3
        return (jnp.cos(x) * x + jnp.sin(x)) / n - along

    return hand


U, W = np.float32(0.2), np.float32(0.3)
RARE = {  # by name: the function, its gradient as it is right and wrong, the arguments
    "a shell": (shell, shell_by_hand(2.0), shell_by_hand(-2.0), (X,)),
    "an obstacle": (obstacle, obstacle_by_hand(-4.0), obstacle_by_hand(-2.0), (X, CENTRE)),
    "a triangle": (triangle, triangle_by_hand(lambda u, w: u + w <= 1), triangle_by_hand(lambda u, w: w <= 1), (U, W)),
    "a clamp": (normalized, normalized_by_hand(0.0), normalized_by_hand(1.0), (X,)),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", RARE)
def test_a_rule_that_is_wrong_where_a_comparison_seldom_holds(name):
    f, right, wrong, args = RARE[name]
    report = v.verify_gradient(right, f, *args, skip=["repair"])
    assert report.ok, report
    report = v.verify_gradient(wrong, f, *args, skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED, report


def test_each_input_lies_on_the_other_side_of_one_comparison():
    problem = fresh(
        of_pair(triangle, triangle, (jnp.float32(0.2), jnp.float32(0.3)), np.random.default_rng(0)), Options()
    )
    found = [tuple(float(x) for x in inputs) for inputs in flipped(problem, Options())]
    sides = {(a >= 0, b >= 0, a + b <= 1) for a, b in found}
    assert sides >= {(False, True, True), (True, False, True), (True, True, False)}


def test_comparisons_that_loops_hold_are_left_alone():
    f = lambda x: jax.lax.scan(lambda c, y: (jnp.maximum(c, y), None), 0.0, x)[0]  # noqa: E731
    g = lambda x: jnp.maximum(jnp.max(x), 0.0)  # noqa: E731
    assert v.equivalent(f, g, X[:, 0], skip=["proof"]).ok


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("f", "g", "where"), [
    (lambda x: jnp.where(jnp.round(x) == 2, 0, x), lambda x: 1 * x, "2.1"),
    (lambda x: jnp.where(x.astype(int) == 2, 0, x), lambda x: 1 * x, "2.1"),
    (lambda x: jnp.where(jnp.all(jnp.diff(x) > 0), x.sum(), 0), lambda x: 0 * x.sum(), "in rising order"),
    (lambda x: jnp.where(jnp.all(jnp.diff(x) < 0), x.sum(), 0), lambda x: 0 * x.sum(), "in falling order"),
    (lambda x: jnp.where(jnp.all(x > 0) & (jnp.ptp(x) > 0.1), x.sum(), 0), lambda x: 0 * x.sum(), "them positive"),
    (lambda x: jnp.where(jnp.all(x < 0) & (jnp.ptp(x) > 0.1), x.sum(), 0), lambda x: 0 * x.sum(), "them negative"),
])  # fmt: skip
def test_numbers_of_one_sign_in_order_and_rounded_are_looked_at(f, g, where):
    x = np.random.default_rng([0, 20]).normal(size=20).astype(np.float32) / 4
    report = v.equivalent(f, g, x, skip=["repair", "proof"])
    assert report.verdict is v.Verdict.REFUTED and where in report.reason, report
