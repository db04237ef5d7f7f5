"""20 Newsgroups as bags of words, with a network of one hidden layer: data and module of one's own.

    fallow train --data benchmarks.newsgroups:News --model benchmarks.newsgroups:BagOfWords --epochs 20
    fallow compare --data benchmarks.newsgroups:News --model benchmarks.newsgroups:BagOfWords --epochs 20

Run from the root of a checkout. To choose settings, let 20 % of the training samples, always the same ones,
take the place of the test samples: ``--data_args '{"validation": 0.2}'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from benchmarks.data import located
from lightning.pytorch import LightningDataModule, LightningModule
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, default_collate

from fallow.datasets import load_text_table
from fallow.tasks.class_accuracy import ClassAccuracy

WORDS, CLASSES = 12_000, 20


class Posts(Dataset[tuple[Tensor, int]]):
    """Sparse rows and their classes, handed out a dense batch at a time.

    Args:
        rows: ``(N, words)``, float32.
        labels: class ids ``(N,)``.
        classes: names of the classes.
    """

    def __init__(self, rows: csr_matrix, labels: np.ndarray, classes: Sequence[str]) -> None:
        self.rows, self.classes = rows, tuple(classes)
        self.labels = torch.from_numpy(labels)  # read by fallow, for class floors and outliers

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.rows[[index]].toarray()[0]), int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = np.asarray(indices, dtype=np.int64)
        return torch.from_numpy(self.rows[index].toarray()), self.labels[index]

    @staticmethod
    def collate(batch: Any) -> tuple[Tensor, Tensor]:
        return batch if isinstance(batch, tuple) else tuple(default_collate(batch))


@cache
def parts(validation: float | None, words: int) -> tuple[Posts, Posts]:
    """Return the samples to train on and those to report on.

    Words and their weights are learned from the former only. A process makes them once for all its runs.

    Args:
        validation: the share of the training samples to report on, drawn from a fixed seed; None reports on
            the test samples.
        words: how many are counted, those that occur most.
    """
    data = load_text_table(located("20newsgroups"), "text", ["label"])
    train = np.arange(len(data.train.texts))
    held_texts, held_labels = data.test.texts, data.test.labels
    if validation is not None:
        order = np.random.default_rng(0).permutation(train)
        cut = round(validation * train.size)
        train, held = np.sort(order[cut:]), np.sort(order[:cut])
        held_texts, held_labels = [data.train.texts[i] for i in held], data.train.labels[held]
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, stop_words="english", max_features=words, dtype=np.float32
    )
    rows = vectorizer.fit_transform([data.train.texts[i] for i in train])
    return (
        Posts(rows, data.train.labels[train], data.classes),
        Posts(vectorizer.transform(held_texts), held_labels, data.classes),
    )


class News(LightningDataModule):
    """20 Newsgroups as tf-idf rows.

    Args:
        validation: share of the training samples to report on; None reports on the test samples.
        words: how many words are counted.
        batch_size: samples a step.
    """

    def __init__(self, validation: float | None = None, words: int = WORDS, batch_size: int = 128) -> None:
        super().__init__()
        self.share, self.words, self.batch_size = validation, words, batch_size

    def setup(self, stage: str) -> None:
        self.train, self.held = parts(self.share, self.words)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True, collate_fn=Posts.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held, 512, collate_fn=Posts.collate)


class BagOfWords(LightningModule):
    """One hidden layer over a bag of words.

    The learning rate rises over the first tenth of the training and falls to 0 at its end.

    Args:
        words: of the data.
        hidden: width of the hidden layer.
        learning_rate: the highest.
        weight_decay: of AdamW.
        dropout: share of the hidden units that a step leaves out.
        word_dropout: share of the words of a text that a step leaves out.
    """

    sample_weights: Tensor | None = None
    progress: float = 0.0

    def __init__(
        self,
        words: int = WORDS,
        hidden: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Dropout(word_dropout), nn.Linear(words, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, CLASSES),
        )  # fmt: skip
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.class_accuracy = ClassAccuracy()

    def forward(self, rows: Tensor) -> Tensor:
        return self.network(rows)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        shape = min(self.progress / 0.1, (1 - self.progress) / 0.9)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate * shape

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        rows, labels = batch
        logits = self(rows)
        losses = cross_entropy(logits, labels, reduction="none")
        weights = 1.0 if self.sample_weights is None else self.sample_weights
        predicted = logits.detach().argmax(1)
        return {"loss": (weights * losses).mean(), "per_sample_loss": losses, "predicted": predicted}

    def on_validation_epoch_start(self) -> None:
        self.class_accuracy.clear()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        rows, labels = batch
        logits = self(rows)
        predicted, count = logits.argmax(1), len(labels)
        self.class_accuracy.add(predicted, labels, CLASSES)
        self.log("val_acc", (predicted == labels).float().mean(), batch_size=count)
        self.log("val_loss", cross_entropy(logits, labels), batch_size=count)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
