"""The loop: the bits of a plain Python loop, of a run split in two, and a clean end when something is not finite."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import paths_that_differ

import handprop
from handprop import Status
from handprop.training import loop
from handprop.training.shuffle import permutation

NET = handprop.mlp((4, 6, 2), reduction="mean")
PARAMS = NET.init(jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (23, 4))
Y = jax.random.uniform(jax.random.key(2), (23, 2))
OPTIMIZERS = {
    "sgd": optax.sgd(0.5),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.rmsprop(1e-2)),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.5, 100)),
    "noise": optax.chain(optax.add_noise(0.01, 0.55, jax.random.key(5)), optax.sgd(0.1)),
}


def run(optimizer="sgd", steps=40, value_and_grad=NET.value_and_grad, params=PARAMS, **kwargs):
    return handprop.train(
        value_and_grad, params, (X, Y), optimizer=OPTIMIZERS.get(optimizer, optimizer), steps=steps, **kwargs
    )


def batches(key, steps, batch_size, examples=23):
    """The rows of each step, as the docstring defines them, in plain Python."""
    per_epoch = -(-examples // batch_size)
    for k in range(steps):
        order = permutation(jax.random.fold_in(key, k // per_epoch), examples)
        first = k % per_epoch * batch_size
        yield np.asarray(order)[first : first + batch_size]


@pytest.mark.parametrize("batch_size", [None, 1, 5, 23])
def test_is_the_plain_loop(batch_size):
    key = jax.random.key(7)
    result = run(steps=30, batch_size=batch_size, key=key, record_every=7)
    rows = batches(key, 30, batch_size) if batch_size not in (None, 23) else [np.arange(23)] * 30
    params, values = PARAMS, []
    for batch in rows:
        value, grads = jax.jit(NET.value_and_grad)(params, X[batch], Y[batch])
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
        values.append(value)
    chex.assert_trees_all_close(result.params, params, rtol=2e-5, atol=1e-6)
    assert result.history.step.tolist() == [0, 7, 14, 21, 28, 29]
    np.testing.assert_allclose(result.history.value, np.array(values)[[0, 7, 14, 21, 28, 29]], rtol=1e-5)
    assert result.status is Status.FINISHED and result.step == 30


def test_every_example_once_an_epoch():
    """With a step that counts its examples, short last batch included."""

    def count(params, rows):
        return jnp.zeros(()), -jnp.zeros(23).at[rows].add(1.0)

    result = handprop.train(
        count,
        jnp.zeros(23),
        (jnp.arange(23),),
        optimizer=optax.sgd(1.0),
        steps=15,
        batch_size=5,
        key=jax.random.key(0),
    )
    assert result.params.tolist() == [3.0] * 23


@pytest.mark.thinned(3)
@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_split_run_has_the_same_bits(optimizer, batch_size):
    kwargs = {"batch_size": batch_size, "key": jax.random.key(3), "record_every": 10}
    whole = run(optimizer, 40, **kwargs)
    first = run(optimizer, 17, **kwargs)
    second = run(optimizer, 23, params=first.params, opt_state=first.opt_state, start_step=first.step, **kwargs)
    assert second.step == 40
    data = jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf,
        ((whole.params, whole.opt_state), (second.params, second.opt_state)),
    )
    assert paths_that_differ(*data) == []


def test_callback_changes_nothing_and_keeps_its_params():
    seen = []
    watched = run(steps=35, record_every=10, callback=lambda progress: seen.append(progress))
    assert [progress.step for progress in seen] == [10, 20, 30, 35]
    assert paths_that_differ(watched.params, run(steps=35, record_every=10).params) == []
    assert paths_that_differ(seen[1].params, run(steps=20, record_every=10).params) == []
    assert float(seen[-1].value) == float(watched.history.value[-1])


def test_callback_stops():
    result = run(steps=100, record_every=10, callback=lambda progress: progress.step >= 20)
    assert result.status is Status.STOPPED and result.step == 20
    assert result.history.step.tolist() == [0, 10, 19]


def test_one_compile():
    counted = chex.assert_max_traces(NET.value_and_grad, n=6)  # steps, values and the values' dtype, each of two sizes
    run(
        steps=57,
        value_and_grad=counted,
        batch_size=5,
        key=jax.random.key(0),
        record_every=10,
        callback=lambda p: None,
    )


def test_equal_networks_are_compiled_once():
    def made():
        return handprop.mlp((4, 5, 2), loss="mean_squared_error", form="auto")

    run(value_and_grad=made().value_and_grad, params=made().init(jax.random.key(0)))
    before = loop._run_blocks._cache_size()
    run(value_and_grad=made().value_and_grad, params=made().init(jax.random.key(1)))
    assert loop._run_blocks._cache_size() == before
    assert repr(made()) == "<MLP 4-5-2, form auto>" and "(N, I)" in made().value_and_grad.__doc__


def test_arguments_outlive_the_run():
    state = OPTIMIZERS["adam"].init(PARAMS)
    run("adam", opt_state=state)
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves((PARAMS, state, X, Y)))


def poisoned(where):
    """NET's gradient with a NaN in one place from step 12 on, told by a step counter in the parameters."""

    def value_and_grad(params, x, y):
        net_params, count = params
        value, grads = NET.value_and_grad(net_params, x, y)
        bad = jnp.where(count >= 12, jnp.nan, 0.0)
        if where == "loss":
            value = value + bad
        else:
            grads = (grads[0], grads[1]._replace(W=grads[1].W + bad))
        return value, (grads, jnp.array(-1.0))

    return value_and_grad


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize(
    ("where", "detail"),
    [("loss", "non-finite loss at step 12"), ("gradient", "non-finite gradient at step 12 in grads[0][1].W")],
)
def test_non_finite_stops_at_the_last_finite_state(where, detail, batch_size):
    kwargs = {
        "optimizer": optax.sgd(1.0),
        "value_and_grad": poisoned(where),
        "params": (PARAMS, jnp.array(0.0)),
        "batch_size": batch_size,
        "key": jax.random.key(0),
        "record_every": 5,
    }
    result = run(steps=100, **kwargs)
    assert (result.status, result.step, result.detail) == (Status.NON_FINITE, 12, detail)
    assert paths_that_differ(result.params, run(steps=12, **kwargs).params) == []
    assert result.history.step.tolist() == [0, 5, 10, 11]
    assert np.isfinite(result.history.value).all()


def test_a_gradient_that_the_optimizer_keeps_out_ends_nothing():
    optimizer = optax.apply_if_finite(optax.sgd(1.0), max_consecutive_errors=1000)
    result = run(optimizer, 30, poisoned("gradient"), (PARAMS, jnp.array(0.0)), record_every=7)
    assert result.status is Status.FINISHED and int(result.opt_state.total_notfinite) > 0


@pytest.mark.parametrize("record_every", [1, 3, 100])
def test_what_is_recorded_does_not_change_the_run(record_every):
    whole, other = run(steps=50, record_every=50), run(steps=50, record_every=record_every)
    assert paths_that_differ(whole.params, other.params) == []
    assert float(whole.history.value[-1]) == float(other.history.value[-1])


def test_overflowing_update_is_not_taken():
    result = run(optax.sgd(1e38), value_and_grad=lambda p, x, y: (jnp.sum(p), p * 0 + 1e3), params=jnp.ones(3))
    assert (result.status, result.step) == (Status.NON_FINITE, 0)
    assert "update" in result.detail and result.params.tolist() == [1.0] * 3
    assert result.history.step.shape == (0,)


def test_no_steps():
    result = run(steps=0)
    assert result.status is Status.FINISHED and result.step == 0 and result.history.value.shape == (0,)
    assert paths_that_differ(result.params, PARAMS) == []


def test_learns_xor():
    net = handprop.mlp((2, 8, 1), init="uniform", reduction="sum")
    x = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = jnp.array([[0.0], [1], [1], [0]])
    params = net.init(jax.random.key(0))
    result = handprop.train(net.value_and_grad, params, (x, y), optimizer=optax.sgd(1.0), steps=5000)
    assert jnp.abs(net.apply(result.params, x) - y).max() < 0.1


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"steps": -1}, "steps=-1 is too small"),
        ({"record_every": 0}, "record_every=0 is too small"),
        ({"batch_size": 0}, "batch_size=0 is too small"),
        ({"start_step": -1}, "start_step=-1 is too small"),
        ({"batch_size": 5}, r"batch_size=5 of 23 examples needs key="),
        ({"start_step": 2**31}, "too large"),
    ],
)
def test_runs_that_cannot_be(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(**kwargs)


def test_data_that_cannot_be():
    for data in ((X, Y[:5]), (), (jnp.array(1.0),)):
        with pytest.raises(ValueError, match="must share a leading axis"):
            handprop.train(NET.value_and_grad, PARAMS, data, optimizer=optax.sgd(1.0), steps=1)
    with pytest.raises(ValueError, match="at least one example"):
        handprop.train(NET.value_and_grad, PARAMS, (X[:0], Y[:0]), optimizer=optax.sgd(1.0), steps=1)
