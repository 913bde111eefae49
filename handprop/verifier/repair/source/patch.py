"""Write edits as text: the changed lines, and a unified diff that applies to the user's files."""

import ast
import difflib

from handprop.verifier.repair.search import Found, edited
from handprop.verifier.repair.source.functions import Place, text_of
from handprop.verifier.repair.source.trees import Edit

__all__ = ["Unwritable", "diff_of"]


class Unwritable(Exception):
    """An edit that cannot be written in place."""


def diff_of(found: Found) -> tuple[str, str]:
    """Return the edited lines and a unified diff.

    Raises:
        Unwritable: an edit cannot be written in place.
    """
    lines, diffs = [], []
    for file in dict.fromkeys(place.file for place, _ in found.changes):
        before = after = text_of(file)
        here = [(place, edit) for place, edit in found.changes if place.file == file]
        # Start from the end, so that earlier positions stay valid.
        for place, edit in sorted(here, key=lambda c: (c[1].slot.node.lineno, c[1].slot.node.col_offset), reverse=True):
            node = edit.slot.node
            after = _spliced(after, node, _text(place, edit))
            lines.insert(0, after[node.lineno - 1].strip())
        diffs += [*difflib.unified_diff(before, after, file, file, lineterm="")]
    return "\n".join(lines), "\n".join(diffs) + "\n"


def _text(place: Place, edit: Edit) -> str:
    """Return the new expression as text, in parentheses if it would otherwise be parsed differently in its place."""
    lines = text_of(place.file)
    wanted = edited([(place, edit)], lambda: ast.dump(place.top))
    new = ast.unparse(edit.new)
    for text in (new, f"({new})"):
        changed = _spliced(lines, edit.slot.node, text)
        if _dump(changed, place, len(changed) - len(lines)) == wanted:
            return text
    raise Unwritable


def _dump(lines: list[str], place: Place, longer: int) -> str:
    start = min([place.top.lineno, *(d.lineno for d in getattr(place.top, "decorator_list", []))])
    text = "\n".join(lines[start - 1 : (place.top.end_lineno or start) + longer])
    try:
        return ast.dump(ast.parse(text).body[0])
    except (SyntaxError, IndexError):
        return ""


def _spliced(lines: list[str], node: ast.expr, text: str) -> list[str]:
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last].encode()[node.end_col_offset or 0 :].decode()
    return [*lines[:first], head + text + tail, *lines[last + 1 :]]
