"""handprop.data: what the readers give, and every sentence with which they refuse."""

import csv
import gzip
import io
import pathlib
import re
import struct
import sys
import tempfile
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handprop import data
from handprop.data import DataError

# ---- helpers


def sentence(error, path):
    """The message with the path taken out, after checking that it is one sentence that starts with it."""
    message = str(error.value)
    assert message.startswith(str(path))
    rest = message.removeprefix(str(path)).strip()
    assert rest.endswith(".")
    assert "\n" not in rest
    assert not re.search(r"[.!?]\s+[A-Z]", rest), rest
    return rest


def refuse(path, call):
    with pytest.raises(DataError) as error:
        call()
    return sentence(error, path)


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="some data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.fixture
def npz(tmp_path):
    def save_arrays(**arrays):
        path = tmp_path / "arrays.npz"
        np.savez(path, **arrays)
        return path

    return save_arrays


def idx(code=0x08, shape=(2, 3), body=None, ndim=None):
    types = dict(zip((0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E), (1, 1, 2, 4, 4, 8), strict=True))
    size = int(np.prod(shape)) * types.get(code, 1)
    header = bytes([0, 0, code, len(shape) if ndim is None else ndim])
    header += struct.pack(f">{len(shape)}I", *shape)
    return header + (bytes(i % 251 for i in range(size)) if body is None else body)


# ---- bundled and tiny data


@pytest.mark.parametrize(
    ("load", "shape", "classes", "counts"),
    [
        (data.digits, (1797, 64), tuple("0123456789"), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
        (data.breast_cancer, (569, 30), ("malignant", "benign"), [212, 357]),
        (data.iris, (150, 4), ("setosa", "versicolor", "virginica"), [50, 50, 50]),
    ],
)
def test_bundled_data_sets(load, shape, classes, counts):
    dataset = load()
    assert dataset.x.shape == shape
    assert dataset.x.dtype == np.float64
    assert dataset.y.shape == shape[:1]
    assert dataset.y.dtype == np.int32
    assert np.bincount(dataset.y).tolist() == counts
    assert dataset.class_names == classes
    assert all(type(name) is str for name in dataset.class_names + dataset.feature_names)
    assert len(set(dataset.feature_names)) == shape[1]


def test_digits_fill_the_unit_interval_in_sixteenths():
    x = data.digits().x
    assert (x.min(), x.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(x * 16, np.round(x * 16))


def test_tiny_sets():
    xor, seed = data.xor(), data.xor_with_bias()
    assert (xor.x.sum(axis=1) % 2 == xor.y[:, 0]).all()
    assert seed.x.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert seed.y.tolist() == [[0], [1], [1], [0]]
    for dataset, width in ((xor, 2), (seed, 3)):
        assert dataset.x.shape == (4, width)
        assert dataset.y.shape == (4, 1)
        assert {dataset.x.dtype, dataset.y.dtype} == {np.dtype(np.float64)}
        assert len(dataset.feature_names) == width
        assert dataset.class_names == ()


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [
        ("sklearn.datasets", "sklearn", lambda path: data.digits()),
        ("pandas", "pandas", lambda path: data.read_csv(path, "y")),
    ],
)
def test_a_missing_extra_says_what_to_install(monkeypatch, write, module, package, call):
    path = write("a,y\n1,p\n2,q\n")
    call(path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError) as error:
        call(path)
    assert str(error.value) == f"{package} is not installed; run `pip install 'handprop[data]'`."


# ---- CSV that is right


def test_csv_classification(write):
    path = write("width,kind,height\n0.1,rose,2\n-3e-2,lily,4\n5,rose,6\n")
    dataset = data.read_csv(path, "kind")
    np.testing.assert_array_equal(dataset.x, [[0.1, 2], [-0.03, 4], [5, 6]])
    assert dataset.x.dtype == np.float64
    assert dataset.y.tolist() == [1, 0, 1]
    assert dataset.y.dtype == np.int32
    assert dataset.feature_names == ("width", "height")
    assert dataset.class_names == ("lily", "rose")


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_csv_target_by_name_or_position(write, target):
    dataset = data.read_csv(write("a,b,c\n1,2,3\n4,5,6\n"), target, task="regression")
    assert dataset.x.tolist() == [[1, 3], [4, 6]]
    assert dataset.y.tolist() == [[2], [5]]
    assert dataset.y.dtype == np.float64
    assert dataset.feature_names == ("a", "c")
    assert dataset.class_names == ()
    assert dataset.x.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        (["10", "9", "2"], ("2", "9", "10"), [2, 1, 0]),
        (["b", "B", "a"], ("B", "a", "b"), [2, 0, 1]),
        (["10", "9", "x"], ("10", "9", "x"), [0, 1, 2]),
        (["1.0", "-1", "1"], ("-1", "1"), [1, 0, 1]),
        (["9007199254740993", "9007199254740992"], ("9007199254740992", "9007199254740993"), [1, 0]),
        (["no", " yes ", "yes"], ("no", "yes"), [0, 1, 1]),
        (["NA", "é"], ("NA", "é"), [0, 1]),
        (["True", "False"], ("False", "True"), [1, 0]),
        (["p", "q"], ("p", "q"), [0, 1]),
    ],
)
def test_class_names_are_sorted_numbers_as_numbers(write, labels, names, codes):
    dataset = data.read_csv(write("x,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(labels))), "y")
    assert dataset.class_names == names
    assert dataset.y.tolist() == codes


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
        b"a,b\r\n1,2\r\n3,4\r\n",
        b"a,b\r1,2\r3,4",
        b"\n\na,b\n\n1,2\n\n\n3,4\n\n",
        b'"a", b\n"1", 2\n 3 ,4 \n',
    ],
    ids=["bom", "crlf", "cr", "blank lines", "quotes and spaces"],
)
def test_csv_dialects(write, content):
    dataset = data.read_csv(write(content), "b", task="regression")
    assert dataset.feature_names == ("a",)
    assert dataset.x.tolist() == [[1], [3]]
    assert dataset.y.tolist() == [[2], [4]]


def test_csv_numbers_are_rounded_correctly(write):
    numbers = np.random.default_rng(0).standard_normal(500) * 10.0 ** np.arange(-250, 250)
    numbers[:3] = 5e-324, 1.7976931348623157e308, 0.1
    path = write("x,y\n" + "".join(f"{v!r},0\n" for v in numbers.tolist()))
    x = data.read_csv(path, "y", task="regression").x
    assert x[:, 0].tolist() == numbers.tolist()


def test_csv_names_may_hold_other_separators(write):
    assert data.read_csv(write("a;b,c|d,y\n1,2,p\n3,4,q\n"), "y").feature_names == ("a;b", "c|d")


def test_csv_lists_twenty_columns_whole(write):
    names = [f"c{i}" for i in range(20)]
    path = write(",".join(names) + "\n" + ",".join("1" * 20) + "\n")
    expected = f"has no column 'y'; choose one of {', '.join(names)}."
    assert refuse(path, lambda: data.read_csv(path, "y")) == expected


@pytest.mark.parametrize("parsed", [np.ones((1, 1)), ValueError(), OverflowError()])
def test_csv_that_pandas_reads_otherwise_is_refused(monkeypatch, write, parsed):
    def parse(*args):
        if isinstance(parsed, Exception):
            raise parsed
        return parsed

    monkeypatch.setattr(data.csv, "_parse", parse)
    path = write("a\n1\n2\n")
    expected = "cannot be parsed by pandas; save it again as plain CSV."
    assert refuse(path, lambda: data.read_features_csv(path, ("a",))) == expected


@pytest.mark.parametrize(("target", "name"), [("b", "b"), ("1", "1"), ("0", "a"), ("-1", "b"), ("3", "1")])
def test_target_name(write, target, name):
    assert data.target_name(write("a,x,y,1,b\n1,2,3,4,5\n"), target) == name


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("9", "has no column at position 9; choose one from 0 to 1, or -1 for the last."),
        ("y", "has no column 'y'; choose one of a, b."),
        ("--1", "has no column '--1'; choose one of a, b."),
    ],
)
def test_bad_target_name(write, target, expected):
    path = write("a,b\n1,2\n")
    assert refuse(path, lambda: data.target_name(path, target)) == expected


def test_features_are_picked_by_name(write):
    path = write("c,label,a,b\n3,p,1,2\n6,,4,5\n")
    assert data.read_features_csv(path, ("a", "c"), ignore=("label", "b")).tolist() == [[1, 3], [4, 6]]
    assert data.read_features_csv(path, ("b",), ignore=("a", "c", "label", "absent")).tolist() == [[2], [5]]


# ---- CSV that is wrong


BAD_CELL = "write a finite number or remove the line."
BAD_CSV = {
    "empty": ("", "is empty; write a line that names the columns, then a line per example."),
    "blank": ("\n\n", "is empty; write a line that names the columns, then a line per example."),
    "header only": ("a,b,y\n\n", "has a header but no data; write a line per example below it."),
    "ragged short": (
        "a,b,y\n1,2,p\n1,2\n3,4,q\n",
        "line 3 has 2 cells, but the header on line 1 has 3; write one cell per column.",
    ),
    "ragged long": (
        "a,b,y\n1,2,p\n\n3,4,q,5\n",
        "line 4 has 4 cells, but the header on line 1 has 3; write one cell per column.",
    ),
    "ragged long first": (
        "a,b,y\n1,2,p,3\n",
        "line 2 has 4 cells, but the header on line 1 has 3; write one cell per column.",
    ),
    "ragged after a cell of two lines": (
        'a,b,y\n1,2,"p\nq"\n1,2\n',
        "line 4 has 2 cells, but the header on line 1 has 3; write one cell per column.",
    ),
    "ragged after a late header": (
        "\na,b,y\n1\n",
        "line 3 has 1 cells, but the header on line 2 has 3; write one cell per column.",
    ),
    "non-numeric": (
        "a,b,y\n1,2,p\n3,four,q\n",
        f"line 3 column 'b' holds 'four', which is not a number; {BAD_CELL}",
    ),
    "non-numeric after a cell of two lines": (
        'a,b,y\n1,2,"p\nq"\nx,2,q\n',
        f"line 4 column 'a' holds 'x', which is not a number; {BAD_CELL}",
    ),
    "long cell": (
        f"a,b,y\n1,{'z' * 99},p\n",
        f"line 2 column 'b' holds '{'z' * 37}...', which is not a number; {BAD_CELL}",
    ),
    "underscore": ("a,b,y\n1,1_0,p\n", f"line 2 column 'b' holds '1_0', which is not a number; {BAD_CELL}"),
    "other digits": ("a,b,y\n1,١,p\n", f"line 2 column 'b' holds '١', which is not a number; {BAD_CELL}"),
    "NA": ("a,b,y\n1,NA,p\n", f"line 2 column 'b' holds 'NA', which is not a number; {BAD_CELL}"),
    "booleans": (
        "a,b,y\n1,0,p\n3,0,q\n4,TRUE,q\n",
        f"line 4 column 'b' holds 'TRUE', which is not a number; {BAD_CELL}",
    ),
    "boolean": ("a,b,y\n1,True,p\n", f"line 2 column 'b' holds 'True', which is not a number; {BAD_CELL}"),
    "nan": ("a,b,y\n1,2,p\nnan,4,q\n", f"line 3 column 'a' holds 'nan', which is not finite; {BAD_CELL}"),
    "inf": ("a,b,y\n1,2,p\n3,-inf,q\n", f"line 3 column 'b' holds '-inf', which is not finite; {BAD_CELL}"),
    "overflow": ("a,b,y\n1,1e999,p\n", f"line 2 column 'b' holds '1e999', which is not finite; {BAD_CELL}"),
    "empty cells after a lone carriage return": ("a,b,y\n\r,,p", f"line 3 column 'a' is empty; {BAD_CELL}"),
    "empty cell": ("a,b,y\n1,2,p\n3,,q\n", f"line 3 column 'b' is empty; {BAD_CELL}"),
    "space cell": ("a,b,y\n1,2,p\n  ,4,q\n", f"line 3 column 'a' is empty; {BAD_CELL}"),
    "empty label": (
        "a,b,y\n1,2,p\n3,4,\n",
        "line 3 column 'y' is empty; write a class name or remove the line.",
    ),
    "nan label": (
        "a,b,y\n1,2,p\n\n3,4,NaN\n",
        "line 4 column 'y' holds 'NaN', which is not finite; write a class name or remove the line.",
    ),
    "target absent": ("a,b,c\n1,2,3\n", "has no column 'y'; choose one of a, b, c."),
    "many columns": (
        ",".join(f"c{i}" for i in range(25)) + "\n" + ",".join("1" * 25) + "\n",
        f"has no column 'y'; choose one of {', '.join(f'c{i}' for i in range(20))} and 5 more.",
    ),
    "target alone": ("y\np\nq\n", "has no column but the target 'y'; add at least one feature column."),
    "duplicate": ("a,y,a\n1,p,2\n", "line 1 names two columns 'a'; rename one of them."),
    "duplicate but for spaces": ("a,y, a\n1,p,2\n", "line 1 names two columns 'a'; rename one of them."),
    "unnamed": ("a, ,y\n1,2,p\n", "line 1 leaves column 2 without a name; name or remove it."),
    "no header": (
        "1,2,0\n3,4,1\n",
        "line 1 holds only numbers; add a first line that names the columns.",
    ),
    "semicolons": ("a;b;y\n1;2;p\n", "line 1 has no commas; separate the columns with commas."),
    "tabs": ("a\tb\ty\n1\t2\tp\n", "line 1 has no commas; separate the columns with commas."),
    "one class": (
        "a,b,y\n1,2,p\n3,4,p\n",
        "column 'y' holds one class only (p); give examples of at least two classes.",
    ),
    "one class in two spellings": (
        "a,b,y\n1,2,1\n3,4,1.0\n",
        "column 'y' holds one class only (1); give examples of at least two classes.",
    ),
    "not UTF-8": (
        "a,b,y\r\n1,2,p\r\n3,4,é\r\n".encode("latin-1"),
        "line 3 is not UTF-8 text; save the file as UTF-8.",
    ),
    "not UTF-8 at once": (b"\xff\xfea\0,\0b\0", "line 1 is not UTF-8 text; save the file as UTF-8."),
    "NUL": (b"a,b,y\n1,2\0,p\n", "line 2 holds a NUL byte; save the file as plain UTF-8 text."),
    "open quote": (
        'a,b,y\n1,2,p\n3,"4,q\n5,6,p\n',
        "line 3 is not valid CSV (unexpected end of data); correct its quotes.",
    ),
    "text after a quote": (
        'a,b,y\n"1"2,2,p\n',
        "line 2 is not valid CSV (',' expected after '\"'); correct its quotes.",
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_bad_csv(write, content, expected):
    path = write(content)
    assert refuse(path, lambda: data.read_csv(path, "y")) == expected


@pytest.mark.parametrize("target", [3, -4, 99])
def test_csv_target_out_of_range(write, target):
    path = write("a,b,c\n1,2,3\n")
    expected = f"has no column at position {target}; choose one from 0 to 2, or -1 for the last."
    assert refuse(path, lambda: data.read_csv(path, target)) == expected


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("", "is empty"),
        ("p", "holds 'p', which is not a number"),
        ("inf", "holds 'inf', which is not finite"),
    ],
)
def test_csv_regression_target_must_be_a_number(write, cell, fault):
    path = write(f"a,y\n1,2\n3,{cell}\n")
    expected = f"line 3 column 'y' {fault}; {BAD_CELL}"
    assert refuse(path, lambda: data.read_csv(path, "y", task="regression")) == expected


def test_csv_task_is_checked(write):
    with pytest.raises(ValueError, match=r"^task='rank' is not known; choose one of classification, regr"):
        data.read_csv(write("a,y\n1,2\n"), "y", task="rank")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "ignore", "expected"),
    [
        (("a", "d", "e"), ("b", "y"), "lacks the feature columns d, e; add them."),
        (("a",), ("y",), "has columns that are not features: b; remove or ignore them."),
        (("a", "y"), ("b",), f"line 2 column 'y' holds 'p', which is not a number; {BAD_CELL}"),
    ],
)
def test_bad_features(write, names, ignore, expected):
    path = write("a,b,y\n1,2,p\n")
    assert refuse(path, lambda: data.read_features_csv(path, names, ignore)) == expected


@pytest.mark.parametrize("line", ["   ", '""'])
def test_a_single_blank_cell_is_not_skipped(write, line):
    path = write(f"a\n1\n{line}\n2\n")
    expected = f"line 3 column 'a' is empty; {BAD_CELL}"
    assert refuse(path, lambda: data.read_features_csv(path, ("a",))) == expected


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["1", "2.5", "-3e4", "a", '"', ",", ",", "\n", "\n", "\r", " ", "nan", "TRUE"])))
def test_any_text_is_refused_in_a_sentence_or_read_like_the_standard_library(tokens):
    body = "1,2\n" + "".join(tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.csv"
        path.write_bytes(f"x,y\n{body}".encode())
        try:
            found = data.read_features_csv(path, ("x", "y"))
        except DataError:
            refuse(path, lambda: data.read_features_csv(path, ("x", "y")))
            return
    rows = [row for row in csv.reader(io.StringIO(body, newline=""), strict=True) if row]
    assert found.tolist() == [[float(cell) for cell in row] for row in rows]


READERS = [lambda path: data.read_csv(path, "y"), data.read_npz, data.read_idx]


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_and_a_folder(tmp_path, read):
    path = tmp_path / "absent"
    assert refuse(path, lambda: read(path)) == "does not exist; check the path."
    assert refuse(tmp_path, lambda: read(tmp_path)) == "is a folder; give the path of a file."


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_cannot_be_opened(tmp_path, read):
    path = tmp_path / "file" / "below"
    path.parent.write_text("not a folder")
    expected = "cannot be opened (Not a directory); check its permissions."
    assert refuse(path, lambda: read(path)) == expected


# ---- NPZ

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("y", "targets", "classes"),
    [
        ([7, 3, 7], [1, 0, 1], ("3", "7")),
        ([10, 9, 2], [2, 1, 0], ("2", "9", "10")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        ([0.5, 1.0, 2.0], [[0.5], [1.0], [2.0]], ()),
        ([[1, 0], [0, 1], [1, 0]], [[1, 0], [0, 1], [1, 0]], ()),
    ],
)
def test_npz(npz, y, targets, classes):
    dataset = data.read_npz(npz(x=X, y=y))
    assert dataset.x.tolist() == X.tolist()
    assert dataset.y.tolist() == targets
    assert dataset.y.dtype == (np.int32 if classes else np.float64)
    assert dataset.class_names == classes
    assert dataset.feature_names == ("x0", "x1")


def test_npz_arrays_by_name_and_any_number_type(npz):
    for dtype in (np.float16, np.uint8, bool, ">f4"):
        dataset = data.read_npz(npz(train=X.astype(dtype), goal=[1, 2, 3]), x="train", y="goal")
        assert dataset.x.dtype == np.float64
        assert dataset.x.tolist() == X.astype(dtype).astype(float).tolist()


def holed(value):
    x = X.copy()
    x[2, 1] = value
    return x


BAD_NPZ = {
    "x absent": ({"a": X, "y": [0, 1, 0]}, "has no array 'x'; choose one of its arrays: a, y."),
    "y absent": ({"x": X}, "has no array 'y'; choose one of its arrays: x."),
    "objects": (
        {"x": X, "y": np.array([0, "a", None], object)},
        "array 'y' holds Python objects; save numbers, as pickles are never read.",
    ),
    "x flat": (
        {"x": X[0], "y": [0, 1]},
        "array 'x' has shape (2,); reshape it to (N, I), both at least 1.",
    ),
    "x deep": (
        {"x": X[None], "y": [0]},
        "array 'x' has shape (1, 3, 2); reshape it to (N, I), both at least 1.",
    ),
    "x empty": (
        {"x": X[:0], "y": np.zeros(0, int)},
        "array 'x' has shape (0, 2); reshape it to (N, I), both at least 1.",
    ),
    "y scalar": ({"x": X, "y": 1}, "array 'y' has shape (); reshape it to (N,) or (N, O)."),
    "y deep": (
        {"x": X, "y": np.zeros((3, 1, 1))},
        "array 'y' has shape (3, 1, 1); reshape it to (N,) or (N, O).",
    ),
    "y no width": (
        {"x": X, "y": np.zeros((3, 0))},
        "array 'y' has shape (3, 0); reshape it to (N,) or (N, O).",
    ),
    "lengths": (
        {"x": X, "y": [0, 1]},
        "array 'x' has 3 rows, but 'y' has 2; give each example a target.",
    ),
    "x NaN": (
        {"x": holed(np.nan), "y": [0, 1, 0]},
        "array 'x' is nan at [2, 1]; make every value finite.",
    ),
    "y inf": ({"x": X, "y": [0.0, np.inf, 1.0]}, "array 'y' is inf at [1]; make every value finite."),
    "x text": (
        {"x": X.astype("U4"), "y": [0, 1, 0]},
        "array 'x' has dtype <U4; save it as float or integer numbers.",
    ),
    "y complex": (
        {"x": X, "y": np.zeros(3, complex)},
        "array 'y' has dtype complex128; save it as float or integer numbers.",
    ),
    "one class": (
        {"x": X, "y": [4, 4, 4]},
        "array 'y' holds one class only (4); give examples of at least two classes.",
    ),
}


@pytest.mark.parametrize(("arrays", "expected"), BAD_NPZ.values(), ids=BAD_NPZ.keys())
def test_bad_npz(npz, arrays, expected):
    path = npz(**arrays)
    assert refuse(path, lambda: data.read_npz(path)) == expected


NOT_NPZ = "is not an NPZ archive, or is truncated; save it with numpy.savez."


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PK\x03\x04 and no more"])
def test_not_an_npz(write, content):
    path = write(content, "a.npz")
    assert refuse(path, lambda: data.read_npz(path)) == NOT_NPZ


def test_npz_is_read_from_its_start_wherever_is_zipfile_stops(monkeypatch, npz):
    path = npz(x=X, y=[0, 1, 0])
    real = zipfile.is_zipfile

    def is_zipfile(file):
        found = real(file)
        file.seek(0, 2)
        return found

    monkeypatch.setattr(zipfile, "is_zipfile", is_zipfile)
    assert data.read_npz(path).x.tolist() == X.tolist()


def test_npz_member_that_is_no_array(npz):
    path = npz(x=X)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y", b"0 1 0")
    expected = "member 'y' is not an array; save it with numpy.savez."
    assert refuse(path, lambda: data.read_npz(path)) == expected


def test_npz_with_a_damaged_directory(npz):
    path = npz(x=X, y=[0, 1, 0])
    whole = path.read_bytes()
    at = whole.index(b"PK\1\2")
    path.write_bytes(whole[:at] + b"XX" + whole[at + 2 :])
    assert refuse(path, lambda: data.read_npz(path)) == "is a damaged NPZ archive; save it again."


def test_damaged_npz(npz):
    path = npz(x=X, y=[0, 1, 0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert refuse(path, lambda: data.read_npz(path)) == NOT_NPZ
    body = whole.index(X.tobytes())
    path.write_bytes(whole[:body] + b"\1" + whole[body + 1 :])
    assert refuse(path, lambda: data.read_npz(path)) == "array 'x' is damaged; save the file again."


# ---- IDX

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("code", IDX_TYPES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3)])
def test_idx(write, pack, code, shape):
    expected = (np.arange(np.prod(shape)) * 37 - 90).astype("i2").astype(IDX_TYPES[code]).reshape(shape)
    found = data.read_idx(write(pack(idx(code, shape, expected.tobytes()))))
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, expected)
    found += found.dtype.type(1)  # writable


BAD_IDX = {
    "empty": (b"", "is empty; give an IDX file, plain or gzipped."),
    "magic": (
        b"\x89PNG\r\n",
        "starts with 89 50, not with 00 00 as an IDX file does; give an IDX file, plain or gzipped.",
    ),
    "magic second byte": (
        b"\0\1\x08\1" + bytes(8),
        "starts with 00 01, not with 00 00 as an IDX file does; give an IDX file, plain or gzipped.",
    ),
    "short magic": (b"\0\0\x08", "ends inside its header, at byte 3; fetch the file again."),
    "type": (
        idx(code=0x0A),
        "byte 2 has type 0a; give an IDX file of a known type (08, 09, 0b, 0c, 0d, 0e).",
    ),
    "no dimensions": (idx(ndim=0), "byte 3 declares 0 dimensions; give a file with 1 to 32."),
    "33 dimensions": (idx(shape=(1,) * 33), "byte 3 declares 33 dimensions; give a file with 1 to 32."),
    "short sizes": (idx()[:10], "ends inside its header, at byte 10; fetch the file again."),
    "zero": (idx(shape=(2, 0)), "dimension 1 is 0; give a file that holds data."),
    "truncated": (idx()[:-1], "ends after 5 of 6 bytes of data; fetch the file again."),
    "truncated wide": (idx(0x0E, (2,))[:-1], "ends after 15 of 16 bytes of data; fetch the file again."),
    "trailing": (idx() + b"\0", "has more than its 6 bytes of data; fetch the file again."),
    "NaN": (
        idx(0x0D, (2, 2), np.array([[0, 1], [np.nan, 3]], ">f4").tobytes()),
        "element [1, 0] is not finite; make every value finite.",
    ),
    "overflow": (
        idx(shape=(2**32 - 1,) * 32, body=b""),
        f"declares {(2**32 - 1) ** 32} bytes of data for shape {(2**32 - 1,) * 32}, over "
        f"max_bytes={2**31}; raise max_bytes if you trust the file.",
    ),
    "wraps to zero in 64 bits": (
        idx(shape=(2**31, 2**31, 4), body=b""),
        f"declares {2**64} bytes of data for shape {(2**31, 2**31, 4)}, over "
        f"max_bytes={2**31}; raise max_bytes if you trust the file.",
    ),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "expected"), BAD_IDX.values(), ids=BAD_IDX.keys())
def test_bad_idx(write, pack, content, expected):
    path = write(pack(content))
    assert refuse(path, lambda: data.read_idx(path)) == expected


def test_idx_size_cap_is_exact(write):
    path = write(idx(0x0B, (3, 4)))
    assert data.read_idx(path, max_bytes=24).shape == (3, 4)
    expected = "declares 24 bytes of data for shape (3, 4), over max_bytes=23; raise max_bytes if you trust the file."
    assert refuse(path, lambda: data.read_idx(path, max_bytes=23)) == expected


def test_damaged_gzip(write):
    whole = gzip.compress(idx(shape=(500,)))
    damaged = "is a damaged or truncated gzip file; fetch the file again."
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]  # the checksum
    for content in (whole[:-9], whole[:-1], whole[:5], flipped, whole[:10] + b"\xff" * 20):
        path = write(content)
        assert refuse(path, lambda path=path: data.read_idx(path)) == damaged


def peak(call):
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        (1000, "has more than its 1000 bytes of data; fetch the file again."),
        (
            2**27,
            f"declares {2**27} bytes of data for shape ({2**27},), over max_bytes={2**20}; "
            "raise max_bytes if you trust the file.",
        ),
    ],
)
def test_a_compressed_bomb_is_refused_before_memory_is_used(write, announced, expected):
    path = write(gzip.compress(idx(shape=(announced,), body=bytes(2**27)), 1))
    message, used = peak(lambda: refuse(path, lambda: data.read_idx(path, max_bytes=2**20)))
    assert message == expected
    assert used < 2**22


def test_memory_follows_what_is_there_not_what_is_announced(write):
    path = write(idx(shape=(2**31 - 1,), body=bytes(100)))
    message, used = peak(lambda: refuse(path, lambda: data.read_idx(path)))
    assert message == f"ends after 100 of {2**31 - 1} bytes of data; fetch the file again."
    assert used < 2**22


# ---- standardising


def test_standardise():
    x = np.random.default_rng(0).standard_normal((50, 3)) * [1, 100, 1e-5] + [5, -3, 0]
    s = data.standardiser(x)
    np.testing.assert_allclose(s.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(s.scale, x.std(axis=0), rtol=1e-12)
    z = data.standardise(s, x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_array_equal(data.standardise(s, x[:1]), z[:1])


def test_a_constant_column_becomes_exactly_zero_with_scale_one():
    x = np.column_stack([np.full(10, 0.1), np.arange(10.0)])  # the mean of ten 0.1 is not 0.1
    s = data.standardiser(x)
    assert s.scale[0] == 1.0
    assert (data.standardise(s, x)[:, 0] == 0).all()
    assert (data.standardise(data.standardiser(x[:1]), x[:1]) == 0).all()


@pytest.mark.parametrize("size", [1e300, 1e-300, 1e-310])
def test_huge_and_tiny_columns_standardise_like_any_other(size):
    x = np.array([[1.0], [2.0], [4.0]])
    expected = (x - x.mean()) / x.std()
    np.testing.assert_allclose(data.standardise(data.standardiser(x * size), x * size), expected, rtol=1e-12)


def test_bad_standardising():
    with pytest.raises(ValueError, match=r"^x has shape \(3,\); give examples as \(N, I\)\.$"):
        data.standardiser(np.ones(3))
    for x in (np.ones((0, 2)), np.array([[1.0, np.nan]])):
        with pytest.raises(ValueError, match=r"must hold at least one example and only finite numbers\.$"):
            data.standardiser(x)
    s = data.standardiser(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^x has shape \(2, 1\), but the standardiser was made for \(N, 3\)"):
        data.standardise(s, np.ones((2, 1)))


# ---- splitting


def numbered(counts):
    """Labels by class size, interleaved; x is the row's number."""
    y = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    y = np.random.default_rng(1).permutation(y)
    x = np.arange(len(y), dtype=np.float64)[:, None]
    return data.Dataset(x, y, ("row",), tuple(map(str, range(len(counts)))))


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([50, 50, 50], 0.2, [10, 10, 10]),
        ([100, 10], 0.3, [30, 3]),
        ([100, 1], 0.5, [50, 0]),  # a class of one is trained on
        ([2, 2, 2, 2, 2], 0.2, [1, 1, 0, 0, 0]),
        ([3, 30], 0.9, [2, 27]),
        ([100, 100], 0.29, [29, 29]),
    ],
)
def test_every_class_keeps_its_share(counts, fraction, expected):
    dataset = numbered(counts)
    train, test = data.split(jax.random.key(0), dataset, fraction)
    assert np.bincount(test.y, minlength=len(counts)).tolist() == expected
    assert np.bincount(train.y, minlength=len(counts)).tolist() == [
        c - e for c, e in zip(counts, expected, strict=True)
    ]
    rows = np.concatenate([train.x, test.x])[:, 0].astype(int)
    assert sorted(rows.tolist()) == list(range(sum(counts)))
    for part in (train, test):
        np.testing.assert_array_equal(part.y, dataset.y[part.x[:, 0].astype(int)])
        assert (np.diff(part.x[:, 0]) > 0).all()
        assert part.feature_names == dataset.feature_names
        assert part.class_names == dataset.class_names


def test_split_follows_the_key():
    dataset = numbered([40, 60])
    one, same = (data.split(jax.random.key(3), dataset)[1].x.tolist() for _ in range(2))
    other = data.split(jax.random.key(4), dataset)[1].x.tolist()
    assert one == same
    assert one != other


def test_split_draws_every_example_sometimes():
    dataset = numbered([10, 15])
    drawn = {
        row for seed in range(40) for row in data.split(jax.random.key(seed), dataset)[1].x[:, 0].astype(int).tolist()
    }
    assert drawn == set(range(25))


def test_split_of_numbers():
    train, test = data.split(jax.random.key(0), data.xor(), 0.25)
    assert (len(train.x), len(test.x)) == (3, 1)
    assert train.y.shape == (3, 1)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_fraction_is_checked(fraction):
    with pytest.raises(ValueError, match=rf"^test_fraction={fraction} must lie between 0 and 1\.$"):
        data.split(jax.random.key(0), data.xor(), fraction)


def test_split_leaves_no_test_set_empty():
    with pytest.raises(ValueError, match=r"^test_fraction=0.01 of 4 examples leaves no test example; raise it\.$"):
        data.split(jax.random.key(0), data.xor(), 0.01)


# ---- one-hot


def test_one_hot():
    labels = np.array([2, 0, 1, 2], np.int32)
    rows = data.one_hot(labels, 4)
    assert rows.shape == (4, 4)
    assert rows.dtype == np.float64
    assert (rows.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(rows.argmax(axis=1), labels)
    assert data.one_hot(np.zeros(0, int), 3).shape == (0, 3)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_one_hot_range(labels):
    expected = rf"^labels run from {min(labels)} to {max(labels)}; give labels from 0 to 2\.$"
    with pytest.raises(ValueError, match=expected):
        data.one_hot(labels, 3)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0], [1]], [True]])
def test_one_hot_needs_a_list_of_integers(labels):
    with pytest.raises(ValueError, match=r"^labels have shape .* and dtype .*; give integers \(N,\)\.$"):
        data.one_hot(labels, 3)
