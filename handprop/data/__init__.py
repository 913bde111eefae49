"""Data: real data sets, file readers, standardizing, splitting and one-hot encoding.

Shapes: N examples, I inputs, O outputs. Every fault in a file raises a ``DataError`` whose message is one sentence with
the file, the line or field, and what to do. The bundled sets need scikit-learn and CSV needs pandas:
``pip install 'handprop[data]'``.

>>> examples = xor()
>>> examples.x.shape, examples.y.ravel().tolist()
((4, 2), [0.0, 1.0, 1.0, 0.0])
"""

from handprop.data.csv import read_csv, read_features_csv, target_name
from handprop.data.datasets import breast_cancer, digits, iris, xor, xor_with_bias
from handprop.data.idx import read_idx
from handprop.data.npz import read_npz
from handprop.data.preprocess import Standardiser, one_hot, split, standardise, standardiser
from handprop.data.reading import DataError, Dataset

__all__ = [
    "DataError",
    "Dataset",
    "Standardiser",
    "breast_cancer",
    "digits",
    "iris",
    "one_hot",
    "read_csv",
    "read_features_csv",
    "read_idx",
    "read_npz",
    "split",
    "standardise",
    "standardiser",
    "target_name",
    "xor",
    "xor_with_bias",
]
