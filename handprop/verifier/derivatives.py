"""The derivative of a function that autodiff gives, or differences of its values where autodiff gives none.

JAX has no derivative in reverse mode of a ``while`` loop, and none at all of a callback: that is why many rules are
written. The cotangent of x for the cotangent c of f(x) is ``J(x)^T c``, and its entry k is ``<c, J(x) e_k>``, where e_k
is the k-th unit vector. Forward mode gives ``J(x) e_k`` exactly, and central differences give an estimate:

    D(h) = (f(x + h e_k) - f(x - h e_k)) / (2 h),    R(h) = (4 D(h) - D(2 h)) / 3,    J(x) e_k = R(h) + O(h^4).

The largest of three steps is taken at which R(h) and R(2 h) agree and D(2 h) and D(4 h) are close. No smaller step may
show another slope.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.arguments import is_inexact
from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem, Shared, outputs_of
from handprop.verifier.programs import jaxprs

__all__ = [
    "MAX_ENTRIES",
    "MAX_ESTIMATED",
    "Derivative",
    "along_tangents",
    "at_once",
    "by_differences",
    "by_directions",
    "floats",
    "in_tangents",
    "is_additive",
    "of_values",
    "pulled_back",
    "with_estimate",
]

# derivative(f, leaves, cotangents, chosen): the outputs of f and the cotangents of the chosen leaves
Derivative = Callable[[Callable, Sequence[Any], Sequence[Any], list[int]], tuple]

MAX_ENTRIES, MAX_ESTIMATED = 1024, 256  # numbers that are differentiated one by one
MAX_TRIED = 64  # numbers along which a rule is tried to be linear
# Relative to a number, or absolute if the number is below 1.
RELATIVE = tuple(k * step for step in (2.0**-6, 2.0**-10, 2.0**-14) for k in (1, 2, 4))
SMOOTH = 3e-3  # how close D(2 h) and D(4 h) have to be: the square of their difference is of the order h^4
ALLOWED = 1e-5  # the error that estimates may have, relative to the largest entry
# Absolute steps, and by how much the slopes with them may differ, relative to the largest entry. Below the last of them
# no staircase is seen.
FINE, OFF = (2.0**-13, 2.0**-19), (1e-2, 0.25)
CANCEL = 8.0  # times the largest entry: R(h) is 16 times as precise as R(2 h), from which it may differ by ALLOWED
NOTHING = 1e-9  # a slope that is nothing, relative to the function's largest value


def with_estimate(problem: Problem, way: Derivative) -> Problem:
    """The problem, which says so if its reference is an estimate."""
    if way is not by_differences:
        return problem
    said = f"autodiff gives no derivative, and central differences of the values are the reference, to {ALLOWED:.0e}"
    return problem._replace(conditions=(*problem.conditions, said), accuracy=ALLOWED, is_estimated=True,
                            assumed="differences of values are no proof")  # fmt: skip


class NoDerivative(Exception):
    """There is no way to differentiate the function."""


def floats(f: Callable, leaves: Sequence[Any], chosen: Sequence[int]) -> Callable:
    """Return f as a function of the chosen leaves that returns its float outputs, and all outputs beside them."""

    def partial(*diff: Any) -> tuple[list[Any], Any]:
        outputs = outputs_of(f(*jaxprs.with_replaced(leaves, chosen, diff)))
        return [o for o in outputs if is_inexact(o)], outputs

    return partial


def pulled_back(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Reverse mode."""
    wrt = [leaves[i] for i in chosen]
    _, pull, outputs = jax.vjp(floats(f, leaves, chosen), *wrt, has_aux=True)
    # The cotangent of a weakly typed number may have any float dtype.
    found = (g.astype(x.dtype) if getattr(jax.typeof(x), "weak_type", False) else g
             for g, x in zip(pull(list(cotangents)), wrt, strict=True))  # fmt: skip
    return (*outputs, *found)


def along_tangents(f: Callable, leaves: Sequence[Any], tangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Return the outputs, and the tangents of the float ones along given tangents of the chosen leaves."""
    wrt = [leaves[i] for i in chosen]
    _, moved, outputs = jax.jvp(floats(f, leaves, chosen), wrt, list(tangents), has_aux=True)
    return (*outputs, *moved)


def _summed(terms: list[Any]) -> Any:
    return sum(map(jnp.sum, terms))


def _along_axes(slopes: Callable, wrt: Sequence[Any], cotangents: Sequence[Any], mapped: Callable,
                combined: Callable = _summed) -> list[Any]:  # fmt: skip
    """Return the cotangents of ``wrt``: for every axis, the cotangents times ``slopes(along)``, ``combined``."""
    found = []
    for k, x in enumerate(wrt):

        def entry(axis: jax.Array, k: int = k, x: jax.Array = x) -> jax.Array:
            along = [jnp.zeros(y.shape, y.dtype) for y in wrt]
            along[k] = axis.reshape(x.shape)
            terms = [c * t for c, t in zip(cotangents, slopes(along), strict=True)]
            return jnp.asarray(combined(terms), x.dtype)

        entries = mapped(entry)(jnp.eye(x.size, dtype=x.dtype))
        found.append(entries.reshape(*x.shape, *entries.shape[1:]))
    return found


def _in_turn(f: Callable) -> Callable:
    return lambda xs: jax.lax.map(f, xs)


def _forwards(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int], mapped: Callable
              ) -> tuple:  # fmt: skip
    wrt, partial = [leaves[i] for i in chosen], floats(f, leaves, chosen)
    slopes = lambda along: jax.jvp(partial, wrt, along, has_aux=True)[1]  # noqa: E731
    return (*partial(*wrt)[1], *_along_axes(slopes, wrt, cotangents, mapped))


def by_directions(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Forward mode, along one axis after the other, as a rule may not support ``vmap``."""
    return _forwards(f, leaves, cotangents, chosen, _in_turn)


def at_once(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Forward mode, along all axes at once."""
    return _forwards(f, leaves, cotangents, chosen, jax.vmap)


def by_differences(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Central differences; NaN where different steps give different slopes, as at a jump or on a fine staircase, and
    where terms cancel, so that their errors may be larger than the error that is allowed."""
    wrt, partial = [leaves[i] for i in chosen], floats(f, leaves, chosen)
    sizes = [jnp.maximum(jnp.abs(x), 1) for x in wrt]

    def slopes(along: list[jax.Array]) -> list[jax.Array]:
        # ``along`` is an axis, so the sum has one term: the size of the entry that moves.
        size = jnp.asarray(sum(jnp.sum(axis * s) for axis, s in zip(along, sizes, strict=True)))
        steps = jnp.concatenate([size * jnp.asarray(RELATIVE, size.dtype), jnp.asarray(FINE, size.dtype)])

        def moved(step: jax.Array) -> list[jax.Array]:
            return partial(*(x + step * axis for x, axis in zip(wrt, along, strict=True)))[0]

        # In a loop, as a program with a copy of f for every step would take long to compile.
        values = jax.lax.map(moved, jnp.concatenate([steps, -steps]))
        return [_slope(steps, v[: len(steps)], v[len(steps) :]) for v in values]

    found = _along_axes(slopes, wrt, cotangents, _in_turn, _with_size)
    largest = jnp.max(jnp.stack([jnp.nanmax(jnp.abs(x[..., 0]), initial=0.0) for x in found]))
    known = [jnp.where(x[..., 1] <= CANCEL * largest, x[..., 0], jnp.nan) for x in found]
    return (*partial(*wrt)[1], *known)


def _with_size(terms: list[jax.Array]) -> jax.Array:
    return jnp.stack([_summed(terms), _summed([jnp.abs(x) for x in terms])])


def _slope(steps: jax.Array, ahead: jax.Array, behind: jax.Array) -> jax.Array:
    """Return the slope for the largest step at which it is known, from ``f(x + step)`` and ``f(x - step)``.

    R(h) and R(2 h) may agree by accident at a step that is too large, where D(2 h) and D(4 h) are far apart.
    """
    central = (ahead - behind) / (2 * steps.reshape(-1, *(1,) * (ahead.ndim - 1)))
    nothing = NOTHING * jnp.max(jnp.where(jnp.isfinite(ahead), jnp.abs(ahead), 0.0), initial=0.0)
    best = jnp.full_like(central[0], jnp.nan)
    for k in reversed(range(0, len(RELATIVE), 3)):
        one, two, four = central[k : k + 3]
        near, far = (4 * one - two) / 3, (4 * two - four) / 3
        known = _is_alike(near, far, ALLOWED, nothing) & _is_alike(two, four, SMOOTH, nothing)
        best = jnp.where(known, near, best)
    for fine, off in zip(central[len(RELATIVE) :], OFF, strict=True):
        best = jnp.where(_is_alike(best, fine, off, nothing), best, jnp.nan)
    return best


def _is_alike(slope: jax.Array, other: jax.Array, off: float, nothing: jax.Array) -> jax.Array:
    return jnp.abs(slope - other) <= off * jnp.max(jnp.abs(slope), initial=0.0) + nothing


def _nowhere(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    raise NoDerivative(f"autodiff gives no derivative, and differences are taken of {MAX_ESTIMATED} entries at most")


def of_values(as_program: Callable[[Derivative], Any], inputs: Sequence[Any], chosen: Sequence[int],
              autodiff: bool = True) -> Derivative:  # fmt: skip
    """Return the first way to differentiate that JAX can trace: in reverse, forwards, by differences of values.

    Without ``autodiff`` only differences are taken. What is returned where nothing can be traced raises an error.
    """
    entries = sum(inputs[i].size for i in chosen)
    ways = [pulled_back] if autodiff else []
    ways += [at_once, by_directions] if autodiff and entries <= MAX_ENTRIES else []
    ways += [by_differences] if entries <= MAX_ESTIMATED else []
    for way in ways:
        try:
            jaxprs.trace(as_program(way), inputs)
        except Exception as error:  # whatever JAX raises where a function has no such derivative
            noted(error, "autodiff of the function")
        else:
            return way
    return pulled_back if autodiff else _nowhere


def is_additive(f: Callable, leaves: Sequence[Any], chosen: Sequence[int], rng: np.random.Generator) -> bool:
    """Whether the derivative along a sum is the sum of the derivatives, at zeros too.

    What JAX cannot transpose may still be linear. This is tried only where few numbers are differentiated.
    """
    partial, wrt = floats(f, leaves, chosen), [leaves[i] for i in chosen]
    if sum(x.size for x in wrt) > MAX_TRIED:
        return False
    halves = [jnp.where((jnp.arange(x.size) % 2 == 0).reshape(x.shape), x, 0) for x in wrt]
    one = [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in wrt]
    # |dx| adds up where signs agree, so these signs are opposite.
    other = [x * jnp.asarray(rng.uniform(-2.0, -1.2, x.shape), x.dtype) for x in one]
    both = jax.tree.map(jnp.add, one, other)
    try:
        return all(_adds_up(partial, at, one, other, both) for at in (wrt, [jnp.zeros_like(x) for x in wrt], halves))
    except Exception as error:  # whatever the rule raises, its fault is still that it cannot be transposed
        noted(error, "the rule along sums of directions")
        return False


def _adds_up(f: Callable, at: list[Any], *directions: list[Any]) -> bool:
    """Whether the derivative of f in the third direction is the sum of those in the first two."""
    tangents = [jax.jvp(f, at, along, has_aux=True)[1] for along in directions]
    return all(np.allclose(a + b, c, rtol=1e-2, atol=1e-2 * float(np.abs(c).max(initial=0.0)))
               for a, b, c in zip(*tangents, strict=True))  # fmt: skip


def in_tangents(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem of a ``custom_jvp`` rule with its ``forwards``."""
    return problem._replace(forwards=lambda: _along_random(problem, rng))


def _along_random(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem whose outputs are the tangents of the rule's values along random tangents."""
    assert problem.as_program is not None
    assert problem.as_reference is not None
    as_program = functools.partial(problem.as_program, gradients=along_tangents)
    count = len(problem.inputs) - len(problem.cotangents)
    moved = [path.removeprefix("cotangent of ") for path in problem.in_paths[count:]]
    values = problem.out_paths[: problem.gradients.index(True)]
    plain = problem.out_paths[len(values) + len(problem.wrt) :]
    tangents = (rng.normal(size=x.shape).astype(x.dtype) for x in (problem.inputs[i] for i in problem.wrt))
    return problem._replace(
        candidate=as_program(problem.written),
        reference=problem.as_reference(problem.original, along_tangents),
        inputs=(*problem.inputs[:count], *tangents),
        in_paths=(*problem.in_paths[:count], *(f"tangent of {problem.in_paths[i]}" for i in problem.wrt)),
        out_paths=(*values, *(f"tangent of {path}" for path in moved), *plain),
        gradients=(*(False for _ in values), *(True for _ in moved), *(False for _ in plain)),
        cotangents=(),
        shared=Shared(),
        as_program=as_program,
        faults_of=None,
        as_reference=None,
        forwards=None,
    )
