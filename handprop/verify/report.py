"""What a verification says: values only, no computation.

A :class:`Report` holds one verdict, the checks it rests on, and what repeats it. Every class here is frozen,
compares by value and survives ``Report.from_json(report.to_json())``.
"""

import base64
import dataclasses
import enum
import json
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["Check", "Counterexample", "GradientRefuted", "Outcome", "Report", "Verdict", "Worst"]

FORMAT = "handprop.report.v1"
WIDTH = 80


class Verdict(enum.Enum):
    """The four verdicts; each value is the sentence that says what it rests on."""

    PROVED = "the two programs are the same function over the reals, at these shapes"
    VERIFIED = "not proved; they agree to float64 rounding at every sampled point"
    REFUTED = "they differ by more than rounding can explain"
    INCONCLUSIVE = "could not be judged"


class Outcome(enum.Enum):
    """How one check ended."""

    PROVES = "proves"
    HOLDS = "holds"
    NOTES = "notes"  # holds, with something to know that is no fault of the mathematics
    UNDECIDED = "undecided"
    FAILS = "fails"
    SKIPPED = "not run"


@dataclasses.dataclass(frozen=True)
class Worst:
    """The entry that stands worst: ``got`` by hand, ``want`` by the reference, the distance in ulps of float64
    or of the leaf's dtype (the check says which) and the bound it was held to."""

    path: str
    index: tuple[int, ...]
    got: float
    want: float
    ulps: float | None = None
    bound: float | None = None


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """An input where the two programs part: ``inputs`` by path, and the worst entry of the output there.

    ``replay()`` runs both programs on it again and returns ``(got, want)`` for that entry.
    """

    inputs: tuple[tuple[str, np.ndarray], ...]
    worst: Worst
    run: Callable[[tuple[np.ndarray, ...]], tuple[float, float]] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    def replay(self) -> tuple[float, float]:
        """``(got, want)`` at the worst entry, computed anew. A report read from JSON has no programs: RuntimeError."""
        if self.run is None:
            raise RuntimeError("this counterexample was read from JSON: verify the rule again to replay it")
        return self.run(tuple(array for _, array in self.inputs))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counterexample):
            return NotImplemented
        return self.worst == other.worst and _array_bytes(self.inputs) == _array_bytes(other.inputs)

    def __hash__(self) -> int:
        return hash((self.worst, _array_bytes(self.inputs)))


@dataclasses.dataclass(frozen=True)
class Check:
    """One rung's finding: ``shows`` is one sentence, ``evidence`` its numbers, ``worst`` the worst entry seen."""

    name: str
    outcome: Outcome
    shows: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    worst: Worst | None = None
    counterexample: Counterexample | None = None
    seconds: float = 0.0


class GradientRefuted(AssertionError):
    """Raised by ``Report.raise_if_refuted``; ``.report`` is the report."""

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known of one hand-written gradient.

    ``checks`` in the order they ran; ``assumptions`` the readings a proof rests on (literals, casts, trusted rules,
    uninterpreted primitives); ``power`` the smallest relative error per output leaf that the sampled checks would
    have caught; ``certificate`` what repeats the report (entry, shapes, seeds, primes, hashes, versions).
    """

    subject: str
    verdict: Verdict
    reason: str
    checks: tuple[Check, ...]
    assumptions: tuple[str, ...] = ()
    counterexample: Counterexample | None = None
    power: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Proved or verified."""
        return self.verdict in (Verdict.PROVED, Verdict.VERIFIED)

    @property
    def seconds(self) -> float:
        return sum(check.seconds for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of that name; KeyError with the names there are."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}: {', '.join(check.name for check in self.checks)}")

    def raise_if_refuted(self) -> "Report":
        """This report, or GradientRefuted when the verdict is REFUTED."""
        if self.verdict is Verdict.REFUTED:
            raise GradientRefuted(self)
        return self

    def to_json(self) -> str:
        """The whole report as JSON text; the counterexample's arrays keep every bit."""
        return json.dumps({"format": FORMAT, **_pack(self)}, indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Report":
        """The report that ``to_json`` wrote. ValueError when it is none."""
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
                raise ValueError(f'its "format" is not {FORMAT!r}')
            return _unpack(fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a handprop report: {error}") from error

    def __str__(self) -> str:
        return "\n".join(_lines(self))
