"""From rungs to a verdict."""

import platform
from collections.abc import Mapping
from typing import Any

import jax

from handprop.verify import jaxprs
from handprop.verify.mistakes import explain
from handprop.verify.options import Options
from handprop.verify.points import NONDETERMINISTIC
from handprop.verify.report import Check, Outcome, Report, Verdict
from handprop.verify.rungs import RUNGS
from handprop.verify.subject import Subject

__all__ = ["checked", "explained", "fresh", "judge"]


def judge(subject: Subject, options: Options, entry: str) -> Report:
    """What the checks show of a subject, and what is wrong with it where it is refuted."""
    subject = fresh(subject, options)
    return explained(subject, options, checked(subject, options, entry))


def fresh(subject: Subject, options: Options) -> Subject:
    """The subject as no check has seen it yet."""
    return subject._replace(kept={})


def explained(subject: Subject, options: Options, report: Report) -> Report:
    """The report with what is known of its mistakes."""
    return explain(subject, options, report)


def checked(subject: Subject, options: Options, entry: str, proved: Check | None = None) -> Report:
    """Runs the rungs in their order; a structural fault ends it. ``proved``: a proof that holds here too."""
    checks: list[Check] = []
    for name, rung in RUNGS:
        if name in options.skip:
            checks.append(Check(name, Outcome.SKIPPED, "left out by name"))
        elif checks and checks[0].outcome is Outcome.FAILS:
            checks.append(Check(name, Outcome.SKIPPED, "the structure is wrong"))
        elif subject.obstacle or (checks and checks[0].outcome is Outcome.UNDECIDED):
            checks.append(Check(name, Outcome.SKIPPED, subject.obstacle or "there is no reference"))
        elif any(check.outcome is Outcome.FAILS for check in checks):
            checks.append(Check(name, Outcome.SKIPPED, "refuted already"))
        elif options.seconds_left <= 0:
            checks.append(Check(name, Outcome.SKIPPED, "the budget of seconds was spent"))
        else:
            checks.append(proved if proved is not None and proved.name == name else rung(subject, options))
            subject.kept["proved"] = any(check.outcome is Outcome.PROVES for check in checks)
    verdict, reason = (Verdict.INCONCLUSIVE, subject.obstacle) if subject.obstacle else _verdict(checks)
    evidence: dict[str, Any] = {}
    for check in checks:
        evidence |= {key: check.evidence[key] for key in ("power", "assumptions") if key in check.evidence}
    said = {key: tuple(dict.fromkeys(text for check in checks for text in check.evidence.get(key, ())))
            for key in ("conditions", "findings", "internal")}  # fmt: skip
    said["conditions"] = tuple(dict.fromkeys((*subject.conditions, *said["conditions"])))
    trusted = tuple(f"the rule of {name} is trusted" for name in subject.trusted)
    return Report(
        subject=subject.name,
        verdict=verdict,
        reason=reason,
        checks=tuple(checks),
        assumptions=(*trusted, *evidence.get("assumptions", ())),
        counterexample=next((c.counterexample for c in checks if c.counterexample and c.outcome is Outcome.FAILS), None)
        if verdict is Verdict.REFUTED else None,
        power=evidence.get("power", {}),
        certificate=_certificate(subject, options, entry, checks),
        **said,
    )  # fmt: skip


def _verdict(checks: list[Check]) -> tuple[Verdict, str]:
    by_name = {check.name: check for check in checks}
    proved = [check for check in checks if check.outcome is Outcome.PROVES]
    failed = [check for check in checks if check.outcome is Outcome.FAILS]
    if failed and failed[0].name == "structure":
        return Verdict.REFUTED, failed[0].shows
    if any(check.shows == NONDETERMINISTIC for check in checks):
        return Verdict.INCONCLUSIVE, NONDETERMINISTIC
    at_a_point = [check for check in failed if check.name in ("hard inputs", "transformations")]
    if proved and at_a_point:
        return Verdict.REFUTED, at_a_point[0].shows  # a proof holds almost everywhere: here is where it does not
    if proved and failed:
        return Verdict.INCONCLUSIVE, f"{proved[0].name} proves it, {failed[0].name} fails: {failed[0].shows}"
    if failed:
        return Verdict.REFUTED, failed[0].shows
    if proved:
        return Verdict.PROVED, proved[0].shows
    if by_name["structure"].outcome is Outcome.UNDECIDED:
        return Verdict.INCONCLUSIVE, by_name["structure"].shows
    sampled = by_name.get("rounding")
    if sampled is None or sampled.outcome not in (Outcome.HOLDS, Outcome.NOTES):
        return Verdict.INCONCLUSIVE, sampled.shows if sampled else "no check could judge it"
    if sampled.evidence["unexercised"]:
        return Verdict.INCONCLUSIVE, f"no sample exercises {', '.join(sampled.evidence['unexercised'])}"
    return Verdict.VERIFIED, by_name["proof"].shows if "proof" in by_name else sampled.shows


def _certificate(subject: Subject, options: Options, entry: str, checks: list[Check]) -> Mapping[str, Any]:
    hashes = {}
    if not subject.faults and not subject.obstacle and checks[0].outcome not in (Outcome.UNDECIDED, Outcome.FAILS):
        hashes = {name: jaxprs.hash_of(jaxprs.trace(f, subject.inputs))
                  for name, f in (("hand", subject.hand), ("reference", subject.reference))}  # fmt: skip
    return {
        "entry": entry,
        "inputs": tuple((path, str(x.dtype), tuple(x.shape))
                        for path, x in zip(subject.in_paths, subject.inputs, strict=True)),
        "seed": options.seed,
        "bits": options.bits,
        "order": options.order,
        "skip": tuple(sorted(options.skip)),
        "hashes": hashes,
        "source": subject.source,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
