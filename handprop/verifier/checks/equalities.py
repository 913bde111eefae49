"""Whether rounding decides that two numbers of a program are equal, and thereby what the program returns.

Two numbers that are equal over the reals are seldom equal in float64, where each was computed in its own way. Runs with
noise show how far off their difference is. If it is no larger than that, or zero by chance, float64 cannot tell whether
the numbers are equal. Both programs then run again with all such numbers equal, and with none. If each entry agrees in
one of these ways, their difference says nothing about either program. Each iteration of a scan counts on its own; what
a while loop compares is left out.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.checks.sampling import SAFETY, Point, beyond, is_off
from handprop.verifier.programs import jaxprs, widen
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["decided_by_rounding"]

RUNS = 6
MAX_EQUATIONS = 2000  # counting every iteration of every scan
Met = list[np.ndarray]


def decided_by_rounding(evaluator: Evaluator, point: Point) -> bool:
    """Whether the programs agree at the point once numbers that only rounding tells apart are equal, or are not."""
    programs = evaluator.programs
    equations = [eqn for program in programs for eqn in jaxprs.equations(program)]
    if not any(has(e, Trait.EQUALITY) and jaxprs.is_float(e.invars[0].aval.dtype) for e in equations):
        return False
    if sum(map(_turns, programs)) > MAX_EQUATIONS or any(has(eqn, Trait.CALLBACK) for eqn in equations):
        return False
    inputs = evaluator.arguments(point.inputs)
    (got, of_got), (want, of_want) = (_compared(program, inputs) for program in programs)
    if not is_off(got, want, point.bound):
        return True  # XLA computes a compared number twice and rounds it in two ways
    differences = zip(programs, (of_got, of_want), strict=True)
    unsure = [_unsure(program, inputs, evaluator.eta, clean) for program, clean in differences]
    if not any(where.any() for program in unsure for where in program):
        return False
    either = [[_run(program, inputs, met, equal) for equal in (True, False)]
              for program, met in zip(programs, unsure, strict=True)]  # fmt: skip
    return _agree(list(itertools.product(*either)), point)


def _turns(program: Any) -> int:
    """Count the equations that run, those of a scan once for every iteration."""
    return sum(eqn.params["length"] * sum(map(_turns, jaxprs.inner(eqn))) if eqn.primitive.name == "scan"
               else 1 + sum(map(_turns, jaxprs.inner(eqn))) for eqn in program.jaxpr.eqns)  # fmt: skip


def _unsure(program: Any, inputs: Sequence[Any], eta: float, clean: Met) -> Met:
    """Return, for each equality in their order, where float64 cannot tell whether the two numbers are equal.

    ``clean`` are their differences in a run without noise.
    """
    noisy = [_compared(program, inputs, eta, n)[1] for n in range(1, RUNS + 1)]
    if any(len(one) != len(clean) for one in noisy):  # the outcome of a comparison decides what runs
        return []
    with np.errstate(invalid="ignore"):
        spread = [np.max([np.abs(one[i] - d) for one in noisy], axis=0) for i, d in enumerate(clean)]
        return [(s > 0) & (np.abs(d) <= SAFETY * s) for d, s in zip(clean, spread, strict=True)]


def _compared(program: Any, inputs: Sequence[Any], noise: float | None = None,
              seed: int = 0) -> tuple[list[np.ndarray], Met]:  # fmt: skip
    """Return the outputs, and the differences of the numbers that are compared for equality."""
    met: Met = []

    def equality(eqn: Any, values: list[Any], outputs: list[Any]) -> list[Any]:
        if not any(isinstance(x, Tracer) for x in values):
            with np.errstate(invalid="ignore"):
                met.append(np.asarray(values[0]) - np.asarray(values[1]))
        return outputs

    return _evaluated(program, inputs, equality, noise, seed), met


def _run(program: Any, inputs: Sequence[Any], unsure: Met, equal: bool) -> list[np.ndarray]:
    """Return the outputs with the undecided numbers all equal, or with none of them equal."""
    left = iter(unsure)

    def equality(eqn: Any, values: list[Any], outputs: list[Any]) -> list[Any]:
        if isinstance(outputs[0], Tracer):
            return outputs
        where, out = next(left, np.zeros(())), np.asarray(outputs[0])
        fits = where.shape == out.shape
        return [np.where(where, equal == (eqn.primitive.name == "eq"), out)] if fits else outputs

    return _evaluated(program, inputs, equality)


def _evaluated(program: Any, inputs: Sequence[Any], equality: Callable, noise: float | None = None,
               seed: int = 0) -> list[np.ndarray]:  # fmt: skip
    """Return the outputs in float64, run equation by equation, with ``equality`` called at each one."""
    with jax.enable_x64(True):
        outputs = widen.widen(program, equality=equality)(tuple(inputs), noise, np.uint32(seed))
        return [np.asarray(x, np.float64) for x in outputs]


def _agree(pairs: list[tuple[list[np.ndarray], ...]], point: Point) -> bool:
    """Whether each entry agrees in one of the pairs of outputs."""
    return not any(np.min([beyond(got[k], want[k], bound) for got, want in pairs], axis=0).any()
                   for k, bound in enumerate(point.bound))  # fmt: skip
