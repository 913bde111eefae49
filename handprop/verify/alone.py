"""Rules that look at which of their arguments are differentiated.

A rule with ``symbolic_zeros=True`` is told which arguments carry a derivative, and may answer otherwise where one
carries none. So such a rule is judged for all arguments together and for each one alone, and what is left open of
other choices, or of values whose cotangent is a symbolic zero, is a condition.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from handprop.verify import jaxprs
from handprop.verify.along import is_of
from handprop.verify.report import Report, Verdict
from handprop.verify.rules import marked
from handprop.verify.subject import Subject

__all__ = ["asks_for_zeros", "with_each_alone"]

WORST_FIRST = (Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.VERIFIED, Verdict.PROVED)


def asks_for_zeros(subject: Subject) -> bool:
    """Whether a rule that the subject calls is told which of its arguments are differentiated."""
    met: list[Any] = []

    def watch(rule: Any) -> Any:
        met.append(rule)
        return rule

    if subject.as_program is None or subject.faults or subject.obstacle:
        return False
    with marked(anew=True):
        jaxprs.trace(subject.as_program(subject.written, watch), subject.inputs)  # pyright: ignore[reportCallIssue]
    return any(rule.symbolic_zeros for rule in met)


def with_each_alone(together: Report, subject: Subject, judged: Callable[[int], Report]) -> Report:
    """The worst of the reports for all arguments together and for each alone, ``judged(n)`` of argument number n."""
    paths = [subject.in_paths[i] for i in subject.wrt]
    numbers = [n for n, head in enumerate(subject.heads) if any(is_of(path, head) for path in paths)]
    reports = [together]
    for n in numbers if len(numbers) > 1 else ():
        one = judged(n)
        name = f"{one.subject}, differentiated with respect to {subject.heads[n]} alone"
        reports.append(dataclasses.replace(one, subject=name))
    worst = min(reports, key=lambda report: WORST_FIRST.index(report.verdict))
    values = [path for path, gradient in zip(subject.out_paths, subject.gradients, strict=True)
              if path.startswith("value") and not gradient]  # fmt: skip
    every = len(subject.wrt) == 1 or len(subject.wrt) == len(numbers) == 2
    left = [] if every else ["all arguments are differentiated, in all of their parts, or one alone"]
    left += ["every value of the rule is used"] if len(values) > 1 else []
    return dataclasses.replace(worst, conditions=(*worst.conditions, *left)) if worst.ok else worst
