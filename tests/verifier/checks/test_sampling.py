"""Where programs are sampled, and the bound on what rounding can do there: held against exact arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop.verifier.checks.evaluators import evaluators
from handprop.verifier.checks.sampling import beyond, compared, is_off, largest, sample, worst_entry, wrong_outputs
from handprop.verifier.from_functions import of_pair
from handprop.verifier.options import Options
from handprop.verifier.verdict import fresh

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=12), jnp.float32)


def problem_of(candidate, reference, *args):
    return fresh(of_pair(candidate, reference, args, np.random.default_rng(1)), Options())


def point_of(candidate, reference, *args, i=1, measured=True):
    problem = problem_of(candidate, reference, *args)
    options = Options(seed=(0,))
    evaluator = next(iter(evaluators(problem)))
    return problem, compared(evaluator, sample(problem, options, i), i, measured)


def test_the_given_input_is_the_first_sample_and_a_seed_gives_the_same_ones():
    problem, options = problem_of(jnp.sin, jnp.sin, X), Options(seed=(3,))
    (first,) = sample(problem, options, 0)
    np.testing.assert_array_equal(first, np.asarray(X, np.float64))
    (a,), (b,), (c,) = sample(problem, options, 1), sample(problem, options, 1), sample(problem, options, 2)
    np.testing.assert_array_equal(a, b)
    assert (np.asarray(a) != np.asarray(c)).all()


def test_positive_numbers_stay_positive_at_every_other_sample_and_infinities_stay():
    problem, options = problem_of(jnp.log, jnp.log, abs(X).at[0].set(jnp.inf)), Options(seed=(0,))
    odd, even = (np.asarray(sample(problem, options, i)[0]) for i in (1, 2))
    assert (odd > 0).all()
    assert odd[0] == even[0] == np.inf
    assert (even[1:] < 0).any()


@pytest.mark.parametrize("i", range(6))
def test_the_bound_holds_what_rounding_does_to_a_sum_that_cancels(i):
    """Against the exact sum of the same float64 numbers."""
    x = jnp.concatenate([X, -X * 0.999])
    _, point = point_of(lambda x: jnp.sum(x * x * x), lambda x: jnp.sum(x**3), x, i=i)
    exact = sum(Fraction(float(v)) ** 3 for v in np.asarray(point.inputs[0]))
    for got in (point.got[0], point.want[0]):
        assert abs(Fraction(float(got)) - exact) <= Fraction(float(point.bound[0]))
    assert point.bound[0] < 1e-8 * float(np.sum(abs(np.asarray(point.inputs[0])) ** 3))


def test_an_error_of_a_millionth_is_beyond_the_bound_and_named():
    wrong = lambda x: jnp.sin(x) * jnp.where(jnp.arange(12) == 7, 1.000001, 1.0)  # noqa: E731
    with jax.numpy_dtype_promotion("standard"):
        problem, point = point_of(wrong, jnp.sin, X)
    worst = worst_entry(problem, point)
    assert worst is not None
    assert worst.index == (7,)
    assert wrong_outputs(problem, point) == {0}
    assert is_off(point.got, point.want, point.bound)


def test_nothing_is_measured_where_the_programs_agree_unless_it_is_asked_for():
    _, quick = point_of(jnp.sin, jnp.sin, X, measured=False)
    _, measured = point_of(jnp.sin, jnp.sin, X)
    assert (quick.bound[0] <= measured.bound[0]).all()
    assert worst_entry(problem_of(jnp.sin, jnp.sin, X), quick) is None


def test_what_is_beyond_a_bound():
    got, want, bound = (
        np.array(v) for v in ([1.0, 3.0, np.nan, np.nan], [1.5, 1.0, 1.0, np.nan], [1.0, 0.5, 1.0, 1.0])
    )
    np.testing.assert_array_equal(beyond(got, want, bound), [0.0, 4.0, np.inf, 0.0])
    np.testing.assert_array_equal(beyond(got, want, bound, defined=False), [0.0, 4.0, 0.0, 0.0])


def test_the_largest_finite_entry():
    assert largest([1.0, -3.0, np.inf, np.nan]) == 3.0
    assert largest(np.zeros(0)) == 0.0


def test_a_number_that_rounding_decides_is_no_match_for_nan():
    """Where rounding changes the reference's number by many times itself, the other program's NaN says nothing."""
    got, want = np.array([np.nan]), np.array([0.4])
    assert beyond(got, want, np.array([8.0])).tolist() == [0.0]
    assert beyond(got, want, np.array([1e-9])).tolist() == [np.inf]
