"""Scans with reverse scans by hand: a leaky net, two integrators, a hidden Markov model; a gated causal convolution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Draw, Rule


class Leaky(NamedTuple):
    inputs: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    leak: jax.Array


def leaky_step(params, h, x):
    drive = jnp.tanh(x @ params.inputs + h @ params.recurrent + params.bias)
    rate = jax.nn.sigmoid(params.leak)
    return h + rate * (drive - h), drive


@jax.custom_vjp
def leaky_net(params, h0, xs):
    def body(h, x):
        h, _ = leaky_step(params, h, x)
        return h, h

    return lax.scan(body, h0, xs)[1]


def leaky_net_fwd(params, h0, xs):
    def body(h, x):
        new, drive = leaky_step(params, h, x)
        return new, (new, h, drive)

    _, (outs, befores, drives) = lax.scan(body, h0, xs)
    return outs, (params, xs, befores, drives)


def leaky_net_bwd(residuals, gs):
    params, xs, befores, drives = residuals
    rate = jax.nn.sigmoid(params.leak)

    def body(carry, at):
        dh, grads = carry
        g, x, before, drive = at
        dh = dh + g
        dpre = dh * rate * (1 - drive**2)
        drate = jnp.sum(dh * (drive - before), axis=0)
        grads = Leaky(
            inputs=grads.inputs + jnp.matmul(x.T, dpre),
            recurrent=grads.recurrent + jnp.matmul(before.T, dpre),
            bias=grads.bias + dpre.sum(0),
            leak=grads.leak + drate * rate * (1 - rate),
        )
        dbefore = dh * (1 - rate) + jnp.matmul(dpre, params.recurrent.T)
        return (dbefore, grads), jnp.matmul(dpre, params.inputs.T)

    start = (jnp.zeros_like(befores[0]), jax.tree.map(jnp.zeros_like, params))
    (dh, grads), dxs = lax.scan(body, start, (gs, xs, befores, drives), reverse=True)
    return grads, dh, dxs


leaky_net.defvjp(leaky_net_fwd, leaky_net_bwd)


def kick(params, position):
    return -params["stiffness"] * jnp.sin(position)


def leap(params, state, dt):
    half = state["velocity"] + 0.5 * dt * kick(params, state["position"])
    position = state["position"] + dt * half
    velocity = half + 0.5 * dt * kick(params, position)
    return {"position": position, "velocity": velocity}, half


@jax.custom_vjp
def leapfrog(params, state, dts):
    return lax.scan(lambda s, dt: leap(params, s, dt), state, dts)[0]


def leapfrog_fwd(params, state, dts):
    def body(s, dt):
        new, half = leap(params, s, dt)
        return new, (s["position"], half, new["position"])

    end, saved = lax.scan(body, state, dts)
    return end, (params, dts, *saved)


def kick_backward(params, position, dkick):
    dposition = -dkick * params["stiffness"] * jnp.cos(position)
    dstiffness = -jnp.sum(dkick * jnp.sin(position))
    return dposition, dstiffness


def leapfrog_bwd(residuals, g):
    params, dts, starts, halves, ends = residuals

    def body(carry, at):
        dposition, dvelocity, total = carry
        dt, start, half, end = at
        through_end, from_end = kick_backward(params, end, 0.5 * dt * dvelocity)
        dend = dposition + through_end
        dhalf = dvelocity + dt * dend
        through_start, from_start = kick_backward(params, start, 0.5 * dt * dhalf)
        kicks = jnp.vdot(dvelocity, kick(params, end)) + jnp.vdot(dhalf, kick(params, start))
        ddt = jnp.vdot(dend, half) + 0.5 * kicks
        total = total + from_end + from_start
        return (dend + through_start, dhalf, total), ddt

    start = (g["position"], g["velocity"], jnp.zeros_like(params["stiffness"]))
    end, ddts = lax.scan(body, start, (dts, starts, halves, ends), reverse=True)
    dposition, dvelocity, total = end
    return {"stiffness": total}, {"position": dposition, "velocity": dvelocity}, ddts


leapfrog.defvjp(leapfrog_fwd, leapfrog_bwd)


def growth(params, y):
    return params["rate"] * y * (1 - y / params["capacity"])


def growth_backward(params, y, g):
    share = y / params["capacity"]
    dy = g * params["rate"] * (1 - 2 * share)
    drate = jnp.sum(g * y * (1 - share), axis=0)
    dcapacity = jnp.sum(g * params["rate"] * share**2, axis=0)
    return dy, {"rate": drate, "capacity": dcapacity}


STEP = 0.25


@jax.jit
def heun_step(params, y):
    first = growth(params, y)
    second = growth(params, y + STEP * first)
    return y + 0.5 * STEP * (first + second), first


@jax.custom_vjp
def heun(params, y):
    for _ in range(2):
        y, _ = heun_step(params, y)
    return y


def heun_fwd(params, y):
    saved = []
    for _ in range(2):
        new, first = heun_step(params, y)
        saved.append((y, first))
        y = new
    return y, (params, saved)


def heun_bwd(residuals, g):
    params, saved = residuals
    total = jax.tree.map(jnp.zeros_like, params)
    for y, first in reversed(saved):
        inner, from_second = growth_backward(params, y + STEP * first, 0.5 * STEP * g)
        dfirst = 0.5 * STEP * g + STEP * inner
        outer, from_first = growth_backward(params, y, dfirst)
        total = jax.tree.map(lambda t, a, b: t + a + b, total, from_first, from_second)
        g = g + inner + outer
    return total, g


heun.defvjp(heun_fwd, heun_bwd)


def forward_pass(model, likelihoods):
    def body(alpha, likelihood):
        predicted = jnp.einsum("i,ij->j", alpha, model["transition"]) * likelihood
        scale = jnp.sum(predicted)
        return predicted / scale, (alpha, scale)

    return lax.scan(body, model["initial"], likelihoods)


@jax.custom_vjp
def hmm_log_likelihood(model, likelihoods):
    _, (_, scales) = forward_pass(model, likelihoods)
    return jnp.log(scales).sum()


def hmm_log_likelihood_fwd(model, likelihoods):
    _, (alphas, scales) = forward_pass(model, likelihoods)
    return jnp.log(scales).sum(), (model, likelihoods, alphas, scales)


def hmm_log_likelihood_bwd(residuals, g):
    model, likelihoods, alphas, scales = residuals

    def body(carry, at):
        beta, dtransition = carry
        likelihood, alpha, scale = at
        message = likelihood * beta / scale
        dtransition = dtransition + jnp.einsum("i,j->ij", alpha, message)
        before = jnp.einsum("ij,j->i", model["transition"], message)
        dlikelihood = jnp.einsum("i,ij->j", alpha, model["transition"]) * beta / scale
        return (before, dtransition), dlikelihood

    start = (jnp.ones_like(model["initial"]), jnp.zeros_like(model["transition"]))
    (beta, dtransition), dlikelihoods = lax.scan(body, start, (likelihoods, alphas, scales), reverse=True)
    return {"initial": g * beta, "transition": g * dtransition}, g * dlikelihoods


hmm_log_likelihood.defvjp(hmm_log_likelihood_fwd, hmm_log_likelihood_bwd)


def delayed(x, steps):
    return jnp.pad(x, ((steps, 0), (0, 0)))[: x.shape[0]]


def advanced(x, steps):
    return jnp.pad(x, ((0, steps), (0, 0)))[steps:]


def causal(kernel, x, dilation=2):
    taps = [delayed(x, dilation * tap) @ kernel[tap] for tap in range(kernel.shape[0])]
    return sum(taps)


def causal_backward(kernel, x, g, dilation=2):
    dkernel, dx = [], jnp.zeros_like(x)
    for tap in range(kernel.shape[0]):
        shift = dilation * tap
        dkernel.append(delayed(x, shift).T @ g)
        dx = dx + advanced(g @ kernel[tap].T, shift)
    return jnp.stack(dkernel), dx


@jax.custom_vjp
def gated_convolution(params, x):
    content = jnp.tanh(causal(params["content"]["kernel"], x) + params["content"]["bias"])
    gate = jax.nn.sigmoid(causal(params["gate"]["kernel"], x) + params["gate"]["bias"])
    return x + content * gate


def gated_convolution_fwd(params, x):
    content = jnp.tanh(causal(params["content"]["kernel"], x) + params["content"]["bias"])
    gate = jax.nn.sigmoid(causal(params["gate"]["kernel"], x) + params["gate"]["bias"])
    return x + content * gate, (params, x, content, gate)


def gated_convolution_bwd(residuals, g):
    params, x, content, gate = residuals
    pre = {
        "content": g * gate * (1 - content**2),
        "gate": g * content * gate * (1 - gate),
    }
    dx, grads = g, {}
    for name, dpre in pre.items():
        dkernel, through = causal_backward(params[name]["kernel"], x, dpre)
        grads[name] = {"kernel": dkernel, "bias": dpre.sum(axis=0)}
        dx = dx + through
    return grads, dx


gated_convolution.defvjp(gated_convolution_fwd, gated_convolution_bwd)


def _leaky(draw: Draw) -> tuple:
    length = draw.rows(14, 3)
    params = Leaky(draw.normal(7, 5), draw.normal(5, 5, scale=0.4), draw.normal(5), draw.normal(5))
    return params, draw.normal(2, 5), draw.normal(length, 2, 7)


def _oscillators(draw: Draw) -> tuple:
    n = draw.rows(1, 7)
    return {"stiffness": draw.positive()}, {"position": draw.normal(n), "velocity": draw.normal(n)}, draw.positive(3)


def _populations(draw: Draw) -> tuple:
    return {"rate": draw.positive(3), "capacity": 1 + draw.positive(3)}, draw.positive(draw.rows(3, 7), 3)


def _markov(draw: Draw) -> tuple:
    return {"initial": draw.positive(3), "transition": draw.positive(3, 3)}, draw.positive(draw.rows(3, 7), 3)


def _convolution(draw: Draw) -> tuple:
    layer = lambda: {"kernel": draw.normal(2, 3, 3), "bias": draw.normal(3)}  # noqa: E731
    return {"content": layer(), "gate": layer()}, draw.normal(draw.rows(3, 7), 3)


RULES = (
    Rule("leaky_net", leaky_net, _leaky),
    Rule("leapfrog", leapfrog, _oscillators),
    Rule("heun", heun, _populations),
    Rule("hmm_log_likelihood", hmm_log_likelihood, _markov),
    Rule("gated_convolution", gated_convolution, _convolution),
)
