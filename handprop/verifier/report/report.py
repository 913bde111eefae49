"""A report: one verdict, the checks it rests on, and what is needed to repeat it.

Reports compare by value, and ``Report.from_json(report.to_json())`` equals the report.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from handprop.verifier.report import encoding, text
from handprop.verifier.report.reader import read
from handprop.verifier.report.values import (
    ByContent,
    Check,
    Counterexample,
    Fix,
    Location,
    LostBits,
    Outcome,
    Verdict,
    set_fields,
    text_of,
)

__all__ = ["LATE", "GradientRefuted", "Report"]

FORMAT = "handprop.report.v2"
LATE = "the time budget was used up"
SEQUENCES = ("checks", "assumptions", "locations", "conditions", "findings", "internal")


class GradientRefuted(AssertionError):
    """Raised by ``Report.raise_if_refuted``. Its attribute ``report`` is the report."""

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


@dataclasses.dataclass(frozen=True, eq=False)
class Report(ByContent):
    """What the verification of one hand-written gradient found.

    * ``subject``, ``verdict``, ``reason``: what was verified, the verdict, and why
    * ``checks``: in the order they ran
    * ``conditions``: those under which the verdict holds; the first line of the text names them
    * ``assumptions``: the readings that a proof rests on (literals, casts, trusted rules, uninterpreted primitives)
    * ``counterexample``: an input where the gradient is wrong
    * ``locations`` (the likeliest first), ``diagnosis``, ``fix``: for a refuted gradient, where the mistake is, what it
      is and how to fix it, if known. If there is no reference, ``diagnosis`` says what the gradient alone shows.
    * ``intent``: what a refuted gradient is, if it has one of the shapes that gradients are given on purpose, and what
      to pass as ``surrogate`` if that is meant
    * ``lost_bits``: where a right gradient with poor arithmetic loses its bits
    * ``sensitivity``: for each output leaf, the smallest relative error that the sampled checks would have caught
    * ``findings``: what else the user should know
    * ``internal``: what went wrong inside the verifier itself
    * ``certificate``: what is needed to repeat the report (entry, shapes, seeds, primes, hashes, versions)
    * ``seconds``: how long the whole report took

    >>> from handprop.verifier.report.values import Outcome
    >>> check = Check("proof", Outcome.PROVES, "equal in GF(p); false with a chance of at most 2^-58", {"bits": 58})
    >>> report = Report("mlp.value_and_grad", Verdict.PROVED, "", (check,))
    >>> print(report)
    PROVED        mlp.value_and_grad
      the two programs are the same function over the reals, at these shapes.
    <BLANKLINE>
    proof             proves     equal in GF(p); false with a chance of at most
                                 2^-58
    <BLANKLINE>
    seconds           0.00
    >>> Report.from_json(report.to_json()) == report
    True
    """

    subject: str
    verdict: Verdict
    reason: str
    checks: tuple[Check, ...]
    assumptions: tuple[str, ...] = ()
    counterexample: Counterexample | None = None
    sensitivity: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    locations: tuple[Location, ...] = ()
    diagnosis: str | None = None
    fix: Fix | None = None
    intent: str | None = None
    lost_bits: LostBits | None = None
    conditions: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        mappings = {name: encoding.Values(getattr(self, name)) for name in ("sensitivity", "certificate")}
        sequences = {name: tuple(getattr(self, name)) for name in SEQUENCES}
        set_fields(self, **sequences, **mappings, seconds=float(self.seconds))

    @property
    def location(self) -> Location | None:
        """The likeliest of ``locations``, or None if none is known."""
        return self.locations[0] if self.locations else None

    @property
    def late(self) -> bool:
        """Whether a check was left out because the time was used up."""
        return any(check.outcome is Outcome.SKIPPED and check.summary == LATE for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether the gradient is proved or verified."""
        return self.verdict in (Verdict.PROVED, Verdict.VERIFIED)

    def check(self, name: str) -> Check:
        """Return the check of that name. Raises KeyError if there is none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"there is no check {name!r}; choose one of {', '.join(check.name for check in self.checks)}")

    def raise_if_refuted(self) -> "Report":
        """Return this report, or raise GradientRefuted if the verdict is REFUTED."""
        if self.verdict is Verdict.REFUTED:
            raise GradientRefuted(self)
        return self

    def to_json(self) -> str:
        """Return the whole report as JSON text. Arrays keep every bit."""
        return text_of(self, timed=True, format=FORMAT)

    @staticmethod
    def from_json(json: str) -> "Report":
        """Return the report that ``to_json`` wrote. Raises ValueError if the text is not one."""
        try:
            fields = encoding.load(json)
            if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
                raise ValueError(f'its "format" is not {FORMAT!r}')
            return read(encoding.unpack(fields), Report)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a handprop report: {str(error) or type(error).__name__}") from error

    def __str__(self) -> str:
        return "\n".join(text.lines(self))
