"""What the entries take: every way people write gradients, and what cannot be judged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import all_but
from jax.custom_derivatives import SymbolicZero

import handprop as v

X = jnp.linspace(0.1, 1.0, 5)


def sigmoid_back(args, dy):
    (x,) = args
    s = jax.nn.sigmoid(x)
    return (dy * s * (1 - s),)


def sigmoid_rule(backward):
    @jax.custom_vjp
    def sigmoid(x):
        return jax.nn.sigmoid(x)

    sigmoid.defvjp(lambda x: (sigmoid(x), x), backward)
    return sigmoid


@jax.custom_vjp
def product_and_sum(x, y):
    return x * y, x + y


def product_fwd(x, y):
    return product_and_sum(x.value, y.value), (x.value, y.value)


def product_bwd(residuals, cotangents):
    x, y = residuals
    a, b = (jnp.zeros_like(x) if type(c) is SymbolicZero else c for c in cotangents)
    return a * y + b, a * x + b


product_and_sum.defvjp(product_fwd, product_bwd, symbolic_zeros=True)


@jax.custom_jvp
def scaled_sine(x, y):
    return jnp.sin(x) * y


def scaled_sine_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    out = jnp.zeros_like(x)
    if type(dx) is not SymbolicZero:
        out = out + jnp.cos(x) * y * dx
    if type(dy) is not SymbolicZero:
        out = out + jnp.sin(x) * dy
    return scaled_sine(x, y), out


scaled_sine.defjvp(scaled_sine_jvp, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def mapped(f, x, n):
    return f(x) * n


mapped.defvjp(lambda f, x, n: (mapped(f, x, n), x), lambda f, n, x, dy: (dy * n * jnp.cos(x),))


@partial(jax.custom_vjp, nondiff_argnames=("n",))
def times_sine(x, n):
    return jnp.sin(x) * n


times_sine.defvjp(lambda x, n: (times_sine(x, n), x), lambda n, x, dy: (dy * n * jnp.cos(x),))


@jax.custom_vjp
def dropout(x, key):
    return x * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype)


dropout.defvjp(
    lambda x, key: (dropout(x, key), key),
    lambda key, d: (d * jax.random.bernoulli(key, 0.5, d.shape).astype(d.dtype), None),
)

TAKEN = {
    "symbolic zeros": (product_and_sum, (X, X + 1), {}),
    "symbolic zeros, one argument": (product_and_sum, (X, X + 1), {"argnums": (0,)}),
    "symbolic zeros inside": (lambda x: product_and_sum(x, x)[0].sum(), (X,), {}),
    "symbolic zeros, jvp": (scaled_sine, (X, X), {}),
    "symbolic zeros, jvp, one argument": (scaled_sine, (X, X), {"argnums": (1,)}),
    "nondiff_argnums": (mapped, (jnp.sin, X, 3), {}),
    "nondiff_argnums by name": (mapped, (jnp.sin, X), {"n": 3}),
    "nondiff_argnames": (times_sine, (X, 3), {}),
    "nondiff_argnames by name": (times_sine, (X,), {"n": 3}),
    "key": (dropout, (X, jax.random.key(1)), {}),
    "fwd and bwd": ((lambda x: (jax.nn.sigmoid(x), (x,)), sigmoid_back), (X,), {"reference": jax.nn.sigmoid}),
    "bwd alone": ((None, sigmoid_back), (X,), {"reference": jax.nn.sigmoid}),
    "empty": (product_and_sum, (jnp.zeros((0, 3)), jnp.zeros((0, 3))), {}),
    "bfloat16": (product_and_sum, (X.astype(jnp.bfloat16),) * 2, {}),
    "twice": (sigmoid_rule(lambda x, dy: sigmoid_back((x,), dy)), (X,), {"order": 2}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_proved(name):
    rule, args, options = TAKEN[name]
    report = v.verify(rule, *args, skip=all_but("structure", "proof"), **options)
    assert report.verdict is v.Verdict.PROVED, report


def test_a_wrong_bwd_alone_is_refuted():
    skip = all_but("structure", "proof", "rounding")
    report = v.verify((None, lambda r, d: (2 * sigmoid_back(r, d)[0],)), X, reference=jax.nn.sigmoid, skip=skip)
    assert report.verdict is v.Verdict.REFUTED
    with pytest.raises(TypeError, match="reference"):
        v.verify((None, sigmoid_back), X)


def test_all_checks_of_second_order():
    report = v.verify(sigmoid_rule(lambda x, dy: sigmoid_back((x,), dy)), X, order=2)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.check("differences").outcome is v.Outcome.SKIPPED


def test_second_order_sees_what_the_first_does_not():
    stopped = sigmoid_rule(lambda x, dy: (dy * jax.lax.stop_gradient(sigmoid_back((x,), 1.0)[0]),))
    assert v.verify(stopped, X, skip=all_but("structure", "proof", "rounding")).ok
    report = v.verify(stopped, X, order=2, skip=all_but("structure", "proof", "rounding"))
    assert report.verdict is v.Verdict.REFUTED
    assert report.counterexample is not None
    assert report.counterexample.worst.path == "second dx"


def called_back(x):
    return jax.pure_callback(np.sin, x, x, vmap_method="sequential")


def looped(x):
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, 2 * s[1]), (0, x))[1]


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, d: (backward(x, d),))
    return rule


UNJUDGED = {
    "complex": (ruled(lambda x: 2 * x, lambda x, d: 2 * d), X.astype(jnp.complex64), {}, "complex"),
    "integers": (ruled(lambda x: 2 * x, lambda x, d: 2 * d), jnp.arange(3), {}, "no output of a floating dtype"),
    "a callback": (ruled(called_back, lambda x, d: d * jnp.cos(x)), X, {}, "reference="),
    "a while loop": (ruled(looped, lambda x, d: 8 * d), X, {}, "reference="),
    "a callback twice": (
        sigmoid_rule(lambda x, dy: (dy * jax.pure_callback(lambda x: np.asarray(x), x, x),)), X, {"order": 2},
        "differentiated twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNJUDGED)
def test_what_cannot_be_judged_is_said(name):
    rule, x, options, says = UNJUDGED[name]
    report = v.verify(rule, x, skip=all_but("structure", "proof"), **options)
    assert report.verdict is v.Verdict.INCONCLUSIVE
    assert says in report.reason
    assert v.Report.from_json(report.to_json()) == report


def test_a_readable_twin_stands_in_for_a_primal_without_a_derivative():
    rule = ruled(looped, lambda x, d: 8 * d)
    assert v.verify(rule, X, reference=lambda x: 8 * x, skip=all_but("structure", "proof")).verdict is v.Verdict.PROVED


def test_checks_and_orders_that_are_none():
    with pytest.raises(ValueError, match="no check 'prof'"):
        v.verify(dropout, X, jax.random.key(0), skip=("prof",))
    with pytest.raises(ValueError, match="1 or 2"):
        v.verify(dropout, X, jax.random.key(0), order=3)
