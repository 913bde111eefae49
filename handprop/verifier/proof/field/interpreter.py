"""Evaluation of a jaxpr over the field, equation by equation, including the programs that equations call.

Integers, booleans and keys stay concrete NumPy or JAX arrays; floats become a :class:`Value`. A primitive without a
rule runs as it is if all its operands are concrete, else it is an uninterpreted function of them.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.internal import first_line, noted
from handprop.verifier.programs.executables import applied
from handprop.verifier.programs.jaxprs import (
    is_float,
    is_key,
    kernel_program,
    narrower,
    scan_counts,
    stands_for_exp_neg_sq,
    while_parts,
)
from handprop.verifier.programs.labels import label_of
from handprop.verifier.programs.primitives import Acts, Kind, Trait, has, least_kind, row
from handprop.verifier.programs.walk import Walk, taken
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.constant_steps import as_constant
from handprop.verifier.proof.field.contraction import CONTRACTION
from handprop.verifier.proof.field.degrees import VARIABLE
from handprop.verifier.proof.field.elementwise import ELEMENTWISE, Rule
from handprop.verifier.proof.field.errors import (
    NeedsBranches,
    NotUnderstood,
    OutOfWork,
    UnknownLength,
    Unsupported,
)
from handprop.verifier.proof.field.functions import uninterpreted
from handprop.verifier.proof.field.hashing import word
from handprop.verifier.proof.field.intervals import enclosed
from handprop.verifier.proof.field.layout import LAYOUT, bind, joined, move
from handprop.verifier.proof.field.pivots import Pivoted, after_pivots
from handprop.verifier.proof.field.run import Run
from handprop.verifier.proof.field.specials import are_special, beside_infinity, patched, without_specials
from handprop.verifier.proof.field.truth import Thing, as_value, select
from handprop.verifier.proof.field.values import Value, is_number

__all__ = ["OverTheField", "evaluate"]

MAX_STEPS = 4096
BESIDE_MASKS = 1e6


def evaluate(run: Run, closed: Any, inputs: list[Thing]) -> list[Thing]:
    """The outputs of a closed jaxpr at these inputs."""
    return OverTheField(run).evaluate(closed, inputs)


class OverTheField(Walk):
    """A walk whose floats are elements of the field; integers, booleans and keys are concrete arrays if they are
    known."""

    def __init__(self, run: Run):
        self.run = run

    def constant(self, const: Any) -> Thing:
        return _constant(self.run, const)

    def around(self, eqn: Any, operands: list[Thing]) -> list[Thing]:
        if over := self.run.work.over:
            raise OutOfWork(over)
        observer = self.run.observer
        outputs = observer(eqn, operands, self.step) if observer else self.step(eqn, operands)
        outputs = [np.asarray(thing) if isinstance(thing, np.generic | bool) else thing for thing in outputs]
        self.run.work.add(sum(math.prod(thing.shape) for thing in outputs))
        return outputs

    def primitive(self, eqn: Any, operands: list[Thing]) -> list[Thing]:
        return (self.run.step or _primitive)(self.run, eqn, operands)

    def custom_rule(self, eqn: Any, primal: Any, operands: list[Thing]) -> list[Thing]:
        known = self.run.step is None and eqn.primitive.name == "custom_jvp_call" and stands_for_exp_neg_sq(eqn)
        if known and isinstance(operands[0], Value):
            return [self.run.exp(self.run.neg(self.run.power(operands[0], 2)))]
        return self.evaluate(primal, operands)

    def kernel(self, eqn: Any, operands: list[Thing]) -> list[Thing]:
        try:
            program = kernel_program(eqn)
        except Exception as error:  # the kernel has no interpret mode
            noted(error, "a kernel's program")
            self.run.uninterpreted.add(f"pallas_call ({first_line(error)})")
            return _uninterpreted(self.run, eqn, operands)
        return self.evaluate(program, operands)

    def entry(self, x: Thing, i: int) -> Thing:
        return move(x, lambda part: np.asarray(part[i]))

    def stacked(self, eqn: Any, rows: list[list[Thing]]) -> list[Thing]:
        if not rows:
            return [_empty(self.run, var.aval) for var in eqn.outvars[scan_counts(eqn.params)[1] :]]
        return [joined(self.run, [move(t, lambda part: np.asarray(part)[None]) for t in ys], 0)
                for ys in zip(*rows, strict=True)]  # fmt: skip

    def while_loop(self, eqn: Any, cond: Any, body: Any, operands: list[Thing]) -> list[Thing]:
        of_cond, of_body, state = while_parts(eqn.params, operands)
        for _ in range(MAX_STEPS):
            (go,) = self.evaluate(cond, [*of_cond, *state])
            if isinstance(go, Value) or np.size(go) != 1:
                raise UnknownLength("a loop whose length depends on the inputs")
            if not go:
                return state
            state = self.evaluate(body, [*of_body, *state])
        raise Unsupported(f"a loop of more than {MAX_STEPS} iterations")

    def cond(self, eqn: Any, branches: Sequence[Any], which: Thing, operands: list[Thing]) -> list[Thing]:
        if isinstance(which, np.ndarray) or not isinstance(which, Value):
            return self.evaluate(taken(branches, which), operands)
        results = [self.evaluate(branch, operands) for branch in branches]
        return [select(self.run, move(which, lambda part, s=cases[0].shape: np.broadcast_to(part, s)), list(cases),
                       eqn.invars[0].aval.dtype) for cases in zip(*results, strict=True)]  # fmt: skip


def _constant(run: Run, const: Any) -> Thing:
    if is_key(const):
        return const
    array = np.asarray(const)
    return run.embed(array) if is_float(array.dtype) else array


def _empty(run: Run, aval: Any) -> Thing:
    array = np.zeros(aval.shape, np.float64 if is_float(aval.dtype) else aval.dtype)
    return run.embed(array) if is_float(aval.dtype) else array


def _primitive(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    name = eqn.primitive.name
    rule = RULES.get(name)
    mutable = any("Ref" in type(v.aval).__name__ for v in (*eqn.invars, *eqn.outvars))
    if has(eqn, Trait.NO_FUNCTION) or eqn.effects or mutable:
        raise NotUnderstood(f"{name}, which reads or changes state")
    run.equation = eqn
    if any(isinstance(thing, Pivoted) for thing in inputs):
        return after_pivots(run, eqn, inputs)
    if all(not isinstance(thing, Value) for thing in inputs) and name != "iota":
        return _as_it_is(run, eqn, inputs)
    _check_integers(eqn, inputs)
    inputs = _as_rounded(run, eqn, inputs)
    _check_masks(eqn, inputs)
    try:
        if rule is not None:
            return [_with_facts(run, eqn, inputs, out, i) for i, out in enumerate(_by_rule(run, rule, eqn, inputs))]
    except (NeedsBranches, NotUnderstood):
        raise
    except Unsupported as reason:
        known = all(not isinstance(thing, Value) or thing.known is not None for thing in inputs)
        if are_special(inputs) or (known and has(eqn, Trait.BY_SIGN)):  # the result may not be finite
            raise NotUnderstood(f"{name} where it may be non-finite or undefined: {reason}") from reason
        run.uninterpreted.add(f"{name} ({reason})")
    return _uninterpreted(run, eqn, inputs)


def _check_masks(eqn: Any, inputs: list[Thing]) -> None:
    """Check that a number that stands for minus infinity meets nothing that could distinguish the two."""
    values = [thing for thing in inputs if isinstance(thing, Value)]
    if not any(v.mask for v in values):
        return
    name = eqn.primitive.name
    if not has(eqn, Trait.MASKS):
        raise NotUnderstood(f"a number that stands for minus infinity in {name}")
    known = (np.abs(v.known[np.isfinite(v.known)]).max(initial=0.0) for v in values if v.known is not None)
    if name in ("add", "sub") and max(known, default=0.0) > BESIDE_MASKS:
        raise NotUnderstood("a number that stands for minus infinity next to one of similar magnitude")


def _as_rounded(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """The operands, with each literal that the equation widens replaced by the number that it was rounded to."""
    if not run.read:
        return inputs
    triples = zip(inputs, eqn.invars, narrower(eqn), strict=True)
    return [run.as_rounded(v, var.aval.dtype) if less and isinstance(v, Value) else v for v, var, less in triples]


def _by_rule(run: Run, rule: Rule, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """Apply the primitive's rule. If an operand is not finite everywhere, apply it to the finite entries only, and let
    the real operation decide the others."""
    name = eqn.primitive.name
    if name not in ELEMENTWISE or has(eqn, Trait.NONFINITE) or not are_special(inputs):
        return rule(run, inputs, eqn.params, eqn)
    if name == "convert_element_type" and not is_float(eqn.params["new_dtype"]):
        raise NotUnderstood("a cast of non-finite numbers to integers")
    if name == "clamp":
        raise NotUnderstood("clamp of non-finite numbers")
    operands = [as_value(run, thing) for thing in inputs]
    if name in COMPARES and (truth := beside_infinity(COMPARES[name], *operands)) is not None:
        return [truth]
    plain = [without_specials(v) for v in operands]
    (result,) = rule(
        run, [p if isinstance(t, Value) else t for p, t in zip(plain, inputs, strict=True)], eqn.params, eqn
    )
    return [_beside_specials(run, eqn, operands, result if isinstance(result, Value) else np.asarray(result))]


def _beside_specials(run: Run, eqn: Any, operands: list[Value], result: Thing) -> Thing:
    """The result of a primitive that acts entry by entry, with non-finite entries decided by the real operation."""

    def reference(*arrays: np.ndarray) -> np.ndarray:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return bind(eqn.primitive, *(np.broadcast_to(a, shape) for a in arrays), **eqn.params)

    return patched(run, f"{eqn.primitive.name} {label_of(eqn.params, eqn.primitive)}", reference, operands, result)


def _check_integers(eqn: Any, inputs: list[Thing]) -> None:
    """Check that unknown integers are used only where they cannot leave the range of their type."""
    for thing, var in zip(inputs, eqn.invars, strict=True):
        if not isinstance(thing, Value) or not jnp.issubdtype(var.aval.dtype, jnp.integer):
            continue
        if not has(eqn, Trait.INTEGERS) and row(eqn.primitive.name).acts is not Acts.MOVES:
            raise NeedsBranches(f"{eqn.primitive.name} of unknown integers")


def _with_facts(run: Run, eqn: Any, inputs: list[Thing], out: Thing, i: int) -> Thing:
    """The result with the facts that follow from the primitive and its operands alone."""
    if isinstance(out, Pivoted):
        return out
    if not isinstance(out, Value):
        return np.asarray(out)
    name, dtype = eqn.primitive.name, eqn.outvars[i].aval.dtype
    values = [thing for thing in inputs if isinstance(thing, Value)]
    kind = _kind(run, eqn, inputs, out)
    if jnp.issubdtype(dtype, jnp.integer) and out.most > jnp.iinfo(dtype).max:
        raise NeedsBranches(f"{name} of unknown integers, which may overflow")
    error = out.error
    if out.known is not None and is_float(dtype):
        if not has(eqn, Trait.ERRORS) and any(v.error for v in values):
            error = np.inf
        with np.errstate(all="ignore"):
            rounded = out.known.astype(dtype).astype(np.float64)
        if not np.isfinite(rounded[np.isfinite(out.known)]).all():
            raise NotUnderstood("a known number that overflows its type")
        if not np.array_equal(rounded, out.known, equal_nan=True):
            if ml_dtypes.finfo(dtype).nmant < run.least_bits:
                run.casts.add(str(dtype))
            finite_numbers = np.abs(out.known[np.isfinite(out.known)])
            error += 4 * float(ml_dtypes.finfo(dtype).eps) * float(finite_numbers.max(initial=0.0))
        error += _lost(run, values, out)
    if is_float(dtype) and name != "convert_element_type":
        widest = max((ml_dtypes.finfo(v.aval.dtype).nmant for v in eqn.invars if is_float(v.aval.dtype)), default=0)
        if ml_dtypes.finfo(dtype).nmant < min(widest, run.least_bits):
            run.casts.add(str(dtype))
    mask = any(v.mask for v in values) and are_special([out])
    constant = all(not isinstance(t, Value) or is_number(t) for t in inputs)
    is_known = out.known is not None and np.isfinite(error)
    about = enclosed(eqn, inputs, out.shape) if constant and not is_known and out.special is None else None
    return as_constant(run, out._replace(kind=Kind(kind), error=error, mask=mask, constant=constant, about=about))


def _kind(run: Run, eqn: Any, inputs: list[Thing], out: Value) -> Kind:
    """The result's kind: at least :func:`least_kind`. A univariate function of one rational value stays univariate."""
    name, of_positive = eqn.primitive.name, has(eqn, Trait.OF_POSITIVE)
    unknown = [t for t in inputs if isinstance(t, Value) and not is_number(t)]
    least = Kind.ANALYTIC if of_positive and out.everywhere else least_kind(name)
    if of_positive:
        run.kinds[name] = max(least, run.kinds.get(name, least))
    kind = max((least, out.kind, *(v.kind for v in unknown)))
    if kind not in (Kind.UNIVARIATE, Kind.ANALYTIC):
        return kind
    if len(unknown) != 1 or name == "exp2":  # the field knows the logarithm of its base
        return Kind.ANALYTIC
    if least_kind(name) is Kind.ANALYTIC:
        return unknown[0].kind.of_analytic
    return kind if has(eqn, Trait.OF_ONE) else Kind.ANALYTIC


def _lost(run: Run, values: list[Value], out: Value) -> float:
    """A bound on the float64 error in the known numbers of a result; 0 if they are exact."""
    assert out.known is not None
    finite_part = np.where(out.finite & np.isfinite(out.known), out.known, 0.0)
    if run.is_exactly(out, finite_part):
        return 0.0
    sizes = [np.abs(v.known[np.isfinite(v.known)]) for v in (*values, out) if v.known is not None]
    count = max((v.x.size for v in values), default=1)
    return 2.0**-50 * count * float(max((size.max(initial=0.0) for size in sizes), default=0.0))


def _as_it_is(run: Run, eqn: Any, inputs: list[Any]) -> list[Thing]:
    """Run the primitive itself, on operands that are all concrete."""
    with jax.enable_x64(True):
        out = applied(eqn.primitive.bind, *inputs, **eqn.primitive.get_bind_params(eqn.params))
    return [_constant(run, o) for o in (out if eqn.primitive.multiple_results else [out])]


def _uninterpreted(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """For every entry of every output, a random function of all operands in their order, of shapes and dtypes, and of
    the parameters."""
    name = eqn.primitive.name
    outs = [var.aval for var in eqn.outvars]
    if not outs:
        raise NotUnderstood(f"{name}, which returns nothing")
    if any(not is_float(aval.dtype) for aval in outs):
        raise NeedsBranches(f"{name}, which returns {outs[0].dtype}")
    if any(not isinstance(t, Value | np.ndarray) for t in inputs):
        raise NotUnderstood(f"{name} of keys")
    values = [as_value(run, thing) for thing in inputs]
    run.asked(*values)
    run.kinds[name] = Kind.PIECEWISE
    if not any(name == known.split(" (")[0] for known in run.uninterpreted):
        run.uninterpreted.add(name)
    shape, params = run.shape_of(outs[0].shape), label_of(eqn.params, eqn.primitive)
    if len(outs) == 1 and all(v.shape == shape for v in values) and has(eqn, Trait.UNINTERPRETED):
        result = uninterpreted(run, f"{name} {params}".strip(), *map(without_specials, values))
        result = _beside_specials(run, eqn, values, result) if are_special(values) else result
        return [_with_facts(run, eqn, inputs, result, 0)]
    if are_special(values):
        raise NotUnderstood(f"{name} of non-finite numbers")
    types = [f"{v.aval.dtype}{v.aval.shape}" for v in (*eqn.invars, *eqn.outvars)]
    label = f"{name} {params} {types} {[word(v) for v in values]}"
    if not has(eqn, Trait.TOTAL):  # a factorization, a callback, a primitive of the user's own
        run.assume(f"{name} is defined there")
        if run.decides_domains:
            raise NotUnderstood(f"{name}, which is not defined everywhere")
    return [_with_facts(run, eqn, inputs, _drawn(run, f"{label} {i}", run.shape_of(aval.shape)), i)
            for i, aval in enumerate(outs)]  # fmt: skip


def _drawn(run: Run, label: str, shape: tuple[int, ...]) -> Value:
    places = Elements(np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape))
    return Value(run.loose_oracle(label, places), VARIABLE, kind=Kind.PIECEWISE)


COMPARES = {"eq": np.equal, "ne": np.not_equal, "gt": np.greater, "ge": np.greater, "lt": np.less, "le": np.less}
RULES: dict[str, Rule] = {**ELEMENTWISE, **LAYOUT, **CONTRACTION}
