"""Rounding: both programs in float64 at sampled points, held to what rounding can do; then in their own dtype.

The bound is measured, not tuned: each program runs again with every float that a primitive which rounds returns
multiplied by ``1 + eta u``, u uniform in [-1, 1] and ``eta = (64 + K) 2^-52``, K the longest sum. That is the
error analysis of one run of the program with a unit roundoff at least 64 times the real one (a sum of K terms
rounds to within ``K 2^-53`` of its terms' size). An entry where the two programs differ by more than ``8`` times
the largest change seen in ``DRAWS`` such runs of each, plus ``4 eta`` of itself, differs by more than rounding can
explain.
Source: Monte Carlo arithmetic, Parker (1997).
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.report import Check, Counterexample, Outcome, Worst
from handprop.verify.subject import Subject

__all__ = ["rounding"]

DRAWS = 3
POINTS = 4
SAFETY = 8.0
ROUNDINGS = 64


class Point(NamedTuple):
    """What one input gave: outputs by hand and by the reference in float64, and each entry's bound."""

    inputs: tuple[Any, ...]
    got: list[np.ndarray]
    want: list[np.ndarray]
    bound: list[np.ndarray]


def rounding(subject: Subject, options: Options) -> Check:
    """Whether the programs agree in float64 to rounding, and what is lost in their own dtype."""
    start = time.monotonic()
    if not subject.out_paths:
        return Check("rounding", Outcome.UNDECIDED, "there is no output of a floating dtype to compare", {})
    with jax.enable_x64(True):
        refuted = None
        for inputs in _traced_with(subject):
            try:
                run = _compiled(subject, inputs)
            except (TypeError, ValueError):
                continue
            points, worst = _sampled(subject, run, options)
            if worst is None:
                return _agreed(subject, points, time.monotonic() - start)
            refuted = refuted or (run, points[-1], worst)
        assert refuted is not None
        return _refuted(subject, *refuted, time.monotonic() - start)


def _sampled(subject: Subject, run: Any, options: Options) -> tuple[list[Point], Worst | None]:
    """Points until an entry is beyond its bound, there are enough, or time is up."""
    points: list[Point] = []
    for i in range(POINTS):
        if points and options.seconds_left < 0:
            break
        points.append(_point(run, _inputs(subject, options, i), i))
        worst = _worst(subject, points[-1])
        if worst is not None:
            return points, worst
    return points, None


def _traced_with(subject: Subject) -> list[tuple[Any, ...]]:
    """Inputs to trace with: in float64, where the numbers of a program's text keep their digits, then as they are.

    A number that the text itself makes a float32 is only read as what it was written as in the second. A program is
    refuted when both readings of it are.
    """
    wide = tuple(jaxprs.widened(x) for x in subject.inputs)
    same = all(w.dtype == x.dtype for w, x in zip(wide, subject.inputs, strict=True))
    return [subject.inputs] if same else [wide, subject.inputs]


def _compiled(subject: Subject, inputs: tuple[Any, ...]) -> Any:
    """``run(inputs, noise, seed)``: outputs by hand and by the reference; one compilation."""
    programs = [jaxprs.trace(f, inputs) for f in (subject.hand, subject.reference)]
    sums = max(jaxprs.longest_sum(program) for program in programs)
    eta = (ROUNDINGS + sums) * 2.0**-52
    widened = [jaxprs.widen(program) for program in programs]

    @jax.jit
    def evaluate(inputs: Any, scale: Any, seed: Any) -> Any:
        return [f(inputs, scale * eta, seed + jnp.uint32(i << 16)) for i, f in enumerate(widened)]

    def run(inputs: Any, scale: float, seed: int) -> Any:
        with jax.enable_x64(True):
            return evaluate(inputs, scale, np.uint32(seed))

    return run, eta


def _inputs(subject: Subject, options: Options, i: int) -> tuple[Any, ...]:
    """The user's own inputs first, then normal ones of their scale, cotangents of other signs throughout."""
    if i == 0:
        return tuple(jaxprs.widened(x) for x in subject.inputs)
    rng = options.rng(4, i)

    def moved(x: Any) -> Any:
        if not jaxprs.is_float(x.dtype):
            return x
        wide = np.asarray(x, np.float64)
        scale = np.sqrt(np.mean(wide[np.isfinite(wide)] ** 2)) if np.isfinite(wide).any() else 1.0
        drawn = rng.normal(size=wide.shape) * (scale or 1.0) * (1.0, 1.0, 0.25)[i % 3]
        positive = wide.size and (wide > 0).all()
        return jnp.asarray(np.where(np.isfinite(wide), np.abs(drawn) if positive else drawn, wide))

    return tuple(moved(x) for x in subject.inputs)


def _point(run: Any, inputs: tuple[Any, ...], i: int) -> Point:
    evaluate, eta = run
    got, want = ([np.asarray(x) for x in outputs] for outputs in evaluate(inputs, 0.0, 0))
    change = [np.zeros(x.shape) for x in want]
    for draw in range(DRAWS):
        for clean, rough in zip((got, want), evaluate(inputs, 1.0, 1 + draw + DRAWS * i), strict=True):
            for k, (c, r) in enumerate(zip(clean, rough, strict=True)):
                with np.errstate(invalid="ignore"):
                    change[k] = np.fmax(change[k], np.abs(np.asarray(r) - c))
    bound = [SAFETY * c + 4 * eta * np.abs(w) for c, w in zip(change, want, strict=True)]
    return Point(inputs, got, want, bound)


def _worst(subject: Subject, point: Point) -> Worst | None:
    """The entry furthest beyond its bound, None where none is."""
    found: tuple[float, Worst] | None = None
    for path, got, want, bound in zip(subject.out_paths, point.got, point.want, point.bound, strict=True):
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(got - want)
            lost = np.isfinite(want) & np.isfinite(bound) & ~np.isfinite(got)
            beyond = np.where(lost, np.inf, np.where(np.isfinite(error), error / np.maximum(bound, 5e-324), 0.0))
        if beyond.size and beyond.max() > 1:
            index = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
            with np.errstate(over="ignore"):  # an ulp of 0 is the smallest number there is
                ulps, most = (float(x[index] / np.spacing(max(abs(want[index]), 2.0**-1022))) for x in (error, bound))
            entry = Worst(path, tuple(map(int, index)), float(got[index]), float(want[index]), ulps, most)
            if found is None or beyond.max() > found[0]:
                found = (float(beyond.max()), entry)
    return found[1] if found else None


def _refuted(subject: Subject, run: Any, point: Point, worst: Worst, seconds: float) -> Check:
    evaluate, _ = run
    position = subject.out_paths.index(worst.path)

    def replay(arrays: tuple[np.ndarray, ...]) -> tuple[float, float]:
        with jax.enable_x64(True):
            keys = iter(arrays)
            inputs = tuple(x if _is_key(x) else jnp.asarray(next(keys)) for x in point.inputs)
            got, want = evaluate(inputs, 0.0, 0)
        return float(got[position][worst.index]), float(want[position][worst.index])

    named = tuple(
        (path, np.asarray(x)) for path, x in zip(subject.in_paths, point.inputs, strict=True) if not _is_key(x)
    )
    shows = f"{worst.path}{list(worst.index)} is {worst.got:.9g} by hand, {worst.want:.9g} by the reference, in float64"
    return Check("rounding", Outcome.FAILS, shows, {}, worst, Counterexample(named, worst, replay), seconds)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)


def _agreed(subject: Subject, points: list[Point], seconds: float) -> Check:
    exercised = {path: [p.want[k] for p in points] for k, path in enumerate(subject.out_paths)}
    gradients = subject.gradients or (False,) * len(subject.out_paths)
    idle = tuple(path for (path, wants), gradient in zip(exercised.items(), gradients, strict=True)
                 if gradient and not any(((w != 0) & np.isfinite(w)).any() for w in wants))  # fmt: skip
    power = {path: _power(points, k) for k, path in enumerate(subject.out_paths) if path not in idle}
    lost = _own_dtype(subject, points[0])
    words = [f"{dtype} loses {bits:.0f} bits in {path}" for path, (dtype, bits, _) in lost.items() if bits >= 4]
    shows = f"equal to float64 rounding at {len(points)} points" + (f"; {', '.join(words)}" if words else "")
    evidence = {
        "points": len(points),
        "power": power,
        "unexercised": idle,
        "lost_bits": {path: round(bits, 1) for path, (_, bits, _) in lost.items()},
        "lost_bits_autodiff": {path: round(bits, 1) for path, (_, _, bits) in lost.items()},
        "product_precision": "highest",
    }
    return Check("rounding", Outcome.NOTES if words else Outcome.HOLDS, shows, evidence, seconds=seconds)


def _power(points: list[Point], k: int) -> float:
    """The smallest relative error of the whole leaf that some entry would have shown."""
    smallest = np.inf
    for point in points:
        with np.errstate(all="ignore"):
            ratio = point.bound[k] / np.abs(point.want[k])
        ratio = ratio[np.isfinite(ratio)]
        smallest = min(smallest, ratio.min(initial=np.inf))
    return float(smallest)


def _own_dtype(subject: Subject, point: Point) -> dict[str, tuple[str, float, float]]:
    """By leaf: its dtype and the bits that the hand program and autodiff lose in it, relative to the leaf's largest."""
    with jax.default_matmul_precision("highest"), jax.enable_x64(jaxprs.wide(subject.inputs)):
        got, want = (jax.jit(f)(*subject.inputs) for f in (subject.hand, subject.reference))
    lost = {}
    for path, g, w, exact in zip(subject.out_paths, got, want, point.want, strict=True):
        scale = np.abs(exact).max(initial=0.0)
        if not np.isfinite(scale) or scale == 0:
            continue
        unit = float(ml_dtypes.finfo(g.dtype).eps) * scale
        bits = [_bits(np.asarray(x, np.float64), exact, unit) for x in (g, w)]
        lost[path] = (str(g.dtype), *bits)
    return lost


def _bits(x: np.ndarray, exact: np.ndarray, unit: float) -> float:
    with np.errstate(invalid="ignore"):
        error = np.abs(x - exact)
    error = error[np.isfinite(error)]
    return float(np.log2(max(error.max(initial=0.0) / unit, 1.0)))
