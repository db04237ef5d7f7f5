"""The report of a run, read as a page: every number, every name as text, one file that loads nothing."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from itertools import cycle

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save

from fallow.arrays.bitset import unpack
from fallow.collecting.terminal import print_gaps
from fallow.core.history import describe
from fallow.core.table import TRAINED, Table
from fallow.errors import DamagedData, InvalidValue
from fallow.gaps import THIN
from fallow.policies.base import Reason
from fallow.report import facts, text, write_report
from fallow.report import gaps as report_gaps
from fallow.report.source import Source
from fallow.report.usage import ABSENT, UNUSED, USED
from fallow.report.writing import LARGEST, render
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.epoch_file import EpochFile
from fallow.runs.gaps_file import GapsFile, dump_gaps
from fallow.runs.highlights import choose
from fallow.runs.run_files import RunFiles
from fallow.runs.schema import About, ShownOptions
from fallow.runs.suspects import find_suspects
from fallow.runs.thumbnails_file import ThumbnailsFile

HOSTILE = [
    "<img src=x onerror=window.hit=1>",
    "</script><script>window.hit=1</script>",
    "</title></style><svg onload=window.hit=1>",
    "\"' onmouseover=window.hit=1 x='",
    "&lt;b&gt; {{ 7*7 }} {% raw %} ${window.hit=1}",
    "\u202egnp.exe\u2066 \u200f\x00\x1b[31m\udcff",
    "javascript:window.hit=1",
    "<!--<script>]]>\u2028\u2029",
    "W" * 8_000,
]


def make_run(
    path, n=30, epochs=6, *, classes=3, names=None, files=None, planned=None, summary=True, shown=None,
    options=None, predicted=True, grown=0, texts=None, wide=8, seed=0,
    tail=False, notes=None,
):  # fmt: skip
    """Write a run directory as a training does, and return what was written."""
    draw = np.random.default_rng(seed)
    run = RunDirectory.create(path)
    labels = draw.integers(0, classes, n).astype(np.int32) if classes else None
    run.put(run.data_path, DataFile(n, labels, None, names, files).dump())
    reason, past, rows = np.zeros(n, np.uint8), [], []
    table = Table(n)
    for epoch in range(epochs):
        size = n - grown if epoch < epochs // 2 else n
        used = (reason == Reason.KEPT) & (np.arange(n) < size)
        table.scores[used] = draw.exponential(2 / (epoch + 1), int(used.sum())).astype(np.float32)
        table.scored_in[used] = epoch + 1
        seen = Table(size)
        seen.scores[:], seen.scored_in[:] = table.scores[:size], table.scored_in[:size]
        seen.seen[:] = np.where(used[:size], TRAINED, 0)
        seen.reason[:] = reason[:size]
        record = replace(describe(seen, epoch, int(epoch % 3 == 0), 0.01), notes=notes or {})
        file = EpochFile(record, table.scores[:size].copy(), reason[:size].copy())
        run.write_epoch(file)
        past.append(file)
        rows.append({"epoch": epoch, "accuracy": 0.5 + 0.4 * epoch / max(1, epochs)})
        reason = np.where(draw.random(n) < 0.4, draw.integers(1, len(Reason), n), 0).astype(np.uint8)
        if (epoch + 1) % 3 == 0:
            reason[reason != Reason.OUTLIER] = 0
        if tail and epoch >= epochs - 3:
            reason[:] = 0
    told = draw.integers(0, max(classes, 1), n).astype(np.int32) if predicted else None
    state = save({"a/subsampler/table/columns/predicted": told + 1} if predicted else {"a": np.zeros(1)})
    every = {"data": "toy", "policy": "threshold", "low": 0.1, "high": 3.0, **(options or {})}
    about = About(options=every, epoch=epochs, epochs=planned or epochs)
    Checkpoints(run.path).write(state, about, run.needed(epochs))
    run.write_text(run.config_path, "data: toy\n")
    if summary:
        run.write_summary(
            {"accuracy": rows[-1]["accuracy"], "evaluated_on": "test", "seconds": 12.5, "epochs": rows,
             "record_seconds": 0.125, "samples_forward_only": 0, "time_saved_fraction": 0.25,
             "remarks": ["A remark & more."], "policy": "Threshold(low=0.1)"}
        )  # fmt: skip
    if shown:
        times = sum((became(file, n) == USED).astype(int) for file in past)
        last = past[-1]
        index = choose(last.scores, last.reason, times, labels, told).index
        index = np.union1d(index, suspects_of(RunFiles(path)))
        pictures = draw.integers(0, 256, (index.size, wide, wide, 3)).astype(np.uint8)
        lines = None if texts is None else tuple(texts[i % len(texts)] for i in range(index.size))
        guess = np.full(index.size, -1, np.int32) if told is None else told[index]
        file = ThumbnailsFile(epochs - 1, index, guess, None if texts else pictures, lines)
        run.put(run.thumbnails_path, file.dump())
    run.release()
    return past, labels, told


def suspects_of(run):
    """Return the samples that look wrong; tests/test_suspects.py holds them against sums by hand."""
    if run.labels is None:
        return np.zeros(0, np.int64)
    return np.array([one.index for one in find_suspects(run, 60).suspects], np.int64)


class Page(HTMLParser):
    """A page as a parser sees it: its elements, the text in them, and the data blocks."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.skeleton, self.words, self.tables, self.blocks = [], [], [], {}
        self._open, self._cell = None, None
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.skeleton.append((tag, tuple(sorted(attributes))))
        self._open = attributes.get("id") if tag == "script" else None
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        for value in attributes.values():
            self.words.append(value or "")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self._cell).strip())
            self._cell = None
        if tag == "script":
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data
        elif self._cell is not None:
            self._cell.append(data)
        self.words.append(data)

    @property
    def facts(self):
        return json.loads(self.blocks["facts"])

    def numbers(self, name, kind):
        return np.frombuffer(zlib.decompress(base64.b64decode(self.blocks[f"d-{name}"])), kind)

    def whole(self, name):
        planes = self.numbers(name, np.uint8).reshape(4, -1).astype(np.uint32)
        return sum(planes[i] << (8 * i) for i in range(4))

    def fates(self):
        facts = self.facts
        ids = self.whole("ids")
        halves = self.numbers("marks", np.uint8).reshape(len(facts["epochs"]), -1)
        return ids, np.stack([halves & 15, halves >> 4], axis=2).reshape(len(halves), -1)[:, : ids.size].T


def page_of(path):
    run = RunFiles(path)
    return Page(write_report(run).read_text(encoding="utf-8"))


def became(file, n):
    """Return what became of each sample in an epoch."""
    size = file.record.n
    found = np.full(n, ABSENT)
    found[:size] = np.where(unpack(file.record.used_bits, size), USED, UNUSED + file.reason)
    return found


@pytest.mark.parametrize("options", [
    {"n": 1, "epochs": 1, "classes": 1}, {"n": 1, "epochs": 4}, {"n": 30, "epochs": 1}, {},
    {"n": 1000, "epochs": 7, "classes": 50, "shown": True}, {"n": 1200, "grown": 200, "epochs": 8},
    {"classes": 0}, {"epochs": 9, "tail": True}, {"n": 60_000, "epochs": 6, "classes": 10, "seed": 3},
])  # fmt: skip
def test_numbers_equal_those_computed_independently(tmp_path, options):
    past, labels, told = make_run(tmp_path / "run", **options)
    page, n = page_of(tmp_path / "run"), past[-1].record.n
    fates = np.stack([became(file, n) for file in past], axis=1)
    used, possible = (fates == USED).sum(), sum(file.record.n for file in past)
    said = " ".join(page.words)
    assert f"{100 * (1 - used / possible):.1f}%" in said
    assert f"1 − {used:,} trained on / {possible:,} in full training" in said
    check_epochs(page, past)
    check_usage(page, fates, labels, n)
    check_samples(page, past, fates, labels, told, suspects_of(RunFiles(tmp_path / "run")))
    if labels is not None:
        check_classes(page, past, fates, labels)


def check_epochs(page, past):
    table = next(t for t in page.tables if t[0][0] == "epoch")
    assert len(table) == len(past) + 1
    for file, row in zip(past, table[1:], strict=True):
        record = file.record
        by_reason = [int((file.reason == reason).sum()) for reason in Reason]
        counts = dict(zip((reason.text for reason in Reason), by_reason, strict=True))
        counts |= {"epoch": record.epoch + 1, "re-admitted": record.readmitted}
        counts["trained on"] = int(unpack(record.used_bits, record.n).sum())
        cells = dict(zip(table[0], row, strict=True))
        # Columns of zeros are left out, and that of the kept ones if all of them trained.
        cells.setdefault("kept", cells["trained on"])
        assert {name: cells.get(name, "0") for name in counts} == {k: f"{v:,}" for k, v in counts.items()}
        fresh = file.scores[unpack(record.used_bits, record.n)].astype(np.float64)
        assert cells["mean score"] == (text.score(record.mean_score) if fresh.size else "–")
        if fresh.size:
            assert record.mean_score == pytest.approx(fresh.mean(), rel=1e-5)
        assert row[-1] in ("–", f"{100 * (0.5 + 0.4 * record.epoch / len(past)):.2f}%")


def check_usage(page, fates, labels, n):
    facts = page.facts
    ids, marks = page.fates()
    order = np.lexsort((-(fates == USED).sum(1), *([] if labels is None else [labels])))
    np.testing.assert_array_equal(marks, fates[ids])
    if facts["step"] == 1:
        assert sorted(ids.tolist()) == list(range(n))
        if labels is not None:
            np.testing.assert_array_equal(labels[ids], labels[order])
        np.testing.assert_array_equal((marks == USED).sum(1), (fates == USED).sum(1)[order])
        if labels is not None:
            starts = dict(facts["classes"])
            assert starts == {str(c): int(np.argmax(labels[ids] == c)) for c in np.unique(labels)}
    fine = np.arange(facts["fine"] + 1) * n // facts["fine"]
    outlier = UNUSED + Reason.OUTLIER
    for name, edges in (("rows", np.array(facts["edges"])), ("fine", fine)):
        assert edges[0] == 0
        assert edges[-1] == n
        assert np.diff(edges).min() >= 1
        if f"d-{name}" not in page.blocks:
            assert facts["edges"] == list(range(n + 1))  # rows are single samples
            continue
        for what, blob in ((USED, name), (outlier, f"{name}-outliers")):
            if not (fates == what).any():
                assert blob == f"{name}-outliers" not in page.blocks
                continue
            counts = page.whole(blob).reshape(len(facts["epochs"]), len(edges) - 1)
            np.testing.assert_array_equal(counts.sum(1), (fates == what).sum(0))
            if facts["step"] == 1:
                sums = np.add.reduceat(marks == what, edges[:-1], axis=0, dtype=int)
                np.testing.assert_array_equal(counts.T, sums)
    if labels is not None:
        starts = [start for _, start in facts["classes"]]
        assert set(starts) <= set(facts["edges"])  # no row holds samples of two classes


def check_samples(page, past, fates, labels, told, suspects):
    facts, n = page.facts, len(fates)
    size = len(past)
    assert facts["samples"] == [] or len(facts["samples"][0]) == 6
    index = [sample[0] for sample in facts["samples"]]
    scores = page.numbers("scores", np.float32).reshape(-1, size)
    lives = page.numbers("fates", np.uint8).reshape(-1, size)
    expected = np.stack([np.pad(f.scores, (0, n - f.record.n), constant_values=np.nan) for f in past], axis=1)
    np.testing.assert_array_equal(scores, expected[index])
    np.testing.assert_array_equal(lives, fates[index])
    times = (fates == USED).sum(1)
    for sample, given, predicted, score, used, _ in facts["samples"]:
        assert used == times[sample]
        assert score == text.score(float(past[-1].scores[sample]))
        assert given == (None if labels is None else str(labels[sample]))
        assert predicted == (None if told is None else str(told[sample]))
    with_outliers = [file for file in past if (file.reason == Reason.OUTLIER).any()]
    reason = np.zeros(n, np.uint8)
    if with_outliers:
        reason[: with_outliers[-1].record.n] = with_outliers[-1].reason
    chosen = choose(past[-1].scores, reason, times, labels, told)
    assert index == replace(chosen, suspects=suspects).index.tolist()


def check_classes(page, past, fates, labels):
    tables = [t for t in page.tables if t[0][0] == "class"]
    rows = {row[0]: row for table in tables for row in table[1:]}
    assert set(rows) == {str(c) for c in np.unique(labels)}
    for c in np.unique(labels).tolist():
        mine = labels == c
        share = (fates[mine] == USED).sum() / (fates[mine] != ABSENT).sum()
        scores = past[-1].scores[mine & np.isfinite(past[-1].scores)].astype(np.float64)
        last = past[-1].reason[mine]
        assert rows[str(c)] == [
            str(c), f"{100 * share:.1f}%", f"{mine.sum():,}", f"{(last == 0).sum():,}",
            f"{(last == Reason.OUTLIER).sum():,}", text.score(scores.mean()) if scores.size else "–",
        ]  # fmt: skip


def test_names_stay_text(tmp_path):
    """A run with hostile names gives the elements and attributes that a plain one gives, and no others."""
    k = len(HOSTILE)
    plain = [f"plain {i}" for i in range(k)]
    made = {}
    for key, words in (("plain", plain), ("hostile", HOSTILE)):
        soft = [word.encode("utf-8", "backslashreplace").decode() for word in words]
        options = {"data": soft[0], "low": soft[1], "model": soft[2], soft[3]: soft[8], "policy": "threshold"}
        make_run(
            tmp_path / key, n=90, epochs=3, classes=k, names=tuple(soft), shown=True, texts=list(words),
            files=tuple(words[i % k].replace("\0", "") for i in range(90)), options=options,
        )  # fmt: skip
        report = write_report(RunFiles(tmp_path / key))
        markup = report.read_text(encoding="utf-8")
        assert report.stat().st_size < 400_000
        made[key] = Page(markup)
        assert max(map(len, re.findall(r"W+", markup))) <= 500
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f\x00\x1b\udcff]", markup)
    assert made["hostile"].skeleton == made["plain"].skeleton
    said = " ".join(made["hostile"].words)
    assert all(word in said for word in HOSTILE[:4])
    assert "49" not in text.name(HOSTILE[4])
    assert HOSTILE[4] in said


def test_summary_may_be_hostile_too(tmp_path):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    found = json.loads(path.read_text())
    strange = {
        "remarks": [word.encode("utf-8", "replace").decode() for word in HOSTILE],
        "policy": HOSTILE[0],
    }
    path.write_text(json.dumps(found | strange))
    page = page_of(tmp_path / "run")
    assert not any(name.startswith("on") for _, names in page.skeleton for name in names)
    assert HOSTILE[0] in " ".join(page.words)


@pytest.mark.parametrize("wrong", [
    {"epochs": [3]}, {"epochs": [{"epoch": "<b>"}]}, {"epochs": [{"epoch": 1 << 40}]}, {"epochs": {}},
    {"epochs": [{"accuracy": [1]}]}, {"accuracy": ["<i>"]}, {"evaluated_on": HOSTILE[1]}, {"remarks": "x"},
    {"settings": {"policy": []}}, {"settings": {"schedule": "x"}},
    {"settings": {"policy": {"fraction": "<b>"}}},
    {"settings": {"policy": {"fraction": 1e300}}}, {"settings": {"schedule": {"readmit_every": -1}}},
    {"settings": {"by_default": {"a": 1}}}, {"tokens_learned": "<b>"},
    {"seconds": 10**400}, {"seconds": {"a": [1]}}, {"saved_fraction": "1"}, {"more": 10**400},
])  # fmt: skip
def test_a_summary_of_other_kinds_is_refused(tmp_path, wrong):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(DamagedData, match="summary"):
        render(RunFiles(tmp_path / "run"))


def test_files_are_shown_from_the_data_folder_and_long_ones_by_their_end(tmp_path):
    folder = "/data/of a person/photos"
    names = [
        f"{folder}/cats/{'x' * 240}1.png", f"{folder}/cats/2.png", f"{folder}-new/cats/3.png", "d.csv:7",
        "/a/pool/that/lies/elsewhere/and/is/deep/cats/4.png", "\u0642\u0637/\u0635\u0648\u0631.png",
        f"{folder}/", "a\nb.png", "",
    ]  # fmt: skip
    files = tuple(names[i % len(names)] for i in range(90))
    make_run(tmp_path / "run", n=90, epochs=3, files=files, options={"data": folder}, shown=True)
    report = write_report(RunFiles(tmp_path / "run")).read_text(encoding="utf-8")
    cards = dict(re.findall(r'title="([^"]*)"><bdi dir="ltr">([^<]*)</bdi>', report))
    assert cards[names[0]] == "\u2026" + "x" * 34 + "1.png"
    assert cards[names[1]] == "cats/2.png"
    assert cards[names[3]] == "d.csv:7"
    assert cards[names[2]] == names[2]
    assert cards[names[4]] == "\u2026/lies/elsewhere/and/is/deep/cats/4.png"
    assert cards[names[6]] == names[6]
    assert "\u0642\u0637/\u200e\u0635\u0648\u0631.png" in cards.values()
    assert max(map(len, cards.values())) <= 41
    whole = [sample[5] for sample in Page(report).facts["samples"]]
    assert names[1] in whole
    assert None in whole  # of the sample without a file


SETTINGS = {
    "samples": 300, "test_samples": 1_234_567, "classes": 3, "device": "cpu", "image_size": [8, 9],
    "batch_size": 32, "policy": {"name": "soft", "fraction": 0.25}, "schedule": {"readmit_every": 4},
    "by_default": ["batch_size"],
}  # fmt: skip


def test_settings_stand_there_whether_given_or_not(tmp_path):
    make_run(tmp_path / "run", options={"policy": "soft", "batch_size": 32, "seed": 0, "density": "flow"})
    path = tmp_path / "run" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": SETTINGS}))
    source = Source.read(RunFiles(tmp_path / "run"))
    source.run.about.defaults.append("batch_size")
    rows = facts.settings(source)
    names = [name for name, _ in rows]
    assert len(set(names)) == len(names)
    said = dict(rows)
    assert (said["test samples"], said["classes"], said["device"]) == ("1,234,567", "3", "cpu")
    assert said["image size"] == "8 × 9"
    assert said["--batch_size"] == "32 (by default)"
    assert said["--seed"] == "0"
    assert "--density" not in names
    assert "batch size" not in names
    page = " ".join(page_of(tmp_path / "run").words)
    assert "1,234,567" in page
    assert "The share is 25%. They come back every 4 epochs." in page


@pytest.mark.parametrize("wrong", [
    {"device": HOSTILE[0]}, {HOSTILE[0]: HOSTILE[1]}, {str(place): place for place in range(5_000)},
    {"image_size": [[[1]]]}, {"policy": {"fraction": None, "name": HOSTILE[0]}},
])  # fmt: skip
def test_settings_may_be_hostile(tmp_path, wrong):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": SETTINGS | wrong}))
    page = page_of(tmp_path / "run")
    assert not any(name.startswith("on") for _, names in page.skeleton for name in names)
    assert len(facts.settings(Source.read(RunFiles(tmp_path / "run")))) < 100


def test_train_accuracy_stands_beside_test_accuracy(tmp_path):
    make_run(tmp_path / "run", epochs=6)
    plain = page_of(tmp_path / "run")
    assert "Train accuracy" not in " ".join(plain.words)
    path = tmp_path / "run" / "summary.json"
    found = json.loads(path.read_text())
    for row in found["epochs"][1:]:  # as in a run that an older version began
        row["train_accuracy"] = 0.25 + row["epoch"] / 10
    path.write_text(json.dumps(found | {"train_accuracy": 0.75}))
    page = page_of(tmp_path / "run")
    said = " ".join(page.words)
    assert "Train accuracy: 75.00%." in said
    assert "measured while training, on the samples that the epoch trained on" in said
    table = next(t for t in page.tables if t[0][0] == "epoch")
    column = table[0].index("train accuracy")
    assert table[0][column + 1] == "accuracy"
    assert [row[column] for row in table[1:]] == ["–", "35.00%", "45.00%", "55.00%", "65.00%", "75.00%"]
    assert [tag for tag, _ in page.skeleton].count("polyline") == 2


def test_tokens_without_a_gradient_are_told(tmp_path):
    make_run(tmp_path / "run")
    assert "without a gradient" not in " ".join(page_of(tmp_path / "run").words)
    path = tmp_path / "run" / "summary.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"tokens": 2000, "tokens_learned": 404, "tokens_outliers": 1}))
    assert (
        "Of 2,000 tokens in the samples trained on, 404 (20.2%) were learned and 1 (0.1%) outliers: these "
        "passed without a gradient."
    ) in page_of(tmp_path / "run").words
    for stray in ({"tokens": 0}, {"tokens_outliers": None}):
        path.write_text(json.dumps({"tokens": 9, "tokens_learned": 1, "tokens_outliers": 1} | found | stray))
        assert "without a gradient" not in " ".join(page_of(tmp_path / "run").words)


@pytest.mark.parametrize(("data", "title"), [
    ("/a/b/reviews.csv", "reviews.csv"), ("hf:/a/b/reviews", "reviews"), ("hf:a/b", "hf:a/b"), ("/", "/"),
    ("digits", "digits"), ("own.parts:Data", "own.parts:Data"),
])  # fmt: skip
def test_the_headline_is_the_name_of_the_file_and_settings_have_the_whole_path(tmp_path, data, title):
    make_run(tmp_path / "run", options={"data": data})
    page = page_of(tmp_path / "run")
    assert f"{title} – fallow" in page.words
    assert data in page.words


def test_loads_nothing_and_runs_only_its_own_script(tmp_path):
    make_run(tmp_path / "run", shown=True)
    markup = write_report(RunFiles(tmp_path / "run")).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', markup)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        part = re.findall(rf"<{tag}>(.*?)</{tag}>", markup, re.DOTALL)
        assert len(part) == 1
        digest = base64.b64encode(hashlib.sha256(part[0].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    kinds = re.findall(r"<script type=\"([^\"]+)\"", markup)
    assert set(kinds) == {"application/json", "application/octet-stream"}
    assert len(re.findall("<script", markup)) == len(kinds) + 1
    for url in re.findall(r'(?:src|href)="([^"]*)"', markup):
        assert url.startswith(("data:", "#"))
    assert " style=" not in markup
    assert "innerHTML" not in markup
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", markup)


def test_same_run_same_bytes_wherever_it_is_put(tmp_path):
    make_run(tmp_path / "run", shown=True)
    first = write_report(RunFiles(tmp_path / "run"))
    assert first == tmp_path / "run" / "report.html"
    second = write_report(RunFiles(tmp_path / "run"), tmp_path / "other.html")
    assert second == tmp_path / "other.html"
    assert first.read_bytes() == second.read_bytes()


def test_a_run_under_way(tmp_path):
    make_run(tmp_path / "run", planned=20, summary=False, predicted=False, epochs=4)
    said = " ".join(page_of(tmp_path / "run").words)
    assert "4 of 20 epochs done" in said
    assert "Seconds and accuracy are shown once the training has ended." in said
    assert (
        "The predictions of the network are not known" in said
        or "No sample was removed as an outlier" in said
    )
    path = tmp_path / "run" / "summary.json"
    path.write_text(json.dumps({"seconds": 99.5, "record_seconds": 1.0, "epochs": [{"epoch": 0}]}))
    assert "99.5 s" not in " ".join(page_of(tmp_path / "run").words)  # of an earlier stop


def test_the_share_left_out_and_the_error_that_it_holds(tmp_path):
    options = {"policy": "error-mass", "low": None, "high": "auto", "error": 0.15}
    make_run(tmp_path / "run", options=options, notes={"error": 0.1234, "error_found": 0.117})
    words = " ".join(page_of(tmp_path / "run").words)
    assert "That share is 15%." in words
    held = "The learned ones hold 12.3% of the error still to be learned, as their scores tell"
    assert f"{held}, and 11.7% as those that came back tell." in words
    assert "error, expected" in words
    assert "error, measured" in words
    make_run(tmp_path / "other", options=options, notes={"error": 0.1234})
    assert f"{held}." in " ".join(page_of(tmp_path / "other").words)
    make_run(tmp_path / "none")
    assert "error" not in " ".join(page_of(tmp_path / "none").words)


def test_samples_that_come_back_in_turns():
    shown = ShownOptions(policy="fraction", readmit_every=10)
    assert facts.rule(shown, "nats").endswith("They come back every 10 epochs.")
    assert facts.rule(shown, "nats", stagger=True).endswith("They come back in 10 turns, one an epoch.")


def test_no_epoch_yet(tmp_path):
    make_run(tmp_path / "run", epochs=1)
    (tmp_path / "run" / "history" / "epoch-00000.safetensors").unlink()
    with pytest.raises(InvalidValue, match="must have a finished epoch"):
        write_report(RunFiles(tmp_path / "run"))


def test_a_missing_epoch_is_told_and_a_damaged_one_refused(tmp_path):
    make_run(tmp_path / "run", epochs=5)
    (tmp_path / "run" / "history" / "epoch-00002.safetensors").unlink()
    with pytest.raises(DamagedData, match=r"epoch-00002\.safetensors must exist"):
        write_report(RunFiles(tmp_path / "run"))
    checkpoints = Checkpoints(tmp_path / "run")
    before = checkpoints.newest().found  # a run that went on without that epoch does not know it any more
    files = {
        name: digest for name, digest in before.files.items() if "history/" in name and "00002" not in name
    }
    checkpoints.write(checkpoints.state_path(before.number).read_bytes(), before.about, files)
    page = page_of(tmp_path / "run")
    assert "Epoch 3 cannot be read: counts are over 4 of 5 epochs." in " ".join(page.words)
    assert page.facts["epochs"] == [1, 2, 4, 5]
    (tmp_path / "run" / "history" / "epoch-00003.safetensors").write_bytes(b"cut short")
    with pytest.raises(DamagedData, match="epoch-00003"):
        write_report(RunFiles(tmp_path / "run"))


def test_pictures_and_their_absence(tmp_path):
    make_run(tmp_path / "small", shown=True)
    make_run(tmp_path / "large", shown=True, wide=96)
    make_run(tmp_path / "none")
    for name, kind in (("small", "image/png"), ("large", "image/webp")):
        page = page_of(tmp_path / name)
        there = sum(tag == "img" for tag, _ in page.skeleton)
        shown = sum(len(i) for i in [re.findall(r"data-row", " ".join(n)) for _, n in page.skeleton])
        assert there == shown > 0
        assert sum(word.startswith(f"data:{kind};base64,") for word in page.words) >= there
    assert not any(tag == "img" for tag, _ in page_of(tmp_path / "none").skeleton)
    path = tmp_path / "none" / "history" / "shown.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(DamagedData, match=r"shown\.safetensors"):
        write_report(RunFiles(tmp_path / "none"))


def test_many_epochs_and_many_classes_stay_small(tmp_path):
    make_run(tmp_path / "run", n=2_500, epochs=410, classes=2_400, shown=True, wide=96)
    report = write_report(RunFiles(tmp_path / "run"))
    assert report.stat().st_size <= LARGEST
    page = Page(report.read_text(encoding="utf-8"))
    assert len(page.facts["epochs"]) == 400
    assert "400 evenly spaced epochs of 410 are drawn." in " ".join(page.words)
    assert page.facts["epochs"][-1] == 410


def test_what_does_not_fit_is_thinned_evenly(tmp_path, monkeypatch):
    from fallow.report import writing

    make_run(tmp_path / "run", n=20_001, epochs=5, classes=7)
    monkeypatch.setattr(writing, "MARKS", 4_000)
    page = Page(render(RunFiles(tmp_path / "run")))
    facts = page.facts
    ids, _ = page.fates()
    assert facts["step"] > 1
    assert ids.size == -(-(20_001 - facts["first"]) // facts["step"])
    assert len(page.blocks["d-marks"]) + len(page.blocks["d-ids"]) <= 4_000 * 4 / 3 + 8
    whole = RunFiles(tmp_path / "run")
    fates = np.stack([became(file, 20_001) for file in whole.files()], axis=1)
    np.testing.assert_array_equal(page.fates()[1], fates[ids])
    with pytest.raises(InvalidValue, match="must have at most"):
        render(whole, largest=1_000)


def test_loads_no_torch(tmp_path):
    make_run(tmp_path / "run", shown=True)
    put_gaps(tmp_path / "run")
    code = (
        "import sys; from fallow.runs.run_files import RunFiles; from fallow.report import write_report; "
        f"write_report(RunFiles({str(tmp_path / 'run')!r})); "
        "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def told_gaps(words=("plain",), gaps=2, thin=3):
    """Return what ``fallow gaps`` may tell of the run that ``make_run`` writes; names are of ``words``."""
    turn = cycle(words)

    def sample(of, index):
        named = {"label": next(turn) if index % 3 else None, "predicted": next(turn), "file": next(turn)}
        return {"of": of, "index": index, "percentile": 0.97, "picture": index, **named}

    def card(name, missing):
        return {
            "name": next(turn) if words[0] != "plain" else name, "size": 1_114, "training": 3,
            "reference": 1_111, "share_of_training": 0.1, "share_of_reference": 0.127, "times": 229.81,
            "at_least": 12.41, "stability": 0.99, "lacking": 1_108.4, "percentile": 0.98, "class": next(turn),
            "class_share": 0.75, "class_is_predicted": not missing, "error": 0.25, "error_elsewhere": 0.0105,
            "wrong": 1, "judged": 4, "training_error": 0.333, "training_error_elsewhere": 0.0,
            "training_wrong": 1, "training_judged": 3,
            "prototypes": [{**sample("training", i), "distance": 1.5} for i in range(3)],
            "examples": [sample("reference", i) for i in range(9)], "trend": [None, 0.5, 0.25],
            "action": "collect" if missing else "ignore", "reason": next(turn),
        }  # fmt: skip

    before = {"name": "gap 1", "class": next(turn), "percentile": 0.98, "examples": [1]}
    return {
        "run": next(turn), "epochs": 6, "made": "2020-01-01T00:00:00Z", "reference": next(turn),
        "training_samples": 30, "reference_samples": 2_000, "reference_looked_at": 1_900, "usual": 1.2,
        "gaps": [card(f"gap {i + 1}", True) for i in range(gaps)],
        "thin": [card(f"thin {i + 1}", False) for i in range(thin)],
        "alone": [sample("training", 1), sample("reference", 2)], "alone_count": [1, 4],
        "strange": [], "strange_count": [0, 0], "earlier": [],
        "before": {"training_samples": 20, "gaps": [{**before, "now": now} for now in (0.5, 0.95, 0.99)]},
    }  # fmt: skip


def put_gaps(path, told=None, wide=8, pictures=True):
    shape = (9, wide, wide, 3)
    drawn = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8) if pictures else None
    (path / "gaps.safetensors").write_bytes(dump_gaps(told_gaps() if told is None else told, drawn))


def test_gaps_are_told(tmp_path):
    make_run(tmp_path / "run")
    assert "Gaps" not in page_of(tmp_path / "run").words
    put_gaps(tmp_path / "run")
    page = page_of(tmp_path / "run")
    said = " ".join(" ".join(page.words).split())
    assert page.words.count("Gaps") == 2  # in the contents, and as a heading
    for part in (
        "2 regions of the reference are missing in the training set.",
        "30 training samples were compared with 1,900 samples, drawn evenly from 2,000, of plain",
        "1,114 thin samples: 3 of the training set, 1,111 of the reference",
        "98% of the training set lie denser", "about 1,108 such samples", "99% of it found again",
        "230\u00a0× that of the training set, 12.4\u00a0× at least".replace("\u00a0", " "),
        "mostly plain (75%)", "mostly predicted as plain (75%)", "1 of 4 here (25%), 1.1% elsewhere",
        "score higher than 50% of all at first, than 25% at last",
        "3 regions are thin in the training set too, but not missing: nothing to do.",
        "1 training and 4 reference samples lie by themselves", "and 3 more",
        "With 20 training samples these were missing.",
    ):  # fmt: skip
        assert part in said, part
    past = next(table for table in page.tables if table[0][0] == "region")
    assert [row[2:] for row in past[1:]] == [
        ["98%", "50%", "filled"], ["98%", "95%", "filling"], ["98%", "99%", "thinner than before"],
    ]  # fmt: skip
    assert sum(tag == "img" for tag, _ in page.skeleton) == 5 * (9 + 3)
    assert "M1.5 20.0h0L2.5 29.0" in page.words
    assert "has trained since" not in said
    assert report_gaps.THIN == THIN


def test_nothing_missing_is_told_quietly(tmp_path):
    make_run(tmp_path / "run", epochs=7)
    told = told_gaps(gaps=0, thin=0) | {"reference": None, "alone": [], "alone_count": [0, 0], "before": None}
    put_gaps(tmp_path / "run", told, pictures=False)
    page = page_of(tmp_path / "run")
    said = " ".join(" ".join(page.words).split())
    assert "Nothing is missing as far as the held-out samples show." in said
    assert "found after 6 epochs, and the run has trained since" in said
    assert not {"h3", "h4", "strong"} & {tag for tag, _ in page.skeleton[-60:]}
    assert "Thin, but not missing" not in said


def test_gaps_without_pictures_name_index_and_file(tmp_path):
    make_run(tmp_path / "run")
    put_gaps(tmp_path / "run", told_gaps(("a/file.txt",)), pictures=False)
    page = page_of(tmp_path / "run")
    assert not any(tag == "img" for tag, _ in page.skeleton)
    assert page.words.count("a/file.txt") > 60


def test_names_in_gaps_stay_text(tmp_path):
    made = {}
    for key, words in (("plain", tuple(f"plain {i}" for i in range(9))), ("hostile", tuple(HOSTILE))):
        make_run(tmp_path / key)
        put_gaps(tmp_path / key, told_gaps(words))
        markup = write_report(RunFiles(tmp_path / key)).read_text(encoding="utf-8")
        assert max(map(len, re.findall(r"W+", markup))) <= 500
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f\x00\x1b\udcff]", markup)
        assert " style=" not in markup
        made[key] = Page(markup)
    assert made["hostile"].skeleton == made["plain"].skeleton
    assert all(word in " ".join(made["hostile"].words) for word in HOSTILE[:4])


STRAY = [
    None,
    True,
    -1,
    0,
    7,
    10**400,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [[]],
    {},
    [{}, 3],
    {"a": 1},
]


def strayed(value, draw, odds):
    """Return a value with some of its parts, at any depth, replaced or left out."""
    if draw.random() < odds:
        return STRAY[draw.integers(len(STRAY))]
    if isinstance(value, dict):
        return {k: strayed(v, draw, odds) for k, v in value.items() if draw.random() > odds / 4}
    if isinstance(value, list):
        return [strayed(v, draw, odds) for v in value]
    return value


def test_stray_values_in_gaps_are_damage_or_can_be_shown(tmp_path):
    make_run(tmp_path / "run", n=8, epochs=2)
    source, sound, shown = Source.read(RunFiles(tmp_path / "run")), told_gaps(), 0
    pictures = np.zeros((4, 2, 2, 1), np.uint8)
    path = tmp_path / "run" / "gaps.safetensors"
    for seed in range(100):
        draw = np.random.default_rng(seed)
        told = {key: strayed(value, draw, (0.0005, 0.002, 0.1)[seed % 3]) for key, value in sound.items()}
        path.write_bytes(dump_gaps(told, pictures))
        with suppress(DamagedData):
            source.run.__dict__["gaps"] = GapsFile.read(path)
            found = report_gaps.section(source)
            assert "nan" not in json.dumps(found, allow_nan=False)
            shown += 1
            print_gaps(source.run.gaps.gaps, Console(file=io.StringIO()))
            if shown % 20 == 0:
                Page(render(RunFiles(tmp_path / "run")))
    assert 15 < shown < 85


@pytest.mark.parametrize("shape", [(2, 0, 8, 3), (2, 8, 97, 1)])
def test_gaps_with_damaged_pictures_are_refused(tmp_path, shape):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "gaps.safetensors"
    path.write_bytes(dump_gaps(told_gaps(), np.zeros(shape, np.uint8)))
    with pytest.raises(DamagedData, match="sides of 1 to 96"):
        write_report(RunFiles(tmp_path / "run"))
    path.write_bytes(b"cut short")
    with pytest.raises(DamagedData, match=r"gaps\.safetensors"):
        write_report(RunFiles(tmp_path / "run"))


def test_pictures_of_gaps_go_first_where_the_page_is_too_large(tmp_path):
    make_run(tmp_path / "run", shown=True)
    own = sum(tag == "img" for tag, _ in page_of(tmp_path / "run").skeleton)
    put_gaps(tmp_path / "run", wide=60)
    run, left, size = RunFiles(tmp_path / "run"), [], LARGEST
    for _ in range(4):
        markup = render(run, size)
        left.append(sum(tag == "img" for tag, _ in Page(markup).skeleton))
        assert ("left out: with them" in markup) == (len(left) > 1)
        size = len(markup.encode()) - 1
    assert left == [own + 60, own + 24, own, 0]


def test_very_many_gaps_stay_small(tmp_path):
    make_run(tmp_path / "run")
    told = told_gaps(tuple("W" * size for size in (600, 700)), gaps=60, thin=60)
    told["alone"] *= 900
    put_gaps(tmp_path / "run", told, wide=96)
    report = write_report(RunFiles(tmp_path / "run"))
    assert report.stat().st_size <= LARGEST
    assert "These are the first of 60." in report.read_text(encoding="utf-8")
