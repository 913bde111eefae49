"""Problems from plain functions: a gradient function against its loss, or one function against another."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from handprop.verifier.arguments import CONCRETE, Arguments, Unusable, arguments, is_inexact
from handprop.verifier.derivatives import Derivative, of_values, pulled_back, with_estimate
from handprop.verifier.faults import Fault, leaf_faults
from handprop.verifier.internal import first_line, noted
from handprop.verifier.problem import (
    Problem,
    Program,
    faulty,
    first_built,
    named,
    normal,
    obstacle_of,
    outputs_of,
    own_width,
    source_of,
    traced,
)
from handprop.verifier.programs import jaxprs
from handprop.verifier.rules import name_of, with_rules, without_rules

__all__ = ["of_gradient", "of_pair"]


def of_gradient(candidate: Callable, loss: Callable, args: tuple, argnums: int | Sequence[int], rng) -> Problem:
    """Compare a gradient function, with or without the value, with ``jax.value_and_grad(loss, argnums)``.

    Raises:
        Unusable: the loss has no gradient for ``argnums``, or the returned gradients are for other arguments.
    """
    given = arguments(args, {}, (), rng, loss)
    chosen = normal(argnums, len(args), "argnums")
    argnums = chosen if isinstance(argnums, Sequence) else chosen[0]
    return first_built(candidate, given, lambda given: _of_gradient(candidate, loss, given, argnums))


def _of_gradient(candidate: Callable, loss: Callable, given: Arguments, argnums: int | tuple[int, ...]) -> Problem:
    program, value = traced(given.calling(loss), given.leaves, loss)
    _check_loss(loss, value)
    wrt = _positions(given, argnums)
    by_hand = with_rules(given.calling(candidate))
    differentiated = functools.partial(_differentiated, loss, given, argnums, wrt)
    way = of_values(differentiated, given.leaves, wrt)
    with own_width(given.leaves):
        try:
            value, *found = jax.eval_shape(differentiated(way), *given.leaves)
        except CONCRETE:
            raise
        except Exception as error:  # whatever JAX raises where a function has no derivative
            noted(error, "autodiff of the loss")
            obstacle = f"jax.grad of the loss fails: {first_line(error)}"
            return _alone(faulty(candidate, given)._replace(obstacle=obstacle), by_hand, wrt)
        grads = jax.tree.unflatten(jax.tree.structure(_chosen(given, argnums)), found)
        try:
            got = jax.eval_shape(by_hand, *given.leaves)
        except CONCRETE:
            raise
        except Exception as error:  # whatever JAX or the user's function raises
            if stopped := noted(error, "the gradient by hand"):
                return faulty(candidate, given)._replace(obstacle=stopped)
            return faulty(candidate, given, Fault("hand", f"cannot be traced: {first_line(error)}"))
    with_value = jax.tree.structure(got) == jax.tree.structure((value, grads))
    fits, faults = _compared(got, (value, grads) if with_value else grads, grads, with_value)
    faults = _by_others(got, given, argnums, faults) if faults else faults
    if not fits:
        return faulty(candidate, given, *faults)
    leaves = [path for path, _ in jax.tree_util.tree_leaves_with_path(grads)]

    def reference(*leaves: Any) -> tuple:
        return differentiated(way)(*leaves)[0 if with_value else 1 :]

    as_program = functools.partial(_as_program, given)
    problem = Problem(
        name=name_of(candidate),
        candidate=as_program(candidate),
        reference=reference,
        inputs=given.leaves,
        in_paths=given.paths,
        out_paths=(*(["value"] if with_value else []), *(f"gradient{jax.tree_util.keystr(path)}" for path in leaves)),
        gradients=(*([False] if with_value else []), *(True for _ in leaves)),
        faults=tuple(faults),
        trusted=jaxprs.rules_of_jax(program),
        source=source_of(candidate),
        obstacle=obstacle_of(given.leaves, [value]),
        primal=lambda *leaves: (given.calling(loss)(*leaves),),
        wrt=wrt,
        written=candidate,
        original=loss,
        stops=jaxprs.stops(program),
        solves=jaxprs.solves(program),
        as_program=as_program,
        conditions=given.conditions(),
        heads=given.heads,
        drawn=given.drawn,
    )
    return with_estimate(problem, way)


def _chosen(given: Arguments, argnums: int | tuple[int, ...]) -> Any:
    args, _ = given.rebuild(given.leaves)
    return args[argnums] if isinstance(argnums, int) else tuple(args[n] for n in argnums)


def _differentiated(loss: Callable, given: Arguments, argnums: int | tuple[int, ...], wrt: Sequence[int],
                    way: Derivative) -> Program:  # fmt: skip
    """Return the program of the loss's value and of its gradients, differentiated in this way."""
    plain = without_rules(loss)
    if way is pulled_back:
        grad = given.calling(jax.value_and_grad(plain, argnums))
        return lambda *leaves: tuple(jax.tree.leaves(grad(*leaves)))
    return lambda *leaves: way(given.calling(plain), leaves, [1.0], list(wrt))


def _as_program(given: Arguments, f: Callable) -> Program:
    return lambda *leaves: tuple(jax.tree.leaves(with_rules(given.calling(f))(*leaves)))


def _compared(got: Any, want: Any, grads: Any, with_value: bool) -> tuple[bool, list[Fault]]:
    """Return whether the trees of what is returned and what is wanted are equal, and the faults."""
    if jax.tree.structure(got) == jax.tree.structure(want):
        return True, [_renamed(fault, with_value) for fault in leaf_faults(got, want)]
    said = f"returns {jax.tree.structure(got)}, but the gradient is {jax.tree.structure(grads)}"
    return False, [Fault("hand", said)]


def _renamed(fault: Fault, with_value: bool) -> Fault:
    """Return the fault named after the output instead of its position in what is returned."""
    if with_value and fault.path.startswith("[0]"):
        return fault._replace(path="value")
    return fault._replace(path=f"gradient{fault.path[3:] if with_value else fault.path}")


def _check_loss(loss: Callable, value: Any) -> None:
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0].shape or not jax.numpy.issubdtype(leaves[0].dtype, np.inexact):
        found = ", ".join(f"{x.dtype}{list(x.shape)}" for x in leaves) or "nothing"
        raise Unusable(f"{name_of(loss)} returns {found}, but a loss must be one float: sum it, or use equivalent()")


def _positions(given: Arguments, argnums: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the leaves that ``argnums`` selects, in the order of the gradient's leaves."""
    found: list[int] = []
    for n in (argnums,) if isinstance(argnums, int) else argnums:
        own = [i for i, owner in enumerate(given.owners) if owner == n]
        for i in own:
            if i not in given.places or not _is_number(given.arrays[given.places.index(i)]):
                raise Unusable(f"argnums={n} cannot be differentiated: {given.names[i]} is not a float array")
        found += [given.places.index(i) for i in own]
    return tuple(found)


def _is_number(x: Any) -> bool:
    return is_inexact(x) or jaxprs.is_complex(x.dtype)


def _by_others(got: Any, given: Arguments, argnums: int | tuple[int, ...], faults: list[Fault]) -> list[Fault]:
    """Return the faults; the last one also names the argument whose shapes the gradient has, if there is one.

    Raises:
        Unusable: gradients of several arguments are returned, and ``argnums`` asks for others.
    """
    meant = _meant(got, given)
    if meant is None or meant == argnums:
        return faults
    if isinstance(meant, tuple):
        raise Unusable(f"{len(meant)} gradients are returned, but argnums={argnums} asks for {_count(argnums)}: "
                       f"pass argnums={meant} if these are meant")  # fmt: skip
    return [
        *faults[:-1],
        faults[-1]._replace(what=f"{faults[-1].what}; if it is for another argument, pass argnums={meant}"),
    ]


def _count(argnums: int | tuple[int, ...]) -> str:
    return "one" if isinstance(argnums, int) else f"{len(argnums)}"


def _meant(got: Any, given: Arguments) -> int | tuple[int, ...] | None:
    """Return the arguments that have the trees and shapes of the gradients, with or without a value before them."""
    args, _ = given.rebuild(given.leaves)
    parts = [got[1]] if isinstance(got, tuple | list) and len(got) == 2 and _shapes(got[0])[1] == [()] else []
    for part in (*parts, got):
        single = [n for n, arg in enumerate(args) if _shapes(arg) == _shapes(part)]
        if single:
            return single[0]
        several = _in_order(part, args) if isinstance(part, tuple | list) and len(part) > 1 else None
        if several is not None:
            return several
    return None


def _in_order(parts: Sequence[Any], args: Sequence[Any]) -> tuple[int, ...] | None:
    """Match each part with the next argument of the same shapes."""
    found: list[int] = []
    for part in parts:
        rest = range(found[-1] + 1 if found else 0, len(args))
        n = next((n for n in rest if _shapes(args[n]) == _shapes(part)), None)
        if n is None:
            return None
        found.append(n)
    return tuple(found)


def _shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [tuple(np.shape(leaf)) for leaf in leaves]


def _alone(problem: Problem, candidate: Callable, wrt: tuple[int, ...]) -> Problem:
    """Add the hand-written gradients, or value and gradients, if that is what the function returns."""
    try:
        shapes = [o.shape for o in jax.tree.leaves(jax.eval_shape(candidate, *problem.inputs))]
    except Exception as error:  # whatever it raises: the obstacle is reported as before
        noted(error, "the gradient by hand")
        return problem
    gradients = [problem.inputs[i].shape for i in wrt]
    marks = {0: (), 1: (False,)}.get(len(shapes) - len(gradients))
    if marks is None or shapes[len(marks) :] != gradients:
        return problem
    return problem._replace(
        candidate=lambda *leaves: tuple(jax.tree.leaves(candidate(*leaves))),
        gradients=(*marks, *(True for _ in wrt)),
        wrt=wrt,
    )


def of_pair(f: Callable, g: Callable, args: tuple, rng: np.random.Generator) -> Problem:
    """Compare any two functions of the same arguments; ``g`` is the reference.

    Raises:
        Unusable: one of them fails at these arguments.
    """
    for h in (f, g):
        if not callable(h):
            raise Unusable(f"equivalent compares two functions; got {type(h).__name__}")
    given = arguments(args, {}, (), rng, f, has_pairs=True)
    return first_built(f, given, lambda given: _of_pair(f, g, given))


def _of_pair(f: Callable, g: Callable, given: Arguments) -> Problem:
    def flat(h: Callable) -> Program:
        return lambda *leaves: outputs_of(with_rules(given.calling(h))(*leaves))

    (_, left), (_, right) = (traced(with_rules(given.calling(h)), given.leaves, h) for h in (f, g))
    if jax.tree.structure(left) != jax.tree.structure(right):
        return faulty(
            f, given, Fault("f", f"returns {jax.tree.structure(left)}, but g returns {jax.tree.structure(right)}")
        )
    outputs = named(left)
    return Problem(
        name=f"{name_of(f)} = {name_of(g)}",
        candidate=flat(f),
        reference=flat(g),
        inputs=given.leaves,
        in_paths=given.paths,
        out_paths=tuple(path or "value" for path, _ in outputs),
        gradients=(False,) * len(outputs),
        faults=tuple(fault._replace(path=fault.path or "value") for fault in leaf_faults(left, right)),
        source=source_of(f),
        obstacle=obstacle_of(given.leaves, [o for _, o in outputs]),
        written=f,
        as_program=flat,
        original=g,
        conditions=given.conditions(),
        heads=given.heads,
        drawn=given.drawn,
    )
