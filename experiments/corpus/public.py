"""Custom rules that others publish: those of jax and optax, found by looking through their modules.

``found()`` looks through every module that is imported; ``CALLS`` has arguments for each rule that can be called on a
CPU, ``NOT_CALLED`` says why for the others. Names are those of jax 0.10 to 0.12: a rule that a version does not have is
left out. Most are private: the public function holds them, and a verifier trusts the rules of JAX inside a function.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from corpus.rule import Draw

__all__ = ["CALLS", "MODULES", "NOT_CALLED", "Public", "found", "public_rules"]

TPU = "jax.experimental.pallas.ops.tpu"
GPU = "jax.experimental.pallas.ops.gpu"
MODULES = (  # imported by name before looking: nothing else imports them
    "jax.experimental.ode", "jax.experimental.rnn", "jax.scipy.special", "optax.losses", "optax.projections",
    f"{TPU}.flash_attention", f"{TPU}.megablox.ops", f"{TPU}.splash_attention.splash_attention_kernel",
    f"{GPU}.attention", f"{GPU}.attention_mgpu", f"{GPU}.layer_norm", f"{GPU}.rms_norm",
)  # fmt: skip
SPLASH = f"{TPU}.splash_attention.splash_attention_kernel._attention_reference_custom"


class Public(NamedTuple):
    """A rule by its path, ready to be verified: ``function(*args)`` against autodiff of ``reference``, which is the
    rule's own primal where it is None."""

    path: str
    function: Callable
    args: tuple
    reference: Callable | None = None
    nondiff: tuple[int, ...] = ()


def _vector(draw: Draw) -> tuple:
    return (draw.normal(draw.size),)


def _unit(draw: Draw) -> tuple:
    return (draw.positive(draw.size),)


def _matrix(n: int) -> Callable[[Draw], tuple]:
    return lambda draw: (jnp.asarray(draw.rng.normal(size=(n, n)) + 2 * np.eye(n), draw.dtype),)


def _pair(draw: Draw) -> tuple:
    return draw.normal(draw.size), draw.normal(draw.size)


def _positive_pair(draw: Draw) -> tuple:
    return draw.positive(draw.size), draw.positive(draw.size)


def _rows(draw: Draw) -> tuple:
    return draw.normal(3, 5), draw.positive(3, 5)


def _mha(draw: Draw) -> tuple:
    q, k, v = draw.normal(1, 2, 5, 7), draw.normal(1, 2, 5, 7), draw.normal(1, 2, 5, 7)
    return q, k, v, draw.normal(1, 2, 5, 5), None, False, -1e30, 1.0, False


SPECIAL = "jax._src.scipy.special"
CALLS: dict[str, Callable[[Draw], tuple]] = {
    "jax.nn.relu": _vector,
    "jax.nn.relu6": lambda draw: (draw.normal(draw.size, scale=5.0),),
    "jax.nn.log1mexp": _unit,
    "jax._src.nn.functions._softmax": lambda draw: (draw.normal(3, 5), -1),
    "jax._src.lax.other.logaddexp": _pair,
    "jax._src.lax.other.logaddexp2": _pair,
    "jax._src.lax.erf.exp_neg_sq": _vector,
    "jax._src.numpy.lax_numpy._i0": _vector,
    "jax._src.numpy.lax_numpy.i0_impl": _vector,
    "jax._src.numpy.lax_numpy.i1_impl": _vector,
    "jax._src.numpy.linalg._det": _matrix(5),
    "jax._src.numpy.linalg._det_2x2": _matrix(2),
    "jax._src.numpy.linalg._det_3x3": _matrix(3),
    "jax._src.numpy.linalg._slogdet_lu": _matrix(5),
    "jax._src.numpy.linalg._slogdet_small": _matrix(2),
    "jax._src.numpy.ufuncs._hypot": _pair,
    f"{SPECIAL}._dawsn": _vector,
    f"{SPECIAL}._erfcx": _vector,
    f"{SPECIAL}._erfcinv": _unit,
    f"{SPECIAL}._ndtri": _unit,
    f"{SPECIAL}._xlogx": _unit,
    "jax.scipy.special.expi": _unit,
    "jax.scipy.special.fresnel": _vector,
    "jax.scipy.special.log_ndtr": lambda draw: (*_vector(draw), 3),
    "jax.scipy.special.logit": _unit,
    "jax.scipy.special.sici": _unit,
    "jax.scipy.special.xlog1py": _positive_pair,
    "jax.scipy.special.xlogy": _positive_pair,
    f"{TPU}.flash_attention._mha_reference": _mha,
    "optax.losses._classification.weighted_logsoftmax": _rows,
    "optax.projections._projections._projection_unit_simplex": _vector,
}
TPU_ONLY = "TPU only; its reference form is called"
QUADRATURE = "its primal is a quadrature of seven digits, its rule the exact derivative: autodiff of the primal differs"
REFERENCE_ONLY = "its derivative is of a primal that autodiff cannot take, or only by a series' own error"
NOT_CALLED = {
    "jax._src.cudnn.fused_attention_stablehlo._dot_product_attention": "cuDNN only",
    "jax._src.cudnn.fused_attention_stablehlo._dot_product_attention_fp8": "cuDNN only",
    "jax._src.cudnn.scaled_matmul_stablehlo.scaled_dot_general_fn": "cuDNN only",
    "jax.experimental.rnn.lstm": "cuDNN only",
    f"{GPU}.attention.mha": "Triton only: its interpreter does not run the backward kernel on a CPU",
    f"{GPU}.attention_mgpu.attention": "Mosaic GPU only",
    f"{GPU}.layer_norm.layer_norm": "Triton only",
    f"{GPU}.rms_norm.rms_norm": "Triton only",
    f"{TPU}.flash_attention._flash_attention": TPU_ONLY,
    f"{TPU}.megablox.gmm": "TPU only",
    f"{TPU}.splash_attention.splash_attention_kernel._splash_attention_custom": TPU_ONLY,
    "jax._src.ad_checkpoint.primal_left_tangent_right": "states the tangent of its second argument: no derivative",
    "jax._src.lax.control_flow.solves._custom_root": "takes programs; its primal has no derivative",
    "jax._src.state.discharge._eval_jaxpr_ad_error": "raises by design",
    "jax._src.numpy.ufuncs._frexp": "its mantissa has no derivative for autodiff: bits are taken apart",
    "jax._src.numpy.ufuncs._sinc_maclaurin": "a term of a series: its primal is a constant, its rule the next term",
    "jax._src.numpy.lax_numpy._i1_maclaurin": "a term of a series: its primal is a constant, its rule the next term",
    "jax._src.numpy.linalg._pinv": "through a singular value decomposition",
    "jax.experimental.ode._odeint": "the adjoint method: right up to the step's error, by design",
    f"{SPECIAL}._owens_t_impl": QUADRATURE,
    "jax._src.numpy.linalg._slogdet_qr": "autodiff has no derivative of its primal: Householder products",
    f"{SPECIAL}._wofz": "complex argument",
    f"{SPECIAL}._erfcinv_grad": "the gradient of another rule, with its value as argument",
    f"{SPECIAL}._erfcx_grad": "the gradient of another rule, with its value as argument",
    f"{SPECIAL}._ndtri_grad": "the gradient of another rule, with its value as argument",
    f"{SPECIAL}._rel_entr": "its branches are those of scipy, by case",
    f"{SPECIAL}._expn": REFERENCE_ONLY,
    "jax.scipy.special.expn": REFERENCE_ONLY,
    "jax.scipy.special.hyp1f1": REFERENCE_ONLY,
    "jax.scipy.special.hyp2f1": REFERENCE_ONLY,
    "jax.scipy.special.poch": REFERENCE_ONLY,
    "jax.scipy.special.zeta": REFERENCE_ONLY,
    "optax._src.utils._scale_gradient": "scales a gradient on purpose: it is not its primal's",
}


def _at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return value if isinstance(value, jax.custom_vjp | jax.custom_jvp) else None


def splash_attention(draw: Draw) -> Public:
    """The reference form of splash attention: a rule with arguments by name."""
    module = importlib.import_module(SPLASH.rpartition(".")[0])
    mask = jnp.tril(jnp.ones((5, 7), bool))
    args = draw.normal(5, 3), draw.normal(7, 3), draw.normal(7, 2)
    function = lambda q, k, v: module.attention_reference_custom(mask, q, k, v, None)  # noqa: E731
    reference = lambda q, k, v: module.attention_reference(mask, q, k, v, None)  # noqa: E731
    return Public(SPLASH, function, args, reference)


def public_rules(dtype: str = "float32", key: int = 0, size: int = 7) -> tuple[Public, ...]:
    """The rules of ``CALLS`` that this version has, and splash attention's."""

    def draw(path: str) -> Draw:
        return Draw(np.random.default_rng([*path.encode(), key]), jnp.dtype(dtype), size)

    rules = [Public(path, _at(path), make(draw(path))) for path, make in CALLS.items() if _at(path) is not None]
    return (*rules, splash_attention(draw("splash")))


def found() -> dict[str, Any]:
    """Every ``custom_vjp`` and ``custom_jvp`` object in modules of jax and optax, by the shortest path to it."""
    for name in MODULES:
        importlib.import_module(name)
    rules: dict[int, tuple[str, Any]] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in ("jax", "optax", "chex"):
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, jax.custom_vjp | jax.custom_jvp):
                path = f"{name}.{attribute}"
                if id(value) not in rules or len(path) < len(rules[id(value)][0]):
                    rules[id(value)] = path, value
    return dict(rules.values())
