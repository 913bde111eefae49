"""The table of networks that properties are tested over."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import handprop
from handprop.nn.activations import ACTIVATIONS

DTYPES = ("float64", "float32", "bfloat16", "float16")
SIZES = (
    ((3, 4, 1), 4),
    ((5, 7, 6, 3), 11),
    ((64, 30, 10), 37),
    ((2, 1), 1),
    ((1, 1, 1, 1), 5),
    ((20, 40, 1), 130),
)
HIDDEN = tuple(name for name in ACTIVATIONS if name != "softmax")
EXACT_ENDS = tuple(itertools.product(ACTIVATIONS, ("half_squared_error", "mean_squared_error")))
FUSED_ENDS = (
    ("sigmoid", "binary_cross_entropy"),
    ("identity", "binary_cross_entropy"),
    ("softmax", "softmax_cross_entropy"),
    ("identity", "softmax_cross_entropy"),
)


class Case(NamedTuple):
    sizes: tuple[int, ...]
    examples: int
    hidden: str
    output: str
    loss: str
    reduction: str
    bias: bool
    dtype: str

    @property
    def net(self) -> handprop.MLP:
        return handprop.mlp(
            self.sizes, hidden=self.hidden, output=self.output, loss=self.loss, reduction=self.reduction, bias=self.bias
        )

    @property
    def id(self) -> str:
        sizes = "-".join(map(str, self.sizes))
        bias = "bias" if self.bias else "nobias"
        return f"{sizes}x{self.examples}-{self.hidden}-{self.output}-{self.loss}-{self.reduction}-{bias}-{self.dtype}"

    def draw(self, seed: int = 0, scale: float = 1.0):
        """(params, x, y); call it with x64 enabled for float64."""
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return jnp.asarray(scale * rng.normal(size=shape), self.dtype)

        layers = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        params = tuple(handprop.Layer(normal(i, o), normal(o) if self.bias else None) for i, o in layers)
        x = normal(self.examples, self.sizes[0])
        return params, x, jnp.asarray(self._targets(rng), self.dtype)

    def _targets(self, rng: np.random.Generator) -> np.ndarray:
        shape = (self.examples, self.sizes[-1])
        if self.loss == "softmax_cross_entropy":
            return rng.dirichlet(np.ones(self.sizes[-1]), size=self.examples)
        return rng.uniform(size=shape)


def _table(ends: tuple[tuple[str, str], ...]) -> list[Case]:
    """Every hidden activation with every end and dtype; sizes, reduction and bias rotate through all of theirs."""
    rows = itertools.product(HIDDEN, ends, DTYPES)
    return [
        Case(*SIZES[i % len(SIZES)], hidden, *end, ("mean", "sum")[i // 2 % 2], i // 3 % 3 != 0, dtype)
        for i, (hidden, end, dtype) in enumerate(
            sorted(rows, key=lambda row: (DTYPES.index(row[2]), HIDDEN.index(row[0]), ends.index(row[1])))
        )
    ]


def _every_size() -> list[Case]:
    """The sigmoid network at every size, with both reductions, with and without biases."""
    options = itertools.product(SIZES, ("mean", "sum"), (True, False), DTYPES)
    return [
        Case(*size, "sigmoid", "sigmoid", "half_squared_error", reduction, bias, dtype)
        for size, reduction, bias, dtype in options
    ]


EXACT_CASES = list(dict.fromkeys(_table(EXACT_ENDS) + _every_size()))
FUSED_CASES = _table(FUSED_ENDS)
CASES = EXACT_CASES + FUSED_CASES


def leaf_bytes(tree) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def paths_that_differ(tree, other) -> list[str]:
    """Paths of leaves whose bits differ."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    pairs = zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(other), strict=True)
    return [jax.tree_util.keystr(path) for (path, a), b in pairs if leaf_bytes(a) != leaf_bytes(b)]
