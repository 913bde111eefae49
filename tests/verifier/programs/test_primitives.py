"""The table of primitives: each claim is tried on numbers."""

import ast
import contextlib
import inspect
import itertools
import math

import corpus
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corpus.red_team import sections
from jax import lax

from handprop.verifier.programs import primitives
from handprop.verifier.programs.jaxprs import equations, trace
from handprop.verifier.programs.primitives import TABLE, UNKNOWN, Acts, Decisions, Kind, Trait, has, named, row
from handprop.verifier.proof.decision_bits import decision_bits
from handprop.verifier.proof.decision_rules import Rules
from handprop.verifier.proof.evaluation import drawn
from handprop.verifier.proof.field.arithmetic import Field, draw_prime
from handprop.verifier.proof.field.contraction import CONTRACTION
from handprop.verifier.proof.field.elementwise import ELEMENTWISE
from handprop.verifier.proof.field.errors import NotUnderstood
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.layout import LAYOUT
from handprop.verifier.proof.field.run import Run

RNG = np.random.default_rng(3)
NUMBERS = np.concatenate([RNG.normal(size=40), RNG.normal(size=20) * 30, [0.0, 1.0, -1.0, 0.5, -2.0, 3.0]])
PARAMETERS = {"integer_pow": {"y": 3}, "round": {}, "reduce_precision": {"exponent_bits": 5, "mantissa_bits": 10}}
NO_CALL = {  # rows that lax has no function of one or two arrays of floats for
    "copy", "copy_p", "one_minus_square", "optimization_barrier", "select_n", "clamp", "convert_element_type",
    "add_any", "stop_gradient", "and", "or", "xor", "not", "igamma_grad_a", "random_gamma_grad", "polygamma", "zeta",
    "regularized_incomplete_beta", "igamma", "igammac", "real",
}  # fmt: skip
OF_THE_CORPORA = {"beside_a_program", "beyond_factor", "by_accuracy", "by_factor", "named", "scaled"}  # their own


def entrywise():
    """Every primitive that acts entry by entry and that ``lax`` has a function of one or two arrays for, with their
    number."""
    for name, primitive in TABLE.items():
        if primitive.acts is Acts.ENTRYWISE and name not in NO_CALL:
            assert name == "log2" or hasattr(lax, name), f"lax has no {name}; if none fits, name it in NO_CALL"
            try:
                jax.eval_shape(lambda x, name=name: called(name, x), 1.0)
            except TypeError:
                yield name, 2
            else:
                yield name, 1


def called(name, *operands):
    return (jnp.log2 if name == "log2" else getattr(lax, name))(*operands, **PARAMETERS.get(name, {}))


ENTRYWISE = dict(entrywise())


def arguments(count):
    """All pairs of the numbers, or all of them."""
    return [np.asarray(x) for x in zip(*itertools.product(NUMBERS, repeat=count), strict=True)]


def results(name, operands, dtype=np.float64):
    with jax.enable_x64(True):
        return np.asarray(called(name, *(jnp.asarray(x, dtype) for x in operands)))


@pytest.mark.parametrize("acts", [Acts.ENTRYWISE, Acts.MOVES, Acts.CONTRACTS])
def test_the_rules_over_the_field_are_where_the_table_says(acts):
    rules = {Acts.ENTRYWISE: ELEMENTWISE, Acts.MOVES: LAYOUT, Acts.CONTRACTS: CONTRACTION}[acts]
    without = {name for name in named(Trait.UNINTERPRETED) if name not in rules}
    assert set(rules) == {name for name, primitive in TABLE.items() if primitive.acts is acts} - without


def test_every_way_of_deciding_has_a_rule():
    by_equation = {Decisions.MOVED, Decisions.PIVOTED}
    assert set(Rules(1.0, claiming=True).rules) == set(Decisions) - by_equation


def test_what_has_no_row_claims_nothing():
    assert row("a primitive of nobody's") is UNKNOWN
    assert UNKNOWN.kind is Kind.PIECEWISE
    assert not UNKNOWN.traits


def test_has_asks_for_one_of_the_traits():
    eqn = trace(lambda x: lax.max(x, 0.0), [np.float32(1.0)]).jaxpr.eqns[0]
    assert has(eqn, Trait.EXTREME)
    assert has(eqn, Trait.ORDER, Trait.EXTREME)
    assert not has(eqn, Trait.ORDER)


@pytest.mark.parametrize("name", sorted(named(Trait.EXACT) & ENTRYWISE.keys() - {"reduce_precision"}))
def test_what_rounds_nothing_is_the_same_in_float32(name):
    operands = [x.astype(np.float32) for x in arguments(ENTRYWISE[name])]
    assert (results(name, operands, np.float32) == results(name, operands)).all()


@pytest.mark.parametrize("name", sorted(named(Trait.TOTAL) & ENTRYWISE.keys()))
def test_what_is_total_makes_numbers_of_numbers(name):
    assert np.isfinite(results(name, arguments(ENTRYWISE[name]))).all()


@pytest.mark.parametrize("name", sorted(named(Trait.PARTIAL) & ENTRYWISE.keys()))
def test_what_is_partial_has_no_value_somewhere(name):
    made = results(name, [np.append(x, [-1.0, -2.0, 0.0, 1.0]) for x in arguments(ENTRYWISE[name])])
    assert not np.isfinite(made).all()


@pytest.mark.parametrize("name", sorted(name for name, p in TABLE.items() if p.domain is not None))
def test_a_domain_is_where_there_is_a_number(name):
    operands = arguments(ENTRYWISE[name])
    inside = row(name).domain(*operands)
    made = np.isfinite(results(name, operands))
    assert made[inside].all()
    if name != "pow":  # which has a value too where the base is negative and the exponent is a whole number
        assert not made[~inside].any()


@pytest.mark.parametrize("name", sorted(named(Trait.ODD) & ENTRYWISE.keys()))
def test_what_is_odd(name):
    (x,) = arguments(1)
    np.testing.assert_array_equal(results(name, [-x]), -results(name, [x]))


@pytest.mark.parametrize("name", sorted(named(Trait.NEVER_ZERO)))
def test_what_is_never_zero(name):
    assert (results(name, [np.linspace(-20, 20, 101)]) > 0).all()


@pytest.mark.parametrize("name", sorted(named(Trait.WHOLE) & ENTRYWISE.keys()))
def test_what_makes_whole_numbers_of_whole_numbers(name):
    operands = [np.round(x) for x in arguments(ENTRYWISE[name])]
    operands[-1] = np.where(operands[-1] == 0, 1.0, operands[-1])
    made = results(name, operands)
    assert (made == np.round(made)).all() or name == "div"


@pytest.mark.parametrize("name", sorted(named(Trait.ROUNDS)))
def test_what_rounds_makes_whole_numbers(name):
    made = results(name, arguments(1))
    assert (made == np.round(made)).all()


@pytest.mark.parametrize("name", sorted(named(Trait.POLYNOMIAL) & ENTRYWISE.keys()))
def test_a_polynomial_has_no_differences_of_high_order(name):
    """Along a line, in the operands that it is a polynomial in."""
    count, carries = ENTRYWISE[name], row(name).carries or range(ENTRYWISE[name])
    operands = [0.3 + 0.7 * np.arange(6.0) if i in carries else np.full(6, 1.7) for i in range(count)]
    assert abs(np.diff(results(name, operands), 5)).max() < 1e-9


CONTINUOUS = (Decisions.LINEAR, Decisions.NONLINEAR, Decisions.PRODUCT, Decisions.DIVIDED)
RATIONAL = {name for name in ENTRYWISE if row(name).kind is Kind.RATIONAL and row(name).decisions in CONTINUOUS}


@pytest.mark.parametrize("name", sorted(RATIONAL - {"reduce_precision"}))
def test_what_is_rational_satisfies_a_polynomial_equation(name):
    """``N(t) = f(t) M(t)`` along a line, with N of degree 3 and M of degree 1."""
    t = np.linspace(0.3, 3.8, 9)
    f = results(name, [t + i * (1 - 3 * t) for i in range(ENTRYWISE[name])]).astype(np.float64)
    equations = np.stack([t**k for k in range(4)] + [f, f * t], axis=1)
    sizes = np.linalg.svd(equations / np.abs(equations).max(axis=0, initial=1e-300), compute_uv=False)
    assert sizes[-1] < 1e-13 * sizes[0]


@pytest.mark.parametrize("name", sorted(name for name in ENTRYWISE if row(name).decisions is Decisions.LINEAR))
def test_what_is_linear_is_additive(name):
    a, b = ([np.round(x) for x in RNG.normal(size=(ENTRYWISE[name], 30)) * 8] for _ in range(2))
    both = results(name, [x + y for x, y in zip(a, b, strict=True)])
    assert (both == results(name, a) + results(name, b)).all()


def test_what_the_field_leaves_to_an_oracle_is_not_rational():
    assert {name for name in named(Trait.UNINTERPRETED) if row(name).kind < Kind.ANALYTIC} == set()


def test_every_primitive_has_one_row():
    """In the table's text: in the table itself the last of two rows would stand."""
    text = inspect.getsource(primitives)
    (rows,) = (node.value.values for node in ast.parse(text).body
               if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict))  # fmt: skip
    held = [ast.literal_eval(call.args[0]) for call in rows if isinstance(call, ast.Call)]
    names = [name for one in held for name in (one.split() if isinstance(one, str) else one)]
    assert sorted(names) == sorted(TABLE)


@pytest.mark.parametrize("name", sorted(named(Trait.CHOOSES) & ENTRYWISE.keys() - {"sign"}))
def test_what_chooses_returns_an_operand_or_its_negative(name):
    operands = arguments(ENTRYWISE[name])
    made = results(name, operands)
    assert np.any([(made == sign * x) for x in operands for sign in (1, -1)], axis=0).all()


@pytest.mark.parametrize("name", sorted(ENTRYWISE.keys() & ELEMENTWISE.keys() - {"rem"}))
def test_what_the_field_decides_is_counted(name):
    """A decision that a rule makes and that is not counted would be a proof with a bound that is too small."""
    program = trace(lambda *x: called(name, *x), [jnp.ones(1)] * ENTRYWISE[name])
    for decided in (False, True):
        rng = np.random.default_rng(0)
        run = Run(Field(draw_prime(rng)), 0, thresholds=(0.0,), decides_domains=decided)
        with contextlib.suppress(NotUnderstood):  # as a quotient by a root that may be zero: nothing rests on it then
            evaluate(run, program, [drawn(run.field, jnp.ones(1), rng, (1,)) for _ in program.jaxpr.invars])
        assert decision_bits(program, 1.0, decided).output >= len(run.decisions)


def test_decisions_of_extremes_and_orders_are_counted():
    x = jnp.ones(5)
    for f, bits in ((lambda x: lax.reduce_max(x, (0,)), math.log2(5)), (lax.sort, math.log2(math.factorial(5))),
                    (lambda x: lax.top_k(x, 2), math.log2(20)), (lambda x: lax.argmin(x, 0, np.int32), math.log2(5)),
                    (lambda x: lax.cummax(x), 4.0)):  # fmt: skip
        assert decision_bits(trace(f, [x]), 1.0).output == pytest.approx(bits)


def both_programs_of_the_red_team():
    for case in itertools.chain.from_iterable(sections().values()):
        if case.call is None and case.name != "rule_static_exponent":  # which takes a Python number
            yield from ((case.f, case.args), (case.g, case.args))


def rules_forwards_and_backwards():
    for rule in corpus.right_rules():
        yield rule.function if rule.loss else backwards(rule.function), rule.make_args()


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize(("programs", "least"), [
    (rules_forwards_and_backwards, 60), pytest.param(both_programs_of_the_red_team, 100, marks=pytest.mark.sweep)
])  # fmt: skip
def test_the_primitives_that_the_corpora_meet_have_rows(programs, least, jax_as_it_comes):
    met = {eqn.primitive.name for f, args in programs() for eqn in equations(traced(f, args))}
    assert len(met) > least
    assert sorted(met - TABLE.keys() - OF_THE_CORPORA) == []


def backwards(f):
    def pulled(*args):
        out, pull = jax.vjp(f, *args)
        return pull(out)

    return pulled


def traced(f, args):
    leaves, tree = jax.tree.flatten(args)
    arrays = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
    return trace(lambda *x: jax.tree.leaves(f(*jax.tree.unflatten(tree, x))), arrays)
