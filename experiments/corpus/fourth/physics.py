"""Energies and motions: charges in a trap, a cloth, light along rays, oscillators by Runge and Kutta."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule

SOFT = 0.3


def trap_energy(positions, charges):
    offsets = positions[:, None] - positions[None, :]
    near = 1 / jnp.sqrt(jnp.sum(offsets**2, axis=-1) + SOFT)
    pairs = jnp.triu(charges[:, None] * charges[None, :] * near, k=1)
    return pairs.sum() + 0.5 * jnp.sum(positions**2)


def trap_gradient(positions, charges):
    """Pair by pair, each pair once."""
    n = len(positions)

    def row(i, carry):
        def pair(j, carry):
            dpositions, dcharges = carry
            offset = positions[i] - positions[j]
            near = lax.rsqrt(jnp.dot(offset, offset) + SOFT)
            push = -charges[i] * charges[j] * near**3 * offset
            dpositions = dpositions.at[i].add(push)
            dpositions = dpositions.at[j].add(-push)
            dcharges = dcharges.at[i].add(charges[j] * near)
            dcharges = dcharges.at[j].add(charges[i] * near)
            return dpositions, dcharges

        return lax.fori_loop(i + 1, n, pair, carry)

    return lax.fori_loop(0, n - 1, row, (positions, jnp.zeros_like(charges)))


COLUMNS = 3
LINKS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2.0))  # rows down, columns right, the square of the length at rest
GRAVITY = 0.4


def cloth_energy(positions, stiffness):
    grid = positions.reshape(-1, COLUMNS, 3)
    rows = len(grid)
    strain = 0.0
    for down, right, rest in LINKS:
        offset = grid[down:, right:] - grid[: rows - down, : COLUMNS - right]
        strain = strain + jnp.sum((jnp.sum(offset**2, axis=-1) - rest) ** 2)
    return 0.25 * stiffness * strain + GRAVITY * jnp.sum(positions[:, 2])


def cloth_gradient(positions, stiffness):
    here = jnp.arange(len(positions))
    rows = len(positions) // COLUMNS
    row, column = here // COLUMNS, here % COLUMNS
    dpositions, strain = jnp.zeros_like(positions), 0.0
    for down, right, rest in LINKS:
        linked = (row + down < rows) & (column + right < COLUMNS)
        there = jnp.where(linked, here + down * COLUMNS + right, here)
        offset = positions[there] - positions[here]
        stretch = jnp.where(linked, jnp.sum(offset**2, axis=1) - rest, 0.0)
        strain = strain + jnp.sum(stretch**2)
        force = stiffness * stretch[:, None] * offset
        dpositions = dpositions.at[there].add(force)
        dpositions = dpositions.at[here].add(-force)
    return dpositions.at[:, 2].add(GRAVITY), 0.25 * strain


@jax.custom_vjp
def render_rays(density, colour, spacing, background):
    """Emission and absorption along each ray, front to back."""
    depth = density * spacing
    passed = jnp.exp(-jnp.cumsum(depth, axis=1))
    reached = jnp.concatenate([jnp.ones_like(passed[:, :1]), passed[:, :-1]], axis=1)
    weights = reached * (1 - jnp.exp(-depth))
    return jnp.einsum("rs,rsc->rc", weights, colour) + passed[:, -1:] * background


def render_rays_fwd(density, colour, spacing, background):
    return render_rays(density, colour, spacing, background), (density, colour, spacing, background)


def render_rays_bwd(res, g):
    density, colour, spacing, background = res
    depth = density * spacing
    reached = jnp.exp(depth - jnp.cumsum(depth, axis=1))
    kept = jnp.exp(-depth)
    ddepth, dcolour = jnp.zeros_like(depth), jnp.zeros_like(colour)
    behind = jnp.broadcast_to(background, g.shape)
    for s in reversed(range(depth.shape[1])):
        change = jnp.sum(g * (colour[:, s] - behind), axis=1)
        ddepth = ddepth.at[:, s].set(reached[:, s] * kept[:, s] * change)
        dcolour = dcolour.at[:, s].set((reached[:, s] * (1 - kept[:, s]))[:, None] * g)
        behind = (1 - kept[:, s])[:, None] * colour[:, s] + kept[:, s][:, None] * behind
    dbackground = (reached[:, -1] * kept[:, -1]) @ g
    return ddepth * spacing, dcolour, ddepth * density, dbackground


render_rays.defvjp(render_rays_fwd, render_rays_bwd)

H = 0.25
STEPS = 3


def duffing(params, state):
    q, p = state
    return p, -params["linear"] * q - params["cubic"] * q**3 - params["drag"] * p


def duffing_pullback(params, state, ct):
    """Cotangents of the state and of the parameters."""
    q, p = state
    dq, dp = ct
    grads = {"linear": -jnp.vdot(dp, q), "cubic": -jnp.vdot(dp, q**3), "drag": -jnp.vdot(dp, p)}
    return (-dp * (params["linear"] + 3 * params["cubic"] * q**2), dq - params["drag"] * dp), grads


def axpy(a, x, y):
    return jax.tree.map(lambda x, y: a * x + y, x, y)


def stages(params, y):
    k1 = duffing(params, y)
    y2 = axpy(H / 2, k1, y)
    k2 = duffing(params, y2)
    y3 = axpy(H / 2, k2, y)
    k3 = duffing(params, y3)
    y4 = axpy(H, k3, y)
    k4 = duffing(params, y4)
    return (y, y2, y3, y4), (k1, k2, k3, k4)


def rk4_step(params, y):
    for weight, k in zip((1, 2, 2, 1), stages(params, y)[1], strict=True):
        y = axpy(H * weight / 6, k, y)
    return y


@jax.custom_vjp
def rk4_duffing(params, y):
    return lax.fori_loop(0, STEPS, lambda _, y: rk4_step(params, y), y)


def rk4_duffing_fwd(params, y):
    out, starts = lax.scan(lambda y, _: (rk4_step(params, y), y), y, length=STEPS)
    return out, (params, starts)


def rk4_duffing_bwd(res, ct):
    params, starts = res

    def step(carry, y):
        lam, grads = carry
        (y1, y2, y3, y4), _ = stages(params, y)
        m4, g4 = duffing_pullback(params, y4, lam)
        m3, g3 = duffing_pullback(params, y3, axpy(H / 2, m4, lam))
        m2, g2 = duffing_pullback(params, y2, axpy(H / 2, m3, lam))
        m1, g1 = duffing_pullback(params, y1, axpy(H, m2, lam))
        total = axpy(2.0, axpy(1.0, m2, m3), axpy(1.0, m1, m4))
        gtotal = axpy(2.0, axpy(1.0, g2, g3), axpy(1.0, g1, g4))
        return (axpy(H / 6, total, lam), axpy(H / 6, gtotal, grads)), None

    (lam, grads), _ = lax.scan(step, (ct, jax.tree.map(jnp.zeros_like, params)), starts, reverse=True)
    return grads, lam


rk4_duffing.defvjp(rk4_duffing_fwd, rk4_duffing_bwd)


def _trap(draw: Draw) -> tuple:
    n = draw.rows(3, 4)
    return draw.normal(n, 3), draw.normal(n)


def _cloth(draw: Draw) -> tuple:
    rows = draw.rows(3 * COLUMNS, 3)
    return draw.normal(rows * COLUMNS, 3), draw.positive()


def _rays(draw: Draw) -> tuple:
    n = draw.rows(12, 2)
    return 3 * draw.positive(n, 4), draw.positive(n, 4, 3), draw.positive(n, 4), draw.positive(3)


def _duffing(draw: Draw) -> tuple:
    n = draw.rows(1, 5)
    params = {"linear": draw.positive(), "cubic": draw.positive(), "drag": draw.positive()}
    return params, (draw.normal(n), draw.normal(n))


RULES = (
    Rule("trap", trap_gradient, _trap, loss=trap_energy, argnums=(0, 1)),
    Rule("cloth", cloth_gradient, _cloth, loss=cloth_energy, argnums=(0, 1)),
    Rule("render_rays", render_rays, _rays),
    Rule("rk4_duffing", rk4_duffing, _duffing),
)
