"""Each product the way that is fastest by itself, for networks that are too large to be folded as a whole.

Between the kernels of a step XLA:CPU calls a library for each matrix product, which takes about a microsecond however
small the product is. Two of the three products of a layer gain by doing without, in float32 and up to a few thousand
multiply-adds: ``a W + b`` and ``a^T delta``, folded (:mod:`handprop.nn.forms.fused`). ``delta W^T`` reads the columns
of W, whose entries lie apart, and gains nothing.

Larger ones, ``dW^T = delta^T a`` (O, I), gain where ``delta^T`` (O, N) is laid out before it is multiplied with a
(N, I): the library then finds both row by row. XLA would put the transposition before and the one after into the
product. Beyond a few hundred thousand multiply-adds that is no gain, or a loss: there, the operations are the exact
ones.

Bound: that of the folded form, ``2 k eps`` times the sum of an entry's k terms' sizes.
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
def per_product(most_folded: int) -> Products:
    """Products of which those of at most so many multiply-adds, N I O, are folded."""

    def fuses(terms: int, multiply_adds: int) -> bool:
        return terms <= MAX_TERMS and multiply_adds <= most_folded

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
