"""Activations, each with its derivative directly below it.

A hidden or output unit turns its pre-activation ``z`` into its activation ``a = f(z)``. Backpropagation
needs the way back: given ``da = dE/da`` it asks for ``dz = dE/dz``. By the chain rule

    dz = da * f'(z)                        elementwise activations
    dz_i = sum_k da_k * da_k/dz_i          softmax, where every output depends on every input

Each pair is named ``f`` and ``d_f``. ``f(z)`` returns the activation and its residual, which is what the
derivative will need: for the classic activations, ``a`` itself. ``d_f(da, residual)`` returns ``dz``.
Shapes: N examples, D units; ``z``, ``a``, ``da`` and ``dz`` are all (N, D).

The order of the operations is that of JAX's own derivative rules, so that the results agree bit for
bit: for example ``da * (a * (1 - a))`` and not ``da * a * (1 - a)``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp  # noqa: F401 (the doctests use it)
from jax import lax

from handprop import _compat

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "d_identity",
    "d_relu",
    "d_sigmoid",
    "d_softmax",
    "d_tanh",
    "identity",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]

Array = jax.Array


class Activation(NamedTuple):
    """An activation and its derivative: ``a, residual = f(z)`` and ``dz = d_f(da, residual)``.

    ``from_a`` says whether ``d_f(da, a)`` is the same. Form "scan", which keeps nothing but the activations, refuses
    others.
    """

    f: Callable[[Array], tuple[Array, Any]]
    d_f: Callable[[Array, Any], Array]
    from_a: bool = True


def sigmoid(z: Array) -> tuple[Array, Array]:
    """``a = 1 / (1 + exp(-z))``, the logistic function.

    >>> float(sigmoid(jnp.float32(0.0))[0])
    0.5
    """
    a = lax.logistic(z)
    return a, a


def d_sigmoid(da: Array, a: Array) -> Array:
    """``dz = da * a (1 - a)``.

    With ``a = (1 + e)^-1`` and ``e = exp(-z)``: ``da/dz = (1 + e)^-2 e = a (1 - a)``.
    The factor is 0 once ``a`` rounds to 1, in float32 from ``z = 16.7``: a saturated unit stops learning.

    >>> float(d_sigmoid(jnp.float32(1.0), jnp.float32(0.5)))
    0.25
    """
    return da * (a * (1 - a))


def tanh(z: Array) -> tuple[Array, Array]:
    """``a = tanh(z)``.

    >>> float(tanh(jnp.float32(0.0))[0])
    0.0
    """
    a = lax.tanh(z)
    return a, a


def d_tanh(da: Array, a: Array) -> Array:
    """``dz = da * (1 - a^2)``, since ``tanh' = 1 - tanh^2``.

    >>> float(d_tanh(jnp.float32(2.0), jnp.float32(0.0)))
    2.0
    """
    return _compat.times_one_minus_square(da, a)


def relu(z: Array) -> tuple[Array, Array]:
    """``a = max(z, 0)``.

    >>> relu(jnp.array([-1.0, 0.0, 2.0]))[0].tolist()
    [0.0, 0.0, 2.0]
    """
    return jax.nn.relu(z), z


def d_relu(da: Array, z: Array) -> Array:
    """``dz = da`` where ``z > 0``, else 0. At the kink ``z = 0`` the derivative is taken as 0, as JAX does.

    >>> d_relu(jnp.ones(3), jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    return lax.select(z > 0, da, lax.full_like(da, 0))


def identity(z: Array) -> tuple[Array, None]:
    """``a = z``: a linear unit.

    >>> float(identity(jnp.float32(3.0))[0])
    3.0
    """
    return z, None


def d_identity(da: Array, residual: None) -> Array:
    """``dz = da``.

    >>> float(d_identity(jnp.float32(3.0), None))
    3.0
    """
    del residual
    return da


def softmax(z: Array) -> tuple[Array, tuple[Array, Array]]:
    """``a_k = e_k / s`` with ``e_k = exp(z_k - max z)`` and ``s = sum_j e_j``.

    Subtracting the largest pre-activation changes neither softmax nor its derivative and keeps ``exp`` from
    overflowing; to the derivative it is a constant. The residual is ``(e, s)``, ``s`` repeated to (N, D).

    >>> softmax(jnp.array([[0.0, 0.0]]))[0].tolist()
    [[0.5, 0.5]]
    """
    largest = lax.reduce_max(lax.stop_gradient(z), axes=(1,))
    e = lax.exp(z - lax.broadcast_in_dim(largest, z.shape, (0,)))
    s = lax.broadcast_in_dim(lax.reduce_sum(e, axes=(1,)), z.shape, (0,))
    return e / s, (e, s)


def d_softmax(da: Array, residual: tuple[Array, Array]) -> Array:
    """``dz_i = a_i (da_i - sum_k da_k a_k)``, by the quotient rule on ``a = e / s``.

    Through the numerator ``de_i = da_i / s``; through the denominator ``ds = -sum_k da_k e_k / s^2``,
    which reaches every ``e_i``; and ``dz_i = (de_i + ds) e_i`` since ``exp' = exp``.

    >>> d_softmax(jnp.array([[1.0, 0.0]]), (jnp.ones((1, 2)), jnp.full((1, 2), 2.0))).tolist()
    [[0.25, -0.25]]
    """
    e, s = residual
    ds = lax.reduce_sum(-(da * lax.integer_pow(s, -2) * e), axes=(1,))
    return (da / s + lax.broadcast_in_dim(ds, s.shape, (0,))) * e


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(sigmoid, d_sigmoid),
    "tanh": Activation(tanh, d_tanh),
    "relu": Activation(relu, d_relu),
    "identity": Activation(identity, d_identity),
    "softmax": Activation(softmax, d_softmax, from_a=False),
}
"""Every activation by the name that ``handprop.mlp`` takes. Softmax is for the output layer only."""
