"""Pictures of training, drawn with matplotlib's object interface: no global state, no window."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from handprop._files import write_atomic

__all__ = ["accuracy_curve", "error_against_weight", "error_curve", "figure", "misread_digits", "save"]

BLUE, ORANGE, GREY = "#1f5fa8", "#d9601a", "#8a8a8a"


def figure(width: float = 6.4, height: float = 4.0) -> Any:
    """Return an empty figure that is not registered with pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("Pictures need matplotlib: install handprop[plots].") from None
    return Figure(figsize=(width, height), layout="constrained")


def save(drawing: Any, path: str | Path) -> None:
    """Write the figure atomically, in the format that the path's suffix names, or else as PNG."""
    content = io.BytesIO()
    drawing.savefig(content, dpi=120, format=Path(path).suffix.lstrip(".") or "png")
    write_atomic(path, content.getvalue())


def _axes(drawing: Any, title: str, x: str, y: str) -> Any:
    axes = drawing.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def error_curve(steps: Any, errors: Any, title: str = "Error over iterations", x: str = "iteration") -> Any:
    """Plot error against step, both on logarithmic axes. Step 0 is drawn at 1."""
    drawing = figure()
    axes = _axes(drawing, title, x, "error E")
    axes.loglog(np.maximum(np.asarray(steps), 1), np.asarray(errors), color=BLUE)
    axes.grid(True, which="major", alpha=0.25)
    return drawing


def error_against_weight(weights: Any, errors: Any, descent: Any, descent_errors: Any, name: str) -> Any:
    """Plot the curve E(w) with all other weights fixed, and the steps of gradient descent on it."""
    drawing = figure()
    axes = _axes(drawing, f"Error against the one weight {name}: descent on the curve", f"weight {name}", "error E")
    axes.plot(weights, errors, color=BLUE, label="E(w), all other weights held")
    axes.plot(descent, descent_errors, "o-", color=ORANGE, markersize=4.5, linewidth=0.9, label="steps of descent")
    axes.annotate("start", (descent[0], descent_errors[0]), xytext=(8, 4), textcoords="offset points", color=ORANGE)
    axes.legend(frameon=False)
    return drawing


def accuracy_curve(epochs: Any, train: Any, test: Any, what: str = "accuracy") -> Any:
    """Plot the training and test metric per epoch."""
    drawing = figure()
    axes = _axes(drawing, f"Learned {what}", "epoch", what)
    axes.plot(epochs, train, color=GREY, label="training examples")
    axes.plot(epochs, test, color=BLUE, label="test examples")
    if what == "accuracy":
        axes.set_ylim(min(0.9, float(np.min(test)), float(np.min(train))) - 0.01, 1.005)
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False)
    return drawing


def misread_digits(images: Any, read: Any, labels: Any, most: int = 8) -> Any:
    """Show the first few misread 8x8 images, with their labels and predictions."""
    drawing = figure(6.4, 2.1)
    count = min(most, len(images))
    drawing.suptitle(
        f"{count} of {len(images)} misread test digits" if count else "No test digit was misread", fontsize=11
    )
    for i in range(count):
        axes = drawing.add_subplot(1, max(count, 4), i + 1)
        axes.imshow(np.asarray(images[i]).reshape(8, 8), cmap="gray_r", interpolation="nearest")
        axes.set_title(f"{labels[i]} read\nas {read[i]}", fontsize=9)
        axes.set_axis_off()
    return drawing
