"""One walk over a program, shared by all interpretations of it.

A jaxpr can be run on numbers, evaluated over a finite field, or analyzed for the decisions that it makes. These
interpretations differ in what a value is and in what primitives do with values. The structure of a program is the same
for all of them, and is walked here: variables, constants, calls, custom rules, kernels, solvers and loop iterations.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from handprop._compat import closed
from handprop.verifier.programs.jaxprs import called_program, kernel_program, scan_parts, solver_of
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["Shallow", "Walk", "taken"]


class Walk:
    """An interpretation of programs. A subclass defines constants and primitives, and ``while`` and ``cond`` unless
    they are primitives to it. If it walks through the iterations of a ``scan``, it also defines an entry along the
    first axis and a stack of entries."""

    def constant(self, const: Any) -> Any:
        raise NotImplementedError

    def primitive(self, eqn: Any, operands: list[Any]) -> list[Any]:
        raise NotImplementedError

    def while_loop(self, eqn: Any, cond: Any, body: Any, operands: list[Any]) -> list[Any]:
        return self.primitive(eqn, operands)

    def cond(self, eqn: Any, branches: Sequence[Any], which: Any, operands: list[Any]) -> list[Any]:
        return self.primitive(eqn, [which, *operands])

    def entry(self, x: Any, i: int) -> Any:
        raise NotImplementedError

    def stacked(self, eqn: Any, rows: list[list[Any]]) -> list[Any]:
        """The arrays that a scan returns in addition to its carry, from the results of its iterations, in entry
        order."""
        raise NotImplementedError

    def evaluate(self, program: Any, inputs: Iterable[Any]) -> list[Any]:
        """The outputs of a closed jaxpr at these inputs."""
        jaxpr = program.jaxpr
        env = {v: self.constant(_typed(c, v.aval)) for v, c in zip(jaxpr.constvars, program.consts, strict=True)}
        env.update(zip(jaxpr.invars, inputs, strict=True))
        last = _last_uses(jaxpr)

        def value_of(atom: Any) -> Any:
            return self.constant(_typed(atom.val, atom.aval)) if isinstance(atom, core.Literal) else env[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            outputs = self.around(eqn, [value_of(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
            for var in last.get(i, ()):
                env.pop(var, None)
        return [value_of(atom) for atom in jaxpr.outvars]

    def around(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """A hook around :meth:`step`, for work limits, observers and contexts."""
        return self.step(eqn, operands)

    def step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """The results of an equation; if it contains a program, that is walked too."""
        name, params = eqn.primitive.name, eqn.params
        if has(eqn, Trait.PRINTS) and not eqn.outvars:
            return []
        if has(eqn, Trait.CUSTOM_RULE):
            return self.custom_rule(eqn, called_program(eqn), operands)
        if (program := called_program(eqn)) is not None:
            return self.evaluate(program, operands)
        if name == "scan":
            return self.scan(eqn, closed(params["jaxpr"]), operands)
        if name == "while":
            return self.while_loop(eqn, closed(params["cond_jaxpr"]), closed(params["body_jaxpr"]), operands)
        if name == "cond":
            return self.cond(eqn, [closed(branch) for branch in params["branches"]], operands[0], operands[1:])
        if name == "pallas_call":
            return self.kernel(eqn, operands)
        if name == "custom_linear_solve":
            return self.linear_solve(eqn, operands)
        return self.primitive(eqn, operands)

    def custom_rule(self, eqn: Any, primal: Any, operands: list[Any]) -> list[Any]:
        """The value of a function with a custom derivative rule: that of its primal program."""
        return self.evaluate(primal, operands)

    def kernel(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.evaluate(kernel_program(eqn), operands)

    def linear_solve(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """The result of ``custom_linear_solve``: that of the user's solver."""
        return self.evaluate(*solver_of(eqn, operands))

    def scan(self, eqn: Any, body: Any, operands: list[Any], most: int | None = None) -> list[Any]:
        """Walk through a scan, iteration by iteration, ``most`` iterations at most."""
        consts, carry, xs = scan_parts(eqn.params, operands)
        n_carry = len(carry)
        rows: list[list[Any]] = []
        turns = range(eqn.params["length"])
        for i in (turns[::-1] if eqn.params["reverse"] else turns)[:most]:
            out = self.evaluate(body, [*consts, *carry, *(self.entry(x, i) for x in xs)])
            carry, row = out[:n_carry], out[n_carry:]
            rows.append(row)
        return [*carry, *self.stacked(eqn, rows[::-1] if eqn.params["reverse"] else rows)]


class Shallow(Walk):
    """A walk that does not go into loops, solvers and kernels, which are primitives to it."""

    def scan(self, eqn: Any, body: Any, operands: list[Any], most: int | None = None) -> list[Any]:
        return self.primitive(eqn, operands)

    def kernel(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.primitive(eqn, operands)

    def linear_solve(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.primitive(eqn, operands)


def taken(branches: Sequence[Any], which: Any) -> Any:
    """The branch that ``cond`` takes for a known index, which it clips."""
    return branches[int(np.clip(which, 0, len(branches) - 1))]


def _typed(const: Any, aval: Any) -> Any:
    """A constant as an array of its variable's dtype."""
    return const if hasattr(const, "shape") else np.asarray(const, getattr(aval, "dtype", None))


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    """For each equation, the variables that it is the last to use; they are then dropped."""
    kept = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    last: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for atom in (*eqn.invars, *eqn.outvars):
            if not isinstance(atom, core.Literal) and atom not in kept:
                last[atom] = i
    uses: dict[int, list[Any]] = {}
    for var, i in last.items():
        uses.setdefault(i, []).append(var)
    return uses
