"""``fallow train`` on files of texts, from the command line to what a run leaves behind."""

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fallow.cli.main import main
from fallow.datasets.tokenizing import Tokenizer
from fallow.errors import DamagedData, InvalidValue
from fallow.models import SmallGPT, SmallTransformer
from fallow.options.resolve import resolve
from fallow.options.resume_options import resumed_options, stored_options
from fallow.options.train_options import TrainOptions
from fallow.runs.directory import RunDirectory
from fallow.runs.run_files import RunFiles
from fallow.tasks.read_texts import read_texts
from fallow.training.train import train
from test_report import HOSTILE, Page
from test_resumed_runs import command, go_on, stopped_after
from told_console import Told

GOOD = ("great", "lovely", "bright", "warm", "kind", "clever", "happy", "fine")
BAD = ("dull", "awful", "grey", "cold", "cruel", "stupid", "sad", "poor")
NOUNS = ("film", "song", "book", "meal", "trip", "day", "game", "house", "the", "a", "of", "and")
SMALL = {"model_args": {"width": 16, "heads": 2}, "accelerator": "cpu", "batch_size": 32}
QUICK = {**SMALL, "max_tokens": 16, "vocabulary": 290}


def rows(n=240, seed=0):
    """Sentences with a word that says which class they are of, and what two people say of each."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        good = draw.random() < 0.5
        words = [*draw.choice(NOUNS, draw.integers(2, 9)), *draw.choice(GOOD if good else BAD, 2)]
        other = good if draw.random() < 0.7 else not good
        names = ["good" if said else "bad" for said in (good, other)]
        found.append((" ".join(draw.permutation(words)), *names))
    return found


def write(path, table=None):
    """Write rows into a file of the kind that its name says."""
    table = table or rows()
    names = ("text", "label", "second")
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *table])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in table))
    elif path.suffix == ".parquet":
        parquet.write_table(arrow.table(dict(zip(names, zip(*table, strict=True), strict=True))), path)
    else:
        path.write_text("".join(f"{text}.\n" for text, *_ in table))
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "texts.csv")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "book.txt")


@pytest.fixture
def _without_charts(monkeypatch):
    """Write no charts: they take longer than training does."""

    def save(history, folder, **_):
        paths = [folder / name for name in ("usage.png", "usage.svg")]
        for path in paths:
            path.write_bytes(b"")
        return paths

    monkeypatch.setattr("fallow.training.summary.save_usage", save)


def words_of(options):
    found = []
    for name, value in options.items():
        found += [f"--{name}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return found


def run_of(out, **options):
    """Train by the command line; return the folder."""
    assert main(["train", *words_of(QUICK | options), "--out", str(out)]) == 0
    return out


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def samples_of(run):
    with (run / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def left(run):
    """What a run leaves behind that times have no part in."""
    names = ["model.safetensors", "samples.csv", "tokenizer.json"]
    names += [f"history/{path.name}" for path in (run / "history").iterdir()]
    told = summary_of(run)
    kept = ("accuracy", "test_loss", "bits_per_character", "steps", "samples_backward", "finished", "tokens",
            "tokens_learned", "tokens_outliers", "accuracy_by_class")  # fmt: skip
    numbers = {name: told.get(name) for name in kept}
    numbers["epochs"] = [{name: row.get(name) for name in kept} for row in told["epochs"]]
    return {name: (run / name).read_bytes() for name in sorted(names)}, numbers


@pytest.fixture(scope="module")
def table_run(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "run"
    return run_of(out, data=table, epochs=6, policy="threshold", low=0.3)


class TestTable:
    def test_it_learns_and_leaves_out_what_is_learned(self, table_run):
        told = summary_of(table_run)
        assert told["accuracy"] > 0.85
        assert told["saved_fraction"] > 0.02
        assert told["samples_evaluated"] == 48
        assert set(told["accuracy_by_class"]) == {"good", "bad"}
        assert told["worst_class_accuracy"] == min(told["accuracy_by_class"].values())
        assert "bits_per_character" not in told
        assert "tokens" not in told

    def test_samples_are_the_rows_of_the_file(self, table_run, table, capsys):
        data = read_texts(resolve(TrainOptions(data=table)))
        found = samples_of(table_run)
        assert len(found) == len(data.train) == 192
        assert [row["label"] for row in found] == [data.classes[label] for label in data.train.labels]
        assert main(["inspect", str(table_run), "17", "--json"]) == 0
        life = json.loads(capsys.readouterr().out)
        assert life["label"] == found[17]["label"]
        assert life["times_used"] == int(found[17]["times_used"])
        name, _, line = life["file"].rpartition(":")
        assert name == "texts.csv"
        with open(table, newline="") as file:
            row = list(csv.reader(file))[int(line) - 1]
        assert row[:2] == [data.train.texts[17], life["label"]]
        assert main(["inspect", str(table_run), life["file"], "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == life
        assert found[17]["file"] == life["file"]
        assert found[17]["predicted"] == life["predicted"]
        assert main(["inspect", str(table_run), "texts.csv:7777"]) == 2
        assert "Did you mean texts.csv:" in capsys.readouterr().err

    def test_the_text_of_a_sample_that_the_report_shows_is_told(self, table_run, table, capsys):
        data, shown = read_texts(resolve(TrainOptions(data=table))), RunFiles(table_run).shown
        sample = int(shown.index[0])
        assert main(["inspect", str(table_run), str(sample)]) == 0
        assert f"\ntext       {data.train.texts[sample]}\n" in capsys.readouterr().out
        other = next(i for i in range(len(data.train)) if i not in shown.index)
        assert main(["inspect", str(table_run), str(other)]) == 0
        assert "\ntext       not kept: only those of samples in the report" in capsys.readouterr().out
        assert main(["inspect", str(table_run), str(other), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["text"] is None

    def test_the_tokenizer_is_kept_and_the_weights_fit_it(self, table_run, table):
        path = table_run / "tokenizer.json"
        tokenizer = Tokenizer.parse(path.read_bytes(), str(path))
        data = read_texts(resolve(TrainOptions(data=table)))
        assert 258 < len(tokenizer) <= 290
        network = SmallTransformer(len(tokenizer), 2, 16, tokenizer.pad, width=16, heads=2)
        network.load_state_dict(load_file(table_run / "model.safetensors"))
        right = 0
        for text, label in zip(data.test.texts, data.test.labels, strict=True):
            ids = [tokenizer.start, *tokenizer.inner.encode(text).ids][:16]
            right += int(network.eval()(torch.tensor([ids])).argmax()) == label
        assert right / len(data.test) == pytest.approx(summary_of(table_run)["accuracy"])

    @pytest.mark.parametrize("command", [["gaps"], ["collect", "--pool", "digits", "--count", "3"]])
    def test_gaps_are_for_images(self, table_run, table, capsys, command):
        before = sorted(table_run.iterdir())
        assert main([command[0], str(table_run), *command[1:]]) == 2
        said = capsys.readouterr().err
        assert f"Gaps are found in images. Found {table}, which is text. Use fallow.gaps" in said
        assert sorted(table_run.iterdir()) == before

    def test_a_damaged_tokenizer_is_found(self, table_run, tmp_path, capsys):
        shutil.copytree(table_run, tmp_path / "run")
        with (tmp_path / "run" / "tokenizer.json").open("ab") as file:
            file.write(b" ")
        assert main(["verify", str(tmp_path / "run")]) == 3
        assert "tokenizer.json" in capsys.readouterr().out


@pytest.mark.usefixtures("_without_charts")
def test_several_annotators_make_a_soft_label(table, tmp_path):
    run = run_of(tmp_path / "run", data=table, label="label,second", epochs=5, score="js")
    data = read_texts(resolve(TrainOptions(data=table, label="label,second")))
    assert 0 < (data.train.soft == 0.5).all(1).mean() < 1
    assert [row["label"] for row in samples_of(run)] == [data.classes[i] for i in data.train.labels]
    told = summary_of(run)
    assert told["score"].startswith("JensenShannon")
    # What two people disagree about can be predicted either way: the first class of the two counts.
    assert told["accuracy"] > 0.6
    assert main(["verify", str(run)]) == 0
    assert main(["report", str(run)]) == 0


@pytest.mark.usefixtures("_without_charts")
def test_a_report_shows_texts_as_text(tmp_path):
    marks = [mark for mark in HOSTILE[:6] if "\udcff" not in mark]
    table = [
        (f"{marks[i % len(marks)]} {text}", label, other) for i, (text, label, other) in enumerate(rows(90))
    ]
    table = [(text.replace("\x00", ""), label, other) for text, label, other in table]
    data = write(tmp_path / "texts.csv", table)
    run = run_of(tmp_path / "run", data=data, epochs=3)
    assert main(["report", str(run)]) == 0
    markup = (run / "report.html").read_text()
    page = Page(markup)
    for mark in marks[:4]:
        assert mark not in markup.replace(json.dumps(mark), "")
        assert any(mark in " ".join(words.split()) for words in page.words), mark
    assert not [tag for tag, names in page.skeleton if tag == "img" or any(n.startswith("on") for n in names)]
    assert "texts.csv:" in " ".join(page.words)


def check_bits(run, data, length, arguments):
    """Assert that bits a character of a run are those of the held-out text, counted one by one."""
    path = run / "tokenizer.json"
    tokenizer = Tokenizer.parse(path.read_bytes(), str(path))
    network = SmallGPT(len(tokenizer), length, **arguments).eval()
    network.load_state_dict(load_file(run / "model.safetensors"))
    bits = right = tokens = windows = 0
    for document in data.test:
        ids = torch.tensor([tokenizer.start, *tokenizer.inner.encode(document.text).ids])
        for start in range(0, len(ids) - 1, length):
            part = ids[start : start + length + 1]
            with torch.no_grad():
                p = network(part[None, :-1])[0].log_softmax(1)
            bits -= float(p.gather(1, part[1:, None]).sum()) / math.log(2)
            right += int((p.argmax(1) == part[1:]).sum())
            tokens += len(part) - 1
            windows += 1
    characters = sum(len(document.text) for document in data.test)
    told = summary_of(run)
    assert told["bits_per_character"] == pytest.approx(bits / characters, rel=1e-5)
    assert told["test_loss"] == pytest.approx(bits * math.log(2) / tokens, rel=1e-5)
    assert told["perplexity"] == pytest.approx(math.exp(told["test_loss"]))
    assert told["accuracy"] == pytest.approx(right / tokens)
    assert told["samples_evaluated"] == windows


@pytest.fixture(scope="module", params=[pytest.param("byte", marks=pytest.mark.slow), "bpe"])
def text_run(request, book, tmp_path_factory):
    given = {"tokenizer": "byte"} if request.param == "byte" else {"vocabulary": 290}
    rule = {"policy": "threshold", "low": 2.5, "token_low": 3.3, "token_high": 6.5}
    options = {**SMALL, "max_tokens": 32, "data": book, "epochs": 6, "learning_rate": 0.02, **rule, **given}
    out = tmp_path_factory.mktemp(request.param) / "run"
    assert main(["train", *words_of(options), "--out", str(out)]) == 0
    return out


class TestTextFile:
    @pytest.mark.slow
    def test_bits_a_character_are_those_of_the_held_out_text(self, text_run, book):
        data = read_texts(resolve(TrainOptions(data=book)))
        check_bits(text_run, data, 32, SMALL["model_args"])

    def test_it_learns(self, text_run):
        bits = [row["bits_per_character"] for row in summary_of(text_run)["epochs"]]
        assert bits[-1] < bits[0]
        assert samples_of(text_run)[0]["label"] == ""
        assert float(samples_of(text_run)[0]["perplexity"]) > 1

    def test_tokens_without_a_gradient_are_counted(self, text_run):
        told = summary_of(text_run)
        for row in told["epochs"]:
            assert row["tokens_learned"] + row["tokens_outliers"] <= row["tokens"]
        full = told["epochs"][0]
        tokenizer = Tokenizer.parse((text_run / "tokenizer.json").read_bytes(), "")
        book = yaml.safe_load((text_run / "config.yaml").read_text())["data"]
        data = read_texts(resolve(TrainOptions(data=book)))
        assert full["tokens"] == len(tokenizer.inner.encode(data.train[0].text).ids)
        assert told["tokens"] == sum(row["tokens"] for row in told["epochs"])
        assert told["tokens_learned"] > full["tokens_learned"] >= 0

    def test_reading_commands(self, text_run, capsys):
        assert main(["verify", str(text_run)]) == 0
        assert main(["export", str(text_run), "--format", "csv"]) == 0
        assert main(["report", str(text_run)]) == 0
        words = " ".join(Page((text_run / "report.html").read_text()).words)
        assert "bits a character" in words
        assert re.search(r"book\.txt, tokens \d+-\d+", words)
        assert any(noun in words for noun in NOUNS[:8])
        capsys.readouterr()
        assert main(["inspect", str(text_run), "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["file"] == "book.txt, tokens 65-96"


@pytest.mark.usefixtures("_without_charts")
def test_a_table_of_documents(table, tmp_path):
    options = {"data": table, "text": "text", "epochs": 2, "policy": "infobatch"}
    run = run_of(tmp_path / "run", **options)
    data = read_texts(resolve(TrainOptions(data=table, text="text")))
    check_bits(run, data, 16, QUICK["model_args"])
    assert len(samples_of(run)) >= len(data.train)


DENSITY = {
    "score": "density", "density": "gaussian", "policy": "threshold", "low": 0.4, "full_tail": 0.0,
    "batch_size": 16, "epochs": 5, "learning_rate": 1e-4,
}  # fmt: skip
STEADY = {"width": 16, "heads": 2, "dropout": 0.0, "word_dropout": 0.0}


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize("task", ["text", pytest.param("language-model", marks=pytest.mark.slow)])
def test_samples_scored_by_density(table, book, tmp_path, task):
    data = {"data": table, "model_args": STEADY} if task == "text" else {"data": book}
    run = run_of(tmp_path / "run", **data, **DENSITY)
    scores = [float(row["score"]) for row in samples_of(run)]
    assert 0 <= min(scores) < 0.2
    assert 0.8 < max(scores) <= 1
    assert {row["perplexity"] for row in samples_of(run)} == {""}
    told = summary_of(run)
    assert told["saved_fraction"] > 0.05
    assert told["score"] == "Percentile()"
    assert (run / "density.safetensors").exists()
    assert main(["verify", str(run)]) == 0


@pytest.mark.usefixtures("_without_charts")
class TestParts:
    def test_of_a_table(self, table, tmp_path, capsys):
        run = run_of(tmp_path / "run", data=table, epochs=2, samples=100, validation=0.25)
        told = summary_of(run)
        assert told["evaluated_on"] == "validation"
        assert "Validation accuracy" in capsys.readouterr().out
        assert (told["samples_evaluated"], told["epochs"][0]["n"]) == (48, 100)
        cut = read_texts(resolve(TrainOptions(data=table, samples=100, validation=0.25)))
        assert [row["label"] for row in samples_of(run)] == [cut.classes[i] for i in cut.train.labels]

    def test_of_a_text(self, book, tmp_path):
        run = run_of(tmp_path / "run", data=book, epochs=2, samples=30, validation=0.2)
        told = summary_of(run)
        assert told["epochs"][0]["n"] == 30
        cut = read_texts(resolve(TrainOptions(data=book, validation=0.2)))
        check_bits(run, cut, 16, QUICK["model_args"])

    @pytest.mark.slow
    def test_windows_that_are_chosen_are_the_same_for_every_seed(self, book, tmp_path):
        names = []
        for seed in (0, 1):
            options = {"data": book, "epochs": 1, "samples": 20, "seed": seed}
            train(TrainOptions(**QUICK | options, out=str(tmp_path / f"{seed}")), Told())
            names.append(RunFiles(tmp_path / f"{seed}").data.files)
        assert names[0] == names[1]
        assert len(names[0]) == 20


OWN = """
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F

class Bag(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embedding = nn.Embedding(400, width)
        self.head = nn.Linear(width, 2)
    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))

class Next(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embedding = nn.Embedding(400, width)
        self.out = nn.Linear(width, 400)
    def forward(self, tokens):
        return self.out(self.embedding(tokens))

class Itself(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Bag()
    def training_step(self, batch, batch_idx):
        tokens, labels = batch
        losses = F.cross_entropy(self.network(tokens), labels, reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses}
    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)
"""


@pytest.mark.usefixtures("_without_charts")
class TestOwnModels:
    @pytest.fixture(autouse=True)
    def _importable(self, tmp_path, monkeypatch):
        (tmp_path / "own_texts.py").write_text(OWN)
        monkeypatch.syspath_prepend(str(tmp_path))

    @pytest.mark.parametrize("model", ["Bag", "Itself"])
    def test_for_classes(self, table, tmp_path, model):
        options = {"data": table, "model": f"own_texts:{model}", "model_args": {}, "epochs": 4}
        options |= {"learning_rate": 0.05} if model == "Bag" else {}
        run = run_of(tmp_path / "run", **options)
        assert summary_of(run)["accuracy"] > 0.7
        assert (run / "tokenizer.json").exists()

    def test_for_the_next_token(self, book, tmp_path):
        options = {"model": "own_texts:Next", "model_args": {"width": 4}, "epochs": 3, "learning_rate": 0.05}
        run = run_of(tmp_path / "run", data=book, token_low=0.5, **options)
        bits = [row["bits_per_character"] for row in summary_of(run)["epochs"]]
        assert bits[-1] < bits[0]

    def test_windows_are_not_for_a_module_that_trains_itself(self, book, tmp_path):
        options = QUICK | {"model": "own_texts:Itself", "model_args": {}, "data": book}
        with pytest.raises(
            InvalidValue,
            match=r"A LightningModule cannot train on fallow's windows\. Found own_texts:Itself\.",
        ):
            train(TrainOptions(**options, out=str(tmp_path / "run")), Told())
        assert not (tmp_path / "run").exists()


RESUMED = {
    "text": {"file": ".csv"},
    "text, soft labels": {"file": ".csv", "label": "label,second", "policy": "threshold", "low": 0.3},
    "text, density": {"file": ".csv", **DENSITY, "model_args": STEADY},
    "text, rows chosen": {"file": ".csv", "policy": "selective-backprop"},
    "tokens": {"file": ".txt", "token_low": 5.3, "token_high": 5.9, "max_tokens": 32, "learning_rate": 0.01},
    "tokens, weighted": {"file": ".txt", "policy": "infobatch", "tokenizer": "byte", "vocabulary": None},
    "tokens, density": {"file": ".txt", **DENSITY},
}  # fmt: skip


def resumed(setting, folder):
    options = {**QUICK, "epochs": 3, **RESUMED[setting]}
    if options.pop("file") == ".txt":
        options["model_args"] = {"width": 16, "heads": 2, "dropout": 0.2}
        return {"data": f"{folder}/book.txt", **options}
    return {"data": f"{folder}/texts.csv", **options}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("resumed")
    for name in ("texts.csv", "book.txt"):
        write(found / name, rows(150))
    return found


@cache
def never_stopped(setting, folder):
    out = folder / setting
    train(TrainOptions(**resumed(setting, folder), out=str(out)), Told())
    return left(out)


def check_stop(monkeypatch, run, folder, setting, batches):
    want = never_stopped(setting, folder)
    if not stopped_after(monkeypatch, batches, TrainOptions(**resumed(setting, folder), out=str(run))):
        return False
    said = go_on(run)
    assert any(line.startswith("Resuming in epoch") for line in said)
    files, numbers = left(run)
    assert numbers == want[1]
    assert files == want[0]
    return True


@pytest.mark.usefixtures("_without_charts")
class TestResumed:
    @pytest.mark.parametrize(("setting", "batches"), [("text", 6), ("tokens", 6)])
    def test_a_run_goes_on_exactly(self, monkeypatch, tmp_path, folder, setting, batches):
        assert check_stop(monkeypatch, tmp_path / "run", folder, setting, batches)
        if setting == "tokens":
            counts = [row["tokens_learned"] for row in never_stopped(setting, folder)[1]["epochs"]]
            assert counts[1] > 0, "what was counted before the stop counts"

    @pytest.mark.slow
    @pytest.mark.parametrize("setting", RESUMED)
    def test_a_run_goes_on_exactly_from_every_step(self, monkeypatch, tmp_path, folder, setting):
        batches, stride = 1, 4 if "density" in setting else 1
        while check_stop(monkeypatch, tmp_path / f"{batches}", folder, setting, batches):
            batches += stride
        assert batches > 4

    @pytest.fixture
    def stopped(self, monkeypatch, tmp_path, folder):
        options = TrainOptions(**resumed("text", folder), out=str(tmp_path / "run"))
        assert stopped_after(monkeypatch, 6, options)
        return tmp_path / "run"

    def test_a_tokenizer_that_is_not_as_it_was_is_refused(self, stopped, folder, capsys):
        path = stopped / "tokenizer.json"
        kept = path.read_bytes()
        other = Tokenizer.train("bpe", [text for text, *_ in rows(150, seed=5)], 290).dump()
        assert other != kept
        for content in (b"", b"{}", kept[:-100], kept + b" ", other, None):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            state = sorted((stopped / "state").iterdir())
            with pytest.raises(DamagedData, match=r"tokenizer\.json"):
                go_on(stopped)
            assert sorted((stopped / "state").iterdir()) == state
            assert (path.read_bytes() if path.exists() else None) == content
        assert main(["train", "--resume", str(stopped)]) == 3
        assert "Put back a copy of it" in capsys.readouterr().err
        path.write_bytes(kept)
        go_on(stopped)
        assert left(stopped) == never_stopped("text", folder)

    def test_other_texts_are_refused_or_cut_by_the_same_tokens(self, monkeypatch, tmp_path):
        table = rows(150)
        data = write(tmp_path / "texts.csv", table)
        options = TrainOptions(**QUICK, data=data, epochs=3, out=str(tmp_path / "run"))
        assert stopped_after(monkeypatch, 6, options)
        kept = (tmp_path / "run" / "tokenizer.json").read_bytes()
        first = read_texts(resolve(options)).train
        changed = next(i for i, row in enumerate(table) if row[0] == first.texts[3])
        table[changed] = ("quite another text with zebras", *table[changed][1:])
        write(tmp_path / "texts.csv", table)
        with pytest.raises(InvalidValue, match=r"Found a change: 1 text is new, 1 is gone; .*--accept data"):
            go_on(tmp_path / "run")
        monkeypatch.setattr(Tokenizer, "train", None)  # none is learned anew
        go_on(tmp_path / "run", accept="data")
        assert (tmp_path / "run" / "tokenizer.json").read_bytes() == kept
        assert main(["verify", str(tmp_path / "run")]) == 0

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"max_tokens": 20}, "--max_tokens must be what the run was started with: 16. Found 20."),
            ({"vocabulary": 300}, "--vocabulary must be what the run was started with: 290. Found 300."),
            ({"label": "second"}, "--label must be what the run was started with: not set. Found second."),
            ({"task": "language-model"}, "--task must be what the run was started with: text."),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_what_would_change_the_tokens_is_refused(self, table_run, changed, said):
        stored = stored_options(str(table_run))
        with pytest.raises(InvalidValue) as refused:
            resumed_options(stored, TrainOptions(**{**stored, "resume": str(table_run), **changed}))
        assert said in str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tokens_of_two_ranks_are_counted_on_exactly(folder, tmp_path):
    options = {**SMALL, "data": f"{folder}/book.txt", "epochs": 8, "batch_size": 4, "max_tokens": 16}
    options |= {"tokenizer": "byte", "token_low": 3.0, "learning_rate": 0.01, "policy": "full"}
    words = words_of(options | {"devices": 2, "strategy": "ddp"})
    whole, run = tmp_path / "whole", tmp_path / "run"
    ended = command(whole, *words)
    _, error = ended.communicate(timeout=300)
    assert ended.returncode == 0, error
    child = command(run, *words)
    deadline = time.monotonic() + 200
    while not RunDirectory(run).epoch_path(2).exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)  # into the next epoch
    child.send_signal(signal.SIGTERM)
    _, error = child.communicate(timeout=100)
    assert child.returncode == 143, error
    again = [sys.executable, "-m", "fallow", "train", "--resume", str(run)]
    done = subprocess.run(again, capture_output=True, text=True, timeout=300)
    assert " of its " in done.stdout, "it was stopped inside an epoch"
    assert left(run) == left(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "measure", "shown"),
    [("texts.csv", "accuracy", "accuracy"), ("book.txt", "bits_per_character", "bits a character")],
)
def test_a_comparison(folder, tmp_path, capsys, data, measure, shown):
    given = words_of({**QUICK, "data": f"{folder}/{data}", "epochs": 2, "seeds": 1, "jobs": 1})
    words = [*given, "--arms", "full,fewer-epochs,random,default", "--saved", "0.2"]
    assert main(["compare", *words, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["arm"] for row in found["arms"]} >= {"full", "random"}
    assert found["measure"] == measure
    told = capsys.readouterr()
    assert shown in told.out
    assert (" bits a character, " in told.out) == (measure == "bits_per_character"), "of each run"
    run = tmp_path / "out" / "runs" / "full-0"
    assert main(["verify", str(run)]) == 0
    assert summary_of(run)["saved_fraction"] == 0


WRONG = [
    ({"data": "{table}", "image_size": 3}, "--image_size goes with images. Found --image_size 3 with"),
    ({"data": "{table}", "add": "picks.csv"}, "--add goes with images. Found --add picks.csv with"),
    ({"data": "{book}", "label": "label"}, "A language model has no labels."),
    ({"data": "{table}", "label": "klass"}, "must have one column klass. Found text, label, second."),
    ({"data": "{table}", "text": "body", "label": "label"}, "texts.csv must have one column body."),
    ({"data": "{table}", "samples": 1000}, "--samples must be at most 192, the number of training samples."),
    ({"data": "{book}", "samples": 100000}, "--samples must be at most "),
    ({"data": "{table}", "vocabulary": 100}, "A vocabulary must have room for all bytes: 258. Found 100."),
    ({"data": "{table}", "model": "small-gpt"}, "Did you mean 'small-transformer'?"),
    ({"data": "{book}", "model": "small-transformer"}, "Did you mean 'small-gpt'?"),
    ({"data": "{book}", "model": "small-conv"}, "model for --task language-model. Found 'small-conv'."),
    ({"data": "{table}", "model": "resnet"}, "Unknown model for --task text. Found 'resnet'."),
    ({"data": "{table}", "model_args": {"width": 15, "heads": 2}}, "a multiple of the 2 heads. Found 15."),
    ({"data": "{table}", "model_args": {"wdth": 16}}, "wdth"),
    ({"data": "{book}", "model_args": {"wdth": 16}}, "wdth"),
    ({"data": "{table}", "max_tokens": 10**12}, "--max_tokens"),
    ({"data": "shakespeare"}, "Run `python -m benchmarks.data shakespeare --out FOLDER`"),
    ({"data": "{table}", "task": "image"}, "FILE.npz"),
    ({"data": "digits", "task": "text"}, "--task text needs texts. Found --data digits."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[" ".join(words_of(given)) for given, _ in WRONG])
def test_wrong_use(table, book, tmp_path, capsys, given, said):
    images = given.get("task") == "image" or given["data"] in ("digits", "shakespeare")
    data = given["data"].format(table=table, book=book)
    options = {"epochs": 1, "accelerator": "cpu", **given, "data": data}
    if not images and "max_tokens" not in given:
        options["max_tokens"] = 16
    assert main(["train", *words_of(options), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert " Found " in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_without_charts")
def test_what_was_read_is_told_before_training(table, book, tmp_path):
    told, tokenizers = [], []
    for name, given in (("texts", table), ("windows", book)):
        console, run = Told(), tmp_path / name
        train(TrainOptions(**QUICK | {"data": given, "epochs": 1, "out": str(run)}), console)
        told.append(console.said[0])
        tokenizers.append(Tokenizer.parse((run / "tokenizer.json").read_bytes(), ""))
    data, corpus = (read_texts(resolve(TrainOptions(data=given))) for given in (table, book))
    fewest, most = sorted(np.bincount(data.train.labels).tolist())
    assert told[0] == (
        f"192 texts of 2 classes ({fewest} to {most} each) and 48 held out; "
        f"a vocabulary of {len(tokenizers[0])} tokens"
    )
    parts = []
    for documents in (corpus.train, corpus.test):
        tokens = len(tokenizers[1].inner.encode(documents[0].text).ids)
        parts.append(f"{-(-tokens // 16):,} windows ({tokens:,} tokens)")
    vocabulary = f"a vocabulary of {len(tokenizers[1])} tokens"
    assert told[1] == f"{parts[0]} and {parts[1]} held out; {vocabulary}"


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize(("blank", "said"), [(0, None), (3, "3 of the texts are empty.")])
def test_empty_texts_are_counted(tmp_path, blank, said):
    (tmp_path / "train.csv").write_text("text,label\n" + "good day,a\nbad night,b\n" * 40 + "  ,a\n" * blank)
    (tmp_path / "test.csv").write_text("text,label\ngood,a\nbad,b\n")
    console = Told()
    options = {"data": str(tmp_path), "epochs": 1, "out": str(tmp_path / "run"), "batch_size": 40}
    train(TrainOptions(**QUICK | options), console)
    assert [line for line in console.said if line.endswith("empty.")] == ([said] if said else [])
