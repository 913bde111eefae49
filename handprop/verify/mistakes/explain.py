"""From a refuted report to one that says where, what and how else."""

import dataclasses
import time

from handprop.verify import jaxprs
from handprop.verify.mistakes.bench import set_up
from handprop.verify.mistakes.locate import location, suspects
from handprop.verify.mistakes.source import rebuilt
from handprop.verify.options import Options
from handprop.verify.report import Report, Verdict
from handprop.verify.subject import Subject

__all__ = ["explain"]

SECONDS = 5.0
SHOWN = 3


def explain(subject: Subject, options: Options, report: Report) -> Report:
    """The report with locations, diagnosis and fix where it is refuted; as it was where nothing can be said."""
    if report.verdict is not Verdict.REFUTED or subject.as_program is None or "mistakes" in options.skip:
        return report
    deadline = min(time.monotonic() + SECONDS, options.deadline)
    try:
        return _explained(subject, options._replace(deadline=deadline), report)
    except Exception:  # whatever the user's own code raises when it is traced again: the verdict stands without this
        return report


def _explained(subject: Subject, options: Options, report: Report) -> Report:
    bench = set_up(subject, options)
    assert subject.as_program is not None
    hand = jaxprs.trace(subject.as_program(rebuilt(subject.written, {})), subject.inputs)
    reference = jaxprs.trace(subject.reference, subject.inputs)
    found = suspects(subject, bench, hand, reference)
    return dataclasses.replace(report, locations=tuple(location(s, subject.out_paths) for s in found[:SHOWN]))
