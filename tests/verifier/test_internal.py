"""Faults of the verifier itself are told apart from what the user's code and JAX raise, and are in the report."""

import ast
import contextvars
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.verifier import Verdict, internal, verdict
from handprop.verifier.internal import OutOfTime, ending_at, go_on
from handprop.verifier.programs import frames, jaxprs
from handprop.verifier.report.report import LATE

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), np.float32)
ENGINE = compile("def run(f, *args):\n    return f(*args)\n", f"{frames.VERIFIER}repair/engine.py", "exec")


def in_engine(f, *args):
    """Call ``f(*args)`` as a line of the verifier would call it."""
    held = {}
    exec(ENGINE, held)
    return held["run"](f, *args)


def place_of(f, *args):
    with internal.collected():
        try:
            f(*args)
        except Exception as error:
            return internal.place_of(error)


def first(x):
    return x[0]


def too_few():
    return first(())


@pytest.mark.parametrize(
    "f",
    [
        lambda: in_engine(first, ()),
        lambda: in_engine(int, "one"),  # in C
        lambda: in_engine(np.broadcast_shapes, (2,), (3,)),  # in NumPy
        lambda: jaxprs.trace(lambda x: in_engine(first, ()), [X]),  # while JAX traces
        lambda: jaxprs.trace(jax.jit(lambda x: jax.vmap(lambda y: in_engine(first, ()))(x)), [X]),
    ],
)
def test_an_error_that_a_line_of_the_verifier_makes_is_its_own(f):
    assert place_of(f) == "repair/engine.py:2"


@pytest.mark.parametrize(
    "f",
    [
        lambda: in_engine(internal.call_users, too_few),
        lambda: in_engine(internal.call_users, too_few, 1),  # one argument too many
        lambda: in_engine(jnp.dot, X, X),
        lambda: in_engine(jaxprs.trace, lambda x: too_few(), [X]),
        lambda: in_engine(jaxprs.trace, lambda x: in_engine(jnp.dot, x, x), [X]),
        lambda: in_engine(jaxprs.trace, lambda x: internal.call_users(too_few), [X]),
        lambda: in_engine(handprop.verify, jnp.sin, X),  # the verifier's own kind of error
    ],
)
def test_an_error_of_the_users_code_or_of_jax_is_not_the_verifiers(f):
    assert place_of(f) == ""


def test_outside_of_a_report_nothing_is_told_apart():
    with pytest.raises(IndexError) as raised:
        in_engine(first, ())
    assert internal.place_of(raised.value)  # the tests of the verifier run within one
    outside = contextvars.Context()
    assert outside.run(internal.place_of, raised.value) == "" == outside.run(internal.noted, raised.value)


@pytest.mark.own_faults
def test_what_is_collected_reaches_those_who_collect_outside():
    before = jax.config.jax_traceback_filtering
    with internal.collected() as outer, internal.collected() as inner:
        assert jax.config.jax_traceback_filtering == "off"
        try:
            in_engine(first, ())
        except IndexError as error:
            lines = [internal.noted(error, "the search") for _ in range(2)]
    assert lines == ["the search stopped at repair/engine.py:2: IndexError: tuple index out of range"] * 2
    assert list(outer.values()) == list(inner.values()) == lines[:1]
    assert jax.config.jax_traceback_filtering == before


def handlers():
    """Yield each handler in the verifier that catches every Exception, with its file and line."""
    for file in sorted(Path(frames.VERIFIER).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler) and "Exception" in ast.unparse(node.type).split(", "):
                yield f"{file.relative_to(frames.VERIFIER)}:{node.lineno}", node


@pytest.mark.parametrize(("at", "handler"), list(handlers()))
def test_a_handler_of_all_errors_hands_on_what_it_caught(at, handler):
    nodes = list(ast.walk(handler))
    names = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert names & {"noted", "place_of"} or any(isinstance(node, ast.Raise) and node.cause for node in nodes), at


def test_no_error_is_suppressed_whatever_it_is():
    texts = [file.read_text() for file in Path(frames.VERIFIER).rglob("*.py")]
    assert len(texts) > 90 and not any("suppress(Exception)" in text or "except:" in text for text in texts)


def checked(x):
    if x.shape != X.shape:
        raise ValueError("other shapes are not for this")
    return jnp.sum(jnp.sin(x))


def test_errors_of_the_users_functions_are_not_noted():
    rule = jax.custom_vjp(checked)
    rule.defvjp(lambda x: (checked(x), x), lambda x, dy: (checked(x) * 0 + dy * jnp.cos(x),))
    for report in (
        handprop.verify(rule, X),
        handprop.verify((None, lambda args, dy: (checked(*args) * 0 + dy * jnp.cos(args[0]),)), X, reference=checked),
        handprop.verify_gradient(lambda x: checked(x) * 0 + jnp.cos(x), checked, X),
        handprop.equivalent(checked, lambda x: checked(x) * 1, X),
    ):
        assert report.ok and report.internal == (), report


# A planted fault


def loss(w, x):
    return jnp.sum(jnp.tanh(x @ w) ** 2)


def hand(w, x):
    a = jnp.tanh(x @ w)
    return x.T @ (2 * a)


def planted(*args, **kwargs):
    raise IndexError("planted")


@pytest.mark.own_faults
@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        ("edits.small", "_of_product", "repair/edits/small.py"),
        ("edits.missing_terms", "instrument", "repair/edits/missing_terms.py"),
        ("edits.term_solver", "products_of", "repair/edits/term_solver.py"),
        ("locate.suspects", "_rank", "repair/locate/suspects.py"),
        ("locate.symmetry", "_products", "repair/locate/symmetry.py"),
        ("evaluate", "run_on", "repair/evaluate.py"),
        ("smallest_edit", "at_hand", "repair/smallest_edit.py"),
        ("explain", "_likely", "repair/explain.py"),
    ],
)
def test_a_fault_planted_in_the_search_for_a_fix_is_in_the_report(monkeypatch, module, name, at):
    module = importlib.import_module(f"handprop.verifier.repair.{module}")
    wrong = hand
    if at.endswith(("symmetry.py", "explain.py")):  # which are asked where no edit mends
        wrong = lambda w, x: x.T @ jnp.cos(jnp.exp(x @ w) + w.sum())  # noqa: E731
    monkeypatch.setattr(module, name, planted)
    report = handprop.verify_gradient(wrong, loss, X[0], X)
    assert report.verdict is handprop.Verdict.REFUTED
    (line,) = report.internal
    if at.startswith("repair/edits/small"):  # the other kinds of edits are still tried
        assert report.fix is not None and report.fix.proved
    assert f" stopped at {at}:" in line and line.endswith(": IndexError: planted")
    assert " ".join(str(report).split()).count(f"{at}:") == 1


@pytest.mark.own_faults
def test_a_fault_while_a_rule_is_read_refutes_nothing(monkeypatch):
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
    monkeypatch.setattr(importlib.import_module("handprop.verifier.faults"), "Call", planted)
    report = handprop.verify(square, X)
    assert report.ok
    (line,) = report.internal
    assert line.startswith("the check of the rule's structure stopped at faults.py:")


def test_a_check_that_is_out_of_time_is_left_out(monkeypatch):
    """Programs that take long ask whether to go on. What is caught is the end of the time and no error of a program."""

    def slow(problem, options):
        with ending_at(0.0):
            go_on()

    checks = [(name, slow if name == "rounding" else check) for name, check in verdict.CHECKS if name != "proof"]
    monkeypatch.setattr(verdict, "CHECKS", checks)
    report = handprop.equivalent(lambda x: jnp.sin(x) * 2, lambda x: 2 * jnp.sin(x), X)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.check("rounding").summary == LATE
    assert report.late
    assert not report.internal


def test_without_an_end_everything_goes_on():
    go_on()
    with ending_at(float("inf")):
        go_on()
    with pytest.raises(OutOfTime), ending_at(0.0):
        go_on()
