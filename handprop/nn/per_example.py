"""Quantities of single examples' gradients, computed from the deltas without forming these gradients.

Example n's own gradient, that of its own error ``E_n`` (neither divided by N nor summed), is an outer product in every
layer: ``dW_l = a_{l-1,n} delta_{l,n}^T`` and ``db_l = delta_{l,n}`` with ``delta_{l,n} = dE_n/dz_l``. So quantities of
the N gradients can be computed from the activations and deltas, which are D_{l-1} + D_l numbers per example and layer
instead of D_{l-1} D_l. A bias counts as a weight whose input is 1.

Every function takes ``(net, params, x, y)``, the network and the arguments of ``net.value_and_grad``, and raises the
same errors. All but :func:`gauss_newton_diagonal` give the same for ``reduction="sum"`` and ``"mean"``. They are plain
functions: under ``jax.jit``, unused parts of the backward pass are not computed, and several functions share one pass.

Shapes: N examples, D_l units of layer l, I inputs and O outputs of a layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from handprop.nn.backprop import Layer, Trace, deltas, forward, gradients
from handprop.nn.losses import REDUCTIONS
from handprop.nn.mlp import MLP, Params, checked, trace_of

__all__ = [
    "KroneckerFactors",
    "clipped_sum",
    "gauss_newton_diagonal",
    "gradient_variance",
    "gram",
    "kfac_factors",
    "noise_scale",
    "per_example_norms",
]

Array = jax.Array


def _per_example(net: MLP, params: Params, x: Array, y: Array) -> Trace:
    """Return the trace for a sum over examples, whose ``delta_{l,n}`` are ``dE_n/dz_l``."""
    return trace_of(net.spec._replace(reduction=REDUCTIONS["sum"]), params, x, y)


def _layers(trace: Trace) -> list[tuple[Array, Array, int]]:
    """Return ``a_{l-1}``, ``delta_l``, and 1 for a bias or 0 for none, of every layer, first layer first."""
    biases = [int(layer.b is not None) for layer in trace.grads]
    return list(zip(trace.activations[:-1], trace.deltas, biases, strict=True))


def _squared_norms(trace: Trace) -> Array:
    """``|g_n|^2 = sum_l (|a_{l-1,n}|^2 + 1) |delta_{l,n}|^2``: (N,)."""
    terms = [(jnp.sum(a * a, axis=1) + one) * jnp.sum(delta * delta, axis=1) for a, delta, one in _layers(trace)]
    return sum(terms[1:], terms[0])


def per_example_norms(net: MLP, params: Params, x: Array, y: Array) -> Array:
    """``|g_n|`` (N,), the length of every example's gradient, all layers together.

    The outer product's squared length is the product of the squared lengths:
    ``|g_n|^2 = sum_l (|a_{l-1,n}|^2 + 1) |delta_{l,n}|^2``; the 1 is for a bias.
    Source: Goodfellow, Efficient per-example gradient computations, 2015.

    >>> import handprop
    >>> net = handprop.mlp((2, 1), output="identity")
    >>> params = (Layer(jnp.zeros((2, 1)), jnp.zeros(1)),)
    >>> per_example_norms(net, params, jnp.array([[2.0, 2.0], [0.0, 0.0]]), jnp.ones((2, 1))).tolist()
    [3.0, 1.0]
    """
    return jnp.sqrt(_squared_norms(_per_example(net, params, x, y)))


def clipped_sum(net: MLP, params: Params, x: Array, y: Array, norm: float | Array) -> Params:
    """``sum_n c_n g_n`` with ``c_n = min(1, C / |g_n|)`` and ``C = norm``: no example adds more than length C.

    A weighted sum of gradients is the gradient from weighted deltas, ``dW_l = a_{l-1}^T (c delta_l)``, so one backward
    pass gives both the lengths and the sum. It is the sum to which differential privacy adds its noise.
    An example whose gradient is 0 adds 0. Sources: Abadi et al., Deep learning with differential privacy, CCS 2016;
    Lee and Kifer, Scaling up differentially private deep learning with fast per-example gradient clipping, 2020.

    >>> import handprop
    >>> net = handprop.mlp((2, 1), output="identity", bias=False)
    >>> params = (Layer(jnp.zeros((2, 1)), None),)
    >>> clipped_sum(net, params, jnp.array([[3.0, 4.0], [0.0, 0.5]]), -jnp.ones((2, 1)), 1.0)[0].W.round(3).tolist()
    [[0.6...], [1.3...]]
    """
    trace = _per_example(net, params, x, y)
    c = jnp.minimum(1, norm / jnp.sqrt(_squared_norms(trace)))[:, None]
    return gradients(
        net.spec.net(trace.activations[0]), params, trace.activations[:-1], [c * delta for delta in trace.deltas]
    )


def gram(net: MLP, params: Params, x: Array, y: Array) -> Array:
    """``K_nm = <g_n, g_m>`` (N, N), the inner products of the examples' gradients.

    ``K = sum_l (a_{l-1} a_{l-1}^T + 1) * (delta_l delta_l^T)``, entry by entry; the 1 is for a bias. For one output and
    ``E_n = a_n``, K is the empirical tangent kernel.
    Source: Jacot, Gabriel and Hongler, Neural tangent kernel, NeurIPS 2018.

    >>> import handprop
    >>> net = handprop.mlp((2, 1), output="identity", bias=False)
    >>> params = (Layer(jnp.zeros((2, 1)), None),)
    >>> gram(net, params, jnp.array([[3.0, 4.0], [0.0, 0.5]]), jnp.ones((2, 1))).tolist()
    [[25.0, 2.0], [2.0, 0.25]]
    """
    trace = _per_example(net, params, x, y)
    terms = [(a @ a.T + one) * (delta @ delta.T) for a, delta, one in _layers(trace)]
    return sum(terms[1:], terms[0])


def _check_several(x: Array, what: str) -> int:
    """Return N, or raise an error if it is less than 2."""
    if x.shape[0] < 2:
        raise ValueError(f"x has shape {x.shape}, but {what} needs at least 2 examples.")
    return x.shape[0]


def gradient_variance(net: MLP, params: Params, x: Array, y: Array) -> Params:
    """``1/(N-1) sum_n (g_n - mean g)^2``, entry by entry, in the tree of the parameters.

    The square of an outer product is the outer product of the squares, so
    ``sum_n dW_n^2 = (a_{l-1}^2)^T delta_l^2``, and ``sum_n (g_n - mean g)^2 = sum_n g_n^2 - (sum_n g_n)^2 / N``. The
    difference cancels where an entry's gradients are nearly equal, so its error is that of ``sum_n g_n^2``; negative
    results are set to 0. Raises ValueError for fewer than 2 examples.
    Source: Dangel, Kunstner and Hennig, BackPACK, ICLR 2020.

    >>> import handprop
    >>> net = handprop.mlp((1, 1), output="identity", bias=False)
    >>> params = (Layer(jnp.zeros((1, 1)), None),)
    >>> gradient_variance(net, params, jnp.array([[1.0], [3.0]]), jnp.ones((2, 1)))[0].W.tolist()
    [[2.0]]
    """
    trace = _per_example(net, params, x, y)
    N = _check_several(trace.activations[0], "a variance")
    squares = gradients(
        net.spec.net(trace.activations[0]),
        params,
        [a * a for a in trace.activations[:-1]],
        [delta * delta for delta in trace.deltas],
    )
    return jax.tree.map(lambda q, s: jnp.maximum((q - s * s / N) / (N - 1), 0), squares, trace.grads)


def noise_scale(net: MLP, params: Params, x: Array, y: Array) -> Array:
    """``B = tr(Sigma) / |G|^2``: larger batches than about this many examples hardly help.

    Sigma is the covariance of the examples' gradients, G their mean. Both are estimated without bias:
    ``tr(Sigma) = N/(N-1) (mean_n |g_n|^2 - |mean g|^2)`` and ``|G|^2 = |mean g|^2 - tr(Sigma)/N``. If the gradients are
    mostly noise, the latter can be 0 or negative, and B is infinite or negative. Raises ValueError for fewer than 2
    examples.
    Source: McCandlish et al., An empirical model of large-batch training, 2018, equation 2.9 and appendix A.1 with
    batches of 1 and N.

    >>> import handprop
    >>> net = handprop.mlp((1, 1), output="identity", bias=False)
    >>> params = (Layer(jnp.zeros((1, 1)), None),)
    >>> round(float(noise_scale(net, params, jnp.array([[1.0], [3.0]]), jnp.ones((2, 1)))), 4)
    0.6667
    """
    trace = _per_example(net, params, x, y)
    N = _check_several(trace.activations[0], "a noise scale")
    mean = sum((jnp.sum((leaf / N) ** 2) for leaf in jax.tree.leaves(trace.grads)), jnp.zeros((), trace.value.dtype))
    noise = (jnp.mean(_squared_norms(trace)) - mean) * N / (N - 1)
    return noise / (mean - noise / N)


class KroneckerFactors(NamedTuple):
    """The factors of one layer.

    ``A = 1/N sum_n a_n a_n^T`` is of its inputs: (I + 1, I + 1), with the last row and column for the bias, or (I, I)
    without a bias. ``G = 1/N sum_n delta_n delta_n^T`` is (O, O).
    """

    A: Array
    G: Array


def kfac_factors(net: MLP, params: Params, x: Array, y: Array) -> tuple[KroneckerFactors, ...]:
    """A and G of every layer, whose Kronecker product approximates ``1/N sum_n g_n g_n^T`` of that layer.

    For a single example, the product equals that matrix. With the targets of the data, G is that of the empirical
    Fisher matrix; for the Fisher matrix itself, draw ``y`` from the network's own output.
    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, ICML 2015.

    >>> import handprop
    >>> net = handprop.mlp((1, 1), output="identity")
    >>> params = (Layer(jnp.zeros((1, 1)), jnp.zeros(1)),)
    >>> A, G = kfac_factors(net, params, jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [2.0]]))[0]
    >>> A.tolist(), G.tolist()
    ([[5.0, 2.0], [2.0, 1.0]], [[2.5]])
    """
    trace = _per_example(net, params, x, y)
    N = x.shape[0]

    def with_bias(a: Array, layer: Layer) -> Array:
        return a if layer.b is None else jnp.concatenate([a, jnp.ones((N, 1), a.dtype)], axis=1)

    inputs = [with_bias(a, layer) for a, layer in zip(trace.activations[:-1], params, strict=True)]
    return tuple(
        KroneckerFactors(a.T @ a / N, delta.T @ delta / N) for a, delta in zip(inputs, trace.deltas, strict=True)
    )


def gauss_newton_diagonal(net: MLP, params: Params, x: Array, y: Array) -> Params:
    """The diagonal of the Gauss-Newton matrix of ``net.loss``, exactly, in the tree of the parameters.

    ``sum_n g_n J_n^T H_n J_n`` with ``J_n`` the Jacobian of what the loss reads (logits or output activations),
    ``H_n`` the second derivative of ``E_n`` there, and ``g_n = dE/dE_n``, 1 or 1/N. With a root
    ``H_n = sum_c R_cn R_cn^T`` (:mod:`handprop.nn.losses`), each ``R_c`` goes back through the layers like a delta and
    becomes ``s_{c,l}``. Then ``diag_W = (a_{l-1}^2)^T (sum_c s_{c,l}^2)``. This costs O backward passes without their
    products for the weights.
    Sources: Martens, New insights and perspectives on the natural gradient method, JMLR 2020, section 8; Dangel,
    Kunstner and Hennig, BackPACK, ICLR 2020.

    >>> import handprop
    >>> net = handprop.mlp((2, 1), output="identity", bias=False, reduction="sum")
    >>> params = (Layer(jnp.zeros((2, 1)), None),)
    >>> gauss_newton_diagonal(net, params, jnp.array([[3.0, 4.0], [0.0, 0.5]]), jnp.ones((2, 1)))[0].W.tolist()
    [[9.0], [16.25]]
    """
    x, y = checked(net.spec, params, x, y)
    rules = net.spec.net(x)
    passed = forward(rules, params, x)
    on_logit = rules.loss.on == "logit"
    prediction = (passed.z if on_logit else passed.a)[-1]

    def back(root: Array) -> tuple[Array, ...]:
        delta = root if on_logit else rules.activations[-1].d_f(root, passed.residuals[-1])
        return deltas(rules, params, passed, delta)

    g = rules.reduction.d_value(rules.loss.value(prediction, y))[:, None].astype(x.dtype)
    squares = [g * jnp.sum(s * s, axis=0) for s in jax.vmap(back)(rules.loss.root(prediction))]
    return gradients(rules, params, [a * a for a in passed.a[:-1]], squares)
