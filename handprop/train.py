"""Gradient descent as a function: state in, state out.

One step is ``(value, grads) = value_and_grad(params, *batch)`` and the optimizer's update. Steps run inside
one compiled loop, in blocks; the host sees a block's end only. A block ends at a multiple of
``record_every``, so what a callback does costs nothing inside it. The number of steps of a block is an
argument of the compiled loop, not part of it: one compilation serves a whole run.

Minibatches: step k belongs to epoch ``k // S`` with ``S = ceil(N / batch_size)`` steps; the epoch's order is the
permutation drawn from ``fold_in(key, epoch)``. So a step's batch depends on key and k alone, which is why a
run that was split in two gives the bits of the run that was not.
"""

import enum
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

__all__ = ["History", "Progress", "Status", "TrainResult", "train"]

Array = jax.Array
ValueAndGrad = Callable[..., tuple[Array, Any]]

BLOCKS_PER_CALL = 64  # records taken per call of the compiled loop where no callback has to be called


class Status(enum.Enum):
    """Why a run ended."""

    FINISHED = "All steps were run."
    STOPPED = "The callback stopped the run."
    NON_FINITE = "The loss, a gradient or an update was not finite; the state before that step is returned."


class History(NamedTuple):
    """``value[i]`` is what ``value_and_grad`` returned at step ``step[i]``, before that step's update; both (R,).

    Steps are the multiples of ``record_every`` and the last step that was run.
    """

    step: Array
    value: Array


class Progress(NamedTuple):
    """What a callback sees: ``params`` after ``step`` steps, and the ``value`` of the last of these steps."""

    step: int
    value: Array
    params: Any


class TrainResult(NamedTuple):
    """The end of a run: ``step`` counts from zero, also across a split; ``detail`` says what was not finite."""

    params: Any
    opt_state: Any
    step: int
    history: History
    status: Status
    detail: str | None = None


class _State(NamedTuple):
    """The loop's carry."""

    params: Any
    opt_state: Any
    step: Array  # steps done
    order: Array  # this epoch's permutation of the patterns; size 0 for full batches
    finite: Array


class _Carry(NamedTuple):
    """The state with the values of the block so far."""

    state: _State
    first: Array  # of the step at a multiple of record_every
    latest: Array


class _Loop(NamedTuple):
    """What stays the same over a run."""

    value_and_grad: ValueAndGrad
    optimizer: optax.GradientTransformation
    patterns: int
    batch_size: int
    steps_per_epoch: int
    record_every: int


def train(
    value_and_grad: ValueAndGrad,
    params: Any,
    data: tuple[Any, ...],
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int | None = None,
    key: Array | None = None,
    opt_state: Any = None,
    start_step: int = 0,
    record_every: int = 100,
    callback: Callable[[Progress], Any] | None = None,
) -> TrainResult:
    """Run ``steps`` steps of gradient descent.

    Args:
        value_and_grad: ``value_and_grad(params, *batch) -> (value, grads)``, by hand or by ``jax.value_and_grad``.
        params: a tree of floating arrays. It is copied, never donated.
        data: arrays that share a leading axis of N patterns, ``(x, y)``.
        optimizer: any optax optimizer, schedules included.
        steps: how many steps to run, counted from ``start_step``.
        batch_size: patterns a step; None takes all N. Every epoch uses every pattern once; the last batch of an
            epoch may be shorter.
        key: orders the minibatches; needed with ``batch_size`` < N.
        opt_state: the optimizer's state of the run that is continued; None starts afresh.
        start_step: steps already done; a run continued with the result's ``opt_state`` and ``step`` gives the
            bits of an unbroken one.
        record_every: steps between two records of the value; the last step is recorded too.
        callback: called with a ``Progress`` at every multiple of ``record_every`` and at the end; a true result
            stops the run.

    Returns:
        A ``TrainResult``. Something non-finite ends the run, with the last finite state and ``detail``.

    Raises:
        ValueError: data of unequal lengths, a count below its least, or minibatches without a key.

    >>> import handprop
    >>> net = handprop.mlp((3, 4, 1), bias=False, reduction="sum")
    >>> x = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> y = jnp.array([[0.0], [1], [1], [0]])
    >>> params = net.init(jax.random.key(0))
    >>> result = train(net.value_and_grad, params, (x, y), optimizer=optax.sgd(1.0), steps=1000)
    >>> result.step, result.status.value, result.history.step.shape
    (1000, 'All steps were run.', (11,))
    """
    data = jax.tree.map(jnp.asarray, tuple(data))
    loop = _check(value_and_grad, optimizer, data, steps, batch_size, key, start_step, record_every)
    state = _start(loop, params, opt_state, start_step, key)
    end = start_step + steps
    ends = _block_ends(start_step, end, record_every)
    per_call = 1 if callback else BLOCKS_PER_CALL
    first, latest = [], []
    status = Status.FINISHED
    for i in range(0, len(ends), per_call):
        stops = ends[i : i + per_call]
        padded = jnp.array(stops + stops[-1:] * (per_call - len(stops)), jnp.int32)
        state, block_first, block_latest = _run_blocks(loop, state, padded, data, key)
        first.append(block_first[: len(stops)])
        latest.append(block_latest[: len(stops)])
        if not state.finite:  # waits for the device, once a call
            status = Status.NON_FINITE
            break
        if callback and callback(Progress(stops[-1], block_latest[0], _copy(state.params))):
            status = Status.STOPPED
            break
    history = _history(start_step, int(state.step), ends, record_every, first, latest)
    detail = _not_finite(loop, state, data) if status is Status.NON_FINITE else None
    return TrainResult(state.params, state.opt_state, int(state.step), history, status, detail)


def _check(
    value_and_grad: ValueAndGrad,
    optimizer: optax.GradientTransformation,
    data: tuple[Array, ...],
    steps: int,
    batch_size: int | None,
    key: Array | None,
    start_step: int,
    record_every: int,
) -> _Loop:
    shapes = [leaf.shape for leaf in jax.tree.leaves(data)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"data has arrays of shapes {shapes}, but they must share a leading axis of N patterns.")
    patterns = shapes[0][0]
    least = {"steps": (steps, 0), "start_step": (start_step, 0), "record_every": (record_every, 1)}
    if batch_size is not None:
        least["batch_size"] = (batch_size, 1)
    for name, (count, minimum) in least.items():
        if count < minimum:
            raise ValueError(f"{name}={count} is too small; it must be at least {minimum}.")
    if patterns == 0:
        raise ValueError(f"data has arrays of shapes {shapes}, and there is nothing to learn from no patterns.")
    if start_step + steps >= 2**31:
        raise ValueError(f"start_step + steps = {start_step + steps} is too large; steps are counted in int32.")
    size = min(batch_size or patterns, patterns)
    if size < patterns and key is None:
        raise ValueError(f"batch_size={size} of {patterns} patterns needs key=jax.random.key(seed) to draw them.")
    return _Loop(value_and_grad, optimizer, patterns, size, math.ceil(patterns / size), record_every)


def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _block_ends(start: int, end: int, record_every: int) -> list[int]:
    """Multiples of ``record_every`` after ``start``, and the end."""
    if start == end:
        return []
    first = (start // record_every + 1) * record_every
    return [*range(first, end, record_every), end]


def _start(loop: _Loop, params: Any, opt_state: Any, start_step: int, key: Array | None) -> _State:
    """The first state, of copies: what the caller handed over must outlive the donated carry."""
    opt_state = loop.optimizer.init(params) if opt_state is None else opt_state
    params, opt_state = _copy((params, opt_state))
    step = jnp.array(start_step, jnp.int32)
    return _State(params, opt_state, step, _order(loop, key, step), jnp.array(True))


def _order(loop: _Loop, key: Array | None, step: Array) -> Array:
    if key is None or loop.batch_size == loop.patterns:
        return jnp.zeros(0, jnp.int32)
    epoch = step // jnp.int32(loop.steps_per_epoch)
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(loop.patterns, dtype=jnp.int32))


def _all_finite(tree: Any) -> Array:
    floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in floating]).all()


def _batch(loop: _Loop, state: _State, data: tuple[Array, ...], size: int) -> tuple[Array, ...]:
    """The step's patterns; ``size`` is that of a full batch or of the epoch's short last one."""
    if loop.batch_size == loop.patterns:
        return data
    first = state.step % jnp.int32(loop.steps_per_epoch) * jnp.int32(loop.batch_size)
    rows = lax.dynamic_slice(state.order, (first,), (size,))
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds", unique_indices=True), data)


def _update(loop: _Loop, grads: Any, state: _State) -> tuple[Any, Any]:
    # optax 0.2 mixes integer counts with floats, which strict dtype promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        return loop.optimizer.update(grads, state.opt_state, state.params)


def _descent(loop: _Loop, data: tuple[Array, ...], size: int, state: _State) -> tuple[Array, Any, Any, Any]:
    """Value and gradients at the state, and the parameters and optimizer's state after it."""
    value, grads = loop.value_and_grad(state.params, *_batch(loop, state, data, size))
    updates, opt_state = _update(loop, grads, state)
    return value, grads, optax.apply_updates(state.params, updates), opt_state


def _step(loop: _Loop, data: tuple[Array, ...], size: int, carry: _Carry) -> _Carry:
    """One update; a step that is not finite leaves everything as it was and clears ``finite``."""
    state = carry.state
    value, grads, params, opt_state = _descent(loop, data, size, state)
    finite = _all_finite((value, grads, params, opt_state))
    recorded = state.step % jnp.int32(loop.record_every) == 0
    new = _Carry(
        _State(params, opt_state, state.step + 1, state.order, finite),
        jnp.where(recorded, value, carry.first),
        value,
    )
    kept = carry._replace(state=state._replace(finite=finite))
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, kept)


def _run_epoch(loop: _Loop, data: tuple[Array, ...], key: Array | None, stop: Array, carry: _Carry) -> _Carry:
    """From the state's step to ``stop`` or the epoch's end, whichever comes first."""
    S, short = jnp.int32(loop.steps_per_epoch), loop.patterns % loop.batch_size
    epoch_end = (carry.state.step // S + 1) * S
    full_end = jnp.minimum(stop, epoch_end - 1 if short else epoch_end)
    carry = _steps_until(loop, data, full_end, carry)
    if short:
        state = carry.state
        run = (state.step == epoch_end - 1) & (state.step < stop) & state.finite
        carry = lax.cond(run, partial(_step, loop, data, short), lambda c: c, carry)
    state = carry.state
    order = lax.cond(state.step == epoch_end, lambda: _order(loop, key, state.step), lambda: state.order)
    return carry._replace(state=state._replace(order=order))


def _steps_until(loop: _Loop, data: tuple[Array, ...], stop: Array, carry: _Carry) -> _Carry:
    """Steps on full batches: without a look at what is finite, and once more with one at every step where that was
    not all."""

    def careful(carry: _Carry) -> _Carry:
        step = partial(_step, loop, data, loop.batch_size)
        return lax.while_loop(lambda c: (c.state.step < stop) & c.state.finite, step, carry)

    def run(carry: _Carry) -> _Carry:
        quick, sound = _quick_steps(loop, data, stop, carry)
        return lax.cond(sound, lambda: quick, partial(careful, carry))

    return lax.cond(carry.state.finite, run, lambda c: c, carry)


def _quick_steps(loop: _Loop, data: tuple[Array, ...], stop: Array, carry: _Carry) -> tuple[_Carry, Array]:
    """The same steps, and whether all was finite: of values and gradients ``bad`` keeps what was not, parameters and
    the optimizer's state keep their own. Few arrays go from turn to turn: each costs time where the network is small.
    """
    begin = carry.state.step

    def turn(held: tuple) -> tuple:
        params, opt_state, i, first, _, bad = held
        state = carry.state._replace(params=params, opt_state=opt_state, step=begin + i)
        value, grads, params, opt_state = _descent(loop, data, loop.batch_size, state)
        total = sum((jnp.sum(leaf).astype(value.dtype) for leaf in jax.tree.leaves(grads)), value)
        return params, opt_state, i + 1, jnp.where(i == 0, value, first), value, bad + 0 * total

    state, count = carry.state, stop - begin
    start = (
        state.params,
        state.opt_state,
        jnp.zeros_like(begin),
        carry.first,
        carry.latest,
        jnp.zeros_like(carry.first),
    )
    params, opt_state, i, first, latest, bad = lax.while_loop(lambda held: held[2] < count, turn, start)
    first = jnp.where(begin % jnp.int32(loop.record_every) == 0, first, carry.first)
    sound = jnp.isfinite(bad) & _all_finite((params, opt_state))
    return _Carry(state._replace(params=params, opt_state=opt_state, step=begin + i), first, latest), sound


def _epochs_until(loop: _Loop, data: tuple[Array, ...], key: Array | None, stop: Array, carry: _Carry) -> _Carry:
    return lax.while_loop(
        lambda c: (c.state.step < stop) & c.state.finite, partial(_run_epoch, loop, data, key, stop), carry
    )


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_blocks(
    loop: _Loop, state: _State, stops: Array, data: tuple[Array, ...], key: Array | None
) -> tuple[_State, Array, Array]:
    """Run to each of ``stops`` (B,) in turn; returns the blocks' first and latest values, (B,) each."""
    batch = _batch(loop, state, data, loop.batch_size)
    nothing = jnp.zeros((), jax.eval_shape(loop.value_and_grad, state.params, *batch)[0].dtype)

    def block(state: _State, stop: Array) -> tuple[_State, tuple[Array, Array]]:
        carry = _Carry(state, nothing, nothing)
        if loop.batch_size == loop.patterns:
            carry = _steps_until(loop, data, stop, carry)
        else:
            carry = _epochs_until(loop, data, key, stop, carry)
        return carry.state, (carry.first, carry.latest)

    state, (first, latest) = lax.scan(block, state, stops)
    return state, first, latest


def _history(
    start: int, step: int, ends: list[int], record_every: int, first: list[Array], latest: list[Array]
) -> History:
    """The blocks' first values where these lie on a multiple of ``record_every``, and the last step's value.

    ``step`` steps are done; a block that was not finite counts as far as it came.
    """
    if step == start:
        return History(jnp.zeros(0, jnp.int32), jnp.zeros(0))
    starts = [start, *ends[:-1]]
    done = [i for i, begin in enumerate(starts) if begin < step]
    kept = [i for i in done if starts[i] % record_every == 0]
    steps, values = [starts[i] for i in kept], jnp.concatenate(first)[jnp.array(kept, jnp.int32)]
    if step - 1 not in steps[-1:]:
        steps.append(step - 1)
        values = jnp.append(values, jnp.concatenate(latest)[done[-1]])
    return History(jnp.array(steps, jnp.int32), values)


def _not_finite(loop: _Loop, state: _State, data: tuple[Array, ...]) -> str:
    """What was not finite in the step that could not be taken: the loss, else a gradient, else an update."""
    epoch_step = int(state.step) % loop.steps_per_epoch
    size = min(loop.batch_size, loop.patterns - epoch_step * loop.batch_size)
    value, grads = jax.jit(loop.value_and_grad)(state.params, *_batch(loop, state, data, size))
    if not _all_finite(value):
        return f"non-finite loss at step {int(state.step)}"
    for what, tree in (
        ("gradient", grads),
        ("update", _update(loop, grads, state)[0]),
    ):
        name = "grads" if what == "gradient" else "updates"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not _all_finite(leaf):
                return f"non-finite {what} at step {int(state.step)} in {name}{jax.tree_util.keystr(path)}"
    return f"non-finite parameters after the update of step {int(state.step)}"
