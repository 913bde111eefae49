"""Statements of the user's functions: which there are, what they read and assign, and which are related."""

import ast
import types
from typing import Any

from handprop.verifier.problem import Problem
from handprop.verifier.repair.source.functions import RULES, Place, functions, place_of
from handprop.verifier.repair.source.trees import slots

__all__ = [
    "assigned",
    "editable",
    "end_of",
    "is_alias",
    "last_line",
    "neighbours",
    "parameters_of",
    "part_of",
    "read",
    "renamings",
    "returned",
    "statements",
    "unpacks",
]


def statements(live: list[types.FunctionType]) -> list[Place]:
    """Return every statement of the functions once."""
    found: dict[int, Place] = {}
    for f in live:
        for line in range(f.__code__.co_firstlineno, end_of(f.__code__) + 1):
            place = place_of(f.__code__.co_filename, line, live)
            if place is not None:
                found.setdefault(id(place.body), place)
    return list(found.values())


def editable(problem: Problem) -> list[types.FunctionType]:
    """Return the user's functions that a fix may change.

    Functions that the reference uses are excluded, because the reference would change with them.
    """
    original = {f.__code__ for f in functions(problem.original, primal=True)}
    return [f for f in functions(problem.written) if f.__code__ not in original]


def part_of(problem: Problem, *names: str) -> types.FunctionType | None:
    """Return the first of the named parts (``fwd``, ``bwd``, ``jvp``) that the rule has, as the user wrote it."""
    f = next((part for name in names if (part := getattr(problem.written, name, None)) is not None), None)
    f = getattr(f, "__wrapped__", f)
    return f if isinstance(f, types.FunctionType) else None


def parameters_of(problem: Problem) -> tuple[str, ...]:
    """Return the names of a backward pass's last two parameters, residuals and cotangent, or fewer if it has fewer."""
    bwd = part_of(problem, "bwd")
    return () if bwd is None else bwd.__code__.co_varnames[: bwd.__code__.co_argcount][-2:]


def last_line(problem: Problem) -> Place | None:
    """Return the place where the backward pass, or the function itself, forms its result."""
    rule = problem.written
    f = part_of(problem, "bwd", "jvp") if isinstance(rule, RULES) else getattr(rule, "__wrapped__", rule)
    return _end_of(f, functions(rule))


def renamings(problem: Problem) -> list[Place]:
    """Return the statements ``a = b``, which make no equation."""
    return [place for place in statements(editable(problem)) if is_alias(place)]


def neighbours(problem: Problem, place: Place, edited: ast.AST) -> list[tuple[Place, str]]:
    """Return the statements related to one, with the reason for each.

    First come those that assign the one name that ``edited``, a part of the statement, reads, then those that read what
    the statement assigns, then those that assign its other names. Residuals are assigned where ``fwd`` returns them.
    """
    live = editable(problem)
    every = statements(live)
    others = [p for p in every if p.scopes[-1] is place.scopes[-1] and p.body is not place.body]
    made, needed = assigned(place.body), read(place.body)
    here = {node.id for node in ast.walk(edited) if isinstance(node, ast.Name)}
    saved, kept = _end_of(part_of(problem, "fwd"), live), set(parameters_of(problem)[:-1])
    near = [p for p in others if len(here) == 1 and assigned(p.body) & here]
    users = [(p, "this line reads the wrong value") for p in others if read(p.body) & made]
    if saved is not None and place.body is saved.body:
        users = [(p, "this line reads the saved value") for p in every if p.scopes[0] is not place.scopes[0]
                 and read(p.body) & here and not unpacks(p)]  # fmt: skip
    makers = sorted((p for p in others if assigned(p.body) & needed), key=unpacks)

    def made_by(p: Place) -> tuple[Place, str]:
        if saved is not None and unpacks(p) and read(p.body) & kept:
            return saved, "this line saves the residual that the wrong line reads"
        return p, "this line computes a value that the wrong line reads"

    hands_on = [(p, why) for p, why in users if _only_returns(p)]
    return [*map(made_by, near), *(u for u in users if u not in hands_on), *map(made_by, makers), *hands_on]


def _only_returns(place: Place) -> bool:
    """Whether the statement is a plain ``return a, b``, in which little can be wrong."""
    value = place.body.value if isinstance(place.body, ast.Return) else None
    return all(isinstance(item, ast.Name) for item in (value.elts if isinstance(value, ast.Tuple) else [value]))


def _end_of(f: Any, live: list[types.FunctionType]) -> Place | None:
    """Return a function's last statement."""
    if not isinstance(f, types.FunctionType):
        return None
    return place_of(f.__code__.co_filename, end_of(f.__code__), live)


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
    """Return the names that the statement's function returns."""
    returns = [node for node in ast.walk(place.scopes[-1]) if isinstance(node, ast.Return)]
    return {name for node in returns for name in read(node)}


def end_of(code: types.CodeType) -> int:
    own = [line for _, _, line in code.co_lines() if line]
    return max(
        [*own, *(end_of(c) for c in code.co_consts if isinstance(c, types.CodeType))], default=code.co_firstlineno
    )
