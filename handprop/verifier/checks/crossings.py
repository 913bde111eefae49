"""Inputs at which one comparison falls another way than at the given input.

Two programs may agree wherever samples fall and differ where a comparison seldom holds: in the shell of a switching
function, inside an obstacle, below a clamp. With ``d(x) = a - b`` of two numbers that are compared, Newton's steps
``x <- x - (d - t) grad d / |grad d|^2`` lead from the given input to where d is t, of the other sign: the shortest way
to first order, so that most of the other comparisons stay as they are. Left out are comparisons inside of loops, and
those that fall both ways at the given input.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from handprop.verifier.along_domains import reached
from handprop.verifier.checks.evaluators import as_users
from handprop.verifier.checks.sampling import sample
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs, walk, widen

__all__ = ["crossed"]

TWO = ("gt", "ge", "lt", "le", "max", "min")
WITHIN = ("scan", "while", "cond")
MAX = 32  # comparisons
MAX_ALONE = 4
STEPS = 12
SAMPLES = 3  # that are tried where the given input lies at an end of its domain
BEYOND = (1e-3, 0.3)  # of the numbers' size, how far beyond equality
PULL = 2  # a program with its gradient compiles like so many programs
Entry = tuple[int, tuple[int, ...]]
Way = tuple[tuple[int, ...], bool]  # arguments that are moved, by their steepest entry alone or as a whole
Look = Callable[[Sequence[Any], Entry | None], tuple[list[np.ndarray], list[np.ndarray]]]


def crossed(problem: Problem, options: Options) -> Iterator[tuple[Any, ...]]:
    """Inputs beside the given ones, on the other side of one comparison each; none where programs are too large."""
    samples = (sample(problem, options, i) for i in range(1 + SAMPLES))
    given = next((inputs for inputs in samples if reached(problem, inputs)), None)
    if given is None:
        return
    places = problem.moving
    for program in as_users(problem):
        look = _look(problem, program)
        if look is None:
            continue
        gaps = look(given, None)[0]
        for k in [k for k, gap in enumerate(gaps) if not _falls_both_ways(gap)][:MAX]:
            for entry in _entries(gaps[k], options.rng(13, k)):
                for way, beyond in itertools.product(_ways(places), BEYOND):
                    if options.seconds_left < 0:
                        return
                    with np.errstate(all="ignore"):
                        found = list(_through(look, places, way, given, (k, entry), beyond))
                    yield from found


def _ways(places: Sequence[int]) -> Iterator[Way]:
    """The steepest entry of each of the first arguments alone, each of these alone, so that the others keep what they
    were found to have, and all of them."""
    for place in places[:MAX_ALONE]:
        yield from (((place,), True), ((place,), False))
    if len(places) > 1:
        yield tuple(places), False


def _falls_both_ways(gap: np.ndarray) -> bool:
    return not gap.size or bool((gap > 0).any() and (gap < 0).any())


def _entries(gap: np.ndarray, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """The one that is nearest to the other side, and another."""
    nearest = int(np.argmin(np.where(np.isfinite(gap), np.abs(gap), np.inf)))
    chosen = dict.fromkeys([nearest, int(rng.integers(gap.size))])
    return [tuple(map(int, np.unravel_index(n, gap.shape))) for n in chosen]


def _through(look: Look, places: Sequence[int], way: Way, given: Sequence[Any], entry: Entry,
             beyond: float) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    """Where Newton's steps have come to the other side."""
    inputs, (k, at) = tuple(given), entry
    gaps, slopes = look(inputs, entry)
    first = float(gaps[k][at])
    target = -np.sign(first) * beyond * (abs(first) or 1.0)
    for _ in range(STEPS):
        steps = {i: _steepest(s) if way[1] else s for i, s in zip(places, slopes, strict=True) if i in way[0]}
        gap, steep = float(gaps[k][at]), sum(float(np.sum(s * s)) for s in steps.values())
        if not (np.isfinite(gap) and np.isfinite(steep) and steep > 0) or gap == target:
            return
        with jax.enable_x64(True):
            parts = [executables.array(np.asarray(inputs[i]) - (gap - target) / steep * s) for i, s in steps.items()]
        inputs = tuple(jaxprs.with_replaced(inputs, list(steps), parts))
        gaps, slopes = look(inputs, entry)
        if np.sign(gaps[k][at]) == np.sign(target):
            yield inputs


def _steepest(slope: np.ndarray) -> np.ndarray:
    return np.where(np.arange(slope.size).reshape(slope.shape) == np.argmax(np.abs(slope)), slope, 0.0)


def _look(problem: Problem, program: Any) -> Look | None:
    """The differences of the numbers that a program compares, and the gradient of one of them by the inputs; None where
    there are none, or where that is not to be had."""
    places = problem.moving
    names = {eqn.primitive.name for eqn in jaxprs.equations(program)}
    if not names & {*TWO, "clamp"} or not executables.compile_within([program] * PULL, problem.compiling):
        return None

    def run(inputs: Sequence[Any], weights: Sequence[Any]) -> Any:
        gaps, pull = jax.vjp(lambda *x: _compared(program, jaxprs.with_replaced(inputs, places, x)),
                             *(inputs[i] for i in places))  # fmt: skip
        return gaps, pull(list(weights))

    with jax.enable_x64(True):
        wide = tuple(jaxprs.widened(x) for x in problem.inputs)
        try:
            shapes = [gap.shape for gap in jax.eval_shape(lambda inputs: _compared(program, inputs), wide)]
            compiled = executables.compiled(run, wide, [np.zeros(s) for s in shapes], programs=[program] * PULL,
                                            seconds=problem.compiling)  # fmt: skip
        except Exception as error:  # a loop that JAX does not differentiate, a primitive without a derivative
            noted(error, "the search for other sides of comparisons")
            return None

    def look(inputs: Sequence[Any], entry: Entry | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        weights = [np.zeros(s) for s in shapes]
        if entry is not None:
            weights[entry[0]][entry[1]] = 1.0
        with jax.enable_x64(True):
            gaps, slopes = compiled(tuple(inputs), weights)
        return [np.asarray(x) for x in gaps], [np.asarray(x) for x in slopes]

    return look


def _compared(program: Any, inputs: Sequence[Any]) -> list[Any]:
    """The differences of all numbers that are compared outside of loops."""
    found: list[Any] = []
    within: list[Any] = []

    @contextlib.contextmanager
    def around(eqn: Any) -> Iterator[None]:
        before = len(within)
        within.extend([eqn] * (eqn.primitive.name in WITHIN))
        yield
        del within[before:]

    def leaf(eqn: Any, values: list[Any]) -> list[Any]:
        if not within and jaxprs.is_float(values[0].dtype):
            if eqn.primitive.name in TWO:
                found.append(values[0] - values[1])
            elif eqn.primitive.name == "clamp":
                found.extend((values[1] - values[0], values[1] - values[2]))
        return [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]

    walk.run(program, [jaxprs.widened(x) for x in inputs], leaf, constant=jaxprs.as_written, around=around, ends=True)
    return found
