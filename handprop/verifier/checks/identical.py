"""Whether both programs have the same jaxpr, apart from names and dead code."""

import time
from typing import Any

from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.labels import own_labels
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.report.values import Check, Outcome

__all__ = ["identical"]


def identical(problem: Problem, options: Options) -> Check:
    """Check whether both programs are the same equations: then they return the same bits on every input, anywhere."""
    start = time.monotonic()
    candidate, reference = (jaxprs.trace(f, problem.inputs) for f in (problem.candidate, problem.reference))
    same = jaxprs.hash_of(candidate) == jaxprs.hash_of(reference)
    same = same and not any(_is_opaque(eqn) for eqn in jaxprs.equations(candidate))
    same = same and not jaxprs.namesake(candidate, reference) and not _share_a_name(candidate, reference)
    same = same and own_labels(candidate) == own_labels(reference)
    summary = "the same equations, so the same bits on every input" if same else "written differently"
    outcome = Outcome.PROVES if same else Outcome.UNDECIDED
    evidence = {
        "candidate": len(list(jaxprs.equations(candidate))),
        "reference": len(list(jaxprs.equations(reference))),
    }
    return Check("identical", outcome, summary, evidence, seconds=time.monotonic() - start)


def _share_a_name(*programs: Any) -> bool:
    """Whether two primitives have one name, also such as the proof walks through."""
    met: dict[str, Any] = {}
    every = (eqn.primitive for program in programs for eqn in jaxprs.equations(program))
    return any(met.setdefault(primitive.name, primitive) is not primitive for primitive in every)


def _is_opaque(eqn: Any) -> bool:
    """Whether the equation's text does not say all that it computes: it calls a function that the text only names."""
    if has(eqn, Trait.CUSTOM_RULE):
        return False  # its functions run only under differentiation, which a traced program no longer undergoes
    named = " at 0x" in str(eqn.params) or "callback" in eqn.primitive.name
    return eqn.primitive.name == "pallas_call" or bool(eqn.effects) or named
