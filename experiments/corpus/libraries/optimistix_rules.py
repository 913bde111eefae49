"""Calls of optimistix's rule: solutions differentiated by the implicit function theorem."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import definite, named, normal, uniform

__all__ = ["CALLS"]

_RULE = "optimistix._ad._implicit_impl"
_TOLERANCE = "Right up to the tolerance of the solver: the rule is the derivative of the exact solution."
_STOPPED = (
    "The solver stops long before it converges, so that its value still depends on the start; optimistix/_ad.py:110 "
    "differentiates the exact solution all the same. The call is at fault, not the library."
)


def _solved(
    what: str, function: Callable, solver: str, rtol: float = 1e-10, atol: float = 1e-10, **options: Any
) -> Callable:
    """Return ``(start, parameters) -> solution`` for root_find, minimise, least_squares or fixed_point."""
    optx = named("optimistix")
    chosen = getattr(optx, solver)(rtol=rtol, atol=atol)
    return lambda start, args: getattr(optx, what)(function, chosen, start, args, **options).value


def _root(function: Callable) -> dict[str, Callable]:
    return {"satisfies": lambda y, start, args: function(y, args)}


def _fixed(function: Callable) -> dict[str, Callable]:
    return {"satisfies": lambda y, start, args: y - function(y, args)}


def _minimum(function: Callable) -> dict[str, Callable]:
    """Return the option that says what a minimum satisfies, also of a sum of squares: a gradient of zero."""

    def gradient(y: Any, start: Any, args: Any) -> Any:
        def value(y: Any) -> jax.Array:
            leaves = jax.tree.leaves(function(y, args))
            return leaves[0] if leaves[0].ndim == 0 else 0.5 * sum(jnp.sum(leaf**2) for leaf in leaves)

        return jax.grad(value)(y)

    return {"satisfies": gradient}


def _square_root(y: jax.Array, a: jax.Array) -> jax.Array:
    return y**2 - a


def _coupled(y: dict, args: tuple) -> dict:
    a, b = args
    return {"u": y["u"] + 0.2 * jnp.sin(y["v"].sum()) - a, "v": y["v"] ** 3 + y["v"] - b * y["u"].mean()}


def _cosine(y: jax.Array, args: tuple) -> jax.Array:
    weight, shift = args
    return jnp.tanh(weight @ y + shift)


def _quadratic(y: jax.Array, args: tuple) -> jax.Array:
    matrix, vector = args
    return 0.5 * y @ (matrix + matrix.T) @ y / 2 - vector @ y + 0.05 * jnp.sum(y**4)


def _rosenbrock(y: jax.Array, args: tuple) -> tuple[jax.Array, jax.Array]:
    a, b = args
    return jnp.sqrt(b) * (y[1:] - y[:-1] ** 2), a - y[:-1]


def _curve(y: tuple, args: tuple) -> jax.Array:
    (height, rate), (times, seen) = y, args
    return height * jnp.exp(-rate * times) - seen


def _seen() -> tuple[jax.Array, jax.Array]:
    times = jnp.linspace(0.0, 3.0, 7)
    return times, jnp.exp(0.4 - 0.7 * times) + normal(13, (7,), scale=0.05)


def _bracketed() -> tuple[Callable, tuple]:
    optx = named("optimistix")

    def solve(a: jax.Array) -> jax.Array:
        solver = optx.Bisection(rtol=1e-10, atol=1e-10)
        options = {"lower": 0.0, "upper": 4.0}
        return optx.root_find(lambda y, p: jnp.exp(y) - p[0] - p[1] * y, solver, 2.0, a, options=options).value

    return solve, ((jnp.asarray(5.0), jnp.asarray(1.5)),)


def _solution() -> tuple[Callable, tuple]:
    optx = named("optimistix")

    def solve(a: jax.Array) -> Any:
        return optx.root_find(_square_root, optx.Newton(rtol=1e-10, atol=1e-10), jnp.ones(3), a).value

    return jax.jit(solve), (uniform(20, (3,), 1.0, 2.0),)


def _implicit_rule() -> tuple[Callable, tuple]:
    implicit_jvp, lx = named("optimistix.internal.implicit_jvp"), named("lineax")
    return (
        lambda a: implicit_jvp(_primal_root, _rewritten, a, frozenset(), lx.AutoLinearSolver(well_posed=True))[0]
    ), (uniform(21, (5,), 0.5, 2.0),)


def _primal_root(a: jax.Array) -> tuple[jax.Array, None]:
    return jnp.cbrt(a), None


def _rewritten(root: jax.Array, residual: None, a: jax.Array) -> jax.Array:
    return root**3 - a


CALLS = (
    Call(
        "optimistix", _RULE,
        lambda: (_solved("root_find", _square_root, "Newton"), (jnp.ones(4), uniform(1, (4,), 1.0, 3.0))),
        float64=True, options=_root(_square_root), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (_solved("root_find", _square_root, "Chord"), (jnp.full((3,), 1.4), uniform(2, (3,), 1.5, 2.5))),
        float64=True, options=_root(_square_root), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("root_find", _coupled, "Newton"),
            ({"u": jnp.zeros(2), "v": jnp.zeros(3)}, (normal(3, (2,)), jnp.asarray(1.7))),
        ),
        float64=True, options=_root(_coupled), argnums=(1,), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("root_find", _coupled, "Dogleg"),
            ({"u": jnp.zeros(3), "v": jnp.zeros(1)}, (normal(4, (3,)), jnp.asarray(0.4))),
        ),
        float64=True, options=_root(_coupled), argnums=(1,), why=_TOLERANCE,
    ),
    Call("optimistix", _RULE, _bracketed, float64=True, why=_TOLERANCE,
         options={"satisfies": lambda y, a: jnp.exp(y) - a[0] - a[1] * y}),
    Call("optimistix", _RULE, _solution, float64=True, why=_TOLERANCE, options={"satisfies": _square_root}),
    Call("optimistix", _RULE, _implicit_rule, options={"satisfies": lambda y, a: y**3 - a}),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("fixed_point", _cosine, "FixedPointIteration", max_steps=2000),
            (jnp.zeros(4), (normal(5, (4, 4), scale=0.3), normal(6, (4,)))),
        ),
        float64=True, options=_fixed(_cosine), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("fixed_point", _cosine, "Newton"),
            (jnp.zeros(3), (normal(7, (3, 3), scale=0.3), normal(8, (3,)))),
        ),
        float64=True, options=_fixed(_cosine), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("minimise", _quadratic, "BFGS", tags=frozenset({named("lineax").positive_semidefinite_tag})),
            (jnp.zeros(3), (definite(9, 3), normal(10, (3,)))),
        ),
        float64=True, options=_minimum(_quadratic), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (_solved("minimise", _quadratic, "LBFGS"), (jnp.ones(5), (definite(11, 5), normal(12, (5,))))),
        float64=True, options=_minimum(_quadratic), argnums=(1,), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("least_squares", _rosenbrock, "LevenbergMarquardt"),
            (jnp.zeros(3), (jnp.asarray([1.2, 0.8]), jnp.asarray(3.0))),
        ),
        float64=True, options=_minimum(_rosenbrock), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("least_squares", _curve, "GaussNewton"),
            ((jnp.asarray(1.0), jnp.asarray(0.5)), _seen()),
        ),
        float64=True, options=_minimum(_curve), argnums=(1,), why=_TOLERANCE,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("root_find", _square_root, "Newton", max_steps=1, throw=False),
            (jnp.full((4,), 3.0), uniform(14, (4,), 1.0, 3.0)),
        ),
        truth="wrong", float64=True, why=_STOPPED,
    ),
    Call(
        "optimistix", _RULE,
        lambda: (
            _solved("fixed_point", _cosine, "FixedPointIteration", rtol=0.1, atol=0.1),
            (jnp.full((3,), 2.0), (normal(15, (3, 3), scale=0.6), normal(16, (3,)))),
        ),
        truth="wrong", float64=True, argnums=(1,), why=_STOPPED,
    ),
)  # fmt: skip
