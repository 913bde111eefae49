"""Forward rules: ``custom_jvp`` with tangents built from helpers, einsums and scans."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_mean_exp(x, axis):
    return jax.nn.logsumexp(x, axis=axis) - jnp.log(x.shape[axis])


@log_mean_exp.defjvp
def log_mean_exp_jvp(axis, primals, tangents):
    (x,), (dx,) = primals, tangents
    y = log_mean_exp(x, axis)
    weights = jnp.exp(x - jnp.expand_dims(y, axis))
    return y, jnp.mean(weights * dx, axis=axis)


@jax.custom_jvp
def unit_vectors(x):
    return x / jnp.sqrt(jnp.einsum("nd,nd->n", x, x) + 1e-6)[:, None]


@unit_vectors.defjvp
def unit_vectors_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    inverse = lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
    y = x * inverse
    along = jnp.einsum("nd,nd->n", y, dx)[:, None]
    return y, inverse * (dx - y * along)


@jax.custom_jvp
def student_t(params, x):
    z = (x - params["loc"]) * jnp.exp(-params["log_scale"])
    return -params["log_scale"] - 2.5 * jnp.log1p(z**2 / 4)


@student_t.defjvp
def student_t_jvp(primals, tangents):
    params, x = primals
    dparams, dx = tangents
    inverse = jnp.exp(-params["log_scale"])
    z = (x - params["loc"]) * inverse
    dz = (dx - dparams["loc"]) * inverse - z * dparams["log_scale"]
    slope = -5 * z / (4 + z**2)
    return student_t(params, x), slope * dz - dparams["log_scale"]


def smooth(decay, xs):
    def body(mean, x):
        mean = decay * mean + (1 - decay) * x
        return mean, mean

    return lax.scan(body, jnp.zeros_like(xs[0]), xs)[1]


@jax.custom_jvp
def moving_average(decay, xs):
    return smooth(decay, xs)


@moving_average.defjvp
def moving_average_jvp(primals, tangents):
    decay, xs = primals
    ddecay, dxs = tangents
    means = smooth(decay, xs)

    def body(dmean, at):
        before, x, dx = at
        dmean = decay * dmean + ddecay * (before - x) + (1 - decay) * dx
        return dmean, dmean

    befores = jnp.concatenate([jnp.zeros_like(means[:1]), means[:-1]])
    _, dmeans = lax.scan(body, jnp.zeros_like(xs[0]), (befores, xs, dxs))
    return means, dmeans


def _scores(draw: Draw) -> tuple:
    return draw.normal(draw.rows(5, 3), 5), 0


def _vectors(draw: Draw) -> tuple:
    return (draw.normal(draw.rows(3, 7), 3),)


def _heavy_tails(draw: Draw) -> tuple:
    return {"loc": draw.normal(3), "log_scale": draw.normal(3, scale=0.5)}, draw.normal(draw.rows(3, 7), 3, scale=2.0)


def _series(draw: Draw) -> tuple:
    return draw.positive(), draw.normal(draw.rows(3, 7), 3)


RULES = (
    Rule("log_mean_exp", log_mean_exp, _scores),
    Rule("unit_vectors", unit_vectors, _vectors),
    Rule("student_t", student_t, _heavy_tails),
    Rule("moving_average", moving_average, _series),
)
