"""What ``import handprop`` costs, what it offers, and who may import whom."""

import ast
import graphlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import handprop

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "handprop"

# From the ground up: a room imports only rooms that stand before it.
ROOMS = ["_compat", "_files", "verifier", "nn", "training", "data", "_api", "__init__", "cli", "pytest_plugin"]
OPTIONAL = {"rich", "tyro", "sklearn", "pandas", "matplotlib", "pytest", "hypothesis"}
AUTODIFF = {
    "grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose", "hessian", "jacobian",
    "jacfwd", "jacrev", "custom_vjp", "custom_jvp", "custom_gradient", "checkpoint", "remat",
}  # fmt: skip


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def named(path: Path) -> str:
    """A file's dotted name within handprop, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {named(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(module: str) -> set[str]:
    """The modules of handprop that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {nearest(name) for name in names if name.split(".")[0] == "handprop"} - {module}


def nearest(name: str) -> str:
    """The module that an imported name is, or is in."""
    parts = name.split(".")[1:]
    return next(found for i in range(len(parts), -1, -1) if (found := ".".join(parts[:i])) in MODULES)


def room(module: str) -> str:
    return module.split(".")[0] or "__init__"


def closure(module: str) -> set[str]:
    """A module and everything of handprop that it rests on."""
    reached, open_ = set(), {module}
    while open_:
        reached |= open_
        open_ = {m for c in open_ for m in imported_modules(c)} - reached
    return reached


def autodiff_calls(source: str) -> Iterator[str]:
    """Every mention of JAX's autodiff in code: ``jax.grad``, ``from jax import vjp``, under any alias."""
    tree = ast.parse(source)
    from_jax = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        for alias in getattr(node, "names", [])
        if (isinstance(node, ast.Import) and alias.name.split(".")[0] == "jax")
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax":
            yield from (f"line {node.lineno}: {a.name}" for a in node.names if a.name in {*AUTODIFF, "ad", "*"})
        elif isinstance(node, ast.Attribute) and node.attr in AUTODIFF:
            base: ast.expr = node
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in from_jax:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_import_opens_no_device_and_loads_nothing_optional() -> None:
    code = """
import json, sys
import jax, optax
before = {name.split(".")[0] for name in sys.modules}
import handprop
from jax._src import xla_bridge
after = {name.split(".")[0] for name in sys.modules}
opened = xla_bridge.backends_are_initialized()
print(json.dumps([opened, sorted(after - before - set(sys.stdlib_module_names))]))
"""
    opened, added = json.loads(run_python(code))
    assert not opened
    assert added == ["handprop"]
    assert not OPTIONAL & set(added)


def test_import_leaves_global_configuration_alone() -> None:
    code = """
import jax, optax
before = dict(jax.config.values)
import handprop
print(dict(jax.config.values) == before)
"""
    assert run_python(code).strip() == "True"


def test_all_is_explicit_and_complete() -> None:
    """Each public name is listed once, in ``handprop/_api.py``, which type checkers read too."""
    tree = ast.parse((PACKAGE / "_api.py").read_text(encoding="utf-8"))
    imported = [a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]
    assert sorted(imported) == sorted(handprop.__all__)
    for name in handprop.__all__:
        assert hasattr(handprop, name), f"handprop.{name} is in __all__ but does not exist"
    assert set(handprop.__all__) <= set(dir(handprop))


def test_import_alone_loads_no_jax() -> None:
    code = """
import json, sys
import handprop, handprop.pytest_plugin
print(json.dumps(sorted({"jax", "jaxlib", "numpy", "optax"} & set(sys.modules))))
"""
    assert json.loads(run_python(code)) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = handprop.nothing


def test_no_public_name_is_a_module_too() -> None:
    """``import handprop.anything as m`` is the module, and ``handprop.mlp`` the function, whatever came first."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert not modules & set(handprop.__all__)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_has_an_explicit_all_that_exists(name: str) -> None:
    module = importlib.import_module(f"handprop.{name}".removesuffix("."))
    if MODULES[name].name == "__init__.py" and len(MODULES[name].read_text(encoding="utf-8").splitlines()) < 4:
        return  # a room's sign
    assert isinstance(module.__all__, list | tuple)
    for public in module.__all__:
        assert hasattr(module, public), f"{name}.{public} is in __all__ but does not exist"


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert handprop.__version__ == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        assert importlib.metadata.version("handprop") == handprop.__version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("handprop is not installed here")


def test_runtime_dependencies_are_three() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", d).group() for d in project["dependencies"]} == {"jax", "jaxlib", "optax"}


NOT_LOCKED = {"bench", "study"}  # peers and libraries that are measured: large, or pinned for one version of Python


def test_every_requirement_is_locked_with_hashes_and_no_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    wanted = [
        *project["dependencies"],
        *(d for name, extra in project["optional-dependencies"].items() if name not in NOT_LOCKED for d in extra),
    ]
    names = {re.match(r"[\w-]+", d).group() for d in wanted} - {"handprop"}
    pinned = re.findall(r"^([\w.-]+)==[^\\\n]*\\\n +--hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert names <= set(pinned)
    assert not {"torch", "flax", "equinox"} & set(pinned)
    assert len(pinned) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE))
    assert "://" not in lock


def test_imports_make_no_circle() -> None:
    graphlib.TopologicalSorter({module: imported_modules(module) for module in MODULES if module}).prepare()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rooms_import_those_before_them(name: str) -> None:
    assert room(name) in ROOMS, f"handprop/{room(name)} has no place in ROOMS yet"
    allowed = {*ROOMS[: ROOMS.index(room(name)) + 1]}
    against = {module for module in imported_modules(name) if room(module) not in allowed}
    assert not against, f"{name} imports {sorted(against)}, which stand above it"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("verifier.programs.")))
def test_programs_know_nothing_of_what_is_made_of_them(name: str) -> None:
    allowed = ("verifier.programs", "verifier.internal", "_compat")
    assert {module for module in closure(name) if not module.startswith(allowed)} == set()


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("verifier.proof.field.")))
def test_the_field_knows_nothing_of_proofs(name: str) -> None:
    allowed = ("verifier.programs", "verifier.proof.field", "verifier.internal", "_compat")
    assert {module for module in closure(name) if not module.startswith(allowed)} == set()


def lengths(path: Path) -> dict[str, int]:
    """Lines of the module, and of each function but for its docstring."""
    text = path.read_text(encoding="utf-8")
    found = {"": len(text.splitlines())}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            found[node.name] = (node.end_lineno or 0) - node.lineno + 1 - docstring
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_and_functions_are_short(name: str) -> None:
    module, *functions = lengths(MODULES[name]).items()
    assert module[1] <= (150 if name == "nn.backprop" else 400)
    assert {name: lines for name, lines in functions if lines > 60} == {}


def test_the_verifier_knows_nothing_of_networks() -> None:
    assert {room(module) for module in closure("verifier")} == {"verifier", "_compat"}


def test_networks_know_nothing_of_the_verifier_of_files_and_of_optimizers() -> None:
    assert {room(module) for name in MODULES if room(name) == "nn" for module in closure(name)} <= {"nn", "_compat"}


@pytest.mark.parametrize("name", sorted(closure("nn.mlp")))
def test_the_derivation_mentions_no_autodiff(name: str) -> None:
    assert not list(autodiff_calls(MODULES[name].read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    [
        "import jax\njax.grad(f)",
        "import jax as j\nj.value_and_grad(f)",
        "import jax.numpy as jnp, jax\njax.numpy.x; jax.vjp(f)",
        "from jax import jvp as push",
        "from jax import lax, api\napi.linearize(f)",
        "from jax.interpreters import ad",
        "def late():\n    from jax import grad",
    ],
)
def test_a_mention_of_autodiff_would_be_seen(source: str) -> None:
    assert list(autodiff_calls(source))


@pytest.mark.parametrize("source", ["net.value_and_grad(p)", '"""jax.grad"""', "import jax\njax.nn.sigmoid(z)"])
def test_what_is_not_autodiff_is_not_taken_for_it(source: str) -> None:
    assert not list(autodiff_calls(source))


def test_the_backward_runs_with_autodiff_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise AssertionError("autodiff was called")

    net = handprop.mlp((3, 4, 2), hidden="tanh", output="softmax", loss="softmax_cross_entropy")
    params = net.init(jax.random.key(0))
    x, y = jnp.ones((5, 3)), jnp.zeros((5,), jnp.int32)
    for name in AUTODIFF - {"checkpoint", "remat", "custom_gradient"}:
        if hasattr(jax, name):
            monkeypatch.setattr(jax, name, gone)
    value, grads = jax.jit(net.value_and_grad)(params, x, y)
    trace = net.backprop(params, x, y)
    assert jnp.isfinite(value)
    assert jnp.isfinite(trace.value)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
