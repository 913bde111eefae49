"""Edits whose statement is run alone first: other functions, parts of trees, orders, and what a loop's turns show."""

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


def later(x, steps):
    return jnp.concatenate([jnp.zeros(steps, x.dtype), x[:-steps]])


def earlier(x, steps):
    return jnp.concatenate([x[steps:], jnp.zeros(steps, x.dtype)])


def echoes(x, w):
    return x + w[0] * later(x, 1) + w[1] * later(x, 2)


def echoes_bwd(saved, g):
    x, w = saved
    dx = g
    for k in (1, 2):
        dx = dx + later(w[k - 1] * g, k)
    return dx, jnp.stack([jnp.vdot(g, later(x, k)) for k in (1, 2)])


def test_a_function_that_the_rule_does_not_call_may_be_the_one_that_belongs():
    report = handprop.verify(rule_of(echoes, echoes_bwd), normal(7), normal(2))
    assert report.location.line == line_of(echoes_bwd, "later(w[k - 1] * g, k)")
    assert report.diagnosis == "later is called where earlier belongs"
    assert report.fix.proved


def affine(layer, x):
    return x @ layer["w"] + layer["b"][None]


def affine_bwd(layer, x, g):
    return {"w": x.T @ g, "b": g.sum(0)}, g @ layer["w"].T


def product(params, x):
    return affine(params["left"], x) * affine(params["right"], x)


def product_bwd(saved, g):
    params, x = saved
    left, right = affine(params["left"], x), affine(params["right"], x)
    dleft, one = affine_bwd(params["left"], x, g * right)
    dright, two = affine_bwd(params["left"], x, g * left)
    return {"left": dleft, "right": dright}, one + two


def layer():
    return {"w": normal(3, 4), "b": normal(4)}


def test_another_part_of_a_tree_may_be_the_one_that_belongs():
    report = handprop.verify(rule_of(product, product_bwd), {"left": layer(), "right": layer()}, normal(5, 3))
    assert report.location.line == line_of(product_bwd, "dright, two")
    assert report.diagnosis == "params['left'] where params['right'] belongs"
    assert report.fix.proved


def decaying(rate, xs):
    return lax.scan(lambda h, x: (rate * h + x, rate * h + x), jnp.zeros_like(xs[0]), xs)[1]


def decaying_bwd(saved, g):
    rate, xs = saved
    hs = decaying(rate, xs)

    def body(carry, at):
        dh, drate = carry
        before, dy = at
        dh = dh + dy
        return (rate * dh, drate + jnp.vdot(dh, before)), dh

    zero = jnp.zeros_like(xs[0])
    before = jnp.concatenate([zero[None], hs[:-1]])
    (_, drate), dxs = lax.scan(body, (zero, zero[0]), (before, g))
    return drate, dxs


def forgetful_bwd(saved, g):
    rate, xs = saved
    hs = decaying(rate, xs)

    def body(carry, at):
        dh, drate = carry  # noqa: RUF059 (the fix reads it)
        before, dy = at
        total = dy
        return (rate * total, drate + jnp.vdot(total, before)), total

    zero = jnp.zeros_like(xs[0])
    before = jnp.concatenate([zero[None], hs[:-1]])
    (_, drate), dxs = lax.scan(body, (zero, zero[0]), (before, g), reverse=True)
    return drate, dxs


def test_a_scan_that_should_run_in_reverse():
    report = handprop.verify(rule_of(decaying, decaying_bwd), jnp.float32(0.7), normal(5, 3))
    assert report.location.line == line_of(decaying_bwd, "lax.scan(body")
    assert report.diagnosis == "a loop runs in the wrong order"
    assert report.fix.proved


def test_a_term_that_the_first_iteration_of_a_loop_does_not_show():
    """The carry is zero in the first iteration, with and without it."""
    report = handprop.verify(rule_of(decaying, forgetful_bwd), jnp.float32(0.7), normal(5, 3))
    assert report.location.line == line_of(forgetful_bwd, "total = dy")
    assert report.fix.expression == "total = dy + dh"
    assert report.fix.proved


def hinges(x, y):
    return jax.nn.relu(((x - y) ** 2).sum(1) - 0.5).sum()


def hinges_bwd(saved, g):
    x, y = saved
    active = ((x - y) ** 2).sum(1) - 0.5 > 0  # noqa: F841 (the fix reads it)
    weight = 2 * g
    return weight * (x - y), weight * (y - x)


@pytest.mark.usefixtures("jax_as_it_comes")
def test_a_mask_may_lack_an_axis():
    report = handprop.verify(rule_of(hinges, hinges_bwd), normal(6, 2), normal(6, 2))
    assert report.location.line == line_of(hinges_bwd, "weight = 2")
    assert report.fix.proved
    assert "active[..., None]" in report.fix.expression
