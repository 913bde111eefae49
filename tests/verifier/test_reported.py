"""Gradients that people reported as wrong: refuted, located and mended; the right ones hold.

What is true of each comes from differences in float64. They also judge each fix, applied to the file's text.
``RANK`` and ``UNMENDED`` say what falls short of that today; a test fails where it no longer does.
"""

import functools
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corpus.reported import reported
from jax.flatten_util import ravel_pytree

import handprop as v

pytestmark = pytest.mark.usefixtures("jax_as_it_comes")

CASES = {case.name: case for case in reported()}
WRONG = [name for name, case in CASES.items() if not case.alleged]
ALLEGED = [name for name, case in CASES.items() if case.alleged]
EDGES = [name for name, case in CASES.items() if case.edge]
HIDDEN = [name for name, case in CASES.items() if case.hidden]
POINTS = [(name, where) for name, case in CASES.items() for where in ("args", "edge") if getattr(case, where)]
RANK: dict[str, int | None] = {"lstm": 2}  # of the first good line where it is not 1, None where none is named
UNMENDED = {  # no fix is found
    "weighted_logsumexp", "log_sigmoid", "ctc", "running_product", "column_maximum", "lstm", "triplet",
}  # fmt: skip
BUDGET = 120.0  # a loaded machine is not what is tested
STEPS = (1e-3, 5e-4, 2.5e-4)
RIGHT, WRONG_BY = 1e-6, 1e-3


@functools.cache
def report_of(name, which, where):
    case = CASES[name]
    f, args = getattr(case, which), getattr(case, where)()
    beside = () if case.kind == "verify" else (case.plain,)
    return getattr(v, case.kind)(f, *beside, *args, budget=BUDGET, **case.options)


def shown(name):
    """The report of the wrong one at the input that shows it."""
    return report_of(name, "wrong", "edge" if CASES[name].edge else "args")


def flat(tree):
    return ravel_pytree(tree)[0]


def is_float(a):
    return jnp.issubdtype(a.dtype, np.floating)


def one_sided(f, x, direction):
    """The derivative of ``f`` at ``x`` from points ahead in the direction, to the third order of the steps."""
    a, b, c = ((f(x + h * direction) - f(x)) / h for h in STEPS)
    return (a - 6 * b + 8 * c) / 3


def on_vector(f, args, number):
    """``f`` of one vector and that vector: the floats in the first ``number`` arguments, the others stay as given."""
    leaves, tree = jax.tree.flatten(args[:number])
    vector, parts = ravel_pytree([a for a in leaves if is_float(a)])

    def of_vector(x):
        moved = iter(parts(x))
        return f(*jax.tree.unflatten(tree, [next(moved) if is_float(a) else a for a in leaves]), *args[number:])

    return of_vector, vector


def by_hand(case, f, args, x):
    """The value of ``f``, and its derivative as a function of a direction and of weights of the outputs."""
    if case.kind == "verify_gradient":
        gradient = f(*args)
        if jax.tree.map(jnp.shape, gradient) != jax.tree.map(jnp.shape, args[0]):
            raise ValueError("the gradient has another shape")
        return case.plain(*args), lambda direction, weights: weights[0] * (flat(gradient) @ direction)
    hand = on_vector(lambda *args: flat(f(*args)), args, len(args))[0]
    if isinstance(f, jax.custom_jvp):
        return hand(x), lambda direction, weights: weights @ jax.jvp(hand, (x,), (direction,))[1]
    value, pulled_back = jax.vjp(hand, x)
    return value, lambda direction, weights: pulled_back(weights)[0] @ direction


def gradient_of(f):
    """Its own gradient, by the rule it has: what a second derivative is compared with."""

    def gradient(x):
        y, pulled_back = jax.vjp(f, x)
        return pulled_back(jnp.cos(jnp.arange(y.size)))[0]

    return gradient


def outside(number, low, high, size):
    """How far a number is outside a range, relative to a size; infinite for what is no number."""
    error = max(low - number, number - high, 0.0) / size
    return float(error) if np.isfinite(error) else np.inf


def largest_error(case, f, args):
    """The largest relative error of the values of ``f`` and of its derivatives in three directions, in float64.

    A derivative lies between the one-sided ones, which are the same but at kinks and ties, and is linear in its
    direction. Outputs are weighed at random, and once with a zero.
    """
    rng = np.random.default_rng(0)
    plain = case.plain
    with jax.enable_x64(True):
        args = jax.tree.map(lambda a: a.astype(np.float64) if is_float(a) else a, args)
        if case.kind == "equivalent":
            return float(jnp.abs(flat(f(*args)) - flat(plain(*args))).max())
        if case.options.get("order") == 2:
            plain, f = gradient_of(f), gradient_of(f)
        expected, x = on_vector(plain, args, 1 if case.kind == "verify_gradient" else len(args))
        want = flat(expected(x))
        try:
            value, derivative = by_hand(case, f, args, x)
        except ValueError:  # of another shape
            return np.inf
        errors = [float(jnp.abs(flat(value) - want).max())]
        for direction in (rng.uniform(0.5, 1.5, x.size), *rng.normal(size=(2, x.size))):
            direction /= np.linalg.norm(direction)
            ends = np.stack([s * one_sided(lambda x: flat(expected(x)), x, s * direction) for s in (1, -1)])
            for kept in (1, np.arange(want.size) != 1):
                weights = kept * rng.normal(size=want.size)
                low, high = np.sort(weights * ends, axis=0).sum(axis=1)
                size = np.abs(weights * ends).max(axis=0).sum()
                try:
                    there, back = derivative(direction, weights), -derivative(-direction, weights)
                except ValueError:  # of another shape
                    return np.inf
                errors += [outside(there, low, high, size), outside(back, there, there, size)]
    return max(errors)


@pytest.mark.thinned(8)
@pytest.mark.parametrize(("name", "where"), POINTS)
def test_differences_say_which_one_is_wrong(name, where):
    case = CASES[name]
    args = getattr(case, where)()
    assert largest_error(case, case.right, args) < RIGHT
    if case.alleged:
        assert largest_error(case, case.wrong, args) < RIGHT
    elif where == "edge" or not case.edge:
        assert largest_error(case, case.wrong, args) > WRONG_BY


@pytest.mark.parametrize("name", ALLEGED)
def test_what_was_called_wrong_and_is_not_holds(name):
    assert report_of(name, "wrong", "args").ok, report_of(name, "wrong", "args")


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", EDGES)
def test_where_only_an_edge_shows_it_more_is_said_than_that_it_is_proved(name):
    report = report_of(name, "wrong", "args")
    assert report.verdict is v.Verdict.REFUTED or report.conditions or report.findings, report


@pytest.mark.parametrize("name", HIDDEN)
def test_where_a_mistake_is_easily_missed_it_is_refuted_or_a_condition(name):
    report = report_of(name, "wrong", "hidden")
    said = " ".join(report.findings)
    assert report.verdict is v.Verdict.REFUTED or "it fails" in said or "at other sizes" in said, report


@pytest.mark.thinned(9)
@pytest.mark.parametrize(("name", "where"), [*POINTS, *((name, "hidden") for name in HIDDEN)])
def test_the_right_one_holds(name, where):
    assert report_of(name, "right", where).ok, report_of(name, "right", where)


@pytest.mark.thinned(14)
@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_one_is_refuted_with_the_line_and_a_fix_that_makes_it_right(name, tmp_path):
    """One test for all of it: a report takes seconds, and another worker would make it again."""
    case, report = CASES[name], shown(name)
    assert report.verdict is v.Verdict.REFUTED, report
    lines = [at.text.strip() for at in report.locations]
    assert next((i for i, line in enumerate(lines, 1) if line in case.faulty), None) == RANK.get(name, 1), lines
    assert (report.fix is None) == (name in UNMENDED), report.fix
    if report.fix is None:
        return
    assert report.fix.proved
    mended = patched(report.fix, tmp_path)[name]()
    for where in ("args", "edge") if case.edge else ("args",):
        assert largest_error(case, mended.wrong, getattr(case, where)()) < RIGHT


def patched(fix, folder):
    """What the file of the fix defines once its diff is applied to a copy."""
    path = Path(fix.file)
    copy = folder / path.name
    copy.write_text(path.read_text())
    subprocess.run(["patch", "-s", str(copy)], input=fix.diff, text=True, check=True)
    defined: dict = {"__name__": "mended"}
    exec(compile(copy.read_text(), str(path), "exec"), defined)
    return defined
