"""A run directory for a training loop of your own."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakValueDictionary, finalize

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays.distributed import gather_rows, rank_and_size
from ..arrays.generators import generator_states, put_back
from ..arrays.thumbnails import thumbnails
from ..core.state import ACCEPTABLE, opened, pack_history
from ..core.subsampler import Subsampler
from ..errors import (
    DamagedData,
    FallowError,
    damaged,
    invalid,
    invalid_type,
    missing_extra,
    unknown_name,
    wrong_state,
)
from ..files.checked_json import check_kind, finite
from ..files.state_file import dump, parse
from ..results.run import Run
from ..runs.data_file import DataFile, readable
from ..runs.directory import RunDirectory
from ..runs.epoch_file import EpochFile, other_classes
from ..runs.schema import RECORDED, About, SummaryRow
from ..scores import KLDivergence
from ..tasks.console import Console
from .shown_samples import shown_samples, shown_suspects
from .summary import counts, epoch_row, finish

FORMAT = "fallow-recorded-1"
_NEEDED = {"matplotlib": "its chart", "jinja2": "its report"}
_STEP = "Name another folder, or put back a copy of the run."
_METRICS = ("accuracy", "train_accuracy", "test_loss")
_RECORDERS: WeakValueDictionary[str, Recorder] = WeakValueDictionary()
"""The newest recorder of each folder in this process."""


class Stateful(Protocol):
    """Has a state that can be saved: a network, an optimizer, a schedule, a GradScaler."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Load a state."""


class Recorder:
    """Writes a run directory for a training loop of your own: chart, report, samples and states.

    Make it before the first epoch, once the network and the optimizer exist. It follows the subsampler by
    itself: when an epoch has ended, its scores and decisions are written; before the next one begins, the
    state is saved, so that what you do in between (an evaluation, ``scheduler.step()``) is in it. After the
    last epoch it writes ``summary.json``, ``samples.csv``, the chart and ``report.html``. With several ranks
    each makes one, and the first writes.

    >>> # recorder = fallow.Recorder(subsampler, "runs/mine", state={"model": model, "optimizer": optimizer})
    >>> # for epoch in range(subsampler.epoch, 30): ...

    A resumed training goes on with the samples that its epoch has not recorded yet, and is equal to one that
    was never stopped if the loop is: loop ``for epoch in range(subsampler.epoch, epochs)``.

    Args:
        subsampler: of the training.
        out: the folder of the run, new or empty.
        classes: the names of the classes, by class id.
        images: the samples as images, for the report: a dataset of images, or of tuples that begin with one,
            or an array ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, H, W, C)``; uint8, or floats in [0, 1].
        texts: the samples as texts, for the report.
        files: the name of each sample, such as its file.
        state: objects with ``state_dict()`` and ``load_state_dict()``, by name. Without them a run can be
            read, but not resumed.
        resume: load the newest state of a run that is there, and go on with it; without a run a new one is
            begun. So the same program serves a first start and each later one, and a notebook's cell can be
            run again: the recorder that an earlier call made then follows no more.
        accept: settings of the subsampler that may differ from those of the run that is resumed: any of
            ``"policy"``, ``"schedule"`` (as for more epochs), ``"seed"``, ``"min_kept"`` and
            ``"min_kept_per_class"``.

    Attributes:
        subsampler: as given.

    Raises:
        InvalidValue: if the folder is not empty and ``resume`` is not set, or an argument does not fit the
            subsampler.
        DamagedData: if the run to resume is damaged, or of another kind.
        InvalidType: if an argument is of another type.
        WrongState: if another process writes in the folder.
        ModuleNotFoundError: if the extra ``all`` is missing, which draws the chart.
    """

    def __init__(
        self,
        subsampler: Subsampler,
        out: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        images: Any = None,
        texts: Sequence[str] | None = None,
        files: Sequence[str] | None = None,
        state: Mapping[str, Stateful] | None = None,
        resume: bool = False,
        accept: Collection[str] = (),
    ) -> None:
        for package, use in _NEEDED.items():
            if find_spec(package) is None:
                raise missing_extra(f"A Recorder writes {use}, which", package)
        self.subsampler = _checked(subsampler)
        self._objects = _checked_objects(state)
        self._accept = _checked_settings(accept)
        _check_flag("resume", resume)
        self._data = _described(subsampler, classes, files)
        self._images, self._texts = _of_length("images", images, subsampler.n), texts
        _of_length("texts", texts, subsampler.n)
        self._rows: list[dict[str, Any]] = []
        self._metrics: dict[str, float] = {}
        self._reason = subsampler.reason.numpy()
        self._generators: dict[str, Any] | None = None
        self._saved_at: tuple[int, int] | None = None
        self._begun = time.perf_counter()
        self._seconds = 0.0
        self._finished = False
        self._first = rank_and_size()[0] == 0
        self._replaced = False
        folder = RunDirectory(out)
        place = os.path.realpath(folder.path)
        exists = bool(folder.checkpoints.numbers() or folder.epochs())
        if exists and not resume:
            step = "Name another folder, or go on with it: Recorder(..., resume=True)."
            raise invalid("The folder of a new run must be new or empty.", f"a run in {out}", step)
        earlier = _RECORDERS.get(place) if resume else None
        hands_over = earlier is not None and earlier._run.locked
        if earlier is not None:
            earlier.close()
        self._run: RunDirectory = folder
        try:
            if self._first:
                self._run = RunDirectory.reopen(out) if exists else RunDirectory.create(out)
                finalize(self, self._run.release)  # a loop that an error ended leaves its recorder behind
            if exists:
                self._load()
            if images is not None:
                self._read_images([0])  # a wrong shape is found before the training
        except BaseException:
            self.close()
            if earlier is not None and hands_over:
                earlier._run.lock()
            raise
        if earlier is not None:
            earlier._replaced = True
        _RECORDERS[place] = self
        subsampler.observe(self)
        if subsampler.epoch >= subsampler.epochs:
            self._finished = True
            self.close()

    @property
    def run(self) -> Run:
        """The run as it is on disk; see :class:`fallow.Run`."""
        return Run(self._run.path)

    def log(self, *, accuracy: float | None = None, test_loss: float | None = None) -> None:
        """Note the result of an evaluation, for the epoch whose samples were recorded last.

        Args:
            accuracy: in [0, 1].
            test_loss: the mean loss.

        Raises:
            InvalidValue: if the accuracy is outside [0, 1].
            InvalidType: if one of them is no number.
        """
        self._check_alone()
        given = {"accuracy": accuracy, "test_loss": test_loss}
        values: dict[str, float] = {}
        for name, value in given.items():
            try:
                if isinstance(value, bool):
                    raise TypeError
                values |= {} if value is None else {name: float(value)}
            except (TypeError, ValueError):
                raise invalid_type(f"`{name}` must be a number.", repr(value)) from None
        if not 0 <= values.get("accuracy", 0) <= 1:
            raise invalid("`accuracy` must be in [0, 1].", values["accuracy"], "Divide a percentage by 100.")
        if self._rows and self.subsampler.under_way.scores.untouched:
            self._rows[-1] |= values
            if self._finished and self._first:
                self._write_results()
        else:
            self._metrics |= values

    def save(self) -> None:
        """Save the state now, inside an epoch too; call it on every rank, after an optimizer step."""
        self._check_alone()
        subsampler = {**opened(self.subsampler.state_dict()), "history": []}
        generators = np.frombuffer(bytearray(dump(generator_states())), np.uint8)
        tree = {
            "format": FORMAT,
            "subsampler": subsampler,
            "objects": {name: each.state_dict() for name, each in self._objects.items()},
            "generators": [part for (part,) in gather_rows(generators)],
            "rows": self._rows,
            "metrics": self._metrics,
            "record_seconds": [record.record_seconds for record in self.subsampler.history],
            "seconds": self._seconds,
        }
        self._saved_at = self._place()
        if self._first:
            self._write_data()
            epoch, recorded = int(subsampler["epoch"]), int(subsampler["table"]["recorded"])
            self._run.checkpoints.write(dump(tree), self._about(epoch, recorded), self._run.needed(epoch))

    def epoch_begins(self) -> None:
        """Save the state before an epoch; the subsampler calls it."""
        self._check_alone()
        self._begun = time.perf_counter()
        self._reason = self.subsampler.reason.numpy()
        if self._generators is not None:
            # As late as this, since making a loader has drawn numbers, in the first session as well.
            put_back(self._generators)
            self._generators = None
        elif self._saved_at != self._place():
            self.save()

    def epoch_ended(self) -> None:
        """Write the epoch that has ended, and the results after the last one; the subsampler calls it."""
        self._check_alone()
        seconds, record = time.perf_counter() - self._begun, self.subsampler.history[-1]
        self._seconds += seconds
        metrics = {**dict.fromkeys(_METRICS), **self._metrics}
        times = {"seconds": seconds, "waiting_seconds": 0.0, "evaluating_seconds": 0.0}
        self._rows.append(epoch_row(record, counts([record], record.n, None), metrics, times))
        self._metrics = {}
        if self._first:
            self._write_data()
            scores, encode = self.subsampler.scores.numpy(), self.subsampler.under_way.class_ids.encode
            predicted = encode(self.subsampler.predicted.numpy())
            file = EpochFile(record, scores, self._reason, other_classes(predicted, self._data.labels))
            self._run.write_epoch(file)
            self._show()
        self._begun, self._reason = time.perf_counter(), self.subsampler.reason.numpy()
        if self.subsampler.epoch >= self.subsampler.epochs:
            self.save()
            self._finished = True
            if self._first:
                self._write_results()
                self.close()

    def close(self) -> None:
        """Let another process, or another recorder, write in the folder. Called after the last epoch."""
        self._run.release()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_alone(self) -> None:
        if self._replaced:
            step = "Train on with the subsampler of the newer one."
            raise wrong_state(f"A newer Recorder goes on with {self._run.path}.", step)

    def _place(self) -> tuple[int, int]:
        return self.subsampler.epoch, int(self.subsampler.under_way.scores.recorded)

    def _write_data(self) -> None:
        """Describe the samples in the run; not before it trains, so that an empty folder stays one."""
        if self._run.data_path.name not in self._run.digests:
            self._run.put(self._run.data_path, self._data.dump())

    def _about(self, epoch: int, recorded: int) -> About:
        score = self.subsampler.score
        options: dict[str, Any] = {RECORDED: True}
        if isinstance(score, KLDivergence):
            options["score"] = "kl"
        return About(
            options=options,
            epoch=epoch,
            epochs=self.subsampler.epochs,
            recorded=recorded,
            planned=int(self.subsampler.kept.sum()),
            seconds=round(self._seconds, 3),
            score_unit="" if score is None else score.unit,
        )

    def _load(self) -> None:
        """Load the newest sound state of the run."""
        search = self._run.checkpoints.newest()
        if search.found is None:
            raise damaged(f"{self._run.path} must hold a sound state.", "none", _STEP)
        path = self._run.checkpoints.state_path(search.found.number)
        tree = parse(self._run.read(path), str(path))
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            step = "Resume it with fallow train --resume, or name another folder."
            raise damaged(f"{path} must be the state of a loop that a Recorder follows.", "another", step)
        try:
            self._take(tree)
        except FallowError:
            raise
        except Exception as error:  # a damaged state may make torch raise errors of any type
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise damaged(f"{path} must be a state of this training.", f"{message:.300}", _STEP) from error
        self._run.digests.update(search.found.files)
        self._run.checkpoints.trust(search.found)

    def _take(self, tree: dict[str, Any]) -> None:
        saved, mine = tree["objects"].keys(), self._objects.keys()
        if saved != mine:
            step = "Pass the same names in `state`."
            found = (
                f"{', '.join(sorted(mine)) or 'none'}, and in the run {', '.join(sorted(saved)) or 'none'}"
            )
            raise invalid("The objects of a resumed run must be those that were saved.", found, step)
        check_kind(list[SummaryRow], finite(tree["rows"]), f"The state of {self._run.path}", _STEP)
        history = [
            replace(self._run.read_epoch(epoch).record, record_seconds=seconds)
            for epoch, seconds in enumerate(tree["record_seconds"])
        ]
        saved = {**tree["subsampler"], "history": pack_history(history)}
        self.subsampler.load_state_dict(saved, accept=self._accept)
        for name, each in self._objects.items():
            each.load_state_dict(tree["objects"][name])
        self._rows, self._metrics = list(tree["rows"]), dict(tree["metrics"])
        # What is logged after the last epoch is in its summary alone.
        ended = self.run.files.summary
        if self._rows and ended is not None and len(ended.epochs) == len(self._rows):
            last = {name: getattr(ended.epochs[-1], name) for name in _METRICS}
            self._rows[-1] |= {name: value for name, value in last.items() if value is not None}
        self._seconds = float(tree["seconds"])
        parts = tree["generators"]
        data = parts[rank_and_size()[0] % len(parts)]
        self._generators = parse(data.tobytes(), f"the generators of {self._run.path}")
        self._saved_at = self._place()

    def _pictures(self, index: NDArray[np.int64]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        if self._texts is not None:
            shown["texts"] = tuple(str(self._texts[row]) for row in index.tolist())
        if self._images is not None and index.size:
            shown["pictures"] = thumbnails(_stacked(self._read_images(index.tolist())))
        return shown

    def _read_images(self, rows: Sequence[int]) -> list[NDArray[Any]]:
        # A dataset may draw to augment; the training must not notice.
        before = generator_states()
        try:
            return [_image(self._images[row]) for row in rows]
        finally:
            put_back(before)

    def _show(self, suspects: NDArray[np.int64] | None = None) -> None:
        """Write pictures or texts of the samples that a report shows, and of ``suspects``."""
        if self._images is not None or self._texts is not None:
            shown = shown_samples(self.subsampler, self._run.read_epoch, self._pictures, suspects)
            self._run.put(self._run.thumbnails_path, shown.dump())

    def _write_results(self) -> None:
        subsampler = self.subsampler
        policy = {f.name: getattr(subsampler.policy, f.name) for f in fields(subsampler.policy)}  # type: ignore[arg-type]
        settings = {
            "data": "",
            "samples": subsampler.n,
            "epochs": subsampler.epochs,
            "policy": {"name": type(subsampler.policy).__name__} | _plain(policy),
            "kept_steps": subsampler.under_way.kept_steps is not None,
            "min_kept": subsampler.min_kept,
            "min_kept_per_class": subsampler.min_kept_per_class,
            "seed": subsampler.seed,
            "by_default": [],
        }
        # The checksums do not hold while files change.
        self._run.unseal()
        self._show(shown_suspects(self._run))
        finish(
            self._run,
            subsampler,
            self._data,
            self._rows,
            None,
            {
                "finished": True,
                "seconds": self._seconds,
                "steps": None,
                "nothing_left": "",
                "stopped_early": False,
                "evaluated_on": "test",
                "guessing": {"accuracy": None, "loss": None},
                "samples_evaluated": None,
                "data_remarks": [],
                "settings": settings,
            },
            Console.nowhere(),
            self._reason_of,
            loss_in_nats=False,
            own=True,
        )
        self.run.report()
        self._run.seal()

    def _reason_of(self, epoch: int) -> NDArray[np.uint8] | None:
        try:
            return self._run.read_epoch(epoch).reason
        except DamagedData:
            return None


def _checked(subsampler: Any) -> Subsampler:
    if not isinstance(subsampler, Subsampler):
        rule = "`subsampler` must be the fallow.Subsampler of the training."
        raise invalid_type(rule, type(subsampler).__name__)
    return subsampler


def _checked_objects(state: Any) -> dict[str, Stateful]:
    if not isinstance(state, Mapping | None):
        rule = "`state` must hold objects by name, such as {'model': model}."
        raise invalid_type(rule, type(state).__name__)
    objects = dict(state or {})
    for name, each in objects.items():
        if not isinstance(name, str):
            raise invalid_type("`state` must hold objects by name.", repr(name))
        if not callable(getattr(each, "state_dict", None)) or not callable(
            getattr(each, "load_state_dict", None)
        ):
            rule = f"`state[{name!r}]` must have state_dict() and load_state_dict()."
            raise invalid_type(rule, type(each).__name__)
    return objects


def _checked_settings(accept: Any) -> tuple[str, ...]:
    known = [name for name in ACCEPTABLE if name not in ("n", "labels")]
    if isinstance(accept, str) or not isinstance(accept, Collection):
        raise invalid_type("`accept` must be names of settings.", repr(accept), f"Known: {', '.join(known)}.")
    for name in accept:
        if name not in known:
            raise unknown_name("setting in `accept`", str(name), known)
    return tuple(accept)


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise invalid_type(f"`{name}` must be True or False.", repr(value))


def _described(subsampler: Subsampler, classes: Any, files: Any) -> DataFile:
    """Return the description of the samples."""
    labels = subsampler.labels
    known = None if labels is None else subsampler.under_way.class_ids.encode(labels.numpy())
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Iterable)):
        raise invalid_type("`classes` must be the names of the classes, in order.", repr(classes))
    names = None if classes is None else readable(tuple(map(str, classes)))
    if names is not None:
        if known is None:
            raise invalid(
                "`classes` needs the labels of the samples.", "none", "Subsampler(..., labels=...)."
            )
        if known.size and len(names) <= int(known.max()):
            raise invalid("`classes` must name every class.", f"{len(names)} names, class {int(known.max())}")
    _of_length("files", files, subsampler.n)
    named = None if files is None else readable(tuple(map(str, files)))
    return DataFile(subsampler.n, known, None, names, named)


def _of_length(name: str, samples: Any, n: int) -> Any:
    if samples is None:
        return None
    try:
        length = len(samples)
    except TypeError:
        raise invalid_type(f"`{name}` must hold one value per sample.", type(samples).__name__) from None
    if length != n:
        raise invalid(f"`{name}` must hold one value per sample, {n:,}.", f"{length:,}")
    return samples


def _image(sample: Any) -> NDArray[Any]:
    """Return one image as ``(C, H, W)``."""
    image = sample[0] if isinstance(sample, tuple | list) else sample
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape[0] not in (1, 3, 4) and array.shape[2] in (1, 3, 4):
        array = array.transpose(2, 0, 1)
    if array.ndim != 3:
        rule = "`images` must hold images (H, W), (C, H, W) or (H, W, C)."
        step = "Reshape them, or leave `images` out: the report then shows no pictures."
        raise invalid(rule, f"shape {array.shape}", step)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _stacked(images: list[NDArray[Any]]) -> NDArray[Any]:
    """Return images as one array; each is scaled to the size of the first, by the nearest pixel."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    height, width = images[0].shape[1:]
    scaled = []
    for image in images:
        down = np.arange(height) * image.shape[1] // height
        right = np.arange(width) * image.shape[2] // width
        colours = np.broadcast_to(image[:3], (3, *image.shape[1:])) if len(image) in (1, 2) else image[:3]
        scaled.append(colours[:, down][:, :, right])
    return np.stack(scaled)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values that JSON can hold; others as text."""
    return {k: v if isinstance(v, str | int | float | bool | None) else repr(v) for k, v in values.items()}
