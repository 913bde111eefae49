"""Plain gradient functions of whole losses: stacks of layers, codes, embeddings, a step of training and one inside."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def mlp_loss(params, x, y):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    logits = x @ params[-1]["w"] + params[-1]["b"]
    decay = sum(jnp.sum(layer["w"] ** 2) for layer in params)
    return jnp.mean(jnp.logaddexp(0, logits) - y * logits) + 0.05 * decay


def mlp_value_and_gradient(params, x, y):
    acts = [x]
    for layer in params[:-1]:
        acts.append(jnp.maximum(acts[-1] @ layer["w"] + layer["b"], 0))
    logits = acts[-1] @ params[-1]["w"] + params[-1]["b"]
    value = jnp.mean(jnp.logaddexp(0, logits) - y * logits)
    value += 0.05 * sum(jnp.vdot(layer["w"], layer["w"]) for layer in params)

    grads = []
    delta = (jax.nn.sigmoid(logits) - y) / logits.size
    for layer, act in zip(reversed(params), reversed(acts), strict=True):
        grads.append({"w": act.T @ delta + 0.1 * layer["w"], "b": delta.sum(axis=0)})
        delta = (delta @ layer["w"].T) * (act > 0)
    return value, grads[::-1]


def autoencoder_loss(params, x):
    code = jnp.tanh(jnp.einsum("ni,ih->nh", x, params["kernel"]) + params["hidden_bias"])
    output = jnp.einsum("nh,ih->ni", code, params["kernel"]) + params["output_bias"]
    return jnp.mean(jnp.sum((output - x) ** 2, axis=1)) + 0.1 * jnp.mean(jnp.abs(code))


def autoencoder_gradient(params, x):
    kernel = params["kernel"]
    code = jnp.tanh(jnp.einsum("ni,ih->nh", x, kernel) + params["hidden_bias"])
    output = jnp.einsum("nh,ih->ni", code, kernel) + params["output_bias"]
    doutput = 2 * (output - x) / x.shape[0]
    dcode = jnp.einsum("ni,ih->nh", doutput, kernel) + 0.1 * jnp.sign(code) / code.size
    dhidden = dcode * (1 - code**2)
    decoder = jnp.einsum("ni,nh->ih", doutput, code)
    encoder = jnp.einsum("ni,nh->ih", x, dhidden)
    return {
        "kernel": encoder + decoder,
        "hidden_bias": dhidden.sum(0),
        "output_bias": doutput.sum(0),
    }


class Encoder(NamedTuple):
    mean: jax.Array
    log_var: jax.Array


def elbo_loss(params, x, noise):
    mean, log_var = x @ params["encoder"].mean, x @ params["encoder"].log_var
    z = mean + jnp.exp(0.5 * log_var) * noise
    reconstruction = 0.5 * jnp.sum((z @ params["decoder"] - x) ** 2)
    kl = 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var)
    return (reconstruction + 0.3 * kl) / len(x)


def elbo_gradient(params, x, noise):
    encoder, decoder = params["encoder"], params["decoder"]
    mean, log_var = x @ encoder.mean, x @ encoder.log_var
    std = jnp.exp(0.5 * log_var)
    z = mean + std * noise
    error = (z @ decoder - x) / x.shape[0]
    dz = error @ decoder.T
    dmean = dz + 0.3 * mean / x.shape[0]
    dlog_var = 0.5 * dz * std * noise + 0.15 * (std**2 - 1) / x.shape[0]
    return {
        "encoder": Encoder(mean=x.T @ dmean, log_var=x.T @ dlog_var),
        "decoder": z.T @ error,
    }


def skip_gram_loss(tables, center, context, negatives):
    v = tables["input"][center]
    positive = jnp.einsum("nd,nd->n", v, tables["output"][context])
    negative = jnp.einsum("nd,nkd->nk", v, tables["output"][negatives])
    return -(jax.nn.log_sigmoid(positive).sum() + jax.nn.log_sigmoid(-negative).sum()) / len(center)


def skip_gram_gradient(tables, center, context, negatives):
    v = tables["input"][center]
    u, w = tables["output"][context], tables["output"][negatives]
    dpositive = (jax.nn.sigmoid(jnp.einsum("nd,nd->n", v, u)) - 1) / len(center)
    dnegative = jax.nn.sigmoid(jnp.einsum("nd,nkd->nk", v, w)) / len(center)
    dv = dpositive[:, None] * u + jnp.einsum("nk,nkd->nd", dnegative, w)
    doutput = jnp.zeros_like(tables["output"]).at[context].add(dpositive[:, None] * v)
    return {
        "input": jnp.zeros_like(tables["input"]).at[center].add(dv),
        "output": doutput.at[negatives].add(dnegative[..., None] * v[:, None, :]),
    }


def inner_step(params, x, y):
    error = jnp.einsum("ni,i->n", x, params["w"]) - y
    return params["w"] - params["rate"] * jnp.einsum("ni,n->i", x, error) / len(y)


def meta_loss(params, train, valid):
    w = inner_step(params, *train)
    return 0.5 * jnp.mean((jnp.einsum("ni,i->n", valid[0], w) - valid[1]) ** 2)


def meta_gradient(params, train, valid):
    (x, y), (x_valid, y_valid) = train, valid
    w = inner_step(params, x, y)
    error = jnp.einsum("ni,i->n", x_valid, w) - y_valid
    dw = jnp.einsum("ni,n->i", x_valid, error) / len(y_valid)
    through = jnp.einsum("ni,nj,j->i", x, x, dw) / len(y)
    step = jnp.einsum("ni,n->i", x, jnp.einsum("ni,i->n", x, params["w"]) - y) / len(y)
    return {"w": dw - params["rate"] * through, "rate": -jnp.vdot(dw, step)}


RATE, MOMENTUM = 0.5, 0.75


def step_loss(params, velocity, x, y):
    hidden = jnp.tanh(x @ params["w1"])
    hidden = jnp.tanh(hidden @ params["w2"])
    squares = jnp.mean((hidden @ params["w3"] - y) ** 2)
    return squares + MOMENTUM * sum(jnp.vdot(velocity[name], params[name]) for name in params)


def momentum_step(params, velocity, x, y):
    w1, w2, w3 = params["w1"], params["w2"], params["w3"]
    h1 = jnp.tanh(x @ w1)
    h2 = jnp.tanh(h1 @ w2)
    delta = 2 * (h2 @ w3 - y) / y.size
    v3 = MOMENTUM * velocity["w3"] + h2.T @ delta
    new_w3 = w3 - RATE * v3
    delta = (delta @ w3.T) * (1 - h2**2)
    v2 = MOMENTUM * velocity["w2"] + h1.T @ delta
    new_w2 = w2 - RATE * v2
    delta = (delta @ w2.T) * (1 - h1**2)
    v1 = MOMENTUM * velocity["w1"] + x.T @ delta
    new_w1 = w1 - RATE * v1
    return {"w1": new_w1, "w2": new_w2, "w3": new_w3}, {"w1": v1, "w2": v2, "w3": v3}


def momentum_gradient(params, velocity, x, y):
    _, new_velocity = jax.jit(momentum_step)(params, velocity, x, y)
    return new_velocity


def _layers(draw: Draw) -> tuple:
    rows, widths = draw.rows(3, 7), (3, 5, 5, 2)
    params = [{"w": draw.normal(i, o), "b": draw.normal(o)} for i, o in itertools.pairwise(widths)]
    return params, draw.normal(rows, 3), draw.positive(rows, 2)


def _tied(draw: Draw) -> tuple:
    params = {"kernel": draw.normal(5, 2), "hidden_bias": draw.normal(2), "output_bias": draw.normal(5)}
    return params, draw.normal(draw.rows(5, 7), 5)


def _codes(draw: Draw) -> tuple:
    rows = draw.rows(5, 7)
    encoder = Encoder(draw.normal(5, 2, scale=0.5), draw.normal(5, 2, scale=0.5))
    return {"encoder": encoder, "decoder": draw.normal(2, 5)}, draw.normal(rows, 5), draw.normal(rows, 2)


def _words(draw: Draw) -> tuple:
    words = draw.rows(3, 7)
    tables = {"input": draw.normal(words, 3), "output": draw.normal(words, 3)}
    return tables, draw.integers(words, 5), draw.integers(words, 5), draw.integers(words, 5, 2)


def _tasks(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    train, valid = (draw.normal(rows, 3), draw.normal(rows)), (draw.normal(5, 3), draw.normal(5))
    return {"w": draw.normal(3), "rate": draw.positive()}, train, valid


def _step(draw: Draw) -> tuple:
    rows, shapes = draw.rows(3, 7), {"w1": (3, 5), "w2": (5, 5), "w3": (5, 2)}
    params = {name: draw.normal(*shape) for name, shape in shapes.items()}
    velocity = {name: draw.normal(*shape) for name, shape in shapes.items()}
    return params, velocity, draw.normal(rows, 3), draw.normal(rows, 2)


RULES = (
    Rule("mlp", mlp_value_and_gradient, _layers, mlp_loss),
    Rule("autoencoder", autoencoder_gradient, _tied, autoencoder_loss),
    Rule("elbo", elbo_gradient, _codes, elbo_loss),
    Rule("skip_gram", skip_gram_gradient, _words, skip_gram_loss),
    Rule("meta", meta_gradient, _tasks, meta_loss),
    Rule("momentum", momentum_gradient, _step, step_loss),
)
