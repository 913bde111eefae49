"""Whether the rounding of a program's own constants explains why two programs differ.

``jnp.log(10.0)`` in a closure is a float32, and ``1 / 2.302585092994046`` in the other program is a different one. Both
programs are right to what float32 holds of their constants, yet they differ by 1e-8 in float64. A constant stands for
every number that rounds to it, ``c + s h`` with ``h`` half a unit in its last place and ``-1 <= s <= 1``. The
difference of the programs is linear in such small ``s``. The shifts that remove most of it are therefore the
least-squares solution of ``D + J s = 0`` within these limits (Stark and Parker 1995), where each entry is in units of
its bound and ``J`` is measured by one run for each distinct constant. A difference is explained if it is then below its
bound in every entry. A number of few digits, such as 0.5 or 3, is taken as exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from handprop.verifier.programs import jaxprs

__all__ = ["Constant", "explain", "inexact", "shifted"]

MAX = 32  # distinct constants
MAX_SHIFT = 1.01
Outputs = list[np.ndarray]


class Constant(NamedTuple):
    """A number that a program holds in fewer bits than float64 has, and half a unit in its last place."""

    number: float
    half: float


def inexact(programs: Sequence[Any]) -> list[Constant]:
    """Return the distinct constants of the programs that are rounded, or none if there are more than ``MAX``."""
    found: dict[float, Constant] = {}
    for program in programs:
        for held in jaxprs.numbers(program):
            if jaxprs.is_float(held.dtype):
                found |= {c.number: c for c in _rounded(held)}
            if len(found) > MAX:
                return []
    return list(found.values())


def _rounded(held: np.ndarray) -> list[Constant]:
    """Return the rounded numbers of one constant; a float64 that float32 can hold was widened from there."""
    distinct = np.unique(np.abs(held.astype(np.float64)))
    distinct = distinct[np.isfinite(distinct) & (distinct > 0)][: MAX + 1]
    if held.dtype == np.float64:
        with np.errstate(over="ignore"):
            distinct = distinct[distinct.astype(np.float32) == distinct]
        bits = 24
    else:
        bits = jnp.finfo(held.dtype).nmant + 1
    mantissa, exponent = np.frexp(distinct)
    few = np.ldexp(mantissa, bits // 2)
    return [Constant(float(x), float(np.ldexp(0.5, e - bits))) for x, e, f in zip(distinct, exponent, few, strict=True)
            if f != np.round(f)]  # fmt: skip


def shifted(held: Any, constants: Sequence[Constant], shifts: Any) -> Any:
    """Return a constant in float64, with its rounded numbers shifted by this many of their half units."""
    if jaxprs.is_key(held):
        return held
    held = np.asarray(held)
    if jaxprs.is_complex(held.dtype):
        return lax.complex(*(jnp.asarray(shifted(part, constants, shifts)) for part in (np.real(held), np.imag(held))))
    if not jaxprs.is_float(held.dtype):
        return held
    wide = out = held.astype(np.float64)
    for constant, shift in zip(constants, shifts, strict=True):
        if (where := np.abs(wide) == constant.number).any():
            out = out + np.where(where, np.sign(wide) * constant.half, 0.0) * shift
    return out


def explain(base: tuple[Outputs, Outputs], moved: Sequence[tuple[Outputs, Outputs]], bound: Outputs) -> bool:
    """Whether shifts of at most one reduce the difference of both programs below its bound.

    ``base`` holds the outputs by hand and by the reference with no constant shifted, ``moved`` those with one shifted.
    """
    from scipy.optimize import lsq_linear  # slow to import and seldom needed

    defined = [np.isfinite(got) | np.isfinite(want) for got, want in zip(*base, strict=True)]

    def gap(pair: tuple[Outputs, Outputs]) -> np.ndarray:
        return np.concatenate([((got - want)[where] / np.maximum(b, 5e-324)[where])
                               for got, want, b, where in zip(*pair, bound, defined, strict=True)])  # fmt: skip

    with np.errstate(all="ignore"):
        here = gap(base)
        columns = np.stack([gap(pair) for pair in moved], axis=1) - here[:, None]
    if not (np.isfinite(here).all() and np.isfinite(columns).all()):
        return False
    shifts = lsq_linear(columns, -here, (-MAX_SHIFT, MAX_SHIFT), method="bvls").x
    return bool((np.abs(here + columns @ shifts) <= 1).all())
