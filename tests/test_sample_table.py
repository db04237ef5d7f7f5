"""``samples.csv``, read back."""

import csv
import io

import numpy as np

from fallow.sample_table import samples_csv


def test_samples_without_a_score_and_labels_that_look_like_formulas():
    scores = np.array([0.5, np.nan], np.float32)
    text = samples_csv(["=1+1", "b,c"], scores, np.array([0, 2], np.uint8), np.array([3, 0]), nats=True)
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1:] == [["0", "'=1+1", "0.5", "1.64872", "kept", "3"], ["1", "b,c", "", "", "outlier", "0"]]
