"""Rounding: both programs in float64 at sampled points, held to what rounding can do; then in their own dtype."""

import time
from typing import Any

import jax
import ml_dtypes
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.points import (
    NONDETERMINISTIC,
    Evaluator,
    Point,
    compared,
    evaluators,
    failure,
    repeats,
    sample,
    untraceable,
    worst_entry,
)
from handprop.verify.report import Check, Outcome, Worst
from handprop.verify.subject import Subject

__all__ = ["bits_lost", "rounding"]

POINTS = 4
POOR = 4.0


def rounding(subject: Subject, options: Options) -> Check:
    """Whether the programs agree in float64 to rounding, and what is lost in their own dtype."""
    start = time.monotonic()
    refuted = None
    for evaluator in evaluators(subject):
        points, worst = _sampled(subject, evaluator, options)
        if worst is None:
            return _agreed(subject, points, time.monotonic() - start)
        refuted = refuted or (evaluator, points[-1], worst)
    if refuted is None:
        return untraceable("rounding")
    if not repeats(*refuted[:2]):
        return Check("rounding", Outcome.UNDECIDED, NONDETERMINISTIC, {}, seconds=time.monotonic() - start)
    return failure("rounding", subject, *refuted, "in float64", time.monotonic() - start)


def _sampled(subject: Subject, evaluator: Evaluator, options: Options) -> tuple[list[Point], Worst | None]:
    """Points until an entry is beyond its bound, there are enough, or time is up."""
    points: list[Point] = []
    for i in range(POINTS):
        if points and options.seconds_left < 0:
            break
        # What a check would have seen is only said where nothing is proved.
        points.append(compared(evaluator, sample(subject, options, i), i, measured=not subject.kept.get("proved")))
        worst = worst_entry(subject, points[-1])
        if worst is not None:
            return points, worst
    return points, None


def _agreed(subject: Subject, points: list[Point], seconds: float) -> Check:
    exercised = {path: [p.want[k] for p in points] for k, path in enumerate(subject.out_paths)}
    idle = tuple(path for (path, wants), gradient in zip(exercised.items(), subject.gradients, strict=True)
                 if gradient and not any(((w != 0) & np.isfinite(w)).any() for w in wants))  # fmt: skip
    proved = subject.kept.get("proved")
    power = {} if proved else {p: _power(points, k) for k, p in enumerate(subject.out_paths) if p not in idle}
    lost = _own_dtype(subject, points[0])
    words = [f"{dtype} loses {bits:.0f} bits in {path}" for path, (dtype, bits, _) in lost.items() if bits >= POOR]
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
        if not np.isfinite(scale) or scale == 0 or not jaxprs.is_float(g.dtype):
            continue
        bits = [bits_lost(np.asarray(x, np.float64), exact, g.dtype) for x in (g, w)]
        lost[path] = (str(g.dtype), *bits)
    return lost


def bits_lost(x: np.ndarray, exact: np.ndarray, dtype: Any) -> float:
    """The largest error, in bits of the dtype and relative to the largest entry; all of them where an entry of ``x``
    is not finite and should be."""
    scale = np.abs(exact).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(x) | ~np.isfinite(exact), np.abs(x - exact), scale)
    unit = float(ml_dtypes.finfo(dtype).eps) * scale
    return float(np.log2(max(error[np.isfinite(error)].max(initial=0.0) / unit, 1.0)))
