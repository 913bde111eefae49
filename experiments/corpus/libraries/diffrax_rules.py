"""Calls of diffrax's rules: adjoints of differential equations, continuous, implicit and checkpointed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import named, normal, uniform

__all__ = ["CALLS"]

_BACKSOLVE = "diffrax._adjoint._loop_backsolve"
_IMPLICIT = "diffrax.ImplicitAdjoint"
_CHECKPOINTED = "diffrax.RecursiveCheckpointAdjoint"
_TOLERANCE = "Right up to the tolerance of the two solves: the rule solves the adjoint equation backwards in time."
_COARSE = (
    "diffrax/_adjoint.py:654 solves the continuous adjoint equation anew, which is the derivative of the exact flow "
    "and not of these few steps; the docstring of BacksolveAdjoint says that its gradients are approximate."
)
_TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def _swing(t: jax.Array, y: jax.Array, args: tuple) -> jax.Array:
    damping, drive = args
    return jnp.stack([y[1], -jnp.sin(y[0]) - damping * y[1] + drive * jnp.cos(t)])


def _mixing(t: jax.Array, y: dict, args: jax.Array) -> dict:
    total = y["u"].sum() + y["v"]
    return {"u": jnp.tanh(args @ y["u"]) - 0.1 * total, "v": -y["v"] + t * y["u"].mean()}


def _relaxing(t: jax.Array, y: jax.Array, args: tuple) -> jax.Array:
    matrix, level = args
    return jnp.tanh(matrix @ y) + level - 2.0 * y


def _flow(
    field: Callable, adjoint: str, solver: str = "Tsit5", t1: float = 1.0, dt0: float | None = None, saved: Any = None,
    coarse: bool = False, **options: Any,
) -> Callable:  # fmt: skip
    """Return ``(y0, args) -> ys`` of an initial value problem."""
    dfx = named("diffrax")
    controller = dfx.ConstantStepSize() if coarse else dfx.PIDController(**_TIGHT)
    saveat = dfx.SaveAt(t1=True) if saved is None else dfx.SaveAt(**saved)
    chosen = getattr(dfx, adjoint)(**options)

    def solve(y0: Any, args: Any) -> Any:
        term = dfx.ODETerm(field)
        return dfx.diffeqsolve(
            term, getattr(dfx, solver)(), 0.0, t1, dt0, y0, args, saveat=saveat, stepsize_controller=controller,
            adjoint=chosen, max_steps=4096,
        ).ys  # fmt: skip

    return jax.jit(solve)


def _steady() -> tuple[Callable, tuple]:
    dfx = named("diffrax")

    def solve(args: tuple) -> jax.Array:
        event = dfx.Event(dfx.steady_state_event(rtol=1e-8, atol=1e-8))
        return dfx.diffeqsolve(
            dfx.ODETerm(_relaxing), dfx.Tsit5(), 0.0, jnp.inf, 0.1, jnp.zeros(4), args, event=event,
            stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10), adjoint=dfx.ImplicitAdjoint(),
        ).ys[0]  # fmt: skip

    return jax.jit(solve), ((normal(1, (4, 4), scale=0.4), normal(2, (4,))),)


def _transient() -> tuple[Callable, tuple]:
    """An implicit adjoint at a time when the state still moves."""
    dfx = named("diffrax")

    def solve(args: tuple) -> jax.Array:
        return dfx.diffeqsolve(
            dfx.ODETerm(_relaxing), dfx.Tsit5(), 0.0, 0.3, 0.05, jnp.ones(3), args, adjoint=dfx.ImplicitAdjoint()
        ).ys[0]

    return jax.jit(solve), ((normal(3, (3, 3), scale=0.4), normal(4, (3,))),)


def _module() -> tuple[Callable, tuple]:
    """A neural differential equation, whose parameters are the vector field itself."""
    dfx, nn = named("diffrax"), named("equinox.nn")
    network = nn.MLP(2, 2, 3, 1, activation=jnp.tanh, key=jax.random.key(0))
    eqx = named("equinox")
    arrays, rest = eqx.partition(network, eqx.is_array)

    def solve(parameters: Any, y0: jax.Array) -> jax.Array:
        field = eqx.combine(parameters, rest)
        return dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, args: args(y)), dfx.Dopri5(), 0.0, 1.0, None, y0, field,
            stepsize_controller=dfx.PIDController(**_TIGHT), adjoint=dfx.BacksolveAdjoint(), max_steps=512,
        ).ys  # fmt: skip

    return jax.jit(solve), (arrays, normal(5, (2,)))


def _noisy() -> tuple[Callable, tuple]:
    dfx = named("diffrax")

    def solve(y0: jax.Array, args: tuple) -> jax.Array:
        path = dfx.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(2,), key=jax.random.key(1))
        terms = dfx.MultiTerm(
            dfx.ODETerm(lambda t, y, p: -p[0] * y),
            dfx.ControlTerm(lambda t, y, p: jnp.outer(jnp.sin(y), p[1]), path),
        )
        return dfx.diffeqsolve(terms, dfx.Heun(), 0.0, 1.0, 0.1, y0, args).ys

    return jax.jit(solve), (normal(6, (3,)), (jnp.asarray(0.7), normal(7, (2,))))


def _pendulum(seed: int) -> tuple:
    return normal(seed, (2,)), (jnp.asarray(0.3), jnp.asarray(0.8))


def _mixture(seed: int) -> tuple:
    return {"u": normal(seed, (3,)), "v": normal(seed + 1, ())}, normal(seed + 2, (3, 3), scale=0.5)


CALLS = (
    Call(
        "diffrax", _BACKSOLVE, lambda: (_flow(_swing, "BacksolveAdjoint"), _pendulum(10)), float64=True, why=_TOLERANCE,
    ),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_mixing, "BacksolveAdjoint", "Dopri8", saved={"ts": (0.3, 0.7, 1.0)}), _mixture(11)),
        float64=True, why=_TOLERANCE,
    ),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_mixing, "BacksolveAdjoint", saved={"t0": True, "t1": True}), _mixture(14)),
        float64=True, why=_TOLERANCE,
    ),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_swing, "BacksolveAdjoint", t1=-0.7, saved={"t0": True, "ts": (-0.2, -0.5)}), _pendulum(17)),
        float64=True, why=_TOLERANCE,
    ),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_swing, "BacksolveAdjoint", saved={"t0": True}), _pendulum(18)), float64=True,
        why="Only the start is saved, which the rule treats apart.",
    ),
    Call("diffrax", _BACKSOLVE, _module, float64=True, why=_TOLERANCE),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_swing, "BacksolveAdjoint", "Euler", t1=2.0, dt0=0.25, coarse=True), _pendulum(19)),
        truth="wrong", meant="other", float64=True, why=_COARSE,
    ),
    Call(
        "diffrax", _BACKSOLVE,
        lambda: (_flow(_mixing, "BacksolveAdjoint", "Heun", dt0=0.5, coarse=True), _mixture(20)),
        truth="wrong", meant="other", float64=True, why=_COARSE,
    ),
    Call("diffrax", _IMPLICIT, _steady, float64=True,
         why="Right up to the tolerance of the steady state: the rule is the derivative of the exact one."),
    Call("diffrax", _IMPLICIT, _transient, truth="wrong", meant="other", float64=True,
         why="The state at 0.3 is not steady, but diffrax/_adjoint.py:510 differentiates the root of the vector field; "
         "the docstring asks for a steady state."),
    Call("diffrax", _CHECKPOINTED, lambda: (_flow(_swing, "RecursiveCheckpointAdjoint"), _pendulum(23)), float64=True),
    Call(
        "diffrax", _CHECKPOINTED,
        lambda: (
            _flow(_mixing, "RecursiveCheckpointAdjoint", "Euler", dt0=0.2, coarse=True, checkpoints=2,
                  saved={"ts": (0.1, 0.45, 0.9)}),
            _mixture(24),
        ),
        float64=True,
    ),
    Call(
        "diffrax", _CHECKPOINTED,
        lambda: (_flow(_relaxing, "RecursiveCheckpointAdjoint", "Kvaerno3", dt0=0.2),
                 (normal(27, (3,)), (normal(28, (3, 3)), uniform(29, (3,))))),
        float64=True, why="Right up to the tolerance of the implicit solver's root-finder and of its steps.",
    ),
    Call("diffrax", _CHECKPOINTED, _noisy, float64=True),
)  # fmt: skip
