"""Tables in terminals of many widths."""

import pytest

from fallow.terminal.tables import print_blocks, print_table

HEADS = ["name", "data", "saved", "state"]
ROWS = [["digits-error-mass-20260101-120000", "digits", "30.0%", "finished"], ["b", "photos", "-", "damaged"]]
LEAST = {"data": 30, "saved": 20}


def shown(capsys, width, **options):
    capsys.readouterr()
    gone = print_table(HEADS, ROWS, width, least=LEAST, left=["data"], **options)
    return capsys.readouterr().out.splitlines(), gone


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_everything_where_there_is_room(capsys, width):
    lines, gone = shown(capsys, width)
    assert gone == []
    assert len(lines) == 3
    assert lines[1].split() == ROWS[0]


@pytest.mark.parametrize(("width", "expected"), [(50, ["data"]), (40, ["data"]), (28, ["data", "saved"])])
def test_columns_go_before_names_are_folded_much(capsys, width, expected):
    lines, gone = shown(capsys, width)
    assert gone == expected
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "".join(line.split("  ")[0].strip() for line in lines[1:-1]).startswith("digits-error-mass-2026")


def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(capsys):
    for width in range(24, 70):
        lines, _ = shown(capsys, width)
        assert all(len(line.rstrip()) <= width for line in lines)
        text = "".join(line[: line.find("  ") if "  " in line else None] for line in lines)
        assert "digits-error-mass-20260101-120000" in text.replace(" ", "")


@pytest.mark.parametrize(("width", "parts"), [(120, 1), (60, 2), (30, 5), (None, 1)])
def test_columns_that_do_not_fit_stand_below(capsys, width, parts):
    heads = [f"run-number-{number}" for number in range(5)]
    print_blocks(heads, [("accuracy", [f"9{number}.00%" for number in range(5)])], width)
    lines = capsys.readouterr().out.splitlines()
    assert sum("accuracy" in line for line in lines) == parts
    words = " ".join(lines).split()
    assert [word for word in words if word.startswith("9")] == [f"9{number}.00%" for number in range(5)]
    assert [word for word in words if word.startswith("run")] == heads
    assert width is None or all(len(line.rstrip()) <= width for line in lines)
