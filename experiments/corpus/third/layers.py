"""Layers over nested parameters: highways, generated weights, Kronecker factors, sets, graphs, styles, flows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


def linear(layer, x):
    return jnp.matmul(x, layer["weight"]) + layer["bias"]


def linear_backward(layer, x, g):
    grads = {"weight": jnp.matmul(jnp.swapaxes(x, 0, 1), g), "bias": g.sum(axis=0)}
    return grads, jnp.matmul(g, layer["weight"].T)


def branches(params, x):
    carry = jax.nn.sigmoid(linear(params["carry"], x))
    candidate = jax.nn.softplus(linear(params["transform"], x))
    return carry, candidate


@jax.custom_vjp
def highway(params, x):
    carry, candidate = branches(params, x)
    return carry * x + (1.0 - carry) * candidate


def highway_fwd(params, x):
    carry, candidate = branches(params, x)
    return carry * x + (1.0 - carry) * candidate, (params, x, carry, candidate)


@jax.jit
def highway_bwd(residuals, g):
    params, x, carry, candidate = residuals
    dcarry = g * (x - candidate)
    dcandidate = g * (1.0 - carry)
    dgate = dcarry * carry * (1.0 - carry)
    dpre = dcandidate * (1.0 - jnp.exp(-candidate))
    carry_grads, through_carry = linear_backward(params["carry"], x, dgate)
    transform_grads, through_transform = linear_backward(params["transform"], x, dpre)
    dx = g * carry + through_carry + through_transform
    return {"carry": carry_grads, "transform": transform_grads}, dx


highway.defvjp(highway_fwd, highway_bwd)


@jax.custom_vjp
def hypernetwork(generator, x, task):
    weights = jnp.einsum("bt,tio->bio", task, generator["weights"]) + generator["base"]
    return jnp.einsum("bi,bio->bo", x, weights)


def hypernetwork_fwd(generator, x, task):
    return hypernetwork(generator, x, task), (generator, x, task)


def hypernetwork_bwd(residuals, g):
    generator, x, task = residuals
    dweights = jnp.einsum("bi,bo->bio", x, g)
    grads = {
        "weights": jnp.einsum("bt,bio->tio", task, dweights),
        "base": jnp.einsum("bio->io", dweights),
    }
    weights = generator["base"] + jnp.tensordot(task, generator["weights"], axes=1)
    dx = jnp.einsum("bo,bio->bi", g, weights)
    dtask = jnp.einsum("bio,tio->bt", dweights, generator["weights"])
    return grads, dx, dtask


hypernetwork.defvjp(hypernetwork_fwd, hypernetwork_bwd)


class Factors(NamedTuple):
    left: jax.Array
    right: jax.Array


def kron_apply(factors, grid):
    return jnp.matmul(jnp.matmul(factors.left, grid), factors.right.T)


@jax.custom_vjp
def kronecker_dense(factors, x):
    rows, columns = factors.left.shape[1], factors.right.shape[1]
    grids = x.reshape(-1, rows, columns)
    return jax.vmap(kron_apply, in_axes=(None, 0))(factors, grids).reshape(x.shape[0], -1)


def kronecker_dense_fwd(factors, x):
    return kronecker_dense(factors, x), (factors, x)


def kronecker_dense_bwd(residuals, g):
    factors, x = residuals
    grids = x.reshape(x.shape[0], factors.left.shape[1], factors.right.shape[1])
    dout = g.reshape(x.shape[0], factors.left.shape[0], factors.right.shape[0])
    halfway = jnp.matmul(grids, factors.right.T)
    dleft = jnp.tensordot(dout, halfway, axes=((0, 2), (0, 2)))
    dhalfway = jnp.einsum("pr,npq->nrq", factors.left, dout)
    dright = jnp.tensordot(dhalfway, grids, axes=((0, 1), (0, 1)))
    dx = jnp.matmul(dhalfway, factors.right).reshape(x.shape)
    return Factors(left=dleft, right=dright), dx


kronecker_dense.defvjp(kronecker_dense_fwd, kronecker_dense_bwd)


def masked_mean(h, mask):
    kept = jnp.where(mask[..., None], h, 0.0)
    return kept.sum(axis=1) / mask.sum(axis=1, keepdims=True)


@jax.custom_vjp
def deep_sets(params, xs, mask):
    h = jax.nn.relu(jnp.einsum("bsi,ih->bsh", xs, params["phi"]["weight"]) + params["phi"]["bias"])
    return linear(params["rho"], masked_mean(h, mask))


def deep_sets_fwd(params, xs, mask):
    h = jax.nn.relu(jnp.einsum("bsi,ih->bsh", xs, params["phi"]["weight"]) + params["phi"]["bias"])
    pooled = masked_mean(h, mask)
    return linear(params["rho"], pooled), (params, xs, mask, h, pooled)


def deep_sets_bwd(residuals, g):
    params, xs, mask, h, pooled = residuals
    rho, dpooled = linear_backward(params["rho"], pooled, g)
    share = mask.astype(g.dtype) / mask.sum(axis=1, keepdims=True)
    dh = jnp.einsum("bh,bs->bsh", dpooled, share)
    dpre = jnp.where(h > 0, dh, 0.0)
    phi = {
        "weight": jnp.einsum("bsi,bsh->ih", xs, dpre),
        "bias": jnp.sum(dpre, axis=(0, 1)),
    }
    dxs = jnp.einsum("bsh,ih->bsi", dpre, params["phi"]["weight"])
    return {"phi": phi, "rho": rho}, dxs, None


deep_sets.defvjp(deep_sets_fwd, deep_sets_bwd)


@jax.custom_vjp
def edge_messages(params, nodes, edges, senders, receivers):
    inputs = nodes[senders] @ params["node"] + edges @ params["edge"]
    messages = jnp.tanh(inputs)
    return jax.ops.segment_sum(messages, receivers, num_segments=nodes.shape[0])


def edge_messages_fwd(params, nodes, edges, senders, receivers):
    messages = jnp.tanh(nodes[senders] @ params["node"] + edges @ params["edge"])
    out = jax.ops.segment_sum(messages, receivers, num_segments=nodes.shape[0])
    return out, (params, nodes, edges, senders, receivers, messages)


def edge_messages_bwd(residuals, g):
    params, nodes, edges, senders, receivers, messages = residuals
    dmessages = jnp.take(g, receivers, axis=0)
    dinputs = dmessages * (1 - messages * messages)
    grads = {
        "node": nodes[senders].T @ dinputs,
        "edge": edges.T @ dinputs,
    }
    dsent = dinputs @ params["node"].T
    dnodes = jnp.zeros_like(nodes).at[senders].add(dsent)
    dedges = dinputs @ params["edge"].T
    return grads, dnodes, dedges, None, None


edge_messages.defvjp(edge_messages_fwd, edge_messages_bwd)


def whiten(x, eps=1e-3):
    mean = x.mean(axis=1, keepdims=True)
    spread = jnp.sqrt(jnp.mean((x - mean) ** 2, axis=1, keepdims=True) + eps)
    return (x - mean) / spread, spread


def whiten_backward(z, spread, dz):
    mean_dz = jnp.mean(dz, axis=1, keepdims=True)
    mean_zdz = jnp.mean(z * dz, axis=1, keepdims=True)
    return (dz - mean_dz - z * mean_zdz) / spread


@jax.custom_vjp
def adaptive_norm(content, style):
    z, _ = whiten(content)
    _, spread = whiten(style)
    return z * spread + style.mean(axis=1, keepdims=True)


def adaptive_norm_fwd(content, style):
    z, content_spread = whiten(content)
    style_z, style_spread = whiten(style)
    out = z * style_spread + style.mean(axis=1, keepdims=True)
    return out, (z, content_spread, style_z, style_spread)


def adaptive_norm_bwd(residuals, g):
    z, content_spread, style_z, style_spread = residuals
    dcontent = whiten_backward(z, content_spread, g * style_spread)
    dspread = jnp.sum(g * z, axis=1, keepdims=True)
    dmean = jnp.sum(g, axis=1, keepdims=True)
    dstyle = (dspread * style_z + dmean) / style_z.shape[1]
    return dcontent, dstyle


adaptive_norm.defvjp(adaptive_norm_fwd, adaptive_norm_bwd)


def spectral_scale(weight, u, v):
    return jnp.einsum("i,io,o->", lax.stop_gradient(u), weight, lax.stop_gradient(v))


@jax.custom_vjp
def spectral_dense(params, x):
    sigma = spectral_scale(params["weight"], params["u"], params["v"])
    return jnp.dot(x, params["weight"]) / sigma + params["bias"]


def spectral_dense_fwd(params, x):
    sigma = spectral_scale(params["weight"], params["u"], params["v"])
    product = jnp.dot(x, params["weight"])
    return product / sigma + params["bias"], (params, x, sigma, product)


def spectral_dense_bwd(residuals, g):
    params, x, sigma, product = residuals
    scaled = g / sigma
    dsigma = -jnp.vdot(scaled, product) / sigma
    dweight = jnp.dot(x.T, scaled) + dsigma * jnp.outer(params["u"], params["v"])
    grads = {
        "weight": dweight,
        "bias": g.sum(axis=0),
        "u": jnp.zeros_like(params["u"]),
        "v": jnp.zeros_like(params["v"]),
    }
    return grads, jnp.dot(scaled, params["weight"].T)


spectral_dense.defvjp(spectral_dense_fwd, spectral_dense_bwd)


@jax.custom_vjp
def factorisation_machine(params, x):
    summed = jnp.einsum("ni,ik->nk", x, params["factors"])
    squares = jnp.einsum("ni,ik->nk", x**2, params["factors"] ** 2)
    pairs = 0.5 * jnp.sum(summed**2 - squares, axis=1)
    return params["bias"] + jnp.einsum("ni,i->n", x, params["weights"]) + pairs


def factorisation_machine_fwd(params, x):
    return factorisation_machine(params, x), (params, x)


def factorisation_machine_bwd(residuals, g):
    params, x = residuals
    factors = params["factors"]
    summed = jnp.einsum("ni,ik->nk", x, factors)
    weighted = g[:, None] * x
    own = jnp.einsum("ni,ni->i", weighted, x)
    grads = {
        "bias": g.sum(),
        "weights": weighted.sum(axis=0),
        "factors": jnp.einsum("ni,nk->ik", weighted, summed) - own[:, None] * factors,
    }
    dpairs = jnp.einsum("nk,ik->ni", summed, factors)
    dpairs -= x * jnp.square(factors).sum(axis=-1)
    return grads, g[:, None] * (params["weights"] + dpairs)


factorisation_machine.defvjp(factorisation_machine_fwd, factorisation_machine_bwd)


def scale_and_shift(params, x):
    log_scale = jnp.tanh(linear(params["scale"], x))
    return log_scale, linear(params["shift"], x)


@jax.custom_vjp
def coupling_layer(params, x):
    kept, moved = jnp.split(x, 2, axis=-1)
    log_scale, shift = scale_and_shift(params, kept)
    y = jnp.concatenate([kept, moved * jnp.exp(log_scale) + shift], axis=-1)
    return y, log_scale.sum(axis=-1)


def coupling_layer_fwd(params, x):
    kept, moved = jnp.split(x, 2, axis=-1)
    log_scale, shift = scale_and_shift(params, kept)
    y = jnp.concatenate([kept, moved * jnp.exp(log_scale) + shift], axis=-1)
    return (y, log_scale.sum(axis=-1)), (params, kept, moved, log_scale)


def coupling_layer_bwd(residuals, cotangents):
    params, kept, moved, log_scale = residuals
    dy, dlogdet = cotangents
    dkept, dout = jnp.split(dy, 2, axis=-1)
    scale = jnp.exp(log_scale)
    dlog_scale = dout * moved * scale + dlogdet[:, None]
    dpre = dlog_scale * (1 - log_scale**2)
    scale_grads, through_scale = linear_backward(params["scale"], kept, dpre)
    shift_grads, through_shift = linear_backward(params["shift"], kept, dout)
    dkept = dkept + through_scale + through_shift
    return {"scale": scale_grads, "shift": shift_grads}, jnp.concatenate([dkept, dout * scale], axis=-1)


coupling_layer.defvjp(coupling_layer_fwd, coupling_layer_bwd)


def _layer(draw: Draw, inputs: int, outputs: int) -> dict:
    return {"weight": draw.normal(inputs, outputs), "bias": draw.normal(outputs)}


def _highway(draw: Draw) -> tuple:
    return {"carry": _layer(draw, 5, 5), "transform": _layer(draw, 5, 5)}, draw.normal(draw.rows(5, 7), 5)


def _tasks(draw: Draw) -> tuple:
    batch = draw.rows(5, 7)
    generator = {"weights": draw.normal(2, 5, 3), "base": draw.normal(5, 3)}
    return generator, draw.normal(batch, 5), draw.normal(batch, 2)


def _kronecker(draw: Draw) -> tuple:
    return Factors(draw.normal(2, 3), draw.normal(7, 5)), draw.normal(draw.rows(15, 11), 15)


def _sets(draw: Draw) -> tuple:
    batch = draw.rows(15, 7)
    mask = jnp.asarray(draw.rng.uniform(size=(batch, 5)) < 0.7).at[:, 0].set(True)
    return {"phi": _layer(draw, 3, 2), "rho": _layer(draw, 2, 11)}, draw.normal(batch, 5, 3), mask


def _graph(draw: Draw) -> tuple:
    nodes = draw.rows(3, 7)
    params = {"node": draw.normal(3, 5), "edge": draw.normal(2, 5)}
    ends = draw.integers(nodes, 11), draw.integers(nodes, 11)
    return params, draw.normal(nodes, 3), draw.normal(11, 2), *ends


def _styles(draw: Draw) -> tuple:
    batch = draw.rows(35, 2)
    return draw.normal(batch, 7, 5), draw.normal(batch, 11, 5)


def _spectral(draw: Draw) -> tuple:
    params = {"weight": draw.normal(5, 3), "bias": draw.normal(3), "u": draw.positive(5), "v": draw.positive(3)}
    return params, draw.normal(draw.rows(5, 7), 5)


def _features(draw: Draw) -> tuple:
    params = {"bias": draw.normal(), "weights": draw.normal(5), "factors": draw.normal(5, 3)}
    return params, draw.normal(draw.rows(5, 7), 5)


def _coupling(draw: Draw) -> tuple:
    return {"scale": _layer(draw, 3, 3), "shift": _layer(draw, 3, 3)}, draw.normal(draw.rows(6, 5), 6)


RULES = (
    Rule("highway", highway, _highway),
    Rule("hypernetwork", hypernetwork, _tasks),
    Rule("kronecker_dense", kronecker_dense, _kronecker),
    Rule("deep_sets", deep_sets, _sets),
    Rule("edge_messages", edge_messages, _graph),
    Rule("adaptive_norm", adaptive_norm, _styles),
    Rule("spectral_dense", spectral_dense, _spectral),
    Rule("factorisation_machine", factorisation_machine, _features),
    Rule("coupling_layer", coupling_layer, _coupling),
)
