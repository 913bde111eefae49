"""The mathematics written out in NumPy, one line a product: a peer, and in float64 the judge of all others."""

import numpy as np

from bench.work import Peer, Run, Work, batches

__all__ = ["PEERS", "judge", "make"]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _step(work: Work, layers: list, x: np.ndarray, y: np.ndarray) -> list:
    """One step of descent on the examples x (N, I)."""
    activations = [x]
    for W, b in layers:
        z = activations[-1] @ W
        activations.append(_sigmoid(z if b is None else z + b))
    a = activations[-1]
    delta = (a - y) * work.scale
    if work.delta == "squared error":
        delta = delta * (a * (1 - a))
    updated = []
    for l in range(len(layers) - 1, -1, -1):
        (W, b), a = layers[l], activations[l]
        new = W - work.rate * (a.T @ delta), None if b is None else b - work.rate * delta.sum(axis=0)
        updated.append(new)
        if l:
            delta = (delta @ W.T) * (a * (1 - a))
    return updated[::-1]


def make(work: Work) -> Run:
    def run(steps: int) -> list[np.ndarray]:
        layers = list(work.layers)
        for rows in batches(work, steps):
            layers = _step(work, layers, work.x[rows], work.y[rows])
        return [leaf for layer in layers for leaf in layer if leaf is not None]

    return run


def judge(work: Work, steps: int) -> list[np.ndarray]:
    """The parameters after so many steps, in float64 throughout."""
    wide = [array.astype(np.float64) for array in (*work.params, work.x, work.y)]
    return list(make(work._replace(params=tuple(wide[:-2]), x=wide[-2], y=wide[-1]))(steps))


PEERS = (Peer("NumPy", make, slow=True),)
