"""The commands that read a run: ``report``, ``inspect``, ``export``, ``verify``. None loads torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .life import Life, life
from .reading import Run
from .verifying import told_json, verify

DONE, FINDING, DAMAGED = 0, 1, 3


@dataclass(frozen=True)
class Command:
    """A command that reads a run.

    Attributes:
        about: what it is for, in a line and more.
        add: adds its arguments to a parser, after RUN.
        run: does it, and returns the exit code.
    """

    about: str
    add: Callable[[Any], None]
    run: Callable[[Any], int]


def _nothing(parser: Any) -> None:
    pass


def _verify(parsed: Any) -> int:
    run = Run(parsed.run)
    found = verify(run)
    if parsed.json:
        print(told_json(run, found))
        return DAMAGED if found.damaged else FINDING if found.incomplete else DONE
    print(f"{run.directory.path}: {run.status}")
    for remark in found.remarks:
        print(remark)
    for name, words in sorted(found.damaged.items()):
        print(f"Damaged: {name}: {words}")
    if not found.damaged:
        print(f"{len(found.checked)} files checked, all as they were written.")
        return FINDING if found.incomplete else DONE
    if run.search.found is None:
        print("No state is sound: put back a copy of the folder, or begin the run anew.")
    else:
        epoch = run.about.get("epoch")
        accept = "".join(
            f" --accept {word}"
            for word, part in (("history", "history/epoch-"), ("data", "data"))
            if any(name.startswith(part) for name in found.damaged)
        )
        print(
            f"The newest sound state is {run.search.found.number}, at epoch {epoch}: "
            f"fallow train --resume {run.directory.path}{accept} goes on from there."
        )
    return DAMAGED


def _inspect(parsed: Any) -> int:
    found = life(Run(parsed.run), parsed.sample)
    if parsed.json:
        print(json.dumps(found.told(), indent=2))
    else:
        print(_life_text(found))
    return DONE


def _life_text(found: Life) -> str:
    """Return a sample's life as lines: what it is, then a row an epoch with a bar for its score."""
    from .report.text import name as shown

    lines = [f"Sample {found.sample}"]
    for name, value in (("label", found.label), ("predicted", found.predicted), ("file", found.file)):
        if value is not None:
            lines.append(f"{name:<10} {shown(value, len(value))}")
    lines.append(f"{'used':<10} in {found.times_used} of {len(found.epochs)} epochs")
    lines += ["Epochs count from 0, as the files of a run do."]
    lines += ["", f"{'epoch':>5}  {'used':<4}  {'score':>9}  {'':<20}  reason"]
    highest = max((epoch.score for epoch in found.epochs if epoch.score is not None), default=0.0)
    for epoch in found.epochs:
        score = "-" if epoch.score is None else f"{epoch.score:.4f}"
        share = 0.0 if epoch.score is None or highest <= 0 else max(epoch.score, 0.0) / highest
        used = "yes" if epoch.used else ""
        lines.append(
            f"{epoch.epoch:>5}  {used:<4}  {score:>9}  {'█' * round(20 * share):<20}  {epoch.reason}".rstrip()
        )
    return "\n".join(lines)


def _export(parsed: Any) -> int:
    from .export import export

    tell = _teller() if sys.stderr.isatty() and not parsed.json else None
    paths = export(Run(parsed.run), parsed.format, None if parsed.out is None else Path(parsed.out), tell)
    if parsed.json:
        print(json.dumps({"files": [{"path": str(p), "bytes": p.stat().st_size} for p in paths]}, indent=2))
    else:
        for path in paths:
            print(f"{path}  {path.stat().st_size:,} bytes")
    return DONE


def _teller() -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\rExporting epoch {done} of {total}", end=end, file=sys.stderr, flush=True)

    return tell


def _report(parsed: Any) -> int:
    from .report import write_report

    path = write_report(Run(parsed.run), None if parsed.out is None else Path(parsed.out))
    if parsed.json:
        print(json.dumps({"report": str(path), "bytes": path.stat().st_size}, indent=2))
    else:
        print(f"Report: {path}  ({path.stat().st_size / 1e6:.1f} MB; open it in a browser)")
    return DONE


def _add_sample(parser: Any) -> None:
    parser.add_argument("sample", type=int, metavar="ID", help="Its index in the training set, from 0.")


def _add_format(parser: Any) -> None:
    parser.add_argument(
        "--format",
        default="parquet",
        help="parquet (DuckDB, Polars, pandas read it), csv or json (lists of objects). Default parquet.",
    )
    parser.add_argument("--out", help="The folder. Default: RUN/export.")


def _add_out(parser: Any) -> None:
    parser.add_argument("--out", help="The file. Default: RUN/report.html.")


COMMANDS = {
    "report": Command(
        "One HTML page of a run: what was saved, which samples were used in which epoch, the samples that "
        "look mislabelled. It opens from the disk and asks for no network.\n\n  fallow report runs/digits",
        _add_out,
        _report,
    ),
    "inspect": Command(
        "One sample's life: epoch by epoch whether it was used, its score, why it was left out.\n\n"
        "  fallow inspect runs/digits 17",
        _add_sample,
        _inspect,
    ),
    "export": Command(
        "Tables for other tools: history (a row an epoch and sample) and samples (a row each).\n\n"
        "  fallow export runs/digits --format parquet\n"
        "  duckdb -c \"select sample, max(score) from 'runs/digits/export/history.parquet' group by 1\"",
        _add_format,
        _export,
    ),
    "verify": Command(
        "Whether every file of a run is as it was written. Exit code 0 where it is, 1 where a run that is\n"
        "trained lacks files, 3 where a file is damaged.\n\n"
        "  fallow verify runs/digits",
        _nothing,
        _verify,
    ),
}
