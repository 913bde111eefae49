"""Attention: softmax, many heads, the streaming form with its logsumexp, rotary positions."""

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


@jax.custom_vjp
def softmax(x):
    e = jnp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_fwd(x):
    p = softmax(x)
    return p, p


def softmax_bwd(p, dp):
    mean = (p * dp).sum(axis=-1, keepdims=True)
    return (p * (dp - mean),)


softmax.defvjp(softmax_fwd, softmax_bwd)


@jax.custom_vjp
def logsumexp(x):
    m = x.max(axis=-1)
    return m + jnp.log(jnp.exp(x - m[:, None]).sum(axis=-1))


def logsumexp_fwd(x):
    y = logsumexp(x)
    return y, (x, y)


def logsumexp_bwd(residuals, dy):
    x, y = residuals
    p = jnp.exp(x - y[:, None])
    return (dy[:, None] * p,)


logsumexp.defvjp(logsumexp_fwd, logsumexp_bwd)


@jax.custom_vjp
def causal_attention(q, k, v):
    s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    visible = jnp.tril(jnp.ones(s.shape[-2:], bool))
    p = jax.nn.softmax(jnp.where(visible[None, None], s, -1e30), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", p, v)


def causal_attention_fwd(q, k, v):
    return causal_attention(q, k, v), (q, k, v)


def causal_attention_bwd(residuals, do):
    q, k, v = residuals
    scale = q.shape[-1] ** -0.5
    s = scale * jnp.einsum("bqhd,bkhd->bhqk", q, k)
    visible = jnp.tril(jnp.ones(s.shape[-2:], bool))
    e = jnp.where(visible[None, None], jnp.exp(s), 0)
    p = e / e.sum(axis=-1, keepdims=True)
    dv = jnp.einsum("bhqk,bqhd->bkhd", p, do)
    dp = jnp.einsum("bqhd,bkhd->bhqk", do, v)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True))
    dq = scale * jnp.einsum("bhqk,bkhd->bqhd", ds, k)
    dk = scale * jnp.einsum("bhqk,bqhd->bkhd", ds, q)
    return dq, dk, dv


causal_attention.defvjp(causal_attention_fwd, causal_attention_bwd)


@jax.custom_vjp
def flash_attention(q, k, v):
    return jax.nn.softmax(q @ k.T / 7**0.5, axis=-1) @ v


def flash_attention_fwd(q, k, v):
    scale = 7**-0.5
    m = jnp.full((len(q), 1), -jnp.inf, q.dtype)
    total = jnp.zeros((len(q), 1), q.dtype)
    o = jnp.zeros((len(q), v.shape[1]), q.dtype)
    for start in range(0, len(k), 3):
        s = scale * q @ k[start : start + 3].T
        new = jnp.maximum(m, s.max(axis=1, keepdims=True))
        e = jnp.exp(s - new)
        shrink = jnp.exp(m - new)
        total = shrink * total + e.sum(axis=1, keepdims=True)
        o = shrink * o + e @ v[start : start + 3]
        m = new
    o = o / total
    return o, (q, k, v, o, m + jnp.log(total))


def flash_attention_bwd(residuals, do):
    q, k, v, o, lse = residuals
    scale = 7**-0.5
    p = jnp.exp(scale * q @ k.T - lse)
    delta = (do * o).sum(axis=1, keepdims=True)
    dv = p.T @ do
    ds = p * (do @ v.T - delta)
    dq = scale * ds @ k
    dk = scale * ds.T @ q
    return dq, dk, dv


flash_attention.defvjp(flash_attention_fwd, flash_attention_bwd)


@jax.custom_vjp
def linear_attention(q, k, v):
    fq = jax.nn.elu(q) + 1
    fk = jax.nn.elu(k) + 1
    return (fq @ fk.T) @ v


def linear_attention_fwd(q, k, v):
    return linear_attention(q, k, v), (q, k, v)


def linear_attention_bwd(residuals, do):
    q, k, v = residuals
    fq = jnp.where(q > 0, q + 1, jnp.exp(q))
    fk = jnp.where(k > 0, k + 1, jnp.exp(k))
    state = fk.T @ v
    dfq = do @ state.T
    dstate = fq.T @ do
    dfk = v @ dstate.T
    dv = fk @ dstate
    dq = dfq * jnp.where(q > 0, 1, jnp.exp(q))
    dk = dfk * jnp.where(k > 0, 1, jnp.exp(k))
    return dq, dk, dv


linear_attention.defvjp(linear_attention_fwd, linear_attention_bwd)


@jax.custom_vjp
def rotary(x, angle):
    a, b = jnp.split(x, 2, axis=-1)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * c - b * s, a * s + b * c], axis=-1)


def rotary_fwd(x, angle):
    y = rotary(x, angle)
    return y, (y, angle)


def rotary_bwd(residuals, dy):
    y, angle = residuals
    dx = rotary(dy, -angle)
    u, v = jnp.split(y, 2, axis=-1)
    du, dv = jnp.split(dy, 2, axis=-1)
    dangle = u * dv - v * du
    return dx, dangle


rotary.defvjp(rotary_fwd, rotary_bwd)


def _scores(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(5, 3), 5, scale=2.0),)


def _heads(draw: Draw) -> tuple[jax.Array, ...]:
    batch = draw.rows(75, 1)
    return draw.normal(batch, 5, 2, 3), draw.normal(batch, 5, 2, 3), draw.normal(batch, 5, 2, 3)


def _sequence(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(7, 3), 7), draw.normal(5, 7), draw.normal(5, 2)


def _positions(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(10, 3)
    return draw.normal(rows, 10), draw.normal(rows, 5)


RULES = (
    Rule("softmax", softmax, _scores),
    Rule("logsumexp", logsumexp, _scores),
    Rule("causal_attention", causal_attention, _heads),
    Rule("flash_attention", flash_attention, _sequence),
    Rule("linear_attention", linear_attention, _sequence),
    Rule("rotary", rotary, _positions),
)
