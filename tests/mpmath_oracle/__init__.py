"""An oracle for programs as JAX writes them: every equation evaluated with mpmath, to as many digits as one asks for.

It shares nothing with the verifier's own evaluation. Floats are object arrays of ``mpmath.mpf`` and stand for the real
numbers, so that nothing is rounded to a dtype; integers and truth values are NumPy arrays of their dtype, with that
dtype's arithmetic. Zero has no sign: ``1/0`` is ``+inf``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath
import numpy as np

from mpmath_oracle.walking import RULES, Walk

__all__ = ["RULES", "evaluate"]


def evaluate(program: Any, inputs: Sequence[Any], digits: int = 50, readings: Mapping[float, Any] | None = None,
             doubts: list[str] | None = None) -> list[np.ndarray]:  # fmt: skip
    """The outputs of a closed jaxpr on these inputs, arrays of floats, of ``mpf`` or of integers.

    A float literal or constant is the dyadic number that it holds, unless ``readings`` says what that number stands
    for: a ``Fraction``, an ``mpf`` or a plain number. Where ``doubts`` is given, two numbers that are compared and
    agree to all digits but ten are equal, and the comparison's name is appended: what is decided there, rounding
    decides, and more digits tell. "nan" is appended where NaN is compared. NotImplementedError names a primitive
    without a rule.

    >>> import jax
    >>> (e,) = evaluate(jax.make_jaxpr(jax.numpy.exp)(1.0), [1.0])
    >>> mpmath.nstr(e[()], 45)
    '2.71828182845904523536028747135266249775724709'
    """
    with mpmath.workdps(digits + 5), np.errstate(all="ignore"):
        outputs = Walk(readings or {}, doubts)(program, inputs)
    with mpmath.workdps(digits):
        return [np.asarray(+out, object) if out.dtype == object else out for out in outputs]
