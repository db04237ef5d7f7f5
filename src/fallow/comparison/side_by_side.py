"""Runs that are there already, side by side: what differs, what they reached, and what they left out alike.

Reads the files of the runs; trains nothing and loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..options.train_options import ONCE, TrainOptions, named
from ..policies.base import Reason
from ..runs.data_file import DataFile
from ..runs.highlights import candidates
from ..runs.run_files import RunFiles
from ..runs.schema import Summary
from ..spelling import plural

_UNTOLD = {"by_default"}
"""Entries of the settings that are none."""
_ELSEWHERE = ONCE | named(session=True) | {"out"}
"""Options that do not change a training."""


@dataclass(frozen=True)
class RunFacts:
    """What a run did and reached. What is unknown is None: a run has results once it ended or was stopped.

    Attributes:
        name: the shortest end of its path that no other run has.
        path: its folder.
        task: image, text, language-model or autoencoder.
        epochs_done, epochs: finished and planned epochs.
        evaluated_on: ``test`` or ``validation``.
        accuracy, test_loss, bits_per_character: after the last epoch.
        samples_backward: samples trained on, in all epochs.
        samples_forward_only: samples measured without training, in all epochs.
        saved_fraction: the share of full training's samples that was saved.
        seconds: of training.
        wrong_labels: samples left out as outliers in the last epoch for which the network predicts another
            class.
    """

    name: str
    path: str
    task: str | None = None
    epochs_done: int = 0
    epochs: int | None = None
    evaluated_on: str | None = None
    accuracy: float | None = None
    test_loss: float | None = None
    bits_per_character: float | None = None
    samples_backward: int | None = None
    samples_forward_only: int | None = None
    saved_fraction: float | None = None
    seconds: float | None = None
    wrong_labels: int | None = None


@dataclass(frozen=True)
class Overlap:
    """How alike two sets of samples are.

    Attributes:
        both, either: the number of samples in both sets, and in at least one.
        share: ``both / either``, the Jaccard index; None if both sets are empty.
        by_chance: the share to expect of sets of these sizes, drawn at random.
    """

    both: int
    either: int
    share: float | None
    by_chance: float | None


@dataclass(frozen=True)
class Pair:
    """What two runs left out.

    Attributes:
        first, second: their names.
        reason: why it cannot be compared, in a sentence; then the rest is None.
        last: of the samples that the last epoch of each did not train on.
        all: of the same, epoch by epoch, summed over the epochs that both have done.
        epochs: the number of these.
        outliers: of the samples left out as outliers in the last epoch of each.
    """

    first: str
    second: str
    reason: str | None = None
    last: Overlap | None = None
    all: Overlap | None = None
    epochs: int | None = None
    outliers: Overlap | None = None


@dataclass(frozen=True)
class SideBySide:
    """Runs side by side.

    Attributes:
        runs: what each did and reached, in the order in which they were named.
        settings: by name, the value of each run, for the settings that differ; None if a run has none.
        pairs: what each pair of runs left out.
        remarks: what cannot be compared, and why, in sentences.
    """

    runs: list[RunFacts]
    settings: dict[str, list[Any]]
    pairs: list[Pair]
    remarks: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values."""
        return asdict(self)


def side_by_side(paths: Sequence[str | os.PathLike[str]]) -> SideBySide:
    """Compare runs, finished or not, on the same data or not.

    Args:
        paths: the folders of at least two runs.

    Raises:
        InvalidValue: if there are fewer, one is named twice, or a folder holds no run.
        DamagedData: if a file that is read is damaged.
    """
    if len(paths) < 2:
        step = "Name another, or call fallow compare --data for a new comparison."
        raise invalid("Side by side there must be at least two runs.", len(paths), step)
    return compared([RunFiles(path) for path in paths])


def compared(runs: Sequence[RunFiles]) -> SideBySide:
    """Compare runs that are opened already; see :func:`side_by_side`."""
    real = [os.path.realpath(run.directory.path) for run in runs]
    for path in real:
        if real.count(path) > 1:
            raise invalid("Each run must be named once.", f"{path} twice", "Leave one of them out.")
    names = _names(real)
    summaries = [_summary(run) for run in runs]
    facts = [_facts(*each) for each in zip(names, runs, summaries, strict=True)]
    pairs = [_pair(names[i], runs[i], names[k], runs[k]) for i, k in combinations(range(len(runs)), 2)]
    return SideBySide(facts, _settings(runs, summaries), pairs, _remarks(facts, runs, pairs))


def _names(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that differ.

    >>> _names(["/a/x/1", "/a/y/1"]), _names(["/a/x", "/b/y"])
    (['x/1', 'y/1'], ['x', 'y'])
    """
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _summary(run: RunFiles) -> Summary | None:
    """Return the summary of a run; None if it has none of its present epochs, as one that was resumed."""
    summary = run.summary
    return summary if summary is not None and len(summary.epochs) == run.ended else None


def _facts(name: str, run: RunFiles, summary: Summary | None) -> RunFacts:
    task = run.shown_options.task
    seconds = run.about.seconds or None
    known: dict[str, Any] = {"task": task, "epochs": run.about.epochs, "epochs_done": run.ended}
    if run.epochs:
        backward = sum(record.backward for record in run.history)
        known |= {
            "samples_backward": backward,
            "samples_forward_only": sum(record.forward_only for record in run.history),
            "saved_fraction": 1 - backward / max(1, sum(record.n for record in run.history)),
        }
        if run.labels is not None and (predicted := run.predicted) is not None:
            known["wrong_labels"] = candidates(run.last.reason, run.labels, predicted)
    if summary is not None:
        both = {field.name for field in fields(RunFacts)} & set(summary.__struct_fields__) - {"epochs"}
        known |= {key: value for key in both if (value := getattr(summary, key)) is not None}
        seconds = summary.seconds
    return RunFacts(name, str(run.directory.path), **known | {"seconds": seconds})


def _settings(runs: Sequence[RunFiles], summaries: Sequence[Summary | None]) -> dict[str, list[Any]]:
    """Return the settings that differ, from the summaries if all have them, and the options."""
    default = asdict(TrainOptions())
    options = [_flat({**default, **run.options}, _ELSEWHERE) for run in runs]
    used = [_flat(summary.settings) for summary in summaries if summary is not None and summary.settings]
    if len(used) < len(runs):
        used = options
    else:
        # What the summaries hold is what was used; the options say the rest, such as --labels.
        told = {
            word for name in {name for each in used for name in each} for word in (name, name.split()[-1])
        }
        used = [
            {**each, **{name: value for name, value in given.items() if name.split()[0] not in told}}
            for each, given in zip(used, options, strict=True)
        ]
    names = dict.fromkeys(name for settings in used for name in settings)
    rows = {name: [settings.get(name) for settings in used] for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _flat(settings: Mapping[str, Any], without: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """Return settings with those of a mapping beside the others.

    >>> _flat({"policy": {"name": "soft", "high": "auto"}, "seed": 0})
    {'policy': 'soft', 'policy high': 'auto', 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _UNTOLD or name in without:
            continue
        if isinstance(value, Mapping):
            flat |= {name if key == "name" else f"{name} {key}": part for key, part in value.items()}
        else:
            flat[name] = value
    return flat


def _pair(first: str, one: RunFiles, second: str, other: RunFiles) -> Pair:
    for name, run in ((first, one), (second, other)):
        if not run.epochs:
            return Pair(first, second, f"{name} has no finished epoch.")
    if (reason := _other_samples(one.data, other.data)) is not None:
        return Pair(first, second, f"{first} and {second} {reason}")
    lasts = [~run.history[-1].used_mask for run in (one, other)]
    outliers = [run.last.reason == Reason.OUTLIER for run in (one, other)]
    by_number = {record.epoch: record for record in other.history}
    common = [(record, by_number[record.epoch]) for record in one.history if record.epoch in by_number]
    return Pair(
        first,
        second,
        last=_overlap([lasts]),
        all=_overlap([[~a.used_mask, ~b.used_mask] for a, b in common]),
        epochs=len(common),
        outliers=_overlap([outliers]),
    )


def _other_samples(one: DataFile, other: DataFile) -> str | None:
    """Return how the samples of two runs differ, in words; None if they are the same ones, in one order."""
    if one.content is None or other.content is None:
        return "do not both have checksums of their samples, so that these may be others."
    if one.n != other.n:
        return f"have other samples ({one.n:,} and {other.n:,})."
    if (different := int(np.count_nonzero(one.content != other.content))) == 0:
        return None
    if np.array_equal(np.sort(one.content), np.sort(other.content)):
        return "have the same samples in another order."
    return f"have other samples ({different:,} of {one.n:,} differ)."


def _overlap(pairs: Sequence[Sequence[NDArray[np.bool_]]]) -> Overlap:
    """Return the overlap of sets, summed over pairs of masks ``(N,)``; samples of one alone do not count."""
    both = either = 0
    expected = 0.0
    for one, other in pairs:
        n = min(one.size, other.size)
        a, b = one[:n], other[:n]
        both += int(np.count_nonzero(a & b))
        either += int(np.count_nonzero(a | b))
        expected += int(np.count_nonzero(a)) * int(np.count_nonzero(b)) / max(1, n)
    if not either:
        return Overlap(0, 0, None, None)
    return Overlap(both, either, both / either, expected / (both + either - expected))


def _remarks(facts: Sequence[RunFacts], runs: Sequence[RunFiles], pairs: Sequence[Pair]) -> list[str]:
    remarks = []
    tasks = list(dict.fromkeys(each.task for each in facts if each.task is not None))
    if len(tasks) > 1:
        remarks.append(
            f"The tasks differ ({', '.join(tasks)}), so that their accuracies and losses are not comparable."
        )
    if len({each.evaluated_on for each in facts if each.evaluated_on is not None}) > 1:
        remarks.append("Some were measured on test samples and some on validation samples.")
    elif _held_out_differ(runs):
        remarks.append("They were not measured on the same held-out samples.")
    for each in facts:
        if each.epochs is not None and each.epochs_done < each.epochs:
            done = f"{each.epochs_done} of {plural(each.epochs, 'epoch')}"
            remarks.append(f"{each.name} has done {done}, so that what it reached is not final.")
    for one, other in combinations(range(len(runs)), 2):
        a, b = runs[one].data, runs[other].data
        if a.labels is None or b.labels is None or _other_samples(a, b) is not None:
            continue
        text = f"{facts[one].name} and {facts[other].name} have the same samples, but"
        if a.classes != b.classes:
            remarks.append(f"{text} other classes.")
        elif changed := int(np.count_nonzero(a.labels != b.labels)):
            remarks.append(f"{text} other labels for {changed:,} of them.")
    return remarks + _reasons(pairs)


def _reasons(pairs: Sequence[Pair]) -> list[str]:
    """Return why what was left out cannot be compared, each pair once."""
    return [f"What was left out is not compared: {pair.reason}" for pair in pairs if pair.reason is not None]


def _held_out_differ(runs: Sequence[RunFiles]) -> bool:
    """Return whether two runs are known to have other held-out samples."""
    held = [run.data.held_out for run in runs if run.data.held_out is not None]
    return any(not np.array_equal(held[0], other) for other in held[1:])
