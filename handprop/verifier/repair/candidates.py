"""The queue of edits: the likeliest lines and cheapest edits first, and of these what a statement's value favours."""

import enum
import heapq
import itertools
import math
from typing import Any, NamedTuple

from handprop.verifier.programs import jaxprs
from handprop.verifier.repair.edits.missing_terms import expressions_near
from handprop.verifier.repair.edits.wide import Wide, wide_edits
from handprop.verifier.repair.locate.execution import Known, record
from handprop.verifier.repair.screen import FAVOURED, Opinion, Screen
from handprop.verifier.repair.search import Search
from handprop.verifier.repair.source.functions import Place, rebuilt
from handprop.verifier.repair.source.trees import Edit

__all__ = ["Candidates", "Judge"]

ASIDE = 0.3
TOGETHER = 64  # edits of a statement that are judged at a time
JUDGE = object()  # stands in the queue for the edits of a statement that wait
# The cost of a favoured edit at most, and what others cost in addition.
AT_MOST = {Opinion.RIGHT: 1.3, Opinion.LIKELY: 1.4, Opinion.POSSIBLE: 1.5}
LATER = {Opinion.UNSURE: 0.3, Opinion.DOUBTFUL: 1.0, Opinion.UNCHANGED: 1.0}


class Judge(enum.Enum):
    """Whether an edit's statement is run alone before the edit is tried."""

    NONE = "it is tried as it is"
    ALL = "it is tried later if its value does not favour it"
    FAVOURED_ONLY = "it is tried only if its value favours it"


class Waiting(NamedTuple):
    """An edit that is not judged yet."""

    cost: float
    edit: Edit
    judge: Judge


class Candidates:
    """Edits and queries about statements, by their cost.

    The edits of a statement wait until the cheapest of them is due. They are then judged together, the cheapest first,
    and get a cost that says how likely each is.
    """

    def __init__(self, search: Search):
        self.search = search
        self.heap: list[tuple[float, int, Place, Any]] = []
        self.order = itertools.count()
        self.screens: dict[int, Screen] = {}
        self.waiting: dict[int, list[Waiting]] = {}
        self.values: tuple[Known, Known] | None = None

    def push(self, penalty: float, place: Place, edit: Any, judge: Judge = Judge.ALL) -> None:
        """Add an edit, or a query."""
        aside = 0.0 if edit.slot is None or edit.slot.node.lineno == place.line else ASIDE
        cost = edit.cost + penalty + aside
        if judge is Judge.NONE or self.search.got is None or not isinstance(edit, Edit):
            self._add(cost, place, edit)
            return
        waiting = self.waiting.setdefault(id(place.body), [])
        if not waiting or cost < min(w.cost for w in waiting):
            self._add(cost, place, JUDGE)
        waiting.append(Waiting(cost, edit, judge))

    def pop(self, seconds: float) -> tuple[Place, Any] | None:
        """Return the next edit to try; None if there is none or the counted work reaches ``seconds``."""
        while self.heap and not self.search.interpretations[0].work.reached(seconds):
            _, _, place, edit = heapq.heappop(self.heap)
            if edit is JUDGE:
                self._judge(place)
            elif isinstance(edit, Wide):
                self._widen(place, edit)
            else:
                return place, edit
        return None

    def _judge(self, place: Place) -> None:
        """Judge the cheapest of the edits that wait, and queue the others for later."""
        waiting = sorted(self.waiting.pop(id(place.body), ()), key=lambda w: w.cost)
        now, later = waiting[:TOGETHER], waiting[TOGETHER:]
        opinions = self.screen(place).judge([w.edit for w in now])
        for (cost, edit, judge), opinion in zip(now, opinions, strict=True):
            if judge is Judge.ALL or opinion in FAVOURED:
                self._add(min(cost + LATER.get(opinion, 0.0), AT_MOST.get(opinion, math.inf)), place, edit)
        if later:
            self.waiting[id(place.body)] = later
            self._add(later[0].cost, place, JUDGE)

    def _widen(self, place: Place, query: Wide) -> None:
        screen = self.screen(place)
        if not screen.iterations:
            return
        texts = expressions_near(self.search, place)
        for edit in wide_edits(place.body, screen.shapes(), screen.scope.functions, texts):
            self.push(query.penalty, place, edit, Judge.FAVOURED_ONLY)

    def screen(self, place: Place) -> Screen:
        """Return the statement's screen."""
        if id(place.body) not in self.screens:
            if self.values is None:
                self.values = _values(self.search)
            self.screens[id(place.body)] = Screen(self.search, place, *self.values)
        return self.screens[id(place.body)]

    def _add(self, cost: float, place: Place, edit: Any) -> None:
        heapq.heappush(self.heap, (cost, next(self.order), place, edit))


def _values(search: Search) -> tuple[Known, Known]:
    """Return the values of the reference and those of the program."""
    problem, interpretation = search.problem, search.interpretations[0]
    rule = rebuilt(problem.written, {})
    program = jaxprs.trace(problem.as_program(rule), problem.inputs)  # pyright: ignore[reportOptionalCall]
    theirs, mine = Known(interpretation), Known(interpretation)
    for value in (*search.known, *interpretation.want):
        theirs.add(value)
    for value in (*interpretation.inputs, *(v for step in record(interpretation, program)[1] for v in step.outputs)):
        mine.add(value)
    return theirs, mine
