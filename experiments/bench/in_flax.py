"""flax.nnx with optax: the state under scan, and a jitted step called from Python as its guide has it."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx  # pyright: ignore[reportMissingImports]
from jax import lax

from bench.work import Peer, Run, Work, batches

__all__ = ["PEERS"]


class MLP(nnx.Module):
    def __init__(self, work: Work):
        rngs, dtype = nnx.Rngs(0), jnp.dtype(work.dtype)
        self.layers = nnx.List(
            nnx.Linear(
                *W.shape, use_bias=b is not None, dtype=dtype, param_dtype=dtype, rngs=rngs,
                kernel_init=lambda *_, W=W: jnp.asarray(W), bias_init=lambda *_, b=b: jnp.asarray(b),
            )
            for W, b in work.layers
        )  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = nnx.sigmoid(layer(x))
        return x

    def leaves(self) -> list[jax.Array]:
        held = [(layer.kernel, layer.bias) for layer in self.layers]
        return [leaf[...] for pair in held for leaf in pair if leaf is not None]


def _step(work: Work, model: MLP, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
    grads = nnx.grad(lambda model: 0.5 * work.scale * jnp.sum((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)


def _started(work: Work) -> tuple[MLP, nnx.Optimizer]:
    model = MLP(work)
    return model, nnx.Optimizer(model, optax.sgd(work.rate), wrt=nnx.Param)


def scanned(work: Work) -> Run:
    """Split into definition and state, and the state carried by ``lax.scan``."""
    x, y = jnp.asarray(work.x), jnp.asarray(work.y)
    definition, start = nnx.split(_started(work))

    def turn(state: Any, rows: jax.Array | None, x: jax.Array, y: jax.Array) -> tuple[Any, None]:
        model, optimizer = nnx.merge(definition, state)
        _step(work, model, optimizer, *((x, y) if rows is None else (x[rows], y[rows])))
        return nnx.state((model, optimizer)), None

    @functools.partial(jax.jit, static_argnums=0)
    def compiled(steps: int, state: Any, x: jax.Array, y: jax.Array, rows: jax.Array | None) -> Any:
        return lax.scan(lambda state, rows: turn(state, rows, x, y), state, rows, length=steps)[0]

    def run(steps: int) -> Sequence[Any]:
        rows = None if work.orders is None else work.orders.reshape(-1, work.batch or 1)[:steps]
        state = compiled(steps, start, x, y, rows)
        model, _ = nnx.merge(definition, jax.block_until_ready(state))
        return model.leaves()

    return run


def looped(work: Work) -> Run:
    x, y = jnp.asarray(work.x), jnp.asarray(work.y)

    @nnx.jit
    def step(model: MLP, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, rows: Any) -> None:
        _step(work, model, optimizer, *((x, y) if rows is None else (x[rows], y[rows])))

    held = _started(work)
    start = jax.tree.map(jnp.copy, nnx.state(held))
    cached = nnx.cached_partial(step, *held)

    def run(steps: int) -> Sequence[Any]:
        nnx.update(held, start)
        for rows in batches(work, steps):
            cached(x, y, rows if work.batch else None)
        return jax.block_until_ready(held[0].leaves())

    return run


PEERS = (Peer("flax.nnx, scan", scanned), Peer("flax.nnx, Python loop", looped, slow=True))
