"""What goes in: real data sets, files, standardising, splitting, one-hot.

Shapes: N patterns, I inputs, O outputs. Every fault of a file is a ``DataError`` of one sentence that names
the file, the line or field, and what to do. The bundled sets need scikit-learn and CSV needs pandas:
``pip install 'handprop[data]'``.

>>> patterns = xor()
>>> patterns.x.shape, patterns.y.ravel().tolist()
((4, 2), [0.0, 1.0, 1.0, 0.0])
"""

import csv
import gzip
import importlib
import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import IO, Any, Literal, NamedTuple

import jax
import numpy as np

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
    "seed_patterns",
    "split",
    "standardise",
    "standardiser",
    "target_name",
    "xor",
]

Path = str | os.PathLike[str]
Stream = IO[bytes] | gzip.GzipFile


class DataError(ValueError):
    """A file that cannot be used: one sentence with the file, the line or field, and what to do."""


class Dataset(NamedTuple):
    """Patterns ``x`` (N, I) float64 and targets ``y``: int32 labels (N,), or float64 (N, O).

    Label k is the class ``class_names[k]``; ``class_names`` is empty where ``y`` holds numbers.
    """

    x: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


# Bundled data


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"{module.partition('.')[0]} is not installed; run `pip install 'handprop[data]'`.") from error


def _bundled(loader: str, scale: float = 1.0) -> Dataset:
    bunch = getattr(_extra("sklearn.datasets"), loader)()
    x = np.asarray(bunch.data, np.float64) / scale
    features, classes = (tuple(map(str, names)) for names in (bunch.feature_names, bunch.target_names))
    return Dataset(x, np.asarray(bunch.target, np.int32), features, classes)


def digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels in [0, 1], 10 classes (UCI, bundled with scikit-learn)."""
    return _bundled("load_digits", scale=16.0)


def breast_cancer() -> Dataset:
    """569 tumours, 30 measurements each, malignant (0) or benign (1) (UCI Wisconsin, with scikit-learn)."""
    return _bundled("load_breast_cancer")


def iris() -> Dataset:
    """150 irises, 4 measurements each in cm, 3 species (Fisher 1936, bundled with scikit-learn)."""
    return _bundled("load_iris")


def xor() -> Dataset:
    """The four patterns of exclusive or: x (4, 2), y (4, 1)."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
    return Dataset(x, np.array([[0], [1], [1], [0]], np.float64), ("a", "b"), ())


def seed_patterns() -> Dataset:
    """The classic 3-4-1 network's patterns: exclusive or, with a third input that is always 1."""
    plain = xor()
    return Dataset(np.hstack([plain.x, np.ones((4, 1))]), plain.y, ("a", "b", "one"), ())


# What every reader shares


def _open(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; give the path of a file.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _number(text: str) -> float | None:
    """The number a cell holds, or None; what pandas takes for one, no more (so no ``1_000``)."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _cell_fault(text: str) -> str | None:
    """What keeps a cell from being a finite number."""
    if not text.strip():
        return "is empty"
    shown, number = repr(text if len(text) <= 40 else text[:37] + "..."), _number(text)
    if number is None:
        return f"holds {shown}, which is not a number"
    return None if math.isfinite(number) else f"holds {shown}, which is not finite"


def _classes(labels: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int32 positions (N,) in the sorted class names; numbers sort as numbers, ``1`` is ``1.0``."""
    found, inverse = np.unique(labels.astype(str), return_inverse=True)
    numeric = all(_number(name) is not None for name in found)
    value: Callable[[str], Any] = (lambda name: Decimal(name.strip())) if numeric else str
    first = {value(name): name for name in reversed(found.tolist())}
    if len(first) < 2:
        only = found[0]
        raise DataError(f"{where} holds one class only ({only}); give patterns of at least two classes.")
    order = sorted(first)
    position = {v: k for k, v in enumerate(order)}
    codes = np.array([position[value(name)] for name in found.tolist()], np.int32)
    return codes[inverse.ravel()], tuple(first[v] for v in order)


# CSV


class _Table(NamedTuple):
    """A CSV file whose rows all have the header's width; ``lines[n]`` is where row n starts."""

    path: Path
    text: str
    header: list[str]
    lines: list[int]


def _csv_text(path: Path) -> str:
    with _open(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len((raw[: error.start] + b".").splitlines())
        raise DataError(f"{path} line {line} is not UTF-8 text; save the file as UTF-8.") from error
    if "\0" in text:
        line = len((raw[: raw.index(0)] + b".").splitlines())
        raise DataError(f"{path} line {line} holds a NUL byte; save the file as plain UTF-8 text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")  # pandas stumbles over a lone \r


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; empty lines are skipped, as pandas does."""
    reader, line = csv.reader(io.StringIO(text), strict=True), 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} line {line} is not valid CSV ({error}); mend its quotes.") from error


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if all(_number(name) is not None for name in header):
        raise DataError(f"{path} line {line} holds only numbers; add a first line that names the columns.")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path} line {line} has no commas; separate the columns by commas.")
    for column, name in enumerate(header):
        if not name:
            raise DataError(f"{path} line {line} leaves column {column + 1} without a name; name or remove it.")
        if name in header[:column]:
            raise DataError(f"{path} line {line} names two columns {name!r}; rename one of them.")


def _scan(path: Path) -> _Table:
    text = _csv_text(path)
    records = _records(path, text)
    top, header = next(records, (0, []))
    if not header:
        raise DataError(f"{path} is empty; write a line that names the columns, then a line per pattern.")
    header = [name.strip() for name in header]
    _check_header(path, top, header)
    lines = []
    for line, row in records:
        if len(row) != len(header):
            raise DataError(
                f"{path} line {line} has {len(row)} cells, but the header on line {top} has {len(header)}; "
                f"write one cell per column."
            )
        lines.append(line)
    if not lines:
        raise DataError(f"{path} has a header but no data; write a line per pattern below it.")
    return _Table(path, text, header, lines)


def _bad_cell(path: Path, line: int, column: str, fault: str) -> None:
    raise DataError(f"{path} line {line} column {column!r} {fault}; write a finite number or remove the line.")


def _parse(table: _Table, columns: Sequence[int], dtype: type) -> np.ndarray:
    """Columns in the order given (N, len(columns)) as ``str`` or correctly rounded float64."""
    pandas = _extra("pandas")
    # Before 3.1 correct rounding must be asked for; from 3.1 it is the default and asking is deprecated.
    old = tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1)
    rounding = {"float_precision": "round_trip"} if old else {}
    names = [table.header[c] for c in columns]
    frame = pandas.read_csv(
        io.StringIO(table.text),
        header=0,
        names=table.header,
        usecols=names,
        index_col=False,
        dtype=dtype,
        na_filter=False,
        low_memory=False,
        **rounding,
    )
    return frame[names].to_numpy(object if dtype is str else dtype)


def _numbers(table: _Table, columns: Sequence[int]) -> np.ndarray:
    """Columns (N, len(columns)) as finite float64; what pandas cannot read is looked for cell by cell."""
    try:
        x = _parse(table, columns, np.float64)
    except DataError:
        raise
    except (ValueError, OverflowError):
        x = None
    good = x is not None and len(x) == len(table.lines) and bool(np.isfinite(x).all())
    # pandas reads a column of nothing but True and False as numbers.
    if not good or re.search("true|false", table.text, re.IGNORECASE):
        for line, row in islice(_records(table.path, table.text), 1, None):
            for c in columns:
                if fault := _cell_fault(row[c]):
                    _bad_cell(table.path, line, table.header[c], fault)
    if not good:
        raise DataError(f"{table.path} cannot be parsed by pandas; save it again as plain CSV.")
    return np.ascontiguousarray(x)


def _labels(table: _Table, column: int) -> tuple[np.ndarray, tuple[str, ...]]:
    name, cells = table.header[column], [str(cell).strip() for cell in _parse(table, [column], str)[:, 0]]
    for line, cell in zip(table.lines, cells, strict=True):
        fault = _cell_fault(cell)
        if fault and not fault.endswith("not a number"):
            raise DataError(f"{table.path} line {line} column {name!r} {fault}; write a class name or remove the line.")
    return _classes(np.array(cells), f"{table.path} column {name!r}")


def _target_column(table: _Table, target: str | int) -> int:
    width = len(table.header)
    if isinstance(target, str):
        if target not in table.header:
            raise DataError(f"{table.path} has no column {target!r}; take one of its columns: {_listed(table.header)}.")
        column = table.header.index(target)
    elif not -width <= target < width:
        raise DataError(
            f"{table.path} has no column at position {target}; take one from 0 to {width - 1}, or -1 for the last."
        )
    else:
        column = target % width
    if width == 1:
        raise DataError(
            f"{table.path} has no column but the target {table.header[column]!r}; add at least one feature column."
        )
    return column


def target_name(path: Path, target: str) -> str:
    """The column that ``target`` names, or else whose position it gives ("0", "-1"). Raises DataError."""
    table = _scan(path)
    position = target not in table.header and target.removeprefix("-").isdecimal()
    return table.header[_target_column(table, int(target) if position else target)]


def read_csv(
    path: Path, target: str | int, task: Literal["classification", "regression"] = "classification"
) -> Dataset:
    """Comma-separated UTF-8 with a header line; every column but ``target`` is a feature.

    ``target`` is a column's name or its position, from 0, or from -1 at the end. Classification reads it as
    class names, in sorted order (numbers sort as numbers); regression as numbers, ``y`` (N, 1).
    Raises DataError.
    """
    if task not in ("classification", "regression"):
        raise ValueError(f"task={task!r} is not known; choose one of classification, regression.")
    table = _scan(path)
    column = _target_column(table, target)
    features = [c for c in range(len(table.header)) if c != column]
    names = tuple(table.header[c] for c in features)
    if task == "regression":
        both = _numbers(table, [*features, column])
        return Dataset(np.ascontiguousarray(both[:, :-1]), both[:, -1:].copy(), names, ())
    x = _numbers(table, features)
    y, classes = _labels(table, column)
    return Dataset(x, y, names, classes)


def read_features_csv(path: Path, feature_names: Sequence[str], ignore: Sequence[str] = ()) -> np.ndarray:
    """Features (N, I) float64 picked by name, in the order of ``feature_names``; a column that is neither a
    feature nor in ``ignore`` is a fault. Raises DataError.
    """
    table = _scan(path)
    missing = [name for name in feature_names if name not in table.header]
    if missing:
        raise DataError(f"{path} lacks the feature columns {_listed(missing)}; add them.")
    extra = [name for name in table.header if name not in feature_names and name not in ignore]
    if extra:
        raise DataError(f"{path} has columns that are not features: {_listed(extra)}; remove or ignore them.")
    return _numbers(table, [table.header.index(name) for name in feature_names])


# NPZ


def _member(path: Path, archive: Any, name: str) -> np.ndarray:
    if name not in archive.files:
        raise DataError(f"{path} has no array {name!r}; take one of its arrays: {_listed(archive.files)}.")
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
    """Numbers as float64, all of them finite."""
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
    """An archive of ``numpy.savez`` with patterns ``x`` (N, I) and targets ``y``; never unpickles.

    Integers, booleans or strings (N,) are class labels, numbered in sorted order; floats (N,) and any numbers
    (N, O) are float64 targets. Raises DataError.
    """
    with _open(path) as file:
        try:
            zipped = zipfile.is_zipfile(file)
            file.seek(0)  # is_zipfile leaves it near the end
            archive = np.load(file, allow_pickle=False) if zipped else None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is a damaged NPZ archive; save it again.") from error
        if archive is None:
            raise DataError(f"{path} is not an NPZ archive, or is truncated; save it with numpy.savez.")
        patterns, targets = _member(path, archive, x), _member(path, archive, y)
    if patterns.ndim != 2 or 0 in patterns.shape:
        raise DataError(f"{path} array {x!r} has shape {patterns.shape}; reshape it to (N, I), both at least 1.")
    if targets.ndim not in (1, 2) or targets.shape[-1] == 0:
        raise DataError(f"{path} array {y!r} has shape {targets.shape}; reshape it to (N,) or (N, O).")
    if len(patterns) != len(targets):
        raise DataError(
            f"{path} array {x!r} has {len(patterns)} rows, but {y!r} has {len(targets)}; give each pattern a target."
        )
    names = tuple(f"{x}{i}" for i in range(patterns.shape[1]))
    patterns = _finite(path, x, patterns)
    if targets.ndim == 1 and targets.dtype.kind in "biuU":
        labels, classes = _classes(targets, f"{path} array {y!r}")
        return Dataset(patterns, labels, names, classes)
    targets = _finite(path, y, targets)
    return Dataset(patterns, targets.reshape(len(targets), -1), names, ())


# IDX, the format of MNIST: 00 00, type, number of dimensions, each dimension as big-endian uint32, data

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_MOST_DIMENSIONS = 32
_CHUNK = 1 << 20


def _take(file: Stream, count: int) -> bytearray:
    """At most ``count`` bytes, in chunks: memory follows what is there, not what is announced."""
    data = bytearray()
    while len(data) < count and (chunk := file.read(min(_CHUNK, count - len(data)))):
        data += chunk
    return data


def _idx_header(path: Path, file: Stream) -> tuple[np.dtype, tuple[int, ...]]:
    magic = _take(file, 4)
    if not magic:
        raise DataError(f"{path} is empty; give an IDX file, plain or gzipped.")
    if magic[:2] != bytes(len(magic[:2])):
        raise DataError(
            f"{path} starts with {magic[:2].hex(' ')} where an IDX file has 00 00; give an IDX file, plain or gzipped."
        )
    if len(magic) < 4:
        raise DataError(f"{path} ends inside its header, at byte {len(magic)}; fetch the file again.")
    if magic[2] not in _IDX_DTYPES:
        types = ", ".join(f"{code:02x}" for code in _IDX_DTYPES)
        raise DataError(f"{path} byte 2 has type {magic[2]:02x}; give an IDX file of a known type ({types}).")
    if not 1 <= magic[3] <= _IDX_MOST_DIMENSIONS:
        raise DataError(f"{path} byte 3 announces {magic[3]} dimensions; give a file with 1 to {_IDX_MOST_DIMENSIONS}.")
    sizes = _take(file, 4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header, at byte {4 + len(sizes)}; fetch the file again.")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise DataError(f"{path} dimension {shape.index(0)} is 0; give a file that holds data.")
    return np.dtype(_IDX_DTYPES[magic[2]]), shape


def _idx_array(path: Path, file: Stream, max_bytes: int) -> np.ndarray:
    dtype, shape = _idx_header(path, file)
    size = math.prod(shape) * dtype.itemsize  # Python's integers: no overflow
    if size > max_bytes:
        raise DataError(
            f"{path} announces {size} bytes of data for shape {shape}, over max_bytes={max_bytes}; "
            f"raise max_bytes if you trust the file."
        )
    data = _take(file, size)
    if len(data) < size:
        raise DataError(f"{path} ends after {len(data)} of {size} bytes of data; fetch the file again.")
    if file.read(1):
        raise DataError(f"{path} goes on after its {size} bytes of data; fetch the file again.")
    array = np.frombuffer(data, dtype)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    if dtype.kind == "f" and not np.isfinite(array).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(array))), shape)
        raise DataError(f"{path} element {[int(i) for i in at]} is not finite; make every value finite.")
    return array.reshape(shape)


def read_idx(path: Path, max_bytes: int = 2**31) -> np.ndarray:
    """An IDX file, plain or gzipped, in its own shape and type (native byte order).

    No more than ``max_bytes`` of data is ever held, however small the file and whatever it decompresses to.
    Raises DataError.
    """
    with _open(path) as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            return _idx_array(path, file, max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _idx_array(path, unzipped, max_bytes)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is a damaged or truncated gzip file; fetch the file again.") from error


# Standardising, splitting, one-hot


class Standardiser(NamedTuple):
    """``x' = (x - mean) / scale``, column by column; both are float64 (I,)."""

    mean: np.ndarray
    scale: np.ndarray


def _patterns(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}; give patterns as (N, I).")
    return x


def standardiser(x: Any) -> Standardiser:
    """Mean and (population) standard deviation of each column of ``x`` (N, I); a constant column has scale 1.

    >>> standardiser([[1.0, 7.0], [3.0, 7.0]])
    Standardiser(mean=array([2., 7.]), scale=array([1., 1.]))
    """
    x = _patterns(x)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x of shape {x.shape} must hold at least one pattern and only finite numbers.")
    # Powers of two bring each column to at most 1: exact, and squares neither overflow nor vanish.
    _, exponent = np.frexp(np.abs(x).max(axis=0))
    small = np.ldexp(x, -exponent)
    constant = (x == x[0]).all(axis=0)
    mean = np.where(constant, x[0], np.ldexp(small.mean(axis=0), exponent))
    scale = np.where(constant, 1.0, np.ldexp(small.std(axis=0), exponent))
    return Standardiser(mean, scale)


def standardise(s: Standardiser, x: Any) -> np.ndarray:
    """``(x - mean) / scale`` as float64 (N, I)."""
    x = _patterns(x)
    if x.shape[1] != len(s.mean):
        raise ValueError(f"x has shape {x.shape}, but the standardiser was made for (N, {len(s.mean)}).")
    return (x - s.mean) / s.scale


def _test_counts(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many of each class to test on: its share, the total rounded once (largest remainders), one left
    to train on.
    """
    share = counts * fraction
    take = np.floor(share).astype(int)
    missing = round(float(share.sum())) - int(take.sum())
    take[np.argsort(take - share, kind="stable")[:missing]] += 1
    return np.minimum(take, counts - 1)


def split(key: jax.Array, dataset: Dataset, test_fraction: float = 0.2) -> tuple[Dataset, Dataset]:
    """Train and test sets drawn by ``key``, each in the order of ``dataset``; every class keeps its share.

    The same key gives the same split. Raises ValueError where the test set would be empty.
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
    if not test.any():  # the other is never empty: each class keeps a pattern to train on
        raise ValueError(f"test_fraction={test_fraction} of {n} patterns leaves no test pattern; raise it.")
    train, held = (dataset._replace(x=dataset.x[rows], y=dataset.y[rows]) for rows in (~test, test))
    return train, held


def one_hot(labels: Any, classes: int) -> np.ndarray:
    """Rows of the identity (N, classes) float64, one per label.

    >>> one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels have shape {labels.shape} and dtype {labels.dtype}; give integers (N,).")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, not within 0 to {classes - 1}.")
    return np.eye(classes)[labels]
