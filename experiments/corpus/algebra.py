"""Linear algebra: solves, determinants, factors."""

import jax
import jax.numpy as jnp
import numpy as np

from corpus.rule import Draw, Rule, side


@jax.custom_vjp
def solve(a, b):
    return jnp.linalg.solve(a, b)


def solve_fwd(a, b):
    x = solve(a, b)
    return x, (a, x)


def solve_bwd(residuals, dx):
    a, x = residuals
    db = jnp.linalg.solve(a.T, dx)
    da = -jnp.outer(db, x)
    return da, db


solve.defvjp(solve_fwd, solve_bwd)


@jax.custom_vjp
def inverse(a):
    return jnp.linalg.inv(a)


def inverse_fwd(a):
    y = inverse(a)
    return y, y


def inverse_bwd(y, dy):
    da = -y.T @ dy @ y.T
    return (da,)


inverse.defvjp(inverse_fwd, inverse_bwd)


@jax.custom_vjp
def log_determinant(a):
    return jnp.linalg.slogdet(a)[1]


def log_determinant_fwd(a):
    return log_determinant(a), a


def log_determinant_bwd(a, dy):
    da = dy * jnp.linalg.inv(a).T
    return (da,)


log_determinant.defvjp(log_determinant_fwd, log_determinant_bwd)


@jax.custom_vjp
def cholesky(a):
    return jnp.linalg.cholesky(a)


def cholesky_fwd(a):
    low = cholesky(a)
    return low, low


def cholesky_bwd(low, dlow):
    n = len(low)
    phi = jnp.tril(low.T @ dlow) * (1 - 0.5 * jnp.eye(n, dtype=low.dtype))
    left = jax.scipy.linalg.solve_triangular(low, phi + phi.T, trans=1, lower=True)
    da = jax.scipy.linalg.solve_triangular(low, left.T, trans=1, lower=True)
    return (0.5 * da,)


cholesky.defvjp(cholesky_fwd, cholesky_bwd)


@jax.custom_vjp
def quadratic_form(a, x):
    return x @ a @ x


def quadratic_form_fwd(a, x):
    return quadratic_form(a, x), (a, x)


def quadratic_form_bwd(residuals, dy):
    a, x = residuals
    da = dy * jnp.outer(x, x)
    dx = dy * ((a + a.T) @ x)
    return da, dx


quadratic_form.defvjp(quadratic_form_fwd, quadratic_form_bwd)


@jax.custom_vjp
def pairwise_distances(x, y):
    return jnp.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=-1) + 1e-6)


def pairwise_distances_fwd(x, y):
    d = pairwise_distances(x, y)
    return d, (x, y, d)


def pairwise_distances_bwd(residuals, dd):
    x, y, d = residuals
    w = dd / d
    dx = w.sum(axis=1)[:, None] * x - w @ y
    dy = w.sum(axis=0)[:, None] * y - w.T @ x
    return dx, dy


pairwise_distances.defvjp(pairwise_distances_fwd, pairwise_distances_bwd)


def _well_conditioned(draw: Draw, n: int) -> jax.Array:
    return jnp.asarray(draw.rng.normal(size=(n, n)) / n**0.5 + 2 * np.eye(n), draw.dtype)


def _system(draw: Draw) -> tuple[jax.Array, jax.Array]:
    n = side(draw.size, 3)
    return _well_conditioned(draw, n), draw.normal(n)


def _matrix(draw: Draw) -> tuple[jax.Array]:
    return (_well_conditioned(draw, side(draw.size, 3)),)


def _positive_definite(draw: Draw) -> tuple[jax.Array]:
    n = side(draw.size, 3)
    m = draw.rng.normal(size=(n, n))
    return (jnp.asarray(m @ m.T / n + np.eye(n), draw.dtype),)


def _form(draw: Draw) -> tuple[jax.Array, jax.Array]:
    n = side(draw.size, 3)
    return draw.normal(n, n), draw.normal(n)


def _points(draw: Draw) -> tuple[jax.Array, jax.Array]:
    return draw.normal(draw.rows(5, 3), 2), draw.normal(5, 2)


FACTORED = ("float32", "float64")  # LAPACK has no bfloat16

RULES = (
    Rule("solve", solve, _system, dtypes=FACTORED),
    Rule("inverse", inverse, _matrix, dtypes=FACTORED),
    Rule("log_determinant", log_determinant, _matrix, dtypes=FACTORED),
    Rule("cholesky", cholesky, _positive_definite, dtypes=FACTORED),
    Rule("quadratic_form", quadratic_form, _form),
    Rule("pairwise_distances", pairwise_distances, _points),
)
