"""Layers of weights, lookups and convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Draw, Rule

NHWC = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def dense(x, w, b):
    return jnp.tanh(x @ w + b[None])


def dense_fwd(x, w, b):
    a = dense(x, w, b)
    return a, (x, w, a)


def dense_bwd(residuals, da):
    x, w, a = residuals
    dz = da * (1 - a * a)
    dx = dz @ w.T
    dw = x.T @ dz
    db = dz.sum(axis=0)
    return dx, dw, db


dense.defvjp(dense_fwd, dense_bwd)


@jax.custom_vjp
def dense_float32_sums(x, w):
    z = lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return z.astype(x.dtype)


def dense_float32_sums_fwd(x, w):
    return dense_float32_sums(x, w), (x, w)


def dense_float32_sums_bwd(residuals, dz):
    x, w = residuals
    dx = lax.dot_general(dz, w, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    dw = lax.dot_general(x, dz, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dx.astype(x.dtype), dw.astype(w.dtype)


dense_float32_sums.defvjp(dense_float32_sums_fwd, dense_float32_sums_bwd)


@jax.custom_vjp
def bilinear(x, w, y):
    return jnp.einsum("ni,oij,nj->no", x, w, y)


def bilinear_fwd(x, w, y):
    return bilinear(x, w, y), (x, w, y)


def bilinear_bwd(residuals, dz):
    x, w, y = residuals
    wy = jnp.einsum("oij,nj->noi", w, y)
    xw = jnp.einsum("ni,oij->noj", x, w)
    dx = jnp.einsum("no,noi->ni", dz, wy)
    dy = jnp.einsum("no,noj->nj", dz, xw)
    dw = jnp.einsum("no,ni,nj->oij", dz, x, y)
    return dx, dw, dy


bilinear.defvjp(bilinear_fwd, bilinear_bwd)


@jax.custom_vjp
def low_rank(x, w, a, b):
    return x @ (w + 0.5 * a @ b)


def low_rank_fwd(x, w, a, b):
    return low_rank(x, w, a, b), (x, w, a, b)


def low_rank_bwd(residuals, dy):
    x, w, a, b = residuals
    dw = x.T @ dy
    dh = dy @ b.T
    da = 0.5 * x.T @ dh
    db = 0.5 * (x @ a).T @ dy
    dx = dy @ w.T + 0.5 * dh @ a.T
    return dx, dw, da, db


low_rank.defvjp(low_rank_fwd, low_rank_bwd)


@jax.custom_vjp
def embedding(table, ids):
    return jnp.take(table, ids, axis=0)


def embedding_fwd(table, ids):
    return embedding(table, ids), (table, ids)


def embedding_bwd(residuals, dy):
    table, ids = residuals
    dtable = jnp.zeros_like(table).at[ids].add(dy)
    return dtable, None


embedding.defvjp(embedding_fwd, embedding_bwd)


@jax.custom_vjp
def picked_log_probability(z, ids):
    y = jax.nn.log_softmax(z)
    return y[jnp.arange(len(z)), ids]


def picked_log_probability_fwd(z, ids):
    return picked_log_probability(z, ids), (z, ids)


def picked_log_probability_bwd(residuals, dy):
    z, ids = residuals
    p = jax.nn.softmax(z)
    dz = -dy[:, None] * p
    dz = dz.at[jnp.arange(len(z)), ids].add(dy)
    return dz, None


picked_log_probability.defvjp(picked_log_probability_fwd, picked_log_probability_bwd)


@jax.custom_vjp
def mixture_of_experts(x, router, w):
    gates = jax.nn.softmax(x @ router)
    return jnp.einsum("ne,ni,eio->no", gates, x, w)


def mixture_of_experts_fwd(x, router, w):
    return mixture_of_experts(x, router, w), (x, router, w)


def mixture_of_experts_bwd(residuals, dy):
    x, router, w = residuals
    gates = jax.nn.softmax(x @ router)
    outs = jnp.einsum("ni,eio->neo", x, w)
    dgates = jnp.einsum("no,neo->ne", dy, outs)
    mean = (gates * dgates).sum(axis=1, keepdims=True)
    dlogits = gates * (dgates - mean)
    drouter = x.T @ dlogits
    dw = jnp.einsum("ne,ni,no->eio", gates, x, dy)
    dx = jnp.einsum("ne,no,eio->ni", gates, dy, w)
    dx = dx + dlogits @ router.T
    return dx, drouter, dw


mixture_of_experts.defvjp(mixture_of_experts_fwd, mixture_of_experts_bwd)


@jax.custom_vjp
def dropout(x, key):
    keep = jax.random.bernoulli(key, 0.75, x.shape)
    return jnp.where(keep, x / 0.75, 0)


def dropout_fwd(x, key):
    return dropout(x, key), key


def dropout_bwd(key, dy):
    keep = jax.random.bernoulli(key, 0.75, dy.shape)
    dx = dy * keep.astype(dy.dtype) * (4 / 3)
    return dx, None


dropout.defvjp(dropout_fwd, dropout_bwd)


@jax.custom_vjp
def conv1d(x, w):
    return lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))


def conv1d_fwd(x, w):
    return conv1d(x, w), (x, w)


def conv1d_bwd(residuals, dy):
    x, w = residuals
    taps = w.shape[0]
    padded = jnp.pad(dy, ((0, 0), (taps - 1, taps - 1), (0, 0)))
    flipped = w[::-1].transpose(0, 2, 1)
    dx = lax.conv_general_dilated(padded, flipped, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
    length = dy.shape[1]
    dw = jnp.stack([jnp.einsum("nli,nlo->io", x[:, t : t + length], dy) for t in range(taps)])
    return dx, dw


conv1d.defvjp(conv1d_fwd, conv1d_bwd)


@jax.custom_vjp
def conv2d(x, w):
    return lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=NHWC)


def conv2d_fwd(x, w):
    return conv2d(x, w), (x, w)


def conv2d_bwd(residuals, dy):
    x, w = residuals
    h, v = dy.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dw = jnp.zeros_like(w)
    dpadded = jnp.zeros_like(padded)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            rows = slice(i, i + 2 * h - 1, 2)
            columns = slice(j, j + 2 * v - 1, 2)
            dw = dw.at[i, j].add(jnp.einsum("nhwi,nhwo->io", padded[:, rows, columns], dy))
            dpadded = dpadded.at[:, rows, columns].add(jnp.einsum("nhwo,io->nhwi", dy, w[i, j]))
    dx = dpadded[:, 1:-1, 1:-1]
    return dx, dw


conv2d.defvjp(conv2d_fwd, conv2d_bwd)


@jax.custom_vjp
def depthwise(x, w):
    return lax.conv_general_dilated(
        x, w[:, None], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=x.shape[2]
    )


def depthwise_fwd(x, w):
    return depthwise(x, w), (x, w)


def depthwise_bwd(residuals, dy):
    x, w = residuals
    length = x.shape[1]
    padded_dy = jnp.pad(dy, ((0, 0), (1, 1), (0, 0)))
    padded_x = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    dx = sum(padded_dy[:, 2 - t : 2 - t + length] * w[t][None, None] for t in range(3))
    dw = jnp.stack([(padded_x[:, t : t + length] * dy).sum(axis=(0, 1)) for t in range(3)])
    return dx, dw


depthwise.defvjp(depthwise_fwd, depthwise_bwd)


@jax.custom_vjp
def average_pool(x):
    total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return total / 4


def average_pool_fwd(x):
    return average_pool(x), None


def average_pool_bwd(_, dy):
    dx = jnp.repeat(jnp.repeat(dy, 2, axis=1), 2, axis=2) / 4
    return (dx,)


average_pool.defvjp(average_pool_fwd, average_pool_bwd)


@jax.custom_vjp
def max_pool(x):
    return x.reshape(len(x), -1, 3).max(axis=2)


def max_pool_fwd(x):
    return max_pool(x), x


def max_pool_bwd(x, dy):
    windows = x.reshape(len(x), -1, 3)
    first = jax.nn.one_hot(windows.argmax(axis=2), 3, dtype=x.dtype)
    dx = first * dy[..., None]
    return (dx.reshape(x.shape),)


max_pool.defvjp(max_pool_fwd, max_pool_bwd)


def _dense(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(3, 7), 3), draw.normal(3, 5), draw.normal(5)


def _bilinear(draw: Draw) -> tuple[jax.Array, ...]:
    rows = draw.rows(5, 7)
    return draw.normal(rows, 3), draw.normal(2, 3, 5), draw.normal(rows, 5)


def _low_rank(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(5, 7), 5), draw.normal(5, 3), draw.normal(5, 2), draw.normal(2, 3)


def _table(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(3, 7)
    return draw.normal(rows, 3), draw.integers(rows, 2 * rows - 1)


def _picks(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(7, 3)
    return draw.normal(rows, 7), draw.integers(7, rows)


def _experts(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(3, 7), 3), draw.normal(3, 2), draw.normal(2, 3, 5)


def _dropped(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.size), jax.random.key(int(draw.rng.integers(2**31)))


def _signal(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(2, draw.rows(10, 7), 5), draw.normal(3, 5, 2)


def _image(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.rows(105, 2), 5, 7, 3), draw.normal(3, 3, 3, 2)


def _channels(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(2, draw.rows(10, 7), 5), draw.normal(3, 5)


def _blocks(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(72, 2), 4, 6, 3),)


def _windows(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(15, 2), 15),)


RULES = (
    Rule("dense", dense, _dense),
    Rule("dense_float32_sums", dense_float32_sums, lambda draw: _dense(draw)[:2], dtypes=("float32", "bfloat16")),
    Rule("bilinear", bilinear, _bilinear),
    Rule("low_rank", low_rank, _low_rank),
    Rule("embedding", embedding, _table),
    Rule("picked_log_probability", picked_log_probability, _picks),
    Rule("mixture_of_experts", mixture_of_experts, _experts),
    Rule("dropout", dropout, _dropped),
    Rule("conv1d", conv1d, _signal),
    Rule("conv2d", conv2d, _image),
    Rule("depthwise", depthwise, _channels),
    Rule("average_pool", average_pool, _blocks),
    Rule("max_pool", max_pool, _windows),
)
