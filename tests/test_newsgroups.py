"""The benchmark on texts: its rows, its parts and a run of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fallow.cli.main import main
from fallow.datasets import TextData, Texts

ROOT = Path(__file__).parent.parent
WORDS = 60


@pytest.fixture
def news(monkeypatch):
    """The benchmark's module, on 300 short texts whose words say their class."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import newsgroups

    rng = np.random.default_rng(0)
    labels = np.arange(300) % newsgroups.CLASSES
    texts = [" ".join(f"word{(3 * c + rng.integers(3)) % WORDS:02d}" for _ in range(9)) for c in labels]
    data = TextData(
        "texts", Texts(tuple(texts[:240]), labels[:240]), Texts(tuple(texts[240:]), labels[240:]),
        tuple(f"group {c}" for c in range(newsgroups.CLASSES)),
    )  # fmt: skip
    monkeypatch.setattr(newsgroups, "located", str)
    monkeypatch.setattr(newsgroups, "load_text_table", lambda *_: data)
    newsgroups.parts.cache_clear()
    yield newsgroups
    newsgroups.parts.cache_clear()


def test_a_batch_is_its_samples(news):
    train, held = news.parts(None, WORDS)
    assert (len(train), len(held)) == (240, 60)
    rows, labels = train.__getitems__([5, 0, 7])
    assert rows.shape == (3, WORDS)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    singles = train.collate([train[5], train[0], train[7]])
    assert torch.equal(singles[0], rows)
    assert singles[1].tolist() == labels.tolist() == [5, 0, 7]


def test_validation_samples_are_training_samples_that_are_not_trained_on(news):
    data = news.load_text_table()
    train, held = news.parts(0.2, WORDS)
    assert (len(train), len(held)) == (192, 48)
    both = np.bincount(np.concatenate([train.labels, held.labels]))
    assert np.array_equal(both, np.bincount(data.train.labels))
    assert news.parts(0.2, WORDS)[0] is train


def test_the_weights_of_samples_are_used(news):
    model = news.BagOfWords(words=WORDS, dropout=0.0, word_dropout=0.0)
    batch = news.parts(None, WORDS)[0].__getitems__(range(4))
    losses = model.training_step(batch, 0)["per_sample_loss"]
    model.sample_weights = torch.tensor([0.0, 2.0, 1.0, 5.0])
    loss = model.training_step(batch, 0)["loss"]
    assert loss.item() == pytest.approx((losses * model.sample_weights).sum().item() / 4)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["soft", "infobatch"])
def test_a_run(news, tmp_path, policy):
    words = ["train", "--data", "benchmarks.newsgroups:News", "--data_args", json.dumps({"words": WORDS})]
    words += ["--model", "benchmarks.newsgroups:BagOfWords", "--epochs", "6", "--policy", policy]
    words += ["--model_args", json.dumps({"words": WORDS, "learning_rate": 0.03}), "--batch_size", "20"]
    assert main([*words, "--accelerator", "cpu", "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accuracy"] > 0.9
    assert summary["saved_fraction"] > 0.1
    assert summary["test_loss"] > 0
    assert len(summary["accuracy_by_class"]) == news.CLASSES
