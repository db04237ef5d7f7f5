"""``inspect``, ``export`` and ``verify``: what they tell, in words and JSON, without torch."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from fallow.arrays.bitset import unpack
from fallow.cli.main import main
from fallow.errors import DamagedData
from fallow.runs.epoch_file import EpochFile
from fallow.runs.run_files import RunFiles
from fallow.runs.verify import verify
from test_checkpoints import mutated

QUICK = ["train", "--data", "digits", "--samples", "300", "--epochs", "4", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("read") / "run"
    words = ["--policy", "threshold", "--low", "0.3", "--high", "2.5", "--readmit-every", "2"]
    assert main([*QUICK, *words, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def told(capsys, *words):
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_sound_run_is_sound(run, capsys):
    code, found = told(capsys, "verify", str(run))
    assert code == 0
    assert found["sound"]
    assert found["status"] == "finished after 4 epochs"
    assert found["checked"] >= 14
    assert main(["verify", str(run)]) == 0
    assert "all as they were written" in capsys.readouterr().out


FILES = ["model.safetensors", "samples.csv", "config.yaml", "history/epoch-00002.safetensors", "usage.png",
         "data.safetensors", "summary.json"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(copied, capsys, name):
    path = copied / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    code, found = told(capsys, "verify", str(copied))
    assert code == 3
    assert name in [problem["file"] for problem in found["damaged"]]
    path.unlink()
    code, found = told(capsys, "verify", str(copied))
    assert code == 3
    assert name in [problem["file"] for problem in found["damaged"]]


def check_mutation(folder, data):
    """Change a file of a run in any way; it must be told, and nothing may crash."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from([name for name in names if name != "lock"]))
    path = folder / name
    before = path.read_bytes()
    after = data.draw(mutated(before))
    path.write_bytes(after)
    try:
        found = verify(RunFiles(folder))
        assert bool(found.damaged) == (after != before), name
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def changing(run, tmp_path_factory):
    return shutil.copytree(run, tmp_path_factory.mktemp("changing") / "run")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_change_of_any_file_is_told(changing, data):
    check_mutation(changing, data)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=5000, deadline=None)
@given(st.data())
def test_five_thousand_changes_of_any_file_are_told(changing, data):
    check_mutation(changing, data)


def test_every_state_is_checked_and_the_next_step_told(copied, capsys):
    newest = RunFiles(copied).search.found.number
    path = copied / "state" / f"{newest:06d}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(copied)]) == 3
    printed = capsys.readouterr().out
    assert f"The newest sound state is {newest - 1}" in printed
    assert "--resume" in printed


def test_files_of_a_killed_process_are_told(copied, capsys):
    (copied / ".x.1.tmp").touch()
    (copied / "history" / ".y.1.tmp").touch()
    code, found = told(capsys, "verify", str(copied))
    assert code == 0
    assert any("Half-written" in remark for remark in found["remarks"])


def test_a_list_of_checksums_that_is_none_is_named(copied, capsys):
    sums = copied / "SHA256SUMS"
    whole = sums.read_text()
    first = whole.index("\n") + 1
    for text in (
        "no checksum\n",
        whole[:-1],
        whole[first:],
        whole[:first],
        whole + "\n",
        whole.replace("\n", "\r\n"),
    ):
        sums.write_bytes(text.encode())
        code, found = told(capsys, "verify", str(copied))
        assert code == 3, text
        assert "SHA256SUMS" in [problem["file"] for problem in found["damaged"]], text


def test_one_samples_life(run, capsys):
    reading = RunFiles(run)
    for sample in (0, 17, 299):
        code, found = told(capsys, "inspect", str(run), str(sample))
        assert code == 0
        assert found["sample"] == sample
        assert found["times_used"] == sum(epoch["used"] for epoch in found["epochs"])
        for epoch in found["epochs"]:
            file = reading.epoch(epoch["epoch"])
            assert epoch["used"] == unpack(file.record.used_bits, 300)[sample]
            assert epoch["score"] == pytest.approx(file.scores[sample])
    with (run / "samples.csv").open() as table:
        row = list(csv.DictReader(table))[17]
    code, found = told(capsys, "inspect", str(run), "17")
    assert (row["label"], row["times_used"]) == (found["label"], str(found["times_used"]))
    assert main(["inspect", str(run), "17"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Sample 17\n")
    assert len(printed.splitlines()) == 11


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_tables_hold_what_the_files_hold(run, tmp_path, capsys, kind):
    code, found = told(capsys, "export", str(run), "--format", kind, "--out", str(tmp_path))
    assert code == 0
    assert [file["path"] for file in found["files"]] == [
        str(tmp_path / f"{name}.{kind}") for name in ("history", "samples")
    ]
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "json": pd.read_json}[kind]
    history, samples = (read(file["path"]) for file in found["files"])
    reading = RunFiles(run)
    assert list(history.columns) == ["epoch", "sample", "score", "used", "reason"]
    for epoch in reading.epochs:
        rows, file = history[history.epoch == epoch], reading.epoch(epoch)
        assert rows["sample"].tolist() == list(range(300))
        assert np.allclose(rows["score"].to_numpy(np.float64), file.scores, equal_nan=True, rtol=1e-6)
        assert rows["used"].tolist() == unpack(file.record.used_bits, 300).tolist()
        assert (rows["reason"] == "kept").sum() == file.record.kept
    with (run / "samples.csv").open() as table:
        rows = list(csv.DictReader(table))
    for name in ("label", "times_used", "reason"):
        assert samples[name].astype(str).tolist() == [row[name] for row in rows]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_parquet_is_read_by_duckdb_and_polars(run, tmp_path):
    assert main(["export", str(run), "--out", str(tmp_path)]) == 0
    path = str(tmp_path / "history.parquet")
    reading = RunFiles(run)
    backward = [file.record.backward for file in reading.files()]
    counted = duckdb.sql(f"select count(*) from '{path}' where used group by epoch order by epoch").fetchall()
    assert [row[0] for row in counted] == backward
    frame = pl.read_parquet(path)
    assert frame.group_by("epoch").agg(pl.col("used").sum()).sort("epoch")["used"].to_list() == backward
    assert frame["reason"].cast(pl.String).value_counts().sum()["count"][0] == 1200


def test_wrong_use_is_told(run, tmp_path, capsys):
    for words, said in [
        (["inspect", str(run), "300"], "A sample must be in [0, 300)"),
        (["inspect", str(run), "-1"], "A sample must be in [0, 300)"),
        (["export", str(run), "--format", "xls"], "Unknown format. Found 'xls'. Known: csv, json, parquet."),
        (["verify", str(tmp_path / "nowhere")], "A run directory must exist."),
        (["verify", str(tmp_path)], "A run directory must hold a run."),
        (["inspect", str(tmp_path), "1"], "A run directory must hold a run."),
    ]:
        assert main(words) == 2
        assert said in capsys.readouterr().err


def test_nothing_of_a_run_or_of_somebody_else_is_replaced(copied, tmp_path, capsys):
    other = shutil.copytree(copied, tmp_path / "other")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = ["config.yaml", "model.safetensors", "state/000004.json", "history/new.html", "notes.html"]
    words = [["report", str(copied), "--out", str(run / name)] for run in (copied, other) for name in places]
    folders = [copied, copied / "history", copied / "state", other, other / "history"]
    words += [["export", str(copied), "--format", "csv", "--out", str(folder)] for folder in folders]
    for line in words:
        assert main(line) == 2
        assert "among the files of" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    for kind in ("csv", "json", "parquet"):
        theirs = tmp_path / "mine" / f"samples.{kind}"
        theirs.write_text("name,grade")
        assert main(["export", str(copied), "--format", kind, "--out", str(tmp_path / "mine")]) == 2
        assert "replaces only an earlier export" in capsys.readouterr().err
        assert theirs.read_text() == "name,grade"
        for _ in range(2):
            assert main(["export", str(copied), "--format", kind, "--out", str(tmp_path / "tables")]) == 0
    assert main(["report", str(copied), "--out", str(copied / "report-2.html")]) == 0
    assert all(path.read_bytes() == data for path, data in before.items())


def test_a_folder_with_a_name_of_commands_is_quoted(copied, capsys):
    odd = copied.rename(copied.parent / "q;touch OWNED $(x)")
    (odd / "model.safetensors").write_bytes(b"")
    assert main(["verify", str(odd)]) == 3
    assert f"fallow train --resume {shlex.quote(str(odd))} resumes it" in capsys.readouterr().out


def test_a_broken_list_of_checksums_is_the_one_that_is_blamed(copied):
    (copied / "SHA256SUMS").unlink()
    (copied / "SHA256SUMS").mkdir()
    assert verify(RunFiles(str(copied))).damaged.keys() == {"SHA256SUMS"}


def test_a_format_that_is_no_text():
    for found in ([1], 7, None, {"a": 1}):
        data = save({"x": np.zeros(1)}, {"fallow": json.dumps({"format": found})})
        with pytest.raises(DamagedData, match=r"must be of the format .*Found "):
            EpochFile.parse(data, "epoch-00001.safetensors", 1)


def test_a_damaged_epoch_is_named_by_every_command(copied, capsys):
    path = copied / "history" / "epoch-00001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    for words in (["inspect", str(copied), "3"], ["export", str(copied)]):
        assert main(words) == 3
        assert "epoch-00001.safetensors" in capsys.readouterr().err
    assert not list((copied / "export").glob("*"))


def test_reading_loads_no_torch(run):
    code = "import sys; from fallow.cli.main import main\n"
    code += "for words in (['verify', RUN], ['inspect', RUN, '3'], ['export', RUN, '--format', 'csv']):\n"
    code += "    assert main(words) == 0\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    code = code.replace("RUN", repr(str(run)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["False"]
    shutil.rmtree(run / "export")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data.safetensors", ["report", "inspect", "export"]),
        ("summary.json", ["report"]),
        ("history/shown.safetensors", ["report"]),
        ("history/epoch-00001.safetensors", ["report", "inspect", "export"]),
    ],
)
def test_no_command_believes_a_file_that_was_changed(copied, capsys, name, words):
    data = bytearray((copied / name).read_bytes())
    data[-2] ^= 1
    (copied / name).write_bytes(data)
    for word in words:
        assert main([word, str(copied), *(["17"] if word == "inspect" else [])]) == 3
        assert name in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["state", "state/*.json", "state/*4.json"])
def test_a_finished_run_without_its_state_is_not_sound(copied, capsys, gone):
    for path in [*copied.glob(gone)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, found = told(capsys, "verify", str(copied))
    assert code == 3
    assert "state" in [problem["file"] for problem in found["damaged"]]
    assert not found["complete"]


def test_a_changed_list_of_checksums_is_blamed_itself(copied, capsys):
    sums = (copied / "SHA256SUMS").read_text().splitlines()
    place = next(i for i, line in enumerate(sums) if "epoch-00000" in line)
    digit = "1" if sums[place][20] == "0" else "0"
    sums[place] = sums[place][:20] + digit + sums[place][21:]
    (copied / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    code, found = told(capsys, "verify", str(copied))
    assert code == 3
    assert [problem["file"] for problem in found["damaged"]] == ["SHA256SUMS"]


def test_a_file_that_is_not_of_the_run_is_no_damage(copied, capsys):
    (copied / "notes.txt").write_text("mine")
    assert main(["export", str(copied), "--format", "csv", "--out", str(copied)]) == 2
    assert "Tables must not be among the files of the run itself." in capsys.readouterr().err
    code, found = told(capsys, "verify", str(copied))
    assert code == 0
    assert "Not of the run, and not checked: notes.txt." in found["remarks"]


def test_a_damaged_manifest_is_named_and_its_state_is_not(copied, capsys):
    path = sorted((copied / "state").glob("*.json"))[-1]
    path.write_bytes(path.read_bytes().replace(b'"epoch": 4', b'"epoch": 3'))
    code, found = told(capsys, "verify", str(copied))
    assert code == 3
    assert [problem["file"] for problem in found["damaged"]] == [f"state/{path.name}"]


def test_a_reader_that_has_enough_is_no_error(run):
    words = [sys.executable, "-m", "fallow", "inspect", str(run), "17"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 0


def test_names_that_are_not_text_are_spelled(tmp_path, capsys):
    for label in (b"caf\xe9", b"\x1b[31mred"):
        folder = tmp_path.joinpath("images", os.fsdecode(label))
        folder.mkdir(parents=True)
        for place in range(30):
            pixels = np.random.default_rng(place).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"{place}.png")
    run = tmp_path / "run"
    words = ["--data", str(tmp_path / "images"), "--epochs", "2", "--accelerator", "cpu", "--out", str(run)]
    assert main(["train", *words]) == 0
    assert "caf\\udce9" in (run / "samples.csv").read_text()
    for kind in ("parquet", "csv", "json"):
        assert main(["export", str(run), "--format", kind]) == 0
    capsys.readouterr()
    for sample in range(40):
        assert main(["inspect", str(run), str(sample)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "caf\\udce9" in printed
    assert main(["report", str(run)]) == 0
    assert main(["verify", str(run)]) == 0
