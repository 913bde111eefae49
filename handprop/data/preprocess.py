"""Standardizing, splitting and one-hot encoding."""

from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.data.reading import Dataset

__all__ = ["Standardiser", "one_hot", "split", "standardise", "standardiser"]


class Standardiser(NamedTuple):
    """``x' = (x - mean) / scale``, column by column; both are float64 (I,)."""

    mean: np.ndarray
    scale: np.ndarray


def _examples(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}; give examples as (N, I).")
    return x


def standardiser(x: Any) -> Standardiser:
    """Return mean and (population) standard deviation of each column of ``x`` (N, I); a constant column has scale 1.

    >>> standardiser([[1.0, 7.0], [3.0, 7.0]])
    Standardiser(mean=array([2., 7.]), scale=array([1., 1.]))
    """
    x = _examples(x)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x of shape {x.shape} must hold at least one example and only finite numbers.")
    # Powers of two scale each column to at most 1. That is exact, and squares neither overflow nor underflow.
    _, exponent = np.frexp(np.abs(x).max(axis=0))
    small = np.ldexp(x, -exponent)
    constant = (x == x[0]).all(axis=0)
    mean = np.where(constant, x[0], np.ldexp(small.mean(axis=0), exponent))
    scale = np.where(constant, 1.0, np.ldexp(small.std(axis=0), exponent))
    return Standardiser(mean, scale)


def standardise(s: Standardiser, x: Any) -> np.ndarray:
    """Return ``(x - mean) / scale`` as float64 (N, I)."""
    x = _examples(x)
    if x.shape[1] != len(s.mean):
        raise ValueError(f"x has shape {x.shape}, but the standardiser was made for (N, {len(s.mean)}).")
    return (x - s.mean) / s.scale


def _test_counts(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many examples of each class to test on: its share of ``fraction``.

    Only the total is rounded (largest remainders), and at least one example of each class is left to train on.
    """
    share = counts * fraction
    take = np.floor(share).astype(int)
    missing = round(float(share.sum())) - int(take.sum())
    take[np.argsort(take - share, kind="stable")[:missing]] += 1
    return np.minimum(take, counts - 1)


def split(key: jax.Array, dataset: Dataset, test_fraction: float = 0.2) -> tuple[Dataset, Dataset]:
    """Split into training and test sets drawn by ``key``, each in the order of ``dataset``.

    Every class keeps its share. The same key gives the same split. Raises ValueError if the test set would be empty.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie between 0 and 1.")
    n = len(dataset.x)
    classes = dataset.y if dataset.y.ndim == 1 else np.zeros(n, np.int32)
    order = np.asarray(jax.random.permutation(key, n))
    labels, counts = np.unique(classes, return_counts=True)
    test = np.zeros(n, bool)
    for label, count in zip(labels, _test_counts(counts, test_fraction), strict=True):
        test[order[classes[order] == label][:count]] = True
    if not test.any():  # the training set is never empty: each class keeps an example to train on
        raise ValueError(f"test_fraction={test_fraction} of {n} examples leaves no test example; raise it.")
    train, held = (dataset._replace(x=dataset.x[rows], y=dataset.y[rows]) for rows in (~test, test))
    return train, held


def one_hot(labels: Any, classes: int) -> np.ndarray:
    """Return rows of the identity (N, classes) float64, one per label.

    >>> one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels have shape {labels.shape} and dtype {labels.dtype}; give integers (N,).")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; give labels from 0 to {classes - 1}.")
    return np.eye(classes)[labels]
