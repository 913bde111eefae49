"""Structural faults of a rule: what its parts return, seen where JAX calls them."""

import enum
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.custom_derivatives import CustomVJPPrimal

from handprop.verifier.arguments import CONCRETE
from handprop.verifier.complex_numbers import split
from handprop.verifier.internal import call_users, first_line, noted, said
from handprop.verifier.programs import jaxprs
from handprop.verifier.rules import name_of, parts_of

__all__ = ["Fault", "How", "leaf_faults", "rule_faults"]


class How(enum.Enum):
    """How a structural fault shows."""

    RETURNED = "in what is returned"
    RAISED = "an error is raised"
    NOT_LINEAR = "is not linear in its tangents"


class Fault(NamedTuple):
    """A structural fault that was found while the problem was built, without any arithmetic."""

    path: str
    what: str
    how: How = How.RETURNED


class Call(NamedTuple):
    """One call of a differentiated rule: its arguments, and what ``fwd`` and ``bwd`` returned, if they returned."""

    rule: Any
    args: tuple
    primal: list[Any]
    cotangents: list[Any]


def rule_faults(watched: Callable[[Callable], Callable], inputs: Sequence[Any], rule: Any, out: Any) -> list[Fault]:
    """List what the backward passes of a program return wrongly, or what the program raises.

    ``watched(watch)`` is the program with ``watch(rule)`` in place of each rule. JAX itself does not report a wrong
    dtype. ``out`` is what the user's ``rule`` should return.

    Raises:
        one of CONCRETE: the program needs an argument's value.
    """
    calls: list[Call] = []

    try:
        jaxprs.trace(watched(lambda met: _noting(met, calls)), inputs)
    except CONCRETE:
        raise
    except jax.errors.UnexpectedTracerError:  # a rule closes over a differentiated value; structure reports that
        return []
    except Exception as error:  # whatever JAX or the rule raises
        if noted(error, "the check of the rule's structure"):
            return []
        found = [
            fault for call in calls for fault in (*_forward_faults(call, out, rule), *_backward_faults(call, rule))
        ]
        return found or [_told(error)]
    return list(dict.fromkeys(fault for call in calls for fault in _backward_faults(call, rule)))


def _told(error: Exception) -> Fault:
    """Make a fault of the error; JAX reports a nonlinear function by an AssertionError, or by naming the primitive."""
    text = str(error)
    if "Transpose rule" in text or (isinstance(error, AssertionError) and (not text or "Accum" in text)):
        what = f"{How.NOT_LINEAR.value}, so JAX cannot transpose it ({said(error)})"
        return Fault("rule", what, How.NOT_LINEAR)
    what = first_line(error) if isinstance(error, TypeError | ValueError) else f"raises {said(error)}"
    return Fault("rule", what, How.RAISED)


def _noting(rule: Any, calls: list[Call]) -> Any:
    """Return a copy of the rule that records what its parts receive and return; a custom_jvp is returned unchanged."""
    if jax.custom_vjp not in type(rule).__mro__ or len(parts_of(rule)) < 3:
        return rule
    copy: Any = jax.custom_vjp(rule.fun)
    vars(copy).update(vars(rule))
    last: list[Call] = []

    @functools.wraps(rule.fwd)
    def fwd(*args: Any) -> Any:
        still = set(rule.nondiff_argnums)
        taken = tuple(jax.tree.map(_value, arg) for i, arg in enumerate(args) if i not in still)
        call = Call(rule, taken, [], [])
        calls.append(call)
        last.append(call)
        returned = call_users(rule.fwd, *args)
        call.primal.append(returned)
        return returned

    @functools.wraps(rule.bwd)
    def bwd(*args: Any) -> Any:
        returned = call_users(rule.bwd, *args)
        if last:
            last[-1].cotangents.append(returned)
        return returned

    copy.fwd, copy.bwd = fwd, bwd
    return copy


def _value(x: Any) -> Any:
    return x.value if isinstance(x, CustomVJPPrimal) else x


def _forward_faults(call: Call, out: Any, handed: Any) -> list[Fault]:
    """List how the value that ``fwd`` of the user's rule returns differs from its primal's."""
    if call.rule is not handed or not call.primal:
        return []
    pair = call.primal[0]
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return [Fault("fwd", "must return a pair: the value and the residuals for the backward pass")]
    shapes = split(jax.tree.map(_shape, pair[0]))
    got, want = jax.tree.structure(shapes), jax.tree.structure(out)
    if got != want:
        return [Fault("fwd", f"returns {got}, but the primal returns {want}")]
    faults = leaf_faults(shapes, out)
    return [Fault(f"fwd's value{fault.path}", fault.what) for fault in faults]


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jax.typeof(x).shape, jax.typeof(x).dtype)


def _backward_faults(call: Call, handed: Any) -> list[Fault]:
    whose = "" if call.rule is handed else f" of {name_of(call.rule)}"
    faults = []
    for got in call.cotangents:
        if not isinstance(got, tuple | list) or len(got) != len(call.args):
            count = f"{len(call.args)} cotangent{'s' * (len(call.args) != 1)}"
            faults.append(Fault(f"bwd{whose}", f"must return {count}, one for each argument"))
            continue
        for i, (cotangent, argument) in enumerate(zip(got, call.args, strict=True)):
            faults += _cotangent_faults(f"cotangent {i}{whose}", cotangent, argument)
    return faults


def _cotangent_faults(where: str, cotangent: Any, argument: Any) -> list[Fault]:
    if cotangent is None:
        return []
    got, want = (
        jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None) for tree in (cotangent, argument)
    )
    if [path for path, _ in got] != [path for path, _ in want]:
        return [Fault(where, f"has the tree {jax.tree.structure(cotangent)}, not {jax.tree.structure(argument)}")]
    pairs = [(path, g, w) for (path, g), (_, w) in zip(got, want, strict=True)]
    return [Fault(where + jax.tree_util.keystr(path), f"is {_spec(g)}, but its argument is {_spec(w)}")
            for path, g, w in pairs if _differ(g, w)]  # fmt: skip


def _differ(got: Any, want: Any) -> bool:
    """Whether a leaf is not a cotangent of an argument; for a weakly typed argument, any float is one."""
    if any(not hasattr(x, "shape") for x in (got, want)) or got.dtype == jax.dtypes.float0:
        return False
    if not jaxprs.is_float(want.dtype):
        return False
    weak = getattr(want, "weak_type", False) and jaxprs.is_float(got.dtype)
    return got.shape != want.shape or (got.dtype != want.dtype and not weak)


def _spec(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def leaf_faults(got: Any, want: Any) -> list[Fault]:
    """List the leaves of two trees of the same structure that differ in shape or dtype."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True)
    return [Fault(jax.tree_util.keystr(path), f"is {_spec(g)}, not {_spec(w)}")
            for (path, g), w in pairs if (g.shape, g.dtype) != (w.shape, w.dtype)]  # fmt: skip
