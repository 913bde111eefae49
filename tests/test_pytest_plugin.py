"""The plugin in runs of its own: verdicts become test outcomes, the end of the run counts them, jax waits."""

import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest

from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Check, Outcome

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
ALONE = ("-p", "handprop.pytest_plugin", "-p", "no:cacheprovider")

TESTS = """
import pytest
from handprop.verifier.report.report import GradientRefuted

@pytest.mark.parametrize("n", range(3))
def test_proved(verify_rule, n):
    assert verify_rule("PROVED", n).ok

def test_verified(verify_gradient):
    assert verify_gradient("VERIFIED", None).ok

def test_refuted(verify_rule):
    verify_rule("REFUTED")

def test_expects_a_wrong_rule(verify_rule):
    with pytest.raises(GradientRefuted):
        verify_rule("REFUTED")

def test_unjudged(verify_rule):
    verify_rule("INCONCLUSIVE")

def test_without():
    pass
"""
FAKE = """
import handprop.verifier, sys
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Check, Outcome, Verdict

def entry(verdict, *args, key=None):
    check = Check("proof", Outcome.HOLDS, f"key {key}")
    return Report(f"rule {verdict}", Verdict[verdict], f"because {verdict}", (check,), seconds=0.25)

sys.modules["handprop.verifier"].verify = sys.modules["handprop.verifier"].verify_gradient = entry
"""


@pytest.fixture
def alone(pytester, monkeypatch):
    """A run that loads this plugin and no other, with entries that return the verdict they are told."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_rules=TESTS)
    pytester.makeconftest(FAKE)
    return lambda *args: pytester.runpytest_subprocess(*ALONE, *args)


def test_verdicts_are_outcomes_and_are_counted(alone):
    result = alone()
    result.assert_outcomes(passed=6, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E *GradientRefuted: REFUTED       rule REFUTED",
            "E *Failed: INCONCLUSIVE  rule INCONCLUSIVE",
            "*= handprop =*",
            "verified test_rules.py::test_verified: because VERIFIED",
            "refuted test_rules.py::test_refuted: because REFUTED",
            "7 rules: 3 proved, 1 verified, 2 refuted, 1 inconclusive; slowest 0.2 s",
        ]
    )
    assert "pytest_plugin.py" not in result.stdout.str()  # the traceback ends in the test


def test_what_the_fixtures_do_not_take_fails_in_one_sentence(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        import jax.numpy as jnp

        def gradient(x):
            return 3 * x * x

        def test_gradient(verify_rule):
            verify_rule(gradient, jnp.ones(3))
        """
    )
    result = pytester.runpytest_subprocess(*ALONE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *Failed: verify: gradient calls no custom_vjp or custom_jvp rule besides JAX's *"])
    assert "TypeError" not in result.stdout.str()


def test_runs_without_rules_say_nothing(alone):
    result = alone("-k", "without")
    result.assert_outcomes(passed=1, deselected=7)
    assert "handprop =" not in result.stdout.str()


@pytest.mark.parametrize("workers", [(), ("-p", "xdist.plugin", "-n", "2")])
def test_all_reports_go_to_one_file(alone, pytester, workers):
    result = alone("--handprop-json", "reports.json", "--handprop-seed", "5", *workers)
    result.stdout.fnmatch_lines(
        ["7 rules: 3 proved, 1 verified, 2 refuted, 1 inconclusive; *", "reports: reports.json"]
    )
    written = json.loads((pytester.path / "reports.json").read_text())
    assert written["format"] == "handprop.reports.v1"
    reports = {(r["test"], r["report"]["verdict"]) for r in written["reports"]}
    assert len(written["reports"]) == 7 and ("test_rules.py::test_refuted", "REFUTED") in reports
    read = Report.from_json(json.dumps(written["reports"][0]["report"]))
    assert read.check("proof") == Check("proof", Outcome.HOLDS, "key 5")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--handprop-json", "missing/reports.json"), "cannot be written"),
        (("--handprop-json", "."), "cannot be written"),
        (("--handprop-seed", "-1"), "--handprop-seed must not be negative; got -1"),
        (("--handprop-seed", "x"), "invalid int value"),
    ],
)
def test_bad_options_are_refused(alone, arguments, said):
    result = alone(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_loading_the_plugin_imports_no_jax(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        """
        import sys

        def test_none():
            assert "handprop.pytest_plugin" in sys.modules
            assert not {"jax", "numpy", "optax"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess(*ALONE).assert_outcomes(passed=1)


def test_the_plugin_can_be_turned_off(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile("def test_one():\n    pass")
    off = ("-p", "no:handprop", "-p", "no:handprop.pytest_plugin", "-p", "no:cacheprovider")
    pytester.runpytest_subprocess(*off).assert_outcomes(passed=1)
    assert pytester.runpytest_subprocess(*off, "--handprop-seed", "1").ret == pytest.ExitCode.USAGE_ERROR


def test_pytest_finds_the_plugin_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"handprop": "handprop.pytest_plugin"}
    found = {e.name: e.value for e in importlib.metadata.entry_points(group="pytest11")}
    assert found.get("handprop", "handprop.pytest_plugin") == "handprop.pytest_plugin"
