"""The list of samples to collect: as a spreadsheet opens it, as somebody completes it, and back."""

import csv
import io
import json
import os
import random
from dataclasses import asdict, replace

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.errors import DamagedData, FallowError, InvalidValue
from fallow.runs.picks_file import COLUMNS, Pick, dump_picks, read_rows

PICKS = [
    Pick(7, "cat", 1.25, "gap 1", "missing: 3.0 times; so said", "/pools/a, b", "/pools/a/7.png", "0" * 16),
    Pick(2**62, "", -0.1, "", 'thin: "quoted"', "hf:owner/name", "", "0123456789abcdef"),
    Pick(0, "Löwe", 0.0, "gap 12", "two\nlines", "digits", "", "12345678901e2345"),
]  # fmt: skip

words = (
    st.text(max_size=12)
    | st.text("'=+-@\t\r\n,;|\"[ a", max_size=8)
    | st.text("\\u0dce9\udce9'\ufeff＝\u200b;=", max_size=10)
)
picks = st.builds(
    Pick,
    index=st.integers(0, 2**63 - 1),
    label=words,
    score=st.floats(allow_nan=False, allow_infinity=False),
    region=words,
    reason=words,
    pool=words,
    file=words,
    checksum=st.integers(0, 2**64 - 1).map("{:016x}".format)
    | st.text("0123456789e", min_size=16, max_size=16),
).filter(lambda pick: not any("\0" in word for word in asdict(pick).values() if isinstance(word, str)))


def read_picks(path, inside=None):
    return [pick for _, pick in read_rows(path, inside)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("picks") / "picks.csv"


def read(path, data):
    path.unlink(missing_ok=True)  # some disks wait where a file is written over
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_picks(path)


def cells(rows, **options):
    """Return a table as a spreadsheet writes it."""
    text = io.StringIO()
    csv.writer(text, **options).writerows(rows)
    return text.getvalue()


def in_json(**changed):
    return json.dumps([asdict(PICKS[0]) | changed])


def rows(**changed):
    return [COLUMNS, [{**asdict(PICKS[0]), **changed}[name] for name in COLUMNS]]


@settings(max_examples=40, deadline=None)
@given(st.lists(picks, min_size=1, max_size=4))
def test_what_was_written_is_read_back_exactly(path, some):
    assert read(path, dump_picks(some)) == some


@settings(max_examples=30, deadline=None)
@given(st.lists(picks, min_size=1, max_size=3))
def test_the_list_of_json_is_read_as_well(path, some):
    assert read(path, json.dumps([asdict(pick) for pick in some])) == some


@pytest.mark.parametrize("name", ["index", "label", "checksum"])
def test_a_column_that_is_there_twice_is_refused(path, name):
    table = [[*row, f" {name}" if place == 0 else "x"] for place, row in enumerate(rows())]
    with pytest.raises(InvalidValue, match=rf"must have one column {name}\. Found 2 of them"):
        read(path, cells(table))
    again = in_json().replace("{", f'{{"{name}": 1, ', 1)
    with pytest.raises(InvalidValue, match=rf"must have one column {name}\. Found 2 of them"):
        read(path, again)


def test_a_column_that_is_not_read_may_be_there_twice(path):
    table = [[*row, *(["note", "note"] if place == 0 else "ab")] for place, row in enumerate(rows())]
    assert read(path, cells(table)) == [PICKS[0]]


def test_what_pandas_has_completed_is_read(path):
    path.write_bytes(dump_picks(PICKS))
    table = pandas.read_csv(path)
    table["label"] = ["cat", "eel", "dog"]
    table.to_csv(path, index=False)
    found = read_picks(path)
    assert [pick.label for pick in found] == ["cat", "eel", "dog"]
    assert [replace(pick, label="") for pick in found] == [replace(pick, label="") for pick in PICKS]


def test_a_class_of_that_kind_may_be_typed_with_or_without_the_guard(path):
    for typed in ("-1", "'-1"):
        assert read(path, cells(rows(label=typed)))[0].label == "-1"


@pytest.mark.parametrize(
    "checksum", ["1234567890123456", "0000000000000001", "1234567890123e45", "1e10000000000000"]
)
def test_a_checksum_that_looks_like_a_number_stays_text(path, checksum):
    pick = replace(PICKS[0], checksum=checksum)
    data = dump_picks([pick])
    assert pandas.read_csv(io.BytesIO(data))["checksum"].tolist() == [f"'{checksum}"]
    assert read(path, data) == [pick]


def test_as_excel_saves_it_where_commas_are_decimal(path):
    table = cells(
        [
            COLUMNS,
            *([str(v).replace(".", ",") if k == "score" else v for k, v in asdict(p).items()] for p in PICKS),
        ],
        delimiter=";",
        lineterminator="\r\n",
    )
    assert read(path, b"\xef\xbb\xbf" + table.encode()) == PICKS


@pytest.mark.parametrize("options", [{}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL}, {"delimiter": ";"}])
@pytest.mark.parametrize(("end", "mark"), [("\r\n", b""), ("\n", b"\xef\xbb\xbf"), ("\r", b"")])
def test_as_other_programs_save_it(path, options, end, mark):
    picks = [replace(pick, reason=pick.reason.replace("\n", " ")) for pick in PICKS]
    table = [COLUMNS, *(asdict(pick).values() for pick in picks)]
    assert read(path, mark + cells(table, lineterminator=end, **options).encode()) == picks


def test_columns_in_another_order_and_more_of_them_are_taken(path):
    first, second = rows()
    table = [["notes", *reversed(first), "", " by "], ["", *reversed(second), "1", "me", "one too many"]]
    assert read(path, cells(table)) == PICKS[:1]


def test_blank_rows_are_passed_over_and_rows_keep_their_names(path):
    table = rows()
    blank = [[""] * 8, [], ["", " "]]
    assert read(path, cells([*table, *blank, table[1], *blank])) == [PICKS[0]] * 2
    with pytest.raises(InvalidValue, match=r"'x' and .* in row 4"):
        read(path, cells([*table, blank[0], *rows(index="x")[1:]]))


def test_a_score_that_is_none_counts_as_nothing(path):
    for score in ("", " ", "nan", "inf", "-inf", "1e999"):
        assert read(path, cells(rows(score=score)))[0].score == 0
    assert read(path, in_json(score=None))[0].score == 0


def test_names_of_files_that_are_not_utf_8_are_kept(path):
    pick = replace(PICKS[0], file="caf\udce9.png", pool=r"C:\\udce9\udata\u0000")
    assert read(path, json.dumps([asdict(pick)])) == [pick]
    assert read(path, dump_picks([pick])) == [pick]
    assert b"caf\\udce9.png" in dump_picks([pick])


@pytest.mark.parametrize("name", ["label", "file"])
@pytest.mark.parametrize(
    "text", ["a\0b", "\ud800", "a\udc00", "x" * 32_768, "=" + "x" * 32_767, ";=" * 16_384]
)
def test_a_text_that_could_not_be_read_again_is_not_written(name, text):
    with pytest.raises(InvalidValue, match=f"The {name} of pick 1 must .* Found .*Rename it"):
        dump_picks([PICKS[0], replace(PICKS[0], **{name: text})])


@pytest.mark.parametrize(
    "changed",
    [
        {"index": -1},
        {"index": 2**63},
        {"score": float("inf")},
        {"score": float("nan")},
        {"checksum": "0" * 15},
    ],
)
def test_a_pick_that_could_not_be_read_again_is_not_written(changed):
    with pytest.raises(InvalidValue, match="of pick 0 must be"):
        dump_picks([replace(PICKS[0], **changed)])


def test_a_text_as_long_as_may_be_is_read_again(path):
    pick = replace(PICKS[0], label="x" * 32_767, file='"' * 32_766)
    assert read(path, dump_picks([pick])) == [pick]


def test_a_list_of_more_than_may_be_read_is_not_written(monkeypatch):
    monkeypatch.setattr("fallow.runs.picks_file.MOST_BYTES", 200)
    with pytest.raises(InvalidValue, match=r"at most 200 bytes. Found .* for 3 picks. Choose fewer"):
        dump_picks(PICKS)


def test_a_list_that_is_too_large_or_full_of_lists_is_refused_before_it_is_read(path, monkeypatch):
    nested = json.dumps([asdict(PICKS[0])])[:-2] + ', "more": [' + "[]," * 1_000_000 + "[]]}]"
    with pytest.raises(DamagedData, match=r"must be a list of objects\. Found too many lists"):
        read(path, nested)
    monkeypatch.setattr("fallow.runs.picks_file.MOST_BYTES", 400)
    with pytest.raises(DamagedData, match="must have at most 400 bytes"):
        read(path, dump_picks(PICKS[:1]) * 5)


@pytest.mark.parametrize("kind", ["fifo", "device", "link"])
def test_a_list_that_is_no_regular_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "picks.csv"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        (tmp_path / "real.csv").write_bytes(dump_picks(PICKS))
        path.symlink_to("real.csv")
        assert read_picks(path) == PICKS  # a person named it
    with pytest.raises(DamagedData, match=r"picks\.csv must be a regular file\. Found a (FIFO|device|link)"):
        read_picks(path, tmp_path)


WRONG = {
    "nothing": (b"", ["must hold at least one pick", "none"]),
    "blank": (b"\n \n", ["must hold at least one pick", "none"]),
    "heads only": (",".join(COLUMNS), ["must hold at least one pick", "none"]),
    "an empty list": ("[]", ["must hold at least one pick", "none"]),
    "a missing column": (cells([row[:-1] for row in rows()]), ["index, label", "no checksum"]),
    "no heads": (cells(rows()[1:] * 2), ["must have the columns", "no index"]),
    "another table": ("a b c\n1 2 3", ["must have the columns", "no index"]),
    "an index that is a word": (cells(rows(index="seven")), ["numbers", "'seven'", "row 2", "Correct the"]),
    "no index": (cells(rows(index="")), ["must be numbers", "''"]),
    "half an index": (cells(rows(index="7.5")), ["must be numbers", "'7.5'"]),
    "a negative index": (cells(rows(index=-1)), ["at least 0", "-1 in row 2"]),
    "an index without end": (cells(rows(index=2**63)), ["below 2^63", "9223372036854775808 in row 2"]),
    "very many digits": (cells(rows(index="9" * 5000)), ["must be numbers"]),
    "a score that is a word": (cells(rows(score="high")), ["must be numbers", "'high'"]),
    "a rounded checksum": (cells(rows(checksum="1.23E+15")), ["16 hex", "'1.23E+15'", "row 2"]),
    "no checksum": (cells(rows(checksum="")), ["16 hexadecimal digits", "''"]),
    "a zero byte": (cells(rows(file="a\0b")), ["must hold text", "row 2"]),
    "cut short JSON": ("[{", ["must be JSON or CSV"]),
    "JSON that is deep": ("[" * 100_000, ["must be JSON or CSV"]),
    "a list of numbers": ("[1, 2]", ["must be a list of objects"]),
    "JSON without a column": ('[{"index": 1}]', ["must have the columns", "no label"]),
    "JSON without an index": (in_json(index=None), ["must be numbers", "object 1"]),
    "JSON with half an index": (in_json(index=7.5), ["must be numbers", "'7.5'"]),
    "JSON with a list": (in_json(index=[7]), ["must be numbers", "[7]"]),
    "JSON with half a character": (in_json(pool="\ud800"), ["must hold text"]),
    "another encoding": (cells(rows(label="Löwe")).encode("cp1252"), ["UTF-8", "Save it as CSV UTF-8"]),
    "UTF-16": (cells(rows()).encode("utf-16"), ["must be UTF-8"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_the_file(path, name):
    data, said = WRONG[name]
    with pytest.raises(InvalidValue) as error:
        read(path, data)
    for part in (str(path), " Found ", *said):
        assert part in str(error.value)


def test_a_list_that_is_not_there_or_is_a_folder(tmp_path):
    with pytest.raises(InvalidValue, match=r"must name a list of picks\. Found no file .*fallow collect"):
        read_picks(tmp_path / "picks.csv")
    with pytest.raises(DamagedData, match=r"must be a regular file\. Found a folder"):
        read_picks(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_whatever_was_done_to_a_list_it_is_read_or_refused(path, kind):
    chance = random.Random(3)
    data = dump_picks(PICKS) if kind == "csv" else json.dumps([asdict(pick) for pick in PICKS]).encode()
    outcomes = set()
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8, 40])):
            start = chance.randrange(len(changed))
            stop = start + chance.choice([0, 1, 1, 2, 20])
            some = chance.choice(
                [b"", b'"', b"\r", b"\0", b",;", b"\xff", b"null", b"1e99", b"'=", chance.randbytes(3)]
            )
            changed[start:stop] = some or changed[:stop]
        try:
            found = read(path, bytes(changed))
        except FallowError as error:
            outcomes.add(str(error).partition(" Found ")[0])
            continue
        assert all(0 <= pick.index < 2**63 and len(pick.checksum) == 16 for pick in found)
        outcomes.add("read")
    assert "read" in outcomes
    assert len(outcomes) > 4


def test_a_workbook_is_told(tmp_path):
    (tmp_path / "picks.xlsx").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InvalidValue, match=r"must be CSV. Found a workbook. Save it as CSV UTF-8"):
        read_picks(tmp_path / "picks.xlsx")
