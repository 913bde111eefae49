"""How many decisions one entry of a program's outputs rests on.

Every comparison of unknown numbers is a random decision in the proof's branching reading, and a program is a function
of its decisions. Written as a sum over sets of decisions, no term of it takes more than ``d`` bits of them (a choice
among n counts log2 n). Such a function that is not zero is not zero with probability at least ``2^-d`` over uniform
independent decisions: fix all decisions outside a term that no other term contains; what is left is not constantly
zero, so one of at most ``2^d`` equally likely cases shows it.

This module bounds ``d`` from the equations alone. What is nonlinear may depend on all decisions its operand depends
on, so each value carries them too: labels, one decision an entry, with the axes along which it differs.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from handprop.verifier.programs.jaxprs import called, closed, kernel_program, scan_counts
from handprop.verifier.proof.field.elementwise import ELEMENTWISE
from handprop.verifier.proof.field.interpreter import ENTRYWISE
from handprop.verifier.proof.field.kinds import least_kind
from handprop.verifier.proof.field.values import Kind

__all__ = ["Bits", "asks_for_numbers", "decision_bits", "like_entries"]

TIE = 1.0  # the bits of whether two are equal
MAX_STEPS = 64
MAX_TURNS = 1 << 12  # of all scans together, those inside others counted as often as they are walked
# What decides, and for each axis of the array along which of the decisions' own axes it runs: None where all entries
# along it share one decision.
Axes: TypeAlias = "tuple[int | None, ...]"
Label: TypeAlias = "tuple[Any, Axes]"
# Through these the field knows the numbers that no input is in: comparing them decides nothing.
KEPT = {"add", "sub", "mul", "div", "neg", "integer_pow", "convert_element_type", "select_n", "iota", "slice",
        "broadcast_in_dim", "reshape", "transpose", "squeeze", "concatenate"}  # fmt: skip


class Fact(NamedTuple):
    """``name``: equal for values computed alike. ``known``: no input is in it. ``bits``: of decisions in one term.
    ``support``: all decisions an entry depends on, with their bits. ``kind`` as the field has it; ``most``: of
    integers, the largest size. ``opposite``: the name of what this is the negative of."""

    name: int
    known: bool = False
    bits: float = 0.0
    support: "dict[Label, float]" = {}  # noqa: RUF012 (never changed)
    kind: Kind = Kind.RATIONAL
    most: float = math.inf
    opposite: int | None = None

    @property
    def weight(self) -> float:
        return math.fsum(self.support.values())

    def capped(self) -> "Fact":
        return self if self.bits == math.inf else self._replace(bits=min(self.bits, self.weight))

    def nonlinear(self) -> "Fact":
        return self._replace(bits=self.weight if self.bits else 0.0)


UNBOUNDED = Fact(0, bits=math.inf)
Rule: TypeAlias = Callable[[Any, list[Fact], list[tuple[int, ...]]], Fact]


class Bits(NamedTuple):
    """Bits of decisions: in one term of an output at most, and in what two unknowns rest on that are claimed never to
    tie."""

    output: float
    claim: float


def decision_bits(program: Any, interval_bits: float, decided: bool = False, kinds: Mapping[str, Kind] | None = None,
                  claiming: bool = True) -> Bits:  # fmt: skip
    """How many bits of decisions there are; ``interval_bits`` is what one comparison decides.

    ``decided``: whether it is decided, too, if the argument of log or sqrt is positive. ``kinds``: of primitives'
    results, as runs met them, where they are not what the table says. ``claiming``: whether two analytic unknowns are
    claimed never to tie.
    """
    walk = _Walk(interval_bits, decided, kinds or {}, claiming)
    outputs = [fact.bits for fact in walk.program(program, _inputs(program, walk))]
    return Bits(max(outputs, default=0.0), walk.claims)


def asks_for_numbers(program: Any) -> bool:
    """Whether a program asks if a value is a number: it compares it with itself, as ``isnan`` does, or tells whether it
    is finite.

    >>> [asks_for_numbers(jax.make_jaxpr(f)(1.0)) for f in (jnp.isnan, lambda x: jnp.log(x) == jnp.log(x), jnp.sign)]
    [True, True, False]
    """
    walk = _Walk(0.0, False, {}, claiming=True)
    walk.program(program, _inputs(program, walk))
    return walk.asks


def _inputs(program: Any, walk: "_Walk") -> list[Fact]:
    return [Fact(walk.named("in", i), known=not _is_float(v.aval), most=_most_of(v.aval))
            for i, v in enumerate(program.jaxpr.invars)]  # fmt: skip


def _keeps(eqn: Any) -> bool:
    """Whether the field knows the equation's result where it knows its operands."""
    name = eqn.primitive.name
    if name != "convert_element_type" or not all(_is_float(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        return name in KEPT
    old, new = (jnp.finfo(v.aval.dtype) for v in (eqn.invars[0], eqn.outvars[0]))
    return new.nmant >= old.nmant and new.maxexp >= old.maxexp


def _is_float(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.floating))


def like_entries(programs: Sequence[Any], inputs: Sequence[Any]) -> int:
    """How many entries are one and the same function of their own entries of the inputs: n, or 1 where they are not."""
    atoms = [_read(program.jaxpr) for program in programs]
    read = [[v in met for v in program.jaxpr.invars] for program, met in zip(programs, atoms, strict=True)]
    inputs = [x for x, *is_read in zip(inputs, *read, strict=True) if any(is_read)]
    shapes = {tuple(x.shape) for x in inputs}
    entrywise = all(_is_float(x) for x in inputs) and all(_is_entrywise(program) for program in programs)
    return math.prod(shapes.pop()) if entrywise and len(shapes) == 1 else 1


def _read(jaxpr: Any) -> set[Any]:
    atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    return {atom for atom in atoms if isinstance(atom, core.Var)}


def _is_entrywise(program: Any) -> bool:
    def is_same(eqn: Any) -> bool:
        if (inside := called(eqn)) is not None:
            return _is_entrywise(inside)
        if eqn.primitive.name == "broadcast_in_dim":  # integers are spread as they are, to all entries
            return not eqn.invars[0].aval.shape and _is_float(eqn.invars[0].aval)
        return eqn.primitive.name in ELEMENTWISE or eqn.primitive.name in ENTRYWISE

    return all(np.ndim(c) == 0 for c in program.consts) and all(is_same(eqn) for eqn in program.jaxpr.eqns)


LINEAR = {"add", "sub", "add_any", "neg", "copy", "copy_p", "name", "sharding_constraint", "stop_gradient", "real",
          "reduce_precision", "optimization_barrier", "device_put"}  # fmt: skip
PRODUCTS = {"mul", "and", "or", "xor", "not"}
COMPARISONS = {"gt", "lt", "ge", "le", "max", "min", "abs", "sign", "clamp"}
SUMS = {"reduce_sum", "cumsum", "reduce_window_sum", "scatter-add", "scatter_add", "scatter-sub", "scatter_sub"}
EXTREMA = {"reduce_max", "reduce_min", "argmax", "argmin"}
MOVERS = ("slice", "rev", "tile", "expand_dims", "concatenate", "stack", "unstack", "pad", "gather", "dynamic_slice",
          "split", "scatter", "dynamic_update_slice")  # fmt: skip
INDEXED = {
    "gather": 1,
    "dynamic_slice": 1,
    "dynamic_update_slice": 2,
    "scatter": 1,
}  # the first index among the operands
UNCOUNTED = {"while", "cond", "select_and_scatter_add", "select_and_gather_add"}
SAME_VALUE = {"stop_gradient", "copy", "copy_p", "name", "sharding_constraint"}
DOMAINS = {"log", "log1p", "log2", "sqrt", "rsqrt", "pow", "cbrt"}


class _Walk:
    """One pass over a program. ``bits``: of one comparison."""

    def __init__(self, bits: float, decided: bool, kinds: Mapping[str, Kind], claiming: bool):
        self.bits, self.decided, self.kinds, self.turns = bits, decided, kinds, 0
        self.apart = Kind.ANALYTIC if claiming else Kind.RATIONAL  # up to which kind two unknowns never tie
        self.claims = 0.0
        self.asks = False  # whether a value is a number
        self.extreme_of: dict[int, set[int]] = {}  # by the name of an extremum the names of what it is one of
        self.names: dict[Any, int] = {}
        self.rules = self._rules()

    def named(self, *parts: Any) -> int:
        return self.names.setdefault(parts, len(self.names))

    def program(self, program: Any, inputs: list[Fact]) -> list[Fact]:
        jaxpr = program.jaxpr
        env = {var: Fact(self.named("const", id(c)), known=True, most=_largest_of(c))
               for var, c in zip(jaxpr.constvars, program.consts, strict=True)}  # fmt: skip
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def fact_of(atom: Any) -> Fact:
            literal = isinstance(atom, core.Literal)
            if not literal:
                return env[atom]
            return Fact(self.named("literal", str(atom.val)), known=True, most=_largest_of(atom.val))

        for eqn in jaxpr.eqns:
            facts = self.step(eqn, [fact_of(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, facts, strict=True))
        return [fact_of(atom) for atom in jaxpr.outvars]

    def step(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        name = eqn.primitive.name
        if not eqn.outvars:
            return []
        if name == "scan":
            return self.scan(eqn, facts)
        if name == "cond" and facts[0].known:
            branches = [self.program(closed(branch), facts[1:]) for branch in eqn.params["branches"]]
            return [self.joined(("cond", i, facts[0].name), cases, len(v.aval.shape))
                    for i, (v, *cases) in enumerate(zip(eqn.outvars, *branches, strict=True))]  # fmt: skip
        if name == "custom_linear_solve":
            return self.linear_solve(eqn, facts)
        inside = kernel_program(eqn) if name == "pallas_call" else called(eqn)
        if inside is not None:
            return self.program(inside, facts)
        where = self.named(name, _text(eqn.params), *(f.name for f in facts))
        names = [facts[0].name if name in SAME_VALUE else self.named(where, i) for i, _ in enumerate(eqn.outvars)]
        least = self.kinds.get(name, least_kind(name))
        kind = max((least, *(f.kind for f in facts)))
        shared = {"kind": kind, "most": _most(eqn, facts), "opposite": facts[0].name if name == "neg" else None}
        if all(f.known for f in facts) and name != "lu":
            return [Fact(n, known=_keeps(eqn) or not _is_float(v.aval), kind=kind, most=shared["most"])
                    for n, v in zip(names, eqn.outvars, strict=True)]  # fmt: skip
        if name in ("max", "min"):
            self.extreme_of[names[0]] = {f.name for f in facts}
        self.asks |= name == "is_finite" or (name in ("eq", "ne") and facts[0].name == facts[1].name)
        shapes = [getattr(v.aval, "shape", ()) for v in eqn.invars]
        if any(f.bits == math.inf for f in facts):
            outs = [UNBOUNDED] * len(names)
        elif name == "lu":
            outs = self.pivoted(eqn, facts)
        elif name in MOVERS:  # each of several outputs has entries of its own
            outs = [self.moved(eqn, facts, shapes, i) for i, _ in enumerate(names)]
        else:
            outs = [self.rules.get(name, self.unknown)(eqn, facts, shapes)] * len(names)
        leaves_type = [not _is_float(v.aval) and shared["most"] > _most_of(v.aval) for v in eqn.outvars]
        outs = [out.nonlinear() if leaves else out for out, leaves in zip(outs, leaves_type, strict=True)]
        return [out._replace(name=n, known=False, **shared).capped() for n, out in zip(names, outs, strict=True)]

    def linear_solve(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        lengths = eqn.params["const_lengths"]
        start = lengths.matvec + lengths.vecmat
        total = start + lengths.solve + lengths.transpose_solve
        return self.program(closed(eqn.params["jaxprs"].solve), [*facts[start : start + lengths.solve], *facts[total:]])

    def pivoted(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        """A permutation of the rows of each matrix, beside all that it rests on."""
        rows, columns = eqn.invars[0].aval.shape[-2:]
        kept = min(rows, columns)
        bits = (math.lgamma(rows + 1) - math.lgamma(rows - kept + 1)) / math.log(2)
        outs = []
        for v in eqn.outvars:
            batch, rank = len(eqn.invars[0].aval.shape) - 2, len(v.aval.shape)
            mixed = self.mixing(eqn, facts, [eqn.invars[0].aval.shape], rank)
            along = tuple(i if i < batch else None for i in range(rank))
            support = {**mixed.support, (("lu", facts[0].name), along): bits}
            outs.append(mixed._replace(support=support, bits=math.fsum(support.values())))
        return outs

    def _rules(self) -> "dict[str, Rule]":
        def elementwise(bits: Callable[[list[Fact]], float]) -> Rule:
            return lambda eqn, facts, shapes: _elementwise(eqn, facts, shapes, bits(facts))

        return {
            **dict.fromkeys((*ELEMENTWISE, *ENTRYWISE), self.nonlinear),
            **dict.fromkeys(LINEAR, elementwise(lambda facts: max(f.bits for f in facts))),
            **dict.fromkeys(PRODUCTS, elementwise(lambda facts: math.fsum(f.bits for f in facts))),
            **dict.fromkeys(COMPARISONS, self.compared),
            **dict.fromkeys(EXTREMA, self.largest),
            **dict.fromkeys(SUMS, self.summed),
            **(dict.fromkeys(DOMAINS, self.compared) if self.decided else {}),
            "eq": self.equated,
            "ne": self.equated,
            "select_n": self.selected,
            "convert_element_type": self.converted,
            "div": self.divided,
            "cummax": self.running,
            "cummin": self.running,
            "dot_general": self.dot,
            "broadcast_in_dim": self.broadcast,
            "transpose": self.transpose,
            "squeeze": self.squeeze,
            "reshape": self.reshape,
            "sort": self.sort,
            "top_k": self.sort,
            "reduce_window_max": self.window,
            "reduce_window_min": self.window,
        }

    def transpose(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        return _relabelled(facts[0], lambda along: tuple(along[i] for i in eqn.params["permutation"]))

    def squeeze(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        gone = eqn.params["dimensions"]
        return _relabelled(facts[0], lambda along: tuple(x for i, x in enumerate(along) if i not in gone))

    def nonlinear(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        out = _elementwise(eqn, facts, shapes, 0.0)
        return out._replace(bits=out.weight if any(f.bits for f in facts) else 0.0)

    def compared(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """One decision more, beside all that the operands rest on; the same as before for the same unknown."""
        out = self.nonlinear(eqn, facts, shapes)
        if all(not _is_float(v.aval) for v in eqn.invars):
            return out
        self.claim(facts, out.support)
        pairs = [facts[:2]] if eqn.primitive.name != "clamp" else list(itertools.combinations(facts, 2))
        compared = {self.difference(pair) for pair in pairs if not all(f.known for f in pair)}
        support = {**out.support, **{_own(pair, eqn): self.bits for pair in compared}}
        unknown = [f.kind for f in facts if not f.known]
        never_tie = max(self.apart, Kind.UNIVARIATE) if len(unknown) == 1 else self.apart
        if max(unknown) > never_tie:  # ties are decided too
            support |= {_own(("equal", self.sides(pair)), eqn): TIE for pair in pairs}
        return out._replace(support=support, bits=math.fsum(support.values()))

    def claim(self, facts: Sequence[Fact], support: "dict[Label, float]") -> None:
        """Notes that these are compared, and may be claimed never to tie, whatever the decisions that they rest on."""
        if any(f.kind is not Kind.RATIONAL for f in facts):
            self.claims = max(self.claims, math.fsum(support.values()))

    def difference(self, facts: Sequence[Fact]) -> Any:
        """What is unknown in the difference of two operands, the same for its negative."""
        signed = []
        for fact, sign in zip(facts, (1, -1), strict=False):
            if not fact.known:
                signed.append((fact.name, sign) if fact.opposite is None else (fact.opposite, -sign))
        signed.sort()
        return tuple((name, sign * signed[0][1]) for name, sign in signed)

    def sides(self, facts: Sequence[Fact]) -> Any:
        """What a tie is of: of each number a tie of its own, where an order has one place among all numbers."""
        return tuple(sorted(fact.name for fact in facts))

    def equated(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """No decision of its own where neither has relations that are not known: then they are equal nowhere. What is
        equal to an extremum that it takes part in is claimed where that is taken."""
        out = self.nonlinear(eqn, facts, shapes)
        if not any(f.name in self.extreme_of.get(g.name, ()) for f, g in itertools.permutations(facts)):
            self.claim(facts, out.support)
        if all(f.kind <= self.apart for f in facts) or not _is_float(eqn.invars[0].aval):
            return out
        support = {**out.support, _own(("equal", self.sides(facts)), eqn): TIE}
        return out._replace(support=support, bits=math.fsum(support.values()))

    def selected(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        which = facts[0] if eqn.invars[0].aval.dtype == np.bool_ else facts[0].nonlinear()
        return _elementwise(eqn, facts, shapes, which.bits + max(f.bits for f in facts[1:]))

    def converted(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """Linear but for casts of numbers to integers or booleans, which round or compare."""
        old, new = eqn.invars[0].aval, eqn.outvars[0].aval
        wraps = jnp.issubdtype(new.dtype, jnp.unsignedinteger) and jnp.issubdtype(old.dtype, jnp.signedinteger)
        fits = not _is_float(old) and facts[0].most <= _most_of(new) and not wraps
        exact = _is_float(new) or old.dtype == np.bool_ or fits
        if exact:
            return _elementwise(eqn, facts, shapes, facts[0].bits)
        return self.compared(eqn, facts, shapes) if _is_float(old) else self.nonlinear(eqn, facts, shapes)

    def divided(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        if not _is_float(eqn.outvars[0].aval):
            return self.nonlinear(eqn, facts, shapes)
        return _elementwise(eqn, facts, shapes, facts[0].bits + facts[1].nonlinear().bits)

    def running(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """A running maximum: each entry is compared with the largest before it."""
        axis = eqn.params["axis"]
        bits = (shapes[0][axis] - 1) * self.compared_bits(facts[0])
        label = _own(("running", eqn.primitive.name, facts[0].name, _text(eqn.params)), eqn)
        support = _over(facts[0], shapes[0], (axis,), keep=True)
        self.claim(facts[:1], {**support, label: bits})  # the largest so far is one of those before
        return _decided(eqn, facts[0], support, label, bits)

    def largest(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        axes = tuple(eqn.params["axes"])
        count = math.prod(shapes[0][axis] for axis in axes)
        low = eqn.primitive.name in ("reduce_min", "argmin")
        label = _own(("largest", facts[0].name, axes, low), eqn)
        support = _over(facts[0], shapes[0], axes)
        self.claim(facts[:1], support)
        return _decided(
            eqn, facts[0], support, label,
            math.log2(count) if count > 2 else self.compared_bits(facts[0]),
        )  # fmt: skip

    def compared_bits(self, fact: Fact) -> float:
        """Of a comparison of two of its entries, which decides a tie too where they may tie."""
        return self.bits + (TIE if fact.kind > self.apart else 0.0)

    def sort(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        axis = eqn.params.get("dimension", eqn.params.get("axis", -1)) % len(shapes[0])
        count = shapes[0][axis]
        chosen = eqn.params.get("k", count)
        bits = (math.lgamma(count + 1) - math.lgamma(count - chosen + 1)) / math.log(2)
        along = tuple(None if i == axis else i for i in range(len(shapes[0])))
        support: dict[Label, float] = {}
        for fact in facts:
            support |= _over(fact, shapes[0], (axis,), keep=True)
        self.claim(facts[:1], support)
        return _decided(eqn, facts[0], support, (("order", facts[0].name, axis, chosen), along), bits)

    def window(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        bits = (math.prod(eqn.params["window_dimensions"]) - 1) * self.compared_bits(facts[0])
        label = _own(("window", facts[0].name, _text(eqn.params)), eqn)
        support = self.mixing(eqn, facts[:1], shapes[:1]).support
        self.claim(facts[:1], {**support, label: bits})
        return _decided(eqn, facts[0], support, label, bits)

    def summed(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        if eqn.primitive.name.startswith("scatter"):
            return self.scattered(eqn, facts, shapes)
        bits = max(f.bits for f in facts)
        if eqn.primitive.name != "reduce_sum":
            return _spread_out(eqn, facts)._replace(bits=bits)
        return facts[0]._replace(bits=bits, support=_over(facts[0], shapes[0], tuple(eqn.params["axes"])))

    def scattered(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        """Each term of the sum is an update at the place that its own index decides."""
        operand, index, updates = facts
        row = math.fsum(_over(index, shapes[1], (len(shapes[1]) - 1,)).values())  # all components of an index
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
        return out.nonlinear() if eqn.outvars[0].aval.dtype == np.bool_ else out  # an or of ands

    def broadcast(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]

        def placed(along: Axes) -> Axes:
            out: list[int | None] = [None] * len(shape)
            for axis, place in enumerate(places):
                out[place] = along[axis] if shapes[0][axis] == shape[place] else None
            return tuple(out)

        return _relabelled(facts[0], placed)

    def reshape(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        old, new = shapes[0], eqn.outvars[0].aval.shape
        if [n for n in old if n != 1] != [n for n in new if n != 1]:
            return self.moved(eqn, facts, shapes)

        def without_ones(along: Axes) -> Axes:
            rest = iter([x for x, n in zip(along, old, strict=True) if n != 1])
            return tuple(next(rest) if n != 1 else None for n in new)

        return _relabelled(facts[0], without_ones)

    def moved(self, eqn: Any, facts: list[Fact], shapes: list, part: int = 0) -> Fact:
        """Every entry of the result, ``part`` of several, is one of an operand, at places that an index may decide."""
        name, rank = eqn.primitive.name, len(eqn.outvars[0].aval.shape)
        indices = facts[INDEXED.get(name, len(facts)) :]
        if name == "scatter":
            indices = facts[1:2]
        operands = [f for f in facts if not any(f is index for index in indices)]
        out = self.joined((name, _text(eqn.params), part, *(f.name for f in indices)), operands, rank)
        if not any(f.bits for f in indices):
            return out
        places = self.mixing(eqn, indices, [v.aval.shape for v, f in zip(eqn.invars, facts, strict=True)
                                            if any(f is index for index in indices)], rank)  # fmt: skip
        return out._replace(support={**out.support, **places.support}, bits=out.bits + places.weight)

    def joined(self, name: Any, facts: Sequence[Fact], rank: int = 0) -> Fact:
        """Each entry is an entry of one of these: no more decisions than the most of them."""
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

    def unknown(self, eqn: Any, facts: list[Fact], shapes: list) -> Fact:
        if eqn.primitive.name in UNCOUNTED:
            return UNBOUNDED
        return self.mixing(eqn, facts, shapes)

    def row(self, x: Fact, i: int) -> Fact:
        """Entry i along the first axis."""
        opposite = None if x.opposite is None else self.named(x.opposite, "row", i)
        row = _relabelled(x, lambda along: along[1:], ("row", i))
        return row._replace(name=self.named(x.name, "row", i), opposite=opposite)

    def scan(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        n_consts, n_carry = scan_counts(eqn.params)
        body, length = closed(eqn.params["jaxpr"]), eqn.params["length"]
        carry, xs = facts[n_consts : n_consts + n_carry], facts[n_consts + n_carry :]
        rows: list[list[Fact]] = []
        reverse = eqn.params["reverse"]
        for turn in range(min(length, MAX_STEPS)):
            self.turns += 1
            if self.turns > MAX_TURNS:
                return [UNBOUNDED] * len(eqn.outvars)
            i = length - 1 - turn if reverse else turn
            here = [self.row(x, i) for x in xs]
            out = self.program(body, [*facts[:n_consts], *carry, *here])
            carry = out[:n_carry]
            rows.append(out[n_carry:])
        if not rows:
            return [*carry, *(Fact(self.named("empty", i)) for i in range(n_carry, len(eqn.outvars)))]
        ranks = [len(v.aval.shape) for v in eqn.outvars[n_carry:]]
        stacked = [
            self.joined(("stack", reverse), ys, rank) for ys, rank in zip(zip(*rows, strict=True), ranks, strict=True)
        ]
        done = [*carry, *stacked]
        if length > MAX_STEPS and any(f.support for f in done):
            return [UNBOUNDED for _ in done]
        if length > MAX_STEPS:  # named for all of its turns, which were not all walked
            done = [f._replace(name=self.named(f.name, "turns", length), opposite=None) for f in done]
        return done


def _decided(eqn: Any, fact: Fact, support: "dict[Label, float]", label: Label, bits: float) -> Fact:
    """A decision more, beside all that the operand rests on; none where known integers are ordered."""
    support = {**support, label: bits} if _is_float(eqn.invars[0].aval) else support
    return fact._replace(support=support, bits=math.fsum(support.values()))


def _over(fact: Fact, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool = False) -> "dict[Label, float]":
    """The decisions of all entries along the axes together; ``keep``: the axes remain, each entry resting on all."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        over = tuple(i for i in axes if along[i] is not None)
        kept = tuple(None if i in axes else x for i, x in enumerate(along) if keep or i not in axes)
        label = ((base, "over", along, over) if over else base, kept)
        support[label] = support.get(label, 0.0) + weight * math.prod(shape[i] for i in over)
    return support


def _most_of(aval: Any) -> float:
    """The largest size of an integer of this type; infinite for floats and keys."""
    dtype = aval.dtype
    if dtype == np.bool_:
        return 1.0
    return float(jnp.iinfo(dtype).max) if jnp.issubdtype(dtype, jnp.integer) else math.inf


def _largest_of(const: Any) -> float:
    array = np.asarray(const) if not jnp.issubdtype(getattr(const, "dtype", np.int32), jax.dtypes.extended) else None
    if array is None or not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)):
        return math.inf
    return float(np.abs(array.astype(np.float64)).max(initial=0.0))


def _most(eqn: Any, facts: list[Fact]) -> float:
    """A bound of an integer result's size, before it wraps around."""
    name, sizes = eqn.primitive.name, [f.most for f in facts]
    out = eqn.outvars[0].aval
    if not jnp.issubdtype(out.dtype, jnp.integer):
        return _most_of(out)
    unsigned = jnp.issubdtype(out.dtype, jnp.unsignedinteger)
    if name == "iota":
        return float(out.shape[eqn.params["dimension"]])
    if name in ("add", "sub", "neg") and not (unsigned and name != "add"):
        return sum(sizes)
    if name == "mul":
        return math.prod(sizes)
    if name in ("reduce_sum", "cumsum", "dot_general"):
        count = math.prod(eqn.invars[0].aval.shape)
        return math.prod(sizes) * max(count, 1) if all(sizes) else 0.0
    if name in ("select_n", "convert_element_type", "broadcast_in_dim", "reshape", "transpose", "squeeze", *MOVERS):
        return max(sizes[1:] if name == "select_n" else sizes)
    return math.inf if name in (*LINEAR, *PRODUCTS, *SUMS) and len(sizes) else _most_of(out)


def _text(params: dict) -> str:
    """Parameters as text; what has none is told apart by what it is."""
    return " ".join(f"{k}={id(v) if callable(v) else v}" for k, v in sorted(params.items()))


def _elementwise(eqn: Any, facts: list[Fact], shapes: list, bits: float) -> Fact:
    rank = len(eqn.outvars[0].aval.shape)
    support: dict[Label, float] = {}
    for fact, shape in zip(facts, shapes, strict=True):
        for (base, along), weight in fact.support.items():
            support[base, along if len(shape) == rank else (None,) * rank] = weight
    return facts[0]._replace(bits=bits, support=support)


def _own(base: Any, eqn: Any) -> Label:
    """Decisions of this equation, one an entry."""
    return base, tuple(range(len(eqn.outvars[0].aval.shape)))


def _relabelled(fact: Fact, place: Callable[[Axes], Axes], mark: Any = None) -> Fact:
    """The same decisions along other axes; with ``mark``, other ones where they differ along the first axis."""
    support: dict[Label, float] = {}
    for (base, along), weight in fact.support.items():
        other = (base, along[0], mark) if mark is not None and along and along[0] is not None else base
        label = (other, place(along))
        support[label] = support.get(label, 0.0) + weight
    return fact._replace(support=support)


def _spread_out(eqn: Any, facts: list[Fact]) -> Fact:
    """Sums over places: as many decisions as there are entries."""
    fact = facts[-1] if len(facts) > 1 else facts[0]
    size = math.prod(eqn.invars[0].aval.shape)
    label = _own((eqn.primitive.name, fact.name, _text(eqn.params)), eqn)
    weight = size * math.fsum(f.weight for f in facts)
    return fact._replace(support={label: weight} if weight else {})
