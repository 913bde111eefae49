"""What does the verifier say about the custom rules that public libraries ship?

Each row is one call of a library's own function. Whether its rule is the derivative of its values, and whether it is
meant to be, was decided by someone who had not read the verifier, from differences of the values. A report is right if
it is PROVED or VERIFIED where the rule is the derivative, and REFUTED where it is not. The exit code is 1 if a rule
that is the derivative is refuted, one that is not is proved, a call crashes, or it takes longer than 60 seconds.

Answer: see ``benchmarks/public_rules.md`` and LOG.md.
"""

import argparse
import importlib
import inspect
import pkgutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from typing import Any, NamedTuple

import jax
from _command import keep
from _worker import HANG, Worker, serve
from corpus import libraries
from corpus.libraries.call import Call, version_of
from corpus.libraries.draws import named

from handprop.verifier import Outcome, Unusable, verify

RESULTS = Path(__file__).parent / "benchmarks" / "public_rules.json"
TABLE = RESULTS.with_suffix(".md")
LIMIT = 60.0  # seconds of a call
BLOCK = 20  # calls after which JAX's caches are cleared


class Said(NamedTuple):
    """One row of the study. ``stopped``: why there is no proof; ``diagnosis``: what a refuted rule is."""

    name: str
    library: str
    rule: str
    place: str
    arguments: str
    truth: str
    meant: str
    verdict: str
    reason: str = ""
    intent: str = ""
    conditions: tuple[str, ...] = ()
    stopped: str = ""
    diagnosis: str = ""
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the report says what is true. Where a rule is wrong at other arguments alone, it may say either."""
        fits = {"right": ("PROVED", "VERIFIED"), "wrong": ("REFUTED",), "right here": ("PROVED", "VERIFIED", "REFUTED")}
        return self.verdict in fits[self.truth] and not self.fault

    @property
    def fault(self) -> str:
        """What is wrong with this report, "" for one that is right or open."""
        if self.verdict in ("CRASH", "HANG"):
            return self.verdict
        if self.truth == "right" and self.verdict == "REFUTED":
            return "FALSE REFUTATION"
        if self.verdict == "PROVED" and (self.truth == "wrong" or (self.truth == "right here" and not self.conditions)):
            return "FALSE PROOF"
        return ""


def calls() -> dict[str, Call]:
    """Return every call, by a name that says the library, the rule and which call of it this is."""
    met: Counter[str] = Counter()
    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(libraries.__path__) if m.name.endswith("_rules")):
        for call in importlib.import_module(f"corpus.libraries.{module}").CALLS:
            rule = f"{call.library}:{call.rule.rpartition('.')[2]}"
            met[rule] += 1
            found[f"{rule}-{met[rule]}"] = call
    return found


def place_of(call: Call) -> str:
    """Return the file and line of the rule within its library, "" if its name leads to no source."""
    try:
        source = inspect.unwrap(named(call.rule))
        path, line = inspect.getsourcefile(source) or "", inspect.getsourcelines(source)[1]
    except (ImportError, AttributeError, TypeError, OSError):
        return ""
    return f"{path.partition('site-packages/')[2] or path}:{max(line, 1)}"


def shape_of(x: Any) -> str:
    aval = jax.typeof(x) if isinstance(x, jax.Array) else None
    return type(x).__name__ if aval is None else f"{aval.dtype}{list(aval.shape)}"


def judged(name: str, call: Call) -> Said:
    start = time.monotonic()
    row = Said(name, call.library, call.rule, "", "", call.truth, call.meant, "CRASH")
    try:
        with jax.enable_x64(call.float64):
            f, args = call.make()
            leaves = jax.tree.leaves((args, dict(call.kwargs)))
            row = row._replace(place=place_of(call), arguments=", ".join(map(shape_of, leaves)))
            report = verify(f, *args, kwargs=call.kwargs, argnums=call.argnums, **call.options)
    except Unusable as error:  # a sentence for the user, such as that there is no rule
        return row._replace(verdict="REFUSED", reason=str(error)[:300], seconds=time.monotonic() - start)
    except Exception as error:  # crashes are among what the study counts
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {str(error)[:300]} ({Path(at.filename).name}:{at.lineno})"
        return row._replace(reason=reason, seconds=time.monotonic() - start)
    proof = next((c for c in report.checks if c.name == "proof"), None)
    stopped = "" if proof is None or proof.outcome is Outcome.PROVES else proof.summary
    return row._replace(
        verdict=report.verdict.name, reason=report.reason[:300], intent=report.intent or "", stopped=stopped[:300],
        conditions=tuple(map(str, report.conditions)), diagnosis=report.diagnosis or "",
        seconds=time.monotonic() - start)  # fmt: skip


def work() -> None:
    """Run as a worker, which judges one call after another."""
    warnings.filterwarnings("ignore")
    everything, done = calls(), Counter[str]()

    def answers(name: str) -> Iterator[Said]:
        done["calls"] += 1
        if done["calls"] % BLOCK == 0:
            jax.clear_caches()
        yield judged(name, everything[name])

    serve(answers)


def judged_in_turn(chosen: Iterable[tuple[str, Call]]) -> Iterator[Said]:
    worker: Worker | None = None
    for name, call in chosen:
        worker = worker or Worker(__file__)
        answers, failed = worker.ask(name, 1, LIMIT)
        if failed:
            worker.stop()
            worker = None
            yield Said(name, call.library, call.rule, "", "", call.truth, call.meant,
                       "HANG" if failed == HANG else "CRASH", failed, seconds=LIMIT)  # fmt: skip
        else:
            yield Said(*answers[0])
    if worker:
        worker.stop()


def judged_by_several(chosen: dict[str, Call], jobs: int) -> Iterator[Said]:
    """Judge the calls in as many processes, each of which takes the next one; the rows come as they are ready."""
    left, lock, found = iter(chosen.items()), Lock(), Queue[Said | None]()

    def taken() -> Iterator[tuple[str, Call]]:
        while True:
            with lock:
                item = next(left, None)
            if item is None:
                return
            yield item

    def work_off() -> None:
        for row in judged_in_turn(taken()):
            found.put(row)
        found.put(None)

    for _ in range(jobs):
        Thread(target=work_off, daemon=True).start()
    ended = 0
    while ended < jobs:
        row = found.get()
        ended += row is None
        if row is not None:
            yield row


def share(count: int, of: int) -> str:
    return f"{count} of {of} ({100 * count / max(of, 1):.0f} %)"


def table(rows: Sequence[Said]) -> str:
    """Return the results as Markdown: the totals by library, and every row."""
    by = {library: [r for r in rows if r.library == library] for library in sorted({r.library for r in rows})}
    lines = [
        "| library | calls | proved | verified | refuted | open | judged rightly |",
        "|---|---|---|---|---|---|---|",
    ]
    for library, own in [*by.items(), ("all", list(rows))]:
        said = Counter(r.verdict for r in own)
        version = "" if library == "all" else f" {version_of(library)}"
        others = sum(said.values()) - sum(said[v] for v in ("PROVED", "VERIFIED", "REFUTED"))
        lines.append(f"| {library}{version} | {len(own)} | {said['PROVED']} | {said['VERIFIED']} | {said['REFUTED']} "
                     f"| {others} | {share(sum(r.right for r in own), len(own))} |")  # fmt: skip
    lines += ["", "| call | rule | arguments | the rule is | said | what stopped a proof, or what it is | s |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        said = {"right": "the derivative", "right here": "the derivative here", "wrong": "wrong"}[r.truth]
        truth = said if r.meant == "derivative" else r.meant
        because = "; ".join(filter(None, (r.intent or r.diagnosis or r.stopped or r.reason, *r.conditions))).replace(
            "|", "\\|"
        )
        lines.append(f"| {r.name} | {r.place} | {r.arguments} | {truth} | {r.verdict} | {because} | {r.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="calls, or beginnings of their names (default: all, and save)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that judge at the same time (default 1)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return 0
    chosen = {n: c for n, c in calls().items() if not given.names or n.startswith(tuple(given.names))}
    if not chosen:
        parser.error(f"no call is named {' or '.join(given.names)}")
    rows = []
    for row in judged_by_several(chosen, max(given.jobs, 1)):
        rows.append(row)
        print(f"{row.name:44} {row.truth:11}{row.meant:16} {row.verdict:12} {row.seconds:5.1f} s  {row.fault}\n"
              f"    {(row.diagnosis or row.stopped or row.reason)[:200]}", flush=True)  # fmt: skip
    rows.sort(key=lambda row: list(chosen).index(row.name))
    said, faults = Counter(r.verdict for r in rows), Counter(r.fault for r in rows if r.fault)
    deliberate = [r for r in rows if r.meant not in ("derivative", "other")]
    print(f"deliberate rules that are named: {share(sum(bool(r.intent) for r in deliberate), len(deliberate))}")
    print(f"\n{len(rows)} calls: {', '.join(f'{n} {v}' for v, n in said.most_common())}; judged rightly: "
          f"{share(sum(r.right for r in rows), len(rows))}; {dict(faults)}")  # fmt: skip
    if not given.names:
        keep(RESULTS, [r._asdict() for r in rows], {"versions": {r.library: version_of(r.library) for r in rows}})
        TABLE.write_text(table(rows))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
