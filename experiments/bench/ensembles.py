"""Rows that train many networks of one shape at once, each with its own weights."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import handprop
from bench import agreement, in_numpy
from bench.work import Entry, Run, Setting, Work, classic, steps_to_check
from handprop.nn.mlp import FormName

__all__ = ["BY_VMAP", "ensemble"]

BY_VMAP = "vmap(jax.grad) + optax, scan"


def ensemble(k: int, setting: Setting) -> list[Entry]:
    """k networks 3-4-1 on the classic examples; an entry counts net-steps."""
    work = classic()
    steps = max(200, (200_000 if setting.quick else 1_200_000) // k)
    made = {BY_VMAP: _by_vmap(work, k), **{f"handprop.ensemble {form}": _by_hand(work, k, form)
                                           for form in ("auto", "fast_sigmoid")}}  # fmt: skip
    entries = []
    for name, run in made.items():
        start, members = time.perf_counter(), {0, k // 2, k - 1}
        facts = {"difference": max(_check(name, work, k, member, run) for member in members)}
        ready = time.perf_counter() - start, steps_to_check(work) * k * len(members)
        entries.append(Entry(name, lambda run=run: run(steps), k * steps, facts, *ready))
    return entries


def _weights(work: Work, k: int) -> list[np.ndarray]:
    """The first weights of all members, on the last axis: drawn evenly from (-1, 1)."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (*W.shape, k)).astype(work.dtype) for W, _ in work.layers]


def _check(name: str, work: Work, k: int, member: int, run: Run) -> float:
    """Against NumPy in float64, one member. Raises Disagreement."""
    steps = steps_to_check(work)
    first = tuple(W[..., member] for W in _weights(work, k))
    wanted = in_numpy.judge(work._replace(params=first), steps)
    found = [np.asarray(leaf)[..., member] for leaf in run(steps)]
    return agreement.compare(
        f"{name}, member {member}", agreement.leaf_names(work), found, wanted, agreement.TOLERANCE[work.dtype]
    )


def _by_hand(work: Work, k: int, form: FormName) -> Run:
    net = handprop.mlp(work.sizes, bias=work.bias, reduction=work.reduction, form=form)
    many, data = handprop.ensemble(net, k), (jnp.asarray(work.x), jnp.asarray(work.y))
    params = tuple(handprop.Layer(jnp.asarray(W), None) for W in _weights(work, k))

    def run(steps: int) -> Any:
        return jax.tree.leaves(
            jax.block_until_ready(many.train(params, data, learning_rates=work.rate, steps=steps).params)
        )

    return run


def _by_vmap(work: Work, k: int) -> Run:
    """Members on the first axis, as ``vmap`` has it by default; turned round for the check only."""
    net, optimizer = handprop.mlp(work.sizes, bias=work.bias, reduction=work.reduction), optax.sgd(work.rate)
    x, y = jnp.asarray(work.x), jnp.asarray(work.y)
    params = tuple(handprop.Layer(jnp.moveaxis(jnp.asarray(W), -1, 0), None) for W in _weights(work, k))

    def steps_of(steps: int, params: Any, x: jax.Array, y: jax.Array) -> Any:
        def step(held: Any, _: None) -> tuple[Any, None]:
            params, state = held
            grads = jax.vmap(jax.grad(net.loss), (0, None, None))(params, x, y)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return lax.scan(step, (params, optimizer.init(params)), None, length=steps)[0][0]

    compiled = jax.jit(steps_of, static_argnums=0)

    def run(steps: int) -> Any:
        done = jax.block_until_ready(compiled(steps, params, x, y))
        return [np.moveaxis(np.asarray(leaf), 0, -1) for leaf in jax.tree.leaves(done)]

    return run
