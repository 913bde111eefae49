"""What the user handed over, as two plain functions of one flat tuple of arrays.

Everything the rungs need to know is in :class:`Subject`; no rung looks at ``custom_vjp`` objects again.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verify import jaxprs
from handprop.verify.domains import Domain

__all__ = ["Fault", "Program", "Subject", "of_gradient", "of_pair", "of_rule"]

Program = Callable[..., tuple[jax.Array, ...]]


class Fault(NamedTuple):
    """A structural fault found while the subject was built: anyone can see it without arithmetic."""

    path: str
    what: str


class Subject(NamedTuple):
    """Two programs that should be the same function.

    ``hand(*inputs)`` and ``reference(*inputs)`` return tuples of arrays of the same length, shapes and dtypes, named by
    ``out_paths``; ``inputs`` are named by ``in_paths``. Outputs that hold no gradient (None, float0) are left out of
    both. ``gradients`` says which outputs are gradients and not values. ``trusted``: custom rules of JAX on the way.
    ``obstacle``: why the subject cannot be judged, where it cannot.

    ``primal`` returns the values of the function whose gradients these are, ``wrt`` are the inputs that the gradients
    belong to, ``cotangents`` the inputs that are the values' cotangents. ``kept``: what the checks of one report share,
    compiled programs above all. ``written`` is what the user handed over; ``as_program`` makes the hand program of it,
    or of an edited copy, ``faults_of`` the structural faults, ``as_reference`` the reference where it is the rule's own
    primal. ``original`` is the user's function that the reference is made of. ``conditions`` say what of the given
    arguments is kept wherever inputs are drawn, as "y holds 0 and 1 only, as given". ``domains``: at these places
    ``inputs`` are free parameters of the arguments (``handprop.verify.along``). ``heads`` are the names of the call's
    positional arguments, ``drawn`` the inputs that were given as shapes, ``asked_any`` those for which all numbers are
    asked about.
    """

    name: str
    hand: Program
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
    kept: dict[Any, Any] = {}  # noqa: RUF012 (judge gives every report its own)
    written: Any = None
    as_program: Callable[[Any], Program] | None = None
    faults_of: Callable[[Any], Sequence[Fault]] | None = None
    as_reference: Callable[[Any], Program] | None = None
    original: Any = None
    conditions: tuple[str, ...] = ()
    domains: Mapping[int, Domain] = {}
    heads: tuple[str, ...] = ()
    drawn: tuple[int, ...] = ()
    asked_any: tuple[int, ...] = ()


class Arguments(NamedTuple):
    """A call's arguments: the array leaves by path, and what puts them back among the others; the positional
    arguments' names, and which leaves were given as shapes."""

    leaves: tuple[Any, ...]
    paths: tuple[str, ...]
    rebuild: Callable[[Sequence[Any]], tuple[tuple, dict]]
    heads: tuple[str, ...] = ()
    drawn: tuple[int, ...] = ()


def arguments(args: tuple, kwargs: dict, still: Sequence[int | str], rng: np.random.Generator,
              f: Callable) -> Arguments:  # fmt: skip
    """Arrays among the arguments, a ShapeDtypeStruct drawn; whatever is no array, or stands in ``still``, is kept.

    ``still`` holds positions and names of parameters.
    """
    names = _parameter_names(f, len(args))
    entries, treedef = jax.tree_util.tree_flatten_with_path((args, kwargs))
    positions, leaves, paths, rest = [], [], [], [leaf for _, leaf in entries]
    for i, (path, leaf) in enumerate(entries):
        positional = path[0].idx == 0
        head = names[path[1].idx] if positional else str(path[1].key)
        if (positional and path[1].idx in still) or head in still or not _is_array(leaf):
            continue
        positions.append(i)
        leaves.append(_drawn(leaf, rng))
        paths.append(head + jax.tree_util.keystr(path[2:]))

    def rebuild(arrays: Sequence[Any]) -> tuple[tuple, dict]:
        return jax.tree.unflatten(treedef, jaxprs.with_replaced(rest, positions, arrays))

    drawn = tuple(i for i, place in enumerate(positions) if isinstance(rest[place], jax.ShapeDtypeStruct))
    return Arguments(tuple(leaves), tuple(paths), rebuild, tuple(names), drawn)


def _parameter_names(f: Callable, count: int) -> list[str]:
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    return [names[i] if i < len(names) else f"args[{i}]" for i in range(count)]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct | float | int | bool | complex)


def _drawn(leaf: Any, rng: np.random.Generator) -> Any:
    """The array itself; for a ShapeDtypeStruct normal floats, integers below 2, one key."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        if isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        return jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(int(rng.integers(2**31))), leaf.shape) if leaf.shape else jax.random.key(
            int(rng.integers(2**31)))  # fmt: skip
    if jaxprs.is_float(leaf.dtype):
        return rng.normal(size=leaf.shape).astype(leaf.dtype)
    return rng.integers(2, size=leaf.shape).astype(leaf.dtype)


def is_inexact(x: Any) -> bool:
    return jaxprs.is_float(x.dtype)


def of_rule(rule: Any, args: tuple, kwargs: dict, reference: Callable | None, argnums: Sequence[int] | None,
            nondiff: Sequence[int], rng: np.random.Generator) -> Subject:  # fmt: skip
    """A custom rule, or a function that holds some, beside autodiff of its primal or of ``reference``."""
    if isinstance(rule, tuple):
        rule = _of_pair(rule, reference)
    if not callable(rule):
        raise TypeError(f"rule must be a function with a custom rule, not {type(rule).__name__}: pass it uncalled")
    still = _still(rule)
    given = arguments(args, kwargs, still, rng, getattr(rule, "__wrapped__", rule))
    chosen = [i for i, (leaf, path) in enumerate(zip(given.leaves, given.paths, strict=True))
              if is_inexact(leaf) and _is_chosen(path, given, argnums, nondiff, rule, len(args))]  # fmt: skip

    def called(f: Callable) -> Callable:
        def flat(*leaves: Any) -> Any:
            new_args, new_kwargs = given.rebuild(leaves)
            return f(*new_args, **new_kwargs)

        return flat

    primal = called(reference if reference is not None else getattr(rule, "__wrapped__", rule))
    with jax.enable_x64(jaxprs.wide(given.leaves)):
        program, out = jax.make_jaxpr(primal, return_shape=True)(*given.leaves)
    outputs = jax.tree_util.tree_leaves_with_path(out)
    cotangents = tuple(rng.normal(size=o.shape).astype(o.dtype) for _, o in outputs if is_inexact(o))
    out_paths = [f"value{jax.tree_util.keystr(path)}" for path, o in outputs if is_inexact(o)]
    grad_paths = [f"d{given.paths[i]}" for i in chosen]
    count = len(given.leaves)

    def pulled_back(f: Callable) -> Program:
        return lambda *inputs: _pulled_back(f, inputs[:count], inputs[count:], chosen)

    return Subject(
        name=getattr(rule, "__name__", type(rule).__name__),
        hand=pulled_back(called(rule)),
        reference=pulled_back(jaxprs.strip_rules(primal)),
        inputs=(*given.leaves, *cotangents),
        in_paths=(*given.paths, *(f"cotangent of {path}" for path in out_paths)),
        out_paths=(*out_paths, *grad_paths),
        gradients=(False,) * len(out_paths) + (True,) * len(grad_paths),
        faults=tuple(_rule_faults(rule, args, kwargs, out, still)),
        trusted=jaxprs.rules_of_jax(program),
        source=_source(rule),
        obstacle=_obstacle(given.leaves, [o for _, o in outputs]),
        primal=lambda *inputs: tuple(o for o in jax.tree.leaves(primal(*inputs[:count])) if is_inexact(o)),
        wrt=tuple(chosen),
        cotangents=tuple(range(count, count + len(cotangents))),
        written=rule,
        as_program=lambda f: pulled_back(called(f)),
        faults_of=lambda f: _rule_faults(f, args, kwargs, out, still),
        as_reference=None if reference else lambda f: pulled_back(jaxprs.strip_rules(called(getattr(f, "fun", f)))),
        original=reference if reference is not None else getattr(rule, "fun", rule),
        heads=given.heads,
        drawn=given.drawn,
    )


def _of_pair(rule: Any, reference: Callable | None) -> Any:
    """A rule from ``(fwd, bwd)``; fwd None where the residuals are the arguments themselves."""
    fwd, bwd = rule
    if reference is None:
        raise TypeError("a pair (fwd, bwd) says nothing of the function it is for: give reference=f")
    made: Any = jax.custom_vjp(reference)
    made.defvjp(fwd or (lambda *args: (reference(*args), args)), bwd)
    made.__name__ = getattr(bwd, "__name__", "bwd")
    return made


def _still(rule: Any) -> tuple[int | str, ...]:
    """Positions and names of the arguments that the rule says are not differentiated."""
    numbers = tuple(n for n in getattr(rule, "nondiff_argnums", ()) if isinstance(n, int))
    named = tuple(getattr(rule, "nondiff_argnames", ()))
    if not numbers or not hasattr(rule, "__wrapped__"):
        return (*numbers, *named)
    try:
        parameters = list(inspect.signature(rule.__wrapped__).parameters)
    except (TypeError, ValueError):
        parameters = []
    return (*numbers, *named, *(parameters[n] for n in numbers if n < len(parameters)))


def _obstacle(inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    if any(jaxprs.is_complex(x.dtype) for x in (*inputs, *outputs)):
        return "complex numbers are not judged: give the real and imaginary parts as arrays"
    return "" if any(is_inexact(o) for o in outputs) else "there is no output of a floating dtype to compare"


def _is_chosen(path: str, given: Arguments, argnums, nondiff: Sequence[int], rule: Callable, count: int) -> bool:
    names = _parameter_names(getattr(rule, "__wrapped__", rule), count)
    owner = next((i for i, name in enumerate(names) if path == name or path.startswith((f"{name}[", f"{name}."))), None)
    return owner not in nondiff and (argnums is None or owner in argnums)


def _pulled_back(f: Callable, leaves: Sequence[Any], cotangents: Sequence[Any], chosen: list[int]) -> tuple:
    """Inexact outputs of f, and the cotangents of the chosen leaves."""

    def partial(*diff: Any) -> list[Any]:
        return [o for o in jax.tree.leaves(f(*jaxprs.with_replaced(leaves, chosen, diff))) if is_inexact(o)]

    values, pull = jax.vjp(partial, *(leaves[i] for i in chosen))
    return (*values, *pull(list(cotangents)))


def _rule_faults(rule: Any, args: tuple, kwargs: dict, out: Any, still: Sequence[int | str]) -> list[Fault]:
    """What ``bwd`` returns beside what it should, as shapes; JAX itself says nothing of a wrong dtype."""
    fwd, bwd = getattr(rule, "fwd", None), getattr(rule, "bwd", None)
    if fwd is None or bwd is None or kwargs or still or getattr(rule, "symbolic_zeros", False):
        return []
    if getattr(rule, "nondiff_argnames", ()):
        return []
    specs = jax.tree.map(lambda x: x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x), args)
    with jax.enable_x64(jaxprs.wide(jax.tree.leaves(specs))):
        try:
            primal, residuals = jax.eval_shape(fwd, *specs)
            got = jax.eval_shape(bwd, residuals, primal)
        except (TypeError, ValueError) as error:
            return [Fault("rule", f"fwd or bwd cannot be traced: {jaxprs.first_line(error)}")]
    faults = []
    if jax.tree.structure(primal) != jax.tree.structure(out):
        faults.append(Fault("fwd", f"returns {jax.tree.structure(primal)}, the primal {jax.tree.structure(out)}"))
    if not isinstance(got, tuple | list) or len(got) != len(args):
        return [*faults, Fault("bwd", f"must return {len(args)} cotangents, one for each argument")]
    for i, (cotangent, argument) in enumerate(zip(got, specs, strict=True)):
        faults += _cotangent_faults(f"cotangent {i}", cotangent, argument)
    return faults


def _cotangent_faults(where: str, cotangent: Any, argument: Any) -> list[Fault]:
    if cotangent is None:
        return []
    got, want = (
        jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None) for tree in (cotangent, argument)
    )
    if [path for path, _ in got] != [path for path, _ in want]:
        return [Fault(where, f"has the tree {jax.tree.structure(cotangent)}, not {jax.tree.structure(argument)}")]
    faults = []
    for (path, g), (_, w) in zip(got, want, strict=True):
        if g is None or w is None or g.dtype == jax.dtypes.float0 or not is_inexact(w):
            continue
        if g.shape != w.shape or g.dtype != w.dtype:
            found, wanted = f"{g.dtype}{list(g.shape)}", f"{w.dtype}{list(w.shape)}"
            faults.append(Fault(where + jax.tree_util.keystr(path), f"is {found}, its argument {wanted}"))
    return faults


def _source(f: Any) -> str:
    code = getattr(inspect.unwrap(f), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def of_gradient(hand: Callable, loss: Callable, args: tuple, argnums: int | Sequence[int], rng) -> Subject:
    """A plain gradient function, with or without the value, beside ``jax.value_and_grad(loss, argnums)``."""
    given = arguments(args, {}, (), rng, loss)

    def flat(f: Callable) -> Callable:
        return lambda *leaves: f(*given.rebuild(leaves)[0])

    with jax.enable_x64(jaxprs.wide(given.leaves)):
        try:
            value, grads = jax.eval_shape(flat(jax.value_and_grad(loss, argnums)), *given.leaves)
        except (ValueError, NotImplementedError) as error:
            obstacle = f"jax.grad of the loss fails: {jaxprs.first_line(error)}"
            return _alone(_faulty(hand, given)._replace(obstacle=obstacle), flat(hand), _positions(given, argnums))
        try:
            got = jax.eval_shape(flat(hand), *given.leaves)
        except (TypeError, ValueError) as error:
            fault = Fault("hand", f"cannot be traced: {jaxprs.first_line(error)}")
            return _faulty(hand, given, fault)
        program = jax.make_jaxpr(flat(loss))(*given.leaves)
    with_value = jax.tree.structure(got) == jax.tree.structure((value, grads))
    if not with_value and jax.tree.structure(got) != jax.tree.structure(grads):
        fault = Fault("hand", f"returns {jax.tree.structure(got)}, the gradient is {jax.tree.structure(grads)}")
        return _faulty(hand, given, fault)
    want = (value, grads) if with_value else grads
    named = jax.tree_util.tree_leaves_with_path(grads)
    stripped = jaxprs.strip_rules(flat(loss))

    def rebuilt_loss(*parts: Any) -> Any:
        return stripped(*jax.tree.leaves(parts))

    def reference(*leaves: Any) -> tuple:
        value, grads = jax.value_and_grad(rebuilt_loss, argnums)(*given.rebuild(leaves)[0])
        return tuple(jax.tree.leaves((value, grads) if with_value else grads))

    return Subject(
        name=getattr(hand, "__name__", type(hand).__name__),
        hand=lambda *leaves: tuple(jax.tree.leaves(flat(hand)(*leaves))),
        reference=reference,
        inputs=given.leaves,
        in_paths=given.paths,
        out_paths=(*(["value"] if with_value else []), *(f"gradient{jax.tree_util.keystr(path)}" for path, _ in named)),
        gradients=(*([False] if with_value else []), *(True for _ in named)),
        faults=tuple(_leaf_faults(got, want)),
        trusted=jaxprs.rules_of_jax(program),
        source=_source(hand),
        obstacle=_obstacle(given.leaves, [value]),
        primal=lambda *leaves: (flat(loss)(*leaves),),
        wrt=_positions(given, argnums),
        written=hand,
        original=loss,
        heads=given.heads,
        drawn=given.drawn,
        as_program=lambda f: lambda *leaves: tuple(jax.tree.leaves(flat(f)(*leaves))),
    )


def _positions(given: Arguments, argnums: int | Sequence[int]) -> tuple[int, ...]:
    """The leaves that ``argnums`` chooses, in the order of the gradient's leaves."""
    args, _ = given.rebuild(range(len(given.leaves)))
    chosen = args[argnums] if isinstance(argnums, int) else tuple(args[n] for n in argnums)
    return tuple(jax.tree.leaves(chosen))


def _faulty(f: Callable, given: Arguments, *faults: Fault) -> Subject:
    nothing: Program = lambda *leaves: ()  # noqa: E731
    name = getattr(f, "__name__", type(f).__name__)
    return Subject(name, nothing, nothing, given.leaves, given.paths, (), (), faults, source=_source(f))


def _alone(subject: Subject, hand: Callable, wrt: tuple[int, ...]) -> Subject:
    """With its gradients, or value and gradients, where that is what the hand-written function returns."""
    try:
        shapes = [o.shape for o in jax.tree.leaves(jax.eval_shape(hand, *subject.inputs))]
    except (TypeError, ValueError):
        return subject
    gradients = [subject.inputs[i].shape for i in wrt]
    marks = {0: (), 1: (False,)}.get(len(shapes) - len(gradients))
    if marks is None or shapes[len(marks) :] != gradients:
        return subject
    return subject._replace(
        hand=lambda *leaves: tuple(jax.tree.leaves(hand(*leaves))), gradients=(*marks, *(True for _ in wrt)), wrt=wrt
    )


def _leaf_faults(got: Any, want: Any) -> list[Fault]:
    pairs = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True)
    return [
        Fault(jax.tree_util.keystr(path), f"is {g.dtype}{list(g.shape)}, not {w.dtype}{list(w.shape)}")
        for (path, g), w in pairs if g.shape != w.shape or g.dtype != w.dtype
    ]  # fmt: skip


def of_pair(f: Callable, g: Callable, args: tuple, rng: np.random.Generator) -> Subject:
    """Any two functions of the same arguments; ``g`` is the reference."""
    given = arguments(args, {}, (), rng, f)

    def flat(h: Callable) -> Program:
        return lambda *leaves: tuple(o for o in jax.tree.leaves(h(*given.rebuild(leaves)[0])) if is_inexact(o))

    with jax.enable_x64(jaxprs.wide(given.leaves)):
        left, right = (jax.eval_shape(lambda *leaves, h=h: h(*given.rebuild(leaves)[0]), *given.leaves) for h in (f, g))
    faults: list[Fault] = []
    if jax.tree.structure(left) != jax.tree.structure(right):
        return _faulty(f, given, Fault("f", f"returns {jax.tree.structure(left)}, g {jax.tree.structure(right)}"))
    faults += _leaf_faults(left, right)
    paths = [
        jax.tree_util.keystr(path) or "value" for path, o in jax.tree_util.tree_leaves_with_path(left) if is_inexact(o)
    ]
    name = f"{getattr(f, '__name__', 'f')} = {getattr(g, '__name__', 'g')}"
    unmarked = (False,) * len(paths)
    return Subject(
        name, flat(f), flat(g), given.leaves, given.paths, tuple(paths), unmarked, tuple(faults), source=_source(f),
        obstacle=_obstacle(given.leaves, jax.tree.leaves(left)), written=f, as_program=flat,
        original=g, heads=given.heads, drawn=given.drawn,
    )  # fmt: skip
