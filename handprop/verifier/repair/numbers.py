"""A reading of programs in which every value is a number in float64, for programs that the field does not interpret.

Where an index or the length of a loop is computed from floats, nothing can be said of all inputs at once. At one point
each decision is made, and values of two programs can be compared: an array is represented by a hash of each entry,
which is equal for numbers that differ by rounding only. Nothing can be solved for, since sums of hashes mean nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.programs.jaxprs import is_float, is_key
from handprop.verifier.programs.widen import wide_step
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.hashing import mix
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import INFINITY, NAN, Value

__all__ = ["as_number", "step_in_numbers"]

BITS = 30  # of a mantissa, in which numbers that differ by rounding only agree
SMALL = 1e-13  # what is left where terms cancel


def as_number(run: Run, array: np.ndarray) -> Value:
    """Return the numbers with a hash for each entry; that of ``-x`` is the negative of that of ``x``."""
    wide = array if np.iscomplexobj(array) else np.asarray(array, np.float64)
    parts = [_hashed(run, np.real(wide)), *([_hashed(run, np.imag(wide))] if np.iscomplexobj(wide) else [])]
    special = np.where(np.isnan(wide), NAN, np.where(np.isinf(wide), INFINITY * np.sign(np.real(wide)), 0))
    return Value(Elements(*parts), known=wide, special=special.astype(np.int8) if special.any() else None)


def _hashed(run: Run, x: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(np.where(np.isfinite(x), np.abs(x), 0.0))
    whole = np.round(mantissa * 2.0**BITS).astype(np.int64)
    carried = whole == 1 << BITS  # 0.1111... and 1.0000... are near
    words = np.where(carried, whole >> 1, whole), (exponent + carried).astype(np.int64)
    hashes = (mix(*(word.astype(np.uint64) for word in words)) % np.uint64(run.field.p)).astype(np.int64)
    positive = np.where((np.abs(x) < SMALL) | ~np.isfinite(x), 0, hashes)
    return np.where((x < 0) & (positive != 0), run.field.p - positive, positive)


def step_in_numbers(run: Run, eqn: Any, operands: list[Thing]) -> list[Thing]:
    """Return the outputs of an equation.

    Raises:
        Unsupported: an operand is no number, or the equation reads or changes state.
    """
    if eqn.effects:
        raise Unsupported(f"{eqn.primitive.name}, which reads or changes state")
    held = [_held(thing) for thing in operands]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # pyright: ignore[reportAttributeAccessIssue]
        outputs = wide_step(eqn, [jnp.asarray(x) for x in held])
    return [out if is_key(out) else as_number(run, np.asarray(out)) if _is_inexact(out) else np.asarray(out)
            for out in outputs]  # fmt: skip


def _is_inexact(x: Any) -> bool:
    return is_float(x.dtype) or jnp.issubdtype(x.dtype, jnp.complexfloating)


def _held(thing: Thing) -> Any:
    if not isinstance(thing, Value):
        return thing
    if thing.known is None:
        raise Unsupported("what is no number")
    return thing.known
