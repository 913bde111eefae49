"""Pairs of programs that are one function, or that differ by one mistake, drawn from a seed and an index."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fuzz import oracle
from fuzz.expressions import Drawing
from fuzz.nodes import Node, function_of, node, places, readings_of, text_of
from fuzz.oracle import Kind, Relation
from fuzz.rewrites import rewritten
from fuzz.spoils import spoiled

__all__ = ["Pair", "draw_pair"]

MAX_NODES, MAX_DIFFERENTIATED = 24, 14
GRADIENTS = 0.2  # share of pairs
GENERIC, TIES, TRIES = 3, 1, 6


class Pair(NamedTuple):
    """Two programs as texts; ``mistake`` names what was done to the left one, empty where they are equal.

    ``relations`` is what the oracle found at the points of each kind; None where it found that the pair is not what it
    was meant to be, which is thrown away.
    """

    seed: int
    number: int
    left: str
    right: str
    shapes: tuple[tuple[int, ...], ...]
    readings: Mapping[float, Any]
    of_gradient: bool
    mistake: str
    relations: dict[Kind, Relation] | None

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Both programs, or their gradients by all arguments."""
        argnums = tuple(range(len(self.shapes)))
        made = (function_of(text) for text in (self.left, self.right))
        left, right = (jax.grad(f, argnums) if self.of_gradient else f for f in made)
        return left, right

    def arguments(self) -> tuple[np.ndarray, ...]:
        """Inputs that the verifier may start from."""
        rng = np.random.default_rng([self.seed, self.number, 3])
        return tuple(np.asarray(rng.normal(size=shape), np.float32) for shape in self.shapes)

    def __str__(self) -> str:
        what = self.mistake or "equal"
        kind = "gradients of " if self.of_gradient else ""
        shapes = ", ".join(str(shape) for shape in self.shapes)
        return f"seed {self.seed}, index {self.number}: {kind}{what}, inputs {shapes}\n{self.left}\n{self.right}"

    def relate(self, rng: np.random.Generator, generic: int, ties: int) -> dict[Kind, Relation]:
        """How the two stand at so many points; at a tie every subgradient is right, so gradients have none."""
        left, right = (oracle.traced(f, self.shapes) for f in self.functions())
        at = oracle.points(self.shapes, rng, generic, 0 if self.of_gradient else ties)
        return oracle.related(left, right, at, self.readings)


def draw_pair(seed: int, index: int) -> Pair:
    """The pair of this seed and index: equal and spoiled ones by turns, a fifth of them gradients."""
    rng = np.random.default_rng([seed, index])
    of_gradient = bool(rng.random() < GRADIENTS)
    drawing, tree = _small_program(rng, MAX_DIFFERENTIATED if of_gradient else MAX_NODES)
    if of_gradient and tree.shape:
        tree = node("sum", tree, attrs=(None, False))
    names = tuple(argument.name for argument in drawing.arguments)
    shapes = tuple(argument.shape for argument in drawing.arguments)
    partner = rewritten(tree, rng, int(rng.integers(1, 5)))

    def pair(left: Node, mistake: str) -> Pair:
        texts = text_of((left,), names), text_of((tree,), names)
        return Pair(seed, index, texts[0], texts[1], shapes, readings_of(left, tree), of_gradient, mistake, None)

    if index % 2 == 0:
        made = pair(partner, "")
        relations = made.relate(rng, GENERIC, TIES)
        return made._replace(relations=relations if _all_equal(relations) else None)
    made = pair(partner, "no mistake found")
    for mistake, wrong in itertools.islice(spoiled(partner, rng, of_gradient), TRIES):
        made = pair(wrong, mistake)
        relations = made.relate(rng, GENERIC, TIES)
        if any(relation in (Relation.DIFFERENT, Relation.DOMAIN) for relation in relations.values()):
            return made._replace(relations=relations)
    return made


def _small_program(rng: np.random.Generator, most: int) -> tuple[Drawing, Node]:
    while True:
        drawing = Drawing(rng)
        tree = drawing.program()
        if sum(1 for _ in places(tree)) <= most:
            return drawing, tree


def _all_equal(relations: dict[Kind, Relation]) -> bool:
    """Equal at some generic point and unequal nowhere."""
    return relations[Kind.GENERIC] is Relation.EQUAL and relations[Kind.TIES] is not Relation.DIFFERENT
