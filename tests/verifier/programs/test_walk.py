"""One walk for every kind of value: here a value is the set of inputs that it may depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from handprop.verifier.programs.jaxprs import trace
from handprop.verifier.programs.primitives import Trait, has
from handprop.verifier.programs.running import run
from handprop.verifier.programs.walk import Walk

X, Y, Z = (np.arange(3.0, dtype=np.float32) + i for i in range(3))


class Dependence(Walk):
    """``met``: the names of the primitives, in their order."""

    def __init__(self):
        self.met = []

    def constant(self, const):
        return frozenset()

    def primitive(self, eqn, operands):
        self.met.append(eqn.primitive.name)
        return [frozenset().union(*operands)] * len(eqn.outvars)

    def cond(self, eqn, branches, which, operands):
        results = [self.evaluate(branch, operands) for branch in branches]
        return [which.union(*cases) for cases in zip(*results, strict=True)]

    def entry(self, x, i):
        return x

    def stacked(self, eqn, rows):
        return [frozenset().union(*row) for row in zip(*rows, strict=True)]


@jax.custom_vjp
def ruled(x, y):
    return x * y


ruled.defvjp(lambda x, y: (x * y, y), lambda y, d: (d * y, d))


def printing(x, y, z):
    jax.debug.print("{}", y)
    return x + 1.0


def scanned(x, y, z):
    carry, rows = lax.scan(lambda c, row: (c * row, (c, y.sum())), z.sum(), x)
    return carry, *rows


def backwards(x, y, z):
    return lax.scan(lambda c, row: (row, c), y[0], x, reverse=True)


def solved(x, y, z):
    matrix = jnp.diag(x + 2.0)
    return lax.custom_linear_solve(lambda v: matrix @ v, y, lambda _, b: jnp.linalg.solve(matrix, b))


CASES = {
    "calls": (lambda x, y, z: (jax.jit(jnp.multiply)(x, y), z), ["xy", "z"]),
    "a custom rule": (lambda x, y, z: ruled(x, z), ["xz"]),
    "remat": (lambda x, y, z: jax.checkpoint(jnp.sin)(y), ["y"]),
    "what only prints": (printing, ["x"]),
    "a scan": (scanned, ["xz", "xz", "y"]),
    "a scan backwards": (backwards, ["x", "xy"]),
    "a scan of no turns": (lambda x, y, z: lax.scan(lambda c, row: (c, row), y, x[:0])[0], ["y"]),
    "a choice of branches": (lambda x, y, z: lax.cond(x[0] > 0, lambda: y, lambda: y + z), ["xyz"]),
    "a solver": (solved, ["xy"]),
    "a loop that depends on data": (lambda x, y, z: lax.while_loop(lambda s: s[0] < 9, lambda s: s + y, x), ["xy"]),
    "outputs that are inputs and numbers": (lambda x, y, z: (x, 2.0), ["x", ""]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_outputs_depend_on(name):
    f, wanted = CASES[name]
    found = Dependence().evaluate(trace(f, [X, Y, Z]), [frozenset("x"), frozenset("y"), frozenset("z")])
    assert ["".join(sorted(one)) for one in found] == wanted


@pytest.mark.parametrize("name", [name for name in CASES if name != "what only prints"])
def test_numbers_are_those_of_the_program(name):
    f, _ = CASES[name]
    want = jax.tree.leaves(f(*map(jnp.asarray, (X, Y, Z))))
    got = run(trace(f, [X, Y, Z]), [jnp.asarray(x) for x in (X, Y, Z)])
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_every_turn_is_walked_in_the_order_it_runs():
    walk = Dependence()
    walk.evaluate(trace(lambda x: lax.scan(lambda c, r: (jnp.sin(c), jnp.cos(r)), x[0], x)[1], [X]), [frozenset("x")])
    assert [name for name in walk.met if name in ("sin", "cos")] == ["sin", "cos"] * 3


def test_no_more_turns_than_are_asked_for():
    walk = Dependence()
    eqn = next(e for e in trace(lambda x: lax.scan(lambda c, r: (jnp.sin(c), r), x[0], x)[0], [X]).jaxpr.eqns
               if has(e, Trait.LOOPS))  # fmt: skip
    walk.scan(eqn, eqn.params["jaxpr"], [frozenset("c"), frozenset("x")], most=2)
    assert walk.met.count("sin") == 2


def test_what_nothing_needs_any_more_is_given_back():
    class Big:
        alive = 0

        def __init__(self):
            Big.alive += 1

        def __del__(self):
            Big.alive -= 1

    class Chain(Dependence):
        most = 0

        def primitive(self, eqn, operands):
            Chain.most = max(Chain.most, Big.alive)
            return [Big() for _ in eqn.outvars]

    def f(x):
        for _ in range(50):
            x = jnp.sin(x)
        return x

    Chain().evaluate(trace(f, [X]), [Big()])
    assert Chain.most <= 4
