"""A report as text of at most 80 columns."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from handprop.verifier.report.values import Check, Counterexample, Location, LostBits, Outcome, Verdict, Worst

__all__ = ["WIDTH", "apart", "lines"]

WIDTH = 80
NAME, OUTCOME = 20, 11
LEFT_OUT, MAX_BACK = "... ", 16
MISBUILT = "the results do not have the required structure, so no numbers were compared"
SHOWN_ENTRIES, SHOWN_LEAVES, SHOWN_INPUTS = 4, 12, 8


def lines(report: Any) -> Iterator[str]:
    """Yield a :class:`Report`'s verdict with its sentence, a row for each check, and what the verdict rests on."""
    provided = f", provided {'; '.join(report.conditions)}" if report.conditions and report.ok else ""
    yield from _wrapped(f"{report.verdict.name:<14}", report.subject + provided)
    misbuilt = report.verdict is Verdict.REFUTED and any(c.name == "structure" and c.outcome is Outcome.FAILS
                                                        for c in report.checks)  # fmt: skip
    yield from _wrapped("  ", f"{MISBUILT if misbuilt else report.verdict.value}.")
    if report.reason and report.verdict is not Verdict.PROVED:  # for a proof, its check says the same below
        yield from _wrapped("  ", report.reason)
    if report.checks:
        yield ""
    for check in report.checks:
        yield from _check(check)
    fixed = report.fix.expression.splitlines() if report.fix else []
    shown = max(len(fixed), 1)  # one location for each line that the fix changes
    for location in report.locations[:shown]:
        yield from _section("where", [str(location)])
        yield from _pointed(location)
    yield from _section("also look at", (f"{at.file}:{at.line}: {at.text.strip()}" for at in report.locations[shown:]))
    yield from _section("diagnosis", [report.diagnosis] if report.diagnosis else [])
    yield from _section("intent", [report.intent] if report.intent else [])
    if report.fix is not None:
        yield from _section(f"fix, {'proved' if report.fix.proved else 'not proved'}", fixed)
        if report.fix.conditions:
            yield from _wrapped(" " * NAME, f"provided that {'; '.join(report.fix.conditions)}")
    yield from _lost_bits(report.lost_bits)
    yield from _section("counterexample", _inputs(report.counterexample))
    yield from _section("findings", report.findings)
    yield from _section("assumes", report.assumptions)
    yield from _section("internal", report.internal)
    yield from _section("sensitivity", _sensitivity(report.sensitivity))
    if report.checks:
        yield from _section("seconds", [f"{report.seconds:.2f}"])


def _pointed(location: Location) -> Iterator[str]:
    """Yield the source line, carets under the wrong part, and the reason."""
    start, end = location.columns
    indent = len(location.text) - len(location.text.lstrip())
    text = _printable(location.text.strip())
    skipped = max(0, start - indent - (WIDTH - NAME - 4) // 2) if len(text) > WIDTH - NAME else 0
    if skipped:  # cut the line at a word, and mark the omission
        skipped = max(text.rfind(" ", 0, skipped) + 1, skipped - MAX_BACK)
        skipped = max(skipped - len(LEFT_OUT), 0)
        text = text[:skipped] + LEFT_OUT + text[skipped + len(LEFT_OUT) :]
    shown = text[skipped : skipped + WIDTH - NAME]
    start, end = (min(max(0, column - indent - skipped), len(shown)) for column in (start, end))
    yield " " * NAME + shown
    yield " " * (NAME + start) + "^" * max(1, end - start)
    affected = f"; this affects {', '.join(location.affects)}" if location.affects else ""
    yield from _wrapped(" " * NAME, location.reason + affected)


def _lost_bits(lost: "LostBits | None") -> Iterator[str]:
    if lost is None:
        return
    yield from _section("lost bits", [str(lost)])
    yield " " * NAME + _printable(lost.text.strip())[: WIDTH - NAME]
    here, in_all, autodiff = (float(f"{bits:.0f}") for bits in (lost.bits, lost.in_all, lost.autodiff))
    share = f"{here:.0f} of {in_all:.0f} lost bits" if here < in_all else f"all {in_all:.0f} lost bits"
    cause = f", {lost.cause}" if lost.cause else ""
    theirs = "autodiff loses" if autodiff < in_all else "autodiff does no better: it loses"
    yield from _wrapped(" " * NAME, f"{share} in {lost.path}{cause}; {theirs} {autodiff:.0f}")


def _check(check: Check) -> Iterator[str]:
    prefix = f"{_printable(check.name)[: NAME - 1]:<{NAME}}{check.outcome.value:<{OUTCOME}}"
    yield from _wrapped(prefix, check.summary or "-")
    if check.worst is not None:
        yield from _wrapped(" " * (NAME + OUTCOME), _worst(check.worst))


def _worst(worst: Worst) -> str:
    index = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
    got, want = apart(worst.got, worst.want)
    text = f"worst {worst.path}{index}: got {got}, want {want}"
    if worst.ulps is not None:
        text += f", {_number(worst.ulps)} ulps"
    if worst.bound is not None:
        text += f" (bound {_number(worst.bound)})"
    return text


def apart(got: Any, want: Any) -> tuple[str, str]:
    """Return both numbers with enough digits to see that they differ."""
    for digits in (6, 9, 17):
        texts = f"{got:.{digits}g}", f"{want:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{got:.6g}", f"{want:.6g}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _inputs(counterexample: "Counterexample | None") -> Iterator[str]:
    if counterexample is None:
        return
    for path, array in counterexample.inputs[:SHOWN_INPUTS]:
        entries = [_number(entry) for entry in np.ravel(array)[:SHOWN_ENTRIES].tolist()]
        more = ["..."] if array.size > SHOWN_ENTRIES else []
        yield f"{path}: {array.dtype.name}{list(array.shape)} {' '.join(entries + more)}"
    if len(counterexample.inputs) > SHOWN_INPUTS:
        yield f"and {len(counterexample.inputs) - SHOWN_INPUTS} more inputs"
    yield _worst(counterexample.worst)


def _sensitivity(sensitivity: Mapping[str, Any]) -> Iterator[str]:
    for path, error in list(sensitivity.items())[:SHOWN_LEAVES]:
        yield f"{path}: {f'a relative error of {error:.1e}' if np.isfinite(error) else 'no error; it is not exercised'}"
    if len(sensitivity) > SHOWN_LEAVES:
        yield f"and {len(sensitivity) - SHOWN_LEAVES} more leaves, at worst {max(sensitivity.values()):.1e}"


def _section(title: str, items: Iterable[str]) -> Iterator[str]:
    """Yield ``title`` next to the first item, and the other items below it."""
    for n, item in enumerate(items):
        if n == 0:
            yield ""
        yield from _wrapped(f"{title if n == 0 else '':<{NAME}}", item)


def _wrapped(prefix: str, text: str) -> list[str]:
    """Wrap ``text`` after ``prefix``, later lines indented by its length. Control characters are replaced."""
    indent = " " * len(prefix)
    wrapped = textwrap.wrap(_printable(text), WIDTH, initial_indent=prefix, subsequent_indent=indent)
    return wrapped or [prefix.rstrip()]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
