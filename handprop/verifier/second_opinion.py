"""What speaks for a rule that autodiff of its function refutes.

Autodiff differentiates what the program computes. That is not always the derivative of the function that the program
stands for: an iteration ends at a tolerance, and a bisection is a staircase whose slope is zero. A refutation by
autodiff alone is therefore tried again

1. with the error that a tolerance causes, where there is a loop and the difference is not larger, and
2. against differences of the function's own values, where these agree with the rule and not with autodiff.

What holds then is verified, and the report says by what.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from handprop.verifier.checks.convergence import is_of_a_tolerance, iterates
from handprop.verifier.checks.evaluators import evaluators
from handprop.verifier.checks.finite_differences import slope_along
from handprop.verifier.internal import noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Outcome, Verdict

__all__ = ["reconsidered"]

# The relative error of an iteration that ends at a tolerance, at inputs of all sizes: a tolerance is absolute, and says
# less of small numbers.
AT_ALL_SIZES = 1e-4
TOO_SHORT = "autodiff may not be the derivative of this function, and the time was too short to find out"
UNFINISHED = f"the function's loops end at a tolerance: a relative error of {AT_ALL_SIZES:.0e} is allowed"
AGREES = 1e-4  # relative: how close the rule's slope has to be to that of the values
Judge = Callable[..., tuple[Problem, Report]]  # of a problem and, where its programs are the same, what was judged


def reconsidered(problem: Problem, whole: Problem, report: Report, options: Options, judge: Judge
                 ) -> tuple[Problem, Report]:  # fmt: skip
    """Return what was judged and its report; those of another problem if the rule holds there."""
    if report.verdict is not Verdict.REFUTED or report.checks[0].outcome is Outcome.FAILS:
        return whole, report
    if problem.by_values is None or whole.shared.failed_at is None or options.order != 1:
        return whole, report
    judged, again = whole, report
    if is_of_a_tolerance(problem, whole.shared.failed_at):
        allowed = problem._replace(accuracy=AT_ALL_SIZES, is_estimated=True, allowance=UNFINISHED)
        judged, again = judge(allowed, (whole, report))
    if (again.verdict is Verdict.REFUTED and judged.shared.failed_at is not None and not problem.stops
            and _values_agree(judged, options)):  # fmt: skip
        judged, again = judge(problem.by_values())
    if again.ok:
        found = f"autodiff of the function itself says otherwise: {report.reason}"
        return judged, dataclasses.replace(again, findings=(*again.findings, found))
    if again.verdict is Verdict.INCONCLUSIVE and options.seconds_left < 0:
        reason = f"{report.reason}; {TOO_SHORT}"
        return whole, dataclasses.replace(report, verdict=again.verdict, reason=reason, counterexample=None)
    return (judged, again) if whole.shared.of_a_tolerance else (whole, report)


def _values_agree(problem: Problem, options: Options) -> bool:
    """Whether the slope of the function's values, where the rule fails, is the rule's and not that of autodiff."""
    point, rng = problem.shared.failed_at, options.rng(Stream.SECOND_OPINION)
    if not problem.owners:
        return False
    if problem.domains:  # the gradient is not the slope along free parameters
        return iterates(problem)
    directions = [(k, i, rng.normal(size=np.shape(point.inputs[i]))) for k, i in problem.owners]
    try:
        slope = slope_along(problem, next(evaluators(problem)), point.inputs, (point.got, point.want), directions)
    except Exception as failed:  # whatever the user's function raises at other values
        noted(failed, "the slopes of the function's values")
        return False
    return (
        bool(np.isfinite(slope.estimate))
        and slope.agrees(slope.candidate, AGREES)
        and not slope.agrees(slope.reference, AGREES)
    )
