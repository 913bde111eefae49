"""Gradients that are not the derivative of their function, on purpose: straight-through, scaled, clipped, masked.

Such a rule is judged against a surrogate: the function whose derivative its gradient is meant to be, while the value
stays the rule's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from handprop.verifier.arguments import Arguments, Unusable
from handprop.verifier.derivatives import Derivative, pulled_back
from handprop.verifier.faults import leaf_faults
from handprop.verifier.problem import outputs_of, traced
from handprop.verifier.rules import with_rules

__all__ = ["by_surrogate", "with_gradient"]

TRUSTED = "the rules that the surrogate calls are right"


def by_surrogate(surrogate: Callable, given: Arguments, out: Any) -> Derivative:
    """The derivative of the surrogate beside the values of the function itself, whose outputs look like ``out``.

    Raises:
        Unusable: the surrogate returns something else.
    """
    if not callable(surrogate):
        raise Unusable(f"surrogate must be a function; got {type(surrogate).__name__}")
    meant = with_rules(given.calling(surrogate))
    _, found = traced(meant, given.leaves, surrogate)
    if jax.tree.structure(found) != jax.tree.structure(out):
        raise Unusable(f"surrogate returns {jax.tree.structure(found)}, but the rule returns {jax.tree.structure(out)}")
    for fault in leaf_faults(found, out):
        raise Unusable(f"surrogate's value{fault.path} {fault.what}, as the rule's value")

    def derivative(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
        outputs = outputs_of(f(*leaves))
        return (*outputs, *pulled_back(meant, leaves, cotangents, chosen)[len(outputs) :])

    return derivative


def with_gradient(f: Callable, change: Callable) -> Callable:
    """Return ``f`` with its gradient changed: with respect to argument k it is ``change(*gradients)[k]``.

    ``change(dx, dy, ...)`` takes the gradient of every argument, as a vector-Jacobian product in reverse mode, and
    returns as many; of a single argument it returns the gradient itself. The value of ``f`` stays. This is the
    ``surrogate`` of a rule that clips, scales, masks or normalises gradients.

    >>> import jax, jax.numpy as jnp
    >>> f = with_gradient(jnp.square, lambda dx: jnp.clip(dx, -1.0, 1.0))
    >>> jax.grad(f)(3.0).item(), f(3.0).item()
    (1.0, 9.0)
    """

    @jax.custom_vjp
    def changed(*args: Any) -> Any:
        return f(*args)

    def forward(*args: Any) -> tuple[Any, Callable]:
        return jax.vjp(f, *args)

    def backward(pull: Callable, cotangent: Any) -> tuple:
        gradients = change(*(found := pull(cotangent)))
        return tuple(gradients) if len(found) > 1 else (gradients,)

    changed.defvjp(forward, backward)
    return changed
