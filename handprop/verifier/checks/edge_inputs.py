"""The numbers of edge cases, as functions of the given array and a random generator.

The cases of the first table are the same for every program. The others lie between the numbers with which the two
programs compare, or are corners of a domain.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from handprop.verifier.checks.evaluators import as_users
from handprop.verifier.problem import Problem
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["CORNERS", "EDGE_CASES", "WITH_ZEROS", "EdgeCase", "between", "is_set_to_zero"]

WITH_ZEROS = ("zeros", "the given numbers with one entry set to zero")

SHOWN = 4
MAX_NUMBERS, MAX_TURNS = 32, 8
COMPARISONS = (Trait.ORDER, Trait.EQUALITY, Trait.BOUNDS, Trait.EXTREME)
NEAR = 0.1  # distance to a number with which a rounded one is compared
EdgeCase = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _signs(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2.0 * rng.integers(2, size=x.shape) - 1.0


def _one_of_each_line(x: np.ndarray, rng: np.random.Generator, place: int, size: float) -> np.ndarray:
    """Return small numbers, except for one large entry in each line along the last axis, at varying positions."""
    n = max(x.shape[-1], 1) if x.ndim else 1
    lines = np.arange(x.size) // n
    return 0.1 * rng.normal(size=x.shape) + size * (np.arange(x.size) % n == (lines + place) % n).reshape(x.shape)


EDGE_CASES: dict[str, EdgeCase] = {
    "zeros": lambda x, rng: np.zeros_like(x),
    "equal entries": lambda x, rng: np.full_like(x, 0.7),
    "inputs whose entries are all 40": lambda x, rng: np.full_like(x, 40.0),
    "inputs whose entries are all -40": lambda x, rng: np.full_like(x, -40.0),
    "inputs whose entries are all 40 or -40": lambda x, rng: 40.0 * _signs(x, rng),
    "the given numbers with one entry set to zero": lambda x, rng: np.where(
        np.arange(x.size).reshape(x.shape) == x.size // 2, 0.0, x
    ),
    "inputs whose entries are positive and negative millions": lambda x, rng: (
        1e6 * _signs(x, rng) * rng.uniform(1, 2, x.shape)
    ),
    "inputs whose entries are about a millionth": lambda x, rng: 1e-6 * rng.normal(size=x.shape),
    "the largest numbers": lambda x, rng: 1e150 * _signs(x, rng),
    "denormal numbers": lambda x, rng: 1e-310 * _signs(x, rng),
    "the given numbers, all of them positive": lambda x, rng: np.abs(x),
    "the given numbers, all of them negative": lambda x, rng: -np.abs(x),
    "the given numbers in rising order": lambda x, rng: np.sort(x.ravel()).reshape(x.shape),
    "the given numbers in falling order": lambda x, rng: -np.sort(-x.ravel()).reshape(x.shape),
}
CORNERS: dict[str, EdgeCase] = {
    f"a corner of the domain ({n})": partial(_one_of_each_line, place=n // 2, size=4.0 * (-1) ** n) for n in range(8)
}


def between(problem: Problem) -> dict[str, EdgeCase]:
    """Return edge cases made from the numbers with which the programs compare.

    Entries lie between these numbers and beyond the outermost ones and, where the programs round, near them too. In
    other cases all entries are so small that their sum, their norm and the sum of their squares are below such a
    number.
    """
    equations = [eqn for program in as_users(problem) for eqn in jaxprs.equations(program)]
    numbers = {abs(float(atom.val)) for eqn in equations if has(eqn, *COMPARISONS) for atom in eqn.invars
               if isinstance(atom, Literal) and np.isrealobj(atom.val) and np.isfinite(atom.val)}  # fmt: skip
    ends = np.unique([sign * number for number in numbers for sign in (1.0, -1.0)])  # -x may be compared instead of x
    if not 0 < len(ends) <= MAX_NUMBERS:
        return {}
    inside = np.concatenate([(ends[1:] + ends[:-1]) / 2, [ends[0] - 1, ends[-1] + 1]])
    if any(map(_rounds, equations)):
        inside = np.concatenate([inside, ends + NEAR, ends - NEAR])
    most = max((math.prod(x.shape) for x in problem.inputs), default=0)
    starts = range(0, len(inside), max(most, 1))
    below = np.unique([power for number in numbers if number for power in (number, number**0.5)])
    return {f"inputs whose entries are {_listed(inside[n:])}": partial(_in_turn, numbers=inside[n:])
            for n in starts[:MAX_TURNS]} | {
            f"inputs whose entries are all together below {size:.3g}": partial(_below, size=size)
            for size in below[:MAX_TURNS]}  # fmt: skip


def is_set_to_zero(problem: Problem, name: str) -> bool:
    """Whether the edge case sets an argument to zero that is positive as given."""
    given = [np.asarray(problem.inputs[i]) for i in problem.moving]
    return name in WITH_ZEROS and any(x.size and (x > 0).all() for x in given)


def _rounds(eqn: Any) -> bool:
    to_integer = eqn.primitive.name == "convert_element_type" and jnp.issubdtype(eqn.params["new_dtype"], np.integer)
    return eqn.primitive.name in ("ceil", "floor", "rem", "round") or to_integer


def _below(x: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    return size * rng.uniform(0.2, 0.5, x.shape) * _signs(x, rng) / max(x.size, 1)


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(f"{x:.3g}" for x in numbers[:SHOWN]) + " and so on" * (len(numbers) > SHOWN)


def _in_turn(x: np.ndarray, rng: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    return np.resize(numbers, x.shape)
