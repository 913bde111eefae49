"""Find terms of a rule's gradients that are not multiplied by the incoming cotangent.

A gradient is linear in the cotangent, so it is zero wherever the cotangent is zero.
"""

from typing import Any

from handprop.verifier.problem import Problem
from handprop.verifier.programs import frames, jaxprs
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation, wrong
from handprop.verifier.repair.locate.execution import Step, record
from handprop.verifier.repair.locate.suspects import Suspect

__all__ = ["left_out"]

SAID = "{} not zero when the cotangent is zero: a term is not multiplied by the cotangent"
REASON = "a term here is not multiplied by the cotangent"


def left_out(problem: Problem, interpretation: Interpretation, candidate: Any, got: tuple[Value, ...],
             steps: list[Step]) -> tuple[list[Suspect], str]:  # fmt: skip
    """Return where such a term first joins the numbers computed from the cotangents, and a sentence about it.

    Returns no suspects and "" if every gradient is zero for zero cotangents. ``got`` and ``steps`` are the candidate
    program's outputs and equations at the interpretation's inputs.
    """
    if not problem.cotangents:
        return [], ""
    zeros = [_zero(interpretation, interpretation.inputs[i]) for i in problem.cotangents]
    zeroed = interpretation._replace(
        inputs=tuple(jaxprs.with_replaced(interpretation.inputs, problem.cotangents, zeros)), memo={}
    )
    outputs, others = record(zeroed, candidate)
    affects = tuple(
        i for i in wrong(interpretation, got) if problem.gradients[i] and not _is_zero(interpretation, outputs[i])
    )
    if not affects or [s.name for s in steps] != [s.name for s in others]:
        return [], ""
    which = ", ".join(problem.out_paths[i] for i in affects) + (" is" if len(affects) == 1 else " are")
    joined = _joined(interpretation, [interpretation.inputs[i] for i in problem.cotangents], steps, others)
    return [Suspect((-1,), frame, affects, REASON) for frame in joined], SAID.format(which)


def _joined(
    interpretation: Interpretation, cotangents: list[Any], steps: list[Step], zeroed: list[Step]
) -> list[frames.Frame]:
    """Return the line of the first equation that joins such a term.

    Its operands that depend on the cotangents are zero for zero cotangents, and its outputs are not.
    """
    entered = {id(x) for x in cotangents}
    for step, other in zip(steps, zeroed, strict=True):
        enters = [id(x) in entered for x in step.operands]
        if not any(enters):
            continue
        entered |= {id(x) for x in step.outputs}
        zero = all(_is_zero(interpretation, x) for x, enter in zip(other.operands, enters, strict=True) if enter)
        if zero and step.frames and not all(_is_zero(interpretation, x) for x in other.outputs):
            return [step.frames[0]]
    return []


def _zero(interpretation: Interpretation, x: Any) -> Any:
    return x._replace(x=interpretation.field.scale(x.x, 0)) if isinstance(x, Value) else x


def _is_zero(interpretation: Interpretation, x: Any) -> bool:
    return isinstance(x, Value) and x.special is None and bool(interpretation.field.is_zero(x.x).all())
