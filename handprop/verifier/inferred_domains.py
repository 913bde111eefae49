"""Domains inferred from the given arguments, and those of them that the verdict needs.

A problem is first judged for all numbers. If it does not hold for them, domains that contain the given values are
considered: for arguments that are not differentiated, all that :func:`domains_of` knows; for the others, only those
that seldom contain a value by accident. The fewest and widest domains in which the fewest outputs are wrong become
conditions, and the report says what fails without them. Where an argument was found to lie in a domain, its gradient is
compared in all directions, at inputs in the domain.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.along_domains import ANY, Domains, at_arguments, declared, inside, tolerance, within
from handprop.verifier.checks.edge_cases import edge_cases
from handprop.verifier.checks.evaluators import evaluators
from handprop.verifier.checks.sampling import compared, sample, wrong_outputs
from handprop.verifier.domains import Domain
from handprop.verifier.internal import OutOfTime, ending_at, first_line, noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs
from handprop.verifier.programs.polynomial import is_polynomial_in
from handprop.verifier.proof.proof import proof
from handprop.verifier.repair.intent import with_intent
from handprop.verifier.report.report import LATE as CUT
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Check, Outcome, Verdict
from handprop.verifier.second_opinion import reconsidered
from handprop.verifier.seen_domains import domains_of
from handprop.verifier.verdict import checked, explained, fresh

__all__ = ["judged"]

POINTS = range(1, 7)  # sample 0 is the given input, which lies in every domain
SEEN = 17  # samples
APART = 1e-6  # relative difference
EXACT = ("structure", "identical", "proof")  # checks that know no error
LATE = 0.25  # share of the budget by which it may be exceeded where a refutation may only lack a condition
SPARED = 0.2  # share of the budget that is left for what a gradient is meant to be, after what is wrong with it
IN_DOUBT = "{}, as given, and the time was too short to tell whether that is a condition"
MAX_ENTRIES = 1 << 20
AMPLIFIED = 1e3  # the most by which a function amplifies the rounding error with which the given values lie in a domain
Inferred = dict[int, Domain]
Prepare = Callable[[Problem], Problem]


def judged(problem: Problem, options: Options, entry: str, domain: Domains | None = None,
           prepare: Prepare = lambda problem: problem) -> Report:  # fmt: skip
    """Return the report on a problem whose arguments lie where ``domain`` says, or have properties of the given values.

    ``prepare`` turns a problem into the one that is judged, such as its second derivative. What is proved for all
    numbers is proved for those in a domain too, and is not proved again.
    """
    start = time.monotonic()
    executables.forget()
    jaxprs.forget_traces()
    with ending_at(options.deadline + LATE * options.budget):
        report = _judged(problem, options, entry, domain, prepare)
    return dataclasses.replace(report, seconds=time.monotonic() - start)


def _judged(problem: Problem, options: Options, entry: str, domain: Domains | None, prepare: Prepare) -> Report:

    def attempt(given: Problem, before: tuple[Problem, Report] | None = None) -> tuple[Problem, Report]:
        problem = fresh(declared(given, domain, options), options)
        whole = prepare(problem)
        whole = whole if whole is problem else fresh(whole, options)
        known = [_proved_wider(given, problem, options, prepare)]
        if before is not None and not before[0].domains:
            _take_programs(problem, before[0])
            known += [check for check in before[1].checks if check.name in EXACT]
        report = checked(whole, options, entry, known)
        late = options.seconds_left < 0 and report.verdict is not Verdict.REFUTED
        if not (report.ok or late or whole.shared.of_a_tolerance) and domain != ANY and "rounding" not in options.skip:
            try:
                return _as_they_are(problem, whole, report, options, entry, prepare)
            except OutOfTime:
                return whole, _in_doubt(problem, report)
            except Exception as error:  # whatever the user's code raises for other values
                failed = f"the properties of the given values were not tried: {first_line(error)}"
                line = noted(error, "the search for properties of the given values") or failed
                report = dataclasses.replace(report, internal=(*report.internal, line))
        return whole, report

    whole, report = attempt(problem)
    with contextlib.suppress(OutOfTime):
        whole, report = reconsidered(problem, whole, report, options, attempt)
    with contextlib.suppress(OutOfTime):
        report = explained(whole, options._replace(deadline=options.deadline - SPARED * options.budget), report)
    with contextlib.suppress(OutOfTime):
        report = _with_intent(whole, options, report)
    return report


def _take_programs(problem: Problem, before: Problem) -> None:
    """Take the compiled programs of a problem that differs in the error that is allowed, and in nothing else."""
    shared, accuracy = problem.shared, max(problem.accuracy, before.shared.resolution)
    shared.evaluators |= {traced: one and one._replace(accuracy=accuracy, is_estimated=problem.is_estimated)
                          for traced, one in before.shared.evaluators.items()}  # fmt: skip
    shared.user_programs, shared.values = before.shared.user_programs, before.shared.values
    shared.untraceable, shared.resolution = before.shared.untraceable, before.shared.resolution
    shared.hashes = before.shared.hashes


def _with_intent(problem: Problem, options: Options, report: Report) -> Report:
    if "repair" in options.skip or options.seconds_left <= 0:
        return report
    try:
        return with_intent(problem, options, report)
    except Exception as error:  # the verdict stands without this
        line = (
            noted(error, "the search for what is meant") or f"the search for what is meant failed: {first_line(error)}"
        )
        return dataclasses.replace(report, internal=(*report.internal, line))


def _fails_as_given(problem: Problem, needed: Inferred, report: Report) -> bool:
    """Whether the problem fails with the arguments that have inferred domains left at their given values.

    A failure counts only if it exceeds what the rounding of these values may cause, and if it is not in a second
    derivative with respect to one of these arguments.
    """
    if report.counterexample is None:
        return False
    at, worst = dict(report.counterexample.inputs), report.counterexample.worst
    if any(worst.path == f"second d{problem.in_paths[i]}" for i in needed):
        return False
    floats = [(problem.in_paths[i], x) for i in needed if jaxprs.is_float((x := problem.inputs[i]).dtype)]
    if any(path not in at or not np.array_equal(at[path], np.asarray(x, np.float64), equal_nan=True)
           for path, x in floats):  # fmt: skip
        return False
    off = max(_distance(one, np.asarray(problem.inputs[i], np.float64)) for i, one in needed.items())
    return not abs(worst.got - worst.want) <= AMPLIFIED * off * max(abs(worst.want), 1.0)


def _as_they_are(problem: Problem, whole: Problem, everywhere: Report, options: Options, entry: str,
                 prepare: Prepare) -> tuple[Problem, Report]:  # fmt: skip
    """Restrict the problem to the needed domains and return it with its report; unchanged where that does not help."""
    needed = _needed(problem, everywhere, options)
    if not needed:
        return whole, everywhere
    narrow = fresh(prepare(within(problem, needed, along=False)), options)
    if everywhere.checks[0].outcome is Outcome.FAILS:  # it stands; with labels as given only the mistake shows
        return narrow, everywhere
    if whole is problem:  # its programs are already compiled
        narrow.shared.evaluators |= {
            traced: one and at_arguments(one, narrow) for traced, one in problem.shared.evaluators.items()
        }
        narrow.shared.untraceable = problem.shared.untraceable
        narrow.shared.resolution = problem.shared.resolution
    report = checked(narrow, options, entry, _kept(everywhere, options))
    if report.verdict is Verdict.INCONCLUSIVE:
        return whole, _in_doubt(problem, everywhere) if any(c.summary == CUT for c in report.checks) else everywhere
    if not report.ok:
        return narrow, report
    if _fails_as_given(whole, needed, everywhere):
        return whole, everywhere
    this = "this condition" if len(needed) == 1 else "these conditions"
    fails = "it fails" if everywhere.verdict is Verdict.REFUTED else "it cannot be judged"
    found = f"without {this} {fails}: {everywhere.reason}"
    return narrow, dataclasses.replace(report, findings=(*report.findings, found))


def _kept(everywhere: Report, options: Options) -> list[Check]:
    """The checks that need not run again for fewer inputs: a proof, and one without success if time is short."""
    short = options.seconds_left < options.budget / 2
    return [check for check in everywhere.checks if check.outcome is Outcome.PROVES
            or (short and check.name == "proof" and check.outcome is Outcome.UNDECIDED)]  # fmt: skip


def _in_doubt(problem: Problem, report: Report) -> Report:
    """The report, without a verdict if the input that refutes lacks a property that all given values have: it may be a
    condition, and the time was too short to find out."""
    at = dict(report.counterexample.inputs) if report.counterexample else {}
    for place, x in enumerate(problem.inputs):
        path, chain = problem.in_paths[place], _candidates(problem, place, place in problem.wrt, False)
        if chain and path in at and chain[0].lacks(np.asarray(at[path], np.float64), tolerance(x)):
            reason = f"{report.reason}; {IN_DOUBT.format(f'{path} {chain[0].says}')}"
            return dataclasses.replace(report, verdict=Verdict.INCONCLUSIVE, reason=reason, counterexample=None)
    return report


def _distance(one: Domain, x: np.ndarray) -> float:
    """Return how far these values are from the values in the domain that represent them."""
    with jax.enable_x64(True):
        return float(np.abs(np.asarray(one.from_free(executables.array(one.to_free(x)))) - x).max(initial=0.0))


def _proved_wider(given: Problem, problem: Problem, options: Options, prepare: Prepare) -> Check | None:
    """Return a proof for simpler domains that contain the declared ones, or None if there is none."""
    wider = {place: one.wider or one for place, one in problem.domains.items()}
    if not any(one.wider for one in problem.domains.values()) or "proof" in options.skip:
        return None
    points = {place for place, one in problem.domains.items() if one.wider and one.discrete}
    try:
        if points and not _are_polynomials(prepare(given), points):
            return None
        part = options._replace(deadline=time.monotonic() + options.seconds_left / 4)
        found = proof(prepare(within(given, wider)), part)
    except Exception as error:  # the structure check reports what does not run
        noted(error, "the proof for wider domains")
        return None
    return found if found.outcome is Outcome.PROVES else None


def _are_polynomials(problem: Problem, places: set[int]) -> bool:
    programs = (jaxprs.trace(f, problem.inputs) for f in (problem.reference, problem.candidate))
    return all(is_polynomial_in(program, places) for program in programs)


def _needed(problem: Problem, report: Report, options: Options) -> Inferred:
    """Return the fewest and widest domains in which no more outputs are wrong than in all of them."""
    if problem.obstacle or report.checks[0].outcome is Outcome.UNDECIDED:
        return {}
    fails = report.checks[0].outcome is Outcome.FAILS
    moving = set(problem.wrt) if fails else _with_gradients(problem, options)
    apart = not any(problem.gradients) and _differ_where_defined(problem, report, options)
    found = {place: chain for place in range(len(problem.inputs))
             if (chain := _candidates(problem, place, place in moving, apart))}  # fmt: skip
    labels = {place: chain[0] for place, chain in found.items()
              if place not in moving and chain[0].sums}  # fmt: skip
    if not found or fails:
        return _as_found(labels)
    chosen = {place: _as_given(problem, place, chain) for place, chain in found.items()}
    least = _wrong(problem, chosen, options)
    for place, chain in found.items():
        if options.seconds_left < 0:
            break
        for one in (None, *chain):
            trial = {**chosen, place: one} if one else {i: c for i, c in chosen.items() if i != place}
            if _wrong(problem, trial, options) <= least:
                chosen = trial
                break
        else:
            chosen[place] = chain[-1]
    if least:  # still wrong; with labels as given only the mistake shows
        chosen = {**labels, **chosen}
    elif not chosen:  # the samples do not show what is wrong at other inputs
        chosen = _right_at_hard_inputs(problem, found, options)
    return _as_found(chosen)


def _right_at_hard_inputs(problem: Problem, found: dict[int, list[Domain]], options: Options) -> Inferred:
    """Return the widest domains within which no edge case refutes, or the widest of all if there are none."""
    for depth in range(max(len(chain) for chain in found.values())):
        trial = {place: chain[min(depth, len(chain) - 1)] for place, chain in found.items()}
        narrow = fresh(within(problem, trial, along=False), options)
        if edge_cases(narrow, options).outcome is not Outcome.FAILS:
            return trial
        if options.seconds_left < 0:
            break
    return {place: chain[0] for place, chain in found.items()}


def _as_found(chosen: Inferred) -> Inferred:
    return {place: dataclasses.replace(one, says=f"{one.says}, as given") for place, one in chosen.items()}


def _as_given(problem: Problem, place: int, chain: list[Domain]) -> Domain:
    """Return the narrowest domain; for an argument that is not differentiated, at the given values alone."""
    one = chain[-1]
    if place in problem.wrt or one.keeps:
        return one
    free = one.to_free(np.asarray(problem.inputs[place], np.float64))
    return dataclasses.replace(one, from_free=lambda u: one.from_free(jnp.asarray(free, u.dtype)))


def _wrong(problem: Problem, chosen: Inferred, options: Options) -> int:
    """Count the outputs that are wrong at some point in these domains, or finite at none."""
    narrow = within(problem, chosen, along=False)
    with jax.enable_x64(True):
        points = [inside(narrow.domains, sample(narrow, options, i)) for i in POINTS]
    least = len(problem.out_paths)
    for evaluator in evaluators(problem):
        wrong: set[int] = set()
        finite: set[int] = set()
        for i, inputs in enumerate(points):
            if i and options.seconds_left < -LATE * options.budget:
                break
            point = compared(evaluator, inputs, 300 + i)
            wrong |= wrong_outputs(problem, point)
            finite |= {k for k, want in enumerate(point.want) if np.isfinite(want).any() or not want.size}
        wrong |= set(range(len(problem.out_paths))) - finite
        least = min(least, len(wrong))
    return least


def _with_gradients(problem: Problem, options: Options) -> set[int]:
    """Return the places of the arguments that have a gradient.

    Left out are those for which both programs return zeros at all points tried, such as a mask whose cotangent a rule
    omits.
    """
    evaluator = next(evaluators(problem), None)
    if evaluator is None or not problem.owners:
        return set(problem.wrt)
    tried = [evaluator.clean(sample(problem, options, i)) for i in (0, 1, 2)]
    return {i for k, i in problem.owners
            if any(np.any(outputs[k]) for programs in tried for outputs in programs)}  # fmt: skip


def _differ_where_defined(problem: Problem, report: Report, options: Options) -> bool:
    """Whether two functions have different values where both are defined; no argument's sign can explain that."""
    worst = report.counterexample.worst if report.counterexample else None
    if worst is not None and np.isfinite([worst.got, worst.want]).all():
        return True
    if (evaluator := next(evaluators(problem), None)) is None:
        return False
    for i in range(1, SEEN):
        got, want = evaluator.clean(sample(problem, options, i))
        for g, w in zip(got, want, strict=True):
            both = np.isfinite(g) & np.isfinite(w)
            if not np.allclose(g[both], w[both], APART, APART * np.abs(w[both]).max(initial=0.0)):
                return True
    return False


def _candidates(problem: Problem, place: int, moving: bool, apart: bool) -> list[Domain]:
    """Return the domains of this argument that may become a condition, widest first.

    An argument is ``moving`` if it has a gradient. Domains of a sign are left out where the functions are ``apart``,
    that is, where they differ although both are defined.
    """
    x = problem.inputs[place]
    excluded = {*problem.cotangents, *problem.drawn, *problem.asked_any, *problem.domains}
    if place in excluded or not jaxprs.is_float(x.dtype) or not 0 < x.size <= MAX_ENTRIES:
        return []
    found = domains_of(np.asarray(x, np.float64), tolerance(x))
    if any(problem.gradients) and not moving:
        return list(found.values())
    if apart:
        found.pop("positive", None)
    return [one for name in HARDLY_BY_ACCIDENT for key, one in found.items() if key.split(" along ")[0] == name]


HARDLY_BY_ACCIDENT = ("sums", "positive", "symmetric", "unit", "probabilities", "definite", "orthogonal")
