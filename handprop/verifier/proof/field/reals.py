"""Tests, at a real point, of the claim that two values are equal almost nowhere.

The field sees that an analytic function of the inputs and a number differ as functions of the elements that stand for
exponentials, sines and the like, which are independent of one another in the field. The two may still be equal, by an
identity that the field does not know: ``exp(x / 3) ** 3 - exp(x)`` is zero. An analytic function that is nonzero at one
point is zero almost nowhere. So a run is followed at a real point, with its decisions. Each field element stands for a
real number, its negative for the negative of that number, and operations that move or choose elements move and choose
numbers. Two sides differ if their difference is more than a thousand times the change in it that is due to relative
noise of size ``NOISE`` in each operation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.programs import jaxprs, widen
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.proof.field.hashing import mix
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value

__all__ = ["Reals"]

COPIES = 3  # one without noise and two with it
NOISE, CLEAR = 1e-9, 1e3
SMALLEST = 1e-290


class _NoNumberError(Exception):
    """No real number is known for an operand."""


class Reals:
    """An observer of a run that keeps the real numbers that elements stand for.

    A root of a square has the sign that the run decided, which need not be that of the real root here, so no number is
    kept for it.
    """

    def __init__(self, rng: np.random.Generator, p: int):
        self.rng, self.p, self.kept, self.seen = rng, p, Table(), 0
        self.run: Any = None  # the run that is observed

    def given(self, thing: Thing, numbers: np.ndarray) -> None:
        """Keep an input with the numbers that it stands for."""
        if isinstance(thing, Value):
            self._keep(thing, [numbers] * COPIES)

    def __call__(self, eqn: Any, operands: list[Thing], step: Callable[..., list]) -> list[Thing]:
        for thing in operands:
            if isinstance(thing, Value) and thing.known is not None:
                self._keep(thing, [thing.known] * COPIES)
        self.seen += 1
        before, signed, outputs = self.seen, self.run.signed, step(eqn, operands)
        if self.seen > before:  # the equations of a program that it calls were followed one by one
            return outputs
        new = [i for i, thing in enumerate(outputs) if isinstance(thing, Value) and not self._all_known(thing)]
        if new and not has(eqn, Trait.CHOOSES) and self.run.signed == signed:
            try:
                held = [self._of(thing) if isinstance(thing, Value) else None for thing in operands]
                copies = [self._computed(eqn, operands, held, k) for k in range(COPIES)]
                for i in new:
                    kept = [computed[i] for computed in copies]
                    if has(eqn, Trait.SCALES):
                        kept = [self._in_range(outputs[i], numbers) for numbers in kept]
                    self._keep(outputs[i], kept)
            except Exception as error:  # whatever a primitive raises at a point of its own: it is not known
                noted(error, "an equation at a real point")
        return outputs

    def apart(self, claims: Sequence[tuple[Value, Value]]) -> bool:
        """Whether all entries of each pair that is claimed to differ almost everywhere differ here."""
        for a, b in claims:
            left, right = self._of(a), self._of(b)
            if left is None or right is None:
                return False
            clean, *noisy = (x - y for x, y in zip(left, right, strict=True))
            unclear = CLEAR * np.max([np.abs(d - clean) for d in noisy], axis=0)
            same = (a.x.re == b.x.re) & (a.x.imaginary() == b.x.imaginary())
            if not ((np.abs(clean) > unclear) | same).all():
                return False
        return True

    def _computed(self, eqn: Any, operands: list[Thing], held: list[np.ndarray | None], k: int) -> list[np.ndarray]:
        with jax.enable_x64(True):
            numbers = [self._number(thing, var.aval, copies, k)
                       for thing, var, copies in zip(operands, eqn.invars, held, strict=True)]  # fmt: skip
            outputs = [np.asarray(jaxprs.widened(x)) for x in widen.wide_step(eqn, numbers)]
        noise = NOISE if k and not has(eqn, Trait.EXACT) else 0.0
        return [x * (1 + noise * self.rng.uniform(-1, 1, x.shape)) if x.dtype == np.float64 else x for x in outputs]

    def _in_range(self, thing: Value, numbers: np.ndarray) -> np.ndarray:
        """The numbers, with NaN where they left the range of floats and a nonzero number would seem to be zero."""
        zero = (thing.x.re == 0) if thing.x.im is None else np.zeros(thing.shape, bool)
        with np.errstate(all="ignore"):
            return np.where((np.abs(numbers) < SMALLEST) & ~zero, np.nan, numbers)

    def _number(self, thing: Thing, aval: Any, copies: np.ndarray | None, k: int) -> Any:
        if not isinstance(thing, Value):
            return thing
        if copies is None:
            raise _NoNumberError
        found = copies[k]
        for special, number in ((1, np.inf), (-1, -np.inf), (2, np.nan)) if thing.special is not None else ():
            found = np.where(thing.special == special, number, found)
        return np.asarray(found, None if jaxprs.is_float(aval.dtype) else aval.dtype)

    def _canonical(self, thing: Value) -> tuple[np.ndarray, np.ndarray]:
        """Keys that identify the elements up to sign, and the signs."""
        re, im = thing.x.re.ravel(), np.broadcast_to(thing.x.imaginary(), thing.shape).ravel()
        negative = np.where(im == 0, re, im) > self.p // 2
        re, im = (np.where(negative & (part > 0), self.p - part, part) for part in (re, im))
        words = (mix(re, im) >> np.uint64(2)).astype(np.int64) + (1 << 61)
        return np.where(im == 0, re, words), np.where(negative, -1.0, 1.0)

    def _keep(self, thing: Value, copies: list[np.ndarray]) -> None:
        finite = thing.finite.ravel()
        keys, signs = self._canonical(thing)
        rows = np.stack([np.broadcast_to(np.asarray(x, np.float64), thing.shape).ravel() for x in copies], axis=1)
        self.kept.add(keys[finite], (rows * signs[:, None])[finite])

    def _all_known(self, thing: Value) -> bool:
        if thing.known is not None:
            return True
        return bool((self.kept.has(self._canonical(thing)[0]) | ~thing.finite.ravel()).all())

    def _of(self, thing: Value) -> np.ndarray | None:
        """The numbers that its elements stand for, with the copies along the first axis; None if one is not known."""
        if thing.known is not None:
            return np.broadcast_to(thing.known, (COPIES, *thing.shape))
        keys, signs = self._canonical(thing)
        rows, found = self.kept.find(keys)
        if not (found | ~thing.finite.ravel()).all():
            return None
        return (rows * signs[:, None]).T.reshape(COPIES, *thing.shape)


class Table:
    """A hash table of rows by integer key, with open addressing and linear probing. A key keeps the row it got first.

    >>> table = Table()
    >>> table.add(np.array([7, 9]), np.array([[1.0, 2, 3], [4, 5, 6]]))
    >>> rows, found = table.find(np.array([9, 8]))
    >>> rows[0].tolist(), found.tolist()
    ([4.0, 5.0, 6.0], [True, False])
    """

    def __init__(self):
        self.count, self.rows = 0, np.empty((1 << 10, COPIES))
        self._empty(12)

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which keys have a row."""
        return self.keys[self._slots(keys)] == keys

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of each key, arbitrary if there is none, and which keys were found."""
        slots = self._slots(keys)
        return self.rows[self.at[slots]], self.keys[slots] == keys

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        absent = ~self.has(keys)
        keys, rows, end = keys[absent], rows[absent], self.count + int(absent.sum())
        if 2 * end > len(self.keys):
            self._grow(end)
        if end > len(self.rows):
            self.rows = np.concatenate([self.rows[: self.count], np.empty((end, COPIES))])
        self.rows[self.count : end] = rows
        self._put(keys, np.arange(self.count, end))
        self.count = end

    def _put(self, keys: np.ndarray, at: np.ndarray) -> None:
        while len(keys):
            slots = self._slots(keys)
            self.keys[slots] = keys  # if several want one slot, the last one gets it
            won = self.keys[slots] == keys
            self.at[slots[won]] = at[won]
            keys, at = keys[~won], at[~won]

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        """The slot where each key is or would be put."""
        mask = len(self.keys) - 1
        slots = keys & mask
        wrong = np.flatnonzero((self.keys[slots] >= 0) & (self.keys[slots] != keys))
        while len(wrong):
            slots[wrong] = (slots[wrong] + 1) & mask
            held = self.keys[slots[wrong]]
            wrong = wrong[(held >= 0) & (held != keys[wrong])]
        return slots

    def _grow(self, count: int) -> None:
        held = self.keys >= 0
        keys, at = self.keys[held], self.at[held]
        self._empty((4 * count).bit_length())
        self._put(keys, at)

    def _empty(self, bits: int) -> None:
        self.keys, self.at = np.full(1 << bits, -1, np.int64), np.zeros(1 << bits, np.int64)
