"""The rows of the table: what is timed in each, by whom, and how many steps a call takes.

A new row is a function from :class:`Setting` to entries, and a line in :data:`ROWS`.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax

from bench import agreement, gradients
from bench.ensembles import BY_VMAP, ensemble
from bench.work import BASELINE, Entry, Found, Peer, Setting, Work, classic, digits, steps_to_check, uniform

__all__ = ["FAMILIES", "ROWS", "Row", "find_peers", "precision"]

FAMILIES = {
    "in_jax": "jax", "in_flax": "flax", "in_equinox": "equinox", "in_torch": "torch", "in_sklearn": "scikit-learn",
    "in_numpy": "numpy", "in_c": "C",
}  # fmt: skip
"""A module of peers and the package that it needs."""

CPU_ONLY = {"in_numpy", "in_sklearn", "in_c"}


class Row(NamedTuple):
    """``entries(setting)`` are ready to be timed; ``unit`` is what ``units`` of an entry counts.

    ``late`` rows are left out of ``--quick``, unless ``--only`` names them: most of a row's time is compilation.
    """

    name: str
    title: str
    entries: Callable[[Setting], list[Entry]]
    unit: str = "step"
    baseline: str = BASELINE
    in_a_row: int = 1
    x64: bool = False
    late: bool = False


def find_peers(device: str) -> Found:
    """Import every family; what cannot be imported, or only works on CPUs where an accelerator runs, is left out."""
    peers: list[Peer] = []
    left_out = {}
    for module, package in FAMILIES.items():
        if device != "cpu" and module in CPU_ONLY:
            left_out[package] = "works on CPUs only"
            continue
        try:
            family = importlib.import_module(f"bench.{module}")
            peers += family.peers(device) if hasattr(family, "peers") else family.PEERS
        except (ImportError, OSError, RuntimeError) as error:
            left_out[package] = " ".join(str(error).split())
    return Found(tuple(peers), left_out)


def wanted(setting: Setting, peer: Peer) -> bool:
    """Whether ``--only`` names the peer or a part of its name; the baseline is always wanted."""
    if setting.only:
        return peer.name == BASELINE or any(part.lower() in peer.name.lower() for part in setting.only)
    return not (setting.quick and peer.compiles_long)


# Training


def training(make_work: Callable[[], Work], steps: int, slow: int, setting: Setting) -> list[Entry]:
    """Every peer that fits, once it has shown that it does the same work; slow ones do fewer steps a call."""
    work, entries = make_work(), []
    for peer in setting.found.peers:
        if peer.fits(work) and wanted(setting, peer):
            start, count = time.perf_counter(), slow if peer.slow else steps
            run = peer.make(work)
            facts = {"difference": agreement.check(peer, work, run)}
            ready = time.perf_counter() - start, steps_to_check(work)
            entries.append(Entry(peer.name, partial(run, count), count, facts, *ready))
    return entries


def full(make_work: Callable[[], Work], steps: int, slow: int) -> Callable[[Setting], list[Entry]]:
    return lambda setting: training(make_work, *_shares(setting, steps, slow), setting)


def minibatches(sizes: tuple[int, ...], batch: int, epochs: int) -> Callable[[Setting], list[Entry]]:
    def entries(setting: Setting) -> list[Entry]:
        taken = 2 if setting.quick else epochs
        work = digits(sizes, batch, taken)
        return training(lambda: work, taken * work.steps_per_epoch, work.steps_per_epoch, setting)

    return entries


def _shares(setting: Setting, steps: int, slow: int) -> tuple[int, int]:
    """Fewer where it shall be quick, and where each step is several launches."""
    divisor = (6 if setting.quick else 1) * (1 if setting.device == "cpu" else 10)
    return max(steps // divisor, 10), max(slow // divisor, 10)


ROWS: Sequence[Row] = (
    Row("classic", "3-4-1, 4 examples, float32", full(classic, 60_000, 600)),
    Row("classic64", "3-4-1, 4 examples, float64", full(partial(classic, "float64"), 60_000, 600), x64=True,
        late=True),
    Row("small8", "4-8-3, 8 examples, float32", full(partial(uniform, (4, 8, 3), 8), 30_000, 600), late=True),
    Row("small16", "4-8-3, 16 examples, float32", full(partial(uniform, (4, 8, 3), 16), 30_000, 600), late=True),
    Row("digits30", "64-30-10, minibatches of 10 digits, float32", minibatches((64, 30, 10), 10, 40)),
    Row("digits128", "64-128-10, minibatches of 64 digits, float32", minibatches((64, 128, 10), 64, 40)),
    *(
        Row(f"population{k}", f"{k:,} networks 3-4-1, 4 examples, float32", partial(ensemble, k), "net-step", BY_VMAP,
            late=k not in (16, 4096))
        for k in (16, 64, 256, 4096, 65536)
    ),
    Row("per_example", f"784-256-256-10, {gradients.EXAMPLES} examples, float32: norms and clipped sums",
        gradients.per_example, "call", gradients.ONE_GRADIENT, in_a_row=5),
    Row("quantities", f"784-256-256-10, {gradients.EXAMPLES} examples, float32: other quantities",
        gradients.quantities, "call", gradients.ONE_GRADIENT, in_a_row=5, late=True),
    Row("large", "1024-1024-1024-1024-1024, 1,024 examples, float32: one gradient", gradients.large, "call",
        gradients.ONE_GRADIENT),
    Row("streamed", "64^9, full batch of 65,536 examples, float32: one gradient", gradients.accumulate, "call",
        gradients.ONE_GRADIENT),
    Row("deep", "16 layers of 256, 4,096 examples, float32: one gradient", gradients.deep, "call", gradients.BY_SCAN,
        late=True),
)  # fmt: skip


def precision(row: Row) -> AbstractContextManager[Any]:
    """The row's precision, while its programs are made and run."""
    return jax.enable_x64(row.x64)
