"""The field's arithmetic against Python's integers, and what it must never hold equal."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop as v
from handprop.verifier.proof.field.arithmetic import HIGH, LOW, POSITIVE, Elements, Field, draw_prime, is_prime
from handprop.verifier.proof.field.degrees import VARIABLE
from handprop.verifier.proof.field.values import Value, moved

RNG = np.random.default_rng(0)
P = draw_prime(RNG)
FIELD = Field(P)
EDGES = np.array([0, 1, 2, P - 1, P - 2, (P - 1) // 2, 1 << 48, 3], np.int64)


def draws(n: int) -> Elements:
    return Elements(np.concatenate([EDGES, RNG.integers(P, size=n, dtype=np.int64)]))


def test_primes_are_primes_with_the_roots_they_promise():
    assert [n for n in range(60) if is_prime(n)] == [n for n in range(2, 60) if all(n % d for d in range(2, n))]
    assert not is_prime(3215031751)  # a strong pseudoprime to bases 2, 3, 5, 7
    for _ in range(20):
        p = draw_prime(RNG)
        assert LOW <= p < HIGH
        assert p % 4 == 3
        assert p % 3 == 2
        assert all(pow(q, (p - 1) // 2, p) == 1 for q in POSITIVE)


def test_products_and_inverses_are_those_of_integers():
    a, b = draws(2000), Elements(draws(2000).re[::-1].copy())
    product = FIELD.mul(a, b).re
    assert all(int(x) * int(y) % P == int(z) for x, y, z in zip(a.re, b.re, product, strict=True))
    inverse = FIELD.inv(a, of_zero=7).re
    assert all(int(x) * int(y) % P == 1 for x, y in zip(a.re, inverse, strict=True) if x)
    assert inverse[0] == 7


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 1), (2, 700, 3)])
def test_matrix_products_are_those_of_integers(shape):
    rows, inner, columns = shape
    a, b = FIELD.draw(RNG, (rows, inner)), FIELD.draw(RNG, (inner, columns))
    a.re[0], b.re[:, 0] = P - 1, P - 1
    product = FIELD.bilinear(a, b, np.matmul, inner).re
    wanted = [[sum(int(x) * int(y) for x, y in zip(row, col, strict=True)) % P for col in b.re.T] for row in a.re]
    assert product.tolist() == wanted


def test_sums_and_products_along_axes():
    a = FIELD.draw(RNG, (40, 3))
    assert FIELD.sum(a, (0,)).re.tolist() == [sum(map(int, column)) % P for column in a.re.T]
    assert FIELD.prod(a, 0).re.tolist() == [math.prod(map(int, column)) % P for column in a.re.T]


def test_a_value_that_is_related_to_others_in_many_ways_is_moved_once():
    value = Value(draws(3), VARIABLE)
    for _ in range(60):
        value = value._replace(factors=(value, value, 1), scaled=(value, value), square_of=value)
    other = moved(value, np.flip)
    assert other.scaled is not None and other.scaled[1] is other.square_of
    assert other.factors is not None and other.factors[0] is other.factors[1]
    assert (other.x.re == value.x.re[::-1]).all()


def test_roots_square_to_what_they_are_roots_of():
    a = draws(500)
    square = FIELD.mul(FIELD.sqrt(a.re), FIELD.sqrt(a.re))
    assert (square.re == a.re).all()
    assert not square.imaginary().any()
    squares = FIELD.mul(a, a)
    assert FIELD.sqrt(squares.re).im is None
    inverse = FIELD.mul(FIELD.sqrt(a.re[1:]), FIELD.inv(FIELD.sqrt(a.re[1:])))
    assert (inverse.re == 1).all()
    assert not inverse.imaginary().any()


X = jnp.linspace(0.3, 1.7, 5)
SAME = {
    "logistic by tanh": (jax.nn.sigmoid, lambda x: 0.5 * (1 + jnp.tanh(0.5 * x))),
    "logistic by tanh of a sum written out": (
        lambda x: jax.nn.sigmoid(jnp.stack([x, 2 * x]) @ x), lambda x: 0.5 * (1 + jnp.tanh(0.5 * jnp.stack(
            [x[0] * x[0] + x[1] * x[1] + x[2] * x[2] + x[3] * x[3] + x[4] * x[4],
             2 * x[0] * x[0] + 2 * x[1] * x[1] + 2 * x[2] * x[2] + 2 * x[3] * x[3] + 2 * x[4] * x[4]])))),
    "softplus of the negative": (lambda x: jnp.log1p(jnp.exp(x)), lambda x: x + jnp.log1p(jnp.exp(-x))),
    "exp of a sum": (lambda x: jnp.exp(x - x.mean()), lambda x: jnp.exp(x) / jnp.exp(x.mean())),
    "softmax shifted": (jax.nn.softmax, lambda x: jnp.exp(x - x[2]) / jnp.exp(x - x[2]).sum()),
    "logsumexp unshifted": (jax.scipy.special.logsumexp, lambda x: jnp.log(jnp.exp(x).sum())),
    "exp of log": (lambda x: jnp.exp(2 * jnp.log(x * x) - x), lambda x: x**4 * jnp.exp(-x)),
    "root": (lambda x: x / jnp.sqrt(x * x + 1), lambda x: x * jnp.sqrt(1 + x**2) / (1 + x**2)),
    "root of an exponential": (lambda x: jnp.sqrt(jnp.exp(x)), lambda x: jnp.exp(x / 2)),
    "root of a multiple": (lambda x: jnp.sqrt((1 + x * x) / 37), lambda x: jnp.sqrt(1 + x * x) / jnp.sqrt(37.0)),
    "root of a multiple of a square": (lambda x: jnp.sqrt(0.3 * x**2), lambda x: jnp.sqrt(0.3) * jnp.abs(x)),
    "root of a number that is a square": (lambda x: x * jnp.sqrt(jnp.full(5, 1369.0)), lambda x: 37 * x),
    "roots of numbers multiplied": (lambda x: x * jnp.sqrt(jnp.full(5, 37.0)) * jnp.sqrt(jnp.full(5, 41.0)),
                                    lambda x: x * jnp.sqrt(jnp.full(5, 1517.0))),
    "sizes in another order": (lambda x: jnp.maximum(jnp.abs(x[0]), 0.9 * jnp.abs(x)),
                               lambda x: jnp.maximum(0.9 * jnp.abs(x), jnp.abs(x[0]))),
    "a folded number": (lambda x: x / (1 - 0.999 ** jnp.asarray(np.float32(3.0))), lambda x: x / (1 - 0.999**3)),
    "cube root": (lambda x: jnp.cbrt(x) ** 3, lambda x: x),
    "sine of twice": (lambda x: jnp.sin(2 * x), lambda x: 2 * jnp.sin(x) * jnp.cos(x)),
    "sum of squares": (lambda x: jnp.sin(x) ** 2 + jnp.cos(x) ** 2, jnp.ones_like),
    "power": (lambda x: x**1.5, lambda x: x * jnp.sqrt(x)),
    "a third": (lambda x: x / 3, lambda x: x * np.float32(1 / 3)),
    "clip by max and min": (lambda x: jnp.clip(x, 0.5, 1.0), lambda x: jnp.minimum(jnp.maximum(x, 0.5), 1.0)),
    "einsum in another order": (lambda x: jnp.einsum("i,j,i->j", x, x, x), lambda x: x * jnp.sum(x * x)),
    "running sum backwards": (lambda x: jnp.cumsum(x[::-1])[::-1], lambda x: x.sum() - jnp.cumsum(x) + x),
    "scan": (lambda x: jax.lax.scan(lambda c, u: (c * 0.5 + u, None), 0.0, x)[0],
             lambda x: x @ jnp.array([0.0625, 0.125, 0.25, 0.5, 1.0])),
    "stack taken apart": (jax.grad(lambda x: jnp.sum(jnp.stack([2 * x, x], -1) ** 2)), lambda x: 10 * x),
    "solve": (lambda x: jnp.linalg.solve(jnp.diag(x) + 1, x), lambda x: jnp.linalg.inv(jnp.diag(x) + 1) @ x),
}  # fmt: skip
NOT_SAME = {
    "root of the square": (lambda x: jnp.sqrt(x * x), lambda x: x),
    "absolute": (jnp.abs, lambda x: x),
    "root of a number that is a square": (lambda x: x * jnp.sqrt(jnp.full(5, 1369.0)), lambda x: -37 * x),
    "root of a multiple of a number": (
        lambda x: x * jnp.sqrt(jnp.full(5, 68413.0)),
        lambda x: -43 * x * jnp.sqrt(jnp.full(5, 37.0)),
    ),
    "a number close to the folded one": (
        lambda x: x / (1 - 0.999 ** jnp.asarray(np.float32(3.0))),
        lambda x: x / (1 - 0.999**3 + 1e-9),
    ),
    "one part in ten million": (lambda x: x * np.float32(1 + 2**-23), lambda x: x),
    "exp of twice": (lambda x: jnp.exp(2 * x), lambda x: 2 * jnp.exp(x)),
    "logistic by tanh without the half": (jax.nn.sigmoid, lambda x: 0.5 * (1 + jnp.tanh(x))),
    "exp of the negative of a sum": (lambda x: jnp.exp(x[0] + x), lambda x: jnp.exp(-(x[0] + x))),
    "log of a sum": (lambda x: jnp.log(x + 1), lambda x: jnp.log(x)),
    "another function": (jax.scipy.special.erf, jnp.tanh),
    "maximum for sum": (lambda x: jnp.max(x), lambda x: jnp.sum(x)),
    "another part of a stack": (jax.grad(lambda x: jnp.sum(jnp.stack([2 * x, x], -1)[:, 0])), jnp.ones_like),
    "another entry": (lambda x: x[0] * x, lambda x: x[1] * x),
    "a prime times": (lambda x: x * float(2**50) - x * float(2**50), lambda x: x),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", SAME)
def test_identities_are_proved(name):
    report = v.equivalent(*SAME[name], X, skip=("rounding", "identical"))
    assert report.verdict is v.Verdict.PROVED, report
    assert report.check("proof").evidence["bits"] >= 40


@pytest.mark.thinned(8)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("f", "g"),
    [(lambda x: jnp.sqrt(x * x), lambda x: x), (lambda x: jnp.sqrt(37 * x * x), lambda x: jnp.sqrt(37.0) * x),
     (lambda x: jnp.sqrt(2 * x * x), lambda x: np.float32(2**0.5) * x),
     (lambda x: jnp.sqrt(x * x + 1) * jnp.sqrt(1 + x * x), lambda x: -x * x - 1)],
)  # fmt: skip
def test_a_root_of_one_entry_is_not_proved_by_a_lucky_sign(f, g, seed):
    report = v.equivalent(f, g, -jnp.ones(1), key=seed, skip=("rounding",))
    assert report.verdict is not v.Verdict.PROVED, report


@pytest.mark.thinned(3)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NOT_SAME)
def test_what_is_not_the_same_is_never_proved(name, seed):
    report = v.equivalent(*NOT_SAME[name], -X, key=seed, skip=("rounding",))
    assert report.verdict is not v.Verdict.PROVED, report
