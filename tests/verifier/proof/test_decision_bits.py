"""Programs that decide: what is proved of them, and how many decisions are counted."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v
from handprop.verifier.proof.decision_bits import decision_bits

X = jnp.linspace(0.3, 1.7, 5)
POSITIVE_PART = lambda x: jnp.maximum(x, 0)  # noqa: E731
BRANCHES_SAME = {
    "absolute twice": (lambda x: jnp.abs(jnp.abs(x)), jnp.abs),
    "relu and its mirror": (lambda x: POSITIVE_PART(x) - POSITIVE_PART(-x), lambda x: x),
    "product of relus": (lambda x: POSITIVE_PART(x[0]) * POSITIVE_PART(x[1]),
                         lambda x: jnp.where((x[0] > 0) & (x[1] > 0), x[0] * x[1], 0)),
    "softplus": (lambda x: jnp.logaddexp(x, 0), lambda x: jnp.log1p(jnp.exp(x))),
    "clip and choice": (lambda x: jnp.clip(x, -1, 2), lambda x: jnp.where(x > 2, 2, jnp.where(x < -1, -1, x))),
    "cross entropy": (lambda z: jnp.sum(jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))),
                      lambda z: jnp.sum(jnp.log(1 + jnp.exp(z)))),
    "largest and second": (lambda x: jax.lax.top_k(x, 1)[0][0], jnp.max),
}  # fmt: skip
BRANCHES_NOT_SAME = {
    "one sign of one entry": (lambda x: jnp.where(x > 0, x, x * np.float32(1 + 2**-20)), lambda x: x),
    "all signs at once": (lambda x: jnp.prod(jnp.where(x > 0, x, 0)), lambda x: 0 * x[0]),
    "between two numbers": (lambda x: jnp.where((x > 1) & (x < 2), x + 1, x), lambda x: x),
    "a matrix and its transpose": (lambda x: (x[:, None] > x[None, :] + 1).astype(x.dtype) * x[None, :], lambda x: (
        (x[:, None] > x[None, :] + 1).astype(x.dtype).T * x[None, :])),
    "the largest of another row": (lambda x: jnp.max(x[:4]), lambda x: jnp.max(x[1:])),
    "shifted sign": (lambda x: jnp.abs(x + 1) - 1, jnp.abs),
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES_SAME)
def test_programs_with_branches_are_proved(name):
    report = v.equivalent(*BRANCHES_SAME[name], X, skip=("rounding", "identical"))
    assert report.verdict is v.Verdict.PROVED, report


@pytest.mark.thinned(4)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BRANCHES_NOT_SAME)
def test_programs_with_other_branches_are_never_proved(name, seed):
    report = v.equivalent(*BRANCHES_NOT_SAME[name], -X, key=seed, skip=("rounding",))
    assert report.verdict is not v.Verdict.PROVED, report


@pytest.mark.parametrize(
    ("f", "bits"),
    [(lambda x: POSITIVE_PART(x), 1), (lambda x: jnp.sum(POSITIVE_PART(x)), 1), (lambda x: jnp.abs(x) * jnp.sign(x), 1),
     (lambda x: POSITIVE_PART(x) * POSITIVE_PART(x[::-1]), 2), (lambda x: jnp.prod(POSITIVE_PART(x)), 5),
     (lambda x: jnp.exp(jnp.sum(POSITIVE_PART(x))), 5), (lambda x: jnp.exp(POSITIVE_PART(x)), 1),
     (lambda x: (x[:, None] > x[None, :]).astype(x.dtype) * (x[:, None] > x[None, :]).astype(x.dtype).T, 2),
     (lambda x: jnp.max(x), math.log2(5)), (lambda x: x * 2, 0),
     (lambda x: jnp.sum(jax.lax.platform_dependent(POSITIVE_PART(x), cpu=jnp.negative, default=jnp.square)), 1)],
)  # fmt: skip
def test_decisions_are_counted(f, bits):
    assert decision_bits(jax.make_jaxpr(f)(X), 1.0).output == pytest.approx(bits)


def test_of_a_million_like_entries_a_few_are_evaluated():
    big = jnp.linspace(-3, 3, 10**6)
    skip = all_but("structure", "proof")
    same = v.equivalent(lambda x: jnp.maximum(x, 0) * jax.nn.sigmoid(x), lambda x: (
        jnp.where(x > 0, x, 0) * (1 + jnp.tanh(x / 2)) / 2), big, skip=skip)  # fmt: skip
    assert same.verdict is v.Verdict.PROVED, same
    other = v.equivalent(lambda x: x * 1, lambda x: x * jnp.ones(10**6).at[-1].set(2), big, skip=skip)
    assert other.verdict is not v.Verdict.PROVED, other
