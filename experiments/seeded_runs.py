"""Is a right rule ever refuted?

Every right rule of the corpora is verified with one seed after another, until there are ``--runs`` reports. Each report
has its own arguments and its own key, and the dtype alternates between float32, bfloat16 and float64. The exit code is
1 if a report is refuted.
"""

import argparse
import itertools
import time
from collections import Counter

import corpus
import jax
from corpus.verdict import report_of

from handprop.verifier import Report


def one_report(rule: corpus.Rule, dtype: str, seed: int) -> Report:
    with jax.enable_x64(dtype == "float64"):
        return report_of(rule, rule.make_args(dtype=dtype, key=seed), key=seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of reports")
    parser.add_argument("--start", type=int, default=0, help="number of reports to skip first")
    given = parser.parse_args()
    rules, start = [rule for part in corpus.PARTS for rule in corpus.right_rules(part)], time.monotonic()
    plan = ((rule, rule.dtypes[seed % len(rule.dtypes)], seed) for seed in itertools.count() for rule in rules)
    verdicts: Counter[str] = Counter()
    for i, (rule, dtype, seed) in enumerate(itertools.islice(plan, given.start, given.start + given.runs)):
        report = one_report(rule, dtype, seed)
        verdicts[report.verdict.name] += 1
        if not report.ok:
            print(f"{rule.name}, {dtype}, seed {seed}: {report.verdict.name}: {report.reason}", flush=True)
        if i % 50 == 49:
            jax.clear_caches()
    counts = ", ".join(f"{count} {name}" for name, count in verdicts.most_common())
    print(f"{sum(verdicts.values())} reports in {time.monotonic() - start:.0f} s: {counts}")
    return int(verdicts["REFUTED"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
