"""The products of one layer, forward and backward: what an affine map does and what undoes it, operation by operation.

Shapes: N patterns, I inputs, O units. A form of :mod:`handprop.fast` writes the same three products in another way;
:data:`EXACT` are JAX's own operations in its own order.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax

__all__ = ["EXACT", "Layer", "Products"]

Array = jax.Array


class Layer(NamedTuple):
    """Weights ``W`` (I, O) from I inputs to O units, and biases ``b`` (O,) or None."""

    W: Array
    b: Array | None


class Products(NamedTuple):
    """``affine(a, layer) -> z``, ``d_params(a, delta, layer) -> Layer(dW, db)`` and ``d_input(delta, layer) -> da``."""

    affine: Callable[[Array, Layer], Array]
    d_params: Callable[[Array, Array, Layer], Layer]
    d_input: Callable[[Array, Layer], Array]


def _affine(a: Array, layer: Layer) -> Array:
    """``z = a W + b``: (N, I), (I, O), (O,) to (N, O)."""
    z = lax.dot_general(a, layer.W, (((1,), (0,)), ((), ())))
    return z if layer.b is None else z + lax.broadcast_in_dim(layer.b, z.shape, (1,))


def _d_params(a: Array, delta: Array, layer: Layer) -> Layer:
    """``dW = a^T delta`` and ``db = sum_n delta``: (I, O) and (O,).

    JAX contracts (delta, a) and transposes; the sum does not widen half precision.
    """
    dW = lax.transpose(lax.dot_general(delta, a, (((0,), (0,)), ((), ()))), (1, 0))
    return Layer(dW, None if layer.b is None else _sum_patterns(delta))


def _sum_patterns(delta: Array) -> Array:
    """``db = sum_n delta``: (N, O) to (O,). For a single unit JAX's rule sums both axes; so does this."""
    if delta.shape[1] == 1:
        return lax.broadcast(lax.reduce_sum(delta, axes=(0, 1)), (1,))
    return lax.reduce_sum(delta, axes=(0,))


def _d_input(delta: Array, layer: Layer) -> Array:
    """``da = delta W^T``: (N, O) to (N, I)."""
    return lax.dot_general(delta, layer.W, (((1,), (1,)), ((), ())))


EXACT = Products(_affine, _d_params, _d_input)
"""The operations of ``jax.grad``, in its order: the same bits."""
