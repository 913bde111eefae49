"""Gradients that are the derivative of another function than the value.

By Euler's theorem a function F of degree n is ``x . F'(x) / n``. So from gradients that are of degree n - 1 in all
differentiated arguments together, a function is made, and they are its derivative or that of none.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.evaluators import in_float64
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem, Program
from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.claims import is_refuted
from handprop.verifier.repair.shapes import Asked, is_close

__all__ = ["of_another_function"]

SECONDS = 4.0
MAX_DEGREE = 4
ANOTHER = "together the derivative of another function, of degree {} in {}, while the value does not depend on {}"


def of_another_function(problem: Problem, wrong: Sequence[Asked], options: Options) -> tuple[dict[int, str], str]:
    """Return what the wrong gradients are, if they are the derivative of another function, and a function to pass.

    Some argument has to be one that the value does not depend on: swapped arguments would fit by mistake.
    """
    idle = [asked for asked in wrong if asked.is_flat]
    if (
        options.seconds_left <= 0
        or problem.domains
        or len(problem.owners) < 2
        or not idle
        or not all(problem.inputs[i].size for i in problem.wrt)
    ):
        return {}, ""
    degree = _degree(problem, wrong[0])
    if degree is None:
        return {}, ""
    stated = _derivative(problem, degree)
    run = in_float64(stated, problem.inputs, SECONDS / 2)
    for p in wrong[0].points:
        made = run(p.inputs)
        if not all(is_close(p.got[k], made[k]) for k, _ in problem.owners):
            return {}, ""
    within = options._replace(deadline=min(options.deadline, time.monotonic() + SECONDS))
    if any(is_refuted(problem, asked.k, problem.candidate, stated, within) for asked in wrong):
        return {}, ""
    paths, unused = ([problem.in_paths[i] for i in places] for places in (problem.wrt, [a.owner for a in idle]))
    said = ANOTHER.format(degree, " and ".join(paths), " and ".join(unused))
    return {asked.k: said for asked in wrong}, _line(problem, degree)


def _degree(problem: Problem, asked: Asked) -> int | None:
    """The degree of a function whose derivative these gradients may be, by what doubling the arguments does."""
    p = asked.points[-1]
    with jax.enable_x64(True):
        doubled = jaxprs.with_replaced(p.inputs, problem.wrt, [2 * p.inputs[i] for i in problem.wrt])
    got = p.at(tuple(doubled))[0][asked.k]
    kept = np.isfinite(got) & np.isfinite(p.got[asked.k]) & (np.asarray(p.got[asked.k]) != 0)
    if not kept.any():
        return None
    ratio = np.abs(got[kept] / np.asarray(p.got[asked.k])[kept])
    degree = round(math.log2(ratio[0])) + 1 if ratio[0] > 0 else 0
    return degree if 2 <= degree <= MAX_DEGREE and np.allclose(ratio, 2.0 ** (degree - 1)) else None


def _derivative(problem: Problem, degree: int) -> Program:
    def gradients(*inputs: Any) -> tuple[Any, ...]:
        def function(*moving: Any) -> Any:
            found = problem.candidate(*jaxprs.with_replaced(inputs, problem.wrt, moving))
            return sum(jnp.sum(found[k] * x) for (k, _), x in zip(problem.owners, moving, strict=True)) / degree

        made = iter(jax.grad(function, tuple(range(len(problem.wrt))))(*(inputs[i] for i in problem.wrt)))
        return tuple(next(made) if is_gradient else jnp.zeros(()) for is_gradient in problem.gradients)

    return gradients


def _line(problem: Problem, degree: int) -> str:
    if not isinstance(problem.written, jax.custom_jvp) or [problem.in_paths[i] for i in problem.wrt] != [
        *problem.heads
    ]:
        return ""
    heads = ", ".join(problem.heads)
    return f"lambda {heads}: jax.jvp({problem.name}, ({heads}), ({heads}))[1] / {degree}"
