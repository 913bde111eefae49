"""torch, eager as people write it (modules, ``backward``, ``optim.SGD``) and with the whole step compiled."""

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from bench.work import Make, Peer, Run, Work, batches

__all__ = ["gradient", "network", "peers", "tensors"]

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()))


def tensors(work: Work, device: str) -> list[torch.Tensor]:
    """The first weights in torch's own layout: W is (O, I)."""
    found = [leaf for W, b in work.layers for leaf in (W.T, b) if leaf is not None]
    return [torch.tensor(np.ascontiguousarray(leaf), device=device) for leaf in found]


def _leaves(params: Any, device: str) -> list[np.ndarray]:
    if device != "cpu":
        torch.cuda.synchronize()
    return [p.detach().cpu().numpy().T for p in params]


def _data(work: Work, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(work.x, device=device), torch.tensor(work.y, device=device)


def _chosen(work: Work, steps: int, x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The examples of each step."""
    if work.orders is None:
        yield from ((x, y) for _ in range(steps))
        return
    for rows in batches(work, steps):
        chosen = torch.as_tensor(rows, device=x.device)
        yield x[chosen], y[chosen]


def network(work: Work, device: str) -> torch.nn.Sequential:
    dtype = getattr(torch, work.dtype)
    parts = [(torch.nn.Linear(i, o, bias=work.bias, device=device, dtype=dtype), torch.nn.Sigmoid())
             for i, o in pairwise(work.sizes)]  # fmt: skip
    return torch.nn.Sequential(*(part for pair in parts for part in pair))


def eager(device: str) -> Make:
    def make(work: Work) -> Run:
        net, start, (x, y) = network(work, device), tensors(work, device), _data(work, device)
        optimizer = torch.optim.SGD(net.parameters(), lr=work.rate)

        def run(steps: int) -> list[np.ndarray]:
            with torch.no_grad():
                for p, first in zip(net.parameters(), start, strict=True):
                    p.copy_(first)
            for xs, ys in _chosen(work, steps, x, y):
                optimizer.zero_grad()
                error = 0.5 * work.scale * ((net(xs) - ys) ** 2).sum()
                error.backward()
                optimizer.step()
            return _leaves(net.parameters(), device)

        return run

    return make


def _step(rate: float, scale: float, bias: bool) -> Callable[..., list[torch.Tensor]]:
    """A step as a function of the parameters; it closes over numbers only: arrays would be inputs."""

    def error(params: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, stride = x, 2 if bias else 1
        for l in range(0, len(params), stride):
            a = torch.sigmoid(torch.nn.functional.linear(a, params[l], params[l + 1] if bias else None))
        return 0.5 * scale * ((a - y) ** 2).sum()

    def step(params: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        grads = torch.func.grad(error)(params, x, y)
        return [p - rate * g for p, g in zip(params, grads, strict=True)]

    return step


def compiled(device: str) -> Make:
    """Forward, backward and update as one program of the compiler; the steps are called from Python."""

    def make(work: Work) -> Run:
        start, (x, y) = tensors(work, device), _data(work, device)
        step = torch.compile(_step(work.rate, work.scale, work.bias), fullgraph=True, dynamic=False)

        def run(steps: int) -> list[np.ndarray]:
            params = start
            with torch.no_grad():
                for xs, ys in _chosen(work, steps, x, y):
                    params = step(params, xs, ys)
            return _leaves(params, device)

        return run

    return make


def gradient(work: Work, device: str) -> Callable[[], list[np.ndarray]]:
    """One gradient of the first weights, by ``backward``; the results come back to the host in NumPy's layout."""
    net, (x, y) = network(work, device), _data(work, device)
    with torch.no_grad():
        for p, first in zip(net.parameters(), tensors(work, device), strict=True):
            p.copy_(first)

    def call() -> list[np.ndarray]:
        net.zero_grad()
        (0.5 * work.scale * ((net(x) - y) ** 2).sum()).backward()
        return _leaves([p.grad for p in net.parameters()], device)

    return call


def peers(device: str) -> tuple[Peer, ...]:
    where = "cuda" if device == "gpu" else "cpu"
    if where == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no CUDA device")
    return (
        Peer("torch eager", eager(where), slow=True),
        Peer("torch compiled", compiled(where), slow=True, compiles_long=True),
    )
