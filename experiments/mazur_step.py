"""Are the numbers of the most-read worked example of one backpropagation step right?

Matt Mazur, A Step by Step Backpropagation Example (2015): 2-2-2 sigmoid units, one example, learning rate 0.5, fixed
biases.

Answer: the error before the step and all eight new weights are right to every printed digit. The printed error after
the step, 0.291027924, is not the error of the printed weights, which is 0.291027774. It results if the hidden layer's
deltas are computed from the output weights that were just updated, instead of the old ones as in backpropagation.
The verifier refutes a gradient with this slip and names the line.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _command import picture_folder

import handprop
from handprop import Layer
from handprop.cli import plots

RATE = 0.5
X, Y = [[0.05, 0.10]], [[0.01, 0.99]]
# In the article, rows are units. Here, columns are: W[i, j] leads from input i to unit j.
W1, B1 = [[0.15, 0.25], [0.20, 0.30]], 0.35
W2, B2 = [[0.40, 0.50], [0.45, 0.55]], 0.60
PUBLISHED_W1 = [[0.149780716, 0.24975114], [0.19956143, 0.29950229]]
PUBLISHED_W2 = [[0.35891648, 0.511301270], [0.408666186, 0.561370121]]
PUBLISHED_ERROR_BEFORE, PUBLISHED_ERROR_AFTER = 0.298371109, 0.291027924


class Step(NamedTuple):
    """One step in float64: weights (2, 2), errors, and the error after a step with the slip."""

    error_before: float
    W1: np.ndarray
    W2: np.ndarray
    error_after: float
    slipped_error_after: float


def measure() -> Step:
    """Take a step by backpropagation, and one with the hidden deltas computed from updated weights."""
    with jax.enable_x64(True):
        net = handprop.mlp((2, 2, 2), reduction="sum")
        x, y = jnp.array(X), jnp.array(Y)
        params = (Layer(jnp.array(W1), jnp.full(2, B1)), Layer(jnp.array(W2), jnp.full(2, B2)))
        trace = net.backprop(params, x, y)
        first, last = (Layer(p.W - RATE * g.W, p.b) for p, g in zip(params, trace.grads, strict=True))
        a1 = trace.activations[1]
        slipped_delta = (trace.deltas[1] @ last.W.T) * (a1 * (1 - a1))
        slipped = Layer(params[0].W - RATE * x.T @ slipped_delta, params[0].b)
        after, slipped_after = (float(net.loss((layer, last), x, y)) for layer in (first, slipped))
        return Step(float(trace.value), np.asarray(first.W), np.asarray(last.W), after, slipped_after)


def loss(w1: jax.Array, w2: jax.Array) -> jax.Array:
    a1 = jax.nn.sigmoid(jnp.array(X) @ w1 + B1)
    return 0.5 * jnp.sum((jax.nn.sigmoid(a1 @ w2 + B2) - jnp.array(Y)) ** 2)


def slipped_gradient(w1: jax.Array, w2: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradient of :func:`loss` with the slip: ``w2`` is updated before the hidden deltas are computed from it."""
    x, y = jnp.array(X), jnp.array(Y)
    a1 = jax.nn.sigmoid(x @ w1 + B1)
    a2 = jax.nn.sigmoid(a1 @ w2 + B2)
    d2 = (a2 - y) * a2 * (1 - a2)
    dw2 = a1.T @ d2
    w2 = w2 - RATE * dw2
    d1 = (d2 @ w2.T) * a1 * (1 - a1)
    dw1 = x.T @ d1
    return dw1, dw2


def verdict() -> handprop.Report:
    """Verify the gradient with the slip."""
    with jax.enable_x64(True):
        return handprop.verify_gradient(slipped_gradient, loss, jnp.array(W1), jnp.array(W2), argnums=(0, 1))


def _draw(step: Step, path: Path) -> None:
    drawing = plots.figure(6.4, 2.4)
    axes = drawing.subplots()
    bars = {
        "printed": PUBLISHED_ERROR_AFTER,
        "hidden deltas from\nupdated weights": step.slipped_error_after,
        "backpropagation": step.error_after,
    }
    base = 0.2910277
    axes.barh(list(bars), [v - base for v in bars.values()], color=[plots.GREY, plots.ORANGE, plots.BLUE])
    for i, v in enumerate(bars.values()):
        axes.text(v - base, i, f" {v:.9f}", va="center", fontsize=9)
    axes.set_xlim(0, 3.2e-7)
    axes.set_title("Error after one step of the published example", fontsize=11)
    axes.set_xlabel(f"error − {base}")
    axes.spines[["top", "right"]].set_visible(False)
    plots.save(drawing, path)


def main() -> int:
    out = picture_folder(__doc__)
    step = measure()
    print(f"{'':<40} {'computed':>12} {'printed':>12}")
    print(f"{'error before':<40} {step.error_before:>12.9f} {PUBLISHED_ERROR_BEFORE:>12.9f}")
    for name, ours, published in (("W1", step.W1, PUBLISHED_W1), ("W2", step.W2, PUBLISHED_W2)):
        for (i, j), value in np.ndenumerate(ours):
            what = f"{name} after: input {i + 1} to unit {j + 1}"
            print(f"{what:<40} {value:>12.9f} {published[i][j]:>12.9f}")
    print(f"{'error after':<40} {step.error_after:>12.9f} {PUBLISHED_ERROR_AFTER:>12.9f}")
    print(f"{'error after, hidden deltas from new W2':<40} {step.slipped_error_after:>12.9f}")
    print(f"\n{verdict()}")
    _draw(step, out / "mazur_step.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
