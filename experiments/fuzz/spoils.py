"""One mistake at a random place of an expression."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from fuzz.nodes import Node, const, has_input, node, places, put

__all__ = ["spoiled"]

Spoil = Callable[[Node, np.random.Generator], Node | None]
SWAPS = {
    "add": ("sub",), "sub": ("add",), "maximum": ("minimum",), "minimum": ("maximum",), "exp": ("expm1",),
    "gt": ("lt", "ge"), "lt": ("gt", "le"), "ge": ("le", "gt"), "le": ("ge", "lt"), "eq": ("ne",), "ne": ("eq",),
    "and": ("or",), "or": ("and",), "sin": ("cos",), "cos": ("sin",), "tanh": ("sigmoid",), "sigmoid": ("tanh",),
    "softplus": ("relu",), "relu": ("abs", "softplus"), "sum": ("mean", "max"), "mean": ("sum",), "max": ("min", "sum"),
    "min": ("max",), "prod": ("sum",), "logsumexp": ("max", "sum"), "softmax": ("log_softmax",), "sqrt": ("rsqrt",),
    "log1p": ("log",), "square": ("cube",), "cube": ("square",), "div": ("mul",), "mul": ("add",),
    "log": ("log1p",), "variance": ("mean",), "onehot_argmax": ("onehot_argmin",), "onehot_argmin": ("onehot_argmax",),
    "floor": ("truncated",), "erf": ("erfc", "tanh"), "power": ("mul",), "sort": ("flip",),
}  # fmt: skip
DROPPED = ("relu", "abs", "sign", "floor", "tanh", "neg", "softplus", "silu", "softmax", "cumsum", "flip", "transpose",
           "clip", "square", "sort")  # fmt: skip


def other_operation(t: Node, rng: np.random.Generator) -> Node | None:
    """Another operation on the same arguments: another sign, comparison, reduction or function."""
    found = SWAPS.get(t.op)
    return node(found[int(rng.integers(len(found)))], *t.args, attrs=t.attrs) if found else None


def dropped(t: Node, rng: np.random.Generator) -> Node | None:
    """The argument itself: a function, a turn or a clip forgotten."""
    return t.args[0] if t.op in DROPPED and t.args[0].shape == t.shape else None


def one_term(t: Node, rng: np.random.Generator) -> Node | None:
    """One of two terms or factors alone."""
    if t.op not in ("add", "sub", "mul", "div", "maximum", "minimum", "logaddexp"):
        return None
    fitting = [arg for arg in t.args if arg.shape == t.shape and has_input(arg)]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def number_changed(t: Node, rng: np.random.Generator) -> Node | None:
    """A constant that is plainly or slightly another one."""
    if t.op != "const":
        return None
    value = t.attrs[1]
    changed = (value + 1, -value, 2 * value, value * (1 + 2.0**-10), value * (1 + 2.0**-20))
    new = changed[int(rng.integers(len(changed)))]
    if new == value:
        return None
    return const(new if isinstance(new, Fraction) else float(np.float32(new)))  # a fraction is one, changed or not


def scaled(t: Node, rng: np.random.Generator) -> Node | None:
    """A factor or a term too much."""
    if t.is_truth or not has_input(t):
        return None
    factor = (2.0, 0.5, -1.0, 1 + 2.0**-10, 1 + 2.0**-20)[int(rng.integers(5))]
    return node("mul", const(factor), t) if rng.random() < 0.7 else node("add", t, const(2.0 ** -int(rng.integers(12))))


def other_axis(t: Node, rng: np.random.Generator) -> Node | None:
    """Along the other axis."""
    if t.op not in ("softmax", "log_softmax", "cumsum", "flip", "sum", "mean", "max", "min", "prod", "logsumexp"):
        return None
    if len(t.args[0].shape) != 2 or t.attrs[0] is None:
        return None
    return node(t.op, *t.args, attrs=(1 - t.attrs[0], *t.attrs[1:]))


def swapped(t: Node, rng: np.random.Generator) -> Node | None:
    """Two arguments exchanged."""
    if t.op in ("sub", "div", "concatenate", "stack", "matmul"):
        return _node_or_none(t.op, t.args[1], t.args[0], attrs=t.attrs)
    return node("where", t.args[0], t.args[2], t.args[1]) if t.op == "where" else None


def _node_or_none(op: str, *args: Node, attrs: tuple = ()) -> Node | None:
    try:
        return node(op, *args, attrs=attrs)
    except (ValueError, IndexError):
        return None


def inverted(t: Node, rng: np.random.Generator) -> Node | None:
    """A condition that is its opposite."""
    return node("not", t) if t.is_truth else None


def index_moved(t: Node, rng: np.random.Generator) -> Node | None:
    """Another row, or a loop of one turn more or less."""
    if t.op == "row" and t.args[0].shape[0] > 1:
        return node("row", t.args[0], attrs=((t.attrs[0] + 1) % t.args[0].shape[0],))
    if t.op in ("gather", "scatter"):
        below = t.args[0].shape[0] if t.op == "gather" else t.shape[0]
        rows = list(t.attrs[0])
        place = int(rng.integers(len(rows)))
        rows[place] = (rows[place] + 1) % below
        return node(t.op, t.args[0], attrs=(tuple(rows), *t.attrs[1:]))
    if t.op == "slice":
        start, stop = t.attrs
        move = 1 if stop < t.args[0].shape[0] else -1
        return node("slice", t.args[0], attrs=(start + move, stop + move)) if start + move >= 0 else None
    if t.op == "fori":
        return node("fori", *t.args, attrs=(t.attrs[0] + (1 if rng.random() < 0.5 else -1), t.attrs[1]))
    if t.op in ("scan_last", "scan_all"):
        return node(t.op, t.args[0], node("flip", t.args[1], attrs=(0,)), t.args[2], attrs=t.attrs)
    return None


def decided_by_relu(t: Node, rng: np.random.Generator) -> Node | None:
    """A decision by whether something clipped is exactly 0, or exactly what it was, that a generic number never is."""
    if t.is_truth or not has_input(t):
        return None
    zero, way = const(0.0), int(rng.integers(4))
    if way == 0:
        return node("where", node("eq", node("relu", t), zero), node("neg", t), t)
    if way == 1:
        return node("where", node("eq", node("abs", t), t), t, zero)
    if way == 2:
        return node("where", node("ne", node("clip", t, const(-1.0), const(1.0)), t), node("add", t, t), t)
    return node("add", t, node("float", node("eq", node("maximum", t, const(0.5)), const(0.5))))


def clipped_first(t: Node, rng: np.random.Generator) -> Node | None:
    """A decision on what was clipped before, which is often exactly the bound."""
    if t.op not in ("gt", "lt", "ge", "le", "sign", "floor", "onehot_argmax") or not has_input(t.args[0]):
        return None
    first = t.args[0]
    ways = node("relu", first), node("clip", first, const(-0.5), const(0.5)), node("minimum", first, const(0.0))
    return node(t.op, ways[int(rng.integers(len(ways)))], *t.args[1:], attrs=t.attrs)


def wrong_law(t: Node, rng: np.random.Generator) -> Node | None:
    """What looks like an identity and holds for positive numbers only, or not at all."""
    if t.op == "abs":
        return node("sqrt", node("cube", t.args[0]))
    if t.op == "gt":
        return node("gt", node("neg", t.args[0]), node("neg", t.args[1]))
    if t.op == "floor":
        return node("neg", node("floor", node("neg", t.args[0])))
    if t.op == "sum" and t.args[0].op == "mul":
        a, b = t.args[0].args
        return node("mul", node("sum", a, attrs=t.attrs), node("sum", b, attrs=t.attrs)) if a.shape == b.shape else None
    if t.op == "exp" and t.args[0].op == "add":
        return node("add", *(node("exp", arg) for arg in t.args[0].args))
    if t.op == "square" and t.args[0].op == "add":
        return node("add", *(node("square", arg) for arg in t.args[0].args))
    if t.is_truth or not has_input(t):
        return None
    if t.op == "log" and t.args[0].op == "square":
        return node("mul", const(2.0), node("log", t.args[0].args[0]))
    ways = ("sqrt", "square"), ("square", "sqrt"), ("exp", "log")
    outer, inner = ways[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    return node(outer, node(inner, t))


def stopped(t: Node, rng: np.random.Generator) -> Node | None:
    """What is not differentiated; the value is the same."""
    return None if t.is_truth or not has_input(t) else node("stop", t)


ALWAYS = (other_operation, other_operation, other_operation, dropped, one_term, number_changed, number_changed, scaled,
          other_axis, other_axis, swapped, inverted, index_moved, index_moved, decided_by_relu, clipped_first,
          wrong_law)  # fmt: skip


def spoiled(tree: Node, rng: np.random.Generator, of_gradient: bool) -> Iterator[tuple[str, Node]]:
    """Trees with one mistake each, with the mistake's name, without end."""
    kinds = (*ALWAYS, stopped, stopped) if of_gradient else ALWAYS
    nodes = list(places(tree))
    while True:
        spoil = kinds[int(rng.integers(len(kinds)))]
        for place in rng.permutation(len(nodes)):
            path, t = nodes[place]
            new = spoil(t, rng)
            if new is not None and new.shape == t.shape and new != t:
                yield spoil.__name__, put(tree, path, new)
                break
