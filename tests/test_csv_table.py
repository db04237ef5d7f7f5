"""Tables as CSV: no reader finds a formula in them, and every reader finds the same table."""

import csv
import io
import re

import duckdb
import pandas
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.files.csv_table import Plain, cell, guarded, line, spelled, table, unguarded

NASTY = "'\"=+-@\t\r\n|;, a\v\f\x1c\x85\u2028\xa0\ufeff\u200b\u2060\xad＝＋－＠﹦1.e\\#"
texts = st.text(max_size=12) | st.text(NASTY, max_size=10)
spellings = st.text("\\u0dce9\udce9\ud800\0x", max_size=12)
STARTS = tuple("=+-@\t\r|＝＋－＠﹢﹣﹦﹫｜−")
TAKEN_AWAY = ' \t\v\f"\xa0\xad\ufeff\u200b\u200c\u200d\u2060\u3000\0\x01'


def begins_a_formula(part):
    """Return whether a reader takes a part of a text for a formula, if it takes away what is unseen."""
    shown = part.lstrip(TAKEN_AWAY)
    tabs = part[: len(part) - len(shown)].strip(TAKEN_AWAY.replace("\t", ""))
    return shown.startswith(STARTS) or bool(tabs)


@given(texts | spellings)
@settings(max_examples=500, deadline=None)
def test_a_text_comes_back_exactly(text):
    assert unguarded(guarded(text)) == text
    assert "\0" not in spelled(text)
    assert spelled(spelled(text)) == spelled(text)
    spelled(text).encode()


@given(texts)
@settings(max_examples=500, deadline=None)
def test_wherever_a_reader_may_begin_a_cell_there_is_no_formula(text):
    found = cell(text)
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text, re.IGNORECASE):
        assert found == text
        return
    assert not begins_a_formula(found)
    for ends in ("\r\n", "\r", "\n", "\t", ";", ",", "|", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"):
        for part in found.split(ends)[1:]:
            assert not begins_a_formula(part), (ends, part)


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_dialect_finds_a_formula(row):
    written = line(["x", *row])
    for mark in ",;\t|":
        for options in ({}, {"quoting": csv.QUOTE_NONE}, {"doublequote": False, "escapechar": "\\"}):
            try:
                cells = [
                    one for row in csv.reader(io.StringIO(written, newline=""), delimiter=mark, **options)
                    for one in row
                ]  # fmt: skip
            except csv.Error:
                continue
            for one in cells:
                number = re.fullmatch(r"\"?-[0-9.e+-]+\"?", one.strip(), re.IGNORECASE)
                assert number or not begins_a_formula(one), (mark, options, one)


@pytest.mark.parametrize("number", ["-1", "-12", "-0.5", "-1e5", "-1.5E-3", "0", "7"])
def test_a_number_is_no_formula(number):
    assert cell(number) == number
    assert unguarded(f"'{number}") == (number if number[0] == "-" else f"'{number}")


@pytest.mark.parametrize(
    "text",
    [
        *("-", "-cmd", "-1+1", "-1\n", "--1", "-1 ", "-A1", "-1e", "=1", "+1", "+x", "@x", "\tx", "\rx"),
        *("|x", "\nx", "＝1", "＋1", "－1", "＠x", "\ufeff=1", " =1", "\u200b\ufeff =1", '"=1', "'=1"),
        *("-1;2", "\xad=1"),
    ],
)  # fmt: skip
def test_what_may_be_a_formula_is_guarded(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("ends", ["\r", "\n", "\r\n", "\t", ";", ",", "|", "\u2028"])
@pytest.mark.parametrize("before", ["", " ", "\ufeff", "\u200b"])
def test_a_formula_in_the_middle_is_guarded(ends, before):
    assert cell(f"a{ends}{before}=1") == f"a{ends}'{before}=1"


@pytest.mark.parametrize(
    "text", ["a=1", "it's", "'a", "x-y", "a, b", "a; b", "1-2", "mail@host", "2020-01-01"]
)
def test_what_is_none_stays(text):
    assert cell(text) == text


def test_values_that_are_no_texts():
    assert line([None, True, False, 3, -2.5, Plain("-inf"), "-inf"]) == ',true,false,3,-2.5,-inf,"\'-inf"\n'
    assert line([""]) == '""\n'
    assert line(["a\rb", "a;b"]) == '"a\rb","a;b"\n'


rows = st.lists(st.tuples(texts, texts), min_size=1, max_size=5)


def tabled(rows):
    return table({"index": range(len(rows)), "one": [a for a, _ in rows], "two": [b for _, b in rows]})


@given(rows)
@settings(max_examples=200, deadline=None)
def test_python_and_pandas_read_the_same_table(rows):
    wanted = [[str(place), cell(a), cell(b)] for place, (a, b) in enumerate(rows)]
    text = tabled(rows)
    for options in ({}, {"strict": True}, {"dialect": "unix"}):
        found = list(csv.reader(io.StringIO(text, newline=""), **options))
        assert found == [["index", "one", "two"], *wanted]
    for engine in ("c", "python"):
        found = pandas.read_csv(
            io.BytesIO(text.encode()), dtype=str, keep_default_na=False, engine=engine, encoding="utf-8"
        )
        assert found.to_numpy().tolist() == wanted


@given(rows)
@settings(max_examples=100, deadline=None)
def test_polars_reads_the_same_table(rows):
    wanted = [(str(place), cell(a), cell(b)) for place, (a, b) in enumerate(rows)]
    found = polars.read_csv(tabled(rows).encode(), infer_schema=False)
    assert [tuple(value or "" for value in row) for row in found.rows()] == wanted


@given(rows)
@settings(max_examples=60, deadline=None)
def test_duckdb_reads_the_same_table(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("duckdb") / "x.csv"
    path.write_bytes(tabled(rows).encode())
    wanted = [(str(place), cell(a), cell(b)) for place, (a, b) in enumerate(rows)]
    options = {"all_varchar": True, "header": True, "delimiter": ",", "quotechar": '"', "escapechar": '"'}
    found = duckdb.connect().read_csv(str(path), **options).fetchall()
    assert [tuple(value or "" for value in row) for row in found] == wanted
