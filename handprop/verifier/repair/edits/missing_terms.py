"""Edits that add a missing term or factor to a statement's expressions; :mod:`term_solver` solves for it."""

import ast
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

from handprop.verifier.internal import noted
from handprop.verifier.options import Stream
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.edits.solved_numbers import Sizes, factor, quotient, written
from handprop.verifier.repair.edits.term_solver import Missing, Term
from handprop.verifier.repair.instrument import instrument, mark_value
from handprop.verifier.repair.scope import Scope
from handprop.verifier.repair.search import Search
from handprop.verifier.repair.source.functions import DoesNotCompile, Place, compiled, functions, place_of, rebuilt
from handprop.verifier.repair.source.statements import assigned, end_of, parameters_of, returned
from handprop.verifier.repair.source.trees import (
    AtHand,
    Edit,
    Slot,
    asked_before,
    is_top,
    is_value,
    parsed,
    slots,
    variable,
)

__all__ = ["Lacks", "PartLacks", "expressions_near"]

MARK_NAMES, MARK_VALUE = "__handprop_names__", "__handprop_value__"
SOLVING, MAX_TERMS, WRITTEN = 1.3, 8, 1e-3
LONGEST, MAX_EXPRESSIONS = 60, 60
SLOPE = re.compile(r"\(1 - (\w+)( \*\* 2)?\)|(\w+) \* \(1 - \3\)")


class Lacks(NamedTuple):
    """A queued query: which of a statement's expressions may lack a term or factor."""

    penalty: float
    candidate: dict[str, AtHand]
    cost: float = SOLVING - 0.1
    slot: None = None

    def ask(self, search: Search, place: Place, sizes: Sizes) -> Iterator["PartLacks"]:
        held = [slot for slot in slots(place.body) if is_value(slot, self.candidate)]
        held.sort(key=lambda slot: not is_top(slot))
        scope = Scope(functions(search.problem.written), place.code)
        program, expressions = _marked(search, place, held, scope), expressions_near(search, place)
        theirs = [value for value in search.known if isinstance(value, Value)]
        for interpretation in search.interpretations if program is not None else ():
            instrumented = instrument(interpretation, program)
            if instrumented is None:
                return
            known = theirs if interpretation is search.interpretations[0] else ()
            missing = Missing(instrumented, scope, known, expressions, search.options.rng(Stream.MISSING_TERMS))
            for number in missing.numbers:
                cost = SOLVING + (0 if is_top(held[number]) else 0.25)
                yield PartLacks(self.penalty, cost, held[number], missing, number)


class PartLacks(NamedTuple):
    """A queued query: which term or factor one expression of a statement lacks."""

    penalty: float
    cost: float
    slot: Slot
    missing: Missing
    number: int

    def ask(self, search: Search, place: Place, sizes: Sizes) -> Iterator[Edit]:
        cotangent = parameters_of(search.problem)[-1:]
        last = isinstance(place.body, ast.Return) or bool(assigned(place.body) & returned(place))
        for term in self.missing.of(self.number, is_top(self.slot))[:MAX_TERMS]:
            # People forget the cotangent in the last step, where a gradient is formed, rather than before it.
            early = term.kind == "factor" and not last and not set(cotangent).isdisjoint(re.findall(r"\w+", term.text))
            for n, edit in enumerate(_with_term(place, self.slot, term, sizes)):
                yield edit._replace(cost=self.cost + 0.25 * term.cost + 0.4 * early + WRITTEN * n)


def expressions_near(search: Search, place: Place) -> tuple[str, ...]:
    """Return short expressions from elsewhere in the statement's function, then from the other functions."""
    trees = [place.scopes[-1], place.scopes[0]]
    every = functions(search.problem.written)
    for f in every:
        other = place_of(f.__code__.co_filename, end_of(f.__code__), every)
        trees += [other.scopes[0]] if other is not None and other.scopes[0] is not place.scopes[0] else []
    found = {}
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.BinOp | ast.Call | ast.Subscript) and not isinstance(
            getattr(node, "ctx", None), ast.Store
        ):
            inverse = [ast.BinOp(ast.Constant(1), node.op, node.right)] if _divides(node) else []
            found |= dict.fromkeys(text for text in map(ast.unparse, (node, *inverse)) if len(text) <= LONGEST)
    return tuple(found)[:MAX_EXPRESSIONS]


def _divides(node: ast.AST) -> TypeGuard[ast.BinOp]:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def _marked(search: Search, place: Place, held: list[Slot], scope: Scope) -> Any:
    """Trace the program with the statement's expressions marked, and the names in scope before it."""
    marks = {MARK_NAMES: scope.mark, MARK_VALUE: mark_value}
    if not slots(place.body):
        return None
    try:
        for number, slot in reversed(list(enumerate(held))):
            slot.put(ast.Call(variable(MARK_VALUE), [ast.Constant(number), slot.node], []))
        first = slots(place.body)[0]
        first.put(asked_before(first.node, MARK_NAMES))
        ast.fix_missing_locations(place.top)
        code = compiled(place)
        first.put(first.node)
    except DoesNotCompile:
        return None
    finally:
        for slot in held:
            slot.put(slot.node)
    rule = rebuilt(search.problem.written, {place.code: code}, marks)
    try:
        return jaxprs.trace(search.problem.as_program(rule), search.problem.inputs)  # pyright: ignore[reportOptionalCall]
    except Exception as error:  # a mark is an array, which not every place accepts
        noted(error)
        return None


def _with_term(place: Place, slot: Slot, term: Term, sizes: Sizes) -> list[Edit]:
    """Return an edit for each way to write the term's numeric factor, the likeliest first."""
    c = term.times
    if term.kind == "factor" and term.text == "1":
        return factor(slot, term.cost, c, place, sizes)
    ways = [quotient(parsed(term.text), n, abs(c)) for n in (sizes.quotients(place, c) if abs(c) != 1 else ())]
    size = sizes.named(place, c.denominator)
    ways += [written(parsed(term.text), abs(c), None, below) for below in dict.fromkeys((size, None))]
    return [_edit_with(slot, term, way) for way in ways]


def _edit_with(slot: Slot, term: Term, part: ast.expr) -> Edit:
    node, c, old = slot.node, term.times, ast.unparse(slot.node)
    if term.kind == "term":
        new = ast.BinOp(node, ast.Add() if c > 0 else ast.Sub(), part)
        cause = f"the term {'' if c > 0 else '-'}{ast.unparse(part)} of a sum is missing"
    elif term.kind == "factor":
        new = ast.BinOp(node, ast.Mult(), part)
        new = ast.UnaryOp(ast.USub(), new) if c < 0 else new
        slope = ", as of an activation's derivative" if SLOPE.fullmatch(term.text) else ""
        cause = f"the factor {ast.unparse(part)} is missing{slope}"
    else:
        new = ast.UnaryOp(ast.USub(), part) if c < 0 else part
        cause = f"{old} where {ast.unparse(new)} belongs"
    return Edit(term.cost, slot, new, cause)
