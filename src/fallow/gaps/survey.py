"""How samples look to a trained network: where they lie, how surprising they are, what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..activations import ActivationDensity
from ..activations.views import Look
from ..arrays.forward_only import forward_only
from ..errors import invalid
from .novelty import LEAST, LIMIT, InputNovelty

Batch: TypeAlias = tuple[Any, Tensor | None]
"""Inputs of the network, and class ids ``(B,)``, -1 where unknown, or None."""
Progress: TypeAlias = Callable[[int], None]
"""Called with the number of samples that were looked at."""
_EXAMPLES, _VALUES = 2048, 1 << 26


@dataclass(frozen=True, eq=False)
class Survey:
    """N samples as a network and its density see them.

    Attributes:
        places: float32 ``(N, p)``, where they lie: the subspaces of all layers side by side, each scaled so
            that training samples have the mean square 1.
        surprise: float64 ``(N,)``, nats, over all layers; training samples without themselves.
        percentile: float32 ``(N,)``, the share of the training set that is less surprising.
        strangeness: float32 ``(N,)``, how unlike the training inputs they are made, as a multiple of what
            nine of ten of these stay below: by :class:`~fallow.gaps.novelty.InputNovelty`; for inputs that it
            cannot judge twice the energy off the subspace over its 99.5 % quantile, the largest over layers.
        labels: int64 ``(N,)``, -1 where unknown.
        predicted: int64 ``(N,)``, the class with the highest output, -1 where the network has no classes.
    """

    places: NDArray[np.float32]
    surprise: NDArray[np.float64]
    percentile: NDArray[np.float32]
    novelty: NDArray[np.float32]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.surprise)

    def __getitem__(self, rows: Any) -> Survey:
        """Return some of the samples, as numpy would index them."""
        return Survey(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Iterable[Survey]) -> Survey:
        """Return surveys, one at least, one after the other."""
        every = list(parts)
        names = Survey.__dataclass_fields__
        return Survey(*(np.concatenate([getattr(part, name) for part in every]) for name in names))

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which samples the network calls by another class than their label."""
        known = (self.labels >= 0) & (self.predicted >= 0)
        found: NDArray[np.bool_] = known & (self.labels != self.predicted)
        return found


@dataclass(eq=False)
class Surveyor:
    """Looks at samples through a network in evaluation mode; nothing of the network changes.

    Args:
        watch: whose density and layers count; see :meth:`learn`.
        forward: makes the forward pass of a batch's inputs, and returns the outputs; class scores are
            ``(B, classes)``.
        classes: whether the outputs are class scores.

    Attributes:
        likeness: how unlike the training inputs others are made; None before :meth:`learn`, and for inputs
            that cannot be judged.
    """

    watch: ActivationDensity
    forward: Callable[[Any], Tensor]
    classes: bool = True
    input_novelty: InputNovelty | None = field(default=None, init=False)

    def learn(self, batches: Iterable[Batch], progress: Progress | None = None) -> Surveyor:
        """Learn the density anew of the whole training set as it looks in evaluation, batch after batch.

        Where the watch has learned while the network trained, its components are where this begins.

        Raises:
            InvalidValue: where there are fewer samples than a density needs.
        """
        done, examples = 0, _Examples()
        with self._looking():
            for inputs, _ in batches:
                examples.add(inputs)
                index = torch.arange(done, done + len(self.forward(inputs)))
                self.watch.see(index)
                done += len(index)
                if progress is not None:
                    progress(done)
        before = self.watch.refreshes
        self.watch.refresh()
        if self.watch.refreshes == before:
            if done < 64:
                raise invalid("A density needs at least 64 training samples.", done, "Train on more.")
            step = "Did the training diverge? Train again, with a lower learning rate."
            raise invalid("A density needs finite activations.", f"too few among {done:,} samples", step)
        self.input_novelty = examples.input_novelty()
        return self

    def survey(
        self, batches: Iterable[Batch], *, training: bool = False, progress: Progress | None = None
    ) -> Survey:
        """Return how samples look.

        Args:
            batches: the samples; where ``training``, in the order in which :meth:`learn` saw them.
            training: score each without itself.
            progress: called after each batch.
        """
        return Survey.joined(self.parts(batches, training=training, progress=progress))

    def parts(
        self, batches: Iterable[Batch], *, training: bool = False, progress: Progress | None = None
    ) -> Iterator[Survey]:
        """Yield how samples look, batch by batch."""
        done = 0
        for inputs, labels in batches:
            with self._looking():
                outputs = self.forward(inputs)
                count = len(outputs)
                index = torch.arange(done, done + count) if training else None
                looks = self.watch.look(index)
            done += count
            yield self._part(looks, outputs, labels, self._strangeness(inputs, looks))
            if progress is not None:
                progress(done)

    def _strangeness(self, inputs: Any, looks: list[Look]) -> Tensor:
        if self.input_novelty is not None:
            return self.input_novelty(inputs.cpu())
        return LIMIT * torch.stack([look.novelty for look in looks]).amax(0)

    def _part(self, looks: list[Look], outputs: Tensor, labels: Tensor | None, novelty: Tensor) -> Survey:
        surprise = self.watch.surprise(looks)
        places = torch.cat([look.places / look.spread for look in looks], 1)
        none = np.full(len(surprise), -1, np.int64)
        predicted = outputs.argmax(1).cpu().numpy() if self.classes and outputs.dim() == 2 else none
        given = none if labels is None else labels.cpu().numpy().astype(np.int64)
        percentile = self.watch.percentile(surprise)
        return Survey(
            places.float().cpu().numpy(),
            surprise.cpu().numpy(),
            percentile.cpu().numpy(),
            novelty.float().cpu().numpy(),
            given,
            predicted,
        )

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Put the network into evaluation mode for a while, and look at it all the same."""
        model: nn.Module = self.watch.taps.model
        modes = [(module, module.training) for module in model.modules()]
        before = self.watch.taps.looking
        model.eval()
        self.watch.taps.looking = True
        try:
            with forward_only():
                yield
        finally:
            self.watch.taps.looking = before
            for module, mode in modes:
                module.training = mode


class _Examples:
    """Evenly spaced inputs out of a stream, as many as :class:`InputNovelty` has use for."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._seen, self._step, self._judged = 0, 1, True

    def add(self, inputs: Any) -> None:
        """Take what is due of a batch."""
        self._judged = self._judged and InputNovelty.judges(inputs)
        if not self._judged:
            self._rows = []
            return
        first = -self._seen % self._step
        rows = inputs[first :: self._step].cpu()
        self._rows += [
            row.clone() for row in rows if bool(row.isfinite().all())
        ]  # not views of whole batches
        self._seen += len(inputs)
        most = max(LEAST, min(_EXAMPLES, _VALUES // max(1, inputs[0].numel())))
        while len(self._rows) > 2 * most:
            self._rows, self._step = self._rows[::2], 2 * self._step

    def input_novelty(self) -> InputNovelty | None:
        """Return what judges inputs by these; None where there are too few or of another kind."""
        return InputNovelty(torch.stack(self._rows)) if len(self._rows) >= LEAST else None
