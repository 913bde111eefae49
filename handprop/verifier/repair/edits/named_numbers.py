"""Numbers that have a name where a statement runs: parameters, local variables, what enclosing functions hold, and
constants of the module. A number that is missing is one of these rather than a literal or an array's size, which may
have the same value by accident.
"""

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from handprop.verifier.repair.search import Search, names_there
from handprop.verifier.repair.source.functions import Place, functions, siblings

__all__ = ["Named", "named_numbers", "quotients"]

MAX_NAMES, MAX_FOUND = 12, 2
LITERAL = 2  # whole numbers up to this one are written as they are


class Named(NamedTuple):
    """A positive number as a quotient of texts, empty where that is 1; ``note`` says what the names stand for."""

    above: str
    below: str
    note: str


def named_numbers(search: Search, place: Place) -> dict[str, Fraction]:
    """The numbers by name: those at hand before those of enclosing functions, and these before the module's."""
    here = names_there(search, place)
    live = functions(search.problem.written)
    owner = next((f for f in live if f.__code__ is place.code), None)
    around = {} if owner is None else {name: cell.cell_contents for name, cell in siblings(owner, live).items()}
    every = (owner.__globals__ if owner else {}) | around | here  # what is further in hides what is outside
    inner = dict.fromkeys((*here, *around, *every))
    numbers = ((name, _number(every[name])) for name in inner if not name.startswith("__"))
    found = ((name, number) for name, number in numbers if number is not None)
    return dict(itertools.islice(found, MAX_NAMES))


def _number(held: Any) -> Fraction | None:
    """A positive number as people write it, unless it is one that they write as a literal."""
    kinds = int | float | np.number | np.ndarray | jax.Array
    if not isinstance(held, kinds) or isinstance(held, bool | Tracer) or np.ndim(held):
        return None
    try:
        number = Fraction(str(np.asarray(held)[()]))
    except (ValueError, TypeError):  # not finite, a key, or no number
        return None
    whole = isinstance(held, int | np.integer)
    return None if number <= 0 or number == 1 or (whole and number <= LITERAL) else number


def quotients(c: Fraction, numbers: Mapping[str, Fraction]) -> list[Named]:
    """How a positive ``c`` is written with names, the simplest first."""
    simple = max(c.numerator, c.denominator) <= LITERAL
    forms = itertools.chain(_single(numbers), () if simple else _composed(numbers))
    found = ((above, below, used) for value, above, below, used in forms if value == c)
    return [Named(above, below, ", ".join(f"{name} = {float(numbers[name]):.12g}" for name in used))
            for above, below, used in itertools.islice(found, MAX_FOUND)]  # fmt: skip


def _single(numbers: Mapping[str, Fraction]) -> Iterator[tuple[Fraction, str, str, tuple[str, ...]]]:
    for name, v in numbers.items():
        yield v, name, "", (name,)
        yield 1 / v, "", name, (name,)


def _composed(numbers: Mapping[str, Fraction]) -> Iterator[tuple[Fraction, str, str, tuple[str, ...]]]:
    """What is made of one name and a literal, then of two names."""
    for name, v in numbers.items():
        for value, text in ((1 + v, f"1 + {name}"), (1 - v, f"1 - {name}"), (2 * v, f"2 * {name}"),
                            (v / 2, f"{name} / 2"), (v**2, f"{name}**2")):  # fmt: skip
            if value > 0:
                yield value, f"({text})", "", (name,)
                yield 1 / value, "", f"({text})", (name,)
    for (a, v), (b, w) in itertools.combinations(numbers.items(), 2):
        yield v * w, f"({a} * {b})", "", (a, b)
        yield v / w, a, b, (a, b)
        yield w / v, b, a, (a, b)
        yield 1 / (v * w), "", f"({a} * {b})", (a, b)
