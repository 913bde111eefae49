"""Whether a program is a polynomial in an argument, with coefficients that are any functions of the other arguments.

A proof holds for almost all values in an argument's domain. If two programs are polynomials in the argument, what holds
almost everywhere on a plane holds at each of its points. So a proof for rows that sum to 1 covers one-hot rows too,
although they have measure zero among these rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from handprop.verifier.programs.jaxprs import equations, inner, is_float, numbers
from handprop.verifier.programs.primitives import Trait, has, row
from handprop.verifier.programs.running import bind
from handprop.verifier.programs.walk import Shallow

__all__ = ["is_polynomial_in"]


def is_polynomial_in(program: Any, places: set[int]) -> bool:
    """Whether all outputs are polynomials in the inputs at these places together.

    The coefficients must be finite: ``y inf`` is infinite for almost all y, but NaN where y is 0.
    """
    if any(not np.isfinite(number).all() for number in _numbers(program) if is_float(number.dtype)):
        return False
    try:
        _Held().evaluate(program, [i in places for i, _ in enumerate(program.jaxpr.invars)])
    except _NoPolynomialError:
        return False
    return True


def _numbers(program: Any) -> Iterator[np.ndarray]:
    """Constants and literals, and the results of equations whose operands are all literals."""
    yield from numbers(program)
    for eqn in equations(program):
        if eqn.invars and all(isinstance(atom, core.Literal) for atom in eqn.invars) and not inner(eqn):
            yield from (np.asarray(out) for out in bind(eqn, [np.asarray(v.val, v.aval.dtype) for v in eqn.invars]))


class _NoPolynomialError(Exception):
    """An equation makes something other than a polynomial of the argument."""


class _Held(Shallow):
    """The interpretation in which a value is whether it contains the argument."""

    def constant(self, const: Any) -> bool:
        return False

    def step(self, eqn: Any, operands: list[bool]) -> list[bool]:
        return super().step(eqn, operands) if any(operands) else [False] * len(eqn.outvars)

    def primitive(self, eqn: Any, operands: list[bool]) -> list[bool]:
        if not _keeps(eqn, operands):
            raise _NoPolynomialError
        return [True] * len(eqn.outvars)


def _keeps(eqn: Any, held: Sequence[bool]) -> bool:
    name, carries = eqn.primitive.name, row(eqn.primitive.name).carries
    holding = [v for v, h in zip(eqn.invars, held, strict=True) if h]
    if not all(is_float(v.aval.dtype) for v in (*holding, *eqn.outvars)):
        return False
    if name == "integer_pow":
        return eqn.params["y"] >= 0
    if name == "select_n":
        return not held[0]
    return has(eqn, Trait.POLYNOMIAL) and not (carries and any(h for i, h in enumerate(held) if i not in carries))
