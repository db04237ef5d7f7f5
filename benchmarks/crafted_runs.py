"""Runs that somebody crafted, opened by every command that opens a run: does anything get out of hand?

    python -m benchmarks.crafted_runs [--only TEXT] [--json FILE]

Each craft of ``tests/crafted.py`` is applied to a copy of an honest run, which each command then opens in a
process of its own. Counted are tracebacks, crashes, commands that take more than 5 s longer than on the
honest run, peak memory above that of the honest run, bytes changed outside of the run, and foreign code that
ran.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from crafted import CANARY, CODE, CRAFTS, make_honest, snapshot

COMMANDS = {
    "report": ["report", "run"],
    "verify": ["verify", "run", "--json"],
    "inspect": ["inspect", "run", "3"],
    "export csv": ["export", "run", "--format", "csv"],
    "export parquet": ["export", "run", "--format", "parquet"],
    "gaps": ["gaps", "run"],
    "collect": ["collect", "run", "--pool", "pool.npz", "--count", "3"],
    "resume": ["train", "--resume", "run"],
    "resume longer": ["train", "--resume", "run", "--epochs", "3", "--accept", "epochs"],
    "in the run": ["train", "--resume", "."],
}
SLOWER, LARGER, LONGEST = 5.0, 300.0, 60.0
"""Seconds and MB above the honest run's; seconds after which a command is killed."""


@dataclass
class Outcome:
    """What a command did with a run."""

    craft: str
    command: str
    code: int
    seconds: float
    peak: float
    said: str
    faults: list[str]


def prepare(folder: Path) -> None:
    """Make the honest run, a pool, and what foreign code would be found by."""
    make_honest(folder)
    outside = folder / "outside"
    outside.mkdir()
    (outside / "foreign.txt").write_text("somebody else's")
    subprocess.run([sys.executable, "-c", _POOL], cwd=folder, check=True)
    repository = folder / "repository"
    repository.mkdir()
    (repository / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.C"}})
    )
    (repository / "own.py").write_text(CODE)
    (folder / "texts.csv").write_text("text,label\n" + "good,a\nbad,b\n" * 40)


_POOL = """
import numpy as np
from sklearn.datasets import load_digits
x = (load_digits().images / 16 * 255).astype(np.uint8)[-60:]
np.savez("pool.npz", x=x)
"""


def attempt(folder: Path, words: list[str], canary: Path) -> tuple[int, float, float, str]:
    """Run a command in a child of this process; return its code, seconds, peak in MB, and what it said."""
    log = folder / "said"
    where = folder / "run" if words[-1] == "." else folder
    began = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            os.chdir(where)
            os.environ["FALLOW_CANARY"] = str(canary)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout = os.fdopen(1, "w")
            sys.stderr = os.fdopen(2, "w")
            resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
            from fallow.cli.main import main

            code = main(words)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.perf_counter() - began > LONGEST:
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            break
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    return os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss / 1024, log.read_text(errors="replace")


def judged(outcome: Outcome, honest: Outcome, canary: Path, before: object, after: object) -> None:
    """Note what is wrong with an outcome."""
    if "Traceback" in outcome.said:
        outcome.faults.append("traceback")
    if outcome.code not in (0, 1, 2, 3):
        outcome.faults.append(f"exit code {outcome.code}")
    if outcome.seconds - honest.seconds > SLOWER:
        outcome.faults.append(f"{outcome.seconds:.1f} s")
    if outcome.peak - honest.peak > LARGER:
        outcome.faults.append(f"{outcome.peak - honest.peak:,.0f} MB more")
    if canary.exists():
        outcome.faults.append("foreign code ran")
        canary.unlink()
    if before != after:
        outcome.faults.append("bytes changed outside of the run")
    if "\x1b" in outcome.said.replace("\x1b[", "", 0) and any(
        part in outcome.said for part in ("\x1b[31m\r", "\u202e")
    ):
        outcome.faults.append("control characters on the terminal")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="Crafts whose name holds this.")
    parser.add_argument("--commands", default="", help="Commands with commas between.")
    parser.add_argument("--json", help="Write there what each command did with each kind.")
    parsed = parser.parse_args()
    commands = {k: v for k, v in COMMANDS.items() if not parsed.commands or k in parsed.commands.split(",")}
    chosen = {name: function for name, function in CRAFTS.items() if parsed.only in name}
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        prepare(home)
        preload()
        outcomes = run_all(home, commands, chosen)
    if parsed.json:
        Path(parsed.json).write_text(json.dumps(by_kind(outcomes), indent=1))
    return tell(outcomes, len(chosen), len(commands))


def preload() -> None:
    """Load what the commands load, so that a child begins at once."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import transformers  # noqa: F401

    import fallow.cli.main
    import fallow.collecting.collect
    import fallow.collecting.find_gaps
    import fallow.report
    import fallow.runs.export
    import fallow.training.train  # noqa: F401


def run_all(home: Path, commands: dict[str, list[str]], chosen: dict[str, object]) -> list[Outcome]:
    """Try every command on every craft."""
    honest: dict[str, Outcome] = {}
    outcomes: list[Outcome] = []
    for place, (name, function) in enumerate({"honest": None, **chosen}.items()):
        for command, words in commands.items():
            with tempfile.TemporaryDirectory(dir=home) as made:
                folder = Path(made)
                for part in ("run", "outside", "repository"):
                    shutil.copytree(home / part, folder / part)
                for part in ("pool.npz", "texts.csv"):
                    shutil.copy(home / part, folder)
                (folder / "canary_module.py").write_text(CODE)
                if function is not None:
                    function(folder / "run")
                canary = folder / "written" / CANARY
                canary.parent.mkdir()
                before = snapshot(folder / "outside")
                outcome = Outcome(name, command, *attempt(folder, words, canary), [])
                honest.setdefault(command, outcome)
                judged(outcome, honest[command], canary, before, snapshot(folder / "outside"))
                outcomes.append(outcome)
                if outcome.faults:
                    last = outcome.said.strip().splitlines()[-1:] or [""]
                    print(f"{name} | {command} | {', '.join(outcome.faults)} | {last[0][:160]!r}", flush=True)
        if place % 20 == 0:
            print(f"{place} of {len(chosen)}", file=sys.stderr, flush=True)
    return outcomes


def by_kind(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """Return what each command did with each kind of craft: counts, and the most time and memory it took."""
    honest = {one.command: one for one in outcomes if one.craft == "honest"}
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.craft.partition(":")[0], one.command), []).append(one)
    return [
        {
            "kind": kind,
            "command": command,
            "opened": len(every),
            "exit_codes": {
                str(code): count for code, count in sorted(Counter(o.code for o in every).items())
            },
            "slowest_s": round(max(one.seconds for one in every), 2),
            "most_s_above_honest": round(max(one.seconds - honest[command].seconds for one in every), 2),
            "most_mb_above_honest": round(max(one.peak - honest[command].peak for one in every)),
            "faults": {one.craft: one.faults for one in every if one.faults},
        }
        for (kind, command), every in groups.items()
    ]


def tell(outcomes: list[Outcome], crafts: int, commands: int) -> int:
    """Print what was found; return 1 if anything got out of hand."""
    faults = Counter(
        fault.split(" ")[0] if fault[0].isdigit() else fault for one in outcomes for fault in one.faults
    )
    slowest = max(outcomes, key=lambda one: one.seconds)
    largest = max(outcomes, key=lambda one: one.peak)
    codes = Counter(one.code for one in outcomes)
    print(f"{crafts} crafts x {commands} commands: {len(outcomes):,} times opened; exit codes {dict(codes)}")
    print(f"slowest {slowest.seconds:.1f} s ({slowest.craft}, {slowest.command})")
    print(f"largest {largest.peak:,.0f} MB ({largest.craft}, {largest.command})")
    print("faults: " + (", ".join(f"{count} {name}" for name, count in faults.items()) or "none"))
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
