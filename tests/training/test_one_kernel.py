"""Loops as one kernel: what is marked compiles and computes the same, what cannot be is left as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import paths_that_differ
from jax import lax

import handprop
from handprop.training import loop as training
from handprop.training import one_kernel

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA:CPU alone knows the mark")

X = jnp.linspace(0.1, 0.9, 24).reshape(4, 6)
STEPS = {
    "arithmetic": lambda x: (x + 1) * (x - 2) / (x * x + 3),
    "transcendental": lambda x: jnp.tanh(jnp.exp(-x) + jnp.log1p(x) + lax.logistic(x) + jnp.sin(x) * lax.erf(x)),
    "roots and powers": lambda x: jnp.sqrt(abs(x)) + lax.rsqrt(x * x + 1) + x**3 + lax.pow(abs(x) + 1, x),
    "choices": lambda x: jnp.where(x > 0.5, jnp.maximum(x, 0.2), -x) + jnp.sign(x) * jnp.clip(x, 0.1, 0.7),
    "layout": lambda x: jnp.concatenate([x[2:], x[:2]]).T.reshape(4, 6)[:, ::-1],
    "sums": lambda x: x / x.sum(0, keepdims=True) + x.max(1, keepdims=True),
    "loops": lambda x: lax.fori_loop(0, 3, lambda i, x: x * 0.5 + i, x),
    "slices": lambda x: lax.dynamic_update_slice(x, lax.dynamic_slice(x, (1, 1), (2, 2)) + 1, (0, 3)),
}


def marked(f, *args):
    return "xla_cpu_small_call" in jax.jit(f).lower(*args).as_text()


@pytest.mark.parametrize("name", STEPS)
def test_a_loop_in_one_kernel_computes_the_same(name):
    def loop(x):
        return lax.fori_loop(0, 5, lambda i, x: STEPS[name](x), x)

    def native(x):
        return one_kernel.call(loop, x)

    assert marked(native, X)
    np.testing.assert_allclose(jax.jit(native)(X), jax.jit(loop)(X), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(one_kernel.MAX_SUMMED,), (13, 315), (315, 13), (15, 13, 21)])
def test_the_largest_sums_that_are_marked_compile(shape):
    for axis in range(len(shape)):

        def native(x, axis=axis):
            return one_kernel.call(lambda x: lax.reduce_sum(x * x, axes=(axis,)), x)

        assert marked(native, jnp.ones(shape))
        np.testing.assert_allclose(jax.jit(native)(jnp.ones(shape)), shape[axis] * np.ones(shape).min(axis))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x @ x.T,
        lambda x: jnp.sort(x),
        lambda x: jnp.sum(jnp.ones((64, 64)) * x[0, 0]),
        lambda x: jnp.fft.fft(x),
        lambda x: x[:0] + 1,
        lambda x: lax.scan(lambda c, s: (c + s, c), x, jnp.zeros((0, 4, 6))),
    ],
    ids=["product", "sort", "large sum", "transform", "no entries", "no turns"],
)
def test_what_a_kernel_cannot_hold_is_left_as_it_is(f):
    assert not marked(lambda x: one_kernel.call(f, x), X)


def test_what_is_handed_through_keeps_its_producer_unmarked():
    text = jax.jit(lambda x: one_kernel.call(lambda y: (y, y * 2), x + 1)).lower(X).as_text()
    assert text.count("xla_cpu_small_call") == 1


def train_large_sums(steps=3):
    """Of 128 terms, which are not written out: one sum over 32,768 entries."""
    net, optimizer = handprop.mlp((128, 16), form="fused"), optax.sgd(0.1)
    params, data = net.init(jax.random.key(0)), (jnp.ones((16, 128)), jnp.ones((16, 16)))
    loop = training._check(net.value_and_grad, optimizer, data, steps, None, None, 0, 100)
    loop, *_ = training._run_compilable(loop, training._start(loop, params, None, 0, None), [], data, None)
    return loop.one_kernel, handprop.train(net.value_and_grad, params, data, optimizer=optimizer, steps=steps)


def test_training_goes_on_where_a_kernel_cannot_be_compiled(monkeypatch):
    """As if XLA's limit were lower than the one known here: sums above it are not for a kernel."""
    _, want = train_large_sums()
    monkeypatch.setattr(one_kernel, "MAX_SUMMED", 2**20)
    native, got = train_large_sums()
    assert not native and got.status is handprop.Status.FINISHED
    assert paths_that_differ(want.params, got.params) == []
