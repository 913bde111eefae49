"""Other sizes: what is one function at these shapes alone.

A proof speaks of the shapes that were given. Where a rule takes the height of a picture for its width, divides by 3
where it means the number of rows, or the like, it is right at some shapes: both programs are held against each other
at sizes that are all different (``handprop.verifier.programs.sizes``).
"""

import time
from typing import Any

import numpy as np

from handprop.verifier.checks.rounding import rounding
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.sizes import at_other_sizes
from handprop.verifier.proof.proof import agree_once
from handprop.verifier.report.values import Check, Outcome

__all__ = ["AS_GIVEN", "other_sizes"]

AS_GIVEN = "sizes are as given"


def other_sizes(problem: Problem, options: Options) -> Check:
    """Whether what is proved at the given sizes holds at others; what does not is a finding and a condition."""
    start = time.monotonic()
    pair = problem.kept.get("proved by")
    resized = at_other_sizes(problem) if pair is not None else None
    if resized is None:
        why = "the reference has no other sizes" if pair is not None else "only what the proof proves is tried"
        return Check("other_sizes", Outcome.SKIPPED, why, {}, seconds=time.monotonic() - start)
    sizes = ", ".join(f"{path} {'x'.join(map(str, x.shape))}" for path, x, given in zip(
        resized.in_paths, resized.inputs, problem.inputs, strict=True) if np.shape(x) != np.shape(given))  # fmt: skip
    fails, wrong = _found_there(resized, pair, options)
    seconds = time.monotonic() - start
    if not fails and not wrong:
        return Check("other_sizes", Outcome.HOLDS, f"it holds with {sizes} too", {"sizes": sizes}, seconds=seconds)
    said = f"at other sizes ({sizes}) " + (f"the program by hand fails: {fails}" if fails else f"it is wrong: {wrong}")
    evidence = {"sizes": sizes, "findings": (said,), "conditions": (AS_GIVEN,) if wrong else (), "fails": bool(fails)}
    return Check("other_sizes", Outcome.NOTES, said, evidence, seconds=seconds)


def _found_there(problem: Problem, pair: Any, options: Options) -> tuple[str, str]:
    """How the program by hand fails at the other sizes, and what is wrong there; empty where nothing is seen."""
    problem.kept["accuracy"] = options.accuracy
    want = jaxprs.trace(problem.reference, problem.inputs).out_avals
    try:
        got = jaxprs.trace(problem.candidate, problem.inputs).out_avals
    except Exception as error:  # whatever JAX, or the rule, says to these sizes
        return "" if noted(error, "the program by hand at other sizes") else jaxprs.first_line(error), ""
    for path, a, b in zip(problem.out_paths, got, want, strict=True):
        if a.shape != b.shape:
            return "", f"{path} has the shape {a.shape} where {b.shape} belongs"
    if agree_once(problem, pair, options):
        return "", ""
    check = rounding(problem, options)
    return "", check.summary if check.outcome is Outcome.FAILS else ""
