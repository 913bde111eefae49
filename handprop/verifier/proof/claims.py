"""Claims of runs that two values are equal almost nowhere, tested at real points."""

import math

import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem
from handprop.verifier.proof.batching import batched, largest_array
from handprop.verifier.proof.bound import MISSED_CLAIMS, decided_alike
from handprop.verifier.proof.evaluation import Pair, drawn_inputs, evaluated_at, new_run
from handprop.verifier.proof.field.arithmetic import Field, draw_prime
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.reals import Reals
from handprop.verifier.proof.field.values import Value

__all__ = ["claims_hold"]

ENTRIES_IN_REALS, MAX_IN_REALS = 1 << 16, 4  # array entries evaluated at once, and how many times at most
MAX_ALONE = 1 << 10  # points that are runs of their own
MAX_CLAIM_BITS = 16.0


def claims_hold(problem: Problem, pair: Pair, rng: np.random.Generator) -> bool:
    """Whether all pairs of values that runs claim to be equal almost nowhere differ at real points.

    Decisions are drawn at each point. There are as many points as it takes for each outcome of the decisions that a
    claim rests on to be met at one of them. Where something is decided that does not depend on the inputs, the points
    of one run share that decision, and so every point is a run of its own.
    """
    if not pair.claim_bits:
        return _tested(_alone(problem, pair), rng)[0]
    at_once = max(ENTRIES_IN_REALS // max(largest_array(pair) // pair.batch, 1), 1)
    wanted = math.ceil(MISSED_CLAIMS * 2.0 ** min(pair.claim_bits, MAX_CLAIM_BITS))
    if wanted > at_once * MAX_IN_REALS:
        raise Unsupported("a comparison that rests on too many decisions")
    try:
        wide = batched(problem, pair, min(at_once, wanted))
    except Exception as error:  # JAX raises errors of many types where it cannot batch a program
        noted(error, "the proof at many points")
        raise Unsupported("a comparison that rests on decisions, in a program that cannot be batched") from error
    for _ in range(math.ceil(wanted / wide.batch)):
        hold, alike = _tested(wide, rng)
        if not hold:
            return False
        if alike and wanted > MAX_ALONE:
            raise Unsupported("a comparison that rests on too many decisions that are the same at all points")
        if alike:
            alone = _alone(problem, pair)
            return all(_tested(alone, rng)[0] for _ in range(wanted))
    return True


def _alone(problem: Problem, pair: Pair) -> Pair:
    """Both programs at one point."""
    return pair if pair.batch == 1 else batched(problem, pair, 1)


def _tested(pair: Pair, rng: np.random.Generator) -> tuple[bool, bool]:
    """Return whether the claims of one run hold, and whether its points share a decision."""
    field = Field(draw_prime(rng))
    reals = Reals(rng, field.p)
    claims: list[tuple[Value, Value]] = []
    run = new_run(pair, field, int(rng.integers(2**62)), observer=reals, claims=claims)
    reals.run = run
    inputs = drawn_inputs(pair, run, rng)
    for thing in inputs:
        reals.given(thing, rng.normal(size=thing.shape))
    first = evaluated_at(pair, run, inputs)
    hold = reals.apart(claims)
    return hold, hold and pair.points > 1 and decided_alike(pair, first, rng)
