"""From a refuted report to one that says where, what and how else."""

import contextlib
import dataclasses
import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from handprop.verify import jaxprs
from handprop.verify.field.algebra import Unsupported
from handprop.verify.field.values import Value
from handprop.verify.field.work import Work
from handprop.verify.mistakes.bench import Bench, run_on, set_up, spoiled
from handprop.verify.mistakes.cotangents import left_out
from handprop.verify.mistakes.diagnose import by_outputs
from handprop.verify.mistakes.locate import Suspect, location, suspects
from handprop.verify.mistakes.lost_bits import lost_bits
from handprop.verify.mistakes.patch import diff_of
from handprop.verify.mistakes.repair import repairs, stopped
from handprop.verify.mistakes.search import Change, Found
from handprop.verify.mistakes.shrink import shrunk
from handprop.verify.mistakes.source import Place, columns_of, place_of, rebuilt, text_of
from handprop.verify.mistakes.statements import editable, last_line, neighbours, part_of, renamings
from handprop.verify.mistakes.symmetry import symmetry
from handprop.verify.mistakes.tape import record
from handprop.verify.options import Options
from handprop.verify.points import wrong_outputs
from handprop.verify.report import Check as Checked
from handprop.verify.report import Fix, Location, Outcome, Report, Verdict
from handprop.verify.rungs.other_sizes import AS_GIVEN
from handprop.verify.rungs.proof import proof
from handprop.verify.sizes import at_other_sizes
from handprop.verify.subject import Subject

__all__ = ["explain"]

Check: TypeAlias = Callable[[Subject], Report]
SECONDS = 3.0  # of counted work
LATEST = 20 * SECONDS  # a last guard, for a machine that is so much slower
SHOWN = 3
MOST_NARROW = 8  # edits that hold more narrowly, before the search for another ends
MOST_TRIED = 16  # edits that the whole verification is run for
LINE = re.compile(r" \([^()]*:\d+\)$")
READ = re.compile("stands for minus infinity$|change nothing$")  # how a proof reads both programs: no condition of one
UNKNOWN = "no known cause fits"
OF_NOTHING = "it is the gradient of no function"
STOPPED = "stop_gradient in the function itself: without it the gradient by hand is its gradient"


def explain(subject: Subject, options: Options, report: Report, check: Check) -> Report:
    """The report with locations, diagnosis and fix where it is refuted, with lost bits where it is right and poor, with
    what the gradient alone says where there is no reference; as it was where nothing can be said. ``check`` is the
    whole verification, which a fix has to pass."""
    if "mistakes" in options.skip or options.seconds_left <= 0:
        return report
    if report.verdict is Verdict.INCONCLUSIVE:
        return _by_itself(subject, options, report)
    if subject.as_program is None:
        return report
    try:
        if report.ok:
            return dataclasses.replace(report, lost_bits=lost_bits(subject, report))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of candidates, which nobody wrote
            work = Work(deadline=min(time.monotonic() + LATEST, options.deadline))
            small, partly = shrunk(subject), None
            if small is not None:
                with contextlib.suppress(Unsupported):  # there is no difference at small shapes
                    found = _explained(small, subject, options, work, report, check)
                    if found.fix is not None and found.fix.proved:
                        return found
                    partly = found if found.fix else None
            found = _explained(subject, subject, options, work, report, check)
            found = partly if partly is not None and found.fix is None else found
            return found if found.diagnosis != UNKNOWN else _unknown(subject, options, found)
    except Unsupported:  # what the field cannot read
        return report
    except Exception as error:  # whatever the user's own code raises when it is traced again: the verdict stands
        said = f"the search for the mistake failed: {jaxprs.first_line(error)}"
        return dataclasses.replace(report, internal=(*report.internal, said))


def _by_itself(subject: Subject, options: Options, report: Report) -> Report:
    """What the gradient alone says where there is no reference."""
    if not subject.obstacle and report.checks[0].outcome is not Outcome.UNDECIDED:
        return report
    found = symmetry(subject, options)
    if found is None:
        return report
    meaning = "as a gradient's is; of which function is not known" if found.holds else OF_NOTHING
    return dataclasses.replace(report, diagnosis=f"{found.said}: {meaning}")


def _unknown(subject: Subject, options: Options, report: Report) -> Report:
    """What a gradient alone says where no cause fits; a rule is one for every cotangent, which is not asked here."""
    found = None if subject.cotangents else symmetry(subject, options)
    if found is None:
        return report
    meaning = "a factor or the function is another" if found.holds else f"{OF_NOTHING}, a slip is inside"
    return dataclasses.replace(report, diagnosis=f"{UNKNOWN}; {found.said}: {meaning}")


def _explained(subject: Subject, whole: Subject, options: Options, work: Work, report: Report,
               check: Check) -> Report:  # fmt: skip
    """What is found in ``subject``, as far as the ``work`` goes, and holds in the ``whole``."""
    assert subject.as_program is not None
    point = whole.kept.get("failed at")
    blamed = frozenset() if point is None else frozenset(wrong_outputs(whole, point))
    benches = tuple(bench._replace(blamed=blamed) for bench in set_up(subject, options, work))
    bench = benches[0]
    theirs = jaxprs.trace(subject.reference, subject.inputs)
    known = tuple(v for step in record(bench, theirs)[1] for v in step.outputs if isinstance(v, Value))
    try:
        hand = jaxprs.trace(subject.as_program(rebuilt(subject.written, {})), subject.inputs)
        got, steps = record(bench, hand)
        found = suspects(subject, bench, known, got, steps)
        every = (got, *(run_on(b, hand) for b in benches[1:]))
        alone, not_linear = left_out(subject, bench, hand, got, steps)
        found = [*alone, *found]
    except Exception:  # a rule whose structure is wrong does not run as it is
        if not subject.faults:
            raise
        found, got, every, not_linear = [], None, None, ""
    if "stop_gradient" in {eqn.primitive.name for eqn in jaxprs.equations(theirs)}:
        held = stopped(subject, bench)
        fix, _ = _fix(whole._replace(reference=held[1]), held[0], options, check) if held else (None, False)
        if held and fix:
            places = _places(subject, bench, got, found, held[0])
            return dataclasses.replace(report, locations=places, diagnosis=STOPPED, fix=fix)
    said = by_outputs(subject, bench, got) if got is not None else None
    returned = said is not None and "swapped" in said
    first = last_line(subject) if returned else None
    best = _best(whole, repairs(subject, whole, benches, found, first, known, every, options, SECONDS), options, check)
    if best is not None:
        places = _places(subject, bench, got, found, best[0])
        causes = dict.fromkeys(edit.cause for _, edit in best[0].changes)
        return dataclasses.replace(report, locations=places, diagnosis="; ".join(causes), fix=best[1])
    places = _likely(subject, bench, got, found, returned)
    return dataclasses.replace(report, locations=places, diagnosis=said or not_linear or UNKNOWN)


def _likely(subject: Subject, bench: Bench, got: Any, found: list[Suspect], returned: bool) -> tuple[Location, ...]:
    """The suspects; where no equation is the user's, and where the gradients are right but ``returned`` in the wrong
    order, the line that forms what is returned."""
    spoils = _spoils(subject, bench, got)
    shown = [location(s, subject.out_paths) for s in found]
    aliases = [_at(place, "it only hands on a value", spoils) for place in renamings(subject)]
    place = last_line(subject)
    last = [] if place is None else [_at(place, "this line forms what is returned", spoils)]
    if returned or not shown:
        return _distinct([*last, *shown, *aliases])
    frame = found[0].frame
    first = place_of(frame.file, frame.line, editable(subject))
    beside = [_at(p, why, spoils) for p, why in neighbours(subject, first, first.body)] if first else []
    return _distinct([*shown[:1], *aliases[:1], *shown[1:2], *beside, *last, *shown[2:]])


def _distinct(locations: Iterable[Location]) -> tuple[Location, ...]:
    """The first of each line, as many as are shown."""
    found: dict[tuple[str, int], Location] = {}
    for at in locations:
        found.setdefault((at.file, at.line), at)
    return tuple(found.values())[:SHOWN]


def _at(place: Place, reason: str, spoils: tuple[str, ...]) -> Location:
    """A statement as a location."""
    line = place.body.lineno  # pyright: ignore[reportAttributeAccessIssue]
    text = text_of(place.file)[line - 1]
    columns = len(text) - len(text.lstrip()), len(text.rstrip())
    return Location(place.file, line, columns, text, _function_of(place), spoils, reason)


def _function_of(place: Place) -> str:
    return getattr(place.scopes[-1], "name", "<lambda>")


def _spoils(subject: Subject, bench: Bench, got: Any) -> tuple[str, ...]:
    """The outputs that are wrong: all of a rule that does not run."""
    return subject.out_paths if got is None else tuple(subject.out_paths[i] for i in spoiled(bench, got))


def _best(subject: Subject, found: Iterable[Found], options: Options, check: Check) -> tuple[Found, Fix] | None:
    """The first edit that passes, unless it holds more narrowly than the refuted program would: then a later one that
    does not, if there is one."""
    narrow: tuple[Found, Fix] | None = None
    count = 0
    for repair in itertools.islice(found, MOST_TRIED):
        fix, narrower = _fix(subject, repair, options, check)
        if fix is not None and not narrower:
            return repair, fix
        if fix is not None:
            count, narrow = count + 1, narrow or (repair, fix)
        if count == MOST_NARROW or options.seconds_left <= 0:
            break
    return narrow


def _fix(subject: Subject, found: Found, options: Options, check: Check) -> tuple[Fix | None, bool]:
    """The edit as a fix if it passes the whole verification, ``proved`` if every check of it was run too; and whether
    it holds more narrowly than the refuted program would, and so is not called proved."""
    assert subject.as_program is not None
    try:
        expression, diff = diff_of(found)
    except ValueError:
        return None, False
    report = check(subject._replace(hand=subject.as_program(found.rule), faults=(), kept={}))
    if not report.ok:
        return None, False
    narrower = _is_narrower(subject, report, options)
    conditions = report.conditions
    if narrower and AS_GIVEN not in conditions and report.check("other sizes").evidence.get("fails"):
        conditions = (*conditions, AS_GIVEN)
    place, edit = found.changes[0]
    proved = report.verdict is Verdict.PROVED and not narrower
    return Fix(place.file, edit.slot.node.lineno, expression, diff, proved, conditions), narrower


def _is_narrower(subject: Subject, mended: Report, options: Options) -> bool:
    """Whether the mended program is right at the given sizes alone, or under a condition that neither the refuted
    program nor the reference needs, held against itself."""
    elsewhere = mended.check("other sizes").evidence
    if AS_GIVEN in elsewhere.get("conditions", ()) or (elsewhere.get("fails") and _runs_elsewhere(subject)):
        return True
    needed = {c for c in _needs(mended.check("proof")) if not READ.search(c)}
    for program in (subject.reference, subject.hand):
        if not needed:
            return False
        with contextlib.suppress(Exception):  # a rule whose structure is wrong does not run
            alone = proof(subject._replace(reference=program, hand=program, kept={}), options)
            needed -= _needs(alone)
    return bool(needed)


def _needs(check: Checked) -> set[str]:
    """A check's conditions without the lines that they are made for."""
    return {LINE.sub("", condition) for condition in check.evidence.get("conditions", ())}


def _runs_elsewhere(subject: Subject) -> bool:
    """Whether the refuted program runs at other sizes."""
    resized = at_other_sizes(subject)
    try:
        return resized is not None and bool(jaxprs.trace(resized.hand, resized.inputs))
    except Exception:  # whatever JAX, or the rule, says to these sizes
        return False


def _places(subject: Subject, bench: Bench, got: Any, found: list[Suspect], repair: Found) -> tuple[Location, ...]:
    """The lines that the fix is for, then those beside them and the other suspects."""
    spoils = _spoils(subject, bench, got)
    mends = [tuple(subject.out_paths[i] for i in sorted(outputs)) for outputs in repair.mends] or [spoils]
    fixed = [_edited(subject, change, outputs) for change, outputs in zip(repair.changes, mends, strict=True)]
    others = [location(s, subject.out_paths) for s in found]
    beside = [
        _at(place, reason, spoils)
        for changed, edit in repair.changes
        for place, reason in neighbours(subject, changed, edit.slot.node)
    ]
    return _distinct([*fixed, *others[:1], *beside[:1], *others[1:], *beside[1:]])


def _edited(subject: Subject, change: Change, spoils: tuple[str, ...]) -> Location:
    place, edit = change
    node = edit.slot.node
    text = text_of(place.file)[node.lineno - 1]
    columns = columns_of(text, node.col_offset, node.end_col_offset if node.end_lineno == node.lineno else None)
    function = _function_of(place)
    fwd = part_of(subject, "fwd")
    reason = edit.cause + ("; fwd computes it" if fwd is not None and function == fwd.__name__ else "")
    return Location(place.file, node.lineno, columns, text, function, spoils, reason)
