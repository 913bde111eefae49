"""What a gradient that is not the derivative of its function may be meant to be.

Each gradient that is wrong is held against the shapes that people give gradients on purpose: the cotangent handed
through, no gradient, a multiple, a clipped, masked or normalised one, a statistic. A shape is proposed if it fits the
numbers at some points and cotangents of several sizes, and of those that fit, one that the proof confirms for all
numbers comes first.
"""

import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.evaluators import evaluators
from handprop.verifier.checks.sampling import sample
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import executables, jaxprs
from handprop.verifier.proof.proof import proof
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Outcome, Verdict

__all__ = ["with_intent"]

POINTS, SIZES = 3, (1.0, 1.0, 100.0, 0.01)  # of the cotangents, as some shapes depend on how large they are
CLOSE = 1e-6
SECONDS = 6.0
MAX_CONSTANTS, MAX_PAIRED = 24, 8
UNKNOWN = "of no known shape"
IF_MEANT = "if that is meant, pass surrogate={}"
Run = Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]]  # the outputs by hand and of the reference
Program = Callable[[Sequence[Any], Sequence[Any], Run], Any]


class Shape(NamedTuple):
    """What a gradient may be: ``said`` in words, and ``program(inputs, outputs, run)``, from the outputs of the
    reference.

    ``base`` is what is changed, "gradient" or "cotangent", and ``change`` says to what, where ``d`` stands for it; ""
    changes nothing. None for what is neither. ``function`` is the function of ``x`` whose derivative it is, if there is
    a simple one.
    """

    said: str
    program: Program
    base: str | None = None
    change: str = ""
    function: str = ""


class Constant(NamedTuple):
    """A number that the rule may use: one in its program, or one of its arguments."""

    text: str
    value: Callable[[Sequence[Any]], Any]
    is_argument: bool = False

    @property
    def stopped(self) -> str:
        """The number in a function whose derivative by it is zero."""
        return f"jax.lax.stop_gradient({self.text})" if self.is_argument else self.text


class Seen(NamedTuple):
    """One point: the inputs, and what the rule and the reference return there."""

    inputs: tuple[Any, ...]
    got: Sequence[np.ndarray]
    want: Sequence[np.ndarray]


class Asked(NamedTuple):
    """A gradient, which is output ``k``, and the input ``owner`` that it belongs to; what is seen, and the numbers that
    may play a part."""

    problem: Problem
    k: int
    owner: int
    points: list[Seen]
    run: Run
    numbers: list[Constant]

    def fits(self, shape: Shape) -> bool:
        return all(_is_close(p.got[self.k], shape.program(p.inputs, p.want, self.run)) for p in self.points)


def with_intent(problem: Problem, options: Options, report: Report) -> Report:
    """Return the report, which says what the gradient is if it is one of the shapes, and what to pass if that is meant.

    Only rules are looked at: a gradient by hand has no cotangent.
    """
    if report.verdict is not Verdict.REFUTED or not problem.cotangents or not problem.owners or problem.faults:
        return report
    if problem.domains:  # the inputs are free parameters of the arguments there
        return report
    points, run, numbers = _points(problem, options), next(evaluators(problem)).clean, _constants(problem)
    values = [k for k, of_gradient in enumerate(problem.gradients) if not of_gradient]
    wrong = [Asked(problem, k, i, points, run, numbers) for k, i in problem.owners if _is_wrong(points, k)]
    if not wrong or any(_is_wrong(points, k) for k in values):
        return report
    found = {asked.k: _shape_of(asked, options) for asked in wrong}
    shapes = {k: shape for k, shape in found.items() if shape is not None}
    if not shapes:
        return report
    groups: dict[str, list[str]] = {}
    for k, shape in found.items():
        groups.setdefault(shape.said if shape else UNKNOWN, []).append(problem.out_paths[k])
    said = "; ".join(
        f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'} {what}" for what, paths in groups.items()
    )
    line = _line(problem, shapes, points) if len(shapes) == len(found) else ""
    return dataclasses.replace(report, intent=f"{said}: {IF_MEANT.format(line)}" if line else said)


def _points(problem: Problem, options: Options) -> list[Seen]:
    """The point that refutes the rule, and others with cotangents of several sizes."""
    evaluator, rng = next(evaluators(problem)), options.rng(Stream.INTENT)
    failed = problem.shared.failed_at
    found = [] if failed is None else [Seen(failed.inputs, failed.got, failed.want)]
    for i, size in itertools.product(range(POINTS), SIZES):
        inputs = list(sample(problem, options, i))
        with jax.enable_x64(True):
            for j in problem.cotangents:
                inputs[j] = executables.array(size * rng.normal(size=np.shape(inputs[j])))
        found.append(Seen(tuple(inputs), *evaluator.clean(tuple(inputs))))
    return found


def _is_wrong(points: list[Seen], k: int) -> bool:
    return not all(_is_close(p.got[k], p.want[k]) for p in points)


def _is_close(a: Any, b: Any) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return a.shape == b.shape and np.allclose(a, b, rtol=CLOSE, atol=CLOSE * size, equal_nan=True)


def _shape_of(asked: Asked, options: Options) -> Shape | None:
    with jax.enable_x64(True):
        fitting = [shape for shape in _shapes(asked) if asked.fits(shape)]
    proved = (shape for shape in fitting if _is_proved(asked, options, shape))
    return next(proved, fitting[0] if fitting else None)


def _is_proved(asked: Asked, options: Options, shape: Shape) -> bool:
    problem, k = asked.problem, asked.k
    deadline = min(options.deadline, time.monotonic() + SECONDS)
    stated = problem._replace(
        candidate=lambda *x: (problem.candidate(*x)[k],), reference=lambda *x: (_stated(asked, shape, x),),
        out_paths=problem.out_paths[k : k + 1], gradients=(), to_prove=None, shared=Shared())  # fmt: skip
    within = options._replace(budget=min(options.budget, SECONDS), deadline=deadline)
    return proof(stated, within).outcome is Outcome.PROVES


def _stated(asked: Asked, shape: Shape, inputs: Sequence[Any]) -> Any:
    """The gradient as the shape says it is, in the dtype that it has."""
    problem = asked.problem
    outputs = problem.reference(*inputs)
    found = shape.program(inputs, outputs, lambda moved: (problem.candidate(*moved), problem.reference(*moved)))
    return jnp.asarray(found, outputs[asked.k].dtype)


def _shapes(asked: Asked) -> Iterator[Shape]:
    """Yield what the gradient may be, the simplest first."""
    problem, k, points = asked.problem, asked.k, asked.points
    yield Shape("zero, as if it were stopped", lambda inputs, outputs, run: jnp.zeros_like(outputs[k]),
                "gradient", "0 * d")  # fmt: skip
    handed = [_input(j) for j in problem.cotangents if np.shape(points[0].inputs[j]) == points[0].got[k].shape]
    for cotangent in handed:
        yield Shape("the cotangent handed through, as straight-through gradients are", cotangent, "cotangent")
        yield from _changed(asked, "cotangent", "the cotangent", cotangent)
        yield from _masked(asked, "the cotangent", cotangent)
    gradient: Program = lambda inputs, outputs, run: outputs[k]  # noqa: E731
    yield from _changed(asked, "gradient", "the derivative", gradient)
    yield from _masked(asked, "the derivative", gradient)
    for j in problem.cotangents if len(problem.cotangents) > 1 else ():
        yield Shape(f"the derivative without the part of {problem.in_paths[j]}", _without(j, k))
    yield Shape("the same for every cotangent, as a statistic is", _at_cotangent(problem, k, 0.0))
    if handed and not any(np.asarray(p.want[k]).any() for p in points):
        slope = _at_cotangent(problem, k, 1.0)
        yield Shape("the cotangent times a slope of its own, where the function itself has none",
                    lambda *at: handed[0](*at) * slope(*at))  # fmt: skip


def _input(j: int) -> Program:
    return lambda inputs, outputs, run: inputs[j]


def _constants(problem: Problem) -> list[Constant]:
    """The scalar arguments, then the numbers in the rule's program."""
    found = [Constant(problem.in_paths[i], lambda inputs, i=i: inputs[i], True)
             for i, x in enumerate(problem.inputs) if i not in problem.cotangents
             and jaxprs.is_float(x.dtype) and np.ndim(x) == 0]  # fmt: skip
    program = jaxprs.trace(problem.candidate, problem.inputs)
    literals = {float(x) for x in jaxprs.numbers(program) if np.ndim(x) == 0 and jaxprs.is_float(x.dtype)}
    shown = sorted({float(f"{abs(x):.7g}") for x in literals if np.isfinite(x) and x})[:MAX_CONSTANTS]
    return [*found, *(Constant(f"{x:g}", lambda inputs, x=x: x) for x in shown)]


def _changed(asked: Asked, base: str, name: str, program: Program) -> Iterator[Shape]:
    """Yield multiples, and what depends on the size: clipped, normalised, the sign, and without NaN and infinities."""

    def shape(said: str, change: str, f: Callable, *constants: Constant) -> Shape:
        def changed(inputs: Any, outputs: Any, run: Run) -> Any:
            return f(program(inputs, outputs, run), *(c.value(inputs) for c in constants))

        return Shape(said, changed, base, change)

    yield from _multiples(asked, base, name, program, shape)
    for c in asked.numbers:
        yield shape(f"{name}, clipped to {c.text}", f"jnp.clip(d, -{c.text}, {c.text})",
                    lambda x, c: jnp.clip(x, -c, c), c)  # fmt: skip
        yield shape(f"{name}, clipped to a norm of {c.text}", f"d * jnp.minimum(1, {c.text} / jnp.linalg.norm(d))",
                    lambda x, c: x * jnp.minimum(1.0, c / jnp.sqrt(jnp.sum(x * x))), c)  # fmt: skip
        yield shape(f"{name}, normalised to a norm of {c.text}", f"d * {c.text} / jnp.linalg.norm(d)",
                    lambda x, c: x * c / jnp.sqrt(jnp.sum(x * x)), c)  # fmt: skip
    for low, high in itertools.permutations(asked.numbers[:MAX_PAIRED], 2):
        for sign, minus in ((1, ""), (-1, "-")):
            yield shape(f"{name}, clipped to {minus}{low.text} and {high.text}",
                        f"jnp.clip(d, {minus}{low.text}, {high.text})",
                        lambda x, lo, hi, sign=sign: jnp.clip(x, sign * lo, hi), low, high)  # fmt: skip
    yield shape(f"{name}, normalised", "d / jnp.linalg.norm(d)", lambda x: x / jnp.sqrt(jnp.sum(x * x)))
    yield shape(f"the sign of {name}", "jnp.sign(d)", jnp.sign)
    yield shape(f"{name}, with 0 for NaN", "jnp.where(jnp.isnan(d), 0, d)", lambda x: jnp.where(jnp.isnan(x), 0, x))
    yield shape(f"{name}, with 0 for NaN and infinities", "jnp.where(jnp.isfinite(d), d, 0)",
                lambda x: jnp.where(jnp.isfinite(x), x, 0))  # fmt: skip


def _multiples(asked: Asked, base: str, name: str, program: Program, shape: Callable) -> Iterator[Shape]:
    for sign, minus in ((1, ""), (-1, "-")):
        for c in (c for c in asked.numbers if c.text != "1"):
            function = f"{minus}{c.stopped} * x" if base == "cotangent" else ""
            multiple = shape(f"{minus}{c.text} times {name}", f"{minus}{c.text} * d", lambda x, c, s=sign: s * c * x, c)
            yield multiple._replace(function=function)
    ratio = _ratio([(p.got[asked.k], program(p.inputs, p.want, asked.run)) for p in asked.points])
    if ratio is not None and ratio != 1:
        said = "the negative of " + name if ratio == -1 else f"{ratio:g} times {name}"
        yield shape(said, "-d" if ratio == -1 else f"{ratio:g} * d", lambda x: ratio * x)


def _ratio(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """The number that all entries of one are times those of the other, None if there is none."""
    same = [(np.asarray(a, np.float64), np.asarray(b)) for a, b in pairs if np.shape(a) == np.shape(b)]
    ratios = np.concatenate([np.zeros(0), *(np.ravel(a[b != 0] / b[b != 0]) for a, b in same)])
    if not ratios.size or not np.isfinite(ratios).all() or not ratios[0]:
        return None
    return float(f"{ratios[0]:.7g}") if np.allclose(ratios, ratios[0], rtol=CLOSE) else None


def _masked(asked: Asked, name: str, program: Program) -> Iterator[Shape]:
    """Yield what is kept where the argument lies on one side of a number, or within two, and zero elsewhere."""
    owner, path = asked.owner, asked.problem.in_paths[asked.owner]
    if np.shape(asked.points[0].inputs[owner]) != asked.points[0].got[asked.k].shape:
        return
    for text, test, constants in _tests(asked.numbers):

        def masked(inputs: Any, outputs: Any, run: Run, test: Callable = test, constants: Any = constants) -> Any:
            kept = test(inputs[owner], *(c.value(inputs) for c in constants))
            return jnp.where(kept, program(inputs, outputs, run), 0)

        said = f"{name} where {_renamed(text, 'x', path)}, and zero elsewhere"
        if name == "the cotangent":
            yield Shape(said, masked, "cotangent", function=f"jnp.where({text}, x, 0)")
        else:
            yield Shape(said, masked)


def _tests(numbers: list[Constant]) -> Iterator[tuple[str, Callable, tuple[Constant, ...]]]:
    zero = Constant("0", lambda inputs: 0.0)
    for c in (zero, *numbers):
        yield f"x > {c.text}", lambda x, c: x > c, (c,)
        yield f"x >= {c.text}", lambda x, c: x >= c, (c,)
        yield f"x < {c.text}", lambda x, c: x < c, (c,)
        yield f"x <= {c.text}", lambda x, c: x <= c, (c,)
        yield f"jnp.abs(x) <= {c.text}", lambda x, c: abs(x) <= c, (c,)
        yield f"jnp.abs(x) < {c.text}", lambda x, c: abs(x) < c, (c,)
    for low, high in itertools.permutations((zero, *numbers[:MAX_PAIRED]), 2):
        yield f"({low.text} <= x) & (x <= {high.text})", lambda x, a, b: (x >= a) & (x <= b), (low, high)


def _without(j: int, k: int) -> Program:
    """The derivative where the cotangent that is input j is zero."""

    def program(inputs: Sequence[Any], outputs: Sequence[Any], run: Run) -> Any:
        return run(jaxprs.with_replaced(inputs, [j], [jnp.zeros_like(inputs[j])]))[1][k]

    return program


def _at_cotangent(problem: Problem, k: int, number: float) -> Program:
    """What the rule itself returns for a cotangent of this number throughout."""

    def program(inputs: Sequence[Any], outputs: Sequence[Any], run: Run) -> Any:
        fixed = [jnp.full_like(inputs[j], number) for j in problem.cotangents]
        return run(jaxprs.with_replaced(inputs, problem.cotangents, fixed))[0][k]

    return program


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
        return f"lambda {', '.join(problem.heads)}: {_renamed(shape.function or 'x', 'x', name)}"
    if len(problem.heads) > 1:
        return ""
    return f"handprop.with_gradient(lambda {name}: {name}, lambda d{name}: {_renamed(shape.change, 'd', f'd{name}')})"


def _changing(problem: Problem, shapes: dict[int, Shape]) -> str:
    """The function itself with its gradients changed; "" where a change needs an argument's value."""
    uses_argument = any(re.search(rf"\b{head}\b", shape.change) for head in problem.heads for shape in shapes.values())
    if uses_argument or [problem.in_paths[i] for _, i in problem.owners] != list(problem.heads):
        return ""
    written = [_renamed(shapes[i].change if i in shapes else "d", "d", f"d{problem.in_paths[i]}")
               for _, i in problem.owners]  # fmt: skip
    changed = written[0] if len(written) == 1 else f"({', '.join(written)})"
    return (
        f"handprop.with_gradient({problem.name}, lambda {', '.join(f'd{head}' for head in problem.heads)}: {changed})"
    )


def _renamed(text: str, name: str, new: str) -> str:
    return re.sub(rf"\b{name}\b", new, text)
