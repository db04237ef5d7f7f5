"""The CSV of an export: what a terminal would obey in a name is spelled, what a program reads stays exact."""

import json

import numpy as np

from fallow.runs.export import _csv, _json

COLUMNS = {
    "sample": np.arange(2, dtype=np.int64),
    "label": ["a\x1b[2J", None],
    "file": ["b\n\u202e.png", "c.png"],
    "score": np.array([0.5, np.nan], np.float32),
}


def test_csv(tmp_path):
    _csv(iter([COLUMNS, COLUMNS]), tmp_path / "x.csv")
    rows = [r"0,a\u001b[2J,b\u000a\u202e.png,0.5", "1,,c.png,"]
    assert (tmp_path / "x.csv").read_text().splitlines() == ["sample,label,file,score", *rows * 2]


def test_json(tmp_path):
    _json(iter([COLUMNS]), tmp_path / "x.json")
    assert [row["label"] for row in json.loads((tmp_path / "x.json").read_text())] == COLUMNS["label"]
    assert "\x1b" not in (tmp_path / "x.json").read_text()
