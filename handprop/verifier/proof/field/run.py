"""One random interpretation of a program: its field, the seed of its oracles, and their calls so far.

A :class:`Run` is mutable: it counts what the bound needs and lists what the verdict rests on.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from handprop.verifier.programs import literals
from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.algebra import Algebra, power_of
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.degrees import VARIABLE, Bound, Degree, Whole
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.values import (
    INFINITY,
    NAN,
    OPAQUE,
    Everywhere,
    Term,
    Value,
    everywhere,
    is_positive,
    moved,
    of_positive,
    terms_of,
    where_positive,
)

__all__ = ["Run"]


class Run(Algebra):
    """Arithmetic with sums and exponentials. ``step``: what evaluates a primitive instead of the field's rules."""

    step: Callable[..., list] | None = None

    def sum(self, a: Value, axes: tuple[int, ...]) -> Value:
        count = int(np.prod([a.shape[axis] for axis in axes], dtype=np.int64))
        special = None if a.special is None else _special_sum(a.special, axes)
        known = None if a.known is None else np.asarray(a.known.sum(axes))
        total = Value(self.field.sum(a.x, axes), a.degree.summed(count), known, special=special, kind=a.kind,
                      positive=_has_positive(a, axes) and count > 0, nonnegative=a.nonnegative, error=a.error * count,
                      most=a.most * count, everywhere=everywhere(a) if count else Everywhere.UNKNOWN)  # fmt: skip
        if special is not None:
            return total._replace(x=total.x.move(lambda part: np.where(special == 0, part, 0)))
        if a.scaled is not None:
            total = total._replace(scaled=(a.scaled[0], self.sum(a.scaled[1], axes)))
        if not a.log or a.rest is None or count == 0:
            return total
        return self._factored(a, axes, total)

    def _factored(self, a: Value, axes: tuple[int, ...], total: Value) -> Value:
        """A sum of exponentials with their common factor taken out: ``sum_i e^(c + x_i) = e^c sum_i e^x_i``."""
        outside = tuple((c, v) for c, v in a.log if _constant_along(v.x, axes))
        if not outside:
            return total
        first = tuple(0 if axis in axes else slice(None) for axis in range(len(a.shape)))
        common = tuple((c, _take(v, first)) for c, v in outside)
        factor = self.exp_of_terms(common, total.shape)
        rest = self.field.mul(total.x, self.field.inv(factor.x))
        return total._replace(log=common, rest=Value(rest, total.degree, positive=a.positive, kind=total.kind))

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
        """``1 / e^-a``, if ``e^-a`` was computed before from other terms, else ``result``."""
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
        """``e^(c log base) = base^c`` for integer c, and for multiples of 1/2 if the base is positive; else None."""
        base = base._replace(log=(), rest=None)
        if c == 1:
            return base
        if c.denominator == 1:
            return self.power(base, int(c))
        if c.denominator == 2 and is_positive(base) and base.x.im is None:
            return self.power(self.root(base), c.numerator)
        return None

    def root(self, a: Value) -> Value:
        """The square root of elements of GF(p)."""
        if a.known is not None:
            return self._root_of_numbers(a, a.known)
        self.rooted(a)
        return Value(self.field.sqrt(a.x.re), a.degree, kind=of_positive(a), positive=is_positive(a), nonnegative=True,
                     everywhere=where_positive(a, Everywhere.POSITIVE),
                     power_of=power_of(a, Fraction(1, 2)))  # fmt: skip

    def _root_of_numbers(self, a: Value, known: np.ndarray) -> Value:
        """The roots of known numbers. That of a square is the positive number that is squared, which the field would
        give a sign: 37 is no square modulo half of the primes."""
        with np.errstate(all="ignore"):
            roots = np.asarray(np.sqrt(known))
        root, unsure = self.field.sqrt(a.x.re), np.ones(known.shape, bool)
        residues, first = np.unique(a.x.re.reshape(-1), return_index=True)
        for residue, i in zip(residues, first, strict=True) if residues.size <= literals.MAX_READ else ():
            here, number = a.x.re == residue, float(known.reshape(-1)[i])
            if (rational := self.rational_root(int(residue), number)) is not None:
                positive = self.field.ratio(*rational.as_integer_ratio())
                root = Elements(np.where(here, positive, root.re), np.where(here, 0, root.imaginary()))
            if rational is not None or self.has_sure_root(int(residue), number):
                unsure &= ~here
        self.rooted_numbers(known[unsure], a.x.re[unsure])
        root = root if root.im is not None and root.im.any() else Elements(root.re)
        return Value(root, a.degree, roots, error=_error_of_root(a, known), kind=of_positive(a),
                     positive=is_positive(a), nonnegative=True,
                     everywhere=where_positive(a, Everywhere.POSITIVE))  # fmt: skip

    def _exp_of_atom(self, c: Fraction, atom: Value) -> Value:
        """``e(x / d)^n``, with ``4 c = n / d`` in lowest terms. ``e^x`` is the fourth power of ``e(x)``, so that halves
        and quarters are powers of the same element."""
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
        """The bound for ``e(x)^exponent``. Of ``e(x)`` and ``e(-x)``, the first that is asked for counts as drawn, the
        other as its inverse."""
        name = ("facing", digest(canonical))
        first = self.memo.setdefault(name, flipped)
        n, size = abs(exponent), canonical.size
        below = Bound(Degree(0, n), Whole(n * (size - 1), 0, 0, {name: (float(n), float(size), 0.0)}))
        above = VARIABLE.power(n)
        if first.shape == flipped.shape and ((first == flipped).all() or (first != flipped).all()):
            return above if bool((first == flipped).all()) == (exponent > 0) else below
        return above.worst(below)

    def canonical(self, x: Elements) -> tuple[np.ndarray, Elements]:
        """One of x and -x, always the same one of the two, and where it is -x."""
        negative = self.field.neg(x)
        flipped = x.re > negative.re
        if x.im is not None:
            flipped |= (x.re == negative.re) & (x.im > negative.imaginary())
            return flipped, Elements(
                np.where(flipped, negative.re, x.re), np.where(flipped, negative.imaginary(), x.im)
            )
        return flipped, Elements(np.where(flipped, negative.re, x.re))


def _error_of_root(a: Value, known: np.ndarray) -> float:
    """A bound on the error of the roots of known numbers: ``sqrt(a)`` changes by ``d / (sqrt(a) + sqrt(a + d))``."""
    if not a.error:
        return 0.0
    least = float(known[np.isfinite(known)].min(initial=np.inf))
    return a.error / least**0.5 if least > a.error else np.inf


def _has_positive(a: Value, axes: tuple[int, ...]) -> bool:
    """Whether each sum along the axes is positive: a sum of positive entries, or of exponentials and zeros."""
    if a.positive:
        return True
    if a.nonnegative and a.sure is not None and np.broadcast_to(a.sure, a.shape).any(axes).all():
        return True
    if not a.nonnegative or not a.log or a.rest is None:
        return False
    bare = (a.rest.x.re == 1) & (a.rest.x.imaginary() == 0)
    return bool(np.broadcast_to(bare, a.shape).any(axes).all())


def _special_sum(special: np.ndarray, axes: tuple[int, ...]) -> np.ndarray | None:
    """The specials of a sum: NaN if an entry is NaN or both infinities occur, else the infinity that occurs."""
    if (special == OPAQUE).any():
        raise Unsupported("a sum of non-finite numbers")
    above, below, nan = ((special == code).any(axes) for code in (INFINITY, -INFINITY, NAN))
    total = np.where(nan | (above & below), NAN, np.where(above, INFINITY, np.where(below, -INFINITY, 0)))
    return total.astype(np.int8) if total.any() else None


def _take(v: Value, index) -> Value:
    return moved(v, lambda part: np.asarray(part[index]))


def _constant_along(x: Elements, axes: tuple[int, ...]) -> bool:
    def constant(part: np.ndarray) -> bool:
        first = part[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(part.ndim))]
        return bool((part == first).all())

    return constant(x.re) and (x.im is None or constant(x.im))
