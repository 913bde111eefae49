"""Edits with an unknown number. Two runs show how the outputs depend on it and which value makes them equal."""

import ast
import math
from fractions import Fraction
from typing import NamedTuple

import jax
import numpy as np

from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.edits.named_numbers import Named, named_numbers, quotients
from handprop.verifier.repair.interpretation import Interpretation, entries_of, rational
from handprop.verifier.repair.search import Search, attempt, names_there
from handprop.verifier.repair.source.functions import Place
from handprop.verifier.repair.source.trees import Edit, Scaled, Slot, binary, parsed

__all__ = ["Sizes", "factor", "quotient", "solved", "written"]

MAX_FACTOR, MAX_COEFFICIENT = 1 << 20, 64


class Size(NamedTuple):
    """The size of an array in scope: as an expression, and its value at the shapes that were asked about."""

    text: str
    whole: int


class Sizes:
    """Names for numbers: sizes of arrays in scope, and numbers that have a name there."""

    def __init__(self, search: Search):
        self.search = search
        pairs = zip(search.problem.inputs, search.whole.inputs, strict=True)
        self.whole = {n: m for x, y in pairs for n, m in zip(np.shape(x), np.shape(y), strict=True)}
        self.of_place: dict[int, dict[int, Size]] = {}
        self.numbers: dict[int, dict[str, Fraction]] = {}

    def named(self, place: Place, number: int, least: int = 3) -> Size | None:
        """Return the first size of an array in scope, or of one in a tree, that is this number.

        Returns None for numbers below ``least``.
        """
        if id(place.body) not in self.of_place:
            found: dict[int, Size] = {}
            for name, shape in self._shapes(place):
                whole = [self.whole.get(n, n) for n in shape]
                for axis, n in enumerate(shape):
                    found.setdefault(n, Size(f"{name}.shape[{axis}]", whole[axis]))
                found.setdefault(math.prod(shape), Size(f"{name}.size", math.prod(whole)))
            self.of_place[id(place.body)] = found
        return self.of_place[id(place.body)].get(number) if number >= least else None

    def _shapes(self, place: Place) -> list[tuple[str, tuple[int, ...]]]:
        """Return the names and shapes of arrays, those that have their own name before those inside trees."""
        leaves = [(name, path, x) for name, held in names_there(self.search, place).items()
                  for path, x in jax.tree_util.tree_leaves_with_path(held) if hasattr(x, "shape")]  # fmt: skip
        return [(name + jax.tree_util.keystr(path), tuple(x.shape))
                for name, path, x in sorted(leaves, key=lambda leaf: len(leaf[1]))]  # fmt: skip

    def quotients(self, place: Place, c: Fraction) -> list[Named]:
        """Return the ways to write the number with named numbers."""
        if id(place.body) not in self.numbers:
            self.numbers[id(place.body)] = named_numbers(self.search, place)
        return quotients(abs(c), self.numbers[id(place.body)])


def solved(search: Search, place: Place, edit: Scaled, sizes: Sizes) -> list[Edit]:
    """Solve for the number that makes every output that depends on it equal.

    Returns the edit with each way to write that number, the likeliest first; none if no plain number does it.
    """
    if search.got is None:
        return []
    at, before = Fraction(edit.at), search.got
    if edit.kind == "literal":
        tried = attempt(search, [(place, Edit(0, edit.slot, edit.make(ast.Constant(3)), ""))])
        if tried is None:
            return []
        at, before = Fraction(3), tried.outputs
    tried = attempt(search, [(place, Edit(0, edit.slot, edit.make(ast.Constant(int(at) + 1)), ""))])
    if tried is None:
        return []
    for interpretation, a, b in zip(search.interpretations, before, tried.outputs, strict=True):
        number = _number_between(interpretation, a, b)
        if number is not None:
            return _plain(edit, number + at, place, sizes)
    return []


def _number_between(
    interpretation: Interpretation, before: tuple[Value, ...], after: tuple[Value, ...]
) -> Fraction | None:
    """Return ``c`` such that ``before + c (after - before)`` equals the reference in every output that changes.

    Returns None if there is no such number.
    """
    f, p = interpretation.field, interpretation.field.p
    c = None
    for a, b, want in zip(before, after, interpretation.want, strict=True):
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
    for a, b, want in zip(before, after, interpretation.want, strict=True):
        slope = f.sub(b.x, a.x)
        if f.is_zero(slope).all():
            continue
        predicted = f.add(a.x, f.scale(slope, c))
        if not f.is_zero(f.sub(predicted, want.x)).all():
            return None
    found = rational(p, c)
    return None if found is None else Fraction(*found)


def _plain(edit: Scaled, c: Fraction, place: Place, sizes: Sizes) -> list[Edit]:
    if edit.kind == "factor":
        return factor(edit.slot, edit.cost, c, place, sizes)
    old = ast.unparse(edit.slot.node)
    ways: list[ast.expr | None] = (
        [quotient(ast.Constant(1), n, c) for n in sizes.quotients(place, c)] if c.denominator > 2 else []
    )
    ratio = c / Fraction(edit.at) if edit.at else Fraction(0)
    # Otherwise the mistake is a missing size, not a wrong literal.
    if not any(sizes.named(place, n) for n in (abs(ratio.numerator), ratio.denominator)):
        ways.append(_decimal(c))
    return [Edit(edit.cost, edit.slot, new, f"the literal {old} where {ast.unparse(new)} belongs")
            for new in ways if new is not None]  # fmt: skip


def factor(slot: Slot, cost: float, c: Fraction, place: Place, sizes: Sizes) -> list[Edit]:
    """Return the expression times c in every way to write c: with named numbers, with sizes, and with literals."""
    if c == -1:
        return [Edit(cost, slot, ast.UnaryOp(ast.USub(), slot.node), "the sign is wrong")]
    if not c or c == 1 or max(abs(c.numerator), c.denominator) > MAX_FACTOR:
        return []
    found = [Edit(cost, slot, quotient(slot.node, n, c), _too_large(1 / c, n.note))
             for n in sizes.quotients(place, c)]  # fmt: skip
    if min(abs(c.numerator), c.denominator) > MAX_COEFFICIENT:
        return found
    sized = tuple(sizes.named(place, n) for n in (abs(c.numerator), c.denominator))
    small = tuple(sizes.named(place, n, 2) for n in (abs(c.numerator), c.denominator))
    ways = dict.fromkeys((sized, (None, None), small))  # the number 2 is seldom a size, so that comes last
    return [*found, *(_with_sizes(slot, cost, c, *way) for way in ways)]


def _with_sizes(slot: Slot, cost: float, c: Fraction, above: Size | None, below: Size | None) -> Edit:
    times = Fraction(below.whole if below else c.denominator, above.whole if above else abs(c.numerator))
    note = ", ".join(f"{size.whole} = {size.text}" for size in (above, below) if size)
    return Edit(cost, slot, written(slot.node, c, above, below), _too_large(times if c > 0 else -times, note))


def _too_large(times: Fraction, note: str) -> str:
    return f"a constant factor is wrong: {times} times what it should be{f' ({note})' if note else ''}"


def quotient(node: ast.expr, named: Named, c: Fraction) -> ast.expr:
    """Return the expression times ``c``, written with names."""
    one = isinstance(node, ast.Constant) and node.value == 1
    new = node if not named.above else parsed(named.above) if one else binary(parsed(named.above), ast.Mult(), node)
    new = binary(new, ast.Div(), parsed(named.below)) if named.below else new
    return ast.UnaryOp(ast.USub(), new) if c < 0 else new


def written(node: ast.expr, c: Fraction, above: Size | None, below: Size | None) -> ast.expr:
    """Return the expression times c, written with sizes or literals."""
    new = node
    if abs(c.numerator) != 1:
        number = ast.Constant(abs(c.numerator))
        new = binary(new, ast.Mult(), parsed(above.text)) if above else binary(number, ast.Mult(), new)
    if c.denominator != 1:
        new = binary(new, ast.Div(), parsed(below.text) if below else ast.Constant(c.denominator))
    return ast.UnaryOp(ast.USub(), new) if c < 0 else new


def _decimal(c: Fraction) -> ast.expr | None:
    """Return the number as people write it, or None if that is not short."""
    if c.denominator == 1 and abs(c) < MAX_FACTOR:
        value: int | float = int(c)
    elif c.denominator <= 10**9 and len(repr(float(c))) <= 12 and Fraction(repr(float(c))) == c:
        value = float(c)
    elif max(abs(c.numerator), c.denominator) <= MAX_COEFFICIENT:
        top = ast.Constant(abs(c.numerator))
        return ast.BinOp(ast.UnaryOp(ast.USub(), top) if c < 0 else top, ast.Div(), ast.Constant(c.denominator))
    else:
        return None
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)
