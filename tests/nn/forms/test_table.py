"""Forms: the same function as the exact one, within their bounds, and folded into one kernel where they claim to be."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import paths_that_differ

import handprop
from handprop.cli import demo
from handprop.nn.backprop import EXACT, Layer
from handprop.nn.forms.fused import FAST_SIGMOID, FUSED
from handprop.nn.forms.per_product import per_product
from handprop.nn.forms.table import FORMS, MAX_FUSED, MAX_FUSED_ALONE, MAX_FUSED_LONG, products
from handprop.training.loop import _check, _run_blocks, _start

X = jnp.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
Y = jnp.array([[0.0], [1], [1], [0]])
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), np.float32)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("form", ["fused", "fast_sigmoid", "auto"])
@pytest.mark.parametrize(
    ("hidden", "output", "loss", "bias"),
    [
        ("sigmoid", "sigmoid", "half_squared_error", False),
        ("tanh", "identity", "mean_squared_error", True),
        ("sigmoid", "sigmoid", "binary_cross_entropy", True),
    ],
)
def test_a_form_is_the_exact_function(form, hidden, output, loss, bias):
    names = {"hidden": hidden, "output": output, "loss": loss, "bias": bias}
    exact, other = handprop.mlp((3, 5, 2), **names), handprop.mlp((3, 5, 2), form=form, **names)
    params = exact.init(jax.random.key(0))
    report = handprop.equivalent(
        other.value_and_grad, exact.value_and_grad, params, normal(7, 3), abs(normal(7, 2)) % 1
    )
    assert report.verdict is handprop.Verdict.PROVED, str(report)


@pytest.mark.parametrize("form", [FUSED, per_product(4096)], ids=["fused", "one by one"])
@pytest.mark.parametrize("shape", [(4, 3, 5), (64, 17, 9), (1, 300, 2), (20, 40, 30)])
def test_products_keep_their_bound(form, shape):
    N, I, O = shape
    a, W, delta = normal(N, I), normal(I, O), normal(N, O)
    layer, eps = Layer(W, normal(O)), np.finfo(np.float32).eps
    wide = [np.asarray(v, np.float64) for v in (a, W, delta, layer.b)]
    a64, W64, d64, b64 = wide
    pairs = (
        (form.affine(a, layer), a64 @ W64 + b64, abs(a64) @ abs(W64) + abs(b64), I + 1),
        (form.d_params(a, delta, layer).W, a64.T @ d64, abs(a64).T @ abs(d64), N),
        (form.d_params(a, delta, layer).b, d64.sum(0), abs(d64).sum(0), N),
        (form.d_input(delta, layer), d64 @ W64.T, abs(d64) @ abs(W64).T, O),
    )
    for got, want, size, terms in pairs:
        assert (abs(np.asarray(got, np.float64) - want) <= terms * eps * size).all()


def test_the_fast_sigmoid_keeps_its_bound():
    z = np.linspace(-120, 120, 200_001).astype(np.float32)
    want = 1 / (1 + np.exp(-z.astype(np.float64)))
    got = np.asarray(FAST_SIGMOID.f(jnp.asarray(z))[0], np.float64)
    assert abs(got - want).max() <= 2 * np.finfo(np.float32).eps
    assert got[z < -18].max() == 0, "what the docstring says of the negative tail"


SGD, MOMENTUM, ADAM = optax.sgd(1.0), optax.sgd(0.1, momentum=0.9), optax.adam(1e-2)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("form", ["fused", "fast_sigmoid", "auto"])
def test_the_classic_training_loop_is_one_native_kernel(form, optimizer, dtype):
    """XLA marks calls that it compiles into one kernel; from 2 kB a turn on and for Adam it would by itself only with
    ``XLA_FLAGS=--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=...``.
    """
    if jax.default_backend() != "cpu":
        pytest.skip("XLA:CPU folds loops, other backends do not")
    with jax.enable_x64(dtype == "float64"):
        net = handprop.mlp((3, 4, 1), bias=False, reduction="sum", form=form)
        assert one_call(compiled_loop(net, optimizer, dtype))
        assert not one_call(compiled_loop(handprop.mlp((3, 4, 1), bias=False, reduction="sum"), optimizer, dtype))


def one_call(text):
    """Whether all that the entry computation does is call one marked computation."""
    entry = text[text.index("ENTRY") :]
    return bool(re.search(r" call\(.*xla_cpu_small_call", entry)) and not re.search(r" (while|fusion|dot)\(", entry)


def compiled_loop(net, optimizer, dtype):
    """The text of what ``train`` runs."""
    params, data = net.init(jax.random.key(0), dtype), (X.astype(dtype), Y.astype(dtype))
    loop = _check(net.value_and_grad, optimizer, data, 1000, None, None, 0, 100)
    state = _start(loop, params, None, 0, None)
    return _run_blocks.lower(loop, state, jnp.zeros(4, jnp.int32), jnp.int32(4), data, None).compile().as_text()


def test_auto_folds_what_is_small_and_takes_each_product_by_itself_where_it_is_not():
    limit = MAX_FUSED["float32"]
    small, large = jnp.zeros((limit // 256, 16)), jnp.zeros((limit // 256 + 1, 16))
    by_itself = per_product(MAX_FUSED_ALONE["float32"])
    assert products("auto", (16, 16, 1), small) is FUSED
    assert products("auto", (16, 16, 1), large) is by_itself
    assert products("auto", (16, 16, 1), small.astype(jnp.bfloat16)) is EXACT
    limit = MAX_FUSED_LONG["float32"]  # more than 64 examples
    assert products("auto", (4, 4, 1), jnp.zeros((limit // 16, 4))) is FUSED
    assert products("auto", (4, 4, 1), jnp.zeros((limit // 16 + 1, 4))) is by_itself
    with jax.enable_x64(True):
        assert products("auto", (64, 64, 1), jnp.zeros((64, 64), jnp.float64)) is EXACT


def test_auto_is_the_exact_function_where_each_product_is_taken_by_itself():
    exact, auto = handprop.mlp((24, 20, 10)), handprop.mlp((24, 20, 10), form="auto")
    params, x, y = exact.init(jax.random.key(0)), normal(20, 24), abs(normal(20, 10)) % 1
    assert products("auto", (24, 20, 10), x) is per_product(MAX_FUSED_ALONE["float32"])
    report = handprop.equivalent(auto.value_and_grad, exact.value_and_grad, params, x, y)
    assert report.verdict is handprop.Verdict.PROVED, str(report)


@pytest.mark.parametrize(("width", "dtype"), [(130, "float32"), (30, "float64"), (30, "bfloat16")])
def test_auto_keeps_the_exact_bits_where_nothing_is_to_be_gained(width, dtype):
    with jax.enable_x64(dtype == "float64"):
        exact, auto = handprop.mlp((width,) * 3), handprop.mlp((width,) * 3, form="auto")
        params = exact.init(jax.random.key(0), dtype)
        batch = [normal(width, width).astype(dtype) for _ in range(2)]
        assert not paths_that_differ(exact.value_and_grad(params, *batch), auto.value_and_grad(params, *batch))


def text_of(products, a, delta, layer):
    return (
        jax.jit(lambda *args: (products.affine(a, args[2]), products.d_params(*args))).lower(a, delta, layer).as_text()
    )


@pytest.mark.parametrize(
    ("shape", "products_left", "laid_out"),
    [((10, 30, 10), 0, False), ((10, 64, 30), 2, True), ((4, 100, 5), 1, False), ((100, 8, 4), 1, True),
     ((128, 128, 128), 2, False)],
)  # fmt: skip
def test_each_product_is_written_the_way_its_size_asks_for(shape, products_left, laid_out):
    """(4, 100, 5) sums 100 terms forward and 4 backward, (100, 8, 4) the other way round: only 64 are written out."""
    N, I, O = shape
    a, delta, layer = normal(N, I), normal(N, O), Layer(normal(I, O), normal(O))
    text = text_of(per_product(4096), a, delta, layer)
    assert text.count("stablehlo.dot_general") == products_left
    assert ("optimization_barrier" in text) is laid_out


def test_a_limit_of_ones_own_takes_the_place_of_those_built_in():
    fits, too_large = jnp.zeros((30, 10)), jnp.zeros((31, 10))
    assert products("auto", (10, 1), fits, 300) is FUSED
    assert products("auto", (10, 1), too_large, 300) is per_product(300)
    assert products("auto", (10, 1), fits.astype(jnp.bfloat16), 300) is FUSED
    assert products("auto", (10, 1), fits, 0) is EXACT
    net = handprop.mlp((10, 1), form="auto", max_fused=0)
    assert net.spec.net(fits).products is EXACT
    assert handprop.mlp((10, 1), form="auto").spec.net(fits).products is FUSED


@pytest.mark.parametrize(("form", "limit", "says"), [("exact", 8, "needs form='auto'"), ("auto", -1, "at least 0")])
def test_a_limit_that_cannot_be_is_refused(form, limit, says):
    with pytest.raises(ValueError, match=f"^max_fused={limit} .*{says}"):
        handprop.mlp((3, 1), form=form, max_fused=limit)


def test_training_with_auto_ends_where_training_with_exact_ends():
    ends = []
    for form in ("exact", "auto"):
        net = handprop.mlp((3, 4, 1), bias=False, reduction="sum", form=form)
        result = handprop.train(
            net.value_and_grad, net.init(jax.random.key(1)), (X, Y), optimizer=optax.sgd(1.0), steps=500
        )
        ends.append(result.params)
    for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("form", ["fused", "fast_sigmoid", "accurate"])
def test_the_published_digits_come_out_in_every_form(form, monkeypatch):
    net = handprop.mlp((3, 4, 1), bias=False, reduction="sum", init="uniform", form=form)
    monkeypatch.setattr(demo, "classic_network", lambda: net)
    assert demo.run_classic().ok


def test_an_unknown_form_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="form='folder'") as caught:
        handprop.mlp((3, 1), form="folder")
    assert all(name in str(caught.value) for name in FORMS)
