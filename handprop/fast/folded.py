"""Products as multiplications and sums, for small networks.

``z[n, o] = sum_i a[n, i] W[i, o]`` written as a broadcast product and a sum holds no matrix product, and a loop without
one whose body touches less than a kilobyte a turn is compiled by XLA:CPU into one native kernel: a step of a network of
3-4-1 units then costs tens of nanoseconds, most of a microsecond without. The flag
``--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=...`` in ``XLA_FLAGS``, set before JAX starts,
moves the limit.

Bound: sums run in another order than a matrix product's, nothing else differs, so of an entry that sums k terms the two
differ by at most ``2 k eps`` times the sum of the terms' sizes (Higham, Accuracy and Stability of Numerical Algorithms,
2002, 3.1, for either order).
"""

import jax
from jax import lax

from handprop.activations import Activation, d_sigmoid
from handprop.products import Layer, Products

__all__ = ["FAST_SIGMOID", "FOLDED"]

Array = jax.Array


def _affine(a: Array, layer: Layer) -> Array:
    """``z[n, o] = sum_i a[n, i] W[i, o] + b[o]``: (N, I), (I, O), (O,) to (N, O)."""
    z = _sum(a[:, :, None] * layer.W[None], 1)
    return z if layer.b is None else z + layer.b[None]


def _d_params(a: Array, delta: Array, layer: Layer) -> Layer:
    """``dW[i, o] = sum_n a[n, i] delta[n, o]`` and ``db[o] = sum_n delta[n, o]``: (I, O) and (O,)."""
    return Layer(_sum(a[:, :, None] * delta[:, None, :], 0), None if layer.b is None else _sum(delta, 0))


def _d_input(delta: Array, layer: Layer) -> Array:
    """``da[n, i] = sum_o delta[n, o] W[i, o]``: (N, O) to (N, I)."""
    return _sum(delta[:, None, :] * layer.W[None], 2)


def _sum(x: Array, axis: int) -> Array:
    """The sum in the array's own dtype, half precision included."""
    return lax.reduce_sum(x, axes=(axis,))


FOLDED = Products(_affine, _d_params, _d_input)


def _fast_sigmoid(z: Array) -> tuple[Array, Array]:
    """``a = (1 + tanh(z / 2)) / 2``, equal to ``1 / (1 + exp(-z))``.

    Absolute error at most 2 eps; the relative one grows as a falls: a is 0 where ``tanh`` rounds to -1, in float32 from
    ``z = -17``.

    >>> import jax.numpy as jnp
    >>> float(_fast_sigmoid(jnp.float32(0.0))[0])
    0.5
    """
    a = 0.5 + 0.5 * lax.tanh(0.5 * z)
    return a, a


FAST_SIGMOID = Activation(_fast_sigmoid, d_sigmoid)
