"""Whether two traces are the same program once every float in them is a float64."""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from jax.extend import core

from handprop.verifier.programs import jaxprs
from handprop.verifier.programs.labels import label_of
from handprop.verifier.programs.primitives import Trait, has

__all__ = ["digest_of", "is_widened"]

ROUNDED = 16  # units in the last place by which a number computed in fewer bits may be off


def is_widened(wide: Any, program: Any) -> bool:
    """Whether ``wide`` is ``program`` with longer floats: the same equations, and the same numbers up to rounding.

    A function that asks for the dtype of its arguments may be traced to another program. JAX's own functions ask too,
    and still count as the same function.
    """
    for one, other in itertools.zip_longest(_steps(wide), _steps(program)):
        if one is None or other is None or one[0] != other[0] or len(one[1]) != len(other[1]):
            return False
        if not all(map(_is_rounded, one[1], other[1])):
            return False
    return True


def _steps(program: Any) -> Iterator[tuple[Any, list[np.ndarray]]]:
    """Yield the name and the shapes of each equation, with the numbers in it; calls to JAX's functions stay closed."""
    for part in jaxprs.outside_of_jax(program):
        yield "constants", [np.asarray(c) for c in part.consts if not jaxprs.is_key(c)]
        for eqn in part.jaxpr.eqns:
            if eqn.primitive.name != "convert_element_type":
                yield (eqn.primitive.name, [getattr(v.aval, "shape", ()) for v in eqn.outvars]), [
                    np.asarray(atom.val, getattr(atom.aval, "dtype", None)) for atom in eqn.invars
                    if isinstance(atom, core.Literal)]  # fmt: skip


def _is_rounded(wide: np.ndarray, number: np.ndarray) -> bool:
    if wide.shape != number.shape:
        return False
    if jaxprs.is_complex(number.dtype):
        return _is_rounded(np.real(wide), np.real(number)) and _is_rounded(np.imag(wide), np.imag(number))
    if not jaxprs.is_float(number.dtype):
        return bool((wide == number).all())
    unit = ROUNDED * float(ml_dtypes.finfo(number.dtype).eps)
    exact, held = (np.asarray(x, np.float64) for x in (wide, number))
    with np.errstate(invalid="ignore"):
        near = np.abs(exact - held) <= unit * np.abs(exact) + float(ml_dtypes.finfo(number.dtype).tiny)
    return bool((near | (exact == held) | (np.isnan(exact) & np.isnan(held))).all())


def digest_of(program: Any) -> str:
    """Return a digest of what :func:`widen.widen` makes of the program.

    Another trace has the same digest if only the widths of floats, and casts between them, differ.
    """
    parts: list[str] = []
    _read(program, [f"in {i}" for i in range(len(program.jaxpr.invars))], parts)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(program: Any, inputs: list[str], parts: list[str]) -> list[str]:
    """Append a line for each equation, and return the names of the outputs."""
    names = dict(zip(program.jaxpr.invars, inputs, strict=True))
    names |= {v: _number(c) for v, c in zip(program.jaxpr.constvars, program.consts, strict=True)}

    def name_of(atom: Any) -> str:
        return (
            _number(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))
            if isinstance(atom, core.Literal)
            else names[atom]
        )

    for eqn in program.jaxpr.eqns:
        operands = [name_of(atom) for atom in eqn.invars]
        if _changes_width(eqn):
            names[eqn.outvars[0]] = operands[0]
            continue
        own = has(eqn, Trait.OWN_DTYPE)
        bodies = [] if own else list(jaxprs.inner(eqn))
        outputs = [f"{len(parts)} {i}" for i in range(len(eqn.outvars))]
        parts.append(f"{eqn.primitive.name} {operands} {_params(eqn, bool(bodies), own)} {_types(eqn, own)}")
        for body in bodies:
            inside = [f"of {len(parts)} {i}" for i in range(len(body.jaxpr.invars))]
            parts.append(f"{inside} {[_type(v.aval) for v in body.jaxpr.invars]}")
            parts.append(f"end {_read(body, inside, parts)}")
        names.update(zip(eqn.outvars, outputs, strict=True))
    return [name_of(atom) for atom in program.jaxpr.outvars]


def _number(array: Any) -> str:
    if not hasattr(array, "dtype") or not jaxprs.is_float(array.dtype):
        return label_of({"number": array})
    return label_of({"number": np.asarray(jaxprs.as_written(array))})


def _changes_width(eqn: Any) -> bool:
    kinds = [jaxprs.is_float(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars) if hasattr(v.aval, "dtype")]
    return eqn.primitive.name == "convert_element_type" and all(kinds)


def _params(eqn: Any, calls: bool, own: bool) -> str:
    """Return the parameters of an equation; programs among them are left out, because they are read separately."""
    held = {k: v for k, v in eqn.params.items() if not (calls and (callable(v) or hasattr(v, "eqns") or _programs(v)))}
    text = label_of(held)
    return text if own else text.replace("float32", "float64")


def _programs(value: Any) -> bool:
    return hasattr(value, "jaxpr") or (isinstance(value, tuple) and any(hasattr(v, "jaxpr") for v in value))


def _types(eqn: Any, own: bool) -> list[str]:
    return [str(v.aval) if own else _type(v.aval) for v in (*eqn.invars, *eqn.outvars)]


def _type(aval: Any) -> str:
    dtype = getattr(aval, "dtype", None)
    return f"{'float' if dtype is not None and jaxprs.is_float(dtype) else dtype}{getattr(aval, 'shape', ())}"
