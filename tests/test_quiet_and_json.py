"""``fallow train --quiet`` and ``--json``: what is printed where, and that a run never knows of it."""

import json
import os
import signal
import subprocess
import sys
import warnings

import pytest

from fallow.cli.main import main
from fallow.options.resume_options import whole_options
from fallow.tasks.console import Console
from fallow.terminal.rich_console import RichConsole

QUICK = ["train", "--data", "digits", "--samples", "300", "--epochs", "2", "--accelerator", "cpu"]


def fallow(*words, **more):
    command = [sys.executable, "-m", "fallow", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


def same_but_for_the_folder(one, other):
    """Return whether two runs keep the same options, in their configs and in their states."""
    texts = [(run / "config.yaml").read_text().replace(str(run), "") for run in (one, other)]
    stored = [whole_options(str(run)) | {"out": ""} for run in (one, other)]
    return texts[0] == texts[1] and stored[0] == stored[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    assert main([*QUICK, "--out", str(out)]) == 0
    return out


def test_quiet_prints_nothing_and_changes_nothing(plain, tmp_path, capfd):
    assert main([*QUICK, "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert capfd.readouterr() == ("", "")
    assert same_but_for_the_folder(plain, tmp_path / "run")
    assert not {"quiet", "json"} & whole_options(str(tmp_path / "run")).keys()


def test_json_is_one_object_and_progress_goes_beside(plain, tmp_path, capfd):
    run = tmp_path / "run"
    assert main([*QUICK, "--json", "--out", str(run)]) == 0
    out, err = capfd.readouterr()
    said = json.loads(out)
    assert said.pop("run") == str(run)
    assert said == json.loads((run / "summary.json").read_text())
    assert " 2/2 " in err
    assert same_but_for_the_folder(plain, run)
    assert (
        main(["train", "--resume", str(run), "--epochs", "3", "--accept", "epochs", "--json", "--quiet"]) == 0
    )
    out, err = capfd.readouterr()
    assert len(json.loads(out)["epochs"]) == 3
    assert err == ""
    assert main(["train", "--resume", str(run), "--json"]) == 0, "a run that has finished"
    assert json.loads(capfd.readouterr().out)["finished"] is True


CHATTY = """
import os
import torch


class Net(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        print("from Python")
        os.system("echo from a process")
        self.layer = torch.nn.Linear(64, num_classes)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


def test_nothing_else_reaches_standard_output(tmp_path):
    (tmp_path / "chatty.py").write_text(CHATTY)
    words = [*QUICK, "--model", "chatty:Net", "--json", "--out", tmp_path / "run"]
    done = fallow(
        *words,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(tmp_path / "run")
    assert "from Python" in done.stderr
    assert "from a process" in done.stderr


def test_an_error_leaves_standard_output_empty(tmp_path, capfd):
    for more in ("--json", "--quiet"):
        assert (
            main([*QUICK, "--policy", "threshold", "--low", "-1", more, "--out", str(tmp_path / "run")]) == 2
        )
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("fallow: error: ")
        assert not (tmp_path / "run").exists()


def test_a_divergence_is_told_in_any_case(tmp_path, capfd):
    words = [*QUICK[:-4], "--epochs", "3", "--accelerator", "cpu", "--learning_rate", "1e8"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* scores of epoch .* not finite")
        assert main([*words, "--quiet", "--out", str(tmp_path / "a")]) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert "diverged" in err
        assert main([*words, "--json", "--out", str(tmp_path / "b")]) == 1
    assert json.loads(capfd.readouterr().out)["diverged"] is True


def test_a_training_that_was_stopped_prints_what_it_reached(tmp_path):
    words = [sys.executable, "-m", "fallow", *QUICK[:-4], "--epochs", "2000", "--accelerator", "cpu"]
    words += ["--json", "--out", str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        while not training.stderr.readline().startswith("   3/2000"):
            assert training.poll() is None
        training.send_signal(signal.SIGTERM)
        out, err = training.communicate(timeout=200)
    assert training.returncode == 143
    said = json.loads(out)
    assert said["finished"] is False
    assert len(said["epochs"]) >= 3
    assert "fallow: stopped." in err


@pytest.mark.slow
@pytest.mark.parametrize("more", ["--json", "--quiet"])
def test_two_processes(tmp_path, more):
    words = [*QUICK, "--devices", "2", "--strategy", "ddp", "--out", tmp_path / "run", more]
    done = fallow(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if more == "--json":
        assert json.loads(done.stdout)["run"] == str(tmp_path / "run")
    else:
        assert done.stdout == ""
    assert not {"quiet", "json"} & whole_options(str(tmp_path / "run")).keys()


def test_a_warning_that_matters_is_printed_once_and_only_where_it_should(capsys):
    for quiet, silent, expected in ((True, False, "fallow: A [b] c.\n"), (True, True, ""), (False, True, "")):
        Console(RichConsole(), quiet=quiet, silent=silent).warn("A [b] c.")
        assert capsys.readouterr() == ("", expected)
    Console(RichConsole()).warn("A [b] c.")
    assert capsys.readouterr() == ("A [b] c.\n", "")
