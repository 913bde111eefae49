"""Read the values of a report from plain ones and check the type of each field."""

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

from handprop.verifier.report import encoding
from handprop.verifier.report.values import names_of

__all__ = ["read"]

PLAIN = {float: (float, int, complex)}  # a field annotated as float may hold any number


def read(packed: Any, kind: Any) -> Any:
    """Return the packed value as one of type ``kind``: a dataclass, enum member, sequence, mapping or plain value.

    Raises:
        ValueError: the value is not of this type.

    >>> read(("a", "b"), tuple[str, ...]), read(None, int | None)
    (('a', 'b'), None)
    >>> read("a", float)
    Traceback (most recent call last):
    ValueError: 'a' is not of type float or int or complex
    """
    if dataclasses.is_dataclass(kind):
        return _dataclass(packed, kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(packed, kind)
    if isinstance(kind, types.UnionType):
        return _one_of(packed, typing.get_args(kind))
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _sequence(packed, typing.get_args(kind))
    if origin is Mapping:
        _, of = typing.get_args(kind)
        return {key: held if of is Any else read(held, of) for key, held in _is(packed, encoding.Values).items()}
    return _is(packed, *PLAIN.get(kind, (kind,)))


def _dataclass(packed: Any, kind: Any) -> Any:
    names = names_of(kind)
    if not isinstance(packed, Mapping) or set(packed) != set(names):
        has = ", ".join(packed) if isinstance(packed, Mapping) else type(packed).__name__
        raise ValueError(f"a {kind.__name__} has the fields {', '.join(names)}, not {has}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: read(packed[name], hints[name]) for name in names})


def _one_of(packed: Any, kinds: tuple[Any, ...]) -> Any:
    if packed is None and type(None) in kinds:
        return None
    (other,) = (kind for kind in kinds if kind is not type(None))
    return read(packed, other)


def _sequence(packed: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    items = _is(packed, tuple)
    if kinds[-1] is Ellipsis:
        return tuple(read(item, kinds[0]) for item in items)
    if len(items) != len(kinds):
        raise ValueError(f"a sequence has {len(items)} entries, not {len(kinds)}")
    return tuple(read(item, kind) for item, kind in zip(items, kinds, strict=True))


def _is(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{str(value)[:60]!r} is not of type {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _member(name: Any, kind: type[enum.Enum]) -> Any:
    if name not in kind.__members__:
        raise ValueError(f"{str(name)[:60]!r} is not one of {', '.join(kind.__members__)}")
    return kind[name]
