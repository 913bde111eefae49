"""Reports are values: frozen, equal by content, the same after JSON, and readable in 80 columns."""

import copy
import dataclasses
import json
import pickle
import re
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import handprop
from handprop.verifier.report import encoding
from handprop.verifier.report.report import GradientRefuted, Report
from handprop.verifier.report.values import Check, Counterexample, Location, LostBits, Outcome, Verdict, Worst

texts = st.text(max_size=20)
floats = st.floats(width=64)
numbers = st.integers(0, 2**40)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@st.composite
def arrays(draw):
    """Arrays of every dtype a report can hold, from random bytes where any byte is a value."""
    dtype = encoding.DTYPES[draw(st.sampled_from(sorted(encoding.DTYPES)))]
    shape = draw(shapes)
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    content = draw(st.binary(min_size=size, max_size=size))
    return np.frombuffer(content, dtype).reshape(shape)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts | st.complex_numbers() | arrays(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("$array") | texts, inner, max_size=3),
    max_leaves=6,
)
values = st.dictionaries(texts, plain, max_size=3)
worsts = st.builds(Worst, texts, st.lists(numbers).map(tuple), floats, floats, st.none() | floats, st.none() | floats)
counterexamples = st.builds(Counterexample, st.lists(st.tuples(texts, arrays()), max_size=3).map(tuple), worsts)
checks = st.builds(
    Check,
    texts,
    st.sampled_from(Outcome),
    texts,
    values,
    st.none() | worsts,
    st.none() | counterexamples,
    st.floats(0, 1e3),
)
reports = st.builds(
    Report,
    texts,
    st.sampled_from(Verdict),
    texts,
    st.lists(checks, max_size=3).map(tuple),
    st.lists(texts, max_size=3).map(tuple),
    st.none() | counterexamples,
    st.dictionaries(texts, floats, max_size=3),
    values,
    lost_bits=st.none() | st.builds(LostBits, texts, texts, numbers, texts, texts, floats, floats, floats, texts),
)

X = np.array([[0.1, -0.0, np.nan], [np.inf, 5e-324, 1e300]])
WORST = Worst("grads[0].W", (1, 2), 1.0000001, 1.0, 8.4e8, 64.0)
REFUTED = Report(
    "examples.rules:sigmoid",
    Verdict.REFUTED,
    "the cotangent is ignored",
    (
        Check("structure", Outcome.HOLDS, "trees, shapes and dtypes agree", seconds=0.25),
        Check("proof", Outcome.UNDECIDED, "not equal in the field; " * 9, {"m": np.int64(3), "p": 2**61 - 1}),
        Check("rounding", Outcome.FAILS, "", {"ulps": np.float32(0.1)}, WORST, Counterexample((("x", X),), WORST), 0.5),
    ),
    ("0.1 is read as 1/10", "casts are the identity"),
    Counterexample((("x", X),), WORST),
    {"grads[0].W": 2e-13, "grads[0].b": np.inf},
    {"entry": "verify", "hashes": ["a", "b"], "seed": (0,)},
    seconds=0.75,
)


def same(a, b):
    """Equal to the last bit, by a route that does not use ``__eq__``."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, encoding.Values):
        return isinstance(b, encoding.Values) and list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@given(reports)
def test_json_round_trip_is_exact(report):
    text = report.to_json()
    read = Report.from_json(text)
    assert same(read, report)
    assert read == report and hash(read) == hash(report)
    assert read.to_json() == text
    assert json.loads(text, parse_constant=pytest.fail)["verdict"] == report.verdict.name


@given(reports)
def test_text_is_at_most_80_columns(report):
    lines = str(report).split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(report.verdict.name)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_are_equal(copied):
    assert same(copied(REFUTED), REFUTED)


def test_text_says_it_all():
    text = str(REFUTED)
    lines = text.splitlines()
    assert lines[0] == "REFUTED       examples.rules:sigmoid"
    assert lines[1] == "  the two programs differ by more than rounding can explain."
    assert lines[2] == "  the cotangent is ignored"
    order = [text.index(f"\n{name:<18}") for name in ("structure", "proof", "rounding", "counterexample", "assumes")]
    assert order == sorted(order)
    assert "worst grads[0].W[1, 2]: got 1.0000001, want 1, 8.4e+08" in text
    assert "(bound 64)" in text
    assert "x: float64[2, 3] 0.1 -0 nan inf ..." in text
    assert "0.1 is read as 1/10" in text and "grads[0].W: a relative error of 2.0e-13" in text
    assert "grads[0].b: no error; it is not exercised" in text
    assert lines[-1].split() == ["seconds", "0.75"]


def test_a_proof_is_told_once():
    said = "equal over finite fields"
    assert str(Report("s", Verdict.PROVED, said, (Check("proof", Outcome.PROVES, said),))).count(said) == 1


def test_a_fault_of_structure_is_no_difference_of_numbers():
    text = str(Report("s", Verdict.REFUTED, "why", (Check("structure", Outcome.FAILS, "why"),)))
    assert "rounding" not in text
    assert "no numbers were compared" in " ".join(text.split())


def test_a_long_line_is_cut_between_words():
    line = "    return " + " + ".join(f"number_{n}" for n in range(20))
    start = line.index("number_12")
    text = str(
        Report("s", Verdict.REFUTED, "", (), locations=(Location("f.py", 1, (start, start + 9), line, "f", (), "why"),))
    )
    shown, carets = text.splitlines()[-3:-1]
    first = shown.split()
    assert first[0] == "..."
    assert first[1] in (*line.split(),)
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "number_12"


def test_got_and_want_are_told_apart():
    close = Check("c", Outcome.FAILS, "", worst=Worst("x", (), np.nextafter(1.0, 2.0), 1.0))
    assert "got 1.0000000000000002, want 1" in str(Report("s", Verdict.REFUTED, "", (close,)))


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(REFUTED, subject="else"),
        dataclasses.replace(REFUTED, verdict=Verdict.INCONCLUSIVE),
        dataclasses.replace(REFUTED, assumptions=()),
        dataclasses.replace(REFUTED, counterexample=Counterexample((("x", -X),), WORST)),
        dataclasses.replace(REFUTED, counterexample=Counterexample((("y", X),), WORST)),
        dataclasses.replace(REFUTED, sensitivity={}),
        dataclasses.replace(REFUTED, certificate={}),
        dataclasses.replace(REFUTED, checks=REFUTED.checks[:2]),
    ],
)
def test_other_content_is_not_equal(other):
    assert other != REFUTED


def test_time_and_programs_are_not_compared():
    timed = dataclasses.replace(REFUTED.checks[0], seconds=9.0)
    assert timed == REFUTED.checks[0]
    assert Counterexample((("x", X),), WORST, lambda _: (0.0, 0.0)) == REFUTED.counterexample


def test_nothing_can_be_changed_from_outside():
    evidence, array = {"numbers": [1, 2]}, np.ones(3)
    check = Check("c", Outcome.HOLDS, "", evidence)
    example = Counterexample((("x", array),), WORST)
    evidence["numbers"].append(3)
    array[0] = 7
    assert check.evidence["numbers"] == (1, 2)
    assert example.inputs[0][1][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        example.inputs[0][1][0] = 7
    with pytest.raises(TypeError):
        check.evidence["more"] = 1  # pyright: ignore[reportIndexIssue]
    with pytest.raises(dataclasses.FrozenInstanceError):
        check.name = "d"  # pyright: ignore[reportAttributeAccessIssue]


def test_scalars_of_numpy_and_jax_are_taken():
    evidence = {"a": np.float32(0.1), "b": ml_dtypes.bfloat16(0.1), "c": np.bool_(True), "d": jnp.ones(2, jnp.bfloat16)}
    check = Check("c", Outcome.HOLDS, "", evidence)
    assert check.evidence["a"] == float(np.float32(0.1)) and type(check.evidence["a"]) is float
    assert check.evidence["b"] == 0.10009765625 and check.evidence["c"] is True
    assert check.evidence["d"].dtype == ml_dtypes.bfloat16
    with pytest.raises(TypeError, match="cannot hold a set"):
        Check("c", Outcome.HOLDS, "", {"a": {1}})


def test_worst_takes_what_arrays_give():
    worst = Worst("x", (np.int64(1),), np.float32(0.5), jnp.ones((), jnp.bfloat16), np.float64(3), None)
    assert worst == Worst("x", (1,), 0.5, 1.0, 3.0)
    assert "'x', index=(1,), got=0.5, want=1.0" in repr(worst).replace("path=", "")


def test_raises_only_when_refuted():
    with pytest.raises(GradientRefuted, match=r"REFUTED       examples") as raised:
        REFUTED.raise_if_refuted()
    assert raised.value.report is REFUTED
    assert pickle.loads(pickle.dumps(raised.value)).report == REFUTED
    for verdict in set(Verdict) - {Verdict.REFUTED}:
        report = dataclasses.replace(REFUTED, verdict=verdict)
        assert report.raise_if_refuted() is report
        assert report.ok is (verdict in (Verdict.PROVED, Verdict.VERIFIED))


def test_checks_are_found_by_name():
    assert REFUTED.check("proof").evidence["p"] == 2**61 - 1
    with pytest.raises(KeyError, match="no check 'prof'; choose one of structure, proof, rounding"):
        REFUTED.check("prof")


def test_replay_runs_the_programs_again():
    example = Counterexample((("x", X),), WORST, lambda inputs: (float(inputs[0][1, 2]), 2.0))
    assert example.replay() == (1e300, 2.0)
    with pytest.raises(RuntimeError, match="verify the rule again"):
        Report.from_json(REFUTED.to_json()).counterexample.replay()


def altered(change):
    packed = json.loads(REFUTED.to_json())
    change(packed)
    return json.dumps(packed)


def entry(packed):
    return packed["counterexample"]["inputs"][0][1]["$array"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "format"),
        ("{}", "format"),
        (b"{}", "is of type bytes, not text"),
        ('{"format": "handprop.report.v0"}', "handprop.report.v2"),
        ("[" * 100_000, "nested too deeply"),
        (REFUTED.to_json()[:-2], "delimiter"),
        (REFUTED.to_json().replace('"$float": "inf"', '"$float": 1'), "not a valid $float"),
        (REFUTED.to_json().replace("8.4e8", "NaN").replace("840000000.0", "NaN"), "NaN is not JSON"),
        (altered(lambda p: p.pop("sensitivity")), "a Report has the fields"),
        (altered(lambda p: p.update(more=1)), "a Report has the fields"),
        (altered(lambda p: p.update(verdict="GOOD")), "'GOOD' is not one of PROVED"),
        (altered(lambda p: p.update(verdict={})), "not a handprop report"),
        (altered(lambda p: p.update(subject=1)), "'1' is not of type str"),
        (altered(lambda p: p.update(checks={})), "is not of type tuple"),
        (altered(lambda p: p.update(checks=[1])), "a Check has the fields"),
        (altered(lambda p: p.update(assumptions=[1])), "is not of type str"),
        (altered(lambda p: p.update(sensitivity={"x": "y"})), "is not of type float"),
        (altered(lambda p: p.update(sensitivity={"x": True})), "is not of type float"),
        (altered(lambda p: p.update(lost_bits={"line": 1})), "a LostBits has the fields"),
        (altered(lambda p: p["checks"][0].update(outcome="maybe")), "'maybe' is not one of"),
        (altered(lambda p: p["counterexample"].update(inputs=[["x"]])), "1 entries, not 2"),
        (altered(lambda p: p["counterexample"]["worst"].update(index=[0.5])), "'0.5' is not of type int"),
        (altered(lambda p: p["certificate"].update({"x": {"$pickle": "gASV"}})), "the unknown key '$pickle'"),
        (altered(lambda p: entry(p).update(dtype="object")), "unknown dtype 'object'"),
        (altered(lambda p: entry(p).update(shape=[2**40, 2**40])), "bytes"),
        (altered(lambda p: entry(p).update(shape=[-1])), "shape"),
        (altered(lambda p: entry(p).update(base64="AAA=")), "bytes"),
        (altered(lambda p: entry(p).update(base64="~~~~")), "base64"),
        (altered(lambda p: entry(p).update(base64=1)), "must be text"),
        (altered(lambda p: entry(p).update(order="F")), "nothing else"),
    ],
)
def test_what_is_no_report_is_refused_in_one_sentence(text, said):
    with pytest.raises(ValueError, match="not a handprop report: ") as raised:
        Report.from_json(text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_text_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(encoding, "LARGEST_TEXT", 100)
    with pytest.raises(ValueError, match="more than the limit of 100"):
        Report.from_json(REFUTED.to_json())


@pytest.mark.own_faults
def test_a_check_that_fails_to_run_is_named_and_the_others_go_on(monkeypatch):
    def broken(subject, options):
        raise IndexError("too few indices")

    judge = sys.modules["handprop.verifier.verdict"]
    rungs = tuple((name, broken if name == "finite_differences" else rung) for name, rung in judge.CHECKS)
    monkeypatch.setattr(judge, "CHECKS", rungs)
    report = handprop.equivalent(jnp.sin, lambda x: jnp.sin(x) * 1.0, jnp.ones(3))
    assert report.verdict is handprop.Verdict.PROVED
    (said,) = report.internal
    assert re.fullmatch(r"the check 'finite_differences' stopped at verdict\.py:\d+: IndexError: too few indices", said)
    assert report.check("edge_cases").outcome is handprop.Outcome.HOLDS


def test_all_evidence_is_documented():
    x = jnp.linspace(0.1, 0.9, 4)
    reports = [
        handprop.equivalent(lambda x: 2.0 * jnp.where(x > 0.5, x, x**2), lambda x: jnp.where(x > 0.5, x, x**2) * 2, x),
        handprop.equivalent(lambda x: x * jnp.mean(x) * 5.0, lambda x: x * jnp.sum(x) * 1.25, x),
        handprop.equivalent(lambda x: x * 4.0, lambda x: x * x.size, x, skip="repair"),
        handprop.verify_gradient(lambda x: jnp.sign(x), lambda x: jnp.sum(jnp.abs(x)), x, skip="proof"),
    ]
    used = {key for report in reports for check in report.checks for key in check.evidence}
    assert used >= {"findings", "sizes", "bits", "points", "directions", "cotangents", "tried"}
    assert used <= set(re.findall("``(\\w+)``", Check.__doc__ or ""))
