"""Calls of matfree's rules: adjoints of the Arnoldi, Lanczos and least-squares iterations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import definite, named, normal, uniform

__all__ = ["CALLS"]

_ARNOLDI = "matfree.decomp.hessenberg"
_LANCZOS = "matfree.decomp.tridiag_sym"
_LSMR = "matfree.lstsq.lsmr"
_TIGHT = {"atol": 1e-13, "btol": 1e-13, "ctol": 1e-14}
_START = (
    "Where the matrix is wide or damped, the solution keeps the part of x0 that the matrix does not see; "
    "matfree/lstsq.py:{line}. The docstring leaves only the gradients of x0 and damp undefined."
)


def _arnoldi(count: int, reortho: str) -> Callable:
    decompose = named(_ARNOLDI)(count, reortho=reortho)
    return lambda vector, matrix: tuple(decompose(lambda x, a: a @ x, vector, matrix))


def _lanczos(count: int, **options: Any) -> Callable:
    """Return the tridiagonalisation of a fixed symmetric matrix plus a diagonal, which stays symmetric."""
    decompose = named(_LANCZOS)(count, **options)
    fixed = definite(90, 5)
    return lambda vector, shift: tuple(decompose(lambda x, d: fixed @ x + d * x, vector, shift))


def _of_tree() -> Callable:
    decompose = named(_ARNOLDI)(2, reortho="full")

    def product(x: dict, params: dict) -> dict:
        return {"a": params["scale"] * x["a"] + x["b"].sum(), "b": params["mix"] @ x["b"] + x["a"][:2]}

    return lambda vector, params: tuple(decompose(product, vector, params))


def _logdet() -> tuple[Callable, tuple]:
    integrand = named("matfree.funm.monte_carlo_funm_sym_logdet")(named(_LANCZOS)(3))
    fixed = definite(91, 6)
    return (lambda vector, shift: integrand(lambda x, d: fixed @ x + d**2 * x, vector, shift)), (
        normal(30, (6,)),
        uniform(31, (6,), 0.5, 1.0),
    )


def _exponential() -> tuple[Callable, tuple]:
    funm = named("matfree.funm")
    apply = funm.funm_lanczos_sym(funm.dense_funm_sym_eigh(jnp.exp), named(_LANCZOS)(4))
    fixed = definite(92, 5)
    return (lambda vector, time: apply(lambda x, t: -t * (fixed @ x), vector, time)), (
        normal(32, (5,)),
        jnp.asarray(0.7),
    )


def _lsmr(only: bool = True, **options: Any) -> Callable:
    solve = named(_LSMR)(**{**_TIGHT, **options})

    def least_squares(vector: jax.Array, matrix: jax.Array, damp: Any = 0.0, x0: Any = None) -> Any:
        found = solve(lambda u, m: m.T @ u, vector, matrix, damp=damp, x0=x0)
        return found[0] if only else found

    return jax.jit(least_squares)


def _normal(x: jax.Array, vector: jax.Array, matrix: jax.Array, damp: Any = 0.0) -> jax.Array:
    """The normal equations of damped least squares."""
    return matrix.T @ (matrix @ x - vector) + damp**2 * x


def _lsmr_tree() -> tuple[Callable, tuple]:
    solve = named(_LSMR)(**_TIGHT)

    def vecmat(u: dict, weights: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        return weights.T @ u["top"] + shift * u["low"].sum(), u["low"] * shift

    return jax.jit(lambda b, weights, shift: solve(vecmat, b, weights, shift)[0]), (
        {"top": normal(33, (4,)), "low": normal(34, (3,))},
        normal(35, (4, 2)),
        jnp.asarray(1.3),
    )


def _rank_two(seed: int, rows: int, columns: int) -> jax.Array:
    return normal(seed, (rows, 2)) @ normal(seed + 1, (2, columns))


CALLS = (
    Call("matfree", _ARNOLDI, lambda: (_arnoldi(3, "full"), (normal(1, (6,)), normal(2, (6, 6)))), float64=True),
    Call("matfree", _ARNOLDI, lambda: (_arnoldi(2, "none"), (normal(3, (5,)), normal(4, (5, 5)))), float64=True),
    Call("matfree", _ARNOLDI, lambda: (_arnoldi(4, "full"), (normal(5, (4,)), normal(6, (4, 4)))), float64=True),
    Call("matfree", _ARNOLDI, lambda: (_arnoldi(1, "full"), (normal(7, (3,)), normal(8, (3, 3)))), float64=True),
    Call(
        "matfree", _ARNOLDI,
        lambda: (_of_tree(), ({"a": normal(9, (3,)), "b": normal(10, (2,))},
                              {"scale": normal(11, (3,)), "mix": normal(12, (2, 2))})),
        float64=True,
    ),
    Call("matfree", _LANCZOS, lambda: (_lanczos(3), (normal(13, (5,)), normal(14, (5,)))), float64=True),
    Call(
        "matfree", _LANCZOS,
        lambda: (_lanczos(2, reortho="none", materialize=False), (normal(15, (5,)), normal(16, (5,)))), float64=True,
    ),
    Call(
        "matfree", _LANCZOS, lambda: (_lanczos(5, materialize=False), (normal(17, (5,)), normal(18, (5,)))),
        float64=True,
    ),
    Call(
        "matfree", _LANCZOS,
        lambda: (lambda v, a: tuple(named(_LANCZOS)(3, reortho="none")(lambda x, m: m @ x, v, a)),
                 (normal(19, (4,)), definite(20, 4))),
        truth="wrong", meant="other", float64=True,
        why="matfree/decomp.py:343 takes the products of the adjoint with the matrix itself, which is its transpose "
        "only while it is symmetric: the gradient in single entries differs.",
    ),
    Call("matfree", _LANCZOS, _logdet, float64=True),
    Call("matfree", _LANCZOS, _exponential, float64=True),
    Call("matfree", _LSMR, lambda: (_lsmr(), (normal(40, (6,)), normal(41, (6, 3)))), float64=True,
         options={"satisfies": _normal}),
    Call("matfree", _LSMR, lambda: (_lsmr(), (normal(42, (3,)), normal(43, (3, 5)))), float64=True),
    Call("matfree", _LSMR, lambda: (_lsmr(), (normal(44, (5,)), normal(45, (5, 2)), jnp.asarray(0.6))), float64=True,
         options={"satisfies": _normal}),
    Call(
        "matfree", _LSMR,
        lambda: (_lsmr(is_full_rank=True), (normal(46, (2,)), normal(47, (2, 4)), jnp.asarray(0.8))), float64=True,
    ),
    Call("matfree", _LSMR, lambda: (_lsmr(), (normal(48, (5,)), _rank_two(49, 5, 3), jnp.asarray(0.7))), float64=True),
    Call("matfree", _LSMR, lambda: (_lsmr(), (normal(51, (1,)), normal(52, (1, 1)), jnp.asarray(0.3))), float64=True),
    Call("matfree", _LSMR, _lsmr_tree, float64=True),
    Call(
        "matfree", _LSMR, lambda: (_lsmr(), (normal(53, (3,)), normal(54, (3, 6)), 0.0, normal(55, (6,)))),
        truth="wrong", float64=True, argnums=(1,),
        why=_START.format(line="573 takes y from x instead of x - x0, so that the gradient of the matrix is wrong"),
    ),
    Call(
        "matfree", _LSMR, lambda: (_lsmr(), (normal(56, (3,)), normal(57, (3, 5)), 0.7, normal(58, (5,)))),
        truth="wrong", float64=True, argnums=(1,),
        why=_START.format(line="573 takes y from x instead of x - x0, so that the gradient of the matrix is wrong"),
    ),
    Call(
        "matfree", _LSMR, lambda: (_lsmr(), (normal(59, (2,)), normal(60, (2, 5)), 0.0, normal(61, (5,)))),
        truth="wrong", meant="zero", float64=True, argnums=(3,),
        why="matfree/lstsq.py:594 calls x0 non-differentiable and gives it no cotangent, but a wide system keeps "
        "a part of it; the docstring says so.",
    ),
    Call(
        "matfree", _LSMR, lambda: (_lsmr(), (normal(62, (6,)), normal(63, (6, 2)), 0.0, normal(64, (2,)))),
        float64=True, argnums=(0, 1, 3), why="A tall system of full rank forgets where it started.",
    ),
    Call(
        "matfree", _LSMR, lambda: (_lsmr(only=False), (normal(65, (6,)), normal(66, (6, 3)))),
        truth="wrong", meant="statistic", float64=True,
        why="matfree/lstsq.py:489 drops the cotangents of the solver's statistics, such as the norm of the residual.",
    ),
)  # fmt: skip
