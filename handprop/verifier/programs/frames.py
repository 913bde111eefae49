"""The lines of source code that an equation comes from, and who wrote them."""

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
    """A place in the user's code; columns count UTF-8 bytes, as Python does, and the end is exclusive."""

    file: str
    function: str
    line: int
    column: int
    end_line: int
    end_column: int


def user_frames(eqn: Any) -> list[Frame]:
    """Return the user's frames that made an equation, innermost first.

    Frames inside JAX, Python's library and the verifier are left out.
    """
    found = source_info_util.user_frames(eqn.source_info.traceback)
    return [
        Frame(f.file_name, f.function_name, f.start_line, f.start_column, f.end_line, f.end_column)
        for f in found if is_users(f.file_name)
    ]  # fmt: skip


def is_users(file: str) -> bool:
    """Whether a file is not part of JAX, Python or the verifier."""
    return source_info_util.is_user_filename(file) and not file.startswith(VERIFIER)


@contextlib.contextmanager
def own_lines() -> Iterator[None]:
    """Within this context, traced equations carry the lines that make them.

    In a backward pass, JAX would give them the lines of the forward pass.
    """
    held = source_info_util._source_info_context
    before = held.context
    held.context = source_info_util.new_source_info()
    try:
        yield
    finally:
        held.context = before
