"""Edits of integers: sizes, indices, and the bounds and orders of loops.

No gradient flows through an integer, so that it is seldom a suspect, and no number can be solved for.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from handprop.verifier.repair.source.trees import Edit, Slot, binary, is_callee, slots, variable

__all__ = ["Integers", "integer_edits"]

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
LOOPS, COUNTS = ("range", "fori_loop"), ("arange", "len", "searchsorted", "argmax", "argmin", "argsort")
MOST_NAMES = 8


class Integers(NamedTuple):
    """Names of integers where a statement runs: single ``numbers``, of Python too, and ``arrays`` of indices."""

    numbers: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()


def integer_edits(body: ast.AST, names: Integers) -> Iterator[Edit]:
    """Yield edits of a statement, or of the header of a loop."""
    for slot in slots(body):
        node = slot.node
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv | ast.Mod):
            other = ast.Mod() if isinstance(node.op, ast.FloorDiv) else ast.FloorDiv()
            cause = "a quotient where the remainder belongs" if isinstance(other, ast.Mod) else (
                "a remainder where the quotient belongs")  # fmt: skip
            yield Edit(0.9, slot, binary(node.left, other, node.right), cause)
        if isinstance(node, ast.Call):
            yield from _of_order(slot, node)
        if isinstance(node, ast.Name):
            yield from _of_name(slot, node.id, names)
        if _is_outermost(slot, names):
            yield from _shifted(slot, names)
        if isinstance(node, ast.Subscript):
            yield from _of_indices(slot, node, names)


def _of_order(slot: Slot, node: ast.Call) -> Iterator[Edit]:
    """Turn the order of a loop of Python round."""
    if not isinstance(node.func, ast.Name):
        return
    if node.func.id == "reversed" and len(node.args) == 1:
        yield Edit(0.8, slot, node.args[0], "a loop runs in the wrong order")
    elif node.func.id == "range" and not _is_call(slot.parent, "reversed"):
        yield Edit(0.8, slot, ast.Call(variable("reversed"), [node], []), "a loop runs in the wrong order")


def _of_name(slot: Slot, name: str, names: Integers) -> Iterator[Edit]:
    if is_callee(slot):
        return
    if name in names.numbers:
        for other in [n for n in names.numbers if n != name][:MOST_NAMES]:
            yield Edit(1.3, slot, variable(other), f"{name} where {other} belongs")
    elif name in names.arrays:
        for other in [n for n in names.arrays if n != name][:MOST_NAMES]:
            yield Edit(1.35, slot, variable(other), f"{name} where {other} belongs")
        order = ast.Call(ast.Attribute(variable("jnp"), "argsort", ast.Load()), [slot.node], [])
        yield Edit(1.7, slot, order, f"{name} where the inverse of this order belongs")


def _shifted(slot: Slot, names: Integers) -> Iterator[Edit]:
    """Move an integer by one, or count it from the other end."""
    text = ast.unparse(slot.node)
    for op, step in ((ast.Add(), "one too small"), (ast.Sub(), "one too large")):
        new = ast.BinOp(slot.node, op, ast.Constant(1))
        yield Edit(1.2, slot, _folded(new), f"{text} is {step}")
    if isinstance(slot.node, ast.Constant):
        return
    for size in names.numbers[:MOST_NAMES]:
        if size != text:
            last = binary(variable(size), ast.Sub(), ast.Constant(1))
            for cost, end in ((1.5, last), (1.55, variable(size))):
                yield Edit(cost, slot, binary(end, ast.Sub(), slot.node), "a loop runs in the wrong order")


def _folded(node: ast.BinOp) -> ast.expr:
    """``n - 1 + 1`` as ``n``."""
    inner, opposite = node.left, ast.Sub if isinstance(node.op, ast.Add) else ast.Add
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, opposite) and _is_one(inner.right):
        return inner.left
    return node


def _of_indices(slot: Slot, node: ast.Subscript, names: Integers) -> Iterator[Edit]:
    """Exchange two indices of an array, or put values at indices that they were read from."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            if ast.dump(parts[i]) != ast.dump(parts[j]):
                elts = list(parts)
                elts[i], elts[j] = elts[j], elts[i]
                new = ast.Subscript(node.value, ast.Tuple(elts, ast.Load()), node.ctx)
                cause = f"the indices {ast.unparse(parts[i])} and {ast.unparse(parts[j])} swapped"
                yield Edit(1.2, slot, new, cause)
    index = parts[0]
    if len(parts) == 1 and isinstance(index, ast.Name) and index.id in names.arrays:
        blank = ast.Call(ast.Attribute(variable("jnp"), "zeros_like", ast.Load()), [node.value], [])
        at = ast.Subscript(ast.Attribute(blank, "at", ast.Load()), index, ast.Load())
        new = ast.Call(ast.Attribute(at, "set", ast.Load()), [node.value], [])
        yield Edit(1.5, slot, new, f"{ast.unparse(node)} where the inverse order belongs")


def _is_outermost(slot: Slot, names: Integers) -> bool:
    """Whether this is an integer and part of no other: a bound, an index, an end of a slice, or what is assigned."""
    parent = slot.parent
    placed = isinstance(parent, ast.Slice | ast.Assign | ast.AugAssign) or (
        (isinstance(parent, ast.Subscript) and slot.node is parent.slice)
        or (isinstance(parent, ast.Call) and not is_callee(slot) and any(_is_call(parent, f) for f in LOOPS))
        or (isinstance(parent, ast.Call) and not is_callee(slot) and _is_call(parent, "arange"))
        or (isinstance(parent, ast.BinOp) and not isinstance(parent.op, ARITHMETIC))
    )
    return placed and _is_integer(slot.node, names)


def _is_integer(node: ast.expr, names: Integers) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    if isinstance(node, ast.Name):
        return node.id in names.numbers or node.id in names.arrays
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_integer(node.operand, names)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ARITHMETIC) and _is_integer(node.left, names) and _is_integer(node.right, names)
    if isinstance(node, ast.Subscript):
        of_shape = isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
        return of_shape or (isinstance(node.value, ast.Name) and node.value.id in names.arrays)
    return any(_is_call(node, f) for f in COUNTS)


def _is_call(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    f = node.func
    return (f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else "") == name


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1
