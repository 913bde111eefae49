"""Many roots at once: which of them stand together.

A root ``s = sqrt(a)`` doubles the degree of what it is in, through the norm ``(A + s B)(A - s B)``; r roots multiply
it by 2^r, a bound that is void beyond about 30. But the roots of a layer normalisation, one for every row, do not
meet: each depends on variables of its own. Let every root depend on the variables of one group only, beside those
that all share. Draw the shared variables, then group after group. A function that is not zero stays so but for
``D / p`` while a group without roots is drawn, and ``2^r D / p`` with r roots in it: the bounds add over the groups
and do not multiply.

For each group no product of its roots' arguments may be a number times a square, as functions of the group's own
variables with the shared ones as drawn. Were one, its characters would be the same for all values of these variables:
columns of characters over redrawn values, one of ones beside them, that have full rank over GF(2) prove it is not.

A root whose argument stays what it is, whatever is drawn anew, is a number, and adds no degree; two of the same
argument are one root. Which root depends on what is seen by drawing a part of the inputs anew. Along an axis of n
entries, for each bit of the index, those with 0 and those with 1 there: a root that one and not the other changes, for
every bit, rests on one entry alone.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

__all__ = ["bits_of", "rank", "root_groups"]

SPARE = 12
Draw = Callable[[list[np.ndarray | None]], np.ndarray]
"""Roots' arguments where the masked entries of each input are drawn anew; None for none of an input."""


def root_groups(draw: Draw, characters: Callable[[np.ndarray], np.ndarray], shapes: Sequence[tuple[int, ...] | None],
                most: int) -> tuple[list[int], int] | None:  # fmt: skip
    """Sizes of groups of independent roots and how many draws told it; None where there are no such groups.

    ``shapes`` are those of the inputs, None for one that is not drawn; ``most`` is the largest group to be had.
    """
    base = draw([None] * len(shapes))
    everything = [None if shape is None else np.ones(shape, bool) for shape in shapes]
    varies = draw(everything) != base
    places = [_places(draw, base, shapes, j) for j, shape in enumerate(shapes) if shape]
    nodes = [places_of for places_of, _ in places]
    groups = _components([[(j, node[i]) for j, node in enumerate(nodes) if node[i] is not None]
                          for i in range(base.size)])  # fmt: skip
    groups = [group for group in (_distinct(group, base, varies) for group in groups) if group]
    if max(map(len, groups), default=0) > most:
        return None
    private = [j for j, shape in enumerate(shapes) if shape]
    private = [j for j, (node, _) in zip(private, places, strict=True) if any(n is not None for n in node)]
    rows = max(map(len, groups), default=0) + 1 + SPARE + len(groups).bit_length()
    own = [np.ones(shape, bool) if shape is not None and j in private else None for j, shape in enumerate(shapes)]
    shared = [group for group in groups if all(all(node[i] is None for node in nodes) for i in group)]
    redrawn = np.array([characters(draw(own)) for _ in range(rows)])
    anew = np.array([characters(draw(everything)) for _ in range(rows)]) if shared else redrawn
    if not all(_full_rank((anew if group in shared else redrawn)[:, group]) for group in groups):
        return None
    return [len(group) for group in groups], 2 + max(map(len, groups), default=0) + sum(count for _, count in places)


def _distinct(group: list[int], base: np.ndarray, varies: np.ndarray) -> list[int]:
    """The roots of numbers left out, those of the same argument counted once."""
    first: dict[int, int] = {}
    for i in group:
        if varies[i]:
            first.setdefault(int(base[i]), i)
    return list(first.values())


def _places(draw: Draw, base: np.ndarray, shapes: Sequence[tuple[int, ...] | None], j: int
            ) -> tuple[list[tuple[int, ...] | None], int]:  # fmt: skip
    """For each root the index of the part of input j that it rests on alone, along all axes that every root of j's is
    so placed on; None for a root that does not rest on it, or where there is no such axis."""
    shape = shapes[j]
    assert shape is not None
    found, draws = [], 0
    touched = _changed(draw, base, shapes, j, np.ones(shape, bool))
    for axis, count in enumerate(shape):
        if count < 2 or not touched.any():
            continue
        index, alone = np.zeros(base.size, np.int64), touched.copy()
        positions = np.arange(count).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        for bit in range((count - 1).bit_length()):
            ones, zeros = (_changed(draw, base, shapes, j, np.broadcast_to((positions >> bit & 1) == v, shape))
                           for v in (1, 0))  # fmt: skip
            alone &= ones ^ zeros
            index |= ones.astype(np.int64) << bit
            draws += 2
        if alone[touched].all():
            found.append(index)
    if not found:
        return [None] * base.size, draws
    return [tuple(int(index[i]) for index in found) if touched[i] else None for i in range(base.size)], draws


def _changed(draw: Draw, base: np.ndarray, shapes: Sequence, j: int, mask: np.ndarray) -> np.ndarray:
    return draw([mask if i == j else None for i in range(len(shapes))]) != base


def _components(nodes_of: list[list]) -> list[list[int]]:
    """Roots that share a node, or hang together through others, in one group; those without a node in another."""
    parent = list(range(len(nodes_of)))

    def top(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict = {}
    for i, nodes in enumerate(nodes_of):
        for node in nodes or ["shared"]:
            parent[top(i)] = top(first.setdefault(node, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(nodes_of)):
        groups.setdefault(top(i), []).append(i)
    return list(groups.values())


def _full_rank(characters: np.ndarray) -> bool:
    """Whether the columns, a column of ones beside them, are independent over GF(2)."""
    ones = np.ones((len(characters), 1), bool)
    return rank(bits_of(column) for column in np.concatenate([ones, characters], 1).T) == characters.shape[1] + 1


def bits_of(column: Iterable[bool]) -> int:
    return sum(int(x) << k for k, x in enumerate(column))


def rank(vectors: Iterable[int]) -> int:
    """The rank over GF(2) of vectors, as the bits of integers.

    >>> rank([0b110, 0b011, 0b101])
    2
    """
    basis: list[int] = []
    for vector in vectors:
        for other in basis:
            vector = min(vector, vector ^ other)
        if vector:
            basis.append(vector)
    return len(basis)
