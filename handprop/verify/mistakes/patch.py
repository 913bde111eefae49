"""An edit as text: the changed line, and a unified diff that applies to the user's file."""

import ast
import difflib

from handprop.verify.mistakes.search import Found, edited
from handprop.verify.mistakes.source import Place, text_of

__all__ = ["diff_of"]


def diff_of(found: Found) -> tuple[str, str, int]:
    """The edited line, a unified diff, and the line's number. ValueError where the edit cannot be written in place."""
    place, edit = found.place, found.edit
    lines = text_of(place.file)
    wanted = edited(place, edit, lambda: ast.dump(place.top))
    new = ast.unparse(edit.new)
    for text in (new, f"({new})"):
        changed = _spliced(lines, edit.slot.node, text)
        if _dump(changed, place, len(changed) - len(lines)) == wanted:
            break
    else:
        raise ValueError("the edit cannot be written in place")
    diff = "\n".join(difflib.unified_diff(lines, changed, place.file, place.file, lineterm="")) + "\n"
    number = edit.slot.node.lineno
    return changed[number - 1].strip(), diff, number


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
