"""Rules for primitives that move entries: layout, indexing, sorting, scattering.

If NumPy has no counterpart of a primitive, the primitive itself runs on positions instead of numbers, and the positions
that it returns tell where every entry came from. For sums of moved entries (scatter-add, convolution), the primitive
itself runs on exact limbs.
"""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from handprop.verifier.programs.executables import applied, run_once
from handprop.verifier.programs.moves import VIEWS, as_dtype
from handprop.verifier.proof.field.degrees import Bound
from handprop.verifier.proof.field.elementwise import Rule
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value, check_input, greater, never_tie
from handprop.verifier.proof.field.values import (
    Interval,
    Value,
    everywhere,
    finite,
    interval,
    is_nonnegative,
    is_number,
    is_positive,
    moved,
)

__all__ = ["LAYOUT", "bind", "concrete", "move_by_positions"]


def move(thing: Thing, f) -> Thing:
    if isinstance(thing, Value):
        return moved(thing, f)
    if isinstance(thing, np.ndarray):
        return f(thing)
    places = f(np.arange(thing.size).reshape(thing.shape))  # keys move as their positions do
    return thing.reshape(-1)[places]


def concrete(thing: Thing) -> np.ndarray:
    if isinstance(thing, Value):
        raise NeedsBranches("an index that depends on the inputs")
    return thing


def bind(primitive, *arrays, **params) -> Any:
    """Run the primitive on concrete arrays on the CPU, with 64-bit types kept."""
    with jax.enable_x64(True):
        out = applied(primitive.bind, *(np.asarray(a) for a in arrays), **params)
        return [np.asarray(o) for o in out] if primitive.multiple_results else np.asarray(out)


def _mover(f) -> Rule:
    """A rule made from ``f(array, params)``, which moves entries with NumPy."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        return [move(inputs[0], lambda part: f(part, params))]

    return rule


def _broadcast_in_dim(part: np.ndarray, params: dict, shape: tuple[int, ...]) -> np.ndarray:
    dimensions = params["broadcast_dimensions"]
    expanded = [1] * len(shape)
    for axis, dimension in enumerate(dimensions):
        expanded[dimension] = part.shape[axis]
    return np.broadcast_to(part.reshape(expanded), shape)


def _split(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    ends = np.cumsum(params["sizes"])[:-1]
    return [
        move(inputs[0], lambda part, i=i: np.split(part, ends, params["axis"])[i]) for i in range(len(params["sizes"]))
    ]


def joined(run: Run, parts: list[Thing], axis: int) -> Thing:
    """Concatenation."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts, axis)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if not all(isinstance(part, Value | np.ndarray) for part in parts):
        return jnp.concatenate(parts, axis)  # pyright: ignore[reportArgumentType, reportReturnType]
    values = [as_value(run, part) for part in parts]
    x = run.field.concatenate([v.x for v in values], axis)
    special = known = None
    if any(v.special is not None for v in values):
        special = np.concatenate([np.zeros(v.shape, np.int8) if v.special is None else v.special for v in values], axis)
    if all(v.known is not None for v in values):
        known = np.concatenate([v.known for v in values], axis)  # pyright: ignore[reportCallIssue, reportArgumentType]
    about = _joined_intervals(values, axis) if known is None else None
    return Value(
        x, _worst(values), known, special=special, about=about, kind=max(v.kind for v in values),
        positive=all(map(is_positive, values)), nonnegative=all(map(is_nonnegative, values)),
        error=max(v.error for v in values), most=max(v.most for v in values), constant=all(map(is_number, values)),
        everywhere=everywhere(*values), mask=any(v.mask for v in values),
    )  # fmt: skip


def _joined_intervals(values: list[Value], axis: int) -> Interval | None:
    bounds = [bound for v in values if (bound := interval(v)) is not None]
    if len(bounds) < len(values):
        return None
    low, high = (np.concatenate(ends, axis) for ends in zip(*bounds, strict=True))
    return low, high


def _worst(values: list[Value]) -> Bound:
    return reduce(Bound.worst, (v.degree for v in values))


def _concatenate(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    return [joined(run, inputs, params["dimension"])]


def _stack(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    axis = params.get("axis", params.get("dimension", 0))
    return [joined(run, [move(thing, lambda part: np.expand_dims(part, axis)) for thing in inputs], axis)]


def _unstack(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    return [move(inputs[0], lambda part, i=i: part.take(i, params["axis"])) for i in range(len(eqn.outvars))]


def move_by_positions(run: Run, operands: list[Thing], positions: np.ndarray, outside: Any = np.nan) -> Thing:
    """The entries at these positions in the flattened, concatenated operands; ``outside`` where a position is
    negative."""
    flat = [move(thing, lambda part: part.reshape(-1)) for thing in operands]
    pool = flat[0] if len(flat) == 1 else joined(run, flat, 0)
    missing = positions < 0
    if not missing.any():
        return move(pool, lambda part: part[positions])
    fill = np.array([outside], pool.dtype if isinstance(pool, np.ndarray) else np.float64)
    filler = fill if isinstance(pool, np.ndarray) else run.embed(fill)
    return move(joined(run, [pool, filler], 0), lambda part: part[np.where(missing, -1, positions)])


def _by_positions(movable: int) -> Rule:
    """A rule for a primitive whose first ``movable`` operands are moved and whose others are indices."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        operands, indices = inputs[:movable], [concrete(thing) for thing in inputs[movable:]]
        sizes = [int(np.prod(thing.shape)) for thing in operands]
        starts = np.cumsum([0, *sizes])
        positions = [
            np.arange(start, start + size).reshape(thing.shape)
            for start, size, thing in zip(starts, sizes, operands, strict=False)
        ]
        moved_positions = bind(eqn.primitive, *positions, *indices, **params)
        return [move_by_positions(run, operands, moved_positions)]

    return rule


def _gather(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    operand, indices = inputs[0], concrete(inputs[1])
    positions = np.arange(int(np.prod(operand.shape))).reshape(operand.shape)
    moved_positions = bind(eqn.primitive, positions, indices, **{**params, "fill_value": -1})
    fill = params.get("fill_value")
    if fill is None:
        fill = _fill_of(eqn.invars[0].aval.dtype)
    return [move_by_positions(run, [operand], moved_positions, as_dtype(fill, eqn.invars[0].aval.dtype))]


def _fill_of(dtype: Any) -> Any:
    """The value that a gather returns outside its operand by default."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return np.nan
    if jnp.issubdtype(dtype, jnp.unsignedinteger):
        return jnp.iinfo(dtype).max
    return True if dtype == np.bool_ else jnp.iinfo(dtype).min


def _pad(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    operand, padding = inputs
    size = int(np.prod(operand.shape))
    positions = bind(eqn.primitive, np.arange(size).reshape(operand.shape), np.asarray(size), **params)
    return [move_by_positions(run, [operand, move(padding, lambda part: part.reshape(1))], positions)]


def _dynamic_update_slice(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    return _by_positions(2)(run, inputs, params, eqn)


def _scatter(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    operand, indices, updates = inputs[0], concrete(inputs[1]), inputs[2]
    if params.get("update_jaxpr") is not None and not _replaces(params["update_jaxpr"]):
        raise NotUnderstood("a scatter with an update function of its own")
    size, more = (int(np.prod(thing.shape)) for thing in (operand, updates))
    positions = bind(
        eqn.primitive,
        np.arange(size).reshape(operand.shape),
        indices,
        np.arange(size, size + more).reshape(updates.shape),
        **{**params, "update_jaxpr": None, "update_consts": ()},
    )
    return [move_by_positions(run, [operand, updates], positions)]


def _replaces(update: Any) -> bool:
    """Whether a scatter's update function returns the new value."""
    jaxpr = getattr(update, "jaxpr", update)
    return not jaxpr.eqns and list(jaxpr.outvars) == [jaxpr.invars[1]]


def _scatter_add(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    operand, indices, updates = as_value(run, inputs[0]), concrete(inputs[1]), as_value(run, inputs[2])
    finite(operand, "a scatter")
    finite(updates, "a scatter")
    zeros = np.zeros(operand.shape)

    def scattered(part: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            kept = {key: params[key] for key in ("dimension_numbers", "mode")}
            return np.asarray(applied(lax.scatter_add, zeros, indices, part, **kept))

    added = Value(run.field.linear(updates.x, scattered), updates.degree.summed(max(updates.x.size, 1)),
                  kind=updates.kind, nonnegative=is_nonnegative(updates))  # fmt: skip
    return [run.add(operand, added)._replace(terms=())]


def _scatter_sub(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    operand, indices, updates = inputs
    return _scatter_add(run, [operand, indices, run.neg(as_value(run, updates))], params, eqn)


def _destinations(inputs: list[Thing], params: dict) -> np.ndarray:
    """For every entry of the updates, its position in the operand; -1 if it is dropped."""
    operand, indices, updates = inputs
    ones = np.arange(1.0, 1 + np.prod(operand.shape)).reshape(operand.shape)
    with jax.enable_x64(True):

        def scattered(part):
            return lax.scatter_add(
                jnp.zeros(operand.shape), concrete(indices), part, params["dimension_numbers"], mode=params["mode"]
            )

        (to,) = run_once(jax.linear_transpose(scattered, jax.ShapeDtypeStruct(updates.shape, np.float64)), ones)
    return np.asarray(to).astype(np.int64) - 1


def _scatter_one_by_one(combine) -> Rule:
    """A rule for scatter-mul and the like: updates that go to the same place are combined in their order."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        operand, updates = as_value(run, inputs[0]), as_value(run, inputs[2])
        for v in (operand, updates):
            finite(v, "a product of updates")
        to = _destinations(inputs, params).reshape(-1)
        flat, from_flat = (moved(v, lambda part: part.reshape(-1)) for v in (operand, updates))
        order = np.argsort(to, kind="stable")
        order = order[to[order] >= 0]
        turn = np.arange(order.size) - np.searchsorted(to[order], to[order])
        for k in range(int(turn.max(initial=-1)) + 1):
            now = order[turn == k]
            here = to[now]
            part = combine(run, moved(flat, lambda p, here=here: p[here]), moved(from_flat, lambda p, now=now: p[now]))
            flat = _replaced(run, flat, here, as_value(run, part))
        return [moved(flat, lambda part: part.reshape(operand.shape))]

    return rule


def _replaced(run: Run, flat: Value, here: np.ndarray, part: Value) -> Value:
    positions = np.arange(flat.x.size)
    positions[here] = flat.x.size + np.arange(here.size)
    return as_value(run, move_by_positions(run, [flat, part], positions))


def _iota(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    shape, dimension = params["shape"], params["dimension"]
    counted = np.arange(shape[dimension]).reshape([-1 if axis == dimension else 1 for axis in range(len(shape))])
    array = np.broadcast_to(counted, shape)
    return [run.embed(array) if jnp.issubdtype(params["dtype"], np.floating) else array.astype(params["dtype"])]


def _sort(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    if params["num_keys"] != 1:
        raise Unsupported("a sort by more than one key")
    axis = params["dimension"]
    order = sorting_order(run, inputs[0], axis)
    return [move(thing, lambda part: np.take_along_axis(part, order, axis)) for thing in inputs]


def sorting_order(run: Run, keys: Thing, axis: int) -> np.ndarray:
    """A random total order along the axis, a function of the distances from the mean and so invariant under shifts.

    Only in the branching reading. Two numbers are ordered by the sign of their difference.
    """
    numbers = keys if isinstance(keys, np.ndarray) else keys.known
    if numbers is not None:
        if isinstance(keys, Value) and keys.error:
            raise Unsupported("known numbers whose order rounding may decide")
        return np.argsort(np.asarray(numbers), axis, kind="stable")
    assert isinstance(keys, Value)
    finite(keys, "a sort")
    if not never_tie(run, keys, axis):
        raise NotUnderstood("an order of numbers that may be equal")
    if not run.branching:
        raise NeedsBranches("an order of unknown numbers")
    check_input(keys)
    run.unknown_comparisons += keys.x.size
    if keys.shape[axis] == 2:
        first, second = (moved(keys, lambda part, i=i: np.take(part, [i], axis)) for i in (0, 1))
        swap = np.asarray(greater(run, first, second)).astype(np.int64)
        return np.concatenate([swap, 1 - swap], axis)
    rank = ranks(run, keys, axis)
    return run.decide(np.argsort(rank, axis, kind="stable"), np.abs(rank) - 1)


def ranks(run: Run, keys: Value, axis: int, counted: np.ndarray | None = None) -> np.ndarray:
    """Random ranks that define the keys' order. Negated keys get negated ranks, and a key that equals the mean gets 0.
    ``counted``: which keys are finite."""
    counts = np.full(keys.shape, keys.shape[axis]) if counted is None else counted.sum(axis, keepdims=True)
    mean = run.field.sum(keys.x, (axis,)).move(lambda part: np.expand_dims(part, axis))
    centred = run.field.sub(run.field.mul(keys.x, run.field.of(np.broadcast_to(counts, keys.shape))), mean)
    run.asked(keys)
    flipped, canonical = run.canonical(centred)
    rank = np.where(run.field.is_zero(centred), 0, run.oracle("rank", canonical).re + 1)
    return np.where(flipped, -rank, rank)


def _top_k(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    axis = params.get("axis", -1) % len(inputs[0].shape)
    if isinstance(inputs[0], np.ndarray):
        raise Unsupported("an order of integers")
    finite(as_value(run, inputs[0]), "a descending order")  # NaN comes first in top_k, and last in a sort
    order = sorting_order(run, run.neg(inputs[0]), axis)
    order = np.take(order, np.arange(params["k"]), axis)
    return [move(inputs[0], lambda part: np.take_along_axis(part, order, axis)), order.astype(np.int32)]


LAYOUT: dict[str, Rule] = {
    **{name: _mover(view) for name, view in VIEWS.items()},
    "broadcast_in_dim": lambda run, inputs, params, eqn: [
        move(inputs[0], lambda p: _broadcast_in_dim(p, params, run.shape_of(params["shape"])))
    ],
    "expand_dims": _mover(lambda part, params: np.expand_dims(part, params["dimensions"])),
    "tile": _mover(lambda part, params: np.tile(part, params["reps"])),
    "split": _split,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "pad": _pad,
    "gather": _gather,
    "dynamic_slice": _by_positions(1),
    "dynamic_update_slice": _dynamic_update_slice,
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "scatter_add": _scatter_add,
    "scatter-sub": _scatter_sub,
    "scatter_sub": _scatter_sub,
    "scatter-mul": _scatter_one_by_one(lambda run, a, b: run.mul(a, b)),
    "scatter_mul": _scatter_one_by_one(lambda run, a, b: run.mul(a, b)),
    "iota": _iota,
    "sort": _sort,
    "top_k": _top_k,
    "device_put": lambda run, inputs, params, eqn: list(inputs),
    "name": lambda run, inputs, params, eqn: list(inputs),
    "sharding_constraint": lambda run, inputs, params, eqn: list(inputs),
}
