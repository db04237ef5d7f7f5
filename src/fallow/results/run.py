"""Open a run in Python."""

from __future__ import annotations

import os
from base64 import b64encode
from functools import cached_property, partial
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from ..core.history import resized
from ..errors import check_integer, invalid_type
from ..files.checked_json import parse_json
from ..policies.base import Reason
from ..runs.export import history_blocks, sample_blocks
from ..runs.run_files import RunFiles
from ..runs.sample_history import history_of, sample_of
from ..runs.sample_names import relative
from ..runs.suspects import find_suspects
from ..spelling import one_line
from .frames import chosen, frame

_DPI = 80


class Run:
    """The folder of a run: samples, epochs, chart and report.

    A run that is still training can be opened too; it shows the epochs that had finished when it was opened.
    Nothing in the folder is executed, and no torch is loaded.

    Args:
        path: the folder, from ``fallow train``, :func:`fallow.train` or :class:`fallow.Recorder`.
        frames: ``"pandas"``, ``"polars"`` or ``"arrow"``: the kind of :attr:`samples` and :attr:`epochs`. By
            default the first of them that is imported, or else installed.

    Attributes:
        files: the parts of the run as they were written, for programs that read more of it.

    Raises:
        InvalidValue: if there is no run, or ``frames`` is another word.
    """

    def __init__(self, path: str | os.PathLike[str], *, frames: str | None = None) -> None:
        self.files = RunFiles(path)
        self._frames = None if frames is None else chosen(frames)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.files.directory.path

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.files.finished

    @property
    def options(self) -> dict[str, Any]:
        """The options of the training, by name."""
        return dict(self.files.options)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``; empty before the training has ended or was stopped.

        Raises:
            DamagedData: if it is damaged.
        """
        if self.files.summary is None:
            return {}
        path = self.files.directory.summary_path
        content: dict[str, Any] = parse_json(self.files.read(path), str(path), "Put back a copy of it.")
        return content

    @cached_property
    def samples(self) -> Any:
        """The training samples after the last finished epoch, as a data frame.

        The columns are ``index``; ``file``, ``label`` and ``predicted`` (the class that the network predicted
        when it last saw the sample), missing where they are unknown; ``score``, the last one, in the unit of
        the run; ``reason`` (``kept``, ``learned``, ``outlier``, ``not drawn``, ``by hand``); and
        ``times_used``, the number of epochs that trained on the sample.

        Raises:
            InvalidValue: if no epoch is finished.
            DamagedData: if a file of the run is damaged.
            ModuleNotFoundError: if neither pandas nor Polars nor pyarrow is installed.
        """
        blocks = list(sample_blocks(self.files))
        table = {name: _joined([block[name] for block in blocks]) for name in blocks[0]}
        data, texts = self.files.shown_options.data or "", [reason.text for reason in Reason]
        return self._frame(
            {
                "index": table["sample"],
                "file": [None if name is None else relative(name, data) for name in table["file"]],
                "label": table["label"],
                "predicted": table["predicted"],
                "score": table["score"].astype(np.float64),
                "reason": [texts[number] for number in table["reason"].tolist()],
                "times_used": table["times_used"].astype(np.int64),
            }
        )

    @cached_property
    def epochs(self) -> Any:
        """The finished epochs as a data frame.

        The columns are ``epoch``, from 0; ``samples_full``, ``samples_backward`` (trained on) and
        ``samples_forward_only`` (measured); ``kept``, ``learned``, ``outliers``, ``not_drawn`` and
        ``by_hand``, which sum to the number of samples; ``mean_score``; and what is known by the newest state
        or ``summary.json`` of ``accuracy``, ``train_accuracy``, ``test_loss`` and ``seconds``.

        Raises:
            InvalidValue, DamagedData, ModuleNotFoundError: as :attr:`samples`.
        """
        history = self.files.history
        counts = ("kept", "learned", "outliers", "not_drawn", "by_hand")
        columns: dict[str, Any] = {
            "epoch": [record.epoch for record in history],
            "samples_full": [record.n for record in history],
            "samples_backward": [record.backward for record in history],
            "samples_forward_only": [record.forward_only for record in history],
            **{name: [getattr(record, name) for record in history] for name in counts},
            "mean_score": [record.mean_score for record in history],
        }
        rows = {row.epoch: row for row in self.files.reached}
        for name in ("accuracy", "train_accuracy", "test_loss", "seconds"):
            values = [getattr(rows.get(record.epoch), name, None) for record in history]
            if any(value is not None for value in values):
                columns[name] = values
        return self._frame(columns)

    @cached_property
    def history(self) -> Any:
        """Each sample in each finished epoch, as a data frame: one row for each of the two.

        The columns are ``epoch``, from 0; ``index``; ``score``, the last one that the sample had then (its
        loss, unless another score was chosen), missing if it had none; ``used``, whether the epoch trained on
        it; and ``reason``, as in :attr:`samples`. ``run.history.to_csv("losses.csv")`` writes the loss of
        every sample by epoch; :command:`fallow export` writes runs that do not fit into memory.

        Raises:
            InvalidValue, DamagedData, ModuleNotFoundError: as :attr:`samples`.
        """
        blocks = list(history_blocks(self.files))
        table = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        texts = [reason.text for reason in Reason]
        return self._frame(
            {
                "epoch": table["epoch"].astype(np.int64),
                "index": table["sample"],
                "score": table["score"].astype(np.float64),
                "used": table["used"],
                "reason": [texts[number] for number in table["reason"].tolist()],
            }
        )

    @property
    def plot(self) -> Plots:
        """The charts of the run, each a method that returns a figure of matplotlib."""
        return Plots(self)

    def report(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, one HTML page, and return its path.

        Args:
            out: the file; ``report.html`` in the run's folder by default.

        Raises:
            InvalidValue: if no epoch is finished, or ``out`` is a file of the run.
            ModuleNotFoundError: if jinja2 is missing.
        """
        from ..report import write_report

        if out is not None and not isinstance(out, str | os.PathLike):
            raise invalid_type("`out` must be the path of a file.", repr(out))
        return write_report(RunFiles(self.path), None if out is None else Path(out))

    def suspects(self, count: int | None = None) -> Any:
        """Return the samples whose labels look wrong, the surest first, as a data frame.

        The columns are ``index``, ``file``, ``given`` and ``suggested`` (names of classes) and
        ``confidence``, in [0, 1]; see ``fallow suspects``.

        Args:
            count: the largest number of them; None for all.

        Raises:
            InvalidValue: if no epoch is finished, the run has no labels to judge, or the count is below 1.
            InvalidType: if the count is no integer.
        """
        if count is not None:
            check_integer("count", count, 1)
        found = find_suspects(self.files, count).suspects
        names = ("index", "file", "given", "suggested", "confidence")
        return self._frame({name: [getattr(each, name) for each in found] for name in names})

    def inspect(self, sample: int | str) -> Any:
        """Return the history of one sample as a data frame: ``epoch``, ``used``, ``score``, ``reason``.

        Args:
            sample: the index, or the file as :attr:`samples` names it.

        Raises:
            InvalidValue: if there is no such sample.
        """
        rows = history_of(self.files, sample_of(self.files, str(sample))).epochs
        names = ("epoch", "used", "score", "reason")
        return self._frame({name: [getattr(row, name) for row in rows] for name in names})

    def _frame(self, columns: dict[str, Any]) -> Any:
        return frame(columns, chosen(None) if self._frames is None else self._frames)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}): {self.files.status}"

    def _repr_html_(self) -> str:
        """Return facts and the chart, for a notebook."""
        facts = [("Run", str(self.path)), ("Progress", self.files.status)]
        summary = self.files.summary
        if summary is not None:
            if summary.accuracy is not None:
                facts.append((f"{summary.evaluated_on.capitalize()} accuracy", f"{summary.accuracy:.2%}"))
            if summary.saved_fraction is not None:
                facts.append(("Saved", f"{summary.saved_fraction:.1%} of the samples"))
            if summary.seconds is not None:
                facts.append(("Time", f"{summary.seconds:.1f} s"))
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(one_line(name))}</th>"
            f"<td style='text-align:left'>{escape(one_line(value))}</td></tr>"
            for name, value in facts
        )
        if not self.files.epochs:
            return f"<table>{rows}</table>"
        picture = b64encode(_png(self.plot.usage())).decode()
        return (
            f"<table>{rows}</table><img alt='Which samples were used' src='data:image/png;base64,{picture}'>"
        )


class Plots:
    """The charts of a run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def usage(self) -> Any:
        """Return the chart of which samples were used in which epoch, why others were not, and the scores.

        It is a figure of matplotlib: a notebook shows it, ``figure.savefig("usage.png")`` writes it.

        Raises:
            InvalidValue: if no epoch is finished.
            ModuleNotFoundError: if matplotlib is missing.
        """
        from ..report.charts import reached_of, usage_chart

        files = self._run.files
        n, summary = files.last.record.remaining, files.summary
        rows = [] if summary is None else [structs.asdict(row) for row in summary.epochs]
        figure = usage_chart(
            files.history,
            labels=files.labels,
            classes=files.data.classes,
            scores=resized(files.last.scores, n, np.nan),
            reached=reached_of(rows, "test" if summary is None else summary.evaluated_on),
            reason_of=lambda epoch: files.epoch(epoch).reason,
            unit=files.score_unit,
        )
        # A notebook knows how to show figures only when pyplot is imported, which none of ours needs.
        figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
        return figure


def _joined(parts: list[Any]) -> Any:
    """Return the parts of a column, lists or arrays, as one."""
    return (
        np.concatenate(parts)
        if isinstance(parts[0], np.ndarray)
        else [each for part in parts for each in part]
    )


def _png(figure: Any) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="png", dpi=_DPI)
    return written.getvalue()


def load(path: str | os.PathLike[str], *, frames: str | None = None) -> Run:
    """Open the folder of a run.

    Args:
        path: the folder.
        frames: ``"pandas"``, ``"polars"`` or ``"arrow"``; see :class:`Run`.

    Raises:
        InvalidValue: if there is no run.

    >>> # run = fallow.load("runs/digits")
    >>> # run.samples.sort_values("score").tail()
    """
    return Run(path, frames=frames)
