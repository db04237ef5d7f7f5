"""README and the pages of docs/ show what runs."""

import random
import re
import runpy
import shutil
import textwrap

import numpy as np
import pytest
import torch

import fallow
from fallow.datasets import load_images
from pages import PAGES, ROOT, block, blocks, commands, text

EXAMPLES = ROOT / "examples"
RUN_BY = {
    ("README.md", "Your own loop"): "test_pages.py::test_the_loop_in_readme_is_the_example",
    ("CONTRIBUTING.md", "Add a score: one file and one line"): "test_contributing.py::"
    "test_one_file_and_one_line_add_a_score",
    ("docs/comparing.md", "Does it pay on your data?"): "test_pages.py::test_the_comparison_from_python",
    ("docs/language-models.md", "Texts and language models"): "test_pages.py::"
    "test_the_loop_over_windows_is_the_example",
    (
        "docs/post-training.md",
        "Your own loop",
    ): "test_pages.py::test_the_loop_of_a_post_training_is_the_example",
    ("docs/post-training.md", "TRL's GRPOTrainer"): "test_trl_prompts.py::test_the_change_on_the_page",
    ("docs/post-training.md", "Across runs"): "test_pages.py::test_prompts_are_known_across_runs",
    ("docs/python.md", "Python first"): "test_pages.py::test_a_run_in_python",
    ("docs/python.md", "A loop of your own"): "test_pages.py::test_one_line_records_a_loop",
    ("docs/without-labels.md", "Without labels"): "test_pages.py::"
    "test_the_loop_without_labels_leaves_samples_out",
    ("docs/your-own-code.md", "A LightningModule"): "test_pages.py::test_the_lightning_lines_train",
    (
        "docs/your-own-loop.md",
        "Stop and go on",
    ): "test_pages.py::test_the_loop_that_is_stopped_goes_on_exactly",
}
"""The test of each block of Python; those of ``docs/trainers.md`` are all in ``test_trainers_page.py``."""


def test_every_block_of_python_is_run():
    shown = {
        (page, heading) for page in PAGES for kind in ("python", "diff") for heading, _ in blocks(page, kind)
    }
    tested = (ROOT / "tests" / "test_trainers_page.py").read_text()
    assert shown >= RUN_BY.keys(), "a test for a block that is gone"
    for page, heading in shown - RUN_BY.keys():
        assert page == "docs/trainers.md", f"{page}, {heading}: which test runs it? Add it to RUN_BY."
        assert f'("{heading}"' in tested, f"{page}, {heading}: no test in test_trainers_page.py names it."
    for test in RUN_BY.values():
        file, name = test.split("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), test


def test_the_loop_in_readme_is_the_example():
    example = (EXAMPLES / "plain_pytorch.py").read_text()
    loop = example.split("# shown from here\n")[1].split("    # shown to here")[0]
    diff = block("README.md", "diff", "Your own loop")
    shown = [line[2:] for line in diff.splitlines() if not line.startswith("-")]
    assert "\n".join(shown).strip() == textwrap.dedent(loop).strip()


def test_a_run_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for heading, code in blocks("docs/python.md", "python"):
        if heading == "Python first":
            exec(code, names)
    assert (names["run"].path / "report.html").exists()


def test_one_line_records_a_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_set = torch.utils.data.TensorDataset(torch.rand(8, 1, 6, 6))
    model = torch.nn.Linear(36, 1)
    names = {
        "fallow": fallow,
        "train_set": train_set,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "subsampler": fallow.Subsampler(8, fallow.Threshold(0.1), fallow.Schedule(epochs=1)),
    }
    exec(block("docs/python.md", "python", "A loop of your own"), names)
    for index, (images,) in names["subsampler"].loader(train_set, 4):
        names["subsampler"].record(index, model(images.flatten(1)).square().squeeze(1)).backward()
        names["optimizer"].step()
        names["optimizer"].zero_grad()
    names["subsampler"].step()
    assert (tmp_path / "RUN" / "report.html").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on digits, and a pool of the test images, shifted."""
    from fallow.cli.main import main

    folder = tmp_path_factory.mktemp("pages")
    words = ["train", "--data", "digits", "--epochs", "2", "--accelerator", "cpu"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    digits = load_images("digits").test
    np.savez(folder / "pool.npz", x=digits.images.roll(1, 3).numpy(), y=digits.labels.numpy())
    return folder


WITH_COMMANDS = [page for page in PAGES if commands(page) and page != "docs/get-started.md"]


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_are_real(page, trained, tmp_path):
    """Those on a run do what they say; those on somebody's data are understood."""
    from fallow.cli.main import main

    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    # A second epoch more shows the same as forty.
    named = {"RUN": str(run), "POOL": str(trained / "pool.npz"), "40": "3"}
    for command in commands(page):
        words = [named.get(word, word.replace("RUN/", f"{run}/")) for word in command.split()]
        if words.count(str(run)) > 1:
            continue  # two runs: test_side_by_side.py
        if str(run) in words and "--out" not in words:
            assert main(words) == 0, command
            continue
        if "--config" in words:
            continue  # of a run that the page has made before
        if words[0] in ("demo", "list", "push", "serve", "suspects"):
            continue  # on no run that is here: they have tests of their own
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--print_config"])
        assert stop.value.code == 0, command


@pytest.mark.parametrize("more", [["--epochs", "3"], pytest.param([], marks=pytest.mark.slow)])
def test_get_started_runs_from_its_first_line_to_its_last(more, monkeypatch, tmp_path, capsys):
    """Every command, as it stands there, in an empty folder; fewer epochs if it is to be fast."""
    from fallow.cli.main import main

    monkeypatch.chdir(tmp_path)
    shown = [line for _, code in blocks("docs/get-started.md", "") for line in code.splitlines()]
    assert len(shown) == 7
    ran = []
    for line in shown:
        program, *words = line.split()
        if program == "fallow":
            assert main([*words, *(more if "--out" in words else [])]) == 0, line
            ran.append(line)
        elif program == "python":
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            ran.append(line)
    assert len(ran) == 6, "all but pip install, which test_packaging.py does"
    assert (tmp_path / "first" / "report.html").exists()
    said = capsys.readouterr().out
    assert "used       in" in said
    assert "of the samples saved" in said
    table = block("docs/get-started.md", "text", "Train").splitlines()
    assert table[0] in said, "the columns that the page explains"


@pytest.mark.slow
def test_the_comparison_from_python(monkeypatch, tmp_path, capsys):
    lines = block("docs/comparing.md", "python", "Does it pay on your data?")
    quick = lines.replace("seeds=5", "seeds=3, epochs=3, samples=300")
    assert quick != lines
    monkeypatch.chdir(tmp_path)
    exec(quick, {"fallow": fallow})
    assert "default" in capsys.readouterr().out


def test_the_lightning_lines_train(monkeypatch, tmp_path):
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            losses = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1], reduction="none")
            return {"loss": losses.mean(), "per_sample_loss": losses}

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monkeypatch.chdir(tmp_path)
    train_set = TensorDataset(torch.randn(90, 4), torch.arange(90) % 2)
    subsampler = fallow.Subsampler(90, fallow.Fraction(0.5), fallow.Schedule(2))
    names = {
        "Trainer": lambda **options: Trainer(
            logger=False, enable_checkpointing=False, accelerator="cpu", **options
        ),
        "epochs": 2,
        "module": Module(),
        "subsampler": subsampler,
        "train_set": train_set,
        "validation_loader": DataLoader(train_set, batch_size=90),
    }
    exec(block("docs/your-own-code.md", "python", "A LightningModule"), names)
    assert [epoch.backward for epoch in subsampler.history] == [90, 45], "half of them"


def test_the_loop_that_is_stopped_goes_on_exactly(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    path = EXAMPLES / "stop_and_go_on.py"
    lines = path.read_text().split("# shown from here\n")[1].split("        # shown to here")[0]
    shown = block("docs/your-own-loop.md", "python", "Stop and go on")
    assert shown.strip() == textwrap.dedent(lines).strip()
    train = runpy.run_path(str(path))["train"]
    with torch.random.fork_rng():
        whole = train(tmp_path / "whole.pt", epochs=4)
        for stop in (5, 30, 3):  # the third is in the epoch of the second
            assert train(tmp_path / "state.pt", epochs=4, stop_after=stop) is None
        assert torch.equal(train(tmp_path / "state.pt", epochs=4), whole)


def test_the_loop_without_labels_leaves_samples_out():
    from torch.utils.data import TensorDataset

    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 6, generator=draw) + 4 * (torch.arange(1000) % 3)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.ReLU()
        network = torch.nn.Sequential(*hidden, torch.nn.Linear(3, 6))
    names = {"fallow": fallow, "network": network, "train_set": TensorDataset(rows), "epochs": 8,
             "optimizer": torch.optim.Adam(network.parameters(), 0.01)}  # fmt: skip
    exec(block("docs/without-labels.md", "python", "Without labels"), names)
    history = names["subsampler"].history
    assert len(history) == 8
    assert any(epoch.learned > 100 for epoch in history)


def test_the_loop_over_windows_is_the_example():
    lines = block("docs/language-models.md", "python", "Texts and language models")
    example = (EXAMPLES / "language_model.py").read_text()
    assert textwrap.indent(lines.rstrip(), "        ") in example


def test_the_loop_of_a_post_training_is_the_example():
    path = EXAMPLES / "post_training.py"
    lines = path.read_text().split("# shown from here\n")[1].split("    # shown to here")[0]
    diff = block("docs/post-training.md", "diff", "Your own loop").splitlines()
    before, after = ("\n".join(line[1:] for line in diff if line[0] != sign) for sign in "+-")
    assert after == textwrap.dedent(lines).strip()
    assert sum(line[0] == "+" for line in diff) <= 5
    names = {name: found for name, found in runpy.run_path(str(path)).items() if name != "main"}
    questions = [f"{a}0+0{b}=" for a in range(6) for b in range(6)]
    names |= {"random": random, "questions": questions, "group": 2, "steps": 2}
    names["model"] = names["SmallGPT"](13, 10, width=8, layers=1, heads=1)
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    for program in (before, after):
        exec(program, names)
    assert len(names["prompts"].log) == 2 * 32


def test_prompts_are_known_across_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_set = {"id": [f"p{i}" for i in range(40)]}
    first = fallow.Prompts(train_set["id"], group=8)
    first.record(first.draw(40), np.ones((40, 8)))
    names = {"fallow": fallow, "train_set": train_set, "prompts": first}
    for heading, code in blocks("docs/post-training.md", "python"):
        assert heading == "Across runs"
        exec(code, names)
    assert names["prompts"] is not first
    assert names["prompts"].success_rate.min() > 0.9
    assert fallow.Prompts.load("prompts/first").summary() == first.summary()
    reason = fallow.prompts.PromptReason.HOPELESS
    assert not (first.reason == reason).any()


def test_readme_is_one_screen():
    """Prose, without code and pictures."""
    prose = re.sub(r"```.*?```|!\[.*?\)|\]\(.*?\)", "", text("README.md"), flags=re.DOTALL)
    assert len(prose.split()) < 420
    assert text("README.md").count("![") == 2
