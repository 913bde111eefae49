"""One walk over a program, whatever it is evaluated over.

A jaxpr can be run on numbers, evaluated over a finite field, or read for the decisions that it makes. These differ in
what a value is and in what a primitive makes of values; how a program is put together is the same for all of them, and
stands here: variables, constants, calls, custom rules, kernels, solvers, the turns of a loop.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from handprop._compat import closed
from handprop.verifier.programs.jaxprs import called, kernel_program, scan_counts
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["Walk"]


class Walk:
    """What a program is evaluated over. A subclass says what constants, primitives, ``while`` and ``cond`` are, and
    what an entry along the first axis and a stack of entries are if it walks through the turns of a ``scan``."""

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
        """The arrays that a scan returns beside its carry, of what its turns returned, in the order of the entries."""
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
        """A step, and what is to happen before it and after it."""
        return self.step(eqn, operands)

    def step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """The results of an equation; a program that it holds is walked into."""
        name, params = eqn.primitive.name, eqn.params
        if has(eqn, Trait.PRINTS) and not eqn.outvars:
            return []
        if has(eqn, Trait.CUSTOM_RULE):
            return self.custom_rule(eqn, called(eqn), operands)
        if (program := called(eqn)) is not None:
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
        """A function whose derivative its user wrote: its own value."""
        return self.evaluate(primal, operands)

    def kernel(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.evaluate(kernel_program(eqn), operands)

    def linear_solve(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """What ``custom_linear_solve`` returns: what its user's solver does."""
        lengths = eqn.params["const_lengths"]
        start = lengths.matvec + lengths.vecmat
        total = start + lengths.solve + lengths.transpose_solve
        solve = closed(eqn.params["jaxprs"].solve)
        return self.evaluate(solve, [*operands[start : start + lengths.solve], *operands[total:]])

    def scan(self, eqn: Any, body: Any, operands: list[Any], most: int | None = None) -> list[Any]:
        """A scan, turn by turn; ``most``: of so many turns at most."""
        n_consts, n_carry = scan_counts(eqn.params)
        consts, carry, xs = operands[:n_consts], operands[n_consts : n_consts + n_carry], operands[n_consts + n_carry :]
        rows: list[list[Any]] = []
        turns = range(eqn.params["length"])
        for i in (turns[::-1] if eqn.params["reverse"] else turns)[:most]:
            out = self.evaluate(body, [*consts, *carry, *(self.entry(x, i) for x in xs)])
            carry, row = out[:n_carry], out[n_carry:]
            rows.append(row)
        return [*carry, *self.stacked(eqn, rows[::-1] if eqn.params["reverse"] else rows)]


def _typed(const: Any, aval: Any) -> Any:
    """A constant as an array of its variable's dtype."""
    return const if hasattr(const, "shape") else np.asarray(const, getattr(aval, "dtype", None))


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    """For each equation the variables that nothing needs after it: memory is given back as the program would."""
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
