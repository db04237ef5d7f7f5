"""The examples run, and do what their texts say."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "plain_pytorch.py"


def test_the_example_trains_on_less(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    accuracy, used = main(epochs=12)
    assert accuracy > 0.93
    assert used < 0.7 * 12 * 1437
    assert "of the samples saved" in capsys.readouterr().out


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


def test_the_example_of_a_post_training_leaves_prompts_out(monkeypatch, capsys):
    path = str(ROOT / "examples" / "post_training.py")
    monkeypatch.setattr("sys.argv", [path, "--smoke"])
    with torch.random.fork_rng():
        runpy.run_path(path, run_name="__main__")
    said = capsys.readouterr().out
    before, after, mixed = map(float, re.findall(r"([0-9.]+)%", said))
    assert re.search(r"[1-9][0-9]* rollouts saved", said)
    assert min(before, after) > 0
    assert 10 < mixed < 90


@pytest.mark.slow
def test_the_post_training_of_the_example_learns(capsys):
    with torch.random.fork_rng():
        runpy.run_path(str(ROOT / "examples" / "post_training.py"))["main"]()
    before, after, _ = map(float, re.findall(r"([0-9.]+)%", capsys.readouterr().out))
    assert after > before


@pytest.mark.parametrize(
    ("name", "most"), [("classify_texts", 60), ("language_model", 60), ("post_training", 80)]
)
def test_examples_are_short_and_smoke(name, most):
    lines = (ROOT / "examples" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= most
    assert any('"--smoke"' in line for line in lines)


@pytest.mark.parametrize("left", [1, 15, 16, 63, 64, 65, 79, 80, 129, 1437])
def test_the_loop_in_readme_has_no_batch_that_spoils_a_step(left):
    """However many samples are kept, none has less than a quarter of the others."""
    import fallow

    assert "loader(train_set, batch_size=64)" in EXAMPLE.read_text().split("# shown from here\n")[1]
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
