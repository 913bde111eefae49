"""How a primitive's results depend on decisions: one rule for each of the table's ``Decisions``."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from handprop.verifier.programs.jaxprs import is_float
from handprop.verifier.programs.primitives import Decisions, Kind, row
from handprop.verifier.proof.decision_facts import (
    UNBOUNDED,
    Axes,
    Fact,
    Label,
    decided,
    elementwise,
    over,
    own,
    relabelled,
    spread_out,
    text_of,
)
from handprop.verifier.proof.integer_bounds import largest_of_type

__all__ = ["Rules"]

TIE = 1.0  # bits of the decision whether two values are equal
Rule: TypeAlias = Callable[[Any, list[Fact], list[tuple[int, ...]]], Fact]


class Rules:
    """The rules, and what they have found in one program.

    ``bits``: the bits of one comparison. ``claiming``: whether two analytic unknowns are claimed never to tie.
    ``claims``: the most bits of decisions under any claim that two unknowns never tie. ``extreme_of``: for the name of
    each maximum or minimum of two values, the names of these two.
    """

    def __init__(self, bits: float, claiming: bool):
        self.bits = bits
        self.never_tie_up_to = (
            Kind.ANALYTIC if claiming else Kind.RATIONAL
        )  # two unknowns of at most this kind never tie
        self.claims = 0.0
        self.extreme_of: dict[int, set[int]] = {}
        self.names: dict[Any, int] = {}
        self.rules: dict[Decisions, Rule] = {
            Decisions.MIXED: self.mixing,
            Decisions.NONLINEAR: self.nonlinear,
            Decisions.LINEAR: self.linear,
            Decisions.PRODUCT: self.product,
            Decisions.COMPARED: self.compared,
            Decisions.EQUATED: self.equated,
            Decisions.SELECTED: self.selected,
            Decisions.CONVERTED: self.converted,
            Decisions.DIVIDED: self.divided,
            Decisions.SUMMED: self.summed,
            Decisions.LARGEST: self.largest,
            Decisions.RUNNING: self.running,
            Decisions.WINDOW: self.window,
            Decisions.ORDERED: self.sort,
            Decisions.DOT: self.dot,
            Decisions.BROADCAST: self.broadcast,
            Decisions.TRANSPOSED: self.transpose,
            Decisions.SQUEEZED: self.squeeze,
            Decisions.RESHAPED: self.reshape,
            Decisions.UNBOUNDED: lambda eqn, facts, shapes: UNBOUNDED,
        }

    def named(self, *parts: Any) -> int:
        return self.names.setdefault(parts, len(self.names))

    def results(self, eqn: Any, facts: list[Fact], decisions: Decisions) -> list[Fact]:
        """The facts of the results, except for their names."""
        shapes = [getattr(v.aval, "shape", ()) for v in eqn.invars]
        if any(f.bits == math.inf for f in facts):
            return [UNBOUNDED] * len(eqn.outvars)
        if decisions is Decisions.PIVOTED:
            return self.pivoted(eqn, facts)
        if decisions is Decisions.MOVED:  # each of several outputs has entries of its own
            return [self.moved(eqn, facts, shapes, i) for i, _ in enumerate(eqn.outvars)]
        if decisions is Decisions.MIXED:  # which several outputs may have other ranks
            return [self.mixing(eqn, facts, shapes, len(getattr(v.aval, "shape", ()))) for v in eqn.outvars]
        return [self.rules[decisions](eqn, facts, shapes)] * len(eqn.outvars)

    def linear(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        return elementwise(eqn, facts, shapes, max(f.bits for f in facts))

    def product(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        return elementwise(eqn, facts, shapes, math.fsum(f.bits for f in facts))

    def pivoted(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        """Add the decisions for each matrix, the permutation of its rows or the signs of its columns, to all that the
        matrix rests on."""
        rows, columns = eqn.invars[0].aval.shape[-2:]
        kept = min(rows, columns)
        bits = float(kept)
        if eqn.primitive.name == "lu":
            bits = (math.lgamma(rows + 1) - math.lgamma(rows - kept + 1)) / math.log(2)
        outs = []
        for v in eqn.outvars:
            batch, rank = len(eqn.invars[0].aval.shape) - 2, len(v.aval.shape)
            mixed = self.mixing(eqn, facts, [eqn.invars[0].aval.shape], rank)
            along = tuple(i if i < batch else None for i in range(rank))
            support = {**mixed.support, ((eqn.primitive.name, facts[0].name), along): bits}
            outs.append(mixed._replace(support=support, bits=math.fsum(support.values())))
        return outs

    def transpose(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        return relabelled(facts[0], lambda along: tuple(along[i] for i in eqn.params["permutation"]))

    def squeeze(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        gone = eqn.params["dimensions"]
        return relabelled(facts[0], lambda along: tuple(x for i, x in enumerate(along) if i not in gone))

    def nonlinear(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        out = elementwise(eqn, facts, shapes, 0.0)
        return out._replace(bits=out.weight if any(f.bits for f in facts) else 0.0)

    def compared(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """Add one decision to all that the operands rest on. Comparisons of the same unknown share one decision."""
        out = self.nonlinear(eqn, facts, shapes)
        if all(not is_float(v.aval.dtype) for v in eqn.invars):
            return out
        self.claim(facts, out.support)
        pairs = [facts[:2]] if eqn.primitive.name != "clamp" else list(itertools.combinations(facts, 2))
        compared = {self.difference(pair) for pair in pairs if not all(f.known for f in pair)}
        support = {**out.support, **{own(pair, eqn): self.bits for pair in compared}}
        unknown = [f.kind for f in facts if not f.known]
        never_tie = max(self.never_tie_up_to, Kind.UNIVARIATE) if len(unknown) == 1 else self.never_tie_up_to
        if max(unknown) > never_tie:  # ties are decided too
            support |= {own(("equal", self.sides(pair)), eqn): TIE for pair in pairs}
        return out._replace(support=support, bits=math.fsum(support.values()))

    def claim(self, facts: Sequence[Fact], support: "dict[Label, float]") -> None:
        """Note that these values are compared, and may be claimed never to tie whatever decisions they rest on."""
        if any(f.kind is not Kind.RATIONAL for f in facts):
            self.claims = max(self.claims, math.fsum(support.values()))

    def difference(self, facts: Sequence[Fact]) -> Any:
        """A name for the unknown part of the difference of two operands, the same for the negative difference."""
        signed = []
        for fact, sign in zip(facts, (1, -1), strict=False):
            if not fact.known:
                signed.append((fact.name, sign) if fact.opposite is None else (fact.opposite, -sign))
        signed.sort()
        return tuple((name, sign * signed[0][1]) for name, sign in signed)

    def sides(self, facts: Sequence[Fact]) -> Any:
        """A name for the tie of two operands, known numbers included.

        ``x > 1`` and ``x > 2`` are one decision, on the place of x among all numbers that unknowns are compared with.
        But ``x == 1`` and ``x == 2`` are decided separately.
        """
        return tuple(sorted(fact.name for fact in facts))

    def equated(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """The facts of ``==`` and ``!=``, in two cases.

        ``x == y``: if neither side has relations that the field does not know (both kinds are at most ``apart``), the
        sides are claimed to be equal almost nowhere, and there is no decision. Otherwise whether they tie is decided.
        ``x == max(x, y)``: one side is the maximum or minimum of the other and a third value. Nothing is claimed here,
        as the claim that x and y never tie is made where the maximum is taken. A tie is decided or not as above.
        """
        out = self.nonlinear(eqn, facts, shapes)
        if not any(f.name in self.extreme_of.get(g.name, ()) for f, g in itertools.permutations(facts)):
            self.claim(facts, out.support)
        if all(f.kind <= self.never_tie_up_to for f in facts) or not is_float(eqn.invars[0].aval.dtype):
            return out
        support = {**out.support, own(("equal", self.sides(facts)), eqn): TIE}
        return out._replace(support=support, bits=math.fsum(support.values()))

    def selected(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        which = facts[0] if eqn.invars[0].aval.dtype == np.bool_ else facts[0].nonlinear()
        return elementwise(eqn, facts, shapes, which.bits + max(f.bits for f in facts[1:]))

    def converted(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """Linear, except for casts of numbers to integers or booleans, which round or compare."""
        old, new = eqn.invars[0].aval, eqn.outvars[0].aval
        wraps = jnp.issubdtype(new.dtype, jnp.unsignedinteger) and jnp.issubdtype(old.dtype, jnp.signedinteger)
        fits = not is_float(old.dtype) and facts[0].most <= largest_of_type(new) and not wraps
        exact = is_float(new.dtype) or old.dtype == np.bool_ or fits
        if exact:
            return elementwise(eqn, facts, shapes, facts[0].bits)
        return self.compared(eqn, facts, shapes) if is_float(old.dtype) else self.nonlinear(eqn, facts, shapes)

    def divided(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        if not is_float(eqn.outvars[0].aval.dtype):
            return self.nonlinear(eqn, facts, shapes)
        return elementwise(eqn, facts, shapes, facts[0].bits + facts[1].nonlinear().bits)

    def running(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """A running maximum or minimum: each entry is compared with the extreme of those before it."""
        axis = eqn.params["axis"]
        bits = (shapes[0][axis] - 1) * self.compared_bits(facts[0])
        label = own(("running", eqn.primitive.name, facts[0].name, text_of(eqn.params)), eqn)
        support = over(facts[0], shapes[0], (axis,), keep=True)
        self.claim(facts[:1], {**support, label: bits})  # the largest so far is one of the entries before
        return decided(eqn, facts[0], support, label, bits)

    def largest(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        axes = tuple(eqn.params["axes"])
        count = math.prod(shapes[0][axis] for axis in axes)
        low = eqn.primitive.name in ("reduce_min", "argmin")
        label = own(("largest", facts[0].name, axes, low), eqn)
        support = over(facts[0], shapes[0], axes)
        self.claim(facts[:1], support)
        return decided(
            eqn, facts[0], support, label,
            math.log2(count) if count > 2 else self.compared_bits(facts[0]),
        )  # fmt: skip

    def compared_bits(self, fact: Fact) -> float:
        """The bits of a comparison of two of its entries, which also decides a tie where they may tie."""
        return self.bits + (TIE if fact.kind > self.never_tie_up_to else 0.0)

    def sort(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        axis = eqn.params.get("dimension", eqn.params.get("axis", -1)) % len(shapes[0])
        count = shapes[0][axis]
        chosen = eqn.params.get("k", count)
        bits = (math.lgamma(count + 1) - math.lgamma(count - chosen + 1)) / math.log(2)
        along = tuple(None if i == axis else i for i in range(len(shapes[0])))
        support: dict[Label, float] = {}
        for fact in facts:
            support |= over(fact, shapes[0], (axis,), keep=True)
        self.claim(facts[:1], support)
        return decided(eqn, facts[0], support, (("order", facts[0].name, axis, chosen), along), bits)

    def window(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        bits = (math.prod(eqn.params["window_dimensions"]) - 1) * self.compared_bits(facts[0])
        label = own(("window", facts[0].name, text_of(eqn.params)), eqn)
        support = self.mixing(eqn, facts[:1], shapes[:1]).support
        self.claim(facts[:1], {**support, label: bits})
        return decided(eqn, facts[0], support, label, bits)

    def summed(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        if eqn.primitive.name.startswith("scatter"):
            return self.scattered(eqn, facts, shapes)
        bits = max(f.bits for f in facts)
        if eqn.primitive.name != "reduce_sum":
            return spread_out(eqn, facts)._replace(bits=bits)
        return facts[0]._replace(bits=bits, support=over(facts[0], shapes[0], tuple(eqn.params["axes"])))

    def scattered(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """A sum in which each term is an update, at the place that the update's own index decides."""
        operand, index, updates = facts
        row = math.fsum(over(index, shapes[1], (len(shapes[1]) - 1,)).values())  # all components of an index
        bits = max(operand.bits, updates.bits + (row if index.bits else 0.0))
        return self.mixing(eqn, facts, shapes)._replace(bits=bits)

    def dot(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        contract, batch = eqn.params["dimension_numbers"]
        frees = [len(s) - len(c) - len(b) for s, c, b in zip(shapes, contract, batch, strict=True)]
        support: dict[Label, float] = {}
        for k, fact in enumerate(facts):
            for (base, along), weight in fact.support.items():
                over = tuple(i for i in contract[k] if along[i] is not None)
                own = [along[i] for i in range(len(along)) if i not in (*contract[k], *batch[k])]
                free = [*own, *[None] * frees[1]] if k == 0 else [*[None] * frees[0], *own]
                label = ((base, "over", along, over) if over else base, (*(along[i] for i in batch[k]), *free))
                support[label] = support.get(label, 0.0) + weight * math.prod(shapes[k][i] for i in over)
        out = facts[0]._replace(bits=math.fsum(f.bits for f in facts), support=support)
        return out.nonlinear() if eqn.outvars[0].aval.dtype == np.bool_ else out  # a logical or of ands

    def broadcast(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]

        def placed(along: Axes) -> Axes:
            out: list[int | None] = [None] * len(shape)
            for axis, place in enumerate(places):
                out[place] = along[axis] if shapes[0][axis] == shape[place] else None
            return tuple(out)

        return relabelled(facts[0], placed)

    def reshape(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        old, new = shapes[0], eqn.outvars[0].aval.shape
        if [n for n in old if n != 1] != [n for n in new if n != 1]:
            return self.moved(eqn, facts, shapes)

        def without_ones(along: Axes) -> Axes:
            rest = iter([x for x, n in zip(along, old, strict=True) if n != 1])
            return tuple(next(rest) if n != 1 else None for n in new)

        return relabelled(facts[0], without_ones)

    def moved(self, eqn: Any, facts: list[Fact], shapes: list, part: int = 0) -> Fact:
        """Each entry of result number ``part`` is an entry of an operand, at a place that an index may decide."""
        name, rank = eqn.primitive.name, len(eqn.outvars[0].aval.shape)
        index = row(name).first_index
        indices = [] if index is None else facts[index : index + 1] if name == "scatter" else facts[index:]
        operands = [f for f in facts if not any(f is index for index in indices)]
        out = self.joined((name, text_of(eqn.params), part, *(f.name for f in indices)), operands, rank)
        if not any(f.bits for f in indices):
            return out
        places = self.mixing(eqn, indices, [v.aval.shape for v, f in zip(eqn.invars, facts, strict=True)
                                            if any(f is index for index in indices)], rank)  # fmt: skip
        return out._replace(support={**out.support, **places.support}, bits=out.bits + places.weight)

    def joined(self, name: Any, facts: Sequence[Fact], rank: int = 0) -> Fact:
        """Each entry is an entry of one of these values, and takes no more decisions than the one that takes the
        most."""
        shared: dict[Label, float] = {}
        weight, bits = 0.0, max((f.bits for f in facts), default=0.0)
        for fact in facts:
            whole = {label: w for label, w in fact.support.items() if not any(x is not None for x in label[1])}
            shared |= {(base, (None,) * rank): w for (base, _), w in whole.items()}
            weight = max(weight, fact.weight - math.fsum(whole.values()))
        label = (self.named(name, *(f.name for f in facts)), tuple(range(rank)))
        support = {**shared, **({label: weight} if weight > 0 else {})}
        kind, most = max((f.kind for f in facts), default=Kind.RATIONAL), max((f.most for f in facts), default=math.inf)
        return Fact(label[0], bits=bits, support=support, kind=kind, most=most)

    def mixing(self, eqn: Any, facts: Sequence[Fact], shapes: Sequence[tuple], rank: int | None = None) -> Fact:
        """Each entry of the result may depend on every entry of the operands, in any way."""
        rank = len(eqn.outvars[0].aval.shape) if rank is None else rank
        support: dict[Label, float] = {}
        for fact, shape in zip(facts, shapes, strict=True):
            for (base, along), weight in fact.support.items():
                over = tuple(i for i, x in enumerate(along) if x is not None)
                label = ((base, "all", along, over) if over else base, (None,) * rank)
                support[label] = weight * math.prod(shape[i] for i in over)
        return Fact(0, bits=math.fsum(support.values()) if any(f.bits for f in facts) else 0.0, support=support)
