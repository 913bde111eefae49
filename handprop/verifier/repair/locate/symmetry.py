"""Decide from a hand-written gradient alone whether it is the gradient of any function.

Where g is smooth, it is the gradient of some function exactly if its Jacobian J is symmetric (Poincare's lemma). The
test is whether ``u . J v = v . J u`` for random directions u and v. In float64, at random points off the kinks of
piecewise functions, a difference beyond its bound shows that J is not symmetric. The proof over finite fields shows
that J is symmetric, if it supports the two programs. A diagonal or zero Jacobian is symmetric whatever the mistake, so
nothing is said about one.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.evaluators import evaluators, in_float64
from handprop.verifier.checks.sampling import compared, is_defined, sample, worst_entry
from handprop.verifier.internal import noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs, running
from handprop.verifier.programs.executables import array
from handprop.verifier.proof.proof import proof
from handprop.verifier.report.text import apart
from handprop.verifier.report.values import Outcome

__all__ = ["Symmetry", "symmetry"]

POINTS = 3
SECONDS = 2.0


class Symmetry(NamedTuple):
    """Whether the Jacobian is symmetric, and a sentence that says so."""

    holds: bool
    said: str


def symmetry(problem: Problem, options: Options) -> Symmetry | None:
    """Test the gradients' Jacobian; None if it cannot be computed or shows nothing."""
    if sum(math.prod(problem.inputs[i].shape) for i in problem.wrt) < 2:
        return None
    options = options._replace(deadline=min(time.monotonic() + SECONDS, options.deadline))
    try:
        return _measured(problem, options)
    except Exception as error:  # JAX may raise anything if a program has no forward derivative
        noted(error, "the search for a symmetric Jacobian")
        return None


def _measured(problem: Problem, options: Options) -> Symmetry | None:
    pair = _products(problem, options.rng(Stream.SYMMETRY))
    points = [_point(problem, pair, options, i) for i in range(1, POINTS + 1)]
    if not _couples(problem, points[0]):
        return None
    worst = None
    for evaluator in evaluators(pair):  # J must fail to be symmetric under every reading of the literals
        seen = [compared(evaluator, inputs, i) for i, inputs in enumerate(points)]
        if not all(is_defined(pair, point) for point in seen):
            return None
        worst = next((entry for point in seen if (entry := worst_entry(pair, point)) is not None), None)
        if worst is None:
            break
    else:
        if worst is None:
            return None
        left, right = apart(worst.got, worst.want)
        return Symmetry(False, f"its Jacobian J is not symmetric (u.Jv = {left}, v.Ju = {right})")
    exact = "proof" not in options.skip and proof(pair, options).outcome is Outcome.PROVES
    how = "" if exact else f" to float64 rounding at {POINTS} points"
    return Symmetry(True, f"its Jacobian is symmetric{how}")


def _point(problem: Problem, pair: Problem, options: Options, i: int) -> tuple[Any, ...]:
    """Return a point that is random in the differentiated arguments and as given in the others.

    The user's own point may be at a kink. The data stay as they are, since the gradient may depend on, say, their being
    0 and 1.
    """
    own, moved = sample(pair, options, 0), sample(pair, options, i)
    places = [*problem.wrt, *range(len(problem.inputs), len(own))]
    return tuple(jaxprs.with_replaced(own, places, [moved[k] for k in places]))


def _gradient_of(problem: Problem, inputs: tuple[Any, ...]) -> Callable[..., list[Any]]:
    """Return the gradients as a function of the arguments they belong to.

    Other outputs are dropped because they may have no derivative. Custom rules and ``stop_gradient`` are bypassed
    because their derivatives may differ from those of the values.
    """
    program = jaxprs.pruned(jaxprs.trace(problem.candidate, inputs), problem.gradients)

    def leaf(eqn: Any, values: list[Any]) -> list[Any]:
        return values if eqn.primitive.name == "stop_gradient" else running.bind(eqn, values)

    return lambda *chosen: running.run(program, jaxprs.with_replaced(inputs, problem.wrt, chosen), leaf)


def _products(problem: Problem, rng: np.random.Generator) -> Problem:
    """Pair ``u . J v`` with ``v . J u``; u and v are extra inputs shaped like the differentiated arguments."""
    count, size = len(problem.inputs), len(problem.wrt)
    directions = tuple(rng.normal(size=problem.inputs[i].shape).astype(problem.inputs[i].dtype)
                       for _ in range(2) for i in problem.wrt)  # fmt: skip

    def product(swapped: bool, *inputs: Any) -> tuple[jax.Array]:
        x, u, v = inputs[:count], inputs[count : count + size], inputs[count + size :]
        if swapped:
            u, v = v, u
        _, along = jax.jvp(_gradient_of(problem, x), [x[i] for i in problem.wrt], list(v))
        terms = [jnp.sum(a * b) for a, b in zip(u, along, strict=True)]
        return (sum((t.astype(terms[0].dtype) for t in terms[1:]), terms[0]),)

    return Problem(
        name=problem.name,
        candidate=lambda *inputs: product(False, *inputs),
        reference=lambda *inputs: product(True, *inputs),
        inputs=(*problem.inputs, *directions),
        in_paths=(*problem.in_paths, *(f"{name} at {problem.in_paths[i]}" for name in "uv" for i in problem.wrt)),
        out_paths=("u.Jv",),
        gradients=(False,),
        shared=Shared(),
    )


def _couples(problem: Problem, inputs: tuple[Any, ...]) -> bool:
    """Whether some entry of the gradient depends on another entry's input.

    If J is diagonal, ``J (s v) = s J v`` holds bit for bit for all signs s. The signs that are tried are the bits of
    the entries' numbers, so that any two entries have different signs once.
    """
    x = inputs[: len(problem.inputs)]
    v = inputs[len(x) + len(problem.wrt) :]

    def along(*inputs: Any) -> tuple[Any, ...]:
        x, v = inputs[: len(problem.inputs)], inputs[len(problem.inputs) :]
        return tuple(jax.jvp(_gradient_of(problem, x), [x[i] for i in problem.wrt], list(v))[1])

    run = in_float64(along, (*x, *v), problem.compiling)
    plain = run((*x, *v))
    if [a.shape for a in plain] != [d.shape for d in v]:  # no gradients of these inputs
        return False
    ends = np.cumsum([d.size for d in v])
    for bit in range(int(ends[-1] - 1).bit_length()):
        numbers = np.split(1.0 - 2.0 * (np.arange(ends[-1]) >> bit & 1), ends[:-1])
        signs = [each.reshape(d.shape) for each, d in zip(numbers, v, strict=True)]
        with jax.enable_x64(True):
            signed = run((*x, *(array(s * np.asarray(d)) for s, d in zip(signs, v, strict=True))))
        if any(not np.array_equal(s * a, b, equal_nan=True) for s, a, b in zip(signs, plain, signed, strict=True)):
            return True
    return False
