"""The proof: both programs evaluated over finite fields at random points.

Theorem (Schwartz 1980, Zippel 1979; with random functions for transcendental ones, Gulwani and Necula 2004). Let two
programs differ as rational functions of their inputs and of oracle values, the difference's numerator of degree D,
its coefficients' sizes summing to at most 2^H. They agree at a random point of GF(p), p a random prime, with
probability at most ``e = D / p + H / 49 / 2^32``: the second term is p dividing every coefficient.

Two arguments of an oracle that differ, of degree ``D_a`` and size ``2^H_a``, are equal with probability at most
``e_a`` alike, and programs may then agree by accident. Which of the m arguments are equal to which is compared
between runs: an accident that goes unseen is the same in each of R of them, so a proof is false with probability at
most ``e^R + m (m - 1) / 2 e_a^R``. Where truth values are decided, runs need not agree in that: there it is
``(e + m (m - 1) / 2 e_a)^R``, a run that meets only some patterns of truths counted as such.

A root doubles degrees and sizes through its norm, if the roots are independent, which the runs show.
"""

import math
import time
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.branches import decision_bits
from handprop.verify.field.algebra import Run, Unsupported
from handprop.verify.field.arithmetic import Field, draw_prime
from handprop.verify.field.interpreter import evaluate
from handprop.verify.field.truth import Thing, as_value
from handprop.verify.field.values import VARIABLE, Degree, Value
from handprop.verify.options import Options
from handprop.verify.report import Check, Outcome
from handprop.verify.subject import Subject

__all__ = ["proof"]

READINGS = ((False, False), (True, False), (False, True), (True, True))
MOST_THRESHOLDS = 15
MOST_ROOTS = 30
MOST_RUNS = 4096
SPARE_RUNS = 24
RESTARTS = 4


class Trial(NamedTuple):
    """One run: the first output that differs (None where all agree), the run's tallies, the chance that programs which
    differ agree in it, that two arguments of an oracle do, and which arguments were equal (None: not compared)."""

    differs: int | None
    run: Run
    chance: float
    accident: float
    partition: bytes | None


def proof(subject: Subject, options: Options) -> Check:
    """Whether both programs are the same function over the reals, at these shapes."""
    start = time.monotonic()
    reference, hand = (jaxprs.trace(f, subject.inputs) for f in (subject.reference, subject.hand))
    rng = options.rng(3)
    reasons: dict[str, None] = {}
    for rational, branching in READINGS:
        trials: list[Trial] = []
        try:
            trials = _trials(subject, reference, hand, rng, rational, branching, options)
        except Unsupported as reason:
            reasons[str(reason)] = None
            continue
        if trials[-1].differs is None:
            return _agreed(trials, branching, options, time.monotonic() - start)
        lacks = ", ".join(sorted(trials[-1].run.uninterpreted)) or "no relation that the field knows makes them equal"
        reasons[f"{subject.out_paths[trials[-1].differs]}: {lacks}"] = None
    shows = f"not equal in this theory: {'; '.join(reasons)}"
    return Check("proof", Outcome.UNDECIDED, shows, {}, seconds=time.monotonic() - start)


def _trials(subject: Subject, reference: Any, hand: Any, rng, rational: bool, branching: bool, options: Options):
    """Runs until the bound is reached, one of them differs, or time is up; anew where an accident is seen, or a number
    that unknowns are compared with and that was not reckoned with."""
    thresholds = (0.0,) if branching else None
    for _ in range(RESTARTS):
        trials: list[Trial] = []
        while not _enough(trials, options.bits):
            trials.append(_trial(subject, reference, hand, rng, rational, thresholds))
            last = trials[-1]
            if thresholds is not None and not last.run.compared <= set(thresholds):
                thresholds = _with(thresholds, last.run.compared)
                break
            if last.partition != trials[0].partition:
                break
            limit = MOST_RUNS if _log2_false(trials) > -options.bits else len(last.run.characters) + SPARE_RUNS
            if last.differs is not None or options.seconds_left < 0 or len(trials) >= limit or last.chance >= 1:
                return trials
        else:
            return trials
    raise Unsupported("what is compared, or equal, differs from run to run")


def _with(thresholds: tuple[float, ...], compared: set[float]) -> tuple[float, ...]:
    """All of them and their negatives, in order."""
    found = {t for number in {*thresholds, *compared} for t in (number, -number)}
    if len(found) > MOST_THRESHOLDS:
        raise Unsupported(f"unknowns that are compared with {len(found)} numbers")
    return tuple(sorted({0.0 if t == 0 else t for t in found}))


def _enough(trials: list[Trial], bits: int) -> bool:
    return len(trials) >= 2 and _log2_false(trials) <= -bits and _independent(trials)


def _log2_false(trials: list[Trial]) -> float:
    """log2 of the bound for a false proof over all runs; 0 where they bound nothing."""
    calls = max(trial.run.calls for trial in trials)
    pairs = max(math.log2(calls * (calls - 1) / 2), 0.0) if calls > 1 else -math.inf
    chances, accidents = (np.array([getattr(t, name) for t in trials]) for name in ("chance", "accident"))
    if trials[0].partition is None:
        each = np.minimum(chances + accidents * 2.0**pairs, 1.0)
        return float(np.log2(each).sum())
    terms = np.array([np.log2(chances).sum(), pairs + np.log2(accidents).sum()])
    return min(float(np.logaddexp2(*terms)) + math.log2(RESTARTS), 0.0)


def _independent(trials: list[Trial]) -> bool:
    """Whether no product of the roots' arguments is a square, without which the norm bounds nothing.

    Were one a square, as a polynomial, its factors' characters would sum to 0 in every run: the characters, one row a
    run, would not have full rank over GF(2). So full rank proves it.
    """
    rows = [t.run.characters for t in trials]
    columns = [(sum(int(row[i][0]) << k for k, row in enumerate(rows)), known) for i, (_, known) in enumerate(rows[-1])]
    basis: list[int] = []
    for column, known in columns:
        if known and not column:  # such as 2, a square modulo every prime drawn: it takes part in no product
            continue
        for vector in basis:
            column = min(column, column ^ vector)
        if not column:
            return False
        basis.append(column)
    return True


def _trial(subject: Subject, reference: Any, hand: Any, rng, rational: bool,
           thresholds: tuple[float, ...] | None) -> Trial:  # fmt: skip
    run = Run(Field(draw_prime(rng)), int(rng.integers(2**62)), rational, thresholds)
    inputs = [_drawn(run, x, rng) for x in subject.inputs]
    want = evaluate(run, reference, list(inputs))
    got = evaluate(run, hand, list(inputs))
    pairs = [(as_value(run, a), as_value(run, b)) for a, b in zip(want, got, strict=True) if _comparable(a, b)]
    differs = next((i for i, (a, b) in enumerate(pairs) if not _same(run, a, b)), None)
    degree = reduce(Degree.worst, (a.degree + b.degree for a, b in pairs), Degree())
    chance, decided = _vanishing(run, degree), run.branching and run.coins > 0
    if decided:
        chance = min(1.0, 1 - 2.0 ** -_decision_bits(run, reference, hand) + chance)
    return Trial(
        differs, run, chance, _vanishing(run, run.argument + run.argument), None if decided else run.partition()
    )


def _drawn(run: Run, x: Any, rng: np.random.Generator) -> Thing:
    if not jnp.issubdtype(x.dtype, np.floating):
        return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else np.asarray(x)
    return Value(run.field.draw(rng, x.shape), VARIABLE)


def _comparable(a: Thing, b: Thing) -> bool:
    return isinstance(a, Value | np.ndarray) and isinstance(b, Value | np.ndarray)


def _same(run: Run, a: Value, b: Value) -> bool:
    infinities = [np.zeros(v.shape, np.int8) if v.infinite is None else v.infinite for v in (a, b)]
    equal = run.field.is_zero(run.field.sub(a.x, b.x)) | (infinities[0] != 0)
    return bool(equal.all()) and bool((infinities[0] == infinities[1]).all())


def _vanishing(run: Run, degree: Degree) -> float:
    """The probability that a function of that degree which is not zero is zero in this run."""
    if run.roots > MOST_ROOTS:
        return 1.0
    norms = 2.0**run.roots
    return min(1.0, norms * (max(degree.over, 1) / run.field.p + (degree.bits + 1) / 49 / 2**32))


def _decision_bits(run: Run, *programs: Any) -> float:
    assert run.thresholds is not None
    interval = math.log2(len(run.thresholds) + 1)
    return max((bits for program in programs for bits in decision_bits(program, interval)), default=0.0)


def _agreed(trials: list[Trial], branching: bool, options: Options, seconds: float) -> Check:
    total = _log2_false(trials)
    last = trials[-1].run
    evidence = {
        "bits": round(-total, 1),
        "runs": len(trials),
        "primes": tuple(trial.run.field.p for trial in trials[:8]),
        "oracle_calls": max(trial.run.calls for trial in trials),
        "roots": last.roots,
        "truths": last.coins,
        "patterns": len(trials) if branching and last.coins else 0,
        "assumptions": (*sorted(last.readings), *sorted(last.assumptions)),
        "uninterpreted": tuple(sorted(last.uninterpreted)),
    }
    if _enough(trials, options.bits):
        shows = f"the same function over the reals, at these shapes; chance of a false proof at most 2^-{int(-total)}"
        return Check("proof", Outcome.PROVES, shows, evidence, seconds=seconds)
    why = "the seconds left"
    if branching and last.coins:
        why = f"{last.coins} truth values"
    elif last.characters:
        why = f"{last.roots} roots" if _independent(trials) or trials[-1].chance >= 1 else "roots that may be related"
    shows = f"equal in {len(trials)} runs, but {why} leave the chance of a false proof above 2^-{options.bits}"
    return Check("proof", Outcome.UNDECIDED, shows, evidence, seconds=seconds)
