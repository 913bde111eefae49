"""Record every equation of a program as it is evaluated, and recognize values that another program computes too.

A value is recognized by its set of distinct nonzero entries, up to a rational factor. Transposing, reshaping,
broadcasting and scaling do not change ``(s2 / s1^2, s3 / s1^3)``, where s_k is the sum of k-th powers over that set.
A constant, such as a mask, is recognized by its entries in their order, since a mask's set of entries is always {1}.
"""

from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.programs import frames, jaxprs
from handprop.verifier.programs.primitives import TABLE, Acts, Trait, named
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.truth import Thing
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation, rational, run_on

__all__ = ["LOOPS", "Known", "Step", "record"]

SMALL = 1 << 12
LOOPS = {name for name, row in TABLE.items() if row.acts is Acts.CALLS} - named(Trait.INLINED)


class Step(NamedTuple):
    """One run of an equation: its operands and outputs, and the user's frames, innermost first.

    ``again`` is True if the equation ran before, as in a later iteration of a loop.
    """

    name: str
    operands: tuple[Thing, ...]
    outputs: tuple[Thing, ...]
    frames: tuple[frames.Frame, ...]
    again: bool = False


def record(interpretation: Interpretation, program: Any) -> tuple[tuple[Value, ...], list[Step]]:
    """Return the program's outputs, and its equations in the order they ran.

    A loop is one more step, after the steps of its iterations.
    """
    steps: list[Step] = []
    ran: set[int] = set()
    inside: list[tuple[frames.Frame, ...]] = []  # frames of calls to JAX's own functions

    def observer(eqn: Any, operands: list[Thing], step: Any) -> list[Thing]:
        own = inside[-1] if inside else tuple(frames.user_frames(eqn))
        calls = jaxprs.called_program(eqn) is not None
        hides = calls and jaxprs.of_jax(eqn)
        before = len(steps)
        again = id(eqn) in ran
        ran.add(id(eqn))
        if hides:
            inside.append(own)
        outputs = step(eqn, operands)
        if hides:
            inside.pop()
        if eqn.primitive.name in LOOPS:
            within = tuple(o for s in steps[before:] for o in s.outputs)
            steps.append(Step(eqn.primitive.name, (*operands, *within), tuple(outputs), own, again))
        elif not calls or len(steps) == before:
            steps.append(Step(eqn.primitive.name, tuple(operands), tuple(outputs), own, again))
        return outputs

    return run_on(interpretation, program, observer), steps


class Known:
    """The values of a program. It tells whether another value is one of them, or a multiple of one."""

    def __init__(self, interpretation: Interpretation):
        self.field, self.numbers = interpretation.field, interpretation.numbers
        self.scales: dict[tuple[int, int], list[int]] = {}
        self.constants: set[tuple] = set()
        self.memo: dict[int, Any] = {}
        self.kept: list[Value] = []

    def add(self, value: Thing) -> None:
        if (not self.numbers or not isinstance(value, Value)) and (constant := _entries(value)):
            self.constants.add(constant)
        if isinstance(value, Value) and (mark := self._mark(value)):
            scales = self.scales.setdefault(mark[0], [])
            if mark[1] not in scales:
                scales.append(mark[1])

    def ratio(self, value: Thing) -> tuple[int, int] | None:
        """Return numerator and denominator of the value's ratio to a known one.

        The result is (1, 1) if the value itself is known, (0, 1) if it is a multiple of a known value but not by a
        small fraction, and None if it is not known.
        """
        if not isinstance(value, Value):
            return None if self.lacks(value) else (1, 1)
        if value.known is not None and not self.numbers:
            return (1, 1)
        mark = self._mark(value)
        if mark is None:
            return (1, 1)  # all zero
        scales = self.scales.get(mark[0], [])
        if mark[1] in scales:
            return (1, 1)
        for scale in scales[:64]:
            found = rational(self.field.p, mark[1] * pow(scale, -1, self.field.p))
            if found and max(abs(found[0]), found[1]) <= SMALL:
                return found
        return (0, 1) if scales else None

    def holds(self, value: Value) -> bool:
        """Whether the value itself is known, and is neither zero nor the same number throughout."""
        if value.known is not None and not self.numbers:
            return _entries(value) in self.constants
        mark = None if value.special is not None else self._mark(value)
        return mark is not None and mark[1] in self.scales.get(mark[0], [])

    def lacks(self, thing: Thing) -> bool:
        """Whether this is an array of integers or booleans that is not known, nor its complement, while another one of
        its shape is."""
        if not isinstance(thing, np.ndarray) or (entries := _entries(thing)) is None:
            return False
        ways = {entries, _entries(~thing)} if thing.dtype == bool else {entries}
        return self.constants.isdisjoint(ways) and any(shape == entries[0] for shape, _ in self.constants)

    def _mark(self, value: Value) -> tuple[tuple[int, int], int] | None:
        if id(value) not in self.memo:
            self.kept.append(value)
            self.memo[id(value)] = self._marked(value)
        return self.memo[id(value)]

    def _marked(self, value: Value) -> tuple[tuple[int, int], int] | None:
        f = self.field
        if value.x.im is not None and value.x.im.any():
            pairs = np.unique(np.stack([value.x.re.ravel(), value.x.im.ravel()]), axis=1)
            re = f.add(Elements(pairs[0]), f.scale(Elements(pairs[1]), 1234577)).re
        else:
            re = np.unique(value.x.re)
        x = Elements(re[re != 0])
        if not x.size:
            return None
        square = f.mul(x, x)
        sums = [int(f.sum(power, (0,)).re) for power in (x, square, f.mul(square, x))]
        inverse = pow(sums[0], -1, f.p) if sums[0] else 0
        return (sums[1] * inverse**2 % f.p, sums[2] * inverse**3 % f.p), sums[0]


def _entries(thing: Thing) -> tuple | None:
    """What a constant is recognized by: its entries, without axes along which they stay the same; None if all do."""
    array = thing.known if isinstance(thing, Value) else thing
    if not isinstance(array, np.ndarray) or array.size < 2 or array.dtype.kind not in "biuf":
        return None
    for axis in reversed(range(array.ndim)):
        first = array.take([0], axis)
        array = first[(slice(None),) * axis + (0,)] if (array == first).all() else array
    return (array.shape, array.astype(np.float64).tobytes()) if array.ndim else None
