"""handprop, and ``jax.grad`` with optax: under scan and from a Python loop."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

import handprop
from bench.work import BASELINE, Make, Peer, Run, Work, batches, draw_orders
from handprop.nn.forms.table import largest_product
from handprop.nn.mlp import FormName

__all__ = ["PEERS", "layers", "network"]

SCAN, HANDED, LOOP = "scan", "handed", "loop"


def network(work: Work, form: FormName = "exact") -> handprop.MLP:
    return handprop.mlp(work.sizes, bias=work.bias, reduction=work.reduction, form=form)


def layers(work: Work) -> tuple[handprop.Layer, ...]:
    """The first weights as handprop keeps them."""
    return tuple(handprop.Layer(jnp.asarray(W), None if b is None else jnp.asarray(b)) for W, b in work.layers)


def _leaves(params: Any) -> Sequence[Any]:
    return jax.tree.leaves(jax.block_until_ready(params))


def by_hand(form: FormName) -> Make:
    """``handprop.train``, which draws the orders itself."""

    def make(work: Work) -> Run:
        net, params, data = network(work, form), layers(work), (jnp.asarray(work.x), jnp.asarray(work.y))
        optimizer, key = optax.sgd(work.rate), jax.random.key(work.seed)

        def run(steps: int) -> Sequence[Any]:
            result = handprop.train(
                net.value_and_grad, params, data, optimizer=optimizer, steps=steps, batch_size=work.batch,
                key=key, record_every=steps,
            )  # fmt: skip
            return _leaves(result.params)

        return run

    return make


def by_autodiff(how: str) -> Make:
    """``jax.grad`` and optax: "scan" draws each epoch's order in the compiled run, "handed" is given it, "loop" is a
    compiled step called from Python.
    """

    def make(work: Work) -> Run:
        net = network(work)
        start: Any = layers(work)
        x, y = jnp.asarray(work.x), jnp.asarray(work.y)
        optimizer = optax.sgd(work.rate)

        def step(held: Any, x: jax.Array, y: jax.Array) -> Any:
            params, state = held
            updates, state = optimizer.update(jax.grad(net.loss)(params, x, y), state, params)
            return optax.apply_updates(params, updates), state

        if how == LOOP:
            return _looped(work, step, (start, optimizer.init(start)), x, y)
        runs = {None: _full, SCAN: _shuffled, HANDED: _handed}[how if work.orders is not None else None]
        compiled = jax.jit(partial(runs, work, step), static_argnums=0)
        orders = None if work.orders is None else jnp.asarray(work.orders)
        return lambda steps: _leaves(compiled(steps, (start, optimizer.init(start)), x, y, orders)[0])

    return make


def _looped(work: Work, step: Any, held: Any, x: jax.Array, y: jax.Array) -> Run:
    compiled = jax.jit(lambda held, x, y, rows: step(held, x[rows], y[rows]) if work.batch else step(held, x, y))

    def run(steps: int) -> Sequence[Any]:
        now = held
        for rows in batches(work, steps):
            now = compiled(now, x, y, rows if work.batch else None)
        return _leaves(now[0])

    return run


def _full(work: Work, step: Any, steps: int, held: Any, x: jax.Array, y: jax.Array, _: None) -> Any:
    return lax.scan(lambda held, _: (step(held, x, y), None), held, None, length=steps)[0]


def _epoch(work: Work, step: Any, held: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
    rows = order.reshape(-1, work.batch or 1)
    return lax.scan(lambda held, rows: (step(held, x[rows], y[rows]), None), held, rows)[0]


def _shuffled(work: Work, step: Any, steps: int, held: Any, x: jax.Array, y: jax.Array, _: Any) -> Any:
    key = jax.random.key(work.seed)

    def epoch(held: Any, number: jax.Array) -> tuple[Any, None]:
        order = jax.random.permutation(jax.random.fold_in(key, number), jnp.arange(len(x), dtype=jnp.int32))
        return _epoch(work, step, held, x, y, order), None

    return lax.scan(epoch, held, jnp.arange(steps // work.steps_per_epoch))[0]


def _handed(work: Work, step: Any, steps: int, held: Any, x: jax.Array, y: jax.Array, orders: jax.Array) -> Any:
    taken = orders[: steps // work.steps_per_epoch]
    return lax.scan(lambda held, order: (_epoch(work, step, held, x, y, order), None), held, taken)[0]


def _own_orders(work: Work) -> Work:
    """The work in the orders that ``jax.random.permutation`` draws."""
    if work.orders is None:
        return work
    return work._replace(orders=draw_orders(jax.random.permutation, work.seed, *work.orders.shape))


def _small(work: Work) -> bool:
    """Whether folding is tried at all: it loses beyond a few thousand multiply-adds a product."""
    return largest_product(work.sizes, work.batch or len(work.x)) <= 2**13


PEERS = (
    Peer(BASELINE, by_autodiff(SCAN), does=_own_orders),
    Peer("jax.grad + optax, scan, order given", by_autodiff(HANDED), fits=lambda work: work.orders is not None),
    Peer("jax.grad + optax, Python loop", by_autodiff(LOOP), slow=True),
    Peer("handprop exact", by_hand("exact")),
    Peer("handprop folded", by_hand("fused"), fits=_small),
    Peer("handprop fast_sigmoid", by_hand("fast_sigmoid"), fits=_small),
    Peer("handprop auto", by_hand("auto")),
)
