"""The parts of ``handprop demo``: published digits, equal bits, and training on real data. Functions return values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import handprop
from handprop import data
from handprop.cli import plots
from handprop.nn.mlp import MLP, Layer, OutputName

__all__ = [
    "PUBLISHED",
    "Classic",
    "Digits",
    "classic_network",
    "classic_parameters",
    "draw",
    "learn_digits",
    "run_classic",
    "verify",
]

Params = Any

PUBLISHED = {
    0: 0.496410031903,
    10_000: 0.00858452565325,
    20_000: 0.00578945986251,
    30_000: 0.00462917677677,
    40_000: 0.00395876528027,
    50_000: 0.00351012256786,
}
"""Mean absolute error before each iteration, as printed in iamtrask, A Neural Network in 11 lines of Python (2015)."""

ACCURACY = 0.97


class Classic(NamedTuple):
    """The classic run: the mean absolute error at the published iterations, and the recorded errors."""

    errors: dict[int, float]
    history: handprop.History

    @property
    def ok(self) -> bool:
        """Whether every published figure is reproduced to 12 decimals."""
        return all(abs(self.errors[step] - published) < 1e-12 for step, published in PUBLISHED.items())


class Digits(NamedTuple):
    """A run on digits: accuracies per epoch, and the test examples with their labels and predictions (``read``)."""

    train_accuracy: list[float]
    test_accuracy: list[float]
    images: np.ndarray
    labels: np.ndarray
    read: np.ndarray

    @property
    def ok(self) -> bool:
        return self.test_accuracy[-1] >= ACCURACY


def classic_network() -> MLP:
    """Return the network 3-4-1: sigmoid units, no biases, E = 1/2 sum (y - a)^2 over four examples."""
    return handprop.mlp((3, 4, 1), bias=False, reduction="sum", init="uniform")


def classic_parameters() -> tuple[Layer, ...]:
    """Return the published initial weights, ``2 random - 1`` from NumPy's legacy generator with seed 1.

    They are float64, so call this with x64 enabled.
    """
    generator = np.random.RandomState(1)
    draws = [2 * generator.random_sample(shape) - 1 for shape in ((3, 4), (4, 1))]
    return tuple(Layer(jnp.asarray(W), None) for W in draws)


def run_classic(steps: int = 60_000, every: int = 10) -> Classic:
    """Run ``steps`` full-batch iterations at learning rate 1 in float64."""
    with jax.enable_x64(True):
        examples, net, params = data.xor_with_bias(), classic_network(), classic_parameters()
        x, y = jnp.asarray(examples.x), jnp.asarray(examples.y)
        error = jax.jit(lambda params: jnp.abs(net.apply(params, x) - y).mean())
        errors = {0: float(error(params))}
        opt_state, history = None, []
        for start in range(0, steps, 10_000):
            result = handprop.train(
                net.value_and_grad, params, (x, y), optimizer=_sgd, steps=min(10_000, steps - start),
                opt_state=opt_state, start_step=start, record_every=every,
            )  # fmt: skip
            params, opt_state = result.params, result.opt_state
            errors[result.step] = float(error(params))
            history.append(result.history)
    return Classic(errors, handprop.History(*(np.concatenate(part) for part in zip(*history, strict=True))))


_sgd = optax.sgd(1.0)  # a single object, so that all parts of the run share one compiled loop


def verify() -> dict[str, handprop.Report]:
    """Verify the hand-written gradient of the classic network in float64 and of the digits networks in float32."""
    with jax.enable_x64(True):
        examples, net = data.xor_with_bias(), classic_network()
        x, y = jnp.asarray(examples.x), jnp.asarray(examples.y)
        classic = handprop.verify_gradient(net.value_and_grad, net.loss, classic_parameters(), x, y)
    digits = data.digits()
    x, labels = jnp.asarray(digits.x, jnp.float32), jnp.asarray(digits.y, jnp.int32)
    sigmoid, softmax = (_digits_network(output) for output in ("sigmoid", "softmax"))
    params = sigmoid.init(jax.random.key(0))
    targets = jnp.asarray(data.one_hot(digits.y, 10), jnp.float32)
    return {
        "classic 3-4-1, 4 examples, half squared error": classic,
        "digits 64-64-10, 1,797 images, half squared error": handprop.verify_gradient(
            sigmoid.value_and_grad, sigmoid.loss, params, x, targets
        ),
        "digits 64-64-10, 1,797 images, softmax cross-entropy (fused a - y)": handprop.verify_gradient(
            softmax.value_and_grad, softmax.loss, params, x, labels
        ),
    }


def _digits_network(output: OutputName) -> MLP:
    loss = "softmax_cross_entropy" if output == "softmax" else "half_squared_error"
    return handprop.mlp((64, 64, 10), output=output, loss=loss)


def learn_digits(seed: int = 0, epochs: int = 60, on_epoch: Callable[[int, float], Any] | None = None) -> Digits:
    """Train on minibatches of 80 % of the 1,797 real images and test on the other 20 %.

    ``on_epoch(epoch, test_accuracy)`` is called after each epoch.
    """
    train, test = data.split(jax.random.key(seed), data.digits(), 0.2)
    net = _digits_network("softmax")
    x, labels = jnp.asarray(train.x, jnp.float32), jnp.asarray(train.y, jnp.int32)
    test_x = jnp.asarray(test.x, jnp.float32)
    read = jax.jit(lambda params, x: net.apply(params, x).argmax(1))
    batch_size = 32
    per_epoch = -(-len(train.y) // batch_size)
    curve: list[tuple[float, float]] = []

    def after_epoch(progress: handprop.Progress) -> None:
        pairs = ((x, train.y), (test_x, test.y))
        train_accuracy, test_accuracy = (float(np.mean(np.asarray(read(progress.params, a)) == b)) for a, b in pairs)
        curve.append((train_accuracy, test_accuracy))
        if on_epoch:
            on_epoch(len(curve), test_accuracy)

    result = handprop.train(
        net.value_and_grad, net.init(jax.random.key(seed)), (x, labels), optimizer=optax.adam(5e-3),
        steps=epochs * per_epoch, batch_size=batch_size, key=jax.random.key(seed), record_every=per_epoch,
        callback=after_epoch,
    )  # fmt: skip
    train_accuracy, test_accuracy = (list(part) for part in zip(*curve, strict=True))
    return Digits(train_accuracy, test_accuracy, test.x, test.y, np.asarray(read(result.params, test_x)))


def _descent_on_one_weight() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return E as a function of ``W_2[2]`` of the classic network, and descent on that weight alone.

    All other weights are fixed.
    """
    with jax.enable_x64(True):
        examples, net, (first, last) = data.xor_with_bias(), classic_network(), classic_parameters()
        x, y = jnp.asarray(examples.x), jnp.asarray(examples.y)

        @jax.jit
        def at(w: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, grads = net.value_and_grad((first, Layer(last.W.at[2, 0].set(w), None)), x, y)
            return value, grads[1].W[2, 0]

        w, steps = jnp.asarray(-6.0), []
        for _ in range(14):
            value, slope = at(w)
            steps.append((float(w), float(value)))
            w = w - 15.0 * slope
        grid = np.linspace(-7.0, 6.0, 300)
        curve = np.array([float(at(jnp.asarray(v))[0]) for v in grid])
    descent, errors = np.array(steps).T
    return grid, curve, descent, errors


def draw(folder: Path, classic: Classic, digits: Digits) -> list[Path]:
    """Draw the four pictures and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = np.flatnonzero(digits.read != digits.labels)
    epochs = range(1, len(digits.test_accuracy) + 1)
    pictures = {
        "error.png": plots.error_curve(*classic.history, "Classic 3-4-1 network: error over iterations"),
        "error_against_weight.png": plots.error_against_weight(*_descent_on_one_weight(), "W2[2]"),
        "digits_accuracy.png": plots.accuracy_curve(epochs, digits.train_accuracy, digits.test_accuracy),
        "misread_digits.png": plots.misread_digits(digits.images[wrong], digits.read[wrong], digits.labels[wrong]),
    }
    for name, picture in pictures.items():
        plots.save(picture, folder / name)
    return [folder / name for name in pictures]
