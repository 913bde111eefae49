"""Backpropagation for multilayer perceptrons, derived by hand, with the bits of ``jax.grad``.

>>> import jax, jax.numpy as jnp, handprop
>>> net = handprop.mlp((2, 3, 1))
>>> params = net.init(jax.random.key(0))
>>> value, grads = net.value_and_grad(params, jnp.ones((4, 2)), jnp.zeros((4, 1)))
>>> grads[0].W.shape
(2, 3)
"""

from handprop.compare import GradientComparison, LeafComparison, compare_gradients
from handprop.mlp import MLP, Layer, Trace, mlp
from handprop.train import History, Progress, Status, TrainResult, train

__all__ = [
    "MLP",
    "GradientComparison",
    "History",
    "Layer",
    "LeafComparison",
    "Progress",
    "Status",
    "Trace",
    "TrainResult",
    "compare_gradients",
    "mlp",
    "train",
]

__version__ = "0.1.0"
