"""Rounding: compare both programs in float64 at sampled points, up to what rounding can do; then in their own dtype."""

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from handprop.verifier.checks.convergence import is_of_a_tolerance
from handprop.verifier.checks.differences import Difference, Meaning, failed, meaning_of
from handprop.verifier.checks.evaluators import Evaluator, as_users, calls_back, evaluators, is_compiled, untraceable
from handprop.verifier.checks.infinite_slopes import INFINITE, infinite_slope
from handprop.verifier.checks.sampling import (
    Point,
    compared,
    largest,
    not_repeated,
    repeats,
    sample,
    unmeasured,
    worst_entry,
)
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs, running
from handprop.verifier.report.text import apart
from handprop.verifier.report.values import Check, Outcome

__all__ = ["bits_lost", "rounding"]

POINTS = 4
POOR = 4.0
DEFINED = "the reference is a number"
NOT_GIVEN = ", which it is not at the given input"
UNTOLD = (Meaning.UNKNOWN, Meaning.UNDEFINED)  # what such a point says about the rule is nothing
MAX_HIDDEN = 0.01  # the relative error of an output that rounding may hide
NOTHING = 1e-9  # relative to the output at the other points, or to the other gradients
APPROXIMATE = 1e-5  # a smaller relative error may be intended


class Sampled(NamedTuple):
    """Points at which the programs ran, and what was found there.

    ``told`` counts the points that were decided, ``wrong`` is the first that refutes, and ``by_constants`` says whether
    the programs differ by the rounding of their constants.
    """

    points: list[Point]
    findings: list[str]
    told: int
    wrong: Difference | None
    by_constants: bool = False


def rounding(problem: Problem, options: Options) -> Check:
    """Check that the programs agree in float64 up to rounding, and measure what is lost in their own dtype."""
    start = time.monotonic()
    refuted: Sampled | None = None
    poorer: Sampled | None = None
    for evaluator in evaluators(problem):
        sampled = _sampled(problem, evaluator, options)
        if calls_back(problem) and not repeats(evaluator, sampled.points[0]):
            return not_repeated("rounding", start)
        if sampled.wrong is None and not sampled.by_constants:
            return _judged(problem, sampled, options, start)
        if sampled.wrong is None:
            poorer = poorer or sampled
        refuted = refuted or sampled
    if poorer is not None:
        return _judged(problem, poorer, options, start)
    if refuted is None or refuted.wrong is None:
        return untraceable("rounding", problem)
    if not repeats(refuted.wrong.evaluator, refuted.wrong.point):
        return not_repeated("rounding", start)
    check = failed("rounding", problem, refuted.wrong, "in float64", start)
    finite = np.isfinite(refuted.wrong.worst.got)
    said = (*refuted.findings, *(_largest_error(problem, refuted.wrong, options) if finite else ()))
    return dataclasses.replace(check, evidence={**check.evidence, "findings": said})


def _sampled(problem: Problem, evaluator: Evaluator, options: Options) -> Sampled:
    """Sample points until an entry is wrong, there are enough, or time is up."""
    points, findings, told, by_constants = list[Point](), list[str](), 0, False
    for i in range(POINTS):
        if points and options.seconds_left < 0:
            break
        # The smallest detectable error is only stated where nothing is proved.
        measured = not problem.shared.proved and is_compiled(problem)
        if i == 0 and (early := _of_a_tolerance(problem, evaluator, options)) is not None:
            return Sampled([early.point], findings, told, early)
        points.append(compared(evaluator, sample(problem, options, i), i, measured))
        difference = meaning_of(problem, [evaluator], points[-1:], options)
        told += not points[-1].raised and (difference is None or difference.kind not in UNTOLD)
        if i == 0 and difference is None and (worst := infinite_slope(problem, points[0])) is not None:
            difference = Difference(Meaning.WRONG, INFINITE, evaluator, points[0], worst)
        where = "at the given input" if i == 0 else f"at sample {i}"
        if points[-1].raised:
            findings.append(f"{where} {points[-1].raised}; the point was left out")
        elif difference is not None and (
            difference.kind is Meaning.WRONG or (difference.kind is Meaning.JUMP and i == 0)
        ):
            return Sampled(points, findings, told, difference)
        elif difference is not None and not (by_constants and difference.kind is Meaning.CONSTANTS):
            findings.append(f"{where} {difference.said}")
            by_constants |= difference.kind is Meaning.CONSTANTS
    return Sampled(points, findings, told, None, by_constants)


def _of_a_tolerance(problem: Problem, evaluator: Evaluator, options: Options) -> Difference | None:
    """A difference at the given input that a loop's tolerance explains, found without its bound where runs with noise
    are not compiled and take long.

    The report then allows for the tolerance, which leaves no time to measure what rounding does."""
    if problem.shared.proved or problem.by_values is None or is_compiled(problem):
        return None
    point = unmeasured(evaluator, sample(problem, options, 0))
    worst = worst_entry(problem, point)
    if point.raised or worst is None or not is_of_a_tolerance(problem, point):
        return None
    problem.shared.of_a_tolerance = True
    return Difference(Meaning.WRONG, "", evaluator, point, worst)


def _judged(problem: Problem, sampled: Sampled, options: Options, start: float) -> Check:
    """Return the check if no point refutes."""
    seconds = time.monotonic() - start
    if sampled.told:
        return _agreed(problem, sampled, seconds, late=options.seconds_left < 0)
    raised = [point.raised for point in sampled.points if point.raised]
    summary = f"at every sampled point {raised[0]}" if raised else sampled.findings[0]
    return Check("rounding", Outcome.UNDECIDED, summary, {"findings": tuple(sampled.findings)}, seconds=seconds)


def _largest_error(problem: Problem, difference: Difference, options: Options) -> tuple[str, ...]:
    """State the largest error relative to an output's largest entry, over as many points as time allows."""
    errors = []
    for i in range(POINTS):
        if i and options.seconds_left < 0:
            break
        got, want = difference.evaluator.clean(sample(problem, options, i))
        with np.errstate(all="ignore"):
            pairs = zip(got, want, strict=True)
            errors += [np.abs(g - w).max(initial=0.0) / np.abs(w).max(initial=0.0) for g, w in pairs]
    errors = [error for error in errors if not np.isnan(error)]
    if not errors or np.isinf(max(errors)):  # infinite where an output should be 0 and is not
        return ()
    said = f"the largest relative error is {max(errors):.0e}"
    meant = f"; if the rule is approximate on purpose, pass accuracy={2 * max(errors):.0e}"
    return (said + (meant if max(errors) < APPROXIMATE else ""),)


def _agreed(problem: Problem, sampled: Sampled, seconds: float, late: bool) -> Check:
    """Return the check if the programs agree; if it is ``late``, their own dtype is not examined any more."""
    given, points = sampled.points[0], [point for point in sampled.points if not point.raised]
    least = {True: NOTHING * _of_gradients(problem, points), False: NOTHING * _of_all(points)}
    met = {path: any(_is_met(point.want[k], least[gradient]) for point in points)
           for k, (path, gradient) in enumerate(zip(problem.out_paths, problem.gradients, strict=True))}  # fmt: skip
    idle = tuple(path for path, gradient in zip(met, problem.gradients, strict=True) if gradient and not met[path])
    proved = problem.shared.proved
    sensitivity = (
        {} if proved else {p: _sensitivity(points, k) for k, p in enumerate(problem.out_paths) if p not in idle}
    )
    lost = {} if given.raised or late else _own_dtype(problem, given)
    words = [f"{dtype} loses {bits:.0f} bits in {path}" for path, (dtype, bits, _) in lost.items() if bits >= POOR]
    accuracy = f" and a relative error of {problem.accuracy:.2g}" if problem.accuracy else ""
    summary = f"equal up to float64 rounding{accuracy} at {len(points)} points" + (
        f"; {', '.join(words)}" if words else ""
    )
    evidence = {
        "points": len(points),
        "sensitivity": sensitivity,
        "unexercised": idle,
        "exercised": sum(problem.gradients) > len(idle),
        "undefined": tuple(path for k, path in enumerate(problem.out_paths) if _is_never(points, k)),
        "hidden": tuple(path for path, error in sensitivity.items() if error > MAX_HIDDEN and met[path]),
        "clear_differences": () if proved else tuple(_apart(problem, points)),
        "lost_bits": {path: round(bits, 1) for path, (_, bits, _) in lost.items()},
        "lost_bits_autodiff": {path: round(bits, 1) for path, (_, _, bits) in lost.items()},
        "product_precision": "highest",
        "findings": tuple(sampled.findings),
        "conditions": (DEFINED + NOT_GIVEN * _is_wider(problem, [given]),) if _is_wider(problem, points) else (),
    }
    return Check("rounding", Outcome.NOTES if words else Outcome.HOLDS, summary, evidence, seconds=seconds)


def _apart(problem: Problem, points: list[Point]) -> Iterator[str]:
    """Yield entries that differ clearly, but no more than runs with noise do: rounding decides what they are."""
    most, beside = max(MAX_HIDDEN, problem.accuracy), _of_all(points)
    most_of = [max(map(largest, leaf)) for leaf in zip(*(point.want for point in points), strict=True)]
    for point in points:
        leaves = zip(problem.out_paths, point.got, point.want, point.bound, most_of, strict=True)
        for path, got, want, bound, elsewhere in leaves:
            with np.errstate(all="ignore"):
                error, least = np.abs(got - want), max(most * largest(want), NOTHING * max(elsewhere, beside))
                off = (error > least) & (error <= bound) & np.isfinite(error)
            if off.any():
                index = tuple(map(int, np.argwhere(off)[0]))
                by_hand, by_reference = apart(float(got[index]), float(want[index]))
                where = f"{path}{list(index) if index else ''}"
                yield f"{where} is {by_hand} by hand and {by_reference} by the reference, and rounding decides which"


def _of_all(points: list[Point]) -> float:
    """The largest entry of all outputs at all points, beside which an output may be nothing but a remainder."""
    return max((largest(want) for point in points for want in point.want), default=0.0)


def _of_gradients(problem: Problem, points: list[Point]) -> float:
    """The largest entry of all gradients at all points, beside which a gradient may be nothing but a remainder."""
    return max(
        (largest(point.want[k]) for point in points for k, of in enumerate(problem.gradients) if of), default=0.0
    )


def _is_met(want: np.ndarray, least: float) -> bool:
    """Whether some entry is finite and above ``least``, so that it has a relative error."""
    return bool(((np.abs(want) > least) & np.isfinite(want)).any())


def _is_never(points: list[Point], k: int) -> bool:
    """Whether the reference's output is NaN in every entry at every point, and the other program's is not."""
    return (points[0].want[k].size > 0 and all(np.isnan(point.want[k]).all() for point in points)
            and any(np.isfinite(point.got[k]).any() for point in points))  # fmt: skip


def _is_wider(problem: Problem, points: list[Point]) -> bool:
    """Whether the program by hand returns numbers where the reference's values are NaN."""
    return any((np.isnan(want) & np.isfinite(got)).any() for point in points
               for got, want, gradient in zip(point.got, point.want, problem.gradients, strict=True)
               if not gradient)  # fmt: skip


def _sensitivity(points: list[Point], k: int) -> float:
    """Return the smallest relative error of the whole leaf that would have shown in some entry."""
    smallest = np.inf
    for point in points:
        with np.errstate(all="ignore"):
            ratio = point.bound[k] / np.abs(point.want[k])
        ratio = ratio[np.isfinite(ratio)]
        smallest = min(smallest, ratio.min(initial=np.inf))
    return float(smallest)


def _own_dtype(problem: Problem, point: Point) -> dict[str, tuple[str, float, float]]:
    """Return, by leaf, its dtype and the bits that the hand program and autodiff lose in it.

    They are relative to the leaf's largest entry.
    """
    with jax.default_matmul_precision("highest"), jax.enable_x64(jaxprs.wide(problem.inputs)):
        try:
            programs = as_users(problem)
            quick = executables.compile_within(programs, problem.compiling, 2 * executables.EQUATION)
            runs = [partial(running.run, program) for program in programs]
            got, want = ([np.asarray(x) for x in (jax.jit(f) if quick else f)(problem.inputs)] for f in runs)
        except Exception as error:  # a callback that raises, or a kernel for another machine
            noted(error, "a run in the programs' own dtype")
            return {}
    lost = {}
    for path, g, w, exact in zip(problem.out_paths, got, want, point.want, strict=True):
        scale = np.abs(exact).max(initial=0.0)
        if not np.isfinite(scale) or scale == 0 or not jaxprs.is_float(g.dtype):
            continue
        bits = [bits_lost(np.asarray(x, np.float64), exact, g.dtype) for x in (g, w)]
        lost[path] = (str(g.dtype), *bits)
    return lost


def bits_lost(x: np.ndarray, exact: np.ndarray, dtype: Any) -> float:
    """Return the largest error in bits of the dtype, relative to the largest entry.

    All bits are lost where an entry of ``x`` is not finite but should be.
    """
    scale = np.abs(exact).max(initial=0.0)
    with np.errstate(all="ignore"):
        error = np.where(np.isfinite(x) | ~np.isfinite(exact), np.abs(x - exact), scale)
        unit = float(ml_dtypes.finfo(dtype).eps) * scale
        return float(np.log2(np.fmax(error[np.isfinite(error)].max(initial=0.0) / unit, 1.0)))
