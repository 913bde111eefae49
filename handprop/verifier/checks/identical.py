"""The same program: both jaxprs are one text, names and dead code aside."""

import time
from typing import Any

from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.proof.field.labels import own_labels
from handprop.verifier.report.values import Check, Outcome

__all__ = ["identical"]


def identical(problem: Problem, options: Options) -> Check:
    """Whether the two programs are the same equations: then the same bits on every input, wherever they run."""
    start = time.monotonic()
    candidate, reference = (jaxprs.trace(f, problem.inputs) for f in (problem.candidate, problem.reference))
    same = jaxprs.hash_of(candidate) == jaxprs.hash_of(reference)
    same = same and not any(_is_opaque(eqn) for eqn in jaxprs.equations(candidate))
    same = same and not jaxprs.namesake(candidate, reference) and own_labels(candidate) == own_labels(reference)
    summary = "the same equations: the same bits on every input" if same else "written differently"
    outcome = Outcome.PROVES if same else Outcome.UNDECIDED
    evidence = {
        "candidate": len(list(jaxprs.equations(candidate))),
        "reference": len(list(jaxprs.equations(reference))),
    }
    return Check("identical", outcome, summary, evidence, seconds=time.monotonic() - start)


def _is_opaque(eqn: Any) -> bool:
    """Whether the equation's text does not say all that it computes: it calls a function that the text only names."""
    if has(eqn, Trait.CUSTOM_RULE):
        return False  # functions that are called where it is differentiated, which a traced program is not any more
    named = " at 0x" in str(eqn.params) or "callback" in eqn.primitive.name
    return eqn.primitive.name == "pallas_call" or bool(eqn.effects) or named
