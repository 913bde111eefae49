"""Identities applied to random places of an expression."""

from collections.abc import Iterator

import numpy as np

import fuzz.array_identities  # noqa: F401  (fills the table)
from fuzz.identities import RULES, Rule, disguised
from fuzz.nodes import Node, has_input, places, put

__all__ = ["rewritten"]


def candidates(tree: Node) -> Iterator[tuple[tuple[int, ...], Node, Rule]]:
    """Every rule for every place that depends on an input."""
    for path, t in places(tree):
        if t.op in RULES and has_input(t):
            yield from ((path, t, rule) for rule in RULES[t.op])


def rewritten(tree: Node, rng: np.random.Generator, count: int) -> Node:
    """The tree after ``count`` rewrites at random places."""
    done = 0
    for _ in range(20 * count):
        if done == count:
            break
        if rng.random() < 0.12:
            found = [(path, t, disguised) for path, t in places(tree) if not t.is_truth and has_input(t)]
        else:
            found = list(candidates(tree))
        if not found:
            continue
        path, t, rule = found[int(rng.integers(len(found)))]
        new = rule(t, rng)
        if new is not None and new.shape == t.shape and new != t:
            tree, done = put(tree, path, new), done + 1
    return tree
