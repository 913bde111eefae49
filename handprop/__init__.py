"""Backpropagation for multilayer perceptrons, derived by hand, with the bits of ``jax.grad``.

>>> import jax, jax.numpy as jnp, handprop
>>> net = handprop.mlp((2, 3, 1))
>>> params = net.init(jax.random.key(0))
>>> value, grads = net.value_and_grad(params, jnp.ones((4, 2)), jnp.zeros((4, 1)))
>>> grads[0].W.shape
(2, 3)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handprop._api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the public names when one is first used: pytest loads handprop's plugin in every run, and jax must not be
    imported before a test asks for it."""
    if name == "__all__" or not name.startswith("_"):
        from handprop import _api

        if name in ("__all__", *_api.__all__):
            return globals().setdefault(name, getattr(_api, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from handprop import _api

    return sorted({*globals(), *_api.__all__})
