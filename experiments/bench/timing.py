"""Peers by turns: in each round every one once, in an order drawn anew, so that a slow minute hits all of them."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.work import Entry

__all__ = ["Timing", "by_turns"]


# Seconds before a turn: OpenBLAS's idle threads go on turning for about that long, on a core of the next peer.
PAUSE = 0.03


class Timing(NamedTuple):
    """Microseconds a step, over so many rounds; ``compile_s``: what making it and a first call took beyond the work."""

    peer: str
    minimum: float
    median: float
    rounds: int
    compile_s: float
    facts: Mapping[str, Any]


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def by_turns(entries: Sequence[Entry], rounds: int, in_a_row: int = 1, seed: int = 0) -> list[Timing]:
    """Every entry's least and median time a step. Compilation is in none of them: a first call is timed apart.

    ``in_a_row`` calls make a turn, and the best of them counts: a program then finds its own data in the caches, not
    those of the one before.
    """
    rng = random.Random(seed)
    first = [_seconds(entry.call) for entry in entries]
    taken: list[list[float]] = [[] for _ in entries]
    for _ in range(rounds):
        for i in rng.sample(range(len(entries)), len(entries)):
            time.sleep(PAUSE)
            taken[i].append(min(_seconds(entries[i].call) for _ in range(in_a_row)))
    return [_timing(*each) for each in zip(entries, first, taken, strict=True)]


def _timing(entry: Entry, first: float, times: list[float]) -> Timing:
    least, median = min(times) / entry.units, statistics.median(times) / entry.units
    compiling = entry.ready_s + first - (entry.ready_units + entry.units) * median
    return Timing(entry.peer, least * 1e6, median * 1e6, len(times), max(0.0, compiling), entry.facts)
