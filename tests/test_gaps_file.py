"""The file of gaps: it is read as it was written, and damage is told."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from fallow.errors import DamagedData
from fallow.files.array_file import dump_headed
from fallow.runs.gaps_file import FORMAT, GapsFile, dump_gaps, gaps_of
from fallow.runs.schema import Gaps
from test_checkpoints import mutated

TOLD = {
    "run": "runs/größe",
    "gaps": [
        {
            "name": "gap 1",
            "size": 7,
            "error": None,
            "examples": [{"of": "training", "index": 3, "picture": 0}],
        }
    ],
    "thin": [],
    "usual": 1.25,
}
PICTURES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
DATA = dump_gaps(TOLD, PICTURES)


def read(data, folder):
    path = Path(folder) / "gaps.safetensors"
    path.write_bytes(data)
    return GapsFile.read(path)


@pytest.mark.parametrize("pictures", [None, PICTURES, PICTURES[..., :1], PICTURES[:0], PICTURES[:, ::2]])
def test_it_is_read_as_it_was_written(pictures, tmp_path):
    found = read(dump_gaps(TOLD, pictures), tmp_path)
    assert found.gaps == gaps_of(TOLD)
    assert (found.gaps.run, found.gaps.gaps[0].examples[0].picture) == ("runs/größe", 0)
    if pictures is None:
        assert found.pictures is None
    else:
        assert found.pictures.dtype == np.uint8
        np.testing.assert_array_equal(found.pictures, pictures)


def test_equal_gaps_give_equal_bytes():
    assert dump_gaps(json.loads(json.dumps(TOLD)), PICTURES.copy()) == DATA


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=mutated(DATA))
def test_a_changed_file_is_refused_or_read(data, tmp_path):
    """It is refused, or it is what a report can read: its manifest knows whether it was changed."""
    with suppress(DamagedData):
        found = read(data, tmp_path)
        assert isinstance(found.gaps, Gaps)
        assert found.pictures is None or found.pictures.ndim == 4


def test_a_file_that_is_cut_is_refused(tmp_path):
    for length in range(0, len(DATA), 7):
        with pytest.raises(DamagedData):
            read(DATA[:length], tmp_path)


@pytest.mark.parametrize(
    ("told", "arrays", "words"),
    [
        ({"thin": []}, {}, r"missing required field `gaps`\. Run fallow gaps again"),
        ({"gaps": [], "thin": {}}, {}, r"must be as fallow writes it.*\$\.thin"),
        ({"gaps": None, "thin": []}, {}, r"must be as fallow writes it.*\$\.gaps"),
        ({"gaps": [3], "thin": []}, {}, r"must be as fallow writes it.*\$\.gaps\[0\]"),
        (["gaps"], {}, r"must be as fallow writes it.*\$\.told"),
        (None, {}, r"must be as fallow writes it.*\$\.told"),
        (TOLD, {"pictures": PICTURES.astype(np.float32)}, "must hold"),
        (TOLD, {"pictures": PICTURES[0]}, "must hold"),
        (TOLD, {"pictures": PICTURES[..., :2]}, "must hold"),
    ],
)
def test_what_is_no_list_of_cards_is_refused(told, arrays, words, tmp_path):
    data = dump_headed({"there": np.ones(1, np.uint8), **arrays}, {"format": FORMAT, "told": told})
    with pytest.raises(DamagedData, match=words):
        read(data, tmp_path)


def test_a_file_of_another_format_is_refused(tmp_path):
    data = dump_headed({"there": np.ones(1, np.uint8)}, {"format": "fallow-gaps-2", "told": TOLD})
    with pytest.raises(DamagedData, match=r"must be of the format fallow-gaps-1\. Found fallow-gaps-2"):
        read(data, tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DamagedData, match="must exist"):
        GapsFile.read(tmp_path / "gaps.safetensors")
    with pytest.raises(DamagedData, match=r"must be a regular file\. Found a folder"):
        GapsFile.read(tmp_path)
