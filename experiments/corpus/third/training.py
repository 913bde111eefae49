"""Plain gradient functions of losses: a decomposed tensor, ratings, a policy, a stacked flow."""

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def cp_loss(factors, tensor):
    model = jnp.einsum("ir,jr,kr->ijk", factors["a"], factors["b"], factors["c"])
    ridge = sum(jnp.sum(factor**2) for factor in factors.values())
    return 0.5 * jnp.sum((model - tensor) ** 2) + 0.05 * ridge


def cp_gradient(factors, tensor):
    a, b, c = factors["a"], factors["b"], factors["c"]
    model = jnp.einsum("ir,jr,kr->ijk", a, b, c)
    error = model - tensor
    grads = {
        "a": jnp.einsum("ijk,jr,kr->ir", error, b, c),
        "b": jnp.einsum("ijk,ir,kr->jr", error, a, c),
        "c": jnp.einsum("ijk,ir,jr->kr", error, a, b),
    }
    return jax.tree.map(lambda grad, factor: grad + 0.1 * factor, grads, factors)


def predict(params, users, items):
    u, v = params["user"]["vector"][users], params["item"]["vector"][items]
    bias = params["user"]["bias"][users] + params["item"]["bias"][items]
    return jnp.sum(u * v, axis=1) + bias + params["mean"]


def rating_loss(params, users, items, ratings):
    errors = predict(params, users, items) - ratings
    ridge = jnp.sum(params["user"]["vector"] ** 2) + jnp.sum(params["item"]["vector"] ** 2)
    return jnp.mean(errors**2) + 0.01 * ridge


def scatter(like, index, values):
    return jnp.zeros_like(like).at[index].add(values)


def rating_gradient(params, users, items, ratings):
    user, item = params["user"], params["item"]
    errors = predict(params, users, items) - ratings
    delta = 2 * errors / errors.size
    duser = delta[:, None] * item["vector"][items]
    ditem = delta[:, None] * user["vector"][users]
    return {
        "user": {
            "vector": scatter(user["vector"], users, duser) + 0.02 * user["vector"],
            "bias": scatter(user["bias"], users, delta),
        },
        "item": {
            "vector": scatter(item["vector"], items, ditem) + 0.02 * item["vector"],
            "bias": scatter(item["bias"], items, delta),
        },
        "mean": delta.sum(),
    }


ENTROPY = 0.03


def policy_logits(params, states):
    hidden = jnp.tanh(states @ params["torso"]["w"] + params["torso"]["b"])
    return hidden, hidden @ params["head"]["w"] + params["head"]["b"]


def policy_loss(params, states, actions, advantages):
    _, logits = policy_logits(params, states)
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, actions[:, None], axis=1)[:, 0]
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=1)
    return -jnp.mean(chosen * advantages + ENTROPY * entropy)


def policy_value_and_gradient(params, states, actions, advantages):
    hidden, logits = policy_logits(params, states)
    log_probs = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    probs = jnp.exp(log_probs)
    onehot = jax.nn.one_hot(actions, logits.shape[1], dtype=logits.dtype)
    entropy = -jnp.einsum("na,na->n", probs, log_probs)
    chosen = jnp.einsum("na,na->n", onehot, log_probs)
    value = -jnp.mean(chosen * advantages + ENTROPY * entropy)

    dchosen = (probs - onehot) * advantages[:, None]
    dentropy = ENTROPY * probs * (log_probs + entropy[:, None])
    dlogits = (dchosen + dentropy) / len(states)
    dhidden = dlogits @ params["head"]["w"].T
    dpre = dhidden * (1 - hidden**2)
    grads = {
        "torso": {"w": states.T @ dpre, "b": dpre.sum(axis=0)},
        "head": {"w": hidden.T @ dlogits, "b": dlogits.sum(axis=0)},
    }
    return value, grads


def planar(layer, z):
    h = jnp.tanh(jnp.dot(z, layer["w"]) + layer["b"])
    return z + jnp.outer(h, layer["u"]), h


def flow_loss(layers, z):
    total = 0.0
    for layer in layers:
        z, h = planar(layer, z)
        stretch = 1 + (1 - h**2) * jnp.dot(layer["u"], layer["w"])
        total = total - 0.5 * jnp.log(stretch**2)
    return jnp.sum(total + 0.5 * jnp.sum(z**2, axis=1))


def planar_backward(layer, z, h, dz):
    u, w = layer["u"], layer["w"]
    slope = 1 - h**2
    inner = jnp.dot(u, w)
    stretch = 1 + slope * inner
    dstretch = -1 / stretch
    dh = jnp.dot(dz, u) - 2 * h * inner * dstretch
    dinner = jnp.vdot(dstretch, slope)
    dpre = dh * slope
    grads = {
        "u": jnp.dot(h, dz) + dinner * w,
        "w": jnp.dot(dpre, z) + dinner * u,
        "b": dpre.sum(),
    }
    return grads, dz + jnp.outer(dpre, w)


def flow_gradient(layers, z):
    saved = []
    for layer in layers:
        out, h = planar(layer, z)
        saved.append((layer, z, h))
        z = out
    dz, grads = z, []
    for layer, z_in, h in reversed(saved):
        grad, dz = planar_backward(layer, z_in, h, dz)
        grads.insert(0, grad)
    return grads


def _tensor(draw: Draw) -> tuple:
    n = draw.rows(15, 7)
    return {"a": draw.normal(n, 2), "b": draw.normal(3, 2), "c": draw.normal(5, 2)}, draw.normal(n, 3, 5)


def _ratings(draw: Draw) -> tuple:
    n = draw.rows(3, 11)
    params = {
        "user": {"vector": draw.normal(5, 3), "bias": draw.normal(5)},
        "item": {"vector": draw.normal(7, 3), "bias": draw.normal(7)},
        "mean": draw.normal(),
    }
    return params, draw.integers(5, n), draw.integers(7, n), draw.normal(n)


def _episodes(draw: Draw) -> tuple:
    n = draw.rows(5, 7)
    params = {
        "torso": {"w": draw.normal(5, 3), "b": draw.normal(3)},
        "head": {"w": draw.normal(3, 2), "b": draw.normal(2)},
    }
    return params, draw.normal(n, 5), draw.integers(2, n), draw.normal(n)


def _flow(draw: Draw) -> tuple:
    layers = [{"u": draw.positive(3), "w": draw.positive(3), "b": draw.normal()} for _ in range(2)]
    return layers, draw.normal(draw.rows(3, 7), 3)


RULES = (
    Rule("cp_decomposition", cp_gradient, _tensor, loss=cp_loss),
    Rule("ratings", rating_gradient, _ratings, loss=rating_loss),
    Rule("policy", policy_value_and_gradient, _episodes, loss=policy_loss),
    Rule("planar_flow", flow_gradient, _flow, loss=flow_loss),
)
