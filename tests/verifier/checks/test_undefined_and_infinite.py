"""Points where the function has no value, or an infinite slope, and functions that are made for one dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from handprop import verifier as v


def rule(f, slope):
    made = jax.custom_jvp(f)
    made.__name__ = f.__name__
    made.defjvp(lambda primals, tangents: (made(*primals), slope(primals[0]) * tangents[0]))
    return made


def root(x):
    return jnp.sqrt(x)


def cube_root(x):
    return jnp.cbrt(x)


def angle(x):
    return jnp.arccos(x)


@pytest.mark.parametrize(("f", "slope", "x"), [
    (root, lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), [0.0, 0.3, 2.0]),
    (cube_root, lambda x: jnp.where(x == 0, 7.0, 1 / (3 * jnp.where(x == 0, 1.0, jnp.cbrt(x)) ** 2)), [-0.4, 0.0, 1.0]),
    (angle, lambda x: -1 / jnp.sqrt(jnp.maximum(1 - x * x, 1e-6)), [0.3, 1.0]),
])  # fmt: skip
def test_a_number_in_place_of_an_infinite_slope_is_refuted_at_the_given_input(f, slope, x):
    report = v.verify(rule(f, slope), jnp.array(x), skip="repair", domain="any")
    assert report.verdict is v.Verdict.REFUTED
    assert "grows without end" in report.reason
    inside = jnp.array([0.3, 0.5])
    assert v.verify(rule(f, slope), inside, skip="repair", domain=v.domains.interval(0.2, 0.9)).ok


def test_a_number_where_autodiff_alone_is_infinite_is_no_fault():
    """The values have the slope 0 there, which autodiff does not see."""
    f = lambda x: jnp.where(x > 0, x * x * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)  # noqa: E731
    report = v.verify(rule(f, lambda x: jnp.where(x > 0, x * (2 * jnp.log(jnp.abs(x)) + 1), 0.0)),
                      jnp.array([0.0, 0.7]), skip="repair")  # fmt: skip
    assert "grows without end" not in report.reason


def weighted(x, b):
    return jnp.log(jnp.sum(b * jnp.exp(x), -1))


def with_slopes(factor):
    made = jax.custom_vjp(weighted)
    made.__name__ = "weighted"

    def backward(saved, g):
        x, b = saved
        terms = b * jnp.exp(x)
        g = factor * (g / terms.sum(-1))[:, None]
        return g * terms, g * jnp.exp(x)

    made.defvjp(lambda x, b: (weighted(x, b), (x, b)), backward)
    return made


def test_nothing_is_compared_where_the_function_has_no_value():
    """A sum of weights of both signs may be negative, in one row and not in another."""
    x, b = jax.random.normal(jax.random.key(0), (2, 3)), jnp.array([[0.4, 0.0, 0.3], [1.1, 0.2, 0.5]])
    report = v.verify(with_slopes(1.0), x, b)
    assert report.ok, report.reason
    assert v.verify(with_slopes(1.01), x, b, skip="repair").verdict is v.Verdict.REFUTED


def truncated(x):
    """e^x - 1 by a series that is as long as the dtype needs."""
    terms = 12 if x.dtype == jnp.float32 else 18
    total, term = jnp.zeros_like(x), jnp.ones_like(x)
    for n in range(1, terms):
        term = term * x / n
        total = total + term
    return total


@pytest.mark.parametrize(("off", "ok"), [(0.0, True), (1e-4, False)])
def test_a_function_made_for_a_dtype_is_as_precise_as_the_dtype(off, ok):
    x = jnp.array([0.3, -0.5, 0.9], jnp.float32)
    report = v.verify(rule(truncated, lambda x: (1 + off) * jnp.exp(x)), x, domain=v.domains.interval(-1.0, 1.0))
    assert report.ok is ok, report.reason
    if ok:
        assert any("another program in float64" in condition for condition in report.conditions)


def test_forward_mode_is_judged_where_it_is_asked_for():
    @jax.custom_jvp
    def product(w, x):
        return jnp.where(w != 0, w * x, 0.0)

    @product.defjvp
    def _(primals, tangents):
        (w, x), (dw, dx) = primals, tangents
        return product(w, x), w * dx + dw * x

    w, x = jnp.array([0.0, 1.3]), jnp.array([-jnp.inf, 0.4])
    assert v.verify(product, w, x, argnums=(1,), skip="repair").ok
    report = v.verify(product, w, x, argnums=(1,), mode="forward", skip="repair")
    assert report.verdict is v.Verdict.REFUTED
    assert np.isnan(report.counterexample.worst.got)
    with pytest.raises(ValueError, match="mode must be"):
        v.verify(product, w, x, mode="backward")


def test_forward_mode_is_for_rules_that_have_one():
    f = jax.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    with pytest.raises(v.Unusable, match="no forward mode"):
        v.verify(f, jnp.ones(3), mode="forward")
    with pytest.raises(v.Unusable, match="1024 at most"):
        v.verify(rule(root, lambda x: 0.5 / jnp.sqrt(x)), jnp.ones(2000), mode="forward")


def test_beside_a_pole_steps_are_as_small_as_the_smallest_argument():
    @jax.custom_jvp
    def angle_of(y, x):
        return jnp.arctan2(y, x)

    @angle_of.defjvp
    def _(primals, tangents):
        (y, x), (dy, dx) = primals, tangents
        return angle_of(y, x), (x * dy - y * dx) / jnp.maximum(x * x + y * y, 1e-14)

    with jax.enable_x64(True):
        y, x = jnp.array([0.4, 1e-8]), jnp.array([-0.3, 1e-8])
        report = v.verify(angle_of, y, x, skip="repair")
    assert report.verdict is v.Verdict.REFUTED
    assert "in float64" in report.reason


def test_a_scan_over_truth_values_is_no_fault_of_the_verifier():
    def steps(x):
        return lax.scan(lambda c, flag: (jnp.where(flag, c * x, c), None), x, jnp.array([True, False, True]))[0]

    made = rule(steps, lambda x: 3 * x * x)
    assert v.verify(made, jnp.array([0.5, -1.2])).verdict is v.Verdict.PROVED
