"""Run the checks and derive a verdict from them."""

import dataclasses
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from handprop.verifier.checks.registry import CHECKS, Checker
from handprop.verifier.checks.sampling import NONDETERMINISTIC
from handprop.verifier.internal import OutOfTime, first_line, noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.breaking_line import breaking_line, nonlinear_line
from handprop.verifier.repair.explain import MAX_TRIED, Cause, Explained, explain
from handprop.verifier.report.report import LATE, Report
from handprop.verifier.report.values import Check, Outcome, Verdict

__all__ = ["checked", "explained", "fresh"]

COMPILING = 1 / 6  # share of the budget that compiling one program may take
BY_DTYPE = ("the function is another program in float64, so a relative error of {:.1e}, which its own dtype does not "
            "resolve, is allowed")  # fmt: skip
ANOTHER_PROGRAM = "tracing it again gives another program: it keeps state outside its arguments"


def fresh(problem: Problem, options: Options) -> Problem:
    """Return the problem with nothing found yet, as if no check had run."""
    return problem._replace(shared=Shared(), compiling=options.budget * COMPILING,
                            accuracy=max(problem.accuracy, options.accuracy))  # fmt: skip


def explained(problem: Problem, options: Options, report: Report) -> Report:
    """Add to the report what is wrong and where.

    The search over the finite field comes first; where it finds nothing, the line at which one input fails is searched
    for. A proved program has no mistake that the field could find, so only the second search runs for it.
    """

    def check(edited: Problem) -> Report:
        return checked(edited, options._replace(proofs=MAX_TRIED), "fix")

    broken_only = report.verdict is Verdict.REFUTED and problem.shared.proved
    found, cause = Explained(report, Cause.NOT_SOUGHT) if broken_only else explain(problem, options, report, check)
    point, failing = problem.shared.failed_at, report.counterexample
    if report.verdict is not Verdict.REFUTED or found.fix is not None or point is None or failing is None:
        return found
    if problem.shared.everywhere and found.location and cause in (Cause.KNOWN, Cause.ITS_KIND):
        return found
    if "repair" in options.skip or options.seconds_left <= 0:
        return found
    try:
        sought = cause is not Cause.KNOWN and not broken_only
        broken = nonlinear_line(problem, failing.worst) if sought else None
        broken = broken or breaking_line(problem, point, failing.worst, options)
    except Exception as error:  # the verdict stands without this
        failed = f"the search for the line failed: {first_line(error)}"
        line = noted(error, "the search for the line") or failed
        return dataclasses.replace(found, internal=(*found.internal, line))
    if broken is None:
        return explain(problem, options, report, check).report if broken_only else found
    others = tuple(at for at in found.locations if (at.file, at.line) != (broken.location.file, broken.location.line))
    return dataclasses.replace(found, locations=(broken.location, *others)[:3], diagnosis=broken.diagnosis)


def checked(problem: Problem, options: Options, entry: str, known: Iterable[Check | None] = ()) -> Report:
    """Run the checks in their order; a structural fault ends the run. ``known`` are checks that hold here too."""
    found = {check.name: check for check in known if check is not None}
    checks: list[Check] = []
    shared = problem.shared
    for name, checker in CHECKS:
        if name in options.skip:
            checks.append(Check(name, Outcome.SKIPPED, "omitted by skip="))
        elif checks and checks[0].outcome is Outcome.FAILS:
            checks.append(Check(name, Outcome.SKIPPED, "the structure is wrong"))
        elif problem.obstacle or (checks and checks[0].outcome is Outcome.UNDECIDED):
            checks.append(Check(name, Outcome.SKIPPED, problem.obstacle or "there is no reference"))
        elif any(check.outcome is Outcome.FAILS for check in checks):
            checks.append(Check(name, Outcome.SKIPPED, "already refuted"))
        elif options.seconds_left <= 0:
            checks.append(Check(name, Outcome.SKIPPED, LATE))
        else:
            checks.append(found[name] if name in found else _run(name, checker, problem, options))
            proving = [check for check in checks if check.outcome is Outcome.PROVES]
            shared.proved, shared.conditional = bool(proving), bool(_said(proving, "conditions"))
            shared.identical = any(check.name == "identical" for check in proving)
    verdict, reason = (Verdict.INCONCLUSIVE, problem.obstacle) if problem.obstacle else _verdict(checks)
    certificate = _certificate(problem, options, entry, checks)
    if certificate["hashes"] and certificate["hashes"] != (shared.hashes or certificate["hashes"]):
        verdict, reason = Verdict.INCONCLUSIVE, ANOTHER_PROGRAM
    evidence: dict[str, Any] = {}
    for check in checks:
        evidence |= {key: check.evidence[key] for key in ("sensitivity", "assumptions") if key in check.evidence}
    allowed = [problem.allowance] if problem.allowance else []
    allowed += [f"a relative error of {options.accuracy:.2g} is allowed, as stated"] if options.accuracy else []
    allowed += [BY_DTYPE.format(shared.resolution)] if shared.resolution else []
    idle = next((check.evidence["unexercised"] for check in checks if "unexercised" in check.evidence), ())
    allowed += [f"{', '.join(idle)} is 0, as it is at every sample"] if idle else []
    accuracy = allowed if verdict is Verdict.VERIFIED else ()
    trusted = tuple(f"the rule of {name} is trusted" for name in problem.trusted)
    return Report(
        subject=problem.name,
        verdict=verdict,
        reason=reason,
        checks=tuple(checks),
        assumptions=(*trusted, *evidence.get("assumptions", ())),
        counterexample=next((c.counterexample for c in checks if c.counterexample and c.outcome is Outcome.FAILS), None)
        if verdict is Verdict.REFUTED else None,
        sensitivity=evidence.get("sensitivity", {}),
        certificate=certificate,
        conditions=tuple(dict.fromkeys((*problem.conditions, *_said(checks, "conditions"), *accuracy))),
        findings=_said(checks, "findings"),
        internal=_said(checks, "internal"),
    )  # fmt: skip


def _run(name: str, checker: Checker, problem: Problem, options: Options) -> Check:
    """Run one check; if it raises, say so in its result and let the other checks go on."""
    try:
        check = checker(problem, options)
        if problem.assumed and check.outcome is Outcome.PROVES:
            return dataclasses.replace(check, outcome=Outcome.UNDECIDED, summary=problem.assumed)
        return check
    except OutOfTime:
        return Check(name, Outcome.SKIPPED, LATE)
    except Exception as error:  # a bug of the verifier, or whatever JAX or the user's code raises at other values
        failed = f"the check {name!r} failed to run: {type(error).__name__}: {first_line(error)}"
        line = noted(error, f"the check {name!r}") or failed
        return Check(name, Outcome.UNDECIDED, line, {"internal": (line,)})


def _said(checks: list[Check], name: str) -> tuple[str, ...]:
    """Return the sentences under this name in the checks' evidence, each once."""
    return tuple(dict.fromkeys(text for check in checks for text in check.evidence.get(name, ())))


def _verdict(checks: list[Check]) -> tuple[Verdict, str]:
    by_name = {check.name: check for check in checks}
    proved = [check for check in checks if check.outcome is Outcome.PROVES]
    failed = [check for check in checks if check.outcome is Outcome.FAILS]
    if failed and failed[0].name == "structure":
        return Verdict.REFUTED, failed[0].summary
    if any(check.evidence.get("repeats") is False for check in checks):
        return Verdict.INCONCLUSIVE, NONDETERMINISTIC
    if failed:
        return Verdict.REFUTED, failed[0].summary
    if proved:
        return Verdict.PROVED, proved[0].summary
    if by_name["structure"].outcome is Outcome.UNDECIDED:
        return Verdict.INCONCLUSIVE, by_name["structure"].summary
    sampled = by_name.get("rounding")
    if sampled is None or sampled.outcome not in (Outcome.HOLDS, Outcome.NOTES):
        return Verdict.INCONCLUSIVE, sampled.summary if sampled else "no check was able to judge it"
    if (idle := sampled.evidence["unexercised"]) and not sampled.evidence["exercised"]:
        return Verdict.INCONCLUSIVE, f"every sample leaves {', '.join(idle)} at zero, so an error would not show"
    if undefined := sampled.evidence["undefined"]:
        what = ", ".join(undefined)
        return Verdict.INCONCLUSIVE, f"the reference's {what} is NaN at every sample, so nothing is compared"
    if sampled.evidence["clear_differences"]:
        return Verdict.INCONCLUSIVE, sampled.evidence["clear_differences"][0]
    if hidden := sampled.evidence["hidden"]:
        sensitivity = sampled.evidence["sensitivity"]
        what = ", ".join(f"an error of {100 * sensitivity[path]:.2g} % of {path}" if np.isfinite(sensitivity[path])
                         else f"any error of {path}" for path in hidden)  # fmt: skip
        return Verdict.INCONCLUSIVE, f"rounding would hide {what}, or anything smaller"
    return Verdict.VERIFIED, by_name["proof"].summary if "proof" in by_name else sampled.summary


def _certificate(problem: Problem, options: Options, entry: str, checks: list[Check]) -> Mapping[str, Any]:
    hashes, runs = {}, checks[0].outcome not in (Outcome.UNDECIDED, Outcome.FAILS)
    if options.seconds_left < 0:  # another trace would take time
        hashes = dict(problem.shared.hashes)
    elif runs and not problem.faults and not problem.obstacle:
        hashes = {name: jaxprs.hash_of(jaxprs.trace(_anew(f), problem.inputs))
                  for name, f in (("candidate", problem.candidate), ("reference", problem.reference))}  # fmt: skip
    return {
        "entry": entry,
        "inputs": tuple((path, str(x.dtype), tuple(x.shape))
                        for path, x in zip(problem.in_paths, problem.inputs, strict=True)),
        "seed": options.seed,
        "bits": options.bits,
        "order": options.order,
        "skip": tuple(sorted(options.skip)),
        "hashes": hashes,
        "source": problem.source,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def _anew(f: Any) -> Any:
    """Wrap the function so that JAX traces it again."""
    return lambda *inputs: f(*inputs)
