"""The study of rules that public libraries ship, without the libraries: they are no requirement of the tests."""

import jax
import jax.numpy as jnp
import public_rules
import pytest
from corpus.libraries.call import Call

from handprop import verifier as v

ROW = public_rules.Said("lib:rule-1", "jax", "lib.rule", "lib/rule.py:3", "float32[3]", "right", "derivative", "PROVED")


def test_every_call_says_what_it_is():
    calls = public_rules.calls()
    assert len(calls) >= 365 and len({call.library for call in calls.values()}) >= 17
    for name, call in calls.items():
        assert call.truth == "right" or call.why or call.meant != "derivative", name
        assert call.truth != "right" or call.meant == "derivative", name


@pytest.mark.parametrize(("truth", "verdict", "conditions", "right", "fault"), [
    ("right", "PROVED", (), True, ""), ("right", "VERIFIED", (), True, ""), ("right", "INCONCLUSIVE", (), False, ""),
    ("right", "REFUTED", (), False, "FALSE REFUTATION"), ("wrong", "REFUTED", (), True, ""),
    ("wrong", "VERIFIED", (), False, ""), ("wrong", "PROVED", (), False, "FALSE PROOF"),
    ("right here", "REFUTED", (), True, ""), ("right here", "PROVED", ("x > 0",), True, ""),
    ("right here", "PROVED", (), False, "FALSE PROOF"), ("wrong", "CRASH", (), False, "CRASH"),
    ("right", "REFUSED", (), False, ""),
])  # fmt: skip
def test_a_report_is_judged_by_what_is_true(truth, verdict, conditions, right, fault):
    row = ROW._replace(truth=truth, verdict=verdict, conditions=conditions)
    assert (row.right, row.fault) == (right, fault)


def square(x):
    return x * x


def wrong(x):
    raise KeyError("no such thing")


@pytest.mark.parametrize(("f", "verdict"), [
    (jax.nn.relu, "PROVED"), (square, "REFUSED"), (wrong, "CRASH"),
])  # fmt: skip
def test_a_call_is_judged_whatever_happens(f, verdict, monkeypatch):
    call = Call("jax", "jax.nn.relu", lambda: (f, (jnp.array([0.3, 1.2]),)), options={"skip": ("repair",)})
    if f is wrong:
        monkeypatch.setattr(v, "of_rule", wrong)
    row = public_rules.judged("jax:relu-1", call)
    assert row.verdict == verdict and row.place.startswith("jax/_src/nn/")


def test_the_table_has_totals_and_rows():
    text = public_rules.table([ROW, ROW._replace(verdict="REFUTED", diagnosis="a | b")])
    assert "| 2 | 1 | 0 | 1 | 0 | 1 of 2 (50 %) |" in text
    assert "a \\| b" in text and text.count("lib:rule-1") == 2
