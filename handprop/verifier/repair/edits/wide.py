"""Edits of more kinds than there is time to try: only those are tried that a statement's value favours.

Another of the user's functions is called, another array with a name or inside a tree is read, an argument runs in the
other order, or a value is multiplied by what is written elsewhere.
"""

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from handprop.verifier.repair.source.trees import Edit, Slot, binary, is_callee, is_top, parsed, slots, variable

__all__ = ["Wide", "wide_edits"]

BACKWARD = ast.Slice(None, None, ast.UnaryOp(ast.USub(), ast.Constant(1)))
FACTORS, MOST_ARGS = 24, 5


class Wide(NamedTuple):
    """A queued query for a statement's edits of these kinds."""

    penalty: float
    cost: float = 1.3
    slot: None = None


def wide_edits(body: ast.AST, shapes: Mapping[str, Any],
               functions: Mapping[str, tuple[str, ...]], expressions: Sequence[str]) -> Iterator[Edit]:  # fmt: skip
    """Yield edits of a statement.

    ``shapes`` are those of the float arrays and trees in scope, by the text that reads them.
    ``functions`` are the parameters of the user's functions by name, and ``expressions`` texts from elsewhere.
    """
    for slot in slots(body):
        yield from _other_function(slot, functions)
        yield from _other_array(slot, shapes)
        yield from _other_order(slot)
        yield from _other_size(slot)
        yield from _other_factor(slot, [t for t in expressions if "[" in t][:FACTORS])


def _other_function(slot: Slot, functions: Mapping[str, tuple[str, ...]]) -> Iterator[Edit]:
    """Call a function with the same parameters."""
    if isinstance(slot.node, ast.Name) and is_callee(slot) and slot.node.id in functions:
        own = functions[slot.node.id]
        for other in (name for name, its in functions.items() if name != slot.node.id and its == own):
            yield Edit(1.4, slot, variable(other), f"{slot.node.id} is called where {other} belongs")


def _other_array(slot: Slot, shapes: Mapping[str, Any]) -> Iterator[Edit]:
    if not isinstance(slot.node, ast.Name | ast.Subscript | ast.Attribute) or is_callee(slot):
        return
    own = ast.unparse(slot.node)
    for other, shape in shapes.items():
        if own in shapes and other != own and shape == shapes[own] and not (other + own).isidentifier():
            yield Edit(1.5 + 0.01 * other.count("["), slot, parsed(other), f"{own} where {other} belongs")


def _other_order(slot: Slot) -> Iterator[Edit]:
    """Reverse a call's result, its arguments, or both."""
    node: Any = slot.node
    if not isinstance(node, ast.Call):
        return
    plain = [i for i, x in enumerate(node.args) if not isinstance(x, ast.Starred | ast.Constant)][:MOST_ARGS]
    subsets = [s for size in (1, 2) for s in itertools.combinations(plain, size)]
    for chosen in [(), *subsets] if is_top(slot) else subsets:
        args = [_reversed(x) if i in chosen else x for i, x in enumerate(node.args)]
        new = ast.Call(node.func, args, node.keywords)
        if chosen:
            yield Edit(1.8, slot, new, "an argument is not reversed")
        if is_top(slot):
            yield Edit(1.9, slot, _reversed(new), "an order is not reversed")


def _reversed(node: ast.expr) -> ast.expr:
    return ast.Subscript(node, BACKWARD, ast.Load())


def _other_size(slot: Slot) -> Iterator[Edit]:
    """Turn the size of an array into the sum of its entries, as where a mask is counted."""
    node = slot.node
    if isinstance(node, ast.Attribute) and node.attr == "size":
        new = ast.Call(ast.Attribute(node.value, "sum", ast.Load()), [], [])
        yield Edit(1.5, slot, new, f"{ast.unparse(node)} where {ast.unparse(new)} belongs")


def _other_factor(slot: Slot, expressions: Sequence[str]) -> Iterator[Edit]:
    """Multiply by an expression of another shape, as by a mask with a new axis."""
    if not is_top(slot) or isinstance(slot.node, ast.Tuple | ast.Constant | ast.Lambda):
        return
    for text in expressions:
        yield Edit(1.6, slot, binary(slot.node, ast.Mult(), parsed(text)), f"the factor {text} is missing")
