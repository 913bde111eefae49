"""Complex numbers as pairs of real ones, as which they are differentiated and compared.

A function of ``z = a + ib`` becomes one of a and b, and a complex result becomes its two parts. ``jax.vjp`` of that
function returns the slopes along a and b, whatever convention the rule inside has for the cotangent of z.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.programs import jaxprs

__all__ = ["Pair", "joined", "split"]


class Pair(NamedTuple):
    """A complex array; the names of its parts are those that paths show."""

    real: Any
    imag: Any


def split(tree: Any) -> Any:
    """Return the tree with a pair in place of each complex array, number or shape.

    >>> split([1.0, np.array([1j])])
    [1.0, Pair(real=array([0.]), imag=array([1.]))]
    """
    return jax.tree.map(_split, tree)


def _split(leaf: Any) -> Any:
    leaf = jnp.asarray(leaf) if isinstance(leaf, complex) and not isinstance(leaf, np.generic) else leaf
    if not jaxprs.is_complex(getattr(leaf, "dtype", np.dtype(np.float32))):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        part = jax.ShapeDtypeStruct(leaf.shape, np.finfo(leaf.dtype).dtype)
        return Pair(part, part)
    kept = isinstance(leaf, np.ndarray | np.generic)
    return Pair(np.asarray(leaf.real), np.asarray(leaf.imag)) if kept else Pair(jnp.real(leaf), jnp.imag(leaf))


def joined(tree: Any) -> Any:
    """Return the tree with a complex array in place of each pair."""
    return jax.tree.map(_joined, tree, is_leaf=lambda leaf: isinstance(leaf, Pair))


def _joined(leaf: Any) -> Any:
    return jax.lax.complex(jnp.asarray(leaf.real), jnp.asarray(leaf.imag)) if isinstance(leaf, Pair) else leaf
