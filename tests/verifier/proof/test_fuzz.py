"""Random pairs of programs, equal or with one mistake: no verdict is wrong. ``fuzz_verdicts.py`` asks for more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mpmath")
import fuzz_verdicts
from fuzz import nodes, oracle
from fuzz.expressions import nonnegative, positive
from fuzz.oracle import Kind, Relation
from fuzz.pairs import draw_pair
from fuzz.verdicts import asked, judged

from handprop.verifier import Check, Counterexample, Outcome, Verdict, Worst

pytestmark = pytest.mark.usefixtures("jax_as_it_comes")
SEED, PAIRS = 0, 40
X = nodes.Node("var", (), ("x",), (2,))


@pytest.mark.sweep
def test_no_verdict_is_wrong():
    found = [asked(SEED, index, "proof", 30.0) for index in range(PAIRS)]
    faults = [fuzz_verdicts.told(one, SEED) for one in found if one.fault]
    assert not faults, "\n".join(faults)
    equal, affected = ([one for one in found if one.kind == kind] for kind in ("equal", "spoiled"))
    assert len(equal) > 0.4 * PAIRS and len(affected) > 0.4 * PAIRS
    assert sum(one.verdict == "PROVED" for one in equal) > 0.6 * len(equal)


def test_decisions_that_another_run_meets_in_another_order_end_the_proof():
    """Which entry of two is larger was asked there for the place of the largest of three."""
    assert not asked(12001, 12921, "proof", 30.0).fault


def test_a_pair_is_drawn_again_from_its_seed_and_index():
    assert draw_pair(3, 17) == draw_pair(3, 17) != draw_pair(3, 18)
    assert len({str(draw_pair(seed, 17)) for seed in range(4)}) == 4


def test_what_is_drawn_runs():
    for index in range(20, 26):
        pair = draw_pair(SEED, index)
        left, right = (jax.tree.leaves(jax.eval_shape(f, *pair.arguments())) for f in pair.functions())
        assert [leaf.shape for leaf in left] == [leaf.shape for leaf in right]


def test_signs_are_those_that_the_form_says():
    exp, square = (nodes.node(op, X) for op in ("exp", "square"))
    assert positive(exp) and nonnegative(square) and not positive(square) and not nonnegative(X)
    assert positive(nodes.node("add", exp, square)) and not positive(nodes.node("sub", exp, square))


def test_constants_are_read_as_python_folds_them():
    third, tenth = nodes.FRACTIONS[0], nodes.FRACTIONS[2]
    folded = nodes.node("div", nodes.const(1.0), nodes.const(tenth))
    readings = nodes.readings_of(nodes.node("mul", X, nodes.node("add", nodes.const(third), folded)))
    assert set(readings.values()) == {third, tenth, 1 / tenth, third + 1 / tenth}
    assert all(np.float32(float(exact)) == number for number, exact in readings.items())


@pytest.mark.parametrize(
    ("f", "g", "generic", "ties"),
    [
        (lambda x: (x + 1.0) ** 2, lambda x: x * x + 2.0 * x + 1.0, Relation.EQUAL, Relation.EQUAL),
        (lambda x: x, lambda x: x * (1 + 2.0**-20), Relation.DIFFERENT, Relation.UNKNOWN),
        (lambda x: jnp.where(x > 0, x, 1.0), lambda x: jnp.where(x >= 0, x, 1.0), Relation.EQUAL, Relation.DIFFERENT),
        (lambda x: jnp.exp(jnp.log(x)), lambda x: x, Relation.DOMAIN, Relation.DOMAIN),
        # A comparison of NaN says no: what rests on it is not defined, though it is a number.
        (lambda x: jnp.where(jnp.log(x) > 0, 0.0, x), lambda x: jnp.where(x < 1, 1.0, 0.0), Relation.DIFFERENT,
         Relation.UNKNOWN),
        (lambda x: jnp.where(jnp.log(x) < 1, 0.0, 1.0), lambda x: jnp.where(x < jnp.exp(1.0), 0.0, 1.0),
         Relation.DOMAIN, Relation.DOMAIN),
        (lambda x: (jnp.log(jnp.exp(x)) == x) + 0.0, lambda x: (x == x) + 0.0, Relation.EQUAL, Relation.EQUAL),
        (lambda x: jnp.log(x - x - 1.0), lambda x: jnp.sqrt(x - x - 1.0), Relation.UNKNOWN, Relation.UNKNOWN),
    ],
)  # fmt: skip
def test_how_two_programs_stand_to_each_other(f, g, generic, ties):
    left, right = (oracle.traced(h, [(3,)]) for h in (f, g))
    at = oracle.points([(3,)], np.random.default_rng(0), 4, 4)
    assert oracle.related(left, right, at, {}) == {Kind.GENERIC: generic, Kind.TIES: ties}


class Said:
    """What ``judged`` reads of a report."""

    def __init__(self, verdict, checks=(), conditions=(), reason="at zeros"):
        self.verdict, self.checks, self.conditions, self.internal = Verdict[verdict], checks, conditions, ()
        self.reason = reason
        self.counterexample = Counterexample((), Worst("value", (), 1.0, 2.0))


def test_what_counts_as_a_fault():
    affected, equal = draw_pair(SEED, 1), draw_pair(SEED, 0)
    assert affected.relations[Kind.GENERIC] is Relation.DIFFERENT and not equal.mistake
    for conditions in ((), ("x > 0",)):
        assert judged(affected, Said("PROVED", conditions=conditions))[0] == "false proof"
    assert judged(equal, Said("PROVED")) == ("", "", "equal")
    failed = [[Check(name, Outcome.FAILS, "")] for name in ("rounding", "edge_cases")]
    assert [judged(equal, Said("REFUTED", checks))[0] for checks in failed] == ["false refutation", ""]
    assert judged(equal, Said("REFUTED", failed[1], reason="at millions"))[0] == "false refutation"
    assert judged(affected, Said("REFUTED", failed[0])) == ("", "", "")
    assert judged(equal, Said("INCONCLUSIVE", failed[0]))[0] == "contradiction"


def test_the_summary_counts():
    found = [asked(SEED, index, "proof", 10.0) for index in (0, 1)]
    text = fuzz_verdicts.summary(found, 1.0)
    assert "equal: 1 pairs: 1 PROVED (100.0 %)" in text
    assert "faults: none" in text
