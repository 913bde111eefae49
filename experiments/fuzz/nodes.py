"""Expressions as trees, and the Python text that a tree stands for: the text is what is run."""

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["FRACTIONS", "TEMPLATES", "Node", "const", "function_of", "has_input", "map_at", "node", "places", "put",
           "readings_of", "text_of"]  # fmt: skip

Shape = tuple[int, ...]
TEMPLATES = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "maximum": "jnp.maximum({0}, {1})",
    "minimum": "jnp.minimum({0}, {1})",
    "power": "jnp.power({0}, {1})",
    "logaddexp": "jnp.logaddexp({0}, {1})",
    "neg": "(-{0})",
    "exp": "jnp.exp({0})",
    "expm1": "jnp.expm1({0})",
    "log": "jnp.log({0})",
    "log1p": "jnp.log1p({0})",
    "sqrt": "jnp.sqrt({0})",
    "rsqrt": "lax.rsqrt({0})",
    "tanh": "jnp.tanh({0})",
    "erf": "jax.scipy.special.erf({0})",
    "erfc": "jax.scipy.special.erfc({0})",
    "sin": "jnp.sin({0})",
    "cos": "jnp.cos({0})",
    "sigmoid": "jax.nn.sigmoid({0})",
    "softplus": "jax.nn.softplus({0})",
    "silu": "jax.nn.silu({0})",
    "relu": "jax.nn.relu({0})",
    "abs": "jnp.abs({0})",
    "sign": "jnp.sign({0})",
    "floor": "jnp.floor({0})",
    "truncated": "({0}).astype(jnp.int32).astype(jnp.float32)",
    "square": "jnp.square({0})",
    "cube": "({0} ** 3)",
    "stop": "lax.stop_gradient({0})",
    "clip": "jnp.clip({0}, {1}, {2})",
    "where": "jnp.where({0}, {1}, {2})",
    "cond": "lax.cond({0}, lambda: {1}, lambda: {2})",
    "gt": "({0} > {1})",
    "lt": "({0} < {1})",
    "ge": "({0} >= {1})",
    "le": "({0} <= {1})",
    "eq": "({0} == {1})",
    "ne": "({0} != {1})",
    "not": "(~{0})",
    "and": "({0} & {1})",
    "or": "({0} | {1})",
    "float": "({0}).astype(jnp.float32)",
    "count": "jnp.sum({0}, axis={a}).astype(jnp.float32)",
    "pick": "jnp.take({0}, jnp.sum({1}, axis=0), axis=0, mode='clip')",
    "onehot_count": "jax.nn.one_hot(jnp.minimum(jnp.sum({0}, axis=0), {a} - 1), {a})",
    "onehot_argmax": "jax.nn.one_hot(jnp.argmax({0}, axis=0), {a})",
    "onehot_argmin": "jax.nn.one_hot(jnp.argmin({0}, axis=0), {a})",
    "sum": "jnp.sum({0}, axis={a}, keepdims={b})",
    "mean": "jnp.mean({0}, axis={a}, keepdims={b})",
    "max": "jnp.max({0}, axis={a}, keepdims={b})",
    "min": "jnp.min({0}, axis={a}, keepdims={b})",
    "prod": "jnp.prod({0}, axis={a}, keepdims={b})",
    "variance": "jnp.var({0}, axis={a}, keepdims={b})",
    "logsumexp": "jax.nn.logsumexp({0}, axis={a}, keepdims={b})",
    "softmax": "jax.nn.softmax({0}, axis={a})",
    "log_softmax": "jax.nn.log_softmax({0}, axis={a})",
    "cumsum": "jnp.cumsum({0}, axis={a})",
    "sort": "jnp.sort({0}, axis={a})",
    "flip": "jnp.flip({0}, axis={a})",
    "matmul": "({0} @ {1})",
    "einsum": "jnp.einsum({a!r}, {0}, {1})",
    "transpose": "jnp.transpose({0})",
    "reshape": "jnp.reshape({0}, {a})",
    "broadcast": "jnp.broadcast_to({0}, {a})",
    "concatenate": "jnp.concatenate([{0}, {1}], axis={a})",
    "stack": "jnp.stack([{0}, {1}], axis={a})",
    "row": "{0}[{a}]",
    "slice": "{0}[{a}:{b}]",
    "gather": "{0}[jnp.array({a})]",
    "onehot": "jax.nn.one_hot(jnp.array({a}), {b})",
    "lower": "jnp.tril(jnp.ones(({a}, {a})))",
    "scatter": "jnp.zeros({b}).at[jnp.array({a})].add({0})",
    "vmap": "jax.vmap(lambda {a}: {1})({0})",
    "fori": "lax.fori_loop(0, {a}, lambda i, {b}: {1}, {0})",
    "scan_last": "lax.scan(lambda {a}, {b}: ({2}, 0.0), {0}, {1})[0]",
    "scan_all": "lax.scan(lambda {a}, {b}: ({2}, {2}), {0}, {1})[1]",
}
TRUTHS = ("gt", "lt", "ge", "le", "eq", "ne", "not", "and", "or")
BINDERS = {"vmap": 1, "fori": 1, "scan_last": 2, "scan_all": 2}  # which argument is the body of a loop or a function
LEAVES = ("var", "const")
FRACTIONS = (Fraction(1, 3), Fraction(1, 10), Fraction(3, 10), Fraction(1, 6), Fraction(7, 10))
FOLDED = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg}


class Node(NamedTuple):
    """One operation; ``attrs`` fill in a, b of its template. Leaves are "var" (its name) and "const" (its text)."""

    op: str
    args: tuple["Node", ...]
    attrs: tuple[Any, ...]
    shape: Shape

    @property
    def is_truth(self) -> bool:
        return self.op in TRUTHS


def reduced(shape: Shape, axis: int | None, keep: bool) -> Shape:
    """The shape that a reduction leaves."""
    if axis is None:
        return (1,) * len(shape) if keep else ()
    return shape[:axis] + ((1,) if keep else ()) + shape[axis + 1 :]


def _contracted(args: tuple[Node, ...], attrs: tuple) -> Shape:
    left, right = (arg.shape for arg in args)
    return left[:-1] + (right[:-2] + right[-1:] if len(right) > 1 else ())


def _einsum_shape(args: tuple[Node, ...], attrs: tuple) -> Shape:
    letters, out = attrs[0].split("->")
    sizes = {k: n for part, arg in zip(letters.split(","), args, strict=True)
             for k, n in zip(part, arg.shape, strict=True)}  # fmt: skip
    return tuple(sizes[k] for k in out)


def _joined(args: tuple[Node, ...], attrs: tuple) -> Shape:
    axis = attrs[0]
    left, right = (arg.shape for arg in args)
    return (*left[:axis], left[axis] + right[axis], *left[axis + 1 :])


SHAPES: dict[str, Callable[[tuple[Node, ...], tuple], Shape]] = {
    **{name: lambda args, attrs: reduced(args[0].shape, attrs[0], attrs[1])
       for name in ("sum", "mean", "max", "min", "prod", "variance", "logsumexp")},
    "count": lambda args, attrs: reduced(args[0].shape, attrs[0], False),
    "cond": lambda args, attrs: args[1].shape,
    "pick": lambda args, attrs: args[0].shape[1:],
    **{name: lambda args, attrs: (attrs[0],) for name in ("onehot_count", "onehot_argmax", "onehot_argmin")},
    "vmap": lambda args, attrs: (args[0].shape[0], *args[1].shape),
    "matmul": _contracted,
    "einsum": _einsum_shape,
    "transpose": lambda args, attrs: args[0].shape[::-1],
    "reshape": lambda args, attrs: attrs[0],
    "broadcast": lambda args, attrs: attrs[0],
    "concatenate": _joined,
    "stack": lambda args, attrs: (*args[0].shape[: attrs[0]], 2, *args[0].shape[attrs[0] :]),
    "row": lambda args, attrs: args[0].shape[1:],
    "slice": lambda args, attrs: (attrs[1] - attrs[0], *args[0].shape[1:]),
    "gather": lambda args, attrs: (len(attrs[0]), *args[0].shape[1:]),
    "onehot": lambda args, attrs: (len(attrs[0]), attrs[1]),
    "lower": lambda args, attrs: (attrs[0], attrs[0]),
    "scatter": lambda args, attrs: attrs[1],
    "fori": lambda args, attrs: args[0].shape,
    "scan_last": lambda args, attrs: args[0].shape,
    "scan_all": lambda args, attrs: (args[1].shape[0], *args[0].shape),
}  # fmt: skip


def node(op: str, *args: Node, attrs: tuple = ()) -> Node:
    """An operation on these; ValueError where the shapes do not fit."""
    by_op = SHAPES.get(op)
    shape = by_op(args, attrs) if by_op else np.broadcast_shapes(*(arg.shape for arg in args))
    return Node(op, args, attrs, tuple(int(size) for size in shape))


def const(value: float | Fraction) -> Node:
    """A number; a fraction is written as a division, which Python carries out before JAX sees it."""
    text = f"({value.numerator}.0 / {value.denominator}.0)" if isinstance(value, Fraction) else repr(float(value))
    text = f"({text})" if text.startswith("-") else text
    return Node("const", (), (text, value), ())


def readings_of(*trees: Node) -> dict[float, Fraction]:
    """What the float32 constants of a program stand for that are no dyadic numbers: Python folds them before JAX sees
    them."""
    readings: dict[float, Fraction] = {}
    for tree in trees:
        for _, t in places(tree):
            value = _folded(t)
            if value is not None and float(np.float32(float(value))) != value:
                readings[float(np.float32(float(value)))] = value
    return readings


def _folded(t: Node) -> Fraction | None:
    """The value of arithmetic on constants alone."""
    if t.op == "const":
        value = t.attrs[1]
        return value if isinstance(value, Fraction) else Fraction(float(value))
    values = [_folded(arg) for arg in t.args] if t.op in FOLDED else [None]
    if any(value is None for value in values) or (t.op == "div" and values[1] == 0):
        return None
    return FOLDED[t.op](*values)


def has_input(tree: Node) -> bool:
    return tree.op == "var" or any(has_input(arg) for arg in tree.args)


def places(tree: Node, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Node]]:
    """Every node with the way to it."""
    yield path, tree
    for i, arg in enumerate(tree.args):
        yield from places(arg, (*path, i))


def put(tree: Node, path: tuple[int, ...], new: Node) -> Node:
    """The tree with another node at this place; shapes above stay what they were."""
    if not path:
        return new
    args = list(tree.args)
    args[path[0]] = put(args[path[0]], path[1:], new)
    return tree._replace(args=tuple(args))


def map_at(tree: Node, name: str, new: Node) -> Node:
    """The tree with this variable replaced."""
    if tree.op == "var" and tree.attrs[0] == name:
        return new
    return tree._replace(args=tuple(map_at(arg, name, new) for arg in tree.args)) if tree.args else tree


def text_of(trees: tuple[Node, ...], names: tuple[str, ...]) -> str:
    """A function's text: what occurs more than once outside of loops has a line of its own."""
    counts: Counter[Node] = Counter()
    for tree in trees:
        _count(tree, counts)
    lines: list[str] = []
    known: dict[Node, str] = {}

    def written(tree: Node, bound: bool) -> str:
        if tree.op in LEAVES:
            return str(tree.attrs[0])
        if tree in known:
            return known[tree]
        body = BINDERS.get(tree.op)
        parts = [written(arg, bound or i == body) for i, arg in enumerate(tree.args)]
        text = TEMPLATES[tree.op].format(*parts, **dict(zip("ab", tree.attrs, strict=False)))
        if bound or counts[tree] < 2:
            return text
        known[tree] = f"t{len(known)}"
        lines.append(f"    {known[tree]} = {text}")
        return known[tree]

    results = ", ".join(written(tree, False) for tree in trees)
    return "\n".join([f"def program({', '.join(names)}):", *lines, f"    return {results}"])


def _count(tree: Node, counts: Counter) -> None:
    counts[tree] += 1
    if counts[tree] > 1:
        return
    body = BINDERS.get(tree.op)
    for i, arg in enumerate(tree.args):
        if i != body:
            _count(arg, counts)


def function_of(text: str) -> Callable[..., Any]:
    """The function that a text defines."""
    space: dict[str, Any] = {"jax": jax, "jnp": jnp, "lax": lax}
    exec(compile(text, "<fuzz>", "exec"), space)
    return space["program"]
