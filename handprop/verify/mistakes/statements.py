"""Statements of the user's functions: which they are, what they read and make, and which stand beside which."""

import ast
import types

from handprop.verify.mistakes.source import Place, functions, place_of
from handprop.verify.mistakes.trees import slots
from handprop.verify.subject import Subject

__all__ = [
    "assigned",
    "editable",
    "end_of",
    "is_alias",
    "last_line",
    "neighbours",
    "read",
    "renamings",
    "returned",
    "statements",
    "unpacks",
]


def statements(live: list[types.FunctionType]) -> list[Place]:
    """Every statement of the functions, once."""
    found: dict[int, Place] = {}
    for f in live:
        for line in range(f.__code__.co_firstlineno, end_of(f.__code__) + 1):
            place = place_of(f.__code__.co_filename, line, live)
            if place is not None:
                found.setdefault(id(place.body), place)
    return list(found.values())


def editable(subject: Subject) -> list[types.FunctionType]:
    """The user's functions that a fix may change: not those that the reference is made of, which would change with
    them."""
    original = {f.__code__ for f in functions(subject.original, primal=True)}
    return [f for f in functions(subject.written) if f.__code__ not in original]


def last_line(subject: Subject) -> Place | None:
    """Where the backward pass, or the function itself, forms what it returns."""
    rule = subject.written
    f = getattr(rule, "bwd", None) or getattr(rule, "jvp", None) or rule
    f = getattr(f, "__wrapped__", f)
    if not isinstance(f, types.FunctionType):
        return None
    return place_of(f.__code__.co_filename, end_of(f.__code__), functions(rule))


def renamings(subject: Subject) -> list[Place]:
    """Statements ``a = b``, which make no equation."""
    return [place for place in statements(editable(subject)) if is_alias(place)]


def neighbours(subject: Subject, place: Place, edited: ast.expr) -> list[tuple[Place, str]]:
    """Statements of the same function beside an edited one: those that make what the edited expression reads, those
    that read what the statement makes, then those that make what else it reads."""
    others = [p for p in statements(editable(subject))
              if p.scopes[-1] is place.scopes[-1] and p.body is not place.body]  # fmt: skip
    made, needed = assigned(place.body), read(place.body)
    here = {node.id for node in ast.walk(edited) if isinstance(node, ast.Name)}
    near = [(p, "it makes what is read here") for p in others if len(here) == 1 and assigned(p.body) & here]
    users = [(p, "it reads what is wrong") for p in others if read(p.body) & made]
    return near + users + [(p, "it makes what is read here") for p in others if assigned(p.body) & needed]


def is_alias(place: Place) -> bool:
    return (isinstance(place.body, ast.Assign) and isinstance(place.body.value, ast.Name)
            and all(isinstance(target, ast.Name) for target in place.body.targets))  # fmt: skip


def unpacks(place: Place) -> bool:
    return isinstance(place.body, ast.Assign) and isinstance(place.body.value, ast.Name)


def read(body: ast.AST) -> set[str]:
    return {slot.node.id for slot in slots(body) if isinstance(slot.node, ast.Name)}


def assigned(body: ast.AST) -> set[str]:
    targets = getattr(body, "targets", []) or [getattr(body, "target", None)]
    return {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)}


def returned(place: Place) -> set[str]:
    """The names that the statement's function returns."""
    returns = [node for node in ast.walk(place.scopes[-1]) if isinstance(node, ast.Return)]
    return {name for node in returns for name in read(node)}


def end_of(code: types.CodeType) -> int:
    own = [line for _, _, line in code.co_lines() if line]
    return max(
        [*own, *(end_of(c) for c in code.co_consts if isinstance(c, types.CodeType))], default=code.co_firstlineno
    )
