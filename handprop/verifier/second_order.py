"""Second order: the derivative of a hand-written gradient against that of autodiff's gradient."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handprop.verifier.internal import first_line, noted
from handprop.verifier.problem import Problem, Program
from handprop.verifier.programs import jaxprs

__all__ = ["differentiated"]


def differentiated(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem with one more derivative: both programs also return the pullback of all their gradients.

    With gradients g and random cotangents v of them, each program also returns ``v^T dg/dx`` for every inexact input x,
    including the cotangents.
    """
    if problem.faults or problem.obstacle:
        return problem
    try:
        program = jaxprs.trace(problem.reference, problem.inputs)
        outputs = [aval for aval, is_gradient in zip(program.out_avals, problem.gradients, strict=True) if is_gradient]
        cotangents = tuple(rng.normal(size=o.shape).astype(o.dtype) for o in outputs)
        inputs = (*problem.inputs, *cotangents)
        candidate, reference = (_with_pullback(f, problem) for f in (problem.candidate, problem.reference))
        _ = [jaxprs.trace(f, inputs) for f in (candidate, reference)]
    except Exception as error:  # whatever JAX or the rule raises at its own derivative
        noted(error, "the second derivative")
        return problem._replace(obstacle=f"it cannot be differentiated twice: {first_line(error)}")
    named = [path for path, is_gradient in zip(problem.out_paths, problem.gradients, strict=True) if is_gradient]
    more = tuple(f"second d{problem.in_paths[i]}" for i in jaxprs.float_places(problem.inputs))
    once = problem.as_program
    return problem._replace(
        candidate=candidate,
        as_reference=None,
        forwards=None,
        as_program=None if once is None else lambda f: _with_pullback(once(f), problem),
        reference=reference,
        inputs=inputs,
        in_paths=(*problem.in_paths, *(f"cotangent of {path}" for path in named)),
        out_paths=(*problem.out_paths, *more),
        gradients=(*problem.gradients, *(True for _ in more)),
        primal=None,  # its slopes are the first derivatives, not all of these outputs
        wrt=(),
    )


def _with_pullback(f: Program, problem: Problem) -> Program:
    count = len(problem.inputs)
    places = jaxprs.float_places(problem.inputs)

    def program(*inputs: Any) -> tuple[jax.Array, ...]:
        def gradients(*chosen: Any) -> tuple[list[Any], Sequence[Any]]:
            outputs = f(*jaxprs.with_replaced(inputs[:count], places, chosen))
            return [o for o, is_gradient in zip(outputs, problem.gradients, strict=True) if is_gradient], outputs

        _, pull, outputs = jax.vjp(gradients, *(inputs[i] for i in places), has_aux=True)
        return (*outputs, *pull(list(inputs[count:])))

    return program
