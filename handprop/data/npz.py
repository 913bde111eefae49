"""Read archives of arrays as NumPy writes them."""

import zipfile
import zlib
from typing import Any

import numpy as np

from handprop.data.reading import DataError, Dataset, Path, classes_of, listed, open_file

__all__ = ["read_npz"]


def _member(path: Path, archive: Any, name: str) -> np.ndarray:
    if name not in archive.files:
        raise DataError(f"{path} has no array {name!r}; choose one of its arrays: {listed(archive.files)}.")
    try:
        array = archive[name]
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} array {name!r} holds Python objects; save numbers, as pickles are never read."
            ) from error
        raise DataError(f"{path} array {name!r} is damaged; save the file again.") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} member {name!r} is not an array; save it with numpy.savez.")
    return array


def _finite(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Return the numbers as float64, or raise an error if one is not finite."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} array {name!r} has dtype {array.dtype}; save it as float or integer numbers.")
    array = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise DataError(
            f"{path} array {name!r} is {array[tuple(bad[0])]} at {bad[0].tolist()}; make every value finite."
        )
    return array


def read_npz(path: Path, x: str = "x", y: str = "y") -> Dataset:
    """Read an archive of ``numpy.savez`` with examples ``x`` (N, I) and targets ``y``, without unpickling.

    Integers, booleans or strings (N,) are class labels, numbered in sorted order. Floats (N,) and any numbers
    (N, O) are float64 targets. Raises DataError.
    """
    with open_file(path) as file:
        try:
            zipped = zipfile.is_zipfile(file)
            file.seek(0)  # is_zipfile leaves it near the end
            archive = np.load(file, allow_pickle=False) if zipped else None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is a damaged NPZ archive; save it again.") from error
        if archive is None:
            raise DataError(f"{path} is not an NPZ archive, or is truncated; save it with numpy.savez.")
        examples, targets = _member(path, archive, x), _member(path, archive, y)
    if examples.ndim != 2 or 0 in examples.shape:
        raise DataError(f"{path} array {x!r} has shape {examples.shape}; reshape it to (N, I), both at least 1.")
    if targets.ndim not in (1, 2) or targets.shape[-1] == 0:
        raise DataError(f"{path} array {y!r} has shape {targets.shape}; reshape it to (N,) or (N, O).")
    if len(examples) != len(targets):
        raise DataError(
            f"{path} array {x!r} has {len(examples)} rows, but {y!r} has {len(targets)}; give each example a target."
        )
    names = tuple(f"{x}{i}" for i in range(examples.shape[1]))
    examples = _finite(path, x, examples)
    if targets.ndim == 1 and targets.dtype.kind in "biuU":
        labels, classes = classes_of(targets, f"{path} array {y!r}")
        return Dataset(examples, labels, names, classes)
    targets = _finite(path, y, targets)
    return Dataset(examples, targets.reshape(len(targets), -1), names, ())
