"""Entries and verdicts over rules written by hand, right ones and mutants of them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
import handprop as v

sys.path.insert(0, str(Path(__file__).parents[1]))
import cases

RNG = np.random.default_rng(0)
FLOATS = ("finite_differences", "transformations", "edge_cases")  # tests of their own look at these


def normal(*shape, dtype=np.float32):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def rule(primal, backward):
    """A custom_vjp whose residuals are its arguments."""
    made = jax.custom_vjp(primal)
    made.defvjp(lambda *args: (primal(*args), args), lambda args, *ct: backward(*args, *ct))
    return made


def norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def norm_back(x, dy):
    centred = x - x.mean(-1, keepdims=True)
    r = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    h = centred * r
    return (r * (dy - dy.mean(-1, keepdims=True) - h * (dy * h).mean(-1, keepdims=True)),)


def attention(q, k, value):
    return jax.nn.softmax(q @ k.T / 7**0.5, -1) @ value


def attention_back(q, k, value, do):
    e = jnp.exp(q @ k.T / 7**0.5)
    p = e / e.sum(-1, keepdims=True)
    dp = do @ value.T
    ds = p * (dp - (do * (p @ value)).sum(-1, keepdims=True)) / 7**0.5
    return ds @ k, ds.T @ q, p.T @ do


def gru(h, xs, w):
    return jax.lax.scan(lambda h, x: (jnp.tanh(h * w + x), None), h, xs)[0]


def gru_back(h, xs, w, dh):
    last, before = jax.lax.scan(lambda h, x: (jnp.tanh(h * w + x), h), h, xs)
    after = jnp.concatenate([before[1:], last[None]])

    def step(carry, at):
        dh, dw = carry
        was, now = at
        dz = dh * (1 - now * now)
        return (dz * w, dw + dz * was), dz

    (dh, dw), dxs = jax.lax.scan(step, (dh, jnp.zeros_like(w)), (before, after), reverse=True)
    return dh, dxs, dw


RIGHT = {
    "sigmoid": (jax.nn.sigmoid, lambda x, d: (d * jax.nn.sigmoid(x) * jax.nn.sigmoid(-x),), (normal(7),)),
    "dense": (lambda x, w, b: x @ w + b[None], lambda x, w, b, d: (d @ w.T, x.T @ d, d.sum(0)),
              (normal(5, 3), normal(3, 2), normal(2))),
    "softmax": (lambda x: jax.nn.softmax(x, -1), lambda x, d: (lambda p: (p * (d - (p * d).sum(-1, keepdims=True)),))(
        jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)), (normal(3, 5),)),
    "layer norm": (norm, norm_back, (normal(3, 5),)),
    "attention": (attention, attention_back, (normal(3, 7), normal(5, 7), normal(5, 2))),
    "scan": (gru, gru_back, (normal(3), normal(5, 3), normal(3))),
    "embedding": (lambda t: t[jnp.array([2, 0, 2])], lambda t, d: (jnp.zeros_like(t).at[jnp.array([2, 0, 2])].add(d),),
                  (normal(3, 2),)),
    "relu": (lambda x: jnp.maximum(x, 0), lambda x, d: (jnp.where(x > 0, d, 0),), (normal(6),)),
    "convolution": (lambda x, w: jnp.convolve(x, w, "valid"),
                    lambda x, w, d: (jnp.convolve(d, w[::-1], "full"), jnp.convolve(x, d[::-1], "valid")[::-1]),
                    (normal(7), normal(3))),
    "gelu": (lambda x: jax.nn.gelu(x), lambda x, d: ((lambda c, t: d * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (
        1 + 0.134145 * x * x)))(np.float32((2 / np.pi) ** 0.5), jnp.tanh(np.float32((2 / np.pi) ** 0.5) * (
            x + 0.044715 * x**3))),), (normal(6),)),
    "cross entropy": (lambda z: -jax.nn.log_softmax(z)[1],
                      lambda z, d: (d * (jax.nn.softmax(z) - jnp.eye(5, dtype=z.dtype)[1]),),
                      (normal(5),)),
    "rotation": (lambda x, t: x[0] * jnp.cos(t) - x[1] * jnp.sin(t),
                 lambda x, t, d: (jnp.stack([d * jnp.cos(t), -d * jnp.sin(t)]),
                                  -d * (x[0] * jnp.sin(t) + x[1] * jnp.cos(t))),
                 (normal(2), normal())),
    "norm": (lambda x: jnp.linalg.norm(x), lambda x, d: (d * x / jnp.sqrt(x @ x),), (normal(5),)),
}  # fmt: skip


@pytest.mark.thinned(4)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_are_proved_or_verified(name, dtype):
    primal, backward, args = RIGHT[name]
    with jax.enable_x64(dtype == "float64"):
        args = tuple(jnp.asarray(a, dtype) for a in args)
        if name == "gelu" and dtype != "float32":
            pytest.skip("its constants are written as float32")
        report = v.verify(rule(primal, backward), *args, skip=FLOATS if dtype != "float32" else ())
    assert report.ok, report
    if dtype == "float32":
        assert report.verdict is v.Verdict.PROVED, report


def test_wrong_only_where_negative():
    wrong = rule(lambda x: x**3, lambda x, d: (d * jnp.where(x > -1, 3 * x * x, 2.9 * x * x),))
    assert v.verify(wrong, normal(40), skip="repair").verdict is v.Verdict.REFUTED


def test_a_wrong_primal_in_fwd():
    wrong = jax.custom_vjp(lambda x: x * x)
    wrong.defvjp(lambda x: (x * x + 1, x), lambda x, d: (2 * d * x,))
    report = v.verify(wrong, normal(3))
    assert report.verdict is v.Verdict.REFUTED
    assert report.counterexample is not None
    assert report.counterexample.worst.path == "value"


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (lambda x, d: (2 * d * x).astype(jnp.bfloat16), "is bfloat16[3], but its argument is float32[3]"),
        (lambda x, d: (2 * d * x)[:2], "is float32[2], but its argument is float32[3]"),
        (lambda x, d: (2 * d * x, d), "has the tree"),
    ],
)
def test_structural_faults_are_said(backward, says):
    wrong = jax.custom_vjp(lambda x: x * x)
    wrong.defvjp(lambda x: (x * x, x), lambda x, d: (backward(x, d),))
    report = v.verify(wrong, normal(3))
    assert report.verdict is v.Verdict.REFUTED
    assert says in report.reason, report.reason


def square_tree(tree, n, key, scale):
    return {"out": tree["x"] ** 2 * scale, "n": n}


def test_trees_integers_keys_and_keywords():
    good = jax.custom_vjp(square_tree)
    good.defvjp(
        lambda tree, n, key, scale: (square_tree(tree, n, key, scale=scale), (tree, scale)),
        lambda res, d: [{"x": 2 * res[0]["x"] * d["out"] * res[1], "none": None}, None, None,
                        (res[0]["x"] ** 2 * d["out"]).sum()],
    )  # fmt: skip
    args = ({"x": normal(3), "none": None}, jnp.arange(2), jax.random.key(0))
    report = v.verify(good, *args, kwargs={"scale": jnp.float32(2.0)}, skip=("identical", "proof"))
    assert report.ok, report
    assert "dtree['x']" in report.sensitivity


def test_rules_inside_a_function_and_shapes_for_arguments():
    cube = rule(lambda x: x**3, lambda x, d: (3 * x * x * d,))
    wrong = rule(lambda x: x**3, lambda x, d: (3 * x * d,))

    def deep(f, x):
        step = jax.checkpoint(lambda c, u: (c + jax.vmap(f)(u), None))
        return jax.lax.scan(step, jnp.zeros(2), x)[0]

    spec = jax.ShapeDtypeStruct((3, 2), jnp.float32)
    assert v.verify(lambda x: deep(cube, x), spec, key=3).verdict is v.Verdict.PROVED
    assert v.verify(lambda x: deep(wrong, x), spec, key=3, skip="repair").verdict is v.Verdict.REFUTED


def test_a_leaf_that_nothing_exercises_is_a_condition():
    idle = rule(lambda x, y: x * x, lambda x, y, d: (2 * x * d, jnp.zeros_like(y)))
    report = v.verify(idle, normal(3), normal(3), skip=("proof", "identical"))
    assert report.verdict is v.Verdict.VERIFIED
    assert "dy is 0, as it is at every sample" in report.conditions


def test_same_seed_same_report():
    cube = rule(lambda x: x**3, lambda x, d: (3.1 * x * x * d,))
    x = normal(4)
    assert v.verify(cube, x, key=5) == v.verify(cube, x, key=5)
    assert v.verify(cube, x, key=5).counterexample != v.verify(cube, x, key=6).counterexample


def test_audit_finds_rules_under_grad_jit_and_scan():
    cube = rule(lambda x: x**3, lambda x, d: (3 * x * x * d,))
    wrong = rule(lambda x: x * x, lambda x, d: (x * d,))

    @jax.jit
    def step(w):
        def turn(c, _):
            return cube(c) + jax.nn.relu(wrong(c)), None

        return w - jax.grad(lambda w: jnp.sum(jax.lax.scan(turn, w, None, length=2)[0]))(w)

    for _ in range(2):
        audit = v.audit(step, normal(3))
        assert [report.verdict.name for report in audit.reports] == ["PROVED", "REFUTED"], str(audit)
        assert audit.trusted == ("relu",)
        assert not audit.ok


@pytest.mark.thinned(5)
@pytest.mark.parametrize("case", [c for c in cases.CASES if c.dtype == "float32"], ids=lambda case: case.id)
def test_the_librarys_own_networks(case):
    params, x, y = case.draw()
    report = v.verify_gradient(case.net.value_and_grad, case.net.loss, params, x, y, skip=("rounding", *FLOATS))
    if case.id == "5-7-6-3x11-relu-identity-binary_cross_entropy-mean-bias-float32":
        # The loss decides on the sign of a sum of what the hidden units decided on.
        assert "truth values" in report.check("proof").summary
    else:
        assert report.verdict is v.Verdict.PROVED, report


def test_hidden_deltas_from_updated_weights_are_refuted():
    net = handprop.mlp((3, 4, 1))
    params, x, y = net.init(jax.random.key(0)), normal(5, 3), normal(5, 1)

    def late(params, x, y):
        grads = net.value_and_grad(params, x, y)[1]
        updated = (params[0], jax.tree.map(lambda w, g: w - 0.5 * g, params[1], grads[1]))
        return net.value_and_grad(updated, x, y)[1][0], grads[1]

    report = v.verify_gradient(late, net.loss, params, x, y)
    assert report.verdict is v.Verdict.REFUTED
