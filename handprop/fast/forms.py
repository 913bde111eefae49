"""Forms by name, what each replaces, and how far from the exact one it may be.

| form | products | sigmoid | an entry's error against the exact form |
|---|---|---|---|
| exact | matrix products | ``1 / (1 + exp(-z))`` | none: the same bits |
| folded | multiply and sum | the same | ``2 k eps`` times the sum of its k terms' sizes, a layer |
| fast_sigmoid | multiply and sum | ``(1 + tanh(z/2))/2`` | that, and ``2 eps`` absolute in every sigmoid |
| scan | matrix products, equal layers in a loop | the same | none: the same operations, see ``equal_layers.py`` |
| accurate | matrix products | ``sigmoid(z) sigmoid(-z)`` for ``a (1 - a)`` | smaller, see ``accurate.py`` |
| auto | folded where that pays, else exact | the same | folded's |
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from handprop.activations import Activation
from handprop.fast.accurate import ACCURATE_LOSSES, ACCURATE_SIGMOID, ACCURATE_TANH
from handprop.fast.folded import FAST_SIGMOID, FOLDED
from handprop.losses import Loss
from handprop.products import EXACT, Products

__all__ = ["FORMS", "Form", "folds", "products"]


class Form(NamedTuple):
    """What stands in for the exact products, for activations by name and for losses by output activation and name.

    ``products`` None: chosen by size.
    """

    products: Products | None
    activations: Mapping[str, Activation] = {}
    losses: Mapping[tuple[str, str], Loss] = {}


FORMS = {
    "exact": Form(EXACT),
    "folded": Form(FOLDED),
    "fast_sigmoid": Form(FOLDED, {"sigmoid": FAST_SIGMOID}),
    "scan": Form(EXACT),
    "accurate": Form(EXACT, {"sigmoid": ACCURATE_SIGMOID, "tanh": ACCURATE_TANH}, ACCURATE_LOSSES),
    "auto": Form(None),
}

# Most multiply-adds of one product, N I O, up to which folding was faster in handprop.train: experiments/
# small_networks.py, on two x86 cores, jax 0.10.2. XLA sums 4,096 entries and more in another way, which loses.
MOST_FOLDED = {"float32": 4095, "float64": 2048}


def folds(sizes: Sequence[int], x: jax.Array) -> bool:
    """Whether "auto" folds the products of a network of these sizes for a batch x (N, I)."""
    most = max(i * o for i, o in itertools.pairwise(sizes)) * x.shape[0]
    return jax.default_backend() == "cpu" and most <= MOST_FOLDED.get(str(x.dtype), 0)


def products(form: str, sizes: Sequence[int], x: jax.Array) -> Products:
    """The products of a form for a batch x (N, I)."""
    own = FORMS[form].products
    return own if own is not None else FOLDED if folds(sizes, x) else EXACT
