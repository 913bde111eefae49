"""What the proof says about what one gradient may be."""

import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from handprop.verifier.options import Options
from handprop.verifier.problem import Problem, Program, Shared
from handprop.verifier.proof.proof import proof
from handprop.verifier.report.values import Outcome

__all__ = ["is_refuted", "outcome_of"]

SECONDS = 6.0


def outcome_of(problem: Problem, k: int, candidate: Callable, reference: Callable, options: Options) -> Outcome:
    """What the proof finds about two programs that return output ``k``, or a part of it, alone."""
    claim = problem._replace(
        candidate=lambda *x: (candidate(*x),), reference=lambda *x: (reference(*x),), gradients=(), to_prove=None,
        out_paths=problem.out_paths[k : k + 1], shared=Shared())  # fmt: skip
    deadline = min(options.deadline, time.monotonic() + SECONDS)
    return proof(claim, options._replace(budget=min(options.budget, SECONDS), deadline=deadline)).outcome


def is_refuted(problem: Problem, k: int, candidate: Program, reference: Program, options: Options) -> bool:
    """Whether two programs that return all outputs return another output ``k``, as far as the proof can tell in time.

    The output of the reference is read in the dtype of the candidate's.
    """
    if options.seconds_left <= 0:
        return False
    dtype: Any = problem.inputs[dict(problem.owners)[k]].dtype
    found = outcome_of(
        problem, k, lambda *x: candidate(*x)[k], lambda *x: jnp.asarray(reference(*x)[k], dtype), options
    )
    return found is Outcome.FAILS
