"""``fallow demo``: a first training on data that are there already, told in plain words, with its report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import missing_extra
from ..options.train_options import TrainOptions
from ..spelling import plural
from ..terminal.streams import say

DONE, FINDING = 0, 1
DATA = "digits"
ABOUT_DEMO = (
    "A first look in under two minutes, without a download. Trains a small network on 1,437 images of\n"
    "handwritten digits as fallow train does without options, says in plain words what happened, and writes\n"
    "the report.\n\n"
    "  fallow demo\n"
    "  fallow demo --out runs/demo"
)


def add_arguments(parser: Any) -> None:
    """Add the arguments of ``fallow demo``."""
    parser.add_argument("--out", metavar="RUN", help="The run directory. Default: a new folder in runs/.")


def run_demo(out: str | None) -> int:
    """Train, print what happened, write the report, and return the exit code."""
    from ..options.checks import check

    options = TrainOptions(data=DATA, out=out)
    check(options)
    try:
        from ..report import write_report
        from ..runs.run_files import RunFiles
        from ..training.train import train
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow demo`", str(error.name)) from None
    say("A small network learns to read handwritten digits. All that it needs is on this machine.")
    say()
    summary = train(options)
    report = write_report(RunFiles(summary["run"]))
    say()
    for line in what_happened(summary, report):
        say(line)
    return FINDING if summary["diverged"] else DONE


def what_happened(summary: Mapping[str, Any], report: Path) -> list[str]:
    """Return what happened in a training, how to open its report, and what to do next, in lines.

    Args:
        summary: as :func:`fallow.training.train.train` returns it.
        report: the file of the report.
    """
    rows, settings = summary["epochs"], summary["settings"]
    n, least = settings["samples"], min(row["samples_backward"] for row in rows)
    epochs, saved = plural(len(rows), "epoch"), f"{summary['saved_fraction']:.0%}"
    right, tested = f"{summary['accuracy']:.1%}", f"{summary['samples_evaluated']:,} images"
    return [
        "What happened",
        f"  Full training shows the network all {n:,} images in each of {epochs}. Here it left out images",
        "  that the network had surely learned, and gave each of them back now and then.",
        f"  The leanest epoch trained on {least:,} images. All epochs together saved {saved} of the samples.",
        f"  The network reads {right} of {tested} right that it never trained on.",
        "",
        "Look at it",
        "  The report shows which image was left out when, and which ones look odd or mislabelled.",
        f"  Open it in a browser: {os.path.abspath(report)}",
        "",
        "Next",
        "  fallow train --data FOLDER      your images, one sub-folder a class; or a table of texts",
        "  fallow compare --data FOLDER    does leaving out pay there? against plain controls",
        "  fallow list                     the runs that you have",
    ]
