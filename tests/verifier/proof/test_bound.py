"""The chance of a false proof that a report states covers everything that the report may rest on."""

import importlib
from math import log
from types import SimpleNamespace

import pytest

from handprop.verifier.options import Options
from handprop.verifier.proof.field.arithmetic import HIGH, LOW, POSITIVE, PRIMES
from handprop.verifier.repair.explain import MAX_TRIED

proof = importlib.import_module("handprop.verifier.proof.proof")


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("proofs", [1, 5, MAX_TRIED])
def test_what_is_just_enough_for_an_attempt_is_enough_for_all(proofs, claimed, monkeypatch):
    options = Options(proofs=proofs)
    monkeypatch.setattr(proof, "log2_false", lambda trials: -proof._bits_wanted(options))
    trials = [SimpleNamespace(run=SimpleNamespace(claimed=claimed))]
    stated = -proof._log2_false(trials, options)
    assert options.bits <= stated <= options.bits + 1
    assert 2.0 ** -proof._bits_wanted(options) * proof.ATTEMPTS * proofs < 2.0**-options.bits


def test_there_are_as_many_primes_as_the_bound_says():
    """By the logarithmic integral, to first order: one class of 4 modulo 8, half of those of each odd prime."""
    all_primes = HIGH / log(HIGH) * (1 + 1 / log(HIGH)) - LOW / log(LOW) * (1 + 1 / log(LOW))
    assert PRIMES < all_primes / 4 / 2 ** (len(POSITIVE) - 1) < 1.2 * PRIMES
