"""Each activation and loss beside its textbook formula in NumPy float64, and the kinks."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.nn import mlp
from handprop.nn.activations import ACTIVATIONS
from handprop.nn.losses import LOSSES

Z = np.random.default_rng(0).normal(size=(5, 4)) * 3
DA = np.random.default_rng(1).normal(size=(5, 4))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


TEXTBOOK = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
    "softmax": softmax,
}


def jacobian_transposed(f, da, z, h=1e-6):
    """``sum_k da_k df_k/dz_i`` by central differences."""
    columns = []
    for i in range(z.shape[1]):
        e = np.zeros(z.shape[1])
        e[i] = h
        columns.append(((f(z + e) - f(z - e)) / (2 * h) * da).sum(1))
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_derivative(name):
    with jax.enable_x64(True):
        a, residual = ACTIVATIONS[name].f(jnp.asarray(Z))
        dz = ACTIVATIONS[name].d_f(jnp.asarray(DA), residual)
    np.testing.assert_allclose(a, TEXTBOOK[name](Z), rtol=1e-14)
    np.testing.assert_allclose(dz, jacobian_transposed(TEXTBOOK[name], DA, Z), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if ACTIVATIONS[name].from_a])
def test_a_derivative_from_a_is_the_derivative(name):
    """Form "scan" keeps nothing else."""
    a, residual = ACTIVATIONS[name].f(jnp.asarray(Z, jnp.float32))
    da = jnp.asarray(DA, jnp.float32)
    same = (ACTIVATIONS[name].d_f(da, a) == ACTIVATIONS[name].d_f(da, residual)).all()
    assert same, f"d_{name}(da, a) has other bits than d_{name}(da, residual): give Activation(..., from_a=False)"


def test_scan_refuses_a_derivative_that_needs_more_than_a(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", ACTIVATIONS["tanh"]._replace(from_a=False))
    with pytest.raises(ValueError, match=r"form='scan' needs a derivative .* from a alone; hidden='tanh' has none\."):
        handprop.mlp((2, 3, 3, 3, 1), hidden="tanh", form="scan")


def test_every_activation_has_a_textbook_formula():
    assert set(TEXTBOOK) == set(ACTIVATIONS)


def test_the_names_of_the_types_are_those_of_the_table():
    assert set(get_args(mlp.OutputName)) == set(ACTIVATIONS)
    assert set(get_args(mlp.HiddenName)) == set(ACTIVATIONS) - {"softmax"}
    assert set(get_args(mlp.LossName)) == set(LOSSES)


def test_kink_and_saturation():
    _, residual = ACTIVATIONS["relu"].f(jnp.array([[0.0, -0.0]]))
    assert ACTIVATIONS["relu"].d_f(jnp.ones((1, 2)), residual).tolist() == [[0.0, 0.0]]
    assert jnp.isnan(ACTIVATIONS["relu"].f(jnp.array([[jnp.nan]]))[0]).all()
    a, _ = ACTIVATIONS["softmax"].f(jnp.array([[1e30, -1e30, 0.0]]))
    assert a.tolist() == [[1.0, 0.0, 0.0]]


P = softmax(np.random.default_rng(2).normal(size=(5, 4)))
LOSS_TEXTBOOK = {
    "half_squared_error": lambda t, y: ((t - y) ** 2).sum(1) / 2,
    "mean_squared_error": lambda t, y: ((t - y) ** 2).mean(1),
    "binary_cross_entropy": lambda z, y: (
        -(y * np.log(1 / (1 + np.exp(-z))) + (1 - y) * np.log(1 / (1 + np.exp(z)))).sum(1)
    ),
    "softmax_cross_entropy": lambda z, y: -(y * np.log(softmax(z))).sum(1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            LOSSES[name].value(jnp.asarray(Z), jnp.asarray(P)), LOSS_TEXTBOOK[name](Z, P), rtol=1e-13
        )


@pytest.mark.parametrize("name", ["binary_cross_entropy", "softmax_cross_entropy"])
def test_logit_losses_at_extreme_logits(name):
    """log(1 + exp(-|z|)) survives: nothing overflows, and a confident right answer keeps its small loss."""
    z = jnp.array([[1e4, -1e4], [20.0, -20.0]])
    y = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    E = np.asarray(LOSSES[name].value(z, y))
    assert E[0] == 0.0
    if name == "binary_cross_entropy":
        np.testing.assert_allclose(E[1], 2 * np.exp(-20.0), rtol=1e-6)
    delta = LOSSES[name].d_value(jnp.ones(2), z, 1 - y)
    assert delta[0].tolist() == [1.0, -1.0]
