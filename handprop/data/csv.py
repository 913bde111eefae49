"""Read tables of comma-separated values."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

from handprop.data.reading import DataError, Dataset, Path, as_number, classes_of, extra, listed, open_file

__all__ = ["read_csv", "read_features_csv", "target_name"]


def _cell_fault(text: str) -> str | None:
    """Say why a cell is not a finite number, or return None if it is one."""
    if not text.strip():
        return "is empty"
    shown, number = repr(text if len(text) <= 40 else text[:37] + "..."), as_number(text)
    if number is None:
        return f"holds {shown}, which is not a number"
    return None if math.isfinite(number) else f"holds {shown}, which is not finite"


class _Table(NamedTuple):
    """A CSV file whose rows all have the header's width; ``lines[n]`` is where row n starts."""

    path: Path
    text: str
    header: list[str]
    lines: list[int]


def _csv_text(path: Path) -> str:
    with open_file(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len((raw[: error.start] + b".").splitlines())
        raise DataError(f"{path} line {line} is not UTF-8 text; save the file as UTF-8.") from error
    if "\0" in text:
        line = len((raw[: raw.index(0)] + b".").splitlines())
        raise DataError(f"{path} line {line} holds a NUL byte; save the file as plain UTF-8 text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")  # pandas mishandles a lone \r


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line it starts on. Empty lines are skipped, as in pandas."""
    reader, line = csv.reader(io.StringIO(text), strict=True), 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} line {line} is not valid CSV ({error}); correct its quotes.") from error


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if all(as_number(name) is not None for name in header):
        raise DataError(f"{path} line {line} holds only numbers; add a first line that names the columns.")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path} line {line} has no commas; separate the columns with commas.")
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
        raise DataError(f"{path} is empty; write a line that names the columns, then a line per example.")
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
        raise DataError(f"{path} has a header but no data; write a line per example below it.")
    return _Table(path, text, header, lines)


def _bad_cell(path: Path, line: int, column: str, fault: str) -> None:
    raise DataError(f"{path} line {line} column {column!r} {fault}; write a finite number or remove the line.")


def _parse(table: _Table, columns: Sequence[int], dtype: type) -> np.ndarray:
    """Parse columns, in the given order, as ``str`` or correctly rounded float64: (N, len(columns))."""
    pandas = extra("pandas")
    # pandas before 3.1 rounds correctly only on request; from 3.1 on it is the default and the option is deprecated.
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
    """Parse columns (N, len(columns)) as finite float64. If pandas fails, look for the bad cell."""
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
    return classes_of(np.array(cells), f"{table.path} column {name!r}")


def _target_column(table: _Table, target: str | int) -> int:
    width = len(table.header)
    if isinstance(target, str):
        if target not in table.header:
            raise DataError(f"{table.path} has no column {target!r}; choose one of {listed(table.header)}.")
        column = table.header.index(target)
    elif not -width <= target < width:
        raise DataError(
            f"{table.path} has no column at position {target}; choose one from 0 to {width - 1}, or -1 for the last."
        )
    else:
        column = target % width
    if width == 1:
        raise DataError(
            f"{table.path} has no column but the target {table.header[column]!r}; add at least one feature column."
        )
    return column


def target_name(path: Path, target: str) -> str:
    """Return the name of the column that ``target`` names or gives by position ("0", "-1"). Raises DataError."""
    table = _scan(path)
    position = target not in table.header and target.removeprefix("-").isdecimal()
    return table.header[_target_column(table, int(target) if position else target)]


def read_csv(
    path: Path, target: str | int, task: Literal["classification", "regression"] = "classification"
) -> Dataset:
    """Read comma-separated UTF-8 with a header line; every column except ``target`` is a feature.

    ``target`` is a column's name or its position, counted from 0, or from -1 at the end. Classification reads it as
    class names, numbered in sorted order (numbers sort as numbers). Regression reads it as numbers, ``y`` (N, 1).
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
    """Read features (N, I) float64 by name, in the order of ``feature_names``.

    Raises DataError, also for a column that is neither a feature nor in ``ignore``.
    """
    table = _scan(path)
    missing = [name for name in feature_names if name not in table.header]
    if missing:
        raise DataError(f"{path} lacks the feature columns {listed(missing)}; add them.")
    extra = [name for name in table.header if name not in feature_names and name not in ignore]
    if extra:
        raise DataError(f"{path} has columns that are not features: {listed(extra)}; remove or ignore them.")
    return _numbers(table, [table.header.index(name) for name in feature_names])
