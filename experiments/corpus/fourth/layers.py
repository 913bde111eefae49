"""Layers that move rows about: bags of words, routed experts, a quantiser, statistics kept, windows, strides."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


def bag_of_each(offsets, n):
    return jnp.searchsorted(offsets, jnp.arange(n), side="right") - 1


@jax.custom_vjp
def embedding_bag(table, weights, words, offsets):
    """The mean of each bag's weighted rows; a bag goes from its offset to the next one's."""
    bags = bag_of_each(offsets, len(words))
    totals = jax.ops.segment_sum(weights[:, None] * table[words], bags, num_segments=len(offsets))
    counts = jnp.bincount(bags, length=len(offsets)).astype(table.dtype)
    return totals / jnp.maximum(counts, 1)[:, None]


def embedding_bag_fwd(table, weights, words, offsets):
    return embedding_bag(table, weights, words, offsets), (table, weights, words, offsets)


def embedding_bag_bwd(res, ct):
    table, weights, words, offsets = res
    bags = bag_of_each(offsets, len(words))
    counts = jnp.bincount(bags, length=len(offsets)).astype(ct.dtype)
    drows = ct[bags] / counts[bags][:, None]
    dtable = jnp.zeros_like(table).at[words].add(weights[:, None] * drows)
    dweights = jnp.sum(drows * table[words], axis=1)
    return dtable, dweights, None, None


embedding_bag.defvjp(embedding_bag_fwd, embedding_bag_bwd)


def route(logits):
    """Each token's expert and its place in the experts' buffers, the end of them for tokens that find theirs full."""
    n, experts = logits.shape
    capacity = n // experts + 1
    expert = jnp.argmax(logits, axis=1)
    queue = jnp.cumsum(jax.nn.one_hot(expert, experts, dtype=jnp.int32), axis=0)
    rank = queue[jnp.arange(n), expert] - 1
    return expert, jnp.where(rank < capacity, expert * capacity + rank, experts * capacity), capacity


def dispatch(rows, slot, places):
    return jnp.zeros((places, rows.shape[1]), rows.dtype).at[slot].set(rows, mode="drop")


def collect(buffer, slot):
    return buffer.at[slot].get(mode="fill", fill_value=0)


def switch(params, x):
    logits = x @ params["router"]
    expert, slot, capacity = route(logits)
    experts, width, _ = params["expert"].shape
    buffer = dispatch(x, slot, experts * capacity).reshape(experts, capacity, width)
    hidden = jnp.tanh(jnp.einsum("ecd,edf->ecf", buffer, params["expert"]))
    probs = jax.nn.softmax(logits, axis=1)
    chosen = probs[jnp.arange(len(x)), expert]
    rows = collect(hidden.reshape(experts * capacity, width), slot)
    return chosen[:, None] * rows, (params, x, expert, slot, buffer, hidden, probs, chosen)


@jax.custom_vjp
def switch_experts(params, x):
    return switch(params, x)[0]


def switch_experts_fwd(params, x):
    return switch(params, x)


def switch_experts_bwd(res, g):
    params, x, expert, slot, buffer, hidden, probs, chosen = res
    experts, capacity, width = hidden.shape
    rows = collect(hidden.reshape(-1, width), slot)
    dchosen = jnp.sum(g * rows, axis=1)
    onehot = jax.nn.one_hot(expert, experts, dtype=g.dtype)
    dlogits = (dchosen * chosen)[:, None] * (onehot - probs)
    dhidden = dispatch(chosen[:, None] * g, slot, experts * capacity).reshape(hidden.shape)
    dpre = dhidden * (1 - hidden**2)
    dbuffer = jnp.einsum("ecf,edf->ecd", dpre, params["expert"])
    dx = collect(dbuffer.reshape(-1, width), slot) + dlogits @ params["router"].T
    grads = {"router": x.T @ dlogits, "expert": jnp.einsum("ecd,ecf->edf", buffer, dpre)}
    return grads, dx


switch_experts.defvjp(switch_experts_fwd, switch_experts_bwd)

LEVELS = 3


def rounded(scaled):
    """Straight through: the slope of the identity."""
    return scaled + lax.stop_gradient(jnp.round(scaled) - scaled)


@jax.custom_vjp
def learned_step(x, step):
    """Signed levels of a learned step for each channel."""
    return rounded(jnp.clip(x / step, -LEVELS, LEVELS)) * step


def learned_step_fwd(x, step):
    scaled = x / step
    level = jnp.round(jnp.clip(scaled, -LEVELS, LEVELS))
    return level * step, (scaled, level)


def learned_step_bwd(res, g):
    scaled, level = res
    inside = jnp.abs(scaled) < LEVELS
    dx = jnp.where(inside, g, 0)
    dstep = jnp.sum(g * level - dx * scaled, axis=0)
    return dx, dstep


learned_step.defvjp(learned_step_fwd, learned_step_bwd)

KEEP, EPS = 0.8, 1e-3


@jax.custom_vjp
def batch_norm_train(x, scale, bias, running):
    """The normalised batch, and the running statistics after it, the variance unbiased."""
    n = len(x)
    mean, var = jnp.mean(x, axis=0), jnp.var(x, axis=0)
    y = scale * (x - mean) / jnp.sqrt(var + EPS) + bias
    new = {
        "mean": KEEP * running["mean"] + (1 - KEEP) * mean,
        "var": KEEP * running["var"] + (1 - KEEP) * var * n / (n - 1),
    }
    return y, new


def batch_norm_train_fwd(x, scale, bias, running):
    mean, var = jnp.mean(x, axis=0), jnp.var(x, axis=0)
    inv = lax.rsqrt(var + EPS)
    return batch_norm_train(x, scale, bias, running), (scale, mean, inv, (x - mean) * inv)


def batch_norm_train_bwd(res, cts):
    scale, _, inv, z = res
    dy, dnew = cts
    n = len(z)
    dbias = dy.sum(axis=0)
    dscale = jnp.sum(dy * z, axis=0)
    dz = scale * dy
    dx = inv * (dz - dz.mean(axis=0) - z * jnp.mean(dz * z, axis=0))
    dx = dx + (1 - KEEP) * dnew["mean"] / n
    dx = dx + (1 - KEEP) * dnew["var"] * 2 * z / inv / (n - 1)
    drunning = jax.tree.map(lambda d: KEEP * d, dnew)
    return dx, dscale, dbias, drunning


batch_norm_train.defvjp(batch_norm_train_fwd, batch_norm_train_bwd)

BEFORE, AFTER = 2, 1
POWER = 0.75


def window_sum(x, before, after):
    """For each channel, the sum over those from ``before`` to the left to ``after`` to the right."""
    channels = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (before, after)))
    total = jnp.zeros_like(x)
    for k in range(before + after + 1):
        total = total + padded[:, k : k + channels]
    return total


@jax.custom_vjp
def local_response(x, alpha):
    return x * (1 + alpha * window_sum(x**2, BEFORE, AFTER)) ** -POWER


def local_response_fwd(x, alpha):
    energy = window_sum(x**2, BEFORE, AFTER)
    return x * (1 + alpha * energy) ** -POWER, (x, alpha, energy)


def local_response_bwd(res, g):
    x, alpha, energy = res
    base = 1 + alpha * energy
    dbase = -POWER * g * x * base ** (-POWER - 1)
    dalpha = jnp.sum(dbase * energy)
    spread = window_sum(dbase, AFTER, BEFORE)
    return g * base**-POWER + 2 * alpha * x * spread, dalpha


local_response.defvjp(local_response_fwd, local_response_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def strided_conv(x, kernel, stride):
    """Over time, one zero before and after: (time, in) and (taps, in, out)."""
    padded = jnp.pad(x, ((1, 1), (0, 0)))
    taps = len(kernel)
    frames = (len(padded) - taps) // stride + 1
    return sum(padded[k : k + stride * (frames - 1) + 1 : stride] @ kernel[k] for k in range(taps))


def strided_conv_fwd(x, kernel, stride):
    return strided_conv(x, kernel, stride), (x, kernel)


def strided_conv_bwd(stride, res, g):
    x, kernel = res
    padded = jnp.pad(x, ((1, 1), (0, 0)))
    frames, taps = len(g), len(kernel)

    def product(step, carry):
        dpadded, dkernel = carry
        i, k = step // taps, step % taps
        at = i * stride + k
        dkernel = dkernel.at[k].add(jnp.outer(padded[at], g[i]))
        dpadded = dpadded.at[at].add(kernel[k] @ g[i])
        return dpadded, dkernel

    start = jnp.zeros_like(padded), jnp.zeros_like(kernel)
    dpadded, dkernel = lax.fori_loop(0, frames * taps, product, start)
    return dpadded[1:-1], dkernel


strided_conv.defvjp(strided_conv_fwd, strided_conv_bwd)


def _bags(draw: Draw) -> tuple:
    n = draw.rows(2, 7)
    return draw.normal(7, 3), draw.positive(n), draw.integers(7, n), jnp.asarray([0, 1, 3, 4], jnp.int32)


def _switch(draw: Draw) -> tuple:
    return {"router": draw.normal(3, 3), "expert": draw.normal(3, 3, 3)}, draw.normal(draw.rows(3, 7), 3)


def _step(draw: Draw) -> tuple:
    return draw.normal(draw.rows(3, 7), 3), 0.4 * draw.positive(3)


def _batch(draw: Draw) -> tuple:
    running = {"mean": draw.normal(3), "var": draw.positive(3)}
    return draw.normal(draw.rows(3, 3), 3), draw.normal(3), draw.normal(3), running


def _response(draw: Draw) -> tuple:
    return draw.normal(draw.rows(7, 2), 7), draw.positive()


def _strided(draw: Draw) -> tuple:
    return draw.normal(draw.rows(2, 7), 2), draw.normal(3, 2, 2), 2


RULES = (
    Rule("embedding_bag", embedding_bag, _bags),
    Rule("switch_experts", switch_experts, _switch),
    Rule("learned_step", learned_step, _step),
    Rule("batch_norm_train", batch_norm_train, _batch),
    Rule("local_response", local_response, _response),
    Rule("strided_conv", strided_conv, _strided),
)
