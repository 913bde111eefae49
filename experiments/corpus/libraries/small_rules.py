"""Calls of the rules of libraries that hold few: e3nn-jax, blackjax and s2fft."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import complex_normal, named, normal

__all__ = ["CALLS"]

_HARMONICS = "e3nn_jax._src.spherical_harmonics._custom_jvp_spherical_harmonics"
_EINSUM = "e3nn_jax._src.utils.einsum.einsum"
_LAPLACE = "blackjax.mcmc.laplace_marginal.laplace_marginal_factory"
_FORWARD = "s2fft.transforms._ftm_flm_primitive.ftm_to_flm"
_INVERSE = "s2fft.transforms._ftm_flm_primitive.flm_to_ftm"


def _harmonics(orders: Any, normalize: bool, **options: Any) -> Callable:
    function = named("e3nn_jax.sh")
    return lambda x: function(orders, x, normalize, **options)


def _irreps() -> tuple[Callable, tuple]:
    e3nn = named("e3nn_jax")
    vectors = e3nn.IrrepsArray("1o", normal(5, (4, 3)))
    return (lambda v: e3nn.spherical_harmonics("0e + 2x1o + 3o", v, True, normalization="norm")), (vectors,)


def _product() -> tuple[Callable, tuple]:
    e3nn = named("e3nn_jax")
    product = e3nn.legacy.FunctionalFullyConnectedTensorProduct("1o + 0e", "2x0e + 1e", "2x1o + 0e")
    weights = [normal(70 + i, w.path_shape) for i, w in enumerate(product.instructions)]
    left, right = e3nn.IrrepsArray("1o + 0e", normal(6, (4,))), e3nn.IrrepsArray("2x0e + 1e", normal(7, (5,)))
    return (lambda w, a, b: product.left_right(w, a, b, custom_einsum_jvp=True)), (weights, left, right)


def _logistic(theta: jax.Array, phi: dict) -> jax.Array:
    prior = -0.5 * jnp.sum((theta - phi["mean"]) ** 2) / phi["scale"] ** 2 - theta.size * jnp.log(phi["scale"])
    rows = normal(60, (9, theta.size))
    return prior - jnp.sum(jnp.logaddexp(0.0, -rows @ theta))


def _two_blocks(theta: dict, phi: jax.Array) -> jax.Array:
    coupled = theta["a"].sum() * theta["b"]
    return -jnp.sum(jnp.cosh(theta["a"] - phi[:2])) - 0.7 * (theta["b"] - phi[2]) ** 2 - 0.1 * coupled**2


def _laplace(log_joint: Callable, start: Any, method: str, **options: Any) -> Callable:
    options = {"maxiter": 200, "gtol": 1e-12, "ftol": 1e-16, **options}
    return getattr(named(_LAPLACE)(log_joint, start, **options), method)


def _hyper() -> dict:
    return {"mean": jnp.asarray(0.3), "scale": jnp.asarray(1.2)}


def _transform(name: str, **options: Any) -> Callable:
    function = named("s2fft.transforms.spherical." + name)
    return lambda signal: function(signal, 4, **options)


def _sphere(seed: int, rows: int, columns: int) -> tuple:
    return (complex_normal(seed, (rows, columns)),)


def _steps() -> tuple[Callable, tuple]:
    """The latitudinal step itself, for spin 1 on angles of the user's."""
    step = named(_INVERSE)
    angles = jnp.asarray([0.3, 0.9, 1.5, 2.1, 2.9])

    def inverse(flm: jax.Array) -> jax.Array:
        return step(flm, angles, L=3, spin=1, nside=None, sampling="mw", reality=False, spmd=False, L_lower=0)

    return inverse, (complex_normal(50, (3, 5)),)


CALLS = (
    Call("e3nn-jax", _HARMONICS, lambda: (_harmonics([0, 1, 2, 3], False), (normal(1, (5, 3)),))),
    Call("e3nn-jax", _HARMONICS, lambda: (_harmonics([2, 4], True, normalization="integral"), (normal(2, (2, 4, 3)),))),
    Call("e3nn-jax", _HARMONICS, lambda: (_harmonics([1, 5, 3, 3], False, normalization="norm"), (normal(3, (3,)),))),
    Call(
        "e3nn-jax", _HARMONICS,
        lambda: (_harmonics([1, 2, 3], False, algorithm=("legendre", "sparse", "custom_jvp")), (normal(4, (6, 3)),)),
    ),
    Call(
        "e3nn-jax", _HARMONICS,
        lambda: (_harmonics([0, 1, 2], False), (jnp.zeros((2, 3)),)),
        why="At the origin, where the polynomials of degree 1 have a slope and the others none.",
    ),
    Call(
        "e3nn-jax", _HARMONICS,
        lambda: (_harmonics([2, 3], True, algorithm=("legendre", "dense", "custom_jvp")),
                 (jnp.asarray([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0]]),)),
        float64=True, why="At the poles, where the azimuth has no value.",
    ),
    Call("e3nn-jax", _HARMONICS, lambda: (_harmonics([9], True), (normal(8, (3, 3)),)), float64=True),
    Call("e3nn-jax", _HARMONICS, _irreps),
    Call(
        "e3nn-jax", _EINSUM,
        lambda: (named(_EINSUM), ("ij,jk,k->i", normal(9, (2, 3)), normal(10, (3, 4)), normal(11, (4,)))),
    ),
    Call("e3nn-jax", _EINSUM, lambda: (named(_EINSUM), ("zii->z", normal(12, (5, 3, 3))))),
    Call("e3nn-jax", _EINSUM, _product),
    Call(
        "blackjax", _LAPLACE, lambda: (_laplace(_logistic, jnp.zeros(3), "get_theta_star"), (_hyper(),)), float64=True,
        why="Right up to the tolerance of the mode's search.",
    ),
    Call(
        "blackjax", _LAPLACE, lambda: (_laplace(_logistic, jnp.zeros(4), "log_marginal"), (_hyper(),)), float64=True,
        why="Right up to the tolerance of the mode's search.",
    ),
    Call(
        "blackjax", _LAPLACE,
        lambda: (_laplace(_two_blocks, {"a": jnp.zeros(2), "b": jnp.asarray(0.0)}, "get_theta_star"),
                 (normal(15, (3,)), {"a": jnp.ones(2), "b": jnp.asarray(0.5)})),
        float64=True,
        why="Right up to the tolerance of the mode's search; the warm start has no influence on the mode.",
    ),
    Call(
        "blackjax", _LAPLACE,
        lambda: (_laplace(_logistic, jnp.full((3,), 2.0), "get_theta_star", maxiter=1), (_hyper(),)),
        truth="wrong", float64=True,
        why="One step is far from the mode, but blackjax/mcmc/laplace_marginal.py:379 differentiates the mode. "
        "The call is at fault, not the library.",
    ),
    Call("s2fft", _INVERSE, lambda: (_transform("inverse_jax"), _sphere(40, 4, 7)), float64=True),
    Call("s2fft", _INVERSE, lambda: (_transform("inverse_jax", reality=True), _sphere(41, 4, 7)), float64=True),
    Call(
        "s2fft", _INVERSE, lambda: (_transform("inverse_jax", spin=2, sampling="dh"), _sphere(42, 4, 7)), float64=True,
    ),
    Call("s2fft", _FORWARD, lambda: (_transform("forward_jax"), _sphere(43, 4, 7)), float64=True),
    Call(
        "s2fft", _FORWARD, lambda: (_transform("forward_jax", reality=True, sampling="mwss"), (normal(44, (5, 8)),)),
        float64=True,
    ),
    Call(
        "s2fft", _FORWARD,
        lambda: (_transform("forward_jax", nside=2, sampling="healpix", L_lower=1), (normal(45, (48,)),)),
        float64=True,
    ),
    Call("s2fft", _INVERSE, _steps, float64=True),
)  # fmt: skip
