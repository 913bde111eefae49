"""Rules that a program meets are verified at the values that reached them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from selecting import all_but

import handprop as v
from handprop.verifier.auditing import rules_met

W = jnp.linspace(-0.1, 0.3, 3)
QUICK = all_but("structure", "rounding")


def rule(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda x: (f(x), x), lambda x, d: (backward(x, d),))
    return made


cube = rule(lambda x: x**3, lambda x, d: 3 * x * x * d)


def first_values(step, *args):
    met = rules_met(step, args, np.random.default_rng(0))
    return [found.call()[0] for found in met.rules.values()], met


def summed(f):
    return lambda w: f(w).sum()


PROGRAMS = {
    "eager": cube,
    "jit": jax.jit(cube),
    "grad": jax.grad(summed(cube)),
    "jit of grad": jax.jit(jax.grad(summed(cube))),
    "scan": lambda w: jax.lax.scan(lambda c, _: (cube(c), None), w, None, length=2),
    "while": lambda w: jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, cube(s[1])), (0, w)),
    "cond": lambda w: jax.lax.cond(w.sum() > 0, cube, jnp.sin, w),
    "checkpoint": jax.grad(summed(jax.checkpoint(cube))),
    "vmap": lambda w: jax.vmap(cube)(jnp.stack([w, w + 1])),
    "vmap of grad": lambda w: jax.jit(jax.vmap(jax.grad(summed(cube))))(jnp.stack([w, w + 1])),
    "grad of vmap": lambda w: jax.grad(summed(jax.vmap(cube)))(jnp.stack([w, w + 1])),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_had_under_every_transformation(name):
    for _ in range(2):
        ((values,), *_), met = first_values(PROGRAMS[name], W)
        assert np.array_equal(values, W) and values.dtype == W.dtype
        assert not met.unseen()


def test_a_compiled_program_may_overwrite_its_arguments():
    w = jnp.array(W)
    ((values,),), _ = first_values(jax.jit(lambda w: cube(w), donate_argnums=0), w)
    assert np.array_equal(values, W) and not w.is_deleted()


def test_finite_values_come_first():
    step = jax.jit(lambda w: jax.lax.scan(lambda c, _: (jnp.ones(3), cube(c)), w, None, length=3))
    ((values,),), _ = first_values(step, jnp.array([jnp.inf, 1.0, 2.0]))
    assert np.array_equal(values, np.ones(3))


def test_numbers_keys_and_functions_stay_what_they_are():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def noisy(f, x, key, scale):
        return f(x) + scale * jax.random.normal(key, x.shape)

    noisy.defvjp(lambda f, *args: (noisy(f, *args), args), lambda f, args, d: (d * jnp.cos(args[0]), None, None))
    step = jax.jit(lambda x, key, scale: noisy(jnp.sin, x, key, 2 * scale) + noisy(jnp.sin, x, key, 3))
    (traced, static), _ = first_values(step, W, jax.random.key(3), 0.5)
    assert traced[0] is jnp.sin and (traced[3], type(traced[3])) == (1.0, float)
    assert jax.random.key_data(traced[2]).tolist() == [0, 3]
    assert (static[3], type(static[3])) == (3, int)


def test_a_branch_that_is_not_taken_is_said():
    audit = v.audit(lambda w: jax.lax.cond(w.sum() > 9, cube, jnp.sin, w), W, skip=QUICK)
    assert audit.ok and "because its branch was not taken; it was judged at random ones" in str(audit)


def test_a_rule_that_is_right_where_it_is_used_and_one_that_is_not():
    """Drawn values would be outside of (-1, 1), where the first is NaN, and the second's mistake is beyond 5."""
    root = rule(lambda x: jnp.sqrt(1 - x * x), lambda x, d: -d * x / jnp.sqrt(1 - x * x))
    far = rule(lambda x: x * x, lambda x, d: d * jnp.where(x > 5, 3 * x, 2 * x))
    near = v.audit(jax.jit(lambda w: root(w) + far(10 + 20 * w)), W, skip=QUICK)
    assert [report.verdict.name for report in near.reports] == ["VERIFIED", "REFUTED"]
    assert not near.ok


def test_what_raises_is_one_sentence():
    def step(w):
        raise RuntimeError("no\ndata")

    with pytest.raises(TypeError, match=r"^step raises at the given arguments: RuntimeError: no$"):
        v.audit(step, W)


def test_nothing_met_is_nothing_shown():
    audit = v.audit(jnp.sin, W)
    assert not audit.ok and audit.verdict is v.Verdict.INCONCLUSIVE
    assert str(audit) == "INCONCLUSIVE  no custom rule besides JAX's own was called"


@pytest.mark.parametrize("wrap", [
    jax.vmap, jax.checkpoint, jax.jit, jax.named_scope("cube"), jax.default_matmul_precision("highest"),
    functools.partial(functools.partial)])  # fmt: skip
def test_a_rule_whose_functions_jax_wraps_is_no_rule_of_jax(wrap):
    wrong = jax.custom_vjp(wrap(lambda x: x**3))
    wrong.defvjp(wrap(lambda x: (x**3, x)), wrap(lambda x, d: (2 * x * x * d,)))
    report = v.audit(lambda w: jax.grad(summed(wrong))(w) + jax.grad(summed(jax.nn.relu))(w), W, skip=QUICK)
    assert [r.verdict for r in report.reports] == [v.Verdict.REFUTED]
    assert report.trusted == ("relu",)


def test_an_audit_survives_json():
    audit = v.audit(jax.grad(summed(cube)), W, skip=QUICK)
    again = v.Audit.from_json(audit.to_json())
    assert again == audit and again.certificate["hashes"]["1: <lambda>"] == audit.reports[0].certificate["hashes"]
    for text in ("", "[]", "{}", audit.reports[0].to_json(), audit.to_json().replace('"trusted"', '"other"', 1)):
        with pytest.raises(ValueError, match="not a handprop audit: "):
            v.Audit.from_json(text)
