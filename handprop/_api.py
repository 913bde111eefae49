"""The public names of handprop, each listed once."""

from handprop.nn.accumulate import accumulate
from handprop.nn.forms.scanned import stack_equal_layers, unstack_equal_layers
from handprop.nn.mlp import MLP, Layer, Trace, mlp
from handprop.nn.per_example import (
    KroneckerFactors,
    clipped_sum,
    gauss_newton_diagonal,
    gradient_variance,
    gram,
    kfac_factors,
    noise_scale,
    per_example_norms,
)
from handprop.training.ensemble import Ensemble, EnsembleResult, ensemble
from handprop.training.loop import History, Progress, Status, TrainResult, train
from handprop.verifier import audit, domains, equivalent, verify, verify_gradient
from handprop.verifier.auditing import Audit
from handprop.verifier.deliberate import with_gradient
from handprop.verifier.report.report import GradientRefuted, Report
from handprop.verifier.report.values import Check, Counterexample, Fix, Location, LostBits, Outcome, Verdict, Worst

__all__ = [
    "MLP",
    "Audit",
    "Check",
    "Counterexample",
    "Ensemble",
    "EnsembleResult",
    "Fix",
    "GradientRefuted",
    "History",
    "KroneckerFactors",
    "Layer",
    "Location",
    "LostBits",
    "Outcome",
    "Progress",
    "Report",
    "Status",
    "Trace",
    "TrainResult",
    "Verdict",
    "Worst",
    "accumulate",
    "audit",
    "clipped_sum",
    "domains",
    "ensemble",
    "equivalent",
    "gauss_newton_diagonal",
    "gradient_variance",
    "gram",
    "kfac_factors",
    "mlp",
    "noise_scale",
    "per_example_norms",
    "stack_equal_layers",
    "train",
    "unstack_equal_layers",
    "verify",
    "verify_gradient",
    "with_gradient",
]
