"""What two programs do at points, to 40 digits and more, by an evaluation that shares nothing with the verifier."""

import enum
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import mpmath
import numpy as np
from mpmath.libmp import NoConvergence

sys.path.append(str(Path(__file__).parents[2] / "tests"))
import mpmath_oracle

__all__ = ["Kind", "Relation", "points", "related", "relation"]

# To judge with, and to see whether a difference stays; more of both where rounding may have decided something.
DIGITS, MORE_DIGITS = (50, 300), (300, 900)
AGREE, SAME = 1e-40, 1e-20


class Kind(enum.Enum):
    """What sort of point it is: "ties" are small integers, zeros among them."""

    GENERIC = "generic"
    TIES = "ties"


class Relation(enum.Enum):
    """How two programs stand to each other at a point, or at several."""

    EQUAL = "equal"
    DIFFERENT = "different"
    DOMAIN = "one is defined, the other is not"
    UNKNOWN = "nothing to compare"


class Point(NamedTuple):
    kind: Kind
    inputs: tuple[np.ndarray, ...]


def points(shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, count: int, ties: int) -> Iterator[Point]:
    """Points of several scales, the second of positive numbers alone, and then those with zeros and ties."""
    for i in range(count):
        scale = (1.0, 2.5, 0.4, 8.0)[i % 4]
        inputs = (np.asarray(scale * rng.normal(size=shape), np.float32) for shape in shapes)
        yield Point(Kind.GENERIC, tuple(np.abs(x) if i % 4 == 1 else x for x in inputs))
    for _ in range(ties):
        yield Point(Kind.TIES, tuple(np.asarray(rng.integers(-1, 3, size=shape), np.float32) for shape in shapes))


class Evaluated(NamedTuple):
    """The entries of all outputs, whether rounding may have decided something, and whether NaN was compared."""

    entries: list[Any]
    doubtful: bool
    undefined: bool


def evaluated(program: Any, point: Point, digits: int, readings: Mapping[float, Any]) -> Evaluated:
    doubts: list[str] = []
    outputs = mpmath_oracle.evaluate(program, point.inputs, digits, readings, doubts)
    of_rounding = [doubt for doubt in doubts if doubt != "nan"]
    return Evaluated([x for output in outputs for x in output.ravel()], bool(of_rounding), "nan" in doubts)


def same(a: Any, b: Any, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(1, abs(a), abs(b))


def relation(left: Any, right: Any, point: Point, readings: Mapping[float, Any]) -> Relation:
    """At one point; what more digits change is not known, and what rests on a comparison of NaN is not defined."""

    def of_both(digits: int) -> list[Evaluated]:
        return [evaluated(program, point, digits, readings) for program in (left, right)]

    try:
        a, b = of_both(DIGITS[0])
        few, more = DIGITS if not (a.doubtful or b.doubtful) else MORE_DIGITS
        if few != DIGITS[0]:
            a, b = of_both(few)
        before = list(zip(a.entries, b.entries, strict=True))
        found = [entries(*pair) for pair in before]
        if worst(found) in (Relation.DIFFERENT, Relation.DOMAIN):
            after = zip(*(each.entries for each in of_both(more)), strict=True)
            found = [one if entries(*new) is one and all(map(stays, old, new)) else Relation.UNKNOWN
                     for one, old, new in zip(found, before, after, strict=True)]  # fmt: skip
    except (OverflowError, NoConvergence):
        return Relation.UNKNOWN
    if worst(found) is Relation.DIFFERENT and (a.undefined or b.undefined):
        return Relation.UNKNOWN if a.undefined and b.undefined else Relation.DOMAIN
    return worst(found)


def entries(a: Any, b: Any) -> Relation:
    finite = mpmath.isfinite(a), mpmath.isfinite(b)
    if all(finite):
        return Relation.EQUAL if same(a, b, AGREE) else Relation.DIFFERENT
    return Relation.DOMAIN if any(finite) else Relation.UNKNOWN


def stays(before: Any, after: Any) -> bool:
    """Whether a number is the same with more digits."""
    return same(before, after, SAME) if mpmath.isfinite(before) else not mpmath.isfinite(after)


def worst(found: Sequence[Relation]) -> Relation:
    """Of several relations the one that says most against equality."""
    order = (Relation.DIFFERENT, Relation.DOMAIN, Relation.EQUAL)
    return next((one for one in order if one in found), Relation.UNKNOWN)


def traced(f: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    return jax.make_jaxpr(f)(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))


def related(left: Any, right: Any, at: Iterator[Point], readings: Mapping[float, Any]) -> dict[Kind, Relation]:
    """How two traced programs stand to each other, at the points of each kind together."""
    found: dict[Kind, list[Relation]] = {kind: [] for kind in Kind}
    for point in at:
        found[point.kind].append(relation(left, right, point, readings))
        if found[point.kind][-1] is Relation.DIFFERENT:
            break
    return {kind: worst(relations) for kind, relations in found.items()}
