"""Gradient rules written by hand, right ones and one-line mutants of them, in four parts.

``right_rules()`` are the rules of this folder's modules; ``mutants()`` are the lines of ``mutants.csv``, each a rule of
one module with one line of its text changed. Both take a part: "first", which the verifier was built on, "second",
"third" or "fourth", the folders of these names. Any gradient checker can be run over both::

    for mutant in corpus.mutants():
        rule = mutant.load()
        my_checker(rule.function, *rule.make_args(size=23, dtype="float32", key=0))
"""

import ast
import csv
import importlib
import linecache
import types
from pathlib import Path
from typing import NamedTuple

from corpus.rule import SIZE, Draw, Rule

__all__ = ["PARTS", "SIZE", "Draw", "Mutant", "Rule", "mutants", "right_rules"]

FOLDER = Path(__file__).parent
FIRST = ("activations", "losses", "normalisation", "layers", "attention", "sequences", "algebra")
SECOND = ("attention", "recurrent", "layers", "mixing", "losses", "derivatives", "training")
THIRD = ("attention", "sequences", "layers", "losses", "tangents", "training")
FOURTH = ("grids", "recursions", "geometry", "layers", "physics", "objectives", "iterations")
PARTS = {
    "first": ("mutants.csv", FIRST),
    "second": ("second/mutants.csv", tuple(f"second.{name}" for name in SECOND)),
    "third": ("third/mutants.csv", tuple(f"third.{name}" for name in THIRD)),
    "fourth": ("fourth/mutants.csv", tuple(f"fourth.{name}" for name in FOURTH)),
}


class Mutant(NamedTuple):
    """One line of one rule changed, in ``function`` of ``file``, a path in this folder.

    ``kind`` says how; ``size`` is the least at which it is wrong, 0 for any; ``seen_in`` is the narrowest dtype whose
    resolution it is above: bfloat16, float32 or float64.
    """

    name: str
    file: str
    rule: str
    function: str
    old: str
    new: str
    kind: str
    size: int
    seen_in: str

    @property
    def filename(self) -> str:
        """What tracebacks and JAX's source lines call the changed module; ``linecache`` has its text."""
        path = FOLDER / self.file
        return str(path.with_stem(f"{path.stem}[{self.name}]"))

    @property
    def line(self) -> int:
        """The changed line's number. ValueError where the function does not hold the old line exactly once."""
        text = (FOLDER / self.file).read_text()
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        function = next(node for node in functions if node.name == self.function)
        lines = text.splitlines()
        places = range(function.lineno, (function.end_lineno or function.lineno) + 1)
        found = [place for place in places if lines[place - 1].strip() == self.old]
        if len(found) != 1:
            raise ValueError(f"{self.old!r} stands {len(found)} times in {self.function} of {self.file}, not once")
        return found[0]

    def source(self) -> str:
        """The module's text with the line changed."""
        lines = (FOLDER / self.file).read_text().splitlines()
        indent = lines[self.line - 1].partition(self.old)[0]
        lines[self.line - 1] = indent + self.new
        return "\n".join(lines) + "\n"

    def load(self) -> Rule:
        """The wrong rule, from a module of its own."""
        text = self.source()
        linecache.cache[self.filename] = (len(text), None, text.splitlines(keepends=True), self.filename)
        module = types.ModuleType(f"corpus.{'.'.join(Path(self.file).with_suffix('').parts)}")
        module.__file__ = self.filename
        exec(compile(text, self.filename, "exec"), module.__dict__)
        return next(rule for rule in module.RULES if rule.name == self.rule)


def right_rules(part: str = "first") -> tuple[Rule, ...]:
    """Every right rule of the part."""
    _, names = PARTS[part]
    return tuple(rule for name in names for rule in importlib.import_module(f"corpus.{name}").RULES)


def mutants(part: str = "first") -> tuple[Mutant, ...]:
    """Every wrong rule of the part."""
    table, _ = PARTS[part]
    with (FOLDER / table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Mutant(**{**row, "size": int(row["size"])}) for row in rows)
