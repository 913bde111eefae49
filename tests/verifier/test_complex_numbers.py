"""Rules of complex numbers, judged as functions of their two parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop import verifier as v
from handprop.verifier.complex_numbers import Pair, joined, split

Z = jnp.asarray([0.3 - 1.1j, -0.7 + 0.2j, 1.4 + 0.9j], jnp.complex64)


def rule(f, backward):
    made = jax.custom_vjp(f)
    made.__name__ = f.__name__
    made.defvjp(lambda z: (f(z), z), backward)
    return made


def square(z):
    return z * z


def energy(z):
    return jnp.sum(jnp.real(z * jnp.conj(z)))


def spectrum(x):
    return jnp.fft.fft(x)


# In JAX the cotangent of z = a + ib is that of a minus i times that of b.
RIGHT = [(square, lambda z, g: (2 * z * g,), Z), (energy, lambda z, g: (2 * jnp.conj(z) * g.astype(z.dtype),), Z),
         (spectrum, lambda x, g: (jnp.real(jnp.fft.fft(g)),), jnp.real(Z))]  # fmt: skip
WRONG = [(square, lambda z, g: (2 * jnp.conj(z) * g,), Z), (energy, lambda z, g: (2 * z * g.astype(z.dtype),), Z),
         (spectrum, lambda x, g: (jnp.real(jnp.fft.ifft(g)),), jnp.real(Z))]  # fmt: skip


@pytest.mark.parametrize(("f", "backward", "x"), RIGHT)
def test_right_rules_of_complex_numbers_are_proved(f, backward, x):
    report = v.verify(rule(f, backward), x)
    assert report.verdict is v.Verdict.PROVED, report
    assert {check.name: check.outcome for check in report.checks}["finite_differences"] is v.Outcome.HOLDS


@pytest.mark.parametrize(("f", "backward", "x"), WRONG)
def test_wrong_rules_of_complex_numbers_are_refuted(f, backward, x):
    report = v.verify(rule(f, backward), x, skip="repair")
    assert report.verdict is v.Verdict.REFUTED
    if jnp.iscomplexobj(x):
        assert [path for path, _ in report.counterexample.inputs][:2] == ["z.real", "z.imag"]


def test_complex_arguments_may_be_shapes_python_numbers_or_doubles():
    made = rule(*RIGHT[0][:2])
    assert v.verify(made, jax.ShapeDtypeStruct((2,), jnp.complex64)).ok
    assert v.verify(made, 1.5 - 0.5j).ok
    with jax.enable_x64(True):
        assert v.verify(made, np.array([1 + 1j, -2j])).ok


def test_a_solver_of_complex_numbers_is_judged_by_its_equation():
    root = rule(jnp.sqrt, lambda z, g: (g / (2 * jnp.sqrt(z)),))
    wrong = rule(jnp.sqrt, lambda z, g: (g / jnp.sqrt(z),))
    assert v.verify(root, Z, satisfies=lambda y, z: y * y - z).ok
    assert v.verify(wrong, Z, satisfies=lambda y, z: y * y - z, skip="repair").verdict is v.Verdict.REFUTED


def test_functions_of_complex_numbers_are_compared():
    assert v.equivalent(lambda z: jnp.abs(z) ** 2, lambda z: jnp.real(z) ** 2 + jnp.imag(z) ** 2, Z).ok
    assert v.equivalent(jnp.conj, lambda z: -z, Z, skip="repair").verdict is v.Verdict.REFUTED


def test_a_gradient_function_of_complex_numbers_is_not_judged():
    report = v.verify_gradient(lambda z: 2 * jnp.conj(z), energy, Z)
    assert report.verdict is v.Verdict.INCONCLUSIVE
    assert "complex" in report.reason


def test_pairs_hold_the_parts_of_a_tree():
    tree = {"a": np.array([1 + 2j]), "b": [3.0, None, "name"]}
    parts = split(tree)
    assert isinstance(parts["a"], Pair)
    assert (parts["a"].real, parts["a"].imag, parts["b"]) == (1.0, 2.0, [3.0, None, "name"])
    np.testing.assert_array_equal(joined(parts)["a"], tree["a"].astype(np.complex64))
