"""What the entries take: every way people write gradients, and what cannot be judged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero
from selecting import all_but

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
    "nondiff_argnums by name": (mapped, (jnp.sin, X), {"kwargs": {"n": 3}}),
    "nondiff_argnames": (times_sine, (X, 3), {}),
    "nondiff_argnames by name": (times_sine, (X,), {"kwargs": {"n": 3}}),
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
    assert report.check("finite_differences").outcome is v.Outcome.SKIPPED


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
    "integers": (ruled(lambda x: 2 * x, lambda x, d: 2 * d), jnp.arange(3), {}, "no output of a floating dtype"),
    "many entries of a callback": (ruled(called_back, lambda x, d: d * jnp.cos(x)), jnp.ones(300), {}, "reference="),
    "many entries of a while loop": (ruled(looped, lambda x, d: 8 * d), jnp.ones(1100), {}, "reference="),
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


KEY = jax.random.key(0)
UNEQUAL = {
    "integers": (lambda x: (2 * x, (x > 0).astype(int)), lambda x: (x + x, (x > -1).astype(int)), (X - 0.5,), "[1]"),
    "truth values": (lambda x: (2 * x, x > 0), lambda x: (x + x, x > 0.5), (X,), "[1]"),
    "integers alone": (jnp.argmax, jnp.argmin, (X,), "value"),
    "integers given": (lambda x, i: (x, i + 1), lambda x, i: (x, i + 2), (X, jnp.arange(3)), "[1]"),
    "keys": (lambda x, k: (x, jax.random.split(k)[0]), lambda x, k: (x, jax.random.split(k)[1]), (X, KEY), "[1]"),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_outputs_that_are_no_floats_are_compared(name):
    f, g, args, path = UNEQUAL[name]
    report = v.equivalent(f, g, *args, skip=all_but("structure", "rounding"))
    assert report.verdict is v.Verdict.REFUTED
    assert report.counterexample.worst.path == path
    assert v.equivalent(f, f, *args, skip=("repair",)).verdict is v.Verdict.PROVED


def test_the_integers_that_a_rule_returns_are_compared():
    def largest(shift):
        rule = jax.custom_vjp(lambda x: (x.max(), x.argmax()))
        rule.defvjp(lambda x: ((x.max(), x.argmax() + shift), x), lambda x, d: (d[0] * jnp.eye(x.size)[x.argmax()],))
        return rule

    skip = all_but("structure", "rounding")
    assert v.verify(largest(0), X, skip=skip).ok
    report = v.verify(largest(1), X, skip=skip)
    assert report.verdict is v.Verdict.REFUTED and report.counterexample.worst.path == "value[1]"


def test_an_integer_that_rounding_decides_refutes_nothing():
    """Entries that are equal over the reals: which is the largest is decided by rounding."""

    def first(a, b):
        return lambda x: jnp.argmax(jnp.stack([a(x), b(x)]))

    thirds, sevenths = lambda x: (x * 3 / 7).sum(), lambda x: (x / 7 * 3).sum()
    skip = all_but("structure", "rounding")
    for key in range(3):
        assert v.equivalent(first(thirds, sevenths), first(sevenths, thirds), X, key=key, skip=skip).verdict \
            is not v.Verdict.REFUTED  # fmt: skip


def loss(w, b):
    return (w * w).sum() * b.sum()


def by_w(w, b):
    return 2 * w * b.sum()


def by_b(w, b):
    return jnp.ones_like(b) * (w * w).sum()


MEANT = {
    "several": (lambda w, b: (by_w(w, b), by_b(w, b)), "2 gradients are returned.*pass argnums=\\(0, 1\\)"),
    "several and the value": (lambda w, b: (loss(w, b), (by_w(w, b), by_b(w, b))), "pass argnums=\\(0, 1\\)"),
}


@pytest.mark.parametrize("name", MEANT)
def test_gradients_of_several_arguments_ask_for_argnums(name):
    hand, says = MEANT[name]
    with pytest.raises(TypeError, match=says):
        v.verify_gradient(hand, loss, X, jnp.ones(2))
    skip = all_but("structure", "proof")
    assert v.verify_gradient(hand, loss, X, jnp.ones(2), argnums=(0, 1), skip=skip).verdict is v.Verdict.PROVED


def test_the_gradient_of_another_argument_says_argnums():
    report = v.verify_gradient(by_b, loss, X, jnp.ones(2))
    assert report.verdict is v.Verdict.REFUTED
    assert report.reason == "gradient is float32[2], not float32[5]; if it is for another argument, pass argnums=1"
    skip = all_but("structure", "proof")
    assert v.verify_gradient(by_b, loss, X, jnp.ones(2), argnums=1, skip=skip).verdict is v.Verdict.PROVED
    assert v.verify_gradient(by_b, loss, X, jnp.ones(2), argnums=-1, skip=skip).verdict is v.Verdict.PROVED


NO_GRADIENT = {
    "argnums": (loss, (X, X), {"argnums": 2}, "argnums=2 is not the position of an argument: give numbers from 0 to 1"),
    "integers": (
        lambda w, i: w[i].sum(),
        (X, jnp.arange(2)),
        {"argnums": 1},
        "argnums=1 cannot be differentiated: i is",
    ),
    "an array": (by_w, (X, X), {}, "by_w returns float32\\[5\\], but a loss must be one float"),
    "a failure": (loss, (X,), {}, "loss fails at these arguments: TypeError"),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_loss_without_that_gradient_is_an_error(name):
    of, args, options, says = NO_GRADIENT[name]
    with pytest.raises(TypeError, match=says):
        v.verify_gradient(by_w, of, *args, **options)


def test_a_gradient_in_numpy_is_not_refuted():
    report = v.verify_gradient(lambda w: 2 * np.asarray(w), lambda w: (w * w).sum(), X)
    assert report.verdict is v.Verdict.INCONCLUSIVE and "only runs uncompiled" in report.reason


def test_checks_and_orders_that_are_none():
    with pytest.raises(ValueError, match="skip='prof' is not a check"):
        v.verify(dropout, X, jax.random.key(0), skip=("prof",))
    with pytest.raises(ValueError, match="1 or 2"):
        v.verify(dropout, X, jax.random.key(0), order=3)
