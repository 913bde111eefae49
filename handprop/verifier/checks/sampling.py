"""Both programs in float64 at sampled points, with a bound for each entry on what rounding can do to it.

The bound is measured, not tuned. Each program runs again with every float that a rounding primitive returns multiplied
by ``1 + eta u``, where u is uniform in [-1, 1], ``eta = (64 + K) 2^-52`` and K is the length of the longest sum; so are
the numbers that a running sum adds up. That is the error analysis of one run of the program with a unit roundoff at
least 64 times the real one (a sum of K terms rounds to within ``K 2^-53`` of its terms' size). An entry where the two
programs differ by more than ``8`` times the largest change seen in ``DRAWS`` such runs of each, plus ``4 eta`` of
itself, differs by more than rounding can explain.

Runs with noise are made only where the two programs differ by more than ``4 eta``, or where the bound is asked for. If
they then still differ by more than the bound, ``MORE_DRAWS`` runs are made, because a comparison that rounding decides
may fall the same way in a few.

Source: Monte Carlo arithmetic, Parker (1997).
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.evaluators import DRAWS, MORE_DRAWS, Evaluator, Outputs
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs
from handprop.verifier.report.text import apart
from handprop.verifier.report.values import Check, Counterexample, Outcome, Worst

__all__ = [
    "NONDETERMINISTIC",
    "SAFETY",
    "Point",
    "beyond",
    "compared",
    "failure",
    "is_defined",
    "is_off",
    "largest",
    "not_repeated",
    "repeats",
    "sample",
    "unmeasured",
    "worst_at",
    "worst_entry",
    "wrong_outputs",
]

NONDETERMINISTIC = "two runs on the same input differ"
SAFETY = 8.0
NOTHING = 2.0**-53  # times an output's largest entry, at most 1: what float64 cannot add to it
SLIGHT = 1e-9  # relative to the largest number: the most that rounding the inputs changes unless something jumps
UNDERFLOW = 2.0**-1000  # products that become this small lose their digits in one order of factors and not in another


class Point(NamedTuple):
    """What one input gave: the outputs by hand and by the reference in float64, and the bound of each entry.

    ``raised`` is the message of a program that raised there.
    """

    inputs: tuple[Any, ...]
    got: Outputs
    want: Outputs
    bound: Outputs
    raised: str = ""


def sample(problem: Problem, options: Options, i: int) -> tuple[Any, ...]:
    """Return the user's own inputs first, then normal ones of their scale, with cotangents of other signs throughout.

    Numbers that are all positive, such as those that a logarithm is taken of, are drawn from the range they span at
    every other sample, so that some samples lie where the function is defined.
    """
    with jax.enable_x64(True):
        if i == 0:
            return tuple(jaxprs.widened(x) for x in problem.inputs)
        rng = options.rng(Stream.SAMPLES, i)
        factor = (1.0, 1.0, 0.25)[i % 3]
        return tuple(
            _free(x, rng, factor, problem.domains[j].spread) if j in problem.domains else _moved(x, rng, factor, i % 2)
            for j, x in enumerate(problem.inputs)
        )


def _moved(x: Any, rng: np.random.Generator, factor: float, spanned: bool | int) -> Any:
    wide = np.asarray(x, np.float64) if jaxprs.is_float(x.dtype) else np.zeros(0)
    if not (spanned and wide.size and (wide > 0).all()):
        return _free(x, rng, factor)
    finite = np.isfinite(wide)
    drawn = rng.uniform(wide.min() / 2, max(wide[finite].max(initial=0.0), wide.min()), wide.shape)
    return executables.array(np.where(finite, drawn, wide))


def _free(x: Any, rng: np.random.Generator, factor: float, spread: float | None = None) -> Any:
    """Draw normal numbers of the scale of the given ones, or of ``spread``; entries that are not finite stay."""
    if not jaxprs.is_float(x.dtype):
        return x
    wide = np.asarray(x, np.float64)
    finite = np.isfinite(wide)
    scale = spread or (np.sqrt(np.mean(wide[finite] ** 2)) if finite.any() else 1.0)
    return executables.array(np.where(finite, rng.normal(size=wide.shape) * (scale or 1.0) * factor, wide))


def unmeasured(evaluator: Evaluator, inputs: tuple[Any, ...]) -> Point:
    """Compare both programs at one input, with the least bound that there may be."""
    before = len(evaluator.raised)
    got, want = evaluator.clean(inputs)
    if len(evaluator.raised) > before:
        return Point(inputs, got, want, [np.full(w.shape, np.inf) for w in want], evaluator.raised[-1])
    with np.errstate(all="ignore"):
        most = max(map(largest, want), default=0.0) if evaluator.is_estimated else 0.0
        least = [4 * evaluator.eta * np.abs(w) + evaluator.accuracy * max(largest(w), most)
                 + NOTHING * min(largest(w), 1.0) + UNDERFLOW for w in want]  # fmt: skip
    return Point(inputs, got, want, least)


def compared(evaluator: Evaluator, inputs: tuple[Any, ...], seed: int, measured: bool = False) -> Point:
    """Compare both programs at one input; the bound is measured if asked for, or if the two differ."""
    point = unmeasured(evaluator, inputs)
    _, got, want, least, raised = point
    if raised or (not measured and not is_off(got, want, least)):
        return point
    bound, changes = least, [[np.full(x.shape, np.nan) for x in program] for program in (got, want)]
    for draw in range(evaluator.draws):
        if draw >= DRAWS and not is_off(got, want, bound):
            break
        rough = evaluator.rough(inputs, 1 + draw + MORE_DRAWS * seed)
        with np.errstate(all="ignore"):
            changes = [[np.fmax(most, np.abs(r - c)) for most, r, c in zip(*program, strict=True)]
                       for program in zip(changes, rough, (got, want), strict=True)]  # fmt: skip
            bound = [SAFETY * np.maximum(_known(a, g), _known(b, w)) + e
                     for a, b, g, w, e in zip(*changes, got, want, least, strict=True)]  # fmt: skip
    if is_off(got, want, bound):
        bound = list(map(np.maximum, bound, _of_rounded_inputs(evaluator, inputs, got, want, seed)))
    return Point(inputs, got, want, bound)


def _of_rounded_inputs(evaluator: Evaluator, inputs: tuple[Any, ...], got: Outputs, want: Outputs,
                       seed: int) -> Outputs:  # fmt: skip
    """Return ``SAFETY`` times the change that rounding the inputs causes, or 0 if no rounding error is that large.

    A sum of numbers that cancel is off by their rounding errors, about which the size of the sum says nothing.
    """
    floats, rng = jaxprs.float_places(inputs), np.random.default_rng(seed)
    most = SLIGHT * max(1.0, *(largest(inputs[i]) for i in floats), *map(largest, want))
    changes = [np.zeros(w.shape) for w in want]
    for _ in range(DRAWS):
        with jax.enable_x64(True):
            factors = (1 + evaluator.eta * rng.uniform(-1, 1, inputs[i].shape) for i in floats)
            moved = [executables.array(np.asarray(inputs[i]) * x) for i, x in zip(floats, factors, strict=True)]
        rounded = evaluator.clean(tuple(jaxprs.with_replaced(inputs, floats, moved)))
        with np.errstate(all="ignore"):
            changes = [np.fmax(most_yet, np.fmax(np.abs(g - c), np.abs(w - d)))
                       for most_yet, c, d, g, w in zip(changes, got, want, *rounded, strict=True)]  # fmt: skip
    return [np.where(SAFETY * change <= most, SAFETY * change, 0.0) for change in changes]


def _known(change: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Return the largest change; infinity where a finite number is NaN in every run with noise."""
    return np.where(np.isnan(change), np.where(np.isfinite(clean), np.inf, 0.0), change)


def largest(x: Any) -> float:
    """Return the size of the largest finite entry, or 0 if there is none."""
    x = np.asarray(x)
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def beyond(got: np.ndarray, want: np.ndarray, bound: np.ndarray, defined: bool = True) -> np.ndarray:
    """Return by how many times its bound each entry is off, if that is more than once; 0 elsewhere.

    A number that is not finite is off only where the function's own values are ``defined``, and where rounding does not
    decide what the other number is.
    """
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        known = bound <= SAFETY / 2 * np.maximum(np.abs(want), largest(want)) + NOTHING
        lost = defined & np.isfinite(want) & known & ~np.isfinite(got)
        times = np.where(np.isfinite(error), error / np.maximum(bound, 5e-324), 0.0)
    return np.where(lost, np.inf, np.where(times > 1, times, 0.0))


def is_off(got: Outputs, want: Outputs, bound: Outputs) -> bool:
    """Whether some entry of some output is beyond its bound."""
    return any(beyond(*leaf).any() for leaf in zip(got, want, bound, strict=True))


def is_defined(problem: Problem, point: Point) -> bool:
    """Whether the reference's values, whose gradients the other outputs are, are finite."""
    return all(gradient or np.isfinite(want).all()
               for gradient, want in zip(problem.gradients, point.want, strict=True))  # fmt: skip


def worst_entry(problem: Problem, point: Point) -> Worst | None:
    """Return the entry furthest beyond its bound, or None if there is none."""
    found: tuple[float, int, Any] | None = None
    defined = is_defined(problem, point)
    for output, (got, want, bound) in enumerate(zip(point.got, point.want, point.bound, strict=True)):
        times = beyond(got, want, bound, defined)
        if times.size and times.max() > (found[0] if found else 0):
            found = float(times.max()), output, np.unravel_index(int(np.argmax(times)), times.shape)
    return worst_at(problem, point, *found[1:]) if found else None


def worst_at(problem: Problem, point: Point, output: int, index: Any) -> Worst:
    """Return one entry of one output, by number and index, as the worst."""
    got, want, bound = (x[output][index] for x in (point.got, point.want, point.bound))
    unit = float(np.spacing(max(abs(want), 2.0**-1022)))
    with np.errstate(all="ignore"):
        ulps, most = (float(np.float64(x) / unit) for x in (abs(got - want), bound))
    return Worst(problem.out_paths[output], tuple(map(int, index)), float(got), float(want), ulps, most)


def wrong_outputs(problem: Problem, point: Point) -> set[int]:
    """Return the outputs that have an entry beyond its bound."""
    defined = is_defined(problem, point)
    leaves = zip(point.got, point.want, point.bound, strict=True)
    return {k for k, leaf in enumerate(leaves) if beyond(*leaf, defined).any()}


def repeats(evaluator: Evaluator, point: Point) -> bool:
    """Whether both programs return the same bits when they run again on the point's input."""
    again = evaluator.clean(point.inputs)
    pairs = zip((*point.got, *point.want), (*again[0], *again[1]), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def not_repeated(name: str, start: float) -> Check:
    """Return the check of a program whose second run returns other numbers."""
    return Check(name, Outcome.UNDECIDED, NONDETERMINISTIC, {"repeats": False}, seconds=time.monotonic() - start)


def failure(name: str, problem: Problem, evaluator: Evaluator, point: Point, worst: Worst, where: str,
            seconds: float, **evidence: Any) -> Check:  # fmt: skip
    """Return a check that fails, with the input that shows it and a way to run it again.

    The point is kept for the report.
    """
    problem.shared.failed_at = point
    position = problem.out_paths.index(worst.path)

    def replay(arrays: tuple[np.ndarray, ...]) -> tuple[float, float]:
        with jax.enable_x64(True):
            rest = iter(arrays)
            arguments = [x if jaxprs.is_key(x) else executables.array(next(rest)) for x in point.inputs]
        inputs = tuple(point.inputs[i] if i in problem.domains else x for i, x in enumerate(arguments))
        got, want = evaluator.clean(inputs)
        return float(got[position][worst.index]), float(want[position][worst.index])

    with jax.enable_x64(True):
        arguments = [problem.domains[i].from_free(x) if i in problem.domains else x for i, x in enumerate(point.inputs)]
    named = tuple((path, np.asarray(x)) for path, x in zip(problem.in_paths, arguments, strict=True)
                  if not jaxprs.is_key(x))  # fmt: skip
    index = list(worst.index) or ""
    got, want = apart(worst.got, worst.want)
    summary = f"{worst.path}{index} is {got} by hand, {want} by the reference, {where}"
    return Check(name, Outcome.FAILS, summary, evidence, worst, Counterexample(named, worst, replay), seconds)
