"""Gradients of functions that call rules: which of these is not the derivative of its function, and what it is."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from handprop.verifier.checks.evaluators import in_float64
from handprop.verifier.from_rules import Against, of_rule
from handprop.verifier.internal import call_users, noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.shapes import is_close
from handprop.verifier.rules import RULES, each_call, is_of_jax, marked, name_of

__all__ = ["of_inner_rules"]

SECONDS, MAX_RULES = 3.0, 4
CALLED = "{} {} the derivative but for the rule of {}, which it calls; there, {}"


class Call(NamedTuple):
    """The first call of a rule: what is traced is known by its shape."""

    rule: Any
    args: tuple
    kwargs: dict


def of_inner_rules(problem: Problem, named: Any, options: Options, name: Callable) -> str:
    """Return what is wrong inside the function that was passed: "" unless what is wrong are rules that can be named,
    and all wrong gradients are right without them.

    ``name(problem, options)`` says what the wrong gradients of a rule are, as ``named`` does of this problem.
    """
    if isinstance(problem.written, RULES) or problem.domains or not named.said:
        return ""
    told: list[tuple[Any, str]] = []
    for call in _calls(problem)[:MAX_RULES]:
        if options.seconds_left <= 0:
            return ""
        inner = _problem_of(call, problem, options)
        found = None if inner is None else name(inner, options)
        if inner is None or not found or not found.said:
            continue
        if not all(found.said.values()):
            return ""
        told.append((call.rule, found.text(inner)))
    if not told or not _is_right_without(problem, [rule for rule, _ in told], list(named.said), options):
        return ""
    paths = [problem.out_paths[k] for k in named.said]
    are = "is" if len(paths) == 1 else "are"
    return "; ".join(CALLED.format(", ".join(paths), are, name_of(rule), said) for rule, said in told)


def _calls(problem: Problem) -> list[Call]:
    """The rules that the candidate calls and that are not JAX's, each where it is called first."""
    met: dict[int, Call] = {}

    def meet(rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if not is_of_jax(rule):
            met.setdefault(id(rule.fun), Call(rule, *jax.tree.map(_as_shape, (args, kwargs))))
        return call(rule, *args, **kwargs)

    _traced_within(problem, meet)
    return list(met.values())


def _as_shape(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, Tracer) else x


def _traced_within(problem: Problem, meet: Callable) -> None:
    with _met(meet):
        jax.make_jaxpr(lambda *inputs: problem.candidate(*inputs))(*problem.inputs)


@contextlib.contextmanager
def _met(meet: Callable) -> Iterator[None]:
    with marked(anew=True), each_call(meet):
        yield


def _problem_of(call: Call, problem: Problem, options: Options) -> Problem | None:
    """The rule, compared with the derivative of its function; None if it cannot be judged by itself."""
    rng = options.rng(Stream.INTENT, 1)
    try:
        made = of_rule(call.rule, call.args, call.kwargs, Against(), None, (), rng)
    except Exception as error:  # whatever its function raises for arguments of no value
        noted(error, "a rule inside the function")
        return None
    return None if made.faults or made.obstacle else made._replace(shared=Shared(), compiling=problem.compiling)


def _is_right_without(problem: Problem, rules: list[Any], ks: list[int], options: Options) -> bool:
    """Whether these gradients are the derivative where the rules are replaced by their functions."""
    functions = {id(rule.fun) for rule in rules}

    def meet(rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        return call_users(rule.fun, *args, **kwargs) if id(rule.fun) in functions else call(rule, *args, **kwargs)

    def without(*inputs: Any) -> Any:
        with _met(meet):
            found, wanted = problem.candidate(*inputs), problem.reference(*inputs)
        return [*(found[k] for k in ks), *(wanted[k] for k in ks)]

    start = time.monotonic()
    run = in_float64(without, problem.inputs, SECONDS)
    rng = options.rng(Stream.INTENT, 2)
    for _ in range(3):
        if time.monotonic() > start + SECONDS:
            return False
        with jax.enable_x64(True):
            inputs = tuple(jaxprs.widened(x) for x in problem.inputs)
            moved = [x if j not in problem.cotangents else jax.numpy.asarray(rng.normal(size=np.shape(x)))
                     for j, x in enumerate(inputs)]  # fmt: skip
        made = run(tuple(moved))
        if not all(is_close(a, b) for a, b in zip(made[: len(ks)], made[len(ks) :], strict=True)):
            return False
    return True
