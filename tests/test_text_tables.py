"""Texts out of real files: CSV, TSV, JSON lines, Parquet, folders of them, and data sets of Hugging Face."""

import csv
import json
import re

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from fallow.datasets import load_documents, load_text_table
from fallow.errors import DamagedData, FallowError, InvalidValue
from messages import says

TEXTS = (
    "one",
    "two, three",
    'says "four"',
    "line\nbreak",
    "ünïcode 日本 😀",
    " blanks ",
    "NA",
    "8",
    "nine",
    "",
)
LABELS = ("b", "a", "c", "a", "b", "c", "a", "b", "c", "a")
KINDS = ("csv", "tsv", "jsonl", "ndjson", "parquet", "CSV")


def quoted(cell, mark):
    cell = "" if cell is None else str(cell)
    if mark in cell or '"' in cell or "\n" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


def write(path, **columns):
    """Write columns into a file of the kind that its name says."""
    kind, rows = path.suffix.lower(), list(zip(*columns.values(), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".parquet":
        parquet.write_table(arrow.table(columns), path)
    elif kind in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        mark = "\t" if kind == ".tsv" else ","
        lines = (mark.join(quoted(cell, mark) for cell in row) + "\n" for row in (tuple(columns), *rows))
        path.write_text("".join(lines), encoding="utf-8")
    return path


def load(path, text="text", labels=("label",), **options):
    return load_text_table(str(path), text, list(labels), **options)


def title(name, row):
    """Return what a row is called, whose texts have the lines of TEXTS over and over."""
    kind = name.rpartition(".")[2].lower()
    if kind == "parquet":
        return f"{name}, row {row}"
    return f"{name}:{row + 1 if kind.endswith('jsonl') or kind == 'ndjson' else row + 2 + (row + 6) // 10}"


def number(title):
    return int(re.split(r":|, row ", title)[-1])


def in_order(data):
    """Return texts, names of classes and titles of both parts, by the number of the row."""
    rows = []
    for part in (data.train, data.test):
        names = [data.classes[label] for label in part.labels]
        rows += zip(part.texts, names, part.names, strict=True)
    return [row for _, row in sorted((number(row[2]), row) for row in rows)]


class TestFiles:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_file_gives_the_same_rows(self, tmp_path, kind):
        path = write(tmp_path / f"x.{kind}", id=range(10), text=TEXTS, other=LABELS[::-1], label=LABELS)
        data = load(path)
        titles = [title(f"x.{kind}", row) for row in range(10)]
        assert data.name == f"x.{kind}"
        assert data.classes == ("a", "b", "c")
        assert in_order(data) == list(zip(TEXTS, LABELS, titles, strict=True))
        assert (len(data.train), len(data.test)) == (8, 2)
        assert (data.train.labels.dtype, data.train.soft) == (np.int64, None)

    def test_the_other_columns_are_any(self, tmp_path):
        path = write(tmp_path / "x.tsv", words=TEXTS, kind=LABELS, text=LABELS)
        assert [row[:2] for row in in_order(load(path, "words", ["kind"]))] == list(
            zip(TEXTS, LABELS, strict=True)
        )

    def test_a_column_of_many_kinds_that_is_not_asked_for(self, tmp_path):
        path = tmp_path / "x.jsonl"
        lines = [{"text": "u", "label": "ab"[i % 2], "meta": i if i else "none"} for i in range(6)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert len(load(path).train) == 5

    @pytest.mark.parametrize(
        ("content", "texts"),
        [
            (
                b'\xef\xbb\xbftext,label\r\n"u\r\n1",a\r\nv,b\r\n' + b"w,a\r\nw,b\r\n" * 2,
                ["u\r\n1", *"vwwww"],
            ),
            (b"text,label\ru,a\rv,b\rw,a\rw,b\rw,a\rw,b", [*"uvwwww"]),
            (b'text,label\n"null",a\nNaN,b\n"",a\n,b\nw,a\nw,b\n', ["null", "NaN", "", "", "w", "w"]),
        ],
        ids=["mark and two signs an end", "old ends", "words for nothing"],
    )
    def test_csv_of_other_programs(self, tmp_path, content, texts):
        (tmp_path / "x.csv").write_bytes(content)
        rows = in_order(load(tmp_path / "x.csv"))
        assert [row[:2] for row in rows] == list(zip(texts, "ababab", strict=True))

    @pytest.mark.parametrize(
        "kind", [arrow.string(), arrow.large_string(), arrow.dictionary(arrow.int32(), arrow.string())]
    )
    def test_kinds_of_text_in_parquet(self, tmp_path, kind):
        texts, labels = arrow.array(TEXTS).cast(kind), arrow.array(LABELS).cast(kind)
        rows = in_order(load(write(tmp_path / "x.parquet", text=texts, label=labels)))
        assert [row[:2] for row in rows] == list(zip(TEXTS, LABELS, strict=True))

    @pytest.mark.parametrize("column", ["text", "label"])
    def test_texts_that_look_like_dates(self, tmp_path, column):
        days = [f"2020-01-0{1 + i % 2}" for i in range(6)]
        columns = {"text": list("uvwxyz"), "label": list("ababab"), column: days}
        data = load(write(tmp_path / "x.jsonl", **columns))
        found = data.classes if column == "label" else {*data.train.texts, *data.test.texts}
        assert set(found) == set(days)

    def test_a_row_is_named_by_the_line_in_which_it_begins(self, tmp_path):
        lines = ["", "text,label", "one,a", '"two', "", 'lines",b', "", "", '"three,', 'more",c', "four,d"]
        for name, end in (("x.csv", "\n"), ("y.csv", "\r\n"), ("z.csv", "\r")):
            (tmp_path / name).write_bytes(end.join(lines).encode())
            found = in_order(load(tmp_path / name, test_share=0.5))
            assert [row[2] for row in found] == [f"{name}:{line}" for line in (3, 4, 9, 11)]
            assert [row[0] for row in found] == ["one", f"two{end}{end}lines", f"three,{end}more", "four"]

    @pytest.mark.parametrize("mark", [";", "\t"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_a_header_without_commas_tells_what_separates(self, tmp_path, mark, end):
        rows = [["text", "label"], *([f"one, two{mark}{i}", "ab"[i % 2]] for i in range(6))]
        with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter=mark, lineterminator=end).writerows(rows)
        assert [row[0] for row in in_order(load(tmp_path / "x.csv"))] == [row[0] for row in rows[1:]]

    def test_semicolons_beside_commas_are_text(self, tmp_path):
        (tmp_path / "x.csv").write_text("text,a;b\n" + "".join(f"u;{i},{i}\n" for i in range(6)))
        assert in_order(load(tmp_path / "x.csv", labels=["a;b"]))[0][0] == "u;0"

    def test_a_very_long_text(self, tmp_path):
        before = csv.field_size_limit()
        texts = [str(i) * 200_000 for i in range(6)]
        data = load(write(tmp_path / "x.csv", text=texts, label=list("ababab")))
        assert [row[0] for row in in_order(data)] == texts
        assert csv.field_size_limit() == before

    @pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
    def test_a_cell_without_a_text_is_an_empty_text(self, tmp_path, kind):
        data = load(
            write(tmp_path / f"x.{kind}", text=[None, "", " \t", "a", "b", "c"] * 2, label=["a", "b"] * 6)
        )
        assert [row[0] for row in in_order(data)] == ["", "", " \t", "a", "b", "c"] * 2
        assert data.train.empty + data.test.empty == 6

    def test_what_json_has_for_no_text(self, tmp_path):
        lines = (
            '{"label": 0}',
            '{"text": null, "label": 1}',
            '{"text": NaN, "label": 0}',
            '{"text": "u", "label": 1}',
        )
        (tmp_path / "x.jsonl").write_text("\n".join(lines * 3))
        assert [row[0] for row in in_order(load(tmp_path / "x.jsonl"))] == ["", "", "", "u"] * 3

    @pytest.mark.parametrize(("kind", "text"), [("csv", ""), ("jsonl", "  "), ("parquet", None)])
    def test_texts_that_are_all_empty(self, tmp_path, kind, text):
        cells = arrow.array([text] * 6, arrow.string()) if kind == "parquet" else [text] * 6
        path = write(tmp_path / f"x.{kind}", text=cells, label=["a", "b"] * 3)
        with pytest.raises(InvalidValue) as error:
            load(path)
        says(error, f"x.{kind} must hold texts to train on. Found only empty ones.", "by --text.")


class TestHeldOut:
    @pytest.mark.parametrize(
        ("n", "share", "count"), [(10, 0.2, 2), (5, 0.3, 2), (50, 0.5, 25), (40, 0.01, 0)]
    )
    def test_the_share_is_held_out(self, tmp_path, n, share, count):
        path = write(
            tmp_path / "x.csv", text=[f"t{i}" for i in range(n)], label=["ab"[i % 2] for i in range(n)]
        )
        if not count:
            with pytest.raises(InvalidValue) as error:
                load(path, test_share=share)
            says(
                error,
                "rows to train on and rows to hold out",
                "Found 40 in all, --test_share 0.01",
                "another",
            )
            return
        data = load(path, test_share=share)
        assert (len(data.train), len(data.test)) == (n - count, count)
        assert sorted(data.train.texts + data.test.texts) == sorted(f"t{i}" for i in range(n))
        assert list(data.train.texts) == sorted(data.train.texts, key=lambda text: int(text[1:]))

    def test_the_same_texts_in_any_order_with_any_labels_and_for_documents_too(self, tmp_path):
        texts = [f"t{i}" for i in range(30)]
        one = write(tmp_path / "x.csv", text=texts, label=["ab"[i % 2] for i in range(30)])
        two = write(tmp_path / "x.tsv", text=texts[::-1], label=["ccd"[i % 3] for i in range(30)])
        held = set(load(one).test.texts)
        assert held == set(load(two).test.texts)
        assert held == {document.text for document in load_documents(str(one), "text").test}
        assert held != set(texts[24:])  # not the last ones

    def test_every_class_keeps_a_row_to_train_on(self, tmp_path):
        labels = [f"c{i // 3}" if i < 30 else f"rare{i}" for i in range(50)]
        path = write(tmp_path / "x.csv", text=[f"t{i}" for i in range(50)], label=labels)
        data = load(path, test_share=0.4)
        assert len(data.test) == 20
        assert len(np.unique(data.train.labels)) == len(data.classes) == 30

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0, float("nan"), float("inf"), "0.2"])
    def test_shares_that_make_no_sense(self, tmp_path, share):
        path = write(tmp_path / "x.csv", text=TEXTS, label=LABELS)
        with pytest.raises(FallowError) as error:
            load(path, test_share=share)
        says(error, "share")

    @pytest.mark.parametrize("row", [0, 4, 9])
    def test_a_class_of_one_row(self, tmp_path, row):
        labels = ["rare" if i == row else "ab"[i % 2] for i in range(10)]
        data = load(write(tmp_path / "x.csv", text=[f"t{i}" for i in range(10)], label=labels))
        assert data.classes == ("a", "b", "rare")
        assert [found[1] for found in in_order(data)] == labels


class TestFolders:
    @pytest.mark.parametrize(
        ("held", "kinds"),
        [("test", ("csv", "csv")), *((name, ("parquet", "jsonl")) for name in ("validation", "val", "dev"))],
    )
    def test_a_train_and_a_held_out_file(self, tmp_path, held, kinds):
        write(tmp_path / f"train.{kinds[0]}", text=["u", "v", "w"], label=["b", "a", "b"])
        write(tmp_path / f"{held}.{kinds[1]}", text=["x", "y"], label=["b", "b"])
        write(tmp_path / "notes.csv", nothing=["z"])
        (tmp_path / "README.md").write_text("train")
        data = load(tmp_path)
        assert data.name == tmp_path.name
        assert (data.train.texts, data.train.labels.tolist()) == (("u", "v", "w"), [1, 0, 1])
        assert (data.test.texts, data.test.labels.tolist()) == (("x", "y"), [1, 1])
        assert data.test.names[0].startswith(f"{held}.{kinds[1]}:")

    def test_the_test_part_goes_before_one_for_validation(self, tmp_path):
        for name in ("dev", "train", "val", "test", "validation"):
            write(tmp_path / f"{name}.csv", text=[name, name], label=["a", "b"])
        assert load(tmp_path).test.texts == ("test", "test")
        (tmp_path / "test.csv").unlink()
        assert load(tmp_path).test.texts == ("validation", "validation")

    def test_a_train_file_alone_is_cut(self, tmp_path):
        write(tmp_path / "train.csv", text=TEXTS, label=LABELS)
        assert (len(load(tmp_path).train), len(load(tmp_path).test)) == (8, 2)

    def test_the_folder_where_one_is_has_a_name(self, tmp_path, monkeypatch):
        write(tmp_path / "train.csv", text=TEXTS, label=LABELS)
        monkeypatch.chdir(tmp_path)
        assert load(".").name

    @pytest.mark.parametrize(
        ("name", "found"), [("test.csv", "test"), ("other.csv", "no table"), ("a.txt", "no")]
    )
    def test_without_a_train_file(self, tmp_path, name, found):
        write(tmp_path / name, text=TEXTS, label=LABELS)
        with pytest.raises(InvalidValue) as error:
            load(tmp_path)
        says(error, f"{tmp_path} must hold a part named train. Found {found}", "Name the file itself.")

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_two_files_of_one_part(self, tmp_path, part):
        for name in ("train.csv", "test.csv", f"{part}.jsonl"):
            write(tmp_path / name, text=["u", "v"], label=["a", "b"])
        with pytest.raises(InvalidValue) as error:
            load(tmp_path)
        says(error, f"{part}.csv", f"{part}.jsonl")

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_a_part_without_rows(self, tmp_path, part):
        for name in ("train", "test"):
            rows = 0 if name == part else 2
            write(tmp_path / f"{name}.csv", text=["u", "v"][:rows], label=["a", "b"][:rows])
        with pytest.raises(InvalidValue) as error:
            load(tmp_path)
        says(error, f"{part}.csv must hold rows. Found none.")

    def test_a_class_that_only_the_test_part_has(self, tmp_path):
        write(tmp_path / "train.csv", text=["u", "v"], label=["a", "b"])
        write(tmp_path / "test.csv", text=["x", "y"], label=["a", "new"])
        with pytest.raises(InvalidValue) as error:
            load(tmp_path)
        says(
            error,
            "The classes of test.csv must be those of the training part. Found 'new' in line 3. ",
            "a, b",
        )

    def test_a_class_that_only_the_train_part_has(self, tmp_path):
        write(tmp_path / "train.csv", text=["u", "v", "w"], label=["a", "b", "c"])
        write(tmp_path / "test.csv", text=["x"], label=["c"])
        assert load(tmp_path).test.labels.tolist() == [2]

    def test_a_column_that_one_part_lacks(self, tmp_path):
        write(tmp_path / "train.csv", text=["u", "v"], label=["a", "b"])
        write(tmp_path / "test.csv", text=["x"], kind=["a"])
        with pytest.raises(InvalidValue) as error:
            load(tmp_path)
        says(error, f"{tmp_path / 'test.csv'} must have one column label. Found text, kind. Name --text and")


class TestClasses:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_numbers_stand_in_their_order(self, tmp_path, kind):
        labels = [10, 2, 1, 0, 10, 2, 1, 0, 9, 9]
        data = load(write(tmp_path / f"x.{kind}", text=TEXTS, label=labels))
        assert data.classes == ("0", "1", "2", "9", "10")
        assert [int(row[1]) for row in in_order(data)] == labels

    def test_numbers_stand_before_words(self, tmp_path):
        labels = ["b", "10", "9", "B", "", "10", "9", "a b", "b", "é"]
        path = write(tmp_path / "x.csv", text=TEXTS, one=labels, two=["b"] * 10)
        assert load(path, labels=["one", "two"]).classes == ("9", "10", "B", "a b", "b", "é")

    @pytest.mark.parametrize("name", ["²", "①", "1" * 5000])
    def test_names_that_are_no_numbers_or_hardly(self, tmp_path, name):
        data = load(write(tmp_path / "x.csv", text=TEXTS, label=[name, "a"] * 5))
        assert set(data.classes) == {name, "a"}

    @pytest.mark.parametrize("cell", [[1], {"a": 1}, b"a", float("inf")])
    def test_other_things_are_no_classes(self, tmp_path, cell):
        path = write(tmp_path / "x.parquet", text=TEXTS, label=[cell] * 10)
        with pytest.raises(InvalidValue) as error:
            load(path)
        says(error, "A label in x.parquet must be a name or a whole number.", repr(cell), " in row ")

    def test_one_class_is_too_few(self, tmp_path):
        with pytest.raises(InvalidValue) as error:
            load(write(tmp_path / "x.csv", text=TEXTS, label=["a"] * 10))
        says(error, "Texts must be of two classes or more. Found only a.")

    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_a_row_without_a_label(self, tmp_path, kind):
        path = write(
            tmp_path / f"x.{kind}", text=TEXTS, label=[None if i == 3 else "ab"[i % 2] for i in range(10)]
        )
        with pytest.raises(InvalidValue) as error:
            load(path)
        place = {"csv": "line 5", "jsonl": "line 4", "parquet": "row 3"}[kind]
        says(error, f"Every row of x.{kind} must have a label. Found none in {place}. Fill it in")

    @pytest.mark.parametrize(("kind", "blank"), [("csv", " "), ("jsonl", "  "), ("parquet", " \xa0 ")])
    def test_a_blank_label_is_none(self, tmp_path, kind, blank):
        labels = [blank if i == 3 else "ab"[i % 2] for i in range(10)]
        path = write(tmp_path / f"x.{kind}", text=TEXTS, one=labels, two=["b"] * 10)
        with pytest.raises(InvalidValue) as error:
            load(path, labels=["one"])
        says(error, f"Every row of x.{kind} must have a label. Found none in ")
        data = load(path, labels=["one", "two"])
        assert data.classes == ("a", "b")

    @pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
    def test_blanks_around_a_label_are_no_part_of_it(self, tmp_path, kind):
        labels = ["good", "good ", " bad", "bad", "1 ", " 1.0", "1", "good\t", "\nbad", " a b "]
        data = load(write(tmp_path / f"x.{kind}", text=TEXTS, label=labels))
        assert data.classes == ("1", "a b", "bad", "good")


class TestAnnotators:
    ROWS = (("x", "x", "y"), ("y", None, "y"), (None, None, "x"), ("z", "y", "x"), ("y", "x", "x"))

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_share_of_those_that_say_so(self, tmp_path, kind):
        one, two, three = ([row[i] for row in self.ROWS * 2] for i in range(3))
        path = write(tmp_path / f"x.{kind}", one=one, text=TEXTS, two=two, three=three)
        data = load(path, labels=["one", "two", "three"])
        assert data.classes == ("x", "y", "z")
        assert data.train.soft.dtype == np.float32
        places = {title(f"x.{kind}", row): row for row in range(10)}
        for part in (data.train, data.test):
            for name, shares, label in zip(part.names, part.soft, part.labels, strict=True):
                said = [cell for cell in self.ROWS[places[name] % 5] if cell]
                assert shares.tolist() == pytest.approx([said.count(c) / len(said) for c in "xyz"])
                assert label == max(range(3), key=lambda c: (said.count("xyz"[c]), -c))
        assert len(data.train) + len(data.test) == 10

    def test_a_row_that_nobody_has_labelled(self, tmp_path):
        path = write(
            tmp_path / "x.csv", text=TEXTS, one=["a", "b", ""] + ["a"] * 7, two=["a", "", ""] + ["b"] * 7
        )
        with pytest.raises(InvalidValue) as error:
            load(path, labels=["one", "two"])
        says(error, "Every row of x.csv must have a label. Found none in line 4.")

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_whole_numbers_in_a_column_with_missing_cells(self, tmp_path, kind):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"text": TEXTS, "one": [0, 1] * 5, "two": [0, None, 1, 1, None] * 2})
        path = tmp_path / f"x.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        data = load(path, labels=["one", "two"])
        assert data.classes == ("0", "1")
        assert data.train.soft.shape == (8, 2)

    def test_texts_as_labels(self, tmp_path):
        path = write(tmp_path / "x.csv", text=["u", "v"] * 5)
        with pytest.raises(InvalidValue) as error:
            load(path, labels=["text"])
        says(error, "text")


class TestWrongFiles:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize("lacking", ["text", "label"])
    def test_a_column_that_is_missing(self, tmp_path, kind, lacking):
        columns = {"text": TEXTS, "label": LABELS, "other": LABELS}
        columns["words"] = columns.pop(lacking)
        path = write(tmp_path / f"x.{kind}", **columns)
        with pytest.raises(InvalidValue) as error:
            load(path)
        says(error, f"{path} must have one column {lacking}.", "words", "other", "Name --text and --label.")

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_two_columns_of_one_name(self, tmp_path, kind):
        path = tmp_path / f"x.{kind}"
        path.write_text("text,label,label\nu,a,a\n")
        if kind == "parquet":
            parquet.write_table(arrow.table([["u"], ["a"], ["a"]], ["text", "label", "label"]), path)
        with pytest.raises(InvalidValue) as error:
            load(path)
        says(error, f"{path} must have one column label. Found text, label, label.")

    @pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
    def test_an_empty_file(self, tmp_path, kind):
        path = tmp_path / f"x.{kind}"
        path.write_bytes(b"")
        with pytest.raises(DamagedData) as error:
            load(path)
        says(error, f"{path} must be readable.", "" if kind == "parquet" else "Found an empty file. Save it")

    @pytest.mark.parametrize(("n", "rows"), [(0, "0 in all"), (1, "1 in all"), (2, "2 in all")])
    def test_too_few_rows(self, tmp_path, n, rows):
        with pytest.raises(InvalidValue) as error:
            load(write(tmp_path / "x.csv", text=TEXTS[:n], label=LABELS[:n]))
        says(error, "x.csv must leave rows to train on and rows to hold out.", f"Found {rows}", "Add rows")

    @pytest.mark.parametrize("cell", [5, 0.5, ["a"], b"a"])
    def test_a_cell_that_is_no_text(self, tmp_path, cell):
        with pytest.raises(InvalidValue) as error:
            load(write(tmp_path / "x.parquet", text=[cell] * 6, label=["a", "b"] * 3))
        found = type(cell).__name__
        says(error, f"Every row of x.parquet must hold a text. Found {found} in row 0. Mend it, or leave")

    def test_a_cell_of_json_lines_that_is_no_text(self, tmp_path):
        (tmp_path / "x.jsonl").write_text('{"text": "u", "label": 0}\n\n{"text": 5, "label": 1}\n' * 3)
        with pytest.raises(InvalidValue) as error:
            load(tmp_path / "x.jsonl")
        says(error, "Every row of x.jsonl must hold a text. Found int in line 3.")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            (
                "latin.csv",
                b"text,label\nu,a\ncaf\xe9,a\nb,b\n",
                "UTF-8. Found the byte 0xE9 at 18, in line 3.",
            ),
            ("latin.tsv", b"text\tlabel\ncaf\xe9\ta\nb\tb\n", "UTF-8. Found the byte 0xE9 at 14, in line 2."),
            ("latin.jsonl", b'{"text": "caf\xe9", "label": "a"}\n', "Found the byte 0xE9 at 13, in line 1."),
            (
                "far.csv",
                b"text,label\n" + b"u,a\n" * 9999 + b"\xff,a\n",
                "0xFF at 40007, in line 10001. Save",
            ),
            ("head.csv", b"text,caf\xe9\nu,a\n", "0xE9 at 8, in line 1. Save it as UTF-8."),
            ("utf16.csv", "text,label\nu,a\n".encode("utf-16"), "UTF-8. Found UTF-16. Save it as UTF-8."),
            ("utf16.tsv", b"\xfe\xff" + "text\tlabel\n".encode("utf-16-be"), "Found UTF-16. Save it as"),
            ("utf16.jsonl", '{"text": "u"}\n'.encode("utf-16"), "UTF-8. Found UTF-16. Save it as UTF-8."),
            ("bare.csv", "text,label\nu,a\n".encode("utf-16-le"), "UTF-8. Found zero bytes in its header."),
            ("bare.jsonl", '{"text": "u"}\n'.encode("utf-16-le"), "Found no JSON at character 2 of line 1."),
            ("nothing.csv", b"\0\0\0", "Found zero bytes in its header. Save it as UTF-8."),
            ("blank.csv", b"\n\r\n \n", "Found an empty file. Save it with a line of column names"),
            (
                "more.csv",
                b'text,label\n"u\nu",a\n\nw,a,b,c\n',
                "have as many cells in every row as in its header, 2. Found 4 in the row of line 5. Put a "
                'text with commas or new lines between quotation marks (").',
            ),
            (
                "fewer.csv",
                b"text,label\nu,a\nv\nw,a\n",
                "Found 1 in the row of line 3. Put a text with commas",
            ),
            ("more.tsv", b"text\tlabel\nu\tu\ta\n", "Found 3 in the row of line 2. Put a text with tabs or"),
            (
                "open.csv",
                b'text,label\nu,a\n"v,b\nw,a\n',
                "is not closed or not doubled, in the row of line 3.",
            ),
            (
                "last.csv",
                b'text,label\nu,a\nv,"b\nw,a\n',
                "is not closed or not doubled, in the row of line 3.",
            ),
            ("inner.csv", b'text,label\n"a "b" c",a\n', 'line 2. Inside a quoted text write it as "".'),
            ("first.csv", b'text,"label\nu,a\n', "not closed or not doubled, in the row of line 1."),
            (
                "cut.jsonl",
                b'{"text": "u"}\n{"text": "v", "la',
                "Found no JSON at character 15 of line 2. Mend",
            ),
            (
                "end.jsonl",
                b'{"text": "u"}\n\n{"text": "v",\n',
                "at character 15 of line 3. Mend line 3, or leave",
            ),
            ("deep.jsonl", b"[" * 100_000, "Found more than 100 levels in line 1. Save it as one object per"),
            (
                "list.jsonl",
                b'[{"text": "u", "label": 1}]',
                "Found no object in line 1. Save it as one object per",
            ),
            (
                "word.jsonl",
                b'{"text": "u"}\n\n"v"\n',
                "Found no object in line 3. Mend line 3, or leave it out.",
            ),
            ("words.parquet", b"text,label\nu,a\n", "Copy it again."),
            ("start.parquet", b"PAR1", "Copy it again."),
        ],
    )
    def test_a_file_that_cannot_be_read(self, tmp_path, name, content, said):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedData) as error:
            load(tmp_path / name)
        says(error, f"{tmp_path / name} must ", said)
        assert str(error.value).isprintable()

    def test_parquet_that_is_cut_short_anywhere(self, tmp_path):
        path = write(tmp_path / "x.parquet", text=TEXTS, label=LABELS)
        content = path.read_bytes()
        for end in range(0, len(content), len(content) // 15):
            path.unlink()
            path.write_bytes(content[:end])
            with pytest.raises(DamagedData) as error:
                load(path)
            says(error, f"{path} must be readable.")

    @pytest.mark.parametrize("name", ["x.txt", "x.json", "x.xlsx", "x", "x.csv.gz"])
    def test_a_file_of_another_kind(self, tmp_path, name):
        (tmp_path / name).write_text("text,label\nu,a\n")
        with pytest.raises(InvalidValue) as error:
            load(tmp_path / name)
        says(error, f"Texts must be a table. Found {tmp_path / name}.", "ends in .csv, .tsv, .jsonl")

    @pytest.mark.parametrize("name", ["no/such.csv", "no-such-folder", "~/none.csv", "a\0b", "x" * 5000])
    def test_what_does_not_exist(self, name):
        with pytest.raises(InvalidValue) as error:
            load(name)
        says(error, "must exist. Found", "Check the path.")


class TestDocuments:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_row_is_a_document_and_an_empty_one_is_none(self, tmp_path, kind):
        corpus = load_documents(str(write(tmp_path / f"x.{kind}", label=LABELS, text=TEXTS)), "text")
        both = sorted(corpus.train + corpus.test, key=lambda one: number(one.title))
        assert corpus.name == f"x.{kind}"
        assert [one.text for one in both] == [text for text in TEXTS if text]
        assert [one.title for one in both] == [title(f"x.{kind}", row) for row in range(9)]
        assert len(corpus.test) == 2

    def test_a_folder(self, tmp_path):
        write(tmp_path / "train.csv", text=["u", "v"])
        write(tmp_path / "dev.jsonl", text=["w"])
        corpus = load_documents(str(tmp_path), "text")
        assert [one.text for one in corpus.train] == ["u", "v"]
        assert [(one.title, one.text) for one in corpus.test] == [("dev.jsonl:1", "w")]


@pytest.fixture
def saved(datasets, tmp_path):
    """Save parts, each ``{column: cells}`` with names of classes by column, and return what to name."""

    def save(names=None, **parts):
        made = {}
        for part, columns in parts.items():
            rows = datasets.Dataset.from_dict(columns)
            for column, classes in (names or {}).items():
                rows = rows.cast_column(column, datasets.ClassLabel(names=classes))
            made[part] = rows
        whole = made["alone"] if "alone" in made else datasets.DatasetDict(made)
        whole.save_to_disk(tmp_path / "saved")
        return f"hf:{tmp_path / 'saved'}"

    return save


class TestHuggingFace:
    def test_parts_with_names_of_classes_in_their_order(self, saved):
        name = saved(
            {"label": ["z", "none", "a"]},
            train={"text": ["u", "v", "w"], "label": [2, 0, 2]},
            test={"text": ["x"], "label": [0]},
        )
        data = load(name)
        assert (data.name, data.classes) == ("saved", ("z", "none", "a"))
        assert (data.train.texts, data.train.labels.tolist()) == (("u", "v", "w"), [2, 0, 2])
        assert (data.test.texts, data.test.labels.tolist()) == (("x",), [0])
        assert data.test.names == (f"{name} test, row 0",)

    def test_names_of_classes_with_blanks_around_them(self, saved):
        rows = {"text": ["u", "v"], "label": [1, 0]}
        assert load(saved({"label": ["z ", " a"]}, train=rows, test=rows)).classes == ("z", "a")

    def test_names_of_the_test_part_in_another_order(self, datasets, tmp_path):
        rows = {"text": ["u", "v"], "label": [0, 1]}
        parts = {}
        for part, names in (("train", ["a", "b"]), ("test", ["b", "a"])):
            parts[part] = datasets.Dataset.from_dict(rows).cast_column(
                "label", datasets.ClassLabel(names=names)
            )
        for part in parts:
            parts[part].save_to_disk(tmp_path / part)
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
        data = load(f"hf:{tmp_path / 'saved'}")
        assert [data.classes[label] for label in data.test.labels] == ["b", "a"]

    def test_a_table_alone_is_cut_as_a_file_is(self, saved, tmp_path):
        data = load(saved(alone={"text": TEXTS, "label": LABELS}))
        file = load(write(tmp_path / "x.csv", text=TEXTS, label=LABELS))
        assert data.classes == file.classes
        assert (data.train.texts, data.test.texts) == (file.train.texts, file.test.texts)
        assert data.train.labels.tolist() == file.train.labels.tolist()

    @pytest.mark.parametrize("names", [{}, {"one": ["p", "q"], "two": ["p", "q"]}])
    def test_several_annotators(self, saved, names):
        rows = {"text": ["u", "v", "w"], "one": [0, 1, None], "two": [1, 1, 0]}
        data = load(saved(names, train=rows, test=rows), labels=["one", "two"])
        assert data.classes == (("p", "q") if names else ("0", "1"))
        assert data.train.soft.tolist() == data.test.soft.tolist() == [[0.5, 0.5], [0, 1], [1, 0]]

    def test_annotators_whose_classes_are_numbered_differently(self, saved):
        """A number is not the same class in both then; the names decide."""
        rows = {"text": ["u", "v"], "one": [0, 1], "two": [1, 1]}
        name = saved({"one": ["p", "q"], "two": ["q", "p"]}, train=rows, test=rows)
        data = load(name, labels=["one", "two"])
        shares = [dict(zip(data.classes, row, strict=True)) for row in data.train.soft.tolist()]
        assert shares == [{"p": 1, "q": 0}, {"p": 0.5, "q": 0.5}]

    def test_documents(self, saved):
        corpus = load_documents(saved(train={"text": ["u", ""]}, validation={"text": ["w"]}), "text")
        assert ([one.text for one in corpus.train], [one.text for one in corpus.test]) == (["u"], ["w"])

    @pytest.mark.parametrize(
        ("parts", "words"),
        [
            ({"test": {"text": ["u"], "label": [0]}}, ["must hold a part named train. Found test."]),
            ({"train": {"words": ["u"], "label": [0]}}, ["must have one column text. Found words, label."]),
            (
                {"alone": {"text": [1, 2, 3], "label": [0, 1, 0]}},
                ["hold a text. Found int in row 0."],
            ),
            (
                {"train": {"text": ["u"], "label": [None]}, "test": {"text": ["u"], "label": [0]}},
                [" train must have a label. Found none in row 0."],
            ),
            (
                {"train": {"text": ["u", "v"], "label": [0, 1]}, "test": {"text": ["u"], "label": [2]}},
                [" test must be those of the training part. Found '2' in row 0.", "0, 1"],
            ),
        ],
    )
    def test_that_breaks_a_rule(self, saved, parts, words):
        with pytest.raises(InvalidValue) as error:
            load(saved(**parts))
        says(error, *words)

    def test_a_label_that_was_not_given_among_names_of_classes(self, saved):
        rows = {"text": ["u", "v", "w"], "label": [0, -1, 1]}
        with pytest.raises(InvalidValue) as error:
            load(saved({"label": ["a", "b"]}, train=rows, test=rows))
        says(error, "train must have a label. Found none in row 1.")

    @pytest.mark.parametrize("name", ["nobody/no-such-data", ""])
    def test_one_that_cannot_be_fetched(self, datasets, monkeypatch, name):
        constants = pytest.importorskip("huggingface_hub.constants")
        for place in (datasets.config, constants):
            monkeypatch.setattr(place, "HF_HUB_OFFLINE", True)
        with pytest.raises(InvalidValue) as error:
            load(f"hf:{name}")
        says(error, f"hf:{name} must be a data set that can be loaded.", "Check its name.")
        assert "list index" not in str(error.value)

    def test_a_folder_that_holds_another_thing_or_a_damaged_one(self, saved, tmp_path):
        with pytest.raises(InvalidValue) as error:
            load(f"hf:{tmp_path}")
        says(error, f"hf:{tmp_path} must be a data set that can be loaded.", "Check its name.")
        name = saved(alone={"text": TEXTS, "label": LABELS})
        for file in (tmp_path / "saved").glob("*.arrow"):
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content[:100])
        with pytest.raises(InvalidValue) as error:
            load(name)
        says(error, name, "can be loaded")
