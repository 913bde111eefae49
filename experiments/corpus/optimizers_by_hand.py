"""Optimizer steps by hand, each from its paper: the parameters and a tuple of gradients to the last parameters."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

RATE, DECAY, MU = 0.1, 0.05, 0.9
B1, B2, EPS = 0.9, 0.999, 1e-8


def norm(x):
    return jnp.sqrt(jnp.sum(x * x))


def by_leaf(step: Callable) -> Callable:
    """The step of one array, taken for every leaf by itself: what is called layer-wise."""
    return lambda p, grads: jax.tree.map(lambda p, *grads: step(p, grads), p, *grads)


def sgd(p, grads):
    for g in grads:
        p = p - RATE * g
    return p


def momentum(p, grads):
    m = jnp.zeros_like(p)
    for g in grads:
        m = MU * m + g
        p = p - RATE * m
    return p


def heavy_ball(p, grads):
    """Polyak's form, which keeps the last parameters and no velocity."""
    last = p
    for g in grads:
        p, last = p - RATE * g + MU * (p - last), p
    return p


def nesterov(p, grads):
    m = jnp.zeros_like(p)
    for g in grads:
        m = MU * m + g
        p = p - RATE * (g + MU * m)
    return p


def nesterov_lookahead(p, grads):
    """Sutskever's form: the gradients are those at the point ahead, which is what is returned."""
    velocity = jnp.zeros_like(p)
    for g in grads:
        theta = p - MU * velocity
        velocity = MU * velocity - RATE * g
        p = theta + velocity + MU * velocity
    return p


def sign_sgd(p, grads):
    for g in grads:
        p = p - RATE * jnp.sign(g)
    return p


def signum(p, grads):
    m = jnp.zeros_like(p)
    for g in grads:
        m = MU * m + (1 - MU) * g
        p = p - RATE * jnp.sign(m)
    return p


def optimistic(p, grads):
    last = grads[0]
    for g in grads:
        p, last = p - 2 * RATE * g + RATE * last, g
    return p


def polyak(p, a, b, scaling=1.0, largest=0.3):
    """For least squares, whose least value is taken to be zero. As in optax the rate is 0 where the gradient is, and
    not ``0 / 0``."""
    for _ in range(2):
        residual = a @ p - b
        value, g = 0.5 * residual @ residual, a.T @ residual
        square = g @ g
        size = jnp.where(square > jnp.finfo(float).eps, value / square, 0.0)
        p = p - scaling * jnp.minimum(size, largest) * g
    return p


def adagrad(p, grads, initial=0.1, eps=1e-7):
    s = jnp.full_like(p, initial)
    for g in grads:
        s = s + g**2
        p = p - RATE * g / jnp.sqrt(s + eps)
    return p


def adadelta(p, grads, rho=0.9, eps=1e-6):
    square = delta = jnp.zeros_like(p)
    for g in grads:
        square = rho * square + (1 - rho) * g**2
        u = jnp.sqrt(delta + eps) / jnp.sqrt(square + eps) * g
        delta = rho * delta + (1 - rho) * u**2
        p = p - u
    return p


def rmsprop(p, grads, rho=0.9):
    v = jnp.zeros_like(p)
    for g in grads:
        v = rho * v + (1 - rho) * g**2
        p = p - RATE * g / jnp.sqrt(v + EPS)
    return p


def rmsprop_graves(p, grads, rho=0.95, eps=1e-4):
    m = v = velocity = jnp.zeros_like(p)
    for g in grads:
        v = rho * v + (1 - rho) * g**2
        m = rho * m + (1 - rho) * g
        velocity = MU * velocity - RATE * g / jnp.sqrt(v - m**2 + eps)
        p = p + velocity
    return p


def adam(p, grads, decay=0.0, ahead=False):
    """Adam, and with their arguments AdamW, Nadam and NadamW."""
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        mean = m / (1 - B1**t)
        if ahead:
            mean = B1 * m / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)
        p = p - RATE * (mean / (jnp.sqrt(v / (1 - B2**t)) + EPS) + decay * p)
    return p


def adam_efficient(p, grads):
    """The order of computation at the end of section 2 of the paper, where the rate takes both corrections."""
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = m + (1 - B1) * (g - m)
        v = v + (1 - B2) * (g * g - v)
        scaled = RATE * math.sqrt(1 - B2**t) / (1 - B1**t)
        p = p - scaled * m / (jnp.sqrt(v) + EPS * math.sqrt(1 - B2**t))
    return p


def adamw_shrunk(p, grads):
    """Decoupled decay as a factor of the weights before the step."""
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        p = p * (1 - RATE * DECAY)
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
    return p


def adamw_masked(p, grads):
    w, b = (tuple(g[name] for g in grads) for name in ("w", "b"))
    return {"w": adam(p["w"], w, decay=DECAY), "b": adam(p["b"], b)}


def adamax(p, grads, decay=0.0):
    m = u = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        u = jnp.maximum(B2 * u, jnp.abs(g) + EPS)
        p = p - RATE * (m / (1 - B1**t) / u + decay * p)
    return p


def amsgrad_paper(p, grads):
    m = v = largest = jnp.zeros_like(p)
    for g in grads:
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        largest = jnp.maximum(largest, v)
        p = p - RATE * m / (jnp.sqrt(largest) + EPS)
    return p


def amsgrad(p, grads):
    m = v = largest = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        largest = jnp.maximum(largest, v / (1 - B2**t))
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(largest) + EPS)
    return p


def adabelief(p, grads, eps=1e-16):
    m = s = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        s = B2 * s + (1 - B2) * (g - m) ** 2 + eps
        p = p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(s / (1 - B2**t)) + eps)
    return p


def radam(p, grads, threshold=5.0):
    m = v = jnp.zeros_like(p)
    limit = 2 / (1 - B2) - 1
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        mean = m / (1 - B1**t)
        rho = limit - 2 * t * B2**t / (1 - B2**t)
        if rho >= threshold:
            r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            p = p - RATE * r * mean / (jnp.sqrt(v / (1 - B2**t)) + EPS)
        else:
            p = p - RATE * mean
    return p


def optimistic_adam(p, grads):
    m = v = jnp.zeros_like(p)
    last = None
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        r = m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
        p = p - RATE * r - RATE * (r - (r if last is None else last))
        last = r
    return p


def lion(p, grads, b1=0.9, b2=0.99, decay=1e-3):
    m = jnp.zeros_like(p)
    for g in grads:
        p = p - RATE * (jnp.sign(b1 * m + (1 - b1) * g) + decay * p)
        m = b2 * m + (1 - b2) * g
    return p


def fromage(p, grads, least=1e-6):
    """With the least norm of optax, without which the step differs where all entries are about a millionth."""
    for g in grads:
        ratio = jnp.maximum(norm(p), least) / jnp.maximum(norm(g), least)
        p = (p - RATE * ratio * g) / math.sqrt(1 + RATE**2)
    return p


def lars(p, grads, trust=0.001):
    velocity = jnp.zeros_like(p)
    for g in grads:
        velocity = MU * velocity + RATE * trust * norm(p) / norm(g) * g
        p = p - velocity
    return p


def lamb(p, grads, eps=1e-6):
    m = v = jnp.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        u = m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + eps) + DECAY * p
        p = p - RATE * norm(p) / norm(u) * u
    return p


def novograd(p, grads, b2=0.25, eps=1e-6):
    m, v = jnp.zeros_like(p), jnp.sum(grads[0] ** 2)
    for t, g in enumerate(grads):
        v = b2 * v + (1 - b2) * jnp.sum(g**2) if t else v
        m = B1 * m + (g / (jnp.sqrt(v) + eps) + DECAY * p)
        p = p - RATE * m
    return p


def sm3(p, grads):
    """SM3-II where the cover of a matrix is its rows and columns."""
    rows, columns, m = jnp.zeros(p.shape[0]), jnp.zeros(p.shape[1]), jnp.zeros_like(p)
    for g in grads:
        nu = jnp.minimum(rows[:, None], columns[None, :]) + g**2
        rows, columns = nu.max(axis=1), nu.max(axis=0)
        m = MU * m + (1 - MU) * g / jnp.sqrt(nu + EPS)
        p = p - RATE * m
    return p


def adafactor(p, grads, eps=1e-30, least=1e-3):
    v = jnp.zeros_like(p)
    rows, columns = jnp.zeros(p.shape[0]), jnp.zeros(p.shape[-1])
    for t, g in enumerate(grads, 1):
        b2 = 1 - jnp.float32(t) ** -0.8  # in float32, as the library keeps its schedule
        if p.ndim == 2:
            rows = b2 * rows + (1 - b2) * jnp.sum(g**2 + eps, axis=1)
            columns = b2 * columns + (1 - b2) * jnp.sum(g**2 + eps, axis=0)
            v = rows[:, None] * columns[None, :] / rows.sum()
        else:
            v = b2 * v + (1 - b2) * (g**2 + eps)
        u = g / jnp.sqrt(v)
        u = u / jnp.maximum(1.0, jnp.sqrt(jnp.mean(u**2)))
        p = p - RATE * jnp.maximum(least, jnp.sqrt(jnp.mean(p**2))) * u
    return p


def muon(p, grads, mu=0.95, coefficients=(3.4445, -4.7750, 2.0315), ahead=False):
    """Momentum made orthogonal by five iterations of Newton and Schulz; a matrix no taller than wide."""
    one, three, five = coefficients
    m = jnp.zeros_like(p)
    for g in grads:
        m = mu * m + (1 - mu) * g
        x = mu * m + (1 - mu) * g if ahead else m
        x = x / norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = one * x + (three * gram + five * gram @ gram) @ x
        p = p - RATE * math.sqrt(max(1, p.shape[1] / p.shape[0])) * x
    return p


def adan(p, grads, b1=0.02, b2=0.08, b3=0.01):
    """Of the paper, whose betas are one minus those of its code; the code divides the averages by their weights."""
    m = v = n = jnp.zeros_like(p)
    last = grads[0]
    for t, g in enumerate(grads, 1):
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * (g - last)
        n = (1 - b3) * n + b3 * (g + (1 - b2) * (g - last)) ** 2
        w1, w2, w3 = (1 - (1 - b) ** t for b in (b1, b2, b3))
        p = p - RATE * (m / w1 + (1 - b2) * v / w2) / (jnp.sqrt(n / w3 + EPS) + EPS)
        last = g
    return p


def yogi(p, grads, initial=1e-6, eps=1e-3):
    m, v = jnp.zeros_like(p), jnp.full_like(p, initial)
    for t, g in enumerate(grads, 1):
        m = B1 * m + (1 - B1) * g
        v = v - (1 - B2) * jnp.sign(v - g**2) * g**2
        p = p - RATE * m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + eps)
    return p


def rprop(p, grads, less=0.5, more=1.2, least=1e-6, largest=50.0):
    """The variant without backtracking, where an entry waits one step after its gradient changes sign."""
    size, last = jnp.full_like(p, RATE), jnp.zeros_like(p)
    for g in grads:
        grown = jnp.clip(size * jnp.where(last * g > 0, more, less), least, largest)
        size = jnp.where(last * g == 0, size, grown)
        last = jnp.where(last * g < 0, 0.0, g)
        p = p - size * jnp.sign(last)
    return p


def lars_decayed(p, grads, trust=0.001):
    velocity = jnp.zeros_like(p)
    for g in grads:
        local = trust * norm(p) / (norm(g) + DECAY * norm(p))
        velocity = MU * velocity + RATE * local * (g + DECAY * p)
        p = p - velocity
    return p
