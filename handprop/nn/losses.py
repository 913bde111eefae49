"""Losses, each with its derivative directly below it.

For each example ``n`` a loss compares the network's prediction with the target ``y_n``. There are two kinds:

* on the output activation, ``E_n(a)``: the derivative ``dE/da`` still has to pass through the output
  activation's own derivative;
* on the output pre-activation (the logit), ``E_n(z)``: the loss contains the output activation, and the
  two derivatives fuse into ``delta = dE/dz = a - y``. No ``a (1 - a)`` is left that could vanish.

Below each derivative is a root ``R`` of the second derivative, ``H_n = d^2 E_n / d prediction^2 = sum_c R_cn R_cn^T``,
from which the Gauss-Newton matrix is made (Dangel, Kunstner and Hennig, BackPACK, ICLR 2020).

Shapes: N examples, O outputs; prediction and target are (N, O), ``E`` is (N,), ``R`` is (O, N, O). ``g`` is
``dE_total/dE_n``, (N,): what the reduction over examples hands back, 1 for a sum and 1/N for a mean.

Sums are accumulated in float32 when the arrays are float16 or bfloat16, as ``jnp.sum`` does.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handprop.nn import activations

__all__ = [
    "LOSSES",
    "REDUCTIONS",
    "Loss",
    "Reduction",
    "accumulator",
    "binary_cross_entropy",
    "d_binary_cross_entropy",
    "d_half_squared_error",
    "d_mean_over_examples",
    "d_mean_squared_error",
    "d_softmax_cross_entropy",
    "d_sum_outputs",
    "d_sum_over_examples",
    "half_squared_error",
    "mean_over_examples",
    "mean_squared_error",
    "root_binary_cross_entropy",
    "root_half_squared_error",
    "root_mean_squared_error",
    "root_softmax_cross_entropy",
    "softmax_cross_entropy",
    "sum_over_examples",
]

Array = jax.Array


class Loss(NamedTuple):
    """A loss per example and its derivatives: ``E = value(prediction, y)``, ``d_value(g, prediction, y)``,
    ``root(prediction)``.

    ``on`` names what the loss reads, "activation" or "logit". ``outputs`` names the output activations that fit
    a logit loss; if empty, all of them fit.
    """

    value: Callable[[Array, Array], Array]
    d_value: Callable[[Array, Array, Array], Array]
    root: Callable[[Array], Array]
    on: str = "activation"
    outputs: tuple[str, ...] = ()


class Reduction(NamedTuple):
    """How the examples' losses become one number: ``value(E)``, and back: ``d_value(E) = dE_total/dE_n``."""

    value: Callable[[Array], Array]
    d_value: Callable[[Array], Array]


def accumulator(dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """Return the dtype in which ``dtype`` is summed: float32 for the half precisions, else ``dtype`` itself."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def _sum_outputs(terms: Array) -> Array:
    """(N, O) to (N,), in the accumulator's dtype."""
    return lax.reduce_sum(lax.convert_element_type(terms, accumulator(terms.dtype)), axes=(1,))


def d_sum_outputs(g: Array, terms: Array) -> Array:
    """(N,) back to (N, O): each term enters its example's sum with weight 1. A last axis of networks stays the last."""
    return lax.convert_element_type(lax.broadcast_in_dim(g, terms.shape, (0, *range(2, terms.ndim))), terms.dtype)


def _divide(E: Array, count: int) -> Array:
    """``E / count`` as one primitive; when compiled, a division by a constant may become a multiplication."""
    return lax.div(E, lax.full_like(E, count))


def half_squared_error(a: Array, y: Array) -> Array:
    """``E_n = 1/2 sum_k (a_nk - y_nk)^2``.

    >>> half_squared_error(jnp.array([[0.5, 1.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [0.625]
    """
    return 0.5 * _sum_outputs(lax.square(a - y))


def d_half_squared_error(g: Array, a: Array, y: Array) -> Array:
    """``dE/da_nk = 1/2 g_n 2 (a_nk - y_nk) = g_n (a_nk - y_nk)``; the halving and doubling are exact.

    >>> d_half_squared_error(jnp.ones(1), jnp.array([[0.5, 1.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [[0.5, 1.0]]
    """
    e = a - y
    return d_sum_outputs(0.5 * g, e) * (2 * e)


def root_half_squared_error(a: Array) -> Array:
    """``R_cnk = 1`` where ``c = k``, since ``H = I``.

    >>> root_half_squared_error(jnp.zeros((1, 2))).tolist()
    [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    return _on_diagonal(lax.full_like(a, 1))


def mean_squared_error(a: Array, y: Array) -> Array:
    """``E_n = 1/O sum_k (a_nk - y_nk)^2``, the mean over the O outputs.

    >>> mean_squared_error(jnp.array([[0.5, 1.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [0.625]
    """
    return _divide(_sum_outputs(lax.square(a - y)), a.shape[1])


def d_mean_squared_error(g: Array, a: Array, y: Array) -> Array:
    """``dE/da_nk = g_n / O * 2 (a_nk - y_nk)``.

    >>> d_mean_squared_error(jnp.ones(1), jnp.array([[0.5, 1.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [[0.5, 1.0]]
    """
    e = a - y
    return d_sum_outputs(_divide(g, a.shape[1]), e) * (2 * e)


def root_mean_squared_error(a: Array) -> Array:
    """``R_cnk = sqrt(2/O)`` where ``c = k``, since ``H = 2/O I``.

    >>> root_mean_squared_error(jnp.zeros((1, 2))).tolist()
    [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    return _on_diagonal(lax.sqrt(_divide(lax.full_like(a, 2), a.shape[1])))


def binary_cross_entropy(z: Array, y: Array) -> Array:
    """``E_n = -sum_k y log a + (1 - y) log(1 - a)`` with ``a = sigmoid(z)``, computed from the logits ``z``.

    With ``log a = -log(1 + exp(-z))`` this is ``sum_k log(1 + exp(z)) - z y``; written as
    ``(max(z, 0) - z y) + log(1 + exp(-|z|))`` it neither overflows nor cancels for targets 0 and 1.

    >>> round(float(binary_cross_entropy(jnp.array([[0.0]]), jnp.array([[1.0]]))[0]), 4)
    0.6931
    """
    return _sum_outputs((lax.max(z, lax.full_like(z, 0)) - z * y) + lax.log1p(lax.exp(-lax.abs(z))))


def d_binary_cross_entropy(g: Array, z: Array, y: Array) -> Array:
    """``delta_nk = g_n (a_nk - y_nk)`` with ``a = sigmoid(z)``: the fused pair.

    ``d/dz [log(1 + exp(z)) - z y] = exp(z) / (1 + exp(z)) - y = a - y``.

    >>> d_binary_cross_entropy(jnp.ones(1), jnp.array([[0.0]]), jnp.array([[1.0]])).tolist()
    [[-0.5]]
    """
    return d_sum_outputs(g, z) * (activations.sigmoid(z)[0] - y)


def root_binary_cross_entropy(z: Array) -> Array:
    """``R_cnk = sqrt(a_nk (1 - a_nk))`` where ``c = k``, with ``a = sigmoid(z)``: the derivative of ``a - y``.

    >>> root_binary_cross_entropy(jnp.array([[0.0]])).tolist()
    [[[0.5]]]
    """
    return _on_diagonal(lax.sqrt(activations.sigmoid(z)[0] * activations.sigmoid(-z)[0]))


def softmax_cross_entropy(z: Array, y: Array) -> Array:
    """``E_n = -sum_k y_nk log a_nk`` with ``a = softmax(z)``, computed from the logits ``z``.

    ``y`` holds probabilities that sum to 1 over the outputs, so that this is
    ``log sum_k exp(z_k) - sum_k y_k z_k``; the largest logit ``m`` is taken out of the first term.

    >>> round(float(softmax_cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]]))[0]), 4)
    0.6931
    """
    m = lax.reduce_max(lax.stop_gradient(z), axes=(1,))
    shifted = z - lax.broadcast_in_dim(m, z.shape, (0,))
    log_sum = lax.log(_sum_outputs(lax.exp(shifted)))
    return (lax.convert_element_type(m, log_sum.dtype) - _sum_outputs(y * z)) + log_sum


def d_softmax_cross_entropy(g: Array, z: Array, y: Array) -> Array:
    """``delta_nk = g_n (a_nk - y_nk)`` with ``a = softmax(z)``: the fused pair.

    ``d/dz_k log sum_j exp(z_j) = exp(z_k) / sum_j exp(z_j) = a_k``, and ``d/dz_k sum_j y_j z_j = y_k``.

    >>> d_softmax_cross_entropy(jnp.ones(1), jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]])).tolist()
    [[-0.5, 0.5]]
    """
    return d_sum_outputs(g, z) * (activations.softmax(z)[0] - y)


def root_softmax_cross_entropy(z: Array) -> Array:
    """``R_cnk = sqrt(a_nc) ([c = k] - a_nk)`` with ``a = softmax(z)``.

    ``sum_c a_c ([c = k] - a_k) ([c = j] - a_j) = a_k [k = j] - a_k a_j``, the derivative of ``a - y``.

    >>> root_softmax_cross_entropy(jnp.array([[0.0, 0.0, 0.0, 0.0]]))[0].tolist()
    [[0.375, -0.125, -0.125, -0.125]]
    """
    a, _ = activations.softmax(z)
    return lax.sqrt(a).T[:, :, None] * (_on_diagonal(lax.full_like(a, 1)) - a[None])


def _on_diagonal(r: Array) -> Array:
    """(N, O) to (O, N, O): ``r_nk`` where ``c = k``, else 0."""
    return jnp.eye(r.shape[1], dtype=r.dtype)[:, None, :] * r[None]


def sum_over_examples(E: Array) -> Array:
    """``E_total = sum_n E_n``.

    >>> float(sum_over_examples(jnp.array([1.0, 3.0])))
    4.0
    """
    return lax.reduce_sum(E, axes=(0,))


def d_sum_over_examples(E: Array) -> Array:
    """``dE_total/dE_n = 1``.

    >>> d_sum_over_examples(jnp.array([1.0, 3.0])).tolist()
    [1.0, 1.0]
    """
    return lax.full_like(E, 1)


def mean_over_examples(E: Array) -> Array:
    """``E_total = 1/N sum_n E_n``.

    >>> float(mean_over_examples(jnp.array([1.0, 3.0])))
    2.0
    """
    return _divide(lax.reduce_sum(E, axes=(0,)), E.shape[0])


def d_mean_over_examples(E: Array) -> Array:
    """``dE_total/dE_n = 1/N``.

    >>> d_mean_over_examples(jnp.array([1.0, 3.0])).tolist()
    [0.5, 0.5]
    """
    return lax.broadcast(_divide(lax.full((), 1, E.dtype), E.shape[0]), E.shape)


LOSSES: dict[str, Loss] = {
    "half_squared_error": Loss(half_squared_error, d_half_squared_error, root_half_squared_error),
    "mean_squared_error": Loss(mean_squared_error, d_mean_squared_error, root_mean_squared_error),
    "binary_cross_entropy": Loss(
        binary_cross_entropy,
        d_binary_cross_entropy,
        root_binary_cross_entropy,
        on="logit",
        outputs=("sigmoid", "identity"),
    ),
    "softmax_cross_entropy": Loss(
        softmax_cross_entropy,
        d_softmax_cross_entropy,
        root_softmax_cross_entropy,
        on="logit",
        outputs=("softmax", "identity"),
    ),
}
"""Every loss by the name that ``handprop.mlp`` takes."""

REDUCTIONS: dict[str, Reduction] = {
    "sum": Reduction(sum_over_examples, d_sum_over_examples),
    "mean": Reduction(mean_over_examples, d_mean_over_examples),
}
"""Sum and mean over examples, by name."""
