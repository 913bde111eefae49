"""Refuted: the line, the mistake in words, and an edit that is proved."""

import dataclasses
import linecache
import math
import subprocess
import sys
from pathlib import Path

import corpus
import jax
import jax.numpy as jnp
import mistakes_study
import numpy as np
import pytest
from lines import line_of

import handprop
from handprop.verifier.proof.field.arithmetic import Field
from handprop.verifier.repair.interpretation import rational
from handprop.verifier.report.values import Check, Outcome

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), np.float32)


def loss(w1, w2, x, y):
    return 0.5 * jnp.sum((jnp.tanh(x @ w1) @ w2 - y) ** 2)


def tanh_slope(a):
    return 1 + a * a


def hand(w1, w2, x, y):
    a = jnp.tanh(x @ w1)
    d = a @ w2 - y
    dz = (d @ w2.T) * tanh_slope(a)
    return x.T @ dz, a.T @ d


def refuted(f, *args):
    report = handprop.verify_gradient(f, loss, *args, argnums=(0, 1))
    assert report.verdict is handprop.Verdict.REFUTED
    return report


@pytest.fixture(scope="module")
def report():
    return refuted(hand, normal(3, 4), normal(4, 2), normal(5, 3), normal(5, 2))


def test_a_mistake_in_a_helper_is_located_there_and_its_fix_is_proved(report):
    assert report.location.line == line_of(tanh_slope, "return 1 + a * a")
    assert report.location.file == __file__
    assert report.location.function == "tanh_slope"
    assert report.location.affects == ("gradient[0]",)
    assert report.fix.proved
    assert report.fix.expression == "return 1 - a * a"


def test_the_diff_applies_to_the_file_and_nothing_was_written(report, tmp_path):
    copy = tmp_path / "copy.py"
    text = Path(__file__).read_text()
    copy.write_text(text)
    subprocess.run(["patch", "-s", str(copy)], input=report.fix.diff, text=True, check=True)
    assert copy.read_text() == text.replace("return 1 + a * a\n", "return 1 - a * a\n", 1)
    assert Path(__file__).read_text() == text


def test_it_is_in_the_text_and_survives_json(report):
    text = str(report)
    assert "return 1 + a * a\n" in text
    assert "^^^^^" in text
    assert "fix, proved" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert handprop.Report.from_json(report.to_json()) == report
    assert dataclasses.replace(report, fix=None) != report


def test_a_right_gradient_has_none():
    report = handprop.verify_gradient(lambda w: 2.0 * w, lambda w: jnp.sum(w * w), normal(3))
    assert (report.locations, report.location, report.diagnosis, report.fix) == ((), None, None, None)


def test_it_can_be_left_out_by_name():
    report = handprop.verify_gradient(lambda w: 3.0 * w, lambda w: jnp.sum(w * w), normal(3), skip=("repair",))
    assert report.verdict is handprop.Verdict.REFUTED
    assert report.diagnosis is None


def test_text_that_is_not_what_runs_is_left_alone():
    made = {}
    name = str(Path(__file__).with_name("elsewhere.py"))
    exec(compile("def f(w):\n    return 3.0 * w\n", name, "exec"), made)
    text = "def f(w):\n    return 1.0 * w\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    report = handprop.verify_gradient(made["f"], lambda w: jnp.sum(w * w), normal(3))
    assert report.location
    assert report.location.line == 2
    assert report.fix is None
    assert report.diagnosis == "a constant factor is wrong: gradient is 3/2 times what it should be"


@jax.custom_vjp
def scaled(x, s):
    return x * s


def scaled_fwd(x, s):
    return x * s, (x, x)


def scaled_bwd(residuals, dy):
    x, s = residuals
    return dy * s, dy * x


scaled.defvjp(scaled_fwd, scaled_bwd)


def test_a_wrong_residual_enters_through_fwd():
    report = handprop.verify(scaled, normal(4), normal(4))
    assert report.location
    assert report.fix
    assert report.location.line == line_of(scaled_fwd, "return x * s, (x, x)")
    assert "fwd computes it" in report.location.reason
    assert report.fix.expression == "return x * s, (x, s)"


@jax.custom_vjp
def weighed(p, q):
    return jnp.sum(p * q * q)


def weighed_fwd(p, q):
    return weighed(q, p), (p, q)


weighed.defvjp(weighed_fwd, lambda kept, d: (d * kept[1] ** 2, 2 * d * kept[0] * kept[1]))


def test_the_function_itself_is_never_changed():
    report = handprop.verify(weighed, normal(4), normal(4))
    assert report.fix
    assert report.fix.expression == "return weighed(p, q), (p, q)"
    assert report.location
    assert (report.location.function, report.location.affects) == ("weighed_fwd", ("value",))


def test_the_line_is_found_through_scan_and_jit():
    @jax.jit
    def program(x, xs):
        def step(h, x):
            y = h * x
            return y - x, y

        return jax.lax.scan(step, x, xs)

    def right(x, xs):
        def step(h, x):
            y = h * x
            return y + x, y

        return jax.lax.scan(step, x, xs)

    report = handprop.equivalent(program, right, normal(), normal(3))
    assert report.location
    assert report.fix
    assert report.location.line == line_of(test_the_line_is_found_through_scan_and_jit, "return y - x, y")
    assert report.fix.expression == "return y + x, y"


def sine_backward(x, d):
    slope = jnp.sin(x)
    return (d * slope,)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("transformed", [
    lambda rule: rule, jax.jit, jax.vmap, lambda rule: jax.grad(lambda x: rule(x).sum()), jax.checkpoint,
])  # fmt: skip
def test_the_line_and_the_fix_are_found_under_a_transformation(transformed):
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), sine_backward)
    report = handprop.verify(transformed(rule), normal(3))
    assert report.verdict is handprop.Verdict.REFUTED
    assert report.location.line == line_of(sine_backward, "slope = jnp.sin(x)")
    assert report.fix.expression == "slope = jnp.cos(x)"
    assert report.fix.proved


def test_what_no_edit_mends_says_so():
    report = handprop.verify_gradient(lambda w: jnp.cosh(w) + w**7, lambda w: jnp.sum(w**3), normal(3))
    assert report.diagnosis == "no known cause fits"
    assert report.fix is None
    assert report.location is not None


def two_slips(w1, w2, x, y):
    a = jnp.tanh(x @ w1)
    d = a @ w2 - y
    dz = (d @ w2.T) * (1 + a * a)
    dw2 = 3 * a.T @ d
    return x.T @ dz, dw2


@pytest.mark.sweep
def test_of_two_mistakes_each_has_a_location_and_both_are_mended():
    report = refuted(two_slips, normal(3, 4), normal(4, 2), normal(5, 3), normal(5, 2))
    assert [location.line for location in report.locations[:2]] == [
        line_of(two_slips, "dz = (d"),
        line_of(two_slips, "dw2 = 3"),
    ]
    assert [location.affects for location in report.locations[:2]] == [("gradient[0]",), ("gradient[1]",)]
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression.splitlines() == ["dz = (d @ w2.T) * (1 - a * a)", "dw2 = a.T @ d"]
    assert report.fix.diff.count("\n+ ") == 2
    assert str(report).count("^^^") >= 2


def without_cross_term(w1, w2, x, y):
    a = jnp.tanh(x @ w1)
    d = a @ w2 - y
    return x.T @ (d @ w2.T), a.T @ d


def test_a_factor_that_is_no_name_is_solved_for():
    report = refuted(without_cross_term, normal(3, 4), normal(4, 2), normal(5, 3), normal(5, 2))
    assert report.location
    assert report.location.line == line_of(without_cross_term, "return x.T")
    assert report.diagnosis == "the factor 1 - a ** 2 is missing, as of an activation's derivative"
    assert report.fix
    assert report.fix.expression == "return x.T @ (d @ w2.T * (1 - a ** 2)), a.T @ d"


def decay(h, xs):
    return jax.lax.scan(lambda h, x: (jnp.tanh(h) * x, None), h, xs)[0]


rule_of_decay = jax.custom_vjp(decay)


def decay_fwd(h, xs):
    def step(h, x):
        return jnp.tanh(h) * x, h

    last, states = jax.lax.scan(step, h, xs)
    return last, (xs, states)


def decay_bwd(residuals, dh):
    xs, states = residuals

    def step(dh, at):
        x, h = at
        t = jnp.tanh(h)
        before = dh * x
        return before, dh * t

    return jax.lax.scan(step, dh, (xs, states), reverse=True)


rule_of_decay.defvjp(decay_fwd, decay_bwd)


def test_in_a_loop_whose_turns_feed_each_other_the_first_turn_is_compared_with_the_reference():
    report = handprop.verify(rule_of_decay, normal(3), normal(4, 3))
    assert report.location
    assert report.location.line == line_of(decay_bwd, "before = dh * x")
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression == "before = dh * x * (1 - t ** 2)"


def large(w, x, y):
    r = x @ w - y
    return 2 * x.T @ r


def test_a_large_case_is_searched_at_small_shapes_and_proved_at_its_own():
    def mean_square(w, x, y):
        return jnp.mean(jnp.sum((x @ w - y) ** 2, axis=1))

    report = handprop.verify_gradient(large, mean_square, normal(300, 10), normal(64, 300), normal(64, 10))
    assert report.diagnosis == "a constant factor is wrong: 64 times what it should be (64 = x.shape[0])"
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression == "return 2 * x.T @ r / x.shape[0]"


def test_a_literal_slightly_off_is_named_with_the_likely_one():
    def gelu_slope(x):
        t = jnp.tanh(0.79788 * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 0.134145 * x * x)

    def gelu(x):
        return jnp.sum(0.5 * x * (1 + jnp.tanh(0.7978845608028654 * (x + 0.044715 * x**3))))

    report = handprop.verify_gradient(gelu_slope, gelu, normal(5))
    assert report.diagnosis == "the literal is slightly off: 0.79788 where 0.797884560803 belongs"


def huber_with(delta):
    huber = jax.custom_jvp(lambda r: jnp.where(jnp.abs(r) <= delta, 0.5 * r * r, delta * (jnp.abs(r) - 0.5 * delta)))

    @huber.defjvp
    def _(primals, tangents):
        (r,), (dr,) = primals, tangents
        outside = jnp.sign(r)
        return huber(r), jnp.where(jnp.abs(r) <= delta, r, outside) * dr

    return huber


def test_a_number_is_written_by_its_name_rather_than_by_a_size_that_it_equals():
    report = handprop.verify(huber_with(0.7), 2 * normal(7))
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression == "outside = delta * jnp.sign(r)"
    assert "(delta = 0.7)" in report.diagnosis


def test_a_number_that_enclosing_functions_hold_is_at_hand_where_the_rule_does_not_use_it():
    keep = 0.8
    dropped = jax.custom_vjp(lambda x, kept: jnp.where(kept, x, 0) / keep)

    def back(kept, g):
        return jnp.where(kept, g, 0), None

    dropped.defvjp(lambda x, kept: (dropped(x, kept), kept), back)
    kept = normal(4, 5) > 0
    report = handprop.verify(dropped, normal(4, 5), kept)
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression == "return jnp.where(kept, g, 0) / keep, None"
    assert report.fix.conditions == ("kept holds the numbers it does, as given",)
    assert "provided that kept holds the numbers it does, as given" in " ".join(str(report).split())


def test_a_size_that_equals_a_number_by_accident_is_not_taken_for_it():
    def fifth(x):
        return jnp.sum(jnp.sin(x)) / 5

    def hand(x):
        return jnp.cos(x)

    report = handprop.verify_gradient(hand, fifth, normal(5))
    assert report.fix
    assert report.fix.proved
    assert report.fix.expression == "return jnp.cos(x) / 5"


@pytest.mark.sweep
def test_a_fix_that_runs_at_the_given_sizes_alone_gives_way_to_one_that_runs_at_all():
    root = jax.custom_vjp(jnp.linalg.cholesky)
    solve = jax.scipy.linalg.solve_triangular

    def back(low, g):
        inner = jnp.tril(low.T @ g)
        half = solve(low, solve(low, inner, trans=1, lower=True).T, trans=1, lower=True).T
        return (0.5 * (half + half.T),)

    root.defvjp(lambda a: (root(a), root(a)), back)
    b = normal(3, 3)
    report = handprop.verify(root, b @ b.T + 2 * jnp.eye(3))
    assert report.fix
    assert report.fix.proved  # under no more conditions than the reference needs
    assert "eye(3)" not in report.fix.expression
    assert "the matrix given to cholesky is positive definite" in report.fix.conditions


@pytest.mark.sweep
def test_a_fix_for_the_given_sizes_alone_says_so_and_is_not_proved():
    def mean(x, y):
        return jnp.mean(jnp.sin(x)) + jnp.sum(jnp.sin(y))

    def hand(x, y):
        return jnp.cos(x) / 6, -jnp.cos(y)

    report = handprop.verify_gradient(hand, mean, normal(6), normal(4), argnums=(0, 1))
    assert report.fix
    assert not report.fix.proved
    assert report.fix.conditions == ("sizes are as given",)
    assert "provided that sizes are as given" in str(report)


@pytest.mark.sweep
def test_a_fix_under_a_condition_that_the_programs_do_not_need_is_not_proved(monkeypatch):
    def entropy(x):
        return jnp.sum(x * jnp.log(x))

    def hand(x):
        return -(jnp.log(x) + 1)

    x = jnp.abs(normal(5)) + 1
    assert handprop.verify_gradient(hand, entropy, x).fix.proved
    monkeypatch.setattr(
        sys.modules["handprop.verifier.repair.explain"], "proof", lambda *_: Check("proof", Outcome.UNDECIDED, "")
    )
    assert not handprop.verify_gradient(hand, entropy, x).fix.proved


@pytest.mark.sweep
def test_what_the_field_cannot_prove_is_mended_by_float64_and_not_called_proved():
    mutant = next(m for m in corpus.mutants() if m.name == "group_norm-2")
    report = mistakes_study.explained(mutant)
    assert report.fix
    assert not report.fix.proved
    assert report.fix.expression == mutant.old


def own_term_backward(x, g):
    slope = 7.3 * jnp.cos(x) * g
    own = jnp.expm1(x * x) * jnp.sin(x) - 0.3 * x
    return (slope - own,)


@pytest.mark.sweep
def test_a_term_that_the_incoming_gradient_does_not_multiply_is_named():
    rule = jax.custom_vjp(lambda x: jnp.tanh(x) * jnp.exp(jnp.sin(x)) / (2 + jnp.cos(x)))
    rule.defvjp(lambda x: (rule.fun(x), x), own_term_backward)
    report = handprop.verify(rule, normal(4))
    assert report.verdict is handprop.Verdict.REFUTED and report.fix is None
    assert report.location.line == line_of(own_term_backward, "return (slope - own,)")
    assert report.location.reason == "a term here is not multiplied by the cotangent"
    assert report.diagnosis.startswith("dx is not zero when the cotangent is zero")


@pytest.mark.parametrize(("numerator", "denominator"), [(1, 2), (-3, 7), (1000000, 1000001), (0, 1)])
def test_fractions_come_back_from_residues(numerator, denominator):
    p = 1125899906842597
    assert rational(p, Field(p).ratio(numerator, denominator)) == (numerator, denominator)


@pytest.mark.sweep
def test_a_line_that_only_the_field_sees_as_different_is_not_blamed():
    """The reference unrolls what the rule solves: of their values none is the same, and dx is right all the same."""

    @jax.custom_vjp
    def fixed(w, x):
        return jax.lax.fori_loop(0, 60, lambda i, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))

    def backward(held, d):
        w, z = held
        slope = 1 - z * z
        u = slope * jnp.linalg.solve((jnp.eye(3) - slope[:, None] * w).T, d)
        return jnp.outer(z, u), u

    fixed.defvjp(lambda w, x: (fixed(w, x), (w, fixed(w, x))), backward)
    rng = np.random.default_rng(7)
    w, x = (0.4 * rng.normal(size=(3, 3))).astype(np.float32), rng.normal(size=3).astype(np.float32)
    report = handprop.verify(fixed, w, x, budget=60)
    assert report.verdict is handprop.Verdict.REFUTED, report
    assert report.location is not None and report.location.affects == ("dw",), report
    assert "jnp.outer(z, u)" in report.location.text


@jax.custom_jvp
def scaled_logistic(params, x):
    return params["height"] * jax.nn.sigmoid(x - params["shift"])


@scaled_logistic.defjvp
def scaled_logistic_jvp(primals, tangents):
    params, x = primals
    dparams, dx = tangents
    s = jax.nn.sigmoid(x - params["shift"])
    dz = dx
    return params["height"] * s, params["height"] * s * (1 - s) * dz + dparams["height"] * s


def test_a_tangent_that_a_jvp_rule_leaves_out_is_found_as_a_term():
    """Backwards its line would not run at all, as no gradient of the parameter depends on it."""
    params = {"height": jnp.float32(1.5), "shift": jnp.float32(0.25)}
    report = handprop.verify(scaled_logistic, params, normal(5))
    assert report.location.line == line_of(scaled_logistic_jvp, "dz = dx")
    assert report.fix.proved
    assert report.fix.expression == "dz = dx - dparams['shift']"
    assert report.location.affects == ("dparams['shift']",)


@jax.custom_vjp
def gated(params, x):
    return jnp.tanh(x) * jnp.exp(params["gate"]) / math.sqrt(len(x))


def gated_fwd(params, x):
    return gated(params, x), (params, x)


def gated_bwd(saved, g):
    params, x = saved
    t = jnp.tanh(x)
    dx = g * (1 - t * t) / math.sqrt(len(x))
    return {"gate": (g * t * jnp.exp(params["gate"])).sum() / math.sqrt(len(x))}, dx


gated.defvjp(gated_fwd, gated_bwd)


def test_a_missing_factor_is_written_with_what_a_tree_holds():
    report = handprop.verify(gated, {"gate": jnp.float32(0.3)}, normal(7))
    assert report.location.line == line_of(gated_bwd, "dx = g")
    assert report.fix.proved
    assert "jnp.exp(params['gate'])" in report.fix.expression


def unscaled_bwd(saved, g):
    params, x = saved
    t = jnp.tanh(x)
    dx = g * (1 - t * t) * jnp.exp(params["gate"])
    return {"gate": (g * t * jnp.exp(params["gate"])).sum() / math.sqrt(len(x))}, dx


def test_a_missing_factor_may_call_functions_of_a_module_that_the_rule_imports():
    rule = jax.custom_vjp(gated.fun)
    rule.defvjp(gated_fwd, unscaled_bwd)
    report = handprop.verify(rule, {"gate": jnp.float32(0.3)}, normal(7))
    assert report.location.line == line_of(unscaled_bwd, "dx = g")
    assert report.fix.proved
    assert "1 / math.sqrt(len(x))" in report.fix.expression


@jax.custom_vjp
def two_terms(x, y):
    return (x * y + jnp.sin(x)).sum()


def two_terms_bwd(saved, g):
    x, y = saved
    dx = g * (
        y
        - jnp.cos(x)
    )  # fmt: skip
    return dx, g * x


two_terms.defvjp(lambda x, y: (two_terms(x, y), (x, y)), two_terms_bwd)


def test_of_a_statement_on_several_lines_the_one_with_the_mistake_is_named():
    report = handprop.verify(two_terms, normal(5), normal(5))
    assert report.location.line == line_of(two_terms_bwd, "- jnp.cos(x)")
    assert report.fix.proved
