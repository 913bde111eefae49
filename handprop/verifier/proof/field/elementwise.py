"""Rules for primitives that act entry by entry: arithmetic, comparisons, selections, casts."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.programs.executables import applied
from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.functions import UNARY, uninterpreted
from handprop.verifier.proof.field.powers import ROOTS, pow_value
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.specials import without_specials
from handprop.verifier.proof.field.truth import (
    Thing,
    absolute,
    as_value,
    equal,
    greater,
    logical_not,
    maximum,
    minimum,
    select,
    sign,
)
from handprop.verifier.proof.field.values import Value, is_nonnegative, moved

__all__ = ["ELEMENTWISE", "Rule"]

Rule: TypeAlias = Callable[[Run, list[Thing], dict[str, Any], Any], list[Thing]]


def _binary(f: Callable[[Run, Value, Value], Thing]) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        a, b = (as_value(run, thing) for thing in inputs)
        return [f(run, a, b)]

    return rule


def _unary(f: Callable[[Run, Value], Thing]) -> Rule:
    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        return [f(run, as_value(run, inputs[0]))]

    return rule


def _logical(f: Callable[[Run, Value, Value], Value], concrete: Callable) -> Rule:
    """A rule for a logical operation: the operation itself on booleans, its polynomial on polynomial truth values."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        a, b = inputs
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return [concrete(a, b)]
        if eqn.outvars[0].aval.dtype != np.bool_:
            raise Unsupported("bits of unknown integers")
        return [f(run, as_value(run, a), as_value(run, b))]

    return rule


def _and(run: Run, a: Value, b: Value) -> Value:
    return run.mul(a, b)


def _or(run: Run, a: Value, b: Value) -> Value:
    return run.add(run.add(a, b), run.mul(a, b), -1)


def _xor(run: Run, a: Value, b: Value) -> Value:
    both = run.mul(a, b)
    return run.add(run.add(a, b), run.add(both, both), -1)


def _not(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    if eqn.outvars[0].aval.dtype != np.bool_ and not isinstance(inputs[0], np.ndarray):
        raise Unsupported("bits of unknown integers")
    return [logical_not(run, inputs[0])]


def _ne(run: Run, a: Value, b: Value) -> Thing:
    return logical_not(run, equal(run, a, b))


def _of_truths(f: Rule, otherwise: Rule) -> Rule:
    """A rule that applies ``f`` where booleans are compared, as their truth values may be polynomials too."""

    def rule(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
        return (f if eqn.invars[0].aval.dtype == np.bool_ else otherwise)(run, inputs, params, eqn)

    return rule


def _same_truth(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    return [logical_not(run, _xor(run, *(as_value(run, thing) for thing in inputs)))]


def _clamp(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    low, x, high = (as_value(run, thing) for thing in inputs)
    shape = x.shape
    low, high = (_spread(v, shape) for v in (low, high))
    return [minimum(run, as_value(run, maximum(run, x, low)), high)]


def _spread(v: Value, shape: tuple[int, ...]) -> Value:
    return moved(v, lambda part: np.broadcast_to(part, shape))


def _select_n(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    which, *cases = inputs
    if not which.shape and cases[0].shape:
        shape = cases[0].shape
        which = np.broadcast_to(which, shape) if isinstance(which, np.ndarray) else _spread(which, shape)
    return [select(run, which, cases, eqn.invars[0].aval.dtype)]


def _integer_pow(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    return [run.power(as_value(run, inputs[0]), int(params["y"]))]


def _convert(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """Casts. Between floats they are the identity over the reals; a cast from float to integer needs a known number."""
    (thing,) = inputs
    if jnp.issubdtype(params["new_dtype"], jax.dtypes.extended):
        raise Unsupported(f"a cast to {params['new_dtype']}")
    dtype, own = np.dtype(params["new_dtype"]), eqn.invars[0].aval.dtype
    to_float = jnp.issubdtype(dtype, np.floating)
    if isinstance(thing, np.ndarray):
        return [run.embed(thing)] if to_float else [thing.astype(dtype)]
    if np.issubdtype(dtype, np.complexfloating) or np.issubdtype(own, np.complexfloating):
        raise NotUnderstood(f"a cast of unknown numbers from {own} to {dtype}")
    if to_float and jnp.issubdtype(own, np.floating):
        return [_refloated(run, thing, own, dtype)]
    if to_float:
        return [thing if thing.known is not None else _floated(run, thing, own, dtype)]
    if thing.known is not None:
        return [_to_integers(thing, dtype, eqn)]
    if own == np.bool_:
        return [thing._replace(most=1, nonnegative=True)]
    if dtype == np.bool_:
        return [_ne(run, thing, run.number(0, thing.shape))]
    fits = jnp.issubdtype(own, np.integer) and thing.most <= jnp.iinfo(dtype).max
    if fits and (is_nonnegative(thing) or not jnp.issubdtype(dtype, jnp.unsignedinteger)):
        return [thing]
    raise NeedsBranches(f"a cast of unknown numbers to {dtype}")


def _floated(run: Run, thing: Value, own: Any, dtype: np.dtype) -> Value:
    """An integer or truth value as a float: the same number, if the type holds all numbers that it may be."""
    ends, most = ml_dtypes.finfo(dtype), 1 if own == np.bool_ else thing.most
    if float(np.zeros((), dtype)) or float(ends.max) < most < np.inf:
        raise NotUnderstood(f"an integer that {dtype} may not be able to represent")
    if most > 2.0 ** (ends.nmant + 1):
        run.casts.add(str(dtype))
    return thing


def _refloated(run: Run, thing: Value, own: Any, dtype: np.dtype) -> Value:
    bits, had = (ml_dtypes.finfo(d).nmant for d in (dtype, own))
    smaller = ml_dtypes.finfo(dtype).maxexp < min(ml_dtypes.finfo(own).maxexp, run.least_exponent)
    if bits < min(had, run.least_bits) or smaller:
        run.casts.add(str(dtype))
    return thing


def _reduce_precision(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    if params["mantissa_bits"] < run.least_bits or 2 ** (params["exponent_bits"] - 1) < run.least_exponent:
        run.casts.add(f"{params['exponent_bits']} and {params['mantissa_bits']} bits")
    return [as_value(run, inputs[0])]


def _to_integers(thing: Value, dtype: np.dtype, eqn: Any) -> np.ndarray:
    """Cast as XLA does: round toward zero, clip to the range of the type, NaN to 0."""
    assert thing.known is not None
    with jax.enable_x64(True):
        ends = [np.asarray(applied(jax.lax.convert_element_type, thing.known + e, new_dtype=dtype))
                for e in (thing.error, -thing.error)]  # fmt: skip
    if (ends[0] != ends[1]).any():
        raise Unsupported("a cast of known numbers whose result rounding may decide")
    return ends[0]


def _rem(run: Run, a: Value, b: Value) -> Thing:
    if a.known is not None and b.known is not None and not a.error and not b.error:
        with np.errstate(all="ignore"):
            return run.embed(np.asarray(np.fmod(a.known, b.known)))
    if run.field.is_zero(b.x).any():
        raise NotUnderstood("a remainder by zero")
    run.check_not_zero(b, "a remainder by what may be zero", "what a remainder is taken by is not zero")
    return uninterpreted(run, "rem", a, b)


def _is_finite(run: Run, a: Value) -> Thing:
    if Kind.PIECEWISE in run.kinds.values() and a.kind is Kind.PIECEWISE:
        raise NotUnderstood("whether the result of an unknown function is finite")
    return np.ones(a.shape, bool)


def _rounding(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """floor, ceil and round: known numbers are rounded by the primitive itself; other operands give an unknown
    function."""
    a = as_value(run, inputs[0])
    method = params.get("rounding_method", "")
    if a.known is None:
        return [uninterpreted(run, f"{eqn.primitive.name} {method}".strip(), a)]
    with jax.enable_x64(True):
        ends = [np.asarray(applied(eqn.primitive.bind, a.known + e, **params)) for e in (a.error, -a.error)]
    if (ends[0] != ends[1]).any():
        raise Unsupported(f"{eqn.primitive.name} of known numbers whose result rounding may decide")
    return [run.embed(ends[0])]


def _nextafter(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    """The neighbour of a float among the floats of its type: an unknown function of the number and of the direction,
    which may be infinite, because over the reals a number has no neighbour."""
    a, b = (as_value(run, thing) for thing in inputs)
    dtype = eqn.outvars[0].aval.dtype
    if a.special is not None or (b.special is not None and (np.abs(b.special) > 1).any()):
        raise NotUnderstood("nextafter of non-finite numbers")
    if a.known is not None and b.known is not None and not a.error and not b.error:
        return [run.embed(np.nextafter(*(np.asarray(v.known, dtype) for v in (a, b))), read=False)]
    toward = run.embed(np.zeros(b.shape) if b.special is None else b.special.astype(float), read=False)
    return [uninterpreted(run, f"nextafter {dtype}", a, without_specials(b), toward)]


ELEMENTWISE: dict[str, Rule] = {
    **{name: _unary(f) for name, f in (UNARY | ROOTS).items()},
    "add": _binary(lambda run, a, b: run.add(a, b)),
    "add_any": _binary(lambda run, a, b: run.add(a, b)),
    "sub": _binary(lambda run, a, b: run.add(a, b, -1)),
    "mul": _binary(lambda run, a, b: run.mul(a, b)),
    "div": _binary(lambda run, a, b: run.div(a, b)),
    "pow": _binary(pow_value),
    "rem": _binary(_rem),
    "max": _binary(maximum),
    "min": _binary(minimum),
    "gt": _binary(greater),
    "lt": _binary(lambda run, a, b: greater(run, b, a)),
    "ge": _binary(lambda run, a, b: logical_not(run, greater(run, b, a))),
    "le": _binary(lambda run, a, b: logical_not(run, greater(run, a, b))),
    "eq": _of_truths(_same_truth, _binary(equal)),
    "ne": _of_truths(_logical(_xor, np.bitwise_xor), _binary(_ne)),
    "abs": _unary(absolute),
    "sign": _unary(sign),
    "is_finite": _unary(_is_finite),
    "and": _logical(_and, np.bitwise_and),
    "or": _logical(_or, np.bitwise_or),
    "xor": _logical(_xor, np.bitwise_xor),
    "not": _not,
    "optimization_barrier": lambda run, inputs, params, eqn: list(inputs),
    "select_n": _select_n,
    "clamp": _clamp,
    "reduce_precision": _reduce_precision,
    "nextafter": _nextafter,
    "integer_pow": _integer_pow,
    "convert_element_type": _convert,
    "floor": _rounding,
    "ceil": _rounding,
    "round": _rounding,
}
