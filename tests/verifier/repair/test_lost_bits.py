"""Right gradients whose arithmetic is poor: the line, the cause, and what is left alone."""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.verifier.internal import TooLarge

lost_bits = importlib.import_module("handprop.verifier.repair.locate.lost_bits")
RNG = np.random.default_rng(0)
ROUNDING_ALONE = ("identical", "proof", "finite_differences", "transformations", "edge_cases")


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), np.float32)


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), backward)
    return rule


def loss(w, v, x, y):
    return 0.5 * jnp.sum((jax.nn.sigmoid(x @ w) @ v - y) ** 2)


def hand(w, v, x, y):
    h = jax.nn.sigmoid(x @ w)
    dh = (h @ v - y) @ v.T
    d1 = dh * h * (1 - h)
    return x.T @ d1


SATURATED = (2 + 0.1 * normal(3, 4), normal(4, 2), 1 + jnp.abs(normal(5, 3)), normal(5, 2))


def one_minus():
    return handprop.verify_gradient(hand, loss, *SATURATED, skip=ROUNDING_ALONE)


known = functools.cache(one_minus)


def softplus_bwd(x, d):
    e = jnp.exp(x)
    return (d * (e / (1 + e)),)


def overflow():
    rule = ruled(lambda x: jnp.logaddexp(x, 0.0), softplus_bwd)
    return handprop.verify(rule, 100 + normal(6), skip=ROUNDING_ALONE)


def logsumexp_bwd(x, d):
    e = jnp.exp(x)
    return (d * e / e.sum(),)


def underflow():
    rule = ruled(lambda x: jax.nn.logsumexp(x), logsumexp_bwd)
    return handprop.verify(rule, -100 + normal(6), skip=ROUNDING_ALONE)


def tanh_bwd(x, d):
    t = jnp.tanh(x)
    return (d * (1 - t * t),)


def saturation():
    return handprop.verify(ruled(jnp.tanh, tanh_bwd), 12 + normal(6), skip=ROUNDING_ALONE)


def summed(w, x):
    total, _ = jax.lax.scan(lambda total, xi: (total + xi, None), jnp.zeros((), x.dtype), x)
    return 2 * w * total


def long_sum():
    x = jnp.full(20_000, 0.3, np.float32)
    return handprop.verify_gradient(summed, lambda w, x: w * w * x.sum(), normal(), x, skip=ROUNDING_ALONE)


def waves(w, x):
    a = 1000.3 * w * x
    return 1000.3 * x * jnp.cos(a)


def large_argument():
    x = normal(6)
    return handprop.verify_gradient(waves, lambda w, x: jnp.sin(1000.3 * w * x).sum(), x, x, skip=ROUNDING_ALONE)


CASES = {
    one_minus: ("d1 = dh * h * (1 - h)", "hand", "cancellation in 1 - h", False),
    overflow: ("e = jnp.exp(x)", "softplus_bwd", "overflow in jnp.exp(x)", True),
    underflow: ("e = jnp.exp(x)", "logsumexp_bwd", "underflow in jnp.exp(x)", True),
    saturation: ("return (d * (1 - t * t),)", "tanh_bwd",
                 "saturation, a result rounded to 0 or 1, in 1 - t * t", False),
    long_sum: ("total, _ = jax.lax.scan", "summed.<locals>.<lambda>", "a sum of 20,000 terms in total + xi", True),
    large_argument: ("return 1000.3 * x * jnp.cos(a)", "waves",
                     "magnified rounding of the operands in jnp.cos(a)", False),
}  # fmt: skip


@pytest.mark.thinned(2)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_line_and_the_cause(case):
    text, function, cause, autodiff_is_better = CASES[case]
    report = known() if case is one_minus else case()
    lost = report.lost_bits
    assert report.ok, report
    assert lost is not None
    assert lost.text.strip().startswith(text)
    assert Path(__file__).read_text().splitlines()[lost.line - 1] == lost.text
    assert (lost.file, lost.function, lost.cause) == (__file__, function, cause)
    assert (lost.autodiff < lost.in_all / 2) is autodiff_is_better
    assert lost.bits >= lost.in_all / 2 >= 2


def test_the_bits_are_those_of_the_line_run_in_float32_by_numpy():
    w, v, x, y = (np.asarray(a, np.float64) for a in SATURATED)
    h = 1 / (1 + np.exp(-(x @ w)))
    dh = (h @ v - y) @ v.T
    want = x.T @ (dh * h * (1 - h))
    dh, h = dh.astype(np.float32), h.astype(np.float32)
    got = x.T @ (dh * h * (np.float32(1) - h)).astype(np.float64)
    bits = np.log2(np.abs(got - want).max() / np.abs(want).max() / 2.0**-23)
    assert known().lost_bits.bits == pytest.approx(bits, abs=0.1)


def test_it_is_in_the_text_and_survives_json():
    report = known()
    lines = str(report).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("lost bits"))
    said = " ".join(line.strip() for line in lines[at:])
    assert "d1 = dh * h * (1 - h)" in said
    assert "lost bits in gradient, cancellation in 1 - h; autodiff does no better: it loses" in said
    assert max(map(len, lines)) <= 80
    read = handprop.Report.from_json(report.to_json())
    assert read == report and read.lost_bits == report.lost_bits


def test_two_calls_of_a_function_of_jax_are_told_apart():
    def spread(x, y):
        small = jnp.var(x)
        large = jnp.log(jnp.var(y))
        return small + large

    report = handprop.equivalent(spread, lambda x, y: spread(x, y), normal(5), 1e20 * normal(5), skip=ROUNDING_ALONE)
    assert report.lost_bits is not None
    assert report.lost_bits.text.strip() == "large = jnp.log(jnp.var(y))"
    assert report.lost_bits.cause == "overflow in jnp.var(y)"


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_rounded_as_its_dtype_rounds(dtype):
    """XLA computes in float32 here and may leave roundings out."""

    def steps(x):
        grown = x * np.asarray(1 + 2.0**-5, dtype)
        return (grown - x) * 32

    x = normal(6).astype(dtype)
    trial = lost_bits.RoundedProgram(jax.make_jaxpr(steps)(x), [x], 0, (lost_bits.Mode.OWN,))
    want = (np.asarray(x, np.float64) * (1 + 2.0**-5)).astype(dtype).astype(np.float64) - np.asarray(x, np.float64)
    assert [unit.name for unit in trial.units.values()] == ["mul", "sub", "mul"]
    np.testing.assert_array_equal(trial.run({0: lost_bits.Mode.OWN}), want * 32)


def fine(report):
    assert report.ok
    return report.lost_bits is None


def test_where_the_arithmetic_is_fine_nothing_is_run(monkeypatch):
    ran = []
    monkeypatch.setattr(lost_bits, "RoundedProgram", lambda *args: ran.append(args))
    monkeypatch.setattr(lost_bits, "rebuilt", lambda *args: ran.append(args))
    assert fine(handprop.verify_gradient(lambda w: 2 * w, lambda w: (w * w).sum(), normal(3)))
    assert not ran
    assert one_minus().ok and ran


def log_variance(x):
    mean = x.mean()
    return (x - mean) * (2 / x.size) / ((x * x).mean() - mean * mean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float64_has_nothing_wider(dtype, monkeypatch):
    made = []
    real = lost_bits.RoundedProgram
    monkeypatch.setattr(lost_bits, "RoundedProgram", lambda *args: made.append(args) or real(*args))
    with jax.enable_x64(True):
        x = jnp.asarray(100 + RNG.normal(size=64), dtype)
        report = handprop.verify_gradient(log_variance, lambda x: jnp.log(jnp.var(x)), x, skip=ROUNDING_ALONE)
    assert report.check("rounding").outcome is handprop.Outcome.NOTES
    assert fine(report) is (not made)
    assert bool(made) is (dtype == np.float32)


def test_it_can_be_left_out_by_name():
    assert fine(handprop.verify_gradient(hand, loss, *SATURATED, skip=("repair", *ROUNDING_ALONE)))


def test_a_program_too_large_is_left_alone(monkeypatch):
    monkeypatch.setattr(lost_bits, "MAX_UNITS", 3)
    x = SATURATED[0]
    program = jax.make_jaxpr(lambda x: jnp.sin(jnp.sin(jnp.sin(jnp.sin(x)))))(x)
    with pytest.raises(TooLarge, match="too many equations"):
        lost_bits.RoundedProgram(program, [x], 0, (lost_bits.Mode.OWN,))
    assert fine(one_minus())
