"""Candidates weighed: the user's function with one edit, run in the field.

Most mistakes are in the backward pass of a ``custom_vjp``: then that alone is traced and run, on the residuals and
cotangents that the rule has anyway.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from handprop.verify import jaxprs
from handprop.verify.field.interpreter import evaluate
from handprop.verify.field.truth import Thing, as_value
from handprop.verify.field.values import Value
from handprop.verify.mistakes.bench import Bench, run_on
from handprop.verify.mistakes.source import functions, rebuilt
from handprop.verify.subject import Subject

__all__ = ["Backward", "Tried", "backward_of", "weigh"]


class Tried(NamedTuple):
    """The user's function with the edit, and its outputs on each bench."""

    rule: Any
    outputs: tuple[tuple[Value, ...], ...]


class Backward(NamedTuple):
    """A rule's backward pass on its own. ``rebuild`` puts its arrays among its arguments; ``made`` says which of what
    it returns is which output of the hand program; ``codes`` are those that only it runs."""

    rebuild: Callable[[Sequence[Any]], tuple]
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    inputs: tuple[tuple[Thing, ...], ...]
    outputs: tuple[tuple[Value, ...], ...]
    made: dict[int, int]
    returned: Any
    codes: frozenset[types.CodeType]


def backward_of(subject: Subject, benches: Sequence[Bench]) -> Backward | None:
    """None where what is handed over is no plain ``custom_vjp``, or more happens after its backward pass."""
    rule = subject.written
    if not isinstance(rule, jax.custom_vjp) or subject.as_program is None:
        return None
    calls: list[tuple[tuple, Any]] = []
    kept = rebuilt(rule, {})
    backward = kept.bwd

    def noted(*args: Any) -> Any:
        out = backward(*args)
        calls.append((args, out))
        return out

    kept.bwd = noted
    program = subject.as_program(kept)

    def flat(*inputs: Any) -> tuple:
        calls.clear()
        outputs = program(*inputs)
        args, out = calls[0]
        return (*outputs, *(x for x in jax.tree.leaves(args) if _is_array(x)), *jax.tree.leaves(out))

    try:
        whole = jaxprs.trace(flat, subject.inputs)
        values = [tuple(evaluate(bench.run(), whole, list(bench.inputs))) for bench in benches]
    except Exception:  # the pass runs inside a loop, or not at all
        return None
    if len(calls) != 1:
        return None
    (args, out), outvars = calls[0], whole.jaxpr.outvars
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, x in enumerate(leaves) if _is_array(x)]
    first, last = len(subject.out_paths), len(subject.out_paths) + len(places)
    made: dict[int, int] = {}
    for i in (i for i in range(first) if subject.gradients[i]):
        # One array may be returned as several gradients.
        k = next((k for k, v in enumerate(outvars[last:]) if v is outvars[i] and k not in made.values()), None)
        made |= {} if k is None else {i: k}
    if set(made) != {i for i in range(first) if subject.gradients[i]}:
        return None

    def put(arrays: Sequence[Any]) -> tuple:
        return jax.tree.unflatten(tree, jaxprs.with_replaced(leaves, places, arrays))

    elsewhere = {f.__code__ for part in (rule.fwd, rule.fun) for f in functions(part, rule)}
    codes = frozenset(f.__code__ for f in functions(rule.bwd, rule) if f.__code__ not in elsewhere)
    shapes = tuple(jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in places)
    outputs = tuple(tuple(as_value(b.run(), x) for x in v[:first]) for b, v in zip(benches, values, strict=True))
    inputs = tuple(v[first:last] for v in values)
    return Backward(put, shapes, inputs, outputs, made, jax.tree.structure(out), codes)


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array) and x.dtype != jax.dtypes.float0


def weigh(subject: Subject, benches: Sequence[Bench], backward: Backward | None,
          codes: dict[types.CodeType, types.CodeType]) -> Tried | None:  # fmt: skip
    """The user's function with other codes for some; None where it does not run, or returns other shapes."""
    try:
        rule = rebuilt(subject.written, codes)
        if backward is not None and backward.codes.issuperset(codes):
            return _weigh_backward(benches, backward, rule, subject)
        program = jaxprs.trace(subject.as_program(rule), subject.inputs)  # pyright: ignore[reportOptionalCall]
        outputs = tuple(run_on(bench, program) for bench in benches)
    except Exception:  # most edits make no program
        return None
    shapes = [v.shape for v in benches[0].want]
    return Tried(rule, outputs) if [v.shape for v in outputs[0]] == shapes else None


def _weigh_backward(benches: Sequence[Bench], backward: Backward, rule: Any, subject: Subject) -> Tried | None:
    with jax.enable_x64(jaxprs.wide(subject.inputs) or jax.config.jax_enable_x64):  # pyright: ignore[reportAttributeAccessIssue]
        program, out = jax.make_jaxpr(lambda *a: rule.bwd(*backward.rebuild(a)), return_shape=True)(*backward.shapes)
    shapes = [v.aval.shape for v in program.jaxpr.outvars]
    if jax.tree.structure(out) != backward.returned:
        return None
    if any(shapes[k] != benches[0].want[i].shape for i, k in backward.made.items()):
        return None
    found = []
    for n, bench in enumerate(benches):
        run = bench.run()
        got = [as_value(run, o) for o in evaluate(run, program, list(backward.inputs[n]))]
        found.append(tuple(got[backward.made[i]] if i in backward.made else v
                           for i, v in enumerate(backward.outputs[n])))  # fmt: skip
    return Tried(rule, tuple(found))
