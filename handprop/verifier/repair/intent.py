"""What a gradient that is not the derivative of its function may be meant to be.

Each gradient that is wrong is held against the shapes that people give gradients on purpose: the cotangent handed
through, no gradient, a multiple, a clipped, masked or normalised one, a statistic, the derivative but for guards, that
of the function without its roundings, the slopes of a smooth step, an estimate. A shape is proposed if it fits the
numbers at some points and cotangents of several sizes, and of those that fit, one that the proof confirms for all
numbers comes first. What says less is tried where nothing else fits.
"""

import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.along_domains import inside
from handprop.verifier.checks.evaluators import evaluators
from handprop.verifier.checks.sampling import sample
from handprop.verifier.internal import noted
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, jaxprs
from handprop.verifier.repair.but_for import but_for
from handprop.verifier.repair.claims import outcome_of
from handprop.verifier.repair.inner_rules import of_inner_rules
from handprop.verifier.repair.mean_over_draws import right_on_average
from handprop.verifier.repair.other_function import of_another_function
from handprop.verifier.repair.shapes import (
    Asked,
    Seen,
    Shape,
    constants,
    is_close,
    renamed,
    shapes,
)
from handprop.verifier.repair.soft_steps import slopes_of_its_own, soft_steps
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Outcome, Verdict
from handprop.verifier.rules import RULES

__all__ = ["with_intent"]

POINTS, SIZES = 3, (1.0, 1.0, 100.0, 0.01)  # of the cotangents, as some shapes depend on how large they are
LIMIT = 15.0  # seconds
UNKNOWN = "of no known shape"
IF_MEANT = "if that is meant, pass surrogate={}"
Found = TypeVar("Found")


class Named(NamedTuple):
    """What wrong gradients are, by their numbers; "" for one that is of no known shape. ``line`` is what to pass."""

    said: dict[int, str]
    line: str = ""

    def text(self, problem: Problem) -> str:
        groups: dict[str, list[str]] = {}
        for k, said in self.said.items():
            groups.setdefault(said or UNKNOWN, []).append(problem.out_paths[k])
        return "; ".join(f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'} {what}"
                         for what, paths in groups.items())  # fmt: skip


def with_intent(problem: Problem, options: Options, report: Report) -> Report:
    """Return the report, which says what the gradient is if it is one of the shapes, and what to pass if that is meant.

    Only rules are looked at: a gradient by hand has no cotangent.
    """
    if report.verdict is not Verdict.REFUTED or not problem.cotangents or not problem.owners or problem.faults:
        return report
    options = options._replace(deadline=min(options.deadline, time.monotonic() + LIMIT))
    named = _named(problem, options)
    inner = "" if all(named.said.values()) else _searched(lambda: of_inner_rules(problem, named, options, _named), "")
    if inner:
        return dataclasses.replace(report, intent=inner)
    if not any(named.said.values()):
        return report
    told = named.text(problem)
    return dataclasses.replace(report, intent=f"{told}: {IF_MEANT.format(named.line)}" if named.line else told)


def _named(problem: Problem, options: Options) -> Named:
    if any(problem.out_paths[k] != f"d{problem.in_paths[i]}" for k, i in problem.owners):  # along a domain
        return Named({})
    points, numbers = _points(problem, options), constants(problem)
    values = [k for k, of_gradient in enumerate(problem.gradients) if not of_gradient]
    wrong = [Asked(problem, k, i, points, numbers) for k, i in problem.owners if _is_wrong(points, k)]
    if not wrong or any(_is_wrong(points, k) for k in values):
        return Named({})
    found: dict[int, Shape | None] = {asked.k: None for asked in wrong}
    said, line = dict[int, str](), ""

    def left() -> list[Asked]:
        return [asked for asked in wrong if found[asked.k] is None and asked.k not in said]

    def try_shapes(tried: Callable[[Asked], Iterable[Shape]]) -> None:
        for n, asked in enumerate(open_ := left()):
            share = options.seconds_left / (1 + len(open_) - n)
            found[asked.k] = _shape_of(asked, options._replace(deadline=time.monotonic() + share), tried(asked))

    try_shapes(shapes)
    said |= _searched(lambda: but_for(problem, left(), options), {})
    if left():
        together, line = _searched(lambda: of_another_function(problem, wrong, options), ({}, ""))
        said |= together
    try_shapes(soft_steps)
    try_shapes(slopes_of_its_own)
    said |= _searched(lambda: right_on_average(problem, left(), options), {})
    shapes_found = {k: shape for k, shape in found.items() if shape is not None and k not in said}
    if len(shapes_found) == len(found):
        line = _line(problem, shapes_found, points)
    return Named({k: said.get(k) or (shape.said if shape else "") for k, shape in found.items()}, line)


def _searched(search: Callable[[], Found], nothing: Found) -> Found:
    """What a search finds that runs changed programs of the user's; nothing where one of them does not run."""
    try:
        return search()
    except Exception as error:  # whatever JAX raises: what is found otherwise stands
        noted(error, "the search for what is meant")
        return nothing


def _points(problem: Problem, options: Options) -> list[Seen]:
    """The point that refutes the rule, and others with cotangents of several sizes."""
    evaluator, rng = next(evaluators(problem)), options.rng(Stream.INTENT)
    failed = problem.shared.failed_at
    tried = [] if failed is None else [failed.inputs]
    for i, size in itertools.product(range(POINTS), SIZES):
        inputs = list(sample(problem, options, i))
        with jax.enable_x64(True):
            for j in problem.cotangents:
                inputs[j] = executables.array(size * rng.normal(size=np.shape(inputs[j])))
        tried.append(tuple(inputs))
    return [_seen(problem, evaluator.clean, inputs) for inputs in tried]


def _seen(problem: Problem, clean: Callable, free: tuple[Any, ...]) -> Seen:
    with jax.enable_x64(True):
        arguments = inside(problem.domains, free)
    got, want = clean(free)
    return Seen(arguments, got, want, lambda moved: clean(_with_cotangents(problem, free, moved)), free, clean)


def _with_cotangents(problem: Problem, inputs: Sequence[Any], moved: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(jaxprs.with_replaced(inputs, problem.cotangents, moved))


def _is_wrong(points: list[Seen], k: int) -> bool:
    return not all(is_close(p.got[k], p.want[k]) for p in points)


def _shape_of(asked: Asked, options: Options, tried: Iterable[Shape]) -> Shape | None:
    """The first shape that fits and is proved, else the first that fits."""
    with jax.enable_x64(True):
        fitting = [shape for shape in tried if asked.fits(shape)]
    proved = (shape for shape in fitting if options.seconds_left > 0 and _is_proved(asked, options, shape))
    return next(proved, fitting[0] if fitting else None)


def _is_proved(asked: Asked, options: Options, shape: Shape) -> bool:
    def at(inputs: Sequence[Any]) -> Sequence[Any]:
        return inputs if shape.where is None else shape.where(inputs)

    found = outcome_of(asked.problem, asked.k, lambda *x: shape.view(asked.problem.candidate(*at(x))[asked.k]),
                       lambda *x: shape.view(_stated(asked, shape, at(x))), options)  # fmt: skip
    return found is Outcome.PROVES


def _stated(asked: Asked, shape: Shape, inputs: Sequence[Any]) -> Any:
    """The gradient as the shape says it is, in the dtype that it has."""
    problem = asked.problem
    outputs = problem.reference(*inputs)

    def run(moved: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        at = _with_cotangents(problem, inputs, moved)
        return problem.candidate(*at), problem.reference(*at)

    return jnp.asarray(shape.program(inside(problem.domains, inputs), outputs, run), outputs[asked.k].dtype)


def _line(problem: Problem, shapes: dict[int, Shape], points: list[Seen]) -> str:
    """The function to pass as a surrogate; "" where none is known."""
    bases = {shape.base for shape in shapes.values()}
    if bases == {"gradient"}:
        return _changing(problem, {i: shapes[k] for k, i in problem.owners if k in shapes})
    if bases != {"cotangent"} or len(shapes) > 1:
        return ""
    ((k, shape),) = shapes.items()
    name = problem.in_paths[dict(problem.owners)[k]]
    others = [j for j, _ in problem.owners if j != k]
    if name not in problem.heads or any(np.asarray(p.want[j]).any() for p in points for j in others):
        return ""
    if shape.function or not shape.change:
        return f"lambda {', '.join(problem.heads)}: {renamed(shape.function or 'x', 'x', name)}"
    if len(problem.heads) > 1:
        return ""
    return f"handprop.with_gradient(lambda {name}: {name}, lambda d{name}: {renamed(shape.change, 'd', f'd{name}')})"


def _changing(problem: Problem, shapes: dict[int, Shape]) -> str:
    """The function itself with its gradients changed; "" where a change needs an argument's value."""
    uses_argument = any(re.search(rf"\b{head}\b", shape.change) for head in problem.heads for shape in shapes.values())
    if uses_argument or [problem.in_paths[i] for _, i in problem.owners] != list(problem.heads):
        return ""
    written = [renamed(shapes[i].change if i in shapes else "d", "d", f"d{problem.in_paths[i]}")
               for _, i in problem.owners]  # fmt: skip
    changed = written[0] if len(written) == 1 else f"({', '.join(written)})"
    plain = f"{problem.name}.fun" if isinstance(problem.written, RULES) else problem.name  # the rule itself is wrong
    return f"handprop.with_gradient({plain}, lambda {', '.join(f'd{head}' for head in problem.heads)}: {changed})"
