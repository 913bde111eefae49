"""Whether a peer does the work of a row: the parameters of NumPy in float64 after the same steps, up to rounding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import in_numpy
from bench.work import Peer, Run, Work, steps_to_check

__all__ = ["Disagreement", "check", "compare", "leaf_names"]

# Of the largest entry of a leaf. A few hundred steps with rates of at most 1 add up rounding errors of a few eps each;
# a wrong factor, order of examples or reduction moves entries by a hundredth and more.
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}


class Disagreement(Exception):
    """A peer that does other work: one sentence with the row, the leaf, both sides."""


def leaf_names(work: Work) -> list[str]:
    letters = ("W", "b") if work.bias else ("W",)
    return [f"{letter}_{l + 1}" for l in range(len(work.sizes) - 1) for letter in letters]


def check(peer: Peer, work: Work, run: Run) -> float:
    """The largest difference from NumPy in float64, of a leaf's largest entry. Raises Disagreement."""
    steps = steps_to_check(work)
    wanted = in_numpy.judge(peer.does(work), steps)
    return compare(peer.name, leaf_names(work), run(steps), wanted, TOLERANCE[work.dtype])


def compare(
    peer: str,
    names: Sequence[str],
    found: Sequence[Any],
    wanted: Sequence[Any],
    tolerance: float,
    judge: str = "NumPy in float64",
) -> float:
    """The largest difference of all leaves, each against the largest entry of the wanted one."""
    worst = 0.0
    if len(found) != len(wanted):
        raise Disagreement(f"{peer} has {len(found)} arrays of parameters where {len(wanted)} are wanted.")
    for name, a, b in zip(names, found, wanted, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            raise Disagreement(f"{peer} does other work: {name} has shape {a.shape}, not {b.shape}.")
        difference = float(np.abs(a - b).max() / np.abs(b).max())
        if not difference <= tolerance:
            raise Disagreement(
                f"{peer} does other work: {name} differs by {difference:.1e} of its largest entry from {judge}, "
                f"where rounding explains {tolerance:.0e}; mend the peer or leave it out with --only."
            )
        worst = max(worst, difference)
    return worst
