"""What is taken to be equal almost nowhere, tried at a real point.

The field sees that an analytic function of the inputs and a number differ as functions of what stands for exponentials,
sines and their like, which are independent there. By an identity that the field does not know they may be one all the
same: ``exp(x / 3) ** 3 - exp(x)`` is zero. An analytic function that is not zero at one point is zero almost nowhere.
So a run is followed at a real point, with its decisions: each field element stands for a real number, its negative for
that number's, and what moves or chooses elements moves and chooses numbers. Two sides are apart where they differ by
more than a thousand times what noise in each operation, of a size of ``NOISE``, changes in the difference.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.field.truth import Thing
from handprop.verify.field.values import Value

__all__ = ["Reals"]

COPIES = 3  # without noise, and twice with it
NOT_FINITE = (np.nan,) * COPIES
NOISE, CLEAR = 1e-9, 1e3
# They choose by decisions, which at the real point may be others: what they return is an operand's element.
CHOOSE = {"abs", "argmax", "argmin", "clamp", "cummax", "cummin", "max", "min", "reduce_max", "reduce_min",
          "reduce_window_max", "reduce_window_min", "sign", "sort", "top_k"}  # fmt: skip


class Reals:
    """An observer of a run, which keeps the real numbers that its elements stand for."""

    def __init__(self, rng: np.random.Generator, p: int):
        self.rng, self.p, self.kept = rng, p, dict[int, tuple[float, ...]]()

    def given(self, thing: Thing, numbers: np.ndarray) -> None:
        """An input, with the numbers that it stands for."""
        if isinstance(thing, Value):
            self._keep(thing, [numbers] * COPIES)

    def __call__(self, eqn: Any, operands: list[Thing], step: Callable[..., list]) -> list[Thing]:
        for thing in operands:
            if isinstance(thing, Value) and thing.known is not None:
                self._keep(thing, [thing.known] * COPIES)
        outputs = step(eqn, operands)
        new = [i for i, thing in enumerate(outputs) if isinstance(thing, Value) and self._of(thing) is None]
        if new and eqn.primitive.name not in CHOOSE:
            with contextlib.suppress(Exception):  # whatever a primitive raises at a point of its own: it is not known
                copies = [self._computed(eqn, operands, k) for k in range(COPIES)]
                for i in new:
                    self._keep(outputs[i], [computed[i] for computed in copies])
        return outputs

    def apart(self, claims: Sequence[tuple[Value, Value]]) -> bool:
        """Whether of each two that are claimed to differ almost everywhere all entries differ here."""
        for a, b in claims:
            left, right = self._of(a), self._of(b)
            if left is None or right is None:
                return False
            clean, *noisy = (x - y for x, y in zip(left, right, strict=True))
            unclear = CLEAR * np.max([np.abs(d - clean) for d in noisy], axis=0)
            if not ((np.abs(clean) > unclear) | (a.x.re == b.x.re)).all():
                return False
        return True

    def _computed(self, eqn: Any, operands: list[Thing], k: int) -> list[np.ndarray]:
        with jax.enable_x64(True):
            numbers = [self._number(thing, var.aval, k) for thing, var in zip(operands, eqn.invars, strict=True)]
            outputs = [np.asarray(jaxprs.widened(x)) for x in jaxprs.wide_step(eqn, numbers)]
        noise = NOISE if k and eqn.primitive.name not in jaxprs.EXACT else 0.0
        return [x * (1 + noise * self.rng.uniform(-1, 1, x.shape)) if x.dtype == np.float64 else x for x in outputs]

    def _number(self, thing: Thing, aval: Any, k: int) -> Any:
        if not isinstance(thing, Value):
            return thing
        copies = self._of(thing)
        if copies is None:
            raise LookupError("no number is known")
        found = copies[k]
        for special, number in ((1, np.inf), (-1, -np.inf), (2, np.nan)) if thing.special is not None else ():
            found = np.where(thing.special == special, number, found)
        return np.asarray(found, None if jaxprs.is_float(aval.dtype) else aval.dtype)

    def _keep(self, thing: Value, copies: list[np.ndarray]) -> None:
        flat = [np.broadcast_to(np.asarray(x, np.float64), thing.shape).ravel().tolist() for x in copies]
        if thing.x.im is not None:
            return
        for residue, finite, *numbers in zip(thing.x.re.ravel().tolist(), thing.finite.ravel(), *flat, strict=True):
            if finite:
                self.kept.setdefault(residue, tuple(numbers))
                self.kept.setdefault(self.p - residue, tuple(-x for x in numbers))

    def _of(self, thing: Value) -> np.ndarray | None:
        """The numbers that its elements stand for, a first axis of all copies; None where one is not known."""
        if thing.known is not None:
            return np.broadcast_to(thing.known, (COPIES, *thing.shape))
        if thing.x.im is not None:
            return None
        entries = zip(thing.x.re.ravel().tolist(), thing.finite.ravel(), strict=True)
        found = [self.kept.get(residue) if finite else NOT_FINITE for residue, finite in entries]
        return None if None in found else np.array(found).reshape(-1, COPIES).T.reshape(COPIES, *thing.shape)
