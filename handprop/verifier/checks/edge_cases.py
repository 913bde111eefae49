"""Edge cases in float64: zeros, ties, saturation, large and small numbers, infinities.

A difference at an edge case is judged like one at any other point (:mod:`handprop.verifier.checks.differences`). The
rule is wrong where the function has one slope and the rule returns another, or none. It is only a finding where the
rule returns another subgradient, where autodiff is wrong, and where numbers leave float64's range. At the largest and
the smallest numbers, only results that are not finite are noted. At zeros and ties both programs may agree and be
wrong together, so there the reference is compared with its own limits nearby.

Where arguments lie in domains, the numbers of an edge case are those of the free parameters, and arguments that leave
the domain by rounding are left out. Corners of the domain, where one free parameter stands out, are added.

No derivative exists at infinities, so there the function's own values count. The rule is wrong if the reference's value
is a number or an infinity, the same for finite entries nearby, and the rule's value is a different one. Excepted is a
value that both programs tend to, or that the rule also has at large numbers because of rounding, ties or overflow. NaN
on either side is noted at most, because arithmetic on infinities depends on how a formula is written.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from handprop.verifier.along_domains import reached
from handprop.verifier.checks.differences import Difference, Meaning, failed, meaning_of
from handprop.verifier.checks.edge_inputs import CORNERS, EDGE_CASES, WITH_ZEROS, EdgeCase, between, is_set_to_zero
from handprop.verifier.checks.evaluators import Evaluator, as_users, calls_back, evaluators, is_compiled, untraceable
from handprop.verifier.checks.flipped_comparisons import flipped
from handprop.verifier.checks.kinks import ruling_of_a_value
from handprop.verifier.checks.overflow import RangeExit, run_of
from handprop.verifier.checks.sampling import Point, compared, failure, sample, worst_at, worst_entry
from handprop.verifier.checks.shared_with_autodiff import agreed_and_wrong
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.executables import array
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.report.values import Check, Outcome, Worst

__all__ = ["edge_cases"]

CROSSED = "inputs where one comparison falls another way"
RANDOM = range(10, 110)
ROUGHLY = 1e-9
MAX_EXCUSED = 8  # inputs of one kind at which programs differ without a mistake; each takes half a second
FAR = 1e100
JUMPS = "the reference jumps there: {} by hand is the value that both tend to"
ABSORBED = "{} by hand is a different value, as it is at large numbers, where rounding decides"
MANY_ENTRIES = 1 << 17
FOR_LARGE = ("zeros", "equal entries", "inputs whose entries are all 40 or -40", "the largest numbers")
FINITENESS_ONLY = ("the largest numbers", "denormal numbers")
SPECIAL = (*WITH_ZEROS, "equal entries")
MAX_INFINITE = 3
SMALL_TYPE = 1e6  # dtypes whose largest number is below this have few bits


class Seen:
    """What was met so far.

    The edge cases tried; by path and edge case, the entries that were not finite, were another subgradient, were not a
    subgradient, or could not be decided; the edge cases left out; and the findings.
    """

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.lost: list[str] = []
        self.kinks: list[str] = []
        self.none: list[str] = []
        self.unknown: list[str] = []
        self.left_out: dict[str, str] = {}
        self.said: dict[str, list[str]] = {}
        self.noted: set[str] = set()
        self.ranges = False

    def note(self, places: list[str], path: str, name: str) -> None:
        places.append(f"{path} at {name}")
        self.noted.add(name)

    def found(self, text: str, name: str) -> None:
        names = self.said.setdefault(text, [])
        names.extend([name] * (name not in names))

    @property
    def findings(self) -> tuple[str, ...]:
        """Each finding once, with all edge cases at which it was made."""
        return tuple(f"at {', '.join(names)} {text}" for text, names in self.said.items())


def edge_cases(problem: Problem, options: Options) -> Check:
    """Check that the rule is right, and finite where the function is smooth, at inputs that samples do not reach."""
    start = time.monotonic()
    found = list(evaluators(problem))
    if not found:
        return untraceable("edge_cases", problem)
    seen = Seen()
    large = max((math.prod(x.shape) for x in problem.inputs), default=0) > MANY_ENTRIES
    given = None if large else compared(found[0], sample(problem, options, 0), 0)
    if given is not None and worst_entry(problem, given) is None and not given.raised:
        check = _both_wrong(problem, found[0], given, options, seen, "the given input", start)
        if check is not None:
            return check
    cases = {**EDGE_CASES, **between(problem), **(CORNERS if problem.domains else {})}
    for i, (name, case) in enumerate(cases.items()):
        if options.seconds_left < 0:
            break
        if large and name not in FOR_LARGE:
            continue
        said = name.replace("inputs whose entries are", "free parameters that are") if problem.domains else name
        check = _tried(problem, found, options, seen, said, _hard(problem, options, case, i), 200 + i, start)
        if check is not None:
            return check
    for look in () if large else (_at_flipped_comparisons, _at_infinities):
        if (check := look(problem, found, options, seen, start)) is not None:
            return check
    return _noted(seen, time.monotonic() - start)


def _at_flipped_comparisons(problem: Problem, found: Sequence[Evaluator], options: Options, seen: Seen,
                  start: float) -> Check | None:  # fmt: skip
    """Try inputs beside the given one, each on the other side of one comparison, and many random inputs.

    A proof holds there too, so proved programs are not tried; neither are programs that call back, which may take long.
    """
    if problem.shared.proved or calls_back(problem) or not is_compiled(problem):
        return None
    many = (sample(problem, options, i) for i in RANDOM)
    for name, rare in ((CROSSED, flipped(problem, options)), ("a random input", many)):
        excused = 0
        for n, inputs in enumerate(rare):
            if options.seconds_left < 0:
                return None
            if excused == MAX_EXCUSED:
                break
            if n == 0:
                seen.tried.append(name)
            got, want = found[0].clean(inputs)
            if all(np.allclose(g, w, ROUGHLY, 0.0, equal_nan=True) for g, w in zip(got, want, strict=True)):
                continue
            check = _tried(problem, found, options, seen, name, inputs, 260 + n, start)
            if check is not None:
                return check
            excused += 1
    return None


def _tried(problem: Problem, found: Sequence[Evaluator], options: Options, seen: Seen, name: str,
           inputs: tuple[Any, ...], seed: int, start: float) -> Check | None:  # fmt: skip
    """Try one edge case; return the failed check if it refutes."""
    if not reached(problem, inputs):
        inputs = _elsewhere_as_given(problem, inputs)
        if not reached(problem, inputs):
            return None
    if name not in seen.tried:
        seen.tried.append(name)
    points = [_looked_at(evaluator, inputs, seed, name) for evaluator in found]
    if points[0].raised:
        seen.left_out[name] = points[0].raised.split(":")[0]
        seen.found(f"{points[0].raised}; the input was left out", name)
        return None
    worsts = [worst_entry(problem, point) for point in points]
    if any(worst is None for worst in worsts):
        return _both_wrong(problem, found[0], points[0], options, seen, name, start) if name in SPECIAL else None
    worst = worsts[0]
    assert worst is not None
    if not np.isfinite(worst.got):
        seen.note(seen.lost, worst.path, name)
    if name in FINITENESS_ONLY:
        return None
    difference = meaning_of(problem, found, points, options)
    assert difference is not None
    if difference.kind is Meaning.CONSTANTS:  # the rounding check reports it at usual inputs
        return None
    if difference.kind is Meaning.WRONG and not _excused(problem, difference, name):
        return failed("edge_cases", problem, difference, f"at {name}", start)
    if difference.no_subgradient:
        seen.note(seen.none, worst.path, name)
    elif difference.kind is Meaning.UNKNOWN:
        seen.note(seen.unknown, worst.path, name)
    elif np.isfinite(worst.got) and difference.kind in (Meaning.WRONG, Meaning.KINK, Meaning.JUMP):
        seen.note(seen.kinks, worst.path, name)
    if difference.kind is not Meaning.RANGE or not seen.ranges:  # larger inputs leave the range in the same way
        what = f"{worst.path} by hand is " + ("not a subgradient: " if difference.no_subgradient else "not finite")
        seen.found(what + difference.said if difference.no_subgradient else difference.said or what, name)
    seen.ranges |= difference.kind is Meaning.RANGE
    return None


def _elsewhere_as_given(problem: Problem, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give arguments in domains their given values, because the numbers of the edge case leave the domain."""
    with jax.enable_x64(True):
        given = [jaxprs.widened(problem.inputs[i]) for i in problem.domains]
    return tuple(jaxprs.with_replaced(inputs, list(problem.domains), given))


def _excused(problem: Problem, difference: Difference, name: str) -> bool:
    """Whether the rule need not be right here.

    It need not where ties of a maximum, which the user did not give, each get its whole slope, or where autodiff has no
    subgradient either and is no nearer to one. A rule without an answer is excused where an input that is positive as
    given was set to zero, where the rule factorizes a matrix, which is singular at many of these inputs, and where it
    sums a series that is cut off at large ones. A wrong answer is never excused, because it is wrong at their limit
    too.
    """
    if difference.no_subgradient:
        return True
    if np.isfinite(difference.worst.got):
        return False
    if any(has(eqn, Trait.SINGULAR, Trait.SERIES) for eqn in jaxprs.equations(as_users(problem)[0])):
        return True
    return is_set_to_zero(problem, name)


def _both_wrong(problem: Problem, evaluator: Evaluator, point: Point, options: Options, seen: Seen, name: str,
                start: float) -> Check | None:  # fmt: skip
    """Return the failed check where the rule shares an answer of autodiff's that the function does not have.

    No check fails if the rule is the very program that autodiff is.
    """
    shared = agreed_and_wrong(problem, evaluator, point, options)
    if shared is None:
        return None
    said, worst = shared
    seen.found(said, name)
    if problem.shared.identical or (is_set_to_zero(problem, name) and not np.isfinite(worst.got)):
        return None
    where = f"at {name}: autodiff has it too, but the function's own values have the other slope"
    return failure("edge_cases", problem, evaluator, point, worst, where, time.monotonic() - start,
                   findings=seen.findings)  # fmt: skip


def _noted(seen: Seen, seconds: float) -> Check:
    noted = seen.noted | set(seen.left_out)
    summary = f"right at {len(seen.tried) - len(noted)} kinds of edge cases"
    if seen.lost:
        summary += f"; not finite where autodiff is: {', '.join(seen.lost)}"
    if seen.kinks:
        summary += f"; a different one-sided derivative: {', '.join(seen.kinks)}"
    if seen.none:
        summary += f"; not a subgradient: {', '.join(seen.none)}"
    if seen.unknown:
        summary += f"; undecided: {', '.join(seen.unknown)}"
    if seen.left_out:
        summary += f"; left out: {', '.join(f'{name} ({why})' for name, why in seen.left_out.items())}"
    evidence = {"tried": tuple(seen.tried), "not_finite": tuple(seen.lost), "kinks": tuple(seen.kinks),
                "findings": seen.findings}  # fmt: skip
    return Check("edge_cases", Outcome.NOTES if noted else Outcome.HOLDS, summary, evidence, seconds=seconds)


def _hard(problem: Problem, options: Options, case: EdgeCase, i: int) -> tuple[Any, ...]:
    """Return the user's inputs replaced by those of the edge case; cotangents are random."""
    rng = options.rng(Stream.EDGE_CASES, i)

    def replaced(j: int, x: Any) -> Any:
        if not jaxprs.is_float(x.dtype):
            return x
        wide = np.asarray(x, np.float64)
        if j in problem.cotangents:
            return array(rng.normal(size=wide.shape))
        hard = _held(case(wide, rng), x.dtype)
        return array(np.where(np.isfinite(wide), hard, wide))

    with jax.enable_x64(True):
        return tuple(replaced(j, x) for j, x in enumerate(problem.inputs))


def _held(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Round the numbers to a dtype of few bits, since arguments of that dtype hold no others."""
    most = float(ml_dtypes.finfo(dtype).max)
    return np.asarray(np.clip(x, -most, most).astype(dtype), np.float64) if most < SMALL_TYPE else x


def _looked_at(evaluator: Evaluator, inputs: tuple[Any, ...], seed: int, name: str) -> Point:
    """Compare the programs; where only finiteness counts, no finite entry is beyond its bound."""
    if name not in FINITENESS_ONLY:
        return compared(evaluator, inputs, seed)
    got, want = evaluator.clean(inputs)
    return Point(inputs, got, want, [np.where(np.isfinite(w), np.finfo(np.float64).max, np.inf) for w in want])


def _at_infinities(problem: Problem, found: Sequence[Evaluator], options: Options, seen: Seen,
                   start: float) -> Check | None:  # fmt: skip
    """Try infinities in one argument at a time; return the failed check if a value differs from the reference's."""
    for name, inputs in _infinite(problem):
        if options.seconds_left < 0:
            break
        if not reached(problem, inputs):
            continue
        points = [compared(evaluator, inputs, 230) for evaluator in found]
        if points[0].raised:
            continue
        seen.tried.append(name)
        worsts = [_another_value(problem, point) for point in points]
        if all(worst is not None for worst in worsts) and not _lost_on_the_way(problem, found[0], points[0]):
            assert worsts[0] is not None
            jump = ruling_of_a_value(problem, found[0], points[0], worsts[0], options)
            said = jump.said or _at_large_numbers(problem, found, points[0], worsts[0], options)
            if said is not None:
                seen.found(said, name)
                continue
            seconds, findings = time.monotonic() - start, seen.findings
            return failure(
                "edge_cases", problem, found[0], points[0], worsts[0], f"at {name}", seconds, findings=findings
            )
    return None


def _at_large_numbers(problem: Problem, found: Sequence[Evaluator], point: Point, worst: Worst,
                      options: Options) -> str | None:  # fmt: skip
    """Say what large numbers in place of the infinities show; None if the program by hand is wrong.

    At large numbers both programs may have the value that the one by hand has at infinity: JAX's own
    ``logaddexp(inf, y)`` has a slope in y that it has for no number. Or only the one by hand has it and is not wrong,
    because there rounding decides, numbers tie, or they leave the range.
    """
    inputs, output = _made_finite(point.inputs), problem.out_paths.index(worst.path)
    points = [compared(evaluator, inputs, 231) for evaluator in found]
    got, want = (outputs[output][worst.index] for outputs in (points[0].got, points[0].want))
    if np.allclose([got, want], worst.got, ROUGHLY, ROUGHLY):
        return JUMPS.format(worst.path)
    if points[0].raised or got != worst.got:
        return None
    difference = meaning_of(problem, found, points, options)
    if difference is not None and difference.kind not in (Meaning.WRONG, Meaning.UNKNOWN):
        return difference.said
    absorbed = difference is None or problem.shared.proved
    return ABSORBED.format(worst.path) if absorbed else None


def _made_finite(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Replace infinities by large numbers."""

    def finite(x: Any) -> Any:
        return array(np.where(np.isinf(x), np.copysign(FAR, x), x)) if jaxprs.is_float(x.dtype) else x

    with jax.enable_x64(True):
        return tuple(map(finite, inputs))


def _lost_on_the_way(problem: Problem, evaluator: Evaluator, point: Point) -> bool:
    """Whether numbers are computed from something that is not a number.

    That happens with a matrix that has an infinite entry, with a NaN that decides, and where the reference makes NaN. A
    rule that puts a number in NaN's place itself is to blame for what it returns.
    """
    programs = as_users(problem)
    if any(has(eqn, Trait.SINGULAR) for eqn in jaxprs.equations(programs[0])):
        return True
    values = [not gradient for gradient in problem.gradients]
    steps = [run_of(jaxprs.pruned(program, values), evaluator.arguments(point.inputs)) for program in programs]
    decides = any(has(step.eqn, Trait.ORDER, Trait.RANKS) and any(np.isnan(x).any() for x in step.operands)
                  for step in itertools.chain(*steps))  # fmt: skip
    return decides or any(step.how is RangeExit.NAN for step in steps[1])


def _infinite(problem: Problem) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield inputs with infinities in one of the first arguments.

    They have one entry, a row or all entries at minus infinity, or one entry at plus infinity.
    """
    places = problem.moving
    with jax.enable_x64(True):
        wide = [jaxprs.widened(x) for x in problem.inputs]
        for i in places[:MAX_INFINITE]:
            x = np.asarray(wide[i])
            if not x.size:
                continue
            one, row = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
            one[np.unravel_index(x.size // 2, x.shape)] = True
            row[tuple([0] * (x.ndim - 1))] = True
            ways = {"plus infinity": (one, np.inf)}
            if not (x > 0).all():
                ways |= {"minus infinity": (one, -np.inf), "a row of minus infinity": (row, -np.inf)}
            if x.ndim > 1 and not (x > 0).all():
                ways["nothing but minus infinity"] = np.ones(x.shape, bool), -np.inf
            for name, (mask, number) in ways.items():
                changed = array(np.where(mask, number, x))
                yield f"{name} in {problem.in_paths[i]}", tuple(jaxprs.with_replaced(wide, [i], [changed]))


def _another_value(problem: Problem, point: Point) -> Worst | None:
    """Return the first of the function's values, not gradients, that differs and is a number in both programs."""
    for k, gradient in enumerate(problem.gradients):
        if gradient:
            continue
        got, want = point.got[k], point.want[k]
        with np.errstate(all="ignore"):
            infinite = np.isinf(got) | np.isinf(want)
            other = np.where(infinite, got != want, np.abs(got - want) > point.bound[k])
        off = other & ~np.isnan(got) & ~np.isnan(want)
        if off.any():
            return worst_at(problem, point, k, tuple(np.argwhere(off)[0]))
    return None
