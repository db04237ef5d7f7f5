"""``fallow gaps``, ``fallow collect``, ``fallow train --add``: a gap is found, filled, and seen to shrink."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import fallow
from fallow.cli.main import main
from fallow.errors import InvalidValue
from fallow.runs.gaps_file import GapsFile

HIDDEN, JUNK = 0, 120


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on digits without a 0, in two coarse classes, and pools that hold zeros."""
    folder = tmp_path_factory.mktemp("gaps")
    digits = load_digits()
    images, fine = (digits.images / 16 * 255).round().astype(np.uint8), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    train, test, offered = order[:900], order[900:1050], order[1050:]
    train, test = train[fine[train] != HIDDEN], test[fine[test] != HIDDEN]
    coarse = (fine >= 5).astype(np.int64)
    np.savez(folder / "data.npz", x_train=images[train], y_train=coarse[train],
             x_test=images[test], y_test=coarse[test])  # fmt: skip
    junk = np.random.default_rng(1).integers(0, 256, (JUNK, 8, 8)).astype(np.uint8)
    np.savez(folder / "pool.npz", x=np.concatenate([images[offered], junk]))
    np.savez(folder / "labelled.npz", x=images[offered], y=coarse[offered])
    arguments = ["--data", str(folder / "data.npz"), "--epochs", "8", "--seed", "1"]
    assert main(["train", *arguments, "--out", str(folder / "run")]) == 0
    return folder, np.r_[fine[offered], np.full(JUNK, -1)]


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(made[0] / "run", tmp_path / "run")


def said(capsys, *words):
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, capsys.readouterr()


def told(capsys, *words):
    code, found = said(capsys, *words, "--json")
    assert code == 0
    return json.loads(found.out)


@pytest.mark.slow
def test_it_stays_quiet_where_nothing_is_missing(run, capsys):
    found = told(capsys, "gaps", run)
    assert found["gaps"] == []
    assert found["reference"] is None
    code, text = said(capsys, "gaps", run)
    assert code == 0
    assert "Nothing is missing" in text.out


def test_a_gap_is_found_filled_and_seen_to_shrink(made, run, capsys):
    folder, fine = made
    pool = folder / "labelled.npz"
    found = told(capsys, "gaps", run, "--reference", pool)
    gap = found["gaps"][0]
    named = [one["index"] for one in gap["examples"] if one["of"] == "reference"]
    assert np.mean(fine[named] == HIDDEN) > 0.8
    assert gap["action"] == "collect"
    assert gap["training"] < 5 < gap["reference"]
    kept = GapsFile.read(run / "gaps.safetensors")
    assert kept.gaps.gaps[0].name == "gap 1"
    assert kept.pictures.shape[1:] == (8, 8, 1)
    assert not told(capsys, "verify", run)["damaged"]

    picks = told(capsys, "collect", run, "--pool", pool, "--count", 60)
    assert {"index", "score", "region", "reason"} <= set(picks[0])
    assert len(picks) == len({pick["index"] for pick in picks}) == 60
    assert np.mean(fine[[pick["index"] for pick in picks if pick["region"]]] == HIDDEN) > 0.8

    list_ = run / "picks-000.csv"
    code, text = said(capsys, "train", "--resume", run, "--add", list_)
    assert code == 0
    assert "It now trains to epoch 12" in text.out
    again = told(capsys, "gaps", run, "--reference", pool)
    assert sum(card["lacking"] for card in again["gaps"]) < 0.5 * sum(c["lacking"] for c in found["gaps"])
    before = again["before"]["gaps"][0]
    assert before["now"] < before["percentile"]
    assert again["training_samples"] == found["training_samples"] + 60
    code, text = said(capsys, "gaps", run, "--reference", pool)
    assert "Found with" in text.out


def test_a_pool_says_what_it_leaves_out(made, run, tmp_path, capsys):
    with np.load(made[0] / "labelled.npz") as offered:
        images = offered["x"][:40]
    pool = tmp_path / "pool"
    pool.mkdir()
    for place, image in enumerate(images):
        Image.fromarray(image).save(pool / f"{place:02d}.png")
    (pool / "bad.png").write_bytes(b"no image")
    (pool / "empty.png").write_bytes(b"")
    (pool / "link.png").symlink_to("00.png")
    code, text = said(capsys, "collect", run, "--pool", pool, "--count", 5)
    assert code == 0
    assert f"Left out 1 link, as links in a pool are not followed: {pool / 'link.png'}." in text.err
    first = f"{pool / 'bad.png'} (its bytes are of no known image format)"
    assert f"Left out 2 that cannot be read, the first {first}." in text.err


@pytest.mark.slow
def test_junk_is_not_collected(made, run, capsys):
    folder, fine = made
    picks = told(capsys, "collect", run, "--pool", folder / "pool.npz", "--count", 40)
    assert np.sum(fine[[pick["index"] for pick in picks]] < 0) <= 4


@pytest.mark.slow
def test_the_list_waits_for_labels(made, run, tmp_path, capsys):
    folder, _ = made
    list_ = tmp_path / "list.csv"
    code, text = said(capsys, "collect", run, "--pool", folder / "pool.npz", "--count", 20, "--out", list_)
    assert code == 0
    assert "Fill in its column label" in text.out
    code, text = said(capsys, "train", "--resume", run, "--add", list_)
    assert code == 2
    assert "must have labels" in text.err
    with list_.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {""}
    for row in rows[:5]:
        row["label"] = "1"
    with list_.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    code, text = said(capsys, "train", "--data", folder / "data.npz", "--add", list_, "--epochs", 1,
                      "--out", tmp_path / "new")  # fmt: skip
    assert code == 0
    assert "15 of 20 picks have no label" in text.out
    more = json.loads((tmp_path / "new" / "summary.json").read_text())["samples_full"]
    assert more == json.loads((run / "summary.json").read_text())["samples_full"] / 8 + 5


@pytest.mark.slow
def test_python_does_the_same(made, run, tmp_path):
    folder, _ = made
    found = fallow.find_gaps(run, folder / "labelled.npz")
    assert found["gaps"]
    picks = fallow.collect(run, folder / "labelled.npz", 30, out=tmp_path / "picks.csv")
    assert len(picks.picks) == 30
    assert picks.path.exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["gaps", "nowhere"], "A run directory must exist"),
        (["gaps", "{run}", "--reference", "nowhere.npz"], "A pool must exist"),
        (["gaps", "{run}", "--reference", "{run}/state"], "must hold images"),
        (["collect", "{run}", "--pool", "{data}", "--count", "5"], "must hold `x`"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "0"], "must be at least 1"),
        (["collect", "{run}", "--pool", "{wide}", "--count", "5"], "1 x 8 x 8"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "5", "--out", "{pool}"], "must be a new file"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "5", "--out", "x.html"], "must be a table"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "5", "--out", "{run}/usage.csv"], "of a run"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "5", "--out", "{run}/state/4.csv"], "of a run"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "5", "--out", "no/where.csv"], "must exist"),
        (["collect", "{run}", "--pool", "{pool}", "--count", "many"], "many"),
        (["collect", "{run}", "--pool", "{noise}", "--count", "5"], "must hold a candidate"),
        (["train", "--data", "{data}", "--add", "nowhere.csv"], "must name a list of picks"),
    ],
)
def test_wrong_words_are_told(made, run, tmp_path, capsys, words, error):
    folder, _ = made
    np.savez(tmp_path / "wide.npz", x=np.zeros((5, 9, 9), np.uint8))
    np.savez(tmp_path / "noise.npz", x=np.random.default_rng(0).integers(0, 256, (90, 8, 8)).astype(np.uint8))
    places = {"run": run, "data": folder / "data.npz", "pool": folder / "pool.npz",
              "wide": tmp_path / "wide.npz", "noise": tmp_path / "noise.npz"}  # fmt: skip
    code, found = said(capsys, *(word.format(**places) for word in words))
    assert code == 2
    assert error in found.err
    assert not (run / "picks-000.csv").exists()


def test_a_run_without_weights_is_refused(run, capsys):
    (run / "model.safetensors").unlink()
    code, found = said(capsys, "gaps", run)
    assert code == 2
    assert "no model.safetensors" in found.err


def test_damaged_weights_are_told(run, capsys):
    path = run / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert said(capsys, "gaps", run)[0] == 3


def test_samples_that_are_held_out_are_never_added(made, run, tmp_path):
    folder, _ = made
    with np.load(folder / "data.npz") as data:
        np.savez(tmp_path / "leak.npz", x=data["x_test"], y=data["y_test"])
    with pytest.raises(InvalidValue, match="measured on"):
        fallow.collect(run, tmp_path / "leak.npz", 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--score", "density", "--density", "gaussian"],
        ["--task", "autoencoder", "--density", "gaussian"],
        ["--model", "small-resnet"],
    ],
)
def test_other_runs(made, tmp_path, capsys, words):
    folder, _ = made
    out, pool = tmp_path / "run", folder / "labelled.npz"
    assert (
        main(["train", "--data", str(folder / "data.npz"), "--epochs", "8", "--out", str(out), *words]) == 0
    )
    found = told(capsys, "gaps", out, "--reference", pool)
    assert found["gaps"] or words[1] == "autoencoder"
    assert told(capsys, "gaps", out)["gaps"] == []
    picks = told(capsys, "collect", out, "--pool", pool, "--count", 20)
    assert len(picks) == 20
    code, _ = said(capsys, "train", "--resume", out, "--add", out / "picks-000.csv", "--epochs", 9)
    assert code == 0


@pytest.mark.slow
def test_labels_come_in_two_sittings(made, run, tmp_path, capsys):
    folder, _ = made
    list_ = tmp_path / "list.csv"
    assert said(capsys, "collect", run, "--pool", folder / "pool.npz", "--count", 12, "--out", list_)[0] == 0
    rows = list(csv.DictReader(list_.read_text().splitlines()))

    def label(count):
        for row in rows[:count]:
            row["label"] = "1"
        with list_.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)

    def samples():
        return told(capsys, "gaps", run)["training_samples"]

    before = samples()
    label(5)
    assert said(capsys, "train", "--resume", run, "--add", list_, "--epochs", 9)[0] == 0
    assert samples() == before + 5
    label(12)
    assert samples() == before + 5  # the run has a list of its own
    assert said(capsys, "train", "--resume", run, "--add", list_, "--epochs", 10)[0] == 0
    list_.unlink()
    assert samples() == before + 12
    assert sorted(path.name for path in run.glob("added-*")) == ["added-000.csv", "added-001.csv"]
    assert not told(capsys, "verify", run)["damaged"]


@pytest.mark.slow
def test_data_that_changed_otherwise_are_not_accepted_with_a_list(made, run, tmp_path, capsys):
    folder, _ = made
    list_ = tmp_path / "list.csv"
    said(capsys, "collect", run, "--pool", folder / "labelled.npz", "--count", 5, "--out", list_)
    kept = (folder / "data.npz").read_bytes()
    with np.load(folder / "data.npz") as data:
        changed = dict(data)
    changed["x_train"] = changed["x_train"][1:]
    changed["y_train"] = changed["y_train"][1:]
    np.savez(folder / "data.npz", **changed)
    try:
        code, found = said(capsys, "train", "--resume", run, "--add", list_)
        assert code == 2
        assert "must be those that" in found.err
        assert not list(run.glob("added-*"))
    finally:
        (folder / "data.npz").write_bytes(kept)


@pytest.mark.parametrize("command", [["gaps"], ["collect", "--pool", "nowhere", "--count", "3"]])
def test_a_run_that_does_not_exist_is_named_before_anything_else(tmp_path, command, capsys):
    assert main([command[0], str(tmp_path / "nowhere"), *command[1:]]) == 2
    assert f"A run directory must exist. Found {tmp_path / 'nowhere'}." in capsys.readouterr().err
