"""``fallow train --resume``: the run that goes on leaves what the run that was never stopped leaves."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fallow.cli.main import main
from fallow.errors import DamagedData, InvalidValue, WrongState
from fallow.options.resume_options import located, resumed_options, stored_options, with_own_lists
from fallow.options.train_options import TrainOptions
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.directory import RunDirectory
from fallow.runs.run_files import RunFiles
from fallow.runs.schema import About
from fallow.training.checkpointing import Checkpointer
from fallow.training.session import Stopped
from fallow.training.train import train
from told_console import Told

BASE = {"data": "digits", "samples": 256, "epochs": 3, "batch_size": 64, "accelerator": "cpu"}
SETTINGS = {
    "default": {},
    "threshold, augmented, two workers": {
        "policy": "threshold", "low": 0.3, "high": 2.5, "augment": "crop-flip", "workers": 2
    },
    "own network that draws": {"model": "resumed_parts:Dropping", "policy": "infobatch"},
    "density": {"score": "density", "density": "gaussian", "policy": "threshold", "low": 0.4},
    "three batches an epoch": {"policy": "threshold", "low": 0.3, "trainer": {"limit_train_batches": 3}},
    "gradients of two batches, rows chosen": {
        "policy": "selective-backprop", "trainer": {"accumulate_grad_batches": 2}
    },
}  # fmt: skip
OWN = {"data": "resumed_parts:Data", "model": "resumed_parts:Module", "epochs": 3, "accelerator": "cpu"}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(Path(__file__).parent)


def stopped_after(monkeypatch, batches, options):
    """Train until a signal comes so many batches on; return whether it did."""
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "_stop", stop_after(batches))
        try:
            train(options, Told())
        except Stopped:
            return True
    return False


def stop_after(batches):
    seen = []

    def told(self, trainer):
        seen.append(1)
        return signal.SIGINT if len(seen) > batches else None

    return told


def go_on(run, **changed):
    """Go on with a run, as ``fallow train --resume`` does; return what it printed."""
    told = Told()
    train(TrainOptions(**{**stored_options(str(run)), "resume": str(run), **changed}), told)
    return told.said


def left(run):
    """What a run leaves behind that times have no part in."""
    names = ["model.safetensors", "samples.csv", *(f"history/{p.name}" for p in (run / "history").iterdir())]
    summary = json.loads((run / "summary.json").read_text())
    told = {
        name: summary[name] for name in ("accuracy", "test_loss", "steps", "samples_backward", "finished")
    }
    told |= {"by class": summary["accuracy_by_class"], "rows": [row["accuracy"] for row in summary["epochs"]]}
    return {name: (run / name).read_bytes() for name in sorted(names)}, told


@cache
def never_stopped(setting, folder):
    run = Path(folder) / "whole"
    train(TrainOptions(**options_of(setting), out=str(run)), Told())
    return left(run)


def options_of(setting):
    return OWN if setting == "own" else BASE | SETTINGS[setting]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    train(TrainOptions(**BASE, out=str(run)), Told())
    return run


def test_a_run_goes_on_exactly(monkeypatch, tmp_path, folder):
    assert check_stop(monkeypatch, tmp_path / "run", folder, "default", 7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*samples planned for epoch")
@pytest.mark.parametrize("setting", [*SETTINGS, "own"])
def test_a_run_goes_on_exactly_from_every_step(monkeypatch, tmp_path, folder, setting):
    batches = 4 if setting == "three batches an epoch" else 1  # there is no state inside its epochs
    while check_stop(monkeypatch, tmp_path / f"{batches}", folder, setting, batches):
        batches += 1
    assert batches > 6


def check_stop(monkeypatch, run, folder, setting, batches):
    want = never_stopped(setting, f"{folder}/{[*SETTINGS, 'own'].index(setting)}")
    if not stopped_after(monkeypatch, batches, TrainOptions(**options_of(setting), out=str(run))):
        return False
    own = {name: value for name, value in options_of(setting).items() if ":" in str(value)}
    said = go_on(run, **own)
    assert any(line.startswith("Resuming in epoch") for line in said)
    assert left(run) == want
    return True


@pytest.mark.slow
def test_a_second_and_a_third_stop_in_the_same_epoch(monkeypatch, tmp_path, folder):
    want = never_stopped("default", f"{folder}/0")
    run = tmp_path / "run"
    assert stopped_after(monkeypatch, 1, TrainOptions(**BASE, out=str(run)))
    for _ in range(2):
        options = TrainOptions(**{**stored_options(str(run)), "resume": str(run)})
        assert stopped_after(monkeypatch, 1, options)
    assert Checkpoints(run).newest().found.about.recorded == 3 * 64
    go_on(run)
    assert left(run) == want


def test_the_state_is_saved_every_so_many_steps(monkeypatch, tmp_path):
    """A training that is killed goes on from there."""
    run = tmp_path / "run"
    assert stopped_after(monkeypatch, 3, TrainOptions(**BASE, out=str(run), save_steps=1))
    numbers = Checkpoints(run).numbers()
    assert len(numbers) == 3  # the newest two, and the one from before the epoch
    assert [Checkpoints(run).read(n).about.steps for n in numbers] == [0, 2, 3]


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_train_and_is_put_together_again(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = left(run)
    assert any("has finished" in line for line in go_on(run))
    assert left(run) == before
    for name in ("model.safetensors", "summary.json", "samples.csv", "usage.png", "SHA256SUMS"):
        (run / name).unlink()  # killed before it was put together
    go_on(run)
    assert left(run) == before
    assert (run / "usage.png").exists()
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=run, check=True).returncode == 0


def test_a_run_that_was_killed_before_its_first_epoch_begins_anew(tmp_path, finished):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.yaml", run)
    said = go_on(run)
    assert "No epoch was finished: the run starts again." in said
    assert left(run) == left(finished)


def test_a_run_that_was_killed_as_its_folder_was_made_is_begun_again(tmp_path, finished):
    (tmp_path / "run" / "history").mkdir(parents=True)
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / ".config.yaml.77.tmp").write_text("data: dig")
    with pytest.raises(InvalidValue, match=r"must hold a run\. Found no config\.yaml"):
        stored_options(str(tmp_path / "run"))
    train(TrainOptions(**BASE, out=str(tmp_path / "run")), Told())
    assert left(tmp_path / "run") == left(finished)


def test_a_run_goes_on_for_longer_and_leaves_generators_outside_as_they_were(tmp_path, finished):
    torch.manual_seed(3)
    want = torch.rand(2)
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with pytest.raises(InvalidValue, match=r"--epochs must be .*: 3\. Found 4\. .*--accept epochs"):
        go_on(run, epochs=4)
    torch.manual_seed(3)
    go_on(run, epochs=4, accept="epochs")
    assert torch.equal(torch.rand(2), want)
    assert len(json.loads((run / "summary.json").read_text())["epochs"]) == 4
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 4
    assert RunDirectory(run).epochs() == [0, 1, 2, 3]


REFUSED = [
    ({"seed": 1}, "--seed must be what the run was started with: 0. Found 1."),
    ({"policy": "threshold"}, "--policy must be what the run was started with: error-mass. Found threshold."),
    ({"fraction": 0.3}, "--fraction must be what the run was started with: not set. Found 0.3."),
    ({"batch_size": 32}, "--batch_size must be"),
    ({"data": "other.npz"}, "--data must be"),
    ({"precision": "bf16-mixed"}, "--precision must be"),
    ({"model": "resnet", "accept": "seed"}, "Start a new run"),
    ({"accept": "sed"}, "Did you mean 'seed'?"),
    ({"out": "elsewhere"}, "A run is resumed in its own folder"),
]


@pytest.mark.parametrize(("changed", "words"), REFUSED, ids=[str(next(iter(c))) for c, _ in REFUSED])
def test_what_would_change_the_training_is_refused_by_name(finished, changed, words):
    stored = stored_options(str(finished))
    with pytest.raises(InvalidValue) as refused:
        resumed_options(stored, TrainOptions(**{**stored, "resume": str(finished), **changed}))
    assert words in str(refused.value)


def test_what_changes_nothing_is_free(tmp_path, finished):
    stored = stored_options(str(finished))
    free = {"workers": 2, "save_steps": 5, "on_storage_error": "stop", "logger": "csv"}
    options = resumed_options(stored, TrainOptions(**{**stored, "resume": str(finished), **free}))
    assert (options.workers, options.out) == (2, str(finished))


def digits_npz(path, change=lambda arrays: arrays):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = rng.integers(0, 90, (300, 8, 8)).astype(np.uint8) + (70 * labels[:, None, None]).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:60], "y_test": labels[:60]}
    np.savez(path, **change(arrays))


def shorter(arrays):
    return arrays | {name: arrays[name][:-7] for name in ("x_train", "y_train")}


def longer(arrays):
    return arrays | {n: np.concatenate([arrays[n], arrays[n][:9]]) for n in ("x_train", "y_train")}


def reordered(arrays):
    order = np.random.default_rng(1).permutation(300)
    return arrays | {name: arrays[name][order] for name in ("x_train", "y_train")}


def relabelled(arrays):
    labels = arrays["y_train"].copy()
    labels[17], labels[40] = 1, 0
    return arrays | {"y_train": labels}


def repainted(arrays):
    images = arrays["x_train"].copy()
    images[5] = 0
    return arrays | {"x_train": images}


SAME = "held out: 60 images as before"
CHANGES = {
    shorter: f"Found a change: 7 images are gone; {SAME}. Put them back",
    longer: f"Found a change: 9 images are new; {SAME}. Put them back",
    relabelled: f"Found a change: 2 images have another label; {SAME}. Put them back",
    repainted: f"Found a change: 1 image is new, 1 is gone; {SAME}. Put them back",
}


EVERY = [(change, batches) for change in CHANGES for batches in (4, 7, 10)]


@pytest.mark.parametrize(
    ("change", "batches"),
    [pytest.param(*one, marks=[] if one == (relabelled, 7) else [pytest.mark.slow]) for one in EVERY],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_other_data_are_refused_with_what_differs_or_accepted(monkeypatch, tmp_path, change, batches):
    data, run = tmp_path / "data.npz", tmp_path / "run"
    digits_npz(data)
    options = {"data": str(data), "epochs": 4, "batch_size": 64, "accelerator": "cpu", "policy": "threshold"}
    assert stopped_after(monkeypatch, batches, TrainOptions(**options, out=str(run)))
    digits_npz(data, change)
    with pytest.raises(InvalidValue) as refused:
        go_on(run)
    assert CHANGES[change] in str(refused.value)
    assert "--accept data" in str(refused.value)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "_stop", stop_after(1))
        with suppress(Stopped):  # in the last epoch there may be no more batches
            go_on(run, accept="data")
    readable(run)  # the finished epochs had other samples
    go_on(run)
    assert json.loads((run / "summary.json").read_text())["finished"]
    assert main(["verify", str(run)]) == 0
    readable(run)
    again = go_on(run)  # and now these are the data of the run
    assert any("has finished" in line for line in again)


@pytest.mark.slow
def test_samples_in_another_order_are_the_same_data(monkeypatch, tmp_path):
    data, run = tmp_path / "data.npz", tmp_path / "run"
    digits_npz(data)
    options = {"data": str(data), "epochs": 3, "batch_size": 64, "accelerator": "cpu", "policy": "threshold"}
    train(TrainOptions(**options, out=str(tmp_path / "whole")), Told())
    assert stopped_after(monkeypatch, 7, TrainOptions(**options, out=str(run)))
    digits_npz(data, reordered)
    go_on(run)
    assert left(run) == left(tmp_path / "whole")


@pytest.mark.slow
def test_a_finished_run_takes_no_other_data_but_trains_longer_on_it(tmp_path):
    data, run = tmp_path / "data.npz", tmp_path / "run"
    digits_npz(data)
    options = {"data": str(data), "epochs": 3, "batch_size": 64, "accelerator": "cpu", "policy": "threshold"}
    train(TrainOptions(**options, high=2.0, out=str(run)), Told())
    for epochs, change in ((4, shorter), (5, longer)):
        digits_npz(data, change)
        before = {
            path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"
        }
        with pytest.raises(
            InvalidValue, match=r"must have epochs left to train on other data\. Found none: all "
        ):
            go_on(run, accept="data")
        assert all(path.read_bytes() == content for path, content in before.items())
        go_on(run, accept="data,epochs", epochs=epochs)
        assert main(["verify", str(run)]) == 0
        readable(run)


def test_another_policy_brings_no_option_of_the_one_before(tmp_path, capsys):
    run = str(tmp_path / "run")
    words = ["train", "--data", "digits", "--samples", "200", "--epochs", "1", "--error", "0.03", "--out"]
    assert main([*words, run]) == 0
    words = ["train", "--resume", run, "--policy", "soft", "--epochs", "2"]
    assert main([*words, "--accept", "epochs"]) == 2
    assert "--policy must be what the run was started with: error-mass" in capsys.readouterr().err
    assert main([*words, "--accept", "epochs,policy"]) == 0
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (stored["policy"], stored.get("error")) == ("soft", None)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for more in (["--policy", "threshold", "--accept", "policy"], ["--epochs", "1", "--accept", "epochs"]):
        assert main(["train", "--resume", run, *more]) == 2
        found = f"Found none: 2 are done, with --accept {more[-1]}. Leave out --accept"
        assert f"must have epochs left to train with other options. {found}" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accept"), [("history/epoch-00001.safetensors", "history"), ("data.safetensors", "data")]
)
def test_a_finished_run_with_a_damaged_file_is_mended(tmp_path, finished, name, accept):
    run = shutil.copytree(finished, tmp_path / "run")
    damage(run / name)
    assert main(["verify", str(run)]) == 3
    go_on(run, accept=accept)
    assert main(["verify", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert any("has finished" in line for line in go_on(run))


@pytest.mark.parametrize("twice", [False, True], ids=["as printed", "--accept twice"])
def test_the_command_that_verify_prints_goes_on_past_two_damaged_files(tmp_path, finished, capsys, twice):
    run = shutil.copytree(finished, tmp_path / "run")
    damage(run / "history/epoch-00001.safetensors")
    damage(run / "data.safetensors")
    assert main(["verify", str(run)]) == 3
    command = shlex.split(re.search(r"fallow (train --resume .*) resumes it", capsys.readouterr().out)[1])
    assert command[-2:] == ["--accept", "history,data"]
    assert main([*command[:-2], *["--accept", "history", "--accept", "data"]] if twice else command) == 0
    assert main(["verify", str(run)]) == 0


@pytest.mark.slow
def test_a_run_goes_on_from_another_folder(tmp_path, monkeypatch):
    digits_npz(tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    options = {"data": "data.npz", "epochs": 3, "batch_size": 64, "accelerator": "cpu"}
    assert stopped_after(monkeypatch, 7, TrainOptions(**options, out=str(run)))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    go_on(run)
    assert json.loads((run / "summary.json").read_text())["finished"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file, a folder to work in and a link into it."""
    place = tmp_path.resolve()
    (place / "work" / "inner").mkdir(parents=True)
    (place / "link").symlink_to(place / "work" / "inner")
    digits_npz(place / "data.npz")
    monkeypatch.chdir(place / "work")
    return place


def test_a_path_is_kept_from_the_root_without_dots(place):
    assert located("../data.npz") == str(place / "data.npz")
    assert located("./inner/..") == str(place / "work")
    assert located("hf:../work") == f"hf:{place / 'work'}"
    for other in ("digits", "hf:a/b", "../none.csv", "package.module:Class", ""):
        assert located(other) == other


def test_links_in_a_path_are_left_alone(place):
    assert located("../link") == str(place / "link")
    digits_npz(place / "work" / "data.npz", shorter)
    behind = f"{place}/link/../data.npz"  # of the folder that the link leads into
    assert Path(located(behind)).samefile(place / "work" / "data.npz")


def test_a_run_begun_with_dots_in_its_paths_goes_on(place):
    (place / "work" / "added-000.csv").write_text("a list")
    path = place / "work" / "run"
    kept = {"data": f"{place}/work/../data.npz", "model": f"{place}/work/../work", "add": "added-000.csv"}
    with RunDirectory.create(path) as run:
        run.checkpoints.write(b"a state", About(epoch=1, options=kept), {})
        run.put(run.path / "added-000.csv", b"a list")
    stored = stored_options("../work/run")
    assert stored["data"] == str(place / "data.npz")
    assert stored["model"] == str(place / "work")
    assert stored["add"] == located(stored["add"]) == str(path / "added-000.csv")
    options = with_own_lists(RunDirectory("../work/run"), TrainOptions(**stored))
    assert options.add == "added-000.csv"
    assert len(list(path.glob("*.csv"))) == 1


def readable(run):
    """Every reading command can read the run, its first and last sample too."""
    epochs = RunDirectory(run).epochs()
    if not epochs:
        return
    n = RunFiles(run).last.record.remaining
    for words in (["report"], ["export", "--format", "csv"], ["inspect", "0"], ["inspect", str(n - 1)]):
        assert main([words[0], str(run), *words[1:]]) == 0


def image_folder(place, classes=3, each=25):
    draw = np.random.default_rng(0)
    for label in range(classes):
        (place / f"c{label}").mkdir(parents=True, exist_ok=True)
        for number in range(each):
            pixels = draw.integers(0, 90, (8, 8)).astype(np.uint8) + np.uint8(60 * label)
            Image.fromarray(pixels).save(place / f"c{label}" / f"i{number:03d}.png")


def test_no_sample_that_was_held_out_is_ever_trained_on(monkeypatch, tmp_path):
    """A held-out image that is moved into the training part is refused."""
    data, run = tmp_path / "images", tmp_path / "run"
    image_folder(data / "train")
    image_folder(data / "test", each=35)  # of which the first are those to train on
    for label in range(3):
        for number in range(25):
            (data / "test" / f"c{label}" / f"i{number:03d}.png").unlink()
    options = {"data": str(data), "epochs": 3, "batch_size": 16, "accelerator": "cpu"}
    assert stopped_after(monkeypatch, 5, TrainOptions(**options, out=str(run)))
    held_out = data / "test" / "c1" / "i030.png"
    held_out.rename(data / "train" / "c0" / "zz.png")
    with pytest.raises(InvalidValue, match=r"may be trained on\. Found 1 of them .*Move them back"):
        go_on(run, accept="data")
    (data / "train" / "c0" / "zz.png").rename(held_out)
    for part in ("train", "test"):
        shutil.copytree(data / part / "c1", data / part / "c3")
    with pytest.raises(InvalidValue, match=r"The classes must be those .* c3 is new.*another run"):
        go_on(run, accept="data,min_kept_per_class")
    for part in ("train", "test"):
        shutil.rmtree(data / part / "c3")
    go_on(run)


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_a_damaged_state_is_named_and_the_one_before_is_gone_on_from(monkeypatch, tmp_path, folder):
    run = tmp_path / "run"
    assert stopped_after(monkeypatch, 7, TrainOptions(**BASE, out=str(run)))
    newest = Checkpoints(run).newest().found.number
    damage(Checkpoints(run).state_path(newest))
    said = go_on(run)
    assert any(line.startswith("Not used: ") and f"{newest:06d}.safetensors" in line for line in said)
    assert any("later steps are trained again" in line for line in said)
    assert left(run) == never_stopped("default", f"{folder}/0")


def test_without_a_sound_state_nothing_goes_on(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for number in Checkpoints(run).numbers():
        damage(Checkpoints(run).state_path(number))
    with pytest.raises(DamagedData, match="must hold a sound state"):
        go_on(run)


@pytest.mark.slow
def test_a_damaged_past_epoch_is_named_and_may_be_gone_on_without(monkeypatch, tmp_path):
    run = tmp_path / "run"
    assert stopped_after(monkeypatch, 7, TrainOptions(**BASE, out=str(run)))
    damage(RunDirectory(run).epoch_path(0))
    with pytest.raises(DamagedData, match=r"epoch-00000\.safetensors must be unchanged\. .*--accept history"):
        go_on(run)
    go_on(run, accept="history")
    assert RunDirectory(run).epochs() == [1, 2]
    assert len(json.loads((run / "summary.json").read_text())["epochs"]) == 3
    assert main(["verify", str(run)]) == 0


def test_a_second_writer_is_told_who_holds_the_run(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    code = "import sys, time; from fallow.runs.directory import RunDirectory as R\n"
    code += "r = R.reopen(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WrongState, match=f"Another training writes to .*process {holder.pid} on "):
            go_on(run)
        assert main(["verify", str(run)]) == 0  # readers need no lock
    finally:
        holder.kill()
        holder.communicate()


def command(run, *words, **options):
    words = [sys.executable, "-m", "fallow", "train", *words, "--out", str(run), "--accelerator", "cpu"]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
        env=os.environ,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_training_after_a_whole_step(tmp_path, number, code):
    run = tmp_path / "run"
    words = ["--data", "digits", "--samples", "256", "--epochs", "4000", "--workers", "1"]
    child = command(run, *words)
    deadline = time.monotonic() + 100
    while not RunDirectory(run).epoch_path(1).exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(number)
    out, error = child.communicate(timeout=60)
    assert child.returncode == code, error
    assert "stopping after this step" in error
    assert "Traceback" not in error
    assert f"Resume with: fallow train --resume {run}" in out
    about = Checkpoints(run).newest().found.about
    assert about.steps > 0
    assert not json.loads((run / "summary.json").read_text())["finished"]
    assert main(["verify", str(run)]) == 0


def test_the_command_line_needs_no_other_option(monkeypatch, tmp_path, folder, capsys):
    run = tmp_path / "run"
    assert stopped_after(monkeypatch, 7, TrainOptions(**BASE, out=str(run)))
    assert main(["train", "--resume", str(run)]) == 0
    assert "Resuming in epoch 2 of 3, after 192 of its 256 samples" in capsys.readouterr().out
    assert left(run) == never_stopped("default", f"{folder}/0")
    assert main(["train", "--resume", str(tmp_path / "nowhere")]) == 2
    assert "A run directory must exist." in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--seed", "4"]) == 2
    assert "--seed must be what the run was started with: 0. Found 4." in capsys.readouterr().err
    assert main(["train", "--seed", "4"]) == 2
    assert "--data must say what to train on." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_are_stopped_together_and_go_on_exactly(tmp_path):
    words = ["--data", "digits", "--samples", "512", "--batch_size", "32", "--epochs", "30"]
    words += ["--devices", "2", "--strategy", "ddp"]
    whole, run = command(tmp_path / "whole", *words), tmp_path / "run"
    _, error = whole.communicate(timeout=300)
    assert whole.returncode == 0, error
    child = command(run, *words)
    deadline = time.monotonic() + 200
    while not RunDirectory(run).epoch_path(2).exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, error = child.communicate(timeout=100)
    assert child.returncode == 143, error
    assert len(RunDirectory(run).epochs()) < 30
    resumed_options = [sys.executable, "-m", "fallow", "train", "--resume", str(run)]
    done = subprocess.run(resumed_options, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Resuming in epoch" in done.stdout
    assert left(run) == left(tmp_path / "whole")


@pytest.mark.slow
def test_a_signal_while_the_data_are_read_leaves_nothing(tmp_path):
    run = tmp_path / "run"
    child = command(run, "--data", "digits", "--epochs", "2")
    deadline = time.monotonic() + 100
    while not (run / "lock").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGTERM)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 143, error
    assert "Traceback" not in error
    assert not run.exists() or Checkpoints(run).newest().found is not None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_spares_the_workers_of_own_data(tmp_path, number):
    run = tmp_path / "run"
    words = ["--data", "resumed_parts:Data", "--model", "resumed_parts:Module", "--epochs", "4000"]
    child = command(run, *words, start_new_session=True)
    deadline = time.monotonic() + 100
    while not (run / "state" / "000000.json").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, number)  # as a terminal does
    out, error = child.communicate(timeout=60)
    assert child.returncode == 128 + number, error
    assert error.count("stopping after this step") == 1
    assert "DataLoader worker" not in error
    assert f"Resume with: fallow train --resume {run}" in out


def test_a_first_epoch_that_fails_leaves_nothing(tmp_path):
    run = tmp_path / "run"
    options = {"model": "resumed_parts:Failing", "logger": "csv", "policy": "full"}
    with pytest.raises(ZeroDivisionError):
        train(TrainOptions(**BASE | options, out=str(run)), Told())
    assert list(run.iterdir()) == [] if run.exists() else True


def test_keys_that_would_become_text_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"The keys in `model_args` must be text\. Found 0"):
        train(TrainOptions(**BASE, model_args={"sizes": [{0: "a"}]}, out=str(tmp_path / "run")), Told())
    assert not (tmp_path / "run").exists()
