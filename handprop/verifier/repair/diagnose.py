"""Diagnose a mistake from the outputs alone. A cause is tested exactly and must explain every wrong output."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from handprop.verifier.problem import Problem
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.interpretation import Interpretation, entries_of, rational, wrong

__all__ = ["by_outputs"]

SMALL = 4096


class ByOutputs(NamedTuple):
    """The diagnosis, and whether the gradients of several arguments are swapped."""

    said: str
    swapped: bool


def by_outputs(problem: Problem, interpretation: Interpretation, got: tuple[Value, ...]) -> ByOutputs | None:
    """Return a diagnosis that explains all wrong outputs, or None if no cause does."""
    bad = wrong(interpretation, got)
    if not bad or any(v.special is not None for i in bad for v in (got[i], interpretation.want[i])):
        return None
    for cause in (_nothing, _factor, _swapped, _transposed):
        if said := cause(problem, interpretation, got, bad):
            return ByOutputs(said, cause is _swapped)
    return None


def _nothing(problem: Problem, interpretation: Interpretation, got: tuple[Value, ...], bad: list[int]) -> str | None:
    if not all(interpretation.field.is_zero(got[i].x).all() for i in bad):
        return None
    return f"{', '.join(problem.out_paths[i] for i in bad)}: zero throughout, a term or an output is missing"


def _factor(problem: Problem, interpretation: Interpretation, got: tuple[Value, ...], bad: list[int]) -> str | None:
    ratios = {_ratio(interpretation, got[i], interpretation.want[i]) for i in bad}
    if len(ratios) != 1 or (ratio := ratios.pop()) is None:
        return None
    if ratio == -1:
        return "the sign is wrong"
    if max(abs(ratio.numerator), ratio.denominator) > SMALL:
        return None
    return (
        f"a constant factor is wrong: {', '.join(problem.out_paths[i] for i in bad)} is {ratio} times what it should be"
    )


def _ratio(interpretation: Interpretation, got: Value, want: Value) -> Fraction | None:
    if got.shape != want.shape:
        return None
    f = interpretation.field
    a, b = entries_of(got.x), entries_of(want.x)
    places = np.nonzero(b)[0]
    if not places.size or not a[places[0]]:
        return None
    c = int(a[places[0]]) * pow(int(b[places[0]]), -1, f.p) % f.p
    if not f.is_zero(f.sub(got.x, f.scale(want.x, c))).all():
        return None
    found = rational(f.p, c)
    return Fraction(*found) if found else None


def _swapped(problem: Problem, interpretation: Interpretation, got: tuple[Value, ...], bad: list[int]) -> str | None:
    f = interpretation.field
    for i in bad:
        twin = [j for j in bad if j != i and got[i].shape == interpretation.want[j].shape
                and f.is_zero(f.sub(got[i].x, interpretation.want[j].x)).all()]  # fmt: skip
        if not twin:
            return None
    names = ", ".join(problem.out_paths[i] for i in bad)
    return f"another argument's gradient is returned: {names} are swapped"


def _transposed(problem: Problem, interpretation: Interpretation, got: tuple[Value, ...], bad: list[int]) -> str | None:
    f = interpretation.field
    for i in bad:
        a, b = got[i], interpretation.want[i]
        if (
            a.shape != b.shape
            or len(a.shape) != 2
            or a.shape[0] != a.shape[1]
            or not f.is_zero(f.sub(a.x.move(np.transpose), b.x)).all()
        ):
            return None
    return "it is transposed"
