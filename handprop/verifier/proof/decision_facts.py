"""What is known about the decisions that a value rests on; see :mod:`handprop.verifier.proof.decision_bits`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from handprop.verifier.programs.jaxprs import is_float
from handprop.verifier.programs.primitives import Kind

__all__ = ["UNBOUNDED", "Axes", "Fact", "Label", "decided", "elementwise", "over", "own", "relabelled",
           "spread_out", "text_of"]  # fmt: skip

# A label names an array of decisions that a value rests on: first what decides, then one item for each axis of the
# value. The item is the axis of the decisions' array along which the value's axis runs, or None where all entries along
# the value's axis share one decision. For x of shape (2, 3), x > 0 has the axes (0, 1) and its transpose has (1, 0).
Axes: TypeAlias = "tuple[int | None, ...]"
Label: TypeAlias = "tuple[Any, Axes]"


class Fact(NamedTuple):
    """What is known about one value.

    ``name``: equal for values that are computed in the same way. ``known``: the field carries the numeric value. It
    does for constants, for integers that are given, and for results of these that are not floats or that
    ``decision_bits._keeps`` names. ``bits``: the most bits of decisions in one term. ``support``: all decisions that an
    entry depends on, with their bits. ``kind``: as in the field. ``most``: the largest magnitude, for integers.
    ``opposite``: the name of the value whose negative this is.
    """

    name: int
    known: bool = False
    bits: float = 0.0
    support: "dict[Label, float]" = {}  # noqa: RUF012 (never mutated)
    kind: Kind = Kind.RATIONAL
    most: float = math.inf
    opposite: int | None = None

    @property
    def weight(self) -> float:
        return math.fsum(self.support.values())

    def capped(self) -> "Fact":
        return self if self.bits == math.inf else self._replace(bits=min(self.bits, self.weight))

    def nonlinear(self) -> "Fact":
        return self._replace(bits=self.weight if self.bits else 0.0)


UNBOUNDED = Fact(0, bits=math.inf)


def decided(eqn: Any, fact: Fact, support: "dict[Label, float]", label: Label, bits: float) -> Fact:
    """Add one decision to all that the operand rests on, or none where known integers are ordered."""
    support = {**support, label: bits} if is_float(eqn.invars[0].aval.dtype) else support
    return fact._replace(support=support, bits=math.fsum(support.values()))


def over(fact: Fact, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool = False) -> "dict[Label, float]":
    """The decisions of all entries along the axes, taken together. With ``keep`` the axes remain, and each entry along
    them rests on all of these decisions."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        over = tuple(i for i in axes if along[i] is not None)
        kept = tuple(None if i in axes else x for i, x in enumerate(along) if keep or i not in axes)
        label = ((base, "over", along, over) if over else base, kept)
        support[label] = support.get(label, 0.0) + weight * math.prod(shape[i] for i in over)
    return support


def text_of(params: dict) -> str:
    """Parameters as text; callables, whose text does not identify them, by their ids."""
    return " ".join(f"{k}={id(v) if callable(v) else v}" for k, v in sorted(params.items()))


def elementwise(eqn: Any, facts: list[Fact], shapes: list, bits: float) -> Fact:
    rank = len(eqn.outvars[0].aval.shape)
    support: dict[Label, float] = {}
    for fact, shape in zip(facts, shapes, strict=True):
        for (base, along), weight in fact.support.items():
            support[base, along if len(shape) == rank else (None,) * rank] = weight
    return facts[0]._replace(bits=bits, support=support)


def own(base: Any, eqn: Any) -> Label:
    """The label of this equation's own decisions, one for each entry of its result."""
    return base, tuple(range(len(eqn.outvars[0].aval.shape)))


def relabelled(fact: Fact, place: Callable[[Axes], Axes], mark: Any = None) -> Fact:
    """The same decisions along other axes. With ``mark``, decisions that vary along the first axis become new ones."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        other = (base, along[0], mark) if mark is not None and along and along[0] is not None else base
        label = (other, place(along))
        support[label] = support.get(label, 0.0) + weight
    return fact._replace(support=support)


def spread_out(eqn: Any, facts: list[Fact]) -> Fact:
    """A sum over places: each entry of the result may depend on the decisions of all entries of the operands."""
    fact = facts[-1] if len(facts) > 1 else facts[0]
    size = math.prod(eqn.invars[0].aval.shape)
    label = own((eqn.primitive.name, fact.name, text_of(eqn.params)), eqn)
    weight = size * math.fsum(f.weight for f in facts)
    return fact._replace(support={label: weight} if weight else {})
