"""Small edits of one statement, as trees: what people get wrong, turned round.

An :class:`Edit` puts ``new`` in the place of ``old``; ``cause`` says in words what the mistake was. Edits that multiply
by an unknown number, add an unknown multiple of a term, or change a literal are :class:`Scaled`: the number that makes
the outputs equal is solved for, and then the edit is one like any other.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["AtHand", "Edit", "Scaled", "Slot", "edits", "factors", "scaled", "slots"]

REDUCTIONS = ("sum", "mean")
TWINS = {"sin": ("cos",), "cos": ("sin",), "tril": ("triu",), "triu": ("tril",), "argmax": ("argmin",),
         "cumsum": ("cumprod",), "log": ("log1p",), "log1p": ("log",), "exp": ("expm1",), "maximum": ("minimum",),
         "minimum": ("maximum",), "sqrt": ("rsqrt",), "rsqrt": ("sqrt",)}  # fmt: skip


class AtHand(NamedTuple):
    """What a name stands for where the statement runs: an array's shape and whether it is of floats."""

    shape: tuple[int, ...]
    floats: bool


class Slot(NamedTuple):
    """A place in a tree: what stands there, and how to put something else."""

    node: ast.expr
    put: Callable[[ast.expr], None]
    parent: ast.AST


class Edit(NamedTuple):
    cost: float
    slot: Slot
    new: ast.expr
    cause: str


class Scaled(NamedTuple):
    """``make(c)`` for a number c; the statement is as it was at ``at``."""

    cost: float
    slot: Slot
    make: Callable[[ast.expr], ast.expr]
    at: Any
    kind: str
    term: str = ""


def slots(body: ast.AST) -> list[Slot]:
    """Every expression that is read in a statement, or in a lambda's body, outermost first."""
    roots = [("body", body.body)] if isinstance(body, ast.Lambda) else [("value", getattr(body, "value", None))]
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


def _number(value: float | int) -> ast.expr:
    if value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _binary(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, op, right)


def _one_minus(node: ast.expr) -> ast.expr:
    return _binary(ast.Constant(1), ast.Sub(), node)


def edits(body: ast.AST, hand: dict[str, AtHand]) -> Iterator[Edit]:
    """Edits of a statement, in no order; what they make may not even run."""
    yield from _everywhere(body, hand)
    yield from _of_update(body)
    for slot in slots(body):
        node = slot.node
        if _is_subscripted(slot):
            yield from _of_index(slot)
            continue
        yield from _of_operator(slot)
        yield from _of_name(slot, hand)
        yield from _of_constant(slot)
        yield from _of_call(slot, hand)
        if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
            yield Edit(1, slot, node.value, "transposed where it should not be")
        yield from _of_value(slot, hand)
        if isinstance(node, ast.Tuple | ast.List) and isinstance(getattr(node, "ctx", None), ast.Load):
            yield from _of_sequence(slot)
        if isinstance(node, ast.Subscript):
            yield from _of_subscript(slot)


def _everywhere(body: ast.AST, hand: dict[str, AtHand]) -> Iterator[Edit]:
    """Another name of the same shape wherever a name stands twice or more."""
    found = slots(body)
    names = [slot.node.id for slot in found if isinstance(slot.node, ast.Name) and slot.node.id in hand]
    for name in sorted({n for n in names if names.count(n) > 1}):
        for other in (n for n, h in hand.items() if n != name and h.shape == hand[name].shape):
            yield Edit(1.5, found[0], _renamed(found[0].node, {name: other}), f"{name} where {other} belongs")
    for i, one in enumerate(sorted(set(names))):
        for other in sorted(set(names))[i + 1 :]:
            if hand[one].shape == hand[other].shape:
                swapped = _renamed(found[0].node, {one: other, other: one})
                yield Edit(1.5, found[0], swapped, f"{one} and {other} swapped")


def _of_update(body: ast.AST) -> Iterator[Edit]:
    """``w = w - rate * dw`` before w is used for the last time."""
    if not (
        isinstance(body, ast.Assign) and isinstance(body.value, ast.BinOp) and isinstance(body.value.left, ast.Name)
    ):
        return
    names = [target.id for target in body.targets if isinstance(target, ast.Name)]
    if isinstance(body.value.op, ast.Sub) and body.value.left.id in names:
        slot = slots(body)[0]
        yield Edit(0.9, slot, body.value.left, f"{names[0]} is used after its update")


def _renamed(node: ast.expr, names: dict[str, str]) -> ast.expr:
    copied = copy.deepcopy(node)
    for part in ast.walk(copied):
        if isinstance(part, ast.Name):
            part.id = names.get(part.id, part.id)
    return copied


FUNCTIONS = ("exp", "log", "tanh", "sqrt", "cos", "sin", "sign")


def _of_value(slot: Slot, hand: dict[str, AtHand]) -> Iterator[Edit]:
    """A value for another: ``1 - E``, a function of it, or what has a name in place of a longer expression."""
    node = slot.node
    if not _is_value(slot, hand):
        return
    in_sequence = isinstance(slot.parent, ast.Tuple | ast.Return)
    if not isinstance(node, ast.Name):
        yield Edit(1.7, slot, _one_minus(node), f"{ast.unparse(node)} where 1 - {ast.unparse(node)} belongs")
        for name in hand if in_sequence else ():
            yield Edit(1.5, slot, _name(name), f"{ast.unparse(node)} where {name} belongs")
    elif not in_sequence:
        for function in FUNCTIONS:
            new = ast.Call(ast.Attribute(_name("jnp"), function, ast.Load()), [node], [])
            yield Edit(2.1, slot, new, f"{node.id} where {function}({node.id}) belongs")


def _is_subscripted(slot: Slot) -> bool:
    return (
        isinstance(slot.parent, ast.Subscript)
        and slot.node is slot.parent.slice
        and isinstance(slot.node, ast.Constant)
    )


def _of_index(slot: Slot) -> Iterator[Edit]:
    value = slot.node.value  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, int):
        for other in {value - 1, value + 1, -1, 0, 1} - {value}:
            yield Edit(1.5, slot, _number(other), f"index {value} for {other}")


def _of_operator(slot: Slot) -> Iterator[Edit]:
    node = slot.node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        index = isinstance(slot.parent, ast.Slice | ast.Subscript | ast.keyword)
        yield Edit(1, slot, node.operand, "an order or axis is reversed" if index else "the sign is wrong")
        if isinstance(node.operand, ast.Constant) and node.operand.value == 1:
            yield Edit(1.5, slot, _number(-0.5), "-1 where -0.5 belongs")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.Not):
        yield Edit(1, slot, node.operand, "a condition is negated")
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in (ast.Lt(), ast.Gt(), ast.LtE(), ast.GtE()):
            if type(op) is not type(node.ops[0]):
                yield Edit(
                    1, slot, ast.Compare(node.left, [op], node.comparators), "a comparison is the wrong way round"
                )
    if not isinstance(node, ast.BinOp):
        return
    left, op, right = node.left, node.op, node.right
    for other, cause in _other_operators(op):
        yield Edit(1, slot, _binary(left, other, right), cause)
    if isinstance(op, ast.Mult | ast.Div):
        yield Edit(
            1.2,
            slot,
            left,
            f"the factor {'1 / ' if isinstance(op, ast.Div) else ''}{ast.unparse(right)} is one too many",
        )
        if isinstance(op, ast.Mult):
            yield Edit(1.2, slot, right, f"the factor {ast.unparse(left)} is one too many")
        else:
            yield Edit(1.5, slot, _binary(right, ast.Div(), left), "a quotient is upside down")
    if isinstance(op, ast.Add | ast.Sub):
        yield Edit(1.2, slot, left, f"the term {ast.unparse(right)} is one too many")
        yield Edit(1.3, slot, right, f"the term {ast.unparse(left)} is one too many")
        if isinstance(op, ast.Sub):
            yield Edit(1.1, slot, _binary(right, op, left), "the sign is wrong")
    if isinstance(op, ast.MatMult):
        yield Edit(1, slot, _binary(right, op, left), "operands of a product swapped")
        for new in (_binary(_transposed(left), op, right), _binary(left, op, _transposed(right)),
                    _binary(_transposed(right), op, left), _binary(right, op, _transposed(left))):  # fmt: skip
            yield Edit(1.1, slot, new, "a factor of a product is not transposed as it should be")
    if isinstance(op, ast.Pow):
        yield Edit(1.1, slot, left, f"the power {ast.unparse(right)} is one too many")


def _transposed(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    return ast.Attribute(node, "T", ast.Load())


def _other_operators(op: ast.operator) -> list[tuple[ast.operator, str]]:
    if isinstance(op, ast.Add):
        return [(ast.Sub(), "the sign of a term is wrong"), (ast.Mult(), "a sum where a product belongs")]
    if isinstance(op, ast.Sub):
        return [(ast.Add(), "the sign of a term is wrong"), (ast.Mult(), "a difference where a product belongs")]
    if isinstance(op, ast.Mult):
        return [(ast.Div(), "multiplied where it should be divided"), (ast.Add(), "a product where a sum belongs")]
    if isinstance(op, ast.Div):
        return [(ast.Mult(), "divided where it should be multiplied")]
    return []


def _of_name(slot: Slot, hand: dict[str, AtHand]) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Name) or _is_callee(slot) or node.id not in hand:
        return
    own = hand[node.id]
    same = [n for n, h in hand.items() if n != node.id and h.shape == own.shape]
    for other in same:
        yield Edit(1.4, slot, _name(other), f"{node.id} where {other} belongs")
        yield Edit(2.6, slot, _one_minus(_name(other)), f"{node.id} where 1 - {other} belongs")
    for other, h in hand.items():
        if h.shape != own.shape:
            yield Edit(2.2, slot, _name(other), f"{node.id} where {other} belongs")
    if not own.floats:
        return
    yield Edit(1.5, slot, _one_minus(_name(node.id)), f"{node.id} where 1 - {node.id} belongs")
    yield Edit(1.3, slot, ast.UnaryOp(ast.USub(), _name(node.id)), f"the sign of {node.id} is wrong")
    yield Edit(1.6, slot, _binary(_name(node.id), ast.Pow(), ast.Constant(2)), f"{node.id} where {node.id}**2 belongs")
    if len(own.shape) == 2:
        yield Edit(1.2, slot, ast.Attribute(_name(node.id), "T", ast.Load()), f"{node.id} is not transposed")
    if len(own.shape) > 2:
        yield Edit(1.6, slot, ast.Attribute(_name(node.id), "mT", ast.Load()), f"{node.id} is not transposed")


def _is_callee(slot: Slot) -> bool:
    return isinstance(slot.parent, ast.Call) and slot.node is slot.parent.func


def _of_constant(slot: Slot) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield Edit(1.5, slot, ast.Constant(not value), f"{value} where {not value} belongs")
    elif isinstance(value, int):
        axis = isinstance(slot.parent, ast.keyword) and slot.parent.arg in ("axis", "axes")
        for other in sorted({value + 1, value - 1, -value, 0, 1, 2, -1} - {value}, key=abs):
            cause = f"the wrong axis: {value} where {other} belongs" if axis else f"{value} where {other} belongs"
            yield Edit(1 if axis else 1.5, slot, _number(other), cause)
        if axis:
            yield Edit(1.4, slot, ast.Constant(None), f"the wrong axis: {value} where all belong")
    elif isinstance(value, str) and "->" in value:
        for i, old in enumerate(value):
            for letter in sorted({c for c in value if c.isalpha()} - {old}) if old.isalpha() else ():
                yield Edit(2, slot, ast.Constant(value[:i] + letter + value[i + 1 :]), "the wrong index in an einsum")
        ins, out = value.split("->")
        for i in range(len(out) - 1):
            swapped = out[:i] + out[i + 1] + out[i] + out[i + 2 :]
            yield Edit(1.2, slot, ast.Constant(f"{ins}->{swapped}"), "the result of an einsum is transposed")
        operands = ins.split(",")
        for n, letters in enumerate(operands):
            for i in range(len(letters)):
                for j in range(i + 1, len(letters)):
                    turned = list(letters)
                    turned[i], turned[j] = turned[j], turned[i]
                    new = ",".join([*operands[:n], "".join(turned), *operands[n + 1 :]])
                    yield Edit(1.3, slot, ast.Constant(f"{new}->{out}"), "an operand of an einsum is transposed")


def _of_call(slot: Slot, hand: dict[str, AtHand]) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Call):
        return
    f = node.func
    attr = f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else ""
    if isinstance(f, ast.Attribute):
        for other in REDUCTIONS if attr in REDUCTIONS else TWINS.get(attr, ()):
            if other != attr:
                cause = f"a {attr} where a {other} belongs" if attr in REDUCTIONS else f"{attr} where {other} belongs"
                yield Edit(1, slot, ast.Call(ast.Attribute(f.value, other, f.ctx), node.args, node.keywords), cause)
        if attr in ("mul", "add", "set", "multiply") and _at(f.value) is not None:
            yield Edit(0.9, slot, _at(f.value), "wrong at one index")  # pyright: ignore[reportArgumentType]
        if attr in (*REDUCTIONS, "cumsum", "astype", "reshape") and not _is_module(f.value, hand):
            yield Edit(1.6, slot, f.value, f"{attr} is one too many")
    if attr == "where" and len(node.args) == 3:
        for kept in node.args[1:]:
            yield Edit(
                1, slot, kept, f"wrong where {'not ' if kept is node.args[1] else ''}{ast.unparse(node.args[0])}"
            )
        yield Edit(
            1.3, slot, ast.Call(f, [node.args[0], node.args[2], node.args[1]], []), "both cases of a choice swapped"
        )
    elif node.args:
        cause = "stop_gradient" if attr == "stop_gradient" else f"{attr} is one too many"
        yield Edit(1 if attr == "stop_gradient" else 1.6, slot, node.args[0], cause)
    plain = [i for i, a in enumerate(node.args) if not isinstance(a, ast.Constant | ast.Starred)]
    for i, j in [(i, j) for i in plain for j in plain if i < j]:
        args = list(node.args)
        args[i], args[j] = args[j], args[i]
        yield Edit(1.2, slot, ast.Call(f, args, node.keywords), "arguments swapped")
    if node.args and len(node.args) == 1 and not isinstance(node.args[0], ast.Constant | ast.Name):
        negated = ast.UnaryOp(ast.USub(), node.args[0])
        yield Edit(1.4, slot, ast.Call(f, [negated], node.keywords), "the sign of an argument is wrong")
    if attr in REDUCTIONS and not any(k.arg in ("axis",) for k in node.keywords):
        for axis in (0, 1, -1):
            keywords = [*node.keywords, ast.keyword("axis", _number(axis))]
            yield Edit(1.4, slot, ast.Call(f, node.args, keywords), "summed over every axis")
            keywords = [*keywords, ast.keyword("keepdims", ast.Constant(True))]
            yield Edit(1.5, slot, ast.Call(f, node.args, keywords), "summed over every axis")


def _is_module(node: ast.expr, hand: dict[str, AtHand]) -> bool:
    if isinstance(node, ast.Name):
        return node.id not in hand
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("jax.numpy", "jax.lax", "jax.nn")


def _at(node: ast.expr) -> ast.expr | None:
    """``x`` of ``x.at[...]``."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "at":
        return node.value.value
    return None


def _of_sequence(slot: Slot) -> Iterator[Edit]:
    node: Any = slot.node
    for i in range(len(node.elts)):
        for j in range(i + 1, len(node.elts)):
            elts = list(node.elts)
            elts[i], elts[j] = elts[j], elts[i]
            new = type(node)(elts, node.ctx)
            yield Edit(
                1 + 0.1 * (j - i - 1), slot, new, f"{ast.unparse(node.elts[i])} and {ast.unparse(node.elts[j])} swapped"
            )


def _of_subscript(slot: Slot) -> Iterator[Edit]:
    node: Any = slot.node
    if isinstance(node.value, ast.Attribute) and node.value.attr in ("shape", "at"):
        return
    for i, part in enumerate(node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]):
        if isinstance(part, ast.Slice) and ast.unparse(part) == "::-1":
            new = copy.copy(node)
            if isinstance(node.slice, ast.Tuple):
                elts = list(node.slice.elts)
                elts[i] = ast.Slice(None, None, None)
                new.slice = ast.Tuple(elts, ast.Load())
                yield Edit(1.2, slot, new, "reversed where it should not be")
            else:
                yield Edit(1.2, slot, node.value, "reversed where it should not be")
        elif isinstance(part, ast.Name):
            new = copy.copy(node)
            new.slice = _binary(part, ast.Sub(), ast.Constant(1))
            yield Edit(2.5, slot, new, "an index one too far")


# Edits with a number to solve for


def scaled(body: ast.AST, hand: dict[str, AtHand]) -> Iterator[Scaled]:
    """A factor on every value, a multiple of every term at hand added to every term, and every literal."""
    for slot in slots(body):
        node = slot.node
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and not _is_structural(slot):
            yield Scaled(1.2, slot, lambda c: c, node.value, "literal")
        if not _is_value(slot, hand):
            continue
        top = isinstance(slot.parent, ast.Assign | ast.Return | ast.Tuple | ast.AugAssign | ast.Lambda)
        term = isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Add | ast.Sub)
        if top or term or (isinstance(slot.parent, ast.Call) and not _is_callee(slot)):
            yield Scaled(1 if top else 1.3, slot, lambda c, n=node: _binary(c, ast.Mult(), n), 1, "factor")
            for name, h in hand.items():
                if h.floats:
                    more = lambda c, n=node, t=name: _binary(n, ast.Add(), _binary(c, ast.Mult(), _name(t)))  # noqa: E731
                    yield Scaled(2.4 if top else 2.6, slot, more, 0, "term", name)
            yield Scaled(2.2, slot, lambda c, n=node: _binary(n, ast.Add(), c), 0, "term", "1")
            names = sorted(name for name, h in hand.items() if h.floats) if top else []
            for i, one in enumerate(names):
                for other in names[i + 1 :]:
                    pair = f"{one} * {other}"
                    more = lambda c, n=node, t=pair: _binary(n, ast.Add(), _binary(c, ast.Mult(), _parsed(t)))  # noqa: E731
                    yield Scaled(2.9, slot, more, 0, "term", pair)


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def factors(body: ast.AST, hand: dict[str, AtHand]) -> Iterator[Edit]:
    """Multiplication or division of a value by what is at hand."""
    for slot in slots(body):
        node = slot.node
        if not _is_value(slot, hand):
            continue
        top = isinstance(slot.parent, ast.Assign | ast.Return | ast.Tuple | ast.AugAssign | ast.Lambda)
        inner = isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript)
        if not (top or inner or (isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Add | ast.Sub))):
            continue
        extra = 0 if top else 0.4
        if inner and isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Mult):
            for slope in (_one_minus(node), _one_minus(_binary(node, ast.Pow(), ast.Constant(2)))):
                cause = f"the factor {ast.unparse(slope)} is missing, as of an activation's derivative"
                yield Edit(1.8, slot, _binary(node, ast.Mult(), slope), cause)
        for name, h in hand.items():
            if not h.floats:
                continue
            n = _name(name)
            cause = f"the factor {name} is missing"
            for placed in _placed(n, h, node, hand):
                yield Edit(2 + extra, slot, _binary(node, ast.Mult(), placed), cause)
                yield Edit(2.3 + extra, slot, _binary(node, ast.Div(), placed), f"it is not divided by {name}")
            for make, text in (
                (_one_minus, "1 - {}"),
                (lambda m: _one_minus(_binary(m, ast.Pow(), ast.Constant(2))), "1 - {}**2"),
            ):
                text = text.format(name)
                yield Edit(2.1 + extra, slot, _binary(node, ast.Mult(), make(n)), f"the factor {text} is missing")
            if top and isinstance(slot.parent, ast.Assign):
                both = _binary(_binary(node, ast.Mult(), n), ast.Mult(), _one_minus(n))
                yield Edit(2.4, slot, both, f"the factor {name} * (1 - {name}) is missing")
        for name, h in hand.items():
            if not h.floats:
                cause = f"the mask {name} is missing"
                yield Edit(2.2 + extra, slot, _binary(node, ast.Mult(), _name(name)), cause)


def _placed(n: ast.expr, h: AtHand, node: ast.expr, hand: dict[str, AtHand]) -> list[ast.expr]:
    """The name as it is, and with an axis more where that may be what broadcasts."""
    forms = [n]
    if 1 <= len(h.shape) <= 2 and any(len(o.shape) > len(h.shape) for o in hand.values()):
        forms.append(ast.Subscript(n, ast.Constant(None), ast.Load()))
        column = ast.Tuple([ast.Constant(...), ast.Constant(None)], ast.Load())
        forms.append(ast.Subscript(n, column, ast.Load()))
    return forms


def _is_value(slot: Slot, hand: dict[str, AtHand]) -> bool:
    """Whether an expression may be an array of floats: neither an axis, nor a function, nor an index."""
    node = slot.node
    if isinstance(node, ast.Name):
        return node.id in hand and hand[node.id].floats and not _is_callee(slot)
    if isinstance(slot.parent, ast.keyword | ast.Subscript | ast.Slice) or _is_callee(slot):
        return False
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call | ast.Attribute | ast.Subscript) and not (
        isinstance(node, ast.Attribute) and node.attr in ("shape", "size", "at", "ndim", "dtype"))  # fmt: skip


def _is_structural(slot: Slot) -> bool:
    """Whether a number is an axis, a size or an index rather than a value."""
    return isinstance(slot.parent, ast.keyword | ast.Subscript | ast.Slice | ast.Tuple | ast.List)
