"""Normalisation layers, with their scale and shift."""

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


@jax.custom_vjp
def l2_normalise(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def l2_normalise_fwd(x):
    r = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / r, (x / r, r)


def l2_normalise_bwd(residuals, dy):
    y, r = residuals
    along = (y * dy).sum(axis=-1, keepdims=True)
    dx = (dy - y * along) / r
    return (dx,)


l2_normalise.defvjp(l2_normalise_fwd, l2_normalise_bwd)


@jax.custom_vjp
def layer_norm(x, scale, shift):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale[None] + shift[None]


def layer_norm_fwd(x, scale, shift):
    centred = x - x.mean(axis=-1, keepdims=True)
    r = jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    h = centred * r
    return h * scale[None] + shift[None], (h, r, scale)


def layer_norm_bwd(residuals, dy):
    h, r, scale = residuals
    dshift = dy.sum(axis=0)
    dscale = (dy * h).sum(axis=0)
    dh = dy * scale[None]
    along = (dh * h).mean(axis=-1, keepdims=True)
    dx = r * (dh - dh.mean(axis=-1, keepdims=True) - h * along)
    return dx, dscale, dshift


layer_norm.defvjp(layer_norm_fwd, layer_norm_bwd)


@jax.custom_vjp
def rms_norm(x, scale):
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * scale[None]


def rms_norm_fwd(x, scale):
    return rms_norm(x, scale), (x, scale)


def rms_norm_bwd(residuals, dy):
    x, scale = residuals
    r = 1 / jnp.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    dh = dy * scale[None]
    along = (dh * x).sum(axis=-1, keepdims=True) / x.shape[-1]
    dx = r * dh - r**3 * x * along
    dscale = (dy * x * r).sum(axis=0)
    return dx, dscale


rms_norm.defvjp(rms_norm_fwd, rms_norm_bwd)


@jax.custom_vjp
def batch_norm(x, scale, shift):
    mean = x.mean(axis=0)
    variance = (x * x).mean(axis=0) - mean * mean
    return (x - mean[None]) / jnp.sqrt(variance + 1e-3)[None] * scale[None] + shift[None]


def batch_norm_fwd(x, scale, shift):
    return batch_norm(x, scale, shift), (x, scale)


def batch_norm_bwd(residuals, dy):
    x, scale = residuals
    n = len(x)
    centred = x - x.mean(axis=0)[None]
    r = 1 / jnp.sqrt((centred * centred).mean(axis=0) + 1e-3)
    h = centred * r[None]
    dshift = dy.sum(axis=0)
    dscale = (dy * h).sum(axis=0)
    dx = (scale * r)[None] / n * (n * dy - dshift[None] - h * dscale[None])
    return dx, dscale, dshift


batch_norm.defvjp(batch_norm_fwd, batch_norm_bwd)


@jax.custom_vjp
def group_norm(x, scale):
    groups = x.reshape(len(x), 2, -1)
    h = jax.nn.standardize(groups, axis=-1, epsilon=1e-5)
    return h.reshape(x.shape) * scale[None]


def group_norm_fwd(x, scale):
    return group_norm(x, scale), (x, scale)


def group_norm_bwd(residuals, dy):
    x, scale = residuals
    groups = x.reshape(len(x), 2, -1)
    centred = groups - groups.mean(axis=-1, keepdims=True)
    r = jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    h = centred * r
    dscale = (dy * h.reshape(x.shape)).sum(axis=0)
    dh = (dy * scale[None]).reshape(groups.shape)
    along = (dh * h).mean(axis=-1, keepdims=True)
    dgroups = r * (dh - dh.mean(axis=-1, keepdims=True) - h * along)
    return dgroups.reshape(x.shape), dscale


group_norm.defvjp(group_norm_fwd, group_norm_bwd)


@jax.custom_vjp
def weight_norm(x, v, g):
    return x @ (v * (g / jnp.linalg.norm(v, axis=0))[None])


def weight_norm_fwd(x, v, g):
    return weight_norm(x, v, g), (x, v, g)


def weight_norm_bwd(residuals, dy):
    x, v, g = residuals
    r = jnp.sqrt((v * v).sum(axis=0))
    u = v / r[None]
    dw = x.T @ dy
    dg = (dw * u).sum(axis=0)
    dv = (g / r)[None] * (dw - u * dg[None])
    dx = dy @ (u * g[None]).T
    return dx, dv, dg


weight_norm.defvjp(weight_norm_fwd, weight_norm_bwd)


def _rows(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(7, 3), 7),)


def _affine(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(7, 3), 7), draw.normal(7), draw.normal(7)


def _scaled(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.rows(7, 3), 7), draw.normal(7)


def _grouped(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.rows(10, 3), 10), draw.normal(10)


def _weights(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.rows(3, 7), 3), draw.normal(3, 5), draw.normal(5)


RULES = (
    Rule("l2_normalise", l2_normalise, _rows),
    Rule("layer_norm", layer_norm, _affine),
    Rule("rms_norm", rms_norm, _scaled),
    Rule("batch_norm", batch_norm, _affine),
    Rule("group_norm", group_norm, _grouped),
    Rule("weight_norm", weight_norm, _weights),
)
