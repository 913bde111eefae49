"""Optimizer steps with one wrong line each, as people write them, beside the right ones."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from corpus import optimizers as right
from corpus.optimizers import Step, by_optax, layer, vector
from corpus.optimizers_by_hand import B1, B2, DECAY, EPS, MU, RATE, norm

LARGE_EPS = 0.1
CLIP = right.CLIP


def short() -> tuple:
    """Gradients that need no clipping."""
    p, grads = layer()
    return p, jax.tree.map(lambda g: 0.3 * g, grads)


def turning() -> tuple:
    """Gradients that turn back by less than a tenth, where momenta of different weights have different signs."""
    p, (g,) = vector(1)
    return p, (g, -0.086 * g)


def opposed() -> tuple:
    """A small momentum against the gradient."""
    p, g = right.draw((4,), (4,))
    return p, -0.05 * g, g


def adam_eps_in_root(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        m_hat, v_hat = m / (1 - B1**t), v / (1 - B2**t)
        p = p - RATE * m_hat / jnp.sqrt(v_hat + LARGE_EPS)
    return p


def adam_eps_unscaled(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        scaled = RATE * (1 - B2**t) ** 0.5 / (1 - B1**t)
        p = p - scaled * m / (jnp.sqrt(v) + LARGE_EPS)
    return p


def rmsprop_eps_outside(p, grads, rho=0.9):
    v = jnp.zeros_like(p)
    for g in grads:
        v = rho * v + (1 - rho) * g**2
        p = p - RATE * g / (jnp.sqrt(v) + LARGE_EPS)
    return p


def adam_weight_of_square(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = (1 - B2) * v + B2 * g**2
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def adam_uncorrected(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        v_hat = v / (1 - B2**t)
        p = p - RATE * m / (jnp.sqrt(v_hat) + EPS)
    return p


def adam_count_ahead(p, grads):
    m = v = jnp.zeros_like(p)
    t = 1
    for g in grads:
        t = t + 1
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def adam_fused_count_behind(p, m, v, g, count=2):
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g * g
    m_hat, v_hat = m / (1 - B1 ** (count + 1)), v / (1 - B2**count)
    return p - RATE * m_hat / (jnp.sqrt(v_hat) + EPS), m, v


def adam_ascends(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        p = p + RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def adamw_decay_after(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
        p = p - RATE * DECAY * p
    return p


def adamw_l2(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = g + DECAY * p
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def adamw_decay_without_rate(p, m, v, g, t=3):
    m, v = m + (1 - B1) * (g - m), v + (1 - B2) * (g * g - v)
    return p * (1 - DECAY) - RATE / (1 - B1**t) * m / (jnp.sqrt(v / (1 - B2**t)) + EPS), m, v


def adamw_mask_inverted(p, grads):
    m = v = jax.tree.map(jnp.zeros_like, p)
    for t, g in enumerate(grads, 1):
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g**2, v, g)
        u = jax.tree.map(lambda m, v, t=t: m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + EPS), m, v)
        u = {name: u[name] + DECAY * p[name] if p[name].ndim < 2 else u[name] for name in p}
        p = jax.tree.map(lambda p, u: p - RATE * u, p, u)
    return p


def heavy_ball_of_updated(p, grads):
    before = p
    for g in grads:
        after = p - RATE * g + MU * (p - before)
        before = after
        p = after
    return p


def nesterov_forgotten(p, grads):
    m = jnp.zeros_like(p)
    for g in grads:
        m = g + MU * m
        p = p - RATE * m
    return p


def nadam_not_ahead(p, grads):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        mean = (B1 * m + (1 - B1) * g) / (1 - B1**t)
        p = p - RATE * mean / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def lion_betas_swapped(p, m, g, b1=0.9, b2=0.99):
    direction = jnp.sign(b2 * m + (1 - b2) * g)
    return p - RATE * (direction + DECAY * p), b2 * m + (1 - b2) * g


def lion_momentum_first(p, grads, b1=0.9, b2=0.99, decay=1e-3):
    m = jnp.zeros_like(p)
    for g in grads:
        m = b2 * m + (1 - b2) * g
        p = p - RATE * (jnp.sign(b1 * m + (1 - b1) * g) + decay * p)
    return p


def accumulated_sum(p, x, y, parts=3):
    total = jnp.zeros_like(p)
    for x_part, y_part in zip(jnp.split(x, parts), jnp.split(y, parts), strict=True):
        total = total + jax.grad(right.mean_loss)(p, x_part, y_part)
    return p - RATE * total


def accumulated_unequal(p, x, y):
    """The last microbatch is smaller, and counts as much as the others."""
    cuts, total = (2, 4, 5), jnp.zeros_like(p)
    parts = list(zip(jnp.split(x, cuts), jnp.split(y, cuts), strict=True))
    for x_part, y_part in parts:
        total = total + jax.grad(right.mean_loss)(p, x_part, y_part) / len(parts)
    return p - RATE * total


def clipped_by_leaf(p, grads):
    for g in grads:
        scales = jax.tree.map(lambda leaf: jnp.minimum(1.0, CLIP / norm(leaf)), g)
        p = jax.tree.map(lambda p, g, scale: p - RATE * scale * g, p, g, scales)
    return p


def clipped_always(p, grads):
    for g in grads:
        size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)))
        scale = CLIP / size
        p = jax.tree.map(lambda p, g, scale=scale: p - RATE * scale * g, p, g)
    return p


def amsgrad_largest_uncorrected(p, grads):
    m = v = largest = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        largest = jnp.maximum(largest, v)
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(largest / (1 - B2**t)) + EPS)
    return p


def adamax_decays_gradient(p, grads, b2=0.9):
    m = u = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        u = b2 * jnp.maximum(u, jnp.abs(g) + EPS)
        p = p - RATE * m / (1 - B1**t) / u
    return p


def adagrad_from_zero(p, grads, eps=1e-7):
    s = jnp.zeros_like(p)
    for g in grads:
        s = s + g**2
        p = p - RATE * g / jnp.sqrt(s + eps)
    return p


def adadelta_of_gradients(p, grads, rho=0.9, eps=1e-6):
    square = delta = jnp.zeros_like(p)
    for g in grads:
        square = rho * square + (1 - rho) * g**2
        u = jnp.sqrt(delta + eps) / jnp.sqrt(square + eps) * g
        delta = rho * delta + (1 - rho) * g**2
        p = p - u
    return p


def adabelief_of_old_mean(p, grads, eps=1e-16):
    m = s = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        surprise = g - m
        m = B1 * m + (1 - B1) * g
        s = B2 * s + (1 - B2) * surprise**2 + eps
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(s / (1 - B2**t)) + eps)
    return p


def lamb_norm_of_gradient(p, grads, eps=1e-6):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        u = m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + eps) + DECAY * p
        trust = norm(p) / norm(g)
        p = p - RATE * trust * u
    return p


def averaged_swapped(versions, decay=0.9):
    mean = versions[0]
    for p in versions[1:]:
        mean = (1 - decay) * mean + decay * p
    return mean


ROUGH_ADAM = by_optax(optax.adam(RATE, eps=LARGE_EPS))
ROUGH_RMSPROP = by_optax(optax.rmsprop(RATE, eps=LARGE_EPS))
NESTEROV = by_optax(optax.sgd(RATE, MU, nesterov=True))
FAST_ADAMAX = by_optax(optax.adamax(RATE, b2=0.9))
ADAMW_ONE_STEP = partial(right.adam_one_step, decay=DECAY)

# Functions whose names say what is wrong, the right ones, the arguments, the wrong line.
TABLE = (
    (adam_eps_in_root, ROUGH_ADAM, vector, "p = p - RATE * m_hat / jnp.sqrt(v_hat + LARGE_EPS)"),
    (adam_eps_unscaled, ROUGH_ADAM, vector, "p = p - scaled * m / (jnp.sqrt(v) + LARGE_EPS)"),
    (rmsprop_eps_outside, ROUGH_RMSPROP, vector, "p = p - RATE * g / (jnp.sqrt(v) + LARGE_EPS)"),
    (adam_weight_of_square, right.ADAM, vector, "v = (1 - B2) * v + B2 * g**2"),
    (adam_uncorrected, right.ADAM, vector, "p = p - RATE * m / (jnp.sqrt(v_hat) + EPS)"),
    (adam_count_ahead, right.ADAM, vector, "t = t + 1"),
    (
        adam_fused_count_behind,
        right.adam_one_step,
        right.moments,
        "m_hat, v_hat = m / (1 - B1 ** (count + 1)), v / (1 - B2**count)",
    ),
    (adam_ascends, right.ADAM, vector, "p = p + RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)"),
    (adamw_decay_after, right.ADAMW, vector, "p = p - RATE * DECAY * p"),
    (adamw_l2, right.ADAMW, vector, "g = g + DECAY * p"),
    (
        adamw_decay_without_rate,
        ADAMW_ONE_STEP,
        right.moments,
        "return p * (1 - DECAY) - RATE / (1 - B1**t) * m / (jnp.sqrt(v / (1 - B2**t)) + EPS), m, v",
    ),
    (
        adamw_mask_inverted,
        right.MASKED,
        layer,
        "u = {name: u[name] + DECAY * p[name] if p[name].ndim < 2 else u[name] for name in p}",
    ),
    (heavy_ball_of_updated, by_optax(optax.sgd(RATE, MU)), vector, "before = after"),
    (nesterov_forgotten, NESTEROV, vector, "p = p - RATE * m"),
    (nadam_not_ahead, by_optax(optax.nadam(RATE)), vector, "mean = (B1 * m + (1 - B1) * g) / (1 - B1**t)"),
    (lion_betas_swapped, right.lion_one_step, opposed, "direction = jnp.sign(b2 * m + (1 - b2) * g)"),
    (lion_momentum_first, by_optax(optax.lion(RATE)), turning, "m = b2 * m + (1 - b2) * g"),
    (accumulated_sum, right.full_batch, right.batch, "return p - RATE * total"),
    (
        accumulated_unequal,
        right.full_batch,
        right.batch,
        "total = total + jax.grad(right.mean_loss)(p, x_part, y_part) / len(parts)",
    ),
    (
        clipped_by_leaf,
        right.CLIPPED,
        layer,
        "scales = jax.tree.map(lambda leaf: jnp.minimum(1.0, CLIP / norm(leaf)), g)",
    ),
    (clipped_always, right.CLIPPED, short, "scale = CLIP / size"),
    (amsgrad_largest_uncorrected, by_optax(optax.amsgrad(RATE)), vector, "largest = jnp.maximum(largest, v)"),
    (adamax_decays_gradient, FAST_ADAMAX, vector, "u = b2 * jnp.maximum(u, jnp.abs(g) + EPS)"),
    (adagrad_from_zero, by_optax(optax.adagrad(RATE)), vector, "s = jnp.zeros_like(p)"),
    (adadelta_of_gradients, by_optax(optax.adadelta(1.0)), vector, "delta = rho * delta + (1 - rho) * g**2"),
    (adabelief_of_old_mean, by_optax(optax.adabelief(RATE)), vector, "surprise = g - m"),
    (lamb_norm_of_gradient, by_optax(optax.lamb(RATE, weight_decay=DECAY)), vector, "trust = norm(p) / norm(g)"),
    (averaged_swapped, right.averaged_by_optax, right.weights, "mean = (1 - decay) * mean + decay * p"),
)


def _step(given: Any, reference: Any, make_args: Any, where: Any) -> Step:
    return Step(given.__name__.replace("_", " "), given, reference, make_args, where)


WRONG = tuple(_step(*row) for row in TABLE)
