"""Gradients that are not the derivative of their function on purpose, and the words for what they are."""

import jax
import jax.numpy as jnp
import pytest

import handprop
from handprop import verifier as v

X = jnp.array([-1.9, -0.8, -0.3, 0.4, 0.9, 1.7])


def rule(f, backward):
    made = jax.custom_vjp(f)
    made.__name__ = "f"
    made.defvjp(lambda *args: (f(*args), args), backward)
    return made


def same(x):
    return x * 1.0


def scaled(x, s):
    return x * 1.0


def rounded(x):
    return jnp.round(x)


def step(x):
    return (x > 0).astype(x.dtype)


def product(x, y):
    return x * y


def unit(g):
    return g / jnp.linalg.norm(g)


S = jnp.float32(0.3)
# the rule's function, its backward pass, its arguments, and what the report has to say
SHAPES = {
    "straight-through": (rounded, lambda kept, c: (c,), (X,), "the cotangent handed through"),
    "straight-through, saturating": (
        jnp.sign, lambda kept, c: (jnp.where(jnp.abs(kept[0]) <= 1, c, 0),), (X,),
        "the cotangent where jnp.abs(x) <= 1, and zero elsewhere"),
    "reversed": (same, lambda kept, c: (-c,), (X,), "the negative of the cotangent"),
    "scaled by an argument": (
        scaled, lambda kept, c: (kept[1] * c, jnp.zeros_like(S)), (X, S), "s times the cotangent"),
    "scaled": (jnp.tanh, lambda kept, c: (0.5 * c * (1 - jnp.tanh(kept[0]) ** 2),), (X,), "0.5 times the derivative"),
    "clipped": (same, lambda kept, c: (jnp.clip(c, -0.1, 0.1),), (X,), "the cotangent, clipped to 0.1"),
    "clipped derivative": (
        jnp.sin, lambda kept, c: (jnp.clip(c * jnp.cos(kept[0]), -0.2, 0.2),), (X,), "the derivative, clipped to 0.2"),
    "clipped norm": (
        same, lambda kept, c: (c * jnp.minimum(1, 2.0 / jnp.linalg.norm(c)),), (X,), "clipped to a norm of 2"),
    "normalised": (jnp.sin, lambda kept, c: (unit(c * jnp.cos(kept[0])),), (X,), "the derivative, normalised"),
    "sign": (same, lambda kept, c: (jnp.sign(c),), (X,), "the sign of the cotangent"),
    "zero": (jnp.sin, lambda kept, c: (jnp.zeros_like(c),), (X,), "zero, as if it were stopped"),
    "zero for one argument": (
        product, lambda kept, c: (c * kept[1], jnp.zeros_like(c)), (X, X + 3), "dy is zero, as if it were stopped"),
}  # fmt: skip
WITHOUT_A_LINE = {
    "statistic": (
        scaled, lambda kept, c: (c, jnp.maximum(kept[1], jnp.max(jnp.abs(kept[0])))), (X, S),
        "ds is the same for every cotangent, as a statistic is"),
    "a slope of its own": (
        step, lambda kept, c: (c / (1 + jnp.abs(kept[0])) ** 2,), (X,), "the cotangent times a slope of its own"),
    "partly known": (
        product, lambda kept, c: (c * kept[1] ** 2, jnp.zeros_like(c)), (X, X + 3),
        "dx is of no known shape; dy is zero"),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_is_named_and_its_line_proves_the_rule(name):
    f, backward, args, said = SHAPES[name]
    made = rule(f, backward)
    report = v.verify(made, *args)
    assert report.verdict is v.Verdict.REFUTED
    assert report.intent is not None
    assert said in report.intent
    assert report.intent in " ".join(str(report).split())
    _, _, line = report.intent.partition("pass surrogate=")
    surrogate = eval(line, {"handprop": handprop, "jax": jax, "jnp": jnp, "f": f})  # a line the report gives a user
    assert v.verify(made, *args, surrogate=surrogate).verdict is v.Verdict.PROVED


@pytest.mark.parametrize("name", WITHOUT_A_LINE)
def test_a_shape_without_a_surrogate_is_named(name):
    f, backward, args, said = WITHOUT_A_LINE[name]
    report = v.verify(rule(f, backward), *args)
    assert report.verdict is v.Verdict.REFUTED
    assert said in report.intent
    assert "surrogate" not in report.intent


@pytest.mark.parametrize("backward", [
    lambda kept, c: (c * jnp.sin(kept[0]),),
    lambda kept, c: (c * jnp.cos(kept[0]) ** 2,),
    lambda kept, c: (c[::-1] * jnp.cos(kept[0]),),
])  # fmt: skip
def test_a_mistake_is_no_shape(backward):
    report = v.verify(rule(jnp.sin, backward), X)
    assert report.verdict is v.Verdict.REFUTED
    assert report.intent is None


def test_no_search_without_repair():
    f, backward, args, _ = SHAPES["reversed"]
    assert v.verify(rule(f, backward), *args, skip="repair").intent is None


def test_another_surrogate_is_refuted():
    f, backward, args, _ = SHAPES["straight-through, saturating"]
    report = v.verify(rule(f, backward), *args, surrogate=lambda x: jnp.clip(x, -0.5, 0.5), skip="repair")
    assert report.verdict is v.Verdict.REFUTED


def test_the_value_is_still_compared_with_the_rules_own():
    """A forward pass that returns something else than the function is wrong, whatever the gradient is meant to be."""
    made = jax.custom_vjp(jnp.sign)
    made.defvjp(lambda x: (x, x), lambda kept, c: (c,))
    report = v.verify(made, X, surrogate=lambda x: x, skip="repair")
    assert report.verdict is v.Verdict.REFUTED
    assert report.counterexample.worst.path == "value"


def test_rules_of_the_surrogate_are_a_condition():
    f, backward, args, _ = SHAPES["clipped"]
    surrogate = handprop.with_gradient(lambda x: x, lambda dx: jnp.clip(dx, -0.1, 0.1))
    report = v.verify(rule(f, backward), *args, surrogate=surrogate)
    assert "the rules that the surrogate calls are right" in report.conditions


@pytest.mark.parametrize(("surrogate", "said"), [
    (lambda x: x[0], "float32"), (lambda x: (x, x), "surrogate returns"), (2.0, "must be a function"),
])  # fmt: skip
def test_unusable_surrogates_are_named(surrogate, said):
    f, backward, args, _ = SHAPES["reversed"]
    with pytest.raises(v.Unusable, match=said):
        v.verify(rule(f, backward), *args, surrogate=surrogate)


def test_with_gradient_changes_all_gradients_and_no_value():
    f = handprop.with_gradient(product, lambda dx, dy: (dx, 2 * dy))
    value, (dx, dy) = jax.value_and_grad(lambda x, y: f(x, y).sum(), (0, 1))(X, X + 3)
    assert jnp.array_equal(value, product(X, X + 3).sum())
    assert jnp.array_equal(dx, X + 3)
    assert jnp.array_equal(dy, 2 * X)
