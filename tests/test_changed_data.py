"""Runs whose data change on the way: what was held out stays, and every sample keeps its past."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fallow.cli.main import main
from fallow.datasets import held_out
from fallow.errors import InvalidValue
from fallow.options.train_options import TrainOptions
from fallow.runs.run_files import RunFiles
from fallow.tasks import parts
from fallow.training.train import train
from test_resumed_runs import go_on
from told_console import Told

QUICK = {"batch_size": 16, "accelerator": "cpu", "policy": "threshold", "low": 0.3}


def picture(seed, label=0):
    pixels = np.random.default_rng(seed).integers(0, 90, (8, 8)).astype(np.uint8)
    return Image.fromarray(pixels + np.uint8(60 * label))


def images(place, classes=3, each=20):
    for label in range(classes):
        (place / f"c{label}").mkdir(parents=True)
        for number in range(each):
            picture(100 * label + number, label).save(place / f"c{label}" / f"i{number:03d}.png")
    return place


class Past:
    """What a run tells of each sample, by its checksum."""

    def __init__(self, path):
        run = RunFiles(path)
        self.data, self.n = run.data, run.data.n
        self.held_out = set(self.data.held_out.tolist())
        self.keys = self.data.content.tolist()
        self.times = dict(zip(self.keys, run.times_used.tolist(), strict=True))
        self.epochs = [
            dict(
                zip(
                    self.keys,
                    zip(file.record.used.tolist(), map(repr, file.scores.tolist()), strict=True),
                    strict=False,
                )
            )
            for file in run.files()
        ]
        self.sizes = [file.record.n for file in run.files()]

    def of(self, key):
        """The epochs of a sample: whether it was used, and its score."""
        return [epoch[key] for epoch in self.epochs if key in epoch]


def check_past(before, after):
    """Every sample that is there still has the past that it had, and the past adds up."""
    for key in set(before.keys) & set(after.keys):
        assert after.of(key)[: len(before.of(key))] == before.of(key)
        assert after.times[key] == sum(used for used, _ in after.of(key))
    for key in set(after.keys) - set(before.keys):
        assert len(after.of(key)) == len(after.epochs) - len(before.epochs)
        assert after.of(key)[0][0]  # a new sample trains at once
    assert after.sizes[: len(before.sizes)] == before.sizes


def check_read(run):
    n = RunFiles(run).data.n
    for words in (
        ["report"],
        ["export", "--format", "csv"],
        ["inspect", "0"],
        ["inspect", str(n - 1)],
        ["verify"],
    ):
        assert main([words[0], str(run), *words[1:]]) == 0
    with (run / "export" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    past = Past(run)
    assert [int(row["times_used"]) for row in rows] == [past.times[key] for key in past.keys]
    with (run / "export" / "history.csv").open(newline="") as file:
        uses = np.zeros(n, int)
        for row in csv.DictReader(file):
            uses[int(row["sample"])] += row["used"] == "true"
    assert uses.tolist() == [past.times[key] for key in past.keys]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["samples_full"] == sum(past.sizes)
    backward = sum(row["samples_backward"] for row in summary["epochs"])
    assert summary["samples_backward"] == backward
    assert summary["saved_fraction"] == pytest.approx(1 - backward / sum(past.sizes))


@pytest.mark.slow
def test_a_folder_in_which_everything_happens(tmp_path):
    folder, run = images(tmp_path / "data"), tmp_path / "run"
    train(TrainOptions(data=str(folder), epochs=3, out=str(run), **QUICK), Told())
    before = Past(run)
    files = before.data.files
    (tmp_path / "data" / "c0" / "deeper").mkdir()
    shutil.move(files[1], folder / "c0" / "deeper" / "there.png")
    gone = before.keys[5]
    (tmp_path / "gone.png").write_bytes((tmp_path / files[5]).read_bytes())
    (tmp_path / files[5]).unlink()
    relabelled = before.keys[7]
    shutil.move(files[7], folder / "c2" / "moved.png")
    picture(999).save(folder / "c0" / "a-new-one.png")
    for path in list((folder / "c1").iterdir()):
        path.rename(path.with_name(f"z{path.name}"))
    words = "1 image is new, 1 is gone, 1 has another label; held out: 12 images as before"
    with pytest.raises(InvalidValue, match=rf"Found a change: {words}\. Put them back, or add --accept data"):
        go_on(run, epochs=5, accept="epochs")
    assert f"The data have changed: {words}." in go_on(run, epochs=5, accept="epochs,data")
    after = Past(run)
    assert after.held_out == before.held_out
    assert set(before.keys) - set(after.keys) == {gone}
    check_past(before, after)
    assert after.of(relabelled)[3][0]  # it has no score and trains again
    assert after.data.files[after.keys.index(relabelled)].endswith("moved.png")
    check_read(run)
    (folder / "c0" / "a-new-one.png").unlink()  # a second change stands on the first
    shutil.copy(tmp_path / "gone.png", folder / "c0" / "back.png")
    held_out = {str(path) for path in folder.glob("c1/*.png")} - set(after.data.files)
    for path in [*sorted(held_out)[:2], *(path for path in after.data.files if "/c1/" in path)][:9]:
        (tmp_path / path).unlink()
    said = go_on(run, epochs=7, accept="epochs,data")
    last = Past(run)
    lost = before.held_out - last.held_out
    assert len(lost) == 2
    kept = f"held out: {12 - len(lost)} images as before, {len(lost)} gone"
    assert any(kept in line for line in said)
    assert last.held_out < before.held_out
    check_past(after, last)
    check_read(run)
    assert len(last.of(gone)) == 2  # whoever is back is new
    assert any("has finished" in line for line in go_on(run))


@pytest.mark.slow
def test_names_and_places_are_no_change_of_a_folder(tmp_path):
    folder = images(tmp_path / "data")
    for name in ("run", "same"):
        options = TrainOptions(data=str(folder), epochs=2, out=str(tmp_path / name), **QUICK)
        train(options, Told())
        for number, path in enumerate(sorted(folder.rglob("*.png"))[::-1]):
            path.rename(path.with_name(f"{name}{number:05d}.png"))
    runs = [Past(tmp_path / name) for name in ("run", "same")]
    assert runs[0].held_out == runs[1].held_out
    assert set(runs[0].keys) == set(runs[1].keys)
    said = go_on(tmp_path / "run", epochs=3, accept="epochs")
    assert not any("changed" in line for line in said)
    run = RunFiles(tmp_path / "run")
    assert all(path.startswith(str(folder)) and "/same0" in path for path in run.data.files)
    assert run.data.origin is None
    check_past(runs[0], Past(tmp_path / "run"))


@pytest.mark.slow
def test_what_a_run_held_out_by_another_draw_stays(tmp_path, monkeypatch):
    """As those left by earlier versions, which drew by place."""
    folder, run = images(tmp_path / "data"), tmp_path / "run"
    for validation in (None, 0.25):
        with monkeypatch.context() as patch:
            for module in (held_out, parts):
                patch.setattr(module, "VALIDATION", 77)
                patch.setattr(module, "SAMPLES", 78)
            patch.setattr("fallow.datasets.listing.TEST", 76)
            more = {} if validation is None else {"validation": validation, "samples": 30}
            train(TrainOptions(data=str(folder), epochs=2, out=str(run), **more, **QUICK), Told())
        before = Past(run)
        said = go_on(run, epochs=3, accept="epochs")
        assert not any("changed" in line for line in said)
        after = Past(run)
        assert (after.keys, after.held_out) == (before.keys, before.held_out)
        for number in range(5):
            picture(5000 + number, 1).save(folder / "c1" / f"new{number}.png")
        go_on(run, epochs=4, accept="epochs,data")
        last = Past(run)
        assert not last.held_out & set(before.keys)
        assert before.held_out <= last.held_out
        assert set(before.keys) <= set(last.keys)
        shutil.rmtree(run)


@pytest.mark.slow
def test_new_images_are_held_out_until_the_part_has_its_share(tmp_path):
    folder, run = images(tmp_path / "data"), tmp_path / "run"
    train(TrainOptions(data=str(folder), epochs=2, out=str(run), **QUICK), Told())
    before = Past(run)
    for number in range(20):
        picture(5000 + number, 1).save(folder / "c1" / f"new{number}.png")
    go_on(run, epochs=3, accept="epochs,data")
    after = Past(run)
    assert before.held_out < after.held_out
    assert len(after.held_out) == 12 + 4
    assert not after.held_out & set(before.keys)


@pytest.mark.slow
def test_a_copy_goes_where_its_original_is(tmp_path):
    folder, run = images(tmp_path / "data"), tmp_path / "run"
    train(TrainOptions(data=str(folder), epochs=2, out=str(run), **QUICK), Told())
    before = Past(run)
    trained = before.data.files
    everything = {str(path) for path in folder.rglob("*.png")}
    for number, path in enumerate([*sorted(everything - set(trained))[:3], *trained[:3]]):
        shutil.copy(path, folder / "c0" / f"copy{number}.png")
    go_on(run, epochs=3, accept="epochs,data")
    after = Past(run)
    assert after.held_out == before.held_out
    assert len(after.data.held_out) == 12 + 3
    assert (after.n, set(after.keys)) == (before.n + 3, set(before.keys))


ROWS = [(f"row{i} {'good fine' if i % 2 else 'bad poor'} w{i % 7}", ["neg", "pos"][i % 2]) for i in range(60)]


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["label", "label,second"])
def test_rows_of_a_table_sorted_otherwise(tmp_path, label):
    run, path = tmp_path / "run", tmp_path / "rows.csv"

    def save(rows):
        with path.open("w", newline="") as file:
            lines = [(text, one, one) if len(more) == 0 else (text, one, *more) for text, one, *more in rows]
            csv.writer(file).writerows([("text", "label", "second"), *lines])

    save(ROWS)
    train(TrainOptions(data=str(path), label=label, task="text", epochs=2, out=str(run), **QUICK), Told())
    before = Past(run)
    names = dict(zip(before.data.identity.tolist(), before.keys, strict=True))
    rows = sorted(ROWS, key=lambda row: row[0])
    save(rows)
    assert not any("changed" in line for line in go_on(run, epochs=3, accept="epochs"))
    assert Past(run).data.files != before.data.files
    held_out = set(before.data.held_out_identity.tolist())
    rows[3], rows[4] = (*rows[3], "pos"), (*rows[4], "neg")  # annotators have changed their minds
    rows[10] = (rows[10][0], "pos" if rows[10][1] == "neg" else "neg")
    del rows[30]
    rows.insert(0, ("a text of its own", "pos"))
    save(rows)
    said = go_on(run, epochs=4, accept="epochs,data")
    assert any(
        "1 text is new, 1 is gone" in line or "1 text is new" in line or "gone)" in line for line in said
    )
    after = Past(run)
    now = set(after.data.held_out_identity.tolist())
    assert len(now - held_out) <= 1
    assert not now & set(names)
    assert not held_out & set(after.data.identity.tolist())
    check_read(run)


@pytest.mark.slow
def test_documents_of_a_language_model(tmp_path):
    run, path = tmp_path / "run", tmp_path / "rows.csv"
    rows = [(f"document {i} {'abc' if i % 2 else 'xyz'} " * 4 + str(i), "a") for i in range(40)]
    table(path, rows)
    options = {"task": "language-model", "tokenizer": "byte", "max_tokens": 16, **QUICK}
    train(TrainOptions(data=str(path), epochs=2, out=str(run), **options), Told())
    before = Past(run)
    del rows[20], rows[3]
    rows.reverse()
    rows.append(("something else altogether, which is new", "a"))
    table(path, rows)
    said = go_on(run, epochs=3, accept="epochs,data")
    assert any("The data have changed: " in line and "windows are new" in line for line in said)
    after = Past(run)
    assert not after.held_out & (set(before.keys) - before.held_out)
    assert not set(after.keys) & (before.held_out - set(before.keys))
    shared = set(before.keys) & set(after.keys)
    assert len(shared) > 0.8 * len(set(before.keys))
    check = [key for key in shared if before.keys.count(key) == after.keys.count(key) == 1]
    for key in check:
        assert after.of(key)[:2] == before.of(key)
    assert main(["verify", str(run)]) == 0


@pytest.mark.slow
def test_a_text_that_grows_at_its_end_or_its_beginning(tmp_path):
    run, path = tmp_path / "run", tmp_path / "book.txt"
    text = "".join(f"line {i} of a book of many lines\n" for i in range(200))
    path.write_text(text)
    options = {"task": "language-model", "tokenizer": "byte", "max_tokens": 16, **QUICK}
    train(TrainOptions(data=str(path), epochs=1, out=str(run), **options), Told())
    before = Past(run)
    path.write_text(text + "".join(f"an appendix in {i} lines\n" for i in range(150)))
    go_on(run, epochs=2, accept="epochs,data")
    after = Past(run)
    assert after.keys == before.keys  # the end that was held out is held out still, and all that follows
    assert len(after.held_out - before.held_out) > 100
    path.write_text("a new beginning\n" + text)
    go_on(run, epochs=3, accept="epochs,data")
    last = Past(run)
    assert len(last.held_out & before.held_out) >= len(before.held_out) - 1


@pytest.mark.slow
def test_scores_by_a_density_go_on_with_the_samples_that_are_left(tmp_path):
    folder, run = images(tmp_path / "data"), tmp_path / "run"
    options = QUICK | {"score": "density", "density": "gaussian", "low": 0.4}
    train(TrainOptions(data=str(folder), epochs=3, out=str(run), **options), Told())
    before = Past(run)
    for path in before.data.files[:7]:
        (tmp_path / path).unlink()
    go_on(run, epochs=5, accept="epochs,data")
    check_past(before, Past(run))
    check_read(run)
