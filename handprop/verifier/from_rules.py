"""Problems from custom rules, or functions that call them: the reference is the function without its rules."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from handprop._compat import root_rule
from handprop.verifier.arguments import CONCRETE, Arguments, Unusable, arguments, is_inexact, parameters
from handprop.verifier.deliberate import TRUSTED, by_surrogate
from handprop.verifier.derivatives import (
    MAX_ENTRIES,
    MAX_ESTIMATED,
    Derivative,
    by_differences,
    by_directions,
    in_tangents,
    is_additive,
    of_values,
    pulled_back,
    with_estimate,
)
from handprop.verifier.equation import Equation, by_equation, equation_of, with_equation
from handprop.verifier.faults import Fault, How, leaf_faults, rule_faults
from handprop.verifier.internal import call_users, noted
from handprop.verifier.problem import (
    Problem,
    Program,
    first_built,
    named,
    normal,
    obstacle_of,
    outputs_of,
    source_of,
    traced,
)
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.implementations import implementation, is_foreign
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.rules import (
    EVERY,
    RULES,
    holds_rules,
    is_function_of_jax,
    is_of_jax,
    name_of,
    parts_of,
    with_rules,
    without_rules,
)

__all__ = ["Against", "of_rule"]

FORWARDS = "it is linear in its tangents, as was tried, and differentiated forwards: JAX cannot transpose it"
TRIED = "that the rule is linear in its tangents was tested, but is not proved"
PLAIN = "value without differentiation"
NO_RULE = ("{} calls no custom_vjp or custom_jvp rule besides JAX's own, so it would be compared with itself; verify a "
           "gradient against its loss (verify_gradient, --loss), or any other function against reference= "
           "(trust_jax=False judges JAX's own rules)")  # fmt: skip


class Against(NamedTuple):
    """What a rule is compared with: the derivative of ``reference``, by the equation that its values satisfy, or of a
    ``surrogate`` beside the rule's own values; without any, the derivative of its own primal. ``values``: differences
    of the primal's values. ``forwards``: the rule is differentiated in forward mode. ``trusts_jax``: JAX's own rules
    are not judged."""

    reference: Callable | None = None
    satisfies: Callable | None = None
    surrogate: Callable | None = None
    values: bool = False
    forwards: bool = False
    trusts_jax: bool = True


def of_rule(rule: Any, args: tuple, kwargs: dict, against: Against, argnums: int | Sequence[int] | None,
            nondiff_argnums: int | Sequence[int], rng: np.random.Generator) -> Problem:  # fmt: skip
    """Compare a custom rule, or a function that calls some, with what it should be.

    Raises:
        Unusable: it calls no custom rule, or it cannot be called with these arguments.
    """
    paired = isinstance(rule, tuple)
    rule = _of_pair(rule, against.reference) if paired else rule
    _check_rule(rule)
    given = arguments(args, kwargs, _still(rule), rng, rule.fun if isinstance(rule, RULES) else rule, has_pairs=True)
    _check_kinds(rule, given)
    wanted = None if argnums is None else normal(argnums, len(args), "argnums")
    left = normal(nondiff_argnums, len(args), "nondiff_argnums")

    def built(given: Arguments) -> Problem:
        owners = [given.owners[place] for place in given.places]
        chosen = [i for i, owner in enumerate(owners) if is_inexact(given.arrays[i])
                  and owner not in left and (wanted is None or owner in wanted)]  # fmt: skip
        _check_chosen(given, wanted, chosen)
        problem = _of_rule(rule, given, against, chosen, rng, against.reference is not None and not paired)
        if against.forwards:
            _check_forwards(problem)
        if isinstance(rule, jax.custom_jvp) and against._replace(trusts_jax=True) == Against():
            problem = in_tangents(problem, rng)
        if against._replace(trusts_jax=True) != Against() or sum(given.arrays[i].size for i in chosen) > MAX_ESTIMATED:
            return problem
        values = against._replace(values=True)
        return problem._replace(by_values=lambda: _of_rule(rule, given, values, chosen, rng, False))

    return first_built(rule, given, built)


def _check_rule(rule: Any) -> None:
    if not callable(rule):
        raise Unusable(f"rule must be a function with a custom rule; got {type(rule).__name__}: pass it uncalled")
    if isinstance(rule, RULES) and len(parts_of(rule)) == 1:
        define = "defvjp" if isinstance(rule, jax.custom_vjp) else "defjvp"
        raise Unusable(f"{name_of(rule)} has no derivative yet: call {name_of(rule)}.{define} first")


def _check_kinds(rule: Any, given: Arguments) -> None:
    """Reject arguments that JAX itself would reject only where the rule is differentiated."""
    still = _still(rule)
    for i in set(range(len(given.whole))) - set(given.places) if isinstance(rule, RULES) else ():
        if given.owners[i] not in still and not isinstance(given.whole[i], bool | int | float):
            kind = type(given.whole[i]).__name__
            raise Unusable(f"{given.names[i]} is a {kind}, which JAX accepts only if nondiff_argnums names it")


def _check_chosen(given: Arguments, wanted: tuple[int, ...] | None, chosen: list[int]) -> None:
    owners = {given.owners[given.places[i]] for i in chosen}
    for n in set(wanted or ()) - owners:
        raise Unusable(f"argnums={n} names an argument that cannot be differentiated: it holds no float array")


def _rules_of_jax(rule: Any, given: Arguments, against: Against) -> Any:
    """The rules of JAX that are judged and not trusted: the one that is passed, all in a function of JAX's, or that of
    ``custom_root``, whose derivative its user wrote, where nothing else is judged.

    Raises:
        Unusable: there is nothing to judge.
    """
    if not against.trusts_jax and holds_rules(given.calling(rule), given.leaves, True):
        return EVERY
    against = against._replace(trusts_jax=True)
    if isinstance(rule, RULES):
        return rule if is_of_jax(rule) else None
    if against.reference is not None:
        return None
    of_jax = is_function_of_jax(rule)
    if against not in (Against(), Against(values=True)):
        return EVERY if of_jax else None
    program, _ = traced(without_rules(given.calling(rule)), given.leaves, rule)
    if holds_rules(given.calling(rule), given.leaves, of_jax):
        return EVERY if of_jax else None
    if "_custom_root" not in jaxprs.rules_of_jax(program):
        raise Unusable(NO_RULE.format(name_of(rule)))
    return root_rule()


def _of_rule(rule: Any, given: Arguments, against: Against, chosen: list[int], rng: np.random.Generator,
             with_plain: bool) -> Problem:  # fmt: skip
    """Build the problem; ``with_plain`` also compares the rule's own, undifferentiated value with the reference's."""
    reference, handed, count = against.reference, _rules_of_jax(rule, given, against), len(given.leaves)

    def stripped(f: Any) -> Callable:
        return without_rules(given.calling(f), handed if f is rule else None)

    original = rule if reference is None else reference
    primal = stripped(original)
    program, out = traced(primal, given.leaves, original)
    equation = None if against.satisfies is None else equation_of(against.satisfies, given, program, out)
    outputs = named(out)
    values, plain = ([f"{name}{path}" for path, _ in outputs] for name in ("value", PLAIN))
    floating = [(path, o) for path, o in outputs if is_inexact(o)]
    cotangents = tuple(rng.normal(size=o.shape).astype(o.dtype) for _, o in floating)

    def differentiated(f: Callable, gradients: Derivative, undifferentiated: Callable | None = None) -> Program:
        program = lambda *inputs: gradients(f, inputs[:count], inputs[count:], chosen)  # noqa: E731
        return _with_plain(program, undifferentiated, count, len(values)) if with_plain else program

    hand = by_directions if against.forwards else pulled_back

    def by_hand(f: Any, watch: Callable = lambda rule: rule, gradients: Derivative = hand) -> Program:
        return differentiated(with_rules(given.calling(f), watch), gradients, stripped(f))

    inputs = (*given.leaves, *cotangents)
    autodiff = reference is not None or not _is_cut_off(rule, given, program)
    way = _stated(against, equation, given, out)
    way = way or of_values(lambda way: differentiated(primal, way), inputs, chosen, autodiff)
    problem = Problem(
        name=name_of(rule),
        candidate=by_hand(rule),
        reference=differentiated(primal, way),
        inputs=inputs,
        in_paths=(*given.paths, *(f"cotangent of value{path}" for path, _ in floating)),
        out_paths=(*values, *(f"d{given.paths[i]}" for i in chosen), *(plain if with_plain else ())),
        gradients=(*(False for _ in values), *(True for _ in chosen), *(False for _ in plain if with_plain)),
        trusted=jaxprs.rules_of_jax(program),
        source=source_of(rule),
        obstacle=obstacle_of(given.leaves, [o for _, o in outputs]) or _nothing_to_differentiate(outputs, chosen),
        primal=_floats_of(primal, count),
        wrt=tuple(chosen),
        cotangents=tuple(range(count, count + len(cotangents))),
        written=rule,
        as_program=by_hand,
        faults_of=lambda f: rule_faults(lambda watch: by_hand(f, watch), inputs, f, out),
        as_reference=None if reference else lambda f, way=way: differentiated(stripped(f), way),
        original=original,
        stops=_stops(original, given, program),
        solves=jaxprs.solves(program),
        conditions=given.conditions(),
        heads=given.heads,
        drawn=given.drawn,
    )
    problem = _with_surrogate(problem, against.surrogate, given) if against.surrogate else problem
    others = _other_outputs(stripped(rule), given, rule, out) if with_plain else []
    problem = problem if problem.obstacle else _with_faults(problem, others, given, rng)
    if equation is None or problem.obstacle or problem.faults:
        return with_estimate(problem, way)
    return with_equation(problem, equation)


def _check_forwards(problem: Problem) -> None:
    entries = sum(problem.inputs[i].size for i in problem.wrt)
    if entries > MAX_ENTRIES:
        raise Unusable(f"mode='forward' differentiates along one entry after the other, {MAX_ENTRIES} at most; these "
                       f"arguments have {entries}: choose some with argnums, or pass smaller ones")  # fmt: skip
    equations = jaxprs.equations(jaxprs.trace(problem.candidate, problem.inputs))
    if any(eqn.primitive.name == "custom_lin" for eqn in equations):  # for which JAX raises when it compiles
        raise Unusable(f"{problem.name} has no forward mode, because it calls a custom_vjp: omit mode='forward'")


def _stated(against: Against, equation: Equation | None, given: Arguments, out: Any) -> Derivative | None:
    """The derivative that the user states by an equation or a surrogate."""
    if equation is not None:
        return by_equation(equation)
    if against.values:
        return by_differences
    return by_surrogate(against.surrogate, given, out) if against.surrogate is not None else None


def _with_faults(problem: Problem, faults: Sequence[Fault], given: Arguments, rng: np.random.Generator) -> Problem:
    """The problem with these faults, or those of its rule; a rule that JAX cannot transpose is tried forwards."""
    faults = faults or _standing(problem)
    if any(fault.how is How.NOT_LINEAR for fault in faults) and is_additive(
        given.calling(problem.written), given.leaves, problem.wrt, rng
    ):
        assert problem.as_program is not None
        return _forwards(problem, functools.partial(problem.as_program, gradients=by_directions))
    return problem._replace(faults=tuple(faults))


def _floats_of(f: Callable, count: int) -> Program:
    """The float values of a function of the first inputs."""
    return lambda *inputs: tuple(o for o in outputs_of(f(*inputs[:count])) if is_inexact(o))


def _with_surrogate(problem: Problem, surrogate: Callable, given: Arguments) -> Problem:
    """The problem of a rule whose reference is the derivative of a surrogate: its values are what is differentiated,
    unless it has rules of its own."""
    meant = given.calling(surrogate)
    has_rules, (program, _) = holds_rules(meant, given.leaves), traced(meant, given.leaves, surrogate)
    if has_rules:
        problem = problem._replace(conditions=(*problem.conditions, TRUSTED))
    return problem._replace(primal=None if has_rules else _floats_of(meant, len(given.leaves)), as_reference=None,
                            stops=_stops(surrogate, given, program))  # fmt: skip


def _with_plain(program: Program, undifferentiated: Callable | None, count: int, values: int) -> Program:
    """The program, followed by the values of a function without differentiation; None for the program's own."""

    def both(*inputs: Any) -> tuple[jax.Array, ...]:
        found = program(*inputs)
        return (*found, *(outputs_of(undifferentiated(*inputs[:count])) if undifferentiated else found[:values]))

    return both


def _forwards(problem: Problem, as_program: Callable) -> Problem:
    """The problem of a rule that JAX cannot transpose, differentiated along one direction after the other."""
    return problem._replace(candidate=as_program(problem.written), as_program=as_program, faults_of=lambda f: [],
                            conditions=(*problem.conditions, FORWARDS), assumed=TRIED)  # fmt: skip


def _stops(original: Any, given: Arguments, program: Any) -> bool:
    """Whether somebody wrote a stop_gradient into the function.

    ``program``, the function without its rules, does not show who wrote one. Where the function cannot be traced in any
    other way, every stop_gradient counts.
    """
    equations = list(jaxprs.equations(program))
    if not any(eqn.primitive.name == "stop_gradient" or has(eqn, Trait.BY_REJECTION) for eqn in equations):
        return False
    try:
        return jaxprs.stops(traced(with_rules(given.calling(original)), given.leaves, original)[0])
    except CONCRETE:
        return True


def _is_cut_off(rule: Any, given: Arguments, program: Any) -> bool:
    """Whether autodiff of the function without its rules is no reference, because a gradient is stopped that a rule may
    stand for.

    The bits of a number have no derivative for JAX. A solver stops gradients beside a primitive with a derivative.
    """
    if any(map(_reads_bits, jaxprs.equations(program))):
        return True
    if all(eqn.primitive.name != "stop_gradient" for eqn in jaxprs.equations(program)):
        return False
    try:
        whole, _ = traced(with_rules(given.calling(rule)), given.leaves, rule)
    except CONCRETE:
        return True
    parts = [whole, *_implementations(whole)]
    return len(parts) > 1 and any(part is None or jaxprs.stops(part) for part in parts)


def _reads_bits(eqn: Any) -> bool:
    return eqn.primitive.name == "bitcast_convert_type" and jaxprs.is_float(eqn.invars[0].aval.dtype)


def _implementations(program: Any) -> Iterator[Any]:
    """Yield the implementations of all primitives that are not JAX's, None for one that cannot be traced."""
    for eqn in jaxprs.equations(program):
        if is_foreign(eqn.primitive):
            inside = implementation(eqn)
            yield inside
            yield from _implementations(inside) if inside is not None else ()


def _standing(problem: Problem) -> list[Fault]:
    """The faults of the rule, but none if it raises and autodiff of its function raises too: there is no reference."""
    faults = list(problem.faults_of(problem.written) if problem.faults_of else ())
    if any(fault.how is not How.RETURNED for fault in faults):
        try:
            jaxprs.trace(problem.reference, problem.inputs)
        except Exception as error:  # whatever JAX raises where a function has no derivative in reverse
            noted(error, "autodiff of the function")
            return []
    return faults


def _other_outputs(plain: Callable, given: Arguments, rule: Any, out: Any) -> list[Fault]:
    """List how the outputs of a rule's own primal differ from the reference's."""
    _, own = traced(plain, given.leaves, rule)
    if jax.tree.structure(own) != jax.tree.structure(out):
        return [
            Fault("rule", f"returns {jax.tree.structure(own)}, but the reference returns {jax.tree.structure(out)}")
        ]
    return [Fault(PLAIN + fault.path, fault.what) for fault in leaf_faults(own, out)]


def _of_pair(rule: Any, reference: Callable | None) -> Any:
    """Make a rule from ``(fwd, bwd)``; with fwd None, the residuals are the arguments themselves."""
    if len(rule) != 2 or not callable(rule[1]):
        raise Unusable("a pair must be (fwd, bwd) or (None, bwd), where fwd and bwd are functions")
    fwd, bwd = rule
    if reference is None:
        raise Unusable("a pair (fwd, bwd) does not say which function it is for: pass reference=f")
    made: Any = jax.custom_vjp(reference)
    made.defvjp(fwd or (lambda *args: (call_users(reference, *args), args)), bwd)
    made.__name__ = name_of(bwd)
    return made


def _still(rule: Any) -> tuple[int | str, ...]:
    """Return the positions and names of the arguments that the rule declares nondifferentiable."""
    if not isinstance(rule, RULES):
        return ()
    known = parameters(rule.fun)
    numbers = tuple(rule.nondiff_argnums)
    return (*numbers, *(known[n] for n in numbers if n < len(known)))


def _nothing_to_differentiate(outputs: Sequence[tuple[str, Any]], chosen: Sequence[int]) -> str:
    if not any(is_inexact(o) for _, o in outputs):
        return "there is no output of a floating dtype to compare"
    return "" if chosen else "there is no argument of a floating dtype to differentiate"
