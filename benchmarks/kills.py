"""Kill two thousand trainings at random instants, chains of kills too, and take each to its end.

    python benchmarks/kills.py [--trials 2000] [--jobs 2] [--out FOLDER]

Half of the kills come at a random operation on the disk, half of these in the middle of a write; the others
at a random moment. Every run must leave the bytes that the run that was never killed leaves: history, table
and weights.
The slow tests do 300 of the same (`tests/test_kills.py`), and twenty through `fallow train`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIALS = Path(__file__).parent.parent / "tests" / "killing.py"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", help="a folder for kills.json")
    given = parser.parse_args()
    began = time.perf_counter()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        running = []
        for job in range(given.jobs):
            folder = Path(place) / str(job)
            folder.mkdir()
            count = given.trials // given.jobs + (job < given.trials % given.jobs)
            words = [sys.executable, str(TRIALS), str(count), str(given.seed + job), str(folder)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment))
        parts = [json.loads(child.communicate()[0].splitlines()[-1]) for child in running]
    found = {name: sum(part[name] for part in parts) for name in ("trials", "kills", "writing", "differing")}
    found["longest"] = max(part["longest"] for part in parts)
    found["unreadable"] = [words for part in parts for words in part["unreadable"]]
    found |= {"seed": given.seed, "seconds": round(time.perf_counter() - began)}
    print(json.dumps(found, indent=1))
    if given.out:
        Path(given.out).mkdir(parents=True, exist_ok=True)
        (Path(given.out) / "kills.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(bool(found["differing"] or found["unreadable"]))


if __name__ == "__main__":
    main()
