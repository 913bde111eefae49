"""Tools for the search for an edit: run the user's function with edits, and look up what is in a statement's scope."""

import ast
import copy
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.edits.integers import Integers
from handprop.verifier.repair.evaluate import Backward, EditResult, evaluate_edit
from handprop.verifier.repair.interpretation import Interpretation
from handprop.verifier.repair.source.functions import DoesNotCompile, Place, compiled, functions, rebuilt
from handprop.verifier.repair.source.trees import AtHand, Edit, asked_before, slots

__all__ = ["Change", "Found", "Search", "at_hand", "attempt", "edited", "integers_at_hand", "names_there"]

PROBE = "__handprop_at_hand__"
TRACED = 40  # steps of work that take as long as tracing one edited program


Change: TypeAlias = tuple[Place, Edit]


class Found(NamedTuple):
    """Edits of different statements, usually one, and the user's function with them.

    If there are several, ``mends`` holds the outputs that each edit makes right.
    """

    changes: tuple[Change, ...]
    rule: Any
    mends: tuple[frozenset[int], ...] = ()


class Search(NamedTuple):
    """The state of a search.

    ``whole`` is the problem at the shapes that were asked about. ``got`` holds the outputs without an edit in each
    interpretation, or is None if the rule does not run. ``known`` are values of the reference, and ``numbers`` are
    literals that may be meant.
    """

    problem: Problem
    whole: Problem
    interpretations: tuple[Interpretation, ...]
    live: list[types.FunctionType]
    got: tuple[tuple[Value, ...], ...] | None
    options: Options
    backward: Backward | None
    known: tuple[Thing, ...]
    numbers: tuple[float, ...]


def edited(changes: Sequence[Change], then: Callable[[], Any]) -> Any:
    """Return ``then()``, called while the edits are in place in their trees."""
    try:
        for _, edit in changes:
            edit.slot.put(ast.fix_missing_locations(ast.copy_location(copy.deepcopy(edit.new), edit.slot.node)))
        return then()
    finally:
        for _, edit in changes:
            edit.slot.put(edit.slot.node)


def attempt(search: Search, changes: Sequence[Change]) -> EditResult | None:
    """Run the user's function with the edits; None if it does not run."""
    try:
        codes = edited(changes, lambda: {place.code: compiled(place) for place, _ in changes})
    except DoesNotCompile:
        return None
    search.interpretations[0].work.add(0, TRACED)
    return evaluate_edit(search.problem, search.interpretations, search.backward, codes)


def at_hand(there: Mapping[str, Any]) -> dict[str, AtHand]:
    """Return the arrays among what names refer to where a statement runs."""
    held = ((name, x) for name, x in there.items() if hasattr(x, "shape") and hasattr(x, "dtype"))
    return {name: AtHand(tuple(x.shape), jaxprs.is_float(x.dtype)) for name, x in held}


def integers_at_hand(search: Search, there: Mapping[str, Any]) -> Integers:
    """Return the names of integers where a statement runs, those of the module that the user's functions read too."""
    read = {f: f.__code__.co_names for f in functions(search.problem.written)}
    held = {name: f.__globals__[name] for f, names in read.items() for name in names if name in f.__globals__}
    held |= there
    kinds = {name: np.ndim(x) for name, x in held.items() if _is_integer(x)}
    return Integers(tuple(n for n, rank in kinds.items() if not rank), tuple(n for n, rank in kinds.items() if rank))


def _is_integer(x: Any) -> bool:
    arrays = jax.Array | np.ndarray | np.generic
    return type(x) is int or (isinstance(x, arrays) and bool(jax.numpy.issubdtype(x.dtype, np.integer)))


def names_there(search: Search, place: Place) -> dict[str, Any]:
    """Return what names refer to where a statement runs, by running it with a probe before it."""
    found: dict[str, Any] = {}
    for slot in slots(place.body)[:1]:
        try:
            code = edited([(place, Edit(0, slot, asked_before(slot.node, PROBE), ""))], lambda: compiled(place))
            rule = rebuilt(search.problem.written, {place.code: code}, {PROBE: found.update})
            jaxprs.trace(search.problem.as_program(rule), search.problem.inputs)  # pyright: ignore[reportOptionalCall]
        except Exception as error:  # the rule does not run
            noted(error)
    return found
