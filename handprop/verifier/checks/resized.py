"""The same problem at other sizes: every axis that may have a size of its own gets one.

Two axes of an input are tied where an equation of the reference requires it, as it does for those of a sum's operands
or of a product's contraction. Axes that are not tied may coincide in the given inputs, as the sides of a square picture
do, and a program that takes one for the other shows it only where they differ. What an equation ties is read off its
shapes, as far as the table below goes; then the reference is run to see whether it accepts the other sizes.
"""

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from handprop.verifier.internal import noted
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.executables import array
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["at_other_sizes"]

Axis: TypeAlias = tuple[Any, int]  # a variable of a program and one of its axes
LARGEST = 1 << 16
# By how much axes grow. All sums and differences of two are distinct (Mian and Chowla 1944), so sizes that are made
# from two axes, such as a picture's minus a kernel's, do not coincide either.
GROWTH = (1, 2, 4, 8, 13, 21, 31, 45, 66, 81)
REDUCTIONS = ("reduce_", "argmax", "argmin")


def at_other_sizes(problem: Problem) -> Problem | None:
    """Return the problem at other sizes, no two of them equal unless they must be.

    None if it has no other sizes, is large, or if the reference does not run at them.
    """
    movable = [i for i, x in enumerate(problem.inputs) if i not in problem.cotangents
               and (i not in problem.domains or problem.domains[i].any_shape)
               and not jaxprs.is_key(x)]  # fmt: skip
    if sum(np.size(x) for x in problem.inputs) > LARGEST:
        return None
    groups = _groups(problem, movable)
    if len(groups) > len(GROWTH):
        groups = [group for group in groups if _size(problem, group) > 1]
    if not 0 < len(groups) <= len(GROWTH):
        return None
    if (found := _resized(problem, groups)) is not None:
        return found
    # Some axis has its size from a constant array of the program, or in a way that the table does not cover.
    groups = [group for group in groups if _resized(problem, [group]) is not None]
    return _resized(problem, groups) if groups else None


def _groups(problem: Problem, movable: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Return the groups of input axes that share one size, by place and axis, smallest size first."""
    program = jaxprs.trace(problem.reference, problem.inputs)
    ties = _Ties()
    ties.read(program)
    found: dict[Axis, list[tuple[int, int]]] = {}
    fixed: set[Axis] = set()
    for i, var in enumerate(program.jaxpr.invars):
        for axis, size in enumerate(var.aval.shape):
            root = ties.root((var, axis))
            if i in movable and size > 0:
                found.setdefault(root, []).append((i, axis))
            elif i not in movable and i not in problem.cotangents:
                fixed.add(root)
    named = _named(problem)
    free = [group for root, group in found.items() if root not in fixed and _size(problem, group) not in named]
    return sorted(free, key=partial(_size, problem))


def _size(problem: Problem, group: Sequence[tuple[int, int]]) -> int:
    place, axis = group[0]
    return problem.inputs[place].shape[axis]


def _named(problem: Problem) -> set[int]:
    """Return the sizes with which an input of sorted integers ends, as row pointers do; others make no sense."""
    integers = (np.asarray(x) for x in problem.inputs if jnp.issubdtype(x.dtype, np.integer))
    return {int(x[-1]) for x in integers if _is_sorted(x)}


def _is_sorted(x: np.ndarray) -> bool:
    """Whether the entries of a vector ascend, some of them strictly."""
    return x.ndim == 1 and x.size > 1 and bool((x[1:] >= x[:-1]).all() and x[-1] > x[0])


def _resized(problem: Problem, groups: Sequence[Sequence[tuple[int, int]]]) -> Problem | None:
    """Give each group a size of its own; None if the reference does not run then."""
    shapes = [list(np.shape(x)) for x in problem.inputs]
    taken = set(itertools.chain.from_iterable(shapes))
    for group, growth in zip(groups, GROWTH, strict=False):
        size = next(n for n in itertools.count(shapes[group[0][0]][group[0][1]] + growth) if n not in taken)
        taken.add(size)
        for place, axis in group:
            shapes[place][axis] = size
    inputs = [_repeated(x, tuple(shape)) for x, shape in zip(problem.inputs, shapes, strict=True)]
    try:
        values = _shapes_of_values(problem, inputs)
        if len(values) != len(problem.cotangents):  # of a second derivative it is not known which values they are of
            return None
        for place, shape in zip(problem.cotangents, values, strict=True):
            inputs[place] = _repeated(problem.inputs[place], shape)
        jaxprs.trace(problem.reference, inputs)
    except Exception as error:  # whatever the function or JAX raises at these sizes
        noted(error, "the search for other sizes")
        return None
    return problem._replace(inputs=tuple(inputs), shared=Shared())


def _shapes_of_values(problem: Problem, inputs: Sequence[Any]) -> list[tuple[int, ...]]:
    if not problem.cotangents or problem.primal is None:
        return []
    return [tuple(aval.shape) for aval in jaxprs.trace(problem.primal, inputs).out_avals]


def _repeated(x: Any, shape: tuple[int, ...]) -> Any:
    """Enlarge an array to the shape by its own entries; an array of another rank is filled in order.

    What is sorted stays so, and integers that are all different stay so, as the places that a scatter writes must.
    """
    if np.shape(x) == shape:
        return x
    held = np.asarray(x)
    if len(shape) == 1:
        return array(_longer(held, shape[0]))
    if held.ndim != len(shape) or any(n < m for n, m in zip(shape, held.shape, strict=True)):
        return array(np.resize(held, shape))
    return array(np.pad(held, [(0, n - m) for n, m in zip(shape, held.shape, strict=True)], mode="wrap"))


def _longer(x: np.ndarray, size: int) -> np.ndarray:
    """Return a vector with more entries; it stays sorted if it is, and distinct integers stay distinct."""
    ordered, found = _is_sorted(x), np.resize(x, size)
    if np.issubdtype(x.dtype, np.integer) and len(np.unique(x)) == len(x) > 1:
        unused = np.setdiff1d(np.arange(x.max() + 1 if ordered else size + len(x)), x)
        more = np.concatenate([x, unused]).astype(x.dtype)
        found = more[:size] if len(more) >= size else found
    return np.sort(found) if ordered else found


class _Ties:
    """Which axes share one size."""

    def __init__(self):
        self.above: dict[Axis, Axis] = {}

    def root(self, axis: Axis) -> Axis:
        while (above := self.above.get(axis, axis)) != axis:
            axis = above
        return axis

    def tie(self, a: Any, i: int, b: Any, j: int) -> None:
        """Tie axis i of a and axis j of b if they have the same size."""
        if isinstance(a, core.Literal) or isinstance(b, core.Literal) or a.aval.shape[i] != b.aval.shape[j]:
            return
        left, right = self.root((a, i)), self.root((b, j))
        if left != right:
            self.above[left] = right

    def alike(self, some: Sequence[Any], others: Sequence[Any]) -> None:
        """Tie the axes of pairs of arrays that have the same shape."""
        for a, b in zip(some, others, strict=True):
            for i in range(min(np.ndim(a.aval), np.ndim(b.aval))):
                self.tie(a, i, b, i)

    def mixed(self, atoms: Iterable[Any]) -> None:
        """Tie all axes of the same size."""
        axes = [(atom, i) for atom in atoms for i in range(len(getattr(atom.aval, "shape", ())))]
        for (a, i), (b, j) in itertools.pairwise(sorted(axes, key=lambda axis: axis[0].aval.shape[axis[1]])):
            self.tie(a, i, b, j)

    def read(self, program: Any) -> None:
        for eqn in program.jaxpr.eqns:
            self.step(eqn)

    def step(self, eqn: Any) -> None:
        name, bodies = eqn.primitive.name, jaxprs.inner(eqn)
        if name == "scan":
            self.scan(eqn, bodies[0])
        elif name in ("while", "cond") or not bodies:
            self.plain(eqn)
        for body in bodies if name != "scan" else ():
            self.body(eqn, body)

    def body(self, eqn: Any, body: Any) -> None:
        """Tie the axes of a nested program to its equation's last operands and its outputs, where shapes agree."""
        ins, outs = body.jaxpr.invars, body.jaxpr.outvars
        given = eqn.invars[len(eqn.invars) - len(ins) :]
        if [v.aval.shape for v in ins] == [v.aval.shape for v in given]:
            self.alike(ins, given)
        if [v.aval.shape for v in outs] == [v.aval.shape for v in eqn.outvars]:
            self.alike(outs, eqn.outvars)
        self.read(body)

    def scan(self, eqn: Any, body: Any) -> None:
        consts, carry = jaxprs.scan_counts(eqn.params)
        ins, outs = body.jaxpr.invars, body.jaxpr.outvars
        kept, rows = consts + carry, eqn.invars[consts + carry :]
        self.alike(ins[:kept], eqn.invars[:kept])
        self.alike(outs[:carry], ins[consts:kept])
        self.alike(outs[:carry], eqn.outvars[:carry])
        stacked = [*rows, *eqn.outvars[carry:]]
        for inside, outside in zip([*ins[kept:], *outs[carry:]], stacked, strict=True):
            self.tie(outside, 0, stacked[0], 0)
            for i in range(len(inside.aval.shape)):
                self.tie(inside, i, outside, i + 1)
        self.read(body)

    def plain(self, eqn: Any) -> None:
        name, params = eqn.primitive.name, eqn.params
        atoms = [v for v in (*eqn.invars, *eqn.outvars) if getattr(v.aval, "shape", ())]
        if not atoms:
            return
        first, out = eqn.invars[0] if eqn.invars else atoms[0], eqn.outvars[0]
        if name == "broadcast_in_dim":
            for i, j in enumerate(params["broadcast_dimensions"]):
                self.tie(first, i, out, j)
        elif name == "transpose":
            self.in_order(first, params["permutation"], [out])
        elif name == "squeeze" or (name.startswith(REDUCTIONS) and "axes" in params):
            gone = params["dimensions"] if name == "squeeze" else params["axes"]
            self.in_order(first, [i for i in range(len(first.aval.shape)) if i not in gone], eqn.outvars)
        elif name == "reshape":
            self.reshaped(first, out)
        elif name == "dot_general":
            self.product(eqn)
        elif not has(eqn, Trait.MIXES_AXES) and len({len(v.aval.shape) for v in atoms}) == 1:
            self.alike(atoms[:-1], atoms[1:])
        else:
            self.mixed(atoms)

    def in_order(self, a: Any, axes: Sequence[int], outs: Sequence[Any]) -> None:
        for out in outs:
            for j, i in enumerate(axes):
                self.tie(a, i, out, j)

    def reshaped(self, a: Any, out: Any) -> None:
        """Tie the axes that lie between the same places of the flat array."""

        def starts(shape: Sequence[int]) -> dict[tuple[int, int], int]:
            ends = [int(np.prod(shape[: i + 1])) for i in range(len(shape))]
            return {(end // n, end): i for i, (n, end) in enumerate(zip(shape, ends, strict=True)) if n > 1}

        here, there = starts(a.aval.shape), starts(out.aval.shape)
        for place in here.keys() & there.keys():
            self.tie(a, here[place], out, there[place])

    def product(self, eqn: Any) -> None:
        (contracted, batch), (left, right), out = eqn.params["dimension_numbers"], eqn.invars, eqn.outvars[0]
        for pair in (contracted, batch):
            for i, j in zip(*pair, strict=True):
                self.tie(left, i, right, j)
        self.in_order(left, [*batch[0], *_free(left, contracted[0], batch[0])], [out])
        offset = len(left.aval.shape) - len(contracted[0])
        for j, i in enumerate(_free(right, contracted[1], batch[1])):
            self.tie(right, i, out, offset + j)


def _free(v: Any, contracted: Sequence[int], batch: Sequence[int]) -> list[int]:
    return [i for i in range(len(v.aval.shape)) if i not in (*contracted, *batch)]
