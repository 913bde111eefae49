"""The verifier's verdict on one pair, and whether it is a fault."""

import time
import traceback
from typing import Any, NamedTuple

import jax
import numpy as np

import handprop
from fuzz.oracle import Kind, Relation
from fuzz.pairs import Pair, draw_pair
from handprop.verifier import Outcome, Verdict
from handprop.verifier.checks.registry import CHECKS

__all__ = ["FAULTS", "Finding", "asked"]

PROOF_ONLY = ("structure", "proof")
GENERIC, TIES = 2, 1  # points at which what is proved is evaluated once more
AT_A_POINT = ("edge_cases", "transformations")
OUT_OF_RANGE = "millions"  # there arithmetic may leave float64's range, which refutes nothing
FAULTS = {
    "false proof": "PROVED, and they differ",
    "false proof, domain": "PROVED without a condition, and one of them is undefined where the other is not",
    "false refutation": "REFUTED, and they are equal",
    "exception": "the verifier, or what draws the pairs, ended with an exception",
    "contradiction": "one check proves it, another one fails",
}


class Finding(NamedTuple):
    """What one pair came to: ``kind`` is "equal", "spoiled" or "thrown away"; the last fields are often empty.

    ``reason`` is what the proof says where it proves or nothing is judged, else the report's.
    """

    number: int
    kind: str
    verdict: str
    seconds: float
    drawing: float
    fault: str = ""
    note: str = ""
    agrees: str = ""
    text: str = ""
    reason: str = ""


def asked(seed: int, index: int, checks: str, budget: float) -> Finding:
    """Draws the pair, asks the verifier and judges what it says."""
    start = time.process_time()
    try:
        pair = draw_pair(seed, index)
    except Exception:
        return Finding(index, "thrown away", "", 0.0, time.process_time() - start, "exception", text=_last_lines())
    drawing = time.process_time() - start
    kind = "spoiled" if pair.mistake else "equal"
    if pair.relations is None:
        return Finding(index, "thrown away", "", 0.0, drawing, text=str(pair), note=f"{kind}, not confirmed")
    start = time.process_time()
    try:
        report = report_of(pair, checks, budget)
    except Exception:
        text = f"{pair}\n{_last_lines()}"
        return Finding(index, kind, "", time.process_time() - start, drawing, "exception", text=text)
    seconds, start = time.process_time() - start, time.process_time()
    fault, note, agrees = judged(pair, report)
    drawing += time.process_time() - start
    proof = next((check.summary for check in report.checks if check.name == "proof"), report.reason)
    reason = proof if report.verdict in (Verdict.PROVED, Verdict.INCONCLUSIVE) else report.reason
    return Finding(index, kind, report.verdict.name, seconds, drawing, fault, note, agrees, str(pair), reason)


def report_of(pair: Pair, checks: str, budget: float) -> handprop.Report:
    left, right = pair.functions()
    skip = ["repair"] + ([name for name, _ in CHECKS if name not in PROOF_ONLY] if checks == "proof" else [])
    return handprop.equivalent(left, right, *map(jax.numpy.asarray, pair.arguments()), budget=budget, skip=skip)


def judged(pair: Pair, report: Any) -> tuple[str, str, str]:
    """Fault, note, and how a proof stands to the oracle at points it has not seen."""
    if any("failed to run" in said or " stopped at " in said for said in report.internal):
        return "a check failed to run", report.internal[0], ""
    if report.verdict is Verdict.PROVED:
        return judged_proof(pair, bool(getattr(report, "conditions", ())))
    failed = [check.name for check in report.checks if check.outcome is Outcome.FAILS]
    if report.verdict is Verdict.INCONCLUSIVE and failed:
        return "contradiction", "", ""
    if report.verdict is Verdict.REFUTED and not pair.mistake:
        # Equal over the reals and undefined at zeros or ties, in one of the two, is no fault of a verdict.
        if failed[0] in AT_A_POINT and OUT_OF_RANGE not in report.reason:
            return "", f"equal, refuted by {failed[0]}", ""
        undefined = is_undefined(pair, report)
        return ("", "equal, refuted where one is undefined", "") if undefined else ("false refutation", "", "")
    return "", "", ""


def related_again(pair: Pair) -> dict[Kind, Relation]:
    """How the two stand to each other at points that the drawing of the pair has not seen."""
    return pair.relate(np.random.default_rng([pair.seed, pair.number, 1]), GENERIC, TIES)


def is_undefined(pair: Pair, report: Any) -> bool:
    """Whether one of the two is no number where they were refuted, and the oracle too says that they are defined at
    different points, as ``exp(2 log x)`` and ``x^2`` are."""
    worst = report.counterexample.worst
    if np.isfinite(worst.got) and np.isfinite(worst.want):
        return False
    found = related_again(pair)
    return Relation.DOMAIN in {*found.values(), *(pair.relations or {}).values()}


def judged_proof(pair: Pair, conditional: bool) -> tuple[str, str, str]:
    """A proof, which may hold only where both programs are defined."""
    found = related_again(pair)
    generic = {found[Kind.GENERIC], *((pair.relations or {}).get(kind) for kind in [Kind.GENERIC])}
    tied = {found[Kind.TIES], *((pair.relations or {}).get(kind) for kind in [Kind.TIES])}
    agrees = found[Kind.GENERIC].name.lower()
    note = "proved under conditions" if conditional else ""
    if Relation.DIFFERENT in generic:
        return "false proof", note, agrees
    if Relation.DOMAIN in generic and not conditional:
        return "false proof, domain", note, agrees
    if Relation.DIFFERENT in tied or (Relation.DOMAIN in tied and not conditional):
        return "", "proved, and they differ where numbers tie or are 0", agrees
    return "", note, agrees


def _last_lines() -> str:
    return "".join(traceback.format_exc(limit=-3))
