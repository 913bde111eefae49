"""What is right at the given shapes alone: sizes that coincide, and sizes that stand in the code as numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop as v
from handprop.verifier.checks.resized import at_other_sizes
from handprop.verifier.from_functions import of_pair

SKIP = ("rounding", "finite_differences", "transformations", "edge_cases", "repair")


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32)


def rows_weighted(x):
    """Rows weighted by their own number."""
    return jnp.sum(jnp.sin(x) * jnp.arange(x.shape[0], dtype=x.dtype)[:, None])


def of_columns(x):
    return jnp.cos(x) * jnp.arange(x.shape[1], dtype=x.dtype)[:, None]


def of_rows(x):
    return jnp.cos(x) * jnp.arange(x.shape[0], dtype=x.dtype)[:, None]


def check_of(report):
    return report.check("other_sizes")


@pytest.mark.parametrize(("by_hand", "shape"), [
    (lambda x: jnp.cos(x) / x.shape[1] / x.shape[1], (4, 4)),  # which is the number of entries of a square
    (lambda x: jnp.cos(x) / 12, (3, 4)),
])  # fmt: skip
def test_a_rule_for_one_size_is_proved_for_sizes_as_given(by_hand, shape):
    report = v.verify_gradient(by_hand, lambda x: jnp.mean(jnp.sin(x)), numbers(*shape), skip=SKIP)
    assert report.verdict is v.Verdict.PROVED
    assert report.conditions == ("sizes are as given",)
    assert "it is wrong: gradient[" in report.findings[0]


def test_a_program_that_fails_at_other_sizes_says_so():
    report = v.verify_gradient(of_columns, rows_weighted, numbers(3, 3), skip=SKIP)
    assert report.verdict is v.Verdict.PROVED
    assert report.conditions == ()
    assert "at other sizes (x 4x5) the program by hand fails" in report.findings[0]


def test_a_shape_that_coincides():
    rule = jax.custom_vjp(lambda x: x @ x.T)
    rule.defvjp(lambda x: (x @ x.T, x), lambda x, dy: (dy.T @ x + dy @ x,))
    assert (
        check_of(v.verify(rule, numbers(3, 3), skip=SKIP)).summary == "it holds with x 4x5, cotangent of value 4x4 too"
    )


@pytest.mark.parametrize(("f", "g", "args"), [
    (of_rows, jax.grad(rows_weighted), (numbers(3, 3),)),
    (lambda x, w: x + jnp.tanh(x @ w), lambda x, w: jnp.tanh(jnp.einsum("ij,jk->ik", x, w)) + x,
     (numbers(3, 3), numbers(3, 3))),
    (lambda x: x[:2] + x[2:], lambda x: x[2:] + x[:2], (numbers(4),)),
])  # fmt: skip
def test_what_is_right_at_other_sizes_has_no_condition(f, g, args):
    report = v.equivalent(f, g, *args, skip=SKIP)
    assert report.verdict is v.Verdict.PROVED
    assert report.conditions == ()
    assert check_of(report).outcome in (v.Outcome.HOLDS, v.Outcome.SKIPPED)


def recurrent(w, u, xs):
    def step(h, x):
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return jax.lax.scan(step, jnp.zeros(u.shape[0]), xs)[1]


def branching(x, y):
    return jax.lax.cond(x[0] > 0, lambda: x + y, lambda: x - y)


def looped(x, w):
    return jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ w), x)


@pytest.mark.parametrize(("f", "args", "shapes"), [
    (lambda x, w, b: x @ w + b[None], (numbers(3, 3), numbers(3, 3), numbers(3)), [(4, 5), (5, 6), (6,)]),
    (recurrent, (numbers(3, 3), numbers(3, 3), numbers(3, 3)), [(4, 5), (5, 5), (6, 4)]),
    (branching, (numbers(3), numbers(3)), [(4,), (4,)]),
    (looped, (numbers(2, 2), numbers(2, 2)), [(4, 3), (3, 3)]),
    (lambda x: jnp.transpose(x, (2, 0, 1)).reshape(2, -1).sum(0), (numbers(2, 2, 2),), [(3, 4, 2)]),
    (lambda x: x.reshape(-1, 3), (numbers(3, 3),), None),
    (lambda x, y: (x * numbers(3))[None] + y, (numbers(3), numbers(2, 3)), [(3,), (4, 3)]),
    (lambda x, k: jax.vmap(lambda row: row[k])(x), (numbers(3, 3), jnp.array([0, 2, 1])), [(4, 4), (4,)]),
    (lambda x: x.max(), (numbers(1),), [(2,)]),
    (lambda x, s: x * s[0, 0], (numbers(3), numbers(1, 1)), [(4,), (2, 3)]),
    (lambda x, s: x * s, (numbers(2, 3), numbers(1, 1)), [(3, 4), (1, 1)]),
    (lambda x: x * 2, (jnp.float32(1.0),), None),
])  # fmt: skip
def test_axes_that_an_equation_ties_keep_one_size(f, args, shapes):
    found = at_other_sizes(of_pair(f, f, args, np.random.default_rng(0)))
    if shapes is None:
        assert found is None
        return
    changed = [tuple(x.shape) for x in found.inputs]
    naming = dict(zip([n for s in shapes for n in s], [n for s in changed for n in s], strict=True))
    assert [tuple(naming[n] for n in s) for s in shapes] == changed  # the same axes share a size
    assert len(set(naming.values())) == len(naming)  # and no others


LABELS = jnp.eye(3)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("hand", "loss", "args", "domain"), [
    (lambda z, y: (jax.nn.softmax(z) - y) / z.shape[1], lambda z, y: -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), -1)),
     (numbers(3, 3), LABELS), domain)
    for domain in (None, {"y": v.domains.one_hot()})
] + [
    (lambda w, x: 2 * w * jnp.sum(x * x, 0), lambda w, x: jnp.mean(jnp.sum((w[None] * x) ** 2, -1)),
     (numbers(3), numbers(1, 3)), None),  # the mean is forgotten
])  # fmt: skip
def test_sizes_of_labels_and_a_batch_of_one_are_changed_too(hand, loss, args, domain):
    report = v.verify_gradient(hand, loss, *args, skip=[name for name in SKIP if name != "rounding"], domain=domain)
    assert report.verdict is v.Verdict.PROVED
    assert "sizes are as given" in report.conditions


def rows_of(indptr, count):
    return jnp.searchsorted(indptr, jnp.arange(count), side="right") - 1


def test_pointers_of_rows_stay_pointers():
    """They end at the number of entries: at another number they would be nonsense, at another number of rows not."""

    @jax.custom_vjp
    def product(data, columns, indptr, x):
        return jax.ops.segment_sum(data * x[columns], rows_of(indptr, data.shape[0]), indptr.shape[0] - 1)

    def bwd(saved, dy):
        data, columns, indptr, x = saved
        by_entry = dy[rows_of(indptr, data.shape[0])]
        return by_entry * x[columns], None, None, jnp.zeros_like(x).at[columns].add(by_entry * data)

    product.defvjp(lambda *args: (product(*args), args), bwd)
    report = v.verify(product, numbers(5), jnp.array([0, 2, 1, 0, 3]), jnp.array([0, 2, 3, 5]), numbers(4), skip=SKIP)
    assert report.verdict is v.Verdict.PROVED
    assert check_of(report).summary == "it holds with indptr 6, x 7, cotangent of value 5 too"
    assert report.findings == ()
