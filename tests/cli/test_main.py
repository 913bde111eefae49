"""The command: what it prints, what it writes, and one sentence for whatever is wrong.

Each subcommand runs once as a process; where only what it says is wrong matters, its function is called.
"""

import csv
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

from handprop import data
from handprop.cli import demo, main
from handprop.nn.mlp import HiddenName, OutputName
from handprop.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-m", "handprop.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def called(iris, monkeypatch, capsys):
    """A function that calls the command in the folder of the iris table, and returns its exit code and texts."""
    monkeypatch.chdir(iris)

    def call(*arguments):
        code = main.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(called):
    """A function that calls the command, which must end with exit code 2, and returns its one sentence."""

    def sentence(*arguments):
        code, _, err = called(*arguments)
        assert code == 2 and "Traceback" not in err, err
        (line,) = err.strip().splitlines()
        assert line.startswith("handprop: ") and line.endswith("."), err
        return line

    return sentence


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """A folder with the real iris table."""
    folder = tmp_path_factory.mktemp("iris")
    table = data.iris()
    with (folder / "iris.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*table.feature_names, "species"])
        writer.writerows([*row, table.class_names[k]] for row, k in zip(table.x.tolist(), table.y, strict=True))
    return folder


def test_the_command_names_the_activations_of_the_library():
    hints = typing.get_type_hints(main.train)
    assert set(typing.get_args(hints["activation"])) == set(typing.get_args(HiddenName))
    assert set(typing.get_args(hints["output"])) <= set(typing.get_args(OutputName))


def test_demo(tmp_path):
    done = run("demo", folder=tmp_path, NO_COLOR="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for published in demo.PUBLISHED.values():
        assert done.stdout.count(f"{published:.12g}") == 2  # ours and theirs
    assert done.stdout.count("proved right") == 3
    pictures = sorted(path.name for path in (tmp_path / "handprop-demo").iterdir())
    assert pictures == ["digits_accuracy.png", "error.png", "error_against_weight.png", "misread_digits.png"]


def test_train_and_predict(iris):
    arguments = ("--metrics", "m.jsonl", "--plot", "p.png", "--save", "p.npz", "--check")
    done = run(
        "train", "iris.csv", "--target", "species", "--hidden", "16", "8", "--epochs", "60", *arguments, folder=iris
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout and "\nPROVED" in done.stdout
    epochs = [json.loads(line) for line in (iris / "m.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 61))
    assert epochs[-1]["test"] >= 0.9 and epochs[-1]["loss"] < epochs[0]["loss"]
    assert (iris / "p.png").read_bytes().startswith(b"\x89PNG")
    assert run("predict", "p.npz", "iris.csv", "--out", "read.csv", folder=iris).returncode == 0
    printed = run("predict", "p.npz", "iris.csv", folder=iris).stdout
    assert printed == (iris / "read.csv").read_text()
    rows = list(csv.DictReader(printed.splitlines()))
    truth = [row["species"] for row in csv.DictReader((iris / "iris.csv").read_text().splitlines())]
    assert np.mean([row["prediction"] == name for row, name in zip(rows, truth, strict=True)]) >= 0.9


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_other_outputs(iris, called, output):
    target = "species" if output == "sigmoid" else "0"
    arguments = "--output", output, "--save", f"{output}.npz"
    code, out, err = called("train", "iris.csv", "--target", target, *arguments)
    if output == "identity":  # the class column is no number
        assert code == 2 and "species" in err
        numbers = [line.rsplit(",", 1)[0] for line in (iris / "iris.csv").read_text().splitlines()]
        (iris / "numbers.csv").write_text("\n".join(numbers) + "\n")
        code, out, err = called("train", "numbers.csv", "--target", "0", *arguments)
        rmse = float(out.split("epoch   50")[1].split("test")[1].split()[0])
        assert rmse < 0.5  # in cm: the target's own spread is 0.83
        predicted = called("predict", "identity.npz", "numbers.csv")[1].splitlines()[1:]
        truth = np.array([float(line.split(",")[0]) for line in numbers[1:]])
        assert np.sqrt(np.mean((np.array(predicted, float) - truth) ** 2)) < 0.5
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("missing.csv", "--target", "species"), "missing.csv"),
        (("iris.csv", "--target", "colour"), "colour"),
        (("iris.csv", "--target", "species", "--epochs", "0"), "--epochs must be positive; got 0"),
        (("iris.csv", "--target", "species", "--learning-rate", "-1"), "--learning-rate must be positive; got -1.0"),
        (("iris.csv", "--target", "species", "--learning-rate", "nan"), "--learning-rate must be positive; got nan"),
        (("iris.csv", "--target", "species", "--batch-size", "0"), "--batch-size must be positive; got 0"),
        (
            ("iris.csv", "--target", "species", "--hidden", "4", "0"),
            "--hidden must give each layer at least 1 unit; got 4 0",
        ),
        (
            ("iris.csv", "--target", "species", "--test-fraction", "1"),
            "--test-fraction must lie between 0 and 1; got 1.0",
        ),
        (
            ("iris.csv", "--target", "species", "--seed", "-1"),
            "--seed must be a whole number from 0 to 4294967295; got -1",
        ),
        (("iris.csv", "--target", "species", "--save", "no/p.npz"), "the folder no is missing"),
        (("iris.csv", "--target", "species", "--save", "."), "is a folder"),
    ],
)
def test_train_refuses(refused, arguments, sentence):
    assert sentence in refused("train", *arguments)


def test_unknown_option_is_usage(iris):
    done = run("train", "iris.csv", "--target", "species", "--optimizer", "newton", folder=iris)
    assert done.returncode == 2 and "newton" in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_predict_refuses(iris, refused, called, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"not a checkpoint")
    assert "bad.npz" in refused("predict", tmp_path / "bad.npz", "iris.csv")
    checkpoint.save(tmp_path / "other.npz", (demo.Layer(np.ones((2, 1), np.float32), None),), {})
    assert "not saved by handprop train" in refused("predict", tmp_path / "other.npz", "iris.csv")
    assert called("train", "iris.csv", "--target", "species", "--epochs", "1", "--save", "one.npz")[0] == 0
    (iris / "few.csv").write_text("a,b\n1,2\n")
    assert "few.csv" in refused("predict", "one.npz", "few.csv")


def test_failed_training_leaves_files_alone(iris, called):
    (iris / "kept.npz").write_bytes(b"kept")
    arguments = ("--optimizer", "sgd", "--learning-rate", "1e38", "--save", "kept.npz", "--activation", "identity")
    code, _, err = called("train", "iris.csv", "--target", "species", *arguments)
    assert code == 1 and "training failed: non-finite" in err and "Traceback" not in err
    assert (iris / "kept.npz").read_bytes() == b"kept"


def test_wrong_gradient_is_exit_code_1(iris, monkeypatch, capsys):
    """--check sees a hand gradient that is wrong, and nothing is trained."""
    from handprop.cli import fit

    right = fit.handprop.mlp

    def wrong(*args, **kwargs):
        net = right(*args, **kwargs)

        def negated(params, x, y):
            value, grads = net.value_and_grad(params, x, y)
            return value, (grads[0]._replace(W=-grads[0].W), *grads[1:])

        return net._replace(value_and_grad=negated)

    monkeypatch.setattr(fit.handprop, "mlp", wrong)
    assert main.main(["train", str(iris / "iris.csv"), "--target", "species", "--check"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_missing_extra_is_one_sentence(tmp_path):
    (tmp_path / "tyro.py").write_text("raise ImportError\n")
    done = run("demo", folder=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2
    assert done.stderr.strip() == "handprop: the command needs rich and tyro: install handprop[cli]."
