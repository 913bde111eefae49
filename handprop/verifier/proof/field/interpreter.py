"""A jaxpr evaluated over the field, equation by equation; what calls a program is walked into.

Integers, booleans and keys stay concrete NumPy or JAX arrays, floats are :class:`Value`. A primitive without a rule is
run as it is where all its operands are concrete, else it is an uninterpreted function of them.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.extend import core

from handprop.verifier.internal import noted
from handprop.verifier.programs.executables import applied
from handprop.verifier.programs.jaxprs import (
    called,
    closed,
    first_line,
    kernel_program,
    narrower,
    scan_counts,
    stands_for_exp_neg_sq,
)
from handprop.verifier.proof.field.algebra import NeedsBranches, NotUnderstood, OutOfWork, Run, Unsupported, word
from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.contraction import CONTRACTION
from handprop.verifier.proof.field.degrees import VARIABLE
from handprop.verifier.proof.field.elementwise import ELEMENTWISE, Rule
from handprop.verifier.proof.field.functions import uninterpreted
from handprop.verifier.proof.field.kinds import OF_POSITIVE, least_kind
from handprop.verifier.proof.field.labels import label_of
from handprop.verifier.proof.field.layout import LAYOUT, bind, joined, move
from handprop.verifier.proof.field.specials import are_special, beside_infinity, patched, without_specials
from handprop.verifier.proof.field.steady import settled
from handprop.verifier.proof.field.truth import Thing, as_value, select
from handprop.verifier.proof.field.values import Kind, Value, is_number

__all__ = ["evaluate"]

MAX_STEPS = 4096
BESIDE_MASKS = 1e6
DOMAINS = {"log", "log1p", "sqrt", "rsqrt", "cbrt", "pow"}


def evaluate(run: Run, closed: Any, inputs: list[Thing]) -> list[Thing]:
    """The outputs of a closed jaxpr at these inputs."""
    variables = closed.jaxpr.constvars
    consts = [_constant(run, const if hasattr(const, "dtype") else np.asarray(const, var.aval.dtype))
              for const, var in zip(closed.consts, variables, strict=True)]  # fmt: skip
    return _walk(run, closed.jaxpr, consts, inputs)


def _constant(run: Run, const: Any) -> Thing:
    if jnp.issubdtype(getattr(const, "dtype", np.dtype(type(const))), jax.dtypes.extended):
        return const
    array = np.asarray(const)
    return run.embed(array) if _is_float(array.dtype) else array


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.floating)


def _walk(run: Run, jaxpr: Any, consts: list[Thing], inputs: list[Thing]) -> list[Thing]:
    env: dict[Any, Thing] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))
    last = _last_uses(jaxpr)

    def value_of(atom: Any) -> Thing:
        return (
            _constant(run, np.asarray(atom.val, getattr(atom.aval, "dtype", None)))
            if isinstance(atom, core.Literal)
            else env[atom]
        )

    for i, eqn in enumerate(jaxpr.eqns):
        if over := run.work.over:
            raise OutOfWork(over)
        operands = [value_of(atom) for atom in eqn.invars]
        around = run.observer
        outputs = around(eqn, operands, partial(_step, run)) if around else _step(run, eqn, operands)
        outputs = [np.asarray(thing) if isinstance(thing, np.generic | bool) else thing for thing in outputs]
        run.work.add(sum(math.prod(thing.shape) for thing in outputs))
        env.update(zip(eqn.outvars, outputs, strict=True))
        for var in last.get(i, ()):
            env.pop(var, None)
    return [value_of(atom) for atom in jaxpr.outvars]


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    """For each equation the variables that nothing needs after it: memory is given back as the program would."""
    kept = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    last: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for atom in (*eqn.invars, *eqn.outvars):
            if not isinstance(atom, core.Literal) and atom not in kept:
                last[atom] = i
    uses: dict[int, list[Any]] = {}
    for var, i in last.items():
        uses.setdefault(i, []).append(var)
    return uses


def _step(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    name = eqn.primitive.name
    if name in ("debug_callback", "debug_print"):
        return []
    if name in CONTROL:
        return CONTROL[name](run, inputs, eqn.params, eqn)
    rule = RULES.get(name)
    inner = called(eqn) if rule is None else None
    if inner is not None:
        return evaluate(run, inner, inputs)
    if name in NO_FUNCTIONS or eqn.effects or any("Ref" in type(v.aval).__name__ for v in (*eqn.invars, *eqn.outvars)):
        raise NotUnderstood(f"{name}, which reads or changes a state")
    run.equation = eqn
    if all(not isinstance(thing, Value) for thing in inputs) and name != "iota":
        return _as_it_is(run, eqn, inputs)
    _check_integers(eqn, inputs)
    inputs = _as_rounded(run, eqn, inputs)
    _check_masks(name, inputs)
    try:
        if rule is not None:
            return [_with_facts(run, eqn, inputs, out, i) for i, out in enumerate(_by_rule(run, rule, eqn, inputs))]
    except (NeedsBranches, NotUnderstood):
        raise
    except Unsupported as reason:
        known = all(not isinstance(thing, Value) or thing.known is not None for thing in inputs)
        if are_special(inputs) or (known and name in DOMAINS):  # what comes of it may not be finite
            raise NotUnderstood(f"{name} of what is not finite, or not defined: {reason}") from reason
        run.uninterpreted.add(f"{name} ({reason})")
    return _uninterpreted(run, eqn, inputs)


def _check_masks(name: str, inputs: list[Thing]) -> None:
    """A number that stands for minus infinity meets nothing that could tell it from minus infinity."""
    values = [thing for thing in inputs if isinstance(thing, Value)]
    if not any(v.mask for v in values):
        return
    if name not in MASK_KEPT:
        raise NotUnderstood(f"a number that stands for minus infinity in {name}")
    known = (np.abs(v.known[np.isfinite(v.known)]).max(initial=0.0) for v in values if v.known is not None)
    if name in ("add", "sub") and max(known, default=0.0) > BESIDE_MASKS:
        raise NotUnderstood("a number that stands for minus infinity beside one that is as large")


def _as_rounded(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """The operands with literals that the equation makes wider as the numbers they were rounded to."""
    if not run.read:
        return inputs
    triples = zip(inputs, eqn.invars, narrower(eqn), strict=True)
    return [run.as_rounded(v, var.aval.dtype) if less and isinstance(v, Value) else v for v, var, less in triples]


def _by_rule(run: Run, rule: Rule, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """The primitive's rule; where an operand is not finite everywhere, on what is finite, and beside it the rest."""
    name = eqn.primitive.name
    if name not in ELEMENTWISE or name in SPECIAL_AS_ANY or not are_special(inputs):
        return rule(run, inputs, eqn.params, eqn)
    if name == "convert_element_type" and not _is_float(eqn.params["new_dtype"]):
        raise NotUnderstood("a cast to integers of what is not finite")
    if name == "clamp":
        raise NotUnderstood("clamp of what is not finite")
    operands = [as_value(run, thing) for thing in inputs]
    if name in COMPARES and (truth := beside_infinity(COMPARES[name], *operands)) is not None:
        return [truth]
    plain = [without_specials(v) for v in operands]
    (result,) = rule(
        run, [p if isinstance(t, Value) else t for p, t in zip(plain, inputs, strict=True)], eqn.params, eqn
    )
    return [_beside_specials(run, eqn, operands, result if isinstance(result, Value) else np.asarray(result))]


def _beside_specials(run: Run, eqn: Any, operands: list[Value], result: Thing) -> Thing:
    """What acts entry by entry: the result of what is finite, and of the rest what the real operation makes of it."""

    def reference(*arrays: np.ndarray) -> np.ndarray:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return bind(eqn.primitive, *(np.broadcast_to(a, shape) for a in arrays), **eqn.params)

    return patched(run, f"{eqn.primitive.name} {label_of(eqn.params, eqn.primitive)}", reference, operands, result)


def _check_integers(eqn: Any, inputs: list[Thing]) -> None:
    """Integers that are not known only take part where they cannot leave their type."""
    name = eqn.primitive.name
    for thing, var in zip(inputs, eqn.invars, strict=True):
        if not isinstance(thing, Value) or not jnp.issubdtype(var.aval.dtype, jnp.integer):
            continue
        if name not in SAFE_FOR_INTEGERS and name not in LAYOUT:
            raise NeedsBranches(f"{name} of unknown integers")


def _with_facts(run: Run, eqn: Any, inputs: list[Thing], out: Thing, i: int) -> Thing:
    """The result with what follows from the primitive and its operands alone."""
    if not isinstance(out, Value):
        return np.asarray(out)
    name, dtype = eqn.primitive.name, eqn.outvars[i].aval.dtype
    values = [thing for thing in inputs if isinstance(thing, Value)]
    kind = _kind(run, name, inputs, out)
    if jnp.issubdtype(dtype, jnp.integer) and out.most > jnp.iinfo(dtype).max:
        raise NeedsBranches(f"{name} of unknown integers, which may leave their type")
    error = out.error
    if out.known is not None and _is_float(dtype):
        if name not in ERROR_KEPT and any(v.error for v in values):
            error = np.inf
        with np.errstate(all="ignore"):
            rounded = out.known.astype(dtype).astype(np.float64)
        if not np.isfinite(rounded[np.isfinite(out.known)]).all():
            raise NotUnderstood("a known number beyond the largest of its type")
        if not np.array_equal(rounded, out.known, equal_nan=True):
            if ml_dtypes.finfo(dtype).nmant < run.least_bits:
                run.casts.add(str(dtype))
            finite_numbers = np.abs(out.known[np.isfinite(out.known)])
            error += 4 * float(ml_dtypes.finfo(dtype).eps) * float(finite_numbers.max(initial=0.0))
        error += _lost(run, values, out)
    if _is_float(dtype) and name != "convert_element_type":
        widest = max((ml_dtypes.finfo(v.aval.dtype).nmant for v in eqn.invars if _is_float(v.aval.dtype)), default=0)
        if ml_dtypes.finfo(dtype).nmant < min(widest, run.least_bits):
            run.casts.add(str(dtype))
    mask = any(v.mask for v in values) and are_special([out])
    constant = all(not isinstance(t, Value) or is_number(t) for t in inputs)
    return settled(run, out._replace(kind=Kind(kind), error=error, mask=mask, constant=constant))


def _kind(run: Run, name: str, inputs: list[Thing], out: Value) -> Kind:
    """The result's kind: :func:`least_kind`, where one function of one rational value stays one."""
    unknown = [t for t in inputs if isinstance(t, Value) and not is_number(t)]
    least = Kind.ANALYTIC if name in OF_POSITIVE and out.everywhere else least_kind(name)
    if name in OF_POSITIVE:
        run.kinds[name] = max(least, run.kinds.get(name, least))
    kind = max((least, out.kind, *(v.kind for v in unknown)))
    if kind not in (Kind.UNIVARIATE, Kind.ANALYTIC):
        return kind
    if len(unknown) != 1 or name == "exp2":  # whose base has a logarithm that the field knows
        return Kind.ANALYTIC
    if least_kind(name) is Kind.ANALYTIC:
        return unknown[0].kind.of_analytic
    return kind if name in OF_ONE else Kind.ANALYTIC


def _lost(run: Run, values: list[Value], out: Value) -> float:
    """How far float64 may have carried the numbers that a result is known to be: not at all where they are exact."""
    assert out.known is not None
    finite_part = np.where(out.finite & np.isfinite(out.known), out.known, 0.0)
    if run.is_exactly(out, finite_part):
        return 0.0
    sizes = [np.abs(v.known[np.isfinite(v.known)]) for v in (*values, out) if v.known is not None]
    count = max((v.x.size for v in values), default=1)
    return 2.0**-50 * count * float(max((size.max(initial=0.0) for size in sizes), default=0.0))


def _as_it_is(run: Run, eqn: Any, inputs: list[Any]) -> list[Thing]:
    """Everything concrete: the primitive's own values."""
    with jax.enable_x64(True):
        out = applied(eqn.primitive.bind, *inputs, **eqn.primitive.get_bind_params(eqn.params))
    return [_constant(run, o) for o in (out if eqn.primitive.multiple_results else [out])]


def _uninterpreted(run: Run, eqn: Any, inputs: list[Thing]) -> list[Thing]:
    """A random function of all operands, their places, shapes and dtypes, and the parameters, for every entry of every
    output."""
    name = eqn.primitive.name
    outs = [var.aval for var in eqn.outvars]
    if not outs:
        raise NotUnderstood(f"{name}, which returns nothing")
    if any(not _is_float(aval.dtype) for aval in outs):
        raise NeedsBranches(f"{name}, which returns {outs[0].dtype}")
    if any(not isinstance(t, Value | np.ndarray) for t in inputs):
        raise NotUnderstood(f"{name} of keys")
    values = [as_value(run, thing) for thing in inputs]
    run.asked(*values)
    run.kinds[name] = Kind.LOOSE
    if not any(name == known.split(" (")[0] for known in run.uninterpreted):
        run.uninterpreted.add(name)
    shape, params = run.shape_of(outs[0].shape), label_of(eqn.params, eqn.primitive)
    if len(outs) == 1 and all(v.shape == shape for v in values) and name in ENTRYWISE:
        result = uninterpreted(run, f"{name} {params}".strip(), *map(without_specials, values))
        result = _beside_specials(run, eqn, values, result) if are_special(values) else result
        return [_with_facts(run, eqn, inputs, result, 0)]
    if are_special(values):
        raise NotUnderstood(f"{name} of what is not finite")
    types = [f"{v.aval.dtype}{v.aval.shape}" for v in (*eqn.invars, *eqn.outvars)]
    label = f"{name} {params} {types} {[word(v) for v in values]}"
    if name not in TOTAL:  # a factorization, a callback, whatever a user's own primitive does
        run.assume(f"{name} is defined there")
        if run.decided:
            raise NotUnderstood(f"{name}, which is not defined everywhere")
    return [_with_facts(run, eqn, inputs, _drawn(run, f"{label} {i}", run.shape_of(aval.shape)), i)
            for i, aval in enumerate(outs)]  # fmt: skip


def _drawn(run: Run, label: str, shape: tuple[int, ...]) -> Value:
    places = Elements(np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape))
    return Value(run.loose_oracle(label, places), VARIABLE, kind=Kind.LOOSE)


ENTRYWISE = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e", "digamma", "erf", "erf_inv",
    "igamma", "igamma_grad_a", "igammac", "lgamma", "polygamma", "random_gamma_grad", "regularized_incomplete_beta",
    "rem", "zeta",
}  # fmt: skip
# With numbers besides, they are functions of one value that are analytic wherever it is.
OF_ONE = {"neg", "add", "sub", "mul", "integer_pow", "square", "copy", "copy_p", "stop_gradient", "real",
          "convert_element_type", "reduce_precision", "optimization_barrier", "device_put", "broadcast_in_dim",
          "reshape", "transpose", "squeeze", "expand_dims", "rev", "tile", "name", "sharding_constraint", "slice",
          "gather", "dynamic_slice"}  # fmt: skip
COMPARES = {"eq": np.equal, "ne": np.not_equal, "gt": np.greater, "ge": np.greater, "lt": np.less, "le": np.less}
NO_FUNCTIONS = {"rng_uniform"}  # two calls with the same operands return different numbers
# What they make of finite numbers is finite, however they are written. Of others nobody knows.
TOTAL = {*LAYOUT, *CONTRACTION, "fft", "approx_top_k", "clamp", "floor", "ceil", "round", "nextafter",
         "abs", "sign", "max", "min", "add", "sub", "mul", "exp", "exp2", "expm1", "tanh", "logistic", "sin", "cos",
         "sinh", "cosh", "asinh", "atan", "atan2", "cbrt", "erf", "erfc", "bessel_i0e", "bessel_i1e", "select_n"
         } - {"cholesky", "lu", "triangular_solve", "reduce_max", "reduce_min", "reduce_window_max",
              "reduce_window_min"}  # of nothing, or of padding, the largest number is infinite  # fmt: skip
# Their rules take what is not finite as any other entry.
SPECIAL_AS_ANY = {"select_n", "copy", "copy_p", "optimization_barrier", "stop_gradient", "real"}
SAFE_FOR_INTEGERS = {
    "convert_element_type", "reduce_sum", "add", "mul", "select_n", "eq", "ne", "gt", "lt", "ge", "le", "copy",
    "copy_p", "stop_gradient", "optimization_barrier",
}  # fmt: skip
# What a number that stands for minus infinity may meet: sums, a largest entry, the exponential that makes it 0.
MASK_KEPT = {
    *(LAYOUT.keys() - {"sort", "top_k", "scatter-add", "scatter_add", "scatter-sub", "scatter_sub", "scatter-mul",
                      "scatter_mul"}), *SPECIAL_AS_ANY,
    "add", "sub", "reduce_max", "exp", "eq", "ne", "convert_element_type",
}  # fmt: skip
# Their rules keep account of how far off known numbers are.
ERROR_KEPT = {
    *LAYOUT, "add", "add_any", "sub", "mul", "div", "neg", "max", "min", "select_n", "reduce_sum", "integer_pow",
    "square", "convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier", "real",
    "reduce_precision", "log2", "exp2",
}  # fmt: skip


def _scan(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    body = closed(params["jaxpr"])
    n_consts, n_carry = scan_counts(params)
    consts, carry, xs = inputs[:n_consts], inputs[n_consts : n_consts + n_carry], inputs[n_consts + n_carry :]
    steps = range(params["length"])
    rows: list[list[Thing]] = []
    for i in reversed(steps) if params["reverse"] else steps:
        out = evaluate(run, body, [*consts, *carry, *(move(x, lambda part, i=i: part[i]) for x in xs)])
        carry = out[:n_carry]
        rows.append(out[n_carry:])
    if params["reverse"]:
        rows.reverse()
    if not rows:
        return [*carry, *(_empty(run, var.aval) for var in eqn.outvars[n_carry:])]
    stacked = [
        joined(run, [move(t, lambda part: np.asarray(part)[None]) for t in ys], 0) for ys in zip(*rows, strict=True)
    ]
    return [*carry, *stacked]


def _empty(run: Run, aval: Any) -> Thing:
    array = np.zeros(aval.shape, np.float64 if _is_float(aval.dtype) else aval.dtype)
    return run.embed(array) if _is_float(aval.dtype) else array


def _while(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    state = inputs[n_cond + n_body :]
    for _ in range(MAX_STEPS):
        (go,) = evaluate(run, cond, [*inputs[:n_cond], *state])
        if isinstance(go, Value) or np.size(go) != 1:
            raise NeedsBranches("a loop whose end depends on the inputs")
        if not go:
            return state
        state = evaluate(run, body, [*inputs[n_cond : n_cond + n_body], *state])
    raise Unsupported(f"a loop of more than {MAX_STEPS} turns")


def _cond(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    which, *operands = inputs
    branches = [closed(branch) for branch in params["branches"]]
    if isinstance(which, np.ndarray) or not isinstance(which, Value):
        return evaluate(run, branches[int(np.clip(which, 0, len(branches) - 1))], operands)
    results = [evaluate(run, branch, operands) for branch in branches]
    return [
        select(
            run,
            move(which, lambda part, s=cases[0].shape: np.broadcast_to(part, s)),
            list(cases),
            eqn.invars[0].aval.dtype,
        )
        for cases in zip(*results, strict=True)
    ]


def _linear_solve(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    lengths = params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    total = start + lengths.solve + lengths.transpose_solve
    return evaluate(run, closed(params["jaxprs"].solve), [*inputs[start : start + lengths.solve], *inputs[total:]])


def _pallas_call(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    try:
        program = kernel_program(eqn)
    except Exception as error:  # a kernel that has no interpret mode
        noted(error, "a kernel's program")
        run.uninterpreted.add(f"pallas_call ({first_line(error)})")
        return _uninterpreted(run, eqn, inputs)
    return evaluate(run, program, inputs)


def _custom_jvp_call(run: Run, inputs: list[Thing], params: dict, eqn: Any) -> list[Thing]:
    if stands_for_exp_neg_sq(eqn) and isinstance(inputs[0], Value):
        return [run.exp(run.neg(run.power(inputs[0], 2)))]
    return evaluate(run, called(eqn), inputs)


CONTROL: dict[str, Rule] = {
    "pallas_call": _pallas_call,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
    "custom_vjp_call": lambda run, inputs, params, eqn: evaluate(run, called(eqn), inputs),
    "custom_jvp_call": _custom_jvp_call,
}
RULES: dict[str, Rule] = {**ELEMENTWISE, **LAYOUT, **CONTRACTION}
