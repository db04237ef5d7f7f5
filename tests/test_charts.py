"""The usage chart: what is counted, in which order, how it is drawn, and that its files are whole."""

import builtins
import json
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from fallow.core.history import EDGES, QUANTILES, EpochRecord
from fallow.errors import InvalidValue
from fallow.policies.base import Reason
from fallow.report.charts import Reached, arrange, row_shares, save_usage, usage_chart, usage_order
from fallow.report.charts.usage import shades
from fallow.report.charts.usage_rows import LEAST, ROWS, Shares, came_back, drew, epoch_ticks


def record(epoch, used, scores=(), **counts):
    """An epoch that used the samples of a mask; what is not said was left out as learned."""
    used = np.asarray(used, bool)
    kept = int(used.sum())
    counts = {"outliers": 0, "not_drawn": 0, "by_hand": 0, "forward_only": 0, "readmitted": 0} | counts
    rest = used.size - kept - counts["outliers"] - counts["not_drawn"] - counts["by_hand"]
    at = np.searchsorted(EDGES, scores, side="right") - 1
    return EpochRecord(
        epoch=epoch, n=used.size, used_bits=np.packbits(used, bitorder="little"), backward=kept, kept=kept,
        learned=rest, bad=0, mean_score=float("nan"), record_seconds=0.0,
        score_quantiles=tuple(np.quantile(scores, QUANTILES)) if len(scores) else (float("nan"),) * 5,
        score_histogram=np.bincount(at, minlength=len(EDGES)).astype(np.int64), **counts,
    )  # fmt: skip


def run(n, epochs, seed=0, grown=0, every=3):
    """A run whose samples are learned one after the other, with re-admission; `grown` came at the end."""
    rng = np.random.default_rng(seed)
    learned_in = rng.exponential(epochs / 2, n)
    history = []
    for epoch in range(epochs):
        here = n if epoch == epochs - 1 else n - grown
        used = (learned_in[:here] > epoch - 1) | (epoch % every == 0)
        scores = rng.lognormal(-epoch / 3, 1, min(int(used.sum()), 500))
        back = int(used.sum()) - history[-1].kept if epoch % every == 0 and epoch else 0
        history.append(record(epoch, used, scores, readmitted=max(back, 0)))
    return history


def drawn(figure):
    """The figure, after everything in it has found its place."""
    FigureCanvasAgg(figure).draw()
    return figure


def panels(figure):
    """The samples, the reasons and the scores, without what stands beside and beneath them."""
    right = [ax for ax in figure.axes if ax.get_xlabel() == "epoch" and ax is not strip(figure)]
    return [figure.axes[0], *right]


def strip(figure):
    """What each epoch reached, and behind it the share that it used."""
    return figure.axes[2]


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


@st.composite
def histories(draw):
    """Epochs of growing size; some were drawn, some left out outliers: with reasons, epoch by epoch."""
    n = draw(st.integers(1, 300))
    sizes = [*sorted(draw(st.lists(st.integers(1, n), max_size=4))), n]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    history, reasons = [], []
    for epoch, size in enumerate(sizes):
        used = rng.random(size) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
        out = draw(st.sampled_from([Reason.LEARNED, Reason.NOT_DRAWN]))
        reason = np.where(used, 0, np.where(rng.random(size) < 0.2, Reason.OUTLIER, out)).astype(np.uint8)
        counts = {"outliers": int((reason == 2).sum()), "not_drawn": int((reason == 3).sum())}
        history.append(record(epoch, used, **counts))
        reasons.append(reason)
    return history, reasons


def bits_of(history):
    bits = np.zeros((history[-1].n, len(history)), int)
    for column, epoch in enumerate(history):
        bits[: epoch.n, column] = np.unpackbits(epoch.used_bits, count=epoch.n, bitorder="little")
    return bits


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from([0, 1, 3, 70]), st.booleans())
def test_what_is_drawn_is_counted_one_by_one(made, count, odd):
    history, reasons = made
    n = history[-1].n
    labels = np.random.default_rng(1).integers(-1, count - 1, n) if count else None
    rows = arrange(history, labels)
    shares = row_shares(history, rows, reasons.__getitem__ if odd else None)
    assert sorted(rows.order.tolist()) == list(range(n))
    assert shares.used.shape == shares.outliers.shape == (len(rows.edges) - 1, len(history))
    for row, (low, high) in enumerate(pairwise(rows.edges.tolist())):
        block = rows.order[low:high].tolist()
        assert block
        if rows.classes:
            assert len(set(labels[block].tolist())) == 1
        for column, epoch in enumerate(history):
            bits = np.unpackbits(epoch.used_bits, bitorder="little")
            there = [sample for sample in block if sample < epoch.n]
            if not there:
                assert np.isnan([part[row, column] for part in shares]).all()
                continue
            assert shares.used[row, column] == sum(bits[sample] for sample in there) / len(there)
            outliers = sum(reasons[column][sample] == Reason.OUTLIER for sample in there) if odd else 0
            assert shares.outliers[row, column] == outliers / len(there)


@settings(max_examples=60, deadline=None)
@given(histories(), st.booleans(), st.booleans())
def test_order_is_by_class_then_times_used_then_epochs_of_a_rule_then_score(made, with_classes, with_scores):
    history, _ = made
    n, bits = history[-1].n, bits_of(history)
    classes = np.random.default_rng(1).integers(0, 3, n) if with_classes else np.zeros(n, int)
    scores = np.random.default_rng(2).choice([0.5, 1.0, np.nan], n).astype(np.float32)
    order = usage_order(history, classes if with_classes else None, scores if with_scores else None)
    ruled = [column for column, epoch in enumerate(history) if not drew(epoch)]

    def key(i):
        score = 0 if not with_scores else np.inf if np.isnan(scores[i]) else -scores[i]
        return (classes[i], -bits[i].sum(), *(1 - bits[i, ruled]), score, i)

    assert order.tolist() == sorted(range(n), key=key)


@pytest.mark.parametrize("epochs", [15, 16, 17, 33])
def test_the_order_by_epochs_holds_for_any_number_of_them(epochs):
    draw = np.random.default_rng(epochs)
    history = [record(epoch, draw.random(300) < 0.5) for epoch in range(epochs)]
    bits = bits_of(history)
    expected = sorted(range(300), key=lambda i: (-bits[i].sum(), *(1 - bits[i]), i))
    assert usage_order(history).tolist() == expected
    few = [record(epoch, draw.random(300) < 1 / epochs) for epoch in range(epochs)]
    bits = bits_of(few)
    assert usage_order(few).tolist() == sorted(range(300), key=lambda i: (-bits[i].sum(), *(1 - bits[i]), i))


@pytest.mark.parametrize(("n", "drawn_from", "rows"), [
    (10, 0, 10), (400, 0, 400), (5_000, 0, ROWS), (40, 1, 40), (128, 1, 128),
    (129, 1, LEAST), (1437, 1, LEAST), (20_000, 1, 200), (80_000, 1, ROWS),
])  # fmt: skip
def test_a_row_holds_many_samples_where_they_were_drawn(n, drawn_from, rows):
    used = np.arange(n) % 2 == 0
    history = [record(0, np.ones(n)), record(1, used, not_drawn=drawn_from * int((~used).sum()))]
    found = arrange(history)
    assert len(found.edges) == rows + 1
    assert np.diff(found.edges).min() >= n // rows
    assert found.single == (rows == n)
    assert found.classes == []


def test_each_class_has_rows_of_its_own_in_the_order_of_the_labels():
    labels = np.array([10] * 700 + [2] * 2 + [-1] * 298)
    rows = arrange([record(0, np.ones(1000))], labels)
    assert [label for label, _ in rows.classes] == [-1, 2, 10]
    starts = [start for _, start in rows.classes]
    assert rows.edges[starts].tolist() == [0, 298, 300]
    assert np.diff([*starts, len(rows.edges) - 1]).tolist() == [153, 1, 358]
    many = arrange([record(0, np.ones(1000))], np.arange(1000) % 65)
    assert many.classes == []


def test_a_rule_that_draws_shows_a_gradient_and_no_noise():
    """Samples with higher odds are used more often: from row to row of a class the shade only falls."""
    n, rng = 20_000, np.random.default_rng(0)
    odds = rng.uniform(0.2, 0.9, n)
    history = [record(0, np.ones(n))]
    for epoch in range(1, 30):
        used = rng.random(n) < odds
        history.append(record(epoch, used, not_drawn=int((~used).sum())))
    shares = row_shares(history, arrange(history, np.arange(n) % 10)).used
    often = shares[:, 1:].mean(1).reshape(10, -1)
    assert (np.diff(often, axis=1) <= 0).all()
    assert often[:, 0].min() > 0.85
    assert often[:, -1].max() < 0.25
    noise = np.abs(shares[:, 1:] - shares[:, 1:].mean(1, keepdims=True)).mean()
    assert noise < 0.05


def test_epochs_on_an_axis_count_from_one():
    assert epoch_ticks(1, 1) == [1]
    assert epoch_ticks(1, 20) == list(range(1, 21, 2))
    assert epoch_ticks(1, 90) == [1, *range(10, 91, 10)]
    for last in range(1, 3000, 7):
        assert len(epoch_ticks(1, last)) <= 11


def test_shades_mix_used_and_outliers_and_are_clear_where_nobody_was_there():
    used, odd = np.array([[0.0, 1.0, 0.5, np.nan, 0.0]]), np.array([[0.0, 0.0, 0.25, np.nan, 1.0]])
    found = shades(Shares(used, odd))[0].tolist()
    assert found[0] == [255, 255, 255, 255]
    assert found[1] == [0, 0x72, 0xB2, 255]
    assert found[3][3] == 0
    assert found[4] == [0xD5, 0x5E, 0, 255]
    blue_only = shades(Shares(used, np.zeros((1, 5))))[0].tolist()
    assert found[2][2] < blue_only[2][2]


@pytest.mark.parametrize(("extra", "colour"), [(0, None), (1, "first"), (199, "last")])
def test_never_and_always_have_colours_of_their_own(extra, colour):
    used = np.zeros(512 * 200, bool)
    used[np.random.default_rng(0).permutation(used.size)[: 300 * 200 + extra]] = True
    image = panels(usage_chart([record(0, used)]))[0].images[0]
    colours = np.asarray(image.get_array())[:, 0] / 255
    always, never = to_rgba("#0072B2"), to_rgba("white")
    np.testing.assert_array_equal(colours[:300], [always] * 300)
    np.testing.assert_array_equal(colours[300 + bool(extra) :], [never] * (212 - bool(extra)))
    if colour:
        assert tuple(colours[300]) not in (always, never)


def test_few_samples_have_a_mark_for_each_use_and_none_besides():
    history = run(10, 8)
    ax = panels(usage_chart(history, title="few"))[0]
    bits = np.array([np.unpackbits(epoch.used_bits, count=10, bitorder="little") for epoch in history])
    used, unused = (list(zip(*np.nonzero(bits == value), strict=True)) for value in (1, 0))
    squares, dots, triangles = ax.collections
    for marks, where in ((squares, used), (dots, unused)):
        assert sorted(map(tuple, marks.get_offsets().tolist())) == sorted((e + 1, i) for e, i in where)
    assert triangles.get_offsets()[:, 0].tolist() == [4, 7]
    assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in range(10)]
    assert ax.get_title("left") == f"10 samples, 8 epochs: {100 * len(used) / 80:.1f} % used"
    assert texts(ax.get_legend()) == ["used", "learned", "re-admission"]


@pytest.mark.parametrize(("n", "classes", "label"), [
    (10, None, "sample"), (200, None, "samples, most used first"),
    (2000, 4, "samples by class, most used first (4 a row)"),
    (2000, 100, "samples, most used first (4 a row)"),
])  # fmt: skip
def test_three_panels_say_what_they_show(n, classes, label):
    labels = None if classes is None else np.arange(n) % classes
    figure = usage_chart(run(n, 6), labels=labels, unit="percentile")
    axes = panels(figure)
    assert [ax.get_ylabel() for ax in axes] == [label, "samples", "score (percentile)"]
    assert all(list(ax.get_xticks()) == list(range(1, 7)) for ax in [*axes, strip(figure)])
    assert texts(axes[1].get_legend()) == ["kept", "learned"]
    assert texts(axes[2].get_legend()) == ["median", "25, 75 %", "5, 95 %"]
    if classes == 4:
        assert [t.get_text() for t in axes[0].get_yticklabels()] == ["0", "1", "2", "3"]
        assert list(axes[0].get_yticks()) == [64, 192, 320, 448]  # of 512 rows


def test_small_classes_are_not_named_over_each_other():
    labels = np.array(["a$"] * 500 + ["b"] * 3 + ["c"] * 3 + ["d"] * 494)
    ax = panels(usage_chart(run(1000, 2), labels=labels))[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == [r"a\$", "b", "d"]


def test_samples_that_came_later_are_shown_as_not_there_yet():
    many = panels(usage_chart(run(3000, 4, grown=1000)))[0]
    absent = np.asarray(many.images[0].get_array())[..., 3] == 0
    assert not absent[:, 3].any()
    assert 0.3 < absent[:, :3].mean() < 0.35
    few = panels(usage_chart(run(12, 4, grown=5)))[0]
    assert [(b.get_x(), b.get_y(), b.get_height()) for b in few.patches] == [
        (e + 0.5, 6.5, 5) for e in range(3)
    ]
    for ax in (few, many):
        assert "not there yet" in texts(ax.get_legend())


def test_reasons_stack_up_to_all_samples():
    used = np.arange(100) < 60
    after = record(1, used, outliers=5, not_drawn=10, by_hand=15, forward_only=7)
    ax = panels(usage_chart([record(0, np.ones(100)), after]))[1]
    tops = [patch.get_data().values.tolist() for patch in ax.patches]
    assert tops == [[100, 60], [100, 70], [100, 75], [100, 85], [100, 100]]
    assert texts(ax.get_legend()) == ["kept", "learned", "outlier", "not drawn", "by hand", "forward only"]
    assert ax.collections[0].get_offsets().tolist() == [[2, 7]]


def test_only_a_jump_is_marked_as_re_admission():
    counts = (1000, 500, 505, 800, 900)
    history = [record(e, np.arange(1000) < k, readmitted=e and 5) for e, k in enumerate(counts)]
    history[4] = record(4, np.arange(1000) < 900)
    marks = panels(usage_chart(history))[1].collections[0]
    assert marks.get_offsets()[:, 0].tolist() == [4]


@pytest.mark.parametrize(("n", "scores"), [
    (1, []), (1, [0.3]), (700, [0.0, 0.0]), (700, [1000.0]), (700, [1e-9, 5e-3, 70.0]),
])  # fmt: skip
def test_one_epoch_and_odd_scores_are_drawn(n, scores):
    axes = panels(drawn(usage_chart([record(7, np.ones(n), scores)])))
    assert all(ax.get_xticks().tolist() == [8] for ax in axes)
    low, high = axes[2].get_ylim()
    assert high > 10 * low
    ticks = axes[2].get_yticks()
    assert ticks.size
    assert low <= ticks.min() <= ticks.max() <= high
    assert axes[2].get_title("left").endswith("trained on" if scores else "none")


def test_scores_of_some_epochs_only():
    history = [record(0, np.ones(5), [1.0, 2.0]), record(1, np.ones(5)), record(2, np.ones(5), [0.5])]
    ax = panels(drawn(usage_chart(history)))[2]
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False]


def test_nothing_is_clipped_and_no_text_lies_on_another():
    worst = {"outliers": 70, "not_drawn": 150_000, "by_hand": 9_000, "forward_only": 50_000}
    history = run(1_200_000, 12)
    history[-1] = record(11, np.arange(1_200_000) < 500_000, [0.1], **worst)
    reached = Reached("Validation bits a character", dict.fromkeys(range(12), 1.25), percent=False)
    labels, reason = np.arange(1_200_000) % 20, np.full(1_200_000, Reason.OUTLIER, np.uint8)
    figure = drawn(usage_chart(history, labels=labels, title="A title of usual length", reached=reached,
                               reason_of=lambda epoch: reason))  # fmt: skip
    whole = figure.bbox
    found = []
    for ax in figure.axes:
        shown = [ax._left_title, ax.title]
        for axis in (ax.xaxis, ax.yaxis):
            shown += [axis.label, *axis.get_ticklabels()] if axis.get_visible() else []
        shown += ax.get_legend().get_texts() if ax.get_legend() else []
        found += [(t.get_text(), t.get_window_extent()) for t in shown if t.get_text()]
    assert len(found) > 60
    for i, (text, box) in enumerate(found):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
        for other, its in found[:i]:
            assert not box.overlaps(its), (text, other)


ELSEWHERE = """
import json, sys
import numpy as np
from pathlib import Path
from fallow.report.charts import Reached, save_usage
from fallow.core.history import EpochRecord
assert "matplotlib" not in sys.modules
said = json.load(sys.stdin)
history = [EpochRecord.restore(np.array(bits, np.uint8), aggregates) for bits, aggregates in said]
save_usage(history, Path(sys.argv[1]), labels=np.arange(history[-1].n) % 7, title="<a> & $b",
           reached=Reached("Test accuracy", {0: 0.5, 3: 0.75}))
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""


def test_files_are_the_same_in_another_process_that_loads_neither_torch_nor_pyplot(tmp_path):
    history = run(20_001, 5)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        reached = Reached("Test accuracy", {0: 0.5, 3: 0.75})
        labels = np.arange(20_001) % 7
        paths = save_usage(history, tmp_path / "a", labels=labels, title="<a> & $b", reached=reached)
        assert dict(matplotlib.rcParams) == before
    said = json.dumps([(record.used_bits.tolist(), record.aggregates()) for record in history])
    code = [sys.executable, "-W", "error", "-c", ELSEWHERE, str(tmp_path / "b")]
    subprocess.run(code, input=said, text=True, check=True)
    assert [path.name for path in paths] == ["usage.png", "usage.svg"]
    for folder in ("a", "b"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["usage.png", "usage.svg"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    svg = paths[1].read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert len(svg) < 500_000
    assert "dc:date" not in svg


def test_a_failure_leaves_the_old_files_and_no_others(tmp_path, monkeypatch):
    def broken(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")

    (tmp_path / "usage.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="no space"):
        save_usage(run(5, 2), tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("usage.png", b"old")]


def test_what_was_reached_is_drawn_over_the_share_used():
    history = run(700, 6)
    reached = Reached("Test accuracy", {0: 0.5, 2: 0.925, 5: 0.9, 4: float("nan")})
    figure = usage_chart(history, reached=reached)
    ax = strip(figure)
    x, y = ax.lines[0].get_data()
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(y, [50, np.nan, 92.5, np.nan, np.nan, 90])
    assert ax.get_title("left") == "Test accuracy: 90.00 % at the end, best 92.50 % in epoch 3"
    behind = next(other for other in figure.axes if other.get_ylabel() == "used, %")
    np.testing.assert_allclose(behind.patches[0].get_data().values, [100 * r.backward / r.n for r in history])
    assert strip(usage_chart(history)).get_title("left") == "samples used"
    bits = Reached("Test bits a character", {0: 2.0, 1: 1.5, 2: 1.6}, percent=False, less_is_better=True)
    assert bits.sentence() == "Test bits a character: 1.6000 at the end, best 1.5000 in epoch 2"
    equal = Reached("Test accuracy", {0: 0.5, 1: 0.5})
    assert equal.sentence().endswith("in epoch 1")


def test_bars_tell_in_which_share_of_its_epochs_each_row_was_used():
    history = run(30, 5, grown=10)
    bits, n = bits_of(history), 30
    side = usage_chart(history).axes[1]
    there = np.array([sum(i < record.n for record in history) for i in range(n)])
    np.testing.assert_allclose(side.patches[0].get_data().values, 100 * bits.sum(1) / there)


def test_odd_names_are_drawn_on_one_line(tmp_path):
    names = ["\ud800lone", "a\nb\x1b[31m", "\u202egnp", "x" * 250, "\u65e5\u672c\u8a9e", ""]
    labels = np.arange(600) % 6
    ax = panels(usage_chart(run(600, 2), labels=labels, classes=names))[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "\\ud800lone", "a b\\u001b[31m", "\\u202egnp", "x" * 13 + "\u2026", names[4], "",
    ]  # fmt: skip
    save_usage(run(600, 2), tmp_path, labels=labels, classes=names, title="\ud800" * 9)


def test_a_million_samples_need_little_memory():
    n = 1_000_000
    rng = np.random.default_rng(0)
    history = [record(e, rng.random(n) < 0.9**e) for e in range(8)]
    labels = (np.arange(n) % 10).astype(np.int64)
    usage_chart(run(600, 2))  # what matplotlib loads once is not counted
    tracemalloc.start()
    usage_chart(history, labels=labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ModuleNotFoundError, match=r'chart needs matplotlib. Run `pip install "fallow\[all\]"`'
    ):
        usage_chart(run(5, 2))


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidValue, match="at least one finished epoch"):
        usage_chart([])
    with pytest.raises(InvalidValue, match=r"one label per sample, \(5,\). Found shape \(4,\)"):
        usage_chart(run(5, 2), labels=np.zeros(4))


def test_re_admission_is_marked_where_it_shows():
    assert came_back(run(400, 10, every=3)) == [3, 6, 9]
    assert came_back(run(400, 10, every=20)) == []
    used = np.arange(100)
    none_at_first = [record(0, used >= 0), record(1, used >= 30)]
    # A tenth of the removed samples comes back in every epoch; the rule leaves out more, then less.
    in_turns = [record(epoch, used >= 40 - epoch % 3 * 10, readmitted=4) for epoch in range(2, 9)]
    assert came_back([*none_at_first, *in_turns]) == []
