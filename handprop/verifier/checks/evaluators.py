"""Both programs in float64, compiled or run equation by equation."""

import enum
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.internal import first_line, go_on, noted
from handprop.verifier.problem import Problem
from handprop.verifier.programs import constants, executables, jaxprs, running, widen
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.programs.traces import digest_of, is_widened
from handprop.verifier.report.values import Check, Outcome

__all__ = [
    "DRAWS",
    "MORE_DRAWS",
    "Evaluator",
    "Outputs",
    "Traced",
    "as_users",
    "calls_back",
    "evaluators",
    "in_float64",
    "is_compiled",
    "is_own",
    "untraceable",
]

DRAWS, MORE_DRAWS = 3, 16

ROUNDINGS = 64
UNITS = 16  # in the last place of a dtype: what a function that is made for it may be off
NOISY = 4 * executables.EQUATION
SIGN = np.uint64(1 << 63)

Outputs = list[np.ndarray]


class Traced(enum.Enum):
    """At which inputs the programs of an evaluator were traced."""

    WIDE = "inputs of float64"
    GIVEN = "the given inputs, with 64-bit types"
    OWN = "the given inputs, in the user's own mode"


class AnotherProgram(Exception):
    """A program becomes another one in float64, so it has no form there; ``by_hand``: the candidate does."""

    def __init__(self, said: str, by_hand: bool = True):
        super().__init__(said)
        self.by_hand = by_hand


class Evaluator(NamedTuple):
    """Both programs in float64.

    ``clean(inputs)`` returns the outputs by hand and by the reference; ``rough(inputs, seed)`` returns the same with
    noise of size ``eta``. Integers and booleans are converted to numbers. At most ``draws`` runs with noise are made.
    Where a program raises, in a callback, every output is NaN; the reason is appended to ``raised``, and so is that a
    loop was cut off. ``accuracy`` is the error, relative to an output's largest entry, that the user allows beyond
    rounding; where the reference ``is_estimated``, it is relative to the largest entry of all outputs.

    ``shifted(inputs)`` returns the outputs with constants as they are, then with one constant after the other shifted
    by half a unit (:mod:`handprop.verifier.programs.constants`). ``traced_at`` are the inputs at which the two
    ``programs``, by hand and of the reference, were traced. ``arguments(inputs)`` is what these programs take; where
    arguments lie in domains, it is a function of the inputs.
    """

    clean: Callable[[Sequence[Any]], tuple[Outputs, Outputs]]
    rough: Callable[[Sequence[Any], int], tuple[Outputs, Outputs]]
    eta: float
    raised: list[str]
    accuracy: float = 0.0
    is_estimated: bool = False
    draws: int = DRAWS
    shifted: Callable[[Sequence[Any]], list[tuple[Outputs, Outputs]]] = lambda inputs: []
    traced_at: tuple[Any, ...] = ()
    programs: tuple[Any, ...] = ()
    arguments: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple


def evaluators(problem: Problem) -> Iterator[Evaluator]:
    """Yield the programs in two traces: in float64, and at the dtypes of the inputs.

    In the first, numbers in the source keep their digits; a number that the source itself makes a float32 is read as it
    was written in the second only. A program is refuted only if both traces are. A trace is left out if it equals
    the first, cannot be traced, or is another program because the source asks for the dtype. If neither can be traced,
    the programs are traced as the user runs them, and only their equations are widened. Each trace is compiled once
    for all checks.
    """
    with jax.enable_x64(True):
        wide = tuple(jaxprs.widened(x) for x in problem.inputs)
    same = all(w.dtype == x.dtype for w, x in zip(wide, problem.inputs, strict=True))
    found = False
    for traced, inputs in ((Traced.WIDE, wide),) if same else ((Traced.WIDE, wide), (Traced.GIVEN, problem.inputs)):
        if (evaluator := _compiled_once(problem, traced, inputs)) is not None:
            found = True
            yield evaluator
    if not found and (evaluator := _compiled_once(problem, Traced.OWN, problem.inputs)) is not None:
        yield evaluator


def _compiled_once(problem: Problem, traced: Traced, inputs: tuple[Any, ...]) -> Evaluator | None:
    """Return the programs traced in one way, or None if they cannot be; the reason is kept too."""
    known = problem.shared.evaluators
    if traced not in known:
        try:
            known[traced] = _compiled(problem, inputs, traced is not Traced.OWN)
        except AnotherProgram as error:
            known[traced], problem.shared.untraceable = None, first_line(error)
            if error.by_hand or not _is_primal_widened(problem, inputs):
                problem.shared.resolution = _resolution(problem)
        except Exception as error:  # whatever JAX raises where a program has no form in float64
            noted(error, "the programs in float64")
            known[traced], problem.shared.untraceable = None, first_line(error)
    return known[traced]


def _resolution(problem: Problem) -> float:
    """The relative error that the arguments' own dtype does not resolve.

    A function that is another program in float64, with other coefficients or another threshold, has been made as
    precise as its dtype is, and no more."""
    return UNITS * max((float(ml_dtypes.finfo(x.dtype).eps) for x in problem.inputs if jaxprs.is_float(x.dtype)),
                       default=0.0)  # fmt: skip


def _is_primal_widened(problem: Problem, wide: tuple[Any, ...]) -> bool:
    """Whether the function itself is the same in float64, and only a derivative that JAX ships asks for the dtype."""
    if problem.primal is None:
        return False
    program = jaxprs.trace(problem.primal, problem.inputs)
    with jax.enable_x64(True):
        return is_widened(jaxprs.trace(problem.primal, wide), program)


def as_users(problem: Problem) -> list[Any]:
    """Return both programs as the user's own mode traces them; they are kept while the report is made.

    JAX keeps a NumPy constant in the width of the trace that met it first, as long as a program holds it. Because these
    programs hold theirs, no trace with 64-bit types changes what the user's functions are traced to later.
    """
    shared = problem.shared
    if shared.user_programs is None:
        shared.user_programs = [jaxprs.trace(f, problem.inputs) for f in (problem.candidate, problem.reference)]
    return shared.user_programs


def _compiled(problem: Problem, inputs: tuple[Any, ...], x64: bool) -> Evaluator | None:
    """Compile one trace of the programs; None if the same was compiled before."""
    programs = as_users(problem)
    with jax.enable_x64(True):
        if x64:
            wide = [jaxprs.trace(f, inputs) for f in (problem.candidate, problem.reference)]
            candidate, reference = map(is_widened, wide, programs)
            if not (candidate and reference):
                raise AnotherProgram("in float64 it becomes another program", by_hand=not candidate)
            programs = [_alike(one, program) for one, program in zip(wide, programs, strict=True)]
        digests, known = [digest_of(program) for program in programs], problem.shared.compiled
        if digests in known:
            return None
        known.append(digests)
        eta = (ROUNDINGS + max(jaxprs.longest_sum(program) for program in programs)) * 2.0**-52
        widened = [widen.widen(program) for program in programs]
        is_quick = executables.compile_within(programs, problem.compiling, NOISY)
        shapes = tuple(jaxprs.widened(x) for x in inputs)
        clean = executables.compiled(lambda inputs: [f(inputs, None, None) for f in widened], shapes, programs=programs,
                                seconds=problem.compiling)  # fmt: skip

    @functools.cache
    def rough() -> Callable:
        def noisy(inputs: Any, seed: Any) -> list[Any]:
            return [f(inputs, eta, seed + jnp.uint32(i << 16)) for i, f in enumerate(widened)]

        with jax.enable_x64(True):
            return executables.compiled(noisy, shapes, np.uint32(0), programs=programs, seconds=problem.compiling,
                                   each=NOISY)  # fmt: skip

    @functools.cache
    def with_shifts() -> tuple[Callable, int]:
        found = constants.inexact(programs)

        def moved(inputs: Any, shifts: Any) -> list[Any]:
            held = functools.partial(constants.shifted, constants=found, shifts=shifts)
            return [widen.widen(program, held)(inputs, None, None) for program in programs]

        with jax.enable_x64(True):
            return executables.compiled(moved, shapes, np.zeros(len(found)), programs=programs,
                                        seconds=problem.compiling), len(found)  # fmt: skip

    raised: list[str] = []

    run = functools.partial(_guarded, programs, raised)

    def shifted(inputs: Sequence[Any]) -> list[tuple[Outputs, Outputs]]:
        f, count = with_shifts()
        return [run(f, tuple(inputs), shift) for shift in (np.zeros(count), *np.eye(count))] if count else []

    return Evaluator(lambda inputs: run(clean, tuple(inputs)),
                     lambda inputs, seed: run(rough(), tuple(inputs), np.uint32(seed)), eta, raised,
                     max(problem.accuracy, problem.shared.resolution), problem.is_estimated,
                     MORE_DRAWS if is_quick else DRAWS, shifted, inputs, tuple(programs))  # fmt: skip


def _guarded(programs: Sequence[Any], raised: list[str], f: Callable, *args: Any) -> tuple[Outputs, Outputs]:
    """Run both programs; what stops them is appended to ``raised``, and their outputs are NaN."""
    go_on()
    try:
        with jax.enable_x64(True):
            got, want = ([_number(x) for x in program] for program in f(*args))
    except Exception as error:  # whatever a callback raises: the program does not take this input
        noted(error, "a run in float64")
        raised.append(f"a program raises: {said_last(error)}")
        got, want = (_not_a_number(program) for program in programs)
    if any(_is_endless(x) for x in (*got, *want)):
        raised.append("a loop goes on for longer than the verifier follows it")
    return got, want


def _alike(wide: Any, program: Any) -> Any:
    """Return the program traced in float64, unless its shapes differ, as where it reads bits as integers."""
    if [aval.shape for aval in wide.out_avals] != [aval.shape for aval in program.out_avals]:
        raise AnotherProgram("it returns other shapes in float64")
    return wide


def _is_endless(x: np.ndarray) -> bool:
    bits = x.view(np.uint64) if x.dtype == np.float64 else np.zeros(0, np.uint64)
    return bool((bits & ~SIGN == np.float64(running.ENDLESS).view(np.uint64)).any())


def _number(x: Any) -> np.ndarray:
    return np.asarray(x) if jaxprs.is_float(x.dtype) else np.asarray(x, np.float64)


def said_last(error: BaseException) -> str:
    """Return the last line of an error's message, which is the user's own error where a callback raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not set(line.strip()) <= {"-"}]
    own = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception")) and ": " in line]
    return (own or lines or [type(error).__name__])[-1][:200]


def _not_a_number(program: Any) -> Outputs:
    return [np.full(aval.shape, np.nan) for aval in program.out_avals]


def is_own(problem: Problem) -> bool:
    """Whether the programs can be traced only as the user runs them, and not as functions of float64.

    What the user runs in float64 is both, and draws its random numbers with 64 bits.
    """
    if all(np.dtype(x.dtype).itemsize == 8 for x in problem.inputs if jaxprs.is_float(x.dtype)):
        return True
    known = problem.shared.evaluators
    return known.get(Traced.OWN) is not None and not (known.get(Traced.WIDE) or known.get(Traced.GIVEN))


def in_float64(f: Callable, inputs: Sequence[Any], seconds: float,
               own: bool = False) -> Callable[[Sequence[Any]], Outputs]:  # fmt: skip
    """Trace ``f`` at these inputs and run it in float64; its outputs are NaN where it raises.

    It is compiled once if that takes at most ``seconds``. A function that cannot be traced with 64-bit types is traced
    without them; with ``own``, in the user's own mode.
    """
    traced = jaxprs.trace(f, inputs) if own else None
    with jax.enable_x64(True):
        try:
            traced = traced or jaxprs.trace(f, inputs)
            if not own and any(e.primitive.name == "bitcast_convert_type" for e in jaxprs.equations(traced)):
                raise AnotherProgram("it reads the bits of its own dtype")
        except Exception as error:  # whatever JAX, or a function that fixes its own dtypes, raises
            noted(error, "a program in float64")
            with jax.enable_x64(False):
                traced = jaxprs.trace(f, [_narrowed(x) for x in inputs])
        program = widen.widen(traced)
        wide = tuple(jaxprs.widened(x) for x in inputs)
        compiled = executables.compiled(lambda inputs: program(inputs, None, None), wide, programs=[traced],
                                   seconds=seconds)  # fmt: skip

    def run(inputs: Sequence[Any]) -> Outputs:
        try:
            with jax.enable_x64(True):
                return [_number(x) for x in compiled(tuple(inputs))]
        except jax.errors.JaxRuntimeError:
            return _not_a_number(traced)

    return run


def _narrowed(x: Any) -> Any:
    """Return the 32-bit shape of a 64-bit input; any other input is returned unchanged."""
    dtype = np.dtype({"float64": "float32", "int64": "int32", "uint64": "uint32"}.get(str(x.dtype), "bool"))
    return x if dtype == np.bool_ else jax.ShapeDtypeStruct(x.shape, dtype)


def untraceable(name: str, problem: Problem) -> Check:
    """Return the check for programs without an evaluator."""
    reason = problem.shared.untraceable
    summary = "the programs cannot be traced in float64" + (f": {reason}" if reason else "")
    return Check(name, Outcome.UNDECIDED, summary, {})


def calls_back(problem: Problem) -> bool:
    """Whether a program calls back to the host: its results may then vary from run to run, and take long."""
    return any(has(eqn, Trait.CALLBACK) for program in as_users(problem)
               for eqn in jaxprs.equations(program))  # fmt: skip


def is_compiled(problem: Problem) -> bool:
    """Whether the programs are compiled with their noise, so that measuring bounds is quick."""
    return executables.compile_within(as_users(problem), problem.compiling, NOISY)
