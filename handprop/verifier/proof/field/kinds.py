"""How a primitive's result depends on its operands at best: see :class:`handprop.verifier.proof.field.values.Kind`.

The field and the count of decisions (:mod:`handprop.verifier.proof.decisions`) both read this table, so that what the
one takes for decided the other does not count, and nothing else.
"""

from handprop.verifier.proof.field.values import Kind

__all__ = ["OF_POSITIVE", "least_kind"]

RATIONAL = {
    "add", "add_any", "sub", "mul", "div", "neg", "integer_pow", "square", "one_minus_square", "dot_general",
    "conv_general_dilated", "reduce_sum", "reduce_prod", "cumsum", "cumprod", "reduce_window_sum", "select_n", "max",
    "min", "abs", "clamp", "sign", "reduce_max", "reduce_min", "cummax", "cummin", "reduce_window_max",
    "reduce_window_min", "convert_element_type", "reduce_precision", "copy", "copy_p", "stop_gradient", "real",
    "optimization_barrier", "device_put", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "rev",
    "tile", "name", "sharding_constraint", "scatter-sub", "scatter_sub",
    "slice", "split", "concatenate", "stack", "unstack", "pad", "gather", "dynamic_slice", "dynamic_update_slice",
    "scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "iota", "sort", "top_k", "triangular_solve",
    "lu", "gt", "lt", "ge", "le", "eq", "ne", "and", "or", "xor", "not", "is_finite", "argmax", "argmin", "reduce_and",
    "reduce_or",
}  # fmt: skip
ANALYTIC = {"cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "logistic", "sin", "sinh", "tan", "tanh"}
RELATED = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e", "cbrt", "cholesky",
    "cumlogsumexp", "digamma", "erf_inv", "igamma", "igamma_grad_a", "igammac", "lgamma", "log", "log1p", "log2",
    "polygamma", "pow", "random_gamma_grad", "regularized_incomplete_beta", "rsqrt", "sqrt", "zeta",
}  # fmt: skip
OF_POSITIVE = {"log", "log1p", "log2", "pow", "rsqrt", "sqrt"}  # analytic where what they are of is positive everywhere
KINDS = {
    **dict.fromkeys(RATIONAL, Kind.RATIONAL),
    **dict.fromkeys(ANALYTIC, Kind.ANALYTIC),
    **dict.fromkeys(RELATED, Kind.RELATED),
}


def least_kind(primitive: str) -> Kind:
    """The kind of the primitive's results where its operands are rational."""
    return KINDS.get(primitive, Kind.LOOSE)
