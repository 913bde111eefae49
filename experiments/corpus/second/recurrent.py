"""Recurrences under ``lax.scan`` whose backward is a second scan: cells, state spaces, filters, Euler steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


class Cell(NamedTuple):
    w_in: jax.Array
    w_rec: jax.Array
    bias: jax.Array


def cell_step(cell, h, x):
    return jnp.tanh(jnp.matmul(x, cell.w_in) + jnp.matmul(h, cell.w_rec) + cell.bias)


@jax.custom_vjp
def elman(cell, h0, xs):
    def body(h, x):
        h = cell_step(cell, h, x)
        return h, h

    return lax.scan(body, h0, xs)[1]


def elman_fwd(cell, h0, xs):
    hs = elman(cell, h0, xs)
    return hs, (cell, h0, xs, hs)


def cell_grads(cell, h_prev, h, x, dh):
    dz = dh * (1.0 - h**2)
    grads = Cell(w_in=jnp.outer(x, dz), w_rec=jnp.outer(h_prev, dz), bias=dz)
    return grads, jnp.matmul(cell.w_rec, dz), jnp.matmul(cell.w_in, dz)


def elman_bwd(res, dhs):
    cell, h0, xs, hs = res
    previous = jnp.concatenate([h0[None], hs[:-1]], axis=0)

    def body(carry, at):
        dh_next, total = carry
        x, h_prev, h, dh = at
        grads, dh_prev, dx = cell_grads(cell, h_prev, h, x, dh + dh_next)
        total = jax.tree.map(jnp.add, total, grads)
        return (dh_prev, total), dx

    init = (jnp.zeros_like(h0), jax.tree.map(jnp.zeros_like, cell))
    (dh0, dcell), dxs = lax.scan(body, init, (xs, previous, hs, dhs), reverse=True)
    return dcell, dh0, dxs


elman.defvjp(elman_fwd, elman_bwd)


def linear(p, x):
    return jnp.tensordot(x, p["kernel"], axes=1) + p["bias"]


def linear_grads(x, dz):
    return {"kernel": jnp.einsum("bi,bo->io", x, dz), "bias": dz.sum(0)}


def unit(params, h, x):
    forget = jax.nn.sigmoid(linear(params["gate"], jnp.concatenate([h, x], axis=-1)))
    proposal = jnp.tanh(linear(params["candidate"], jnp.concatenate([forget * h, x], axis=-1)))
    return forget, proposal, (1 - forget) * h + forget * proposal


@jax.custom_vjp
def minimal_gated_unit(params, h0, xs):
    def body(h, x):
        return unit(params, h, x)[-1], None

    return lax.scan(body, h0, xs)[0]


def minimal_gated_unit_fwd(params, h0, xs):
    def body(h, x):
        forget, proposal, new = unit(params, h, x)
        return new, {"h": h, "x": x, "forget": forget, "proposal": proposal}

    last, tape = lax.scan(body, h0, xs)
    return last, (params, tape)


def minimal_gated_unit_bwd(res, g):
    params, tape = res
    units = g.shape[-1]

    def body(carry, saved):
        dh, total = carry
        h, x = saved["h"], saved["x"]
        forget, proposal = saved["forget"], saved["proposal"]
        dproposal = dh * forget * (1 - proposal**2)
        dinputs = jnp.einsum("bo,io->bi", dproposal, params["candidate"]["kernel"])
        dgated = dinputs[:, :units]
        dforget = dh * (proposal - h) + dgated * h
        dforget = dforget * forget * (1 - forget)
        djoined = jnp.einsum("bo,io->bi", dforget, params["gate"]["kernel"])
        grads = {
            "candidate": linear_grads(jnp.concatenate([forget * h, x], axis=-1), dproposal),
            "gate": linear_grads(jnp.concatenate([h, x], axis=-1), dforget),
        }
        dh = dh * (1 - forget) + dgated * forget + djoined[:, :units]
        dx = dinputs[:, units:] + djoined[:, units:]
        return (dh, jax.tree.map(jnp.add, total, grads)), dx

    start = (g, jax.tree.map(jnp.zeros_like, params))
    (dh0, dparams), dxs = lax.scan(body, start, tape, reverse=True)
    return dparams, dh0, dxs


minimal_gated_unit.defvjp(minimal_gated_unit_fwd, minimal_gated_unit_bwd)


def state_space_scan(decay, inputs):
    def body(h, u):
        h = decay * h + u
        return h, h

    return lax.scan(body, jnp.zeros_like(decay), inputs)[1]


@jax.custom_vjp
def state_space(params, u):
    decay = jnp.exp(-jnp.exp(params["log_rate"]))
    hs = state_space_scan(decay, jnp.einsum("ti,ni->tn", u, params["B"]))
    return jnp.einsum("on,tn->to", params["C"], hs) + params["D"] * u


def state_space_fwd(params, u):
    decay = jnp.exp(-jnp.exp(params["log_rate"]))
    hs = state_space_scan(decay, jnp.einsum("ti,ni->tn", u, params["B"]))
    y = jnp.einsum("on,tn->to", params["C"], hs) + params["D"] * u
    return y, (params, u, decay, hs)


def state_space_bwd(res, dy):
    params, u, decay, hs = res
    dh_out = jnp.einsum("to,on->tn", dy, params["C"])
    dhs = jnp.flip(state_space_scan(decay, jnp.flip(dh_out, axis=0)), axis=0)
    before = jnp.pad(hs[:-1], ((1, 0), (0, 0)))
    ddecay = jnp.sum(dhs * before, axis=0)
    grads = {
        "log_rate": -ddecay * decay * jnp.exp(params["log_rate"]),
        "B": jnp.einsum("tn,ti->ni", dhs, u),
        "C": jnp.einsum("to,tn->on", dy, hs),
        "D": jnp.sum(dy * u, axis=0),
    }
    du = jnp.einsum("tn,ni->ti", dhs, params["B"]) + params["D"] * dy
    return grads, du


state_space.defvjp(state_space_fwd, state_space_bwd)

STEPS = 5


def field(params, y):
    return jnp.tanh(y @ params["kernel"] + params["bias"])


@jax.custom_vjp
def euler_ode(params, y0, dt):
    return lax.fori_loop(0, STEPS, lambda _, y: y + dt * field(params, y), y0)


def euler_ode_fwd(params, y0, dt):
    def body(y, _):
        return y + dt * field(params, y), y

    y1, path = lax.scan(body, y0, None, length=STEPS)
    return y1, (params, path, dt)


def euler_ode_bwd(res, adjoint):
    params, path, dt = res

    def body(carry, y):
        adjoint, dkernel, dbias, ddt = carry
        slope = field(params, y)
        dz = dt * adjoint * (1 - slope * slope)
        return (
            adjoint + dz @ params["kernel"].T,
            dkernel + y.T @ dz,
            dbias + dz.sum(0),
            ddt + jnp.vdot(adjoint, slope),
        ), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    init = (adjoint, zeros["kernel"], zeros["bias"], jnp.zeros_like(dt))
    (dy0, dkernel, dbias, ddt), _ = lax.scan(body, init, path, reverse=True)
    return {"kernel": dkernel, "bias": dbias}, dy0, ddt


euler_ode.defvjp(euler_ode_fwd, euler_ode_bwd)


class Level(NamedTuple):
    mean: jax.Array
    var: jax.Array


def filter_step(noise, level, y):
    prior = level.var + noise["state"]
    total = prior + noise["observation"]
    gain = prior / total
    error = y - level.mean
    new = Level(mean=level.mean + gain * error, var=(1 - gain) * prior)
    return new, jnp.sum(jnp.square(error) / total + jnp.log(total))


@jax.custom_vjp
def kalman_nll(noise, start, ys):
    _, terms = lax.scan(lambda level, y: filter_step(noise, level, y), start, ys)
    return 0.5 * terms.sum()


def kalman_nll_fwd(noise, start, ys):
    def body(level, y):
        new, term = filter_step(noise, level, y)
        return new, (term, level)

    _, (terms, levels) = lax.scan(body, start, ys)
    return 0.5 * terms.sum(), (noise, levels, ys)


def kalman_nll_bwd(res, g):
    noise, levels, ys = res

    def body(carry, at):
        after, dstate, dobservation = carry
        level, y = at
        prior = level.var + noise["state"]
        total = prior + noise["observation"]
        gain = prior / total
        error = y - level.mean
        derror = after.mean * gain + g * error / total
        dgain = after.mean * error - after.var * prior
        dtotal = 0.5 * g * (1 / total - (error / total) ** 2) - dgain * gain / total
        dprior = after.var * (1 - gain) + dgain / total + dtotal
        before = Level(mean=after.mean - derror, var=dprior)
        return (before, dstate + dprior, dobservation + dtotal), derror

    zeros = jax.tree.map(lambda level: jnp.zeros_like(level[0]), levels)
    init = (zeros, jnp.zeros_like(noise["state"]), jnp.zeros_like(noise["observation"]))
    (dstart, dstate, dobservation), dys = lax.scan(body, init, (levels, ys), reverse=True)
    return {"state": dstate, "observation": dobservation}, dstart, dys


kalman_nll.defvjp(kalman_nll_fwd, kalman_nll_bwd)


@jax.custom_vjp
def autoregressive_filter(coefs, xs):
    def body(window, x):
        y = x + jnp.dot(coefs, window)
        return jnp.roll(window, 1).at[0].set(y), y

    return lax.scan(body, jnp.zeros_like(coefs), xs)[1]


def autoregressive_filter_fwd(coefs, xs):
    ys = autoregressive_filter(coefs, xs)
    return ys, (coefs, ys)


def lagged(ys, order):
    return jnp.stack([jnp.pad(ys, (lag, 0))[: len(ys)] for lag in range(1, order + 1)])


def autoregressive_filter_bwd(res, dys):
    coefs, ys = res

    def body(window, dy):
        dx = dy + coefs @ window
        return jnp.concatenate([dx[None], window[:-1]]), dx

    _, dxs = lax.scan(body, jnp.zeros_like(coefs), dys, reverse=True)
    dcoefs = jnp.einsum("lt,t->l", lagged(ys, order=len(coefs)), dxs)
    return dcoefs, dxs


autoregressive_filter.defvjp(autoregressive_filter_fwd, autoregressive_filter_bwd)


def _elman(draw: Draw) -> tuple:
    cell = Cell(draw.normal(3, 2), draw.normal(2, 2), draw.normal(2))
    return cell, draw.normal(2), draw.normal(draw.rows(3, 5), 3)


def _gated(draw: Draw) -> tuple:
    params = {name: {"kernel": draw.normal(8, 5, scale=0.5), "bias": draw.normal(5)} for name in ("gate", "candidate")}
    return params, draw.normal(2, 5), draw.normal(draw.rows(6, 7), 2, 3)


def _state_space(draw: Draw) -> tuple:
    params = {
        "log_rate": draw.normal(5, scale=0.5),
        "B": draw.normal(5, 3),
        "C": draw.normal(3, 5),
        "D": draw.normal(3),
    }
    return params, draw.normal(draw.rows(3, 7), 3)


def _flow(draw: Draw) -> tuple:
    rows = draw.rows(3, 7)
    return {"kernel": draw.normal(3, 3), "bias": draw.normal(3)}, draw.normal(rows, 3), draw.positive()


def _levels(draw: Draw) -> tuple:
    noise = {"state": draw.positive(3), "observation": draw.positive(3)}
    return noise, Level(draw.normal(3), draw.positive(3)), draw.normal(draw.rows(3, 5), 3)


def _signal(draw: Draw) -> tuple:
    return draw.normal(3, scale=0.3), draw.normal(draw.size)


RULES = (
    Rule("elman", elman, _elman),
    Rule("minimal_gated_unit", minimal_gated_unit, _gated),
    Rule("state_space", state_space, _state_space),
    Rule("euler_ode", euler_ode, _flow),
    Rule("kalman_nll", kalman_nll, _levels),
    Rule("autoregressive_filter", autoregressive_filter, _signal),
)
