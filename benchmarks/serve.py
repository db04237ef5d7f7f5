"""A run of ImageNet's size as it is served: seconds to the first overview, memory, p95 with many clients.

    python -m benchmarks.serve [--samples 1281167] [--epochs 90] [--clients 50] [--out FOLDER]

The run is made up: 1,000 classes, 2 % of the labels wrong, half of the samples left out of each epoch, the
more the better learned.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from fallow.core.history import EDGES, QUANTILES, EpochRecord
from fallow.files.disk import Digest
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile
from fallow.runs.schema import About

CLASSES, WRONG = 1000, 0.02
"""Classes, and the share of wrong labels."""


def make(folder, n, epochs, seed=0):
    """Write the files of a run that nobody trained."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, n).astype(np.int32)
    wrong = draw.random(n, np.float32) < WRONG
    hard = np.where(wrong, np.float32(1), draw.random(n, np.float32))
    data = DataFile(
        n, labels, draw.integers(0, 1 << 63, n).astype(np.uint64), tuple(f"class {i}" for i in range(CLASSES))
    )
    with RunDirectory.create(folder) as run:
        run.put(run.data_path, data.dump())
        for epoch in range(epochs):
            scores = (hard * 4 * np.exp(-epoch / 40) + draw.random(n, np.float32) * 0.1).astype(np.float32)
            out = (
                (hard + draw.random(n, np.float32) * 0.3 < min(0.6, epoch / 60))
                if epoch
                else np.zeros(n, bool)
            )
            reason = out.astype(np.uint8)
            counts = np.bincount(np.searchsorted(EDGES, scores, side="right") - 1, minlength=len(EDGES))
            learned = int(out.sum())
            quantiles = np.quantile(scores[:10_000], QUANTILES).tolist()
            record = EpochRecord(
                epoch=epoch,
                n=n,
                used_bits=np.packbits(~out, bitorder="little"),
                backward=n - learned,
                forward_only=0,
                kept=n - learned,
                learned=learned,
                outliers=0,
                not_drawn=0,
                by_hand=0,
                readmitted=0,
                bad=0,
                mean_score=float(scores.mean()),
                score_quantiles=tuple(quantiles),
                score_histogram=counts,
                record_seconds=0.0,
            )
            # Most passes take a wrong label for another class; others err at first.
            errs = (wrong & (draw.random(n, np.float32) < 0.9)) | (scores > 3.5)
            other = np.where(errs, (labels + 1) % CLASSES + 1, 0).astype(np.uint16)
            run.write_epoch(EpochFile(record, scores, reason, other))
        options = {"data": "pictures", "policy": "error-mass", "task": "image", "score": "kl"}
        about = About(options=options, epoch=epochs, epochs=epochs, score_unit="nats", seconds=60.0 * epochs)
        from safetensors.numpy import save

        needs = {name: Digest(digest.size, digest.sha256) for name, digest in run.digests.items()}
        Checkpoints(folder).write(save({"nothing": np.zeros(1, np.uint8)}), about, needs)


def resident(process):
    """Return the present and the largest memory of a process, in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmRSS", "VmHWM")]


def asking(base, token):
    """Return a client with the token."""
    return httpx.Client(
        base_url=base, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    )


def asked(client, url):
    began = time.perf_counter()
    tries = 1
    while (found := client.get(url)).status_code == 202:
        tries += 1
    assert found.status_code == 200, found.text[:300]
    return time.perf_counter() - began, len(found.content), tries


def many(base, token, clients, urls, seconds):
    """Return the times of requests by many clients at once, each once a while, in ms."""
    times, until = [], time.perf_counter() + seconds

    def one(number):
        with httpx.Client(
            base_url=base, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
        ) as client:
            place = number
            time.sleep(2 * number / clients)
            while time.perf_counter() < until:
                began = time.perf_counter()
                client.get(urls[place % len(urls)])
                times.append((time.perf_counter() - began) * 1e3)
                place += 1
                time.sleep(2)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "requests": len(times),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--run", help="a run to serve, in place of a made one")
    parser.add_argument("--out", help="a folder for serve.json")
    given = parser.parse_args()
    found = {"samples": given.samples, "epochs": given.epochs}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(given.run or Path(place, "run"))
        if not folder.exists():
            make(folder, given.samples, given.epochs)
        command = [sys.executable, "-m", "fallow", "serve", str(folder), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            base, token = process.stdout.readline().strip().split("#")
            found["idle_mb"] = resident(process.pid)[0]
            with asking(base, token) as client:
                n = given.samples
                for name, url in {
                    "summary": "api/summary",
                    "classes": "api/classes",
                    "usage": "api/usage",
                    "usage_times": "api/usage?order=times",
                    "zoom": f"api/usage?first={n // 3}&last={n // 2}",
                    "tile": f"api/usage/tile?first={n // 2}&count=1024",
                    "tile_fates": f"api/usage/tile?first={n // 2}&count=256&fates=1",
                    "samples": "api/samples?reason=learned&class=7",
                    "never": "api/samples?never=1",
                    "returned": "api/samples?returned=1",
                    "epoch": "api/samples?epoch=40&order=score",
                    "sample": "api/sample?sample=77",
                    "suspects": "api/suspects",
                }.items():
                    seconds, size, _ = asked(client, url)
                    now, most = resident(process.pid)
                    found[name] = {"seconds": seconds, "bytes": size, "mb": now, "most_mb": most}
                    print(name, json.dumps(found[name]), flush=True)
            tiles = [
                f"api/usage/tile?first={place}&count=256" for place in range(0, n - 300, max(1, n // 1000))
            ]
            pages = [f"api/samples?class={label}" for label in range(300)]
            for name, urls in {"summary": ["api/summary"], "tile": tiles, "page": pages}.items():
                found[f"{name}_{given.clients}_clients"] = many(
                    base, token, given.clients, urls, given.seconds
                )
                print(name, json.dumps(found[f"{name}_{given.clients}_clients"]), flush=True)
            found["mb"], found["most_mb"] = resident(process.pid)
            process.terminate()
    print(json.dumps(found, indent=1))
    if given.out:
        Path(given.out, "serve.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
