"""Where a test's own functions stand in its file."""

from collections.abc import Callable
from pathlib import Path

__all__ = ["line_of"]


def line_of(f: Callable, text: str) -> int:
    """The number of the first line of the function's file that holds the text, from the function on."""
    lines = Path(f.__code__.co_filename).read_text().splitlines()
    start = f.__code__.co_firstlineno
    return next(n for n in range(start, len(lines)) if text in lines[n - 1])
