"""Two programs with the same text that are not the same program."""

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

import handprop


def primitive(name, f):
    made = Primitive(name)
    made.def_impl(f)
    made.def_abstract_eval(lambda a: a)
    mlir.register_lowering(made, mlir.lower_fun(f, multiple_results=False))
    return made


def test_primitives_that_share_a_name_are_not_the_same():
    """The proof walks through each of them, so their names say nothing to it; the text of a program shows the name."""
    twice, thrice = primitive("scaled", lambda x: x * 2), primitive("scaled", lambda x: x * 3)
    report = handprop.equivalent(twice.bind, thrice.bind, jnp.ones(3))
    assert report.verdict is handprop.Verdict.REFUTED
    assert not any(check.outcome is handprop.verifier.Outcome.PROVES for check in report.checks)
    assert handprop.equivalent(twice.bind, twice.bind, jnp.ones(3)).verdict is handprop.Verdict.PROVED
