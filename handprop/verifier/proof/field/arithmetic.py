"""Exact vector arithmetic modulo a prime below 2^50, and in the extension of GF(p) that contains its square roots.

An element is ``re + i im`` with ``i^2 = -1``. The prime is 3 modulo 4, so -1 has no root in GF(p), and ``GF(p)(i)`` is
the field with p^2 elements, in which every element of GF(p) has a root. ``im`` is None while all of it is zero, which
is the case everywhere before the first root.

Products: in float64, ``q = floor(a b / p)`` is off by at most one for ``p < 2^50`` (three roundings of a quotient below
2^50), and ``a b - q p`` is exact modulo 2^64. Matrix products: residues are split into three limbs of 17 bits, whose
products sum exactly in float64 over up to 2^19 terms, so matrix products run at the speed of BLAS.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from handprop.verifier.proof.field.errors import Unsupported

__all__ = ["POSITIVE", "Elements", "Field", "draw_prime", "is_prime", "reconstructed"]

# Small primes that are squares modulo every prime drawn here, as they are squares over the reals.
SMALL = 1 << 20
POSITIVE = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
LOW, HIGH = 1 << 49, 1 << 50
LIMB, LIMBS = 17, 3
BLOCK = 1 << 15
FEW, MAX_SQUARED = 64, 64


def is_prime(n: int) -> bool:
    """Miller–Rabin test with bases that decide every n below 3.3e24 (Sorenson and Webster, 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if n < 2 or any(n % base == 0 for base in bases):
        return n in bases
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    return all(_strong_probable_prime(n, base, (n - 1) >> twos, twos) for base in bases)


def _strong_probable_prime(n: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, n)
    if power in (1, n - 1):
        return True
    return any((power := power * power % n) == n - 1 for _ in range(twos - 1))


PRIMES = 2.0**31.8
"""At most as many as there are primes that :func:`draw_prime` draws from: about ``2^49 / 34.3 / 4 / 2^10 = 2^31.9``."""


def draw_prime(rng: np.random.Generator) -> int:
    """A random prime ``p`` between 2^49 and 2^50, 7 modulo 8, modulo which every prime up to 31 is a square.

    More than 2^31.8 primes qualify, so a given nonzero integer below 2^H is divisible by the one drawn with
    probability at most ``H / 49 / PRIMES``.
    """
    while True:
        residue, modulus = 7, 8
        for prime in POSITIVE[1:]:
            # By reciprocity for p = 3 mod 4: (prime / p) = (p / prime) for prime = 1 mod 4, else -(p / prime).
            wanted = 1 if prime % 4 == 1 else prime - 1
            classes = [r for r in range(1, prime) if pow(r, (prime - 1) // 2, prime) == wanted]
            target = classes[rng.integers(len(classes))]
            residue += modulus * ((target - residue) * pow(modulus, -1, prime) % prime)
            modulus *= prime
        p = residue + modulus * int(rng.integers((LOW - residue) // modulus + 1, (HIGH - residue) // modulus))
        if is_prime(p):
            return p


class Elements(NamedTuple):
    """Field elements ``re + i im``: int64 arrays of residues; ``im`` is None if it is all zero."""

    re: np.ndarray
    im: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.re.shape

    @property
    def size(self) -> int:
        return self.re.size

    def move(self, f: Callable[[np.ndarray], np.ndarray]) -> "Elements":
        """``f``, which only moves entries, applied to both parts."""
        return Elements(f(self.re), None if self.im is None else f(self.im))

    def imaginary(self) -> np.ndarray:
        return np.zeros_like(self.re) if self.im is None else self.im


class Field:
    """Arithmetic modulo one prime. Methods take and return :class:`Elements`; shapes broadcast as in NumPy."""

    def __init__(self, p: int):
        self.p = p

    def of(self, numbers) -> Elements:
        """Integers of any size as elements."""
        array = np.asarray(numbers)
        if array.dtype == object:
            return Elements(np.vectorize(lambda n: int(n) % self.p, otypes=[np.int64])(array))
        if array.dtype == np.uint64:
            return Elements(np.asarray((array % np.uint64(self.p)).astype(np.int64)))
        return Elements(np.asarray(array.astype(np.int64) % self.p))

    def ratio(self, numerator: int, denominator: int) -> int:
        return numerator * pow(denominator, -1, self.p) % self.p

    def small_ratio(self, residue: int) -> Fraction | None:
        """The fraction with numerator and denominator below 2^20 that is this residue."""
        numerator, denominator = reconstructed(self.p, residue, SMALL - 1)
        return Fraction(numerator, denominator) if 0 < abs(denominator) < SMALL else None

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Elements:
        return Elements(rng.integers(self.p, size=shape, dtype=np.int64))

    # GF(p)

    def _reduce(self, r: np.ndarray) -> np.ndarray:
        """From (-p, 2p) into [0, p)."""
        r = np.where(r < 0, r + self.p, r)
        return np.where(r >= self.p, r - self.p, r)

    def _add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r = np.asarray(np.add(a, b))
        return np.where(r >= self.p, r - self.p, r)

    def _sub(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r = np.asarray(np.subtract(a, b))
        return np.where(r < 0, r + self.p, r)

    def _mul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if max(a.size, b.size) <= BLOCK // 8:
            return self._mul_block(a, b)
        a, b = np.broadcast_arrays(a, b)
        out = np.empty(a.shape, np.int64)
        flat, a, b = out.reshape(-1), a.reshape(-1), b.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            block = slice(start, start + BLOCK)
            flat[block] = self._mul_block(a[block], b[block])
        return out

    def _mul_block(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        q = (a.astype(np.float64) * b.astype(np.float64) * (1.0 / self.p)).astype(np.int64)
        return self._reduce(np.subtract(np.multiply(a, b), np.multiply(q, np.int64(self.p))))

    def _pow(self, a: np.ndarray, exponent: int) -> np.ndarray:
        if a.size <= FEW and exponent > MAX_SQUARED:
            return self._each(a, exponent)
        result = np.ones_like(a)
        for bit in bin(exponent)[2:]:
            result = self._mul(result, result)
            if bit == "1":
                result = self._mul(result, a)
        return result

    def _each(self, a: np.ndarray, exponent: int) -> np.ndarray:
        """Powers in Python integers, which for a few entries are faster than fifty products of arrays."""
        return np.array([pow(int(x), exponent, self.p) for x in a.reshape(-1)], np.int64).reshape(a.shape)

    def _inv(self, a: np.ndarray) -> np.ndarray:
        """Inverses of nonzero entries by a tree of products: about six products per entry, until only a few are
        left."""
        if a.size <= FEW:
            return self._each(a, -1)
        flat = a.reshape(-1)
        if flat.size % 2:
            flat = np.append(flat, 1)
        even, odd = flat[::2], flat[1::2]
        inverse = self._inv(self._mul(even, odd))
        out = np.empty_like(flat)
        out[::2], out[1::2] = self._mul(inverse, odd), self._mul(inverse, even)
        return out[: a.size].reshape(a.shape)

    # GF(p^2)

    def add(self, a: Elements, b: Elements) -> Elements:
        re = self._add(a.re, b.re)
        if a.im is None and b.im is None:
            return Elements(re)
        return Elements(re, self._add(*np.broadcast_arrays(a.imaginary(), b.imaginary())))

    def neg(self, a: Elements) -> Elements:
        return a.move(lambda part: np.where(part == 0, 0, self.p - part))

    def sub(self, a: Elements, b: Elements) -> Elements:
        return self.add(a, self.neg(b))

    def mul(self, a: Elements, b: Elements) -> Elements:
        re = self._mul(a.re, b.re)
        if a.im is None and b.im is None:
            return Elements(re)
        if b.im is None or a.im is None:
            real, other = (b, a) if b.im is None else (a, b)
            return Elements(re, self._mul(real.re, other.imaginary()))
        im = self._add(self._mul(a.re, b.im), self._mul(a.im, b.re))
        return Elements(self._sub(re, self._mul(a.im, b.im)), im)

    def scale(self, a: Elements, factor: int) -> Elements:
        number = np.asarray(factor % self.p, np.int64)
        return a.move(lambda part: self._mul(part, number))

    def is_zero(self, a: Elements) -> np.ndarray:
        return (a.re == 0) if a.im is None else (a.re == 0) & (a.im == 0)

    def inv(self, a: Elements, of_zero: int = 0) -> Elements:
        """``1 / a``, with ``of_zero`` where a is zero."""
        zero = self.is_zero(a)
        if a.im is None:
            re = self._inv(np.where(zero, 1, a.re))
            return Elements(np.where(zero, of_zero, re))
        norm = self._add(self._mul(a.re, a.re), self._mul(a.im, a.im))
        scale = self._inv(np.where(zero, 1, norm))
        re, im = self._mul(a.re, scale), self._mul(np.where(a.im == 0, 0, self.p - a.im), scale)
        return Elements(np.where(zero, of_zero, re), np.where(zero, 0, im))

    def power(self, a: Elements, exponent: int, of_zero: int = 0) -> Elements:
        if exponent < 0:
            return self.power(self.inv(a, of_zero), -exponent)
        if a.im is None:
            return Elements(self._pow(a.re, exponent))
        result = Elements(np.ones_like(a.re))
        for bit in bin(exponent)[2:]:
            result = self.mul(result, result)
            if bit == "1":
                result = self.mul(result, a)
        return result

    def is_square(self, a: np.ndarray) -> np.ndarray:
        """Whether entries of GF(p) are squares (0 is)."""
        root = self._pow(a, (self.p + 1) // 4)
        return self._mul(root, root) == a

    def sqrt(self, a: np.ndarray) -> Elements:
        """The root of each entry of GF(p): for a square, the root that is itself a square, else ``i sqrt(-a)``.

        ``a^((p+1)/4)`` squares to ``a`` or ``-a``, and it is a square where ``a`` is. So roots of squares are
        multiplicative, and ``sqrt(x^2)`` is ``x`` if x is a square, else ``-x``: squares play the part of positive
        numbers.
        """
        root = self._pow(a, (self.p + 1) // 4)
        square = self._mul(root, root) == a
        if square.all():
            return Elements(root)
        of_negative = self._pow(np.where(a == 0, 0, self.p - a), (self.p + 1) // 4)
        return Elements(np.where(square, root, 0), np.where(square, 0, of_negative))

    def sum(self, a: Elements, axes: tuple[int, ...]) -> Elements:
        return a.move(lambda part: self._sum(part, axes))

    def _sum(self, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        low = np.asarray(np.sum(a & 0x1FFFFFF, axis=axes)) % self.p
        high = np.asarray(np.sum(a >> 25, axis=axes)) % self.p
        return self._add(low, self._mul(high, np.asarray(1 << 25, np.int64)))

    def prod(self, a: Elements, axis: int) -> Elements:
        a = a.move(lambda part: np.moveaxis(part, axis, 0))
        if a.shape[0] == 0:
            return Elements(np.ones(a.shape[1:], np.int64))
        while (n := a.shape[0]) > 1:
            half = self.mul(a.move(lambda part: part[: n // 2]), a.move(lambda part: part[n // 2 : n // 2 * 2]))
            rest = a.move(lambda part: part[n // 2 * 2 :])
            a = self.concatenate([half, rest], 0) if rest.shape[0] else half
        return a.move(lambda part: part[0])

    def concatenate(self, parts: list[Elements], axis: int) -> Elements:
        re = np.concatenate([part.re for part in parts], axis)
        if all(part.im is None for part in parts):
            return Elements(re)
        return Elements(re, np.concatenate([part.imaginary() for part in parts], axis))

    def bilinear(self, a: Elements, b: Elements, product: Callable, terms: int) -> Elements:
        """``product(a, b)`` for any bilinear map of float64 arrays that sums at most ``terms`` products per entry."""
        if terms >= 1 << (53 - 2 * LIMB):
            raise Unsupported(f"a sum of {terms} products, too long for exact arithmetic: at most 2^{53 - 2 * LIMB}")
        re = self._bilinear(a.re, b.re, product)
        if a.im is None and b.im is None:
            return Elements(re)
        if b.im is None or a.im is None:
            pair = (a.re, b.im) if a.im is None else (a.im, b.re)
            return Elements(re, self._bilinear(*pair, product))  # pyright: ignore[reportArgumentType]
        im = self._add(self._bilinear(a.re, b.im, product), self._bilinear(a.im, b.re, product))
        return Elements(self._sub(re, self._bilinear(a.im, b.im, product)), im)

    def _bilinear(self, a: np.ndarray, b: np.ndarray, product: Callable) -> np.ndarray:
        left, right = _limbs(a), _limbs(b)
        total = None
        for position in reversed(range(2 * LIMBS - 1)):
            pairs = [(i, position - i) for i in range(LIMBS) if 0 <= position - i < LIMBS]
            part = None
            for i, j in pairs:
                exact = np.asarray(product(left[i], right[j])).astype(np.int64) % self.p
                part = exact if part is None else self._add(part, exact)
            assert part is not None
            total = part if total is None else self._add(self._mul(total, np.asarray(1 << LIMB, np.int64)), part)
        assert total is not None
        return total

    def linear(self, a: Elements, f: Callable) -> Elements:
        """``f(a)`` for any linear map of float64 arrays with coefficients 0 and 1 that sums at most 2^27 entries."""
        return a.move(lambda part: self._linear(part, f))

    def _linear(self, a: np.ndarray, f: Callable) -> np.ndarray:
        low = np.asarray(f((a & 0x1FFFFFF).astype(np.float64))).astype(np.int64) % self.p
        high = np.asarray(f((a >> 25).astype(np.float64))).astype(np.int64) % self.p
        return self._add(low, self._mul(high, np.asarray(1 << 25, np.int64)))


def _limbs(a: np.ndarray) -> list[np.ndarray]:
    return [((a >> (LIMB * i)) & ((1 << LIMB) - 1)).astype(np.float64) for i in range(LIMBS)]


def reconstructed(p: int, residue: int, most: int) -> tuple[int, int]:
    """Numerator and denominator of the fraction with this residue and a numerator up to ``most``, by Euclid's algorithm
    (Wang 1981)."""
    r, s, t, u = p, residue % p, 0, 1
    while s > most:
        r, s, t, u = s, r % s, u, t - r // s * u
    return s, u
