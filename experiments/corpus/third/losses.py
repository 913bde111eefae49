"""Losses as rules: risk sets, redundancy of views, mixtures of densities, thresholds in order, distances of bags."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def risk(scores):
    """Log of the summed hazard of all who are still there; the scores come in order of time."""
    return jnp.log(jnp.flip(jnp.cumsum(jnp.flip(jnp.exp(scores)))))


@jax.custom_vjp
def cox_loss(scores, observed):
    partial = jnp.where(observed, scores - risk(scores), 0)
    return -jnp.sum(partial) / jnp.sum(observed)


def cox_loss_fwd(scores, observed):
    return cox_loss(scores, observed), (scores, observed)


def cox_loss_bwd(residuals, g):
    scores, observed = residuals
    events = jnp.sum(observed)
    inverse_hazard = jnp.cumsum(jnp.where(observed, jnp.exp(-risk(scores)), 0))
    expected = jnp.exp(scores) * inverse_hazard
    dscores = g * (expected - observed) / events
    return dscores, None


cox_loss.defvjp(cox_loss_fwd, cox_loss_bwd)


def standardise(x):
    centred = x - x.mean(axis=0)
    std = jnp.sqrt(jnp.mean(centred**2, axis=0) + 1e-4)
    return centred / std, std


def standardise_backward(z, std, dz):
    projected = dz - dz.mean(axis=0) - z * jnp.mean(dz * z, axis=0)
    return projected / std


def correlation(za, zb):
    return jnp.tensordot(za, zb, axes=((0,), (0,))) / za.shape[0]


OFF_DIAGONAL = 0.2


def importance(width):
    return OFF_DIAGONAL + (1 - OFF_DIAGONAL) * jnp.eye(width)


@jax.custom_vjp
def redundancy_loss(views):
    (za, _), (zb, _) = standardise(views["a"]), standardise(views["b"])
    off = correlation(za, zb) - jnp.eye(za.shape[1])
    return jnp.sum(importance(za.shape[1]) * off**2)


def redundancy_loss_fwd(views):
    (za, sa), (zb, sb) = standardise(views["a"]), standardise(views["b"])
    off = correlation(za, zb) - jnp.eye(za.shape[1])
    loss = jnp.sum(importance(za.shape[1]) * off**2)
    return loss, (za, sa, zb, sb, off)


def redundancy_loss_bwd(residuals, g):
    za, sa, zb, sb, off = residuals
    n, width = za.shape
    dcorrelation = 2 * g * importance(width) * off
    dcorrelation = dcorrelation.astype(za.dtype) / n
    dza = jnp.matmul(zb, dcorrelation.T)
    dzb = jnp.matmul(za, dcorrelation)
    return ({"a": standardise_backward(za, sa, dza), "b": standardise_backward(zb, sb, dzb)},)


redundancy_loss.defvjp(redundancy_loss_fwd, redundancy_loss_bwd)


class Mixture(NamedTuple):
    logits: jax.Array
    means: jax.Array
    log_scales: jax.Array


def component_log_density(mixture, y):
    z = (y[:, None] - mixture.means) * jnp.exp(-mixture.log_scales)
    return z, jax.nn.log_softmax(mixture.logits, axis=-1) - mixture.log_scales - 0.5 * z**2


@jax.custom_vjp
def mixture_density(mixture, y):
    _, log_density = component_log_density(mixture, y)
    return -jax.nn.logsumexp(log_density, axis=-1).mean()


def mixture_density_fwd(mixture, y):
    z, log_density = component_log_density(mixture, y)
    total = jax.nn.logsumexp(log_density, axis=-1)
    return -total.mean(), (mixture, z, log_density, total)


def mixture_density_bwd(residuals, g):
    mixture, z, log_density, total = residuals
    responsibility = jnp.exp(log_density - total[:, None])
    weight = g / z.shape[0]
    pull = responsibility * z * jnp.exp(-mixture.log_scales)
    grads = Mixture(
        logits=weight * (jax.nn.softmax(mixture.logits, axis=-1) - responsibility),
        means=-weight * pull,
        log_scales=weight * responsibility * (1 - z**2),
    )
    dy = weight * pull.sum(axis=-1)
    return grads, dy


mixture_density.defvjp(mixture_density_fwd, mixture_density_bwd)


def cumulative(cuts, scores):
    return jax.nn.sigmoid(cuts[None, :] - scores[:, None])


def picked(cumulated, label):
    padded = jnp.pad(cumulated, ((0, 0), (1, 1)), constant_values=(0, 1))
    upper = jnp.take_along_axis(padded, label[:, None] + 1, axis=1)
    lower = jnp.take_along_axis(padded, label[:, None], axis=1)
    return (upper - lower)[:, 0]


@jax.custom_vjp
def ordinal_loss(cuts, scores, label):
    return -jnp.log(picked(cumulative(cuts, scores), label)).sum()


def ordinal_loss_fwd(cuts, scores, label):
    cumulated = cumulative(cuts, scores)
    chance = picked(cumulated, label)
    return -jnp.log(chance).sum(), (cumulated, chance, label)


def ordinal_loss_bwd(residuals, g):
    cumulated, chance, label = residuals
    steps = jnp.arange(cumulated.shape[1])
    upper = (label[:, None] == steps).astype(cumulated.dtype)
    lower = (label[:, None] == steps + 1).astype(cumulated.dtype)
    dchance = -g / chance
    dcumulated = dchance[:, None] * (upper - lower)
    dlogit = dcumulated * cumulated * (1 - cumulated)
    return dlogit.sum(axis=0), -dlogit.sum(axis=1), None


ordinal_loss.defvjp(ordinal_loss_fwd, ordinal_loss_bwd)


def kernel_mean(xs, ys, width):
    gaps = xs[:, None, :] - ys[None, :, :]
    values = jnp.exp(-jnp.sum(gaps**2, axis=-1) / (2 * width**2))
    return values.mean()


def kernel_mean_backward(xs, ys, width, g):
    gaps = xs[:, None, :] - ys[None, :, :]
    distances = jnp.sum(gaps**2, axis=-1)
    values = jnp.exp(-distances / (2 * width**2))
    dvalues = g * values / values.size
    ddistances = -dvalues / (2 * width**2)
    dgaps = 2 * ddistances[..., None] * gaps
    dwidth = jnp.sum(dvalues * distances) / width**3
    return dgaps.sum(axis=1), -dgaps.sum(axis=0), dwidth


@jax.custom_vjp
def discrepancy(xs, ys, width):
    within = kernel_mean(xs, xs, width) + kernel_mean(ys, ys, width)
    return within - 2 * kernel_mean(xs, ys, width)


def discrepancy_fwd(xs, ys, width):
    return discrepancy(xs, ys, width), (xs, ys, width)


def discrepancy_bwd(residuals, g):
    xs, ys, width = residuals
    left, right, width_x = kernel_mean_backward(xs, xs, width, g)
    dxs = left + right
    left, right, width_y = kernel_mean_backward(ys, ys, width, g)
    dys = left + right
    left, right, width_xy = kernel_mean_backward(xs, ys, width, -2 * g)
    dwidth = width_x + width_y + width_xy
    return dxs + left, dys + right, dwidth


discrepancy.defvjp(discrepancy_fwd, discrepancy_bwd)


def _survival(draw: Draw) -> tuple:
    n = draw.rows(1, 11)
    return draw.normal(n), jnp.asarray(draw.rng.uniform(size=n) < 0.7).at[0].set(True)


def _views(draw: Draw) -> tuple:
    n = draw.rows(3, 7)
    return ({"a": draw.normal(n, 3), "b": draw.normal(n, 3)},)


def _mixture(draw: Draw) -> tuple:
    n = draw.rows(3, 7)
    return Mixture(draw.normal(n, 3), draw.normal(n, 3), draw.normal(n, 3, scale=0.5)), draw.normal(n)


def _grades(draw: Draw) -> tuple:
    n = draw.rows(3, 7)
    cuts = jnp.cumsum(0.3 + draw.positive(3)) - 1
    return cuts, draw.normal(n), draw.integers(4, n)


def _bags(draw: Draw) -> tuple:
    return draw.normal(draw.rows(3, 7), 3), draw.normal(11, 3), 1 + draw.positive()


RULES = (
    Rule("cox_loss", cox_loss, _survival),
    Rule("redundancy_loss", redundancy_loss, _views),
    Rule("mixture_density", mixture_density, _mixture),
    Rule("ordinal_loss", ordinal_loss, _grades),
    Rule("discrepancy", discrepancy, _bags),
)
