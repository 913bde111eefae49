"""The parts of the corpus that the search for mistakes was not built on.

Right rules are proved but for ``UNPROVED``, which may only shrink; a mutant differs in one line, and is refuted.
"""

from collections import Counter

import corpus
import pytest
from corpus.verdict import report_of
from selecting import all_but

import handprop as v

pytestmark = pytest.mark.usefixtures("jax_as_it_comes")

RULES = {part: {rule.name: rule for rule in corpus.right_rules(part)} for part in ("second", "third", "fourth")}
MUTANTS = {part: corpus.mutants(part) for part in RULES}
LEAST = {"second": (40, 200, 3), "third": (30, 150, 4), "fourth": (35, 100, 2)}  # rules, mutants, mutants of each rule
# Too many truth values, found after seconds; no relation that the field knows; indices that arguments decide.
UNPROVED = {"mlp", "leapfrog", "mixture_density", "sample_image", "closed_spline", "tall_max_pool", "soft_dtw",
            "crf_loss", "tridiagonal_solve", "skeleton", "switch_experts", "trap", "render_rays", "survival", "crps",
            "transport_plan", "block_attention"}  # fmt: skip
ASKED = {"second": list(RULES["second"]), "third": list(RULES["third"])[::4],
         "fourth": list(RULES["fourth"])[::6]}  # fmt: skip
REFUTED = {"second": MUTANTS["second"][49::100], "third": MUTANTS["third"][55::65],
           "fourth": MUTANTS["fourth"][40::50]}  # fmt: skip
NEW_KINDS = {
    "second": {"not reversed", "updated weights", "other"},
    "third": set(),
    "fourth": {"applied twice", "dropped term", "index", "initial carry", "integer", "loop bounds", "loop variable",
               "missing derivative", "off by one", "updated value", "wrong argument", "wrong function",
               "wrong residual", "wrong stride"},
}  # fmt: skip


@pytest.mark.parametrize("part", RULES)
def test_a_part_is_as_large_as_promised_and_shares_no_name_with_those_before(part):
    rules, mutants, each = LEAST[part]
    before = list(corpus.PARTS)[: list(corpus.PARTS).index(part)]
    assert len(RULES[part]) >= rules
    assert len(MUTANTS[part]) >= mutants
    assert not set(RULES[part]) & {rule.name for other in before for rule in corpus.right_rules(other)}
    names, changes = ({f(mutant) for mutant in MUTANTS[part]} for f in (lambda m: m.name, lambda m: m[2:6]))
    assert len(names) == len(changes) == len(MUTANTS[part])
    kinds = {mutant.kind for other in before for mutant in corpus.mutants(other)} | NEW_KINDS[part]
    assert {mutant.kind for mutant in MUTANTS[part]} <= kinds
    counts = Counter(mutant.rule for mutant in MUTANTS[part])
    assert set(counts) == set(RULES[part]) and min(counts.values()) >= each


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("part", "name"), [(part, name) for part in RULES for name in ASKED[part]])
def test_a_right_rule_is_proved_or_not_refuted(part, name):
    checks = ("structure", "rounding" if name in UNPROVED else "proof")
    report = report_of(RULES[part][name], RULES[part][name].make_args(), skip=all_but(*checks))
    assert report.verdict is (v.Verdict.VERIFIED if name in UNPROVED else v.Verdict.PROVED), report


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("part", "name"), [(part, name) for part in RULES for name in RULES[part]])
def test_a_mutant_is_its_rule_with_one_line_changed(part, name):
    for mutant in MUTANTS[part]:
        if mutant.rule == name:
            right, wrong = (text.splitlines() for text in ((corpus.FOLDER / mutant.file).read_text(), mutant.source()))
            (changed,) = [(a.strip(), b.strip()) for a, b in zip(right, wrong, strict=True) if a != b]
            assert changed == (mutant.old, mutant.new)
            assert mutant.load().name == name


@pytest.mark.thinned(2)
@pytest.mark.parametrize("mutant", [m for part in RULES for m in REFUTED[part]], ids=lambda m: f"{m.kind}: {m.name}")
def test_a_mutant_is_refuted(mutant):
    rule = mutant.load()
    report = report_of(rule, rule.make_args(), skip=all_but("structure", "rounding"))
    assert report.verdict is v.Verdict.REFUTED, report
