"""Calls of the rules of brax: the inverse cosine and sine with a slope that stays finite at the ends."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, uniform

__all__ = ["CALLS"]

_ARCCOS = "brax.math.safe_arccos"
_ARCSIN = "brax.math.safe_arcsin"

_CLIPPED = "brax/math.py:{}: the slope at the ends, which is infinite, is that of an argument clipped inside them"


def _math(name: str, *args) -> tuple[Callable, tuple]:
    from brax import math

    return getattr(math, name), args


def _call(rule: str, make: Callable, *rest, **more) -> Call:
    return Call("brax", rule, make, *rest, mode="jvp", **more)


CALLS = (
    _call(_ARCCOS, lambda: _math("safe_arccos", uniform(1, -0.95, 0.95, 6))),
    _call(_ARCCOS, lambda: _math("safe_arccos", floats(0.2, 1.0, -1.0)), "wrong", "clipped", why=_CLIPPED.format(205)),
    _call(_ARCSIN, lambda: _math("safe_arcsin", uniform(2, -0.95, 0.95, 2, 3))),
    _call(_ARCSIN, lambda: _math("safe_arcsin", floats(1.0)), "wrong", "clipped", why=_CLIPPED.format(220)),
    _call(_ARCSIN, lambda: _math("quat_to_euler", draw(3, 4) / 3)),
)
