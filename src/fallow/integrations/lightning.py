"""A Lightning callback that records batches, re-measures samples and ends epochs.

>>> # trainer = Trainer(callbacks=[SubsamplingCallback(subsampler)], max_epochs=30)
>>> # trainer.fit(module, subsampler.loader(train_set, batch_size=128), val_loader)

The LightningModule gets its batch as before, without the index, and returns from ``training_step`` a dict
with ``loss`` and ``per_sample_loss``, or ``logits`` and ``targets``. It may add ``scores``, ``predicted``
classes and ``backward`` (bool, the rows that the loss trains on), ``(B,)`` each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader

from ..activations import ActivationDensity
from ..arrays.distributed import data_group, gather_rows
from ..core.batch_checks import scale_gradient
from ..core.host_index import HostIndex
from ..core.loading import EpochBatches, IndexedCollate, IndexedDataset
from ..core.remeasure import measure
from ..core.state import opened
from ..core.subsampler import Subsampler
from ..errors import damaged, invalid, invalid_type, wrong_state
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
    """Leaves samples out of a Lightning training.

    A checkpoint may be saved after any batch. With accumulated gradients, the batches since the last
    optimizer step are trained on again after a resume, as their gradients are not saved.

    Under ``ModelParallelStrategy`` samples are divided along the data dimension of its mesh. A group that is
    given to ``subsampler.loader`` goes before it. A monitor takes the same ranks.

    Lightning reads the length of the training loader only once by default, so the callback sets
    ``reload_dataloaders_every_n_epochs`` to 1.

    If the policy weights samples, the module needs an attribute ``sample_weights``. Before each step it is
    set to the weights of the batch, ``(B,)``, or None; the loss must use them.

    If the module has a number ``progress``, it is set before each step to ``subsampler.progress``, 0 to 1,
    so that the module's own learning rate can follow the steps that are really made.

    Args:
        subsampler: decides which samples to keep; its ``loader`` is the training loader.
        score: measures ``logits`` against ``targets``, if the module returns those.
        score_batch: ``batch -> (B,)`` scores for re-measuring, or a pair of scores and predicted classes; by
            default ``module.score_batch``, or else what ``training_step`` returns, with its logging off.
        batch_size: of the forward passes for re-measuring.
        monitor: scores samples by the density of their activations instead; ``training_step`` then needs no
            per-sample loss. Once an epoch the left-out samples of its panel get a forward pass.
        watch: the former name of ``monitor``.

    Attributes:
        probed: the number of left-out panel samples that were measured at the end of the last epoch.
        classes: the number of classes, which ``logits`` must have as columns if each sample has one class id;
            None if unknown.
        before_batch: called when a training batch has been fetched, before anything happens to it. All hooks
            of the batch before are done then, those of other callbacks and the module included.
    """

    def __init__(
        self,
        subsampler: Subsampler,
        score: Score | Callable[[Tensor, Tensor], Tensor] | None = None,
        score_batch: Callable[[Any], Measured] | None = None,
        batch_size: int = 512,
        monitor: ActivationDensity | None = None,
        *,
        watch: ActivationDensity | None = None,
    ) -> None:
        if watch is not None:
            warnings.warn(
                "SubsamplingCallback(watch=...) is SubsamplingCallback(monitor=...) now.",
                DeprecationWarning,
                stacklevel=2,
            )
            monitor = watch
        if not isinstance(subsampler, Subsampler):
            raise invalid_type("`subsampler` must be a Subsampler.", type(subsampler).__name__)
        self.subsampler = subsampler
        self.monitor = monitor
        self.probed = 0
        self.score = score or subsampler.score or KLDivergence()
        self.score_batch = score_batch
        self.batch_size = batch_size
        self.classes: int | None = None
        self.before_batch: Callable[[Trainer], None] = lambda trainer: None
        self._index: Tensor | None = None
        self._steps = 0
        self._undo: Callable[[], None] = lambda: None
        self._fitting: Trainer | None = None

    @property
    def state_key(self) -> str:
        """The key of this callback in a checkpoint, fixed; a subclass has its own."""
        return "SubsamplingCallback" if type(self) is SubsamplingCallback else type(self).__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the index off each batch on its way to the module, and have lengths read each epoch."""
        self._fitting = trainer if stage == "fit" else None
        if stage != "fit":
            return
        self.check_module(pl_module)
        self.subsampler.under_way.check_running()
        ranks = self.subsampler.under_way.scores.ranks
        # Ranks that hold parts of one replica get the same samples.
        if ranks.group is None and isinstance(trainer.strategy, ModelParallelStrategy):
            ranks.group = data_group(trainer.strategy.device_mesh)
        settings: Any = trainer
        every = settings.reload_dataloaders_every_n_epochs
        if every not in (0, 1):
            step = "Leave it out: the length of the loader is that of the present epoch."
            raise invalid("Trainer(reload_dataloaders_every_n_epochs=...) must be 1.", every, step)
        settings.reload_dataloaders_every_n_epochs = 1
        planned = self.subsampler.schedule.epochs
        if trainer.max_epochs != planned and trainer.max_steps == -1:
            raise invalid(
                f"Trainer(max_epochs=...) must be {planned}, the epochs of the Schedule.", trainer.max_epochs
            )
        datamodule = getattr(trainer, "datamodule", None)
        # Lightning calls the hook of the datamodule if that overrides it, and of the module otherwise.
        by_module = datamodule is None or (
            is_overridden(_HOOK, pl_module) and not is_overridden(_HOOK, datamodule)
        )
        owner = pl_module if by_module else datamodule
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
        """Raise if the policy weights samples and the module has no ``sample_weights``."""
        if self.subsampler.policy.weighs and not hasattr(module, "sample_weights"):
            raise wrong_state(
                f"{self.subsampler.policy!r} weights samples, and the module does not.",
                "Give the module an attribute `sample_weights = None` and use it in the loss, "
                "or choose a policy with weighted=False.",
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._undo()
        self._fitting = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the weights of the batch and the progress of the training on the module."""
        if self._index is None:
            raise wrong_state(
                "The training batches carry no index.",
                "Pass subsampler.loader(train_set, batch_size) to trainer.fit as the training loader.",
            )
        self._describe_batch(pl_module, batch)
        weights = self.subsampler.weights(self._index)
        if hasattr(pl_module, "sample_weights"):
            weights = None if weights is None else weights.to(pl_module.device)
            setattr(pl_module, "sample_weights", weights)  # noqa: B010 - the module is the user's
        if isinstance(getattr(pl_module, "progress", None), int | float):
            setattr(pl_module, "progress", self.subsampler.progress)  # noqa: B010 - the module is the user's

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if the training loader is that of another subsampler."""
        batches = getattr(trainer.train_dataloader, "batch_sampler", None)
        if isinstance(batches, EpochBatches) and batches.epoch is not self.subsampler.under_way:
            raise wrong_state(
                "The training loader is that of another subsampler.",
                "Make the loader and the callback with the same one.",
            )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Scale the gradient of the loss as ``Subsampler.record`` scales that of its mean."""
        if self._index is not None:
            scale_gradient(loss, self.subsampler.under_way.gradient_factor(len(self._index)))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Accumulate over as many batches as a step of this epoch has, under kept steps."""
        if self.monitor is not None:  # now that the loader is made, which may have been given a group
            self.monitor.ranks.group = self.subsampler.under_way.scores.ranks.group
        steps = self.subsampler.under_way.kept_steps
        if steps is not None and steps.accumulate > 1:
            trainer.accumulate_grad_batches = self.subsampler.accumulate

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the scores of the batch; rows without ``backward`` count as measured only."""
        assert self._index is not None
        losses, scores = self._read(outputs, len(self._index))
        if self.monitor is not None:
            scores = self.monitor.scores(self._index)
        self.subsampler.record(
            self._index,
            losses,
            scores,
            outputs.get("predicted"),
            outputs.get("backward"),
            accumulating=trainer.global_step == self._steps,  # no optimizer step was made
        )
        self._index = None

    def _describe_batch(self, module: LightningModule, batch: Any) -> None:
        """Tell the monitor a module's ``token_mask(batch)`` and ``rows_of_passes(batch)``, if it has them."""
        if self.monitor is not None:
            methods = [getattr(module, name, None) for name in ("token_mask", "rows_of_passes")]
            self.monitor.taps.expect(*(None if method is None else method(batch) for method in methods))

    def _read(self, outputs: Any, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return per-sample losses, and scores if they differ from the losses."""
        if self.monitor is not None and not (isinstance(outputs, dict) and "per_sample_loss" in outputs):
            return torch.zeros(batch), None
        if not isinstance(outputs, dict):
            raise invalid_type("training_step must return a dict.", type(outputs).__name__, _TWO_LINES)
        if "per_sample_loss" in outputs:
            return outputs["per_sample_loss"].detach(), outputs.get("scores")
        if "logits" in outputs and "targets" in outputs:
            _check_columns(outputs["logits"], outputs["targets"], self.classes)
            with torch.no_grad():
                return self.score(outputs["logits"], outputs["targets"]), None
        keys = ", ".join(outputs) or "an empty dict"
        raise invalid("training_step must return per-sample losses.", keys, _TWO_LINES)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Re-measure the samples that are due, and plan the next epoch."""
        self._take_end(trainer)
        if self.subsampler.epoch >= self.subsampler.epochs:
            return
        dataset, collate = _indexed_parts(trainer)
        measured: list[Tensor] = []

        def score(index: Tensor, batch: Any) -> Measured:
            measured.append(index)
            return self._measure(trainer, pl_module, index, batch)

        with _silent(pl_module), trainer.precision_plugin.train_step_context():
            self.subsampler.remeasure(dataset, score, self.batch_size, collate_fn=collate, num_workers=0)
            if self.monitor is not None:
                self._probe(self.monitor, dataset, collate, score, measured)
        self.subsampler.step()
        self._take_end(trainer)

    def _take_end(self, trainer: Trainer) -> None:
        """Have Lightning end where ``Subsampler.finish`` said."""
        if self.subsampler.epochs < self.subsampler.schedule.epochs:
            trainer.fit_loop.max_epochs = self.subsampler.epochs

    def _probe(
        self,
        monitor: ActivationDensity,
        dataset: Any,
        collate: Any,
        score: Callable[[Tensor, Any], Measured],
        measured: list[Tensor],
    ) -> None:
        """Measure the left-out samples of the panel, so that the density covers the whole training set."""
        ranks = self.subsampler.under_way.scores.ranks
        members = torch.from_numpy(monitor.panel.index)
        index = torch.cat([torch.zeros(0, dtype=torch.int64), *measured]).numpy()
        seen = gather_rows(index, group=ranks.group)
        left_out = members[~self.subsampler.kept[members]].numpy()
        left_out = np.setdiff1d(left_out, np.concatenate([part for (part,) in seen]))
        self.probed = len(left_out)
        part = np.array_split(left_out, ranks.size)[ranks.rank]
        measure(dataset, self.subsampler.n, part, score, self.batch_size, collate, {"num_workers": 0})
        monitor.refresh()

    def _measure(self, trainer: Trainer, module: LightningModule, index: Tensor, batch: Any) -> Measured:
        """Return the scores of a batch by a forward pass of the module, on its device."""
        measured = self._scores_of(trainer, module, len(index), batch)
        if self.monitor is None:
            return measured
        scores = self.monitor.measure(index)
        return (scores, measured[1]) if isinstance(measured, tuple) else scores

    def _scores_of(self, trainer: Trainer, module: LightningModule, count: int, batch: Any) -> Measured:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        self._describe_batch(module, batch)
        score_batch = self.score_batch or getattr(module, "score_batch", None)
        if score_batch is not None:
            measured: Measured = score_batch(batch)
            return measured
        outputs: Any = module.training_step(batch, 0)
        losses, scores = self._read(outputs, count)
        scores = losses if scores is None else scores
        has_classes = isinstance(outputs, dict) and "predicted" in outputs
        return (scores, outputs["predicted"]) if has_classes else scores

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the subsampler and the monitor; Lightning saves them in its checkpoints."""
        state = {"subsampler": self.subsampler.state_dict()}
        if self.monitor is not None:
            state["watch"] = self.monitor.state_dict()  # the key of version 0.1
        return state

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Warn if the optimizer step of a batch is done and the batch is not recorded yet."""
        if trainer.training and self._index is not None and trainer.global_step != self._steps:
            warnings.warn(
                "A checkpoint was saved inside a batch, after its optimizer step. A training resumed from it "
                "takes that step again. Save it by ModelCheckpoint, or by a callback that comes after "
                "SubsamplingCallback.",
                stacklevel=2,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of the subsampler and the monitor."""
        self.subsampler.load_state_dict(state_dict["subsampler"])
        if self.monitor is not None and "watch" in state_dict:
            self.monitor.load_state_dict(state_dict["watch"])
        if self._fitting is not None:
            # Some strategies restore a checkpoint only after on_fit_start.
            self._check_start(self._fitting)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set Lightning's counts of epochs and steps; its loops are not restored.

        The subsampler's loader already gives the rest of the epoch only, and restored loops would skip as
        many batches again.
        """
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if trainer.state.fn == "fit" and state is None:
            raise damaged(
                "A checkpoint to go on from must hold the state of the subsampler.",
                "none",
                "Resume from a checkpoint of a training with SubsamplingCallback, or leave ckpt_path out and "
                "load only its weights.",
            )
        if trainer.state.fn == "fit":
            epoch, step = int(opened(state["subsampler"])["epoch"]), int(checkpoint["global_step"])
            _count_from(trainer, epoch, step, checkpoint.pop("loops", {}))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if the state is from after the last batch of an epoch that had not ended."""
        self._check_start(trainer)

    def _check_start(self, trainer: Trainer) -> None:
        self._take_end(trainer)
        if self.subsampler.under_way.exhausted:
            raise wrong_state(
                f"All batches of epoch {self.subsampler.epoch + 1} of {self.subsampler.epochs} were "
                "done when the checkpoint was saved, but the epoch had not ended.",
                "Resume from the end of an epoch: ModelCheckpoint(save_on_train_epoch_end=True).",
            )


def _check_columns(logits: Any, targets: Any, classes: int | None) -> None:
    """Raise if logits are not a tensor, or the number of their columns is not that of the classes."""
    one_tensor(logits, "training_step must return logits as one tensor, (B, classes).")
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        return
    if targets.dim() != 1 or logits.dim() != 2:
        return
    name = "The logits that training_step returns"
    columns = int(logits.shape[1])
    if classes is not None:
        if columns != classes:
            raise wrong_number(name, columns, classes)
    # On another device reading the largest label would wait for it.
    elif targets.device.type == "cpu" and targets.numel() and 1 < columns <= int(targets.max()):
        raise wrong_number(name, columns, int(targets.max()) + 1)


def _count_from(trainer: Trainer, epoch: int, step: int, loops: dict[str, Any]) -> None:
    """Set a trainer's counts of epochs and steps."""
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    _count(fit.epoch_progress.total, epoch)
    _count(fit.epoch_progress.current, epoch)
    automatic = loop.automatic_optimization.optim_progress.optimizer.step.total
    for steps in (automatic, loop.manual_optimization.optim_step_progress.total):
        steps.ready = steps.completed = step
    saved = loops.get("fit_loop", {})
    loop_state = saved.get("epoch_loop.state_dict")
    if isinstance(loop_state, dict):
        loop.on_load_checkpoint(loop_state)  # the count of steps that loggers show
    batches = saved.get("epoch_loop.batch_progress", {}).get("total", {}).get("completed", step)
    _count(loop.batch_progress.total, batches)


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
    """Turn ``self.log`` of a module off."""
    # At the end of an epoch Lightning would mix what training_step logs into the metrics, or refuse it.
    names = ("log", "log_dict")
    for name in names:
        setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in names:
            module.__dict__.pop(name, None)
