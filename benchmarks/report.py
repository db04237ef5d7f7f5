"""The report of a large run: bytes, seconds, peak memory, and the time until a browser can use it.

    python benchmarks/report.py [--samples 1280000] [--epochs 90] [--keep FOLDER] [--no-browser]

A run directory is made with synthetic scores: 1,000 classes, scores that fall faster for easy samples, about
45 % of the samples left out. The report is written by a process of its own, whose peak memory is told by the
system; then headless chromium opens it, five times. Usable: the chart is drawn and takes keys and clicks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from safetensors.numpy import save

from fallow.core.history import describe
from fallow.core.table import TRAINED, Table
from fallow.policies.base import Reason
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile
from fallow.runs.highlights import choose
from fallow.runs.schema import About
from fallow.runs.thumbnails_file import ThumbnailsFile

CLASSES = 1_000
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def make_run(path: Path, n: int, epochs: int) -> None:
    """Write a run directory of ``n`` samples."""
    draw = np.random.default_rng(0)
    run = RunDirectory.create(path)
    labels = draw.integers(0, CLASSES, n, dtype=np.int32)
    names = tuple(f"synset {i}" for i in range(CLASSES))
    files = tuple(f"train/{label:04d}/{i:07d}.jpeg" for i, label in enumerate(labels.tolist()))
    run.put(run.data_path, DataFile(n, labels, None, names, files).dump())
    ease = draw.normal(0, 1.5, n).astype(np.float32) + 0.5 * np.sin(labels).astype(np.float32)
    wrong = draw.random(n) < 0.01
    table = Table(n)
    reason, times, back = np.zeros(n, np.uint8), np.zeros(n, np.int32), 0
    for epoch in range(epochs):
        noise = draw.standard_normal(n, np.float32)
        scores = np.exp(1.5 - ease - 0.05 * epoch + 0.5 * noise).clip(0, 20)
        scores[wrong] = 6 + noise[wrong]
        used = reason == Reason.KEPT
        times += used
        table.scores[used] = scores[used]
        table.scored_in[used] = epoch + 1
        table.seen[:] = np.where(used, TRAINED, 0)
        table.reason[:] = reason
        record = describe(table, epoch, back, 0.0)
        run.write_epoch(EpochFile(record, table.scores.copy(), reason.copy()))
        before = int(np.count_nonzero(reason))
        reason[:] = Reason.KEPT
        if (epoch + 1) % 5 and epoch + 1 < 0.95 * epochs:
            reason[table.scores < np.quantile(table.scores, 0.6 + 0.04 * np.sin(epoch))] = Reason.LEARNED
        reason[(table.scores > 6) & wrong] = Reason.OUTLIER
        back = max(0, before - int(np.count_nonzero(reason)))
    predicted = np.where(wrong, (labels + 1) % CLASSES, labels).astype(np.int32)
    index = choose(table.scores, table.reason, times, labels, predicted).index
    pictures = draw.integers(0, 255, (index.size, 24, 24, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    shown = ThumbnailsFile(epochs - 1, index, predicted[index], pictures)
    run.put(run.thumbnails_path, shown.dump())
    state = save({"~/subsampler/table/columns/predicted": predicted + 1})
    options = {"data": "synthetic", "policy": "threshold", "score": "kl"}
    about = About(options=options, epoch=epochs, epochs=epochs)
    Checkpoints(path).write(state, about, run.needed(epochs))
    run.write_text(run.config_path, "data: synthetic\n")
    run.release()


def write(path: Path) -> None:
    """Write the report, and print how long it took and how much memory this process had at most."""
    from fallow.report import write_report
    from fallow.runs.run_files import RunFiles

    began = perf_counter()
    report = write_report(RunFiles(path))
    seconds = perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    modules = "torch" in sys.modules
    print(json.dumps({"bytes": report.stat().st_size, "seconds": round(seconds, 2), "peak_mib": peak // 1024,
                      "torch_loaded": modules}))  # fmt: skip


def browse(report: Path, repeats: int = 5) -> dict[str, float]:
    """Return milliseconds from the request until the chart is usable, and of one zoom by a key."""
    from playwright.sync_api import sync_playwright

    usable, zooms = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for _ in range(repeats):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(report.resolve().as_uri())
            page.wait_for_selector("html[data-ready]")
            usable.append(float(page.evaluate("document.documentElement.dataset.ready")))
            page.locator("#chart").focus()
            began = perf_counter()
            page.keyboard.press("+")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            zooms.append(1000 * (perf_counter() - began))
            page.close()
        browser.close()
    return {"usable_ms": median(usable), "usable_ms_worst": max(usable), "zoom_ms": round(median(zooms), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_280_000)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--keep", type=Path, help="make the run here, or use it again")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write)
        return
    with tempfile.TemporaryDirectory() as scratch:
        run = options.keep or Path(scratch) / "run"
        if not run.exists():
            began = perf_counter()
            make_run(run, options.samples, options.epochs)
            print(json.dumps({"made_in_seconds": round(perf_counter() - began, 1)}))
        subprocess.run([sys.executable, __file__, "--write", str(run)], check=True)
        if not options.no_browser:
            print(json.dumps(browse(run / "report.html")))


if __name__ == "__main__":
    main()
