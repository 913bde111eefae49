"""The work of ``handprop train`` and ``handprop predict``: a network on the standardized columns of a table."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import handprop
from handprop import data
from handprop.data import Dataset, Standardiser
from handprop.nn.mlp import MLP
from handprop.training import checkpoint

__all__ = [
    "OPTIMIZERS",
    "Epoch",
    "Fit",
    "OptionError",
    "Options",
    "check_first_batch",
    "fit",
    "keep",
    "predict",
]

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamw": optax.adamw,
}
LOSSES = {
    "softmax": "softmax_cross_entropy",
    "sigmoid": "binary_cross_entropy",
    "identity": "half_squared_error",
}
FORMAT = "handprop fit 1"


class OptionError(ValueError):
    """An invalid option; the message is one sentence."""


class Options(NamedTuple):
    """How to train. The output decides the loss: softmax and sigmoid classify, and identity is for regression."""

    target: str
    hidden: tuple[int, ...] = (32,)
    activation: str = "sigmoid"
    output: str = "softmax"
    optimizer: str = "adam"
    learning_rate: float = 0.01
    epochs: int = 50
    batch_size: int = 32
    test_fraction: float = 0.2
    seed: int = 0

    @property
    def regression(self) -> bool:
        return self.output == "identity"


class Epoch(NamedTuple):
    """One line of progress: accuracies for classification, root mean squared errors in the target's unit otherwise."""

    epoch: int
    loss: float
    train: float
    test: float


class Problem(NamedTuple):
    """A table prepared for training: the network, both parts of the data, and the standardisers to apply."""

    net: MLP
    config: dict[str, Any]
    target: str
    train: Dataset
    test: Dataset
    inputs: Standardiser
    outputs: Standardiser | None


class Fit(NamedTuple):
    problem: Problem
    result: handprop.TrainResult
    epochs: list[Epoch]


def check(options: Options) -> None:
    """Raise OptionError if an option is invalid."""
    positive = ("learning_rate", "epochs", "batch_size")
    for name in positive:
        value = getattr(options, name)
        if not (value > 0 and math.isfinite(value)):
            raise OptionError(f"--{name.replace('_', '-')} must be positive; got {value}.")
    if any(units < 1 for units in options.hidden):
        raise OptionError(f"--hidden must give each layer at least 1 unit; got {' '.join(map(str, options.hidden))}.")
    if not 0 < options.test_fraction < 1:
        raise OptionError(f"--test-fraction must lie between 0 and 1; got {options.test_fraction}.")
    if not 0 <= options.seed < 2**32:
        raise OptionError(f"--seed must be a whole number from 0 to 4294967295; got {options.seed}.")


def prepare(path: Path, options: Options) -> Problem:
    """Read the table, split it by the seed, and standardize it by the training part.

    Raises OptionError and DataError.
    """
    check(options)
    target = data.target_name(path, options.target)
    table = data.read_csv(path, target, "regression" if options.regression else "classification")
    try:
        train, test = data.split(jax.random.key(options.seed), table, options.test_fraction)
    except ValueError as error:
        raise OptionError(f"{path} cannot be split by --test-fraction: {error}") from None
    inputs = data.standardiser(train.x)
    outputs = data.standardiser(train.y) if options.regression else None
    config = {
        "sizes": [train.x.shape[1], *options.hidden, len(table.class_names) or 1],
        "hidden": options.activation,
        "output": options.output,
        "loss": LOSSES[options.output],
    }
    return Problem(handprop.mlp(**config), config, target, train, test, inputs, outputs)


def _arrays(problem: Problem, part: Dataset) -> tuple[jax.Array, jax.Array]:
    """Return standardized x, and y as the loss needs it: labels, one-hot rows, or standardized targets."""
    x = jnp.asarray(data.standardise(problem.inputs, part.x), jnp.float32)
    if problem.outputs is not None:
        return x, jnp.asarray(data.standardise(problem.outputs, part.y), jnp.float32)
    if problem.config["output"] == "sigmoid":
        return x, jnp.asarray(data.one_hot(part.y, problem.config["sizes"][-1]), jnp.float32)
    return x, jnp.asarray(part.y, jnp.int32)


def _metric(problem: Problem, output: np.ndarray, part: Dataset) -> float:
    if problem.outputs is not None:
        predicted = output * problem.outputs.scale + problem.outputs.mean
        return float(np.sqrt(np.mean((predicted - part.y) ** 2)))
    return float(np.mean(output.argmax(1) == part.y))


def check_first_batch(path: Path, options: Options) -> handprop.Report:
    """Verify the hand-written gradient against jax.grad on the first batch, before any step."""
    problem = prepare(path, options)
    x, y = _arrays(problem, problem.train)
    params = problem.net.init(jax.random.key(options.seed))
    rows = slice(options.batch_size)
    return handprop.verify_gradient(problem.net.value_and_grad, problem.net.loss, params, x[rows], y[rows])


def fit(path: Path, options: Options, on_epoch: Callable[[Epoch], Any] | None = None) -> Fit:
    """Train, and call ``on_epoch`` after each epoch. Raises OptionError and DataError."""
    problem = prepare(path, options)
    x, y = _arrays(problem, problem.train)
    test_x, _ = _arrays(problem, problem.test)
    apply = jax.jit(problem.net.apply)
    per_epoch = -(-len(x) // min(options.batch_size, len(x)))
    epochs: list[Epoch] = []

    def after_epoch(progress: handprop.Progress) -> None:
        outputs = (np.asarray(apply(progress.params, a)) for a in (x, test_x))
        parts = (problem.train, problem.test)
        metrics = [_metric(problem, *pair) for pair in zip(outputs, parts, strict=True)]
        epochs.append(Epoch(len(epochs) + 1, float(progress.value), *metrics))
        if on_epoch:
            on_epoch(epochs[-1])

    result = handprop.train(
        problem.net.value_and_grad, problem.net.init(jax.random.key(options.seed)), (x, y),
        optimizer=OPTIMIZERS[options.optimizer](options.learning_rate), steps=options.epochs * per_epoch,
        batch_size=options.batch_size, key=jax.random.key(options.seed), record_every=per_epoch, callback=after_epoch,
    )  # fmt: skip
    return Fit(problem, result, epochs)


def keep(path: Path, fitted: Fit) -> None:
    """Save the parameters with everything that ``predict`` needs. Raises CheckpointError."""
    problem = fitted.problem
    meta = {
        "format": FORMAT,
        "config": problem.config,
        "target": problem.target,
        "feature_names": list(problem.train.feature_names),
        "class_names": list(problem.train.class_names),
        "inputs": [part.tolist() for part in problem.inputs],
        "outputs": [part.tolist() for part in problem.outputs] if problem.outputs is not None else None,
    }
    checkpoint.save(path, fitted.result.params, meta)


def predict(params_path: Path, csv_path: Path) -> tuple[list[str], list[list[str]]]:
    """Return a header and rows: the predicted class with its output, or the predicted number.

    Columns are looked up by name. The target's column may be present and is ignored.
    Raises CheckpointError and DataError.
    """
    params, meta = checkpoint.load(params_path)
    if meta.get("format") != FORMAT:
        raise checkpoint.CheckpointError(f"{params_path} was not saved by handprop train; give a file that was.")
    try:
        net = handprop.mlp(**meta["config"])
        inputs = Standardiser(*(np.array(part, np.float64) for part in meta["inputs"]))
        names, classes, outputs = meta["feature_names"], meta["class_names"], meta["outputs"]
        x = data.read_features_csv(csv_path, names, ignore=(meta["target"],))
        output = np.asarray(net.apply(params, jnp.asarray(data.standardise(inputs, x), jnp.float32)))
    except data.DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{params_path} is inconsistent ({error}); save it again.") from None
    if outputs is not None:
        mean, scale = (np.array(part, np.float64) for part in outputs)
        return ["prediction"], [[repr(float(v))] for v in (output * scale + mean)[:, 0]]
    best = output.argmax(1)
    return ["prediction", "output"], [[classes[k], f"{row[k]:.6f}"] for k, row in zip(best, output, strict=True)]
