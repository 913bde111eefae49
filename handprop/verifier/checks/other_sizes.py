"""Other sizes: whether what is proved at the given shapes holds at others.

A proof is about the given shapes only. A rule that takes the height of a picture for its width, or divides by 3 where
it means the number of rows, is right at some shapes. Both programs are therefore compared at sizes that are all
different (``handprop.verifier.checks.resized``).
"""

import time
from typing import Any

import numpy as np

from handprop.verifier.checks.resized import at_other_sizes
from handprop.verifier.checks.rounding import rounding
from handprop.verifier.internal import first_line, noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.proof import agree_once
from handprop.verifier.report.values import Check, Outcome

__all__ = ["AS_GIVEN", "other_sizes"]

AS_GIVEN = "sizes are as given"


def other_sizes(problem: Problem, options: Options) -> Check:
    """Check whether what is proved at the given sizes holds at others; a wrong result is a finding and a condition."""
    start = time.monotonic()
    pair = problem.shared.proved_pair
    resized = at_other_sizes(problem) if pair is not None else None
    if resized is None:
        why = "the reference runs at no other sizes" if pair is not None else "only what the proof proved is tried"
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
    """Return how the program by hand fails at the other sizes, and what is wrong there; empty if nothing is found."""
    want = jaxprs.trace(problem.reference, problem.inputs).out_avals
    try:
        got = jaxprs.trace(problem.candidate, problem.inputs).out_avals
    except Exception as error:  # whatever JAX or the rule raises at these sizes
        return "" if noted(error, "the program by hand at other sizes") else first_line(error), ""
    for path, a, b in zip(problem.out_paths, got, want, strict=True):
        if a.shape != b.shape:
            return "", f"{path} has shape {a.shape}, expected {b.shape}"
    if agree_once(problem, pair, options):
        return "", ""
    check = rounding(problem, options)
    return "", check.summary if check.outcome is Outcome.FAILS else ""
