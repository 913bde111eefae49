"""Problems whose arguments lie in domains: programs of free parameters, with gradients along the domains."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from handprop.verifier.checks.evaluators import Evaluator
from handprop.verifier.domains import Domain
from handprop.verifier.internal import call_users, first_line
from handprop.verifier.options import Options, Stream
from handprop.verifier.problem import Problem, Program, Shared
from handprop.verifier.programs import jaxprs, widen

__all__ = ["ANY", "Domains", "at_arguments", "declared", "inside", "is_of", "reached", "tolerance", "within"]

ANY = "any"
UNCOMPARED = ", along which there are no directions and its gradient is not compared"
Domains = Domain | Literal["any"] | Mapping[int | str, Domain | Literal["any"]]


def within(problem: Problem, domains: Mapping[int, Domain], along: bool = True) -> Problem:
    """Return the problem as a function of free parameters, with the inputs at these places in these domains.

    With ``x = f(u)`` and ``J = df/du``, both programs become functions of u. If gradients are compared ``along`` the
    domain, the gradient g with respect to x becomes ``J^T g``, and it is left out where the domain is discrete.
    Otherwise it stays g, at inputs that lie in the domain. The conditions name each argument and its domain.
    """
    bound = {place: _bound(domain, problem.inputs[place]) for place, domain in domains.items()}
    numbers = [j for j, is_gradient in enumerate(problem.gradients) if is_gradient]
    owners = {j: place for j, place in zip(numbers, problem.wrt, strict=False) if place in bound} if along else {}
    dropped = {j for j, place in owners.items() if bound[place].discrete}
    kept = [j for j in range(len(problem.out_paths)) if j not in dropped]
    uncompared = {owners[j] for j in dropped}
    held = not along and any(place in bound for place in problem.wrt)

    def composed(program: Program) -> Program:
        def of_free(*free: Any) -> tuple[Any, ...]:
            arguments, pulls = list(inside(bound, free)), {}
            for place in set(owners.values()):
                arguments[place], pulls[place] = jax.vjp(bound[place].from_free, free[place])
            outputs = program(*arguments)
            return tuple(pulls[owners[j]](o)[0] if j in owners else o
                         for j, o in enumerate(outputs) if j not in dropped)  # fmt: skip

        return of_free

    def values(*free: Any) -> tuple[Any, ...]:
        assert problem.primal is not None
        return problem.primal(*inside(bound, free))

    def made(make: Callable[[Any], Program] | None) -> Callable[[Any], Program] | None:
        return None if make is None else lambda f: composed(make(f))

    names = {j: f"{problem.out_paths[j]} along its domain" for j in owners}
    return problem._replace(
        candidate=composed(problem.candidate),
        reference=composed(problem.reference),
        primal=None if problem.primal is None or held else values,
        as_program=made(problem.as_program),
        as_reference=made(problem.as_reference),
        forwards=None,
        inputs=tuple(jaxprs.with_replaced(problem.inputs, list(bound), [d.free for d in bound.values()])),
        out_paths=tuple(names.get(j, problem.out_paths[j]) for j in kept),
        gradients=tuple(problem.gradients[j] for j in kept if j < len(problem.gradients)),
        wrt=tuple(place for place in problem.wrt if not (place in bound and along and bound[place].discrete)),
        domains={**problem.domains, **bound},
        conditions=(
            *problem.conditions,
            *(f"{problem.in_paths[i]} {d.says}" + UNCOMPARED * (i in uncompared) for i, d in bound.items()),
        ),
        shared=Shared(),
    )


def inside(domains: Mapping[int, Domain], free: Any) -> tuple[Any, ...]:
    """Return the arguments that these free parameters stand for."""
    return tuple(domains[i].from_free(x) if i in domains else x for i, x in enumerate(free))


def reached(problem: Problem, free: tuple[Any, ...]) -> bool:
    """Whether the arguments that these free parameters stand for lie in their domains.

    Extreme free parameters may leave a domain through rounding.
    """
    with jax.enable_x64(True):
        return all(one.reached(np.asarray(one.from_free(free[i]), np.float64), tolerance(one.free))
                   for i, one in problem.domains.items())  # fmt: skip


def at_arguments(evaluator: Evaluator, problem: Problem) -> Evaluator:
    """Turn an evaluator of programs of the arguments into one of the free parameters; gradients stay as they are.

    The rounding errors of the map itself are part of the noise.
    """
    with jax.enable_x64(True):
        free = tuple(jaxprs.widened(x) for x in problem.inputs)
        program = widen.widen(jaxprs.trace(lambda *free: inside(problem.domains, free), free))
        clean = jax.jit(lambda free: program(free, None, None))
        rough = jax.jit(lambda free, seed: program(free, evaluator.eta, seed))

    def run(f: Callable, *args: Any) -> tuple[Any, ...]:
        with jax.enable_x64(True):
            return tuple(f(*args))

    return evaluator._replace(
        clean=lambda free: evaluator.clean(run(clean, tuple(free))),
        rough=lambda free, seed: evaluator.rough(run(rough, tuple(free), np.uint32(seed)), seed),
        shifted=lambda free: evaluator.shifted(run(clean, tuple(free))),
        arguments=lambda free: run(clean, tuple(free)),
    )


def _bound(domain: Domain, x: Any) -> Domain:
    """Return the domain for this array, with its free parameters as ``free``; a non-float array keeps its dtype."""
    dtype = x.dtype if jaxprs.is_float(x.dtype) else np.dtype(np.float64 if jaxprs.wide([x]) else np.float32)
    values = np.asarray(x, np.float64)
    free = domain.to_free(values) if domain.free is None else domain.free

    def from_free(u: jax.Array) -> jax.Array:
        made = jnp.asarray(values.astype(dtype), u.dtype) if domain.keeps else call_users(domain.from_free, u)
        return made.astype(u.dtype if jaxprs.is_float(x.dtype) else x.dtype)

    return dataclasses.replace(domain, from_free=from_free, free=np.asarray(free, dtype))


def declared(problem: Problem, domain: Domains | None, options: Options) -> Problem:
    """Restrict the problem to the domains that ``domain=`` names: one for all arguments, or by name, position or path.

    Raises:
        ValueError: no argument has that name, a given value is outside its domain, a shape does not fit, or no gradient
            is left to compare.
    """
    if domain is None or domain == ANY or problem.faults or problem.obstacle:
        return problem
    named = _by_place(problem, domain)
    rng = options.rng(Stream.DOMAINS)
    chosen = {place: _given(problem, place, found, rng) for place, found in named.items()
              if isinstance(found, Domain)}  # fmt: skip
    found = within(problem, chosen)
    if any(problem.gradients) and not any(found.gradients):
        paths = ", ".join(problem.in_paths[i] for i in problem.wrt)
        raise ValueError(f"domain= leaves no gradient to compare: {paths} would be differentiated, but single points "
                         "have no directions; omit domain=, or use a domain that has directions")  # fmt: skip
    return found._replace(asked_any=tuple(p for p, found in named.items() if found == ANY))


def _by_place(problem: Problem, domain: Any) -> dict[int, Any]:
    places = [i for i in range(len(problem.inputs)) if i not in problem.cotangents]
    if isinstance(domain, Domain):
        return {i: domain for i in places if jaxprs.is_float(problem.inputs[i].dtype)}
    if not isinstance(domain, Mapping):
        raise TypeError(f"domain= must be a domain, a mapping of arguments to domains, or 'any'; got {domain!r}")
    found = {}
    for key, one in domain.items():
        if not isinstance(one, Domain) and one != ANY:
            raise TypeError(f"domain= maps {key!r} to {one!r}: use a domain like handprop.domains.positive(), or 'any'")
        name = problem.heads[key] if isinstance(key, int) and 0 <= key < len(problem.heads) else key
        here = [i for i in places if is_of(problem.in_paths[i], name)]
        if not here:
            known = ", ".join(dict.fromkeys(problem.in_paths[i] for i in places))
            raise ValueError(f"domain= names {key!r}, which is not an array argument; choose from {known}")
        found |= dict.fromkeys(here, one)
    return found


def is_of(path: str, name: Any) -> bool:
    """Whether the path is the argument of this name, or leads into it."""
    return path == name or path.startswith((f"{name}[", f"{name}."))


def _given(problem: Problem, place: int, domain: Domain, rng: np.random.Generator) -> Domain:
    """Return the domain, after a check that the argument lies in it; an argument given as a shape is drawn inside."""
    x, path = problem.inputs[place], problem.in_paths[place]
    if isinstance(domain.free, jax.ShapeDtypeStruct):
        domain = dataclasses.replace(domain, free=rng.normal(size=domain.free.shape))
    try:
        made = jax.eval_shape(domain.from_free, np.asarray(x, np.float32) if domain.free is None else domain.free)
        off = domain.lacks(np.asarray(x, np.float64), tolerance(x)) if place not in problem.drawn else ""
    except Exception as error:  # whatever the user's own function raises, or a map at a shape that it does not support
        reason = first_line(error)
        raise ValueError(f"{path} of shape {x.shape} does not fit its domain, {domain.says!r}: {reason}") from error
    if made.shape != x.shape:
        raise ValueError(f"{path} has shape {x.shape}, but its domain makes {made.shape}: pass an array of that shape")
    if off:
        raise ValueError(f"{path} is outside its domain, {domain.says!r}: it {off}")
    if place in problem.drawn and domain.free is None and not domain.keeps:
        return dataclasses.replace(domain, free=np.asarray(x))
    return domain


def tolerance(x: Any) -> float:
    """Return how far rounding in the array's own dtype may move a sum or a length away from 1."""
    return 16 * float(ml_dtypes.finfo(x.dtype).eps) if jaxprs.is_float(x.dtype) else 0.0
