"""Is a verdict on random programs ever wrong?

Each random program is paired with one that is equal by identities or that has one mistake. An oracle confirms
identities and mistakes by evaluating both programs with mpmath, to at least 40 digits. Faults are proofs of unequal
programs, refutations of equal ones, and exceptions. Each is printed with the seed and the index that draw it again
(``--seed SEED --start INDEX --pairs 1``), and the exit code is 1. The oracle evaluates proved pairs once more, at other
points.
"""

import argparse
import concurrent.futures
import itertools
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import jax
from _command import at_least_one
from fuzz.verdicts import FAULTS, Finding, asked

BLOCK = 100  # pairs after which JAX's caches are cleared


def block(seed: int, indices: Sequence[int], checks: str, budget: float) -> list[Finding]:
    """Return the findings of some pairs, and clear JAX's caches."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        found = [asked(seed, index, checks, budget) for index in indices]
    jax.clear_caches()
    return found


def findings(seed: int, start: int, pairs: int, checks: str, budget: float, jobs: int) -> Iterator[Finding]:
    """Yield every finding, in the order of the indices."""
    blocks = [range(i, min(i + BLOCK, start + pairs)) for i in range(start, start + pairs, BLOCK)]
    given = [seed] * len(blocks), blocks, [checks] * len(blocks), [budget] * len(blocks)
    if jobs == 1:
        yield from itertools.chain.from_iterable(map(block, *given))
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from itertools.chain.from_iterable(pool.map(block, *given))


def told(finding: Finding, seed: int) -> str:
    """Return a fault or a note as text."""
    what = f"{finding.fault or finding.note}: {FAULTS.get(finding.fault, finding.verdict)}"
    return f"--- seed {seed}, index {finding.number}: {what}. {finding.reason}\n{finding.text}\n"


def summary(found: Sequence[Finding], elapsed: float) -> str:
    """Return counts, shares and seconds as text."""
    lines = []
    for kind in ("equal", "spoiled"):
        verdicts = Counter(one.verdict for one in found if one.kind == kind and one.verdict)
        total = max(verdicts.total(), 1)
        shares = ", ".join(f"{n} {name} ({100 * n / total:.1f} %)" for name, n in verdicts.most_common())
        lines.append(f"{kind}: {verdicts.total()} pairs: {shares or 'none'}")
    reasons = (one.reason.split(":")[0] for one in found if one.kind == "equal" and one.verdict != "PROVED")
    unproved = Counter(re.sub(r"\d+", "n", reason) for reason in reasons)
    lines += [f"equal, not proved, {n}: {reason}" for reason, n in unproved.most_common(6) if reason]
    notes = Counter(one.note for one in found if one.note)
    lines += [f"{note}: {n}" for note, n in sorted(notes.items())]
    agree = Counter(one.agrees for one in found if one.agrees)
    lines.append(f"the oracle on proved pairs: {', '.join(f'{n} {name}' for name, n in agree.most_common()) or 'none'}")
    seconds, drawing = (
        sum(getattr(one, name) for one in found) / max(len(found), 1) for name in ("seconds", "drawing")
    )
    lines.append(f"{len(found)} pairs in {elapsed:.0f} s; processor seconds per pair: {seconds:.3f} for verifying, "
                 f"{drawing:.3f} for drawing and the oracle")  # fmt: skip
    faults = Counter(one.fault for one in found if one.fault)
    lines.append(f"faults: {', '.join(f'{n} {name}' for name, n in faults.most_common()) or 'none'}")
    return "\n".join(lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=at_least_one, default=1000, help="number of pairs")
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw, together with the pair's index")
    parser.add_argument("--start", type=int, default=0, help="index of the first pair")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="number of processes")
    parser.add_argument("--checks", choices=("all", "proof"), default="proof", help="which checks run")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of the verifier per pair")
    parser.add_argument("--notes", action="store_true", help="also print notes, which are not faults")
    return parser.parse_args()


def main() -> int:
    given, start = options(), time.monotonic()
    found: list[Finding] = []
    for finding in findings(given.seed, given.start, given.pairs, given.checks, given.budget, given.jobs):
        found.append(finding._replace(text=""))
        if finding.fault or (given.notes and finding.note):
            print(told(finding, given.seed), flush=True)
        elif given.pairs == 1:
            print(f"{finding.text}\n{finding.verdict}: {finding.reason}")
    print(summary(found, time.monotonic() - start))
    return int(any(finding.fault for finding in found))


if __name__ == "__main__":
    raise SystemExit(main())
