"""Are runs the same, to the byte, before and after a change of the code?

    python -m benchmarks.golden --json before.json
    python -m benchmarks.golden --against before.json

Trains a dozen small runs of every kind and takes the SHA-256 of what each leaves behind: weights, past
epochs, what the samples are, and ``samples.csv``. Bytes are those of one machine and one set of versions,
so that both calls have to be made on the same one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SMALL = ["--data", "digits", "--samples", "300", "--epochs", "3", "--batch_size", "32"]
FILES = ("model.safetensors", "data.safetensors", "samples.csv", "density.safetensors")

OWN = '''
import os, signal
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))

    def forward(self, x):
        return self.inner(x)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def training_step(self, batch, batch_idx):
        if self.global_step == 13 and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        x, y = batch
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "targets": y}

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_acc", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
'''  # fmt: skip


def prepare() -> None:
    """Write the data and the modules that the commands name, into the working folder."""
    Path("own.py").write_text(OWN)
    draw = np.random.default_rng(0)
    with Path("texts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        words = {"good": ["fine", "great", "lovely", "nice"], "bad": ["poor", "awful", "dull", "weak"]}
        for place in range(240):
            label = ["good", "bad"][place % 2]
            table.writerow([" ".join([*draw.choice(words[label], 4), f"film{place}"]), label])
    names = ["the cat", "a dog", "my friend", "the bird", "one man"]
    acts = ["sat on", "ran to", "saw", "liked", "went past"]
    lines = [f"{draw.choice(names)} {draw.choice(acts)} {draw.choice(names)}." for _ in range(1500)]
    Path("book.txt").write_text("\n".join(lines))
    images = (load_digits().images[-200:] * 255 / 16).astype(np.uint8)
    np.savez("pool.npz", x=np.roll(images, 1, axis=2))


def picks() -> None:
    """Label what was collected, as a person would."""
    path = next(Path("soft").glob("picks*.csv"))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        row["label"] = str(place % 10)
    with Path("picks.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\r\n")
        table.writeheader()
        table.writerows(rows)


def fallow(*words: str, may_fail: bool = False) -> None:
    """Call the command line in a process of its own."""
    command = [sys.executable, "-P", "-m", "fallow", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": _path()})
    if done.returncode and not may_fail:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def _path() -> str:
    return os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()])


def train(out: str, *words: str) -> Callable[[], None]:
    """Return a training with options of its own."""
    return lambda: fallow("train", *SMALL, "--out", out, *words)


def killed_and_resumed() -> None:
    """Kill a training in its second epoch, and go on from a state inside it."""
    own = ["--data", "digits", "--model", "own:Module"]
    words = [*own, "--samples", "300", "--epochs", "3", "--batch_size", "32", "--save_steps", "4"]
    fallow("train", *words, "--out", "killed-run", may_fail=True)
    if not Path("killed").exists():
        raise SystemExit("The training was not killed.")
    fallow("train", "--resume", "killed-run", "--model", "own:Module")


def collected_and_added() -> None:
    """Collect from a pool, label what was chosen, and train on it too."""
    fallow("collect", "soft", "--pool", "pool.npz", "--count", "6")
    picks()
    fallow("train", *SMALL, "--add", "picks.csv", "--out", "added")


def resumed_longer() -> None:
    """Train a finished run longer."""
    fallow("train", *SMALL, "--out", "longer")
    fallow("train", "--resume", "longer", "--epochs", "5", "--accept", "epochs")


MATRIX: dict[str, Callable[[], None]] = {
    "soft": train("soft"),
    "threshold": train("threshold", "--policy", "threshold", "--low", "auto", "--high", "auto"),
    "infobatch": train("infobatch", "--policy", "infobatch"),
    "ies": train("ies", "--policy", "ies"),
    "selective-backprop": train("selective-backprop", "--policy", "selective-backprop"),
    "density": train("density", "--score", "density", "--density_args", "{components: 2}"),
    "autoencoder": train("autoencoder", "--task", "autoencoder"),
    "csv": lambda: fallow("train", "--data", "texts.csv", "--epochs", "3", "--out", "csv"),
    "language-model": lambda: fallow(
        "train", "--data", "book.txt", "--tokenizer", "byte", "--max_tokens", "32", "--epochs", "2",
        "--samples", "200", "--out", "language-model",
    ),
    "own network": train("own-network", "--model", "own:Net", "--policy", "fraction"),
    "killed and resumed": killed_and_resumed,
    "resumed longer": resumed_longer,
    "compare": lambda: fallow(
        "compare", "--data", "digits", "--samples", "300", "--epochs", "3", "--arms", "full,random,soft",
        "--seeds", "1", "--jobs", "1", "--out", "compared",
    ),
    "add": collected_and_added,
}  # fmt: skip


def sums() -> dict[str, str]:
    """Return the SHA-256 of the files that runs in the working folder left behind."""
    found = {}
    for path in sorted(Path().rglob("*")):
        if path.is_file() and (path.name in FILES or path.parent.name == "history"):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", help="Write the sums there.")
    parser.add_argument("--against", help="Sums of before, to compare with.")
    parsed = parser.parse_args()
    before = None if parsed.against is None else json.loads(Path(parsed.against).read_text())
    here = Path.cwd()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        prepare()
        for name, run in MATRIX.items():
            began = time.perf_counter()
            run()
            print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
        found = sums()
        os.chdir(here)
    if parsed.json is not None:
        Path(parsed.json).write_text(json.dumps(found, indent=1))
    if before is None:
        print(f"{len(found)} files of {len(MATRIX)} commands")
        return 0
    differ = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
    print(f"{len(differ)} of {len(before)} files differ" + "".join(f"\n  {name}" for name in differ))
    return bool(differ)


if __name__ == "__main__":
    raise SystemExit(main())
