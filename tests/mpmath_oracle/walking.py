"""A program's equations one after the other: calls are walked into, loops are run turn by turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from handprop._compat import closed
from mpmath_oracle import elementwise, indexing, movement, products, reducing, scalars
from mpmath_oracle.values import as_floats, constant, each, is_float, is_key

__all__ = ["RULES", "Walk"]

CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call",
         "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")  # fmt: skip


class Step(NamedTuple):
    """One equation, and what walks through the programs inside it."""

    eqn: Any
    walk: "Walk"

    @property
    def params(self) -> Mapping[str, Any]:
        return self.eqn.params

    @property
    def out(self) -> list[Any]:
        """Shapes and dtypes of what it returns."""
        return [var.aval for var in self.eqn.outvars]

    closed = staticmethod(closed)

    def program(self, *names: str) -> Any:
        """The program that the first of these parameters holds."""
        return closed(next(self.params[name] for name in names if name in self.params))


class Walk:
    """``walk(program, inputs)`` are the outputs; the rest as :func:`mpmath_oracle.evaluate` has it."""

    def __init__(self, readings: Mapping[float, Any], doubts: list[str] | None = None):
        self.readings, self.doubts = readings, doubts

    def __call__(self, program: Any, inputs: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = {}
        for var, const in zip(program.jaxpr.constvars, program.consts, strict=True):
            env[var] = constant(const, self.readings)
        for var, value in zip(program.jaxpr.invars, inputs, strict=True):
            env[var] = own_kind(value, var.aval.dtype)

        def value_of(atom: Any) -> Any:
            return self.literal(atom) if isinstance(atom, core.Literal) else env[atom]

        for eqn in program.jaxpr.eqns:
            outputs = self.step(eqn, [value_of(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [value_of(atom) for atom in program.jaxpr.outvars]

    def literal(self, atom: Any) -> Any:
        return constant(atom.val, self.readings, getattr(atom.aval, "dtype", None))

    def step(self, eqn: Any, values: list[Any]) -> list[Any]:
        """What one equation returns."""
        name = eqn.primitive.name
        if name in RULES:
            out = RULES[name](Step(eqn, self), *values)
            return list(out) if isinstance(out, list | tuple) else [out]
        avals = [var.aval for var in (*eqn.invars, *eqn.outvars)]
        if not all(is_key(aval) or aval.dtype.kind in "iub" for aval in avals):
            raise NotImplementedError(f"the oracle has no rule for the primitive {name}")
        return bound(eqn, values)


def own_kind(value: Any, dtype: Any) -> Any:
    """An input as the walk keeps it."""
    if is_key(value):
        return value
    if not is_float(dtype):
        return np.asarray(value, dtype)
    return value if isinstance(value, np.ndarray) and value.dtype == object else as_floats(value)


def bound(eqn: Any, values: list[Any]) -> list[Any]:
    """A primitive of integers and keys alone, run by JAX itself: nothing is rounded in it."""
    with jax.enable_x64(True):  # pyright: ignore[reportAttributeAccessIssue]
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    parts = list(out) if eqn.primitive.multiple_results else [out]
    return [part if is_key(part) else np.asarray(part) for part in parts]


def call(step: Step, *values: Any) -> list[Any]:
    """The called program's outputs; JAX's ``exp(-x^2)``, which since 0.12 takes the bits of x apart, is exact."""
    program = step.program("call_jaxpr", "jaxpr", "fun_jaxpr")
    if str(getattr(program.jaxpr.debug_info, "func_src_info", "")).startswith("exp_neg_sq "):
        return [each(lambda x: scalars.FUNCTIONS["exp"](-x * x), values[0])]
    return step.walk(program, values)


def cond(step: Step, which: np.ndarray, *values: Any) -> list[Any]:
    branches = step.params["branches"]
    return step.walk(closed(branches[min(max(int(which), 0), len(branches) - 1)]), values)


def counts_of_scan(params: Mapping[str, Any]) -> tuple[int, int]:
    """Numbers of constants and carries: parameters until jax 0.11, then the lengths of a tree's parts."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return consts, carry


def scan(step: Step, *values: Any) -> list[Any]:
    n_consts, n_carry = counts_of_scan(step.params)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    length, body = step.params["length"], step.program("jaxpr")
    ys = [np.empty(aval.shape, object if is_float(aval.dtype) else aval.dtype) for aval in step.out[n_carry:]]
    for i in reversed(range(length)) if step.params["reverse"] else range(length):
        out = step.walk(body, [*consts, *carry, *(np.asarray(x[i], x.dtype) for x in xs)])
        carry = out[:n_carry]
        for stacked, row in zip(ys, out[n_carry:], strict=True):
            stacked[i] = row[()] if row.ndim == 0 else row
    return [*carry, *ys]


def while_loop(step: Step, *values: Any) -> list[Any]:
    params = step.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    for_cond, for_body, state = values[:n_cond], values[n_cond : n_cond + n_body], list(values[n_cond + n_body :])
    while True:
        going = step.walk(step.program("cond_jaxpr"), [*for_cond, *state])[0]
        if not going.any():
            return state
        after = step.walk(step.program("body_jaxpr"), [*for_body, *state])
        state = [kept_where_done(going, a, b) for a, b in zip(after, state, strict=True)]


def kept_where_done(going: np.ndarray, after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """A loop that was batched: each of the batch stops when its own condition says so."""
    if not going.ndim:
        return after
    mask = going.reshape(going.shape + (1,) * (after.ndim - going.ndim))
    return np.asarray(np.where(mask, after, before), after.dtype)


RULES: dict[str, Callable[..., Any]] = {
    **elementwise.RULES,
    **movement.RULES,
    **indexing.RULES,
    **reducing.RULES,
    **products.RULES,
    **dict.fromkeys(CALLS, call),
    "cond": cond,
    "scan": scan,
    "while": while_loop,
}
