"""What a proof assumes: said in the first line where it holds at the given input, decided where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v

POSITIVE, BOTH_SIGNS = jnp.array([0.5, 1.0, 2.5]), jnp.array([0.5, -1.0, 2.5])
PROOF_ALONE = all_but("structure", "proof")


def proof_of(f, g, *args, **keywords):
    return v.equivalent(f, g, *args, skip=PROOF_ALONE, **keywords)


DOMAINS = {
    "log": (lambda x: jnp.exp(jnp.log(x)), lambda x: x * 1.0),
    "sqrt": (lambda x: jnp.sqrt(x) ** 2, lambda x: x * 1.0),
    "power": (lambda x: x**0.7 * x**-0.7, lambda x: 0 * x + 1.0),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_is_a_condition_where_the_given_input_lies_in_it(name):
    report = proof_of(*DOMAINS[name], POSITIVE)
    assert report.verdict is v.Verdict.PROVED
    assert any("log" in c or "sqrt" in c or "power" in c for c in report.conditions)
    assert ", provided " in str(report).replace("\n", " ")
    assert proof_of(*DOMAINS[name], BOTH_SIGNS).verdict is not v.Verdict.PROVED


@pytest.mark.parametrize("f", [jnp.log, jnp.sqrt])
def test_a_function_that_is_masked_where_it_is_not_defined_is_proved_by_deciding_it(f):
    report = proof_of(lambda x: jnp.where(x > 0, f(x), 0.0), lambda x: jnp.where(x <= 0, 0.0, f(x)), BOTH_SIGNS)
    assert report.verdict is v.Verdict.PROVED
    assert report.conditions == ()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("f", [jnp.arccos, jnp.arctanh, jax.scipy.special.erfinv, jnp.log1p])
@pytest.mark.parametrize("is_number", [
    lambda f, x: ~jnp.isnan(f(x)), lambda f, x: f(x) == f(x), lambda f, x: jnp.isfinite(f(x)),
])  # fmt: skip
def test_a_program_that_asks_for_numbers_is_not_proved_where_there_are_some(f, is_number):
    """The condition would answer what the program asks."""
    small = jnp.array([0.3, -0.2, 0.5])
    report = v.equivalent(lambda x: jnp.where(is_number(f, x), x, 5.0), lambda x: x * 1.0, small, skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED, report


@pytest.mark.parametrize(("f", "g"), [
    (lambda x: jnp.cos(jnp.arccos(x)), lambda x: x * 1.0),
    (lambda x: jnp.arcsin(jnp.clip(x, -1, 1)), jnp.arcsin),
    (lambda x: jnp.nan_to_num(jnp.arccos(x)), jnp.arccos),
])  # fmt: skip
def test_where_one_is_no_number_nothing_is_refuted(f, g):
    assert v.equivalent(f, g, jnp.array([0.3, 0.2, 0.5]), skip=["repair"]).verdict is v.Verdict.VERIFIED


def test_what_is_positive_by_how_it_is_made_needs_no_condition():
    report = proof_of(lambda x: jnp.log(1 / (1 + x * x)), lambda x: -jnp.log1p(x * x), BOTH_SIGNS)
    assert (report.verdict, report.conditions) == (v.Verdict.PROVED, ())


def test_integers_are_judged_as_given_and_that_is_said():
    report = proof_of(lambda x, i: x[i], lambda x, i: x[1], POSITIVE, jnp.int32(1))
    assert report.conditions == ("i is 1, as given",)
    assert proof_of(lambda x, i: x * 2.0, lambda x, i: x + x, POSITIVE, jnp.int32(1)).conditions == ()


def test_a_cast_to_fewer_bits_is_a_condition_where_the_program_is_wider():
    def narrowed(x):
        return x.astype(jnp.bfloat16).astype(x.dtype)

    assert proof_of(narrowed, lambda x: x * 1.0, POSITIVE).conditions == ("casts to bfloat16 change nothing",)
    assert proof_of(narrowed, lambda x: x * 1.0, POSITIVE.astype(jnp.bfloat16)).conditions == ()


def test_a_number_that_stands_for_minus_infinity_is_a_condition_and_reaches_no_output():
    seen = np.array([True, False, True])
    f = lambda x: jax.nn.softmax(jnp.where(seen, x, -1e9))  # noqa: E731
    g = lambda x: jnp.where(seen, jnp.exp(x), 0.0) / jnp.where(seen, jnp.exp(x), 0.0).sum()  # noqa: E731
    report = proof_of(f, g, BOTH_SIGNS)
    assert (report.verdict, report.conditions) == (v.Verdict.PROVED, ("-1e+09 stands for minus infinity",))
    assert proof_of(lambda x: jnp.maximum(x, -1e9), lambda x: x * 1.0, BOTH_SIGNS).verdict is not v.Verdict.PROVED
    assert proof_of(lambda x: x * -1e9, lambda x: x * -2e9, BOTH_SIGNS).verdict is not v.Verdict.PROVED


class Counter:
    """No function: it is another program from the third trace on."""

    def __init__(self):
        self.traces = 0

    def __call__(self, x):
        self.traces += 1
        return x * (2.0 if self.traces < 3 else 3.0)


def test_a_program_that_changes_from_trace_to_trace_is_not_judged():
    report = proof_of(Counter(), lambda x: x + x, POSITIVE)
    assert report.verdict is v.Verdict.INCONCLUSIVE
    assert "keeps state" in report.reason


@pytest.mark.sweep
def test_a_fact_with_which_nothing_is_defined_is_none():
    """All entries are positive, and with such entries alone no factor is to be had: it is the symmetry that counts."""
    a = np.array([[2, 1, 0.5], [1, 3, 0.2], [0.5, 0.2, 1]], np.float32)
    report = v.verify_gradient(jnp.linalg.inv, lambda a: 2 * jnp.sum(jnp.log(jnp.diag(jnp.linalg.cholesky(a)))), a)
    assert report.ok, report
    assert not any("is positive," in condition for condition in report.conditions)


def test_each_condition_stands_in_the_report_that_is_read_again():
    report = proof_of(*DOMAINS["log"], POSITIVE)
    assert v.Report.from_json(report.to_json()).conditions == report.conditions


@pytest.mark.parametrize(("x", "proved"), [([1.5, 2.0, 0.3], True), ([-1.5, 2.0, 0.3], False)])
def test_a_domain_is_held_against_the_given_input_where_many_points_are_drawn_at_once(x, proved):
    """Decisions by the dozen are made by a batched program, whose equations are others than the given one's."""

    def f(x, p, q, y):
        return x**p * x**q * jnp.sum(jax.nn.relu(jax.nn.relu(y)))

    def g(x, p, q, y):
        return x ** (p + q) * jnp.sum(jax.nn.relu(y))

    half = jnp.full(3, 0.5)
    check = proof_of(f, g, jnp.array(x), half, half, jnp.array([1.0, -2.0, 0.5])).check("proof")
    assert (check.outcome is v.Outcome.PROVES) == proved
    assert proved == ("assignments" in check.evidence and check.evidence["assignments"] > 10)


def softmax(z):
    e = jnp.exp(z - z.max())
    return e / e.sum()


def test_what_a_maximum_cancels_out_of_is_no_decision():
    def scaled(z):
        return softmax(z) / jnp.sum(softmax(z) ** 2)

    def plain(z):
        return jnp.exp(z) * jnp.sum(jnp.exp(z)) / jnp.sum(jnp.exp(z) ** 2)

    check = proof_of(scaled, plain, jnp.array([0.5, -1.0, 2.0])).check("proof")
    assert check.outcome is v.Outcome.PROVES and check.evidence["assignments"] == 0


def test_what_a_maximum_does_not_cancel_out_of_may_be_zero():
    def f(z):
        return jax.nn.relu(z) / jax.nn.relu(z)

    assert proof_of(f, jnp.ones_like, jnp.array([0.5, -1.0, 2.0])).check("proof").outcome is v.Outcome.UNDECIDED
