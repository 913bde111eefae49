"""The domains in which an array is seen to lie."""

import dataclasses

import numpy as np

from handprop.verifier import domains as d
from handprop.verifier.domains import Domain

__all__ = ["domains_of"]

MAX_PLACES = 1 << 10


def domains_of(x: np.ndarray, tolerance: float) -> dict[str, Domain]:
    """Return the domains in which an array is seen to lie, widest first.

    >>> list(domains_of(np.eye(3)[[0, 2]], 0.0))
    ['sums', 'one-hot']
    >>> list(domains_of(np.array([0.5, 1.5]), 0.0))
    ['positive', 'increasing']
    >>> list(domains_of(np.diag([1.5, 2.0]), 0.0))
    ['symmetric, diagonal', 'definite, diagonal']
    """
    whole = bool((np.rint(x) == x).all())
    varied = bool((x != x.flat[0]).any())
    rows = x.ndim > 0 and x.shape[-1] > 1
    square = rows and x.ndim > 1 and varied
    diagonal = "" if square and (x * (1 - np.eye(*x.shape[-2:])) != 0).any() else ", diagonal"
    axes = [a for a in range(-1, -1 - x.ndim, -1) if x.shape[a] > 1 and not d.simplex(a).lacks(x, tolerance)]
    along = {axis: f" along {axis}" if n else "" for n, axis in enumerate(axes)}
    tried = {
        **{f"sums{name}": (True, d.sum_to_one(axis)) for axis, name in along.items()},
        "positive": (True, d.positive()),
        "between": (not whole, d.interval(0.0, 1.0)),
        f"symmetric{diagonal}": (square, d.symmetric()),
        "unit": (rows and not whole, d.unit()),
        **{f"probabilities{name}": (not whole, d.simplex(axis)) for axis, name in along.items()},
        **{f"one-hot{name}": (whole and x.shape[axis] <= MAX_PLACES, d.one_hot(axis)) for axis, name in along.items()},
        f"definite{diagonal}": (square, d.positive_definite()),
        "orthogonal" + ", whole" * whole: (square, d.orthogonal()),
        "signs": (varied, d.signs()),
        "boolean": (varied, d.boolean()),
        **{name: (rows, one) for name, one in ORDERS.items()},
        "integers": (varied, d.integers()),
        "one number": (whole and x.size == 1, _one_number(x)),
    }
    if not np.isfinite(x).all() or not MASK.lacks(x, tolerance):
        tried = {"mask": (True, MASK)}
    found = {name: one for name, (applies, one) in tried.items() if applies and not one.lacks(x, tolerance)}
    for name, said_already in (("boolean", ("one-hot",)), ("integers", ("one-hot", "boolean", "signs"))):
        if any(other in found for other in said_already):
            found.pop(name, None)
    return found


def _ordered(says: str, sign: int, ties: bool) -> Domain:
    """Rows in increasing (``sign`` 1) or decreasing order (``sign`` -1), with ties or without."""
    strict = d.increasing()

    def to_free(x: np.ndarray) -> np.ndarray:
        first, _ = np.split(sign * x, [1], -1)
        return np.concatenate([first, np.log(np.maximum(np.diff(sign * x), TIE))], -1)

    def lacks(x: np.ndarray, tolerance: float) -> str:
        steps = np.diff(sign * x)
        tied = bool((steps == 0).any())
        return "" if (steps >= 0).all() and (steps > 0).any() and tied == ties else "is in another order"

    return dataclasses.replace(
        strict, says=says, from_free=lambda u: sign * strict.from_free(u), to_free=to_free, lacks=lacks
    )


TIE = 1e-300  # stands for the step between two equal numbers
ORDERS = {
    "increasing": d.increasing(),
    "decreasing": _ordered("decreases along its rows", -1, False),
    "not decreasing": _ordered("never decreases along its rows", 1, True),
    "not increasing": _ordered("never increases along its rows", -1, True),
}


def _one_number(x: np.ndarray) -> Domain:
    """A single number, as given: what else it may be is unknown, since a temperature of 1 is not a truth value."""
    return d.as_given(f"is {x.flat[0]:g}", lambda y, tolerance: "" if np.array_equal(x, y) else "is a different number")


def _no_mask(x: np.ndarray, tolerance: float) -> str:
    low = x <= LOW
    return "" if low.any() and ((x == 0) | low).all() else "is not a mask"


LOW = -1e4  # the mask value added to a score that should not count
MASK = d.as_given("is the given mask", _no_mask)
