"""What a loose value cancels out of: a softmax does not depend on the maximum that it subtracts.

A value that came through truths, roundings or functions that are not understood may be zero on a set that matters,
and nothing is divided by it. But where it is the same however these are drawn, it is no function of them: over the
reals it is a function of the inputs through the rest alone, and zero almost nowhere as any such function. Both
programs are evaluated twice at the same point with everything loose drawn anew, a probe, and the steps are marked
that came to the same. A polynomial of degree d that does depend on what is drawn anew seems not to with probability
at most ``d / p``, which the proof's bound adds for every step.
"""

from collections.abc import Callable

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.hashing import word
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import Value

__all__ = ["settled", "steady_steps"]

PROBES = (1, 2)


def steady_steps(probed: Callable[[int], Run]) -> tuple[bool, ...]:
    """At which steps the loose values did not depend on the probe; ``probed(probe)`` evaluates the programs so."""
    first, second = (probed(probe).words for probe in PROBES)
    if len(first) != len(second):
        raise Unsupported("a program whose steps depend on what is decided")
    return tuple(a == b != 0 for a, b in zip(first, second, strict=True))


def settled(run: Run, out: Value) -> Value:
    """The result of one more step: of no loose kind where it was seen to be steady."""
    step, run.steps = run.steps, run.steps + 1
    if run.probe:
        run.words.append(word(out) if out.kind is Kind.LOOSE else 0)
    if step < len(run.steady) and run.steady[step] and out.kind is Kind.LOOSE:
        run.steady_degree = run.steady_degree.worst(out.degree)
        return out._replace(kind=Kind.RELATED)
    return out
