"""Activations, entry by entry: each backward pass in the form a textbook gives, not in autodiff's."""

import math

import jax
import jax.numpy as jnp

from corpus.rule import Rule, elementwise, pair


@jax.custom_vjp
def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def sigmoid_fwd(x):
    s = sigmoid(x)
    return s, s


def sigmoid_bwd(s, dy):
    slope = s * (1 - s)
    dx = dy * slope
    return (dx,)


sigmoid.defvjp(sigmoid_fwd, sigmoid_bwd)


@jax.custom_vjp
def tanh(x):
    return jnp.tanh(x)


def tanh_fwd(x):
    return tanh(x), x


def tanh_bwd(x, dy):
    y = 2 / (1 + jnp.exp(-2 * x)) - 1
    dx = dy * (1 - y**2)
    return (dx,)


tanh.defvjp(tanh_fwd, tanh_bwd)


@jax.custom_vjp
def softplus(x):
    return jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0)


def softplus_fwd(x):
    return softplus(x), x


def softplus_bwd(x, dy):
    dx = dy / (1 + jnp.exp(-x))
    return (dx,)


softplus.defvjp(softplus_fwd, softplus_bwd)


@jax.custom_vjp
def log_sigmoid(x):
    return -jax.nn.softplus(-x)


def log_sigmoid_fwd(x):
    y = log_sigmoid(x)
    return y, y


def log_sigmoid_bwd(y, dy):
    dx = dy * (1 - jnp.exp(y))
    return (dx,)


log_sigmoid.defvjp(log_sigmoid_fwd, log_sigmoid_bwd)


@jax.custom_vjp
def silu(x):
    return x * jax.nn.sigmoid(x)


def silu_fwd(x):
    s = jax.nn.sigmoid(x)
    y = x * s
    return y, (y, s)


def silu_bwd(residuals, dy):
    y, s = residuals
    slope = s + y * (1 - s)
    dx = dy * slope
    return (dx,)


silu.defvjp(silu_fwd, silu_bwd)


@jax.custom_vjp
def gelu_tanh(x):
    return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_tanh_fwd(x):
    return gelu_tanh(x), x


def gelu_tanh_bwd(x, dy):
    u = 0.7978845608028654 * x * (1 + 0.044715 * x * x)
    du = 0.7978845608028654 * (1 + 0.134145 * x * x)
    t = jnp.tanh(u)
    slope = 0.5 * (1 + t)
    slope = slope + 0.5 * x * (1 - t * t) * du
    return (dy * slope,)


gelu_tanh.defvjp(gelu_tanh_fwd, gelu_tanh_bwd)


@jax.custom_vjp
def gelu_erf(x):
    return 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))


def gelu_erf_fwd(x):
    return gelu_erf(x), x


def gelu_erf_bwd(x, dy):
    below = 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    dx = dy * (below + x * density)
    return (dx,)


gelu_erf.defvjp(gelu_erf_fwd, gelu_erf_bwd)


@jax.custom_vjp
def mish(x):
    return x * jnp.tanh(jnp.log1p(jnp.exp(x)))


def mish_fwd(x):
    return mish(x), x


def mish_bwd(x, dy):
    e = jnp.exp(x)
    n = e * (e + 2)
    t = n / (n + 2)
    ds = e / (1 + e)
    slope = t + x * (1 - t * t) * ds
    return (dy * slope,)


mish.defvjp(mish_fwd, mish_bwd)


@jax.custom_vjp
def elu(x):
    return jnp.where(x > 0, x, jnp.expm1(x))


def elu_fwd(x):
    return elu(x), x


def elu_bwd(x, dy):
    slope = jnp.where(x > 0, 1, jnp.exp(x))
    return (dy * slope,)


elu.defvjp(elu_fwd, elu_bwd)


@jax.custom_vjp
def selu(x):
    return 1.0507009873554805 * jnp.where(x > 0, x, 1.6732632423543772 * (jnp.exp(x) - 1))


def selu_fwd(x):
    y = selu(x)
    return y, (x, y)


def selu_bwd(residuals, dy):
    x, y = residuals
    below = y + 1.0507009873554805 * 1.6732632423543772
    slope = jnp.where(x > 0, 1.0507009873554805, below)
    return (dy * slope,)


selu.defvjp(selu_fwd, selu_bwd)


@jax.custom_vjp
def leaky_relu(x):
    return jnp.where(x > 0, x, 0.01 * x)


def leaky_relu_fwd(x):
    return leaky_relu(x), x > 0


def leaky_relu_bwd(positive, dy):
    dx = jnp.where(positive, dy, 0.01 * dy)
    return (dx,)


leaky_relu.defvjp(leaky_relu_fwd, leaky_relu_bwd)


@jax.custom_vjp
def relu_squared(x):
    return jnp.where(x > 0, x, 0) ** 2


def relu_squared_fwd(x):
    return relu_squared(x), x


def relu_squared_bwd(x, dy):
    dx = dy * jnp.where(x > 0, 2 * x, 0)
    return (dx,)


relu_squared.defvjp(relu_squared_fwd, relu_squared_bwd)


@jax.custom_vjp
def hard_tanh(x):
    return jnp.clip(x, -1, 1)


def hard_tanh_fwd(x):
    return hard_tanh(x), x


def hard_tanh_bwd(x, dy):
    inside = (x > -1) & (x < 1)
    return (jnp.where(inside, dy, 0),)


hard_tanh.defvjp(hard_tanh_fwd, hard_tanh_bwd)


@jax.custom_vjp
def softsign(x):
    return x / (1 + jnp.abs(x))


def softsign_fwd(x):
    return softsign(x), x


def softsign_bwd(x, dy):
    d = 1 + jnp.abs(x)
    dx = dy / d**2
    return (dx,)


softsign.defvjp(softsign_fwd, softsign_bwd)


@jax.custom_vjp
def squareplus(x):
    return (x + jnp.sqrt(x * x + 4)) / 2


def squareplus_fwd(x):
    y = squareplus(x)
    return y, (x, y)


def squareplus_bwd(residuals, dy):
    x, y = residuals
    root = 2 * y - x
    dx = dy * y / root
    return (dx,)


squareplus.defvjp(squareplus_fwd, squareplus_bwd)


@jax.custom_vjp
def snake(x):
    return x + jnp.sin(x) ** 2


def snake_fwd(x):
    return snake(x), x


def snake_bwd(x, dy):
    dx = dy * (1 + jnp.sin(2 * x))
    return (dx,)


snake.defvjp(snake_fwd, snake_bwd)


@jax.custom_jvp
def softcap(x):
    return 30 * jnp.tanh(x / 30)


@softcap.defjvp
def softcap_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = softcap(x)
    dy = dx * (1 - (y / 30) ** 2)
    return y, dy


@jax.custom_jvp
def swiglu(gate, x):
    return gate * jax.nn.sigmoid(gate) * x


@swiglu.defjvp
def swiglu_jvp(primals, tangents):
    gate, x = primals
    dgate, dx = tangents
    s = jax.nn.sigmoid(gate)
    y = gate * s
    slope = s * (1 + gate * (1 - s))
    dy = slope * x * dgate
    dy = dy + y * dx
    return y * x, dy


@jax.custom_vjp
def geglu(gate, x):
    return jax.nn.gelu(gate, approximate=False) * x


def geglu_fwd(gate, x):
    return geglu(gate, x), (gate, x)


def geglu_bwd(residuals, dy):
    gate, x = residuals
    below = 0.5 * jax.lax.erfc(-gate / math.sqrt(2))
    density = jnp.exp(-gate * gate / 2) / math.sqrt(2 * math.pi)
    dgate = dy * x * (below + gate * density)
    dx = dy * gate * below
    return dgate, dx


geglu.defvjp(geglu_fwd, geglu_bwd)


RULES = (
    Rule("sigmoid", sigmoid, elementwise),
    Rule("tanh", tanh, elementwise),
    Rule("softplus", softplus, elementwise),
    Rule("log_sigmoid", log_sigmoid, elementwise),
    Rule("silu", silu, elementwise),
    Rule("gelu_tanh", gelu_tanh, elementwise),
    Rule("gelu_erf", gelu_erf, elementwise),
    Rule("mish", mish, elementwise),
    Rule("elu", elu, elementwise),
    Rule("selu", selu, elementwise),
    Rule("leaky_relu", leaky_relu, elementwise),
    Rule("relu_squared", relu_squared, elementwise),
    Rule("hard_tanh", hard_tanh, elementwise),
    Rule("softsign", softsign, elementwise),
    Rule("squareplus", squareplus, elementwise),
    Rule("snake", snake, elementwise),
    Rule("softcap", softcap, elementwise),
    Rule("swiglu", swiglu, pair),
    Rule("geglu", geglu, pair),
)
