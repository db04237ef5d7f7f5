"""``samples.csv``, read back."""

import csv
import io

import numpy as np

from fallow.runs.samples_csv import samples_csv


def test_samples_without_a_score_and_labels_that_look_like_formulas():
    scores = np.array([0.5, np.nan, -np.inf], np.float32)
    columns = (["=1+1", "b,c", "not\ra"], scores, np.array([0, 2, 0], np.uint8), np.array([3, 0, 1]))
    rows = list(csv.reader(io.StringIO(samples_csv(*columns, nats=True))))
    head = ["index", "label", "score", "perplexity", "reason", "times_used", "file", "predicted"]
    body = [
        ["0", "'=1+1", "0.5", "1.64872", "kept", "3"],
        ["1", "b,c", "", "", "outlier", "0"],
        ["2", "not\\u000da", "", "", "kept", "1"],
    ]
    assert rows == [head, *([*row, "", ""] for row in body)]
    names = ["=a/1.png", "b\n2.png", None]
    told = samples_csv(*columns, nats=True, files=names, predicted=["@b", None, "c"])
    rows = list(csv.reader(io.StringIO(told, newline="")))
    more = [["'=a/1.png", "'@b"], ["b\\u000a2.png", ""], ["", "c"]]
    assert rows == [head, *([*row, *two] for row, two in zip(body, more, strict=True))]


def test_names_hold_nothing_that_a_terminal_obeys():
    """The table is looked at by `cat` and `less -R` too."""
    name = "a\x1b[31m\x07\x9b\u202eb\udce9\t"
    scores = np.array([0.5], np.float32)
    text = samples_csv(
        [name], scores, np.zeros(1, np.uint8), np.array([1]), nats=False, files=[name], predicted=[name]
    )
    assert text.isprintable() is False
    assert text.replace("\n", "").isprintable()
    spelled = r"a\u001b[31m\u0007\u009b\u202eb\udce9\u0009"
    assert text.splitlines()[1] == f"0,{spelled},0.5,,kept,1,{spelled},{spelled}"


def test_without_labels_and_without_nats():
    text = samples_csv(None, np.array([0.25], np.float32), np.zeros(1, np.uint8), np.array([1]), nats=False)
    assert text.splitlines()[1] == "0,,0.25,,kept,1,,"
