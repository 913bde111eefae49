"""Many roots: they are told apart, and what may be related is not proved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v
from handprop.verifier.proof.field.arithmetic import Elements, Field, draw_prime
from handprop.verifier.proof.roots import root_groups

RNG = np.random.default_rng(0)
P = draw_prime(RNG)
FIELD = Field(P)


def row_norm(x):
    return x / jnp.sqrt(1 + (x * x).sum(1, keepdims=True))


MANY = jnp.ones((34, 3))
MANY_ROOTS = {
    "a root a row": (row_norm, lambda x: x * jax.lax.rsqrt(jnp.einsum("ij,ij->i", x, x) + 1)[:, None], True),
    "two roots a row": (lambda x: row_norm(1 + row_norm(x)), lambda x: row_norm(row_norm(x) + 1), True),
    "sign": (lambda x: jnp.sqrt(x * x), lambda x: x, False),
    "sign of a product": (lambda x: jnp.sqrt((x * x + 1) ** 2), lambda x: -x * x - 1, False),
    "roots that meet": (lambda x: jnp.sqrt(x * x + x.sum() ** 2), lambda x: jnp.sqrt(x.sum() ** 2 + x**2), False),
    "another row's": (lambda x: x / row_norm(x)[::-1], lambda x: x / row_norm(x), False),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY_ROOTS)
def test_many_roots_are_told_apart(name):
    f, g, proved = MANY_ROOTS[name]
    report = v.equivalent(f, g, MANY, skip=all_but("structure", "proof"))
    assert (report.verdict is v.Verdict.PROVED) == proved, report


def groups_of(f, shapes, most=30):
    """Of the roots whose arguments are ``f(inputs)``, over one prime."""
    inputs = [FIELD.draw(RNG, shape).re for shape in shapes]

    def draw(masks):
        return f(*(x if mask is None else np.where(mask, FIELD.draw(RNG, x.shape).re, x)
                   for x, mask in zip(inputs, masks, strict=True))).reshape(-1)  # fmt: skip

    return root_groups(draw, FIELD.is_square, shapes, most)


def test_roots_are_grouped_by_what_they_depend_on():
    mul = lambda a, b: FIELD.mul(Elements(a), Elements(b)).re  # noqa: E731
    sizes, _ = groups_of(lambda x, w: (mul(x, x) + w) % P, [(5, 7), ()])
    assert sizes == [1] * 35
    sizes, _ = groups_of(lambda x: np.stack([x.sum(1) % P, (mul(x, x)[:, 0] + 1) % P]), [(5, 7)])
    assert sizes == [2] * 5
    sizes, _ = groups_of(lambda x: np.stack([x.sum(1) % P, x.sum(1) % P, np.full(5, 3)]), [(5, 7)])
    assert sizes == [1] * 5  # one twice, and a number
    assert groups_of(lambda x: np.stack([x.sum(1) % P, mul(mul(x, x)[:, 0], x.sum(1))]), [(5, 7)]) is None  # related
    assert groups_of(lambda x: mul(x, x), [(5,)]) is None  # squares
    assert groups_of(lambda x, y: mul(mul(x, x), y[None]), [(5,), ()]) is None  # a number times a square
    assert groups_of(lambda x: (x + x.sum()) % P, [(40,)]) is None  # all meet, and are too many


def test_roots_are_told_apart_where_decisions_are_met_by_the_dozen():
    x, y = jnp.array([-1.5, 2.0, 0.3]), jnp.array([1.0, -2.0, 0.5])
    relu, skip = jax.nn.relu, all_but("structure", "proof")

    def f(x, y):
        return jnp.sum(relu(relu(x))) * jnp.sqrt(1 + relu(y) ** 2)

    def g(x, y, below=1.0):
        return jnp.sum(relu(x)) * jnp.where(y > 0, jnp.sqrt(1 + y**2), below)

    same = v.equivalent(f, g, x, y, skip=skip)
    assert same.verdict is v.Verdict.PROVED and same.check("proof").evidence["roots"] > 100, same
    other = v.equivalent(f, lambda x, y: g(x, y, below=2.0), x, y, skip=skip)
    assert other.verdict is not v.Verdict.PROVED, other
