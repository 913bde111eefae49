"""Identities of functions of numbers, that hold for all reals where both sides are defined; the table of all rules."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from fuzz.expressions import nonnegative, positive
from fuzz.nodes import Node, const, has_input, node

__all__ = ["ONE", "RULES", "Rule", "add", "disguised", "div", "exp", "mul", "neg", "of", "over", "sub"]

Rule = Callable[[Node, np.random.Generator], Node | None]
RULES: dict[str, list[Rule]] = {}
ONE, TWO, ZERO, HALF = const(1.0), const(2.0), const(0.0), const(0.5)


def of(*ops: str) -> Callable[[Rule], Rule]:
    """Registers a rule for these operations."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(rule)
        return rule

    return register


def identity(op: str, form: Callable[..., Node | None]) -> None:
    """``op(*args)`` is ``form(*args)``."""
    of(op)(lambda t, rng: form(*t.args))


def neg(a: Node) -> Node:
    return node("neg", a)


def add(a: Node, b: Node) -> Node:
    return node("add", a, b)


def sub(a: Node, b: Node) -> Node:
    return node("sub", a, b)


def mul(a: Node, b: Node) -> Node:
    return node("mul", a, b)


def div(a: Node, b: Node) -> Node:
    return node("div", a, b)


def exp(a: Node) -> Node:
    return node("exp", a)


def where(c: Node, a: Node, b: Node) -> Node:
    return node("where", c, a, b)


def over(op: str, t: Node, axis: Any, keep: bool = False) -> Node:
    return node(op, t, attrs=(axis, keep))


# Arithmetic

identity("add", lambda a, b: add(b, a))
identity("add", lambda a, b: sub(a, neg(b)))
identity("add", lambda a, b: add(add(a.args[0], b), a.args[1]) if a.op == "add" else None)
identity("add", lambda a, b: mul(add(a.args[0], b.args[0]), a.args[1])
         if a.op == b.op == "mul" and a.args[1] == b.args[1] else None)  # fmt: skip
identity("sub", lambda a, b: add(a, neg(b)))
identity("sub", lambda a, b: neg(sub(b, a)))
identity("mul", lambda a, b: mul(b, a))
identity("mul", lambda a, b: neg(mul(neg(a), b)))
identity("mul", lambda a, b: sub(node("square", mul(HALF, add(a, b))), node("square", mul(HALF, sub(a, b)))))
identity("mul", lambda a, b: exp(add(node("log", a), node("log", b))) if positive(a) and positive(b) else None)
identity("div", lambda a, b: mul(a, div(ONE, b)))
identity("div", lambda a, b: neg(div(a, neg(b))))
identity("div", lambda a, b: div(mul(TWO, a), mul(b, TWO)))
identity("div", lambda a, b: exp(sub(node("log", a), node("log", b))) if positive(a) and positive(b) else None)
identity("neg", lambda a: mul(const(-1.0), a))
identity("neg", lambda a: sub(ZERO, a))
identity("square", lambda a: mul(a, a))
identity("square", lambda a: node("square", node("abs", a)))
identity("cube", lambda a: mul(a, node("square", a)))
identity("cube", lambda a: mul(mul(a, a), a))


@of("mul")
def distributed(t: Node, rng: np.random.Generator) -> Node | None:
    a, b = t.args if rng.random() < 0.5 else t.args[::-1]
    return node(b.op, mul(a, b.args[0]), mul(a, b.args[1])) if b.op in ("add", "sub") else None


@of("div")
def split_fraction(t: Node, rng: np.random.Generator) -> Node | None:
    a, b = t.args
    return node(a.op, div(a.args[0], b), div(a.args[1], b)) if a.op in ("add", "sub") else None


@of("square")
def expanded(t: Node, rng: np.random.Generator) -> Node | None:
    inner = t.args[0]
    if inner.op not in ("add", "sub"):
        return None
    a, b = inner.args
    return add(node(inner.op, node("square", a), mul(TWO, mul(a, b))), node("square", b))


def disguised(t: Node, rng: np.random.Generator) -> Node:
    """What any array of floats is equal to."""
    third, two_thirds = const(Fraction(1, 3)), const(Fraction(2, 3))
    ways: list[Callable[[], Node]] = [
        lambda: neg(neg(t)),
        lambda: mul(ONE, t),
        lambda: add(t, ZERO),
        lambda: mul(HALF, add(t, t)),
        lambda: sub(add(t, ONE), ONE),
        lambda: node("log", exp(t)),
        lambda: add(mul(third, t), mul(t, two_thirds)),
        lambda: node("maximum", t, t),
        lambda: sub(node("relu", t), node("relu", neg(t))),
        lambda: mul(node("sign", t), node("abs", t)),
        lambda: add(t, mul(node("relu", t), node("relu", neg(t)))),
        lambda: node("maximum", t, node("minimum", t, ONE)),
        lambda: mul(add(node("square", node("sin", t)), node("square", node("cos", t))), t),
    ]
    return ways[int(rng.integers(len(ways)))]()


# Exponentials and what is made of them

identity("exp", lambda a: div(ONE, exp(neg(a))))
identity("exp", lambda a: node("square", exp(mul(HALF, a))))
identity("exp", lambda a: add(node("expm1", a), ONE))
identity("exp", lambda a: mul(exp(a.args[0]), exp(a.args[1])) if a.op == "add" else None)
identity("exp", lambda a: div(exp(a.args[0]), exp(a.args[1])) if a.op == "sub" else None)
identity("expm1", lambda a: sub(exp(a), ONE))
identity("log", lambda a: add(node("log", a.args[0]), node("log", a.args[1]))
         if a.op == "mul" and all(map(positive, a.args)) else None)  # fmt: skip
identity("log", lambda a: sub(node("log", a.args[0]), node("log", a.args[1]))
         if a.op == "div" and all(map(positive, a.args)) else None)  # fmt: skip
identity("log", lambda a: mul(HALF, node("log", mul(a, a))))
identity("log", lambda a: mul(TWO, node("log", node("sqrt", a))))
identity("log", lambda a: a.args[0] if a.op == "exp" else None)
identity("log1p", lambda a: node("log", add(ONE, a)))
identity("sqrt", lambda a: div(a, node("sqrt", a)) if positive(a) else None)
identity("sqrt", lambda a: div(ONE, node("rsqrt", a)) if positive(a) else None)
identity("sqrt", lambda a: exp(mul(HALF, node("log", a))) if positive(a) else None)
identity("sqrt", lambda a: node("abs", a.args[0]) if a.op == "square" else None)
identity("sqrt", lambda a: mul(node("sqrt", a.args[0]), node("sqrt", a.args[1]))
         if a.op == "mul" and all(map(nonnegative, a.args)) else None)  # fmt: skip
identity("rsqrt", lambda a: div(ONE, node("sqrt", a)))
identity("rsqrt", lambda a: div(node("sqrt", a), a))
identity("sigmoid", lambda a: div(ONE, add(ONE, exp(neg(a)))))
identity("sigmoid", lambda a: sub(ONE, node("sigmoid", neg(a))))
identity("sigmoid", lambda a: mul(HALF, add(ONE, node("tanh", mul(HALF, a)))))
identity("sigmoid", lambda a: div(exp(a), add(exp(a), ONE)))
identity("tanh", lambda a: sub(mul(TWO, node("sigmoid", mul(TWO, a))), ONE))
identity("tanh", lambda a: div(sub(exp(a), exp(neg(a))), add(exp(a), exp(neg(a)))))
identity("tanh", lambda a: neg(node("tanh", neg(a))))
identity("softplus", lambda a: node("logaddexp", a, ZERO))
identity("softplus", lambda a: node("log", add(ONE, exp(a))))
identity("softplus", lambda a: add(a, node("softplus", neg(a))))
identity("softplus", lambda a: neg(node("log", node("sigmoid", neg(a)))))
identity("softplus", lambda a: add(node("relu", a), node("log1p", exp(neg(node("abs", a))))))
identity("silu", lambda a: mul(a, node("sigmoid", a)))
identity("silu", lambda a: div(a, add(ONE, exp(neg(a)))))
identity("logaddexp", lambda a, b: add(a, node("softplus", sub(b, a))))
identity("logaddexp", lambda a, b: node("log", add(exp(a), exp(b))))
identity("sin", lambda a: neg(node("sin", neg(a))))
identity("sin", lambda a: mul(TWO, mul(node("sin", mul(HALF, a)), node("cos", mul(HALF, a)))))
identity("cos", lambda a: node("cos", neg(a)))
identity("cos", lambda a: sub(ONE, mul(TWO, node("square", node("sin", mul(HALF, a))))))

identity("erf", lambda a: neg(node("erf", neg(a))))
identity("erf", lambda a: sub(ONE, node("erfc", a)))
identity("power", lambda a, b: exp(mul(b, node("log", a))))
identity("power", lambda a, b: div(ONE, node("power", a, neg(b))))
identity("power", lambda a, b: mul(node("power", a, mul(HALF, b)), node("power", a, mul(HALF, b))))
identity("sqrt", lambda a: node("power", a, HALF) if positive(a) else None)
identity("square", lambda a: node("power", a, TWO))

# Kinks and decisions

identity("relu", lambda a: node("maximum", a, ZERO))
identity("relu", lambda a: where(node("gt", a, ZERO), a, ZERO))
identity("relu", lambda a: mul(HALF, add(a, node("abs", a))))
identity("relu", lambda a: mul(a, node("float", node("gt", a, ZERO))))
identity("relu", lambda a: a if nonnegative(a) else None)
identity("abs", lambda a: where(node("lt", a, ZERO), neg(a), a))
identity("abs", lambda a: node("maximum", a, neg(a)))
identity("abs", lambda a: add(node("relu", a), node("relu", neg(a))))
identity("abs", lambda a: mul(a, node("sign", a)))
identity("abs", lambda a: a if nonnegative(a) else None)
identity("sign", lambda a: sub(node("float", node("gt", a, ZERO)), node("float", node("lt", a, ZERO))))
identity("sign", lambda a: neg(node("sign", neg(a))))
identity("sign", lambda a: where(node("gt", a, ZERO), ONE, where(node("lt", a, ZERO), const(-1.0), ZERO)))
identity("maximum", lambda a, b: add(a, node("relu", sub(b, a))))
identity("maximum", lambda a, b: where(node("gt", a, b), a, b))
identity("maximum", lambda a, b: neg(node("minimum", neg(a), neg(b))))
identity("maximum", lambda a, b: mul(HALF, add(add(a, b), node("abs", sub(a, b)))))
identity("minimum", lambda a, b: where(node("lt", b, a), b, a))
identity("minimum", lambda a, b: sub(add(a, b), node("maximum", a, b)))
identity("minimum", lambda a, b: node("minimum", b, a))
identity("clip", lambda a, low, high: node("minimum", node("maximum", a, low), high))
identity("clip", lambda a, low, high: node("maximum", low, node("minimum", a, high)))
identity("clip", lambda a, low, high: where(node("lt", a, low), low, where(node("gt", a, high), high, a)))
identity("where", lambda c, a, b: where(node("not", c), b, a))
identity("where", lambda c, a, b: add(b, where(c, sub(a, b), ZERO)))
identity("where", lambda c, a, b: add(mul(node("float", c), a), mul(sub(ONE, node("float", c)), b)))
identity("where", lambda c, a, b: where(c, where(c, a, neg(a)), b))
identity("where", lambda c, a, b: where(c, a, where(node("not", c), b, add(b, ONE))))
identity("where", lambda c, a, b: where(c.args[0], where(c.args[1], a, b), b) if c.op == "and" else None)
identity("where", lambda c, a, b: where(c.args[0], a, where(c.args[1], a, b)) if c.op == "or" else None)
identity("where", lambda c, a, b: node("cond", c, a, b)
         if c.shape == () and a.shape == b.shape and has_input(a) and has_input(b) else None)  # fmt: skip
identity("gt", lambda a, b: node("lt", b, a))
identity("gt", lambda a, b: node("not", node("le", a, b)))
identity("gt", lambda a, b: node("gt", sub(a, b), ZERO))
identity("gt", lambda a, b: node("lt", neg(a), neg(b)))
identity("gt", lambda a, b: node("gt", exp(a), exp(b)))
identity("gt", lambda a, b: node("gt", mul(a, TWO), mul(TWO, b)))
identity("lt", lambda a, b: node("gt", b, a))
identity("lt", lambda a, b: node("not", node("ge", a, b)))
identity("lt", lambda a, b: node("gt", sub(b, a), ZERO))
identity("ge", lambda a, b: node("le", b, a))
identity("ge", lambda a, b: node("not", node("lt", a, b)))
identity("le", lambda a, b: node("ge", b, a))
identity("le", lambda a, b: node("le", sub(a, b), ZERO))
identity("eq", lambda a, b: node("le", a.args[0], ZERO) if a.op == "relu" and b == ZERO else None)
identity("eq", lambda a, b: node("ge", b, a.args[1] if b == a.args[0] else a.args[0])
         if a.op == "maximum" and b in a.args else None)  # fmt: skip
identity("eq", lambda a, b: node("ge", b, ZERO) if a.op == "abs" and a.args[0] == b else None)
identity("eq", lambda a, b: node("not", node("ne", a, b)))
identity("and", lambda a, b: node("not", node("or", node("not", a), node("not", b))))
identity("or", lambda a, b: node("or", b, a))
identity("float", lambda c: where(c, ONE, ZERO))
identity("float", lambda c: sub(ONE, node("float", node("not", c))))
identity("floor", lambda a: sub(node("floor", add(a, ONE)), ONE))
