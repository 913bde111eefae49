"""Gradients that are the derivative but for guards in the rule, or that of the function without its roundings."""

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.evaluators import in_float64
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem, Program
from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.claims import is_refuted
from handprop.verifier.repair.left_out import Operation, operations_of, run_without, said_of
from handprop.verifier.repair.shapes import Asked, Seen, is_close

__all__ = ["but_for"]

MANY, FEW = 6, 2  # of that many operations all subsets are tried; of more, those that leave out few, and all
SECONDS = 4.0
GUARDED = "the derivative, but for guards in the rule: {}"
STRAIGHT = "the derivative of the function without its {}, which it passes through, as straight-through gradients do"


class Reduced(NamedTuple):
    """A program without some of its operations, ``program(left_out, *inputs)``; ``left_out(i)`` may be traced."""

    operations: tuple[Operation, ...]
    program: Callable[..., tuple[Any, ...]]

    def without(self, chosen: Collection[int]) -> Program:
        return lambda *inputs: self.program(lambda i: i in chosen, *inputs)


def but_for(problem: Problem, wrong: Sequence[Asked], options: Options) -> dict[int, str]:
    """Return what each wrong gradient is, for those that are the derivative but for guards or roundings."""
    if not wrong or options.seconds_left <= 0:
        return {}
    deadline = min(options.deadline, time.monotonic() + SECONDS)
    within = options._replace(deadline=deadline)
    rule = _reduced(problem, problem.candidate)
    found: dict[int, str] = {}
    if rule.operations:
        for chosen, ks in _matches(problem, rule, problem.reference, wrong, deadline):
            said = GUARDED.format(said_of([rule.operations[i] for i in chosen]))
            found |= {
                k: said for k in ks if not is_refuted(problem, k, rule.without(chosen), problem.reference, within)
            }
    left = [asked for asked in wrong if asked.k not in found]
    if not left or problem.primal is None:
        return found
    function = _reduced(problem, problem.primal)
    kinds = [o.kind for o in function.operations]
    if "rounding" not in kinds:
        return found
    straight = _derivative(problem, function, {i for i, kind in enumerate(kinds) if kind in ("rounding", "clip")})
    what = "roundings and clips" if "clip" in kinds else "rounding" if len(kinds) == 1 else "roundings"
    for chosen, ks in _matches(problem, rule, straight, left, deadline):
        own = [o for i in chosen if (o := rule.operations[i]).kind not in ("rounding", "clip")]
        said = STRAIGHT.format(what) + (f", but for guards in the rule: {said_of(own)}" if own else "")
        found |= {k: said for k in ks if not is_refuted(problem, k, rule.without(chosen), straight, within)}
    return found


def _reduced(problem: Problem, f: Program) -> Reduced:
    paths = ["" if i in problem.domains else path for i, path in enumerate(problem.in_paths)]

    def of(inputs: Sequence[Any]) -> tuple[Any, dict[int, Operation]]:
        program = jaxprs.trace(f, inputs)
        return program, operations_of(program, paths, problem.cotangents)

    def program(left_out: Callable[[int], Any], *inputs: Any) -> tuple[Any, ...]:
        traced, operations = of(inputs)
        return tuple(run_without(traced, inputs, operations, left_out))

    return Reduced(tuple(of(problem.inputs)[1].values()), program)


def _derivative(problem: Problem, function: Reduced, left_out: set[int]) -> Program:
    """The gradients of the function without these operations, in the places where the problem has them."""

    def gradients(*inputs: Any) -> tuple[Any, ...]:
        def values(*moving: Any) -> Sequence[Any]:
            moved = jaxprs.with_replaced(inputs, problem.wrt, moving)
            return tuple(function.without(left_out)(*moved))

        made, pull = jax.vjp(values, *(inputs[i] for i in problem.wrt))
        cotangents = [inputs[j].astype(v.dtype) for j, v in zip(problem.cotangents, made, strict=True)]
        pulled = iter(pull(tuple(cotangents)))
        return tuple(next(pulled) if is_gradient else jnp.zeros(()) for is_gradient in problem.gradients)

    return gradients


def _matches(problem: Problem, rule: Reduced, stated: Program, wrong: Sequence[Asked],
             deadline: float) -> Iterator[tuple[tuple[int, ...], list[int]]]:  # fmt: skip
    """Yield the fewest operations of the rule without which gradients are as stated, and which ones.

    Others of their kind, which may act at other inputs, are left out too if the gradients stay as stated.
    """
    count, left = len(rule.operations), {asked.k for asked in wrong}

    def reduced(*inputs: Any) -> Any:
        return rule.program(lambda i: inputs[-1][i], *inputs[:-1])

    flags = np.zeros(max(count, 1), bool)
    run = in_float64(reduced, (*problem.inputs, jnp.asarray(flags)), SECONDS / 2)
    points = wrong[0].points
    want = [p.want for p in points]
    if stated is not problem.reference:
        run_stated = in_float64(stated, problem.inputs, SECONDS / 2)
        want = [run_stated(p.free) for p in points]

    def fitting(chosen: tuple[int, ...], ks: set[int]) -> set[int]:
        flags = jnp.asarray(np.isin(np.arange(max(count, 1)), chosen))
        return _fitting(points, want, ks, lambda p: run((*p.free, flags)))

    for chosen in _subsets(count):
        if not left or time.monotonic() > deadline:
            return
        if not chosen and stated is problem.reference:
            continue
        fit = fitting(chosen, left)
        if fit:
            like = tuple(
                i for i in range(count) if rule.operations[i].kind in {rule.operations[j].kind for j in chosen}
            )
            yield like if fitting(like, fit) == fit else chosen, sorted(fit)
            left -= fit


def _fitting(points: list[Seen], want: Sequence[Any], ks: set[int], run: Callable) -> set[int]:
    """The outputs that are as wanted at all points, and finite and not zero at one."""
    told: set[int] = set()
    for p, wanted in zip(points, want, strict=True):
        got = run(p)
        ks = {k for k in ks if is_close(got[k], wanted[k])}
        told |= {k for k in ks if np.any(np.isfinite(wanted[k]) & (np.asarray(wanted[k]) != 0))}
        if not ks:
            break
    return ks & told


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    every = tuple(range(count))
    for size in range(min(count, MANY if count <= MANY else FEW) + 1):
        yield from itertools.combinations(every, size)
    if count > MANY:
        yield every
