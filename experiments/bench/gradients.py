"""Rows that time one gradient, or what stands for many: no training, so no peer that only trains."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import handprop
from bench import agreement, in_jax
from bench.work import Entry, Setting, Work, uniform

__all__ = ["BY_SCAN", "ONE_GRADIENT", "accumulate", "deep", "large", "per_example", "quantities", "temporaries_mb"]

ONE_GRADIENT, BY_SCAN = "jax.grad", "jax.grad, scan"
SIZES, EXAMPLES = (784, 256, 256, 10), 128
TOLERANCE = 2e-4  # of the largest entry, float32: two programs that sum the same terms in other orders


def temporaries_mb(compiled: jax.stages.Compiled) -> float:
    """Megabytes that the compiled program needs beside its arguments and results, as it says itself."""
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return round(analysis.temp_size_in_bytes / 1e6, 3)


def analysed_gflop(compiled: jax.stages.Compiled) -> float:
    """Operations by XLA's own count, which takes the body of a loop once."""
    analysis: Any = compiled.cost_analysis()
    return round(analysis.get("flops", 0.0) / 1e9, 4)


def _entry(name: str, f: Callable, args: Any, **facts: Any) -> Entry:
    start = time.perf_counter()
    compiled = jax.jit(f).lower(*args).compile()
    ready, facts = time.perf_counter() - start, _facts(compiled, facts)
    return Entry(name, lambda: jax.block_until_ready(compiled(*args)), 1, facts, ready)


def _facts(compiled: jax.stages.Compiled, more: dict[str, Any]) -> dict[str, Any]:
    return {"temporaries_mb": temporaries_mb(compiled), "analysed_gflop": analysed_gflop(compiled), **more}


def _same(entries: Sequence[Entry], first: str, *others: str) -> None:
    """The others return what the first does. Raises Disagreement."""
    calls = {entry.peer: entry.call for entry in entries}
    wanted = jax.tree.leaves(calls[first]())
    for name in others:
        names = [f"result {i}" for i in range(len(wanted))]
        agreement.compare(name, names, jax.tree.leaves(calls[name]()), wanted, TOLERANCE, first)


# Per-example quantities


def _by_vmap(net: handprop.MLP, params: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
    """Every example's gradient by autodiff, and its length."""
    g = jax.vmap(jax.grad(lambda p, x, y: net.loss(p, x[None], y[None])), (None, 0, 0))(params, x, y)
    return g, jnp.sqrt(sum(jnp.sum(leaf.reshape(len(x), -1) ** 2, axis=1) for leaf in jax.tree.leaves(g)))


def _clipped_by_vmap(net: handprop.MLP, params: Any, x: jax.Array, y: jax.Array) -> Any:
    g, norms = _by_vmap(net, params, x, y)
    c = jnp.minimum(1, 1.0 / norms)
    return jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1), g)


GRADIENTS: dict[str, Callable] = {
    ONE_GRADIENT: lambda net, *args: jax.grad(net.loss)(*args),
    "handprop exact": lambda net, *args: net.value_and_grad(*args)[1],
}
NORMS: dict[str, Callable] = {
    "norms, vmap(jax.grad)": lambda net, *args: _by_vmap(net, *args)[1],
    "norms, handprop": handprop.per_example_norms,
    "clipped sum, vmap(jax.grad)": _clipped_by_vmap,
    "clipped sum, handprop": partial(handprop.clipped_sum, norm=1.0),
}
QUANTITIES: dict[str, Callable] = {
    "Gram matrix, handprop": handprop.gram,
    "variance, handprop": handprop.gradient_variance,
    "noise scale, handprop": handprop.noise_scale,
    "K-FAC factors, handprop": handprop.kfac_factors,
    "Gauss-Newton diagonal, handprop": handprop.gauss_newton_diagonal,
}


def _programs(programs: dict[str, Callable]) -> list[Entry]:
    net = handprop.mlp(SIZES, output="softmax", loss="softmax_cross_entropy")
    args = (
        net.init(jax.random.key(0)),
        jax.random.uniform(jax.random.key(1), (EXAMPLES, SIZES[0])),
        jnp.arange(EXAMPLES) % SIZES[-1],
    )
    return [_entry(name, partial(f, net), args) for name, f in programs.items()]


def per_example(_: Setting) -> list[Entry]:
    """Lengths of all examples' gradients and clipped sums, beside one plain gradient."""
    entries = _programs({**GRADIENTS, **NORMS})
    _same(entries, *GRADIENTS)
    _same(entries, "norms, vmap(jax.grad)", "norms, handprop")
    _same(entries, "clipped sum, vmap(jax.grad)", "clipped sum, handprop")
    return entries


def quantities(_: Setting) -> list[Entry]:
    """What else the deltas give; against autodiff these are tested in ``tests/nn/test_per_example.py``."""
    return _programs({**GRADIENTS, **QUANTITIES})


# One large gradient


def gradient_flops(sizes: Sequence[int], examples: int) -> float:
    """Multiply-adds count twice: forward, dW and, but for the first layer, da; activations are left out."""
    products = [2.0 * examples * i * o for i, o in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def large(setting: Setting, sizes: tuple[int, ...] = (1024,) * 5, examples: int = 1024) -> list[Entry]:
    """One gradient of a large network, beside products as the ceiling."""
    work = uniform(sizes, examples, bias=True, reduction="mean")
    net = handprop.mlp(sizes)
    args, flops = (in_jax.layers(work), jnp.asarray(work.x), jnp.asarray(work.y)), gradient_flops(sizes, examples)
    entries = [_entry(name, partial(f, net), args, flops=flops) for name, f in GRADIENTS.items()]
    torch = _large_in_torch(work, setting.device, flops)
    entries += [torch] if torch else []
    _same(entries, ONE_GRADIENT, *(entry.peer for entry in entries[1:]))
    return entries + [_product(n) for n in (1024, 2048)]


def _large_in_torch(work: Work, device: str, flops: float) -> Entry | None:
    try:
        from bench import in_torch
    except ImportError:
        return None
    return Entry("torch eager", in_torch.gradient(work, "cuda" if device == "gpu" else "cpu"), 1, {"flops": flops})


def _product(n: int) -> Entry:
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.uniform(size=(n, n)), jnp.float32) for _ in range(2))
    return _entry(f"ceiling: product {n}^3", jnp.matmul, (a, b), flops=2.0 * n**3, ceiling=True)


# Full batches and deep networks


def accumulate(_: Setting, sizes: tuple[int, ...] = (64,) * 10, examples: int = 65_536) -> list[Entry]:
    """The gradient of a full batch, whole and in slices."""
    work = uniform(sizes, examples, bias=True, reduction="mean")
    net = handprop.mlp(sizes)
    programs = {ONE_GRADIENT: jax.value_and_grad(net.loss), "handprop exact": net.value_and_grad,
                "handprop.accumulate": handprop.accumulate(net)}  # fmt: skip
    return _whole_gradients(programs, work, ONE_GRADIENT, in_jax.layers(work))


def deep(_: Setting, width: int = 256, layers: int = 16, examples: int = 4096) -> list[Entry]:
    """Equal layers, under scan with their weights kept as a stack, and one by one; ``segments`` are computed once more
    on the way back.
    """
    sizes = (width,) * (layers + 1)
    work = uniform(sizes, examples, bias=True, reduction="mean")
    exact, scan = handprop.mlp(sizes), handprop.mlp(sizes, form="scan")
    segments = handprop.mlp(sizes, form="scan", remat_segments=4)
    params = in_jax.layers(work)
    of_a_stack = {BY_SCAN: jax.value_and_grad(_deep_loss), "handprop scan": scan.value_and_grad,
                  "handprop scan, 4 segments": segments.value_and_grad}  # fmt: skip
    per_product = {ONE_GRADIENT: jax.value_and_grad(exact.loss), "handprop exact": exact.value_and_grad,
                  "handprop scan, layers apart": scan.value_and_grad}  # fmt: skip
    return [
        *_whole_gradients(of_a_stack, work, BY_SCAN, handprop.stack_equal_layers(params)),
        *_whole_gradients(per_product, work, ONE_GRADIENT, params),
    ]


def _deep_loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss of a stack of layers and an output layer, in plain JAX."""
    run, output = params
    a, _ = lax.scan(lambda a, layer: (jax.nn.sigmoid(a @ layer.W + layer.b[None]), None), x, run)
    a = jax.nn.sigmoid(a @ output.W + output.b[None])
    return jnp.mean(jnp.sum((a - y) ** 2 / 2, axis=1))


def _whole_gradients(programs: dict[str, Callable], work: Work, first: str, params: Any) -> list[Entry]:
    """Programs that return value and gradients of all the work's examples; all agree with the first."""
    args, flops = (params, jnp.asarray(work.x), jnp.asarray(work.y)), gradient_flops(work.sizes, len(work.x))
    entries = [_entry(name, f, args, flops=flops) for name, f in programs.items()]
    _same(entries, first, *(entry.peer for entry in entries if entry.peer != first))
    return entries
