"""Numbers in a program's text are read as their author meant them, or left as they are."""

from fractions import Fraction

import numpy as np
import pytest

from handprop.verifier.programs.literals import read, simplest_between


@pytest.mark.parametrize(
    ("number", "dtype", "text"),
    [(0.1, "float32", "1/10"), (1 / 3, "float32", "1/3"), (0.5**0.5, "float64", "sqrt(1/2)"),
     (np.pi, "float32", "pi^(1)"),
     ((2 / np.pi) ** 0.5, "float32", "sqrt(2) pi^(-1/2)"), (np.log(2), "float64", "log(2)^1"),
     (0.044715, "float32", "8943/200000"), (1 + 2**-23, "float32", None), (0.5, "float32", None),
     (1.6732632423543772, "float64", None)],
)  # fmt: skip
def test_literals_are_read_as_they_were_written(number, dtype, text):
    reading = read(float(np.dtype(dtype).type(number)), dtype)
    assert (reading and str(reading)) == text
    if reading is not None:
        assert reading.to_float() == pytest.approx(number, rel=1e-7)


def test_simplest_fraction():
    for denominator in range(1, 40):
        for numerator in range(1, 40):
            x = Fraction(numerator, denominator)
            assert simplest_between(x, x) == x
            near = simplest_between(x - Fraction(1, 10**5), x + Fraction(1, 10**5))
            assert near.denominator <= x.denominator
