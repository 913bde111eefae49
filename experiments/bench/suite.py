"""A whole run: peers found, rows checked and timed, results written."""

import argparse
import sys
import time
from typing import Any

import jax
from _command import keep

from bench import agreement, machine, report, rows, timing
from bench.work import Setting

__all__ = ["run"]


def run(given: argparse.Namespace, threads: int) -> int:
    fault = _device_fault(given.device)
    if fault:
        print(fault, file=sys.stderr)
        return 2
    chosen, only = _chosen(given.only)
    found, notes = rows.find_peers(given.device), []
    for package, why in found.left_out.items():
        _say(notes, f"{package} is left out: {why}")
    setting = Setting(found, given.quick, given.device, only)
    records, start = [], time.perf_counter()
    for row in chosen:
        try:
            records += _measured(row, setting, given.rounds or (3 if given.quick else 20))
        except agreement.Disagreement as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            return 1
    _write(given, machine.describe(str(jax.devices()[0].device_kind), threads), records, notes)
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


def _device_fault(device: str) -> str | None:
    if device == "cpu":
        return None
    try:
        if jax.default_backend() == "gpu":
            return None
    except RuntimeError:
        pass
    return "No GPU is usable by jax here: run without --device gpu, or install a jax for it, `pip install 'jax[cuda13]'`."


def _chosen(only: list[str]) -> tuple[list[rows.Row], tuple[str, ...]]:
    """The rows that names choose, all where none does, and the names that are left for peers."""
    names = {row.name for row in rows.ROWS}
    chosen = [row for row in rows.ROWS if row.name in only] or list(rows.ROWS)
    return chosen, tuple(name for name in only if name not in names)


def _measured(row: rows.Row, setting: rows.Setting, rounds: int) -> list[dict[str, Any]]:
    print(f"\n{row.title}", flush=True)
    with rows.precision(row):
        timings = timing.by_turns(row.entries(setting), rounds, row.in_a_row)
    records = report.as_rows(row, timings)
    for record in records:
        print(f"  {record['peer']:<40}{record['us_min']:>12.4g} us{record['us_median']:>12.4g} us"
              f"{record.get('times_baseline', float('nan')):>9.3g}x", flush=True)  # fmt: skip
    return records


def _say(notes: list[str], text: str) -> None:
    notes.append(text)
    print(text, flush=True)


def _write(given: argparse.Namespace, where: dict[str, Any], records: list[dict[str, Any]], notes: list[str]) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    where = {**where, "quick": given.quick, "notes": notes}
    keep(given.out / "bench.json", records, where)
    (given.out / "bench.md").write_text(report.markdown(where, records, notes))
    if not report.chart(given.out / "bench.png", records):
        print("no chart: matplotlib is missing")
