"""A hand-written gradient beside ``jax.grad`` and beside the float64 gradient, leaf by leaf.

Three gradients of one loss at one point: the one by hand, autodiff's in the same dtype, and autodiff's in
float64. The last is the yardstick. Errors are in ulps of the leaf: ``max |g - g64| / (eps max |g64|)`` with
``eps`` the dtype's machine epsilon, so that an entry that should be 0 does not count as infinitely wrong.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["GradientComparison", "LeafComparison", "compare_gradients"]

SLACK_FACTOR, SLACK_ULPS = 8.0, 16.0


class LeafComparison(NamedTuple):
    """One leaf: whether bits agree with autodiff's, how many entries differ, and both errors in ulps."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    same_bits: bool
    differing: int
    size: int
    hand_ulps: float
    autodiff_ulps: float

    @property
    def ok(self) -> bool:
        """Same bits, or an error of at most ``8 autodiff_ulps + 16``: rounding's size, not a mistake's."""
        return self.same_bits or self.hand_ulps <= SLACK_FACTOR * self.autodiff_ulps + SLACK_ULPS


class GradientComparison(NamedTuple):
    """All leaves, the value first. ``str()`` is a table."""

    leaves: tuple[LeafComparison, ...]

    @property
    def same_bits(self) -> bool:
        return all(leaf.same_bits for leaf in self.leaves)

    @property
    def ok(self) -> bool:
        return all(leaf.ok for leaf in self.leaves)

    @property
    def hand_ulps(self) -> float:
        return max(leaf.hand_ulps for leaf in self.leaves)

    @property
    def autodiff_ulps(self) -> float:
        return max(leaf.autodiff_ulps for leaf in self.leaves)

    def __str__(self) -> str:
        rows = [f"{'leaf':<12} {'shape':<12} {'dtype':<9} {'bits':<14} {'ulps by hand':>12} {'jax.grad':>10}"]
        for leaf in self.leaves:
            bits = "equal" if leaf.same_bits else f"{leaf.differing}/{leaf.size} differ"
            rows.append(
                f"{leaf.path:<12} {leaf.shape!s:<12} {leaf.dtype:<9} {bits:<14} "
                f"{leaf.hand_ulps:>12.2g} {leaf.autodiff_ulps:>10.2g}"
            )
        return "\n".join(rows)


def compare_gradients(
    value_and_grad: Callable[..., Any], loss: Callable[..., jax.Array], params: Any, *data: Any
) -> GradientComparison:
    """Compare ``value_and_grad(params, *data)`` with ``jax.value_and_grad(loss)``, jitted, and with float64.

    A sampled comparison at one point: it can show a gradient wrong, and where; equal bits at this point prove
    nothing about others.

    Raises:
        ValueError: the two trees, shapes or dtypes differ.

    >>> import handprop
    >>> net = handprop.mlp((2, 3, 1))
    >>> params = net.init(jax.random.key(0))
    >>> compare_gradients(net.value_and_grad, net.loss, params, jnp.ones((4, 2)), jnp.zeros((4, 1))).same_bits
    True
    """
    hand = jax.jit(value_and_grad)(params, *data)
    autodiff = jax.jit(jax.value_and_grad(loss))(params, *data)
    _check_alike(hand, autodiff)
    with jax.enable_x64(True):
        widened = jax.tree.map(_widen, (params, data))
        exact = jax.jit(jax.value_and_grad(loss))(widened[0], *widened[1])
        exact = jax.tree.map(np.asarray, exact)
    paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(hand)]
    trees = (jax.tree.leaves(tree) for tree in (hand, autodiff, exact))
    return GradientComparison(tuple(map(_compare_leaf, paths, *trees)))


def _widen(leaf: Any) -> Any:
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _path(path: tuple[Any, ...]) -> str:
    return "value" if path[0].idx == 0 else "grads" + jax.tree_util.keystr(path[1:])


def _check_alike(hand: Any, autodiff: Any) -> None:
    if jax.tree.structure(hand) != jax.tree.structure(autodiff):
        raise ValueError(
            f"value_and_grad returns {jax.tree.structure(hand)}, but jax.value_and_grad(loss) returns "
            f"{jax.tree.structure(autodiff)}."
        )
    for (path, h), a in zip(jax.tree_util.tree_leaves_with_path(hand), jax.tree.leaves(autodiff), strict=True):
        if (h.shape, h.dtype) != (a.shape, a.dtype):
            raise ValueError(
                f"{_path(path)} is {h.dtype}{list(h.shape)} by hand, but {a.dtype}{list(a.shape)} by jax.grad."
            )


def _compare_leaf(path: str, hand: jax.Array, autodiff: jax.Array, exact: np.ndarray) -> LeafComparison:
    h, a = np.atleast_1d(np.asarray(hand)), np.atleast_1d(np.asarray(autodiff))
    differing = int(np.sum((h.view(np.uint8) != a.view(np.uint8)).reshape(*h.shape, -1).any(-1)))
    return LeafComparison(
        path=path,
        shape=hand.shape,
        dtype=str(hand.dtype),
        same_bits=differing == 0,
        differing=differing,
        size=hand.size,
        hand_ulps=_ulps(h, exact, hand.dtype),
        autodiff_ulps=_ulps(a, exact, hand.dtype),
    )


def _ulps(g: np.ndarray, exact: np.ndarray, dtype: Any) -> float:
    """The largest error in units of ``eps max |exact|``; infinite where only one of the two is finite."""
    if g.size == 0:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(g.astype(np.float64) - exact)
    error = np.where(np.isfinite(exact), error, np.where(np.isnan(g.astype(np.float64)) == np.isnan(exact), 0, np.inf))
    scale = float(jnp.finfo(dtype).eps) * max(float(np.max(np.abs(exact))), float(jnp.finfo(dtype).tiny))
    return float(np.max(np.where(np.isnan(error), np.inf, error)) / scale)
