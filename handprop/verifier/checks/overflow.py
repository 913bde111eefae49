"""Arithmetic that leaves float64's range, told from mathematics that is wrong.

``log(e^x)`` is x, and infinite from x = 710 on. Where two programs differ at an input, it is scaled down: if the
difference is gone at entries of about 1, bisection finds the size at which it sets in, to ``2^-10`` of itself. Both
programs then run equation by equation on either side of that size, which keeps what each equation made out of its
range: infinities and NaN from numbers, and zeros and denormal numbers from numbers that are not zero. The difference
is one of range if such an equation sets in where the difference does. A program that is another function for large
numbers also differs from some size on, but nothing leaves the range there. NaN of an infinity that was made of numbers
too large is one of range at any size: what meets the infinity, as a mask, may be 0 at some sizes and not at others.
"""

import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.checks.evaluators import Evaluator, as_users
from handprop.verifier.checks.sampling import Point, compared, largest, worst_entry
from handprop.verifier.internal import noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs, walk, widen
from handprop.verifier.programs.executables import array
from handprop.verifier.proof.field.interpreter import ENTRYWISE
from handprop.verifier.report.values import Worst

__all__ = ["Left", "Overflow", "Run", "overflow", "run_of", "said_of"]

BISECTIONS = 40
FINE = 2.0**-10
# Compiled, a quotient may be a product with a reciprocal, which leaves the range a little earlier; and exp(x) makes
# denormal numbers from 708 on and zeros from 745 on, of which either may be where the programs part.
WITHIN = 1.06
USUAL = 0.9375  # no number that programs compare their inputs with
MAX_STEPS = 4000
OF_POSITIVE, NEGATIVE = ("log", "sqrt", "rsqrt", "pow"), -1e-6
NEVER_ZERO = ("exp", "exp2", "logistic", "erfc")
UNDERFLOWS = (*NEVER_ZERO, "mul", "div", "integer_pow", "pow", "square", "dot_general", "cumprod", "reduce_prod")


class Left(enum.Enum):
    """How numbers leave float64's range."""

    NAN = "NaN"
    INFINITY = "infinity"
    TOO_SMALL = "zero, or a number too small for all its digits,"


class Run(NamedTuple):
    """One run of an equation, within the calls that lead to it: what went in and out, and how it left the range, in how
    many entries; ``how`` is None where it did not."""

    eqn: Any
    stack: tuple[Any, ...]
    operands: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    how: Left | None = None
    entries: int = 0


class Overflow(NamedTuple):
    """From entries of this ``size`` on; whether the hand program leaves the range there, and whether autodiff's
    does."""

    size: float
    candidate: Run | None
    reference: Run | None


def overflow(problem: Problem, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Overflow | None:
    """How the difference at this point is one of range, None where it is not; its worst entry is given."""
    places = problem.moving
    top = max((largest(point.inputs[i]) for i in places), default=0.0)
    if top <= 1 or _differs(problem, evaluator, point, places, USUAL / top):
        return None
    low, high = USUAL / top, 1.0
    for _ in range(BISECTIONS):
        if high <= low * (1 + FINE) or options.seconds_left < 0:
            break
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if _differs(problem, evaluator, point, places, middle) else (middle, high)
    below, above = (_scaled(point.inputs, places, scale) for scale in (low / WITHIN, min(high * WITHIN, 1.0)))
    programs = as_users(problem)
    runs = [[run_of(program, inputs) for inputs in (below, above)] for program in programs]
    is_undefined = _is_undefined if np.isnan(worst.got) else _has_no_value
    candidate, reference = (_sets_in(before, after, is_undefined) for before, after in runs)
    if not (candidate or reference):
        candidate, reference = (_sets_in(_by_entry(before), _by_entry(after), is_undefined) for before, after in runs)
    if np.isnan(worst.got):
        candidate = candidate or _nan_of_large_numbers(programs[0], point)
    return Overflow(high * top, candidate, reference) if candidate or reference else None


def _scaled(inputs: Sequence[Any], places: Sequence[int], scale: float) -> tuple[Any, ...]:
    with jax.enable_x64(True):
        return tuple(jaxprs.with_replaced(inputs, places, [array(np.asarray(inputs[i]) * scale) for i in places]))


def _differs(problem: Problem, evaluator: Evaluator, point: Point, places: Sequence[int], scale: float) -> bool:
    return worst_entry(problem, compared(evaluator, _scaled(point.inputs, places, scale), 300)) is not None


def _sets_in(before: Sequence[Run], after: Sequence[Run], is_undefined: Callable[[Run], bool]) -> Run | None:
    """The first equation that leaves the range after and not before, or in more entries, or in another way; NaN of an
    infinity is of range where something left it earlier in the run."""
    if len(before) != len(after):
        return None
    left = False
    for a, b in zip(before, after, strict=True):
        left |= _leaves(b)
        changes = b.entries > a.entries or (b.entries and b.how != a.how)
        if left and changes and not is_undefined(b):
            return b
    return None


def _leaves(step: Run) -> bool:
    """Whether the equation itself leaves the range, and makes no NaN of an infinity that was there before."""
    return step.how is not None and not (step.how is Left.NAN and any(np.isinf(x).any() for x in step.operands))


def _nan_of_large_numbers(program: Any, point: Point) -> Run | None:
    """The first equation that makes NaN of an infinity, where an infinity was made of numbers before."""
    too_large = False
    for step in run_of(program, point.inputs):
        if step.how is Left.NAN and too_large:
            return None if _is_undefined(step) else step
        too_large |= step.how is Left.INFINITY
    return None


def _is_undefined(step: Run) -> bool:
    """Whether NaN is made of a negative number, which is no matter of range; rounding makes none as large as this."""
    return (step.how is Left.NAN and step.eqn.primitive.name in OF_POSITIVE
            and bool((step.operands[0] < NEGATIVE).any()))  # fmt: skip


def _has_no_value(step: Run) -> bool:
    """Whether NaN is made of finite numbers by a function that has no value there, nor at numbers near: a program that
    returns a number all the same asked whether it is one."""
    if step.how is not Left.NAN or step.eqn.primitive.name not in (*ENTRYWISE, *OF_POSITIVE, "log1p"):
        return False
    near = [[jaxprs.widened(x * (1 + part) + part) if jaxprs.is_float(x.dtype) else x for x in step.operands]
            for part in (0.0, NEGATIVE, -NEGATIVE)]  # fmt: skip
    with jax.enable_x64(True):
        made = [np.asarray(widen.wide_step(step.eqn, values)[0]) for values in near]
    finite = [np.broadcast_to(np.isfinite(x), made[0].shape) for x in step.operands]
    return bool((np.isnan(made).all(0) & np.all(finite, axis=0)).any())


def _by_entry(steps: Sequence[Run]) -> list[Run]:
    """The same run, where what is too small is told entry by entry, also where an operand has zeros."""
    found = (leaves_range(step.eqn, step.operands, step.outputs, by_entry=True) for step in steps)
    return [step._replace(how=how, entries=entries) for step, (how, entries) in zip(steps, found, strict=True)]


def run_of(program: Any, inputs: Sequence[Any]) -> list[Run]:
    """The program run equation by equation in float64, turns of loops too; () where that cannot be done, or too
    long."""
    found: list[Run] = []
    stack: list[Any] = []

    @contextlib.contextmanager
    def around(eqn: Any) -> Iterator[None]:
        stack.append(eqn)
        try:
            yield
        finally:
            stack.pop()

    def leaf(eqn: Any, values: list[Any]) -> list[Any]:
        if len(found) == MAX_STEPS:
            raise NotImplementedError("too many equations to run one by one")
        outputs = [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]
        operands, made = (tuple(np.asarray(x) for x in xs if not _is_key(x)) for xs in (values, outputs))
        found.append(Run(eqn, tuple(stack), operands, made, *leaves_range(eqn, operands, made)))
        return outputs

    try:
        with jax.enable_x64(True), jax.disable_jit():
            walk.run(program, [jaxprs.widened(x) for x in inputs], leaf, constant=jaxprs.as_written, around=around,
                       loop=lambda key, f, *args: f(*args))  # fmt: skip
    except Exception as error:  # too many equations, or one that cannot be run by itself
        noted(error, "a run equation by equation")
        return []
    return found


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)


def leaves_range(eqn: Any, operands: Sequence[np.ndarray], outputs: Sequence[np.ndarray],
                 by_entry: bool = False) -> tuple[Left | None, int]:  # fmt: skip
    """How the equation's output is out of range where its operands are not, and in how many entries."""
    floats = [v for v in operands if jaxprs.is_float(v.dtype)]
    made = [o for o in outputs if jaxprs.is_float(o.dtype)]
    if not made or not floats:
        return None, 0
    for how, found, is_in in ((Left.NAN, np.isnan, np.isnan), (Left.INFINITY, np.isinf, lambda v: ~np.isfinite(v))):
        lost = sum(int((found(o) & ~_taken_in(is_in, floats, o.shape)).sum()) for o in made)
        if lost:
            return how, lost
    if eqn.primitive.name in UNDERFLOWS and (by_entry or all(v.all() for v in floats)):
        least = np.finfo(np.float64).tiny
        small = sum(int(((np.abs(o) < least) & _of_numbers(eqn, floats, o.shape)).sum()) for o in made)
        return (Left.TOO_SMALL, small) if small else (None, 0)
    return None, 0


def _of_numbers(eqn: Any, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Which entries of an output are made of numbers that are finite, and not zero unless it is an exponential's: its
    own entries of the operands, or all where shapes are others."""
    fine = [np.isfinite(v) & ((v != 0) | (eqn.primitive.name in NEVER_ZERO)) for v in operands]
    entry = [f if f.shape in ((), shape) else f.all() for f in fine]
    return np.all([np.broadcast_to(e, shape) for e in entry], axis=0)


def _taken_in(is_in: Callable, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Which entries of an output may be what an operand is: its own entries, or all where shapes are others."""
    entry = [is_in(v) if v.shape in ((), shape) else is_in(v).any() for v in operands]
    return np.any([np.broadcast_to(e, shape) for e in entry], axis=0)


def said_of(found: Overflow, worst: Worst) -> str:
    """The finding, in one sentence."""
    size = f"{found.size:.0e}"
    if found.candidate is None:
        return f"autodiff's program, not the one by hand, leaves float64's range at entries of about {size} and more"
    theirs, made = "does so too" if found.reference is not None else "bears it", found.candidate.how
    return (f"{worst.path} by hand leaves float64's range at entries of about {size} and more, where "
            f"{made.value if made else ''} is made ({worst.got:.3g} there, {worst.want:.3g} by autodiff): autodiff's "
            f"program {theirs}")  # fmt: skip
