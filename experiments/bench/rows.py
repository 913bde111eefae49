"""The rows of the table: what is timed in each, by whom, and how many steps a call takes.

A new row is a function from :class:`Setting` to entries, and a line in :data:`ROWS`.
"""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax

from bench import agreement
from bench.work import BASELINE, Entry, Peer, Work, classic, digits, uniform

__all__ = ["FAMILIES", "ROWS", "Found", "Row", "Setting", "find_peers"]

FAMILIES = {
    "in_jax": "jax", "in_flax": "flax", "in_equinox": "equinox", "in_torch": "torch", "in_sklearn": "scikit-learn",
    "in_numpy": "numpy", "in_c": "C",
}  # fmt: skip
"""A module of peers and the package that it needs."""

CPU_ONLY = {"in_numpy", "in_sklearn", "in_c"}


class Found(NamedTuple):
    """The peers there are, and why others are not."""

    peers: tuple[Peer, ...]
    left_out: dict[str, str]


class Setting(NamedTuple):
    """How a run is made. ``note`` keeps what a row has to say beside its times."""

    found: Found
    quick: bool
    device: str
    only: tuple[str, ...]
    note: Callable[[str, str], None]


class Row(NamedTuple):
    """``entries(setting)`` are ready to be timed; ``unit`` is what ``count`` of an entry counts."""

    name: str
    title: str
    entries: Callable[[Setting], list[Entry]]
    unit: str = "step"
    baseline: str = BASELINE
    in_a_row: int = 1
    x64: bool = False
    flops: float | None = None  # of one unit, where GF/s are wanted too


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


def wanted(setting: Setting, name: str) -> bool:
    """Whether ``--only`` names the peer, wholly or in part; the baseline is always there."""
    return not setting.only or name == BASELINE or any(part.lower() in name.lower() for part in setting.only)


# Training


def training(make_work: Callable[[], Work], steps: int, slow: int, setting: Setting) -> list[Entry]:
    """Every peer that fits, once it has shown that it does the same work; slow ones do fewer steps a call."""
    work, entries = make_work(), []
    for peer in setting.found.peers:
        if peer.fits(work) and wanted(setting, peer.name):
            run, count = peer.make(work), slow if peer.slow else steps
            difference = agreement.check(peer, work, run)
            entries.append(Entry(peer.name, partial(run, count), count, {"difference": difference}))
    return entries


def full(make_work: Callable[[], Work], steps: int, slow: int) -> Callable[[Setting], list[Entry]]:
    return lambda setting: training(make_work, *_shares(setting, steps, slow), setting)


def minibatches(sizes: tuple[int, ...], batch: int, epochs: int) -> Callable[[Setting], list[Entry]]:
    def entries(setting: Setting) -> list[Entry]:
        taken = max(2, epochs // 10) if setting.quick else epochs
        work = digits(sizes, batch, taken)
        return training(lambda: work, taken * work.steps_per_epoch, work.steps_per_epoch, setting)

    return entries


def _shares(setting: Setting, steps: int, slow: int) -> tuple[int, int]:
    return (max(steps // 6, 10), max(slow // 6, 10)) if setting.quick else (steps, slow)


ROWS: Sequence[Row] = (
    Row("classic", "3-4-1, 4 patterns, float32", full(classic, 60_000, 600)),
    Row("classic64", "3-4-1, 4 patterns, float64", full(partial(classic, "float64"), 60_000, 600), x64=True),
    Row("small8", "4-8-3, 8 patterns, float32", full(partial(uniform, (4, 8, 3), 8), 30_000, 600)),
    Row("small16", "4-8-3, 16 patterns, float32", full(partial(uniform, (4, 8, 3), 16), 30_000, 600)),
    Row("digits30", "64-30-10, minibatches of 10 digits, float32", minibatches((64, 30, 10), 10, 40)),
    Row("digits128", "64-128-10, minibatches of 64 digits, float32", minibatches((64, 128, 10), 64, 40)),
)


def precision(row: Row) -> AbstractContextManager[Any]:
    """The row's precision, while its programs are made and run."""
    return jax.enable_x64(row.x64)
