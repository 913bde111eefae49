"""Random expressions over one to three small arrays, defined for nearly all real numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fuzz.nodes import FRACTIONS, Node, const, has_input, node

__all__ = ["Drawing", "nonnegative", "positive"]

SHAPES = ((), (2,), (3,), (2, 3), (2, 3))
PLAIN = (0.5, 2.0, 3.0, 1.5, 0.25, 4.0, -1.0, -2.0, 1.0)
UNARY = ("neg", "exp", "tanh", "sigmoid", "softplus", "relu", "abs", "square", "silu", "sin", "cos", "sign", "cube",
         "expm1", "erf", "relu", "square", "tanh", "sigmoid", "exp")  # fmt: skip
BINARY = ("add", "add", "sub", "mul", "mul", "maximum", "minimum", "logaddexp", "div")
REDUCTIONS = ("sum", "sum", "mean", "max", "min", "logsumexp", "prod", "variance")
ALWAYS = ("exp", "sigmoid", "softplus", "softmax", "rsqrt")
NEVER_BELOW = ("square", "abs", "relu", "float", "count", "variance", "lower", "onehot", "onehot_count",
               "onehot_argmax", "onehot_argmin")  # fmt: skip
KEEP_SIGN = ("sum", "mean", "max", "min", "prod", "transpose", "reshape", "broadcast", "row", "slice", "gather", "flip",
             "maximum", "minimum", "mul", "div", "concatenate", "stack", "cube", "sqrt", "add", "cumsum",
             "stop")  # fmt: skip


def positive(tree: Node) -> bool:
    """Whether it is above 0 wherever it is defined, as far as its form says."""
    if tree.op == "const":
        return float(tree.attrs[1]) > 0
    if tree.op in ALWAYS:
        return True
    if tree.op == "add":
        return all(nonnegative(arg) for arg in tree.args) and any(positive(arg) for arg in tree.args)
    if tree.op == "where":
        return all(positive(arg) for arg in tree.args[1:])
    if tree.op in ("log1p", "power"):
        return positive(tree.args[0])
    return tree.op in KEEP_SIGN and all(positive(arg) for arg in tree.args)


def nonnegative(tree: Node) -> bool:
    """Whether it is never below 0, as far as its form says."""
    if tree.op in NEVER_BELOW or positive(tree):
        return True
    if tree.op == "const":
        return float(tree.attrs[1]) >= 0
    if tree.op == "where":
        return all(nonnegative(arg) for arg in tree.args[1:])
    return tree.op in (*KEEP_SIGN, "matmul", "scatter") and all(nonnegative(arg) for arg in tree.args)


class Argument(NamedTuple):
    """An input of the program."""

    name: str
    shape: tuple[int, ...]


class Drawing:
    """Draws expressions of a wanted shape; ``arguments`` are the inputs they may use."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        count = int(rng.integers(1, 4))
        shapes = [SHAPES[int(i)] for i in rng.integers(1, len(SHAPES), 1)]
        shapes += [SHAPES[int(i)] for i in rng.integers(0, len(SHAPES), count - 1)]
        self.arguments = [Argument(name, shape) for name, shape in zip("xyz", shapes, strict=False)]
        self.loops = 0

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self) -> Node:
        return const(self.pick(FRACTIONS) if self.chance(0.12) else self.pick(PLAIN))

    def program(self) -> Node:
        """The body of a program: an array that depends on an input."""
        while True:
            tree = self.draw(self.pick(SHAPES), int(self.rng.integers(2, 5)))
            if has_input(tree):
                return tree

    def leaf(self, shape: tuple[int, ...]) -> Node:
        """An input brought to this shape."""
        given = self.pick(self.arguments)
        same = [argument for argument in self.arguments if argument.shape == shape]
        if same and self.chance(0.9):
            given = self.pick(same)
        var = Node("var", (), (given.name,), given.shape)
        if given.shape == shape:
            return var
        if len(given.shape) == 2 and len(shape) == 1:
            if shape[0] == given.shape[1]:
                return node("row", var, attrs=(int(self.rng.integers(given.shape[0])),))
            if shape[0] == given.shape[0]:
                return node("sum", var, attrs=(1, False))
        if len(given.shape) <= len(shape) and given.shape == shape[len(shape) - len(given.shape) :]:
            return node("broadcast", var, attrs=(shape,))
        whole = node(self.pick(("sum", "mean")), var, attrs=(None, False))
        return whole if not shape else node("broadcast", whole, attrs=(shape,))

    def draw(self, shape: tuple[int, ...], depth: int) -> Node:
        """An expression of this shape, of at most this depth or a little more."""
        if depth <= 0:
            return self.leaf(shape)
        ways: list[tuple[Callable[..., Node], float]] = [(self.unary, 4), (self.binary, 6), (self.domain, 2)]
        ways += [(self.choice, 2.5), (self.loop, 0.5), (self.mask, 0.7)]
        if shape in ((), (2,), (3,)):
            ways += [(self.reduction, 3), (self.count, 0.4)]
        if shape:
            ways += [(self.along, 2), (self.moved, 2)]
        if shape in ((), (2,), (2, 3)):
            ways += [(self.product, 2)]
        weights = np.array([weight for _, weight in ways])
        way = ways[int(self.rng.choice(len(ways), p=weights / weights.sum()))][0]
        return way(shape, depth - 1)

    def smaller(self, shape: tuple[int, ...], depth: int) -> Node:
        """An expression that broadcasts to this shape."""
        if self.chance(0.25):
            return self.number()
        return self.draw(
            shape if self.chance(0.7) else shape[len(shape) - int(self.rng.integers(len(shape) + 1)) :], depth
        )

    def unary(self, shape: tuple[int, ...], depth: int) -> Node:
        return node("floor" if self.chance(0.02) else self.pick(UNARY), self.draw(shape, depth))

    def binary(self, shape: tuple[int, ...], depth: int) -> Node:
        op, left, right = self.pick(BINARY), self.draw(shape, depth), self.smaller(shape, depth - 1)
        if op == "div" and self.chance(0.8):
            right = self.made_positive(right)
        if op == "mul" and self.chance(0.08):
            return node("power", self.made_positive(left), right)
        return node(op, right, left) if self.chance(0.3) and op != "div" else node(op, left, right)

    def made_positive(self, tree: Node) -> Node:
        """A form of it that is above 0."""
        if positive(tree):
            return tree
        if nonnegative(tree):
            return node("add", tree, const(self.pick((1.0, 0.5, 2.0))))
        way = self.pick(("exp", "softplus", "square", "abs", "sigmoid"))
        made = node(way, tree)
        return made if positive(made) else node("add", made, const(self.pick((1.0, 0.5))))

    def domain(self, shape: tuple[int, ...], depth: int) -> Node:
        """A function that is defined for positive numbers only."""
        return node(self.pick(("log", "sqrt", "rsqrt", "log1p")), self.made_positive(self.draw(shape, depth)))

    def truth(self, shape: tuple[int, ...], depth: int) -> Node:
        """A condition of this shape."""
        left = self.draw(shape, depth)
        share = self.rng.random()
        if share < 0.06:
            return node("eq", node("relu", left), const(0.0))
        if share < 0.1:
            return node("eq", node("maximum", left, self.draw(shape, 0)), left)
        if share < 0.13:
            return node("eq", node("abs", left), left)
        right = const(self.pick((0.0, 0.0, 1.0, -0.5, 0.5))) if self.chance(0.6) else self.draw(shape, 0)
        compared = node(self.pick(("gt", "lt", "ge", "le")), left, right)
        if share < 0.2:
            return node("not", compared)
        return node(self.pick(("and", "or")), compared, self.truth(shape, 0)) if share > 0.9 else compared

    def choice(self, shape: tuple[int, ...], depth: int) -> Node:
        if self.chance(0.25):
            low, high = self.pick(((-1.0, 1.0), (0.0, 6.0), (-0.5, 2.0)))
            return node("clip", self.draw(shape, depth), const(low), const(high))
        return node("where", self.truth(shape, min(depth, 1)), self.draw(shape, depth), self.draw(shape, depth - 1))

    def mask(self, shape: tuple[int, ...], depth: int) -> Node:
        return node("mul", node("float", self.truth(shape, min(depth, 1))), self.draw(shape, depth))

    def count(self, shape: tuple[int, ...], depth: int) -> Node:
        inner = (2, 3) if shape == (3,) else (*shape, 3) if shape == (2,) else self.pick(((2,), (3,)))
        return node("count", self.truth(inner, min(depth, 1)), attrs=(0 if shape == (3,) else len(shape),))

    def reduction(self, shape: tuple[int, ...], depth: int) -> Node:
        op = self.pick(REDUCTIONS)
        if not shape:
            inner = self.pick(((2,), (3,), (2, 3)))
            return node(op, self.draw(inner, depth), attrs=(None if len(inner) == 2 or self.chance(0.3) else 0, False))
        return node(op, self.draw((2, 3), depth), attrs=(0 if shape == (3,) else 1, False))

    def along(self, shape: tuple[int, ...], depth: int) -> Node:
        """What works along an axis and keeps the shape."""
        axis = int(self.rng.integers(len(shape)))
        inner = self.draw(shape, depth)
        op = self.pick(("softmax", "softmax", "log_softmax", "cumsum", "flip", "centred", "shifted", "best"))
        if self.chance(0.04):
            return node("sort", inner, attrs=(axis,))
        if op == "best":
            best = node(self.pick(("onehot_argmax", "onehot_argmin")), self.draw((shape[-1],), 1), attrs=(shape[-1],))
            return node("mul", best, inner)
        if op == "centred":
            return node("sub", inner, node("mean", inner, attrs=(axis, True)))
        if op == "shifted":
            return node("sub", inner, node("max", inner, attrs=(axis, True)))
        return node(op, inner, attrs=(axis,))

    def moved(self, shape: tuple[int, ...], depth: int) -> Node:
        """What is gathered, scattered, joined or turned."""
        n, rest = shape[0], shape[1:]
        op = self.pick(("gather", "scatter", "join", "turn", "slice", "stack", "pick"))
        if op == "pick":
            return node("pick", self.draw((3, *shape), depth), self.truth((self.pick((2, 3)),), 0))
        if op == "gather":
            source = (self.pick((2, 3)), *rest)
            return node("gather", self.draw(source, depth), attrs=(self.indices(source[0], n),))
        if op == "scatter":
            count = self.pick((2, 3))
            return node("scatter", self.draw((count, *rest), depth), attrs=(self.indices(n, count), shape))
        if op == "join" and n > 1:
            return node("concatenate", self.draw((1, *rest), depth), self.draw((n - 1, *rest), depth), attrs=(0,))
        if op == "turn" and rest:
            return node("transpose", self.draw(shape[::-1], depth))
        if op == "turn":
            return node("reshape", self.draw((1, n), depth), attrs=(shape,))
        if op == "stack" and n == 2:
            return node("stack", self.draw(rest, depth), self.draw(rest, depth - 1), attrs=(0,))
        start = int(self.rng.integers(2))
        return node("slice", self.draw((n + 1, *rest), depth), attrs=(start, start + n))

    def indices(self, below: int, count: int) -> tuple[int, ...]:
        return tuple(int(i) for i in self.rng.integers(below, size=count))

    def product(self, shape: tuple[int, ...], depth: int) -> Node:
        if not shape:
            n = self.pick((2, 3))
            return node("matmul", self.draw((n,), depth), self.draw((n,), depth - 1))
        if shape == (2,):
            return node("matmul", self.draw((2, 3), depth), self.draw((3,), depth - 1))
        k = self.pick((2, 3))
        left, right = self.draw((2, k), depth), self.draw((k, 3), depth - 1)
        return node("einsum", left, right, attrs=("ij,jk->ik",)) if self.chance(0.3) else node("matmul", left, right)

    def loop(self, shape: tuple[int, ...], depth: int) -> Node:
        """A loop of two or three turns."""
        self.loops += 1
        names = f"c{self.loops}", f"r{self.loops}"
        carry, row = (Node("var", (), (name,), shape) for name in names)
        start = self.leaf(shape)
        if self.chance(0.5) or len(shape) > 1:
            body = self.body(carry, self.draw(shape, min(depth, 1)))
            return node("fori", start, body, attrs=(int(self.rng.integers(2, 4)), names[0]))
        xs = self.draw((self.pick((2, 3)), *shape), min(depth, 1))
        if shape and shape == (xs.shape[0],) and self.chance(0.4):
            carry, row = (v._replace(shape=()) for v in (carry, row))
            return node("scan_all", self.leaf(()), self.leaf(shape), self.body(carry, row), attrs=names)
        return node("scan_last", start, xs, self.body(carry, row), attrs=names)

    def body(self, carry: Node, other: Node) -> Node:
        """One turn of a loop."""
        way = self.pick(("tanh", "linear", "relu", "square", "mix"))
        if way == "tanh":
            return node("tanh", node("add", carry, other))
        if way == "linear":
            return node("add", node("mul", const(self.pick((0.5, 2.0))), carry), other)
        if way == "relu":
            return node("sub", node("relu", node("sub", carry, other)), const(0.5))
        if way == "square":
            return node("sub", node("square", carry), other)
        return node("add", node("mul", carry, node("sigmoid", other)), other)
