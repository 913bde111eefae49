"""Both programs in float64 at sampled points, each entry with the most that rounding can do to it.

The bound is measured, not tuned: each program runs again with every float that a primitive which rounds returns
multiplied by ``1 + eta u``, u uniform in [-1, 1] and ``eta = (64 + K) 2^-52``, K the longest sum, and so is what a
running sum adds up. That is the error analysis of one run of the program with a unit roundoff at least 64 times the
real one (a sum of K terms rounds to within ``K 2^-53`` of its terms' size). An entry where the two programs differ by
more than ``8`` times the largest change seen in ``DRAWS`` such runs of each, plus ``4 eta`` of itself, differs by more
than rounding can explain. The runs with noise are only made where the two differ by more than ``4 eta``, or where the
bound is asked for; where the two then differ by more than the bound, ``MORE_DRAWS`` of them, as a comparison that
rounding decides may fall the same way in a few.
Source: Monte Carlo arithmetic, Parker (1997).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import constants, executables, jaxprs
from handprop.verify.options import Options
from handprop.verify.readings import is_widened, reading_of
from handprop.verify.render import apart
from handprop.verify.report import Check, Counterexample, Outcome, Worst
from handprop.verify.subject import Subject

__all__ = [
    "NONDETERMINISTIC",
    "READINGS",
    "SAFETY",
    "Evaluator",
    "Point",
    "as_users",
    "beyond",
    "calls_back",
    "compared",
    "evaluators",
    "failure",
    "in_float64",
    "is_compiled",
    "is_defined",
    "is_off",
    "is_own",
    "largest",
    "repeats",
    "said_last",
    "sample",
    "untraceable",
    "worst_at",
    "worst_entry",
    "wrong_outputs",
]

NONDETERMINISTIC = "two runs on one input differ"
DRAWS, MORE_DRAWS = 3, 16
SAFETY = 8.0
ROUNDINGS = 64
NOISY = 4 * executables.EQUATION
READINGS = (0, 1, "own", "untraceable")  # under which a subject's ``kept`` has its evaluators, and why there is none
NOTHING = 2.0**-53  # of an output's largest entry, and of 1: what float64 cannot add to it
SLIGHT = 1e-9  # of the largest number: what rounding the inputs changes at most, where nothing jumps
UNDERFLOW = 2.0**-1000  # products that become this small lose their digits in one order of factors and not in another
SIGN = np.uint64(1 << 63)
Outputs = list[np.ndarray]


class Evaluator(NamedTuple):
    """``clean(inputs)``: outputs by hand and by the reference; ``rough(inputs, seed)``: the same with noise of eta.

    Integers and truth values are numbers here. ``draws``: how many runs with noise are made at most.
    Where a program raises, in a callback, every output is NaN; that, or that a loop was cut, is appended to ``raised``.
    ``accuracy``: the relative error, of an output's largest entry, that the user allows beside rounding.
    ``shifted(inputs)``: outputs with constants as they are held, then with one after the other shifted by half a unit
    (:mod:`handprop.verify.constants`). ``traced_at``: the inputs that the ``programs`` by hand and of the reference
    were traced at; ``arguments(inputs)`` is what these take, functions of the inputs where arguments lie in domains.
    """

    clean: Callable[[Sequence[Any]], tuple[Outputs, Outputs]]
    rough: Callable[[Sequence[Any], int], tuple[Outputs, Outputs]]
    eta: float
    raised: list[str]
    accuracy: float = 0.0
    draws: int = DRAWS
    shifted: Callable[[Sequence[Any]], list[tuple[Outputs, Outputs]]] = lambda inputs: []
    traced_at: tuple[Any, ...] = ()
    programs: tuple[Any, ...] = ()
    arguments: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple


class Point(NamedTuple):
    """What one input gave: outputs by hand and by the reference in float64, and each entry's bound; what a program said
    that ``raised`` there."""

    inputs: tuple[Any, ...]
    got: Outputs
    want: Outputs
    bound: Outputs
    raised: str = ""


def evaluators(subject: Subject) -> Iterator[Evaluator]:
    """The programs traced in float64, where the numbers of their text keep their digits, then as they are.

    A number that the text itself makes a float32 is only read as what it was written as in the second. A program is
    refuted when both readings of it are. A reading that is no other, or cannot be traced, or is another program, as
    the text asks for the dtype, is left out; where neither can be traced, the programs are traced as the user runs
    them, and their equations alone are widened. Compiled once for all checks.
    """
    with jax.enable_x64(True):
        wide = tuple(jaxprs.widened(x) for x in subject.inputs)
    same = all(w.dtype == x.dtype for w, x in zip(wide, subject.inputs, strict=True))
    found = False
    for i, inputs in enumerate([subject.inputs] if same else [wide, subject.inputs]):
        if (evaluator := _kept(subject, i, inputs, True)) is not None:
            found = True
            yield evaluator
    if not found and (evaluator := _kept(subject, "own", subject.inputs, False)) is not None:
        yield evaluator


def _kept(subject: Subject, name: Any, inputs: tuple[Any, ...], x64: bool) -> Evaluator | None:
    """One reading of the programs, None where it cannot be traced; why not is kept too."""
    if name not in subject.kept:
        try:
            subject.kept[name] = _compiled(subject, inputs, x64)
        except Exception as error:  # whatever JAX raises where a program is not to be had in float64
            subject.kept[name] = None
            subject.kept["untraceable"] = jaxprs.first_line(error)
    return subject.kept[name]


def as_users(subject: Subject) -> list[Any]:
    """Both programs as the user's own mode traces them, kept as long as the report is being made.

    JAX keeps a NumPy constant in the width of the trace that met it first for as long as a program holds it. As these
    hold theirs, no trace with 64-bit types changes what the user's functions are traced to later.
    """
    if "as users" not in subject.kept:
        subject.kept["as users"] = [jaxprs.trace(f, subject.inputs) for f in (subject.hand, subject.reference)]
    return subject.kept["as users"]


def _compiled(subject: Subject, inputs: tuple[Any, ...], x64: bool) -> Evaluator | None:
    """None where this reading is one that was compiled before."""
    programs = as_users(subject)
    with jax.enable_x64(True):
        if x64:
            wide = [jaxprs.trace(f, inputs) for f in (subject.hand, subject.reference)]
            if not all(map(is_widened, wide, programs)):
                raise TypeError("in float64 it is another program")
            programs = [_alike(one, program) for one, program in zip(wide, programs, strict=True)]
        reading, known = [reading_of(program) for program in programs], subject.kept.setdefault("readings", [])
        if reading in known:
            return None
        known.append(reading)
        eta = (ROUNDINGS + max(jaxprs.longest_sum(program) for program in programs)) * 2.0**-52
        widened = [jaxprs.widen(program) for program in programs]
        is_quick = executables.compile_within(programs, subject.compiling, NOISY)
        shapes = tuple(jaxprs.widened(x) for x in inputs)
        clean = executables.compiled(lambda inputs: [f(inputs, None, None) for f in widened], shapes, programs=programs,
                                seconds=subject.compiling)  # fmt: skip

    @functools.cache
    def rough() -> Callable:
        def noisy(inputs: Any, seed: Any) -> list[Any]:
            return [f(inputs, eta, seed + jnp.uint32(i << 16)) for i, f in enumerate(widened)]

        with jax.enable_x64(True):
            return executables.compiled(noisy, shapes, np.uint32(0), programs=programs, seconds=subject.compiling,
                                   each=NOISY)  # fmt: skip

    @functools.cache
    def with_shifts() -> tuple[Callable, int]:
        found = constants.inexact(programs)

        def moved(inputs: Any, shifts: Any) -> list[Any]:
            held = functools.partial(constants.shifted, constants=found, shifts=shifts)
            return [jaxprs.widen(program, held)(inputs, None, None) for program in programs]

        with jax.enable_x64(True):
            return executables.compiled(moved, shapes, np.zeros(len(found)), programs=programs,
                                        seconds=subject.compiling), len(found)  # fmt: skip

    raised: list[str] = []

    def run(f: Callable, *args: Any) -> tuple[Outputs, Outputs]:
        try:
            with jax.enable_x64(True):
                got, want = ([_number(x) for x in program] for program in f(*args))
        except Exception as error:  # whatever a callback raises: the input is outside of what the program takes
            raised.append(f"a program raises: {said_last(error)}")
            got, want = (_not_a_number(program) for program in programs)
        if any(_is_endless(x) for x in (*got, *want)):
            raised.append("a loop goes on for longer than it is followed")
        return got, want

    def shifted(inputs: Sequence[Any]) -> list[tuple[Outputs, Outputs]]:
        f, count = with_shifts()
        return [run(f, tuple(inputs), shift) for shift in (np.zeros(count), *np.eye(count))] if count else []

    return Evaluator(lambda inputs: run(clean, tuple(inputs)),
                     lambda inputs, seed: run(rough(), tuple(inputs), np.uint32(seed)), eta, raised,
                     subject.kept.get("accuracy", 0.0), MORE_DRAWS if is_quick else DRAWS, shifted, inputs,
                     tuple(programs))  # fmt: skip


def _alike(wide: Any, program: Any) -> Any:
    """The program traced in float64, if it is another one by its types alone: bits read as integers are not."""
    if [aval.shape for aval in wide.out_avals] != [aval.shape for aval in program.out_avals]:
        raise TypeError("in float64 it returns other shapes")
    return wide


def _is_endless(x: np.ndarray) -> bool:
    bits = x.view(np.uint64) if x.dtype == np.float64 else np.zeros(0, np.uint64)
    return bool((bits & ~SIGN == np.float64(jaxprs.ENDLESS).view(np.uint64)).any())


def _number(x: Any) -> np.ndarray:
    return np.asarray(x) if jaxprs.is_float(x.dtype) else np.asarray(x, np.float64)


def said_last(error: BaseException) -> str:
    """The last line of what an error says, which in a callback's is the user's own error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not set(line.strip()) <= {"-"}]
    own = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception")) and ": " in line]
    return (own or lines or [type(error).__name__])[-1][:200]


def _not_a_number(program: Any) -> Outputs:
    return [np.full(aval.shape, np.nan) for aval in program.out_avals]


def is_own(subject: Subject) -> bool:
    """Whether the programs are to be had as the user runs them alone, and not as functions of float64; what the user
    runs in float64 is both, and draws its random numbers with 64 bits."""
    if all(np.dtype(x.dtype).itemsize == 8 for x in subject.inputs if jaxprs.is_float(x.dtype)):
        return True
    return subject.kept.get("own") is not None and not any(subject.kept.get(i) for i in (0, 1))


def in_float64(f: Callable, inputs: Sequence[Any], seconds: float,
               own: bool = False) -> Callable[[Sequence[Any]], Outputs]:  # fmt: skip
    """``f`` traced at these inputs and run in float64, compiled once if that takes at most so many ``seconds``; NaN
    where it raises.

    What cannot be traced with 64-bit types is traced without them, or is where it is the user's ``own`` mode.
    """
    traced = jaxprs.trace(f, inputs) if own else None
    with jax.enable_x64(True):
        try:
            traced = traced or jaxprs.trace(f, inputs)
            if not own and any(e.primitive.name == "bitcast_convert_type" for e in jaxprs.equations(traced)):
                raise TypeError("its bits are those of its own type")
        except Exception:  # whatever JAX, or a function that fixes its own dtypes, raises
            with jax.enable_x64(False):
                traced = jaxprs.trace(f, [_narrowed(x) for x in inputs])
        program = jaxprs.widen(traced)
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
    """The shape of an input in 32 bits, where it has 64."""
    dtype = np.dtype({"float64": "float32", "int64": "int32", "uint64": "uint32"}.get(str(x.dtype), "bool"))
    return x if dtype == np.bool_ else jax.ShapeDtypeStruct(x.shape, dtype)


def untraceable(name: str, subject: Subject) -> Check:
    """What a check says where there is no evaluator."""
    reason = subject.kept.get("untraceable", "")
    shows = "the programs cannot be traced in float64" + (f": {reason}" if reason else "")
    return Check(name, Outcome.UNDECIDED, shows, {})


def sample(subject: Subject, options: Options, i: int) -> tuple[Any, ...]:
    """The user's own inputs first, then normal ones of their scale, cotangents of other signs throughout.

    Numbers that are all positive, such as those a logarithm is taken of, stay inside what they span at every other
    sample, so that not all of them miss where the function is defined.
    """
    with jax.enable_x64(True):
        if i == 0:
            return tuple(jaxprs.widened(x) for x in subject.inputs)
        rng = options.rng(4, i)
        factor = (1.0, 1.0, 0.25)[i % 3]
        return tuple(
            _free(x, rng, factor, subject.domains[j].spread) if j in subject.domains else _moved(x, rng, factor, i % 2)
            for j, x in enumerate(subject.inputs)
        )


def _moved(x: Any, rng: np.random.Generator, factor: float, spanned: bool | int) -> Any:
    wide = np.asarray(x, np.float64) if jaxprs.is_float(x.dtype) else np.zeros(0)
    if not (spanned and wide.size and (wide > 0).all()):
        return _free(x, rng, factor)
    finite = np.isfinite(wide)
    drawn = rng.uniform(wide.min() / 2, max(wide[finite].max(initial=0.0), wide.min()), wide.shape)
    return executables.array(np.where(finite, drawn, wide))


def _free(x: Any, rng: np.random.Generator, factor: float, spread: float | None = None) -> Any:
    """Normal numbers of the given ones' scale, or of ``spread``; what is not finite stays as it is."""
    if not jaxprs.is_float(x.dtype):
        return x
    wide = np.asarray(x, np.float64)
    finite = np.isfinite(wide)
    scale = spread or (np.sqrt(np.mean(wide[finite] ** 2)) if finite.any() else 1.0)
    return executables.array(np.where(finite, rng.normal(size=wide.shape) * (scale or 1.0) * factor, wide))


def calls_back(subject: Subject) -> bool:
    """Whether a program calls back to the host: what it returns may be another thing each time, and take long."""
    return any(eqn.primitive.name in jaxprs.CALLBACKS for program in as_users(subject)
               for eqn in jaxprs.equations(program))  # fmt: skip


def is_compiled(subject: Subject) -> bool:
    """Whether the programs are compiled with their noise, so that to measure bounds is quick."""
    return executables.compile_within(as_users(subject), subject.compiling, NOISY)


def compared(evaluator: Evaluator, inputs: tuple[Any, ...], seed: int, measured: bool = False) -> Point:
    """Both programs at one input; the bound measured where asked for, or where the two differ."""
    before = len(evaluator.raised)
    got, want = evaluator.clean(inputs)
    if len(evaluator.raised) > before:
        return Point(inputs, got, want, [np.full(w.shape, np.inf) for w in want], evaluator.raised[-1])
    with np.errstate(all="ignore"):
        least = [4 * evaluator.eta * np.abs(w) + evaluator.accuracy * largest(w) + NOTHING * min(largest(w), 1.0)
                 + UNDERFLOW for w in want]  # fmt: skip
    if not measured and not is_off(got, want, least):
        return Point(inputs, got, want, least)
    bound, changes = least, [[np.full(x.shape, np.nan) for x in program] for program in (got, want)]
    for draw in range(evaluator.draws):
        if draw >= DRAWS and not is_off(got, want, bound):
            break
        rough = evaluator.rough(inputs, 1 + draw + MORE_DRAWS * seed)
        with np.errstate(all="ignore"):
            changes = [[np.fmax(most, np.abs(r - c)) for most, r, c in zip(*program, strict=True)]
                       for program in zip(changes, rough, (got, want), strict=True)]  # fmt: skip
            bound = [SAFETY * np.maximum(_known(a, g), _known(b, w)) + e
                     for a, b, g, w, e in zip(*changes, got, want, least, strict=True)]  # fmt: skip
    if is_off(got, want, bound):
        bound = list(map(np.maximum, bound, _of_rounded_inputs(evaluator, inputs, got, want, seed)))
    return Point(inputs, got, want, bound)


def _of_rounded_inputs(evaluator: Evaluator, inputs: tuple[Any, ...], got: Outputs, want: Outputs,
                       seed: int) -> Outputs:  # fmt: skip
    """What rounding the inputs changes, ``SAFETY`` times, and nothing where that is more than a rounding error may be:
    a sum of numbers that cancel is off by their rounding errors, of which its own size tells nothing."""
    floats, rng = jaxprs.float_places(inputs), np.random.default_rng(seed)
    most = SLIGHT * max(1.0, *(largest(inputs[i]) for i in floats), *map(largest, want))
    changes = [np.zeros(w.shape) for w in want]
    for _ in range(DRAWS):
        with jax.enable_x64(True):
            factors = (1 + evaluator.eta * rng.uniform(-1, 1, inputs[i].shape) for i in floats)
            moved = [executables.array(np.asarray(inputs[i]) * x) for i, x in zip(floats, factors, strict=True)]
        rounded = evaluator.clean(tuple(jaxprs.with_replaced(inputs, floats, moved)))
        with np.errstate(all="ignore"):
            changes = [np.fmax(most_yet, np.fmax(np.abs(g - c), np.abs(w - d)))
                       for most_yet, c, d, g, w in zip(changes, got, want, *rounded, strict=True)]  # fmt: skip
    return [np.where(SAFETY * change <= most, SAFETY * change, 0.0) for change in changes]


def _known(change: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The largest change; any where a finite number is NaN in every run with noise."""
    return np.where(np.isnan(change), np.where(np.isfinite(clean), np.inf, 0.0), change)


def largest(x: Any) -> float:
    """The size of the largest finite entry, 0 where there is none."""
    x = np.asarray(x)
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def beyond(got: np.ndarray, want: np.ndarray, bound: np.ndarray, defined: bool = True) -> np.ndarray:
    """By how many times its bound each entry is off, where that is more than once; 0 elsewhere.

    A gradient that is not finite is only off where the function's own values are ``defined``.
    """
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        lost = defined & np.isfinite(want) & np.isfinite(bound) & ~np.isfinite(got)
        times = np.where(np.isfinite(error), error / np.maximum(bound, 5e-324), 0.0)
    return np.where(lost, np.inf, np.where(times > 1, times, 0.0))


def is_off(got: Outputs, want: Outputs, bound: Outputs) -> bool:
    """Whether some entry of some output is beyond its bound."""
    return any(beyond(*leaf).any() for leaf in zip(got, want, bound, strict=True))


def is_defined(subject: Subject, point: Point) -> bool:
    """Whether the reference's values, of which the others are gradients, are finite."""
    return all(gradient or np.isfinite(want).all()
               for gradient, want in zip(subject.gradients, point.want, strict=True))  # fmt: skip


def worst_entry(subject: Subject, point: Point) -> Worst | None:
    """The entry furthest beyond its bound, None where none is."""
    found: tuple[float, int, Any] | None = None
    defined = is_defined(subject, point)
    for output, (got, want, bound) in enumerate(zip(point.got, point.want, point.bound, strict=True)):
        times = beyond(got, want, bound, defined)
        if times.size and times.max() > (found[0] if found else 0):
            found = float(times.max()), output, np.unravel_index(int(np.argmax(times)), times.shape)
    return worst_at(subject, point, *found[1:]) if found else None


def worst_at(subject: Subject, point: Point, output: int, index: Any) -> Worst:
    """One entry of one output, by number and index, as the worst."""
    got, want, bound = (x[output][index] for x in (point.got, point.want, point.bound))
    unit = float(np.spacing(max(abs(want), 2.0**-1022)))
    with np.errstate(all="ignore"):
        ulps, most = (float(np.float64(x) / unit) for x in (abs(got - want), bound))
    return Worst(subject.out_paths[output], tuple(map(int, index)), float(got), float(want), ulps, most)


def wrong_outputs(subject: Subject, point: Point) -> set[int]:
    """The outputs with an entry beyond its bound."""
    defined = is_defined(subject, point)
    leaves = zip(point.got, point.want, point.bound, strict=True)
    return {k for k, leaf in enumerate(leaves) if beyond(*leaf, defined).any()}


def repeats(evaluator: Evaluator, point: Point) -> bool:
    """Whether both programs return the same bits when they run on the point's input again."""
    again = evaluator.clean(point.inputs)
    pairs = zip((*point.got, *point.want), (*again[0], *again[1]), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def failure(name: str, subject: Subject, evaluator: Evaluator, point: Point, worst: Worst, where: str,
            seconds: float, **evidence: Any) -> Check:  # fmt: skip
    """A check that fails, with the input that shows it and what runs it again; the point is kept for the report."""
    subject.kept["failed at"] = point
    position = subject.out_paths.index(worst.path)

    def replay(arrays: tuple[np.ndarray, ...]) -> tuple[float, float]:
        with jax.enable_x64(True):
            rest = iter(arrays)
            arguments = [x if _is_key(x) else executables.array(next(rest)) for x in point.inputs]
        inputs = tuple(point.inputs[i] if i in subject.domains else x for i, x in enumerate(arguments))
        got, want = evaluator.clean(inputs)
        return float(got[position][worst.index]), float(want[position][worst.index])

    with jax.enable_x64(True):
        arguments = [subject.domains[i].from_free(x) if i in subject.domains else x for i, x in enumerate(point.inputs)]
    named = tuple((path, np.asarray(x)) for path, x in zip(subject.in_paths, arguments, strict=True)
                  if not _is_key(x))  # fmt: skip
    index = list(worst.index) or ""
    got, want = apart(worst.got, worst.want)
    shows = f"{worst.path}{index} is {got} by hand, {want} by the reference, {where}"
    return Check(name, Outcome.FAILS, shows, evidence, worst, Counterexample(named, worst, replay), seconds)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)
