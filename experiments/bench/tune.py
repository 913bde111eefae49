"""Up to which product fusing is faster on this machine: what ``mlp(..., form="auto", max_fused=...)`` takes."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax

from bench import in_jax, timing
from bench.work import Entry, uniform
from handprop.nn.forms.table import largest_product

__all__ = ["crossover", "tune"]

CASES = (((4, 8, 3), 8), ((4, 8, 3), 16), ((8, 8, 8), 16), ((8, 16, 8), 16), ((16, 16, 16), 16), ((16, 32, 16), 16),
         ((32, 32, 16), 16), ((32, 32, 16), 32), ((48, 48, 16), 32))  # fmt: skip
DTYPES = ("float32", "float64")
FORMS = ("exact", "fused")


def crossover(times: Mapping[int, Mapping[str, float]]) -> int:
    """The largest product up to which folding was faster throughout; ``times`` are by product and form."""
    most = 0
    for product in sorted(times):
        if times[product]["fused"] >= times[product]["exact"]:
            break
        most = product
    return most


def tune(path: Path, rounds: int) -> None:
    """Write the table and say how to use it."""
    table = {dtype: crossover(_times(dtype, rounds)) for dtype in DTYPES}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({jax.default_backend(): table}, indent=1) + "\n")
    print(f"wrote {path}")
    for dtype, limit in table.items():
        print(f"in {dtype} use mlp(..., form='auto', max_fused={limit})")


def _times(dtype: str, rounds: int) -> dict[int, dict[str, float]]:
    """Microseconds a step."""
    found = {}
    with jax.enable_x64(dtype == "float64"):
        for sizes, examples in CASES:
            product = largest_product(sizes, examples)
            steps = max(500, 2**22 // product)
            work = uniform(sizes, examples, dtype=dtype)
            entries = [Entry(form, partial(in_jax.by_hand(form)(work), steps), steps) for form in FORMS]
            found[product] = {t.peer: t.minimum for t in timing.by_turns(entries, rounds)}
            spent = "".join(f"{found[product][form]:>12.3f} us {form}" for form in FORMS)
            print(f"{'-'.join(map(str, sizes)):<12}{examples:>4}  {dtype:<9}{product:>8}{spent}", flush=True)
    return found
