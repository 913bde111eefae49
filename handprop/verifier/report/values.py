"""The parts of a report: values only, no computation. Every class here is frozen and compares by value."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handprop.verifier.report import encoding

__all__ = [
    "ByContent",
    "Check",
    "Counterexample",
    "Fix",
    "Location",
    "LostBits",
    "Outcome",
    "Verdict",
    "Worst",
    "names_of",
    "set_fields",
    "text_of",
]


class Verdict(enum.Enum):
    """The four verdicts. Each value is the sentence that says what the verdict rests on."""

    PROVED = "the two programs are the same function over the reals, at these shapes"
    VERIFIED = "not proved; the two programs agree to float64 rounding at every sampled point"
    REFUTED = "the two programs differ by more than rounding can explain"
    INCONCLUSIVE = "no verdict could be reached"


class Outcome(enum.Enum):
    """How one check ended."""

    PROVES = "proves"
    HOLDS = "holds"
    NOTES = "notes"  # holds, with a remark that is not about a fault in the mathematics
    UNDECIDED = "undecided"
    FAILS = "fails"
    SKIPPED = "not run"


class ByContent:
    """Equality and hash by content, for the classes below.

    NaN equals NaN, and arrays are equal if their bits are. Programs and elapsed times are not compared.
    """

    def __eq__(self, other: object) -> bool:
        return (
            text_of(self, timed=False) == text_of(other, timed=False) if type(self) is type(other) else NotImplemented
        )

    def __hash__(self) -> int:
        return hash(text_of(self, timed=False))


@dataclasses.dataclass(frozen=True, eq=False)
class Worst(ByContent):
    """The entry with the largest error relative to its bound.

    ``got`` is the hand-written value and ``want`` the reference's. ``ulps`` is their distance in ulps of float64 or of
    the leaf's dtype (the check says which), and ``bound`` is the bound on it.
    """

    path: str
    index: tuple[int, ...]
    got: float
    want: float
    ulps: float | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        numbers = {name: _number(getattr(self, name)) for name in ("got", "want", "ulps", "bound")}
        set_fields(self, index=tuple(int(i) for i in self.index), **numbers)


@dataclasses.dataclass(frozen=True, eq=False)
class Counterexample(ByContent):
    """An input where the two programs differ: ``inputs`` by path, and the ``worst`` entry of the output there.

    ``replay()`` runs both programs on it again and returns ``(got, want)`` for that entry.
    """

    inputs: tuple[tuple[str, np.ndarray], ...]
    worst: Worst
    run: Callable[[tuple[np.ndarray, ...]], tuple[float, float]] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        set_fields(self, inputs=tuple((path, encoding.freeze(np.asarray(array))) for path, array in self.inputs))

    def replay(self) -> tuple[float, float]:
        """Compute ``(got, want)`` at the worst entry again.

        Raises RuntimeError if the report was read from JSON, because it then holds no programs.
        """
        if self.run is None:
            raise RuntimeError(
                "this counterexample was read from JSON and holds no programs; verify the rule again to replay it"
            )
        return self.run(tuple(array for _, array in self.inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class Check(ByContent):
    """What one check found: a one-sentence ``summary``, its ``evidence``, and the ``worst`` entry seen.

    Any check may hold as evidence ``findings`` (sentences that the report prints beside the verdict), ``conditions``
    (under which alone its outcome holds), ``assumptions`` (how the programs were read), ``internal`` (faults of the
    verifier itself) and ``repeats`` (False if a second run returned other numbers). The checks add

    - structure: the number of ``faults`` of the rule, or of its ``leaves`` if there are none;
    - identical: the numbers of equations of ``candidate`` and ``reference``;
    - proof: the chance 2^-``bits`` of a false proof; the numbers of ``runs``, of ``oracle_calls``, ``roots`` and
      ``truths`` (decisions) in one run, and of the ``assignments`` of decisions that were drawn; the first ``primes``;
      the primitives that were left ``uninterpreted``;
    - rounding: the number of ``points``; by output, the smallest relative error that would have shown
      (``sensitivity``), and the bits that the own dtype loses by hand (``lost_bits``) and by autodiff
      (``lost_bits_autodiff``); whether any gradient is not zero at some point (``exercised``), and the outputs
      that are zero at every point (``unexercised``), NaN at every point
      (``undefined``), or would show only large errors (``hidden``); entries that differ clearly where nothing decides
      which is right (``clear_differences``); the ``product_precision`` of matrix products;
    - finite_differences: the numbers of ``directions`` and of ``usable_directions``, the ``relative_error``;
    - transformations: the number of ``cotangents``; the transformations that were ``tried``, and those that are
      ``unsupported``;
    - edge_cases: the inputs that were ``tried``, those where something is ``not_finite``, and the ``kinks``;
    - other_sizes: the ``sizes`` that were tried, and whether the rule ``fails`` there.
    """

    name: str
    outcome: Outcome
    summary: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    worst: Worst | None = None
    counterexample: Counterexample | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        set_fields(self, evidence=encoding.Values(self.evidence), seconds=float(self.seconds))


@dataclasses.dataclass(frozen=True, eq=False)
class Location(ByContent):
    """A place in the user's code where the two programs part.

    ``text`` is the line as it is in ``file``, and ``columns`` the range ``[start, end)`` in it. ``affects`` are the
    outputs that are wrong because of it, and ``reason`` says why the place is suspected.
    """

    file: str
    line: int
    columns: tuple[int, int]
    text: str
    function: str
    affects: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        set_fields(self, line=int(self.line), columns=tuple(int(c) for c in self.columns), affects=tuple(self.affects))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


@dataclasses.dataclass(frozen=True, eq=False)
class Fix(ByContent):
    """An edit, usually of one line, after which every output is equal.

    ``expression`` is the line as it should read, or several lines if there are several mistakes. ``diff`` is a unified
    diff that applies to the file; nothing is ever written to the file. If ``proved``, the edited program is proved
    equal under no condition that the refuted one would not need; otherwise it agrees in float64. ``conditions`` are
    those under which the fix holds.
    """

    file: str
    line: int
    expression: str
    diff: str
    proved: bool
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_fields(self, conditions=tuple(self.conditions))


@dataclasses.dataclass(frozen=True, eq=False)
class LostBits(ByContent):
    """The line that loses most of the bits that the output ``path`` loses in its own dtype.

    ``text`` is line ``line`` of ``file``, inside ``function``. ``bits`` are lost if only that line runs in its own
    dtype and everything else in float64; ``in_all`` are lost by the whole program, and ``autodiff`` by autodiff's
    program. All three are bits of the largest error, relative to the output's largest entry. ``cause`` says why, if a
    measurement shows it; otherwise it is empty.
    """

    path: str
    file: str
    line: int
    text: str
    function: str
    bits: float
    in_all: float
    autodiff: float
    cause: str

    def __post_init__(self) -> None:
        set_fields(
            self, line=int(self.line), **{name: float(getattr(self, name)) for name in ("bits", "in_all", "autodiff")}
        )

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def set_fields(value: Any, **fields: Any) -> None:
    for name, held in fields.items():
        object.__setattr__(value, name, held)


def _number(value: Any) -> Any:
    if value is None:
        return None
    return complex(value) if np.iscomplexobj(value) else float(value)


def text_of(value: Any, timed: bool, **more: Any) -> str:
    """Return the value as JSON, with or without the elapsed seconds."""
    return encoding.dump({**more, **packed(value, timed)})


def packed(held: Any, timed: bool) -> Any:
    if isinstance(held, ByContent):
        names = [name for name in names_of(type(held)) if timed or name != "seconds"]
        return {name: packed(getattr(held, name), timed) for name in names}
    if isinstance(held, enum.Enum):
        return held.name
    if isinstance(held, tuple):
        return [packed(item, timed) for item in held]
    return encoding.pack(held)


def names_of(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "run"]
