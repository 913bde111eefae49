"""One random interpretation of a program: its field, its oracles' seed, and what has been asked of them.

Sums, products, quotients and integer powers are exact here. A :class:`Run` is the only mutable thing in the proof: it
counts what the bound needs and lists what the verdict rests on.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from handprop.verifier.proof.field import literals
from handprop.verifier.proof.field.arithmetic import Elements, Field
from handprop.verifier.proof.field.degrees import VARIABLE, Bound, Degree, Whole
from handprop.verifier.proof.field.values import (
    INFINITY,
    MAX_TERMS,
    NAN,
    OPAQUE,
    Everywhere,
    Kind,
    Term,
    Value,
    everywhere,
    is_negative,
    is_nonnegative,
    is_number,
    is_positive,
    moved,
    of_positive,
    plain,
    terms_of,
    where_positive,
)
from handprop.verifier.proof.field.work import Work

__all__ = ["NeedsBranches", "NotUnderstood", "OutOfWork", "Run", "Unsupported"]

# Powers of pi and of log 2 are powers of random squares.
CONSTANT = Bound(Degree(4, 4), Whole(8, 0, 0, {"constant": (1, 8, 0.0)}))
MAX_FACTORS = 16  # of which a product remembers that it is one
SPLIT_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Unsupported(Exception):
    """The program holds what this theory cannot read; the message says what."""


class NeedsBranches(Unsupported):
    """Truth values have to be decided for this program: polynomials in them are not enough."""


class NotUnderstood(Unsupported):
    """Not even as a function of its operands that is not known: nothing that rests on it is proved."""


class OutOfWork(NotUnderstood):
    """The work that there is to do is done, or the time is up."""


def mix(*words: np.ndarray | int) -> np.ndarray:
    """Uint64 hashes of rows of words: splitmix64's finalizer, chained."""
    h = np.asarray(np.uint64(0))
    with np.errstate(over="ignore"):
        for word in words:
            w = np.uint64(word % 2**64) if isinstance(word, int) else word.astype(np.uint64)
            h = (h ^ w) + SPLIT_MIX[0]
            h = np.asarray((h ^ (h >> np.uint64(30))) * SPLIT_MIX[1])
            h = np.asarray((h ^ (h >> np.uint64(27))) * SPLIT_MIX[2])
            h = np.asarray(h ^ (h >> np.uint64(31)))
    return h


@dataclasses.dataclass
class Run:
    """``rational`` reads literals as the simplest numbers that round to them. ``thresholds``, the numbers that unknowns
    are compared with, decides comparisons; None: a truth value is a random field element. ``sample`` is the shape that
    arrays have here instead of their own, where all entries are one function of entries of their own.
    ``decided_on``: the residues that decisions are made on, where they are asked for.
    ``kinds``: of primitives whose results' kind the operands decide, the worst that was met: those without a rule for
    what they were given, whose results may be anything, and those in
    :data:`handprop.verifier.proof.field.kinds.OF_POSITIVE`. ``observer(eqn, operands, step)`` stands around every
    equation and returns ``step(eqn, operands)``. ``decided``: whether the argument of a function that is not defined
    everywhere (log, sqrt, ...) lies in its domain is a decision like any comparison, and NaN where it does not; else it
    is assumed to, and ``conditions`` says so, by the equation. ``equation`` is the one at work. ``casts`` are those to
    fewer bits than ``least_bits`` or a range smaller than ``2^least_exponent``, read as
    the identity. ``work`` is what is counted of all runs together. ``probe``: truths, and whatever else is
    loose, are drawn by it too, and ``words`` holds what every step came to; ``steady``: at which steps that did not
    depend on the probe (:mod:`handprop.verifier.proof.field.steady`). ``claimed``: whether something is taken to be
    equal almost nowhere that is to be tried at a real point, as two unknowns are where ``claiming``, and ``claims``
    what, where that is done (:mod:`handprop.verifier.proof.field.reals`). ``apart``: what was found to be zero almost
    nowhere. ``by_signs``: a comparison that the signs of its operands decide is not drawn; ``used_signs``: there was
    one. ``read``: of each dtype the literals that are read as other numbers, and as which.
    """

    field: Field
    seed: int
    rational: bool = False
    thresholds: tuple[float, ...] | None = None
    sample: tuple[int, ...] | None = None
    calls: int = 0
    argument: Bound = VARIABLE
    unknown_comparisons: int = 0
    decisions: list[np.ndarray] = dataclasses.field(default_factory=list)
    replayed: Iterator[np.ndarray] | None = None
    decided_on: list[np.ndarray] | None = None
    compared: set[float] = dataclasses.field(default_factory=set)
    uninterpreted: set[str] = dataclasses.field(default_factory=set)
    kinds: dict[str, Kind] = dataclasses.field(default_factory=dict)
    readings: set[str] = dataclasses.field(default_factory=set)
    assumptions: set[str] = dataclasses.field(default_factory=set)
    oracle_queries: list[np.ndarray] = dataclasses.field(default_factory=list)
    memo: dict = dataclasses.field(default_factory=dict)
    under_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    under_known_roots: list[np.ndarray] = dataclasses.field(default_factory=list)  # numbers, and their residues
    under_constant_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    under_cube_roots: list[np.ndarray] = dataclasses.field(default_factory=list)
    root_argument: Bound = VARIABLE
    observer: Callable[..., list] | None = None
    decided: bool = False
    least_bits: int = 0
    least_exponent: int = 0
    casts: set[str] = dataclasses.field(default_factory=set)
    masks: set[str] = dataclasses.field(default_factory=set)
    conditions: dict[int, tuple[object, str]] = dataclasses.field(default_factory=dict)
    equation: Any = None
    work: Work = dataclasses.field(default_factory=Work)
    probe: int = 0
    words: list[int] = dataclasses.field(default_factory=list)
    steady: Sequence[bool] = ()
    steps: int = 0
    steady_degree: Bound = VARIABLE
    claiming: bool = True
    by_signs: bool = True
    used_signs: bool = False
    apart: list[np.ndarray] = dataclasses.field(default_factory=list)
    claims: list[tuple[Value, Value]] | None = None
    claimed: bool = False
    read: dict[str, dict[float, Elements]] = dataclasses.field(default_factory=dict)

    def assume(self, what: str) -> None:
        """Notes that the proof only holds where the function at work is defined."""
        self.conditions.setdefault(id(self.equation), (self.equation, what))

    def worked(self, entries: int) -> None:
        """Counts a turn within one equation.

        Raises:
            OutOfWork: the work that there is to do is done.
        """
        self.work.add(entries)
        if over := self.work.over:
            raise OutOfWork(over)

    @property
    def branching(self) -> bool:
        return self.thresholds is not None

    def decide(self, decision: np.ndarray, on: np.ndarray) -> np.ndarray:
        """Keeps the decision, and ``on`` what it is made, -1 where nothing is decided; in a run that repeats another's
        decisions, that one's instead."""
        if self.replayed is not None:
            repeated = next(self.replayed, None)
            if repeated is None or (repeated.shape, repeated.dtype) != (decision.shape, decision.dtype):
                raise Unsupported("decisions that are met at some points and not at others")
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
        """The same, of what may be constant on a set that matters."""
        return self.oracle(f"{name} {self.probe}" if self.probe else name, *arguments)

    def may_vanish(self, a: Value) -> bool:
        """Whether ``a``, which is not zero where this run is, may be zero on a set that matters."""
        return a.kind is Kind.LOOSE and not self.probe

    def check_not_zero(self, a: Value, refused: str, assumed: str) -> None:
        """That ``a`` is zero almost nowhere: known of rational functions and of what is positive, refused where it
        came through decisions, else assumed."""
        if is_positive(a) or a.known is not None or a.kind <= Kind.UNIVARIATE:
            return
        if self.may_vanish(a):
            raise NeedsBranches(refused)
        if self.decided:
            raise NotUnderstood(refused)
        self.assume(assumed)

    def asked(self, *values: Value) -> None:
        """Notes the degrees of an oracle's arguments for the birthday term."""
        for v in values:
            self.argument = self.argument.worst(v.degree)

    def partition(self) -> bytes:
        """Which of all the oracles' arguments were equal to which: the same in every run but for accidents."""
        if not self.oracle_queries:
            return b""
        _, first, place = np.unique(np.concatenate(self.oracle_queries), return_index=True, return_inverse=True)
        return hashlib.blake2b(first[place].tobytes(), digest_size=16).digest()

    def rooted(self, a: Value, square: bool = True) -> None:
        """Keeps what a square or a cube root is taken of; which of them are equal is compared between runs."""
        flat = a.x.re.reshape(-1)
        if a.known is not None:
            self.under_known_roots.append(np.stack([a.known.reshape(-1), flat.astype(np.float64)]))
            return
        self.root_argument = self.root_argument.worst(a.degree)
        if ("root", digest(a.x), square) not in self.memo:
            self.memo["root", digest(a.x), square] = None
            self.asked(a)
            self.oracle("root", a.x)
            (self.under_roots if square else self.under_cube_roots).append(flat)
            if is_number(a):
                self.under_constant_roots.append(flat)

    @functools.cached_property
    def characters(self) -> list[tuple[bool, bool]]:
        """Of each number under a square root whether it is no square, and whether it is the same at every point. Known
        ones stand in their order: decisions may choose among them."""
        unknown = _first_of_each(self.under_roots)
        numbers, residues = np.concatenate([np.zeros((2, 0)), *self.under_known_roots], axis=1)
        first = np.sort(np.unique(residues, return_index=True)[1])
        known = residues[first][np.argsort(numbers[first], kind="stable")].astype(np.int64)
        constant = among(unknown, _first_of_each(self.under_constant_roots))
        pairs = ((unknown, constant), (known, np.ones(known.size, bool)))
        return [(bool(odd), bool(same)) for under, alike in pairs
                for odd, same in zip(~self.field.is_square(under), alike, strict=True)]  # fmt: skip

    @functools.cached_property
    def roots(self) -> int:
        """How many roots of unknown numbers were taken. The norm of a cube root multiplies a degree by 3, as if it
        were two."""
        return len(_first_of_each(self.under_roots)) + 2 * len(_first_of_each(self.under_cube_roots))

    def constant(self, name: str) -> int:
        return int(self.oracle(name, Elements(np.zeros((), np.int64))).re)

    # Numbers

    def number(self, ratio: Fraction | int, shape: tuple[int, ...] = ()) -> Value:
        ratio = Fraction(ratio)
        residue = self.field.ratio(ratio.numerator, ratio.denominator)
        x = Elements(np.full(shape, residue, np.int64))
        return Value(x, Bound.of(ratio), np.full(shape, float(ratio)))

    def embed(self, array: np.ndarray, read: bool = True) -> Value:
        """Known numbers: integers and booleans as they are, floats as this run reads them."""
        if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
            known = array.astype(np.float64)
            most = float(np.abs(known).max(initial=0.0))
            return Value(self.field.of(array), _size_of(known), known, most=most)
        if np.iscomplexobj(array):
            if np.imag(array).any():
                raise NotUnderstood("a complex number")
            array = np.real(array)
        known = array.astype(np.float64)
        masks = np.isfinite(known) & (known <= literals.MASKED) & (self.rational and read)
        self.masks |= {f"{number:.9g} stands for minus infinity" for number in np.unique(known[masks])}
        known = np.where(masks, -np.inf, known)
        finite_entries = np.isfinite(known)
        numbers = np.where(finite_entries, known, 0.0)
        x, degree, error = self._dyadic(numbers), _size_of(numbers), 0.0
        if self.rational and read:
            x, degree, error = self._as_read(x, degree, numbers, str(array.dtype))
        if finite_entries.all():
            return Value(x, degree, known, error=error)
        special = np.where(np.isnan(known), NAN, np.where(finite_entries, 0, np.sign(known))).astype(np.int8)
        return Value(x, degree, known, special=special, error=error, mask=bool(masks.any()))

    def as_rounded(self, a: Value, dtype: Any) -> Value:
        """What is made wider than that dtype: a literal in it is the number it was rounded to."""
        if not (readings := self.read.get(str(dtype))):
            return a
        if a.known is not None and a.error and np.isfinite(a.error):
            rounded = a.known.astype(dtype).astype(np.float64)
            if (rounded == a.known).all():
                return self.embed(rounded, read=False)._replace(mask=a.mask)
        re, im = a.x.re, a.x.imaginary()
        for number, value in readings.items():
            for literal, element in ((number, value), (-number, self.field.neg(value))):
                here = (a.x.re == element.re) & (a.x.imaginary() == element.imaginary())
                re, im = np.where(here, self._dyadic(np.asarray(literal)).re, re), np.where(here, 0, im)
        if (re == a.x.re).all() and (im == a.x.imaginary()).all():
            return a
        degree = functools.reduce(Bound.worst, (_size_of(np.asarray(n)) for n in readings), a.degree)
        return plain(a)._replace(x=Elements(re, im if im.any() else None), degree=degree)

    def is_exactly(self, a: Value, numbers: np.ndarray) -> bool:
        """Whether the finite entries are exactly these numbers."""
        real = a.x.im is None or not a.x.im.any()
        return real and bool(((self._dyadic(numbers).re == a.x.re) | ~a.finite).all())

    def _dyadic(self, known: np.ndarray) -> Elements:
        fraction, exponent = np.frexp(known)
        mantissa = np.asarray(fraction * 2.0**53).astype(np.int64) % self.field.p
        exponents = np.unique(exponent - 53)
        powers = np.array([pow(2, int(e), self.field.p) for e in exponents], np.int64)
        two = powers[np.searchsorted(exponents, exponent - 53)]
        return self.field.mul(Elements(np.asarray(mantissa)), Elements(np.asarray(two)))

    def _as_read(self, x: Elements, degree: Bound, known: np.ndarray, dtype: str) -> tuple[Elements, Bound, float]:
        distinct, error = np.unique(known), 0.0
        if distinct.size > literals.MAX_READ:
            return x, degree, error
        for number in distinct:
            reading = literals.read(float(number), dtype)
            if reading is None:
                continue
            self.readings.add(f"{dtype} {float(number):.9g} as {reading}")
            value, here = self._reading(reading), known == number
            self.read.setdefault(dtype, {})[float(number)] = value
            im = None if value.im is None and x.im is None else np.where(here, value.imaginary(), x.imaginary())
            x = Elements(np.where(here, value.re, x.re), im)
            drawn = CONSTANT if reading.half_pis or reading.log2s else Bound()
            degree = degree.worst(Bound.of(reading.ratio) * Bound.of(reading.root) * drawn)
            error = max(error, abs(float(number)) * float(ml_dtypes.finfo(dtype).eps))
        return x, degree, error

    def _reading(self, reading: literals.Reading) -> Elements:
        f = self.field
        value = f.of(f.ratio(reading.ratio.numerator, reading.ratio.denominator))
        root = np.asarray(f.ratio(reading.root.numerator, reading.root.denominator), np.int64)
        if reading.root != 1:
            self.under_known_roots.append(np.array([[float(reading.root)], [float(root)]]))
        value = f.mul(value, f.sqrt(root))
        value = f.mul(value, f.power(Elements(np.asarray(self.root_of_pi())), reading.half_pis))
        return f.mul(value, f.power(Elements(np.asarray(self.log_of_2())), reading.log2s))

    def root_of_pi(self) -> int:
        """A square, as a positive number is, so that pi has this root."""
        return pow(self.constant("sqrt(pi)"), 2, self.field.p)

    def log_of_2(self) -> int:
        return pow(self.constant("log(2)"), 2, self.field.p)

    # Sums

    def add(self, a: Value, b: Value, sign: int = 1) -> Value:
        x = self.field.add(a.x, b.x) if sign > 0 else self.field.sub(a.x, b.x)
        shape = x.shape
        terms = ()
        if a.known is None or b.known is None:
            terms = self._joined(spread(terms_of(a), shape), spread(terms_of(b), shape), sign)
            if len(terms) == 1 and terms[0][1].shape == shape:
                c, atom = terms[0]
                only = atom if c == 1 else self.mul(self.number(c, shape), atom)
                return only._replace(degree=a.degree + b.degree, kind=max(a.kind, b.kind))
        known = None
        if a.known is not None and b.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known + sign * b.known)
        b_is_positive, b_is_nonnegative = (is_positive(b), is_nonnegative(b)) if sign > 0 else (is_negative(b),) * 2
        nonnegative = is_nonnegative(a) and b_is_nonnegative
        positive = nonnegative and (is_positive(a) or b_is_positive)
        everywhere_is = everywhere(a, b)
        if everywhere_is is Everywhere.NONNEGATIVE:  # a positive part makes a positive sum
            everywhere_is = max(everywhere(a), everywhere(b))
        if sign < 0:
            everywhere_is = min(everywhere_is, Everywhere.ANALYTIC)
        return Value(x, a.degree + b.degree, known, terms, kind=max(a.kind, b.kind), positive=positive,
                     nonnegative=nonnegative, error=a.error + b.error, most=a.most + b.most,
                     everywhere=everywhere_is)  # fmt: skip

    def _joined(self, a: tuple[Term, ...], b: tuple[Term, ...], sign: int) -> tuple[Term, ...]:
        """The terms of the sum, each atom once, without those that are zero throughout, or numbers that cancel; ()
        where they would be too many."""
        both = (*a, *((sign * c, v) for c, v in b))
        terms = _collected([(c, v) for c, v in both if v.x.re.any() or v.x.im is not None])
        numbers = [(c, v) for c, v in terms if v.known is not None]
        if len(numbers) > 1 and len(numbers) < len(terms) and self._cancel(numbers):
            terms = [(c, v) for c, v in terms if v.known is None]
        return tuple(terms) if 1 <= len(terms) <= MAX_TERMS else ()

    def _cancel(self, numbers: list[Term]) -> bool:
        scaled = [self.field.scale(v.x, self.field.ratio(c.numerator, c.denominator)) for c, v in numbers]
        total = functools.reduce(self.field.add, scaled)
        return bool(self.field.is_zero(total).all())

    def neg(self, a: Value) -> Value:
        terms = tuple((-c, v) for c, v in terms_of(a))
        known = None if a.known is None else -a.known
        special = None if a.special is None else np.where(np.abs(a.special) == INFINITY, -a.special, a.special)
        return Value(self.field.neg(a.x), a.degree, known, terms, special=special, kind=a.kind, error=a.error,
                     most=a.most, everywhere=min(everywhere(a), Everywhere.ANALYTIC))  # fmt: skip

    def sum(self, a: Value, axes: tuple[int, ...]) -> Value:
        count = int(np.prod([a.shape[axis] for axis in axes], dtype=np.int64))
        special = None if a.special is None else _special_sum(a.special, axes)
        known = None if a.known is None else np.asarray(a.known.sum(axes))
        total = Value(self.field.sum(a.x, axes), a.degree.summed(count), known, special=special, kind=a.kind,
                      positive=_has_positive(a, axes) and count > 0, nonnegative=a.nonnegative, error=a.error * count,
                      most=a.most * count, everywhere=everywhere(a) if count else Everywhere.UNKNOWN)  # fmt: skip
        if special is not None:
            return total._replace(x=total.x.move(lambda part: np.where(special == 0, part, 0)))
        if not a.log or a.rest is None or count == 0:
            return total
        return self._factored(a, axes, total)

    def _factored(self, a: Value, axes: tuple[int, ...], total: Value) -> Value:
        """A sum of exponentials with what they have in common taken out: ``sum_i e^(c + x_i) = e^c sum_i e^x_i``."""
        outside = tuple((c, v) for c, v in a.log if _constant_along(v.x, axes))
        if not outside:
            return total
        first = tuple(0 if axis in axes else slice(None) for axis in range(len(a.shape)))
        common = tuple((c, _take(v, first)) for c, v in outside)
        factor = self.exp_of_terms(common, total.shape)
        rest = self.field.mul(total.x, self.field.inv(factor.x))
        return total._replace(log=common, rest=Value(rest, total.degree, positive=a.positive, kind=total.kind))

    # Products

    def mul(self, a: Value, b: Value) -> Value:
        x = self.field.mul(a.x, b.x)
        known, error = None, 0.0
        if a.known is not None and b.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known * b.known)
            error = a.error * _largest(b) + b.error * _largest(a)
        nonnegative, square = is_nonnegative(a) and is_nonnegative(b), _is_same_array(a.x, b.x)
        product = Value(x, a.degree * b.degree, known, kind=max(a.kind, b.kind), nonnegative=nonnegative,
                        positive=is_positive(a) and is_positive(b), error=error, most=a.most * b.most,
                        everywhere=_everywhere_of_power(a, True) if square else everywhere(a, b))  # fmt: skip
        if known is not None:
            return product
        if not nonnegative and square:
            product = product._replace(nonnegative=True, positive=self.is_nonzero(a))
        product = product._replace(power_of=_joint_power(a, b, 1), factors=_factors(a, b, 1))
        return product._replace(terms=self._distributed(a, b, x.shape), **self._log_of_product(a, b, 1, x.shape))

    def is_nonzero(self, a: Value) -> bool:
        """Whether no entry is zero over the reals, except on a set of measure zero."""
        if is_positive(a):
            return True
        return a.kind is Kind.RATIONAL and a.known is None and not self.field.is_zero(a.x).any()

    def _distributed(self, a: Value, b: Value, shape: tuple[int, ...]) -> tuple[Term, ...]:
        if (b.terms and not a.terms) or (not a.terms and _small_number(a) is not None):
            a, b = b, a
        if b.terms and len(b.terms) > 1:
            return ()
        scalar = _small_number(b)
        if scalar is not None:
            return tuple((c * scalar, v) for c, v in spread(terms_of(a), shape))
        if len(a.terms) < 2:
            return ()
        plain = b._replace(terms=(), log=(), rest=None)
        return tuple((c, self.mul(v._replace(log=(), rest=None, log_of=None), plain)._replace(terms=()))
                     for c, v in a.terms)  # fmt: skip

    def _log_of_product(self, a: Value, b: Value, sign: int, shape: tuple[int, ...]) -> dict:
        if not (a.log or b.log):
            return {}
        log = self._joined(spread(a.log, shape), spread(b.log, shape), sign)
        if not log:
            return {}
        left, right = (v.rest or v._replace(log=(), rest=None) if v.log else v for v in (a, b))
        rest = self.field.mul(left.x, right.x if sign > 0 else self.field.inv(right.x))
        degree = left.degree * (right.degree if sign > 0 else right.degree.inverse(right.x.size, digest(right.x)))
        return {"log": log, "rest": Value(rest, degree, kind=max(left.kind, right.kind))}

    def inv(self, a: Value) -> Value:
        return self.div(self.number(1, a.shape), a)

    def div(self, a: Value, b: Value) -> Value:
        """``a / b``; where b is zero: NaN, if a is zero too, else an infinity whose sign is not known."""
        self.check_not_zero(b, "a quotient by what may be zero", "what is divided by is not zero")
        zero = self.field.is_zero(b.x)
        inverse, known, error = self.field.inv(b.x, 1), None, 0.0
        if b.known is not None and a.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known / b.known)
            error = _error_of_quotient(a, b, known)
        with np.errstate(all="ignore"):
            numbers = None if b.known is None else np.asarray(1.0 / b.known)
        below = Value(inverse, b.degree.inverse(b.x.size, digest(b.x)), numbers, kind=b.kind, positive=b.positive,
                      everywhere=where_positive(b, Everywhere.POSITIVE))  # fmt: skip
        quotient = self.mul(a, below)._replace(
            known=known, error=error, most=np.inf, positive=is_positive(a) and is_positive(b),
            nonnegative=is_nonnegative(a) and is_nonnegative(b),
        )  # fmt: skip
        if known is None:
            quotient = quotient._replace(**self._log_of_product(a, b, -1, quotient.shape),
                                         power_of=_joint_power(a, b, -1), factors=_factors(a, b, -1))  # fmt: skip
        return self._divided_by_zero(a, quotient, zero) if zero.any() else quotient

    def _divided_by_zero(self, a: Value, quotient: Value, zero: np.ndarray) -> Value:
        zero, both = np.broadcast_arrays(zero, zero & self.field.is_zero(a.x))
        zero, both = (np.broadcast_to(where, quotient.shape) for where in (zero, both))
        special = np.where(both, NAN, np.where(zero, OPAQUE, 0)).astype(np.int8)
        known = None if (special == OPAQUE).any() else quotient.known
        # Which infinity it is depends on the sign of the zero, which is not followed, nor kept by all that XLA does to
        # numbers that are known: it is not shared, not even with the same quotient.
        label = self.oracle(f"1/0, number {self.calls}", quotient.x).re
        x = Elements(np.where(special == OPAQUE, label, np.where(zero, 0, quotient.x.re)), quotient.x.im)
        return Value(x, quotient.degree.worst(VARIABLE), known, special=special, kind=quotient.kind)

    def power(self, a: Value, exponent: int) -> Value:
        if exponent < 0:
            return self.inv(self.power(a, -exponent))
        known = None
        if a.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(a.known ** float(exponent))
        error = abs(exponent) * a.error * max(_largest(a), 1.0) ** max(exponent - 1, 0) if a.error else 0.0
        even = exponent % 2 == 0
        powered = Value(self.field.power(a.x, exponent), a.degree.power(exponent), known, kind=a.kind, error=error,
                        positive=exponent == 0 or is_positive(a) or (even and self.is_nonzero(a)),
                        nonnegative=even or is_nonnegative(a), everywhere=_everywhere_of_power(a, even),
                        power_of=_power_of(a, exponent) if exponent > 1 and known is None else None)  # fmt: skip
        if not a.log or a.rest is None:
            return powered
        log = tuple((c * exponent, v) for c, v in a.log)
        return powered._replace(log=log, rest=self.power(a.rest._replace(log=(), rest=None), exponent))

    # Exponentials: here because sums of them are factored

    def exp(self, a: Value) -> Value:
        """``e^(sum of terms) = product of e^term``, ``e^0 = 1``, ``e^-x = 1 / e^x``, ``e^log(x) = x``."""
        key = ("exp", a.shape, digest(a.x))
        if key not in self.memo:
            result = self.exp_of_terms(terms_of(a), a.shape)
            self.memo[key] = self._as_of_the_opposite(a, result)
        analytic = everywhere(a) >= Everywhere.ANALYTIC
        return self.memo[key]._replace(kind=a.kind.of_analytic, positive=True,
                                       everywhere=Everywhere.POSITIVE if analytic else Everywhere.UNKNOWN)  # fmt: skip

    def _as_of_the_opposite(self, a: Value, result: Value) -> Value:
        """``1 / e^-a`` where ``e^-a`` was asked for before and is known by other terms."""
        before = self.memo.get(("exp", a.shape, digest(self.field.neg(a.x))))
        if before is None:
            return result
        inverse = self.inv(before)
        return result if digest(inverse.x) == digest(result.x) else inverse

    def exp_of_terms(self, terms: tuple[Term, ...], shape: tuple[int, ...]) -> Value:
        kind = max((atom.kind for _, atom in terms), default=Kind.RATIONAL)
        product = Value(Elements(np.ones(shape, np.int64)), positive=True, kind=max(kind, Kind.ANALYTIC))
        logs: list[Term] = []
        powers: list[Value] = []
        for c, atom in terms:
            power = None if atom.log_of is None else self._exp_of_log(c, atom.log_of)
            if power is None:
                power = self._exp_of_atom(c, atom)
                logs.append((c, atom._replace(log=(), rest=None)))
            product = product._replace(x=self.field.mul(product.x, power.x), degree=product.degree * power.degree)
            powers.append(power)
        if not logs:
            return product._replace(power_of=powers[0].power_of, terms=powers[0].terms) if len(powers) == 1 else product
        if len(logs) == len(terms):
            return product._replace(log=tuple(logs), rest=self.number(1, shape))
        rest = self.field.mul(product.x, self.field.inv(self.exp_of_terms(tuple(logs), shape).x))
        return product._replace(log=tuple(logs), rest=Value(rest, product.degree, kind=product.kind))

    def _exp_of_log(self, c: Fraction, base: Value) -> Value | None:
        """``e^(c log base) = base^c`` for whole c, and for halves where the base is positive; None for others."""
        base = base._replace(log=(), rest=None)
        if c == 1:
            return base
        if c.denominator == 1:
            return self.power(base, int(c))
        if c.denominator == 2 and is_positive(base) and base.x.im is None:
            return self.power(self.root(base), c.numerator)
        return None

    def root(self, a: Value) -> Value:
        """The square root of what is in GF(p)."""
        known, error = None, 0.0
        if a.known is not None:
            with np.errstate(all="ignore"):
                known = np.asarray(np.sqrt(a.known))
            error = np.inf if a.error else 0.0
        self.rooted(a)
        return Value(self.field.sqrt(a.x.re), a.degree, known, error=error, kind=of_positive(a),
                     positive=is_positive(a), nonnegative=True, everywhere=where_positive(a, Everywhere.POSITIVE),
                     power_of=_power_of(a, Fraction(1, 2)) if known is None else None)  # fmt: skip

    def _exp_of_atom(self, c: Fraction, atom: Value) -> Value:
        """``e(x / d)^(4 n)`` for ``c = n / d``: fourth powers, so that halves and quarters are powers of the same."""
        quarters = c * 4
        x = self.field.scale(atom.x, self.field.ratio(1, quarters.denominator))
        exponent = quarters.numerator
        flipped, canonical = self.canonical(x)
        self.asked(atom)
        base = self.oracle("exp", canonical)
        base = Elements(np.where(self.field.is_zero(x), 1, np.where(base.re == 0, 1, base.re)))
        value = self.field.power(base, abs(exponent))
        turned = flipped if exponent > 0 else ~flipped
        if turned.any():
            inverse = self.field.inv(value)
            value = Elements(np.where(turned, inverse.re, value.re))
        return Value(value, self._facing(exponent, canonical, flipped), kind=Kind.ANALYTIC)

    def _facing(self, exponent: int, canonical: Elements, flipped: np.ndarray) -> Bound:
        """Of ``e(x)^exponent``: what was asked first, of x or of -x, counts as drawn, the other as its inverse."""
        name = ("facing", digest(canonical))
        first = self.memo.setdefault(name, flipped)
        n, size = abs(exponent), canonical.size
        below = Bound(Degree(0, n), Whole(n * (size - 1), 0, 0, {name: (n, size, 0.0)}))
        above = VARIABLE.power(n)
        if first.shape == flipped.shape and ((first == flipped).all() or (first != flipped).all()):
            return above if bool((first == flipped).all()) == (exponent > 0) else below
        return above.worst(below)

    def canonical(self, x: Elements) -> tuple[np.ndarray, Elements]:
        """Of x and -x the same one always, and where it is -x."""
        negative = self.field.neg(x)
        flipped = x.re > negative.re
        if x.im is not None:
            flipped |= (x.re == negative.re) & (x.im > negative.imaginary())
            return flipped, Elements(
                np.where(flipped, negative.re, x.re), np.where(flipped, negative.imaginary(), x.im)
            )
        return flipped, Elements(np.where(flipped, negative.re, x.re))


def _everywhere_of_power(a: Value, even: bool) -> Everywhere:
    """Of a whole power that is not negative."""
    return max(everywhere(a), Everywhere.NONNEGATIVE) if even and everywhere(a) else everywhere(a)


def _collected(terms: list[Term]) -> list[Term]:
    """The same sum with one coefficient for what is the same unknown."""
    collected: list[Term] = []
    for c, v in terms:
        for i, (other, w) in enumerate(collected):
            if v.known is None and w.known is None and _is_same_array(v.x, w.x):
                collected[i] = (other + c, w)
                break
        else:
            collected.append((c, v))
    return [(c, v) for c, v in collected if c]


def _is_same_array(x: Elements, y: Elements) -> bool:
    return x.im is None and y.im is None and (x.re is y.re or np.array_equal(x.re, y.re))


def among(x: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Which entries of ``x`` are one of these elements: ``numpy.isin``, which takes several times as long."""
    ordered = np.sort(elements)
    at = np.minimum(np.searchsorted(ordered, x), ordered.size - 1)
    return ordered[at] == x if ordered.size else np.zeros(x.shape, bool)


def _first_of_each(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct entries, in the order of the arrays, which is the same modulo every prime."""
    flat = np.concatenate([np.zeros(0, np.int64), *arrays])
    return flat[np.sort(np.unique(flat, return_index=True)[1])]


def _power_of(a: Value, exponent: Fraction | int) -> tuple[Fraction, Value] | None:
    """The power with what it is a power of, where that is positive."""
    if not is_positive(a) or a.known is not None:
        return None
    own, base = a.power_of or (Fraction(1), a)
    return own * exponent, base


def _factors(a: Value, b: Value, exponent: int) -> tuple[Value, Value, int] | None:
    """What a product's or a quotient's square root is one of: factors that are not negative, no numbers."""
    if a.shape != b.shape or a.known is not None or b.known is not None:
        return None
    if not (is_nonnegative(a) and is_nonnegative(b)):
        return None
    if _how_many(a) + _how_many(b) > MAX_FACTORS:  # each of which is moved with the product
        a, b = a._replace(factors=None), b._replace(factors=None)
    return a, b, exponent


def _how_many(a: Value) -> int:
    return 1 if a.factors is None else sum(map(_how_many, a.factors[:2]))


def _joint_power(a: Value, b: Value, exponent: int) -> tuple[Fraction, Value] | None:
    """``a b^exponent`` as a power of what both are powers of."""
    other = _power_of(b, exponent)
    if a.known is not None and (a.known == 1).all() and a.shape == b.shape:
        return other if b.power_of is not None else None  # the logarithm's oracle knows inverses
    if other is None:
        return None
    own = _power_of(a, 1)
    if own is None or own[1].shape != other[1].shape or digest(own[1].x) != digest(other[1].x):
        return None
    total = own[0] + other[0]
    return (total, own[1]) if total else None


def _size_of(known: np.ndarray) -> Bound:
    """Of dyadic numbers: how far left of the point their first bit stands, and how far right of it their last."""
    fraction, exponent = np.frexp(known[known != 0])
    if not fraction.size:
        return Bound()
    mantissa = (np.abs(fraction) * 2.0**53).astype(np.int64)
    last = exponent - 53 + np.frexp((mantissa & -mantissa).astype(np.float64))[1] - 1
    shift = max(0, -int(last.min()))
    return Bound.number(max(int(exponent.max()), 0) + shift, shift)


def digest(x: Elements) -> bytes:
    """What tells one array from another: 128 bits of its bytes."""
    h = hashlib.blake2b(x.re.tobytes(), digest_size=16)
    if x.im is not None and x.im.any():
        h.update(x.im.tobytes())
    return h.digest()


def word(v: Value) -> int:
    """What tells one value from another as an operand: its elements, what is not finite of them, and its shape."""
    h = hashlib.blake2b(digest(v.x) + str(v.shape).encode(), digest_size=8)
    h.update(b"" if v.special is None or not v.special.any() else v.special.tobytes())
    return int.from_bytes(h.digest(), "little")


def finite(a: Value, where: str) -> None:
    if a.special is not None and a.special.any():
        raise Unsupported(f"what is not finite in {where}")


def _largest(a: Value) -> float:
    """The largest size of known numbers."""
    if a.known is None:
        return np.inf
    numbers = np.abs(a.known[np.isfinite(a.known)])
    return float(numbers.max(initial=0.0))


def _error_of_quotient(a: Value, b: Value, quotient: np.ndarray) -> float:
    if not a.error and not b.error:
        return 0.0
    least = float(np.abs(b.known).min(initial=np.inf))  # pyright: ignore[reportArgumentType, reportCallIssue]
    if least <= 2 * b.error:
        return np.inf
    return 2 * (a.error + b.error * float(np.abs(quotient).max(initial=0.0))) / least


def _has_positive(a: Value, axes: tuple[int, ...]) -> bool:
    """Whether each sum along the axes is positive: of positive entries, or of exponentials and of what is zero."""
    if a.positive:
        return True
    if a.nonnegative and a.sure is not None and np.broadcast_to(a.sure, a.shape).any(axes).all():
        return True
    if not a.nonnegative or not a.log or a.rest is None:
        return False
    bare = (a.rest.x.re == 1) & (a.rest.x.imaginary() == 0)
    return bool(np.broadcast_to(bare, a.shape).any(axes).all())


def _special_sum(special: np.ndarray, axes: tuple[int, ...]) -> np.ndarray | None:
    """Of the sum of entries: NaN where one is NaN or both infinities meet, else the infinity there is."""
    if (special == OPAQUE).any():
        raise Unsupported("a sum of what is not finite")
    above, below, nan = ((special == code).any(axes) for code in (INFINITY, -INFINITY, NAN))
    total = np.where(nan | (above & below), NAN, np.where(above, INFINITY, np.where(below, -INFINITY, 0)))
    return total.astype(np.int8) if total.any() else None


def spread(terms: tuple[Term, ...], shape: tuple[int, ...]) -> tuple[Term, ...]:
    """Terms broadcast to the shape of what they are terms of."""
    return tuple((c, v if v.shape == shape else _broadcast(v, shape)) for c, v in terms)


def _broadcast(v: Value, shape: tuple[int, ...]) -> Value:
    return moved(v, lambda part: np.broadcast_to(part, shape))


def _take(v: Value, index) -> Value:
    return moved(v, lambda part: np.asarray(part[index]))


def _constant_along(x: Elements, axes: tuple[int, ...]) -> bool:
    def constant(part: np.ndarray) -> bool:
        first = part[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(part.ndim))]
        return bool((part == first).all())

    return constant(x.re) and (x.im is None or constant(x.im))


def _small_number(b: Value) -> Fraction | None:
    """The number that b is throughout, where it is a small dyadic one: coefficients stay short."""
    if b.known is None or b.known.size == 0:
        return None
    first = b.known.flat[0]
    if not np.isfinite(first) or abs(first) > 16 or (first * 16) % 1 or not (b.known == first).all():
        return None
    return Fraction(float(first))
