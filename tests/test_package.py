"""What ``import handprop`` costs, what it offers, and who may import whom."""

import ast
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

# From the ground up: a module imports only modules that stand before it. Folders count as one module.
ORDER = [
    "_jax_versions",
    "verify",
    "_inputs",
    "activations",
    "losses",
    "products",
    "fast",
    "mlp",
    "quantities",
    "population",
    "streamed",
    "shuffling",
    "train",
    "__init__",
    "data",
    "checkpoint",
    "files",
    "plots",
    "demo",
    "fit",
    "verify_cli",
    "cli",
    "__main__",
    "pytest_plugin",
]
OPTIONAL = {"rich", "tyro", "sklearn", "pandas", "matplotlib", "pytest", "hypothesis"}
AUTODIFF = {
    "grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose", "hessian", "jacobian",
    "jacfwd", "jacrev", "custom_vjp", "custom_jvp", "custom_gradient", "checkpoint", "remat",
}  # fmt: skip


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def components() -> dict[str, list[Path]]:
    """The modules of handprop by the first part of their name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return found


def imported_modules(path: Path) -> set[str]:
    """The components of handprop that a file imports, anywhere in it."""
    here = ["handprop", *path.relative_to(PACKAGE).parts[:-1]]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])
            origin = base if node.level else node.module or ""
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == "handprop"]
    return {p[1] if len(p) > 1 and p[1] in components() else "__init__" for p in parts}


def closure(component: str) -> set[str]:
    """A component and everything of handprop that it rests on."""
    reached, open_ = set(), {component}
    while open_:
        reached |= open_
        open_ = {m for c in open_ for path in components()[c] for m in imported_modules(path)} - reached
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
    for name in handprop.__all__:
        assert hasattr(handprop, name), f"handprop.{name} is in __all__ but does not exist"
    assert len(set(handprop.__all__)) == len(handprop.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        (node.module, a.asname or a.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("handprop")
        for a in node.names
    }
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in {name for _, name in imported} | defined if not name.startswith("_")} == set(
        handprop.__all__
    )
    assert {(f"handprop.{home}", name) for name, home in handprop._HOME.items()} == imported  # as the type checker sees


def test_import_alone_loads_no_jax() -> None:
    code = """
import json, sys
import handprop, handprop.pytest_plugin
assert "mlp" in dir(handprop)
try:
    handprop.nothing
except AttributeError as error:
    assert "no attribute 'nothing'" in str(error)
else:
    raise AssertionError
print(json.dumps(sorted({"jax", "jaxlib", "numpy", "optax"} & set(sys.modules))))
"""
    assert json.loads(run_python(code)) == []


@pytest.mark.parametrize("first", ["import handprop.train", "from handprop.mlp import MLP", "import handprop.demo"])
def test_functions_keep_their_names_whatever_is_imported_first(first: str) -> None:
    """``handprop.mlp`` and ``handprop.train`` are functions, though modules have these names too."""
    code = f"""
{first}
import handprop
assert callable(handprop.mlp) and callable(handprop.train), (handprop.mlp, handprop.train)
from handprop import mlp, train
import handprop.train, handprop.mlp
assert handprop.mlp is mlp and handprop.train is train
assert sys.modules["handprop.mlp"].mlp is mlp
"""
    run_python(f"import sys\n{code}")


@pytest.mark.parametrize("component", sorted(components()))
def test_every_module_has_an_explicit_all_that_exists(component: str) -> None:
    if component == "__main__":
        pytest.skip("a script, imported by nobody")
    name = "handprop" if component == "__init__" else f"handprop.{component}"
    module = importlib.import_module(name)
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


NOT_LOCKED = {"bench"}  # the benchmark's peers: torch is too large and bound to a platform


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


@pytest.mark.parametrize("component", sorted(components()))
def test_imports_go_one_way(component: str) -> None:
    assert component in ORDER, f"handprop/{component} has no place in ORDER yet"
    allowed = {*ORDER[: ORDER.index(component)], component}
    for path in components()[component]:
        against = imported_modules(path) - allowed
        assert not against, f"{path.relative_to(ROOT)} imports {sorted(against)}, which stand above it"


def test_the_verifier_knows_nothing_of_networks() -> None:
    assert closure("verify") == {"verify", "_jax_versions"}


@pytest.mark.parametrize("component", sorted(closure("mlp")))
def test_the_derivation_mentions_no_autodiff(component: str) -> None:
    for path in components()[component]:
        assert not list(autodiff_calls(path.read_text(encoding="utf-8"))), path


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
