"""What the verifier compiles for itself, and how much of that it keeps.

JAX keeps the executable of every primitive that ran on concrete numbers as long as the process lives, about a megabyte
for each shape: five hundred reports would take gigabytes. Here primitives run on numbers through executables of the
verifier's own, of which the last ``KEPT`` are kept.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from handprop._compat import equations, trace_state_clean
from handprop.verifier.internal import go_on

__all__ = ["applied", "array", "compile_within", "compiled", "forget", "run_kept", "run_once"]

KEPT = 2048  # a primitive's executable takes some 50 kB
FEW_KEPT = 128
FEW_ENTRIES = 1 << 18
EQUATION = 2e-3  # seconds that compiling one equation takes on an idle core of 2025
LOOPS_KEPT = 64
LOOPS: dict[Any, Callable] = {}
Options = dict[str, Any]


def array(numbers: Any) -> jax.Array:
    """Turn NumPy numbers into a JAX array; JAX's own ``asarray`` compiles a program for every shape since jax 0.10."""
    return jax.device_put(np.asarray(numbers))


def applied(f: Callable, *values: Any, **params: Any) -> Any:
    """Run ``f(*values, **params)``, where f is the ``bind`` of a primitive or a function like it.

    >>> float(applied(jax.lax.add_p.bind, jax.numpy.float32(1), jax.numpy.float32(2)))
    3.0
    """
    if any(isinstance(x, Tracer) for x in values):
        return f(*values, **params)
    go_on()
    types = _types(values)
    wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    try:
        run = _executable(f, types, tuple(sorted(params.items())), wide)
    except TypeError:  # a parameter is not hashable
        return f(*values, **params)
    with jax.disable_jit(False):  # an executable does not run with jit disabled
        return run(*values)


def _types(values: Sequence[Any]) -> tuple[tuple[tuple[int, ...], Any, bool], ...]:
    return tuple((x.shape, x.dtype, bool(getattr(x, "weak_type", False))) for x in map(jax.typeof, values))


@lru_cache(maxsize=KEPT)
def _executable(f: Callable, types: tuple, params: tuple, wide: bool) -> Callable:
    """Compile ``f`` for these types; ``wide`` says whether 64-bit types are on, as they are at the call."""
    shapes = [jax.ShapeDtypeStruct(shape, dtype, weak_type=weak) for shape, dtype, weak in types]
    entries = sum(math.prod(shape) for shape, *_ in types)
    return _compiled(lambda *values: f(*values, **dict(params)), shapes, entries)


def forget() -> None:
    """Drop the executables of loops and of single primitives, some of which take a megabyte."""
    LOOPS.clear()
    if _executable.cache_info().currsize > FEW_KEPT:
        _executable.cache_clear()


def _compiled(f: Callable, args: Sequence[Any], entries: int) -> Callable:
    go_on()
    return jax.jit(f).lower(*args).compile(compiler_options=_options(entries))


def run_once(f: Callable, *args: Any) -> Any:
    """Run ``f(*args)``, which contains a loop, compiled for this one run unless something is traced.

    JAX itself would keep the executable, a megabyte or more each, as long as the process lives.
    """
    return run_kept(None, f, *args)


def run_kept(key: Any, f: Callable, *args: Any) -> Any:
    """Do the same, and keep what is compiled, among the last few, for the next run of a function with this key."""
    if not trace_state_clean():
        return f(*args)
    go_on()
    leaves, tree = jax.tree.flatten(args)
    types = _types(leaves)
    with jax.disable_jit(False):
        executable = LOOPS.pop((key, tree, types), None) or _compiled(f, args, sum(math.prod(s) for s, *_ in types))
        if key is not None:
            LOOPS[key, tree, types] = executable
            for old in list(LOOPS)[:-LOOPS_KEPT]:
                del LOOPS[old]
        return executable(*args)


def compile_within(programs: Sequence[Any], seconds: float, each: float = EQUATION) -> bool:
    """Whether these programs compile within this many seconds."""
    return sum(1 for program in programs for _ in equations(program)) * each <= seconds


def compiled(f: Callable, *args: Any, programs: Sequence[Any], seconds: float, each: float = EQUATION) -> Callable:
    """Compile ``f`` for these arguments.

    Machine code is not optimized where the programs that ``f`` runs hold few entries: these run only about ten times,
    and optimization is up to half of what compiling costs. Where compiling would take more than ``seconds``, at
    ``each`` for every equation, ``f`` itself is returned, which runs equation by equation.
    """
    if not compile_within(programs, seconds, each):
        return f
    entries = sum(math.prod(getattr(v.aval, "shape", ())) for p in programs for e in equations(p) for v in e.outvars)
    return _compiled(f, args, entries)


def _options(entries: int) -> Options:
    return {"xla_backend_optimization_level": 0} if entries <= FEW_ENTRIES else {}
