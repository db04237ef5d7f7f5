"""Tables that somebody else made: nothing is followed, waited for or allocated because a file says so."""

import json
import os
import random
import tracemalloc

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from fallow.datasets import load_documents, load_text_table
from fallow.datasets.parquet_file import read_page_header
from fallow.datasets.table_files import LONGEST
from fallow.errors import DamagedData, FallowError, InvalidValue
from saved_sets import saved_by_hand

SUFFIXES = ("csv", "jsonl", "parquet")


def load(path):
    return load_text_table(path, "text", ["label"])


@pytest.fixture
def lean():
    """Fail where a test allocates more than 150 MB."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150_000_000


class TestFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
    def test_what_is_no_regular_file_is_refused_by_name(self, tmp_path, suffix, kind):
        path = tmp_path / f"x.{suffix}"
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path = tmp_path / "data"
            (path / f"train.{suffix}").mkdir(parents=True)
        with pytest.raises(DamagedData, match=rf"\.{suffix} must be a regular file\. Found a {kind}"):
            load(path)
        with pytest.raises(DamagedData, match="must be a regular file"):
            load_documents(path, "text")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_table_in_a_folder_is_no_link(self, tmp_path, suffix):
        real = tmp_path / f"real.{suffix}"
        real.write_text("text,label\n" + "u,a\nv,b\n" * 4)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / f"train.{suffix}").symlink_to(real)
        with pytest.raises(DamagedData, match=rf"train\.{suffix} must be a regular file. Found a link"):
            load(tmp_path / "data")

    def test_a_link_that_a_person_names_is_followed(self, tmp_path):
        (tmp_path / "real.csv").write_text("text,label\n" + "u,a\nv,b\n" * 4)
        (tmp_path / "x.csv").symlink_to("real.csv")
        assert load(tmp_path / "x.csv").classes == ("a", "b")

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_a_sparse_file_is_refused(self, tmp_path, suffix):
        path = tmp_path / f"x.{suffix}"
        with path.open("wb") as file:
            file.truncate(1 << 32)
        with pytest.raises(DamagedData, match="a sparse file"):
            load(path)

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
    def test_a_line_without_end_is_named(self, tmp_path, suffix):
        path = tmp_path / f"x.{suffix}"
        first = {"csv": "text,label\n", "tsv": "text\tlabel\n", "jsonl": '{"text": "u", "label": 0}\n'}[
            suffix
        ]
        path.write_text(first + "x" * (LONGEST + 1))
        with pytest.raises(DamagedData, match=r"must have lines of at most .* Found a longer one in line 2"):
            load(path)

    def test_a_text_in_quotes_without_end_and_a_header_of_very_many_names(self, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text('text,label\n"' + ("x" * 1000 + "\n") * (LONGEST // 1000))
        with pytest.raises(DamagedData, match=r"that is not closed or not doubled, in the row of line 2"):
            load(path)
        path.unlink()
        path.write_text("," * 2_000_000 + "\nu,a\n")
        with pytest.raises(DamagedData, match="must have a header of at most"):
            load(path)


LINES = {
    "deep lists": ('{"text": "u", "more": ' + "[" * 100_000 + "}", "more than 100 levels in line 2"),
    "deep objects": ('{"a": ' * 100_000, "more than 100 levels in line 2"),
    "very many lists": ('{"a": [' + "[]," * 1_000_001 + "[]]}", "more than 1,000,000 lists in line 2"),
    "a number of 400 digits": (
        '{"text": "u", "label": ' + "9" * 400 + "}",
        "a number of 400 digits in line 2",
    ),
    "one of 5,000": ('{"text": "u", "label": -' + "9" * 5000 + "}", "a number of 5,000 digits in line 2"),
    "a number without end": (
        '{"text": "u", "label": 1e400}',
        "the number 1e400, which is too large, in line 2",
    ),
    "a name twice": ('{"text": "u", "label": 0, "text": "v"}', "the name 'text' twice in line 2"),
    "a name twice inside": ('{"text": "u", "label": {"a": 1, "a": 2}}', "the name 'a' twice in line 2"),
    "half a character": ('{"text": "u\\ud800", "label": 0}', "half a character in line 2"),
    "half a character in a label": ('{"text": "u", "label": "\\udc80"}', "1 characters, in line 2"),
    "NUL in a label": ('{"text": "u", "label": "a\\u0000"}', "2 characters, in line 2"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_json_that_means_nothing_or_too_much_is_named(tmp_path, name):
    line, said = LINES[name]
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "u", "label": "0"}\n' + line + "\n" + '{"text": "v", "label": "1"}\n' * 9)
    with pytest.raises(FallowError) as error:
        load(path)
    assert said in str(error.value)
    assert str(error.value).isprintable()


def test_brackets_in_texts_are_no_nesting(tmp_path):
    rows = [{"text": "[{" * 300 + '"\\', "label": i % 2} for i in range(6)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(tmp_path / "x.jsonl").train.texts[0] == rows[0]["text"]


def table(path, rows=6, **options):
    texts = options.pop("texts", [f"text {i}" for i in range(rows)])
    found = arrow.table({"text": texts, "label": [i % 2 for i in range(rows)]})
    parquet.write_table(found, path, **options)
    return path


class TestParquet:
    @pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
    @pytest.mark.parametrize("version", ["1.0", "2.0"])
    @pytest.mark.parametrize("rows", [6, pytest.param(60_000, marks=pytest.mark.slow)])
    def test_the_heads_of_honest_files_add_up(self, tmp_path, compression, version, rows):
        path = table(
            tmp_path / "x.parquet",
            rows,
            compression=compression,
            data_page_version=version,
            data_page_size=20_000,
            write_statistics=True,
            row_group_size=25_000,
            write_page_index=True,
        )
        assert len(load(path).train) == round(0.8 * rows)
        data, metadata = path.read_bytes(), parquet.read_metadata(path)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(0)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            stop = start + chunk.total_compressed_size
            expanded = 0
            while start < stop:
                page = read_page_header(data[start:])
                expanded += page.expanded + page.header
                start += page.header + page.packed
            assert start == stop
            assert expanded == chunk.total_uncompressed_size

    def test_a_text_over_and_over(self, tmp_path, lean):
        path = tmp_path / "x.parquet"
        texts = arrow.DictionaryArray.from_arrays(arrow.array([0] * 400_000, arrow.int32()), ["x" * 10_000])
        parquet.write_table(arrow.table({"text": texts, "label": [0, 1] * 200_000}), path)
        assert path.stat().st_size < 100_000
        with pytest.raises(DamagedData, match=r"must expand to at most .* a few texts over and over"):
            load(path)

    @pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli"])
    def test_a_bomb(self, tmp_path, compression, lean):
        path = table(
            tmp_path / "x.parquet",
            100,
            texts=["\0" * (1 << 20)] * 99 + ["a"],
            compression=compression,
            use_dictionary=False,
        )
        assert path.stat().st_size < 200_000
        with pytest.raises(DamagedData, match=r"must have at most .* bytes in its pages"):
            load(path)

    def test_rows_beyond_all_measure(self, tmp_path, lean):
        path = tmp_path / "x.parquet"
        nothing = arrow.nulls(20_000_000, arrow.string())
        parquet.write_table(arrow.table({"text": nothing, "label": nothing}), path)
        assert path.stat().st_size < 1_000_000
        with pytest.raises(DamagedData, match=r"must have at most 1,000,000 rows, .* Found 20,000,000"):
            load(path)

    def test_a_list_beyond_all_measure(self, tmp_path, lean):
        path = tmp_path / "x.parquet"
        offsets = arrow.array([0, 20_000_000, 20_000_000], arrow.int32())
        lists = arrow.ListArray.from_arrays(offsets, arrow.nulls(20_000_000, arrow.int8()))  # fmt: skip
        parquet.write_table(arrow.table({"text": ["u", "v"], "label": lists}), path)
        with pytest.raises(DamagedData, match="values in its column label"):
            load(path)

    def test_a_page_that_claims_more_than_the_file_says_of_it(self, tmp_path):
        path = table(
            tmp_path / "x.parquet", 2, texts=["x" * 1_060_000, "y"], compression="none", use_dictionary=False
        )
        data = bytearray(path.read_bytes())
        start = parquet.read_metadata(path).row_group(0).column(0).data_page_offset
        assert data[start + 2] == 0x15  # the size of the page, expanded, in four bytes of seven bits
        assert data[start + 3 : start + 6] > b"\x80\x80\x80"
        data[start + 3 : start + 7] = b"\xfe\xff\xff\x7f"
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(DamagedData, match="bytes in its pages"):
            load(path)

    def test_whatever_is_done_to_a_file_it_is_read_or_refused(self, tmp_path):
        chance = random.Random(5)
        path = table(tmp_path / "x.parquet", 200, compression="none")
        data = path.read_bytes()
        outcomes = set()
        for _ in range(300):
            changed = bytearray(data)
            for _ in range(chance.choice([1, 1, 3])):
                changed[chance.randrange(4, len(changed))] = chance.choice([0, 0x15, 0x7F, 0xFF, 0x80])
            path.unlink()
            path.write_bytes(changed)
            try:
                load(path)
                outcomes.add("read")
            except FallowError as error:
                outcomes.add(type(error))
        assert {"read", DamagedData} <= outcomes <= {"read", DamagedData, InvalidValue}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x15",
            b"\x15\x80",
            b"\x00",
            b"\xff" * 40,
            b"\x1c" * 4000,
            b"\x19\xf5\xff\xff\xff\xff\x0f\x01" * 9,
        ],
    )
    def test_bytes_that_are_no_head(self, data):
        with pytest.raises((ValueError, IndexError)):
            read_page_header(data)


class TestSavedFolders:
    @pytest.fixture
    def saved(self, datasets, tmp_path):
        rows = {"text": list("uvwxyz"), "label": list("ababab")}
        datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows)}).save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"

    @pytest.mark.parametrize("kind", ["FIFO", "link"])
    def test_what_lies_in_one_is_a_regular_file(self, saved, kind):
        path = next((saved / "train").glob("*.arrow"))
        path.rename(saved.parent / "real.arrow")
        os.mkfifo(path) if kind == "FIFO" else path.symlink_to(saved.parent / "real.arrow")
        with pytest.raises(DamagedData, match=rf"\.arrow must be a regular file\. Found a {kind}"):
            load(f"hf:{saved}")

    def test_no_folder_in_it_is_a_link(self, saved):
        (saved / "train").rename(saved.parent / "elsewhere")
        (saved / "train").symlink_to(saved.parent / "elsewhere")
        with pytest.raises(DamagedData, match=r"train must be a folder\. Found a link"):
            load(f"hf:{saved}")

    @pytest.mark.parametrize("name", ["../../real.arrow", "/etc/passwd", "", None])
    def test_no_file_of_it_lies_elsewhere(self, saved, name):
        path = saved / "train" / "state.json"
        state = json.loads(path.read_text()) | {"_data_files": [{"filename": name}]}
        path.unlink()
        path.write_text(json.dumps(state))
        with pytest.raises(DamagedData, match="must name files of its own folder"):
            load(f"hf:{saved}")

    def test_no_part_of_it_lies_elsewhere(self, saved):
        path = saved / "dataset_dict.json"
        path.unlink()
        path.write_text(json.dumps({"splits": ["../../elsewhere"]}))
        with pytest.raises(DamagedData, match="must name files of its own folder"):
            load(f"hf:{saved}")

    def test_columns_that_open_files_are_not_read(self, datasets, tmp_path):
        os.mkfifo(tmp_path / "x.png")
        features = datasets.Features({"text": datasets.Image(), "label": datasets.Value("string")})
        rows = {"text": [{"path": str(tmp_path / "x.png"), "bytes": None}] * 4, "label": list("abab")}
        folder = saved_by_hand(tmp_path / "saved", rows, features)
        with pytest.raises(InvalidValue, match="Found text, which is of kind Image"):
            load(f"hf:{folder}")
