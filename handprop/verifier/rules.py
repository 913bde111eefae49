"""Custom rules where they are called: who wrote them, which ones a function calls, and the function without them.

JAX caches the traces of compiled functions, and a cached trace hides the rules in it. A function is therefore traced
without its rules under a mark that is part of the cache key: earlier traces stay as they are, and none is used here.
"""

import contextlib
import functools
import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata

from handprop.verifier.internal import call_users
from handprop.verifier.programs import frames, jaxprs, running
from handprop.verifier.programs.implementations import is_foreign
from handprop.verifier.programs.primitives import Trait, has

__all__ = [
    "EVERY",
    "RULES",
    "each_call",
    "holds_rules",
    "is_function_of_jax",
    "is_of_jax",
    "marked",
    "name_of",
    "parts_of",
    "with_rules",
    "without_rules",
]

RULES = (jax.custom_vjp, jax.custom_jvp)
ANEW = itertools.count(1)
EVERY = object()  # in place of one of JAX's rules: all of them
Meet = Callable[[Any, Callable, tuple, dict], Any]


def name_of(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def parts_of(rule: Any) -> list[Any]:
    """Return the function of a rule and the functions that define its derivative."""
    return [part for name in ("fun", "fwd", "bwd", "jvp") if (part := vars(rule).get(name)) is not None]


def is_of_jax(rule: Any) -> bool:
    """Whether the function and its derivative were all written inside JAX."""
    return all(file.startswith(frames.JAX) for part in parts_of(rule) for file in _files(part))


def is_function_of_jax(f: Any) -> bool:
    """Whether a plain function was written inside JAX."""
    return all(file.startswith(frames.JAX) for file in _files(f))


def _files(f: Any) -> Iterator[str]:
    """Yield the files in which the functions that ``f`` is made of were written."""
    if isinstance(f, tuple | list):
        for part in f:
            yield from _files(part)
    elif isinstance(f, functools.partial):
        yield from _files(f.func)
    elif isinstance(f, types.FunctionType):
        file = f.__code__.co_filename
        held = [] if frames.is_users(file) else _held(f)
        yield from _files(held) if held else (file,)
    elif (inner := getattr(f, "__func__", None) or getattr(f, "__wrapped__", None)) is not None:
        yield from _files(inner)
    elif f is not None:
        yield getattr(sys.modules.get(type(f).__module__), "__file__", None) or ""


def _held(f: types.FunctionType) -> list[Any]:
    """Return the functions that a decorator of JAX or Python, such as ``jax.vmap``, made this one from."""
    if (wrapped := getattr(f, "__wrapped__", None)) is not None:
        return [wrapped]
    cells = [cell.cell_contents for cell in f.__closure__ or () if cell != types.CellType()]
    return [c for c in cells if isinstance(c, types.FunctionType | types.MethodType | functools.partial) or (
        isinstance(c, tuple) and c and all(map(callable, c)))]  # fmt: skip


@contextlib.contextmanager
def each_call(meet: Meet) -> Iterator[None]:
    """Within this context a call of a custom rule runs ``meet(rule, call, args, kwargs)``.

    ``call(rule, *args, **kwargs)`` is the original call.
    """
    before: dict[Any, Callable] = {kind: kind.__call__ for kind in RULES}

    def met(call: Callable) -> Callable:
        return lambda self, *args, **kwargs: meet(self, call, args, kwargs)

    for kind, call in before.items():
        kind.__call__ = met(call)
    try:
        yield
    finally:
        for kind, call in before.items():
            kind.__call__ = call


def marked(anew: bool = False) -> Any:
    """Within this context functions are traced apart from all unmarked traces; with ``anew``, apart from all others."""
    return set_xla_metadata(handprop=f"marked {next(ANEW)}" if anew else "marked")


def with_rules(f: Callable, watch: Callable[[Any], Any] = lambda rule: rule) -> Callable:
    """Return ``f`` with its rules given Python numbers as they are, which is what happens without tracing.

    ``watch(rule)`` is called in place of each rule that is not JAX's.
    """

    def meet(rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if not is_of_jax(rule):
            rule, args, kwargs = _over_arrays(watch(rule), args, kwargs)
        return call(rule, *args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        with each_call(meet):
            return call_users(f, *args, **kwargs)

    return run


def _over_arrays(rule: Any, args: tuple, kwargs: dict) -> tuple[Any, tuple, dict]:
    """Turn a call of the rule into a call of an equivalent rule that takes no Python numbers."""
    try:
        bound = inspect.signature(rule.fun).bind(*args, **kwargs)
    except (TypeError, ValueError):  # JAX reports what is wrong
        return rule, args, kwargs
    bound.apply_defaults()
    still = set(rule.nondiff_argnums)
    held = {i: arg for i, arg in enumerate(bound.args) if i not in still and _is_number(arg)}
    if bound.kwargs or not held:
        return rule, args, kwargs
    taken = [i for i in range(len(bound.args)) if i not in held]
    new = type(rule)(_placed(rule.fun, held, taken), tuple(taken.index(i) for i in still))
    if isinstance(rule, jax.custom_jvp):
        new.defjvp(_jvp_over_arrays(rule, held, taken), rule.symbolic_zeros)
    else:
        saved = {i: CustomVJPPrimal(x, False) for i, x in held.items()} if rule.symbolic_zeros else held
        places = [i - sum(j < i for j in still) for i in taken if i not in still]
        bwd = _named(rule.bwd, lambda *a: _chosen(call_users(rule.bwd, *a), places))
        new.defvjp(_placed(rule.fwd, saved, taken), bwd, rule.symbolic_zeros, rule.optimize_remat)
    return new, tuple(bound.args[i] for i in taken), {}


def _is_number(arg: Any) -> bool:
    leaves = jax.tree.leaves(arg)
    return bool(leaves) and all(isinstance(x, bool | int | float) and not isinstance(x, np.generic) for x in leaves)


def _placed(f: Callable, held: dict[int, Any], taken: Sequence[int]) -> Callable:
    return _named(f, lambda *args: call_users(f, *_whole(held, taken, args)))


def _named(f: Callable, new: Callable) -> Callable:
    """Give ``new``, which keeps its own parameters, the name of ``f``."""
    new.__name__ = name_of(f)
    return new


def _whole(held: dict[int, Any], taken: Sequence[int], args: Sequence[Any]) -> list[Any]:
    every = {**held, **dict(zip(taken, args, strict=True))}
    return [every[i] for i in range(len(every))]


def _chosen(cotangents: Any, places: Sequence[int]) -> Any:
    """Return the cotangents of the arguments that are taken; JAX reports a wrong number of them."""
    try:
        return tuple(cotangents[i] for i in places)
    except (TypeError, IndexError, KeyError):
        return cotangents


def _jvp_over_arrays(rule: Any, held: dict[int, Any], taken: Sequence[int]) -> Callable:
    still = tuple(rule.nondiff_argnums)
    order = [i for i in range(len(held) + len(taken)) if i not in still]
    differentiated = [i for i in taken if i not in still]

    def zero(x: Any) -> Any:
        aval = jax.typeof(x)
        tangent = jax.dtypes.float0 if not np.issubdtype(aval.dtype, np.inexact) else aval.dtype
        return SymbolicZero(aval.to_tangent_aval()) if rule.symbolic_zeros else np.zeros(aval.shape, tangent)

    def jvp(*args: Any) -> Any:
        *static, primals, tangents = args
        values = {**held, **dict(zip(differentiated, primals, strict=True))}
        along = {**jax.tree.map(zero, held), **dict(zip(differentiated, tangents, strict=True))}
        return call_users(rule.jvp, *static, tuple(values[i] for i in order), tuple(along[i] for i in order))

    return _named(rule.jvp, jvp)


def without_rules(f: Callable, handed: Any = None) -> Callable:
    """Return ``f`` with its custom rules replaced by their primals; of JAX's own rules, only ``handed`` is replaced, or
    all if it is ``EVERY``."""

    def stripped(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tracer)]

        def flat(*traced: Any) -> Any:
            new_args, new_kwargs = jax.tree.unflatten(tree, jaxprs.with_replaced(leaves, places, traced))
            with _replaced(handed):
                return call_users(f, *new_args, **new_kwargs)

        return running.strip_rules(flat, handed is EVERY)(*(leaves[i] for i in places))

    return stripped


@contextlib.contextmanager
def _replaced(handed: Any, met: list[Any] | None = None, anew: bool = False) -> Iterator[None]:
    def meet(rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if handed is not EVERY and rule is not handed and is_of_jax(rule):
            return call(rule, *args, **kwargs)
        if met is not None:
            met.append(rule)
        return call_users(rule.fun, *args, **kwargs)

    with marked(anew) if handed is None else marked(anew=True), each_call(meet):
        yield


def holds_rules(f: Callable, inputs: Sequence[Any], of_jax: bool = False) -> bool:
    """Whether ``f(*inputs)`` calls a custom rule, or a primitive with a derivative of its own, that is not JAX's; with
    ``of_jax``, whether it calls any custom rule."""
    met: list[Any] = []
    for anew in (False, True):
        with _replaced(EVERY if of_jax else None, met, anew):
            program = jaxprs.trace(f, inputs)
        if met or any(_is_custom(eqn) or (of_jax and has(eqn, Trait.CUSTOM_RULE)) for eqn in jaxprs.equations(program)):
            return True
    return False


def _is_custom(eqn: Any) -> bool:
    return is_foreign(eqn.primitive) or (has(eqn, Trait.CUSTOM_RULE) and not jaxprs.of_jax(eqn))
