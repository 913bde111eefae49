"""The line where a rule stops being linear in its cotangent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop.verifier.from_rules import Against, of_rule
from handprop.verifier.repair.breaking_line import nonlinear_line
from handprop.verifier.report.values import Worst

X = jnp.asarray(np.random.default_rng(0).normal(size=4), jnp.float32)


def subtracted(x, d):
    slope = jnp.cos(x)
    return slope * d - x


def twice(x, d):
    weighed = d * d
    return jnp.cos(x) * weighed


def in_exp(x, d):
    return jnp.cos(x) * jnp.exp(d)


def ones_alone(x, d):
    scaled = jnp.cos(x) * d
    return jnp.where(d == 0, 0.0, scaled) + 0 * x


@pytest.mark.parametrize(("backward", "line", "says"), [
    (subtracted, 2, "a term is subtracted here that is not multiplied by the cotangent"),
    (twice, 1, "the cotangent is multiplied in twice here"),
    (in_exp, 1, "exp is applied to the cotangent here, so the result is not linear in the cotangent"),
    (ones_alone, None, ""),
])  # fmt: skip
def test_where_the_cotangent_is_no_factor(backward, line, says):
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, d: (backward(x, d),))
    problem = of_rule(rule, (X,), {}, Against(), None, (), np.random.default_rng(0))
    found = nonlinear_line(problem, Worst("dx", (0,), 1.0, 0.0, 1.0))
    if line is None:
        assert found is None
        return
    assert found is not None
    assert found.location.line == backward.__code__.co_firstlineno + line
    assert found.diagnosis == says
