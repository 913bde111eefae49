"""Recurrences by scan with backpropagation through time, running sums and products, order statistics."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Draw, Rule


@jax.custom_vjp
def rnn(h, xs, w):
    return lax.scan(lambda h, x: (jnp.tanh(w @ h + x), None), h, xs)[0]


def rnn_fwd(h, xs, w):
    def step(h, x):
        new = jnp.tanh(w @ h + x)
        return new, (h, new)

    last, states = lax.scan(step, h, xs)
    return last, (states, w)


def rnn_bwd(residuals, dh):
    states, w = residuals

    def step(carry, state):
        dh, dw = carry
        before, after = state
        dz = dh * (1 - after * after)
        dw = dw + jnp.outer(dz, before)
        return (w.T @ dz, dw), dz

    (dh, dw), dxs = lax.scan(step, (dh, jnp.zeros_like(w)), states, reverse=True)
    return dh, dxs, dw


rnn.defvjp(rnn_fwd, rnn_bwd)


def gru_gates(h, x, u, w):
    zx, rx, nx = jnp.split(x @ w, 3)
    zh, rh = jnp.split(h @ u[:, : 2 * len(h)], 2)
    z = jax.nn.sigmoid(zx + zh)
    r = jax.nn.sigmoid(rx + rh)
    n = jnp.tanh(nx + (r * h) @ u[:, 2 * len(h) :])
    return z, r, n


@jax.custom_vjp
def gru(h, xs, u, w):
    def step(h, x):
        z, _, n = gru_gates(h, x, u, w)
        return (1 - z) * n + z * h, None

    return lax.scan(step, h, xs)[0]


def gru_fwd(h, xs, u, w):
    def step(h, x):
        z, r, n = gru_gates(h, x, u, w)
        return n + z * (h - n), (h, z, r, n)

    last, states = lax.scan(step, h, xs)
    return last, (xs, u, w, states)


def gru_bwd(residuals, dh):
    xs, u, w, states = residuals
    size = len(dh)

    def step(carry, at):
        dh, du, dw = carry
        x, (h, z, r, n) = at
        dz = dh * (h - n) * z * (1 - z)
        dn = dh * (1 - z) * (1 - n * n)
        drh = u[:, 2 * size :] @ dn
        dr = drh * h * r * (1 - r)
        dgates = jnp.concatenate([dz, dr])
        da = jnp.concatenate([dz, dr, dn])
        du = du.at[:, : 2 * size].add(jnp.outer(h, dgates))
        du = du.at[:, 2 * size :].add(jnp.outer(r * h, dn))
        dw = dw + jnp.outer(x, da)
        before = dh * z + drh * r
        before = before + u[:, : 2 * size] @ dgates
        return (before, du, dw), w @ da

    start = (dh, jnp.zeros_like(u), jnp.zeros_like(w))
    (dh, du, dw), dxs = lax.scan(step, start, (xs, states), reverse=True)
    return dh, dxs, du, dw


gru.defvjp(gru_fwd, gru_bwd)


def lstm_step(h, c, x, w):
    i, f, g, o = jnp.split(x + w @ h, 4)
    i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)
    g = jnp.tanh(g)
    return i, f, g, o, f * c + i * g


@jax.custom_vjp
def lstm(h, c, xs, w):
    def step(carry, x):
        h, c = carry
        _, _, _, o, c = lstm_step(h, c, x, w)
        return (o * jnp.tanh(c), c), None

    return lax.scan(step, (h, c), xs)[0]


def lstm_fwd(h, c, xs, w):
    def step(carry, x):
        h, c = carry
        i, f, g, o, new = lstm_step(h, c, x, w)
        return (o * jnp.tanh(new), new), (h, c, i, f, g, o, new)

    last, states = lax.scan(step, (h, c), xs)
    return last, (w, states)


def lstm_bwd(residuals, cotangents):
    w, states = residuals
    dh, dc = cotangents

    def step(carry, state):
        dh, dc, dw = carry
        h, c, i, f, g, o, new = state
        t = jnp.tanh(new)
        dc = dc + dh * o * (1 - t * t)
        di = dc * g * i * (1 - i)
        df = dc * c * f * (1 - f)
        dg = dc * i * (1 - g * g)
        do = dh * t * o * (1 - o)
        da = jnp.concatenate([di, df, dg, do])
        dw = dw + jnp.outer(da, h)
        return (w.T @ da, dc * f, dw), da

    (dh, dc, dw), dxs = lax.scan(step, (dh, dc, jnp.zeros_like(w)), states, reverse=True)
    return dh, dc, dxs, dw


lstm.defvjp(lstm_fwd, lstm_bwd)


@jax.custom_vjp
def linear_recurrence(a, x):
    def step(h, at):
        h = at[0] * h + at[1]
        return h, h

    return lax.scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def linear_recurrence_fwd(a, x):
    hs = linear_recurrence(a, x)
    return hs, (a, hs)


def linear_recurrence_bwd(residuals, dhs):
    a, hs = residuals
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    later = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    dx = linear_recurrence(later[::-1], dhs[::-1])[::-1]
    da = dx * before
    return da, dx


linear_recurrence.defvjp(linear_recurrence_fwd, linear_recurrence_bwd)


@jax.custom_vjp
def cumsum(x):
    return jnp.cumsum(x)


def cumsum_fwd(x):
    return cumsum(x), None


def cumsum_bwd(_, dy):
    dx = dy.sum() - jnp.cumsum(dy) + dy
    return (dx,)


cumsum.defvjp(cumsum_fwd, cumsum_bwd)


@jax.custom_vjp
def cumprod(x):
    return jnp.cumprod(x)


def cumprod_fwd(x):
    y = cumprod(x)
    return y, (x, y)


def cumprod_bwd(residuals, dy):
    x, y = residuals
    tail = jnp.cumsum((dy * y)[::-1])[::-1]
    return (tail / x,)


cumprod.defvjp(cumprod_fwd, cumprod_bwd)


@jax.custom_vjp
def top_two_sum(x):
    return lax.top_k(x, 2)[0].sum(axis=-1)


def top_two_sum_fwd(x):
    return top_two_sum(x), x


def top_two_sum_bwd(x, dy):
    _, places = lax.top_k(x, 2)
    chosen = jax.nn.one_hot(places, x.shape[-1], dtype=x.dtype).sum(axis=-2)
    return (dy[:, None] * chosen,)


top_two_sum.defvjp(top_two_sum_fwd, top_two_sum_bwd)


@jax.custom_vjp
def sort(x):
    return jnp.sort(x)


def sort_fwd(x):
    order = jnp.argsort(x)
    return x[order], order


def sort_bwd(order, dy):
    dx = jnp.zeros_like(dy).at[order].set(dy)
    return (dx,)


sort.defvjp(sort_fwd, sort_bwd)


def _rnn(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(3), draw.normal(draw.rows(3, 5), 3), draw.normal(3, 3)


def _gru(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(3), draw.normal(draw.rows(2, 5), 2), draw.normal(3, 9), draw.normal(2, 9)


def _lstm(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(2), draw.normal(2), draw.normal(draw.rows(8, 3), 8), draw.normal(8, 2)


def _recurrence(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(3, 5)
    return draw.positive(rows, 3), draw.normal(rows, 3)


def _vector(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.size),)


def _factors(draw: Draw) -> tuple[jax.Array]:
    near_one = draw.rng.normal(size=draw.size) / max(draw.size, 1) ** 0.5
    return (jnp.asarray(np.exp(near_one), draw.dtype),)


def _scores(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(5, 3), 5),)


RULES = (
    Rule("rnn", rnn, _rnn),
    Rule("gru", gru, _gru),
    Rule("lstm", lstm, _lstm),
    Rule("linear_recurrence", linear_recurrence, _recurrence),
    Rule("cumsum", cumsum, _vector),
    Rule("cumprod", cumprod, _factors),
    Rule("top_two_sum", top_two_sum, _scores),
    Rule("sort", sort, _vector),
)
