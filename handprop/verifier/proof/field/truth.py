"""Comparisons, and selections by them.

The truth value of a comparison of known numbers is known. There are two readings of all others:

- polynomial: the truth value is a random field element, a function of the operands' difference. A program is then a
  polynomial in its truth values, and two programs that agree as polynomials agree for every assignment of truth values.
  This reading does not know that ``t t = t``.
- branching: the truth value is a random decision, see :mod:`decisions`.

Two values are read as never equal only if their difference is a nonzero rational or analytic function of the inputs
(see :class:`Kind`), or if one is positive and the other is not. A value that came through a decision, a rounding or a
function with relations of its own may equal a number on a set that matters, and whether it does is a truth value like
any other.
"""

import itertools
from typing import Any, TypeAlias

import numpy as np

from handprop.verifier.programs.primitives import Kind
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.decisions import coin, found_apart, known_greater, placed
from handprop.verifier.proof.field.degrees import VARIABLE
from handprop.verifier.proof.field.errors import NeedsBranches, NotUnderstood, Unsupported
from handprop.verifier.proof.field.functions import chosen
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.values import (
    Everywhere,
    Term,
    Value,
    is_negative,
    is_nonnegative,
    is_number,
    is_positive,
    moved,
    order_of,
    terms_of,
)

__all__ = [
    "Thing", "absolute", "as_value", "check_input", "equal", "greater", "logical_not", "maximum", "minimum",
    "never_tie", "select", "sign",
]  # fmt: skip

BOOLEAN = np.dtype(bool)
MAX_CLAIMED = 16  # the most entries that are claimed never to tie, in pairs
Thing: TypeAlias = "Value | np.ndarray"


def as_value(run: Run, thing: Thing) -> Value:
    return thing if isinstance(thing, Value) else run.embed(thing)


def greater(run: Run, a: Value, b: Value, ties: bool = True) -> Thing:
    """``a > b`` for finite numbers: an array of booleans, or a value in [0, 1] in the polynomial reading. Without
    ``ties`` it may be anything where the two are equal, as in a maximum, which is the same number either way."""
    if a.known is not None and b.known is not None:
        return known_greater(a, b)
    if (order := order_of(a, b)) is not None:
        return np.asarray(order > 0)
    if run.by_signs and (sure := _surely_greater(a, b)) is not None:
        run.used_signs = True
        return np.full(np.broadcast_shapes(a.shape, b.shape), sure)
    check_input(a, b)
    more = placed(run, a, b) if run.branching else _chance(run, a, b)
    if _almost_nowhere_equal(run, a, b):
        if run.branching:
            found_apart(run, run.field.sub(a.x, b.x))
        return more
    if not ties:
        return more
    apart = logical_not(run, equal(run, a, b))  # ties may have positive measure
    if isinstance(more, np.ndarray) and isinstance(apart, np.ndarray):
        return np.asarray(more & apart)
    return run.mul(as_value(run, more), as_value(run, apart))._replace(kind=Kind.PIECEWISE, nonnegative=True, most=1)


def _surely_greater(a: Value, b: Value) -> bool | None:
    """Whether ``a > b`` according to the known signs of the two; None if these do not decide it."""
    if is_positive(a) and _is_at_most_zero(b):
        return True
    if is_nonnegative(b) and _is_at_most_zero(a):
        return False
    if is_negative(a) and is_nonnegative(b):
        return False
    return True if is_negative(b) and is_nonnegative(a) else None


def _is_at_most_zero(a: Value) -> bool:
    return a.known is not None and bool((a.known <= -a.error).all())


def _almost_nowhere_equal(run: Run, a: Value, b: Value) -> bool:
    """Whether two values that differ in the field are equal only on a set of measure zero.

    This is true of rational functions, and it is claimed of analytic ones. A function of one value, compared with a
    number, is claimed not to be that number everywhere (as a function of x / x may be) even if nothing else is claimed.
    """
    kind = max(a.kind, b.kind)
    if kind <= Kind.RATIONAL:
        return True
    of_one = kind is Kind.UNIVARIATE and (a.known is not None or b.known is not None)
    return (of_one or run.claiming) and _claimed(run, a, b)


def never_tie(run: Run, value: Value, axis: int) -> bool:
    """Whether entries along the axis that differ in the field are never equal on a set that matters."""
    if value.kind <= Kind.RATIONAL:
        return True
    if not run.claiming or value.kind > Kind.ANALYTIC or value.shape[axis] > MAX_CLAIMED:
        return False
    entries = [moved(value, lambda part, i=i: np.take(part, i, axis)) for i in range(value.shape[axis])]
    return all(_claimed(run, a, b) for a, b in itertools.combinations(entries, 2))


def _claimed(run: Run, a: Value, b: Value) -> bool:
    """Make the claim that two values differ almost everywhere, if both are at most analytic."""
    kind = max(a.kind, b.kind)
    if kind <= Kind.ANALYTIC:
        run.claimed = True
        if run.claims is not None:
            run.claims.append((a, b))
    return kind <= Kind.ANALYTIC


def check_input(*values: Value) -> None:
    """Refuse a comparison of values that no input enters: it has one result for all points, so it is not drawn."""
    if all(is_number(v) for v in values):
        raise NeedsBranches("a comparison of numbers that are not known exactly")


def _chance(run: Run, a: Value, b: Value) -> Value:
    """A random field element in place of the truth value of ``a > b``."""
    difference = run.add(a, b, -1)
    run.unknown_comparisons += difference.x.size
    run.asked(difference)
    flipped, canonical = run.canonical(difference.x)
    chance = run.loose_oracle("positive", canonical).re
    truth = np.where(flipped, (1 - chance) % run.field.p, chance)
    return _truth(np.where(run.field.is_zero(difference.x), 0, truth))


def _truth(residues: np.ndarray) -> Value:
    return Value(Elements(residues), VARIABLE, kind=Kind.PIECEWISE, nonnegative=True, most=1)


def equal(run: Run, a: Value, b: Value) -> Thing:
    """``a == b`` of finite numbers."""
    if a.known is not None and b.known is not None:
        if a.error or b.error:
            known_greater(a, b)
        return np.asarray(a.known == b.known)
    difference = run.add(a, b, -1)
    same = np.asarray(run.field.is_zero(difference.x))
    if same.all():
        return same
    if (order := order_of(a, b)) is not None:
        return np.asarray(order == 0)
    if run.by_signs and ((is_positive(a) and _is_at_most_zero(b)) or (is_positive(b) and _is_at_most_zero(a))):
        run.used_signs = True
        return same
    if _almost_nowhere_equal(run, a, b):
        if run.branching:
            found_apart(run, difference.x)
        return same
    beside_zero = same | run.field.is_zero(a.x) | run.field.is_zero(b.x)
    if beside_zero.all() and _claimed(run, a, b):  # as in z == max(z, 0), where the maximum is 0
        return same
    check_input(a, b)
    if run.branching:
        run.asked(difference)
        return np.asarray(same | coin(run, "equal", difference.x, same))
    run.asked(difference)
    run.unknown_comparisons += difference.x.size
    _, canonical = run.canonical(difference.x)
    return _truth(np.where(same, 1, run.loose_oracle("equal", canonical).re))


def logical_not(run: Run, truth: Thing) -> Thing:
    if isinstance(truth, np.ndarray):
        return np.asarray(~truth)
    return run.add(run.number(1, truth.shape), truth, -1)._replace(nonnegative=True, most=1)


def select(run: Run, which: Thing, cases: list[Thing], dtype: Any = BOOLEAN) -> Thing:
    """``cases[which]``, entry by entry, where ``which`` has this dtype. An integer below 0 takes the first case, one
    that is too large the last."""
    result = _selected(run, which, cases, dtype)
    if isinstance(result, Value) and any(isinstance(case, Value) and case.mask for case in cases):
        return result._replace(mask=result.special is not None)
    return result


def _selected(run: Run, which: Thing, cases: list[Thing], dtype: Any) -> Thing:
    if not all(isinstance(case, Value | np.ndarray) for case in cases):
        return _chosen_key(which, cases)
    if isinstance(which, Value):
        if len(cases) != 2:
            raise NeedsBranches("a selection among more than two cases")
        if dtype != BOOLEAN and not (is_nonnegative(which) and which.most <= 1):
            raise NeedsBranches("a selection by an integer that may be other than 0 and 1")
        return _mixed(run, which, *(as_value(run, case) for case in cases))
    index = np.clip(which.astype(np.int64), 0, len(cases) - 1)
    if index.size and (index == index.flat[0]).all():
        shape = np.broadcast_shapes(index.shape, *(case.shape for case in cases))
        return _broadcast(cases[int(index.flat[0])], shape)
    if all(isinstance(case, np.ndarray) for case in cases):
        return np.choose(np.broadcast_to(index, cases[0].shape), cases)  # pyright: ignore[reportArgumentType, reportCallIssue]
    values = [as_value(run, case) for case in cases]
    shape = np.broadcast_shapes(index.shape, *(v.shape for v in values))
    values = [as_value(run, _broadcast(v, shape)) for v in values]
    index = np.broadcast_to(index, shape)
    result = values[0]
    for i, value in enumerate(values[1:], 1):
        result = _chosen(index == i, value, result)
    return result


def _chosen_key(which: Thing, cases: list) -> Any:
    if isinstance(which, Value):
        raise NeedsBranches("a selection between random keys that depends on unknown numbers")
    if which.size and (which == which.flat[0]).all():
        return cases[int(which.flat[0])]
    raise NotUnderstood("an entry-by-entry selection of random keys")


def _broadcast(thing: Thing, shape: tuple[int, ...]) -> Thing:
    if thing.shape == shape:
        return thing
    if isinstance(thing, np.ndarray):
        return np.broadcast_to(thing, shape)
    return moved(thing, lambda part: np.broadcast_to(part, shape))


def _mixed(run: Run, which: Value, no: Value, yes: Value) -> Value:
    """``no + which (yes - no)``. An infinity is allowed only where both are the same."""
    specials = [np.zeros(v.shape, np.int8) if v.special is None else v.special for v in (no, yes)]
    if (specials[0] != specials[1]).any() or any((s > 1).any() for s in specials):
        raise NeedsBranches("a selection of non-finite numbers")
    special = specials[0] if specials[0].any() else None
    no, yes = (v._replace(special=None) for v in (no, yes))
    mixed = run.add(no, run.mul(which, run.add(yes, no, -1)))
    return mixed._replace(
        special=special, kind=Kind.PIECEWISE, positive=is_positive(no) and is_positive(yes),
        nonnegative=is_nonnegative(no) and is_nonnegative(yes), most=max(no.most, yes.most),
        everywhere=Everywhere.UNKNOWN,
    )  # fmt: skip


def _chosen(where: np.ndarray, a: Value, b: Value) -> Value:
    result = chosen(where, a, b)
    split = any(v.terms or v.known is not None for v in (a, b))
    if result.known is not None or not split or len(a.terms) + len(b.terms) > 5:
        return result
    return result._replace(terms=_masked(where, a) + _masked(~where, b))


def _masked(where: np.ndarray, v: Value) -> tuple[Term, ...]:
    def masked(atom: Value) -> Value:
        known = None if atom.known is None else np.where(where & np.isfinite(atom.known), atom.known, 0.0)
        return Value(atom.x.move(lambda part: np.where(where, part, 0)), atom.degree, known, kind=atom.kind)

    return tuple((c, masked(atom)) for c, atom in terms_of(v))


def maximum(run: Run, a: Value, b: Value) -> Thing:
    largest = select(run, greater(run, a, b, ties=False), [b, a])
    if isinstance(largest, Value):
        positive = is_positive(a) or is_positive(b) or largest.positive
        nonnegative = is_nonnegative(a) or is_nonnegative(b) or largest.nonnegative or _are_opposite(run, a, b)
        return largest._replace(positive=positive, nonnegative=nonnegative)
    return largest


def _are_opposite(run: Run, a: Value, b: Value) -> bool:
    """Whether each is the negative of the other, as in max(x, -x)."""
    return bool(run.field.is_zero(run.field.add(a.x, b.x)).all())


def minimum(run: Run, a: Value, b: Value) -> Thing:
    return select(run, greater(run, a, b, ties=False), [a, b])


def sign(run: Run, a: Value) -> Thing:
    if a.known is not None:
        if a.error and (np.abs(a.known) <= a.error).any():
            raise Unsupported("the sign of a known number that rounding may decide")
        return run.embed(np.sign(a.known))
    zero, one = run.number(0, a.shape), run.number(1, a.shape)
    if a.kind > Kind.ANALYTIC:
        above, below = (as_value(run, truth) for truth in (greater(run, a, zero), greater(run, zero, a)))
        return run.add(above, below, -1)
    signed = select(run, greater(run, a, zero), [run.neg(one), one])
    nothing = np.asarray(run.field.is_zero(a.x))
    return select(run, nothing, [signed, zero]) if nothing.any() else signed


def absolute(run: Run, a: Value) -> Thing:
    size = select(run, greater(run, a, run.number(0, a.shape)), [run.neg(a), a])
    return size._replace(nonnegative=True) if isinstance(size, Value) else size
