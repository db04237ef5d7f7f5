"""What cells of labels mean: the same in every kind of file, and said where it looks like a mistake."""

import csv
import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from fallow.datasets import load_text_table
from fallow.errors import InvalidValue

KINDS = ("csv", "jsonl", "parquet")
N = 12


def write(path, **columns):
    """Write cells as the programs of each kind of file write them."""
    names, rows = list(columns), list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        parquet.write_table(arrow.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writerows([names, *rows])  # None as nothing, others as str() has them
    return path


def load(tmp_path, kind, labels=("label",), **columns):
    n = len(next(iter(columns.values())))
    path = write(tmp_path / f"x.{kind}", text=[f"text {i}" for i in range(n)], **columns)
    return load_text_table(path, "text", list(labels))


def labelled(data):
    """Return classes, and the class of each text."""
    found = {}
    for part in (data.train, data.test):
        found |= {text: data.classes[label] for text, label in zip(part.texts, part.labels, strict=True)}
    return data.classes, found, data.notes


def outcome(tmp_path, kind, **columns):
    """Return what a table gives, or the error without the place, which each kind has its own words for."""
    try:
        return labelled(load(tmp_path, kind, **columns))
    except InvalidValue as error:
        return re.sub(r"x\.\w+|(line|row) \d+|'", "", str(error))


COLUMNS = {
    "whole numbers": ([1, 2, 3], ("1", "2", "3")),
    "zero below zero": ([-0.0, 1.0, 0.0], ("0", "1")),
    "whole floats": ([1.0, 2.0, 1.0], ("1", "2")),
    "large floats": ([1e16, 1.0, 2.5e17], ("1", "10000000000000000", "250000000000000000")),
    "very large floats": ([1e300, 1.0, 1.0], None),
    "truth": ([True, False, True], ("False", "True")),
    "fractions": ([0.5, 1.0, 2.0], "must be a name or a whole number. Found 0.5"),
    "small fractions": ([1e-05, 1.0, 2.0], "must be a name or a whole number. Found 1e-05"),
    "no end": ([math.inf, 1.0, 2.0], "must be a name or a whole number. Found inf"),
    "no end below": ([-math.inf, 1.0, 2.0], "Found -inf"),
    "no number": ([math.nan, 1.0, 2.0], "must have a label. Found none"),
    "nothing": ([None, "1", "2"], "must have a label. Found none"),
    "empty": (["", "1", "2"], "must have a label. Found none"),
    "blank": (["  ", "1", "2"], "must have a label. Found none"),
    "a word for no number": (["nan", "a", "b"], "must have a label. Found none"),
    "it in capitals": (["NaN", "a", "b"], "must have a label. Found none"),
    "a word for no end": (["inf", "a", "b"], ("a", "b", "inf")),
    "it in full": (["Infinity", "a", "b"], ("a", "b", "inf")),
    "words for truth": (["true", "FALSE", "True"], ("False", "True")),
    "truth beside numbers": (["true", "1", "2"], ("1", "2", "True")),
    "zeros before": (["01", "1", "001"], ("001", "01", "1")),
    "written whole": (["1e+16", "-0", "1.0"], ("0", "1", "10000000000000000")),
    "powers without a sign": (["1e5", "1E5", "100000"], ("100000", "1E5", "1e5")),
    "signs": (["+1", "-1", "1"], ("-1", "1", "+1")),
    "words": (["None", "null", "NA"], ("NA", "None", "null")),
    "other cases": (["cat", "Cat", "c at"], ("Cat", "c at", "cat")),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_the_same_in_every_kind_of_file(tmp_path, name):
    cells, wanted = COLUMNS[name]
    found = outcome(tmp_path, "csv", label=cells * 4)
    for kind in ("jsonl", "parquet"):
        assert outcome(tmp_path, kind, label=cells * 4) == found
    if isinstance(wanted, tuple):
        assert sorted(found[0]) == sorted(wanted)
        assert all(found[1][f"text {row}"] == found[1][f"text {row % 3}"] for row in range(N))
    elif wanted:
        assert wanted in found


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_truth_in_a_column_of_json_are_those_of_text(tmp_path, kind):
    cells = [True, 1, "a", 1.0, "1.0", "True"]
    cells = cells if kind in ("csv", "tsv", "jsonl") else [str(cell) for cell in cells]
    assert labelled(load(tmp_path, kind, label=cells * 2))[0] == ("1", "True", "a")


@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_several_annotators_that_say_nan_were_not_given(tmp_path, kind):
    data = load(tmp_path, kind, ["one", "two"], one=["nan", "a", "b"] * 4, two=["b", "a", "nan"] * 4)
    assert data.classes == ("a", "b")
    assert set(map(tuple, data.train.soft.tolist())) <= {(0.0, 1.0), (1.0, 0.0)}
    assert data.notes == ("`nan` stands in 8 cells and counts as no label.",)


TIMES = (
    date(2020, 1, 31),
    datetime(2020, 1, 31, 12, 30),
    datetime(2020, 1, 31, tzinfo=UTC),
    time(12, 30),
    timedelta(days=2),
)


@pytest.mark.parametrize("cell", TIMES, ids=map(str, TIMES))
def test_a_time_is_no_class(tmp_path, cell):
    """An array of numpy refuses them too."""
    with pytest.raises(InvalidValue, match=r"not a time\. Found .* in row 0\. Name the column of classes"):
        load(tmp_path, "parquet", label=[cell] * 6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["", " 12:30:00", "T12:30:00.5+01:00"])
def test_dates_that_are_text_are_named(tmp_path, kind, end):
    days = [f"2020-01-0{1 + i % 2}{end}" for i in range(6)]
    data = load(tmp_path, kind, label=days)
    assert data.classes == tuple(days[:2])
    said = f"The labels are 2 different dates, such as {days[0]}. Name the column of classes by --label."
    assert data.notes == (said,)
    assert not load(tmp_path, kind, label=[*days, "cat", "cat"]).notes


def test_decimals_are_what_they_are_in_text(tmp_path):
    from decimal import Decimal

    assert load(tmp_path, "parquet", label=[Decimal("1.00"), Decimal("2.00")] * 3).classes == ("1", "2")


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_differ_in_unicode_forms_alone_are_named_so_that_they_can_be_told_apart(tmp_path, kind):
    data = load(tmp_path, kind, label=["caf\u00e9", "cafe\u0301", "tea"] * 4)
    assert len(data.classes) == 3
    (note,) = data.notes
    assert note.startswith("`cafe\\u0301`, `caf\u00e9` are 2 classes of nearly the same name")


NOTES = {
    "a word for no end": "`inf` is a class of 4 rows: it is read as a word",
    "truth beside numbers": "`True` is a class of 4 rows, which is not a number.",
    "zeros before": "`001`, `01`, `1` are 3 classes of nearly the same name",
    "signs": "`1`, `+1` are 2 classes of nearly the same name",
    "words": "`NA` is a class of 4 rows: if it stands for no label, empty these cells.",
    "it in full": "`inf` is a class of 4 rows",
    "large floats": "`10000000000000000` is a class of 4 rows",
    "powers without a sign": "`1E5`, `1e5` are 2 classes",
    "other cases": "`Cat`, `c at`, `cat` are 3 classes of nearly the same name: if they are one, spell them",
    "written whole": "`10000000000000000` is a class of 4 rows: programs round numbers",
}


@pytest.mark.parametrize("name", COLUMNS)
def test_what_looks_like_a_mistake_is_said_and_nothing_else(tmp_path, name):
    cells, wanted = COLUMNS[name]
    if isinstance(wanted, tuple):
        notes = load(tmp_path, "csv", label=cells * 4).notes
        said = [note for note in notes if NOTES.get(name, "\0") in note]
        assert bool(said) == (name in NOTES)
        assert bool(notes) == (name in NOTES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_whose_label_counts_as_none_says_so(tmp_path, kind):
    with pytest.raises(InvalidValue, match=r"must have a label\. Found none in \w+ \d+, where nan counts as"):
        load(tmp_path, kind, label=["a", "b", "nan"] * 4)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([i / 7 for i in range(1, 60)], r"Found '?0\.14285714285714285'? in .*one of 51 different fractions"),
        ([1000 + 37 * i for i in range(60)], "Found 60 different numbers in 60 rows, such as 1000 and 1037"),
        ([float(1000 + 37 * i) for i in range(60)], "Found 60 different numbers in 60 rows"),
        (list(range(60)), "Found 60 different numbers in 60 rows"),
        ([1000 + 37 * (i % 35) for i in range(60)], "Found 35 different numbers in 60 rows"),
        ([f"{i},5" for i in range(60)], "Found 60 different numbers in 60 rows, such as 0,5 and 1,5"),
        ([f"{i} %" for i in range(60)], "Found 60 different numbers in 60 rows, such as 0 % and 1 %"),
    ],
)
def test_what_a_regression_predicts_is_refused(tmp_path, kind, cells, said):
    with pytest.raises(InvalidValue, match=said) as error:
        load(tmp_path, kind, label=cells)
    assert "cut them into a few classes first" in str(error.value)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "cells",
    [
        [i % 150 for i in range(300)],
        [i % 150 for i in range(230)],
        [1 + i % 150 for i in range(450)],
        [f"{i % 20}" for i in range(25)],
        [1900 + i % 30 for i in range(300)],
        list(range(20)),
    ],
)
def test_ids_of_classes_are_not_doubted(tmp_path, kind, cells):
    data = load(tmp_path, kind, label=cells)
    assert len(data.classes) == len(set(cells))
    assert not [note for note in data.notes if "different numbers" in note] or len(cells) == 230


def test_numbers_that_may_be_amounts_are_said(tmp_path):
    notes = load(tmp_path, "csv", label=[1000 + 37 * (i % 60) for i in range(300)]).notes
    assert notes == (
        "The labels are 60 different numbers in 300 rows, such as 1000 and 1037. If they are amounts, not "
        "classes, cut them into a few classes first.",
    )
    notes = load(tmp_path, "csv", label=[f"title {i}" for i in range(60)]).notes
    assert notes == ("The labels are 60 different texts in 60 rows: most classes have one row.",)


@pytest.mark.parametrize("cell", ["a\0b", "a\ud800", "x" * 10_001])
def test_names_that_can_be_none_are_refused_with_the_line(tmp_path, cell):
    with pytest.raises(InvalidValue, match=r"must be text of at most 10,000 characters.* in line 1\."):
        load(tmp_path, "jsonl", label=[cell, "b"] * 3)


class TestHuggingFace:
    @pytest.fixture
    def saved(self, datasets, tmp_path):
        def save(ids, names):
            features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("int64")})
            rows = {"text": [f"text {i}" for i in range(len(ids))], "label": ids}
            found = datasets.Dataset.from_dict(rows, features=features)
            if names:
                label = datasets.ClassLabel(names=names)
                found = datasets.Dataset(found.data, info=found.info.copy())
                found.info.features["label"] = label
            found.save_to_disk(tmp_path / "saved")
            return load_text_table(f"hf:{tmp_path / 'saved'}", "text", ["label"])

        return save

    def test_names_are_taken_as_they_are(self, saved):
        data = saved([0, 1, 2, 3] * 3, ["nan", "1.0", "TRUE", "true"])
        assert data.classes == ("nan", "1.0", "TRUE", "true")
        assert sorted({data.classes[label] for label in data.train.labels}) == ["1.0", "TRUE", "nan", "true"]
        assert data.notes == (
            "`TRUE`, `true` are 2 classes of nearly the same name: if they are one, spell them alike.",
        )

    def test_numbers_without_names_are_those_of_a_table(self, saved):
        with pytest.raises(InvalidValue, match="60 different numbers in 60 rows"):
            saved(list(range(100, 160)), None)

    def test_an_id_beyond_the_names_is_named(self, saved):
        with pytest.raises(InvalidValue, match=r"must be below 2, .* Found 5 in row 3"):
            saved([0, 1, 1, 5] * 3, ["a", "b"])

    def test_names_that_are_the_same_without_blanks_are_refused(self, saved):
        with pytest.raises(InvalidValue, match=r"must have different names\. Found 'a' twice"):
            saved([0, 1] * 6, ["a", "a "])
