"""The commands that read several runs: ``list`` and ``compare RUN RUN ...``. They load no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..terminal.streams import say, say_json

if TYPE_CHECKING:
    from ..comparison.side_by_side import Overlap, RunFacts
    from ..runs.listing import ListedRun

DONE = 0
_RUNS = "runs"
"""The folder that ``fallow train`` makes runs in."""
_HEADS = ("name", "data", "policy", "epochs", "saved", "result", "state", "when")
_LEAST = {"when": 36, "data": 36, "policy": 36, "saved": 22}
"""Columns that a narrow terminal has no room for, and the width of the names that they must leave."""

ABOUT_LIST = (
    "The runs in a folder, the newest first. Also those in folders of it, such as the runs of a comparison.\n"
    "Only small files are read, so that thousands are listed in seconds; fallow verify RUN checks every\n"
    "file of a run. Saved and result are those of the epochs done, if the run has ended or was stopped.\n\n"
    "  fallow list\n"
    "  fallow list comparisons/digits --json"
)

ABOUT_SIDE_BY_SIDE = (
    "Runs that are there already, side by side: the settings that differ, what each reached, trained on and\n"
    "saved, and how many of the samples that one left out the other left out too. Trains nothing.\n\n"
    "  fallow compare runs/a runs/b\n"
    "  fallow compare comparisons/digits/runs/* --json\n\n"
    "With --data, fallow compare trains a new comparison: fallow compare --help."
)
_MOST_REMARKS, _MOST_LINKS = 8, 8


def add_runs(parser: Any) -> None:
    """Add the arguments of ``fallow compare RUN RUN ...``."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="The folders of the runs, at least two.")


def add_run_or_folder(parser: Any) -> None:
    """Add the argument of ``fallow serve`` and ``fallow push`` that names a run, or a folder of runs."""
    parser.add_argument("folder", metavar="RUN|FOLDER", help="The folder of a run, or one that holds runs.")


def add_folder(parser: Any) -> None:
    """Add the argument of ``fallow list``."""
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="The folder. Default: runs if it exists, else this one."
    )


def show_list(parsed: Any) -> int:
    """Print the runs in a folder."""
    from ..runs.listing import listing

    folder = parsed.folder or (_RUNS if os.path.isdir(_RUNS) else os.curdir)
    runs, links = listing(Path(folder))
    if parsed.json:
        told = {"folder": folder, "runs": [run.to_dict() for run in runs], "links": links}
        say_json(json.dumps(told, indent=2))
        return DONE
    place = "this folder" if folder == os.curdir else folder
    if not runs:
        say(
            f"No run lies in {place}. Start one: fallow train --data digits. "
            "Or name another folder: fallow list FOLDER."
        )
        _say_links(folder, links)
        return DONE
    from ..spelling import plural
    from ..terminal.tables import print_table, width_here

    rows = [_row(run) for run in runs]
    gone = print_table(_HEADS, rows, width_here(), least=_LEAST, left=("data", "policy", "state", "when"))
    say()
    say(f"{plural(len(runs), 'run')} in {place}, the newest first.")
    if gone:
        say(f"No room for {', '.join(gone)}: widen the terminal, or see --json.")
    if worst := [run for run in runs if run.damage]:
        say(f"Damaged: {worst[0].damage} See fallow verify {quote(worst[0].path)}.")
    _say_links(folder, links)
    return DONE


def _say_links(folder: str, links: list[str]) -> None:
    """Say which links to runs were left out."""
    if links:
        more = f" and {len(links) - _MOST_LINKS} more" if links[_MOST_LINKS:] else ""
        named = ", ".join(links[:_MOST_LINKS]) + more
        step = f"fallow list {quote(os.path.join(folder, links[0]))}"
        say(f"Links are not followed: {named}. Name what one leads to, as in {step}.")


def _row(run: ListedRun) -> list[str]:
    epochs = _progress(run.epochs_done, run.epochs)
    saved = "-" if run.saved_fraction is None else f"{run.saved_fraction:.1%}"
    data = "-" if run.data is None else os.path.basename(run.data.rstrip("/")) or run.data
    when = "-" if run.changed is None else run.changed[:16].replace("T", " ")
    return [run.name, data, run.policy or "-", epochs, saved, _result(run), run.state, when]


def _progress(done: int | None, planned: int | None) -> str:
    return "-" if done is None else f"{done}/{'?' if planned is None else planned}"


def _result(run: ListedRun) -> str:
    """Return the accuracy, or else bits a character or the loss."""
    if run.bits_per_character is not None:
        return f"{run.bits_per_character:.4f} bits"
    if run.accuracy is not None:
        return f"{run.accuracy:.2%}"
    if run.test_loss is not None:
        return f"loss {run.test_loss:.4f}" if abs(run.test_loss) < 1e5 else f"loss {run.test_loss:.1e}"
    return "-"


def show_side_by_side(parsed: Any) -> int:
    """Print runs side by side."""
    from ..comparison.side_by_side import side_by_side
    from ..files.checked_json import finite

    found = side_by_side(parsed.runs)
    if parsed.json:
        say_json(json.dumps(finite(found.to_dict()), indent=2))
        return DONE
    from ..terminal.tables import print_blocks, print_table, width_here

    names = [run.name for run in found.runs]
    rows = [(name, [_value(value) for value in values]) for name, values in found.settings.items()]
    rows += [("", [""] * len(names))] if rows else []
    for head, cells in _reached(found.runs):
        if any(cell != "-" for cell in cells):
            rows.append((head, cells))
    print_blocks(names, rows, width_here())
    if not found.settings:
        say()
        say("No setting differs.")
    if pairs := [pair for pair in found.pairs if pair.reason is None]:
        say()
        shares = [
            [f"{pair.first}, {pair.second}", *_share(pair.last), *_share(pair.all), _of(pair.outliers)]
            for pair in pairs
        ]
        heads = [
            "left out by both, of either",
            "last epoch",
            "(chance)",
            "all epochs",
            "(chance) ",
            "outliers",
        ]
        print_table(heads, shares, width_here(), least={"(chance)": 20, "(chance) ": 20, "outliers": 20})
    if found.remarks:
        say()
    for remark in found.remarks[:_MOST_REMARKS]:
        say(remark)
    if (more := len(found.remarks) - _MOST_REMARKS) > 0:
        say(f"{more} more such sentences, which --json lists.")
    return DONE


def _reached(runs: list[RunFacts]) -> list[tuple[str, list[str]]]:
    """Return the rows of what runs did and reached, with a cell for each run."""

    def shown(name: str, form: str) -> list[str]:
        values = [getattr(run, name) for run in runs]
        return ["-" if value is None else format(value, form) for value in values]

    return [
        ("epochs done", [_progress(run.epochs_done, run.epochs) for run in runs]),
        ("accuracy", shown("accuracy", ".2%")),
        ("bits a character", shown("bits_per_character", ".4f")),
        ("loss", shown("test_loss", ".4g")),
        ("trained on", shown("samples_backward", ",")),
        ("measured only", shown("samples_forward_only", ",")),
        ("saved", shown("saved_fraction", ".1%")),
        ("seconds", shown("seconds", ",.1f")),
        ("wrong labels left out", shown("wrong_labels", ",")),
    ]


def _value(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _share(overlap: Overlap | None) -> tuple[str, str]:
    """Return the share of samples in both of two sets, and that by chance."""
    if overlap is None or overlap.share is None or overlap.by_chance is None:
        return "-", "-"
    return f"{overlap.share:.0%}", f"{overlap.by_chance:.0%}"


def _of(overlap: Overlap | None) -> str:
    return "-" if overlap is None or not overlap.either else f"{overlap.both:,} of {overlap.either:,}"
