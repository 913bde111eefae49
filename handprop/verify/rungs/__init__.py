"""The rungs of evidence, in their order."""

from collections.abc import Callable

from handprop.verify.options import Options
from handprop.verify.report import Check
from handprop.verify.rungs.differences import differences
from handprop.verify.rungs.hard_inputs import hard_inputs
from handprop.verify.rungs.identical import identical
from handprop.verify.rungs.other_sizes import other_sizes
from handprop.verify.rungs.proof import proof
from handprop.verify.rungs.rounding import rounding
from handprop.verify.rungs.structure import structure
from handprop.verify.rungs.transformations import transformations
from handprop.verify.subject import Subject

__all__ = ["RUNGS", "Rung"]

Rung = Callable[[Subject, Options], Check]
RUNGS: tuple[tuple[str, Rung], ...] = (
    ("structure", structure),
    ("identical", identical),
    ("proof", proof),
    ("rounding", rounding),
    ("differences", differences),
    ("transformations", transformations),
    ("hard inputs", hard_inputs),
    ("other sizes", other_sizes),
)
