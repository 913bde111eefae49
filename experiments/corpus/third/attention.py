"""Attention that is not of the textbook: heads that talk, biases by distance, one learned query, a decaying state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


def softmax_backward(weights, grad, axis=-1):
    weighted = jnp.multiply(weights, grad)
    return weighted - weights * weighted.sum(axis=axis, keepdims=True)


def talk(params, q, k):
    scores = jnp.einsum("qhd,khd->hqk", q, k) * params["temperature"]
    mixed = jnp.tensordot(params["before"], scores, axes=1)
    weights = jax.nn.softmax(mixed, axis=-1)
    return scores, weights, jnp.tensordot(params["after"], weights, axes=1)


@jax.custom_vjp
def talking_heads(params, q, k, v):
    _, _, weights = talk(params, q, k)
    return jnp.einsum("hqk,khd->qhd", weights, v)


def talking_heads_fwd(params, q, k, v):
    scores, weights, mixed = talk(params, q, k)
    return jnp.einsum("hqk,khd->qhd", mixed, v), (params, q, k, v, scores, weights, mixed)


def talking_heads_bwd(residuals, dout):
    params, q, k, v, scores, weights, mixed = residuals
    dv = jnp.einsum("hqk,qhd->khd", mixed, dout)
    dmixed = jnp.einsum("qhd,khd->hqk", dout, v)
    dafter = jnp.einsum("gqk,hqk->gh", dmixed, weights)
    dweights = jnp.tensordot(params["after"].T, dmixed, axes=1)
    dlogits = softmax_backward(weights, dweights)
    dbefore = jnp.einsum("gqk,hqk->gh", dlogits, scores)
    dscores = jnp.tensordot(params["before"].T, dlogits, axes=1)
    raw = scores / params["temperature"]
    dparams = {
        "before": dbefore,
        "after": dafter,
        "temperature": jnp.vdot(dscores, raw),
    }
    dscores = dscores * params["temperature"]
    dq = jnp.einsum("hqk,khd->qhd", dscores, k)
    dk = jnp.einsum("hqk,qhd->khd", dscores, q)
    return dparams, dq, dk, dv


talking_heads.defvjp(talking_heads_fwd, talking_heads_bwd)


def buckets(length, limit):
    positions = jnp.arange(length)
    return jnp.clip(positions[None, :] - positions[:, None], -limit, limit) + limit


def relative_weights(q, k, table):
    limit = table.shape[0] // 2
    bias = jnp.take(table, buckets(q.shape[0], limit), axis=0)
    logits = jnp.matmul(q, k.T) / jnp.sqrt(q.shape[1]).astype(q.dtype) + bias
    return jax.nn.softmax(logits, axis=1)


@jax.custom_vjp
def relative_attention(q, k, v, table):
    return jnp.matmul(relative_weights(q, k, table), v)


def relative_attention_fwd(q, k, v, table):
    weights = relative_weights(q, k, table)
    return jnp.matmul(weights, v), (q, k, v, table, weights)


def relative_attention_bwd(residuals, dout):
    q, k, v, table, weights = residuals
    length, depth = q.shape
    dv = jnp.matmul(weights.T, dout)
    dlogits = softmax_backward(weights, grad=jnp.matmul(dout, v.T), axis=1)
    index = buckets(length, table.shape[0] // 2)
    dtable = jnp.zeros_like(table).at[index].add(dlogits)
    scale = 1.0 / depth**0.5
    dq = scale * jnp.matmul(dlogits, k)
    dk = scale * jnp.matmul(dlogits.T, q)
    return dq, dk, dv, dtable


relative_attention.defvjp(relative_attention_fwd, relative_attention_bwd)


class Pooling(NamedTuple):
    key: jax.Array
    bias: jax.Array
    query: jax.Array


def energies(params, xs, mask):
    hidden = jnp.tanh(jnp.einsum("bsi,ih->bsh", xs, params.key) + params.bias)
    energy = jnp.einsum("bsh,h->bs", hidden, params.query)
    return hidden, jax.nn.softmax(jnp.where(mask, energy, -1e9), axis=1)


@jax.custom_vjp
def attention_pooling(params, xs, mask):
    _, weights = energies(params, xs, mask)
    return jnp.einsum("bs,bsi->bi", weights, xs)


def attention_pooling_fwd(params, xs, mask):
    hidden, weights = energies(params, xs, mask)
    pooled = jnp.einsum("bs,bsi->bi", weights, xs)
    return pooled, (params, xs, hidden, weights, pooled)


def attention_pooling_bwd(residuals, g):
    params, xs, hidden, weights, pooled = residuals
    centred = xs - jnp.expand_dims(pooled, 1)
    denergy = weights * jnp.einsum("bi,bsi->bs", g, centred)
    dhidden = denergy[..., None] * params.query
    dpre = dhidden * (1 - jnp.square(hidden))
    dxs = jnp.einsum("bs,bi->bsi", weights, g)
    dxs = dxs + jnp.einsum("bsh,ih->bsi", dpre, params.key)
    grads = Pooling(
        key=jnp.einsum("bsi,bsh->ih", xs, dpre),
        bias=dpre.sum(axis=(0, 1)),
        query=jnp.einsum("bs,bsh->h", denergy, hidden),
    )
    return grads, dxs, None


attention_pooling.defvjp(attention_pooling_fwd, attention_pooling_bwd)


def retain(decay, q, k, v):
    def step(state, at):
        q, k, v = at
        state = decay * state + jnp.outer(k, v)
        return state, (jnp.matmul(q, state), state)

    start = jnp.zeros((k.shape[1], v.shape[1]), v.dtype)
    _, (outs, states) = lax.scan(step, start, (q, k, v))
    return outs, states


@jax.custom_vjp
def retention(decay, q, k, v):
    return jax.vmap(retain)(decay, q, k, v)[0]


def retention_fwd(decay, q, k, v):
    outs, states = jax.vmap(retain)(decay, q, k, v)
    return outs, (decay, q, k, v, states)


@jax.vmap
def retain_backward(decay, q, k, v, states, g):
    previous = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])

    def step(carry, at):
        dstate, ddecay = carry
        q, k, v, state, before, g = at
        dstate = dstate + jnp.outer(q, g)
        ddecay = ddecay + jnp.sum(dstate * before)
        grads = jnp.matmul(state, g), jnp.matmul(dstate, v), jnp.matmul(k, dstate)
        return (decay * dstate, ddecay), grads

    start = (jnp.zeros_like(states[0]), jnp.zeros_like(decay))
    (_, ddecay), (dq, dk, dv) = lax.scan(step, start, (q, k, v, states, previous, g), reverse=True)
    return ddecay, dq, dk, dv


def retention_bwd(residuals, g):
    decay, q, k, v, states = residuals
    return retain_backward(decay, q, k, v, states, g)


retention.defvjp(retention_fwd, retention_bwd)


def _talk(draw: Draw) -> tuple:
    length = draw.rows(15, 7)
    params = {"before": draw.normal(3, 3), "after": draw.normal(3, 3), "temperature": draw.positive()}
    return params, draw.normal(length, 3, 5), draw.normal(11, 3, 5), draw.normal(11, 3, 5)


def _relative(draw: Draw) -> tuple:
    length = draw.rows(7, 11)
    return draw.normal(length, 3), draw.normal(length, 3), draw.normal(length, 7), draw.normal(5)


def _pooling(draw: Draw) -> tuple:
    batch = draw.rows(35, 3)
    params = Pooling(draw.normal(7, 2), draw.normal(2), draw.normal(2))
    mask = jnp.asarray(draw.rng.uniform(size=(batch, 5)) < 0.7).at[:, 0].set(True)
    return params, draw.normal(batch, 5, 7), mask


def _retention(draw: Draw) -> tuple:
    length = draw.rows(14, 5)
    return draw.positive(2), draw.normal(2, length, 3), draw.normal(2, length, 3), draw.normal(2, length, 7)


RULES = (
    Rule("talking_heads", talking_heads, _talk),
    Rule("relative_attention", relative_attention, _relative),
    Rule("attention_pooling", attention_pooling, _pooling),
    Rule("retention", retention, _retention),
)
