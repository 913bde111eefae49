"""Calls of the rules of jax-md: boxes and fractional coordinates, rotations, safe roots and angles, segments."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, uniform

__all__ = ["CALLS"]

_TRANSFORM = "jax_md.space.transform"
_ROTATE = "jax_md.rigid_body._quaternion_rotate"
_SQRT = "jax_md.mm_forcefields.reaxff.reaxff_helper.safe_sqrt"
_ACOS = "jax_md._nn.uma.common.rotation.safe_acos"
_ATAN2 = "jax_md._nn.uma.common.rotation.safe_atan2"
_SEGMENT = "jax_md._nn.uma.kernels._segment_mm_2d"
_GRADIENTS = "jax_md._energy.electrostatics.transform_gradients"

_HELD_UP = "jax_md/_nn/uma/common/rotation.py:64: near the origin the denominator is held up"
_REAL_SPACE = (
    "jax_md/space.py:169: the tangent of the positions passes through without the box, so that gradients with respect "
    "to fractional coordinates are forces in real space"
)
_PROJECTED = (
    "jax_md/rigid_body.py:159: the cotangent of the quaternion is projected onto the tangents of the unit sphere, "
    "while the value changes with the quaternion's length"
)
_CLAMPED = "jax_md/_nn/uma/common/rotation.py:42: the slope at the ends is that of an argument clamped inside them"


def _box() -> tuple:
    return draw(1, 3, 3) * 0.1 + floats(2, 0, 0, 0.3, 1.7, 0, 0, 0.2, 1.9).reshape(3, 3)


def _transform(*args) -> tuple[Callable, tuple]:
    from jax_md import space

    return space.transform, args


def _displacement(fractional: bool, box, *args) -> tuple[Callable, tuple]:
    from jax_md import space

    return space.periodic_general(box, fractional_coordinates=fractional)[0], args


def _deformed(box, *args) -> tuple[Callable, tuple]:
    from jax_md import space

    displacement = space.periodic_general(_box())[0]
    return lambda box, a, b: displacement(a, b, box=box), (box, *args)


def _shift(fractional: bool) -> tuple[Callable, tuple]:
    from jax_md import space

    return space.periodic_general(_box(), fractional)[1], (uniform(2, 0.1, 0.9, 4, 3), 0.01 * draw(3, 4, 3))


def _energy(fractional: bool) -> tuple[Callable, tuple]:
    from jax_md import energy, space

    displacement = space.periodic_general(_box(), fractional)[0]
    return energy.soft_sphere_pair(displacement, sigma=1.3), (uniform(4, 0.05, 0.95, 5, 3),)


def _rotate(quaternions, vectors) -> tuple[Callable, tuple]:
    from jax_md import rigid_body

    return rigid_body.quaternion_rotate, (rigid_body.Quaternion(quaternions), vectors)


def _body_points() -> tuple[Callable, tuple]:
    from jax_md import rigid_body

    shape = rigid_body.tetrahedron
    quaternion = rigid_body.Quaternion(_unit(5, 4))
    return lambda centre: rigid_body.transform(rigid_body.RigidBody(centre, quaternion), shape), (draw(6, 3),)


def _unit(seed: int, *shape: int):
    import jax.numpy as jnp

    vector = draw(seed, *shape)
    return vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)


def _gradients(*args) -> tuple[Callable, tuple]:
    from jax_md._energy.electrostatics import transform_gradients

    return transform_gradients, args


def _handler_gradients(*args) -> tuple[Callable, tuple]:
    from jax_md.mm_forcefields.nonbonded.electrostatics import transform_gradients

    return transform_gradients, args


def _sqrt(x) -> tuple[Callable, tuple]:
    from jax_md.mm_forcefields.reaxff.reaxff_helper import safe_sqrt

    return safe_sqrt, (x,)


def _rotation(name: str, *args) -> tuple[Callable, tuple]:
    from jax_md._nn.uma.common import rotation

    return getattr(rotation, name), args


def _segments(*sizes: int) -> tuple[Callable, tuple]:
    import jax.numpy as jnp
    from jax_md._nn.uma.kernels import _segment_mm_2d

    return _segment_mm_2d, (draw(7, 9, 4), draw(8, len(sizes), 5, 4), jnp.asarray(sizes))


def _call(rule: str, make: Callable, *rest, mode: str = "jvp", **more) -> Call:
    return Call("jax-md", rule, make, *rest, mode=mode, **more)


CALLS = (
    _call(_TRANSFORM, lambda: _transform(_box(), draw(2, 5, 3)), "wrong", "other", why=_REAL_SPACE),
    _call(_TRANSFORM, lambda: _transform(_box(), draw(2, 5, 3)), argnums=(0,)),
    _call(_TRANSFORM, lambda: _transform(uniform(3, 1.5, 2.5, 3), draw(2, 3)), argnums=(0,)),
    _call(
        _TRANSFORM,
        lambda: _transform(uniform(3, 1.5, 2.5, 2), draw(2, 4, 2)),
        "wrong",
        "other",
        argnums=(1,),
        why=_REAL_SPACE,
    ),
    _call(_TRANSFORM, lambda: _displacement(False, _box(), uniform(4, 0.1, 1.5, 3), uniform(5, 0.1, 1.5, 3))),
    _call(
        _TRANSFORM,
        lambda: _displacement(True, _box(), uniform(4, 0.1, 0.9, 3), uniform(5, 0.1, 0.9, 3)),
        "wrong",
        "other",
        why=_REAL_SPACE,
    ),
    _call(_TRANSFORM, lambda: _deformed(_box(), uniform(4, 0.1, 0.9, 3), uniform(5, 0.1, 0.9, 3)), argnums=(0,)),
    _call(_TRANSFORM, lambda: _shift(False)),
    _call(_TRANSFORM, lambda: _shift(True), "wrong", "other", why=_REAL_SPACE),
    _call(_TRANSFORM, lambda: _energy(False)),
    _call(_TRANSFORM, lambda: _energy(True), "wrong", "other", why=_REAL_SPACE),
    _call(_ROTATE, lambda: _rotate(_unit(6, 4), draw(7, 3)), "wrong", "other", mode="vjp", why=_PROJECTED),
    _call(_ROTATE, lambda: _rotate(_unit(6, 5, 4), draw(7, 5, 3)), mode="vjp", argnums=(1,)),
    _call(_ROTATE, lambda: _body_points(), mode="vjp"),
    _call(
        _GRADIENTS,
        lambda: _gradients(_box(), draw(8, 4, 3)),
        "wrong",
        "other",
        why="jax_md/_energy/electrostatics.py:376: the value is the coordinates alone, and the tangent is that of "
        "the box applied to them",
    ),
    _call(
        "jax_md.mm_forcefields.nonbonded.electrostatics.transform_gradients",
        lambda: _handler_gradients(uniform(3, 1.5, 2.5, 3), draw(8, 4, 3)),
        "wrong",
        "other",
        why="jax_md/mm_forcefields/nonbonded/electrostatics.py:331: the value is the coordinates alone, and the "
        "tangent is that of the box applied to them",
    ),
    _call(_SQRT, lambda: _sqrt(uniform(9, 0.2, 3.0, 6))),
    _call(
        _SQRT,
        lambda: _sqrt(floats(0, 0.7, 0)),
        "wrong",
        "masked",
        why="jax_md/mm_forcefields/reaxff/reaxff_helper.py:28: the slope at 0, which is infinite, is given as 0",
    ),
    _call(_ACOS, lambda: _rotation("safe_acos", uniform(10, -0.9, 0.9, 5))),
    _call(_ACOS, lambda: _rotation("safe_acos", floats(1, -1, 0.3)), "wrong", "clipped", why=_CLAMPED),
    _call(
        _ATAN2,
        lambda: _rotation("safe_atan2", draw(11, 2, 3), draw(12, 2, 3)),
        "right here",
        "clipped",
        why=_HELD_UP,
    ),
    _call(
        _ATAN2,
        lambda: _rotation("safe_atan2", floats(0.4, 1e-8), floats(-0.3, 1e-8)),
        "wrong",
        "clipped",
        float64=True,
        why=_HELD_UP,
    ),
    _call(_SEGMENT, lambda: _segments(4, 3, 2), mode="vjp"),
    _call(_SEGMENT, lambda: _segments(3, 0, 4), mode="vjp"),
    _call(_SEGMENT, lambda: _segments(9), mode="vjp"),
)
