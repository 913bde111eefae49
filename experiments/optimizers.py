"""Is an optimizer step by hand proved to be the step of optax, and is a wrong one refuted, located and named?

``corpus/optimizers.py`` holds each alias of optax beside the formula of its paper, over several steps, also fused
kernels, gradient accumulation and averages; ``corpus/optimizers_wrong.py`` holds steps with one wrong line, which is
marked. Somebody who had not read the verifier wrote both. Of a disputed pair optax is known not to compute the
published formula. The exit code is 1 if a right pair is refuted, another is proved, a report crashes, or one takes
longer than 90 seconds.

Answer: see ``benchmarks/optimizers.md`` and LOG.md.
"""

import argparse
import inspect
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from _command import keep
from _worker import HANG, Worker, serve
from corpus.optimizers import DISPUTED, RIGHT, Step
from corpus.optimizers_wrong import WRONG

from handprop.verifier import Outcome, equivalent
from handprop.verifier.repair.explain import Cause

RESULTS = Path(__file__).parent / "benchmarks" / "optimizers.json"
TABLE = RESULTS.with_suffix(".md")
LIMIT = 90.0  # seconds of a report
BLOCK = 10  # reports after which JAX's caches are cleared
PARTS = {"right": RIGHT, "disputed": DISPUTED, "wrong": WRONG}


class Said(NamedTuple):
    """One row of the study.

    ``stopped``: why there is no proof. ``place``: the rank of the marked line among those that the report names, from
    1, or 0 if it is not named. ``fixed``: whether a fix is proved.
    """

    name: str
    part: str
    verdict: str
    reason: str = ""
    conditions: tuple[str, ...] = ()
    stopped: str = ""
    diagnosis: str = ""
    place: int = 0
    fixed: bool = False
    seconds: float = 0.0

    @property
    def fault(self) -> str:
        """What is wrong with this report, "" for one that is right or open."""
        if self.verdict in ("CRASH", "HANG"):
            return self.verdict
        if self.part == "right":
            return "FALSE REFUTATION" if self.verdict == "REFUTED" else ""
        return "FALSE PROOF" if self.verdict == "PROVED" else ""


def steps() -> dict[str, tuple[str, Step]]:
    """Return every pair with its part, by a name that is its own."""
    return {f"{part}: {step.name}": (part, step) for part, some in PARTS.items() for step in some}


def marked_line(step: Step) -> tuple[str, int]:
    """Return the file and number of the line that is marked as wrong.

    Raises:
        ValueError: not exactly one line of the function is this text.
    """
    lines, first = inspect.getsourcelines(step.given)
    found = [first + i for i, line in enumerate(lines) if line.strip() == step.where]
    if len(found) != 1:
        raise ValueError(f"{step.name}: {len(found)} lines are {step.where!r}; exactly one must be marked")
    return inspect.getsourcefile(step.given) or "", found[0]


def judged(name: str, part: str, step: Step, **options: Any) -> Said:
    start = time.monotonic()
    row = Said(name, part, "CRASH")
    try:
        report = equivalent(step.given, step.reference, *step.make_args(), **options)
    except Exception as error:  # crashes are among what the study counts
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {str(error)[:300]} ({Path(at.filename).name}:{at.lineno})"
        return row._replace(reason=reason, seconds=time.monotonic() - start)
    seconds = time.monotonic() - start
    proof = next((c for c in report.checks if c.name == "proof"), None)
    stopped = "" if proof is None or proof.outcome is Outcome.PROVES else proof.summary
    named = [(location.file, location.line) for location in report.locations]
    wrong = marked_line(step) if part == "wrong" else None
    return row._replace(
        verdict=report.verdict.name, reason=report.reason[:300], conditions=tuple(map(str, report.conditions)),
        stopped=stopped[:300], diagnosis=report.diagnosis or "", place=named.index(wrong) + 1 if wrong in named else 0,
        fixed=report.fix is not None and report.fix.proved, seconds=seconds)  # fmt: skip


def work() -> None:
    """Run as a worker, which judges one pair after another."""
    warnings.filterwarnings("ignore")
    everything, done = steps(), Counter[str]()

    def answers(task: str) -> Iterator[Said]:
        dtype, _, name = task.partition(" ")
        done["reports"] += 1
        if done["reports"] % BLOCK == 0:
            jax.clear_caches()
        with jax.enable_x64(dtype == "float64"):
            yield judged(name, *everything[name])

    serve(answers)


def judged_in_turn(chosen: Iterable[tuple[str, tuple[str, Step]]], dtype: str) -> Iterator[Said]:
    worker: Worker | None = None
    for name, (part, _) in chosen:
        worker = worker or Worker(__file__)
        answers, failed = worker.ask(f"{dtype} {name}", 1, LIMIT)
        if failed:
            worker.stop()
            worker = None
            yield Said(name, part, "HANG" if failed == HANG else "CRASH", failed, seconds=LIMIT)
        else:
            yield Said(*answers[0])
    if worker:
        worker.stop()


def table(rows: Sequence[Said]) -> str:
    """Return the results as Markdown: the totals, the right and disputed pairs, and the wrong steps."""
    lines = ["| pairs | number | proved | verified | refuted | open |", "|---|---|---|---|---|---|"]
    for part in PARTS:
        own = Counter(r.verdict for r in rows if r.part == part)
        others = sum(own.values()) - sum(own[v] for v in ("PROVED", "VERIFIED", "REFUTED"))
        lines.append(f"| {part} | {sum(own.values())} | {own['PROVED']} | {own['VERIFIED']} | {own['REFUTED']} "
                     f"| {others} |")  # fmt: skip
    lines += ["", "| pair | said | conditions, or what stopped a proof | s |", "|---|---|---|---|"]
    for r in rows:
        if r.part != "wrong":
            because = "; ".join((*r.conditions, r.stopped)) if r.part == "right" else r.reason
            lines.append(f"| {r.name} | {r.verdict} | {escaped(because)} | {r.seconds:.1f} |")
    lines += ["", "| wrong step | said | the wrong line is named | diagnosis | fix | s |", "|---|---|---|---|---|---|"]
    for r in rows:
        if r.part == "wrong":
            rank = {0: "no", 1: "first", 2: "second", 3: "third"}.get(r.place, f"as number {r.place}")
            lines.append(f"| {r.name.removeprefix('wrong: ')} | {r.verdict} | {rank} | {escaped(r.diagnosis)} "
                         f"| {'proved' if r.fixed else ''} | {r.seconds:.1f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    return text.strip("; ").replace("|", "\\|").replace("\n", " ")


def summary(rows: Sequence[Said]) -> str:
    """Return what was said of each part, and of the refuted wrong steps what the reports name."""
    said = (f"{part}: {dict(Counter(r.verdict for r in rows if r.part == part))}" for part in PARTS)
    wrong = [r for r in rows if r.part == "wrong" and r.verdict == "REFUTED"]
    first, three = sum(r.place == 1 for r in wrong), sum(1 <= r.place <= 3 for r in wrong)
    named = sum(bool(r.diagnosis) and r.diagnosis != Cause.UNKNOWN.value for r in wrong)
    fixed = sum(r.fixed for r in wrong)
    return "\n".join((*said, f"of {len(wrong)} refuted: the marked line first {first}, within three {three}, "
                             f"a cause named {named}, a fix proved {fixed}"))  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 'right: adam' (default: all, and save)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="only float32 is saved")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return 0
    chosen = {n: s for n, s in steps().items() if not given.names or n.startswith(tuple(given.names))}
    if not chosen:
        parser.error(f"no pair is named {' or '.join(given.names)}")
    rows = []
    for row in judged_in_turn(chosen.items(), given.dtype):
        rows.append(row)
        rank = f"line {row.place or '-'} {'fixed' if row.fixed else ''}" if row.part == "wrong" else ""
        print(f"{row.name:44} {row.verdict:12} {row.seconds:5.1f} s  {rank} {row.fault}\n"
              f"    {(row.diagnosis or row.stopped or row.reason)[:200]}", flush=True)  # fmt: skip
    faults = Counter(r.fault for r in rows if r.fault)
    print(f"\n{summary(rows)}\n{dict(faults)}")
    if not given.names and given.dtype == "float32":
        keep(RESULTS, [r._asdict() for r in rows], {"optax": optax.__version__})
        TABLE.write_text(table(rows))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
