"""Right optimizer steps: published formulas, by hand, beside the transformations of optax that compute them.

A step is called with the parameters and a tuple of gradients, one for each step, and returns the last parameters.
``RIGHT`` holds pairs that are the same function over the reals. ``DISPUTED`` holds published formulas that optax 0.2.8
does not compute. ``optimizers_wrong.py`` holds steps with mistakes.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from corpus import optimizers_by_hand as by_hand
from corpus.optimizers_by_hand import B1, B2, DECAY, EPS, MU, RATE

CLIP = 1.5


class Step(NamedTuple):
    """``where`` is the text of the source line of ``given`` that is wrong."""

    name: str
    given: Callable
    reference: Callable
    make_args: Callable[[], tuple]
    where: str = ""


def by_optax(optimizer: Any) -> Callable:
    def steps(p, grads):
        state = optimizer.init(p)
        for g in grads:
            updates, state = optimizer.update(g, state, p)
            p = optax.apply_updates(p, updates)
        return p

    return steps


def draw(*shapes: tuple[int, ...], positive: tuple[int, ...] = (), seed: int = 0) -> tuple:
    """One array a shape, of normal entries; those numbered in ``positive`` are between 0.5 and 1.5."""
    rng = np.random.default_rng([len(shapes), seed])
    return tuple(
        jnp.asarray(rng.uniform(0.5, 1.5, shape) if i in positive else rng.normal(size=shape))
        for i, shape in enumerate(shapes)
    )


def vector(steps: int = 3) -> tuple:
    p, *grads = draw(*[(4,)] * (steps + 1))
    return p, tuple(grads)


def matrix(steps: int = 2) -> tuple:
    p, *grads = draw(*[(2, 3)] * (steps + 1))
    return p, tuple(grads)


def layer(steps: int = 2) -> tuple:
    p, *grads = ({"w": w, "b": b} for w, b in (draw((2, 2), (2,), seed=i) for i in range(steps + 1)))
    return p, tuple(grads)


def moments() -> tuple:
    """Parameters, first and second moments, a gradient."""
    return draw((4,), (4,), (4,), (4,), positive=(2,))


def batch() -> tuple:
    """Parameters, examples, targets."""
    return draw((3,), (6, 3), (6,))


def weights() -> tuple:
    """Four versions of the same parameters."""
    return (draw(*[(4,)] * 4),)


# One expression a quantity, from the moments of two steps ago, as kernels have them.
def adam_fused(p, m, v, g, t=3):
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g * g
    return p - (RATE * (1 - B2**t) ** 0.5 / (1 - B1**t)) * m / (jnp.sqrt(v) + EPS * (1 - B2**t) ** 0.5), m, v


def adamw_fused(p, m, v, g, t=3):
    m, v = m + (1 - B1) * (g - m), v + (1 - B2) * (g * g - v)
    return p * (1 - RATE * DECAY) - RATE / (1 - B1**t) * m / (jnp.sqrt(v) / (1 - B2**t) ** 0.5 + EPS), m, v


def lion_fused(p, m, g, b1=0.9, b2=0.99):
    return p - RATE * (jnp.sign(g + b1 * (m - g)) + DECAY * p), g + b2 * (m - g)


def adam_one_step(p, m, v, g, decay=0.0):
    optimizer: Any = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(decay), optax.scale(-RATE))
    _, *rest = optimizer.init(p)
    state = (optax.ScaleByAdamState(count=jnp.asarray(2, jnp.int32), mu=m, nu=v), *rest)
    updates, (state, *_) = optimizer.update(g, state, p)
    return optax.apply_updates(p, updates), state.mu, state.nu


def lion_one_step(p, m, g):
    optimizer: Any = optax.lion(RATE, weight_decay=DECAY)
    _, *rest = optimizer.init(p)
    state = (optax.ScaleByLionState(count=jnp.asarray(2, jnp.int32), mu=m), *rest)
    updates, (state, *_) = optimizer.update(g, state, p)
    return optax.apply_updates(p, updates), state.mu


def mean_loss(p, x, y):
    return jnp.mean((jnp.tanh(x @ p) - y) ** 2)


def full_batch(p, x, y):
    return p - RATE * jax.grad(mean_loss)(p, x, y)


def accumulated(p, x, y, parts=3):
    total = jnp.zeros_like(p)
    for x_part, y_part in zip(jnp.split(x, parts), jnp.split(y, parts), strict=True):
        total = total + jax.grad(mean_loss)(p, x_part, y_part)
    return p - RATE * total / parts


def accumulated_by_scan(p, x, y, parts=3):
    def add(total, part):
        return total + jax.grad(mean_loss)(p, *part) / parts, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(p), (x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)))
    return p - RATE * total


def accumulated_by_optax(p, x, y, parts=3):
    optimizer = optax.MultiSteps(optax.sgd(RATE), parts, accumulator_dtype=p.dtype)
    state, first = optimizer.init(p), p
    for x_part, y_part in zip(jnp.split(x, parts), jnp.split(y, parts), strict=True):
        updates, state = optimizer.update(jax.grad(mean_loss)(first, x_part, y_part), state, p)
        p = optax.apply_updates(p, updates)
    return p


def clipped(p, grads):
    for g in grads:
        size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)))
        scale = jnp.minimum(1.0, CLIP / size)
        p = jax.tree.map(lambda p, g, scale=scale: p - RATE * scale * g, p, g)
    return p


def clipped_adam(p, grads):
    """Clipped together, then Adam for each leaf."""
    short = []
    for g in grads:
        size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)))
        short.append(jax.tree.map(lambda g, size=size: jnp.where(size < CLIP, g, g * (CLIP / size)), g))
    return by_hand.by_leaf(by_hand.adam)(p, short)


def averaged(versions, decay=0.9):
    mean = versions[0]
    for p in versions[1:]:
        mean = decay * mean + (1 - decay) * p
    return mean


def averaged_by_optax(versions, decay=0.9):
    mean = versions[0]
    for p in versions[1:]:
        mean = optax.incremental_update(p, mean, step_size=1 - decay)
    return mean


def averaged_in_closed_form(versions, decay=0.9):
    """Corrected for the start at zero."""
    last = len(versions) - 1
    return sum((1 - decay) * decay ** (last - i) * p for i, p in enumerate(versions)) / (1 - decay ** len(versions))


def averaged_corrected_by_optax(versions, decay=0.9):
    optimizer = optax.ema(decay, debias=True)
    state = optimizer.init(versions[0])
    mean = versions[0]
    for p in versions:
        mean, state = optimizer.update(p, state)
    return mean


def polyak_by_optax(p, a, b, scaling=1.0, largest=0.3):
    optimizer = optax.polyak_sgd(largest, scaling)
    state = optimizer.init(p)
    for _ in range(2):
        value, g = jax.value_and_grad(lambda p: 0.5 * jnp.sum((a @ p - b) ** 2))(p)
        updates, state = optimizer.update(g, state, p, value=value)
        p = optax.apply_updates(p, updates)
    return p


def first_optimistic_adam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # in favour of the second version
        return optax.optimistic_adam(RATE, nesterov=False)


ADAM, ADAMW = by_optax(optax.adam(RATE)), by_optax(optax.adamw(RATE, weight_decay=DECAY))
MASKED = by_optax(optax.adamw(RATE, weight_decay=DECAY, mask={"w": True, "b": False}))
CLIPPED = by_optax(optax.chain(optax.clip_by_global_norm(CLIP), optax.sgd(RATE)))
LAMB = by_optax(optax.lamb(RATE, weight_decay=DECAY))
GRAVES = optax.rmsprop(RATE, decay=0.95, eps=1e-4, centered=True, momentum=MU)
SMALL = partial(vector, 2)
PROBLEM = partial(draw, (2,), (3, 2), (3,))

RIGHT = (
    Step("sgd", by_hand.sgd, by_optax(optax.sgd(RATE)), vector),
    Step("momentum", by_hand.momentum, by_optax(optax.sgd(RATE, MU)), vector),
    Step("heavy ball", by_hand.heavy_ball, by_optax(optax.sgd(RATE, MU)), vector),
    Step("nesterov", by_hand.nesterov, by_optax(optax.sgd(RATE, MU, nesterov=True)), vector),
    Step("nesterov, lookahead", by_hand.nesterov_lookahead, by_optax(optax.sgd(RATE, MU, nesterov=True)), vector),
    Step("sign_sgd", by_hand.sign_sgd, by_optax(optax.sign_sgd(RATE)), vector),
    Step("signum", by_hand.signum, by_optax(optax.signum(RATE)), vector),
    Step("optimistic", by_hand.optimistic, by_optax(optax.optimistic_gradient_descent(RATE)), vector),
    Step("polyak_sgd", by_hand.polyak, polyak_by_optax, PROBLEM),
    Step("adagrad", by_hand.adagrad, by_optax(optax.adagrad(RATE)), vector),
    Step("adadelta", by_hand.adadelta, by_optax(optax.adadelta(1.0)), vector),
    Step("rmsprop", by_hand.rmsprop, by_optax(optax.rmsprop(RATE)), vector),
    Step("rmsprop, centred", by_hand.rmsprop_graves, by_optax(GRAVES), vector),
    Step("adam", by_hand.adam, ADAM, vector),
    Step("adam, efficient order", by_hand.adam_efficient, ADAM, vector),
    Step("adam of a layer", by_hand.by_leaf(by_hand.adam), ADAM, layer),
    Step("adamw", partial(by_hand.adam, decay=DECAY), ADAMW, vector),
    Step("adamw, shrunk weights", by_hand.adamw_shrunk, ADAMW, vector),
    Step("adamw, masked", by_hand.adamw_masked, MASKED, layer),
    Step("nadam", partial(by_hand.adam, ahead=True), by_optax(optax.nadam(RATE)), vector),
    Step("nadamw", partial(by_hand.adam, decay=1e-4, ahead=True), by_optax(optax.nadamw(RATE)), vector),
    Step("adamax", by_hand.adamax, by_optax(optax.adamax(RATE)), vector),
    Step("adamaxw", partial(by_hand.adamax, decay=1e-4), by_optax(optax.adamaxw(RATE)), vector),
    Step("amsgrad", by_hand.amsgrad, by_optax(optax.amsgrad(RATE)), vector),
    Step(
        "amsgrad, uncorrected",
        by_hand.amsgrad_paper,
        by_optax(optax.amsgrad(RATE, bias_correction_mu=False, bias_correction_nu=False)),
        vector,
    ),
    Step("adabelief", by_hand.adabelief, by_optax(optax.adabelief(RATE)), vector),
    Step("radam", by_hand.radam, by_optax(optax.radam(RATE)), vector),
    Step("radam, rectified", by_hand.radam, by_optax(optax.radam(RATE)), partial(vector, 6)),
    Step("optimistic_adam", by_hand.optimistic_adam, by_optax(first_optimistic_adam()), SMALL),
    Step(
        "optimistic_adam_v2",
        by_hand.optimistic_adam,
        by_optax(optax.optimistic_adam_v2(RATE, nesterov=False)),
        vector,
    ),
    Step("lion", by_hand.lion, by_optax(optax.lion(RATE)), vector),
    Step("fromage", by_hand.by_leaf(by_hand.fromage), by_optax(optax.fromage(RATE)), layer),
    Step("lars", by_hand.by_leaf(by_hand.lars), by_optax(optax.lars(RATE)), layer),
    Step("lamb", by_hand.by_leaf(by_hand.lamb), LAMB, layer),
    Step("novograd", by_hand.novograd, by_optax(optax.novograd(RATE, weight_decay=DECAY)), vector),
    Step("sm3", by_hand.sm3, by_optax(optax.sm3(RATE)), matrix),
    Step("adafactor", by_hand.adafactor, by_optax(optax.adafactor(RATE)), SMALL),
    Step(
        "adafactor, factored",
        by_hand.adafactor,
        by_optax(optax.adafactor(RATE, min_dim_size_to_factor=2)),
        matrix,
    ),
    Step("muon", by_hand.muon, by_optax(contrib.muon(RATE, nesterov=False, eps=0.0)), matrix),
    Step("adam, fused", adam_fused, adam_one_step, moments),
    Step("adamw, fused", adamw_fused, partial(adam_one_step, decay=DECAY), moments),
    Step("lion, fused", lion_fused, lion_one_step, partial(draw, (4,), (4,), (4,))),
    Step("accumulated", accumulated, full_batch, batch),
    Step("accumulated by scan", accumulated_by_scan, full_batch, batch),
    Step("accumulated by optax", accumulated_by_optax, full_batch, batch),
    Step("clipped", clipped, CLIPPED, layer),
    Step(
        "clipped adam",
        clipped_adam,
        by_optax(optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))),
        layer,
    ),
    Step("averaged", averaged, averaged_by_optax, weights),
    Step("averaged in closed form", averaged_in_closed_form, averaged_corrected_by_optax, weights),
)

# What optax computes first, then the published formula.
DISPUTED = (
    Step("adadelta, defaults", by_optax(optax.adadelta()), by_hand.adadelta, vector),
    Step("adan", by_optax(optax.adan(RATE)), by_hand.adan, vector),
    Step("rprop", by_optax(optax.rprop(RATE)), by_hand.rprop, vector),
    Step("yogi", by_optax(optax.yogi(RATE)), by_hand.yogi, vector),
    Step("optimistic_adam_v2, defaults", by_optax(optax.optimistic_adam_v2(RATE)), by_hand.optimistic_adam, vector),
    Step("lars, decayed", by_optax(optax.lars(RATE, DECAY)), by_hand.lars_decayed, vector),
    Step("muon, nesterov", by_optax(contrib.muon(RATE, eps=0.0)), partial(by_hand.muon, ahead=True), matrix),
    Step("polyak_sgd, scaled", partial(polyak_by_optax, scaling=0.5), partial(by_hand.polyak, scaling=0.5), PROBLEM),
)
