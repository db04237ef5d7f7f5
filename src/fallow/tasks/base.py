"""The base of all tasks: the network, the learning rate by progress, and resuming inside an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..arrays.keyed import mix
from ..core.subsampler import Subsampler
from ..options.resolve import ResolvedOptions, with_adamw
from ..runs.training_state import TASK

_SMOOTHING = 0.1


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of the training.

    Attributes:
        learning_rate: the highest learning rate.
        weight_decay: of all parameters; with ``adamw`` only of matrices other than embeddings.
        rising_share: share of the training in which the rate rises from 0; then it falls to 0.
        augment: ``"none"``, ``"crop"`` or ``"crop-flip"``; for images.
        adamw: whether a classifier of images is trained by AdamW in place of SGD.
        label_smoothing: the share of the label that is spread over all classes in the loss; for images.
        seed: the seed of the augmentation.
    """

    learning_rate: float
    weight_decay: float
    rising_share: float = 0.2
    augment: str = "none"
    seed: int = 0
    adamw: bool = False
    label_smoothing: float = 0.0

    def rate(self, progress: float) -> float:
        """Return the learning rate at a ``progress`` in [0, 1]: it rises, then falls to 0, both linearly."""
        rise = self.rising_share
        shape = progress / rise if progress < rise else (1 - progress) / (1 - rise)
        return self.learning_rate * shape


def recipe_of(options: ResolvedOptions) -> Recipe:
    """Return the recipe in options that are resolved on the data."""
    assert options.learning_rate is not None
    return Recipe(
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        augment=options.augment,
        seed=options.seed,
        adamw=with_adamw(options),
        # As usual in fine-tuning; the score stays that of the label itself.
        label_smoothing=_SMOOTHING if options.pretrained is not None else 0.0,
    )


class TaskModule(LightningModule):
    """Lightning module that trains a network on the samples it is given.

    The learning rate follows the subsampler's progress, so that it fits the number of steps actually made.

    Args:
        network: the network to train.
        subsampler: its progress drives the learning rate.
        recipe: the hyper-parameters.

    Attributes:
        sample_weights: the weights of the samples in the current batch; None if the policy has none.
    """

    sample_weights: Tensor | None = None

    def __init__(self, network: nn.Module, subsampler: Subsampler, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.subsampler, self.recipe = subsampler, recipe
        self._resumed = (0, 0)

    def _before(self) -> int:
        """Return how many batches of this epoch were done before it was resumed."""
        epoch, batches = self._resumed
        # Lightning counts the batches of a resumed epoch from 0.
        return batches if epoch == self.subsampler.epoch else 0

    def _key(self, turn: int) -> int:
        return mix(self.recipe.seed, self.global_rank, self.subsampler.epoch, turn)

    def token_mask(self, batch: Any) -> Tensor | None:
        """Return the mask of the tokens that count, bool ``(B, T)``; None for all."""
        return None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step; it depends on samples recorded, not on steps."""
        rate = self.recipe.rate(self.subsampler.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the number of batches done in this epoch, on which the keys of the augmentation depend."""
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        checkpoint[TASK] = {"done": (self.subsampler.epoch, self._before() + batches)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the entries of :meth:`on_save_checkpoint`."""
        self._resumed = checkpoint[TASK]["done"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum 0.9, for the weights that are trained."""
        return torch.optim.SGD(
            [weight for weight in self.parameters() if weight.requires_grad],
            lr=self.recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
        )


def adamw(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW as for transformers: weight decay only for matrices other than embeddings."""
    # By identity, so that a head that shares the embedding's weight is not decayed either.
    embeddings = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    decayed = [weight.dim() > 1 and id(weight) not in embeddings for weight in trained]
    groups = [
        {"params": [w for w, d in zip(trained, decayed, strict=True) if d == chosen], "weight_decay": decay}
        for chosen, decay in ((True, recipe.weight_decay), (False, 0.0))
    ]
    # The betas of the first Transformer (Vaswani et al., 2017).
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, betas=(0.9, 0.98))
