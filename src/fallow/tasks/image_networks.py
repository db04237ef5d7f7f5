"""The network of a training on images: ours or a library's, with trained weights or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import DamagedData, damaged, invalid, missing_extra
from ..files.regular_file import opened, read_regular
from ..models import image_model
from ..models.expected import Expected
from ..models.output_layer import begin_at_zero, output_layer
from ..options.resolve import ResolvedOptions
from ..options.train_options import library_of

_STEP = "Save a network's state_dict() as safetensors, and name that file."
_SHOWN = 4
_GREY, _COLOUR = 1, 3
_COUNTER = "num_batches_tracked"
"""An entry of batch norm that files of old versions lack, and no result depends on."""


def expected(model: str) -> Expected:
    """Return the images that a network expects; ours take any."""
    library, name = library_of(model), model.partition(":")[2]
    return Expected() if library is None else _module(library).expected(name)


def normalisation(options: ResolvedOptions, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation to normalise images by, ``(C,)`` each.

    A library's network with trained weights has its own. Grey images get three values if the network is a
    library's, so that it sees three equal channels.

    Args:
        options: of the training.
        mean: of the training images.
        std: of the training images.
    """
    if library_of(options.model) is None:
        return mean, std
    known = expected(options.model)
    if options.pretrained is not None and known.mean and len(mean) in (_GREY, _COLOUR):
        return torch.tensor(known.mean), torch.tensor(known.std)
    if len(mean) == _GREY:
        return mean.expand(_COLOUR).clone(), std.expand(_COLOUR).clone()
    return mean, std


def make_network(
    options: ResolvedOptions, channels: int, size: tuple[int, int], classes: int, *, fresh: bool
) -> nn.Module:
    """Return the network that the options name.

    Args:
        options: of the training.
        channels: of the images.
        size: their height and width; a library's network is not asked for one.
        classes: the number of classes.
        fresh: whether to begin with trained weights, if the options say so; a resumed run brings its own.

    Raises:
        InvalidValue: if the network or its weights do not exist, or do not fit.
        DamagedData: if the file of the weights cannot be read.
    """
    library, name = library_of(options.model), options.model.partition(":")[2]
    if library is None:
        network = image_model(options.model, channels, size, classes)
    else:
        network = _of_library(library, name, options, channels, classes, fresh=fresh)
    if fresh and options.pretrained not in (None, "true"):
        take(network, read_weights(Path(str(options.pretrained))), str(options.pretrained))
    return network


def _of_library(
    library: str,
    name: str,
    options: ResolvedOptions,
    channels: int,
    classes: int,
    *,
    fresh: bool,
) -> nn.Module:
    module, arguments = _module(library), options.model_args
    if known := sorted(arguments.keys() & set(module.FILLED_IN)):
        step = f"Leave {known[0]} out of --model_args."
        raise invalid("The data and other options set this argument.", known[0], step)
    # Fetched weights have an output layer for their own classes, which torchvision does not replace.
    fetches = fresh and options.pretrained == "true"
    colours = _COLOUR if channels == _GREY else channels
    network: nn.Module = module.network(
        name, colours, classes, arguments, pretrained=fetches and library == "timm"
    )
    if fetches and library == "torchvision":
        take(network, module.fetched(name), f"The weights of {options.model}")
    return network


def step_if_refused(model: str) -> str:
    """Return what to do if a library's network does not take the images."""
    side = expected(model).side
    if side is None:
        return "Name another network."
    return f"It is made for {side} pixels a side; --image_size scales the images of a folder."


def _module(library: str) -> Any:
    try:
        if library == "timm":
            from ..integrations import timm as module
        else:
            from ..integrations import torchvision as module  # type: ignore[no-redef]
    except ModuleNotFoundError as error:
        raise missing_extra(f"--model {library}:NAME", str(error.name), "vision") from None
    except Exception as error:  # compiled operators of another torch raise errors of any type
        rule = f"--model {library}:NAME needs a torchvision that was built for torch {torch.__version__}."
        step = f"Install it: pip install --force-reinstall torchvision torch=={torch.__version__}."
        raise invalid(rule, f"{type(error).__name__} on import: {error}", step) from error
    return module


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the weights in a file, by name.

    Args:
        path: a FILE.safetensors, or one that torch reads with ``weights_only=True``; the weights may lie
            under ``state_dict`` or ``model`` in it.

    Raises:
        InvalidValue: if there is no such file.
        DamagedData: if it cannot be read, or holds anything but tensors.
    """
    if not path.is_file():
        raise invalid("--pretrained must be true or a file of weights.", f"no file {path}", "Check the path.")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_safetensors(read_regular(path))
        else:
            with opened(path) as file:
                state = torch.load(file, weights_only=True)
    except DamagedData:
        raise
    except Exception as error:  # among them errors of pickle, if the file asks for code to be run
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise damaged(f"{path} must hold weights and nothing else.", reason, _STEP) from None
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise damaged(f"{path} must hold weights by name.", type(state).__name__, _STEP)
    weights: Mapping[str, Tensor] = state
    return weights


def take(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network; an output layer that is missing or of another shape begins at zero.

    Raises:
        InvalidValue: if they are another network's.
    """
    for prefix in ("module.", "network."):  # of DDP, and of a LightningModule of fallow
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    own = network.state_dict()
    fitting = {name for name in own.keys() & weights.keys() if own[name].shape == weights[name].shape}
    unknown = weights.keys() - own.keys()
    open_names = {name for name in own.keys() - fitting if not name.endswith(_COUNTER)}
    output = output_layer(network)
    odd = sorted(name for name in open_names if name.rpartition(".")[0] != output)
    # A file without an output layer fits; one whose output layer has another name does not.
    if odd or unknown or not fitting:
        first = ", ".join([*odd, *sorted(unknown)][:_SHOWN])
        found = f"{len(odd)} of its weights missing or of another shape, {len(unknown)} unknown: {first}"
        raise invalid(f"{source} must fit the network.", found, "Name its network in --model.")
    network.load_state_dict({name: weights[name] for name in fitting}, strict=False)
    if open_names:
        begin_at_zero(network)


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the batch norms of a network with trained weights, which keep mean and variance as they are.

    A fine-tuning is short: their running averages would lag behind the weights, and those of small batches
    are noise. So a sample's output, and its score, do not depend on the batch it is in.
    """
    return [part for part in network.modules() if isinstance(part, _BatchNorm)]


def freeze(network: nn.Module, count: int) -> Sequence[nn.Module]:
    """Freeze the weights of the first parts of a network, and return these.

    The parts are the children of the network that have weights, from its input on; a sequence counts as its
    own children. The last one, the output layer, is always trained.

    Raises:
        InvalidValue: if there are fewer.
    """
    parts: list[nn.Module] = []
    for child in network.children():
        inside = child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
        parts += [part for part in inside if any(True for _ in part.parameters())]
    if count >= max(1, len(parts)):
        rule = f"--freeze must be at most {max(0, len(parts) - 1)}, the parts before the output layer."
        raise invalid(rule, count)
    for part in parts[:count]:
        part.requires_grad_(False)
    return parts[:count]
