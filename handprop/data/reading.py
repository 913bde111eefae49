"""What all readers share: the data set they return, the error they raise, and helpers."""

import importlib
import os
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

__all__ = ["DataError", "Dataset", "Path", "as_number", "classes_of", "extra", "listed", "open_file"]

Path: TypeAlias = str | os.PathLike[str]


class DataError(ValueError):
    """A file cannot be used. The message is one sentence with the file, the line or field, and what to do."""


class Dataset(NamedTuple):
    """Examples ``x`` (N, I) float64 and targets ``y``: int32 labels (N,), or float64 (N, O).

    Label k is the class ``class_names[k]``; ``class_names`` is empty if ``y`` holds numbers.
    """

    x: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


def extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"{module.partition('.')[0]} is not installed; run `pip install 'handprop[data]'`.") from error


def open_file(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; give the path of a file.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error


def listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def as_number(text: str) -> float | None:
    """Return the number in a cell, or None. It accepts only what pandas does, so not ``1_000``."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def classes_of(labels: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as int32 positions (N,) in the sorted class names, and these names.

    Numbers sort as numbers, and ``1`` is the same class as ``1.0``.
    """
    found, inverse = np.unique(labels.astype(str), return_inverse=True)
    numeric = all(as_number(name) is not None for name in found)
    value: Callable[[str], Any] = (lambda name: Decimal(name.strip())) if numeric else str
    first = {value(name): name for name in reversed(found.tolist())}
    if len(first) < 2:
        only = found[0]
        raise DataError(f"{where} holds one class only ({only}); give examples of at least two classes.")
    order = sorted(first)
    position = {v: k for k, v in enumerate(order)}
    codes = np.array([position[value(name)] for name in found.tolist()], np.int32)
    return codes[inverse.ravel()], tuple(first[v] for v in order)
