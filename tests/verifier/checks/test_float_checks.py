"""Finite differences, transformations and edge cases: what each sees, and what none may be alarmed by."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v

X = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, d: (backward(x, d),))
    return rule


def alone(name, rule, *args, **options):
    """The report of one check, the structure beside it."""
    return v.verify(rule, *args, skip=all_but("structure", name), **options)


def cube(x):
    return x**3


CAUGHT = {
    "cotangent ignored": ("transformations", cube, lambda x, d: 3 * x * x, X),
    "cotangent squared": ("transformations", cube, lambda x, d: 3 * x * x * d * d, X),
    "cotangent of ones": ("transformations", cube, lambda x, d: jnp.where(jnp.all(d == 1), 5.0, 3 * x * x * d), X),
    "cotangent clipped": ("transformations", cube, lambda x, d: 3 * x * x * jnp.clip(d, -0.1, 0.1), X),
    "cotangent clipped far off": ("transformations", cube, lambda x, d: 3 * x * x * jnp.clip(d, -1e4, 1e4), X),
    "small cotangents flushed": ("transformations", cube, lambda x, d: 3 * x * x * jnp.where(abs(d) < 1e-5, 0, d), X),
    "cotangents that sum to 0": ("transformations", cube, lambda x, d: jnp.where(d.sum() == 0, 0, 3 * x * x * d), X),
    "saturated": ("edge_cases", jax.nn.softplus, lambda x, d: d * jnp.where(x > 30, 0, jax.nn.sigmoid(x)), X),
    "at zero alone": ("edge_cases", cube, lambda x, d: d * jnp.where(x == 0, 1, 3 * x * x), X),
    "below a millionth": ("edge_cases", jnp.sin, lambda x, d: d * jnp.where(jnp.abs(x) < 1e-4, 0, jnp.cos(x)), X),
    "equal entries": (
        "edge_cases", lambda x: x * x.sum(), lambda x, d: d * x.sum() + jnp.where(x[0] == x[1], 0, (d * x).sum()), X,
    ),
    "a window between two numbers": (
        "edge_cases", cube, lambda x, d: 3 * x * x * jnp.where((x > 7.1) & (x < 7.2), 0, d), X),
    "wrong everywhere": ("finite_differences", cube, lambda x, d: 3.1 * x * x * d, X),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", CAUGHT)
def test_what_a_check_alone_refutes(name):
    check, primal, backward, x = CAUGHT[name]
    report = alone(check, ruled(primal, backward), x)
    assert report.verdict is v.Verdict.REFUTED, report
    assert report.counterexample is not None
    got, want = report.counterexample.replay()
    assert (got, want) == (report.counterexample.worst.got, report.counterexample.worst.want)
    assert v.Report.from_json(report.to_json()) == report


def relu_with(at_zero):
    return ruled(lambda x: jnp.maximum(x, 0), lambda x, d: d * jnp.where(x > 0, 1, jnp.where(x == 0, at_zero, 0)))


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_every_subgradient_of_relu_is_right(at_zero):
    report = v.verify(relu_with(np.float32(at_zero)), X)
    assert report.ok, report
    if at_zero != 0.5:
        assert "a different one-sided derivative: dx at zeros" in report.check("edge_cases").summary


RIGHT = {
    "median of equal entries": (lambda x: jnp.sort(x)[3], lambda x, d: (
        jnp.zeros_like(x).at[jnp.argsort(x)[3]].set(d)), X),
    "largest": (lambda x: jnp.max(x), lambda x, d: d * (jnp.arange(6) == jnp.argmax(x)).astype(x.dtype), X),
    "absolute": (jnp.abs, lambda x, d: d * jnp.where(x >= 0, 1, -1).astype(x.dtype), X),
    "root": (jnp.sqrt, lambda x, d: d / (2 * jnp.sqrt(x)), jnp.abs(X)),
    "logarithm of probabilities": (lambda p: jnp.log(1 - p), lambda p, d: -d / (1 - p), jnp.linspace(0.1, 0.9, 6)),
    "rounded": (lambda x: jnp.round(x) * x, lambda x, d: d * jnp.round(x), X),
    "bfloat16": (cube, lambda x, d: 3 * x * x * d, X.astype(jnp.bfloat16)),
    "empty": (cube, lambda x, d: 3 * x * x * d, jnp.zeros((0, 2))),
    "huge": (cube, lambda x, d: 3 * x * x * d, X * 1e12),
    "tiny": (cube, lambda x, d: 3 * x * x * d, X * 1e-12),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_are_not_refuted(name):
    primal, backward, x = RIGHT[name]
    report = v.verify(ruled(primal, backward), x)
    assert report.verdict is not v.Verdict.REFUTED, report
    assert not [c for c in report.checks if c.outcome is v.Outcome.FAILS], report


def test_poor_arithmetic_is_noted_and_not_refuted():
    naive = ruled(lambda x: jax.nn.logsumexp(x), lambda x, d: d * jnp.exp(x) / jnp.exp(x).sum())
    report = v.verify(naive, X)
    assert report.verdict is v.Verdict.PROVED, report
    said = "not finite where autodiff is: dx at inputs whose entries are positive and negative millions"
    assert said in report.check("edge_cases").summary


def test_differences_do_not_trust_autodiff():
    through = lambda x: x + jax.lax.stop_gradient(jnp.sin(x) - x)  # noqa: E731
    report = v.verify(ruled(through, lambda x, d: d), X)
    assert report.ok
    assert report.check("finite_differences").outcome is v.Outcome.NOTES
    assert "stop_gradient" in report.check("finite_differences").summary


@pytest.mark.parametrize("seed", range(5))
def test_differences_say_nothing_at_a_kink(seed):
    """Central differences there give the mean of both slopes, which no rule has to return."""
    report = alone("finite_differences", relu_with(np.float32(0)), jnp.zeros(4), key=seed)
    assert report.check("finite_differences").outcome is v.Outcome.UNDECIDED, report


def test_what_does_not_repeat_itself_cannot_be_judged():
    rng = np.random.default_rng(0)

    def noise(x):
        return rng.normal(size=x.shape).astype(x.dtype)

    wild = ruled(cube, lambda x, d: d * jax.pure_callback(noise, x, x, vmap_method="sequential"))
    report = v.verify(wild, X)
    assert report.verdict is v.Verdict.INCONCLUSIVE, report
    assert "two runs" in report.reason


def test_what_a_rule_cannot_bear_is_noted():
    called = ruled(cube, lambda x, d: d * jax.pure_callback(lambda x: np.asarray(3 * x * x), x, x))
    report = v.verify(called, X)
    assert report.ok, report
    assert "a second derivative" in report.check("transformations").evidence["unsupported"]


def test_a_rule_of_jax_operations_bears_all():
    report = alone("transformations", ruled(cube, lambda x, d: 3 * x * x * d), X)
    assert report.check("transformations").evidence["unsupported"] == ()


@jax.custom_batching.custom_vmap
def times_two(x):
    return 2 * x


@times_two.def_vmap
def times_three(axis_size, in_batched, x):
    return 3 * x, True


def test_a_rule_that_is_another_in_a_batch_is_noted():
    report = alone("transformations", ruled(lambda x: 2 * x, lambda x, d: times_two(d)), X)
    assert report.check("transformations").outcome is v.Outcome.NOTES
    assert "in a batch" in report.check("transformations").summary


def bits_of_abs(x):
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & 0x7FFFFFFF
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def called_back(x):
    return jax.pure_callback(lambda a: np.sin(np.float32(a)), jax.ShapeDtypeStruct(x.shape, jnp.float32), x)


@pytest.mark.parametrize(("f", "g"), [
    (bits_of_abs, jnp.abs),
    (lambda x: bits_of_abs(3 * x + 1), lambda x: jnp.abs(3 * x + 1)),
    (lambda x: called_back(3 * x + 1), lambda x: jnp.sin(3 * x + 1)),
])  # fmt: skip
def test_what_runs_in_its_own_type_rounds_in_it(f, g):
    report = v.equivalent(f, g, X, skip=("proof", "repair"))
    assert report.verdict is v.Verdict.VERIFIED
    assert not report.internal
    assert v.equivalent(f, lambda x: 1.001 * g(x), X, skip=("proof", "repair")).verdict is v.Verdict.REFUTED


def wrong_in(dtype):
    """A slope that is wrong in one dtype, which a function that is traced in float64 does not show."""
    return ruled(jnp.tanh, lambda x, d: (0 if x.dtype == dtype else 1) * (1 - jnp.tanh(x) ** 2) * d)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_path_for_one_dtype_is_judged_where_it_is_taken(dtype):
    assert v.verify(wrong_in(dtype), X.astype(dtype), skip=["repair"]).verdict is v.Verdict.REFUTED
    assert v.verify(wrong_in(jnp.float16), X.astype(dtype), skip=["repair"]).ok
    by_epsilon = ruled(jnp.sin, lambda x, d: d * jnp.where(jnp.finfo(x.dtype).eps > 1e-10, 0.0, jnp.cos(x)))
    assert v.verify(by_epsilon, X, skip=["repair"]).verdict is v.Verdict.REFUTED


M = jnp.array([[4.0, 1.0, 0.5], [-1.0, 3.0, 0.2], [0.3, -0.7, 5.0]])


def solved(b, transposed):
    def by(matrix):
        return lambda _, b: jnp.linalg.solve(matrix, b)

    return jax.lax.custom_linear_solve(lambda x: M @ x, b, by(M), by(transposed))


def called(x, transposed):
    return jax.custom_derivatives.linear_call(lambda r, x: M @ x, lambda r, y: transposed @ y, M, x)


def root_of(a, factor):
    def newton(f, x):
        return jax.lax.fori_loop(0, 30, lambda _, x: 0.5 * (x + a / x), x)

    return jax.lax.custom_root(
        lambda x: x * x - a, jnp.ones_like(a), newton, lambda g, y: factor * y / g(jnp.ones_like(y)))  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("inside", "wrong", "right", "x"), [
    (lambda b: solved(b, M), lambda b: jnp.linalg.solve(M, 2 * jnp.linalg.solve(M, b)),
     lambda b: jnp.linalg.solve(M.T, 2 * jnp.linalg.solve(M, b)), X[:3]),
    (lambda x: called(x, M), lambda x: M @ (2 * M @ x), lambda x: M.T @ (2 * M @ x), X[:3]),
    (lambda a: root_of(a, 1.01), lambda a: 1.01 * jnp.ones_like(a), jnp.ones_like, jnp.array([0.5, 2.0, 3.0])),
])  # fmt: skip
def test_a_wrong_transpose_inside_of_the_function_is_not_taken_for_its_derivative(inside, wrong, right, x):
    """Autodiff goes through it, and the function's own values do not."""

    def loss(x):
        return jnp.sum(inside(x) ** 2)

    for hand in (wrong, jax.grad(loss)):
        assert v.verify_gradient(hand, loss, x, skip=["repair"]).verdict is v.Verdict.REFUTED
    report = v.verify_gradient(right, loss, x, skip=["repair"])
    assert report.ok, report
    assert any(finding.startswith("at the given input autodiff is wrong: gradient[") for finding in report.findings)


@pytest.mark.parametrize("transposed", [M, M.T])
def test_a_rule_whose_function_holds_a_transpose_written_by_hand(transposed):
    rule = ruled(lambda x: called(x, M), lambda x, d: transposed @ d)
    assert v.verify(rule, X[:3], skip=["repair"]).ok is (transposed is not M)


def masked(equal):
    """A value that depends on which numbers are equal."""
    return lambda x: jnp.where(equal(x), jnp.sin(x), 2 * x)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("f", "g"), [
    (lambda x: jnp.sqrt((jnp.sin(x) ** 2 + jnp.cos(x) ** 2) * x * x) == jnp.sqrt(x * x), lambda x: x == x),
    (lambda x: x - jnp.log(jnp.exp(x)) == 0, lambda x: x == x),
    (lambda x: x < jnp.log(jnp.exp(x)), lambda x: x < x),
    (lambda x: jnp.log(jnp.exp(x)) != x, lambda x: x != x),
    (lambda x: jax.lax.scan(lambda c, y: (c, jnp.log(jnp.exp(y)) == y), 0.0, x)[1], lambda x: x == x),
])  # fmt: skip
@pytest.mark.parametrize("key", range(3))
def test_rounding_that_decides_an_equality_neither_refutes_nor_hides_what_is_wrong(f, g, key):
    options = {"key": key, "skip": all_but("structure", "rounding")}
    report = v.equivalent(masked(f), masked(g), X, **options)
    assert report.ok or re.search("rounding (would hide an error of|decides which)", report.reason), report
    wrong = v.equivalent(masked(f), lambda x: 1.5 * masked(g)(x), X, **options)
    assert not wrong.ok, wrong


def test_an_equality_that_holds_by_bits_is_no_matter_of_rounding():
    """Which entry is the largest is decided by its bits, and a rule that takes another is wrong."""
    largest = ruled(lambda x: x.max(), lambda x, d: jnp.where(x == x.max(), d, 0))
    assert v.verify(largest, X, skip=["repair"]).ok
    smallest = ruled(lambda x: x.max(), lambda x, d: jnp.where(x == x.min(), d, 0))
    assert v.verify(smallest, X, skip=["repair"]).verdict is v.Verdict.REFUTED


def test_noise_leaves_a_negative_number_its_integer_power():
    """Else the runs with noise are NaN, and what rounding does to ``1 + tanh`` near -1 is not seen."""

    def of_tanh(x):
        return jnp.sum(jnp.log(0.5 * (1.0 + jnp.tanh(0.5 * (x - jnp.power(x, 2.0))))) ** 3)

    def of_sigmoid(x):
        return jnp.sum(jnp.log(jax.nn.sigmoid(x - jnp.square(x))) ** 3)

    x = jnp.array([-2.4, -3.97, 4.8])
    report = v.equivalent(jax.grad(of_tanh), jax.grad(of_sigmoid), x, skip=["repair"])
    assert report.ok, report


def dropout(drawn):
    """A mask that is drawn again on the way back, as in most libraries."""

    def kept(key, shape):
        return drawn(key, shape)

    rule = jax.custom_vjp(lambda x, key: jnp.where(kept(key, x.shape), x / 0.7, 0))
    rule.defvjp(
        lambda x, key: (rule.fun(x, key), key), lambda key, d: (jnp.where(kept(key, d.shape), d / 0.7, 0), None)
    )
    return rule


@pytest.mark.thinned(3)
@pytest.mark.parametrize("drawn", [
    lambda key, shape: jax.random.bernoulli(key, 0.7, shape),
    lambda key, shape: jax.random.uniform(key, shape) < 0.7,
    lambda key, shape: jax.random.normal(key, shape) > 0,
])  # fmt: skip
def test_numbers_drawn_in_the_users_own_dtype_are_the_same_in_every_check(drawn):
    """With 64-bit types on JAX draws other numbers."""
    report = v.verify(dropout(drawn), X, jax.random.key(3), skip=["repair"])
    assert report.ok, report
    assert not [c for c in report.checks if "support vmap" in c.summary or c.outcome is v.Outcome.FAILS]


def test_what_is_no_number_by_autodiff_either_is_held_to_the_values():
    """Autodiff of ``where(x > 0, sqrt(x), 0)`` is NaN below 0, where the function is flat."""

    def loss(x):
        return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))

    def below(number):
        return lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), number)

    x = jnp.array([1.0, -0.5, 0.3, -2.0])
    shared = v.verify_gradient(below(jnp.nan), loss, x, skip=["repair"])
    assert shared.verdict is v.Verdict.REFUTED and "autodiff has it too" in shared.reason, shared
    assert v.verify_gradient(below(0.0), loss, x, skip=["repair"]).ok


def test_numbers_beside_what_is_none_are_a_condition():
    x = jnp.array([1.0, -0.5])
    report = v.equivalent(lambda x: jnp.where(x > 0, jnp.log(x), 777.0), jnp.log, x, skip=["repair"])
    assert "the reference is a number, which it is not at the given input" in report.conditions, report


def test_where_nothing_is_compared_nothing_is_verified():
    report = v.equivalent(lambda x: 3 * x, lambda x: jnp.log(-x * x), X, skip=["repair"])
    assert report.verdict is v.Verdict.INCONCLUSIVE and "NaN at every sample" in report.reason, report


def convolved(conjugate):
    fft, back = jnp.fft.rfft, jnp.fft.irfft
    rule = jax.custom_vjp(lambda x, h: back(fft(x) * fft(h), n=6))

    def backward(held, d):
        x, h = held
        return back(fft(d) * conjugate(fft(h)), n=6), back(fft(d) * conjugate(fft(x)), n=6)

    rule.defvjp(lambda x, h: (rule.fun(x, h), (x, h)), backward)
    return rule


def turned(x):
    """Angles that are added, and what their sum is."""
    return (jnp.exp(1j * x) * jnp.exp(2j * x) - jnp.exp(3j * x)).real + x, x


SPECTRA = {  # by name: two programs that are the same, and a third that is not quite
    "a transform and back": (lambda x: jnp.fft.ifft(jnp.fft.fft(x)).real, lambda x: x, lambda x: x + 1e-7 * x[::-1]),
    "a shift": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * jnp.exp(-2j * jnp.pi * jnp.arange(3) / 5), 5),
                lambda x: jnp.roll(x, 1), lambda x: 1.00001 * jnp.roll(x, 1)),
    "angles that are added": (lambda x: turned(x)[0], lambda x: turned(x)[1], lambda x: turned(1.0001 * x)[1]),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_complex_numbers_are_rounded_too(name):
    x = jnp.asarray(np.random.default_rng(5).normal(size=5), jnp.float32)
    f, same, other = SPECTRA[name]
    options = {"skip": all_but("structure", "rounding", "edge_cases")}
    report = v.equivalent(f, same, x, **options)
    assert report.ok and not report.internal, report
    assert v.equivalent(f, other, x, **options).verdict is v.Verdict.REFUTED


UNSEEN = {  # by name: a program that is NaN, or decides by NaN, and what XLA makes of it where it is compiled
    "a mask times NaN": (lambda x: (x > 0).astype(x.dtype) * jnp.log(x), lambda x: jnp.where(x > 0, jnp.log(x), 0.0)),
    "a mask of integers": (lambda x: (x > 0).astype(jnp.int32).astype(x.dtype) * jnp.log(x),
                           lambda x: jnp.where(x > 0, jnp.log(x), 0.0)),
    "a product with NaN": (lambda x: jnp.eye(3) @ jnp.log(x), lambda x: jnp.where(x > 0, jnp.log(x), 0.0)),
    "NaN is not below zero": (lambda x: (jnp.exp(jnp.log(x)) >= 0).astype(x.dtype), jnp.ones_like),
    "nor is a root": (lambda x: jnp.where(jnp.sqrt(x * x * x) >= 0, x, 0.0), lambda x: x),
}  # fmt: skip


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_what_xla_makes_of_nan_hides_nothing(name):
    f, g = UNSEEN[name]
    report = v.equivalent(f, g, jnp.array([1.2, -0.7, 0.5]), skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED, report


@pytest.mark.thinned(2)
@pytest.mark.parametrize("seed", range(4))
def test_a_sum_that_cancels_is_rounded_as_its_terms_are(seed):
    half = 10.0 ** (3 * seed) * np.random.default_rng(23 + seed).normal(size=11)
    with jax.enable_x64(True):
        d = jnp.asarray(np.concatenate([half, -half, [0.0]]))
        options = {"skip": all_but("structure", "rounding")}
        suffixes = lambda d: jnp.cumsum(d[::-1])[::-1]  # noqa: E731
        report = v.equivalent(lambda d: d.sum() - jnp.cumsum(d) + d, suffixes, d, **options)
        assert report.verdict is v.Verdict.VERIFIED, report
        wrong = v.equivalent(lambda d: d.sum() - jnp.cumsum(d) + d * (1 + 1e-9), suffixes, d, **options)
        assert wrong.verdict is v.Verdict.REFUTED
        report = v.equivalent(lambda d: d.sum(), lambda d: d[::-1].sum(), d, **options)
        assert report.verdict is v.Verdict.VERIFIED, report
        wrong = v.equivalent(lambda d: d.sum(), lambda d: d[::-1].sum() + 1e-9 * d[0], d, **options)
        assert wrong.verdict is v.Verdict.REFUTED


def test_random_numbers_are_those_that_the_user_draws():
    """With 64-bit types on they are others than without."""
    with jax.enable_x64(True):
        key, x = jax.random.key(2), jnp.asarray(np.random.default_rng(0).normal(size=23))

        def kept(x):
            return jnp.where(jax.random.bernoulli(key, 0.75, x.shape), x / 0.75, 0.0)

        assert v.verify(ruled(kept, lambda x, d: kept(d)), x, skip=["repair"]).ok
        assert not v.verify(ruled(kept, lambda x, d: 1.01 * kept(d)), x, skip=["repair"]).ok


def test_an_index_that_is_made_of_constants_is_no_matter_of_rounding():
    x = jnp.asarray(np.random.default_rng(5).normal(size=5), jnp.float32)
    options = {"skip": all_but("structure", "rounding")}
    report = v.equivalent(lambda x: jnp.median(x), lambda x: jnp.sort(x)[2], x, **options)
    assert report.verdict is v.Verdict.VERIFIED, report
    assert v.equivalent(lambda x: jnp.median(x), lambda x: jnp.sort(x)[3], x, **options).verdict is v.Verdict.REFUTED


@pytest.mark.thinned(3)
@pytest.mark.parametrize("size", [10.0, 1e4, 1e6])
@pytest.mark.usefixtures("jax_as_it_comes")
def test_a_series_of_many_terms_loses_more_than_one_rounding(size):
    a = size * jnp.array([0.8, 1.9, 0.5, 0.7, 1.2])
    below, above = jax.scipy.special.gammainc, jax.scipy.special.gammaincc
    options = {"skip": all_but("structure", "rounding", "edge_cases")}
    report = v.equivalent(below, lambda a, x: 1 - above(a, x), a, a, **options)
    assert report.verdict is not v.Verdict.REFUTED and not report.findings, report
    wrong = v.equivalent(below, lambda a, x: 1.0001 * (1 - above(a, x)), a, a, **options)
    assert wrong.verdict is v.Verdict.REFUTED


@pytest.mark.sweep
def test_the_two_parts_of_a_complex_constant_are_rounded_each():
    """A sixth, which JAX divides by, is another number in 32 bits; so is 0.1 in 0.1 + 0.3i."""
    x, h = jnp.arange(6.0), jnp.arange(6.0) ** 2
    report = v.verify(convolved(jnp.conj), x, h)
    assert report.ok and not report.internal, report
    assert v.verify(convolved(lambda z: z), x, h, skip=["repair"]).verdict is v.Verdict.REFUTED
    rule = jax.custom_vjp(lambda x: jnp.real(np.complex64(0.1 + 0.3j) * (x * x).astype(jnp.complex64)))
    rule.defvjp(lambda x: (rule.fun(x), x), lambda x, d: (0.2 * d * x,))
    report = v.verify(rule, X)
    assert report.ok and not report.internal and not report.findings, report


@pytest.mark.sweep
def test_where_the_derivative_that_jax_ships_is_an_approximation_the_values_decide():
    """Near 0 JAX's derivative of the Bessel function I1 is 0.50000007, or 0.5, as its version is."""
    i0, i1 = jax.scipy.special.i0, jax.scipy.special.i1
    x = jnp.array([0.8, 0.5, 0.4, 0.3])
    report = v.verify_gradient(lambda x: i0(x) - i1(x) / x, lambda x: jnp.sum(i1(x)), x)
    assert report.ok and not report.conditions, report
    assert any("autodiff is wrong: gradient" in text for text in report.findings), report
    wrong = v.verify_gradient(lambda x: 1.0000001 * (i0(x) - i1(x) / x), lambda x: jnp.sum(i1(x)), x)
    assert wrong.verdict is v.Verdict.REFUTED, wrong


def test_what_an_equality_decides_by_rounding_is_left_open():
    """Two ways to write tanh, equal or not by their last bit: at negative numbers one program returns x cubed."""

    def by_hand(x):
        t = jnp.tanh(x)
        return jnp.where(jnp.maximum(t, -jnp.tanh(jnp.sqrt(x * x))) == t, x * x * x, x)

    def reference(x):
        return jnp.where(jnp.abs(jnp.tanh(x)) == jnp.tanh(x), x**3, x)

    report = v.equivalent(by_hand, reference, jnp.array([0.3, -0.5, 0.7]), skip=["repair"])
    assert report.verdict is v.Verdict.INCONCLUSIVE and "rounding decides which" in report.reason, report


@pytest.mark.sweep
@pytest.mark.usefixtures("jax_as_it_comes")
def test_a_maximum_that_compiled_code_rounds_in_two_ways_is_no_mistake():
    """Compiled, the largest entry is computed with one rounding less than the entries that it is compared with, and
    the gradient divides by the number of ties, which is 0: NaN, and equation by equation it is right."""

    def by_minimum(x):
        squares = -(jnp.where(x > 1.0, x, 1.0) * x - jnp.where(x > 0.5, x, x))
        return jnp.sum(-jnp.min(squares.T, axis=0))

    def by_maximum(x):
        return jnp.sum(jnp.max(jnp.maximum(x, 1.0) * x - jnp.where(x > 0.5, x, x), axis=1))

    report = v.equivalent(jax.grad(by_minimum), jax.grad(by_maximum), X[:6].reshape(2, 3), skip=["repair"])
    assert report.verdict is not v.Verdict.REFUTED, report
    half = v.equivalent(lambda x: jax.grad(by_minimum)(x) / 2, jax.grad(by_maximum), X[:6].reshape(2, 3), skip="repair")
    assert half.verdict is v.Verdict.REFUTED, half


def share(x):
    return (x > 0).astype(x.dtype).mean()


COUNTS = {
    "mean": lambda x: share(x) == 1,
    "mean of three": lambda x: share(x[:3]) >= 1,
    "sum": lambda x: (x > 0).astype(x.dtype).sum() == 6,
    "product": lambda x: (x > 0).astype(x.dtype).prod() == 1,
    "dot": lambda x: jnp.dot((x > 0).astype(x.dtype), jnp.ones_like(x)) == 6,
    "quotient of integers": lambda x: (x > 0).sum() / 6 == 1,
    "signs": lambda x: jnp.sign(x).sum() == 6,
    "scaled": lambda x: (2 * (x > 0).astype(x.dtype) + 1).sum() == 18,
    "rounded": lambda x: (jnp.floor(x) + 1 == 3).any(),
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", COUNTS)
def test_whole_numbers_have_no_rounding_errors(name):
    """Nothing but an equality of counts tells the two programs apart."""
    report = v.equivalent(lambda x: jnp.where(COUNTS[name](x), 5.0, x), lambda x: x * 1.0, X, skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED, report


@pytest.mark.parametrize("is_all", [
    lambda x: share(x) == 1, lambda x: ((x > 0).astype(x.dtype) * (1 / 6)).sum() > 0.9,
    lambda x: (x > 0).astype(x.dtype).sum() == 6,
])  # fmt: skip
def test_equal_counts_are_not_told_apart(is_all):
    report = v.equivalent(lambda x: jnp.where(is_all(x), 5.0, x), lambda x: jnp.where((x > 0).all(), 5.0, x), X)
    assert report.ok, report
