"""The published numbers, and what each experiment claims in its docstring."""

import json
import re
import sys

import checker_study
import digits
import jax
import many_reports
import mazur_step
import numpy as np
import pytest
import seed_network
import seeded_runs
import vanishing_gradient
import xor_ensemble

import handprop
from handprop.cli import demo


def test_seed_network_has_the_published_digits():
    classic = demo.run_classic(every=1000)
    for step, published in demo.PUBLISHED.items():
        assert abs(classic.errors[step] - published) < 1e-12
    assert classic.history.step.tolist()[:3] == [0, 1000, 2000]


def test_mazur_step_has_the_published_digits():
    step = mazur_step.measure()
    assert abs(step.error_before - mazur_step.PUBLISHED_ERROR_BEFORE) < 5e-10
    # Printed with 8 or 9 digits.
    np.testing.assert_allclose(step.W1, mazur_step.PUBLISHED_W1, rtol=0, atol=5e-9)
    np.testing.assert_allclose(step.W2, mazur_step.PUBLISHED_W2, rtol=0, atol=5e-9)


def test_mazur_slip_is_refuted_located_and_named():
    report = mazur_step.verdict()
    assert report.verdict is handprop.Verdict.REFUTED
    assert report.location
    assert report.location.text.strip() == "w2 = w2 - RATE * dw2"
    assert report.location.affects == ("gradient[0]",)
    assert report.diagnosis == "w2 is used after its update"
    assert report.fix
    assert (report.fix.expression, report.fix.proved) == ("w2 = w2", True)


def test_mazur_published_error_comes_from_the_slip():
    step = mazur_step.measure()
    assert abs(step.error_after - 0.291027773694) < 1e-12
    assert abs(step.error_after - mazur_step.PUBLISHED_ERROR_AFTER) > 1e-7
    assert abs(step.slipped_error_after - mazur_step.PUBLISHED_ERROR_AFTER) < 5e-10


def test_sigmoid_deltas_vanish_without_saturation():
    sigmoid, tanh = (vanishing_gradient.measure(hidden, "glorot", seeds=1) for hidden in ("sigmoid", "tanh"))
    assert sigmoid.norms[-1] / sigmoid.norms[0] > 1e8
    assert sigmoid.stopped.max() == 0
    assert tanh.norms[-1] / tanh.norms[0] < 30


@pytest.mark.parametrize("experiment", [seed_network, mazur_step, vanishing_gradient, digits, xor_ensemble])
def test_prints_its_table_and_saves_its_picture(experiment, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["experiment", "--out", str(tmp_path)])
    monkeypatch.setattr(digits, "SEEDS", range(1))
    monkeypatch.setattr(vanishing_gradient, "STARTS", vanishing_gradient.STARTS[:2])
    for name, small in {"SEEDS": 20, "STEPS": 10, "RATES": (1.0, 3.0), "SCALES": (1.0, 3.0)}.items():
        monkeypatch.setattr(xor_ensemble, name, small)
    assert experiment.main() == 0
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert (tmp_path / f"{experiment.__name__}.png").read_bytes().startswith(b"\x89PNG")


def descend(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """Outputs after full-batch descent on half the summed squared error, in NumPy; biases are a last row of weights."""

    def widened(a):
        return np.hstack([a, np.ones((len(a), weights[0].shape[0] - x.shape[1]))])

    def forward():
        hidden = 1 / (1 + np.exp(-widened(x) @ weights[0]))
        return hidden, 1 / (1 + np.exp(-widened(hidden) @ weights[1]))

    for _ in range(steps):
        hidden, out = forward()
        d_out = (out - y) * out * (1 - out)
        d_hidden = d_out @ weights[1][: hidden.shape[1]].T * hidden * (1 - hidden)
        weights = [
            weights[0] - rate * widened(x).T @ d_hidden,
            weights[1] - rate * widened(hidden).T @ d_out,
        ]
    return forward()[1]


@pytest.mark.parametrize("name", xor_ensemble.NETWORKS)
def test_xor_is_learned_by_the_networks_that_learn_it_in_numpy(name):
    (net, x), seeds, rate, scale, steps = xor_ensemble.NETWORKS[name], 20, 3.0, 2.0, 400
    found = xor_ensemble.learn(net, x, rate, scale, seeds, steps)
    x, y = np.asarray(x, np.float64), np.array([[0.0], [1.0], [1.0], [0.0]])
    outputs = []
    for key in jax.random.split(jax.random.key(0), seeds):
        layers = [(scale * np.asarray(W, np.float64), b) for W, b in net.init(key)]
        weights = [W if b is None else np.vstack([W, np.zeros(W.shape[1])]) for W, b in layers]
        outputs.append(descend(weights, x, y, rate, steps))
    assert found.learned.tolist() == [bool((abs(out - y) < 0.5).all()) for out in outputs]
    np.testing.assert_allclose(found.error, [((out - y) ** 2).sum() / 2 for out in outputs], rtol=1e-3)
    assert 0 < found.share < 1


def test_a_network_that_is_not_finite_has_not_learned_xor():
    net = handprop.mlp((3, 4, 1), hidden="identity", output="identity", bias=False, reduction="sum")
    found = xor_ensemble.learn(net, xor_ensemble.X, rate=1e30, scale=1.0, seeds=5, steps=20)
    assert not found.finite.any()
    assert found.share == 0


@pytest.mark.parametrize("count", ["0", "-1", "2.5", "many"])
def test_a_count_that_is_none_is_one_sentence(count, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiment", f"--seeds={count}"])
    with pytest.raises(SystemExit, match="2"):
        xor_ensemble.main()
    assert f"argument --seeds: {count!r} is not a valid count; give a whole number" in capsys.readouterr().err


def test_checker_study_says_what_each_checker_found(monkeypatch, capsys, tmp_path):
    cases = {(case.part, case.name, case.size): case for case in checker_study.cases(quick=True)}
    chosen = [cases["all", "sigmoid", 23], cases["sweep", "sigmoid-1", 10]]
    monkeypatch.setattr(checker_study, "cases", lambda quick: chosen)
    figures = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["study", "--quick", "--out", str(tmp_path), "--figures", str(figures)])
    assert checker_study.main() == 0
    assert "killed/wrong" in capsys.readouterr().out
    assert (tmp_path / "checker_study.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(figures.read_text())
    (at_10,) = found["scores"]["sweep"]
    assert all((at_10[checker]["killed"], at_10[checker]["wrong"]) == (1, 1) for checker in checker_study.CHECKERS)
    assert found["handprop_on_right_rules"] == {"sigmoid": "PROVED"}


def test_chex_passes_a_negated_gradient_of_a_large_array():
    mutant = next(m for m in checker_study.corpus.mutants() if m.name == "sigmoid-1")
    large = checker_study.ask("sweep", "chex", mutant.load(), mutant.name, mutant.kind, "float32", 100_000)
    small = checker_study.ask("sweep", "chex", mutant.load(), mutant.name, mutant.kind, "float32", 10)
    assert (small.against, large.against) == (True, False)


def test_seeded_runs_counts_verdicts_and_fails_on_a_refuted_one(monkeypatch, capsys):
    rules = {rule.name: rule for rule in seeded_runs.corpus.right_rules()}
    monkeypatch.setattr(sys, "argv", ["seeded_runs", "--runs", "1"])
    monkeypatch.setattr(seeded_runs.corpus, "right_rules", lambda part: (rules["sigmoid"],))
    assert seeded_runs.main() == 0
    assert "1 reports" in capsys.readouterr().out
    wrong = next(m for m in seeded_runs.corpus.mutants() if m.name == "sigmoid-1").load()
    monkeypatch.setattr(seeded_runs.corpus, "right_rules", lambda part: (wrong,))
    assert seeded_runs.main() == 1
    assert "REFUTED" in capsys.readouterr().out


def test_many_reports_says_what_is_held_and_fails_on_a_late_one(monkeypatch, capsys):
    rules = {rule.name: rule for rule in many_reports.corpus.right_rules()}
    monkeypatch.setattr(many_reports, "BLOCK", 1)
    monkeypatch.setattr(many_reports, "rules", lambda: iter([("sigmoid", rules["sigmoid"])]))
    monkeypatch.setattr(sys, "argv", ["many_reports"])
    assert many_reports.main() == 0
    assert re.search(r"1 reports, \d+ MB\n\d+\.\d s  sigmoid: PROVED", capsys.readouterr().out)
    monkeypatch.setattr(many_reports, "report_of", lambda rule, args, budget: handprop.verify(rule.function, *args))
    monkeypatch.setattr(sys, "argv", ["many_reports", "--budget", "-4"])  # less than no time is allowed
    assert many_reports.main() == 1
