"""Operations that a program can do without: guards that hold a number away from where a function has no value, and
roundings.

A gradient may be the derivative but for guards in the rule, or the derivative of the function without its roundings,
which is what a straight-through gradient is. To find out, the operations are left out: each passes its operand on.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.programs import jaxprs, running
from handprop.verifier.programs.walk import Shallow

__all__ = ["Operation", "operations_of", "run_without", "said_of"]

SMALL = 1e-3  # the most that is added to a number to keep it away from 0
NARROW = 8  # bits
MOVES = ("broadcast_in_dim", "reshape", "squeeze", "copy", "convert_element_type", "stop_gradient", "expand_dims")
OPERATORS = {"neg": operator.neg, "add": operator.add, "sub": operator.sub, "mul": operator.mul}
TESTS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ROUNDINGS = {"round": "rounded", "floor": "rounded down", "ceil": "rounded up"}
BOUNDS = {"max": "or more", "min": "or less"}


class Operation(NamedTuple):
    """An equation that can be left out: which operand it passes on, and what it does to ``operand``, in words."""

    keeps: int
    kind: str
    operand: str
    says: str


class What(NamedTuple):
    """What is known of a value: its only number, its name, whether only constants and scalar arguments enter it,
    whether a cotangent does, the operation that it came out of, and whether it is a test for the few places where a
    function has no value."""

    number: float | None = None
    name: str = ""
    settled: bool = False
    varies: bool = False
    came_from: int | None = None
    guards: bool = False


class _Reader(Shallow):
    """Finds the operations of a program, in their order; loops and branches are not entered."""

    def __init__(self):
        self.found: dict[int, Operation] = {}
        self.refused: set[int] = set()
        self.kept: list[Any] = []  # the equations, so that no other has the id of one

    def constant(self, const: Any) -> What:
        if jaxprs.is_key(const):
            return What(settled=True)
        held = np.asarray(const)
        if held.dtype.kind not in "fiub" or not held.size or not (held == held.flat[0]).all():
            return What(settled=True)
        return What(float(held.flat[0]), f"{float(held.flat[0]):.7g}", True)

    def primitive(self, eqn: Any, operands: list[What]) -> list[What]:
        name = eqn.primitive.name
        operation = _operation(eqn, operands)
        if operation is None or self.found.get(id(eqn), operation)[:2] != operation[:2]:
            self.refused.add(id(eqn))
        self.kept.append(eqn)
        if operation is not None:
            self.found.setdefault(id(eqn), operation)
            return [operands[operation.keeps]._replace(came_from=id(eqn))]
        if name == "div" and (source := operands[1].came_from) in self.found and not self.found[source].operand:
            self.found[source] = self.found[source]._replace(operand="a denominator")
        if name in MOVES:
            return [operands[0]]
        settled = all(x.settled for x in operands)
        numbers = [x.number for x in operands]
        if name in OPERATORS and None not in numbers:
            number = OPERATORS[name](*numbers)
            return [What(number, f"{number:.7g}", True)]
        if name in TESTS:
            few = name in ("eq", "ne") or any(n is not None and 0 < abs(n) <= SMALL for n in numbers)
            named = f"{operands[0].name} {TESTS[name]} {operands[1].name}" if all(x.name for x in operands) else ""
            return [What(name=named, settled=settled, guards=few)]
        few = name == "is_finite" or (name in ("not", "and", "or") and all(x.guards for x in operands))
        return [What(settled=settled, varies=any(x.varies for x in operands), guards=few) for _ in eqn.outvars]


def _operation(eqn: Any, operands: list[What]) -> Operation | None:
    name = eqn.primitive.name
    said = [x.name or ("a cotangent in it" if x.varies else "") for x in operands]
    if name in ROUNDINGS:
        return Operation(0, "rounding", said[0], ROUNDINGS[name])
    if name == "convert_element_type" and _is_narrowed(eqn):
        return Operation(0, "rounding", said[0], f"rounded to {eqn.params['new_dtype']}")
    if name == "clamp" and operands[0].settled and operands[2].settled and not operands[1].settled:
        low, high = (_named(operands[i]) for i in (0, 2))
        return Operation(1, "clip", said[1], f"kept between {low} and {high}")
    if len(operands) == 2 and operands[0].settled is operands[1].settled:
        return None
    if name in BOUNDS:
        other = int(operands[1].settled)
        if operands[other].number == 0:  # a relu
            return None
        return Operation(1 - other, "clip", said[1 - other], f"kept at {_named(operands[other])} {BOUNDS[name]}")
    if name == "add":
        other = int(operands[1].settled)
        number = operands[other].number
        if number is None or not 0 < number <= SMALL:
            return None
        return Operation(1 - other, "added", said[1 - other], f"increased by {_named(operands[other])}")
    if name == "select_n" and len(operands) == 3 and operands[1].settled is not operands[2].settled:
        other = 2 if operands[2].settled else 1
        if operands[other].number is None or operands[0].settled or not operands[0].guards:
            return None
        when = operands[0].name or "a condition"
        holds = ("where {} holds" if not operands[0].name else "where {}") if other == 2 else "where {} does not hold"
        return Operation(3 - other, "replaced", said[3 - other],
                         f"replaced by {operands[other].name} {holds.format(when)}")  # fmt: skip
    return None


def _is_narrowed(eqn: Any) -> bool:
    """Whether a float becomes an integer, or a float of few bits."""
    before, after = np.dtype(eqn.invars[0].aval.dtype), np.dtype(eqn.params["new_dtype"])
    if not jaxprs.is_float(before):
        return False
    if jaxprs.is_float(after):
        return ml_dtypes.finfo(after).bits <= NARROW < ml_dtypes.finfo(before).bits
    return np.issubdtype(after, np.integer)


def _named(x: What) -> str:
    return x.name or "a number"


def operations_of(program: Any, paths: Sequence[str], cotangents: Sequence[int]) -> dict[int, Operation]:
    """Return the operations of a closed jaxpr whose inputs have these paths, by their equations' ids."""
    reader = _Reader()
    reader.evaluate(program, [What(name="the cotangent", varies=True) if i in cotangents else What(
        name=path, settled=jaxprs.is_float(v.aval.dtype) and not v.aval.shape)
        for i, (path, v) in enumerate(zip(paths, program.jaxpr.invars, strict=True))])  # fmt: skip
    return {key: found for key, found in reader.found.items() if key not in reader.refused}


def run_without(program: Any, inputs: Sequence[Any], operations: dict[int, Operation],
                left_out: Callable[[int], Any]) -> list[Any]:  # fmt: skip
    """Run the program without those of its operations, counted from 0, that are ``left_out``; this may be traced."""
    places = {key: (i, found.keeps) for i, (key, found) in enumerate(operations.items())}

    def leaf(eqn: Any, values: list[Any]) -> list[Any]:
        if id(eqn) not in places:
            return running.bind(eqn, _as_declared(eqn, values))
        place, keeps = places[id(eqn)]
        (made,) = running.bind(eqn, values)
        kept = jnp.broadcast_to(values[keeps], made.shape)
        if not jaxprs.is_float(made.dtype) or kept.dtype != made.dtype:  # what is rounded stays a float of its width
            made = made.astype(kept.dtype)
        return [jnp.where(left_out(place), kept, made)]

    return running.run(program, inputs, leaf)


def _as_declared(eqn: Any, values: list[Any]) -> list[Any]:
    """The operands; one of few bits that has been kept as a wide float is one again where they have to agree."""
    if eqn.primitive.name == "convert_element_type":
        return values
    wide = {x.dtype for x, v in zip(values, eqn.invars, strict=True) if jaxprs.is_float(x.dtype) and
            x.dtype != v.aval.dtype}  # fmt: skip
    if not wide:
        return values
    return [x.astype(max(wide, key=lambda dtype: dtype.itemsize)) if x.dtype != bool else x for x in values]


def said_of(operations: Sequence[Operation]) -> str:
    """What the operations do, in words; two bounds of one number are a range."""
    said: dict[str, list[str]] = {}
    for one in operations:
        said.setdefault(one.operand or "a number in it", []).append(one.says)
    return " and ".join(f"{of} {' and '.join(_as_range(dict.fromkeys(says)))}" for of, says in said.items())


def _as_range(says: Any) -> list[str]:
    low = [s for s in says if s.startswith("kept at ") and s.endswith(BOUNDS["max"])]
    high = [s for s in says if s.startswith("kept at ") and s.endswith(BOUNDS["min"])]
    if len(low) != 1 or len(high) != 1:
        return list(says)
    (least,), (most,) = ([s.removeprefix("kept at ").rpartition(" or ")[0] for s in one] for one in (low, high))
    return [f"kept between {least} and {most}", *(s for s in says if s not in (*low, *high))]
