"""What options become where nothing is said: by the task, the data and each other. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..datasets.names import KNOWN
from .train_options import OPTIONS, TEXT_TASKS, TrainOptions

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
USUAL_SHARE, SHARE_OF_TEXT = 0.2, 0.1
"""The share that is held out where nothing is said; of a FILE.txt."""
_MODELS = {"text": "small-transformer", "language-model": "small-gpt"}
_WEIGHT_DECAY = {"text": 0.05, "language-model": 0.1}


def resolve(options: TrainOptions) -> TrainOptions:
    """Return the options with task, network, policy and what depends on them; itself if all are named."""
    task = _task(options) if options.task == "auto" else options.task
    model = _MODELS.get(task, "small-conv") if options.model == "auto" else options.model
    share = usual_share(options.data) if options.test_share is None else options.test_share
    decay = _WEIGHT_DECAY.get(task, 5e-4) if options.weight_decay is None else options.weight_decay
    policy = _policy(options, task) if options.policy == "auto" else options.policy
    found = replace(options, task=task, model=model, weight_decay=decay, test_share=share, policy=policy)
    return options if found == options else found


def planned_epochs(options: TrainOptions) -> int:
    """Return how many epochs the training has, named or by default."""
    usual = 10 if resolve(options).task in TEXT_TASKS else 20
    return options.epochs or (30 if options.data == "digits" else usual)


def high_side(options: TrainOptions) -> float | str | None:
    """Return the bound above which samples are outliers; None for no such side."""
    if options.high is None:
        # Without labels nothing tells a wrong one from a rare one.
        return "auto" if options.policy == "soft" and options.task != "language-model" else None
    return None if options.high == "none" else options.high


def usual_share(data: str) -> float:
    """Return the share that is held out of data of a name by default."""
    return SHARE_OF_TEXT if data.lower().endswith(".txt") else USUAL_SHARE


def _task(options: TrainOptions) -> str:
    """Return what data are for, where nothing is said."""
    name = options.data
    if name.lower().endswith(".txt"):
        return "language-model"
    if name in KNOWN:
        return "image"
    if options.label is not None:
        return "text"
    if options.text is not None:
        return "language-model"
    table = name.startswith("hf:") or Path(name).suffix.lower() in TABLES
    return "text" if table or _holds_tables(name) else "image"


def _policy(options: TrainOptions, task: str) -> str:
    """Return which samples are left out where nothing is said: what did best in benchmarks/RESULTS.md."""
    of_draws = (name for name, known in OPTIONS.items() if known.policies == ("soft",))
    drawn = any(getattr(options, name) is not None for name in of_draws)
    return "fraction" if task == "language-model" and options.score == "kl" and not drawn else "soft"


def is_table(name: str) -> bool:
    """Return whether texts of this name come from a table, whose columns can be named."""
    return not name.lower().endswith(".txt")


def _holds_tables(name: str) -> bool:
    """Return whether a folder has a table named train."""
    try:
        return any(Path(name, f"train{suffix}").is_file() for suffix in TABLES)
    except (OSError, ValueError):
        return False
