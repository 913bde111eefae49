"""Custom rules that people reported as wrong: each function builds one, beside the right one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg, special

from corpus.rule import with_vjp

__all__ = ["RULES", "Reported", "array", "normal"]

Function = Callable[..., Any]
Arguments = Callable[[], tuple]


class Reported(NamedTuple):
    """``wrong`` and ``right`` are the gradient of ``plain`` by hand, ``mistake`` says what is wrong with the first.

    ``kind`` names the function of handprop that judges them at ``args()``, with the keywords in ``options``. ``edge()``
    is the input that shows a mistake which ``args()`` does not, and ``hidden()`` one at which a mistake that ``args()``
    shows is easily missed. Each of ``faulty`` is the text of a line that is a good answer to where the mistake is.
    ``alleged``: ``wrong`` was called so, and is right over the reals.
    """

    name: str
    kind: str
    mistake: str
    plain: Function
    wrong: Function
    right: Function
    args: Arguments
    faulty: tuple[str, ...]
    edge: Arguments | None = None
    hidden: Arguments | None = None
    options: Mapping[str, Any] = {}
    alleged: bool = False


def with_jvp(primal: Function, pushforward: Function) -> Function:
    """A new function with this rule for forward mode."""
    rule = jax.custom_jvp(primal)
    rule.defjvp(pushforward)
    return rule


def normal(seed: int, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """One array of normal entries for each shape."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


def array(*entries: Any) -> jax.Array:
    return jnp.asarray(entries, jnp.float32)


def scaled_sine() -> Reported:
    def plain(phase, height):
        return height * jnp.sin(phase)

    def wrong(primals, tangents):
        (phase, height), (dphase, dheight) = primals, tangents
        along_phase = height * jnp.cos(phase) * dphase
        return plain(phase, height), along_phase - dheight * jnp.sin(phase)

    def right(primals, tangents):
        (phase, height), (dphase, dheight) = primals, tangents
        along_phase = height * jnp.cos(phase) * dphase
        return plain(phase, height), along_phase + dheight * jnp.sin(phase)

    return Reported(
        "scaled_sine", "verify", "the second term of the tangent is subtracted, not added",
        plain, with_jvp(plain, wrong), with_jvp(plain, right),
        args=lambda: (array(1.1, -0.4, 2.6, 0.2), array(0.8, -1.9, 0.6, 1.2)),
        faulty=("return plain(phase, height), along_phase - dheight * jnp.sin(phase)",),
    )  # fmt: skip


def weighted_logsumexp() -> Reported:
    def plain(z, weights):
        largest = lax.stop_gradient(jnp.max(z))
        return jnp.log(weights @ jnp.exp(z - largest)) + largest

    def forward(z, weights):
        total = plain(z, weights)
        return total, (z, weights, total)

    def wrong(residuals, d):
        z, weights, total = residuals
        ratio = jnp.where(weights != 0, jnp.exp(z - total), 0.0)
        return d * weights * ratio, d * ratio

    def right(residuals, d):
        z, weights, total = residuals
        ratio = jnp.exp(z - total)
        return d * weights * ratio, d * ratio

    return Reported(
        "weighted_logsumexp", "verify", "the gradient of a weight that is exactly 0 is set to 0",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (array(-0.3, 1.2, 0.4, -1.0, 0.1), array(0.5, 0.9, 1.4, 0.3, 0.8)),
        edge=lambda: (array(-0.3, 1.2, 0.4, -1.0, 0.1), array(0.5, 0.9, 0.0, 0.3, 0.8)),
        faulty=("ratio = jnp.where(weights != 0, jnp.exp(z - total), 0.0)",),
    )  # fmt: skip


def log_sigmoid() -> Reported:
    def plain(x):
        return jnp.minimum(x, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(x)))

    def forward(x):
        return plain(x), x

    def wrong(x, dy):
        small = jnp.exp(-jnp.abs(x))
        dx = dy * (jnp.where(x < 0, 1.0, 0.0) + jnp.sign(x) * small / (1 + small))
        return (dx,)

    def right(x, dy):
        dx = dy / (1 + jnp.exp(x))
        return (dx,)

    return Reported(
        "log_sigmoid", "verify", "the pieces of the stable form add up to a slope of 0 at 0, where it is 1/2",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (array(-0.6, 1.4, 0.3, -2.2, 0.9),),
        edge=lambda: (array(-0.6, 1.4, 0.0, -2.2, 0.9),),
        faulty=("dx = dy * (jnp.where(x < 0, 1.0, 0.0) + jnp.sign(x) * small / (1 + small))",),
    )  # fmt: skip


def absolute_value() -> Reported:
    def plain(x):
        return jnp.abs(x)

    def wrong(primals, tangents):
        ((x,), (dx,)) = primals, tangents
        return plain(x), jnp.where(x == 0, jnp.abs(dx), jnp.sign(x) * dx)

    def right(primals, tangents):
        ((x,), (dx,)) = primals, tangents
        return plain(x), jnp.sign(x) * dx

    return Reported(
        "absolute_value", "verify", "the derivative in the direction dx is |dx| at 0: not linear in the tangent",
        plain, with_jvp(plain, wrong), with_jvp(plain, right),
        args=lambda: (array(-1.5, 0.7, 2.1, -0.2),),
        edge=lambda: (array(-1.5, 0.0, 2.1, -0.2),),
        faulty=("return plain(x), jnp.where(x == 0, jnp.abs(dx), jnp.sign(x) * dx)",),
    )  # fmt: skip


def token_losses() -> Reported:
    def plain(h, w, ids):
        z = h @ w
        return jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(ids)), ids]

    def forward(h, w, ids):
        dz = jax.nn.softmax(h @ w) - jax.nn.one_hot(ids, w.shape[1])
        return plain(h, w, ids), (h, w, dz)

    def wrong(residuals, dlosses):
        h, w, dz = residuals
        dz = dlosses[0] * dz
        return dz @ w.T, h.T @ dz, None

    def right(residuals, dlosses):
        h, w, dz = residuals
        dz = dlosses[:, None] * dz
        return dz @ w.T, h.T @ dz, None

    return Reported(
        "token_losses", "verify", "the first token's cotangent is used for every token",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (*normal(1, (4, 2), (2, 3)), jnp.array([2, 0, 0, 1])),
        faulty=("dz = dlosses[0] * dz",),
    )  # fmt: skip


def log_softmax() -> Reported:
    def plain(z):
        return z - jax.nn.logsumexp(z, axis=1, keepdims=True)

    def forward(z):
        logp = plain(z)
        return logp, logp

    def wrong(logp, d):
        return (d + jnp.exp(logp),)

    def right(logp, d):
        return (d - d.sum(axis=1, keepdims=True) * jnp.exp(logp),)

    return Reported(
        "log_softmax", "verify", "the probabilities are added, not subtracted, and not multiplied by the sum of d",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(2, (2, 4)),
        faulty=("return (d + jnp.exp(logp),)",),
    )  # fmt: skip


def softmax() -> Reported:
    def plain(z):
        e = jnp.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def forward(z):
        p = plain(z)
        return p, p

    def wrong(p, dp):
        dz = p * (1 - p) * dp
        return (dz,)

    def right(p, dp):
        dz = p * (dp - (p * dp).sum(axis=1, keepdims=True))
        return (dz,)

    return Reported(
        "softmax", "verify", "only the diagonal of the Jacobian, as if it were a sigmoid",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(3, (2, 4)),
        faulty=("dz = p * (1 - p) * dp",),
    )  # fmt: skip


def ctc() -> Reported:
    path = np.array([0, 1, 0, 2, 0])  # the labels 1 and 2, with a blank before, between and after
    never = -1e9

    def prefixes(logp):
        """The log-probability of each place of the path after each frame."""
        reached = [jnp.where(jnp.arange(5) < 2, logp[0], never)]
        for frame in logp[1:]:
            one, two = (jnp.pad(reached[-1], (n, 0), constant_values=never)[:5] for n in (1, 2))
            moved = jnp.logaddexp(reached[-1], one)
            reached.append(frame + jnp.logaddexp(moved, jnp.where(jnp.arange(5) == 3, two, never)))
        return jnp.stack(reached)

    def plain(z):
        at_end = prefixes(jax.nn.log_softmax(z)[:, path])[-1, 3:]
        return -jnp.logaddexp(at_end[0], at_end[1])

    def forward(z):
        logp = jax.nn.log_softmax(z)[:, path]
        before, after = prefixes(logp), prefixes(logp[::-1, ::-1])[::-1, ::-1]
        total = jnp.logaddexp(before[-1, 3], before[-1, 4])
        return -total, (z, jnp.exp(before + after - logp - total))

    def wrong(residuals, d):
        z, visits = residuals
        expected = jnp.zeros_like(z).at[:, path].add(visits)
        return (d * jax.nn.softmax(z) - expected,)

    def right(residuals, d):
        z, visits = residuals
        expected = jnp.zeros_like(z).at[:, path].add(visits)
        return (d * (jax.nn.softmax(z) - expected),)

    return Reported(
        "ctc", "verify", "only the first of two terms is multiplied by the cotangent",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(12, (4, 3)),
        faulty=("return (d * jax.nn.softmax(z) - expected,)",),
    )  # fmt: skip


def saved_gate() -> Reported:
    def plain(x):
        return jax.nn.sigmoid(x) * x

    def wrong_forward(x):
        gate = jax.nn.sigmoid(x)
        return gate * x, (lax.stop_gradient(gate), x)

    def right_forward(x):
        gate = jax.nn.sigmoid(x)
        return gate * x, (gate, x)

    def backward(residuals, dy):
        gate, x = residuals
        return (dy * (gate + x * gate * (1 - gate)),)

    return Reported(
        "saved_gate", "verify", "what forward saves is a constant to the second derivative",
        plain, with_vjp(plain, wrong_forward, backward), with_vjp(plain, right_forward, backward),
        args=lambda: normal(13, (5,)),
        faulty=("return gate * x, (lax.stop_gradient(gate), x)",),
        options={"order": 2},
    )  # fmt: skip


def row_lookup() -> Reported:
    def plain(table, ids):
        return table[ids]

    def forward(table, ids):
        return table[ids], (table, ids)

    def wrong(residuals, drows):
        table, ids = residuals
        dtable = jnp.zeros_like(table).at[ids].set(drows)
        return dtable, None

    def right(residuals, drows):
        table, ids = residuals
        dtable = jnp.zeros_like(table).at[ids].add(drows)
        return dtable, None

    return Reported(
        "row_lookup", "verify", "a row that is looked up twice keeps the last gradient only",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (*normal(14, (5, 2)), jnp.array([3, 1, 1, 4])),
        faulty=("dtable = jnp.zeros_like(table).at[ids].set(drows)",),
    )  # fmt: skip


def running_product() -> Reported:
    def plain(x):
        return jnp.cumprod(x)

    def forward(x):
        return plain(x), x

    def wrong(x, dy):
        later = jnp.cumsum((dy * plain(x))[::-1])[::-1]
        return (later / x,)

    def right(x, dy):
        without_own = jnp.where(jnp.eye(len(x), dtype=bool), 1.0, x[None])
        return (jnp.triu(jnp.cumprod(without_own, axis=1)) @ dy,)

    return Reported(
        "running_product", "verify", "it divides by the input, which may be 0",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (array(1.3, -0.6, 0.9, 1.8, -1.1),),
        edge=lambda: (array(1.3, -0.6, 0.0, 1.8, -1.1),),
        faulty=("return (later / x,)",),
    )  # fmt: skip


def dropout() -> Reported:
    keep = 0.75

    def plain(x, kept):
        return jnp.where(kept, x / keep, 0.0)

    def forward(x, kept):
        return plain(x, kept), kept

    def wrong(kept, dy):
        return dy / keep, None

    def right(kept, dy):
        return dy * kept / keep, None

    def args():
        return *normal(15, (2, 5)), jnp.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 1]], bool)

    def with_floats():
        x, kept = args()
        return x, kept.astype(x.dtype)

    return Reported(
        "dropout", "verify", "backward does not apply the mask",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right), args,
        hidden=with_floats,
        faulty=("return dy / keep, None",),
    )  # fmt: skip


def unit_rows() -> Reported:
    def plain(x):
        return x / jnp.sqrt(jnp.sum(x**2, axis=1, keepdims=True))

    def forward(x):
        length = jnp.sqrt(jnp.sum(x**2, axis=1, keepdims=True))
        unit = x / length
        return unit, (unit, length)

    def wrong(residuals, d):
        unit, length = residuals
        dx = d * (1 - unit) / length
        return (dx,)

    def right(residuals, d):
        unit, length = residuals
        dx = (d - unit * jnp.sum(unit * d, axis=1, keepdims=True)) / length
        return (dx,)

    return Reported(
        "unit_rows", "verify", "a factor for each entry, where a projection belongs",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(18, (2, 5)),
        faulty=("dx = d * (1 - unit) / length",),
    )  # fmt: skip


def sign_of_another() -> Reported:
    def plain(x, y):
        return jnp.abs(x) * jnp.where(y < 0, -1.0, 1.0)

    def forward(x, y):
        return plain(x, y), (x, y)

    def wrong(residuals, d):
        _, y = residuals
        return jnp.sign(y) * d, jnp.zeros_like(y)

    def right(residuals, d):
        x, y = residuals
        return jnp.sign(x) * jnp.where(y < 0, -1.0, 1.0) * d, jnp.zeros_like(y)

    return Reported(
        "sign_of_another", "verify", "the sign of x is left out of the derivative; every test had a positive x",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (array(1.7, -3.0, -0.4, 0.9, 2.2), array(-0.8, 1.5, -2.5, 0.3, 1.0)),
        hidden=lambda: (array(1.7, 3.0, 0.4, 0.9, 2.2), array(-0.8, 1.5, -2.5, 0.3, 1.0)),
        faulty=("return jnp.sign(y) * d, jnp.zeros_like(y)",),
    )  # fmt: skip


def convolution() -> Reported:
    def plain(picture, kernel):
        height, width = (p - k + 1 for p, k in zip(picture.shape, kernel.shape, strict=True))
        places = np.ndindex(*kernel.shape)
        return jnp.stack([kernel[r, c] * picture[r : r + height, c : c + width] for r, c in places]).sum(axis=0)

    def forward(picture, kernel):
        return plain(picture, kernel), (picture, kernel)

    def wrong(residuals, d):
        picture, kernel = residuals
        above = picture.shape[0] - d.shape[0]
        beside = picture.shape[1] - d.shape[0]
        framed = jnp.pad(d, [(above, above), (beside, beside)])
        return plain(framed, jnp.flip(kernel)), plain(picture, d)

    def right(residuals, d):
        picture, kernel = residuals
        above = picture.shape[0] - d.shape[0]
        beside = picture.shape[1] - d.shape[1]
        framed = jnp.pad(d, [(above, above), (beside, beside)])
        return plain(framed, jnp.flip(kernel)), plain(picture, d)

    return Reported(
        "convolution", "verify", "the padding of the width is computed from the height: right if both are equal",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(19, (5, 4), (2, 2)),
        hidden=lambda: normal(19, (4, 4), (2, 2)),
        faulty=("beside = picture.shape[1] - d.shape[0]",),
    )  # fmt: skip


def batch_norm() -> Reported:
    def plain(x):
        return (x - x.mean(axis=0)) / jnp.sqrt(x.var(axis=0) + 1e-3)

    def forward(x):
        return plain(x), (x - x.mean(axis=0), (x.var(axis=0) + 1e-3) ** -0.5)

    def alleged(residuals, dy):
        off, r = residuals
        dvar = jnp.sum(-0.5 * dy * off * r**3, axis=0)
        dmean = jnp.sum(-dy * r, axis=0)
        return (dy * r + (dmean + 2 * off * dvar) / len(off),)

    def right(residuals, dy):
        off, r = residuals
        dvar = jnp.sum(-0.5 * dy * off * r**3, axis=0)
        dmean = jnp.sum(-dy * r - 2 * off * dvar / len(off), axis=0)
        return (dy * r + (dmean + 2 * off * dvar) / len(off),)

    return Reported(
        "batch_norm", "verify", "none: the term said to be missing sums to 0",
        plain, with_vjp(plain, forward, alleged), with_vjp(plain, forward, right),
        args=lambda: normal(21, (4, 2)),
        faulty=("dmean = jnp.sum(-dy * r, axis=0)",),
        alleged=True,
    )  # fmt: skip


def column_maximum() -> Reported:
    def plain(x):
        return jnp.max(x, axis=0)

    def forward(x):
        largest = plain(x)
        return largest, (x, largest)

    def wrong(residuals, d):
        x, largest = residuals
        dx = jnp.where(x == largest, d, 0.0)
        return (dx,)

    def right(residuals, d):
        x, largest = residuals
        ties = jnp.sum(x == largest, axis=0)
        dx = jnp.where(x == largest, d / ties, 0.0)
        return (dx,)

    return Reported(
        "column_maximum", "verify", "each entry that equals the maximum takes the whole gradient, not a share",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: normal(23, (3, 4)),
        edge=lambda: (jnp.full((3, 4), 2.0),),
        faulty=("dx = jnp.where(x == largest, d, 0.0)",),
    )  # fmt: skip


def gelu() -> Reported:
    def plain(x):
        return x * special.erfc(-x / jnp.sqrt(2)) / 2

    def forward(x):
        return plain(x), x

    def alleged(x, dy):
        below = (1 + special.erf(x / jnp.sqrt(2))) / 2
        density = jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi)
        return (dy * (below + x * density),)

    def right(x, dy):
        below = special.erfc(-x / jnp.sqrt(2)) / 2
        density = jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi)
        return (dy * (below + x * density),)

    return Reported(
        "gelu", "verify", "none over the reals: 1 + erf cancels far below 0, and its last bits decide the sign",
        plain, with_vjp(plain, forward, alleged), with_vjp(plain, forward, right),
        args=lambda: (array(-3.9, -4.6, -5.5, -5.8, -6.1),),
        faulty=("below = (1 + special.erf(x / jnp.sqrt(2))) / 2",),
        alleged=True,
    )  # fmt: skip


def cholesky() -> Reported:
    def factor(a):
        return jnp.linalg.cholesky(a)

    def forward(a):
        lower = factor(a)
        return lower, lower

    def unsymmetric(lower, d):
        halved = jnp.tril(lower.T @ d) * (1 - 0.5 * jnp.eye(len(lower)))
        left = linalg.solve_triangular(lower, halved, trans=1, lower=True)
        return linalg.solve_triangular(lower, left.T, trans=1, lower=True).T

    def wrong(lower, d):
        da = unsymmetric(lower, d)
        return (da + da.T,)

    def right(lower, d):
        da = unsymmetric(lower, d)
        return ((da + da.T) / 2,)

    def of_product(factor):
        return lambda x: factor(x @ x.T + 3 * jnp.eye(len(x)))

    return Reported(
        "cholesky", "verify", "the gradient is made symmetric without dividing by 2",
        of_product(factor), *(of_product(with_vjp(factor, forward, backward)) for backward in (wrong, right)),
        args=lambda: normal(24, (3, 3)),
        faulty=("return (da + da.T,)",),
    )  # fmt: skip


def inverse_root_unit() -> Reported:
    bend = 0.8

    def plain(x):
        return x / jnp.sqrt(1 + bend * jnp.minimum(x, 0.0) ** 2)

    def forward(x):
        scale = 1 / jnp.sqrt(1 + bend * jnp.minimum(x, 0.0) ** 2)
        return x * scale, scale

    def wrong(scale, dy):
        return (scale**3,)

    def right(scale, dy):
        return (dy * scale**3,)

    return Reported(
        "inverse_root_unit", "verify", "the slope is returned without the cotangent",
        plain, with_vjp(plain, forward, wrong), with_vjp(plain, forward, right),
        args=lambda: (array(-0.7, 1.6, -2.4, 0.3),),
        faulty=("return (scale**3,)",),
    )  # fmt: skip


RULES = (
    scaled_sine, weighted_logsumexp, log_sigmoid, absolute_value, token_losses, log_softmax, softmax, ctc,
    saved_gate, row_lookup, running_product, dropout, unit_rows, sign_of_another, convolution, batch_norm,
    column_maximum, gelu, cholesky, inverse_root_unit,
)  # fmt: skip
