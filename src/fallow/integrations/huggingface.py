"""A mixin for the Trainer of Hugging Face's `transformers`, and for trainers made of it, such as TRL's.

>>> # class SubsamplingTrainer(SubsamplingMixin, Trainer): ...
>>> # trainer = SubsamplingTrainer(model, arguments, train_dataset=train_set, subsampler=subsampler)
>>> # trainer.train()

Everything else stays as it is: datasets, collators, losses, schedules, evaluation, checkpoints. The loss is
the Trainer's own; scores are computed from its logits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..arrays.no_score import NO_SCORE
from ..core.batch_checks import scale_gradient
from ..core.loading import EpochBatches
from ..core.subsampler import Subsampler
from ..errors import WrongState, damaged, invalid, invalid_type
from ..files import state_file
from ..files.disk import Disk
from ..scores.base import Score
from ..scores.kl import kl_divergence
from ..scores.sequence import sequence_kl
from ._mixing import check_order

ROWS, COUNT = "fallow_rows", "fallow_count"
"""The row of each token, and the number of rows, in a batch that is one long row."""
FILE = "subsampler.safetensors"
"""The state of the subsampler in a checkpoint."""
ScoreFunction = Score | Callable[[Tensor, Tensor], Tensor]
_CLASS = "Write: class SubsamplingTrainer(SubsamplingMixin, Trainer): ..."
_REFUSED = {
    "auto_find_batch_size": "Set per_device_train_batch_size to one that fits.",
    "use_liger_kernel": "Its loss has no logits to score: set use_liger_kernel=False.",
}


class SubsamplingMixin:
    """Leaves samples out of a training by Hugging Face's Trainer. Name it before the Trainer.

    The epochs are those of the subsampler's schedule. A checkpoint may be saved after any step, and a
    training goes on from each of them exactly, also on another number of processes with the same global
    batch.

    If the number of steps is known, because the policy keeps steps or a fixed share, the learning rate
    follows the Trainer's own count. Otherwise it follows ``subsampler.progress``, so that it ends where its
    schedule says; ``max_steps`` is refused then.

    Samples are scored by their logits and ``labels``: one class id each by :func:`fallow.kl_divergence`,
    tokens by :func:`fallow.sequence_kl`, shifted as the model's loss shifts them, several yes-or-no labels by
    the mean of their divergences.

    Args:
        *args: as for the Trainer.
        **named: as for the Trainer.
        subsampler: decides which samples to keep; or a function from the number of training samples to one,
            for trainers that make the dataset themselves, as when they pack it.
        score: measures logits ``(B, ...)`` against labels ``(B, ...)``: ``(B,)``; by default as above, or the
            subsampler's.
        kept_steps: as for ``Subsampler.loader``; by default the policy decides.

    Attributes:
        subsampler, score, kept_steps: the arguments.

    Raises:
        InvalidValue: if an argument of the Trainer does not go with a subsampler.
    """

    # Of the Trainer, which this class is mixed with.
    args: TrainingArguments
    state: TrainerState

    subsampler: Subsampler
    score: ScoreFunction | None
    _batches_in_step: int

    def __init_subclass__(cls, **named: Any) -> None:
        """Raise if the mixin stands after the Trainer that it changes."""
        super().__init_subclass__(**named)
        check_order(cls, SubsamplingMixin, Trainer, _CLASS)

    def __init__(
        self,
        *args: Any,
        subsampler: Subsampler | Callable[[int], Subsampler],
        score: ScoreFunction | None = None,
        kept_steps: bool | None = None,
        **named: Any,
    ) -> None:
        trainer: Any = Trainer
        measure: Any = score
        if not isinstance(self, trainer):
            raise invalid_type("SubsamplingMixin must be mixed with a Trainer.", type(self).__name__, _CLASS)
        if not hasattr(Trainer, "_run_epoch"):
            step = "Install a newer one: pip install -U 'transformers>=5'."
            raise invalid("SubsamplingMixin needs transformers 5 or newer.", "an older one", step)
        if measure is not None and not callable(measure):
            step = "Pass for example fallow.scores.Hellinger(), or lambda logits, labels: ..."
            raise invalid_type("`score` must be a function of logits and labels.", repr(score), step)
        super().__init__(*args, **named)
        if not isinstance(subsampler, Subsampler):
            if not callable(subsampler):
                raise invalid_type("`subsampler` must be a Subsampler.", type(subsampler).__name__)
            subsampler = subsampler(len(self._data()[0]))
        self.subsampler = subsampler
        self.score, self.kept_steps = score or subsampler.score, kept_steps
        self._check_arguments()
        self._batches: EpochBatches | None = None
        self._fetched = 0
        self._indices: deque[Tensor] = deque()
        self._index: Tensor | None = None
        self._rows_in_step: float = 0
        self._batches_in_step = 1
        self._items_count: bool | None = None
        self._own_accumulation: int = self.args.gradient_accumulation_steps
        self._steps_are_known = True
        self.add_callback(_EpochEnds(self))

    def _check_arguments(self) -> None:
        arguments, sub = self.args, self.subsampler
        for name, step in _REFUSED.items():
            if getattr(arguments, name, False):
                raise invalid(f"{name} does not go with a subsampler.", getattr(arguments, name), step)
        if arguments.n_gpu > 1:
            step = "Start one process a GPU: torchrun --nproc-per-node."
            raise invalid("A process must train on one GPU.", f"{arguments.n_gpu}, by DataParallel", step)
        strategy = getattr(arguments, "train_sampling_strategy", "random")
        if strategy not in ("random", "sequential"):
            step = "Leave train_sampling_strategy as it is: the subsampler orders the samples."
            raise invalid("The subsampler must order the samples.", strategy, step)
        if sub.policy.weighs:
            step = "Choose a policy with weighted=False."
            raise invalid("The Trainer's loss has no weights of samples.", repr(sub.policy), step)
        if arguments.max_steps < 0 and arguments.num_train_epochs != sub.schedule.epochs:
            rule = f"num_train_epochs must be {sub.schedule.epochs}, the epochs of the Schedule."
            raise invalid(rule, arguments.num_train_epochs, "Set one of them to the other.")

    def _data(self) -> tuple[Any, Callable[[Any], Any]]:
        """Return the training set and the collate function as the Trainer would use them."""
        trainer: Any = self
        dataset, collate = trainer.train_dataset, trainer.data_collator
        if dataset is None:
            raise invalid("Training needs a `train_dataset`.", "none", "Pass train_dataset=.")
        if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns"):
            return trainer._remove_unused_columns(dataset, description="training"), collate
        return dataset, trainer._get_collator_with_removed_columns(collate, description="training")

    def get_train_dataloader(self) -> Any:
        """Return the subsampler's loader; it yields the index with each batch."""
        arguments = self.args
        dataset, collate = self._data()
        keeps = self.subsampler.policy.keeps_steps if self.kept_steps is None else self.kept_steps
        workers: dict[str, Any] = {}
        if arguments.dataloader_num_workers:
            workers = {
                "persistent_workers": arguments.dataloader_persistent_workers,
                "prefetch_factor": arguments.dataloader_prefetch_factor,
                "multiprocessing_context": getattr(arguments, "dataloader_multiprocessing_context", None),
            }
        loader = self.subsampler.loader(
            dataset,
            self._batch_size,
            kept_steps=self.kept_steps,
            shuffle=getattr(arguments, "train_sampling_strategy", "random") == "random",
            accumulate=arguments.gradient_accumulation_steps if keeps else 1,
            collate_fn=_RowsNamed(collate),
            drop_last=arguments.dataloader_drop_last,
            num_workers=arguments.dataloader_num_workers,
            pin_memory=arguments.dataloader_pin_memory and torch.cuda.is_available(),
            **workers,
        )
        batches: Any = loader.batch_sampler
        self._batches = batches
        return loader

    @property
    def _batch_size(self) -> int:
        size: int = self._train_batch_size  # type: ignore[attr-defined]
        return size

    def set_initial_training_values(self, args: TrainingArguments, dataloader: Any) -> tuple[Any, ...]:
        """Return the Trainer's numbers of epochs, steps and samples, for the epochs of the subsampler."""
        sub, accumulate = self.subsampler, args.gradient_accumulation_steps
        total = self._global_batch
        full_steps = -(-sub.n // total)
        planned, self._steps_are_known = full_steps * sub.epochs, True
        try:
            planned = sub.total_steps(
                self._batch_size, drop_last=args.dataloader_drop_last, accumulate=accumulate
            )
        except WrongState:
            self._steps_are_known = False
        if args.max_steps > 0:
            self._check_max_steps(args.max_steps, planned)
            planned = args.max_steps
        batches = full_steps * accumulate
        return sub.epochs, full_steps, sub.n, sub.n * sub.epochs, total, batches, planned

    @property
    def _global_batch(self) -> int:
        """The number of samples to a step, of all processes."""
        trainer: Any = self
        return int(trainer.get_total_train_batch_size(self.args))

    def _check_max_steps(self, found: int, planned: int) -> None:
        epochs = self.subsampler.epochs
        if not self._steps_are_known:
            rule = "max_steps needs a number of steps that is known: here it depends on the scores."
            step = "Set num_train_epochs, or choose ErrorMass or Fraction."
            raise invalid(rule, f"max_steps={found} under {self.subsampler.policy!r}", step)
        if found > planned:
            rule = f"max_steps must be at most {planned:,}, the steps of the {epochs} epochs of the Schedule."
            raise invalid(rule, f"{found:,}", "Plan more epochs.")

    def _init_training_state(
        self, max_steps: int, steps: int, epochs: int, resumed: str | None, trial: Any
    ) -> tuple[int, int]:
        """Load the subsampler's state; return the epoch to go on in, and that no batch is to be skipped."""
        super()._init_training_state(max_steps, steps, epochs, resumed, trial)  # type: ignore[misc]
        sub = self.subsampler
        if resumed is not None:
            self._load(Path(resumed))
        else:
            sub.under_way.check_running()
        # The loader gives the rest of an epoch by itself. If nothing is left, only its end is.
        return sub.epoch + sub.under_way.exhausted, 0

    def _load(self, checkpoint: Path) -> None:
        path = checkpoint / FILE
        step = "Resume from a checkpoint of a training with SubsamplingMixin and save_only_model=False."
        if not path.is_file():
            raise damaged(f"{checkpoint} must hold {FILE}, the state of the subsampler.", "none", step)
        saved = state_file.parse(path.read_bytes(), str(path))
        if not isinstance(saved, dict) or saved.keys() != {"subsampler", "items_count", "batch"}:
            raise damaged(f"{path} must hold the state of a subsampler.", type(saved).__name__, step)
        before, now = saved["batch"], self._global_batch
        if before != now:
            # The Trainer would count the steps of all epochs anew, and end early or late.
            rule = f"A training must go on with the global batch of {checkpoint}, {before} samples."
            step = "Set per_device_train_batch_size times gradient_accumulation_steps times processes to it."
            raise invalid(rule, now, step)
        self.subsampler.load_state_dict(saved["subsampler"])
        self._items_count = None if saved["items_count"] is None else bool(saved["items_count"])

    def _prepare_for_training(self, max_steps: int, loader: Any, resumed: str | None) -> tuple[Any, Any]:
        """Prepare the model; end an epoch of which a checkpoint has all batches, but not the end."""
        prepared: tuple[Any, Any] = super()._prepare_for_training(max_steps, loader, resumed)  # type: ignore[misc]
        if resumed is not None and self.subsampler.under_way.exhausted:
            # As it was after the last batch: measuring draws from the generators if the model does.
            trainer: Any = self
            trainer._load_rng_state(resumed)
            # Not as it is wrapped for many processes: these measure different numbers of batches.
            self.end_epoch(trainer.model.train())
        return prepared

    def _run_epoch(self, **named: Any) -> None:
        """Run one epoch with the batches that the subsampler has planned for it."""
        self._indices.clear()
        self._fetched = 0
        with self._accumulation(self.subsampler.accumulate if self._keeps_steps else None):
            batches = len(named["train_dataloader"])
            named["steps_in_epoch"] = batches
            named["num_update_steps_per_epoch"] = -(-batches // self.args.gradient_accumulation_steps)
            named["steps_trained_in_current_epoch"] = 0
            super()._run_epoch(**named)  # type: ignore[misc]

    @property
    def _keeps_steps(self) -> bool:
        return self.subsampler.under_way.kept_steps is not None

    @contextmanager
    def _accumulation(self, batches: int | None) -> Iterator[None]:
        """Set the number of batches to a step in the block; None leaves it."""
        before = self.args.gradient_accumulation_steps
        self.args.gradient_accumulation_steps = batches or before
        try:
            yield
        finally:
            self.args.gradient_accumulation_steps = before

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], *args: Any, **named: Any
    ) -> tuple[list[Any], Any]:
        """Fetch the batches of a step, and put their indices aside."""
        self._indices.clear()
        found: tuple[list[Any], Any] = super().get_batch_samples(  # type: ignore[misc]
            _without_index(epoch_iterator, self._indices), *args, **named
        )
        first, self._fetched = self._fetched, self._fetched + len(found[0])
        self._batches_in_step = len(found[0])
        assert self._batches is not None
        if self.args.average_tokens_across_devices:
            ranks = self.subsampler.under_way.scores.ranks.size
            self._rows_in_step = self._batches.rows(first, self._fetched) / ranks
        else:
            self._rows_in_step = sum(map(len, self._indices))
        return found

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Train on a batch and record its scores."""
        self._index = self._indices.popleft()
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        finally:
            self._index = None
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **named: Any,
    ) -> Any:
        """Return the Trainer's loss; in training, record the scores of the batch."""
        index = self._index
        # The Trainer may take the labels out of the inputs.
        labels = _labels_of(inputs)
        named |= {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        if index is None:
            return super().compute_loss(model, inputs, **named)  # type: ignore[misc]
        # The outputs of the model itself: to ask the Trainer for them may cost another forward pass.
        seen: list[Any] = []
        hook = model.register_forward_hook(lambda module, given, outputs: seen.append(outputs))
        try:
            computed = super().compute_loss(model, inputs, **named)  # type: ignore[misc]
        finally:
            hook.remove()
        loss = computed[0] if return_outputs else computed
        scores, predicted = self._scores(seen[0], labels)
        self._check_scores(scores, len(index))
        scale_gradient(loss, self._factor(loss.detach(), scores, num_items_in_batch))
        self.subsampler.record(index, scores, predicted=predicted, accumulating=bool(self._indices))
        return computed

    def _check_scores(self, scores: Any, count: int) -> None:
        """Raise if a batch does not have a score for each of its samples."""
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        if shape != (count,):
            step = "Choose a collator that keeps samples apart, or puts their tokens one after the other."
            if self.score is not None:
                step = "Let `score` return (B,), a score for each row of the logits."
            rule = f"A batch must have a score for each of its {count} samples, ({count},)."
            raise invalid(rule, shape, step)

    def _factor(self, loss: Tensor, scores: Tensor, items: Any) -> float:
        """Return the factor of the gradient of a batch, as :meth:`Subsampler.record` has it.

        Depending on the model, the Trainer divides the losses of a step by the step's items, by the number of
        its batches, or by nothing. What full training does is kept.
        """
        epoch, batches, rows = self.subsampler.under_way, self._batches_in_step, len(scores)
        if not self._divides_by_items(items):
            return epoch.gradient_factor(rows)
        if self._items_count is None and batches > 1:
            # Some models take the number of items and return the mean of the batch all the same. This waits
            # for the device, once.
            mean = float(scores.mean())
            self._items_count = abs(float(loss) - mean) >= abs(float(loss) - mean / batches)
        if self._items_count is False:
            factor = epoch.gradient_factor(rows)
            return factor * self._own_accumulation / batches if self._keeps_steps else factor
        return epoch.gradient_factor(self._rows_in_step) / batches if self._keeps_steps else 1.0

    def _divides_by_items(self, items: Any) -> bool:
        """Return whether the Trainer takes the loss for one that is divided by the items of the step."""
        trainer: Any = self
        says: bool | None = getattr(self, "loss_is_scaled_for_ga", None)
        if says is not None:
            return says
        return trainer.compute_loss_func is not None or (
            trainer.model_accepts_loss_kwargs and items is not None
        )

    @torch.no_grad()
    def _scores(self, outputs: Any, labels: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Return the scores of a batch, and its predicted classes if each sample has one class."""
        if self.score is None and getattr(outputs, "log_probs", None) is not None:
            # TRL's output layer gives the tokens' log-probabilities, and no logits.
            return _row_means(-outputs.log_probs, outputs.label_mask, labels), None
        logits = outputs.get("logits") if hasattr(outputs, "get") else outputs[1]
        if not isinstance(logits, Tensor):
            step = "Turn off what fuses the loss with the output layer, so that the model returns logits."
            raise invalid("The model must return logits to score its samples.", type(logits).__name__, step)
        shifted = "shift_labels" in labels
        targets = labels.get("shift_labels", labels.get("labels"))
        if targets is None:
            raise invalid("A batch must have `labels` to score its samples.", "none", "Name them labels.")
        targets = targets.to(logits.device)
        one_class = logits.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point()
        predicted = logits.argmax(1) if one_class and logits.shape[1] > 1 else None
        if self.score is not None:
            return self.score(logits, targets), predicted
        if one_class:
            return kl_divergence(logits, targets), predicted
        if logits.dim() == 3 and targets.shape == logits.shape[:2]:
            shifts = bool(getattr(self, "_loss_shifts_labels", False)) and not shifted
            rows = labels.get(ROWS)
            samples = None if rows is None else int(labels[COUNT])
            return sequence_kl(logits, targets, shift=shifts, documents=rows, samples=samples), None
        if targets.shape == logits.shape and logits.shape[1] > 1:
            return kl_divergence(logits, targets, bernoulli=True), None
        if logits.dim() > 3 and targets.dim() == logits.dim() - 1:
            return kl_divergence(logits, targets), None
        raise invalid(
            "Logits and labels must be of a known kind: a class, tokens, or yes-or-no labels a sample.",
            f"logits {tuple(logits.shape)}, labels {tuple(targets.shape)} {targets.dtype}",
            "Pass score=: a function of both that returns (B,), such as "
            "lambda logits, labels: (logits[:, 0] - labels).square().",
        )

    def end_epoch(self, model: Any) -> None:
        """Measure the samples that are due, and plan the next epoch."""
        if self.subsampler.epoch >= self.subsampler.epochs:
            return
        dataset, collate = self._data()
        trainer: Any = self

        def score(index: Tensor, batch: Any) -> Any:
            inputs = trainer._prepare_inputs(batch)
            labels = _labels_of(inputs)
            if ROWS in labels:
                inputs["use_cache"] = False  # otherwise documents in a row see each other
            with trainer.compute_loss_context_manager():
                scores, predicted = self._scores(model(**inputs), labels)
            return scores if predicted is None else (scores, predicted)

        self.subsampler.remeasure(dataset, score, self.args.eval_batch_size, collate_fn=_RowsNamed(collate))
        self.subsampler.step()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # The arguments are saved too, and are the user's.
        with self._accumulation(self._own_accumulation):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the state of the subsampler beside that of the optimizer."""
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        state = {
            "subsampler": self.subsampler.state_dict(),
            "items_count": self._items_count,
            "batch": self._global_batch,
        }
        if self.args.should_save:
            Disk().put(Path(output_dir) / FILE, state_file.dump(state))


class _RowsNamed:
    """A collate function that tells the row of each token, if it puts all rows one after the other."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch of the Trainer's own collate function."""
        batch = self.collate(samples)
        ids = batch.get("input_ids") if hasattr(batch, "get") else None
        if not isinstance(ids, Tensor) or ids.dim() != 2 or len(ids) == len(samples):
            return batch
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        if len(ids) == 1 and int(lengths.sum()) == ids.shape[1]:
            batch[ROWS] = torch.arange(len(samples)).repeat_interleave(lengths).unsqueeze(0)
            batch[COUNT] = len(samples)
        return batch


def _row_means(values: Tensor, mask: Tensor, labels: dict[str, Any]) -> Tensor:
    """Return the mean of the values ``(B, T)`` in each row where the mask holds: ``(B,)``."""
    values, counts = values.float().where(mask, 0.0), mask.float()
    if (rows := labels.get(ROWS)) is None:
        sums, counts = values.sum(1), counts.sum(1)
    else:
        # A value belongs to the row of the token that it predicts.
        rows = rows[0, -values.shape[1] :].to(values.device)
        empty = values.new_zeros(int(labels[COUNT]))
        sums, counts = (empty.index_add(0, rows, part[0]) for part in (values, counts))
    return (sums / counts.clamp_min(1)).where(counts > 0, NO_SCORE)


def _labels_of(inputs: Any) -> dict[str, Any]:
    """Return what scores are computed from, and take out what the model does not know."""
    found = {name: inputs[name] for name in ("labels", "shift_labels") if name in inputs}
    if ROWS in inputs:
        found |= {name: inputs.pop(name) for name in (ROWS, COUNT)}
    return found


def _without_index(batches: Iterator[Any], indices: deque[Tensor]) -> Iterator[Any]:
    """Yield batches as the Trainer expects them, and append the index of each to ``indices``."""
    for index, batch in batches:
        indices.append(index)
        yield batch


class _EpochEnds(TrainerCallback):
    """Ends the epochs of the subsampler, and tells the Trainer where it is."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    @property
    def subsampler(self) -> Subsampler:
        found: Subsampler = self.trainer.subsampler
        return found

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> None:
        """Set the schedule of the learning rate to the progress, if the number of steps is not known."""
        schedule = named.get("lr_scheduler")
        if not self.trainer._steps_are_known and isinstance(schedule, LambdaLR):
            # The Trainer counts one step on top of this.
            schedule.last_epoch = round(self.subsampler.progress * state.max_steps) - 1

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> None:
        """Correct the Trainer's epoch, which counts from the batches that are left."""
        state.epoch = self.subsampler.epoch + self.subsampler.under_way.share

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> TrainerControl:
        """End the epoch, unless the training ends in the middle of it."""
        if not control.should_training_stop or self.subsampler.under_way.share == 1.0:
            self.trainer.end_epoch(named["model"])
        if self.subsampler.epoch >= self.subsampler.epochs:
            control.should_training_stop = True
        return control
