"""Calls of the rules of ott-jax: norms, soft minima, matrix roots, fixed points and the Sinkhorn algorithm."""

from collections.abc import Callable

import numpy as np

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, positive_definite, simplex, uniform

__all__ = ["CALLS"]

_NORM = "ott.math.utils.norm"
_LSE = "ott.math.utils.logsumexp"
_SOFTMIN = "ott.math.utils.softmin"
_FIXED = "ott.math.fixed_point_loop.fixpoint_iter_backprop"
_SQRTM = "ott.math.matrix_square_root.sqrtm"
_SINKHORN = "ott.solvers.linear.sinkhorn._iterations_implicit"

_NORM_AT_ZERO = (
    "ott/math/utils.py:102: at an input that is all zeros the rule takes the norm of ones, and returns that as the "
    "value, so the value of 0 becomes the root of the size as soon as the call is differentiated"
)
_LSE_AT_INFINITY = (
    "ott/math/utils.py:172: where all entries are -inf the rule replaces the value -inf by 0 and returns the 0 as the "
    "value of the function"
)
_SCAN_BACKWARDS = (
    "ott/math/fixed_point_loop.py:221: with as many least as most iterations the backward scan starts at iteration 0 "
    "and counts down into negative numbers, so that the states are read in the wrong order"
)
_ROOTS = "implicit: the rule is the derivative of the exact root, which the iterations reach up to their threshold"
_POTENTIALS = "implicit: the rule is the derivative at the fixed point, which the iterations reach up to the threshold"


def _utils(name: str, *args) -> tuple[Callable, tuple]:
    from ott.math import utils

    return getattr(utils, name), args


def _roots(name: str, *args) -> tuple[Callable, tuple]:
    from ott.math import matrix_square_root

    return getattr(matrix_square_root, name), args


def _first_two_roots(*args) -> tuple[Callable, tuple]:
    sqrtm, args = _roots("sqrtm", *args)
    return lambda *a: sqrtm(*a)[:2], args


def _fixed_point(least: int, most: int, block: int) -> tuple[Callable, tuple]:
    import jax.numpy as jnp
    from ott.math import fixed_point_loop

    def wave(iteration, constants, state, compute_error):
        return jnp.sin(constants * state) + 0.1 * state**2

    loop = fixed_point_loop.fixpoint_iter_backprop
    args = (lambda *_: True, wave, least, most, block, uniform(1, 0.5, 1.4, 3), uniform(2, 0.2, 0.9, 3))
    return loop, args


def _cost(name: str, *options, at=None) -> tuple[Callable, tuple]:
    from ott.geometry import costs

    cost = getattr(costs, name)(*options)
    return cost, at if at is not None else (draw(3, 4), draw(4, 4))


def _legendre(rho: float) -> tuple[Callable, tuple]:
    from ott.geometry import costs, regularizers

    cost = costs.RegTICost(regularizers.L1(), lam=0.6, rho=rho)
    return cost.h_legendre, (floats(1.7, -2.2, 0.3, 1.1, -0.4),)


def _cloud(n: int, m: int) -> tuple:
    return draw(5, n, 2), 0.7 * draw(6, m, 2) + 0.5


def _sinkhorn(choose: Callable, n: int = 5, m: int = 4, weights: bool = False, **options) -> tuple[Callable, tuple]:
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    solver = sinkhorn.Sinkhorn(**options)

    def solve(x, y, a=None, b=None):
        return choose(solver(linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=0.5), a=a, b=b)))

    return solve, _cloud(n, m) + ((simplex(7, n), simplex(8, m)) if weights else ())


def _implicit(**options):
    from ott.solvers.linear import implicit_differentiation

    return implicit_differentiation.ImplicitDiff(**options)


def _semidiscrete(epsilon: float) -> tuple[Callable, tuple]:
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import semidiscrete

    x, y = _cloud(6, 3)
    problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=epsilon), b=simplex(9, 3))
    return semidiscrete._semidiscrete_loss, (0.2 * draw(10, 3), problem)


def _centred(choose: Callable) -> Callable:
    """Return a choice among the outputs that leaves out the constant by which the two potentials may be shifted."""
    return lambda out: choose(out) - choose(out).mean()


def _divergence(name: str) -> tuple[Callable, tuple]:
    from ott.geometry import costs, pointcloud
    from ott.tools import sinkhorn_divergence

    cost = getattr(costs, name)()
    return lambda x, y: sinkhorn_divergence.sinkhorn_divergence(
        pointcloud.PointCloud, x, y, cost_fn=cost, epsilon=0.3, solve_kwargs={"threshold": 1e-6}
    )[0], _cloud(5, 4)


def _call(rule: str, make: Callable, *rest, **more) -> Call:
    return Call("ott-jax", rule, make, *rest, **more)


_UNROLLED = {"implicit_diff": None, "threshold": 1e-2, "inner_iterations": 5}

CALLS = (
    _call(_NORM, lambda: _utils("norm", draw(1, 5)), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(
        _NORM,
        lambda: _utils("norm", draw(2, 3, 4)),
        "right here",
        kwargs={"axis": 1, "keepdims": True},
        mode="jvp",
        why=_NORM_AT_ZERO,
    ),
    _call(_NORM, lambda: _utils("norm", draw(2, 3, 4), 1, -1), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _utils("norm", draw(2, 3, 4), "fro", (0, 1)), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _utils("norm", floats(0, 0, 0)), "wrong", mode="jvp", why=_NORM_AT_ZERO),
    _call(
        _NORM,
        lambda: _utils("norm", floats(1.2, -0.4, 0, 0).reshape(2, 2), None, 1),
        "wrong",
        mode="jvp",
        why="ott/math/utils.py:101: the zero is guarded only where the whole array is zero, so that a row of zeros "
        "gets NaN where the documentation promises 0",
    ),
    _call(_NORM, lambda: _cost("Euclidean"), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _cost("Euclidean", at=(draw(3, 4), draw(3, 4))), "wrong", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: (_cost("Euclidean")[0].all_pairs, _cloud(4, 3)), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _cost("SqPNorm", 1.5), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _cost("PNormP", 3.0), "right here", mode="jvp", why=_NORM_AT_ZERO),
    _call(_NORM, lambda: _cost("SqPNorm", 1.5, at=(draw(3, 4), draw(3, 4))), "wrong", mode="jvp", why=_NORM_AT_ZERO),
    _call(_LSE, lambda: _utils("logsumexp", draw(11, 3, 4), 1), "right here", mode="jvp", why=_LSE_AT_INFINITY),
    _call(_LSE, lambda: _utils("logsumexp", draw(11, 6)), "right here", mode="jvp", why=_LSE_AT_INFINITY),
    _call(
        _LSE,
        lambda: _utils("logsumexp", draw(12, 5), None, False, floats(0.4, 0, 0.3, 1.1, 0)),
        "right here",
        mode="jvp",
        why=_LSE_AT_INFINITY,
    ),
    _call(
        _LSE,
        lambda: _utils("logsumexp", draw(12, 2, 3), -1, False, floats(2, -0.4, 0.3), True),
        "right here",
        mode="jvp",
        why=_LSE_AT_INFINITY,
    ),
    _call(
        _LSE,
        lambda: _utils("logsumexp", floats(-float("inf"), 0.3, -1.2), 0),
        "right here",
        mode="jvp",
        why=_LSE_AT_INFINITY,
    ),
    _call(_LSE, lambda: _utils("logsumexp", floats(*[-float("inf")] * 3)), "wrong", mode="jvp", why=_LSE_AT_INFINITY),
    _call(
        _LSE,
        lambda: _utils("logsumexp", draw(12, 3), None, False, floats(0, 0, 0)),
        "wrong",
        mode="jvp",
        argnums=(0,),
        why=_LSE_AT_INFINITY,
    ),
    _call(_SOFTMIN, lambda: _utils("softmin", draw(13, 3, 4), 0.3, 1), argnums=(0,)),
    _call(_SOFTMIN, lambda: _utils("softmin", draw(13, 5), 0.7), argnums=(0,)),
    _call(_SOFTMIN, lambda: _utils("softmin", floats(0.4, float("inf"), -0.2), 0.5, 0), argnums=(0,)),
    _call(
        _SOFTMIN,
        lambda: _utils("softmin", draw(13, 3, 4), uniform(1, 0.2, 0.6), (0, 1)),
        "wrong",
        "zero",
        why="ott/math/utils.py:215: the rule gives gamma no cotangent, though the value depends on it",
    ),
    _call("ott.math.utils.lambertw", lambda: _utils("lambertw", uniform(14, -0.3, 5.0, 7)), mode="jvp"),
    _call("ott.math.utils.lambertw", lambda: _utils("lambertw", floats(0, 0.2, 3)), kwargs={"tol": 1e-9}, mode="jvp"),
    _call(_SQRTM, lambda: _first_two_roots(positive_definite(15, 3, 3)), why=_ROOTS, float64=True),
    _call(
        _SQRTM,
        lambda: _first_two_roots(positive_definite(16, 2, 4, 4), 1e-8, 0, 5),
        why=_ROOTS,
        float64=True,
        argnums=(0,),
    ),
    _call(
        _SQRTM,
        lambda: _roots("sqrtm", positive_definite(15, 3, 3), 1e-1, 0, 2, 4),
        "wrong",
        "zero",
        float64=True,
        argnums=(0,),
        why="ott/math/matrix_square_root.py:188: the cotangent of the errors is ignored, and so few iterations end "
        "far from the root whose derivative the rule is",
    ),
    _call(
        "ott.math.matrix_square_root.sqrtm_only",
        lambda: _roots("sqrtm_only", positive_definite(17, 3, 3)),
        kwargs={"threshold": 1e-8, "inner_iterations": 5},
        why=_ROOTS,
        float64=True,
        options={"satisfies": lambda y, x, **kwargs: y @ y - x},
    ),
    _call(
        "ott.math.matrix_square_root.inv_sqrtm_only",
        lambda: _roots("inv_sqrtm_only", positive_definite(18, 4, 4)),
        why=_ROOTS,
        float64=True,
        options={"satisfies": lambda y, x: y @ y @ x - np.eye(4)},
    ),
    _call(_FIXED, lambda: _fixed_point(0, 8, 2)),
    _call(_FIXED, lambda: _fixed_point(6, 6, 6)),
    _call(_FIXED, lambda: _fixed_point(8, 8, 2), "wrong", why=_SCAN_BACKWARDS),
    _call(_FIXED, lambda: _fixed_point(4, 4, 1), "wrong", why=_SCAN_BACKWARDS),
    _call(_FIXED, lambda: _sinkhorn(lambda out: out.g, **_UNROLLED, max_iterations=40)),
    _call(
        _FIXED,
        lambda: _sinkhorn(lambda out: out.g, **_UNROLLED, min_iterations=10, max_iterations=10),
        "wrong",
        why=_SCAN_BACKWARDS,
    ),
    _call(
        _SINKHORN,
        lambda: _sinkhorn(lambda out: out.reg_ot_cost, threshold=1e-9, use_danskin=False),
        why=_POTENTIALS,
        float64=True,
    ),
    _call(
        _SINKHORN,
        lambda: _sinkhorn(lambda out: out.matrix, 4, 6, True, threshold=1e-9, implicit_diff=_implicit()),
        why=_POTENTIALS,
        float64=True,
        argnums=(0, 1),
    ),
    _call(
        _SINKHORN, lambda: _sinkhorn(_centred(lambda out: out.f), 3, 5, threshold=1e-9), why=_POTENTIALS, float64=True
    ),
    _call("ott.geometry.costs.RegTICost.h_legendre", lambda: _legendre(1.0)),
    _call(
        "ott.geometry.costs.RegTICost.h_legendre",
        lambda: _legendre(2.0),
        "wrong",
        why="ott/geometry/costs.py:436: the maximiser is taken by the proximal operator of the regulariser with a "
        "weight of one, so that for another rho neither value nor gradient is that of the Legendre transform",
    ),
    _call("ott.solvers.linear.semidiscrete._semidiscrete_loss", lambda: _semidiscrete(0.4), argnums=(0,)),
    _call("ott.solvers.linear.semidiscrete._semidiscrete_loss", lambda: _semidiscrete(0.0), argnums=(0,)),
    _call(_NORM, lambda: _divergence("Euclidean"), "wrong", mode="vjp", float64=True, why=_NORM_AT_ZERO),
)
