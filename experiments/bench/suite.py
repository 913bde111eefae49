"""A whole run: peers found, rows checked and timed, results written."""

import argparse
import sys
import time
from typing import Any

import jax
from _command import keep

from bench import agreement, machine, report, rows, timing, tune
from bench.work import Found, Setting

__all__ = ["run"]

BUSY = 0.5  # processes


def run(given: argparse.Namespace, threads: int) -> int:
    if given.tune:
        tune.tune(given.out / "crossover.json", given.rounds or 7)
        return 0
    found = rows.find_peers(given.device)
    chosen, only = _chosen(given.only, given.quick)
    fault = _device_fault(given.device) or _only_fault(only, found)
    if fault:
        print(fault, file=sys.stderr)
        return 2
    if given.device == "gpu":
        jax.config.update("jax_default_matmul_precision", "highest")  # torch's float32 products are whole too
    where = machine.describe(str(jax.devices()[0].device_kind), threads)
    notes = _notes(given, where, found, only)
    print(*notes, sep="\n", flush=True)
    setting = Setting(found, given.quick, given.device, only)
    records, start = [], time.perf_counter()
    for row in chosen:
        try:
            records += _measured(row, setting, given.rounds or (3 if given.quick else 20))
        except agreement.Disagreement as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            return 1
    _write(given, where, records, notes)
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


def _notes(given: argparse.Namespace, where: dict[str, Any], found: Found, only: tuple[str, ...]) -> list[str]:
    """What a reader of the figures has to know."""
    notes = [f"{package} is left out: {why}" for package, why in found.left_out.items()]
    if given.quick and not only:
        late = [peer.name for peer in found.peers if peer.compiles_long]
        notes += [f"{name} is left out of --quick: it compiles long; --only names it" for name in late]
        late_rows = ", ".join(row.name for row in rows.ROWS if row.late)
        notes.append(f"rows left out of --quick: {late_rows}; --only names them")
    if (where["load"] or 0) > BUSY:
        notes.append(
            f"the machine was busy, load {where['load']}: peers of several threads suffer most, do not compare"
        )
    return notes


def _device_fault(device: str) -> str | None:
    if device == "cpu":
        return None
    try:
        if jax.default_backend() == "gpu":
            return None
    except RuntimeError:
        pass
    return "No GPU is usable by jax here: run without --device gpu, or install a jax for it (jax[cuda13])."


def _only_fault(only: tuple[str, ...], found: Found) -> str | None:
    for name in only:
        if not any(name.lower() in peer.name.lower() for peer in found.peers):
            known = ", ".join(row.name for row in rows.ROWS)
            return f"--only {name} names no row and no peer; rows are {known}; peers are named by a part of their name."
    return None


def _chosen(only: list[str], quick: bool) -> tuple[list[rows.Row], tuple[str, ...]]:
    """The rows that names choose, all where none does, and the names that are left for peers."""
    names = {row.name for row in rows.ROWS}
    every = [row for row in rows.ROWS if not (quick and row.late)]
    chosen = [row for row in rows.ROWS if row.name in only] or every
    return chosen, tuple(name for name in only if name not in names)


def _measured(row: rows.Row, setting: rows.Setting, rounds: int) -> list[dict[str, Any]]:
    print(f"\n{row.title}", end="", flush=True)
    start = time.perf_counter()
    with rows.precision(row):
        timings = timing.by_turns(row.entries(setting), rounds, row.in_a_row)
    print(f"  ({time.perf_counter() - start:.1f} s)")
    records = report.as_rows(row, timings)
    for record in records:
        times = f"{record['us_min']:>12.4g} us{record['us_median']:>12.4g} us"
        print(f"  {record['peer']:<40}{times}{report.factor(record, 9)}", flush=True)
    return records


def _write(given: argparse.Namespace, where: dict[str, Any], records: list[dict[str, Any]], notes: list[str]) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    where = {**where, "quick": given.quick, "notes": notes}
    keep(given.out / "bench.json", records, where)
    (given.out / "bench.md").write_text(report.markdown(where, records, notes))
    if not report.chart(given.out / "bench.png", records):
        print("no chart: matplotlib is missing")
