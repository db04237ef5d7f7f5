"""Which options go with which data: one that these data have no use for is refused. Loads no torch.

A run that goes on keeps the options that it was begun with, also those that an earlier version took and did
not use; so nothing is refused there.
"""

from __future__ import annotations

from pathlib import Path

from ..datasets.names import KNOWN
from ..errors import InvalidValue, invalid
from .own_classes import is_import_path
from .resolve import ResolvedOptions, usual
from .train_options import TrainOptions

_FOR_LABELS = ("doubt", "keep_rare", "min_kept_per_class")


def check_data_options(options: TrainOptions) -> None:
    """Raise for options that data of this name have no use for.

    Args:
        options: those that were given, with what is kept as if it had been.

    Raises:
        InvalidValue: naming the option.
    """
    if options.resume is not None:
        return
    name = options.data
    own, known = is_import_path(name), name in KNOWN
    if own or known or Path(name).suffix.lower() == ".npz":
        _refuse_share(options)
        if options.skip_corrupt:
            raise invalid("--skip_corrupt goes with a folder of images.", f"--data {name}", "Leave it out.")
    if own and options.image_size is not None:
        raise invalid("--image_size goes with a folder of images.", f"--data {name}", "Leave it out.")
    if options.data_args and not own:
        step = "Leave it out, or name your own LightningDataModule."
        raise invalid("--data_args goes with --data package.module:Class.", f"--data {name}", step)
    if options.task in ("language-model", "autoencoder"):
        for option in _FOR_LABELS:
            if given := getattr(options, option):
                rule = f"--{option} goes with classes, which --task {options.task} has none of."
                raise invalid(rule, f"--{option} {given}", "Leave it out.")
    if options.task == "autoencoder" and not is_import_path(options.model) and options.model != "small-conv":
        step = "Leave it out, or name your own as package.module:Class."
        raise invalid("--task autoencoder has one model.", f"--model {options.model}", step)


def check_share_is_used(options: ResolvedOptions, drawn: float | None) -> None:
    """Raise if a share to hold out was named and the data, as they were read, bring a test part of their own.

    Args:
        options: of the training.
        drawn: the share that was held out; None if the data brought their test part.
    """
    if drawn is None and options.resume is None and not options.data.lower().endswith(".txt"):
        _refuse_share(options)


def _refuse_share(options: TrainOptions) -> None:
    if options.test_share != usual(options, "test_share"):
        raise _own_part(options)


def _own_part(options: TrainOptions) -> InvalidValue:
    rule = "--test_share goes with data without a test part."
    found = f"--test_share {options.test_share:g}, and --data {options.data} has its own"
    return invalid(rule, found, "Leave it out.")
