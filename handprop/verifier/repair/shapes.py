"""The shapes that people give gradients on purpose, each as a program that says what the gradient is.

A shape compares the gradient with what its program makes of the inputs, of the reference's outputs, and of other runs
of both. It is specific: none fits what is merely some function of the inputs.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from handprop.verifier.along_domains import inside
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs

__all__ = ["Asked", "Constant", "Program", "Run", "Seen", "Shape", "at_cotangent", "constants", "input_at", "is_close",
           "renamed", "shapes"]  # fmt: skip

CLOSE = 1e-6
MAX_CONSTANTS, MAX_PAIRED = 24, 8
Run = Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]]  # both programs' outputs for these cotangents
Program = Callable[[Sequence[Any], Sequence[Any], Run], Any]


def _same(x: Any) -> Any:
    return x


class Shape(NamedTuple):
    """What a gradient may be: ``said`` in words, and ``program(inputs, outputs, run)``, from the outputs of the
    reference.

    ``base`` is what is changed, "gradient" or "cotangent", and ``change`` says to what, where ``d`` stands for it; ""
    changes nothing. None for what is neither. ``function`` is the function of ``x`` whose derivative it is, if there is
    a simple one. ``view`` is the part of the gradient that is compared, if not all of it is, and ``where`` moves inputs
    to where the shape is claimed to be right.
    """

    said: str
    program: Program
    base: str | None = None
    change: str = ""
    function: str = ""
    view: Callable[[Any], Any] = _same
    where: Callable[[Sequence[Any]], Sequence[Any]] | None = None


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
    """One point: the inputs, and what the rule and the reference return there, and for other cotangents.

    Where arguments lie in domains, ``free`` are the parameters that the programs take in place of them.
    """

    inputs: tuple[Any, ...]
    got: Sequence[np.ndarray]
    want: Sequence[np.ndarray]
    run: Run
    free: tuple[Any, ...]
    at: Run  # what both return for other inputs

    def moved(self, inputs: tuple[Any, ...]) -> "Seen":
        """Another point, where no argument lies in a domain that is left."""
        return Seen(inputs, *self.at(inputs), self.run, inputs, self.at)


class Asked(NamedTuple):
    """A gradient, which is output ``k``, and the input ``owner`` that it belongs to; what is seen, and the numbers that
    may play a part."""

    problem: Problem
    k: int
    owner: int
    points: list[Seen]
    numbers: list[Constant]

    def fits(self, shape: Shape) -> bool:
        points = self.points if shape.where is None else (p.moved(tuple(shape.where(p.free))) for p in self.points)
        return all(
            is_close(shape.view(p.got[self.k]), shape.view(shape.program(p.inputs, p.want, p.run))) for p in points
        )

    @property
    def cotangents(self) -> list[int]:
        """The cotangents of the gradient's shape."""
        shape = self.points[0].got[self.k].shape
        return [j for j in self.problem.cotangents if np.shape(self.points[0].inputs[j]) == shape]

    @property
    def given(self) -> np.ndarray:
        """The argument that the gradient belongs to, as it was given."""
        return np.asarray(inside(self.problem.domains, self.problem.inputs)[self.owner], np.float64)

    @property
    def path(self) -> str:
        return self.problem.in_paths[self.owner]

    @property
    def is_flat(self) -> bool:
        """Whether the reference is zero at all points, as for a function that is constant almost everywhere."""
        return not any(np.asarray(p.want[self.k]).any() for p in self.points)


def is_close(a: Any, b: Any) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return a.shape == b.shape and np.allclose(a, b, rtol=CLOSE, atol=CLOSE * size, equal_nan=True)


def shapes(asked: Asked) -> Iterator[Shape]:
    """Yield what the gradient may be, the simplest first."""
    problem, k = asked.problem, asked.k
    yield Shape("zero, as if it were stopped", lambda inputs, outputs, run: jnp.zeros_like(outputs[k]),
                "gradient", "0 * d")  # fmt: skip
    for cotangent in map(input_at, asked.cotangents):
        yield Shape("the cotangent handed through, as straight-through gradients are", cotangent, "cotangent")
        yield from _changed(asked, "cotangent", "the cotangent", cotangent)
        yield from _masked(asked, "the cotangent", cotangent)
    gradient: Program = lambda inputs, outputs, run: outputs[k]  # noqa: E731
    yield from _changed(asked, "gradient", "the derivative", gradient)
    yield from _masked(asked, "the derivative", gradient)
    for j in problem.cotangents if len(problem.cotangents) > 1 else ():
        yield Shape(f"the derivative without the part of {problem.in_paths[j]}", _without(j, k, problem.cotangents))
    yield Shape("the same for every cotangent, as a statistic is", at_cotangent(problem, k, 0.0))
    yield from _projected(asked, gradient)
    yield from _on_symmetric_matrices(asked, gradient)
    yield from _of_entries_that_matter(asked, gradient)


def input_at(j: int) -> Program:
    return lambda inputs, outputs, run: inputs[j]


def constants(problem: Problem) -> list[Constant]:
    """The scalar arguments, then the numbers in the rule's program."""
    found = [Constant(problem.in_paths[i], lambda inputs, i=i: inputs[i], True)
             for i, x in enumerate(problem.inputs) if i not in problem.cotangents
             and jaxprs.is_float(x.dtype) and np.ndim(x) == 0]  # fmt: skip
    program = jaxprs.trace(problem.candidate, problem.inputs)
    literals = {float(x) for x in jaxprs.numbers(program) if np.ndim(x) == 0 and jaxprs.is_float(x.dtype)}
    shown = sorted({float(f"{abs(x):.7g}") for x in literals if np.isfinite(x) and x})[:MAX_CONSTANTS]
    return [*found, *(Constant(f"{x:.7g}", lambda inputs, x=x: x) for x in shown)]


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
    ratio = _ratio([(p.got[asked.k], program(p.inputs, p.want, p.run)) for p in asked.points])
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

        said = f"{name} where {renamed(text, 'x', path)}, and zero elsewhere"
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


def _projected(asked: Asked, gradient: Program) -> Iterator[Shape]:
    """Yield what is left of the derivative at right angles to the argument, as for points on a sphere."""
    if not asked.given.ndim or asked.given.shape != asked.points[0].got[asked.k].shape or asked.given.shape[-1] < 2:
        return
    for axes, along in ((None, ""), (-1, " along the last axis"))[: min(asked.given.ndim, 2)]:
        for unit, of in ((True, ", which is taken for a unit vector"), (False, "")):

            def projected(inputs: Any, outputs: Any, run: Run, axes: Any = axes, unit: bool = unit) -> Any:
                x, d = inputs[asked.owner], gradient(inputs, outputs, run)
                size = 1.0 if unit else jnp.sum(x * x, axes, keepdims=True)
                return d - jnp.sum(x * d, axes, keepdims=True) * x / size

            yield Shape(f"the derivative, projected to be at right angles to {asked.path}{along}{of}", projected)


def _on_symmetric_matrices(asked: Asked, gradient: Program) -> Iterator[Shape]:
    """Yield what has the derivative's slope in the direction of every symmetric matrix, if the argument is one.

    Both parts of a pair of entries move together there, so only their sum counts.
    """
    x = asked.given
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2 or not np.allclose(x, np.swapaxes(x, -1, -2)):
        return

    def symmetric(d: Any) -> Any:
        return (d + jnp.swapaxes(d, -1, -2)) / 2

    def on_them(inputs: Sequence[Any]) -> Sequence[Any]:
        return jaxprs.with_replaced(inputs, [asked.owner], [symmetric(inputs[asked.owner])])

    yield Shape("the symmetric part of the derivative", lambda *at: symmetric(gradient(*at)))
    said = f"the derivative along symmetric matrices, such as the given {asked.path}, and not along others"
    yield Shape(said, gradient, view=symmetric, where=on_them)


def _of_entries_that_matter(asked: Asked, gradient: Program) -> Iterator[Shape]:
    """Yield what is the derivative but at entries that the function does not read, which are 0 and 1 as given."""
    matter = np.any([np.asarray(p.want[asked.k]) != 0 for p in asked.points], 0)
    x = asked.given
    if matter.shape != x.shape or matter.all() or not matter.any() or not np.isin(x[~matter], (0, 1)).all():
        return
    said = (f"the derivative in the entries of {asked.path} that the function reads; it is not zero in the others, "
            "which are 0 or 1 as given")  # fmt: skip
    yield Shape(said, gradient, view=lambda d: d[matter])


def _without(j: int, k: int, cotangents: Sequence[int]) -> Program:
    """The derivative where the cotangent that is input j is zero."""

    def program(inputs: Sequence[Any], outputs: Sequence[Any], run: Run) -> Any:
        return run([jnp.zeros_like(inputs[i]) if i == j else inputs[i] for i in cotangents])[1][k]

    return program


def at_cotangent(problem: Problem, k: int, number: float) -> Program:
    """What the rule itself returns for a cotangent of this number throughout."""

    def program(inputs: Sequence[Any], outputs: Sequence[Any], run: Run) -> Any:
        return run([jnp.full_like(inputs[j], number) for j in problem.cotangents])[0][k]

    return program


def renamed(text: str, name: str, new: str) -> str:
    return re.sub(rf"\b{name}\b", new, text)
