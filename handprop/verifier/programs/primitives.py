"""What the verifier knows about JAX's primitives: a table with one row for each, read by every part of the verifier.

To teach the verifier a primitive, add its row here. If the proof should interpret the primitive, also add its rule over
the field, to the module that :class:`Acts` names; without a rule the primitive is an unknown function of its operands.
A primitive without a row gets the row :data:`UNKNOWN`, which claims nothing.
"""

import enum
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

__all__ = ["TABLE", "UNKNOWN", "Acts", "Decisions", "Kind", "Primitive", "Trait", "has", "least_kind", "named", "row"]


class Kind(enum.IntEnum):
    """How a value depends on the inputs while no decision changes.

    ``RATIONAL``: a rational function of the inputs. It equals another such function either everywhere, which the field
    sees, or almost nowhere. ``UNIVARIATE``: ``g(u)`` for a rational u and a g that is analytic on the whole line, such
    as ``tanh(u)`` or ``3 - exp(sin(u))``. It equals any given number almost nowhere, unless u is a number.
    ``ANALYTIC``: any expression with exponentials, sines or erf, and with logarithms and roots of values that are
    positive at every point. ``RELATED``: an expression with other functions, which have relations such as
    ``log(x y) = log x + log y``. Values of the last two kinds may equal others, and numbers, by identities that the
    field does not know. ``PIECEWISE``: a value that came through something that may be constant on a set that matters:
    a truth value read as a polynomial, a rounding, or a function that is not understood.
    """

    RATIONAL = 0
    UNIVARIATE = 1
    ANALYTIC = 2
    RELATED = 3
    PIECEWISE = 4

    @property
    def of_analytic(self) -> "Kind":
        """The kind of a function of such a value, if the function is analytic on the whole line."""
        return Kind.UNIVARIATE if self <= Kind.UNIVARIATE else max(self, Kind.ANALYTIC)


class Acts(enum.Enum):
    """How a primitive computes its results from its operands, and which module has its rule over the field."""

    ENTRYWISE = "each entry is computed from the same entry of every operand (proof/field/elementwise.py, functions.py)"
    MOVES = "entries are moved or repeated, and combined where several move to one place (proof/field/layout.py)"
    CONTRACTS = "each entry is computed from many entries of an operand (proof/field/contraction.py)"
    CALLS = "it runs programs that it contains (programs/walk.py)"
    OTHERWISE = "it has no rule over the field"


class Decisions(enum.Enum):
    """How the decisions that a result rests on follow from those of the operands (proof/decision_rules.py)."""

    MIXED = "each entry may depend in any way on every entry of the operands"
    NONLINEAR = "any function of the same entry of the operands"
    LINEAR = "a sum of the same entries"
    PRODUCT = "a product of the same entries"
    COMPARED = "one more decision: which of two values is larger"
    EQUATED = "one more decision: whether two values are equal"
    SELECTED = "one of the cases, which the first operand chooses"
    CONVERTED = "the same number in another type"
    DIVIDED = "a product with a nonlinear function of the divisor"
    SUMMED = "a sum over places"
    LARGEST = "one decision among all entries along some axes"
    RUNNING = "one decision for each entry that comes before"
    WINDOW = "one decision among the entries of a window"
    ORDERED = "one decision among the orders of the entries"
    DOT = "sums of products"
    BROADCAST = "the same entry at several places"
    TRANSPOSED = "the same entry at another place"
    SQUEEZED = "the same entry, with fewer axes of size one"
    RESHAPED = "the same entry at another place, by a reshape"
    MOVED = "an entry of an operand, at a place that an index may choose"
    PIVOTED = "a permutation of the rows, or a sign for each column"
    UNBOUNDED = "no bound on the number of decisions"


class Trait(enum.Enum):
    """A property of a primitive, which some part of the verifier relies on."""

    EXACT = "in float64 it rounds nothing"
    TOTAL = "over the reals its results are finite for finite operands"
    PARTIAL = "it is defined only for some arguments, and the field does not know for which"
    BY_SIGN = "the sign of its argument decides whether it has a real value, or which one"
    OF_POSITIVE = "it is analytic where its argument is positive"
    UNINTERPRETED = "over the field it is an unknown function of the same entry of every operand"
    NO_FUNCTION = "two calls with the same operands return different numbers"
    POLYNOMIAL = "it is a polynomial in the operands that `Primitive.carries` names"
    OF_ONE = "if all operands but one are numbers, it is a function of that one, and analytic wherever that one is"
    SAME_VALUE = "it returns its operand"
    VIEW = "NumPy moves its entries without arithmetic"
    ODD = "f(-x) = -f(x)"
    # What its rule over the field can handle.
    KNOWN = "its result is a known number where its operands are known numbers"
    INTEGERS = "its rule is right for unknown integers, as long as they stay within their type"
    MASKS = "its rule is right for a finite number that stands for minus infinity"
    ERRORS = "its rule bounds the errors of known numbers"
    NONFINITE = "its rule treats infinities and NaN like any other entry"
    # Integers held in floats.
    WHOLE = "from integers it computes integers, or a quotient of such, without rounding errors if they are small"
    ROUNDS = "its results are integers, whatever its operands"
    # Comparisons.
    ORDER = "it tells which of two values is larger"
    EQUALITY = "it tells whether two values are equal"
    EXTREME = "it returns the larger or the smaller of two values"
    BOUNDS = "it returns a number or the bound that the number has passed"
    RANKS = "it compares all entries along an axis"
    CHOOSES = "depending on a decision, it returns an operand's entry, or the negative, place or sign of one"
    # Arithmetic.
    ADDS = "it adds terms, which may cancel"
    RUNNING_SUM = "its rounding errors are of the size of the terms that it adds, however small a sum is"
    SCALES = "its result may leave the range of floats when its operands are within it"
    UNDERFLOWS = "its result may be too small for a float when no operand is"
    NEVER_ZERO = "over the reals it is never zero"
    DIVIDES = "it is undefined where its divisor is zero, which is almost nowhere unless the divisor is zero everywhere"
    SERIES = "XLA sums a series whose length grows with the operands"
    # Matrices.
    SINGULAR = "it is undefined or not differentiable at some matrices"
    ITERATES = "LAPACK iterates, and may not terminate if an entry is not finite"
    MIXES_AXES = "axis i of an operand is not axis i of the result, even if the ranks are equal"
    # Inner programs.
    INLINED = "it calls a program and does nothing else"
    CUSTOM_RULE = "it calls a function with a derivative rule that its user wrote"
    LOOPS = "it runs a program several times, or one of several"
    SOLVES = "it contains a solver or a linear function whose transpose or tangent its user wrote"
    # Primitives that the proof cannot interpret.
    CALLBACK = "it calls back into Python"
    OWN_DTYPE = "it runs in its own dtype, because it reads bits, calls back or rounds on purpose"
    PRINTS = "it only prints"
    BY_REJECTION = "it draws numbers whose derivative JAX takes implicitly"


class Primitive(NamedTuple):
    """One row of the table. ``kind``: the kind of the results if all operands are rational. ``carries``: the operands
    in which the primitive is a polynomial, all if this is empty; it decides nothing through the others.
    ``first_index``: the first operand that tells where entries are. ``domain``: which arguments have a real value."""

    acts: Acts = Acts.OTHERWISE
    kind: Kind = Kind.PIECEWISE
    decisions: Decisions = Decisions.MIXED
    traits: frozenset[Trait] = frozenset()
    carries: tuple[int, ...] = ()
    first_index: int | None = None
    domain: Callable[..., Any] | None = None


UNKNOWN = Primitive()


def row(name: str) -> Primitive:
    return TABLE.get(name, UNKNOWN)


def least_kind(name: str) -> Kind:
    """The kind of the primitive's results if its operands are rational."""
    return row(name).kind


@cache
def named(trait: Trait) -> frozenset[str]:
    """The names of all primitives with this trait."""
    return frozenset(name for name, primitive in TABLE.items() if trait in primitive.traits)


def has(eqn: Any, *traits: Trait) -> bool:
    """Whether the equation's primitive has one of these traits."""
    name = eqn.primitive.name
    for trait in traits:  # noqa: SIM110 (asked for every equation of every run, a generator is slow)
        if name in named(trait):
            return True
    return False


def _rows(names: str, acts: Acts, kind: Kind, decisions: Decisions, *traits: Trait | frozenset[Trait],
          **more: Any) -> dict[str, Primitive]:  # fmt: skip
    """Equal rows for several primitives, whose names are separated by spaces."""
    all_traits = frozenset(t for given in traits for t in ([given] if isinstance(given, Trait) else given))
    return dict.fromkeys(names.split(), Primitive(acts, kind, decisions, all_traits, **more))


A, D, K, T = Acts, Decisions, Kind, Trait
IDENTITY = frozenset({T.EXACT, T.POLYNOMIAL, T.OF_ONE, T.MASKS, T.ERRORS})
MOVE = frozenset({T.EXACT, T.TOTAL, T.MASKS, T.ERRORS})
AFFINE = frozenset({T.POLYNOMIAL, T.WHOLE, T.OF_ONE, T.KNOWN, T.ERRORS})
ORDER = frozenset({T.ORDER, T.INTEGERS})
PLACED = frozenset({T.TOTAL, T.ERRORS})

TABLE: dict[str, Primitive] = {
    # The same value.
    **_rows("copy copy_p stop_gradient", A.ENTRYWISE, K.RATIONAL, D.LINEAR,
            IDENTITY, T.SAME_VALUE, T.NONFINITE, T.INTEGERS),
    **_rows("optimization_barrier", A.ENTRYWISE, K.RATIONAL, D.LINEAR, IDENTITY, T.TOTAL, T.NONFINITE, T.INTEGERS),
    **_rows("name sharding_constraint", A.MOVES, K.RATIONAL, D.LINEAR, IDENTITY, T.TOTAL, T.SAME_VALUE),
    **_rows("device_put", A.MOVES, K.RATIONAL, D.LINEAR, MOVE, T.OF_ONE),
    **_rows("real", A.ENTRYWISE, K.RATIONAL, D.LINEAR, T.EXACT, T.OF_ONE, T.MASKS, T.ERRORS, T.NONFINITE),
    **_rows("reduce_precision", A.ENTRYWISE, K.RATIONAL, D.LINEAR, T.EXACT, T.OF_ONE, T.ERRORS, T.OWN_DTYPE),
    **_rows("convert_element_type", A.ENTRYWISE, K.RATIONAL, D.CONVERTED, IDENTITY, T.KNOWN, T.INTEGERS),
    # Arithmetic.
    **_rows("add", A.ENTRYWISE, K.RATIONAL, D.LINEAR, AFFINE, T.TOTAL, T.INTEGERS, T.MASKS, T.ADDS),
    **_rows("sub", A.ENTRYWISE, K.RATIONAL, D.LINEAR, AFFINE, T.TOTAL, T.MASKS, T.ADDS),
    **_rows("add_any", A.ENTRYWISE, K.RATIONAL, D.LINEAR, T.POLYNOMIAL, T.WHOLE, T.ERRORS, T.ADDS),
    **_rows("neg", A.ENTRYWISE, K.RATIONAL, D.LINEAR, T.EXACT, T.POLYNOMIAL, T.OF_ONE, T.KNOWN, T.ERRORS),
    **_rows("mul", A.ENTRYWISE, K.RATIONAL, D.PRODUCT, AFFINE, T.TOTAL, T.INTEGERS, T.SCALES, T.UNDERFLOWS),
    **_rows("integer_pow", A.ENTRYWISE, K.RATIONAL, D.NONLINEAR, AFFINE, T.SCALES, T.UNDERFLOWS),
    **_rows("square", A.ENTRYWISE, K.RATIONAL, D.NONLINEAR, AFFINE - {T.KNOWN}, T.SCALES, T.UNDERFLOWS),
    **_rows("one_minus_square", A.ENTRYWISE, K.RATIONAL, D.NONLINEAR),
    **_rows("div", A.ENTRYWISE, K.RATIONAL, D.DIVIDED, T.POLYNOMIAL, T.WHOLE, T.KNOWN, T.ERRORS, T.SCALES,
            T.UNDERFLOWS, T.DIVIDES, carries=(0,), domain=lambda x, y: y != 0),
    **_rows("rem", A.ENTRYWISE, K.PIECEWISE, D.NONLINEAR, T.UNINTERPRETED, T.DIVIDES),
    # Functions with identities that the field knows.
    **_rows("exp", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.TOTAL, T.MASKS, T.SCALES, T.UNDERFLOWS, T.NEVER_ZERO),
    **_rows("exp2", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.TOTAL, T.ERRORS, T.SCALES, T.UNDERFLOWS, T.NEVER_ZERO),
    **_rows("logistic", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.TOTAL, T.SCALES, T.UNDERFLOWS, T.NEVER_ZERO),
    **_rows("erfc", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.TOTAL, T.UNDERFLOWS, T.NEVER_ZERO),
    **_rows("expm1 tanh sin cos sinh cosh", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.TOTAL),
    **_rows("tan", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.ODD),
    **_rows("log", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, domain=lambda x: x > 0),
    **_rows("log2", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, T.ERRORS, domain=lambda x: x > 0),
    **_rows("log1p", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, domain=lambda x: x > -1),
    **_rows("sqrt", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, T.ERRORS, domain=lambda x: x >= 0),
    **_rows("rsqrt", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, T.ERRORS, domain=lambda x: x > 0),
    **_rows("pow", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.OF_POSITIVE, T.SCALES, T.UNDERFLOWS,
            T.ERRORS, domain=lambda x, y: x > 0),
    **_rows("cbrt", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.BY_SIGN, T.TOTAL),
    # Functions that the field does not know.
    **_rows("erf", A.ENTRYWISE, K.ANALYTIC, D.NONLINEAR, T.UNINTERPRETED, T.TOTAL, T.ODD),
    **_rows("asinh atan bessel_i1e", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.UNINTERPRETED, T.TOTAL, T.ODD),
    **_rows("atan2 bessel_i0e", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.UNINTERPRETED, T.TOTAL),
    **_rows("asin atanh erf_inv", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.UNINTERPRETED, T.PARTIAL, T.ODD),
    **_rows("acos acosh digamma lgamma polygamma zeta", A.ENTRYWISE, K.RELATED, D.NONLINEAR,
            T.UNINTERPRETED, T.PARTIAL),
    **_rows("igamma igammac igamma_grad_a regularized_incomplete_beta", A.ENTRYWISE, K.RELATED, D.NONLINEAR,
            T.UNINTERPRETED, T.PARTIAL, T.SERIES),
    **_rows("random_gamma_grad", A.ENTRYWISE, K.RELATED, D.NONLINEAR, T.UNINTERPRETED, T.SERIES),
    # Decisions, entry by entry.
    **_rows("gt ge lt le", A.ENTRYWISE, K.RATIONAL, D.COMPARED, ORDER),
    **_rows("eq ne", A.ENTRYWISE, K.RATIONAL, D.EQUATED, T.EQUALITY, T.INTEGERS, T.MASKS),
    **_rows("max min", A.ENTRYWISE, K.RATIONAL, D.COMPARED, T.EXACT, T.TOTAL, T.ERRORS, T.EXTREME, T.CHOOSES),
    **_rows("clamp", A.ENTRYWISE, K.RATIONAL, D.COMPARED, T.EXACT, T.TOTAL, T.BOUNDS, T.CHOOSES),
    **_rows("abs", A.ENTRYWISE, K.RATIONAL, D.COMPARED, T.EXACT, T.TOTAL, T.CHOOSES),
    **_rows("sign", A.ENTRYWISE, K.RATIONAL, D.COMPARED, T.EXACT, T.TOTAL, T.CHOOSES, T.ROUNDS),
    **_rows("floor ceil", A.ENTRYWISE, K.PIECEWISE, D.NONLINEAR, T.EXACT, T.TOTAL, T.ROUNDS),
    **_rows("round", A.ENTRYWISE, K.PIECEWISE, D.NONLINEAR, T.EXACT, T.TOTAL, T.ROUNDS, T.ODD),
    **_rows("nextafter", A.ENTRYWISE, K.PIECEWISE, D.MIXED, T.TOTAL, T.NONFINITE),
    **_rows("select_n", A.ENTRYWISE, K.RATIONAL, D.SELECTED,
            T.EXACT, T.TOTAL, T.KNOWN, T.INTEGERS, T.MASKS, T.ERRORS, T.NONFINITE),
    **_rows("is_finite", A.ENTRYWISE, K.RATIONAL, D.NONLINEAR),
    **_rows("and or xor not", A.ENTRYWISE, K.RATIONAL, D.PRODUCT),
    # Entries that move.
    **_rows("broadcast_in_dim", A.MOVES, K.RATIONAL, D.BROADCAST, MOVE, T.POLYNOMIAL, T.OF_ONE, T.KNOWN),
    **_rows("reshape", A.MOVES, K.RATIONAL, D.RESHAPED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.KNOWN, T.VIEW),
    **_rows("transpose", A.MOVES, K.RATIONAL, D.TRANSPOSED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.KNOWN, T.VIEW),
    **_rows("squeeze", A.MOVES, K.RATIONAL, D.SQUEEZED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.KNOWN, T.VIEW),
    **_rows("slice", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.KNOWN, T.VIEW),
    **_rows("rev", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.VIEW),
    **_rows("expand_dims tile", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.OF_ONE),
    **_rows("concatenate", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.KNOWN),
    **_rows("split stack unstack pad", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL),
    **_rows("gather", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.OF_ONE, T.MIXES_AXES,
            carries=(0,), first_index=1),
    **_rows("dynamic_slice", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, T.OF_ONE, carries=(0,), first_index=1),
    **_rows("dynamic_update_slice", A.MOVES, K.RATIONAL, D.MOVED, MOVE, T.POLYNOMIAL, carries=(0, 1), first_index=2),
    **_rows("iota", A.MOVES, K.RATIONAL, D.MIXED, MOVE, T.KNOWN),
    **_rows("scatter", A.MOVES, K.RATIONAL, D.MOVED, MOVE, first_index=1),
    **_rows("scatter-add scatter_add", A.MOVES, K.RATIONAL, D.SUMMED, PLACED, T.POLYNOMIAL, T.WHOLE, T.ADDS,
            carries=(0, 2)),
    **_rows("scatter-sub scatter_sub", A.MOVES, K.RATIONAL, D.SUMMED, PLACED, T.POLYNOMIAL, carries=(0, 2)),
    **_rows("scatter-mul scatter_mul", A.MOVES, K.RATIONAL, D.MIXED, PLACED),
    **_rows("scatter-max scatter_max scatter-min scatter_min", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.EXACT),
    **_rows("sort top_k", A.MOVES, K.RATIONAL, D.ORDERED, T.EXACT, T.TOTAL, T.ERRORS, T.RANKS, T.CHOOSES),
    **_rows("approx_top_k", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.TOTAL),
    # Sums, products and extremes of many entries.
    **_rows("dot_general", A.CONTRACTS, K.RATIONAL, D.DOT, T.TOTAL, T.POLYNOMIAL, T.WHOLE, T.ADDS, T.UNDERFLOWS),
    **_rows("conv_general_dilated", A.CONTRACTS, K.RATIONAL, D.MIXED, T.TOTAL, T.POLYNOMIAL, T.ADDS, T.MIXES_AXES),
    **_rows("reduce_sum", A.CONTRACTS, K.RATIONAL, D.SUMMED,
            T.TOTAL, T.POLYNOMIAL, T.WHOLE, T.ADDS, T.INTEGERS, T.ERRORS),
    **_rows("reduce_prod", A.CONTRACTS, K.RATIONAL, D.MIXED, T.TOTAL, T.POLYNOMIAL, T.WHOLE, T.UNDERFLOWS),
    **_rows("reduce_and reduce_or", A.CONTRACTS, K.RATIONAL, D.MIXED, T.TOTAL),
    # The extremum of no entries, or of padding, is infinite, so these are not TOTAL.
    **_rows("reduce_max", A.CONTRACTS, K.RATIONAL, D.LARGEST, T.EXACT, T.MASKS, T.CHOOSES),
    **_rows("reduce_min", A.CONTRACTS, K.RATIONAL, D.LARGEST, T.EXACT, T.CHOOSES),
    **_rows("argmax argmin", A.CONTRACTS, K.RATIONAL, D.LARGEST, T.TOTAL, T.RANKS, T.CHOOSES),
    **_rows("cumsum", A.CONTRACTS, K.RATIONAL, D.SUMMED, T.TOTAL, T.POLYNOMIAL, T.WHOLE, T.ADDS, T.RUNNING_SUM),
    **_rows("cumprod", A.CONTRACTS, K.RATIONAL, D.MIXED, T.TOTAL, T.UNDERFLOWS),
    **_rows("cummax cummin", A.CONTRACTS, K.RATIONAL, D.RUNNING, T.EXACT, T.TOTAL, T.CHOOSES),
    **_rows("cumlogsumexp", A.CONTRACTS, K.RELATED, D.MIXED, T.TOTAL, T.RUNNING_SUM),
    **_rows("reduce_window_sum", A.CONTRACTS, K.RATIONAL, D.SUMMED, T.TOTAL, T.POLYNOMIAL),
    **_rows("reduce_window_max reduce_window_min", A.CONTRACTS, K.RATIONAL, D.WINDOW, T.EXACT, T.CHOOSES),
    **_rows("select_and_gather_add", A.OTHERWISE, K.PIECEWISE, D.UNBOUNDED, T.EXACT),
    **_rows("select_and_scatter_add", A.OTHERWISE, K.PIECEWISE, D.UNBOUNDED),
    **_rows("fft", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.TOTAL, T.RUNNING_SUM),
    # Matrices.
    **_rows("triangular_solve", A.CONTRACTS, K.RATIONAL, D.MIXED, T.SINGULAR, T.DIVIDES, T.MIXES_AXES),
    **_rows("lu", A.CONTRACTS, K.RATIONAL, D.PIVOTED, T.SINGULAR, T.DIVIDES, T.MIXES_AXES),
    **_rows("lu_pivots_to_permutation", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.MIXES_AXES),
    **_rows("cholesky", A.CONTRACTS, K.RELATED, D.MIXED, T.SINGULAR, T.MIXES_AXES),
    **_rows("qr geqrf", A.CONTRACTS, K.RELATED, D.PIVOTED, T.SINGULAR, T.MIXES_AXES),
    **_rows("ormqr householder_product", A.CONTRACTS, K.RATIONAL, D.MIXED, T.SINGULAR, T.MIXES_AXES),
    **_rows("eigh svd", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.SINGULAR, T.MIXES_AXES, T.ITERATES),
    **_rows("eig", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.MIXES_AXES, T.ITERATES),
    **_rows("schur hessenberg", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.ITERATES),
    # Programs within a program.
    **_rows("jit pjit closed_call core_call core_closed_call", A.CALLS, K.PIECEWISE, D.MIXED, T.INLINED),
    **_rows("remat remat2 checkpoint remat_opt custom_vmap_call composite", A.CALLS, K.PIECEWISE, D.MIXED, T.INLINED),
    **_rows("custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr", A.CALLS, K.PIECEWISE, D.MIXED,
            T.INLINED, T.CUSTOM_RULE),
    **_rows("scan", A.CALLS, K.PIECEWISE, D.MIXED, T.LOOPS),
    **_rows("while cond", A.CALLS, K.PIECEWISE, D.UNBOUNDED, T.LOOPS),
    **_rows("pallas_call", A.CALLS, K.PIECEWISE, D.MIXED),
    **_rows("custom_linear_solve", A.CALLS, K.PIECEWISE, D.MIXED, T.SOLVES, T.SINGULAR, T.MIXES_AXES),
    # call_hi_primitive is custom_root since jax 0.11.
    **_rows("linear_call call_hi_primitive", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.SOLVES),
    # Primitives that read or change state, or leave the program.
    **_rows("pure_callback io_callback", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.CALLBACK, T.OWN_DTYPE),
    **_rows("debug_callback debug_print", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.PRINTS),
    **_rows("bitcast_convert_type", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.OWN_DTYPE),
    **_rows("random_gamma", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.SERIES, T.BY_REJECTION),
    **_rows("rng_uniform", A.OTHERWISE, K.PIECEWISE, D.MIXED, T.NO_FUNCTION),
    # Primitives known by name only; nothing is claimed about them.
    **dict.fromkeys((
        "random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in", "random_bits",
        "shift_left", "shift_right_arithmetic", "shift_right_logical", "population_count", "clz",
        "reduce", "reduce_window", "complex", "imag", "conj", "platform_index",
        "new_ref", "get", "swap", "addupdate", "freeze",
        "shard_map", "psum", "ppermute", "all_gather", "all_to_all", "reduce_scatter", "pmax", "pmin", "axis_index",
    ), UNKNOWN),
}  # fmt: skip
