"""Judge an edit by the value of its statement alone, before the whole program is traced with it.

Most edits are wrong, and a statement alone runs many times faster than its program. If the outputs are affine in the
statement's value (:mod:`edits.term_solver`), the edited value shows whether they become right. Otherwise, an edit is
likely if it gives a value that the reference computes and the program does not. A judgement only says which edits are
tried first: what is found is proved in any case.
"""

import ast
import copy
import enum
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handprop.verifier.internal import noted
from handprop.verifier.options import Stream
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.evaluation import same
from handprop.verifier.proof.field.truth import as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.alone import Alone
from handprop.verifier.repair.edits.expressions import flattened
from handprop.verifier.repair.edits.term_solver import is_wide, product, tails_of
from handprop.verifier.repair.instrument import Iteration, instrument, mark_value
from handprop.verifier.repair.locate.execution import Known
from handprop.verifier.repair.scope import Scope
from handprop.verifier.repair.search import Search, edited
from handprop.verifier.repair.source.functions import Place, compiled, functions, rebuilt
from handprop.verifier.repair.source.trees import Edit, asked_before, slots, variable

__all__ = ["FAVOURED", "Opinion", "Screen"]

MARK_NAMES, MARK_TREE = "__handprop_names__", "__handprop_tree__"
TURNS = 8  # iterations of a loop that are looked at


class Opinion(enum.Enum):
    """What the value of an edit's statement says of the edit."""

    RIGHT = "the outputs become what they should be"
    LIKELY = "the reference computes this value, and the program does not"
    POSSIBLE = "the reference computes a multiple of this value"
    UNKNOWN = "the statement does not run alone"
    UNSURE = "it is in a loop, or has another shape, of which little is known"
    DOUBTFUL = "neither is so"
    UNCHANGED = "the value stays as it is, but a derivative may change"


FAVOURED = (Opinion.RIGHT, Opinion.LIKELY, Opinion.POSSIBLE)


class Screen:
    """A statement with the values in its scope where it first runs.

    ``theirs`` are values of the reference, and ``mine`` those of the program. It judges nothing if the statement does
    not run alone as it runs in its program.
    """

    def __init__(self, search: Search, place: Place, theirs: Known, mine: Known):
        self.search, self.place, self.theirs, self.mine = search, place, theirs, mine
        self.interpretation = search.interpretations[0]
        self.scope = Scope(functions(search.problem.written), place.code)
        self.iterations: tuple[Iteration, ...] = ()
        self.shapes_here: dict[str, jax.ShapeDtypeStruct] = {}
        self.tails, self.wide = {}, False
        try:
            self._run()
        except Exception as error:  # a mark is an array, which not every place accepts
            noted(error)
            self.iterations = ()

    def _run(self) -> None:
        first = slots(self.place.body)[0]
        marked = ast.Call(variable(MARK_TREE), [first.node], [])
        edit = Edit(0, first, asked_before(marked, MARK_NAMES), "")
        code = edited([(self.place, edit)], lambda: compiled(self.place))
        marks = {MARK_NAMES: self.scope.mark, MARK_TREE: _marked}
        rule = rebuilt(self.search.problem.written, {self.place.code: code}, marks)
        problem = self.search.problem
        program = jaxprs.trace(problem.as_program(rule), problem.inputs)  # pyright: ignore[reportOptionalCall]
        instrumented = instrument(self.interpretation, program)
        if instrumented is None:
            return
        first_iteration = instrumented.iterations[0]
        if not first_iteration.values:  # the statement has no array as its value
            return
        self.shapes_here = first_iteration.shapes
        self.alone = Alone(self.interpretation, self.scope, self.shapes_here, self._wide64)
        (alone,) = self.alone.values([first.node], first_iteration)
        if alone is None or not self._equal(alone, self._own(first_iteration)):
            return
        self.iterations, self.wide = instrumented.iterations[:TURNS], is_wide(instrumented)
        if len(instrumented.iterations) <= TURNS and not self.interpretation.numbers:
            self.tails = tails_of(instrumented, self.wide, self.search.options.rng(Stream.MISSING_TERMS))

    def shapes(self) -> dict[str, Any]:
        """Return the shapes of the float arrays in scope, and of the trees, by the text that reads them."""
        held = self.shapes_here
        return {text: x.shape for text, x in held.items() if jaxprs.is_float(x.dtype)} | self.scope.groups(held)

    def judge(self, edits: Sequence[Edit]) -> list[Opinion]:
        """Return an opinion on each edit."""
        if not self.iterations:
            return [Opinion.UNKNOWN] * len(edits)
        roots = [edited([(self.place, edit)], lambda: copy.deepcopy(slots(self.place.body)[0].node)) for edit in edits]
        moved: list[list[list[Value]] | None] = [[] for _ in edits]  # None for an edit that does not run
        asked = list(range(len(edits)))
        for iteration in self.iterations:
            own = self._own(iteration)
            for k, new in zip(asked, self.alone.values([roots[k] for k in asked], iteration), strict=True):
                if (held := moved[k]) is None or new is None or len(new) != len(own):
                    moved[k] = None
                else:
                    held.append(new)
            if not self.tails:
                asked = [k for k in asked if (held := moved[k]) is not None and self._equal(held[-1], own)]
            if not asked:
                break
        return [Opinion.DOUBTFUL if held is None else self._judged(held) for held in moved]

    def _judged(self, moved: list[list[Value]]) -> Opinion:
        """Judge the new values of every iteration.

        If the outputs are not affine in them, the first iteration counts in which something changes: until then, all is
        as it should be.
        """
        both = [(self._own(iteration), new) for iteration, new in zip(self.iterations, moved, strict=False)]
        changed = {
            k for own, new in both for k, (a, b) in enumerate(zip(own, new, strict=True)) if not self._same(a, b)
        }
        if not changed:
            return Opinion.UNCHANGED if len(self.iterations) == 1 else Opinion.DOUBTFUL
        fits = all(new[k].shape == own[k].shape and new[k].special is None for own, new in both for k in changed)
        if fits and changed <= self.tails.keys():
            if self._mends(changed, both):
                return Opinion.RIGHT
            if len(self.iterations) == 1:
                return (
                    Opinion.DOUBTFUL
                )  # and not hopeless: the field may not know the identity that makes the edit right
        reshaped = any(a.shape != b.shape for own, new in both for a, b in zip(own, new, strict=True))
        own, new = next((own, new) for own, new in both if not self._equal(new, own))
        pairs = [(a, b) for a, b in zip(own, new, strict=True) if not self._same(a, b)]
        if all(self.theirs.holds(b) and (_is_stray(self.theirs, a) or not self.mine.holds(b)) for a, b in pairs):
            return Opinion.LIKELY
        new = [b for _, b in pairs]
        multiples = all(self.theirs.ratio(x) not in (None, (0, 1)) and self.mine.ratio(x) is None for x in new)
        if multiples:
            return Opinion.POSSIBLE
        return Opinion.UNSURE if reshaped or len(self.iterations) > 1 else Opinion.DOUBTFUL

    def _mends(self, changed: set[int], both: Sequence[tuple[Sequence[Value], Sequence[Value]]]) -> bool:
        """Whether the outputs that depend on the statement become what they should be."""
        f = self.interpretation.field
        total = lacks = np.zeros_like(next(iter(self.tails.values())).lack)
        for k in changed:
            moved = flattened([f.sub(new[k].x, own[k].x) for own, new in both], self.wide)
            total = f._add(total, product(f, self.tails[k].rows, moved[:, None])[:, 0])
            lacks = f._add(lacks, self.tails[k].lack)
        return any(np.array_equal(total, lack) for lack in (lacks, *(self.tails[k].lack for k in changed)))

    def _own(self, iteration: Iteration) -> list[Value]:
        run = self.interpretation.run()
        return [as_value(run, iteration.values[k]) for k in sorted(iteration.values)]

    @property
    def _wide64(self) -> bool:
        return jaxprs.wide(self.search.problem.inputs) or jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def _equal(self, new: Sequence[Value], own: Sequence[Value]) -> bool:
        return len(new) == len(own) and all(map(self._same, own, new))

    def _same(self, a: Value, b: Value) -> bool:
        return a.shape == b.shape and bool(same(self.interpretation.field, a, b))


def _is_stray(theirs: Known, own: Value) -> bool:
    """Whether this is a constant, such as a mask, that the reference does not compute."""
    return own.known is not None and not theirs.holds(own)


def _marked(tree: Any) -> Any:
    """Mark every array in a statement's value; called while the statement is traced."""
    leaves, shape = jax.tree.flatten(tree)
    marked = [mark_value(k, leaf) for k, leaf in enumerate(leaves)]
    return jax.tree.unflatten(shape, marked)
