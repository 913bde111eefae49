"""Search for the smallest edit that makes every output equal, the likeliest lines and the cheapest edits first.

The user's function is edited in memory (:mod:`source.functions`) and traced once for each edit; its file is only read.
"""

import ast
import itertools
import math
import types
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from handprop.verifier.checks.sampling import sample
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs, widen
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value
from handprop.verifier.proof.field.work import A_SECOND, Work
from handprop.verifier.repair.candidates import Candidates, Judge
from handprop.verifier.repair.edits.calls import takes_away
from handprop.verifier.repair.edits.integers import integer_edits
from handprop.verifier.repair.edits.missing_terms import Lacks, PartLacks
from handprop.verifier.repair.edits.small import edits, scaled
from handprop.verifier.repair.edits.solved_numbers import Sizes, solved
from handprop.verifier.repair.edits.wide import Wide
from handprop.verifier.repair.evaluate import EditResult, backward_of
from handprop.verifier.repair.interpretation import Interpretation, run_on, wrong
from handprop.verifier.repair.locate.suspects import Suspect
from handprop.verifier.repair.search import (
    Change,
    Found,
    Search,
    at_hand,
    attempt,
    edited,
    integers_at_hand,
    names_there,
)
from handprop.verifier.repair.source.functions import Place, compiled, functions, place_of, rebuilt
from handprop.verifier.repair.source.statements import assigned, editable, part_of, read, returned, statements, unpacks
from handprop.verifier.repair.source.trees import Scaled

__all__ = ["repairs", "stopped"]

CLOSE = 1e-10  # the relative difference allowed between float64 values that should be equal
ELSEWHERE, FEEDS, RETURNS, STEP = 0.8, 0.3, 0.5, 0.2
MAX_IN_FLOAT64 = 40  # candidates
SOLVING_RUNS = 1  # runs of the program that solving for what a statement lacks takes, or more
# pi, e, 1/ln 2, ln 2, roots of 2 and 1/2, 1/sqrt(2 pi), sqrt(2/pi), and the constants of GELU and SELU.
CONSTANTS = (math.pi, math.e, 1 / math.log(2), math.log(2), math.sqrt(2), math.sqrt(0.5), 1 / math.sqrt(2 * math.pi),
             math.sqrt(2 / math.pi), 0.044715, 3 * 0.044715, 1.702, 1.0507009873554805, 1.6732632423543772)  # fmt: skip


def repairs(problem: Problem, whole: Problem, interpretations: tuple[Interpretation, ...], suspects: list[Suspect],
            first: Place | None, known: tuple[Thing, ...], got: tuple[tuple[Value, ...], ...] | None, options: Options,
            seconds: float) -> Iterator[Found]:  # fmt: skip
    """Yield edits that make every output equal, as they are found, until the counted work reaches ``seconds``.

    Single edits come first, then combinations that fix different outputs, then edits that are right only by their
    values in float64.
    """
    work = interpretations[0].work
    backward = backward_of(problem, interpretations) if got is not None else None
    live = editable(problem)
    search = Search(problem, whole, interpretations, live, got, options, backward, known, _numbers(problem))
    queue = _queue(search, suspects, first, seconds)
    sizes = Sizes(search)
    seen: set[str] = set()
    ran: list[Found] = []
    bad = frozenset() if got is None else _left(interpretations, EditResult(None, got))
    partial_fixes: dict[frozenset[int], Found] = {}
    while (popped := queue.pop(seconds)) is not None:
        place, edit = popped
        if isinstance(edit, Lacks | PartLacks):
            try:
                for more in edit.ask(search, place, sizes):
                    queue.push(edit.penalty, place, more, Judge.NONE)
            except Exception as error:  # the marked program does not run
                noted(error)
            continue
        for way in _to_its_fault(partial(solved, search, place, edit, sizes)) if isinstance(edit, Scaled) else [edit]:
            text = edited([(place, way)], partial(ast.dump, place.top))
            if text in seen:
                continue
            seen.add(text)
            tried = attempt(search, [(place, way)])
            if tried is None or not _stands(problem, tried.rule):
                continue
            found = Found(((place, way),), tried.rule)
            left = _left(interpretations, tried)
            if not left:
                yield found
                continue
            ran.append(found)
            if left < bad:
                partial_fixes.setdefault(bad - left, found)
    yield from _together(search, bad, partial_fixes)
    yield from _right_in_float64(problem, ran, options, work)


def _queue(search: Search, suspects: list[Suspect], first: Place | None, seconds: float) -> Candidates:
    """Return the edits of every statement, and the queries for what it lacks."""
    queue, work = Candidates(search), search.interpretations[0].work
    runs, solvable = search.got is not None, search.got is None or not search.interpretations[0].numbers
    solving = SOLVING_RUNS * _cost_of_a_run(search)
    for penalty, place in _places(search, suspects, first):
        there = names_there(search, place)
        candidate = at_hand(there)
        if runs and solvable:
            queue.push(1.5 * penalty + solving, place, Lacks(penalty, candidate))
        if runs:
            queue.push(penalty, place, Wide(penalty))
        made: list[Callable[[], Iterable[Any]]] = [
            partial(edits, place.body, candidate, search.numbers),
            partial(integer_edits, place.body, integers_at_hand(search, there)),
        ]
        if solvable:
            made.append(partial(scaled, place.body, candidate))
        for edit in itertools.chain(*map(_to_its_fault, made)):
            queue.push(penalty, place, edit)
        if work.reached(seconds):
            break
    return queue


def _cost_of_a_run(search: Search) -> float:
    """Return the counted seconds that a run of the program takes."""
    work = search.interpretations[0].work
    before = work.spent
    try:
        program = jaxprs.trace(search.problem.as_program(rebuilt(search.problem.written, {})), search.problem.inputs)  # pyright: ignore[reportOptionalCall]
        run_on(search.interpretations[0], program)
    except Exception as error:  # a rule with a structural fault may not run as it is
        noted(error)
    return (work.spent - before) / A_SECOND


def _to_its_fault(find: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Yield the edits that ``find()`` finds until it stops by a fault of its own, so that the search goes on."""
    try:
        yield from find()
    except Exception as error:
        if not noted(error):
            raise


def _left(interpretations: tuple[Interpretation, ...], tried: EditResult) -> frozenset[int]:
    """Return the wrong outputs, in the interpretation where there are fewest of them."""
    return min(
        (
            frozenset(wrong(interpretation, outputs))
            for interpretation, outputs in zip(interpretations, tried.outputs, strict=True)
        ),
        key=len,
    )


def _together(search: Search, bad: frozenset[int], partial_fixes: dict[frozenset[int], Found]) -> Iterator[Found]:
    """Combine edits of different statements that each fix other outputs, for rules with several mistakes."""
    mended: frozenset[int] = frozenset()
    changes: list[Change] = []
    mends: list[frozenset[int]] = []
    for outputs, found in sorted(partial_fixes.items(), key=lambda item: -len(item[0])):
        (place, edit), apart = found.changes[0], {id(p.body) for p, _ in changes}
        if not outputs & mended and id(place.body) not in apart:
            mended |= outputs
            changes.append((place, edit))
            mends.append(outputs)
    if mended != bad or len(changes) < 2:
        return
    tried = attempt(search, changes)
    if tried is not None and not _left(search.interpretations, tried) and _stands(search.problem, tried.rule):
        yield Found(tuple(changes), tried.rule, tuple(mends))


def _right_in_float64(problem: Problem, ran: list[Found], options: Options, work: Work) -> Iterator[Found]:
    """Yield the edits that are right by their values in float64, in case the field cannot show it."""

    def run(program: Any) -> list[np.ndarray]:
        with jax.enable_x64(True):  # pyright: ignore[reportAttributeAccessIssue]
            return [np.asarray(x) for x in widen.widen(program)(points, None, None)]

    points = sample(problem, options, 0)
    want = run(jaxprs.trace(problem.reference, problem.inputs))
    for found in ran[:MAX_IN_FLOAT64]:
        if work.late:
            return
        try:
            program = jaxprs.trace(problem.as_program(found.rule), problem.inputs)  # pyright: ignore[reportOptionalCall]
            got = run(program)
        except Exception as error:  # as in :func:`evaluate_edit`
            noted(error)
            continue
        if all(a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * np.abs(b).max(initial=0)
               for a, b in zip(got, want, strict=True)):  # fmt: skip
            yield found


def _numbers(problem: Problem) -> tuple[float, ...]:
    """Return the reference's literals, as people write them, and the constants of well-known functions."""
    program = jaxprs.trace(problem.reference, problem.inputs)
    found = {float(str(x)) for array in jaxprs.numbers(program) if jaxprs.is_float(array.dtype) and array.size == 1
             for x in array.ravel()}  # fmt: skip
    return tuple(sorted(x for x in found | {c * sign for c in CONSTANTS for sign in (1, -1)} if math.isfinite(x)))


def _stands(problem: Problem, rule: Any) -> bool:
    """Whether the edited rule has no structural fault left, if the problem had any."""
    return not problem.faults or problem.faults_of is None or not problem.faults_of(rule)


def _places(search: Search, suspects: list[Suspect], first: Place | None) -> Iterator[tuple[float, Place]]:
    """Yield the statements to edit, with a penalty for each.

    They are the ``first`` place, the suspects' statements, and every other statement of the user's functions. Of the
    others, those that feed a suspect have a small penalty. A plain ``a = b`` comes before them, since it makes no
    equation and so cannot be a suspect.
    """
    found = [] if first is None else [(0.0, first)]
    seen = {id(place.body) for _, place in found}

    def add(file: str, line: int, penalty: float) -> None:
        place = place_of(file, line, search.live)
        if place is not None and id(place.body) not in seen:
            seen.add(id(place.body))
            found.append((penalty, place))

    for n, suspect in enumerate(suspects):
        add(suspect.frame.file, suspect.frame.line, STEP * min(n, 8))
    likely = [place for penalty, place in found if penalty < 0.5]
    needed = {(place.scopes[0], name) for place in likely for name in read(place.body)}
    for place in statements(search.live):
        if id(place.body) not in seen:
            found.append((ELSEWHERE, place))
    fwd = part_of(search.problem, "fwd")
    for penalty, place in found:
        if penalty == ELSEWHERE:
            penalty = _penalty(place, needed, None if fwd is None else fwd.__code__)
        yield penalty, place


def _penalty(place: Place, needed: set[tuple[Any, str]], fwd: types.CodeType | None) -> float:
    """Return the penalty of a statement that contains no suspect."""
    made = assigned(place.body)
    feeds = any((place.scopes[0], name) in needed for name in made)
    if unpacks(place) and (feeds or made & (read(place.body) | returned(place))):
        return -0.1
    if feeds:
        return FEEDS
    returns = isinstance(place.body, ast.Return) and place.scopes[-1] is place.scopes[0]
    return ELSEWHERE if not returns else RETURNS if place.code is fwd else FEEDS


def stopped(problem: Problem, interpretation: Interpretation) -> tuple[Found, Any] | None:
    """Find a ``stop_gradient`` in the function itself without which its gradient is the hand-written one.

    Returns the edit that removes it, and the reference with that edit.
    """
    if problem.as_program is None or problem.as_reference is None:
        return None
    for place in statements(functions(problem.written)):
        for edit in edits(place.body, {}):
            if not takes_away(edit, "stop_gradient"):
                continue
            code = edited([(place, edit)], partial(compiled, place))
            rule = rebuilt(problem.written, {place.code: code})
            reference = problem.as_reference(rule)
            got, want = (run_on(interpretation, jaxprs.trace(program, problem.inputs))
                         for program in (problem.as_program(rule), reference))  # fmt: skip
            if not wrong(interpretation._replace(want=want), got):
                return Found(((place, edit),), rule), reference
    return None
