"""How fast is a training step of handprop, beside its peers?

Every peer does the same work in one run, by turns; first each shows that it comes to the same parameters. Results go
into a folder: bench.json, bench.md and bench.png.
"""

import argparse
import os
import sys
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).resolve().parents[1] / "benchmarks"
    parser.add_argument("--quick", action="store_true", help="fewer rows, steps and rounds: under 90 s")
    parser.add_argument(
        "--tune", action="store_true", help="only measure up to where form='auto' folds: crossover.json"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, help="turns of each peer (default: 20, with --quick 3)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows and peers, by name or a part of it")
    parser.add_argument("--threads", type=int, help="of each peer (default: all cores that may be used)")
    parser.add_argument("--out", type=Path, default=default, help="folder of the results (default: %(default)s)")
    given = parser.parse_args()
    if given.tune and given.device != "cpu":
        parser.error("--tune is for CPUs: no form folds elsewhere; leave out --device gpu.")
    for name in ("rounds", "threads"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)} is too small; it must be at least 1.")
    return given


def limit_threads(wanted: int | None) -> int:
    """The same number for all: before anything is imported, since libraries count cores when they are loaded."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    threads = min(wanted or len(usable), len(usable))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, list(usable)[:threads])  # XLA has no other switch
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    # By default torch's threads turn while they wait for each other. Where anything else wants a core, the thread that
    # is waited for waits too, and a step takes milliseconds; a thousand turns are some ten microseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    return threads


def main() -> int:
    given = arguments()
    threads = limit_threads(given.threads)
    os.environ["JAX_PLATFORMS"] = "cpu" if given.device == "cpu" else "cuda,cpu"
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
    try:
        from bench.suite import run  # imports jax
    except ModuleNotFoundError as error:
        print(f"{sys.executable} has no {error.name}: set PYTHON to a Python that has jax and optax.", file=sys.stderr)
        return 2
    return run(given, threads)


if __name__ == "__main__":
    raise SystemExit(main())
