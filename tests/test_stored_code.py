"""A run from anybody runs no code of theirs: each way to do so would leave a canary, which is never there."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from msgspec import structs
from sklearn.datasets import load_digits

import fallow
from fallow.cli.main import main
from fallow.errors import InvalidValue
from fallow.options.resume_options import stored_options, whole_options
from fallow.options.train_options import TrainOptions
from fallow.runs.checkpoints import Checkpoints
from fallow.training.train import train
from told_console import Told

OWN = """
from torch import nn
from lightning.pytorch import LightningDataModule


class Net(nn.Module):
    def __init__(self, width=8, num_classes=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))

    def forward(self, images):
        return self.layers(images)


class Other(Net):
    pass
"""
EVIL = """
import os
open(os.environ["FALLOW_CANARY"], "a").write("imported ")
from torch import nn
class Net(nn.Module):
    def __init__(self, *args, **kwargs):
        open(os.environ["FALLOW_CANARY"], "a").write("called ")
class Data(Net): pass
"""
QUICK = [
    "--data",
    "digits",
    "--samples",
    "200",
    "--epochs",
    "1",
    "--batch_size",
    "50",
    "--accelerator",
    "cpu",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder to work in, with a run of a network of one's own and another with one of ours."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "owncode.py").write_text(OWN)
    (folder / "evilcode.py").write_text(EVIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        model = ["--model", "owncode:Net", "--model_args", '{"width": 6}']
        assert main(["train", *QUICK, *model, "--out", "own"]) == 0
        assert main(["train", *QUICK, "--out", "ours"]) == 0
        np.savez("pool.npz", x=(load_digits().images / 16 * 255).round().astype(np.uint8)[:300])
    yield folder
    for name in ("owncode", "evilcode"):
        sys.modules.pop(name, None)


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of that folder, which is the working folder, and a canary that nothing may write."""
    place = shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FALLOW_CANARY", str(tmp_path / "canary"))
    monkeypatch.delitem(sys.modules, "evilcode", raising=False)
    yield place
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()


def craft(run, **options):
    """Change what a run has stored, in its newest state and in its config: all checksums are right."""
    checkpoints = Checkpoints(run)
    found = checkpoints.newest().found
    stored = {**found.about.options, **options}
    defaults = [name for name in found.about.defaults if name not in options]
    about = structs.replace(found.about, options=stored, defaults=defaults)
    name = f"state/{found.number:06d}.safetensors"
    needs = {other: digest for other, digest in found.files.items() if other != name}
    checkpoints.write(checkpoints.state_path(found.number).read_bytes(), about, needs)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **options}))
    return run


def fails(capsys, *words):
    """Call the command line; return the one line of its error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) in (2, 3)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("fallow: error: ")
    return lines[0]


TOUCH = {"args": ["touch", "canary"], "command": "touch canary"}
CLASS_PATH = {"class_path": "evilcode.Net", "init_args": {"a": 1}}
HOSTILE = {
    "a program": {"model": "subprocess:Popen", "model_args": TOUCH},
    "a shell": {"model": "os:system", "model_args": TOUCH},
    "a function of Python's": {"model": "builtins:exec", "model_args": {"source": "1"}},
    "a module beside it": {"model": "evilcode:Net"},
    "data of a module": {"data": "evilcode:Data", "model": "evilcode:Net"},
    "data by a shell": {"data": "os:system", "data_args": TOUCH},
    "a class path in model_args": {"model_args": {"x": CLASS_PATH}},
    "a class path in data_args": {"data_args": {"x": [CLASS_PATH]}},
    "a class path in trainer": {"trainer": {"logger": CLASS_PATH}},
    "a class path for trainer": {"trainer": CLASS_PATH},
    "a class path in density_args": {"score": "density", "density_args": {"seed": CLASS_PATH}},
    "a class path as a number": {"epochs": CLASS_PATH},
    "a density": {"score": "density", "density": "evilcode:Net"},
    "a score": {"score": "evilcode:Net"},
    "a policy": {"policy": "evilcode:Net"},
    "a tracker": {"logger": "evilcode:Net"},
    "a strategy": {"strategy": "evilcode.Net"},
    "an accelerator": {"accelerator": "evilcode.Net"},
    "a precision": {"precision": "evilcode.Net"},
}


WAYS = {
    "resume": ["train", "--resume", "RUN"],
    "config": ["train", "--config", "RUN/config.yaml", "--out", "new"],
    "gaps": ["gaps", "RUN"],
    "collect": ["collect", "RUN", "--pool", "pool.npz", "--count", "2"],
    "co": ["train", "--co=RUN/config.yaml"],
    "compare": ["compare", "--config", "RUN/config.yaml"],
}
EVERY = [(way, what) for way in ("resume", "config", "gaps") for what in HOSTILE]
FEW = ("a program", "a module beside it", "a class path in model_args", "a class path for trainer")
EVERY += [(way, what) for way in ("collect", "co", "compare") for what in FEW]


@pytest.mark.parametrize(("way", "what"), EVERY)
def test_what_a_run_has_stored_is_never_imported(place, way, what):
    craft(place / "ours", **HOSTILE[what])
    with suppress(TypeError):  # kinds are checked elsewhere
        main([word.replace("RUN", "ours") for word in WAYS[way]])
    assert not (place / "canary").exists()


@pytest.mark.parametrize("way", ["resume", "gaps", "collect", "config"])
def test_one_line_says_what_to_add_and_it_works(place, capsys, way):
    words = [word.replace("RUN", "own") for word in WAYS[way]]
    run = "own/config.yaml" if way == "config" else "own"
    assert fails(capsys, *words) == (
        f"fallow: error: The network of {run} is a class of your own. Found no --model on the command line. "
        "Add --model owncode:Net: nothing is imported because a run's files say so."
    )
    wrong = fails(capsys, *words, "--model", "owncode:Other")
    assert "--model must be what the run was started with: owncode:Net. Found owncode:Other." in wrong
    assert main([*words, "--model", "owncode:Net"]) == 0
    if way == "config":
        assert whole_options("new")["model_args"] == {"width": 6}


def test_data_and_network_are_asked_for_in_one_line(place, capsys):
    craft(place / "ours", data="evilcode:Data", model="evilcode:Net")
    assert "Add --data evilcode:Data --model evilcode:Net:" in fails(capsys, "train", "--resume", "ours")
    line = fails(capsys, "train", "--resume", "ours", "--model", "evilcode:Net")
    assert "Data and network of ours are classes of your own. Found no --data on" in line
    assert "Add --data evilcode:Data: nothing" in line
    assert "that fallow reads itself" in fails(capsys, "gaps", "ours", "--model", "evilcode:Net")


def test_stored_names_harm_no_terminal(place, capsys):
    names = {"modulе:Net": "modul\\u0435:Net", f"a{'b' * 500}:Net": "a" + "b" * 116 + "..."}
    for name, told in names.items():
        line = fails(capsys, "train", "--resume", craft(place / "ours", model=name))
        assert f"Add --model {told}: nothing" in line
    line = fails(
        capsys, "train", "--resume", craft(place / "ours", model="small-conv", trainer={"\x1b[2J": 1})
    )
    assert "\x1b" not in line


def test_callers_from_python_name_a_class_too(place):
    stored = stored_options("own")
    assert "model" not in stored
    with pytest.raises(InvalidValue, match=r"Add --model owncode:Net: nothing is imported"):
        train(TrainOptions(**{**stored, "resume": "own"}), Told())
    with pytest.raises(InvalidValue, match=r"Add --model owncode:Net"):
        fallow.find_gaps("own")
    with pytest.raises(InvalidValue, match=r"--model must be what the run was started with: owncode:Net"):
        fallow.collect("own", "pool.npz", 2, model="owncode:Other")
    assert fallow.find_gaps("own", model="owncode:Net")["gaps"] == []
    train(TrainOptions(**{**stored, "resume": "own", "model": "owncode:Net"}), Told())


TRAINER = [
    {"default_root_dir": "elsewhere", "enable_checkpointing": True},
    {"callbacks": "evilcode.Net"},
    {"logger": True},
    {"profiler": "simple"},
    {"plugins": ["evilcode.Net"]},
    {"limit_train_batches": {"a": 1}},
]


@pytest.mark.parametrize("trainer", TRAINER, ids=lambda trainer: next(iter(trainer)))
def test_arguments_of_the_trainer_that_write_or_load_are_named_again(place, capsys, trainer):
    run = craft(place / "ours", trainer={"limit_train_batches": 2, **trainer})
    for words in (["--resume", "ours"], ["--config", "ours/config.yaml", "--out", "new"]):
        line = fails(capsys, "train", *words)
        assert f"has arguments that may load code or write elsewhere: {', '.join(trainer)}." in line
        assert "Add --trainer '{" in line
    assert not (place / "elsewhere").exists()
    assert whole_options(str(run))["trainer"].keys() >= trainer.keys()
    assert not stored_options(str(run))["trainer"].keys() & trainer.keys()


@pytest.mark.slow
def test_plain_arguments_of_the_trainer_go_on(place):
    run = craft(place / "ours", trainer={"limit_val_batches": 1})
    assert main(["train", "--resume", str(run), "--epochs", "2", "--accept", "epochs"]) == 0
    craft(run, trainer={"limit_val_batches": 1, "logger": False})
    words = ["train", "--resume", str(run), "--epochs", "3", "--accept", "epochs"]
    assert main(words) == 2
    assert main([*words, "--trainer", '{"limit_val_batches": 1, "logger": false}']) == 0


def test_a_stored_acceptance_accepts_nothing(place, capsys):
    craft(place / "ours", accept="data,epochs,seed", resume="elsewhere")
    assert "--seed must be what" in fails(capsys, "train", "--resume", "ours", "--seed", "3")


@pytest.mark.parametrize(
    "loads", ["trust_remote_code", "attn_implementation", "code_revision", "hidden_dropout"]
)
def test_arguments_of_a_pretrained_model_are_named_again(place, capsys, loads):
    craft(place / "ours", task="text", data="x.csv", model="someone/model", model_args={loads: "a"})
    for words in (["--resume", "ours"], ["--config", "ours/config.yaml"]):
        line = fails(capsys, "train", *words)
        assert "is loaded with arguments, which may run code of its repository" in line
        assert f'Found no --model_args on the command line. Add --model_args \'{{"{loads}": "a"}}\':' in line
    assert stored_options("ours")["model"] == "someone/model"
    assert "model_args" not in stored_options("ours")


def test_readers_of_files_are_no_data_set(place, capsys):
    pytest.importorskip("datasets")
    (place / "train.pkl").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    for name in ("pandas", "csv", "webdataset"):
        words = ["--task", "text", "--data", f"hf:{name}"]
        assert "Found a reader of files" in fails(capsys, "train", *words)
        assert "Found a reader of files" in fails(
            capsys, "collect", "ours", "--pool", f"hf:{name}", "--count", "2"
        )
    (place / "script.py").write_text(EVIL)
    assert "Found a script" in fails(capsys, "train", "--task", "text", "--data", "hf:script.py")
    craft(place / "ours", task="text", data="hf:pandas")
    fails(capsys, "train", "--resume", "ours")
    assert not (place / "canary").exists()


def test_a_checkpoint_that_slurm_would_find_is_not_unpickled(place, monkeypatch, capsys):
    """Lightning looks for one by itself where a run has no state yet."""
    run = place / "begun"
    run.mkdir()
    for name in ("config.yaml", "environment.json"):
        shutil.copy(place / "ours" / name, run)
    (run / "hpc_ckpt_1.ckpt").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_NAME", "job"), ("SLURM_PROCID", "0")):
        monkeypatch.setenv(name, value)
    for name in ("SLURM_JOB_ID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    assert "hpc_ckpt_1.ckpt is not a checkpoint of fallow" in fails(capsys, "train", "--resume", run)
    assert not (place / "canary").exists()


# The folder of a run is the working folder


PLANTED = (
    "typing", "__future__", "argparse", "json", "random", "yaml", "numpy", "torch", "lightning", "jinja2",
    "jsonargparse", "rich", "matplotlib", "safetensors", "PIL", "scipy", "sklearn", "pandas", "msgspec",
    "datasets", "transformers", "tokenizers", "usercode", "readline", "evilcode",
)  # fmt: skip


def run_inside(run, *words, **environment):
    """Call fallow in a run's folder, with modules planted there under the names of others."""
    for name in PLANTED:
        (run / f"{name}.py").write_text(EVIL)
    path = str(Path(fallow.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, *words], cwd=run, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "words",
    [
        ["report", "."],
        pytest.param(["train", "--resume", ".", "--model", "evilcode:Net"], marks=pytest.mark.slow),
        pytest.param(["gaps", ".", "--model", "evilcode:Net"], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_nothing_is_imported_from_the_run_that_one_stands_in(place, words):
    craft(place / "ours", model="evilcode:Net")
    done = run_inside(place / "ours", "-m", "fallow", *words)
    assert done.returncode == (0 if words[0] == "report" else 2), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_empty_entry_of_the_import_path_is_no_way_in(place):
    path = os.pathsep.join(["", str(Path(fallow.__file__).parent.parent), str(place / "ours")])
    command = "import sys; sys.argv[0] = 'fallow'; from fallow.cli.main import main; sys.exit(main())"
    done = run_inside(place / "ours", "-P", "-c", command, "gaps", ".", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_workers_of_a_comparison_import_nothing_from_a_run(place):
    words = [
        "compare",
        "--data",
        "digits",
        "--samples",
        "200",
        "--epochs",
        "2",
        "--seeds",
        "1",
        "--arms",
        "full",
    ]
    words += ["--out", str(place / "compared"), "--accelerator", "cpu"]
    done = run_inside(place / "ours", "-m", "fallow", *words, PYTHONSAFEPATH="")
    assert done.returncode == 0, done.stderr
    results = json.loads((place / "compared" / "results.json").read_text())
    assert [run["status"] for run in results["runs"]] == ["done"]


def test_settings_of_other_packages_in_a_run_are_named(place, monkeypatch, capsys):
    (place / "ours" / "matplotlibrc").write_text("backend: module://evilcode\n")
    monkeypatch.chdir(place / "ours")
    assert "must not hold settings of other packages" in fails(capsys, "report", ".")
    monkeypatch.chdir(place)
    assert main(["report", "ours"]) == 0
