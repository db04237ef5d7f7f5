"""The usage chart: what is counted, in which order, how it is drawn, and that its files are whole."""

import builtins
import json
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from fallow._checks import InvalidValue
from fallow.charts import block_shares, save_usage, usage_chart, usage_order
from fallow.history import EDGES, QUANTILES, EpochRecord


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
    """The three panels, without colour bars."""
    return [ax for ax in figure.axes if ax.get_xlabel() == "epoch"]


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


@st.composite
def histories(draw):
    n = draw(st.integers(1, 40))
    sizes = [*sorted(draw(st.lists(st.integers(1, n), max_size=4))), n]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return [record(epoch, rng.random(size) < share) for epoch, size in enumerate(sizes)]


def by_hand(history, order, rows):
    n, rows = len(order), min(rows, len(order))
    expected = np.full((rows, len(history)), np.nan)
    for row in range(rows):
        block = order[row * n // rows : (row + 1) * n // rows]
        for column, epoch in enumerate(history):
            bits = np.unpackbits(epoch.used_bits, bitorder="little")
            used = [bits[sample] for sample in block if sample < epoch.n]
            if used:
                expected[row, column] = sum(used) / len(used)
    return expected


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(1, 50), st.booleans())
def test_shares_are_those_counted_one_by_one(history, rows, shuffled):
    order = np.arange(history[-1].n)
    if shuffled:
        order = np.random.default_rng(0).permutation(order)
    shares = block_shares(history, order if shuffled else None, rows)
    np.testing.assert_array_equal(shares, by_hand(history, order, rows))


@settings(max_examples=40, deadline=None)
@given(histories(), st.booleans())
def test_order_is_by_class_then_times_used_and_keeps_equals_together(history, with_classes):
    n = history[-1].n
    bits = np.zeros((n, len(history)), int)
    for column, epoch in enumerate(history):
        bits[: epoch.n, column] = np.unpackbits(epoch.used_bits, count=epoch.n, bitorder="little")
    classes = np.random.default_rng(1).integers(0, 3, n) if with_classes else np.zeros(n, int)
    order = usage_order(history, classes if with_classes else None)
    expected = sorted(range(n), key=lambda i: (classes[i], -bits[i].sum(), *(1 - bits[i]), i))
    assert order.tolist() == expected


@pytest.mark.parametrize(("extra", "colour"), [(0, None), (1, "first"), (199, "last")])
def test_never_and_always_have_colours_of_their_own(extra, colour):
    used = np.zeros(512 * 200, bool)
    used[np.random.default_rng(0).permutation(used.size)[: 300 * 200 + extra]] = True
    image = panels(usage_chart([record(0, used)]))[0].images[0]
    colours = image.to_rgba(image.get_array())[:, 0]
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
    assert sorted(map(tuple, squares.get_offsets().tolist())) == sorted(used)
    assert sorted(map(tuple, dots.get_offsets().tolist())) == sorted(unused)
    assert triangles.get_offsets()[:, 0].tolist() == [3, 6]
    assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in range(10)]
    assert ax.get_title("left") == f"10 samples, 8 epochs: {100 * len(used) / 80:.1f} % used"
    assert texts(ax.get_legend()) == ["used", "left out", "re-admission"]


@pytest.mark.parametrize(("n", "classes", "label"), [
    (10, None, "sample"), (200, None, "samples, most used at the top"),
    (2000, 4, "samples by class, most used at the top"), (2000, 100, "samples, most used at the top"),
])  # fmt: skip
def test_three_panels_say_what_they_show(n, classes, label):
    labels = None if classes is None else np.arange(n) % classes
    figure = usage_chart(run(n, 6), labels=labels, unit="percentile")
    axes = panels(figure)
    assert [ax.get_ylabel() for ax in axes] == [label, "samples", "score (percentile)"]
    assert all(list(ax.get_xticks()) == list(range(6)) for ax in axes)
    assert texts(axes[1].get_legend()) == ["kept", "learned"]
    assert texts(axes[2].get_legend()) == ["median", "25, 75 %", "5, 95 %"]
    bars = [ax for ax in figure.axes if ax not in axes]
    says = [bar.get_xlabel() or bar.get_ylabel() for bar in bars]
    assert says == (["used, of the 4 samples in a row"] if n == 2000 else []) + ["share of scores"]
    if classes == 4:
        assert [t.get_text() for t in axes[0].get_yticklabels()] == ["0", "1", "2", "3"]
        assert list(axes[0].get_yticks()) == [250, 750, 1250, 1750]


def test_small_classes_are_not_named_over_each_other():
    labels = np.array(["a$"] * 500 + ["b"] * 3 + ["c"] * 3 + ["d"] * 494)
    ax = panels(usage_chart(run(1000, 2), labels=labels))[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == [r"a\$", "b", "d"]


def test_samples_that_came_later_are_shown_as_not_there_yet():
    many = panels(usage_chart(run(3000, 4, grown=1000)))[0]
    absent = np.ma.getmaskarray(many.images[0].get_array())
    assert not absent[:, 3].any()
    assert 0.3 < absent[:, :3].mean() < 0.35
    few = panels(usage_chart(run(12, 4, grown=5)))[0]
    assert [(b.get_x(), b.get_y(), b.get_height()) for b in few.patches] == [
        (e - 0.5, 6.5, 5) for e in range(3)
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
    assert ax.collections[0].get_offsets().tolist() == [[1, 7]]


def test_only_a_jump_is_marked_as_re_admission():
    counts = (1000, 500, 505, 800, 900)
    history = [record(e, np.arange(1000) < k, readmitted=e and 5) for e, k in enumerate(counts)]
    history[4] = record(4, np.arange(1000) < 900)
    marks = panels(usage_chart(history))[1].collections[0]
    assert marks.get_offsets()[:, 0].tolist() == [3]


@pytest.mark.parametrize(("n", "scores"), [
    (1, []), (1, [0.3]), (700, [0.0, 0.0]), (700, [1000.0]), (700, [1e-9, 5e-3, 70.0]),
])  # fmt: skip
def test_one_epoch_and_odd_scores_are_drawn(n, scores):
    axes = panels(drawn(usage_chart([record(7, np.ones(n), scores)])))
    assert all(ax.get_xticks().tolist() == [7] for ax in axes)
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
    figure = drawn(usage_chart(history, labels=np.arange(1_200_000) % 20, title="A title of usual length"))
    whole = figure.bbox
    found = []
    for ax in figure.axes:
        shown = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, ax._left_title]
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
from fallow.charts import save_usage
from fallow.history import EpochRecord
assert "matplotlib" not in sys.modules
said = json.load(sys.stdin)
history = [EpochRecord.restore(np.array(bits, np.uint8), aggregates) for bits, aggregates in said]
save_usage(history, Path(sys.argv[1]), labels=np.arange(history[-1].n) % 7, title="<a> & $b")
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""


def test_files_are_the_same_in_another_process_that_loads_neither_torch_nor_pyplot(tmp_path):
    history = run(20_001, 5)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        paths = save_usage(history, tmp_path / "a", labels=np.arange(20_001) % 7, title="<a> & $b")
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
    with pytest.raises(InvalidValue, match=r"one label a sample, \(5,\). Found shape \(4,\)"):
        usage_chart(run(5, 2), labels=np.zeros(4))
