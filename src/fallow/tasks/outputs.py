"""Check the outputs of a network that is not ours before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from ..arrays.forward_only import forward_only
from ..arrays.generators import generator_states, put_back
from ..errors import FallowError, invalid
from ..options.own_classes import CLASS_COUNTS
from ..options.own_errors import ENDINGS, exit_error, known_error
from ..scores._logits import class_logits, one_tensor, wrong_number
from .autoencoder import AutoencoderTask, reconstruction
from .base import TaskModule
from .classifier import Classifier
from .language_model import LanguageModelTask

_ROWS = 2  # of a single row, an output without a batch dimension could not be told apart


def check_outputs(
    module: TaskModule,
    dataset: Dataset[Any],
    collate: Callable[[Any], Any],
    name: str,
    arguments: Mapping[str, Any],
    *,
    classes: int | None = None,
    tokens: int | None = None,
    if_refused: str = "Adapt its first layers.",
) -> str:
    """Pass two samples through a network, and raise if its outputs do not fit the task.

    The pass leaves no trace: it is in evaluation mode, and running statistics and random generators are
    restored. Only lazy layers get their shapes.

    Args:
        module: the task, with the network.
        dataset: the training samples.
        collate: makes a batch of them.
        name: of the network, as the user wrote it.
        arguments: the network's arguments from the user.
        classes: the number of classes.
        tokens: the size of a language model's vocabulary.
        if_refused: the next step if the network does not take the samples.

    Returns:
        A remark on suspicious outputs, or an empty string.

    Raises:
        InvalidValue: if the outputs do not fit.
        InvalidType: if they are not a tensor.
    """
    with _without_trace(module.network):
        batch = next(iter(DataLoader(dataset, _ROWS, collate_fn=collate)))
        if isinstance(module, Classifier):
            assert classes is not None
            inputs = module.inputs(batch, None)
            outputs = _outputs(module.network, inputs, name, if_refused)
            logits = class_logits(outputs, len(inputs), classes, name, _step(arguments, classes))
            return _remark(logits, name)
        if isinstance(module, AutoencoderTask):
            inputs = module.prepare(batch[0])
            reconstruction(_outputs(module.network, inputs, name, if_refused), inputs, name)
        if isinstance(module, LanguageModelTask):
            assert tokens is not None
            tokens_in = batch[:, :-1].clamp_min(0)
            return _check_language_model(module.network, tokens_in, tokens, name, if_refused)
    return ""


def _check_language_model(network: nn.Module, inputs: Tensor, tokens: int, name: str, if_refused: str) -> str:
    head, states = getattr(network, "head", None), getattr(network, "hidden", None)
    if isinstance(head, nn.Linear) and callable(states):
        count = head.out_features
        _check_weights(network, name)
    else:
        rule = f"{name} must return logits (B, T, V) for token ids (B, T), V at least the {tokens:,} tokens."
        logits = one_tensor(_outputs(network, inputs, name, if_refused), rule)
        if logits.dim() != 3 or logits.shape[:2] != inputs.shape:
            step = "Return one row of logits per token, for the token that follows it."
            raise invalid(rule, f"the shape {tuple(logits.shape)} for {tuple(inputs.shape)}", step)
        count = int(logits.shape[2])
    if count < tokens:
        raise wrong_number(name, count, tokens, f"Give its last layer {tokens:,} outputs, one per token.")
    if count > tokens:
        return f"{name} has {count:,} outputs for {tokens:,} tokens: the others are never right."
    return ""


def _check_weights(network: nn.Module, name: str) -> None:
    """Raise if a network has no trainable weights."""
    weights = list(network.parameters())
    if not any(weight.requires_grad for weight in weights):
        found = f"{len(weights)} weights, all frozen" if weights else "none"
        step = "Give it a layer with weights, created in its __init__, or set requires_grad of some."
        raise invalid(f"{name} must have weights to train.", found, step)


def _check_values(outputs: Any, network: nn.Module, name: str) -> None:
    """Raise if no output has a gradient, or no value is finite."""
    values = [part for part in _tensors(outputs) if part.is_floating_point()]
    if not values:
        return  # the checks of each task report this
    if not any(part.requires_grad for part in values):
        _check_weights(network, name)
        step = "Do not detach() them, and compute them with gradients on: without no_grad(), numpy or .data."
        raise invalid(f"{name} must return outputs with a gradient.", "outputs without one", step)
    if all(part.numel() and not bool(part.isfinite().any()) for part in values):
        nan = any(bool(part.isnan().any()) for part in values)
        step = "Check its initial weights, its divisions and its logarithms."
        raise invalid(f"{name} must return finite outputs.", "NaN" if nan else "infinite ones", step)


def _outputs(network: nn.Module, inputs: Tensor, name: str, if_refused: str) -> Any:
    try:
        # The caller has turned gradients off, and without them no output has one to check.
        with torch.enable_grad():
            outputs = network(inputs)
        _check_values(outputs, network, name)
        return outputs
    except FallowError:
        raise
    except ENDINGS as error:
        raise exit_error(name, error) from error
    except Exception as error:
        if (known := known_error(name, error)) is not None:
            raise known from error
        kind = "normalised images" if inputs.is_floating_point() else "token ids"
        dtype = str(inputs.dtype).removeprefix("torch.")
        rule = f"{name} must take {kind}, here {dtype} {tuple(inputs.shape)}."
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise invalid(rule, found, if_refused) from error


def _step(arguments: Mapping[str, Any], classes: int) -> str:
    """Return the next step for a wrong number of outputs."""
    given = next((name for name in CLASS_COUNTS if name in arguments), None)
    if given is not None:
        return f"Leave {given} out of --model_args: it is filled in."
    parameter = "its class a parameter num_classes, which is filled in"
    return f"Give its last layer {classes:,} outputs, or {parameter}."


def _remark(logits: Tensor, name: str) -> str:
    """Return a remark on outputs that are not finite or look like probabilities."""
    logits = logits.detach()
    sums = logits.double().sum(1)
    if not bool(sums.isfinite().all()):
        kind = "NaN" if bool(logits.isnan().any()) else "infinite"
        return f"Some outputs of {name} are not finite: {kind}."
    if logits.shape[1] < 2 or bool((logits < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        return ""
    return f"The outputs of {name} look like probabilities. Return the logits, before the softmax."


@contextmanager
def _without_trace(network: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode and restore its state afterwards."""
    states = generator_states()
    modes = [(module, module.training) for module in network.modules()]
    lazy = any(is_lazy(value) for value in (*network.parameters(), *network.buffers()))
    try:
        network.eval()
        # Lazy layers have no values yet to restore.
        with torch.no_grad(), nullcontext() if lazy else forward_only():
            yield
    finally:
        # network.train() would also change modules that were in evaluation mode before.
        for module, mode in modes:
            module.training = mode
        put_back(states)


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors in lists, tuples and mappings, at any depth."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [t for part in outputs for t in _tensors(part)] if isinstance(outputs, list | tuple) else []
