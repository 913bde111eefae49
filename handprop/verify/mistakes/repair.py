"""The smallest edit that makes every output equal: edits of the likely lines, the likeliest and cheapest first.

The user's function is traced once a candidate, in memory and edited as :mod:`source` says; its file is only read.
"""

import ast
import contextlib
import heapq
import itertools
import math
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.field.values import Value
from handprop.verify.field.work import Work
from handprop.verify.mistakes.bench import Bench, run_on, wrong
from handprop.verify.mistakes.edits import edits, scaled
from handprop.verify.mistakes.lacking import Lacks, PartLacks
from handprop.verify.mistakes.locate import Suspect
from handprop.verify.mistakes.search import Change, Found, Search, at_hand, attempt, edited
from handprop.verify.mistakes.solving import Sizes, solved
from handprop.verify.mistakes.source import Place, compiled, functions, place_of, rebuilt
from handprop.verify.mistakes.statements import assigned, editable, part_of, read, returned, statements, unpacks
from handprop.verify.mistakes.trees import Scaled
from handprop.verify.mistakes.weigh import Tried, backward_of
from handprop.verify.options import Options
from handprop.verify.points import sample
from handprop.verify.subject import Subject

__all__ = ["repairs", "stopped"]

CLOSE = 1e-10  # between float64 values that should be the same
ELSEWHERE, FEEDS, RETURNS, ASIDE, STEP = 0.8, 0.3, 0.5, 0.3, 0.2
MOST_IN_FLOAT64 = 40  # candidates
# pi, e, 1/ln 2, ln 2, roots of 2, 1/2 and 2 pi, and those of GELU and SELU.
CONSTANTS = (math.pi, math.e, 1 / math.log(2), math.log(2), math.sqrt(2), math.sqrt(0.5), 1 / math.sqrt(2 * math.pi),
             math.sqrt(2 / math.pi), 0.044715, 3 * 0.044715, 1.702, 1.0507009873554805, 1.6732632423543772)  # fmt: skip


def repairs(subject: Subject, whole: Subject, benches: tuple[Bench, ...], suspects: list[Suspect], first: Place | None,
            known: tuple[Value, ...], got: tuple[tuple[Value, ...], ...] | None, options: Options,
            seconds: float) -> Iterator[Found]:  # fmt: skip
    """Edits that make every output equal, as they are found, until the benches have done the work of so many
    seconds: one alone, then several of different outputs together, then what float64 alone sees."""
    work = benches[0].work
    backward = backward_of(subject, benches) if got is not None else None
    live = editable(subject)
    search = Search(subject, whole, benches, live, got, options, backward, known, _numbers(subject))
    queue: list[tuple[float, int, Place, Any]] = []
    order = itertools.count()

    def push(penalty: float, place: Place, edit: Any) -> None:
        aside = 0.0 if edit.slot is None or edit.slot.node.lineno == place.line else ASIDE
        heapq.heappush(queue, (edit.cost + penalty + aside, next(order), place, edit))

    for penalty, place in _places(search, suspects, first):
        hand = at_hand(search, place)
        if got is not None:
            push(1.5 * penalty, place, Lacks(penalty, hand))
        for edit in itertools.chain(edits(place.body, hand, search.numbers), scaled(place.body, hand)):
            push(penalty, place, edit)
        if work.reached(seconds):
            return
    sizes = Sizes(search)
    seen: set[str] = set()
    ran: list[Found] = []
    bad = frozenset() if got is None else _left(benches, Tried(None, got))
    partial_fixes: dict[frozenset[int], Found] = {}
    while queue and not work.reached(seconds):
        _, _, place, edit = heapq.heappop(queue)
        if isinstance(edit, Lacks | PartLacks):
            with contextlib.suppress(Exception):  # the marked program does not run
                for more in edit.ask(search, place, sizes):
                    push(edit.penalty, place, more)
            continue
        for way in solved(search, place, edit, sizes) if isinstance(edit, Scaled) else [edit]:
            text = edited([(place, way)], partial(ast.dump, place.top))
            if text in seen:
                continue
            seen.add(text)
            tried = attempt(search, [(place, way)])
            if tried is None or not _stands(subject, tried.rule):
                continue
            found = Found(((place, way),), tried.rule)
            left = _left(benches, tried)
            if not left:
                yield found
                continue
            ran.append(found)
            if left < bad:
                partial_fixes.setdefault(bad - left, found)
    yield from _together(search, bad, partial_fixes)
    yield from _right_in_float64(subject, ran, options, work)


def _left(benches: tuple[Bench, ...], tried: Tried) -> frozenset[int]:
    """The outputs that are wrong, on the bench where they are fewest."""
    return min(
        (frozenset(wrong(bench, outputs)) for bench, outputs in zip(benches, tried.outputs, strict=True)), key=len
    )


def _together(search: Search, bad: frozenset[int], partial_fixes: dict[frozenset[int], Found]) -> Iterator[Found]:
    """Of several mistakes, each with outputs of its own: the edits of all, in different statements."""
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
    if tried is not None and not _left(search.benches, tried) and _stands(search.subject, tried.rule):
        yield Found(tuple(changes), tried.rule, tuple(mends))


def _right_in_float64(subject: Subject, ran: list[Found], options: Options, work: Work) -> Iterator[Found]:
    """Where the field does not see that the right rule is right: edits that ran, by their values in float64."""

    def run(program: Any) -> list[np.ndarray]:
        with jax.enable_x64(True):  # pyright: ignore[reportAttributeAccessIssue]
            return [np.asarray(x) for x in jaxprs.widen(program)(points, None, None)]

    points = sample(subject, options, 0)
    want = run(jaxprs.trace(subject.reference, subject.inputs))
    for found in ran[:MOST_IN_FLOAT64]:
        if work.late:
            return
        try:
            program = jaxprs.trace(subject.as_program(found.rule), subject.inputs)  # pyright: ignore[reportOptionalCall]
            got = run(program)
        except Exception:  # as in :func:`weigh`
            continue
        if all(a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * np.abs(b).max(initial=0)
               for a, b in zip(got, want, strict=True)):  # fmt: skip
            yield found


def _numbers(subject: Subject) -> tuple[float, ...]:
    """Literals of the reference, as people write them, and constants that stand in known functions."""
    program = jaxprs.trace(subject.reference, subject.inputs)
    found = {float(str(x)) for array in jaxprs.numbers(program) if jaxprs.is_float(array.dtype) and array.size == 1
             for x in array.ravel()}  # fmt: skip
    return tuple(sorted(x for x in found | {c * sign for c in CONSTANTS for sign in (1, -1)} if math.isfinite(x)))


def _stands(subject: Subject, rule: Any) -> bool:
    """Whether a subject with structural faults has none left."""
    return not subject.faults or subject.faults_of is None or not subject.faults_of(rule)


def _places(search: Search, suspects: list[Suspect], first: Place | None) -> Iterator[tuple[float, Place]]:
    """The one that comes ``first``; statements of suspects; those that feed them, a plain ``a = b`` before the others,
    as it makes no equation; then every other statement of the user's functions."""
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
    fwd = part_of(search.subject, "fwd")
    for penalty, place in found:
        if penalty == ELSEWHERE:
            penalty = _penalty(place, needed, None if fwd is None else fwd.__code__)
        yield penalty, place


def _penalty(place: Place, needed: set[tuple[Any, str]], fwd: types.CodeType | None) -> float:
    """Of a statement that no suspect stands in."""
    made = assigned(place.body)
    feeds = any((place.scopes[0], name) in needed for name in made)
    if unpacks(place) and (feeds or made & (read(place.body) | returned(place))):
        return -0.1
    if feeds:
        return FEEDS
    returns = isinstance(place.body, ast.Return) and place.scopes[-1] is place.scopes[0]
    return ELSEWHERE if not returns else RETURNS if place.code is fwd else FEEDS


def stopped(subject: Subject, bench: Bench) -> tuple[Found, Any] | None:
    """A ``stop_gradient`` in the function itself, without which its gradient is the one by hand: the edit, and the
    reference with it."""
    if subject.as_program is None or subject.as_reference is None:
        return None
    for place in statements(functions(subject.written)):
        for edit in edits(place.body, {}):
            if edit.cause != "stop_gradient":
                continue
            code = edited([(place, edit)], partial(compiled, place))
            rule = rebuilt(subject.written, {place.code: code})
            reference = subject.as_reference(rule)
            got, want = (run_on(bench, jaxprs.trace(program, subject.inputs))
                         for program in (subject.as_program(rule), reference))  # fmt: skip
            if not wrong(bench._replace(want=want), got):
                return Found(((place, edit),), rule), reference
    return None
