"""What the user passed, as two plain functions of one flat tuple of arrays.

:class:`Problem` holds everything that the checks need; no check looks at ``custom_vjp`` objects again.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.arguments import CONCRETE, Arguments, Failing, Unusable
from handprop.verifier.domains import Domain
from handprop.verifier.faults import Fault
from handprop.verifier.internal import first_line, noted, place_of, said
from handprop.verifier.programs import jaxprs
from handprop.verifier.rules import name_of

__all__ = [
    "Fault",
    "Problem",
    "Program",
    "Shared",
    "faulty",
    "first_built",
    "named",
    "normal",
    "obstacle_of",
    "outputs_of",
    "own_width",
    "source_of",
    "traced",
]

Program = Callable[..., tuple[jax.Array, ...]]
EAGER = "it needs the value of an argument while it is traced, so it only runs uncompiled: {}"
UNSET: Any = object()


@dataclasses.dataclass(eq=False)
class Shared:
    """What the checks of one report share, so that no program is compiled twice.

    ``user_programs`` are both programs as the user's own mode traces them. ``evaluators`` are both in float64, by how
    they were traced; None stands for programs that cannot be traced so, and ``untraceable`` is the reason. Where a
    program is another one in float64, ``resolution`` is the relative error that its own dtype does not resolve.
    ``compiled`` are digests of those that can. ``values`` are runs of the function whose gradients these are, and
    ``iterated`` is its run with one more iteration of each loop (None where it has no such loop). ``of_a_tolerance``:
    whether a difference was found that a loop's tolerance may explain, whose bound was not measured.

    ``proved`` says whether a check has proved the problem, ``conditional`` whether the proof holds under conditions,
    and ``identical`` whether both are the same program. ``proved_pair`` are the programs that were proved equal, and
    ``needed`` the conditions that the proof needs. ``hashes`` are those of the programs that were judged.

    ``failed_at`` is the point that refutes the problem, and ``everywhere`` says whether inputs on all sides of it do.
    """

    user_programs: list[Any] | None = None
    evaluators: dict[Any, Any] = dataclasses.field(default_factory=dict)
    untraceable: str = ""
    resolution: float = 0.0
    compiled: list[Any] = dataclasses.field(default_factory=list)
    values: dict[Any, Callable] = dataclasses.field(default_factory=dict)
    iterated: Any = UNSET
    of_a_tolerance: bool = False
    proved: bool = False
    conditional: bool = False
    identical: bool = False
    proved_pair: Any = None
    needed: frozenset[str] = frozenset()
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    failed_at: Any = None
    everywhere: bool = False


class Problem(NamedTuple):
    """Two programs that should be the same function.

    ``candidate(*inputs)`` and ``reference(*inputs)`` return tuples of arrays of the same length, shapes and dtypes,
    named by ``out_paths``; ``in_paths`` names the inputs. Outputs that hold no gradient (None, float0) are omitted from
    both. ``gradients`` tells the outputs that are gradients from those that are values. ``trusted`` lists the custom
    rules of JAX that are called. ``obstacle`` says why the problem cannot be judged; it is empty if it can.

    ``primal`` returns the values of the function whose gradients these are. ``wrt`` are the inputs that the gradients
    belong to, and ``cotangents`` are the inputs that hold the cotangents of the values. ``shared`` is what the checks
    of one report share.

    ``written`` is what the user passed. ``as_program`` makes the candidate from it or from an edited copy,
    ``faults_of`` lists the structural faults of such a copy, and ``as_reference`` makes the reference where that is the
    rule's own primal. ``original`` is the user's function that the reference is made from; ``stops`` says whether it
    contains a stop_gradient, and ``solves`` whether it contains a solver whose derivative somebody wrote by hand.

    ``conditions`` are the properties of the given arguments that all drawn inputs share, such as "y holds 0 and 1 only,
    as given". At the places in ``domains`` the ``inputs`` are free parameters of the arguments
    (:mod:`handprop.verifier.along_domains`). ``heads`` are the names of the call's positional arguments, ``drawn`` the
    inputs that were given as shapes, and ``asked_any`` the inputs for which the user asked about all numbers.

    ``compiling`` is the number of seconds that one program may take to compile; a larger program is run equation by
    equation. ``accuracy`` is the relative error that is allowed beyond rounding, by the user or because the reference
    ``is_estimated`` from differences of values. ``assumed`` names a property of the rule that was tested but not
    proved, and without which no proof counts. Where the programs themselves say too little, as those of a function that
    is known by an equation, ``to_prove()`` yields problems each of which proves this one.

    ``by_values()`` is the same problem with differences of the function's values as the reference, None where they are
    no way out. ``forwards()`` is a problem about the same ``custom_jvp`` rule whose outputs are the tangents of the
    values along random tangents: a mistake is easier to find where its line still runs forwards. ``allowance`` says why
    an error is allowed; it is a condition of what is verified.
    """

    name: str
    candidate: Program
    reference: Program
    inputs: tuple[Any, ...]
    in_paths: tuple[str, ...]
    out_paths: tuple[str, ...]
    gradients: tuple[bool, ...] = ()
    faults: tuple[Fault, ...] = ()
    trusted: tuple[str, ...] = ()
    source: str = ""
    obstacle: str = ""
    primal: Program | None = None
    wrt: tuple[int, ...] = ()
    cotangents: tuple[int, ...] = ()
    shared: Shared = None  # pyright: ignore[reportAssignmentType] (``verdict.fresh`` gives every report its own)
    written: Any = None
    as_program: Callable[..., Program] | None = None
    faults_of: Callable[[Any], Sequence[Fault]] | None = None
    as_reference: Callable[..., Program] | None = None
    original: Any = None
    stops: bool = False
    solves: bool = False
    conditions: tuple[str, ...] = ()
    domains: Mapping[int, Domain] = {}
    heads: tuple[str, ...] = ()
    drawn: tuple[int, ...] = ()
    asked_any: tuple[int, ...] = ()
    compiling: float = float("inf")
    accuracy: float = 0.0
    is_estimated: bool = False
    assumed: str = ""
    to_prove: Callable[[], Iterable[Any]] | None = None
    by_values: Callable[[], Any] | None = None
    forwards: Callable[[], Any] | None = None
    allowance: str = ""

    @property
    def moving(self) -> list[int]:
        """The float inputs that are not cotangents: the ones that move where inputs are varied."""
        return [i for i in jaxprs.float_places(self.inputs) if i not in self.cotangents]

    @property
    def owners(self) -> list[tuple[int, int]]:
        """Pairs of a gradient's output number and the input that it belongs to.

        Empty where gradients and inputs do not correspond one to one, as for second derivatives.
        """
        found = [k for k, gradient in enumerate(self.gradients) if gradient]
        return list(zip(found, self.wrt, strict=True)) if len(found) == len(self.wrt) else []


def first_built(f: Any, given: Arguments, built: Callable[[Arguments], Problem]) -> Problem:
    """Build the problem with as many of the arguments traced as the functions allow."""
    first: Exception | None = None
    closed: Problem | None = None
    trials = list(given.tries())
    for trial in trials:
        try:
            problem = built(trial)
        except (*CONCRETE, Failing) as error:
            first = first or error
            continue
        if len(trials) == 1 or not _closes_over(problem):
            return problem
        closed = closed or problem  # over a number that JAX gives it as it is
    if closed is not None:
        return closed
    if isinstance(first, Failing):
        raise first
    return faulty(f, given)._replace(obstacle=EAGER.format(first_line(first or Exception())))


def _closes_over(problem: Problem) -> bool:
    """Whether a rule holds an argument that is traced, as one of its ``nondiff_argnums`` may be."""
    try:
        return jaxprs.leaks(jaxprs.trace(problem.candidate, problem.inputs))
    except jax.errors.UnexpectedTracerError:
        return True
    except Exception as error:  # whatever else the rule raises: the structure check reports it
        noted(error, "the rule as it is called")
        return False


def normal(argnums: int | Sequence[int], count: int, what: str) -> tuple[int, ...]:
    """Return the positions as numbers from 0 on; negative ones count from the end."""
    found = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    for n in found:
        if not isinstance(n, int | np.integer) or not -count <= n < count:
            there = f"give numbers from 0 to {count - 1}" if count else "the call has no positional argument"
            raise Unusable(f"{what}={n!r} is not the position of an argument: {there}")
    return tuple(int(n) % count for n in found)


def traced(f: Callable, leaves: Sequence[Any], whose: Any) -> tuple[Any, Any]:
    """Return the jaxpr of ``f(*leaves)`` and the shapes of what it returns.

    Raises:
        Failing: the function fails.
        one of CONCRETE: the function needs an argument's value.
    """
    with own_width(leaves):
        try:
            return jax.make_jaxpr(f, return_shape=True)(*leaves)
        except CONCRETE:
            raise
        except Exception as error:
            if place_of(error):
                raise
            raise Failing(f"{name_of(whose)} fails at these arguments: {said(error)}") from error


def own_width(leaves: Sequence[Any]) -> Any:
    return jax.enable_x64(jaxprs.wide(leaves) or jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]


def named(out: Any) -> list[tuple[str, Any]]:
    """Return the path and shape of every output that is compared."""
    found = jax.tree_util.tree_leaves_with_path(out)
    return [(jax.tree_util.keystr(path), _as_numbers(o)) for path, o in found if o.dtype != jax.dtypes.float0]


def outputs_of(out: Any) -> tuple[Any, ...]:
    """Return the arrays that are compared: cotangents of integers are omitted, and keys become the numbers in them."""
    leaves = [leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in jax.tree.leaves(out)]
    return tuple(_as_numbers(leaf) for leaf in leaves if leaf.dtype != jax.dtypes.float0)


def _as_numbers(x: Any) -> Any:
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    return jax.eval_shape(jax.random.key_data, x) if isinstance(x, jax.ShapeDtypeStruct) else jax.random.key_data(x)


def obstacle_of(inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    """Return why there is nothing to judge, or "" if there is something."""
    if any(jaxprs.is_complex(x.dtype) for x in (*inputs, *outputs)):
        return "complex numbers are not supported here: pass the real and imaginary parts as two arrays"
    return "" if outputs else "there is no output to compare"


def source_of(f: Any) -> str:
    try:
        code = getattr(inspect.unwrap(f), "__code__", None)
    except ValueError:  # it wraps itself
        return ""
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def faulty(f: Callable, given: Arguments, *faults: Fault) -> Problem:
    """Return a problem that already has a fault, or that cannot be judged; its programs return nothing."""
    nothing: Program = lambda *leaves: ()  # noqa: E731
    return Problem(name_of(f), nothing, nothing, given.leaves, given.paths, (), (), faults, source=source_of(f))
