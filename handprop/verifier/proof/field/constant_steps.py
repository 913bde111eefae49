"""Steps from which loose values cancel: a softmax does not depend on the maximum that it subtracts.

A value that came through truth values, roundings or unknown functions may be zero on a set that matters, so nothing is
divided by it. But if it is the same however these are drawn, it is no function of them. Over the reals it is then a
function of the inputs through the rest alone, and is zero almost nowhere, like any such function. Both programs are
evaluated twice at the same point, each time with everything loose drawn anew (a probe), and the steps whose results
agree are marked. A polynomial of degree d that depends on what is drawn anew seems not to with probability at most
``d / p``, which the proof's bound adds for every step.
"""

from collections.abc import Callable

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.hashing import word
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import Value

__all__ = ["as_constant", "constant_steps"]

PROBES = (1, 2)


def constant_steps(probed: Callable[[int], Run]) -> tuple[bool, ...]:
    """Whether each step's value is loose and yet independent of the probe; ``probed(probe)`` evaluates the programs."""
    first, second = (probed(probe).words for probe in PROBES)
    if len(first) != len(second):
        raise Unsupported("a program whose steps depend on what is decided")
    return tuple(a == b != 0 for a, b in zip(first, second, strict=True))


def as_constant(run: Run, out: Value) -> Value:
    """The result of the next step; it is no longer loose if the step is constant."""
    step, run.steps = run.steps, run.steps + 1
    if run.probe:
        run.words.append(word(out) if out.kind is Kind.PIECEWISE else 0)
    if step < len(run.constant_steps) and run.constant_steps[step] and out.kind is Kind.PIECEWISE:
        run.constant_degree = run.constant_degree.worst(out.degree)
        return out._replace(kind=Kind.RELATED)
    return out
