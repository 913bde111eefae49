"""The work of ``handprop verify`` and ``handprop audit``: import named objects, verify them, replay certificates."""

import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from handprop.verifier.auditing import Audit
    from handprop.verifier.report.report import Report

__all__ = [
    "Command",
    "CommandError",
    "compare_reports",
    "find",
    "merge_options",
    "parse_domains",
    "parse_shapes",
    "read_certificate",
    "run",
]

DTYPES = {"f": "float", "i": "int", "u": "uint", "s": "int", "c": "complex"}


class CommandError(ValueError):
    """The command cannot be carried out; the message is one sentence."""


AGAINST = ("reference", "satisfies", "surrogate")


class Command(NamedTuple):
    """A command as its certificate records it.

    ``rule``, ``args``, ``reference``, ``satisfies``, ``surrogate`` and ``loss`` are names such as ``pkg.module:rule``
    or ``path/to/file.py:rule``.
    """

    entry: str
    rule: str
    args: str | None = None
    shapes: str | None = None
    reference: str | None = None
    satisfies: str | None = None
    surrogate: str | None = None
    loss: str | None = None
    argnums: str | None = None
    domain: str | None = None
    accuracy: float = 0.0
    order: int = 1
    seed: int = 0
    budget: float = 30.0
    skip: str | None = None


def run(command: Command) -> "Report | Audit":
    """Run the entry of ``handprop.verifier`` that the command names. The report's certificate records the command.

    Raises:
        CommandError: a named object is missing or fails, or the options contradict each other.
    """
    _check(command)
    rule = find(command.rule)
    args = _arguments(command)
    named = {name: find(getattr(command, name)) for name in (*AGAINST, "loss") if getattr(command, name)}
    wide = any(str(getattr(arg, "dtype", "")) in ("float64", "complex128", "int64", "uint64") for arg in args)
    with _x64() if wide else nullcontext():
        report = _run(command, rule, args, named)
    kept = {name: value for name, value in command._asdict().items() if value is not None}
    return dataclasses.replace(report, certificate={**report.certificate, "command": kept})


def _check(command: Command) -> None:
    if (command.args is None) == (command.shapes is None):
        raise CommandError('give exactly one of --args pkg.module:make_args and --shapes "f32[32,784]".')
    given = [f"--{name}" for name in (*AGAINST, "loss") if getattr(command, name)]
    if len(given) > 1:
        raise CommandError(f"{' and '.join(given)} cannot be combined: each says what the gradient should be.")
    if command.order not in (1, 2):
        raise CommandError(f"--order must be 1 or 2; got {command.order}.")
    if not 0 <= command.seed < 2**32:
        raise CommandError(f"--seed must be a whole number from 0 to 4294967295; got {command.seed}.")
    if not 0 <= command.accuracy < 1:
        raise CommandError(f"--accuracy must be a relative error of at least 0 and below 1; got {command.accuracy:g}.")
    if not 0 < command.budget < float("inf"):
        raise CommandError(f"--budget must be a positive number of seconds; got {command.budget:g}.")


def _x64() -> Any:
    import jax

    return jax.enable_x64(True)


def _run(command: Command, rule: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> "Report | Audit":
    entries = importlib.import_module("handprop.verifier")
    name = "verify_gradient" if command.loss else command.entry
    entry = getattr(entries, name)
    functions = (rule, named["loss"]) if command.loss else (rule,)
    options = {"key": command.seed, "budget": command.budget, "order": command.order,
               "accuracy": command.accuracy}  # fmt: skip
    if command.domain is not None:
        options["domain"] = parse_domains(command.domain)
    options |= {name: named[name] for name in AGAINST if name in named}
    if command.argnums is not None:
        options["argnums"] = _argnums(command.argnums)
    if command.skip is not None:
        options["skip"] = tuple(re.split(r"[\s,]+", command.skip.strip(", ")))
    taken = set(inspect.signature(entry).parameters)
    if command.order != 1 and "order" not in taken:
        raise CommandError(f"--order {command.order} is not supported here; {name} checks only first derivatives.")
    try:
        return entry(*functions, *args, **{key: value for key, value in options.items() if key in taken})
    except entries.Unusable as error:
        raise CommandError(
            f"{command.rule} could not be verified: {' '.join(str(error).split()).rstrip('.')}."
        ) from error
    except (Exception, SystemExit) as error:
        raise CommandError(f"{command.rule} could not be verified: {_said(error)}") from error


def _argnums(text: str) -> int | tuple[int, ...]:
    """Parse positions as jax.grad takes them: ``"1"`` is one position, ``"0,1"`` and ``"1,"`` are tuples."""
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*,?\s*", text):
        raise CommandError(f'--argnums "{text}" is not understood; write positions such as 0 or 0,1.')
    numbers = tuple(int(part) for part in text.split(",") if part.strip())
    return numbers if "," in text else numbers[0]


def parse_domains(text: str) -> Any:
    """Parse ``"y=one_hot w=interval(0,1)"`` as the domains of these arguments, and ``"positive()"`` as that of all.

    >>> parse_domains("y=one_hot, w=interval(0, 1)")["y"].says
    'is one-hot in its rows'
    >>> parse_domains("any")
    'any'
    """
    item = r"(?:([\w.\[\]'\"]+)\s*=\s*)?(\w+)(?:\(([^()]*)\))?"
    if not re.fullmatch(rf"\s*(?:{item}[\s,]*)+", text):
        raise CommandError(f'--domain "{text}" is not understood; write "y=one_hot, w=interval(0, 1)".')
    found = [(name, _domain(kind, numbers)) for name, kind, numbers in re.findall(item, text)]
    if len(found) == 1 and not found[0][0]:
        return found[0][1]
    if not all(name for name, _ in found):
        raise CommandError(f'--domain "{text}" does not name the argument of each kind; write name=kind for each one.')
    return {int(name) if name.isdigit() else name: domain for name, domain in found}


def _domain(kind: str, numbers: str) -> Any:
    domains = importlib.import_module("handprop.verifier.domains")
    if kind == "any":
        return "any"
    kinds = sorted(set(domains.__all__) - {"Domain", "as_given", "image"})
    if kind not in kinds:
        raise CommandError(f"--domain {kind} is not known; choose one of any, {', '.join(kinds)}.")
    try:
        return getattr(domains, kind)(*(_number(part) for part in numbers.split(",") if part.strip()))
    except (TypeError, ValueError) as error:
        raise CommandError(f"--domain {kind}({numbers}) is not valid: {_said(error)}") from None


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"\s*-?\d+\s*", text) else float(text)


def _arguments(command: Command) -> tuple[Any, ...]:
    if command.shapes is not None:
        return parse_shapes(command.shapes)
    made = maker = find(str(command.args))
    if callable(maker):
        try:
            made: Any = maker()
        except (Exception, SystemExit) as error:
            raise CommandError(f"--args {command.args} failed: {_said(error)}") from error
    return tuple(made) if type(made) in (tuple, list) else (made,)


def parse_shapes(text: str) -> tuple[Any, ...]:
    """Parse ``"f32[32,784] bf16[]"`` as ``jax.ShapeDtypeStruct`` objects.

    >>> parse_shapes("f32[3, 4] i8[]")
    (ShapeDtypeStruct(shape=(3, 4), dtype=float32), ShapeDtypeStruct(shape=(), dtype=int8))
    """
    import jax
    import jax.numpy as jnp

    item = r"(\w+)\[([\d\s,]*)\]"
    if not re.fullmatch(rf"\s*({item}[\s,]*)+", text):
        raise CommandError(f'--shapes "{text}" is not understood; write shapes like "f32[32,784] f32[784,10]".')
    found = []
    for kind, sizes in re.findall(item, text):
        try:
            dtype = jnp.dtype(_dtype_name(kind))
            shape = tuple(int(size) for size in sizes.split(",") if size.strip())
            found.append(jax.ShapeDtypeStruct(shape, dtype))
        except (TypeError, ValueError):
            raise CommandError(
                f'--shapes "{text}": {kind}[{sizes}] is not a valid array type; write it like "f32[32,784]".'
            ) from None
    return tuple(found)


def _dtype_name(kind: str) -> str:
    if kind in ("bf16", "bool", "pred", "b1"):
        return "bfloat16" if kind == "bf16" else "bool"
    short = re.fullmatch(r"([fiusc])(\d+)", kind)
    return f"{DTYPES[short[1]]}{short[2]}" if short else kind


def find(name: str) -> Any:
    """Return the object with a name such as ``pkg.module:rule``, ``pkg.module:Class.rule`` or ``path/to/file.py:rule``.

    Raises:
        CommandError: there is no such module, file or attribute, or importing the module fails.
    """
    place, colon, attribute = name.rpartition(":")
    if not (colon and place and attribute):
        raise CommandError(f"{name} is not a full name; write pkg.module:rule or path/to/file.py:rule.")
    found = _script(Path(place)) if place.endswith(".py") else _module(place)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"{place} has no attribute {attribute}{_alike(part, found)}.") from None
        except (Exception, SystemExit) as error:
            raise CommandError(f"{name} cannot be looked up: {_said(error)}") from error
    return found


def _alike(name: str, owner: Any) -> str:
    import difflib

    close = difflib.get_close_matches(name, [known for known in vars(owner) if not known.startswith("__")], 1)
    return f"; perhaps you mean {close[0]}" if close else ""


def _module(name: str) -> Any:
    _on_path(Path.cwd())
    return _imported(name, lambda: importlib.import_module(name))


def _script(path: Path) -> Any:
    """Import a file as a module, as ``python path`` would: its folder comes first on the path."""
    if not path.is_file():
        raise CommandError(f"{path} is not a file; check the path.")
    path = path.resolve()
    _on_path(path.parent)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    load = spec.loader.exec_module
    if known is None:
        sys.modules[path.stem] = module
    try:
        _imported(str(path), lambda: load(module))
    except CommandError:
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        raise
    return module


def _on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _imported(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(f"no module {error.name} was found on the path or in this folder.") from None
        raise CommandError(f"importing {name} failed: {_said(error)}") from error
    except (Exception, SystemExit) as error:
        raise CommandError(f"importing {name} failed: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """Return the error as one line, with the innermost line of the user's code in its traceback."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": .")
    ours = (str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(ours) and "site-packages" not in frame.filename
    ]
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})." if frames else f"{said}."


def read_certificate(path: Path) -> "Report | Audit":
    """Read the report or the audit from a file that ``--json`` wrote. Raises CommandError."""
    from handprop.verifier.auditing import Audit, is_audit
    from handprop.verifier.report.report import Report

    try:
        text = path.read_text(encoding="utf-8")
        return Audit.from_json(text) if is_audit(text) else Report.from_json(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not text, so it is not a certificate.") from None
    except ValueError as error:
        raise CommandError(f"{path} is {str(error).rstrip('.')}.") from None


def merge_options(
    entry: str, rule: str | None, given: dict[str, Any], kept: "tuple[Path, Report | Audit] | None" = None
) -> Command:
    """Merge the given options with the command that a certificate records; given options take precedence.

    ``kept`` is the certificate's path and content.

    Raises:
        CommandError: no rule is named, or the certificate's command cannot be run.
    """
    base = _command_of(*kept) if kept and "command" in kept[1].certificate else None
    if rule is None and base is None:
        missing = f"{kept[0]} does not record a command, so name" if kept else "name"
        raise CommandError(f"{missing} the rule: handprop {entry} pkg.module:rule --args pkg.module:make_args.")
    if base is None:
        return Command(entry, str(rule), **given)
    if kept and base.entry != entry:
        raise CommandError(f"{kept[0]} was written by handprop {base.entry}; replay it with handprop {base.entry}.")
    for alternatives in (("args", "shapes"), (*AGAINST, "loss")):
        if set(alternatives) & set(given):
            base = base._replace(**dict.fromkeys(alternatives))
    return base._replace(**given, **({"rule": rule} if rule else {}))


def _command_of(path: Path, report: "Report | Audit") -> Command:
    kept, kinds = report.certificate["command"], inspect.get_annotations(Command)
    if not isinstance(kept, Mapping):
        raise CommandError(f"{path} records a command that cannot be run.")
    wrong = [name for name, value in kept.items() if name not in kinds or not isinstance(value, kinds[name])]
    if wrong or not {"entry", "rule"} <= set(kept) or kept["entry"] not in ("verify", "audit"):
        raise CommandError(f"{path} records a command that cannot be run ({', '.join(wrong) or 'incomplete'}).")
    return Command(**kept)


def compare_reports(old: "Report | Audit", new: "Report | Audit") -> tuple[str, str]:
    """Return two sentences: whether the programs and whether the verdict have changed since the certificate."""
    before, now = (report.certificate.get("hashes") for report in (old, new))
    if before is None or now is None:
        code = "The certificate does not say whether the code is the same."
    elif before == now:
        code = "The code is the same."
    else:
        code = f"The code has changed: {_parts(before, now)}."
    if old.verdict is new.verdict:
        return code, f"The verdict is the same: {new.verdict.name}."
    return code, f"The verdict was {old.verdict.name} and is {new.verdict.name}."


def _parts(before: Any, now: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return "the programs are different"
    return ", ".join(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
