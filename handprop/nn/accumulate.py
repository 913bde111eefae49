"""Full-batch gradients in microbatches: memory does not grow with the batch.

The deltas of an example depend on that example alone, and ``dW_l = sum_n a_{l-1,n}^T delta_{l,n}`` is a sum over
examples. The batch can therefore be cut into microbatches S_1 .. S_K, each with its own forward and backward pass,
whose gradients are added up:

    E = sum_k w_k E(S_k),   dE/dW_l = sum_k w_k dE(S_k)/dW_l,   w_k = 1 for a sum, |S_k| / N for a mean

Only one microbatch's activations and deltas are in memory at a time. If they fit the processor's cache, the backward
pass reads them from there: for 64-64-...-64 on 65,536 examples this is faster than the whole batch at once.

Bound: the sums over examples run in another order, and a mean multiplies once more, so for an entry that sums N terms
the two differ by at most ``2 (N + 1) eps`` times the sum of the terms' sizes (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, 3.1). Half-precision gradients are added up in float32.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from handprop.nn import checks
from handprop.nn.losses import LOSSES, REDUCTIONS, accumulator
from handprop.nn.mlp import MLP, Params

__all__ = ["accumulate", "microbatch_size_for"]

Array = jax.Array

# Measured on two x86 cores with 32 MiB of last-level cache, for microbatches of 128 to 8,192 examples. Nine layers of
# 64 units are fastest at 2,048. Networks with wide layers read all their weights for each microbatch and are slower
# below 1,024. Small networks gain nothing above 8,192.
PART_OF_CACHE = 4
SLICES = (1024, 8192)
CACHE_BYTES = 32 * 2**20  # if the machine does not report its own


def microbatch_size_for(net: MLP, dtype: jax.typing.DTypeLike = jnp.float32) -> int:
    """Return the number of examples whose activations fill at most a quarter of the last-level cache.

    It is a power of two from 1,024 to 8,192.

    >>> import handprop
    >>> microbatch_size_for(handprop.mlp((1024, 1024, 1024)))
    1024
    """
    of_an_example = sum(net.spec.sizes) * jnp.dtype(dtype).itemsize
    fitting = _cache_bytes() // PART_OF_CACHE // of_an_example
    least, most = SLICES
    return max(least, min(most, 2 ** max(0, fitting.bit_length() - 1)))


def _cache_bytes() -> int:
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or CACHE_BYTES
    except (AttributeError, ValueError, OSError):  # not every system has this name
        return CACHE_BYTES


def accumulate(net: MLP, microbatch_size: int | None = None) -> Callable[[Params, Any, Any], tuple[Array, Params]]:
    """Return ``net.value_and_grad``, computed one microbatch after the other.

    Args:
        net: a network of any form.
        microbatch_size: examples per microbatch; None chooses by :func:`microbatch_size_for`. The last microbatch may
            be smaller.

    Returns:
        ``value_and_grad(params, x, y) -> (E, grads)`` for any N. It works under ``jit`` and in ``handprop.train`` like
        the network's own. If ``x`` is a NumPy array (it may be mapped from a file) and nothing is traced, microbatches
        are sent to the device one by one, each while the previous one is computed; the device never holds more than
        two.

    Raises:
        ValueError: microbatch_size is below 1. The returned function raises the errors of ``net.value_and_grad``.

    >>> import handprop
    >>> net = handprop.mlp((3, 4, 1), reduction="sum")
    >>> params, x, y = net.init(jax.random.key(0)), np.ones((10, 3), np.float32), np.zeros((10, 1), np.float32)
    >>> value, grads = accumulate(net, microbatch_size=4)(params, x, y)
    >>> bool(jnp.allclose(value, net.loss(params, x, y))), grads[0].W.shape
    (True, (3, 4))
    """
    if microbatch_size is not None and microbatch_size < 1:
        raise ValueError(f"microbatch_size={microbatch_size} is too small: it must be at least 1.")

    def value_and_grad(params: Params, x: Any, y: Any) -> tuple[Array, Params]:
        x, y = (leaf if hasattr(leaf, "ndim") else jnp.asarray(leaf) for leaf in (x, y))
        _check(net, params, x, y)
        size = microbatch_size or microbatch_size_for(net, params[0].W.dtype)
        if len(x) <= size:
            return net.value_and_grad(params, x, y)
        on_host = isinstance(x, np.ndarray) and not any(
            isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, y))
        )
        total = (_from_host if on_host else _on_device)(net, size, params, x, y)
        return jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), total, (params[0].W, params))

    return value_and_grad


def _check(net: MLP, params: Params, x: Any, y: Any) -> None:
    """Raise the errors of ``net.value_and_grad`` without doing its work."""
    jax.eval_shape(net.loss, params, x, y)
    if net.spec.loss is LOSSES["softmax_cross_entropy"] and y.ndim == 1 and not isinstance(y, Tracer):
        checks.check_labels(net.spec.sizes[-1], y)


def _nothing(params: Params) -> tuple[Array, Params]:
    """Return a zero error and zero gradients, in the dtype in which microbatches are added up."""
    value = jax.ShapeDtypeStruct((), params[0].W.dtype)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, accumulator(leaf.dtype)), (value, params))


def _add(net: MLP, examples: int, total: Any, params: Params, x: Array, y: Array) -> Any:
    """Add one microbatch of a batch of ``examples`` examples to ``total``."""
    weight = len(x) / examples if net.spec.reduction is REDUCTIONS["mean"] else 1.0
    part = net.value_and_grad(params, x, y)
    return jax.tree.map(lambda t, leaf: t + jnp.asarray(weight, t.dtype) * leaf.astype(t.dtype), total, part)


@partial(jax.jit, static_argnums=(0, 1))
def _on_device(net: MLP, size: int, params: Params, x: Array, y: Array) -> Any:
    examples = len(x)

    def turn(total: Any, first: Array) -> tuple[Any, None]:
        part = (lax.dynamic_slice_in_dim(leaf, first, size) for leaf in (x, y))
        return _add(net, examples, total, params, *part), None

    whole = examples - examples % size
    total, _ = lax.scan(turn, _nothing(params), jnp.arange(0, whole, size))
    return total if whole == examples else _add(net, examples, total, params, x[whole:], y[whole:])


_add_in_place = jax.jit(_add, static_argnums=(0, 1), donate_argnums=2)


def _from_host(net: MLP, size: int, params: Params, x: np.ndarray, y: Any) -> Any:
    total = _nothing(params)
    for first in range(0, len(x), size):
        part = jax.device_put((x[first : first + size], y[first : first + size]))
        jax.block_until_ready(total)  # wait before sending one more, so that the device holds at most two
        total = _add_in_place(net, len(x), total, params, *part)
    return total
