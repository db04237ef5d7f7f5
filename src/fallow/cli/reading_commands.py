"""The commands that read a run. ``gaps`` and ``collect`` use its network; the others load no torch.

Each command imports what it needs when it runs, so that ``--help`` stays fast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..errors import missing_extra
from ..options.train_options import TEXT_TASKS
from ..terminal.streams import say, say_json, say_progress
from .push_command import ABOUT_PUSH, add_push, run_push
from .runs_commands import ABOUT_LIST, add_folder, show_list

if TYPE_CHECKING:
    from ..runs.sample_history import SampleHistory

DONE, FINDING, DAMAGED = 0, 1, 3
_LISTED = 50
"""The largest number of damaged files that are listed."""
_SHOWN = 20
"""The number of suspects that are shown."""


@dataclass(frozen=True)
class Command:
    """A command that reads a run.

    Attributes:
        about: its purpose, in a line, and more.
        add: adds its arguments to a parser, after RUN.
        run: runs it and returns the exit code.
        of_a_run: whether its first argument is RUN.
    """

    about: str
    add: Callable[[Any], None]
    run: Callable[[Any], int]
    of_a_run: bool = True


def _nothing(parser: Any) -> None:
    pass


def _verify(parsed: Any) -> int:
    from ..runs.pushed import read_told
    from ..runs.run_files import RunFiles
    from ..runs.verify import to_json, verify

    run = RunFiles(parsed.run)
    result = verify(run)
    code = FINDING if result.incomplete else DONE
    if result.damaged:
        code = DAMAGED
    if parsed.json:
        say_json(to_json(run, result))
        return code
    say(f"{run.directory.path}: {run.status}")
    for remark in result.remarks:
        say(remark)
    listed = sorted(result.damaged.items())
    for name, fault in listed[:_LISTED]:
        say(f"Damaged: {name}: {fault}")
    if len(listed) > _LISTED:
        say(f"Damaged: {len(listed) - _LISTED:,} more, which --json lists")
    if not result.damaged:
        many = len(result.checked) != 1
        as_written = "all as they were written" if many else "as it was written"
        say(f"{len(result.checked)} file{'s'[:many]} checked, {as_written}.")
    elif run.search.found is None:
        say("No state is sound: put back a copy of the folder, or start the run again.")
    elif read_told(run.directory.path) is not None:
        say("It was pushed. fallow push, where it was trained, sends again what you remove here.")
    else:
        epoch, epochs = run.about.epoch, run.about.epochs
        done = f"after epoch {epoch} of {epochs}" if epoch else "from before the first epoch"
        lost = ",".join(
            word
            for word, part in (("history", "history/epoch-"), ("data", "data"))
            if any(name.startswith(part) for name in result.damaged)
        )
        accept = f" --accept {lost}" if lost else ""
        say(
            f"The newest sound state is {run.search.found.number}, {done}: "
            f"fallow train --resume {quote(str(run.directory.path))}{accept} resumes it."
        )
    return code


def _inspect(parsed: Any) -> int:
    from ..runs.run_files import RunFiles
    from ..runs.sample_history import history_of, sample_of

    run = RunFiles(parsed.run)
    history = history_of(run, sample_of(run, parsed.sample))
    if parsed.json:
        say_json(json.dumps(history.to_dict(), indent=2))
    else:
        for line in _history_lines(history, of_texts=run.shown_options.task in TEXT_TASKS):
            say(line)
    return DONE


def _history_lines(history: SampleHistory, *, of_texts: bool) -> list[str]:
    """Return the facts on a sample, then a row for each epoch with a bar for its score."""
    from ..report.text import name as shown

    facts = {name: getattr(history, name) for name in ("label", "predicted", "file", "text")}
    lines = [f"Sample {history.sample}"]
    lines += [f"{name:<10} {shown(value, len(value))}" for name, value in facts.items() if value is not None]
    if of_texts and history.text is None:
        lines.append(f"{'text':<10} not kept: only those of samples in the report are")
    epochs = len(history.epochs)
    lines.append(f"{'used':<10} in {history.times_used} of {epochs} epoch{'s'[: epochs != 1]}")
    lines += ["Epochs count from 1; files and --json number them from 0."]
    lines += ["", f"{'epoch':>5}  {'used':<4}  {'score':>9}  {'':<20}  reason"]
    highest = max((epoch.score for epoch in history.epochs if epoch.score is not None), default=0.0)
    for epoch in history.epochs:
        score = "-" if epoch.score is None else f"{epoch.score:.4f}"
        share = 0.0 if epoch.score is None or highest <= 0 else max(epoch.score, 0.0) / highest
        used = "yes" if epoch.used else ""
        lines.append(
            f"{epoch.epoch + 1:>5}  {used:<4}  {score:>9}  "
            f"{'█' * round(20 * share):<20}  {epoch.reason}".rstrip()
        )
    return lines


def _export(parsed: Any) -> int:
    from ..runs.export import export
    from ..runs.run_files import RunFiles

    progress = _export_progress if sys.stderr.isatty() and not parsed.json else None
    out = None if parsed.out is None else Path(parsed.out)
    paths = export(RunFiles(parsed.run), parsed.format, out, progress)
    if parsed.json:
        files = [{"path": str(path), "bytes": path.stat().st_size} for path in paths]
        say_json(json.dumps({"files": files}, indent=2))
    else:
        for path in paths:
            say(f"{path}  {path.stat().st_size:,} bytes")
    return DONE


def _export_progress(done: int, total: int) -> None:
    say_progress(f"Exporting epoch {done} of {total}", last=done == total)


PROMPTS = "prompts.safetensors"
"""What a folder has that Prompts.save() wrote; that module would load torch."""


def _report(parsed: Any) -> int:
    from ..runs.run_files import RunFiles

    out = None if parsed.out is None else Path(parsed.out)
    if (Path(parsed.run) / PROMPTS).exists():
        from ..report.prompts import write_prompts_report

        path = write_prompts_report(Path(parsed.run), out)
    else:
        from ..report import write_report

        path = write_report(RunFiles(parsed.run), out)
    if parsed.json:
        say_json(json.dumps({"report": str(path), "bytes": path.stat().st_size}, indent=2))
    else:
        say(f"Report: {path}  ({path.stat().st_size / 1e6:.1f} MB; open it in a browser)")
    return DONE


def _suspects(parsed: Any) -> int:
    from ..runs.labels_file import export_suspects
    from ..runs.run_files import RunFiles
    from ..runs.suspects import find_suspects

    run = RunFiles(parsed.run)
    listed = _SHOWN if parsed.export is None and not parsed.json else None
    found = find_suspects(run, listed if parsed.count is None else parsed.count)
    path = None if parsed.export is None else export_suspects(run, found, Path(parsed.export))
    if parsed.json:
        say_json(json.dumps(found.to_dict() | ({} if path is None else {"list": str(path)}), indent=2))
        return DONE
    from .terminal import print_suspects

    if path is not None:
        say(f"{path}  {len(found.suspects):,} line{'s'[: len(found.suspects) != 1]}")
        found = replace(found, suspects=found.suspects[:_SHOWN])
    print_suspects(run, found, path)
    return DONE


def _gaps(parsed: Any) -> int:
    with _extras_for("gaps"):
        from ..collecting.find_gaps import find_gaps
        from ..tasks.console import Console

    result = find_gaps(parsed.run, parsed.reference, model=parsed.model, console=Console.beside())
    if parsed.json:
        from ..files.checked_json import finite

        say_json(json.dumps(finite(result), indent=2))
        return DONE
    from ..collecting.terminal import print_gaps
    from ..runs.gaps_file import gaps_of

    print_gaps(gaps_of(result))
    return DONE


def _collect(parsed: Any) -> int:
    with _extras_for("collect"):
        from ..collecting.collect import collect
        from ..tasks.console import Console

    console = Console.beside()
    collected = collect(
        parsed.run,
        parsed.pool,
        parsed.count,
        out=parsed.out,
        model=parsed.model,
        engine=parsed.engine,
        console=console,
    )
    if parsed.json:
        from ..files.checked_json import finite

        say_json(json.dumps(finite(collected.to_list()), indent=2))
        return DONE
    from ..collecting.terminal import print_picks

    print_picks(collected, parsed.run)
    return DONE


@contextmanager
def _extras_for(command: str) -> Iterator[None]:
    """Name the missing extra if an import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(f"`fallow {command}`", str(error.name)) from None


def _add_reference(parser: Any) -> None:
    parser.add_argument("--reference", metavar="POOL", help=f"What the training set ought to cover: {_POOL} "
                        "Default: the samples that the run's accuracy is measured on.")  # fmt: skip
    _add_model(parser)


def _add_model(parser: Any) -> None:
    parser.add_argument(
        "--model",
        metavar="package.module:Class",
        help="The network of the run, if it is a class of your own; a stored class is never imported.",
    )


def _add_pool(parser: Any) -> None:
    parser.add_argument("--pool", metavar="POOL", required=True, help=f"The candidates: {_POOL}")
    parser.add_argument(
        "--count", metavar="B", type=int, required=True, help="The number of samples to choose."
    )
    parser.add_argument(
        "--out",
        metavar="PICKS",
        help="A new file for the list. Default: RUN/picks-000.csv, or the next number.",
    )
    parser.add_argument(
        "--engine",
        metavar="local|ray",
        default="local",
        help="Where the pool is surveyed: local, in this process; ray, in workers of Ray Data, on a running "
        "cluster or on all processors here. The list is the same. Default local.",
    )
    _add_model(parser)


def _add_sample(parser: Any) -> None:
    parser.add_argument(
        "sample",
        metavar="ID",
        help="The index in the training set, from 0; or the file: the path, the path within the data's "
        "folder, or the name alone; or the row in a table, as d.csv:7.",
    )


def _add_suspects(parser: Any) -> None:
    parser.add_argument(
        "--count",
        metavar="N",
        type=int,
        help=f"The number of samples, the surest first. Default: {_SHOWN}; all with --export and --json.",
    )
    parser.add_argument(
        "--export",
        metavar="FILE.csv",
        help="A new file for the list, to fill in the right classes in its column label; train takes it "
        "by --labels.",
    )


def _add_format(parser: Any) -> None:
    parser.add_argument(
        "--format",
        default="parquet",
        help="parquet (DuckDB, Polars, pandas read it), csv or json (lists of objects). Default parquet.",
    )
    parser.add_argument("--out", help="The folder. Default: RUN/export.")


def _add_out(parser: Any) -> None:
    parser.add_argument("--out", help="The file. Default: RUN/report.html.")


_POOL = (
    "a folder of images; a FILE.npz with x (and y, if known); a FILE.parquet or a folder of them with a "
    "column image or x (and label); hf:NAME or hf:FOLDER; or digits."
)

COMMANDS = {
    "list": Command(ABOUT_LIST, add_folder, show_list, of_a_run=False),
    "push": Command(ABOUT_PUSH, add_push, run_push, of_a_run=False),
    "report": Command(
        "One HTML page of a run: what was saved, which samples were used in which epoch, outliers and "
        "candidates for wrong labels. It opens from the disk and asks for no network. Of a folder that\n"
        "Prompts.save() wrote: what was saved, and which prompt was used when.\n\n"
        "  fallow report runs/digits\n"
        "  fallow report runs/grpo/prompts",
        _add_out,
        _report,
    ),
    "suspects": Command(
        "The training samples whose labels look wrong, by the mean over all passes: the given class, the\n"
        "one that they look like, and how sure that is. Then the classes that are confused, and copies with\n"
        "different labels. Writes a list to correct in a spreadsheet.\n\n"
        "  fallow suspects runs/pictures --export suspects.csv\n"
        "  fallow train --config runs/pictures/config.yaml --labels suspects.csv",
        _add_suspects,
        _suspects,
    ),
    "inspect": Command(
        "The history of a sample: for each epoch whether it was used, its score, why it was left out.\n\n"
        "  fallow inspect runs/digits 17\n"
        "  fallow inspect runs/pictures ash/003.png",
        _add_sample,
        _inspect,
    ),
    "export": Command(
        "Tables for other tools: history (a row an epoch and sample; epochs are numbered from 0 there) and "
        "samples (a row each).\n\n"
        "  fallow export runs/digits --format parquet\n"
        "  duckdb -c \"select sample, max(score) from 'runs/digits/export/history.parquet' group by 1\"",
        _add_format,
        _export,
    ),
    "gaps": Command(
        "What the training data lack. Regions, thin in the network's activations, that a reference has and\n"
        "the training set lacks; each with its size, class, error, neighbours, examples and what to do.\n"
        "Names none if nothing is missing. The report shows the pictures.\n\n"
        "  fallow gaps runs/digits                              against the held-out samples\n"
        "  fallow gaps runs/digits --reference fresh.npz        against what you meet in use",
        _add_reference,
        _gaps,
    ),
    "collect": Command(
        "What to collect next. Candidates of a pool that would fill what the training set lacks. Junk and\n"
        "near-duplicates are left out; the budget is spread over what is missing, what is thin and a random\n"
        "tenth. Writes a list with reasons, for a spreadsheet.\n\n"
        "  fallow collect runs/digits --pool pool.npz --count 100\n"
        "  fallow train --resume runs/digits --add runs/digits/picks-000.csv       once labels are filled in",
        _add_pool,
        _collect,
    ),
    "verify": Command(
        "Whether every file of a run is as it was written. Exit code 0 if so, 1 if files of a trained run\n"
        "are missing, 3 if a file is damaged.\n\n"
        "  fallow verify runs/digits",
        _nothing,
        _verify,
    ),
}
