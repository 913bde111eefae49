"""The same program: both jaxprs are one text, names and dead code aside."""

import time

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.report import Check, Outcome
from handprop.verify.subject import Subject

__all__ = ["identical"]


def identical(subject: Subject, options: Options) -> Check:
    """Whether the two programs are the same equations: then the same bits on every input, wherever they run."""
    start = time.monotonic()
    hand, reference = (jaxprs.trace(f, subject.inputs) for f in (subject.hand, subject.reference))
    same = jaxprs.hash_of(hand) == jaxprs.hash_of(reference)
    opaque = {"pallas_call", "pure_callback", "io_callback", "custom_call"}
    same = same and not any(eqn.primitive.name in opaque for eqn in jaxprs.equations(hand))
    shows = "the same equations: the same bits on every input" if same else "written differently"
    outcome = Outcome.PROVES if same else Outcome.UNDECIDED
    evidence = {"hand": len(list(jaxprs.equations(hand))), "reference": len(list(jaxprs.equations(reference)))}
    return Check("identical", outcome, shows, evidence, seconds=time.monotonic() - start)
