"""Faults of the verifier itself, told apart from what the user's code and JAX raise.

Checks and the search for a fix run programs that may raise, and go on where one does. An error of the verifier's own
would look like one of these, so each handler hands what it caught to :func:`noted`, which keeps the verifier's own
faults for the report's field ``internal``.

The traceback says whose an error is. From the innermost frame outwards, the first frame of JAX, of :func:`call_users`
or of the verifier decides; frames of NumPy, of Python's library and of anything else belong to what called them. So
whatever calls a function of the user's directly, and not through JAX, calls it by :func:`call_users`.

The faults are collected in a context variable: the handlers stand at the bottom of searches and inside functions that
JAX traces, and to hand a list to each would make it an argument of nearly every function between.
"""

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax

from handprop.verifier.programs import frames, jaxprs

__all__ = ["call_users", "collected", "noted", "place_of", "said"]

KINDS = (ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, NameError, TypeError, ValueError)
DELIBERATE = ("handprop", "jax", "jaxlib")  # packages whose own kinds of errors are meant to be raised

Faults = dict[tuple[str, str], str]  # lines, one for each thing that stopped and each place
_FOUND: ContextVar[Faults | None] = ContextVar("handprop_internal", default=None)


def call_users(f: Callable, *args: Any, **kwargs: Any) -> Any:
    """``f(*args, **kwargs)`` of a function of the user's, whose errors are the user's, also where the number of
    arguments is wrong."""
    return f(*args, **kwargs)


@contextlib.contextmanager
def collected() -> Iterator[Faults]:
    """Within it the verifier's own faults are collected, and JAX leaves its frames in tracebacks."""
    outer, found = _FOUND.get(), Faults()
    before = jax.config.jax_traceback_filtering  # pyright: ignore[reportAttributeAccessIssue]
    token = _FOUND.set(found)
    jax.config.update("jax_traceback_filtering", "off")
    try:
        yield found
    finally:
        jax.config.update("jax_traceback_filtering", before)
        _FOUND.reset(token)
        if outer is not None:
            outer.update(found)


def noted(error: Exception, what: str = "the search for a fix") -> str:
    """The line that says where ``what`` stopped, kept for the report; "" for an error of the user's or of JAX's."""
    place, found = place_of(error), _FOUND.get()
    if not place or found is None:
        return ""
    return found.setdefault((what, place), f"{what} stopped at {place}: {said(error)}")


def place_of(error: Exception) -> str:
    """The verifier's file and line that the error comes from; "" where it is the user's, JAX's or deliberate, and
    outside of :func:`collected`, as JAX's frames may be missing there."""
    if not isinstance(error, KINDS) or type(error).__module__.partition(".")[0] in DELIBERATE or _FOUND.get() is None:
        return ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file == __file__ or file.startswith(frames.JAX):
            return ""
        if file.startswith(frames.VERIFIER):
            return f"{file.removeprefix(frames.VERIFIER).replace(os.sep, '/')}:{line}"
    return ""


def said(error: BaseException) -> str:
    """An error by its kind and first line."""
    line, kind = jaxprs.first_line(error), type(error).__name__
    return kind if line == kind else f"{kind}: {line}"
