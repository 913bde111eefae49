"""Evaluation of both programs in one random interpretation."""

from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.folded import Folded
from handprop.verifier.proof.field.arithmetic import Field, draw_prime
from handprop.verifier.proof.field.constant_steps import constant_steps
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.errors import NeedsBranches, NoSquare, Unsupported
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Everywhere, Value
from handprop.verifier.proof.field.work import Work

__all__ = ["Evaluation", "Pair", "Reading", "drawn", "drawn_inputs", "evaluated", "evaluated_at", "new_run", "same"]


MAX_PRIMES = 256


class Reading(NamedTuple):
    """How runs interpret both programs.

    ``rational``: literals are read as the simplest numbers that round to them. ``branching``: comparisons are decided.
    ``decides_domains``: that the argument of log, sqrt and the like is in its domain is decided, instead of assumed.
    ``claiming``: two analytic unknowns are claimed to be equal almost nowhere, instead of this being decided.

    ``by_signs``: a comparison that the signs of its operands decide is not drawn. The rules may show the sign of an
    element in one program and not show the sign of the same element in the other. The other program then draws the
    comparison, and may differ for that reason alone, so that a reading without ``by_signs`` is tried too. The sign
    found in one program is never kept for the other: it may hold only under the decisions of this run, and decisions
    that depend on others in this way would not be independent.
    """

    rational: bool = False
    branching: bool = False
    decides_domains: bool = False
    claiming: bool = True
    by_signs: bool = True


class Pair(NamedTuple):
    """Both programs with their inputs, and how they are evaluated.

    ``thresholds``: the numbers that unknowns are compared with, None where nothing is decided. ``batch``: the number of
    points drawn at once. ``entries``: the number of entries that are the same function, each of its own entries of the
    inputs, so that each counts as a point too. ``sample``: the shape of the entries that are evaluated, where there are
    too many to evaluate all. ``calls``, ``roots``: the numbers of oracle calls and of roots at one point, where many
    are drawn at once. ``claim_bits``: the bits of the decisions that one claim rests on. ``folded``: the literals that
    rational readings take for numbers that the programs compute. ``square_numbers``: whether primes are drawn again
    until all known numbers under roots are squares, so that their roots are multiplicative, as those of positive
    numbers. ``number_relations``: how many products of such numbers may then be squares of numbers whose sign the
    field does not know.
    """

    reference: Any
    candidate: Any
    inputs: tuple[Any, ...]
    thresholds: tuple[float, ...] | None
    reading: Reading
    work: Work
    batch: int = 1
    entries: int = 1
    sample: tuple[int, ...] | None = None
    calls: int = 0
    roots: int = 0
    claim_bits: float = 0.0
    folded: Folded = MappingProxyType({})
    square_numbers: bool = False
    number_relations: int = 0

    @property
    def points(self) -> int:
        """The number of points that a run stands for."""
        return self.batch * self.entries


class Evaluation(NamedTuple):
    """One run at ``inputs``: the first output that differs in it, and a bound on how large the difference may be."""

    run: Run
    inputs: tuple[Thing, ...]
    differs: int | None
    degree: Bound


def evaluated(pair: Pair, rng: np.random.Generator, decisions: list[np.ndarray] | None = None) -> Evaluation:
    """Evaluate both programs in a new random interpretation, at random inputs; ``decisions`` repeats those of another
    run."""
    for _ in range(MAX_PRIMES if pair.square_numbers else 1):
        field, seed = Field(draw_prime(rng)), int(rng.integers(2**62))
        run = new_run(pair, field, seed, replayed=None if decisions is None else iter(decisions))
        try:
            return evaluated_at(pair, run, drawn_inputs(pair, run, rng))
        except NoSquare:
            continue
    raise Unsupported("roots of numbers that are squares modulo too few primes")


def evaluated_at(pair: Pair, run: Run, inputs: tuple[Thing, ...]) -> Evaluation:
    """Evaluate both programs at these inputs. If a divisor may be zero, first find the steps that do not depend on
    what is loose (:func:`constant_steps`), and evaluate again with their results no longer loose."""
    try:
        return _at(pair, run, inputs)
    except NeedsBranches:
        if run.branching:
            raise
        constant = constant_steps(lambda probe: _at(pair, new_run(pair, run.field, run.seed, probe=probe), inputs).run)
        if not any(constant):
            raise
        again = new_run(pair, run.field, run.seed, constant_steps=constant, observer=run.observer, claims=run.claims)
        return _at(pair, again, inputs)


def new_run(pair: Pair, field: Field, seed: int, **others: Any) -> Run:
    reading = pair.reading
    return Run(field, seed, reading.rational, pair.thresholds, sample=pair.sample,
               decides_domains=reading.decides_domains, claiming=reading.claiming, by_signs=reading.by_signs,
               least_bits=_least(pair, "nmant"), least_exponent=_least(pair, "maxexp"), work=pair.work,
               decided_on=[] if pair.points > 1 else None, folded=pair.folded,
               square_numbers=pair.square_numbers, number_relations=pair.number_relations, **others)  # fmt: skip


def _at(pair: Pair, run: Run, inputs: tuple[Thing, ...]) -> Evaluation:
    """Evaluate both programs at these inputs, once."""
    want = evaluate(run, pair.reference, list(inputs))
    got = evaluate(run, pair.candidate, list(inputs))
    if run.masks and any(isinstance(x, Value) and x.special is not None and x.special.any() for x in (*want, *got)):
        raise Unsupported("a number that stands for minus infinity in an output")
    differs = next((i for i, (a, b) in enumerate(zip(want, got, strict=True)) if not _same(run, a, b)), None)
    values = [(a, b) for a, b in zip(want, got, strict=True) if isinstance(a, Value) and isinstance(b, Value)]
    return Evaluation(run, inputs, differs, reduce(Bound.worst, (a.degree + b.degree for a, b in values), Bound()))


def _least(pair: Pair, what: str) -> int:
    """Mantissa bits, or the largest exponent, of the narrowest float that is given or returned. A cast to fewer is the
    program's own choice."""
    avals = [*(v.aval for v in pair.reference.jaxpr.invars), *pair.reference.out_avals]
    return min((getattr(ml_dtypes.finfo(a.dtype), what) for a in avals if jaxprs.is_float(a.dtype)), default=0)


def _same(run: Run, a: Thing, b: Thing) -> bool:
    if isinstance(a, Value) or isinstance(b, Value):
        return same(run.field, as_value(run, a), as_value(run, b))
    left, right = (jax.random.key_data(x) if jaxprs.is_key(x) else x for x in (a, b))
    return np.array_equal(np.asarray(left), np.asarray(right))


def drawn_inputs(pair: Pair, run: Run, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Draw all inputs of both programs for a run."""
    return tuple(drawn(run.field, x, rng, run.shape_of(x.shape)) for x in pair.inputs)


def drawn(field: Field, x: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> Thing:
    """An input over the field: floats are drawn at random in this shape; integers and keys stay as they are."""
    if not jaxprs.is_float(x.dtype):
        return x if jaxprs.is_key(x) else np.asarray(x)
    return Value(field.draw(rng, shape), VARIABLE, everywhere=Everywhere.ANALYTIC)


def same(field: Field, a: Value, b: Value) -> bool:
    """Whether two arrays are equal, infinities and NaN included."""
    if a.shape != b.shape:
        return False
    specials = [np.zeros(v.shape, np.int8) if v.special is None else v.special for v in (a, b)]
    return bool(field.is_zero(field.sub(a.x, b.x)).all()) and bool((specials[0] == specials[1]).all())
