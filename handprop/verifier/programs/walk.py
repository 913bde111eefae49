"""A program run equation by equation: calls and loops are walked into."""

import contextlib
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend import core

from handprop._compat import closed, equations, is_mutable
from handprop.verifier.programs.executables import applied, array, run_once
from handprop.verifier.programs.jaxprs import (
    RULE_CALLS,
    as_written,
    called,
    is_float,
    is_iteration,
    kernel_program,
    narrower,
    of_jax,
    scan_counts,
    widened_literals,
)
from handprop.verifier.proof.field import literals
from handprop.verifier.proof.field.layout import LAYOUT

__all__ = ["ENDLESS", "MAX_IN_SERIES", "SERIES", "bound", "once", "run", "strip_rules"]

PRINTS = ("debug_callback", "debug_print")
ENDLESS = np.uint64(0x7FF80000000E2D1E).view(np.float64)  # the NaN of a loop that was cut, told apart by its bits
MAX_TURNS = 100_000  # of a loop that depends on data; of one with more than 40 equations, or so many entries, fewer

ENTRIES_A_TURN, FEW_TURNS = 1 << 12, 1000

SERIES = {"igamma", "igammac", "igamma_grad_a", "random_gamma", "random_gamma_grad", "regularized_incomplete_beta"}
MAX_IN_SERIES = 1e8  # beyond it XLA's loops over their terms may not end
MOVED = {"slice", "squeeze", "transpose", "reshape", "rev"}

Leaf = Callable[[Any, list[Any]], list[Any]]

Loop = Callable[..., Any]


def _as_rounded(eqn: Any, values: list[Any], read: dict[str, tuple[float, ...]]) -> list[Any]:
    """The operands, but what the equation makes wider: of that a literal is the number it was rounded to."""

    def rounded(x: Any, dtype: str) -> Any:
        for literal in read.get(dtype, ()):
            as_read = literals.read(literal, dtype).to_float()  # pyright: ignore[reportOptionalMemberAccess]
            x = jnp.where(abs(x) == as_read, jnp.sign(x) * literal, x)
        return x

    return [rounded(x, str(v.aval.dtype)) if less else x
            for x, v, less in zip(values, eqn.invars, narrower(eqn), strict=True)]  # fmt: skip


def run(program: Any, inputs: Sequence[Any], leaf: "Leaf | None" = None,
        trusted: "Callable[[Any], bool]" = lambda eqn: False,
        constant: Callable = jnp.asarray, unrolled: bool = False,
        around: Callable = contextlib.nullcontext, ends: bool = False, more: bool = False,
        loop: "Loop | None" = None) -> list[Any]:  # fmt: skip
    """The program's outputs, ``leaf(eqn, values)`` in place of each primitive; calls and loops are walked into,
    each equation within ``around(eqn)``; what only prints is left out. Where ``constant`` is :func:`as_written`, a
    literal that is made wider is the number it was rounded to.

    Custom rules are replaced by their primal programs, except those that are ``trusted``. ``unrolled``: every turn of a
    scan on its own, one after the other. ``ends``: a loop that depends on data is cut after a counted number of turns.
    ``more``: what iterates makes one turn more. ``loop(key, f, *args)`` runs a loop: of one key all do the same.
    """

    read, loop = widened_literals(program) if leaf and constant is as_written else {}, loop or once

    def walk(program: Any, inputs: Sequence[Any]) -> list[Any]:
        jaxpr = program.jaxpr
        env = dict(zip(jaxpr.constvars, (constant(c) for c in program.consts), strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def value_of(atom: Any) -> Any:
            if not isinstance(atom, core.Literal):
                return env[atom]
            return constant(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))

        for eqn in jaxpr.eqns:
            with around(eqn):
                outputs = step(eqn, [value_of(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def step(eqn: Any, values: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name in RULE_CALLS:
            return bound(eqn, values) if leaf is None and trusted(eqn) else walk(called(eqn), values)
        if name == "scan":
            return _scan(walk, params, values, unrolled, more and is_iteration(eqn), loop)
        if name == "while":
            return _while(walk, params, values, ends, more, loop)
        if name in PRINTS and not eqn.outvars:
            return []
        if name == "cond":
            bodies = [closed(branch) for branch in params["branches"]]
            if not isinstance(values[0], Tracer):  # to call JAX's switch would compile every branch
                return walk(bodies[int(np.clip(int(values[0]), 0, len(bodies) - 1))], values[1:])
            branches = [partial(lambda body, *xs: walk(body, xs), body) for body in bodies]
            return lax.switch(values[0].astype(jnp.int32), branches, *values[1:])
        if name == "pallas_call":
            return walk(kernel_program(eqn), values)
        if name not in ("custom_linear_solve", "scan") and called(eqn) is not None:
            return walk(called(eqn), values)
        if any(read.values()):
            values = _as_rounded(eqn, values, read)
        return leaf(eqn, values) if leaf else bound(eqn, values)

    return walk(program, list(inputs))


def once(key: tuple, f: Callable, *args: Any) -> Any:
    return run_once(f, *args)


def bound(eqn: Any, values: list[Any], **changed: Any) -> list[Any]:
    """The equation's own primitive on these values; what only moves entries of numbers is moved by NumPy, as a program
    of XLA's for each slice takes long to compile."""
    if eqn.primitive.name in MOVED and not changed and not _is_traced_or_key(values[0]):
        moved = LAYOUT[eqn.primitive.name](None, [np.asarray(values[0])], eqn.params, eqn)  # pyright: ignore[reportArgumentType]
        return [array(out) for out in moved]
    if eqn.primitive.name in SERIES:
        return _of_moderate_numbers(eqn, values, changed)
    return _bound(eqn, values, changed)


def _bound(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    # No executable takes or returns an array that is written to.
    mutable = any(is_mutable(getattr(v, "aval", None)) for v in (*eqn.invars, *eqn.outvars))
    run = eqn.primitive.bind if mutable else partial(applied, eqn.primitive.bind)
    out = run(*values, **eqn.primitive.get_bind_params({**eqn.params, **changed}))
    return list(out) if eqn.primitive.multiple_results else [out]


def _of_moderate_numbers(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    """The NaN of a loop that was cut where an operand is so large that the primitive may not end."""
    floats = [x for x in values if is_float(x.dtype)]
    small = reduce(operator.and_, (abs(x) <= MAX_IN_SERIES for x in floats))
    moderate = [jnp.where(small, x, jnp.ones_like(x)) if is_float(x.dtype) else x for x in values]
    return [jnp.where(small, out, ENDLESS) for out in _bound(eqn, moderate, changed)]


def _is_traced_or_key(x: Any) -> bool:
    return isinstance(x, Tracer) or jnp.issubdtype(x.dtype, jax.dtypes.extended)


def _scan(walk: Callable, params: dict, values: list[Any], unrolled: bool, more: bool, loop: "Loop") -> list[Any]:
    n_consts, n_carry = scan_counts(params)
    body, consts = closed(params["jaxpr"]), values[:n_consts]

    def f(consts: list[Any], carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = walk(body, [*consts, *carry, *x])
        return out[:n_carry], out[n_carry:]

    carry, xs = values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    length, reverse = params["length"], params["reverse"]

    def scanned(consts: list[Any], carry: list[Any], xs: list[Any]) -> Any:
        return lax.scan(partial(f, consts), carry, xs, length=length, reverse=reverse)

    if not unrolled or not length:
        carry, ys = loop((params["jaxpr"], length, reverse), scanned, consts, carry, xs)
        return f(consts, carry, [])[0] if more else [*carry, *ys]
    rows: dict[int, list[Any]] = {}
    for i in reversed(range(length)) if reverse else range(length):
        carry, rows[i] = f(consts, carry, [x[i] for x in xs])
    return [*carry, *(jnp.stack(row) for row in zip(*(rows[i] for i in range(length)), strict=True))]


def _while(walk: Callable, params: dict, values: list[Any], ends: bool, more: bool, loop: "Loop") -> list[Any]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    consts, state = (values[:n_cond], values[n_cond : n_cond + n_body]), values[n_cond + n_body :]

    def turned(consts: Any, s: list[Any]) -> list[Any]:
        after, go = walk(body, [*consts[1], *s]), walk(cond, [*consts[0], *s])[0]
        if not go.ndim:
            return after
        # A loop that was batched: each of the batch stops when its own condition says so.
        return [
            jnp.where(go.reshape(go.shape + (1,) * (a.ndim - go.ndim)), a, b) for a, b in zip(after, s, strict=True)
        ]

    def goes_on(consts: Any, s: list[Any]) -> Any:
        return walk(cond, [*consts[0], *s])[0].any()

    def all_turns(consts: Any, state: list[Any]) -> list[Any]:
        return lax.while_loop(partial(goes_on, consts), partial(turned, consts), state)

    key = params["cond_jaxpr"], params["body_jaxpr"], ends
    if not ends:
        return loop(key, all_turns, consts, state)
    entries = sum(math.prod(x.shape) for x in state if hasattr(x, "shape"))
    most = max(MAX_TURNS // max(len(list(equations(body))) // 40, entries // ENTRIES_A_TURN, 1), FEW_TURNS)

    def counted(consts: Any, state: list[Any]) -> list[Any]:
        return lax.while_loop(lambda s: (s[0] < most) & goes_on(consts, s[1:]),
                              lambda s: [s[0] + 1, *turned(consts, s[1:])], state)  # fmt: skip

    turn, *state = loop(key, counted, consts, [array(np.int32(0)), *state])
    cut = (turn >= most) & goes_on(consts, state)
    state = turned(consts, state) if more else state
    return [jnp.where(cut, ENDLESS, x) if is_float(x.dtype) else x for x in state]


def strip_rules(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` on flat arrays with every custom rule replaced by its primal program, JAX's own rules kept."""

    def stripped(*inputs: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*inputs)
        return jax.tree.unflatten(jax.tree.structure(shape), run(program, inputs, trusted=of_jax))

    return stripped
