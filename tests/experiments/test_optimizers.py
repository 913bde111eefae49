"""The study of optimizer steps: its corpus says what is wrong where, and its reports are judged by that."""

import optimizers
import pytest

STEPS = optimizers.steps()
ROW = optimizers.Said("right: sgd", "right", "PROVED")


def test_every_pair_has_a_name_and_every_wrong_step_one_marked_line():
    assert len(STEPS) == sum(map(len, optimizers.PARTS.values())) >= 85
    for part, step in STEPS.values():
        assert bool(step.where) == (part == "wrong"), step.name
        if step.where:
            file, line = optimizers.marked_line(step)
            assert file.endswith("optimizers_wrong.py") and line > 1


def test_a_mark_that_is_no_line_is_an_error():
    _, step = STEPS["wrong: adamw l2"]
    with pytest.raises(ValueError, match="exactly one must be marked"):
        optimizers.marked_line(step._replace(where="g = g - DECAY * p"))


@pytest.mark.parametrize(("part", "verdict", "fault"), [
    ("right", "PROVED", ""), ("right", "VERIFIED", ""), ("right", "REFUTED", "FALSE REFUTATION"),
    ("wrong", "REFUTED", ""), ("wrong", "VERIFIED", ""), ("wrong", "PROVED", "FALSE PROOF"),
    ("disputed", "PROVED", "FALSE PROOF"), ("right", "HANG", "HANG"),
])  # fmt: skip
def test_a_report_is_judged_by_what_is_true(part, verdict, fault):
    assert ROW._replace(part=part, verdict=verdict).fault == fault


def test_a_wrong_step_is_ranked_by_the_lines_that_are_named():
    row = optimizers.judged("wrong: averaged swapped", *STEPS["wrong: averaged swapped"])
    assert (row.verdict, row.place, row.fault) == ("REFUTED", 1, "")


def test_a_crash_is_counted():
    part, step = STEPS["right: sgd"]
    row = optimizers.judged("right: sgd", part, step._replace(make_args=lambda: (None,)))
    assert row.verdict == "CRASH" and row.reason


def test_the_table_has_totals_and_rows():
    wrong = optimizers.Said("wrong: adamw l2", "wrong", "REFUTED", diagnosis="a | b", place=2, fixed=True)
    text = optimizers.table([ROW, wrong])
    assert "| right | 1 | 1 | 0 | 0 | 0 |" in text
    assert "| adamw l2 | REFUTED | second | a \\| b | proved | 0.0 |" in text
    said = optimizers.summary([ROW, wrong])
    assert said.endswith("the marked line first 0, within three 1, a cause named 1, a fix proved 1")
