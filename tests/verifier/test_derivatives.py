"""References for functions that have no derivative in reverse mode, or none at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from handprop import verifier as v
from handprop.verifier.derivatives import at_once, by_differences, by_directions, of_values, pulled_back
from handprop.verifier.programs.widen import widen

X = jnp.array([0.3, 1.2, -0.7])
PARTS = ["repair", "edge_cases", "transformations", "other_sizes"]


def rule(f, slope):
    made = jax.custom_jvp(f)
    made.defjvp(lambda primals, tangents: (made(*primals), slope(primals[0]) * tangents[0]))
    return made


def on_the_host(f):
    def call(x):
        return jax.pure_callback(lambda x: f(np.asarray(x)), x, x, vmap_method="expand_dims")

    return call


def repeated_sine(x):
    """A ``while`` loop, which has no derivative in reverse mode."""
    return lax.while_loop(lambda c: c[1] < 3, lambda c: (jnp.sin(c[0]), c[1] + 1), (x, 0))[0]


def slope_of_repeated_sine(x):
    return jnp.cos(jnp.sin(jnp.sin(x))) * jnp.cos(jnp.sin(x)) * jnp.cos(x)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.PROVED), (1.01, v.Verdict.REFUTED)])
def test_a_loop_is_differentiated_forwards(factor, verdict):
    report = v.verify(rule(repeated_sine, lambda x: factor * slope_of_repeated_sine(x)), X, skip=PARTS)
    assert report.verdict is verdict, report


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.PROVED), (1.01, v.Verdict.REFUTED)])
def test_so_is_the_loop_in_a_loss(factor, verdict):
    def loss(parameters):
        return jnp.sum(repeated_sine(parameters["w"]) * parameters["b"])

    def hand(parameters):
        w, b = parameters["w"], parameters["b"]
        return {"w": factor * b * slope_of_repeated_sine(w), "b": jnp.sum(repeated_sine(w))}

    report = v.verify_gradient(hand, loss, {"w": X, "b": jnp.float32(1.5)}, skip=PARTS)
    assert report.verdict is verdict, report


@pytest.mark.parametrize("of_a_loss", [False, True])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.VERIFIED), (1.001, v.Verdict.REFUTED)])
def test_a_callback_is_compared_with_differences_of_its_values(factor, verdict, of_a_loss):
    f = on_the_host(np.exp)
    if of_a_loss:
        report = v.verify_gradient(lambda x: factor * jnp.exp(x), lambda x: jnp.sum(f(x)), X, skip=PARTS)
    else:
        report = v.verify(rule(f, lambda x: factor * jnp.exp(x)), X, skip=PARTS)
    assert report.verdict is verdict, report
    assert any("central differences" in condition for condition in report.conditions)


def test_no_proof_rests_on_differences():
    """Both are the same estimate here, which the field would see."""
    f = on_the_host(np.exp)
    same = rule(f, lambda x: by_differences(f, (x,), (jnp.ones_like(x),), [0])[1])
    assert v.verify(same, X, skip=PARTS).verdict is not v.Verdict.PROVED


@pytest.mark.parametrize("f", [np.floor, np.sign, lambda x: np.round(x * 1e4) / x.dtype.type(1e4)])
def test_a_staircase_refutes_no_right_rule(f):
    """Seen from afar, a staircase has a slope; the finest steps show that it has none."""
    report = v.verify(rule(on_the_host(f), jnp.zeros_like), 1e3 * X, skip=["repair", "transformations", "other_sizes"])
    assert report.verdict is not v.Verdict.REFUTED, report


@pytest.mark.parametrize(("way", "error"), [(at_once, 1e-12), (by_directions, 1e-12), (by_differences, 1e-6)])
def test_every_way_is_reverse_mode(way, error):
    def f(x, y):
        return jnp.tanh(x) @ y, jnp.sum(x * x)

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y, c = (jnp.asarray(rng.normal(size=s)) for s in ((2, 3), (3, 4), (2, 4)))
        args = (f, (x, y), (c, jnp.float64(0.7)), [0, 1])
        for got, want in zip(way(*args), pulled_back(*args), strict=True):
            np.testing.assert_allclose(got, want, rtol=error, atol=error)


def test_estimates_that_steps_do_not_agree_on_are_not_given():
    with jax.enable_x64(True):
        x = jnp.array([0.0, 0.5, 1e-4])
        found = by_differences(jnp.sign, (x,), (jnp.ones_like(x),), [0])[1]
    np.testing.assert_array_equal(np.isnan(found), [True, False, True])


def test_the_first_way_that_can_be_traced_is_taken():
    def way_of(f):
        return of_values(lambda way: lambda x: way(f, (x,), (jnp.ones_like(x),), [0]), (X,), [0])

    ways = [way_of(f) for f in (jnp.sin, repeated_sine, on_the_host(np.sin))]
    assert ways == [pulled_back, at_once, by_differences]


def half_by_bits(x):
    """``x / 2`` for normal numbers: one less in the exponent."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int32) - (1 << 23), jnp.float32)


@pytest.mark.parametrize(("slope", "verdict"), [(0.5, v.Verdict.VERIFIED), (0.0, v.Verdict.REFUTED)])
def test_autodiff_of_bits_is_no_reference(slope, verdict):
    report = v.verify(rule(half_by_bits, lambda x: slope + 0 * x), X, skip=PARTS)
    assert report.verdict is verdict, report


def test_of_many_entries_nothing_is_said():
    report = v.verify(rule(half_by_bits, lambda x: 0.5 + 0 * x), jnp.ones(300), skip=PARTS)
    assert report.verdict is v.Verdict.INCONCLUSIVE
    assert "reference=" in report.reason


@pytest.mark.parametrize("f", [jax.nn.relu, jnp.logaddexp])
def test_in_a_function_of_jaxs_the_rules_of_jax_are_judged(f):
    args = (X, X[::-1]) if f is jnp.logaddexp else (X,)
    assert v.verify(f, *args, skip=PARTS).verdict is v.Verdict.PROVED


def test_a_function_of_the_users_that_calls_it_holds_no_rule():
    with pytest.raises(TypeError, match="besides JAX's own"):
        v.verify(lambda x: jax.nn.relu(x), X)


def test_where_terms_cancel_no_estimate_is_given():
    """Two slopes of 1000 have errors that are as large as their difference is."""

    def f(x):
        return jnp.stack([1e3 * jnp.exp(x), 1e-3 * x - 1e3 * jnp.exp(x)])

    with jax.enable_x64(True):
        x = jnp.array([0.3, 1.2])
        found = by_differences(f, (x,), (jnp.ones((2, 2)),), [0])[1]
        one = by_differences(f, (x,), (jnp.array([[1.0, 1.0], [0.0, 0.0]]),), [0])[1]
    assert np.isnan(found).all()
    np.testing.assert_allclose(one, 1e3 * np.exp(x), rtol=1e-6)


def test_a_callback_that_runs_where_x64_is_off_is_given_64_bits():
    """JAX may call it in another thread; it was then given float32, in one of ten reports."""
    seen = []

    def host(x):
        seen.append(np.asarray(x).dtype)
        return np.exp(np.asarray(x))

    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(X, np.float64))
        run = widen(jax.make_jaxpr(on_the_host(host))(x))
        program = jax.jit(lambda x: run([x], None, None)).lower(x).compile()
    found = program(x)[0]
    assert seen == [np.dtype(np.float64)]
    np.testing.assert_allclose(found, np.exp(np.asarray(x)), rtol=1e-15)


@pytest.mark.parametrize("both", [True, False])
def test_a_gradient_that_is_zero_throughout_is_a_condition(both):
    """Where another gradient is not zero, the samples show something; where all are zero, they show nothing."""
    host = on_the_host(np.sin)
    made = jax.custom_vjp(lambda x, start: host(x) * (1.0 if both else 0.0))
    made.defvjp(lambda x, start: (made(x, start), x),
                lambda x, c: (jnp.cos(x) * c * (1.0 if both else 0.0), jnp.zeros_like(x)))  # fmt: skip
    report = v.verify(made, X, X + 1, skip=PARTS)
    assert report.verdict is (v.Verdict.VERIFIED if both else v.Verdict.INCONCLUSIVE)
    if both:
        assert "dstart is 0, as it is at every sample" in report.conditions
