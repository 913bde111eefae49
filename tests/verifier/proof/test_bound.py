"""The chance of a false proof that a report states covers everything that the report may rest on."""

from math import log
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from selecting import all_but

import handprop
from handprop.verifier.options import Options
from handprop.verifier.proof import bound
from handprop.verifier.proof.field.arithmetic import HIGH, LOW, POSITIVE, PRIMES
from handprop.verifier.proof.field.decisions import NUMBERS
from handprop.verifier.proof.field.degrees import Bound
from handprop.verifier.repair.explain import MAX_TRIED


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("attempts", [1, 42, 42 * MAX_TRIED])
def test_what_is_just_enough_for_an_attempt_is_enough_for_all(attempts, claimed, monkeypatch):
    bits = Options().bits
    each = bound.bits_for_each(bits, attempts)
    monkeypatch.setattr(bound, "log2_false", lambda trials: -each)
    trials = [SimpleNamespace(run=SimpleNamespace(claimed=claimed))]
    assert bits <= -bound.log2_false_in_all(trials, attempts) <= bits + 1
    assert 2.0**-each * attempts < 2.0**-bits


def trial(chance=2.0**-30, collision=0.0, calls=0, characters=()):
    run = SimpleNamespace(calls=calls, characters=[(odd, False) for odd in characters], root_argument=Bound(),
                          number_relations=0)  # fmt: skip
    return bound.Trial(None, run, chance, collision, b"")


def test_chances_multiply_over_runs_and_collisions_count_for_every_pair_of_calls():
    restarts = log(bound.RESTARTS, 2)
    assert bound.log2_false([trial(), trial()]) == pytest.approx(-60 + restarts)
    assert bound.log2_false([trial(0.0, 2.0**-20, calls=10)] * 3) == pytest.approx(log(45, 2) - 60 + restarts)
    assert bound.log2_false([trial(1.0), trial()]) == pytest.approx(-30 + restarts)
    assert bound.log2_false([trial(1.0)] * 5) == 0.0  # never more than certain


def test_a_run_that_decides_counts_the_points_that_meet_a_difference():
    pair, run = SimpleNamespace(calls=4, batch=8, thresholds=(0.0,)), SimpleNamespace(calls=32)

    def missed(points, chance, collision):
        return bound.missed_with_decisions(pair, run, 3.0, points, chance, collision)

    assert missed(16, 0.0, 0.0) == pytest.approx((1 - 1 / 8) ** 16)
    assert missed(10**6, 1e-4, 0.0) == pytest.approx(bound.RESTARTS * 1e-8)
    numbers = 2 * 3.0 * (len(NUMBERS) + 1) * 1e-6  # that unknowns may be taken for
    assert missed(10**6, 0.0, 1e-6) == pytest.approx(bound.RESTARTS * 4**2 / 2 * 1e-12 + numbers)
    assert missed(16, 1.0, 0.0) == 1.0


def test_roots_that_may_be_related_leave_fewer_runs_that_count():
    apart = [trial(characters=(True, False)), trial(characters=(False, True))]
    alike = [trial(characters=(True, True)), trial(characters=(False, False))]
    assert bound.relation_counts(apart) == 0 and bound.relation_counts(alike) == 1
    assert bound.log2_false(alike) > bound.log2_false(apart) + 50  # each of the two runs misses with a chance of 1/2


def test_there_are_as_many_primes_as_the_bound_says():
    """By the logarithmic integral, to first order: one class of 4 modulo 8, half of those of each odd prime."""
    all_primes = HIGH / log(HIGH) * (1 + 1 / log(HIGH)) - LOW / log(LOW) * (1 + 1 / log(LOW))
    assert PRIMES < all_primes / 4 / 2 ** (len(POSITIVE) - 1) < 1.2 * PRIMES


def test_a_degree_without_end_is_infinite_and_no_fault():
    """The degree doubles in every turn, and is larger than any float at the end."""
    by_quotients = lambda x: jax.lax.fori_loop(0, 1100, lambda i, y: y * y / (1 + y), x)  # noqa: E731
    by_products = lambda x: jax.lax.fori_loop(0, 1100, lambda i, y: y * (y / (y + 1)), x)  # noqa: E731
    report = handprop.equivalent(by_quotients, by_products, jnp.full(2, 0.3), skip=all_but("structure", "proof"))
    assert report.verdict is not handprop.Verdict.PROVED
    assert not report.internal
