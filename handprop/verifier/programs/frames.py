"""The lines of source code that an equation comes from, and whose they are."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from handprop._compat import source_info_util

__all__ = ["JAX", "Frame", "is_users", "own_lines", "user_frames"]

VERIFIER = os.path.dirname(os.path.dirname(__file__)) + os.sep
JAX = os.path.dirname(jax.__file__) + os.sep


class Frame(NamedTuple):
    """A place in the user's code; columns in UTF-8 bytes as Python counts them, end exclusive."""

    file: str
    function: str
    line: int
    column: int
    end_line: int
    end_column: int


def user_frames(eqn: Any) -> list[Frame]:
    """The user's frames that made an equation, innermost first: none inside JAX, Python's library or the verifier."""
    found = source_info_util.user_frames(eqn.source_info.traceback)
    return [
        Frame(f.file_name, f.function_name, f.start_line, f.start_column, f.end_line, f.end_column)
        for f in found if is_users(f.file_name)
    ]  # fmt: skip


def is_users(file: str) -> bool:
    """Whether a file is neither JAX's, nor Python's, nor the verifier's."""
    return source_info_util.is_user_filename(file) and not file.startswith(VERIFIER)


@contextlib.contextmanager
def own_lines() -> Iterator[None]:
    """Equations traced here carry the lines that make them: in a backward pass JAX gives them the forward's."""
    held = source_info_util._source_info_context
    before = held.context
    held.context = source_info_util.new_source_info()
    try:
        yield
    finally:
        held.context = before
