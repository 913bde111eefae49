"""The smallest edit that makes every output equal: edits of the likely lines, the likeliest and cheapest first.

The user's function is traced once a candidate, in memory and edited as :mod:`source` says; its file is only read.
"""

import ast
import copy
import difflib
import heapq
import itertools
import math
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from handprop.verify import jaxprs
from handprop.verify.field.values import Value
from handprop.verify.mistakes import edits as e
from handprop.verify.mistakes.bench import Bench, entries_of, rational, run_on, wrong
from handprop.verify.mistakes.locate import Suspect
from handprop.verify.mistakes.source import Place, compiled, functions, place_of, rebuilt, text_of
from handprop.verify.mistakes.weigh import Backward, Tried, backward_of, weigh
from handprop.verify.options import Options
from handprop.verify.subject import Subject

__all__ = ["Found", "diff_of", "last_line", "repairs", "stopped"]

PROBE = "__handprop_at_hand__"
MOST_FACTOR, MOST_COEFFICIENT = 1 << 20, 64
ELSEWHERE, FEEDS = 0.8, 0.2


class Found(NamedTuple):
    """An edit after which every output is equal in the field; ``rule`` is the user's function with it."""

    place: Place
    edit: e.Edit
    rule: Any


class Search(NamedTuple):
    """``got``: the outputs as they are, on each bench; None where the rule does not run."""

    subject: Subject
    benches: tuple[Bench, ...]
    live: list[types.FunctionType]
    got: tuple[tuple[Value, ...], ...] | None
    options: Options
    backward: Backward | None


def repairs(subject: Subject, benches: tuple[Bench, ...], suspects: list[Suspect],
            got: tuple[tuple[Value, ...], ...] | None, options: Options) -> Iterator[Found]:  # fmt: skip
    """Edits that make every output equal, as they are found, until the seconds are spent."""
    backward = backward_of(subject, benches) if got is not None else None
    search = Search(subject, benches, functions(subject.written), got, options, backward)
    queue: list[tuple[float, int, Place, Any]] = []
    order = itertools.count()
    for penalty, place in _places(search, suspects):
        hand = _at_hand(search, place)
        for more in (e.edits, e.scaled, e.factors):
            for edit in more(place.body, hand):
                line = edit.slot.node.lineno
                aside = 0.0 if line == place.line else 0.3
                heapq.heappush(queue, (edit.cost + penalty + aside, next(order), place, edit))
        if options.seconds_left <= 0:
            return
    sizes = _Sizes(search)
    seen: set[str] = set()
    while queue and options.seconds_left > 0:
        _, _, place, edit = heapq.heappop(queue)
        if isinstance(edit, e.Scaled):
            edit = _solved(search, place, edit, sizes)
            if edit is None:
                continue
        text = _edited(place, edit, partial(ast.dump, place.top))
        if text in seen:
            continue
        seen.add(text)
        tried = _attempt(search, place, edit.slot, edit.new)
        if tried is not None and _is_right(benches, tried) and _stands(subject, tried.rule):
            yield Found(place, edit, tried.rule)


def _is_right(benches: tuple[Bench, ...], tried: Tried) -> bool:
    return any(not wrong(bench, outputs) for bench, outputs in zip(benches, tried.outputs, strict=True))


def last_line(subject: Subject) -> Place | None:
    """Where the backward pass, or the function itself, forms what it returns."""
    rule = subject.written
    f = getattr(rule, "bwd", None) or getattr(rule, "jvp", None) or rule
    f = getattr(f, "__wrapped__", f)
    if not isinstance(f, types.FunctionType):
        return None
    return place_of(f.__code__.co_filename, _last_line(f.__code__), functions(rule))


def _stands(subject: Subject, rule: Any) -> bool:
    """Whether a subject with structural faults has none left."""
    return not subject.faults or subject.faults_of is None or not subject.faults_of(rule)


def _places(search: Search, suspects: list[Suspect]) -> Iterator[tuple[float, Place]]:
    """Statements of suspects; those that feed them, a plain ``a = b`` first, as it makes no equation; then every other
    statement of the user's functions."""
    seen: set[int] = set()
    found: list[tuple[float, Place]] = []

    def add(file: str, line: int, penalty: float) -> None:
        place = place_of(file, line, search.live)
        if place is not None and id(place.body) not in seen:
            seen.add(id(place.body))
            found.append((penalty, place))

    for n, suspect in enumerate(suspects):
        add(suspect.frame.file, suspect.frame.line, 0.25 * min(n, 8))
    read = {name for penalty, place in found if penalty < 0.5 for name in _read(place.body)}
    for f in search.live:
        for line in range(f.__code__.co_firstlineno, _last_line(f.__code__) + 1):
            add(f.__code__.co_filename, line, ELSEWHERE)
    fwd = getattr(getattr(search.subject.written, "fwd", None), "__code__", None)
    for penalty, place in found:
        if penalty == ELSEWHERE:
            feeds = bool(read & _assigned(place.body))
            alias = isinstance(place.body, ast.Assign) and isinstance(place.body.value, ast.Name)
            returns = isinstance(place.body, ast.Return) and place.code is fwd
            penalty = -0.1 if feeds and alias else FEEDS if feeds or returns else ELSEWHERE
        yield penalty, place


def _read(body: ast.AST) -> set[str]:
    return {slot.node.id for slot in e.slots(body) if isinstance(slot.node, ast.Name)}


def _assigned(body: ast.AST) -> set[str]:
    targets = getattr(body, "targets", []) or [getattr(body, "target", None)]
    return {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)}


def _last_line(code: types.CodeType) -> int:
    own = [line for _, _, line in code.co_lines() if line]
    return max(
        [*own, *(_last_line(c) for c in code.co_consts if isinstance(c, types.CodeType))], default=code.co_firstlineno
    )


def _edited(place: Place, edit: e.Edit, then: Callable[[], Any]) -> Any:
    """``then()`` while the edit stands in the tree."""
    new = ast.fix_missing_locations(ast.copy_location(copy.deepcopy(edit.new), edit.slot.node))
    edit.slot.put(new)
    try:
        return then()
    finally:
        edit.slot.put(edit.slot.node)


def _attempt(search: Search, place: Place, slot: e.Slot, new: ast.expr) -> Tried | None:
    """The user's function with the edit, and its outputs; None where it does not run."""
    try:
        code = _edited(place, e.Edit(0, slot, new, ""), lambda: compiled(place))
    except (SyntaxError, ValueError, TypeError, IndexError):
        return None
    return weigh(search.subject, search.benches, search.backward, place.code, code)


def _at_hand(search: Search, place: Place) -> dict[str, e.AtHand]:
    """The arrays that names stand for where a statement runs: asked by running it with a question before it."""
    found: dict[str, e.AtHand] = {}

    def ask(names: dict[str, Any]) -> None:
        for name, held in names.items():
            if hasattr(held, "shape") and hasattr(held, "dtype"):
                found[name] = e.AtHand(tuple(held.shape), jaxprs.is_float(held.dtype))

    question = ast.parse(f"{PROBE}(locals())", mode="eval").body
    body: Any = place.body
    try:
        value = body.body if isinstance(body, ast.Lambda) else body.value
        asked = ast.Subscript(ast.Tuple([question, value], ast.Load()), ast.Constant(1), ast.Load())
        slot = e.slots(body)[0]
        code = _edited(place, e.Edit(0, slot, asked, ""), lambda: compiled(place))
        rule = rebuilt(search.subject.written, {place.code: code}, {PROBE: ask})
        jaxprs.trace(search.subject.as_program(rule), search.subject.inputs)  # pyright: ignore[reportOptionalCall]
    except Exception:  # the statement holds nothing, or the rule does not run as it is
        pass
    return found


def stopped(subject: Subject, bench: Bench) -> tuple[Found, Any] | None:
    """A ``stop_gradient`` in the function itself, without which its gradient is the one by hand: the edit, and the
    reference with it."""
    if subject.as_program is None or subject.as_reference is None:
        return None
    live = functions(subject.written)
    for f in live:
        for line in range(f.__code__.co_firstlineno, _last_line(f.__code__) + 1):
            place = place_of(f.__code__.co_filename, line, live)
            if place is None:
                continue
            for edit in e.edits(place.body, {}):
                if edit.cause != "stop_gradient":
                    continue
                code = _edited(place, edit, partial(compiled, place))
                rule = rebuilt(subject.written, {place.code: code})
                reference = subject.as_reference(rule)
                got, want = (run_on(bench, jaxprs.trace(program, subject.inputs))
                             for program in (subject.as_program(rule), reference))  # fmt: skip
                if not wrong(bench._replace(want=want), got):
                    return Found(place, edit, rule), reference
    return None


# Numbers to solve for


class _Sizes:
    """Names for numbers: sizes of what is at hand."""

    def __init__(self, search: Search):
        self.search = search
        self.of_place: dict[int, dict[int, str]] = {}

    def named(self, place: Place, number: int) -> str | None:
        if id(place.body) not in self.of_place:
            names: dict[int, str] = {}
            for name, h in _at_hand(self.search, place).items():
                for axis, n in enumerate(h.shape):
                    names.setdefault(n, f"{name}.shape[{axis}]")
                names.setdefault(math.prod(h.shape), f"{name}.size")
            self.of_place[id(place.body)] = names
        return self.of_place[id(place.body)].get(number) if number > 2 else None


def _solved(search: Search, place: Place, edit: e.Scaled, sizes: _Sizes) -> e.Edit | None:
    """The edit with the number that makes every output equal, where there is a plain one."""
    if search.got is None:
        return None
    at, before = Fraction(edit.at), search.got
    if edit.kind == "literal":
        tried = _attempt(search, place, edit.slot, edit.make(ast.Constant(3)))
        if tried is None:
            return None
        at, before = Fraction(3), tried.outputs
    tried = _attempt(search, place, edit.slot, edit.make(ast.Constant(int(at) + 1)))
    if tried is None:
        return None
    for bench, a, b in zip(search.benches, before, tried.outputs, strict=True):
        number = _number_between(bench, a, b)
        if number is not None:
            return _plain(edit, number + at, place, sizes)
    return None


def _number_between(bench: Bench, before: tuple[Value, ...], after: tuple[Value, ...]) -> Fraction | None:
    """``c`` with ``before + c (after - before)`` the reference's outputs throughout."""
    f, p = bench.field, bench.field.p
    c = None
    for a, b, want in zip(before, after, bench.want, strict=True):
        if a.infinite is not None or want.infinite is not None:
            return None
        lacking, slope = f.sub(want.x, a.x), f.sub(b.x, a.x)
        if c is None:
            left, right = entries_of(lacking), entries_of(slope)
            places = left.nonzero()[0]
            if not places.size:
                continue
            if not right[places[0]]:
                return None
            c = int(left[places[0]]) * pow(int(right[places[0]]), -1, p) % p
    if c is None:
        return None
    for a, b, want in zip(before, after, bench.want, strict=True):
        predicted = f.add(a.x, f.scale(f.sub(b.x, a.x), c))
        if not f.is_zero(f.sub(predicted, want.x)).all():
            return None
    found = rational(p, c)
    return None if found is None else Fraction(*found)


def _plain(edit: e.Scaled, c: Fraction, place: Place, sizes: _Sizes) -> e.Edit | None:
    node, old = edit.slot.node, ast.unparse(edit.slot.node)
    if edit.kind == "literal":
        new = _decimal(c)
        return (
            None
            if new is None
            else e.Edit(edit.cost, edit.slot, new, f"the literal {old} where {ast.unparse(new)} belongs")
        )
    if edit.kind == "factor":
        return _factor(edit, c, node, place, sizes)
    if max(abs(c.numerator), c.denominator) > MOST_COEFFICIENT or not c:
        return None
    term: ast.expr = ast.parse(edit.term, mode="eval").body
    size = abs(c)
    if edit.term == "1":
        term = _decimal(size) or ast.Constant(float(size))
    elif size.denominator != 1:
        term = ast.BinOp(term, ast.Div(), ast.Constant(size.denominator))
    if edit.term != "1" and size.numerator != 1:
        term = ast.BinOp(ast.Constant(size.numerator), ast.Mult(), term)
    new = ast.BinOp(node, ast.Add() if c > 0 else ast.Sub(), term)
    if edit.term == "1" and c > 0 and isinstance(node, ast.UnaryOp):
        new = ast.BinOp(term, ast.Sub(), node.operand)
    sign = "" if c > 0 else "-"
    return e.Edit(edit.cost, edit.slot, new, f"the term {sign}{ast.unparse(term)} of a sum is missing")


def _factor(edit: e.Scaled, c: Fraction, node: ast.expr, place: Place, sizes: _Sizes) -> e.Edit | None:
    if c == -1:
        return e.Edit(edit.cost, edit.slot, ast.UnaryOp(ast.USub(), node), "the sign is wrong")
    if not c or c == 1 or max(abs(c.numerator), c.denominator) > MOST_FACTOR:
        return None
    if min(abs(c.numerator), c.denominator) > 64:
        return None
    new, names = node, []
    for number, op in ((abs(c.numerator), ast.Mult()), (c.denominator, ast.Div())):
        if number == 1:
            continue
        name = sizes.named(place, number)
        if name:
            names.append(f"{number} = {name}")
        factor = ast.parse(name, mode="eval").body if name else ast.Constant(number)
        before = isinstance(op, ast.Mult) and not name
        new = ast.BinOp(factor, op, new) if before else ast.BinOp(new, op, factor)
    if c < 0:
        new = ast.UnaryOp(ast.USub(), new)
    times = 1 / c
    note = f" ({', '.join(names)})" if names else ""
    return e.Edit(edit.cost, edit.slot, new, f"a constant factor is wrong: {times} times what it should be{note}")


def _decimal(c: Fraction) -> ast.expr | None:
    """The number as people write it; None where that is not short."""
    if c.denominator == 1 and abs(c) < MOST_FACTOR:
        value: int | float = int(c)
    elif c.denominator <= 10**9 and len(repr(float(c))) <= 12 and Fraction(repr(float(c))) == c:
        value = float(c)
    elif max(abs(c.numerator), c.denominator) <= MOST_COEFFICIENT:
        top = ast.Constant(abs(c.numerator))
        return ast.BinOp(ast.UnaryOp(ast.USub(), top) if c < 0 else top, ast.Div(), ast.Constant(c.denominator))
    else:
        return None
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)


# The edit as text


def diff_of(found: Found) -> tuple[str, str, int]:
    """The edited line, a unified diff, and the line's number. ValueError where the edit cannot be written in place."""
    place, edit = found.place, found.edit
    lines = text_of(place.file)
    wanted = _edited(place, edit, lambda: ast.dump(place.top))
    new = ast.unparse(edit.new)
    for text in (new, f"({new})"):
        changed = _spliced(lines, edit.slot.node, text)
        if _dump(changed, place, len(changed) - len(lines)) == wanted:
            break
    else:
        raise ValueError("the edit cannot be written in place")
    diff = "\n".join(difflib.unified_diff(lines, changed, place.file, place.file, lineterm="")) + "\n"
    number = edit.slot.node.lineno
    return changed[number - 1].strip(), diff, number


def _dump(lines: list[str], place: Place, longer: int) -> str:
    start = min([place.top.lineno, *(d.lineno for d in getattr(place.top, "decorator_list", []))])
    text = "\n".join(lines[start - 1 : (place.top.end_lineno or start) + longer])
    try:
        return ast.dump(ast.parse(text).body[0])
    except (SyntaxError, IndexError):
        return ""


def _spliced(lines: list[str], node: ast.expr, text: str) -> list[str]:
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last].encode()[node.end_col_offset or 0 :].decode()
    return [*lines[:first], head + text + tail, *lines[last + 1 :]]
