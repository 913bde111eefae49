"""Calls of equinox's rules: runtime checks, debugging identities, checkpointed loops and neighbouring floats."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import named, normal, uniform

__all__ = ["CALLS"]

_ERROR = "equinox._errors._error"
_NAN = "equinox.debug._backward_nan._backward_nan"
_LOOP = "equinox.internal._loop.checkpointed._checkpointed_while_loop"


def _checked(check: Callable[[jax.Array], jax.Array]) -> Callable:
    error_if = named("equinox.error_if")
    return lambda x: error_if(x, check(x), "out of the domain")


def _checked_layer() -> tuple[Callable, tuple]:
    layer = named("equinox.nn.Linear")(3, 5, key=jax.random.key(0))
    return (lambda module: named("equinox.error_if")(module, jnp.isnan(module.weight), "not a number")), (layer,)


def _branched() -> Callable:
    branched = named("equinox.branched_error_if")
    return lambda x, index: branched(x, index < 0, index, ["first", "second"])


def _newton(kind: str, **options: object) -> Callable:
    """Return the square root of a, by a while loop whose trip count depends on the values."""
    loop = named("equinox.internal.while_loop")

    def root(start: jax.Array, a: jax.Array) -> jax.Array:
        def unfinished(carry: tuple) -> jax.Array:
            return jnp.any(jnp.abs(carry[1] ** 2 - carry[2]) > 1e-3) & (carry[0] < 12)

        def step(carry: tuple) -> tuple:
            count, y, target = carry
            return count + 1, 0.5 * (y + target / y), target

        return loop(unfinished, step, (0, start, a), max_steps=16, kind=kind, **options)[1]

    return root


def _buffered() -> Callable:
    loop = named("equinox.internal.while_loop")

    def powers(x: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(carry: tuple) -> tuple:
            i, y, saved = carry
            y = jnp.sin(y) * rate
            return i + 1, y, saved.at[i].set(y)

        init = (0, x, jnp.zeros((7, *x.shape), x.dtype))
        _, y, saved = loop(
            lambda carry: carry[0] < 5, step, init, max_steps=7, buffers=lambda carry: carry[2],
            kind="checkpointed", checkpoints=2,
        )  # fmt: skip
        return y, saved

    return powers


def _scanned(kind: str) -> Callable:
    scan = named("equinox.internal.scan")

    def recurrence(weight: jax.Array, state: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            carry = jnp.tanh(weight @ carry + x)
            return carry, carry[:2]

        return scan(step, state, inputs, kind=kind)

    return recurrence


CALLS = (
    Call("equinox", _ERROR, lambda: (_checked(lambda x: jnp.any(x < 0)), (uniform(1, (4, 3)),))),
    Call("equinox", _ERROR, lambda: (_checked(lambda x: x.sum() > 1e6), (normal(2, (5,)),))),
    Call("equinox", _ERROR, _checked_layer),
    Call("equinox", _ERROR, lambda: (_branched(), ((normal(3, (2, 3)), normal(4, (4,))), jnp.asarray(1)))),
    Call(
        "equinox", _ERROR,
        lambda: (lambda x, bad: named("equinox.error_if")(x, bad, "never", on_error="nan"),
                 (normal(5, (6,)), jnp.asarray(False))),
    ),
    Call("equinox", _NAN, lambda: (named("equinox.debug.backward_nan"), (normal(6, (3, 4)),))),
    Call(
        "equinox", _NAN,
        lambda: (lambda tree: named("equinox.debug.backward_nan")(tree, name="hidden", terminate=False),
                 ((normal(7, (5,)), normal(8, (2, 2))),)),
    ),
    Call("equinox", "equinox.internal.nextafter", lambda: (named("equinox.internal.nextafter"), (normal(9, (6,)),))),
    Call(
        "equinox", "equinox.internal.prevbefore", lambda: (named("equinox.internal.prevbefore"), (normal(10, (2, 5)),)),
    ),
    Call(
        "equinox", "equinox.internal.prevbefore",
        lambda: (named("equinox.internal.prevbefore"), (jnp.asarray([0.0, 1.0, -2.5]),)),
        why="At 0 the value is the smallest normal number, which is 0 up to rounding.",
    ),
    Call(
        "equinox", "equinox.internal.nondifferentiable_backward",
        lambda: (named("equinox.internal.nondifferentiable_backward"), (normal(11, (3, 2)),)), mode="jvp",
        options={"mode": "forward"},
    ),
    Call(
        "equinox", "equinox.debug.announce_transform",
        lambda: (lambda x: named("equinox.debug.announce_transform")(x, announce=lambda _: None), (normal(12, (4,)),)),
    ),
    Call(
        "equinox", "equinox.internal.noinline",
        lambda: (named("equinox.internal.noinline")(lambda a, b: jnp.sin(a) @ b),
                 (normal(13, (3, 4)), normal(14, (4, 2)))),
    ),
    Call(
        "equinox", _LOOP, lambda: (_newton("checkpointed"), (uniform(15, (5,), 1.0, 2.0), uniform(16, (5,), 2.0, 3.0))),
        float64=True, why="The loop is differentiated as run: the start matters where it stops early.",
    ),
    Call(
        "equinox", _LOOP,
        lambda: (_newton("checkpointed", checkpoints=3), (uniform(17, (3,), 8.0, 9.0), uniform(18, (3,), 2.0, 3.0))),
        float64=True,
    ),
    Call("equinox", _LOOP, lambda: (_buffered(), (normal(19, (4,)), uniform(20, (), 0.5, 1.5)))),
    Call(
        "equinox", _LOOP,
        lambda: (_scanned("checkpointed"), (normal(21, (3, 3), scale=0.5), normal(22, (3,)), normal(23, (6, 3)))),
    ),
)  # fmt: skip
