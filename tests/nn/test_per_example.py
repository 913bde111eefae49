"""Each quantity is that of the examples' own gradients, which autodiff takes one by one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case, paths_that_differ
from jax.flatten_util import ravel_pytree
from selecting import all_but

import handprop
from handprop.nn import per_example
from handprop.nn.activations import ACTIVATIONS
from handprop.nn.losses import LOSSES, REDUCTIONS

NETS = (
    Case((3, 5, 4, 2), 7, "sigmoid", "sigmoid", "half_squared_error", "mean", True, "float64"),
    Case((3, 5, 2), 6, "tanh", "identity", "mean_squared_error", "sum", False, "float64"),
    Case((4, 3, 2), 5, "relu", "softmax", "softmax_cross_entropy", "mean", True, "float64"),
    Case((4, 3, 2), 5, "tanh", "sigmoid", "binary_cross_entropy", "sum", True, "float64"),
    Case((2, 3, 3), 3, "sigmoid", "softmax", "half_squared_error", "mean", False, "float64"),
)


def gradients(net, params, x, y):
    """``g_n`` by autodiff, a leading axis of N on every leaf: the error of a batch of one example."""
    return jax.vmap(jax.grad(lambda p, x, y: net.loss(p, x[None], y[None])), (None, 0, 0))(params, x, y)


def flat(tree):
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree)], axis=1)


def norms(net, *args):
    return jnp.sqrt((flat(gradients(net, *args)) ** 2).sum(1))


def clipped(net, *args):
    g = gradients(net, *args)
    c = jnp.minimum(1, 0.3 / jnp.sqrt((flat(g) ** 2).sum(1)))
    return jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1), g)


def inner_products(net, *args):
    return flat(gradients(net, *args)) @ flat(gradients(net, *args)).T


def variance(net, *args):
    return jax.tree.map(lambda leaf: leaf.var(0, ddof=1), gradients(net, *args))


def moments(net, *args):
    """The variance from sums: the proof knows the sign of a sum of squares, but not of this, which is the same."""
    N = args[1].shape[0]
    sums = jax.tree.map(lambda leaf: ((leaf**2).sum(0) - leaf.sum(0) ** 2 / N) / (N - 1), gradients(net, *args))
    return jax.tree.map(lambda leaf: jnp.maximum(leaf, 0), sums)


def noise(net, *args):
    g = flat(gradients(net, *args))
    trace = ((g - g.mean(0, keepdims=True)) ** 2).sum() / (g.shape[0] - 1)
    return trace / ((g.mean(0) ** 2).sum() - trace / g.shape[0])


def gauss_newton(net, params, x, y):
    """``diag(J^T H J)`` with Jacobian and second derivative by JAX."""
    vector, unravel = ravel_pytree(params)
    logit = net.spec.loss.on == "logit"

    def prediction(vector, x):
        bare = handprop.mlp(
            net.spec.sizes, hidden=HIDDEN[net.spec.activations[0]], output="identity", bias=net.spec.bias
        )
        return (bare if logit else net).apply(unravel(vector), x[None])[0]

    def one(x, y):
        J = jax.jacrev(prediction)(vector, x)
        H = jax.hessian(lambda p: net.spec.loss.value(p[None], y[None])[0])(prediction(vector, x))
        return jnp.einsum("ip,ij,jp->p", J, H, J)

    diagonals = jax.vmap(one)(x, y)
    return unravel(diagonals.sum(0) if net.spec.reduction is REDUCTIONS["sum"] else diagonals.mean(0))


HIDDEN = {activation: name for name, activation in ACTIVATIONS.items()}
TWINS = {
    "norms": (per_example.per_example_norms, norms),
    "clipped": (partial(per_example.clipped_sum, norm=0.3), clipped),
    "gram": (per_example.gram, inner_products),
    "variance": (per_example.gradient_variance, variance),
    "noise": (per_example.noise_scale, noise),
    "gauss_newton": (per_example.gauss_newton_diagonal, gauss_newton),
}


@pytest.mark.thinned(7)
@pytest.mark.parametrize("quantity", TWINS)
@pytest.mark.parametrize("case", NETS, ids=lambda case: case.id)
def test_equals_its_autodiff_twin(quantity, case):
    hand, twin = TWINS[quantity]
    with jax.enable_x64(True):
        args = case.draw()
        for h, a in zip(
            jax.tree.leaves(jax.jit(partial(hand, case.net))(*args)),
            jax.tree.leaves(twin(case.net, *args)),
            strict=True,
        ):
            np.testing.assert_allclose(h, a, rtol=1e-10, atol=1e-13)


# Not proved: the roots of softmax's outputs in one another's company, and decisions about the same logit squared, which
# is what autodiff of the binary cross-entropy makes of them. The roots are tested by themselves.
PROVED = [(case, quantity) for case in (NETS[0], NETS[1], NETS[4]) for quantity in TWINS]
PROVED += [(NETS[2]._replace(hidden="tanh"), quantity) for quantity in TWINS if quantity != "gauss_newton"]


@pytest.mark.thinned(7)
@pytest.mark.parametrize(("case", "quantity"), PROVED, ids=lambda value: getattr(value, "id", value))
def test_is_proved_to_be_its_autodiff_twin(case, quantity):
    hand, twin = TWINS[quantity] if quantity != "variance" else (per_example.gradient_variance, moments)
    args = case._replace(dtype="float32").draw()
    report = handprop.equivalent(
        partial(hand, case.net), partial(twin, case.net), *args, skip=all_but("structure", "proof")
    )
    assert report.verdict is handprop.Verdict.PROVED, str(report)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_root_squared_is_the_second_derivative(loss):
    with jax.enable_x64(True):
        _, z, y = Case((3, 4), 5, "tanh", "sigmoid", loss, "sum", False, "float64").draw()
        z = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
        R = LOSSES[loss].root(z)
        H = jax.vmap(jax.hessian(lambda z, y: LOSSES[loss].value(z[None], y[None])[0]))(z, y)
        np.testing.assert_allclose(jnp.einsum("cnk,cnj->nkj", R, R), H, rtol=1e-12, atol=1e-14)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("quantity", TWINS)
def test_one_network_one_answer_whatever_the_reduction(quantity):
    """Examples' own errors: the mean's 1/N is in none, and in all of the Gauss-Newton matrix, which is the loss's."""
    mean, args = NETS[0], NETS[0]._replace(dtype="float32").draw()
    hand = TWINS[quantity][0]
    by_mean, by_sum = (hand(case.net, *args) for case in (mean, mean._replace(reduction="sum")))
    if quantity != "gauss_newton":
        assert paths_that_differ(by_mean, by_sum) == []
        return
    for m, s in zip(jax.tree.leaves(by_mean), jax.tree.leaves(by_sum), strict=True):
        np.testing.assert_allclose(mean.examples * m, s, rtol=1e-5)


def test_kronecker_factors_are_means_of_outer_products():
    with jax.enable_x64(True):
        args = NETS[0].draw()
        trace = NETS[0]._replace(reduction="sum").net.backprop(*args)
        factors = per_example.kfac_factors(NETS[0].net, *args)
        for (A, G), a, delta in zip(factors, trace.activations, trace.deltas, strict=False):
            inputs = [np.append(row, 1.0) for row in np.asarray(a)]
            np.testing.assert_allclose(A, sum(np.outer(v, v) for v in inputs) / 7, rtol=1e-12)
            np.testing.assert_allclose(G, sum(np.outer(v, v) for v in np.asarray(delta)) / 7, rtol=1e-12, atol=1e-18)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("case", NETS, ids=lambda case: case.id)
def test_kronecker_factors_of_one_example_are_exact(case):
    with jax.enable_x64(True):
        params, x, y = case.draw()
        factors = per_example.kfac_factors(case.net, params, x[:1], y[:1])
        for (A, G), layer in zip(factors, gradients(case.net, params, x[:1], y[:1]), strict=True):
            g = layer.W[0] if layer.b is None else jnp.concatenate([layer.W[0], layer.b])
            np.testing.assert_allclose(jnp.kron(A, G), jnp.outer(g.ravel(), g.ravel()), rtol=1e-10, atol=1e-16)


def test_a_short_or_zero_gradient_is_not_clipped():
    net = handprop.mlp((2, 1), output="identity")
    params, x, y = (
        (handprop.Layer(jnp.zeros((2, 1)), jnp.zeros(1)),),
        jnp.ones((3, 2)),
        jnp.array([[0.0], [0.1], [9.0]]),
    )
    assert per_example.per_example_norms(net, params, x, y)[0] == 0
    total = per_example.clipped_sum(net, params, x, y, 1.0)
    np.testing.assert_allclose(total[0].b, -(0 + 0.1 + 1 / np.sqrt(3)), rtol=1e-6)


def test_labels_and_folded_forms_are_taken():
    args = NETS[2]._replace(dtype="float32").draw()
    labels = jnp.array([0, 1, 1, 0, 1])
    exact = NETS[2].net
    folded = handprop.mlp((4, 3, 2), hidden="relu", output="softmax", loss="softmax_cross_entropy", form="fused")
    for hand, _ in TWINS.values():
        by_label = hand(exact, *args[:2], labels)
        for other in (hand(exact, *args[:2], jax.nn.one_hot(labels, 2)), hand(folded, *args[:2], labels)):
            for a, b in zip(jax.tree.leaves(by_label), jax.tree.leaves(other), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_inputs_that_cannot_be_right():
    params, x, y = NETS[0]._replace(dtype="float32").draw()
    for quantity in (per_example.gradient_variance, per_example.noise_scale):
        with pytest.raises(ValueError, match=r"x has shape \(1, 3\), but .* needs at least 2 examples"):
            quantity(NETS[0].net, params, x[:1], y[:1])
    for hand, _ in TWINS.values():
        with pytest.raises(ValueError, match=r"one example is x\[None\]"):
            hand(NETS[0].net, params, x[0], y[0])


def test_memory_holds_no_examples_gradient():
    """784-256-256-10 on 128 examples: what a hundred of the examples' gradients would take is far from needed."""
    case = Case((784, 256, 256, 10), 128, "sigmoid", "softmax", "softmax_cross_entropy", "mean", True, "float32")
    args = case.draw()

    def temporaries(f):
        return jax.jit(partial(f, case.net)).lower(*args).compile().memory_analysis().temp_size_in_bytes

    all_gradients = case.examples * 4 * sum(leaf.size for leaf in jax.tree.leaves(args[0]))
    assert temporaries(norms) > all_gradients / 2
    assert temporaries(per_example.per_example_norms) < all_gradients / 100
    assert temporaries(partial(per_example.clipped_sum, norm=1.0)) < all_gradients / 50
