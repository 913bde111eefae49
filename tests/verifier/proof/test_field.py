"""The field's arithmetic against Python's integers, and what it must never hold equal."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v
from handprop.verifier.programs.literals import read, simplest_between
from handprop.verifier.proof.field.arithmetic import HIGH, LOW, POSITIVE, Elements, Field, draw_prime, is_prime
from handprop.verifier.proof.roots import root_groups

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


@pytest.mark.parametrize(
    ("number", "dtype", "text"),
    [(0.1, "float32", "1/10"), (1 / 3, "float32", "1/3"), (0.5**0.5, "float64", "sqrt(1/2)"),
     (np.pi, "float32", "pi^(1)"),
     ((2 / np.pi) ** 0.5, "float32", "sqrt(2) pi^(-1/2)"), (np.log(2), "float64", "log(2)^1"),
     (0.044715, "float32", "8943/200000"), (1 + 2**-23, "float32", None), (0.5, "float32", None),
     (1.6732632423543772, "float64", None)],
)  # fmt: skip
def test_literals_are_read_as_they_were_written(number, dtype, text):
    reading = read(float(np.dtype(dtype).type(number)), dtype)
    assert (reading and str(reading)) == text
    if reading is not None:
        assert reading.to_float() == pytest.approx(number, rel=1e-7)


def test_simplest_fraction():
    for denominator in range(1, 40):
        for numerator in range(1, 40):
            x = Fraction(numerator, denominator)
            assert simplest_between(x, x) == x
            near = simplest_between(x - Fraction(1, 10**5), x + Fraction(1, 10**5))
            assert near.denominator <= x.denominator


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
    from handprop.verifier.proof.decision_bits import decision_bits

    assert decision_bits(jax.make_jaxpr(f)(X), 1.0).output == pytest.approx(bits)


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


def test_of_a_million_like_entries_a_few_are_evaluated():
    big = jnp.linspace(-3, 3, 10**6)
    skip = all_but("structure", "proof")
    same = v.equivalent(lambda x: jnp.maximum(x, 0) * jax.nn.sigmoid(x), lambda x: (
        jnp.where(x > 0, x, 0) * (1 + jnp.tanh(x / 2)) / 2), big, skip=skip)  # fmt: skip
    assert same.verdict is v.Verdict.PROVED, same
    other = v.equivalent(lambda x: x * 1, lambda x: x * jnp.ones(10**6).at[-1].set(2), big, skip=skip)
    assert other.verdict is not v.Verdict.PROVED, other
