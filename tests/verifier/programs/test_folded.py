"""Literals that Python folded, read as the numbers that the programs compute."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handprop.verifier.programs.folded import folded_numbers
from handprop.verifier.programs.literals import ExactNumber

COUNT = np.array(3, np.int32)
ONE_LESS = 1 - Fraction(999, 1000) ** 3
RATE = 0.1 * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3)


def counted(x):
    """What a transformation with a count computes: both corrections and the rate."""
    count = jnp.asarray(COUNT)
    return jnp.asarray(0.1, x.dtype) * x / ((1 - jnp.asarray(0.999, x.dtype) ** count)
                                            * (1 - jnp.asarray(0.9, x.dtype) ** count))  # fmt: skip


def read(number, dtype):
    """What one literal of a second program is read as."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        x = np.zeros(2, dtype)
        programs = [jax.make_jaxpr(f)(x) for f in (counted, lambda x: x * jnp.asarray(number, x.dtype))]
        return folded_numbers(programs).get((dtype, float(np.asarray(number, dtype))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_folded_number_is_the_one_that_is_computed(dtype):
    assert read(1 - 0.999**3, dtype) == ExactNumber(ONE_LESS)
    assert read(RATE, dtype) == ExactNumber(Fraction(100, 271), ONE_LESS)
    assert read((1 - 0.999**3) ** -0.5, dtype) == ExactNumber(Fraction(1), 1 / ONE_LESS)


@pytest.mark.parametrize(("dtype", "power"), [("float32", 22), ("float32", 16), ("float64", 40), ("float64", 30)])
def test_a_number_that_is_further_away_than_rounding_explains_stays_what_it_is(dtype, power):
    assert read((1 - 0.999**3) * (1 + 2.0**-power), dtype) is None
    assert read(RATE * (1 - 2.0**-power), dtype) is None


def test_a_number_with_a_reading_of_its_own_keeps_it():
    assert read(0.271, "float32") is None and read(0.25, "float32") is None
