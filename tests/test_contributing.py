"""The recipe in CONTRIBUTING.md really adds a score."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RUN = """
import sys, pytest
from fallow.scores import score_by_name
print(score_by_name("brier"))
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_one_file_and_one_line_add_a_score(tmp_path):
    file, line = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=left_out)
    for name in ("conftest.py", "counted_tokens.py", "test_scores.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    folder = tmp_path / "src" / "fallow" / "scores"
    (folder / "squared_error.py").write_text(file)
    init = (folder / "__init__.py").read_text()
    init = init.replace("from .total_variation", line + "from .total_variation", 1)
    init = init.replace('    "TotalVariation",', '    "SquaredError",\n    "TotalVariation",')
    (folder / "__init__.py").write_text(init)
    chosen = "SquaredError and (shape or declares or rows or zero or ignored or finite)"
    words = ["-q", "-p", "no:cacheprovider", "--doctest-modules", "-k", chosen]
    tests = [str(tmp_path / "test_scores.py"), str(folder / "squared_error.py")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", RUN, *words, *tests]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.startswith("SquaredError(")
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 25
