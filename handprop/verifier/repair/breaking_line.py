"""Find the line where a rule breaks at one input, or where it stops being linear in its cotangent.

A rule breaks at an input if NaN or infinity appears there, or if its answer jumps. The finite field, in which edits are
searched for, has neither NaN nor a notion of closeness, so the candidate program runs equation by equation in float64.
The first equation that turns finite numbers into NaN or infinity is the one to report. If there is none, the program
also runs a relative step of 2^-30 away from the input. If an equation's operands hardly change, or are decisions, but
its output changes by more than a thousandth of its size, then the answer is chosen for this very input. The last such
equation before the wrong output is the most likely one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.overflow import RangeExit, Step, run_of
from handprop.verifier.checks.sampling import Point
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import frames, jaxprs
from handprop.verifier.programs.executables import array
from handprop.verifier.repair.source.functions import quoted, rebuilt
from handprop.verifier.report.values import Location, Worst

__all__ = ["BreakingLine", "breaking_line", "nonlinear_line"]

NEAR = 2.0**-30
BESIDE = 3
JUMP = 1e-3
STEEP = 1e3
SAME = 1e-9
ADDED = {"add": "added", "add_any": "added", "sub": "subtracted"}
WORDS = {"div": "{0} / {1}", "log": "log({0})", "sqrt": "sqrt({0})", "rsqrt": "rsqrt({0})", "sub": "{0} - {1}",
         "mul": "{0} * {1}", "exp": "exp({0})", "pow": "{0} ** {1}", "add": "{0} + {1}",
         "log1p": "log1p({0})"}  # fmt: skip


class BreakingLine(NamedTuple):
    """The place where a rule breaks, and a sentence that says how."""

    location: Location
    diagnosis: str


def breaking_line(problem: Problem, point: Point, worst: Worst, options: Options) -> BreakingLine | None:
    """Return the user's line where the wrong entry breaks at this point, or None if no line is found."""
    output = problem.out_paths.index(worst.path)
    program = _program(problem, output)
    with jax.enable_x64(True):
        inputs = tuple(jaxprs.widened(x) for x in point.inputs)
    steps = run_of(program, inputs)
    found = _birth(steps) if not np.isfinite(worst.got) else None
    return _located(*found, worst.path) if found else _located_jump(problem, point, program, steps, worst, options)


def nonlinear_line(problem: Problem, worst: Worst) -> BreakingLine | None:
    """Return the user's line where the wrong output stops being linear in the cotangents, or None if it is linear.

    The candidate program runs at cotangents c and 2 c. In a linear pullback every number on the way to the output
    either stays the same or doubles. The first number that does neither, although its operands do, is where the
    pullback cannot be right for every cotangent.
    """
    if not problem.cotangents or worst.path not in problem.out_paths:
        return None
    program = _program(problem, problem.out_paths.index(worst.path))
    with jax.enable_x64(True):
        inputs = tuple(jaxprs.widened(x) for x in problem.inputs)
        twice = tuple(array(2 * np.asarray(x)) if i in problem.cotangents else x for i, x in enumerate(inputs))
    once, doubled = run_of(program, inputs), run_of(program, twice)
    if len(once) != len(doubled):
        return None
    for a, b in zip(once, doubled, strict=True):
        if not all(map(_is_linear, a.outputs, b.outputs)) and all(map(_is_linear, a.operands, b.operands)):
            name = a.eqn.primitive.name
            terms = f"a term is {ADDED[name]} here that is not multiplied by the cotangent" if name in ADDED else ""
            said = terms or (
                "the cotangent is multiplied in twice here"
                if name == "mul"
                else f"{name} is applied to the cotangent here, so the result is not linear in the cotangent"
            )
            return _located(a, said, worst.path)
    return None


def _is_linear(once: np.ndarray, doubled: np.ndarray) -> bool:
    """Whether doubling the cotangent leaves all entries unchanged or doubles all of them."""
    if not (jaxprs.is_float(once.dtype) or jaxprs.is_complex(once.dtype)):
        return bool((once == doubled).all())
    kept = np.isfinite(once) & np.isfinite(doubled)
    once, doubled = once[kept], doubled[kept]
    size = SAME * np.abs(once).max(initial=0.0)
    return any(bool((np.abs(doubled - factor * once) <= size).all()) for factor in (1, 2))


def _program(problem: Problem, output: int) -> Any:
    """The part of the candidate program that computes this output, with the source lines that the user wrote."""
    candidate = problem.candidate
    if problem.as_program is not None and problem.written is not None:
        candidate = problem.as_program(rebuilt(problem.written, {}))
    program = jaxprs.trace(candidate, problem.inputs)
    return jaxprs.pruned(program, [k == output for k in range(len(program.out_avals))])


def _birth(steps: Sequence[Step]) -> tuple[Step, str] | None:
    for step in steps:
        if step.how in (RangeExit.NAN, RangeExit.INFINITY):
            return step, f"{step.how.value} first appears here: {_in_words(step)}"
    return None


def _in_words(step: Step) -> str:
    """The equation at the first entry that is not finite, written with the numbers that go into it."""
    made = step.outputs[0]
    index = tuple(np.argwhere(np.isnan(made) if step.how is RangeExit.NAN else np.isinf(made))[0])
    numbers = [f"{float(np.broadcast_to(v, made.shape)[index]):.3g}" for v in step.operands
               if np.ndim(v) == 0 or np.shape(v) == made.shape]  # fmt: skip
    name = step.eqn.primitive.name
    form = WORDS.get(name)
    if form is None or len(numbers) < form.count("{"):
        return f"by {name}"
    return form.format(*numbers)


def _located_jump(problem: Problem, point: Point, program: Any, steps: Sequence[Step], worst: Worst,
                  options: Options) -> BreakingLine | None:  # fmt: skip
    """Locate the last equation at which the wrong output is chosen for this very input."""
    last: tuple[int, Step] | None = None
    for n in range(BESIDE):
        beside = run_of(program, _beside(problem, point, options.rng(Stream.NEARBY, n)))
        if len(beside) != len(steps):
            return None
        for i, (here, there) in enumerate(zip(steps, beside, strict=True)):
            if (last is None or i > last[0]) and _jumps(here, there):
                last = i, here
    if last is None:
        return _located_branch(problem, point, program, steps, worst)
    said = f"{worst.path} is wrong at this input alone: it jumps here to a value far from those at nearby inputs"
    return _located(last[1], said, worst.path)


def _located_branch(problem: Problem, point: Point, program: Any, steps: Sequence[Step],
                    worst: Worst) -> BreakingLine | None:  # fmt: skip
    """Locate the last selection that takes another branch at this point than at the given input."""
    with jax.enable_x64(True):
        given = run_of(program, tuple(jaxprs.widened(x) for x in problem.inputs))
    if len(given) != len(steps):
        return None
    chosen = [here for here, there in zip(steps, given, strict=True)
              if here.eqn.primitive.name == "select_n" and (here.operands[0] != there.operands[0]).any()]  # fmt: skip
    said = f"another case is selected here than at the given input, and {worst.path} is wrong in that case"
    return _located(chosen[-1], said, worst.path) if chosen else None


def _beside(problem: Problem, point: Point, rng: np.random.Generator) -> tuple[Any, ...]:
    places = problem.wrt or problem.moving
    given = [np.asarray(point.inputs[i], np.float64) for i in places]
    sizes = [np.abs(np.where(np.isfinite(x), x, 0.0)) for x in given]
    steps = [NEAR * (size + (size.max(initial=0.0) or 1.0)) for size in sizes]
    with jax.enable_x64(True), np.errstate(all="ignore"):
        moved = [array(x + step * rng.normal(size=x.shape)) for x, step in zip(given, steps, strict=True)]
    return tuple(jaxprs.with_replaced(point.inputs, places, moved))


def _jumps(here: Step, there: Step) -> bool:
    """Whether a float output jumps between two nearby inputs.

    It must change by more than ``JUMP`` relative to its size. The change must also be larger than a steep slope would
    make of the operands' changes, or come from a selection that takes another branch.
    """
    if not here.outputs or not jaxprs.is_float(here.outputs[0].dtype):
        return False
    change, size = _change(here.outputs[0], there.outputs[0])
    pairs = list(zip(here.operands, there.operands, strict=True))
    moved = max((_change(a, b)[0] for a, b in pairs if jaxprs.is_float(a.dtype)), default=0.0)
    chosen = here.eqn.primitive.name == "select_n" and (pairs[0][0] != pairs[0][1]).any()
    return change > JUMP * size and (change > STEEP * moved or chosen)


def _change(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the largest change between ``a`` and ``b``, and the largest entry of either."""
    with np.errstate(all="ignore"):
        change = np.abs(a - b)
    change, size = change[np.isfinite(change)], np.concatenate([a[np.isfinite(a)], b[np.isfinite(b)]])
    return float(change.max(initial=0.0)), float(np.abs(size).max(initial=0.0))


def _located(step: Step, said: str, path: str) -> BreakingLine | None:
    calls = (e for e in step.stack[:-1] if jaxprs.called_program(e) is not None and jaxprs.of_jax(e))
    found = frames.user_frames(next(calls, step.stack[-1]))
    if not found:
        return None
    text, columns = quoted(found[0])
    return BreakingLine(Location(found[0].file, found[0].line, columns, text, found[0].function, (path,), said), said)
