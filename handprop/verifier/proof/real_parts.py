"""A program of complex numbers as one of real numbers: each complex value is a pair of its parts.

The field interprets real programs only. Over the reals nothing is lost: a product, a quotient, an absolute value and
each function below are the formulas for the parts, defined where the complex function is. The argument of a number and
a square root take the principal value, as JAX does; their formulas decide by the sign of the imaginary part. A Fourier
transform is the linear map that it is, with the cosines and sines that float64 holds for the real ones: equal programs
stay equal, but identities such as that of a transform and its inverse hold up to rounding only, and are not proved.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from handprop._compat import closed, equations
from handprop.verifier.complex_numbers import Pair
from handprop.verifier.programs.jaxprs import is_complex, solver_of, trace
from handprop.verifier.programs.primitives import Acts, row
from handprop.verifier.programs.running import bind, run
from handprop.verifier.programs.widen import SCATTERS

__all__ = ["NotReal", "holds_complex", "in_real_parts"]

LONGEST = 64  # of a Fourier transform
BILINEAR = {"dot_general", "conv_general_dilated"}
ADDITIVE = {"neg", "add", "sub", "add_any", "reduce_sum", "cumsum", "reduce_window_sum", "copy", "copy_p",
            "optimization_barrier", "reduce_precision", "select_n", "stop_gradient"}  # fmt: skip
ORDERED = {"sort", "top_k", "iota", "scatter-mul", "scatter_mul"}  # they move entries, but not part by part
DTYPES = ("new_dtype", "dtype", "preferred_element_type")


class NotReal(Exception):
    """A primitive of complex numbers whose parts are not known."""


def holds_complex(program: Any) -> bool:
    """Whether any value in the program is complex."""
    jaxpr = program.jaxpr
    values = (v for eqn in equations(program) for v in (*eqn.invars, *eqn.outvars))
    return any(is_complex(getattr(v.aval, "dtype", np.bool_)) for v in (*jaxpr.constvars, *jaxpr.outvars, *values))


def in_real_parts(f: Callable) -> Callable:
    """``f``, a function of real arrays, computed without complex numbers. NotReal if that is not known."""

    def real(*inputs: Any) -> tuple[Any, ...]:
        return tuple(run(trace(f, inputs), inputs, _step, constant=_parts))

    return real


def _parts(const: Any) -> Any:
    if not is_complex(const.dtype):
        return jnp.asarray(const)
    held = np.asarray(const)
    return Pair(jnp.asarray(np.real(held)), jnp.asarray(np.imag(held)))


def _step(eqn: Any, values: list[Any]) -> list[Any]:
    """The results of an equation, of real numbers and pairs."""
    name = eqn.primitive.name
    has_pairs = any(isinstance(x, Pair) for x in values)
    if name == "custom_linear_solve":
        return run(*solver_of(eqn, values), _step, constant=_parts)
    if not has_pairs and not any(is_complex(v.aval.dtype) for v in eqn.outvars if hasattr(v.aval, "dtype")):
        return bind(eqn, values)
    if name in FUNCTIONS:
        return [FUNCTIONS[name](eqn, *values)]
    if name in BILINEAR:
        return [_product(partial(_bound, eqn), *map(_pair, values))]
    if name in ADDITIVE or (row(name).acts is Acts.MOVES and name not in ORDERED):
        parts = ([getattr(x, part) if isinstance(x, Pair) else x for x in values] for part in Pair._fields)
        return [Pair(*both) for both in zip(*map(_of_part, [eqn] * 2, parts, (False, True)), strict=True)]
    raise NotReal(f"{name} of complex numbers")


def _of_part(eqn: Any, values: list[Any], imaginary: bool) -> list[Any]:
    """The results of an equation that does the same to both parts."""
    name, params = eqn.primitive.name, eqn.params
    changed = {key: _real_dtype(params[key]) for key in DTYPES if params.get(key) is not None}
    if "fill_value" in params:
        fill = complex(np.nan if params["fill_value"] is None else params["fill_value"])
        changed["fill_value"] = fill.imag if imaginary else fill.real
    if name not in SCATTERS:
        return bind(eqn, values, **changed)
    if name == "scatter" and params.get("update_jaxpr") is not None and closed(params["update_jaxpr"]).jaxpr.eqns:
        raise NotReal("scatter of complex numbers by a function")
    named = {key: params[key] for key in ("indices_are_sorted", "unique_indices", "mode")}
    return [SCATTERS[name](*values, dimension_numbers=params["dimension_numbers"], **named)]


def _bound(eqn: Any, *values: Any) -> Any:
    changed = {key: _real_dtype(eqn.params[key]) for key in DTYPES if eqn.params.get(key) is not None}
    return bind(eqn, list(values), **changed)[0]


def _real_dtype(dtype: Any) -> Any:
    return np.finfo(dtype).dtype if is_complex(dtype) else dtype


def _pair(x: Any) -> Pair:
    return x if isinstance(x, Pair) else Pair(x, jnp.zeros_like(x))


def _product(times: Callable, x: Pair, y: Pair) -> Pair:
    """x y, for anything that is linear in both."""
    return Pair(times(x.real, y.real) - times(x.imag, y.imag), times(x.real, y.imag) + times(x.imag, y.real))


def _mul(x: Pair, y: Pair) -> Pair:
    return _product(jnp.multiply, x, y)


def _norm(x: Pair) -> Any:
    """``|x|^2``."""
    return x.real * x.real + x.imag * x.imag


def _inverse(x: Pair) -> Pair:
    norm = _norm(x)
    return Pair(x.real / norm, -x.imag / norm)


def _scaled(x: Pair, factor: Any) -> Pair:
    return Pair(x.real * factor, x.imag * factor)


def _power(x: Pair, degree: int) -> Pair:
    if degree == 0:
        return Pair(jnp.ones_like(x.real), jnp.zeros_like(x.imag))
    return reduce(_mul, [x if degree > 0 else _inverse(x)] * abs(degree))


def _exp(x: Pair) -> Pair:
    return _scaled(Pair(jnp.cos(x.imag), jnp.sin(x.imag)), jnp.exp(x.real))


def _log(x: Pair) -> Pair:
    return Pair(0.5 * jnp.log(_norm(x)), jnp.arctan2(x.imag, x.real))


def _sqrt(x: Pair) -> Pair:
    """The root whose real part is not negative: ``((|x| + a) / 2)^(1/2) + i sign(b) ((|x| - a) / 2)^(1/2)``."""
    size = jnp.sqrt(_norm(x))
    aside = jnp.sqrt((size - x.real) * 0.5)
    return Pair(jnp.sqrt((size + x.real) * 0.5), jnp.where(x.imag < 0, -aside, aside))


def _sign(x: Pair) -> Pair:
    size = jnp.sqrt(_norm(x))
    is_zero = size == 0
    return Pair(*(jnp.where(is_zero, jnp.zeros_like(part), part / jnp.where(is_zero, jnp.ones_like(size), size))
                  for part in x))  # fmt: skip


def _pow(eqn: Any, x: Any, y: Any) -> Pair:
    """``exp(y log x)``."""
    return _exp(_mul(_pair(y), _log(_pair(x))))


def _converted(eqn: Any, x: Any) -> Any:
    dtype = eqn.params["new_dtype"]
    if not is_complex(dtype):
        return lax.convert_element_type(x.real, dtype)
    return Pair(*(lax.convert_element_type(part, _real_dtype(dtype)) for part in _pair(x)))


def _hyperbolic(x: Pair, odd: bool) -> Pair:
    """sinh x or cosh x."""
    e, inverse = jnp.exp(x.real), jnp.exp(-x.real)
    sinh, cosh = (e - inverse) * 0.5, (e + inverse) * 0.5
    if odd:
        return Pair(sinh * jnp.cos(x.imag), cosh * jnp.sin(x.imag))
    return Pair(cosh * jnp.cos(x.imag), sinh * jnp.sin(x.imag))


def _all_multiplied(eqn: Any, x: Pair) -> Pair:
    """The product of the entries along some axes."""
    for axis in sorted(eqn.params["axes"], reverse=True):
        entries = [Pair(*(lax.index_in_dim(part, i, axis, keepdims=False) for part in x))
                   for i in range(x.real.shape[axis])]  # fmt: skip
        x = reduce(_mul, entries) if entries else _power(Pair(*(jnp.sum(part, axis) for part in x)), 0)
    return x


def _turned(x: Pair) -> Pair:
    """ix."""
    return Pair(-x.imag, x.real)


def _sin(x: Pair) -> Pair:
    return _scaled(_turned(_hyperbolic(_turned(x), odd=True)), -1.0)


def _cos(x: Pair) -> Pair:
    return _hyperbolic(_turned(x), odd=False)


def _quotient(over: Callable, under: Callable) -> Callable:
    return lambda x: _mul(over(x), _inverse(under(x)))


_sinh, _cosh = partial(_hyperbolic, odd=True), partial(_hyperbolic, odd=False)
_one = lambda x, sign: Pair(1.0 + sign * x.real, sign * x.imag)  # noqa: E731
UNARY: dict[str, Callable[[Pair], Any]] = {
    "conj": lambda x: Pair(x.real, -x.imag),
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "abs": lambda x: jnp.sqrt(_norm(x)),
    "square": lambda x: _mul(x, x),
    "exp": _exp,
    "expm1": lambda x: Pair(_exp(x).real - 1.0, _exp(x).imag),
    "log": _log,
    "log1p": lambda x: _log(_one(x, 1.0)),
    "sqrt": _sqrt,
    "rsqrt": lambda x: _inverse(_sqrt(x)),
    "sign": _sign,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _quotient(_sinh, _cosh),
    "sin": _sin,
    "cos": _cos,
    "tan": _quotient(_sin, _cos),
    "logistic": lambda x: _inverse(_one(_exp(_scaled(x, -1.0)), 1.0)),
    "is_finite": lambda x: jnp.isfinite(x.real) & jnp.isfinite(x.imag),
}


def _of_all(f: Callable) -> Callable:
    return lambda eqn, *values: f(*map(_pair, values))


def _transformed(eqn: Any, x: Any) -> Any:
    """A Fourier transform along the last axes, by its matrices."""
    kind, lengths = eqn.params["fft_type"].name.upper(), eqn.params["fft_lengths"]
    if max(lengths, default=1) > LONGEST:
        raise NotReal(f"a Fourier transform of {max(lengths)} numbers")
    first = len(jnp.shape(_pair(x).real)) - len(lengths)
    axes = list(range(first, first + len(lengths)))
    whole = [_whole] * len(lengths)
    inverse = kind in ("IFFT", "IRFFT")
    if kind == "RFFT":
        whole[-1] = _half
    steps = list(zip(axes, lengths, whole, strict=True))
    if kind == "IRFFT":
        out = reduce(lambda x, step: _along(_pair(x), step[0], _whole(step[1], True)), steps[:-1], _pair(x))
        return _along(out, axes[-1], _from_half(lengths[-1])).real
    return reduce(lambda x, step: _along(_pair(x), step[0], step[2](step[1], inverse)), steps[::-1], x)


def _whole(n: int, inverse: bool) -> np.ndarray:
    """W with ``W[j, k] = exp(-2 pi i j k / n)``, or the inverse matrix."""
    turns = np.outer(np.arange(n), np.arange(n)) % n
    angles = 2 * np.pi * turns / n
    matrix = np.cos(angles) + 1j * np.sin(angles) * (1 if inverse else -1)
    return matrix / n if inverse else matrix


def _half(n: int, inverse: bool) -> np.ndarray:
    return _whole(n, inverse)[: n // 2 + 1]


def _from_half(n: int) -> np.ndarray:
    """The matrix whose product with half of a spectrum has the real numbers as its real part. It ignores the imaginary
    parts that the spectrum of real numbers does not have."""
    matrix = _whole(n, True)[:, : n // 2 + 1] * 2
    for alone in {0, n // 2} if n % 2 == 0 else {0}:
        matrix[:, alone] = np.real(matrix[:, alone]) / 2
    return matrix


def _along(x: Pair, axis: int, matrix: np.ndarray) -> Pair:
    """The product with a matrix along one axis."""
    dtype = x.real.dtype
    held = Pair(jnp.asarray(np.real(matrix), dtype), jnp.asarray(np.imag(matrix), dtype))

    def times(part: Any, other: Any) -> Any:
        return jnp.moveaxis(lax.dot_general(part, other, (((axis,), (1,)), ((), ()))), -1, axis)

    return _product(times, x, held)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _of_all(f) for name, f in UNARY.items()},
    "complex": lambda eqn, a, b: Pair(*(jnp.broadcast_to(x, eqn.outvars[0].aval.shape) for x in (a, b))),
    "convert_element_type": _converted,
    "mul": _of_all(_mul),
    "div": _of_all(lambda x, y: _mul(x, _inverse(y))),
    "integer_pow": lambda eqn, x: _power(x, eqn.params["y"]),
    "pow": _pow,
    "reduce_prod": _all_multiplied,
    "eq": _of_all(lambda x, y: (x.real == y.real) & (x.imag == y.imag)),
    "ne": _of_all(lambda x, y: (x.real != y.real) | (x.imag != y.imag)),
    "fft": _transformed,
}
