"""What names refer to where a statement runs, kept so that expressions can be evaluated there on their own.

Arrays are marked while the program is traced and get their values when it runs over the field. An array inside a tree
is marked under the expression that reads it, as in ``params['w']``. All else, such as functions, modules and numbers
of the module, is kept as it is. Of the module's functions, those are kept that the user's function reaches, and those
with the same parameters as one of these, which may be meant in its place.
"""

import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.instrument import is_held, mark_name
from handprop.verifier.repair.source.functions import RULES, siblings

__all__ = ["Scope"]

MAX_LEAVES = 24  # arrays inside one tree
BUILTINS = {f.__name__: f for f in (abs, bool, dict, enumerate, float, int, len, list, map, max, min, range, reversed,
                                    slice, sum, tuple, zip)}  # fmt: skip


class Scope:
    """The names around a statement of one of the ``live`` functions, the one that runs ``code``."""

    def __init__(self, live: list[types.FunctionType], code: types.CodeType):
        self.fixed: dict[str, Any] = {"__builtins__": BUILTINS}
        self.trees: dict[str, tuple[Any, list[Any]]] = {}
        self.numbers: set[str] = set()  # names of integers of Python, whose values a program may depend on
        owner = next((f for f in live if f.__code__ is code), None)
        if owner is not None:
            held = owner.__globals__ | {n: c.cell_contents for n, c in siblings(owner, live).items()}
            own, kinds = {id(f) for f in live}, {parameters(f) for f in live}
            for name, x in held.items():
                twin = isinstance(x, types.FunctionType) and x.__code__.co_filename == code.co_filename
                if _is_plain(x) or isinstance(x, RULES) or id(x) in own or (twin and parameters(x) in kinds):
                    self.fixed[name] = x

    def mark(self, names: dict[str, Any]) -> None:
        """Mark the arrays among the names; called while the statement is traced, just before it runs."""
        for name, held in names.items():
            if is_held(held):
                self.numbers |= {name} if isinstance(held, int) else set()
                mark_name(name, held)
                continue
            leaves, tree = jax.tree_util.tree_flatten_with_path(held)
            arrays = {name + jax.tree_util.keystr(path): x for path, x in leaves if _is_array(x)}
            if not arrays:
                self.fixed.setdefault(name, held)
            elif len(leaves) <= MAX_LEAVES:
                texts = [name + jax.tree_util.keystr(path) if _is_array(x) else x for path, x in leaves]
                if self.trees.setdefault(name, (tree, texts))[0] == tree:
                    for text, x in arrays.items():
                        mark_name(text, x)

    @property
    def functions(self) -> dict[str, tuple[str, ...]]:
        """The user's functions by name, with the names of their parameters."""
        return {name: parameters(f) for name, f in self.fixed.items() if isinstance(f, types.FunctionType)}

    def groups(self, shapes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the structure and the shapes of the trees inside trees, by the text that reads them."""
        found: dict[str, Any] = {}

        def visit(text: str, held: Any) -> None:
            leaves, structure = jax.tree.flatten(held)
            if jax.tree_util.all_leaves([held]) or not all(hasattr(x, "shape") for x in leaves):
                return
            found[text] = structure, tuple(x.shape for x in leaves)
            for path, part in jax.tree_util.tree_flatten_with_path(held, is_leaf=lambda x: x is not held)[0]:
                visit(text + jax.tree_util.keystr(path), part)

        for name in self.trees:
            visit(name, self.names(shapes)[name])
        return found

    def names(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return the names with these arrays for what was marked."""
        found = self.fixed | {name: x for name, x in arrays.items() if name.isidentifier()}
        for name, (tree, parts) in self.trees.items():
            leaves = [arrays.get(part, part) if isinstance(part, str) else part for part in parts]
            found[name] = jax.tree.unflatten(tree, leaves)
        return found


def parameters(f: types.FunctionType) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    code = f.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray) and not jaxprs.is_key(x)


def _is_plain(x: Any) -> bool:
    """Whether an object is a module, a number, a string or an array."""
    return isinstance(x, types.ModuleType | int | float | str | np.ndarray | np.generic | jax.Array)
