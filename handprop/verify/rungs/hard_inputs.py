"""Hard inputs in float64: zeros, ties, saturation, large and small numbers.

A difference there counts against the rule where the reference's gradient is continuous: at ``x + h v``, for random v
and small h, it stays within a quarter of the difference. At a kink or a tie it does not, and there every subgradient
is right: relu'(0) may be 0, 1 or 1/2. Where the reference is finite and the rule is not, the mathematics may be right
and the arithmetic is poor: that is noted, no more.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.options import Options
from handprop.verify.points import Evaluator, Point, compared, evaluators, failure, is_defined, untraceable, worst_entry
from handprop.verify.report import Check, Outcome, Worst
from handprop.verify.subject import Subject

__all__ = ["hard_inputs"]

NEIGHBOURS = 8
NEAR = 2.0**-20
Pattern = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _signs(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2.0 * rng.integers(2, size=x.shape) - 1.0


PATTERNS: dict[str, Pattern] = {
    "zeros": lambda x, rng: np.zeros_like(x),
    "equal entries": lambda x, rng: np.full_like(x, 0.7),
    "40": lambda x, rng: np.full_like(x, 40.0),
    "-40": lambda x, rng: np.full_like(x, -40.0),
    "40 of both signs": lambda x, rng: 40.0 * _signs(x, rng),
    "one zero among others": lambda x, rng: np.where(np.arange(x.size).reshape(x.shape) == x.size // 2, 0.0, x),
    "millions of both signs": lambda x, rng: 1e6 * _signs(x, rng) * rng.uniform(1, 2, x.shape),
    "millionths": lambda x, rng: 1e-6 * rng.normal(size=x.shape),
    "the largest numbers": lambda x, rng: 1e150 * _signs(x, rng),
    "denormal numbers": lambda x, rng: 1e-310 * _signs(x, rng),
}
MANY_ENTRIES = 1 << 17
FOR_LARGE = ("zeros", "equal entries", "40 of both signs", "the largest numbers")
FINITENESS_ONLY = ("the largest numbers", "denormal numbers")


def hard_inputs(subject: Subject, options: Options) -> Check:
    """Whether the rule is right, and finite where the reference is, at inputs that samples do not reach."""
    start = time.monotonic()
    found = list(evaluators(subject))
    if not found:
        return untraceable("hard inputs")
    tried, kinks, lost = [], [], []
    large = max((math.prod(x.shape) for x in subject.inputs), default=0) > MANY_ENTRIES
    for i, (name, pattern) in enumerate(PATTERNS.items()):
        if options.seconds_left < 0:
            break
        if large and name not in FOR_LARGE:
            continue
        tried.append(name)
        inputs = _hard(subject, options, pattern, i)
        points = [_looked_at(evaluator, inputs, 200 + i, name) for evaluator in found]
        worsts = [worst_entry(subject, point) for point in points]
        if any(worst is None for worst in worsts):
            continue
        evaluator, point, worst = found[0], points[0], worsts[0]
        assert worst is not None
        if not np.isfinite(worst.got):
            lost.append(f"{worst.path} at {name}")
            finite = _finite_part(point)
            worst = worst_entry(subject, finite)
            if worst is None:
                continue
        if name in FINITENESS_ONLY:
            continue
        if _is_continuous(subject, evaluator, point, worst, options):
            return failure("hard inputs", subject, evaluator, point, worst, f"at {name}", time.monotonic() - start)
        kinks.append(f"{worst.path} at {name}")
    return _noted(tried, kinks, lost, time.monotonic() - start)


def _noted(tried: list[str], kinks: list[str], lost: list[str], seconds: float) -> Check:
    noted = {place.split(" at ", 1)[1] for place in (*lost, *kinks)}
    shows = f"right at {len(tried) - len(noted)} kinds of hard inputs"
    if lost:
        shows += f"; not finite, where autodiff is: {', '.join(lost)}"
    if kinks:
        shows += f"; another one-sided derivative: {', '.join(kinks)}"
    evidence = {"tried": tuple(tried), "not_finite": tuple(lost), "kinks": tuple(kinks)}
    return Check("hard inputs", Outcome.NOTES if lost or kinks else Outcome.HOLDS, shows, evidence, seconds=seconds)


def _hard(subject: Subject, options: Options, pattern: Pattern, i: int) -> tuple[Any, ...]:
    """The user's inputs with the pattern in their place; cotangents are random."""
    rng = options.rng(7, i)

    def replaced(j: int, x: Any) -> Any:
        if not jaxprs.is_float(x.dtype):
            return x
        wide = np.asarray(x, np.float64)
        if j in subject.cotangents:
            return jnp.asarray(rng.normal(size=wide.shape))
        hard = pattern(wide, rng)
        return jnp.asarray(np.where(np.isfinite(wide), hard, wide))

    with jax.enable_x64(True):
        return tuple(replaced(j, x) for j, x in enumerate(subject.inputs))


def _looked_at(evaluator: Evaluator, inputs: tuple[Any, ...], seed: int, name: str) -> Point:
    """Where only finiteness counts, nothing finite is beyond any bound."""
    if name not in FINITENESS_ONLY:
        return compared(evaluator, inputs, seed)
    got, want = evaluator.clean(inputs)
    return Point(inputs, got, want, [np.where(np.isfinite(w), np.finfo(np.float64).max, np.inf) for w in want])


def _finite_part(point: Point) -> Point:
    got = [np.where(np.isfinite(g), g, w) for g, w in zip(point.got, point.want, strict=True)]
    return point._replace(got=got)


def _is_continuous(subject: Subject, evaluator: Evaluator, point: Point, worst: Worst, options: Options) -> bool:
    """Whether the reference's leaf changes by less than a quarter of the difference anywhere near."""
    if not is_defined(subject, point):
        return False
    leaf, gap = subject.out_paths.index(worst.path), abs(worst.got - worst.want)
    for n in range(NEIGHBOURS):
        rng = options.rng(8, n)
        with jax.enable_x64(True):
            near = tuple(
                jnp.asarray(x + NEAR * (1 + jnp.abs(x)) * rng.normal(size=x.shape))
                if jaxprs.is_float(x.dtype) and j not in subject.cotangents else x
                for j, x in enumerate(point.inputs)
            )  # fmt: skip
        want = evaluator.clean(near)[1][leaf]
        with np.errstate(all="ignore"):
            change = np.abs(want - point.want[leaf])
        if not np.isfinite(change).all() or change.max(initial=0.0) >= gap / 4:
            return False
    return True
