"""Runs of both programs over a field: how many are needed, and the chance that those made miss a difference."""

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof import decisions
from handprop.verifier.proof.field.algebra import NeedsBranches, Run, Unsupported
from handprop.verifier.proof.field.arithmetic import Elements, Field, draw_prime
from handprop.verifier.proof.field.decisions import NUMBERS
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.kinds import OF_POSITIVE, least_kind
from handprop.verifier.proof.field.reals import Reals
from handprop.verifier.proof.field.steady import steady_steps
from handprop.verifier.proof.field.truth import Thing, as_value
from handprop.verifier.proof.field.values import Everywhere, Kind, Value
from handprop.verifier.proof.field.work import Work
from handprop.verifier.proof.roots import bits_of, rank, root_groups

__all__ = [
    "Pair",
    "Reading",
    "Trial",
    "claims_hold",
    "drawn",
    "enough",
    "evaluated",
    "log2_false",
    "relation_counts",
    "run_trials",
    "same",
    "with_negatives",
]


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


MAX_THRESHOLDS = 15
MAX_ROOTS = 30
MAX_RUNS = 4096
MAX_ENTRIES = 1 << 18
ENOUGH_ENTRIES = 1 << 12
SPARE_RUNS = 24

ENTRIES_IN_REALS, MAX_IN_REALS = 1 << 16, 4  # entries of real points at once, and how often

MISSED_CLAIMS, MAX_CLAIM_BITS = 30.0, 16.0  # e to the minus first is the chance that a false claim is missed

CERTAIN = 1 << 100  # a degree with which a difference may vanish anywhere
RESTARTS = 5
WEIL = 2.0**-24  # times a degree: by how much a character at random points may be off from a coin
MAX_LEFT = 16  # times more points wanted than fit at once: not begun


class Trial(NamedTuple):
    """One run: the first output that differs (None where all agree), the run's tallies, the chance that programs which
    differ agree in it, that two arguments of an oracle do, and which arguments were equal (None: not compared)."""

    differs: int | None
    run: Run
    chance: float
    accident: float
    partition: bytes | None
    lanes: int = 1
    grouped: bool = False


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


def run_trials(problem: Problem, reference: Any, candidate: Any, rng, reading: Reading, wanted: int, work: Work
            ) -> tuple[Pair, list[Trial]]:  # fmt: skip
    """What was run at last, and runs until the bound is reached, one of them differs, or the work is done; anew where
    an accident is seen, or a number that unknowns are compared with, or a function that is not understood, that was
    not reckoned with; many points at once where decisions ask for it."""
    entries = decisions.like_entries((reference, candidate), problem.inputs)
    thresholds, sample = (0.0,) if reading.branching else None, None
    if entries > ENOUGH_ENTRIES:
        entries, sample = ENOUGH_ENTRIES, (ENOUGH_ENTRIES,)
    pair = Pair(reference, candidate, problem.inputs, thresholds, reading, work, 1, entries, sample)
    kinds = dict.fromkeys(OF_POSITIVE, Kind.ANALYTIC)
    for _ in range(RESTARTS):
        before, trials = work.spent, list[Trial]()
        bits, claim_bits = _decision_bits(pair, kinds, reference, candidate)
        pair = pair._replace(claim_bits=claim_bits)
        while not enough(trials, wanted):
            trials.append(_trial(pair, rng, bits))
            last = trials[-1]
            if pair.thresholds is not None and not last.run.compared <= set(pair.thresholds):
                pair = pair._replace(thresholds=with_negatives(pair.thresholds, last.run.compared))
                break
            if last.partition != trials[0].partition:
                break
            worse = {name: kind for name, kind in last.run.kinds.items() if kind > kinds.get(name, least_kind(name))}
            if pair.thresholds is not None and worse:
                kinds |= worse
                break
            limit = MAX_RUNS if log2_false(trials) > -wanted else len(last.run.characters) + SPARE_RUNS
            if last.differs is not None or len(trials) >= limit or last.chance >= 1:
                return pair, trials
            if last.partition is None and len(trials) == 1 and pair.lanes == 1:
                wide = _in_lanes(problem, _with_counts(pair, last.run), bits)
                if wide.lanes > 1:
                    pair = wide
                    break
            if _too_long(trials, (work.spent - before) / len(trials), wanted, work):
                return pair, trials
        else:
            return pair, trials
    raise Unsupported("what is compared, or equal, differs from run to run")


def _with_counts(pair: Pair, run: Run) -> Pair:
    return pair._replace(calls=run.calls, roots=sum(under.size for under in run.under_roots))


def _too_long(trials: list[Trial], each: float, wanted: int, work: Work) -> bool:
    """Whether the work is done; where decisions are met run by run, whether what is lacking is more than is left."""
    drawn, characters = trials[0].partition is None, len(trials[-1].run.characters)
    met = math.log2(_with_relations(trials)[-1]) if drawn else log2_false(trials) / len(trials)
    if (characters or not drawn) and (met <= -1 or len(trials) < characters + SPARE_RUNS):
        return bool(work.over)
    lacking = max(wanted / max(-met, 1e-9) - len(trials), 0.0)
    return lacking * each > work.left or bool(work.over)


def _in_lanes(problem: Problem, pair: Pair, bits: float) -> Pair:
    """Both programs on many points at once, as JAX batches them; as they were where it cannot."""
    wanted = math.ceil(min(21 * math.log(2) * 2.0**bits / pair.entries, MAX_RUNS * 16))
    lanes = min(wanted, MAX_ENTRIES // _largest(pair))
    names = {eqn.primitive.name for p in (pair.reference, pair.candidate) for eqn in jaxprs.equations(p)}
    if lanes < 2 or wanted > MAX_LEFT * lanes or "custom_vmap_call" in names:
        return pair
    try:
        wide = _wide(problem, pair, lanes)
        evaluated(wide, np.random.default_rng(0))
    except Exception as error:  # what JAX cannot batch, or the field cannot read batched, is run point by point
        noted(error, "the proof at many points")
        return pair
    return wide


def _largest(pair: Pair) -> int:
    """The most entries of an array."""
    sizes = (
        math.prod(v.aval.shape)
        for p in (pair.reference, pair.candidate)
        for e in jaxprs.equations(p)
        for v in e.outvars
    )
    return max(sizes, default=1) or 1


def _wide(problem: Problem, pair: Pair, lanes: int) -> Pair:
    """Both programs on so many points at once, as JAX batches them."""
    axes = jaxprs.batch_axes(problem.inputs)
    inputs = tuple(x if axis is None else np.broadcast_to(x, (lanes, *x.shape))
                   for x, axis in zip(problem.inputs, axes, strict=True))  # fmt: skip
    reference, candidate = (jaxprs.trace(jax.vmap(f, axes, axis_size=lanes), inputs)
                       for f in (problem.reference, problem.candidate))  # fmt: skip
    return pair._replace(reference=reference, candidate=candidate, inputs=inputs, lanes=lanes, sample=None)


def with_negatives(thresholds: tuple[float, ...], compared: set[float]) -> tuple[float, ...]:
    """All of them and their negatives, in order."""
    found = {t for number in {*thresholds, *compared} for t in (number, -number)}
    if len(found) > MAX_THRESHOLDS:
        raise Unsupported(f"unknowns that are compared with {len(found)} numbers")
    return tuple(sorted({0.0 if t == 0 else t for t in found}))


def enough(trials: list[Trial], bits: int) -> bool:
    if len(trials) < 2 or log2_false(trials) > -bits:
        return False
    return not (trials[-1].grouped and relation_counts(trials, of_numbers=True))


def log2_false(trials: list[Trial]) -> float:
    """log2 of the bound for a false proof over all runs; 0 where they bound nothing."""
    calls = max(trial.run.calls for trial in trials)
    pairs = max(math.log2(calls * (calls - 1) / 2), 0.0) if calls > 1 else -math.inf
    chances, accidents = (np.array([getattr(t, name) for t in trials]) for name in ("chance", "accident"))
    if trials[0].partition is None:
        return min(float(np.log2(_with_relations(trials)).sum()) + math.log2(RESTARTS), 0.0)
    relations = 0 if trials[-1].grouped else relation_counts(trials)
    if relations:
        chances = np.minimum(
            chances + 1 - 2.0**-relations + min(trials[-1].run.root_argument.over, CERTAIN) * WEIL, 1.0
        )
    with np.errstate(divide="ignore"):  # no oracle was asked: no accident
        terms = np.array([np.log2(chances).sum(), pairs + np.log2(accidents).sum()])
    return min(float(np.logaddexp2(*terms)) + math.log2(RESTARTS), 0.0)


def _with_relations(trials: list[Trial]) -> np.ndarray:
    """The chances of runs in which decisions are drawn: roots of numbers have one sign for all points of a run."""
    chances, relations = np.array([trial.chance for trial in trials]), relation_counts(trials, of_numbers=True)
    return np.minimum(chances + 1 - 2.0**-relations, 1.0) if relations else chances


def relation_counts(trials: list[Trial], of_numbers: bool = False) -> int:
    """How many products of the roots' arguments may be squares; ``of_numbers``: of numbers alone, where the others were
    told apart in each run.

    Were one a square, as a polynomial, its factors' characters would sum to 0 in every run: the characters, one row a
    run, would lack so much of full rank over GF(2). By full rank no root is a rational function of others, and the
    norm bounds how often a difference vanishes. Where ``sqrt(a) sqrt(b) = |R|`` it is ``R`` or ``-R`` in the field, as
    R is a square there or is not. Whatever signs such R have where two programs differ, all of these have them in one
    of ``2^k`` runs at least, k the number of relations, and there the norm of the others bounds it.
    """
    rows = [[one for one in t.run.characters if one[1] or not of_numbers] for t in trials]
    if len({len(row) for row in rows}) > 1:  # decisions chose other numbers: nothing is known of them
        return max(map(len, rows))
    columns = [(bits_of(row[i][0] for row in rows), known) for i, (_, known) in enumerate(rows[-1])]
    # Of known numbers some, such as 2, are squares modulo every prime drawn: they take part in no product.
    taking_part = [column for column, known in columns if column or not known]
    return len(taking_part) - rank(taking_part)


def _trial(pair: Pair, rng: np.random.Generator, decision_bits: float) -> Trial:
    first = evaluated(pair, rng)
    run = first.run
    norms, told = _norms(pair, first, rng) if first.differs is None else (math.inf, 0)
    chance, accident = (sum(_vanishing(run, d, norms)) for d in (first.degree, run.argument + run.argument))
    chance += _seemingly_steady(run, norms, accident)
    if told:
        # A root may have seemed not to rest on what it does rest on.
        chance += told * run.roots * sum(_vanishing(run, run.root_argument + run.root_argument, 1.0))
    if not (run.unknown_comparisons and run.branching):
        return Trial(first.differs, run, min(chance, 1.0), accident, run.partition(), grouped=told > 0)
    if not decision_bits:
        raise Unsupported("decisions that are not counted")
    points, differs = pair.points, first.differs
    if differs is None and points > 1 and _decided_alike(pair, first, rng):
        points = 1
    for _ in range(RESTARTS if differs is None else 0):
        again = evaluated(pair, rng, run.decisions)
        differs = again.differs
        if again.run.partition() == run.partition():
            break
        run, _, differs, _ = evaluated(pair, rng)
    else:  # a difference, or accidents again and again: nothing is bounded
        return Trial(differs, run, 1.0, 0.0, None, points, told > 0)
    # Of many points one that shows a difference has to be seen, so that all else is counted at one.
    calls = max(pair.calls, run.calls / pair.lanes)
    unseen = RESTARTS * (chance**2 + calls**2 / 2 * accident**2)
    taken_for_numbers = decision_bits * (len(NUMBERS) + len(pair.thresholds or ())) * 2 * accident
    missed = min(1.0, (1 - 2.0**-decision_bits) ** points + unseen + taken_for_numbers)
    return Trial(differs, run, missed, 0.0, None, points, told > 0)


def claims_hold(problem: Problem, pair: Pair, rng: np.random.Generator) -> bool:
    """Whether what runs take to be equal almost nowhere differs at a real point, with decisions as they are drawn: at
    as many points as it takes for each of the decisions that a claim rests on to be met at one of them."""
    if not pair.claim_bits:
        return _claims_hold_at(pair if pair.lanes == 1 else _wide(problem, pair, 1), rng)
    at_once = max(ENTRIES_IN_REALS // max(_largest(pair) // pair.lanes, 1), 1)
    wanted = math.ceil(MISSED_CLAIMS * 2.0 ** min(pair.claim_bits, MAX_CLAIM_BITS))
    if wanted > at_once * MAX_IN_REALS:
        raise Unsupported("a comparison that rests on many decisions")
    try:
        wide = _wide(problem, pair, min(at_once, wanted))
    except Exception as error:  # whatever JAX raises where it cannot batch a program
        noted(error, "the proof at many points")
        raise Unsupported("a comparison that rests on decisions, in what cannot be batched") from error
    return all(_claims_hold_at(wide, rng) for _ in range(math.ceil(wanted / wide.lanes)))


def _claims_hold_at(pair: Pair, rng: np.random.Generator) -> bool:
    field = Field(draw_prime(rng))
    reals = Reals(rng, field.p)
    claims: list[tuple[Value, Value]] = []
    run = _run(pair, field, int(rng.integers(2**62)), observer=reals, claims=claims)
    inputs = tuple(drawn(field, x, rng, run.shape_of(x.shape)) for x in pair.inputs)
    for thing in inputs:
        reals.given(thing, rng.normal(size=thing.shape))
    _evaluated_at(pair, run, inputs)
    return reals.apart(claims)


def _seemingly_steady(run: Run, norms: float, accident: float) -> float:
    """The probability that a step seemed not to depend on the probe and does, or that an accident made it seem so."""
    if not any(run.steady):
        return 0.0
    each = sum(_vanishing(run, run.steady_degree + run.steady_degree, norms))
    return sum(run.steady) * each + run.calls**2 * accident


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
    run = _run(pair, field, seed, replayed=None if decisions is None else iter(decisions))
    return _evaluated_at(pair, run, tuple(drawn(field, x, rng, run.shape_of(x.shape)) for x in pair.inputs))


def _evaluated_at(pair: Pair, run: Run, inputs: tuple[Thing, ...]) -> Evaluation:
    try:
        return _at(pair, run, inputs)
    except NeedsBranches:
        if run.branching:
            raise
        steady = steady_steps(lambda probe: _at(pair, _run(pair, run.field, run.seed, probe=probe), inputs).run)
        if not any(steady):
            raise
        again = _run(pair, run.field, run.seed, steady=steady, observer=run.observer, claims=run.claims)
        return _at(pair, again, inputs)


def _decided_alike(pair: Pair, first: Evaluation, rng: np.random.Generator) -> bool:
    """Whether anything was decided on that does not depend on the inputs, as ``x + 1 - x``: of many points at once it
    is one decision for all of them. It is what is the same at other inputs, with all else as it was; these are only
    asked where an element is decided on in more than one place."""
    assert first.run.decided_on is not None
    if all_in_their_places(first.run.decided_on):
        return False
    inputs = tuple(drawn(first.run.field, x, rng, first.run.shape_of(x.shape)) for x in pair.inputs)
    run = _run(pair, first.run.field, first.run.seed, replayed=iter(first.run.decisions))
    _evaluated_at(pair, run, inputs)
    assert run.decided_on is not None
    return any(((a == b) & (a >= 0)).any() for a, b in zip(first.run.decided_on, run.decided_on, strict=True))


def _run(pair: Pair, field: Field, seed: int, **others: Any) -> Run:
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


def all_in_their_places(decided_on: list[np.ndarray]) -> bool:
    """Whether each element stands at one place alone, of arrays of one size.

    >>> forward, backward = np.array([[5, 7], [9, 8]]), np.array([5, 7, -1, 8])  # -1: nothing is decided there
    >>> all_in_their_places([forward, backward]), all_in_their_places([forward, forward.T])
    (True, False)
    """
    if not decided_on:
        return True
    elements = np.concatenate([on.reshape(-1) for on in decided_on])
    places = np.concatenate([np.arange(on.size) + (on.size << 32) for on in decided_on])
    elements, places = (x[elements >= 0] for x in (elements, places))
    order = np.argsort(elements, kind="stable")
    elements, places = elements[order], places[order]
    return not ((elements[1:] == elements[:-1]) & (places[1:] != places[:-1])).any()


def same(field: Field, a: Value, b: Value) -> bool:
    """Whether two arrays are equal, infinities with them."""
    if a.shape != b.shape:
        return False
    specials = [np.zeros(v.shape, np.int8) if v.special is None else v.special for v in (a, b)]
    return bool(field.is_zero(field.sub(a.x, b.x)).all()) and bool((specials[0] == specials[1]).all())


def _vanishing(run: Run, degree: Bound, norms: float) -> tuple[float, float]:
    """The probabilities that a function of that degree which is not zero is zero at a random point, and everywhere
    modulo a random prime."""
    over, bits = (min(x, CERTAIN) for x in (max(degree.over, 1), degree.bits + 1))  # of a long loop they fit no float
    return min(1.0, norms * over / run.field.p), min(1.0, norms * bits / 49 / 2**32)


def _norms(pair: Pair, evaluation: Evaluation, rng: np.random.Generator) -> tuple[float, int]:
    """By how much roots multiply a degree, and how many draws told which of them stand together (0: none).

    Where comparisons are decided roots are independent of one another, or not, for these decisions alone.
    """
    run, inputs = evaluation.run, evaluation.inputs
    if not run.roots or (run.roots <= MAX_ROOTS and not run.branching):
        return 2.0**run.roots, 0
    if run.under_cube_roots:
        return math.inf, 0
    shapes = [x.shape if isinstance(x, Value) else None for x in inputs]
    sizes = [under.size for under in run.under_roots]

    def redrawn(x: Any, mask: np.ndarray | None) -> Thing:
        return x if mask is None else x._replace(x=Elements(np.where(mask, run.field.draw(rng, x.shape).re, x.x.re)))

    def draw(masks: list[np.ndarray | None]) -> np.ndarray:
        again = _run(pair, run.field, run.seed, steady=run.steady,
                     replayed=iter(run.decisions) if run.branching else None)  # fmt: skip
        anew = [redrawn(x, mask) for x, mask in zip(inputs, masks, strict=True)]
        for program in (pair.reference, pair.candidate):
            evaluate(again, program, list(anew))
        if [under.size for under in again.under_roots] != sizes:
            raise Unsupported("roots that are taken at some points and not at others")
        return np.concatenate(again.under_roots)

    found = root_groups(draw, run.field.is_square, shapes, MAX_ROOTS)
    if found is None:
        return math.inf, 0
    at_one_point = sorted(found[0], reverse=True)[: pair.roots or None]
    return math.fsum(2.0**size for size in at_one_point), found[1] or 1


def _decision_bits(pair: Pair, kinds: Mapping[str, Kind], *programs: Any) -> decisions.Bits:
    if pair.thresholds is None:
        return decisions.Bits(0.0, 0.0)
    interval = math.log2(len(pair.thresholds) + 1)
    counted = [decisions.decision_bits(program, interval, pair.reading.decided, kinds, pair.reading.claiming)
               for program in programs]  # fmt: skip
    return decisions.Bits(*(max(each) for each in zip(*counted, strict=True)))
