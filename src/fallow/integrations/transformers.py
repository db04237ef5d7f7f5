"""Networks and tokenizers of Hugging Face's `transformers`."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..errors import invalid, missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOSE, _LARGE = 1e-3, 1e3


class PretrainedClassifier(nn.Module):
    """A classification model for texts, as a network from token ids to logits.

    Args:
        model: of ``AutoModelForSequenceClassification``.
        pad: the padding id.

    Shape:
        token ids ``(B, T)`` to logits ``(B, classes)``.
    """

    def __init__(self, model: nn.Module, pad: int) -> None:
        super().__init__()
        self.model, self.pad = model, pad

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of token ids."""
        mask = (tokens != self.pad).long()
        mask[:, 0] = 1  # an empty text would attend to nothing, which gives NaN
        return cast("Tensor", self.model(input_ids=tokens, attention_mask=mask).logits)


class PretrainedLanguageModel(nn.Module):
    """A causal language model, as a network from token ids to hidden states and an output layer.

    Args:
        model: of ``AutoModelForCausalLM``.

    Attributes:
        head: the output layer, if the model's logits are its output for the hidden states; None for a model
            that scales or caps the logits.

    Shape:
        token ids ``(B, T)`` to logits ``(B, T, V)``: position t predicts the token at t + 1.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._plain = self._is_plain()

    @property
    def head(self) -> nn.Linear | None:
        """The output layer, or None."""
        return cast("nn.Linear", self.model.get_output_embeddings()) if self._plain else None

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the input of the output layer, ``(B, T, D)``."""
        return cast("Tensor", self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)``."""
        return cast("Tensor", self.model(input_ids=tokens, use_cache=False).logits)

    @torch.no_grad()
    def _is_plain(self) -> bool:
        """Return whether the logits are the output of the output layer, by a forward pass."""
        # No attribute tells: families scale or cap logits under settings of different names.
        layer = self.model.get_output_embeddings()
        if type(layer) is not nn.Linear:
            return False
        training = self.model.training
        weight = layer.weight.clone()
        self.model.eval()
        tokens = torch.arange(8).remainder(len(weight)).unsqueeze(0).to(weight.device)
        try:
            for _ in range(2):
                states, logits = self.hidden(tokens), self(tokens)
                if states.shape[-1] != layer.in_features:
                    return False
                expected = nn.functional.linear(states, layer.weight, layer.bias)  # without its hooks
                largest = logits.abs().max()
                if not (expected - logits).abs().max() <= _CLOSE * (1 + largest):
                    return False
                # The second pass has logits larger than a trained network's: only they show a cap.
                layer.weight.mul_(_LARGE / largest.clamp_min(1e-6))
        except (AttributeError, RuntimeError):
            return False
        finally:
            layer.weight.copy_(weight)
            self.model.train(training)
        return True


def load_classifier(
    name: str, classes: tuple[str, ...], arguments: dict[str, Any]
) -> tuple[PretrainedClassifier, Any, int]:
    """Return a pretrained model with a new output layer for the classes, its tokenizer and its padding id.

    Args:
        name: of a model on the hub, or a folder.
        classes: the names of the classes.
        arguments: more arguments of ``from_pretrained``.

    Raises:
        InvalidValue: if there is no such model, or it has no fast tokenizer.
        ModuleNotFoundError: if transformers is not installed.
    """
    library = _library()
    head = {
        "num_labels": len(classes),
        "id2label": dict(enumerate(classes)),
        "label2id": {label: place for place, label in enumerate(classes)},
        "ignore_mismatched_sizes": True,
    }
    model = _load(name, library.AutoModelForSequenceClassification, {**head, **arguments})
    tokenizer, pad = _tokenizer(name, library, model)
    model.config.pad_token_id = pad
    model.train()
    return PretrainedClassifier(model, pad), tokenizer, pad


def load_language_model(name: str, arguments: dict[str, Any]) -> tuple[PretrainedLanguageModel, Any, int]:
    """Return a pretrained causal language model, its tokenizer and its padding id; see above."""
    library = _library()
    model = _load(name, library.AutoModelForCausalLM, arguments)
    tokenizer, pad = _tokenizer(name, library, model)
    model.train()
    return PretrainedLanguageModel(model), tokenizer, pad


def longest(model: nn.Module) -> int | None:
    """Return the number of positions of a model; None if it has no limit in its config."""
    config: Any = getattr(model, "config", None)
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if positions is None:
        return None
    # These families number positions from after the padding id.
    shifted = getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "longformer")
    return int(positions) - (2 if shifted else 0)


def _load(name: str, kind: Any, arguments: dict[str, Any]) -> Any:
    """Load a model in float32, without running code of its repository and without pickle."""
    _check_folder(name)
    _check_config(name, arguments)
    settings = {
        "dtype": torch.float32,
        "trust_remote_code": False,
        "use_safetensors": True,
        **arguments,
        "local_files_only": Path(name).is_dir(),
    }
    try:
        with _quiet():
            return kind.from_pretrained(name, **settings)
    except Exception as error:  # the hub, the disk and the models raise many kinds
        step = "Name a model of the hub or a folder, with weights as safetensors."
        raise invalid(f"--model {name} must be a model that can be loaded.", _reason(error), step) from None


def _check_config(name: str, arguments: dict[str, Any]) -> None:
    """Raise if a model's config names a repository of code, which some versions fetch and run."""
    source = {key: arguments[key] for key in ("revision", "subfolder", "token") if key in arguments}
    try:
        with _quiet():
            local = Path(name).is_dir()
            config, _ = _library().PretrainedConfig.get_config_dict(name, local_files_only=local, **source)
    except Exception:  # loading the model raises the error
        return
    for key, value in _kernels(config):
        if key not in arguments:
            step = f"If you trust it, name it: --model_args '{{{key}: ...}}'."
            raise invalid(f"--model {name} must not bring code.", f"{key} {ascii(value)[:100]}", step)


def _kernels(settings: Any) -> Iterator[tuple[str, Any]]:
    """Yield each setting, at any depth, that names a repository of compiled code, as ``owner/name``."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        public_key = key.lstrip("_")
        if public_key.endswith("_implementation") and "/" in str(value):
            yield public_key, value
        yield from _kernels(value)


def _check_folder(name: str) -> None:
    """Raise if a name can only be a folder, and there is none; names on the hub have at most one slash."""
    path = Path(name)
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not path.is_dir():
        kind = "a file" if path.exists() else "no such folder"
        raise invalid(f"--model {name} must be a folder.", kind, "Check the path.")


def _reason(error: Exception) -> str:
    """Return the first sentence of an error's message, or the class name if it is empty."""
    first = re.split(r"(?<=[.!?])\s|\n(?=[A-Z])", str(error).strip(), maxsplit=1)[0]
    return " ".join(first.split())[:300] or type(error).__name__


def _tokenizer(name: str, library: Any, model: Any) -> tuple[Any, int]:
    try:
        with _quiet():
            tokenizer = library.AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, local_files_only=Path(name).is_dir()
            )
    except Exception as error:  # tokenizers raise many kinds
        step = "Save one into the same folder."
        raise invalid(f"{name} must have a tokenizer.", _reason(error), step) from None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        step = "Convert it by transformers' AutoTokenizer with use_fast=True."
        raise invalid(f"The tokenizer of {name} must be a fast one.", type(tokenizer).__name__, step)
    rows = model.get_input_embeddings().weight.shape[0]
    if fast.get_vocab_size() > rows:
        sizes = f"{fast.get_vocab_size()} tokens, {rows} embeddings"
        raise invalid(f"The tokenizer of {name} must fit its model.", sizes, "Save both together.")
    fast.no_truncation()
    fast.no_padding()
    # Without tokenizer files transformers makes an empty tokenizer up.
    if not fast.encode("The quick brown fox", add_special_tokens=False).ids:
        raise invalid(f"{name} must have a tokenizer.", "one without words", "Save one into the same folder.")
    pads = (tokenizer.pad_token_id, model.config.pad_token_id, tokenizer.eos_token_id, 0)
    return fast, int(next(pad for pad in pads if pad is not None))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars and warnings of the libraries; the new output layer is reported as a problem."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as untyped

    transformers: Any = untyped
    level = transformers.get_verbosity()
    hub_level = hub.get_verbosity()
    bars = transformers.is_progress_bar_enabled()
    transformers.set_verbosity(transformers.ERROR)
    hub.set_verbosity(transformers.ERROR)
    transformers.disable_progress_bar()
    try:
        yield
    finally:
        transformers.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            transformers.enable_progress_bar()


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import transformers
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face model", "transformers", "hf") from None
    return transformers
