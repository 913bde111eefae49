"""Faults of the verifier itself, told apart from what the user's code and JAX raise.

Checks and the search for a fix run programs that may raise, and they go on if one does. A fault of the verifier itself
would look like such an error. Each handler therefore passes what it caught to :func:`noted`, which keeps the verifier's
own faults for the report's field ``internal``.

The traceback shows whose error it is. Going outwards from the innermost frame, the first frame of JAX, of
:func:`call_users` or of the verifier decides; frames of NumPy, of Python's library and of other code belong to what
called them. Code that calls a function of the user's directly, not through JAX, must therefore use :func:`call_users`.

The faults are collected in a context variable because the handlers are at the bottom of searches and inside functions
that JAX traces: a list would have to be an argument of nearly every function in between.
"""

import contextlib
import os
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from handprop._compat import whole_tracebacks
from handprop.verifier.programs import frames

__all__ = ["OutOfTime", "TooLarge", "call_users", "collected", "ending_at", "first_line", "go_on", "noted", "place_of",
           "said"]  # fmt: skip

KINDS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError, RecursionError,
         TypeError, ValueError)  # fmt: skip
DELIBERATE = ("handprop", "jax", "jaxlib")  # packages that raise errors of their own types on purpose


class OutOfTime(BaseException):
    """The report is so late that it has to end. Handlers of errors in programs do not catch it."""


class TooLarge(Exception):
    """A program has more equations than a search looks at."""


Faults = dict[tuple[str, str], str]  # the lines to report, by what stopped and where
_FOUND: ContextVar[Faults | None] = ContextVar("handprop_internal", default=None)
_END: ContextVar[float] = ContextVar("handprop_end", default=float("inf"))


@contextlib.contextmanager
def ending_at(moment: float) -> Iterator[None]:
    """Within this context :func:`go_on` raises OutOfTime from this ``time.monotonic()`` moment on."""
    token = _END.set(moment)
    try:
        yield
    finally:
        _END.reset(token)


def go_on() -> None:
    """Called before everything that may take long."""
    if time.monotonic() > _END.get():
        raise OutOfTime


def call_users(f: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function of the user's, whose errors then count as the user's, even a wrong number of arguments."""
    return f(*args, **kwargs)


@contextlib.contextmanager
def collected() -> Iterator[Faults]:
    """Collect the verifier's own faults within this context, where JAX leaves its frames in tracebacks."""
    outer, found = _FOUND.get(), Faults()
    token = _FOUND.set(found)
    try:
        with whole_tracebacks():
            yield found
    finally:
        _FOUND.reset(token)
        if outer is not None:
            outer.update(found)


def noted(error: Exception, what: str = "the search for a fix") -> str:
    """Return a line that says where ``what`` stopped, and keep it for the report.

    The line is "" if the error is the user's, JAX's or deliberate.
    """
    place, found = place_of(error), _FOUND.get()
    if not place or found is None:
        return ""
    return found.setdefault((what, place), f"{what} stopped at {place}: {said(error)}")


def place_of(error: Exception) -> str:
    """Return the verifier's file and line that raised the error, or "" if the error is the user's, JAX's or deliberate.

    Outside of :func:`collected` the result is always "", because JAX's frames may be missing there.
    """
    if not isinstance(error, KINDS) or type(error).__module__.partition(".")[0] in DELIBERATE or _FOUND.get() is None:
        return ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file == __file__ or file.startswith(frames.JAX):
            return ""
        if file.startswith(frames.VERIFIER):
            return f"{file.removeprefix(frames.VERIFIER).replace(os.sep, '/')}:{line}"
    return ""


def first_line(error: BaseException) -> str:
    """The error's message in one line."""
    return textwrap.shorten(str(error).strip().split("\n")[0], 200, placeholder=" ...") or type(error).__name__


def said(error: BaseException) -> str:
    """Describe an error by its type and first line."""
    line, kind = first_line(error), type(error).__name__
    return kind if line == kind else f"{kind}: {line}"
