"""Backpropagation for multilayer perceptrons, derived by hand, with the bits of ``jax.grad``.

>>> import jax, jax.numpy as jnp, handprop
>>> net = handprop.mlp((2, 3, 1))
>>> params = net.init(jax.random.key(0))
>>> value, grads = net.value_and_grad(params, jnp.ones((4, 2)), jnp.zeros((4, 1)))
>>> grads[0].W.shape
(2, 3)
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handprop.fast.equal_layers import stack_equal_layers, unstack_equal_layers
    from handprop.mlp import MLP, Layer, Trace, mlp
    from handprop.population import Population, PopulationResult, population
    from handprop.quantities import (
        KroneckerFactors,
        clipped_sum,
        gauss_newton_diagonal,
        gradient_variance,
        gram,
        kfac_factors,
        noise_scale,
        per_example_norms,
    )
    from handprop.streamed import streamed
    from handprop.train import History, Progress, Status, TrainResult, train
    from handprop.verify import audit, domains, equivalent, verify, verify_gradient
    from handprop.verify.report import (
        Check,
        Counterexample,
        Fix,
        GradientRefuted,
        Location,
        LostBits,
        Outcome,
        Report,
        Verdict,
        Worst,
    )

__all__ = [
    "MLP",
    "Check",
    "Counterexample",
    "Fix",
    "GradientRefuted",
    "History",
    "KroneckerFactors",
    "Layer",
    "Location",
    "LostBits",
    "Outcome",
    "Population",
    "PopulationResult",
    "Progress",
    "Report",
    "Status",
    "Trace",
    "TrainResult",
    "Verdict",
    "Worst",
    "audit",
    "clipped_sum",
    "domains",
    "equivalent",
    "gauss_newton_diagonal",
    "gradient_variance",
    "gram",
    "kfac_factors",
    "mlp",
    "noise_scale",
    "per_example_norms",
    "population",
    "stack_equal_layers",
    "streamed",
    "train",
    "unstack_equal_layers",
    "verify",
    "verify_gradient",
]

__version__ = "0.1.0"

_HOMES = {
    "fast.equal_layers": ("stack_equal_layers", "unstack_equal_layers"),
    "mlp": ("MLP", "Layer", "Trace", "mlp"),
    "population": ("Population", "PopulationResult", "population"),
    "quantities": (
        "KroneckerFactors",
        "clipped_sum",
        "gauss_newton_diagonal",
        "gradient_variance",
        "gram",
        "kfac_factors",
        "noise_scale",
        "per_example_norms",
    ),
    "streamed": ("streamed",),
    "train": ("History", "Progress", "Status", "TrainResult", "train"),
    "verify": ("audit", "domains", "equivalent", "verify", "verify_gradient"),
    "verify.report": (
        "Check",
        "Counterexample",
        "Fix",
        "GradientRefuted",
        "Location",
        "LostBits",
        "Outcome",
        "Report",
        "Verdict",
        "Worst",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


class _Face(types.ModuleType):
    """Imports a public name when it is first used: pytest loads handprop's plugin in every run, and jax is not to be
    imported before a test asks for it."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule to its name: handprop.train is the function all the same.
        if name not in _HOME or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Face
