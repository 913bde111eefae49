"""Attention in einsums over dictionaries of weights: padded, with ALiBi slopes, with grouped queries; rotary pairs."""

import math

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def project(x, kernel):
    return jnp.einsum("tc,chd->thd", x, kernel)


def project_grads(x, kernel, g):
    dx = jnp.einsum("thd,chd->tc", g, kernel)
    dkernel = jnp.einsum("tc,thd->chd", x, g)
    return dx, dkernel


def softmax_grad(probs, g):
    inner = jnp.sum(g * probs, axis=-1, keepdims=True)
    return probs * (g - inner)


def attend(params, x, mask):
    q, k, v = (project(x, params[name]) for name in ("query", "key", "value"))
    logits = jnp.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1])
    probs = jax.nn.softmax(jnp.where(mask, logits, -1e9), axis=-1)
    mixed = jnp.einsum("hts,shd->thd", probs, v)
    out = jnp.einsum("thd,hdc->tc", mixed, params["out"])
    return out, (q, k, v, probs, mixed)


@jax.custom_vjp
def multi_head_attention(params, x, mask):
    return attend(params, x, mask)[0]


def multi_head_attention_fwd(params, x, mask):
    out, saved = attend(params, x, mask)
    return out, (params, x, mask, *saved)


def multi_head_attention_bwd(res, g):
    params, x, mask, q, k, v, probs, mixed = res
    dmixed = jnp.einsum("tc,hdc->thd", g, params["out"])
    dv = jnp.einsum("hts,thd->shd", probs, dmixed)
    dlogits = softmax_grad(probs, g=jnp.einsum("thd,shd->hts", dmixed, v))
    dlogits = jnp.where(mask, dlogits, 0.0) / math.sqrt(q.shape[-1])
    dq = jnp.einsum("hts,shd->thd", dlogits, k)
    dk = jnp.einsum("hts,thd->shd", dlogits, q)
    dx_q, dquery = project_grads(x, params["query"], dq)
    dx_k, dkey = project_grads(x, params["key"], dk)
    dx_v, dvalue = project_grads(x, params["value"], dv)
    grads = {
        "query": dquery,
        "key": dkey,
        "value": dvalue,
        "out": jnp.einsum("thd,tc->hdc", mixed, g),
    }
    return grads, dx_q + dx_k + dx_v, None


multi_head_attention.defvjp(multi_head_attention_fwd, multi_head_attention_bwd)


def distances(length):
    steps = jnp.arange(length)
    return steps[:, None] - steps[None, :]


def alibi_probs(slopes, q, k):
    away = distances(len(q))
    logits = jnp.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    logits = logits - slopes[:, None, None] * away
    return jax.nn.softmax(jnp.where(away >= 0, logits, -jnp.inf), axis=-1)


@jax.custom_vjp
def alibi_attention(slopes, q, k, v):
    probs = jax.vmap(alibi_probs, in_axes=(None, 0, 0))(slopes, q, k)
    return jnp.einsum("bhqk,bkhd->bqhd", probs, v)


def alibi_attention_fwd(slopes, q, k, v):
    probs = jax.vmap(alibi_probs, in_axes=(None, 0, 0))(slopes, q, k)
    return jnp.einsum("bhqk,bkhd->bqhd", probs, v), (probs, q, k, v)


def alibi_example_bwd(probs, q, k, v, g):
    dlogits = softmax_grad(probs, jnp.einsum("qhd,khd->hqk", g, v))
    scaled = dlogits * q.shape[-1] ** -0.5
    dslopes = -jnp.sum(dlogits * distances(len(q)), axis=(1, 2))
    return (
        dslopes,
        jnp.einsum("hqk,khd->qhd", scaled, k),
        jnp.einsum("hqk,qhd->khd", scaled, q),
        jnp.einsum("hqk,qhd->khd", probs, g),
    )


def alibi_attention_bwd(res, g):
    probs, q, k, v = res
    dslopes, dq, dk, dv = jax.vmap(alibi_example_bwd)(probs, q, k, v, g)
    return dslopes.sum(0), dq, dk, dv


alibi_attention.defvjp(alibi_attention_fwd, alibi_attention_bwd)


CAP = 5.0


def capped_logits(q, k):
    logits = jnp.einsum("tgrd,sgd->grts", q, k)
    return jnp.tanh(logits / CAP)


@jax.custom_vjp
def grouped_query_attention(q, k, v):
    probs = jax.nn.softmax(CAP * capped_logits(q, k), axis=-1)
    return jnp.einsum("grts,sgd->tgrd", probs, v)


def grouped_query_attention_fwd(q, k, v):
    capped = capped_logits(q, k)
    probs = jax.nn.softmax(CAP * capped, axis=-1)
    return jnp.einsum("grts,sgd->tgrd", probs, v), (q, k, v, capped, probs)


def grouped_query_attention_bwd(res, g):
    q, k, v, capped, probs = res
    dv = jnp.einsum("grts,tgrd->sgd", probs, g)
    dprobs = jnp.einsum("tgrd,sgd->grts", g, v)
    dlogits = softmax_grad(probs, dprobs) * (1.0 - jnp.square(capped))
    dq = jnp.einsum("grts,sgd->tgrd", dlogits, k)
    dk = jnp.einsum("grts,tgrd->sgd", dlogits, q)
    return dq, dk, dv


grouped_query_attention.defvjp(grouped_query_attention_fwd, grouped_query_attention_bwd)


def rotate_pairs(x, cos, sin):
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape)


def angles(freqs, length):
    theta = jnp.arange(length)[:, None, None] * freqs
    return jnp.cos(theta), jnp.sin(theta)


@jax.custom_vjp
def rotary_pairs(x, freqs):
    return rotate_pairs(x, *angles(freqs, len(x)))


def rotary_pairs_fwd(x, freqs):
    cos, sin = angles(freqs, len(x))
    y = rotate_pairs(x, cos, sin)
    return y, (y, cos, sin)


def rotary_pairs_bwd(res, g):
    y, cos, sin = res
    dx = rotate_pairs(g, cos, -sin)
    even, odd = y[..., 0::2], y[..., 1::2]
    dtheta = even * g[..., 1::2] - odd * g[..., 0::2]
    dfreqs = jnp.einsum("t,thp->p", jnp.arange(len(y)).astype(g.dtype), dtheta)
    return dx, dfreqs


rotary_pairs.defvjp(rotary_pairs_fwd, rotary_pairs_bwd)


def _padded(draw: Draw) -> tuple:
    length = draw.rows(7, 5)
    params = {name: draw.normal(7, 2, 3, scale=0.5) for name in ("query", "key", "value")}
    mask = jnp.asarray(draw.rng.uniform(size=length) < 0.7).at[0].set(True)
    return {**params, "out": draw.normal(2, 3, 7)}, draw.normal(length, 7), mask


def _slopes(draw: Draw) -> tuple:
    batch = draw.rows(42, 2)
    return (draw.positive(3), *(draw.normal(batch, 5, 3, 7) for _ in range(3)))


def _groups(draw: Draw) -> tuple:
    length = draw.rows(30, 7)
    return draw.normal(length, 2, 3, 5), draw.normal(11, 2, 5), draw.normal(11, 2, 5)


def _pairs(draw: Draw) -> tuple:
    return draw.normal(draw.rows(30, 5), 3, 14), draw.positive(7)


RULES = (
    Rule("multi_head_attention", multi_head_attention, _padded),
    Rule("alibi_attention", alibi_attention, _slopes),
    Rule("grouped_query_attention", grouped_query_attention, _groups),
    Rule("rotary_pairs", rotary_pairs, _pairs),
)
