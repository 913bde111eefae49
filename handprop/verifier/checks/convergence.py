"""Whether a loop that iterates towards a fixed point has converged.

A rule by the implicit function theorem, or by the envelope theorem, is the derivative of the point that an iteration
tends to. Where the iteration has not converged, the function's value is a different one, and so is autodiff's
derivative of it; a difference there says nothing about the rule. A loop that receives no new data in each iteration can
run one more: if it has converged, the function's values stay what they are.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handprop._compat import equations
from handprop.verifier.checks.sampling import Point, largest, sample
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import UNSET, Problem
from handprop.verifier.programs import executables, jaxprs, running, widen
from handprop.verifier.report.values import Worst

__all__ = ["has_not_converged", "is_of_a_tolerance", "is_remainder", "iterates", "tolerated"]

ITERATED = 1e-6  # the relative error of an iteration that ends at a tolerance, where it shows first

CONVERGED = 1e-6  # the relative change of the values in one more iteration, at the given input
ROUNDING = 1e-12
NEAR = 2.0**-20  # relative to the inputs' size
MOVED = 0.01  # share of a difference that one more iteration removes
WORSE = 1e3  # times the change at the given input


def iterates(problem: Problem) -> bool:
    """Whether the function contains a loop whose length depends on its arguments."""
    program = jaxprs.trace(problem.reference, problem.inputs)
    return any(eqn.primitive.name == "while" for eqn in equations(program))


def tolerated(problem: Problem, point: Point) -> float:
    """The error of a loop that ends at a tolerance, relative to the largest entry of all outputs; 0 where no loop's
    length depends on the arguments."""
    return ITERATED * max(map(largest, point.want), default=0.0) if iterates(problem) else 0.0


def is_of_a_tolerance(problem: Problem, point: Point) -> bool:
    """Whether a difference is as small as the error of a loop that ends at a tolerance, relative to the largest entry
    of all outputs."""
    most = tolerated(problem, point)
    with np.errstate(all="ignore"):
        near = all(np.nanmax(np.abs(g - w), initial=0.0) <= most for g, w in zip(point.got, point.want, strict=True))
    return most > 0 and near


def has_not_converged(problem: Problem, point: Point, options: Options) -> bool:
    """Whether the function's iterations have converged at the given input, but not at this point or not near it.

    An iteration may stand still by chance, as at a fixed point that repels; its derivative then grows with every
    iteration, and only inputs near the point show it.
    """
    if problem.primal is None:
        return False
    given = _change(problem, sample(problem, options, 0))
    most = max(WORSE * given, ROUNDING)
    return given <= CONVERGED and any(not _change(problem, inputs) <= most
                                      for inputs in (point.inputs, _near(problem, point, options)))  # fmt: skip


def _near(problem: Problem, point: Point, options: Options) -> Sequence[Any]:
    rng = options.rng(Stream.CONVERGENCE)
    moved = problem.moving
    with jax.enable_x64(True):
        parts = [executables.array(x + NEAR * (np.abs(x).max(initial=0.0) or 1.0) * rng.normal(size=x.shape))
                 for x in (np.asarray(point.inputs[i], np.float64) for i in moved)]  # fmt: skip
    return jaxprs.with_replaced(point.inputs, moved, parts)


def is_remainder(problem: Problem, point: Point, worst: Worst) -> bool:
    """Whether autodiff's gradient differs only by the remainder of a converged iteration.

    One more iteration then removes a part of the difference. The derivative of a fixed point with respect to the
    starting point of the iteration is 0, but autodiff's is a power of a contraction, as small as 1e-70.
    """
    places = [i for k, i in problem.owners if problem.out_paths[k] == worst.path]
    if problem.primal is None or not places or _change(problem, point.inputs) > CONVERGED:
        return False
    with jax.enable_x64(True):
        program = jaxprs.trace(problem.primal, point.inputs)
        usual, more = (float(np.asarray(_gradient(program, problem, point.inputs, places[0], extra_turn))[worst.index])
                       for extra_turn in (False, True))  # fmt: skip
    gap, moved = worst.got - usual, more - usual
    return bool(np.sign(moved) == np.sign(gap) and abs(moved) >= MOVED * abs(gap))


def _gradient(program: Any, problem: Problem, inputs: Sequence[Any], place: int, extra_turn: bool) -> Any:
    """Return the gradient with respect to the input at this place, with one more iteration or as the program is."""

    def values(x: Any) -> list[Any]:
        outputs = running.run(program, jaxprs.with_replaced(inputs, [place], [x]), extra_turn=extra_turn)
        return [out for out in outputs if jaxprs.is_float(out.dtype)]

    outputs, pull = jax.vjp(values, inputs[place])
    cotangents = [inputs[i] for i in problem.cotangents] or [np.ones(out.shape, out.dtype) for out in outputs]
    return pull([jax.numpy.asarray(c, out.dtype) for c, out in zip(cotangents, outputs, strict=True)])[0]


def _change(problem: Problem, inputs: Sequence[Any]) -> float:
    """Return the relative change of the largest value when each loop makes one more iteration.

    It is infinite where there is no iteration.
    """
    if problem.shared.iterated is UNSET:
        problem.shared.iterated = _with_turns(problem)
    if (run := problem.shared.iterated) is None:
        return np.inf
    with jax.enable_x64(True):
        usual, more = ([np.asarray(x, np.float64) for x in values] for values in run(tuple(inputs)))
    with np.errstate(all="ignore"):
        changes = [
            np.abs(b - a).max(initial=0.0) / np.abs(a).max(initial=0.0) for a, b in zip(usual, more, strict=True)
        ]
    return float(np.nanmax([0.0, *changes]))  # NaN where a value is 0 before and after, which says nothing


def _with_turns(problem: Problem) -> Any:
    """Compile the function's values, and those after one more iteration; None if it has no loop of this kind."""
    assert problem.primal is not None
    program = jaxprs.trace(problem.primal, problem.inputs)
    if not any(jaxprs.is_iteration(eqn) for eqn in equations(program)):
        return None
    with jax.enable_x64(True):
        both = [widen.widen(program, extra_turn=extra_turn) for extra_turn in (False, True)]
        wide = tuple(jaxprs.widened(x) for x in problem.inputs)
        return executables.compiled(lambda inputs: [f(inputs, None, None) for f in both], wide,
                                    programs=[program] * 2, seconds=problem.compiling)  # fmt: skip
