"""Second order: the derivative of a hand-written gradient against that of autodiff's."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.subject import Program, Subject

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
    more = tuple(f"second d{subject.in_paths[i]}" for i in jaxprs.float_places(subject.inputs))
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
    places = jaxprs.float_places(subject.inputs)

    def program(*inputs: Any) -> tuple[jax.Array, ...]:
        def gradients(*chosen: Any) -> tuple[list[Any], Sequence[Any]]:
            outputs = f(*jaxprs.with_replaced(inputs[:count], places, chosen))
            return [o for o, is_gradient in zip(outputs, subject.gradients, strict=True) if is_gradient], outputs

        _, pull, outputs = jax.vjp(gradients, *(inputs[i] for i in places), has_aux=True)
        return (*outputs, *pull(list(inputs[count:])))

    return program
