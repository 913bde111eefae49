"""Does a refuted gradient say where it is wrong, what the mistake is, and how it should read?

The study runs every one-line mutant of the corpora that is wrong at its usual size; its changed line is known. Of four
parts, the search was built on the first; the others were written by somebody else and run after it was finished. It
counts whether the right line is named first or within the first three, whether a cause is named and is of the mutant's
kind, whether a fix is proved, and the seconds of the whole report.

Answer: see ``benchmarks/mistakes.json`` and LOG.md.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import corpus
import jax
from _command import at_least_one
from corpus.verdict import report_of

from handprop.verifier import Report
from handprop.verifier.repair.explain import Cause

RESULTS = Path(__file__).parent / "benchmarks" / "mistakes.json"
UNKNOWN = Cause.UNKNOWN.value
BUDGET = 60.0  # seconds of a report
BLOCK = 20  # mutants after which JAX's caches are cleared
# What a diagnosis may say about each kind of mutant. Of a kind that is not listed, any named cause counts.
SAYS = {
    "sign": "sign|belongs|one too many|is missing|wrong way round|reversed|swapped",
    "factor": "factor|literal|belongs|is missing|one too many|divided|multiplied",
    "mean for sum": "sum|mean|factor|divided|multiplied",
    "wrong axis": "axis|axes|belongs|index|einsum|one too many|is missing|swapped|transposed",
    "missing transpose": "transpose|swapped|einsum|belongs|sign|reversed|one too many",
    "literal": "literal|belongs|factor|term",
    "cotangent ignored": "missing|belongs|ignored",
    "cotangent squared": "one too many|belongs|missing",
    "negative only": "wrong where|one too many|literal|belongs|missing",
    "saturated": "wrong where|literal|belongs|one too many|missing",
    "one element": "one index",
    "stop_gradient": "stop_gradient",
    "wrong dtype": "astype",
    "not reversed": "revers|order|belongs",
    "updated weights": "update|belongs",
    "off by": "one too many|literal|factor|term",
    "mask missing": "mask|belongs|missing|ignored",
}


class Outcome(NamedTuple):
    """What was said about one mutant; ``place`` is the rank of the changed line from 1, or 0 if it is not named."""

    name: str
    kind: str
    place: int
    diagnosis: str
    fits: bool
    fixed: bool
    seconds: float


def explained(mutant: corpus.Mutant) -> Report:
    """Return the report that a user gets."""
    rule = mutant.load()
    return report_of(rule, rule.make_args(), budget=BUDGET)


def outcome(mutant: corpus.Mutant) -> Outcome:
    start = time.perf_counter()
    report = explained(mutant)
    lines = [location.line for location in report.locations]
    place = lines.index(mutant.line) + 1 if mutant.line in lines else 0
    said = report.diagnosis or UNKNOWN
    proved = report.fix is not None and report.fix.proved
    seconds = time.perf_counter() - start
    return Outcome(mutant.name, mutant.kind, place, said, fits(mutant.kind, said), proved, seconds)


def names_a_cause(said: str) -> bool:
    """Whether a diagnosis names a cause; what it says of the Jacobian where it names none is no cause."""
    return not said.startswith(UNKNOWN)


def fits(kind: str, said: str) -> bool:
    """Whether a cause was named that a mutant of this kind has."""
    if not names_a_cause(said):
        return False
    says = next((pattern for name, pattern in SAYS.items() if kind.startswith(name)), ".")
    return re.search(says, said) is not None


def summary(outcomes: Iterable[Outcome]) -> dict[str, float | int]:
    found = list(outcomes)
    count = len(found)
    return {
        "mutants": count,
        "right_line_first": round(sum(o.place == 1 for o in found) / count, 3),
        "right_line_within_three": round(sum(1 <= o.place <= 3 for o in found) / count, 3),
        "cause_of_the_kind": round(sum(o.fits for o in found) / count, 3),
        "cause_of_another_kind": round(sum(names_a_cause(o.diagnosis) and not o.fits for o in found) / count, 3),
        "proved_fix": round(sum(o.fixed for o in found) / count, 3),
        "median_seconds": round(statistics.median(o.seconds for o in found), 2),
    }


def block(mutants: Sequence[corpus.Mutant]) -> list[Outcome]:
    """Return the outcomes of some mutants, and clear JAX's caches."""
    found = [outcome(mutant) for mutant in mutants]
    jax.clear_caches()
    return found


def studied(part: str, every: int, jobs: int) -> list[Outcome]:
    mutants = [m for m in corpus.mutants(part) if m.size == 0][::every]
    blocks = [mutants[i : i + BLOCK] for i in range(0, len(mutants), BLOCK)]
    outcomes = []
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for o in itertools.chain.from_iterable(pool.map(block, blocks)):
            outcomes.append(o)
            fixed = "proved" if o.fixed else ""
            print(f"{o.name:<28} {o.kind:<20} line {o.place or '-'}  {fixed:<7} {o.diagnosis}", flush=True)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every n-th mutant; if not 1, nothing is saved")
    parser.add_argument("--part", choices=corpus.PARTS, action="append", help="only this part (default: all)")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="number of processes")
    options = parser.parse_args()
    for part in options.part or corpus.PARTS:
        outcomes = studied(part, options.every, options.jobs)
        found = {"summary": summary(outcomes), "mutants": [o._asdict() for o in outcomes]}
        print(f"{part}: " + ", ".join(f"{name} {value}" for name, value in found["summary"].items()))
        if options.every == 1:
            kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            kept[part] = found
            results = {name: kept[name] for name in corpus.PARTS if name in kept}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(f"wrote {RESULTS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
