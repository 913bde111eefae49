"""Rules of functions that are known by an equation: root finders, fixed points, solvers, optimizers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from handprop import verifier as v

X = jnp.array([0.6, 1.4, 2.5])
W, B = jnp.array([[0.3, -0.2], [0.1, 0.4]]), jnp.array([0.5, -0.7])
M = jnp.array([[4.0, 1.0], [1.0, 3.0]])


def solver(solve, backward):
    """A function with its rule: ``backward(args, y, cotangent)``."""
    rule = jax.custom_vjp(solve)

    def forward(*args):
        y = rule(*args)
        return y, (args, y)

    rule.defvjp(forward, lambda kept, c: backward(*kept, c))
    return rule


def newton_of_w_exp_w(x):
    def step(state):
        y, i = state
        return y - (y * jnp.exp(y) - x) / (jnp.exp(y) * (1 + y)), i + 1

    return lax.while_loop(lambda state: state[1] < 30, step, (jnp.log1p(x), 0))[0]


def lambert(backward):
    return solver(newton_of_w_exp_w, backward), (X,), lambda y, x: y * jnp.exp(y) - x


def cell(params, y):
    w, b = params
    return jnp.tanh(w @ y + b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fixed_point(f, a, guess):
    def unfinished(state):
        return jnp.max(jnp.abs(state[0] - state[1])) > 1e-6

    return lax.while_loop(unfinished, lambda state: (state[1], f(a, state[1])), (guess, f(a, guess)))[1]


def fixed_point_backward(f, kept, c):
    """The adjoint is the fixed point of another iteration, with a rule of its own."""
    a, y = kept

    def turn(packed, u):
        a, y, c = packed
        return c + jax.vjp(lambda y: f(a, y), y)[1](u)[0]

    u = fixed_point(turn, (a, y, c), c)
    return jax.vjp(lambda a: f(a, y), a)[1](u)[0], jnp.zeros_like(y)


fixed_point.defvjp(lambda f, a, guess: (y := fixed_point(f, a, guess), (a, y)), fixed_point_backward)


def with_gradient_descent(data, targets, decay):
    def gradient(w):
        return data.T @ (data @ w - targets) + decay * w

    return lax.fori_loop(0, 400, lambda i, w: w - 0.05 * gradient(w), jnp.zeros(2))


def ridge_backward(args, w, c):
    data, targets, decay = args
    along = jnp.linalg.solve(data.T @ data + decay * jnp.eye(2), c)
    return -jnp.outer(data @ along, w) - jnp.outer(data @ w - targets, along), data @ along, -along @ w


def ridge_equation(w, data, targets, decay):
    return data.T @ (data @ w - targets) + decay * w


def by_conjugate_gradients(m, b):
    return jax.scipy.sparse.linalg.cg(lambda x: m @ x, b)[0]


def cg_backward(args, y, c):
    along = by_conjugate_gradients(args[0].T, c)
    return -jnp.outer(along, y), along


def kepler(mean, e):
    return lax.fori_loop(0, 30, lambda i, y: y - (y - e * jnp.sin(y) - mean) / (1 - e * jnp.cos(y)), mean)


def kepler_backward(args, y, c):
    slope = c / (1 - args[1] * jnp.cos(y))
    return slope, slope * jnp.sin(y)


def bisection(p):
    def halve(i, ends):
        low, high = ends
        middle = (low + high) / 2
        is_below = jax.nn.sigmoid(middle) < p
        return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

    return sum(lax.fori_loop(0, 40, halve, (jnp.full_like(p, -8), jnp.full_like(p, 8)))) / 2


ROWS = jnp.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
RIGHT = {
    "lambert, by the equation": lambda: lambert(lambda args, y, c: (c * y / (args[0] * (1 + y)),)),
    "lambert, without the argument": lambda: lambert(lambda args, y, c: (c / (jnp.exp(y) * (1 + y)),)),
    "a fixed point with a loop in its rule": lambda: (
        fixed_point, (cell, (W, B), jnp.zeros(2)), lambda y, f, a, guess: y - f(a, y)),
    "conjugate gradients": lambda: (solver(by_conjugate_gradients, cg_backward), (M, B), lambda y, m, b: m @ y - b),
    "ridge regression": lambda: (solver(with_gradient_descent, ridge_backward), (ROWS, jnp.ones(3), jnp.float32(0.7)),
                                 ridge_equation),
    "Kepler's equation": lambda: (solver(kepler, kepler_backward), (jnp.float32(1.2), jnp.float32(0.3)),
                                  lambda y, mean, e: y - e * jnp.sin(y) - mean),
    "a quantile by bisection": lambda: (
        solver(bisection, lambda args, y, c: (c * (2 + jnp.exp(y) + jnp.exp(-y)),)),
        (jnp.array([0.2, 0.6]),), lambda y, p: jax.nn.sigmoid(y) - p),
}  # fmt: skip
WRONG = {
    "lambert": lambda: lambert(lambda args, y, c: (c * y / (args[0] * (2 + y)),)),
    "a fixed point, transposed": lambda: (
        solver(lambda w, b: lax.fori_loop(0, 60, lambda i, y: cell((w, b), y), jnp.zeros(2)),
               lambda args, y, c: jax.vjp(lambda *a: cell(a, y), *args)[1](
                   jnp.linalg.solve(jnp.eye(2) - (1 - y**2)[:, None] * args[0], c))),
        (W, B), lambda y, w, b: y - cell((w, b), y)),
    "ridge regression without its second term": lambda: (
        solver(with_gradient_descent, lambda args, w, c: (
            -jnp.outer(args[0] @ jnp.linalg.solve(args[0].T @ args[0] + args[2] * jnp.eye(2), c), w),
            *ridge_backward(args, w, c)[1:])), (ROWS, jnp.ones(3), jnp.float32(0.7)), ridge_equation),
}  # fmt: skip


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", RIGHT)
def test_rules_of_solvers_are_proved_by_their_equation(name):
    rule, args, equation = RIGHT[name]()
    report = v.verify(rule, *args, satisfies=equation, skip="repair")
    assert report.verdict is v.Verdict.PROVED, report
    assert any("satisfies the equation" in condition for condition in report.conditions)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_of_solvers_are_refuted(name):
    rule, args, equation = WRONG[name]()
    assert v.verify(rule, *args, satisfies=equation, skip="repair").verdict is v.Verdict.REFUTED


def test_loops_of_the_rule_are_a_condition():
    rule, args, equation = RIGHT["a fixed point with a loop in its rule"]()
    report = v.verify(rule, *args, satisfies=equation, skip="repair")
    assert "the loops and solvers of the rule run to their limits" in report.conditions
    rule, args, equation = RIGHT["Kepler's equation"]()
    report = v.verify(rule, *args, satisfies=equation, skip="repair")
    assert not any("limits" in condition for condition in report.conditions)


def test_another_branch_of_the_equation_is_not_proved():
    """The square roots of x are y and -y, and the rule is for the positive one, while the function is the other."""
    negative = solver(lambda x: -jnp.sqrt(x), lambda args, y, c: (c / (2 * jnp.sqrt(args[0])),))
    assert v.verify(negative, X, satisfies=lambda y, x: y * y - x, skip="repair").verdict is v.Verdict.REFUTED
    positive = solver(jnp.sqrt, lambda args, y, c: (c / (2 * y),))
    assert v.verify(positive, X, satisfies=lambda y, x: y * y - x, skip="repair").verdict is v.Verdict.PROVED


def test_a_loop_that_stops_early_is_not_taken_at_its_limit():
    """A rule whose own iteration ends after two turns is wrong, though its limit is right."""

    def backward(args, y, c):
        slope = lax.while_loop(lambda s: s[1] < 2, lambda s: (c + 0.5 * s[0], s[1] + 1), (c, 0))[0]
        return (slope,)

    half = solver(lambda x: lax.fori_loop(0, 60, lambda i, y: x + 0.5 * y, x), backward)
    report = v.verify(half, X, satisfies=lambda y, x: y - x - 0.5 * y, skip="repair")
    assert report.verdict is v.Verdict.REFUTED


def test_the_limit_of_a_loop_that_is_not_linear_is_not_known():
    """The loop's limit is the cotangent, but for a term that is smaller than what iterations are allowed to be off."""

    def backward(args, y, c):
        def turn(state):
            new = 0.5 * (state[0] + c) + 1e-5 * (1 - jnp.cos(state[0]))
            return new, new - state[0]

        return (lax.while_loop(lambda state: jnp.max(jnp.abs(state[1])) > 1e-6, turn, (c, c))[0],)

    same = solver(lambda x: lax.fori_loop(0, 60, lambda i, y: 0.5 * (x + y), x), backward)
    report = v.verify(same, X, satisfies=lambda y, x: y - x, skip="repair")
    assert report.verdict is v.Verdict.VERIFIED


def test_a_rule_that_is_slightly_off_is_not_proved():
    off = lambert(lambda args, y, c: (1.000003 * c * y / (args[0] * (1 + y)),))
    report = v.verify(off[0], *off[1], satisfies=off[2], skip="repair")
    assert report.verdict is not v.Verdict.PROVED


@pytest.mark.parametrize(("equation", "said"), [
    (lambda y, x: y - x, "does not satisfy"),
    (lambda y, x: 0 * y, "no inverse"),
    (lambda y, x: jnp.sum(y * jnp.exp(y) - x), "1 equations for 3 values"),
    (lambda y: y, "cannot be called"),
    (3.0, "must be a function"),
])  # fmt: skip
def test_unusable_equations_are_named(equation, said):
    rule, args, _ = RIGHT["lambert, by the equation"]()
    with pytest.raises(v.Unusable, match=said):
        v.verify(rule, *args, satisfies=equation)


def test_contradicting_options_are_refused():
    rule, args, equation = RIGHT["lambert, by the equation"]()
    with pytest.raises(ValueError, match="one of"):
        v.verify(rule, *args, satisfies=equation, surrogate=jnp.sin)
    with pytest.raises(ValueError, match="first derivatives"):
        v.verify(rule, *args, satisfies=equation, order=2)


def test_the_value_of_the_rule_has_to_be_that_of_its_function():
    """A forward pass that returns another value than the function, on the same branch of the equation, is found."""
    rule = jax.custom_vjp(newton_of_w_exp_w)
    rule.defvjp(lambda x: (newton_of_w_exp_w(x) * 1.5, newton_of_w_exp_w(x)),
                lambda y, c: (c / (jnp.exp(y) * (1 + y)),))  # fmt: skip
    report = v.verify(rule, X, satisfies=lambda y, x: y * jnp.exp(y) - x, skip="repair")
    assert report.verdict is v.Verdict.REFUTED
    assert np.isfinite(report.counterexample.worst.got)
