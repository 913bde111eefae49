"""Calls of the rules of numpyro: the doubly truncated power law and the logarithm of one minus an exponential."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import floats, uniform

__all__ = ["CALLS"]

_LOG1MEXP = "numpyro.distributions.util.log1mexp"
_POWER_LAW = "numpyro.distributions.truncated.DoublyTruncatedPowerLaw."

_BOUNDS = (
    "numpyro/distributions/truncated.py:1284: the tangents of the bounds are those of the density rather than of its "
    "logarithm, and that of the upper bound has the sign of the lower one's"
)
_SIGN = (
    "numpyro/distributions/truncated.py:1433: at an index of -1 the derivative of the distribution function with "
    "respect to the upper bound lacks its minus"
)


def _log1mexp(x) -> tuple[Callable, tuple]:
    from numpyro.distributions.util import log1mexp

    return log1mexp, (x,)


def _logdiffexp(*args) -> tuple[Callable, tuple]:
    from numpyro.distributions.util import logdiffexp

    return logdiffexp, args


def _power_law(method: str, *args) -> tuple[Callable, tuple]:
    """Return the method as a function of the value, the index and the two bounds."""
    from numpyro.distributions import DoublyTruncatedPowerLaw

    def value(x, alpha, low, high):
        return getattr(DoublyTruncatedPowerLaw(alpha, low, high), method)(x)

    return value, args


def _bound_power_law(method: str, value, *parameters) -> tuple[Callable, tuple]:
    from numpyro.distributions import DoublyTruncatedPowerLaw

    return getattr(DoublyTruncatedPowerLaw(*parameters), method), (value,)


def _draws(*parameters) -> tuple[Callable, tuple]:
    import jax
    from numpyro.distributions import DoublyTruncatedPowerLaw

    key = jax.random.PRNGKey(2)
    return lambda *p: DoublyTruncatedPowerLaw(*p).sample(key, (5,)), parameters


def _censored() -> tuple[Callable, tuple]:
    import numpy as np
    from numpyro import distributions

    left, right = np.asarray([0, 1, 0, 1]), np.asarray([0, 0, 1, 1])

    def log_density(loc, scale, value):
        base = distributions.Normal(loc, scale)
        return distributions.IntervalCensoredDistribution(base, left, right).log_prob(value)

    return log_density, (floats(0.2), floats(1.3), floats(-0.4, 0.9, 0.1, 1.7, -0.6, 0.5, 0.2, 1.4).reshape(4, 2))


def _call(rule: str, make: Callable, *rest, **more) -> Call:
    return Call("numpyro", rule, make, *rest, mode="jvp", **more)


_CLIP = ("numpyro/distributions/truncated.py:1357: outside of its bounds the value is clipped, and the rule leaves the "
         "clip out")  # fmt: skip
_LAW = (floats(1.5, 2.0, 3.1), floats(-2.5, 0.7, 1.5), floats(1.2), floats(4.0))
_QUANTILES = (floats(0.2, 0.5, 0.9), *_LAW[1:])
_LOGARITHMIC = (floats(1.5, 2.0, 3.1), floats(-1), floats(1.2), floats(4.0))

CALLS = (
    _call(_LOG1MEXP, lambda: _log1mexp(-uniform(1, 0.05, 3.0, 7))),
    _call(_LOG1MEXP, lambda: _log1mexp(floats(-1e-3, -0.5, -0.8, -12.0))),
    _call(_LOG1MEXP, lambda: _log1mexp(floats(-0.3, -1.2, -800.0))),
    _call(_LOG1MEXP, lambda: _logdiffexp(uniform(2, 1.0, 2.0, 2, 3), uniform(3, -1.0, 0.9, 2, 3))),
    _call(_LOG1MEXP, lambda: _logdiffexp(floats(1.5, -0.2, 0.8), -0.7), argnums=(0,)),
    _call(_POWER_LAW + "log_prob", lambda: _power_law("log_prob", *_LAW), argnums=(0, 1)),
    _call(_POWER_LAW + "log_prob", lambda: _bound_power_law("log_prob", uniform(4, 1.3, 3.9, 6), 1.5, 1.2, 4.0)),
    _call(_POWER_LAW + "log_prob", lambda: _power_law("log_prob", *_LAW), "wrong", argnums=(2, 3), why=_BOUNDS),
    _call(_POWER_LAW + "log_prob", lambda: _power_law("log_prob", *_LAW), "wrong", why=_BOUNDS),
    _call(_POWER_LAW + "log_prob", lambda: _power_law("log_prob", *_LOGARITHMIC), argnums=(0,)),
    _call(
        _POWER_LAW + "log_prob",
        lambda: _power_law("log_prob", *_LOGARITHMIC),
        argnums=(1,),
        float64=True,
        why="the derivative at an index of -1 is a mean of those a thousandth away, close to the limit",
    ),
    _call(_POWER_LAW + "log_prob", lambda: _power_law("log_prob", *_LOGARITHMIC), "wrong", argnums=(2, 3), why=_BOUNDS),
    _call(_POWER_LAW + "cdf", lambda: _power_law("cdf", *_LAW), "right here", why=_CLIP),
    _call(_POWER_LAW + "cdf", lambda: _power_law("cdf", *_LOGARITHMIC), "right here", argnums=(0, 2), why=_CLIP),
    _call(_POWER_LAW + "cdf", lambda: _power_law("cdf", *_LOGARITHMIC), "wrong", argnums=(2, 3), why=_SIGN),
    _call(
        _POWER_LAW + "cdf",
        lambda: _power_law("cdf", floats(0.5, 2.0), floats(1.5), floats(1.2), floats(4.0)),
        "wrong",
        argnums=(0, 2),
        why=_CLIP,
    ),
    _call(_POWER_LAW + "icdf", lambda: _power_law("icdf", *_QUANTILES)),
    _call(_POWER_LAW + "icdf", lambda: _power_law("icdf", floats(0.3, 0.8), *_LOGARITHMIC[1:]), argnums=(0, 2, 3)),
    _call(_POWER_LAW + "icdf", lambda: _draws(0.7, 1.2, 4.0)),
    _call(_LOG1MEXP, lambda: _censored(), argnums=(0, 1)),
)
