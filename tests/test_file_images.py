"""Images that stay in their files: those that would be in memory, decoded when they are asked for."""

import csv
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fallow import Fraction, Schedule, Subsampler
from fallow.cli.main import main
from fallow.datasets import folder as folders
from fallow.datasets import load_images
from fallow.datasets.file_images import GREY, FileImages
from fallow.datasets.images import UNREADABLE, LeftOutWarning, collate
from fallow.datasets.pixel_cache import PixelCache
from fallow.errors import DamagedData, InvalidValue
from fallow.training.checkpointing import Checkpointer
from pictures import picture

SIDE, EACH = 8, 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two classes of noise, of which one is brighter, in two formats."""
    folder, rng = tmp_path_factory.mktemp("files") / "pets", np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            pixels = rng.integers(40 * label, 150 + 105 * label, (SIDE, SIDE, 3), dtype=np.uint8)
            picture(folder / name / f"{number}.png", size=(SIDE, SIDE))
            from PIL import Image

            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def large(monkeypatch):
    """All folders count as large."""
    monkeypatch.setattr(folders, "IN_MEMORY", 0)


def both(folder, monkeypatch, **options):
    """Return the images of a folder in memory, and in files."""
    memory = load_images(folder, **options)
    monkeypatch.setattr(folders, "IN_MEMORY", 0)
    return memory, load_images(folder, **options)


def test_the_pixels_are_those_in_memory(made, monkeypatch):
    memory, files = both(made, monkeypatch)
    assert isinstance(files.train, FileImages)
    assert (files.train.shape, files.train.dtype) == (memory.train.shape, memory.train.dtype)
    assert files.classes == memory.classes
    assert torch.bincount(files.test.labels).tolist() == torch.bincount(memory.test.labels).tolist()
    known = dict(zip(memory.files + memory.test_files, [*memory.train, *memory.test], strict=True))
    for names, part in ((files.files, files.train), (files.test_files, files.test)):
        assert len(names) == len(part)
        for name, (image, label) in zip(names, part, strict=True):
            assert torch.equal(image, known[name][0])
            assert label == known[name][1]
        images, labels = part.__getitems__(range(len(part)))
        assert torch.equal(images, torch.stack([known[name][0] for name in names]))
        assert torch.equal(labels, part.labels)
    assert set(files.files) | set(files.test_files) == set(known)
    assert not set(files.files) & set(files.test_files)


def test_mean_and_deviation_are_those_of_the_pixels(made, monkeypatch):
    _, files = both(made, monkeypatch, test_share=0.5)
    read = files.train.__getitems__(range(len(files.train)))[0].double() / 255
    mean, std = files.train.mean_std()
    torch.testing.assert_close(mean.double(), read.mean((0, 2, 3)))
    torch.testing.assert_close(std.double(), read.transpose(0, 1).flatten(1).std(1, correction=0))


def test_the_draw_depends_on_names_below_the_folder_alone(made, large, tmp_path):
    copied = shutil.copytree(made, tmp_path / "elsewhere" / "animals")
    for number in range(5):
        picture(copied / "cat" / f"more-{number}.png", size=(SIDE, SIDE))
    here, there = load_images(made), load_images(copied)
    held = {Path(name).relative_to(made) for name in here.test_files}
    held_there = {Path(name).relative_to(copied) for name in there.test_files}
    assert {path for path in held_there if "more" not in path.name} <= held | held_there
    assert len(held - held_there) <= 1  # the share of a class grows by one image
    again = load_images(made)
    assert again.files == here.files
    assert np.array_equal(again.train.contents(), here.train.contents())
    assert load_images(made, seed=1).test_files != here.test_files


@given(st.data())
def test_some_of_them_joined_with_others_in_any_order(made, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "IN_MEMORY", 0)
        every = load_images(made).train
    more = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    grown = every.with_more(more, torch.tensor([1, 0, 1]))
    assert len(grown) == len(every) + 3
    assert torch.equal(grown.__getitems__(range(len(every), len(grown)))[0], more)
    rows = np.array(data.draw(st.lists(st.integers(0, len(grown) - 1), max_size=12)), np.int64)
    some = grown.take(rows)
    images, labels = some.__getitems__(range(len(rows)))
    expected, wanted = grown.__getitems__(rows)
    assert torch.equal(images, expected)
    assert torch.equal(labels, wanted)
    assert np.array_equal(some.contents(), grown.contents()[rows])
    twice = some.joined(grown.take(np.array([len(grown) - 1, 0])))
    assert torch.equal(twice.__getitems__(range(len(twice)))[0][-1], every[0][0])
    assert torch.equal(twice.__getitems__([len(rows)])[0][0], more[2])
    with_more = twice.take(np.arange(len(twice))[::-1].copy())
    assert torch.equal(with_more[1][0], more[2])


def test_a_file_that_cannot_be_read_is_grey_and_has_no_target(made, large, tmp_path):
    folder = shutil.copytree(made, tmp_path / "pets")
    data = load_images(folder)
    bad = Path(data.files[3])
    bad.write_bytes(bad.read_bytes()[:-30])
    gone = Path(data.files[9])
    gone.unlink()
    images, labels = data.train.__getitems__([2, 3, 9, 4])
    assert labels.tolist() == [data.train.labels[2], UNREADABLE, UNREADABLE, data.train.labels[4]]
    assert images[1:3].unique().tolist() == [GREY]
    assert torch.equal(images[3], data.train[4][0])
    reasons = data.train.unreadable(np.arange(len(data.train)))
    assert list(reasons) == [str(bad), str(gone)]
    assert reasons[str(gone)] == "No such file or directory"
    assert data.train.labels.min() == 0  # those of the data set stay


@pytest.mark.parametrize("limit", [0, 30 * (3 * SIDE * SIDE + 1), 1 << 30])
def test_a_cache_is_filled_by_workers_and_read_instead_of_files(made, large, tmp_path, limit):
    folder = shutil.copytree(made, tmp_path / "pets")
    train = load_images(folder).train
    expected = train.__getitems__(range(len(train)))[0]
    fits = train.remember(limit)
    assert fits == (0 if not limit else min(len(train), limit // (3 * SIDE * SIDE + 1)))
    for _ in range(2):  # by workers that are forked
        loader = DataLoader(train, 7, collate_fn=collate, num_workers=2)
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)
    assert train._cache.filled == fits
    shutil.rmtree(folder)
    images, labels = train.__getitems__(range(len(train)))
    assert torch.equal(images[:fits], expected[:fits])
    assert torch.equal(labels == UNREADABLE, torch.arange(len(train)) >= fits)


def test_a_process_that_is_started_anew_has_no_cache(made, large):
    train = load_images(made).train
    train.remember(1 << 30)
    there = pickle.loads(pickle.dumps(train))
    assert there._cache.count == 0
    assert torch.equal(there[5][0], train[5][0])


def test_images_without_room_are_not_cached():
    cache = PixelCache((1, 2, 2), 5, 2 * (4 + 1) + 4)
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    cache.put(np.array([4, 1, 0]), images)
    found = np.zeros_like(images)
    assert cache.get(np.array([0, 1, 4]), found).tolist() == [True, True, False]
    assert found[:2].tolist() == images[[2, 1]].tolist()
    assert (cache.count, cache.filled) == (2, 2)


def test_what_is_left_out_is_told(made, large, tmp_path):
    folder = shutil.copytree(made, tmp_path / "pets")
    (folder / "cat" / "notes.txt").write_text("all of them")
    (folder / "cat" / "photo.heic").write_bytes(b"")
    with pytest.warns(LeftOutWarning):
        data = load_images(folder)
    assert data.notes[0].startswith("120 images are decoded to 8×8 while they train.")
    assert any("Left out 1 file that is not an image: 1 .txt" in note for note in data.notes)
    assert any("formats that are not read: 1 .heic" in note for note in data.notes)
    (folder / "none").mkdir()
    (folder / "none" / "a.txt").write_text("a")
    with pytest.raises(
        InvalidValue, match=r"The class folder .*none must hold images\. Found only other files"
    ):
        load_images(folder)


def test_a_folder_without_an_image_that_can_be_read_is_refused(tmp_path, large):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DamagedData, match=r"Every image must be readable\. Found \d unreadable images"):
        load_images(tmp_path)


def test_only_a_large_folder_stays_in_its_files(made, monkeypatch):
    size = sum(path.stat().st_size for path in made.rglob("*.png"))
    monkeypatch.setattr(folders, "IN_MEMORY", size)
    assert not isinstance(load_images(made).train, FileImages)
    monkeypatch.setattr(folders, "IN_MEMORY", size - 1)
    assert isinstance(load_images(made).train, FileImages)


def test_images_whose_pixels_do_not_fit_stay_in_their_files(made, monkeypatch):
    from fallow.datasets import decoding

    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 2 * EACH * 3 * SIDE * SIDE - 1)
    assert isinstance(load_images(made).train, FileImages)


def test_samples_that_are_left_out_are_not_decoded(made, large):
    train = load_images(made).train
    sub = Subsampler(len(train), Fraction(0.5), Schedule(3))
    loader = sub.loader(train, 12, collate_fn=collate)
    for epoch in range(2):
        train.remember(1 << 20)
        for index, (images, _) in loader:
            sub.record(index, images.float().mean((1, 2, 3)))
        assert train._cache.filled == (len(train) if epoch == 0 else len(train) // 2)
        sub.step()


def arguments(folder, out, *more):
    every = ["train", "--data", str(folder), "--epochs", "3", "--batch_size", "16", "--fraction", "0.4"]
    return [*every, "--out", str(out), *more]


def summary(run):
    return json.loads((run / "summary.json").read_text())


def samples(run):
    with (run / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_is_the_same_with_any_workers_and_any_cache(made, large, tmp_path):
    runs = []
    for number, more in enumerate((["--workers", "0", "--cache", "0"], ["--workers", "2"])):
        runs.append(tmp_path / str(number))
        assert main(arguments(made, runs[-1], *more)) == 0
    assert samples(runs[0]) == samples(runs[1])
    assert (runs[0] / "model.safetensors").read_bytes() == (runs[1] / "model.safetensors").read_bytes()


def test_images_that_cannot_be_read_are_named_and_left_out_when_they_are_found(made, large, tmp_path, capsys):
    folder = shutil.copytree(made, tmp_path / "pets")
    data = load_images(folder)
    bad, held_out = Path(data.files[3]), Path(data.test_files[0])
    for path in (bad, held_out):
        path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    assert main(arguments(folder, tmp_path / "run")) == 0
    said = capsys.readouterr().out
    assert f"Left out 1 image that cannot be read: {bad} (" in said
    assert f"Left 1 held-out image out that cannot be read: {held_out} (" in said
    assert said.count(str(bad)) == said.count(str(held_out)) == 1
    row = samples(tmp_path / "run")[3]
    assert (row["reason"], row["score"]) == ("by hand", "")
    assert int(row["times_used"]) == 1
    assert summary(tmp_path / "run")["accuracy"] > 0.9


def test_an_image_that_is_back_is_kept(made, large, tmp_path):
    folder = shutil.copytree(made, tmp_path / "pets")
    train = load_images(folder).train
    train.remember(0)
    away = train.paths[3]
    away.rename(tmp_path / "away")
    loader = DataLoader(train, 7, collate_fn=collate, num_workers=2)
    assert sum(int((labels == UNREADABLE).sum()) for _, labels in loader) == 1
    assert train.failed().tolist() == [3]
    (tmp_path / "away").rename(away)
    assert train.unreadable(train.failed()) == {}
    assert train.failed().tolist() == []


@pytest.mark.filterwarnings("ignore:.* are not finite")
@pytest.mark.parametrize(
    "more",
    [
        ["--score", "density", "--density", "gaussian"],  # nothing has a score after the first epoch
        pytest.param(["--learning_rate", "1e20"], marks=pytest.mark.slow),  # no score is a number
        pytest.param(["--task", "autoencoder", "--density", "gaussian"], marks=pytest.mark.slow),
        pytest.param(
            ["--epochs", "1"], marks=pytest.mark.slow
        ),  # named, though it is too late to leave it out
    ],
)
def test_a_sample_without_a_score_is_not_unreadable(made, large, tmp_path, capsys, more):
    folder = shutil.copytree(made, tmp_path / "pets")
    bad = Path(load_images(folder).files[3])
    bad.write_bytes(bad.read_bytes()[:-30])
    words = [word for word in arguments(folder, tmp_path / "run", *more) if word not in ("--fraction", "0.4")]
    assert main(words) in (0, 1)  # 1: it diverged
    said = capsys.readouterr().out
    assert f"Left out 1 image that cannot be read: {bad} (" in said
    by_hand = [row["index"] for row in samples(tmp_path / "run") if row["reason"] == "by hand"]
    assert by_hand == ([] if "1" in more else ["3"])


def test_a_folder_that_vanishes_ends_the_run_with_its_name(made, large, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "pets")
    read = FileImages.mean_std

    def vanish(self):
        found = read(self)
        shutil.rmtree(folder)
        return found

    monkeypatch.setattr(FileImages, "mean_std", vanish)
    assert main(arguments(folder, tmp_path / "run", "--workers", "0", "--cache", "0")) == 3
    said = capsys.readouterr().err
    assert "Most images must be readable. Found 96 of 96 that are not: " in said
    assert "No such file or directory" in said


def test_a_run_goes_on_exactly_where_it_was(made, large, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "pets")
    assert main(arguments(folder, tmp_path / "whole")) == 0
    batches = iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(
            Checkpointer,
            "_stop",
            lambda self, trainer: None if next(batches, None) is not None else signal.SIGINT,
        )
        assert main(arguments(folder, tmp_path / "parts")) == 128 + signal.SIGINT
    assert main(["train", "--resume", str(tmp_path / "parts")]) == 0
    assert samples(tmp_path / "parts") == samples(tmp_path / "whole")


@pytest.mark.parametrize("cache", ["4", "many", "-1GiB", "4XB", ""])
def test_a_cache_that_is_no_size_is_refused(made, tmp_path, capsys, cache):
    assert main(arguments(made, tmp_path / "run", f"--cache={cache}")) == 2
    assert "--cache must be a number with the unit kB, MB, GB, KiB, MiB or GiB." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_samples_are_collected_for_it_and_added_to_it(made, large, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "picks.csv"
    assert main(arguments(made, run)) == 0
    pixels = np.random.default_rng(1).integers(0, 256, (80, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(tmp_path / "pool.npz", x=pixels)
    assert (
        main(["collect", str(run), "--pool", str(tmp_path / "pool.npz"), "--count", "6", "--out", str(out)])
        == 0
    )
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = "dog"
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--add", str(out)]) == 0
    assert "Added samples are not compared with the 120 images of pets" in capsys.readouterr().out
    assert len(samples(run)) == 96 + 6
    assert [row["label"] for row in samples(run)[96:]] == ["dog"] * 6
    assert summary(run)["accuracy"] > 0.9


@pytest.mark.slow
def test_gaps_are_found_in_a_run_whose_images_stay_in_files(made, large, tmp_path, capsys):
    assert main(arguments(made, tmp_path / "run")) == 0
    capsys.readouterr()
    assert main(["gaps", str(tmp_path / "run"), "--json"]) == 0
    assert "gaps" in json.loads(capsys.readouterr().out)
    assert main(["report", str(tmp_path / "run")]) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_train_as_one_process_and_put_together_what_neither_can_read(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "pets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "IN_MEMORY", 0)
        data = load_images(folder)
    bad = [data.files[3], data.files[40], data.test_files[0]]
    for path in map(Path, bad):
        path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    for number, (batch, more) in enumerate(((16, []), (8, ["--devices", "2", "--strategy", "ddp"]))):
        words = arguments(folder, tmp_path / str(number), "--batch_size", str(batch), *more)
        code = "import sys\nfrom fallow.cli.main import main\nfrom fallow.datasets import folder\n"
        code += f"folder.IN_MEMORY = 0\nif __name__ == '__main__': sys.exit(main({words!r}))"
        program = tmp_path / "program.py"
        program.write_text(code)
        done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert all(done.stdout.count(path) == 1 for path in bad)
        assert "Left out 2 images that cannot be read" in done.stdout
    one, two = (samples(tmp_path / str(number)) for number in range(2))
    assert [row["reason"] for row in one].count("by hand") == 2
    assert [row["reason"] == "by hand" for row in one] == [row["reason"] == "by hand" for row in two]
    for name in ("file", "label"):
        assert [row[name] for row in one] == [row[name] for row in two]
