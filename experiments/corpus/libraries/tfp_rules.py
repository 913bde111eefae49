"""Calls of the rules of tensorflow-probability for jax: special functions, linear algebra and distributions."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, positive_definite, tfp, uniform

__all__ = ["CALLS"]

_MATH = "tensorflow_probability.substrates.jax.math."
_DISTRIBUTIONS = "tensorflow_probability.substrates.jax.distributions."

_HALF_OF_A_SUM = (
    "tensorflow_probability/substrates/jax/math/linalg.py:1440: the tangent of the form is twice one of the two terms "
    "that the product has, which is right on the diagonal only"
)
_DEGREES = (
    "tensorflow_probability/substrates/jax/distributions/noncentral_chi2.py:{}: the tangent of {} is left out, though "
    "the value depends on it"
)
_IMPLICIT = "{}: implicit reparameterisation is not the derivative of rejection sampling at a fixed key"


def _math(name: str, *args) -> tuple[Callable, tuple]:
    return getattr(tfp().math, name), args


def _of_parameters(name: str, method: str, keys: tuple, *args) -> tuple[Callable, tuple]:
    """Return a method as a function of the distribution's parameters, and after them of the values."""
    kind = getattr(tfp().distributions, name)

    def value(*args):
        return getattr(kind(**dict(zip(keys, args, strict=False))), method)(*args[len(keys) :])

    return value, args


def _draws(name: str, keys: tuple, *parameters) -> tuple[Callable, tuple]:
    import jax

    kind = getattr(tfp().distributions, name)
    key = jax.random.PRNGKey(4)
    return lambda *p: kind(**dict(zip(keys, p, strict=False))).sample(3, seed=key), parameters


def _module(path: str, name: str, *args) -> tuple[Callable, tuple]:
    import importlib

    tfp()
    return getattr(importlib.import_module("tensorflow_probability.substrates.jax." + path), name), args


def _call(rule: str, make: Callable, *rest, mode: str = "jvp", **more) -> Call:
    return Call("tensorflow-probability", rule, make, *rest, mode=mode, **more)


_CHI = ("df", "noncentrality")

CALLS = (
    _call(
        _MATH + "betainc",
        lambda: _math("betainc", uniform(1, 0.5, 3, 4), uniform(2, 0.5, 3, 4), uniform(3, 0.1, 0.9, 4)),
        float64=True,
    ),
    _call(
        _MATH + "special.betaincinv",
        lambda: _module("math.special", "betaincinv", floats(0.7, 2.0), floats(1.5, 3.0), floats(0.2, 0.8)),
        float64=True,
    ),
    _call(_MATH + "dawsn", lambda: _math("dawsn", draw(4, 5))),
    _call(_MATH + "erfcx", lambda: _math("erfcx", floats(-1.5, -0.2, 0.4, 3.0, 12.0))),
    _call(
        _MATH + "igammainv", lambda: _math("igammainv", uniform(5, 0.5, 4, 3), uniform(6, 0.1, 0.9, 3)), float64=True
    ),
    _call(_MATH + "igammacinv", lambda: _math("igammacinv", floats(0.6, 2.5), floats(0.3, 0.7)), float64=True),
    _call(_MATH + "lambertw", lambda: _math("lambertw", floats(-0.2, 0.0, 0.7, 4.0))),
    _call(_MATH + "log_gamma_difference", lambda: _math("log_gamma_difference", floats(0.5, 2.0), floats(9.0, 20.0))),
    _call(_MATH + "lbeta", lambda: _math("lbeta", uniform(7, 0.5, 12, 2, 3), uniform(8, 0.5, 12, 3))),
    _call(_MATH + "owens_t", lambda: _math("owens_t", draw(9, 4), draw(10, 4)), float64=True),
    _call(
        _MATH + "log_cosh",
        lambda: _math("log_cosh", floats(-3.0, 0.4, 1.5, 0.0)),
        "right here",
        why="tensorflow_probability/substrates/jax/math/generic.py:759: where |x| is small, below 2e-5 in float32, the "
        "value is exp(log|x| + log1p(-x^2 / 6)), which is |x| and not x^2 / 2; the rule is tanh(x)",
    ),
    _call(
        _MATH + "bessel_ive", lambda: _math("bessel_ive", floats(0.5, 1.0, 2.3), floats(0.7, 2.0, 5.0)), argnums=(1,)
    ),
    _call(_MATH + "log_bessel_kve", lambda: _math("log_bessel_kve", floats(1.5, 2.0), floats(0.7, 3.0)), argnums=(1,)),
    _call(_MATH + "bessel_kve", lambda: _math("bessel_kve", floats(0.5, 1.2), floats(0.7, 3.0)), argnums=(1,)),
    _call(_MATH + "hpsd_logdet", lambda: _math("hpsd_logdet", positive_definite(11, 4, 4))),
    _call(_MATH + "hpsd_solve", lambda: _math("hpsd_solve", positive_definite(12, 3, 3), draw(13, 3, 2))),
    _call(
        _MATH + "hpsd_quadratic_form_solve",
        lambda: _math("hpsd_quadratic_form_solve", positive_definite(12, 3, 3), draw(13, 3, 2)),
        "wrong",
        argnums=(1,),
        why=_HALF_OF_A_SUM,
    ),
    _call(
        _MATH + "hpsd_quadratic_form_solve",
        lambda: _math("hpsd_quadratic_form_solve", positive_definite(12, 3, 3), draw(13, 3, 1)),
    ),
    _call(
        _MATH + "hpsd_quadratic_form_solvevec",
        lambda: _math("hpsd_quadratic_form_solvevec", positive_definite(14, 2, 3, 3), draw(15, 2, 3)),
    ),
    _call(
        _DISTRIBUTIONS + "StudentT.cdf",
        lambda: _of_parameters(
            "StudentT",
            "cdf",
            ("df", "loc", "scale"),
            floats(2.5, 6.0),
            floats(0.3, -0.2),
            floats(1.2, 0.8),
            floats(0.7, -1.5),
        ),
        float64=True,
    ),
    _call(
        _DISTRIBUTIONS + "VonMises.cdf",
        lambda: _of_parameters(
            "VonMises", "cdf", ("loc", "concentration"), floats(0.1, -0.2), floats(1.5, 4.0), floats(0.5, -1.0)
        ),
        mode="vjp",
    ),
    _call(
        _DISTRIBUTIONS + "NoncentralChi2.cdf",
        lambda: _of_parameters("NoncentralChi2", "cdf", _CHI, floats(3.0, 2.0), floats(1.2, 0.5), floats(2.0, 4.0)),
        argnums=(1, 2),
        float64=True,
    ),
    _call(
        _DISTRIBUTIONS + "NoncentralChi2.cdf",
        lambda: _of_parameters("NoncentralChi2", "cdf", _CHI, floats(3.0, 2.0), floats(1.2, 0.5), floats(2.0, 4.0)),
        "wrong",
        "zero",
        argnums=(0,),
        float64=True,
        why=_DEGREES.format(302, "the degrees of freedom"),
    ),
    _call(
        _DISTRIBUTIONS + "NoncentralChi2.quantile",
        lambda: _of_parameters("NoncentralChi2", "quantile", _CHI, floats(3.0), floats(1.2), floats(0.3, 0.8)),
        "wrong",
        "zero",
        argnums=(0, 1),
        float64=True,
        why=_DEGREES.format(408, "the parameters"),
    ),
    _call(
        _DISTRIBUTIONS + "Gamma.sample",
        lambda: _draws("Gamma", ("concentration", "rate"), floats(1.5, 3.0), floats(1.0, 2.0)),
        "wrong",
        "other",
        argnums=(0,),
        why=_IMPLICIT.format("tensorflow_probability/substrates/jax/distributions/gamma.py:681"),
    ),
    _call(
        _MATH + "psd_kernels.internal.util.sqrt_with_finite_grads",
        lambda: _module("math.psd_kernels.internal.util", "sqrt_with_finite_grads", uniform(16, 0.3, 2, 2, 3)),
        mode="vjp",
    ),
    _call(
        _MATH + "psd_kernels.internal.util.sqrt_with_finite_grads",
        lambda: _module("math.psd_kernels.internal.util", "sqrt_with_finite_grads", floats(0, 0.5, 2)),
        "wrong",
        "clipped",
        mode="vjp",
        why="tensorflow_probability/substrates/jax/math/psd_kernels/internal/util.py:169: the slope at 0, which is "
        "infinite, is a large number",
    ),
    _call(
        _MATH + "bessel_ive",
        lambda: _math("bessel_ive", floats(0.5, 1.3), floats(0.7, 2.0)),
        "wrong",
        "zero",
        why="tensorflow_probability/substrates/jax/math/bessel.py:981: the order has no tangent, as a comment says",
    ),
    _call(
        "tensorflow_probability.substrates.jax.experimental.math.manual_special_functions.expm1_pade_4_4",
        lambda: _module("experimental.math.manual_special_functions", "expm1_pade_4_4", draw(18, 6)),
        why="the rule is the derivative of the exact function, which the fraction nears to the rounding",
    ),
    _call(
        "tensorflow_probability.substrates.jax.experimental.distributions.marginal_fns.retrying_cholesky",
        lambda: (lambda root, args: (lambda m: root(m)[0], args))(
            *_module("experimental.distributions.marginal_fns", "retrying_cholesky", positive_definite(19, 3, 3))
        ),
    ),
)
