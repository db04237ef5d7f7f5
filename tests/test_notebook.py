"""The notebook runs as it is, in a kernel of its own, and shows what it says."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "first_run.ipynb"


def kinds(cell):
    """Return the kinds of what a cell shows."""
    return {kind for output in cell.outputs for kind in output.get("data", ())}


def test_the_notebook_runs_and_shows_charts_and_tables(tmp_path):
    note = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(note, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises if a cell does
    trained, chart, accuracies, hard, doubtful, run = (c for c in note.cells if c.cell_type == "code")
    assert "accuracy" in "".join(output.get("text", "") for output in trained.outputs)
    assert "image/png" in kinds(chart)
    ours, full = eval(accuracies.outputs[-1]["data"]["text/plain"])
    assert min(ours, full) > 0.93
    for table in (hard, doubtful, run):
        assert "text/html" in kinds(table)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_notebook_is_kept_with_what_it_showed():
    note = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in note.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    assert len(NOTEBOOK.read_bytes()) < 300_000
