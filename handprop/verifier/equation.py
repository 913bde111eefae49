"""Derivatives of a function that is known by an equation which its values satisfy: the implicit function theorem.

A root finder, a fixed point, a solver or an optimizer returns a y with ``F(y, x) = 0``, and its loop need not be
differentiated, or even be known. Where ``F_y`` is invertible, ``F_y dy + F_x dx = 0``, so that the cotangent of x for
the cotangent ``c`` of y is

    -F_x^T v    with    F_y^T v = c.

For the numbers this system is solved. For the proof it is not: y and v are unknowns like the inputs, c is what
``F_y^T v`` is, and the rule has to return ``-F_x^T v``. What the rule computes with its own y is computed with the
unknown y (:mod:`handprop.verifier.programs.terms`). If that holds for every y, it holds for those with F(y, x) = 0.
Where it does not, as for ``y e^y = x`` and a rule that uses x for ``y e^y``, unknowns in which F is linear are
eliminated: they are computed from the others by F(y, x) = 0.

A loop in the rule's backward pass is taken at its limit, and a linear solver at the solution: if the state that a
loop returns is s, then ``s = body(s)``. Both are systems of linear equations, which are solved by elimination.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from handprop._compat import closed
from handprop.verifier.arguments import Arguments, Unusable, is_inexact
from handprop.verifier.complex_numbers import joined, split
from handprop.verifier.derivatives import Derivative
from handprop.verifier.elimination import FEW, Unknowns, eliminable, linear_root
from handprop.verifier.internal import call_users
from handprop.verifier.problem import Problem, Shared, outputs_of, own_width
from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.jaxprs import pruned, while_parts
from handprop.verifier.programs.terms import Term, Way, evaluated, graph_of, source_of, terms_before
from handprop.verifier.rules import name_of, without_rules

__all__ = ["Equation", "by_equation", "equation_of", "with_equation"]

# The relative error that a solver's values may cause: a multiple of how far they are from the solution at the given
# arguments. Where the rule iterates too, and where its program is not known, it is the largest.
LEAST, LARGEST, TIMES = 1e-5, 1e-3, 100.0
MOST = 256  # entries of the values
TINY = 1e-3  # values below it are compared in absolute terms
SOLVED = "the value satisfies the equation, as was tested to {:.0e}, and the equation's derivative by it is invertible"
LIMIT = "the loops and solvers of the rule run to their limits"
DETERMINES = "the equation determines {} too"


class Equation(NamedTuple):
    """``residuals(y, x)``: F, as one vector, of the float values and of all arguments; ``values`` are their shapes.

    ``off`` is how far the given values are from the solution, relative to the largest.
    """

    residuals: Callable[[Sequence[Any], Sequence[Any]], Any]
    values: tuple[Any, ...]
    off: float = 0.0

    @property
    def accuracy(self) -> float:
        """The relative error of the gradients that this may cause."""
        return min(max(LEAST, TIMES * self.off), LARGEST)


def equation_of(satisfies: Callable, given: Arguments, program: Any, out: Any) -> Equation:
    """The equation ``satisfies(y, *args)`` of a function whose values have the tree and the shapes of ``out``.

    Raises:
        Unusable: there are not as many equations as values, or the given values do not satisfy them.
    """
    if not callable(satisfies):
        raise Unusable(f"satisfies must be a function of the value and the arguments; got {type(satisfies).__name__}")
    leaves, tree = jax.tree.flatten(out)
    floats = [i for i, o in enumerate(leaves) if is_inexact(o)]

    def residuals(values: Sequence[Any], inputs: Sequence[Any]) -> Any:
        whole = jaxprs.with_replaced([jnp.zeros(o.shape, o.dtype) for o in leaves], floats, values)
        args, kwargs = given.rebuild(inputs)
        value = joined(jax.tree.unflatten(tree, whole))
        found = outputs_of(split(call_users(without_rules(satisfies), value, *args, **kwargs)))
        return jnp.concatenate([jnp.ravel(x) for x in found])

    equation = Equation(residuals, tuple(leaves[i] for i in floats))
    return equation._replace(off=_off(equation, given, program, name_of(satisfies)))


def _off(equation: Equation, given: Arguments, program: Any, name: str) -> float:
    count = _size_of(equation.values)
    if not 0 < count <= MOST:
        raise Unusable(f"satisfies is for functions of 1 to {MOST} float values; this one has {count}")
    with own_width(given.leaves):
        values = [v for v in jax.jit(core.jaxpr_as_fun(program))(*given.leaves) if is_inexact(v)]
        try:
            found = jax.jit(equation.residuals)(values, given.leaves)
        except Exception as error:
            raise Unusable(f"satisfies cannot be called with the value and the arguments: {error}") from error
        if found.size != count:
            raise Unusable(f"satisfies gives {found.size} equations for {count} values: there must be one for each")
        _, step = jax.jit(lambda: _newton(equation, values, given.leaves))()
    if not bool(jnp.isfinite(step).all()):
        raise Unusable(f"the derivative of {name} by the value has no inverse at the given arguments: it does not "
                       "determine the value")  # fmt: skip
    off, size = float(jnp.abs(step).max(initial=0.0)), float(_size(values))
    if not off <= LARGEST * size:
        raise Unusable(f"the value at the given arguments does not satisfy {name}: the solution is off by {off:.2g}, "
                       f"where the value's largest entry is {size:.2g}")  # fmt: skip
    return off / size


def _size(values: Sequence[Any]) -> Any:
    """The largest entry."""
    return jnp.maximum(jnp.max(jnp.stack([jnp.max(jnp.abs(v), initial=0.0) for v in values])), TINY)


def _by_values(equation: Equation, values: Sequence[Any], leaves: Sequence[Any]) -> Any:
    """F_y, as a matrix."""
    parts = jax.jacfwd(lambda *y: equation.residuals(y, leaves), argnums=tuple(range(len(values))))(*values)
    return jnp.concatenate([part.reshape(part.shape[0], -1) for part in parts], axis=1)


def _newton(equation: Equation, values: Sequence[Any], leaves: Sequence[Any]) -> tuple[Any, Any]:
    """F_y, and how far the values are from the solution, to first order."""
    matrix = _by_values(equation, values, leaves)
    return matrix, jnp.linalg.solve(matrix, equation.residuals(values, leaves))


def _split(flat: Any, shapes: Sequence[Any]) -> list[Any]:
    bounds = list(itertools.accumulate((math.prod(o.shape) for o in shapes), initial=0))
    return [flat[a:b].reshape(o.shape).astype(o.dtype)
            for a, b, o in zip(bounds, bounds[1:], shapes, strict=False)]  # fmt: skip


def by_equation(equation: Equation) -> Derivative:
    """The derivative that the equation gives, at the function's own values; NaN where they do not satisfy it."""

    def derivative(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
        outputs = outputs_of(f(*leaves))
        values = [o for o in outputs if is_inexact(o)]
        matrix, step = _newton(equation, values, leaves)
        solved = jnp.max(jnp.abs(step), initial=0.0) <= equation.accuracy * _size(values)
        along = jnp.linalg.solve(matrix.T, jnp.concatenate([jnp.ravel(c) for c in cotangents]))
        found = _pulled(equation, values, leaves, chosen, along)
        return (*outputs, *(jnp.where(solved, -x, jnp.nan) for x in found))

    return derivative


def _pulled(equation: Equation, values: Sequence[Any], leaves: Sequence[Any], chosen: Sequence[int], along: Any
            ) -> tuple:  # fmt: skip
    """``F_x^T v`` for the chosen arguments."""

    def of_chosen(*x: Any) -> Any:
        return equation.residuals(values, jaxprs.with_replaced(leaves, chosen, x))

    return jax.vjp(of_chosen, *(leaves[i] for i in chosen))[1](along)


def with_equation(problem: Problem, equation: Equation) -> Problem:
    """The problem of a rule whose reference is :func:`by_equation`, with what there is to prove."""
    rule = _rule_of(problem)
    accuracy = LARGEST if rule is None or rule.has_limits else equation.accuracy
    said = SOLVED.format(equation.accuracy)
    return problem._replace(accuracy=accuracy, is_estimated=True, conditions=(*problem.conditions, said),
                            to_prove=lambda: _obligations(problem, equation, rule))  # fmt: skip


def _obligations(problem: Problem, equation: Equation, rule: "Rule | None") -> Iterator[Problem]:
    """Yield problems each of which proves this one: for all y, then for those that satisfy the equation."""
    count = len(problem.inputs) - len(problem.cotangents)
    if rule is None:
        return
    leaves, wrt = problem.inputs[:count], list(problem.wrt)
    values = [np.asarray(v) for v in problem.primal(*leaves)]  # pyright: ignore[reportOptionalCall]
    rng, dtype, size = np.random.default_rng(0), np.result_type(*values), sum(v.size for v in values)
    along, elsewhere = (rng.normal(size=n).astype(dtype) for n in (size, max(size, FEW)))

    def both(*inputs: Any) -> tuple[list[Any], list[Any]]:
        *numbers, along, elsewhere = inputs
        leaves, values = numbers[:count], numbers[count:]
        _, pull = jax.vjp(lambda *y: equation.residuals(y, leaves), *values)
        got, zeros = rule(leaves, _cotangents(equation, pull(along)), values, elsewhere)
        want = [-x for x in _pulled(equation, values, leaves, wrt, along)]
        return [*got, *zeros], [*want, *map(jnp.zeros_like, zeros)]

    numbers = (*leaves, *values, along, elsewhere)
    unknown = [f"the value{f' {i}' if i else ''}" for i in range(len(values))]
    names = (*problem.in_paths[:count], *unknown, "the cotangent", "elsewhere")
    gradients = [path for path, of_gradient in zip(problem.out_paths, problem.gradients, strict=True) if of_gradient]

    def stated(f: Callable, said: tuple[str, ...]) -> Problem:
        more = len(jax.eval_shape(lambda *x: f(*x)[0], *numbers)) - len(gradients)
        return problem._replace(
            candidate=lambda *x: tuple(f(*x)[0]), reference=lambda *x: tuple(f(*x)[1]), inputs=numbers, in_paths=names,
            out_paths=(*gradients, *("what shows that a system is linear",) * more), gradients=(), cotangents=(),
            conditions=said, shared=Shared(), to_prove=None, domains={})  # fmt: skip

    limits = (LIMIT,) if rule.has_limits else ()
    yield stated(both, limits)
    for unknowns in eliminable(equation.residuals, leaves, values):
        said = DETERMINES.format(names[unknowns.place])
        yield stated(lambda *x, u=unknowns: _eliminated(equation, both, count, u, x), (*limits, said))


class Rule(NamedTuple):
    """``rule(leaves, cotangents, values, elsewhere)``: the gradients that a rule returns where its values are these,
    and zeros if the systems of equations in it are linear."""

    inputs: list[Term]
    values: list[Term]
    gradients: list[Term]
    has_limits: bool

    def __call__(self, leaves: Sequence[Any], cotangents: Sequence[Any], values: Sequence[Any], elsewhere: Any
                 ) -> tuple[list[Any], list[Any]]:  # fmt: skip
        known = {t.digest: x for t, x in zip(self.inputs, (*leaves, *cotangents), strict=True)}
        for term, x in zip(self.values, values, strict=True):
            source, held = source_of(term, x)
            known |= {term.digest: x, source.digest: held}
        zeros: list[Any] = []
        return evaluated(self.gradients, known, lambda term: _at_limit(term, elsewhere, zeros)), zeros


def _rule_of(problem: Problem) -> Rule | None:
    """The rule as terms; None if a value is one of its arguments or a number."""
    inputs, terms = graph_of(jaxprs.trace(problem.candidate, problem.inputs))
    values, gradients = (
        [term for term, is_gradient in zip(terms, problem.gradients, strict=True) if is_gradient is wanted]
        for wanted in (False, True))  # fmt: skip
    if any(term.eqn is None for term in values):
        return None
    floats = [term for term in values if is_inexact(term.eqn.outvars[term.place].aval)]
    known = {source_of(term, jnp.zeros(term.eqn.outvars[term.place].aval.shape))[0].digest for term in floats}
    return Rule(inputs, floats, gradients, any(map(_is_solved, terms_before(gradients, known))))


def _cotangents(equation: Equation, found: Sequence[Any]) -> list[Any]:
    return [c.astype(o.dtype) for c, o in zip(found, equation.values, strict=True)]


def _is_solved(term: Term) -> bool:
    return term.eqn is not None and term.eqn.primitive.name in ("while", "custom_linear_solve")


def _at_limit(term: Term, elsewhere: Any, zeros: list[Any]) -> Way | None:
    """The value of a loop's state where another iteration changes nothing, or of a linear solver's solution; None for
    another term, and where the equations are not of a few numbers."""
    name, params = term.eqn.primitive.name, term.eqn.params
    if name == "while":
        return _fixed(term, elsewhere, zeros)
    if name != "custom_linear_solve" or _size_of(v.aval for v in term.eqn.outvars) > FEW:
        return None
    lengths = params["const_lengths"]
    start, product = sum(lengths), core.jaxpr_as_fun(closed(params["jaxprs"].matvec))

    def solved(values: list[Any]) -> Any:
        consts, given = values[: lengths.matvec], values[lengths.matvec :]

        def off(*parts: Any) -> list[Any]:
            return [a - b for a, b in zip(product(*consts, *parts), given, strict=True)]

        return _root(off, given, elsewhere, zeros)[term.place]

    return (*term.operands[: lengths.matvec], *term.operands[start:]), solved


def _fixed(term: Term, elsewhere: Any, zeros: list[Any]) -> Way | None:
    """The part of a loop's state that the term is, where ``s = body(s)``."""
    body = closed(term.eqn.params["body_jaxpr"])
    count = term.eqn.params["body_nconsts"]
    needed = _needed(body, count, term.place)
    parts = [body.in_avals[count + i] for i in needed]
    if _size_of(parts) > FEW or not all(map(is_inexact, parts)):
        return None

    def fixed(values: list[Any]) -> Any:
        _, consts, state = while_parts(term.eqn.params, values)

        def turned(*parts: Any) -> list[Any]:
            found = core.jaxpr_as_fun(body)(*consts, *jaxprs.with_replaced(state, needed, parts))
            return [found[i] - x for i, x in zip(needed, parts, strict=True)]

        return _root(turned, [state[i] for i in needed], elsewhere, zeros)[needed.index(term.place)]

    return term.operands, fixed


def _size_of(shapes: Iterable[Any]) -> int:
    return sum(math.prod(x.shape) for x in shapes)


def _needed(body: Any, consts: int, k: int) -> list[int]:
    """The parts of a loop's state on which part k depends in any number of iterations."""
    needed = [k]
    for i in needed:
        only = pruned(body, [j == i for j in range(len(body.out_avals))]).jaxpr
        used = {id(v) for eqn in only.eqns for v in eqn.invars} | {id(v) for v in only.outvars}
        needed += [j for j, v in enumerate(only.invars[consts:]) if id(v) in used and j not in needed]
    return needed


def _root(f: Callable, like: Sequence[Any], elsewhere: Any, zeros: list[Any]) -> list[Any]:
    """The s with f(s) = 0, for a linear f plus a constant: ``zeros`` gets what is zero if f is that."""

    def flat(s: Any) -> Any:
        return jnp.concatenate([jnp.ravel(x) for x in f(*_split(s, like))])

    return _split(linear_root(flat, elsewhere[: _size_of(like)].astype(like[0].dtype), zeros), like)


def _eliminated(equation: Equation, both: Callable, count: int, unknowns: Unknowns, inputs: Sequence[Any]) -> tuple:
    """Both programs where the unknowns are what the other numbers make them by the equation."""
    *whole, along, elsewhere = inputs
    place, entries = unknowns.place, np.asarray(unknowns.entries)
    given, zeros = whole[place], []

    def with_unknowns(u: Any) -> list[Any]:
        changed = jnp.ravel(given).at[entries].set(u) if len(entries) < given.size else u
        return jaxprs.with_replaced(whole, [place], [changed.reshape(given.shape)])

    def residuals(u: Any) -> Any:
        moved = with_unknowns(u)
        return equation.residuals(moved[count:], moved[:count])

    point = elsewhere[: len(entries)].astype(given.dtype)
    root = linear_root(residuals, point, zeros, unknowns.is_diagonal)
    got, want = both(*with_unknowns(root), along, elsewhere)
    return [*got, *zeros], [*want, *map(jnp.zeros_like, zeros)]
