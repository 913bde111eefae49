"""The chance that a proof is false: the theorem, and every term of the bound.

Theorem (Schwartz 1980, Zippel 1979; with random functions for transcendental ones, Gulwani and Necula 2004). Let two
programs differ as rational functions of their inputs and of oracle values, let the numerator of the difference have
degree D and let the sizes of its coefficients sum to at most ``2^H``. The programs agree at a random point of GF(p), p
a random prime, with probability at most ``c = D / p + H / 49 / 2^31.8``. The second term is the chance that p divides
every coefficient: primes above ``2^49`` are drawn from more than ``2^31.8``, and at most ``H / 49`` of these divide a
number below ``2^H`` (:func:`vanishing`; D and H are the ``numerator`` and ``bits`` of a
:class:`~handprop.verifier.proof.field.degrees.Bound`).

*Oracles.* Two arguments of an oracle that differ, of degree ``D_a`` and size ``2^H_a``, are equal with probability at
most ``c_a``, computed in the same way. Programs may then agree by that collision. Runs are compared in which of the m
arguments were equal to which. A collision that goes unseen is the same in each of R runs, so that a proof is false with
probability at most ``c^R + m (m - 1) / 2 c_a^R`` (:func:`log2_false`).

*Decisions.* Where comparisons are decided, this only holds for runs with the same decisions. Each run is repeated with
its decisions at another point; if other arguments are equal there, both are made anew, at most ``RESTARTS`` times. So
``RESTARTS (c^2 + m^2 / 2 c_a^2)`` is added to the chance of having met none of the decisions that show a difference
(:mod:`handprop.verifier.proof.decision_bits`). A run may stand for many points, each with decisions of its own; where
something is decided that does not depend on the inputs, it stands for one. Each unknown that is decided on may be taken
for one of the k numbers with which unknowns are compared, with probability ``2 k c_a`` (:func:`missed_with_decisions`).

*Roots.* A root doubles degrees and sizes through its norm if the roots are independent, which the runs show
(:func:`norms_of`). Where there are many roots, they are divided into groups that depend on different variables, and the
largest groups that one point can have count. In one of the draws that divide them, a root may have seemed not to
depend on a variable although it does (:func:`chances_of`, :mod:`handprop.verifier.proof.roots`). Where products of k of
their arguments may be squares, only one in ``2^k`` runs counts, up to Weil's bound on how far a character is from a
fair coin (:func:`relation_counts`).

*Steps that do not depend on a probe* are taken to be constant. Each may seem so by chance, with a probability that its
degree gives, and so may all if two arguments of an oracle collide (:func:`seemingly_constant`).

*Claims.* Claims that two values are equal almost nowhere are tested at real points, with decisions of their own. A
false claim is missed with probability ``exp(-40)`` (:mod:`handprop.verifier.proof.claims`).

*Attempts.* Runs are begun at most ``RESTARTS`` times, several readings of the programs are tried one after the other,
and a report may prove more than once. The bound that it states is the sum over all of them
(:func:`log2_false_in_all`).

*Numbers under roots.* Which primes make a given number a square is taken to be as independent for several numbers as
the density theorem says. Where programs differ modulo a prime by which some of k such numbers are no squares, runs
start anew with primes modulo which all are squares: at least one in ``2^k`` of all primes. The roots of these numbers
multiply the bits by ``2^k`` through their norms.

The oracles are splitmix64 hashes of a seed, and not random functions: that these behave alike is trusted.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.proof.evaluation import Evaluation, Pair, drawn_inputs, evaluated_at, new_run
from handprop.verifier.proof.field.arithmetic import PRIMES, Elements
from handprop.verifier.proof.field.decisions import NUMBERS
from handprop.verifier.proof.field.degrees import Bound
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value
from handprop.verifier.proof.roots import bits_of, rank, root_groups

__all__ = [
    "MISSED_CLAIMS",
    "RESTARTS",
    "Trial",
    "all_in_their_places",
    "bits_for_each",
    "chances_of",
    "decided_alike",
    "enough",
    "log2_false",
    "log2_false_in_all",
    "missed_with_decisions",
    "relation_counts",
    "with_relations",
]

MAX_ROOTS = 30
CERTAIN = 1 << 100  # a degree at which the bound is void
RESTARTS = 5
MISSED_CLAIMS = 40.0  # a false claim is missed with probability exp(-40), or 2^-57
WEIL = 2.0**-24  # times a degree: how far a character at random points may be from a fair coin


class Trial(NamedTuple):
    """One run and what it bounds.

    ``differs``: the first output that differs, None where all agree. ``chance``: the probability that programs that
    differ agree in this run. ``collision``: the probability that two given arguments of an oracle that differ are
    equal. ``partition``: which arguments were equal to which, None where they are not compared. ``points``: the number
    of points that the run stands for. ``grouped``: whether its roots were divided into groups.
    """

    differs: int | None
    run: Run
    chance: float
    collision: float
    partition: bytes | None
    points: int = 1
    grouped: bool = False


def enough(trials: list[Trial], bits: float) -> bool:
    if len(trials) < 2 or log2_false(trials) > -bits:
        return False
    return not (trials[-1].grouped and relation_counts(trials, of_numbers=True))


def bits_for_each(bits: float, attempts: int) -> float:
    """The bits that the runs of one attempt must reach, so that all attempts together, with their claims, reach
    ``bits``."""
    return bits + math.log2(attempts) + 1


def log2_false_in_all(trials: list[Trial], attempts: int) -> float:
    """log2 of the bound on the probability that one of that many attempts is false, with its claims."""
    claims = -MISSED_CLAIMS / math.log(2) if any(trial.run.claimed for trial in trials) else -math.inf
    return min(float(np.logaddexp2(log2_false(trials), claims)) + math.log2(attempts), 0.0)


def log2_false(trials: list[Trial]) -> float:
    """log2 of the bound on the probability that the runs of one attempt are all misled; 0 where they bound nothing."""
    calls = max(trial.run.calls for trial in trials)
    pairs = max(math.log2(calls * (calls - 1) / 2), 0.0) if calls > 1 else -math.inf
    chances, collisions = (np.array([getattr(t, name) for t in trials]) for name in ("chance", "collision"))
    if trials[0].partition is None:
        return min(float(np.log2(with_relations(trials)).sum()) + math.log2(RESTARTS), 0.0)
    relations = 0 if trials[-1].grouped else relation_counts(trials)
    if relations:
        chances = np.minimum(
            chances + 1 - 2.0**-relations + min(trials[-1].run.root_argument.numerator, CERTAIN) * WEIL, 1.0
        )
    with np.errstate(divide="ignore"):  # log2(0) if no oracle was called
        terms = np.array([np.log2(chances).sum(), pairs + np.log2(collisions).sum()])
    return min(float(np.logaddexp2(*terms)) + math.log2(RESTARTS), 0.0)


def with_relations(trials: list[Trial]) -> np.ndarray:
    """The chances of runs in which decisions are drawn. Relations between roots of numbers are added to each run, as
    such a root has one sign for all points of a run."""
    chances, relations = np.array([trial.chance for trial in trials]), relation_counts(trials, of_numbers=True)
    return np.minimum(chances + 1 - 2.0**-relations, 1.0) if relations else chances


def relation_counts(trials: list[Trial], of_numbers: bool = False) -> int:
    """The number of products of the roots' arguments that may be squares. With ``of_numbers`` only the roots of numbers
    are considered, where the others were shown to be independent within each run.

    If such a product were a square, as a polynomial, the characters of its factors would sum to 0 in every run. Each
    such relation would lower the rank over GF(2) of the matrix of characters, which has one row for each run. At full
    rank, no root is a rational function of others, and the norm bounds how often a difference vanishes.

    If ``sqrt(a) sqrt(b) = |R|``, the product is ``R`` or ``-R`` in the field, as R is a square there or is not.
    Whatever signs these R have where two programs differ, all R have them in at least one of ``2^k`` runs, where k is
    the number of relations. In such a run the norm of the other roots bounds how often the difference vanishes.
    """
    relations = trials[-1].run.number_relations
    rows = [[one for one in t.run.characters if one[1] or not of_numbers] for t in trials]
    if len({len(row) for row in rows}) > 1:  # decisions chose different numbers: nothing is known about these
        return max(map(len, rows)) + relations
    columns = [bits_of(row[i][0] for row in rows) for i, _ in enumerate(rows[-1])]
    return len(columns) - rank(columns) + relations


def vanishing(run: Run, degree: Bound, norms: float) -> tuple[float, float]:
    """The probabilities that a nonzero function of that degree is zero at a random point, and that it is zero
    everywhere modulo a random prime."""
    over, bits = (min(x, CERTAIN) for x in (max(degree.numerator, 1), degree.bits + 1))  # long loops overflow floats
    halves = run.known_roots.size if run.square_numbers else 0
    return min(1.0, norms * over / run.field.p), min(1.0, norms * bits / 49 / PRIMES * 4.0**halves)


def seemingly_constant(run: Run, norms: float, collision: float) -> float:
    """The probability that a step depends on the probe and seemed not to, by chance or through an collision."""
    if not any(run.constant_steps):
        return 0.0
    each = sum(vanishing(run, run.constant_degree + run.constant_degree, norms))
    return sum(run.constant_steps) * each + run.calls**2 * collision


def chances_of(pair: Pair, evaluation: Evaluation, rng: np.random.Generator) -> tuple[float, float, bool]:
    """``c`` and ``c_a`` of one run, for its decisions, and whether its roots were divided into groups.

    ``c`` is 1 where an output differs, as the run then bounds nothing.
    """
    run = evaluation.run
    norms, draws = norms_of(pair, evaluation, rng) if evaluation.differs is None else (math.inf, 0)
    chance, collision = (sum(vanishing(run, d, norms)) for d in (evaluation.degree, run.argument + run.argument))
    chance += seemingly_constant(run, norms, collision)
    # A root may have seemed, in each draw, not to depend on something that it does depend on.
    chance += draws * run.roots * sum(vanishing(run, run.root_argument + run.root_argument, 1.0))
    return min(chance, 1.0), collision, draws > 0


def missed_with_decisions(pair: Pair, run: Run, decision_bits: float, points: int, chance: float,
                          collision: float) -> float:  # fmt: skip
    """The probability that a run with decisions at ``points`` points misses a difference.

    It is at most the probability that no point has decisions that show it, ``(1 - 2^-decision_bits)^points``, plus the
    probability that it is not seen at the first such point. The latter is for one point, as is the number m of oracle
    calls. Each of the ``decision_bits`` unknowns may also be taken for one of the numbers that it is compared with.
    """
    calls = max(pair.calls, run.calls / pair.batch)
    unseen = RESTARTS * (chance**2 + calls**2 / 2 * collision**2)
    taken_for_numbers = decision_bits * (len(NUMBERS) + len(pair.thresholds or ())) * 2 * collision
    return min(1.0, (1 - 2.0**-decision_bits) ** points + unseen + taken_for_numbers)


def norms_of(pair: Pair, evaluation: Evaluation, rng: np.random.Generator) -> tuple[float, int]:
    """The factor by which roots multiply a degree, and the number of draws that divided the roots into groups (0 if
    they were not divided).

    Where comparisons are decided, what is found about the independence of roots holds for these decisions only.
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
        again = new_run(pair, run.field, run.seed, constant_steps=run.constant_steps,
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


def decided_alike(pair: Pair, first: Evaluation, rng: np.random.Generator) -> bool:
    """Whether a value was decided on that does not depend on the inputs, such as ``x + 1 - x``. Where many points are
    drawn at once, that is one decision for all of them.

    Such a value is the same at other inputs, with everything else unchanged. The programs are evaluated at other inputs
    only if some element was decided on in more than one place.
    """
    assert first.run.decided_on is not None
    if all_in_their_places(first.run.decided_on):
        return False
    inputs = drawn_inputs(pair, first.run, rng)
    run = new_run(pair, first.run.field, first.run.seed, replayed=iter(first.run.decisions))
    evaluated_at(pair, run, inputs)
    assert run.decided_on is not None
    return any(((a == b) & (a >= 0)).any() for a, b in zip(first.run.decided_on, run.decided_on, strict=True))


def all_in_their_places(decided_on: list[np.ndarray]) -> bool:
    """Whether each element occurs at one place only, in arrays of one size.

    >>> forward, backward = np.array([[5, 7], [9, 8]]), np.array([5, 7, -1, 8])  # -1: nothing was decided there
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
