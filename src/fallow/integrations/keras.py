"""A mixin for models of Keras 3, on its backends torch and JAX.

>>> # class SubsamplingModel(SubsamplingMixin, keras.Model): ...
>>> # model = SubsamplingModel(inputs, outputs)
>>> # model.compile("adam", "sparse_categorical_crossentropy")
>>> # model.fit(subsampler.loader(train_set, 32), epochs=9, subsampler=subsampler)
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch
from keras import ops
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..arrays.no_score import NO_SCORE
from ..core.batch_checks import scale_gradient
from ..core.loading import EpochBatches
from ..core.subsampler import Subsampler
from ..errors import check_integer, invalid, invalid_type, wrong_state
from ._mixing import check_order

ScoreFunction = Callable[[Any, Any], Any]
_ENDLESS = sys.maxsize
_REFUSED = ("y", "batch_size", "validation_split", "class_weight", "sample_weight", "steps_per_epoch")


class SubsamplingMixin:
    """Leaves samples out of the training of a Keras model. Name it before the model's class.

    Layers, losses, metrics, schedules, callbacks, validation and prediction are Keras's own. The score of a
    sample is its loss, unless ``score`` says otherwise.

    Under torch each batch is recorded as in a loop of your own. Under JAX the scores stay on the device until
    the epoch ends, when all are recorded at once. There the loader must drop steps, since a compiled step is
    compiled again for each new size of a batch: pass it ``kept_steps=False, full_batches=True``.
    """

    _sampling: _Sampling | None = None

    # Of the model, which this class is mixed with.
    loss: Any
    losses: list[Any]
    optimizer: Any

    def __init_subclass__(cls, **named: Any) -> None:
        """Raise if the mixin stands after the model's class that it changes."""
        super().__init_subclass__(**named)
        step = "Write: class SubsamplingModel(SubsamplingMixin, keras.Model): ..."
        check_order(cls, SubsamplingMixin, keras.Model, step)

    def fit(
        self,
        *args: Any,
        subsampler: Subsampler | None = None,
        score: ScoreFunction | None = None,
        **named: Any,
    ) -> Any:
        """Train the model on the samples that a subsampler keeps; without one, as Keras does.

        Args:
            *args: a loader of the subsampler. Its batches are ``(inputs, targets)``, or also sample weights.
            subsampler: decides which samples to keep. Its schedule has at least ``epochs`` epochs.
            score: ``(targets, predictions) -> (B,)``; the losses by default.
            **named: as in Keras. By default ``initial_epoch`` is the epoch of the subsampler, so that a
                training whose model and subsampler are loaded goes on where it was.

        Returns:
            The history, as Keras returns it.

        Raises:
            InvalidType, InvalidValue: if an argument does not go with a subsampler.
            WrongState: if the epochs of Keras are not those of the subsampler.
        """
        keras_fit = super().fit  # type: ignore[misc]
        if subsampler is None:
            samples = named.get("x", args[0] if args else None)
            if isinstance(getattr(samples, "batch_sampler", None), EpochBatches):
                step = "Pass model.fit(loader, ..., subsampler=subsampler)."
                raise invalid_type("A loader of a subsampler goes with `subsampler`.", "no subsampler", step)
            return keras_fit(*args, **named)
        x, epochs = named.pop("x", args[0] if args else None), named.pop("epochs", 1)
        given = [name for name in _REFUSED if not _is_unset(named.pop(name, None))]
        if given or len(args) > 1:
            step = "Put the samples into the dataset of the loader, and weights into its batches."
            found = given[0] if given else f"{len(args)} values"
            raise invalid("`fit` with a subsampler takes a loader and named arguments.", found, step)
        sampling = _sampling(self, x, subsampler, score, self.loss)
        _check_epochs(subsampler, epochs, named.pop("initial_epoch", None))
        if subsampler.under_way.exhausted:
            # The state was saved after the last batch of an epoch, and before its end.
            subsampler.step()
            if subsampler.epoch == epochs:
                return keras.callbacks.History()
        callbacks, verbose = named.pop("callbacks", None), named.pop("verbose", "auto")
        callbacks = getattr(callbacks, "callbacks", callbacks) or []
        if not isinstance(callbacks, list | tuple):
            callbacks = [callbacks]
        ends = _EpochEnds(sampling)
        ends.listed = keras.callbacks.CallbackList(
            # First, so that the others find the epoch ended.
            [ends, *callbacks],
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=len(x),
            model=self,
        )
        self._sampling = sampling
        try:
            if keras.backend.backend() == "jax":
                # The step is compiled with the variables that hold the scores.
                self.make_train_function(force=True)  # type: ignore[attr-defined]
            with warnings.catch_warnings():
                # An epoch ends with its batches, whose number Keras would fix beforehand.
                warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
                return keras_fit(
                    DataLoader(sampling.batches, batch_size=None),
                    epochs=epochs,
                    initial_epoch=subsampler.epoch,
                    callbacks=ends.listed,
                    verbose=verbose,
                    **{**named, "shuffle": False},  # the loader does it
                )
        finally:
            self._sampling = None
            if keras.backend.backend() == "jax":
                self.train_function = None

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of a batch, and keep the scores of its samples."""
        if not training or self._sampling is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)  # type: ignore[misc]
        sampling = self._sampling
        if (weights := sampling.weights()) is not None:
            weights = ops.convert_to_tensor(weights)
            if sample_weight is not None:
                shape = (-1, *(1 for _ in sample_weight.shape[1:]))
                weights = sample_weight * ops.reshape(weights, shape)
            sample_weight = weights
        loss = super().compute_loss(x, y, y_pred, sample_weight, training=training)  # type: ignore[misc]
        factor = sampling.record(sampling.scores(y, y_pred), sampling.predicted(y_pred))
        if factor != 1.0:
            # Penalties of the weights do not hang on the samples.
            others = sum(ops.sum(more) for more in self.losses)
            data = loss - others
            scale_gradient(data, factor)
            loss = data + others
        return loss

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of the metrics; under JAX also those that hold the scores of an epoch."""
        own: list[Any] = super().metrics_variables  # type: ignore[misc]
        return own if self._sampling is None else own + self._sampling.variables


class _Batches(IterableDataset[Any]):
    """The batches of the epoch under way, without their indices, which are noted.

    Keras asks for the length of an epoch once, and for the next epoch before the present one has ended.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.indices: deque[Tensor] = deque()

    def __len__(self) -> int:
        return _ENDLESS

    def __iter__(self) -> Iterator[Any]:
        self.indices.clear()
        for index, batch in self.loader:
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                step = "Return (inputs, targets) from the dataset; several inputs are a dict or a tuple."
                raise invalid("A batch must be (inputs, targets).", type(batch).__name__, step)
            self.indices.append(index)
            yield tuple(batch)


class _Sampling:
    """What a training with a subsampler needs beside the model.

    Attributes:
        variables: hold what is recorded at the end of the epoch; none under torch.
    """

    def __init__(
        self, loader: DataLoader[Any], subsampler: Subsampler, loss: Any, score: ScoreFunction | None
    ) -> None:
        self.batches, self.subsampler = _Batches(loader), subsampler
        self.variables: list[Any] = []
        # Its values are scores only: the loss that trains is Keras's own.
        self._loss, self._score = loss.call, score

    def scores(self, y: Any, y_pred: Any) -> Any:
        """Return the score of each sample: ``(B,)``, without a gradient."""
        detached = ops.stop_gradient(y_pred)
        return _per_sample((self._score or self._loss)(y, detached), y_pred)

    def predicted(self, y_pred: Any) -> Any:
        """Return the class predicted for each sample, ``(B,)``; None if there are no labels to compare."""
        # Not the property `labels`, which makes a tensor of all of them.
        has_labels = self.subsampler.under_way.floors.labels is not None
        if not has_labels or len(y_pred.shape) != 2 or y_pred.shape[1] < 2:
            return None
        return ops.argmax(ops.stop_gradient(y_pred), axis=1)

    def begin(self) -> None:
        """Begin an epoch."""

    def weights(self) -> Tensor | None:
        """Return the weights of the samples of the next batch, ``(B,)``; None if all are 1."""
        return self.subsampler.weights(self.batches.indices[0])

    def record(self, scores: Any, predicted: Any) -> float:
        """Record the next batch and return the factor of the gradient of its loss."""
        factor = self.subsampler.under_way.gradient_factor(len(scores))
        self.subsampler.record(self.batches.indices.popleft(), scores, predicted=predicted)
        return factor

    def end(self) -> None:
        """End the epoch."""
        self.subsampler.step()


class _JaxSampling(_Sampling):
    """Keeps the scores of an epoch in variables, in the order of its samples, until the epoch ends."""

    def __init__(
        self, loader: DataLoader[Any], subsampler: Subsampler, loss: Any, score: ScoreFunction | None
    ) -> None:
        super().__init__(loader, subsampler, loss, score)
        shape, fixed = (subsampler.n,), {"trainable": False, "initializer": "zeros"}
        self._scores = keras.Variable(shape=shape, dtype="float32", **fixed)
        self._predicted = keras.Variable(shape=shape, dtype="int32", **fixed)
        self._done = keras.Variable(shape=(), dtype="int32", **fixed)
        self.variables = [self._scores, self._predicted, self._done]

    def begin(self) -> None:
        """Begin at the first sample."""
        self._done.assign(0)

    def weights(self) -> Tensor | None:
        """Return None: policies that weigh samples are refused."""
        return None

    def record(self, scores: Any, predicted: Any) -> float:
        """Keep the scores of the next batch."""
        at = (self._done.value,)
        self._scores.assign(ops.slice_update(self._scores.value, at, ops.cast(scores, "float32")))
        if predicted is not None:
            guesses = ops.cast(predicted, "int32")
            self._predicted.assign(ops.slice_update(self._predicted.value, at, guesses))
        self._done.assign(self._done.value + scores.shape[0])
        return 1.0

    def end(self) -> None:
        """Record all samples that were trained on, and end the epoch."""
        # Batches may have been fetched ahead of the last one that trained.
        index = torch.cat(list(self.batches.indices))[: int(self._done.numpy())]
        scores, predicted = (torch.tensor(v.numpy()[: len(index)]) for v in (self._scores, self._predicted))
        if self.subsampler.labels is None:
            self.subsampler.record(index, scores)
        else:
            self.subsampler.record(index, scores, predicted=predicted.long())
        self.subsampler.step()


class _EpochEnds(keras.callbacks.Callback):  # type: ignore[misc]
    """Begins and ends the epochs of the subsampler with those of Keras.

    Attributes:
        listed: all callbacks of the training.
    """

    listed: Any

    def __init__(self, sampling: _Sampling) -> None:
        super().__init__()
        self._sampling = sampling

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Check that both are in the same epoch, and say how many batches it has."""
        sub = self._sampling.subsampler
        if epoch != sub.epoch:
            raise wrong_state(
                f"Keras begins epoch {epoch + 1}, and the subsampler {sub.under_way.name}.",
                "Load the state of the subsampler that was saved with the model.",
            )
        self._sampling.begin()
        self.listed.set_params(self.params | {"steps": len(self._sampling.batches.loader)})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Plan the next epoch."""
        self._sampling.end()


def _per_sample(values: Any, y_pred: Any) -> Any:
    """Return the mean of each row of losses, ``(B,)``, over the targets that are not masked."""
    if not len(values.shape) or values.shape[0] != y_pred.shape[0]:
        step = "Return losses without a reduction over the batch."
        raise invalid("A loss or score must be that of each sample, (B, ...).", f"shape {values.shape}", step)
    if len(values.shape) == 1:
        return values
    rows = (values.shape[0], -1)
    # Keras hangs the masks of targets on tensors: of padding, and of a class that is ignored.
    masks = (getattr(tensor, "_keras_mask", None) for tensor in (y_pred, values))
    known = ops.ones_like(values)
    for mask in masks:
        if mask is not None and tuple(mask.shape) == tuple(values.shape):
            known = known * ops.cast(mask, values.dtype)
    sums, counts = (ops.sum(ops.reshape(part, rows), axis=1) for part in (values * known, known))
    return ops.where(counts > 0, sums / ops.maximum(counts, 1), NO_SCORE)


class _Function(keras.losses.Loss):  # type: ignore[misc]
    """A loss that is given as a function; targets get the shape of the predictions, as Keras passes them."""

    def __init__(self, function: ScoreFunction) -> None:
        super().__init__(reduction=None)
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses of all targets."""
        if len(y_true.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
            y_true = ops.expand_dims(y_true, -1)
        return self._function(y_true, y_pred)


def _sampling(model: Any, loader: Any, subsampler: Any, score: Any, loss: Any) -> _Sampling:
    """Return what the training needs, after all checks."""
    backend = keras.backend.backend()
    if backend not in ("torch", "jax"):
        step = "Set the environment variable KERAS_BACKEND=torch before Keras is imported."
        raise invalid("A subsampler needs Keras on torch or JAX.", f"the backend {backend}", step)
    if not isinstance(subsampler, Subsampler):
        raise invalid_type("`subsampler` must be a Subsampler.", type(subsampler).__name__)
    batches = getattr(loader, "batch_sampler", None)
    if not isinstance(batches, EpochBatches) or batches.epoch is not subsampler.under_way:
        step = "Pass model.fit(subsampler.loader(train_set, 32), epochs=9, subsampler=subsampler)."
        found = "that of another one" if isinstance(batches, EpochBatches) else type(loader).__name__
        raise invalid_type("`fit` must be given a loader of the subsampler.", found, step)
    if isinstance(loss, dict | list | tuple) or loss is None:
        step = "Compile the model with a single loss that returns (B, ...)."
        raise invalid("A subsampler needs one loss.", "none" if loss is None else "several losses", step)
    loss = keras.losses.get(loss)
    if getattr(loss, "reduction", None) is None and not isinstance(loss, keras.losses.Loss):
        loss = _Function(loss)
    if getattr(loss, "reduction", None) not in (None, "none", "mean", "sum_over_batch_size"):
        step = 'Compile the model with a loss of reduction="sum_over_batch_size".'
        raise invalid("The loss must be a mean over the batch.", f"reduction={loss.reduction!r}", step)
    if backend == "torch":
        if model.jit_compile:
            step = "Compile the model with jit_compile=False."
            raise invalid("A recorded step cannot be compiled under torch.", "jit_compile=True", step)
        return _Sampling(loader, subsampler, loss, score)
    if subsampler.under_way.kept_steps is not None:
        step = "Make the loader with kept_steps=False, full_batches=True."
        raise invalid("Under JAX the loader must drop steps: each size of a batch is compiled.", "kept", step)
    if subsampler.policy.weighs:
        step = "Use another one, such as ErrorMass."
        raise invalid("Under JAX the policy must not weigh samples.", repr(subsampler.policy), step)
    return _JaxSampling(loader, subsampler, loss, score)


def _is_unset(value: Any) -> bool:
    """Return whether an argument of ``fit`` is left at None, False or 0."""
    return value is None or (isinstance(value, int | float) and not value)


def _check_epochs(subsampler: Subsampler, epochs: int, initial: int | None) -> None:
    check_integer("epochs", epochs, 1)
    if epochs > subsampler.epochs:
        step = "Both count from the beginning of the training."
        found = f"{epochs}, and a schedule of {subsampler.epochs}"
        raise invalid("`epochs` must be at most that of the subsampler's schedule.", found, step)
    if initial not in (None, subsampler.epoch) or epochs <= subsampler.epoch:
        raise wrong_state(
            f"The subsampler is in epoch {subsampler.epoch}, counted from 0, and Keras is to train epochs "
            f"{initial or 0} to {epochs - 1}.",
            "Load the states of both, leave `initial_epoch` out, and name the last epoch by `epochs`.",
        )
