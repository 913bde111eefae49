"""A statement instrumented while its program runs in the field: what its expressions and the names around it stand for,
and what the outputs become where one expression's value is shifted.

The expressions are marked with equations that do nothing (``checkpoint_name``). For the shifts the marked program is
traced once more, loops unrolled, a shift added at every mark, and a batch of shifts is run at once.
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

__all__ = ["Instrumented", "Iteration", "instrument", "mark_name", "mark_value", "shifted"]

TAG = "handprop:"
MAX_TURNS = 64


class Iteration(NamedTuple):
    """One run of the statement: ``names``, and the shapes they have in the program; ``values`` of its expressions."""

    names: dict[str, Thing]
    shapes: dict[str, jax.ShapeDtypeStruct]
    values: dict[int, Value]


class Instrumented(NamedTuple):
    """A marked program in an interpretation, and what was seen: the statement's ``iterations``, and the ``outputs``."""

    interpretation: Interpretation
    program: Any
    iterations: tuple[Iteration, ...]
    outputs: tuple[Value, ...]


def mark_name(name: str, held: Any) -> None:
    """Called while the statement is traced, for every name around it."""
    if _is_held(held):
        checkpoint_name(jnp.asarray(held), f"{TAG}{name}")


def mark_value(number: int, value: Any) -> Any:
    """Called while the statement is traced, for every expression of it: the value itself."""
    return checkpoint_name(value, f"{TAG}{number}") if isinstance(value, jax.Array) and _is_held(value) else value


def _is_held(held: Any) -> bool:
    if isinstance(held, jax.Array | np.ndarray | np.generic):
        return not jnp.issubdtype(held.dtype, jax.dtypes.extended)
    return isinstance(held, int | float) and not isinstance(held, bool)


def instrument(interpretation: Interpretation, program: Any) -> Instrumented | None:
    """None where the statement does not run, runs often, or a name is not the same array in every turn."""
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
    if any(t.shapes != first.shapes or t.values.keys() != first.values.keys() for t in iterations):
        return None
    return Instrumented(interpretation, program, tuple(iterations), outputs)


def shifted(instrumented: Instrumented, shifts: Mapping[int, Sequence[Elements]]) -> list[Elements]:
    """The outputs, a first axis more, for a batch of shifts: for each expression and turn, one more axis too."""
    order = [(number, iteration) for number in shifts for iteration in range(len(instrumented.iterations))]
    given = [shifts[number][iteration] for number, iteration in order]

    def program(*inputs: Any) -> list[Any]:
        extra = dict(zip(order, inputs[: len(order)], strict=True))
        met: dict[int, int] = {}

        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            label = _label(eqn)
            if label is None:
                return running.bound(eqn, values)
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
    """Keeps what is marked: a turn's names come before its expressions, and each expression once."""
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
