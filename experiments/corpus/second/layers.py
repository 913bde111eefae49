"""Layers with weights in dictionaries: modulation, adapters, gated blocks, normalised and standardised weights."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


def affine(params, x):
    return jnp.matmul(x, params["kernel"]) + params["bias"]


def affine_grads(params, x, dy):
    return {"kernel": jnp.matmul(x.T, dy), "bias": jnp.sum(dy, axis=0)}, jnp.matmul(dy, params["kernel"].T)


@jax.custom_vjp
def film(params, x, condition):
    scale = affine(params["scale"], condition)
    shift = affine(params["shift"], condition)
    return x * (1.0 + scale[:, None, :]) + shift[:, None, :]


def film_fwd(params, x, condition):
    return film(params, x, condition), (params, x, condition)


def film_bwd(res, g):
    params, x, condition = res
    scale = affine(params["scale"], condition)
    dscale = jnp.einsum("btc,btc->bc", g, x)
    dshift = g.sum(1)
    scale_grads, dcond_scale = affine_grads(params["scale"], condition, dscale)
    shift_grads, dcond_shift = affine_grads(params["shift"], condition, dshift)
    grads = {"scale": scale_grads, "shift": shift_grads}
    return grads, g * (1.0 + scale[:, None, :]), dcond_scale + dcond_shift


film.defvjp(film_fwd, film_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def lora(params, x, alpha):
    rank = params["down"].shape[-1]
    hidden = jnp.einsum("...i,ir->...r", x, params["down"])
    update = jnp.einsum("...r,ro->...o", hidden, params["up"])
    return x @ lax.stop_gradient(params["frozen"]) + alpha / rank * update


def lora_fwd(params, x, alpha):
    return lora(params, x, alpha), (params, x)


def lora_bwd(alpha, res, g):
    params, x = res
    scaled = g * (alpha / params["down"].shape[-1])
    hidden = jnp.einsum("...i,ir->...r", x, params["down"])
    dhidden = jnp.einsum("...o,ro->...r", scaled, params["up"])
    grads = {
        "frozen": jnp.zeros_like(params["frozen"]),
        "down": jnp.einsum("nti,ntr->ir", x, dhidden),
        "up": jnp.einsum("ntr,nto->ro", hidden, scaled),
    }
    dx = jnp.einsum("...o,io->...i", g, params["frozen"])
    dx += jnp.einsum("...r,ir->...i", dhidden, params["down"])
    return grads, dx


lora.defvjp(lora_fwd, lora_bwd)


def silu_and_slope(x):
    s = jax.nn.sigmoid(x)
    return x * s, s + x * s * (1.0 - s)


def gated(params, x):
    return jax.nn.silu(affine(params["gate"], x)) * affine(params["up"], x)


@jax.custom_vjp
def gated_block(params, x):
    return x + affine(params["down"], gated(params, x))


def gated_block_fwd(params, x):
    return gated_block(params, x), (params, x)


def gated_block_bwd(res, g):
    params, x = res
    gate, up = affine(params["gate"], x), affine(params["up"], x)
    act, slope = silu_and_slope(gate)
    down_grads, dhidden = affine_grads(params["down"], act * up, g)
    gate_grads, dx_gate = affine_grads(params["gate"], x, dhidden * up * slope)
    up_grads, dx_up = affine_grads(params["up"], x, dhidden * act)
    return {"gate": gate_grads, "up": up_grads, "down": down_grads}, g + dx_gate + dx_up


gated_block.defvjp(gated_block_fwd, gated_block_bwd)


def moments(x):
    mean = x.mean(-1, keepdims=True)
    return mean, lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)


@jax.custom_vjp
def residual_layer_norm(params, x, skip):
    total = x + skip
    mean, rstd = moments(total)
    return (total - mean) * rstd * params["scale"] + params["bias"]


def residual_layer_norm_fwd(params, x, skip):
    total = x + skip
    mean, rstd = moments(total)
    normed = (total - mean) * rstd
    return normed * params["scale"] + params["bias"], (params["scale"], normed, rstd)


def residual_layer_norm_bwd(res, g):
    scale, normed, rstd = res
    params_grad = {
        "scale": jnp.sum(g * normed, axis=tuple(range(g.ndim - 1))),
        "bias": jnp.sum(g, axis=tuple(range(g.ndim - 1))),
    }
    dnormed = g * scale
    dtotal = (
        dnormed
        - dnormed.mean(axis=-1, keepdims=True)
        - normed * jnp.mean(dnormed * normed, axis=-1, keepdims=True)
    ) * rstd  # fmt: skip
    return params_grad, dtotal, dtotal


residual_layer_norm.defvjp(residual_layer_norm_fwd, residual_layer_norm_bwd)


def standardise(kernel):
    mean = jnp.mean(kernel, axis=0, keepdims=True)
    var = jnp.var(kernel, axis=0, keepdims=True)
    rstd = lax.rsqrt(var + 1e-4) / math.sqrt(kernel.shape[0])
    return (kernel - mean) * rstd, rstd


@jax.custom_vjp
def standardised_dense(params, x):
    weight, _ = standardise(params["kernel"])
    return lax.dot(x, weight * params["gain"]) + params["bias"]


def standardised_dense_fwd(params, x):
    weight, rstd = standardise(params["kernel"])
    return lax.dot(x, weight * params["gain"]) + params["bias"], (x, params["gain"], weight, rstd)


def standardised_dense_bwd(res, g):
    x, gain, weight, rstd = res
    dscaled = jnp.einsum("ni,no->io", x, g)
    dweight = dscaled * gain
    along = jnp.sum(dweight * weight, axis=0, keepdims=True)
    dkernel = rstd * (dweight - dweight.mean(axis=0, keepdims=True) - weight * along)
    grads = {
        "kernel": dkernel,
        "gain": jnp.sum(dscaled * weight, axis=0),
        "bias": g.sum(axis=0),
    }
    return grads, jnp.einsum("no,io->ni", g, weight * gain)


standardised_dense.defvjp(standardised_dense_fwd, standardised_dense_bwd)


def unit_rows(x):
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / norm, norm


def unit_rows_grad(unit, norm, g):
    return (g - unit * jnp.einsum("...d,...d->...", unit, g)[..., None]) / norm


@jax.custom_vjp
def cosine_classifier(params, x):
    return params["scale"] * unit_rows(x)[0] @ unit_rows(params["prototypes"])[0].T


def cosine_classifier_fwd(params, x):
    x_unit, x_norm = unit_rows(x)
    w_unit, w_norm = unit_rows(params["prototypes"])
    cosines = jnp.einsum("nd,cd->nc", x_unit, w_unit)
    return params["scale"] * cosines, (params["scale"], cosines, (x_unit, x_norm), (w_unit, w_norm))


def cosine_classifier_bwd(res, g):
    scale, cosines, (x_unit, x_norm), (w_unit, w_norm) = res
    dcosines = scale * g
    dx = unit_rows_grad(x_unit, x_norm, jnp.einsum("nc,cd->nd", dcosines, w_unit))
    dprototypes = unit_rows_grad(w_unit, w_norm, jnp.einsum("nc,nd->cd", dcosines, x_unit))
    return {"prototypes": dprototypes, "scale": jnp.vdot(g, cosines)}, dx


cosine_classifier.defvjp(cosine_classifier_fwd, cosine_classifier_bwd)


def _film(draw: Draw) -> tuple:
    batch = draw.rows(35, 2)
    params = {name: {"kernel": draw.normal(3, 7), "bias": draw.normal(7)} for name in ("scale", "shift")}
    return params, draw.normal(batch, 5, 7), draw.normal(batch, 3)


def _adapter(draw: Draw) -> tuple:
    params = {"frozen": draw.normal(7, 3), "down": draw.normal(7, 2), "up": draw.normal(2, 3)}
    return params, draw.normal(draw.rows(77, 5), 11, 7), 16.0


def _gated(draw: Draw) -> tuple:
    shapes = {"gate": (3, 5), "up": (3, 5), "down": (5, 3)}
    params = {name: {"kernel": draw.normal(*shape), "bias": draw.normal(shape[1])} for name, shape in shapes.items()}
    return params, draw.normal(draw.rows(3, 7), 3)


def _residual(draw: Draw) -> tuple:
    batch = draw.rows(15, 2)
    return {"scale": draw.normal(5), "bias": draw.normal(5)}, draw.normal(batch, 3, 5), draw.normal(batch, 3, 5)


def _standardised(draw: Draw) -> tuple:
    return {"kernel": draw.normal(5, 3), "gain": draw.normal(3), "bias": draw.normal(3)}, draw.normal(
        draw.rows(5, 7), 5
    )


def _prototypes(draw: Draw) -> tuple:
    return {"prototypes": draw.normal(3, 5), "scale": 10 * draw.positive()}, draw.normal(draw.rows(5, 7), 5)


RULES = (
    Rule("film", film, _film),
    Rule("lora", lora, _adapter),
    Rule("gated_block", gated_block, _gated),
    Rule("residual_layer_norm", residual_layer_norm, _residual),
    Rule("standardised_dense", standardised_dense, _standardised),
    Rule("cosine_classifier", cosine_classifier, _prototypes),
)
