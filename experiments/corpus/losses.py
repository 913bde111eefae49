"""Losses: the gradient each paper or textbook states."""

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


@jax.custom_vjp
def log_softmax(z):
    return z - jax.nn.logsumexp(z, axis=-1, keepdims=True)


def log_softmax_fwd(z):
    y = log_softmax(z)
    return y, y


def log_softmax_bwd(y, dy):
    p = jnp.exp(y)
    total = dy.sum(axis=-1, keepdims=True)
    return (dy - p * total,)


log_softmax.defvjp(log_softmax_fwd, log_softmax_bwd)


@jax.custom_vjp
def cross_entropy(z, labels):
    picked = jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1)
    return -picked.mean()


def cross_entropy_fwd(z, labels):
    return cross_entropy(z, labels), (z, labels)


def cross_entropy_bwd(residuals, dloss):
    z, labels = residuals
    e = jnp.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    target = jax.nn.one_hot(labels, z.shape[1], dtype=z.dtype)
    dz = dloss * (p - target) / len(z)
    return dz, None


cross_entropy.defvjp(cross_entropy_fwd, cross_entropy_bwd)


@jax.custom_vjp
def smoothed_cross_entropy(z, target):
    smooth = 0.9 * target + 0.1 / z.shape[1]
    return -(smooth * jax.nn.log_softmax(z)).sum()


def smoothed_cross_entropy_fwd(z, target):
    return smoothed_cross_entropy(z, target), (z, target)


def smoothed_cross_entropy_bwd(residuals, dloss):
    z, target = residuals
    smooth = 0.9 * target + 0.1 / z.shape[1]
    p = jax.nn.softmax(z)
    mass = smooth.sum(axis=1, keepdims=True)
    dz = dloss * (p * mass - smooth)
    dtarget = -0.9 * dloss * jnp.log(p)
    return dz, dtarget


smoothed_cross_entropy.defvjp(smoothed_cross_entropy_fwd, smoothed_cross_entropy_bwd)


@jax.custom_vjp
def binary_cross_entropy(z, y):
    return (jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))).sum()


def binary_cross_entropy_fwd(z, y):
    return binary_cross_entropy(z, y), (z, y)


def binary_cross_entropy_bwd(residuals, dloss):
    z, y = residuals
    a = jax.nn.sigmoid(z)
    dz = dloss * (a - y)
    dy = -dloss * z
    return dz, dy


binary_cross_entropy.defvjp(binary_cross_entropy_fwd, binary_cross_entropy_bwd)


@jax.custom_vjp
def focal(z, y):
    p = jax.nn.sigmoid(z)
    return -(y * (1 - p) ** 2 * jnp.log(p) + (1 - y) * p**2 * jnp.log(1 - p))


def focal_fwd(z, y):
    return focal(z, y), (z, y)


def focal_bwd(residuals, dloss):
    z, y = residuals
    p = jax.nn.sigmoid(z)
    q = jax.nn.sigmoid(-z)
    positive = q * q * (2 * p * jnp.log(p) - q)
    negative = p * p * (p - 2 * q * jnp.log(q))
    dz = dloss * (y * positive + (1 - y) * negative)
    dy = dloss * (p * p * jnp.log(q) - q * q * jnp.log(p))
    return dz, dy


focal.defvjp(focal_fwd, focal_bwd)


@jax.custom_vjp
def huber(r):
    size = jnp.abs(r)
    return jnp.where(size < 1, 0.5 * r * r, size - 0.5)


def huber_fwd(r):
    return huber(r), r


def huber_bwd(r, dloss):
    dr = dloss * jnp.clip(r, -1, 1)
    return (dr,)


huber.defvjp(huber_fwd, huber_bwd)


@jax.custom_vjp
def hinge(score, y):
    return jnp.maximum(0, 1 - y * score).sum()


def hinge_fwd(score, y):
    return hinge(score, y), (score, y)


def hinge_bwd(residuals, dloss):
    score, y = residuals
    inside = (y * score < 1).astype(y.dtype)
    dscore = -dloss * y * inside
    dy = -dloss * score * inside
    return dscore, dy


hinge.defvjp(hinge_fwd, hinge_bwd)


@jax.custom_vjp
def log_cosh(r):
    return jnp.mean(jnp.logaddexp(r, -r) - jnp.log(2.0).astype(r.dtype))


def log_cosh_fwd(r):
    return log_cosh(r), r


def log_cosh_bwd(r, dloss):
    dr = dloss * jnp.tanh(r) / r.size
    return (dr,)


log_cosh.defvjp(log_cosh_fwd, log_cosh_bwd)


@jax.custom_vjp
def pinball(r):
    return jnp.maximum(0.9 * r, -0.1 * r)


def pinball_fwd(r):
    return pinball(r), r


def pinball_bwd(r, dloss):
    slope = jnp.where(r > 0, 0.9, -0.1)
    return (dloss * slope.astype(r.dtype),)


pinball.defvjp(pinball_fwd, pinball_bwd)


@jax.custom_vjp
def kl_divergence(p, q):
    return (p * (jnp.log(p) - jnp.log(q))).sum(axis=-1)


def kl_divergence_fwd(p, q):
    return kl_divergence(p, q), (p, q)


def kl_divergence_bwd(residuals, dloss):
    p, q = residuals
    d = dloss[..., None]
    dp = d * (jnp.log(p / q) + 1)
    dq = -d * p / q
    return dp, dq


kl_divergence.defvjp(kl_divergence_fwd, kl_divergence_bwd)


@jax.custom_vjp
def gaussian_nll(x, mean, log_scale):
    h = (x - mean) * jnp.exp(-log_scale)
    return (0.5 * h * h + log_scale).sum()


def gaussian_nll_fwd(x, mean, log_scale):
    return gaussian_nll(x, mean, log_scale), (x, mean, log_scale)


def gaussian_nll_bwd(residuals, dloss):
    x, mean, log_scale = residuals
    precision = jnp.exp(-2 * log_scale)
    dmean = dloss * (mean - x) * precision
    dlog_scale = dloss * (1 - (x - mean) ** 2 * precision)
    return -dmean, dmean, dlog_scale


gaussian_nll.defvjp(gaussian_nll_fwd, gaussian_nll_bwd)


@jax.custom_vjp
def cosine_similarity(a, b):
    return (a * b).sum(axis=-1) / jnp.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def cosine_similarity_fwd(a, b):
    return cosine_similarity(a, b), (a, b)


def cosine_similarity_bwd(residuals, dc):
    a, b = residuals
    ra = jnp.linalg.norm(a, axis=-1, keepdims=True)
    rb = jnp.linalg.norm(b, axis=-1, keepdims=True)
    ua = a / ra
    ub = b / rb
    c = (ua * ub).sum(axis=-1, keepdims=True)
    da = dc[..., None] * (ub - c * ua) / ra
    db = dc[..., None] * (ua - c * ub) / rb
    return da, db


cosine_similarity.defvjp(cosine_similarity_fwd, cosine_similarity_bwd)


@jax.custom_vjp
def info_nce(a, b):
    s = a @ b.T
    return (jax.nn.logsumexp(s, axis=1) - jnp.diag(s)).mean()


def info_nce_fwd(a, b):
    return info_nce(a, b), (a, b)


def info_nce_bwd(residuals, dloss):
    a, b = residuals
    p = jax.nn.softmax(a @ b.T, axis=1)
    ds = dloss * (p - jnp.eye(len(a), dtype=a.dtype)) / len(a)
    da = ds @ b
    db = ds.T @ a
    return da, db


info_nce.defvjp(info_nce_fwd, info_nce_bwd)


def squared_error(w, b, x, y):
    return ((x @ w + b - y) ** 2).mean()


def squared_error_gradient(w, b, x, y):
    r = x @ w + b - y
    dw = 2 * x.T @ r / len(x)
    db = 2 * r.mean()
    return dw, db


def logistic_regression(w, x, y):
    return jax.nn.softplus(-y * (x @ w)).sum() + 0.05 * w @ w


def logistic_regression_value_and_gradient(w, x, y):
    margin = y * (x @ w)
    value = jnp.logaddexp(0, -margin).sum() + 0.05 * (w * w).sum()
    pull = y / (1 + jnp.exp(margin))
    dw = 0.1 * w - pull @ x
    return value, dw


def _logits(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.rows(7, 3), 7),)


def _labelled(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(7, 3)
    return draw.normal(rows, 7), draw.integers(7, rows)


def _targets(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(7, 3)
    return draw.normal(rows, 7), draw.positive(rows, 7)


def _binary(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.size, scale=2.0), draw.positive(draw.size)


def _residual(draw: Draw) -> tuple[jax.Array]:
    return (draw.normal(draw.size, scale=2.0),)


def _margins(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.size), draw.signs(draw.size)


def _probabilities(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(7, 3)
    return draw.positive(rows, 7), draw.positive(rows, 7)


def _gaussian(draw: Draw) -> tuple[jax.Array, ...]:
    return draw.normal(draw.size), draw.normal(draw.size), draw.normal(draw.size, scale=0.5)


def _vectors(draw: Draw) -> tuple[jax.Array, jax.Array]:
    rows = draw.rows(7, 3)
    return draw.normal(rows, 7), draw.normal(rows, 7)


def _embeddings(draw: Draw) -> tuple[jax.Array, jax.Array]:
    width = draw.rows(5, 3)
    return draw.normal(5, width, scale=width**-0.5), draw.normal(5, width)


def _regression(draw: Draw) -> tuple[jax.Array, ...]:
    rows = draw.rows(3, 7)
    return draw.normal(3), draw.normal(), draw.normal(rows, 3), draw.normal(rows)


def _classified(draw: Draw) -> tuple[jax.Array, ...]:
    rows = draw.rows(3, 7)
    return draw.normal(3), draw.normal(rows, 3), draw.signs(rows)


RULES = (
    Rule("log_softmax", log_softmax, _logits),
    Rule("cross_entropy", cross_entropy, _labelled),
    Rule("smoothed_cross_entropy", smoothed_cross_entropy, _targets),
    Rule("binary_cross_entropy", binary_cross_entropy, _binary),
    Rule("focal", focal, _binary),
    Rule("huber", huber, _residual),
    Rule("hinge", hinge, _margins),
    Rule("log_cosh", log_cosh, _residual),
    Rule("pinball", pinball, _residual),
    Rule("kl_divergence", kl_divergence, _probabilities),
    Rule("gaussian_nll", gaussian_nll, _gaussian),
    Rule("cosine_similarity", cosine_similarity, _vectors),
    Rule("info_nce", info_nce, _embeddings),
    Rule("squared_error", squared_error_gradient, _regression, squared_error, (0, 1)),
    Rule("logistic_regression", logistic_regression_value_and_gradient, _classified, logistic_regression),
)
