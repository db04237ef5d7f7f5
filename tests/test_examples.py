"""README and the examples say what runs."""

import json
import re
import runpy
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from fallow.datasets import load_images

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "plain_pytorch.py"


def test_the_loop_in_readme_is_the_example():
    text = EXAMPLE.read_text().split("# README begins\n")[1].split("    # README ends")[0]
    diff = re.search(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    shown = [line[2:] for line in diff.splitlines() if not line.startswith("-")]
    assert "\n".join(shown).strip() == textwrap.dedent(text).strip()


def test_the_example_trains_on_less(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    accuracy, used = main(epochs=12)
    assert accuracy > 0.93
    assert used < 0.7 * 12 * 1437
    assert "of the samples saved" in capsys.readouterr().out


def test_the_commands_in_readme_are_real(tmp_path):
    from fallow.cli.main import main

    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^fallow (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    run = tmp_path / "run"
    assert (
        main(["train", "--data", "digits", "--epochs", "2", "--accelerator", "cpu", "--out", str(run)]) == 0
    )
    digits = load_images("digits").test
    shifted = digits.images.roll(1, 3).numpy()
    np.savez(tmp_path / "pool.npz", x=shifted, y=digits.labels.numpy())
    named = {"RUN": str(run), "POOL": str(tmp_path / "pool.npz")}
    for command in commands:
        words = [named.get(word, word.replace("RUN/", f"{run}/")) for word in command.split()]
        if str(run) in words and "--out" not in words:
            assert main(words) == 0, command
            continue
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--print_config"])
        assert stop.value.code == 0, command


def test_the_lightning_lines_in_readme_train(monkeypatch, tmp_path):
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    import fallow

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
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = next(block for block in blocks if "SubsamplingCallback" in block)
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
    exec(lines, names)
    assert [epoch.backward for epoch in subsampler.history] == [90, 45], "half of them"


def test_the_loop_that_is_stopped_goes_on_exactly(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    path = ROOT / "examples" / "stop_and_go_on.py"
    text = path.read_text().split("# README begins\n")[1].split("        # README ends")[0]
    assert textwrap.dedent(text).strip() in (ROOT / "README.md").read_text()
    train = runpy.run_path(str(path))["train"]
    with torch.random.fork_rng():
        whole = train(tmp_path / "whole.pt", epochs=4)
        for stop in (5, 30, 3):  # the third is in the epoch of the second
            assert train(tmp_path / "state.pt", epochs=4, stop_after=stop) is None
        assert torch.equal(train(tmp_path / "state.pt", epochs=4), whole)


def test_the_loop_without_labels_in_readme_leaves_samples_out():
    from torch.utils.data import TensorDataset

    import fallow

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = next(block for block in blocks if "ActivationDensity" in block)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 6, generator=draw) + 4 * (torch.arange(1000) % 3)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.ReLU()
        network = torch.nn.Sequential(*hidden, torch.nn.Linear(3, 6))
    names = {"fallow": fallow, "network": network, "train_set": TensorDataset(rows), "epochs": 8,
             "optimizer": torch.optim.Adam(network.parameters(), 0.01)}  # fmt: skip
    exec(lines, names)
    history = names["subsampler"].history
    assert len(history) == 8
    assert any(epoch.learned > 100 for epoch in history)


def smoked(name, data, monkeypatch, capsys):
    """Run an example with --smoke, as a user does, and return the two numbers that it prints."""
    path = str(ROOT / "examples" / f"{name}.py")
    monkeypatch.setattr("sys.argv", [path, str(data), "--smoke"])
    runpy.run_path(path, run_name="__main__")
    said = capsys.readouterr().out
    first, saved = map(float, re.findall(r"[0-9]+\.[0-9]+", said))
    return said, first, saved


def written(path, rows):
    """Write texts of drawn words, of which a class has some more often, and return the path."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("label,text\n")
        for label in (np.arange(rows) % 4).tolist():
            its_own = 10 * label + draw.integers(10, size=12)
            words = np.where(draw.random(12) < 0.4, its_own, draw.integers(200, size=12))
            file.write(f"class {label},{' '.join(f'word{word}' for word in words)}\n")
    return path


def test_the_example_of_texts_trains_on_less(tmp_path, monkeypatch, capsys):
    data = written(tmp_path / "drawn.csv", 600)
    said, accuracy, saved = smoked("classify_texts", data, monkeypatch, capsys)
    assert "test accuracy" in said
    assert accuracy > 40  # by chance 25
    assert 30 < saved < 35


def test_the_example_of_a_language_model_trains_on_less(tmp_path, monkeypatch, capsys):
    data = written(tmp_path / "drawn.txt", 600)
    said, bits, saved = smoked("language_model", data, monkeypatch, capsys)
    assert "bits a character" in said
    assert bits < 3  # 4 by how often each character comes
    assert 10 < saved < 20


@pytest.mark.slow
def test_the_example_of_a_density_trains_as_its_text_says(monkeypatch, tmp_path):
    from fallow.cli.main import main

    path = ROOT / "examples" / "flow_density.py"
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    words = re.search(r"^    fallow (train .*)$", text, re.MULTILINE).group(1).split()
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    quick = ["--samples", "600", "--epochs", "5", "--density_args", "{epochs: 3}", "--accelerator", "cpu"]
    assert main([*words, *quick, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["density"]["ready"]
    assert summary["accuracy"] > 0.9
    assert summary["saved_fraction"] > 0.05


@pytest.mark.parametrize("name", ["classify_texts", "language_model"])
def test_examples_are_short_and_smoke(name):
    lines = (ROOT / "examples" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 60
    assert any('"--smoke"' in line for line in lines)


def test_the_loop_over_windows_in_readme_is_the_example():
    text = (ROOT / "README.md").read_text()
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "linear_kl" in b)
    example = (ROOT / "examples" / "language_model.py").read_text()
    assert textwrap.indent(block.rstrip(), "        ") in example


@pytest.mark.parametrize("left", [1, 15, 16, 63, 64, 65, 79, 80, 129, 1437])
def test_the_loop_in_readme_has_no_batch_that_spoils_a_step(left):
    """However many samples are kept, none has less than a quarter of the others."""
    import fallow

    assert "loader(train_set, batch_size=64)" in EXAMPLE.read_text().split("# README begins\n")[1]
    n = 1437
    sub = fallow.Subsampler(n, fallow.Threshold(low=0.05), fallow.Schedule(3))
    data = list(range(n))
    kept = sub.loader(data, batch_size=64, kept_steps=True)
    for _ in range(2):
        for index, _ in kept:
            sub.record(index, torch.where(index < left, 1.0, 0.01))
        sub.step()
        sizes = [len(index) for index, _ in kept]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 8
    sub = fallow.Subsampler(n, fallow.Threshold(low=0.05), fallow.Schedule(3))
    whole = sub.loader(data, batch_size=64, full_batches=True)
    for _ in range(2):
        for index, _ in whole:
            sub.record(index, torch.where(index < left, 1.0, 0.01))
        sub.step()
        assert min(len(index) for index, _ in whole) >= 16
