"""``samples.csv``, read back."""

import csv
import io

import numpy as np
import pytest

from fallow.sample_table import safe_cell, samples_csv


def test_samples_without_a_score_and_labels_that_look_like_formulas():
    scores = np.array([0.5, np.nan], np.float32)
    columns = (["=1+1", "b,c"], scores, np.array([0, 2], np.uint8), np.array([3, 0]))
    rows = list(csv.reader(io.StringIO(samples_csv(*columns, nats=True))))
    first, second = ["0", "'=1+1", "0.5", "1.64872", "kept", "3"], ["1", "b,c", "", "", "outlier", "0"]
    assert rows[0] == ["index", "label", "score", "perplexity", "reason", "times_used", "file", "predicted"]
    assert rows[1:] == [[*first, "", ""], [*second, "", ""]]
    told = samples_csv(*columns, nats=True, files=["=a/1.png", "b\n2.png"], predicted=["@b", None])
    rows = list(csv.reader(io.StringIO(told, newline="")))
    assert rows[1:] == [[*first, "'=a/1.png", "'@b"], [*second, "b\n2.png", ""]]


@pytest.mark.parametrize("number", ["-1", "-12", "-0.5", "-1e5", "-1.5E-3", "0", "7"])
def test_a_number_is_no_formula(number):
    assert safe_cell(number) == number


@pytest.mark.parametrize(
    "text",
    ["-", "-cmd", "-1+1", "-1\n", "--1", "-1 ", "-A1", "-1e", "=1", "+1", "+x", "@x", "\tx", "\rx", "|x"],
)
def test_what_may_be_a_formula_is_guarded(text):
    assert safe_cell(text) == f"'{text}"
