"""Evaluate the user's function, with edits applied, over the finite field.

Most mistakes are in the backward pass of a ``custom_vjp``. An edit there needs only that pass to be traced and run, on
the residuals and cotangents that the rule computes anyway.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from handprop.verifier.internal import call_users, noted
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation, results_of, run_on
from handprop.verifier.repair.remembered import evaluate_again
from handprop.verifier.repair.source.functions import functions, rebuilt

__all__ = ["Backward", "EditResult", "backward_of", "evaluate_edit"]


class EditResult(NamedTuple):
    """The user's function with the edit, and its outputs in each interpretation."""

    rule: Any
    outputs: tuple[tuple[Value, ...], ...]


class Backward(NamedTuple):
    """A rule's backward pass on its own.

    ``rebuild`` restores its arguments from their arrays. ``made`` maps each gradient among the candidate's outputs to
    the leaf of the pass's result that it is. ``codes`` are the code objects that only this pass runs.
    """

    rebuild: Callable[[Sequence[Any]], tuple]
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    inputs: tuple[tuple[Thing, ...], ...]
    outputs: tuple[tuple[Value, ...], ...]
    made: dict[int, int]
    returned: Any
    codes: frozenset[types.CodeType]


def backward_of(problem: Problem, interpretations: Sequence[Interpretation]) -> Backward | None:
    """Trace a rule's backward pass on its own.

    Returns None if the user's object is not a plain ``custom_vjp``, or if work follows its backward pass.
    """
    rule = problem.written
    if not isinstance(rule, jax.custom_vjp) or problem.as_program is None:
        return None
    calls: list[tuple[tuple, Any]] = []
    kept = rebuilt(rule, {})
    backward = kept.bwd

    def kept_bwd(*args: Any) -> Any:
        out = backward(*args)
        calls.append((args, out))
        return out

    kept.bwd = kept_bwd
    program = problem.as_program(kept)

    def flat(*inputs: Any) -> tuple:
        calls.clear()
        outputs = program(*inputs)
        args, out = calls[0] if calls else ((), ())
        return (*outputs, *(x for x in jax.tree.leaves(args) if _is_array(x)), *jax.tree.leaves(out))

    try:
        whole = jaxprs.trace(flat, problem.inputs)
        values = [
            tuple(evaluate(interpretation.run(), whole, list(interpretation.inputs)))
            for interpretation in interpretations
        ]
    except Exception as error:  # the pass runs inside a loop, or does not run at all
        noted(error)
        return None
    if len(calls) != 1:
        return None
    (args, out), outvars = calls[0], whole.jaxpr.outvars
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, x in enumerate(leaves) if _is_array(x)]
    first, last = len(problem.out_paths), len(problem.out_paths) + len(places)
    made: dict[int, int] = {}
    for i in (i for i in range(first) if problem.gradients[i]):
        # The pass may return the same array as several gradients.
        k = next((k for k, v in enumerate(outvars[last:]) if v is outvars[i] and k not in made.values()), None)
        made |= {} if k is None else {i: k}
    if set(made) != {i for i in range(first) if problem.gradients[i]}:
        return None

    def put(arrays: Sequence[Any]) -> tuple:
        return jax.tree.unflatten(tree, jaxprs.with_replaced(leaves, places, arrays))

    elsewhere = {f.__code__ for part in (rule.fwd, rule.fun) for f in functions(part, rule)}
    codes = frozenset(f.__code__ for f in functions(rule.bwd, rule) if f.__code__ not in elsewhere)
    shapes = tuple(jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in places)
    outputs = tuple(
        tuple(as_value(b.run(), x) for x in v[:first]) for b, v in zip(interpretations, values, strict=True)
    )
    inputs = tuple(v[first:last] for v in values)
    return Backward(put, shapes, inputs, outputs, made, jax.tree.structure(out), codes)


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array) and x.dtype != jax.dtypes.float0


def evaluate_edit(problem: Problem, interpretations: Sequence[Interpretation], backward: Backward | None,
          codes: dict[types.CodeType, types.CodeType]) -> EditResult | None:  # fmt: skip
    """Evaluate the user's function with some code objects replaced.

    Returns None if the result does not run, or if it returns other shapes.
    """
    try:
        rule = rebuilt(problem.written, codes)
        if backward is not None and backward.codes.issuperset(codes):
            return _weigh_backward(interpretations, backward, rule, problem)
        program = jaxprs.trace(problem.as_program(rule), problem.inputs)  # pyright: ignore[reportOptionalCall]
        outputs = tuple(run_on(interpretation, program) for interpretation in interpretations)
    except Exception as error:  # most edits do not give a program that runs
        noted(error)
        return None
    shapes = [v.shape for v in interpretations[0].want]
    return EditResult(rule, outputs) if [v.shape for v in outputs[0]] == shapes else None


def _weigh_backward(
    interpretations: Sequence[Interpretation], backward: Backward, rule: Any, problem: Problem
) -> EditResult | None:
    with jax.enable_x64(jaxprs.wide(problem.inputs) or jax.config.jax_enable_x64):  # pyright: ignore[reportAttributeAccessIssue]
        bwd = jax.make_jaxpr(lambda *a: call_users(rule.bwd, *backward.rebuild(a)), return_shape=True)
        program, out = bwd(*backward.shapes)
    shapes = [v.aval.shape for v in program.jaxpr.outvars]
    if jax.tree.structure(out) != backward.returned:
        return None
    if any(shapes[k] != interpretations[0].want[i].shape for i, k in backward.made.items()):
        return None
    found = []
    for n, interpretation in enumerate(interpretations):
        run, results = interpretation.run(), results_of(interpretation)
        got = [as_value(run, o) for o in evaluate_again(run, results, program, backward.inputs[n])]
        found.append(tuple(got[backward.made[i]] if i in backward.made else v
                           for i, v in enumerate(backward.outputs[n])))  # fmt: skip
    return EditResult(rule, tuple(found))
