"""Equal layers in a loop: the bits of the layers one by one, and less that is kept."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import paths_that_differ

import handprop
from handprop.fast.equal_layers import longest_run, stacked, unstacked

SIZES = ((5, 7, 7, 7, 7, 7, 3), (6, 6, 6, 6), (4, 4, 4, 4, 4, 2), (3, 5, 5, 5, 4, 2))
CASES = [
    (sizes, hidden, *turn)
    for (sizes, hidden), turn in zip(
        itertools.product(SIZES, ("sigmoid", "tanh", "relu", "identity")),
        itertools.cycle(
            [("float32", None), ("float64", 1), ("float32", 2), ("bfloat16", 3), ("float64", None), ("float32", 99)]
        ),
    )
]


def drawn(net: handprop.MLP, dtype: str, patterns: int = 9):
    rng = np.random.default_rng(0)
    first, last = net.parts.sizes[0], net.parts.sizes[-1]
    x, y = rng.normal(size=(patterns, first)), rng.uniform(size=(patterns, last))
    return net.init(jax.random.key(1), dtype), jnp.asarray(x, dtype), jnp.asarray(y, dtype)


@pytest.mark.parametrize(("sizes", "hidden", "dtype", "segments"), CASES)
def test_same_bits_as_the_layers_one_by_one(sizes, hidden, dtype, segments):
    reduction, bias = ("sum", False) if segments == 2 else ("mean", True)
    loop = handprop.mlp(sizes, hidden, reduction=reduction, bias=bias, form="scan", segments=segments)
    exact = handprop.mlp(sizes, hidden, reduction=reduction, bias=bias)
    with jax.enable_x64(dtype == "float64"):
        args = drawn(exact, dtype)
        assert not paths_that_differ(jax.jit(loop.value_and_grad)(*args), jax.jit(exact.value_and_grad)(*args))
        assert not paths_that_differ(jax.jit(loop.apply)(*args[:2]), jax.jit(exact.apply)(*args[:2]))


@pytest.mark.parametrize("segments", [None, 2])
def test_is_proved_to_be_autodiff_of_the_exact_loss(segments):
    loop = handprop.mlp((2, 3, 3, 3, 3, 1), form="scan", segments=segments)
    exact = handprop.mlp((2, 3, 3, 3, 3, 1))
    report = handprop.verify_gradient(loop.value_and_grad, exact.loss, *drawn(exact, "float32", 2))
    assert report.verdict is handprop.Verdict.PROVED


def test_softmax_cross_entropy_and_backprop():
    loop = handprop.mlp((4, 4, 4, 3), output="softmax", loss="softmax_cross_entropy", form="scan")
    params, x, y = drawn(loop, "float32")
    exact = handprop.mlp((4, 4, 4, 3), output="softmax", loss="softmax_cross_entropy")
    assert not paths_that_differ(loop.value_and_grad(params, x, y), exact.value_and_grad(params, x, y))
    assert len(loop.backprop(params, x, y).activations) == 4


def temporaries(f, *args) -> int:
    return jax.jit(f).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_keeps_one_array_a_layer_and_fewer_in_segments():
    net = handprop.mlp((64,) * 25, form="scan")
    args = drawn(net, "float32", 4096)
    array = 4096 * 64 * 4
    autodiff, whole = temporaries(jax.value_and_grad(net.loss), *args), temporaries(net.value_and_grad, *args)
    in_segments = temporaries(handprop.mlp((64,) * 25, form="scan", segments=5).value_and_grad, *args)
    assert autodiff > 46 * array  # two a layer
    assert whole < 28 * array
    assert in_segments < 15 * array


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


def test_what_cannot_be_says_so():
    with pytest.raises(ValueError, match=r"form='scan' needs two or more equal hidden layers in a row, and sizes="):
        handprop.mlp((3, 4, 1), form="scan")
    with pytest.raises(ValueError, match="segments=2 is for form='scan', not for form='exact'"):
        handprop.mlp((3, 3, 3, 1), segments=2)
    with pytest.raises(ValueError, match="segments=0 is too small"):
        handprop.mlp((3, 3, 3, 1), form="scan", segments=0)
