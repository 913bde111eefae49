"""The third part of the corpus, written when the search for mistakes already stood.

Right rules are proved but for ``UNPROVED``, which may only shrink; a mutant differs in one line, and is refuted.
"""

import sys
from collections import Counter
from pathlib import Path

import jax
import pytest
from checks import all_but

import handprop as v

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import corpus
from corpus.verdict import report_of

RULES = {rule.name: rule for rule in corpus.right_rules("third")}
MUTANTS = corpus.mutants("third")
UNPROVED = {"leapfrog", "mixture_density"}
OTHERS = [part for part in corpus.PARTS if part != "third"]


@pytest.fixture(autouse=True)
def jax_as_it_comes():
    """The rules promote ranks and dtypes, as JAX lets them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def test_the_third_part_is_as_large_as_promised_and_shares_nothing_with_the_others():
    assert len(RULES) >= 30
    assert len(MUTANTS) >= 150
    assert not set(RULES) & {rule.name for part in OTHERS for rule in corpus.right_rules(part)}
    assert {mutant.kind for mutant in MUTANTS} <= {mutant.kind for part in OTHERS for mutant in corpus.mutants(part)}
    assert len({mutant.name for mutant in MUTANTS}) == len({m[2:6] for m in MUTANTS}) == len(MUTANTS)
    counts = Counter(mutant.rule for mutant in MUTANTS)
    assert set(counts) == set(RULES) and min(counts.values()) >= 4


@pytest.mark.parametrize("name", list(RULES)[::4])
def test_a_right_rule_is_proved_or_not_refuted(name):
    checks = ("structure", "rounding" if name in UNPROVED else "proof")
    report = report_of(RULES[name], RULES[name].make_args(), skip=all_but(*checks))
    assert report.verdict is (v.Verdict.VERIFIED if name in UNPROVED else v.Verdict.PROVED), report


@pytest.mark.parametrize("name", RULES)
def test_a_mutant_is_its_rule_with_one_line_changed(name):
    for mutant in MUTANTS:
        if mutant.rule == name:
            right, wrong = (text.splitlines() for text in ((corpus.FOLDER / mutant.file).read_text(), mutant.source()))
            (changed,) = [(a.strip(), b.strip()) for a, b in zip(right, wrong, strict=True) if a != b]
            assert changed == (mutant.old, mutant.new)
            assert mutant.load().name == name


@pytest.mark.parametrize("mutant", MUTANTS[55::65], ids=lambda mutant: f"{mutant.kind}: {mutant.name}")
def test_a_mutant_is_refuted(mutant):
    rule = mutant.load()
    report = report_of(rule, rule.make_args(), skip=all_but("structure", "rounding"))
    assert report.verdict is v.Verdict.REFUTED, report
