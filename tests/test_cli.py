"""The command line, in this process and on real data."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console as RichConsole
from safetensors.numpy import load_file

import fallow
from fallow import Fraction, Schedule, Subsampler
from fallow.cli.main import main
from fallow.comparison.options import CompareOptions
from fallow.datasets import load_images
from fallow.models import image_model
from fallow.options.train_options import TrainOptions
from fallow.runs.directory import RunDirectory
from fallow.tasks.console import Console

QUICK = ["train", "--data", "digits", "--epochs", "3", "--accelerator", "cpu"]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    assert main([*QUICK, "--policy", "threshold", "--low", "0.1", "--high", "4", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_every_file_behind(run):
    names = {path.name for path in run.iterdir()}
    files = {"config.yaml", "model.safetensors", "samples.csv", "summary.json", "usage.png", "usage.svg"}
    files |= {"data.safetensors", "environment.json", "SHA256SUMS", "lock"}
    assert names == files | {"history", "state"}
    epochs = [f"epoch-{e:05d}.safetensors" for e in range(3)]
    assert sorted(p.name for p in (run / "history").iterdir()) == [*epochs, "shown.safetensors"]


def test_the_summary_adds_up(run):
    said = summary(run)
    assert said["accuracy"] > 0.85
    assert said["samples_full"] == 3 * 1437
    assert said["samples_backward"] == sum(epoch["samples_backward"] for epoch in said["epochs"])
    assert said["saved_fraction"] == pytest.approx(1 - said["samples_backward"] / said["samples_full"])
    assert said["perplexity"] == pytest.approx(np.exp(said["test_loss"]))
    assert 0 < said["record_seconds"] < said["seconds"]
    keys = {"accuracy", "samples_backward", "samples_forward_only", "samples_full", "saved_fraction"}
    assert len(said["epochs"]) == 3
    assert all(keys | {"seconds", "record_seconds"} <= epoch.keys() for epoch in said["epochs"])


def test_samples_and_history_agree(run):
    with (run / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    agreed = ["index", "label", "score", "perplexity", "reason", "times_used"]
    assert list(rows[0]) == [*agreed, "file", "predicted"]
    assert {row["predicted"] for row in rows} == set("0123456789")
    assert np.mean([row["predicted"] == row["label"] for row in rows]) > 0.9
    assert [int(row["index"]) for row in rows] == list(range(1437))
    files = [RunDirectory(run).read_epoch(epoch) for epoch in RunDirectory(run).epochs()]
    used = sum(file.record.used.int() for file in files)
    assert [int(row["times_used"]) for row in rows] == used.tolist()
    scored = [row for row in rows if row["score"]]
    assert all(
        float(row["perplexity"]) == pytest.approx(np.exp(float(row["score"])), rel=1e-4) for row in scored
    )


def test_the_weights_alone_give_the_accuracy(run):
    data = load_images("digits")
    network = image_model("small-conv", 1, 8, 10)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(run / "model.safetensors").items()})
    mean, std = data.train.mean_std()
    images = (data.test.images.float() / 255 - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    with torch.no_grad():
        right = network.eval()(images).argmax(1) == data.test.labels
    assert right.float().mean().item() == pytest.approx(summary(run)["accuracy"])


def test_the_same_seed_gives_the_same_run_from_the_saved_config(run, tmp_path):
    options = yaml.safe_load((run / "config.yaml").read_text())
    options["out"] = str(tmp_path / "again")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(options))
    assert main(["train", "--config", str(tmp_path / "again.yaml")]) == 0
    assert (tmp_path / "again" / "samples.csv").read_text() == (run / "samples.csv").read_text()
    for name in ("model.safetensors", *(f"history/epoch-{e:05d}.safetensors" for e in range(3))):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_plain_lines_where_there_is_no_terminal(capsys, tmp_path):
    assert main([*QUICK, "--policy", "soft", "--fraction", "0.4", "--out", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    lines = [line.split() for line in shown.splitlines()]
    epochs = [line for line in lines if line and line[0] in ("1/3", "2/3", "3/3")]
    assert [line[1] for line in epochs] == ["1,437", "896", "896"]  # 862, in whole batches of 64
    assert str(tmp_path / "r" / "usage.png") in shown.replace("\n", "")


def test_wrong_labels_are_left_out_and_named(capsys, tmp_path):
    """Every fifth label of the digits is wrong; the default finds them, and says so in every place."""
    data = load_images("digits")
    parts = {}
    for name, part in (("train", data.train), ("test", data.test)):
        images, labels = part.__getitems__(range(len(part)))
        parts |= {f"x_{name}": images.numpy().astype(np.uint8), f"y_{name}": labels.numpy()}
    rng, y = np.random.default_rng(0), parts["y_train"]
    wrong = rng.random(len(y)) < 0.2
    parts["y_train"] = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    np.savez(tmp_path / "noisy.npz", **parts)
    words = ["--data", str(tmp_path / "noisy.npz"), "--epochs", "14", "--out", str(tmp_path / "r")]
    assert main(["train", *words, "--accelerator", "cpu"]) == 0
    with (tmp_path / "r" / "samples.csv").open() as file:
        found = np.array([row["reason"] == "outlier" for row in csv.DictReader(file)])
    assert (found & wrong).sum() > 0.9 * found.sum()
    assert (found & wrong).sum() > 0.6 * wrong.sum()
    said = summary(tmp_path / "r")
    last = said["epochs"][-1]
    assert last["outliers"] == found.sum()
    assert last["notes"]["high"] >= np.log(10) + 0.5
    assert said["samples_forward_only"] > 0
    assert RunDirectory(tmp_path / "r").read_epoch(13).record.notes == last["notes"]
    lines = capsys.readouterr().out.splitlines()
    heads = next(line for line in lines if "epoch" in line and "kept" in line)
    shown = next(line for line in lines if line.strip().startswith("14/14"))
    place = heads.index("outliers") + len("outliers")
    assert shown[:place].split()[-1] == str(found.sum())
    (outliers,) = [line for line in lines if line.startswith("Outliers")]
    assert f"{found.sum()} samples with unusually high scores (reason outlier)" in outliers
    (suspect,) = [line.split() for line in lines if line.startswith("Suspect labels")]
    assert 0.9 * found.sum() < int(suspect[2]) <= found.sum()


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["full", "fraction", "below-mean", "random"])
def test_every_policy_trains(policy, tmp_path):
    assert main([*QUICK[:-4], "--epochs", "2", "--policy", policy, "--out", str(tmp_path / "r")]) == 0
    saved = summary(tmp_path / "r")["saved_fraction"]
    assert (saved == 0) == (policy == "full")


@pytest.mark.parametrize("policy", ["repb", *map(slow, ("kakurenbo", "ies", "selective-backprop"))])
def test_every_rule_of_a_paper_trains_with_its_own_dial(policy, tmp_path, capsys):
    assert main([*QUICK[:-4], "--epochs", "2", "--policy", policy, "--out", str(tmp_path / "r")]) == 0
    found = summary(tmp_path / "r")
    assert (found["saved_fraction"] == 0) == (policy == "ies")  # it needs more epochs
    assert (found["step_rule"] is None) == (policy != "selective-backprop")
    said = capsys.readouterr().out
    assert "Training  2 epochs, batch size 64, " in said
    lines = [line.split() for line in said.splitlines()]
    rows = [line for line in lines if line and line[0] in ("1/2", "2/2")]
    shown = [int(row[5].replace(",", "")) for row in rows]
    assert shown == [epoch["samples_forward_only"] for epoch in found["epochs"]]
    assert all(float(row[6]) > 0 for row in rows), "a mean loss, also where scores are relative to a batch"


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["selective-backprop", *map(slow, ("seta", "repb"))])
def test_a_fraction_leaves_out_that_share_of_all_samples_under_every_rule(policy, tmp_path):
    words = ["--epochs", "3", "--policy", policy, "--fraction", "0.3", "--min_kept_per_class", "0"]
    assert main([*QUICK[:-4], *words, "--batch_size", "64", "--out", str(tmp_path / "r")]) == 0
    found = summary(tmp_path / "r")
    if policy == "selective-backprop":  # 45 rows of 64 in each of 22 steps, 20 of 29 in the last
        assert found["samples_backward"] == 3 * (22 * 45 + 20)
        assert found["samples_forward_only"] == found["samples_full"]
    else:
        assert [epoch["samples_backward"] for epoch in found["epochs"]] == [1437, 1024, 1024]


@pytest.mark.slow
@pytest.mark.parametrize("score", ["js", "reverse-kl", "tv", "hellinger", "renyi"])
def test_every_score_is_recorded(score, tmp_path):
    words = [*QUICK[:-4], "--epochs", "1", "--score", score, "--out", str(tmp_path / "r")]
    assert main(words) == 0
    with (tmp_path / "r" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["score"] for row in rows)
    assert all(bool(row["perplexity"]) == (score not in ("tv", "hellinger")) for row in rows)


def write_folder(folder: Path, classes: int = 2, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (10, 10, 3), dtype=np.uint8) + np.uint8(120 * label)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.png")
    return folder


def test_a_folder_of_images(tmp_path, capsys):
    folder = write_folder(tmp_path / "images", count=20)
    (folder / "class0" / "notes.txt").write_text("no image")
    words = ["train", "--data", str(folder), "--epochs", "8", "--out", str(tmp_path / "run")]
    assert main([*words, "--batch-size", "8"]) == 0
    assert summary(tmp_path / "run")["accuracy"] == 1.0
    rows = csv.DictReader((tmp_path / "run" / "samples.csv").read_text().splitlines())
    trained = {row["file"]: row["label"] for row in rows}
    assert set(trained.values()) == {"class0", "class1"}
    held_out = {str(path.relative_to(folder)) for path in folder.rglob("*.png")} - trained.keys()
    assert len(held_out) == 8
    assert main(["inspect", str(tmp_path / "run"), min(held_out)]) == 2
    assert f"Found {min(held_out)}, which is held out." in capsys.readouterr().err
    assert any(
        said == "Left out 1 file that is not an image: 1 .txt."
        for said in summary(tmp_path / "run")["data_remarks"]
    )
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "1 .txt" in page.partition("Remarks on the data")[2].partition("</ul>")[0]


def write_npz(path: Path, **changes) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.integers(0, 100, (40, 8, 8), dtype=np.uint8) + (120 * labels).astype(np.uint8)[:, None, None]
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:10], "y_test": labels[:10]}
    np.savez(path, **{**arrays, **changes})
    return path


OWN = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Points(LightningDataModule):
    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(300, 5, generator=generator)
        self.data = TensorDataset(x, (x[:, 0] > 0).long())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=100)


class Line(LightningModule):
    def __init__(self, rate: float = 0.1):
        super().__init__()
        self.rate, self.layer = rate, torch.nn.Linear(5, 2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        losses = torch.nn.functional.cross_entropy(self.layer(x), y, reduction="none")
        self.log("train_loss", losses.mean())
        return {"loss": losses.mean(), "per_sample_loss": losses}

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", (self.layer(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Bare(Line):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)["loss"]
"""


PIXELS = """

class Pixels(Line):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))

    def training_step(self, batch, batch_idx):
        assert batch[0].dtype == torch.float32
        assert 0.3 < batch[0].max() <= 1
        return super().training_step(batch, batch_idx)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield ["train", "--data", "own_parts:Points", "--epochs", "4", "--out", "run"]
    sys.modules.pop("own_parts", None)


def test_own_data_module_and_own_module(own, tmp_path):
    words = [*own, "--model", "own_parts:Line", "--model_args", '{"rate": 0.5}', "--policy", "threshold"]
    assert main([*words, "--low", "0.3"]) == 0
    said = summary(tmp_path / "run")
    assert said["accuracy"] > 0.9
    assert 0 < said["saved_fraction"] < 1
    assert said["accuracy_by_class"] is said["worst_class_accuracy"] is None
    assert said["steps"] > 4


def test_own_data_is_not_cut(own, capsys):
    assert main([*own, "--model", "own_parts:Line", "--samples", "10"]) == 2
    assert "--samples is for data that fallow reads" in capsys.readouterr().err


def test_own_module_without_per_sample_losses_is_told_the_two_lines(own, capsys):
    assert main([*own, "--model", "own_parts:Bare"]) == 2
    assert "'per_sample_loss': losses" in capsys.readouterr().err


WRONG = [
    (["--policy", "treshold"], "Did you mean 'threshold'?"),
    (["--score", "kll"], "Did you mean 'kl'?"),
    (["--data", "digist"], "Did you mean 'digits'?"),
    (["--data", "fashion-mnist"], "Run `python -m benchmarks.data fashion-mnist --out FOLDER`"),
    (["--model", "small-conf"], "Did you mean 'small-conv'?"),
    (["--policy", "threshold", "--low", "3", "--high", "1"], "`low` must be below `high`"),
    (["--policy", "threshold", "--score", "tv", "--low", "2"], "must lie in [0, 1]"),
    (["--policy", "threshold", "--low", "-1"], "must lie in [0, inf]"),
    (["--policy", "threshold", "--low", "1000", "--min_kept", "1"], "must keep at least one sample"),
    (["--policy", "soft", "--fraction", "1"], "must be in [0, 1)"),
    (["--kept_steps", "maybe"], "--kept_steps must be true or false. Found maybe."),
    (["--policy", "soft", "--low", "0.1"], "--low goes with --policy threshold"),
    (["--epochs", "0"], "--epochs must be at least 1"),
    (["--data", "nowhere/at/all"], "must exist"),
    (["--model", "nowhere:Class"], "must be importable"),
    (["--seed", "-1"], "--seed must be at least 0"),
    (["--weight-decay", "-3"], "--weight_decay must be at least 0"),
    (["--devices", "abc"], "--devices must be a number"),
    (["--precision", "foo"], "Trainer must accept"),
    (["--trainer", '{"foo": 1}'], "Trainer must accept"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_use(words, message, capsys, tmp_path):
    assert main([*QUICK, *words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fallow: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_no_words_show_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    assert "fallow train --data digits" in capsys.readouterr().out


def test_options_are_spelt_as_in_the_help():
    names = [field.name for kind in (TrainOptions, CompareOptions) for field in fields(kind)]
    other = [f"--{name.replace('_', '-')}" for name in names if "_" in name]
    source = Path(fallow.__file__).parent
    for path in source.rglob("*.py"):
        text = re.sub(r"``--[\w-]+`` as", "", path.read_text())  # what is told to be another spelling
        assert not [name for name in other if name in text], path


ROOM = [
    (60_000, {60: "back, measured, train"}),
    (1_281_167, {60: "back, measured, train", 80: "train"}),
]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("n", "left_out"), ROOM)
def test_columns_that_have_no_room_are_named(width, n, left_out):
    file = io.StringIO()
    console = Console(RichConsole(file=file, force_terminal=True, width=width, highlight=False))
    labels = torch.zeros(n, dtype=torch.int64)
    subsampler = Subsampler(n, Fraction(0.5, exponent=0.5), Schedule(epochs=20), labels=labels)
    rows = [("Data", "pictures [/b] of a folder"), ("Run", "runs/" + "long" * 30)]
    console.begin(subsampler, 4, TrainOptions(data="digits", policy="soft"), rows)
    console.end()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert max(map(len, shown.splitlines())) <= width
    assert "pictures [/b] of a folder" in shown
    head = next(line for line in shown.splitlines() if line.split()[:2] == ["epoch", "kept"])
    said = " ".join(shown.split())
    if width in left_out:
        assert f"No room for {left_out[width]}: see summary.json, or widen the terminal." in said
        assert not set(left_out[width].split(", ")) & set(head.split())
    else:
        assert "No room" not in said
        assert {"outliers", "back", "measured", "train"} <= set(head.split())


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_done(tmp_path):
    words = [sys.executable, "-m", "fallow", "train", "--data", "digits", "--epochs", "4000"]
    command = [*words, "--accelerator", "cpu", "--out", str(tmp_path / "run")]
    # A parent in the background of a shell leaves SIGINT ignored, and a child inherits that.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, **pipes, preexec_fn=heed)
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / "history" / "epoch-00002.safetensors").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "fallow: stopped." in error
    assert "Traceback" not in error
    said = summary(tmp_path / "run")
    assert len(said["epochs"]) >= 3
    assert (tmp_path / "run" / "usage.png").exists()
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_an_easy_set_never_trains_on_one_class_only(tmp_path):
    """Else the last samples to be learned, of one class, are all that is trained on."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = (rng.integers(0, 60, (300, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "easy.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    words = ["train", "--data", str(tmp_path / "easy.npz"), "--policy", "threshold", "--epochs", "8"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    run = RunDirectory(tmp_path / "run")
    for epoch in run.epochs():
        used = labels[run.read_epoch(epoch).record.used.numpy()]
        assert np.bincount(used, minlength=3).min() >= 64 // 3


def test_own_lightning_module_on_our_images_gets_floats(own, tmp_path):
    path = write_npz(tmp_path / "data.npz")
    (tmp_path / "own_parts.py").write_text(OWN + PIXELS)
    words = ["train", "--data", str(path), "--model", "own_parts:Pixels", "--epochs", "3", "--out", "r"]
    assert main([*words, "--batch-size", "8"]) == 0
    assert main([*words[:-1], "other", "--learning-rate", "0.1"]) == 2


def test_an_out_directory_that_holds_a_run_is_left_alone(run, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    assert main([*QUICK, "--out", str(run)]) == 2
    assert "a run in" in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before


def test_unknown_option_and_bad_type_exit_with_2(capsys):
    wrong = {"--epohcs 3": "Did you mean --epochs?", "--epochs many": "must be a whole number. Found many."}
    for words, message in ((words.split(), message) for words, message in wrong.items()):
        assert main([*QUICK, *words]) == 2
        assert message in capsys.readouterr().err


def test_wrong_arrays(tmp_path, capsys):
    path = write_npz(tmp_path / "data.npz", y_test=np.full((10, 2), 0.5))
    assert main(["train", "--data", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "y_test" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_corrupt_image_is_named_and_skipped_only_when_asked(tmp_path, capsys):
    folder = write_folder(tmp_path / "images")
    broken = folder / "class1" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    words = ["train", "--data", str(folder), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 3
    assert str(broken) in capsys.readouterr().err
    assert main([*words, "--skip-corrupt"]) == 0
    assert "3.png" in capsys.readouterr().out


def test_print_config_shows_what_would_run(capsys):
    with pytest.raises(SystemExit):
        main([*QUICK, "--policy", "threshold", "--low", "1e-1", "--readmit-every", "3", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["policy"], shown["low"], shown["readmit_every"]) == ("threshold", 0.1, 3)


def test_help_and_import_load_no_torch():
    code = "import sys, fallow.cli.main\nfor command in ('train', 'compare'):\n"
    code += "  try: fallow.cli.main.main([command, '--help'])\n  except SystemExit: pass\n"
    heavy = "{'torch', 'lightning', 'matplotlib', 'sklearn', 'PIL'}"
    code += f"print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


WRONG_WORDS = [
    "train --data digit", "train --data digits --score nosuch", "train --data digits --policy nosuch",
    "train --data digits --model nosuch", "train --data digits --epochs x", "train --nosuch 3",
    "compare --data digits --arms nosuch",
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG_WORDS)
def test_a_wrong_word_is_answered_before_anything_heavy_is_loaded(words):
    code = f"""
import sys, fallow.cli.main
status = fallow.cli.main.main({words.split()})
print(status, sorted({{'torch', 'lightning', 'matplotlib', 'sklearn', 'PIL'}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[-2:] == ["2 []", ""], done.stderr


@pytest.mark.slow
def test_two_processes(tmp_path):
    """Two ranks of DDP on the CPU use the same samples as one process with the same global batch."""
    words = [sys.executable, "-m", "fallow", *QUICK, "--policy", "soft", "--batch-size", "32"]
    words += ["--devices", "2", "--strategy", "ddp", "--out", str(tmp_path / "two")]
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert main([*QUICK, "--policy", "soft", "--batch-size", "64", "--out", str(tmp_path / "one")]) == 0
    one, two = summary(tmp_path / "one"), summary(tmp_path / "two")
    assert [e["samples_backward"] for e in two["epochs"]] == [e["samples_backward"] for e in one["epochs"]]
    first = RunDirectory(tmp_path / "two").read_epoch(0)
    assert bool(first.record.used.all())
    assert two["accuracy"] > 0.85


def test_a_training_that_diverged_says_so_first_and_ends_with_a_finding(tmp_path, capsys):
    words = ["--epochs", "3", "--samples", "256", "--learning_rate", "1e8", "--out", str(tmp_path / "r")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* scores of epoch .* not finite")
        assert main(["train", "--data", "digits", "--accelerator", "cpu", *words]) == 1
    said = summary(tmp_path / "r")
    assert said["diverged"] is True
    assert said["perplexity"] is None
    lines = capsys.readouterr().out.splitlines()
    heads = [line.partition("  ")[0] for line in lines if line.startswith(("DIVERGED", "Test ", "Saved "))]
    assert heads[0] == "DIVERGED", "before what the network reached"
    assert "Test accuracy" in heads
    assert not any(re.search(r"\b(nan|inf)\b", line) for line in lines)
    assert any("of a network that diverged" in line for line in lines)
    assert main(["gaps", str(tmp_path / "r")]) == 2
    assert "whose training diverged" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "r")]) == 0
    assert "The training diverged" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
