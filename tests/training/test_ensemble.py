"""Each member of an ensemble is the network that would have been trained by itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import handprop
from handprop.training import ensemble as module
from handprop.training import one_kernel
from handprop.training.ensemble import _layout, member

X = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
Y = jnp.array([[0.0], [1], [1], [0]])
RNG = np.random.default_rng(0)
NETS = {
    "classic": handprop.mlp((3, 4, 1), bias=False, reduction="sum", init="uniform"),
    "biases, means": handprop.mlp((3, 5, 4, 1), hidden="tanh", output="identity", loss="mean_squared_error"),
    "cross-entropy": handprop.mlp((3, 4, 1), loss="binary_cross_entropy"),
    "fast": handprop.mlp((3, 4, 1), form="fast_sigmoid"),
    "accurate": handprop.mlp((3, 4, 1), form="accurate"),
    "softmax": handprop.mlp((3, 4, 2), output="softmax", loss="softmax_cross_entropy"),
    "too large to fold": handprop.mlp((3, 400, 40, 1)),
}


def targets(net):
    return Y if net.spec.sizes[-1] == 1 else jnp.arange(4) % 2


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", NETS)
def test_the_gradients_are_those_of_the_members(name):
    net, k = NETS[name], 3
    pop = handprop.ensemble(net, k)
    params = pop.init(jax.random.key(0))
    values, grads = pop.value_and_grad(params, X, targets(net))
    assert values.shape == (k,)
    for i in range(k):
        value, own = net.value_and_grad(member(params, i), X, targets(net))
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        for got, want in zip(jax.tree.leaves(member(grads, i)), jax.tree.leaves(own), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", NETS)
def test_the_predictions_are_those_of_the_members(name):
    net = NETS[name]
    pop = handprop.ensemble(net, 3)
    params = pop.init(jax.random.key(0))
    predictions = pop.apply(params, X)
    assert predictions.shape == (4, net.spec.sizes[-1], 3)
    for i in range(3):
        np.testing.assert_allclose(predictions[..., i], net.apply(member(params, i), X), rtol=1e-5, atol=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["classic", "biases, means", "cross-entropy"])
def test_it_is_proved_to_be_vmap_of_autodiff(name):
    net = NETS[name]
    pop = handprop.ensemble(net, 2)
    params = pop.init(jax.random.key(0))

    def twin(params, x, y):
        return jax.vmap(jax.value_and_grad(net.loss), in_axes=(-1, None, None), out_axes=(0, -1))(params, x, y)

    x = jnp.asarray(RNG.uniform(size=(4, 3)), jnp.float32)
    report = handprop.equivalent(
        pop.value_and_grad, twin, params, x, jnp.asarray(RNG.uniform(size=(4, 1)), jnp.float32)
    )
    assert report.verdict is handprop.Verdict.PROVED, str(report)


@pytest.mark.thinned(7)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer", [optax.sgd(1.0), optax.sgd(1.0, momentum=0.5), optax.adam(0.1)], ids=["sgd", "momentum", "adam"]
)
@pytest.mark.parametrize("k", [1, 5, 150])
def test_training_is_that_of_the_members(k, optimizer, dtype):
    net = NETS["classic"]
    with jax.enable_x64(dtype == "float64"):
        x, y = X.astype(dtype), Y.astype(dtype)
        pop = handprop.ensemble(net, k)
        params, learning_rates = pop.init(jax.random.key(1), dtype), jnp.linspace(0.2, 1.0, k, dtype=dtype)
        result = pop.train(
            params, (x, y), learning_rates=learning_rates, steps=25, optimizer=optimizer, record_every=10
        )
        assert result.step.tolist() == [0, 10, 20, 25] and result.value.shape == (4, k)
        assert result.params[0].W.dtype == dtype and result.params[0].W.shape == (3, 4, k)
        for i in {0, k // 2, k - 1}:
            scaled = optax.chain(optimizer, optax.scale(float(learning_rates[i])))
            own = handprop.train(net.value_and_grad, member(params, i), (x, y), optimizer=scaled, steps=25)
            for got, want in zip(jax.tree.leaves(member(result.params, i)), jax.tree.leaves(own.params), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(result.value[-1, i], net.loss(own.params, x, y), rtol=1e-4)


@pytest.mark.parametrize("k", [1, 16, 65_536])
def test_a_block_of_the_classic_network_is_one_kernel(k):
    net, layout = NETS["classic"], _layout(NETS["classic"], k, X)
    block = handprop.ensemble(net, layout.members).init(jax.random.key(0)), jnp.ones(layout.members)
    args = (*jax.tree.map(lambda leaf: leaf[None], block), X, Y, jnp.array([5], jnp.int32))
    assert one_kernel.fits(jax.jit(partial(module._run_chunk, net, optax.sgd(1.0))).trace(*args).jaxpr)


def test_training_goes_on_where_a_kernel_cannot_be_compiled(monkeypatch):
    """A block of 128 sums 6,144 entries, which XLA gives to a library: one kernel cannot hold that."""
    pop = handprop.ensemble(NETS["classic"], 150)
    params = pop.init(jax.random.key(1))
    want = pop.train(params, (X, Y), learning_rates=1.0, steps=5)
    monkeypatch.setattr(one_kernel, "MAX_SUMMED", 2**20)
    monkeypatch.setattr(one_kernel, "MAX_ENTRIES", 2**20)
    monkeypatch.setattr(module, "MAX_MEMBERS", 128)
    monkeypatch.setattr(module, "_cores", lambda: 1)
    got = pop.train(params, (X, Y), learning_rates=1.0, steps=5)
    np.testing.assert_allclose(got.value, want.value, rtol=1e-5)


def test_a_member_that_diverges_leaves_the_others_alone_and_is_not_the_best():
    net = handprop.mlp((3, 4, 1), hidden="identity", output="identity")
    pop = handprop.ensemble(net, 3)
    params, data = pop.init(jax.random.key(0)), (X, Y)
    result = pop.train(params, data, learning_rates=jnp.array([1e30, 0.1, 0.01]), steps=20)
    assert np.isfinite(result.value[-1]).tolist() == [False, True, True]
    index, best = result.best()
    assert index == int(np.nanargmin(result.value[-1])) and best[0].W.shape == (3, 4)
    with pytest.raises(ValueError, match="None of the 3 members"):
        pop.train(params, data, learning_rates=1e30, steps=20).best()


def test_scales_and_keys_are_the_members_own():
    net = NETS["classic"]
    params = handprop.ensemble(net, 4).init(jax.random.key(3), scales=jnp.arange(4.0))
    assert not params[0].W[..., 0].any()
    for i, key in enumerate(jax.random.split(jax.random.key(3), 4)):
        np.testing.assert_allclose(member(params, i)[0].W, i * net.init(key)[0].W, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 7, 64, 1000, 65_536])
def test_every_member_has_a_place_and_few_are_there_twice(k):
    chunks, blocks, members = _layout(NETS["classic"], k, X)
    assert k <= chunks * blocks * members <= k + chunks * members


def test_no_steps_and_what_cannot_be():
    net = NETS["classic"]
    pop = handprop.ensemble(net, 2)
    params = pop.init(jax.random.key(0))
    result = pop.train(params, (X, Y), learning_rates=1.0, steps=0)
    assert result.step.tolist() == [0] and result.value.shape == (1, 2)
    np.testing.assert_array_equal(result.params[0].W, params[0].W)
    with pytest.raises(ValueError, match="k=0 is too small"):
        handprop.ensemble(net, 0)
    with pytest.raises(ValueError, match=r"learning_rates has shape \(3,\), but an ensemble of 2"):
        pop.train(params, (X, Y), learning_rates=jnp.ones(3), steps=1)
    with pytest.raises(ValueError, match=r"params have \[3\] members"):
        pop.train(handprop.ensemble(net, 3).init(jax.random.key(0)), (X, Y), learning_rates=1.0, steps=1)
    with pytest.raises(ValueError, match="steps=-1 is too small"):
        pop.train(params, (X, Y), learning_rates=1.0, steps=-1)
    with pytest.raises(ValueError, match="shape"):
        pop.train(params, (X[:, :2], Y), learning_rates=1.0, steps=1)
