"""What a run gives to its chart: classes by name, scores, what each epoch reached, and why samples left."""

import json

import numpy as np
import pytest

from fallow.cli.main import main
from fallow.policies.base import Reason
from fallow.report.charts import Reached, reached_of, row_shares, save_usage
from fallow.report.charts.usage_rows import arrange
from fallow.report.source import Source
from fallow.report.usage import rows
from fallow.runs.run_files import RunFiles


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Pictures of stripes, 60 of each of three classes that are called 40, 5 and 300; some are wrong."""
    rng = np.random.default_rng(0)
    names = rng.permutation(np.repeat([40, 5, 300], 80))
    pictures = rng.integers(0, 90, (240, 12, 12)).astype(np.uint8)
    for row, name in enumerate(names.tolist()):
        pictures[row, :, {40: 0, 5: 4, 300: 8}[name] :][:, :4] += 120
    given = names.copy()
    given[:20] = np.where(given[:20] == 5, 300, 5)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x_train=pictures[:180], y_train=given[:180], x_test=pictures[180:], y_test=names[180:])
    return path


def test_the_chart_and_the_report_show_the_same_rows(archive, tmp_path, monkeypatch):
    given = {}

    def save(history, folder, **options):
        given.update(options, history=history)
        return save_usage(history, folder, **options)

    monkeypatch.setattr("fallow.training.summary.save_usage", save)
    run = tmp_path / "run"
    words = ["train", "--epochs", "5", "--policy", "threshold", "--low", "0.05", "--high", "0.8"]
    assert main([*words, "--data", str(archive), "--out", str(run)]) == 0
    arrangement = arrange(given["history"], given["labels"], given["scores"])
    source = Source.read(RunFiles(run))
    reported = rows(source).arrangement
    np.testing.assert_array_equal(arrangement.order, reported.order)
    np.testing.assert_array_equal(arrangement.edges, reported.edges)
    named = [given["classes"][label] for label, _ in arrangement.classes]
    assert named == [source.class_name(label) for label, _ in reported.classes] == ["5", "40", "300"]
    outliers = row_shares(given["history"], arrangement, given["reason_of"]).outliers
    expected = [(file.reason == Reason.OUTLIER)[arrangement.order] for file in RunFiles(run).files()]
    assert arrangement.single
    np.testing.assert_array_equal(outliers, np.array(expected, float).T)
    assert outliers.any()
    told = json.loads((run / "summary.json").read_text())["epochs"]
    assert given["reached"].values == {row["epoch"]: row["accuracy"] for row in told}
    assert given["reached"].name == "Test accuracy"
    assert (run / "usage.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("row", "name", "percent", "less"), [
    ({"accuracy": 0.5, "test_loss": 2.0}, "Validation accuracy", True, False),
    ({"accuracy": 0.5, "bits_per_character": 1.5}, "Validation bits a character", False, True),
    ({"accuracy": None, "test_loss": 2.0}, "Validation loss", False, True),
])  # fmt: skip
def test_what_was_reached_is_named(row, name, percent, less):
    found = reached_of([{"epoch": 3, **row}], "validation")
    value = row.get("bits_per_character") or row["accuracy"] or row["test_loss"]
    assert found == Reached(name, {3: value}, percent=percent, less_is_better=less)


def test_without_an_evaluation_nothing_is_said():
    assert reached_of([{"epoch": 0, "accuracy": None}], "test") is None
