"""Edits of calls, sequences and subscripts: another function, axis, order or slice."""

import ast
from collections.abc import Iterator
from typing import Any

from handprop.verifier.repair.source.trees import AtHand, Edit, Slot, binary, constant, is_value, parsed

__all__ = ["REDUCTIONS", "of_call", "of_sequence", "of_subscript", "takes_away"]

REDUCTIONS = ("sum", "mean")
TWINS = {"sin": ("cos",), "cos": ("sin",), "tril": ("triu",), "triu": ("tril",), "argmax": ("argmin",),
         "cumsum": ("cumprod",), "log": ("log1p",), "log1p": ("log",), "exp": ("expm1",), "maximum": ("minimum",),
         "minimum": ("maximum",), "sqrt": ("rsqrt",), "rsqrt": ("sqrt",)}  # fmt: skip


def of_call(slot: Slot, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Call):
        return
    f = node.func
    attr = _name_of(f)
    if isinstance(f, ast.Attribute):
        for other in REDUCTIONS if attr in REDUCTIONS else TWINS.get(attr, ()):
            if other != attr:
                cause = f"a {attr} where a {other} belongs" if attr in REDUCTIONS else f"{attr} where {other} belongs"
                yield Edit(1, slot, ast.Call(ast.Attribute(f.value, other, f.ctx), node.args, node.keywords), cause)
        if attr in ("add", "set") and _at(f.value) is not None:
            other = "set" if attr == "add" else "add"
            cause = "terms of equal index overwrite each other" if attr == "set" else "added where it should be set"
            yield Edit(0.9, slot, ast.Call(ast.Attribute(f.value, other, f.ctx), node.args, node.keywords), cause)
        if attr in ("mul", "add", "set", "multiply") and _at(f.value) is not None:
            yield Edit(0.9, slot, _at(f.value), "wrong at one index")  # pyright: ignore[reportArgumentType]
        if attr in (*REDUCTIONS, "cumsum", "astype", "reshape") and not _is_module(f.value, candidate):
            yield Edit(0.9 if attr == "astype" else 1.6, slot, f.value, f"{attr} is one too many")
    if attr == "scan":
        others = [k for k in node.keywords if k.arg != "reverse"]
        ways = [[*others, ast.keyword("reverse", ast.Constant(True))], others]
        for keywords in ways[: 1 if len(others) == len(node.keywords) else 2]:
            yield Edit(0.6, slot, ast.Call(f, node.args, keywords), "a loop runs in the wrong order")
    if attr == "where" and len(node.args) == 3:
        for kept in node.args[1:]:
            yield Edit(
                1, slot, kept, f"wrong where {'not ' if kept is node.args[1] else ''}{ast.unparse(node.args[0])}"
            )
        yield Edit(
            1.3, slot, ast.Call(f, [node.args[0], node.args[2], node.args[1]], []), "both cases of a choice swapped"
        )
    elif node.args:
        inner = ast.unparse(node.args[0])
        causes = {
            "stop_gradient": "stop_gradient",
            "ones_like": f"{inner} is ignored: ones stand in its place",
            "zeros_like": f"{inner} is ignored: zeros stand in its place",
        }
        yield Edit(1 if attr in causes else 1.6, slot, node.args[0], causes.get(attr, f"{attr} is one too many"))
    plain = [i for i, a in enumerate(node.args) if not isinstance(a, ast.Constant | ast.Starred)]
    for i, j in [(i, j) for i in plain for j in plain if i < j]:
        args = list(node.args)
        args[i], args[j] = args[j], args[i]
        yield Edit(1.2, slot, ast.Call(f, args, node.keywords), "arguments swapped")
    if node.args and len(node.args) == 1 and not isinstance(node.args[0], ast.Constant | ast.Name):
        negated = ast.UnaryOp(ast.USub(), node.args[0])
        yield Edit(1.4, slot, ast.Call(f, [negated], node.keywords), "the sign of an argument is wrong")
    if len(node.args) == 1 and is_value(Slot(node.args[0], slot.put, node), candidate):
        for c, times in ((2, "1/2"), (0.5, "2")):
            new = ast.Call(f, [binary(ast.Constant(c), ast.Mult(), node.args[0])], node.keywords)
            yield Edit(1.5, slot, new, f"a constant factor is wrong: an argument is {times} times what it should be")
    if attr in REDUCTIONS and not any(k.arg in ("axis",) for k in node.keywords):
        for axis in (0, 1, -1):
            keywords = [*node.keywords, ast.keyword("axis", constant(axis))]
            yield Edit(1.4, slot, ast.Call(f, node.args, keywords), "summed over every axis")
            keywords = [*keywords, ast.keyword("keepdims", ast.Constant(True))]
            yield Edit(1.5, slot, ast.Call(f, node.args, keywords), "summed over every axis")


def takes_away(edit: Edit, name: str) -> bool:
    """Whether the edit replaces a call of the function of that name by the first argument of the call."""
    node = edit.slot.node
    return isinstance(node, ast.Call) and _name_of(node.func) == name and node.args[:1] == [edit.new]


def _name_of(f: ast.expr) -> str:
    return f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else ""


def _is_module(node: ast.expr, candidate: dict[str, AtHand]) -> bool:
    if isinstance(node, ast.Name):
        return node.id not in candidate
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("jax.numpy", "jax.lax", "jax.nn")


def _at(node: ast.expr) -> ast.expr | None:
    """``x`` of ``x.at[...]``."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "at":
        return node.value.value
    return None


def of_sequence(slot: Slot) -> Iterator[Edit]:
    node: Any = slot.node
    for i, kept in enumerate(node.elts):
        if isinstance(kept, ast.Tuple) and len(node.elts) == 2:  # fwd returns (value, residuals): save the value
            value = node.elts[1 - i]
            for k, held in enumerate(kept.elts):
                inner = ast.Tuple([value if j == k else other for j, other in enumerate(kept.elts)], kept.ctx)
                pair: list[ast.expr] = [inner if j == i else value for j in range(2)]
                cause = f"{ast.unparse(held)} where {ast.unparse(value)} belongs"
                yield Edit(1.3, slot, ast.Tuple(pair, node.ctx), cause)
    for i in range(len(node.elts)):
        for j in range(i + 1, len(node.elts)):
            elts = list(node.elts)
            elts[i], elts[j] = elts[j], elts[i]
            new = type(node)(elts, node.ctx)
            yield Edit(
                1 + 0.1 * (j - i - 1), slot, new, f"{ast.unparse(node.elts[i])} and {ast.unparse(node.elts[j])} swapped"
            )


OPPOSITE = {"1:": ":-1", ":-1": "1:"}  # all but the first, and all but the last


def of_subscript(slot: Slot) -> Iterator[Edit]:
    node: Any = slot.node
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]

    def with_part(i: int, new: ast.expr) -> ast.expr:
        elts = [*parts[:i], new, *parts[i + 1 :]]
        return ast.Subscript(node.value, ast.Tuple(elts, ast.Load()) if len(parts) > 1 else new, node.ctx)

    texts = [ast.unparse(part) for part in parts]
    if all(text in OPPOSITE for text in texts):
        new = parsed(f"x[{', '.join(OPPOSITE[text] for text in texts)}]").slice  # pyright: ignore[reportAttributeAccessIssue]
        cause = f"the slice {', '.join(texts)} where {ast.unparse(new)} belongs"
        yield Edit(1.1, slot, ast.Subscript(node.value, new, node.ctx), cause)
    if isinstance(node.value, ast.Attribute) and node.value.attr in ("shape", "at"):
        return
    for i, part in enumerate(parts):
        if isinstance(part, ast.Slice):
            if ast.unparse(part) == "::-1":
                yield Edit(1.2, slot, with_part(i, ast.Slice(None, None, None)), "reversed where it should not be")
                continue
            for other in {ast.unparse(p): p for p in parts if isinstance(p, ast.Slice)}.values():
                if ast.unparse(other) != ast.unparse(part):
                    yield Edit(1.4, slot, with_part(i, other), "the wrong slice along an axis")
            for new in _moved_slices(part):
                yield Edit(
                    1.5, slot, with_part(i, new), f"the slice {ast.unparse(part)} where {ast.unparse(new)} belongs"
                )
        elif isinstance(part, ast.Name):
            for step in (1, -1):
                new = binary(part, ast.Sub() if step > 0 else ast.Add(), ast.Constant(1))
                yield Edit(2.5, slot, with_part(i, new), "an index one off")
    if isinstance(node.value, ast.Name) and len(parts) == 1 and not isinstance(parts[0], ast.Slice):
        return
    yield Edit(1.9, slot, with_part(0, ast.Slice(None, None, ast.UnaryOp(ast.USub(), ast.Constant(1)))), "not reversed")


def _moved_slices(part: ast.Slice) -> Iterator[ast.Slice]:
    """Yield slices with one or both ends moved by one, or with one end left out."""

    def moved(end: ast.expr | None, by: int) -> ast.expr | None:
        try:
            return constant(ast.literal_eval(end) + by) if end is not None else None
        except (ValueError, TypeError):
            return binary(end, ast.Add() if by > 0 else ast.Sub(), ast.Constant(1)) if end is not None else None

    for low, high in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
        if (low and part.lower is None) or (high and part.upper is None):
            continue
        yield ast.Slice(
            moved(part.lower, low) if low else part.lower, moved(part.upper, high) if high else part.upper, part.step
        )
    if part.lower is not None:
        yield ast.Slice(None, part.upper, part.step)
    if part.upper is not None:
        yield ast.Slice(part.lower, None, part.step)
