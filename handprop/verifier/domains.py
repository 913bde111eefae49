"""Domains: the sets of values that an argument may take where a gradient is judged.

A hand-written gradient often holds only for the arguments it is used with: ``p - y`` is the gradient of softmax
cross-entropy only where the rows of ``y`` sum to 1. A domain is the image of a map ``x = f(u)`` from free parameters
``u`` of the argument's own shape. Proof, samples, edge cases and finite differences all draw ``u``, and the gradient of
a differentiated argument is compared along the domain: ``J^T g``, with ``J = df/du``.

>>> import jax, jax.numpy as jnp, handprop
>>> def loss(W, x, y):
...     return -jnp.sum(y * jax.nn.log_softmax(x @ W))
>>> def hand(W, x, y):
...     return x.T @ (jax.nn.softmax(x @ W) - y)
>>> W, x, y = jnp.array([[0.5, -1.0, 0.2], [0.3, 0.1, -0.7]]), jnp.array([[1.5, -0.2], [0.4, 0.9]]), jnp.eye(3)[:2]
>>> handprop.verify_gradient(hand, loss, W, x, y, domain={"y": handprop.domains.one_hot()}).verdict.name
'PROVED'
>>> handprop.verify_gradient(hand, loss, W, x, y, domain="any").verdict.name
'REFUTED'
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Domain",
    "as_given",
    "boolean",
    "image",
    "increasing",
    "integers",
    "interval",
    "one_hot",
    "orthogonal",
    "positive",
    "positive_definite",
    "signs",
    "simplex",
    "sum_to_one",
    "symmetric",
    "unit",
]

SMALLEST = 1e-16  # replaces a probability of 0, which has no free parameters


@dataclasses.dataclass(frozen=True)
class Domain:
    """The image of ``from_free``, with a way to find a given array in it.

    ``says`` completes the condition that begins with the argument's name, as in "has rows that sum to 1". ``from_free``
    maps free parameters to the argument and is traced by JAX; ``to_free`` maps an array inside the domain back.
    ``lacks(array, tolerance)`` says why an array is outside the domain, and returns "" if it is inside. A ``discrete``
    domain has no directions, so no gradient is compared along it. ``keeps`` says that the domain holds the given values
    and no others. ``wider`` is a simpler domain that contains this one; a proof is sought there first. ``at_end`` marks
    the entries of an array that are at an end which ``from_free`` reaches only by rounding. ``any_shape`` says whether
    ``from_free`` accepts free parameters of other shapes too. ``sums`` says that all that is known of the argument is
    that its lines sum to 1.

    ``spread`` is the scale at which free parameters are drawn, None for the scale of the given ones. ``free`` is an
    example of the free parameters, or their shape and dtype, where they are not an array of the argument's shape.
    """

    says: str
    from_free: Callable[[Any], jax.Array]
    to_free: Callable[[np.ndarray], np.ndarray]
    lacks: Callable[[np.ndarray, float], str]
    discrete: bool = False
    keeps: bool = False
    spread: float | None = None
    free: Any = None
    wider: "Domain | None" = None
    at_end: Callable[[np.ndarray], Any] = lambda x: False
    any_shape: bool = True
    sums: bool = False

    def reached(self, x: np.ndarray, tolerance: float) -> bool:
        """Whether an array that ``from_free`` made lies inside and did not leave by rounding or overflow.

        >>> [interval(0.0, 1.0).reached(np.array(x), 0.0) for x in (0.5, 1.0, np.nan)]
        [True, False, False]
        """
        return bool(np.isfinite(x).all()) and not self.lacks(x, tolerance) and not np.any(self.at_end(x))


def sum_to_one(axis: int = -1) -> Domain:
    """Numbers of any sign whose sum along ``axis`` is 1: ``x = u - (sum(u) - 1) / n``.

    This affine space contains probabilities and one-hot rows, so a proof on it needs to know nothing else about them.

    >>> sum_to_one().from_free(jnp.array([0.5, 1.0, 1.0])).tolist()
    [0.0, 0.5, 0.5]
    """

    def from_free(u: jax.Array) -> jax.Array:
        return u - (jnp.sum(u, axis, keepdims=True) - 1) / u.shape[axis]

    return Domain(f"has {_lines(axis)} that sum to 1", from_free, _itself, _sums_lack(axis), sums=True)


def simplex(axis: int = -1) -> Domain:
    """Probabilities along ``axis``: ``x = softmax(u)``. A given probability of 0 is taken as 1e-16.

    >>> simplex().from_free(jnp.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first(x < 0, "is negative") or _sums_lack(axis)(x, tolerance)

    def to_free(x: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(x, SMALLEST))

    says = f"has probabilities in its {_lines(axis)}"
    return Domain(says, lambda u: jax.nn.softmax(u, axis), to_free, lacks, spread=2.0, wider=sum_to_one(axis),
                  at_end=lambda x: x == 0)  # fmt: skip


def one_hot(axis: int = -1) -> Domain:
    """A single 1 among zeros along ``axis``.

    The signs of the first ``ceil(log2 n)`` of n free parameters are the bits of the position of the 1; positions from n
    on wrap around to 0.

    >>> one_hot().from_free(jnp.array([1.0, -2.0, 0.0])).tolist()
    [0.0, 1.0, 0.0]
    """

    def from_free(u: jax.Array) -> jax.Array:
        return jnp.moveaxis(_chosen(jnp.moveaxis(u, axis, -1)), -1, axis)

    def to_free(x: np.ndarray) -> np.ndarray:
        place = np.argmax(np.moveaxis(x, axis, -1), -1)
        bits = place[..., None] >> np.minimum(np.arange(x.shape[axis]), 62) & 1
        return np.moveaxis(2.0 * bits - 1.0, -1, axis)

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first((x != 0) & (x != 1), "is neither 0 nor 1") or _sums_lack(axis)(x, tolerance)

    says = f"is one-hot in its {_lines(axis)}"
    return Domain(says, from_free, to_free, lacks, discrete=True, wider=sum_to_one(axis))


def _chosen(u: jax.Array) -> jax.Array:
    """Return one-hot rows along the last axis as products of bits, polynomials of degree 1 in each bit."""
    n = u.shape[-1]
    count = max(n - 1, 0).bit_length()
    codes = np.arange(2**count)
    whole = jnp.ones((*u.shape[:-1], 2**count), u.dtype)
    for k in range(count):
        bit = jnp.broadcast_to((u[..., k : k + 1] > 0).astype(u.dtype), whole.shape)
        whole = whole * jnp.where(np.broadcast_to(codes >> k & 1 == 1, whole.shape), bit, 1 - bit)
    beyond = 2**count - n
    again = [(0, 0)] * (u.ndim - 1) + [(0, n - beyond)]
    return whole[..., :n] + jnp.pad(whole[..., n:], again) if beyond else whole


def positive() -> Domain:
    """Numbers above 0: ``x = exp(u)``.

    >>> positive().from_free(jnp.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return Domain("is positive", jnp.exp, np.log, lambda x, _: _first(~(x > 0), "is not positive"), spread=1.0)


def interval(a: float, b: float) -> Domain:
    """Numbers between ``a`` and ``b``: ``x = a + (b - a) sigmoid(u)``.

    Raises ValueError unless a < b and both are finite.

    >>> interval(-1.0, 1.0).from_free(jnp.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if not (np.isfinite(a) and np.isfinite(b) and a < b):
        raise ValueError(f"interval({a}, {b}) needs finite bounds with a < b")

    def to_free(x: np.ndarray) -> np.ndarray:
        q = np.clip((x - a) / (b - a), SMALLEST, 1 - SMALLEST)
        return np.log(q / (1 - q))

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first(~((x >= a) & (x <= b)), f"is not between {a:g} and {b:g}")

    return Domain(f"is between {a:g} and {b:g}", lambda u: a + (b - a) * jax.nn.sigmoid(u), to_free, lacks, spread=2.0,
                  at_end=lambda x: (x == a) | (x == b))  # fmt: skip


def boolean() -> Domain:
    """Booleans, or zeros and ones of any dtype: ``x = (u > 0)``.

    >>> boolean().from_free(jnp.array([0.5, -2.0])).tolist()
    [True, False]
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first((x != 0) & (x != 1), "is neither 0 nor 1")

    return Domain("holds 0 and 1 only", lambda u: u > 0, lambda x: 2.0 * x - 1.0, lacks, discrete=True)


def signs() -> Domain:
    """Minus ones and ones: ``x = 2 (u > 0) - 1``.

    >>> signs().from_free(jnp.array([0.5, -2.0])).tolist()
    [1.0, -1.0]
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first((x != -1) & (x != 1), "is neither -1 nor 1")

    def from_free(u: jax.Array) -> jax.Array:
        return 2 * (u > 0).astype(u.dtype) - 1

    return Domain("holds -1 and 1 only", from_free, _itself, lacks, discrete=True)


def integers() -> Domain:
    """The given integers, of any dtype; no others are drawn.

    >>> integers().lacks(jnp.array([1.0, 2.5]), 0.0)
    'is not an integer at [1]'
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first(np.rint(x) != x, "is not an integer")

    return as_given("holds the given integers", lacks)


def as_given(says: str, lacks: Callable[[np.ndarray, float], str]) -> Domain:
    """The given values alone, provided that ``lacks`` does not object to them.

    >>> as_given("is the given mask", lambda x, tolerance: "").keeps
    True
    """
    return Domain(says, lambda u: u, _itself, lacks, discrete=True, keeps=True, any_shape=False)


def symmetric() -> Domain:
    """Symmetric matrices on the last two axes: ``A = (U + U^T) / 2``.

    >>> symmetric().from_free(jnp.array([[1.0, 4.0], [2.0, 5.0]])).tolist()
    [[1.0, 3.0], [3.0, 5.0]]
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
            return f"has shape {x.shape}, which is not square"
        if not np.isfinite(x).all():
            return _first(~np.isfinite(x), "is not finite")
        size = np.abs(x).max(initial=0.0)
        return _first(np.abs(x - np.swapaxes(x, -1, -2)) > tolerance * size, "differs from its transpose")

    return Domain("is symmetric", lambda u: (u + jnp.swapaxes(u, -1, -2)) / 2, _itself, lacks)


def positive_definite() -> Domain:
    """Symmetric positive definite matrices: ``A = L L^T``.

    L is the lower triangle of U, with the exponential of its diagonal.

    >>> positive_definite().from_free(jnp.array([[0.0, 9.0], [2.0, 0.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """

    def from_free(u: jax.Array) -> jax.Array:
        diagonal = jnp.broadcast_to(np.eye(u.shape[-1], dtype=bool), u.shape)
        L = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, u, 0)), jnp.tril(u, -1))
        return jnp.matmul(L, jnp.swapaxes(L, -1, -2), precision="highest")

    def to_free(x: np.ndarray) -> np.ndarray:
        L = np.linalg.cholesky((x + np.swapaxes(x, -1, -2)) / 2)
        diagonal = np.eye(x.shape[-1], dtype=bool)
        return np.where(diagonal, np.log(np.where(diagonal, L, 1.0)), L)

    def lacks(x: np.ndarray, tolerance: float) -> str:
        if found := symmetric().lacks(x, tolerance):
            return found
        found = np.linalg.eigvalsh((x + np.swapaxes(x, -1, -2)) / 2)
        least = found.min(initial=np.inf)
        return "" if least > 1e-13 * found.max(initial=0.0) else f"has the eigenvalue {least:.6g}"

    return Domain("is positive definite", from_free, to_free, lacks, spread=1.0, wider=symmetric())


def orthogonal() -> Domain:
    """Matrices with orthonormal columns on the last two axes, made from U by Gram-Schmidt.

    They have at least as many rows as columns.

    >>> orthogonal().from_free(jnp.array([[2.0, 1.0], [0.0, -3.0]])).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """

    def from_free(u: jax.Array) -> jax.Array:
        columns: list[jax.Array] = []
        for k in range(u.shape[-1]):
            w = u[..., k]
            for q in columns:  # not normalized: the field cannot see that the square roots are positive
                w = w - q * (jnp.sum(q * w, -1, keepdims=True) / jnp.sum(q * q, -1, keepdims=True))
            columns.append(w)
        return _normed(jnp.stack(columns, -1), -2)

    def lacks(x: np.ndarray, tolerance: float) -> str:
        if x.ndim < 2 or x.shape[-1] > x.shape[-2]:
            return f"has shape {x.shape}, which is not a matrix with at least as many rows as columns"
        off = np.abs(np.swapaxes(x, -1, -2) @ x - np.eye(x.shape[-1]))
        return _first(off > tolerance, "has columns that are not orthonormal")

    return Domain("has orthonormal columns", from_free, _itself, lacks)


def unit(axis: int = -1) -> Domain:
    """Vectors of length 1 along ``axis``: ``x = u / |u|``.

    >>> unit().from_free(jnp.array([0.0, 2.0])).tolist()
    [0.0, 1.0]
    """

    def lacks(x: np.ndarray, tolerance: float) -> str:
        length = np.sqrt(np.sum(x * x, axis))
        return _first(np.abs(length - 1) > tolerance, "has a length other than 1")

    return Domain(f"has {_lines(axis)} of length 1", lambda u: _normed(u, axis), _itself, lacks)


def _normed(u: jax.Array, axis: int) -> jax.Array:
    return u / jnp.sqrt(jnp.sum(u * u, axis, keepdims=True))


def increasing(axis: int = -1) -> Domain:
    """Strictly increasing numbers along ``axis``: the first is free, and each step is ``exp(u)``.

    >>> increasing().from_free(jnp.array([2.0, 0.0, 0.0])).tolist()
    [2.0, 3.0, 4.0]
    """

    def from_free(u: jax.Array) -> jax.Array:
        first, rest = jnp.split(u, [1], axis)
        return jnp.cumsum(jnp.concatenate([first, jnp.exp(rest)], axis), axis)

    def to_free(x: np.ndarray) -> np.ndarray:
        first, _ = np.split(x, [1], axis)
        return np.concatenate([first, np.log(np.diff(x, axis=axis))], axis)

    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first(~(np.diff(x, axis=axis) > 0), "is not followed by a larger number")

    return Domain(f"increases along its {_lines(axis)}", from_free, to_free, lacks, spread=1.0)


def image(f: Callable[[Any], jax.Array], free: Any) -> Domain:
    """The values of ``f``, which takes one array of free parameters and returns the argument.

    ``free`` is the value of the free parameters at the first sample, or a ``jax.ShapeDtypeStruct`` from which they are
    drawn; only the shape and dtype of the given argument are read. Raises ValueError where ``f`` returns another shape
    or raises, and TypeError where ``free`` is not an array.

    >>> circle = image(lambda t: jnp.stack([jnp.cos(t), jnp.sin(t)]), jnp.float32(0.5))
    >>> circle.from_free(jnp.float32(0.0)).tolist()
    [1.0, 0.0]
    """
    if not hasattr(free, "shape"):
        raise TypeError(f"image needs one array of free parameters, or its shape and dtype; got {type(free).__name__}")
    name = getattr(f, "__name__", type(f).__name__)
    says = "lies in the image of its free parameters" if name == "<lambda>" else f"lies in the image of {name}"
    return Domain(says, f, _itself, lambda x, tolerance: "", free=free, any_shape=False)


def _itself(x: np.ndarray) -> np.ndarray:
    return x


def _lines(axis: int) -> str:
    return {-1: "rows", -2: "columns"}.get(axis, f"lines along axis {axis}")


def _sums_lack(axis: int) -> Callable[[np.ndarray, float], str]:
    def lacks(x: np.ndarray, tolerance: float) -> str:
        return _first(np.abs(np.sum(x, axis) - 1) > tolerance * x.shape[axis], "has a sum other than 1")

    return lacks


def _first(where: np.ndarray, what: str) -> str:
    """Return ``what`` with the first place that is marked, or "" if there is none."""
    places = np.argwhere(where)
    if not len(places):
        return ""
    return f"{what} at {[int(i) for i in places[0]]}" if places.shape[1] else what
