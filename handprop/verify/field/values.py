"""What a program's arrays become over the field: elements, and how they came about.

A :class:`Value` keeps beside its elements the three relations through which right programs are written differently:
how it is a sum (so that exp of it is a product), how it is a multiple of an exponential (so that log of it is a sum),
and what it is the logarithm of. Whatever only moves entries acts on all of them.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from handprop.verify.field.arithmetic import Elements
from handprop.verify.field.degrees import Bound

__all__ = ["Term", "Value", "is_positive", "moved", "terms_of"]

MOST_TERMS = 6


class Value(NamedTuple):
    """An array over the field.

    ``known``: the real numbers it stands for where they do not depend on the inputs. ``terms``: value = sum of
    coefficient times atom, () for an atom. ``log`` and ``rest``: value = exp(sum of log's terms) rest.
    ``log_of``: value = log(log_of). ``infinite``: +1 or -1 where the entry is an infinity, whose element means nothing.
    ``positive``: positive over the reals almost everywhere, by how it is made.
    """

    x: Elements
    degree: Bound = Bound()
    known: np.ndarray | None = None
    terms: "tuple[Term, ...]" = ()
    log: "tuple[Term, ...]" = ()
    rest: "Value | None" = None
    log_of: "Value | None" = None
    infinite: np.ndarray | None = None
    positive: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape


Term: TypeAlias = tuple[Fraction, Value]


def terms_of(value: Value) -> tuple[Term, ...]:
    """The value as a sum of atoms; an atom is its own only term."""
    return value.terms or ((Fraction(1), value),)


def moved(value: Value, move: Callable[[np.ndarray], np.ndarray]) -> Value:
    """The value with its entries moved, copied or dropped by ``move``, its relations with it."""

    def each(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple((c, moved(atom, move)) for c, atom in terms)

    def maybe(v: Value | None) -> Value | None:
        return None if v is None else moved(v, move)

    return Value(
        value.x.move(move),
        value.degree,
        None if value.known is None else move(value.known),
        each(value.terms),
        each(value.log),
        maybe(value.rest),
        maybe(value.log_of),
        None if value.infinite is None else move(value.infinite),
        value.positive,
    )


def is_positive(value: Value) -> bool:
    """Whether every entry is positive over the reals, except on a set of measure zero."""
    return value.positive or (value.known is not None and bool((value.known > 0).all()))
