"""Products as multiplications and sums, for small networks.

If ``z[n, o] = sum_i a[n, i] W[i, o]`` is written out as a sum of products, the program holds no matrix product, and
XLA:CPU can compile a loop of it into one native kernel (:mod:`handprop.training.one_kernel`). A step of a network of
3-4-1 units then takes tens of nanoseconds, and most of a microsecond otherwise.

Up to 64 terms are written out one by one: each is a whole array (N, O), whose entries the compiler puts side by side in
vector registers. Longer sums are one broadcast product and one sum over an axis, which is added up entry by entry.

Bound: only the order of the sums differs from that of a matrix product, so for an entry that sums k terms the two
differ by at most ``2 k eps`` times the sum of the terms' sizes (Higham, Accuracy and Stability of Numerical Algorithms,
2002, 3.1, for either order).
"""

from collections.abc import Callable
from functools import partial, reduce
from operator import add

import jax
from jax import lax

from handprop.nn.activations import Activation, d_sigmoid
from handprop.nn.backprop import Layer, Products

__all__ = ["FAST_SIGMOID", "FUSED", "MAX_TERMS"]

Array = jax.Array


MAX_TERMS = 64  # that are written out; the program and its compile time grow with their number

_compiled = partial(jax.jit, inline=True)  # called eagerly, this is one program instead of one for each term


@_compiled
def _affine(a: Array, layer: Layer) -> Array:
    """``z[n, o] = sum_i a[n, i] W[i, o] + b[o]``: (N, I), (I, O), (O,) to (N, O)."""
    z = _sum_of_products(a, layer.W, 1, 0, lambda a, W: a[:, None] * W[None])
    return z if layer.b is None else z + layer.b[None]


@_compiled
def _d_params(a: Array, delta: Array, layer: Layer) -> Layer:
    """``dW[i, o] = sum_n a[n, i] delta[n, o]`` and ``db[o] = sum_n delta[n, o]``: (I, O) and (O,)."""
    dW = _sum_of_products(a, delta, 0, 0, lambda a, delta: a[:, None] * delta[None])
    return Layer(dW, None if layer.b is None else lax.reduce_sum(delta, axes=(0,)))


@_compiled
def _d_input(delta: Array, layer: Layer) -> Array:
    """``da[n, i] = sum_o delta[n, o] W[i, o]``: (N, O) to (N, I)."""
    return _sum_of_products(delta, layer.W, 1, 1, lambda delta, W: delta[:, None] * W[None])


def _sum_of_products(x: Array, y: Array, x_axis: int, y_axis: int, product: Callable[[Array, Array], Array]) -> Array:
    """``sum_k product(x_k, y_k)`` over an axis of each, in the arrays' own dtype, half precision included."""
    terms = x.shape[x_axis]
    members = x.ndim > 2  # the members of an ensemble are on the last axis, where they already fill the vectors
    if 0 < terms <= MAX_TERMS and not members:
        pairs = ((lax.index_in_dim(x, k, x_axis, False), lax.index_in_dim(y, k, y_axis, False)) for k in range(terms))
        return reduce(add, (product(x_k, y_k) for x_k, y_k in pairs))
    all_terms = jax.vmap(product, in_axes=(x_axis, y_axis), out_axes=0)(x, y)
    return lax.reduce_sum(all_terms, axes=(0,))


FUSED = Products(_affine, _d_params, _d_input)


def _fast_sigmoid(z: Array) -> tuple[Array, Array]:
    """``a = (1 + tanh(z / 2)) / 2``, equal to ``1 / (1 + exp(-z))``.

    The absolute error is at most 2 eps. The relative error grows as a falls, and a is 0 where ``tanh`` rounds to -1, in
    float32 below ``z = -17``.

    >>> import jax.numpy as jnp
    >>> float(_fast_sigmoid(jnp.float32(0.0))[0])
    0.5
    """
    a = 0.5 + 0.5 * lax.tanh(0.5 * z)
    return a, a


FAST_SIGMOID = Activation(_fast_sigmoid, d_sigmoid)
