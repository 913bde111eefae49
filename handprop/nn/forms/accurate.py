"""Derivative factors and errors without cancellation.

``a (1 - a)`` loses its digits as ``a`` approaches 1, and ``a - y`` as ``a`` approaches its target. In float32 both are
0 from ``z = 16.7`` on, where the true values are 6e-8, and a unit that is wrong and saturated stops learning. If
``b = 1 - a = sigmoid(-z)`` is computed directly, no subtraction is left that could cancel:

    a = 1/D, b = t/D  for z >= 0,  a = t/D, b = 1/D  for z < 0,     t = exp(-|z|),  D = 1 + t
    sigmoid'(z) = a b = t / D^2,     tanh'(z) = 1 / cosh(z)^2 = 4 t^2 / (1 + t^2)^2
    a - y = a (1 - y) - b y  for 0 <= y <= 1,  and D^3 a b times that, for a squared error's delta n / D^3:
    n = t (1 - y) - t^2 y  for z >= 0,  n = t^2 (1 - y) - t y  for z < 0

The error of ``exp``, 1 ulp on CPUs, cannot be avoided, and only few roundings follow it. One division serves all
factors together. ``t^2`` is computed by an exponential of its own, because the product ``t t`` would have the error of
t twice. Powers of D are expanded, because the rounding of D would count twice in its square. In ``1 + t (2 + t)``, all
roundings but the last are of numbers that are small compared with 1, or else are of order t where an error of t itself
cancels out of ``t / D^2``.

Bounds, tested in float32 on CPUs against float64 on the same pre-activations, wherever the result is a normal number,
saturated units included: ``a``, ``b``, the errors ``a - y`` for a target of 0 or 1, and the factors of sigmoid and tanh
are within 3 ulp; the delta of a squared error for such a target is within 4 ulp. For a target between 0 and 1, the
error is as accurate as its two terms allow. Sums over units and examples have their usual bound. A softmax output keeps
the exact form's error. Half precisions are computed in float32 and rounded once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from handprop.nn.activations import Activation
from handprop.nn.losses import LOSSES, Loss, accumulator, d_sum_outputs

__all__ = ["ACCURATE_LOSSES", "ACCURATE_SIGMOID", "ACCURATE_TANH", "sigmoid_pair"]

Array = jax.Array


def sigmoid_pair(z: Array) -> tuple[Array, Array]:
    """Return ``sigmoid(z)`` and ``sigmoid(-z)``, both accurate to a few ulp.

    >>> a, b = sigmoid_pair(jnp.float32(20.0))
    >>> float(a), float(b)
    (1.0, 2.06...e-09)
    """
    return _pair(z, _exponential(z))


def _pair(z: Array, t: Array) -> tuple[Array, Array]:
    """Return the same, given ``t = exp(-|z|)``."""
    r = 1 / (1 + t)
    a, b = jnp.where(z >= 0, r, t * r), jnp.where(z >= 0, t * r, r)
    return lax.convert_element_type(a, z.dtype), lax.convert_element_type(b, z.dtype)


def _exponential(z: Array, times: int = 1) -> Array:
    """``t^times = exp(-times |z|)``, in float32 for half precisions."""
    return lax.exp(-times * lax.abs(lax.convert_element_type(z, accumulator(z.dtype))))


def _square(t: Array) -> Array:
    """``D^2 = (1 + t)^2``."""
    return 1 + t * (2 + t)


def _cube(t: Array) -> Array:
    """``D^3 = (1 + t)^3``."""
    return 1 + t * (3 + t * (3 + t))


def _times(da: Array, factor: Array) -> Array:
    """The product, rounded once to the dtype of ``da``."""
    return lax.convert_element_type(lax.convert_element_type(da, factor.dtype) * factor, da.dtype)


def _sigmoid(z: Array) -> tuple[Array, Array]:
    t = _exponential(z)
    return _pair(z, t)[0], t


def _d_sigmoid(da: Array, t: Array) -> Array:
    """``dz = da a b = da t / (1 + t)^2``."""
    return _times(da, t / _square(t))


def _tanh(z: Array) -> tuple[Array, Array]:
    return lax.tanh(z), z


def _d_tanh(da: Array, z: Array) -> Array:
    """``dz = da / cosh(z)^2``, which is ``da (1 - tanh(z)^2)``."""
    t, tt = _exponential(z), _exponential(z, 2)
    lowest = tt < 16 * float(jnp.finfo(t.dtype).tiny)  # here t^2 may be subnormal while 4 t^2 is still normal
    return _times(da, jnp.where(lowest, (2 * t) * (2 * t), 4 * tt) / _square(tt))


ACCURATE_SIGMOID = Activation(_sigmoid, _d_sigmoid, from_a=False)
ACCURATE_TANH = Activation(_tanh, _d_tanh, from_a=False)


def _error(z: Array, y: Array) -> Array:
    """``a - y``."""
    a, b = sigmoid_pair(z)
    return a * (1 - y) - b * y


def _d_binary_cross_entropy(g: Array, z: Array, y: Array) -> Array:
    """``dE/dz_nk = g_n (a_nk - y_nk)``."""
    return d_sum_outputs(g, z) * _error(z, y)


def _squared_error(name: str) -> Loss:
    """A squared error as a function of the logits: ``dE/dz_nk = s g_n (a_nk - y_nk) a_nk b_nk``, s = 1 or 2/O.

    The root is the one of the Gauss-Newton matrix of the same error as a function of the activations.
    """
    exact = LOSSES[name]

    def value(z: Array, y: Array) -> Array:
        return exact.value(_error(z, y), lax.full_like(y, 0))

    def d_value(g: Array, z: Array, y: Array) -> Array:
        t, tt = _exponential(z), _exponential(z, 2)
        wide = lax.convert_element_type(y, t.dtype)
        n = jnp.where(z >= 0, t * (1 - wide) - tt * wide, tt * (1 - wide) - t * wide)
        slope = lax.convert_element_type(n / _cube(t), z.dtype)
        return exact.d_value(g, slope, lax.full_like(y, 0))

    def root(z: Array) -> Array:
        t = _exponential(z)
        return _times(exact.root(z), (t / _square(t))[None])

    return Loss(value, d_value, root, on="logit", outputs=("sigmoid",))


ACCURATE_LOSSES = {
    ("sigmoid", "half_squared_error"): _squared_error("half_squared_error"),
    ("sigmoid", "mean_squared_error"): _squared_error("mean_squared_error"),
    ("sigmoid", "binary_cross_entropy"): LOSSES["binary_cross_entropy"]._replace(d_value=_d_binary_cross_entropy),
    ("identity", "binary_cross_entropy"): LOSSES["binary_cross_entropy"]._replace(d_value=_d_binary_cross_entropy),
}
"""The losses of this form by output activation and loss name. Other pairs keep the exact loss."""
