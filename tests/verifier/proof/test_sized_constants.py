"""Constants whose size decides: intervals contain what NumPy computes, and what overlaps decides nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from selecting import all_but

import handprop
from handprop import Verdict
from handprop.verifier.programs.jaxprs import trace
from handprop.verifier.proof.field.arithmetic import Field
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import interval

QUICK = all_but("structure", "proof")
P = np.array([0.3, 0.7, 1.9])
OPERATIONS = {
    "exp": jnp.exp, "exp2": jnp.exp2, "expm1": jnp.expm1, "log": lambda x: jnp.log(jnp.exp(x) + 0.1),
    "log1p": lambda x: jnp.log1p(jnp.exp(x)), "sqrt": lambda x: jnp.sqrt(jnp.exp(x)), "sin": lambda x: jnp.sin(3 * x),
    "cos": lambda x: jnp.cos(jnp.exp(x)), "tan": lambda x: jnp.tan(jnp.sin(x)), "tanh": jnp.tanh, "erf": lax.erf,
    "sinh": jnp.sinh, "atan": jnp.arctan, "asinh": jnp.arcsinh, "logistic": jax.nn.sigmoid,
    "mul": lambda x: jnp.sin(x) * (jnp.cos(x) - 0.6), "div": lambda x: (jnp.sin(x) - 0.5) / jnp.exp(x),
    "sub": lambda x: jnp.exp(x) - jnp.exp(x[::-1]), "neg": lambda x: -jnp.exp(x), "abs": lambda x: abs(jnp.cos(2 * x)),
    "square": lambda x: jnp.square(jnp.cos(2 * x)), "cube": lambda x: jnp.cos(2 * x) ** 3,
    "power": lambda x: jnp.exp(x) ** jnp.sin(x), "inverse": lambda x: jnp.exp(x) ** -2,
    "sum": lambda x: jnp.sum(jnp.sin(x)), "cumsum": lambda x: jnp.cumsum(jnp.cos(x)),
    "max": lambda x: jnp.max(jnp.sin(x)), "min": lambda x: jnp.min(jnp.sin(x)),
    "dot": lambda x: jnp.sin(x) @ jnp.cos(x), "outer": lambda x: jnp.outer(jnp.sin(x), jnp.exp(x))[1:, ::2].T,
    "join": lambda x: jnp.concatenate([jnp.sin(x), jnp.exp(x)])[1:5].reshape(2, 2), "where": lambda x:
    jnp.where(jnp.array([True, False, True]), jnp.sin(x), jnp.exp(x)), "scan": lambda x: lax.scan(
        lambda c, y: (jnp.sin(c) + y, c * y), jnp.exp(x[0]), jnp.exp(x))[1],
    "cast": lambda x: jnp.sin(x).astype(np.float32).astype(np.float64),
    "bounds": lambda x: jnp.clip(jnp.sin(x), 0.5, 0.8),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interval_contains_the_number_and_is_narrow(name):
    with jax.enable_x64(True):
        program = trace(lambda: OPERATIONS[name](jnp.asarray(P)), ())
        (value,) = evaluate(Run(Field(2**31 - 1), 0, thresholds=(0.0,)), program, [])
        want = np.asarray(OPERATIONS[name](P), np.longdouble)
    low, high = interval(value)
    assert low.shape == value.shape == want.shape
    assert (low < want).all() and (want < high).all() and (high - low < 1e-6).all()


def number(value):
    """A number that tracing does not fold."""
    return lax.iota(np.float32, 1)[0] + jnp.float32(value)


UNDECIDED = {
    "equal numbers": lambda: jnp.exp(number(0.25)) * jnp.exp(number(0.5)) > jnp.exp(number(0.75)),
    "an underflow": lambda: jnp.exp(number(-1000.0)) > 0,
    "a product that underflows": lambda: jnp.exp(number(-600.0)) * jnp.exp(number(-600.0)) > 0,
    "a number that float64 cannot tell from another": lambda: jnp.exp(number(2.0**-60)) > 1,
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_numbers_that_are_too_close_decide_nothing(name):
    """The first are equal, the others differ; neither program below may be proved on the strength of floats."""
    x = jnp.ones(3)

    def chosen(x):
        return jnp.where(UNDECIDED[name](), x, 2 * x)

    for other in (lambda x: x + x, lambda x: x + 0.0):
        report = handprop.equivalent(chosen, other, x, skip=QUICK)
        assert report.verdict is not Verdict.PROVED or (name != "equal numbers" and other(1.0) == 1.0), report


def test_constants_of_a_rule_are_computed_in_both_programs():
    """The reference once held the spectrum of the kernel as rounded numbers, and the rule as its transform."""
    kernel = jnp.array([0.5, 0.2, -0.1, 0.3])

    @jax.custom_vjp
    def filtered(x):
        return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(kernel), n=4)

    filtered.defvjp(lambda x: (filtered(x), None),
                    lambda _, g: (jnp.fft.irfft(jnp.fft.rfft(g) * jnp.fft.rfft(kernel).conj(), n=4),))  # fmt: skip
    assert handprop.verify(filtered, jnp.arange(4.0), skip=QUICK).verdict is Verdict.PROVED
