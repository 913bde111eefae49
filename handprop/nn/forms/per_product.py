"""Compute each product in the way that is fastest for it, in networks that are too large to be fused as a whole.

Between the kernels of a step XLA:CPU calls a library for each matrix product. Such a call takes about a microsecond
however small the product is. In float32, and up to a few thousand multiply-adds, two of the three products of a layer
are faster without it: ``a W + b`` and ``a^T delta``, fused (:mod:`handprop.nn.forms.fused`). ``delta W^T`` reads the
columns of W, whose entries are far apart in memory, and gains nothing.

A larger ``dW^T = delta^T a`` (O, I) is faster if ``delta^T`` (O, N) is laid out in memory before it is multiplied by a
(N, I), because the library then reads both row by row. XLA would otherwise merge the transpositions before and after
into the product. Beyond a few hundred thousand multiply-adds this gains nothing or loses, and the exact operations are
used.

Bound: that of the fused form, ``2 k eps`` times the sum of the sizes of an entry's k terms.
"""

from functools import lru_cache

import jax
from jax import lax

from handprop.nn.backprop import EXACT, Layer, Products
from handprop.nn.forms.fused import FUSED, MAX_TERMS

__all__ = ["MAX_LAID_OUT", "per_product"]

Array = jax.Array

MAX_LAID_OUT = 2**18  # multiply-adds of a product delta^T a


@lru_cache(maxsize=8)
def per_product(largest: int) -> Products:
    """Return products that are fused if they have at most ``largest`` multiply-adds, N I O."""

    def fuses(terms: int, multiply_adds: int) -> bool:
        return terms <= MAX_TERMS and multiply_adds <= largest

    def affine(a: Array, layer: Layer) -> Array:
        N, I = a.shape
        return (FUSED if fuses(I, N * layer.W.size) else EXACT).affine(a, layer)

    def d_params(a: Array, delta: Array, layer: Layer) -> Layer:
        N, multiply_adds = len(a), len(a) * layer.W.size
        if fuses(N, multiply_adds):
            return FUSED.d_params(a, delta, layer)
        return _laid_out(a, delta, layer) if multiply_adds <= MAX_LAID_OUT else EXACT.d_params(a, delta, layer)

    return Products(affine, d_params, EXACT.d_input)


def _laid_out(a: Array, delta: Array, layer: Layer) -> Layer:
    """``dW = a^T delta`` and ``db = sum_n delta``: (I, O) and (O,)."""
    delta_T = lax.optimization_barrier(lax.transpose(delta, (1, 0)))
    dW_T = lax.optimization_barrier(lax.dot_general(delta_T, a, (((1,), (0,)), ((), ()))))
    dW = lax.transpose(dW_T, (1, 0))
    return Layer(dW, None if layer.b is None else lax.reduce_sum(delta, axes=(0,)))
