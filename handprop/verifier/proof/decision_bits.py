"""A bound on the number of decisions that one entry of a program's outputs rests on.

In the proof's branching reading, every comparison of unknown numbers is a random decision, and a program is a function
of its decisions. Write such a function as a sum with one term for each set of decisions, and let no term take more than
``d`` bits of decisions (a choice among n counts log2 n). If the function is not zero, it is nonzero with probability at
least ``2^-d`` over uniform independent decisions. To see this, take a maximal term T, one whose set of decisions is
contained in that of no other term, and fix all decisions outside T. What is left is a function of the decisions in T
that is not constantly zero, so it is nonzero in at least one of at most ``2^d`` equally likely cases.

For example, let s and t be the truth values of two comparisons. In ``s t`` the maximal term takes both decisions, and
one case in four is nonzero: ``d = 2``. In ``s - t`` each term takes one: fix t, and one of the two values of s makes
the difference nonzero, so ``d = 1``.

This module bounds ``d`` from the equations alone. A nonlinear function may depend on all decisions that its operand
depends on, so each value carries these too. They are kept as labels, each of which stands for one decision per entry,
with the axes along which it varies.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from handprop.verifier.programs.jaxprs import is_float, is_key
from handprop.verifier.programs.primitives import Decisions, Kind, Trait, has, least_kind, row
from handprop.verifier.programs.walk import Walk
from handprop.verifier.proof.decision_facts import UNBOUNDED, Fact, relabelled, text_of
from handprop.verifier.proof.decision_rules import Rules
from handprop.verifier.proof.field.errors import OutOfWork
from handprop.verifier.proof.field.work import Work
from handprop.verifier.proof.integer_bounds import largest_of_constant, largest_of_result, largest_of_type

__all__ = ["Bits", "asks_for_numbers", "decision_bits"]

MAX_STEPS = 64
MAX_TURNS = 1 << 12  # iterations of all scans together; those of an inner scan count each time it is walked


class Bits(NamedTuple):
    """The most bits of decisions in one term of an output, and under any claim that two unknowns never tie."""

    output: float
    claim: float


def decision_bits(program: Any, interval_bits: float, decides_domains: bool = False,
                  kinds: Mapping[str, Kind] | None = None, claiming: bool = True, work: Work | None = None
                  ) -> Bits:  # fmt: skip
    """Count the bits of decisions that outputs and claims rest on; one comparison decides ``interval_bits``.

    ``decides_domains``: whether the sign of the argument of log or sqrt is decided too. ``kinds``: the kinds of
    primitives' results that runs met, where they are not those of the table. ``claiming``: whether two analytic
    unknowns are claimed never to tie. The equations count as ``work``.

    Raises:
        OutOfWork: the limit of the work is reached.
    """
    walk = _Count(interval_bits, decides_domains, kinds or {}, claiming, work)
    outputs = [fact.bits for fact in walk.evaluate(program, _inputs(program, walk))]
    return Bits(max(outputs, default=0.0), walk.claims)


def asks_for_numbers(program: Any) -> bool:
    """Whether a program tests if a value is a number: it compares the value with itself, as ``isnan`` does, or tests
    whether it is finite.

    >>> import jax
    >>> [asks_for_numbers(jax.make_jaxpr(f)(1.0)) for f in (jnp.isnan, lambda x: jnp.log(x) == jnp.log(x), jnp.sign)]
    [True, True, False]
    """
    walk = _Count(0.0, False, {}, claiming=True)
    walk.evaluate(program, _inputs(program, walk))
    return walk.asks


def _inputs(program: Any, walk: "_Count") -> list[Fact]:
    return [Fact(walk.named("in", i), known=not is_float(v.aval.dtype), most=largest_of_type(v.aval))
            for i, v in enumerate(program.jaxpr.invars)]  # fmt: skip


def _keeps(eqn: Any) -> bool:
    """Whether the field carries the numeric value of the equation's result if it carries those of all operands."""
    if eqn.primitive.name != "convert_element_type" or not all(
        is_float(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)
    ):
        return has(eqn, Trait.KNOWN)
    old, new = (jnp.finfo(v.aval.dtype) for v in (eqn.invars[0], eqn.outvars[0]))
    return new.nmant >= old.nmant and new.maxexp >= old.maxexp


class _Count(Rules, Walk):
    """One pass over a program. ``decides_domains``: whether the sign of the argument of log or sqrt is decided.
    ``asks``: whether the program tests if a value is a number."""

    def __init__(self, bits: float, decides_domains: bool, kinds: Mapping[str, Kind], claiming: bool,
                 work: Work | None = None):  # fmt: skip
        super().__init__(bits, claiming)
        self.work = work or Work()
        self.decides_domains, self.kinds, self.turns, self.asks = decides_domains, kinds, 0, False

    def constant(self, const: Any) -> Fact:
        content = id(const) if is_key(const) else (str(const.dtype), const.shape, np.asarray(const).tobytes())
        return Fact(self.named("const", content), known=True, most=largest_of_constant(const))

    def step(self, eqn: Any, operands: list[Fact]) -> list[Fact]:
        return super().step(eqn, operands) if eqn.outvars else []

    def primitive(self, eqn: Any, operands: list[Fact]) -> list[Fact]:
        self.work.add(0)
        if self.work.over:
            raise OutOfWork(self.work.over)
        name, facts = eqn.primitive.name, operands
        decides = self.decides_domains or self.kinds.get(name) is Kind.PIECEWISE  # the latter: roots of squares
        decisions = Decisions.COMPARED if decides and has(eqn, Trait.BY_SIGN) else row(name).decisions
        where = self.named(name, text_of(eqn.params), *(f.name for f in facts))
        names = [facts[0].name if has(eqn, Trait.SAME_VALUE) else self.named(where, i)
                 for i, _ in enumerate(eqn.outvars)]  # fmt: skip
        kind = max((self.kinds.get(name, least_kind(name)), *(f.kind for f in facts)))
        most = largest_of_result(eqn, [f.most for f in facts])
        if all(f.known for f in facts) and decisions is not Decisions.PIVOTED:
            return [Fact(n, known=_keeps(eqn) or not is_float(v.aval.dtype), kind=kind, most=most)
                    for n, v in zip(names, eqn.outvars, strict=True)]  # fmt: skip
        if has(eqn, Trait.EXTREME):
            self.extreme_of[names[0]] = {f.name for f in facts}
        self.asks |= name == "is_finite" or (has(eqn, Trait.EQUALITY) and facts[0].name == facts[1].name)
        outs = self.results(eqn, facts, decisions)
        leaves_type = [not is_float(v.aval.dtype) and most > largest_of_type(v.aval) for v in eqn.outvars]
        outs = [out.nonlinear() if leaves else out for out, leaves in zip(outs, leaves_type, strict=True)]
        opposite = facts[0].name if name == "neg" else None
        return [out._replace(name=n, known=False, kind=kind, most=most, opposite=opposite).capped()
                for n, out in zip(names, outs, strict=True)]  # fmt: skip

    def cond(self, eqn: Any, branches: Sequence[Any], which: Fact, operands: list[Fact]) -> list[Fact]:
        if not which.known:
            return self.primitive(eqn, [which, *operands])
        results = [self.evaluate(branch, operands) for branch in branches]
        return [self.joined(("cond", i, which.name), cases, len(v.aval.shape))
                for i, (v, *cases) in enumerate(zip(eqn.outvars, *results, strict=True))]  # fmt: skip

    def entry(self, x: Fact, i: int) -> Fact:
        """Entry i along the first axis."""
        opposite = None if x.opposite is None else self.named(x.opposite, "row", i)
        row = relabelled(x, lambda along: along[1:], ("row", i))
        return row._replace(name=self.named(x.name, "row", i), opposite=opposite)

    def stacked(self, eqn: Any, rows: list[list[Fact]]) -> list[Fact]:
        made = eqn.outvars[len(eqn.outvars) - len(rows[0]) :] if rows else ()
        return [self.joined(("stack", eqn.params["reverse"]), ys, len(v.aval.shape))
                for ys, v in zip(zip(*rows, strict=True), made, strict=True)]  # fmt: skip

    def scan(self, eqn: Any, body: Any, operands: list[Fact], most: int | None = None) -> list[Fact]:
        length = eqn.params["length"]
        self.turns += min(length, MAX_STEPS)
        if self.turns > MAX_TURNS:
            return [UNBOUNDED] * len(eqn.outvars)
        done = super().scan(eqn, body, operands, MAX_STEPS)
        done += [Fact(self.named("empty", i)) for i in range(len(done), len(eqn.outvars))]  # a scan of length 0
        if length > MAX_STEPS and any(f.support for f in done):
            return [UNBOUNDED for _ in done]
        if length > MAX_STEPS:  # the name counts all iterations, as not all of them were walked
            done = [f._replace(name=self.named(f.name, "turns", length), opposite=None) for f in done]
        return done
