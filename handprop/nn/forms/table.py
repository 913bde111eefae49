"""Forms by name, what each replaces, and how far from the exact one it may be.

| form | products | sigmoid | an entry's error against the exact form |
|---|---|---|---|
| exact | matrix products | ``1 / (1 + exp(-z))`` | none: the same bits |
| fused | multiply and sum | the same | ``2 k eps`` times the sum of its k terms' sizes, a layer |
| fast_sigmoid | multiply and sum | ``(1 + tanh(z/2))/2`` | that, and ``2 eps`` absolute in every sigmoid |
| scan | matrix products, equal layers in a loop | the same | none: the same operations, see ``scanned.py`` |
| accurate | matrix products | ``t / (1 + t)^2`` for ``a (1 - a)``, ``t = exp(-|z|)`` | smaller, see ``accurate.py`` |
| auto | fused as a whole or each by itself where that pays, else exact | the same | that of fused |
"""

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax

from handprop.nn.activations import Activation
from handprop.nn.backprop import EXACT, Products
from handprop.nn.forms.accurate import ACCURATE_LOSSES, ACCURATE_SIGMOID, ACCURATE_TANH
from handprop.nn.forms.fused import FAST_SIGMOID, FUSED, MAX_TERMS
from handprop.nn.forms.per_product import per_product
from handprop.nn.losses import Loss

__all__ = ["FORMS", "Form", "crossover", "fuses", "largest_product", "products"]


class Form(NamedTuple):
    """What stands in for the exact products, for activations by name and for losses by output activation and name.

    ``products`` None: chosen by size.
    """

    products: Products | None
    activations: Mapping[str, Activation] = {}
    losses: Mapping[tuple[str, str], Loss] = {}


FORMS = {
    "exact": Form(EXACT),
    "fused": Form(FUSED),
    "fast_sigmoid": Form(FUSED, {"sigmoid": FAST_SIGMOID}),
    "scan": Form(EXACT),
    "accurate": Form(EXACT, {"sigmoid": ACCURATE_SIGMOID, "tanh": ACCURATE_TANH}, ACCURATE_LOSSES),
    "auto": Form(None),
}

# Most multiply-adds of one product, N I O, up to which "auto" fuses on CPUs: with sums that are written out, and with
# longer ones. `scripts/bench --tune` measured 32,768 and 16,384 on two x86 cores, jax 0.10.2; but 64-32-16 lost on
# 8 and on 10 examples, 16,384 and 20,480, and won on 16: what is built in, all shapes tried have won.
MAX_FUSED = {"float32": 8192, "float64": 4096}
MAX_FUSED_LONG = {"float32": 4095, "float64": 2048}
# Of one product, up to which "auto" fuses it in a network that is too large to be fused as a whole.
MAX_FUSED_ALONE = {"float32": 4096}
TABLE = "HANDPROP_CROSSOVER"
"""The environment variable that names a table written by ``scripts/bench --tune``, to be read in place of
:data:`MAX_FUSED`: JSON, ``{"cpu": {"float32": 8192, "float64": 4096}}``."""


def fuses(sizes: Sequence[int], x: jax.Array) -> bool:
    """Whether "auto" fuses the products of a network of these sizes for a batch x (N, I)."""
    limit = _largest_fused(x)
    if max(*sizes, x.shape[0]) > MAX_TERMS:
        limit = min(limit, MAX_FUSED_LONG.get(str(x.dtype), 0))
    return largest_product(sizes, x.shape[0]) <= limit


def _largest_fused(x: jax.Array) -> int:
    return crossover().get(jax.default_backend(), {}).get(str(x.dtype), 0)


def largest_product(sizes: Sequence[int], examples: int) -> int:
    """``N I O``, the multiply-adds of a network's largest product.

    >>> largest_product((3, 4, 1), 4)
    48
    """
    return examples * max(i * o for i, o in itertools.pairwise(sizes))


def crossover() -> Mapping[str, Mapping[str, int]]:
    """The most multiply-adds of a fused product, by platform and dtype: the table's, or the built-in ones."""
    path = os.environ.get(TABLE)
    return _read(path) if path else {"cpu": MAX_FUSED}


@lru_cache(maxsize=8)
def _read(path: str) -> Mapping[str, Mapping[str, int]]:
    how = f"set {TABLE} to a file that scripts/bench --tune wrote, or to nothing"
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{TABLE}={path!r} cannot be read ({error}); {how}.") from error
    known = isinstance(table, dict) and all(
        isinstance(limits, dict) and all(type(limit) is int and limit >= 0 for limit in limits.values())
        for limits in table.values()
    )
    if not known:
        raise ValueError(f'{TABLE}={path!r} is not of the form {{"cpu": {{"float32": 8192}}}}; {how}.')
    return table


def products(form: str, sizes: Sequence[int], x: jax.Array) -> Products:
    """The products of a form for a batch x (N, I)."""
    own = FORMS[form].products
    return own if own is not None else FUSED if fuses(sizes, x) else _by_size(x)


def _by_size(x: jax.Array) -> Products:
    limit = min(_largest_fused(x), MAX_FUSED_ALONE.get(str(x.dtype), 0))
    return per_product(limit) if limit else EXACT
