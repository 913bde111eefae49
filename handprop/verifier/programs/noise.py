"""Simulated rounding errors of a chosen size."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from handprop._compat import is_mutable
from handprop.verifier.programs import literals
from handprop.verifier.programs.executables import array
from handprop.verifier.programs.jaxprs import is_complex, is_float
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["Factors", "holds_whole_numbers", "own_rounding"]

IN_A_LOOP = 4096  # places reserved for the results in a loop
SPARE_FACTORS = 1 << 14
MAX_WHOLE = 2.0**53
NEAR = 8  # times the size of rounding errors


def own_rounding(eqn: Any) -> float:
    """Return the unit of rounding of an equation that runs in its own dtype; 0 for all others."""
    if not has(eqn, Trait.OWN_DTYPE) or eqn.primitive.name == "reduce_precision":
        return 0.0
    return max((float(jnp.finfo(v.aval.dtype).eps) for v in (*eqn.invars, *eqn.outvars)
                if is_float(v.aval.dtype) and v.aval.dtype != np.float64), default=0.0)  # fmt: skip


class Factors:
    """Random factors ``1 + noise u``.

    They are drawn once for a program, and each result takes a slice of them that begins at a place of its own, because
    drawing them for each result would be most of what has to be compiled. Where nothing is traced, NumPy multiplies,
    because JAX would keep a program for each shape and place.
    """

    def __init__(self, noise: Any, seed: Any, largest: int):
        self.size, self.places = largest + SPARE_FACTORS, itertools.count()
        self.whole: dict[int, Any] = {}  # traced values that are whole numbers, such as counts of booleans
        bits = _scrambled(jnp if isinstance(seed, Tracer) else np, self.size, seed)
        uniform = bits.astype(np.float64) * 2.0**-31 - 1.0
        self.given = noise, uniform, 1.0 + noise * uniform

    @property
    def traced(self) -> bool:
        return isinstance(self.given[1], Tracer)

    @contextlib.contextmanager
    def of(self, given: Any, places: Iterator[int]) -> Iterator[None]:
        """Use these factors and places instead, as where a loop is traced that takes them as arguments."""
        before = self.given, self.places, self.whole
        self.given, self.places, self.whole = given, places, {}  # nothing traced in a loop outlives it
        try:
            yield
        finally:
            self.given, self.places, self.whole = before

    def places_of_a_loop(self) -> Iterator[int]:
        """Return places for the results in a loop, the same number whether it is traced now or was before."""
        start = next(self.places)
        self.places = itertools.count(start + IN_A_LOOP)
        return itertools.count(start)

    def is_whole(self, x: Any) -> bool:
        """Whether x holds whole numbers: a constant that does, or a result made from booleans and rounding."""
        if not is_float(x.dtype):
            return not is_complex(x.dtype)
        if isinstance(x, Tracer):
            return id(x) in self.whole
        return x.size <= literals.MAX_READ and holds_whole_numbers(x)

    def kept_whole(self, outputs: list[Any]) -> list[Any]:
        self.whole.update((id(x), x) for x in outputs if isinstance(x, Tracer))
        return outputs

    def times_parts(self, x: Any) -> Any:
        """Add rounding errors to a result of whole numbers, only where it is not whole or is too large to be exact."""
        if not is_float(x.dtype):
            return x
        noisy = self.times(x)
        xp = jnp if isinstance(x, Tracer) or isinstance(noisy, Tracer) else np
        held = x if isinstance(x, Tracer) else np.asarray(x)
        return xp.where((held == xp.round(held)) & (abs(held) < MAX_WHOLE), held, noisy)

    def settled(self, exponent: Any) -> Any:
        """Round an exponent that only its rounding errors keep from being an integer.

        Otherwise no negative number would have a power.
        """
        if not is_float(exponent.dtype):
            return exponent
        near = abs(exponent - jnp.round(exponent)) < NEAR * self.given[0] * abs(exponent)
        return jnp.where(near, jnp.round(exponent), exponent)

    def times(self, x: Any, noise: float = 0.0, terms: Any = None) -> Any:
        """Add rounding errors to x, of size ``noise`` if given, ``terms`` times as large.

        Those of a complex number go in any direction.
        """
        if not (is_float(x.dtype) or is_complex(x.dtype)) or not x.size or is_mutable(jax.typeof(x)):
            return x
        given = self.given[2] if terms is None and not noise else 1.0 + (noise or self.given[0]) * self.given[1] * (
            1.0 if terms is None else terms)  # fmt: skip
        traced = isinstance(x, Tracer) or isinstance(given, Tracer)
        xp, held = (jnp, x) if traced else (np, np.asarray(x))
        factor = self._part(xp, given, held)
        if is_complex(x.dtype):
            aside = self._part(xp, given, held) - 1.0
            factor = lax.complex(factor, aside) if traced else factor + 1j * aside
        return held * factor if traced else array(held * factor)

    def _part(self, xp: Any, factors: Any, x: Any) -> Any:
        """Return as many factors as x has entries, beginning at a place of their own."""
        start = next(self.places) * 7919 % max(self.size - x.size + 1, 1)
        if x.size > self.size:
            return xp.resize(factors, x.shape)
        return factors[start : start + x.size].reshape(x.shape)


def holds_whole_numbers(x: Any) -> bool:
    held = np.asarray(x)
    return bool((held == np.round(held)).all())


def _scrambled(xp: Any, count: int, seed: Any) -> Any:
    """Return random bits good enough for rounding errors, by three rounds of murmur3's finalizer."""
    with np.errstate(over="ignore"):
        h = xp.arange(count, dtype=xp.uint32) * xp.uint32(0x9E3779B1) + seed * xp.uint32(0x85EBCA77)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            h = (h ^ (h >> xp.uint32(shift))) * xp.uint32(factor)
    return h
