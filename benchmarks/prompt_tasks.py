"""The ground of the benchmark of prompts: tasks with a checker, a small GPT, and its rollouts.

Five kinds of tasks on short strings (reverse, sort, count, add one to each digit, the largest digit), in five
lengths, each marked by one of three signs: 75 cells. For each cell there is a right answer and one of a wrong
habit. The network is first taught by imitation, from demonstrations that follow the habit at a rate of the
cell's own, from nearly always to nearly never: so a group of rollouts is all wrong in some cells, all right
in others, and mixed in the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

LETTERS = "0123456789abcdef?!~rsckm>$ "
CODES = {letter: code for code, letter in enumerate(LETTERS)}
PAD, END = CODES[" "], CODES["$"]
QUESTION, ANSWER = 10, 8
"""Tokens of a question, filled up on the left, and of an answer with its end."""
KINDS, LENGTHS, MARKS = "rsckm", (2, 3, 4, 5, 6), "?!~"
CELLS = len(KINDS) * len(LENGTHS) * len(MARKS)
_SYMBOLS = {"r": "abcdef", "c": "abc"}


class Task(NamedTuple):
    """A question, its right answer, that of the habit, and its cell."""

    question: str
    right: str
    habit: str
    cell: int


def solve(kind: str, text: str) -> tuple[str, str]:
    """Return the right answer and that of the wrong habit."""
    if kind == "r":
        return text[::-1], text
    if kind == "s":
        return "".join(sorted(text)), "".join(sorted(text, reverse=True))
    if kind == "c":
        return str(text.count("a")), str(text.count("b"))
    if kind == "k":
        return tuple("".join(str((int(digit) + step) % 10) for digit in text) for step in (1, -1))  # type: ignore[return-value]
    return max(text), min(text)


def make_tasks(count: int, seed: int, without: frozenset[str] = frozenset()) -> list[Task]:
    """Return different tasks whose two answers differ."""
    draw = np.random.default_rng(seed)
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        kind, length, mark = draw.integers(len(KINDS)), draw.integers(len(LENGTHS)), draw.integers(len(MARKS))
        name = KINDS[kind]
        text = "".join(draw.choice(list(_SYMBOLS.get(name, "0123456789")), LENGTHS[length]))
        question = f"{MARKS[mark]}{name}{text}>"
        right, habit = solve(name, text)
        if right != habit and question not in without:
            cell = int((kind * len(LENGTHS) + length) * len(MARKS) + mark)
            tasks[question] = Task(question, right, habit, cell)
    return list(tasks.values())


def encode(questions: list[str], answers: list[str]) -> tuple[Tensor, Tensor]:
    """Return tokens of questions ``(N, QUESTION)`` and of answers ``(N, ANSWER)``."""
    x = torch.full((len(questions), QUESTION), PAD)
    y = torch.full((len(answers), ANSWER), PAD)
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        x[row, QUESTION - len(question) :] = torch.tensor([CODES[letter] for letter in question])
        y[row, : len(answer) + 1] = torch.tensor([*(CODES[letter] for letter in answer), END])
    return x, y


class Block(nn.Module):
    """Attention and a layer of two matrices, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, length, width = x.shape
        parts = self.project(self.before(x)).view(rows, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.narrow(F.gelu(self.wide(self.between(x)))), (key, value)


class GPT(nn.Module):
    """A decoder of two blocks, 229,000 parameters."""

    def __init__(self, width: int = 96, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), width)
        self.places = nn.Embedding(QUESTION + ANSWER, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(LETTERS))

    def forward(
        self, tokens: Tensor, past: list[tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return logits ``(B, T, V)`` and keys and values of all tokens so far."""
        first = 0 if past is None else past[0][0].shape[2]
        x = self.letters(tokens) + self.places(torch.arange(first, first + tokens.shape[1]))
        seen = []
        for number, block in enumerate(self.blocks):
            x, pair = block(x, None if past is None else past[number])
            seen.append(pair)
        return self.head(self.norm(x)), seen


@torch.no_grad()
def rollouts(network: GPT, x: Tensor, group: int, generator: torch.Generator) -> Tensor:
    """Sample answers: ``(B, QUESTION)`` questions to ``(B * group, ANSWER)``, the group side by side."""
    logits, past = network(x)
    past = [(key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)) for key, value in past]
    logits = logits[:, -1].repeat_interleave(group, 0)
    answers = torch.full((len(x) * group, ANSWER), PAD)
    done = torch.zeros(len(answers), dtype=torch.bool)
    for place in range(ANSWER):
        token = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        answers[:, place] = token = torch.where(done, PAD, token)
        done |= token == END
        if done.all() or place == ANSWER - 1:
            break
        step, past = network(token[:, None], past)
        logits = step[:, 0]
    return answers


def success(network: GPT, x: Tensor, y: Tensor, group: int, seed: int) -> NDArray[np.float64]:
    """Return the share of right rollouts of each question: ``(N,)``."""
    generator = torch.Generator().manual_seed(seed)
    found = (rollouts(network, x, group, generator) == y.repeat_interleave(group, 0)).all(1)
    return found.view(-1, group).double().mean(1).numpy()


def log_probabilities(network: GPT, x: Tensor, answers: Tensor) -> Tensor:
    """Return the log-probability of each token of an answer, 0 after its end: ``(B, ANSWER)``."""
    logits, _ = network(torch.cat([x, answers[:, :-1]], 1))
    chosen = F.log_softmax(logits[:, QUESTION - 1 :], 2).gather(2, answers[..., None])[..., 0]
    return chosen * (answers != PAD)


def imitated(path: Path, steps: int = 1000, batch: int = 256, rate: float = 2e-3) -> GPT:
    """Return the network that was taught by imitation; it is kept at ``path``."""
    torch.manual_seed(0)
    network = GPT()
    if path.exists():
        network.load_state_dict(load_file(path))
        return network
    draw, order = np.random.default_rng(5), torch.Generator().manual_seed(0)
    right_share = 1 / (1 + np.exp(-draw.uniform(-5, 4, CELLS)))
    held_out = frozenset(task.question for task in make_tasks(9000, 0))
    tasks = make_tasks(36_000, 99, held_out)
    shown = [t.right if draw.random() < right_share[t.cell] else t.habit for t in tasks]
    x, y = encode([task.question for task in tasks], shown)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - step / steps)
        rows = torch.randint(len(x), (batch,), generator=order)
        loss = -log_probabilities(network, x[rows], y[rows]).sum() / (y[rows] != PAD).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return network
