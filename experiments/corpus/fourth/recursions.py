"""Recursions: an alignment cell by cell, a tagger, a tridiagonal solve, an echo in a ring, a series, returns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from corpus.rule import Draw, Rule

GAMMA = 0.7
FAR = 1e6


def pairwise_cost(x, y):
    return jnp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)


def alignment_table(cost):
    """One row and one column more than the costs; the best soft path to a cell is at one more of each index."""
    n, m = cost.shape

    def cell(k, table):
        i, j = k // m, k % m
        ways = jnp.stack([table[i, j], table[i, j + 1], table[i + 1, j]])
        return table.at[i + 1, j + 1].set(cost[i, j] - GAMMA * logsumexp(-ways / GAMMA))

    start = jnp.full((n + 1, m + 1), FAR, cost.dtype).at[0, 0].set(0.0)
    return lax.fori_loop(0, n * m, cell, start)


@jax.custom_vjp
def soft_dtw(x, y):
    return alignment_table(pairwise_cost(x, y))[-1, -1]


def soft_dtw_fwd(x, y):
    cost = pairwise_cost(x, y)
    table = alignment_table(cost)
    return table[-1, -1], (x, y, cost, table)


def soft_dtw_bwd(res, g):
    x, y, cost, table = res
    n, m = cost.shape

    def cell(step, flow):
        k = n * m - 1 - step
        i, j = k // m, k % m
        soft = table[i + 1, j + 1] - cost[i, j]
        here = flow[i + 1, j + 1]
        flow = flow.at[i, j].add(here * jnp.exp((soft - table[i, j]) / GAMMA))
        flow = flow.at[i, j + 1].add(here * jnp.exp((soft - table[i, j + 1]) / GAMMA))
        return flow.at[i + 1, j].add(here * jnp.exp((soft - table[i + 1, j]) / GAMMA))

    flow = jnp.zeros_like(table).at[n, m].set(g)
    dcost = lax.fori_loop(0, n * m, cell, flow)[1:, 1:]
    dx = 2 * (dcost.sum(axis=1)[:, None] * x - dcost @ y)
    dy = 2 * (dcost.sum(axis=0)[:, None] * y - dcost.T @ x)
    return dx, dy


soft_dtw.defvjp(soft_dtw_fwd, soft_dtw_bwd)


class Tagger(NamedTuple):
    start: jax.Array
    transition: jax.Array


def forward_messages(tagger, unary):
    def step(alpha, u):
        alpha = u + logsumexp(alpha[:, None] + tagger.transition, axis=0)
        return alpha, alpha

    first = tagger.start + unary[0]
    _, rest = lax.scan(step, first, unary[1:])
    return jnp.concatenate([first[None], rest])


def backward_messages(tagger, unary):
    def step(beta, u):
        beta = logsumexp(tagger.transition + u + beta, axis=1)
        return beta, beta

    last = jnp.zeros_like(unary[-1])
    _, rest = lax.scan(step, last, unary[1:], reverse=True)
    return jnp.concatenate([rest, last[None]])


def path_score(tagger, unary, tags):
    emitted = unary[jnp.arange(len(tags)), tags].sum()
    return tagger.start[tags[0]] + emitted + tagger.transition[tags[:-1], tags[1:]].sum()


@jax.custom_vjp
def crf_loss(tagger, unary, tags):
    return logsumexp(forward_messages(tagger, unary)[-1]) - path_score(tagger, unary, tags)


def crf_loss_fwd(tagger, unary, tags):
    alphas = forward_messages(tagger, unary)
    log_z = logsumexp(alphas[-1])
    return log_z - path_score(tagger, unary, tags), (tagger, unary, tags, alphas, log_z)


def crf_loss_bwd(res, g):
    tagger, unary, tags, alphas, log_z = res
    betas = backward_messages(tagger, unary)
    dunary = jnp.exp(alphas + betas - log_z)
    dunary = dunary.at[jnp.arange(len(tags)), tags].add(-1.0)
    arriving = unary[1:] + betas[1:]
    pairs = jnp.exp(alphas[:-1, :, None] + tagger.transition + arriving[:, None, :] - log_z)
    dtransition = pairs.sum(axis=0)
    dtransition = dtransition.at[tags[:-1], tags[1:]].add(-1.0)
    return Tagger(start=g * dunary[0], transition=g * dtransition), g * dunary, None


crf_loss.defvjp(crf_loss_fwd, crf_loss_bwd)


def thomas(lower, diagonal, upper, rhs):
    """Elimination down, substitution up."""
    n = len(rhs)

    def down(i, carry):
        c, d = carry
        pivot = diagonal[i] - lower[i - 1] * c[i - 1]
        c = c.at[i].set(jnp.where(i < n - 1, upper[jnp.minimum(i, n - 2)], 0) / pivot)
        return c, d.at[i].set((rhs[i] - lower[i - 1] * d[i - 1]) / pivot)

    c = jnp.zeros_like(diagonal).at[0].set(upper[0] / diagonal[0])
    d = jnp.zeros_like(rhs).at[0].set(rhs[0] / diagonal[0])
    c, d = lax.fori_loop(1, n, down, (c, d))
    return lax.fori_loop(1, n, lambda k, x: x.at[n - 1 - k].add(-c[n - 1 - k] * x[n - k]), d)


@jax.custom_vjp
def tridiagonal_solve(lower, diagonal, upper, rhs):
    return thomas(lower, diagonal, upper, rhs)


def tridiagonal_solve_fwd(lower, diagonal, upper, rhs):
    x = thomas(lower, diagonal, upper, rhs)
    return x, (lower, diagonal, upper, x)


def tridiagonal_solve_bwd(res, g):
    lower, diagonal, upper, x = res
    lam = thomas(upper, diagonal, lower, g)
    dlower = -lam[1:] * x[:-1]
    dupper = -lam[:-1] * x[1:]
    return dlower, -lam * x, dupper, lam


tridiagonal_solve.defvjp(tridiagonal_solve_fwd, tridiagonal_solve_bwd)


def comb(gain, damp, line, x):
    """A feedback comb with a low pass in the loop, over the ring ``line``: Freeverb's, sample by sample."""
    delay = len(line)

    def sample(t, carry):
        line, low, ys, lows, olds = carry
        old = line[t % delay]
        low = (1 - damp) * old + damp * low
        y = x[t] + gain * low
        return line.at[t % delay].set(y), low, ys.at[t].set(y), lows.at[t].set(low), olds.at[t].set(old)

    empty = jnp.zeros_like(x)
    _, _, ys, lows, olds = lax.fori_loop(0, len(x), sample, (line, jnp.zeros_like(gain), empty, empty, empty))
    return ys, lows, olds


@jax.custom_vjp
def comb_filter(gain, damp, line, x):
    return comb(gain, damp, line, x)[0]


def comb_filter_fwd(gain, damp, line, x):
    ys, lows, olds = comb(gain, damp, line, x)
    return ys, (gain, damp, line, lows, olds)


def comb_filter_bwd(res, g):
    gain, damp, line, lows, olds = res
    n, delay = len(lows), len(line)
    before = jnp.pad(lows[:-1], (1, 0))

    def sample(k, carry):
        dline, dlow, dx, dgain, ddamp = carry
        t = n - 1 - k
        slot = t % delay
        dy = g[t] + dline[slot]
        dgain = dgain + dy * lows[t]
        dlow = dlow + gain * dy
        ddamp = ddamp + dlow * (before[t] - olds[t])
        dline = dline.at[slot].set((1 - damp) * dlow)
        return dline, damp * dlow, dx.at[t].set(dy), dgain, ddamp

    zero = jnp.zeros_like(gain)
    start = (jnp.zeros_like(line), zero, jnp.zeros_like(g), zero, zero)
    dline, _, dx, dgain, ddamp = lax.fori_loop(0, n, sample, start)
    return dgain, ddamp, dline, dx


comb_filter.defvjp(comb_filter_fwd, comb_filter_bwd)


def clenshaw(coefs, x):
    """The last two terms of Clenshaw's recursion for ``coefs``."""
    size = len(coefs)

    def body(k, carry):
        one, two = carry
        return coefs[size - 1 - k] + 2 * x * one - two, one

    return lax.fori_loop(0, size - 1, body, (jnp.zeros_like(x), jnp.zeros_like(x)))


def first_kind(coefs, x):
    one, two = clenshaw(coefs, x)
    return coefs[0] + x * one - two


def second_kind(coefs, x):
    one, two = clenshaw(coefs, x)
    return coefs[0] + 2 * x * one - two


@jax.custom_jvp
def chebyshev_series(coefs, x):
    return first_kind(coefs, x)


@chebyshev_series.defjvp
def chebyshev_series_jvp(primals, tangents):
    coefs, x = primals
    dcoefs, dx = tangents
    orders = jnp.arange(1, len(coefs)).astype(coefs.dtype)
    slope = second_kind(orders * coefs[1:], x)
    return first_kind(coefs, x), first_kind(dcoefs, x) + slope * dx


def mixed_returns(rewards, values, discounts, lam):
    def step(later, at):
        reward, value, discount = at
        now = reward + discount * ((1 - lam) * value + lam * later)
        return now, (now, later)

    _, (returns, laters) = lax.scan(step, values[-1], (rewards, values[1:], discounts), reverse=True)
    return returns, laters


@jax.custom_vjp
def lambda_advantages(rewards, values, discounts, lam):
    returns, _ = mixed_returns(rewards, values, discounts, lam)
    return returns - values[:-1]


def lambda_advantages_fwd(rewards, values, discounts, lam):
    returns, laters = mixed_returns(rewards, values, discounts, lam)
    return returns - values[:-1], (values, discounts, lam, laters)


def lambda_advantages_bwd(res, g):
    values, discounts, lam, laters = res

    def step(carried, at):
        cotangent, discount = at
        dreturn = cotangent + carried
        return lam * discount * dreturn, dreturn

    last, dreturns = lax.scan(step, jnp.zeros_like(lam), (g, discounts))
    ahead = values[1:]
    ddiscounts = dreturns * ((1 - lam) * ahead + lam * laters)
    dlam = jnp.sum(dreturns * discounts * (laters - ahead))
    dvalues = jnp.zeros_like(values).at[:-1].add(-g)
    dvalues = dvalues.at[1:].add((1 - lam) * discounts * dreturns)
    return dreturns, dvalues.at[-1].add(last), ddiscounts, dlam


lambda_advantages.defvjp(lambda_advantages_fwd, lambda_advantages_bwd)


def _series(draw: Draw) -> tuple:
    return draw.normal(draw.rows(4, 3), 2), draw.normal(4, 2)


def _tags(draw: Draw) -> tuple:
    length = draw.rows(3, 5)
    return Tagger(draw.normal(3), draw.normal(3, 3)), draw.normal(length, 3), draw.integers(3, length)


def _bands(draw: Draw) -> tuple:
    n = draw.rows(1, 5)
    return draw.positive(n - 1), 2 + draw.positive(n), draw.normal(n - 1, scale=0.4), draw.normal(n)


def _echo(draw: Draw) -> tuple:
    return draw.positive(), draw.positive(), draw.normal(5), draw.normal(draw.rows(1, 11))


def _chebyshev(draw: Draw) -> tuple:
    return draw.normal(7), draw.signs(draw.size) * draw.positive(draw.size)


def _episode(draw: Draw) -> tuple:
    n = draw.rows(1, 7)
    return draw.normal(n), draw.normal(n + 1), draw.positive(n), draw.positive()


RULES = (
    Rule("soft_dtw", soft_dtw, _series),
    Rule("crf_loss", crf_loss, _tags),
    Rule("tridiagonal_solve", tridiagonal_solve, _bands),
    Rule("comb_filter", comb_filter, _echo),
    Rule("chebyshev_series", chebyshev_series, _chebyshev),
    Rule("lambda_advantages", lambda_advantages, _episode),
)
