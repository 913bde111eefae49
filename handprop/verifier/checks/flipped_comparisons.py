"""Inputs at which one comparison has another outcome than at the given input.

Two programs may agree at all samples and differ where a comparison seldom holds: in the shell of a switching function,
inside an obstacle, below a clamp. Let ``d(x) = a - b`` be the difference of two numbers that are compared. Newton's
steps ``x <- x - (d - t) grad d / |grad d|^2`` lead from the given input to where d is t, a number of the opposite sign.
This is the shortest way to first order, so most other comparisons keep their outcomes. Comparisons inside loops, and
those with both outcomes at the given input, are left out.
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
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs, running, widen
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["flipped"]

TWO = (Trait.ORDER, Trait.EXTREME)
MAX = 32  # comparisons
MAX_ALONE = 4
STEPS = 12
SAMPLES = 3  # the samples that are tried where the given input lies at an end of its domain
BEYOND = (1e-3, 0.3)  # how far beyond equality, relative to the numbers' size
PULL = 2  # compiling a program with its gradient takes as long as this many programs
Entry = tuple[int, tuple[int, ...]]
Way = tuple[tuple[int, ...], bool]  # arguments that move, and whether only their steepest entry does
Look = Callable[[Sequence[Any], Entry | None], tuple[list[np.ndarray], list[np.ndarray]]]


def flipped(problem: Problem, options: Options) -> Iterator[tuple[Any, ...]]:
    """Yield inputs near the given ones, each on the other side of one comparison; none if programs are too large."""
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
            for entry in _entries(gaps[k], options.rng(Stream.COMPARISONS, k)):
                for way, beyond in itertools.product(_ways(places), BEYOND):
                    if options.seconds_left < 0:
                        return
                    with np.errstate(all="ignore"):
                        found = list(_through(look, places, way, given, (k, entry), beyond))
                    yield from found


def _ways(places: Sequence[int]) -> Iterator[Way]:
    """Yield which arguments move: each of the first ones by its steepest entry, each of them alone, and all together.

    Where one moves alone, the others keep the properties that they were found to have.
    """
    for place in places[:MAX_ALONE]:
        yield from (((place,), True), ((place,), False))
    if len(places) > 1:
        yield tuple(places), False


def _falls_both_ways(gap: np.ndarray) -> bool:
    return not gap.size or bool((gap > 0).any() and (gap < 0).any())


def _entries(gap: np.ndarray, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the entry that is nearest to the other side, and a random one."""
    nearest = int(np.argmin(np.where(np.isfinite(gap), np.abs(gap), np.inf)))
    chosen = dict.fromkeys([nearest, int(rng.integers(gap.size))])
    return [tuple(map(int, np.unravel_index(n, gap.shape))) for n in chosen]


def _through(look: Look, places: Sequence[int], way: Way, given: Sequence[Any], entry: Entry,
             beyond: float) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    """Yield the inputs at which Newton's steps have reached the other side."""
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
    """Compile the differences of the numbers that a program compares, with the gradient of one of them.

    None where there are no such numbers, or where their gradient cannot be computed.
    """
    places = problem.moving
    compares = any(has(eqn, *TWO, Trait.BOUNDS) for eqn in jaxprs.equations(program))
    if not compares or not executables.compile_within([program] * PULL, problem.compiling):
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
        except Exception as error:  # a loop that JAX does not differentiate, or a primitive without a derivative
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
    """Return the differences of all numbers that are compared outside loops."""
    found: list[Any] = []
    within: list[Any] = []

    @contextlib.contextmanager
    def around(eqn: Any) -> Iterator[None]:
        before = len(within)
        within.extend([eqn] * has(eqn, Trait.LOOPS))
        yield
        del within[before:]

    def leaf(eqn: Any, values: list[Any]) -> list[Any]:
        if not within and values and jaxprs.is_float(values[0].dtype):
            if has(eqn, *TWO):
                found.append(values[0] - values[1])
            elif has(eqn, Trait.BOUNDS):
                found.extend((values[1] - values[0], values[1] - values[2]))
        return [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]

    running.run(
        program, [jaxprs.widened(x) for x in inputs], leaf, constant=jaxprs.as_written, around=around, cut_loops=True
    )
    return found
