"""Comparisons, and what is chosen by them.

A truth value of known numbers is known. Two readings of all others:

- polynomial: a random field element, a function of the operands' difference. A program is then a polynomial in its
  truth values, and two that agree as polynomials agree for every pattern of truths. It does not know that ``t t = t``.
- branching: every unknown u, -u with it, stands at a random place among the numbers that unknowns are compared with,
  each interval between two of them equally likely. ``handprop.verify.branches`` bounds how many such decisions an
  entry rests on, and so how often programs that differ are seen to.
"""

from typing import TypeAlias

import numpy as np

from handprop.verify.field.algebra import NeedsBranches, Run
from handprop.verify.field.arithmetic import Elements
from handprop.verify.field.degrees import VARIABLE
from handprop.verify.field.functions import choose
from handprop.verify.field.values import Term, Value, is_positive, moved, terms_of

__all__ = ["Thing", "absolute", "as_value", "equal", "greater", "logical_not", "maximum", "minimum", "select", "sign"]

Thing: TypeAlias = "Value | np.ndarray"


def as_value(run: Run, thing: Thing) -> Value:
    return thing if isinstance(thing, Value) else run.embed(thing)


def greater(run: Run, a: Value, b: Value) -> Thing:
    """``a > b``: an array of booleans, or a value in [0, 1] read polynomially."""
    if a.known is not None and b.known is not None:
        return np.asarray(a.known > b.known)
    shape = np.broadcast_shapes(a.shape, b.shape)
    if is_positive(a) and b.known is not None and (b.known <= 0).all():
        return np.ones(shape, bool)
    if is_positive(b) and a.known is not None and (a.known <= 0).all():
        return np.zeros(shape, bool)
    difference = _difference(run, a, b)
    signs = difference.infinite
    if signs is not None and signs.all():
        return signs > 0
    run.coins += difference.x.size
    run.asked(difference)
    if run.branching:
        truth = _placed(run, a, b)
        return truth if signs is None else np.where(signs != 0, signs > 0, truth)
    flipped, canonical = run.canonical(difference.x)
    chance = run.oracle("positive", canonical).re
    truth = np.where(flipped, (1 - chance) % run.field.p, chance)
    truth = np.where(run.field.is_zero(difference.x), 0, truth)
    truth = truth if signs is None else np.where(signs != 0, (signs > 0).astype(np.int64), truth)
    return Value(Elements(truth), VARIABLE)


def _difference(run: Run, a: Value, b: Value) -> Value:
    difference = run.add(a._replace(infinite=None), b._replace(infinite=None), -1)
    if a.infinite is None and b.infinite is None:
        return difference
    zero = np.zeros(difference.shape, np.int8)
    left, right = (zero if v.infinite is None else v.infinite for v in (a, b))
    return difference._replace(infinite=np.sign(left - right).astype(np.int8))


def _placed(run: Run, a: Value, b: Value) -> np.ndarray:
    """``a > b`` by the place of what is unknown in ``a - b`` among the thresholds."""
    assert run.thresholds is not None
    (x, left), (y, right) = _unknown_part(run, a), _unknown_part(run, b)
    unknown = run.field.sub(x, y)
    beyond = np.broadcast_to(np.asarray(right - left, np.float64), unknown.shape)
    run.compared.update(np.unique(beyond).tolist())
    count = len(run.thresholds)
    flipped, canonical = run.canonical(unknown)
    place = run.oracle("place", canonical).re % (count + 1)
    place = np.where(flipped, count - place, place)
    above = place > np.searchsorted(run.thresholds, beyond)
    return run.decide(np.where(run.field.is_zero(unknown), beyond < 0, above))


def _unknown_part(run: Run, v: Value) -> tuple[Elements, np.ndarray | float]:
    """``v = unknown + number``."""
    if v.known is not None:
        finite_part = np.where(np.isfinite(v.known), v.known, 0.0)
        return Elements(np.zeros(v.shape, np.int64)), finite_part
    x, number = v.x, 0.0
    for c, atom in v.terms:
        if atom.known is not None and atom.infinite is None:
            x = run.field.sub(x, run.field.scale(atom.x, run.field.ratio(c.numerator, c.denominator)))
            number = number + float(c) * atom.known
    return x, number


def equal(run: Run, a: Value, b: Value) -> Thing:
    """``a == b``. Never, between a number of the program's text and what depends on the inputs."""
    if a.known is not None and b.known is not None:
        return np.asarray(a.known == b.known)
    difference = _difference(run, a, b)
    same = np.asarray(run.field.is_zero(difference.x))
    if difference.infinite is not None:
        same = np.asarray(same & (difference.infinite == 0))
    if run.branching or a.known is not None or b.known is not None or same.all():
        if not same.all():
            run.assumptions.add("== of what depends on the inputs is read as true where both sides are one function")
        return same
    run.asked(difference)
    run.coins += difference.x.size
    _, canonical = run.canonical(difference.x)
    return Value(Elements(np.where(same, 1, run.oracle("equal", canonical).re)), VARIABLE)


def logical_not(run: Run, truth: Thing) -> Thing:
    if isinstance(truth, np.ndarray):
        return np.asarray(~truth)
    return run.add(run.number(1, truth.shape), truth, -1)


def select(run: Run, which: Thing, cases: list[Thing]) -> Thing:
    """``cases[which]``, entry by entry."""
    if isinstance(which, Value):
        if len(cases) != 2:
            raise NeedsBranches("a choice among more than two")
        no, yes = (as_value(run, case) for case in cases)
        return run.add(no, run.mul(which, run.add(yes, no, -1)))
    index = which.astype(np.int64)
    if index.size and (index == index.flat[0]).all():
        return cases[int(index.flat[0])]
    if all(isinstance(case, np.ndarray) for case in cases):
        return np.choose(np.broadcast_to(index, cases[0].shape), cases)  # pyright: ignore[reportArgumentType, reportCallIssue]
    values = [as_value(run, case) for case in cases]
    shape = np.broadcast_shapes(index.shape, *(v.shape for v in values))
    values = [moved(v, lambda part: np.broadcast_to(part, shape)) for v in values]
    index = np.broadcast_to(index, shape)
    result = values[0]
    for i, value in enumerate(values[1:], 1):
        result = _chosen(run, index == i, value, result)
    return result


def _chosen(run: Run, where: np.ndarray, a: Value, b: Value) -> Value:
    known = None
    if a.known is not None and b.known is not None:
        known = np.where(where, a.known, b.known)
    infinite = None
    if a.infinite is not None or b.infinite is not None:
        zero = np.zeros(where.shape, np.int8)
        infinite = np.where(where, *(zero if v.infinite is None else v.infinite for v in (a, b)))
    terms: tuple[Term, ...] = ()
    split = any(v.terms or v.known is not None for v in (a, b))
    if known is None and split and len(a.terms) + len(b.terms) <= 5:
        terms = _masked(where, a) + _masked(~where, b)
    return Value(choose(where, a.x, b.x), a.degree.worst(b.degree), known, terms, infinite=infinite)


def _masked(where: np.ndarray, v: Value) -> tuple[Term, ...]:
    return tuple(
        (
            c,
            Value(
                atom.x.move(lambda part: np.where(where, part, 0)),
                atom.degree,
                None if atom.known is None else np.where(where, atom.known, 0.0),
                infinite=_nowhere(atom, where),
            ),
        )
        for c, atom in terms_of(v)
    )


def _nowhere(atom: Value, where: np.ndarray) -> np.ndarray | None:
    return None if atom.infinite is None else np.where(where, atom.infinite, 0).astype(np.int8)


def maximum(run: Run, a: Value, b: Value) -> Thing:
    return select(run, greater(run, a, b), [b, a])


def minimum(run: Run, a: Value, b: Value) -> Thing:
    return select(run, greater(run, a, b), [a, b])


def sign(run: Run, a: Value) -> Thing:
    if a.known is not None:
        return run.embed(np.sign(a.known))
    zero, one = run.number(0, a.shape), run.number(1, a.shape)
    return select(run, greater(run, a, zero), [run.neg(one), one])


def absolute(run: Run, a: Value) -> Thing:
    return select(run, greater(run, a, run.number(0, a.shape)), [run.neg(a), a])
