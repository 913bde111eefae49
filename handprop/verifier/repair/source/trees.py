"""Expressions of a statement as trees, and edits of them.

An :class:`Edit` replaces a slot's expression by ``new``; ``cause`` describes the mistake in words. An edit that
multiplies by an unknown number, or changes a literal, is :class:`Scaled` until the number that makes the outputs equal
has been solved for.
"""

import ast
from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

__all__ = [
    "HEADERS",
    "AtHand",
    "Edit",
    "Scaled",
    "Slot",
    "asked_before",
    "binary",
    "changed_part",
    "constant",
    "is_callee",
    "is_number",
    "is_structural",
    "is_top",
    "is_value",
    "one_minus",
    "parsed",
    "slots",
    "variable",
]  # fmt: skip


HEADERS: dict[type, str] = {ast.For: "iter", ast.While: "test", ast.If: "test"}  # what a header reads


class AtHand(NamedTuple):
    """An array that a name refers to where the statement runs: its shape, and whether its dtype is floating."""

    shape: tuple[int, ...]
    floats: bool


class Slot(NamedTuple):
    """A place in a tree: the expression there, and a function that replaces it."""

    node: ast.expr
    put: Callable[[ast.expr], None]
    parent: ast.AST


class Edit(NamedTuple):
    cost: float
    slot: Slot
    new: ast.expr
    cause: str


class Scaled(NamedTuple):
    """An edit ``make(c)`` with an unknown number c; ``c = at`` leaves the statement unchanged."""

    cost: float
    slot: Slot
    make: Callable[[ast.expr], ast.expr]
    at: Any
    kind: str


def changed_part(old: ast.expr, new: ast.AST) -> ast.expr:
    """Return the smallest part of an expression outside which nothing changes.

    Where a binary operation has another operator, that is its right side: a line breaks before its operator.
    """
    if type(old) is not type(new):
        return old
    parts = [(a, b) for name in old._fields for a, b in _paired(getattr(old, name), getattr(new, name))]
    changed = [(a, b) for a, b in parts if _differ(a, b)]
    if len(changed) != 1:
        return old
    if isinstance(old, ast.BinOp) and changed[0][0] is old.op:
        return old.right
    a, b = changed[0]
    if isinstance(a, ast.keyword) and isinstance(b, ast.keyword) and a.arg == b.arg:
        a, b = a.value, b.value
    return changed_part(a, b) if isinstance(a, ast.expr) else old


def _paired(old: Any, new: Any) -> list[tuple[Any, Any]]:
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return list(zip(old, new, strict=True))
    return [(old, new)]


def _differ(old: Any, new: Any) -> bool:
    both = isinstance(old, ast.AST) and isinstance(new, ast.AST)
    return ast.dump(old) != ast.dump(new) if both else old != new


def slots(body: ast.AST) -> list[Slot]:
    """Return every expression that a statement, a lambda's body or a header reads, outermost first."""
    field = "body" if isinstance(body, ast.Lambda) else HEADERS.get(type(body), "value")
    roots = [(field, getattr(body, field, None))]
    found: list[Slot] = []

    def visit(parent: ast.AST, field: str, index: int | None, node: Any) -> None:
        if not isinstance(node, ast.expr):
            if isinstance(node, ast.keyword):
                visit(node, "value", None, node.value)
            elif isinstance(node, ast.comprehension):
                visit(node, "iter", None, node.iter)
            return

        def put(new: ast.expr) -> None:
            if index is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[index] = new

        found.append(Slot(node, put, parent))
        for name, held in ast.iter_fields(node):
            if isinstance(held, list):
                for i, item in enumerate(held):
                    visit(node, name, i, item)
            elif isinstance(held, ast.AST):
                visit(node, name, None, held)

    for field, node in roots:
        if node is not None:
            visit(body, field, None, node)
    return found


def constant(value: float | int) -> ast.expr:
    if value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def variable(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def binary(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, op, right)


def one_minus(node: ast.expr) -> ast.expr:
    return binary(ast.Constant(1), ast.Sub(), node)


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def asked_before(value: ast.expr, question: str) -> ast.expr:
    """Return the value, with the function named ``question`` called before it on the local names."""
    asked = ast.Call(variable(question), [ast.Call(variable("locals"), [], [])], [])
    return ast.Subscript(ast.Tuple([asked, value], ast.Load()), ast.Constant(1), ast.Load())


def is_top(slot: Slot) -> bool:
    """Whether the expression is all that a statement assigns or returns, or one of several."""
    return isinstance(slot.parent, ast.Assign | ast.Return | ast.Tuple | ast.AugAssign | ast.Lambda)


def is_value(slot: Slot, candidate: dict[str, AtHand]) -> bool:
    """Whether an expression may be an array of floats rather than an axis, a function or an index."""
    node = slot.node
    if isinstance(node, ast.Name):
        return node.id in candidate and candidate[node.id].floats and not is_callee(slot)
    if isinstance(slot.parent, ast.keyword | ast.Subscript | ast.Slice) or is_callee(slot):
        return False
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call | ast.Attribute | ast.Subscript) and not (
        isinstance(node, ast.Attribute) and node.attr in ("shape", "size", "at", "ndim", "dtype"))  # fmt: skip


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a constant is a number; True and False are not."""
    return type(value) in (int, float)


def is_callee(slot: Slot) -> bool:
    return isinstance(slot.parent, ast.Call) and slot.node is slot.parent.func


def is_structural(slot: Slot) -> bool:
    """Whether a number is an axis, a size or an index rather than a value."""
    return isinstance(slot.parent, ast.keyword | ast.Subscript | ast.Slice | ast.Tuple | ast.List)
