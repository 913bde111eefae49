"""Terms of a rule's gradients that the incoming gradient does not multiply: a gradient is linear in it, and so is zero
wherever the incoming gradient is.
"""

from typing import Any

from handprop.verify import jaxprs
from handprop.verify.field.values import Value
from handprop.verify.mistakes.bench import Bench, wrong
from handprop.verify.mistakes.locate import Suspect
from handprop.verify.mistakes.tape import Step, record
from handprop.verify.subject import Subject

__all__ = ["left_out"]

SAID = "{} not zero where the incoming gradient is: a term is not multiplied by it"
REASON = "a term here is not multiplied by the incoming gradient"


def left_out(subject: Subject, bench: Bench, hand: Any, got: tuple[Value, ...],
             steps: list[Step]) -> tuple[list[Suspect], str]:  # fmt: skip
    """Where such a term first joins what the cotangents multiply, if it does, and a sentence; none and "" where every
    gradient is zero at cotangents of zeros. ``got`` and ``steps`` are the hand program's at the bench's inputs."""
    if not subject.cotangents:
        return [], ""
    zeros = [_zero(bench, bench.inputs[i]) for i in subject.cotangents]
    zeroed = bench._replace(inputs=tuple(jaxprs.with_replaced(bench.inputs, subject.cotangents, zeros)), memo={})
    outputs, others = record(zeroed, hand)
    spoils = tuple(i for i in wrong(bench, got) if subject.gradients[i] and not _is_zero(bench, outputs[i]))
    if not spoils or [s.name for s in steps] != [s.name for s in others]:
        return [], ""
    which = ", ".join(subject.out_paths[i] for i in spoils) + (" is" if len(spoils) == 1 else " are")
    joined = _joined(bench, [bench.inputs[i] for i in subject.cotangents], steps, others)
    return [Suspect((-1,), frame, spoils, REASON) for frame in joined], SAID.format(which)


def _joined(bench: Bench, cotangents: list[Any], steps: list[Step], zeroed: list[Step]) -> list[jaxprs.Frame]:
    """The line of the first equation that takes what the cotangents enter, zero with them, and returns what is not."""
    entered = {id(x) for x in cotangents}
    for step, other in zip(steps, zeroed, strict=True):
        enters = [id(x) in entered for x in step.operands]
        if not any(enters):
            continue
        entered |= {id(x) for x in step.outputs}
        zero = all(_is_zero(bench, x) for x, enter in zip(other.operands, enters, strict=True) if enter)
        if zero and step.frames and not all(_is_zero(bench, x) for x in other.outputs):
            return [step.frames[0]]
    return []


def _zero(bench: Bench, x: Any) -> Any:
    return x._replace(x=bench.field.scale(x.x, 0)) if isinstance(x, Value) else x


def _is_zero(bench: Bench, x: Any) -> bool:
    return isinstance(x, Value) and x.special is None and bool(bench.field.is_zero(x.x).all())
