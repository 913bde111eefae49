"""Losses of batches: contrastive, focal, likelihoods, robust and masked means, overlaps, distillation."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def similarity(images, texts, log_scale):
    return jnp.exp(log_scale) * jnp.einsum("id,jd->ij", images, texts)


@jax.custom_vjp
def clip_loss(images, texts, log_scale):
    logits = similarity(images, texts, log_scale)
    rows = jnp.diag(jax.nn.log_softmax(logits, axis=1))
    columns = jnp.diag(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * jnp.mean(rows + columns)


def clip_loss_fwd(images, texts, log_scale):
    return clip_loss(images, texts, log_scale), (images, texts, log_scale)


def clip_loss_bwd(res, g):
    images, texts, log_scale = res
    logits = similarity(images, texts, log_scale)
    both = jax.nn.softmax(logits, axis=1) + jax.nn.softmax(logits, axis=0)
    dlogits = g * (0.5 * both - jnp.eye(len(logits), dtype=g.dtype)) / len(logits)
    scaled = jnp.exp(log_scale) * dlogits
    dimages = jnp.einsum("ij,jd->id", scaled, texts)
    dtexts = jnp.einsum("ij,id->jd", scaled, images)
    return dimages, dtexts, jnp.sum(dlogits * logits)


clip_loss.defvjp(clip_loss_fwd, clip_loss_bwd)


def picked(table, labels):
    return jnp.take_along_axis(table, labels[:, None], axis=-1).squeeze(-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def focal_softmax(logits, labels, gamma):
    logp = picked(jax.nn.log_softmax(logits), labels)
    return jnp.mean(-((1 - jnp.exp(logp)) ** gamma) * logp)


def focal_softmax_fwd(logits, labels, gamma):
    return focal_softmax(logits, labels, gamma), (logits, labels)


def focal_softmax_bwd(gamma, res, g):
    logits, labels = res
    logp = picked(jax.nn.log_softmax(logits), labels)
    p = jnp.exp(logp)
    dlogp = (
        gamma * (1 - p) ** (gamma - 1) * p * logp
        - (1 - p) ** gamma
    )  # fmt: skip
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=g.dtype)
    dlogits = (g / len(labels)) * dlogp[:, None] * (onehot - jax.nn.softmax(logits))
    return dlogits, None


focal_softmax.defvjp(focal_softmax_fwd, focal_softmax_bwd)


class Gaussian(NamedTuple):
    mean: jax.Array
    raw_scale: jax.Array


@jax.custom_vjp
def masked_gaussian_nll(pred, target, mask):
    sigma = jax.nn.softplus(pred.raw_scale) + 1e-3
    nll = 0.5 * ((target - pred.mean) / sigma) ** 2 + jnp.log(sigma) + 0.5 * math.log(2 * math.pi)
    return jnp.sum(nll * mask[:, None]) / (mask.sum() * nll.shape[1])


def masked_gaussian_nll_fwd(pred, target, mask):
    return masked_gaussian_nll(pred, target, mask), (pred, target, mask)


def masked_gaussian_nll_bwd(res, g):
    pred, target, mask = res
    sigma = jax.nn.softplus(pred.raw_scale) + 1e-3
    error = (target - pred.mean) / sigma
    weight = g * mask[:, None] / (mask.sum() * target.shape[1])
    dmean = -weight * error / sigma
    dsigma = weight * (1 - error**2) / sigma
    nll = 0.5 * error**2 + jnp.log(sigma) + 0.5 * math.log(2 * math.pi)
    average = jnp.sum(weight * nll) / mask.sum()
    dmask = g * nll.mean(1) / mask.sum() - average
    return Gaussian(dmean, dsigma * jax.nn.sigmoid(pred.raw_scale)), -dmean, dmask


masked_gaussian_nll.defvjp(masked_gaussian_nll_fwd, masked_gaussian_nll_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnames=("delta",))
def masked_huber(pred, target, weights, delta=1.0):
    error = jnp.abs(pred - target)
    loss = jnp.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))
    return (loss * weights).sum() / weights.sum()


def masked_huber_fwd(pred, target, weights, delta):
    loss = masked_huber(pred, target, weights, delta=delta)
    return loss, (loss, pred - target, weights)


def masked_huber_bwd(delta, res, g):
    loss, error, weights = res
    share = g / weights.sum()
    clipped = jnp.clip(error, -delta, delta)
    dpred = share * weights * clipped
    each = clipped * (error - 0.5 * clipped)
    return dpred, -dpred, share * (each - loss)


masked_huber.defvjp(masked_huber_fwd, masked_huber_bwd)


def margins(anchors, positives, negatives, margin):
    near = jnp.einsum("nd,nd->n", anchors - positives, anchors - positives)
    far = jnp.einsum("nd,nd->n", anchors - negatives, anchors - negatives)
    return near - far + margin


@jax.custom_vjp
def triplet_loss(anchors, positives, negatives):
    return jax.nn.relu(margins(anchors, positives, negatives, margin=0.5)).mean()


def triplet_loss_fwd(anchors, positives, negatives):
    gaps = margins(anchors, positives, negatives, margin=0.5)
    return jax.nn.relu(gaps).mean(), (anchors, positives, negatives, gaps > 0)


def triplet_loss_bwd(res, g):
    anchors, positives, negatives, active = res
    weight = 2 * g / len(active) * active[:, None]
    danchors = weight * (negatives - positives)
    dpositives = weight * (positives - anchors)
    dnegatives = weight * (anchors - negatives)
    return danchors, dpositives, dnegatives


triplet_loss.defvjp(triplet_loss_fwd, triplet_loss_bwd)


@jax.custom_vjp
def token_loss(logits, labels, mask):
    lse = jax.nn.logsumexp(logits, axis=-1)
    loss = lse - picked(logits.reshape(-1, logits.shape[-1]), labels.ravel()).reshape(labels.shape)
    return jnp.sum(mask * (loss + 1e-2 * lse**2)) / jnp.sum(mask)


def token_loss_fwd(logits, labels, mask):
    return token_loss(logits, labels, mask), (logits, labels, mask)


def token_loss_bwd(res, g):
    logits, labels, mask = res
    lse = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    probs = jnp.exp(logits - lse)
    dlogits = probs * (1 + 2e-2 * lse) - jax.nn.one_hot(labels, logits.shape[-1], dtype=g.dtype)
    dlogits = dlogits * mask[..., None]
    return g * dlogits / jnp.sum(mask), None, None


token_loss.defvjp(token_loss_fwd, token_loss_bwd)


def overlaps(logits, target):
    probs = jax.nn.sigmoid(logits)
    axes = tuple(range(1, logits.ndim))
    return probs, (probs * target).sum(axes), (probs + target).sum(axes)


@jax.custom_vjp
def dice_loss(logits, target):
    _, both, total = overlaps(logits, target)
    return jnp.mean(1 - (2 * both + 1) / (total + 1))


def dice_loss_fwd(logits, target):
    return dice_loss(logits, target), (logits, target)


def dice_loss_bwd(res, g):
    logits, target = res
    probs, both, total = overlaps(logits, target)
    expand = functools.partial(jnp.expand_dims, axis=(1, 2))
    inverse = expand(1 / (total + 1))
    score = expand(2 * both + 1) * inverse**2
    dprobs = -(2 * target * inverse - score) / len(logits)
    dtarget = -(2 * probs * inverse - score) / len(logits)
    return g * dprobs * probs * (1 - probs), g * dtarget


dice_loss.defvjp(dice_loss_fwd, dice_loss_bwd)


@jax.custom_vjp
def distillation(student, teacher, temperature):
    p = jax.nn.softmax(teacher / temperature, axis=-1)
    log_q = jax.nn.log_softmax(student / temperature, axis=-1)
    return -jnp.einsum("nc,nc->", p, log_q) * temperature**2 / len(student)


def distillation_fwd(student, teacher, temperature):
    return distillation(student, teacher, temperature), (student, teacher, temperature)


def distillation_bwd(res, g):
    student, teacher, temperature = res
    p = jax.nn.softmax(teacher / temperature, axis=-1)
    log_q = jax.nn.log_softmax(student / temperature, axis=-1)
    scale = g * temperature / student.shape[0]
    dstudent = scale * (jnp.exp(log_q) - p)
    dteacher = scale * p * (jnp.sum(p * log_q, axis=-1, keepdims=True) - log_q)
    moved = jnp.vdot(dstudent, student) + jnp.vdot(dteacher, teacher)
    dtemperature = -2 * scale * jnp.sum(p * log_q) - moved / temperature
    return dstudent, dteacher, dtemperature


distillation.defvjp(distillation_fwd, distillation_bwd)


def _views(draw: Draw) -> tuple:
    pairs = draw.rows(5, 3)
    return draw.normal(pairs, 5, scale=0.6), draw.normal(pairs, 5, scale=0.6), draw.normal(scale=0.3)


def _classes(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    return draw.normal(rows, 3), draw.integers(3, rows), 3.0


def _gaussian(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    mask = (draw.signs(rows) + 1) / 2
    return Gaussian(draw.normal(rows, 3), draw.normal(rows, 3)), draw.normal(rows, 3), mask.at[0].set(1)


def _weighted(draw: Draw) -> tuple:
    return 2 * draw.normal(draw.size), draw.normal(draw.size), draw.positive(draw.size)


def _triplets(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    return draw.normal(rows, 3), draw.normal(rows, 3), draw.normal(rows, 3)


def _tokens(draw: Draw) -> tuple:
    batch = draw.rows(15, 2)
    mask = draw.integers(2, batch, 3).at[0, 0].set(1)
    return draw.normal(batch, 3, 5), draw.integers(5, batch, 3), mask


def _masks(draw: Draw) -> tuple:
    batch = draw.rows(15, 2)
    return draw.normal(batch, 3, 5), draw.positive(batch, 3, 5)


def _teacher(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    return draw.normal(rows, 3), draw.normal(rows, 3), 1 + draw.positive()


RULES = (
    Rule("clip_loss", clip_loss, _views),
    Rule("focal_softmax", focal_softmax, _classes),
    Rule("masked_gaussian_nll", masked_gaussian_nll, _gaussian),
    Rule("masked_huber", masked_huber, _weighted),
    Rule("triplet_loss", triplet_loss, _triplets),
    Rule("token_loss", token_loss, _tokens),
    Rule("dice_loss", dice_loss, _masks),
    Rule("distillation", distillation, _teacher),
)
