"""Layers that mix over space, features, experts and edges: shifts, pooling, kernels, gates, graphs."""

import math

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def delay(x, steps):
    return jnp.pad(x, ((steps, 0), (0, 0)))[: x.shape[0]]


def advance(x, steps):
    return jnp.pad(x, ((0, steps), (0, 0)))[steps:]


@jax.custom_vjp
def shift_convolution(taps, x):
    return sum(tap * delay(x, steps=k) for k, tap in enumerate(taps))


def shift_convolution_fwd(taps, x):
    return shift_convolution(taps, x), (taps, x)


def shift_convolution_bwd(res, g):
    taps, x = res
    dx = jnp.zeros_like(x)
    dtaps = []
    for k in range(taps.shape[0]):
        dx = dx + advance(g * taps[k], steps=k)
        dtaps.append(jnp.sum(g * delay(x, steps=k), axis=0))
    return jnp.stack(dtaps), dx


shift_convolution.defvjp(shift_convolution_fwd, shift_convolution_bwd)


@jax.custom_vjp
def bilinear_pooling(params, a, b):
    pooled = jnp.einsum("npc,npd->ncd", a, b) / a.shape[1]
    return jnp.einsum("ncd,cdk->nk", jnp.tanh(pooled), params["kernel"]) + params["bias"]


def bilinear_pooling_fwd(params, a, b):
    pooled = jnp.tanh(jnp.einsum("npc,npd->ncd", a, b) / a.shape[1])
    y = jnp.tensordot(pooled, params["kernel"], axes=((1, 2), (0, 1))) + params["bias"]
    return y, (params["kernel"], a, b, pooled)


def bilinear_pooling_bwd(res, g):
    kernel, a, b, pooled = res
    dkernel = jnp.einsum("ncd,nk->cdk", pooled, g)
    dpooled = jnp.einsum("nk,cdk->ncd", g, kernel)
    dsums = dpooled * (1 - pooled**2) / a.shape[1]
    da = jnp.einsum("ncd,npd->npc", dsums, b)
    db = jnp.einsum("ncd,npc->npd", dsums, a)
    return {"kernel": dkernel, "bias": g.sum(axis=0)}, da, db


bilinear_pooling.defvjp(bilinear_pooling_fwd, bilinear_pooling_bwd)


def squared_distances(x, centers):
    cross = jnp.einsum("nd,md->nm", x, centers)
    return jnp.sum(x**2, axis=1)[:, None] - 2 * cross + jnp.sum(centers**2, axis=1)[None, :]


@jax.custom_vjp
def rbf_features(params, x):
    rate = jnp.exp(params["log_rate"])
    return jnp.exp(-rate * squared_distances(x, params["centers"]))


def rbf_features_fwd(params, x):
    phi = rbf_features(params, x)
    return phi, (params, x, phi)


def rbf_features_bwd(res, g):
    params, x, phi = res
    centers, rate = params["centers"], jnp.exp(params["log_rate"])
    weight = g * phi
    ddist = -rate * weight
    dx = 2 * (ddist.sum(1, keepdims=True) * x - jnp.matmul(ddist, centers))
    dcenters = 2 * (ddist.sum(0)[:, None] * centers - jnp.matmul(ddist.T, x))
    dlog_rate = -rate * jnp.sum(weight * squared_distances(x, centers), axis=0)
    return {"centers": dcenters, "log_rate": dlog_rate}, dx


rbf_features.defvjp(rbf_features_fwd, rbf_features_bwd)


def experts_forward(params, x):
    gates = jax.nn.softmax(jnp.einsum("nd,de->ne", x, params["router"]), axis=-1)
    pre = jnp.einsum("nd,edh->neh", x, params["experts"]["w_in"])
    hidden = jax.nn.relu(pre)
    outs = jnp.einsum("neh,ehd->ned", hidden, params["experts"]["w_out"])
    return gates, pre, hidden, outs


@jax.custom_vjp
def soft_experts(params, x):
    gates, _, _, outs = experts_forward(params, x)
    return jnp.einsum("ne,ned->nd", gates, outs)


def soft_experts_fwd(params, x):
    gates, pre, hidden, outs = experts_forward(params, x)
    y = jnp.einsum("ne,ned->nd", gates, outs)
    return y, {"params": params, "x": x, "gates": gates, "pre": pre, "hidden": hidden, "outs": outs}


def soft_experts_bwd(saved, g):
    params, x, gates = saved["params"], saved["x"], saved["gates"]
    w_in, w_out = params["experts"]["w_in"], params["experts"]["w_out"]

    dgates = jnp.einsum("nd,ned->ne", g, saved["outs"])
    dlogits = gates * (dgates - jnp.sum(gates * dgates, axis=-1, keepdims=True))

    douts = jnp.einsum("ne,nd->ned", gates, g)
    dhidden = jnp.einsum("ned,ehd->neh", douts, w_out)
    dpre = jnp.where(saved["pre"] > 0, dhidden, 0.0)

    dx = jnp.einsum("ne,de->nd", dlogits, params["router"]) + jnp.einsum("neh,edh->nd", dpre, w_in)
    grads = {
        "router": jnp.einsum("nd,ne->de", x, dlogits),
        "experts": {
            "w_in": jnp.einsum("nd,neh->edh", x, dpre),
            "w_out": jnp.einsum("neh,ned->ehd", saved["hidden"], douts),
        },
    }
    return grads, dx


soft_experts.defvjp(soft_experts_fwd, soft_experts_bwd)


def excitation(params, x):
    squeezed = x.mean(axis=1)
    hidden = jnp.maximum(squeezed @ params["reduce"], 0)
    return squeezed, hidden, jax.nn.sigmoid(hidden @ params["expand"])


@jax.custom_vjp
def squeeze_excite(params, x):
    return x * jnp.expand_dims(excitation(params, x)[-1], axis=1)


def squeeze_excite_fwd(params, x):
    squeezed, hidden, scale = excitation(params, x)
    return x * jnp.expand_dims(scale, axis=1), (params, x, squeezed, hidden, scale)


def squeeze_excite_bwd(res, g):
    params, x, squeezed, hidden, scale = res
    dscale = jnp.sum(g * x, axis=1)
    dexpanded = dscale * scale * (1 - scale)
    dhidden = (hidden > 0) * (dexpanded @ params["expand"].T)
    dsqueezed = dhidden @ params["reduce"].T
    grads = {"reduce": squeezed.T @ dhidden, "expand": hidden.T @ dexpanded}
    dx = g * scale[:, None, :] + dsqueezed[:, None, :] / x.shape[1]
    return grads, dx


squeeze_excite.defvjp(squeeze_excite_fwd, squeeze_excite_bwd)


def in_degrees(receivers, nodes):
    return jnp.maximum(jnp.bincount(receivers, length=nodes), 1)[:, None]


@jax.custom_vjp
def graph_convolution(params, nodes, senders, receivers):
    messages = jnp.matmul(nodes, params["message"])[senders]
    summed = jax.ops.segment_sum(messages, receivers, num_segments=len(nodes))
    mean = summed / in_degrees(receivers, len(nodes))
    return jnp.tanh(mean + jnp.matmul(nodes, params["own"]))


def graph_convolution_fwd(params, nodes, senders, receivers):
    out = graph_convolution(params, nodes, senders, receivers)
    return out, (params, nodes, senders, receivers, out)


def graph_convolution_bwd(res, g):
    params, nodes, senders, receivers, out = res
    dz = g * (1 - jnp.square(out))
    dmean = dz / in_degrees(receivers, len(nodes))
    dprojected = jax.ops.segment_sum(dmean[receivers], senders, num_segments=len(nodes))
    grads = {"message": jnp.matmul(nodes.T, dprojected), "own": jnp.matmul(nodes.T, dz)}
    dnodes = (
        jnp.matmul(dprojected, params["message"].T)
        + jnp.matmul(dz, params["own"].T)
    )  # fmt: skip
    return grads, dnodes, None, None


graph_convolution.defvjp(graph_convolution_fwd, graph_convolution_bwd)


def _taps(draw: Draw) -> tuple:
    return draw.normal(3, 2), draw.normal(draw.rows(2, 7), 2)


def _views(draw: Draw) -> tuple:
    batch = draw.rows(35, 2)
    params = {"kernel": draw.normal(3, 7, 11), "bias": draw.normal(11)}
    return params, draw.normal(batch, 5, 3, scale=0.7), draw.normal(batch, 5, 7, scale=0.7)


def _centers(draw: Draw) -> tuple:
    params = {"centers": draw.normal(5, 3, scale=0.5), "log_rate": draw.normal(5, scale=0.3)}
    return params, draw.normal(draw.rows(3, 7), 3, scale=0.5)


def _experts(draw: Draw) -> tuple:
    experts = {"w_in": draw.normal(2, 3, 5), "w_out": draw.normal(2, 5, 3)}
    return {"router": draw.normal(3, 2), "experts": experts}, draw.normal(draw.rows(3, 7), 3)


def _squeezed(draw: Draw) -> tuple:
    return {"reduce": draw.normal(7, 3), "expand": draw.normal(3, 7)}, draw.normal(draw.rows(35, 2), 5, 7)


def _graph(draw: Draw) -> tuple:
    nodes, edges = draw.rows(3, 7), 11
    params = {"message": draw.normal(3, 5) / math.sqrt(3), "own": draw.normal(3, 5)}
    return params, draw.normal(nodes, 3), draw.integers(nodes, edges), draw.integers(nodes, edges)


RULES = (
    Rule("shift_convolution", shift_convolution, _taps),
    Rule("bilinear_pooling", bilinear_pooling, _views),
    Rule("rbf_features", rbf_features, _centers),
    Rule("soft_experts", soft_experts, _experts),
    Rule("squeeze_excite", squeeze_excite, _squeezed),
    Rule("graph_convolution", graph_convolution, _graph),
)
