"""Solutions by an LU factorization whose pivots are not decided.

LAPACK factorizes ``P A = L U`` with a permutation P that the numbers of A decide. As long as the factors and P are used
to solve a system and for nothing else, P does not matter:

    A x = b:    x = U^-1 (L^-1 (P b)),    A^T x = b:    x = P^T (L^-T (U^-T b)).

The factors, the permutation and what lies between the steps are :class:`Pivoted`: they have a shape, and no elements.
Each step from one to the next is a row below; a value comes out of the last step only. Everything else that a program
may do with them depends on the permutation, which is then decided (:func:`factorizations.lu`).
"""

from typing import Any, NamedTuple

import numpy as np

from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood
from handprop.verifier.proof.field.hashing import digest
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import Value, finite, moved

__all__ = ["Pivoted", "after_pivots", "factored"]

FACTORS, PIVOTS, PERMUTATION, INVERSE = "the factors", "the pivots", "the permutation", "its inverse"
PERMUTED, AFTER_L = "P b", "L^-1 P b"
AFTER_UT, AFTER_LT = "U^-T b", "L^-T U^-T b"
OTHER = "another array of the permutation"
SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier")
# (what is solved for, lower, unit_diagonal, transpose_a): what that makes; None for the solution
SOLVES = {
    (PERMUTED, True, True, False): AFTER_L,
    (AFTER_L, False, False, False): None,
    (None, False, False, True): AFTER_UT,
    (AFTER_UT, True, True, True): AFTER_LT,
}


class Pivoted:
    """Something that an LU factorization of ``matrix`` makes; ``right`` is the right-hand side b, if there is one."""

    def __init__(self, what: str, matrix: Value, shape: tuple[int, ...], right: Value | None = None):
        self.what, self.matrix, self.shape, self.right = what, matrix, shape, right

    def __getattr__(self, name: str) -> Any:
        raise undecided()

    def of(self, other: "Pivoted") -> bool:
        """Whether both belong to factorizations of the same matrix."""
        return self.matrix.shape == other.matrix.shape and digest(self.matrix.x) == digest(other.matrix.x)


class Step(NamedTuple):
    """An equation and its operands."""

    eqn: Any
    operands: list[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.eqn.outvars[0].aval.shape


def undecided() -> NeedsBranches:
    return NeedsBranches("the pivots of an LU factorization")


def factored(a: Value) -> list[Pivoted]:
    """The results of ``lu``."""
    if len(a.shape) != 2 or a.shape[0] != a.shape[1]:
        raise undecided()
    n = a.shape[0]
    return [Pivoted(FACTORS, a, (n, n)), Pivoted(PIVOTS, a, (n,)), Pivoted(PERMUTATION, a, (n,))]


def after_pivots(run: Run, eqn: Any, operands: list[Any]) -> list[Any]:
    """The results of an equation with operands that are :class:`Pivoted`."""
    name = eqn.primitive.name
    step = Step(eqn, operands)
    if name in SAME:
        return operands
    if name not in RULES:
        raise undecided()
    return RULES[name](run, step)


def _permutation(run: Run, step: Step) -> list[Any]:
    (pivots,) = step.operands
    if pivots.what != PIVOTS or step.shape != pivots.shape:
        raise undecided()
    return [Pivoted(PERMUTATION, pivots.matrix, pivots.shape)]


def _inverse(run: Run, step: Step) -> list[Any]:
    """Sorting the permutation beside 0, 1, 2, ... yields these, and the inverse."""
    if len(step.operands) != 2 or step.eqn.params["num_keys"] != 1:
        raise undecided()
    keys, places = step.operands
    counted = np.arange(*step.shape)
    if not _is(keys, PERMUTATION) or not isinstance(places, np.ndarray) or not np.array_equal(places, counted):
        raise undecided()
    return [counted.astype(step.eqn.outvars[0].aval.dtype), Pivoted(INVERSE, keys.matrix, keys.shape)]


def _negative(run: Run, step: Step) -> list[Any]:
    places, bound = step.operands
    if not _is(places, PERMUTATION, INVERSE) or not isinstance(bound, np.ndarray) or bound.any():
        raise undecided()
    return [np.zeros(step.shape, bool)]


def _added(run: Run, step: Step) -> list[Any]:
    return [Pivoted(OTHER, next(x for x in step.operands if isinstance(x, Pivoted)).matrix, step.shape)]


def _selected(run: Run, step: Step) -> list[Any]:
    which, first, *_ = step.operands
    if not isinstance(which, np.ndarray) or which.any():
        raise undecided()
    return [first]


def _reshaped(run: Run, step: Step) -> list[Any]:
    """The permutation as indices, one in each row."""
    (places,) = step.operands[:1]
    if not _is(places, PERMUTATION, INVERSE) or step.shape != (places.matrix.shape[0], 1):
        raise undecided()
    return [Pivoted(places.what, places.matrix, step.shape)]


def _gathered(run: Run, step: Step) -> list[Any]:
    """Rows in the order of the permutation, or back in theirs."""
    rows, places = step.operands
    shape = rows.shape
    names, sizes = step.eqn.params["dimension_numbers"], tuple(step.eqn.params["slice_sizes"])
    moves_rows = (len(shape) == 2 and sizes == (1, shape[1]) and step.shape == shape
                  and (tuple(names.offset_dims), tuple(names.collapsed_slice_dims)) == ((1,), (0,))
                  and (tuple(names.start_index_map), tuple(names.operand_batching_dims)) == ((0,), ()))  # fmt: skip
    if not isinstance(places, Pivoted) or not moves_rows or places.shape != (shape[0], 1):
        raise undecided()
    if places.what == PERMUTATION and isinstance(rows, Value):
        return [Pivoted(PERMUTED, places.matrix, shape, rows)]
    if places.what == INVERSE and _is(rows, AFTER_LT) and rows.of(places):
        return [_solution(run, moved(rows.matrix, np.transpose), rows.right)]
    raise undecided()


def _solved(run: Run, step: Step) -> list[Any]:
    factors, b = step.operands
    params = step.eqn.params
    what = b.what if isinstance(b, Pivoted) else None
    key = (what, params["lower"], params["unit_diagonal"], bool(params["transpose_a"]))
    if not _is(factors, FACTORS) or not params["left_side"] or key not in SOLVES or len(b.shape) != 2:
        raise undecided()
    if isinstance(b, Pivoted) and not b.of(factors):
        raise undecided()
    right = b.right if isinstance(b, Pivoted) else b
    if SOLVES[key] is None:
        return [_solution(run, factors.matrix, right)]
    return [Pivoted(SOLVES[key], factors.matrix, b.shape, right)]


def _is(thing: Any, *what: str) -> bool:
    return isinstance(thing, Pivoted) and thing.what in what


def _solution(run: Run, a: Value, b: Any) -> Value:
    """``A^-1 b`` by Gauss's and Jordan's elimination, with the first entry that is not zero as the pivot."""
    finite(a, "a system of equations")
    finite(b, "a system of equations")
    f, n = run.field, a.shape[0]
    rows = f.concatenate([a.x, b.x], 1)
    for k in range(n):
        run.worked(rows.size)
        found = np.nonzero(~f.is_zero(rows.move(lambda part, k=k: part[k:, k])))[0]
        if not found.size:
            raise NotUnderstood("a singular matrix")
        order = np.arange(n)
        order[[k, k + found[0]]] = order[[k + found[0], k]]
        rows = rows.move(lambda part, order=order: part[order])
        pivot = rows.move(lambda part, k=k: part[k : k + 1])
        pivot = f.mul(pivot, f.inv(pivot.move(lambda part, k=k: part[:, k : k + 1])))
        others = rows.move(lambda part, k=k: part * (np.arange(n) != k)[:, None])
        factor = others.move(lambda part, k=k: part[:, k : k + 1])
        rows = f.sub(others, f.mul(factor, pivot))
        rows = _with_row(rows, k, pivot)
    degree = b.degree.summed(n) * a.degree.grown(n, a.x.size, digest(a.x))
    return Value(rows.move(lambda part: part[:, n:]), degree, kind=max(a.kind, b.kind))


def _with_row(rows: Elements, k: int, row: Elements) -> Elements:
    re, im = rows.re.copy(), None
    re[k] = row.re[0]
    if rows.im is not None or row.im is not None:
        im = rows.imaginary().copy()
        im[k] = row.imaginary()[0]
    return Elements(re, im)


RULES = {
    "lu_pivots_to_permutation": _permutation,
    "sort": _inverse,
    "lt": _negative,
    "add": _added,
    "select_n": _selected,
    "broadcast_in_dim": _reshaped,
    "reshape": _reshaped,
    "gather": _gathered,
    "triangular_solve": _solved,
}
