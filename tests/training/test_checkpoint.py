"""handprop.training.checkpoint: the bits come back, the file is whole or absent, and every fault has its sentence."""

import itertools
import json
import os
import pathlib
import re
import stat
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop import Layer, mlp
from handprop.training import checkpoint
from handprop.training.checkpoint import CheckpointError

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def random_params(dtype="float32", sizes=(3, 5, 2), bias=True):
    """Any bits, so NaNs with payloads, infinities, denormals and negative zeros too."""
    rng, dtype = np.random.default_rng(0), jnp.dtype(dtype)

    def leaf(*shape):
        raw = rng.integers(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)
        return raw.view(dtype)

    pairs = itertools.pairwise(sizes)
    return tuple(Layer(leaf(i, o), leaf(o) if bias else None) for i, o in pairs)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def refuse(path, call):
    """The message without the path, after checking that it is one sentence that starts with it."""
    with pytest.raises(CheckpointError) as error:
        call()
    message = str(error.value)
    assert message.startswith(str(path))
    rest = message.removeprefix(str(path)).strip()
    assert rest.endswith(".")
    assert "\n" not in rest
    assert not re.search(r"[.!?]\s+[A-Z]", rest), rest
    return rest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some params.npz"


# ---- there and back


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_with_its_bits(path, dtype, bias):
    params = random_params(dtype, bias=bias)
    meta = {"hidden": ["tanh", 3], "nested": {"rate": 0.1, "none": None, "ok": True}, "é": "\u2028\0"}
    checkpoint.save(path, params, meta)
    loaded, found = checkpoint.load(path)
    assert_same_bits(loaded, params)
    assert type(loaded) is tuple
    assert all(type(layer) is Layer for layer in loaded)
    assert found == meta


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1, 1, 3)])
def test_a_networks_params_come_back_and_work(path, sizes):
    net = mlp(sizes)
    params = net.init(jax.random.key(0), dtype=jnp.bfloat16)
    checkpoint.save(path, params, {})
    loaded, meta = checkpoint.load(path)
    assert meta == {}
    assert_same_bits(loaded, params)
    x = jnp.ones((2, sizes[0]), jnp.bfloat16)
    assert_same_bits(net.apply(loaded, x), net.apply(params, x))


def test_float64_comes_back_without_x64_mode(path):
    with jax.enable_x64(True):
        params = mlp((3, 2)).init(jax.random.key(0), dtype=jnp.float64)
        checkpoint.save(path, params, {})
    loaded, _ = checkpoint.load(path)
    assert loaded[0].W.dtype == np.float64
    assert_same_bits(loaded, params)


def test_layouts_and_mixed_layers_come_back(path):
    W = np.arange(6, dtype=">f4").reshape(2, 3).T
    params = (
        Layer(W, None),
        Layer(jnp.ones((2, 1), jnp.bfloat16).T.reshape(2, 1), jnp.zeros(1, jnp.float16)),
    )
    checkpoint.save(path, params, {})
    loaded, _ = checkpoint.load(path)
    np.testing.assert_array_equal(loaded[0].W, W)
    assert loaded[0].b is None
    assert [loaded[1].W.dtype.name, loaded[1].b.dtype.name] == ["bfloat16", "float16"]


def test_plain_numpy_reads_the_file_and_nothing_is_pickled(path):
    params = random_params()
    checkpoint.save(path, params, {"a": 1})
    with np.load(path, allow_pickle=False) as archive:
        names = {f"params[{l}].{field}" for l in (0, 1) for field in "Wb"}
        assert set(archive.files) == {"handprop", *names}
        np.testing.assert_array_equal(archive["params[1].W"], params[1].W)
        header = json.loads(str(archive["handprop"]))
    layers = [{"W": "float32", "b": "float32"}] * 2
    assert header == {"version": 1, "layers": layers, "meta": {"a": 1}}


# ---- whole or not at all


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_saving_again_replaces_and_leaves_nothing_behind(path):
    checkpoint.save(path, random_params(), {"n": 1})
    checkpoint.save(str(path), random_params("float64"), {"n": 2})
    assert checkpoint.load(path)[1] == {"n": 2}
    assert files(path.parent) == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_as_it_was(monkeypatch, path, step):
    checkpoint.save(path, random_params(), {"n": 1})
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    expected = "cannot be written (No space left on device); choose a file in a folder you can write to."
    assert refuse(path, lambda: checkpoint.save(path, random_params("float64"), {})) == expected
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


def test_an_interrupted_save_leaves_no_draft(monkeypatch, path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, random_params(), {})
    assert files(path.parent) == []


def test_the_file_is_synced_in_the_same_folder_before_it_takes_its_place(monkeypatch, path):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))

    def watched(source, target):
        events.append("replace")
        assert zipfile.is_zipfile(source)
        assert pathlib.Path(source).parent == pathlib.Path(target).parent == path.parent.resolve()
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    checkpoint.save(path, random_params(), {})
    assert events == ["fsync", "replace"]


def test_a_link_stays_a_link_and_permissions_are_the_usual(path):
    link = path.with_name("link.npz")
    link.symlink_to(path)
    checkpoint.save(link, random_params(), {"n": 1})
    assert link.is_symlink()
    assert checkpoint.load(path)[1] == {"n": 1}
    plain = path.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


# ---- what cannot be saved


def W(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


CHAINS = {
    "no layers": ((), "has no layers; save at least one."),
    "W flat": (
        (Layer(W(3), None),),
        "params[0].W has shape (3,); save weights of shape (I, O), both at least 1.",
    ),
    "W empty": (
        (Layer(W(3, 0), None),),
        "params[0].W has shape (3, 0); save weights of shape (I, O), both at least 1.",
    ),
    "chain": (
        (Layer(W(3, 4), W(4)), Layer(W(5, 1), W(1))),
        "params[1].W has shape (5, 1), but params[0].W has (3, 4); give params[1].W 4 inputs.",
    ),
    "bias": (
        (Layer(W(3, 4), W(4)), Layer(W(4, 2), W(1))),
        "params[1].b has shape (1,), but params[1].W needs (2,); correct b.",
    ),
    "bias 2-D": (
        (Layer(W(3, 4), W(1, 4)),),
        "params[0].b has shape (1, 4), but params[0].W needs (4,); correct b.",
    ),
}


@pytest.mark.parametrize(("params", "expected"), CHAINS.values(), ids=CHAINS.keys())
def test_shapes_that_do_not_chain_are_not_saved(path, params, expected):
    assert refuse(path, lambda: checkpoint.save(path, params, {})) == expected
    assert not path.exists()


@pytest.mark.parametrize(
    ("params", "meta", "expected"),
    [
        (
            (Layer(W(2, 2, dtype=np.int32), None),),
            {},
            "cannot hold params[0].W of dtype int32; give a floating dtype.",
        ),
        (
            (Layer(W(2, 2), W(2, dtype=bool)),),
            {},
            "cannot hold params[0].b of dtype bool; give a floating dtype.",
        ),
        (
            ((W(2, 2), W(2)),),
            {},
            "cannot hold params[0] of type tuple; give handprop.Layer(W, b).",
        ),
        (
            (Layer(W(2, 2), None), types.SimpleNamespace(W=W(2, 2))),
            {},
            "cannot hold params[1] of type SimpleNamespace; give handprop.Layer(W, b).",
        ),
        (
            (types.SimpleNamespace(b=W(2)),),
            {},
            "cannot hold params[0] of type SimpleNamespace; give handprop.Layer(W, b).",
        ),
        (
            (Layer(W(2, 2), None),),
            {"f": len},
            "cannot hold this meta; give a dict of JSON values, such as strings and numbers.",
        ),
        (
            (Layer(W(2, 2), None),),
            [1],
            "cannot hold this meta; give a dict of JSON values, such as strings and numbers.",
        ),
    ],
)
def test_what_cannot_be_saved(path, params, meta, expected):
    assert refuse(path, lambda: checkpoint.save(path, params, meta)) == expected
    assert not path.exists()


def test_places_that_cannot_be_written(tmp_path):
    advice = "choose a file in a folder you can write to."
    absent = tmp_path / "absent" / "p.npz"
    expected = f"cannot be written (No such file or directory); {advice}"
    assert refuse(absent, lambda: checkpoint.save(absent, random_params(), {})) == expected
    folder = tmp_path / "folder"
    folder.mkdir()
    expected = f"cannot be written (Is a directory); {advice}"
    assert refuse(folder, lambda: checkpoint.save(folder, random_params(), {})) == expected
    assert files(tmp_path) == ["folder"]


# ---- what cannot be loaded


def test_a_missing_file_and_a_folder(tmp_path):
    absent = tmp_path / "absent.npz"
    assert refuse(absent, lambda: checkpoint.load(absent)) == "does not exist; check the path."
    assert refuse(tmp_path, lambda: checkpoint.load(tmp_path)) == "is a folder; give the path of a file."


def test_a_file_that_may_not_be_read(monkeypatch, path):
    def forbid(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbid)
    expected = "cannot be opened (Permission denied); check its permissions."
    assert refuse(path, lambda: checkpoint.load(path)) == expected


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\1\0"])
def test_other_files(path, content):
    path.write_bytes(content)
    expected = "is not a handprop checkpoint, or is truncated; give a file that handprop saved."
    assert refuse(path, lambda: checkpoint.load(path)) == expected


def test_a_file_cut_anywhere_is_refused(path):
    checkpoint.save(path, random_params(), {"a": 1})
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        refuse(path, lambda: checkpoint.load(path))


def test_a_changed_byte_in_a_member_is_refused(path):
    params = random_params()
    checkpoint.save(path, params, {"marker": "spam"})
    whole = path.read_bytes()
    for needle, field in (
        (params[1].W.tobytes(), "params[1].W"),
        ("spam".encode("utf-32-le"), "handprop"),
    ):
        at = whole.index(needle)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert refuse(path, lambda: checkpoint.load(path)) == f"{field} is damaged; save it again."


def forge(path, header=None, drop=(), **changes):
    """A checkpoint with its header's fields or its members changed."""
    checkpoint.save(path, random_params(), {"a": 1})
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files}
    fields = json.loads(str(members["handprop"]))
    members["handprop"] = np.array(json.dumps(fields | (header or {})))
    members |= {name: np.asarray(value) for name, value in changes.items()}
    np.savez(path, **{name: value for name, value in members.items() if name not in drop})


FLOAT32 = {"W": "float32", "b": "float32"}
SAVE_AGAIN = "save it again."
FORGED = {
    "no header": ({"drop": ("handprop",)}, "has no member 'handprop'; give a file that handprop saved."),
    "header no JSON": ({"handprop": "{"}, f"handprop is not JSON; {SAVE_AGAIN}"),
    "header bytes": ({"handprop": np.arange(3)}, f"handprop is not JSON; {SAVE_AGAIN}"),
    "header a list": (
        {"handprop": "[1]"},
        "handprop.version is None, not 1; save it again with this handprop.",
    ),
    "version": (
        {"header": {"version": 2}},
        "handprop.version is 2, not 1; save it again with this handprop.",
    ),
    "layers": ({"header": {"layers": 3}}, f"handprop.layers is not a list of W and b; {SAVE_AGAIN}"),
    "layer": (
        {"header": {"layers": [{"W": "float32"}]}},
        f"handprop.layers is not a list of W and b; {SAVE_AGAIN}",
    ),
    "layer no object": (
        {"header": {"layers": [3]}},
        f"handprop.layers is not a list of W and b; {SAVE_AGAIN}",
    ),
    "dtype null": (
        {"header": {"layers": [{"W": None, "b": None}]}},
        f"handprop.layers names the dtype None for params[0].W, not a floating one; {SAVE_AGAIN}",
    ),
    "meta": ({"header": {"meta": [1]}}, f"handprop.meta is not an object; {SAVE_AGAIN}"),
    "W missing": ({"drop": ("params[1].W",)}, f"has no member 'params[1].W'; {SAVE_AGAIN}"),
    "b missing": ({"drop": ("params[0].b",)}, f"has no member 'params[0].b'; {SAVE_AGAIN}"),
    "layer too many": (
        {"header": {"layers": [FLOAT32] * 3}},
        f"has no member 'params[2].W'; {SAVE_AGAIN}",
    ),
    "layer too few": (
        {"header": {"layers": [FLOAT32]}},
        f"has a member 'params[1].W' that handprop.layers does not list; {SAVE_AGAIN}",
    ),
    "b not listed": (
        {"header": {"layers": [FLOAT32, {"W": "float32", "b": None}]}},
        f"has a member 'params[1].b' that handprop.layers does not list; {SAVE_AGAIN}",
    ),
    "no layers": (
        {"header": {"layers": []}, "drop": [f"params[{l}].{f}" for l in (0, 1) for f in "Wb"]},
        "has no layers; save at least one.",
    ),
    "unknown dtype": (
        {"header": {"layers": [FLOAT32, {"W": "float33", "b": None}]}},
        f"handprop.layers names the dtype 'float33' for params[1].W, not a floating one; {SAVE_AGAIN}",
    ),
    "integer dtype": (
        {"header": {"layers": [{"W": "int32", "b": None}]}},
        f"handprop.layers names the dtype 'int32' for params[0].W, not a floating one; {SAVE_AGAIN}",
    ),
    "dtype no name": (
        {"header": {"layers": [{"W": 3, "b": None}]}},
        f"handprop.layers names the dtype 3 for params[0].W, not a floating one; {SAVE_AGAIN}",
    ),
    "another dtype": (
        {"params[1].b": np.ones(2)},
        f"params[1].b is stored as float64, but its header says float32; {SAVE_AGAIN}",
    ),
    "bits of another width": (
        {"header": {"layers": [{"W": "bfloat16", "b": None}]}},
        f"params[0].W is stored as float32, but its header says bfloat16; {SAVE_AGAIN}",
    ),
    "shapes that do not chain": (
        {"params[1].W": np.ones((4, 2), np.float32)},
        "params[1].W has shape (4, 2), but params[0].W has (3, 5); give params[1].W 5 inputs.",
    ),
    "bias of another width": (
        {"params[0].b": np.ones(4, np.float32)},
        "params[0].b has shape (4,), but params[0].W needs (5,); correct b.",
    ),
    "W flat": (
        {"params[0].W": np.ones(5, np.float32)},
        "params[0].W has shape (5,); save weights of shape (I, O), both at least 1.",
    ),
    "pickle": ({"params[0].W": np.array([None])}, f"params[0].W is damaged; {SAVE_AGAIN}"),
}


@pytest.mark.parametrize(("changes", "expected"), FORGED.values(), ids=FORGED.keys())
def test_forged_files(path, changes, expected):
    forge(path, **changes)
    assert refuse(path, lambda: checkpoint.load(path)) == expected


def test_a_file_is_read_from_its_start_wherever_is_zipfile_stops(monkeypatch, path):
    checkpoint.save(path, random_params(), {})
    real = zipfile.is_zipfile

    def is_zipfile(file):
        found = real(file)
        file.seek(0, 2)
        return found

    monkeypatch.setattr(zipfile, "is_zipfile", is_zipfile)
    assert_same_bits(checkpoint.load(path)[0], random_params())


def test_an_unchanged_forgery_loads(path):
    forge(path)
    assert_same_bits(checkpoint.load(path)[0], random_params())


def test_a_member_that_is_no_array(path):
    checkpoint.save(path, random_params(sizes=(2, 1), bias=False), {})
    with zipfile.ZipFile(path) as archive:
        header = archive.read("handprop.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("handprop.npy", header)
        archive.writestr("params[0].W", b"text")
    assert refuse(path, lambda: checkpoint.load(path)) == f"has no member 'params[0].W'; {SAVE_AGAIN}"
