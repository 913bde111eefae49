"""What is wrong with how a rule is built, said where anyone can see it."""

import jax
import jax.numpy as jnp
import pytest
from selecting import all_but

import handprop as v

X = jnp.linspace(0.1, 1.0, 5)
QUICK = all_but("structure", "proof", "rounding")


def square_with(fwd, bwd):
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(fwd, bwd)
    return square


def square_jvp(tangent):
    @jax.custom_jvp
    def square(x):
        return x * x

    square.defjvp(lambda p, t: (square(*p), tangent(p[0], t[0])))
    return square


def keeping(x):
    return x * x, x


FAULTS = {
    "fwd of three": (square_with(lambda x: (x * x, x, x), lambda x, d: (d,)), "fwd must return a pair"),
    "fwd's shape": (
        square_with(lambda x: ((x * x).sum(), x), lambda x, d: (d,)),
        "fwd's value is float32[], not",
    ),
    "fwd's tree": (square_with(lambda x: ((x, x), x), lambda x, d: (d,)), "fwd returns PyTreeDef((*, *)), but the"),
    "two cotangents": (square_with(keeping, lambda x, d: (d, d)), "bwd must return 1 cotangent, one for each argument"),
    "no tuple": (square_with(keeping, lambda x, d: d), "bwd must return 1 cotangent"),
    "a dtype": (square_with(keeping, lambda x, d: ((2 * x * d).astype(jnp.bfloat16),)), "cotangent 0 is bfloat16[5]"),
    "an error": (square_with(keeping, lambda x, d: (nowhere(x),)), "rule raises NameError: name 'nowhere'"),  # noqa: F821
    "tangents multiplied": (square_jvp(lambda x, dx: dx * dx), "rule is not linear in its tangents"),
    "size of a tangent": (square_jvp(lambda x, dx: jnp.abs(2 * x * dx)), "rule is not linear in its tangents"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence(name):
    rule, says = FAULTS[name]
    report = v.verify(rule, X, skip=QUICK)
    assert report.verdict is v.Verdict.REFUTED
    assert says in report.reason and "\n" not in report.reason


def test_a_fault_of_a_rule_inside():
    wrong = FAULTS["a dtype"][0]
    report = v.verify(jax.vmap(lambda x: 2 * wrong(x)), X[None], skip=QUICK)
    assert report.verdict is v.Verdict.REFUTED and "cotangent 0 of square is bfloat16" in report.reason


def test_a_cotangent_of_a_python_float_may_be_of_any_float():
    @jax.custom_vjp
    def times(x, a):
        return x * a

    times.defvjp(lambda x, a: (times(x, a), (x, a)), lambda kept, d: (d * kept[1], (d * kept[0]).sum()))
    assert v.verify(times, X.astype(jnp.bfloat16), 0.5, skip=QUICK).verdict is v.Verdict.PROVED


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "VERIFIED"), (1.1, "REFUTED")])
def test_a_rule_that_jax_cannot_transpose_is_judged_forwards(factor, verdict):
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    @sine.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return sine(x), factor * jnp.cos(x) * jnp.sqrt(t * t) * jnp.sign(t)  # linear, though no step of it is

    report = v.verify(sine, jnp.array([0.3, 1.2]))
    assert report.verdict.name == verdict, report
    assert any("differentiated forwards" in said for said in report.conditions)


def test_a_rule_that_is_not_linear_is_refuted():
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    @sine.defjvp
    def _(primals, tangents):
        return sine(primals[0]), jnp.cos(primals[0]) * tangents[0] * tangents[0]

    report = v.verify(sine, jnp.array([0.3, 1.2]))
    assert report.verdict is v.Verdict.REFUTED
    assert "is not linear in its tangents" in report.reason
