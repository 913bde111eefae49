"""Random decisions: where an unknown stands among the numbers that unknowns are compared with.

Every unknown u, -u with it, stands at a random place among the thresholds, each interval between two of them equally
likely. ``handprop.verify.branches`` bounds how many such decisions an entry rests on, and so how often programs that
differ are seen to.
"""

import numpy as np

from handprop.verify.field.algebra import Run, Unsupported
from handprop.verify.field.arithmetic import Elements
from handprop.verify.field.values import Value

__all__ = ["coin", "known_greater", "placed"]


def placed(run: Run, a: Value, b: Value) -> np.ndarray:
    """``a > b`` by the place of what is unknown in ``a - b`` among the thresholds."""
    assert run.thresholds is not None
    (x, left), (y, right) = _unknown_part(run, a), _unknown_part(run, b)
    unknown = run.field.sub(x, y)
    beyond = np.broadcast_to(_exact_sum(right, -left), unknown.shape)
    decided = ~run.field.is_zero(unknown)
    run.compared.update(np.unique(beyond[decided]).tolist())
    run.coins += int(decided.sum())
    run.argument = run.argument.worst(a.degree + b.degree)
    count = len(run.thresholds)
    flipped, canonical = run.canonical(unknown)
    place = run.oracle("place", canonical).re % (count + 1)
    place = np.where(flipped, count - place, place)
    above = place > np.searchsorted(run.thresholds, beyond)
    return run.decide(np.where(decided, above, beyond < 0), np.where(decided, canonical.re, -1))


def coin(run: Run, name: str, x: Elements, sure: np.ndarray) -> np.ndarray:
    """A truth that is not known of each entry, the same for x and -x; False where it is ``sure``."""
    run.coins += int((~sure).sum())
    _, canonical = run.canonical(x)
    return run.decide(~sure & (run.oracle(name, canonical).re % 2 == 1), np.where(sure, -1, canonical.re))


def known_greater(a: Value, b: Value) -> np.ndarray:
    """``a > b`` of known numbers.

    Raises:
        Unsupported: rounding, in the reading of a number or in a program's own dtype, may decide it.
    """
    assert a.known is not None and b.known is not None
    error = a.error + b.error
    if error:
        with np.errstate(all="ignore"):
            close = np.abs(a.known - b.known) <= error
        if close.any():
            raise Unsupported("a comparison of known numbers that rounding may decide")
    return np.asarray(a.known > b.known)


def _unknown_part(run: Run, v: Value) -> tuple[Elements, np.ndarray | float]:
    """``v = unknown + number``."""
    if v.known is not None:
        _check_exact(v)
        finite_part = np.where(np.isfinite(v.known), v.known, 0.0)
        return Elements(np.zeros(v.shape, np.int64)), finite_part
    x, number = v.x, 0.0
    for c, atom in v.terms:
        if atom.known is not None:
            x = run.field.sub(x, run.field.scale(atom.x, run.field.ratio(c.numerator, c.denominator)))
            _check_exact(atom)
            number = _exact_sum(number, float(c) * atom.known)
    return x, number


def _check_exact(v: Value) -> None:
    """That the number is known well enough to be told apart from others."""
    assert v.known is not None
    if v.error and (np.abs(v.known) * 2.0**-10 < v.error).any():
        raise Unsupported("a comparison with a number that rounding may decide")


def _exact_sum(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """The sum of floats, if it is one (Knuth's error-free sum says so): thresholds are told apart exactly."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    total = a + b
    part = total - a
    if ((a - (total - part)) + (b - part)).any():
        raise Unsupported("numbers that are compared with, and that rounding changes")
    return total
