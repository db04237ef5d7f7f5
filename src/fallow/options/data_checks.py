"""Checks that options are used by the data. Loads no torch.

A resumed run is not checked: an earlier version may have accepted options that it did not use.
"""

from __future__ import annotations

from pathlib import Path

from ..datasets.names import KNOWN
from ..errors import invalid
from .own_classes import is_import_path
from .resolve import ResolvedOptions, usual
from .train_options import TrainOptions


def check_data_options(options: TrainOptions) -> None:
    """Raise if an option is given that data of this name do not use; ``options`` as :func:`as_given` returns.

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
    if options.task in ("language-model", "autoencoder") and (given := options.min_kept_per_class):
        rule = f"--min_kept_per_class needs classes, and --task {options.task} has none."
        raise invalid(rule, f"--min_kept_per_class {given}", "Leave it out.")
    own_model = is_import_path(options.model)
    if options.task == "autoencoder" and not own_model and options.model not in ("auto", "small-conv"):
        step = "Leave it out, or name your own as package.module:Class."
        raise invalid("--task autoencoder has one model.", f"--model {options.model}", step)


def check_share_is_used(options: ResolvedOptions, drawn: float | None) -> None:
    """Raise if a share to hold out was given, but the data come with a test part.

    Args:
        options: of the training.
        drawn: the share that was held out; None if the data come with a test part.
    """
    if drawn is None and options.resume is None and not options.data.lower().endswith(".txt"):
        _refuse_share(options)


def _refuse_share(options: TrainOptions) -> None:
    if options.test_share != usual(options, "test_share"):
        rule = "--test_share goes with data without a test part."
        found = f"--test_share {options.test_share:g}, and --data {options.data} has its own"
        raise invalid(rule, found, "Leave it out.")
