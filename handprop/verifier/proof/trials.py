"""Runs of both programs over finite fields, as many as the bound needs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from handprop.verifier.problem import Problem
from handprop.verifier.programs.folded import Folded
from handprop.verifier.programs.primitives import Kind, Trait, least_kind, named
from handprop.verifier.proof.batching import MAX_RUNS, at_many_points
from handprop.verifier.proof.bound import (
    RESTARTS,
    Trial,
    chances_of,
    decided_alike,
    enough,
    log2_false,
    missed_with_decisions,
    relation_counts,
    with_relations,
)
from handprop.verifier.proof.decision_bits import Bits, decision_bits
from handprop.verifier.proof.entrywise import like_entries
from handprop.verifier.proof.evaluation import Evaluation, Pair, Reading, evaluated
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.work import Work

__all__ = ["run_trials", "with_negatives"]

MAX_THRESHOLDS = 15
ENOUGH_ENTRIES = 1 << 12
SPARE_RUNS = 24


def run_trials(problem: Problem, reference: Any, candidate: Any, rng, reading: Reading, wanted: float, work: Work,
               folded: Folded) -> tuple[Pair, list[Trial]]:  # fmt: skip
    """Run both programs until the bound is reached; return the pair in the form that was run last, and its runs.

    The runs also stop when an output differs, when the last run bounds nothing, when the number of runs or the work
    reaches its limit, or when the work that is left is too little for the runs that are needed.

    They start anew, and earlier runs are discarded, when

    1. an unknown was compared with a number that is not a threshold; it then becomes one;
    2. other arguments of oracles were equal than in the first run, so that one of the two had an collision;
    3. a primitive's result was of a worse kind than the count of decisions assumes, for example because the function
       is not understood;
    4. an output differed where a number under a root is no square modulo the prime: all such numbers are then to be
       squares;
    5. the first run drew decisions, and the programs can be batched, so that each run stands for many points.

    Raises:
        Unsupported: each of ``RESTARTS`` attempts had to start anew.
    """
    entries = like_entries((reference, candidate), problem.inputs)
    thresholds, sample = (0.0,) if reading.branching else None, None
    if entries > ENOUGH_ENTRIES:
        entries, sample = ENOUGH_ENTRIES, (ENOUGH_ENTRIES,)
    pair = Pair(reference, candidate, problem.inputs, thresholds, reading, work, 1, entries, sample, folded=folded)
    kinds = dict.fromkeys(named(Trait.OF_POSITIVE), Kind.ANALYTIC)
    for _ in range(RESTARTS):
        before, trials = work.spent, list[Trial]()
        bits, claim_bits = _decision_bits(pair, kinds, reference, candidate)
        pair = pair._replace(claim_bits=claim_bits)
        while not enough(trials, wanted):
            trials.append(_trial(pair, rng, bits))
            last = trials[-1]
            if last.differs is not None and not pair.square_numbers and _have_odd_numbers(last.run):
                pair = pair._replace(square_numbers=True, number_relations=_number_relations(pair, last.run, rng))
                break
            if pair.thresholds is not None and not last.run.compared <= set(pair.thresholds):
                pair = pair._replace(thresholds=with_negatives(pair.thresholds, last.run.compared))
                break
            if last.partition != trials[0].partition:
                break
            worse = {name: kind for name, kind in last.run.kinds.items() if kind > kinds.get(name, least_kind(name))}
            if pair.thresholds is not None and worse:
                kinds |= worse
                break
            limit = MAX_RUNS if log2_false(trials) > -wanted else len(last.run.characters) + SPARE_RUNS
            if last.differs is not None or len(trials) >= limit or last.chance >= 1:
                return pair, trials
            if last.partition is None and len(trials) == 1 and pair.batch == 1:
                wide = at_many_points(problem, _with_counts(pair, last.run), bits)
                if wide.batch > 1:
                    pair = wide
                    break
            if _too_long(trials, (work.spent - before) / len(trials), wanted, work):
                return pair, trials
        else:
            return pair, trials
    raise Unsupported("comparisons or equalities that differ from run to run")


def _have_odd_numbers(run: Run) -> bool:
    return not run.field.is_square(run.known_roots).all()


def _number_relations(pair: Pair, run: Run, rng: np.random.Generator) -> int:
    """How many products of numbers under roots may be squares, from runs that do not ask them to be squares."""
    runs = [evaluated(pair, rng).run for _ in range(run.known_roots.size + SPARE_RUNS)]
    return relation_counts([Trial(None, run, 1.0, 0.0, None) for run in runs], of_numbers=True)


def _with_counts(pair: Pair, run: Run) -> Pair:
    return pair._replace(calls=run.calls, roots=sum(under.size for under in run.under_roots))


def _too_long(trials: list[Trial], each: float, wanted: float, work: Work) -> bool:
    """Whether the work limit is reached or, where decisions are met run by run, too near for the runs still needed."""
    drawn, characters = trials[0].partition is None, len(trials[-1].run.characters)
    met = math.log2(with_relations(trials)[-1]) if drawn else log2_false(trials) / len(trials)
    if (characters or not drawn) and (met <= -1 or len(trials) < characters + SPARE_RUNS):
        return bool(work.over)
    lacking = max(wanted / max(-met, 1e-9) - len(trials), 0.0)
    return lacking * each > work.left or bool(work.over)


def with_negatives(thresholds: tuple[float, ...], compared: set[float]) -> tuple[float, ...]:
    """The thresholds, the compared numbers and the negatives of both, in ascending order."""
    found = {t for number in {*thresholds, *compared} for t in (number, -number)}
    if len(found) > MAX_THRESHOLDS:
        raise Unsupported(f"unknowns that are compared with {len(found)} numbers")
    return tuple(sorted({0.0 if t == 0 else t for t in found}))


def _trial(pair: Pair, rng: np.random.Generator, decision_bits: float) -> Trial:
    first = evaluated(pair, rng)
    if first.run.unknown_comparisons and first.run.branching:
        return _with_decisions(pair, first, rng, decision_bits)
    chance, collision, grouped = chances_of(pair, first, rng)
    return Trial(first.differs, first.run, chance, collision, first.run.partition(), grouped=grouped)


def _with_decisions(pair: Pair, first: Evaluation, rng: np.random.Generator, decision_bits: float) -> Trial:
    """A run that decides, and that is repeated with its decisions at another point. If other arguments of oracles are
    equal there, one of the two had an collision, and both are made anew."""
    if not decision_bits:  # decisions that are not counted, unless some primitive is found to decide more than assumed
        return Trial(first.differs, first.run, 1.0, 0.0, None, pair.points)
    differs, alike = None, False
    for _ in range(RESTARTS):
        differs, alike = first.differs, True
        if differs is None:
            again = evaluated(pair, rng, first.run.decisions)
            differs, alike = again.differs, again.run.partition() == first.run.partition()
        if alike:
            break
        first = evaluated(pair, rng)
    if differs is not None or not alike:  # the run bounds nothing
        return Trial(differs, first.run, 1.0, 0.0, None, pair.points)
    chance, collision, grouped = chances_of(pair, first, rng)
    points = 1 if pair.points > 1 and decided_alike(pair, first, rng) else pair.points
    missed = missed_with_decisions(pair, first.run, decision_bits, points, chance, collision)
    return Trial(None, first.run, missed, 0.0, None, points, grouped)


def _decision_bits(pair: Pair, kinds: Mapping[str, Kind], *programs: Any) -> Bits:
    if pair.thresholds is None:
        return Bits(0.0, 0.0)
    interval = math.log2(len(pair.thresholds) + 1)
    counted = [decision_bits(program, interval, pair.reading.decides_domains, kinds, pair.reading.claiming, pair.work)
               for program in programs]  # fmt: skip
    return Bits(*(max(each) for each in zip(*counted, strict=True)))
