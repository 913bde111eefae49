"""A program in float64, whatever its dtype, with simulated rounding errors of a chosen size."""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from handprop._compat import closed, equations
from handprop.verifier.programs import literals
from handprop.verifier.programs.executables import applied, run_kept
from handprop.verifier.programs.jaxprs import as_written, is_float, solver_of, wide_dtype, widened
from handprop.verifier.programs.moves import as_dtype
from handprop.verifier.programs.noise import Factors, holds_whole_numbers, own_rounding
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.programs.running import MAX_IN_SERIES, bind, once, run

__all__ = ["wide_step", "widen"]

# A scatter equation holds an update program for one dtype; these functions make one for another.
SCATTERS = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-sub": lax.scatter_sub,
    "scatter-mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
}


def widen(program: Any, constant: Callable[[Any], Any] | None = None, extra_turn: bool = False,
          equality: Callable | None = None) -> Callable[..., list[Any]]:  # fmt: skip
    """Return ``wide(inputs, noise, seed)``: the program with every float in float64 and every product at full
    precision.

    Each float that a rounding primitive returns is multiplied by ``1 + noise u``, where u is uniform in [-1, 1]: a
    rounding error of a chosen size. With a noise of None there is none. A primitive that runs in its own dtype, because
    it reads bits or calls back, takes and returns numbers with the rounding errors of that dtype. Float32 literals are
    read as the numbers that they were written as, if that is clear, or by ``constant``. Data-dependent loops end, and
    return NaN if they were cut. ``extra_turn``: iterations toward a fixed point take one more step.
    ``equality(eqn, values, outputs)``: what an equality of floats returns; the iterations of a scan then run one by
    one.
    """

    largest = max((math.prod(getattr(v.aval, "shape", ())) for e in equations(program) for v in e.outvars), default=1)

    def evaluate(inputs: Sequence[Any], noise: Any, seed: Any) -> list[Any]:
        factors = None if noise is None else Factors(noise, seed, largest)

        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            if equality is not None and has(eqn, Trait.EQUALITY) and is_float(values[0].dtype):
                return equality(eqn, values, wide_step(eqn, values))
            if factors is None:
                return [widened(x) for x in wide_step(eqn, values)]
            own = own_rounding(eqn)
            if factors.traced and (known := _whole_numbers(eqn, values)):
                return known
            whole = not own and all(map(factors.is_whole, values))
            if own or (has(eqn, Trait.RUNNING_SUM) and not whole):
                values = [factors.times(x, own) for x in values]
            if eqn.primitive.name == "pow":
                values = [values[0], factors.settled(values[1])]
            outputs = [widened(x) for x in wide_step(eqn, values)]
            if has(eqn, Trait.EXACT) and not own:
                return factors.kept_whole(outputs) if whole or has(eqn, Trait.ROUNDS) else outputs
            if whole and has(eqn, Trait.WHOLE):
                outputs = [factors.times_parts(x) for x in outputs]
                return outputs if eqn.primitive.name == "div" else factors.kept_whole(outputs)
            terms = _terms_of_series(values) if has(eqn, Trait.SERIES) else None
            return [factors.times(x, own, terms) for x in outputs]

        return run(program, [widened(x) for x in inputs], leaf, constant=constant or as_written,
                   unrolled=equality is not None, cut_loops=True, extra_turn=extra_turn,
                   loop=once if constant else partial(_kept, factors))  # fmt: skip

    return evaluate


def _kept(factors: "Factors | None", key: tuple, f: Callable, *args: Any) -> Any:
    """Run a loop of a widened program whose constants are as written. It is compiled once for all runs, because
    rounding errors are passed to it as an argument."""
    if factors is None:
        return run_kept((*key, "clean"), f, *args)

    places = factors.places_of_a_loop()

    def noisy(given: Any, *args: Any) -> Any:
        with factors.of(given, places):
            return f(*args)

    return run_kept((*key, factors.size), noisy, factors.given, *args)


def _whole_numbers(eqn: Any, values: list[Any]) -> list[Any]:
    """The results of an equation of constants if they are integers, such as 0.5 (n - 1) for a median, else [].

    Such integers have no rounding errors, and an index may be computed from them.
    """
    if eqn.effects or any(isinstance(x, Tracer) for x in values):
        return []
    if not all(is_float(v.aval.dtype) and math.prod(v.aval.shape) <= literals.MAX_READ for v in eqn.outvars):
        return []
    with jax.ensure_compile_time_eval():
        outputs = [widened(x) for x in wide_step(eqn, values)]
        return outputs if all(map(holds_whole_numbers, outputs)) else []


def _terms_of_series(values: list[Any]) -> Any:
    """The number of terms that a series may add, which grow before they fall: as many as its largest operand."""
    sizes = (jnp.clip(jnp.nan_to_num(abs(x)), 1.0, MAX_IN_SERIES).max(initial=1.0) for x in values if is_float(x.dtype))
    return reduce(jnp.maximum, sizes)


def _scattered_by(update: Any, values: list[Any], dimensions: Any, named: dict[str, Any]) -> Any:
    """A scatter that applies its own function to the entries that it updates."""
    operand, indices, updates = values
    function = widen(closed(update))

    def applied(x: Any) -> Any:
        return function([x, jnp.zeros_like(x)], None, None)[0]

    return lax.scatter_apply(operand, indices, applied, dimensions, update_shape=updates.shape, **named)


def _reduced_by(eqn: Any, values: list[Any]) -> list[Any]:
    """A reduction with its own function, over whole axes or over windows."""
    function, half = widen(closed(eqn.params["jaxpr"])), len(values) // 2

    def combined(x: list[Any], y: list[Any]) -> list[Any]:
        return function([*x, *y], None, None)

    if eqn.primitive.name == "reduce":
        return lax.reduce(values[:half], values[half:], combined, eqn.params["dimensions"])
    named = {key: eqn.params[key] for key in ("window_dimensions", "window_strides", "padding", "base_dilation",
                                              "window_dilation")}  # fmt: skip
    return lax.reduce_window(values[:half], values[half:], combined, **named)


def _unseen(x: Any) -> Any:
    """The number, hidden from XLA's simplifications, which assume that there is no NaN.

    In compiled code, a mask of truth values times NaN is 0, and NaN is not negative if the function's numbers are not.
    """
    return lax.optimization_barrier(x) if isinstance(x, Tracer) else x


def wide_step(eqn: Any, values: list[Any]) -> list[Any]:
    """Apply the equation to float64 values, whatever dtype its parameters name."""
    name = eqn.primitive.name
    if has(eqn, Trait.ORDER) and is_float(values[0].dtype):
        values = [_unseen(x) for x in values]
    if name == "convert_element_type" and values[0].dtype == np.bool_:
        return [_unseen(x) for x in bind(eqn, values, new_dtype=wide_dtype(eqn.params["new_dtype"]))]
    if name == "reduce_precision":
        return values[:1]
    if name in ("reduce", "reduce_window"):
        return _reduced_by(eqn, values)
    if name in SCATTERS:
        keep = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        dimensions, *rest = (eqn.params[key] for key in keep)
        named: dict[str, Any] = dict(zip(keep[1:], rest, strict=True))
        update = eqn.params.get("update_jaxpr")
        if name == "scatter" and update is not None and closed(update).jaxpr.eqns:
            return [_scattered_by(update, values, dimensions, named)]
        return [applied(SCATTERS[name], *values, dimension_numbers=dimensions, **named)]
    if has(eqn, Trait.OWN_DTYPE):
        own = [v.astype(a.aval.dtype) if is_float(v.dtype) else v for v, a in zip(values, eqn.invars, strict=True)]
        return _called_back(eqn, own) if name == "pure_callback" else bind(eqn, own)
    changed: dict[str, Any] = {
        key: wide_dtype(value) for key, value in eqn.params.items()
        if key in ("new_dtype", "dtype", "preferred_element_type") and value is not None
    }  # fmt: skip
    if eqn.params.get("fill_value") is not None:
        changed["fill_value"] = as_dtype(eqn.params["fill_value"], eqn.invars[0].aval.dtype)
    if "precision" in eqn.params:
        changed["precision"] = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
        if name == "conv_general_dilated":
            changed["precision"] = lax.Precision.HIGHEST
    if name == "custom_linear_solve":
        leaf = lambda e, v: [widened(x) for x in wide_step(e, v)]  # noqa: E731
        return run(*solver_of(eqn, values), leaf, constant=as_written)
    if has(eqn, Trait.ITERATES):
        return _of_finite_matrices(eqn, values, changed)
    return bind(eqn, values, **changed)


def _called_back(eqn: Any, values: list[Any]) -> list[Any]:
    """The results of a callback, which takes and returns 64-bit numbers as pairs of 32-bit words.

    JAX may call it in another thread, where x64 is not enabled, and would round 64-bit numbers there.
    """
    taken, made = ([v.aval.dtype for v in vs] for vs in (eqn.invars, eqn.outvars))
    if not any(_has_words(dtype) for dtype in (*taken, *made)):
        return bind(eqn, values)

    def host(*args: Any) -> list[np.ndarray]:
        numbers = [np.ascontiguousarray(x).view(d)[..., 0] if _has_words(d) else np.asarray(x)
                   for x, d in zip(args, taken, strict=True)]  # fmt: skip
        with jax.enable_x64(True):
            found = [np.asarray(x) for x in jax.tree.leaves(eqn.params["callback"](*map(jnp.asarray, numbers)))]
        for x, v in zip(found, eqn.outvars, strict=True):
            if (x.dtype, x.shape) != (v.aval.dtype, v.aval.shape):
                raise TypeError(f"a callback returns {x.dtype}{list(x.shape)} instead of {v.aval.str_short()}")
        return [np.ascontiguousarray(x)[..., None].view(np.uint32) if _has_words(x.dtype) else x for x in found]

    shapes = [jax.ShapeDtypeStruct((*v.aval.shape, 2), np.uint32) if _has_words(v.aval.dtype)
              else jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.outvars]  # fmt: skip
    words = [lax.bitcast_convert_type(x, np.uint32) if _has_words(d) else x for x, d in zip(values, taken, strict=True)]
    found = jax.pure_callback(host, shapes, *words)
    return [lax.bitcast_convert_type(x, d) if _has_words(d) else x for x, d in zip(found, made, strict=True)]


def _has_words(dtype: Any) -> bool:
    return dtype in (np.float64, np.int64, np.uint64)


def _of_finite_matrices(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    """Apply the primitive, but return NaN for each matrix of a batch that has a non-finite entry."""
    matrix, *rest = values
    finite = jnp.isfinite(matrix).all(axis=(-2, -1))
    outputs = bind(eqn, [jnp.where(finite[..., None, None], matrix, 0.0), *rest], **changed)
    return [jnp.where(finite.reshape(finite.shape + (1,) * (out.ndim - finite.ndim)), out, jnp.nan) for out in outputs]
