"""Backpropagation, derived by hand, for a network of layers l = 1 .. L with D_l units, on N examples ``a_0 = x``:

    z_l = a_{l-1} W_l + b_l            pre-activation       (N, D_l)
    a_l = f_l(z_l)                     activation           (N, D_l)
    E   = sum_n or mean_n E_n          error                scalar

What is wanted is dE/dW_l and dE/db_l. The chain rule is applied once to each line, last line first. Call
``delta_l = dE/dz_l`` the error of layer l; everything else follows from it.

1. Output error. ``delta_L = dE/da_L * f_L'(z_L)``. For a cross-entropy computed from the logits ``z_L`` this is
   ``a - y``, divided by N if E is a mean.
2. A hidden unit's error. Unit i of layer l-1 reaches E only through the units k of layer l, each with weight
   ``W_l[i, k]``: ``da_{l-1, i} = sum_k delta_{l, k} W_l[i, k]``, that is ``da_{l-1} = delta_l W_l^T``. Through its own
   activation: ``delta_{l-1} = da_{l-1} * f_{l-1}'(z_{l-1})``.
3. A weight's gradient. ``W_l[i, k]`` enters ``z_{l, k}`` multiplied by its input ``a_{l-1, i}``, in every example:
   ``dW_l[i, k] = sum_n a_{l-1, n i} delta_{l, n k}``, that is ``dW_l = a_{l-1}^T delta_l``.
4. A bias enters with the constant input 1: ``db_l = sum_n delta_l``.

Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323 (1986).

No autodiff is used. The operations are those of ``jax.value_and_grad(net.loss)`` in the same order, so value and
gradients have the same bits. Only the deltas of cross-entropies may differ, by rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax import Array, lax

from handprop.nn.activations import Activation
from handprop.nn.losses import Loss, Reduction

__all__ = ["EXACT", "Forward", "Layer", "Net", "Products", "Trace", "backprop", "deltas", "errors", "forward",
           "gradients", "output_delta", "total"]  # fmt: skip


class Layer(NamedTuple):
    """Weights ``W`` (I, O) from I inputs to O units, and biases ``b`` (O,) or None."""

    W: Array
    b: Array | None


def affine(a: Array, layer: Layer) -> Array:
    """``z = a W + b``: (N, I), (I, O), (O,) to (N, O)."""
    z = lax.dot_general(a, layer.W, (((1,), (0,)), ((), ())))
    return z if layer.b is None else z + lax.broadcast_in_dim(layer.b, z.shape, (1,))


def d_input(delta: Array, layer: Layer) -> Array:
    """``da = delta W^T``: (N, O) to (N, I)."""
    return lax.dot_general(delta, layer.W, (((1,), (1,)), ((), ())))


def d_params(a: Array, delta: Array, layer: Layer) -> Layer:
    """``dW = a^T delta`` (I, O) and ``db = sum_n delta`` (O,). Like JAX, it contracts (delta, a) and transposes."""
    dW = lax.transpose(lax.dot_general(delta, a, (((0,), (0,)), ((), ()))), (1, 0))
    if layer.b is None:
        return Layer(dW, None)
    if delta.shape[1] == 1:  # for a single unit JAX sums over both axes
        return Layer(dW, lax.broadcast(lax.reduce_sum(delta, axes=(0, 1)), (1,)))
    return Layer(dW, lax.reduce_sum(delta, axes=(0,)))


class Products(NamedTuple):
    """The products of a layer: ``affine``, ``d_params`` and ``d_input``, or the same mathematics written otherwise."""

    affine: Callable[[Array, Layer], Array]
    d_params: Callable[[Array, Array, Layer], Layer]
    d_input: Callable[[Array, Layer], Array]


EXACT = Products(affine, d_params, d_input)


class Net(NamedTuple):
    """``f_1 .. f_L``, the loss ``E_n``, and how the examples' errors become one number."""

    activations: tuple[Activation, ...]
    loss: Loss
    reduction: Reduction
    products: Products = EXACT


class Forward(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    a: list[Array]  # a_0 .. a_L
    z: list[Array]  # z_1 .. z_L
    residuals: list[Any]  # of f_1 .. f_L


class Trace(NamedTuple):
    """Everything the derivation names, for one batch."""

    activations: tuple[Array, ...]  # a_0 .. a_L
    pre_activations: tuple[Array, ...]  # z_1 .. z_L
    deltas: tuple[Array, ...]  # delta_l = dE/dz_l (N, D_l), l = 1 .. L
    grads: tuple[Layer, ...]  # the tree of the parameters
    value: Array  # E


def backprop(net: Net, params: Sequence[Layer], x: Array, y: Array) -> Trace:
    """Forward, error, deltas layer by layer, gradients."""
    passed = forward(net, params, x)
    E_n = errors(net, passed, y)
    found = deltas(net, params, passed, output_delta(net, passed, E_n, y))
    grads = gradients(net, params, passed.a[:-1], found)
    return Trace(tuple(passed.a), tuple(passed.z), found, grads, total(net, E_n, x))


def forward(net: Net, params: Sequence[Layer], x: Array) -> Forward:
    """``z_l = a_{l-1} W_l + b_l`` and ``a_l = f_l(z_l)``, first layer first."""
    a, z, residuals = [x], [], []
    for layer, f in zip(params, net.activations, strict=True):
        z.append(net.products.affine(a[-1], layer))
        f_of_z, residual = f.f(z[-1])
        a, residuals = [*a, f_of_z], [*residuals, residual]
    return Forward(a, z, residuals)


def errors(net: Net, passed: Forward, y: Array) -> Array:
    """``E_n`` (N,)."""
    return net.loss.value(passed.z[-1] if net.loss.on == "logit" else passed.a[-1], y)


def total(net: Net, E_n: Array, x: Array) -> Array:
    """``E``, in the dtype of ``x``."""
    return lax.convert_element_type(net.reduction.value(E_n), x.dtype)


def output_delta(net: Net, passed: Forward, E_n: Array, y: Array) -> Array:
    """``delta_L = dE/dz_L``: back through the reduction, the loss and the output activation."""
    g = net.reduction.d_value(E_n)
    if net.loss.on == "logit":
        return net.loss.d_value(g, passed.z[-1], y)
    return net.activations[-1].d_f(net.loss.d_value(g, passed.a[-1], y), passed.residuals[-1])


def deltas(net: Net, params: Sequence[Layer], passed: Forward, delta: Array) -> tuple[Array, ...]:
    """``delta_{l-1} = (delta_l W_l^T) * f_{l-1}'(z_{l-1})``, last layer first, from delta_L: delta_1 .. delta_L."""
    found = [delta]
    for layer, f, residual in reversed(list(zip(params[1:], net.activations, passed.residuals, strict=False))):
        found.append(f.d_f(net.products.d_input(found[-1], layer), residual))
    return tuple(reversed(found))


def gradients(net: Net, params: Sequence[Layer], a: Sequence[Array], deltas: Sequence[Array]) -> tuple[Layer, ...]:
    """``dW_l = a_{l-1}^T delta_l`` and ``db_l = sum_n delta_l``; the deltas may carry weights of the examples."""
    return tuple(net.products.d_params(*each) for each in zip(a, deltas, params, strict=True))
