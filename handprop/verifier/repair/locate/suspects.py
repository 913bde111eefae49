"""Find the lines of the user's code that are likely to be wrong, by comparison with the reference's values.

The search goes backward from the wrong outputs over the candidate program's equations and stops at values that the
reference computes too. If all operands of an equation that it reaches are known and its output is not, the programs
part there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from handprop.verifier.problem import Problem
from handprop.verifier.programs import frames
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation, affected
from handprop.verifier.repair.locate.execution import LOOPS, Known, Step
from handprop.verifier.repair.source.functions import quoted
from handprop.verifier.repair.source.statements import part_of
from handprop.verifier.report.values import Location

__all__ = ["Suspect", "location", "suspects"]


class Suspect(NamedTuple):
    """A frame on the way to wrong outputs (``affects``, by number). A smaller ``rank`` is more likely."""

    rank: tuple[int, ...]
    frame: frames.Frame
    affects: tuple[int, ...]
    reason: str


def suspects(problem: Problem, interpretation: Interpretation, theirs: Sequence[Thing], got: tuple[Value, ...],
             steps: list[Step]) -> list[Suspect]:  # fmt: skip
    """Return the suspects, one per line, the likeliest first.

    ``theirs`` are values of the reference; ``got`` and ``steps`` are the candidate program's outputs and equations.
    """
    known = Known(interpretation)
    for value in (*interpretation.inputs, *interpretation.want, *theirs):
        known.add(value)
    bad = affected(interpretation, got)
    makers = _makers(steps, interpretation)
    reached = {i: _reached(steps, makers, known, got[i]) for i in bad}
    right = set().union(*(_ancestors(steps, makers, got[i]) for i in range(len(got)) if i not in bad))
    found: dict[tuple[str, int], Suspect] = {}
    every = sorted(n for n in set().union(*reached.values()) if steps[n].frames)
    # The later iterations of a loop get values that are already wrong.
    for n in [n for n in every if not steps[n].again and steps[n].name not in LOOPS] or every:
        step = steps[n]
        affects = tuple(i for i in bad if n in reached[i])
        suspect = Suspect(_rank(step, n, n in right, len(bad) - len(affects), known), step.frames[0], affects,
                          _reason(step, known, problem))  # fmt: skip
        key = (suspect.frame.file, suspect.frame.line)
        if key not in found or suspect.rank < found[key].rank:
            found[key] = suspect
    return sorted(found.values())


def _makers(steps: list[Step], interpretation: Interpretation) -> dict[int, int]:
    """Return the step that made each value: the first one, if later steps only pass it on."""
    makers: dict[int, int] = {id(value): -1 for value in interpretation.inputs}
    for n, step in enumerate(steps):
        for output in step.outputs:
            makers.setdefault(id(output), n)
    return makers


def _reached(steps: list[Step], makers: dict[int, int], known: Known, output: Value) -> set[int]:
    """Return the steps between an output and the nearest values that are known exactly."""
    found: set[int] = set()
    left: list[Thing] = [output]
    while left:
        value = left.pop()
        n = makers.get(id(value), -1)
        if n < 0 or n in found or (value is not output and known.ratio(value) == (1, 1)):
            continue
        found.add(n)
        left.extend(operand for operand in steps[n].operands if isinstance(operand, Value) or known.lacks(operand))
    return found


def _ancestors(steps: list[Step], makers: dict[int, int], output: Value) -> set[int]:
    found: set[int] = set()
    left = [output]
    while left:
        n = makers.get(id(left.pop()), -1)
        if n >= 0 and n not in found:
            found.add(n)
            left.extend(operand for operand in steps[n].operands if isinstance(operand, Value))
    return found


def _rank(step: Step, n: int, feeds_right: bool, missed: int, known: Known) -> tuple[int, ...]:
    operands = [known.ratio(operand) for operand in step.operands]
    here = all(ratio == (1, 1) for ratio in operands)
    near = all(ratio is not None for ratio in operands)
    output = known.ratio(step.outputs[0]) if step.outputs else None
    if step.name in LOOPS:  # the reference may keep the arrays of all iterations in another layout
        return (int(feeds_right), missed, 3, n)
    parts = 0 if here and output is None else 1 if here and output != (1, 1) else 2 if near and output is None else 3
    return (int(feeds_right), missed, parts, n)


def _reason(step: Step, known: Known, problem: Problem) -> str:
    operands = [known.ratio(operand) for operand in step.operands]
    output = known.ratio(step.outputs[0]) if step.outputs else None
    fwd = part_of(problem, "fwd")
    code = None if fwd is None else fwd.__code__
    frame = step.frames[0]
    if code and frame.file == code.co_filename and any(f.function == code.co_qualname for f in step.frames):
        return "fwd computes it"
    if all(ratio == (1, 1) for ratio in operands) and output is None:
        return "the reference computes the operands here, but never the result"
    if output not in (None, (1, 1)):
        numerator, denominator = output  # pyright: ignore[reportGeneralTypeIssues]
        if not numerator:
            return "the reference computes a constant multiple of this value"
        times = f"{numerator}/{denominator}" if denominator != 1 else f"{numerator}"
        return f"this value is {times} times a value that the reference computes"
    if output == (1, 1):
        return "the reference computes this value too, but uses it elsewhere"
    return "the wrong output is computed from this value"


def location(suspect: Suspect, out_paths: tuple[str, ...]) -> Location:
    frame = suspect.frame
    text, columns = quoted(frame)
    affects = tuple(out_paths[i] for i in suspect.affects)
    return Location(frame.file, frame.line, columns, text, frame.function, affects, suspect.reason)
