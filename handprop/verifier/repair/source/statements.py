"""Statements of the user's functions: which they are, what they read and make, and which stand beside which."""

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
    """Every statement of the functions, once."""
    found: dict[int, Place] = {}
    for f in live:
        for line in range(f.__code__.co_firstlineno, end_of(f.__code__) + 1):
            place = place_of(f.__code__.co_filename, line, live)
            if place is not None:
                found.setdefault(id(place.body), place)
    return list(found.values())


def editable(problem: Problem) -> list[types.FunctionType]:
    """The user's functions that a fix may change: not those that the reference is made of, which would change with
    them."""
    original = {f.__code__ for f in functions(problem.original, primal=True)}
    return [f for f in functions(problem.written) if f.__code__ not in original]


def part_of(problem: Problem, *names: str) -> types.FunctionType | None:
    """The first of a rule's parts (``fwd``, ``bwd``, ``jvp``) that it has, as the user wrote it."""
    f = next((part for name in names if (part := getattr(problem.written, name, None)) is not None), None)
    f = getattr(f, "__wrapped__", f)
    return f if isinstance(f, types.FunctionType) else None


def parameters_of(problem: Problem) -> tuple[str, ...]:
    """The names of a backward pass's last two parameters, residuals and cotangent; of fewer, those."""
    bwd = part_of(problem, "bwd")
    return () if bwd is None else bwd.__code__.co_varnames[: bwd.__code__.co_argcount][-2:]


def last_line(problem: Problem) -> Place | None:
    """Where the backward pass, or the function itself, forms what it returns."""
    rule = problem.written
    f = part_of(problem, "bwd", "jvp") if isinstance(rule, RULES) else getattr(rule, "__wrapped__", rule)
    return _end_of(f, functions(rule))


def renamings(problem: Problem) -> list[Place]:
    """Statements ``a = b``, which make no equation."""
    return [place for place in statements(editable(problem)) if is_alias(place)]


def neighbours(problem: Problem, place: Place, edited: ast.AST) -> list[tuple[Place, str]]:
    """Statements beside one: those that make what ``edited``, a part of it, reads, those that read what it makes, then
    those that make what else it reads. What is read of residuals is made where ``fwd`` returns them."""
    live = editable(problem)
    every = statements(live)
    others = [p for p in every if p.scopes[-1] is place.scopes[-1] and p.body is not place.body]
    made, needed = assigned(place.body), read(place.body)
    here = {node.id for node in ast.walk(edited) if isinstance(node, ast.Name)}
    saved, kept = _end_of(part_of(problem, "fwd"), live), set(parameters_of(problem)[:-1])
    near = [p for p in others if len(here) == 1 and assigned(p.body) & here]
    users = [(p, "it reads what is wrong") for p in others if read(p.body) & made]
    if saved is not None and place.body is saved.body:
        users = [(p, "it reads what is saved here") for p in every if p.scopes[0] is not place.scopes[0]
                 and read(p.body) & here and not unpacks(p)]  # fmt: skip
    makers = sorted((p for p in others if assigned(p.body) & needed), key=unpacks)

    def made_by(p: Place) -> tuple[Place, str]:
        if saved is not None and unpacks(p) and read(p.body) & kept:
            return saved, "what is read here is saved there"
        return p, "it makes what is read here"

    hands_on = [(p, why) for p, why in users if _only_returns(p)]
    return [*map(made_by, near), *(u for u in users if u not in hands_on), *map(made_by, makers), *hands_on]


def _only_returns(place: Place) -> bool:
    """``return a, b``, in which little can be wrong."""
    value = place.body.value if isinstance(place.body, ast.Return) else None
    return all(isinstance(item, ast.Name) for item in (value.elts if isinstance(value, ast.Tuple) else [value]))


def _end_of(f: Any, live: list[types.FunctionType]) -> Place | None:
    """A function's last statement."""
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
    """The names that the statement's function returns."""
    returns = [node for node in ast.walk(place.scopes[-1]) if isinstance(node, ast.Return)]
    return {name for node in returns for name in read(node)}


def end_of(code: types.CodeType) -> int:
    own = [line for _, _, line in code.co_lines() if line]
    return max(
        [*own, *(end_of(c) for c in code.co_consts if isinstance(c, types.CodeType))], default=code.co_firstlineno
    )
