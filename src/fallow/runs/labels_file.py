"""The list of suspects for a spreadsheet, and back: the classes that a person has corrected.

A line has its place in the training set and its file or row, what the run thinks of it, an empty cell for
the right class, and the checksum by which the sample is found again. Nothing is filled in beforehand: a class
that stands in ``label`` is what a person has decided, and an empty cell changes nothing.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import damaged, invalid
from ..files.csv_table import line, unguarded
from ..files.disk import DISK
from .directory import check_output
from .picks_file import LEFT_OUT, LONGEST, exact, original, table_text
from .run_files import RunFiles
from .sample_names import relative
from .suspects import Suspects

COLUMNS = ("index", "file", "given", "suggested", "confidence", "label", "checksum")
OUT = LEFT_OUT[1:]
"""Words in ``label`` that leave a sample out of the training, unless a class is called so."""
_STEP = "Write one with fallow suspects RUN --export FILE.csv."
_NUMBER = re.compile(r"\d+(e\d+)?")
_CHECKSUM = re.compile(r"[0-9a-f]{16}")
_INDEX = re.compile(r"[0-9]{1,18}(\.0)?")


@dataclass(frozen=True)
class Correction:
    """A line of a list whose label is filled in.

    Attributes:
        row: its number in a spreadsheet, in which the header is row 1.
        index: the place of the sample in the training set, or None.
        file: its file, or the row of its table; or empty.
        given: the name of its class when the list was written; or empty.
        label: the name of its right class, or a word of :data:`OUT`.
        checksum: of its file, text or pixels, 16 hexadecimal digits; or empty.
    """

    row: int
    index: int | None
    file: str
    given: str
    label: str
    checksum: str


def export_suspects(run: RunFiles, found: Suspects, out: Path) -> Path:
    """Write the suspects of a run as a table for a spreadsheet, and return its path.

    Raises:
        InvalidValue: if the file exists, lies among the files of a run, or its folder does not exist.
        OSError: if it cannot be written.
    """
    if os.path.lexists(out):
        step = "Name another file: one that may have been edited is never overwritten."
        raise invalid("--export must name a new file.", out, step)
    if out.suffix.lower() != ".csv":
        raise invalid("--export must name a table.", out, "Name it FILE.csv.")
    check_output(out, r"suspects[^/]*\.csv", "--export")
    if not out.parent.is_dir():
        raise invalid("The folder of the list must exist.", f"no {out.parent}", "Create it first.")
    DISK.put(out, dump_suspects(run, found))
    return out


def dump_suspects(run: RunFiles, found: Suspects) -> bytes:
    """Return the table as CSV in UTF-8. A ``'`` marks texts that a spreadsheet would read as a formula.

    What a person has corrected for this run already stands in it as it was, so that the next training needs
    the new list alone.
    """
    sums = run.data.content if run.data.identity is None else run.data.identity
    folder = run.shown_options.data or ""
    # A list of somebody's own may name a sample by its file or its place alone.
    before = {_names(one): one for one in _corrected_before(run)}
    new = []
    for one in found.suspects:
        checksum = "" if sums is None else f"{int(sums[one.index]):016x}"
        file = "" if one.file is None else relative(one.file, folder)
        known = before.pop((checksum, file, None), None) or before.pop(("", file, None), None)
        known = known or Correction(0, one.index, file, one.given, "", checksum)
        new.append(_cells(known, one.suggested or "", round(one.confidence, 4)))
    return "".join(map(line, [COLUMNS, *(_cells(one) for one in before.values()), *new])).encode()


def _names(one: Correction) -> tuple[str, str, int | None]:
    return one.checksum, one.file, None if one.checksum or one.file else one.index


def _cells(one: Correction, suggested: str = "", confidence: float | str = "") -> list[Any]:
    # A spreadsheet would turn digits, with an e or without, into a rounded number.
    checksum = f"'{one.checksum}" if _NUMBER.fullmatch(one.checksum) else one.checksum
    file, given, suggested, label = (
        exact(name)[:LONGEST] for name in (one.file, one.given, suggested, one.label)
    )
    return ["" if one.index is None else one.index, file, given, suggested, confidence, label, checksum]


def _corrected_before(run: RunFiles) -> list[Correction]:
    """Return the corrections that the run has trained with."""
    name = str(run.options.get("labels") or "")
    if not run.directory.is_list(name):
        return []
    return read_corrections(run.directory.path / name, run.directory.path)


def read_corrections(path: Path, inside: Path | None = None) -> list[Correction]:
    """Read the lines of a list in which ``label`` is filled in.

    The columns ``label``, and ``file`` or ``index``, must be there. The order of the columns, further ones
    and the separator do not matter.

    Args:
        path: of the list.
        inside: an untrusted folder above it; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        InvalidValue: if it does not exist, a column is missing or repeated, a cell is invalid, or no label is
            filled in.
        DamagedData: if it is not a regular file of at most 32 MiB, or not a table in UTF-8.
    """
    rows = list(_rows(table_text(path, inside, "--labels must name a list of labels.", _STEP), path))
    found = [_correction(cells, row, path) for row, cells in rows if cells["label"].strip()]
    if not found:
        step = "Fill in the right class of each sample whose label is wrong."
        raise invalid(f"The column label of {path} must be filled in.", f"{len(rows):,} empty cells", step)
    return found


def _rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows that are not blank, with their numbers; each has all columns, missing ones empty."""
    heads = text.partition("\n")[0]  # European spreadsheets save CSV with semicolons
    delimiter = max(",;\t", key=heads.count)
    # newline="" leaves line breaks inside quoted cells as they are.
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [name.strip() for name in table.fieldnames or ()]
        for name in COLUMNS:
            if names.count(name) > 1:
                value = f"{names.count(name)} of them"
                raise invalid(f"{path} must have one column {name}.", value, "Remove all but one.")
        if "label" not in names or not {"file", "index"} & set(names):
            rule = f"{path} must have a column label, and one called file or index."
            raise invalid(rule, ", ".join(names[:8]) or "none", _STEP)
        for row, values in enumerate(table, 2):
            cells = dict.fromkeys(COLUMNS, "") | {
                name.strip(): original(unguarded(value or "")) for name, value in values.items() if name
            }
            if any(cell.strip() for cell in cells.values()):
                yield row, cells
    except csv.Error as error:
        raise damaged(f"{path} must be CSV.", error, _STEP) from None


def _correction(cells: dict[str, str], row: int, path: Path) -> Correction:
    index, checksum = cells["index"].strip(), cells["checksum"].strip().removeprefix("'").lower()
    if index and not _INDEX.fullmatch(index):
        rule = f"index in {path} must be a whole number, at least 0."
        raise invalid(rule, f"{index[:40]!r} in row {row}", "Restore the cell.")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        rule = f"checksum in {path} must be 16 hexadecimal digits, as fallow wrote it."
        raise invalid(rule, f"{checksum[:40]!r} in row {row}", "Restore the cell, or leave it empty.")
    if not index and not cells["file"]:
        raise invalid(f"Each line of {path} must name a sample.", f"none in row {row}", "Restore the cell.")
    # pandas writes 3 as 3.0 if a cell of the column is missing.
    number = int(index.removesuffix(".0")) if index else None
    return Correction(row, number, cells["file"], cells["given"], cells["label"], checksum)
