"""The figures of ``experiments/mistakes_study.py`` do not fall: what it found is found again, and the docs say it.

A sample of the mutants of each part, of all whose line, a cause of the kind and a proved fix were found: also of those
that took nearly all of the work that a search has.
"""

import json
import re
from pathlib import Path

import corpus
import mistakes_study
import pytest

pytestmark = pytest.mark.usefixtures("jax_as_it_comes")
RESULTS = json.loads(mistakes_study.RESULTS.read_text())
SAMPLE = {"first": 12, "second": 8, "third": 6, "fourth": 4}


def sample(part):
    """Names of mutants that were found, evenly over the list."""
    found = [m["name"] for m in RESULTS[part]["mutants"] if m["place"] == 1 and m["fits"] and m["fixed"]]
    return found[:: max(1, len(found) // SAMPLE[part])][: SAMPLE[part]]


@pytest.mark.thinned(13)
@pytest.mark.parametrize(("part", "name"), [(part, name) for part in RESULTS for name in sample(part)])
def test_what_was_found_is_found_again(part, name):
    mutant = next(m for m in corpus.mutants(part) if m.name == name)
    outcome = mistakes_study.outcome(mutant)
    assert (outcome.place, outcome.fits, outcome.fixed) == (1, True, True), outcome


@pytest.mark.parametrize("part", RESULTS)
def test_the_summary_is_that_of_its_rows_and_of_every_mutant(part):
    rows = [mistakes_study.Outcome(**row) for row in RESULTS[part]["mutants"]]
    assert mistakes_study.summary(rows) == RESULTS[part]["summary"]
    assert [row.name for row in rows] == [m.name for m in corpus.mutants(part) if m.size == 0]
    assert all(row.fits == mistakes_study.fits(row.kind, row.diagnosis) for row in rows)


def test_no_part_waits_for_its_study():
    assert set(RESULTS) == set(corpus.PARTS)


LABELS = {
    "changed line named first": "right_line_first",
    "changed line within the first three": "right_line_within_three",
    "a cause of the mistake's kind": "cause_of_the_kind",
    "a cause of another kind": "cause_of_another_kind",
    "a proved fix": "proved_fix",
}


@pytest.mark.parametrize("label", LABELS)
def test_the_docs_say_what_was_measured(label):
    text = (Path(__file__).parents[3] / "docs" / "repair.md").read_text()
    row = re.search(rf"^\| {label} \| (.*) \|$", text, re.MULTILINE)
    assert row
    said = [float(cell.removesuffix(" %")) for cell in row[1].split(" | ")]
    assert said == [round(100 * RESULTS[part]["summary"][LABELS[label]], 1) for part in RESULTS]
