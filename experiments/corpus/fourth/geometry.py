"""Shapes: a skeleton's joints, frames from six numbers, a rational curve, melted spheres, a closed surface."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Draw, Rule


def multiply(p, q):
    """Hamilton's product, the real part first."""
    real = p[0] * q[0] - jnp.dot(p[1:], q[1:])
    rest = p[0] * q[1:] + q[0] * p[1:] + jnp.cross(p[1:], q[1:])
    return jnp.concatenate([real[None], rest])


def conjugate(q):
    return q * jnp.array([1, -1, -1, -1], q.dtype)


def pure(v):
    return jnp.pad(v, (1, 0))


def rotate(q, v):
    return multiply(multiply(q, pure(v)), conjugate(q))[1:]


def unit(raw):
    length = jnp.sqrt(jnp.sum(raw * raw))
    return raw / length, length


def pose(raws, bones):
    def joint(carry, at):
        parent, place = carry
        raw, bone = at
        turn, _ = unit(raw)
        frame = multiply(parent, turn)
        place = place + rotate(frame, bone)
        return (frame, place), (place, parent, frame)

    root = jnp.array([1, 0, 0, 0], raws.dtype)
    _, out = lax.scan(joint, (root, jnp.zeros(3, raws.dtype)), (raws, bones))
    return out


@jax.custom_vjp
def skeleton(raws, bones):
    """Where the joints are, from each one's rotation (a quaternion of any length) in its parent's frame."""
    return pose(raws, bones)[0]


def skeleton_fwd(raws, bones):
    places, parents, frames = pose(raws, bones)
    return places, (raws, bones, parents, frames)


def skeleton_bwd(res, g):
    raws, bones, parents, frames = res

    def joint(carry, at):
        dframe, dplace = carry
        raw, bone, parent, frame, grad = at
        dplace = dplace + grad
        dbone = rotate(conjugate(frame), dplace)
        dframe = dframe - 2 * multiply(multiply(pure(dplace), frame), pure(bone))
        turn, length = unit(raw)
        dturn = multiply(conjugate(parent), dframe)
        dparent = multiply(dframe, conjugate(turn))
        dquaternion = (dturn - turn * jnp.dot(turn, dturn)) / length
        return (dparent, dplace), (dquaternion, dbone)

    start = (jnp.zeros(4, g.dtype), jnp.zeros(3, g.dtype))
    _, grads = lax.scan(joint, start, (raws, bones, parents, frames, g), reverse=True)
    return grads


skeleton.defvjp(skeleton_fwd, skeleton_bwd)


def row_unit(a):
    length = jnp.linalg.norm(a, axis=-1, keepdims=True)
    return a / length, length


def row_dot(a, b):
    return jnp.sum(a * b, axis=-1, keepdims=True)


@jax.custom_vjp
def frames_from_six(a, b):
    """Rotation matrices, x, y and z their columns, from two vectors each: Gram and Schmidt's way."""
    x, _ = row_unit(a)
    y, _ = row_unit(b - row_dot(x, b) * x)
    return jnp.stack([x, y, jnp.cross(x, y)], axis=-1)


def frames_from_six_fwd(a, b):
    x, long_a = row_unit(a)
    along = row_dot(x, b)
    y, long_y = row_unit(b - along * x)
    return jnp.stack([x, y, jnp.cross(x, y)], axis=-1), (b, x, y, along, long_a, long_y)


def frames_from_six_bwd(res, g):
    b, x, y, along, long_a, long_y = res
    dx, dy, dz = jnp.unstack(g, axis=-1)
    dx = dx + jnp.cross(y, dz)
    dy = dy + jnp.cross(dz, x)
    drest = (dy - row_dot(y, dy) * y) / long_y
    dalong = -row_dot(drest, x)
    dx = dx - along * drest + dalong * b
    db = drest + dalong * x
    da = (dx - row_dot(x, dx) * x) / long_a
    return da, db


frames_from_six.defvjp(frames_from_six_fwd, frames_from_six_bwd)


def casteljau(control, t, left):
    """Blends neighbours until ``left`` points are left for each t."""
    points = control[:, None, :]
    for _ in range(len(control) - left):
        points = (1 - t)[:, None] * points[:-1] + t[:, None] * points[1:]
    return points


def homogeneous(control, weights):
    return jnp.concatenate([weights[:, None] * control, weights[:, None]], axis=1)


@jax.custom_jvp
def rational_bezier(control, weights, t):
    point = casteljau(homogeneous(control, weights), t, 1)[0]
    return point[:, :-1] / point[:, -1:]


@rational_bezier.defjvp
def rational_bezier_jvp(primals, tangents):
    control, weights, t = primals
    dcontrol, dweights, dt = tangents
    degree = len(control) - 1
    four = homogeneous(control, weights)
    dfour = homogeneous(control, dweights).at[:, :-1].add(weights[:, None] * dcontrol)
    first, second = casteljau(four, t, 2)
    point = casteljau(four, t, 1)[0]
    dpoint = casteljau(dfour, t, 1)[0] + degree * dt[:, None] * (second - first)
    out = point[:, :-1] / point[:, -1:]
    return out, (dpoint[:, :-1] - out * dpoint[:, -1:]) / point[:, -1:]


SHARP = 2.5


def distances(centres, radii, points):
    offsets = points[:, None, :] - centres[None, :, :]
    reach = jnp.sqrt(jnp.sum(offsets**2, axis=-1) + 1e-2)
    return offsets / reach[..., None], reach - radii[None, :]


@jax.custom_jvp
def melted_spheres(centres, radii, points):
    """A signed distance to the smooth union."""
    _, away = distances(centres, radii, points)
    return -jax.nn.logsumexp(-SHARP * away, axis=1) / SHARP


@melted_spheres.defjvp
def melted_spheres_jvp(primals, tangents):
    centres, radii, points = primals
    dcentres, dradii, dpoints = tangents
    normals, away = distances(centres, radii, points)
    share = jax.nn.softmax(-SHARP * away, axis=1)
    moved = dpoints[:, None, :] - dcentres[None, :, :]
    daway = jnp.einsum("psx,psx->ps", normals, moved) - dradii
    return melted_spheres(centres, radii, points), jnp.einsum("ps,ps->p", share, daway)


def surface_loss(vertices, faces, volume):
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    normals = jnp.cross(b - a, c - a)
    area = 0.5 * jnp.sqrt(jnp.sum(normals**2, axis=1) + 1e-4).sum()
    inside = jnp.sum(a * jnp.cross(b, c)) / 6
    return area + 0.5 * (inside - volume) ** 2


def surface_gradient(vertices, faces, volume):
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    normals = jnp.cross(b - a, c - a)
    normals = normals / jnp.sqrt(jnp.sum(normals**2, axis=1, keepdims=True) + 1e-4)
    excess = jnp.sum(a * jnp.cross(b, c)) / 6 - volume
    grad = jnp.zeros_like(vertices)
    for k in range(3):
        after, last = vertices[faces[:, (k + 1) % 3]], vertices[faces[:, (k + 2) % 3]]
        pull = 0.5 * jnp.cross(normals, last - after)
        pull = pull + excess * jnp.cross(after, last) / 6
        grad = grad.at[faces[:, k]].add(pull)
    return grad


def _skeleton(draw: Draw) -> tuple:
    joints = draw.rows(4, 3)
    return draw.normal(joints, 4), draw.normal(joints, 3)


def _six(draw: Draw) -> tuple:
    n = draw.rows(3, 3)
    return draw.normal(n, 3), draw.normal(n, 3)


def _bezier(draw: Draw) -> tuple:
    return draw.normal(5, 2), draw.positive(5), draw.positive(draw.size)


def _spheres(draw: Draw) -> tuple:
    return draw.normal(3, 3), draw.positive(3), draw.normal(draw.rows(3, 5), 3)


def _surface(draw: Draw) -> tuple:
    n = draw.rows(3, 5)
    faces = np.stack([draw.rng.permutation(n)[:3] for _ in range(n + 2)])
    return draw.normal(n, 3), jnp.asarray(faces, jnp.int32), draw.positive()


RULES = (
    Rule("skeleton", skeleton, _skeleton),
    Rule("frames_from_six", frames_from_six, _six),
    Rule("rational_bezier", rational_bezier, _bezier),
    Rule("melted_spheres", melted_spheres, _spheres),
    Rule("surface", surface_gradient, _surface, loss=surface_loss),
)
