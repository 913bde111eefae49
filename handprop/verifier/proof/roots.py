"""Independent groups of roots, for programs that take many roots.

A root ``s = sqrt(a)`` doubles the degree of an expression that contains it, through the norm ``(A + s B)(A - s B)``. So
r roots multiply the degree by 2^r, a bound that is void beyond about 30 roots. But the roots of a layer normalization,
one for each row, do not interact: each depends on variables of its own. Suppose that every root depends only on the
variables of one group, and on variables that all groups share. Draw the shared variables first, then one group after
another. A nonzero function stays nonzero while a group is drawn except with probability ``D / p`` if the group has no
roots, and ``2^r D / p`` if it has r. So the bounds add over the groups instead of multiplying.

For each group, no product of its roots' arguments may be a number times a square, as a function of the group's own
variables with the shared ones as drawn. If one were, its characters would be the same for all values of these
variables. So the variables are drawn again and again, and the roots' characters are written as columns, with a column
of ones beside them. Full rank over GF(2) proves that no such product exists.

A root whose argument stays the same, whatever is drawn anew, is a number and adds no degree. Two roots of the same
argument are one root. To find out which inputs a root depends on, parts of the inputs are drawn anew. Along an axis of
n entries, and for each bit of the index, these parts are the entries with 0 in that bit and those with 1. If exactly
one of the two changes a root, for every bit, then the root depends on one entry only.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

__all__ = ["bits_of", "rank", "root_groups"]

SPARE = 12
Draw = Callable[[list[np.ndarray | None]], np.ndarray]
"""Returns the roots' arguments with the masked entries of each input drawn anew; a mask of None keeps an input."""


def root_groups(draw: Draw, characters: Callable[[np.ndarray], np.ndarray], shapes: Sequence[tuple[int, ...] | None],
                most: int) -> tuple[list[int], int] | None:  # fmt: skip
    """The sizes of groups of independent roots, and the number of draws that showed it; None if there are none.

    ``shapes``: the shapes of the inputs, None for an input that is not drawn. ``most``: the size that no group may
    exceed.
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
    """The group without the roots of numbers, and with one root for each distinct argument."""
    first: dict[int, int] = {}
    for i in group:
        if varies[i]:
            first.setdefault(int(base[i]), i)
    return list(first.values())


def _places(draw: Draw, base: np.ndarray, shapes: Sequence[tuple[int, ...] | None], j: int
            ) -> tuple[list[tuple[int, ...] | None], int]:  # fmt: skip
    """For each root the index of the only part of input j that it depends on, and the number of draws.

    The index runs over the axes along which every root that depends on input j depends on one entry only. It is None
    for a root that does not depend on input j, or if there is no such axis.
    """
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
    """Groups of roots that are connected through shared nodes; roots without a node form one group."""
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
    """Whether the columns, together with a column of ones, are linearly independent over GF(2)."""
    ones = np.ones((len(characters), 1), bool)
    return rank(bits_of(column) for column in np.concatenate([ones, characters], 1).T) == characters.shape[1] + 1


def bits_of(column: Iterable[bool]) -> int:
    return sum(int(x) << k for k, x in enumerate(column))


def rank(vectors: Iterable[int]) -> int:
    """The rank over GF(2) of vectors that are given as the bits of integers.

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
