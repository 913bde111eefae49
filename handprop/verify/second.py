"""Second order: the derivative of a hand-written gradient against that of autodiff's."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.subject import Program, Subject, is_inexact

__all__ = ["differentiated"]


def differentiated(subject: Subject, rng: np.random.Generator) -> Subject:
    """The subject with one more derivative: beside what both programs return, the pullback of all their gradients.

    With g the gradients and v random cotangents of them, each program also returns
    ``v^T dg/dx`` for every inexact input x, cotangents included.
    """
    if subject.faults or subject.obstacle:
        return subject
    try:
        program = jaxprs.trace(subject.reference, subject.inputs)
        outputs = [aval for aval, is_gradient in zip(program.out_avals, subject.gradients, strict=True) if is_gradient]
        cotangents = tuple(rng.normal(size=o.shape).astype(o.dtype) for o in outputs)
        inputs = (*subject.inputs, *cotangents)
        hand, reference = (_with_pullback(f, subject) for f in (subject.hand, subject.reference))
        _ = [jaxprs.trace(f, inputs) for f in (hand, reference)]
    except Exception as error:  # whatever JAX, or the rule, raises at its own derivative
        return subject._replace(obstacle=f"it cannot be differentiated twice: {jaxprs.first_line(error)}")
    named = [path for path, is_gradient in zip(subject.out_paths, subject.gradients, strict=True) if is_gradient]
    more = tuple(f"second d{path}" for path, x in zip(subject.in_paths, subject.inputs, strict=True) if is_inexact(x))
    once = subject.as_program
    return subject._replace(
        hand=hand,
        as_reference=None,
        as_program=None if once is None else lambda f: _with_pullback(once(f), subject),
        reference=reference,
        inputs=inputs,
        in_paths=(*subject.in_paths, *(f"cotangent of {path}" for path in named)),
        out_paths=(*subject.out_paths, *more),
        gradients=(*subject.gradients, *(True for _ in more)),
        primal=None,  # whose slopes the first derivatives are, and not all of these outputs
        wrt=(),
    )


def _with_pullback(f: Program, subject: Subject) -> Program:
    count = len(subject.inputs)
    places = [i for i, x in enumerate(subject.inputs) if is_inexact(x)]

    def program(*inputs: Any) -> tuple[jax.Array, ...]:
        def gradients(*chosen: Any) -> tuple[list[Any], Sequence[Any]]:
            whole = list(inputs[:count])
            for place, x in zip(places, chosen, strict=True):
                whole[place] = x
            outputs = f(*whole)
            return [o for o, is_gradient in zip(outputs, subject.gradients, strict=True) if is_gradient], outputs

        _, pull, outputs = jax.vjp(gradients, *(inputs[i] for i in places), has_aux=True)
        return (*outputs, *pull(list(inputs[count:])))

    return program
