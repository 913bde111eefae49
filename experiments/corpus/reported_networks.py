"""Reported gradients that are plain functions: networks, losses and one step of training.

The same kind of entries as :mod:`corpus.reported`, whose ``reported()`` has these too.
"""

import jax
import jax.numpy as jnp

from corpus.reported_rules import Reported, array, normal

__all__ = ["NETWORKS"]


def lstm() -> Reported:
    gates = ("forget", "write", "read", "fresh")

    def run(weights, inputs):
        state = cell = jnp.zeros(3)
        steps = []
        for x in inputs:
            seen = jnp.concatenate([x, state])
            forget, write, read = (jax.nn.sigmoid(weights[gate] @ seen) for gate in gates[:3])
            fresh = jnp.tanh(weights["fresh"] @ seen)
            old, cell = cell, cell * forget + fresh * write
            state = jnp.tanh(cell) * read
            steps.append((seen, forget, write, read, fresh, old, cell, state))
        return steps

    def plain(weights, inputs, targets):
        states = jnp.stack([state for *_, state in run(weights, inputs)])
        return ((states - targets) ** 2).sum() / 2

    def wrong(weights, inputs, targets):
        dweights = {gate: jnp.zeros_like(w) for gate, w in weights.items()}
        dstate_after = dcell_after = jnp.zeros(3)
        for step, target in zip(run(weights, inputs)[::-1], targets[::-1], strict=True):
            seen, forget, write, read, fresh, old, cell, state = step
            dstate = state - target + dstate_after
            dcell = dstate * read * (1 - jnp.tanh(cell) ** 2) + dcell_after
            dforget = dcell * old
            dforget = dforget * forget
            dwrite, dfresh = dcell * fresh * write * (1 - write), dcell * write * (1 - fresh**2)
            dread = dstate * jnp.tanh(cell) * read * (1 - read)
            slopes = dict(zip(gates, (dforget, dwrite, dread, dfresh), strict=True))
            dweights = {gate: dw + jnp.outer(slopes[gate], seen) for gate, dw in dweights.items()}
            dseen = sum((weights[gate].T @ slopes[gate] for gate in gates), jnp.zeros_like(seen))
            _dstate_before, _dcell_before = dseen[len(inputs[0]) :], dcell * forget
        return dweights

    def right(weights, inputs, targets):
        dweights = {gate: jnp.zeros_like(w) for gate, w in weights.items()}
        dstate_after = dcell_after = jnp.zeros(3)
        for step, target in zip(run(weights, inputs)[::-1], targets[::-1], strict=True):
            seen, forget, write, read, fresh, old, cell, state = step
            dstate = state - target + dstate_after
            dcell = dstate * read * (1 - jnp.tanh(cell) ** 2) + dcell_after
            dforget = dcell * old * forget * (1 - forget)
            dwrite, dfresh = dcell * fresh * write * (1 - write), dcell * write * (1 - fresh**2)
            dread = dstate * jnp.tanh(cell) * read * (1 - read)
            slopes = dict(zip(gates, (dforget, dwrite, dread, dfresh), strict=True))
            dweights = {gate: dw + jnp.outer(slopes[gate], seen) for gate, dw in dweights.items()}
            dseen = sum((weights[gate].T @ slopes[gate] for gate in gates), jnp.zeros_like(seen))
            dstate_after, dcell_after = dseen[len(inputs[0]) :], dcell * forget
        return dweights

    def args():
        *weights, inputs, targets = normal(4, *[(3, 5)] * 4, (3, 2), (3, 3))
        return dict(zip(gates, weights, strict=True)), inputs, targets

    return Reported(
        "lstm", "verify_gradient", "the forget gate's slope is f, not f (1 - f); no step hands a gradient on",
        plain, wrong, right, args,
        faulty=(
            "dforget = dforget * forget",
            "_dstate_before, _dcell_before = dseen[len(inputs[0]) :], dcell * forget",
        ),
    )  # fmt: skip


def rnn_three_steps() -> Reported:
    def run(weights, inputs):
        enter, turn, _ = weights
        first = jnp.tanh(inputs[0] @ enter)
        second = jnp.tanh(inputs[1] @ enter + first @ turn)
        return first, second, jnp.tanh(inputs[2] @ enter + second @ turn)

    def plain(weights, inputs, targets):
        states = jnp.stack(run(weights, inputs))
        return jnp.sum((states @ weights[2] - targets) ** 2)

    def slopes(weights, states, targets):
        _, turn, leave = weights
        douts = [2 * (state @ leave - target) for state, target in zip(states, targets, strict=True)]
        third = (douts[2] @ leave.T) * (1 - states[2] ** 2)
        second = (douts[1] @ leave.T + third @ turn.T) * (1 - states[1] ** 2)
        first = (douts[0] @ leave.T + second @ turn.T) * (1 - states[0] ** 2)
        return (first, second, third), sum(jnp.outer(s, d) for s, d in zip(states, douts, strict=True))

    def wrong(weights, inputs, targets):
        states = run(weights, inputs)
        ds, dleave = slopes(weights, states, targets)
        denter = sum(jnp.outer(x, d) for x, d in zip(inputs, ds, strict=True))
        dturn = jnp.outer(states[1], ds[2])
        dturn = dturn + jnp.outer(states[1], ds[1])
        return denter, dturn, dleave

    def right(weights, inputs, targets):
        states = run(weights, inputs)
        ds, dleave = slopes(weights, states, targets)
        denter = sum(jnp.outer(x, d) for x, d in zip(inputs, ds, strict=True))
        dturn = jnp.outer(states[1], ds[2])
        dturn = dturn + jnp.outer(states[0], ds[1])
        return denter, dturn, dleave

    def args():
        *weights, inputs, targets = normal(5, (3, 4), (4, 4), (4, 2), (3, 3), (3, 2))
        return tuple(0.6 * w for w in weights), inputs, targets

    return Reported(
        "rnn_three_steps", "verify_gradient", "the second step's own state, where the one it started from belongs",
        plain, wrong, right, args,
        faulty=("dturn = dturn + jnp.outer(states[1], ds[1])",),
    )  # fmt: skip


def lstm_biases() -> Reported:
    gates = ("forget", "write", "read", "fresh")

    def step(params, x, cell):
        sums = {gate: w @ x + b for gate, (w, b) in params.items()}
        forget, write, read = (jax.nn.sigmoid(sums[gate]) for gate in gates[:3])
        fresh = jnp.tanh(sums["fresh"])
        return forget, write, read, fresh, jnp.tanh(forget * cell + write * fresh)

    def plain(params, x, cell, target):
        _, _, read, _, out = step(params, x, cell)
        return jnp.sum((read * out - target) ** 2)

    def slopes(params, x, cell, target):
        forget, write, read, fresh, out = step(params, x, cell)
        dstate = 2 * (read * out - target)
        dcell = dstate * read * (1 - out**2)
        dforget, dwrite = dcell * cell * forget * (1 - forget), dcell * fresh * write * (1 - write)
        return dforget, dwrite, dstate * out * read * (1 - read), dcell * write * (1 - fresh**2)

    def wrong(params, x, cell, target):
        dforget, dwrite, dread, dfresh = slopes(params, x, cell, target)
        forget_bias = dforget
        write_bias = dforget
        read_bias = dforget
        return {
            "forget": (jnp.outer(dforget, x), forget_bias),
            "write": (jnp.outer(dwrite, x), write_bias),
            "read": (jnp.outer(dread, x), read_bias),
            "fresh": (jnp.outer(dfresh, x), dfresh),
        }

    def right(params, x, cell, target):
        return {gate: (jnp.outer(d, x), d) for gate, d in zip(gates, slopes(params, x, cell, target), strict=True)}

    def args():
        *arrays, x, cell, target = normal(6, *[(2, 3), (2,)] * 4, (3,), (2,), (2,))
        pairs = zip(arrays[::2], arrays[1::2], strict=True)
        return dict(zip(gates, pairs, strict=True)), x, cell, target

    return Reported(
        "lstm_biases", "verify_gradient", "two gates' biases take the forget gate's slope, from a line copied twice",
        plain, wrong, right, args,
        faulty=("write_bias = dforget", "read_bias = dforget"),
    )  # fmt: skip


def regression_by_indicators() -> Reported:
    def plain(params, x, indicators):
        scores = x @ params["weights"] + params["bias"]
        return -(indicators * jax.nn.log_softmax(scores)).sum()

    def wrong(params, x, indicators):
        p = jax.nn.softmax(x @ params["weights"] + params["bias"])
        dbias = -(indicators - p).sum()
        return {"weights": x.T @ (p - indicators), "bias": dbias}

    def right(params, x, indicators):
        p = jax.nn.softmax(x @ params["weights"] + params["bias"])
        dbias = -(indicators - p).sum(axis=0)
        return {"weights": x.T @ (p - indicators), "bias": dbias}

    def args():
        weights, bias, x = normal(7, (3, 4), (4,), (5, 3))
        return {"weights": weights, "bias": bias}, x, jnp.eye(4)[jnp.array([1, 3, 0, 2, 2])]

    return Reported(
        "regression_by_indicators", "verify_gradient", "the bias is summed over the classes too: one number for all",
        plain, wrong, right, args,
        faulty=("dbias = -(indicators - p).sum()",),
    )  # fmt: skip


def regression_by_ids() -> Reported:
    def plain(params, x, ids):
        logp = jax.nn.log_softmax(x @ params["weights"] + params["bias"])
        return -logp[jnp.arange(len(ids)), ids].sum()

    def wrong(params, x, ids):
        p = jax.nn.softmax(x @ params["weights"] + params["bias"])
        dscores = p - jax.nn.one_hot(ids, p.shape[1])
        dbias = jnp.sum(dscores)
        return {"weights": x.T @ dscores, "bias": dbias}

    def right(params, x, ids):
        p = jax.nn.softmax(x @ params["weights"] + params["bias"])
        dscores = p - jax.nn.one_hot(ids, p.shape[1])
        dbias = jnp.sum(dscores, axis=0)
        return {"weights": x.T @ dscores, "bias": dbias}

    def args():
        weights, bias, x = normal(8, (3, 4), (4,), (5, 3))
        return {"weights": weights, "bias": bias}, x, jnp.array([1, 3, 0, 2, 2])

    return Reported(
        "regression_by_ids", "verify_gradient", "the bias is summed over the classes too, with labels as integers",
        plain, wrong, right, args,
        faulty=("dbias = jnp.sum(dscores)",),
    )  # fmt: skip


def columns_of_examples() -> Reported:
    def plain(params, x, y):
        w1, b1, w2 = params
        return jnp.mean((w2 @ jax.nn.relu(w1 @ x + b1[:, None]) - y) ** 2)

    def slopes(params, x, y):
        w1, b1, w2 = params
        a = jax.nn.relu(w1 @ x + b1[:, None])
        d2 = 2 / y.size * (w2 @ a - y)
        return (a > 0) * (w2.T @ d2), d2 @ a.T

    def wrong(params, x, y):
        d1, dw2 = slopes(params, x, y)
        db1 = d1.mean(axis=1)
        return d1 @ x.T, db1, dw2

    def right(params, x, y):
        d1, dw2 = slopes(params, x, y)
        db1 = d1.sum(axis=1)
        return d1 @ x.T, db1, dw2

    def args():
        *params, x, y = normal(9, (5, 2), (5,), (3, 5), (2, 4), (3, 4))
        return tuple(params), x, y

    return Reported(
        "columns_of_examples", "verify_gradient", "the bias takes the mean over the examples a second time",
        plain, wrong, right, args,
        faulty=("db1 = d1.mean(axis=1)",),
    )  # fmt: skip


def gaussian_likelihood() -> Reported:
    def plain(predicted, x):
        mean, logvar = predicted
        return jnp.sum(jnp.log(2 * jnp.pi) + logvar + (x - mean) ** 2 * jnp.exp(-logvar)) / 2

    def wrong(predicted, x):
        mean, logvar = predicted
        scaled = (x - mean) * jnp.exp(-logvar)
        dlogvar = 0.25 - 0.5 * scaled * (x - mean)
        return -scaled, dlogvar

    def right(predicted, x):
        mean, logvar = predicted
        scaled = (x - mean) * jnp.exp(-logvar)
        dlogvar = 0.5 - 0.5 * scaled * (x - mean)
        return -scaled, dlogvar

    def args():
        mean, logvar, x = normal(10, (3, 2), (3, 2), (3, 2))
        return (mean, logvar), x

    return Reported(
        "gaussian_likelihood", "verify_gradient", "a constant of 1/4 where 1/2 belongs",
        plain, wrong, right, args,
        faulty=("dlogvar = 0.25 - 0.5 * scaled * (x - mean)",),
    )  # fmt: skip


def divergence_from_uniform() -> Reported:
    def plain(z):
        p = jax.nn.softmax(z)
        return (p * (jnp.log(p) + jnp.log(z.shape[1]))).sum()

    def through_softmax(p, dp):
        return p * dp - p * jnp.sum(p * dp, axis=1, keepdims=True)

    def wrong(z):
        p = jax.nn.softmax(z)
        dp = -jnp.log(z.shape[1]) - jnp.log(p) - 1
        return through_softmax(p, dp)

    def right(z):
        p = jax.nn.softmax(z)
        dp = jnp.log(z.shape[1]) + jnp.log(p) + 1
        return through_softmax(p, dp)

    return Reported(
        "divergence_from_uniform", "verify_gradient", "the whole gradient has the wrong sign",
        plain, wrong, right, args=lambda: normal(11, (2, 5)),
        faulty=("dp = -jnp.log(z.shape[1]) - jnp.log(p) - 1",),
    )  # fmt: skip


def hinge_with_ridge() -> Reported:
    ridge = 0.03

    def margins(w, x, ids):
        scores = x @ w
        others = 1 - jax.nn.one_hot(ids, w.shape[1])
        return others * (1 + scores - scores[jnp.arange(len(ids)), ids][:, None])

    def plain(w, x, ids):
        return jax.nn.relu(margins(w, x, ids)).sum() / len(ids) + ridge * (w**2).sum()

    def of_hinge(w, x, ids):
        over = 1.0 * (margins(w, x, ids) > 0)
        dscores = over - over.sum(axis=1, keepdims=True) * jax.nn.one_hot(ids, w.shape[1])
        return x.T @ dscores / len(ids)

    def wrong(w, x, ids):
        of_ridge = ridge * w
        return of_hinge(w, x, ids) + of_ridge

    def right(w, x, ids):
        of_ridge = 2 * ridge * w
        return of_hinge(w, x, ids) + of_ridge

    return Reported(
        "hinge_with_ridge", "verify_gradient", "the ridge's gradient lacks its factor 2",
        plain, wrong, right, args=lambda: (*normal(16, (3, 4), (5, 3)), jnp.array([3, 0, 1, 1, 2])),
        faulty=("of_ridge = ridge * w",),
    )  # fmt: skip


def xor_by_hand() -> Reported:
    def plain(weights, x, target):
        hidden, out = weights
        y = jax.nn.sigmoid(out @ jax.nn.sigmoid(hidden @ x))
        return (y - target) ** 2 / 2

    def wrong(weights, x, target):
        hidden, out = weights
        a, b = jax.nn.sigmoid(hidden @ x)
        y = jax.nn.sigmoid(out[0] * a + out[1] * b)
        error = y - target
        da, db = (error * y * (1 - y) * v * s * (1 - s) for v, s in zip(out, (a, b), strict=True))
        dhidden = jnp.array([[da * x[0], da * x[1]], [db * x[0], db * x[1]]])
        dout = jnp.array([error * a, error * b])
        return dhidden, dout

    def right(weights, x, target):
        hidden, out = weights
        a, b = jax.nn.sigmoid(hidden @ x)
        y = jax.nn.sigmoid(out[0] * a + out[1] * b)
        error = (y - target) * y * (1 - y)
        da, db = (error * v * s * (1 - s) for v, s in zip(out, (a, b), strict=True))
        dhidden = jnp.array([[da * x[0], da * x[1]], [db * x[0], db * x[1]]])
        dout = jnp.array([error * a, error * b])
        return dhidden, dout

    return Reported(
        "xor_by_hand", "verify_gradient", "the output layer's weights lack the slope y (1 - y) of the output",
        plain, wrong, right,
        args=lambda: ((array([0.7, -0.4], [0.2, 1.1]), array(-0.6, 0.9)), array(0.8, -1.3), jnp.float32(0.3)),
        faulty=("dout = jnp.array([error * a, error * b])",),
    )  # fmt: skip


def averaged_momentum() -> Reported:
    decay, rate = 0.8, 0.05

    def plain(w, mean, dw):
        mean = decay * mean + (1 - decay) * dw
        return w - rate * mean, mean

    def wrong(w, mean, dw):
        new_mean = decay * mean + (1 - decay) * dw
        step = rate * (1 - decay) * mean
        return w - step, new_mean

    def right(w, mean, dw):
        new_mean = decay * mean + (1 - decay) * dw
        step = rate * new_mean
        return w - step, new_mean

    return Reported(
        "averaged_momentum", "equivalent", "the step takes the mean of before, damped a second time",
        plain, wrong, right, args=lambda: normal(17, (2, 4), (2, 4), (2, 4)),
        faulty=("step = rate * (1 - decay) * mean",),
    )  # fmt: skip


def triplet() -> Reported:
    def excess(points):
        near, far = points["anchor"] - points["like"], points["anchor"] - points["unlike"]
        return (near**2).sum(axis=1) - (far**2).sum(axis=1) + 0.3

    def plain(points):
        return jax.nn.relu(excess(points)).mean()

    def wrong(points):
        anchor, like, unlike = points["anchor"], points["like"], points["unlike"]
        scale = 2 / len(anchor) * (excess(points) > 0)[:, None]
        return {"anchor": scale * (unlike - like), "like": -scale * anchor, "unlike": scale * anchor}

    def right(points):
        anchor, like, unlike = points["anchor"], points["like"], points["unlike"]
        scale = 2 / len(anchor) * (excess(points) > 0)[:, None]
        return {"anchor": scale * (unlike - like), "like": scale * (like - anchor), "unlike": scale * (anchor - unlike)}

    def args():
        return (dict(zip(("anchor", "like", "unlike"), normal(20, *[(5, 2)] * 3), strict=True)),)

    return Reported(
        "triplet", "verify_gradient", "two outputs lack their own term, as if distances were products",
        plain, wrong, right, args,
        faulty=('return {"anchor": scale * (unlike - like), "like": -scale * anchor, "unlike": scale * anchor}',),
    )  # fmt: skip


def embedding_biases() -> Reported:
    def plain(params, x, y):
        w1, b1, w2, b2 = params
        scores = w2 @ jax.nn.relu(w1 @ x + b1) + b2
        return -jnp.mean((y * jax.nn.log_softmax(scores, axis=0)).sum(axis=0))

    def slopes(params, x, y):
        w1, b1, w2, b2 = params
        a = jax.nn.relu(w1 @ x + b1)
        d2 = jax.nn.softmax(w2 @ a + b2, axis=0) - y
        return a, (w2.T @ d2) * (a > 0), d2

    def wrong(params, x, y):
        a, d1, d2 = slopes(params, x, y)
        dw1, dw2 = d1 @ x.T / x.shape[1], d2 @ a.T / x.shape[1]
        db1 = (d1 @ x.T).sum(axis=1, keepdims=True) / x.shape[1]
        db2 = (d2 @ a.T).sum(axis=1, keepdims=True) / x.shape[1]
        return dw1, db1, dw2, db2

    def right(params, x, y):
        a, d1, d2 = slopes(params, x, y)
        dw1, dw2 = d1 @ x.T / x.shape[1], d2 @ a.T / x.shape[1]
        db1, db2 = (d.sum(axis=1, keepdims=True) / x.shape[1] for d in (d1, d2))
        return dw1, db1, dw2, db2

    def args():
        *params, x = normal(22, (3, 2), (3, 1), (4, 3), (4, 1), (2, 5))
        return tuple(params), x, jnp.eye(4)[:, jnp.array([2, 0, 3, 1, 1])]

    return Reported(
        "embedding_biases", "verify_gradient", "the biases' lines are copied from the weights', with the layer's input",
        plain, wrong, right, args,
        faulty=(
            "db1 = (d1 @ x.T).sum(axis=1, keepdims=True) / x.shape[1]",
            "db2 = (d2 @ a.T).sum(axis=1, keepdims=True) / x.shape[1]",
        ),
    )  # fmt: skip


NETWORKS = (
    lstm, rnn_three_steps, lstm_biases, regression_by_indicators, regression_by_ids, columns_of_examples,
    gaussian_likelihood, divergence_from_uniform, hinge_with_ridge, xor_by_hand, averaged_momentum, triplet,
    embedding_biases,
)  # fmt: skip
