"""Primitives that are not JAX's, each with an implementation and a derivative written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from handprop import verifier as v
from handprop._compat import closed
from handprop.verifier.programs.implementations import implementation, is_foreign
from handprop.verifier.programs.jaxprs import called_program, namesake

X = jnp.array([0.3, 1.2, -0.7])
PARTS = ["repair", "edge_cases", "transformations", "other_sizes"]


def defined(name, f, slope):
    """A function of one array, as a primitive with the derivative ``slope(x)``."""
    primitive = core.Primitive(name)
    primitive.def_impl(f)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(f, multiple_results=False))
    batching.primitive_batchers[primitive] = lambda args, axes: (primitive.bind(*args), axes[0])
    ad.primitive_jvps[primitive] = lambda primals, tangents: (
        primitive.bind(*primals), slope(*primals) * ad.instantiate_zeros(tangents[0]))  # fmt: skip
    return primitive.bind


def cube(x):
    return x * x * x


def solved(x):
    """Differentiated by the rule of its primitive alone, as solvers are: the gradient through the values is cut."""
    return jax.lax.stop_gradient(jnp.exp(x))


@pytest.mark.parametrize(("factor", "verdict"), [(3.0, v.Verdict.PROVED), (2.0, v.Verdict.REFUTED)])
def test_its_derivative_is_held_against_its_implementation(factor, verdict):
    cubed = defined("cubed", cube, lambda x: factor * x * x)
    report = v.verify(lambda x: cubed(x) * x, X, skip=PARTS)
    assert report.verdict is verdict, report


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, v.Verdict.VERIFIED), (1.001, v.Verdict.REFUTED)])
def test_where_it_stops_gradients_differences_are_the_reference(factor, verdict):
    found = defined("solved", solved, lambda x: factor * jnp.exp(x))
    report = v.verify(lambda x: jnp.sin(found(x)), X, skip=PARTS)
    assert report.verdict is verdict, report
    assert any("central differences" in condition for condition in report.conditions)


def test_in_equivalent_functions_it_is_what_it_computes():
    cubed = defined("cubed", cube, lambda x: 3 * x * x)
    assert v.equivalent(cubed, lambda x: x**3, X, skip=PARTS).verdict is v.Verdict.PROVED
    assert v.equivalent(cubed, lambda x: x**4, X, skip=PARTS).verdict is v.Verdict.REFUTED


def test_a_name_of_jaxs_is_not_taken_for_jaxs_primitive():
    """It is called "neg" and doubles: a table of names would prove that it is a negation."""
    double = defined("neg", lambda x: x + x, jnp.ones_like)
    report = v.equivalent(double, lambda x: -x, X, skip=PARTS)
    assert report.verdict is v.Verdict.REFUTED, report
    assert namesake(jax.make_jaxpr(double)(X)) == "neg"


def test_without_a_traceable_implementation_it_is_left_as_it_is():
    host = defined("host", lambda x: jnp.asarray(np.sin(np.asarray(x))), jnp.cos)
    eqn = jax.make_jaxpr(host)(X).eqns[0]
    assert is_foreign(eqn.primitive)
    assert implementation(eqn) is None and called_program(eqn) is None


def test_primitives_of_jax_are_known():
    for eqn in jax.make_jaxpr(lambda x: jnp.linalg.solve(jnp.outer(x, x), jnp.sort(jnp.sin(x))))(X).eqns:
        assert not is_foreign(eqn.primitive), eqn


def test_an_open_program_takes_its_constants_as_arguments():
    program = jax.make_jaxpr(lambda x: x + X)(X)
    opened = closed(program.jaxpr)  # since jax 0.11 it holds its constants
    assert len(opened.consts) == len(opened.jaxpr.constvars)
    assert len(opened.jaxpr.invars) + len(opened.consts) == 2
