"""Edit the user's functions in memory: their source as trees, and copies of them that run an edited tree.

Source text is used only if compiling it gives exactly the bytecode that is running, so code that has changed on disk or
was generated is left alone. Of a file, only the functions that the user passed in are run, with their edits, and
functions of the same parameters that an edit calls in place of one of them.
"""

import ast
import functools
import linecache
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from handprop.verifier.internal import call_users
from handprop.verifier.programs import frames
from handprop.verifier.repair.source.trees import HEADERS

__all__ = ["RULES", "DoesNotCompile", "Place", "columns_of", "compiled", "functions", "place_of", "quoted", "rebuilt",
           "siblings", "text_of"]  # fmt: skip

RULES = (jax.custom_vjp, jax.custom_jvp)


def text_of(file: str) -> list[str]:
    """Return the file's lines without line endings."""
    return [line.rstrip("\n") for line in linecache.getlines(file)]


def columns_of(text: str, start: int, end: int | None) -> tuple[int, int]:
    """Convert Python's byte columns to character columns, at least one wide; ``end`` None is the line's end."""
    line = text.encode()
    first, last = (len(line[:column].decode(errors="ignore")) for column in (start, end))
    return first, max(last, first + 1)


def quoted(frame: frames.Frame) -> tuple[str, tuple[int, int]]:
    """Return a frame's source line and its columns in it; the text is empty if the file has no such line."""
    lines = text_of(frame.file)
    text = lines[frame.line - 1] if 0 < frame.line <= len(lines) else ""
    return text, columns_of(text, frame.column, frame.end_column if frame.end_line == frame.line else None)


class Place(NamedTuple):
    """A line of a live function.

    ``top`` is the module's statement that contains it, and ``imports`` are the module's imports. ``path`` leads to the
    function's ``code`` in what ``top`` compiles to. ``scopes`` are the functions around the line, outermost first, and
    ``body`` is the statement or lambda to edit.
    """

    file: str
    line: int
    imports: tuple[ast.stmt, ...]
    top: ast.stmt
    code: types.CodeType
    path: tuple[int, ...]
    scopes: tuple[ast.AST, ...]
    body: ast.AST


def functions(root: Any, but: Any = None, primal: bool = False) -> list[types.FunctionType]:
    """Return the user's functions that ``root`` reaches through closures, globals, wrappers and rules.

    ``but`` is not followed. With ``primal``, only a rule's primal function is followed, which is what autodiff
    differentiates.
    """
    found: dict[int, types.FunctionType] = {}

    seen: set[int] = {id(but)}

    def once(item: Any) -> None:
        if id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, types.FunctionType) and frames.is_users(item.__code__.co_filename):
                found[id(item)] = item
            for name, part in _parts(item):
                if not primal or not isinstance(item, RULES) or name == "fun":
                    once(part)

    once(root)
    return list(found.values())


def _parts(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, types.FunctionType):
        users = frames.is_users(item.__code__.co_filename)
        if not users and not item.__code__.co_filename.startswith(frames.JAX):  # jax.vmap(f) and the like hold f
            return
        for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
            if (held := _held(cell)) is not None and _is_followed(held):
                yield name, held
        for name in _names(item.__code__) if users else ():
            if name in item.__globals__ and _is_followed(item.__globals__[name]):
                yield name, item.__globals__[name]
        return
    if isinstance(item, RULES):
        if isinstance(item.fun, types.FunctionType) and not frames.is_users(item.fun.__code__.co_filename):
            return
        for name in ("fwd", "bwd", "jvp", "fun"):
            if _is_followed(getattr(item, name, None)):
                yield name, getattr(item, name)
    elif isinstance(item, functools.partial):
        yield "func", item.func
    elif hasattr(item, "__wrapped__"):
        yield "__wrapped__", item.__wrapped__


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_followed(item: Any) -> bool:
    if isinstance(item, (types.FunctionType, functools.partial, *RULES)):
        return True
    return callable(item) and not isinstance(item, type) and hasattr(item, "__wrapped__")


@functools.lru_cache(4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return tuple(dict.fromkeys([*code.co_names, *(name for c in inner for name in _names(c))]))


# Trees


@functools.lru_cache(64)
def _module(text: tuple[str, ...]) -> ast.Module:
    return ast.parse("\n".join(text) + "\n")


def place_of(file: str, line: int, live: list[types.FunctionType]) -> Place | None:
    """Return the place of the line, or None if it is in no live function whose source is what runs."""
    try:
        module = _module(tuple(text_of(file)))
    except (SyntaxError, ValueError):
        return None
    top = next((s for s in module.body if _holds(s, line)), None)
    if top is None:
        return None
    imports = tuple(s for s in module.body if isinstance(s, ast.Import | ast.ImportFrom) and not _is_future(s))
    for function in live:
        code = function.__code__
        if code.co_filename != file:
            continue
        path = _path_to(_compile(imports, top, file, code), code)
        if path is None:
            continue
        scopes = _scopes(top, line)
        if not scopes or not any(_starts(scope) == code.co_firstlineno for scope in scopes):
            continue
        body = _body(scopes[-1], line)
        if body is not None:
            return Place(file, line, imports, top, code, path, scopes, body)
    return None


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _holds(node: Any, line: int) -> bool:
    start = _starts(node)
    return start <= line <= (node.end_lineno or node.lineno)


def _starts(node: Any) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _scopes(top: ast.stmt, line: int) -> tuple[ast.AST, ...]:
    """Return the functions that contain the line, outermost first."""
    kinds = (ast.FunctionDef, ast.Lambda)
    return tuple(node for node in ast.walk(top) if isinstance(node, kinds) and _holds(node, line))


def _body(scope: Any, line: int) -> ast.AST | None:
    if isinstance(scope, ast.Lambda):
        return scope
    simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
    found = next((n for n in ast.walk(scope) if isinstance(n, simple) and _holds(n, line)), None)
    return found or next((n for n in ast.walk(scope) if _is_header(n, line)), None)


def _is_header(node: ast.AST, line: int) -> bool:
    """Whether the line is in the header of this loop or condition."""
    field = HEADERS.get(type(node))
    return field is not None and node.lineno <= line <= getattr(node, field).end_lineno  # pyright: ignore[reportAttributeAccessIssue]


def _compile(imports: tuple[ast.stmt, ...], top: ast.stmt, file: str, like: types.CodeType) -> types.CodeType:
    """Compile the statement after the module's imports, because the compiler emits other calls for imported names."""
    future = like.co_flags & 0x1000000  # annotations
    return compile(ast.Module([*imports, top], []), file, "exec", flags=future, dont_inherit=True)


def _children(code: types.CodeType) -> list[types.CodeType]:
    return [c for c in code.co_consts if isinstance(c, types.CodeType)]


def _path_to(code: types.CodeType, wanted: types.CodeType) -> tuple[int, ...] | None:
    for i, child in enumerate(_children(code)):
        if child.co_name == wanted.co_name and child.co_firstlineno == wanted.co_firstlineno and child == wanted:
            return (i,)
        if (rest := _path_to(child, wanted)) is not None:
            return (i, *rest)
    return None


class DoesNotCompile(Exception):
    """An edited tree is not a program, or no longer contains the function."""


def compiled(place: Place) -> types.CodeType:
    """Return the function's code, compiled from its tree as it is now.

    Raises:
        DoesNotCompile: the tree was edited so that it has no such code.
    """
    try:
        code = _compile(place.imports, place.top, place.file, place.code)
    except (SyntaxError, ValueError, TypeError) as error:
        raise DoesNotCompile from error
    for i in place.path:
        inner = _children(code)
        if i >= len(inner):
            raise DoesNotCompile
        code = inner[i]
    return code


# Copies


def rebuilt(root: Any, codes: dict[types.CodeType, types.CodeType], given: dict[str, Any] | None = None) -> Any:
    """Return a copy of ``root`` whose functions run the code objects that ``codes`` gives for theirs.

    The backward passes of rules keep their own source lines. Objects that lead to no replaced function are not copied.
    ``given`` holds globals for the edited functions only.

    Raises:
        KeyError: edited code needs a variable that neither its function nor a sibling function holds.
    """
    made: dict[int, Any] = {}
    live = functools.cache(lambda: functions(root))

    def copied(item: Any) -> Any:
        if id(item) in made:
            return made[id(item)]
        if isinstance(item, RULES):
            return _copied_rule(item, made, copied)
        made[id(item)] = item
        changed = {name: new for name, part in _parts(item) if (new := copied(part)) is not part}
        if isinstance(item, types.FunctionType):
            code = codes.get(item.__code__, item.__code__)
            if changed or code is not item.__code__:
                more = given or {} if code is not item.__code__ else {}
                lent = siblings(item, live()) if set(code.co_freevars) - set(item.__code__.co_freevars) else {}
                made[id(item)] = _copied_function(item, code, changed, more, lent)
        elif changed and isinstance(item, functools.partial):
            made[id(item)] = functools.partial(changed["func"], *item.args, **item.keywords)
        elif changed:
            made[id(item)] = changed["__wrapped__"]
        return made[id(item)]

    return copied(root)


def _copied_rule(rule: Any, made: dict[int, Any], copied: Callable[[Any], Any]) -> Any:
    parts = dict(_parts(rule))
    if not parts:
        made[id(rule)] = rule
        return rule
    made[id(rule)] = new = type(rule)(rule.fun)
    vars(new).update(vars(rule))
    for name, part in parts.items():
        setattr(new, name, copied(part))
    if "bwd" in parts:
        new.bwd = _with_own_lines(new.bwd)
    return new


def _with_own_lines(bwd: Callable) -> Callable:
    @functools.wraps(bwd)
    def traced(*args: Any) -> Any:
        with frames.own_lines():
            return call_users(bwd, *args)

    return traced


def siblings(f: types.FunctionType, live: list[types.FunctionType]) -> dict[str, types.CellType]:
    """Return the closure cells of functions defined beside ``f``, for the names on which these functions agree."""
    found: dict[str, types.CellType] = {}
    parted: set[str] = set()
    scope = f.__module__, f.__qualname__.rpartition(".")[0]
    for other in (g for g in live if (g.__module__, g.__qualname__.rpartition(".")[0]) == scope):
        for name, cell in zip(other.__code__.co_freevars, other.__closure__ or (), strict=True):
            parted |= {name} if found.setdefault(name, cell) is not cell or _held(cell) is None else set()
    return {name: cell for name, cell in found.items() if name not in parted}


def _copied_function(f: types.FunctionType, code: types.CodeType, changed: dict[str, Any], given: dict[str, Any],
                     lent: dict[str, types.CellType]) -> types.FunctionType:  # fmt: skip
    cells = lent | dict(zip(f.__code__.co_freevars, f.__closure__ or (), strict=True))
    closure = tuple(types.CellType(changed[n]) if n in changed else cells[n] for n in code.co_freevars)
    outside = {name: new for name, new in changed.items() if name not in cells} | given
    new = types.FunctionType(
        code, {**f.__globals__, **outside} if outside else f.__globals__, f.__name__, f.__defaults__, closure
    )
    new.__kwdefaults__ = f.__kwdefaults__
    return new
