"""Calls of lineax's rules: norms with a gradient at 0, and linear solves differentiated implicitly."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import complex_normal, definite, named, normal, uniform

__all__ = ["CALLS"]

_NORM = "lineax._norm._two_norm"
_MAX = "lineax._norm._zero_grad_at_zero"
_SOLVE = "lineax.linear_solve"
_TAGGED = (
    "The rule differentiates in all entries of the matrix, as lineax/_solve.py:198 says (x' = A^(-A'x + b')), while "
    "this solver reads only those that the tag leaves, so that the others have a gradient but no influence."
)

_SQUARE = {"satisfies": lambda y, matrix, vector: matrix @ y - vector}
_NORMAL = {"satisfies": lambda y, matrix, vector: matrix.T @ (matrix @ y - vector)}


def _solver(solver: str = "AutoLinearSolver", tags: Any = (), **options: Any) -> Callable:
    """Return the solve of a matrix and a right-hand side."""
    lx = named("lineax")
    chosen = getattr(lx, solver)(**(options or {"well_posed": True} if solver == "AutoLinearSolver" else options))
    found = tuple(getattr(lx, tag) for tag in ([tags] if isinstance(tags, str) else tags))

    def solve(matrix: jax.Array, vector: jax.Array) -> jax.Array:
        return lx.linear_solve(lx.MatrixLinearOperator(matrix, found), vector, chosen).value

    return solve


def _of_operator(make: Callable[[Any], Any], solver: str = "AutoLinearSolver", **options: Any) -> Callable:
    """Return the solve of an operator, itself an argument, and a right-hand side; with the operator."""
    lx = named("lineax")
    chosen = getattr(lx, solver)(**(options or {"well_posed": None} if solver == "AutoLinearSolver" else options))
    return (lambda operator, vector: lx.linear_solve(operator, vector, chosen).value), make(lx)


def _operator_call(make: Callable[[Any], Any], vector: Callable[[], Any], *args: Any, **options: Any) -> Callable:
    def call() -> tuple[Callable, tuple]:
        function, operator = _of_operator(make, *args, **options)
        return function, (operator, vector())

    return call


def _shifted(seed: int, size: int, shift: float = 3.0) -> jax.Array:
    return normal(seed, (size, size), scale=0.5) + shift * jnp.eye(size)


def _tree_operator(lx: Any) -> Any:
    rows = {"u": {"p": _shifted(40, 3), "q": normal(41, (3,), scale=0.2)},
            "v": {"p": normal(42, (3,), scale=0.2), "q": jnp.asarray(2.0)}}  # fmt: skip
    dtype = rows["v"]["q"].dtype
    structure = {"u": jax.ShapeDtypeStruct((3,), dtype), "v": jax.ShapeDtypeStruct((), dtype)}
    return lx.PyTreeLinearOperator(rows, structure)


def _jacobian_solve() -> tuple[Callable, tuple]:
    lx = named("lineax")

    def step(x: jax.Array, rate: jax.Array) -> jax.Array:
        operator = lx.JacobianLinearOperator(lambda y, r: y + r * jnp.sin(y) * jnp.roll(y, 1), x, rate)
        return lx.linear_solve(operator, jnp.cos(x), lx.LU()).value

    return step, (normal(43, (5,)), jnp.asarray(0.3))


CALLS = (
    Call("lineax", _NORM, lambda: (named("lineax.internal.two_norm"), (normal(1, (3, 4)),))),
    Call("lineax", _NORM, lambda: (named(_NORM), ({"a": normal(2, (5,)), "b": (normal(3, ()), normal(4, (2, 2)))},))),
    Call("lineax", _NORM, lambda: (named("lineax.internal.two_norm"), (jnp.asarray([-1.75]),))),
    Call("lineax", _NORM, lambda: (named("lineax.internal.two_norm"), (complex_normal(5, (6,)),))),
    Call("lineax", _NORM, lambda: (named("lineax.internal.rms_norm"), ([normal(6, (7,)), normal(7, (2, 3))],))),
    Call("lineax", _MAX, lambda: (named("lineax.internal.max_norm"), ((normal(8, (4,)), normal(9, (3,))),))),
    Call("lineax", _SOLVE, lambda: (_solver(), (_shifted(10, 4), normal(11, (4,)))), options=_SQUARE),
    Call("lineax", _SOLVE, lambda: (_solver("LU"), (_shifted(12, 1), normal(13, (1,)))), options=_SQUARE),
    Call("lineax", _SOLVE, lambda: (_solver("QR"), (normal(14, (7, 3)), normal(15, (7,)))), options=_NORMAL),
    Call("lineax", _SOLVE, lambda: (_solver("QR"), (normal(16, (3, 6)), normal(17, (3,))))),
    Call("lineax", _SOLVE, lambda: (_solver("SVD"), (normal(18, (5, 4)), normal(19, (5,)))), options=_NORMAL),
    Call("lineax", _SOLVE, lambda: (_solver("SVD"), (normal(20, (2, 5)), normal(21, (2,))))),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("GMRES", rtol=1e-9, atol=1e-9), (_shifted(22, 5), normal(23, (5,)))),
        float64=True, options=_SQUARE,
        why="Right up to the tolerance of the iterative solver.",
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("BiCGStab", rtol=1e-9, atol=1e-9), (_shifted(24, 4), normal(25, (4,)))),
        float64=True, options=_SQUARE,
        why="Right up to the tolerance of the iterative solver.",
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("LSMR", rtol=1e-10, atol=1e-10), (normal(26, (6, 4)), normal(27, (6,)))),
        float64=True, options=_NORMAL,
        why="Right up to the tolerance of the iterative solver.",
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("Cholesky", "positive_semidefinite_tag"), (definite(28, 5), normal(29, (5,)))),
        argnums=(1,), options=_SQUARE,
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("Cholesky", "positive_semidefinite_tag"), (definite(28, 5), normal(29, (5,)))),
        truth="wrong", meant="other", why=_TAGGED,
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("Triangular", "lower_triangular_tag"), (jnp.tril(_shifted(30, 4)), normal(31, (4,)))),
        truth="wrong", meant="other", why=_TAGGED,
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (
            _solver("Triangular", ("upper_triangular_tag", "unit_diagonal_tag")),
            (jnp.triu(_shifted(32, 5, 0.0), 1) + jnp.eye(5), normal(33, (5,))),
        ),
        truth="wrong", meant="other", why=_TAGGED,
    ),
    Call("lineax", _SOLVE, _operator_call(lambda lx: lx.DiagonalLinearOperator(uniform(34, (6,), 0.5, 2.0)),
                                          lambda: normal(35, (6,)))),
    Call(
        "lineax", _SOLVE,
        _operator_call(
            lambda lx: lx.TridiagonalLinearOperator(
                uniform(36, (5,), 3.0, 4.0), normal(37, (4,)), normal(38, (4,))
            ),
            lambda: normal(39, (5,)),
        ),
    ),
    Call("lineax", _SOLVE, _operator_call(_tree_operator, lambda: {"u": normal(44, (3,)), "v": normal(45, ())})),
    Call("lineax", _SOLVE, _jacobian_solve),
    Call(
        "lineax", _SOLVE,
        _operator_call(
            lambda lx: lx.MatrixLinearOperator(_shifted(46, 4)) + 0.5 * lx.DiagonalLinearOperator(normal(47, (4,))),
            lambda: normal(48, (4,)), "LU",
        ),
    ),
    Call(
        "lineax", _SOLVE,
        lambda: (_solver("LU"), (complex_normal(49, (3, 3)) + 3 * jnp.eye(3), complex_normal(50, (3,)))),
    ),
)  # fmt: skip
