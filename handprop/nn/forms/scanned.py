"""A run of equal layers as one loop that keeps only one activation per layer, or only one per segment of layers.

The parameters of a run of n layers with the same width D and the same activation are stacked: ``W`` (n, D, D), ``b``
(n, D). Stacking them once (:func:`stack_equal_layers`) saves a copy of the weights and one of the gradients at every
step. The forward pass is then a scan over the layers and the backward pass the same scan in reverse:

    a_l = f(a_{l-1} W_l + b_l)                                                    l = 1 .. n
    delta_l = da_l * f'(z_l),  dW_l = a_{l-1}^T delta_l,  da_{l-1} = delta_l W_l^T    l = n .. 1

If ``f'(z_l)`` is a function of ``a_l`` (``Activation.from_a``), which the next layer's ``dW`` needs as well, a layer
keeps only ``a_l`` (N, D). Autodiff of the same scan keeps ``a_l`` and ``f'(z_l)``.

With segments of m layers, only each segment's input is kept, and its layers are recomputed in the backward pass. This
takes n/m + m arrays of activations instead of n, and a third more work (Chen et al., Training deep nets with sublinear
memory cost, 2016).

The operations are the given products, layer by layer, so the bits are those of the exact form.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handprop.nn.activations import Activation
from handprop.nn.backprop import Forward, Layer, Net, Products, deltas, errors, gradients, output_delta, total
from handprop.nn.backprop import forward as layer_by_layer

__all__ = [
    "Kept",
    "Parted",
    "Rules",
    "Scanned",
    "backward",
    "forward",
    "joined",
    "last_activation",
    "longest_run",
    "output_layers",
    "parted",
    "stack_equal_layers",
    "stacked",
    "unstack_equal_layers",
    "unstacked",
    "value_and_grad",
]

Array = jax.Array


class Scanned(NamedTuple):
    """A network that computes the layers of its ``run``, from the first up to but excluding the last, in a loop."""

    net: Net
    run: tuple[int, int]
    segments: int | None

    @property
    def head(self) -> Net:
        """The layers before the run."""
        return self.net._replace(activations=self.net.activations[: self.run[0]])

    @property
    def tail(self) -> Net:
        """The layers after the run: at least the output layer."""
        return self.net._replace(activations=self.net.activations[self.run[1] :])

    @property
    def rules(self) -> "Rules":
        return Rules(self.net.products, self.net.activations[self.run[0]])


class Rules(NamedTuple):
    """What each layer of a run does: its products, and an activation whose ``d_f`` can take ``a`` as its residual."""

    products: Products
    activation: Activation

    def after(self, a: Array, layer: Layer) -> Array:
        """Return ``a_l`` given ``a_{l-1}``."""
        return self.activation.f(self.products.affine(a, layer))[0]


class Kept(NamedTuple):
    """What the forward pass leaves for the backward pass.

    ``inputs`` (k, N, D) are the inputs of the k segments, which come first. ``a_0`` (N, D) is the input of the layers
    after them, and ``activations`` (n - k m, N, D) are the outputs of these layers.
    """

    inputs: Array
    a_0: Array
    activations: Array


def longest_run(sizes: Sequence[int]) -> tuple[int, int]:
    """Return first and last (excluded) of the longest run of equal hidden layers, as indices of the parameters.

    >>> longest_run((784, 256, 256, 256, 256, 10))
    (1, 4)
    >>> longest_run((3, 4, 1))
    (0, 0)
    """
    hidden, best = range(len(sizes) - 2), (0, 0)
    for first in hidden:
        last = next((l for l in range(first, len(sizes) - 2) if sizes[l + 1] != sizes[first]), len(sizes) - 2)
        best = max(best, (first, last), key=lambda run: run[1] - run[0])
    return best


def stack_equal_layers(params: Sequence[Layer]) -> tuple[Layer, ...]:
    """Stack the longest run of n equal hidden layers as one ``Layer``: ``W`` (n, D, D), ``b`` (n, D) or None.

    ``apply``, ``loss`` and ``value_and_grad`` of form "scan" accept this layout and return gradients in it, with the
    same bits, so a step does not stack or unstack anything. An optimizer's updates may differ by rounding, since XLA
    fuses its arithmetic by shape. ``train`` and ``accumulate`` accept this layout too; everything else takes the layers
    one by one.

    Raises ValueError if the parameters have no two equal hidden layers in a row, or if the layers cannot be stacked.

    >>> import handprop
    >>> net = handprop.mlp((5, 7, 7, 7, 7, 3), form="scan")
    >>> params = stack_equal_layers(net.init(jax.random.key(0)))
    >>> _, grads = net.value_and_grad(params, jnp.ones((4, 5)), jnp.zeros((4, 3)))
    >>> [layer.W.shape for layer in grads]
    [(5, 7), (3, 7, 7), (7, 3)]
    """
    shapes = [layer.W.shape for layer in params]
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"params have weights of shapes {shapes}, but stacking needs shapes (I, O).")
    first, last = longest_run([shape[0] for shape in shapes] + [shape[1] for shape in shapes[-1:]])
    if last - first < 2:
        raise ValueError(f"params have weights of shapes {shapes}, without two equal hidden layers in a row to stack.")
    wanted = _kind(params[first])
    for l in range(first, last):
        if _kind(params[l]) != wanted:
            raise ValueError(
                f"params[{l}] has {_kind(params[l])}, but stacking it with params[{first}] needs {wanted}."
            )
    return (*params[:first], stacked(params[first:last]), *params[last:])


def unstack_equal_layers(params: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return parameters or gradients with their layers one by one, whether or not equal layers are stacked.

    This is the inverse of :func:`stack_equal_layers`.

    >>> run = Layer(jnp.arange(8.0).reshape(2, 2, 2), None)
    >>> [layer.W.tolist() for layer in unstack_equal_layers((run, Layer(jnp.ones((2, 1)), None)))]
    [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]], [[1.0], [1.0]]]
    """
    return tuple(each for layer in params for each in (unstacked(layer) if _is_stack(layer) else (layer,)))


def _is_stack(layer: Layer) -> bool:
    return layer.W.ndim == 3


def _kind(layer: Layer) -> str:
    """``W float32[7, 7], b float32[7]``."""
    W, b = ("None" if leaf is None else f"{leaf.dtype}{[*leaf.shape]}" for leaf in layer)
    return f"W {W}, b {b}"


def stacked(layers: Sequence[Layer]) -> Layer:
    """``W`` (n, D, D) and ``b`` (n, D) or None."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)


def unstacked(run: Layer) -> tuple[Layer, ...]:
    """The layers that :func:`stacked` stacked."""
    return tuple(jax.tree.map(lambda leaf, l=l: leaf[l], run) for l in range(len(run.W)))


class Parted(NamedTuple):
    """Parameters or gradients: the layers before the run, the run as a stack, the layers after it."""

    before: tuple[Layer, ...]
    run: Layer
    after: tuple[Layer, ...]


def parted(params: Sequence[Layer], run: tuple[int, int]) -> Parted:
    """Split parameters in either layout at the run's layers, from the first up to but excluding the last."""
    (first, last), layers = run, tuple(params)
    if _is_stack(layers[first]):
        return Parted(layers[:first], layers[first], layers[first + 1 :])
    return Parted(layers[:first], stacked(layers[first:last]), layers[last:])


def joined(grads: Parted, params: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the gradients in the layout of the parameters."""
    as_stack = _is_stack(params[len(grads.before)])
    return (*grads.before, *((grads.run,) if as_stack else unstacked(grads.run)), *grads.after)


def last_activation(rules: Rules, run: Layer, a: Array) -> Array:
    """Return ``a_n`` and keep nothing."""
    return lax.scan(lambda a, layer: (rules.after(a, layer), None), a, run)[0]


def forward(rules: Rules, run: Layer, a: Array, segments: int | None = None) -> tuple[Array, Kept]:
    """Return ``a_n`` and what the backward pass needs: inputs of ``segments`` segments, or every layer's activation."""
    in_segments, rest = _divided(run, segments)
    a, inputs = lax.scan(lambda a, segment: (last_activation(rules, segment, a), a), a, in_segments)

    def layer_by_layer(a: Array, layer: Layer) -> tuple[Array, Array]:
        a = rules.after(a, layer)
        return a, a

    a_n, activations = lax.scan(layer_by_layer, a, rest)
    return a_n, Kept(inputs, a, activations)


def backward(rules: Rules, run: Layer, kept: Kept, da: Array, segments: int | None = None) -> tuple[Array, Layer]:
    """Return ``da_0`` given ``da_n``, and every layer's gradients, stacked like the run."""
    in_segments, rest = _divided(run, segments)
    da, last_grads = _layers_backward(rules, rest, kept.a_0, kept.activations, da)

    def segment_backward(da: Array, held: tuple[Layer, Array]) -> tuple[Array, Layer]:
        segment, a_0 = held
        _, again = forward(rules, segment, a_0)
        return _layers_backward(rules, segment, a_0, again.activations, da)

    da, grads = lax.scan(segment_backward, da, (in_segments, kept.inputs), reverse=True)
    return da, jax.tree.map(lambda g, last: jnp.concatenate([g.reshape(-1, *g.shape[2:]), last]), grads, last_grads)


def _layers_backward(rules: Rules, run: Layer, a_0: Array, activations: Array, da: Array) -> tuple[Array, Layer]:
    """Go back through the run, last layer first."""
    if not len(run.W):
        return da, run

    def layer_backward(da: Array, held: tuple[Array, Layer]) -> tuple[Array, Layer]:
        l, layer = held
        a = lax.select(l > 0, activations[jnp.maximum(l - 1, 0)], a_0)  # a_{l-1}
        delta = rules.activation.d_f(da, activations[l])
        return rules.products.d_input(delta, layer), rules.products.d_params(a, delta, layer)

    return lax.scan(layer_backward, da, (jnp.arange(len(run.W)), run), reverse=True)


def _divided(run: Layer, segments: int | None) -> tuple[Layer, Layer]:
    """Split the run into k segments (k, m, ...) of m layers each and the remaining last layers (n - k m, ...)."""
    n = len(run.W)
    m = math.ceil(n / segments) if segments else n
    k = n // m if segments else 0
    in_segments = jax.tree.map(lambda leaf: leaf[: k * m].reshape(k, m, *leaf.shape[1:]), run)
    return in_segments, jax.tree.map(lambda leaf: leaf[k * m :], run)


def output_layers(scan: Scanned, params: Sequence[Layer], x: Array) -> Forward:
    """Return the forward pass of the layers after the run, and keep nothing else."""
    layers = parted(params, scan.run)
    a = layer_by_layer(scan.head, layers.before, x).a[-1]
    return layer_by_layer(scan.tail, layers.after, last_activation(scan.rules, layers.run, a))


def value_and_grad(scan: Scanned, params: Sequence[Layer], x: Array, y: Array) -> tuple[Array, tuple[Layer, ...]]:
    """Compute E and its gradients with the run in a loop: forward through all layers, then back through them."""
    layers, (head, tail) = parted(params, scan.run), (scan.head, scan.tail)
    before = layer_by_layer(head, layers.before, x)
    a, kept = forward(scan.rules, layers.run, before.a[-1], scan.segments)
    after = layer_by_layer(tail, layers.after, a)
    E_n = errors(tail, after, y)
    tail_deltas = deltas(tail, layers.after, after, output_delta(tail, after, E_n, y))
    tail_grads = gradients(tail, layers.after, after.a[:-1], tail_deltas)
    da = scan.net.products.d_input(tail_deltas[0], layers.after[0])
    da, run_grads = backward(scan.rules, layers.run, kept, da, scan.segments)
    grads = Parted(_head_grads(head, layers.before, before, da), run_grads, tail_grads)
    return total(tail, E_n, x), joined(grads, params)


def _head_grads(head: Net, params: tuple[Layer, ...], before: Forward, da: Array) -> tuple[Layer, ...]:
    if not params:
        return ()
    delta = head.activations[-1].d_f(da, before.residuals[-1])
    return gradients(head, params, before.a[:-1], deltas(head, params, before, delta))
