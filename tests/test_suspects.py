"""Which labels look wrong: held against sums by hand, and against labels that were changed on purpose."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from fallow.cli.main import main
from fallow.core.history import describe
from fallow.core.table import TRAINED, Table
from fallow.errors import DamagedData, InvalidValue
from fallow.report import write_report
from fallow.runs import suspects
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile, other_classes
from fallow.runs.run_files import RunFiles
from fallow.runs.schema import About
from fallow.runs.suspects import Confusion, doubts, find_suspects, roots, suspected, weight

NAMES = ("ash", "box", "elm")


def epoch_of(number, p, other=None):
    """Return an epoch after which a sample's label has the probability `p`, NaN for no score."""
    scores = -np.log(np.array(p)).astype(np.float32)
    table = Table(scores.size)
    table.scores[:], table.scored_in[:], table.seen[:] = scores, number + 1, TRAINED
    other = None if other is None else np.array(other, np.uint16)
    return EpochFile(describe(table, number, 0, 0.0), scores, np.zeros(scores.size, np.uint8), other)


def run_of(path, passes, labels, options=None, **data):
    """Write a run whose epochs are pairs of probabilities and other classes, and read it."""
    run = RunDirectory.create(path)
    given = None if labels is None else np.array(labels, np.int32)
    run.put(run.data_path, DataFile(len(passes[-1][0]), given, classes=NAMES, **data).dump())
    for number, (p, other) in enumerate(passes):
        run.write_epoch(epoch_of(number, p, other))
    about = About(options={"data": "toy", **(options or {})}, epoch=len(passes), epochs=len(passes),
                  score_unit="nats")  # fmt: skip
    Checkpoints(run.path).write(save({"a": np.zeros(1)}), about, run.needed(len(passes)))
    run.write_text(run.config_path, "data: toy\n")
    run.release()
    return RunFiles(path)


EARLY = [0.5, 0.6, 0.1, 0.4], [0, 0, 3, 1]
KNOWN = [0.9, 0.9, 0.2, 0.8], [0, 0, 3, 0]
BY_HEART = [0.99, 0.4, 0.999, 0.9], [0, 2, 0, 0]


def test_passes_count_by_how_unsure_they_are(tmp_path):
    run = run_of(tmp_path / "run", [EARLY, KNOWN, BY_HEART], [0, 0, 0, 1])
    p = np.array([EARLY[0], KNOWN[0], BY_HEART[0]])
    v = 1 - p.mean(1)
    weights = v * (1 - v)
    wanted = 1 - (weights @ np.sqrt(p) / weights.sum()) ** 2
    assert doubts(run) == pytest.approx(wanted)
    found = find_suspects(run)
    # By the last pass it would be sample 1, whose class all others took right.
    assert [(one.index, one.given, one.suggested) for one in found.suspects] == [(2, "ash", "elm")]
    assert found.suspects[0].confidence == pytest.approx(wanted[2])
    assert (found.found, found.samples, found.epochs) == (1, 4, 3)
    assert found.pairs == (Confusion("ash", "elm", 1),)


def test_a_sample_that_came_later_is_compared_with_the_same_passes(tmp_path):
    nan = np.nan
    passes = [([0.2, 0.3, nan], None), ([0.9, 0.8, 0.8], None)]
    found = doubts(run_of(tmp_path / "run", passes, [0, 0, 0]))
    # In its only epoch it was level with sample 1; the mean of its own passes would be 1 - 0.8.
    assert found[2] == pytest.approx(found[1], abs=0.06)
    worse = doubts(run_of(tmp_path / "worse", [passes[0], ([0.9, 0.8, 0.5], None)], [0, 0, 0]))
    assert worse.argmax() == 2


def test_a_sample_that_never_had_a_score_is_no_suspect(tmp_path):
    run = run_of(tmp_path / "run", [([0.5, np.nan], [0, 2])], [0, 0])
    assert doubts(run)[1] == -1
    assert find_suspects(run).suspects == ()


def test_count_cuts_the_list_and_nothing_else(tmp_path):
    passes = [([0.1, 0.2, 0.3, 0.9], [2, 2, 3, 0])]
    run = run_of(tmp_path / "run", passes, [0, 0, 0, 0])
    every, first = find_suspects(run), find_suspects(run, 1)
    assert [one.index for one in every.suspects] == [0, 1, 2]
    assert first == replace(every, suspects=every.suspects[:1])
    assert json.loads(json.dumps(every.to_dict()))["pairs"][0] == {
        "given": "ash",
        "suggested": "box",
        "count": 2,
    }
    with pytest.raises(InvalidValue, match="must be at least 1"):
        find_suspects(run, 0)


def test_a_label_that_was_corrected_since_is_not_suspected_for_what_it_was(tmp_path):
    passes = [([0.5, 0.5], [3, 3])]
    run = run_of(tmp_path / "run", passes, [2, 0])
    assert [one.index for one in find_suspects(run).suspects] == [1]


def test_a_run_of_before_has_confidence_alone(tmp_path):
    run = run_of(tmp_path / "run", [([0.1, 0.9], None)], [0, 0])
    (one,) = find_suspects(run).suspects
    assert (one.index, one.suggested) == (0, None)
    assert find_suspects(run).pairs == ()


def test_other_scores_count_by_their_rank():
    assert roots(np.array([3.0, 1.0, 2.0, np.nan, 9.0]), probabilities=False)[[1, 2, 0, 4]] == pytest.approx(
        np.sqrt([0.875, 0.625, 0.375, 0.125])
    )
    tied = roots(np.array([1.0, 1.0, 2.0]), probabilities=False)
    assert tied[0] == tied[1]
    assert weight(np.sqrt(np.array([0.5, 0.5, np.nan]))) == 0.25
    assert weight(np.ones(3)) == 0


def test_a_run_that_knows_every_label_by_heart_has_no_suspects(tmp_path):
    run = run_of(tmp_path / "run", [([1.0, 1.0], [0, 0])], [0, 1])
    assert find_suspects(run).suspects == ()
    assert doubts(run).tolist() == [-1, -1]


def test_the_suspects_alone_are_those_of_the_list(trained):
    run = RunFiles(trained)
    found = suspected(run)
    assert found.size
    assert found.tolist() == sorted(one.index for one in find_suspects(run).suspects)


def test_the_size_of_a_part_changes_nothing(tmp_path, monkeypatch):
    """Sums are made over parts of the samples and of the votes: parts of 3 give what one part gives."""
    draw = np.random.default_rng(0)
    passes = [(draw.uniform(0.02, 0.98, 50), draw.integers(0, 4, 50)) for _ in range(9)]
    passes[2][0][5:9] = np.nan
    run = run_of(tmp_path / "run", passes, draw.integers(0, 3, 50))
    whole, found = doubts(run), find_suspects(run)
    monkeypatch.setattr(suspects, "_PART", 3)
    monkeypatch.setattr(suspects, "_VOTES", 3)
    assert doubts(run) == pytest.approx(whole, rel=1e-12)
    in_parts = find_suspects(run)
    assert [(one.index, one.suggested) for one in in_parts.suspects] == [
        (one.index, one.suggested) for one in found.suspects
    ]
    assert (in_parts.pairs, in_parts.found) == (found.pairs, found.found)
    assert found.found > 5


def test_copies_with_different_labels_are_grouped(tmp_path):
    sums = np.array([7, 5, 7, 5, 9, 7], np.uint64)
    passes = [([0.9] * 6, [0] * 6)]
    run = run_of(tmp_path / "run", passes, [0, 1, 2, 1, 0, -1], content=sums)
    (group,) = find_suspects(run).copies
    assert [(one.index, one.given) for one in group] == [(0, "ash"), (2, "elm"), (5, "")]
    files = tuple(f"/p/{number}.png" for number in range(6))
    by_name = run_of(tmp_path / "names", passes, [0] * 6, content=sums, files=files)
    assert find_suspects(by_name).copies is None


@pytest.mark.parametrize(
    ("options", "labels", "words"),
    [
        ({"task": "language-model"}, None, "must have labels to find wrong ones. Found a language model"),
        ({"task": "autoencoder"}, [0, 1], "Found an autoencoder"),
        ({"score": "density"}, [0, 1], "must judge labels to find wrong ones. Found --score density"),
        ({}, None, "must have labels to find wrong ones. Found none"),
        ({}, [-1, -1], "must have labels to find wrong ones. Found none"),
    ],
)
def test_runs_without_labels_to_judge_are_refused(tmp_path, capsys, options, labels, words):
    run_of(tmp_path / "run", [([0.5, 0.5], None)], labels, options)
    assert main(["suspects", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "fallow report shows" in said


def test_predictions_are_kept_where_they_differ_from_the_label():
    file = epoch_of(1, [0.5] * 9, [0, 3, 0, 0, 0, 0, 0, 0, 65535])
    again = EpochFile.parse(file.dump(), "epoch", 1)
    assert again.other.tolist() == file.other.tolist()
    assert load(file.dump())["other"].tolist() == [3, 65535]
    assert EpochFile.parse(epoch_of(1, [0.5]).dump(), "epoch", 1).other is None
    assert other_classes(np.array([-1, -1]), np.array([0, 1])) is None
    assert other_classes(np.array([0, 1 << 16]), np.array([0, 1])) is None
    assert other_classes(np.array([0, 1]), None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("differs", np.zeros(3, np.uint8)),
        ("other", np.zeros(2, np.uint16)),
        ("other", np.ones(1, np.uint16)),
        ("other", np.ones(2, np.int32)),
    ],
)
def test_damaged_predictions_are_found(name, value):
    data = epoch_of(1, [0.5] * 9, [0, 3, 0, 0, 0, 0, 0, 0, 1]).dump()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["fallow"]
    with pytest.raises(DamagedData, match=f"must hold `{name}`"):
        EpochFile.parse(save({**load(data), name: value}, metadata={"fallow": header}), "epoch", 1)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Return a folder with digits of which 30 have another label, and the true labels."""
    from fallow.datasets import load_images

    folder = tmp_path_factory.mktemp("noisy")
    digits = load_images("digits")
    x, y = digits.train.images.numpy()[:600], digits.train.labels.numpy()[:600]
    wrong = y.copy()
    wrong[::20] = (y[::20] + 1 + np.arange(30) % 9) % 10
    np.savez(folder / "noisy.npz", x_train=x, y_train=wrong, x_test=x[:50], y_test=y[:50])
    return folder / "noisy.npz", y


@pytest.fixture(scope="module", params=["error-mass", "full"])
def trained(request, noisy, tmp_path_factory):
    out = tmp_path_factory.mktemp("suspects") / "run"
    words = ["train", "--data", str(noisy[0]), "--epochs", "10", "--accelerator", "cpu", "--augment", "none"]
    assert main([*words, "--policy", request.param, "--out", str(out)]) == 0
    return out


def test_wrong_labels_come_first_with_their_true_class(trained, noisy):
    run, truth = RunFiles(trained), noisy[1]
    first = find_suspects(run).suspects[:25]
    hits = [one for one in first if one.index % 20 == 0]
    assert len(hits) >= 20
    assert sum(one.suggested == str(truth[one.index]) for one in hits) >= 18
    # By the last pass many of them are known by heart under full training.
    assert all(one.given == str(run.labels[one.index]) for one in first)


def test_the_report_shows_pictures_of_suspects(trained, tmp_path):
    shown = {one.index for one in find_suspects(RunFiles(trained), 60).suspects}
    assert shown <= set(RunFiles(trained).shown.index.tolist())
    page = write_report(RunFiles(trained), tmp_path / "report.html").read_text()
    section = page.partition('<section id="suspects"')[2].partition("</section>")[0]
    assert "Labels that look wrong" in section
    assert section.count("<img ") == section.count("looks like</span>") == len(shown)
    assert "Confused classes" in section


@pytest.mark.parametrize("width", [80, 60])
def test_the_terminal_is_not_too_narrow(trained, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["suspects", str(trained), "--count", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("sample "))
    assert head.split() == ["sample", "given", "looks", "like", "sure"]
    # A command stays whole, so that it can be copied.
    assert max(len(line.rstrip()) for line in lines if "fallow " not in line) <= width
    assert sum(line.rstrip().endswith("%") for line in lines) == 5


def test_it_loads_no_torch(trained):
    run = f"from fallow.cli.main import main; main(['suspects', {str(trained)!r}])"
    code = f"import sys; {run}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
