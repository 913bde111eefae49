"""Multilayer perceptrons with backpropagation derived by hand.

The network (layer l = 1..L, N patterns, D_l units, ``a_0 = x``):

    z_l = a_{l-1} W_l + b_l            pre-activation       (N, D_l)
    a_l = f_l(z_l)                     activation           (N, D_l)
    E   = sum_n or mean_n E_n          error                scalar

What is wanted is dE/dW_l and dE/db_l. The chain rule is applied once to each line, last line first.
Call ``delta_l = dE/dz_l`` the error of layer l; everything else follows from it.

1. Output error. ``delta_L = dE/da_L * f_L'(z_L)``. For the fused pairs (sigmoid with binary
   cross-entropy, softmax with cross-entropy) this is ``a - y``.
2. A hidden unit's error. Unit i of layer l-1 reaches E only through the units k of layer l, each with
   weight ``W_l[i, k]``; so its share is the sum over the next layer's errors times those weights:
   ``da_{l-1, i} = sum_k delta_{l, k} W_l[i, k]``, that is ``da_{l-1} = delta_l W_l^T``. Through its own
   activation: ``delta_{l-1} = da_{l-1} * f'(z_{l-1})``.
3. A weight's gradient. ``W_l[i, k]`` enters ``z_{l, k}`` multiplied by its input value ``a_{l-1, i}``, once for
   every pattern: input value times output error, accumulated over all patterns,
   ``dW_l[i, k] = sum_n a_{l-1, n i} delta_{l, n k}``, that is ``dW_l = a_{l-1}^T delta_l``.
4. A bias enters with the constant input 1: ``db_l = sum_n delta_l``.

Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323
(1986). No derivative on any path of ``value_and_grad`` and ``backprop`` is taken by JAX.

Exactness: the operations are those of ``jax.value_and_grad(net.loss)``, in its order, so that value and
gradients have the same bits. The fused deltas are the exception: JAX differentiates the logarithm's own
formula, which rounds differently from ``a - y``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handprop import _inputs
from handprop.activations import ACTIVATIONS, Activation
from handprop.fast import equal_layers, forms
from handprop.losses import LOSSES, REDUCTIONS, Loss, Reduction
from handprop.products import Layer, Products

__all__ = ["INITIALIZERS", "MLP", "Layer", "Trace", "mlp"]

Array = jax.Array


Params = tuple[Layer, ...]


class Trace(NamedTuple):
    """Everything the derivation names, for one batch.

    ``activations`` are ``a_0 .. a_L`` and ``pre_activations`` ``z_1 .. z_L``; ``deltas[l - 1]`` is
    ``delta_l = dE/dz_l``, (N, D_l); ``grads`` has the tree of the parameters.
    """

    activations: tuple[Array, ...]
    pre_activations: tuple[Array, ...]
    deltas: tuple[Array, ...]
    grads: Params
    value: Array


class MLP(NamedTuple):
    """A network as pure functions.

    * ``init(key, dtype=float32) -> params``, a tuple of ``Layer(W, b)``; biases start at 0
    * ``apply(params, x) -> a_L``
    * ``loss(params, x, y) -> E``
    * ``value_and_grad(params, x, y) -> (E, grads)``, by hand
    * ``backprop(params, x, y) -> Trace``, by hand, with what lies between
    * ``parts``, what the functions are made of, for modules that go on from there
    """

    init: Callable[..., Params]
    apply: Callable[[Params, Array], Array]
    loss: Callable[[Params, Array, Array], Array]
    value_and_grad: Callable[[Params, Array, Array], tuple[Array, Params]]
    backprop: Callable[[Params, Array, Array], Trace]
    parts: "Network"


class Network(NamedTuple):
    """What a network is made of, names resolved."""

    sizes: tuple[int, ...]
    bias: bool
    activations: tuple[Activation, ...]  # f_1 .. f_L
    loss: Loss
    reduction: Reduction
    form: str
    segments: int | None = None  # of the run, where the form has one

    @property
    def run(self) -> tuple[int, int]:
        """First and last (excluded) of the layers that form "scan" computes in a loop."""
        return equal_layers.longest_run(self.sizes) if self.form == "scan" else (0, 0)

    @property
    def ends(self) -> tuple["Network", "Network"]:
        """The layers before and after the run."""
        first, last = self.run
        return self._layers(0, first), self._layers(last, len(self.sizes) - 1)

    def _layers(self, first: int, last: int) -> "Network":
        """Some of the layers as a network of the exact form."""
        sizes, activations = self.sizes[first : last + 1], self.activations[first:last]
        return self._replace(sizes=sizes, activations=activations, form="exact")

    def products(self, x: Array) -> Products:
        """The products of the form for a batch of this size."""
        return forms.products(self.form, self.sizes, x)


def _uniform(key: Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike) -> Array:
    return jax.random.uniform(key, shape, dtype, minval=-1, maxval=1)


INITIALIZERS: dict[str, Callable[[Array, tuple[int, int], jax.typing.DTypeLike], Array]] = {
    "uniform": _uniform,
    "glorot": jax.nn.initializers.glorot_uniform(),
    "lecun": jax.nn.initializers.lecun_normal(),
}
"""Initial weights by name: uniform on (-1, 1), Glorot and Bengio's uniform, LeCun's normal."""


class Forward(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    pre_activations: list[Array]  # z_1 .. z_L
    activations: list[Array]  # a_0 .. a_L
    residuals: list[Any]  # of f_1 .. f_L


def forward_pass(net: Network, params: Params, x: Array) -> Forward:
    """First layer first."""
    products = net.products(x)
    pre_activations, activations, residuals = [], [x], []
    for layer, activation in zip(params, net.activations, strict=True):
        z = products.affine(activations[-1], layer)
        a, residual = activation.f(z)
        pre_activations.append(z)
        activations.append(a)
        residuals.append(residual)
    return Forward(pre_activations, activations, residuals)


def deltas_from(net: Network, params: Params, forward: Forward, delta: Array) -> tuple[Array, ...]:
    """Errors ``delta_1 .. delta_L`` from ``delta_L``, last layer first."""
    products, deltas = net.products(forward.activations[0]), [delta]
    for l in range(len(params) - 1, 0, -1):  # from layer l + 1 to layer l
        da = products.d_input(deltas[-1], params[l])
        deltas.append(net.activations[l - 1].d_f(da, forward.residuals[l - 1]))
    return tuple(reversed(deltas))


def grads_from(net: Network, params: Params, activations: Sequence[Array], deltas: Sequence[Array]) -> Params:
    """``dW_l = a_{l-1}^T delta_l`` and ``db_l``, every layer; the deltas may carry weights of the patterns."""
    products = net.products(activations[0])
    return tuple(
        products.d_params(a, delta, layer) for a, delta, layer in zip(activations, deltas, params, strict=True)
    )


class Scanned(NamedTuple):
    """What a forward pass leaves whose equal layers were computed in a loop."""

    before: Forward
    run: equal_layers.Kept
    after: Forward


def _scanned_forward(net: Network, params: equal_layers.Parted, x: Array) -> Scanned:
    """The layers before the run, the run, the layers after it: at least the output layer."""
    head, tail = net.ends
    before = forward_pass(head, params.before, x)
    a, kept = equal_layers.forward(_rules(net, x), params.run, before.activations[-1], net.segments)
    return Scanned(before, kept, forward_pass(tail, params.after, a))


def _scanned_backward(net: Network, params: equal_layers.Parted, forward: Scanned, delta: Array) -> equal_layers.Parted:
    """The same three, last layer first."""
    head, tail = net.ends
    deltas = deltas_from(tail, params.after, forward.after, delta)
    tail_grads = grads_from(tail, params.after, forward.after.activations[:-1], deltas)
    da = net.products(delta).d_input(deltas[0], params.after[0])
    da, run_grads = equal_layers.backward(_rules(net, delta), params.run, forward.run, da, net.segments)
    if not params.before:
        return equal_layers.Parted((), run_grads, tail_grads)
    delta = head.activations[-1].d_f(da, forward.before.residuals[-1])
    deltas = deltas_from(head, params.before, forward.before, delta)
    head_grads = grads_from(head, params.before, forward.before.activations[:-1], deltas)
    return equal_layers.Parted(head_grads, run_grads, tail_grads)


def _rules(net: Network, x: Array) -> equal_layers.Rules:
    return equal_layers.Rules(net.products(x), net.activations[net.run[0]])


def _errors(net: Network, forward: Forward, y: Array) -> tuple[Array, Array]:
    """What the loss reads, and the patterns' errors ``E_n``."""
    prediction = forward.pre_activations[-1] if net.loss.on == "logit" else forward.activations[-1]
    return prediction, net.loss.value(prediction, y)


def _d_errors(net: Network, forward: Forward, prediction: Array, errors: Array, y: Array) -> Array:
    """``delta_L = dE/dz_L``: back through the reduction, the loss and the output activation."""
    d_prediction = net.loss.d_value(net.reduction.d_value(errors), prediction, y)
    if net.loss.on == "logit":
        return d_prediction
    return net.activations[-1].d_f(d_prediction, forward.residuals[-1])


def _total(net: Network, errors: Array, dtype: jax.typing.DTypeLike) -> Array:
    """``E`` in the network's dtype."""
    return lax.convert_element_type(net.reduction.value(errors), dtype)


def _init(
    net: Network,
    initializer: Callable[[Array, tuple[int, int], jax.typing.DTypeLike], Array],
    key: Array,
    dtype: jax.typing.DTypeLike,
) -> Params:
    layers = zip(net.sizes[:-1], net.sizes[1:], strict=True)
    return tuple(
        Layer(initializer(jax.random.fold_in(key, l), (i, o), dtype), jnp.zeros(o, dtype) if net.bias else None)
        for l, (i, o) in enumerate(layers)
    )


def _apply(net: Network, params: Params, x: Array) -> Array:
    x = _inputs.check_patterns(net.sizes, net.bias, params, x, net.run)
    return _last_layers(net, params, x).activations[-1]


def _last_layers(net: Network, params: Params, x: Array) -> Forward:
    """The forward pass, of which the output layer is asked for."""
    if net.form != "scan":
        return forward_pass(net, params, x)
    (head, tail), parted = net.ends, equal_layers.parted(params, net.run)
    a = forward_pass(head, parted.before, x).activations[-1]
    return forward_pass(tail, parted.after, equal_layers.last_activation(_rules(net, x), parted.run, a))


def checked(net: Network, params: Params, x: Array, y: Array, run: tuple[int, int] = (0, 0)) -> tuple[Array, Array]:
    """``x`` and ``y``, or an error; the layers of ``run`` may come as a stack."""
    x = _inputs.check_patterns(net.sizes, net.bias, params, x, run)
    y = _inputs.check_targets(net.sizes[-1], x, y, labels=net.loss is LOSSES["softmax_cross_entropy"])
    _inputs.check_reduction(x, mean=net.reduction is REDUCTIONS["mean"])
    return x, y


def _loss(net: Network, params: Params, x: Array, y: Array) -> Array:
    x, y = checked(net, params, x, y, net.run)
    _, errors = _errors(net, _last_layers(net, params, x), y)
    return _total(net, errors, x.dtype)


def _value_and_grad(net: Network, params: Params, x: Array, y: Array) -> tuple[Array, Params]:
    if net.form != "scan":
        trace = trace_of(net, params, x, y)
        return trace.value, trace.grads
    x, y = checked(net, params, x, y, net.run)
    parted = equal_layers.parted(params, net.run)
    forward = _scanned_forward(net, parted, x)
    prediction, errors = _errors(net, forward.after, y)
    delta = _d_errors(net, forward.after, prediction, errors, y)
    grads = _scanned_backward(net, parted, forward, delta)
    return _total(net, errors, x.dtype), equal_layers.joined(grads, params)


def trace_of(net: Network, params: Params, x: Array, y: Array) -> Trace:
    return trace_from(net, params, *checked(net, params, x, y))


def trace_from(net: Network, params: Params, x: Array, y: Array) -> Trace:
    """The derivation itself, of arguments that are what they should be."""
    forward = forward_pass(net, params, x)
    prediction, errors = _errors(net, forward, y)
    delta = _d_errors(net, forward, prediction, errors, y)
    deltas = deltas_from(net, params, forward, delta)
    grads = grads_from(net, params, forward.activations[:-1], deltas)
    value = _total(net, errors, x.dtype)
    return Trace(tuple(forward.activations), tuple(forward.pre_activations), deltas, grads, value)


def mlp(
    sizes: Sequence[int],
    hidden: str = "sigmoid",
    output: str = "sigmoid",
    loss: str = "half_squared_error",
    reduction: str = "mean",
    bias: bool = True,
    init: str = "glorot",
    form: str = "exact",
    segments: int | None = None,
) -> MLP:
    """A multilayer perceptron whose gradient is derived by hand.

    Args:
        sizes: units of each layer, inputs first: ``(784, 128, 10)``; at least two numbers, each at least 1.
        hidden: "sigmoid", "tanh", "relu" or "identity".
        output: the same, or "softmax".
        loss: "half_squared_error" ``1/2 sum_k (a - y)^2``, "mean_squared_error" ``1/O sum_k (a - y)^2``,
            "binary_cross_entropy" (output "sigmoid" or "identity") or "softmax_cross_entropy" (output
            "softmax" or "identity"; targets are integer labels (N,) or probabilities (N, O)). The two
            cross-entropies are computed from the logits ``z_L``; with output "identity", ``apply`` returns these.
        reduction: "sum" or "mean" over the N patterns.
        bias: whether layers have biases.
        init: "uniform" on (-1, 1), "glorot" or "lecun".
        form: how the same mathematics is computed: "exact" with the bits of ``jax.grad``; "folded", products as
            multiplications and sums, which XLA:CPU compiles with the training loop into one native kernel where the
            network is small; "fast_sigmoid", that and ``(1 + tanh(z/2))/2`` for sigmoids; "accurate", in which
            saturated sigmoid and tanh units keep the digits of their derivatives, and sigmoid outputs those of
            ``a - y``; "scan", equal hidden layers in a loop, for deep networks, whose parameters may be kept as
            :func:`handprop.stack_equal_layers` returns them: ``value_and_grad`` returns gradients in the layout that it
            is given; "auto", the fastest whose bound is a few ulps: "folded" where that was measured to pay, for the
            whole network or for single products, else "exact". The bounds stand in :mod:`handprop.fast.forms`.
        segments: for form "scan": keep the inputs of so many segments of the equal layers, and not every layer's
            activation; the layers of a segment are computed once more on the way back.

    Returns:
        An ``MLP``. Its functions take ``x`` (N, I) and ``y`` (N, O) in the parameters' dtype. Labels out of
        range raise where they are concrete; where they are traced, the pattern's error is NaN.

    Raises:
        ValueError: a name that is not known, sizes that cannot be, or a pair that does not fit; the functions
            raise ValueError for shapes and TypeError for dtypes that cannot be right, when they are traced.

    >>> net = mlp((3, 4, 1), bias=False)
    >>> params = net.init(jax.random.key(1))
    >>> x = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> y = jnp.array([[0.0], [1], [1], [0]])
    >>> value, grads = net.value_and_grad(params, x, y)
    >>> [layer.W.shape for layer in grads]
    [(3, 4), (4, 1)]
    """
    sizes = _inputs.check_sizes(sizes)
    _inputs.check_name("hidden", hidden, [name for name in ACTIVATIONS if name != "softmax"])
    _inputs.check_name("output", output, ACTIVATIONS)
    _inputs.check_name("loss", loss, LOSSES)
    _inputs.check_name("reduction", reduction, REDUCTIONS)
    _inputs.check_name("init", init, INITIALIZERS)
    _inputs.check_name("form", form, forms.FORMS)
    if LOSSES[loss].outputs and output not in LOSSES[loss].outputs:
        fitting = " or ".join(repr(name) for name in LOSSES[loss].outputs)
        raise ValueError(f"loss={loss!r} is computed from logits and needs output={fitting}, not {output!r}.")
    _check_scan(sizes, form, segments)
    known = {**ACTIVATIONS, **forms.FORMS[form].activations}
    activations = (known[hidden],) * (len(sizes) - 2) + (known[output],)
    error_form = forms.FORMS[form].losses.get((output, loss), LOSSES[loss])
    net = Network(sizes, bias, activations, error_form, REDUCTIONS[reduction], form, segments)

    def initial(key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Params:
        return _init(net, INITIALIZERS[init], key, dtype)

    def apply(params: Params, x: Array) -> Array:
        return _apply(net, params, x)

    def error(params: Params, x: Array, y: Array) -> Array:
        return _loss(net, params, x, y)

    def value_and_grad(params: Params, x: Array, y: Array) -> tuple[Array, Params]:
        return _value_and_grad(net, params, x, y)

    def backprop(params: Params, x: Array, y: Array) -> Trace:
        return trace_of(net, params, x, y)

    return MLP(initial, apply, error, value_and_grad, backprop, net)


def _check_scan(sizes: tuple[int, ...], form: str, segments: int | None) -> None:
    if segments is not None and form != "scan":
        raise ValueError(f"segments={segments} is for form='scan', not for form={form!r}.")
    if segments is not None and segments < 1:
        raise ValueError(f"segments={segments} is too small; there is at least one.")
    first, last = equal_layers.longest_run(sizes)
    if form == "scan" and last - first < 2:
        raise ValueError(f"form='scan' needs two or more equal hidden layers in a row, and sizes={sizes} have none.")
