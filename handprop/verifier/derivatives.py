"""The derivative of a function that autodiff gives, or differences of its values where autodiff gives none.

JAX has no derivative in reverse mode of a ``while`` loop, and none at all of a callback: that is why many rules are
written. The cotangent of x for the cotangent c of f(x) is ``J(x)^T c``, and its entry k is ``<c, J(x) e_k>``, where e_k
is the k-th unit vector. Forward mode gives ``J(x) e_k`` exactly, and central differences give an estimate:

    D(h) = (f(x + h e_k) - f(x - h e_k)) / (2 h),    J(x) e_k = (4 D(h) - D(2 h)) / 3 + O(h^4).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from handprop.verifier.arguments import is_inexact
from handprop.verifier.internal import noted
from handprop.verifier.problem import outputs_of
from handprop.verifier.programs import jaxprs

__all__ = ["Derivative", "at_once", "by_differences", "by_directions", "estimated", "floats", "of_values", "pulled_back"]

# derivative(f, leaves, cotangents, chosen): the outputs of f and the cotangents of the chosen leaves
Derivative = Callable[[Callable, Sequence[Any], Sequence[Any], list[int]], tuple]

MAX_ENTRIES = 1024  # numbers that are differentiated one by one
STEP = 2.0**-9  # relative to a number, or absolute if the number is below 1
ALLOWED = 1e-6  # the error that estimates may have, relative to the largest entry
# By how much a slope with one of these steps may differ, relative to the largest entry: with the same step once, which
# leaves an error of the order of h^2, and with absolute steps below which no staircase is seen.
NEAR, FINE = 1e-3, ((2.0**-13, 1e-2), (2.0**-19, 0.25))
NOTHING = 1e-9


class Estimated(NamedTuple):
    """What a problem has to say if its reference is an estimate; see :class:`~handprop.verifier.problem.Problem`."""

    conditions: tuple[str, ...] = ()
    accuracy: float = 0.0
    assumed: str = ""


def estimated(way: Derivative) -> Estimated:
    if way is not by_differences:
        return Estimated()
    said = f"compared with central differences of its function's values, to {ALLOWED:.0e}: JAX has no derivative of it"
    return Estimated((said,), ALLOWED, "differences of values are no proof")


def floats(f: Callable, leaves: Sequence[Any], chosen: list[int]) -> Callable:
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


def _along_axes(slopes: Callable, wrt: Sequence[Any], cotangents: Sequence[Any], mapped: Callable) -> list[Any]:
    """Return the cotangents of ``wrt``: for every axis, the cotangents times ``slopes(along)``."""
    found = []
    for k, x in enumerate(wrt):

        def entry(axis: jax.Array, k: int = k, x: jax.Array = x) -> jax.Array:
            along = [jnp.zeros(y.shape, y.dtype) for y in wrt]
            along[k] = axis.reshape(x.shape)
            return jnp.asarray(sum(jnp.sum(c * t) for c, t in zip(cotangents, slopes(along), strict=True)), x.dtype)

        found.append(mapped(entry)(jnp.eye(x.size, dtype=x.dtype)).reshape(x.shape))
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
    """Central differences; NaN where different steps give different slopes, as at a jump or on a fine staircase."""
    wrt, partial = [leaves[i] for i in chosen], floats(f, leaves, chosen)
    coarse = [STEP * jnp.maximum(jnp.abs(x), 1) for x in wrt]

    def slopes(along: list[jax.Array]) -> list[jax.Array]:
        # ``along`` is an axis, so the sum has one term: the step of the entry that moves.
        h = sum(jnp.sum(axis * size) for axis, size in zip(along, coarse, strict=True))
        near, far = (_central(partial, wrt, along, k * h) for k in (1, 2))
        found = [(4 * a - b) / 3 for a, b in zip(near, far, strict=True)]
        others = [(near, NEAR), *((_central(partial, wrt, along, step), off) for step, off in FINE)]
        return [functools.reduce(_where_alike, [(other[k], off) for other, off in others], best)
                for k, best in enumerate(found)]  # fmt: skip

    return (*partial(*wrt)[1], *_along_axes(slopes, wrt, cotangents, _in_turn))


def _where_alike(best: jax.Array, other: tuple[jax.Array, float]) -> jax.Array:
    slope, off = other
    size = jnp.max(jnp.abs(best), initial=0.0)
    return jnp.where(jnp.abs(slope - best) <= off * size + NOTHING, best, jnp.nan)


def _central(f: Callable, wrt: Sequence[Any], along: Sequence[Any], h: Any) -> list[Any]:
    ahead, behind = (f(*(x + sign * h * axis for x, axis in zip(wrt, along, strict=True)))[0] for sign in (1, -1))
    return [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]


def of_values(as_program: Callable[[Derivative], Any], inputs: Sequence[Any], chosen: Sequence[int]) -> Derivative:
    """Return the first way to differentiate that JAX can trace: in reverse, forwards, by differences of values."""
    ways = [pulled_back]
    if sum(inputs[i].size for i in chosen) <= MAX_ENTRIES:
        ways += [at_once, by_directions, by_differences]
    for way in ways:
        try:
            jaxprs.trace(as_program(way), inputs)
        except Exception as error:  # whatever JAX raises where a function has no such derivative
            noted(error, "autodiff of the function")
        else:
            return way
    return pulled_back
