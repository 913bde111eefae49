"""Numbers that have a name in a statement's scope.

These are parameters, local variables, variables of enclosing functions, and constants of the module. A missing number
is more likely one of these than a literal or an array's size, which may have the same value by accident.
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
LITERAL = 2  # integers up to this one are written as literals


class Named(NamedTuple):
    """A positive number as a quotient of two texts, where an empty text is 1; ``note`` gives the names' values."""

    above: str
    below: str
    note: str


def named_numbers(search: Search, place: Place) -> dict[str, Fraction]:
    """Return the numbers by name: local ones first, then those of enclosing functions, then the module's."""
    here = names_there(search, place)
    live = functions(search.problem.written)
    owner = next((f for f in live if f.__code__ is place.code), None)
    around = {} if owner is None else {name: cell.cell_contents for name, cell in siblings(owner, live).items()}
    every = (owner.__globals__ if owner else {}) | around | here  # inner names hide outer ones
    inner = dict.fromkeys((*here, *around, *every))
    numbers = ((name, _number(every[name])) for name in inner if not name.startswith("__"))
    found = ((name, number) for name, number in numbers if number is not None)
    return dict(itertools.islice(found, MAX_NAMES))


def _number(held: Any) -> Fraction | None:
    """Return a positive number as people write it; None for those that people write as literals."""
    kinds = int | float | np.number | np.ndarray | jax.Array
    if not isinstance(held, kinds) or isinstance(held, bool | Tracer) or np.ndim(held):
        return None
    try:
        number = Fraction(str(np.asarray(held)[()]))
    except (ValueError, TypeError):  # it is not finite, a key, or not a number
        return None
    whole = isinstance(held, int | np.integer)
    return None if number <= 0 or number == 1 or (whole and number <= LITERAL) else number


def quotients(c: Fraction, numbers: Mapping[str, Fraction]) -> list[Named]:
    """Return the ways to write a positive ``c`` with names, the simplest first."""
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
    """Yield combinations of one name and a literal, then of two names."""
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
