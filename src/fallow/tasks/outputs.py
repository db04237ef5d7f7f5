"""What a network of the user's own gives, held against what there is to learn before anything is trained."""

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

_ROWS = 2


def check_outputs(
    module: TaskModule,
    dataset: Dataset[Any],
    collate: Callable[[Any], Any],
    name: str,
    arguments: Mapping[str, Any],
    *,
    classes: int | None = None,
    tokens: int | None = None,
) -> str:
    """Send two samples through a network, and raise if what it gives is not what its task needs.

    The pass leaves no trace: no gradients, in evaluation mode, with all running statistics and generators put
    back. Lazy layers get their shapes by it.

    Args:
        module: the task, with the user's network.
        dataset: where samples come from.
        collate: makes a batch of them.
        name: of the network, as the user named it.
        arguments: that the user gave it.
        classes: how many there are.
        tokens: how many a language model's vocabulary has.

    Returns:
        What is worth a line though it is no error; nothing if all is well.

    Raises:
        InvalidValue, InvalidType: naming what is wanted, what was found, and what to do.
    """
    with _aside(module.network):
        batch = next(iter(DataLoader(dataset, _ROWS, collate_fn=collate)))
        if isinstance(module, Classifier):
            assert classes is not None
            inputs = module.inputs(batch, None)
            found = _passed(module.network, inputs, name)
            return _probable(class_logits(found, len(inputs), classes, name, _step(arguments, classes)), name)
        if isinstance(module, AutoencoderTask):
            inputs = module.prepare(batch[0])
            reconstruction(_passed(module.network, inputs, name), inputs, name)
        if isinstance(module, LanguageModelTask):
            assert tokens is not None
            return _check_language_model(module.network, batch[:, :-1].clamp_min(0), tokens, name)
    return ""


def _check_language_model(network: nn.Module, inputs: Tensor, tokens: int, name: str) -> str:
    head, states = getattr(network, "head", None), getattr(network, "hidden", None)
    if isinstance(head, nn.Linear) and callable(states):
        found = head.out_features
        _check_weights(network, name)
    else:
        rule = f"{name} must return logits (B, T, V) for token ids (B, T), V at least the {tokens:,} tokens."
        logits = one_tensor(_passed(network, inputs, name), rule)
        if logits.dim() != 3 or logits.shape[:2] != inputs.shape:
            step = "Return a row of logits for each token, as for the token that follows it."
            raise invalid(rule, f"the shape {tuple(logits.shape)} for {tuple(inputs.shape)}", step)
        found = int(logits.shape[2])
    if found < tokens:
        raise wrong_number(name, found, tokens, f"Give its last layer {tokens:,} outputs, one a token.")
    if found > tokens:
        return f"{name} has {found:,} outputs for {tokens:,} tokens: the others are never right."
    return ""


def _check_weights(network: nn.Module, name: str) -> None:
    """Raise for a network in which nothing learns."""
    weights = list(network.parameters())
    if not any(weight.requires_grad for weight in weights):
        found = f"{len(weights)} weights, all frozen" if weights else "none"
        step = "Give it a layer with weights, made in its __init__, or set requires_grad of some."
        raise invalid(f"{name} must have weights to train.", found, step)


def _check_values(found: Any, network: nn.Module, name: str) -> None:
    """Raise for outputs that nothing can be learned from: without a gradient, or no numbers at all."""
    outputs = [part for part in _tensors(found) if part.is_floating_point()]
    if not outputs:
        return  # what they must be is said by others
    if not any(part.requires_grad for part in outputs):
        _check_weights(network, name)
        step = "Do not detach() them, and compute them with gradients on: without no_grad(), numpy or .data."
        raise invalid(f"{name} must return outputs with a gradient.", "outputs without one", step)
    if all(part.numel() and not bool(part.isfinite().any()) for part in outputs):
        nan = any(bool(part.isnan().any()) for part in outputs)
        step = "Look at its first weights, and at what it divides by or takes the logarithm of."
        raise invalid(f"{name} must return finite outputs.", "NaN" if nan else "infinite ones", step)


def _passed(network: nn.Module, inputs: Tensor, name: str) -> Any:
    try:
        with torch.enable_grad():
            found = network(inputs)
        _check_values(found, network, name)
        return found
    except FallowError:
        raise
    except ENDINGS as error:
        raise exit_error(name, error) from error
    except Exception as error:  # whatever somebody else's code raises
        if (known := known_error(name, error)) is not None:
            raise known from error
        kind = "normalised images" if inputs.is_floating_point() else "token ids"
        rule = (
            f"{name} must take {kind}, here {str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}."
        )
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise invalid(rule, said, "Let its first layers fit them.") from error


def _step(arguments: Mapping[str, Any], classes: int) -> str:
    """Return what to do about another number of outputs."""
    given = next((name for name in CLASS_COUNTS if name in arguments), None)
    if given is not None:
        return f"Leave {given} out of --model_args: it is given the number."
    return f"Give its last layer {classes:,} outputs, or its signature a parameter num_classes, which is set."


def _probable(logits: Tensor, name: str) -> str:
    """Return a line for outputs that look like probabilities."""
    logits = logits.detach()
    sums = logits.double().sum(1)
    if not bool(sums.isfinite().all()):
        return f"Some outputs of {name} are not finite: {_kinds(logits)} among them."
    if logits.shape[1] < 2 or bool((logits < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        return ""
    return f"The outputs of {name} look like probabilities. Return the logits, before the softmax."


def _kinds(values: Tensor) -> str:
    return "NaN is" if bool(values.isnan().any()) else "infinite ones are"


@contextmanager
def _aside(network: nn.Module) -> Iterator[None]:
    """Let a network run in evaluation mode without a trace."""
    states = generator_states()
    modes = [(module, module.training) for module in network.modules()]
    lazy = any(is_lazy(value) for value in (*network.parameters(), *network.buffers()))
    try:
        network.eval()
        # Lazy layers have no values yet that could be put back.
        with torch.no_grad(), nullcontext() if lazy else forward_only():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        put_back(states)


def _tensors(found: Any) -> list[Tensor]:
    """Return the tensors in lists, tuples and mappings, at any depth."""
    if isinstance(found, Tensor):
        return [found]
    parts = found.values() if isinstance(found, Mapping) else found
    return [t for part in parts for t in _tensors(part)] if isinstance(found, Mapping | list | tuple) else []
