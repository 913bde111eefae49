"""The commands verify and audit: what they find, what they say, their exit codes and their certificates.

The entries are stand-ins that tell what they were given; tests/verifier holds them to their own contract.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.cli import main, verify
from handprop.verifier import domains
from handprop.verifier.auditing import Audit
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Check, Outcome, Verdict

RULES = """
import numpy as np

def rule(x):
    return x

class Layer:
    rule = staticmethod(lambda x: x)

def loss(x):
    return x

def make_args():
    return np.ones((2, 3), np.float32), np.zeros(3, np.float32)

def one():
    return np.ones(4, np.float32)

pair = (np.ones(1, np.float32), 2.0)

def broken():
    raise RuntimeError("no data")
"""


class Entries:
    """Stand-ins for ``handprop.verify``'s entries; ``calls`` keeps what they were given."""

    def __init__(self):
        self.calls, self.verdict, self.hashes, self.error = (
            [],
            Verdict.PROVED,
            {"candidate": "1", "reference": "1"},
            None,
        )

    def _report(self, *call):
        if self.error:
            raise self.error
        self.calls.append(call)
        check = Check("proof", Outcome.PROVES, "equal", {"x": np.float32(1)})
        return Report("the rule", self.verdict, "", (check,), certificate={"hashes": self.hashes})

    def verify(self, rule, *args, reference=None, argnums=None, key=None, order=1, budget=30.0, domain=None,
               accuracy=0.0):  # fmt: skip
        self.argnums, self.domain, self.accuracy = argnums, domain, accuracy
        return self._report("verify", rule, args, reference, key, order, budget)

    def verify_gradient(self, hand, loss, *args, argnums=0, key=None, budget=30.0):
        self.argnums = argnums
        return self._report("verify_gradient", hand, args, loss, key, 1, budget)

    def audit(self, step, *args, key=None, budget=30.0):
        return self._report("audit", step, args, None, key, 1, budget)


@pytest.fixture
def entries(monkeypatch, tmp_path):
    """A folder with rules.py as the working folder, and entries that only tell."""
    (tmp_path / "rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "rules", raising=False)
    _ = handprop.verify  # what is public is taken from the verifier before anything there is replaced

    entries = Entries()
    for name in ("verify", "verify_gradient", "audit"):
        monkeypatch.setattr(sys.modules["handprop.verifier"], name, getattr(entries, name), raising=False)
    yield entries
    sys.modules.pop("rules", None)


def refused(capsys, *arguments):
    """The one sentence of a command that ends with exit code 2 and no report."""
    assert main.main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("handprop: ") and line.endswith("."), line
    return line


@pytest.mark.parametrize("place", ["rules", "rules.py", "./rules.py"])
def test_rules_are_found_in_modules_and_scripts(entries, place, capsys):
    assert main.main(["verify", f"{place}:rule", "--args", f"{place}:make_args"]) == 0
    (_, rule, args, reference, key, order, budget) = entries.calls[0]
    assert rule is sys.modules["rules"].rule and reference is None
    assert [a.shape for a in args] == [(2, 3), (3,)]
    assert (key, order, budget) == (0, 1, 30.0)
    out = capsys.readouterr().out
    assert out.startswith("PROVED        the rule\n") and "proves" in out


def test_options_reach_the_entry(entries):
    arguments = ("--shapes", "f32[2,3] bf16[] i8[4]", "--reference", "rules:loss", "--order", "2", "--seed", "7")
    assert main.main(["verify", "rules:Layer.rule", *arguments, "--budget", "2.5"]) == 0
    assert main.main(["verify", "rules:rule", "--args", "rules:one", "--loss", "rules:loss"]) == 0
    assert main.main(["audit", "rules:rule", "--args", "rules:pair", "--seed", "3"]) == 0
    first, second, third = entries.calls
    rules = sys.modules["rules"]
    assert first[0] == "verify" and first[3] is rules.loss and first[4:] == (7, 2, 2.5)
    assert [(a.shape, a.dtype) for a in first[2]] == [((2, 3), jnp.float32), ((), jnp.bfloat16), ((4,), jnp.int8)]
    assert second[0] == "verify_gradient" and second[3] is rules.loss and len(second[2]) == 1
    assert third[0] == "audit" and third[2] == rules.pair and third[4] == 3


def test_float64_shapes_turn_x64_on_for_the_run_only(entries, monkeypatch):
    seen = []
    monkeypatch.setattr(entries, "_report", lambda *_: seen.append(jax.config.jax_enable_x64) or REPORT)
    for shapes in ("f64[3]", "f32[3]"):
        assert main.main(["verify", "rules:rule", "--shapes", shapes]) == 0
    assert seen == [True, False] and not jax.config.jax_enable_x64


REPORT = Report("the rule", Verdict.PROVED, "", ())


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(Verdict.PROVED, 0), (Verdict.VERIFIED, 0), (Verdict.REFUTED, 1), (Verdict.INCONCLUSIVE, 2)],
)
def test_exit_codes_say_the_verdict(entries, verdict, code, capsys):
    entries.verdict = verdict
    assert main.main(["verify", "rules:rule", "--args", "rules:one", "--json", "out.json"]) == code
    assert capsys.readouterr().out.startswith(verdict.name)
    assert json.loads(Path("out.json").read_text())["verdict"] == verdict.name


@pytest.mark.parametrize(("given", "argnums"), [("1", 1), ("0,1", (0, 1)), ("1,", (1,)), ("-1", -1)])
def test_argnums_reach_the_entry(entries, given, argnums):
    given = [f"--argnums={given}"]
    for loss in ([], ["--loss", "rules:loss"]):
        assert main.main(["verify", "rules:rule", "--args", "rules:make_args", *loss, *given, "--json", "c.json"]) == 0
        assert entries.argnums == argnums
        entries.argnums = None
        assert main.main(["verify", "--replay", "c.json"]) == 0
        assert entries.argnums == argnums


def test_domains_and_the_accuracy_reach_the_entry(entries):
    given = ["--domain", "y=one_hot, 1=interval(0, 2.5)", "--accuracy", "1e-8"]
    assert main.main(["verify", "rules:rule", "--args", "rules:make_args", *given, "--json", "c.json"]) == 0
    assert main.main(["verify", "--replay", "c.json"]) == 0
    assert {name: domain.says for name, domain in entries.domain.items()} == {
        "y": "is one-hot in its rows", 1: domains.interval(0, 2.5).says}  # fmt: skip
    assert entries.accuracy == 1e-8
    assert main.main(["verify", "rules:rule", "--args", "rules:make_args", "--domain", "any"]) == 0
    assert entries.domain == "any"


@pytest.mark.parametrize(("given", "says"), [
    (["--domain", "y=one_cold"], "one_cold is not known; choose one of any, boolean,"),
    (["--domain", "y=interval(1)"], "interval(1) is not valid"),
    (["--domain", "one_hot, w=any"], "write name=kind for each one"),
    (["--domain", "y==1"], "is not understood"),
    (["--accuracy", "2"], "--accuracy must be a relative error"),
])  # fmt: skip
def test_domains_that_are_none(entries, capsys, given, says):
    assert main.main(["verify", "rules:rule", "--args", "rules:make_args", *given]) == 2
    assert says in capsys.readouterr().err
    assert not entries.calls


def test_a_certificate_repeats_the_command(entries, capsys):
    given = ["--args", "rules:make_args", "--reference", "rules:loss", "--seed", "9", "--order", "2", "--budget", "4"]
    assert main.main(["verify", "rules:rule", *given, "--json", "c.json"]) == 0
    assert "wrote c.json" in capsys.readouterr().out
    assert main.main(["verify", "--replay", "c.json"]) == 0
    first, second = entries.calls
    assert first[0] == second[0] and first[3:] == second[3:]
    out = capsys.readouterr().out
    assert "The code is the same." in out and "The verdict is the same: PROVED." in out
    entries.verdict, entries.hashes = Verdict.REFUTED, {"candidate": "2", "reference": "1"}
    assert main.main(["verify", "--replay", "c.json"]) == 1
    out = capsys.readouterr().out
    assert "The code has changed: candidate." in out and "The verdict was PROVED and is REFUTED." in out


def test_what_is_given_beside_a_certificate_comes_first(entries):
    main.main(["verify", "rules:rule", "--args", "rules:make_args", "--seed", "9", "--json", "c.json"])
    main.main(["verify", "--replay", "c.json", "--shapes", "f32[5]", "--seed", "1"])
    main.main(["verify", "rules:loss", "--replay", "c.json", "--loss", "rules:rule"])
    _, second, third = entries.calls
    assert second[2][0].shape == (5,) and second[4] == 1
    assert third[0] == "verify_gradient" and third[1] is sys.modules["rules"].loss and third[4] == 9


def test_a_certificate_of_the_library_needs_the_rule(entries, capsys, tmp_path):
    (tmp_path / "c.json").write_text(REPORT.to_json())
    assert "does not record a command, so name the rule" in refused(capsys, "verify", "--replay", "c.json")
    assert main.main(["verify", "rules:rule", "--args", "rules:one", "--replay", "c.json"]) == 0
    assert "does not say whether the code is the same" in capsys.readouterr().out


BAD = [
    (("verify",), "name the rule"),
    (("verify", "rules:rule"), "one of --args"),
    (("verify", "rules:rule", "--args", "rules:one", "--shapes", "f32[1]"), "one of --args"),
    (("verify", "rules", "--shapes", "f32[1]"), "rules is not a full name"),
    (("verify", ":rule", "--shapes", "f32[1]"), ":rule is not a full name"),
    (("verify", "missing.module:rule", "--shapes", "f32[1]"), "no module missing was found"),
    (("verify", "missing.py:rule", "--shapes", "f32[1]"), "missing.py is not a file"),
    (("verify", "rules:ruel", "--shapes", "f32[1]"), "rules has no attribute ruel; perhaps you mean rule"),
    (("verify", "broken.py:rule", "--shapes", "f32[1]"), "broken.py failed: ZeroDivisionError: division by zero"),
    (("verify", "quits:rule", "--shapes", "f32[1]"), "importing quits failed: SystemExit: 3"),
    (("verify", "needs:rule", "--shapes", "f32[1]"), "importing needs failed: ModuleNotFoundError"),
    (("verify", "rules:rule", "--args", "rules:broken"), "rules:broken failed: RuntimeError: no data (/"),
    (("verify", "rules:rule", "--args", "rules:nil"), "rules has no attribute nil"),
    (("verify", "rules:rule", "--shapes", ""), "not understood"),
    (("verify", "rules:rule", "--shapes", "f32[2"), "not understood"),
    (("verify", "rules:rule", "--shapes", "f33[2]"), "f33[2] is not a valid array type"),
    (("verify", "rules:rule", "--shapes", "f32[2 3]"), "f32[2 3] is not a valid array type"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--order", "3"), "--order must be 1 or 2; got 3"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--seed", "-1"), "--seed must be a whole number"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--argnums", "w"), '--argnums "w" is not understood'),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--budget", "0"), "--budget must be a positive number"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--budget", "nan"), "--budget must be a positive number"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--loss", "rules:loss", "--order", "2"), "--order 2 is not"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--loss", "rules:loss", "--reference", "rules:loss"), "combined"),
    (("verify", "rules:rule", "--shapes", "f32[1]", "--json", "missing/c.json"), "the folder missing is missing"),
    (("verify", "--replay", "missing.json"), "missing.json cannot be read"),
    (("verify", "--replay", "rules.py"), "rules.py is not a handprop report"),
    (("verify", "--replay", "bytes.json"), "bytes.json is not text"),
    (("verify", "--replay", "evil.json"), "a command that cannot be run (seed)"),
    (("audit", "rules:rule"), "one of --args"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_usage_is_one_sentence(entries, tmp_path, capsys, arguments, said):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "quits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needs.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xff")
    command = {"entry": "verify", "rule": "rules:rule", "args": "rules:one", "seed": "1"}
    (tmp_path / "evil.json").write_text(Report("x", Verdict.PROVED, "", (), certificate={"command": command}).to_json())
    assert said in refused(capsys, *arguments)
    assert not entries.calls


def test_a_failure_of_the_entry_is_no_refutation(entries, capsys, tmp_path):
    (tmp_path / "c.json").write_text("kept")
    entries.error = TypeError("x has no\n shape")
    said = refused(capsys, "verify", "rules:rule", "--args", "rules:one", "--json", "c.json")
    assert "rules:rule could not be verified: TypeError: x has no shape" in said
    assert (tmp_path / "c.json").read_text() == "kept"
    entries.error = KeyboardInterrupt()
    assert "interrupted" in refused(capsys, "verify", "rules:rule", "--args", "rules:one", "--json", "c.json")
    assert (tmp_path / "c.json").read_text() == "kept"


def test_a_script_that_has_the_name_of_a_module_is_loaded_all_the_same(entries, tmp_path):
    (tmp_path / "json.py").write_text("rule = 5\n")
    assert verify.find(f"{tmp_path / 'json.py'}:rule") == 5
    assert sys.modules["json"] is json


GRADIENTS = """
import jax, jax.numpy as jnp

def loss(w, b):
    return (w * w).sum() * b.sum()

def gradient(w, b):
    return 2 * w * b.sum()

def gradients(w, b):
    return 2 * w * b.sum(), jnp.ones_like(b) * (w * w).sum()

@jax.custom_jvp
def cube(x):
    return x**3

cube.defjvp(lambda p, t: (cube(*p), 3 * p[0] ** 2 * t[0]))

def step(w, b):
    return jax.grad(lambda w: cube(w).sum())(w)

def fails(w, b):
    raise RuntimeError("no data")
"""
SHAPES = ("--shapes", "f32[3] f32[2]")
REFUSED = [
    (("verify", "gradients.py:gradient"), "gradient calls no custom_vjp or custom_jvp rule besides JAX's own"),
    (("verify", "gradients.py:gradients", "--loss", "gradients.py:loss"), "pass argnums=(0, 1) if these are meant."),
    (("verify", "gradients.py:cube"), "cube fails at these arguments: TypeError"),
    (("audit", "gradients.py:fails"), "fails raises at the given arguments: RuntimeError: no data."),
]


@pytest.fixture
def gradients(monkeypatch, tmp_path):
    """A folder with gradients.py as the working folder, and the entries as they are."""
    (tmp_path / "gradients.py").write_text(GRADIENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("gradients", None)


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_the_entries_do_not_take_is_one_sentence(gradients, capsys, arguments, said):
    assert said in refused(capsys, *arguments, *SHAPES)


def test_several_gradients_by_their_arguments(gradients, capsys):
    loss = ("--loss", "gradients.py:loss")
    assert main.main(["verify", "gradients.py:gradients", *loss, *SHAPES, "--argnums", "0,1"]) == 0
    assert capsys.readouterr().out.startswith("PROVED")


def test_an_audit_is_printed_and_written(gradients, capsys):
    assert main.main(["audit", "gradients.py:step", *SHAPES, "--json", "a.json"]) == 0
    assert capsys.readouterr().out.startswith("PROVED        cube")
    written = json.loads(Path("a.json").read_text())
    assert written["format"] == "handprop.audit.v2"
    Path("b.json").write_text(json.dumps(dict(reversed(written.items()))))  # the format stands at the end
    assert isinstance(verify.read_certificate(Path("b.json")), Audit)
    (report,) = (Report.from_json(json.dumps(report)) for report in written["reports"])
    assert report.verdict is Verdict.PROVED and report.subject == "cube"
    assert main.main(["audit", "--replay", "a.json"]) == 0
    assert "The code is the same. The verdict is the same: PROVED." in " ".join(capsys.readouterr().out.split())
    assert main.main(["verify", "--replay", "a.json"]) == 2
    assert "a.json was written by handprop audit" in capsys.readouterr().err
    assert main.main(["audit", "gradients.py:gradient", *SHAPES]) == 2
    assert "no custom rule besides JAX's own was called" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "first"), [
    (("verify", "gradients.py:cube", "--shapes", "f32[3]"), "PROVED        cube"),
    (("verify", "gradients.py:gradients", "--loss", "gradients.py:loss", *SHAPES, "--argnums", "0,1"), "PROVED"),
    (("audit", "gradients.py:step", *SHAPES), "PROVED        cube"),
])  # fmt: skip
def test_each_command_as_a_process(gradients, arguments, first):
    done = subprocess.run(
        [sys.executable, "-m", "handprop.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith(first), done
