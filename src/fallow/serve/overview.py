"""The overview of a run: what was kept and saved, what it reached, its classes, what to look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochCounts, EpochRecord
from ..errors import DamagedData, FallowError
from ..report import classes, epochs, facts, text
from ..report.charts.usage_rows import came_back
from ..report.source import FIELDS, Source
from ..runs.schema import SummaryRow
from . import answers
from .call import Call
from .errors import Refused
from .places import last_part
from .served_run import ServedRun

Value = TypeVar("Value")
WORST = 5
_FEW, _BAD = 0.1, 0.05
"""A class that keeps less of its samples, and an epoch with more scores that are not finite, are alerts."""
_ALERTS, _MISSING = 20, 400


def early(run: ServedRun) -> Refused:
    """Return the answer for a part that needs a finished epoch, before there is one."""
    return Refused(409, "early", f"{run.name} has no finished epoch yet. Wait for the first one.")


def source_of(run: ServedRun) -> Source:
    """Return what the parts of a run are made from.

    Raises:
        Refused: if no epoch is finished.
    """
    if not run.epochs:
        if run.damage:
            raise DamagedData(next(iter(run.damage.values())))
        raise early(run)
    return run.source


def number(value: float | None) -> float | None:
    """Return a number that JSON can hold, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def summary(call: Call) -> answers.Summary:
    """Return the overview of a run."""
    run = call.run()
    done = bool(run.epochs)
    options = tried(run, lambda: run.shown_options)
    short = tried(run, lambda: run.source.summary if done else run.summary)
    about, shown = run.about, tried(run, lambda: run.shown)
    facts_ = _Facts.of(run) if done else _Facts()
    rows = tried(run, lambda: _rows(run)) or {}
    latest = rows.get(run.epochs[-1]) if done else None
    row = call.catalog.row(*call.catalog.path(call.ask.run))
    planned = about.planned or None
    recorded = about.recorded / planned if planned else 0.0
    data = None if options is None else options.data
    return answers.Summary(
        run=row,
        title=text.name(last_part(data) if data else run.name),
        policy="" if options is None else run.places.hidden(facts_.policy or facts.rule(options, "")),
        task=None if options is None else options.task,
        samples=facts_.n if done else _samples(run),
        epochs_done=run.ended,
        epochs_read=len(run.epochs),
        last_read=run.epochs[-1] if done else None,
        missing=run.missing[:_MISSING],
        epochs=about.epochs,
        progress=None if not about.epochs else min(1.0, (about.epoch + recorded) / about.epochs),
        unit=tried(run, lambda: run.score_unit) or "",
        evaluated_on="test" if short is None else short.evaluated_on,
        accuracy=_latest(short, latest, "accuracy"),
        train_accuracy=_latest(short, latest, "train_accuracy"),
        test_loss=_latest(short, latest, "test_loss"),
        bits_per_character=_latest(short, latest, "bits_per_character"),
        best=_best(rows),
        seconds=number(about.seconds or (None if short is None else short.seconds)),
        record_seconds=None if short is None else number(short.record_seconds),
        counts=None if not done else answers.Counts(**{f: getattr(run.history[-1], f) for f in FIELDS}),
        counts_sentence="" if not done else epochs.sentence(run.history[-1], run.ended),
        saved=facts_.saved,
        alerts=_alerts(run, facts_, short)[:_ALERTS],
        classes=0 if facts_.exposure is None else facts_.exposure.label.size,
        worst_classes=facts_.worst,
        remarks=[] if short is None else [run.places.hidden(one) for one in facts.passages(short.remarks)],
        data_remarks=[]
        if short is None
        else [run.places.hidden(one) for one in facts.passages(short.data_remarks)][:24],
        has=answers.Has(
            labels=facts_.exposure is not None,
            pictures=(shown is not None and shown.pictures is not None) or run.image(0) is not None,
            texts=shown is not None and shown.texts is not None,
            gaps=run.directory.gaps_path.exists(),
            picks=any(run.directory.path.glob("picks-*.csv")),
            suspects=facts_.exposure is not None and (options is None or options.score != "density"),
        ),
        early=None if done else _early(run),
    )


@dataclass
class _Facts:
    """What an overview says of a run with finished epochs; a part whose file is damaged is missing."""

    n: int = 0
    policy: str = ""
    saved: list[answers.Figure] = field(default_factory=list)
    exposure: classes.Exposure | None = None
    worst: list[answers.ClassRow] = field(default_factory=list)

    @staticmethod
    def of(run: ServedRun) -> _Facts:
        source = run.source
        if tried(run, lambda: source.history) is None:
            raise DamagedData(next(iter(run.damage.values())))
        figures = tried(run, lambda: facts.saved(source)) or []
        exposure = tried(run, lambda: run.exposure)
        rows = [] if exposure is None else class_rows(source, exposure, np.arange(exposure.label.size))
        rows.sort(key=lambda row: (row.kept_share, row.share or 0.0, row.label))
        return _Facts(
            n=source.n,
            policy=tried(run, lambda: facts.policy(source)) or "",
            saved=[
                answers.Figure(
                    key=one.key, title=one.title, value=one.value, number=one.number, formula=one.formula
                )
                for one in figures
            ],
            exposure=exposure,
            worst=rows[:WORST],
        )


def tried(run: ServedRun, part: Callable[[], Value]) -> Value | None:
    """Return a part of a run, or None if its file is damaged, which the run then remembers."""
    try:
        return part()
    except DamagedData as error:
        sentence = run.places.hidden(str(error))
        if sentence not in map(run.places.hidden, run.damage.values()):
            run.damage[sentence.partition(" ")[0]] = str(error)
        return None
    except FallowError:
        return None


def _samples(run: ServedRun) -> int | None:
    data = tried(run, lambda: run.data)
    return None if data is None else data.n


def _early(run: ServedRun) -> str:
    if run.ended:
        epochs = text.plural(run.ended, "epoch")
        return f"None of its {epochs} can be read. Health names the files: put back copies of them."
    if run.about.recorded:
        planned = f" of {run.about.planned:,}" if run.about.planned else ""
        so_far = f"{run.about.recorded:,}{planned} samples so far"
        return f"The first epoch is under way: {so_far}. Scores appear when it ends."
    return "The training has just begun. Scores appear after the first epoch, which trains on all samples."


def _rows(run: ServedRun) -> dict[int, SummaryRow]:
    """Return what each epoch reached, as far as the files say."""
    return {row.epoch: row for row in run.reached}


def _latest(short: Any, latest: SummaryRow | None, name: str) -> float | None:
    value = None if short is None else getattr(short, name)
    return number(value if value is not None or latest is None else getattr(latest, name))


def _best(rows: dict[int, SummaryRow]) -> answers.Best | None:
    bits = {
        e: row.bits_per_character for e, row in rows.items() if number(row.bits_per_character) is not None
    }
    right = {e: row.accuracy for e, row in rows.items() if number(row.accuracy) is not None}
    if bits:
        epoch = min(bits, key=lambda e: bits[e] or 0.0)
        return answers.Best(epoch=epoch, value=float(bits[epoch] or 0.0))
    if right:
        epoch = max(right, key=lambda e: (right[e] or 0.0, -e))
        return answers.Best(epoch=epoch, value=float(right[epoch] or 0.0))
    return None


def _alerts(run: ServedRun, found: _Facts, short: Any) -> list[answers.Alert]:
    """Return what to look at, the worst first."""
    alerts = [
        answers.Alert(level="bad", text=run.places.hidden(sentence), screen="health")
        for sentence in dict.fromkeys(run.damage.values())
    ]
    if short is not None and short.diverged:
        alerts.append(
            answers.Alert(
                level="bad", text="The training diverged: its loss is not finite.", screen="overview"
            )
        )
    for record in run.history if run.epochs and not alerts else ():
        if record.n and record.bad / record.n > _BAD:
            share = text.share(record.bad / record.n)
            sentence = f"{share} of the scores in epoch {record.epoch + 1} are not finite."
            alerts.append(answers.Alert(level="warn", text=sentence, screen="scores"))
    for row in found.worst:
        if row.kept_share < _FEW:
            kept = text.share(row.kept_share, 0)
            sentence = f"The class {row.name} kept {kept} of its {text.plural(row.samples, 'sample')}."
            alerts.append(answers.Alert(level="warn", text=sentence, screen="classes"))
    if run.epochs and run.source.missing:
        alerts.insert(0, answers.Alert(level="bad", text=run.source.missing, screen="health"))
    return alerts


def epochs_of(call: Call) -> answers.Epochs:
    """Return the epochs of a run."""
    run = call.run()
    damaged = [
        answers.DamagedEpoch(epoch=int(name[14:19]), error=run.places.hidden(error))
        for name, error in sorted(run.damage.items())
        if name.startswith("history/epoch-")
    ]
    if not run.epochs and not damaged:
        raise early(run)
    drawn = run.source.drawn if run.epochs else []
    rows = tried(run, lambda: _rows(run)) or {}
    part = tried(run, lambda: run.summary)
    return answers.Epochs(
        total=len(run.epochs),
        epochs=[_epoch(record, rows.get(record.epoch)) for record in drawn],
        readmitted=[drawn[place].epoch for place in came_back(drawn)] if drawn else [],
        missing=run.missing[:_MISSING],
        damaged=damaged,
        evaluated_on="test" if part is None else part.evaluated_on,
    )


def _epoch(record: EpochRecord, row: SummaryRow | None) -> answers.EpochRow:
    reached = ("accuracy", "train_accuracy", "test_loss", "bits_per_character", "seconds")
    values: dict[str, Any] = {name: int(getattr(record, name)) for name in EpochCounts.__struct_fields__}
    if row is not None:
        values |= {name: number(getattr(row, name)) for name in reached}
    return answers.EpochRow(
        **values,
        mean_score=number(record.mean_score),
        quantiles=[number(value) for value in record.score_quantiles],
        notes={name: number(value) for name, value in record.notes.items()},
    )


def class_rows(source: Source, exposure: classes.Exposure, at: NDArray[np.integer]) -> list[answers.ClassRow]:
    """Return the rows of some classes.

    Args:
        source: the run.
        exposure: of all its C classes.
        at: places in it, ``(K,)``.
    """
    even = source.n / max(1, exposure.label.size)
    return [
        answers.ClassRow(
            label=int(exposure.label[i]),
            name=source.class_name(int(exposure.label[i])),
            samples=int(exposure.samples[i]),
            kept=int(exposure.kept[i]),
            kept_share=float(exposure.kept[i] / max(1, exposure.samples[i])),
            outliers=int(exposure.outliers[i]),
            share=number(exposure.share[i]),
            score=number(exposure.score[i]),
            rare=bool(exposure.samples[i] <= even / 2),
        )
        for i in at.tolist()
    ]


def classes_of(call: Call) -> answers.Classes:
    """Return the classes of a run, in the order asked for."""
    run, ask = call.run(), call.ask
    source = source_of(run)
    exposure = run.exposure
    if exposure is None:
        raise Refused(404, "none", "The samples of this run have no labels.")
    if ask.order == "name":
        names = [source.class_name(int(label)).casefold() for label in exposure.label]
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    else:
        keys = {
            "share": exposure.share,
            "samples": -exposure.samples,
            "kept": exposure.kept / np.maximum(1, exposure.samples),
            "score": -np.nan_to_num(exposure.score, nan=-math.inf),
        }
        order = np.argsort(keys[ask.order], kind="stable")
    return answers.Classes(
        total=exposure.label.size, classes=class_rows(source, exposure, order[: ask.limit])
    )
