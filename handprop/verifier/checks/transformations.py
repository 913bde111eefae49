"""Transformations: the rule under JAX's transformations, and its linearity in the cotangent.

A pullback is linear. At cotangents 0, e_i, -c, 1e8 c, 1e-8 c, c + 2 c' and some that sum to 0, the rule is compared
with the reference, which is linear, within the bounds of ``handprop.verifier.checks.sampling``. That exposes a rule
that ignores its cotangent or squares it, which cotangents of ones, as under ``jax.grad`` of a sum, would hide. Under
``vmap`` the rule is run and compared, sample by sample; under ``scan`` and ``checkpoint`` it is traced.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.differences import Meaning, failed, meaning_of
from handprop.verifier.checks.evaluators import Evaluator, evaluators, in_float64, is_own, untraceable
from handprop.verifier.checks.sampling import Point, compared, not_repeated, repeats, sample, worst_entry
from handprop.verifier.internal import first_line, noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.executables import array
from handprop.verifier.report.values import Check, Outcome

__all__ = ["transformations"]

FEW_EQUATIONS = 120  # a run under vmap compiles the program again, so large ones are left out
FEW_ENTRIES = 1 << 14
BATCH = 3
LARGE = 1e8  # the largest scale of scaled losses


def transformations(problem: Problem, options: Options) -> Check:
    """Check that the rule is linear in its cotangent, is repeatable, and supports vmap, scan, checkpoint and jit."""
    start = time.monotonic()
    found = list(evaluators(problem))
    if not found:
        return untraceable("transformations", problem)
    evaluator, inputs = found[0], sample(problem, options, 0)
    if not repeats(evaluator, Point(inputs, *evaluator.clean(inputs), [])):
        return not_repeated("transformations", start)
    tried = _cotangents(problem, options)
    for i, other in enumerate(tried):
        difference = meaning_of(problem, found, [compared(evaluator, other, 100 + i) for evaluator in found], options)
        if difference is not None and difference.kind is Meaning.WRONG:
            return failed("transformations", problem, difference, "for another cotangent", start)
    done, cannot = _traced(problem)
    batched = _under_vmap(problem, evaluator, options) if "vmap" in done else ""
    if batched:
        cannot["vmap"] = batched
    summary = f"the same bits twice; {len(tried)} cotangents; supports {', '.join(k for k in done if k not in cannot)}"
    if cannot:
        summary += f"; does not support {'; does not support '.join(f'{name}: {why}' for name, why in cannot.items())}"
    evidence = {"cotangents": len(tried), "tried": tuple(done), "unsupported": tuple(cannot)}
    outcome = Outcome.NOTES if cannot else Outcome.HOLDS
    return Check("transformations", outcome, summary, evidence, seconds=time.monotonic() - start)


def _cotangents(problem: Problem, options: Options) -> list[tuple[Any, ...]]:
    """Return the first sample with other cotangents in it."""
    if not problem.cotangents:
        return []
    inputs, rng = sample(problem, options, 0), options.rng(Stream.TRANSFORMATIONS)

    def with_cotangents(f: Callable[[np.ndarray], np.ndarray]) -> tuple[Any, ...]:
        changed = list(inputs)
        with jax.enable_x64(True):
            for i in problem.cotangents:
                changed[i] = array(f(np.asarray(inputs[i], np.float64)))
        return tuple(changed)

    def one_hot(c: np.ndarray) -> np.ndarray:
        out = np.zeros(c.size)
        if c.size:
            out[rng.integers(c.size)] = 1
        return out.reshape(c.shape)

    def cancelling(c: np.ndarray) -> np.ndarray:
        """Return entries that sum to exactly 0, as do those that come back from a softmax."""
        half, rest = c.ravel()[: c.size // 2], np.zeros(c.size % 2)
        return np.concatenate([half, -half, rest]).reshape(c.shape)

    kinds = [np.zeros_like, np.ones_like, one_hot, np.negative, cancelling, lambda c: LARGE * c,
             lambda c: c + 2 * rng.normal(size=c.shape)]  # fmt: skip
    if not problem.is_estimated:  # such a reference may stand for a solver, whose tolerance is absolute
        kinds.append(lambda c: c / LARGE)
    return [with_cotangents(f) for f in kinds]


def _traced(problem: Problem) -> tuple[list[str], dict[str, str]]:
    """Return the transformations under which the hand program can be traced, and what JAX says about the others."""
    floats = jaxprs.float_places(problem.inputs)

    def scanned(*inputs: Any) -> Any:
        return jax.lax.scan(lambda carry, _: (carry, problem.candidate(*inputs)), jnp.int32(0), None, length=2)[1]

    def batched(*inputs: Any) -> Any:
        return _batched(problem)(*_stacked([inputs] * BATCH))

    def again(*inputs: Any) -> Any:
        def of_floats(*chosen: Any) -> list[Any]:
            outputs = problem.candidate(*jaxprs.with_replaced(inputs, floats, chosen))
            return [x for x in outputs if jaxprs.is_float(x.dtype)]

        values, pull = jax.vjp(of_floats, *(inputs[i] for i in floats))
        return pull([jnp.ones_like(v) for v in values])

    ways = {
        "jit": jax.jit(problem.candidate),
        "vmap": batched,
        "scan": scanned,
        "checkpoint": jax.checkpoint(problem.candidate),
        "a second derivative": again,
    }
    done, cannot = [], {}
    for name, way in ways.items():
        try:
            jaxprs.trace(way, problem.inputs)
            done.append(name)
        except Exception as error:  # whatever JAX or the rule raises
            noted(error, name)
            cannot[name] = first_line(error)
    return done, cannot


def _batched(problem: Problem) -> Callable:
    return jax.vmap(problem.candidate, jaxprs.batch_axes(problem.inputs), axis_size=BATCH)


def _stacked(samples: list[tuple[Any, ...]], stack: Callable = jnp.stack) -> tuple[Any, ...]:
    """Stack samples into one batch."""
    axes = jaxprs.batch_axes(samples[0])
    return tuple(parts[0] if axis is None else stack(parts)
                 for parts, axis in zip(zip(*samples, strict=True), axes, strict=True))  # fmt: skip


def _under_vmap(problem: Problem, evaluator: Evaluator, options: Options) -> str:
    """Return what is wrong with the hand program over a batch of samples, or "" if nothing is."""
    equations = list(jaxprs.equations(jaxprs.trace(problem.candidate, problem.inputs)))
    largest = max((math.prod(v.aval.shape) for eqn in equations for v in eqn.outvars), default=0)
    if len(equations) > FEW_EQUATIONS or largest > FEW_ENTRIES:
        return ""
    samples = [sample(problem, options, i) for i in range(BATCH)]
    try:
        with jax.enable_x64(True):
            stacked = _stacked(samples, lambda parts: array(np.stack(parts)))
        own = is_own(problem)
        traced_at = _stacked([problem.inputs] * BATCH, np.stack) if own else stacked
        outputs = in_float64(_batched(problem), traced_at, problem.compiling, own)(stacked)
    except Exception as error:  # a rule that takes no float64, or a batch that JAX cannot make
        noted(error, "vmap")
        return first_line(error)
    for i, inputs in enumerate(samples):
        batch, worst = [x[i] for x in outputs], None
        for measured in (False, True):
            point = compared(evaluator, inputs, i, measured)
            worst = worst_entry(problem, Point(inputs, batch, point.got, point.bound))
            if worst is None:
                break
        if worst is not None:
            return f"{worst.path} of sample {i} is {worst.got:.6g} in a batch, {worst.want:.6g} alone"
    return ""
