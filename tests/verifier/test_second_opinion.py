"""Refutations by autodiff of a function whose autodiff is not its derivative."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from handprop import verifier as v

X = jnp.array([0.4, 1.3, 2.2])


def rule(f, slope):
    made = jax.custom_jvp(f)
    made.__name__ = "f"
    made.defjvp(lambda primals, tangents: (made(*primals), slope(primals[0]) * tangents[0]))
    return made


def by_bisection(x):
    """The cube root of x: every step compares, so that autodiff finds no slope."""

    def halve(state):
        low, high, i = state
        middle = (low + high) / 2
        is_below = middle**3 < x
        return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle), i + 1

    low, high, _ = lax.while_loop(lambda state: state[2] < 60, halve, (0.0 * x, 0.0 * x + 4.0, 0))
    return (low + high) / 2


def to_a_tolerance(x):
    """The solution of y = x + sin(y) / 2, where the iteration ends."""

    def turn(state):
        y = x + 0.5 * jnp.sin(state[0])
        return y, jnp.max(jnp.abs(y - state[0]))

    return lax.while_loop(lambda state: state[1] > 1e-9, turn, (x, jnp.asarray(1.0, x.dtype)))[0]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.VERIFIED), (1.01, v.Verdict.REFUTED)])
def test_values_speak_where_a_staircase_has_no_slope(factor, verdict):
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        report = v.verify(rule(by_bisection, lambda x: factor * jnp.cbrt(x) ** -2 / 3), x, skip="repair", domain={
            "x": v.domains.interval(0.2, 30.0)})  # fmt: skip
    assert report.verdict is verdict
    if report.ok:
        assert any("central differences" in condition for condition in report.conditions)
        assert any("autodiff" in finding for finding in report.findings)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.VERIFIED), (1.001, v.Verdict.REFUTED)])
def test_an_iteration_may_be_off_by_its_tolerance(factor, verdict):
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        slope = lambda x: factor / (1 - 0.5 * jnp.cos(to_a_tolerance(x)))  # noqa: E731
        report = v.verify(rule(to_a_tolerance, slope), x, skip="repair")
    assert report.verdict is verdict
    assert not report.ok or any("end at a tolerance" in condition for condition in report.conditions)


def test_a_stopped_gradient_is_not_overruled_by_values():
    report = v.verify(rule(lambda x: x * lax.stop_gradient(x), lambda x: 2 * x), X, skip="repair")
    assert report.verdict is v.Verdict.REFUTED
