"""The arguments of a call, split as JAX would split them into arrays and values that stay as they are."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.complex_numbers import joined, split
from handprop.verifier.internal import call_users
from handprop.verifier.programs import jaxprs

__all__ = ["CONCRETE", "Arguments", "Failing", "Unusable", "arguments", "is_inexact", "parameters"]

# The errors that JAX raises where a function needs an argument's value while it is traced.
CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class Unusable(TypeError):
    """Something that an entry point cannot use; the message says in one sentence what it is and what to do."""


class Failing(Unusable):
    """The user's own function fails at the given arguments."""


class Arguments(NamedTuple):
    """The arguments of a call as leaves of one tree: ``whole`` holds them all, ``places`` says which are ``arrays``.

    ``names`` and ``owners`` describe the leaves of ``whole``: the path of each, and the position of the argument that
    it belongs to (its name, for a keyword that has no position). ``heads`` are the names of the positional arguments,
    and ``shapes`` are the places of the leaves that were given as shapes. ``has_pairs``: whether complex arrays are
    pairs of real ones here, in the arguments and in what a function of the arrays returns.
    """

    whole: tuple[Any, ...]
    places: tuple[int, ...]
    arrays: tuple[Any, ...]
    names: tuple[str, ...]
    owners: tuple[int | str, ...]
    tree: Any
    heads: tuple[str, ...]
    shapes: tuple[int, ...]
    has_pairs: bool = False

    @property
    def leaves(self) -> tuple[Any, ...]:
        return self.arrays

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.places)

    @property
    def drawn(self) -> tuple[int, ...]:
        """The arrays that were given as shapes."""
        return tuple(i for i, place in enumerate(self.places) if place in self.shapes)

    def rebuild(self, arrays: Sequence[Any]) -> tuple[tuple, dict]:
        """Return the arguments with these arrays in them."""
        found = jax.tree.unflatten(self.tree, jaxprs.with_replaced(self.whole, self.places, arrays))
        return joined(found) if self.has_pairs else found

    def calling(self, f: Callable) -> Callable:
        """Return ``f`` as a function of the arrays."""

        def flat(*arrays: Any) -> Any:
            args, kwargs = self.rebuild(arrays)
            returned = call_users(f, *args, **kwargs)
            return split(returned) if self.has_pairs else returned

        return flat

    def keeping(self, is_kept: Callable[[Any], bool]) -> "Arguments":
        """Return the arguments with some arrays left as they were given, as JAX passes them without tracing."""
        pairs = [(i, a) for i, a in zip(self.places, self.arrays, strict=True) if not is_kept(self.whole[i])]
        return self._replace(places=tuple(i for i, _ in pairs), arrays=tuple(a for _, a in pairs))

    def tries(self) -> Iterator["Arguments"]:
        """Yield the arguments, then with Python floats left as they are, then with all non-floats left too."""
        yield self
        floats = self.keeping(lambda x: isinstance(x, float) and not isinstance(x, np.generic))
        if len(floats.places) < len(self.places):
            yield floats
        whole = floats.keeping(lambda x: isinstance(x, np.ndarray | np.generic | jax.Array) and not is_inexact(x))
        if len(whole.places) < len(floats.places):
            yield whole

    def conditions(self) -> tuple[str, ...]:
        """Name the numbers and strings among the arguments that are not arrays: the verdict holds for these values."""
        kept = sorted(set(range(len(self.whole))) - set(self.places))
        return tuple(f"{self.names[i]} is {self.whole[i]!r}, as given" for i in kept
                     if isinstance(self.whole[i], bool | int | float | str))  # fmt: skip


def arguments(args: tuple, kwargs: dict, still: Sequence[int | str], rng: np.random.Generator,
              f: Callable, has_pairs: bool = False) -> Arguments:  # fmt: skip
    """Split the arguments of a call: arrays and floats become arrays, and a ShapeDtypeStruct is drawn at random.

    Everything else stays as it is: Python integers, booleans and strings, functions, and whatever ``still`` names by
    position or by name. With ``has_pairs``, complex arrays become pairs.
    """
    known = parameters(f)
    given = split((args, kwargs)) if has_pairs else (args, kwargs)
    entries, tree = jax.tree_util.tree_flatten_with_path(given)
    whole, places, arrays, names, owners = [], [], [], [], []
    for i, (path, leaf) in enumerate(entries):
        name = _name(known, path[1].idx) if path[0].idx == 0 else str(path[1].key)
        owner = path[1].idx if path[0].idx == 0 else known.index(name) if name in known else name
        names.append(name + jax.tree_util.keystr(path[2:]))
        owners.append(owner)
        held = owner in still or name in still or not _is_array(leaf)
        array = None if held else _drawn(leaf, rng)
        whole.append(array if isinstance(leaf, jax.ShapeDtypeStruct) and array is not None else leaf)
        if not held:
            places.append(i)
            arrays.append(array)
    heads = tuple(_name(known, n) for n in range(len(args)))
    shapes = tuple(i for i, (_, leaf) in enumerate(entries) if isinstance(leaf, jax.ShapeDtypeStruct))
    return Arguments(tuple(whole), tuple(places), tuple(arrays), tuple(names), tuple(owners), tree, heads, shapes,
                     has_pairs)  # fmt: skip


def parameters(f: Any) -> list[str]:
    """Return the names of a function's positional parameters; "*rest" takes all arguments from its position on."""
    try:
        found = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name for p in found
            if p.kind not in (p.VAR_KEYWORD, p.KEYWORD_ONLY)]  # fmt: skip


def _name(known: list[str], position: int) -> str:
    last = known[-1] if known else "*args"
    if position < len(known) and not known[position].startswith("*"):
        return known[position]
    if last.startswith("*"):
        return f"{last[1:]}[{position - max(len(known) - 1, 0)}]"
    return f"args[{position}]"


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, bool | int) and not isinstance(leaf, np.generic):
        return False
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct | float | complex)


def _drawn(leaf: Any, rng: np.random.Generator) -> Any:
    """Return the array itself; draw a ShapeDtypeStruct as normal floats, integers below 2, or keys."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf if isinstance(leaf, jax.Array | np.ndarray) else jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key = jax.random.key(int(rng.integers(2**31)))
        return jax.random.split(key, leaf.shape) if leaf.shape else key
    if jaxprs.is_float(leaf.dtype):
        return rng.normal(size=leaf.shape).astype(leaf.dtype)
    return rng.integers(2, size=leaf.shape).astype(leaf.dtype)


def is_inexact(x: Any) -> bool:
    return jaxprs.is_float(x.dtype)
