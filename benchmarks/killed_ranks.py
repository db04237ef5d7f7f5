"""Kill a rank twenty times in a training on two ranks under torchrun, and hold it against one undisturbed.

    python benchmarks/killed_ranks.py [--kills 20] [--seed 0] [--out FOLDER]

The training is done twice: with states by torch.distributed.checkpoint, and with a state that each rank saves
for itself (`state_dict(local=True)`), both after every fourth step. Each kill is one of a random rank, at a
random step, after the batch is fetched, after it is recorded, after the optimizer's step, while a state is
saved, or at the end of an epoch; `torchrun --max-restarts` starts both ranks again. Decisions, scores and
weights must be those of the undisturbed run, and every sample that an epoch keeps must be trained on once.
The slow tests do three kills of each (`tests/test_killed_ranks.py`).
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from killed_ranks import STEPS, WAYS, run, same, wrong_counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a folder for killed_ranks.json")
    given = parser.parse_args()
    found = {"kills": given.kills, "seed": given.seed, "steps": STEPS}
    with tempfile.TemporaryDirectory() as place:
        whole, _ = run(Path(place) / "whole", WAYS[0], 0, given.seed)
        found["kept"] = [int(used.sum()) for used in whole[0]["used"]]
        found["undisturbed"] = {"wrong_counts": wrong_counts(whole)}
        for way in WAYS:
            began = time.perf_counter()
            left, ended = run(Path(place) / way, way, given.kills, given.seed)
            found[way] = {
                "same": same(left, whole),
                "wrong_counts": wrong_counts(left),
                "repeated": sum(step - at for (_, step, _), (at, *_) in pairwise(ended)),
                "places": dict(Counter(place for *_, place in ended)),
                "seconds": round(time.perf_counter() - began),
            }
            print(way, json.dumps(found[way]), flush=True)
    print(json.dumps(found, indent=1))
    if given.out:
        Path(given.out).mkdir(parents=True, exist_ok=True)
        (Path(given.out) / "killed_ranks.json").write_text(json.dumps(found, indent=1) + "\n")
    bad = any(not found[way]["same"] or found[way]["wrong_counts"] for way in WAYS)
    sys.exit(bad)


if __name__ == "__main__":
    main()
