"""``fallow serve`` on real runs: what it answers is what the files say, also while they change or are damaged."""

import base64
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import httpx
import numpy as np
import pytest
from PIL import Image

from fallow.cli.main import main
from fallow.comparison.side_by_side import side_by_side
from fallow.policies.base import Reason
from fallow.report.charts.usage_rows import row_shares
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.epoch_part import read_record, read_rows
from fallow.runs.gaps_file import dump_gaps
from fallow.runs.heartbeat import doing
from fallow.runs.picks_file import Pick, dump_picks
from fallow.runs.run_files import RunFiles
from fallow.runs.suspects import find_suspects
from fallow.runs.ticks_file import Tick, add_tick, read_ticks
from serving import SECONDS, serving, without_places

QUICK = ["train", "--data", "digits", "--samples", "300", "--accelerator", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs: one by thresholds, with samples of every fate, and one by a draw."""
    out = tmp_path_factory.mktemp("made")
    words = [
        "--policy",
        "threshold",
        "--low",
        "0.3",
        "--high",
        "2.5",
        "--readmit_every",
        "2",
        "--epochs",
        "4",
    ]
    assert main([*QUICK, *words, "--out", str(out / "a")]) == 0
    assert (
        main([*QUICK, "--policy", "random", "--fraction", "0.5", "--epochs", "3", "--out", str(out / "b")])
        == 0
    )
    return out


@pytest.fixture(scope="module")
def server(made):
    with serving(made) as found:
        yield found


@pytest.fixture(scope="module")
def ids(server):
    return {run["name"]: run["id"] for run in server.told("api/runs")["runs"]}


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made / "a", tmp_path / "a")


def unpacked(text, *shape):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def test_runs_and_summary_say_what_the_files_say(server, made, ids):
    found = server.told(f"api/summary?run={ids['a']}")
    said = json.loads((made / "a" / "summary.json").read_text())
    for name in ("accuracy", "test_loss", "train_accuracy"):
        assert found[name] == said[name]
    assert found["run"]["state"] == "finished"
    assert (found["samples"], found["epochs_done"], found["epochs"], found["progress"]) == (300, 4, 4, 1.0)
    run = RunFiles(made / "a")
    last = run.history[-1]
    assert found["counts"] == {
        name: getattr(last, name) for name in ("kept", "learned", "outliers", "not_drawn", "by_hand")
    }
    saved = {figure["key"]: figure["number"] for figure in found["saved"]}
    assert saved["samples"] == pytest.approx(said["saved_fraction"])
    best = max(said["epochs"], key=lambda row: (row["accuracy"], -row["epoch"]))
    assert found["best"] == {"epoch": best["epoch"], "value": best["accuracy"]}
    assert found["has"] == {
        "labels": True,
        "pictures": True,
        "texts": False,
        "gaps": False,
        "picks": False,
        "suspects": True,
    }
    assert len(found["worst_classes"]) == 5
    assert found["alerts"] == [alert for alert in found["alerts"] if alert["screen"] == "classes"]
    rows = server.told(f"api/epochs?run={ids['a']}")["epochs"]
    assert [row["backward"] for row in rows] == [record.backward for record in run.history]
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in said["epochs"]]


def test_classes_sum_to_all_samples(server, made, ids):
    run = RunFiles(made / "a")
    found = server.told(f"api/classes?run={ids['a']}&order=kept")
    rows = found["classes"]
    assert sum(row["samples"] for row in rows) == 300
    assert sum(row["kept"] for row in rows) == run.history[-1].kept
    assert [row["kept_share"] for row in rows] == sorted(row["kept_share"] for row in rows)
    for row in rows:
        members = run.labels == row["label"]
        assert row["share"] == pytest.approx(run.times_used[members].sum() / (4 * members.sum()))


def test_scores_are_those_of_the_epochs_and_of_a_class(server, made, ids):
    run = RunFiles(made / "a")
    found = server.told(f"api/scores?run={ids['a']}")
    assert found["histogram"] == [record.score_histogram.tolist() for record in run.history]
    assert found["thresholds"] == [{"name": "low", "value": 0.3}, {"name": "high", "value": 2.5}]
    of_class = server.told(f"api/scores?run={ids['a']}&class=3")
    members = run.last.scores[run.labels == 3]
    assert sum(of_class["histogram"][0]) == np.isfinite(members).sum()
    assert of_class["quantiles"][0][2] == pytest.approx(
        float(np.median(members[np.isfinite(members)])), rel=1e-5
    )
    assert server.get(f"api/scores?run={ids['a']}&class=77").status_code == 404


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_chart_is_that_of_the_report(server, made, ids, name):
    from fallow.report.charts.usage_rows import arrange

    run = RunFiles(made / name)
    found = server.told(f"api/usage?run={ids[name]}")
    chart = arrange(run.history, run.labels, run.last.scores)
    shares = row_shares(run.history, chart, lambda epoch: run.epoch(epoch).reason)
    assert found["edges"] == chart.edges.tolist()
    cells = unpacked(found["cells"], len(chart.edges) - 1, len(run.history))
    assert np.array_equal(cells == 0, shares.used == 0)
    assert np.array_equal(cells == 254, shares.used == 1)
    assert np.abs(cells / 254 - shares.used).max() <= 1 / 254
    if name == "a":
        odd = unpacked(found["outliers"], *cells.shape)
        assert np.array_equal(odd > 0, shares.outliers > 0)
    never = np.unpackbits(unpacked(found["never"], -1), bitorder="little")[: len(cells)]
    starts = chart.edges[:-1]
    assert np.array_equal(never, np.maximum.reduceat(run.times_used[chart.order] == 0, starts))


@pytest.mark.parametrize("order", ["class", "index", "times", "first_left_out", "score"])
def test_a_tile_has_the_fate_of_each_sample(server, made, ids, order):
    run = RunFiles(made / "a")
    found = server.told(f"api/usage/tile?run={ids['a']}&order={order}&first=40&count=50&fates=1")
    samples = np.array(found["samples"])
    used = np.stack([record.used_mask for record in run.history], 1)[samples]
    assert np.array_equal(
        np.unpackbits(unpacked(found["used"], 50, 1), axis=1, bitorder="little")[:, :4], used
    )
    reasons = np.stack([file.reason for file in run.files()], 1)[samples]
    assert np.array_equal(unpacked(found["fates"], 50, 4), np.where(used, 1, 2 + reasons))
    whole = np.array(
        [sample for first in (0, 200) for sample in server.told(f"api/usage/tile?run={ids['a']}&order={order}&first={first}&count=200")["samples"]]
    )  # fmt: skip
    assert np.array_equal(np.sort(whole), np.arange(300))
    keys = {
        "index": np.arange(300),
        "times": -run.times_used,
        "score": -run.last.scores,
        "first_left_out": [
            int(np.argmin([*mask, False])) for mask in np.stack([r.used_mask for r in run.history], 1)
        ],
        "class": run.labels,
    }
    assert (np.diff(np.asarray(keys[order])[whole]) >= 0).all()
    # A part of the raster is the mean of the tile.
    part = server.told(f"api/usage?run={ids['a']}&order={order}&first=40&last=90&rows=5")
    cells = unpacked(part["cells"], 5, 4)
    assert np.abs(cells / 254 - used.reshape(5, 10, 4).mean(1)).max() <= 1 / 254


FILTERS = {
    "": lambda run, used: np.ones(300, bool),
    "&reason=learned": lambda run, used: run.last.reason == Reason.LEARNED,
    "&reason=outlier": lambda run, used: run.last.reason == Reason.OUTLIER,
    "&class=3": lambda run, used: run.labels == 3,
    "&predicted=8": lambda run, used: run.predicted == 8,
    "&wrong=1": lambda run, used: (run.predicted >= 0) & (run.predicted != run.labels),
    "&never=1": lambda run, used: ~used.any(1),
    "&returned=1": lambda run, used: [any(a and not b and any(row[i + 2 :]) for i, (a, b) in enumerate(pairwise(row))) for row in used.tolist()],
    "&score_from=0.5&score_to=2": lambda run, used: (run.last.scores >= 0.5) & (run.last.scores <= 2),
    "&suspects=1": lambda run, used: np.isin(np.arange(300), [one.index for one in find_suspects(run).suspects]),
    "&reason=kept&class=5": lambda run, used: (run.last.reason == Reason.KEPT) & (run.labels == 5),
}  # fmt: skip


@pytest.mark.parametrize("words", FILTERS, ids=lambda words: words or "all")
@pytest.mark.parametrize("order", ["score", "-score", "-times", "index"])
def test_pages_hold_each_sample_of_a_filter_once(server, made, ids, words, order):
    run = RunFiles(made / "a")
    used = np.stack([record.used_mask for record in run.history], 1)
    expected = np.flatnonzero(FILTERS[words](run, used))
    rows, after = [], ""
    while True:
        page = server.told(f"api/samples?run={ids['a']}{words}&order={order}&limit=37{after}")
        assert page["total"] == expected.size
        rows += page["samples"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert sorted(row["index"] for row in rows) == expected.tolist()
    keys = {
        "score": lambda r: r["score"],
        "-score": lambda r: -r["score"],
        "-times": lambda r: -r["times_used"],
        "index": lambda r: r["index"],
    }
    assert [(keys[order](row), row["index"]) for row in rows] == sorted(
        (keys[order](row), row["index"]) for row in rows
    )
    for row in rows[:5]:
        assert row["used"] == used[row["index"], -1]
        assert row["label"] == run.labels[row["index"]]


def test_the_life_of_a_sample_and_its_picture(server, made, ids, capsys):
    run = RunFiles(made / "a")
    shown = int(run.shown.index[0])
    capsys.readouterr()
    assert main(["inspect", str(made / "a"), str(shown), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = server.told(f"api/sample?run={ids['a']}&sample={shown}")
    assert found["epochs"] == [
        epoch | {"reason": epoch["reason"].replace(" ", "_")} for epoch in said["epochs"]
    ]
    assert found["sample"]["times_used"] == said["times_used"]
    others = np.stack([file.other for file in run.files()], 1)
    most = int(np.count_nonzero(others, axis=1).argmax())
    for sample in {shown, most, 0, 299}:
        taken = server.told(f"api/sample?run={ids['a']}&sample={sample}")["taken_for"]
        counts = np.bincount(others[sample][others[sample] > 0], minlength=1)
        expected = sorted(((-int(c), k - 1) for k, c in enumerate(counts) if c))[:3]
        assert [(-one["epochs"], one["label"]) for one in taken] == expected
    assert server.told(f"api/sample?run={ids['a']}&sample={most}")["taken_for"]
    picture = server.done(f"api/picture?run={ids['a']}&sample={shown}")
    assert picture.headers["content-type"] == "image/png"
    from io import BytesIO

    assert np.array_equal(np.asarray(Image.open(BytesIO(picture.content))), run.shown.pictures[0][..., 0])
    hidden = next(sample for sample in range(300) if sample not in run.shown.index)
    assert server.get(f"api/picture?run={ids['a']}&sample={hidden}").status_code == 404
    assert server.get(f"api/sample?run={ids['a']}&sample=300").status_code == 404


def test_suspects_and_compared_runs(server, made, ids):
    found = server.told(f"api/suspects?run={ids['a']}&count=7")
    said = find_suspects(RunFiles(made / "a"), 7)
    assert found["found"] == said.found
    assert [(one["index"], one["confidence"]) for one in found["suspects"]] == [
        (one.index, one.confidence) for one in said.suspects
    ]
    compared = server.told(f"api/compare?run={ids['a']}&run={ids['b']}")
    by_hand = side_by_side([made / "a", made / "b"])
    assert [run["accuracy"] for run in compared["runs"]] == [run.accuracy for run in by_hand.runs]
    assert compared["pairs"][0]["all"]["share"] == by_hand.pairs[0].all.share
    assert len(compared["curves"][0]["points"]) == 4
    assert server.get(f"api/compare?run={ids['a']}&run={ids['a']}").status_code == 400
    assert server.get(f"api/compare?run={ids['a']}").status_code == 400


def test_nothing_is_sent_twice(server, ids):
    urls = [
        "api/runs",
        *(
            f"api/{name}?run={ids['a']}"
            for name in ("summary", "epochs", "classes", "scores", "usage", "samples", "suspects", "health")
        ),
    ]
    for url in urls:
        first = server.done(url)
        again = server.get(url, **{"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), url
        assert server.get(url, **{"If-None-Match": '"other"'}).status_code == 200
        assert server.get(url, **{"If-None-Match": f'W/"x", {first.headers["etag"]}'}).status_code == 304
        without_places(server, first.content)


def test_health_says_what_verify_says(copied):
    with serving(copied) as server:
        assert server.told("api/health")["run"]["verified"] is None
        found = server.told("api/health?verify=1")["run"]["verified"]
        assert found["sound"]
        path = copied / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        # The weights are none of the files that other answers depend on.
        until(lambda: not server.told("api/health?verify=1")["run"]["verified"]["sound"])
        damaged = server.told("api/health?verify=1")["run"]["verified"]["damaged"]
        assert [one["file"] for one in damaged] == ["model.safetensors"]
        without_places(server, json.dumps(damaged))


def until(holds):
    """Wait until something holds; the time limit of the test ends it."""
    while not holds():
        time.sleep(0.1)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(os.urandom(5000)),
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-40] + bytes([path.read_bytes()[-40] ^ 1]) + path.read_bytes()[-39:]),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "unreadable": lambda path: path.chmod(0),
}  # fmt: skip
FILES = ["history/epoch-00003.safetensors", "history/epoch-00001.safetensors", "data.safetensors", "summary.json", "state",
         "history/shown.safetensors", "SHA256SUMS", "history", "config.yaml"]  # fmt: skip
PATHS = ["runs", "summary", "epochs", "classes", "scores", "usage", "usage/tile?fates=1", "samples", "sample?sample=3",
         "picture?sample=3", "suspects", "gaps", "picks", "health"]  # fmt: skip


def test_a_damaged_file_is_said_and_never_ends_the_server(made, tmp_path):
    """Each damage of each file: no 500, no place of the machine; what was sound stays; put back, all is well."""
    folder = tmp_path / "runs"
    shutil.copytree(made / "a", folder / "a")
    with serving(folder) as server:
        run = server.told("api/runs")["runs"][0]["id"]
        for name, damage in ((name, damage) for name in FILES for damage in DAMAGE):
            path = folder / "a" / name
            sound = server.done(f"api/epochs?run={run}").headers["etag"]
            if path.is_dir():
                if damage not in ("gone", "a link"):
                    continue
                path.rename(folder / "away")
                if damage == "a link":
                    path.symlink_to("/etc")
            else:
                shutil.copy2(path, folder / "away")
                DAMAGE[damage](path)
            if damage != "unreadable":  # rights are no part of a stamp
                until(lambda before=sound: server.done(f"api/epochs?run={run}").headers.get("etag") != before)
            for each in PATHS:
                lead = "" if each == "runs" else f"{'&' if '?' in each else '?'}run={run}"
                found = server.done(f"api/{each}{lead}")
                assert found.status_code in (200, 404, 409, 503), (name, damage, each, found.text)
                assert each != "runs" or found.status_code == 200
                without_places(server, found.content)
                assert "root:" not in found.text
            if name.startswith("history/epoch") and (damage != "unreadable" or os.getuid()):
                # A changed bit shows when all of the file is read, as to find suspects.
                assert server.done(f"api/suspects?run={run}").status_code in (200, 503)
                assert server.told(f"api/summary?run={run}")["run"]["state"] == "damaged", (name, damage)
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif os.path.lexists(path):
                path.unlink()
            (folder / "away").rename(path)
            until(lambda: server.told("api/runs")["runs"][0]["state"] == "finished")
        until(lambda: server.told(f"api/summary?run={run}")["run"]["state"] == "finished")
        assert server.told(f"api/summary?run={run}")["epochs_done"] == 4


def test_a_damaged_epoch_is_left_out_and_named(copied):
    path = copied / "history" / "epoch-00001.safetensors"
    with serving(copied) as server:
        before = server.told("api/summary")
        path.write_bytes(path.read_bytes()[:100])
        until(lambda: server.told("api/summary")["run"]["state"] == "damaged")
        found = server.told("api/epochs")
        assert [row["epoch"] for row in found["epochs"]] == [0, 2, 3]
        assert (found["missing"], found["damaged"][0]["epoch"]) == ([1], 1)
        summary = server.told("api/summary")
        assert summary["counts"] == before["counts"]
        assert summary["alerts"][0] == {
            "level": "bad", "text": "Epoch 2 cannot be read: counts are over 3 of 4 epochs.", "screen": "health",
        }  # fmt: skip
        assert (summary["epochs_done"], summary["epochs_read"], summary["missing"]) == (4, 3, [1])
        # The row of the list says the same, whether the run was opened or not.
        for row in (summary["run"], server.told("api/runs")["runs"][0]):
            assert (row["state"], row["epochs_done"], row["epochs"]) == ("damaged", 4, 4)
            assert row["state_text"] == "epoch 2 cannot be read"
            assert "epoch-00001" in row["damage"]
        # What summary.json says of the whole run is still said: it is not that of other epochs.
        for name in ("accuracy", "remarks", "evaluated_on", "saved", "best"):
            assert summary[name] == before[name]
        (copied / "summary.json").unlink()
        until(lambda: "3 of 4 epochs" in server.told("api/summary")["saved"][0]["formula"])


def test_counts_of_an_earlier_epoch_say_so(copied):
    (copied / "history" / "epoch-00003.safetensors").unlink()
    with serving(copied) as server:
        summary = server.told("api/summary")
    assert (summary["epochs_done"], summary["last_read"], summary["missing"]) == (4, 2, [3])
    assert summary["counts_sentence"].startswith("Epoch 3, the last that can be read, kept ")


def test_a_run_without_a_sound_epoch_says_what_is_damaged(copied):
    for path in (copied / "history").glob("epoch-*"):
        path.write_bytes(b"")
    with serving(copied) as server:
        summary = server.told("api/summary")
    assert (summary["epochs_done"], summary["epochs_read"], summary["counts"]) == (4, 0, None)
    assert summary["early"].startswith("None of its 4 epochs can be read. Health names the files")
    assert summary["run"]["state_text"] == "epoch 1 and 3 others cannot be read"


def test_an_epoch_that_no_state_names_is_no_damage_and_is_said(copied):
    """As after a disk refused it: the run itself is sound."""
    checkpoints = Checkpoints(copied)
    newest = checkpoints.newest().found
    (copied / "history" / "epoch-00001.safetensors").unlink()
    files = {
        name: digest for name, digest in newest.files.items() if "history/" in name and "00001" not in name
    }
    checkpoints.write(checkpoints.state_path(newest.number).read_bytes(), newest.about, files)
    for name in ("SHA256SUMS", "summary.json"):
        (copied / name).unlink()
    with serving(copied) as server:
        row = server.told("api/summary")["run"]
    assert (row["state"], row["state_text"]) == ("finished", "all epochs are done; epoch 2 cannot be read")


def test_the_overview_of_the_only_run_comes_with_the_session(made, copied):
    with serving(copied) as server:
        overview = server.told("api/summary")
        assert server.told("api/session")["summary"] == overview
        with server.client(None) as client:
            own = {"Origin": server.base[:-1]}
            found = client.post("api/session", json={"token": server.token}, headers=own).json()
            assert found["summary"] == overview
            assert client.post("api/session", json={"token": "x"}, headers=own).json()["code"] == "token"
        (copied / "data.safetensors").write_bytes(b"")
        until(
            lambda: (
                server.done("api/summary").status_code == 503
                or server.told("api/summary")["run"]["state"] == "damaged"
            )
        )
        assert server.told("api/session")["single"]
    with serving(made) as server:
        assert server.told("api/session")["summary"] is None


def test_a_run_that_leaves_and_comes_back(copied):
    away = copied.with_name("away")
    with serving(copied) as server:
        assert server.told("api/summary")["epochs_done"] == 4
        copied.rename(away)
        until(lambda: server.done("api/summary").status_code == 503)
        without_places(server, server.done("api/summary").content)
        away.rename(copied)
        until(lambda: server.done("api/summary").status_code == 200)


TRAIN = [sys.executable, "-m", "fallow", *QUICK, "--epochs", "200", "--policy", "soft"]


def test_a_training_is_seen_from_its_first_epoch_to_its_end_by_kill(tmp_path):
    """The state is true, and no answer is one of half a file."""
    folder = tmp_path / "runs"
    folder.mkdir()
    with serving(folder) as server:
        assert server.told("api/runs")["runs"] == []
        command = [*TRAIN, "--out", str(folder / "live")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
            until(lambda: server.told("api/runs")["runs"])
            run = server.told("api/runs")["runs"][0]["id"]
            seen = []
            while not seen or seen[-1]["epochs_done"] < 3:
                found = server.done(f"api/summary?run={run}")
                if found.status_code == 200:
                    seen.append(found.json())
                else:
                    assert found.status_code == 409, found.text
            assert {one["run"]["state"] for one in seen} == {"running"}
            assert [one["epochs_done"] for one in seen] == sorted(one["epochs_done"] for one in seen)
            for one in seen:
                assert (one["early"] is None) == (one["epochs_done"] > 0)
            training.send_signal(signal.SIGKILL)
            training.wait(SECONDS)
        soon(lambda: server.told(f"api/summary?run={run}")["run"]["state"] == "crashed")
        assert server.told("api/runs")["runs"][0]["state"] == "crashed"
        assert server.told(f"api/health?run={run}&verify=1")["run"]["verified"]["damaged"] == []


def test_a_training_knows_nothing_of_the_server(copied):
    """It neither opens a lock nor writes: every file is as it was, with its time."""
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    with serving(copied) as server:
        for path in PATHS:
            server.done(f"api/{path}")
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


@pytest.mark.parametrize(("age", "state"), [(10, "running"), (10_000, "stalled")])
def test_a_run_of_another_machine_is_known_by_its_files(copied, age, state):
    for path in copied.rglob("*"):
        os.utime(path, (1e9, 1e9))
    (copied / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    os.utime(copied / "lock", (1e9, 1e9))
    assert doing(copied, "stopped", 1e9 + age) == state
    assert doing(copied, "finished", 1e9 + age) == "finished"


GAPS = {
    "run": "x", "reference": "/home/somebody/pool.npz", "training_samples": 300, "reference_samples": 50, "reference_judged": 50,
    "gaps": [{"name": "gap 1", "size": 9, "training": 1, "reference": 8, "class": "3", "reason": "see /home/somebody/x/y.png",
              "examples": [{"of": "reference", "index": 4, "file": "/home/somebody/pool/4.png", "picture": 0}]}],
    "thin": [],
}  # fmt: skip
PICKS = [
    Pick(
        5,
        "",
        1.5,
        "gap 1",
        "gap 1: few",
        "/home/somebody/pool",
        "/home/somebody/pool/a/5.png",
        "0123456789abcdef",
    ),
    Pick(7, "cat", 0.5, "", "random: drawn", "/home/somebody/pool", "", "00000000000000e1"),
]


def test_gaps_and_picks_are_shown_and_what_was_found_is_ticked(copied):
    pictures = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    (copied / "gaps.safetensors").write_bytes(dump_gaps(GAPS, pictures))
    (copied / "picks-000.csv").write_bytes(dump_picks(PICKS))
    (copied / "picks-001.csv").write_text("no table")
    with serving(copied, "--write") as server:
        found = server.told("api/gaps")
        assert found["gaps"][0]["class"] == "3"
        assert (
            found["gaps"][0]["examples"][0]["file"] == "4.png"
            or found["gaps"][0]["examples"][0]["file"] == "pool/4.png"
        )
        assert found["found"] == {}
        assert server.done("api/gap_picture?picture=1").status_code == 200
        assert server.done("api/gap_picture?picture=2").status_code == 404
        lists = server.told("api/picks")["lists"]
        assert [each["id"] for each in lists] == ["picks-001", "picks-000"]
        assert lists[0]["damage"]
        assert [pick["file"] for pick in lists[1]["picks"]] == ["a/5.png", ""]
        without_places(server, json.dumps([found, lists]))
        assert "somebody" not in json.dumps([found, lists])

        def tick(token="", **body):
            with server.client(token) as client:
                return client.post("api/tick", json=body)

        assert tick(gap="gap 1", found=3).status_code == 403, "a token that may read"
        assert not (copied / "ticks.jsonl").exists()
        assert tick(server.writing, gap="gap 1", found=3, note="at the river\n\u2028").status_code == 200
        assert tick(server.writing, gap="gap 1", found=12).json()["found"] == 12
        assert tick(server.writing, list="picks-000", place=1, found=1).status_code == 200
        assert tick(server.writing, list="picks-000", place=2, found=1).status_code == 404
        assert tick(server.writing, list="picks-009", place=0, found=1).status_code == 404
        assert tick(server.writing, gap="gap 2", found=1).status_code == 404
        until(lambda: server.told("api/gaps")["found"] == {"gap 1": 12})
        until(lambda: [pick["found"] for pick in server.told("api/picks")["lists"][1]["picks"]] == [None, 1])
        lines = (copied / "ticks.jsonl").read_bytes().splitlines()
        assert [json.loads(line)["found"] for line in lines] == [3, 12, 1]
    assert main(["verify", str(copied)]) == 0, "what is ticked is no damage"


def test_half_a_line_of_a_full_disk_is_passed_over(tmp_path):
    add_tick(tmp_path, Tick("now", 1, gap="a"))
    path = tmp_path / "ticks.jsonl"
    path.write_bytes(path.read_bytes() + b'{"at": "now", "fou')
    assert [tick.found for tick in read_ticks(tmp_path)] == [1]
    add_tick(tmp_path, Tick("then", 2, gap="a"))
    assert [tick.found for tick in read_ticks(tmp_path)] == [1, 2]


@pytest.fixture(params=["a limit", "a small disk"])
def full(request, made, tmp_path):
    """A run, and what fills the disk that it lies on, and frees it: a limit of the server, or a real one."""
    if request.param == "a limit":

        def fill(server, run):
            most = (run / "ticks.jsonl").stat().st_size + 40
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        def free(server, run):
            both = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, both)

        yield shutil.copytree(made / "a", tmp_path / "a"), fill, free
        return
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("this user may mount no small disk")
    try:

        def fill(server, run):
            # The last page of a file has room until it is full, too.
            with (run / "ticks.jsonl").open("ab") as file:
                file.write(b"\n" * (-file.tell() % 4096 - 40))
            with contextlib.suppress(OSError), (disk / "filler").open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))

        def free(server, run):
            (disk / "filler").unlink()

        yield shutil.copytree(made / "a", disk / "a"), fill, free
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_while_it_serves(full):
    """A tick is written whole or not at all; what can be read is read meanwhile."""
    run, fill, free = full
    (run / "gaps.safetensors").write_bytes(dump_gaps(GAPS))
    with serving(run, "--write") as server, server.client(server.writing) as client:

        def tick(found):
            return client.post("api/tick", json={"gap": "gap 1", "found": found, "note": "x" * 100})

        assert tick(1).status_code == 200
        fill(server, run)
        before = (run / "ticks.jsonl").read_bytes()
        for found in range(2, 6):
            answer = tick(found)
            assert (answer.status_code, answer.json()["code"]) == (507, "full")
            without_places(server, answer.content)
            assert (run / "ticks.jsonl").read_bytes() == before
            until(lambda: server.told("api/gaps")["found"] == {"gap 1": 1})
            assert server.told("api/summary")["epochs_done"] == 4
        free(server, run)
        assert tick(6).status_code == 200
        until(lambda: server.told("api/gaps")["found"] == {"gap 1": 6})


def soon(holds):
    """Check that something holds at one of eleven looks, a second apart: within 10 s, however slow a look is."""
    for look in range(11):
        time.sleep(min(look, 1))
        if holds():
            return
    raise AssertionError("not within 10 s")


def test_files_that_arrive_piece_by_piece(made, tmp_path):
    """As from another machine: no answer is made of half a file, and the whole is shown soon."""
    source, folder = made / "a", tmp_path / "runs"
    (folder / "a" / "history").mkdir(parents=True)
    shutil.copy(source / "config.yaml", folder / "a")
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    with serving(folder) as server:
        soon(lambda: server.told("api/runs")["runs"])
        for name in names:
            path, data = folder / "a" / name, (source / name).read_bytes()
            path.parent.mkdir(exist_ok=True)
            with path.open("wb", 0) as file:
                for part in (data[: len(data) // 3], data[len(data) // 3 :]):
                    file.write(part)
                    (each,) = server.told("api/runs")["runs"]
                    for asked in ("summary", "epochs", "suspects"):
                        answer = server.done(f"api/{asked}?run={each['id']}")
                        assert answer.status_code in (200, 404, 409, 503), answer.text
                        if answer.status_code == 200 and asked == "epochs":
                            rows = answer.json()["epochs"]
                            assert all(row["kept"] + row["learned"] + row["outliers"] == 300 for row in rows)
                        without_places(server, answer.content)
        soon(lambda: server.told("api/runs")["runs"][0]["state"] == "finished")
        run = server.told("api/runs")["runs"][0]["id"]
        soon(lambda: server.told(f"api/summary?run={run}")["epochs_done"] == 4)
        assert server.told(f"api/summary?run={run}")["run"]["damage"] is None


def test_a_server_that_is_killed_leaves_all_as_it_was(copied):
    def files():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copied.rglob("*") if path.is_file()
        }

    before, words = files(), [sys.executable, "-m", "fallow", "serve", str(copied), "--port", "0", "--write"]
    for seconds in (0, 0.05, 0.3):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            base, token = process.stdout.readline().strip().split("#")
            with httpx.Client(
                base_url=base, headers={"Authorization": f"Bearer {token}"}, trust_env=False
            ) as client:
                assert client.get("api/runs").status_code == 200
                asked = [threading.Thread(target=asks, args=(client, each)) for each in PATHS]
                for thread in asked:
                    thread.start()
                time.sleep(seconds)
                process.kill()
                for thread in asked:
                    thread.join()
    assert files() == before
    with serving(copied) as server:
        assert server.told("api/summary")["run"]["state"] == "finished"


def asks(client, path):
    with contextlib.suppress(httpx.HTTPError):
        client.get(f"api/{path}")


def test_a_link_is_never_written_through(copied, tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    (copied / "gaps.safetensors").write_bytes(dump_gaps(GAPS))
    (copied / "ticks.jsonl").symlink_to(other)
    with serving(copied, "--write") as server, server.client(server.writing) as client:
        found = client.post("api/tick", json={"gap": "gap 1", "found": 3})
        assert (found.status_code, found.json()["code"]) == (507, "full")
        without_places(server, found.content)
        assert server.done("api/gaps").status_code == 503
    assert other.read_text() == "mine"


def test_parts_of_an_epoch_are_those_of_the_whole(made):
    run = RunFiles(made / "a")
    index = np.array([0, 299, 17])
    for epoch in run.epochs:
        path, whole = run.directory.epoch_path(epoch), run.epoch(epoch)
        record, rows = read_record(path, epoch), read_rows(path, index)
        assert np.array_equal(record.used_bits, whole.record.used_bits)
        assert json.dumps(record.aggregates()) == json.dumps(whole.record.aggregates())
        assert np.array_equal(rows.scores, whole.scores[index], equal_nan=True)
        assert np.array_equal(rows.reason, whole.reason[index])
        assert np.array_equal(read_rows(path, np.arange(300)).reason, whole.reason)


def test_what_is_served_loads_no_torch(made):
    code = (
        "import sys; import fallow.serve.application, fallow.serve.listening; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    code = "import sys; import fallow.cli.main; print([m for m in ('uvicorn', 'starlette', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "uvicorn" not in done.stdout
    assert "starlette" not in done.stdout


def test_an_empty_folder_and_a_folder_of_no_run(tmp_path):
    with serving(tmp_path) as server:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, server.process.pid) == min(19, own + 10), "it gives way"
        assert server.told("api/runs") == {"folder": tmp_path.name, "runs": [], "links": []}
        assert server.told("api/session")["single"] is None
        assert server.get("api/summary").status_code == 400
        assert server.get("api/summary?run=0123456789abcdef").status_code == 404
        assert server.told("api/health")["run"] is None


def test_links_to_runs_are_named_and_not_served(made, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    with serving(folder) as server:
        before = server.done("api/runs")
        (folder / "link").symlink_to(made / "a")
        until(lambda: server.told("api/runs")["links"] == ["link"])
        again = server.get("api/runs", **{"If-None-Match": before.headers["etag"]})
        assert (again.status_code, again.json()["runs"]) == (200, [])
        without_places(server, again.content)
    with serving(folder / "link") as server:  # a person has named it
        assert server.told("api/summary")["epochs_done"] == 4


def test_names_of_strangers_are_plain_text(made, tmp_path):
    """What a run says of itself arrives as it is told, in JSON and in no header, with places cut off."""
    folder = shutil.copytree(made / "a", tmp_path / "runs" / "<img src=x onerror=alert(1)>\u202e")
    assert folder.is_dir()
    with serving(tmp_path / "runs") as server:
        found = server.get("api/runs")
        assert found.headers["content-type"] == "application/json"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "\u202e" not in found.text
