"""Unrolled iterations: a run of training, an orthogonal factor, a transport plan, butterflies, attention in blocks."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule

INNER = 4


def regression_gradient(w, decay, x, y):
    return x.T @ (x @ w - y) / len(y) + decay * w


def heavy_ball(hyper, w, x, y):
    """Every step's weights, velocity and gradient before it, and the last weights."""
    velocity, tape = jnp.zeros_like(w), []
    for _ in range(INNER):
        grad = regression_gradient(w, hyper["decay"], x, y)
        tape.append((w, velocity, grad))
        velocity = hyper["momentum"] * velocity - hyper["rate"] * grad
        w = w + velocity
    return w, tape


def validation_loss(hyper, w, train, valid):
    w, _ = heavy_ball(hyper, w, *train)
    x, y = valid
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def validation_gradient(hyper, w, train, valid):
    x, y = train
    last, tape = heavy_ball(hyper, w, x, y)
    dw = regression_gradient(last, 0.0, *valid)
    dvelocity = jnp.zeros_like(dw)
    dhyper = {name: jnp.zeros_like(value) for name, value in hyper.items()}
    for w_before, velocity, grad in reversed(tape):
        dvelocity = dvelocity + dw
        dhyper["rate"] -= jnp.dot(dvelocity, grad)
        dhyper["momentum"] += jnp.dot(dvelocity, velocity)
        dgrad = -hyper["rate"] * dvelocity
        dhyper["decay"] += jnp.dot(dgrad, w_before)
        dw = dw + x.T @ (x @ dgrad) / len(y) + hyper["decay"] * dgrad
        dvelocity = hyper["momentum"] * dvelocity
    return dhyper, dw


COEFFICIENTS = ((3.4, -4.8, 2.0), (3.0, -3.2, 1.2), (1.9, -1.3, 0.4))


def polish(x, a, b, c):
    gram = x @ x.T
    return a * x + (b * gram + c * gram @ gram) @ x


def polish_back(x, g, a, b, c):
    gram = x @ x.T
    mix = b * gram + c * gram @ gram
    dmix = g @ x.T
    dgram = b * dmix + c * (dmix @ gram.T + gram.T @ dmix)
    return a * g + mix.T @ g + (dgram + dgram.T) @ x


@jax.custom_vjp
def orthogonalised(matrix):
    """Newton and Schulz's iteration towards the polar factor, as Muon has it."""
    x = matrix / jnp.sqrt(jnp.sum(matrix**2))
    for a, b, c in COEFFICIENTS:
        x = polish(x, a, b, c)
    return x


def orthogonalised_fwd(matrix):
    norm = jnp.sqrt(jnp.sum(matrix**2))
    xs = [matrix / norm]
    for a, b, c in COEFFICIENTS:
        xs.append(polish(xs[-1], a, b, c))
    return xs[-1], (norm, xs[:-1])


def orthogonalised_bwd(res, g):
    norm, xs = res
    for k in range(len(xs) - 1, -1, -1):
        g = polish_back(xs[k], g, *COEFFICIENTS[k])
    return ((g - xs[0] * jnp.vdot(xs[0], g)) / norm,)


orthogonalised.defvjp(orthogonalised_fwd, orthogonalised_bwd)

BLUR = 0.6
ROUNDS = 3


def row_update(cost, g, a):
    return BLUR * (jnp.log(a) - jax.nn.logsumexp((g[None, :] - cost) / BLUR, axis=1))


def column_update(cost, f, b):
    return BLUR * (jnp.log(b) - jax.nn.logsumexp((f[:, None] - cost) / BLUR, axis=0))


@jax.custom_vjp
def transport_plan(cost, a, b):
    """A few of Sinkhorn's rounds."""
    f, g = jnp.zeros_like(a), jnp.zeros_like(b)
    for _ in range(ROUNDS):
        f = row_update(cost, g, a)
        g = column_update(cost, f, b)
    return jnp.exp((f[:, None] + g[None, :] - cost) / BLUR)


def transport_plan_fwd(cost, a, b):
    f, g, tape = jnp.zeros_like(a), jnp.zeros_like(b), []
    for _ in range(ROUNDS):
        g_before = g
        f = row_update(cost, g, a)
        g = column_update(cost, f, b)
        tape.append((f, g_before))
    plan = jnp.exp((f[:, None] + g[None, :] - cost) / BLUR)
    return plan, (cost, a, b, plan, tape)


def transport_plan_bwd(res, dplan):
    cost, a, b, plan, tape = res
    dlog = plan * dplan / BLUR
    dcost, da, db = -dlog, jnp.zeros_like(a), jnp.zeros_like(b)
    df, dg = dlog.sum(axis=1), dlog.sum(axis=0)
    for f, g in tape[::-1]:
        share = jax.nn.softmax((f[:, None] - cost) / BLUR, axis=0)
        db = db + BLUR * dg / b
        dcost = dcost + share * dg[None, :]
        df = df - share @ dg
        share = jax.nn.softmax((g[None, :] - cost) / BLUR, axis=1)
        da = da + BLUR * df / a
        dcost = dcost + share * df[:, None]
        dg = -(share.T @ df)
        df = jnp.zeros_like(df)
    return dcost, da, db


transport_plan.defvjp(transport_plan_fwd, transport_plan_bwd)


def wings(width, stride):
    """The left and the right column of each pair that is ``stride`` apart."""
    pair = jnp.arange(width // 2)
    left = pair // stride * (2 * stride) + pair % stride
    return left, left + stride


def turn(x, angle, left, right):
    c, s = jnp.cos(angle), jnp.sin(angle)
    a, b = x[:, left], x[:, right]
    return x.at[:, left].set(c * a - s * b).at[:, right].set(s * a + c * b)


@jax.custom_vjp
def butterflies(angles, x):
    """An orthogonal map of log n stages, an angle for each pair of each stage."""
    for stage in range(len(angles)):
        x = turn(x, angles[stage], *wings(x.shape[1], 2**stage))
    return x


def butterflies_fwd(angles, x):
    y = butterflies(angles, x)
    return y, (angles, y)


def butterflies_bwd(res, g):
    """The inputs are found again from the output: each stage is turned back."""
    angles, y = res
    dangles = jnp.zeros_like(angles)
    for stage in reversed(range(len(angles))):
        left, right = wings(y.shape[1], 2**stage)
        dangle = jnp.sum(g[:, right] * y[:, left] - g[:, left] * y[:, right], axis=0)
        dangles = dangles.at[stage].set(dangle)
        y = turn(y, -angles[stage], left, right)
        g = turn(g, -angles[stage], left, right)
    return dangles, g


butterflies.defvjp(butterflies_fwd, butterflies_bwd)

BLOCK = 3


def block_scores(q, keys, block):
    """Of one block of keys, those after the query out of the way."""
    rows = jnp.arange(len(q))[:, None]
    columns = block * BLOCK + jnp.arange(BLOCK)[None, :]
    scores = q @ keys.T * q.shape[1] ** -0.5
    return jnp.where(columns <= rows, scores, -1e9)


def online(q, k, v):
    def body(block, carry):
        acc, top, total = carry
        keys = lax.dynamic_slice_in_dim(k, block * BLOCK, BLOCK)
        scores = block_scores(q, keys, block)
        new_top = jnp.maximum(top, scores.max(axis=1))
        shrink, weights = jnp.exp(top - new_top), jnp.exp(scores - new_top[:, None])
        acc = acc * shrink[:, None] + weights @ lax.dynamic_slice_in_dim(v, block * BLOCK, BLOCK)
        return acc, new_top, total * shrink + weights.sum(axis=1)

    start = jnp.zeros_like(v), jnp.full(len(q), -1e9, q.dtype), jnp.zeros(len(q), q.dtype)
    acc, top, total = lax.fori_loop(0, len(k) // BLOCK, body, start)
    return acc / total[:, None], top + jnp.log(total)


@jax.custom_vjp
def block_attention(q, k, v):
    return online(q, k, v)[0]


def block_attention_fwd(q, k, v):
    out, log_total = online(q, k, v)
    return out, (q, k, v, out, log_total)


def block_attention_bwd(res, g):
    q, k, v, out, log_total = res
    shared = jnp.sum(g * out, axis=1)

    def body(block, carry):
        dq, dk, dv = carry
        start = block * BLOCK
        keys = lax.dynamic_slice_in_dim(k, start, BLOCK)
        values = lax.dynamic_slice_in_dim(v, start, BLOCK)
        weights = jnp.exp(block_scores(q, keys, block) - log_total[:, None])
        dscores = weights * (g @ values.T - shared[:, None]) * q.shape[1] ** -0.5
        dq = dq + dscores @ keys
        dk = lax.dynamic_update_slice_in_dim(dk, dscores.T @ q, start, 0)
        dv = lax.dynamic_update_slice_in_dim(dv, weights.T @ g, start, 0)
        return dq, dk, dv

    empty = jnp.zeros_like(q), jnp.zeros_like(k), jnp.zeros_like(v)
    return lax.fori_loop(0, len(k) // BLOCK, body, empty)


block_attention.defvjp(block_attention_fwd, block_attention_bwd)


def _run(draw: Draw) -> tuple:
    n = draw.rows(3, 7)
    hyper = {"rate": draw.positive(), "momentum": draw.positive(), "decay": draw.positive()}
    return hyper, draw.normal(3), (draw.normal(n, 3), draw.normal(n)), (draw.normal(5, 3), draw.normal(5))


def _matrix(draw: Draw) -> tuple:
    n = draw.rows(5, 4)
    return (draw.normal(n, n) if n < 7 else draw.normal(5, n),)


def _plan(draw: Draw) -> tuple:
    n = draw.rows(5, 4)
    return draw.normal(n, n), draw.positive(n), draw.positive(n)


def _butterflies(draw: Draw) -> tuple:
    return draw.normal(3, 4), draw.normal(draw.rows(8, 2), 8)


def _blocks(draw: Draw) -> tuple:
    length = BLOCK * draw.rows(3 * BLOCK, 3)
    return draw.normal(length, 3), draw.normal(length, 3), draw.normal(length, 3)


RULES = (
    Rule("heavy_ball", validation_gradient, _run, loss=validation_loss, argnums=(0, 1)),
    Rule("orthogonalised", orthogonalised, _matrix),
    Rule("transport_plan", transport_plan, _plan),
    Rule("butterflies", butterflies, _butterflies),
    Rule("block_attention", block_attention, _blocks),
)
