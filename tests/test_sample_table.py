"""``samples.csv``, read back."""

import csv
import io

import numpy as np

from fallow.sample_table import samples_csv


def test_samples_without_a_score_and_labels_that_look_like_formulas():
    scores = np.array([0.5, np.nan, -np.inf], np.float32)
    labels, reason = ["=1+1", "b,c", "not\ra"], np.array([0, 2, 0], np.uint8)
    rows = list(csv.reader(io.StringIO(samples_csv(labels, scores, reason, np.array([3, 0, 1]), nats=True))))
    assert rows == [
        ["index", "label", "score", "perplexity", "reason", "times_used"],
        ["0", "'=1+1", "0.5", "1.64872", "kept", "3"],
        ["1", "b,c", "", "", "outlier", "0"],
        ["2", "not\ra", "-inf", "0", "kept", "1"],
    ]


def test_without_labels_and_without_nats():
    text = samples_csv(None, np.array([0.25], np.float32), np.zeros(1, np.uint8), np.array([1]), nats=False)
    assert text.splitlines()[1] == "0,,0.25,,kept,1"
