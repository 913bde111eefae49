"""The proof: both programs evaluated over finite fields at random points.

The theorem and the bound are in :mod:`handprop.verifier.proof.bound`.
"""

import dataclasses
import itertools
import operator
import time
from collections.abc import Mapping
from functools import reduce
from typing import Any

from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.folded import Folded, folded_numbers
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.proof.bound import Trial, bits_for_each, enough, log2_false_in_all, relation_counts
from handprop.verifier.proof.claims import claims_hold
from handprop.verifier.proof.conditions import as_given, described, holds
from handprop.verifier.proof.decision_bits import asks_for_numbers
from handprop.verifier.proof.evaluation import Pair, Reading, evaluated
from handprop.verifier.proof.field.errors import OutOfWork, UnknownLength, Unsupported
from handprop.verifier.proof.field.work import OVER, Work
from handprop.verifier.proof.real_parts import NotReal, holds_complex, in_real_parts
from handprop.verifier.proof.trials import run_trials
from handprop.verifier.report.values import Check, Outcome

__all__ = ["agree_once", "proof"]

WAYS = ({"claiming": True}, {"claiming": False}, {"by_signs": False})
BRANCHING = tuple(Reading(rational, True, **way) for rational in (False, True) for way in WAYS)
ASSUMING = (Reading(), Reading(rational=True), *BRANCHING)
DECIDING_DOMAINS = tuple(reading._replace(decides_domains=True) for reading in BRANCHING)
# A report proves up to three times: for a wider domain, for the declared one, and for what the given arguments have.
ATTEMPTS = 3 * (len(ASSUMING) + len(DECIDING_DOMAINS))
SHARE = 0.25  # of the budget
FOR_LOOPS = 0.25  # of that share
WAYS_TO_PROVE = 8  # problems that prove one, which are tried one after the other


def proof(problem: Problem, options: Options) -> Check:
    """Try to prove that both programs are the same function over the reals, at these shapes."""
    return _proof(problem, options) if problem.to_prove is None else _by_others(problem, options)


def _by_others(problem: Problem, options: Options) -> Check:
    """The first proof of a problem that proves this one."""
    start = time.monotonic()
    summary = "the proof does not succeed: the value is one of the arguments, and no unknown"
    shared = options._replace(proofs=options.proofs * WAYS_TO_PROVE)
    for other in itertools.islice(problem.to_prove(), WAYS_TO_PROVE):  # pyright: ignore[reportOptionalCall]
        check = _proof(other, shared)
        if check.outcome is Outcome.PROVES:
            said = (*check.evidence["conditions"], *other.conditions)
            return dataclasses.replace(check, evidence={**check.evidence, "conditions": said})
        summary = check.summary
    return Check("proof", Outcome.UNDECIDED, summary, {}, seconds=time.monotonic() - start)


def _proof(problem: Problem, options: Options) -> Check:
    start = time.monotonic()
    try:
        problem, reference, candidate = _of_real_numbers(problem)
    except NotReal as reason:
        return Check("proof", Outcome.UNDECIDED, f"the proof does not succeed: it cannot interpret {reason}", {})
    work = Work(options.budget * SHARE, start + options.seconds_left / 2)  # the other half is for the other checks
    rng, wanted = options.rng(Stream.PROOF), bits_for_each(options.bits, ATTEMPTS * options.proofs)
    if name := jaxprs.namesake(reference, candidate):
        return Check("proof", Outcome.UNDECIDED, f"two primitives are called {name!r}", {})
    reasons: dict[str, None] = {}
    folded = folded_numbers((reference, candidate))
    readable = bool(folded) or jaxprs.has_readings(reference) or jaxprs.has_readings(candidate)
    widened = any(_widens(program, folded) for program in (reference, candidate))
    # Readings that assume domains come first. When one of them proves the programs equal, but its assumption fails at
    # the given input, `outside` is set. From then on only the readings that decide domains are tried. They are skipped
    # as long as `outside` is not set.
    outside = False
    used_signs = False
    for reading in (*ASSUMING, *DECIDING_DOMAINS):
        if (reading.rational and not readable) or reading.decides_domains != outside:
            continue
        if not reading.by_signs and not used_signs:
            continue
        if widened and reading.rational and not reading.branching:  # it blends literals with other cases of a select
            continue
        if work.spent > work.most / 2 or work.over:
            reasons[work.over or OVER] = None
            break
        try:
            pair, trials = run_trials(problem, reference, candidate, rng, reading, wanted, work, folded)
            used_signs |= trials[-1].run.used_signs
            claimed = trials[-1].differs is None and any(trial.run.claimed for trial in trials)
            if claimed and not claims_hold(problem, pair, rng):
                raise Unsupported("a comparison of values that seem to be equal everywhere")
        except Unsupported as reason:
            reasons[str(reason) if isinstance(reason, OutOfWork) else f"it cannot interpret {reason}"] = None
            if isinstance(reason, UnknownLength):  # few such loops end where their decisions are drawn
                work.limit(FOR_LOOPS)
            continue
        if trials[-1].differs is None:
            assumed = reduce(operator.or_, (dict(t.run.conditions) for t in trials))
            if not reading.decides_domains and (unfit := _unfit(problem, reference, candidate, assumed)):
                outside = True
                reasons[unfit] = None
                continue
            problem.shared.proved_pair = pair
            return _agreed(problem, trials, reading, assumed, options, time.monotonic() - start)
        path, lacks = problem.out_paths[trials[-1].differs], ", ".join(sorted(trials[-1].run.uninterpreted))
        reasons[f"it cannot interpret {lacks}, which {path} may depend on" if lacks
                else f"it knows no identity that makes {path} equal in both programs"] = None  # fmt: skip
    summary = f"the proof does not succeed: {'; '.join(reasons)}"
    return Check("proof", Outcome.UNDECIDED, summary, {}, seconds=time.monotonic() - start)


def _of_real_numbers(problem: Problem) -> tuple[Problem, Any, Any]:
    """The problem and both of its programs, without complex numbers."""
    programs = [jaxprs.trace(f, problem.inputs) for f in (problem.reference, problem.candidate)]
    if any(map(holds_complex, programs)):
        problem = problem._replace(reference=in_real_parts(problem.reference),
                                   candidate=in_real_parts(problem.candidate))  # fmt: skip
        programs = [jaxprs.trace(f, problem.inputs) for f in (problem.reference, problem.candidate)]
    reference, candidate = programs
    return problem, reference, candidate


def _widens(program: Any, folded: Folded) -> bool:
    """Whether the program makes the dtype of a literal wider that rational readings take for another number."""
    read = jaxprs.widened_literals(program)
    return any(read.values()) or any(dtype in read for dtype, _ in folded)


def _unfit(problem: Problem, reference: Any, candidate: Any, assumed: Mapping[int, tuple[Any, str]]) -> str | None:
    """Why the assumptions of a proof may not be made; None if they may."""
    domains = [needed for eqn, needed in assumed.values() if not has(eqn, Trait.DIVIDES)]
    if domains and any(map(asks_for_numbers, (reference, candidate))):
        return f"it holds only if {domains[0]}, and the program tests whether a value is a number"
    if assumed and not holds((reference, candidate), problem.inputs, assumed):
        return f"it holds only if {next(iter(assumed.values()))[1]}, which is not true at the given input"
    return None


def agree_once(problem: Problem, pair: Pair, options: Options) -> bool:
    """Whether both programs agree at one random point, interpreted as ``pair`` is: a quick test that proves nothing.
    False if it cannot be determined."""
    work = Work(options.budget * SHARE, time.monotonic() + options.seconds_left / 2)
    try:
        _, reference, candidate = _of_real_numbers(problem)
        folded = folded_numbers((reference, candidate))
        anew = Pair(reference, candidate, problem.inputs, pair.thresholds, pair.reading, work, folded=folded)
        return evaluated(anew, options.rng(Stream.AGREEMENT)).differs is None
    except (NotReal, Unsupported):
        return False


def _conditions(trials: list[Trial], reading: Reading, assumed: Mapping, given: tuple[str, ...]) -> tuple[str, ...]:
    """The conditions under which the proof holds."""
    found = (
        {described(equation, what): None for equation, what in assumed.values()} if not reading.decides_domains else {}
    )
    casts = {f"casts to {name} change nothing": None for t in trials for name in sorted(t.run.casts)}
    masks = {mask: None for t in trials for mask in sorted(t.run.masks)}
    return (*found, *masks, *casts, *given)


def _agreed(problem: Problem, trials: list[Trial], reading: Reading, assumed: Mapping, options: Options,
            seconds: float) -> Check:  # fmt: skip
    total, branching = log2_false_in_all(trials, ATTEMPTS * options.proofs), reading.branching
    last, given = trials[-1].run, as_given(problem)
    evidence = {
        "bits": round(-total, 1),
        "runs": len(trials),
        "primes": tuple(trial.run.field.p for trial in trials[:8]),
        "oracle_calls": max(trial.run.calls for trial in trials),
        "roots": last.roots,
        "truths": last.unknown_comparisons,
        "assignments": trials[-1].points * len(trials) if branching and last.unknown_comparisons else 0,
        "assumptions": (*sorted(last.readings), *sorted(last.assumptions)),
        "uninterpreted": tuple(sorted(last.uninterpreted)),
        "conditions": _conditions(trials, reading, assumed, given),
    }
    if enough(trials, bits_for_each(options.bits, ATTEMPTS * options.proofs)):
        needed = [] if reading.decides_domains else [what for _, what in assumed.values()]
        problem.shared.needed = frozenset((*needed, *given))  # without casts and masks: they say how it reads programs
        summary = f"equal over finite fields; the chance that this proof is false is at most 2^-{int(-total)}"
        return Check("proof", Outcome.PROVES, summary, evidence, seconds=seconds)
    why = trials[-1].run.work.over or "it needs more runs than are made"
    if branching and last.unknown_comparisons:
        why = f"it rests on {last.unknown_comparisons} truth values"
    elif last.characters:
        why = (
            "roots may be related"
            if trials[-1].chance < 1 and relation_counts(trials)
            else f"it takes {last.roots} roots"
        )
    summary = (f"equal in {len(trials)} runs, but the chance of a false proof stays above 2^-{options.bits}, because "
             f"{why}")  # fmt: skip
    evidence["conditions"] = ()
    return Check("proof", Outcome.UNDECIDED, summary, evidence, seconds=seconds)
