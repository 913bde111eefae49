"""The hand derivation has the bits of jax.grad; its inputs are checked; its pieces are what the derivation says."""

import re

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, EXACT_CASES, FUSED_CASES, HIDDEN, Case, paths_that_differ
from jax import lax
from jax.flatten_util import ravel_pytree

import handprop

MODES = ("eager", "jit", "vmap", "scan")


def in_mode(mode, f):
    """``f(params, x, y)`` run in another way; vmap and scan run two batches that differ."""

    def stacked(x):
        return jnp.stack([x, x[::-1]])

    if mode == "eager":
        return f
    if mode == "jit":
        return jax.jit(f)
    if mode == "vmap":
        return lambda p, x, y: jax.jit(jax.vmap(f, in_axes=(None, 0, 0)))(p, stacked(x), stacked(y))
    return lambda p, x, y: jax.jit(lambda *xy: lax.scan(lambda c, b: (c, f(p, *b)), 0, xy)[1])(stacked(x), stacked(y))


# Every network eager and jitted; under vmap and scan every seventh, which the six sizes and four dtypes do not divide:
# what they compile is the jitted program again, and compiling is what takes the time.
def in_turn(cases):
    return [
        (case, mode) for i, case in enumerate(cases) for mode in MODES
        if mode in ("eager", "jit") or i % 7 == ("vmap", "scan").index(mode) * 3
    ]  # fmt: skip


def named(pairs):
    """In the plain run: every case in float32, jitted, and a part of the other dtypes and ways to run it."""
    pairs = list(pairs)
    plain = {(case, mode) for case, mode in pairs if case.dtype == "float32" and mode == "jit"}
    plain.update([pair for pair in pairs if pair[0].dtype == "float32" and pair[1] != "jit"][::3])
    plain.update([pair for pair in pairs if pair[0].dtype != "float32"][::13])
    return [pytest.param(case, mode, id=f"{case.id}-{mode}", marks=() if (case, mode) in plain else pytest.mark.sweep)
            for case, mode in pairs]  # fmt: skip


@pytest.mark.parametrize("mode", ["vmap", "scan"])
def test_what_is_run_in_turn_meets_every_kind_of_network(mode):
    met = [case for case, m in in_turn(EXACT_CASES) if m == mode]
    for kind in ("sizes", "hidden", "output", "loss", "reduction", "bias", "dtype"):
        assert {getattr(case, kind) for case in met} == {getattr(case, kind) for case in EXACT_CASES}, kind


@pytest.mark.parametrize(("case", "mode"), named(in_turn(EXACT_CASES)))
def test_same_bits_as_autodiff(case, mode):
    with jax.enable_x64(case.dtype == "float64"):
        args = case.draw()
        hand = in_mode(mode, case.net.value_and_grad)(*args)
        autodiff = in_mode(mode, jax.value_and_grad(case.net.loss))(*args)
        chex.assert_trees_all_equal_shapes_and_dtypes(hand, autodiff)
        assert paths_that_differ(hand, autodiff) == []


# A compiled program that is the same text is the same function on every input, not only on those drawn here.
# In float16 and for a single  example XLA orders a few fusions differently, without a difference in bits.
SAME_PROGRAM = [case for case in EXACT_CASES if case.examples > 1 and case.dtype != "float16"][::3]


@pytest.mark.thinned(4)
@pytest.mark.parametrize("case", SAME_PROGRAM, ids=lambda case: case.id)
def test_same_compiled_program_as_autodiff(case):
    with jax.enable_x64(case.dtype == "float64"):
        args = case.draw()
        hand, autodiff = (
            canonical_text(jax.jit(f).lower(*args).compile())
            for f in (case.net.value_and_grad, jax.value_and_grad(case.net.loss))
        )
    assert hand == autodiff


def canonical_text(compiled) -> str:
    """The optimised program without source lines, and with its values numbered in order of appearance."""
    text = re.sub(r"^HloModule.*?\n\n\n", "", compiled.as_text(), flags=re.S)
    text = re.sub(r",? ?metadata=\{[^}]*\}", "", text)
    names: dict[str, str] = {}
    return re.sub(
        r"%[\w\-.]+|\b[a-zA-Z_][\w\-]*\.[\d.]+",
        lambda m: names.setdefault(m.group(0), f"%{len(names)}"),
        text,
    )


@pytest.mark.thinned(6)
# a - y against autodiff of the logit loss. The two round differently in the output delta only; there, and in what
# the layers below make of it, a difference of a few ulps of the largest possible term: every error a + y, every
# product positive. An ulp is eps = 2u; each of a, a - y, g and their product rounds once or twice on either side.
@pytest.mark.parametrize(("case", "mode"), named(in_turn(FUSED_CASES)))
def test_fused_delta_is_autodiffs_up_to_rounding(case, mode):
    with jax.enable_x64(case.dtype == "float64"):
        args = case.draw()
        hand = in_mode(mode, case.net.value_and_grad)(*args)
        autodiff = in_mode(mode, jax.value_and_grad(case.net.loss))(*args)
        chex.assert_trees_all_equal_shapes_and_dtypes(hand, autodiff)
        bound = FUSED_ULPS * float(jnp.finfo(case.dtype).eps) * fused_scale(case, args)
    assert paths_that_differ(hand[0], autodiff[0]) == []
    for h, a in zip(jax.tree.leaves(hand[1]), jax.tree.leaves(autodiff[1]), strict=True):
        h, a = np.asarray(h, np.float64), np.asarray(a, np.float64)
        assert np.max(np.abs(h - a)) <= bound


FUSED_ULPS = 1  # measured: at most 0.28, on both ends of the jax versions


def fused_scale(case: Case, args) -> float:
    """The largest entry any gradient leaf would have, were all errors a + y and all products positive."""
    params, x, y = jax.tree.map(lambda leaf: np.abs(np.asarray(leaf, np.float64)), args)
    g = 1.0 if case.reduction == "sum" else 1.0 / case.examples
    activations = [x, *(np.asarray(a, np.float64) for a in case.net.backprop(*args).activations[1:-1])]
    delta, scale = g * (1 + y), 0.0
    for layer, a in zip(reversed(params), reversed(activations), strict=True):
        scale = max(scale, np.max(np.abs(a).T @ delta), np.max(delta.sum(0)))
        delta = delta @ layer.W.T  # |f'| <= 1 for every activation
    return scale


SHAPES = [Case((3, 4, 1), 4, "sigmoid", "sigmoid", "half_squared_error", "sum", True, "float32")]
SHAPES += [SHAPES[0]._replace(hidden=h, output=o) for h, o in (("tanh", "softmax"), ("relu", "identity"))]
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-42, -1e-45, 1e-30, 17.0, -90.0, 1e4, -3e18, 1e38])


@pytest.mark.parametrize("case", SHAPES, ids=lambda case: case.id)
@hypothesis.given(data=st.data())
def test_same_bits_at_hard_values(case, data):
    """Saturated, huge, tiny, denormal and zero inputs; overflow to inf and NaN at the same entries."""
    leaves, tree = jax.tree.flatten(case.draw())

    def drawn(leaf):
        values = data.draw(st.lists(VALUES, min_size=leaf.size, max_size=leaf.size))
        return jnp.asarray(values, leaf.dtype).reshape(leaf.shape)

    args = tree.unflatten([drawn(leaf) for leaf in leaves])
    hand = HARD[case][0](*args)
    autodiff = HARD[case][1](*args)
    for h, a in zip(jax.tree.leaves(hand), jax.tree.leaves(autodiff), strict=True):
        np.testing.assert_array_equal(np.asarray(h), np.asarray(a))


HARD = {case: (jax.jit(case.net.value_and_grad), jax.jit(jax.value_and_grad(case.net.loss))) for case in SHAPES}


def test_labels_are_one_hot_rows():
    net = handprop.mlp((5, 3), output="softmax", loss="softmax_cross_entropy")
    params = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 5))
    labels = jnp.array([0, 1, 2, 2, 1, 0])
    by_label = net.value_and_grad(params, x, labels)
    by_row = net.value_and_grad(params, x, jax.nn.one_hot(labels, 3))
    assert paths_that_differ(by_label, by_row) == []


def test_traced_label_out_of_range_is_nan():
    net = handprop.mlp((5, 3), output="softmax", loss="softmax_cross_entropy")
    params = net.init(jax.random.key(0))
    value, _ = jax.jit(net.value_and_grad)(params, jnp.ones((2, 5)), jnp.array([0, 3]))
    assert jnp.isnan(value)


def test_trace_is_the_derivation():
    """Each line of the derivation, recomputed from the trace in plain NumPy float64."""
    with jax.enable_x64(True):
        case = Case((5, 7, 6, 3), 11, "tanh", "sigmoid", "half_squared_error", "mean", True, "float64")
        params, x, y = case.draw()
        trace = jax.tree.map(np.asarray, case.net.backprop(params, x, y))
        y = np.asarray(y)
    a, z, delta = trace.activations, trace.pre_activations, trace.deltas
    W = [np.asarray(layer.W) for layer in params]
    assert len(a) == 4 and len(z) == len(delta) == 3
    for l in range(3):
        np.testing.assert_allclose(z[l], a[l] @ W[l] + np.asarray(params[l].b), rtol=1e-13)
        np.testing.assert_allclose(trace.grads[l].W, a[l].T @ delta[l], rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(trace.grads[l].b, delta[l].sum(0), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(delta[2], (a[3] - y) * a[3] * (1 - a[3]) / 11, rtol=1e-13)
    for l in (0, 1):
        by_chain_rule = delta[l + 1] @ W[l + 1].T * (1 - np.tanh(z[l]) ** 2)  # 1 - a^2 cancels in the tails
        np.testing.assert_allclose(delta[l], by_chain_rule, rtol=1e-11, atol=1e-14 * np.abs(delta[l]).max())


@pytest.mark.parametrize(
    "loss", ["half_squared_error", "mean_squared_error", "binary_cross_entropy", "softmax_cross_entropy"]
)
def test_gradient_is_the_slope(loss):
    """Central differences in float64: the one opinion that does not come from a derivative rule."""
    output = {"binary_cross_entropy": "sigmoid", "softmax_cross_entropy": "softmax"}.get(loss, "tanh")
    with jax.enable_x64(True):
        case = Case((4, 5, 3), 6, "sigmoid", output, loss, "sum", True, "float64")
        params, x, y = case.draw()
        flat, unravel = ravel_pytree(params)
        grads, _ = ravel_pytree(case.net.value_and_grad(params, x, y)[1])
        direction = jax.random.normal(jax.random.key(0), flat.shape, jnp.float64)
        h = 1e-5
        ahead, behind = (case.net.loss(unravel(flat + s * h * direction), x, y) for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / (2 * h), grads @ direction, rtol=1e-8)


def test_no_second_trace():
    net = handprop.mlp((3, 4, 1))
    step = jax.jit(chex.assert_max_traces(net.value_and_grad, n=1))
    params = net.init(jax.random.key(0))
    for seed in (1, 2):
        x = jax.random.normal(jax.random.key(seed), (4, 3))
        step(params, x, x[:, :1])


@pytest.mark.parametrize("case", [SHAPES[0], CASES[-1]], ids=lambda case: case.id)
def test_lowers_for_every_platform(case):
    exported = jax.export.export(jax.jit(case.net.value_and_grad), platforms=("cpu", "cuda", "tpu"))(*case.draw())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.mlir_module()


@pytest.mark.parametrize("init", ["uniform", "glorot", "lecun"])
def test_initial_weights(init):
    net = handprop.mlp((300, 200, 1), init=init)
    first, last = net.init(jax.random.key(0))
    variance = {"uniform": 1 / 3, "glorot": 2 / 500, "lecun": 1 / 300}[init]
    np.testing.assert_allclose(np.var(first.W), variance, rtol=0.05)
    np.testing.assert_array_equal(first.b, np.zeros(200, np.float32))
    assert first.W.shape == (300, 200) and last.W.shape == (200, 1)
    assert net.init(jax.random.key(0), jnp.bfloat16)[0].W.dtype == jnp.bfloat16


NET = handprop.mlp((3, 4, 2))
PARAMS = NET.init(jax.random.key(0))
X, Y = jnp.ones((5, 3)), jnp.ones((5, 2))
HALF = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), PARAMS)
FAULTS = {
    "wrong width": ((PARAMS, X[:, :2], Y), ValueError, r"x has shape \(5, 2\), but params\[0\]\.W of shape \(3, 4\)"),
    "one example": ((PARAMS, X[0], Y), ValueError, r"x has shape \(3,\).*x\[None\]"),
    "lengths": ((PARAMS, X, Y[:4]), ValueError, r"y has shape \(4, 2\), but x of shape \(5, 3\)"),
    "outputs": ((PARAMS, X, Y[:, :1]), ValueError, r"y has shape \(5, 1\).*need \(5, 2\)"),
    "integer x": ((PARAMS, jnp.ones((5, 3), int), Y), TypeError, r"x has dtype int32.*x\.astype\('float32'\)"),
    "integer y": ((PARAMS, X, jnp.ones((5, 2), int)), TypeError, r"y has dtype int32, but x has float32"),
    "half params": ((HALF, X, Y), TypeError, r"x has dtype float32, but params\[0\]\.W has float16"),
    "mixed params": (((HALF[0], PARAMS[1]), X, Y), TypeError, r"params\[1\]\.W has dtype float32.*float16"),
    "layer shape": (((PARAMS[0], PARAMS[0]), X, Y), ValueError, r"params\[1\]\.W has shape \(3, 4\).*\(4, 2\)"),
    "bias shape": (((PARAMS[0]._replace(b=X[0]), PARAMS[1]), X, Y), ValueError, r"params\[0\]\.b has shape \(3,\)"),
    "missing bias": (((PARAMS[0], PARAMS[1]._replace(b=None)), X, Y), ValueError, r"params\[1\]\.b is None"),
    "layers": ((PARAMS[:1], X, Y), ValueError, r"params is 1 layers.*tuple of 2 Layer"),
    "not layers": (((1, 2), X, Y), TypeError, r"params\[0\] is \w+; expected handprop.Layer"),
    "integer params": (
        (jax.tree.map(lambda leaf: leaf.astype(int), PARAMS), X, Y), TypeError, r"params\[0\]\.W has dtype int32"
    ),
    "empty mean": ((PARAMS, X[:0], Y[:0]), ValueError, r"x has no examples"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", ["loss", "value_and_grad", "backprop"])
def test_inputs_that_cannot_be_right(function, fault):
    args, error, sentence = FAULTS[fault]
    f = getattr(NET, function)
    with pytest.raises(error, match=sentence):
        f(*args)
    with pytest.raises(error, match=sentence):
        jax.eval_shape(f, *args)


def test_labels_that_cannot_be_right():
    net = handprop.mlp((3, 2), output="softmax", loss="softmax_cross_entropy")
    params = net.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"labels from 0 to 2, but 2 outputs take labels 0 to 1"):
        net.value_and_grad(params, X, jnp.array([0, 1, 2, 0, 1]))
    with pytest.raises(ValueError, match=r"labels from -1"):
        net.loss(params, X, jnp.array([0, 1, -1, 0, 1]))
    with pytest.raises(ValueError, match=r"y has shape \(4,\).*labels of shape \(5,\)"):
        net.loss(params, X, jnp.array([0, 1, 1, 0]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((3,),), r"sizes=\(3,\) is not valid"),
        (((3, 0, 1),), r"at least 1"),
        (((3, 2.5, 1),), r"whole numbers"),
        (
            ((3, 1), "softmax"),
            rf"hidden='softmax' is not known; choose one of {', '.join(HIDDEN)}\.",
        ),
        (((3, 1), "sigmoid", "gelu"), r"output='gelu' is not known"),
        (((3, 1), "sigmoid", "sigmoid", "hinge"), r"loss='hinge' is not known"),
        (
            ((3, 1), "sigmoid", "tanh", "binary_cross_entropy"),
            r"needs output='sigmoid' or 'identity', not 'tanh'",
        ),
        (((3, 1), "sigmoid", "sigmoid", "half_squared_error", "median"), r"reduction='median'"),
        (((3, 1), "sigmoid", "sigmoid", "half_squared_error", "mean", True, "zeros"), r"init='zeros'"),
    ],
)
def test_networks_that_cannot_be(arguments, sentence):
    sizes, *others = arguments
    names = ("hidden", "output", "loss", "reduction", "bias", "init")
    with pytest.raises(ValueError, match=sentence):
        handprop.mlp(sizes, **dict(zip(names, others, strict=False)))
