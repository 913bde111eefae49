"""What the user handed over, as two plain functions of one flat tuple of arrays.

Everything the rungs need to know is in :class:`Subject`; no rung looks at ``custom_vjp`` objects again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

__all__ = ["Fault", "Program", "Subject"]

Program = Callable[..., tuple[jax.Array, ...]]


class Fault(NamedTuple):
    """A structural fault found while the subject was built: anyone can see it without arithmetic."""

    path: str
    what: str


class Subject(NamedTuple):
    """Two programs that should be the same function.

    ``hand(*inputs)`` and ``reference(*inputs)`` return tuples of arrays of the same length, shapes and dtypes,
    named by ``out_paths``; ``inputs`` are named by ``in_paths``. Outputs that hold no gradient (None, float0) are
    left out of both. Where the derivative of a function is checked, ``primal(*inputs[:n_primal])`` returns the
    function's own outputs as a tuple, the inputs after ``n_primal`` are the cotangents, in the order of its inexact
    outputs, and ``gradient_of[i]`` is the position of the input whose gradient output ``i`` is (None for a primal
    value). ``primal`` is None where two arbitrary functions are compared.
    """

    name: str
    hand: Program
    reference: Program
    inputs: tuple[Any, ...]
    in_paths: tuple[str, ...]
    out_paths: tuple[str, ...]
    primal: Program | None = None
    n_primal: int = 0
    gradient_of: tuple[int | None, ...] = ()
    faults: tuple[Fault, ...] = ()
    trusted: tuple[str, ...] = ()
    source: str = ""
