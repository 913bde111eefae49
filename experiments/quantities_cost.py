"""What do per-example norms and clipped sums cost beside ``vmap(jax.grad)`` and beside one gradient?

784-256-256-10 on 128 patterns, float32, sigmoid and softmax cross-entropy. Milliseconds are the best of several rounds
in which each takes its turn, a few runs in a row each so that a program finds its own data in the caches and not that
of the one before; temporaries are what the compiled program says of itself.

Answer: see ``benchmarks/quantities.json``.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from _command import keep

import handprop

RESULTS = Path(__file__).parent / "benchmarks" / "quantities.json"
SIZES, PATTERNS = (784, 256, 256, 10), 128
IN_A_ROW = 5


def per_example(net: handprop.MLP, params, x, y):
    """Every pattern's gradient by autodiff, and its length."""
    g = jax.vmap(jax.grad(lambda p, x, y: net.loss(p, x[None], y[None])), (None, 0, 0))(params, x, y)
    return g, jnp.sqrt(sum(jnp.sum(leaf.reshape(len(x), -1) ** 2, axis=1) for leaf in jax.tree.leaves(g)))


def clipped_by_autodiff(net: handprop.MLP, params, x, y):
    g, norms = per_example(net, params, x, y)
    c = jnp.minimum(1, 1.0 / norms)
    return jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1), g)


PROGRAMS: dict[str, Callable] = {
    "one gradient, jax.grad": lambda net, *args: jax.grad(net.loss)(*args),
    "one gradient, by hand": lambda net, *args: net.value_and_grad(*args)[1],
    "norms, vmap(grad)": lambda net, *args: per_example(net, *args)[1],
    "norms": handprop.per_example_norms,
    "clipped sum, vmap(grad)": clipped_by_autodiff,
    "clipped sum": partial(handprop.clipped_sum, norm=1.0),
    "Gram matrix": handprop.gram,
    "variance": handprop.gradient_variance,
    "noise scale": handprop.noise_scale,
    "K-FAC factors": handprop.kfac_factors,
    "Gauss-Newton diagonal": handprop.gauss_newton_diagonal,
}


def temporaries(compiled: jax.stages.Compiled) -> int:
    """Bytes."""
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and megabytes of temporaries by program."""
    net = handprop.mlp(SIZES, output="softmax", loss="softmax_cross_entropy")
    args = (
        net.init(jax.random.key(0)),
        jax.random.uniform(jax.random.key(1), (PATTERNS, SIZES[0])),
        jnp.arange(PATTERNS) % SIZES[-1],
    )
    compiled = {name: jax.jit(partial(f, net)).lower(*args).compile() for name, f in PROGRAMS.items()}
    best = dict.fromkeys(compiled, float("inf"))
    for _ in range(rounds):
        for name, run in compiled.items():
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                jax.block_until_ready(run(*args))
                best[name] = min(best[name], (time.perf_counter() - start) * 1e3)
    megabytes = {name: temporaries(run) / 1e6 for name, run in compiled.items()}
    return {name: {"ms": round(best[name], 3), "temporaries_mb": round(megabytes[name], 3)} for name in compiled}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="rounds, of which the best counts (default: 50)")
    rows = measure(parser.parse_args().rounds)
    print(f"{'':<26}{'ms':>10}{'MB':>10}")
    for name, row in rows.items():
        print(f"{name:<26}{row['ms']:>10.3f}{row['temporaries_mb']:>10.3f}")
    keep(RESULTS, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
