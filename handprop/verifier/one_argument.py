"""Rules that look at which of their arguments are differentiated.

A rule with ``symbolic_zeros=True`` is told which arguments carry a derivative, and may return something else where one
carries none. Such a rule is therefore judged for all arguments together and for each one alone. What remains open, that
is, other choices of arguments, or values whose cotangent is a symbolic zero, is a condition.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from handprop.verifier.along_domains import is_of
from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Verdict
from handprop.verifier.rules import marked

__all__ = ["arguments_of", "asks_for_zeros", "with_each_alone"]

TOGETHER_OR_ALONE = "all arguments are differentiated, in all of their parts, or one alone"
TOGETHER = "all arguments are differentiated together, as the time was too short to try each alone"
WORST_FIRST = (Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.VERIFIED, Verdict.PROVED)


def asks_for_zeros(problem: Problem) -> bool:
    """Whether the problem calls a rule that is told which of its arguments are differentiated."""
    met: list[Any] = []

    def watch(rule: Any) -> Any:
        met.append(rule)
        return rule

    if problem.as_program is None or problem.faults or problem.obstacle:
        return False
    try:
        with marked(anew=True):
            jaxprs.trace(problem.as_program(problem.written, watch), problem.inputs)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # a rule that does not run, which the checks report
        noted(error, "the search for rules that are told of zeros")
        return False
    return any(rule.symbolic_zeros for rule in met)


def arguments_of(problem: Problem) -> list[int]:
    """Return the positions of the arguments that are differentiated, where there are several."""
    paths = [problem.in_paths[i] for i in problem.wrt]
    numbers = [n for n, head in enumerate(problem.heads) if any(is_of(path, head) for path in paths)]
    return numbers if len(numbers) > 1 else []


def with_each_alone(together: Report, problem: Problem, judged: Callable[[int], Report]) -> Report:
    """Return the worst of the reports for all arguments together and for each alone; ``judged(n)`` is of argument n.

    If all are right, the verdict rests on all of them, and so it holds under the conditions of all. If the time is too
    short for one alone, that is a condition.
    """
    numbers, reports, late = arguments_of(problem), [together], False
    for n in numbers:
        one = judged(n)
        if late := one.verdict is Verdict.INCONCLUSIVE and one.late:
            break
        name = f"{one.subject}, differentiated with respect to {problem.heads[n]} alone"
        reports.append(dataclasses.replace(one, subject=name))
    worst = min(reports, key=lambda report: WORST_FIRST.index(report.verdict))
    if not worst.ok:
        return worst
    every = not late and (len(problem.wrt) == 1 or len(problem.wrt) == len(numbers) == 2)
    left = [] if every else [TOGETHER if late else TOGETHER_OR_ALONE]
    left += ["every value of the rule is used"] if problem.gradients.count(False) > 1 else []
    held = (condition for report in (worst, *reports) for condition in report.conditions)
    return dataclasses.replace(worst, conditions=tuple(dict.fromkeys((*held, *left))))
