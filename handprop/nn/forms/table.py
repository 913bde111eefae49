"""Forms by name, what each replaces, and how far it may be from the exact form.

| form | products | sigmoid | an entry's error against the exact form |
|---|---|---|---|
| exact | matrix products | ``1 / (1 + exp(-z))`` | none: the same bits |
| fused | multiply and sum | the same | ``2 k eps`` times the sum of its k terms' sizes, a layer |
| fast_sigmoid | multiply and sum | ``(1 + tanh(z/2))/2`` | that, and ``2 eps`` absolute in every sigmoid |
| scan | matrix products, equal layers in a loop | the same | none: the same operations, see ``scanned.py`` |
| accurate | matrix products | ``t / (1 + t)^2`` for ``a (1 - a)``, ``t = exp(-|z|)`` | smaller, see ``accurate.py`` |
| auto | fused, as a whole or one by one, where that is faster; else exact | the same | that of fused |
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from handprop.nn.activations import Activation
from handprop.nn.backprop import EXACT, Products
from handprop.nn.forms.accurate import ACCURATE_LOSSES, ACCURATE_SIGMOID, ACCURATE_TANH
from handprop.nn.forms.fused import FAST_SIGMOID, FUSED, MAX_TERMS
from handprop.nn.forms.per_product import per_product
from handprop.nn.losses import Loss

__all__ = ["FORMS", "Form", "fuses", "largest_product", "products"]


class Form(NamedTuple):
    """What a form uses instead of the exact products, activations (by name) and losses (by output activation and name).

    ``products`` is None if they are chosen by size.
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

# "auto" fuses on CPUs up to this many multiply-adds, N I O, of the largest product. MAX_FUSED is for sums that are
# written out, MAX_FUSED_LONG for longer ones. `scripts/bench --tune` measured limits of 32,768 and 16,384 on two x86
# cores with jax 0.10.2. However, 64-32-16 was slower for 8 and 10 examples (16,384 and 20,480 multiply-adds) and faster
# for 16. With the limits below, fusing was faster for all shapes that were tried.
MAX_FUSED = {"float32": 8192, "float64": 4096}
MAX_FUSED_LONG = {"float32": 4095, "float64": 2048}
# The same limit for a single product of a network that is too large to be fused as a whole.
MAX_FUSED_ALONE = {"float32": 4096}


def fuses(sizes: Sequence[int], x: jax.Array, max_fused: int | None = None) -> bool:
    """Whether "auto" fuses the products of a network of these sizes for a batch x (N, I)."""
    limit = _largest_fused(x, max_fused)
    if max(*sizes, x.shape[0]) > MAX_TERMS:
        limit = min(limit, MAX_FUSED_LONG.get(str(x.dtype), 0) if max_fused is None else max_fused)
    return largest_product(sizes, x.shape[0]) <= limit


def _largest_fused(x: jax.Array, max_fused: int | None) -> int:
    if max_fused is not None:
        return max_fused
    return MAX_FUSED.get(str(x.dtype), 0) if jax.default_backend() == "cpu" else 0


def largest_product(sizes: Sequence[int], examples: int) -> int:
    """``N I O``, the multiply-adds of a network's largest product.

    >>> largest_product((3, 4, 1), 4)
    48
    """
    return examples * max(i * o for i, o in itertools.pairwise(sizes))


def products(form: str, sizes: Sequence[int], x: jax.Array, max_fused: int | None = None) -> Products:
    """Return the products of a form for a batch x (N, I)."""
    own = FORMS[form].products
    if own is not None:
        return own
    if fuses(sizes, x, max_fused):
        return FUSED
    alone = MAX_FUSED_ALONE.get(str(x.dtype), 0) if max_fused is None else max_fused
    limit = min(_largest_fused(x, max_fused), alone)
    return per_product(limit) if limit else EXACT
