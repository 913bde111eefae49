"""Evaluate programs that differ little from each other: an equation whose operands were met before is not run again.

Two edited programs share most of their equations. An equation is recognized by its primitive, its parameters as text
(:mod:`programs.labels`), and its operands: integers by their contents, values of the field by identity. Identity
suffices, because inputs and literals are the same objects in every run, and so are the results that are kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.labels import label_of
from handprop.verifier.proof.field.errors import OutOfWork
from handprop.verifier.proof.field.interpreter import OverTheField
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value

__all__ = ["Results", "evaluate_again", "evaluate_apart"]

MAX_ENTRIES = 1 << 23  # entries of arrays that are kept: about 100 MB


class Results:
    """What equations gave, with their operands, so that these keep their identities."""

    def __init__(self) -> None:
        self.kept: dict[tuple, tuple[list[Thing], list[Thing]]] = {}
        self.entries = 0

    def add(self, key: tuple, operands: list[Thing], outputs: list[Thing]) -> None:
        size = sum(x.x.size if isinstance(x, Value) else 1 for x in outputs)
        if self.entries + size <= MAX_ENTRIES:
            self.entries += size
            self.kept[key] = operands, outputs


def evaluate_again(run: Run, results: Results, program: Any, inputs: Sequence[Thing]) -> list[Thing]:
    """Return the outputs of a program at these inputs, with the results of equations that were met before."""
    return _WithResults(run, results).evaluate(program, inputs)


def evaluate_apart(run: Run, results: Results, program: Any, inputs: Sequence[Thing]) -> list[Any]:
    """As :func:`evaluate_again`, but an equation that the field cannot evaluate costs only what depends on it: None."""
    return _Apart(run, results).evaluate(program, inputs)


class _WithResults(OverTheField):
    def __init__(self, run: Run, results: Results):
        super().__init__(run)
        self.results = results

    def around(self, eqn: Any, operands: list[Any]) -> list[Any]:
        key = _key(eqn, operands)
        if key in self.results.kept:
            return self.results.kept[key][1]
        outputs = super().around(eqn, operands)
        if key is not None:
            self.results.add(key, operands, outputs)
        return outputs

    def entry(self, x: Thing, i: int) -> Thing:
        if not isinstance(x, Value):
            return super().entry(x, i)
        key = ("entry", id(x), i)
        if key not in self.results.kept:
            entry = super().entry(x, i)
            self.results.add(key, [x], [entry])
            return entry
        return self.results.kept[key][1][0]


class _Apart(_WithResults):
    depth = 0

    def around(self, eqn: Any, operands: list[Any]) -> list[Any]:
        if any(thing is None for thing in operands):
            return [None] * len(eqn.outvars)
        self.depth += 1
        try:
            return super().around(eqn, operands)
        except OutOfWork:
            raise
        except Exception as error:  # of a program that nobody wrote
            if self.depth > 1:
                raise
            noted(error)
            return [None] * len(eqn.outvars)
        finally:
            self.depth -= 1


def _key(eqn: Any, operands: list[Thing]) -> tuple | None:
    """What an equation with its operands is recognized by; None if it is never remembered.

    A call of a program is not, because the equations of that program are.
    """
    if eqn.effects or jaxprs.called_program(eqn) is not None:
        return None
    seen = [_seen(thing) for thing in operands]
    return None if None in seen else (eqn.primitive.name, label_of(eqn.params, eqn.primitive), *seen)


def _seen(thing: Thing) -> Any:
    if isinstance(thing, Value):
        return id(thing)
    if not isinstance(thing, np.ndarray | np.generic):  # keys, and pivots that are not known
        return None
    return thing.dtype.str, thing.shape, thing.tobytes()
