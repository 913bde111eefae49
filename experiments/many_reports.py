"""Does memory grow with the number of reports in one process, and does a report ever exceed its budget?

Every right rule of the corpora is verified once, then every mutant, so that all programs are new. The script prints the
process's peak memory every 50 reports, and the slowest reports at the end. The exit code is 1 if a report took more
than 1.5 times its budget plus 5 seconds.
"""

import argparse
import heapq
import itertools
import resource
import time
from collections.abc import Iterator

import corpus
from corpus.verdict import report_of

BLOCK = 50
SHOWN = 5


def rules() -> Iterator[tuple[str, corpus.Rule]]:
    for part in corpus.PARTS:
        yield from ((rule.name, rule) for rule in corpus.right_rules(part))
    for part in corpus.PARTS:
        yield from ((mutant.name, mutant.load()) for mutant in corpus.mutants(part) if mutant.size == 0)


def most_held() -> int:
    """Return the peak memory of this process in megabytes; Linux reports kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=500, help="number of reports (default: 500)")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for each report (default: 30)")
    given = parser.parse_args()
    took: list[tuple[float, str]] = []
    print(f"{most_held()} MB before the first report", flush=True)
    for i, (name, rule) in enumerate(itertools.islice(rules(), given.reports), 1):
        args, start = rule.make_args(), time.monotonic()
        report = report_of(rule, args, budget=given.budget)
        took.append((time.monotonic() - start, f"{name}: {report.verdict.name}"))
        if i % BLOCK == 0:
            print(f"{i} reports, {most_held()} MB", flush=True)
    for seconds, said in heapq.nlargest(SHOWN, took):
        print(f"{seconds:.1f} s  {said}")
    return int(max(took)[0] > 1.5 * given.budget + 5)


if __name__ == "__main__":
    raise SystemExit(main())
