"""Many networks of one shape at once, each with its own weights and learning rate.

The members are on the last axis of every array: for k networks ``W_l`` is (D_{l-1}, D_l, k) and ``z_l`` is (N, D_l, k).
The fused products (:mod:`handprop.nn.forms.fused`) work unchanged with such an axis, so the derivation is that of
:mod:`handprop.nn.backprop`, and one vector register of the processor holds the same entry of several networks. Members
are trained in blocks that fit one native kernel (:mod:`handprop.training.one_kernel`), one block after the other, each
core on its own blocks. Networks that are too large for fused products, and softmax, use ``jax.vmap`` of the network's
own form instead.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from handprop.nn.activations import ACTIVATIONS
from handprop.nn.backprop import backprop
from handprop.nn.forms import table
from handprop.nn.losses import LOSSES
from handprop.nn.mlp import MLP, Params, checked
from handprop.training import one_kernel

__all__ = ["Ensemble", "EnsembleResult", "ensemble", "member"]

Array = jax.Array

_SGD = optax.sgd(1.0)
MAX_MEMBERS = 32  # of a block; 64 members of 3-4-1 do not fit one kernel, and were not faster when they did


class EnsembleResult(NamedTuple):
    """The end of a run. ``value[i]`` (k,) are the members' errors after ``step[i]`` steps; ``value`` is (R, k).

    A member whose error or weights are not finite keeps running, as its ``value`` shows. It does not affect the others.
    """

    params: Params
    step: np.ndarray
    value: Array

    def best(self) -> tuple[int, Params]:
        """Return the index and parameters of the member with the smallest finite last error.

        Raises ValueError if no error is finite.
        """
        last = self.value[-1]
        if not jnp.isfinite(last).any():
            raise ValueError(f"None of the {last.size} members has a finite error after {int(self.step[-1])} steps.")
        index = int(jnp.argmin(jnp.where(jnp.isfinite(last), last, jnp.inf)))
        return index, member(self.params, index)


class Ensemble(NamedTuple):
    """k networks as pure functions.

    * ``init(key, dtype=float32, scales=1.0) -> params``: member i's weights are drawn by ``split(key, k)[i]`` and
      multiplied by ``scales``, (k,) or a number
    * ``apply(params, x) -> prediction (N, O, k)``
    * ``value_and_grad(params, x, y) -> (E (k,), grads)``, by hand
    * ``train(params, (x, y), learning_rates=..., steps=...) -> EnsembleResult``
    """

    init: Callable[..., Params]
    apply: Callable[[Params, Array], Array]
    value_and_grad: Callable[[Params, Array, Array], tuple[Array, Params]]
    train: Callable[..., EnsembleResult]


def member(params: Params, index: int) -> Params:
    """Return the parameters of one network of an ensemble.

    >>> import handprop
    >>> params = ensemble(handprop.mlp((3, 4, 1)), 5).init(jax.random.key(0))
    >>> params[0].W.shape, member(params, 2)[0].W.shape
    ((3, 4, 5), (3, 4))
    """
    return jax.tree.map(lambda leaf: leaf[..., index], params)


def ensemble(net: MLP, k: int) -> Ensemble:
    """Return k networks of the shape of ``net`` that are trained at once.

    Args:
        net: a network of any form. Its small products are fused; its activations are unchanged.
        k: the number of networks, at least 1.

    Returns:
        An ``Ensemble``. ``train(params, data, *, learning_rates, steps, optimizer=optax.sgd(1.0), record_every=None)``
        runs full-batch descent; a member's updates are multiplied by its rate. ``learning_rates`` is (k,) or a number.
        The optimizer must work entry by entry (sgd, momentum, adam), since a norm over all leaves would be one over all
        members. ``record_every=None`` records the errors before the first step and after the last.

    Raises:
        ValueError: k is below 1. ``train`` raises it if learning rates or parameters are not of k members, and raises
            the errors of ``net.value_and_grad`` for invalid data.

    >>> import handprop
    >>> x = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> y = jnp.array([[0.0], [1], [1], [0]])
    >>> pop = ensemble(handprop.mlp((3, 4, 1), bias=False, reduction="sum", init="uniform"), 20)
    >>> result = pop.train(pop.init(jax.random.key(0)), (x, y), learning_rates=2.0, steps=2000)
    >>> result.step.tolist(), result.value.shape, bool(result.value[-1].min() < 0.01)
    ([0, 2000], (2, 20), True)
    >>> pop.apply(result.params, x).shape
    (4, 1, 20)
    """
    if k < 1:
        raise ValueError(f"k={k} is too small; it must be at least 1.")

    def init(key: Array, dtype: jax.typing.DTypeLike = jnp.float32, scales: Array | float = 1.0) -> Params:
        params = jax.vmap(lambda key: net.init(key, dtype), out_axes=-1)(jax.random.split(key, k))
        scales = jnp.broadcast_to(jnp.asarray(scales, dtype), (k,))
        return jax.tree.map(lambda leaf: leaf * _on_last(scales, leaf), params)

    apply = jax.vmap(net.apply, in_axes=(-1, None), out_axes=-1)
    return Ensemble(init, apply, partial(_value_and_grad, net), partial(_train, net, k))


def _fuses(net: MLP, x: Array) -> bool:
    """Whether the derivation works with a last axis of members: it needs small products and no softmax."""
    softmax = ACTIVATIONS["softmax"] in net.spec.activations or net.spec.loss is LOSSES["softmax_cross_entropy"]
    return not softmax and table.fuses(net.spec.sizes, x, net.spec.max_fused)


def _on_last(values: Array, leaf: Array) -> Array:
    """Reshape the members' values (k,) to broadcast against a leaf (..., k)."""
    return values.reshape((1,) * (leaf.ndim - 1) + (-1,))


def _value_and_grad(net: MLP, params: Params, x: Array, y: Array) -> tuple[Array, Params]:
    return _derived(net, params, *checked(net.spec, _shapes_of_one(params), x, y))


def _shapes_of_one(params: Params) -> Params:
    """Return the shapes and dtypes of what :func:`member` returns."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype), params)


def _derived(net: MLP, params: Params, x: Array, y: Array) -> tuple[Array, Params]:
    """Return errors (k,) and gradients; the arguments are already checked."""
    if not _fuses(net, x):
        return jax.vmap(net.value_and_grad, in_axes=(-1, None, None), out_axes=(0, -1))(params, x, y)
    x, y = x[..., None], y[..., None]
    trace = backprop(net.spec._replace(form="fused").net(x), params, x, y)
    return trace.value, trace.grads


def _train(
    net: MLP,
    k: int,
    params: Params,
    data: tuple[Any, Any],
    *,
    learning_rates: Array | float,
    steps: int,
    optimizer: optax.GradientTransformation = _SGD,
    record_every: int | None = None,
) -> EnsembleResult:
    x, y = (jnp.asarray(array) for array in data)
    x, y = checked(net.spec, _shapes_of_one(params), x, y)
    learning_rates = _checked_members(k, params, learning_rates, steps, record_every)
    ends = np.array(sorted({*range(0, steps, record_every or max(steps, 1)), steps}), np.int32)
    counts = np.diff(ends)
    layout = _layout(net, k, x)
    runs = [(*chunk, x, y, counts) for chunk in _chunks(layout, (params, learning_rates))]
    leaves, tree = jax.tree.flatten(runs[0])
    run = _compiled(net, optimizer, tree, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))
    with ThreadPoolExecutor(layout.chunks) as threads:  # a compiled run releases Python's lock
        parts = list(threads.map(lambda args: run(*args), runs))
    joined, values = _joined(k, parts)
    return EnsembleResult(joined, ends, values)


def _checked_members(
    k: int, params: Params, learning_rates: Array | float, steps: int, record_every: int | None
) -> Array:
    """Check the arguments of ``train`` and return the learning rates, (k,)."""
    for name, count, least in (("steps", steps, 0), ("record_every", record_every, 1)):
        if count is not None and count < least:
            raise ValueError(f"{name}={count} is too small; it must be at least {least}.")
    members = {leaf.shape[-1] for leaf in jax.tree.leaves(params)}
    if members != {k}:
        raise ValueError(f"params have {sorted(members)} members, but the ensemble has {k}.")
    learning_rates = jnp.asarray(learning_rates, params[0].W.dtype)
    if learning_rates.shape not in ((), (k,)):
        raise ValueError(
            f"learning_rates has shape {learning_rates.shape}, but an ensemble of {k} needs ({k},) or one number."
        )
    return jnp.broadcast_to(learning_rates, (k,))


class _Layout(NamedTuple):
    """How members are divided: ``chunks`` run in parallel, and each runs its ``blocks`` one after the other."""

    chunks: int
    blocks: int
    members: int  # per block


def _layout(net: MLP, k: int, x: Array) -> _Layout:
    if not _fuses(net, x):
        return _Layout(1, 1, k)
    sums = table.largest_product(net.spec.sizes, x.shape[0])
    most = max(1, min(MAX_MEMBERS, one_kernel.MAX_SUMMED // sums))
    chunks = min(_cores(), math.ceil(k / most))
    members = min(most, math.ceil(k / chunks))
    return _Layout(chunks, math.ceil(k / (chunks * members)), members)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@partial(jax.jit, static_argnums=0)
def _chunks(layout: _Layout, tree: Any) -> list[Any]:
    """Split a tree with leaves (..., k) into one tree per chunk with leaves (blocks, ..., members)."""
    split = jax.tree.map(partial(_split, layout), tree)
    return [jax.tree.map(lambda leaf, c=c: leaf[c], split) for c in range(layout.chunks)]


def _split(layout: _Layout, leaf: Array) -> Array:
    """(..., k) to (chunks, blocks, ..., members). The first members are repeated to fill the last block."""
    missing = math.prod(layout) - leaf.shape[-1]
    blocks = jnp.concatenate([leaf, leaf[..., :missing]], axis=-1).reshape(*leaf.shape[:-1], *layout)
    return jnp.moveaxis(blocks, (-3, -2), (0, 1))


@partial(jax.jit, static_argnums=0)
def _joined(k: int, parts: list[Any]) -> Any:
    """Join the chunks' results into one tree with leaves (..., k)."""
    return jax.tree.map(lambda *leaves: _join(k, leaves), *parts)


def _join(k: int, leaves: tuple[Array, ...]) -> Array:
    """The inverse of :func:`_split`."""
    blocks = jnp.moveaxis(jnp.stack(leaves), (0, 1), (-3, -2))
    return blocks.reshape(*blocks.shape[:-3], -1)[..., :k]


@lru_cache(maxsize=64)
def _compiled(
    net: MLP, optimizer: optax.GradientTransformation, tree: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> Callable:
    """Compile :func:`_run_chunk` for such arguments, as one kernel unless this version of XLA cannot do so."""
    args, run = jax.tree.unflatten(tree, leaves), partial(_run_chunk, net, optimizer)
    try:
        return jax.jit(partial(one_kernel.call, run)).lower(*args).compile()
    except jax.errors.JaxRuntimeError:
        return jax.jit(run).lower(*args).compile()


def _run_chunk(
    net: MLP,
    optimizer: optax.GradientTransformation,
    params: Any,
    learning_rates: Array,
    x: Array,
    y: Array,
    counts: Array,
) -> tuple[Params, Array]:
    """Run blocks one after the other; returns parameters (blocks, ..., members) and errors (blocks, R, members)."""
    return lax.map(lambda block: _run_block(net, optimizer, block[0], block[1], x, y, counts), (params, learning_rates))


def _run_block(
    net: MLP,
    optimizer: optax.GradientTransformation,
    params: Any,
    learning_rates: Array,
    x: Array,
    y: Array,
    counts: Array,
) -> tuple[Params, Array]:
    """Run ``counts`` (R - 1,) steps between records; returns the parameters and the errors (R, members)."""

    def step(_: Array, held: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = held
        grads: Any = _derived(net, params, x, y)[1]
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts with floats
            updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda p, u: p + u * _on_last(learning_rates, p), params, updates), state

    def record(held: tuple[Params, Any], count: Array) -> tuple[tuple[Params, Any], Array]:
        return lax.fori_loop(0, count, step, held), _derived(net, held[0], x, y)[0]

    (params, _), values = lax.scan(record, (params, optimizer.init(params)), counts)
    last = _derived(net, params, x, y)[0]
    return params, jnp.concatenate([values, last[None]])
