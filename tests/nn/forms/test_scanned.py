"""Equal layers in a loop: the bits of the layers one by one, and less that is kept."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import paths_that_differ
from jax import lax

import handprop
from handprop import stack_equal_layers, unstack_equal_layers
from handprop.nn.activations import ACTIVATIONS
from handprop.nn.forms.scanned import longest_run, stacked, unstacked
from handprop.training import checkpoint

SIZES = ((5, 7, 7, 7, 7, 7, 3), (6, 6, 6, 6), (4, 4, 4, 4, 4, 2), (3, 5, 5, 5, 4, 2))
CASES = [
    (sizes, hidden, *turn)
    for (sizes, hidden), turn in zip(
        itertools.product(SIZES, [name for name in ACTIVATIONS if ACTIVATIONS[name].from_a]),
        itertools.cycle(
            [
                ("float32", None, True),
                ("float64", 1, True),
                ("float32", 2, False),
                ("bfloat16", 3, True),
                ("float64", None, False),
                ("float32", 99, False),
            ]
        ),
    )
]


def drawn(net: handprop.MLP, dtype: str, examples: int = 9):
    rng = np.random.default_rng(0)
    first, last = net.spec.sizes[0], net.spec.sizes[-1]
    x, y = rng.normal(size=(examples, first)), rng.uniform(size=(examples, last))
    return net.init(jax.random.key(1), dtype), jnp.asarray(x, dtype), jnp.asarray(y, dtype)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("sizes", "hidden", "dtype", "segments", "bias"), CASES)
def test_same_bits_as_the_layers_one_by_one(sizes, hidden, dtype, segments, bias):
    reduction = "sum" if segments == 2 else "mean"
    loop = handprop.mlp(sizes, hidden=hidden, reduction=reduction, bias=bias, form="scan", remat_segments=segments)
    exact = handprop.mlp(sizes, hidden=hidden, reduction=reduction, bias=bias)
    with jax.enable_x64(dtype == "float64"):
        params, x, y = drawn(exact, dtype)
        value, grads = jax.jit(exact.value_and_grad)(params, x, y)
        a = jax.jit(exact.apply)(params, x)
        for layout in (tuple, stack_equal_layers):
            wanted = value, layout(grads)
            assert not paths_that_differ(jax.jit(loop.value_and_grad)(layout(params), x, y), wanted)
            assert not paths_that_differ(jax.jit(loop.apply)(layout(params), x), a)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_run_of_a_stack_has_the_bits_of_the_run_of_its_layers(batch_size):
    net = handprop.mlp((5, 7, 7, 7, 3), form="scan", remat_segments=2)
    params, x, y = drawn(net, "float32")

    def trained(params):
        how = {"optimizer": optax.sgd(0.5), "steps": 30, "batch_size": batch_size, "key": jax.random.key(3)}
        return handprop.train(net.value_and_grad, params, (x, y), record_every=10, **how)

    stack, layers = trained(stack_equal_layers(params)), trained(params)
    assert not paths_that_differ(unstack_equal_layers(stack.params), layers.params)
    assert not paths_that_differ(stack.history, layers.history)


def test_adam_rounds_a_stack_in_its_own_way():
    net = handprop.mlp((5, 7, 7, 7, 3), form="scan")
    params, x, y = drawn(net, "float32")

    def trained(params):
        return handprop.train(net.value_and_grad, params, (x, y), optimizer=optax.adam(0.01), steps=20).params

    pairs = jax.tree.leaves(unstack_equal_layers(trained(stack_equal_layers(params)))), jax.tree.leaves(trained(params))
    for leaf, other in zip(*pairs, strict=True):
        np.testing.assert_allclose(leaf, other, atol=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("sizes", [(6, 6, 6, 6), (3, 5, 5, 5, 2)])
@pytest.mark.parametrize("on_host", [True, False])
def test_a_stack_may_be_accumulated(sizes, on_host):
    net = handprop.mlp(sizes, form="scan")
    params, x, y = drawn(net, "float32")
    x, y = (np.asarray(x), np.asarray(y)) if on_host else (x, y)
    in_slices = handprop.accumulate(net, microbatch_size=4)
    value, grads = in_slices(stack_equal_layers(params), x, y)
    assert not paths_that_differ((value, unstack_equal_layers(grads)), in_slices(params, x, y))


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("segments", "layout"), [(None, tuple), (2, tuple), (2, stack_equal_layers)])
def test_is_proved_to_be_autodiff_of_the_exact_loss(segments, layout):
    loop = handprop.mlp((2, 3, 3, 3, 3, 1), form="scan", remat_segments=segments)
    exact = handprop.mlp((2, 3, 3, 3, 3, 1))
    params, x, y = drawn(exact, "float32", 2)

    def loss(params, x, y):
        return exact.loss(unstack_equal_layers(params), x, y)

    report = handprop.verify_gradient(loop.value_and_grad, loss, layout(params), x, y)
    assert report.verdict is handprop.Verdict.PROVED


def test_softmax_cross_entropy_and_backprop():
    loop = handprop.mlp((4, 4, 4, 3), output="softmax", loss="softmax_cross_entropy", form="scan")
    params, x, y = drawn(loop, "float32")
    exact = handprop.mlp((4, 4, 4, 3), output="softmax", loss="softmax_cross_entropy")
    assert not paths_that_differ(loop.value_and_grad(params, x, y), exact.value_and_grad(params, x, y))
    assert not paths_that_differ(loop.loss(stack_equal_layers(params), x, y), exact.loss(params, x, y))
    assert len(loop.backprop(params, x, y).activations) == 4


def temporaries(f, *args) -> int:
    return jax.jit(f).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_keeps_one_array_a_layer_and_fewer_in_segments():
    net = handprop.mlp((64,) * 25, form="scan")
    args = drawn(net, "float32", 4096)
    array = 4096 * 64 * 4
    autodiff, whole = temporaries(jax.value_and_grad(net.loss), *args), temporaries(net.value_and_grad, *args)
    in_segments = temporaries(handprop.mlp((64,) * 25, form="scan", remat_segments=5).value_and_grad, *args)
    assert autodiff > 46 * array  # two a layer
    assert whole < 28 * array
    assert in_segments < 15 * array


def natural_loss(params, x, y):
    """Of a stack and an output layer, as anyone would write it."""
    run, output = params
    a, _ = lax.scan(lambda a, layer: (jax.nn.sigmoid(a @ layer.W + layer.b[None]), None), x, run)
    a = jax.nn.sigmoid(a @ output.W + output.b[None])
    return jnp.mean(0.5 * jnp.sum((a - y) ** 2, axis=1))


def test_a_stack_needs_little_more_than_half_of_what_autodiff_of_the_loop_needs():
    net = handprop.mlp((64,) * 17, form="scan")
    params, x, y = drawn(net, "float32", 4096)
    by_hand, autodiff = (
        jax.jit(f).lower(stack_equal_layers(params), x, y).compile()
        for f in (net.value_and_grad, jax.value_and_grad(natural_loss))
    )
    kept, theirs = (f.memory_analysis() for f in (by_hand, autodiff))
    assert kept.temp_size_in_bytes < 0.54 * theirs.temp_size_in_bytes
    assert kept.output_size_in_bytes == theirs.output_size_in_bytes
    assert by_hand.cost_analysis()["flops"] == pytest.approx(autodiff.cost_analysis()["flops"], rel=0.002)


@pytest.mark.parametrize(
    ("sizes", "run"),
    [((3, 4, 1), (0, 0)), ((4, 4), (0, 0)), ((4, 4, 4), (0, 1)), ((784, 256, 256, 256, 10), (1, 3)),
     ((2, 2, 3, 3, 3, 3), (2, 4)), ((5, 5, 5, 6, 6, 6, 1), (0, 2))],
)  # fmt: skip
def test_the_longest_run_is_of_hidden_layers(sizes, run):
    assert longest_run(sizes) == run


def test_unstacked_is_the_inverse_of_stacked():
    layers = tuple(handprop.Layer(jnp.full((2, 2), i), None) for i in range(3))
    assert not paths_that_differ(unstacked(stacked(layers)), layers)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_layers_come_back_from_a_stack(sizes, bias):
    params = handprop.mlp(sizes, bias=bias).init(jax.random.key(0))
    stack = stack_equal_layers(params)
    assert len(stack) < len(params) and sum(layer.W.ndim == 3 for layer in stack) == 1
    assert not paths_that_differ(unstack_equal_layers(stack), params)
    assert not paths_that_differ(unstack_equal_layers(params), params)


def test_what_cannot_be_stacked_says_so():
    params = handprop.mlp((3, 5, 5, 5, 2)).init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"weights of shapes \[\(3, 4\), \(4, 1\)\], without two equal hidden layers"):
        stack_equal_layers(handprop.mlp((3, 4, 1)).init(jax.random.key(0)))
    with pytest.raises(ValueError, match=r"shapes \[\(3, 5\), \(2, 5, 5\), \(5, 2\)\], but stacking needs shapes"):
        stack_equal_layers(stack_equal_layers(params))
    mixed = (*params[:2], handprop.Layer(params[2].W, None), params[3])
    sentence = r"^params\[2\] has W .*, b None, but stacking it with params\[1\] needs W .*, b float32\[5\].$"
    with pytest.raises(ValueError, match=sentence):
        stack_equal_layers(mixed)


def a_stack(n: int = 3, width: int = 5, biases: tuple[int, ...] | None = (3, 5)):
    net = handprop.mlp((2, 5, 5, 5, 5, 1), form="scan")
    params = stack_equal_layers(net.init(jax.random.key(0)))
    run = handprop.Layer(jnp.ones((n, width, width)), None if biases is None else jnp.ones(biases))
    return net, (params[0], run, params[2]), jnp.ones((4, 2)), jnp.ones((4, 1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"n": 2}, r"params\[1\].W has shape \(2, 5, 5\), but sizes .* with params\[1:4\] stacked needs \(3, 5, 5\)."),
        ({"width": 4}, r"params\[1\].W has shape \(3, 4, 4\), but sizes .* stacked needs \(3, 5, 5\)."),
        ({"biases": (5,)}, r"params\[1\].b has shape \(5,\), but sizes .* stacked needs \(3, 5\)."),
        ({"biases": None}, r"params\[1\].b is None, but a network with bias=True needs an array."),
    ],
)
def test_a_stack_of_another_shape_says_so(wrong, sentence):
    net, params, x, y = a_stack(**wrong)
    for call in (partial(net.apply, params, x), partial(net.loss, params, x, y),
                 partial(net.value_and_grad, params, x, y)):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            call()


def test_the_number_of_layers_may_be_one_of_two():
    net, params, x, _ = a_stack()
    with pytest.raises(
        ValueError, match=r"^params is 2 layers, but sizes .* need a tuple of 5 .* or of 3 with params\[1:4\]"
    ):
        net.apply(params[:2], x)


def test_what_takes_no_stack_says_so(tmp_path):
    net, params, x, y = a_stack()
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf], axis=-1), params)
    ensemble = handprop.ensemble(net, 2)
    refused = (
        r"^params\[1\].W of shape \(3, 5, 5\) is a stack of layers, .* give handprop.unstack_equal_layers\(params\).$"
    )
    for call in (
        partial(net.backprop, params, x, y),
        partial(handprop.mlp((2, 5, 5, 5, 5, 1)).value_and_grad, params, x, y),
        partial(handprop.per_example_norms, net, params, x, y),
        partial(handprop.gauss_newton_diagonal, net, params, x, y),
        partial(ensemble.value_and_grad, members, x, y),
        partial(ensemble.train, members, (x, y), learning_rates=0.1, steps=1),
    ):
        with pytest.raises(ValueError, match=refused):
            call()
    with pytest.raises(checkpoint.CheckpointError, match=r"handprop\.unstack_equal_layers converts a stack"):
        checkpoint.save(tmp_path / "deep.npz", params, {})


def test_what_cannot_be_says_so():
    with pytest.raises(ValueError, match=r"form='scan' needs two or more equal hidden layers in a row; got sizes="):
        handprop.mlp((3, 4, 1), form="scan")
    with pytest.raises(ValueError, match="remat_segments=2 needs form='scan', not form='exact'"):
        handprop.mlp((3, 3, 3, 1), remat_segments=2)
    with pytest.raises(ValueError, match="remat_segments=0 is too small"):
        handprop.mlp((3, 3, 3, 1), form="scan", remat_segments=0)
