"""The same program: both jaxprs are one text, names and dead code aside."""

import time
from typing import Any

from handprop.verify import jaxprs
from handprop.verify.field.labels import own_labels
from handprop.verify.options import Options
from handprop.verify.report import Check, Outcome
from handprop.verify.subject import Subject

__all__ = ["identical"]


def identical(subject: Subject, options: Options) -> Check:
    """Whether the two programs are the same equations: then the same bits on every input, wherever they run."""
    start = time.monotonic()
    hand, reference = (jaxprs.trace(f, subject.inputs) for f in (subject.hand, subject.reference))
    same = jaxprs.hash_of(hand) == jaxprs.hash_of(reference)
    same = same and not any(_is_opaque(eqn) for eqn in jaxprs.equations(hand))
    same = same and not jaxprs.namesake(hand, reference) and own_labels(hand) == own_labels(reference)
    shows = "the same equations: the same bits on every input" if same else "written differently"
    outcome = Outcome.PROVES if same else Outcome.UNDECIDED
    evidence = {"hand": len(list(jaxprs.equations(hand))), "reference": len(list(jaxprs.equations(reference)))}
    return Check("identical", outcome, shows, evidence, seconds=time.monotonic() - start)


def _is_opaque(eqn: Any) -> bool:
    """Whether the equation's text does not say all that it computes: it calls a function that the text only names."""
    if eqn.primitive.name in jaxprs.RULE_CALLS:
        return False  # functions that are called where it is differentiated, which a traced program is not any more
    named = " at 0x" in str(eqn.params) or "callback" in eqn.primitive.name
    return eqn.primitive.name == "pallas_call" or bool(eqn.effects) or named
