"""The checks that a verdict rests on, in the order in which they run."""

from collections.abc import Callable

from handprop.verifier.checks.edge_cases import edge_cases
from handprop.verifier.checks.finite_differences import finite_differences
from handprop.verifier.checks.identical import identical
from handprop.verifier.checks.other_sizes import other_sizes
from handprop.verifier.checks.rounding import rounding
from handprop.verifier.checks.structure import structure
from handprop.verifier.checks.transformations import transformations
from handprop.verifier.options import Options
from handprop.verifier.problem import Problem
from handprop.verifier.proof.proof import proof
from handprop.verifier.report.values import Check

__all__ = ["CHECKS", "Checker"]

Checker = Callable[[Problem, Options], Check]
CHECKS: tuple[tuple[str, Checker], ...] = (
    ("structure", structure),
    ("identical", identical),
    ("proof", proof),
    ("rounding", rounding),
    ("finite_differences", finite_differences),
    ("transformations", transformations),
    ("edge_cases", edge_cases),
    ("other_sizes", other_sizes),
)
