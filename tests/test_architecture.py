"""The rooms: which may import which, as import-linter reads it, and no import that it cannot read."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fallow"
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"

IMPORTS_BY_NAME = {
    "__init__.py": "names are imported when they are first used",
    "datasets/__init__.py": "names are imported when they are first used",
    "options/own_classes.py": "classes of the user's own",
}
"""The only files that import by a name that is put together."""


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(source)}
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_imports_go_down():
    done = lint(ROOT / "src")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("arrays/keyed.py", "from .. import Subsampler"),
        ("arrays/keyed.py", "from fallow import compare"),
        ("arrays/keyed.py", "from ..core.subsampler import Subsampler"),
        ("tasks/tokenizing.py", "from . import language_material"),
        ("core/plan.py", "if False:\n    from .subsampler import Subsampler"),
        ("fresh/__init__.py", ""),
    ],
    ids=["front", "front-absolute", "upwards", "circle", "circle-for-types", "room-without-a-floor"],
)
def test_a_wrong_import_is_seen(tmp_path, file, line):
    shutil.copytree(SOURCE, tmp_path / "fallow")
    path = tmp_path / "fallow" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else '"""A room."""\n') + f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout


def test_nothing_is_imported_by_a_name_that_import_linter_cannot_read():
    by_name = set()
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.rpartition(".")[2] in ("import_module", "__import__"):
                by_name.add(str(path.relative_to(SOURCE)))
    assert by_name == set(IMPORTS_BY_NAME)
