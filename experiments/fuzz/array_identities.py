"""Identities of reductions, products, loops, and of what moves entries. Importing this adds them to the table."""

from fractions import Fraction

import numpy as np

from fuzz.identities import add, div, exp, mul, neg, of, over, sub
from fuzz.nodes import Node, const, map_at, node

__all__ = ["unrolled_fori", "unrolled_scan"]

# Sums and other reductions


def size_of(t: Node) -> int:
    axis, inner = t.attrs[0], t.args[0].shape
    return int(np.prod(inner)) if axis is None else inner[axis]


@of("sum")
def sum_of_terms(t: Node, rng: np.random.Generator) -> Node | None:
    inner = t.args[0]
    if inner.op in ("add", "sub") and all(arg.shape == inner.shape for arg in inner.args):
        return node(inner.op, *(node("sum", arg, attrs=t.attrs) for arg in inner.args))
    if inner.op == "mul" and inner.args[0].op == "const":
        return mul(inner.args[0], node("sum", inner.args[1], attrs=t.attrs))
    return None


@of("sum")
def sum_as_mean(t: Node, rng: np.random.Generator) -> Node:
    return mul(const(size_of(t)), node("mean", t.args[0], attrs=t.attrs))


@of("mean")
def mean_as_sum(t: Node, rng: np.random.Generator) -> Node:
    total, n = node("sum", t.args[0], attrs=t.attrs), size_of(t)
    return div(total, const(n)) if n not in (3, 6) or rng.random() < 0.5 else mul(total, const(Fraction(1, n)))


@of("sum", "max", "min", "prod", "logsumexp")
def one_entry_after_another(t: Node, rng: np.random.Generator) -> Node | None:
    """The rows joined one by one, for a reduction over the first axis."""
    if t.attrs != (0, False) and not (t.attrs == (None, False) and len(t.args[0].shape) == 1):
        return None
    join = {"sum": "add", "max": "maximum", "min": "minimum", "prod": "mul", "logsumexp": "logaddexp"}[t.op]
    rows = [node("row", t.args[0], attrs=(i,)) for i in range(t.args[0].shape[0])]
    out = rows[0]
    for row in rows[1:]:
        out = node(join, out, row)
    return out


@of("sum", "max", "min", "prod", "logsumexp", "mean")
def over_the_transpose(t: Node, rng: np.random.Generator) -> Node | None:
    if t.attrs[1] or len(t.args[0].shape) != 2:
        return None
    if t.attrs[0] is None:
        return over(t.op, over(t.op, t.args[0], int(rng.integers(2))), 0)
    return over(t.op, node("transpose", t.args[0]), 1 - t.attrs[0])


@of("variance")
def variance_written_out(t: Node, rng: np.random.Generator) -> Node | None:
    inner, (axis, keep) = t.args[0], t.attrs
    if rng.random() < 0.5:
        return sub(over("mean", node("square", inner), axis, keep), node("square", over("mean", inner, axis, keep)))
    return over("mean", node("square", sub(inner, over("mean", inner, axis, True))), axis, keep)


@of("sum", "max", "min", "prod", "logsumexp", "mean", "softmax", "log_softmax", "cumsum", "flip")
def row_by_row(t: Node, rng: np.random.Generator) -> Node | None:
    """The same of each row by itself, under ``vmap``."""
    rows = t.args[0]
    if len(rows.shape) != 2 or t.attrs[0] != 1 or t.attrs[1:] == (True,):
        return None
    row = Node("var", (), ("row",), rows.shape[1:])
    return node("vmap", rows, node(t.op, row, attrs=(0, *t.attrs[1:])), attrs=("row",))


@of("sort")
def sorted_otherwise(t: Node, rng: np.random.Generator) -> Node | None:
    inner, axis = t.args[0], t.attrs[0]
    if inner.shape[axis] == 2 and axis == 0 and rng.random() < 0.7:
        return node("stack", over("min", inner, 0), over("max", inner, 0), attrs=(0,))
    return neg(node("flip", node("sort", neg(inner), attrs=t.attrs), attrs=t.attrs))


@of("onehot_argmax", "onehot_argmin")
def other_end(t: Node, rng: np.random.Generator) -> Node:
    return node("onehot_argmin" if t.op == "onehot_argmax" else "onehot_argmax", neg(t.args[0]), attrs=t.attrs)


@of("pick")
def picked_by_sum(t: Node, rng: np.random.Generator) -> Node | None:
    rows, truths = t.args
    return node("matmul", node("onehot_count", truths, attrs=rows.shape[:1]), rows)


@of("max", "min")
def turned_over(t: Node, rng: np.random.Generator) -> Node:
    return neg(node("min" if t.op == "max" else "max", neg(t.args[0]), attrs=t.attrs))


@of("logsumexp")
def logarithm_of_sum(t: Node, rng: np.random.Generator) -> Node:
    """Shifted by nothing, by a number or by another of its kind."""
    inner, (axis, keep) = t.args[0], t.attrs
    if rng.random() < 0.4:
        return node("log", node("sum", exp(inner), attrs=t.attrs))
    by = over(("max", "mean")[int(rng.integers(2))], inner, axis, True) if rng.random() < 0.6 else const(2.0)
    back = over("sum", by, axis) if by.shape and not keep else by
    return add(node("log", node("sum", exp(sub(inner, by)), attrs=t.attrs)), back)


@of("softmax")
def softmax_written_out(t: Node, rng: np.random.Generator) -> Node:
    inner, axis = t.args[0], t.attrs[0]
    way = int(rng.integers(4))
    if way == 0:
        return div(exp(inner), over("sum", exp(inner), axis, True))
    if way == 1:
        return exp(sub(inner, over("logsumexp", inner, axis, True)))
    if way == 2:
        shifted = exp(sub(inner, over("max", inner, axis, True)))
        return div(shifted, over("sum", shifted, axis, True))
    return node("softmax", add(inner, over("sum", inner, axis, True)), attrs=t.attrs)


@of("log_softmax")
def log_softmax_written_out(t: Node, rng: np.random.Generator) -> Node:
    inner, axis = t.args[0], t.attrs[0]
    return node("log", node("softmax", inner, attrs=t.attrs)) if rng.random() < 0.5 \
        else sub(inner, over("logsumexp", inner, axis, True))  # fmt: skip


# Products, and what moves entries


@of("matmul", "einsum")
def product_written_out(t: Node, rng: np.random.Generator) -> Node | None:
    a, b = t.args
    ranks = len(a.shape), len(b.shape)
    if ranks == (1, 1):
        return over("sum", mul(a, b), 0)
    if ranks == (2, 1):
        return over("sum", mul(a, b), 1) if rng.random() < 0.5 else node("einsum", a, b, attrs=("ij,j->i",))
    if ranks != (2, 2) or t.attrs not in ((), ("ij,jk->ik",)):
        return None
    if rng.random() < 0.3:
        return node("transpose", node("matmul", node("transpose", b), node("transpose", a)))
    if rng.random() < 0.5:
        return node("einsum", b, a, attrs=("jk,ij->ik",))
    (i, j), k = a.shape, b.shape[1]
    return over("sum", mul(node("reshape", a, attrs=((i, j, 1),)), node("reshape", b, attrs=((1, j, k),))), 1)


@of("cumsum")
def running_sum_as_product(t: Node, rng: np.random.Generator) -> Node:
    inner, axis = t.args[0], t.attrs[0]
    lower = Node("lower", (), (inner.shape[axis],), (inner.shape[axis],) * 2)
    return node("matmul", lower, inner) if axis == 0 else node("matmul", inner, node("transpose", lower))


@of("gather")
def gather_as_product(t: Node, rng: np.random.Generator) -> Node | None:
    (rows,), rank = t.attrs, len(t.args[0].shape)
    if rank > 2:  # a product of matrices takes such an array as a batch
        return None
    return node("matmul", node("onehot", attrs=(rows, t.args[0].shape[0])), t.args[0])


@of("scatter")
def scatter_as_product(t: Node, rng: np.random.Generator) -> Node | None:
    (rows, shape), rank = t.attrs, len(t.args[0].shape)
    if rank > 2:
        return None
    return node("matmul", node("transpose", node("onehot", attrs=(rows, shape[0]))), t.args[0])


@of("slice", "flip")
def as_gather(t: Node, rng: np.random.Generator) -> Node | None:
    n = t.args[0].shape[0]
    rows = tuple(range(n))[slice(*t.attrs)] if t.op == "slice" else tuple(reversed(range(n)))
    return node("gather", t.args[0], attrs=(rows,)) if t.op == "slice" or t.attrs == (0,) else None


@of("row")
def row_as_sum(t: Node, rng: np.random.Generator) -> Node:
    if rng.random() < 0.5:
        return over("sum", node("slice", t.args[0], attrs=(t.attrs[0], t.attrs[0] + 1)), 0)
    return node("reshape", node("gather", t.args[0], attrs=(t.attrs,)), attrs=(t.shape,))


@of("concatenate", "stack")
def joined_by_scatter(t: Node, rng: np.random.Generator) -> Node | None:
    if t.attrs[0] != 0:
        return None
    a, b = t.args if t.op == "concatenate" else (node("reshape", arg, attrs=((1, *arg.shape),)) for arg in t.args)
    n = a.shape[0]
    first, last = tuple(range(n)), tuple(range(n, t.shape[0]))
    return add(node("scatter", a, attrs=(first, t.shape)), node("scatter", b, attrs=(last, t.shape)))


@of("exp", "tanh", "relu", "square", "sigmoid", "neg", "abs", "log", "sqrt", "add", "mul", "maximum")
def turned_twice(t: Node, rng: np.random.Generator) -> Node | None:
    """Elementwise of the transposes."""
    if len(t.shape) != 2 or any(arg.shape != t.shape for arg in t.args):
        return None
    return node("transpose", node(t.op, *(node("transpose", arg) for arg in t.args)))


# Loops


@of("fori")
def unrolled_fori(t: Node, rng: np.random.Generator) -> Node:
    state, (turns, name) = t.args[0], t.attrs
    for _ in range(turns):
        state = map_at(t.args[1], name, state)
    return state


@of("scan_last", "scan_all")
def unrolled_scan(t: Node, rng: np.random.Generator) -> Node | None:
    (state, xs, body), (carry, row) = t.args, t.attrs
    states = []
    for i in range(xs.shape[0]):
        state = map_at(map_at(body, carry, state), row, node("row", xs, attrs=(i,)))
        states.append(state)
    if t.op == "scan_last":
        return state
    rows = [node("reshape", s, attrs=((1, *s.shape),)) for s in states]
    out = rows[0]
    for s in rows[1:]:
        out = node("concatenate", out, s, attrs=(0,))
    return out
