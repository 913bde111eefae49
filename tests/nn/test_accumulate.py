"""The gradient of a batch, slice by slice, is the gradient of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, paths_that_differ

import handprop
from handprop.nn import accumulate as module
from handprop.nn.accumulate import accumulate, microbatch_size_for

SOME = CASES[::29]  # every dtype and both reductions among them


def network(reduction: str = "mean", loss: str = "half_squared_error", output: str = "sigmoid"):
    """(net, params, x, y) of 11 examples."""
    net = handprop.mlp((3, 5, 2), output=output, loss=loss, reduction=reduction)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(11, 3)).astype("float32"), rng.uniform(size=(11, 2)).astype("float32")
    return net, net.init(jax.random.key(0)), x, y


def within(found, expected, terms: int, size: float) -> None:
    """Entries that sum so many terms of at most this size, in two orders."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * (terms + 1) * jnp.finfo(b.dtype).eps * size)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("microbatch_size", [4, 10])
def test_is_proved_to_be_the_gradient_of_the_batch(reduction, microbatch_size):
    net, params, x, y = network(reduction)
    report = handprop.equivalent(
        accumulate(net, microbatch_size), net.value_and_grad, params, jnp.asarray(x), jnp.asarray(y)
    )
    assert report.verdict is handprop.Verdict.PROVED


@pytest.mark.thinned(2)
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_every_kind_of_network(case):
    with jax.enable_x64(case.dtype == "float64"):
        params, x, y = case.draw()
        found = jax.jit(accumulate(case.net, 3))(params, x, y)
        value, grads = jax.jit(case.net.value_and_grad)(params, x, y)
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves((value, grads)))
        within(found, (value, grads), case.examples, max(largest, 1.0))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_host_arrays_give_what_device_arrays_give(reduction):
    net, params, x, y = network(reduction)
    within(accumulate(net, 4)(params, x, y), accumulate(net, 4)(params, jnp.asarray(x), jnp.asarray(y)), 11, 1.0)
    within(accumulate(net, 4)(params, x, y), net.value_and_grad(params, x, y), 11, 1.0)


def test_a_file_is_brought_to_the_device_slice_by_slice(tmp_path, monkeypatch):
    net, params, x, y = network()
    np.save(tmp_path / "x.npy", x)
    sent, put = [], jax.device_put
    monkeypatch.setattr(module.jax, "device_put", lambda leaves: sent.append(len(leaves[0])) or put(leaves))
    monkeypatch.setattr(module, "_on_device", lambda *_: pytest.fail("all of it was brought"))
    value, _ = accumulate(net, 4)(params, np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    assert sent == [4, 4, 3]
    np.testing.assert_allclose(value, net.loss(params, x, y), rtol=1e-6)


def test_temporaries_do_not_grow_with_the_examples():
    net = handprop.mlp((32, 32, 32))
    params = net.init(jax.random.key(0))

    def temporaries(f, examples: int) -> int:
        x = jax.ShapeDtypeStruct((examples, 32), jnp.float32)
        return jax.jit(f).lower(params, x, x).compile().memory_analysis().temp_size_in_bytes

    few, many = (temporaries(accumulate(net, 128), n) for n in (1024, 16384))
    assert many < 1.1 * few
    assert many < temporaries(net.value_and_grad, 16384) / 10


def test_a_batch_of_one_slice_has_the_networks_own_bits():
    net, params, x, y = network()
    assert not paths_that_differ(accumulate(net, 11)(params, x, y), net.value_and_grad(params, x, y))


def test_half_precision_is_added_up_in_float32():
    net = handprop.mlp((1, 1), hidden="identity", output="identity", bias=False, reduction="sum")
    params = (handprop.Layer(jnp.ones((1, 1), jnp.float16), None),)
    x, y = jnp.full((4096, 1), 1.0, jnp.float16), jnp.zeros((4096, 1), jnp.float16)
    assert float(accumulate(net, 1)(params, x, y)[1][0].W[0, 0]) == 4096  # float16 stands still at 2048


def test_labels_and_training():
    net, params, x, _ = network(loss="softmax_cross_entropy", output="softmax")
    labels = np.arange(11) % 2
    within(accumulate(net, 4)(params, x, labels), net.value_and_grad(params, x, labels), 11, 1.0)
    run = handprop.train(accumulate(net, 4), params, (x, labels), optimizer=optax.sgd(0.5), steps=20)
    own = handprop.train(net.value_and_grad, params, (x, labels), optimizer=optax.sgd(0.5), steps=20)
    within(run.params, own.params, 20 * 11, 1.0)


def test_slices_fit_a_quarter_of_the_cache(monkeypatch):
    monkeypatch.setattr(module, "_cache_bytes", lambda: 32 * 2**20)
    assert microbatch_size_for(handprop.mlp((64,) * 10)) == 2048
    assert microbatch_size_for(handprop.mlp((64,) * 10), jnp.float64) == 1024
    assert microbatch_size_for(handprop.mlp((2, 2, 1))) == 8192
    assert microbatch_size_for(handprop.mlp((4096, 4096))) == 1024


def test_what_cannot_be_says_so():
    net, params, x, y = network(loss="softmax_cross_entropy", output="softmax")
    with pytest.raises(ValueError, match="microbatch_size=0 is too small: it must be at least 1"):
        accumulate(net, 0)
    with pytest.raises(ValueError, match=r"y has shape \(9, 2\), but x of shape \(11, 3\)"):
        accumulate(net, 4)(params, x, y[:9])
    with pytest.raises(ValueError, match="y holds labels from 0 to 7, but 2 outputs take labels 0 to 1"):
        accumulate(net, 4)(params, x, np.array([7] + [0] * 10))
    with pytest.raises(TypeError, match="x has dtype float16"):
        accumulate(net, 4)(params, x.astype("float16"), y)
