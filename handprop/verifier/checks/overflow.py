"""Tell arithmetic that leaves float64's range from mathematics that is wrong.

``log(e^x)`` is x, but it is computed as infinity from x = 710 on. Where two programs differ at an input, the input is
scaled down. If the difference is gone at entries of about 1, bisection finds the size at which it begins, to ``2^-10``
of itself. Both programs then run equation by equation on either side of that size, and the equations whose results
leave the range are recorded: infinities and NaN made from numbers, and zeros and denormal numbers made from numbers
that are not zero. The difference is one of range if such an equation begins to do so where the difference begins. A
program that is another function for large numbers also differs from some size on, but nothing leaves the range there.

NaN made from an infinity that was itself made from too large numbers is one of range at any size, because what meets
the infinity, such as a mask, may be 0 at some sizes and not at others.
"""

import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop.verifier.checks.evaluators import Evaluator, as_users
from handprop.verifier.checks.sampling import Point, compared, largest, worst_entry
from handprop.verifier.internal import TooLarge, noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs, running, widen
from handprop.verifier.programs.executables import array
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.report.values import Worst

__all__ = ["Overflow", "RangeExit", "Step", "overflow", "run_of", "said_of"]

BISECTIONS = 40
FINE = 2.0**-10
# A compiled quotient may be a product with a reciprocal, which leaves the range a little earlier. And exp(-x) makes
# denormal numbers from 708 on and zeros from 745 on; the programs may begin to differ at either.
WITHIN = 1.06
USUAL = 0.9375  # programs do not compare their inputs with this number
MAX_STEPS = 4000
NEGATIVE = -1e-6


class RangeExit(enum.Enum):
    """How numbers leave float64's range."""

    NAN = "NaN"
    INFINITY = "infinity"
    TOO_SMALL = "zero or a denormal number"


class Step(NamedTuple):
    """One run of an equation, within the calls that lead to it, with its operands and outputs.

    ``how`` is how it left the range, None if it did not, and ``entries`` is in how many entries.
    """

    eqn: Any
    stack: tuple[Any, ...]
    operands: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    how: RangeExit | None = None
    entries: int = 0


class Overflow(NamedTuple):
    """A difference of range, from entries of this ``size`` on, and the equations that leave the range there.

    ``candidate`` and ``reference`` are None for a program that does not leave the range.
    """

    size: float
    candidate: Step | None
    reference: Step | None


def overflow(problem: Problem, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> Overflow | None:
    """Return how the difference at this point is one of range, or None if it is not; ``worst`` is its worst entry."""
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


def _sets_in(before: Sequence[Step], after: Sequence[Step], is_undefined: Callable[[Step], bool]) -> Step | None:
    """Return the first equation that leaves the range after and not before, or in more entries, or in another way.

    NaN made from an infinity is one of range only if something left the range earlier in the run.
    """
    if len(before) != len(after):
        return None
    left = False
    for a, b in zip(before, after, strict=True):
        left |= _leaves(b)
        changes = b.entries > a.entries or (b.entries and b.how != a.how)
        if left and changes and not is_undefined(b):
            return b
    return None


def _leaves(step: Step) -> bool:
    """Whether the equation itself leaves the range, rather than making NaN from an infinity that was there before."""
    return step.how is not None and not (step.how is RangeExit.NAN and any(np.isinf(x).any() for x in step.operands))


def _nan_of_large_numbers(program: Any, point: Point) -> Step | None:
    """Return the first equation that makes NaN from an infinity, if an infinity was made from numbers before."""
    too_large = False
    for step in run_of(program, point.inputs):
        if step.how is RangeExit.NAN and too_large:
            return None if _is_undefined(step) else step
        too_large |= step.how is RangeExit.INFINITY
    return None


def _is_undefined(step: Step) -> bool:
    """Whether NaN is made from a negative number, which is no matter of range; rounding makes none as large as this."""
    return (step.how is RangeExit.NAN and has(step.eqn, Trait.OF_POSITIVE)
            and bool((step.operands[0] < NEGATIVE).any()))  # fmt: skip


def _has_no_value(step: Step) -> bool:
    """Whether NaN is made from finite numbers by a function that is undefined there and at numbers nearby.

    A program that returns a number all the same must have asked whether it is one.
    """
    if step.how is not RangeExit.NAN or not has(step.eqn, Trait.UNINTERPRETED, Trait.OF_POSITIVE):
        return False
    near = [[jaxprs.widened(x * (1 + part) + part) if jaxprs.is_float(x.dtype) else x for x in step.operands]
            for part in (0.0, NEGATIVE, -NEGATIVE)]  # fmt: skip
    with jax.enable_x64(True):
        made = [np.asarray(widen.wide_step(step.eqn, values)[0]) for values in near]
    finite = [np.broadcast_to(np.isfinite(x), made[0].shape) for x in step.operands]
    return bool((np.isnan(made).all(0) & np.all(finite, axis=0)).any())


def _by_entry(steps: Sequence[Step]) -> list[Step]:
    """Return the same run with underflow decided entry by entry, also where an operand has zeros."""
    found = (leaves_range(step.eqn, step.operands, step.outputs, by_entry=True) for step in steps)
    return [step._replace(how=how, entries=entries) for step, (how, entries) in zip(steps, found, strict=True)]


def run_of(program: Any, inputs: Sequence[Any]) -> list[Step]:
    """Step the program in float64, equation by equation and iteration by iteration.

    Empty if that fails or takes too many equations.
    """
    found: list[Step] = []
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
            raise TooLarge("too many equations to run one by one")
        outputs = [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]
        operands, made = (tuple(np.asarray(x) for x in xs if not jaxprs.is_key(x)) for xs in (values, outputs))
        found.append(Step(eqn, tuple(stack), operands, made, *leaves_range(eqn, operands, made)))
        return outputs

    try:
        with jax.enable_x64(True), jax.disable_jit():
            running.run(program, [jaxprs.widened(x) for x in inputs], leaf, constant=jaxprs.as_written, around=around,
                       loop=lambda key, f, *args: f(*args))  # fmt: skip
    except Exception as error:  # too many equations, or one that cannot be run by itself
        noted(error, "a run equation by equation")
        return []
    return found


def leaves_range(eqn: Any, operands: Sequence[np.ndarray], outputs: Sequence[np.ndarray],
                 by_entry: bool = False) -> tuple[RangeExit | None, int]:  # fmt: skip
    """Return how the equation's output is out of range where its operands are not, and in how many entries."""
    floats, made = ([x for x in arrays if jaxprs.is_float(x.dtype) or jaxprs.is_complex(x.dtype)]
                    for arrays in (operands, outputs))  # fmt: skip
    if not made or not floats:
        return None, 0
    for how, found, is_in in (
        (RangeExit.NAN, np.isnan, np.isnan),
        (RangeExit.INFINITY, np.isinf, lambda v: ~np.isfinite(v)),
    ):
        lost = sum(int((found(o) & ~_taken_in(is_in, floats, o.shape)).sum()) for o in made)
        if lost:
            return how, lost
    if has(eqn, Trait.UNDERFLOWS) and (by_entry or all(v.all() for v in floats)):
        least = np.finfo(np.float64).tiny
        small = sum(int(((np.abs(o) < least) & _of_numbers(eqn, floats, o.shape)).sum()) for o in made)
        return (RangeExit.TOO_SMALL, small) if small else (None, 0)
    return None, 0


def _of_numbers(eqn: Any, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Mark the entries of an output that are made from finite, nonzero numbers; an exponential's may be zero.

    An entry is made from its own entries of the operands, or from all entries where the shapes differ.
    """
    fine = [np.isfinite(v) & ((v != 0) | has(eqn, Trait.NEVER_ZERO)) for v in operands]
    entry = [f if f.shape in ((), shape) else f.all() for f in fine]
    return np.all([np.broadcast_to(e, shape) for e in entry], axis=0)


def _taken_in(is_in: Callable, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Mark the entries of an output that may have the property from an operand.

    That is from its own entries of the operand, or from all entries where the shapes differ.
    """
    entry = [is_in(v) if v.shape in ((), shape) else is_in(v).any() for v in operands]
    return np.any([np.broadcast_to(e, shape) for e in entry], axis=0)


def said_of(found: Overflow, worst: Worst) -> str:
    """State the finding in one sentence."""
    size = f"{found.size:.0e}"
    if found.candidate is None:
        return f"autodiff's program, not the one by hand, leaves float64's range at entries of about {size} and more"
    theirs, made = "does so too" if found.reference is not None else "does not", found.candidate.how
    return (f"{worst.path} by hand leaves float64's range at entries of about {size} and more, where "
            f"it makes {made.value if made else ''} ({worst.got:.3g} there, {worst.want:.3g} by autodiff); autodiff's "
            f"program {theirs}")  # fmt: skip
