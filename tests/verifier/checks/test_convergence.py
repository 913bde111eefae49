"""Functions that iterate towards a fixed point, beside the derivative of that point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v

RNG = np.random.default_rng(0)
W = jnp.asarray(0.2 * RNG.normal(size=(3, 3)), jnp.float32)
X = jnp.asarray(RNG.normal(size=3), jnp.float32)


def implicit(transposed):
    """``z = tanh(W z + x)``, with the derivative of its fixed point."""

    @jax.custom_vjp
    def solved(w, x):
        return jax.lax.fori_loop(0, 60, lambda i, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))

    def forward(w, x):
        z = solved(w, x)
        return z, (w, x, z)

    def backward(residuals, g):
        w, x, z = residuals
        d = 1 - jnp.tanh(w @ z + x) ** 2
        left = jnp.eye(3) - d[:, None] * w
        u = jnp.linalg.solve(left.T if transposed else left, g)
        return jnp.outer(d * u, z), d * u

    solved.defvjp(forward, backward)
    return solved


def from_a_start(by_start):
    """``z = tanh(a z + x)`` from where it is told to begin, of which the fixed point does not depend."""

    @jax.custom_vjp
    def solved(a, x, start):
        return jax.lax.fori_loop(0, 40, lambda i, z: jnp.tanh(a * z + x), start)

    def forward(a, x, start):
        z = solved(a, x, start)
        return z, (a, x, z)

    def backward(residuals, g):
        a, x, z = residuals
        d = 1 - jnp.tanh(a * z + x) ** 2
        u = g * d / (1 - d * a)
        return u * z, u, by_start(g)

    solved.defvjp(forward, backward)
    return solved


def doubled(wrong_from):
    """Five turns of a loop that tends to nothing."""

    @jax.custom_vjp
    def grown(x):
        return jax.lax.fori_loop(0, 5, lambda i, y: 1.5 * y, x) ** 2

    def backward(x, g):
        factor = 1.5**10
        return (2 * factor * x * g * jnp.where(jnp.abs(x) > wrong_from, 2, 1),)

    grown.defvjp(lambda x: (grown(x), x), backward)
    return grown


def test_where_an_iteration_has_not_converged_the_derivative_of_its_limit_is_not_wrong():
    report = v.verify(implicit(transposed=True), W, X)
    assert report.verdict is v.Verdict.VERIFIED, report
    assert any("has not converged there" in said for said in report.findings), report.findings


def test_the_wrong_derivative_of_a_limit_is_refuted():
    assert v.verify(implicit(transposed=False), W, X, skip="repair").verdict is v.Verdict.REFUTED


@pytest.mark.sweep
@pytest.mark.parametrize(("by_start", "holds"), [(jnp.zeros_like, True), (lambda g: 1e-6 * g, False)])
def test_what_an_iteration_leaves_of_its_start_is_no_mistake_of_the_rule(by_start, holds):
    """Autodiff's derivative by the start is as small as 1e-30, and another turn makes it smaller."""
    a = jnp.array([0.5, -0.3, 0.2])
    report = v.verify(from_a_start(by_start), a, X, jnp.zeros(3), skip=["repair"])
    assert report.ok is holds, report


@pytest.mark.parametrize(("wrong_from", "holds"), [(30.0, False), (np.inf, True)])
def test_a_loop_that_tends_to_nothing_excuses_nothing(wrong_from, holds):
    assert v.verify(doubled(wrong_from), X).ok == holds


@pytest.mark.sweep
def test_products_too_small_for_their_digits_are_no_difference():
    factors = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, 60000), jnp.float32)
    report = v.equivalent(
        jnp.cumprod,
        lambda x: jax.lax.cumprod(x[::-1], reverse=True)[::-1],
        factors,
        skip=all_but("structure", "rounding"),
    )
    assert report.verdict is v.Verdict.VERIFIED, report
