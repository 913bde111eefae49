"""Verify hand-written gradients: proved, verified, refuted by an input, or inconclusive.

Every entry point asks one question of one engine: are these two JAX functions the same function?
"""

import dataclasses
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from handprop.verifier import domains
from handprop.verifier.along_domains import Domains
from handprop.verifier.arguments import Unusable
from handprop.verifier.auditing import Audit, rules_met
from handprop.verifier.checks.registry import CHECKS
from handprop.verifier.from_functions import of_gradient, of_pair
from handprop.verifier.from_rules import Against, of_rule
from handprop.verifier.inferred_domains import judged
from handprop.verifier.internal import collected
from handprop.verifier.one_argument import arguments_of, asks_for_zeros, with_each_alone
from handprop.verifier.options import Options, Stream, seed_of
from handprop.verifier.problem import Problem
from handprop.verifier.report.report import GradientRefuted, Report
from handprop.verifier.report.values import Check, Counterexample, Fix, Location, LostBits, Outcome, Verdict, Worst
from handprop.verifier.second_order import differentiated

__all__ = [
    "Audit",
    "Check",
    "Counterexample",
    "Fix",
    "GradientRefuted",
    "Location",
    "LostBits",
    "Outcome",
    "Report",
    "Unusable",
    "Verdict",
    "Worst",
    "audit",
    "domains",
    "equivalent",
    "verify",
    "verify_gradient",
]


def _options(key: Any, budget: float, skip: str | Sequence[str], accuracy: float = 0.0, order: int = 1) -> Options:
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    names = [*(name for name, _ in CHECKS), "repair"]
    if unknown := sorted(set(skip) - set(names)):
        raise ValueError(f"skip={unknown[0]!r} is not a check; choose from {', '.join(names)}.")
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2; got {order!r}.")
    if not (isinstance(accuracy, numbers.Real) and 0 <= accuracy < 1):
        raise ValueError(f"accuracy must be a relative error, at least 0 and below 1; got {accuracy!r}.")
    if not (isinstance(budget, numbers.Real) and budget > 0):
        raise ValueError(f"budget must be a positive number of seconds; got {budget!r}.")
    end = time.monotonic() + budget
    return Options(seed_of(key), end, frozenset(skip), order, accuracy=float(accuracy), budget=budget)


def verify(rule: Callable | tuple[Callable | None, Callable], *args: Any, kwargs: Mapping[str, Any] | None = None,
           reference: Callable | None = None, argnums: int | Sequence[int] | None = None,
           nondiff_argnums: int | Sequence[int] = (), key: Any = None, order: int = 1, budget: float = 30.0,
           skip: str | Sequence[str] = (), domain: Domains | None = None, accuracy: float = 0.0,
           satisfies: Callable | None = None, surrogate: Callable | None = None,
           mode: Literal["reverse", "forward"] = "reverse", trust_jax: bool = True) -> Report:  # fmt: skip
    """Verify that a ``custom_vjp`` or ``custom_jvp`` rule is the derivative of its own primal, or of ``reference``.

    Args:
        rule: the rule itself, or any function that calls such rules; JAX's own rules inside it are trusted and listed.
            Also a pair ``(fwd, bwd)`` with ``reference=f``, or ``(None, bwd)`` for a bare ``bwd(args, cotangent)``.
        args: the rule's arguments: arrays, pytrees of arrays, or ``jax.ShapeDtypeStruct``, for which values are drawn.
            The outputs and the cotangents of all inexact leaves are compared, for a random output cotangent.
        kwargs: the rule's keyword arguments.
        reference: a function whose derivative is taken as correct, such as a plain JAX version of a kernel.
            Without a derivative in reverse mode, forward mode is used; without any, differences of its values.
        argnums: the positions of the arguments whose gradients are compared; by default all of them.
        nondiff_argnums: the positions of the arguments that have no gradient.
        key: the seed of every random draw, an integer or a JAX key.
        order: 2 also compares the derivatives of the gradients, for which JAX differentiates the rules.
        budget: the number of seconds the report may take.
        skip: the check or checks to omit; ``"repair"`` is the search for the mistake in a refuted rule.
        domain: the values that arguments may take (``handprop.domains``): one domain for all, or a mapping from names,
            positions or paths to domains. ``"any"`` asks for all numbers; without it, a property that the given values
            share may become a condition of the verdict.
        accuracy: the error that is allowed, relative to an output's largest entry, for a rule that is approximate on
            purpose. The verdict VERIFIED then holds under this condition; no proof makes use of it.
        satisfies: ``F(y, *args)``, which is zero for the rule's value y: as many equations as y has entries. The rule
            of a root finder, a fixed point, a solver or an optimizer is judged by them, with the implicit function
            theorem ``F_y dy + F_x dx = 0``, and its iterations are not differentiated.
        surrogate: the function whose derivative the gradient is meant to be, for a rule that is not the derivative of
            its own values on purpose (straight-through, clipped, scaled; see ``handprop.with_gradient``). The value is
            still compared with the rule's own.
        mode: how JAX differentiates the rule. ``"forward"`` is for ``custom_jvp`` rules of arguments with few entries:
            a tangent of zero times an infinity is NaN, which reverse mode does not show.
        trust_jax: False judges JAX's own rules inside the function too.

    Raises:
        Unusable: the rule cannot be called with these arguments; the message is one sentence.
        ValueError: an option has a value that is not listed above.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (2.0 * x * dy,))
    >>> verify(square, jnp.arange(3.0)).verdict
    <Verdict.PROVED: 'the two programs are the same function over the reals, at these shapes'>
    """
    options, named = _options(key, budget, skip, accuracy, order), dict(kwargs or {})
    against = _against(reference, satisfies, surrogate, order)._replace(
        forwards=_is_forward(mode), trusts_jax=trust_jax
    )

    def problem_of(argnums: int | Sequence[int] | None) -> Problem:
        return of_rule(rule, args, named, against, argnums, nondiff_argnums, options.rng(Stream.ARGUMENTS))

    def twice(problem: Problem) -> Problem:
        return differentiated(problem, options.rng(Stream.SECOND_ORDER))  # the same draws each time it is asked

    def report_on(problem: Problem, options: Options) -> Report:
        if order == 1:
            return judged(problem, options, "verify", domain)
        return judged(problem, options, "verify", domain, twice)

    def reported() -> Report:
        problem = problem_of(argnums)
        if not asks_for_zeros(problem):
            return report_on(problem, options)
        several = options._replace(proofs=1 + len(arguments_of(problem)))
        report = report_on(problem, several)
        if not report.ok:
            return report
        return with_each_alone(report, problem, lambda n: report_on(problem_of((n,)), several))

    return _with_faults(reported)


def _is_forward(mode: Any) -> bool:
    if mode not in ("reverse", "forward"):
        raise ValueError(f"mode must be 'reverse' or 'forward'; got {mode!r}.")
    return mode == "forward"


def _against(reference: Callable | None, satisfies: Callable | None, surrogate: Callable | None, order: int) -> Against:
    if sum(given is not None for given in (reference, satisfies, surrogate)) > 1:
        raise ValueError("pass one of reference, satisfies and surrogate: each says what the gradient should be.")
    if satisfies is not None and order == 2:
        raise ValueError("order=2 cannot be combined with satisfies: the equation gives first derivatives only.")
    return Against(reference, satisfies, surrogate)


def _with_faults(reported: Callable[[], Report]) -> Report:
    """Make the report, and add to it the faults of the verifier itself that were noted meanwhile."""
    with collected() as found:
        report = reported()
    return dataclasses.replace(report, internal=tuple(dict.fromkeys((*report.internal, *found.values()))))


def verify_gradient(hand: Callable, loss: Callable, *args: Any, argnums: int | Sequence[int] = 0, key: Any = None,
                    budget: float = 30.0, skip: str | Sequence[str] = (), domain: Domains | None = None,
                    accuracy: float = 0.0) -> Report:  # fmt: skip
    """Verify that ``hand(*args)``, a gradient or (value, gradient), is ``jax.value_and_grad(loss, argnums)(*args)``.

    ``domain`` is as in :func:`verify`. Labels whose rows sum to 1 need not be declared; ``handprop.domains`` has other
    kinds.

    >>> import jax.numpy as jnp
    >>> report = verify_gradient(lambda w: 3.0 * w, lambda w: jnp.sum(w * w), jnp.arange(3.0))
    >>> report.verdict.name, report.counterexample.worst.path
    ('REFUTED', 'gradient')
    """
    options = _options(key, budget, skip, accuracy)
    rng = options.rng(Stream.ARGUMENTS)
    return _with_faults(lambda: judged(of_gradient(hand, loss, args, argnums, rng), options, "verify_gradient", domain))


def equivalent(f: Callable, g: Callable, *args: Any, key: Any = None, budget: float = 30.0,
               skip: str | Sequence[str] = (), domain: Domains | None = None, accuracy: float = 0.0
               ) -> Report:  # fmt: skip
    """Verify that two functions of the same arguments are the same function; ``g`` is the reference.

    ``domain`` is as in :func:`verify`.

    >>> import jax, jax.numpy as jnp
    >>> equivalent(lambda x: (1.0 + jnp.tanh(x / 2.0)) / 2.0, jax.nn.sigmoid, jnp.ones(5)).verdict.name
    'PROVED'
    """
    options = _options(key, budget, skip, accuracy)
    rng = options.rng(Stream.ARGUMENTS)
    return _with_faults(lambda: judged(of_pair(f, g, args, rng), options, "equivalent", domain))


def audit(step: Callable, *args: Any, key: Any = None, budget: float = 30.0, skip: str | Sequence[str] = ()) -> Audit:
    """Run ``step(*args)`` once and verify every custom rule that it calls.

    Each rule is verified once per shape, at the first finite values that reach it. JAX's own rules are listed as
    trusted. ``budget`` applies to each rule separately. Arguments given as shapes are drawn at random.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_jvp
    ... def cube(x):
    ...     return x**3
    >>> _ = cube.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]))
    >>> report = audit(jax.jit(jax.grad(lambda w: jnp.sum(cube(w)))), jnp.ones(3))
    >>> [(r.subject, r.verdict.name) for r in report.reports]
    [('cube', 'PROVED')]
    """
    with collected() as found:
        met = rules_met(step, args, _options(key, budget, skip).rng(Stream.ARGUMENTS))
    calls = [(found.rule, *found.call()) for found in met.rules.values()]
    reports = [verify(rule, *a, kwargs=k, key=key, budget=budget, skip=skip) for rule, a, k in calls]
    hashes = {f"{i}: {report.subject}": dict(report.certificate["hashes"]) for i, report in enumerate(reports, 1)
              if "hashes" in report.certificate}  # fmt: skip
    return Audit(tuple(reports), tuple(sorted(met.trusted)), (*met.unseen(), *found.values()), {"hashes": hashes})
