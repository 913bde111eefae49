"""Small edits of one statement that undo common mistakes. :mod:`term_solver` finds missing terms and factors."""

import ast
import copy
import functools
from collections.abc import Iterator, Sequence

from handprop.verifier.repair.edits.calls import REDUCTIONS, of_call, of_sequence, of_subscript
from handprop.verifier.repair.source.trees import (  # fmt: skip
    AtHand,
    Edit,
    Scaled,
    Slot,
    binary,
    constant,
    is_callee,
    is_number,
    is_structural,
    is_top,
    is_value,
    one_minus,
    parsed,
    slots,
    variable,
)

__all__ = ["edits", "scaled"]

NEAR = 0.02
FUNCTIONS = ("exp", "log", "tanh", "sqrt", "cos", "sin", "sign", "abs")


def edits(body: ast.AST, candidate: dict[str, AtHand], numbers: Sequence[float] = ()) -> Iterator[Edit]:
    """Yield edits of a statement, unordered; not all of them run. ``numbers`` are literals that may be meant."""
    yield from _everywhere(body, candidate)
    yield from _of_update(body, candidate)
    if slots(body):
        yield from _numbers_everywhere(body, numbers)
    for slot in slots(body):
        node = slot.node
        if _is_subscripted(slot):
            yield from _of_index(slot)
            continue
        yield from _of_operator(slot)
        yield from _of_name(slot, candidate)
        yield from _of_constant(slot, candidate)
        yield from _of_literal(slot, numbers)
        yield from of_call(slot, candidate)
        if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
            yield Edit(1, slot, node.value, "transposed where it should not be")
        yield from _of_value(slot, candidate)
        if isinstance(node, ast.Tuple | ast.List) and isinstance(getattr(node, "ctx", None), ast.Load):
            yield from of_sequence(slot)
        if isinstance(node, ast.Subscript):
            yield from of_subscript(slot)


def _everywhere(body: ast.AST, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    """Replace every occurrence of a repeated name by another name of the same shape, or swap two names."""
    found = slots(body)
    names = [slot.node.id for slot in found if isinstance(slot.node, ast.Name) and slot.node.id in candidate]
    for name in sorted({n for n in names if names.count(n) > 1}):
        for other in (n for n, h in candidate.items() if n != name and h.shape == candidate[name].shape):
            yield Edit(1.5, found[0], _renamed(found[0].node, {name: other}), f"{name} where {other} belongs")
    for i, one in enumerate(sorted(set(names))):
        for other in sorted(set(names))[i + 1 :]:
            if candidate[one].shape == candidate[other].shape:
                swapped = _renamed(found[0].node, {one: other, other: one})
                yield Edit(1.5, found[0], swapped, f"{one} and {other} swapped")


def _of_update(body: ast.AST, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    """Undo an update ``w = w - rate * dw`` that comes too early, or turn ``dw = x`` into ``dw = dw + x``."""
    if not isinstance(body, ast.Assign):
        return
    names = [target.id for target in body.targets if isinstance(target, ast.Name)]
    for name in (n for n in names if n in candidate and candidate[n].floats):
        cause = f"the term {name} of a sum is missing: what was summed up before is lost"
        yield Edit(1.1, slots(body)[0], binary(variable(name), ast.Add(), body.value), cause)
    if not (isinstance(body.value, ast.BinOp) and isinstance(body.value.left, ast.Name)):
        return
    if isinstance(body.value.op, ast.Sub) and body.value.left.id in names:
        slot = slots(body)[0]
        yield Edit(0.9, slot, body.value.left, f"{names[0]} is used after its update")


def _numbers_everywhere(body: ast.AST, numbers: Sequence[float]) -> Iterator[Edit]:
    """Replace every occurrence of a repeated number by another number."""
    first = slots(body)[0]
    held = [n.value for n in ast.walk(first.node) if isinstance(n, ast.Constant) and is_number(n.value)]
    for value in dict.fromkeys(v for v in held if held.count(v) > 1):
        for number in (n for n in numbers if n > 0 and n != value):
            new = copy.deepcopy(first.node)
            for part in ast.walk(new):
                if isinstance(part, ast.Constant) and part.value == value and is_number(part.value):
                    part.value = number
            yield Edit(1.6, first, new, f"the literal {value} where {number:.12g} belongs")


def _renamed(node: ast.expr, names: dict[str, str]) -> ast.expr:
    copied = copy.deepcopy(node)
    for part in ast.walk(copied):
        if isinstance(part, ast.Name):
            part.id = names.get(part.id, part.id)
    return copied


def _of_value(slot: Slot, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    """Replace a value by ``1 - E``, by a function of it, or by a name."""
    node = slot.node
    if not is_value(slot, candidate):
        return
    for name in (n for n, h in candidate.items() if not h.floats and h.shape):
        yield Edit(1.6, slot, binary(node, ast.Mult(), variable(name)), f"the mask {name} is missing")
        if is_top(slot):
            wider = parsed(f"{name}[..., None]")
            yield Edit(1.65, slot, binary(node, ast.Mult(), wider), f"the mask {ast.unparse(wider)} is missing")
    in_sequence = isinstance(slot.parent, ast.Tuple | ast.Return)
    if not isinstance(node, ast.Name):
        squared = binary(node, ast.Pow(), ast.Constant(2))
        yield Edit(1.6, slot, squared, f"{ast.unparse(node)} where {ast.unparse(squared)} belongs")
        yield Edit(1.5, slot, one_minus(node), f"{ast.unparse(node)} where 1 - {ast.unparse(node)} belongs")
        for name in (n for n, h in candidate.items() if in_sequence or not h.shape):
            yield Edit(1.5, slot, variable(name), f"{ast.unparse(node)} where {name} belongs")
    elif not in_sequence:
        for function in FUNCTIONS:
            new = ast.Call(ast.Attribute(variable("jnp"), function, ast.Load()), [node], [])
            yield Edit(1.7, slot, new, f"{node.id} where {function}({node.id}) belongs")


def _is_subscripted(slot: Slot) -> bool:
    return (
        isinstance(slot.parent, ast.Subscript)
        and slot.node is slot.parent.slice
        and isinstance(slot.node, ast.Constant)
    )


def _of_index(slot: Slot) -> Iterator[Edit]:
    value, of = slot.node.value, slot.parent.value  # pyright: ignore[reportAttributeAccessIssue]
    of_shape = isinstance(of, ast.Attribute) and of.attr == "shape"
    if isinstance(value, int):
        for other in {value - 1, value + 1, -1, 0, 1} - {value}:
            cause = f"the size of axis {value} where that of axis {other} belongs"
            yield Edit(0.8, slot, constant(other), cause) if of_shape else Edit(
                1.5, slot, constant(other), f"index {value} for {other}")  # fmt: skip


def _of_operator(slot: Slot) -> Iterator[Edit]:
    node = slot.node
    if isinstance(node, ast.UnaryOp):
        yield from _of_unary(slot, node)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from _of_comparison(slot, node)
    elif isinstance(node, ast.BinOp):
        for cost, other, cause in _other_operators(node.op):
            yield Edit(cost, slot, binary(node.left, other, node.right), cause)
        yield from _of_binary(slot, node.left, node.op, node.right)


def _of_unary(slot: Slot, node: ast.UnaryOp) -> Iterator[Edit]:
    if isinstance(node.op, ast.USub):
        index = isinstance(slot.parent, ast.Slice | ast.Subscript | ast.keyword)
        yield Edit(1, slot, node.operand, "an order or axis is reversed" if index else "the sign is wrong")
        if isinstance(node.operand, ast.Constant) and node.operand.value == 1 and not index:
            yield Edit(1.5, slot, constant(-0.5), "-1 where -0.5 belongs")
    if isinstance(node.op, ast.Invert | ast.Not):
        yield Edit(1, slot, node.operand, "a condition is negated")


def _of_comparison(slot: Slot, node: ast.Compare) -> Iterator[Edit]:
    for op in (ast.Lt(), ast.Gt(), ast.LtE(), ast.GtE()):
        if type(op) is not type(node.ops[0]):
            other = ast.Compare(node.left, [op], node.comparators)
            yield Edit(1, slot, other, "a comparison is the wrong way round")
    opposite = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.LtE, ast.LtE: ast.GtE}.get(type(node.ops[0]))
    if opposite is not None:
        bound = node.comparators[0]
        negated = isinstance(bound, ast.UnaryOp) and isinstance(bound.op, ast.USub)
        bound = bound.operand if negated else ast.UnaryOp(ast.USub(), bound)  # pyright: ignore[reportAttributeAccessIssue]
        other = ast.Compare(node.left, [opposite()], [bound])
        cause = f"the condition {ast.unparse(other)} is missing"
        yield Edit(1.5, slot, binary(node, ast.BitAnd(), other), cause)


def _of_binary(slot: Slot, left: ast.expr, op: ast.operator, right: ast.expr) -> Iterator[Edit]:
    if isinstance(op, ast.Mult | ast.Div):
        factor = f"{'1 / ' if isinstance(op, ast.Div) else ''}{ast.unparse(right)}"
        yield Edit(1.2, slot, left, f"the factor {factor} is one too many")
        if isinstance(op, ast.Mult):
            yield Edit(1.2, slot, right, f"the factor {ast.unparse(left)} is one too many")
        else:
            yield Edit(1.5, slot, binary(right, ast.Div(), left), "a quotient is upside down")
        if not (isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Mult)):
            yield from _of_product(slot)
    if isinstance(op, ast.Add | ast.Sub):
        yield Edit(1.2, slot, left, f"the term {ast.unparse(right)} is one too many")
        yield Edit(1.3, slot, right, f"the term {ast.unparse(left)} is one too many")
        if isinstance(op, ast.Sub):
            plain = isinstance(left, ast.Constant)  # people seldom write 1 - x where x - 1 is right
            yield Edit(1.4 if plain else 1.1, slot, binary(right, op, left), "the sign is wrong")
    if isinstance(op, ast.MatMult):
        yield Edit(1, slot, binary(right, op, left), "operands of a product swapped")
        for new in (binary(_transposed(left), op, right), binary(left, op, _transposed(right)),
                    binary(_transposed(right), op, left), binary(right, op, _transposed(left))):  # fmt: skip
            yield Edit(1.1, slot, new, "a factor of a product is not transposed as it should be")
    if isinstance(op, ast.Pow):
        yield Edit(1.1, slot, left, f"the power {ast.unparse(right)} is one too many")


def _of_product(slot: Slot) -> Iterator[Edit]:
    """Drop two factors of a product of three or more."""
    factors: list[ast.expr] = []

    def collect(node: ast.expr) -> None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            collect(node.left)
            collect(node.right)
        else:
            factors.append(node)

    collect(slot.node)
    if not 3 <= len(factors) <= 6:
        return
    for i in range(len(factors)):
        for j in range(i + 1, len(factors)):
            kept = [f for k, f in enumerate(factors) if k not in (i, j)]
            new = functools.reduce(lambda a, b: binary(a, ast.Mult(), b), kept)
            both = f"{ast.unparse(factors[i])} * {ast.unparse(factors[j])}"
            yield Edit(1.25, slot, new, f"the factor {both} is one too many")


def _transposed(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    return ast.Attribute(node, "T", ast.Load())


OF_A_SUM, OF_A_PRODUCT, OF_ANOTHER_KIND = 0.85, 1.1, 1.6  # what it costs to replace an operator


def _other_operators(op: ast.operator) -> list[tuple[float, ast.operator, str]]:
    if isinstance(op, ast.Add):
        return [(OF_A_SUM, ast.Sub(), "the sign of a term is wrong"),
                (OF_ANOTHER_KIND, ast.Mult(), "a sum where a product belongs")]  # fmt: skip
    if isinstance(op, ast.Sub):
        return [(OF_A_SUM, ast.Add(), "the sign of a term is wrong"),
                (OF_ANOTHER_KIND, ast.Mult(), "a difference where a product belongs")]  # fmt: skip
    if isinstance(op, ast.Mult):
        return [(OF_A_PRODUCT, ast.Div(), "multiplied where it should be divided"),
                (OF_ANOTHER_KIND, ast.Add(), "a product where a sum belongs")]  # fmt: skip
    if isinstance(op, ast.Div):
        return [(OF_A_PRODUCT, ast.Mult(), "divided where it should be multiplied")]
    return []


def _of_name(slot: Slot, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Name) or is_callee(slot) or node.id not in candidate:
        return
    own = candidate[node.id]
    same = [n for n, h in candidate.items() if n != node.id and h.shape == own.shape]
    for other in same:
        yield Edit(
            1.25 if isinstance(slot.parent, ast.Tuple) else 1.4,
            slot,
            variable(other),
            f"{node.id} where {other} belongs",
        )
        yield Edit(2.6, slot, one_minus(variable(other)), f"{node.id} where 1 - {other} belongs")
    for other, h in candidate.items():
        if h.shape != own.shape:
            yield Edit(2.2, slot, variable(other), f"{node.id} where {other} belongs")
    if not own.floats:
        return
    yield Edit(1.32, slot, one_minus(variable(node.id)), f"{node.id} where 1 - {node.id} belongs")
    yield Edit(1.3, slot, ast.UnaryOp(ast.USub(), variable(node.id)), f"the sign of {node.id} is wrong")
    yield Edit(
        1.6, slot, binary(variable(node.id), ast.Pow(), ast.Constant(2)), f"{node.id} where {node.id}**2 belongs"
    )
    if len(own.shape) == 2:
        yield Edit(1.2, slot, ast.Attribute(variable(node.id), "T", ast.Load()), f"{node.id} is not transposed")
    if len(own.shape) > 2:
        yield Edit(1.6, slot, ast.Attribute(variable(node.id), "mT", ast.Load()), f"{node.id} is not transposed")


def _is_axis(slot: Slot) -> bool:
    """Whether a number is an axis, by its keyword or as the first argument of a reduction."""
    parent = slot.parent
    if isinstance(parent, ast.keyword):
        return parent.arg in ("axis", "axes")
    if not isinstance(parent, ast.Call) or not isinstance(parent.func, ast.Attribute):
        return False
    return parent.func.attr in REDUCTIONS and parent.args[:1] == [slot.node]


def _of_constant(slot: Slot, candidate: dict[str, AtHand]) -> Iterator[Edit]:
    node = slot.node
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if value in (0, 1) and isinstance(slot.parent, ast.Call | ast.BinOp) and not isinstance(value, bool):
        for name in (n for n, h in candidate.items() if h.floats):
            yield Edit(1.5, slot, variable(name), f"{value} where {name} belongs: it is ignored")
    if isinstance(value, bool):
        yield Edit(1.5, slot, ast.Constant(not value), f"{value} where {not value} belongs")
    elif isinstance(value, int):
        axis = _is_axis(slot)
        for other in sorted({value + 1, value - 1, -value, 0, 1, 2, -1} - {value}, key=abs):
            cause = f"the wrong axis: {value} where {other} belongs" if axis else f"{value} where {other} belongs"
            yield Edit(1 if axis else 1.5, slot, constant(other), cause)
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


def _of_literal(slot: Slot, numbers: Sequence[float]) -> Iterator[Edit]:
    """Replace a number by one of those that may be meant, or by its square root."""
    node = slot.node
    if not isinstance(node, ast.Constant) or not is_number(value := node.value) or is_structural(slot):
        return
    for number in (n for n in numbers if n != value):
        near = abs(number - value) <= NEAR * abs(value)
        cause = f"the literal is {'slightly off: ' if near else ''}{value} where {number:.12g} belongs"
        yield Edit(1.05 if near else 1.6, slot, constant(number), cause)
    if value > 1:
        new = binary(node, ast.Pow(), ast.Constant(0.5))
        yield Edit(1.7, slot, new, f"{value} where its square root belongs")


def scaled(body: ast.AST, candidate: dict[str, AtHand]) -> Iterator[Scaled]:
    """Yield an unknown factor on every value, and an unknown number for every literal."""
    for slot in slots(body):
        node = slot.node
        if isinstance(node, ast.Constant) and is_number(node.value) and not is_structural(slot):
            lone = node.value == 1 and isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Sub)
            yield Scaled(1.6 if lone else 1.25, slot, lambda c: c, node.value, "literal")
        if not is_value(slot, candidate):
            continue
        top = is_top(slot)
        term = isinstance(slot.parent, ast.BinOp) and isinstance(slot.parent.op, ast.Add | ast.Sub)
        if top or term or (isinstance(slot.parent, ast.Call) and not is_callee(slot)):
            yield Scaled(1.3 if top else 1.35, slot, lambda c, n=node: binary(c, ast.Mult(), n), 1, "factor")
