"""Structure: compare trees, shapes and dtypes, which takes no arithmetic."""

import time

import jax

from handprop.verifier.internal import first_line, place_of
from handprop.verifier.options import Options
from handprop.verifier.problem import Fault, Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.report.values import Check, Outcome

__all__ = ["structure"]

NO_REFERENCE = "autodiff of the function itself fails; pass a plain JAX version of it as reference="
CLOSED_OVER = (
    "a rule closes over an argument that is differentiated, which JAX does not support: pass it to the rule as an "
    "argument of its own, or exclude it by argnums="
)


def structure(problem: Problem, options: Options) -> Check:
    """Compare the shapes and dtypes of all outputs, and report the faults found while the rule was read."""
    start = time.monotonic()
    faults = list(problem.faults)
    if not faults:
        try:
            reference = jaxprs.trace(problem.reference, problem.inputs)
        except Exception as error:  # whatever JAX raises where a function has no derivative in reverse
            if place_of(error):
                raise
            summary = f"{NO_REFERENCE}: {first_line(error)}"
            return Check("structure", Outcome.UNDECIDED, summary, {}, seconds=time.monotonic() - start)
        try:
            candidate = jaxprs.trace(problem.candidate, problem.inputs)
        except jax.errors.UnexpectedTracerError:
            return Check("structure", Outcome.UNDECIDED, CLOSED_OVER, {}, seconds=time.monotonic() - start)
        except (TypeError, ValueError) as error:
            if place_of(error):
                raise
            faults.append(Fault("rule", first_line(error)))
        else:
            if jaxprs.leaks(candidate) or jaxprs.leaks(reference):
                return Check("structure", Outcome.UNDECIDED, CLOSED_OVER, {}, seconds=time.monotonic() - start)
            faults += _differing(problem, candidate.out_avals, reference.out_avals)
            problem.shared.hashes = {"candidate": jaxprs.hash_of(candidate), "reference": jaxprs.hash_of(reference)}
    seconds = time.monotonic() - start
    if faults:
        summary = "; ".join(f"{fault.path} {fault.what}" for fault in faults)
        return Check("structure", Outcome.FAILS, summary, {"faults": len(faults)}, seconds=seconds)
    summary = "every output has the reference's tree, shape and dtype"
    return Check("structure", Outcome.HOLDS, summary, {"leaves": len(problem.out_paths)}, seconds=seconds)


def _differing(problem: Problem, candidate: list, reference: list) -> list[Fault]:
    if len(candidate) != len(reference):
        return [Fault("rule", f"returns {len(candidate)} arrays, but the reference returns {len(reference)}")]
    triples = zip(problem.out_paths, candidate, reference, strict=True)
    return [
        Fault(path, f"is {g.dtype}{list(g.shape)}, not {w.dtype}{list(w.shape)}")
        for path, g, w in triples if (g.shape, g.dtype) != (w.shape, w.dtype)
    ]  # fmt: skip
