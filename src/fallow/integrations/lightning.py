"""A Lightning callback: records each batch, measures what is due, ends the epochs.

>>> # trainer = Trainer(callbacks=[SubsamplingCallback(subsampler)], max_epochs=30)
>>> # trainer.fit(module, subsampler.loader(train_set, batch_size=128), val_loader)

The module is the user's own. It gets its batch as before, without the index, and returns from
``training_step`` a dict with ``loss`` and ``per_sample_loss``, or ``logits`` and ``targets``. It may add
``scores``, ``predicted`` classes and ``backward`` (bool, the rows that the loss trains on), ``(B,)`` each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader

from ..activations import ActivationDensity
from ..arrays.distributed import gather_rows, rank_and_size
from ..core.host_index import HostIndex
from ..core.loading import IndexedCollate, IndexedDataset
from ..core.remeasure import measure
from ..core.subsampler import Subsampler
from ..errors import invalid, invalid_type, wrong_state
from ..scores._logits import one_tensor, wrong_number
from ..scores.base import Score
from ..scores.kl import KLDivergence

Measured: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Scores ``(B,)``, or these and the predicted classes ``(B,)``."""

_HOOK = "on_before_batch_transfer"
_TWO_LINES = (
    "Return from training_step: {'loss': losses.mean(), 'per_sample_loss': losses} "
    "with losses = F.cross_entropy(logits, y, reduction='none'); "
    "or: {'loss': loss, 'logits': logits, 'targets': y}."
)


class SubsamplingCallback(Callback):
    """Lets a Lightning training leave samples out.

    A checkpoint may be saved after any batch. Where gradients accumulate and the batches since the last
    optimizer step have lost theirs, they are trained on again when it is resumed.

    Lightning reads the length of the training loader once for all epochs unless it is told to read it
    again, so the callback sets ``reload_dataloaders_every_n_epochs`` to 1.

    Where the policy weighs samples, the module needs an attribute ``sample_weights``; it is set before
    each step to the weights of the batch, ``(B,)``, or None, and its loss must use them.

    Where the module has a number ``progress``, it is set before each step to ``subsampler.progress``, 0 to
    1, so that the module's own learning rate can follow the steps that really happen.

    Args:
        subsampler: what decides; its ``loader`` is the training loader.
        score: measures ``logits`` against ``targets`` where the module returns those.
        score_batch: ``batch -> (B,)`` scores for re-measuring, or a pair of scores and predicted classes; by
            default ``module.score_batch`` or else what ``training_step`` returns, with its logging off.
        batch_size: samples a forward pass when re-measuring.
        watch: scores by the density of activations instead; ``training_step`` need then return no per-sample
            loss. Of its panel, samples that are left out are looked at by a forward pass an epoch.

    Attributes:
        probed: how many samples of the panel were looked at in the epoch that ended last.
        classes: how many there are; ``logits`` of samples with one class id each must then have as many
            columns. None if nobody knows.
        before_batch: called when a training batch has been fetched, before anything is done with it: all of
            the one before is over then, other callbacks and the module's own hooks included.
    """

    def __init__(
        self,
        subsampler: Subsampler,
        score: Score | Callable[[Tensor, Tensor], Tensor] | None = None,
        score_batch: Callable[[Any], Measured] | None = None,
        batch_size: int = 512,
        watch: ActivationDensity | None = None,
    ) -> None:
        self.subsampler = subsampler
        self.watch, self.probed = watch, 0
        self.score = score or subsampler.score or KLDivergence()
        self.score_batch = score_batch
        self.batch_size = batch_size
        self.classes: int | None = None
        self.before_batch: Callable[[Trainer], None] = lambda trainer: None
        self._index: Tensor | None = None
        self._steps = 0
        self._undo: Callable[[], None] = lambda: None

    @property
    def state_key(self) -> str:
        """The name of this part in a checkpoint, which stays; a subclass has a name of its own."""
        return "SubsamplingCallback" if type(self) is SubsamplingCallback else type(self).__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the index taken off each batch on its way to the module, and lengths read each epoch."""
        if stage != "fit":
            return
        self.check_module(pl_module)
        settings: Any = trainer
        if settings.reload_dataloaders_every_n_epochs == 0:
            settings.reload_dataloaders_every_n_epochs = 1
        planned = self.subsampler.schedule.epochs
        if trainer.max_epochs != planned and trainer.max_steps == -1:
            raise invalid(
                f"Trainer(max_epochs=...) must be {planned}, the epochs of the Schedule.", trainer.max_epochs
            )
        datamodule = getattr(trainer, "datamodule", None)
        theirs = datamodule is None or (
            is_overridden(_HOOK, pl_module) and not is_overridden(_HOOK, datamodule)
        )
        owner = pl_module if theirs else datamodule
        before = getattr(owner, _HOOK)

        def take_index(batch: Any, dataloader_idx: int) -> Any:
            if trainer.training and isinstance(batch, tuple | list) and isinstance(batch[0], HostIndex):
                self.before_batch(trainer)
                self._index, batch = batch
                self._steps = trainer.global_step
            return before(batch, dataloader_idx)

        setattr(owner, _HOOK, take_index)
        self._undo = lambda: owner.__dict__.pop(_HOOK, None)

    def check_module(self, module: LightningModule) -> None:
        """Raise where the policy weighs samples and the module has no ``sample_weights``."""
        if self.subsampler.policy.weighs and not hasattr(module, "sample_weights"):
            raise wrong_state(
                f"{self.subsampler.policy!r} weighs samples, and the module does not.",
                "Give the module an attribute `sample_weights = None` and use it in the loss, "
                "or choose a policy with weighted=False.",
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._undo()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Hand the weights of the batch and the progress of the training to the module."""
        if self._index is None:
            raise wrong_state(
                "The training batches carry no index.",
                "Pass subsampler.loader(train_set, batch_size) to trainer.fit as the training loader.",
            )
        self._show_mask(pl_module, batch)
        weights = self.subsampler.weights(self._index)
        if hasattr(pl_module, "sample_weights"):
            weights = None if weights is None else weights.to(pl_module.device)
            setattr(pl_module, "sample_weights", weights)  # noqa: B010 - the module is the user's
        if isinstance(getattr(pl_module, "progress", None), int | float):
            setattr(pl_module, "progress", self.subsampler.progress)  # noqa: B010 - the module is the user's

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the scores of the batch; rows that ``backward`` leaves out count as measured."""
        assert self._index is not None
        losses, scores = self._read(outputs, len(self._index))
        if self.watch is not None:
            scores = self.watch.scores(self._index)
        self.subsampler.record(
            self._index,
            losses,
            scores,
            outputs.get("predicted"),
            outputs.get("backward"),
            accumulating=trainer.global_step == self._steps,
        )
        self._index = None

    def _show_mask(self, module: LightningModule, batch: Any) -> None:
        """Tell the density which tokens of a batch count and which rows each forward pass sees.

        A module may have ``token_mask(batch)`` and ``rows_of_passes(batch)``.
        """
        if self.watch is not None:
            mask, rows = (getattr(module, name, None) for name in ("token_mask", "rows_of_passes"))
            self.watch.taps.expect(*(None if told is None else told(batch) for told in (mask, rows)))

    def _read(self, outputs: Any, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return per-sample losses, and scores where they are something else."""
        if self.watch is not None and not (isinstance(outputs, dict) and "per_sample_loss" in outputs):
            return torch.zeros(batch), None
        if not isinstance(outputs, dict):
            raise invalid_type("training_step must return a dict.", type(outputs).__name__, _TWO_LINES)
        if "per_sample_loss" in outputs:
            return outputs["per_sample_loss"].detach(), outputs.get("scores")
        if "logits" in outputs and "targets" in outputs:
            _check_columns(outputs["logits"], outputs["targets"], self.classes)
            with torch.no_grad():
                return self.score(outputs["logits"], outputs["targets"]), None
        found = ", ".join(outputs) or "an empty dict"
        raise invalid("training_step must return per-sample losses.", found, _TWO_LINES)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is due, and plan the next epoch."""
        if self.subsampler.epoch >= self.subsampler.schedule.epochs:
            return
        dataset, collate = _indexed_parts(trainer)
        measured: list[Tensor] = []

        def score(index: Tensor, batch: Any) -> Measured:
            measured.append(index)
            return self._measure(trainer, pl_module, index, batch)

        with _silent(pl_module), trainer.precision_plugin.train_step_context():
            self.subsampler.remeasure(dataset, score, self.batch_size, collate_fn=collate, num_workers=0)
            if self.watch is not None:
                self._probe(self.watch, dataset, collate, score, measured)
        self.subsampler.step()

    def _probe(
        self,
        watch: ActivationDensity,
        dataset: Any,
        collate: Any,
        score: Callable[[Tensor, Any], Measured],
        measured: list[Tensor],
    ) -> None:
        """Look at what is left out of the panel, so that its density is that of the whole training set."""
        rank, size = rank_and_size()
        members = torch.from_numpy(watch.panel.index)
        seen = gather_rows(torch.cat([torch.zeros(0, dtype=torch.int64), *measured]).numpy())
        left_out = members[~self.subsampler.kept[members]].numpy()
        left_out = np.setdiff1d(left_out, np.concatenate([part for (part,) in seen]))
        self.probed = len(left_out)
        mine = np.array_split(left_out, size)[rank]
        measure(dataset, self.subsampler.n, mine, score, self.batch_size, collate, {"num_workers": 0})
        watch.refresh()

    def _measure(self, trainer: Trainer, module: LightningModule, index: Tensor, batch: Any) -> Measured:
        """Return the scores of a batch by a forward pass of the module, on its device."""
        found = self._scores_of(trainer, module, len(index), batch)
        if self.watch is None:
            return found
        scores = self.watch.measure(index)
        return (scores, found[1]) if isinstance(found, tuple) else scores

    def _scores_of(self, trainer: Trainer, module: LightningModule, count: int, batch: Any) -> Measured:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        self._show_mask(module, batch)
        score_batch = self.score_batch or getattr(module, "score_batch", None)
        if score_batch is not None:
            found: Measured = score_batch(batch)
            return found
        outputs: Any = module.training_step(batch, 0)
        losses, scores = self._read(outputs, count)
        scores = losses if scores is None else scores
        told = isinstance(outputs, dict) and "predicted" in outputs
        return (scores, outputs["predicted"]) if told else scores

    def state_dict(self) -> dict[str, Any]:
        """Return the subsampler's state, and the density's; Lightning saves it in its checkpoints."""
        watch = {} if self.watch is None else {"watch": self.watch.state_dict()}
        return {"subsampler": self.subsampler.state_dict(), **watch}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Warn if the optimizer has made the step of a batch that is not recorded yet."""
        if trainer.training and self._index is not None and trainer.global_step != self._steps:
            warnings.warn(
                "A checkpoint was saved inside a batch, after its optimizer step: resumed from it, the "
                "training takes that step again. Save it from ModelCheckpoint, or from a callback that comes "
                "after SubsamplingCallback.",
                stacklevel=2,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the subsampler's state over, and the density's."""
        self.subsampler.load_state_dict(state_dict["subsampler"])
        if self.watch is not None and "watch" in state_dict:
            self.watch.load_state_dict(state_dict["watch"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Begin where the subsampler stopped.

        Its loader gives the rest of an epoch, so Lightning's own loops, which would leave out as many batches
        again, are not put back; only its counts of epochs and steps are.
        """
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if trainer.state.fn == "fit" and state is not None:
            epoch, step = int(state["subsampler"]["epoch"]), int(checkpoint["global_step"])
            _count_from(trainer, epoch, step, checkpoint.pop("loops", {}))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise for a checkpoint from between the last batch of an epoch and its end: nothing would train."""
        if self.subsampler.under_way.exhausted:
            raise wrong_state(
                f"All batches of epoch {self.subsampler.epoch + 1} of {self.subsampler.schedule.epochs} were "
                "done when the checkpoint was saved.",
                "Take one from the end of an epoch: ModelCheckpoint(save_on_train_epoch_end=True).",
            )


def _check_columns(logits: Any, targets: Any, classes: int | None) -> None:
    """Raise for logits that are not a tensor, or have another number of columns than there are classes."""
    name = "training_step"
    one_tensor(logits, f"{name} must return logits as one tensor, (B, classes).")
    if (
        not isinstance(targets, Tensor)
        or targets.is_floating_point()
        or targets.dim() != 1
        or logits.dim() != 2
    ):
        return
    columns = int(logits.shape[1])
    if classes is not None:
        if columns != classes:
            raise wrong_number(f"The logits that {name} returns", columns, classes)
    elif targets.device.type == "cpu" and targets.numel() and 1 < columns <= int(targets.max()):
        raise wrong_number(f"The logits that {name} returns", columns, int(targets.max()) + 1)


def _count_from(trainer: Trainer, epoch: int, step: int, loops: dict[str, Any]) -> None:
    """Let a trainer count epochs and steps from there, as if it had come so far by itself."""
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    _count(fit.epoch_progress.total, epoch)
    _count(fit.epoch_progress.current, epoch)
    automatic = loop.automatic_optimization.optim_progress.optimizer.step.total
    for steps in (automatic, loop.manual_optimization.optim_step_progress.total):
        steps.ready = steps.completed = step
    before = loops.get("fit_loop", {})
    if isinstance(own := before.get("epoch_loop.state_dict"), dict):
        loop.on_load_checkpoint(own)  # the steps that its loggers count
    done = before.get("epoch_loop.batch_progress", {}).get("total", {}).get("completed", step)
    _count(loop.batch_progress.total, done)


def _count(counts: Any, number: int) -> None:
    counts.ready = counts.started = counts.processed = counts.completed = number


def _indexed_parts(trainer: Trainer) -> tuple[Any, Any]:
    """Return dataset and collate function of the training loader, which must be the subsampler's."""
    loader: Any = trainer.train_dataloader
    indexed = isinstance(loader, DataLoader) and isinstance(loader.dataset, IndexedDataset)
    if not indexed or not isinstance(loader.collate_fn, IndexedCollate):
        raise wrong_state(
            "The training loader is not the subsampler's.",
            "Pass subsampler.loader(train_set, batch_size) to trainer.fit as the training loader.",
        )
    return loader.dataset.dataset, loader.collate_fn.collate


@contextmanager
def _silent(module: LightningModule) -> Iterator[None]:
    """Let ``self.log`` of a module do nothing for a while."""
    names = ("log", "log_dict")
    for name in names:
        setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in names:
            module.__dict__.pop(name, None)
