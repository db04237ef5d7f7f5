"""Fine-tuning on few demonstrations for many epochs: 400 of them, 32 times.

    python benchmarks/sft.py --out FOLDER [WORK ...] [--arms A,B] [--saved auto] [--seeds 5] [--jobs 2]

The small GPT of ``prompt_tasks.py``, which imitated both right and wrong answers, is trained on right ones.
A seed draws the demonstrations; 500 other questions are held out. A demonstration's score is the mean
divergence of its tokens. Each WORK has a learning rate of its own: full training chooses among them.

Beside the arms of ``plain_loop.py``: ``learned`` leaves out demonstrations that score below 0.02 nats, and
``error-0.4`` as many as hold 40 % of the error. What counts is the held-out loss in nats a token, and the
share of held-out questions that sampled answers get right. Savings of tokens and of samples hardly differ:
answers have 2 to 7 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import data
import fallow
import plain_loop
from plain_loop import Arm, Batch, Material, Rows
from prompt_tasks import PAD, encode, imitated, log_probabilities, make_tasks, success

DEMONSTRATIONS, HELD_OUT = 400, 500
NETWORK = data.FOLDER / "imitated.safetensors"


@dataclass(frozen=True)
class Sft(plain_loop.Work):
    """Right answers to learn."""

    epochs: int = 32
    batch_size: int = 32
    learning_rate: float = 1e-3
    measures: ClassVar[Mapping[str, tuple[str, str]]] = {
        "loss": ("held-out loss", ".3f"),
        "success": ("success", ".3f"),
    }

    own_arms: ClassVar[Mapping[str, Arm]] = {
        "learned": Arm(lambda _: fallow.Threshold(low=0.02), finds_share=True),
        "error-0.4": Arm(lambda _: fallow.ErrorMass(0.4), finds_share=True),
    }

    def material(self, seed: int) -> Material:
        tasks = make_tasks(9000, 0)
        held_out, pool = tasks[:HELD_OUT], tasks[2500 + DEMONSTRATIONS * seed :][:DEMONSTRATIONS]
        x, y = encode([task.question for task in pool], [task.right for task in pool])
        test = encode([task.question for task in held_out], [task.right for task in held_out])
        network = imitated(NETWORK)

        def losses(batch: Batch) -> tuple[Tensor, None]:
            found = -log_probabilities(network, *batch)
            return found.sum(1) / (batch[1] != PAD).sum(1), None

        def measure() -> dict[str, float]:
            total = -log_probabilities(network, *test).sum() / (test[1] != PAD).sum()
            return {"loss": float(total), "success": float(success(network, *test, 8, seed=1).mean())}

        return Material(Rows(x, y), network, losses, measure)


WORKS = {f"sft-{rate:g}": Sft(learning_rate=rate) for rate in (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)}

if __name__ == "__main__":
    plain_loop.main(__doc__, WORKS)
