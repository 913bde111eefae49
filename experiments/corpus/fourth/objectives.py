"""Plain gradients of objectives: matched pairs, survival, an ensemble's score, quantiles of returns."""

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


def normalised(x):
    return x / jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True))


def pairs_loss(images, texts, log_scale):
    """Both ways of an image's text and a text's image, as CLIP's."""
    logits = jnp.exp(log_scale) * normalised(images) @ normalised(texts).T
    rows = jax.nn.log_softmax(logits, axis=1)
    columns = jax.nn.log_softmax(logits, axis=0)
    return -0.5 * jnp.mean(jnp.diagonal(rows) + jnp.diagonal(columns))


def through_norm(x, unit, grad):
    along = jnp.sum(unit * grad, axis=1, keepdims=True)
    return (grad - along * unit) / jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True))


def pairs_gradient(images, texts, log_scale):
    n = images.shape[0]
    u, v = normalised(images), normalised(texts)
    scale = jnp.exp(log_scale)
    logits = scale * u @ v.T
    rows = jax.nn.softmax(logits, axis=1)
    columns = jax.nn.softmax(logits, axis=0)
    dlogits = 0.5 * (rows + columns)
    dlogits = dlogits.at[jnp.arange(n), jnp.arange(n)].add(-1.0) / n
    dimages = through_norm(images, u, scale * dlogits @ v)
    dtexts = through_norm(texts, v, scale * dlogits.T @ u)
    return dimages, dtexts, jnp.sum(dlogits * logits)


def risk_order(times):
    """Those at risk at the k-th time are the first k + 1."""
    return jnp.argsort(-times)


def survival_loss(weights, offsets, features, times, events):
    """Cox's partial likelihood, one subject at a time."""
    order = risk_order(times)
    hazard = (features @ weights + offsets)[order]
    top = hazard.max()
    log_risk = jnp.log(jnp.cumsum(jnp.exp(hazard - top))) + top
    died = events[order].astype(hazard.dtype)
    return -jnp.sum(died * (hazard - log_risk)) / jnp.maximum(died.sum(), 1)


def survival_gradient(weights, offsets, features, times, events):
    order = risk_order(times)
    hazard = (features @ weights + offsets)[order]
    relative = jnp.exp(hazard - hazard.max())
    risk = jnp.cumsum(relative)
    died = events[order].astype(hazard.dtype)
    inverse = died / risk
    later = jnp.cumsum(inverse[::-1])[::-1]
    dsorted = (relative * later - died) / jnp.maximum(died.sum(), 1)
    dhazard = jnp.zeros_like(dsorted).at[order].set(dsorted)
    return features.T @ dhazard, dhazard


def crps_loss(ensemble, observed):
    spread = jnp.abs(ensemble[:, :, None] - ensemble[:, None, :]).mean(axis=(1, 2))
    error = jnp.abs(ensemble - observed[:, None]).mean(axis=1)
    return jnp.mean(error - 0.5 * spread)


def crps_gradient(ensemble, observed):
    """The spread by each member's rank among the members, from the least."""
    n, members = ensemble.shape
    order = jnp.argsort(ensemble, axis=1)
    rank = jnp.argsort(order, axis=1)
    signs = jnp.sign(ensemble - observed[:, None])
    below_less_above = 2 * rank - (members - 1)
    dspread = below_less_above.astype(ensemble.dtype) / members**2
    densemble = (signs / members - dspread) / n
    return densemble, -jnp.sum(signs, axis=1) / (members * n)


def huber(u):
    size = jnp.abs(u)
    return jnp.where(size <= 1, 0.5 * u**2, size - 0.5)


def midpoints(n, dtype):
    return (jnp.arange(n) + 0.5).astype(dtype) / n


def quantile_loss(quantiles, actions, targets):
    """The chosen action's quantiles against every target: (batch, actions, quantiles) and (batch, samples)."""
    chosen = quantiles[jnp.arange(len(actions)), actions]
    errors = targets[:, None, :] - chosen[:, :, None]
    tau = midpoints(chosen.shape[1], chosen.dtype)[:, None]
    tilt = jnp.abs(tau - (errors < 0))
    return jnp.mean(jnp.sum(jnp.mean(tilt * huber(errors), axis=2), axis=1))


def quantile_gradient(quantiles, actions, targets):
    batch, samples = targets.shape
    rows = jnp.arange(batch)
    chosen = quantiles[rows, actions]
    errors = targets[:, None, :] - chosen[:, :, None]
    tau = midpoints(chosen.shape[1], chosen.dtype)[None, :, None]
    tilt = jnp.where(errors < 0, 1 - tau, tau)
    derrors = tilt * jnp.clip(errors, -1, 1) / (samples * batch)
    dquantiles = jnp.zeros_like(quantiles).at[rows, actions].set(-derrors.sum(axis=2))
    return dquantiles, derrors.sum(axis=1)


def _pairs(draw: Draw) -> tuple:
    n = draw.rows(5, 5)
    return draw.normal(n, 5), draw.normal(n, 5), draw.normal()


def _patients(draw: Draw) -> tuple:
    n = draw.rows(2, 7)
    events = jnp.asarray(draw.rng.uniform(size=n) < 0.7).at[0].set(True)
    return draw.normal(2), draw.normal(n), draw.normal(n, 2), draw.positive(n), events


def _ensemble(draw: Draw) -> tuple:
    n = draw.rows(5, 3)
    return draw.normal(n, 5), draw.normal(n)


def _quantiles(draw: Draw) -> tuple:
    n = draw.rows(6, 3)
    return draw.normal(n, 2, 3), draw.integers(2, n), draw.normal(n, 3)


RULES = (
    Rule("pairs", pairs_gradient, _pairs, loss=pairs_loss, argnums=(0, 1, 2)),
    Rule("survival", survival_gradient, _patients, loss=survival_loss, argnums=(0, 1)),
    Rule("crps", crps_gradient, _ensemble, loss=crps_loss, argnums=(0, 1), dtypes=("float32", "float64")),
    Rule("quantiles", quantile_gradient, _quantiles, loss=quantile_loss, argnums=(0, 2)),
)
