"""Properties of jaxprs. Differences between JAX versions that only the verifier meets are handled here, those that
other code meets too in :mod:`handprop._compat`.
"""

import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jax.extend.core import primitives
from jax.interpreters import partial_eval

from handprop._compat import closed, equations, inner, interpreted_kernel, trace_context
from handprop.verifier.programs import literals
from handprop.verifier.programs.executables import array
from handprop.verifier.programs.frames import JAX, is_users
from handprop.verifier.programs.implementations import implementation
from handprop.verifier.programs.primitives import TABLE, Trait, has

__all__ = [
    "as_written",
    "batch_axes",
    "called_program",
    "closed",
    "equations",
    "float_places",
    "forget_traces",
    "has_readings",
    "hash_of",
    "inner",
    "is_complex",
    "is_float",
    "is_iteration",
    "is_key",
    "kernel_program",
    "leaks",
    "longest_sum",
    "namesake",
    "narrower",
    "numbers",
    "of_jax",
    "outside_of_jax",
    "pruned",
    "rules_of_jax",
    "scan_counts",
    "scan_parts",
    "solver_of",
    "solves",
    "stands_for_exp_neg_sq",
    "stops",
    "trace",
    "while_parts",
    "wide",
    "wide_dtype",
    "widened",
    "widened_literals",
    "with_replaced",
]

MOST_TRACED = 64
_TRACED: OrderedDict[Any, tuple[Callable, Any]] = OrderedDict()
KERNEL_PARAMS = ("jaxpr", "debug", "input_output_aliases", "grid_mapping", "mesh", "compiler_params", "cost_estimate",
                 "out_avals", "metadata", "name")  # fmt: skip


def is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_key(x: Any) -> bool:
    """Whether ``x``, an array, a type or any constant, is made of random keys."""
    return bool(jnp.issubdtype(getattr(x, "dtype", np.dtype(type(x))), jax.dtypes.extended))


def is_complex(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def wide(inputs: Sequence[Any]) -> bool:
    """Whether any input has a 64-bit type, which JAX only traces with x64 on."""
    return any(np.dtype(x.dtype).itemsize == 8 for x in inputs if not is_key(x))


def float_places(inputs: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(inputs) if is_float(x.dtype)]


def batch_axes(inputs: Sequence[Any]) -> tuple[int | None, ...]:
    """``in_axes`` for a batch of points: floats vary along a first axis, all else is shared."""
    return tuple(0 if is_float(x.dtype) else None for x in inputs)


def with_replaced(whole: Sequence[Any], places: Sequence[int], parts: Sequence[Any]) -> list[Any]:
    """A copy of ``whole`` with the parts at these places."""
    changed = list(whole)
    for place, part in zip(places, parts, strict=True):
        changed[place] = part
    return changed


def trace(f: Callable, inputs: Sequence[Any]) -> Any:
    """The closed jaxpr of ``f(*inputs)``, 64-bit types kept; the same one where f was traced for such inputs before."""
    with jax.enable_x64(wide(inputs) or jax.config.jax_enable_x64):  # pyright: ignore[reportAttributeAccessIssue]
        key = id(f), tuple((x.shape, x.dtype, getattr(x, "weak_type", False)) for x in inputs), trace_context()
        if key not in _TRACED:
            _TRACED[key] = f, jax.make_jaxpr(f)(*inputs)  # f is kept, so that no other function gets its id
            if len(_TRACED) > MOST_TRACED:
                _TRACED.popitem(last=False)
        return _TRACED[key][1]


def forget_traces() -> None:
    _TRACED.clear()


def pruned(program: Any, wanted: Sequence[bool]) -> Any:
    """The program reduced to the wanted outputs and the equations that they need."""
    jaxpr, _ = partial_eval.dce_jaxpr(program.jaxpr, list(wanted), instantiate=True)
    return core.ClosedJaxpr(jaxpr, program.consts)


def called_program(eqn: Any) -> Any:
    """The program that a call equation calls; None for any other equation.

    Only primitives count that call their program and do nothing else; under ``shard_map``, for example, the program has
    another meaning. The program of a primitive that is not JAX's is that of its implementation.
    """
    if (program := implementation(eqn)) is not None:
        return program
    if not has(eqn, Trait.INLINED):
        return None
    for key in ("call_jaxpr", "jaxpr", "fun_jaxpr", "call"):
        if key in eqn.params and not callable(eqn.params[key]):
            program = closed(eqn.params[key])
            own, inside = ([getattr(v.aval, "shape", ()) for v in vs] for vs in (eqn.invars, program.jaxpr.invars))
            return program if own == inside else None
    return None


@lru_cache(maxsize=64)  # every run reads the same equations again
def kernel_program(eqn: Any) -> Any:
    """The program that a ``pallas_call`` computes, without references, as its interpret mode runs it."""
    params = {key: value for key, value in eqn.params.items() if key in KERNEL_PARAMS}
    return jax.make_jaxpr(partial(interpreted_kernel, **params))(*(v.aval for v in eqn.invars))


def scan_counts(params: dict) -> tuple[int, int]:
    """The numbers of constants and carries of a scan: parameters before jax 0.11, sizes in a tree since then."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return consts, carry


def scan_parts(params: dict, operands: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Split a scan's operands into constants, carry and the arrays that it runs over."""
    n_consts, n_carry = scan_counts(params)
    return operands[:n_consts], operands[n_consts : n_consts + n_carry], operands[n_consts + n_carry :]


def while_parts(params: dict, operands: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Split a while loop's operands into the constants of its condition and of its body, and its state."""
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    return operands[:n_cond], operands[n_cond : n_cond + n_body], operands[n_cond + n_body :]


def solver_of(eqn: Any, operands: list[Any]) -> tuple[Any, list[Any]]:
    """The program that solves a ``custom_linear_solve``, which its user wrote, and its inputs."""
    lengths = eqn.params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    total = start + lengths.solve + lengths.transpose_solve
    inputs = [*operands[start : start + lengths.solve], *operands[total:]]
    return closed(eqn.params["jaxprs"].solve), inputs


def programs_in(program: Any) -> Iterator[Any]:
    """The program and every one inside it."""
    yield program
    yield from (body for eqn in equations(program) for body in inner(eqn))


def leaks(program: Any) -> bool:
    """Whether it contains tracers of another trace in place of numbers."""
    return any(isinstance(c, Tracer) for part in programs_in(program) for c in part.consts)


def longest_sum(program: Any) -> int:
    """The most terms that one entry of a product, reduction, cumulative sum or scan adds."""
    longest = 1
    for eqn in equations(program):
        sizes = [int(np.prod(var.aval.shape, dtype=np.int64)) for var in eqn.invars if hasattr(var.aval, "shape")]
        name = eqn.primitive.name
        if name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            longest = max(longest, int(np.prod([eqn.invars[0].aval.shape[axis] for axis in contracted])))
        elif name.startswith(("reduce", "cum", "scatter", "conv")):
            longest = max(longest, *sizes) if name != "conv_general_dilated" else max(longest, sizes[1])
        elif name == "scan":
            longest = max(longest, eqn.params["length"])
    return longest


def hash_of(program: Any) -> str:
    """A digest of the program's text and of every number in it, as the text abbreviates or omits numbers."""
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(program)).encode())
    for number in numbers(program):
        digest.update(f"{number.dtype} {number.shape} ".encode() + number.tobytes())
    return digest.hexdigest()[:32]


def namesake(*programs: Any) -> str:
    """A name that two primitives share, one of which may be JAX's own; empty if there is none.

    A primitive that is walked through may have any name but that of a primitive of JAX that has a row in the table.
    """
    met: dict[str, Any] = {}
    for eqn in (eqn for program in programs for eqn in equations(program)):
        name = eqn.primitive.name
        if implementation(eqn) is not None:
            if name in TABLE:
                return name
            continue
        known = getattr(primitives, f"{name.replace('-', '_')}_p", eqn.primitive)
        if met.setdefault(name, known) is not eqn.primitive:
            return name
    return ""


def numbers(program: Any) -> Iterator[np.ndarray]:
    """Constants and literals, including those of inner programs; a complex array as its two parts."""
    for held in _held(program):
        yield from (np.real(held), np.imag(held)) if is_complex(held.dtype) else (held,)


def _held(program: Any) -> Iterator[np.ndarray]:
    for part in programs_in(program):
        consts = [c for c in part.consts if not is_key(c)]
        keys = [c for c in part.consts if is_key(c)]
        with jax.ensure_compile_time_eval():
            keys = [jax.random.key_data(key) for key in keys]
        yield from (np.asarray(c) for c in (*consts, *keys))
        atoms = [atom for eqn in part.jaxpr.eqns for atom in eqn.invars] + list(part.jaxpr.outvars)
        yield from (
            np.asarray(atom.val, getattr(atom.aval, "dtype", None)) for atom in atoms if isinstance(atom, core.Literal)
        )


def has_readings(program: Any) -> bool:
    """Whether some float in the program's text may stand for a number other than its dyadic value."""
    distinct = (np.unique(number) for number in numbers(program) if is_float(number.dtype))
    return any(literals.stands_for(float(v), str(x.dtype)) for x in distinct if x.size <= literals.MAX_READ for v in x)


def narrower(eqn: Any) -> list[bool]:
    """Which operands are floats with fewer bits than a float that the equation returns."""
    bits = [jnp.finfo(v.aval.dtype).nmant if is_float(getattr(v.aval, "dtype", bool)) else None
            for v in (*eqn.invars, *eqn.outvars)]  # fmt: skip
    most = max((b for b in bits[len(eqn.invars) :] if b is not None), default=0)
    return [b is not None and b < most for b in bits[: len(eqn.invars)]]


def widened_literals(program: Any) -> dict[str, tuple[float, ...]]:
    """For each dtype that the program widens somewhere, the literals that are read as other numbers."""
    dtypes = {str(v.aval.dtype) for eqn in equations(program) for v, less in zip(eqn.invars, narrower(eqn), strict=True)
              if less}  # fmt: skip
    found = {(str(x.dtype), float(v)) for x in numbers(program) if str(x.dtype) in dtypes
             for v in np.unique(x)[: literals.MAX_READ]}  # fmt: skip
    return {dtype: tuple(sorted({abs(v) for d, v in found if d == dtype and literals.read(v, d)})) for dtype in dtypes}


def is_iteration(eqn: Any) -> bool:
    """Whether it is a loop without inputs and outputs for each step, such as an iteration toward a fixed point."""
    name, params = eqn.primitive.name, eqn.params
    return name == "while" or (name == "scan" and sum(scan_counts(params)) == len(eqn.invars)
                               and scan_counts(params)[1] == len(eqn.outvars))  # fmt: skip


def of_jax(eqn: Any) -> bool:
    """Whether the primal function of a custom rule is part of JAX itself."""
    place = getattr(closed(called_program(eqn)).jaxpr.debug_info, "func_src_info", "") or ""
    return place.rpartition(" at ")[2].startswith(JAX)


def stands_for_exp_neg_sq(eqn: Any) -> bool:
    """Whether it is JAX's ``exp(-x^2)``, which since jax 0.12 takes apart the bits of x."""
    return of_jax(eqn) and str(called_program(eqn).jaxpr.debug_info.func_src_info).startswith("exp_neg_sq ")


def solves(program: Any) -> bool:
    """Whether it contains a solver or a linear function whose transpose or tangent its user wrote."""
    return "_custom_root" in rules_of_jax(program) or any(has(eqn, Trait.SOLVES) for eqn in equations(program))


def stops(program: Any) -> bool:
    """Whether it contains a ``stop_gradient`` that is not JAX's own, or draws numbers whose derivative JAX takes
    implicitly: a gamma sample, drawn by rejection, has another slope at a fixed key."""
    if any(has(eqn, Trait.BY_REJECTION) for eqn in equations(program)):
        return True

    def by(eqn: Any) -> str:
        """The file that called it."""
        inside = itertools.dropwhile(lambda f: f.function_name != "stop_gradient", eqn.source_info.traceback.frames)
        return next((f.file_name for f in inside if f.function_name != "stop_gradient"), "")

    found = [eqn for part in outside_of_jax(program) for eqn in part.jaxpr.eqns
             if eqn.primitive.name == "stop_gradient"]  # fmt: skip
    return any(eqn.source_info.traceback is None or is_users(by(eqn)) for eqn in found)


def outside_of_jax(program: Any) -> Iterator[Any]:
    """The program and those inside it, except for JAX's own functions that it calls."""
    yield program
    for eqn in program.jaxpr.eqns:
        if called_program(eqn) is None or not of_jax(eqn):
            for body in inner(eqn):
                yield from outside_of_jax(body)


def rules_of_jax(program: Any) -> tuple[str, ...]:
    """The names of JAX's own custom rules that the program contains."""
    found = [eqn for eqn in equations(program) if has(eqn, Trait.CUSTOM_RULE) and of_jax(eqn)]
    return tuple(sorted({called_program(eqn).jaxpr.debug_info.func_src_info.split(" at ")[0] for eqn in found}))


def wide_dtype(dtype: Any) -> Any:
    """The dtype with 64 bits per part in place of a float or complex dtype; any other dtype is unchanged."""
    if is_float(dtype):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if is_complex(dtype) else dtype


def widened(x: Any) -> Any:
    dtype = wide_dtype(x.dtype)
    if isinstance(x, Tracer):
        return x.astype(dtype) if dtype != x.dtype else x
    if isinstance(x, jax.Array) and x.dtype == dtype:
        return x
    return array(np.asarray(x).astype(dtype))


def as_written(const: Any) -> Any:
    """A constant in float64, with narrower literals read as the numbers that they were written as, if that is clear."""
    if is_key(const):
        return const
    held = np.asarray(const)
    if is_complex(held.dtype):
        wide = held.astype(np.complex128)
        wide.real, wide.imag = as_written(np.real(held)), as_written(np.imag(held))
        return wide
    if not is_float(held.dtype):
        return held
    wide_held = held.astype(np.float64)
    distinct = np.unique(wide_held[np.isfinite(wide_held)])
    if held.dtype == np.float64 or distinct.size > literals.MAX_READ:
        return wide_held
    for number in distinct:
        reading = literals.read(float(number), str(held.dtype))
        if reading is not None:
            wide_held = np.where(wide_held == number, reading.to_float(), wide_held)
    return wide_held
