"""Constants that are rounded stand for every number that rounds to them, and for no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop as v

WEIGHTS = jnp.array([0.1, 0.7, 0.3], jnp.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
LN_10 = jnp.log(jnp.float32(10.0))


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, d: (backward(x, d),))
    return rule


def by_weights(x):
    return WEIGHTS * x


def decibel(x):
    return 10 * jnp.log(x) / LN_10


def standard(x):
    return (x - np.float32(0.485)) / STD


CASES = {
    "an array in a closure": (by_weights, lambda x, d: WEIGHTS * d, "PROVED"),
    "the other order": (by_weights, lambda x, d: d * WEIGHTS, "PROVED"),
    "a logarithm and a literal": (decibel, lambda x, d: 4.342944819032518 / x * d, "VERIFIED"),
    "one digit less": (decibel, lambda x, d: 4.342945 / x * d, "VERIFIED"),
    "a reciprocal that NumPy rounds": (standard, lambda x, d: d * (1 / STD), "VERIFIED"),
    "two units in the last place": (by_weights, lambda x, d: WEIGHTS * np.float32(1.0000002) * d, "REFUTED"),
    "one digit wrong": (decibel, lambda x, d: 4.342954819032518 / x * d, "REFUTED"),
    "two digits less": (decibel, lambda x, d: 4.34294 / x * d, "REFUTED"),
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", CASES)
def test_what_the_rounding_of_constants_explains(name):
    primal, backward, verdict = CASES[name]
    report = v.verify(ruled(primal, backward), jnp.array([0.3, 1.2, 0.7], jnp.float32))
    assert report.verdict.name == verdict, str(report)
    assert not report.internal
    explained = any("the rounding of the programs' constants" in said for said in report.findings)
    assert explained == (verdict == "VERIFIED"), report.findings
