"""A mixin for TRL's GRPOTrainer: its prompts are drawn by :class:`fallow.Prompts`.

>>> # class PromptsTrainer(PromptsMixin, GRPOTrainer): ...
>>> # prompts = fallow.Prompts(dataset["id"], group=8)
>>> # trainer = PromptsTrainer(model, rewards, arguments, train_dataset=dataset, prompts=prompts)
>>> # trainer.train()

Everything else stays as it is: rewards, advantages, losses, generation, evaluation, checkpoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler
from trl import GRPOTrainer

from ..arrays.distributed import Ranks
from ..errors import check_integer, damaged, invalid, invalid_type, unknown_name
from ..files import state_file
from ..files.disk import Disk
from ..prompts.prompts import Prompts
from ..prompts.tally import PromptSummary
from ._mixing import check_order

ROW = "fallow_row"
"""The place of its prompt, in each item of a training batch."""
FILE = "prompts.safetensors"
"""The state of the prompts in a checkpoint."""
ROLLOUTS = "rollouts-{rank}-of-{size}.safetensors"
"""The rollouts of a process that are not trained on yet, in a checkpoint that is saved between two draws."""
_CLASS = "Write: class PromptsTrainer(PromptsMixin, GRPOTrainer): ..."
_OWN = ("get_train_dataloader", "_get_train_sampler")
"""Methods that no other class may change."""
_SHAPE = ("generation_batch_size", "the global batch", "num_iterations")


class PromptsMixin:
    """Draws the prompts of a GRPO training. Name it before the trainer.

    The prompt at row i of ``train_dataset`` is the i-th of ``prompts``. Each generation batch holds the next
    prompts of :meth:`fallow.Prompts.draw`; its rollouts are recorded as they are rewarded. Those of an
    evaluation are not.

    An epoch of the trainer has as many steps as without the mixin. What is left out makes room for prompts
    that are still learned, so these come more often. To save rollouts instead, train for fewer steps.

    A rollout counts as right if its outcome reaches ``prompts``' ``success``. The outcome is a reward, never
    an advantage: a group whose shaped rewards differ is not mixed if all of it succeeds.

    A checkpoint may be saved after any step, and a training goes on from it exactly. On another number of
    processes it goes on, too, with the same batches; what was not trained on yet is generated anew there.

    Its log has ``prompts/mixed``, the share of mixed groups since the last line, and of
    :class:`fallow.prompts.PromptSummary` ``solved``, ``hopeless`` and ``rollouts_saved``.

    Args:
        *args: as for the trainer.
        **named: as for the trainer.
        prompts: one for each row of ``train_dataset``, in its order. All processes make the same.
        outcome: the reward function that says whether a rollout is right, by its name or its place; it may be
            left out if there is only one. NaN and None are not judged.

    Attributes:
        prompts: as above.

    Raises:
        InvalidValue, InvalidType: if an argument of the trainer does not go with ``prompts``.
    """

    # Of the trainer, which this class is mixed with.
    args: Any
    model: Any
    accelerator: Any
    train_dataset: Any
    reward_funcs: list[Any]
    reward_func_names: list[str]
    _step: int
    _buffered_inputs: list[dict[str, Any]] | None
    _signature_columns: list[str] | None

    prompts: Prompts

    def __init_subclass__(cls, **named: Any) -> None:
        """Raise if the mixin stands after the trainer that it changes."""
        super().__init_subclass__(**named)
        check_order(cls, PromptsMixin, GRPOTrainer, _CLASS)

    def __init__(self, *args: Any, prompts: Prompts, outcome: str | int | None = None, **named: Any) -> None:
        trainer: Any = GRPOTrainer
        given: Any = prompts
        if not isinstance(self, trainer):
            raise invalid_type("PromptsMixin must be mixed with a GRPOTrainer.", type(self).__name__, _CLASS)
        if not isinstance(given, Prompts):
            step = "Pass fallow.Prompts(dataset['id'], group=8)."
            raise invalid_type("`prompts` must be Prompts.", type(given).__name__, step)
        super().__init__(*args, **named)
        self.prompts = prompts
        self._check_dataset()
        self._check_arguments()
        self._outcome = self._column(outcome)
        self._rows: NDArray[np.int64] | None = None
        self._logged = prompts.summary()

    def _check_dataset(self) -> None:
        dataset, n = self.train_dataset, self.prompts.n
        if not isinstance(dataset, Dataset):
            step = "Load it whole, as datasets.load_dataset(..., streaming=False) does."
            rule = "`train_dataset` must be a Dataset, whose rows have places."
            raise invalid_type(rule, type(dataset).__name__, step)
        if len(dataset) != n:
            step = "Make Prompts of a column of this dataset: fallow.Prompts(dataset['id'], ...)."
            raise invalid(
                f"`train_dataset` must have {n:,} rows, one for each prompt.", f"{len(dataset):,}", step
            )

    def _check_arguments(self) -> None:
        arguments, prompts = self.args, self.prompts
        if arguments.num_generations != prompts.group:
            rule = f"num_generations must be {prompts.group}, the group of `prompts`."
            raise invalid(rule, arguments.num_generations, "Set one of them to the other.")
        if not arguments.shuffle_dataset:
            step = "Leave shuffle_dataset as it is: they are drawn in the order of `prompts`, by its seed."
            raise invalid("Prompts must be drawn by `prompts`.", "shuffle_dataset=False", step)
        if arguments.ignore_data_skip:
            step = "Leave it False: what was drawn before is passed over without being read."
            raise invalid("ignore_data_skip does not go with `prompts`.", True, step)
        if getattr(arguments, "replay_buffer_size", 0):
            step = (
                "Set replay_buffer_size=0: groups that are all right or all wrong are left out by `prompts`."
            )
            raise invalid("Old rollouts must not stand in for new ones.", "a replay buffer", step)
        if self._drawn_at_a_time > prompts.n:
            rule = f"A generation batch must have at most {prompts.n:,} prompts, as there are."
            raise invalid(rule, f"{self._drawn_at_a_time:,}", "Set a smaller generation_batch_size.")
        order = type(self).__mro__
        for other in order[: order.index(GRPOTrainer)]:
            if not issubclass(other, PromptsMixin) and (
                own := next((m for m in _OWN if m in vars(other)), None)
            ):
                step = f"Take {other.__name__} out of the class's bases."
                raise invalid("Prompts must be drawn by `prompts`.", f"{other.__name__}.{own}", step)

    def _column(self, outcome: Any) -> int:
        """Return the place of the reward that is the outcome."""
        names = self.reward_func_names
        if outcome is None:
            if len(names) == 1:
                return 0
            # Their sum would do no better: a reward for the form alone may reach `success`.
            rule = "`outcome` must name the reward function that says whether a rollout is right."
            raise invalid(rule, f"{len(names)} reward functions", f"Known: {', '.join(names)}.")
        if isinstance(outcome, str):
            if outcome not in names:
                raise unknown_name("reward function", outcome, names)
            if names.count(outcome) > 1:
                places = [place for place, name in enumerate(names) if name == outcome]
                step = f"Name it by its place: {' or '.join(map(str, places))}."
                raise invalid(
                    "`outcome` must name one reward function.", f"{len(places)} called {outcome}", step
                )
            return names.index(outcome)
        if check_integer("outcome", outcome, 0) >= len(names):
            raise invalid(f"`outcome` must be below {len(names)}, the number of reward functions.", outcome)
        return int(outcome)

    @property
    def _drawn_at_a_time(self) -> int:
        """The number of different prompts in a generation batch, over all processes."""
        return int(self.args.generation_batch_size) // int(self.args.num_generations)

    @property
    def _generate_every(self) -> int:
        """The number of batches to a generation batch."""
        return int(self.args.num_iterations) * int(self.args.steps_per_generation)

    @property
    def _shape(self) -> list[int]:
        """What must stay if a training goes on, in the order of ``_SHAPE``."""
        trainer: Any = self
        batch = int(trainer.get_total_train_batch_size(self.args))
        return [int(self.args.generation_batch_size), batch, int(self.args.num_iterations)]

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        """Return a sampler with the length and the repetitions of the trainer's own."""
        sampler = PromptSampler(self.prompts, self._drawn_at_a_time, self._generate_every)
        self._sampler = sampler
        return sampler

    def get_train_dataloader(self) -> Any:
        """Return the trainer's loader, whose items carry the places of their prompts."""
        dataset = self.train_dataset
        self.train_dataset = _WithRows(dataset)
        try:
            return super().get_train_dataloader()  # type: ignore[misc]
        finally:
            self.train_dataset = dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if self._signature_columns is not None and ROW not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, ROW]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        """Make and reward the rollouts of a generation batch; note which prompts they belong to."""
        if self.model.training:
            self._rows = np.array([item.pop(ROW) for item in inputs], np.int64)
        try:
            return super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        finally:
            self._rows = None

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        """Return the rewards of all processes ``(B, F)``; in training, record this one's part."""
        rewards: Tensor = super()._calculate_rewards(  # type: ignore[misc]
            inputs, prompts, completions, completion_ids_list
        )
        if self._rows is not None:
            first = self.accelerator.process_index * self._rows.size
            own = rewards[first : first + self._rows.size, self._outcome]
            self.prompts.record(self._rows, own, [len(ids) for ids in completion_ids_list])
        return rewards

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """Log what the trainer does, and in training what came of the prompts since the last line."""
        if self.model.training:
            logs |= self._metrics_of_prompts()
        super().log(logs, *args, **named)  # type: ignore[misc]

    def _metrics_of_prompts(self) -> dict[str, float]:
        """Return what is logged; nothing if no group was recorded since the last line."""
        before, now = self._logged, self.prompts.summary()
        self._logged = now
        judged = _judged(now) - _judged(before)
        if not judged:
            return {}
        names = ("solved", "hopeless", "rollouts_saved")
        mixed = {"prompts/mixed": (now.mixed - before.mixed) / judged}
        return mixed | {f"prompts/{name}": float(getattr(now, name)) for name in names}

    def _init_training_state(
        self, max_steps: int, steps: int, epochs: int, resumed: str | None, trial: Any
    ) -> tuple[int, int]:
        """Load the state of the prompts; return the epoch to go on in, and the batches to be passed over."""
        found: tuple[int, int] = super()._init_training_state(  # type: ignore[misc]
            max_steps, steps, epochs, resumed, trial
        )
        if resumed is not None:
            self._load(Path(resumed), found[1])
        own = np.frombuffer(bytes.fromhex(self._digest()), np.uint8).copy()
        if (Ranks().together(own).reshape(-1, own.size) != own).any():
            step = "Let every process make them from the same keys in one order, and merge the same folders."
            raise invalid("All processes must have the same `prompts`.", "different ones", step)
        return found

    def _digest(self) -> str:
        """Return a digest of all that the draws depend on."""
        return hashlib.sha256(state_file.dump(self.prompts.state_dict() | {"name": ""})).hexdigest()

    def _load(self, checkpoint: Path, passed: int) -> None:
        """Load the state in a checkpoint, from which so many batches of the epoch were trained on."""
        path = checkpoint / FILE
        step = "Resume from a checkpoint of a training with PromptsMixin and save_only_model=False."
        if not path.is_file():
            raise damaged(f"{checkpoint} must hold {FILE}, the state of the prompts.", "none", step)
        saved = state_file.parse(path.read_bytes(), str(path))
        if not isinstance(saved, dict) or saved.keys() != {"prompts", "drawn", "shape"}:
            raise damaged(f"{path} must hold the state of prompts.", type(saved).__name__, step)
        if saved["shape"] != self._shape:
            before, now = (", ".join(map(str, shape)) for shape in (saved["shape"], self._shape))
            rule = f"A training must go on with {', '.join(_SHAPE)} of {checkpoint}: {before}."
            raise invalid(rule, now, "Set them to what they were.")
        self.prompts.load_state_dict(saved["prompts"])
        self._logged = self.prompts.summary()
        # The epoch that a checkpoint ended is over: its draws are not made again.
        self._sampler.saved = list(saved["drawn"]) if passed else []
        # The trainer counts batches from 0, whatever it resumes from, and would generate too late.
        self._step, self._buffered_inputs = passed, None
        if passed % self._generate_every:
            self._load_rollouts(self._rollouts_in(checkpoint))

    def _rollouts_in(self, checkpoint: Path) -> Path:
        rank, size = self.accelerator.process_index, self.accelerator.num_processes
        return checkpoint / ROLLOUTS.format(rank=rank, size=size)

    def _load_rollouts(self, path: Path) -> None:
        """Load the rollouts that are left, unless the processes were others: then they are made anew."""
        saved = state_file.parse(path.read_bytes(), str(path)) if path.is_file() else {}
        if saved.get("digest") == self._digest():
            self._buffered_inputs = [
                {
                    name: value.to(self.accelerator.device) if isinstance(value, Tensor) else value
                    for name, value in batch.items()
                }
                for batch in saved["batches"]
            ]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the state of the prompts beside that of the optimizer, and the rollouts that are left."""
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        disk, folder = Disk(), Path(output_dir)
        if self._step % self._generate_every and self._buffered_inputs is not None:
            left = {"digest": self._digest(), "batches": self._buffered_inputs}
            disk.make_folder(folder)  # the first process may not have come here yet
            disk.put(self._rollouts_in(folder), state_file.dump(left))
        if self.args.should_save:
            state = {
                "prompts": self.prompts.state_dict(),
                "drawn": self._sampler.drawn,
                "shape": self._shape,
            }
            disk.put(folder / FILE, state_file.dump(state))


class PromptSampler(Sampler[int]):
    """Yields the places of the prompts of each generation batch, as TRL's ``RepeatSampler`` does.

    Args:
        prompts: draws them.
        count: different prompts in a generation batch.
        repeat: how often a generation batch comes.

    Attributes:
        drawn: the prompts of each generation batch of the present epoch, ``(count,)``.
        saved: those of an epoch that is resumed, which are given again before more are drawn.

    >>> list(PromptSampler(Prompts(["a", "b", "c"], group=2), count=1, repeat=2))
    [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]
    """

    def __init__(self, prompts: Prompts, count: int, repeat: int) -> None:
        self.prompts, self.count, self.repeat = prompts, count, repeat
        self.drawn: list[NDArray[np.int64]] = []
        self.saved: list[NDArray[np.int64]] = []

    @property
    def _batches(self) -> int:
        return self.prompts.n // self.count

    def __len__(self) -> int:
        return self._batches * self.count * self.prompts.group * self.repeat

    def __iter__(self) -> Iterator[int]:
        """Yield an epoch; each batch is drawn when its first place is asked for."""
        self.drawn, self.saved = self.saved, []
        for number in range(self._batches):
            if number == len(self.drawn):
                self.drawn.append(self.prompts.draw(self.count))
            places = self.drawn[number].repeat(self.prompts.group).tolist()
            for _ in range(self.repeat):
                yield from places


class _WithRows:
    """A dataset whose items carry their rows."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.dataset[row], ROW: row}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        """Return several items at a time, which is faster."""
        return [{**item, ROW: row} for item, row in zip(self.dataset.__getitems__(rows), rows, strict=True)]


def _judged(summary: PromptSummary) -> int:
    """Return the number of groups of which at least one rollout was judged."""
    return summary.mixed + summary.whole_right + summary.whole_wrong
