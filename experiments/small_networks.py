"""How fast is a training step of a small network, and up to which size does folding pay?

Microseconds a step inside one compiled run, full batch, plain gradient descent: the best of several rounds, in which
each takes its turn. "jax.grad" is ``jax.grad`` and optax under ``lax.scan``, "numpy" the same mathematics written out
in NumPy.

Answer: see ``benchmarks/small_networks.json``; the limit in ``handprop/fast/forms.py`` is read off it.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _command import keep
from jax import lax

import handprop

RESULTS = Path(__file__).parent / "benchmarks" / "small_networks.json"
FORMS = ("exact", "folded", "fast_sigmoid")
CASES = (((3, 4, 1), 4), ((4, 8, 3), 8), ((4, 8, 3), 16), ((8, 8, 8), 16), ((8, 16, 8), 16), ((15, 16, 15), 16),
         ((16, 16, 16), 16), ((16, 32, 16), 16), ((32, 32, 10), 32), ((64, 30, 10), 10))  # fmt: skip
RATE = 0.1


def in_numpy(params: list[np.ndarray], x: np.ndarray, y: np.ndarray, steps: int) -> list[np.ndarray]:
    """Gradient descent on the half squared error, biases left out."""
    w1, w2 = params
    for _ in range(steps):
        a1 = 1 / (1 + np.exp(-(x @ w1)))
        a2 = 1 / (1 + np.exp(-(a1 @ w2)))
        d2 = (a2 - y) * (a2 * (1 - a2))
        d1 = (d2 @ w2.T) * (a1 * (1 - a1))
        w1, w2 = w1 - RATE * (x.T @ d1), w2 - RATE * (a1.T @ d2)
    return [w1, w2]


def by_autodiff(net: handprop.MLP, steps: int) -> Callable:
    optimizer = optax.sgd(RATE)

    @jax.jit
    def run(params, x, y):
        def step(held, _):
            params, state = held
            updates, state = optimizer.update(jax.grad(net.loss)(params, x, y), state, params)
            return (optax.apply_updates(params, updates), state), None

        return lax.scan(step, (params, optimizer.init(params)), None, length=steps)[0][0]

    return run


def by_hand(sizes: tuple[int, ...], form: str, steps: int) -> Callable:
    net, optimizer = handprop.mlp(sizes, bias=False, reduction="sum", form=form), optax.sgd(RATE)

    def run(params, x, y):
        return handprop.train(
            net.value_and_grad, params, (x, y), optimizer=optimizer, steps=steps, record_every=steps
        ).params

    return run


def measured(sizes: tuple[int, ...], patterns: int, dtype: str, steps: int, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(patterns, sizes[0])).astype(dtype), rng.uniform(size=(patterns, sizes[-1])).astype(dtype)
    net = handprop.mlp(sizes, bias=False, reduction="sum")
    with jax.enable_x64(dtype == "float64"):
        params = net.init(jax.random.key(0), dtype)
        runs: dict[str, tuple[Callable, int]] = {form: (by_hand(sizes, form, steps), steps) for form in FORMS}
        runs["jax.grad"] = by_autodiff(net, steps), steps
        runs = {name: (partial(run, params, jnp.asarray(x), jnp.asarray(y)), n) for name, (run, n) in runs.items()}
        few = max(steps // 20, 1)
        runs["numpy"] = partial(in_numpy, [np.asarray(layer.W) for layer in params], x, y, few), few
        best = dict.fromkeys(runs, np.inf)
        for _ in range(rounds + 1):  # the first compiles
            for name, (run, n) in runs.items():
                start = time.perf_counter()
                jax.block_until_ready(run())
                best[name] = min(best[name], (time.perf_counter() - start) / n * 1e6)
    return {name: round(float(t), 4) for name, t in best.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20000, help="steps of a run (default: 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts (default: 5)")
    options = parser.parse_args()
    rows = []
    print(
        f"{'sizes':<14}{'N':>4}  {'dtype':<8}{'products':>9}"
        + "".join(f"{n:>14}" for n in (*FORMS, "jax.grad", "numpy"))
    )
    for dtype in ("float32", "float64"):
        for sizes, patterns in CASES:
            steps = max(options.steps // max(1, patterns * sizes[0] * sizes[1] // 1000), 500)
            times = measured(sizes, patterns, dtype, steps, options.rounds)
            most = patterns * max(i * o for i, o in itertools.pairwise(sizes))
            rows.append(
                {"sizes": sizes, "patterns": patterns, "dtype": dtype, "largest_product": most, "microseconds": times}
            )
            name = "-".join(map(str, sizes))
            print(
                f"{name:<14}{patterns:>4}  {dtype:<8}{most:>9}" + "".join(f"{t:>14.3f}" for t in times.values()),
                flush=True,
            )
    keep(RESULTS, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
