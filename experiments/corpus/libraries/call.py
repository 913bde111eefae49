"""What a call of a library's rule is, and what differences of its values say about the rule."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

__all__ = ["Call", "Meant", "Truth", "version_of"]

# What the library's author wants the gradient to be. All but "derivative" are deliberate.
Meant = Literal["derivative", "straight-through", "scaled", "clipped", "masked", "zero", "normalised", "smoothed",
                "statistic", "other"]  # fmt: skip
# Whether the rule is the derivative of its function, as differences of the values say: at these arguments and wherever
# the function has one; not at these; or at these alone, where ``why`` says at which others it is wrong.
Truth = Literal["right", "wrong", "right here"]


class Call(NamedTuple):
    """One public call that holds a custom rule.

    ``make()`` imports the library and returns the function to judge and its positional arguments; ``kwargs``, its
    keyword arguments, and the options of ``handprop.verify`` come beside it, so that a row says all that was asked.
    The function is the library's own: a public function, a bound method, or a lambda that only chooses among its
    arguments. ``float64`` calls it with 64-bit numbers, as its users do.
    """

    library: str  # the name of the distribution, as pip knows it
    rule: str  # the dotted name of the function whose rule is met
    make: Callable[[], tuple[Callable, tuple]]
    truth: Truth = "right"
    meant: Meant = "derivative"
    kwargs: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})
    mode: Literal["vjp", "jvp", "both"] = "vjp"  # how the rule is given in the library
    float64: bool = False
    argnums: Sequence[int] | None = None  # the differentiated arguments; None for all that hold floats
    why: str = ""  # for a rule that is deliberate or wrong: what the source or the mathematics says about it


def version_of(library: str) -> str:
    """Return the version of the distribution that is installed."""
    return importlib.metadata.version(library)
