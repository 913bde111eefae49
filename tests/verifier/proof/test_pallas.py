"""Kernels: a pallas_call is read as its interpret mode runs it."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

import handprop as v

A, B = jnp.ones((4, 10)), jnp.ones((10, 6))


def product_kernel(x_ref, y_ref, o_ref):
    @pl.when(pl.program_id(2) == 0)
    def _():
        o_ref[...] = jnp.zeros_like(o_ref)

    o_ref[...] += x_ref[...] @ y_ref[...]


def blocked_product(x, y, interpret=True):
    spec = pl.BlockSpec
    return pl.pallas_call(
        product_kernel,
        out_shape=jax.ShapeDtypeStruct((4, 6), x.dtype),
        grid=(2, 2, 5),
        in_specs=[spec((2, 2), lambda i, j, k: (i, k)), spec((2, 3), lambda i, j, k: (k, j))],
        out_specs=spec((2, 3), lambda i, j, k: (i, j)),
        interpret=interpret,
    )(x, y)


def softmax_kernel(x_ref, o_ref):
    e = jnp.exp(x_ref[...] - jnp.max(x_ref[...], -1, keepdims=True))
    o_ref[...] = e / jnp.sum(e, -1, keepdims=True)


def softmax(x):
    return pl.pallas_call(softmax_kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def rule(scale):
    made = jax.custom_vjp(softmax)
    made.defvjp(lambda x: (softmax(x), softmax(x)), lambda p, d: (scale * p * (d - (p * d).sum(-1, keepdims=True)),))
    return made


@pytest.mark.parametrize("interpret", [True, False])
def test_a_kernel_in_blocks_is_proved(interpret):
    """Also one that this machine could not run: the proof reads it all the same."""
    report = v.equivalent(lambda a, b: blocked_product(a, b, interpret), jnp.matmul, A, B, skip=("rounding",))
    assert report.verdict is v.Verdict.PROVED, report


@pytest.mark.sweep
def test_a_rule_around_a_kernel():
    twin = lambda x: jax.nn.softmax(x, -1)  # noqa: E731
    assert v.verify(rule(1.0), A, reference=twin).verdict is v.Verdict.PROVED
    assert v.verify(rule(1.001), A, reference=twin, skip="repair").verdict is v.Verdict.REFUTED
