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


def weighed_rounding(x):
    return jnp.round(x / 0.25) * 0.25 * W


def saturating(x):
    return jnp.sin(jnp.clip(jnp.round(x * 4), -3, 3) / 4)


def beyond(x, s):
    return (x > s).astype(x.dtype)


def scaled_step(x, s):
    return (x > 0).astype(x.dtype)


def norm(x):
    return jnp.linalg.norm(x)


def from_lower(a):
    """Reads one half of a symmetric matrix."""
    return jnp.sin(jnp.tril(a) + jnp.tril(a, -1).T)


def of_lower(a):
    return jnp.sin(jnp.tril(a))


def slope(u):
    return jax.nn.sigmoid(u) * (1 - jax.nn.sigmoid(u))


def right_angle(x, d):
    return d - (x @ d) * x


S = jnp.float32(0.3)
W = jnp.array([0.5, 2.0, -1.0, 1.5, -0.5, 3.0])
ROOT = jnp.array([[0.2, 0.5, -0.3], [0.9, 1.1, 0.4], [-0.6, 0.7, 0.8]])
A = ROOT + ROOT.T
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
    "slope of a sigmoid": (
        step, lambda kept, c: (c * 4 * slope(4 * kept[0]),), (X,),
        "the cotangent times the slope of jax.nn.sigmoid(4 * x)"),
    "slope of a sigmoid without its scale": (
        step, lambda kept, c: (c * slope(5 * kept[0]),), (X,), "the slope of 0.2 * jax.nn.sigmoid(5 * x)"),
    "slope of an arctan beyond a number": (
        lambda x: beyond(x, 0.5), lambda kept, c: (c / (1 + (3 * (kept[0] - 0.5)) ** 2),), (X,),
        "the slope of 1 / 3 * jnp.arctan(3 * (x - 0.5))"),
    "slope of a bump beyond an argument": (
        beyond, lambda kept, c: (c * jnp.maximum(0, 1 - jnp.abs(kept[0] - kept[1])), jnp.zeros_like(S)), (X, S),
        "(lambda u: u - u * abs(u) / 2)(jnp.clip(x - jax.lax.stop_gradient(s), -1, 1))"),
    "slope that falls off slowly": (
        step, lambda kept, c: (c / (1 + 10 * jnp.abs(kept[0])) ** 2,), (X,),
        "the slope of 0.1 * jax.nn.soft_sign(10 * x)"),
    "slope by an argument": (
        scaled_step, lambda kept, c: (c * kept[1] * slope(kept[1] * kept[0]), jnp.zeros_like(S)), (X, S),
        "the slope of jax.nn.sigmoid(jax.lax.stop_gradient(s) * x)"),
}  # fmt: skip
WITHOUT_A_LINE = {
    "argument kept in a range": (
        jnp.log, lambda kept, c: (c / jnp.clip(kept[0], 0.1, 1.5),), (jnp.abs(X),),
        "dx is the derivative, but for guards in the rule: x kept between 0.1 and 1.5"),
    "denominator increased": (
        norm, lambda kept, c: (c * kept[0] / (norm(kept[0]) + 1e-4),), (X,), "a denominator increased by 0.0001"),
    "denominator kept up": (
        norm, lambda kept, c: (c * kept[0] / jnp.maximum(norm(kept[0]), 0.5),), (X / 9,),
        "a denominator kept at 0.5 or more"),
    "two guards": (
        jnp.arcsin, lambda kept, c: (c / jnp.maximum(jnp.sqrt(1 - jnp.clip(kept[0], -0.9, 0.9) ** 2), 0.3),), (X / 2,),
        "x kept between -0.9 and 0.9"),
    "one value replaced": (
        jnp.sqrt, lambda kept, c: (c * jnp.where(kept[0] == 0, 100.0, 0.5 / jnp.sqrt(kept[0])),), (jnp.maximum(X, 0),),
        "replaced by 100 where x == 0"),
    "small numbers replaced": (
        jnp.sqrt, lambda kept, c: (c * jnp.where(kept[0] < 1e-4, 100.0, 0.5 / jnp.sqrt(kept[0])),),
        (jnp.maximum(X, 0),), "replaced by 100 where x < 0.0001"),
    "rounding passed through": (
        weighed_rounding, lambda kept, c: (c * W,), (X,), "the derivative of the function without its rounding"),
    "rounding and clip passed through": (
        saturating, lambda kept, c: (c * jnp.cos(kept[0]),), (X,),
        "the derivative of the function without its roundings and clips"),
    "at right angles": (
        jnp.sin, lambda kept, c: (right_angle(kept[0], c * jnp.cos(kept[0])),), (X,),
        "the derivative, projected to be at right angles to x"),
    "along symmetric matrices": (
        from_lower, lambda kept, c: (c * jnp.cos(kept[0]),), (A,), "the derivative along symmetric matrices"),
    "entries that are not read": (
        of_lower, lambda kept, c: (c * jnp.cos(kept[0]),), (jnp.tril(A),),
        "in the entries of a that the function reads"),
    "a matrix of slopes": (
        step, lambda kept, c: (jnp.outer(jnp.cos(kept[0]), W) @ c,), (X,),
        "linear in the cotangent with slopes of its own"),
    "statistic": (
        scaled, lambda kept, c: (c, jnp.maximum(kept[1], jnp.max(jnp.abs(kept[0])))), (X, S),
        "ds is the same for every cotangent, as a statistic is"),
    "a slope of its own": (
        step, lambda kept, c: (c / (1 + kept[0] ** 4),), (X,), "the cotangent times a slope of its own"),
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
    surrogate = eval(line, {"handprop": handprop, "jax": jax, "jnp": jnp, "f": made})  # a line the report gives a user
    assert v.verify(made, *args, surrogate=surrogate).verdict is v.Verdict.PROVED


@pytest.mark.parametrize("name", WITHOUT_A_LINE)
def test_a_shape_without_a_surrogate_is_named(name):
    f, backward, args, said = WITHOUT_A_LINE[name]
    report = v.verify(rule(f, backward), *args)
    assert report.verdict is v.Verdict.REFUTED
    assert said in report.intent
    assert "surrogate" not in report.intent


MISTAKES = {
    "another function": (jnp.sin, lambda kept, c: (c * jnp.sin(kept[0]),), (X,)),
    "a power": (jnp.sin, lambda kept, c: (c * jnp.cos(kept[0]) ** 2,), (X,)),
    "reversed entries": (jnp.sin, lambda kept, c: (c[::-1] * jnp.cos(kept[0]),), (X,)),
    "a guard, and no square": (lambda x: 1 / x, lambda kept, c: (-c / jnp.clip(kept[0], 0.1, 1.5),), (jnp.abs(X),)),
    "a guard, and a wrong sign": (
        lambda x: x / norm(x),
        lambda kept, c: (c / norm(kept[0]) + (c @ kept[0]) * kept[0] / jnp.maximum(norm(kept[0]), 1e-6) ** 3,), (X,)),
    "no mask of a relu": (lambda x: x * jax.nn.relu(x), lambda kept, c: (2 * c * kept[0],), (X,)),
    "a relu too many": (lambda x: x * x[::-1], lambda kept, c: (
        c * kept[0][::-1] + c[::-1] * jnp.maximum(kept[0][::-1], 0),), (X,)),
    "a mask too many": (lambda x: x * jnp.sin(x), lambda kept, c: (
        c * (jnp.sin(kept[0]) + jnp.where(kept[0] > 0.5, kept[0] * jnp.cos(kept[0]), 0)),), (X,)),
    "no mask of a clip": (lambda x: jnp.sin(jnp.clip(x, -1, 1)), lambda kept, c: (c * jnp.cos(kept[0]),), (X,)),
    "a wrong factor of a projection": (
        jnp.sin, lambda kept, c: (2 * right_angle(kept[0], c * jnp.cos(kept[0])) - c * jnp.cos(kept[0]),), (X,)),
    "saved arguments swapped": (product, lambda kept, c: (c * kept[0], c * kept[1]), (X, X + 3)),
    "a wrong sign in one term": (
        lambda x, y: x * jnp.sin(y) + x * y, lambda kept, c: (
            c * (jnp.sin(kept[1]) - kept[1]), c * kept[0] * (jnp.cos(kept[1]) + 1)), (X, X + 3)),
    "transposed": (lambda a: a @ ROOT, lambda kept, c: ((c @ ROOT.T).T,), (ROOT,)),
    "a factor, for a symmetric matrix": (from_lower, lambda kept, c: (c * jnp.cos(kept[0]) ** 2,), (A,)),
    "a missing mask": (of_lower, lambda kept, c: (c * jnp.cos(kept[0]),), (ROOT,)),
    "no chain rule through a rounding": (
        lambda x: jnp.sin(x * jnp.round(x)), lambda kept, c: (c * jnp.cos(kept[0] * jnp.round(kept[0])),), (X,)),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_no_shape(name):
    f, backward, args = MISTAKES[name]
    report = v.verify(rule(f, backward), *args)
    assert report.verdict is v.Verdict.REFUTED
    assert report.intent is None


def test_the_derivative_of_another_function_is_named():
    made = jax.custom_jvp(lambda box, x: x * 1.0)
    made.__name__ = "f"
    made.defjvp(lambda at, along: (at[1] * 1.0, along[0] * at[1] + at[0] * along[1]))
    report = v.verify(made, X + 3, X)
    assert "dbox, dx are together the derivative of another function, of degree 2 in box and x" in report.intent
    surrogate = eval(report.intent.partition("pass surrogate=")[2], {"jax": jax, "f": made})
    assert v.verify(made, X + 3, X, surrogate=surrogate).verdict is v.Verdict.PROVED


def test_gradients_of_no_function_are_not_named_as_those_of_another():
    made = jax.custom_vjp(lambda box, x: x * 1.0)
    made.defvjp(lambda box, x: (x * 1.0, (box, x)), lambda kept, c: (c * jnp.cumsum(kept[1]), c * kept[0]))
    report = v.verify(made, X + 3, X)
    assert report.verdict is v.Verdict.REFUTED
    assert "another function" not in (report.intent or "")


def gate(backward):
    made = jax.custom_vjp(lambda x: x * W)
    made.__name__ = "gate"
    made.defvjp(lambda x: (x * W, x), lambda kept, c: (backward(kept, c),))
    return made


def test_a_rule_inside_a_function_is_named():
    called = gate(lambda kept, c: c)
    report = v.verify(lambda x: jnp.exp(jnp.sum(called(jnp.tanh(x)) ** 2) / 9), X)
    assert report.intent == ("dx is the derivative but for the rule of gate, which it calls; there, dx is the "
                             "cotangent handed through, as straight-through gradients are")  # fmt: skip


def test_a_mistake_inside_a_function_is_not_named():
    called = gate(lambda kept, c: c * W * jnp.cos(kept))
    report = v.verify(lambda x: jnp.exp(jnp.sum(called(jnp.tanh(x)) ** 2) / 9), X)
    assert report.verdict is v.Verdict.REFUTED
    assert report.intent is None


def test_a_rule_is_not_named_for_what_another_one_does():
    called, wrong = gate(lambda kept, c: c), jax.custom_vjp(lambda x: jnp.sin(x))
    wrong.defvjp(lambda x: (jnp.sin(x), x), lambda kept, c: (c * jnp.cos(kept) ** 2,))
    report = v.verify(lambda x: jnp.sum(called(wrong(x)) ** 2), X)
    assert report.intent is None


def smoothed(factor):
    """The mean of a square over noise, whose gradient is estimated by the score of the noise."""

    def noise(key):
        return jax.random.normal(key, (64, 3))

    @jax.custom_vjp
    def f(x, key):
        return jnp.mean(jnp.sum((x[None] + 0.5 * noise(key)) ** 2, 1))

    def backward(kept, c):
        x, key = kept
        z = noise(key)
        values = jnp.sum((x[None] + 0.5 * z) ** 2, 1) - jnp.sum(x**2)
        return c * factor * jnp.mean(values[:, None] * z, 0) / 0.5, None

    f.defvjp(lambda x, key: (f(x, key), (x, key)), backward)
    return f


@pytest.mark.thinned(1)
@pytest.mark.parametrize("factor", [1.0, 0.7, 1.5, -1.0])
def test_an_estimate_is_named_if_its_mean_is_right(factor):
    report = v.verify(smoothed(factor), jnp.array([0.8, -1.3, 0.6]), jax.random.key(0))
    assert report.verdict is v.Verdict.REFUTED
    assert ("its mean over the random draws is the derivative" in (report.intent or "")) is (factor == 1)


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
