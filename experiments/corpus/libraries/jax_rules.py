"""Calls of the rules of jax itself: activations, special functions, linear algebra, solvers and an ode."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, positive_definite, uniform

__all__ = ["CALLS"]

_SPECIAL = "jax.scipy.special."

_ORDER = (
    "jax/_src/scipy/special.py:3008: the rule asks for the integral of order n - 1, which for n = 0 is -1, and gets NaN"
)
_AT_ZERO = (
    "jax/_src/scipy/special.py:{}: the series for the derivative in a parameter starts from a term that has the "
    "parameter as a factor, so that at 0 the rule gives 0 where the derivative is that of the first terms; the "
    "documentation asks for positive parameters, and the value at 0 is right"
)


def _at(path: str, *args) -> tuple[Callable, tuple]:
    """Return the function at the dotted path within jax, and the arguments."""
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name), args


def _softmax(x, axis: int, mask: list | None = None) -> tuple[Callable, tuple]:
    """Return the softmax with its custom rule, which is met where the option of that name is on."""
    import jax
    import jax.numpy as jnp

    where = None if mask is None else jnp.asarray(mask)

    def softmax(x):
        with jax.softmax_custom_jvp(True):
            return jax.nn.softmax(x, axis=axis, where=where)

    return softmax, (x,)


def _root(a, b) -> tuple[Callable, tuple]:
    """Return the roots of x^3 + a x = b, found by Newton's method."""
    import jax
    import jax.numpy as jnp

    def roots(a, b):
        def residual(x):
            return x**3 + a * x - b

        def newton(f, x):
            return jax.lax.fori_loop(0, 40, lambda _, x: x - f(x) / (3 * x**2 + a), x)

        def linear(g, y):
            return jnp.linalg.solve(jax.jacobian(g)(y), y)

        return jax.lax.custom_root(residual, jnp.ones_like(b), newton, linear)

    return roots, (a, b)


def _solver(name: str, matrix, b) -> tuple[Callable, tuple]:
    from jax.scipy.sparse import linalg

    return lambda matrix, b: getattr(linalg, name)(matrix, b, tol=1e-12)[0], (matrix, b)


def _pendulum(y, times, damping) -> tuple[Callable, tuple]:
    import jax.numpy as jnp
    from jax.experimental.ode import odeint

    def swing(y, t, damping):
        return jnp.stack([y[1], -jnp.sin(y[0]) - damping * y[1] + 0.1 * jnp.cos(t)])

    return lambda y, times, damping: odeint(swing, y, times, damping, rtol=1e-10, atol=1e-10), (y, times, damping)


_OWN = {"trust_jax": False}  # in a function of the user's, JAX's rules are trusted otherwise


def _call(rule: str, make: Callable, *rest, mode: str = "jvp", **more) -> Call:
    return Call("jax", rule, make, *rest, mode=mode, **more)


def _special(name: str, *args, **more) -> Call:
    return _call(_SPECIAL + name, lambda: _at(_SPECIAL + name, *(a() for a in args)), **more)


CALLS = (
    _call("jax.nn.relu", lambda: _at("jax.nn.relu", draw(1, 3, 4))),
    _call("jax.nn.softmax", lambda: _softmax(draw(3, 2, 5), 0), options=_OWN),
    _call(
        "jax.nn.softmax",
        lambda: _softmax(draw(3, 2, 4), -1, [[True, False, True, True], [False] * 4]),
        options=_OWN,
    ),
    _call("jax.nn.log1mexp", lambda: _at("jax.nn.log1mexp", uniform(4, 0.05, 3, 5))),
    _call("jax.numpy.logaddexp", lambda: _at("jax.numpy.logaddexp", floats(0.3, -float("inf"), 2), floats(0.3, 1, -4))),
    _call("jax.numpy.linalg.det", lambda: _at("jax.numpy.linalg.det", floats(*range(16)).reshape(4, 4) ** 1.5)),
    _call("jax.numpy.linalg.slogdet", lambda: _at("jax.numpy.linalg.slogdet", draw(5, 3, 2, 2))),
    _call("jax.numpy.linalg.pinv", lambda: _at("jax.numpy.linalg.pinv", draw(6, 4, 3)), kwargs={"rtol": 1e-6}),
    _call("jax.numpy.i0", lambda: _at("jax.numpy.i0", floats(0, -0.7, 2.5))),
    _call("jax.numpy.frexp", lambda: _at("jax.numpy.frexp", floats(0.3, -5.0, 12.0))),
    _call("jax.numpy.sinc", lambda: _at("jax.numpy.sinc", floats(0, 0.4, -1.7))),
    _special("log_ndtr", lambda: floats(-30, -3, 0.2, 9)),
    _special("erfcx", lambda: floats(-1.2, 0.4, 3, 30), float64=True),
    _special(
        "fresnel",
        lambda: floats(-0.4, 1.2, 3.0),
        truth="right here",
        why="jax/_src/scipy/special.py: beyond 36974 both values are exactly 1/2, while the rule goes on as "
        "cos(pi x^2 / 2)",
    ),
    _special("expn", lambda: 2, lambda: uniform(7, 0.3, 4, 4)),
    _special("poch", lambda: floats(0.7, 2.0, 3.1), lambda: floats(1.5, 2.0, 0.0)),
    _special(
        "hyp1f1",
        lambda: floats(0.7, 2.0),
        lambda: floats(1.5, 2.6),
        lambda: floats(0.4, 1.2),
        float64=True,
        truth="right here",
        why="NaN where the first parameter is a negative integer",
    ),
    _special("owens_t", lambda: floats(0.5, -1.0, 0.0), lambda: floats(0.5, 2.0, 0.7), float64=True),
    _special("zeta", lambda: floats(1.2, 3.5), lambda: floats(0.5, 2.3), float64=True),
    _special("expn", lambda: 0, lambda: floats(0.3, 1.0, 2.5), truth="wrong", why=_ORDER),
    _special(
        "hyp1f1",
        lambda: floats(0, 0),
        lambda: floats(1.5, 0.5),
        lambda: floats(0.4, 1.5),
        truth="wrong",
        float64=True,
        argnums=(0, 2),
        why=_AT_ZERO.format(3295),
    ),
    _special(
        "hyp2f1",
        lambda: floats(0.5),
        lambda: floats(0),
        lambda: floats(1.5),
        lambda: floats(0.3),
        truth="wrong",
        float64=True,
        argnums=(1, 3),
        why=_AT_ZERO.format(3633),
    ),
    _call(
        "jax.lax.custom_root",
        lambda: _root(uniform(8, 0.5, 2, 4), draw(9, 4)),
        float64=True,
        options={"satisfies": lambda x, a, b: x**3 + a * x - b},
        why="implicit: the rule is the derivative of the exact root",
    ),
    _call(
        "jax.scipy.sparse.linalg.gmres",
        lambda: _solver("gmres", positive_definite(12, 4, 4), draw(13, 4)),
        float64=True,
        options={"satisfies": lambda y, matrix, b: matrix @ y - b},
        why="implicit: the rule solves a second system up to the tolerance",
    ),
    _call(
        "jax.experimental.ode.odeint",
        lambda: _pendulum(floats(0.6, -0.2), floats(0, 0.4, 1.1), floats(0.3)[0]),
        mode="vjp",
        options=_OWN,
        float64=True,
        why="implicit: the rule solves the adjoint equation up to the tolerances",
    ),
)
