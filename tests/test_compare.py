"""The comparison sees what is wrong, and calls right what only rounds differently."""

import jax
import jax.numpy as jnp
import pytest
from cases import Case

import handprop

CASE = Case((5, 7, 3), 11, "sigmoid", "softmax", "softmax_cross_entropy", "mean", True, "float32")


def test_exact_case_has_the_same_bits():
    case = CASE._replace(output="sigmoid", loss="half_squared_error")
    comparison = handprop.compare_gradients(case.net.value_and_grad, case.net.loss, *case.draw())
    assert comparison.same_bits and comparison.ok
    assert 0 < comparison.hand_ulps == comparison.autodiff_ulps < 16
    assert [leaf.path for leaf in comparison.leaves][:2] == ["value", "grads[0].W"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_fused_case_is_ok(dtype):
    case = CASE._replace(dtype=dtype)
    comparison = handprop.compare_gradients(case.net.value_and_grad, case.net.loss, *case.draw())
    assert comparison.ok
    assert max(map(len, str(comparison).splitlines())) <= 80


def altered(change):
    def value_and_grad(params, x, y):
        value, grads = CASE.net.value_and_grad(params, x, y)
        return value, (grads[0], grads[1]._replace(W=change(grads[1].W)))

    return value_and_grad


@pytest.mark.parametrize(
    "change",
    [
        lambda W: -W,
        lambda W: 1.0001 * W,
        lambda W: W.at[2, 1].add(1e-3),
        lambda W: W.at[0, 0].set(jnp.nan),
        jnp.zeros_like,
    ],
)
def test_wrong_gradient_is_not_ok(change):
    comparison = handprop.compare_gradients(altered(change), CASE.net.loss, *CASE.draw())
    assert not comparison.ok
    assert [leaf.path for leaf in comparison.leaves if not leaf.ok] == ["grads[1].W"]


def test_other_trees_and_shapes_are_named():
    args = CASE.draw()
    with pytest.raises(ValueError, match=r"grads\[1\]\.W is float32\[3, 7\] by hand, but float32\[7, 3\]"):
        handprop.compare_gradients(altered(jnp.transpose), CASE.net.loss, *args)
    with pytest.raises(ValueError, match="value_and_grad returns"):
        handprop.compare_gradients(lambda *a: CASE.net.value_and_grad(*a)[1], CASE.net.loss, *args)


def test_takes_integer_data():
    args = (*CASE.draw()[:2], jnp.arange(11) % 3)
    assert handprop.compare_gradients(CASE.net.value_and_grad, CASE.net.loss, *args).ok
    assert jax.config.jax_enable_x64 is False
