"""The list of checks: one name for each, in the list, in its results and in the README."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from handprop.verifier.checks.registry import CHECKS
from handprop.verifier.from_functions import of_pair
from handprop.verifier.options import Options
from handprop.verifier.verdict import fresh

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_a_check_has_the_name_under_which_it_is_registered(name, check):
    options = Options(budget=60.0)
    problem = of_pair(lambda x: x + x, lambda x: 2 * x, (jnp.ones(3),), np.random.default_rng(0))
    assert check(fresh(problem, options), options).name == name


def test_the_readme_lists_the_checks_in_their_order():
    table = README.partition("| check | what it tests |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == [name for name, _ in CHECKS]
