"""Mistakes in integers: masks, sizes, indices, and the bounds and orders of loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from lines import line_of

import handprop

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), np.float32)


def rule_of(f, bwd):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda *args: (f(*args), args), bwd)
    return rule


def lower_softmax(s):
    visible = jnp.tril(jnp.ones(s.shape, bool))
    e = jnp.where(visible, jnp.exp(s), 0)
    return e / e.sum(-1, keepdims=True)


def lower_softmax_bwd(saved, g):
    (s,) = saved
    seen = jnp.triu(jnp.ones(s.shape, bool))
    e = jnp.where(seen, jnp.exp(s), 0)
    p = e / e.sum(-1, keepdims=True)
    return (p * (g - (p * g).sum(-1, keepdims=True)),)


def by_position(table, x):
    rows, cols = table.shape
    k = jnp.arange(x.size)
    return x.ravel() * table[k // cols % rows, k % cols]


def by_position_bwd(saved, g):
    table, x = saved
    rows, cols = table.shape
    k = jnp.arange(x.size)
    i, j = k // rows % rows, k % cols
    return jnp.zeros_like(table).at[i, j].add(g * x.ravel()), (g * table[i, j]).reshape(x.shape)


def chained(ws, x):
    for k in range(len(ws)):
        x = jnp.tanh(ws[k] * x)
    return x


def chained_bwd(saved, g):
    ws, x = saved
    xs = [x]
    for k in range(len(ws)):
        xs.append(jnp.tanh(ws[k] * xs[-1]))
    dws = [g[0]] * len(ws)
    for k in range(ws.shape[0]):
        g = g * (1 - xs[k + 1] ** 2)
        dws[k] = (g * xs[k]).sum()
        g = g * ws[k]
    return jnp.stack(dws), g


def running(x):
    return lax.fori_loop(1, x.shape[0], lambda t, s: s.at[t].set(0.5 * s[t - 1] + x[t]), x)


def running_bwd(saved, g):
    (x,) = saved
    steps = x.shape[0]

    def body(k, d):
        t = k
        return d.at[t - 1].add(jnp.where(t < steps, 0.5, 0.0) * d[t])

    return (lax.fori_loop(1, steps, body, g),)


def last_but_one(x):
    return x[:-1] * x[1:]


def last_but_one_bwd(saved, g):
    (x,) = saved
    dx = jnp.zeros_like(x).at[1:].add(g * x[1:])
    return (dx.at[1:].add(g * x[:-1]),)


def sorted_by(x, order):
    return x[order] ** 2


def sorted_by_bwd(saved, g):
    x, order = saved
    inner = 2 * x * g[order]
    return inner, None


def moved(x):
    return jnp.zeros((4, 4)).at[jnp.arange(3), jnp.arange(3) + 1].set(x)


def moved_bwd(saved, g):
    return (g[jnp.arange(3) + 1, jnp.arange(3)],)


CASES = {
    "mask": (lower_softmax, lower_softmax_bwd, (normal(4, 4),), "jnp.triu", "triu where tril belongs"),
    "size": (by_position, by_position_bwd, (normal(3, 4), normal(12)), "i, j =", "rows where cols belongs"),
    "order": (chained, chained_bwd, (normal(3), normal(5)), "range(ws.shape[0])", "in the wrong order"),
    "loop variable": (running, running_bwd, (normal(5),), "t = k", "in the wrong order"),
    "slice": (last_but_one, last_but_one_bwd, (normal(5),), ".at[1:].add(g * x[1:])", "slice 1: where :-1 belongs"),
    "inverse": (sorted_by, sorted_by_bwd, (normal(5), jnp.array([2, 0, 4, 1, 3])), "g[order]", "inverse"),
    "indices": (moved, moved_bwd, (normal(3),), "g[jnp.arange", "swapped"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_an_integer_is_found_and_mended(name):
    f, bwd, args, wrong, cause = CASES[name]
    report = handprop.verify(rule_of(f, bwd), *args)
    assert report.verdict is handprop.Verdict.REFUTED
    assert report.location.line == line_of(bwd, wrong)
    assert cause in report.diagnosis
    assert report.fix


def spread(table, at):
    cell = jnp.floor(at).astype(jnp.int32)
    u = at - cell.astype(at.dtype)
    return (1 - u) * table[cell] + u * table[cell + 1]


def spread_bwd(saved, g):
    table, at = saved
    cell = jnp.floor(at).astype(jnp.int32)
    u = at - cell.astype(at.dtype)
    dtable = jnp.zeros_like(table).at[cell].add(g * (1 - u)).at[cell].add(g * u)
    return dtable, g * (table[cell + 1] - table[cell])


def test_an_index_that_is_computed_from_floats():
    """The field does not interpret it, so that programs are compared by their numbers at one point."""
    at = jnp.asarray(RNG.uniform(0, 5, 7), np.float32)
    report = handprop.verify(rule_of(spread, spread_bwd), normal(8), at)
    assert report.verdict is handprop.Verdict.REFUTED
    assert report.location.line == line_of(spread_bwd, "dtable =")
    assert "cell + 1" in report.fix.expression
    assert not report.fix.proved
