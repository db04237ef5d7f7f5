"""The list of suspects: as a spreadsheet opens it, as somebody completes it, and back."""

import csv
import io
import os

import numpy as np
import pytest

from fallow.cli.main import main
from fallow.errors import DamagedData, InvalidValue
from fallow.runs.labels_file import COLUMNS, export_suspects, read_corrections
from fallow.runs.suspects import find_suspects
from test_suspects import run_of

FILES = ("/toy/=cmd()/1.png", "/toy/b.png", "/toy/c, d.png")
SUMS = np.array([0x12345678901E2345, 0xABC, 5], np.uint64)


@pytest.fixture
def run(tmp_path):
    passes = [([0.1, 0.2, 0.3], [2, 3, 0])]
    return run_of(
        tmp_path / "run", passes, [0, 0, 0], {"data": "/toy"}, files=FILES, identity=SUMS, content=SUMS
    )


def filled(path, **labels):
    """Fill in labels by row number, as a spreadsheet saves them."""
    rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    for row, label in labels.items():
        rows[int(row[3:]) - 1][COLUMNS.index("label")] = label
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue())
    return path


def test_a_list_comes_back_with_the_labels_that_were_filled_in(run, tmp_path):
    path = export_suspects(run, find_suspects(run), tmp_path / "suspects.csv")
    text = path.read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert ",'=cmd()/1.png," in text.replace('"', "")
    assert ",,'12345678901e2345" in text.replace('"', "")
    with pytest.raises(InvalidValue, match=r"must be filled in\. Found 2 empty cells"):
        read_corrections(path)
    (one,) = read_corrections(filled(path, row2="elm"))
    assert (one.row, one.index, one.file) == (2, 0, "=cmd()/1.png")
    assert (one.given, one.label, one.checksum) == ("ash", "elm", "12345678901e2345")


def test_nothing_is_written_over(run, tmp_path):
    found = find_suspects(run)
    (tmp_path / "there.csv").write_text("mine")
    os.symlink(tmp_path / "nowhere", tmp_path / "link.csv")
    for name in ("there.csv", "link.csv"):
        with pytest.raises(InvalidValue, match="--export must name a new file"):
            export_suspects(run, found, tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == "mine"
    with pytest.raises(InvalidValue, match="must name a table"):
        export_suspects(run, found, tmp_path / "list.xlsx")
    with pytest.raises(InvalidValue, match="--export must not be among the files of a run"):
        export_suspects(run, found, tmp_path / "run" / "other.csv")
    with pytest.raises(InvalidValue, match="folder of the list must exist"):
        export_suspects(run, found, tmp_path / "none" / "list.csv")
    assert export_suspects(run, found, tmp_path / "run" / "suspects.csv").exists()


def test_the_command_writes_all_and_names_the_next_step(run, tmp_path, capsys):
    path = tmp_path / "list.csv"
    assert main(["suspects", str(tmp_path / "run"), "--export", str(path)]) == 0
    assert (
        f"fallow train --config {tmp_path / 'run' / 'config.yaml'} --labels {path}" in capsys.readouterr().out
    )
    assert len(path.read_text().splitlines()) == 3
    assert main(["suspects", str(tmp_path / "run"), "--export", str(path)]) == 2
    assert "must name a new file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file;label\na.png;cat\n", None),
        ("\ufefflabel,index\ncat,3.0\n", None),
        ("file,given\na.png,cat\n", "must have a column label, and one called file or index"),
        ("label,given\ncat,cat\n", "must have a column label, and one called file or index"),
        ("file,label,label\na,b,c\n", "must have one column label"),
        ("index,label\n-1,cat\n", "index in .* must be a whole number"),
        ("index,label,checksum\n1,cat,xyz\n", "must be 16 hexadecimal digits"),
        ("index,file,label\n,,cat\n", "must name a sample. Found none in row 2"),
        ("index,label\n1,\n,\n", "must be filled in. Found 1 empty"),
    ],
)
def test_cells_are_checked(tmp_path, text, words):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    if words is None:
        assert read_corrections(path)[0].label == "cat"
        return
    with pytest.raises(InvalidValue, match=words):
        read_corrections(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match="--labels must name a list of labels"):
        read_corrections(tmp_path / "none.csv")
    (tmp_path / "book.csv").write_bytes(b"PK\x03\x04...")
    with pytest.raises(InvalidValue, match=r"must be CSV\. Found a workbook"):
        read_corrections(tmp_path / "book.csv")
    (tmp_path / "bytes.csv").write_bytes(b"file,label\na,\xff\n")
    with pytest.raises(DamagedData, match="must be UTF-8"):
        read_corrections(tmp_path / "bytes.csv")
