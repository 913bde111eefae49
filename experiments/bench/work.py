"""What is done, the same for every peer: networks, data, first weights and the order of the examples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

import handprop
from handprop import data
from handprop.nn.mlp import ReductionName
from handprop.training import shuffle

__all__ = ["BASELINE", "Entry", "Found", "Make", "Peer", "Run", "Setting", "Work", "batches", "classic", "digits",
           "draw_orders", "steps_to_check", "uniform"]  # fmt: skip

BASELINE = "jax.grad + optax, scan"

Run = Callable[[int], Sequence[Any]]
"""So many steps from the first weights: the last ones as [W_1, b_1, W_2, ...], b only where there are biases. It waits
for the device."""


class Work(NamedTuple):
    """Plain gradient descent on the half squared error of sigmoid units, summed over outputs.

    ``orders`` (epochs, N) are the examples' numbers, in the order of the minibatches; None for full batches.
    ``delta`` is "squared error", or "cross-entropy" for a peer that knows no other loss of sigmoid outputs.
    """

    sizes: tuple[int, ...]
    params: tuple[np.ndarray, ...]  # [W_1, b_1, W_2, ...]
    x: np.ndarray
    y: np.ndarray
    bias: bool = False
    reduction: ReductionName = "sum"
    rate: float = 0.1
    batch: int | None = None
    orders: np.ndarray | None = None
    seed: int = 0  # of the key that draws the orders
    delta: str = "squared error"

    @property
    def dtype(self) -> str:
        return str(self.x.dtype)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.x) // (self.batch or len(self.x))

    @property
    def layers(self) -> tuple[tuple[np.ndarray, np.ndarray | None], ...]:
        """(W, b) of each layer."""
        if not self.bias:
            return tuple((W, None) for W in self.params)
        return tuple(zip(self.params[::2], self.params[1::2], strict=True))

    @property
    def scale(self) -> float:
        """What an example's gradient is multiplied by."""
        return 1.0 if self.reduction == "sum" else 1.0 / (self.batch or len(self.x))


Make = Callable[[Work], Run]


class Peer(NamedTuple):
    """``slow`` peers run fewer steps a call, those that compile long are left out of ``--quick``; ``fits`` says which
    work a peer can do, ``does`` what it does instead.
    """

    name: str
    make: Make
    slow: bool = False
    fits: Callable[[Work], bool] = lambda work: True
    compiles_long: bool = False
    does: Callable[[Work], Work] = lambda work: work


class Entry(NamedTuple):
    """A peer of a row, ready to be timed: ``call`` does so many ``units``, steps say, and waits; ``facts`` are kept.

    ``ready_s`` seconds were spent on making and compiling it, ``ready_units`` of work included.
    """

    peer: str
    call: Callable[[], Any]
    units: float
    facts: Mapping[str, Any] = MappingProxyType({})
    ready_s: float = 0.0
    ready_units: float = 0.0


class Found(NamedTuple):
    """The peers there are, and why others are not."""

    peers: tuple[Peer, ...]
    left_out: dict[str, str]


class Setting(NamedTuple):
    """How a run is made; ``only`` are the peers that are wanted, by parts of their names, all where it is empty."""

    found: Found
    quick: bool
    device: str
    only: tuple[str, ...]


def batches(work: Work, steps: int) -> Iterator[np.ndarray | slice]:
    """The examples of each step, first step first."""
    if work.orders is None:
        yield from (slice(None) for _ in range(steps))
        return
    rows = work.orders.reshape(-1, work.batch or 1)
    yield from (rows[k] for k in range(steps))


def _network(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, dtype: str, **options: Any) -> Work:
    """The work on these examples, weights uniform on (-1, 1) (classic) or Glorot's, the same in every dtype."""
    net = handprop.mlp(sizes, bias=options.get("bias", False), init="glorot" if options.get("bias") else "uniform")
    params = tuple(np.asarray(leaf, dtype) for leaf in jax.tree.leaves(net.init(jax.random.key(1))))
    return Work(sizes, params, x.astype(dtype), y.astype(dtype), **options)


def classic(dtype: str = "float32") -> Work:
    """3-4-1 on the four examples of exclusive or, the third input always 1."""
    examples = data.xor_with_bias()
    return _network((3, 4, 1), examples.x, examples.y, dtype, rate=1.0)


def uniform(sizes: tuple[int, ...], examples: int, dtype: str = "float32", **options: Any) -> Work:
    """Full batches of examples and targets drawn evenly from [0, 1)."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(examples, sizes[0])), rng.uniform(size=(examples, sizes[-1]))
    return _network(sizes, x, y, dtype, **options)


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits and one-hot labels; where scikit-learn is missing, numbers in their place, which take as long."""
    try:
        examples = data.digits()
    except data.DataError:
        rng = np.random.default_rng(0)
        return rng.uniform(size=(1797, 64)), data.one_hot(rng.integers(10, size=1797), 10)
    return examples.x, data.one_hot(examples.y, 10)


def digits(sizes: tuple[int, ...], batch: int, epochs: int, examples: int = 1797) -> Work:
    """Minibatches of the bundled digits, every batch full, each epoch in an order of its own."""
    x, y = _digits()
    full = examples // batch * batch
    orders = draw_orders(shuffle.permutation, 0, epochs, full)
    return _network(sizes, x[:full], y[:full], "float32", bias=True, reduction="mean", batch=batch, orders=orders)


def draw_orders(
    permutation: Callable[[jax.Array, int], jax.Array], seed: int, epochs: int, examples: int
) -> np.ndarray:
    """Each epoch's order by this permutation, its key drawn as ``handprop.train`` draws it from ``key(seed)``."""
    keys = [jax.random.fold_in(jax.random.key(seed), epoch) for epoch in range(epochs)]
    return np.stack([np.asarray(permutation(key, examples)) for key in keys])


def steps_to_check(work: Work) -> int:
    """How many steps tell whether a peer does this work: two epochs, or ten full batches."""
    return 10 if work.orders is None else 2 * work.steps_per_epoch
