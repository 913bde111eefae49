"""Fields on grids: two steppers with their adjoints, an image sampled, a closed spline, pooling by position."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule

STEPS = 4
DT = 0.2


def laplacian(u):
    """Five points; nothing flows across the border."""
    p = jnp.pad(u, 1, mode="edge")
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u


@jax.custom_vjp
def diffuse(field, kappa):
    return lax.fori_loop(0, STEPS, lambda _, u: u + DT * kappa * laplacian(u), field)


def diffuse_fwd(field, kappa):
    def body(t, carry):
        u, history = carry
        history = history.at[t].set(u)
        return u + DT * kappa * laplacian(u), history

    history = jnp.zeros((STEPS, *field.shape), field.dtype)
    out, history = lax.fori_loop(0, STEPS, body, (field, history))
    return out, (kappa, history)


def diffuse_bwd(res, g):
    kappa, history = res

    def body(i, carry):
        lam, dkappa = carry
        t = STEPS - 1 - i
        dkappa = dkappa + DT * lam * laplacian(history[t])
        lam = lam + DT * laplacian(kappa * lam)
        return lam, dkappa

    return lax.fori_loop(0, STEPS, body, (g, jnp.zeros_like(kappa)))


diffuse.defvjp(diffuse_fwd, diffuse_bwd)


def second_difference(u):
    """The ends are held at zero."""
    p = jnp.pad(u, 1)
    return p[2:] - 2 * u + p[:-2]


def propagate(speed, wavelet, shot, receivers):
    c2 = (speed * DT * 5) ** 2

    def step(carry, s):
        before, now = carry
        after = 2 * now - before + c2 * second_difference(now)
        after = after.at[shot].add(s)
        return (now, after), (after[receivers], now)

    rest = jnp.zeros_like(speed)
    _, (traces, fields) = lax.scan(step, (rest, rest), wavelet)
    return traces, fields


@jax.custom_vjp
def wave_traces(speed, wavelet, shot, receivers):
    """What the receivers record of a shot, as in full waveform inversion."""
    return propagate(speed, wavelet, shot, receivers)[0]


def wave_traces_fwd(speed, wavelet, shot, receivers):
    traces, fields = propagate(speed, wavelet, shot, receivers)
    return traces, (speed, shot, receivers, fields)


def wave_traces_bwd(res, g):
    speed, shot, receivers, fields = res
    c2 = (speed * DT * 5) ** 2

    def step(carry, at):
        dnow, dafter, dc2 = carry
        now, residual = at
        dafter = dafter.at[receivers].add(residual)
        dc2 = dc2 + dafter * second_difference(now)
        dearlier = dnow + 2 * dafter + second_difference(c2 * dafter)
        return (-dafter, dearlier, dc2), dafter[shot]

    rest = jnp.zeros_like(speed)
    (_, _, dc2), dwavelet = lax.scan(step, (rest, rest, rest), (fields, g), reverse=True)
    return 2 * dc2 * speed * (5 * DT) ** 2, dwavelet, None, None


wave_traces.defvjp(wave_traces_fwd, wave_traces_bwd)


def corners(shape, points):
    """Row and column of the cell's first corner, and how far in the point lies."""
    height, width = shape
    i = jnp.clip(jnp.floor(points[:, 0]).astype(jnp.int32), 0, height - 2)
    j = jnp.clip(jnp.floor(points[:, 1]).astype(jnp.int32), 0, width - 2)
    return i, j, points[:, 0] - i.astype(points.dtype), points[:, 1] - j.astype(points.dtype)


@jax.custom_vjp
def sample_image(image, points):
    i, j, u, v = corners(image.shape, points)
    flat, width = image.ravel(), image.shape[1]
    top = (1 - v) * flat[i * width + j] + v * flat[i * width + j + 1]
    bottom = (1 - v) * flat[(i + 1) * width + j] + v * flat[(i + 1) * width + j + 1]
    return (1 - u) * top + u * bottom


def sample_image_fwd(image, points):
    return sample_image(image, points), (image, points)


def sample_image_bwd(res, g):
    image, points = res
    height, width = image.shape
    i, j, u, v = corners((height, width), points)
    a = i * width + j
    b, c, d = a + 1, a + width, a + width + 1
    flat = image.ravel()
    dflat = jnp.zeros_like(flat)
    dflat = dflat.at[a].add(g * (1 - u) * (1 - v))
    dflat = dflat.at[b].add(g * (1 - u) * v)
    dflat = dflat.at[c].add(g * u * (1 - v))
    dflat = dflat.at[d].add(g * u * v)
    du = (1 - v) * (flat[c] - flat[a]) + v * (flat[d] - flat[b])
    dv = (1 - u) * (flat[b] - flat[a]) + u * (flat[d] - flat[c])
    return dflat.reshape(height, width), jnp.stack([g * du, g * dv], axis=1)


sample_image.defvjp(sample_image_fwd, sample_image_bwd)


def basis(u):
    """The four cubic pieces a uniform B-spline has in one cell."""
    return jnp.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6


def basis_slope(u):
    return jnp.stack([-((1 - u) ** 2), 3 * u**2 - 4 * u, -3 * u**2 + 2 * u + 1, u**2]) / 2


def cell_of(t):
    cell = jnp.floor(t)
    return cell.astype(jnp.int32), t - cell


@jax.custom_vjp
def closed_spline(control, t):
    n = len(control)
    cell, u = cell_of(t)
    weights = basis(u)
    return sum(weights[k, :, None] * control[(cell + k - 1) % n] for k in range(4))


def closed_spline_fwd(control, t):
    return closed_spline(control, t), (control, t)


def closed_spline_bwd(res, g):
    control, t = res
    n = len(control)
    cell, u = cell_of(t)
    weights, slopes = basis(u), basis_slope(u)

    def piece(k, carry):
        dcontrol, dt = carry
        index = (cell + k - 1) % n
        dcontrol = dcontrol.at[index].add(weights[k, :, None] * g)
        dt = dt + slopes[k] * jnp.sum(control[index] * g, axis=1)
        return dcontrol, dt

    return lax.fori_loop(0, 4, piece, (jnp.zeros_like(control), jnp.zeros_like(t)))


closed_spline.defvjp(closed_spline_fwd, closed_spline_bwd)

TALL, WIDE = 2, 3


def windows(x):
    rows, cols = x.shape[0] // TALL, x.shape[1] // WIDE
    return x.reshape(rows, TALL, cols, WIDE).swapaxes(1, 2).reshape(rows, cols, TALL * WIDE)


@jax.custom_vjp
def max_pool(x):
    cells = windows(x)
    best = jnp.argmax(cells, axis=-1)
    return jnp.take_along_axis(cells, best[..., None], axis=-1)[..., 0]


def max_pool_fwd(x):
    cells = windows(x)
    best = jnp.argmax(cells, axis=-1)
    return jnp.take_along_axis(cells, best[..., None], axis=-1)[..., 0], (x, best)


def max_pool_bwd(res, g):
    x, best = res
    rows, cols = best.shape
    r = TALL * jnp.arange(rows)[:, None] + best // WIDE
    c = WIDE * jnp.arange(cols)[None, :] + best % WIDE
    return (jnp.zeros_like(x).at[r, c].set(g),)


max_pool.defvjp(max_pool_fwd, max_pool_bwd)


def _diffuse(draw: Draw) -> tuple:
    rows = draw.rows(5, 3)
    return draw.normal(rows, 5), draw.positive(rows, 5)


def _shot(draw: Draw) -> tuple:
    n = draw.rows(1, 9)
    middle = jnp.asarray(n // 2, jnp.int32)
    return draw.positive(n), draw.normal(9), middle, middle - 2 + draw.integers(5, 3)


def _image(draw: Draw) -> tuple:
    rows = draw.rows(5, 3)
    far = jnp.asarray([rows - 1.0, 4.0], draw.dtype)
    return draw.normal(rows, 5), draw.positive(11, 2) * far


def _curve(draw: Draw) -> tuple:
    n = draw.rows(2, 5)
    return draw.normal(n, 2), n * draw.positive(9)


def _pool(draw: Draw) -> tuple:
    return (draw.normal(TALL * draw.rows(12, 2), 2 * WIDE),)


RULES = (
    Rule("diffuse", diffuse, _diffuse),
    Rule("wave_traces", wave_traces, _shot),
    Rule("sample_image", sample_image, _image),
    Rule("closed_spline", closed_spline, _curve),
    Rule("tall_max_pool", max_pool, _pool),
)
