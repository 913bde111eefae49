"""Gradient descent as a function: state in, state out.

One step is ``(value, grads) = value_and_grad(params, *batch)`` followed by the optimizer's update. Steps run inside one
compiled loop, in blocks. The value is computed at the start of a block only, and the host waits only at the end of a
call. The number of steps of a block is an argument of the compiled loop, so one compilation serves a whole run.

NaN and infinity persist in parameters and optimizer state, so checking at the end of a block is enough. If one of them,
or the value, is not finite, the same loop is run again in halves, up to the last step after which everything was
finite: the result has the bits of a run of that many steps.

Minibatches: step k belongs to epoch ``k // S`` with ``S = ceil(N / batch_size)`` steps. The order of an epoch is drawn
from ``fold_in(key, epoch)`` (:mod:`handprop.training.shuffle`). The batch of a step depends only on the key and on k,
so a run that was split in two gives the bits of the run that was not.
"""

import enum
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from handprop.training import one_kernel, shuffle

__all__ = ["History", "Progress", "Status", "TrainResult", "train"]

Array = jax.Array
ValueAndGrad = Callable[..., tuple[Array, Any]]

BLOCKS_PER_CALL = 64  # at most, of the compiled loop


class Status(enum.Enum):
    """Why a run ended."""

    FINISHED = "All steps were run."
    STOPPED = "The callback stopped the run."
    NON_FINITE = "The loss, a gradient or an update was not finite; the state before that step is returned."


class History(NamedTuple):
    """``value[i]`` is what ``value_and_grad`` returned at step ``step[i]``, before that step's update; both (R,).

    Steps are the multiples of ``record_every`` and the last step that was run. Both are on the host.
    """

    step: np.ndarray
    value: np.ndarray


class Progress(NamedTuple):
    """What a callback receives: ``params`` after ``step`` steps, and the ``value`` of the last of these steps."""

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
    """The loop's carry. ``finite`` says whether values, parameters and optimizer state were finite at every check."""

    params: Any
    opt_state: Any
    step: Array  # steps done
    order: Array  # this epoch's permutation of the examples; size 0 for full batches
    finite: Array


class _Loop(NamedTuple):
    """What stays the same during a run."""

    value_and_grad: ValueAndGrad
    optimizer: optax.GradientTransformation
    examples: int
    batch_size: int
    steps_per_epoch: int
    record_every: int
    one_kernel: bool = True  # if the loop fits one kernel


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
        params: a tree of floating arrays.
        data: arrays that share a leading axis of N examples, ``(x, y)``.
        optimizer: any optax optimizer, schedules included.
        steps: how many steps to run, counted from ``start_step``.
        batch_size: examples per step; None takes all N. Every epoch uses every example once; the last batch of an
            epoch may be smaller.
        key: orders the minibatches; required if ``batch_size`` < N.
        opt_state: the optimizer's state, to continue an earlier run; None starts from the beginning.
        start_step: steps already done; a run continued with the result's ``opt_state`` and ``step`` gives the
            bits of an unbroken one.
        record_every: steps between two records of the value, which cost a forward pass each; the last is recorded.
        callback: called with a ``Progress`` when a value is recorded; a true result stops the run.

    The loop is compiled once for each ``value_and_grad``, ``optimizer``, ``batch_size``, ``record_every`` and shape of
    data and parameters. Equal calls of :func:`handprop.mlp` return the same functions. A new optax object is a
    different one, so create the optimizer once.

    Returns:
        A ``TrainResult``. The run ends if the parameters, the optimizer's state or a recorded value are not finite; the
        result then has the state before that step and a ``detail``. A gradient that is not finite does not end the run
        if the optimizer keeps it out of both (``optax.apply_if_finite``).

    Raises:
        ValueError: the data have unequal lengths, a count is too small, or minibatches have no key.

    >>> import handprop
    >>> net = handprop.mlp((3, 4, 1), bias=False, reduction="sum")
    >>> x = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> y = jnp.array([[0.0], [1], [1], [0]])
    >>> params = net.init(jax.random.key(0))
    >>> result = train(net.value_and_grad, params, (x, y), optimizer=optax.sgd(1.0), steps=1000)
    >>> result.step, result.status.value, result.history.step.shape
    (1000, 'All steps were run.', (11,))
    """
    data = _arrays(tuple(data))
    loop = _check(value_and_grad, optimizer, data, steps, batch_size, key, start_step, record_every)
    state, done = _start(loop, params, opt_state, start_step, key), start_step
    status, records = Status.FINISHED, []
    for stops in _calls(start_step, start_step + steps, record_every, callback is not None):
        loop, new, values = _run_compilable(loop, state, stops, data, key)
        if not new.finite:  # this waits for the device, once per call
            status, stops = Status.NON_FINITE, _finite_stops(loop, state, done, stops, int(new.step), data, key)
            new, values = _run(loop, state, stops, data, key)
        records.append(([done, *stops[:-1]][: len(stops)], np.asarray(values)[: len(stops)]))
        state, done = new, [done, *stops][-1]
        if status is Status.NON_FINITE:
            break
        if callback and callback(Progress(done, values[len(stops) - 1], state.params)):
            status = Status.STOPPED
            break
    detail = _not_finite(loop, state, data) if status is Status.NON_FINITE else None
    return TrainResult(state.params, state.opt_state, done, _history(loop, done, records), status, detail)


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
        raise ValueError(f"data has arrays of shapes {shapes}, but they must share a leading axis of N examples.")
    examples = shapes[0][0]
    least = {"steps": (steps, 0), "start_step": (start_step, 0), "record_every": (record_every, 1)}
    if batch_size is not None:
        least["batch_size"] = (batch_size, 1)
    for name, (count, minimum) in least.items():
        if count < minimum:
            raise ValueError(f"{name}={count} is too small; it must be at least {minimum}.")
    if examples == 0:
        raise ValueError(f"data has arrays of shapes {shapes}, but training needs at least one example.")
    if start_step + steps >= 2**31:
        raise ValueError(f"start_step + steps = {start_step + steps} is too large; steps are counted in int32.")
    size = min(batch_size or examples, examples)
    if size < examples and key is None:
        raise ValueError(f"batch_size={size} of {examples} examples needs key=jax.random.key(seed) to draw them.")
    return _Loop(value_and_grad, optimizer, examples, size, math.ceil(examples / size), record_every)


def _calls(start: int, end: int, record_every: int, callback: bool) -> Iterator[list[int]]:
    """Yield the ends of the blocks of each call of the compiled loop.

    A block starts at each step whose value is needed: at multiples of ``record_every`` and at the last step. A callback
    runs after a call of the loop, so with one, a block also starts one step before each multiple.
    """
    multiples = range((start // record_every + 1) * record_every, end, record_every)
    ends = {*multiples, end, end - 1, *((stop - 1 for stop in multiples) if callback else ())}
    ends = sorted(stop for stop in ends if start < stop <= end)
    call: list[int] = []
    for stop in ends:
        call.append(stop)
        if stop == end or (stop in multiples if callback else len(call) == BLOCKS_PER_CALL):
            yield call
            call = []


def _start(loop: _Loop, params: Any, opt_state: Any, start_step: int, key: Array | None) -> _State:
    """Return the first state."""
    opt_state = loop.optimizer.init(params) if opt_state is None else opt_state
    params, opt_state = _arrays((params, opt_state))
    # NumPy scalars can be passed as they are, and take a tenth of the time that it takes to make a JAX array.
    step, finite = np.asarray(start_step, np.int32), np.asarray(True)
    return _State(params, opt_state, step, _order(loop, key, step), finite)  # pyright: ignore[reportArgumentType]


def _arrays(tree: Any) -> Any:
    """Convert every leaf to a JAX array. JAX arrays pass through, because ``jnp.asarray`` is slow even for them."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, Array) else jnp.asarray(leaf), tree)


def _finite_stops(
    loop: _Loop, state: _State, done: int, stops: list[int], bad: int, data: tuple[Array, ...], key: Array | None
) -> list[int]:
    """Return the ends of a call's blocks up to the last step after which everything was finite, found by bisection.

    After ``bad`` steps, not everything is finite. The last block has one step, so that its value is checked too.
    """

    def up_to(last: int) -> list[int]:
        return sorted({stop for stop in (*stops, last - 1, last) if done < stop <= last})

    last = done
    while bad - last > 1:
        middle = (last + bad) // 2
        last, bad = (middle, bad) if _run(loop, state, up_to(middle), data, key)[0].finite else (last, middle)
    return up_to(last)


def _order(loop: _Loop, key: Array | None, step: Any) -> Any:
    if key is None or loop.batch_size == loop.examples:
        return np.zeros(0, np.int32)
    epoch = step // jnp.int32(loop.steps_per_epoch)
    return shuffle.permutation(jax.random.fold_in(key, epoch), loop.examples)


def _all_finite(tree: Any) -> Array:
    floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in floating]).all()


def _batch(loop: _Loop, state: _State, data: tuple[Array, ...], size: int) -> tuple[Array, ...]:
    """Return the step's examples; ``size`` is that of a full batch or of the epoch's last, smaller one."""
    if loop.batch_size == loop.examples:
        return data
    first = state.step % jnp.int32(loop.steps_per_epoch) * jnp.int32(loop.batch_size)
    rows = lax.dynamic_slice(state.order, (first,), (size,))
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds", unique_indices=True), data)


def _update(loop: _Loop, grads: Any, state: _State) -> tuple[Any, Any]:
    # optax 0.2 mixes integer counts with floats, which strict dtype promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        return loop.optimizer.update(grads, state.opt_state, state.params)


def _step(loop: _Loop, data: tuple[Array, ...], size: int, state: _State) -> _State:
    _, grads = loop.value_and_grad(state.params, *_batch(loop, state, data, size))
    updates, opt_state = _update(loop, grads, state)
    return state._replace(
        params=optax.apply_updates(state.params, updates), opt_state=opt_state, step=state.step + jnp.int32(1)
    )


def _steps(loop: _Loop, data: tuple[Array, ...], stop: Array, state: _State) -> _State:
    """Run steps on full batches. The loop carries few arrays, since each costs time in a small network."""

    def turn(held: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        params, opt_state, step = held
        return _step(loop, data, loop.batch_size, state._replace(params=params, opt_state=opt_state, step=step))[:3]

    return _State(*lax.while_loop(lambda held: held[2] < stop, turn, state[:3]), *state[3:])


def _native(loop: _Loop) -> Callable:
    return one_kernel.call if loop.one_kernel else lambda f, *args: f(*args)


def _epochs(loop: _Loop, data: tuple[Array, ...], key: Array | None, stop: Array, state: _State) -> _State:
    return lax.while_loop(lambda s: s.step < stop, partial(_epoch, loop, data, key, stop), state)


def _epoch(loop: _Loop, data: tuple[Array, ...], key: Array | None, stop: Array, state: _State) -> _State:
    """Run from the state's step to ``stop`` or the epoch's end, whichever comes first."""
    S, short = jnp.int32(loop.steps_per_epoch), loop.examples % loop.batch_size
    epoch_end = (state.step // S + 1) * S
    full_end = jnp.minimum(stop, epoch_end - 1 if short else epoch_end)
    state = _native(loop)(partial(_steps, loop), data, full_end, state)
    if short:
        run = (state.step == epoch_end - 1) & (state.step < stop)
        state = lax.cond(run, partial(_step, loop, data, short), lambda s: s, state)
    order = lax.cond(state.step == epoch_end, lambda: _order(loop, key, state.step), lambda: state.order)
    return state._replace(order=order)


def _value(loop: _Loop, data: tuple[Array, ...], state: _State) -> Array:
    """Return the value that ``value_and_grad`` gives for the next step; the compiler removes the unused gradients."""

    def of(size: int) -> Array:
        return loop.value_and_grad(state.params, *_batch(loop, state, data, size))[0]

    short = loop.examples % loop.batch_size
    if not short:
        return of(loop.batch_size)
    last = (state.step + 1) % jnp.int32(loop.steps_per_epoch) == 0
    return lax.cond(last, partial(of, short), partial(of, loop.batch_size))


def _blocks(
    loop: _Loop, state: _State, stops: Array, count: Array, data: tuple[Array, ...], key: Array | None
) -> tuple[_State, Array]:
    """Run ``count`` blocks, to each of ``stops`` (B,) in turn, and return the values where they start, (B,)."""
    values = jnp.zeros(stops.shape, jax.eval_shape(partial(_value, loop, data), state).dtype)

    def block(i: Array, held: tuple[_State, Array]) -> tuple[_State, Array]:
        state, values = held
        value = _value(loop, data, state)
        stop = jnp.where(state.finite, lax.dynamic_index_in_dim(stops, i, keepdims=False), state.step)
        if loop.batch_size == loop.examples:
            state = _steps(loop, data, stop, state)
        else:
            state = _epochs(loop, data, key, stop, state)
        finite = state.finite & jnp.isfinite(value) & _all_finite((state.params, state.opt_state))
        return state._replace(finite=finite), lax.dynamic_update_index_in_dim(values, value, i, 0)

    return lax.fori_loop(0, count, block, (state, values))


@partial(jax.jit, static_argnums=0)
def _run_blocks(
    loop: _Loop, state: _State, stops: Array, count: Array, data: tuple[Array, ...], key: Array | None
) -> tuple[_State, Array]:
    return _native(loop)(partial(_blocks, loop), state, stops, count, data, key)


def _run(
    loop: _Loop, state: _State, stops: list[int], data: tuple[Array, ...], key: Array | None
) -> tuple[_State, Array]:
    """Run the blocks that end at ``stops``; the first entries of the array are the values where they start."""
    padded = np.zeros(BLOCKS_PER_CALL + 1, np.int32)  # one more, so that a run can end anywhere
    padded[: len(stops)] = stops
    return _run_blocks(loop, state, padded, np.int32(len(stops)), data, key)


def _run_compilable(
    loop: _Loop, state: _State, stops: list[int], data: tuple[Array, ...], key: Array | None
) -> tuple[_Loop, _State, Array]:
    """Call :func:`_run`, and return the loop with its result.

    The loop is no longer marked as one kernel if this version of XLA cannot compile it that way.
    """
    try:
        return loop, *_run(loop, state, stops, data, key)
    except jax.errors.JaxRuntimeError:
        if not loop.one_kernel:
            raise
        loop = loop._replace(one_kernel=False)
        return loop, *_run(loop, state, stops, data, key)


def _history(loop: _Loop, done: int, records: list[tuple[list[int], np.ndarray]]) -> History:
    """Select, from the values where blocks started, those at multiples of ``record_every`` and at the last step."""
    steps = np.concatenate([np.zeros(0, np.int32), *(np.array(starts, np.int32) for starts, _ in records)])
    values = np.concatenate([values for _, values in records]) if records else np.zeros(0, np.float32)
    kept = (steps % loop.record_every == 0) | (steps == done - 1)
    return History(steps[kept], values[kept])


def _not_finite(loop: _Loop, state: _State, data: tuple[Array, ...]) -> str:
    """Say what was not finite in the step that failed: the loss, else a gradient, else an update."""
    epoch_step = int(state.step) % loop.steps_per_epoch
    size = min(loop.batch_size, loop.examples - epoch_step * loop.batch_size)
    value, grads = jax.jit(loop.value_and_grad)(state.params, *_batch(loop, state, data, size))
    if not _all_finite(value):
        return f"non-finite loss at step {int(state.step)}"
    for what, name, tree in (("gradient", "grads", grads), ("update", "updates", _update(loop, grads, state)[0])):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not _all_finite(leaf):
                return f"non-finite {what} at step {int(state.step)} in {name}{jax.tree_util.keystr(path)}"
    return f"non-finite parameters after the update of step {int(state.step)}"
