"""Edits with a number to solve for: two runs say how the outputs depend on it, and which makes them equal."""

import ast
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from handprop.verify.field.values import Value
from handprop.verify.mistakes.bench import Bench, entries_of, rational
from handprop.verify.mistakes.search import Search, at_hand, attempt
from handprop.verify.mistakes.source import Place
from handprop.verify.mistakes.trees import Edit, Scaled, Slot, parsed

__all__ = ["Sizes", "factor", "solved"]

MOST_FACTOR, MOST_COEFFICIENT = 1 << 20, 64


class Size(NamedTuple):
    """A size of what is at hand: as an expression, and the number it is at the shapes that were asked about."""

    text: str
    whole: int


class Sizes:
    """Names for numbers: sizes of what is at hand."""

    def __init__(self, search: Search):
        self.search = search
        pairs = zip(search.subject.inputs, search.whole.inputs, strict=True)
        self.whole = {n: m for x, y in pairs for n, m in zip(np.shape(x), np.shape(y), strict=True)}
        self.of_place: dict[int, dict[int, Size]] = {}

    def named(self, place: Place, number: int) -> Size | None:
        if id(place.body) not in self.of_place:
            found: dict[int, Size] = {}
            for name, h in at_hand(self.search, place).items():
                whole = [self.whole.get(n, n) for n in h.shape]
                for axis, n in enumerate(h.shape):
                    found.setdefault(n, Size(f"{name}.shape[{axis}]", whole[axis]))
                found.setdefault(math.prod(h.shape), Size(f"{name}.size", math.prod(whole)))
            self.of_place[id(place.body)] = found
        return self.of_place[id(place.body)].get(number) if number > 2 else None


def solved(search: Search, place: Place, edit: Scaled, sizes: Sizes) -> Edit | None:
    """The edit with the number that makes every output equal that depends on it, where there is a plain one."""
    if search.got is None:
        return None
    at, before = Fraction(edit.at), search.got
    if edit.kind == "literal":
        tried = attempt(search, [(place, Edit(0, edit.slot, edit.make(ast.Constant(3)), ""))])
        if tried is None:
            return None
        at, before = Fraction(3), tried.outputs
    tried = attempt(search, [(place, Edit(0, edit.slot, edit.make(ast.Constant(int(at) + 1)), ""))])
    if tried is None:
        return None
    for bench, a, b in zip(search.benches, before, tried.outputs, strict=True):
        number = _number_between(bench, a, b)
        if number is not None:
            return _plain(edit, number + at, place, sizes)
    return None


def _number_between(bench: Bench, before: tuple[Value, ...], after: tuple[Value, ...]) -> Fraction | None:
    """``c`` with ``before + c (after - before)`` the reference's outputs wherever those differ."""
    f, p = bench.field, bench.field.p
    c = None
    for a, b, want in zip(before, after, bench.want, strict=True):
        if a.special is not None or want.special is not None:
            return None
        lacking, slope = f.sub(want.x, a.x), f.sub(b.x, a.x)
        if f.is_zero(slope).all():
            continue
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
        slope = f.sub(b.x, a.x)
        if f.is_zero(slope).all():
            continue
        predicted = f.add(a.x, f.scale(slope, c))
        if not f.is_zero(f.sub(predicted, want.x)).all():
            return None
    found = rational(p, c)
    return None if found is None else Fraction(*found)


def _plain(edit: Scaled, c: Fraction, place: Place, sizes: Sizes) -> Edit | None:
    if edit.kind == "factor":
        return factor(edit.slot, edit.cost, c, place, sizes)
    new, old = _decimal(c), ast.unparse(edit.slot.node)
    ratio = c / Fraction(edit.at) if edit.at else Fraction(0)
    if new is None or any(sizes.named(place, n) for n in (abs(ratio.numerator), ratio.denominator)):
        return None  # a size is missing, and not another number
    return Edit(edit.cost, edit.slot, new, f"the literal {old} where {ast.unparse(new)} belongs")


def factor(slot: Slot, cost: float, c: Fraction, place: Place, sizes: Sizes) -> Edit | None:
    """The expression times c, which is written with sizes where it is one."""
    if c == -1:
        return Edit(cost, slot, ast.UnaryOp(ast.USub(), slot.node), "the sign is wrong")
    if not c or c == 1 or max(abs(c.numerator), c.denominator) > MOST_FACTOR:
        return None
    if min(abs(c.numerator), c.denominator) > MOST_COEFFICIENT:
        return None
    above, below = (sizes.named(place, n) for n in (abs(c.numerator), c.denominator))
    new = slot.node
    if abs(c.numerator) != 1:
        number = ast.Constant(abs(c.numerator))
        new = ast.BinOp(new, ast.Mult(), parsed(above.text)) if above else ast.BinOp(number, ast.Mult(), new)
    if c.denominator != 1:
        new = ast.BinOp(new, ast.Div(), parsed(below.text) if below else ast.Constant(c.denominator))
    if c < 0:
        new = ast.UnaryOp(ast.USub(), new)
    times = Fraction(below.whole if below else c.denominator, above.whole if above else abs(c.numerator))
    named = ", ".join(f"{size.whole} = {size.text}" for size in (above, below) if size)
    note = f" ({named})" if named else ""
    cause = f"a constant factor is wrong: {times if c > 0 else -times} times what it should be{note}"
    return Edit(cost, slot, new, cause)


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
