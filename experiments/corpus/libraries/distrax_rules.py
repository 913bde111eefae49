"""Calls of the rules of distrax: products and powers with no NaN, and the von Mises distribution."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, logits, one_hot, simplex, tfp, uniform

__all__ = ["CALLS"]

_MULTIPLY = "distrax._src.utils.math.multiply_no_nan"
_POWER = "distrax._src.utils.math.power_no_nan"
_CDF = "distrax._src.distributions.von_mises._von_mises_cdf"
_SAMPLE = "distrax._src.distributions.von_mises._von_mises_sample"

_LOG_OF_ZERO = (
    "distrax/_src/utils/math.py:109: the rule adds the value times log(x) times the tangent of the exponent, which is "
    "NaN at a base that is not positive, also where the exponent is constant or the value's derivative is 0"
)


def _distrax():
    tfp()
    import distrax

    return distrax


def _product(x, y) -> tuple[Callable, tuple]:
    return _distrax().multiply_no_nan, (x, y)


def _power(x, y) -> tuple[Callable, tuple]:
    _distrax()
    from distrax._src.utils import math

    return math.power_no_nan, (x, y)


def _method(name: str, method: str, values: tuple, **parameters) -> tuple[Callable, tuple]:
    """Return a bound method and the values that it is asked for."""
    return getattr(getattr(_distrax(), name)(**parameters), method), values


def _of_parameters(name: str, method: str, keys: tuple, args: tuple, values: tuple = ()) -> tuple[Callable, tuple]:
    """Return a method as a function of the distribution's parameters, and after them of the values."""
    kind = getattr(_distrax(), name)

    def value(*args):
        return getattr(kind(**dict(zip(keys, args, strict=False))), method)(*args[len(keys) :])

    return value, (*args, *values)


def _divergence(first, second) -> tuple[Callable, tuple]:
    kind = _distrax().Bernoulli
    return lambda p, q: kind(probs=p).kl_divergence(kind(probs=q)), (first, second)


def _draws(loc, concentration) -> tuple[Callable, tuple]:
    import jax

    kind = _distrax().VonMises
    key = jax.random.PRNGKey(3)
    return lambda a, b: kind(a, b).sample(seed=key, sample_shape=(3,)), (loc, concentration)


def _call(rule: str, make: Callable, *rest, **more) -> Call:
    return Call("distrax", rule, make, *rest, mode="jvp", **more)


_ANGLES = ("loc", "concentration")

CALLS = (
    _call(_MULTIPLY, lambda: _product(draw(1, 3, 4), draw(2, 3, 4))),
    _call(_MULTIPLY, lambda: _product(draw(1, 5), floats(0.7, 0, -1.2, 0, 0.3))),
    _call(_MULTIPLY, lambda: _product(draw(1, 3, 4), uniform(2, 1.1, 1.5))),
    _call(_MULTIPLY, lambda: _product(draw(1, 4), one_hot([2], 4)[0]), argnums=(0,)),
    _call(_MULTIPLY, lambda: _product(floats(-float("inf"), 0.4, 1.2), floats(0, 1, 0)), argnums=(0,)),
    _call(
        _MULTIPLY,
        lambda: _of_parameters(
            "Bernoulli", "log_prob", ("logits",), (logits(3, 4),), (one_hot([1, 0, 0, 1], 2)[:, 1],)
        ),
        argnums=(0,),
    ),
    _call(
        _MULTIPLY,
        lambda: _of_parameters("Bernoulli", "log_prob", ("probs",), (floats(0, 0.3),), (floats(0, 1),)),
        "wrong",
        argnums=(0,),
        why="distrax/_src/utils/math.py:76: the rule multiplies the tangent of the first factor, infinite for the "
        "logarithm of a probability of 0, by the second factor of 0 and gets NaN, while the values are smooth",
    ),
    _call(_MULTIPLY, lambda: _of_parameters("Bernoulli", "entropy", ("logits",), (logits(4, 2, 3),))),
    _call(_MULTIPLY, lambda: _divergence(uniform(5, 0.1, 0.9, 4), uniform(6, 0.1, 0.9, 4))),
    _call(_MULTIPLY, lambda: _divergence(floats(0, 0.3, 0.6), uniform(6, 0.1, 0.9, 3)), argnums=(1,)),
    _call(
        _MULTIPLY,
        lambda: _of_parameters(
            "OneHotCategorical", "log_prob", ("logits",), (logits(7, 3, 5),), (one_hot([4, 0, 2], 5),)
        ),
        argnums=(0,),
    ),
    _call(
        _MULTIPLY,
        lambda: _of_parameters("OneHotCategorical", "cdf", ("logits",), (logits(7, 3, 5),), (one_hot([4, 0, 2], 5),)),
    ),
    _call(_MULTIPLY, lambda: _of_parameters("Categorical", "log_prob", ("logits",), (logits(8, 4),), (2,))),
    _call(_MULTIPLY, lambda: _of_parameters("Categorical", "prob", ("probs",), (simplex(9, 2, 3),), (1,))),
    _call(
        _MULTIPLY,
        lambda: _method("Multinomial", "log_prob", (floats(2, 0, 3, 1),), total_count=6, probs=simplex(10, 4)),
    ),
    _call(_POWER, lambda: _power(uniform(11, 0.3, 2.0, 5), draw(12, 5))),
    _call(_POWER, lambda: _power(uniform(11, 0.3, 2.0, 3), floats(0, 1, 2.5))),
    _call(_POWER, lambda: _power(floats(0, 0, 1.3), floats(2, 1.5, 0.4)), "wrong", argnums=(1,), why=_LOG_OF_ZERO),
    _call(
        _POWER,
        lambda: _power(floats(-1.5, 0.7, -0.4), floats(2, 3, 3)),
        "wrong",
        argnums=(0,),
        options={"mode": "forward"},
        why=_LOG_OF_ZERO + "; so it is in forward mode, while reverse mode drops the constant term",
    ),
    _call(_POWER, lambda: _power(uniform(13, 0.4, 1.6, 2, 3), 3.0), argnums=(0,)),
    _call(_CDF, lambda: _method("VonMises", "cdf", (uniform(14, -2, 2, 5),), loc=0.3, concentration=2.0)),
    _call(
        _CDF,
        lambda: _of_parameters(
            "VonMises", "cdf", _ANGLES, (uniform(15, -0.5, 0.5, 3), uniform(16, 1, 5, 3)), (uniform(17, -1, 1, 3),)
        ),
    ),
    _call(_CDF, lambda: _of_parameters("VonMises", "log_cdf", _ANGLES, (floats(0.2), floats(14.0)), (floats(0.5),))),
    _call(
        _CDF,
        lambda: _of_parameters(
            "VonMises", "survival_function", _ANGLES, (floats(0.4), floats(0.8)), (floats(-0.5, 0.1, 1.2),)
        ),
    ),
    _call(
        _CDF,
        lambda: _of_parameters("VonMises", "cdf", _ANGLES, (floats(0.2), floats(0.0)), (floats(0.9),)),
        "wrong",
        argnums=(1,),
        why="distrax/_src/distributions/von_mises.py:405: at a concentration of 0, the end of its range, the series "
        "divides one infinity by another",
    ),
    _call(
        _SAMPLE,
        lambda: _draws(uniform(18, -1, 1, 2), uniform(19, 1, 4, 2)),
        "wrong",
        "other",
        argnums=(1,),
        why="distrax/_src/distributions/von_mises.py:280: implicit reparameterisation gives the derivative of a draw "
        "at a fixed value of the distribution function, not that of rejection sampling at a fixed key",
    ),
    _call(_SAMPLE, lambda: _draws(uniform(18, -1, 1, 2), uniform(19, 1, 4, 2)), argnums=(0,)),
)
