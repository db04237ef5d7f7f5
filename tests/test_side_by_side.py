"""``fallow compare RUN RUN ...``: runs that are there already, side by side."""

import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fallow.cli.main import main
from fallow.comparison.side_by_side import side_by_side
from fallow.errors import DamagedData, InvalidValue
from fallow.policies.base import Reason
from fallow.runs.data_file import DataFile
from fallow.runs.run_files import RunFiles

RUNS = Path(__file__).parent / "runs"
QUICK = ["train", "--data", "digits", "--samples", "300", "--accelerator", "cpu"]
MADE = {
    "a": ["--policy", "random", "--fraction", "0.5", "--epochs", "4"],
    "b": ["--policy", "random", "--fraction", "0.5", "--epochs", "4", "--seed", "1"],
    "c": ["--policy", "threshold", "--low", "0.3", "--high", "2", "--epochs", "5"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two random runs of other seeds, and one by thresholds that is longer."""
    out = tmp_path_factory.mktemp("made")
    for name, words in MADE.items():
        assert main([*QUICK, *words, "--quiet", "--out", str(out / name)]) == 0
    return out


def paths(made, names="abc"):
    return [str(made / name) for name in names]


def told(capsys, *words):
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def jaccard(one, other):
    both, either = len(one & other), len(one | other)
    return both, either, both / either if either else None


def test_what_each_reached_is_that_of_its_summary(made):
    found = side_by_side(paths(made))
    assert [run.name for run in found.runs] == ["a", "b", "c"]
    for run in found.runs:
        said = json.loads((made / run.name / "summary.json").read_text())
        for name in ("accuracy", "test_loss", "samples_backward", "samples_forward_only", "seconds"):
            assert getattr(run, name) == said[name]
        assert run.saved_fraction == said["saved_fraction"]
        assert run.epochs_done == run.epochs == len(said["epochs"])
    assert found.remarks == []


def test_only_settings_that_differ(made):
    settings = side_by_side(paths(made)).settings
    assert settings["seed"] == [0, 1, 0]
    assert settings["policy"] == ["random", "random", "threshold"]
    assert settings["policy fraction"] == [0.5, 0.5, None]
    assert "batch_size" not in settings
    assert not any(name in settings for name in ("quiet", "out", "by_default"))
    assert set(side_by_side(paths(made, "ab")).settings) == {"seed"}


def test_an_option_that_no_summary_holds_is_told(made, tmp_path):
    clipped = ["--trainer", '{"gradient_clip_val": 1}']
    assert main([*QUICK, *MADE["a"], *clipped, "--quiet", "--out", str(tmp_path / "clipped")]) == 0
    found = side_by_side([made / "a", tmp_path / "clipped"])
    assert found.settings == {"trainer gradient_clip_val": [None, 1]}


def test_the_overlap_is_that_of_sets_of_samples(made):
    """Against Python's sets of the samples that each epoch did not train on."""
    out = {}
    for name in MADE:
        files = list(RunFiles(made / name).files())
        out[name] = [set(np.flatnonzero(~file.record.used_mask).tolist()) for file in files]
    assert any(out["c"])
    pairs = side_by_side(paths(made)).pairs
    assert [(pair.first, pair.second) for pair in pairs] == list(combinations("abc", 2))
    for pair in pairs:
        one, other = out[pair.first], out[pair.second]
        assert pair.epochs == 4
        assert (pair.last.both, pair.last.either, pair.last.share) == jaccard(one[-1], other[-1])
        epochs = [{(e, s) for e in range(4) for s in sets[e]} for sets in (one, other)]
        assert (pair.all.both, pair.all.either, pair.all.share) == jaccard(*epochs)


def test_random_runs_overlap_as_by_chance(made):
    (pair,) = side_by_side(paths(made, "ab")).pairs
    size = [len(np.flatnonzero(~RunFiles(made / name).history[-1].used_mask)) for name in "ab"]
    both = size[0] * size[1] / 300
    assert pair.last.by_chance == pytest.approx(both / (sum(size) - both))
    assert pair.all.share == pytest.approx(pair.all.by_chance, abs=0.08)


def test_a_run_and_its_copy_leave_out_the_same(made, tmp_path):
    copy = shutil.copytree(made / "c", tmp_path / "copy")
    found = side_by_side([made / "c", copy])
    assert found.settings == {}
    (pair,) = found.pairs
    assert (pair.last.share, pair.all.share) == (1.0 if pair.last.either else None, 1.0)
    outliers = int((RunFiles(copy).last.reason == Reason.OUTLIER).sum())
    assert pair.outliers.both == pair.outliers.either == outliers


def test_other_samples_have_no_overlap(made, capsys):
    code, found = told(capsys, "compare", str(made / "a"), str(RUNS / "stopped"))
    assert code == 0
    (pair,) = found["pairs"]
    assert pair["last"] is pair["all"] is pair["outliers"] is None
    assert pair["reason"] == "a and stopped have other samples (300 and 56)."
    assert found["settings"]["policy"] == ["random", "soft"]
    assert any("stopped has done 1 of 4 epochs" in remark for remark in found["remarks"])
    assert any("What was left out is not compared: a and stopped" in remark for remark in found["remarks"])


def described(run, change):
    """Change the description of the samples of a run, with all that checks it."""
    data = RunFiles(run).data
    (run / "data.safetensors").write_bytes(DataFile(**{**vars(data), **change(data)}).dump())
    (run / "SHA256SUMS").unlink()
    for path in (run / "state").glob("*.json"):
        path.unlink()


def test_samples_in_another_order_and_other_labels_are_told(made, tmp_path):
    turned = shutil.copytree(made / "b", tmp_path / "turned")
    described(turned, lambda data: {"content": data.content[::-1].copy()})
    assert side_by_side([made / "a", turned]).pairs[0].reason.endswith("the same samples in another order.")
    unknown = shutil.copytree(made / "b", tmp_path / "unknown")
    described(unknown, lambda data: {"content": None})
    assert "checksums" in side_by_side([made / "a", unknown]).pairs[0].reason
    relabelled = shutil.copytree(made / "b", tmp_path / "relabelled")
    described(relabelled, lambda data: {"labels": (data.labels + (np.arange(300) < 7)).astype(np.int32) % 10})
    found = side_by_side([made / "a", relabelled])
    assert found.pairs[0].last is not None
    assert "a and relabelled have the same samples, but other labels for 7 of them." in found.remarks


def test_names_are_the_ends_that_differ(made, tmp_path):
    for folder in ("x", "y"):
        shutil.copytree(made / "a", tmp_path / folder / "run")
    found = side_by_side([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert [run.name for run in found.runs] == ["x/run", "y/run"]


def test_what_is_shown(made, capsys):
    capsys.readouterr()
    assert main(["compare", *paths(made)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["a", "b", "c"]
    rows = {line.split("  ")[0]: line.split()[-3:] for line in lines}
    assert rows["seed"] == ["0", "1", "0"]
    assert rows["epochs done"] == ["4/4", "4/4", "5/5"]
    said = json.loads((made / "b" / "summary.json").read_text())
    assert rows["accuracy"][1] == f"{said['accuracy']:.2%}"
    assert rows["trained on"][1] == f"{said['samples_backward']:,}"
    assert any(line.startswith("a, b ") and "%" in line for line in lines)


def test_words_that_do_not_go_together(made, capsys):
    one, other = paths(made, "ab")
    assert main(["compare", one]) == 2
    assert "at least two runs. Found 1." in capsys.readouterr().err
    assert main(["compare", one, other, "--data", "digits"]) == 2
    assert "must be given runs, or the options of a new comparison. Found --data" in capsys.readouterr().err
    assert main(["compare", one, str(made / "none")]) == 2
    assert "A run directory must exist" in capsys.readouterr().err
    assert main(["compare", one, f"{one}/../a"]) == 2
    assert "Each run must be named once" in capsys.readouterr().err
    with pytest.raises(InvalidValue, match="at least two"):
        side_by_side([one])


def test_a_damaged_run_is_named(made, tmp_path, capsys):
    copy = shutil.copytree(made / "a", tmp_path / "copy")
    path = copy / "history" / "epoch-00001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert main(["compare", str(copy), str(made / "b")]) == 3
    assert "epoch-00001.safetensors" in capsys.readouterr().err
    with pytest.raises(DamagedData):
        side_by_side([copy, made / "b"])


def test_no_torch_is_loaded(made):
    code = "import sys; from fallow.cli.main import main\nassert main(['compare', *sys.argv[1:]]) == 0\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *paths(made)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "False\n"
