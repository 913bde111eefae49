"""Add to a refuted report where the mistake is, what it is, and how the line should read."""

import contextlib
import dataclasses
import enum
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from handprop.verifier.checks.other_sizes import AS_GIVEN
from handprop.verifier.checks.resized import at_other_sizes
from handprop.verifier.checks.sampling import wrong_outputs
from handprop.verifier.internal import first_line, noted
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem, Shared
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.errors import Unsupported
from handprop.verifier.proof.field.work import Work
from handprop.verifier.proof.proof import proof
from handprop.verifier.repair.diagnose import by_outputs
from handprop.verifier.repair.interpretation import Interpretation, affected, run_on, set_up
from handprop.verifier.repair.locate.cotangents import left_out
from handprop.verifier.repair.locate.execution import record
from handprop.verifier.repair.locate.lost_bits import lost_bits
from handprop.verifier.repair.locate.suspects import Suspect, location, suspects
from handprop.verifier.repair.locate.symmetry import symmetry
from handprop.verifier.repair.search import Change, Found
from handprop.verifier.repair.shrink import shrunk
from handprop.verifier.repair.smallest_edit import repairs, stopped
from handprop.verifier.repair.source.functions import Place, columns_of, place_of, rebuilt, text_of
from handprop.verifier.repair.source.patch import Unwritable, diff_of
from handprop.verifier.repair.source.statements import editable, last_line, neighbours, part_of, renamings
from handprop.verifier.repair.source.trees import changed_part
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Fix, Location, Outcome, Verdict

__all__ = ["MAX_TRIED", "Cause", "Explained", "explain"]

Check: TypeAlias = Callable[[Problem], Report]
SECONDS = 10.0  # of counted work, which take about 8 seconds on an idle core
LATEST = 6 * SECONDS  # of wall time: a safeguard for machines that are much slower
SHOWN = 3
MAX_NARROW = 8  # edits that need extra conditions, before the search for a better one ends
MAX_TRIED = 16  # edits that are put through the whole verification
OF_NOTHING = "it is the gradient of no function"
STOPPED = "stop_gradient in the function itself: without it the gradient by hand is its gradient"


class Cause(enum.Enum):
    """What is known of the cause of a mistake."""

    NOT_SOUGHT = "no cause was looked for"
    UNKNOWN = "no known cause fits"
    ITS_KIND = "no known cause fits, but the Jacobian shows of what kind the mistake is"
    KNOWN = "a cause is known"


class Explained(NamedTuple):
    """A report, and what its diagnosis says of the cause."""

    report: Report
    cause: Cause


def explain(problem: Problem, options: Options, report: Report, check: Check) -> Explained:
    """Return the report with an explanation added, or unchanged if nothing can be said.

    A refuted report gets locations, a diagnosis and a fix. A report on a right gradient with poor arithmetic says where
    bits are lost. Without a reference, the diagnosis is what the gradient alone shows. ``check`` is the whole
    verification, which a fix has to pass.
    """
    plain = Explained(report, Cause.NOT_SOUGHT)
    if "repair" in options.skip or options.seconds_left <= 0:
        return plain
    if report.verdict is Verdict.INCONCLUSIVE:
        return plain._replace(report=_by_itself(problem, options, report))
    if problem.as_program is None:
        return plain
    try:
        if report.ok:
            return plain._replace(report=dataclasses.replace(report, lost_bits=lost_bits(problem, report)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the edited programs may warn, and nobody wrote them
            work = Work(deadline=min(time.monotonic() + LATEST, options.deadline))
            searched = _searched(problem)
            found = _sought(searched, problem, options, work, report, check)
            found = found if searched is problem else _in_terms_of(problem, found)
            return found if found.cause is not Cause.UNKNOWN else _unknown(problem, options, found)
    except Unsupported:  # the field cannot represent the programs
        return plain
    except Exception as error:  # the user's code may raise anything when it is traced again; the verdict stands
        line = noted(error) or f"the search for the mistake failed: {first_line(error)}"
        return plain._replace(report=dataclasses.replace(report, internal=(*report.internal, line)))


def _searched(problem: Problem) -> Problem:
    """Return the problem in which the mistake is looked for: that of a ``custom_jvp`` rule's tangents if it has one."""
    if problem.forwards is None or problem.as_reference is None or problem.faults or problem.stops:
        return problem
    try:
        along: Problem = problem.forwards()
        jaxprs.trace(along.candidate, along.inputs)
        jaxprs.trace(along.reference, along.inputs)
    except Exception as error:  # a rule inside has no forward mode
        noted(error)
        return problem
    return along


def _in_terms_of(problem: Problem, explained: Explained) -> Explained:
    """Name the wrong outputs of the problem that was asked about, where another one was searched."""
    point = problem.shared.failed_at
    affects = () if point is None else tuple(problem.out_paths[i] for i in wrong_outputs(problem, point))
    places = tuple(dataclasses.replace(at, affects=affects) for at in explained.report.locations)
    return explained._replace(report=dataclasses.replace(explained.report, locations=places))


def _sought(searched: Problem, problem: Problem, options: Options, work: Work, report: Report,
            check: Check) -> Explained:  # fmt: skip
    """Search at small shapes, then at the given ones."""
    small, partly = shrunk(searched), None
    if small is not None:
        with contextlib.suppress(Unsupported):  # the programs do not differ at small shapes
            found = _explained(small, searched, problem, options, work, report, check)
            if found.report.fix is not None and found.report.fix.proved:
                return found
            partly = found if found.report.fix else None
    found = _explained(searched, searched, problem, options, work, report, check)
    return partly if partly is not None and found.report.fix is None else found


def _by_itself(problem: Problem, options: Options, report: Report) -> Report:
    """Diagnose from the gradient alone when there is no reference."""
    if not problem.obstacle and report.checks[0].outcome is not Outcome.UNDECIDED:
        return report
    found = symmetry(problem, options)
    if found is None:
        return report
    meaning = "as a gradient's is; of which function is not known" if found.holds else OF_NOTHING
    return dataclasses.replace(report, diagnosis=f"{found.said}: {meaning}")


def _unknown(problem: Problem, options: Options, explained: Explained) -> Explained:
    """Diagnose from the gradient alone when no cause fits.

    This is for gradients only. A rule is a family of gradients, one for each cotangent, and is left as it is.
    """
    found = None if problem.cotangents else symmetry(problem, options)
    if found is None:
        return explained
    meaning = "a factor or the function is another" if found.holds else f"{OF_NOTHING}, a slip is inside"
    diagnosis = f"{Cause.UNKNOWN.value}; {found.said}: {meaning}"
    return Explained(dataclasses.replace(explained.report, diagnosis=diagnosis), Cause.ITS_KIND)


def _explained(problem: Problem, whole: Problem, asked: Problem, options: Options, work: Work, report: Report,
               check: Check) -> Explained:  # fmt: skip
    """Search ``problem`` within the limit on ``work``, and keep a fix only if it holds in the ``asked`` problem too.

    ``whole`` is the problem at the shapes that were asked about.
    """
    assert problem.as_program is not None
    point = whole.shared.failed_at
    blamed = frozenset() if point is None else frozenset(wrong_outputs(whole, point))
    interpretations = tuple(interpretation._replace(blamed=blamed) for interpretation in set_up(problem, options, work))
    interpretation = interpretations[0]
    theirs = jaxprs.trace(problem.reference, problem.inputs)
    known = tuple(v for step in record(interpretation, theirs)[1] for v in step.outputs)
    try:
        candidate = jaxprs.trace(problem.as_program(rebuilt(problem.written, {})), problem.inputs)
        got, steps = record(interpretation, candidate)
        found = suspects(problem, interpretation, known, got, steps)
        every = (got, *(run_on(b, candidate) for b in interpretations[1:]))
        alone, not_linear = left_out(problem, interpretation, candidate, got, steps)
        found = [*alone, *found]
    except Exception as error:  # a rule with a structural fault may not run as it is
        if not problem.faults:
            raise
        noted(error)
        found, got, every, not_linear = [], None, None, ""
    if "stop_gradient" in {eqn.primitive.name for eqn in jaxprs.equations(theirs)}:
        held = stopped(problem, interpretation)
        fix, _ = _fix(asked._replace(reference=held[1]), held[0], options, check) if held else (None, False)
        if held and fix:
            places = _places(problem, interpretation, got, found, held[0])
            return Explained(dataclasses.replace(report, locations=places, diagnosis=STOPPED, fix=fix), Cause.KNOWN)
    outputs = by_outputs(problem, interpretation, got) if got is not None else None
    said, returned = outputs or (None, False)
    first = last_line(problem) if returned else None
    best = _best(
        asked, repairs(problem, whole, interpretations, found, first, known, every, options, SECONDS), options, check
    )
    if best is not None:
        places = _places(problem, interpretation, got, found, best[0])
        causes = dict.fromkeys(edit.cause for _, edit in best[0].changes)
        fixed = dataclasses.replace(report, locations=places, diagnosis="; ".join(causes), fix=best[1])
        return Explained(fixed, Cause.KNOWN)
    places = _likely(problem, interpretation, got, found, returned)
    cause = Cause.KNOWN if said or not_linear else Cause.UNKNOWN
    diagnosis = said or not_linear or cause.value
    return Explained(dataclasses.replace(report, locations=places, diagnosis=diagnosis), cause)


def _likely(
    problem: Problem, interpretation: Interpretation, got: Any, found: list[Suspect], returned: bool
) -> tuple[Location, ...]:
    """Return the most likely locations when no fix was found.

    These are the suspects and the lines near them. The line that forms the returned value comes first if no equation
    is the user's, or if the gradients are right but ``returned`` in the wrong order.
    """
    affects = _spoils(problem, interpretation, got)
    shown = [location(s, problem.out_paths) for s in found]
    aliases = [_at(place, "this line only passes a value on", affects) for place in renamings(problem)]
    place = last_line(problem)
    last = [] if place is None else [_at(place, "this line forms the returned value", affects)]
    if returned or not shown:
        return _distinct([*last, *shown, *aliases])
    frame = found[0].frame
    first = place_of(frame.file, frame.line, editable(problem))
    beside = [_at(p, why, affects) for p, why in neighbours(problem, first, first.body)] if first else []
    return _distinct([*shown[:1], *aliases[:1], *shown[1:2], *beside, *last, *shown[2:]])


def _distinct(locations: Iterable[Location]) -> tuple[Location, ...]:
    """Keep the first location of each line, and only as many as are shown."""
    found: dict[tuple[str, int], Location] = {}
    for at in locations:
        found.setdefault((at.file, at.line), at)
    return tuple(found.values())[:SHOWN]


def _at(place: Place, reason: str, affects: tuple[str, ...]) -> Location:
    """Return a statement as a location."""
    line = place.body.lineno  # pyright: ignore[reportAttributeAccessIssue]
    text = text_of(place.file)[line - 1]
    columns = len(text) - len(text.lstrip()), len(text.rstrip())
    return Location(place.file, line, columns, text, _function_of(place), affects, reason)


def _function_of(place: Place) -> str:
    return getattr(place.scopes[-1], "name", "<lambda>")


def _spoils(problem: Problem, interpretation: Interpretation, got: Any) -> tuple[str, ...]:
    """Return the paths of the wrong outputs; if the rule does not run, that is all of them."""
    return problem.out_paths if got is None else tuple(problem.out_paths[i] for i in affected(interpretation, got))


def _best(problem: Problem, found: Iterable[Found], options: Options, check: Check) -> tuple[Found, Fix] | None:
    """Return the first edit that passes the verification, with its fix.

    An edit that holds under narrower conditions than the refuted program gives way to a later one that does not, if
    there is one.
    """
    narrow: tuple[Found, Fix] | None = None
    count = 0
    for repair in itertools.islice(found, MAX_TRIED):
        fix, narrower = _fix(problem, repair, options, check)
        if fix is not None and not narrower:
            return repair, fix
        if fix is not None:
            count, narrow = count + 1, narrow or (repair, fix)
        if count == MAX_NARROW or options.seconds_left <= 0:
            break
    return narrow


def _fix(problem: Problem, found: Found, options: Options, check: Check) -> tuple[Fix | None, bool]:
    """Return the edit as a fix if it passes the whole verification, and whether its conditions are narrower.

    A fix that holds under narrower conditions than the refuted program is not called proved.
    """
    assert problem.as_program is not None
    try:
        expression, diff = diff_of(found)
    except Unwritable:
        return None, False
    mended = problem._replace(candidate=problem.as_program(found.rule), faults=(), shared=Shared())
    report = check(mended)
    if not report.ok:
        return None, False
    elsewhere = report.check("other_sizes").evidence
    narrower = _is_narrower(problem, mended.shared.needed, elsewhere, options)
    conditions = report.conditions
    if narrower and elsewhere.get("fails") and not elsewhere.get("conditions"):
        conditions = (*conditions, AS_GIVEN)
    place, edit = found.changes[0]
    proved = report.verdict is Verdict.PROVED and not narrower
    return Fix(place.file, edit.slot.node.lineno, expression, diff, proved, conditions), narrower


def _is_narrower(problem: Problem, needed: frozenset[str], elsewhere: Mapping[str, Any], options: Options) -> bool:
    """Whether the edited program is right only at the given sizes or only under an extra condition.

    ``needed`` holds the conditions of its proof, and ``elsewhere`` the evidence from other sizes. A condition is extra
    if neither the refuted program nor the reference needs it when that program is proved equal to itself.
    """
    if elsewhere.get("conditions") or (elsewhere.get("fails") and _runs_elsewhere(problem)):
        return True
    for program in (problem.reference, problem.candidate):
        if not needed:
            return False
        alone = problem._replace(reference=program, candidate=program, shared=Shared())
        try:
            proof(alone, options)
        except Exception as error:  # a rule with a structural fault may not run
            noted(error, "the proof of a fix's conditions")
            continue
        needed -= alone.shared.needed
    return bool(needed)


def _runs_elsewhere(problem: Problem) -> bool:
    """Whether the refuted program runs at other sizes."""
    resized = at_other_sizes(problem)
    try:
        return resized is not None and bool(jaxprs.trace(resized.candidate, resized.inputs))
    except Exception as error:  # JAX or the rule may refuse these sizes in any way
        noted(error)
        return False


def _places(
    problem: Problem, interpretation: Interpretation, got: Any, found: list[Suspect], repair: Found
) -> tuple[Location, ...]:
    """Return the lines that the fix changes, then related lines and the other suspects."""
    affects = _spoils(problem, interpretation, got)
    mends = [tuple(problem.out_paths[i] for i in sorted(outputs)) for outputs in repair.mends] or [affects]
    fixed = [_edited(problem, change, outputs) for change, outputs in zip(repair.changes, mends, strict=True)]
    others = [location(s, problem.out_paths) for s in found]
    beside = [
        _at(place, reason, affects)
        for changed, edit in repair.changes
        for place, reason in neighbours(problem, changed, edit.slot.node)
    ]
    return _distinct([*fixed, *others[:1], *beside[:1], *others[1:], *beside[1:]])


def _edited(problem: Problem, change: Change, affects: tuple[str, ...]) -> Location:
    place, edit = change
    node = changed_part(edit.slot.node, edit.new)
    text = text_of(place.file)[node.lineno - 1]
    columns = columns_of(text, node.col_offset, node.end_col_offset if node.end_lineno == node.lineno else None)
    function = _function_of(place)
    fwd = part_of(problem, "fwd")
    reason = edit.cause + ("; fwd computes it" if fwd is not None and function == fwd.__name__ else "")
    return Location(place.file, node.lineno, columns, text, function, affects, reason)
