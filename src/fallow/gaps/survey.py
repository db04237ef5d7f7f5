"""Survey samples by a trained network: their places, surprise, input novelty and predictions."""

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
from ..activations.views import LayerSurvey
from ..arrays.forward_only import forward_only
from ..errors import invalid
from .novelty import LEAST, LIMIT, InputNovelty

Batch: TypeAlias = tuple[Any, Tensor | None]
"""Inputs of the network, and class ids ``(B,)``, -1 for unknown ones, or None."""
Progress: TypeAlias = Callable[[int], None]
"""Called with the number of samples done."""
_EXAMPLES, _VALUES = 2048, 1 << 26


@dataclass(frozen=True, eq=False)
class Survey:
    """N samples under a network and its density.

    Attributes:
        places: float32 ``(N, p)``, the coordinates in the subspaces of all layers, each layer scaled so that
            training samples have the mean square 1.
        surprise: float64 ``(N,)``, nats, over all layers; training samples without themselves.
        percentile: float32 ``(N,)``, the share of the training set that is less surprising.
        novelty: float32 ``(N,)``, how unlike the training inputs they are, as a multiple of the 90 % quantile
            of these, by :class:`~fallow.gaps.novelty.InputNovelty`. For inputs of another form it is twice
            the energy off the subspace over its 99.5 % quantile, the largest over layers.
        labels: int64 ``(N,)``, -1 for unknown ones.
        predicted: int64 ``(N,)``, the class with the highest output; -1 if the network has no classes.
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
        """Return some of the samples, by any index of numpy."""
        return Survey(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Iterable[Survey]) -> Survey:
        """Concatenate surveys, at least one."""
        every = list(parts)
        names = Survey.__dataclass_fields__
        return Survey(*(np.concatenate([getattr(part, name) for part in every]) for name in names))

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """The samples whose predicted class is not their label."""
        known = (self.labels >= 0) & (self.predicted >= 0)
        wrong: NDArray[np.bool_] = known & (self.labels != self.predicted)
        return wrong


@dataclass(eq=False)
class Surveyor:
    """Surveys samples by a network in evaluation mode; the network does not change.

    Args:
        monitor: the density and its layers; :meth:`learn` fits it.
        forward: makes the forward pass of a batch's inputs and returns the outputs; class scores are
            ``(B, classes)``.
        classes: whether the outputs are class scores.

    Attributes:
        input_novelty: how unlike the training inputs an input is; None before :meth:`learn`, and for inputs
            of a form that it does not take.
    """

    monitor: ActivationDensity
    forward: Callable[[Any], Tensor]
    classes: bool = True
    input_novelty: InputNovelty | None = field(default=None, init=False)

    def learn(self, batches: Iterable[Batch], progress: Progress | None = None) -> Surveyor:
        """Fit the density to the whole training set in evaluation mode.

        If the monitor learned during training, the fit starts from its components.

        Raises:
            InvalidValue: if there are fewer samples than a density needs.
        """
        done = 0
        examples = _Examples()
        with self._evaluation_mode():
            for inputs, _ in batches:
                examples.add(inputs)
                index = torch.arange(done, done + len(self.forward(inputs)))
                self.monitor.see(index)
                done += len(index)
                if progress is not None:
                    progress(done)
        before = self.monitor.refreshes
        self.monitor.refresh()
        if self.monitor.refreshes == before:
            if done < 64:
                raise invalid("A density needs at least 64 training samples.", done, "Train on more.")
            step = "Did the training diverge? Train again, with a lower learning rate."
            raise invalid("A density needs finite activations.", f"too few among {done:,} samples", step)
        self.input_novelty = examples.input_novelty()
        return self

    def survey(
        self, batches: Iterable[Batch], *, training: bool = False, progress: Progress | None = None
    ) -> Survey:
        """Return the survey of samples.

        Args:
            batches: the samples; those of the training set in the order of :meth:`learn`.
            training: whether they are the training set; each is then scored without itself.
            progress: called after each batch.
        """
        return Survey.joined(self.parts(batches, training=training, progress=progress))

    def parts(
        self, batches: Iterable[Batch], *, training: bool = False, progress: Progress | None = None
    ) -> Iterator[Survey]:
        """Yield the survey of each batch; see :meth:`survey`."""
        done = 0
        for inputs, labels in batches:
            with self._evaluation_mode():
                outputs = self.forward(inputs)
                count = len(outputs)
                index = torch.arange(done, done + count) if training else None
                layers = self.monitor.survey(index)
            done += count
            yield self._joined(layers, outputs, labels, self._novelty(inputs, layers))
            if progress is not None:
                progress(done)

    def _novelty(self, inputs: Any, layers: list[LayerSurvey]) -> Tensor:
        if self.input_novelty is not None:
            # It was learned from examples that are kept on the host.
            return self.input_novelty(inputs.cpu())
        return LIMIT * torch.stack([layer.novelty for layer in layers]).amax(0)

    def _joined(
        self, layers: list[LayerSurvey], outputs: Tensor, labels: Tensor | None, novelty: Tensor
    ) -> Survey:
        surprise = self.monitor.surprise(layers)
        # Divided by the spread, so that no layer dominates the distances by its scale.
        places = torch.cat([layer.places / layer.spread for layer in layers], 1)
        unknown = np.full(len(surprise), -1, np.int64)
        has_classes = self.classes and outputs.dim() == 2
        return Survey(
            places=places.float().cpu().numpy(),
            surprise=surprise.cpu().numpy(),
            percentile=self.monitor.percentile(surprise).cpu().numpy(),
            novelty=novelty.float().cpu().numpy(),
            labels=unknown if labels is None else labels.cpu().numpy().astype(np.int64),
            predicted=outputs.argmax(1).cpu().numpy() if has_classes else unknown,
        )

    @contextmanager
    def _evaluation_mode(self) -> Iterator[None]:
        """Put the network into evaluation mode, with its layers still recorded."""
        model: nn.Module = self.monitor.taps.model
        # model.train() at the end would also put layers into training mode that the user froze.
        modes = [(module, module.training) for module in model.modules()]
        before = self.monitor.taps.in_evaluation
        model.eval()
        self.monitor.taps.in_evaluation = True
        try:
            with forward_only():
                yield
        finally:
            self.monitor.taps.in_evaluation = before
            for module, mode in modes:
                module.training = mode


class _Examples:
    """Evenly spaced inputs of a stream, enough for :class:`InputNovelty`."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._seen = 0
        self._step = 1
        self._judged = True

    def add(self, inputs: Any) -> None:
        """Take every n-th input of a batch."""
        self._judged = self._judged and InputNovelty.judges(inputs)
        if not self._judged:
            self._rows = []
            return
        first = -self._seen % self._step
        rows = inputs[first :: self._step].cpu()
        # A slice would keep its whole batch in memory.
        self._rows += [row.clone() for row in rows if bool(row.isfinite().all())]
        self._seen += len(inputs)
        most = max(LEAST, min(_EXAMPLES, _VALUES // max(1, inputs[0].numel())))
        while len(self._rows) > 2 * most:
            # Every other one goes, so that the rest stays evenly spaced.
            self._rows = self._rows[::2]
            self._step *= 2

    def input_novelty(self) -> InputNovelty | None:
        """Return the input novelty against these; None if there are too few or of another form."""
        return InputNovelty(torch.stack(self._rows)) if len(self._rows) >= LEAST else None
