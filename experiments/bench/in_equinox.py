"""equinox with optax: its arrays under scan, and a ``filter_jit`` step called from Python."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import optax
from jax import lax

from bench.work import Peer, Run, Work, batches

__all__ = ["PEERS"]


def network(work: Work) -> eqx.nn.MLP:
    """One hidden layer, its weights ours: equinox keeps W as (O, I)."""
    inputs, hidden, outputs = work.sizes
    shapes = eqx.filter_eval_shape(
        eqx.nn.MLP, inputs, outputs, hidden, depth=1, activation=jax.nn.sigmoid, final_activation=jax.nn.sigmoid,
        use_bias=work.bias, use_final_bias=work.bias, dtype=jnp.dtype(work.dtype), key=jax.random.key(0),
    )  # fmt: skip
    held = [leaf for W, b in work.layers for leaf in (W.T, b) if leaf is not None]
    return eqx.tree_at(_leaves, shapes, [jnp.asarray(leaf) for leaf in held])


def _leaves(model: eqx.nn.MLP) -> list[Any]:
    return [leaf for layer in model.layers for leaf in (layer.weight, layer.bias) if leaf is not None]


def _ours(model: eqx.nn.MLP) -> Sequence[Any]:
    return [leaf.T for leaf in jax.block_until_ready(_leaves(model))]


def _step(work: Work, optimizer: optax.GradientTransformation, model: Any, state: Any, x: Any, y: Any) -> Any:
    grads = eqx.filter_grad(lambda model: 0.5 * work.scale * jnp.sum((jax.vmap(model)(x) - y) ** 2))(model)
    updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state


def scanned(work: Work) -> Run:
    """Partitioned into arrays and the rest, and the arrays carried by ``lax.scan``."""
    x, y, optimizer = jnp.asarray(work.x), jnp.asarray(work.y), optax.sgd(work.rate)
    arrays, rest = eqx.partition(network(work), eqx.is_inexact_array)

    @functools.partial(jax.jit, static_argnums=0)
    def compiled(steps: int, arrays: Any, state: Any, x: jax.Array, y: jax.Array, rows: jax.Array | None) -> Any:
        def turn(held: Any, rows: jax.Array | None) -> tuple[Any, None]:
            data = (x, y) if rows is None else (x[rows], y[rows])
            model, state = _step(work, optimizer, eqx.combine(held[0], rest), held[1], *data)
            return (eqx.filter(model, eqx.is_inexact_array), state), None

        return lax.scan(turn, (arrays, state), rows, length=steps)[0][0]

    def run(steps: int) -> Sequence[Any]:
        rows = None if work.orders is None else work.orders.reshape(-1, work.batch or 1)[:steps]
        return _ours(eqx.combine(compiled(steps, arrays, optimizer.init(arrays), x, y, rows), rest))

    return run


def looped(work: Work) -> Run:
    x, y, optimizer, first = jnp.asarray(work.x), jnp.asarray(work.y), optax.sgd(work.rate), network(work)

    @eqx.filter_jit
    def step(model: Any, state: Any, x: jax.Array, y: jax.Array, rows: Any) -> Any:
        return _step(work, optimizer, model, state, *((x, y) if rows is None else (x[rows], y[rows])))

    def run(steps: int) -> Sequence[Any]:
        model, state = first, optimizer.init(eqx.filter(first, eqx.is_inexact_array))
        for rows in batches(work, steps):
            model, state = step(model, state, x, y, rows if work.batch else None)
        return _ours(model)

    return run


PEERS = (Peer("equinox, scan", scanned), Peer("equinox, Python loop", looped, slow=True))
