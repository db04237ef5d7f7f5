"""A run of ImageNet's size as it is served: seconds to the first overview, memory, p95 with many clients.

    python -m benchmarks.serve [--samples 1281167] [--epochs 90] [--clients 50] [--browser] [--out FOLDER]
    python -m benchmarks.serve --filters [--samples 10000000] [--epochs 30] [--out FOLDER]
    python -m benchmarks.serve --training [--clients 50] [--times 5] [--out FOLDER]

The run is made up: 1,000 classes, 2 % of the labels wrong, half of the samples left out of each epoch, the
more the better learned. `--browser` opens the overview in Chromium, on a processor made four times slower:
the first one that the server makes, and one that it has made.

`--filters` asks for pages of samples by every filter and order of the page, once the run is open: the first
page of each, and the one after it.

`--training` trains digits for real, in turn with and without a server that so many clients poll. The clients
run on this machine too, at the lowest priority: what they take is said beside what the server takes. With
--out each pair of trainings is written when it is done, and the same command goes on where it was.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from fallow.core.history import EDGES, QUANTILES, EpochRecord
from fallow.files.disk import Digest
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile
from fallow.runs.schema import PREDICTED, About

CLASSES, WRONG = 1000, 0.02
"""Classes, and the share of wrong labels."""
TRAINING = "serve_training.json"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


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
        predicted = np.where(other > 0, other, labels + 1).astype(np.int32)
        Checkpoints(folder).write(save({f"made/{PREDICTED}": predicted}), about, needs)


@contextmanager
def served(folder):
    """Yield the process, address and token of a server, which ends with the block, however that ends."""
    command = [sys.executable, "-m", "fallow", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, *process.stdout.readline().strip().split("#")
        finally:
            process.terminate()


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


def processor(process):
    """Return the seconds that a process has had the processor."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def browsing(base, token):
    """Return seconds until the overview can be used, memory of scripts in MB, and requests to other hosts."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name in ("first", "again"):
            page = browser.new_context().new_page()
            client = page.context.new_cdp_session(page)
            client.send("Emulation.setCPUThrottlingRate", {"rate": 4})
            asked = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            began = time.perf_counter()
            page.goto(f"{base}#{token}")
            page.wait_for_selector(".figures")
            seconds = time.perf_counter() - began
            painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
            for screen, shown in {"usage": ".chart[data-ready]", "browse": ".card", "scores": "svg"}.items():
                page.evaluate("(screen) => { location.hash = `#/${screen}`; }", screen)
                page.wait_for_selector(f"main[data-screen={screen}] {shown}", timeout=120_000)
            heap = client.send("Runtime.getHeapUsage")["usedSize"] / 1e6
            foreign = sum(not url.startswith((base, "data:", "blob:")) for url in asked)
            found[name] = {
                "usable_seconds": seconds, "first_paint_ms": painted, "heap_mb": heap, "requests": len(asked),
                "foreign": foreign,
            }  # fmt: skip
            page.context.close()
        browser.close()
    return found


FILTERS = (
    "reason=kept", "reason=learned", "class=7", "reason=learned&class=7", "never=1", "returned=1", "wrong=1",
    "predicted=7", "score_from=0.5&score_to=2", "epoch=HALF", "epoch=HALF&reason=learned", "order=score",
    "order=times", "order=-times", "order=index", "order=-index", "class=7&order=times",
    "never=1&order=score", "suspects=1", "suspects=1&class=7",
)  # fmt: skip
"""What the page about samples asks for."""


def filters(given):
    """Return seconds of a page of samples by each filter, and of the page after it, and the memory."""
    found = {"samples": given.samples, "epochs": given.epochs}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(given.run or Path(place, "run"))
        if not folder.exists():
            make(folder, given.samples, given.epochs)
        with served(folder) as (process, base, token):
            with asking(base, token) as client:
                for name in ("summary", "samples"):  # what opens the run
                    found[f"open_{name}"] = asked(client, f"api/{name}")[0]
                for query in FILTERS:
                    url = f"api/samples?{query.replace('HALF', str(given.epochs // 2))}"
                    first = asked(client, url)[0]
                    page = client.get(url).json()
                    after = page["next"] and asked(client, f"{url}&after={page['next']}")[0]
                    found[query] = {"first": first, "next": after, "total": page["total"]}
                    print(query, json.dumps(found[query]), flush=True)
            found["mb"], found["most_mb"] = resident(process.pid)
    times = [one[name] for one in found.values() if isinstance(one, dict) for name in ("first", "next")]
    found["slowest_seconds"] = max(filter(None, times))
    return found


POLLING = """
import os, sys, time, http.client, threading
os.nice(19)
host, token, clients = sys.argv[1], sys.argv[2], int(sys.argv[3])
def one(number):
    time.sleep(2 * number / clients)
    connection, tag = http.client.HTTPConnection(host), None
    try:
        while True:
            headers = {"Authorization": f"Bearer {token}", **({"If-None-Match": tag} if tag else {})}
            connection.request("GET", "/api/summary", headers=headers)
            answer = connection.getresponse()
            answer.read()
            tag = answer.headers["ETag"]
            time.sleep(2)
    except (OSError, http.client.HTTPException):
        os._exit(1)  # the server has gone: all clients end
for number in range(clients):
    threading.Thread(target=one, args=(number,), daemon=True).start()
time.sleep(1e6)
"""
"""What many pages do: each asks again every two seconds, and says what it has."""


def trained(place, name, clients, epochs):
    """Train once, with a server and clients if there are any; return steps a second and what these took."""
    out = Path(place, name)
    command = [sys.executable, "-m", "fallow", "train", "--data", "digits", "--epochs", str(epochs), "--json"]
    command += ["--accelerator", "cpu", "--policy", "full", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as training:
        others = []
        try:
            if clients:
                while not list(out.glob("history/epoch-*.safetensors")):
                    assert training.poll() is None, "the training has ended before its first epoch"
                    time.sleep(0.05)
                words = [sys.executable, "-m", "fallow", "serve", str(out), "--port", "0"]
                others.append(
                    subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                )
                base, token = others[0].stdout.readline().strip().split("#")
                words = [sys.executable, "-c", POLLING, base.split("/")[2], token, str(clients)]
                others.append(subprocess.Popen(words))
            began = time.perf_counter()
            before = [processor(each.pid) for each in others]
            ended = training.stdout.read()  # until it ends
            took = [processor(each.pid) - early for each, early in zip(others, before, strict=True)]
            seconds = time.perf_counter() - began
            assert all(each.poll() is None for each in others), "the server or its clients have ended early"
        finally:
            for each in reversed(others):  # clients first: they would miss the server
                each.kill()
                each.wait()
    summary = json.loads(ended)
    # The first epochs warm up, and are over before there are clients.
    rows = [row["seconds"] for row in summary["epochs"][3:]]
    rate = summary["steps"] / len(summary["epochs"]) / float(np.median(rows))
    return {"steps_a_second": rate, "server": took[0] / seconds, "clients": took[1] / seconds} if took else {
        "steps_a_second": rate
    }  # fmt: skip


def training(given):
    """Return what polling clients cost a training, with the pairs of trainings that were done before."""
    before = Path(given.out or os.devnull, TRAINING)
    found = json.loads(before.read_text())["trainings"] if before.exists() else {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(len(found["with"]), given.times):
            pair = {
                name: trained(place, f"{name}-{turn}", clients, given.training_epochs)
                for name, clients in (("without", 0), ("with", given.clients))
            }
            for name, one in pair.items():
                found[name].append(one)
            print(json.dumps(pair), flush=True)
            if given.out:
                before.write_text(json.dumps(told(found, given), indent=1) + "\n")
    return told(found, given)


def told(found, given):
    """Return medians of trainings in turn, and their ratio."""
    rates = {name: float(np.median([one["steps_a_second"] for one in each])) for name, each in found.items()}
    shares = {name: float(np.median([one[name] for one in found["with"]])) for name in ("server", "clients")}
    return {
        "clients": given.clients, "steps_a_second": rates, "slower": 1 - rates["with"] / rates["without"],
        "share_of_a_processor": shares, "processors": os.cpu_count(), "trainings": found,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--run", help="a run to serve, in place of a made one")
    parser.add_argument("--browser", action="store_true", help="measure the overview in Chromium as well")
    parser.add_argument(
        "--training", action="store_true", help="measure what clients cost a training instead"
    )
    parser.add_argument("--filters", action="store_true", help="measure pages of samples by filters instead")
    parser.add_argument("--times", type=int, default=5, help="trainings of each kind")
    parser.add_argument("--training_epochs", type=int, default=40)
    parser.add_argument("--out", help="a folder for serve.json, or serve_training.json")
    given = parser.parse_args()
    if given.training:
        written(given.out, TRAINING, training(given))
        return
    if given.filters:
        written(given.out, "serve_filters.json", filters(given))
        return
    found = {"samples": given.samples, "epochs": given.epochs}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(given.run or Path(place, "run"))
        if not folder.exists():
            make(folder, given.samples, given.epochs)
        with served(folder) as (process, base, token):
            found["idle_mb"] = resident(process.pid)[0]
            if given.browser:
                found["browser"] = browsing(base, token)
                print("browser", json.dumps(found["browser"]), flush=True)
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
    written(given.out, "serve.json", found)


def written(folder, name, found):
    print(json.dumps(found, indent=1))
    if folder:
        Path(folder, name).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
