"""Is a hand-written gradient right? Proved, verified, refuted with an input, or not to be judged.

One engine behind every entry: two JAX functions that should be the same function.
"""

import numbers
import time
from collections.abc import Callable, Sequence
from typing import Any

from handprop.verify import domains
from handprop.verify.alone import asks_for_zeros, with_each_alone
from handprop.verify.along import Domains
from handprop.verify.arguments import Unusable
from handprop.verify.auditing import Audit, rules_met
from handprop.verify.facts import judged
from handprop.verify.from_functions import of_gradient, of_pair
from handprop.verify.from_rules import of_rule
from handprop.verify.options import Options, seed_of
from handprop.verify.report import (
    Check,
    Counterexample,
    Fix,
    GradientRefuted,
    Location,
    LostBits,
    Outcome,
    Report,
    Verdict,
    Worst,
)
from handprop.verify.rungs import RUNGS
from handprop.verify.second import differentiated
from handprop.verify.subject import Subject

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


def _options(key: Any, budget: float, skip: Sequence[str], accuracy: float = 0.0, order: int = 1) -> Options:
    names = [*(name for name, _ in RUNGS), "mistakes"]
    if unknown := sorted(set(skip) - set(names)):
        raise ValueError(f"skip names no check {unknown[0]!r}: there are {', '.join(names)}")
    if order not in (1, 2):
        raise ValueError(f"order is 1 or 2, not {order!r}")
    if not (isinstance(accuracy, numbers.Real) and 0 <= accuracy < 1):
        raise ValueError(f"accuracy is a relative error from 0 to 1, not {accuracy!r}")
    if not (isinstance(budget, numbers.Real) and budget > 0):
        raise ValueError(f"budget is a number of seconds above 0, not {budget!r}")
    return Options(
        seed_of(key), time.monotonic() + budget, frozenset(skip), order, accuracy=float(accuracy), budget=budget
    )


def verify(rule: Callable | tuple[Callable | None, Callable], *args: Any, reference: Callable | None = None,
           argnums: Sequence[int] | None = None, nondiff: Sequence[int] = (), key: Any = None, order: int = 1,
           budget: float = 30.0, skip: Sequence[str] = (), domain: Domains | None = None, accuracy: float = 0.0,
           **kwargs: Any) -> Report:  # fmt: skip
    """Whether a ``custom_vjp`` or ``custom_jvp`` rule is the derivative of its own primal, or of ``reference``.

    ``rule``: the object itself, or any function that holds such rules; rules of JAX's own inside it are trusted and
    listed. Or a pair ``(fwd, bwd)`` with ``reference=f``; ``(None, bwd)`` for a bare ``bwd(args, cotangent)``.
    Arguments are arrays, pytrees of arrays, or ``jax.ShapeDtypeStruct``, which are drawn by ``key``. Both the
    values and the cotangents of all inexact leaves are compared, for a random cotangent. ``argnums`` and ``nondiff``
    choose whose gradients are. ``order=2`` also compares the derivatives of the gradients, rules differentiated by JAX.
    ``budget`` in seconds; ``skip`` names checks to leave out, or
    ``"mistakes"``, the search for what is wrong with a refuted one. ``domain`` says what arguments may be
    (``handprop.domains``): one domain for all, or a mapping from name, position or path to domains; ``"any"`` asks for
    all numbers, where else what the given values have may become a condition of the verdict. ``accuracy``: the
    relative error, of an output's largest entry, of a rule that is approximate on purpose; it is a condition of the
    verdict, and nothing for a proof.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (2.0 * x * dy,))
    >>> verify(square, jnp.arange(3.0)).verdict
    <Verdict.PROVED: 'the two programs are the same function over the reals, at these shapes'>
    """
    options = _options(key, budget, skip, accuracy, order)
    subject = of_rule(rule, args, kwargs, reference, argnums, nondiff, options.rng(1))

    def report_on(subject: Subject) -> Report:
        if order == 1:
            return judged(subject, options, "verify", domain)
        return judged(subject, options, "verify", domain, lambda subject: differentiated(subject, options.rng(2)))

    report = report_on(subject)
    if not report.ok or not asks_for_zeros(subject):
        return report
    return with_each_alone(report, subject, lambda n: report_on(
        of_rule(rule, args, kwargs, reference, (n,), nondiff, options.rng(1))))  # fmt: skip


def verify_gradient(hand: Callable, loss: Callable, *args: Any, argnums: int | Sequence[int] = 0, key: Any = None,
                    budget: float = 30.0, skip: Sequence[str] = (), domain: Domains | None = None,
                    accuracy: float = 0.0) -> Report:  # fmt: skip
    """Whether ``hand(*args)``, a gradient or (value, gradient), is ``jax.value_and_grad(loss, argnums)(*args)``.

    ``domain`` as in :func:`verify`: labels whose rows sum to 1 need not be named, ``handprop.domains`` has other kinds.

    >>> import jax.numpy as jnp
    >>> report = verify_gradient(lambda w: 3.0 * w, lambda w: jnp.sum(w * w), jnp.arange(3.0))
    >>> report.verdict.name, report.counterexample.worst.path
    ('REFUTED', 'gradient')
    """
    options = _options(key, budget, skip, accuracy)
    return judged(of_gradient(hand, loss, args, argnums, options.rng(1)), options, "verify_gradient", domain)


def equivalent(f: Callable, g: Callable, *args: Any, key: Any = None, budget: float = 30.0,
               skip: Sequence[str] = (), domain: Domains | None = None, accuracy: float = 0.0) -> Report:  # fmt: skip
    """Whether two functions of the same arguments are one function; ``g`` is the reference, ``domain`` as in
    :func:`verify`.

    >>> import jax, jax.numpy as jnp
    >>> equivalent(lambda x: (1.0 + jnp.tanh(x / 2.0)) / 2.0, jax.nn.sigmoid, jnp.ones(5)).verdict.name
    'PROVED'
    """
    options = _options(key, budget, skip, accuracy)
    return judged(of_pair(f, g, args, options.rng(1)), options, "equivalent", domain)


def audit(step: Callable, *args: Any, key: Any = None, budget: float = 30.0, skip: Sequence[str] = ()) -> Audit:
    """Runs ``step(*args)`` once and verifies every custom rule it calls, once per shape, at the first finite values
    that reached it.

    Rules of JAX's own are listed as trusted. ``budget`` is for each rule. Arguments that are given as shapes are drawn.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_jvp
    ... def cube(x):
    ...     return x**3
    >>> _ = cube.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]))
    >>> report = audit(jax.jit(jax.grad(lambda w: jnp.sum(cube(w)))), jnp.ones(3))
    >>> [(r.subject, r.verdict.name) for r in report.reports]
    [('cube', 'PROVED')]
    """
    met = rules_met(step, args, _options(key, budget, skip).rng(1))
    calls = [(found.rule, *found.call()) for found in met.rules.values()]
    reports = [verify(rule, *a, key=key, budget=budget, skip=skip, **k) for rule, a, k in calls]
    return Audit(tuple(reports), tuple(sorted(met.trusted)), met.unseen())
