"""Identities applied to random places of an expression."""

import numpy as np

import fuzz.array_identities  # noqa: F401  (fills the table)
from fuzz.identities import RULES, Rule, disguised
from fuzz.nodes import Node, has_input, places, put

__all__ = ["rewritten"]

DISGUISES = 0.12  # share of the rewrites that fit any array of floats


def candidate(tree: Node, rng: np.random.Generator) -> tuple[tuple[int, ...], Node, Rule] | None:
    """A rule for some place that depends on an input; every operation that occurs is as likely."""
    if rng.random() < DISGUISES:
        found = [(path, t) for path, t in places(tree) if not t.is_truth and has_input(t)]
        return (*found[int(rng.integers(len(found)))], disguised) if found else None
    by_op: dict[str, list[tuple[tuple[int, ...], Node]]] = {}
    for path, t in places(tree):
        if t.op in RULES and has_input(t):
            by_op.setdefault(t.op, []).append((path, t))
    if not by_op:
        return None
    op = sorted(by_op)[int(rng.integers(len(by_op)))]
    return (*by_op[op][int(rng.integers(len(by_op[op])))], RULES[op][int(rng.integers(len(RULES[op])))])


def rewritten(tree: Node, rng: np.random.Generator, count: int) -> Node:
    """The tree after ``count`` rewrites at random places, or fewer where nothing fits."""
    done = 0
    for _ in range(20 * count):
        found = candidate(tree, rng)
        if done == count or found is None:
            break
        path, t, rule = found
        new = rule(t, rng)
        if new is not None and new.shape == t.shape and new != t:
            tree, done = put(tree, path, new), done + 1
    return tree
