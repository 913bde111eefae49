"""What a verification says: values only, no computation.

A :class:`Report` holds one verdict, the checks it rests on, and what repeats it. Every class here is frozen,
compares by value and survives ``Report.from_json(report.to_json())``.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handprop.verify import encoding, render

__all__ = [
    "Check",
    "Counterexample",
    "Fix",
    "GradientRefuted",
    "Location",
    "LostBits",
    "Outcome",
    "Report",
    "Verdict",
    "Worst",
]

FORMAT = "handprop.report.v1"
SEQUENCES = ("checks", "assumptions", "locations", "conditions", "findings", "internal")


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


class _Value:
    """Equality and hash of the classes below by what they hold: NaN equals NaN, arrays are equal where their bits
    are, and neither programs nor the time it took are compared."""

    def __eq__(self, other: object) -> bool:
        return _text(self, timed=False) == _text(other, timed=False) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(_text(self, timed=False))


@dataclasses.dataclass(frozen=True, eq=False)
class Worst(_Value):
    """The entry that stands worst: ``got`` by hand, ``want`` by the reference, the distance in ulps of float64
    or of the leaf's dtype (the check says which) and the bound it was held to."""

    path: str
    index: tuple[int, ...]
    got: float
    want: float
    ulps: float | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        numbers = {name: _number(getattr(self, name)) for name in ("got", "want", "ulps", "bound")}
        _set(self, index=tuple(int(i) for i in self.index), **numbers)


@dataclasses.dataclass(frozen=True, eq=False)
class Counterexample(_Value):
    """An input where the two programs part: ``inputs`` by path, and the worst entry of the output there.

    ``replay()`` runs both programs on it again and returns ``(got, want)`` for that entry.
    """

    inputs: tuple[tuple[str, np.ndarray], ...]
    worst: Worst
    run: Callable[[tuple[np.ndarray, ...]], tuple[float, float]] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        _set(self, inputs=tuple((path, encoding.freeze(np.asarray(array))) for path, array in self.inputs))

    def replay(self) -> tuple[float, float]:
        """``(got, want)`` at the worst entry, computed anew. A report read from JSON has no programs: RuntimeError."""
        if self.run is None:
            raise RuntimeError("this counterexample was read from JSON: verify the rule again to replay it")
        return self.run(tuple(array for _, array in self.inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class Check(_Value):
    """One rung's finding: ``shows`` is one sentence, ``evidence`` its numbers, ``worst`` the worst entry seen."""

    name: str
    outcome: Outcome
    shows: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    worst: Worst | None = None
    counterexample: Counterexample | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        _set(self, evidence=encoding.Values(self.evidence), seconds=float(self.seconds))


@dataclasses.dataclass(frozen=True, eq=False)
class Location(_Value):
    """A place in the user's own code where the two programs part.

    ``columns`` is the range ``[start, end)`` in ``text``, the line as it stands in ``file``; ``spoils`` the outputs
    that are wrong through it; ``reason`` what is known of it.
    """

    file: str
    line: int
    columns: tuple[int, int]
    text: str
    function: str
    spoils: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        _set(self, line=int(self.line), columns=tuple(int(c) for c in self.columns), spoils=tuple(self.spoils))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


@dataclasses.dataclass(frozen=True, eq=False)
class Fix(_Value):
    """An edit, mostly of one line, after which every output is equal: ``expression`` is that line as it should be,
    several of them where there are several mistakes; ``diff`` is a unified diff that applies to the file. ``proved``:
    the edited program went through the proof, under no condition that the refuted one would not need; otherwise it
    agrees at float64. ``conditions`` are those under which it holds. Nothing is ever written to the file."""

    file: str
    line: int
    expression: str
    diff: str
    proved: bool
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _set(self, conditions=tuple(self.conditions))


@dataclasses.dataclass(frozen=True, eq=False)
class LostBits(_Value):
    """Where most of the bits are born that the output ``path`` loses in its own dtype.

    ``text`` is line ``line`` of ``file``, inside ``function``. ``bits`` is what is lost where that line alone runs in
    its own dtype and all else in float64, ``in_all`` what the program loses, ``autodiff`` what autodiff's own program
    does: bits of the largest error, relative to the output's largest entry. ``cause``: why, where a measurement shows
    it, else empty.
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
        _set(self, line=int(self.line), **{name: float(getattr(self, name)) for name in ("bits", "in_all", "autodiff")})

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


class GradientRefuted(AssertionError):
    """Raised by ``Report.raise_if_refuted``; ``.report`` is the report."""

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


@dataclasses.dataclass(frozen=True, eq=False)
class Report(_Value):
    """What is known of one hand-written gradient.

    ``checks`` in the order they ran; ``assumptions`` the readings a proof rests on (literals, casts, trusted rules,
    uninterpreted primitives); ``power`` the smallest relative error per output leaf that the sampled checks would have
    caught; ``locations`` (likeliest first), ``diagnosis`` and ``fix``: where and what the mistake is, where it is
    refuted and that is known (``diagnosis`` too where there is no reference, of what the gradient alone says);
    ``lost_bits`` where it is right and its arithmetic poor; ``certificate`` what repeats the report (entry, shapes,
    seeds, primes, hashes, versions). ``conditions`` are those under which the verdict holds, beside its name in the
    first line; ``findings`` what else the user should know; ``internal`` what went wrong inside the verifier itself;
    ``seconds`` how long the whole report took.

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
    power: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    locations: tuple[Location, ...] = ()
    diagnosis: str | None = None
    fix: Fix | None = None
    lost_bits: LostBits | None = None
    conditions: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        mappings = {name: encoding.Values(getattr(self, name)) for name in ("power", "certificate")}
        sequences = {name: tuple(getattr(self, name)) for name in SEQUENCES}
        _set(self, **sequences, **mappings, seconds=float(self.seconds))

    @property
    def location(self) -> Location | None:
        """The likeliest of ``locations``, None where none is known."""
        return self.locations[0] if self.locations else None

    @property
    def ok(self) -> bool:
        """Proved or verified."""
        return self.verdict in (Verdict.PROVED, Verdict.VERIFIED)

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
        """The whole report as JSON text; arrays keep every bit."""
        return _text(self, timed=True)

    @staticmethod
    def from_json(text: str) -> "Report":
        """The report that ``to_json`` wrote. ValueError in one sentence when it is none."""
        try:
            fields = encoding.load(text)
            if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
                raise ValueError(f'its "format" is not {FORMAT!r}')
            return _read_report(encoding.unpack(fields))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a handprop report: {str(error) or type(error).__name__}") from error

    def __str__(self) -> str:
        return "\n".join(render.lines(self))


def _set(value: Any, **fields: Any) -> None:
    for name, held in fields.items():
        object.__setattr__(value, name, held)


def _number(value: Any) -> Any:
    if value is None:
        return None
    return complex(value) if np.iscomplexobj(value) else float(value)


def _text(value: Any, timed: bool) -> str:
    packed = _pack(value, timed)
    return encoding.dump({"format": FORMAT, **packed} if isinstance(value, Report) else packed)


def _pack(held: Any, timed: bool) -> Any:
    if isinstance(held, _Value):
        names = [name for name in _names(type(held)) if timed or name != "seconds"]
        return {name: _pack(getattr(held, name), timed) for name in names}
    if isinstance(held, enum.Enum):
        return held.name
    if isinstance(held, tuple):
        return [_pack(item, timed) for item in held]
    return encoding.pack(held)


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "run"]


def _read_report(packed: Any) -> Report:
    f = _fields(packed, Report)
    return Report(
        _is(f["subject"], str),
        _member(f["verdict"], Verdict),
        _is(f["reason"], str),
        tuple(_read_check(check) for check in _is(f["checks"], tuple)),
        tuple(_is(assumption, str) for assumption in _is(f["assumptions"], tuple)),
        _read_counterexample(f["counterexample"]),
        {path: _is(error, float, int) for path, error in _is(f["power"], encoding.Values).items()},
        _is(f["certificate"], encoding.Values),
        tuple(_read_location(location) for location in _is(f["locations"], tuple)),
        _is(f["diagnosis"], str, type(None)),
        None if f["fix"] is None else _read_fix(f["fix"]),
        None if f["lost_bits"] is None else _read_lost_bits(f["lost_bits"]),
        *(tuple(_is(text, str) for text in _is(f[name], tuple)) for name in ("conditions", "findings", "internal")),
        seconds=_is(f["seconds"], float, int),
    )


def _read_location(packed: Any) -> Location:
    f = _fields(packed, Location)
    start, end = (_is(column, int) for column in _is(f["columns"], tuple))
    spoils = tuple(_is(path, str) for path in _is(f["spoils"], tuple))
    file, text, function, reason = (_is(f[name], str) for name in ("file", "text", "function", "reason"))
    return Location(file, _is(f["line"], int), (start, end), text, function, spoils, reason)


def _read_fix(packed: Any) -> Fix:
    f = _fields(packed, Fix)
    file, expression, diff = (_is(f[name], str) for name in ("file", "expression", "diff"))
    conditions = tuple(_is(text, str) for text in _is(f["conditions"], tuple))
    return Fix(file, _is(f["line"], int), expression, diff, _is(f["proved"], bool), conditions)


def _read_lost_bits(packed: Any) -> LostBits:
    f = _fields(packed, LostBits)
    path, file, text, function, cause = (_is(f[name], str) for name in ("path", "file", "text", "function", "cause"))
    bits, in_all, autodiff = (_is(f[name], float, int) for name in ("bits", "in_all", "autodiff"))
    return LostBits(path, file, _is(f["line"], int), text, function, bits, in_all, autodiff, cause)


def _read_check(packed: Any) -> Check:
    f = _fields(packed, Check)
    return Check(
        _is(f["name"], str),
        _member(f["outcome"], Outcome),
        _is(f["shows"], str),
        _is(f["evidence"], encoding.Values),
        None if f["worst"] is None else _read_worst(f["worst"]),
        _read_counterexample(f["counterexample"]),
        seconds=_is(f["seconds"], float, int),
    )


def _read_counterexample(packed: Any) -> Counterexample | None:
    if packed is None:
        return None
    f = _fields(packed, Counterexample)
    pairs = [_is(pair, tuple) for pair in _is(f["inputs"], tuple)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("an input of a counterexample is no pair of path and array")
    return Counterexample(tuple((_is(path, str), _is(a, np.ndarray)) for path, a in pairs), _read_worst(f["worst"]))


def _read_worst(packed: Any) -> Worst:
    f = _fields(packed, Worst)
    index = tuple(_is(i, int) for i in _is(f["index"], tuple))
    got, want = (_is(f[name], float, int, complex) for name in ("got", "want"))
    ulps, bound = (_is(f[name], float, int, type(None)) for name in ("ulps", "bound"))
    return Worst(_is(f["path"], str), index, got, want, ulps, bound)


def _fields(packed: Any, kind: type) -> Mapping[str, Any]:
    if not isinstance(packed, Mapping) or set(packed) != set(_names(kind)):
        has = ", ".join(packed) if isinstance(packed, Mapping) else type(packed).__name__
        raise ValueError(f"a {kind.__name__} has the fields {', '.join(_names(kind))}, not {has}")
    return packed


def _is(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{str(value)[:60]!r} is no {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _member(name: Any, kind: type[enum.Enum]) -> Any:
    if name not in kind.__members__:
        raise ValueError(f"{str(name)[:60]!r} is none of {', '.join(kind.__members__)}")
    return kind[name]
