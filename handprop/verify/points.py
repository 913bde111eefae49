"""Both programs in float64 at sampled points, each entry with the most that rounding can do to it.

The bound is measured, not tuned: each program runs again with every float that a primitive which rounds returns
multiplied by ``1 + eta u``, u uniform in [-1, 1] and ``eta = (64 + K) 2^-52``, K the longest sum. That is the
error analysis of one run of the program with a unit roundoff at least 64 times the real one (a sum of K terms
rounds to within ``K 2^-53`` of its terms' size). An entry where the two programs differ by more than ``8`` times
the largest change seen in ``DRAWS`` such runs of each, plus ``4 eta`` of itself, differs by more than rounding can
explain. The runs with noise are only made where the two differ by more than ``4 eta``, or where the bound is asked for.
Source: Monte Carlo arithmetic, Parker (1997).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.report import Check, Counterexample, Outcome, Worst
from handprop.verify.subject import Subject

__all__ = [
    "NONDETERMINISTIC",
    "Evaluator",
    "Point",
    "compared",
    "evaluators",
    "failure",
    "in_float64",
    "is_defined",
    "repeats",
    "sample",
    "untraceable",
    "worst_entry",
    "wrong_outputs",
]

NONDETERMINISTIC = "two runs on one input differ"
DRAWS = 3
SAFETY = 8.0
ROUNDINGS = 64
Outputs = list[np.ndarray]


class Evaluator(NamedTuple):
    """``clean(inputs)``: outputs by hand and by the reference; ``rough(inputs, seed)``: the same with noise of eta."""

    clean: Callable[[Sequence[Any]], tuple[Outputs, Outputs]]
    rough: Callable[[Sequence[Any], int], tuple[Outputs, Outputs]]
    eta: float


class Point(NamedTuple):
    """What one input gave: outputs by hand and by the reference in float64, and each entry's bound."""

    inputs: tuple[Any, ...]
    got: Outputs
    want: Outputs
    bound: Outputs


def evaluators(subject: Subject) -> Iterator[Evaluator]:
    """The programs traced in float64, where the numbers of their text keep their digits, then as they are.

    A number that the text itself makes a float32 is only read as what it was written as in the second. A program is
    refuted when both readings of it are. A reading that cannot be traced is left out; compiled once for all checks.
    """
    with jax.enable_x64(True):
        wide = tuple(jaxprs.widened(x) for x in subject.inputs)
    same = all(w.dtype == x.dtype for w, x in zip(wide, subject.inputs, strict=True))
    for i, inputs in enumerate([subject.inputs] if same else [wide, subject.inputs]):
        if i not in subject.kept:
            try:
                subject.kept[i] = _compiled(subject, inputs)
            except Exception:  # whatever JAX raises where a program is not to be had in float64
                subject.kept[i] = None
        if subject.kept[i] is not None:
            yield subject.kept[i]


def _compiled(subject: Subject, inputs: tuple[Any, ...]) -> Evaluator:
    with jax.enable_x64(True):
        programs = [jaxprs.trace(f, inputs) for f in (subject.hand, subject.reference)]
        eta = (ROUNDINGS + max(jaxprs.longest_sum(program) for program in programs)) * 2.0**-52
        widened = [jaxprs.widen(program) for program in programs]
        clean = jax.jit(lambda inputs: [f(inputs, None, None) for f in widened]).lower(
            tuple(jaxprs.widened(x) for x in inputs)).compile()  # fmt: skip
        rough = jax.jit(lambda inputs, seed: [
            f(inputs, eta, seed + jnp.uint32(i << 16)) for i, f in enumerate(widened)])  # fmt: skip

    def arrays(outputs: Any) -> tuple[Outputs, Outputs]:
        got, want = ([np.asarray(x) for x in program] for program in outputs)
        return got, want

    def run(f: Callable, *args: Any) -> tuple[Outputs, Outputs]:
        with jax.enable_x64(True):
            return arrays(f(*args))

    return Evaluator(lambda inputs: run(clean, tuple(inputs)),
                     lambda inputs, seed: run(rough, tuple(inputs), np.uint32(seed)), eta)  # fmt: skip


def in_float64(f: Callable, inputs: Sequence[Any]) -> Callable[[Sequence[Any]], Outputs]:
    """``f`` traced at these inputs and run in float64, compiled once."""
    with jax.enable_x64(True):
        program = jaxprs.widen(jaxprs.trace(f, inputs))
        compiled = jax.jit(lambda inputs: program(inputs, None, None))

    def run(inputs: Sequence[Any]) -> Outputs:
        with jax.enable_x64(True):
            return [np.asarray(x) for x in compiled(tuple(inputs))]

    return run


def untraceable(name: str) -> Check:
    """What a check says where there is no evaluator."""
    return Check(name, Outcome.UNDECIDED, "the programs cannot be traced in float64", {})


def sample(subject: Subject, options: Options, i: int) -> tuple[Any, ...]:
    """The user's own inputs first, then normal ones of their scale, cotangents of other signs throughout.

    Numbers that are all positive, such as those a logarithm is taken of, stay inside what they span at every other
    sample, so that not all of them miss where the function is defined.
    """
    with jax.enable_x64(True):
        if i == 0:
            return tuple(jaxprs.widened(x) for x in subject.inputs)
        rng = options.rng(4, i)
        factor = (1.0, 1.0, 0.25)[i % 3]
        return tuple(
            _free(x, rng, factor, subject.domains[j].spread) if j in subject.domains else _moved(x, rng, factor, i % 2)
            for j, x in enumerate(subject.inputs)
        )


def _moved(x: Any, rng: np.random.Generator, factor: float, spanned: bool | int) -> Any:
    wide = np.asarray(x, np.float64) if jaxprs.is_float(x.dtype) else np.zeros(0)
    if not (spanned and wide.size and (wide > 0).all()):
        return _free(x, rng, factor)
    finite = np.isfinite(wide)
    drawn = rng.uniform(wide.min() / 2, max(wide[finite].max(initial=0.0), wide.min()), wide.shape)
    return jnp.asarray(np.where(finite, drawn, wide))


def _free(x: Any, rng: np.random.Generator, factor: float, spread: float | None = None) -> Any:
    """Normal numbers of the given ones' scale, or of ``spread``; what is not finite stays as it is."""
    if not jaxprs.is_float(x.dtype):
        return x
    wide = np.asarray(x, np.float64)
    finite = np.isfinite(wide)
    scale = spread or (np.sqrt(np.mean(wide[finite] ** 2)) if finite.any() else 1.0)
    return jnp.asarray(np.where(finite, rng.normal(size=wide.shape) * (scale or 1.0) * factor, wide))


def compared(evaluator: Evaluator, inputs: tuple[Any, ...], seed: int, measured: bool = False) -> Point:
    """Both programs at one input; the bound measured where asked for, or where the two differ."""
    got, want = evaluator.clean(inputs)
    with np.errstate(all="ignore"):
        least = [4 * evaluator.eta * np.abs(w) for w in want]
    if not measured and not any(_beyond(*leaf).any() for leaf in zip(got, want, least, strict=True)):
        return Point(inputs, got, want, least)
    change = [np.zeros(x.shape) for x in want]
    for draw in range(DRAWS):
        rough = evaluator.rough(inputs, 1 + draw + DRAWS * seed)
        for clean, noisy in zip((got, want), rough, strict=True):
            for k, (c, r) in enumerate(zip(clean, noisy, strict=True)):
                with np.errstate(all="ignore"):
                    change[k] = np.fmax(change[k], np.abs(r - c))
    return Point(inputs, got, want, [SAFETY * c + b for c, b in zip(change, least, strict=True)])


def _beyond(got: np.ndarray, want: np.ndarray, bound: np.ndarray, defined: bool = True) -> np.ndarray:
    """By how many times its bound each entry is off, where that is more than once; 0 elsewhere.

    A gradient that is not finite is only off where the function's own values are ``defined``.
    """
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        lost = defined & np.isfinite(want) & np.isfinite(bound) & ~np.isfinite(got)
        times = np.where(np.isfinite(error), error / np.maximum(bound, 5e-324), 0.0)
    return np.where(lost, np.inf, np.where(times > 1, times, 0.0))


def is_defined(subject: Subject, point: Point) -> bool:
    """Whether the reference's values, of which the others are gradients, are finite."""
    return all(gradient or np.isfinite(want).all()
               for gradient, want in zip(subject.gradients, point.want, strict=True))  # fmt: skip


def worst_entry(subject: Subject, point: Point) -> Worst | None:
    """The entry furthest beyond its bound, None where none is."""
    found: tuple[float, Worst] | None = None
    defined = is_defined(subject, point)
    for path, got, want, bound in zip(subject.out_paths, point.got, point.want, point.bound, strict=True):
        beyond = _beyond(got, want, bound, defined)
        if beyond.size and beyond.max() > (found[0] if found else 0):
            index = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
            unit = float(np.spacing(max(abs(want[index]), 2.0**-1022)))
            with np.errstate(all="ignore"):
                ulps, most = (float(np.float64(x) / unit) for x in (abs(got[index] - want[index]), bound[index]))
            entry = Worst(path, tuple(map(int, index)), float(got[index]), float(want[index]), ulps, most)
            found = (float(beyond.max()), entry)
    return found[1] if found else None


def wrong_outputs(subject: Subject, point: Point) -> set[int]:
    """The outputs with an entry beyond its bound."""
    defined = is_defined(subject, point)
    leaves = zip(point.got, point.want, point.bound, strict=True)
    return {k for k, leaf in enumerate(leaves) if _beyond(*leaf, defined).any()}


def repeats(evaluator: Evaluator, point: Point) -> bool:
    """Whether both programs return the same bits when they run on the point's input again."""
    again = evaluator.clean(point.inputs)
    pairs = zip((*point.got, *point.want), (*again[0], *again[1]), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def failure(name: str, subject: Subject, evaluator: Evaluator, point: Point, worst: Worst, where: str,
            seconds: float) -> Check:  # fmt: skip
    """A check that fails, with the input that shows it and what runs it again."""
    position = subject.out_paths.index(worst.path)

    def replay(arrays: tuple[np.ndarray, ...]) -> tuple[float, float]:
        with jax.enable_x64(True):
            rest = iter(arrays)
            arguments = [x if _is_key(x) else jnp.asarray(next(rest)) for x in point.inputs]
        inputs = tuple(point.inputs[i] if i in subject.domains else x for i, x in enumerate(arguments))
        got, want = evaluator.clean(inputs)
        return float(got[position][worst.index]), float(want[position][worst.index])

    with jax.enable_x64(True):
        arguments = [subject.domains[i].from_free(x) if i in subject.domains else x for i, x in enumerate(point.inputs)]
    named = tuple((path, np.asarray(x)) for path, x in zip(subject.in_paths, arguments, strict=True)
                  if not _is_key(x))  # fmt: skip
    index = list(worst.index)
    shows = f"{worst.path}{index} is {worst.got:.9g} by hand, {worst.want:.9g} by the reference, {where}"
    return Check(name, Outcome.FAILS, shows, {}, worst, Counterexample(named, worst, replay), seconds)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)
