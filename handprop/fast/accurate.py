"""Derivative factors and errors that do not cancel.

``a (1 - a)`` loses its digits where ``a`` nears 1, and ``a - y`` where it nears its target: in float32 both are 0 from
``z = 16.7``, where the true values are 6e-8, and a unit that is wrong and saturated stops learning. With
``b = 1 - a = sigmoid(-z)`` computed by itself nothing is subtracted that could cancel:

    a = r, b = t r  for z >= 0,  a = t r, b = r  for z < 0,     t = exp(-|z|),  r = 1 / (1 + t)
    sigmoid'(z) = a b,     tanh'(z) = 1 / cosh(z)^2,     a - y = a (1 - y) - b y   for 0 <= y <= 1

Bounds, tested in float32 over all pre-activations for which the result is a normal number, saturated units included,
on the same pre-activations: ``a``, ``b`` and the errors ``a - y`` for a target of 0 or 1 are within 3 ulp of
float64's, the factors of sigmoid and tanh within 6, the delta of a squared error, which holds both, within 8. For a
target between, the error is as near as its two terms allow. Sums over units and patterns have their usual bound. A
softmax output keeps its own error ``a - y``.
"""

import jax
import jax.numpy as jnp
from jax import lax

from handprop.activations import Activation
from handprop.losses import LOSSES, Loss, d_sum_outputs

__all__ = ["ACCURATE_LOSSES", "ACCURATE_SIGMOID", "ACCURATE_TANH", "sigmoid_pair"]

Array = jax.Array


def sigmoid_pair(z: Array) -> tuple[Array, Array]:
    """``sigmoid(z)`` and ``sigmoid(-z)``, both to a few ulp.

    >>> a, b = sigmoid_pair(jnp.float32(20.0))
    >>> float(a), float(b)
    (1.0, 2.06...e-09)
    """
    t = lax.exp(-lax.abs(z))
    r = 1 / (1 + t)
    return jnp.where(z >= 0, r, t * r), jnp.where(z >= 0, t * r, r)


def _sigmoid(z: Array) -> tuple[Array, tuple[Array, Array]]:
    a, b = sigmoid_pair(z)
    return a, (a, b)


def _d_sigmoid(da: Array, residual: tuple[Array, Array]) -> Array:
    """``dz = da a b``."""
    a, b = residual
    return da * (a * b)


def _tanh(z: Array) -> tuple[Array, Array]:
    return lax.tanh(z), z


def _d_tanh(da: Array, z: Array) -> Array:
    """``dz = da / cosh(z)^2``, which is ``da (1 - tanh(z)^2)``: ``1/cosh(z) = 2u / (1 + u^2)``, ``u = exp(-|z|)``."""
    u = lax.exp(-lax.abs(z))
    c = 2 * u / (1 + u * u)
    return da * (c * c)


ACCURATE_SIGMOID = Activation(_sigmoid, _d_sigmoid)
ACCURATE_TANH = Activation(_tanh, _d_tanh)


def _error(z: Array, y: Array) -> Array:
    """``a - y``."""
    a, b = sigmoid_pair(z)
    return a * (1 - y) - b * y


def _d_binary_cross_entropy(g: Array, z: Array, y: Array) -> Array:
    """``dE/dz_nk = g_n (a_nk - y_nk)``."""
    return d_sum_outputs(g, z) * _error(z, y)


def _squared_error(name: str) -> Loss:
    """A squared error as a function of the logits: ``dE/dz_nk = s g_n (a_nk - y_nk) a_nk b_nk``, s = 1 or 2/O.

    The root is that of the Gauss-Newton matrix of the same error as a function of the activations.
    """
    exact = LOSSES[name]

    def value(z: Array, y: Array) -> Array:
        return exact.value(_error(z, y), lax.full_like(y, 0))

    def d_value(g: Array, z: Array, y: Array) -> Array:
        a, b = sigmoid_pair(z)
        return exact.d_value(g, _error(z, y), lax.full_like(y, 0)) * (a * b)

    def root(z: Array) -> Array:
        a, b = sigmoid_pair(z)
        return exact.root(a) * (a * b)[None]

    return Loss(value, d_value, root, on="logit", outputs=("sigmoid",))


ACCURATE_LOSSES = {
    ("sigmoid", "half_squared_error"): _squared_error("half_squared_error"),
    ("sigmoid", "mean_squared_error"): _squared_error("mean_squared_error"),
    ("sigmoid", "binary_cross_entropy"): LOSSES["binary_cross_entropy"]._replace(d_value=_d_binary_cross_entropy),
    ("identity", "binary_cross_entropy"): LOSSES["binary_cross_entropy"]._replace(d_value=_d_binary_cross_entropy),
}
"""By output activation and loss; others keep the exact loss."""
