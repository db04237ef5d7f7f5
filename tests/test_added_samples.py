"""``--add``: training sets that grow by what was collected, and runs that go on with it."""

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fallow.datasets import ImageData, ImageDataset
from fallow.datasets.pixel_range import PixelRange, PixelRanges
from fallow.errors import InvalidValue
from fallow.options.resolve import as_given, resolve
from fallow.options.resume_options import longer, plain, resumed_options, stored_options
from fallow.options.train_options import TrainOptions
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.picks_file import Pick, dump_picks
from fallow.runs.schema import About
from fallow.tasks.added_samples import lists, with_added
from fallow.training.train import train
from told_console import Told

CLASSES = ("cat", "dog", "eel")


def pixels(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def data_of(classes=CLASSES, files=None, kind=torch.uint8):
    parts = []
    for n, seed in ((6, 1), (3, 2)):
        images = torch.from_numpy(pixels(n, seed))
        images = images if kind == torch.uint8 else images / 255
        parts.append(ImageDataset(images, torch.arange(n) % len(classes)))
    return ImageData("some", parts[0], parts[1], classes, files)


def checksum(image):
    return hashlib.blake2b(image.tobytes(), digest_size=8).digest()[::-1].hex()


def pick_of(pool, x, index, label="", file=""):
    return Pick(index, label, 1.0, "gap 1", "missing: so said", str(pool), file, checksum(x[index]))


def save(path, picks):
    path.write_bytes(dump_picks(picks))
    return str(path)


@pytest.fixture
def pool(tmp_path):
    np.savez(tmp_path / "pool.npz", x=pixels(600, 3))
    return tmp_path / "pool.npz"


X = pixels(600, 3)


@pytest.fixture
def listed(tmp_path, pool):
    """Return a function that writes a list of samples of the pool, with their labels."""

    def write(labels, name="picks.csv", **options):
        picks = [pick_of(pool, X, index, label, **options) for index, label in labels]
        return save(tmp_path / name, picks)

    return write


def test_picks_come_after_the_training_samples_in_the_order_of_the_list(listed):
    before = data_of()
    after = with_added(before, listed([(599, "eel"), (0, "cat"), (512, "dog"), (3, "eel")]), Told())
    assert torch.equal(after.train.images[:6], before.train.images)
    assert np.array_equal(after.train.images[6:].numpy(), X[[599, 0, 512, 3]])
    assert after.train.labels.tolist() == [*before.train.labels.tolist(), 2, 0, 1, 2]
    assert (after.test, after.classes, after.files) == (before.test, before.classes, None)
    assert len(before.train) == 6


def test_deep_picks_are_scaled_as_the_training_images_and_the_range_stays(tmp_path):
    ranges = PixelRanges(whole=PixelRange(0, 4095))
    before = data_of()
    before.train.ranges = ranges
    (tmp_path / "pool").mkdir()
    deep = np.random.default_rng(5).integers(0, 2**16, (3, 8, 8)).astype(np.uint16)
    for place, image in enumerate(deep):
        Image.fromarray(image).save(tmp_path / "pool" / f"{place}.png")
    x = np.rint(np.clip(deep, 0, 4095) * (255 / 4095)).astype(np.uint8)[:, None]
    picks = save(tmp_path / "picks.csv", [pick_of(tmp_path / "pool", x, place, "dog") for place in (0, 2)])
    after = with_added(before, picks, Told())
    assert np.array_equal(after.train.images[6:].numpy(), x[[0, 2]])
    assert after.train.ranges == ranges
    assert after.train.take(np.array([1])).ranges == ranges


def test_no_list_changes_nothing():
    before = data_of()
    assert with_added(before, "", Told()) is before
    assert with_added(before, " , ", Told()) is before


def test_lists_are_named_with_commas_between_each_once():
    assert lists(" a.csv,b.csv ,,a.csv") == ["a.csv", "b.csv"]


def test_several_lists_of_several_pools_come_one_after_the_other(tmp_path, pool):
    other = pixels(20, 4)
    np.savez_compressed(tmp_path / "other.npz", x=other)
    mixed = [pick_of(tmp_path / "other.npz", other, 9, "dog"), pick_of(pool, X, 5, "cat"),
             pick_of(tmp_path / "other.npz", other, 2, "eel")]  # fmt: skip
    first = save(tmp_path / "1.csv", mixed)
    second = save(tmp_path / "2.csv", [pick_of(pool, X, 7, "dog")])
    after = with_added(data_of(), f"{first}, {second},{first}", Told())
    assert np.array_equal(after.train.images[6:].numpy(), np.stack([other[9], X[5], other[2], X[7]]))
    assert after.train.labels[6:].tolist() == [1, 0, 2, 1]


@pytest.mark.parametrize("out", ["", " JUNK ", "?"])
def test_what_has_no_label_is_left_out_and_said(listed, out):
    console = Told()
    path = listed([(1, out), (2, "dog"), (3, out)])
    after = with_added(data_of(), path, console)
    assert np.array_equal(after.train.images[6:].numpy(), X[[2]])
    assert console.said == [f"{path}: 2 of 3 picks have no label and are left out."]


def test_a_list_without_a_label_is_refused(listed):
    with pytest.raises(InvalidValue, match=r"must have labels\. Found none in 2 picks\. Complete the column"):
        with_added(data_of(), listed([(1, ""), (2, "junk")]), Told())


def test_labels_may_be_typed_with_blanks_around_and_numbers_as_pandas_writes_them(listed):
    assert with_added(data_of(), listed([(1, " dog ")]), Told()).train.labels[6:].tolist() == [1]
    after = with_added(data_of(("0", "10", "3")), listed([(1, "3.0"), (2, "10")]), Told())
    assert after.train.labels[6:].tolist() == [2, 1]


def test_a_class_that_is_called_junk_is_a_class(listed):
    console = Told()
    after = with_added(
        data_of(("cat", "junk", "caf\udce9")), listed([(1, "junk"), (2, "caf\\udce9")]), console
    )
    assert after.train.labels[6:].tolist() == [1, 2]
    assert console.said == []


def test_a_label_that_is_no_class_is_named_with_its_row_and_the_classes(listed):
    path = listed([(1, "cat"), (2, "Dog")])
    with pytest.raises(InvalidValue) as error:
        with_added(data_of(), path, Told())
    assert str(error.value) == (
        f"The label in row 3 of {path} must be a class of the run: cat, dog, eel. Found 'Dog'. "
        "Complete the column label; junk, ? or nothing leaves a pick out."
    )


def test_a_sample_that_is_another_one_now_is_refused(listed, pool):
    path = listed([(1, "cat"), (520, "dog")])
    changed = X.copy()
    changed[520, 0, 0, 0] ^= 1
    np.savez(pool, x=changed)
    with pytest.raises(
        InvalidValue, match=rf"Sample 520 of {pool} must be the one in row 3 of {path}\. Found another one"
    ):
        with_added(data_of(), path, Told())


def test_a_sample_that_is_gone_is_refused_also_where_it_was_black(tmp_path):
    x = np.zeros((9, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "pool.npz", x=x)
    path = save(tmp_path / "picks.csv", [pick_of(tmp_path / "pool.npz", x, 8, "cat")])
    assert len(with_added(data_of(), path, Told()).train) == 7
    np.savez(tmp_path / "pool.npz", x=x[:8])
    with pytest.raises(InvalidValue, match=r"Sample 8 of .*Found none that can be read.*collect again"):
        with_added(data_of(), path, Told())


def test_a_pool_that_is_gone_is_refused(listed, pool):
    path = listed([(1, "cat")])
    pool.unlink()
    with pytest.raises(InvalidValue, match=f"pool of .* must exist.*Found no {pool}"):
        with_added(data_of(), path, Told())


@pytest.mark.parametrize("kind", ["a FIFO", "a link to nothing"])
def test_a_pool_that_is_something_else_is_called_what_it_is(listed, pool, kind):
    path = listed([(1, "cat")])
    pool.unlink()
    if kind == "a FIFO":
        os.mkfifo(pool)
    else:
        pool.symlink_to("nowhere")
    with pytest.raises(InvalidValue) as error:
        with_added(data_of(), path, Told())
    assert str(error.value).startswith(f"{path} names a pool that cannot be read. ")
    assert f"{pool} must be a" in str(error.value)
    assert f"Found {kind}. " in str(error.value)


def test_a_list_that_is_a_link_to_nothing_is_not_called_missing(tmp_path):
    (tmp_path / "picks.csv").symlink_to("nowhere")
    with pytest.raises(InvalidValue, match=r"Found .*picks\.csv, a link to nothing\."):
        with_added(data_of(), str(tmp_path / "picks.csv"), Told())


@pytest.mark.slow
def test_a_pool_that_is_fetched_is_said_before_and_its_failure_once(tmp_path):
    """In a process of its own: the library looks at its environment when it is loaded."""
    pytest.importorskip("datasets")
    path = save(tmp_path / "picks.csv", [pick_of("hf:some/where", X, 4, "7")])
    words = [sys.executable, "-m", "fallow", "train", "--data", "digits", "--add", path, "--epochs", "1"]
    local = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(words, env=os.environ | local, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{path} names the pool hf:some/where, which is fetched from Hugging Face." in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"fallow: error: {path} names a pool that cannot be fetched. hf:some/where must be "
    )


def test_a_held_out_sample_is_refused(tmp_path):
    x = np.concatenate([pixels(4, 5), data_of().test.images.numpy()])
    np.savez(tmp_path / "pool.npz", x=x)
    picks = [pick_of(tmp_path / "pool.npz", x, index, "cat") for index in (1, 5, 2, 6)]
    with pytest.raises(InvalidValue, match=r"No held-out sample.*Found 2 of them .*: row 3, row 5\. Remove"):
        with_added(data_of(), save(tmp_path / "picks.csv", picks), Told())


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_images_get_the_kind_of_the_training_images(tmp_path, pool, kind):
    like = X if kind == torch.uint8 else (X / 255).astype(np.float32)
    path = save(tmp_path / "picks.csv", [pick_of(pool, like, 11, "cat")])
    after = with_added(data_of(kind=kind), path, Told())
    assert after.train.images.dtype == kind
    assert np.array_equal(after.train.images[6:].numpy(), like[[11]])


def test_an_autoencoder_needs_no_labels_and_leaves_out_what_is_marked(listed):
    console = Told()
    path = listed([(1, ""), (2, "junk"), (3, "owl"), (4, "?"), (5, "eel")])
    after = with_added(data_of(), path, console, labelled=False)
    assert np.array_equal(after.train.images[6:].numpy(), X[[1, 3, 5]])
    assert after.train.labels[6:].tolist() == [-1, -1, 2]
    assert "2 of 5 picks" in console.said[0]


def test_files_are_named_where_those_of_the_training_samples_are(tmp_path, pool):
    folder = tmp_path / "images"
    folder.mkdir()
    data = io.BytesIO()
    Image.fromarray(X[0, 0]).save(data, "PNG")
    (folder / "0.png").write_bytes(data.getvalue())
    picks = [pick_of(folder, X, 0, "cat", str(folder / "0.png")), pick_of(pool, X, 8, "dog")]
    before = data_of(files=tuple(f"{place}.png" for place in range(6)))
    after = with_added(before, save(tmp_path / "picks.csv", picks), Told())
    assert after.files == (*before.files, str(folder / "0.png"), f"{pool}#8")
    assert np.array_equal(after.train.images[6:].numpy(), X[[0, 8]])


STORED = plain(resolve(TrainOptions(data="digits", out="runs/a", epochs=4)))
names = st.lists(st.sampled_from(["a.csv", "b.csv", "c d.csv", "e.csv"]), max_size=4)


def resumed(stored=STORED, **given):
    return resumed_options(stored, resolve(TrainOptions(**{**stored, "resume": "runs/a", **given})))


@given(names, names)
def test_lists_are_added_after_those_of_the_run_each_once(before, more):
    stored = STORED | {"add": ",".join(dict.fromkeys(before))}
    options = resumed(stored, add=", ".join(more))
    assert lists(options.add) == list(dict.fromkeys([*before, *more]))
    new = bool(set(more) - set(before))
    assert options.accepted == (["add", "added", "epochs"] if new else [])


def test_a_run_of_before_there_were_lists_goes_on_with_one():
    stored = {name: value for name, value in STORED.items() if name != "add"}
    assert resumed(stored, add="a.csv").add == "a.csv"
    assert resumed(stored).add == ""


def test_a_list_lets_the_training_be_longer_but_nothing_else_be_changed():
    options = resumed(add="a.csv", epochs=9, accept="low")
    assert (options.epochs, options.accepted) == (9, ["low", "add", "added", "epochs"])
    with pytest.raises(InvalidValue, match="--seed must be what the run was started with"):
        resumed(add="a.csv", seed=3)
    with pytest.raises(InvalidValue, match="--epochs must be what the run was started with"):
        resumed(epochs=9)


def run_at(path, epoch, **options):
    resolved = resolve(TrainOptions(data="digits", **options))
    about = About(epoch=epoch, options=plain(resolved), defaults=resolved.noted)
    with RunDirectory.create(path) as run:
        run.checkpoints.write(b"a state", about, {})
    return run, plain(as_given(resolved))


@pytest.mark.parametrize(
    ("epochs", "done", "given", "longest"),
    [(4, 4, {}, 6), (5, 5, {}, 8), (None, 30, {}, 45), (4, 3, {}, 4), (4, 4, {"epochs": 9}, 9),
     (9, 4, {"epochs": 5}, 5), (None, 7, {}, 30)],
)  # fmt: skip
def test_a_finished_run_trains_half_as_long_again_or_to_what_is_said(tmp_path, epochs, done, given, longest):
    run, stored = run_at(tmp_path / "run", done, epochs=epochs)
    assert longer(run, resumed(stored, add="a.csv", **given)).epochs == longest


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_that_are_done_already_are_refused(tmp_path, epochs):
    run, stored = run_at(tmp_path / "run", 4, epochs=4)
    with pytest.raises(
        InvalidValue, match=rf"--epochs must be more than the 4 .*Found {epochs}\. Give a larger number"
    ):
        longer(run, resumed(stored, add="a.csv", epochs=epochs))


def test_without_a_new_list_or_a_state_nothing_is_longer(tmp_path):
    run, stored = run_at(tmp_path / "run", 4, epochs=4, add="a.csv")
    options = resumed(stored, add="a.csv")
    assert longer(run, options) is options
    options = resumed(stored, add="b.csv")
    assert longer(RunDirectory(tmp_path / "other"), options) is options


@pytest.mark.slow
def test_a_finished_run_goes_on_with_what_was_collected(tmp_path, monkeypatch):
    labels = np.arange(150) % 3
    x = pixels(150, 6)[:, 0] // 4 + (70 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x[:90], y_train=labels[:90], x_test=x[90:], y_test=labels[90:])
    candidates = pixels(40, 7)[:, 0] // 4
    np.savez(tmp_path / "pool.npz", x=candidates)
    monkeypatch.chdir(tmp_path)
    begun = {"data": "data.npz", "epochs": 2, "batch_size": 32, "accelerator": "cpu", "out": "run"}
    train(TrainOptions(**begun), Told())
    picks = [pick_of(tmp_path / "pool.npz", candidates, index, "0") for index in (30, 4, 11)]
    save(tmp_path / "picks.csv", [*picks, replace(picks[0], index=9, label="")])
    console = Told()
    train(TrainOptions(**{**stored_options("run"), "resume": "run", "add": "picks.csv"}), console)
    run = RunDirectory("run")
    stored = stored_options("run")
    assert (stored["epochs"], stored["add"]) == (3, str(tmp_path / "run" / "added-000.csv"))
    assert "picks.csv: 1 of 4 picks" in "".join(console.said)
    assert "It now trains to epoch 3" in "".join(console.said)
    data = DataFile.read(run.path / run.checkpoints.newest().found.about.data)
    assert data.labels.tolist() == [*labels[:90], 0, 0, 0]
    assert [f"{one:016x}" for one in data.content[90:]] == [pick.checksum for pick in picks]
    console = Told()
    train(TrainOptions(**{**stored, "resume": "run"}), console)
    assert "has finished" in "".join(console.said)


def test_no_sample_is_added_twice(listed):
    first, second = (
        listed([(1, "cat"), (2, "dog"), (1, "cat")], "a.csv"),
        listed([(2, "eel"), (3, "eel")], "b.csv"),
    )
    told = Told()
    after = with_added(data_of(), f"{first},{second}", told)
    assert np.array_equal(after.train.images[6:].numpy(), X[[1, 2, 3]])
    assert after.train.labels[6:].tolist() == [0, 1, 2]
    assert [said.partition(": ")[2] for said in told.said] == [
        "1 of 3 picks is in the training set, or twice in the list, and is left out.",
        "1 of 2 picks is in the training set, or twice in the list, and is left out.",
    ]
