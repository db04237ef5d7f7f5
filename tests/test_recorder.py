"""A run directory for a plain loop: what is written, that it resumes exactly, and what is refused."""

import csv
import gc
import json
import shutil
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import fallow
from fallow.cli.main import main
from fallow.errors import DamagedData, InvalidType, InvalidValue, WrongState
from fallow.runs.directory import RunDirectory
from fallow.runs.listing import list_runs
from ranks import in_ranks

N, EPOCHS, CLASSES = 240, 6, ("left", "right", "both")


def samples():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    images = torch.rand(N, 1, 6, 6, generator=generator)
    images[labels != 1, :, :, :3] += 0.5
    images[labels != 0, :, :, 3:] += 0.5
    return TensorDataset(images.clamp(0, 1), labels)


def train(out, *, stop=None, saves=False, closes=True, labels=None, **options):
    """Train with dropout and a schedule, an evaluation after each epoch; end after ``stop`` batches."""
    data = samples() if labels is None else TensorDataset(samples().tensors[0], labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
        sub = fallow.Subsampler(
            N,
            fallow.ErrorMass(0.3, high=None),
            fallow.Schedule(epochs=EPOCHS),
            labels=data.tensors[1],
            score=fallow.KLDivergence(),
        )
        if dist.is_initialized():
            network = DistributedDataParallel(network)
        state = {"network": network, "optimizer": optimizer, "schedule": schedule}
        recorder = fallow.Recorder(
            sub,
            out,
            classes=CLASSES,
            images=data,
            files=[f"{i}.png" for i in range(N)],
            state=state,
            **options,
        )
        loader, held_out = sub.loader(data, batch_size=32), DataLoader(data, batch_size=100)
        done = 0
        for _ in range(sub.epoch, EPOCHS):
            for index, (images, labels) in loader:
                logits = network(images)
                losses = fallow.kl_divergence(logits, labels)
                sub.record(index, losses, predicted=logits.argmax(1)).backward()
                optimizer.step()
                optimizer.zero_grad()
                done += 1
                if done == stop:
                    if saves:
                        recorder.save()
                    if closes:
                        recorder.close()
                    return recorder
            sub.step()
            network.eval()
            with torch.no_grad():
                right = sum(int((network(x).argmax(1) == y).sum()) for x, y in held_out)
            network.train()
            recorder.log(accuracy=right / N)
            schedule.step()
    return SimpleNamespace(network=network, subsampler=sub, recorder=recorder, path=recorder.run.path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("recorded") / "run")


def same(first, second):
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(first.subsampler.scores, second.subsampler.scores)
    assert torch.equal(first.subsampler.reason, second.subsampler.reason)
    for one, other in zip(first.subsampler.history, second.subsampler.history, strict=True):
        assert np.array_equal(one.used_bits, other.used_bits)
    for name in ("samples.csv", "history/epoch-00005.safetensors"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    kept = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in rows(run)] for run in (first, second)
    ]
    assert kept[0] == kept[1]


def rows(run):
    return json.loads((run.path / "summary.json").read_text())["epochs"]


# A session that only ends an epoch makes no optimizer step before that of the schedule.
@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("stop", [1, 8, 9, 20, 31])
@pytest.mark.parametrize("saves", [False, True])
def test_a_resumed_training_is_the_one_that_was_never_stopped(whole, tmp_path, stop, saves):
    train(tmp_path / "run", stop=stop, saves=saves, resume=True)
    # Other draws of the new process must not matter.
    torch.rand(7)
    same(whole, train(tmp_path / "run", resume=True))


def test_what_is_written_is_what_the_subsampler_says(whole):
    run, sub = fallow.load(whole.path), whole.subsampler
    assert run.finished
    table = list(csv.DictReader((whole.path / "samples.csv").read_text().splitlines()))
    assert [row["label"] for row in table] == [CLASSES[label] for label in sub.labels.tolist()]
    assert [row["predicted"] for row in table] == [CLASSES[label] for label in sub.predicted.tolist()]
    assert [row["file"] for row in table] == [f"{i}.png" for i in range(N)]
    np.testing.assert_allclose([float(row["score"]) for row in table], sub.scores, rtol=1e-5, atol=1e-9)
    assert run.epochs["kept"].tolist() == [record.kept for record in sub.history]
    assert run.epochs["accuracy"].notna().all()
    used = sum(record.backward for record in sub.history)
    assert run.summary["samples_backward"] == used < N * EPOCHS
    assert run.summary["accuracy"] == run.epochs["accuracy"].iloc[-1]
    for name in ("usage.png", "usage.svg", "report.html"):
        assert (whole.path / name).stat().st_size > 1000
    assert "data:image/png" in (whole.path / "report.html").read_text()  # pictures of samples


def test_the_reading_commands_read_it(whole, capsys):
    for words in (["verify"], ["report"], ["export", "--format", "csv"]):
        assert main([words[0], str(whole.path), *words[1:]]) == 0
    assert main(["inspect", str(whole.path), "7.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("{\n")[2].join(("{", "")))["sample"] == 7


def test_wrong_labels_are_found(tmp_path):
    data = samples()
    wrong = torch.arange(0, N, 24)
    given = data.tensors[1].clone()
    given[wrong] = (given[wrong] + 1) % 3
    run = train(tmp_path / "run", labels=given).recorder.run
    found = run.suspects(len(wrong))
    assert len(set(found["index"]) & set(wrong.tolist())) >= 8
    shown = run.files.shown.index.tolist()
    assert set(found["index"]) <= set(shown)  # the report has their pictures
    row = found.iloc[0]
    assert row["given"] == CLASSES[given[row["index"]]]
    assert row["suggested"] == CLASSES[data.tensors[1][row["index"]]]


def test_the_commands_that_need_more_say_so(whole, capsys):
    assert main(["train", "--resume", str(whole.path)]) == 2
    assert "fallow.Recorder(..., resume=True)" in capsys.readouterr().err
    assert main(["gaps", str(whole.path)]) == 2
    assert "fallow.gaps.Surveyor" in capsys.readouterr().err
    assert main(["train", "--data", "digits", "--out", str(whole.path)]) == 2
    assert "new or empty" in capsys.readouterr().err


def make(out, sub=None, **options):
    sub = sub or fallow.Subsampler(4, fallow.Threshold(0.1), fallow.Schedule(epochs=2), labels=[0, 1, 1, 0])
    return fallow.Recorder(sub, out, **options)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"classes": ["a"]}, InvalidValue, "`classes` must name every class. Found 1 names, class 1"),
        (
            {"images": torch.zeros(3, 8, 8)},
            InvalidValue,
            "`images` must hold one value per sample, 4. Found 3",
        ),
        ({"images": torch.zeros(4, 9)}, InvalidValue, "`images` must hold images.*Found shape \\(9,\\)"),
        ({"images": 3}, InvalidType, "`images` must hold one value per sample"),
        ({"files": ["a"]}, InvalidValue, "`files` must hold one value per sample"),
        ({"texts": ["a"] * 5}, InvalidValue, "`texts` must hold one value per sample"),
        ({"state": {"lr": 0.1}}, InvalidType, r"`state\['lr'\]` must have state_dict"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, options, kind, words):
    with pytest.raises(kind, match=words):
        make(tmp_path / "run", **options)
    make(tmp_path / "run").close()  # nothing is in the way


def test_classes_need_labels(tmp_path):
    sub = fallow.Subsampler(4, fallow.Threshold(0.1), fallow.Schedule(epochs=2))
    with pytest.raises(InvalidValue, match="`classes` needs the labels"):
        make(tmp_path / "run", sub, classes=["a", "b"])


def test_a_run_is_never_overwritten(whole, tmp_path):
    before = {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()}
    with pytest.raises(InvalidValue, match=r"Recorder\(\.\.\., resume=True\)"):
        train(whole.path)
    with pytest.raises(InvalidValue, match="objects of a resumed run"):
        make(whole.path, resume=True)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="other files"):
        make(tmp_path / "other", resume=True)


def test_a_run_of_fallow_train_is_no_run_of_a_recorder(tmp_path):
    run = fallow.train("digits", epochs=1, samples=64, out=tmp_path / "run", devices="1")
    with pytest.raises(DamagedData, match="a loop that a Recorder follows"):
        make(run.path, resume=True)


OTHER = """
import sys, fallow
fallow.Recorder(fallow.Subsampler(4, fallow.Watch(), fallow.Schedule(2)), sys.argv[1], resume=True)
"""


def test_one_writer_at_a_time(tmp_path):
    def another():
        call = [sys.executable, "-W", "ignore", "-c", OTHER, str(tmp_path / "run")]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    first = make(tmp_path / "run", resume=True)
    assert "fallow.WrongState" in another().stderr
    first.close()
    assert another().returncode == 0
    with make(tmp_path / "run", resume=True):
        assert "fallow.WrongState" in another().stderr


def test_a_cell_that_is_run_again_goes_on(whole, tmp_path):
    first = train(tmp_path / "run", stop=20, resume=True, closes=False)
    same(whole, train(tmp_path / "run", resume=True))
    with pytest.raises(WrongState, match="A newer Recorder goes on"):
        first.save()


def test_a_recorder_that_was_replaced_writes_no_more(tmp_path):
    first = make(tmp_path / "run", resume=True)
    first.save()
    with pytest.raises(InvalidValue, match="objects of a resumed run"):
        make(tmp_path / "run", resume=True, state={"network": nn.Linear(1, 1)})
    first.save()  # the one that failed has changed nothing
    second = make(tmp_path / "run", resume=True)
    for call in (first.save, first.epoch_begins, first.epoch_ended, partial(first.log, accuracy=0.5)):
        with pytest.raises(WrongState, match="A newer Recorder goes on"):
            call()
    second.save()


def test_it_is_listed_with_its_policy(whole):
    (listed,) = list_runs(whole.path)
    assert (listed.policy, listed.state, listed.epochs_done) == ("ErrorMass", "finished", EPOCHS)


def test_a_recorder_that_is_left_behind_lets_go(tmp_path):
    make(tmp_path / "run")
    gc.collect()
    make(tmp_path / "run").close()


def test_a_finished_run_is_opened_again_without_its_lock(whole, tmp_path):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    again = train(folder, resume=True)
    assert again.subsampler.epoch == EPOCHS
    before = rows(again)[-1]["accuracy"]
    again.recorder.log(accuracy=0.25)
    assert rows(again)[-1]["accuracy"] == 0.25 != before
    RunDirectory.reopen(folder).release()


def test_arguments_of_another_type_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidType, match=r"must be the fallow\.Subsampler of the training\. Found str"):
        fallow.Recorder("mine", "run")
    with pytest.raises(InvalidType, match=r"A run must be named by the path of its folder\. Found 17"):
        make(17)
    with pytest.raises(InvalidType, match=r"`state` must hold objects by name, such as .* Found list"):
        make("run", state=[nn.Linear(1, 1)])
    for classes in (3, "ab"):
        with pytest.raises(
            InvalidType, match=r"`classes` must be the names of the classes, in order\. Found"
        ):
            make("run", classes=classes)
    assert not list(tmp_path.iterdir())


def test_other_settings_are_refused(tmp_path):
    train(tmp_path / "run", stop=9)
    sub = fallow.Subsampler(
        N, fallow.Threshold(0.1), fallow.Schedule(epochs=EPOCHS), labels=samples().tensors[1]
    )
    network = nn.Linear(1, 1)
    state = {"network": network, "optimizer": network, "schedule": network}
    with pytest.raises(InvalidValue, match="policy"):
        make(tmp_path / "run", sub, state=state, resume=True)


def test_more_epochs_are_accepted(whole, tmp_path):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    sub = fallow.Subsampler(
        N,
        fallow.ErrorMass(0.3, high=None),
        fallow.Schedule(epochs=EPOCHS + 2),
        labels=samples().tensors[1],
        score=fallow.KLDivergence(),
    )
    with pytest.raises(InvalidValue, match="objects of a resumed run"):
        make(folder, sub, resume=True, accept=("schedule",))
    with pytest.raises(InvalidValue, match=r"Unknown setting in `accept`\. Found 'n'"):
        make(folder, sub, accept=("n",))
    with pytest.raises(InvalidType, match=r"`accept` must be names of settings\. Found 'schedule'"):
        make(folder, sub, accept="schedule")
    with pytest.raises(InvalidType, match=r"`resume` must be True or False\. Found 'no'"):
        make(folder, sub, resume="no")


def test_a_training_with_more_epochs_goes_on(whole, tmp_path, monkeypatch):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    monkeypatch.setattr(sys.modules[__name__], "EPOCHS", EPOCHS + 2)
    with pytest.raises(InvalidValue, match=r"accept=\('schedule',\)"):
        train(folder, resume=True)
    longer = train(folder, resume=True, accept=("schedule",))
    assert len(rows(longer)) == EPOCHS == 8
    assert rows(longer)[:6] == rows(whole)


def test_what_was_logged_is_read_before_the_end(tmp_path):
    recorder = train(tmp_path / "run", stop=20)
    epochs = recorder.run.epochs
    assert len(epochs["epoch"]) == recorder.subsampler.epoch == 2
    assert all(0 < value <= 1 for value in epochs["accuracy"])


def test_an_accuracy_in_percent_is_refused(whole):
    with pytest.raises(InvalidValue, match="Divide a percentage"):
        whole.recorder.log(accuracy=97.0)
    with pytest.raises(InvalidType, match="`accuracy` must be a number"):
        whole.recorder.log(accuracy="good")
    with pytest.raises(InvalidType, match="`accuracy` must be a number"):
        whole.recorder.log(accuracy=True)


def test_texts_and_odd_images_are_shown(tmp_path):
    for name, shown in (
        ("texts", {"texts": ["<b>a</b>", "b", "c", "d"]}),
        ("grey", {"images": np.zeros((4, 9, 9), np.uint8)}),
        ("colours", {"images": np.zeros((4, 9, 9, 3), np.uint8)}),
        ("sizes", {"images": [np.zeros((5 + i, 7, 3), np.uint8) for i in range(4)]}),
    ):
        sub = fallow.Subsampler(4, fallow.Threshold(0.1), fallow.Schedule(epochs=2), labels=[0, 1, 1, 0])
        make(tmp_path / name, sub, **shown)
        for _ in range(2):
            for index, _ in sub.loader([0, 1, 2, 3], 2):
                sub.record(index, torch.ones(2))
            sub.step()
        page = (tmp_path / name / "report.html").read_text()
        assert ("&lt;b&gt;a&lt;/b&gt;" in page) if name == "texts" else ("data:image/png" in page)


def _train_in_ranks(rank, size, folder, stop):
    warnings.simplefilter("error")
    train(folder, stop=stop, saves=True, resume=True)


def test_ranks_record_one_run_and_resume_it(tmp_path):
    in_ranks(_train_in_ranks, 2, str(tmp_path / "whole"), None)
    in_ranks(_train_in_ranks, 2, str(tmp_path / "halved"), 5)
    in_ranks(_train_in_ranks, 2, str(tmp_path / "halved"), None)
    whole, halved = (fallow.load(tmp_path / name) for name in ("whole", "halved"))
    assert whole.finished
    assert halved.finished
    for name in ("samples.csv", "history/epoch-00005.safetensors"):
        assert (whole.path / name).read_bytes() == (halved.path / name).read_bytes()
    assert whole.epochs["kept"].tolist() == halved.epochs["kept"].tolist()
