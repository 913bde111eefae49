"""Programs as JAX writes them. Differences between JAX's versions that the verifier alone meets stand here, what others
meet too in :mod:`handprop._jax_versions`.
"""

import contextlib
import hashlib
import itertools
import math
import operator
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src import source_info_util
from jax.core import Tracer
from jax.extend import core
from jax.extend.core import primitives
from jax.interpreters import partial_eval

from handprop._jax_versions import closed, equations, inner, is_mutable
from handprop.verify.executables import applied, array, run_kept, run_once
from handprop.verify.field import literals
from handprop.verify.field.layout import LAYOUT, as_dtype

__all__ = ["equations", "hash_of", "longest_sum", "strip_rules", "trace", "widen"]

VERIFIER = os.path.dirname(__file__) + os.sep
CALLS = {"jit", "pjit", "closed_call", "core_call", "core_closed_call", "remat", "remat2", "checkpoint", "remat_opt",
         "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call", "composite"}  # fmt: skip
JAX = os.path.dirname(jax.__file__) + os.sep
IN_A_LOOP = 4096  # results
SPARE_FACTORS = 1 << 14
RULE_CALLS = ("custom_vjp_call", "custom_jvp_call", "custom_vjp_call_jaxpr")
CALLBACKS = ("pure_callback", "io_callback")
OWN_WIDTH = ("bitcast_convert_type", "reduce_precision", *CALLBACKS)
PRINTS = ("debug_callback", "debug_print")
ENDLESS = np.uint64(0x7FF80000000E2D1E).view(np.float64)  # the NaN of a loop that was cut, told apart by its bits
MOST_TURNS = 100_000  # of a loop that depends on data; of one with more than 40 equations, or so many entries, fewer
ENTRIES_A_TURN, FEW_TURNS = 1 << 12, 1000
KERNEL_PARAMS = ("jaxpr", "debug", "input_output_aliases", "grid_mapping", "mesh", "compiler_params", "cost_estimate",
                 "out_avals", "metadata", "name")  # fmt: skip
# Their update's program is of one dtype: these make another.
SCATTERS = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-sub": lax.scatter_sub,
    "scatter-mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
}
# They round nothing; what compares their outputs with their inputs relies on that.
EXACT = {
    *LAYOUT, "max", "min", "neg", "abs", "sign", "select_n", "clamp", "stop_gradient", "copy", "copy_p", "floor",
    "ceil", "round", "reduce_max", "reduce_min", "cummax", "cummin", "reduce_window_max", "reduce_window_min",
    "select_and_gather_add", "scatter-max", "scatter_max", "scatter-min", "scatter_min", "sort", "top_k",
    "convert_element_type", "optimization_barrier", "reduce_precision", "real",
} - {"scatter-add", "scatter_add", "scatter-sub", "scatter_sub", "scatter-mul", "scatter_mul"}  # fmt: skip
EQUALITIES = ("eq", "ne")
# Of whole numbers they make whole numbers, without rounding errors as long as these are small; a quotient may be one.
OF_WHOLE = {"add", "add_any", "sub", "mul", "integer_pow", "square", "reduce_sum", "reduce_prod", "dot_general",
            "cumsum", "scatter-add", "scatter_add", "div"}  # fmt: skip
MADE_WHOLE = {"sign", "floor", "ceil", "round"}
MOST_WHOLE = 2.0**53
SUMMING = ("cumsum", "cumlogsumexp", "fft")  # their errors are of the size of what they add up, however small a sum is
ORDERS = ("gt", "ge", "lt", "le")
NEAR = 8  # times the size of rounding errors
SOLVERS = ("custom_linear_solve", "linear_call", "call_hi_primitive")  # the last is custom_root since jax 0.11
DRAWN_BY_REJECTION = ("random_gamma",)
SERIES = {"igamma", "igammac", "igamma_grad_a", "random_gamma", "random_gamma_grad", "regularized_incomplete_beta"}
MOST_IN_SERIES = 1e8  # beyond it XLA's loops over their terms may not end
ITERATED = {"svd", "eigh", "eig", "schur", "hessenberg"}  # LAPACK may not end where an entry is not finite
MOVED = {"slice", "squeeze", "transpose", "reshape", "rev"}
Leaf = Callable[[Any, list[Any]], list[Any]]
Loop = Callable[..., Any]


def is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_complex(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return textwrap.shorten(str(error).strip().split("\n")[0], 200, placeholder=" ...") or type(error).__name__


def wide(inputs: Sequence[Any]) -> bool:
    """Whether any input has a 64-bit type, which JAX only traces with x64 on."""
    return any(np.dtype(x.dtype).itemsize == 8 for x in inputs if not jnp.issubdtype(x.dtype, jax.dtypes.extended))


def float_places(inputs: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(inputs) if is_float(x.dtype)]


def batch_axes(inputs: Sequence[Any]) -> tuple[int | None, ...]:
    """``in_axes`` of a batch of points: floats vary along a first axis, all else is shared."""
    return tuple(0 if is_float(x.dtype) else None for x in inputs)


def with_replaced(whole: Sequence[Any], places: Sequence[int], parts: Sequence[Any]) -> list[Any]:
    """``whole`` with the parts at the places."""
    changed = list(whole)
    for place, part in zip(places, parts, strict=True):
        changed[place] = part
    return changed


def trace(f: Callable, inputs: Sequence[Any]) -> Any:
    """The closed jaxpr of ``f(*inputs)``, 64-bit types kept."""
    with jax.enable_x64(wide(inputs) or jax.config.jax_enable_x64):  # pyright: ignore[reportAttributeAccessIssue]
        return jax.make_jaxpr(f)(*inputs)


def only(program: Any, wanted: Sequence[bool]) -> Any:
    """The program with the wanted outputs alone, and what makes them."""
    jaxpr, _ = partial_eval.dce_jaxpr(program.jaxpr, list(wanted), instantiate=True)
    return core.ClosedJaxpr(jaxpr, program.consts)


def called(eqn: Any) -> Any:
    """The program that a call equation calls, None for any other equation.

    Only of primitives that call their program and do nothing else: under ``shard_map`` it means another thing.
    """
    if eqn.primitive.name not in CALLS:
        return None
    for key in ("call_jaxpr", "jaxpr", "fun_jaxpr", "call"):
        if key in eqn.params and not callable(eqn.params[key]):
            program = closed(eqn.params[key])
            own, inside = ([getattr(v.aval, "shape", ()) for v in vs] for vs in (eqn.invars, program.jaxpr.invars))
            return program if own == inside else None
    return None


@lru_cache(maxsize=64)  # an equation is read again in every run
def kernel_program(eqn: Any) -> Any:
    """What a ``pallas_call`` computes, written without references: as its interpret mode runs it."""
    from jax._src.pallas.hlo_interpreter import pallas_call_hlo_interpret

    params = {key: value for key, value in eqn.params.items() if key in KERNEL_PARAMS}
    return jax.make_jaxpr(partial(pallas_call_hlo_interpret, **params))(*(v.aval for v in eqn.invars))


def scan_counts(params: dict) -> tuple[int, int]:
    """Numbers of constants and carries of a scan: parameters until jax 0.11, then sizes of a tree."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return consts, carry


def parts(program: Any) -> Iterator[Any]:
    """The program and every one inside it."""
    yield program
    yield from (body for eqn in equations(program) for body in inner(eqn))


def leaks(program: Any) -> bool:
    """Whether it holds what belongs to another trace, in the place of numbers."""
    return any(isinstance(c, Tracer) for part in parts(program) for c in part.consts)


def longest_sum(program: Any) -> int:
    """The most terms that one entry of a product, reduction, running sum or scan adds up."""
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
    """A digest of the program's text and of every number in it: the text alone shortens or leaves out numbers."""
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(program)).encode())
    for number in numbers(program):
        digest.update(f"{number.dtype} {number.shape} ".encode() + number.tobytes())
    return digest.hexdigest()[:32]


def namesake(*programs: Any) -> str:
    """The name that two primitives share, one of JAX's own perhaps; empty where there are none."""
    met: dict[str, Any] = {}
    for eqn in (eqn for program in programs for eqn in equations(program)):
        name = eqn.primitive.name
        known = getattr(primitives, f"{name.replace('-', '_')}_p", eqn.primitive)
        if met.setdefault(name, known) is not eqn.primitive:
            return name
    return ""


def numbers(program: Any) -> Iterator[np.ndarray]:
    """Constants and literals, those of inner programs too; a complex one as its two parts."""
    for held in _held(program):
        yield from (np.real(held), np.imag(held)) if is_complex(held.dtype) else (held,)


def _held(program: Any) -> Iterator[np.ndarray]:
    for part in parts(program):
        consts = [c for c in part.consts if not jnp.issubdtype(c.dtype, jax.dtypes.extended)]
        keys = [c for c in part.consts if jnp.issubdtype(c.dtype, jax.dtypes.extended)]
        with jax.ensure_compile_time_eval():
            keys = [jax.random.key_data(key) for key in keys]
        yield from (np.asarray(c) for c in (*consts, *keys))
        atoms = [atom for eqn in part.jaxpr.eqns for atom in eqn.invars] + list(part.jaxpr.outvars)
        yield from (
            np.asarray(atom.val, getattr(atom.aval, "dtype", None)) for atom in atoms if isinstance(atom, core.Literal)
        )


def has_readings(program: Any) -> bool:
    """Whether some float in the program's text may stand for another number than the dyadic one it is."""
    distinct = (np.unique(number) for number in numbers(program) if is_float(number.dtype))
    return any(literals.stands_for(float(v), str(x.dtype)) for x in distinct if x.size <= literals.MOST_READ for v in x)


def narrower(eqn: Any) -> list[bool]:
    """Which operands are floats of fewer bits than a float that the equation returns."""
    bits = [jnp.finfo(v.aval.dtype).nmant if is_float(getattr(v.aval, "dtype", bool)) else None
            for v in (*eqn.invars, *eqn.outvars)]  # fmt: skip
    most = max((b for b in bits[len(eqn.invars) :] if b is not None), default=0)
    return [b is not None and b < most for b in bits[: len(eqn.invars)]]


def widened_literals(program: Any) -> dict[str, tuple[float, ...]]:
    """Of each dtype that the program makes wider somewhere, the literals that are read as other numbers."""
    dtypes = {str(v.aval.dtype) for eqn in equations(program) for v, less in zip(eqn.invars, narrower(eqn), strict=True)
              if less}  # fmt: skip
    found = {(str(x.dtype), float(v)) for x in numbers(program) if str(x.dtype) in dtypes
             for v in np.unique(x)[: literals.MOST_READ]}  # fmt: skip
    return {dtype: tuple(sorted({abs(v) for d, v in found if d == dtype and literals.read(v, d)})) for dtype in dtypes}


def _as_rounded(eqn: Any, values: list[Any], read: dict[str, tuple[float, ...]]) -> list[Any]:
    """The operands, but what the equation makes wider: of that a literal is the number it was rounded to."""

    def rounded(x: Any, dtype: str) -> Any:
        for literal in read.get(dtype, ()):
            as_read = literals.read(literal, dtype).to_float()  # pyright: ignore[reportOptionalMemberAccess]
            x = jnp.where(abs(x) == as_read, jnp.sign(x) * literal, x)
        return x

    return [rounded(x, str(v.aval.dtype)) if less else x
            for x, v, less in zip(values, eqn.invars, narrower(eqn), strict=True)]  # fmt: skip


# Evaluation with something done at every equation


def run(program: Any, inputs: Sequence[Any], leaf: "Leaf | None" = None,
        trusted: "Callable[[Any], bool]" = lambda eqn: False,
        constant: Callable = jnp.asarray, unrolled: bool = False,
        around: Callable = contextlib.nullcontext, ends: bool = False, more: bool = False,
        loop: "Loop | None" = None) -> list[Any]:  # fmt: skip
    """The program's outputs, ``leaf(eqn, values)`` in place of each primitive; calls and loops are walked into,
    each equation within ``around(eqn)``; what only prints is left out. Where ``constant`` is :func:`as_written`, a
    literal that is made wider is the number it was rounded to.

    Custom rules are replaced by their primal programs, except those that are ``trusted``. ``unrolled``: every turn of a
    scan on its own, one after the other. ``ends``: a loop that depends on data is cut after a counted number of turns.
    ``more``: what iterates makes one turn more. ``loop(key, f, *args)`` runs a loop: of one key all do the same.
    """

    read, loop = widened_literals(program) if leaf and constant is as_written else {}, loop or _once

    def walk(program: Any, inputs: Sequence[Any]) -> list[Any]:
        jaxpr = program.jaxpr
        env = dict(zip(jaxpr.constvars, (constant(c) for c in program.consts), strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def value_of(atom: Any) -> Any:
            if not isinstance(atom, core.Literal):
                return env[atom]
            return constant(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))

        for eqn in jaxpr.eqns:
            with around(eqn):
                outputs = step(eqn, [value_of(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def step(eqn: Any, values: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name in RULE_CALLS:
            return bound(eqn, values) if leaf is None and trusted(eqn) else walk(called(eqn), values)
        if name == "scan":
            return _scan(walk, params, values, unrolled, more and is_iteration(eqn), loop)
        if name == "while":
            return _while(walk, params, values, ends, more, loop)
        if name in PRINTS and not eqn.outvars:
            return []
        if name == "cond":
            bodies = [closed(branch) for branch in params["branches"]]
            if not isinstance(values[0], Tracer):  # to call JAX's switch would compile every branch
                return walk(bodies[int(np.clip(int(values[0]), 0, len(bodies) - 1))], values[1:])
            branches = [partial(lambda body, *xs: walk(body, xs), body) for body in bodies]
            return lax.switch(values[0].astype(jnp.int32), branches, *values[1:])
        if name == "pallas_call":
            return walk(kernel_program(eqn), values)
        if name not in ("custom_linear_solve", "scan") and called(eqn) is not None:
            return walk(called(eqn), values)
        if any(read.values()):
            values = _as_rounded(eqn, values, read)
        return leaf(eqn, values) if leaf else bound(eqn, values)

    return walk(program, list(inputs))


def _once(key: tuple, f: Callable, *args: Any) -> Any:
    return run_once(f, *args)


def bound(eqn: Any, values: list[Any], **changed: Any) -> list[Any]:
    """The equation's own primitive on these values; what only moves entries of numbers is moved by NumPy, as a program
    of XLA's for each slice takes long to compile."""
    if eqn.primitive.name in MOVED and not changed and not _is_traced_or_key(values[0]):
        moved = LAYOUT[eqn.primitive.name](None, [np.asarray(values[0])], eqn.params, eqn)  # pyright: ignore[reportArgumentType]
        return [array(out) for out in moved]
    if eqn.primitive.name in SERIES:
        return _of_moderate_numbers(eqn, values, changed)
    return _bound(eqn, values, changed)


def _bound(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    # No executable takes or returns an array that is written to.
    mutable = any(is_mutable(getattr(v, "aval", None)) for v in (*eqn.invars, *eqn.outvars))
    run = eqn.primitive.bind if mutable else partial(applied, eqn.primitive.bind)
    out = run(*values, **eqn.primitive.get_bind_params({**eqn.params, **changed}))
    return list(out) if eqn.primitive.multiple_results else [out]


def _of_moderate_numbers(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    """The NaN of a loop that was cut where an operand is so large that the primitive may not end."""
    floats = [x for x in values if is_float(x.dtype)]
    small = reduce(operator.and_, (abs(x) <= MOST_IN_SERIES for x in floats))
    moderate = [jnp.where(small, x, jnp.ones_like(x)) if is_float(x.dtype) else x for x in values]
    return [jnp.where(small, out, ENDLESS) for out in _bound(eqn, moderate, changed)]


def _is_traced_or_key(x: Any) -> bool:
    return isinstance(x, Tracer) or jnp.issubdtype(x.dtype, jax.dtypes.extended)


def is_iteration(eqn: Any) -> bool:
    """Whether it is a loop that takes and returns nothing turn by turn, as what tends to a fixed point."""
    name, params = eqn.primitive.name, eqn.params
    return name == "while" or (name == "scan" and sum(scan_counts(params)) == len(eqn.invars)
                               and scan_counts(params)[1] == len(eqn.outvars))  # fmt: skip


def _scan(walk: Callable, params: dict, values: list[Any], unrolled: bool, more: bool, loop: "Loop") -> list[Any]:
    n_consts, n_carry = scan_counts(params)
    body, consts = closed(params["jaxpr"]), values[:n_consts]

    def f(consts: list[Any], carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = walk(body, [*consts, *carry, *x])
        return out[:n_carry], out[n_carry:]

    carry, xs = values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    length, reverse = params["length"], params["reverse"]

    def scanned(consts: list[Any], carry: list[Any], xs: list[Any]) -> Any:
        return lax.scan(partial(f, consts), carry, xs, length=length, reverse=reverse)

    if not unrolled or not length:
        carry, ys = loop((params["jaxpr"], length, reverse), scanned, consts, carry, xs)
        return f(consts, carry, [])[0] if more else [*carry, *ys]
    rows: dict[int, list[Any]] = {}
    for i in reversed(range(length)) if reverse else range(length):
        carry, rows[i] = f(consts, carry, [x[i] for x in xs])
    return [*carry, *(jnp.stack(row) for row in zip(*(rows[i] for i in range(length)), strict=True))]


def _while(walk: Callable, params: dict, values: list[Any], ends: bool, more: bool, loop: "Loop") -> list[Any]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    consts, state = (values[:n_cond], values[n_cond : n_cond + n_body]), values[n_cond + n_body :]

    def turned(consts: Any, s: list[Any]) -> list[Any]:
        after, go = walk(body, [*consts[1], *s]), walk(cond, [*consts[0], *s])[0]
        if not go.ndim:
            return after
        # A loop that was batched: each of the batch stops when its own condition says so.
        return [
            jnp.where(go.reshape(go.shape + (1,) * (a.ndim - go.ndim)), a, b) for a, b in zip(after, s, strict=True)
        ]

    def goes_on(consts: Any, s: list[Any]) -> Any:
        return walk(cond, [*consts[0], *s])[0].any()

    def all_turns(consts: Any, state: list[Any]) -> list[Any]:
        return lax.while_loop(partial(goes_on, consts), partial(turned, consts), state)

    key = params["cond_jaxpr"], params["body_jaxpr"], ends
    if not ends:
        return loop(key, all_turns, consts, state)
    entries = sum(math.prod(x.shape) for x in state if hasattr(x, "shape"))
    most = max(MOST_TURNS // max(len(list(equations(body))) // 40, entries // ENTRIES_A_TURN, 1), FEW_TURNS)

    def counted(consts: Any, state: list[Any]) -> list[Any]:
        return lax.while_loop(lambda s: (s[0] < most) & goes_on(consts, s[1:]),
                              lambda s: [s[0] + 1, *turned(consts, s[1:])], state)  # fmt: skip

    turn, *state = loop(key, counted, consts, [array(np.int32(0)), *state])
    cut = (turn >= most) & goes_on(consts, state)
    state = turned(consts, state) if more else state
    return [jnp.where(cut, ENDLESS, x) if is_float(x.dtype) else x for x in state]


def of_jax(eqn: Any) -> bool:
    """Whether a rule's primal was written in JAX itself."""
    place = getattr(closed(called(eqn)).jaxpr.debug_info, "func_src_info", "") or ""
    return place.rpartition(" at ")[2].startswith(JAX)


def stands_for_exp_neg_sq(eqn: Any) -> bool:
    """Whether it is JAX's ``exp(-x^2)``, which since jax 0.12 takes the bits of x apart."""
    return of_jax(eqn) and str(called(eqn).jaxpr.debug_info.func_src_info).startswith("exp_neg_sq ")


def solves(program: Any) -> bool:
    """Whether it holds a solver, or a linear function, whose transpose or tangent its user wrote."""
    return "_custom_root" in rules_of_jax(program) or any(eqn.primitive.name in SOLVERS for eqn in equations(program))


def stops(program: Any) -> bool:
    """Whether a ``stop_gradient`` was written into it by others than JAX, or numbers are drawn whose derivative JAX
    takes implicitly: at a fixed key a gamma sample, by rejection, has another slope."""
    if any(eqn.primitive.name in DRAWN_BY_REJECTION for eqn in equations(program)):
        return True

    def by(eqn: Any) -> str:
        """The file that called it."""
        inside = itertools.dropwhile(lambda f: f.function_name != "stop_gradient", eqn.source_info.traceback.frames)
        return next((f.file_name for f in inside if f.function_name != "stop_gradient"), "")

    found = [eqn for part in outside_of_jax(program) for eqn in part.jaxpr.eqns
             if eqn.primitive.name == "stop_gradient"]  # fmt: skip
    return any(eqn.source_info.traceback is None or is_users(by(eqn)) for eqn in found)


def outside_of_jax(program: Any) -> Iterator[Any]:
    """The program and those inside it, but for the functions of JAX's own that are called."""
    yield program
    for eqn in program.jaxpr.eqns:
        if called(eqn) is None or not of_jax(eqn):
            for body in inner(eqn):
                yield from outside_of_jax(body)


def rules_of_jax(program: Any) -> tuple[str, ...]:
    """Names of the custom rules of JAX itself that the program holds."""
    found = [eqn for eqn in equations(program) if eqn.primitive.name in RULE_CALLS and of_jax(eqn)]
    return tuple(sorted({called(eqn).jaxpr.debug_info.func_src_info.split(" at ")[0] for eqn in found}))


class Frame(NamedTuple):
    """A place in the user's code; columns in UTF-8 bytes as Python counts them, end exclusive."""

    file: str
    function: str
    line: int
    column: int
    end_line: int
    end_column: int


def frames(eqn: Any) -> list[Frame]:
    """The user's frames that made an equation, innermost first: none inside JAX, Python's library or the verifier."""
    found = source_info_util.user_frames(eqn.source_info.traceback)
    return [
        Frame(f.file_name, f.function_name, f.start_line, f.start_column, f.end_line, f.end_column)
        for f in found if is_users(f.file_name)
    ]  # fmt: skip


def is_users(file: str) -> bool:
    """Whether a file is neither JAX's, nor Python's, nor the verifier's."""
    return source_info_util.is_user_filename(file) and not file.startswith(VERIFIER)


@contextlib.contextmanager
def own_lines() -> Iterator[None]:
    """Equations traced here carry the lines that make them: in a backward pass JAX gives them the forward's."""
    held = source_info_util._source_info_context
    before = held.context
    held.context = source_info_util.new_source_info()
    try:
        yield
    finally:
        held.context = before


def strip_rules(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` on flat arrays with every custom rule replaced by its primal program, JAX's own rules kept."""

    def stripped(*inputs: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*inputs)
        return jax.tree.unflatten(jax.tree.structure(shape), run(program, inputs, trusted=of_jax))

    return stripped


def widen(program: Any, constant: Callable[[Any], Any] | None = None, more: bool = False,
          equality: Callable | None = None) -> Callable[..., list[Any]]:  # fmt: skip
    """``wide(inputs, noise, seed)``: the program with every float in float64 and every product at full precision.

    Each float that a primitive which rounds returns is multiplied by ``1 + noise u`` with u uniform in [-1, 1]:
    rounding errors of a size of one's choosing; None for no noise. What a primitive takes and returns that runs in its
    own dtype, as it reads bits or calls back, has the rounding errors of that dtype. Float32 literals are read as the
    numbers they were written as where that is plain, or by ``constant``. Loops that depend on data end; NaN where one
    was cut. ``more``: what iterates makes one turn more. ``equality(eqn, values, outputs)``: what an equality of floats
    returns, every turn of a scan on its own.
    """

    largest = max((math.prod(getattr(v.aval, "shape", ())) for e in equations(program) for v in e.outvars), default=1)

    def evaluate(inputs: Sequence[Any], noise: Any, seed: Any) -> list[Any]:
        factors = None if noise is None else _Factors(noise, seed, largest)

        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            if equality is not None and eqn.primitive.name in EQUALITIES and is_float(values[0].dtype):
                return equality(eqn, values, wide_step(eqn, values))
            if factors is None:
                return [widened(x) for x in wide_step(eqn, values)]
            own = _own_rounding(eqn)
            if factors.traced and (known := _whole_numbers(eqn, values)):
                return known
            whole = not own and all(map(factors.is_whole, values))
            if own or (eqn.primitive.name in SUMMING and not whole):
                values = [factors.times(x, own) for x in values]
            if eqn.primitive.name == "pow":
                values = [values[0], factors.settled(values[1])]
            outputs = [widened(x) for x in wide_step(eqn, values)]
            if eqn.primitive.name in EXACT and not own:
                return factors.kept_whole(outputs) if whole or eqn.primitive.name in MADE_WHOLE else outputs
            if whole and eqn.primitive.name in OF_WHOLE:
                outputs = [factors.times_parts(x) for x in outputs]
                return outputs if eqn.primitive.name == "div" else factors.kept_whole(outputs)
            terms = _terms_of_series(values) if eqn.primitive.name in SERIES else None
            return [factors.times(x, own, terms) for x in outputs]

        return run(program, [widened(x) for x in inputs], leaf, constant=constant or as_written,
                   unrolled=equality is not None, ends=True, more=more,
                   loop=_once if constant else partial(_kept, factors))  # fmt: skip

    return evaluate


def _kept(factors: "_Factors | None", key: tuple, f: Callable, *args: Any) -> Any:
    """A loop of a program that is widened, its constants as written, which is compiled once for all runs: rounding
    errors are given to it."""
    if factors is None:
        return run_kept((*key, "clean"), f, *args)

    places = factors.places_of_a_loop()

    def noisy(given: Any, *args: Any) -> Any:
        with factors.of(given, places):
            return f(*args)

    return run_kept((*key, factors.size), noisy, factors.given, *args)


def _whole_numbers(eqn: Any, values: list[Any]) -> list[Any]:
    """What the equation makes of constants, if that is whole numbers, as 0.5 (n - 1) for a median: they have no
    rounding errors, and an index may be made of them. () if it is anything else."""
    if eqn.effects or any(isinstance(x, Tracer) for x in values):
        return []
    if not all(is_float(v.aval.dtype) and math.prod(v.aval.shape) <= literals.MOST_READ for v in eqn.outvars):
        return []
    with jax.ensure_compile_time_eval():
        outputs = [widened(x) for x in wide_step(eqn, values)]
        return outputs if all((x == np.round(x)).all() for x in map(np.asarray, outputs)) else []


def _terms_of_series(values: list[Any]) -> Any:
    """How many terms a series may add up, which grow before they fall: as many as its largest operand says."""
    sizes = (
        jnp.clip(jnp.nan_to_num(abs(x)), 1.0, MOST_IN_SERIES).max(initial=1.0) for x in values if is_float(x.dtype)
    )
    return reduce(jnp.maximum, sizes)


def _own_rounding(eqn: Any) -> float:
    """By how much floats are rounded in an equation that runs in its own dtype; 0 in any other."""
    if eqn.primitive.name not in OWN_WIDTH or eqn.primitive.name == "reduce_precision":
        return 0.0
    return max((float(jnp.finfo(v.aval.dtype).eps) for v in (*eqn.invars, *eqn.outvars)
                if is_float(v.aval.dtype) and v.aval.dtype != np.float64), default=0.0)  # fmt: skip


class _Factors:
    """Factors ``1 + noise u``. They are drawn once for a program, and each result takes a part of them that begins at
    a place of its own: to draw them for each result would be most of what has to be compiled. Where nothing is traced
    NumPy multiplies: JAX would keep a program for each shape and place."""

    def __init__(self, noise: Any, seed: Any, largest: int):
        self.size, self.places = largest + SPARE_FACTORS, itertools.count()
        self.whole: dict[int, Any] = {}  # traced values that are whole numbers, as a count of truth values is
        bits = _scrambled(jnp if isinstance(seed, Tracer) else np, self.size, seed)
        uniform = bits.astype(np.float64) * 2.0**-31 - 1.0
        self.given = noise, uniform, 1.0 + noise * uniform

    @property
    def traced(self) -> bool:
        return isinstance(self.given[1], Tracer)

    @contextlib.contextmanager
    def of(self, given: Any, places: Iterator[int]) -> Iterator[None]:
        """These in their place, as where a loop is traced that takes them as arguments."""
        before = self.given, self.places
        self.given, self.places = given, places
        try:
            yield
        finally:
            self.given, self.places = before

    def places_of_a_loop(self) -> Iterator[int]:
        """Places for the results in a loop, as many whether it is traced or was before."""
        start = next(self.places)
        self.places = itertools.count(start + IN_A_LOOP)
        return itertools.count(start)

    def is_whole(self, x: Any) -> bool:
        if not is_float(x.dtype):
            return not is_complex(x.dtype)
        if isinstance(x, Tracer):
            return id(x) in self.whole
        return x.size <= literals.MOST_READ and bool(((held := np.asarray(x)) == np.round(held)).all())

    def kept_whole(self, outputs: list[Any]) -> list[Any]:
        self.whole.update((id(x), x) for x in outputs if isinstance(x, Tracer))
        return outputs

    def times_parts(self, x: Any) -> Any:
        """What is made of whole numbers: with rounding errors only where it is none itself, or too large for one."""
        if not is_float(x.dtype):
            return x
        xp, held = (jnp, x) if isinstance(x, Tracer) else (np, np.asarray(x))
        return xp.where((held == xp.round(held)) & (abs(held) < MOST_WHOLE), held, self.times(x))

    def settled(self, exponent: Any) -> Any:
        """An exponent that is no integer by its rounding errors alone is one: else no negative number has a power."""
        if not is_float(exponent.dtype):
            return exponent
        near = abs(exponent - jnp.round(exponent)) < NEAR * self.given[0] * abs(exponent)
        return jnp.where(near, jnp.round(exponent), exponent)

    def times(self, x: Any, noise: float = 0.0, terms: Any = None) -> Any:
        """With rounding errors, of the size ``noise`` where that is given, ``terms`` times as large; those of a complex
        number go in any direction."""
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
        """As many of the factors as there are entries of x, from a place of their own on."""
        start = next(self.places) * 7919 % max(self.size - x.size + 1, 1)
        if x.size > self.size:
            return xp.resize(factors, x.shape)
        return factors[start : start + x.size].reshape(x.shape)


def _scrambled(xp: Any, count: int, seed: Any) -> Any:
    """Random bits good enough for rounding errors: three rounds of multiplying and folding (murmur3's finalizer)."""
    with np.errstate(over="ignore"):
        h = xp.arange(count, dtype=xp.uint32) * xp.uint32(0x9E3779B1) + seed * xp.uint32(0x85EBCA77)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            h = (h ^ (h >> xp.uint32(shift))) * xp.uint32(factor)
    return h


def wide_dtype(dtype: Any) -> Any:
    """The dtype of 64 bits a part in place of a float's or a complex number's."""
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
    """A constant in float64, float32 literals read as the numbers they were written as where that is plain."""
    if jnp.issubdtype(getattr(const, "dtype", np.dtype(type(const))), jax.dtypes.extended):
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
    if held.dtype == np.float64 or distinct.size > literals.MOST_READ:
        return wide_held
    for number in distinct:
        reading = literals.read(float(number), str(held.dtype))
        if reading is not None:
            wide_held = np.where(wide_held == number, reading.to_float(), wide_held)
    return wide_held


def _scattered_by(update: Any, values: list[Any], dimensions: Any, named: dict[str, Any]) -> Any:
    """A scatter that applies a function of its own to what is there."""
    operand, indices, updates = values
    function = widen(closed(update))

    def applied(x: Any) -> Any:
        return function([x, jnp.zeros_like(x)], None, None)[0]

    return lax.scatter_apply(operand, indices, applied, dimensions, update_shape=updates.shape, **named)


def _reduced_by(eqn: Any, values: list[Any]) -> list[Any]:
    """A reduction with a function of its own, over whole axes or over windows."""
    function, half = widen(closed(eqn.params["jaxpr"])), len(values) // 2

    def combined(x: list[Any], y: list[Any]) -> list[Any]:
        return function([*x, *y], None, None)

    if eqn.primitive.name == "reduce":
        return lax.reduce(values[:half], values[half:], combined, eqn.params["dimensions"])
    named = {key: eqn.params[key] for key in ("window_dimensions", "window_strides", "padding", "base_dilation",
                                              "window_dilation")}  # fmt: skip
    return lax.reduce_window(values[:half], values[half:], combined, **named)


def _unseen(x: Any) -> Any:
    """A number of which XLA is not told how it is made.

    Compiled, a mask of truth values times NaN is 0, and NaN is not negative where a function's numbers are not: XLA
    simplifies as if there was no NaN.
    """
    return lax.optimization_barrier(x) if isinstance(x, Tracer) else x


def wide_step(eqn: Any, values: list[Any]) -> list[Any]:
    """The equation on float64 values, whatever dtype its parameters name."""
    name = eqn.primitive.name
    if name in ORDERS and is_float(values[0].dtype):
        values = [_unseen(x) for x in values]
    if name == "convert_element_type" and values[0].dtype == np.bool_:
        return [_unseen(x) for x in bound(eqn, values, new_dtype=wide_dtype(eqn.params["new_dtype"]))]
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
    if name in OWN_WIDTH:
        return bound(eqn, [v.astype(a.aval.dtype) if is_float(v.dtype) else v
                           for v, a in zip(values, eqn.invars, strict=True)])  # fmt: skip
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
        functions = closed(eqn.params["jaxprs"].solve)
        lengths = eqn.params["const_lengths"]
        start = lengths.matvec + lengths.vecmat
        total = start + lengths.solve + lengths.transpose_solve
        leaf = lambda e, v: [widened(x) for x in wide_step(e, v)]  # noqa: E731
        return run(functions, [*values[start : start + lengths.solve], *values[total:]], leaf, constant=as_written)
    if name in ITERATED:
        return _of_finite_matrices(eqn, values, changed)
    return bound(eqn, values, **changed)


def _of_finite_matrices(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    """NaN for each matrix of a batch that has an entry which is not finite."""
    matrix, *rest = values
    finite = jnp.isfinite(matrix).all(axis=(-2, -1))
    outputs = bound(eqn, [jnp.where(finite[..., None, None], matrix, 0.0), *rest], **changed)
    return [jnp.where(finite.reshape(finite.shape + (1,) * (out.ndim - finite.ndim)), out, jnp.nan) for out in outputs]
