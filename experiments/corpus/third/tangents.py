"""Forward rules: a camera, a turned frame, the mean place of a heat map."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from corpus.rule import Draw, Rule


class Camera(NamedTuple):
    focal: jax.Array
    centre: jax.Array


def depth_of(points):
    return jnp.sqrt(jnp.square(points[:, 2:]) + 0.5)


@jax.custom_jvp
def project_points(camera, points):
    return camera.focal * points[:, :2] / depth_of(points) + camera.centre


@project_points.defjvp
def project_points_jvp(primals, tangents):
    camera, points = primals
    dcamera, dpoints = tangents
    depth = depth_of(points)
    ddepth = points[:, 2:] * dpoints[:, 2:] / depth
    ray = points[:, :2] / depth
    dray = (dpoints[:, :2] - ray * ddepth) / depth
    out = camera.focal * ray + camera.centre
    return out, dcamera.focal * ray + camera.focal * dray + dcamera.centre


def cross(a, b):
    return jnp.cross(a, b, axis=-1)


def turn(quaternion, vectors):
    scalar, axis = quaternion["scalar"], quaternion["axis"]
    return vectors + 2 * scalar * cross(axis, vectors) + 2 * cross(axis, cross(axis, vectors))


@jax.custom_jvp
def rotate_vectors(quaternion, vectors):
    return turn(quaternion, vectors)


@rotate_vectors.defjvp
def rotate_vectors_jvp(primals, tangents):
    quaternion, vectors = primals
    dquaternion, dvectors = tangents
    scalar, axis = quaternion["scalar"], quaternion["axis"]
    dscalar, daxis = dquaternion["scalar"], dquaternion["axis"]
    first = cross(axis, vectors)
    dfirst = cross(daxis, vectors)
    tangent = (
        turn(quaternion, dvectors)
        + 2 * dscalar * first
        + 2 * scalar * dfirst
        + 2 * cross(daxis, first)
        + 2 * cross(axis, dfirst)
    )
    return turn(quaternion, vectors), tangent


def heat(logits, temperature):
    flat = logits.reshape(logits.shape[0], -1) / temperature
    return jax.nn.softmax(flat, axis=-1)


def places(logits):
    rows, columns = jnp.meshgrid(*(jnp.arange(n) for n in logits.shape[1:]), indexing="ij")
    return jnp.stack([rows.ravel(), columns.ravel()], axis=-1).astype(logits.dtype)


@jax.custom_jvp
def soft_argmax(logits, temperature):
    return jnp.einsum("np,pc->nc", heat(logits, temperature), places(logits))


@soft_argmax.defjvp
def soft_argmax_jvp(primals, tangents):
    logits, temperature = primals
    dlogits, dtemperature = tangents
    weights = heat(logits, temperature)
    at = places(logits)
    mean = jnp.einsum("np,pc->nc", weights, at)
    flat = logits.reshape(logits.shape[0], -1)
    dflat = dlogits.reshape(flat.shape) - flat * dtemperature / temperature
    dweights = weights * dflat / temperature
    total = dweights.sum(axis=-1, keepdims=True)
    return mean, jnp.einsum("np,pc->nc", dweights, at) - total * mean


def _scene(draw: Draw) -> tuple:
    return Camera(draw.positive(2), draw.normal(2)), draw.normal(draw.rows(3, 7), 3)


def _frame(draw: Draw) -> tuple:
    return {"scalar": draw.normal(), "axis": draw.normal(3)}, draw.normal(draw.rows(3, 7), 3)


def _maps(draw: Draw) -> tuple:
    return draw.normal(draw.rows(15, 2), 5, 3), draw.positive()


RULES = (
    Rule("project_points", project_points, _scene),
    Rule("rotate_vectors", rotate_vectors, _frame),
    Rule("soft_argmax", soft_argmax, _maps),
)
