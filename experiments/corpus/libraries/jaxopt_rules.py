"""Calls of jaxopt's rules: implicit differentiation of its solvers, projections, isotonic regression, perturbations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import definite, named, normal

__all__ = ["CALLS"]

_ROOT = "jaxopt.implicit_diff.custom_root"
_SIMPLEX = "jaxopt._src.projection._projection_unit_simplex"
_SPARSE = "jaxopt._src.projection._projection_unit_sparse_simplex"
_PROJECT = "jaxopt.projection.projection_"
_ISOTONIC = "jaxopt._src.isotonic._isotonic_l2_pav"
_ARGMAX = "jaxopt.perturbations.make_perturbed_argmax"
_MAX = "jaxopt.perturbations.make_perturbed_max"
_FUN = "jaxopt.perturbations.make_perturbed_fun"
_TOLERANCE = "Right up to the tolerance of the solver: the rule is the derivative of the exact solution."
_SMOOTHED = (
    "jaxopt/_src/perturbations.py:{line} estimates the gradient of the expectation by the score of the noise; the "
    "value is a mean over fixed samples, whose own derivative {own}."
)


def _solver(name: str, function: Any, *args: Any, **options: Any) -> Any:
    """Return a solver of jaxopt that ran until it converged."""
    options = {"maxiter": 2000, "tol": 1e-11, **options}
    return getattr(named("jaxopt"), name)(function, *args, **options)


def _ridge(name: str, **options: Any) -> Callable:
    """Return the weights of a ridge regression as a function of the penalty and the data."""
    solver = _solver(name, named("jaxopt.objective.ridge_regression"), **options)

    def solve(penalty: jax.Array, features: jax.Array, targets: jax.Array) -> jax.Array:
        return solver.run(jnp.zeros(features.shape[1]), penalty, (features, targets)).params

    return solve


def _minimum() -> dict[str, Any]:
    """Return the option that says what the weights of a ridge regression satisfy: a gradient of zero."""

    def gradient(weights: jax.Array, penalty: jax.Array, features: jax.Array, targets: jax.Array) -> jax.Array:
        return jax.grad(named("jaxopt.objective.ridge_regression"))(weights, penalty, (features, targets))

    return {"satisfies": gradient}


def _composite(name: str, second: str, start: Callable[[int], jax.Array], **options: Any) -> Callable:
    jaxopt_second = named("jaxopt." + second)
    solver = _solver(name, named("jaxopt.objective.least_squares"), jaxopt_second, **options)

    def solve(hyper: Any, features: jax.Array, targets: jax.Array) -> jax.Array:
        return solver.run(start(features.shape[1]), hyper, (features, targets)).params

    return solve


def _bounded() -> Callable:
    solver = _solver("LBFGSB", named("jaxopt.objective.ridge_regression"))

    def solve(bounds: tuple, penalty: jax.Array, features: jax.Array, targets: jax.Array) -> jax.Array:
        start = jnp.zeros(features.shape[1])
        return solver.run(start, bounds=bounds, l2reg=penalty, data=(features, targets)).params

    return solve


def _exact(matvec: Callable, vector: jax.Array) -> jax.Array:
    return named("jaxopt.linear_solve.solve_gmres")(matvec, vector, tol=1e-12)


def _residuals(weights: jax.Array, features: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.tanh(features @ weights) + 0.3 * features @ weights - targets


def _stationary(weights: jax.Array, features: jax.Array, targets: jax.Array) -> jax.Array:
    return jax.grad(lambda w: 0.5 * jnp.sum(_residuals(w, features, targets) ** 2))(weights)


def _contraction(y: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    return jnp.tanh(matrix @ y + shift)


def _cubic(y: jax.Array, rate: jax.Array, target: jax.Array) -> jax.Array:
    return y**3 + rate * y - target


def _equality_program() -> tuple[Callable, tuple]:
    solver = named("jaxopt.EqualityConstrainedQP")(tol=1e-12)

    def solve(linear: jax.Array, rows: jax.Array, levels: jax.Array) -> Any:
        return solver.run(params_obj=(definite(80, 4), linear), params_eq=(rows, levels)).params

    return solve, (normal(81, (4,)), normal(82, (2, 4)), normal(83, (2,)))


def _inequality_program() -> tuple[Callable, tuple]:
    solver = named("jaxopt.OSQP")(tol=1e-12, maxiter=20000)

    def solve(linear: jax.Array, rows: jax.Array, levels: jax.Array) -> jax.Array:
        return solver.run(params_obj=(definite(84, 3), linear), params_ineq=(rows, levels)).params.primal

    return solve, (normal(85, (3,)), normal(86, (2, 3)), jnp.asarray([-0.5, 4.0]))


def _balance(x: jax.Array, matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return matrix @ x - vector + 0.1 * jnp.sin(x)


def _decorated() -> tuple[Callable, tuple]:
    """A solver of the user's own, with the rule as a decorator."""

    def solver(start: Any, matrix: jax.Array, vector: jax.Array) -> jax.Array:
        del start
        x = jnp.zeros_like(vector)
        for _ in range(40):
            x = jnp.linalg.solve(matrix, vector - 0.1 * jnp.sin(x))
        return x

    wrapped = named(_ROOT)(_balance)(solver)
    return (lambda matrix, vector: wrapped(None, matrix, vector)), (
        normal(87, (4, 4), scale=0.3) + 2.0 * jnp.eye(4),
        normal(88, (4,)),
    )


def _best(x: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jnp.argmax(x), x.shape[0], dtype=x.dtype)


def _perturbed(rule: str, function: Callable, **options: Any) -> Callable:
    return named(rule)(function, num_samples=50, **options)


CALLS = (
    Call("jaxopt", _ROOT, lambda: (_ridge("LBFGS"), (jnp.asarray(0.4), normal(1, (6, 3)), normal(2, (6,)))),
         float64=True, options=_minimum(), why=_TOLERANCE),
    Call("jaxopt", _ROOT, lambda: (_ridge("BFGS"), (jnp.asarray(0.2), normal(3, (7, 2)), normal(4, (7,)))),
         float64=True, options=_minimum(), why=_TOLERANCE),
    Call("jaxopt", _ROOT, lambda: (_ridge("NonlinearCG"), (jnp.asarray(0.5), normal(5, (5, 4)), normal(6, (5,)))),
         float64=True, options=_minimum(), why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (_ridge("GradientDescent", maxiter=3), (jnp.asarray(0.4), normal(7, (6, 3)), normal(8, (6,)))),
         truth="wrong", float64=True,
         why="Three steps are far from the minimum, but jaxopt/_src/implicit_diff.py:236 differentiates the minimum. "
         "The call is at fault, not the library."),
    Call("jaxopt", _ROOT,
         lambda: (_composite("BlockCoordinateDescent", "prox.prox_lasso", jnp.zeros),
                  (jnp.asarray(0.3), normal(9, (8, 4)), normal(10, (8,)))), float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (_composite("ProjectedGradient", _PROJECT[7:] + "simplex", lambda n: jnp.ones(n) / n, stepsize=0.05),
                  (jnp.asarray(1.3), normal(11, (6, 3)), normal(12, (6,)))), float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (_composite("ProjectedGradient", "projection.projection_box", jnp.zeros),
                  ((jnp.asarray(-0.2), jnp.asarray(0.15)), normal(13, (7, 4)), normal(14, (7,)))),
         float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (_bounded(), ((jnp.full(3, -0.1), jnp.full(3, 0.12)), jnp.asarray(0.3), normal(15, (6, 3)),
                               normal(16, (6,)))), float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda x, y: _solver("LevenbergMarquardt", _residuals).run(jnp.zeros(2), x, y).params,
                  (normal(17, (6, 2)), normal(18, (6,), scale=0.3))), float64=True,
         options={"satisfies": _stationary}, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda x, y: _solver("GaussNewton", _residuals).run(jnp.zeros(3), x, y).params,
                  (normal(19, (7, 3)), normal(20, (7,), scale=0.1))), float64=True,
         options={"satisfies": _stationary}, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda a, b: _solver("FixedPointIteration", _contraction).run(jnp.zeros(4), a, b).params,
                  (normal(21, (4, 4), scale=0.2), normal(22, (4,)))), float64=True,
         options={"satisfies": lambda y, a, b: y - _contraction(y, a, b)}, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda a, b: _solver("AndersonAcceleration", _contraction).run(jnp.zeros(3), a, b).params,
                  (normal(23, (3, 3), scale=0.3), normal(24, (3,)))), float64=True,
         options={"satisfies": lambda y, a, b: y - _contraction(y, a, b)}, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda a, b: _solver("Broyden", _cubic, implicit_diff_solve=_exact).run(jnp.zeros(5), a, b).params,
                  (jnp.asarray(1.5), normal(25, (5,)))), float64=True, options={"satisfies": _cubic}, why=_TOLERANCE),
    Call("jaxopt", _ROOT,
         lambda: (lambda a, b: _solver("Bisection", _cubic, -5.0, 5.0, check_bracket=False).run(None, a, b).params,
                  (jnp.asarray(0.7), jnp.asarray(2.2))), float64=True, options={"satisfies": _cubic}, why=_TOLERANCE),
    Call("jaxopt", _ROOT, _equality_program, float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT, _inequality_program, float64=True, why=_TOLERANCE),
    Call("jaxopt", _ROOT, _decorated, float64=True, options={"satisfies": _balance}, why=_TOLERANCE),
    Call("jaxopt", _SIMPLEX, lambda: (named(_PROJECT + "simplex"), (normal(28, (7,)), jnp.asarray(2.0)))),
    Call("jaxopt", _SIMPLEX, lambda: (named(_PROJECT + "simplex"), (jnp.full((4,), -1.0),))),
    Call("jaxopt", _SIMPLEX, lambda: (named(_PROJECT + "l1_ball"), (normal(29, (9,), scale=3.0), 1.5)), argnums=(0,)),
    Call("jaxopt", _SPARSE, lambda: (named(_PROJECT + "sparse_simplex"), (normal(30, (8,)), 3))),
    Call("jaxopt", _SPARSE, lambda: (named(_PROJECT + "sparse_simplex"), (normal(31, (6,), scale=0.2), 5)),
         kwargs={"value": 2.5}),
    Call("jaxopt", _SPARSE, lambda: (named(_PROJECT + "sparse_simplex"), (normal(32, (5,)), 1))),
    Call("jaxopt", _ISOTONIC, lambda: (named("jaxopt.isotonic.isotonic_l2_pav"), (normal(33, (9,)),)), float64=True),
    Call("jaxopt", _ISOTONIC, lambda: (named("jaxopt.isotonic.isotonic_l2_pav"), (normal(34, (6,)),)),
         kwargs={"increasing": False, "y_min": -0.4, "y_max": 0.6}, float64=True),
    Call("jaxopt", _ISOTONIC, lambda: (named("jaxopt.isotonic.isotonic_l2_pav"), (1e-9 * jnp.arange(1.0, 7.0) ** 2,)),
         truth="wrong", float64=True,
         why="jaxopt/_src/isotonic.py:130 takes neighbours within 1e-8 of each other for one block, so that data whose "
         "unit is small are averaged in the rule and not in the value; a step of differences must be far below 1e-9."),
    Call("jaxopt", _ARGMAX, lambda: (_perturbed(_ARGMAX, _best), (normal(35, (5,)), jax.random.key(0))),
         truth="wrong", meant="smoothed", why=_SMOOTHED.format(line=99, own="is 0")),
    Call("jaxopt", _ARGMAX,
         lambda: (_perturbed(_ARGMAX, _best, sigma=0.5, control_variate=True), (normal(36, (4,)), jax.random.key(1))),
         truth="wrong", meant="smoothed", why=_SMOOTHED.format(line=112, own="is 0")),
    Call("jaxopt", _MAX, lambda: (_perturbed(_MAX, _best, sigma=0.3), (normal(37, (6,)), jax.random.key(2))),
         why="The mean of maxima is linear between ties, with the mean of the arguments as its derivative."),
    Call("jaxopt", _FUN,
         lambda: (_perturbed(_FUN, lambda x: jnp.sum(jnp.sin(x)), sigma=0.2), (normal(38, (5,)), jax.random.key(3))),
         truth="wrong", meant="smoothed", why=_SMOOTHED.format(line=256, own="is the mean of the gradients")),
    Call("jaxopt", _FUN,
         lambda: (_perturbed(_FUN, lambda x: jnp.max(x * x), control_variate=True,
                             noise=named("jaxopt.perturbations.Normal")()),
                  (normal(39, (4,)), jax.random.key(4))),
         truth="wrong", meant="smoothed", why=_SMOOTHED.format(line=270, own="is the mean of the gradients")),
)  # fmt: skip
