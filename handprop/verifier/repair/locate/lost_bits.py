"""Find the line on which a right program loses most bits in its own dtype.

The program runs in float64, except for the equations of one source line, which run in their own dtype on operands
rounded to it. The bits that the outputs then lose are lost on that line and magnified by the lines after it. The
complement, one line in float64 and all others in their own dtype, would not find the line: ``1 - h`` in float64 gets an
``h`` that is already rounded, and if two lines lose the same bits, widening one of them gains nothing.

A line that returns a number rounded as well as its dtype allows is not at fault, whatever later lines do with the
number: ``h = sigmoid(z)`` is blamed less than ``1 - h``. So an equation is blamed for what it loses in its own dtype,
minus what it loses when it is computed in float64 and only its result is rounded. A cause is named if that fault alone,
in an equation that otherwise runs in float64, loses the same number of bits to within one bit.
"""

import contextlib
import enum
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from handprop.verifier.checks.rounding import bits_lost
from handprop.verifier.internal import TooLarge
from handprop.verifier.problem import Problem
from handprop.verifier.programs import executables, frames, jaxprs, running, widen
from handprop.verifier.programs.primitives import Trait, has, named
from handprop.verifier.repair.source.functions import quoted, rebuilt
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import LostBits, Outcome

__all__ = ["lost_bits"]

MAX_UNITS = 128
CHOSEN = 8 * executables.EQUATION  # seconds to compile one equation in all its modes
SECONDS = 0.5


class Mode(enum.IntEnum):
    """How an equation runs: in float64, in its own dtype, or in float64 with one fault of its own dtype."""

    WIDE = 0
    OWN = 1
    ROUNDED = 2  # the result is rounded; its exponent is not limited
    OVERFLOW = 3  # results beyond the largest number become infinite
    UNDERFLOW = 4  # results below the smallest normal number become zero
    SATURATED = 5  # results are 0, 1 or -1 where its own dtype returns these
    OPERANDS = 6  # the operands are rounded


class Unit(NamedTuple):
    """An equation that rounds, the number of terms that one entry of its result sums, and how often it runs."""

    name: str
    frame: frames.Frame | None
    terms: int
    iterations: int


class RoundedProgram:
    """The candidate program, compiled once with a selectable mode for each unit, or for the unit ``only``.

    It measures the bits that one output loses in given modes.
    """

    def __init__(self, program: Any, inputs: Sequence[Any], output: int, faults: Sequence[Mode],
                 only: int | None = None, seconds: float = float("inf")):  # fmt: skip
        self.only = only
        self.units: dict[tuple[int, ...], Unit] = {}
        self.dtype = program.out_avals[output].dtype
        self.stack: list[Any] = []
        with jax.enable_x64(True):
            self.inputs = [jaxprs.widened(x) for x in inputs]
            modes = jax.ShapeDtypeStruct((MAX_UNITS,), np.int8)
            self.compiled = executables.compiled(
                lambda inputs, modes: self._evaluated(program, inputs, modes, faults)[output],
                self.inputs, modes, programs=[program], seconds=seconds, each=CHOSEN)  # fmt: skip
        self.exact = self.run({})

    def run(self, modes: Mapping[int, Mode]) -> np.ndarray:
        """Return the output when some units, by number, run in another mode than WIDE."""
        chosen = np.zeros(MAX_UNITS, np.int8)
        for n, mode in modes.items():
            chosen[n] = mode
        with jax.enable_x64(True):
            return np.asarray(self.compiled(self.inputs, executables.array(chosen)))

    def lost(self, modes: Mapping[int, Mode]) -> float:
        return bits_lost(self.run(modes), self.exact, self.dtype)

    def _evaluated(self, program: Any, inputs: Sequence[Any], modes: Any, faults: Sequence[Mode]) -> list[Any]:
        def leaf(eqn: Any, values: list[Any]) -> list[Any]:
            if not _rounds(eqn):
                return [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]
            n = self._number_of(eqn)
            return _chosen(eqn, values, modes[n], faults if self.only in (None, n) else ())

        return running.run(program, inputs, leaf, constant=jaxprs.as_written, around=self._within)

    @contextlib.contextmanager
    def _within(self, eqn: Any) -> Iterator[None]:
        self.stack.append(eqn)
        try:
            yield
        finally:
            self.stack.pop()

    def _number_of(self, eqn: Any) -> int:
        """Number the unit by the calls that lead to it, since two calls of one function share its equations."""
        key = tuple(id(e) for e in self.stack)
        if key not in self.units:
            if len(self.units) == MAX_UNITS:
                raise TooLarge("too many equations to compile each in two ways")
            iterations = math.prod(e.params["length"] for e in self.stack if e.primitive.name == "scan")
            self.units[key] = Unit(eqn.primitive.name, _frame(self.stack), _terms(eqn), iterations)
        return list(self.units).index(key)


def _rounds(eqn: Any) -> bool:
    narrows = eqn.primitive.name in ("convert_element_type", "reduce_precision")
    floats = any(_is_narrow(v.aval) for v in (*eqn.invars, *eqn.outvars))
    return floats and (narrows or not has(eqn, Trait.EXACT))


def _is_narrow(aval: Any) -> bool:
    return jaxprs.is_float(getattr(aval, "dtype", np.int32)) and aval.dtype != np.float64


def _frame(stack: list[Any]) -> frames.Frame | None:
    """Return the user's innermost frame. For an equation inside one of JAX's own functions, that is its call."""
    calls = (e for e in stack[:-1] if jaxprs.called_program(e) is not None and jaxprs.of_jax(e))
    found = frames.user_frames(next(calls, stack[-1]))
    return found[0] if found else None


def _terms(eqn: Any) -> int:
    shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in contracted)
    if eqn.primitive.name == "cumsum":
        return shapes[0][eqn.params["axis"]]
    if eqn.primitive.name == "reduce_sum":
        return math.prod(shapes[0]) // max(1, math.prod(shapes[-1]))
    return 1


def _chosen(eqn: Any, values: list[Any], mode: Any, faults: Sequence[Mode]) -> list[Any]:
    """Return the equation's results in float64, computed in ``mode``: WIDE or one of ``faults``."""
    if not faults:
        return [jaxprs.widened(x) for x in widen.wide_step(eqn, values)]
    rounded = [_rounded(v, a.aval.dtype) if _is_narrow(a.aval) else v for v, a in zip(values, eqn.invars, strict=True)]
    operands = values
    if Mode.OPERANDS in faults:
        operands = [jnp.where(mode == Mode.OPERANDS, r, v) if jaxprs.is_float(v.dtype) else v
                    for r, v in zip(rounded, values, strict=True)]  # fmt: skip
    wide = [jaxprs.widened(x) for x in widen.wide_step(eqn, operands)]
    cast = [r.astype(a.aval.dtype) if jaxprs.is_float(r.dtype) else r for r, a in zip(rounded, eqn.invars, strict=True)]
    own = [jaxprs.widened(x) for x in running.bind(eqn, cast)]
    outputs = []
    for w, o, var in zip(wide, own, eqn.outvars, strict=True):
        chosen = w
        for fault in faults:
            if fault is not Mode.OPERANDS and (fault is Mode.OWN or _is_narrow(var.aval)):
                chosen = jnp.where(mode == fault, FAULTS[fault](w, o, var.aval.dtype), chosen)
        outputs.append(chosen)
    return outputs


def _rounded(x: Any, dtype: Any) -> Any:
    """Round to the dtype's mantissa, without limiting the exponent. XLA may drop a cast there and back."""
    return lax.reduce_precision(x, 11, ml_dtypes.finfo(dtype).nmant)


FAULTS: dict[Mode, Callable[[Any, Any, Any], Any]] = {
    Mode.OWN: lambda wide, own, dtype: _rounded(own, dtype) if jaxprs.is_float(own.dtype) else own,
    Mode.ROUNDED: lambda wide, own, dtype: _rounded(wide, dtype),
    Mode.OVERFLOW: lambda wide, own, dtype: jnp.where(
        jnp.abs(wide) > float(ml_dtypes.finfo(dtype).max), jnp.inf * jnp.sign(wide), wide),
    Mode.UNDERFLOW: lambda wide, own, dtype: jnp.where(
        jnp.abs(wide) < float(ml_dtypes.finfo(dtype).tiny), 0.0, wide),
    Mode.SATURATED: lambda wide, own, dtype: jnp.where((own == 0) | (jnp.abs(own) == 1), own, wide),
}  # fmt: skip


def lost_bits(problem: Problem, report: Report) -> LostBits | None:
    """Find the line that loses most bits of the output that loses most.

    Returns None if the arithmetic is fine, if the dtype is float64 already, or if no single line loses half of the
    bits.
    """
    check = next((c for c in report.checks if c.name == "rounding"), None)
    if check is None or check.outcome is not Outcome.NOTES or problem.as_program is None:
        return None
    lost, theirs = check.evidence["lost_bits"], check.evidence["lost_bits_autodiff"]
    path = max(lost, key=lambda name: lost[name])
    output, seconds = problem.out_paths.index(path), problem.compiling
    with jax.default_matmul_precision("highest"):
        program = jaxprs.trace(problem.as_program(rebuilt(problem.written, {})), problem.inputs)
        if not _is_narrow(program.out_avals[output]):
            return None
        trial = RoundedProgram(program, problem.inputs, output, (Mode.OWN, Mode.ROUNDED), None, seconds)
        blamed = _blamed(trial, lost[path])
        if blamed is None:
            return None
        n, bits = blamed
        cause = _cause(RoundedProgram(program, problem.inputs, output, tuple(Mode)[1:], n, seconds), n)
    frame = list(trial.units.values())[n].frame
    assert frame is not None
    text, (start, end) = quoted(frame)
    return LostBits(path, frame.file, frame.line, text, frame.function, bits, lost[path], theirs[path],
                    f"{cause} in {text[start:end]}" if cause else "")  # fmt: skip


def _blamed(trial: RoundedProgram, in_all: float) -> tuple[int, float] | None:
    """Return the number of the equation most to blame, and the bits its line loses.

    Returns None if no line loses half of the bits, or if the runs take too long.
    """
    deadline = time.monotonic() + SECONDS
    lines: dict[tuple[str, int], list[int]] = {}
    for n, unit in enumerate(trial.units.values()):
        if unit.frame is not None:
            lines.setdefault((unit.frame.file, unit.frame.line), []).append(n)
    on_line = {}
    for place, numbers in lines.items():
        on_line[place] = trial.lost(dict.fromkeys(numbers, Mode.OWN))
        if time.monotonic() > deadline:
            return None
    found: tuple[tuple[float, float], int, float] | None = None
    for place in (place for place, bits in on_line.items() if bits >= in_all / 2):
        for n in lines[place]:
            own = trial.lost({n: Mode.OWN})
            rank = round(own - trial.lost({n: Mode.ROUNDED})), round(own)
            if found is None or rank > found[0]:  # of equals the first: the one that overflows, not its reader
                found = rank, n, on_line[place]
            if time.monotonic() > deadline:
                return None
    return found[1:] if found else None


def _cause(trial: RoundedProgram, n: int) -> str:
    """Name the cause if a measurement shows it: one fault alone loses what the equation loses, to within one bit."""
    unit = list(trial.units.values())[n]
    own = trial.lost({n: Mode.OWN})
    if own < 1:
        return ""
    alone = {mode for mode in Mode if trial.lost({n: mode}) > own - 1}
    for mode in (Mode.OVERFLOW, Mode.UNDERFLOW):
        if mode in alone:
            return mode.name.lower()
    if Mode.SATURATED in alone:
        return "saturation, a result rounded to 0 or 1,"
    if Mode.OPERANDS in alone and Mode.ROUNDED not in alone:
        return _cancellation(unit) if unit.name in named(Trait.ADDS) else "magnified rounding of the operands"
    terms = unit.terms * unit.iterations
    accumulates = Mode.ROUNDED in alone if unit.iterations > 1 else Mode.OPERANDS not in alone
    if unit.name in named(Trait.ADDS) and accumulates and 2 ** (own - 1) <= terms:
        return f"a sum of {terms:,} terms"
    return ""


def _cancellation(unit: Unit) -> str:
    return "cancellation" if unit.terms == 1 else f"cancellation among {unit.terms:,} terms"
