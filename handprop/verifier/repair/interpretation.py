"""A random interpretation in which edits are evaluated, with the reference's outputs in it.

Everything is exact: two arrays are equal or they are not, whatever the size of the difference.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.checks.sampling import sample
from handprop.verifier.internal import noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.evaluation import drawn, same
from handprop.verifier.proof.field.arithmetic import Elements, Field, draw_prime, reconstructed
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.proof.field.work import Work
from handprop.verifier.proof.trials import with_negatives
from handprop.verifier.repair.numbers import as_number, step_in_numbers
from handprop.verifier.repair.remembered import Results, evaluate_again

__all__ = ["Interpretation", "affected", "entries_of", "rational", "results_of", "run_on", "set_up", "wrong"]

MAX_ENTRIES, MAX_KEPT = 1 << 22, 1 << 12
LARGEST = 1 << 24


class CachedField(Field):
    """A field that caches roots and inverses: they cost most, and edited programs differ little from each other."""

    def __init__(self, p: int):
        super().__init__(p)
        self.kept: dict[tuple, Any] = {}

    def _inv(self, a: np.ndarray) -> np.ndarray:
        return self._once("inv", a, super()._inv)

    def sqrt(self, a: np.ndarray) -> Elements:
        return self._once("sqrt", a, super().sqrt)

    def _once(self, name: str, a: np.ndarray, f: Callable) -> Any:
        if a.size > MAX_KEPT:
            return f(a)
        key = (name, a.shape, a.tobytes())
        if key not in self.kept:
            self.kept[key] = f(a)
        return self.kept[key]


class CachedRun(Run):
    """A run that embeds each constant once."""

    def embed(self, array: np.ndarray, read: bool = True) -> Value:
        if array.size > MAX_KEPT:
            return super().embed(array, read)
        key = ("embed", array.dtype, array.shape, array.tobytes(), read)
        if key not in self.memo:
            self.memo[key] = super().embed(array, read)
        return self.memo[key]


class RunOfNumbers(CachedRun):
    """A run in which every value is a number."""

    step = staticmethod(step_in_numbers)

    def embed(self, array: np.ndarray, read: bool = True) -> Value:
        return as_number(self, jaxprs.as_written(array) if read else array)


class Interpretation(NamedTuple):
    """A random interpretation of the inputs, and the reference's outputs in it.

    ``thresholds`` and ``rational`` are as in :class:`Run`. ``inputs`` are drawn over the field, or are ``numbers`` if
    the field does not interpret the programs (:mod:`repair.numbers`). ``want`` holds the reference's outputs. ``work``
    counts the work of everything that runs here. ``blamed`` are the numbers of the outputs that are wrong in floats,
    where that is known.
    """

    field: Field
    seed: int
    thresholds: tuple[float, ...] | None
    inputs: tuple[Thing, ...]
    shapes: tuple[Any, ...]
    want: tuple[Value, ...]
    memo: dict
    work: Work
    rational: bool = True
    numbers: bool = False
    blamed: frozenset[int] = frozenset()

    def run(self, observer: Callable[..., list] | None = None) -> Run:
        small = sum(v.x.size for v in self.want) <= MAX_KEPT
        memo = self.memo if small else {}
        kind = RunOfNumbers if self.numbers else CachedRun
        return kind(self.field, self.seed, self.rational, self.thresholds, memo=memo, observer=observer, work=self.work)


def set_up(problem: Problem, options: Options, work: Work) -> tuple[Interpretation, ...]:
    """Return an interpretation for each reading of comparisons in which the fewest candidate outputs are wrong.

    If only one reading sees an output as equal, the output counts as equal. Where no reading supports both programs,
    every value is a number in float64.

    Raises:
        Unsupported: no reading supports both programs, or none sees a difference.
    """
    rng = options.rng(Stream.INTERPRETATIONS)
    field, seed = CachedField(draw_prime(rng)), int(rng.integers(2**62))
    inputs = tuple(drawn(field, x, rng, x.shape) for x in problem.inputs)
    reference = jaxprs.trace(problem.reference, problem.inputs)
    try:
        candidate = jaxprs.trace(problem.candidate, problem.inputs)
    except Exception as error:  # a rule with a structural fault may not run
        if not problem.faults:
            raise
        noted(error)
        candidate = None
    sizes = [int(np.prod(v.aval.shape)) for e in reference.jaxpr.eqns for v in e.outvars]
    if sum(sizes) > MAX_ENTRIES:
        raise Unsupported("too large to evaluate many edits")
    blank = Interpretation(field, seed, None, inputs, problem.inputs, (), {}, work)
    for rational in (True, False):  # reading a literal as a simpler number may make every program look wrong
        found = _seen(problem, blank._replace(rational=rational), reference, candidate)
        if found:
            least = min(number for number, _ in found.values())
            return tuple(interpretation for number, interpretation in found.values() if number == least)
    blank = blank._replace(numbers=True)
    found = _seen(problem, blank._replace(inputs=_as_numbers(problem, options, blank.run())), reference, candidate)
    if not found:
        raise Unsupported("no reading sees a difference")
    return tuple(interpretation for _, interpretation in found.values())


def _as_numbers(problem: Problem, options: Options, run: Run) -> tuple[Thing, ...]:
    """Return sampled inputs as known numbers."""
    return tuple(run.embed(np.asarray(x), read=False) if jaxprs.is_float(x.dtype) else _as_given(x)
                 for x in sample(problem, options, 1))  # fmt: skip


def _as_given(x: Any) -> Thing:
    return x if jaxprs.is_key(x) else np.asarray(x)


def _seen(
    problem: Problem, blank: Interpretation, reference: Any, candidate: Any
) -> dict[bool, tuple[int, Interpretation]]:
    """Return the number of wrong outputs and the interpretation that sees them, by reading of comparisons.

    The key is True if comparisons are read as numbers, False if their truth is drawn.
    """
    found: dict[bool, tuple[int, Interpretation]] = {}
    thresholds: tuple[float, ...] | None = None
    for _ in range(5):
        interpretation = blank._replace(thresholds=thresholds, memo={})
        runs = interpretation.run(), interpretation.run()
        try:
            want = tuple(as_value(runs[0], o) for o in evaluate(runs[0], reference, list(interpretation.inputs)))
            got = (
                tuple(as_value(runs[1], o) for o in evaluate(runs[1], candidate, list(interpretation.inputs)))
                if candidate
                else ()
            )
        except Unsupported:
            if thresholds is not None:
                break
            thresholds = (0.0,)
            continue
        compared = runs[0].compared | runs[1].compared
        if thresholds is not None and not compared <= set(thresholds):
            thresholds = with_negatives(thresholds, compared)
            continue
        interpretation = interpretation._replace(want=want)
        number = len(wrong(interpretation, got)) if candidate else 1
        if number or problem.faults:
            found[thresholds is None] = number, interpretation
        if thresholds is not None or (
            candidate and not runs[0].unknown_comparisons and not runs[1].unknown_comparisons
        ):
            break
        thresholds = (0.0,)
    return found


def run_on(
    interpretation: Interpretation, program: Any, observer: Callable[..., list] | None = None
) -> tuple[Value, ...]:
    run = interpretation.run(observer)
    if observer is not None:
        return tuple(as_value(run, o) for o in evaluate(run, program, list(interpretation.inputs)))
    outputs = evaluate_again(run, results_of(interpretation), program, interpretation.inputs)
    return tuple(as_value(run, o) for o in outputs)


def results_of(interpretation: Interpretation) -> Results:
    """Return what equations of edited programs gave."""
    return interpretation.memo.setdefault("results", Results())


def wrong(interpretation: Interpretation, got: tuple[Value, ...]) -> list[int]:
    """Return the numbers of the outputs that differ from the reference's."""
    return [
        i for i, (a, b) in enumerate(zip(interpretation.want, got, strict=True)) if not same(interpretation.field, a, b)
    ]


def affected(interpretation: Interpretation, got: tuple[Value, ...]) -> list[int]:
    """Return the wrong outputs that are wrong in floats too, or all wrong ones if none is.

    An output that is wrong over the field alone may be right and only computed in another way.
    """
    found = wrong(interpretation, got)
    return [i for i in found if i in interpretation.blamed] or found


def entries_of(x: Elements) -> np.ndarray:
    """Return the real parts and then the imaginary parts as one flat array."""
    return np.concatenate([x.re.ravel(), x.imaginary().ravel()])


def rational(p: int, residue: int) -> tuple[int, int] | None:
    """Recover the fraction with small numerator and denominator from its residue."""
    s, t = reconstructed(p, residue, math.isqrt(p // 2))
    if t == 0 or abs(t) > LARGEST or abs(s) > LARGEST:
        return None
    return (s, t) if t > 0 else (-s, -t)
