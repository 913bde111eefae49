"""The accurate form keeps the digits that ``a (1 - a)`` and ``a - y`` lose, and is the exact function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.nn.activations import Activation, d_sigmoid, sigmoid
from handprop.nn.forms.accurate import ACCURATE_LOSSES, ACCURATE_SIGMOID, ACCURATE_TANH, sigmoid_pair

RNG = np.random.default_rng(0)
Z = np.concatenate([np.linspace(-88, 88, 200_003), 3 * RNG.normal(size=100_000)]).astype(np.float32)  # 33 * 9091


def wide_sigmoid(z):
    """In float64, without a subtraction."""
    t = np.exp(-abs(z.astype(np.float64)))
    return np.where(z >= 0, 1, t) / (1 + t)


def ulps(got, want):
    """The largest distance, in units of the last place of what is a normal float32."""
    normal = abs(want) >= np.finfo(np.float32).tiny
    distance = abs(np.asarray(got, np.float64) - want) / np.spacing(abs(want).astype(np.float32)).astype(np.float64)
    return distance[normal].max()


# What is compiled is rewritten, and fused, in a different way in each: the bounds hold in all.
WAYS = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: lambda z: jax.vmap(f)(z[:, None])[:, 0],
    "loop": lambda f: lambda z: jax.lax.map(f, z[:, None].reshape(-1, 9091, 1)).reshape(-1),
}


def factor(activation, way="jit"):
    return WAYS[way](lambda z: activation.d_f(jnp.ones_like(z), activation.f(z)[1]))(Z)


def delta(loss, y, way="jit"):
    def d_value(z):
        column = z.reshape(-1, 1)
        d = ACCURATE_LOSSES["sigmoid", loss].d_value(jnp.ones(z.size), column, jnp.full_like(column, y))
        return d.reshape(z.shape)

    return WAYS[way](d_value)(Z)


def test_both_sigmoids_keep_their_bound():
    a, b = jax.jit(sigmoid_pair)(Z)
    assert ulps(a, wide_sigmoid(Z)) <= 3 and ulps(b, wide_sigmoid(-Z)) <= 3


@pytest.mark.parametrize("way", WAYS)
def test_the_factors_keep_their_bound(way):
    assert ulps(factor(ACCURATE_SIGMOID, way), wide_sigmoid(Z) * wide_sigmoid(-Z)) <= 3
    assert ulps(factor(ACCURATE_TANH, way), np.cosh(Z.astype(float)) ** -2) <= 3


def test_the_exact_form_loses_every_digit():
    assert ulps(factor(Activation(sigmoid, d_sigmoid)), wide_sigmoid(Z) * wide_sigmoid(-Z)) > 1e6


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("y", [0, 1])
@pytest.mark.parametrize(("loss", "bound"), [("half_squared_error", 4), ("binary_cross_entropy", 3)])
def test_the_output_delta_keeps_its_bound(loss, bound, y, way):
    a, b = wide_sigmoid(Z), wide_sigmoid(-Z)
    error = -b if y else a
    assert ulps(delta(loss, y, way), error * (a * b if loss == "half_squared_error" else 1)) <= bound


@pytest.mark.parametrize("y", [0, 1])
def test_what_is_not_finite_stays_as_it_is(y):
    ends, nan = jnp.float32([-jnp.inf, jnp.inf, -1e30, 1e30]), jnp.full((1, 1), jnp.nan)
    d_value = ACCURATE_LOSSES["sigmoid", "half_squared_error"].d_value
    for activation in (ACCURATE_SIGMOID, ACCURATE_TANH):
        assert not activation.d_f(jnp.float32(1), activation.f(ends)[1]).any()
        assert jnp.isnan(activation.d_f(jnp.float32(1), activation.f(nan)[1]))
    assert not d_value(jnp.ones(4), ends[:, None], jnp.full((4, 1), y, jnp.float32)).any()
    assert jnp.isnan(d_value(jnp.ones(1), nan, jnp.full((1, 1), y, jnp.float32)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("activation", [ACCURATE_SIGMOID, ACCURATE_TANH])
def test_half_precisions_are_rounded_once(activation, dtype):
    z = jnp.asarray(np.linspace(-4, 4, 1001), dtype)
    got = activation.d_f(jnp.ones_like(z), activation.f(z)[1])
    wide = z.astype(jnp.float32)
    want = activation.d_f(jnp.ones_like(wide), activation.f(wide)[1])
    assert got.dtype == dtype and (got == want.astype(dtype)).all()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("hidden", "output", "loss"),
    [
        ("sigmoid", "sigmoid", "half_squared_error"),
        ("tanh", "sigmoid", "mean_squared_error"),
        ("sigmoid", "sigmoid", "binary_cross_entropy"),
        ("tanh", "identity", "half_squared_error"),
    ],
)
def test_it_is_the_exact_function(hidden, output, loss):
    exact, accurate = (
        handprop.mlp((3, 5, 2), hidden=hidden, output=output, loss=loss, form=form) for form in ("exact", "accurate")
    )
    args = exact.init(jax.random.key(0)), *(jnp.asarray(RNG.uniform(size=s), jnp.float32) for s in ((7, 3), (7, 2)))
    report = handprop.equivalent(accurate.value_and_grad, exact.value_and_grad, *args, budget=60)
    assert report.verdict is handprop.Verdict.PROVED, str(report)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("loss", ["half_squared_error", "mean_squared_error", "binary_cross_entropy"])
def test_gradients_have_the_dtype_of_the_parameters(loss, dtype):
    exact, accurate = (handprop.mlp((3, 4, 2), loss=loss, form=form) for form in ("exact", "accurate"))
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("strict"):
        params = exact.init(jax.random.key(0), dtype)
        x, y = (jnp.asarray(RNG.uniform(size=size), dtype) for size in ((5, 3), (5, 2)))
        both = (jax.tree.leaves(net.value_and_grad(params, x, y)) for net in (accurate, exact))
        for got, want in zip(*both, strict=True):
            assert got.dtype == want.dtype == dtype
            wide, eps = (np.asarray(leaf).astype(np.float64) for leaf in (got, want)), float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(*wide, rtol=8 * eps, atol=eps)


def test_a_saturated_unit_that_is_wrong_still_learns():
    exact, accurate = (handprop.mlp((1, 1), bias=False, form=form) for form in ("exact", "accurate"))
    params = (handprop.Layer(jnp.float32([[20.0]]), None),)
    x, y = jnp.ones((1, 1)), jnp.ones((1, 1))
    b = wide_sigmoid(np.float32(-20))
    assert float(jax.grad(exact.loss)(params, x, y)[0].W[0, 0]) == 0
    np.testing.assert_allclose(accurate.value_and_grad(params, x, y)[1][0].W, [[-b * b * (1 - b)]], rtol=1e-6)


@pytest.mark.parametrize("quantity", ["per_example_norms", "gauss_newton_diagonal"])
def test_quantities_are_those_of_the_exact_form(quantity):
    exact, accurate = (handprop.mlp((3, 4, 2), form=form) for form in ("exact", "accurate"))
    params = exact.init(jax.random.key(0))
    args = params, jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32), jnp.asarray(RNG.uniform(size=(5, 2)), jnp.float32)
    both = (jax.tree.leaves(getattr(handprop, quantity)(net, *args)) for net in (accurate, exact))
    for got, want in zip(*both, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
