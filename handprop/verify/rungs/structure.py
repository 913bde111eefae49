"""Structure: trees, shapes and dtypes, which anyone can see without arithmetic."""

import time

import jax

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.report import Check, Outcome
from handprop.verify.subject import Fault, Subject

__all__ = ["structure"]

NO_REFERENCE = "autodiff of the function itself fails; give a readable twin of it as reference="
CLOSED_OVER = (
    "a rule closes over an argument that is differentiated, which JAX does not support: pass it to the rule as an "
    "argument of its own, or leave it out by argnums="
)


def structure(subject: Subject, options: Options) -> Check:
    """Every output's shape and dtype against the reference's, and the faults found while the rule was read."""
    start = time.monotonic()
    faults = list(subject.faults)
    if not faults:
        try:
            reference = jaxprs.trace(subject.reference, subject.inputs)
        except Exception as error:  # whatever JAX raises where a function has no derivative in reverse
            shows = f"{NO_REFERENCE}: {jaxprs.first_line(error)}"
            return Check("structure", Outcome.UNDECIDED, shows, {}, seconds=time.monotonic() - start)
        try:
            hand = jaxprs.trace(subject.hand, subject.inputs)
        except jax.errors.UnexpectedTracerError:
            return Check("structure", Outcome.UNDECIDED, CLOSED_OVER, {}, seconds=time.monotonic() - start)
        except (TypeError, ValueError) as error:
            faults.append(Fault("rule", jaxprs.first_line(error)))
        else:
            if jaxprs.leaks(hand) or jaxprs.leaks(reference):
                return Check("structure", Outcome.UNDECIDED, CLOSED_OVER, {}, seconds=time.monotonic() - start)
            faults += _differing(subject, hand.out_avals, reference.out_avals)
            subject.kept["hashes"] = {"hand": jaxprs.hash_of(hand), "reference": jaxprs.hash_of(reference)}
    seconds = time.monotonic() - start
    if faults:
        shows = "; ".join(f"{fault.path} {fault.what}" for fault in faults)
        return Check("structure", Outcome.FAILS, shows, {"faults": len(faults)}, seconds=seconds)
    shows = "every output has the reference's tree, shape and dtype"
    return Check("structure", Outcome.HOLDS, shows, {"leaves": len(subject.out_paths)}, seconds=seconds)


def _differing(subject: Subject, hand: list, reference: list) -> list[Fault]:
    if len(hand) != len(reference):
        return [Fault("rule", f"returns {len(hand)} arrays, the reference {len(reference)}")]
    triples = zip(subject.out_paths, hand, reference, strict=True)
    return [
        Fault(path, f"is {g.dtype}{list(g.shape)}, not {w.dtype}{list(w.shape)}")
        for path, g, w in triples if (g.shape, g.dtype) != (w.shape, w.dtype)
    ]  # fmt: skip
