"""The record of one random interpretation: its settings, its counts, and what its verdict rests on."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from handprop.verifier.programs.folded import Folded
from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import POSITIVE, Elements, Field
from handprop.verifier.proof.field.degrees import VARIABLE, Bound
from handprop.verifier.proof.field.errors import NeedsBranches, NoSquare, NotUnderstood, OutOfWork, Unsupported
from handprop.verifier.proof.field.hashing import digest, mix
from handprop.verifier.proof.field.values import Value, is_number, is_positive
from handprop.verifier.proof.field.work import Work

__all__ = ["Record", "among", "is_made_of_squares"]

LIKE = 1e-4  # a fraction that is a residue and as close to a float as this is taken for that number


@dataclasses.dataclass
class Record:
    """The settings of a run, what it counted, and what its verdict rests on.

    Truth values are random elements of the field, unless ``thresholds`` are given, the numbers that unknowns are
    compared with. Then comparisons are decided, at random or as in the run that is ``replayed``.
    """

    # The interpretation.
    field: Field
    seed: int
    rational: bool = False  # literals are read as the simplest numbers that round to them
    thresholds: tuple[float, ...] | None = None
    sample: tuple[int, ...] | None = None  # the shape of arrays, if all entries are the same function of their own
    decides_domains: bool = False  # that log, sqrt, ... are defined is decided (NaN where not), and not assumed
    claiming: bool = True  # claim that two analytic unknowns are equal almost nowhere, and test it at real points
    by_signs: bool = True  # a comparison that the signs of its operands decide is not drawn
    square_numbers: bool = False  # a number under a root that is no square ends the run
    number_relations: int = 0  # how many products of such numbers may be squares, as other runs showed
    least_bits: int = 0  # casts to fewer bits, or to a range smaller than 2^least_exponent, are noted
    least_exponent: int = 0
    folded: Folded = dataclasses.field(default_factory=dict)  # literals that are read as computed numbers
    work: Work = dataclasses.field(default_factory=Work)  # shared by all runs
    observer: Callable[..., list] | None = None  # observer(eqn, operands, step) returns step(eqn, operands)

    # Oracle calls.
    calls: int = 0
    argument: Bound = VARIABLE
    oracle_queries: list[np.ndarray] = dataclasses.field(default_factory=list)
    memo: dict = dataclasses.field(default_factory=dict)

    # Arguments of roots: unknowns, known numbers with their residues, and unknowns that are the same everywhere.
    under_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    under_known_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    under_constant_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    under_cube_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    root_argument: Bound = VARIABLE

    # Decisions in the order in which they were made and, if wanted, the residues that they were made on.
    unknown_comparisons: int = 0
    decisions: list[np.ndarray] = dataclasses.field(default_factory=list)
    replayed: Iterator[np.ndarray] | None = None
    decided_on: list[np.ndarray] | None = None
    signed: int = 0  # how many roots of squares were met, each the absolute value of what is squared
    compared: set[float] = dataclasses.field(default_factory=set)
    used_signs: bool = False

    # What the verdict rests on. ``kinds``: the worst kind of the results of primitives that have no rule for their
    # operands, and of those with Trait.OF_POSITIVE. ``conditions``: by the equation that needs them. ``read``: for each
    # dtype, the literals that are read as other numbers, with these.
    equation: Any = None  # the equation being evaluated
    uninterpreted: set[str] = dataclasses.field(default_factory=set)
    kinds: dict[str, Kind] = dataclasses.field(default_factory=dict)
    readings: set[str] = dataclasses.field(default_factory=set)
    read: dict[str, dict[float, Elements]] = dataclasses.field(default_factory=dict)
    assumptions: set[str] = dataclasses.field(default_factory=set)
    casts: set[str] = dataclasses.field(default_factory=set)
    masks: set[str] = dataclasses.field(default_factory=set)
    conditions: dict[int, tuple[object, str]] = dataclasses.field(default_factory=dict)
    nonzero_words: list[np.ndarray] = dataclasses.field(
        default_factory=list
    )  # words of elements that are zero almost nowhere
    claimed: bool = False
    claims: list[tuple[Value, Value]] | None = None  # collected if they are to be tested at a real point

    # The probe. Truth values and all else that is loose depend on it too; see ``field/constant_steps.py``.
    probe: int = 0
    words: list[int] = dataclasses.field(default_factory=list)
    constant_steps: Sequence[bool] = ()
    steps: int = 0
    constant_degree: Bound = VARIABLE

    def assume(self, what: str) -> None:
        """Note that the proof holds only where the function being evaluated is defined."""
        self.conditions.setdefault(id(self.equation), (self.equation, what))

    def worked(self, entries: int) -> None:
        """Count the work of one iteration within an equation.

        Raises:
            OutOfWork: the work limit or the deadline is reached.
        """
        self.work.add(entries)
        if over := self.work.over:
            raise OutOfWork(over)

    @property
    def branching(self) -> bool:
        return self.thresholds is not None

    def decide(self, decision: np.ndarray, on: np.ndarray) -> np.ndarray:
        """Keep the decision and what it is made ``on``, -1 where nothing is decided. In a run that repeats
        the decisions of another, keep and return the other run's decision instead."""
        if self.replayed is not None:
            repeated = next(self.replayed, None)
            if repeated is None or (repeated.shape, repeated.dtype) != (decision.shape, decision.dtype):
                raise Unsupported("decisions that are made at some points and not at others")
            decision = repeated
        self.decisions.append(decision)
        if self.decided_on is not None:
            self.decided_on.append(on)
        return decision

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.sample is None or not shape else self.sample

    # Oracles

    def oracle(self, name: str, *arguments: Elements) -> Elements:
        """A random function of field elements: equal arguments, equal values, uniform in GF(p)."""
        words: list[np.ndarray | int] = [self.seed, *name.encode()]
        for x in arguments:
            words += [x.re] if x.im is None else [x.re, x.im + 1]
        self.calls += max((x.size for x in arguments), default=1)
        hashes = mix(*words)
        self.oracle_queries.append(hashes.reshape(-1))
        return Elements((hashes % np.uint64(self.field.p)).astype(np.int64))

    def loose_oracle(self, name: str, *arguments: Elements) -> Elements:
        """The same for a function that may be constant on a set that matters: it depends on the probe too."""
        return self.oracle(f"{name} {self.probe}" if self.probe else name, *arguments)

    def may_vanish(self, a: Value) -> bool:
        """Whether ``a``, which is not zero at the point of this run, may be zero on a set that matters.

        False under a probe, whatever ``a`` is: a probe proves nothing, and it must pass divisions by such values to
        show at which steps they do not depend on what is loose.
        """
        return a.kind is Kind.PIECEWISE and not self.probe

    def check_not_zero(self, a: Value, refused: str, assumed: str) -> None:
        """Make sure that ``a`` is zero almost nowhere.

        This is known for positive values, known numbers, and rational or univariate functions. It is refused if ``a``
        came through decisions (:meth:`may_vanish`) or if domains are decided, and assumed otherwise.
        """
        if is_positive(a) or a.known is not None or a.kind <= Kind.UNIVARIATE:
            return
        if self.may_vanish(a):
            raise NeedsBranches(refused)
        if self.decides_domains:
            raise NotUnderstood(refused)
        self.assume(assumed)

    def asked(self, *values: Value) -> None:
        """Note the degrees of an oracle's arguments, for the birthday term of the bound."""
        for v in values:
            self.argument = self.argument.worst(v.degree)

    def partition(self) -> bytes:
        """A digest of which oracle arguments were equal to which: the same in every run unless some collide."""
        if not self.oracle_queries:
            return b""
        _, first, place = np.unique(np.concatenate(self.oracle_queries), return_index=True, return_inverse=True)
        return hashlib.blake2b(first[place].tobytes(), digest_size=16).digest()

    def rooted(self, a: Value, square: bool = True) -> None:
        """Keep the argument of a square or cube root; which arguments are equal is compared between runs."""
        flat = a.x.re.reshape(-1)
        self.root_argument = self.root_argument.worst(a.degree)
        if ("root", digest(a.x), square) not in self.memo:
            self.memo["root", digest(a.x), square] = None
            self.asked(a)
            self.oracle("root", a.x)
            (self.under_roots if square else self.under_cube_roots).append(flat)
            if is_number(a):
                self.under_constant_roots.append(flat)

    def rooted_numbers(self, numbers: np.ndarray, residues: np.ndarray) -> None:
        """Keep known numbers of which roots are taken, other than those whose roots have a sure sign.

        Raises:
            NoSquare: one is no square modulo the prime, and all have to be.
        """
        self.under_known_roots.append(np.stack([numbers, residues.astype(np.float64)]))
        if self.square_numbers and not self.field.is_square(residues).all():
            raise NoSquare("a number that is no square")

    @property
    def known_roots(self) -> np.ndarray:
        """The distinct residues of known numbers of which roots were taken, in the order of the numbers, which is the
        same in every run. Of a number and its reciprocal, whose roots are reciprocal too, there is one."""
        numbers, residues = np.concatenate([np.zeros((2, 0)), *self.under_known_roots], axis=1)
        residues = residues.astype(np.int64)
        inverse = self.field.inv(Elements(residues)).re
        with np.errstate(divide="ignore"):
            numbers = np.where(numbers < 1, 1 / numbers, numbers)
        first = np.sort(np.unique(np.minimum(residues, inverse), return_index=True)[1])
        return residues[first][np.argsort(numbers[first], kind="stable")]

    def rational_root(self, residue: int, number: float) -> Fraction | None:
        """The positive fraction whose square this number is, if it is a small one; ``number`` tells roughly which."""
        root = self.field.sqrt(np.asarray(residue))
        if root.im is not None:
            return None
        return self._like(self.field.small_ratio(int(root.re)), number**0.5 if number >= 0 else np.nan)

    def has_sure_root(self, residue: int, number: float) -> bool:
        """Whether it is a fraction of primes that are squares modulo every prime that is drawn. Such roots are
        multiplicative, and that of a square is what is squared."""
        ratio = self._like(self.field.small_ratio(residue), number)
        return ratio is not None and is_made_of_squares(ratio)

    def _like(self, ratio: Fraction | None, number: float) -> Fraction | None:
        """The fraction without its sign, if it is this number up to rounding."""
        return abs(ratio) if ratio is not None and abs(float(abs(ratio)) - number) <= LIKE * abs(number) else None

    @functools.cached_property
    def characters(self) -> list[tuple[bool, bool]]:
        """For each argument of a square root, whether it is a nonsquare and whether it is the same at every point.
        Known numbers are sorted, because decisions may choose among them, and left out where all have to be squares."""
        unknown = _first_of_each(self.under_roots)
        known = self.known_roots[: 0 if self.square_numbers else None]
        constant = among(unknown, _first_of_each(self.under_constant_roots))
        pairs = ((unknown, constant), (known, np.ones(known.size, bool)))
        return [(bool(odd), bool(same)) for under, alike in pairs
                for odd, same in zip(~self.field.is_square(under), alike, strict=True)]  # fmt: skip

    @functools.cached_property
    def roots(self) -> int:
        """The number of roots of unknown numbers that were taken. A cube root, whose norm multiplies a degree by 3,
        counts as two."""
        return len(_first_of_each(self.under_roots)) + 2 * len(_first_of_each(self.under_cube_roots))

    def constant(self, name: str) -> int:
        return int(self.oracle(name, Elements(np.zeros((), np.int64))).re)


def is_made_of_squares(ratio: Fraction) -> bool:
    """Whether all prime factors are among those that are squares modulo every prime that is drawn.

    >>> is_made_of_squares(Fraction(1, 1000)), is_made_of_squares(Fraction(37, 2))
    (True, False)
    """
    left = ratio.numerator * ratio.denominator
    for prime in POSITIVE:
        while left and left % prime == 0:
            left //= prime
    return left in (0, 1)


def among(x: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Which entries of ``x`` are one of these elements: a version of ``numpy.isin`` that is several times faster."""
    ordered = np.sort(elements)
    at = np.minimum(np.searchsorted(ordered, x), ordered.size - 1)
    return ordered[at] == x if ordered.size else np.zeros(x.shape, bool)


def _first_of_each(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct entries, in the order of the arrays, which is the same modulo every prime."""
    flat = np.concatenate([np.zeros(0, np.int64), *arrays])
    return flat[np.sort(np.unique(flat, return_index=True)[1])]
