"""Run expressions in a statement's place, on what its names refer to, without the rest of the program.

Many expressions are traced as one program, so that they share the equations that they have in common.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.internal import call_users, noted
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.truth import as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.instrument import Iteration
from handprop.verifier.repair.interpretation import Interpretation, results_of
from handprop.verifier.repair.remembered import evaluate_apart
from handprop.verifier.repair.scope import Scope

__all__ = ["Alone"]

TRACED = 3  # steps of work that take as long as tracing one expression


class Alone:
    """Expressions in the place of one statement.

    ``shapes`` are those of the arrays in ``scope``, by the text that reads them; ``wide`` turns float64 on.
    """

    def __init__(self, interpretation: Interpretation, scope: Scope, shapes: Mapping[str, Any], wide: bool):
        self.interpretation, self.scope, self.shapes, self.wide = interpretation, scope, shapes, wide
        self.traced: dict[Any, tuple[Any, list[int | None], Sequence[ast.expr]]] = {}

    def values(self, roots: Sequence[ast.expr], iteration: Iteration) -> list[list[Value] | None]:
        """Return the arrays in the value of each expression; None for one that does not run."""
        fixed = {n: int(x) for n, x in iteration.names.items()
                 if n in self.scope.numbers and isinstance(x, np.ndarray) and x.dtype.kind in "iu"}  # fmt: skip
        key = (*map(id, roots), *fixed.items())
        try:
            if key not in self.traced:
                self.traced[key] = *self._program(roots, fixed), roots  # which keep their identities
            program, counts, _ = self.traced[key]
            run, inputs = self.interpretation.run(), [iteration.names[name] for name in self.shapes]
            outputs = iter(evaluate_apart(run, results_of(self.interpretation), program, inputs))
        except Exception as error:  # of expressions that nobody wrote
            noted(error)
            return [None] * len(roots)
        found: list[list[Value] | None] = []
        for count in counts:
            held = [next(outputs) for _ in range(count or 0)]
            whole = count is not None and all(thing is not None for thing in held)
            found.append([as_value(run, thing) for thing in held if thing is not None] if whole else None)
        return found

    def _program(self, roots: Sequence[ast.expr], fixed: dict[str, int]) -> tuple[Any, list[int | None]]:
        """Trace the expressions, and count the arrays in the value of each; None for one that does not run."""
        self.interpretation.work.add(0, TRACED * len(roots))
        counts: list[int | None] = []

        def run(*arrays: Any) -> list[Any]:
            every: list[Any] = []
            for root in roots:
                names = self.scope.names(dict(zip(self.shapes, arrays, strict=True)) | fixed)
                try:
                    code = compile(ast.fix_missing_locations(ast.Expression(root)), "<edit>", "eval")
                    held = jax.tree.leaves(call_users(eval, code, names))
                    made = [jnp.asarray(x) for x in held if _is_number(x)]
                except Exception as error:  # most edits do not give a statement that runs
                    noted(error)
                    counts.append(None)
                    continue
                counts.append(len(made))
                every += made
            return every

        with jax.numpy_dtype_promotion("standard"), jax.enable_x64(self.wide):  # pyright: ignore[reportAttributeAccessIssue]
            return jax.make_jaxpr(run)(*self.shapes.values()), counts


def _is_number(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | int | float) and not jaxprs.is_key(x)
