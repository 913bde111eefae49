"""Data sets that are bundled with scikit-learn, and two tiny ones."""

import numpy as np

from handprop.data.reading import Dataset, extra

__all__ = ["breast_cancer", "digits", "iris", "xor", "xor_with_bias"]


def _bundled(loader: str, scale: float = 1.0) -> Dataset:
    bunch = getattr(extra("sklearn.datasets"), loader)()
    x = np.asarray(bunch.data, np.float64) / scale
    features, classes = (tuple(map(str, names)) for names in (bunch.feature_names, bunch.target_names))
    return Dataset(x, np.asarray(bunch.target, np.int32), features, classes)


def digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels in [0, 1], 10 classes (UCI, bundled with scikit-learn)."""
    return _bundled("load_digits", scale=16.0)


def breast_cancer() -> Dataset:
    """569 tumors, 30 measurements each, malignant (0) or benign (1) (UCI Wisconsin, bundled with scikit-learn)."""
    return _bundled("load_breast_cancer")


def iris() -> Dataset:
    """150 irises, 4 measurements each in cm, 3 species (Fisher 1936, bundled with scikit-learn)."""
    return _bundled("load_iris")


def xor() -> Dataset:
    """The four examples of exclusive or: x (4, 2), y (4, 1)."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
    return Dataset(x, np.array([[0], [1], [1], [0]], np.float64), ("a", "b"), ())


def xor_with_bias() -> Dataset:
    """The classic 3-4-1 network's examples: exclusive or, with a third input that is always 1."""
    plain = xor()
    return Dataset(np.hstack([plain.x, np.ones((4, 1))]), plain.y, ("a", "b", "one"), ())
