"""Solve for terms and factors that a statement lacks, rather than guess them.

In a run of the program, the outputs depend on the value ``v`` of one expression. Backward passes are affine in most of
the values that they compute. If the outputs are affine in ``v``, then ``outputs(v + t) = outputs(v) + A t``. A term
``t`` is missing if ``A t`` is a multiple of what the outputs lack. A factor ``f`` is missing if ``A (v f)`` is a
multiple of that plus ``A v``. This is exact linear algebra over the field, for thousands of products of the expressions
in scope. Only a few random combinations of the rows of ``A`` are kept; the chance that they agree by accident is about
1/p for each product.
"""

import functools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from handprop.verifier.proof.field.arithmetic import Elements, Field
from handprop.verifier.proof.field.hashing import mix
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.edits.expressions import Library, atoms_of, flattened, products_of
from handprop.verifier.repair.instrument import Instrumented, shifted
from handprop.verifier.repair.interpretation import rational
from handprop.verifier.repair.scope import Scope

__all__ = ["Missing", "Term", "is_wide", "product", "tails_of"]

TURNS = 2  # iterations of a loop that are looked at
ROWS = 2  # the chance of an accidental match is 1/p
MAX_ENTRIES, MAX_SOLVED = 4096, 512
MAX_NUMERATOR = 64
MAX_SUMMED, MAX_SUMS, OF_A_SUM = 4096, 3, 0.8


class Term(NamedTuple):
    """An expression of the names in scope, taken ``times`` a number.

    Its ``kind`` is "term" or "factor" for a missing one, or "instead" for a replacement.
    """

    kind: str
    text: str
    times: Fraction
    cost: float


class Tail(NamedTuple):
    """The same combinations of rows of A (``rows``), of what the outputs ``lack``, and of A v (``own``)."""

    rows: np.ndarray
    lack: np.ndarray
    own: np.ndarray


class Missing:
    """Solves for what the expressions of an instrumented statement lack.

    ``scope`` is what the statement's names refer to, ``known`` are values of the reference, ``expressions`` texts of
    other expressions that may be meant, and ``kept`` the libraries of expressions in scope, by shape.
    """

    def __init__(
        self,
        instrumented: Instrumented,
        scope: Scope,
        known: Sequence[Value],
        expressions: Sequence[str],
        rng: np.random.Generator,
    ):
        self.scope = scope
        self.instrumented, self.field, self.known, self.rng = (
            instrumented,
            instrumented.interpretation.field,
            known,
            rng,
        )
        self.expressions = expressions
        self.kept: dict[tuple, list[Library]] = {}
        self.wide = is_wide(instrumented)
        self.tails = tails_of(instrumented, self.wide, rng)

    @property
    def numbers(self) -> list[int]:
        """The expressions that can be asked about."""
        return list(_finite(self.instrumented))

    def of(self, number: int, top: bool) -> list[Term]:
        """Return the terms and factors that make the outputs right if added to the expression, the simplest first.

        If the outputs are not affine in the expression, or if it is in a loop whose iterations feed each other, the
        search is for whatever turns the expression's value in an early iteration into a value of the reference.
        ``top`` says that the expression is all that a statement assigns or returns; it may then lack something even if
        the reference has its value.
        """
        turns = range(len(self.instrumented.iterations))[:TURNS]
        looked = turns if number not in self.tails or len(turns) > 1 else ()
        found = list(dict.fromkeys(term for turn in looked for term in self._recognised(number, top, turn)))
        if not found and number in self.tails:
            found = self._solved(number)
        found = [t for t in found if not (t.kind == "factor" and t.text == "1" and t.times == 1)]
        return sorted(found, key=lambda t: (t.cost, len(t.text), t.text))

    def _solved(self, number: int) -> list[Term]:
        f, tail = self.field, self.tails[number]
        values = [iteration.values[number] for iteration in self.instrumented.iterations]
        own = flattened([v.x for v in values], self.wide)
        both = f._add(tail.lack, tail.own)
        targets = {"term": tail.lack[:, None], "factor": both[:, None], "instead": both[:, None]}
        libraries = self._libraries(values[0].shape, slice(0, len(values)))
        return [*self._fitting(libraries, tail.rows, own, targets, False), *self._sums(libraries, tail.rows, both)]

    def _sums(self, libraries: list[Library], rows: np.ndarray, target: np.ndarray) -> list[Term]:
        """Return sums and differences of two library entries that may replace the expression.

        Their image must be the target. For each first entry, the remainder is looked up among the other entries.
        """
        if not libraries:
            return []
        f = self.field
        texts = [text for library in libraries for text in library.texts]
        costs, columns = (np.concatenate([getattr(library, name) for library in libraries])
                          for name in ("costs", "columns"))  # fmt: skip
        kept = np.argsort(costs, kind="stable")[:MAX_SUMMED]
        image = product(f, rows, columns[kept].T)
        kept, image = kept[image[0] != 0], image[:, image[0] != 0]
        both = np.concatenate([image, f.neg(Elements(image)).re], axis=1)
        keys, left = (mix(x[0], x[1]) for x in (both, f._sub(target[:, None], both)))
        order = np.argsort(keys, kind="stable")  # of equal values, the cheapest comes first
        at = np.minimum(np.searchsorted(keys[order], left), len(order) - 1)
        fits = np.nonzero(keys[order][at] == left)[0] if len(order) else []
        count = len(kept)
        pairs = {tuple(sorted((int(k), int(order[at[k]])))) for k in fits}
        ranked = sorted((costs[kept[a % count]] + costs[kept[b % count]], a, b) for a, b in pairs if a < count)
        return [Term("instead", f"{texts[kept[a]]} {'+' if b < count else '-'} {texts[kept[b % count]]}", Fraction(1),
                     float(cost) + OF_A_SUM) for cost, a, b in ranked[:MAX_SUMS]]  # fmt: skip

    def _recognised(self, number: int, top: bool, turn: int) -> list[Term]:
        f, value = self.field, self.instrumented.iterations[turn].values[number]
        own = flattened([value.x], self.wide)
        targets = self._targets(number, turn)
        if not len(targets) or (not top and (targets == own).all(1).any()):
            return []
        rows = f.draw(self.rng, (ROWS, own.size)).re
        image = product(f, rows, targets.T)
        wanted = {"term": f._sub(image, product(f, rows, own[:, None])), "factor": image, "instead": image}
        return self._fitting(self._libraries(value.shape, slice(turn, turn + 1)), rows, own, wanted, True)

    def _fitting(self, libraries: list[Library], rows: np.ndarray, own: np.ndarray, targets: dict[str, np.ndarray],
                 written: bool) -> list[Term]:  # fmt: skip
        """Return the library entries whose image under ``rows`` is one of the ``targets`` (ROWS, any).

        With ``written``, only expressions that the user wrote somewhere may replace the expression.
        """
        f, found = self.field, []
        by_own = _times_rows(f, rows, own, self.wide)
        for library in libraries:
            plain = product(f, rows, library.columns.T)
            images = {"term": plain, "factor": product(f, by_own, library.columns.T), "instead": plain}
            for kind, image in images.items():
                for k, times in _ratios(f, image, targets[kind]):
                    if kind == "instead" and written and k not in library.written:
                        continue
                    cost = float(library.costs[k]) + _cost(kind, times)
                    found.append(Term(kind, library.texts[k], times, cost))
        return found

    def _targets(self, number: int, turn: int) -> np.ndarray:
        """Return the values of the reference that no name and no other expression of the statement has."""
        iteration = self.instrumented.iterations[turn]
        size = iteration.values[number].x.size
        here = [*iteration.names.values(), *(v for k, v in iteration.values.items() if k != number)]
        seen = {flattened([v.x], self.wide).tobytes() for v in here if isinstance(v, Value) and v.x.size == size}
        found = {}
        for v in self.known:
            if v.x.size == size and v.special is None:
                flat = flattened([v.x], self.wide)
                if (key := flat.tobytes()) not in seen:
                    found[key] = flat
        return np.stack(list(found.values())) if found else np.zeros((0, 1), np.int64)

    def _libraries(self, shape: tuple[int, ...], turns: slice) -> list[Library]:
        key = shape, turns.start, turns.stop
        if key not in self.kept:
            atoms = atoms_of(
                self.instrumented, self.scope, self.instrumented.iterations[turns], self.expressions, shape
            )
            self.kept[key] = list(products_of(self.field, atoms, self.expressions, self.wide))
        return self.kept[key]


def _cost(kind: str, times: Fraction) -> float:
    extra = 0 if times == 1 else 0.1 if times == -1 and kind == "term" else 0.6
    return extra + {"term": 0.1, "factor": 0, "instead": 0.5}[kind]


def _finite(instrumented: Instrumented) -> dict[int, Value]:
    """Return the expressions whose values in the first iteration are all finite and few enough."""
    first = instrumented.iterations[0].values
    return {n: v for n, v in first.items()
            if isinstance(v, Value) and v.special is None and 0 < v.x.size <= MAX_ENTRIES}  # fmt: skip


def is_wide(instrumented: Instrumented) -> bool:
    held = [
        x
        for iteration in instrumented.iterations
        for x in (*iteration.names.values(), *iteration.values.values())
        if isinstance(x, Value)
    ]
    return any(v.x.im is not None for v in (*held, *instrumented.outputs, *instrumented.interpretation.want))


def tails_of(instrumented: Instrumented, wide: bool, rng: np.random.Generator) -> dict[int, Tail]:
    """Return a tail for every expression in which the outputs are affine."""
    f, want = instrumented.interpretation.field, instrumented.interpretation.want
    if any(v.special is not None for v in (*instrumented.outputs, *want)):
        return {}
    if [v.shape for v in instrumented.outputs] != [v.shape for v in want]:
        return {}
    places = _places(instrumented, wide)
    if not places:
        return {}
    random = [f.draw(rng, (ROWS, 2 * v.x.size)).re for v in want]
    answers = shifted(instrumented, _shifts(instrumented, places, wide, rng, drawn := {}))
    changes = [f.sub(x, o.x.move(lambda part: part[None])) for x, o in zip(answers, instrumented.outputs, strict=True)]
    rows = _combined(f, random, changes)
    lacks = [_combined(f, [row], [f.sub(w.x, o.x).move(lambda part: part[None])])[:, 0]
             for row, w, o in zip(random, want, instrumented.outputs, strict=True)]  # fmt: skip
    found = {}
    for number, place in places.items():
        # Several mistakes each affect other outputs, so use only the outputs that depend on this expression.
        depend = [
            x for x, c in zip(lacks, changes, strict=True) if not f.is_zero(c).reshape(len(c.re), -1)[place.start].all()
        ]
        lack = functools.reduce(f._add, depend, np.zeros(ROWS, np.int64))
        if not lack.any():
            continue
        answered = rows[:, place.start]
        probe = drawn[number]
        if place.size:
            own_rows = rows[:, place.start + 1 : place.start + 1 + place.size]
        else:
            own_rows = _copied_rows(f, probe, [c.move(lambda part, k=place.start: part[k]) for c in changes], random)
        if own_rows is None or not np.array_equal(
            product(f, own_rows, flattened(probe, wide)[:, None])[:, 0], answered
        ):
            continue
        own = flattened([iteration.values[number].x for iteration in instrumented.iterations], wide)
        found[number] = Tail(own_rows, lack, product(f, own_rows, own[:, None])[:, 0])
    return found


class _Place(NamedTuple):
    """Where an expression's shifts are in the batch: one random shift, then ``size`` unit shifts."""

    start: int
    size: int


def _places(instrumented: Instrumented, wide: bool) -> dict[int, _Place]:
    places, start, solved = {}, 0, 0
    for number, value in _finite(instrumented).items():
        size = value.x.size * len(instrumented.iterations) * (2 if wide else 1)
        if size > MAX_ENTRIES:
            continue
        size = size if solved + size <= MAX_SOLVED else 0
        places[number] = _Place(start, size)
        start, solved = start + 1 + size, solved + size
    return places


def _shifts(instrumented: Instrumented, places: dict[int, _Place], wide: bool, rng: np.random.Generator,
            drawn: dict[int, list[Elements]]) -> dict[int, list[Elements]]:  # fmt: skip
    f, whole = instrumented.interpretation.field, sum(1 + place.size for place in places.values())
    shifts = {}
    for number, place in places.items():
        shape, iterations = instrumented.iterations[0].values[number].shape, len(instrumented.iterations)
        drawn[number] = [f.draw(rng, shape) for _ in range(iterations)]
        per = int(np.prod(shape, dtype=np.int64))
        parts = np.zeros((2 if wide else 1, iterations, whole, per), np.int64)
        for iteration in range(iterations):
            parts[0, iteration, place.start] = drawn[number][iteration].re.ravel()
        for column in range(place.size):
            part, rest = divmod(column, iterations * per)
            parts[part, rest // per, place.start + 1 + column, rest % per] = 1
        parts = parts.reshape(parts.shape[:3] + shape)
        shifts[number] = [
            Elements(parts[0, iteration], parts[1, iteration] if wide else None) for iteration in range(iterations)
        ]
    return shifts


def _combined(f: Field, random: list[np.ndarray], changes: list[Elements]) -> np.ndarray:
    """Return random combinations of the outputs' entries for each element of a batch: (ROWS, batch)."""
    total = None
    for row, x in zip(random, changes, strict=True):
        flat = np.concatenate([x.re.reshape(len(x.re), -1), x.imaginary().reshape(len(x.re), -1)], axis=1)
        part = product(f, row, flat.T)
        total = part if total is None else f._add(total, part)
    assert total is not None
    return total


def _copied_rows(f: Field, probe: list[Elements], answered: list[Elements],
                 random: list[np.ndarray]) -> np.ndarray | None:  # fmt: skip
    """Return the rows if the only output that changes is a multiple of the expression itself, else None."""
    changed = [i for i, x in enumerate(answered) if not f.is_zero(x).all()]
    if len(changed) != 1 or len(probe) != 1 or answered[changed[0]].size != probe[0].size:
        return None
    (i,) = changed
    a, b = answered[i].re.ravel(), probe[0].re.ravel()
    c = int(a[0]) * pow(int(b[0]), -1, f.p) % f.p
    if answered[i].im is not None or not np.array_equal(a, f._mul(b, np.asarray(c, np.int64))):
        return None
    return f._mul(random[i][:, : a.size], np.asarray(c, np.int64))


def product(f: Field, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return f.bilinear(Elements(a), Elements(b), np.matmul, a.shape[1]).re


def _times_rows(f: Field, rows: np.ndarray, own: np.ndarray, wide: bool) -> np.ndarray:
    """Return ``rows_`` such that ``rows_ t = rows (own t)`` for every t."""
    if not wide:
        return f._mul(rows, own[None])
    half = own.size // 2
    re, im = rows[:, :half], rows[:, half:]
    real, imaginary = own[None, :half], own[None, half:]
    return np.concatenate([f._add(f._mul(re, real), f._mul(im, imaginary)),
                           f._sub(f._mul(im, real), f._mul(re, imaginary))], axis=1)  # fmt: skip


def _ratios(f: Field, image: np.ndarray, targets: np.ndarray) -> Iterator[tuple[int, Fraction]]:
    """Yield the columns of the image that are a target up to a small rational factor, with that factor."""
    marks, wanted = _directions(f, image), _directions(f, targets)
    fits = np.isin(marks[0], wanted[0]) & (image[0] != 0)
    places: dict[tuple[int, ...], int] = {tuple(wanted[:, j].tolist()): j for j in reversed(range(wanted.shape[1]))
                                          if targets[0, j]}  # fmt: skip
    for k in np.nonzero(fits)[0]:
        j = places.get(tuple(marks[:, k].tolist()))
        if j is None:
            continue
        found = rational(f.p, int(targets[0, j]) * pow(int(image[0, k]), -1, f.p) % f.p)
        if found and is_plain(Fraction(*found)):
            yield int(k), Fraction(*found)


def is_plain(c: Fraction) -> bool:
    """Whether people write this number as a literal."""
    if not c or max(abs(c.numerator), c.denominator) <= MAX_NUMERATOR:
        return bool(c)
    return 10**6 % c.denominator == 0 and len(str(c.numerator).strip("-0")) <= 3


def _directions(f: Field, image: np.ndarray) -> np.ndarray:
    """Return the images without their scale: the later rows divided by the first."""
    inverse = f.inv(Elements(image[:1])).re
    return f._mul(image[1:], inverse)
