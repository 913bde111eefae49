"""Running a program on numbers, equation by equation."""

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

from handprop._compat import equations, is_mutable
from handprop.verifier.programs import literals
from handprop.verifier.programs.executables import applied, array, run_once
from handprop.verifier.programs.jaxprs import (
    as_written,
    is_float,
    is_iteration,
    is_key,
    narrower,
    of_jax,
    scan_parts,
    while_parts,
    widened_literals,
)
from handprop.verifier.programs.moves import VIEWS
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.programs.walk import Walk, taken

__all__ = ["ENDLESS", "MAX_IN_SERIES", "bind", "once", "run", "strip_rules"]

ENDLESS = np.uint64(0x7FF80000000E2D1E).view(np.float64)  # the NaN of a loop that was cut, identified by its bits
MAX_TURNS = 100_000  # for a data-dependent loop; fewer if it has more than 40 equations or many entries
ENTRIES_A_TURN, FEW_TURNS = 1 << 12, 1000
MAX_IN_SERIES = 1e8  # above it, XLA's loops over the terms of a series may not end

Leaf = Callable[[Any, list[Any]], list[Any]]
Loop = Callable[..., Any]


def run(program: Any, inputs: Sequence[Any], leaf: "Leaf | None" = None,
        trusted: "Callable[[Any], bool]" = lambda eqn: False,
        constant: Callable = jnp.asarray, unrolled: bool = False,
        around: Callable = contextlib.nullcontext, cut_loops: bool = False, extra_turn: bool = False,
        loop: "Loop | None" = None) -> list[Any]:  # fmt: skip
    """The program's outputs, with ``leaf(eqn, values)`` in place of each primitive.

    Calls and loops are walked through, each equation within ``around(eqn)``, and equations that only print are left
    out. If ``constant`` is :func:`as_written`, a literal that is widened is the number that it was rounded to.

    Custom rules are replaced by their primal programs, except those that are ``trusted``. ``unrolled``: the iterations
    of a scan run one by one. ``cut_loops``: data-dependent loops are cut after a fixed number of iterations.
    ``extra_turn``: iterations toward a fixed point take one more step. ``loop(key, f, *args)`` runs a loop; loops with
    the same key do the same.
    """
    read = widened_literals(program) if leaf and constant is as_written else {}
    return _Numbers(leaf, trusted, constant, unrolled, around, cut_loops, extra_turn, loop or once, read).evaluate(
        program, inputs
    )


class _Numbers(Walk):
    """The interpretation whose values are arrays, which may be traced."""

    def __init__(self, leaf: "Leaf | None", trusted: Callable[[Any], bool], made: Callable, unrolled: bool,
                 context: Callable, cut_loops: bool, extra_turn: bool, loop: "Loop",
                 read: dict[str, tuple[float, ...]]):  # fmt: skip
        self.leaf, self.trusted, self.made, self.unrolled = leaf, trusted, made, unrolled
        self.context, self.cut_loops, self.extra_turn, self.loop = context, cut_loops, extra_turn, loop
        self.read = {dtype: numbers for dtype, numbers in read.items() if numbers}

    def constant(self, const: Any) -> Any:
        return self.made(const)

    def around(self, eqn: Any, operands: list[Any]) -> list[Any]:
        with self.context(eqn):
            return self.step(eqn, operands)

    def primitive(self, eqn: Any, operands: list[Any]) -> list[Any]:
        values = self._as_rounded(eqn, operands) if self.read else operands
        return self.leaf(eqn, values) if self.leaf else bind(eqn, values)

    def linear_solve(self, eqn: Any, operands: list[Any]) -> list[Any]:
        return self.primitive(eqn, operands)

    def custom_rule(self, eqn: Any, primal: Any, operands: list[Any]) -> list[Any]:
        if self.trusted(eqn):
            return bind(eqn, operands)
        return self.evaluate(primal, operands)

    def cond(self, eqn: Any, branches: Sequence[Any], which: Any, operands: list[Any]) -> list[Any]:
        if not isinstance(which, Tracer):  # JAX's switch would compile every branch
            return self.evaluate(taken(branches, int(which)), operands)
        cases = [partial(lambda branch, *xs: self.evaluate(branch, xs), branch) for branch in branches]
        return lax.switch(which.astype(jnp.int32), cases, *operands)

    def entry(self, x: Any, i: int) -> Any:
        return x[i]

    def stacked(self, eqn: Any, rows: list[list[Any]]) -> list[Any]:
        return [jnp.stack(row) for row in zip(*rows, strict=True)]

    def scan(self, eqn: Any, body: Any, operands: list[Any], most: int | None = None) -> list[Any]:
        length, reverse = eqn.params["length"], eqn.params["reverse"]
        if self.unrolled and length:
            return super().scan(eqn, body, operands)
        consts, carry, xs = scan_parts(eqn.params, operands)
        n_carry = len(carry)

        def f(consts: list[Any], carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
            out = self.evaluate(body, [*consts, *carry, *x])
            return out[:n_carry], out[n_carry:]

        def scanned(consts: list[Any], carry: list[Any], xs: list[Any]) -> Any:
            return lax.scan(partial(f, consts), carry, xs, length=length, reverse=reverse)

        carry, ys = self.loop((eqn.params["jaxpr"], length, reverse), scanned, consts, carry, xs)
        return f(consts, carry, [])[0] if self.extra_turn and is_iteration(eqn) else [*carry, *ys]

    def while_loop(self, eqn: Any, cond: Any, body: Any, operands: list[Any]) -> list[Any]:
        *consts, state = while_parts(eqn.params, operands)

        def turned(consts: Any, s: list[Any]) -> list[Any]:
            after, go = self.evaluate(body, [*consts[1], *s]), self.evaluate(cond, [*consts[0], *s])[0]
            if not go.ndim:
                return after
            # In a batched loop, each example stops when its own condition says so.
            return [
                jnp.where(go.reshape(go.shape + (1,) * (a.ndim - go.ndim)), a, b) for a, b in zip(after, s, strict=True)
            ]

        def goes_on(consts: Any, s: list[Any]) -> Any:
            return self.evaluate(cond, [*consts[0], *s])[0].any()

        def all_turns(consts: Any, state: list[Any]) -> list[Any]:
            return lax.while_loop(partial(goes_on, consts), partial(turned, consts), state)

        key = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"], self.cut_loops
        if not self.cut_loops:
            return self.loop(key, all_turns, consts, state)
        most = _most_turns(body, state)

        def counted(consts: Any, state: list[Any]) -> list[Any]:
            return lax.while_loop(lambda s: (s[0] < most) & goes_on(consts, s[1:]),
                                  lambda s: [s[0] + 1, *turned(consts, s[1:])], state)  # fmt: skip

        turn, *state = self.loop(key, counted, consts, [array(np.int32(0)), *state])
        cut = (turn >= most) & goes_on(consts, state)
        state = turned(consts, state) if self.extra_turn else state
        return [jnp.where(cut, ENDLESS, x) if is_float(x.dtype) else x for x in state]

    def _as_rounded(self, eqn: Any, values: list[Any]) -> list[Any]:
        """The operands, in which a literal that the equation widens is the number that it was rounded to."""

        def rounded(x: Any, dtype: str) -> Any:
            for literal in self.read.get(dtype, ()):
                as_read = literals.read(literal, dtype).to_float()  # pyright: ignore[reportOptionalMemberAccess]
                x = jnp.where(abs(x) == as_read, jnp.sign(x) * literal, x)
            return x

        return [rounded(x, str(v.aval.dtype)) if less else x
                for x, v, less in zip(values, eqn.invars, narrower(eqn), strict=True)]  # fmt: skip


def _most_turns(body: Any, state: list[Any]) -> int:
    """The number of iterations after which a data-dependent loop is cut."""
    entries = sum(math.prod(x.shape) for x in state if hasattr(x, "shape"))
    return max(MAX_TURNS // max(len(list(equations(body))) // 40, entries // ENTRIES_A_TURN, 1), FEW_TURNS)


def once(key: tuple, f: Callable, *args: Any) -> Any:
    return run_once(f, *args)


def bind(eqn: Any, values: list[Any], **changed: Any) -> list[Any]:
    """Apply the equation's primitive to these values. If it only moves entries of numbers, NumPy moves them, because
    XLA takes long to compile a program for each slice."""
    if has(eqn, Trait.VIEW) and not changed and not _is_traced_or_key(values[0]):
        return [array(VIEWS[eqn.primitive.name](np.asarray(values[0]), eqn.params))]
    if has(eqn, Trait.SERIES):
        return _of_moderate_numbers(eqn, values, changed)
    return _bind(eqn, values, changed)


def _bind(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    # Executables neither take nor return mutable arrays.
    mutable = any(is_mutable(getattr(v, "aval", None)) for v in (*eqn.invars, *eqn.outvars))
    run = eqn.primitive.bind if mutable else partial(applied, eqn.primitive.bind)
    return _called(eqn, run, values, changed)


def _called(eqn: Any, run: Callable, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    out = run(*values, **eqn.primitive.get_bind_params({**eqn.params, **changed}))
    return list(out) if eqn.primitive.multiple_results else [out]


def _of_moderate_numbers(eqn: Any, values: list[Any], changed: dict[str, Any]) -> list[Any]:
    """Apply the primitive, but return ``ENDLESS`` where an operand is so large that the primitive may not end."""
    floats = [x for x in values if is_float(x.dtype)]
    small = reduce(operator.and_, (abs(x) <= MAX_IN_SERIES for x in floats))
    moderate = [jnp.where(small, x, jnp.ones_like(x)) if is_float(x.dtype) else x for x in values]
    return [jnp.where(small, out, ENDLESS) for out in _bind(eqn, moderate, changed)]


def _is_traced_or_key(x: Any) -> bool:
    return isinstance(x, Tracer) or is_key(x)


def strip_rules(f: Callable[..., Any], of_jax_too: bool = False) -> Callable[..., Any]:
    """``f`` on flat arrays, with every custom rule replaced by its primal program, except JAX's own unless asked."""
    trusted = (lambda eqn: False) if of_jax_too else of_jax

    def stripped(*inputs: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*inputs)
        if any(isinstance(x, Tracer) for x in inputs):
            outputs = run(program, inputs, _staged, trusted=trusted, loop=lambda key, f, *args: f(*args))
        else:
            outputs = run(program, inputs, trusted=trusted)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return stripped


def _staged(eqn: Any, values: list[Any]) -> list[Any]:
    """The equation in the program that is traced. Equations of constants are staged too, as JAX stages them: computed
    here, they would be numbers that are rounded, in one of two programs that compute the same."""
    return _called(eqn, eqn.primitive.bind, values, {})
