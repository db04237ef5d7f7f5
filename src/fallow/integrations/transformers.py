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
    """A model for the classes of texts, as a network from token ids to logits.

    Args:
        model: of ``AutoModelForSequenceClassification``.
        pad: the id that fills up a batch.

    Shape:
        token ids ``(B, T)`` to logits ``(B, classes)``.
    """

    def __init__(self, model: nn.Module, pad: int) -> None:
        super().__init__()
        self.model, self.pad = model, pad

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of token ids."""
        seen = (tokens != self.pad).long()
        seen[:, 0] = 1
        return cast("Tensor", self.model(input_ids=tokens, attention_mask=seen).logits)


class PretrainedLanguageModel(nn.Module):
    """A causal language model, as a network from token ids to hidden states and an output layer.

    Args:
        model: of ``AutoModelForCausalLM``.

    Attributes:
        head: the output layer, where the model's logits are what it makes of the hidden states and nothing
            else; None for a model that scales or caps them, which is asked for its logits.

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
        """Return what the output layer gets, ``(B, T, D)``."""
        return cast("Tensor", self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)``."""
        return cast("Tensor", self.model(input_ids=tokens, use_cache=False).logits)

    @torch.no_grad()
    def _is_plain(self) -> bool:
        """Return whether the logits are those of the output layer alone; measured, as families differ."""
        layer = self.model.get_output_embeddings()
        if type(layer) is not nn.Linear:
            return False
        was, weight = self.model.training, layer.weight.clone()
        self.model.eval()
        tokens = torch.arange(8).remainder(len(weight)).unsqueeze(0).to(weight.device)
        try:
            for _ in range(2):
                states, logits = self.hidden(tokens), self(tokens)
                if states.shape[-1] != layer.in_features:
                    return False
                made = nn.functional.linear(states, layer.weight, layer.bias)  # without its hooks
                largest = logits.abs().max()
                if not (made - logits).abs().max() <= _CLOSE * (1 + largest):
                    return False
                # Once more with logits as large as a trained network's and larger: a cap shows only there.
                layer.weight.mul_(_LARGE / largest.clamp_min(1e-6))
        except (AttributeError, RuntimeError):
            return False
        finally:
            layer.weight.copy_(weight)
            self.model.train(was)
        return True


def load_classifier(
    name: str, classes: tuple[str, ...], arguments: dict[str, Any]
) -> tuple[PretrainedClassifier, Any, int]:
    """Return a pretrained model with a new output layer for some classes, its tokenizer, and its filling.

    Args:
        name: of a model on the hub, or a folder.
        classes: their names.
        arguments: further ones of ``from_pretrained``.

    Raises:
        InvalidValue: where there is no such model, or it has no fast tokenizer.
        ModuleNotFoundError: without the library.
    """
    library = _library()
    labels = dict(enumerate(classes))
    more = {"num_labels": len(classes), "id2label": labels, "ignore_mismatched_sizes": True}
    more["label2id"] = {label: place for place, label in labels.items()}
    model = _loaded(name, library.AutoModelForSequenceClassification, {**more, **arguments})
    tokenizer, pad = _tokenizer(name, library, model)
    model.config.pad_token_id = pad
    model.train()
    return PretrainedClassifier(model, pad), tokenizer, pad


def load_language_model(name: str, arguments: dict[str, Any]) -> tuple[PretrainedLanguageModel, Any, int]:
    """Return a pretrained causal language model, its tokenizer, and the id that fills up; see above."""
    library = _library()
    model = _loaded(name, library.AutoModelForCausalLM, arguments)
    tokenizer, pad = _tokenizer(name, library, model)
    model.train()
    return PretrainedLanguageModel(model), tokenizer, pad


def longest(model: nn.Module) -> int | None:
    """Return how many positions a model has; None where it does not say."""
    config: Any = getattr(model, "config", None)
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if found is None:
        return None
    # Some count positions from after the filling's.
    offset = (
        2 if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "longformer") else 0
    )
    return int(found) - offset


def _loaded(name: str, kind: Any, arguments: dict[str, Any]) -> Any:
    """Load a model in float32; nothing that a repository brings is run, and nothing is unpickled."""
    _check_place(name)
    fixed = {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
    _check_config(name, arguments)
    try:
        with _quiet():
            return kind.from_pretrained(
                name, **{**fixed, **arguments, "local_files_only": Path(name).is_dir()}
            )
    except Exception as error:  # the hub, the disk and the models raise many kinds
        step = "Name a model of the hub or a folder, with weights as safetensors."
        raise invalid(f"--model {name} must be a model that can be loaded.", _reason(error), step) from None


def _check_config(name: str, arguments: dict[str, Any]) -> None:
    """Raise for a model whose settings name code of a repository: some versions fetch and run it."""
    more = {key: arguments[key] for key in ("revision", "subfolder", "token") if key in arguments}
    try:
        with _quiet():
            local = Path(name).is_dir()
            found, _ = _library().PretrainedConfig.get_config_dict(name, local_files_only=local, **more)
    except Exception:  # loading the model says what is wrong
        return
    for key, value in _kernels(found):
        if key not in arguments:
            step = f"If you trust it, name it: --model_args '{{{key}: ...}}'."
            raise invalid(f"--model {name} must not bring code.", f"{key} {ascii(value)[:100]}", step)


def _kernels(settings: Any) -> Iterator[tuple[str, Any]]:
    """Yield each setting, at any depth, that names a repository of compiled code, as ``owner/name``."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        named = key.lstrip("_")
        if named.endswith("_implementation") and "/" in str(value):
            yield named, value
        yield from _kernels(value)


def _check_place(name: str) -> None:
    """Raise for what can only be a folder, and is none: the hub's names have one stroke at most."""
    path = Path(name)
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not path.is_dir():
        found = "a file" if path.exists() else "none"
        raise invalid(f"--model {name}: there must be such a folder.", found, "Check the path.")


def _reason(error: Exception) -> str:
    """Return the first sentence of what an error says, or its kind."""
    said = re.split(r"(?<=[.!?])\s|\n(?=[A-Z])", str(error).strip(), maxsplit=1)[0]
    return " ".join(said.split())[:300] or type(error).__name__


def _tokenizer(name: str, library: Any, model: Any) -> tuple[Any, int]:
    try:
        with _quiet():
            found = library.AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, local_files_only=Path(name).is_dir()
            )
    except Exception as error:  # as many kinds as there are tokenizers
        step = "Save one into the same folder."
        raise invalid(f"{name} must have a tokenizer.", _reason(error), step) from None
    inner = getattr(found, "backend_tokenizer", None)
    if inner is None:
        step = "Convert it by transformers' AutoTokenizer with use_fast=True."
        raise invalid(f"The tokenizer of {name} must be a fast one.", type(found).__name__, step)
    rows = model.get_input_embeddings().weight.shape[0]
    if inner.get_vocab_size() > rows:
        found_sizes = f"{inner.get_vocab_size()} tokens, {rows} embeddings"
        raise invalid(f"The tokenizer of {name} must fit its model.", found_sizes, "Save both together.")
    inner.no_truncation()
    inner.no_padding()
    if not inner.encode("The quick brown fox", add_special_tokens=False).ids:  # made up where there is none
        raise invalid(f"{name} must have a tokenizer.", "one without words", "Save one into the same folder.")
    pads = (found.pad_token_id, model.config.pad_token_id, found.eos_token_id, 0)
    return inner, int(next(pad for pad in pads if pad is not None))


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the library load without bars, reports and retries: a new output layer is what is wanted."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as theirs

    logging: Any = theirs

    level, of_hub, bars = logging.get_verbosity(), hub.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.ERROR)
    hub.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(of_hub)
        if bars:
            logging.enable_progress_bar()


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import transformers
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face model", "transformers", "hf") from None
    return transformers
