"""Instrument a statement while its program runs over the field.

This shows the values of the statement's expressions and of the names in its scope, and what the outputs become if one
expression's value is shifted. The expressions are marked with equations that do nothing (``checkpoint_name``). For the
shifts, the marked program is traced once more with its loops unrolled and a shift added at every mark, and a batch of
shifts runs at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from handprop.verifier.programs import jaxprs, running
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation

__all__ = ["Instrumented", "Iteration", "instrument", "is_held", "mark_name", "mark_value", "shifted"]

TAG = "handprop:"
MAX_TURNS = 64


class Iteration(NamedTuple):
    """One run of the statement: the ``names`` in scope, their ``shapes``, and the ``values`` of its expressions."""

    names: dict[str, Thing]
    shapes: dict[str, jax.ShapeDtypeStruct]
    values: dict[int, Value]


class Instrumented(NamedTuple):
    """A marked program in an interpretation, with the statement's ``iterations`` and the program's ``outputs``."""

    interpretation: Interpretation
    program: Any
    iterations: tuple[Iteration, ...]
    outputs: tuple[Value, ...]


def mark_name(name: str, held: Any) -> None:
    """Mark a name in the statement's scope; called while the statement is traced."""
    if is_held(held):
        checkpoint_name(jnp.asarray(held), f"{TAG}{name}")


def mark_value(number: int, value: Any) -> Any:
    """Mark the value of one of the statement's expressions and return it; called while the statement is traced."""
    return checkpoint_name(value, f"{TAG}{number}") if isinstance(value, jax.Array) and is_held(value) else value


def is_held(held: Any) -> bool:
    """Whether what a name refers to can be marked: an array of numbers, or a number."""
    if isinstance(held, jax.Array | np.ndarray | np.generic):
        return not jaxprs.is_key(held)
    return isinstance(held, int | float) and not isinstance(held, bool)


def instrument(interpretation: Interpretation, program: Any) -> Instrumented | None:
    """Run the marked program and collect what was marked.

    Returns None if the statement does not run, runs too often, or has a name whose shape differs between iterations.
    Names that only later iterations have do not count.
    """
    iterations: list[Iteration] = []

    def observer(eqn: Any, operands: list[Thing], step: Any) -> list[Thing]:
        label = _label(eqn)
        if label is None:
            return step(eqn, operands)
        _note(iterations, label, operands[0], eqn)
        return operands

    run = interpretation.run(observer)
    outputs = tuple(as_value(run, o) for o in evaluate(run, program, list(interpretation.inputs)))
    first = iterations[0] if iterations else None
    if first is None or len(iterations) > MAX_TURNS:
        return None
    if any(not first.shapes.items() <= t.shapes.items() or t.values.keys() != first.values.keys() for t in iterations):
        return None
    return Instrumented(interpretation, program, tuple(iterations), outputs)


def shifted(instrumented: Instrumented, shifts: Mapping[int, Sequence[Elements]]) -> list[Elements]:
    """Return the outputs for a batch of shifts, with a new leading batch axis.

    ``shifts`` holds an array for each expression and iteration, with the same leading axis.
    """
    order = [(number, iteration) for number in shifts for iteration in range(len(instrumented.iterations))]
    given = [shifts[number][iteration] for number, iteration in order]

    def program(*inputs: Any) -> list[Any]:
        extra = dict(zip(order, inputs[: len(order)], strict=True))
        met: dict[int, int] = {}

        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            label = _label(eqn)
            if label is None:
                return running.bind(eqn, values)
            if not label.isdecimal():
                return values
            number = int(label)
            iteration = met[number] = met.get(number, -1) + 1
            shift = extra.get((number, iteration))
            if shift is None:
                return values
            dtype = values[0].dtype if jaxprs.is_float(values[0].dtype) else shift.dtype
            return [values[0].astype(dtype) + shift.astype(dtype)]

        return running.run(instrumented.program, inputs[len(order) :], leaf, unrolled=True)

    interpretation = instrumented.interpretation
    like = [jax.ShapeDtypeStruct(x.shape, np.float32) for x in given]
    axes = [0] * len(order) + [None] * len(interpretation.shapes)
    batched = jaxprs.trace(jax.vmap(program, in_axes=axes), [*like, *interpretation.shapes])
    run = interpretation.run()
    values = [Value(x) for x in given]
    return [as_value(run, o).x for o in evaluate(run, batched, [*values, *interpretation.inputs])]


def _label(eqn: Any) -> str | None:
    name = str(eqn.params.get("name", "")) if eqn.primitive.name == "name" else ""
    return name.removeprefix(TAG) if name.startswith(TAG) else None


def _note(iterations: list[Iteration], label: str, operand: Thing, eqn: Any) -> None:
    """Record what is marked. An iteration's names come before its expressions, and each expression comes once."""
    number = int(label) if label.isdecimal() else None
    values = iterations[-1].values if iterations else {}
    if not iterations or (values and number is None) or number in values:
        iterations.append(Iteration({}, {}, {}))
    if number is not None:
        iterations[-1].values[number] = operand  # pyright: ignore[reportArgumentType]
        return
    aval = eqn.invars[0].aval
    iterations[-1].names[label] = operand
    iterations[-1].shapes[label] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
