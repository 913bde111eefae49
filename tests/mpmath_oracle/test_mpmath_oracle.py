"""The oracle of arbitrary precision: every rule beside JAX in float64, known values to 45 digits."""

from fractions import Fraction

import corpus
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax
from jax.extend import core
from jax.scipy import special

import mpmath_oracle

RNG = np.random.default_rng(0)
V = RNG.normal(size=5)
A, B = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))
S = RNG.normal(size=(4, 4))
C = RNG.normal(size=(2, 3, 4))
P = RNG.uniform(0.1, 0.9, size=5)  # between 0 and 1
TIES = np.array([2.0, -1.0, 2.0, 0.0, -1.0])
IMAGE, KERNEL = RNG.normal(size=(2, 4, 6, 5)), RNG.normal(size=(6, 2, 3, 2))
ROWS = jnp.array([2, 0, 2])
# Primitives that programs of the corpus hold, found by tracing every right rule with its pullback.
OF_CORPUS = (
    "abs", "add", "add_any", "and", "argmax", "bitcast_convert_type", "broadcast_in_dim", "cholesky", "concatenate",
    "cond", "conv_general_dilated", "convert_element_type", "copy", "cos", "cumprod", "cumsum", "custom_jvp_call",
    "custom_linear_solve", "custom_vjp_call", "div", "dot_general", "eq", "erf", "erfc", "exp", "expm1", "gather", "ge",
    "gt", "integer_pow", "iota", "is_finite", "jit", "le", "log", "log1p", "logistic", "lt", "lu", "max", "min", "mul",
    "ne", "neg", "or", "pad", "reduce_max", "reduce_or", "reduce_sum", "reduce_window_sum", "rem", "reshape", "rev",
    "rsqrt", "scan", "scatter", "scatter-add", "select_n", "sign", "sin", "slice", "sort", "split", "sqrt", "square",
    "squeeze", "stack", "stop_gradient", "sub", "tanh", "top_k", "transpose", "triangular_solve",
)  # fmt: skip


def window(x, start, f, **more):
    return lax.reduce_window(x, start, f, (2, 3), (1, 2), ((1, 0), (1, 2)), **more)


def tangent(f, *args):
    """Through the primitives that derivatives alone use."""
    return jax.jvp(f, args, tuple(jnp.cos(a) for a in args))[1]


def pulled_back(f, *args):
    out, pull = jax.vjp(f, *args)
    return pull(jnp.cos(1.0 + out))


def steps(x):
    """Two loops: one stops by itself, one is batched and stops at another turn for every entry."""
    done = lax.while_loop(lambda s: s[0].sum() < 9.0, lambda s: (s[0] * s[0] + 1.0, s[1] + 1), (x, 0))
    each = jax.vmap(lambda a: lax.while_loop(lambda s: s < 3.0, lambda s: 2.0 * s + 1.0, a))(x)
    return done[0], done[1], each


def turns(x):
    return lax.scan(lambda c, r: (jnp.tanh(c * r), c + r), x[0], (x, 2.0 * x)[0], reverse=True)


def triangular(left, lower):
    """Both ways to turn the matrix, with its own diagonal and with ones."""
    return lambda a, b: [lax.linalg.triangular_solve(a, b if left else b.T, left_side=left, lower=lower,
                                                     transpose_a=turned, unit_diagonal=unit)
                         for turned in (True, False) for unit in (True, False)]  # fmt: skip


CASES = {
    **{f.__name__: (f, V) for f in (jnp.exp, jnp.sin, jnp.cos, jnp.tan, jnp.tanh, jnp.sinh, jnp.cosh, jnp.arctan,
                                    jnp.arcsinh, jnp.cbrt, jnp.expm1, jnp.square, jnp.abs, jnp.sign, jnp.floor,
                                    jnp.ceil,
                                    jnp.round, jnp.exp2, jnp.isfinite, jnp.negative)},
    **{f.__name__: (f, P) for f in (jnp.log, jnp.log1p, jnp.sqrt, jnp.arcsin, jnp.arccos, jnp.arctanh)},
    **{f.__name__: (f, V) for f in (special.erf, special.erfc, special.i0e, special.i1e, special.gammaln,
                                    special.digamma, jax.nn.sigmoid, jax.nn.softplus, jax.nn.relu, jax.nn.gelu)},
    **{f.__name__: (f, P) for f in (special.erfinv, special.logit, special.entr)},
    "rsqrt": (lax.rsqrt, P),
    "logarithms of bases": (lambda x: (jnp.log2(x), jnp.log10(x)), P),
    "slopes of erf": (lambda x: (tangent(special.erf, x), tangent(special.erfc, x), tangent(special.erfinv, x)), P),
    "arccosh": (jnp.arccosh, 1.0 + P),
    "round away": (lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), 0.5 * np.arange(-3, 4)),
    "round to even": (lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), 0.5 * np.arange(-3, 4)),
    "integer_pow": (lambda x: (x**3, x**-2), V),
    "pow": (lambda x, y: x**y, P, V),
    "pow of whole numbers": (lambda x: lax.pow(x, jnp.array([0, 1, 2, -1, 3])), V),
    "atan2": (jnp.arctan2, V, TIES),
    "rem": (lambda x, y: (lax.rem(x, y), jnp.mod(x, y)), V, P),
    "nextafter": (jnp.nextafter, V, V[::-1]),
    "igamma": (special.gammainc, P, 2.0 * P[::-1]),
    "igammac": (special.gammaincc, P, 2.0 * P[::-1]),
    "igamma by a": (lambda a, x: tangent(lambda b: special.gammainc(b, x), a), P, 2.0 * P[::-1]),
    "betainc": (special.betainc, P, 1.0 + P, P[::-1]),
    "polygamma": (lambda x: special.polygamma(2, x), 1.0 + P),
    "zeta": (lambda x: special.zeta(2.0 + x, 1.5), P),
    "comparisons": (lambda x, y: (x > y, x >= y, x < y, x <= y, x == y, x != y), TIES, TIES[::-1]),
    "maximum": (lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, y)), TIES, V),
    "clip": (lambda x: jnp.clip(x, -0.5, 0.5), V),
    "where": (lambda x: jnp.where((x > 0) & ~(x > 1) | (x < -1), x, -x), V),
    "several cases": (lambda x: lax.select_n(jnp.array([0, 1, 2, 1, 0]), x, 2 * x, 3 * x), V),
    "integers": (lambda x: (x // 3, x % 3, lax.div(x, -3), lax.rem(x, -3), x * x, -x, x**2, x ^ 5, x << 2, x >> 1),
                 np.arange(-4, 5)),
    "wrapping": (lambda x: (x.astype(jnp.int8) * jnp.int8(3), x.astype(jnp.uint8)), np.arange(40, 50)),
    "casts": (lambda x: ((3 * x).astype(jnp.int32), x.astype(bool), (x > 0).astype(x.dtype), jnp.arange(3.0)), V),
    "bits": (lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int64) + 1, jnp.float64), V),
    "argmax": (lambda x: (jnp.argmax(x), jnp.argmin(x)), TIES),
    "argmax along": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0)), A),
    **{name: ((lambda f: lambda x: (f(x), f(x, 0), f(x, (0, 2))))(getattr(jnp, name)), C)
       for name in ("sum", "prod", "max", "min", "mean", "var", "any", "all")},
    **{name: ((lambda f: lambda x: (f(x, 0), f(x, 1, reverse=True)))(getattr(lax, name)), A)
       for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")},
    "logsumexp": (lambda x: (special.logsumexp(x, 1), jax.nn.softmax(x), jax.nn.log_softmax(x, 0)), A),
    "reduce": (lambda x: lax.reduce(x, 1.0, lambda a, b: a * b + 0.5 * (a + b), (0,)), A),
    "reduce of integers": (lambda x: lax.reduce((x > 0).astype(jnp.int32), jnp.int32(0), lax.bitwise_or, (0,)), A),
    "matmul": (lambda x, y: (x @ y, x @ y[:, 0], x[0] @ y, x[0] @ y[:, 0]), A, B),
    "einsum": (lambda x, y: jnp.einsum("nij,jk->ikn", x, y), C, B),
    "einsum of batches": (lambda x: jnp.einsum("nij,nkj->nik", x, x), C),
    "product of integers": (lambda x: jnp.round(x).astype(jnp.int32) @ jnp.ones((4, 2), jnp.int32), A),
    "convolution": (lambda x, k: lax.conv_general_dilated(x, k, (2, 1), ((1, 2), (0, 1)), (1, 2), (2, 1),
                                                          feature_group_count=2), IMAGE, KERNEL),
    "convolution, channels last": (lambda x, k: lax.conv_general_dilated(
        x.transpose(0, 2, 3, 1), k.transpose(2, 3, 1, 0), (1, 1), "SAME", feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC")), IMAGE, KERNEL),
    "convolution pulled back": (lambda x, k: pulled_back(lambda *a: lax.conv_general_dilated(
        *a, (1, 2), ((1, 2), (0, 1)), feature_group_count=2), x, k), IMAGE, KERNEL),
    "windows": (lambda x: (window(x, 0.0, lax.add), window(x, -jnp.inf, lax.max), window(x, jnp.inf, lax.min),
                           window(x, 1.0, lax.mul)), A),
    "dilated windows": (lambda x: window(x, 0.0, lax.add, base_dilation=(2, 1), window_dilation=(1, 2)), A),
    "windows of any kind": (lambda x: window(x, 0.0, lambda a, b: a + b + a * b), P[:4].reshape(2, 2)),
    "pool pulled back": (lambda x: pulled_back(lambda a: window(a, -jnp.inf, lax.max), x), A),
    "pool pushed forward": (lambda x: tangent(lambda a: window(a, -jnp.inf, lax.max), x), A),
    "movement": (lambda x: (x.T, x.reshape(2, 6), x[None], x[::-1], x[1:, ::2], jnp.tile(x, (2, 1)), jnp.roll(x, 1, 1),
                            jnp.stack([x, -x], 1), jnp.concatenate([x, x], 1), jnp.split(x, 2, 1), jnp.squeeze(x[:1]),
                            jnp.broadcast_to(x[:, None], (3, 2, 4)), [*x]), A),
    "pad": (lambda x: (lax.pad(x, 1.5, ((1, 2, 1), (-1, 1, 0))), lax.pad(x, 0.0, ((-1, -1, 2), (2, -3, 1)))), A),
    "gather": (lambda x: (x[ROWS], x[:, ROWS], x[ROWS, ROWS[:, None]], jnp.take(x, ROWS, 1), x[1], x[ROWS, 1:3]), A),
    "gather outside": (lambda x: tuple(x.at[jnp.array([0, 7])].get(mode=mode) for mode in ("fill", "clip")), A),
    "gather by itself": (lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1), A),
    "gather in batches": (lambda x: jax.vmap(lambda r, i: r[i])(x, ROWS), A),
    "scatter": (lambda x: (x.at[ROWS[:2]].set(0.5), x.at[:, ROWS].add(x[:, :3]), x.at[ROWS, 1].multiply(2.0),
                           x.at[ROWS].min(0.0), x.at[ROWS, ROWS].max(0.1)), A),
    "scatter outside": (lambda x: (x.at[jnp.array([0, 7])].add(1.0), x.at[jnp.array([1, 9])].add(1.0, mode="clip")), A),
    "scatter in batches": (lambda x: jax.vmap(lambda r, i: r.at[i].add(r[0]))(x, ROWS), A),
    "dynamic slices": (lambda x: (lax.dynamic_slice(x, (2, 1), (2, 2)),
                                  lax.dynamic_update_slice(x, 2 * x[:2, :2], (-1, 3))), A),
    "sort": (lambda x: (jnp.sort(x), jnp.argsort(x), jnp.sort(jnp.array([1.0, jnp.nan, 0.0]))), TIES),
    "sort of two": (lambda x, y: lax.sort((x, y), num_keys=2), TIES, V),
    "top_k": (lambda x: lax.top_k(x, 3), TIES),
    "median": (jnp.median, V),
    "solve": (lambda a, b: jnp.linalg.solve(a, b), S, B),
    "solve pulled back": (lambda a, b: pulled_back(jnp.linalg.solve, a, b), S, B),
    "inverse and determinant": (lambda a: (jnp.linalg.inv(a), jnp.linalg.det(a), jnp.linalg.slogdet(a)), S),
    "lu": (lambda a: lax.linalg.lu(a), S),
    "lu of batches": (lambda a: lax.linalg.lu(a)[0], C),
    "cholesky": (lambda a: (jnp.linalg.cholesky(a @ a.T), jax.scipy.linalg.cho_solve(
        (jnp.linalg.cholesky(a @ a.T), True), a)), S),
    **{f"triangular, {left} {lower}": (triangular(left, lower), S + 3 * np.eye(4), B)
       for left in (True, False) for lower in (True, False)},
    "loops": (steps, P),
    "scan": (turns, V),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: c * x + i, x), V),
    "cond": (lambda x: (lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), lax.switch(7, [jnp.sin, jnp.exp], x)), V),
    "calls": (lambda x: (jax.checkpoint(jnp.sin)(x), jax.jit(jnp.cos)(x), jax.grad(lambda y: jax.nn.silu(y).sum())(x)),
              V),
    "cond pulled back": (lambda x: jax.grad(lambda y: lax.cond(y[0] > 0, lambda: jnp.sin(y) @ y,
                                                               lambda: jnp.exp(y) @ jnp.cos(y)))(x), V),
    "platform": (lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos), V),
    "random": (lambda x: x + jax.random.normal(jax.random.key(1), x.shape, x.dtype), V),
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), V),
    "empty": (lambda x: (x[:0].sum(), x[:0] * 2.0), V),
}  # fmt: skip


@pytest.fixture(autouse=True)
def jax_as_it_comes_and_wide():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def as_numbers(x):
    return x.astype(float) if x.dtype == object else np.asarray(x)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_that_of_jax(name):
    f, *args = CASES[name]
    args = [jnp.asarray(arg) for arg in args]
    want = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(f)(*args))]
    got = mpmath_oracle.evaluate(jax.make_jaxpr(f)(*args), args)
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.shape == theirs.shape and (ours.dtype == object) == (theirs.dtype.kind == "f")
        np.testing.assert_allclose(as_numbers(ours), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("f", "x", "digits"),
    [
        (jnp.exp, 1.0, "2.71828182845904523536028747135266249775724709369995957"),
        (jnp.log, 2.0, "0.693147180559945309417232121458176568075500134360255254"),
        (jnp.sqrt, 2.0, "1.41421356237309504880168872420969807856967187537694807"),
        (jnp.tanh, 1.0, "0.761594155955764888119458282604793590412768597257936551"),
        (jnp.sin, 1.0, "0.841470984807896506652502321630298999622563060798371065"),
        (special.erf, 1.0, "0.842700792949714869341220635082609259296066997966302909"),
        (special.gammaln, 0.5, "0.572364942924700087071713675676529355823647406457655"),
        (special.digamma, 1.0, "-0.577215664901532860606512090082402431042159335939923599"),
        (lambda x: special.gammainc(x, x), 1.0, "0.632120558828557678404476229838539132554188868968231962"),
        (lambda x: special.zeta(x, 1.0), 2.0, "1.64493406684822643647241516664602518921894990120679844"),
        (lambda x: 4 * jnp.arctan(x), 1.0, "3.14159265358979323846264338327950288419716939937510582"),
        (lambda x: x / 3, 1.0, "0.33333333333333333333333333333333333333333333333333"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_known_values_have_45_digits(f, x, digits):
    (got,) = mpmath_oracle.evaluate(jax.make_jaxpr(f)(x), [x])
    with mpmath.workdps(60):
        assert abs(got[()] - mpmath.mpf(digits)) < mpmath.mpf(10) ** -45


@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (jnp.log, 0.0, -np.inf), (jnp.log, -1.0, np.nan), (jnp.sqrt, -1.0, np.nan), (lax.rsqrt, 0.0, np.inf),
        (lambda x: 1 / x, 0.0, np.inf), (lambda x: x / x, 0.0, np.nan), (lambda x: x - x, np.inf, np.nan),
        (lambda x: 0.0 * x, np.inf, np.nan), (jnp.exp, -np.inf, 0.0), (jax.nn.sigmoid, np.inf, 1.0),
        (jnp.tanh, -np.inf, -1.0), (lambda x: jnp.maximum(x, 1.0), np.nan, np.nan), (jnp.sign, np.nan, np.nan),
        (lambda x: jnp.where(x == x, 1.0, 0.0), np.nan, 0.0), (jnp.log1p, -1.0, -np.inf), (jnp.arctanh, 1.0, np.inf),
        (special.erfinv, 1.0, np.inf), (special.gammaln, 0.0, np.inf), (lambda x: x**-1, 0.0, np.inf),
        (lambda x: lax.pow(x, 0.5), -2.0, np.nan), (jax.nn.softplus, -np.inf, 0.0), (jnp.cosh, -np.inf, np.inf),
    ],
)  # fmt: skip
def test_values_at_poles_and_outside_of_the_domain(f, x, want):
    (got,) = mpmath_oracle.evaluate(jax.make_jaxpr(f)(x), [x])
    np.testing.assert_array_equal(as_numbers(got), want)


def test_the_slope_of_erf_is_exact_in_every_version():
    program = jax.make_jaxpr(jax.grad(special.erf))(jnp.float32(0.5))
    (got,) = mpmath_oracle.evaluate(program, [0.5], readings={float(np.float32(2 / np.sqrt(np.pi))): 1.0})
    with mpmath.workdps(50):
        assert abs(got[()] / mpmath.exp(-0.25) - 1) < mpmath.mpf(10) ** -45


def test_nothing_is_rounded_to_a_dtype():
    program = jax.make_jaxpr(lambda x: (1.0 + x) - 1.0)(jnp.float32(1e-20))
    (got,) = mpmath_oracle.evaluate(program, [np.float32(1e-20)])
    assert got[()] == float(np.float32(1e-20))
    (huge,) = mpmath_oracle.evaluate(jax.make_jaxpr(lambda x: jnp.log(jnp.exp(x)))(1e4), [1e4])
    assert huge[()] == 1e4


def test_a_literal_is_dyadic_unless_it_is_read():
    third = np.float32(1 / 3)
    program = jax.make_jaxpr(lambda x: 3.0 * (x * third))(jnp.float32(1.0))
    (dyadic,) = mpmath_oracle.evaluate(program, [1.0])
    (read,) = mpmath_oracle.evaluate(program, [1.0], readings={float(third): Fraction(1, 3)})
    assert dyadic[()] == 3 * float(third) != 1.0
    assert abs(read[()] - 1) < 1e-49


def test_what_rounding_decides_is_noted():
    program = jax.make_jaxpr(lambda x: (jnp.log(jnp.exp(x)) == x, jnp.sign(jnp.log(jnp.exp(x)) - x)))(0.3)
    doubts: list[str] = []
    equal, sign = mpmath_oracle.evaluate(program, [0.3], doubts=doubts)
    assert equal[()] and sign[()] == 0
    assert set(doubts) == {"eq", "sign"}
    assert mpmath_oracle.evaluate(jax.make_jaxpr(lambda x: x > 0.0)(0.3), [0.3], doubts=doubts)[0] and len(doubts) == 2


def test_an_unknown_primitive_is_named():
    unknown = core.Primitive("not_known")
    unknown.def_abstract_eval(lambda x: x)
    with pytest.raises(NotImplementedError, match="no rule for the primitive not_known"):
        mpmath_oracle.evaluate(jax.make_jaxpr(unknown.bind)(1.0), [1.0])


def test_an_exponent_too_large_to_write_down_is_said():
    with pytest.raises(OverflowError, match="more than 20000 bits"):
        mpmath_oracle.evaluate(jax.make_jaxpr(lambda x: jnp.exp(jnp.exp(x)))(1e5), [1e5])


def test_every_primitive_of_the_corpora_has_a_rule():
    assert set(OF_CORPUS) <= set(mpmath_oracle.RULES)


@pytest.mark.parametrize("name", ["layer_norm", "conv1d", "causal_attention", "max_pool", "sort", "cholesky"])
def test_rules_of_the_corpus_agree(name):
    rule = next(rule for rule in corpus.right_rules() if rule.name == name)
    args = rule.make_args(dtype="float64")
    value = jax.jit(lambda *a: jax.vjp(rule.function, *a)[0])
    program = jax.make_jaxpr(value)(*args)
    got = mpmath_oracle.evaluate(program, jax.tree.leaves(args))
    for ours, theirs in zip(got, jax.tree.leaves(value(*args)), strict=True):
        np.testing.assert_allclose(as_numbers(ours), theirs, rtol=1e-11, atol=1e-11)
