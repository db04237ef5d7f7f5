"""The benchmarks by a plain loop: what arms train on, rare events, pictures, and runs that are made once."""

import importlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fallow.errors import DamagedData, InvalidValue

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
with pytest.MonkeyPatch.context() as patch:  # as scripts find what lies beside them
    patch.syspath_prepend(BENCHMARKS)
    plain_loop, coordinates, rare_events = map(
        importlib.import_module, ("plain_loop", "coordinates", "rare_events")
    )


@pytest.fixture
def small():
    return replace(coordinates.WORKS["china-128"], side=16, epochs=4, batch_size=32)


def test_the_pixels_of_a_picture_and_their_places(small):
    whole = coordinates.picture("china", 128)
    assert whole.shape == (128, 128, 3)
    assert 0 <= whole.min() < 0.2 < 0.8 < whole.max() <= 1
    at = coordinates.places(4).reshape(4, 4, 2)
    assert at[0, 0].tolist() == [-0.75, -0.75]
    assert at[1, 3].tolist() == [-0.25, 0.75]
    rows = small.material(0).rows
    assert torch.equal(rows[17][1], coordinates.picture("china", 16)[1, 1])
    assert torch.equal(rows[17][0], coordinates.places(16)[17])


def test_psnr(small):
    made = small.material(0)
    with torch.no_grad():
        for value in made.model.parameters():
            value.zero_()
        error = made.rows.tensors[1].square().mean().item()
        assert made.measure()["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


@pytest.mark.parametrize(
    ("arm", "saved", "passes", "steps"),
    [
        ("full", None, 4 * 256, 4 * 8),
        ("fewer-epochs", 0.5, 2 * 256, 2 * 8),
        ("fewer-epochs-thin", 0.5, 2 * 256, 4 * 8),
    ],
)
def test_arms_without_fallow(small, arm, saved, passes, steps):
    run = plain_loop.train(small, arm, saved, 0)
    assert (run["passes"], run["steps"]) == (passes, steps)
    assert run["saved_fraction"] == pytest.approx(saved or 0)
    assert run["measured"]["psnr"] > 5


@pytest.mark.parametrize(
    ("arm", "saved", "kept_steps"),
    [("random", 0.5, True), ("random-dropped", 0.5, False), ("hard", 0.5, True), ("default", None, True)],
)
def test_arms_with_fallow(small, arm, saved, kept_steps):
    run = plain_loop.train(small, arm, saved, 0)
    assert run["passes"] == round(sum((1 - share) * 256 for share in run["left_out"]))
    assert run["left_out"][0] == 0
    assert (run["steps"] == 4 * 8) == kept_steps
    if saved is not None:
        assert run["saved_fraction"] == pytest.approx(saved, abs=0.01)


def test_full_training_fits_better_than_half_of_it():
    work = replace(coordinates.WORKS["flower-128"], side=32, epochs=20, batch_size=128)
    full, half = (plain_loop.train(work, *arm, 0) for arm in (("full", None), ("fewer-epochs", 0.5)))
    assert full["measured"]["psnr"] > half["measured"]["psnr"] + 1


@pytest.mark.slow  # two processes that load torch
def test_runs_are_made_once(small, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)  # handed on to the processes of the runs
    monkeypatch.setattr(plain_loop, "RESULTS", tmp_path / "results")
    names, folder = ["full", "fewer-epochs"], tmp_path / "runs"
    runs = plain_loop.compare(small, folder, names, "0.5", 1, 1)
    assert [(run["arm"], run["saved"]) for run in runs] == [("full", None), ("fewer-epochs", 0.5)]
    path = folder / "full-seed0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cpu_seconds": 123.0}))
    again = plain_loop.compare(small, folder, names, "0.5", 1, 1)
    assert [run["cpu_seconds"] for run in again] == [123.0, runs[1]["cpu_seconds"]]
    with pytest.raises(InvalidValue, match="same settings"):
        plain_loop.compare(replace(small, epochs=5), folder, names, "0.5", 1, 1)
    plain_loop.kept_results("picture", again)
    plain_loop.kept_results("picture", again)  # replaces its own rows
    table = plain_loop.table("picture", small).splitlines()
    assert len(table) == 4
    assert table[2].startswith("| full | 1 | 0.0% | 32 |")
    assert table[2].endswith("| 123 |")
    difference = again[1]["measured"]["psnr"] - again[0]["measured"]["psnr"]
    assert f"| {difference:+.2f} |" in table[3]


def test_what_cannot_be_compared(small, tmp_path):
    with pytest.raises(InvalidValue, match=r"Unknown arm.*'ful'"):
        plain_loop.compare(small, tmp_path, ["ful"], "0.5", 1, 1)
    with pytest.raises(InvalidValue, match="auto needs the arm default"):
        plain_loop.compare(small, tmp_path, ["random"], "auto", 1, 1)


# Rare events


def saved_frame(columns, levels):
    """A data frame as R saves it: numbers, integers last, with names and levels that come by reference."""

    def texts(words):
        items = b"".join(struct.pack(">ii", 9, len(word)) + word.encode() for word in words)
        return struct.pack(">ii", 16, len(words)) + items

    def symbol(name):
        return struct.pack(">iii", 1, 9, len(name)) + name.encode()

    end, pair = struct.pack(">i", 254), struct.pack(">i", 1024 | 2)
    *numbers, last = columns
    body = b"".join(struct.pack(">ii", 14, len(one)) + np.asarray(one, ">f8").tobytes() for one in numbers)
    attributes = pair + symbol("levels") + texts(levels) + pair + symbol("class") + texts(["factor"]) + end
    body += struct.pack(">ii", 512 | 256 | 13, len(last)) + np.asarray(last, ">i4").tobytes() + attributes
    known = struct.pack(">i", 3 << 8 | 255)  # the third symbol: class
    frame = struct.pack(">ii", 512 | 256 | 19, len(columns)) + body
    frame += pair + symbol("names") + texts("abc") + pair + known + texts(["data.frame"]) + end
    return b"RDX2\nX\n" + bytes(12) + pair + symbol("Frame") + frame + end


def test_a_saved_data_frame():
    columns = [[1.5, -2.0], [0.0, 7.25], [2, 1]]
    assert rare_events.table(saved_frame(columns, ["x", "y"])).T.tolist() == columns


def test_a_saved_value_of_another_kind():
    with pytest.raises(DamagedData, match="kind 3"):
        rare_events.table(b"RDX2\nX\n" + bytes(12) + struct.pack(">ii", 3, 1))


def test_halves_share_each_state():
    states = np.repeat([0, 1, 2], [101, 30, 5])
    one, two = rare_events.halves(states, np.random.default_rng(0))
    assert sorted([*one, *two]) == list(range(136))
    assert (np.abs(np.bincount(states[one]) - np.bincount(states[two])) <= 1).all()


def test_class_balanced_rows():
    labels = np.repeat([0, 1], [900, 100])
    rng = np.random.default_rng(0)
    for count, sizes in ((150, [75, 75]), (300, [200, 100]), (1000, [900, 100])):
        rows = rare_events.balanced(labels, count, rng)
        assert len(set(rows)) == count
        assert np.bincount(labels[rows]).tolist() == sizes
    assert set(rare_events.balanced(labels, 150, rng)) != set(rare_events.balanced(labels, 150, rng))
    assert np.bincount(labels[rare_events.oversampled(labels, 10_000, rng)])[1] == pytest.approx(
        5000, abs=200
    )


def test_recall_at_a_rate_of_false_alarms():
    scores, events = np.arange(1000.0), np.zeros(1000, np.bool_)
    events[[999, 990, 500, 0]] = True
    assert rare_events.recall_at(scores, events, 0.001) == 0.25
    assert rare_events.recall_at(scores, events, 0.02) == 0.5
    # At most that share of the others scores above the threshold, or as high.
    assert rare_events.recall_at(np.zeros(1000), events, 0.5) == 0


@pytest.fixture
def events(monkeypatch):
    rng = np.random.default_rng(0)
    sensors = rng.normal(size=(3000, 9))
    states = np.where(rng.random(3000) < 0.02, 3, 1)
    sensors[states == 3] += 2
    monkeypatch.setattr(rare_events, "shuttle", lambda: (sensors, states))
    return replace(rare_events.WORKS["shuttle"], epochs=4, learning_rate=0.01)


@pytest.mark.parametrize("arm", ["full", "balanced", "oversampled"])
def test_events_are_found(events, arm):
    run = plain_loop.train(events, arm, None if arm == "full" else 0.5, 0)
    assert run["measured"]["average_precision"] > 0.8
    assert run["saved_fraction"] == pytest.approx(0 if arm == "full" else 0.5)
    assert run["steps"] == pytest.approx(4 * 12, abs=1)
