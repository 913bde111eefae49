"""Rules of primitives that work on each entry by itself."""

import operator
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from mpmath_oracle import scalars
from mpmath_oracle.values import as_floats, each, is_float

__all__ = ["RULES", "converted"]

COMPARISONS = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
               "ge": operator.ge}  # fmt: skip


def truncated_quotient(x: Any, y: Any) -> Any:
    """Integers divided as XLA does: towards zero, and -1 for a division by zero."""
    safe = np.where(y == 0, 1, y)
    quotient = np.floor_divide(x, safe)
    inexact = (quotient * safe != x) & (quotient < 0)
    return np.where(y == 0, -1, np.where(inexact, quotient + 1, quotient))


def truncated_rest(x: Any, y: Any) -> Any:
    return np.where(y == 0, x, x - truncated_quotient(x, y) * np.where(y == 0, 1, y))


INTEGERS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": truncated_quotient,
    "rem": truncated_rest,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "max": np.maximum,
    "min": np.minimum,
    "square": np.square,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
}


def arithmetic(name: str) -> Callable[..., np.ndarray]:
    """The rule of a primitive that has one meaning for floats and one for integers."""

    def rule(step: Any, *arrays: np.ndarray) -> np.ndarray:
        if arrays[0].dtype == object:
            return each(scalars.FUNCTIONS[name], *arrays)
        dtype = step.out[0].dtype
        return np.asarray(INTEGERS[name](*(np.atleast_1d(a) for a in arrays)), dtype).reshape(step.out[0].shape)

    return rule


def comparison(name: str) -> Callable[..., np.ndarray]:
    """What a comparison of two arrays says, NaN being unequal to all."""

    def rule(step: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(COMPARISONS[name](settled(step, x, y) if x.dtype == object else x, y), bool)

    return rule


def settled(step: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x, but y where the two differ by less than rounding may have made them differ, which is noted."""
    doubts = step.walk.doubts
    if doubts is None:
        return x
    least = mpf(10) ** (15 - mpmath.mp.dps)

    def entry(a: mpf, b: mpf) -> mpf:
        if scalars.is_nan(a) or scalars.is_nan(b):
            doubts.append("nan")
        if a == b or not (mpmath.isfinite(a) and mpmath.isfinite(b)) or abs(a - b) > least * max(1, abs(a), abs(b)):
            return a
        doubts.append(step.eqn.primitive.name)
        return b

    return each(entry, x, y)


def step_like(name: str, towards: Callable[[mpf], Any]) -> Callable[..., np.ndarray]:
    """The rule of a function that jumps; ``towards`` is where the nearest jump stands."""
    plain = arithmetic(name)

    def rule(step: Any, x: np.ndarray) -> np.ndarray:
        if x.dtype != object or step.walk.doubts is None:
            return plain(step, x)
        return plain(step, settled(step, x, each(lambda a: towards(a) if mpmath.isfinite(a) else a, x)))

    return rule


def integer_pow(step: Any, x: np.ndarray) -> np.ndarray:
    y = step.params["y"]
    return each(lambda entry: scalars.integer_power(entry, y), x) if x.dtype == object else np.asarray(x**y, x.dtype)


def rounded(step: Any, x: np.ndarray) -> np.ndarray:
    to_even = int(getattr(step.params["rounding_method"], "value", step.params["rounding_method"])) == 1
    return each(scalars.nearest if to_even else scalars.round_away, x) if x.dtype == object else x


def select_n(step: Any, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    chosen = cases[0]
    for number, case in enumerate(cases[1:], 1):
        chosen = np.where(np.asarray(which, int) == number, case, chosen)
    return np.asarray(chosen, cases[0].dtype)


def clamp(step: Any, low: np.ndarray, x: np.ndarray, high: np.ndarray) -> np.ndarray:
    if x.dtype == object:
        return each(lambda l, entry, h: scalars.least(scalars.greatest(entry, l), h), low, x, high)
    return np.asarray(np.minimum(np.maximum(x, low), high), x.dtype)


def converted(x: np.ndarray, dtype: Any) -> np.ndarray:
    """As JAX converts, but that a float keeps every digit: integers wrap, floats lose their fraction and stop at the
    ends of the integers."""
    if is_float(dtype):
        return x if x.dtype == object else as_floats(x)
    if x.dtype != object:
        return x.astype(dtype)
    if np.dtype(dtype).kind == "b":
        return np.asarray(x != 0, bool)
    return np.asarray(each(lambda entry: _whole(entry, np.iinfo(dtype)), x), dtype)


def _whole(x: mpf, limits: Any) -> int:
    if scalars.is_nan(x):
        return 0
    return int(max(mpf(int(limits.min)), min(mpf(int(limits.max)), x)))


def convert_element_type(step: Any, x: np.ndarray) -> np.ndarray:
    return converted(x, step.params["new_dtype"])


def bitcast(step: Any, x: np.ndarray) -> np.ndarray:
    """The bits of a number; a float is rounded to its dtype first, nothing else having bits."""
    new = step.params["new_dtype"]
    own = x if x.dtype != object else np.asarray(each(float, x), np.float64).astype(step.eqn.invars[0].aval.dtype)
    bits = np.ascontiguousarray(own).reshape(own.shape).view(new)
    return as_floats(bits) if is_float(new) else bits


def is_finite(step: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(each(mpmath.isfinite, x), bool)


def nextafter(step: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dtype = step.out[0].dtype
    ends = (np.asarray(each(float, side), np.float64).astype(dtype) for side in (x, y))
    return as_floats(np.nextafter(*ends))


def itself(step: Any, *arrays: Any) -> list[Any]:
    return list(arrays)


RULES: dict[str, Callable[..., Any]] = {
    **{name: arithmetic(name) for name in (*scalars.FUNCTIONS, "and", "or", "xor", "not")},
    **{name: comparison(name) for name in COMPARISONS},
    **{f"{name}_to": comparison(name) for name in COMPARISONS},
    "sign": step_like("sign", lambda a: mpf(0)),
    "floor": step_like("floor", mpmath.nint),
    "ceil": step_like("ceil", mpmath.nint),
    "integer_pow": integer_pow,
    "round": rounded,
    "select_n": select_n,
    "clamp": clamp,
    "convert_element_type": convert_element_type,
    "bitcast_convert_type": bitcast,
    "is_finite": is_finite,
    "nextafter": nextafter,
    "reduce_precision": itself,
    "stop_gradient": itself,
    "copy": itself,
    "copy_p": itself,
    "optimization_barrier": itself,
    "pvary": itself,
    "real": itself,
}
