"""Is the verifier ever wrong about the pairs of the red team?

Each pair is verified twice: with all checks, and with only structure and proof. It is a false proof if the two
functions differ and any check proves them equal, and a false refutation if they are equal and refuted. A proof that
states a condition may be right if two functions differ outside a domain, for other arguments than the given ones, or by
rounding to fewer bits. Such proofs are counted apart, and so is the one known false proof. The exit code is 1 for any
other false proof, a false refutation, a crash, or a call of more than 60 seconds. ``--truth`` checks, without the
verifier, that each pair is what the corpus says.
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _worker import HANG, Worker, serve
from corpus.red_team import CONDITIONAL, MISSED, REFUSED, Case, cases

LIMIT = 60.0  # seconds per call
KEPT = ("structure", "proof")
POINTS = 8
LISTED = ("different, verified", "different, inconclusive", "proved with a condition", "known to be proved")
EQUAL, DIFFERENT = 1e-9, 1e-13


# What is true


class Gap(NamedTuple):
    """The largest difference of two outputs, ``relative`` to the entry and ``scaled`` by the largest, and its kind."""

    relative: float = 0.0
    scaled: float = 0.0
    kind: str = "equal"


def is_key(x: Any) -> bool:
    return jnp.issubdtype(getattr(x, "dtype", np.dtype(bool)), jax.dtypes.extended)


def is_float(x: Any) -> bool:
    return not is_key(x) and jnp.issubdtype(jnp.result_type(x), jnp.floating)


def outputs(f: Any, point: Sequence[Any]) -> list[np.ndarray]:
    leaves = [leaf for leaf in jax.tree.leaves(f(*point)) if not is_key(leaf)]
    return [np.asarray(leaf).astype(np.float64) for leaf in leaves]


def as_array(x: Any, own: bool) -> Any:
    """Return an argument as a JAX array, with floats in float64 unless the case is about their own dtype."""
    if is_key(x) or not isinstance(x, np.ndarray | np.generic | jax.Array):
        return x
    return jnp.asarray(x, None if own or not is_float(x) else np.float64)


def gap(case: Case, point: Sequence[Any]) -> Gap:
    """Return how far f and g are apart at the point; both run eagerly in JAX."""
    with jax.enable_x64(True):
        point = jax.tree.map(lambda x: as_array(x, case.own), list(point), is_leaf=is_key)
        left, right = (outputs(h, point) for h in (case.f, case.g))
    worst = Gap()
    for u, v in zip(left, right, strict=True):
        if u.shape != v.shape:
            return Gap(np.inf, np.inf, "finite")
        with np.errstate(all="ignore"):
            same = (u == v) | (np.isnan(u) & np.isnan(v))
            finite = np.isfinite(u) & np.isfinite(v) & ~same
            size = np.maximum(np.abs(u), np.abs(v))
        if finite.any():
            most, scale = np.abs(u - v)[finite], max(1.0, float(size[np.isfinite(size)].max()))
            here = Gap(float((most / size[finite]).max()), float(most.max()) / scale, "finite")
        elif (odd := ~same).any():
            here = Gap(np.inf, np.inf, "domain" if (np.isnan(u) | np.isnan(v))[odd].all() else "infinite")
        else:
            continue
        worst = max(worst, here, key=lambda g: (g.kind == "finite", g.relative))
    return worst


def drawn(case: Case, seed: int) -> list[Any]:
    """Draw a point of an equal pair's domain. Arguments that are not floats stay as given."""
    rng = np.random.default_rng(seed)

    def draw(x: Any) -> Any:
        if is_key(x) or not isinstance(x, np.ndarray | jax.Array) or not is_float(x):
            return x
        signs = rng.choice([-1.0, 1.0], x.shape) if case.signed else 1.0
        return (rng.uniform(case.low, case.high, x.shape) * signs).astype(x.dtype if case.own else np.float64)

    return [jax.tree.map(draw, x, is_leaf=is_key) for x in case.args]


def is_true(case: Case) -> tuple[bool, str]:
    """Return whether the corpus is right about the pair, and how that was determined."""
    if case.at is None and case.why:
        return True, f"by mathematics: {case.why}"
    if case.truth == "equal":
        worst = max(gap(case, drawn(case, seed)).scaled for seed in range(POINTS))
        return worst <= EQUAL, f"largest difference {worst:.2g}"
    assert case.at is not None
    found = gap(case, case.at)
    seen = found.kind if case.kind in ("finite", "infinite", "domain") else case.kind
    ok = found.kind != "equal" and seen == case.kind and (found.relative > DIFFERENT or case.own)
    return ok, f"{found.kind}, relative difference {found.relative:.2g}"


def check_truths(chosen: Iterable[Case]) -> int:
    """Print a line per case, and return how many are not what the corpus says."""
    bad = 0
    for case in chosen:
        try:
            ok, shown = is_true(case)
        except Exception as error:  # a case that does not run counts as wrong
            ok, shown = False, f"{type(error).__name__}: {str(error)[:200]}"
        bad += not ok
        print(f"{case.name:40} {case.truth:9} {'' if ok else 'NOT TRUE: '}{shown}", flush=True)
    print(f"{bad} cases are not what the corpus says")
    return bad


# What the verifier says


class Said(NamedTuple):
    """One report, or what came instead of it."""

    verdict: str
    proved_by: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    reason: str = ""
    conditions: tuple[str, ...] = ()
    seconds: float = 0.0


def judge(case: Case, skip: Sequence[str]) -> Said:
    import handprop
    from handprop.verifier import Outcome

    start = time.monotonic()
    try:
        report = (case.call or handprop.equivalent)(case.f, case.g, *case.args, skip=skip)
    except Exception as error:  # crashes are among the failures to find
        verdict = "REFUSED" if case.name in REFUSED and isinstance(error, TypeError) else "CRASH"
        return Said(verdict, reason=f"{type(error).__name__}: {str(error)[:300]}", seconds=time.monotonic() - start)
    by = {outcome: tuple(c.name for c in report.checks if c.outcome is outcome) for outcome in Outcome}
    conditions = tuple(str(condition) for condition in getattr(report, "conditions", ()))
    seconds = time.monotonic() - start
    return Said(report.verdict.name, by[Outcome.PROVES], by[Outcome.FAILS], report.reason[:300], conditions, seconds)


def work() -> None:
    """Run as a worker, which judges each case twice."""
    from handprop.verifier.checks.registry import CHECKS

    warnings.filterwarnings("ignore")
    everything = cases()
    others = (*(name for name, _ in CHECKS if name not in KEPT), "repair")
    serve(lambda name: (judge(everything[name], skip) for skip in ((), others)))


def reports_of(worker: Worker, case: Case) -> tuple[list[Said], bool]:
    """Return both reports of a case, and whether the worker can continue."""
    answers, failed = worker.ask(case.name, 2, LIMIT)
    said = [Said(verdict, tuple(proved_by), tuple(against), reason, tuple(conditions), seconds)
            for verdict, proved_by, against, reason, conditions, seconds in answers]  # fmt: skip
    if failed:
        said.append(Said("HANG", seconds=LIMIT) if failed == HANG else Said("CRASH", reason=failed))
    return said, not failed


def marks(case: Case, said: Sequence[Said]) -> set[str]:
    """Return what is wrong with these reports, and what is right under a condition."""
    found = {one.verdict for one in said if one.verdict in ("CRASH", "HANG")}
    for one in said:
        if case.truth == "different" and one.proved_by:
            found.add("known to be proved" if case.name in MISSED else
                      "proved with a condition" if case.kind in CONDITIONAL and one.conditions else
                      f"FALSE PROOF ({case.kind})")  # fmt: skip
        if case.truth == "equal" and one.verdict == "REFUTED":
            found.add("FALSE REFUTATION")
    return found


def shown(one: Said) -> str:
    by = f" by {', '.join(one.proved_by)}" if one.proved_by else ""
    against = f" against {', '.join(one.failed)}" if one.failed else ""
    return f"{one.verdict}{by}{against} {one.seconds:.1f} s"


def judge_all(chosen: Sequence[Case]) -> int:
    """Print a line per case and the totals, and return how many cases have a wrong verdict."""
    totals: dict[str, list[str]] = {}
    worker: Worker | None = None
    for case in chosen:
        worker = worker or Worker(__file__)
        said, alive = reports_of(worker, case)
        if not alive:
            worker.stop()
            worker = None
        wrong = marks(case, said)
        for key in (*wrong, f"{case.truth}, {said[0].verdict.lower()}"):
            totals.setdefault(key, []).append(case.name)
        note = f"   <== {', '.join(sorted(wrong))}" if wrong else ""
        print(f"{case.name:40} {case.truth:9} {'  |  '.join(map(shown, said))}{note}", flush=True)
        for one in said if wrong else ():
            print(f"{'':42}{'; '.join((one.reason[:160], *one.conditions))}", flush=True)
    if worker:
        worker.stop()
    print(f"\n{len(chosen)} cases")
    for key, names in sorted(totals.items(), key=lambda item: (item[0][0].islower(), item[0])):
        listed = key[0].isupper() or key in LISTED
        print(f"  {key}: {len(names)}{'  ' + ' '.join(names) if listed else ''}")
    bad = (names for key, names in totals.items() if key[0].isupper())
    return len(set(itertools.chain.from_iterable(bad)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names of cases, or prefixes followed by a star (default: all)")
    parser.add_argument("--truth", action="store_true", help="check the pairs themselves, without the verifier")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return 0
    warnings.filterwarnings("ignore")
    starts = tuple(name[:-1] for name in given.names if name.endswith("*"))
    chosen = [case for name, case in cases().items()
              if not given.names or name in given.names or (starts and name.startswith(starts))]  # fmt: skip
    if not chosen:
        parser.error(f"no case is named {' or '.join(given.names)}")
    return int((check_truths(chosen) if given.truth else judge_all(chosen)) > 0)


if __name__ == "__main__":
    sys.exit(main())
