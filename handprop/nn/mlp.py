"""Multilayer perceptrons. Names are resolved to functions, inputs are checked, and the gradient is that of
:mod:`handprop.nn.backprop`, computed in the requested form.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from handprop.nn import backprop as derivation
from handprop.nn import checks
from handprop.nn.activations import ACTIVATIONS, Activation
from handprop.nn.backprop import Forward, Layer, Net, Trace, errors, forward, total
from handprop.nn.forms import scanned, table
from handprop.nn.losses import LOSSES, REDUCTIONS, Loss, Reduction

__all__ = [
    "INITIALIZERS",
    "MLP",
    "FormName",
    "HiddenName",
    "InitName",
    "Layer",
    "LossName",
    "OutputName",
    "ReductionName",
    "Trace",
    "mlp",
]

Array = jax.Array
Params = tuple[Layer, ...]
HiddenName = Literal["sigmoid", "tanh", "relu", "identity"]
OutputName = Literal["sigmoid", "tanh", "relu", "identity", "softmax"]
LossName = Literal["half_squared_error", "mean_squared_error", "binary_cross_entropy", "softmax_cross_entropy"]
ReductionName = Literal["sum", "mean"]
InitName = Literal["uniform", "glorot", "lecun"]
FormName = Literal["exact", "fused", "fast_sigmoid", "accurate", "scan", "auto"]


class Initialize(Protocol):
    """``init(key, dtype=float32) -> params``: a ``Layer(W, b)`` for each layer; biases start at 0."""

    def __call__(self, key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Params: ...


class Apply(Protocol):
    """``apply(params, x) -> a_L``: (N, I) to (N, O)."""

    def __call__(self, params: Params, x: Array) -> Array: ...


class Error(Protocol):
    """``loss(params, x, y) -> E``: (N, I) and (N, O), or labels (N,), to a scalar."""

    def __call__(self, params: Params, x: Array, y: Array) -> Array: ...


class ValueAndGrad(Protocol):
    """``value_and_grad(params, x, y) -> (E, grads)``: a scalar, and a tree like that of the parameters."""

    def __call__(self, params: Params, x: Array, y: Array) -> tuple[Array, Params]: ...


class Backprop(Protocol):
    """``backprop(params, x, y) -> Trace``: everything that the derivation names."""

    def __call__(self, params: Params, x: Array, y: Array) -> Trace: ...


class MLP(NamedTuple):
    """A network as pure functions.

    * ``init(key, dtype=float32) -> params``, a tuple of ``Layer(W, b)``; biases start at 0
    * ``apply(params, x) -> a_L``
    * ``loss(params, x, y) -> E``
    * ``value_and_grad(params, x, y) -> (E, grads)``, by hand
    * ``backprop(params, x, y) -> Trace``, by hand, with all intermediate values
    * ``spec``, what the functions are made of, for modules that build on it
    """

    init: Initialize
    apply: Apply
    loss: Error
    value_and_grad: ValueAndGrad
    backprop: Backprop
    spec: "Spec"

    def __repr__(self) -> str:
        return f"<MLP {'-'.join(map(str, self.spec.sizes))}, form {self.spec.form}>"


class Spec(NamedTuple):
    """What a network is made of, with names resolved to functions."""

    sizes: tuple[int, ...]
    bias: bool
    activations: tuple[Activation, ...]  # f_1 .. f_L
    loss: Loss
    reduction: Reduction
    form: str
    segments: int | None = None  # of the run of equal layers, for form "scan"
    max_fused: int | None = None  # for form "auto"

    @property
    def run(self) -> tuple[int, int]:
        """The first and last (excluded) of the layers that form "scan" computes in a loop."""
        return scanned.longest_run(self.sizes) if self.form == "scan" else (0, 0)

    def net(self, x: Array) -> Net:
        """Return what the derivation reads, with the form's products for a batch of this size."""
        products = table.products(self.form, self.sizes, x, self.max_fused)
        return Net(self.activations, self.loss, self.reduction, products)

    def scanned(self) -> scanned.Scanned:
        return scanned.Scanned(Net(self.activations, self.loss, self.reduction), self.run, self.segments)


def _uniform(key: Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike) -> Array:
    return jax.random.uniform(key, shape, dtype, minval=-1, maxval=1)


INITIALIZERS: dict[str, Callable[[Array, tuple[int, int], jax.typing.DTypeLike], Array]] = {
    "uniform": _uniform,
    "glorot": jax.nn.initializers.glorot_uniform(),
    "lecun": jax.nn.initializers.lecun_normal(),
}
"""Initial weights by name: uniform on (-1, 1), Glorot and Bengio's uniform, and LeCun's normal."""


def _init(
    spec: Spec,
    initializer: Callable[[Array, tuple[int, int], jax.typing.DTypeLike], Array],
    key: Array,
    dtype: jax.typing.DTypeLike,
) -> Params:
    layers = zip(spec.sizes[:-1], spec.sizes[1:], strict=True)
    return tuple(
        Layer(initializer(jax.random.fold_in(key, l), (i, o), dtype), jnp.zeros(o, dtype) if spec.bias else None)
        for l, (i, o) in enumerate(layers)
    )


def _apply(spec: Spec, params: Params, x: Array) -> Array:
    x = checks.check_examples(spec.sizes, spec.bias, params, x, spec.run)
    return _passed(spec, params, x).a[-1]


def _passed(spec: Spec, params: Params, x: Array) -> Forward:
    """Run the forward pass, of which only the output layer is needed."""
    if spec.form == "scan":
        return scanned.output_layers(spec.scanned(), params, x)
    return forward(spec.net(x), params, x)


def checked(spec: Spec, params: Params, x: Array, y: Array, run: tuple[int, int] = (0, 0)) -> tuple[Array, Array]:
    """Return ``x`` and ``y`` as arrays after checking them. The layers of ``run`` may come as a stack."""
    x = checks.check_examples(spec.sizes, spec.bias, params, x, run)
    y = checks.check_targets(spec.sizes[-1], x, y, labels=spec.loss is LOSSES["softmax_cross_entropy"])
    checks.check_reduction(x, mean=spec.reduction is REDUCTIONS["mean"])
    return x, y


def _loss(spec: Spec, params: Params, x: Array, y: Array) -> Array:
    x, y = checked(spec, params, x, y, spec.run)
    net = spec.net(x)
    return total(net, errors(net, _passed(spec, params, x), y), x)


def _value_and_grad(spec: Spec, params: Params, x: Array, y: Array) -> tuple[Array, Params]:
    x, y = checked(spec, params, x, y, spec.run)
    if spec.form == "scan":
        return scanned.value_and_grad(spec.scanned(), params, x, y)
    trace = derivation.backprop(spec.net(x), params, x, y)
    return trace.value, trace.grads


def trace_of(spec: Spec, params: Params, x: Array, y: Array) -> Trace:
    x, y = checked(spec, params, x, y)
    return derivation.backprop(spec.net(x), params, x, y)


def mlp(
    sizes: Sequence[int],
    *,
    hidden: HiddenName = "sigmoid",
    output: OutputName = "sigmoid",
    loss: LossName = "half_squared_error",
    reduction: ReductionName = "mean",
    bias: bool = True,
    init: InitName = "glorot",
    form: FormName = "exact",
    remat_segments: int | None = None,
    max_fused: int | None = None,
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
        reduction: "sum" or "mean" over the N examples.
        bias: whether layers have biases.
        init: "uniform" on (-1, 1), "glorot" or "lecun".
        form: how the network is computed; :mod:`handprop.nn.forms.table` has the error bounds.
            "exact" has the bits of ``jax.grad``.
            "fused" writes products as multiplications and sums, which XLA:CPU compiles with the training loop into one
            native kernel if the network is small.
            "fast_sigmoid" also computes sigmoids as ``(1 + tanh(z/2))/2``.
            "accurate" keeps the digits of the derivatives of saturated sigmoid and tanh units, and those of ``a - y``
            for sigmoid outputs.
            "scan" computes equal hidden layers in a loop, for deep networks. It also accepts parameters as
            :func:`handprop.stack_equal_layers` returns them, and returns gradients in the layout of the parameters.
            "auto" is the fastest form whose error is a few ulps: "fused" where that was measured to be faster, for the
            whole network or for single products, else "exact".
        remat_segments: for form "scan", the number of segments of the equal layers. Only the segments' inputs are kept
            instead of every layer's activation; the layers of a segment are recomputed in the backward pass.
        max_fused: for form "auto", the most multiply-adds ``N I O`` of a product that is fused; None for the limits
            built in, which hold for CPUs. ``scripts/bench --tune`` measures the limit of a machine.

    Returns:
        An ``MLP``. Its functions take ``x`` (N, I) and ``y`` (N, O) in the parameters' dtype. Labels out of
        range raise an error if they are concrete; if they are traced, the example's error is NaN.

    Raises:
        ValueError: a name is unknown, the sizes are invalid, or loss and output do not fit each other. When they are
            traced, the functions raise ValueError for wrong shapes and TypeError for wrong dtypes.

    >>> net = mlp((3, 4, 1), bias=False)
    >>> net
    <MLP 3-4-1, form exact>
    >>> params = net.init(jax.random.key(1))
    >>> x = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> y = jnp.array([[0.0], [1], [1], [0]])
    >>> value, grads = net.value_and_grad(params, x, y)
    >>> [layer.W.shape for layer in grads]
    [(3, 4), (4, 1)]
    """
    sizes = checks.check_sizes(sizes)
    checks.check_name("hidden", hidden, [name for name in ACTIVATIONS if name != "softmax"])
    checks.check_name("output", output, ACTIVATIONS)
    checks.check_name("loss", loss, LOSSES)
    checks.check_name("reduction", reduction, REDUCTIONS)
    checks.check_name("init", init, INITIALIZERS)
    checks.check_name("form", form, table.FORMS)
    if LOSSES[loss].outputs and output not in LOSSES[loss].outputs:
        fitting = " or ".join(repr(name) for name in LOSSES[loss].outputs)
        raise ValueError(f"loss={loss!r} is computed from logits and needs output={fitting}, not {output!r}.")
    _check_scan(sizes, hidden, form, remat_segments)
    _check_max_fused(form, max_fused)
    known = {**ACTIVATIONS, **table.FORMS[form].activations}
    activations = (known[hidden],) * (len(sizes) - 2) + (known[output],)
    error_form = table.FORMS[form].losses.get((output, loss), LOSSES[loss])
    spec = Spec(sizes, bias, activations, error_form, REDUCTIONS[reduction], form, remat_segments, max_fused)

    return _functions(spec, init)


@functools.lru_cache(maxsize=64)
def _functions(spec: Spec, init: InitName) -> MLP:
    """Return the same functions for equal arguments, so that equal networks share compiled programs."""
    initializer = INITIALIZERS[init]

    def initialize(key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Params:
        """Parameters: for each layer of I inputs and O units a ``Layer`` of ``W`` (I, O) and ``b`` (O,) or None.

        ``key`` is a JAX key; ``dtype`` a floating dtype.
        """
        return _init(spec, initializer, key, dtype)

    def apply(params: Params, x: Array) -> Array:
        """``a_L`` (N, O) for examples ``x`` (N, I); the logits ``z_L`` where the output is "identity"."""
        return _apply(spec, params, x)

    def loss(params: Params, x: Array, y: Array) -> Array:
        """The error ``E``, a scalar, for examples ``x`` (N, I) and targets ``y`` (N, O), or labels (N,)."""
        return _loss(spec, params, x, y)

    def value_and_grad(params: Params, x: Array, y: Array) -> tuple[Array, Params]:
        """``E``, a scalar, and ``dE/dparams``, a tree like ``params``: for each layer ``dW`` (I, O) and ``db`` (O,).

        ``x`` is (N, I); ``y`` is (N, O), or integer labels (N,) for a softmax. Both have the parameters' dtype.
        """
        return _value_and_grad(spec, params, x, y)

    def backprop(params: Params, x: Array, y: Array) -> Trace:
        """A ``Trace`` for ``x`` (N, I) and ``y`` (N, O), or labels (N,): activations, pre-activations and deltas, each
        (N, D_l), gradients and ``E``.
        """
        return trace_of(spec, params, x, y)

    return MLP(initialize, apply, loss, value_and_grad, backprop, spec)


def _check_scan(sizes: tuple[int, ...], hidden: str, form: str, segments: int | None) -> None:
    if form == "scan" and not ACTIVATIONS[hidden].from_a:
        raise ValueError(
            f"form='scan' needs a derivative that can be computed from a alone; hidden={hidden!r} has none."
        )
    if segments is not None and form != "scan":
        raise ValueError(f"remat_segments={segments} needs form='scan', not form={form!r}.")
    if segments is not None and segments < 1:
        raise ValueError(f"remat_segments={segments} is too small; it must be at least 1.")
    first, last = scanned.longest_run(sizes)
    if form == "scan" and last - first < 2:
        raise ValueError(f"form='scan' needs two or more equal hidden layers in a row; got sizes={sizes}.")


def _check_max_fused(form: str, max_fused: int | None) -> None:
    if max_fused is not None and form != "auto":
        raise ValueError(f"max_fused={max_fused} needs form='auto', not form={form!r}.")
    if max_fused is not None and max_fused < 0:
        raise ValueError(f"max_fused={max_fused} is too small; it must be at least 0.")
