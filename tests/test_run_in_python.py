"""`fallow.train` and `fallow.load`: a run as a Python object."""

import csv
import inspect
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fallow
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.options.train_options import HELP, TrainOptions
from fallow.results import frames
from fallow.results.frames import chosen
from fallow.runs.directory import RunDirectory

COLUMNS = ["index", "file", "label", "predicted", "score", "reason", "times_used"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "run"
    return fallow.train("digits", epochs=4, out=str(folder), devices="1")


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A run on a folder of images."""
    from PIL import Image

    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (place / "pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(90 * label, 150 + 90 * label, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "pets" / name / f"{number}.png")
    return fallow.train(place / "pets", epochs=1, out=place / "run", devices="1")


def test_the_options_are_those_of_the_command_line():
    given = inspect.signature(fallow.train).parameters
    assert list(given) == [field.name for field in fields(TrainOptions)]
    assert given["data"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {each.kind for name, each in given.items() if name != "data"} == {inspect.Parameter.KEYWORD_ONLY}
    assert given["epochs"].annotation == "int | None"
    for name, text in HELP.items():
        assert f"{name}: {text}" in fallow.train.__doc__
    assert "OPTIONS" not in fallow.train.__doc__


def test_the_run_is_that_of_the_command_line(run, tmp_path):
    from fallow.cli.main import main

    words = ["train", "--data", "digits", "--epochs", "4", "--devices", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    for name in ("model.safetensors", "samples.csv", "history/epoch-00003.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run.path / name).read_bytes()
    assert run.finished
    assert run.options["epochs"] == 4
    assert run.summary == json.loads((run.path / "summary.json").read_text())


def test_samples_are_those_of_the_table(run, folder_run):
    for each in (run, folder_run):
        table = each.samples
        assert list(table.columns) == COLUMNS
        rows = list(csv.DictReader((each.path / "samples.csv").read_text().splitlines()))
        assert len(rows) == len(table)
        for row, (_, sample) in zip(rows, table.iterrows(), strict=True):
            assert row["index"] == str(sample["index"])
            assert row["label"] == sample["label"]
            assert row["reason"] == sample["reason"]
            assert row["predicted"] == sample["predicted"]
            assert row["file"] == (sample["file"] or "")
            assert int(row["times_used"]) == sample["times_used"]
            assert float(row["score"]) == pytest.approx(sample["score"], rel=1e-5)
    assert folder_run.samples["file"][0].startswith("cat/")


def test_epochs_are_those_of_the_summary(run):
    table, rows = run.epochs, run.summary["epochs"]
    assert len(table) == 4
    for name in table.columns:
        assert table[name].tolist() == pytest.approx([row[name] for row in rows]), name
    counts = table[["kept", "learned", "outliers", "not_drawn", "by_hand"]]
    assert (counts.sum(axis=1) == table["samples_full"]).all()


def test_frames_of_each_library_hold_the_same(run):
    known = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table}
    for kind, frame in known.items():
        opened = fallow.load(run.path, frames=kind)
        assert isinstance(opened.samples, frame)
        assert isinstance(opened.epochs, frame)
        samples = opened.samples if kind == "pandas" else opened.samples.to_pandas()
        pd.testing.assert_frame_equal(samples, run.samples, check_dtype=False)


def test_the_kind_of_frames_is_that_of_the_program(monkeypatch):
    present = {name: sys.modules[name] for name in ("pandas", "polars", "pyarrow")}
    for imported, expected in (
        ({"pandas", "polars", "pyarrow"}, "pandas"),
        ({"polars", "pyarrow"}, "polars"),
        ({"pyarrow"}, "pandas"),  # installed; pyarrow is imported by other packages too
    ):
        for name in present:
            monkeypatch.delitem(sys.modules, name, raising=False)
        for name in imported:
            monkeypatch.setitem(sys.modules, name, present[name])
        assert chosen(None) == expected
    monkeypatch.setattr(frames, "find_spec", lambda package: None)
    monkeypatch.delitem(sys.modules, "pyarrow")
    with pytest.raises(ModuleNotFoundError, match=r"fallow\[frames\]"):
        chosen(None)
    with pytest.raises(ModuleNotFoundError, match=r"needs polars.*fallow\[frames\]"):
        chosen("polars")
    with pytest.raises(InvalidValue, match="Unknown kind of frame"):
        chosen("numpy")


def test_the_chart_is_that_of_the_run(run):
    figure = run.plot.usage()
    shown = [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]
    assert any("1,437 samples, 4 epochs" in text for text in shown)
    with pytest.raises(InvalidValue, match="finished epoch"):
        fallow.load(_begun(run)).plot.usage()


def _begun(run):
    """Return a copy of a run as it was before its first epoch had ended."""
    import shutil

    begun = run.path.parent / "begun"
    shutil.copytree(run.path, begun, dirs_exist_ok=True)
    shutil.rmtree(begun / "history")
    shutil.rmtree(begun / "state")
    for name in ("summary.json", "SHA256SUMS", "samples.csv"):
        (begun / name).unlink(missing_ok=True)
    return begun


def test_a_notebook_shows_facts_and_chart_and_nothing_that_a_name_asks_for(run, tmp_path):
    import shutil

    name = tmp_path / "<script>alert(1)</script>"
    shutil.copytree(run.path, name)
    shown = fallow.load(name)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "data:image/png;base64," in shown
    assert f"{run.summary['accuracy']:.2%}" in shown
    assert "finished after 4 epochs" in repr(run)
    assert "<img" not in fallow.load(_begun(run))._repr_html_()


def test_the_report_and_one_sample(run, folder_run, tmp_path):
    path = run.report(tmp_path / "page.html")
    assert path.read_text().startswith("<!doctype html>")
    assert run.report() == run.path / "report.html"
    table = run.inspect(3)
    assert table["epoch"].tolist() == [0, 1, 2, 3]
    assert table["reason"].tolist()[-1] == run.samples["reason"][3]
    first = folder_run.samples["file"][0]
    assert len(folder_run.inspect(first)) == 1
    with pytest.raises(InvalidValue, match="A sample must be in"):
        run.inspect(100_000)


def test_suspects_are_those_of_the_command(run, capsys):
    from fallow.cli.main import main

    assert main(["suspects", str(run.path), "--count", "5", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["suspects"]
    table = run.suspects(5)
    assert list(table.columns) == ["index", "file", "given", "suggested", "confidence"]
    assert table.to_dict("records") == expected
    assert len(run.suspects()) >= len(table)


def test_a_run_is_resumed_by_its_folder_alone(run, tmp_path):
    import shutil

    longer = tmp_path / "longer"
    shutil.copytree(run.path, longer)
    more = fallow.train(resume=longer, epochs=5, accept="epochs", devices="1")
    assert len(more.epochs) == 5
    assert more.options["data"] == "digits"
    with RunDirectory.reopen(longer), pytest.raises(WrongState):
        fallow.train(resume=longer, epochs=6, accept="epochs", devices="1")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, InvalidValue, "--data must say"),
        ({"data": "digits", "epoch": 3}, InvalidValue, "Unknown option.*Did you mean 'epochs'"),
        ({"data": "digits", "epochs": "3"}, InvalidType, "whole number"),
        ({"data": 3}, InvalidType, "`data` must be"),
        ({"data": "digits", "out": "."}, InvalidValue, "must be new or empty"),
    ],
)
def test_wrong_options_are_named(options, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(kind, match=words):
        fallow.train(**options)
    assert sorted(os.listdir()) == ["file"]


def test_without_a_folder_a_new_one_in_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fallow.train("digits", epochs=1, samples=64, devices="1")
    assert run.path.parent == Path("runs")
    assert run.path.name.startswith("digits-error-mass-")
    with pytest.raises(InvalidValue, match="must exist"):
        fallow.load("runs/none")
    for call in (fallow.load, fallow.find_gaps, fallow.Run, fallow.load(run.path).report):
        with pytest.raises(InvalidType, match=r"must be .*path of .*\. Found 17"):
            call(17)
    with pytest.raises(InvalidType, match=r"`frames` must be a name\. Found 17"):
        fallow.load(run.path, frames=17)
    with pytest.raises(InvalidType, match=r"pass its values beside it: policy='error-mass', error=0\.15"):
        fallow.train("digits", policy=fallow.ErrorMass())


def test_opening_a_run_loads_no_torch(run):
    code = (
        "import sys, fallow; "
        f"run = fallow.load({str(run.path)!r}); run.samples; run.epochs; run._repr_html_(); "
        "assert not {'torch', 'lightning'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(("count", "error"), [("many", InvalidType), (2.5, InvalidType), (0, InvalidValue)])
def test_a_count_of_suspects_is_a_whole_number(run, count, error):
    with pytest.raises(error, match="count"):
        run.suspects(count)


def test_the_history_holds_each_sample_in_each_epoch(run):
    table = run.history
    assert len(table) == 4 * len(run.samples)
    assert set(table.columns) == {"epoch", "index", "score", "used", "reason"}
    for number in range(4):
        file = run.files.epoch(number)
        rows = table[table["epoch"] == number]
        assert np.array_equal(rows["score"].to_numpy(np.float32), file.scores, equal_nan=True)
        assert rows["used"].tolist() == file.record.used_mask.tolist()
    last = table[table["epoch"] == 3]
    assert last["reason"].tolist() == run.samples["reason"].tolist()
