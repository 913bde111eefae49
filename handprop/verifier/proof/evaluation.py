"""Both programs in one random interpretation."""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.arithmetic import Field, draw_prime
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.errors import NeedsBranches, Unsupported
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.steady import steady_steps
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Everywhere, Value
from handprop.verifier.proof.field.work import Work

__all__ = ["Evaluation", "Pair", "Reading", "drawn", "evaluated", "evaluated_at", "new_run", "same"]


class Reading(NamedTuple):
    """``rational``: literals as the simplest numbers that round to them. ``branching``: comparisons are decided.
    ``decided``: where log, sqrt and their like are defined is decided too, and not assumed. ``claiming``: that two
    analytic unknowns are equal nowhere is claimed, and not decided. ``by_signs``: what the signs of its operands decide
    is not drawn; one program's rules may show a sign and the other's, of the same element, may not. It is drawn then,
    and never kept for the other: a sign may hold for this run's decisions alone, and these would not be independent."""

    rational: bool = False
    branching: bool = False
    decided: bool = False
    claiming: bool = True
    by_signs: bool = True


class Pair(NamedTuple):
    """Both programs with their inputs; the numbers that unknowns are compared with, how many points are drawn at once,
    and how many entries are the same function of entries of their own, each a point too. ``sample``: so many of them
    are evaluated, where there are more. ``calls`` of oracles and ``roots``: how many there are at one
    point, where many are drawn at once. ``claim_bits``: of the decisions that one claim rests on.
    """

    reference: Any
    candidate: Any
    inputs: tuple[Any, ...]
    thresholds: tuple[float, ...] | None
    reading: Reading
    work: Work
    lanes: int = 1
    entries: int = 1
    sample: tuple[int, ...] | None = None
    calls: int = 0
    roots: int = 0
    claim_bits: float = 0.0

    @property
    def points(self) -> int:
        """How many points a run stands for."""
        return self.lanes * self.entries


class Evaluation(NamedTuple):
    """One run at ``inputs``: the first output that differs in it, and how large the difference may be."""

    run: Run
    inputs: tuple[Thing, ...]
    differs: int | None
    degree: Bound


def evaluated(pair: Pair, rng: np.random.Generator, decisions: list[np.ndarray] | None = None) -> Evaluation:
    """Both programs in one interpretation; ``decisions`` repeats those of another. Where something is divided by what
    may be zero, what that does not depend on is looked for first."""
    field, seed = Field(draw_prime(rng)), int(rng.integers(2**62))
    run = new_run(pair, field, seed, replayed=None if decisions is None else iter(decisions))
    return evaluated_at(pair, run, tuple(drawn(field, x, rng, run.shape_of(x.shape)) for x in pair.inputs))


def evaluated_at(pair: Pair, run: Run, inputs: tuple[Thing, ...]) -> Evaluation:
    try:
        return _at(pair, run, inputs)
    except NeedsBranches:
        if run.branching:
            raise
        steady = steady_steps(lambda probe: _at(pair, new_run(pair, run.field, run.seed, probe=probe), inputs).run)
        if not any(steady):
            raise
        again = new_run(pair, run.field, run.seed, steady=steady, observer=run.observer, claims=run.claims)
        return _at(pair, again, inputs)


def new_run(pair: Pair, field: Field, seed: int, **others: Any) -> Run:
    reading = pair.reading
    return Run(field, seed, reading.rational, pair.thresholds, sample=pair.sample, decided=reading.decided,
               claiming=reading.claiming, by_signs=reading.by_signs,
               least_bits=_least(pair, "nmant"), least_exponent=_least(pair, "maxexp"), work=pair.work,
               decided_on=[] if pair.points > 1 else None, **others)  # fmt: skip


def _at(pair: Pair, run: Run, inputs: tuple[Thing, ...]) -> Evaluation:
    """Both programs at these inputs."""
    want = evaluate(run, pair.reference, list(inputs))
    got = evaluate(run, pair.candidate, list(inputs))
    if run.masks and any(isinstance(x, Value) and x.special is not None and x.special.any() for x in (*want, *got)):
        raise Unsupported("a number that stands for minus infinity in what is returned")
    differs = next((i for i, (a, b) in enumerate(zip(want, got, strict=True)) if not _same(run, a, b)), None)
    values = [(a, b) for a, b in zip(want, got, strict=True) if isinstance(a, Value) and isinstance(b, Value)]
    return Evaluation(run, inputs, differs, reduce(Bound.worst, (a.degree + b.degree for a, b in values), Bound()))


def _least(pair: Pair, what: str) -> int:
    """Bits, or the largest exponent, of the narrowest float that is given or returned: a cast to fewer is the
    program's own doing."""
    avals = [*(v.aval for v in pair.reference.jaxpr.invars), *pair.reference.out_avals]
    return min((getattr(ml_dtypes.finfo(a.dtype), what) for a in avals if jaxprs.is_float(a.dtype)), default=0)


def _same(run: Run, a: Thing, b: Thing) -> bool:
    if isinstance(a, Value) or isinstance(b, Value):
        return same(run.field, as_value(run, a), as_value(run, b))
    left, right = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.extended) else x for x in (a, b))
    return np.array_equal(np.asarray(left), np.asarray(right))


def drawn(field: Field, x: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> Thing:
    """An input over the field: floats are drawn, in this shape; integers and keys are as they are."""
    if not jaxprs.is_float(x.dtype):
        return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else np.asarray(x)
    return Value(field.draw(rng, shape), VARIABLE, everywhere=Everywhere.ANALYTIC)


def same(field: Field, a: Value, b: Value) -> bool:
    """Whether two arrays are equal, infinities with them."""
    if a.shape != b.shape:
        return False
    specials = [np.zeros(v.shape, np.int8) if v.special is None else v.special for v in (a, b)]
    return bool(field.is_zero(field.sub(a.x, b.x)).all()) and bool((specials[0] == specials[1]).all())
